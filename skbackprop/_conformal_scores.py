"""The arithmetic of conformal intervals: bands around predictions, and how far to widen them.

How far targets that were not trained on lie outside of a band says how much wider it has to be for
rows to come. These may be measured by one model on rows held out (split conformal prediction), or
by several, each on a fold of its own (CV+).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, Self

import numpy as np

from .utils.arrays import Array

# An end is found by so many halves of an interval no wider than the models are apart.
_N_HALVES = 32


class PredictionBand(NamedTuple):
    """An interval for each target, before it is made wide enough, and the unit of what is added.

    Parameters
    ----------
    middle : array
        The middle of each.
    half_width : array or float
        How far it reaches to both sides.
    unit : array or float
        What a correction of one moves both ends by.
    """

    middle: Array
    half_width: Array | float
    unit: Array | float

    @classmethod
    def from_point_prediction(cls, prediction: Array) -> Self:
        """Return a band of no width around a prediction: the score is abs(y - m)."""
        return cls(prediction, 0.0, 1.0)

    @classmethod
    def by_deviation(cls, mean: Array, std: Array) -> Self:
        """Return the same with a deviation as its unit: the score is abs(y - m) / std."""
        return cls(mean, 0.0, std)

    @classmethod
    def by_quantiles(cls, quantiles: Array) -> Self:
        """Return the band from the lowest quantile along the last axis to the highest.

        The score is max(low - y, y - high).
        """
        low, high = quantiles[..., 0], quantiles[..., -1]
        return cls((low + high) / 2, (high - low) / 2, 1.0)

    def scores_of(self, y: Array) -> Array:
        """Return how far each target lies outside, in units; negative inside."""
        return np.asarray((np.abs(y - self.middle) - self.half_width) / self.unit)

    def expand(self, correction: Array | float) -> Array:
        """Return both ends along a last axis, each moved outward by so many units.

        A negative correction moves them inward, at most to the middle.
        """
        half_width = np.maximum(self.half_width + correction * self.unit, 0)
        return np.stack([self.middle - half_width, self.middle + half_width], axis=-1)


def conformal_quantile_rank(n: int, coverage: float) -> int:
    """Return which of n scores, from the smallest on, is the correction: ceil((n + 1) coverage)."""
    return max(1, math.ceil(round((n + 1) * coverage, 9)))  # 100 * 0.55 is a bit more than 55


def min_calibration_samples(coverage: float) -> int:
    """Return the fewest scores among which there is such a one: n >= coverage / (1 - coverage)."""
    return max(1, math.ceil(round(coverage / (1 - coverage), 9)))


def cv_plus_interval(band: PredictionBand, scores: Sequence[Array], coverage: float) -> Array:
    """Return the intervals of several models that have each been measured on a fold of its own.

    CV+ (Barber et al. 2021, section 3.1): with the band [m_k, h_k, u_k] of model k, and the score
    s_i of each row i by the model k(i) that has held it out, the upper end for x is the
    ceil((n + 1) coverage)-th smallest of all ``m_k(i)(x) + h_k(i)(x) + s_i u_k(i)(x)``, and the
    lower end likewise from below. Of one model it is split conformal prediction.

    Memory is that of a few numbers for each model and new row, whatever n is: how many of the n
    numbers are below some value is known by looking that up among the sorted scores of each model.

    Parameters
    ----------
    band : Band
        Of each model for new rows: arrays of shape (n_models, n_new), or floats.
    scores : sequence of arrays of shape (n_k,)
        Those of each model's fold, in ascending order.
    coverage : float
        The share of the targets that are to lie inside, in (0, 1).

    Returns
    -------
    intervals : array of shape (n_new, 2)
        Both ends. Where they would be in the wrong order, both are the mean of these.

    References
    ----------
    Barber, R. F., Candès, E. J., Ramdas, A. & Tibshirani, R. J. (2021). Predictive inference with
    the jackknife+. Annals of Statistics 49(1), 486-507.
    """
    rank = conformal_quantile_rank(sum(map(len, scores)), coverage)
    unit = np.broadcast_to(band.unit, band.middle.shape)
    upper = _smallest(band.middle + band.half_width, unit, scores, rank)
    lower = -_smallest(band.half_width - band.middle, unit, scores, rank)
    in_order = lower <= upper
    middle = lower + (upper - lower) / 2
    return np.stack([np.where(in_order, lower, middle), np.where(in_order, upper, middle)], axis=-1)


def _smallest(start: Array, unit: Array, scores: Sequence[Array], rank: int) -> Array:
    """Return the rank-th smallest of all ``start + unit * score`` for each new row.

    It is found by halving an interval that holds it; what is returned is never below it.
    """
    n = sum(map(len, scores))
    filled = [k for k, fold in enumerate(scores) if len(fold)]
    # The number of the same rank among those of one model alone: not all of them are below the one
    # that is sought, nor are all above it.
    own_ranks = [math.ceil(rank * len(scores[k]) / n) for k in filled]
    own = [scores[k][rank - 1] for k, rank in zip(filled, own_ranks, strict=True)]
    ends = start[filled] + unit[filled] * np.array(own)[:, None]
    low, high = ends.min(axis=0), ends.max(axis=0)
    for _ in range(_N_HALVES):
        middle = low + (high - low) / 2
        n_up_to = np.zeros(len(middle), dtype=np.intp)
        for k in filled:
            n_up_to += np.searchsorted(scores[k], (middle - start[k]) / unit[k], side="right")
        is_enough = n_up_to >= rank
        high, low = np.where(is_enough, middle, high), np.where(is_enough, low, middle)
    return np.asarray(high)
