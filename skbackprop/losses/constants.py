"""The constants that predict best: what the score of a regressor compares its network with."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy import optimize

from ..core.arrays import Array


def weighted_quantiles(y: Array, levels: Sequence[float], weight: Array | None) -> Array:
    """Return for each level q a value that the share q of the weight does not exceed.

    Parameters
    ----------
    y : array of shape (n,)
        The targets.
    levels : sequence of float
        The shares, each in (0, 1).
    weight : array of shape (n,) or None
        The weight of each row; None for equal weights.
    """
    order = np.argsort(y, kind="stable")
    shares = np.cumsum(np.ones(len(y)) if weight is None else weight[order])
    places = np.searchsorted(shares, np.asarray(levels) * shares[-1])
    return np.asarray(y[order][places])


def zero_of_slope(slope: Callable[[Array], Array], y: Array, weight: Array | None) -> float:
    """Return the c at which the weighted slopes of all c - y add up to zero.

    `slope` has to rise with its argument, from below zero to above zero.
    """
    lowest, highest = float(y.min()), float(y.max())
    if lowest == highest:
        return lowest
    found: float = optimize.brentq(
        lambda c: np.average(slope(c - y), weights=weight),
        lowest,
        highest,
        # The unit of the targets is not known, and they may lie far apart: only the relative
        # tolerance counts, and as many halves are taken as lie between any two numbers.
        xtol=np.finfo(float).tiny,
        maxiter=10_000,
    )
    return found


def least(value_and_gradient: Callable[[Array], tuple[float, Array]], n: int) -> Array:
    """Return n numbers at which a smooth function is least, sought from zero on by L-BFGS."""
    found = optimize.minimize(
        value_and_gradient,
        np.zeros(n),
        method="L-BFGS-B",
        jac=True,
        # The unit of the targets is not known: no slope is small enough for zero, and what is
        # sought may lie far off, where a line search gets by steps of four times the last.
        options={"ftol": 0, "gtol": 0, "maxls": 50, "maxfun": 1000},
    )
    return np.asarray(found.x)
