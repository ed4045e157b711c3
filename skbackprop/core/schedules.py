"""Learning-rate schedules: what an epoch's rate is, given the base rate and the past.

One class and one line in `SCHEDULES` make a schedule. Like an optimizer, a schedule is a set
of settings with an explicit state of numbers, one a member.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .arrays import Array, PerMember, State


class Schedule:
    """The rate of each epoch; all arrays have the shape (n_members, 1).

    Attributes
    ----------
    last_words : str, default="Stopping."
        What a user is told when a lack of progress ends training.
    """

    last_words: ClassVar[str] = "Stopping."

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
            The epochs done of this call over the epochs asked for.
        """
        return base

    def end_epoch(self, state: State, base: Array, monitored: Array, n_seen: Array) -> None:
        """Take note of an epoch's monitored value (lower is better) and of the rows seen."""

    def may_stop(self, state: State, n_members: int) -> Array:
        """Return for each member whether a lack of progress may end its training."""
        return np.ones((n_members, 1), dtype=bool)


@dataclass(frozen=True)
class Constant(Schedule):
    """The base rate in every epoch: rate = base."""


@dataclass(frozen=True)
class InverseScaling(Schedule):
    """The rate falls with the rows seen: rate = base / (1 + t)^power_t after t rows.

    Parameters
    ----------
    power_t : float, default=0.5
        The exponent, not negative.
    """

    power_t: PerMember = 0.5

    def init(self, n_members: int) -> State:
        return {"n_seen": np.zeros((n_members, 1))}

    def rate(self, state: State, base: Array, progress: float) -> Array:
        # In Python's floats, the powers of which do not depend on the size of the stack.
        powers = np.broadcast_to(self.power_t, base.shape).ravel().tolist()
        n_seen = state["n_seen"].ravel().tolist()
        divisors = [(1 + t) ** power for t, power in zip(n_seen, powers, strict=True)]
        return np.asarray(base / np.reshape(divisors, base.shape))

    def end_epoch(self, state: State, base: Array, monitored: Array, n_seen: Array) -> None:
        state["n_seen"][...] = n_seen


@dataclass(frozen=True)
class Adaptive(Schedule):
    """The rate falls where progress stalls: rate = base / 5^k after k stalls.

    A stall is more than `n_iter_no_change` epochs in a row without an improvement of `tol`.
    Training may end when it stalls at a rate of 1e-6 or less.

    Parameters
    ----------
    tol : float, default=1e-4
        The improvement that counts as progress.
    n_iter_no_change : int, default=10
        The epochs without progress that are put up with.
    """

    last_words: ClassVar[str] = "Learning rate too small. Stopping."

    tol: PerMember = 1e-4
    n_iter_no_change: PerMember = 10

    def init(self, n_members: int) -> State:
        return {
            "divisor": np.ones((n_members, 1)),
            "stalled": np.zeros((n_members, 1), dtype=bool),
            **init_progress(n_members),
        }

    def rate(self, state: State, base: Array, progress: float) -> Array:
        return np.asarray(base / state["divisor"])

    def end_epoch(self, state: State, base: Array, monitored: Array, n_seen: Array) -> None:
        follow_progress(state, monitored, self.tol)
        weary = state["count"] > self.n_iter_no_change
        exhausted = base / state["divisor"] <= 1e-6
        state["stalled"][...] = weary & exhausted
        state["divisor"][weary & ~exhausted] *= 5
        state["count"][weary & ~exhausted] = 0

    def may_stop(self, state: State, n_members: int) -> Array:
        return np.asarray(state["stalled"])


def init_progress(n_members: int) -> State:
    """Return the state that `follow_progress` keeps."""
    return {"best": np.full((n_members, 1), np.inf), "count": np.zeros((n_members, 1))}


def follow_progress(state: State, monitored: Array, tol: PerMember) -> None:
    """Count the epochs in a row that did not better the best value by `tol`.

    A value that is not a number counts as no progress.
    """
    progressed = monitored <= state["best"] - tol
    state["count"][...] = np.where(progressed, 0, state["count"] + 1)
    np.fmin(state["best"], monitored, out=state["best"])


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "invscaling": InverseScaling,
    "adaptive": Adaptive,
}
