"""Target statistics of categories: shrunken means of the target, out of fold for training rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.model_selection import KFold
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import type_of_target

from ..estimators._validation import validate_labels, validate_numbers
from ..training.splitting import draw_group_folds
from ..utils.arrays import Array

# The number of folds of out-of-fold target statistics.
N_FOLDS = 5


class TargetMoments(NamedTuple):
    """Number, mean and sum of squared deviations of the targets in each group of rows.

    Those of several blocks of rows can be merged (Chan, Golub & LeVeque 1983, section 2).

    Parameters
    ----------
    counts, means, squares : arrays of one shape
        The moments, in statistics of a column of shape (n_outputs, n_folds, n_codes).
    """

    counts: Array
    means: Array
    squares: Array

    @classmethod
    def of_rows(
        cls, codes: Array, folds: Array, targets: Array, n_folds: int, n_codes: int
    ) -> Self:
        """Return the moments by fold and code, given targets of shape (n_outputs, n)."""
        shape = len(targets), n_folds, n_codes
        groups, n_groups = folds.astype(np.intp) * n_codes + codes, n_folds * n_codes
        counts = np.bincount(groups, minlength=n_groups)
        means, squares = np.empty((2, len(targets), n_groups))
        for at, target in enumerate(targets):
            means[at] = np.bincount(groups, target, n_groups) / np.maximum(counts, 1)
            squares[at] = np.bincount(groups, np.square(target - means[at][groups]), n_groups)
        counts = np.broadcast_to(counts.astype(np.float64), means.shape)
        return cls(*(each.reshape(shape) for each in (counts, means, squares)))

    def merge(self, axis: int) -> Self:
        """Return the moments of groups that are joined along an axis."""
        counts = self.counts.sum(axis, keepdims=True)
        means = (self.counts * self.means).sum(axis, keepdims=True) / np.maximum(counts, 1)
        between = self.counts * np.square(self.means - means)
        squares = (self.squares + between).sum(axis, keepdims=True)
        return type(self)(*(each.squeeze(axis) for each in (counts, means, squares)))

    def shrink(self) -> Array:
        """Return the mean of each code, shrunk towards that of all; first the mean of all.

        The weight of the mean of a code is n / (n + v / V), with the variance v of its targets and
        the variance V of all (Micci-Barreca 2001, section 3), as in scikit-learn's `TargetEncoder`.

        Returns
        -------
        statistics : array of shape (n_outputs, 1 + n_codes)
        """
        overall = self.merge(-1)
        variance = (overall.squares / np.maximum(overall.counts, 1))[..., None]
        overall_mean = overall.means[..., None]
        with np.errstate(invalid="ignore", divide="ignore"):
            own = variance * self.counts
            weight = own / (own + self.squares / self.counts)
        weight = np.nan_to_num(weight)  # for codes without rows, and constant targets
        statistics = weight * self.means + (1 - weight) * overall_mean
        return np.concatenate([overall_mean, statistics], axis=-1)


def draw_target_folds(n_rows: int, random_state: Any, groups: Array | None) -> Array:
    """Draw the fold of each row for what is learned from the target; no fold splits a group."""
    folds = np.empty(n_rows, dtype=np.uint8)
    if groups is None:
        splitter = KFold(min(N_FOLDS, n_rows), shuffle=True, random_state=random_state)
        for fold, (_, held_out) in enumerate(splitter.split(folds)):
            folds[held_out] = fold
    else:
        rng = check_random_state(random_state)
        n_folds = min(N_FOLDS, int(groups.max()) + 1)
        folds[:] = draw_group_folds(groups, n_folds, rng, None)
    return folds


def target_outputs(y: Any, target_type: str) -> tuple[Array, list[Any]]:
    """Return the targets of statistics, of shape (n_outputs, n), and the class of each or None.

    With more than two classes there is an indicator of each class.
    """
    if target_type == "auto":
        y = validate_labels(y)
        target_type = type_of_target(y, input_name="y")
    if target_type == "continuous":
        return validate_numbers(y)[None].astype(np.float64), [None]
    if target_type not in ("binary", "multiclass"):
        raise ValueError(
            f"target_type='auto' takes y for {target_type!r}, but target statistics need classes "
            "or numbers. Set target_type, or fit without y."
        )
    classes, codes = np.unique(validate_labels(y), return_inverse=True)
    if target_type == "binary":
        return codes[None].astype(np.float64), [None]
    return (codes == np.arange(len(classes))[:, None]).astype(np.float64), list(classes)


@dataclass(frozen=True)
class TargetEncoding:
    """Target statistics of codes: shrunken means of the target of each category.

    Each column has one output; with more than two classes, one for each class.

    Parameters
    ----------
    tables : tuple of arrays of shape (1 + n_codes,)
        For each output, the statistic of each code. Unknown categories have the mean of the target.
    columns : tuple of int
        The column of each output.
    classes : tuple
        The class of each output, or None.
    fold_tables : tuple of arrays of shape (n_folds, 1 + n_codes)
        For each output, the statistics without the rows of each fold.
    folds : array of int of shape (n_rows,)
        The fold of each training row, if they are known.
    """

    tables: tuple[Array, ...]
    columns: tuple[int, ...]
    classes: tuple[Any, ...]
    fold_tables: tuple[Array, ...]
    folds: Array

    @classmethod
    def fit(
        cls,
        codes: Array,
        y: Any,
        target_type: str,
        random_state: Any,
        groups: Array | None = None,
    ) -> Self:
        """Fit to codes (n, k) and targets; no fold splits a group."""
        folds = draw_target_folds(len(codes), random_state, groups)
        targets, classes = target_outputs(y, target_type)
        n_folds = int(folds.max()) + 1
        moments = [
            TargetMoments.of_rows(own - 1, folds, targets, n_folds, int(own.max()))
            for own in codes.T
        ]
        return cls.from_moments(moments, classes, folds)

    @classmethod
    def from_moments(
        cls, moments: Sequence[TargetMoments], classes: Sequence[Any], folds: Array
    ) -> Self:
        """Return the statistics, given the moments of each column by fold and code."""
        tables: list[Array] = []
        fold_tables: list[Array] = []
        for own in moments:
            n_folds = own.counts.shape[1]
            # Summed anew for each fold, so that rounding does not depend on its rows either.
            without = [
                TargetMoments(*(np.delete(each, fold, axis=1) for each in own)).merge(1).shrink()
                for fold in range(n_folds)
            ]
            tables += list(own.merge(1).shrink())
            fold_tables += list(np.stack(without, axis=1))
        columns = np.repeat(np.arange(len(moments)), len(classes))
        classes = tuple(classes) * len(moments)
        return cls(tuple(tables), tuple(columns.tolist()), classes, tuple(fold_tables), folds)

    def without_codes(self, codes: Sequence[Array]) -> Self:
        """Return statistics that are the overall mean for some codes of each column.

        If a model can identify a category, and its statistic differs between folds, then the model
        can learn the targets of the rows of a fold from the statistic of the others: the sum of
        both is the same for all rows of the category.
        """
        tables, fold_tables = (
            [each.copy() for each in own] for own in (self.tables, self.fold_tables)
        )
        for table, fold_table, column in zip(tables, fold_tables, self.columns, strict=True):
            table[codes[column]] = table[0]
            fold_table[:, codes[column]] = fold_table[:, :1]
        return replace(self, tables=tuple(tables), fold_tables=tuple(fold_tables))

    def encode_training_rows(self, codes: Array, folds: Array | None = None) -> Array:
        """Return the outputs of training rows, which depend on the targets of other folds alone."""
        folds = self.folds if folds is None else folds
        pairs = zip(self.fold_tables, self.columns, strict=True)
        return np.column_stack([table[folds, codes[:, column]] for table, column in pairs])

    def encode(self, codes: Array) -> Array:
        """Return the outputs for codes (n, k); unknown categories have the mean of the target."""
        pairs = zip(self.tables, self.columns, strict=True)
        return np.column_stack([table[codes[:, column]] for table, column in pairs])
