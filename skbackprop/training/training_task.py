"""The training task of an estimator's networks: data, objective, validation rows and folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeAlias

import numpy as np

from ..early_stopping import EarlyStopping
from ..nn.data_loader import Dataset
from ..nn.network import Network
from ..nn.objective import Objective
from ..nn.parameters import FlatParameters, Parameters
from ..nn.prediction import predict_raw
from ..nn.stack_trainer import StackTrainer
from ..utils.arrays import Array, IndexArray
from .checkpoint import RngOrCheckpoint, Split, TrainingCheckpoint
from .config import TrainingConfig
from .random_states import make_fold_rng
from .splitting import (
    are_groups_whole,
    draw_folds,
    draw_group_folds,
    group_train_validation_split,
    n_weighted_groups,
    train_validation_split,
)


@dataclass(eq=False)
class ValidationData:
    """Validation rows.

    Parameters
    ----------
    table : Dataset
        The table that contains them.
    rows : array of int or None
        The row numbers in the table; None for all rows.
    original_y : array-like
        The targets of the table as the user has given them.
    """

    table: Dataset
    rows: IndexArray | None
    original_y: Any

    @cached_property
    def inputs(self) -> Any:
        """The input of the rows."""
        return self.table.X if self.rows is None else self.table.X[self.rows]

    @cached_property
    def y(self) -> Any:
        """The targets, as the user has given them."""
        return self.original_y if self.rows is None else self.original_y[self.rows]

    @cached_property
    def encoded(self) -> Array:
        """The encoded targets."""
        y: Array = self.table.y if self.rows is None else self.table.y[self.rows]
        return y

    @cached_property
    def weight(self) -> Array | None:
        """The weights; None for equal weights, or if all are zero."""
        weight = self.table.weight
        if weight is None or self.rows is None:
            return weight
        weight = weight[self.rows]
        return weight if weight.any() else None

    def is_same(self, other: ValidationData | None) -> bool:
        """Return whether these are the same rows of the same table."""
        if other is None or other.table is not self.table:
            return False
        if self.rows is None or other.rows is None:
            return self.rows is other.rows
        return np.array_equal(self.rows, other.rows)


class Evaluator(Protocol):
    """Computes the predictions, the loss and the score of networks on validation rows."""

    def predict(self, network: Network, parameters: Parameters, X: Any, rows: Any) -> Array:
        """Return the predictions of every member, as `loss` and `score` take them."""

    def loss(self, predictions: Array, validation_data: ValidationData) -> float:
        """Return the mean loss of the predictions."""

    def score(self, predictions: Array, validation_data: ValidationData) -> float:
        """Return the estimator's own score of the predictions."""


Scorer: TypeAlias = Callable[[FlatParameters, ValidationData, Array], float]
"""Returns the user's score from parameters of one network, validation rows and predictions."""

Score: TypeAlias = Callable[[Array, Array, "Array | None"], float]

