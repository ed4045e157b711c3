"""Weight averaging over the steps of training.

Stochastic training ends in oscillations around a minimum, and the average of the weights is closer
to it. Averaging does not change training itself, which continues from the current weights.

The running statistics of batch normalization are averaged in the same way. The mean of z = x W is
linear in W, so in the first layer the averaged mean is exact for the averaged weights. In later
layers it is a better approximation than the last running mean.

An average is immutable; its state is a dict of arrays. To add an average, write a class and add it
to `AVERAGES`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np

from .layers.base import NUM_BATCHES_TRACKED
from .utils.arrays import (
    Array,
    ArrayDict,
    FloatOrPerMember,
    cast_hyperparameters,
    iter_column_blocks,
)
from .utils.configurable import Configurable
from .utils.validation import between

__all__ = ["AVERAGES", "ExponentialMovingAverage", "PolyakAverage", "WeightAverage"]


class WeightAverage(Configurable):
    """Base class of averages, weighted means of the parameters after each step.

    The update is average += (theta - average) / total, where total is the sum of the weights of all
    steps, relative to the last one. The state holds both, with one row per member. A total of zero
    means that averaging has not started.
    """

    def init(self, theta: Array, n_samples_seen: Array, statistics: ArrayDict) -> ArrayDict:
        """Return the state before the first step.

        Parameters
        ----------
        theta : array of shape (n_estimators, p)
            All parameters.
        n_samples_seen : int array of shape (n_estimators, 1)
            The number of rows that each member has been trained on.
        statistics : dict
            The running statistics; may be empty.
        """
        averages = {k: np.zeros_like(x) for k, x in _arrays_to_average(theta, statistics).items()}
        return averages | {"total": np.zeros((len(theta), 1))}

    def update_total(self, state: ArrayDict, n_rows: int) -> None:
        """Update the totals in place after a step on a batch of `n_rows` rows."""
        raise NotImplementedError(f"{type(self).__name__} must define update_total(state, n_rows)")

    def update(
        self, theta: Array, g: Array, state: ArrayDict, n_rows: int, statistics: ArrayDict
    ) -> None:
        """Update `state` in place after a step on a batch of `n_rows` rows.

        The array `g`, of the shape of `theta`, is overwritten. Where layers are frozen, it may have
        fewer columns than the running statistics.
        """
        self.update_total(state, n_rows)
        totals = state["total"].ravel().tolist()
        if not any(totals):
            return
        # A single member takes a Python float. The share of members that have not started is 0.
        shares = [1 / total if total else 0.0 for total in totals]
        (share,) = cast_hyperparameters(
            theta, shares[0] if len(shares) == 1 else np.array(shares)[:, None]
        )
        for name, x in _arrays_to_average(theta, statistics).items():
            scratch = g[:, : x.shape[1]] if x.shape[1] <= g.shape[1] else np.empty_like(x)
            for new, old, change in iter_column_blocks(x, state[name], scratch):
                np.subtract(new, old, out=change)
                np.multiply(change, share, out=change)
                np.add(old, change, out=old)


@dataclass(frozen=True)
class PolyakAverage(WeightAverage):
    """Polyak-Ruppert average, the mean of the parameters: total = t in step t of averaging.

    Averaging starts with the step in which the number of trained rows reaches `start` (Ruppert
    1988; Polyak & Juditsky 1992).

    Parameters
    ----------
    start : float, default=1
        The number of rows, at least 1, counted over all calls. 1 averages over all steps.

    Raises
    ------
    ValueError
        If `start` is out of range.

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

    start: Annotated[FloatOrPerMember, between(1, closed="left")] = 1.0

    def init(self, theta: Array, n_samples_seen: Array, statistics: ArrayDict) -> ArrayDict:
        return {
            **super().init(theta, n_samples_seen, statistics),
            "n_samples_seen": n_samples_seen.copy(),
        }

    def update_total(self, state: ArrayDict, n_rows: int) -> None:
        state["n_samples_seen"] += n_rows
        np.multiply(state["total"] + 1, state["n_samples_seen"] >= self.start, out=state["total"])


@dataclass(frozen=True)
class ExponentialMovingAverage(WeightAverage):
    """Exponential moving average: total = (1 - decay^t) / (1 - decay) in step t.

    This is average = decay * average + (1 - decay) * theta, divided by 1 - decay^t to correct the
    bias of the start at zero (Kingma & Ba 2015, section 7.2).

    Parameters
    ----------
    decay : float, default=0.99
        Decay rate of the average, in (0, 1). About the last 1 / (1 - decay) steps count.

    Raises
    ------
    ValueError
        If `decay` is out of range.

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

    decay: Annotated[FloatOrPerMember, between(0, 1, "neither")] = 0.99

    def update_total(self, state: ArrayDict, n_rows: int) -> None:
        np.multiply(state["total"], self.decay, out=state["total"])
        state["total"] += 1


def _arrays_to_average(theta: Array, statistics: ArrayDict) -> ArrayDict:
    """Return the parameters and the running statistics by the names of their averages."""
    averaged = {name: x for name, x in statistics.items() if name != NUM_BATCHES_TRACKED}
    return {"average": theta} | averaged


AVERAGES: dict[str, type[WeightAverage]] = {
    "polyak": PolyakAverage,
    "ema": ExponentialMovingAverage,
}
