"""The training task of an estimator's networks: data, objective, configuration and splits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..early_stopping import EarlyStopping
from ..nn.data_loader import Dataset
from ..nn.ensemble_trainer import StackTrainer
from ..nn.objective import Objective
from ..utils.arrays import Array, IndexArray
from .config import TrainingConfig
from .validation_data import Evaluator, Scorer, ValidationData
from .validation_split import are_groups_whole, group_train_validation_split, train_validation_split

Split: TypeAlias = tuple[IndexArray, IndexArray]
"""The training rows and the held-out rows."""


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
    y_given : array-like
        The targets of the table as the user has given them, for scorers.
    watched : ValidationData or None
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
    y_given: Any
    watched: ValidationData | None
    evaluator: Evaluator
    scorer: Scorer | None
    strata: Callable[[Array], Array | None]
    incremental: bool
    groups: Array | None = None
    folds: Array | None = None
    log_losses: Callable[[Array, Array], Array] | None = None
    stack: Callable[..., StackTrainer] = StackTrainer

    @property
    def is_local(self) -> bool:
        """Whether the table has all rows, instead of a sample of distributed data."""
        return self.stack is StackTrainer

    @property
    def stopping(self) -> EarlyStopping | None:
        """The early stopping for which rows of the table are held out; None if there is none."""
        return None if self.incremental or self.watched else self.config.stopping

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
            split = self._split_by_fold(self.folds, member, last)
        elif self.stopping is not None:
            split = self._draw_split(self.stopping, rng, last)
        else:
            return None
        weight, (train, _) = self.table.weight, split
        if weight is not None and not weight[train].any():
            is_by_class = self.config.class_weight is not None
            by_what = "weight, class_weight included," if is_by_class else "sample_weight"
            raise ValueError(
                f"early_stopping leaves no row to train on whose {by_what} is above zero. "
                "Remove the rows of weight zero, or set early_stopping=False."
            )
        return split

    def _draw_split(
        self, stopping: EarlyStopping, rng: np.random.RandomState, last: Split | None
    ) -> Split:
        n, n_held_out = self.table.n_rows, stopping.n_held_out(self.table.n_rows)
        if n_held_out >= n:
            raise ValueError(
                f"early_stopping=True holds out {n_held_out} rows, which leaves none to train on "
                f"with n_samples = {n}. Use more rows, a smaller validation_fraction (now "
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

    @staticmethod
    def _split_by_fold(folds: Array, member: int, last: Split | None) -> Split:
        held_out = np.flatnonzero(folds == member)
        if last is not None and np.array_equal(last[1], held_out):
            return last
        return np.flatnonzero(folds != member), held_out
