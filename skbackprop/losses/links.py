"""Links, the inverse of which turns the raw scores of the last layer into predictions.

A link belongs to the loss that is computed from the same scores, so prediction and gradient
cannot disagree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.special import expit

from ..utils.arrays import Array


class Link:
    """What turns scores into predictions.

    Attributes
    ----------
    name : str or list of str
        The name that estimators show as ``out_activation_``.
    """

    name: str | list[str]

    def inverse(self, scores: Array, out: Array) -> None:
        """Write the predictions (means, probabilities) to `out`, which may be `scores`."""
        raise NotImplementedError(f"{type(self).__name__} has no inverse(scores, out)")

    def log_inverse(self, scores: Array) -> Array:
        """Return the logarithm of the predictions, finite where they would round to zero."""
        raise NotImplementedError(f"{type(self).__name__} has no log_inverse(scores)")

    def scores_of(self, predictions: Array) -> Array:
        """Return scores that have these predictions, finite at the ends of their range as well.

        They are in double precision.
        """
        raise NotImplementedError(f"{type(self).__name__} has no scores_of(predictions)")

    def average_predictions(self, scores: Array) -> Array:
        """Return the scores whose prediction is the mean of the members' predictions.

        Parameters
        ----------
        scores : array of shape (n_estimators, n, k)
            The scores of each member.

        Returns
        -------
        pooled : array of shape (n, k)
            In the dtype of `scores`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no average_predictions(scores)")

    def average_predictions_backward(self, scores: Array, delta: Array) -> Array:
        """Return d loss / d score of each member, given d loss / d pooled score.

        Parameters
        ----------
        scores : array of shape (n_estimators, n, k)
            The scores of each member.
        delta : array of shape (n, k)
            The derivatives by what `pool` makes of them.

        Returns
        -------
        deltas : array of shape (n_estimators, n, k)
        """
        raise NotImplementedError(
            f"{type(self).__name__} has no average_predictions_backward(scores, delta)"
        )

    def backward(self, mean: Array, delta: Array) -> None:
        """Turn d loss / d prediction, `delta`, into d loss / d score, in place."""
        raise NotImplementedError(f"{type(self).__name__} has no backward(mean, delta)")

    def out_activation(self, scores: Array) -> Array:
        """Return the log-partition A(scores), the gradient of which is the prediction.

        The result has the shape of `scores`, or a last axis of one where all outputs of a
        row share one normalizer. Only links of the exponential family have it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no out_activation(scores)")


class IdentityLink(Link):
    """Predictions are the scores."""

    name = "identity"

    def inverse(self, scores: Array, out: Array) -> None:
        if out is not scores:
            np.copyto(out, scores)

    def scores_of(self, predictions: Array) -> Array:
        return predictions.astype(np.float64)

    def average_predictions(self, scores: Array) -> Array:
        return np.asarray(scores.mean(axis=0))

    def average_predictions_backward(self, scores: Array, delta: Array) -> Array:
        return np.repeat(delta[None] / len(scores), len(scores), axis=0)

    def backward(self, mean: Array, delta: Array) -> None:
        pass


class LogLink(Link):
    """Predictions exp(s): positive, and finite since s is clipped to what exp can hold.

    The bounds are about half the logarithm of the largest number, so that products and
    quotients of two predictions are finite as well.
    """

    name = "exp"

    def inverse(self, scores: Array, out: Array) -> None:
        self.clip(scores, out)
        np.exp(out, out=out)

    def clip(self, scores: Array, out: Array) -> None:
        """Write the scores, brought within the bounds, to `out`."""
        bound = max_exp_argument(scores.dtype)
        np.clip(scores, -bound, bound, out=out)

    def scores_of(self, predictions: Array) -> Array:
        return _log(predictions)

    def average_predictions(self, scores: Array) -> Array:
        inside = np.empty_like(scores)
        self.clip(scores, inside)
        return _log_mean_exp(inside)

    def average_predictions_backward(self, scores: Array, delta: Array) -> Array:
        inside = np.empty_like(scores)
        self.clip(scores, inside)
        return np.asarray(delta * _shares(inside) * (inside == scores))

    def backward(self, mean: Array, delta: Array) -> None:
        np.multiply(delta, mean, out=delta)

    def out_activation(self, scores: Array) -> Array:
        # Beyond the bounds, where the prediction is constant, it goes on along its tangent.
        inside = np.empty_like(scores)
        self.clip(scores, inside)
        beyond = scores - inside
        np.exp(inside, out=inside)
        return np.asarray(inside * (1 + beyond))


@cache
def max_exp_argument(dtype: np.dtype[Any]) -> float:
    """Return the largest score, up or down, that the exponential link lets through."""
    return (float(np.log(np.finfo(dtype).max)) - 1) / 2


class LogitLink(Link):
    """Predictions 1 / (1 + exp(-s)), each output for itself."""

    name = "logistic"

    def inverse(self, scores: Array, out: Array) -> None:
        expit(scores, out=out)

    def scores_of(self, predictions: Array) -> Array:
        return _log(predictions) - _log(1 - predictions)

    def average_predictions(self, scores: Array) -> Array:
        # The log odds of the mean, from logarithms of both probabilities: 1 - p would round.
        mean, rest = (_log_mean_exp(self.log_inverse(s)) for s in (scores, -scores))
        return mean - rest

    def average_predictions_backward(self, scores: Array, delta: Array) -> Array:
        # By a member's score s: log p has the derivative 1 - p, log(1 - p) has -p.
        shares, of_rest = (_shares(self.log_inverse(s)) for s in (scores, -scores))
        return np.asarray(delta * (shares * expit(-scores) + of_rest * expit(scores)))

    def log_inverse(self, scores: Array) -> Array:
        return -self.out_activation(-scores)

    def backward(self, mean: Array, delta: Array) -> None:
        np.multiply(delta, mean, out=delta)
        np.multiply(delta, 1 - mean, out=delta)

    def out_activation(self, scores: Array) -> Array:
        # log(1 + exp(s)) = max(s, 0) + log(1 + exp(-|s|)), which never overflows.
        tail = np.log1p(np.exp(-np.abs(scores)))
        return np.asarray(np.maximum(scores, 0) + tail)


class SoftmaxLink(Link):
    """Predictions exp(s_k) / sum_j exp(s_j) over the outputs of a row."""

    name = "softmax"

    def inverse(self, scores: Array, out: Array) -> None:
        if scores.shape[-1] > _FEW:
            np.subtract(scores, scores.max(axis=-1, keepdims=True), out=out)
            np.exp(out, out=out)
            np.divide(out, out.sum(axis=-1, keepdims=True), out=out)
            return
        p = _outputs_first(scores)
        np.subtract(p, p.max(axis=0), out=p)
        np.exp(p, out=p)
        np.divide(p, p.sum(axis=0), out=p)
        np.copyto(out, p.transpose(*range(1, p.ndim), 0))

    def scores_of(self, predictions: Array) -> Array:
        return _log(predictions)

    def average_predictions(self, scores: Array) -> Array:
        return _log_mean_exp(self.log_inverse(scores))

    def average_predictions_backward(self, scores: Array, delta: Array) -> Array:
        # By the scores s_j of a member: log p_k has the derivative -p_j, plus 1 where j is k.
        log_p = self.log_inverse(scores)
        deltas = delta * _shares(log_p)
        return np.asarray(deltas - np.exp(log_p) * deltas.sum(axis=-1, keepdims=True))

    def log_inverse(self, scores: Array) -> Array:
        # Of large scores, the differences have digits that their normalizer has no room for.
        below = scores - scores.max(axis=-1, keepdims=True)
        return np.asarray(below - self.out_activation(below))

    def backward(self, mean: Array, delta: Array) -> None:
        # The Jacobian of softmax is diag(p) - p p'.
        np.subtract(delta, (delta * mean).sum(axis=-1, keepdims=True), out=delta)
        np.multiply(delta, mean, out=delta)

    def out_activation(self, scores: Array) -> Array:
        if scores.shape[-1] > _FEW:
            largest = scores.max(axis=-1, keepdims=True)
            total = np.exp(scores - largest).sum(axis=-1, keepdims=True)
            return np.asarray(largest + np.log(total))
        s = _outputs_first(scores)
        largest = s.max(axis=0)
        np.subtract(s, largest, out=s)
        np.exp(s, out=s)
        return np.asarray(largest + np.log(s.sum(axis=0)))[..., None]


class TanhLink(Link):
    """Predictions tanh(s), each output for itself."""

    name = "tanh"

    def inverse(self, scores: Array, out: Array) -> None:
        np.tanh(scores, out=out)

    def scores_of(self, predictions: Array) -> Array:
        values = predictions.astype(np.float64)
        largest = 1 - np.finfo(np.float64).epsneg
        return np.asarray(np.arctanh(np.clip(values, -largest, largest)))

    def average_predictions(self, scores: Array) -> Array:
        return np.asarray(self.scores_of(np.tanh(scores).mean(axis=0)), scores.dtype)

    def average_predictions_backward(self, scores: Array, delta: Array) -> Array:
        each = np.tanh(scores)
        mean = np.tanh(self.scores_of(each.mean(axis=0)))
        rise = (1 - each**2) / np.maximum(1 - mean**2, np.finfo(np.float64).epsneg)
        return np.asarray(delta / len(scores) * rise, scores.dtype)

    def backward(self, mean: Array, delta: Array) -> None:
        np.multiply(delta, 1 - mean**2, out=delta)


class ReluLink(Link):
    """Predictions max(s, 0), each output for itself."""

    name = "relu"

    def inverse(self, scores: Array, out: Array) -> None:
        np.maximum(scores, 0, out=out)

    def scores_of(self, predictions: Array) -> Array:
        return predictions.astype(np.float64)

    def average_predictions(self, scores: Array) -> Array:
        return np.asarray(np.maximum(scores, 0).mean(axis=0))

    def average_predictions_backward(self, scores: Array, delta: Array) -> Array:
        return np.asarray(delta / len(scores) * (scores > 0))

    def backward(self, mean: Array, delta: Array) -> None:
        np.multiply(delta, mean > 0, out=delta)


@dataclass(frozen=True)
class NonCrossingQuantileLink(Link):
    """Predictions q_1 = s_1, q_j = q_{j-1} + log(1 + exp(s_j)): in order, whatever the scores.

    Parameters
    ----------
    n : int
        The number of predictions for each target, which stand side by side.
    """

    n: int
    name = "ordered"

    def inverse(self, scores: Array, out: Array) -> None:
        if out is not scores:
            np.copyto(out, scores)
        q = unflatten_last_axis(out, self.n)
        q[..., 1:] = LOGIT_LINK.out_activation(q[..., 1:])
        np.cumsum(q, axis=-1, out=q)

    def average_predictions(self, scores: Array) -> Array:
        s = unflatten_last_axis(scores, self.n)
        pooled = s.mean(axis=0)
        pooled[..., 1:] = self._of_steps(LOGIT_LINK.out_activation(s[..., 1:]).mean(axis=0))
        return np.asarray(pooled.reshape(scores.shape[1:]))

    def scores_of(self, predictions: Array) -> Array:
        scores = predictions.astype(np.float64)
        q = unflatten_last_axis(scores, self.n)
        q[..., 1:] = self._of_steps(np.diff(q, axis=-1))
        return scores

    @staticmethod
    def _of_steps(steps: Array) -> Array:
        """Return log(exp(step) - 1), of a tiny step in place of none."""
        steps = np.maximum(steps, np.finfo(steps.dtype).tiny)
        return np.asarray(steps + np.log(-np.expm1(-steps)))

    def backward(self, mean: Array, delta: Array) -> None:
        q, d = unflatten_last_axis(mean, self.n), unflatten_last_axis(delta, self.n)
        # A score moves its own prediction and all above it.
        np.cumsum(d[..., ::-1], axis=-1, out=d[..., ::-1])
        d[..., 1:] *= -np.expm1(q[..., :-1] - q[..., 1:])


@dataclass(frozen=True)
class GaussianLink(Link):
    """Two predictions for each target, side by side: the mean s_1, the variance floor + exp(s_2).

    Parameters
    ----------
    floor : float
        The least variance, positive.
    """

    floor: float
    name = "mean_variance"

    def inverse(self, scores: Array, out: Array) -> None:
        if out is not scores:
            np.copyto(out, scores)
        variance = unflatten_last_axis(out, 2)[..., 1]
        LOG_LINK.inverse(variance, variance)
        variance += self.floor

    def scores_of(self, predictions: Array) -> Array:
        scores = predictions.astype(np.float64)
        variance = unflatten_last_axis(scores, 2)[..., 1]
        variance[...] = _log(variance - self.floor)
        return scores

    def log_variance(self, scores: Array) -> Array:
        """Return log(floor + exp(s)) of the second scores, which no score makes overflow."""
        return np.asarray(np.logaddexp(scores, math.log(self.floor), dtype=scores.dtype))

    def average_predictions(self, scores: Array) -> Array:
        """Return the scores of mean and variance of the mixture of all members.

        The variance is the mean of the variances and the variance of the means
        (Lakshminarayanan et al. 2017, section 2.4).
        """
        means, s = unflatten_last_axis(scores, 2)[..., 0], unflatten_last_axis(scores, 2)[..., 1]
        disagreement = means.var(axis=0)
        with np.errstate(divide="ignore"):
            spread = np.log(disagreement)
        pooled = np.stack(
            [means.mean(axis=0), np.logaddexp(LOG_LINK.average_predictions(s), spread)], axis=-1
        )
        return np.asarray(pooled.reshape(scores.shape[1:]), scores.dtype)

    def backward(self, mean: Array, delta: Array) -> None:
        unflatten_last_axis(delta, 2)[..., 1] *= unflatten_last_axis(mean, 2)[..., 1] - self.floor


def unflatten_last_axis(array: Array, n: int) -> Array:
    """Return a view of shape (..., k, n) of an array of shape (..., k * n)."""
    return array.reshape(*array.shape[:-1], -1, n)


# NumPy reduces a short last axis row by row, and the first axis many rows at a time: up to so
# many outputs, turning the array costs less than that.
_FEW = 32


def _outputs_first(scores: Array) -> Array:
    """Return a copy of shape (k, n_estimators, n), contiguous."""
    last = scores.ndim - 1
    return np.array(scores.transpose(last, *range(last)), order="C")


def _log(predictions: Array) -> Array:
    """Return logarithms in double precision, finite at zero and below."""
    values = predictions.astype(np.float64)
    return np.asarray(np.log(np.maximum(values, np.finfo(np.float64).tiny)))


def _log_mean_exp(values: Array) -> Array:
    """Return log(mean(exp(values))) over the first axis, without overflow."""
    largest = values.max(axis=0)
    return np.asarray(largest + np.log(np.exp(values - largest).mean(axis=0)))


def _shares(logarithms: Array) -> Array:
    """Return the share of each in the sum of exp(logarithms) over the first axis."""
    shares = np.exp(logarithms - logarithms.max(axis=0))
    return np.asarray(shares / shares.sum(axis=0))


IDENTITY_LINK = IdentityLink()
LOG_LINK = LogLink()
LOGIT_LINK = LogitLink()
SOFTMAX_LINK = SoftmaxLink()

OUTPUT_ACTIVATIONS: dict[str, Link] = {
    "identity": IDENTITY_LINK,
    "exp": LOG_LINK,
    "logistic": LOGIT_LINK,
    "softmax": SOFTMAX_LINK,
    "tanh": TanhLink(),
    "relu": ReluLink(),
}
"""The links that scikit-learn's networks may be given as ``out_activation_``, by name."""
