"""What a network with averages predicts with: they are read from the state of any average."""

from __future__ import annotations

import numpy as np

from ..utils.arrays import Array, ArrayDict


def averaged(theta: Array, state: ArrayDict) -> Array:
    """Return the averages as a new array; the parameters themselves where none has begun.

    Parameters
    ----------
    theta : array of shape (n_estimators, p)
        All parameters after the last step.
    state : dict
        The state of any average.
    """
    return np.where(state["total"] > 0, state["average"], theta)


def averaged_statistics(statistics: ArrayDict, state: ArrayDict) -> ArrayDict:
    """Return the averages of those running statistics that are averaged, likewise."""
    return {
        name: np.where(state["total"] > 0, state[name], statistics[name])
        for name in statistics
        if name in state
    }
