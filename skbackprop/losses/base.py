"""Base classes of losses, and the constant that minimizes a loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from scipy import optimize

from ..utils.arrays import Array
from ..utils.config import Configurable, check_in_place
from .links import Link


class Loss(Configurable):
    """The loss of one row as a function of its scores s and targets y.

    Scores and targets have one shape: a loss that takes several scores for a target finds the
    target beside each of them, as often as it has scores.

    One's own needs `link`, `value` and `gradient`. What follows them is for the regressor, and
    has a default that suits a loss of one score for each target.

    Attributes
    ----------
    link : Link
        The link whose inverse turns scores into predictions.
    target_minimum : float, default=-inf
        The smallest target that the loss is defined for.
    includes_minimum : bool, default=True
        Whether it is defined for that target itself.
    target_maximum : float, default=inf
        The largest target that it is defined for.
    scores_per_target : int, default=1
        The number of scores for each target, which stand side by side.
    average_over_outputs : bool, default=True
        Whether the loss that training reports, and compares with ``tol``, is the mean over the
        targets of a row, so that it has one size for any number of them. What is minimised is
        their sum in any case.
    predicted : slice, default=slice(None)
        Which of the link's predictions `predict` returns; by default all of them.
    """

    target_minimum: ClassVar[float] = -np.inf
    includes_minimum: ClassVar[bool] = True
    target_maximum: ClassVar[float] = np.inf
    average_over_outputs: ClassVar[bool] = True
    predicted: ClassVar[slice] = slice(None)

    @property
    def link(self) -> Link:
        raise NotImplementedError(f"{type(self).__name__} has to define its link")

    def value(self, scores: Array, y: Array) -> Array:
        """Return the loss of each row, summed over its outputs: shape (n_estimators, n)."""
        raise NotImplementedError(f"{type(self).__name__} has to define value(scores, y)")

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        """Write d value / d scores to `out`, which may be `scores`.

        A single network trains without the member axis: then all three have shape (n, k).
        """
        raise NotImplementedError(f"{type(self).__name__} has to define gradient(scores, y, out)")

    @property
    def n_outputs_per_target(self) -> int:
        return 1

    def predict(self, scores: Array) -> Array:
        """Return the predictions of k targets: shape (n, k), or (n, k, c) for c of each."""
        predictions = np.empty_like(scores)
        result: object = self.link.inverse(scores, predictions)  # type: ignore[func-returns-value]
        check_in_place(self.link, "inverse(scores, out)", "out", result, predictions)
        return predictions

    def deviation(self, scores: Array) -> Array | None:
        """Return the standard deviation of each target, of shape (n, k); None if not learned."""
        return None

    def fit_intercept_only(self, y: Array, weight: Array | None) -> Array:
        """Return the scores of the constant that predicts one target best.

        By default they are sought numerically, which takes a smooth loss.

        Parameters
        ----------
        y : float64 array of shape (n,)
            The target.
        weight : array of shape (n,) or None
            The weight of each row; None for equal weights.

        Returns
        -------
        scores : array of shape (scores_per_target,)
        """
        each = self.n_outputs_per_target
        targets = np.repeat(y[:, None], each, axis=1)[None]

        def value_and_gradient(constant: Array) -> tuple[float, Array]:
            scores = np.tile(constant, (1, len(y), 1))
            value = np.average(self.value(scores, targets)[0], weights=weight)
            self.gradient(scores, targets, scores)
            return value, np.average(scores[0], axis=0, weights=weight)

        return minimize_scalar_per_output(value_and_gradient, each)

    def score(self, scores: Array, y: Array, weight: Array | None) -> float:
        """Return how much of the loss of the best constant the scores have done away with.

        It is D2 = 1 - loss / loss of the constant (Hastie, Tibshirani & Wainwright 2015,
        equation 3.11), a mean over the targets: one at best, zero for the constant, and zero
        where a target is constant itself and not met. For the squared error it is R2.

        Parameters
        ----------
        scores, y : arrays of shape (n, k)
            Scores and targets.
        weight : array of shape (n,) or None
            The weight of each row; None for equal weights.
        """
        each = self.n_outputs_per_target
        columns = [slice(start, start + each) for start in range(0, y.shape[1], each)]
        return float(np.mean([self._score_of_one(scores[:, c], y[:, c], weight) for c in columns]))

    def _score_of_one(self, scores: Array, y: Array, weight: Array | None) -> float:
        if weight is not None:  # rows that do not count, however far off
            counted = weight > 0
            scores, y, weight = scores[counted], y[counted], weight[counted]
        y = y.astype(np.float64)
        constant = np.broadcast_to(self.fit_intercept_only(y[:, 0], weight), y.shape)
        loss, baseline = (
            float(np.average(self.value(each[None], y[None])[0], weights=weight))
            for each in (scores.astype(np.float64), constant)
        )
        if (y[:, 0] == y[0, 0]).all():
            return float(loss <= baseline)
        return self.d2_score(loss, baseline)

    def d2_score(self, loss: float, baseline: float) -> float:
        """Return the score of a mean loss, given that of the best constant."""
        return (baseline - loss) / (abs(baseline) or 1.0)


class CanonicalLinkLoss(Loss):
    """A loss whose link is canonical: its gradient is the prediction minus the target.

    The negative log likelihood A(s) - y s of an exponential family with log-partition A has
    the gradient A'(s) - y (McCullagh & Nelder 1989, section 2.2).
    """

    def value(self, scores: Array, y: Array) -> Array:
        normalizer = self.link.out_activation(scores).sum(axis=-1)
        # Of short rows, einsum adds up products several times as fast as a sum over the last axis.
        return np.asarray(normalizer - np.einsum("...k,...k->...", y, scores))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        result: object = self.link.inverse(scores, out)  # type: ignore[func-returns-value]
        check_in_place(self.link, "inverse(scores, out)", "out", result, out)
        np.subtract(out, y, out=out)


def can_be_scaled(loss: Loss) -> bool:
    """Return whether a loss takes targets in other units: it is for all, or for y >= 0."""
    return loss.target_minimum in (0, -np.inf) and loss.target_maximum == np.inf


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


def root_of_gradient(slope: Callable[[Array], Array], y: Array, weight: Array | None) -> float:
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


def minimize_scalar_per_output(
    value_and_gradient: Callable[[Array], tuple[float, Array]], n: int
) -> Array:
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