# Rows whose losses are computed in one block.
_ROWS_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class RawPredictionEvaluator:
    """Evaluates networks by their raw scores.

    Parameters
    ----------
    objective : Objective
        The objective, with the loss.
    score_function : callable
        Returns the estimator's score of (scores, encoded targets, weights).
    """

    objective: Objective
    score_function: Score

    def predict(self, network: Network, parameters: Parameters, X: Any, rows: Any) -> Array:
        """Return the raw scores."""
        return predict_raw(network, parameters, X, rows)

    def loss(self, predictions: Array, validation_data: ValidationData) -> float:
        """Return the mean loss of the scores."""
        values, y = np.empty(len(predictions)), validation_data.encoded
        for start in range(0, len(predictions), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            scores, targets = predictions[None, part], y[None, part]
            in_double = scores.astype(np.float64), targets.astype(np.float64)
            values[part] = self.objective.loss.value(*in_double)[0]
        return weighted_mean(values, validation_data.weight) / self.objective.loss_normalizer

    def score(self, predictions: Array, validation_data: ValidationData) -> float:
        """Return the estimator's own score of the raw scores."""
        return self.score_function(predictions, validation_data.encoded, validation_data.weight)


def weighted_mean(values: Array, weight: Array | None) -> float:
    """Return the weighted mean of losses; rows of weight zero may have any loss."""
    if weight is None:
        return float(values.mean())
    return float(np.average(values[weight > 0], weights=weight[weight > 0]))


@dataclass(frozen=True)
class TrainingTask:
    """The training task, the same for all networks of an estimator.

    Parameters
    ----------
    config : TrainingConfig
        The configuration.
    objective : Objective
        The layers in training, the loss for these targets, and the penalty.
    table : Dataset
        The data.
    dtype : dtype
        The dtype of the parameters.
    original_y : array-like
        The targets of the table as the user has given them, for scorers.
    validation_data : ValidationData or None
        The user's validation data; None to hold out rows of the table, if any.
    evaluator : Evaluator
        Computes loss and score on validation rows.
    scorer : callable or None
        Computes the score instead, if the user has set `scoring`.
    strata : callable
        Returns the class of each row of the targets, to stratify a split by, or None.
    incremental : bool
        Whether to train for one epoch, as `partial_fit` does.
    groups : array of int of shape (n_rows,) or None, default=None
        The group of each row, which splits keep together; None for no groups.
    folds : array of int of shape (n_rows,) or None, default=None
        The number of the network that holds out each row; None if each network draws its own
        split. Without early stopping these rows are not evaluated during training.
    is_train : array of bool of shape (n_rows,) or None, default=None
        Whether networks may be trained on each row; None for all rows.
    log_losses : callable or None, default=None
        Returns the log loss of each row from (scores of several networks, encoded targets), to
        calibrate their mean; None without calibration.
    stack : callable
        Returns the stack for the arguments of `StackTrainer`. Any other than `StackTrainer`
        trains on distributed data, of which the table is a sample.
    """

    config: TrainingConfig
    objective: Objective
    table: Dataset
    dtype: np.dtype[np.floating]
    original_y: Any
    validation_data: ValidationData | None
    evaluator: Evaluator
    scorer: Scorer | None
    strata: Callable[[Array], Array | None]
    incremental: bool
    groups: Array | None = None
    folds: Array | None = None
    is_train: Array | None = None
    log_losses: Callable[[Array, Array], Array] | None = None
    stack: Callable[..., StackTrainer] = StackTrainer

    @property
    def is_local(self) -> bool:
        """Whether the table has all rows, instead of a sample of distributed data."""
        return self.stack is StackTrainer

    @property
    def stopping(self) -> EarlyStopping | None:
        """The early stopping for which rows of the table are held out; None if there is none."""
        return None if self.incremental or self.validation_data else self.config.stopping

    def split(self, member: int, rng: np.random.RandomState, last: Split | None) -> Split | None:
        """Return the training rows and the held-out rows of a network.

        Parameters
        ----------
        member : int
            The number of the network.
        rng : RandomState
            Draws the split if there are no folds.
        last : Split or None
            An earlier split of as many rows, which is used again if it is valid.

        Returns
        -------
        split : Split or None
            Both; None to train on all rows.
        """
        if self.folds is not None:
            is_own = self.folds == member
            is_train = ~is_own if self.is_train is None else self.is_train & ~is_own
            split = _row_numbers(is_train), _row_numbers(is_own)
            if last is not None and np.array_equal(last[1], split[1]):
                split = last
        elif self.stopping is not None:
            split = self._draw_split(self.stopping, rng, last)
        elif self.is_train is not None:
            split = _row_numbers(self.is_train), np.zeros(0, np.int32)
        else:
            return None
        weight, (train, _) = self.table.weight, split
        if weight is not None and not weight[train].any():
            is_by_class = self.config.class_weight is not None
            by_what = "weight (with class_weight)" if is_by_class else "sample_weight"
            raise ValueError(
                f"early_stopping must leave a training row with a positive {by_what}, but holds "
                "out all such rows. Remove the rows of weight zero, or set early_stopping=False."
            )
        return split

    def _draw_split(
        self, stopping: EarlyStopping, rng: np.random.RandomState, last: Split | None
    ) -> Split:
        n, n_held_out = self.table.n_rows, stopping.n_held_out(self.table.n_rows)
        if n_held_out >= n:
            raise ValueError(
                f"early_stopping=True must leave rows to train on, but holds out {n_held_out} rows "
                f"of n_samples = {n}. Use more rows, a smaller validation_fraction (now "
                f"{stopping.validation_fraction}), or early_stopping=False."
            )
        classes = self.strata(self.table.y)
        if self.groups is not None:
            if last is not None and are_groups_whole(self.groups, last):
                return last
            share = n_held_out / n
            return group_train_validation_split(self.groups, share, rng, classes, self.table.weight)
        if last is not None and len(last[1]) == n_held_out:
            return last
        return train_validation_split(n, n_held_out, rng, classes)


def _row_numbers(mask: Array) -> IndexArray:
    """Return the numbers of rows, in four bytes each, since networks keep several copies."""
    rows: Any = np.flatnonzero(mask)
    return rows.astype(np.int32) if len(mask) <= np.iinfo(np.int32).max else rows


def assign_folds(task: TrainingTask, starts: Sequence[RngOrCheckpoint]) -> Array | None:
    """Return the number of the network that holds out each row, given what the runs start from.

    Returns
    -------
    folds : array of int of shape (n_rows,) or None
        The folds of the last training, if there are as many rows, or new ones; None if the
        networks hold out no rows, or each draws its own.

    Raises
    ------
    ValueError
        If there are fewer than two networks, or fewer rows, or groups, than networks.
    """
    stopping, n_rows, n_folds = task.config.stopping, task.table.n_rows, len(starts)
    if task.incremental or task.validation_data or stopping is None:
        return None
    if stopping.validation_fraction != "folds":
        return None
    if n_folds < 2:
        raise ValueError(
            'EarlyStopping(validation_fraction="folds") needs several networks, each of which '
            "holds out one fold, got n_estimators=1. Set n_estimators to the number of folds, at "
            "least 2, or validation_fraction to a share of the rows."
        )
    if n_rows < n_folds:
        raise ValueError(
            'EarlyStopping(validation_fraction="folds") needs at least one row for each network '
            f"to hold out, got n_samples = {n_rows} and n_estimators={n_folds}. Use more rows, or "
            f"set n_estimators to at most {n_rows}."
        )
    groups, weight, known = task.groups, task.table.weight, _last_folds(starts, n_rows)
    if known is not None:
        parts = [np.flatnonzero(known == fold) for fold in range(n_folds)]
        if groups is None or are_groups_whole(groups, parts):
            return known
    first: Any = starts[0]
    if isinstance(first, TrainingCheckpoint):
        first = first.state.rngs[0]
    rng, classes = make_fold_rng(first, n_folds), task.strata(task.table.y)
    if groups is None:
        return draw_folds(n_rows, n_folds, rng, classes)
    n_groups = n_weighted_groups(groups, weight)
    if n_groups < n_folds:
        raise ValueError(
            'EarlyStopping(validation_fraction="folds") needs at least one group with positive '
            f"weight for each network to hold out, got {n_groups} groups and "
            f"n_estimators={n_folds}. Use rows of more groups, set n_estimators to at most "
            f"{n_groups}, or fit without groups."
        )
    return draw_group_folds(groups, n_folds, rng, classes, None if weight is None else weight > 0)


def _last_folds(starts: Sequence[object], n_rows: int) -> Array | None:
    """Return the folds of the last training; None unless it held out each row exactly once."""
    folds, times_held_out = np.empty(n_rows, dtype=np.intp), np.zeros(n_rows, dtype=int)
    for member, start in enumerate(starts):
        checkpoint = start if isinstance(start, TrainingCheckpoint) else None
        if checkpoint is None or checkpoint.n_rows != n_rows or checkpoint.split is None:
            return None
        _, held_out = checkpoint.split
        folds[held_out] = member
        times_held_out[held_out] += 1
    return folds if (times_held_out == 1).all() else None
