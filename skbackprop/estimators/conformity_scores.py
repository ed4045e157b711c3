"""Conformity scores, and the intervals and sets of labels that they give.

The score of a held-out row measures its error relative to a band around the prediction, or by the
probability of its label. Bands and sets for new rows are as large as the scores of most held-out
rows, which are those of one model (split conformal prediction), or of several models with a fold
each (CV+).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any, NamedTuple, Self

import numpy as np

from ..utils.arrays import Array

# Number of bisection steps to find an end of a CV+ interval.
_N_BISECTIONS = 32

# The most ranges of predictions whose errors are averaged, and the fewest rows of each.
_MAX_RANGES, _MIN_ROWS = 8, 20
# The mean error of a range is shrunk toward that of all rows, which counts like so many rows.
_N_PRIOR_ROWS = 10


class ErrorScale(NamedTuple):
    """Mean absolute error as a function of the prediction, relative to that of all rows.

    Errors are averaged over ranges of predictions with about as many rows each. The function is
    linear between the mean predictions of two ranges, and constant beyond the first and the last.

    Parameters
    ----------
    predictions : array of shape (n_ranges,)
        The mean prediction of each range, in ascending order.
    errors : array of shape (n_ranges,)
        Its mean absolute error, shrunk toward that of all rows, and divided by it.

    References
    ----------
    Davidian, M. & Carroll, R. J. (1987). Variance function estimation. Journal of the American
    Statistical Association 82(400), 1079-1091.
    """

    predictions: Array
    errors: Array

    @classmethod
    def fit(cls, predictions: Array, errors: Array) -> Self:
        """Fit to the predictions of rows that were held out, and their absolute errors."""
        n_ranges = max(1, min(_MAX_RANGES, len(errors) // _MIN_ROWS))
        bounds = np.unique(np.quantile(predictions, np.linspace(0, 1, n_ranges + 1)[1:-1]))
        occupied, index, counts = np.unique(
            np.searchsorted(bounds, predictions), return_inverse=True, return_counts=True
        )
        means = np.bincount(index, predictions) / counts
        largest = errors.max()
        if not largest > 0:
            return cls(means, np.ones(len(occupied)))
        relative = errors / largest
        prior = relative.mean()
        sums = np.bincount(index, relative) + _N_PRIOR_ROWS * prior
        return cls(means, sums / (counts + _N_PRIOR_ROWS) / prior)

    def at(self, predictions: Array) -> Array:
        """Return the relative error at predictions of any shape."""
        return np.interp(predictions, self.predictions, self.errors)


class UncalibratedBand(NamedTuple):
    """Uncorrected prediction interval of each target, and the unit of its correction.

    With half-width 0, the score of a target is its distance from the center in units.

    Parameters
    ----------
    center : array
        The centers of the intervals.
    half_width : array or float
        Half the widths of the intervals.
    unit : array or float
        The distance by which a correction of 1 moves both ends.
    """

    center: Array
    half_width: Array | float
    unit: Array | float

    @classmethod
    def from_quantiles(cls, quantiles: Array) -> Self:
        """Return the band between the lowest and the highest quantile along the last axis.

        The score is max(low - y, y - high).
        """
        low, high = quantiles[..., 0], quantiles[..., -1]
        return cls((low + high) / 2, (high - low) / 2, 1.0)

    def conformity_scores(self, y: Array) -> Array:
        """Return the distance of each target from the band in units, negative inside."""
        return np.asarray((np.abs(y - self.center) - self.half_width) / self.unit)

    def expand(self, correction: Array | float) -> Array:
        """Return both ends on a new last axis, moved outward by a correction in units.

        A negative correction moves them inward, at most to the center.
        """
        half_width = np.maximum(self.half_width + correction * self.unit, 0)
        return np.stack([self.center - half_width, self.center + half_width], axis=-1)


def conformal_quantile_rank(n: int, coverage: float) -> int:
    """Return the rank of the correction among n scores, ceil((n + 1) coverage)."""
    return max(1, math.ceil(round((n + 1) * coverage, 9)))  # 100 * 0.55 is larger than 55


def min_calibration_samples(coverage: float) -> int:
    """Return the smallest n whose rank is at most n: n >= coverage / (1 - coverage)."""
    return max(1, math.ceil(round(coverage / (1 - coverage), 9)))


def check_coverage(coverage: Any, n_rows: int) -> None:
    """Check that a coverage is a number in (0, 1), and that there are enough held-out rows."""
    is_number = isinstance(coverage, Real) and not isinstance(coverage, bool)
    if not (is_number and 0 < coverage < 1):
        raise ValueError(f"coverage must be a number in the range (0, 1), got {coverage!r}.")
    n_min = min_calibration_samples(coverage)
    if n_rows < n_min:
        raise ValueError(
            f"coverage={coverage} needs at least {n_min} held-out rows with positive weight, but "
            f"there are n_samples={n_rows} of them. Use more rows, or a lower coverage."
        )


def cv_plus_interval(band: UncalibratedBand, scores: Sequence[Array], coverage: float) -> Array:
    """Return CV+ intervals of several models, each with the scores of its held-out fold.

    Let c_k, h_k and u_k be center, half-width and unit of model k, and s_i the score of row i by
    the model k(i) that has held it out. The upper end for x is the ceil((n + 1) coverage)-th
    smallest of all ``c_k(i)(x) + h_k(i)(x) + s_i u_k(i)(x)``, the lower end the corresponding
    largest of ``c_k(i)(x) - h_k(i)(x) - s_i u_k(i)(x)`` (Barber et al. 2021, section 3.1). With
    one model, this is split conformal prediction.

    The memory is proportional to models times new rows, and does not depend on n.

    Parameters
    ----------
    band : UncalibratedBand
        Bands of each model for the new rows: arrays of shape (n_models, n_new), or floats.
    scores : sequence of arrays of shape (n_k,)
        The scores of each model's fold, in ascending order.
    coverage : float
        The share of targets that the intervals contain, in (0, 1).

    Returns
    -------
    intervals : array of shape (n_new, 2)
        Lower and upper ends. If they are in the wrong order, both are replaced by their mean.

    References
    ----------
    Barber, R. F., Candès, E. J., Ramdas, A. & Tibshirani, R. J. (2021). Predictive inference with
    the jackknife+. Annals of Statistics 49(1), 486-507.
    """
    rank = conformal_quantile_rank(sum(map(len, scores)), coverage)
    unit = np.broadcast_to(band.unit, band.center.shape)
    upper = _kth_smallest(band.center + band.half_width, unit, scores, rank)
    lower = -_kth_smallest(band.half_width - band.center, unit, scores, rank)
    in_order = lower <= upper
    middle = lower + (upper - lower) / 2
    return np.stack([np.where(in_order, lower, middle), np.where(in_order, upper, middle)], axis=-1)


def _kth_smallest(start: Array, unit: Array, scores: Sequence[Array], rank: int) -> Array:
    """Return the rank-th smallest of all ``start + unit * score`` for each new row.

    It is found by bisection, and rounded up.
    """
    n = sum(map(len, scores))
    filled = [k for k, fold in enumerate(scores) if len(fold)]
    # The number with the same relative rank within each model: the smallest and the largest of
    # these enclose the result.
    fold_ranks = [math.ceil(rank * len(scores[k]) / n) for k in filled]
    fold_scores = [scores[k][rank - 1] for k, rank in zip(filled, fold_ranks, strict=True)]
    ends = start[filled] + unit[filled] * np.array(fold_scores)[:, None]
    low, high = ends.min(axis=0), ends.max(axis=0)
    for _ in range(_N_BISECTIONS):
        middle = low + (high - low) / 2
        n_up_to = np.zeros(len(middle), dtype=np.intp)
        for k in filled:
            n_up_to += np.searchsorted(scores[k], (middle - start[k]) / unit[k], side="right")
        is_enough = n_up_to >= rank
        high, low = np.where(is_enough, middle, high), np.where(is_enough, low, middle)
    return np.asarray(high)


LABEL_SCORES = "lac", "aps"


class LabelScores(NamedTuple):
    """Conformity scores of the labels of held-out rows, which determine sets of labels.

    The score of a label grows as its probability falls. "lac" is the negative probability (Sadinle
    et al. 2019). "aps" is the sum of the probabilities of all more probable labels (Romano et al.
    2020, without randomization).

    Parameters
    ----------
    kind : {"lac", "aps"}
        The conformity score.
    held_out : list of lists of arrays
        ``held_out[k][c]`` has the scores, in ascending order, of the rows of class c that model k
        has held out.
    """

    kind: str
    held_out: list[list[Array]]

    @classmethod
    def fit(cls, kind: str, folds: Iterable[tuple[Array, Array]]) -> Self:
        """Compute the scores from the probabilities and the classes of each model's fold."""
        held_out = []
        for probabilities, codes in folds:
            scores = _label_scores(kind, probabilities)
            classes = range(probabilities.shape[1])
            held_out.append([np.sort(scores[codes == label, label]) for label in classes])
        return cls(kind, held_out)

    @property
    def n_rows(self) -> int:
        """The number of held-out rows."""
        return sum(len(scores) for fold in self.held_out for scores in fold)

    def predict_sets(self, probabilities: Array, coverage: float, by_class: bool) -> Array:
        """Return the CV+ sets of new rows.

        A set contains label c if fewer than ceil((n + 1) coverage) of n held-out rows i have
        a smaller score than c has by the model that has held out row i.

        Parameters
        ----------
        probabilities : array of shape (n_models, n_new, n_classes)
            The probabilities by each model.
        coverage : float
            The share of new rows whose set contains their label, in (0, 1).
        by_class : bool
            Whether label c is compared with held-out rows of class c only.

        Returns
        -------
        sets : bool array of shape (n_new, n_classes)

        References
        ----------
        Romano, Y., Sesia, M. & Candès, E. (2020). Classification with valid and adaptive coverage.
        NeurIPS, section 2.3.
        """
        scores, held_out = _label_scores(self.kind, probabilities), self.held_out
        sets = np.empty_like(probabilities[0], dtype=bool)
        if not by_class:
            pooled = [np.sort(np.concatenate(fold), kind="stable") for fold in held_out]
            held_out = [[fold] * sets.shape[1] for fold in pooled]
        for label, folds in enumerate(zip(*held_out, strict=True)):
            pairs = zip(folds, scores[..., label], strict=True)
            n_smaller = sum(np.searchsorted(fold, values) for fold, values in pairs)
            sets[:, label] = n_smaller < conformal_quantile_rank(sum(map(len, folds)), coverage)
        return sets


def _label_scores(kind: str, probabilities: Array) -> Array:
    """Return the conformity score of each label, given probabilities (..., n_classes)."""
    if kind == "lac":
        return -probabilities
    order = np.argsort(-probabilities, axis=-1, kind="stable")
    scores = np.zeros_like(probabilities)
    sums = np.take_along_axis(probabilities, order, axis=-1)[..., :-1].cumsum(axis=-1)
    np.put_along_axis(scores, order[..., 1:], sums, axis=-1)
    return scores
