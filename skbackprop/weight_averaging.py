"""Averages of the weights over the steps of training: settings, and a state of arrays.

The end of stochastic training swings about a minimum; the average of its steps lies closer to it.
Training itself goes on from the parameters as they are: the average only looks on.

The running statistics of batch normalisation are averaged alike. The mean of z = x W is linear in
W, so in the first layer the average of the means is the mean under the average of the weights;
everywhere it is closer to that than the last mean, which belongs to other weights.

One class and one line in `AVERAGES` make an average.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .layers.base import NUM_BATCHES_TRACKED
from .utils.arrays import (
    Array,
    ArrayDict,
    FloatOrPerMember,
    cast_hyperparameters,
    iter_column_blocks,
)
from .utils.config import Configurable
from .utils.validation import validate_interval

__all__ = ["AVERAGES", "ExponentialMovingAverage", "PolyakAverage", "WeightAverage"]


def __dir__() -> list[str]:
    return __all__


_NONE: ArrayDict = {}


class WeightAverage(Configurable):
    """A weighted mean of the parameters after each step.

    It is kept as average += (theta - average) / total, where total is the weight of all steps
    so far if that of the last is one. The state holds both, a row for each member; a total of
    zero means that averaging has not begun.
    """

    def init(self, theta: Array, n_samples_seen: Array, statistics: ArrayDict = _NONE) -> ArrayDict:
        """Return the state before the first step.

        Parameters
        ----------
        theta : array of shape (n_estimators, p)
            All parameters.
        n_samples_seen : int array of shape (n_estimators, 1)
            The rows that each member has been trained on before.
        statistics : dict
            The running statistics; empty for none.
        """
        state = {"average": np.zeros_like(theta), "total": np.zeros((len(theta), 1))}
        return state | {name: np.zeros_like(statistics[name]) for name in _averaged(statistics)}

    def count(self, state: ArrayDict, n_rows: int) -> None:
        """Update the totals for a step on a batch of so many rows."""
        raise NotImplementedError(f"{type(self).__name__} has to define count(state, n_rows)")

    def update(
        self, theta: Array, g: Array, state: ArrayDict, n_rows: int, statistics: ArrayDict = _NONE
    ) -> None:
        """Take note of a step on a batch of so many rows, and of the statistics after it.

        On return the arrays in `state` are updated, and `g`, of the shape of `theta`, is
        overwritten.
        """
        self.count(state, n_rows)
        totals = state["total"].ravel().tolist()
        if not any(totals):
            return
        # Python's floats for a single member; one that has not begun takes no part.
        shares = [1 / total if total else 0.0 for total in totals]
        (share,) = cast_hyperparameters(
            theta, shares[0] if len(shares) == 1 else np.array(shares)[:, None]
        )
        _mix(theta, state["average"], share, g)
        for name in _averaged(statistics):
            _mix(statistics[name], state[name], share, g[:, : state[name].shape[1]])


@dataclass(frozen=True)
class PolyakAverage(WeightAverage):
    """The mean of the parameters, each step alike: total = t in step t of averaging.

    Averaging begins with the step that brings the rows seen to `start` (Ruppert 1988; Polyak &
    Juditsky 1992). The state counts the rows of the steps made.

    Parameters
    ----------
    start : float, default=1
        The number of rows, at least 1, counted over all calls; 1 averages over all steps.

    Raises
    ------
    ValueError
        If `start` is not a number in its range.

    References
    ----------
    Polyak, B. T. & Juditsky, A. B. (1992). Acceleration of stochastic approximation by averaging.
    SIAM Journal on Control and Optimization 30(4), 838-855.

    Ruppert, D. (1988). Efficient estimations from a slowly convergent Robbins-Monro process.
    Technical report 781, Cornell University.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.weight_averaging import PolyakAverage
    >>> BackpropClassifier(average=PolyakAverage(start=5_000))
    BackpropClassifier(average=PolyakAverage(start=5000.0))
    """

    start: FloatOrPerMember = 1.0

    def __post_init__(self) -> None:
        validate_interval(self, "start", low=1, closed="left")

    def init(self, theta: Array, n_samples_seen: Array, statistics: ArrayDict = _NONE) -> ArrayDict:
        return {
            **super().init(theta, n_samples_seen, statistics),
            "n_samples_seen": n_samples_seen.copy(),
        }

    def count(self, state: ArrayDict, n_rows: int) -> None:
        state["n_samples_seen"] += n_rows
        np.multiply(state["total"] + 1, state["n_samples_seen"] >= self.start, out=state["total"])


@dataclass(frozen=True)
class ExponentialMovingAverage(WeightAverage):
    """An exponential moving average: total = (1 - decay^t) / (1 - decay) in step t.

    That is average = decay * average + (1 - decay) * theta, divided by 1 - decay^t to correct
    for the start from zero (Kingma & Ba 2015, section 7.2).

    Parameters
    ----------
    decay : float, default=0.99
        What remains of a step's weight in the next step, in (0, 1): the last 1 / (1 - decay)
        steps or so count.

    Raises
    ------
    ValueError
        If `decay` is not a number in its range.

    References
    ----------
    Kingma, D. P. & Ba, J. (2015). Adam: a method for stochastic optimization. ICLR.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.weight_averaging import ExponentialMovingAverage
    >>> BackpropClassifier(average=ExponentialMovingAverage(decay=0.999))
    BackpropClassifier(average=ExponentialMovingAverage(decay=0.999))
    """

    decay: FloatOrPerMember = 0.99

    def __post_init__(self) -> None:
        validate_interval(self, "decay", low=0, high=1, closed="neither")

    def count(self, state: ArrayDict, n_rows: int) -> None:
        np.multiply(state["total"], self.decay, out=state["total"])
        state["total"] += 1


def _averaged(statistics: ArrayDict) -> list[str]:
    """Return the names of the running statistics that are averaged beside the parameters."""
    return [name for name in statistics if name != NUM_BATCHES_TRACKED]


def _mix(x: Array, average: Array, share: FloatOrPerMember, scratch: Array) -> None:
    """Move averages towards `x` by a share of what lies between, in place."""
    for new, old, change in iter_column_blocks(x, average, scratch):
        np.subtract(new, old, out=change)
        np.multiply(change, share, out=change)
        np.add(old, change, out=old)


AVERAGES: dict[str, type[WeightAverage]] = {
    "polyak": PolyakAverage,
    "ema": ExponentialMovingAverage,
}
