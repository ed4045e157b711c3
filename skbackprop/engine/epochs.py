"""Training epoch by epoch, and when to stop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..core.arrays import BUFFER_SIZE, Array, PerMember, State
from ..schedules.base import follow_progress
from .objective import Diverged
from .stack import Stack


def descend(stack: Stack, n_epochs: int, n_done: int = 0) -> Iterator[Array]:
    """Train a stack, an epoch each time that the next item is asked for.

    Parameters
    ----------
    stack : Stack
        The members; the caller may let some retire between two epochs.
    n_epochs : int
        The number of the epoch after which the generator ends.
    n_done : int, default=0
        The number of epochs done before: after members that diverged have retired, the others
        go on from there.

    Yields
    ------
    losses : array of shape (n_members,)
        The mean loss of the epoch's batches as they were visited, penalty included.

    Raises
    ------
    Diverged
        If a loss, a parameter or a moment is no longer finite.

    Notes
    -----
    An epoch is all or nothing: whatever is raised inside it, the stack goes back to where the
    epoch began.
    """
    for epoch in range(n_done, n_epochs):
        yield train_epoch_or_none(stack, epoch, n_epochs)


def train_epoch_or_none(stack: Stack, n_done: int, n_epochs: int) -> Array:
    """Train a stack for an epoch after `n_done` of `n_epochs`; return its losses, as `descend`.

    Whatever is raised, the stack is as before it.
    """
    stack.save(n_done)
    try:
        return train_epoch(stack, n_done / n_epochs)
    except BaseException:
        stack.restore()
        raise


def train_epoch(stack: Stack, progress: float) -> Array:
    """Train a stack for one epoch; if anything is raised, it is left somewhere inside it.

    Parameters
    ----------
    stack : Stack
        The members.
    progress : float in [0, 1)
        What the schedule is told.

    Returns
    -------
    losses : array of shape (n_members,)
        As `descend` yields them.

    Raises
    ------
    Diverged
        If a loss, a parameter or a moment is no longer finite.
    """
    with np.errstate(all="ignore"):
        np.setbufsize(BUFFER_SIZE)  # until the end of the context
        losses = stack.run_epoch(stack.schedule.rate(stack.state.schedule, stack.rate, progress))
        stack.flush_subnormals()
        finite = np.isfinite(losses) & stack.is_finite()
    if not finite.all():
        raise Diverged(~finite)
    return losses


@dataclass(frozen=True)
class Patience:
    """When to stop: after more than `n_epochs` epochs in a row without an improvement of `tol`.

    Parameters
    ----------
    tol : float or array of shape (n_members, 1)
        The improvement that counts.
    n_epochs : float or array of shape (n_members, 1)
        The epochs without it that are put up with.
    """

    tol: PerMember
    n_epochs: PerMember

    def end_epoch(self, progress: State, monitored: Array, may_stop: Array) -> tuple[Array, Array]:
        """Take note of an epoch.

        Parameters
        ----------
        progress : dict
            The state that `init_progress` returned; on return it is updated.
        monitored : array of shape (n_members, 1)
            The value that is to fall.
        may_stop : array of bool of shape (n_members, 1)
            What the schedule says; where it is False, the count starts again.

        Returns
        -------
        stalled, stopped : arrays of bool of shape (n_members, 1)
            The members whose patience is at an end, and those of them that stop.
        """
        follow_progress(progress, monitored, self.tol)
        stalled = progress["count"] > self.n_epochs
        progress["count"][stalled & ~may_stop] = 0
        return stalled, stalled & may_stop
