"""What a learning-rate schedule is: an epoch's rate, given the base rate and the past.

Like an optimizer, a schedule is a set of settings with an explicit state of numbers, one a member.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..utils.arrays import Array, ArrayDict, FloatOrPerMember
from ..utils.config import Configurable


class LearningRateSchedule(Configurable):
    """The rate of each epoch; all arrays have the shape (n_estimators, 1)."""

    @property
    def convergence_message(self) -> str:
        """What a user is told when a lack of progress ends training."""
        return "Stopping."

    def init(self, n_estimators: int) -> ArrayDict:
        """Return the state of a fresh start."""
        return {}

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        """Return the rate of the next epoch.

        Parameters
        ----------
        state : dict
            What `init` returned and `on_epoch_end` updated.
        base : array of shape (n_estimators, 1)
            The rate that the user has set.
        progress : float in [0, 1)
            The epochs done over the epochs asked for: of this call of `fit`, or of all calls
            of `partial_fit` since.
        """
        return base

    def on_epoch_end(
        self, state: ArrayDict, base: Array, monitored: Array, n_samples_seen: Array
    ) -> None:
        """Take note of an epoch's monitored value (lower is better) and of the rows seen."""

    def may_stop(self, state: ArrayDict, n_estimators: int) -> Array:
        """Return for each member whether a lack of progress may end its training."""
        return np.ones((n_estimators, 1), dtype=bool)


def init_plateau_counter(n_estimators: int) -> ArrayDict:
    """Return the state that `update_plateau_counter` keeps."""
    return {"best": np.full((n_estimators, 1), np.inf), "count": np.zeros((n_estimators, 1))}


def update_plateau_counter(state: ArrayDict, monitored: Array, tol: FloatOrPerMember) -> None:
    """Count the epochs in a row that did not better the best value by `tol`.

    A value that is not finite counts as no progress.
    """
    progressed = (monitored < np.inf) & (monitored <= state["best"] - tol)
    state["count"][...] = np.where(progressed, 0, state["count"] + 1)
    np.fmin(state["best"], monitored, out=state["best"])


def per_member_floats(
    function: Callable[..., float], base: Array, *settings: FloatOrPerMember
) -> Array:
    """Return a function of each member's own settings, in the shape of the base rates.

    It is computed in Python's floats: what NumPy makes of powers and cosines of an array depends
    on where in it they are, and so would on the size of the stack.
    """
    columns = [np.broadcast_to(values, base.shape).ravel().tolist() for values in settings]
    values = [function(*own) for own in zip(*columns, strict=True)]
    return np.array(values, dtype=float)[:, None]
