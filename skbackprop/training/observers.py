"""Observers of training, epoch by epoch, and interrupts that end it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from .training_run import TrainingRun


class TrainingInterrupted(Exception):
    """Training cannot continue, for reasons outside of it; the last complete epoch is kept."""


Interrupt: TypeAlias = KeyboardInterrupt | TrainingInterrupted

INTERRUPTS = (KeyboardInterrupt, TrainingInterrupted)


RunSnapshots: TypeAlias = Callable[[], Sequence[TrainingRun]]
"""Returns copies of the runs as if training ended now."""


class EpochObserver:
    """Observes the epochs of a fit or of a stack; this one does nothing.

    An epoch is one of all networks still in training, with L-BFGS an iteration.

    Attributes
    ----------
    error : Exception or None
        The error that the observer itself has raised.
    needs_checkpoints : bool
        Whether it saves the `checkpoint` of runs, to be resumed.
    """

    error: Exception | None = None
    needs_checkpoints: bool = False

    def skip_epoch(self) -> None:
        """Count an epoch from before a checkpoint that training is resumed from."""

    def on_epoch_begin(self, snapshots: RunSnapshots) -> None:
        """Observe the start of an epoch."""

    def on_epoch_end(self, snapshots: RunSnapshots) -> bool:
        """Observe the end of an epoch; return whether training should stop."""
        return False

    def on_member_begin(self, member: int) -> EpochObserver:
        """Return the observer of a network that L-BFGS trains before or after others."""
        return self

    def on_member_end(self) -> None:
        """Observe the end of this network's training."""


NO_OBSERVER = EpochObserver()
