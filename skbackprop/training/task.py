"""What several networks are set alike: data, plan and objective, and which rows each holds out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..early_stopping import EarlyStopping
from ..nn.data_loader import Dataset
from ..nn.ensemble_trainer import EnsembleTrainer
from ..nn.objective import Objective
from ..utils.arrays import Array, IndexArray
from .config import TrainingConfig
from .validation_data import Evaluator, Scorer, ValidationData
from .validation_split import group_train_validation_split, groups_not_split, train_validation_split

Split: TypeAlias = tuple[IndexArray, IndexArray]
"""The rows to train on, and those held out."""


@dataclass(frozen=True)
class TrainingTask:
    """What an estimator sets its networks: the same for each of them.

    Parameters
    ----------
    config : Plan
        How they are to be trained.
    objective : Objective
        Their layers in training, the loss for the targets at hand, and the penalty.
    table : Table
        The data.
    dtype : dtype
        What they compute in.
    y_given : array-like
        The targets of the table as the user has given them, for scorers.
    watched : Watched or None
        Rows of the user's own to watch; None for rows of the table, if any are held out.
    evaluator : Judge
        What makes of a network, and of rows that are watched, a loss and a score.
    scorer : callable or None
        What scores in its place, where the user wants another score.
    strata : callable
        Returns the class of each row of the targets by which a split is stratified, or None.
    incremental : bool
        Whether to train for one epoch, as `partial_fit` does.
    groups : array of int of shape (n_rows,) or None, default=None
        The group of each row, none of which a split may part; None for none.
    folds : array of int of shape (n_rows,) or None, default=None
        The network that each row is held out by; None where each draws rows of its own. Without a
        rule to stop by, nothing is seen of these rows while it trains.
    log_losses : callable or None, default=None
        Returns the log loss of each row, of (scores of several networks, encoded targets), by which
        their mean is calibrated; None where nothing is.
    stack : callable
        Returns the stack that trains runs, of what `EnsembleTrainer` takes. Another than
        `EnsembleTrainer` trains on rows elsewhere, of which the table is a sample.
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
    stack: Callable[..., EnsembleTrainer] = EnsembleTrainer

    @property
    def is_local(self) -> bool:
        """Whether the table has all rows."""
        return self.stack is EnsembleTrainer

    @property
    def stopping(self) -> EarlyStopping | None:
        """The rule to stop by for which rows of the table are held out; None if none are for it."""
        return None if self.incremental or self.watched else self.config.stopping

    def split(self, member: int, rng: np.random.RandomState, last: Split | None) -> Split | None:
        """Return the rows that a network trains on, and those that it holds out.

        Parameters
        ----------
        member : int
            The number of the network.
        rng : RandomState
            What draws them, where there are no folds.
        last : Split or None
            An earlier split of as many rows: if it will do again, it is the one.

        Returns
        -------
        split : Split or None
            Both; None if all rows are trained on.
        """
        if self.folds is not None:
            split = self._by_fold(self.folds, member, last)
        elif self.stopping is not None:
            split = self._drawn(self.stopping, rng, last)
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

    def _drawn(
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
            if last is not None and groups_not_split(self.groups, last):
                return last
            share = n_held_out / n
            return group_train_validation_split(self.groups, share, rng, classes, self.table.weight)
        if last is not None and len(last[1]) == n_held_out:
            return last
        return train_validation_split(n, n_held_out, rng, classes)

    @staticmethod
    def _by_fold(folds: Array, member: int, last: Split | None) -> Split:
        held_out = np.flatnonzero(folds == member)
        if last is not None and np.array_equal(last[1], held_out):
            return last
        return np.flatnonzero(folds != member), held_out
