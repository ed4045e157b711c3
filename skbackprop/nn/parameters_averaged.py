"""Averaged parameters, read from the state of a weight average."""

from __future__ import annotations

import numpy as np

from ..utils.arrays import Array, ArrayDict


def averaged(theta: Array, state: ArrayDict) -> Array:
    """Return the averaged parameters; the parameters themselves before averaging has begun.

    Parameters
    ----------
    theta : array of shape (n_estimators, p)
        The parameters after the last step.
    state : dict
        The state of a `WeightAverage`.
    """
    return np.where(state["total"] > 0, state["average"], theta)


def averaged_statistics(statistics: ArrayDict, state: ArrayDict) -> ArrayDict:
    """Return the averages of the running statistics that are averaged."""
    return {
        name: np.where(state["total"] > 0, state[name], statistics[name])
        for name in statistics
        if name in state
    }
