"""Encoding of categories: codes of levels, one-hot outputs or ordinal codes, and target statistics.

Category code 0 stands for unknown categories. Codes 1 to k stand for those of the training table,
the last of them for all infrequent ones. None is the missing value, a category like any other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from sklearn.model_selection import KFold
from sklearn.utils import check_random_state
from sklearn.utils.multiclass import type_of_target

from ..training.checks import validate_labels, validate_numbers
from ..training.splits import draw_group_folds, folds_of_splitter
from ..utils.arrays import Array, DropCachedPropertiesMixin
from ._column_values import check_supported, is_missing
from ._read_table import TableColumns

# The name of the output, or code, of infrequent categories.
INFREQUENT = "infrequent"

# The number of folds of out-of-fold target statistics.
N_FOLDS = 5


def count_categories(values: Sequence[Any], label: str) -> Counter[Any]:
    """Count each category; counts of several blocks of rows can be added."""
    check_supported(values, label)
    counts: Counter[Any] = Counter()
    for value, count in Counter(values).items():
        counts[None if is_missing(value) else value] += count
    return counts


@dataclass(frozen=True)
class CategoryLevels(DropCachedPropertiesMixin):
    """The categories of one column.

    Parameters
    ----------
    frequent : tuple
        The categories with their own code, in the order of the codes.
    infrequent : tuple
        The infrequent categories, which share the next code.
    counts : tuple of int
        The number of occurrences of each code from 1 on.
    label : str
        The name of the column in errors.
    """

    frequent: tuple[Any, ...]
    infrequent: tuple[Any, ...]
    counts: tuple[int, ...]
    label: str

    @classmethod
    def fit(cls, counts: Mapping[Any, int], label: str, min_frequency: int) -> Self:
        """Fit to the counts of categories; those below the minimum frequency are infrequent."""
        levels = [level for level in counts if level is not None]
        try:
            levels.sort()
        except TypeError:  # levels have several types
            levels.sort(key=lambda level: (type(level).__name__, str(level)))
        if None in counts:
            levels.append(None)
        frequent = tuple(level for level in levels if counts[level] >= min_frequency)
        infrequent = tuple(level for level in levels if counts[level] < min_frequency)
        code_counts = [counts[level] for level in frequent]
        if infrequent:
            code_counts.append(sum(counts[level] for level in infrequent))
        return cls(frequent, infrequent, tuple(code_counts), label)

    @property
    def n_codes(self) -> int:
        """The number of codes, without code 0."""
        return len(self.counts)

    def names(self) -> list[str]:
        """Return a name for each code from 1 on."""
        names = ["missing" if level is None else str(level) for level in self.frequent]
        return [*names, INFREQUENT] if self.infrequent else names

    @cached_property
    def _codes(self) -> dict[Any, int]:
        codes = {level: code for code, level in enumerate(self.frequent, start=1)}
        return codes | dict.fromkeys(self.infrequent, len(self.frequent) + 1)

    @cached_property
    def _codes_of_names(self) -> dict[str, int]:
        codes = self._codes.items()
        return {_name_level(level): code for level, code in codes if level is not None}

    def encode(self, values: Sequence[Any]) -> Array:
        """Return the code of each value.

        A number that is no level has the code of the string "1" or the like, and a string the code
        of its number: files without other values in a column hold numbers instead of strings.
        """
        check_supported(values, self.label)
        codes_of_values = map(self._codes.get, values, repeat(0))
        codes = np.fromiter(codes_of_values, dtype=np.intp, count=len(values))
        missing_code = self._codes.get(None, 0)
        for row in np.flatnonzero(codes == 0).tolist():
            value = values[row]
            if is_missing(value):
                codes[row] = missing_code
            else:
                codes[row] = self._codes_of_names.get(_name_level(value), 0)
        return codes


def _name_level(level: Any) -> str:
    """Return a level as a string; a whole number without a decimal point."""
    is_whole = isinstance(level, (float, np.floating)) and level.is_integer()
    return str(int(level) if is_whole else level)


@dataclass(frozen=True)
class OneHot(DropCachedPropertiesMixin):
    """One-hot encoding of codes; of two categories, only the second has an output.

    Parameters
    ----------
    columns : tuple of pairs
        For each column, the output of code 0, 1, ... among those of the column, -1 for none; and
        the suffixes of the names of its outputs.
    """

    columns: tuple[tuple[tuple[int, ...], tuple[str, ...]], ...]
    output_type: ClassVar[str] = "one_hot"

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return sum(len(names) for _, names in self.columns)

    def codes_with_output(self, column: int) -> Array:
        """Return the codes of a column that do not share their output with others."""
        positions = np.array(self.columns[column][0])
        counts = np.bincount(positions[positions >= 0], minlength=len(positions))
        return np.flatnonzero((positions >= 0) & (counts[positions] == 1))

    def outputs(self) -> list[tuple[int, str]]:
        """Return the column, and the suffix of the name, of each output."""
        return [(i, f"_{name}") for i, (_, names) in enumerate(self.columns) for name in names]

    def encode(self, codes: Array, out: Array) -> None:
        """Write the outputs for codes (n, columns) to `out` (n, n_outputs)."""
        offsets, flat_outputs = self._table
        outputs = flat_outputs[offsets + codes]
        rows, columns = np.nonzero(outputs >= 0)
        out[:] = 0
        out[rows, outputs[rows, columns]] = 1

    @cached_property
    def _table(self) -> tuple[Array, Array]:
        """The offset of each column in a flat array of the outputs of all codes, and that array."""
        offsets, outputs, n_outputs = list[int](), list[int](), 0
        for positions, names in self.columns:
            offsets.append(len(outputs))
            outputs += [-1 if position < 0 else n_outputs + position for position in positions]
            n_outputs += len(names)
        return np.array(offsets, np.intp), np.array(outputs, np.intp)


@dataclass(frozen=True)
class OrdinalCodes:
    """Ordinal encoding: the codes of all columns that are not constant.

    Parameters
    ----------
    columns : tuple of int
        The columns that are not constant.
    """

    columns: tuple[int, ...]
    output_type: ClassVar[str] = "ordinal"

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return len(self.columns)

    def outputs(self) -> list[tuple[int, str]]:
        """Return the column, and the suffix of the name, of each output."""
        return [(column, "") for column in self.columns]

    def encode(self, codes: Array, out: Array) -> None:
        """Write the outputs for codes (n, columns) to `out` (n, n_outputs)."""
        out[:] = codes[:, self.columns]


# ------------------------------------------------------------------- target statistics


class TargetMoments(NamedTuple):
    """Number, mean and sum of squared deviations of the targets in each group of rows.

    Moments of several blocks of rows can be merged (Chan, Golub & LeVeque 1983, section 2).

    Parameters
    ----------
    counts, means, squares : arrays of one shape
        The moments, in statistics of a column of shape (n_outputs, n_folds, n_codes).
    """

    counts: Array
    means: Array
    squares: Array

    @classmethod
    def from_rows(
        cls, codes: Array, folds: Array, targets: Array, n_folds: int, n_codes: int
    ) -> Self:
        """Return the moments by fold and code, given targets of shape (n_outputs, n), or NaN."""
        shape = len(targets), n_folds, n_codes
        groups, n_groups = folds.astype(np.intp) * n_codes + codes, n_folds * n_codes
        counts, means, squares = np.empty((3, len(targets), n_groups))
        for i, target in enumerate(targets):
            is_measured = ~np.isnan(target)
            own, y = groups[is_measured], target[is_measured]
            counts[i] = np.bincount(own, minlength=n_groups)
            means[i] = np.bincount(own, y, n_groups) / np.maximum(counts[i], 1)
            squares[i] = np.bincount(own, np.square(y - means[i][own]), n_groups)
        return cls(*(array.reshape(shape) for array in (counts, means, squares)))

    def merge(self, axis: int) -> Self:
        """Return the moments of groups that are joined along an axis."""
        counts = self.counts.sum(axis, keepdims=True)
        means = (self.counts * self.means).sum(axis, keepdims=True) / np.maximum(counts, 1)
        between = self.counts * np.square(self.means - means)
        squares = (self.squares + between).sum(axis, keepdims=True)
        return type(self)(*(array.squeeze(axis) for array in (counts, means, squares)))

    def shrink(self) -> Array:
        """Return the mean of all rows, and the mean of each code shrunk towards it.

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
            noise = variance * self.counts
            weight = noise / (noise + self.squares / self.counts)
        weight = np.nan_to_num(weight)  # NaN of codes without rows, and of constant targets
        statistics = weight * self.means + (1 - weight) * overall_mean
        return np.concatenate([overall_mean, statistics], axis=-1)


