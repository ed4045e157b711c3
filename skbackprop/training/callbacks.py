"""Hooks that follow training epoch by epoch, and interrupts that end it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from .training_run import TrainingRun


class TrainingInterrupted(Exception):
    """Training can't go on, by no fault of the network or the data: what it reached is kept."""


Interrupt: TypeAlias = KeyboardInterrupt | TrainingInterrupted

INTERRUPTS = (KeyboardInterrupt, TrainingInterrupted)


Standing: TypeAlias = Callable[[], Sequence[TrainingRun]]
"""Returns the runs as they would be left if training ended now: copies, for the caller to keep."""


class EpochObserver:
    """Follows the training of an estimator or of a stack; this one does nothing.

    An epoch is one of all members that are still in training; of L-BFGS it is an iteration.

    Attributes
    ----------
    error : Exception or None
        What the follower itself has raised.
    needs_moments : bool
        Whether it goes on from the `moment` of runs that it has seen.
    """

    error: Exception | None = None
    needs_moments: bool = False

    def skip_epoch(self) -> None:
        """Take note of an epoch that a fit which is resumed has had before."""

    def on_epoch_begin(self, standing: Standing) -> None:
        """Take note that an epoch begins."""

    def on_epoch_end(self, standing: Standing) -> bool:
        """Take note that an epoch is over, and return whether training is to end with it."""
        return False

    def on_member_begin(self, member: int) -> EpochObserver:
        """Return who follows a member that trains before or after the others, by L-BFGS."""
        return self

    def on_member_end(self) -> None:
        """Take note that this member's training is over."""


NO_OBSERVER = EpochObserver()
