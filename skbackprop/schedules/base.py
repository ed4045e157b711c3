"""What a learning-rate schedule is: an epoch's rate, given the base rate and the past.

Like an optimizer, a schedule is a set of settings with an explicit state of numbers, one a member.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..core.arrays import Array, PerMember, State
from ..core.parts import Part


class Schedule(Part):
    """The rate of each epoch; all arrays have the shape (n_members, 1)."""

    @property
    def last_words(self) -> str:
        """What a user is told when a lack of progress ends training."""
        return "Stopping."

    def init(self, n_members: int) -> State:
        """Return the state of a fresh start."""
        return {}

    def rate(self, state: State, base: Array, progress: float) -> Array:
        """Return the rate of the next epoch.

        Parameters
        ----------
        state : dict
            What `init` returned and `end_epoch` updated.
        base : array of shape (n_members, 1)
            The rate that the user has set.
        progress : float in [0, 1)
            The epochs done over the epochs asked for: of this call of `fit`, or of all calls
            of `partial_fit` since.
        """
        return base

    def end_epoch(self, state: State, base: Array, monitored: Array, n_seen: Array) -> None:
        """Take note of an epoch's monitored value (lower is better) and of the rows seen."""

    def may_stop(self, state: State, n_members: int) -> Array:
        """Return for each member whether a lack of progress may end its training."""
        return np.ones((n_members, 1), dtype=bool)


def init_progress(n_members: int) -> State:
    """Return the state that `follow_progress` keeps."""
    return {"best": np.full((n_members, 1), np.inf), "count": np.zeros((n_members, 1))}


def follow_progress(state: State, monitored: Array, tol: PerMember) -> None:
    """Count the epochs in a row that did not better the best value by `tol`.

    A value that is not finite counts as no progress.
    """
    progressed = (monitored < np.inf) & (monitored <= state["best"] - tol)
    state["count"][...] = np.where(progressed, 0, state["count"] + 1)
    np.fmin(state["best"], monitored, out=state["best"])


def in_floats(function: Callable[..., float], base: Array, *settings: PerMember) -> Array:
    """Return a function of each member's own settings, in the shape of the base rates.

    It is computed in Python's floats: what NumPy makes of powers and cosines of an array depends
    on where in it they are, and so would on the size of the stack.
    """
    columns = [np.broadcast_to(values, base.shape).ravel().tolist() for values in settings]
    values = [function(*own) for own in zip(*columns, strict=True)]
    return np.array(values, dtype=float)[:, None]
