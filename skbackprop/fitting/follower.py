"""Who follows training from epoch to epoch, and may end it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from .run import Run

Standing: TypeAlias = Callable[[], Sequence[Run]]
"""Returns the runs as they would be left if training ended now: copies, for the caller to keep."""


class Follower:
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

    def pass_over_epoch(self) -> None:
        """Take note of an epoch that a fit which is resumed has had before."""

    def begin_epoch(self, standing: Standing) -> None:
        """Take note that an epoch begins."""

    def end_epoch(self, standing: Standing) -> bool:
        """Take note that an epoch is over, and return whether training is to end with it."""
        return False

    def begin_member(self, member: int) -> Follower:
        """Return who follows a member that trains before or after the others, by L-BFGS."""
        return self

    def end_member(self) -> None:
        """Take note that this member's training is over."""


NOBODY = Follower()