def draw_target_folds(n_rows: int, random_state: Any, groups: Array | None) -> Array:
    """Draw the fold of each row for target statistics; no fold splits a group."""
    if groups is None:
        splits = KFold(min(N_FOLDS, n_rows), shuffle=True, random_state=random_state)
        folds = folds_of_splitter(splits, np.zeros(n_rows), None)
    else:
        rng, n_folds = check_random_state(random_state), min(N_FOLDS, int(groups.max()) + 1)
        folds = draw_group_folds(groups, n_folds, rng, None)
    return folds.astype(np.uint8)


def target_outputs(y: Any, target_type: str) -> tuple[Array, list[Any]]:
    """Return the targets of statistics, of shape (n_outputs, n), and their classes or None.

    With more than two classes there is an indicator of each class.
    """
    if target_type == "auto":
        y = validate_labels(y)
        target_type = type_of_target(y, input_name="y")
    if target_type == "continuous":
        # NaN in one of several targets, which are valid already, means that it was not measured.
        targets = np.atleast_2d((y if np.ndim(y) == 2 else validate_numbers(y)).T)
        return targets, [None] * len(targets)
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

    Each column has one output for each target; with more than two classes, one for each class.

    Parameters
    ----------
    tables : tuple of arrays of shape (n_folds + 1, 1 + n_codes)
        For each output, the statistic of each code without the rows of each fold; last, that of all
        rows. Unknown categories have the mean of the target.
    columns : tuple of int
        The column of each output.
    classes : tuple
        The class of each output, or None.
    """

    tables: tuple[Array, ...]
    columns: tuple[int, ...]
    classes: tuple[Any, ...]

    @classmethod
    def fit(
        cls, codes: Array, columns: Sequence[int], y: Any, target_type: str, folds: Array
    ) -> Self:
        """Fit to some columns of codes (n, k), and targets, given the fold of each row."""
        targets, classes = target_outputs(y, target_type)
        n_folds = int(folds.max()) + 1
        moments = [
            TargetMoments.from_rows(column - 1, folds, targets, n_folds, int(column.max()))
            for column in codes.T[columns].astype(np.intp)
        ]
        return cls.from_moments(moments, columns, classes)

    @classmethod
    def from_moments(
        cls, moments: Sequence[TargetMoments], columns: Sequence[int], classes: Sequence[Any]
    ) -> Self:
        """Return the statistics, given the moments of each column by fold and code."""
        tables: list[Array] = []
        for column_moments in moments:
            # Each fold has its own sums, so that its rows do not even affect rounding.
            fold_moments = [
                TargetMoments(*(np.delete(array, fold, axis=1) for array in column_moments))
                for fold in range(column_moments.counts.shape[1])
            ]
            statistics = [part.merge(1).shrink() for part in (*fold_moments, column_moments)]
            tables += list(np.stack(statistics, axis=1))
        outputs = np.repeat(np.array(columns), len(classes))
        return cls(tuple(tables), tuple(outputs.tolist()), tuple(classes) * len(moments))

    def without_codes(self, codes: Mapping[int, Array]) -> Self:
        """Return statistics that are the overall mean for some codes of each column.

        Otherwise a model could learn the targets of a fold from the statistics of a category that
        it can identify, because the sum of the targets in and out of the fold is always the same.
        """
        tables = tuple(table.copy() for table in self.tables)
        for table, column in zip(tables, self.columns, strict=True):
            table[:, codes[column]] = table[:, :1]
        return replace(self, tables=tables)

    def encode(self, codes: Array, folds: Array | None = None) -> Array:
        """Return the outputs for codes (n, k); with folds, from the targets of other folds only.

        Unknown categories have the mean of the target.
        """
        rows = -1 if folds is None else folds
        pairs = zip(self.tables, self.columns, strict=True)
        return np.column_stack([table[rows, codes[:, column]] for table, column in pairs])


# ----------------------------------------------------------------- categorical columns


@dataclass(frozen=True)
class CategoricalEncoding:
    """Encoding of the categorical columns of a table.

    Parameters
    ----------
    columns : sequence of int
        The categorical columns.
    levels : sequence of CategoryLevels
        The categories of each column.
    encoder : OneHot or OrdinalCodes
        Encodes codes as outputs.
    target_encoded : sequence of int
        The positions, among the categorical columns, of those with more categories than have
        one-hot outputs, which may have target statistics.
    statistics : TargetEncoding or None, default=None
        The target statistics of these columns.
    """

    columns: Sequence[int]
    levels: Sequence[CategoryLevels]
    encoder: OneHot | OrdinalCodes
    target_encoded: Sequence[int]
    statistics: TargetEncoding | None = None

    @classmethod
    def from_levels(
        cls, columns: Sequence[int], levels: Sequence[CategoryLevels], settings: Any
    ) -> Self:
        """Return an encoding with the settings of a `TableEncoder`, without target statistics.

        Beyond `max_categories`, the least frequent categories of a column share one output.
        """
        if settings.encoding == "ordinal":
            columns_to_encode = tuple(i for i, item in enumerate(levels) if item.n_codes > 1)
            return cls(columns, levels, OrdinalCodes(columns_to_encode), [])
        n_max = np.inf if settings.max_categories is None else settings.max_categories
        encoder = OneHot(tuple(_assign_outputs(item, n_max) for item in levels))
        large_columns = [i for i, item in enumerate(levels) if item.n_codes > n_max]
        return cls(columns, levels, encoder, large_columns)

    def with_statistics(self, statistics: TargetEncoding) -> Self:
        """Return the encoding with target statistics for codes that share an output."""
        assert isinstance(self.encoder, OneHot)
        codes = {i: self.encoder.codes_with_output(i) for i in self.target_encoded}
        return replace(self, statistics=statistics.without_codes(codes))

    def read_codes(self, table: TableColumns) -> Array:
        """Return the codes of the categorical columns of a table."""
        codes = np.empty((table.n_rows, len(self.levels)), dtype=np.intp)
        for position, (column, levels) in enumerate(zip(self.columns, self.levels, strict=True)):
            codes[:, position] = levels.encode(table.values(column))
        return codes


def _assign_outputs(
    levels: CategoryLevels, max_categories: float
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the output of each code of a column, -1 for none, and the names of the outputs."""
    k, names = levels.n_codes, levels.names()
    if k < 2:
        return (-1,) * (k + 1), ()
    if k == 2:
        return (-1, -1, 0), (names[1],)
    if k <= max_categories:
        return tuple(range(-1, k)), tuple(names)
    by_count = sorted(range(len(levels.frequent)), key=lambda i: -levels.counts[i])
    frequent = sorted(by_count[: int(max_categories) - 1])
    positions = np.full(k + 1, len(frequent))
    positions[0] = -1
    positions[np.array(frequent) + 1] = range(len(frequent))
    return tuple(positions.tolist()), (*(names[i] for i in frequent), INFREQUENT)
