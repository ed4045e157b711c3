"""What several networks are set alike: data, plan and objective, and which rows each holds out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from ..core.arrays import Array, Rows
from ..engine.batches import Table
from ..engine.objective import Objective
from ..engine.stack import Stack
from ..engine.whole import Whole, WholeLoss
from ..stopping import EarlyStopping
from .holdout import are_whole, hold_out, hold_out_groups
from .plan import Plan
from .watch import Judge, Scorer, Watched

Split: TypeAlias = tuple[Rows, Rows]
"""The rows to train on, and those held out."""


@dataclass(frozen=True)
class Problem:
    """What an estimator sets its networks: the same for each of them.

    Parameters
    ----------
    plan : Plan
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
    judge : Judge
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
        Returns the stack that trains runs, of what `Stack` takes. Another than `Stack` trains on
        rows elsewhere, of which the table is a sample.
    whole : callable
        Returns the loss over all rows that L-BFGS minimises, of what `WholeLoss` takes; likewise.
    """

    plan: Plan
    objective: Objective
    table: Table
    dtype: np.dtype[np.floating]
    y_given: Any
    watched: Watched | None
    judge: Judge
    scorer: Scorer | None
    strata: Callable[[Array], Array | None]
    incremental: bool
    groups: Array | None = None
    folds: Array | None = None
    log_losses: Callable[[Array, Array], Array] | None = None
    stack: Callable[..., Stack] = Stack
    whole: Callable[..., Whole] = WholeLoss

    @property
    def is_here(self) -> bool:
        """Whether the table has all rows."""
        return self.stack is Stack

    @property
    def stopping(self) -> EarlyStopping | None:
        """The rule to stop by for which rows of the table are held out; None if none are for it."""
        return None if self.incremental or self.watched else self.plan.stopping

    def split(self, member: int, stream: np.random.RandomState, last: Split | None) -> Split | None:
        """Return the rows that a network trains on, and those that it holds out.

        Parameters
        ----------
        member : int
            The number of the network.
        stream : RandomState
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
            split = self._drawn(self.stopping, stream, last)
        else:
            return None
        weight, (train, _) = self.table.weight, split
        if weight is not None and not weight[train].any():
            is_by_class = self.plan.class_weight is not None
            by_what = "weight, class_weight included," if is_by_class else "sample_weight"
            raise ValueError(
                f"early_stopping leaves no row to train on whose {by_what} is above zero. "
                "Remove the rows of weight zero, or set early_stopping=False."
            )
        return split

    def _drawn(
        self, stopping: EarlyStopping, stream: np.random.RandomState, last: Split | None
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
            if last is not None and are_whole(self.groups, last):
                return last
            share = n_held_out / n
            return hold_out_groups(self.groups, share, stream, classes, self.table.weight)
        if last is not None and len(last[1]) == n_held_out:
            return last
        return hold_out(n, n_held_out, stream, classes)

    @staticmethod
    def _by_fold(folds: Array, member: int, last: Split | None) -> Split:
        held_out = np.flatnonzero(folds == member)
        if last is not None and np.array_equal(last[1], held_out):
            return last
        return np.flatnonzero(folds != member), held_out
