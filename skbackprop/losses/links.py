"""Link functions, whose inverses turn raw predictions into predictions.

A link belongs to a loss of the same raw predictions, so that prediction and gradient agree.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from scipy.special import expit, softmax

from ..utils.arrays import Array


class Link:
    """Function from predictions to raw predictions, with its inverse and their derivatives.

    Attributes
    ----------
    name : str
        The name that estimators show as ``out_activation_``.
    """

    name: str

    def inverse(self, raw_prediction: Array, out: Array) -> None:
        """Write the predictions to `out`, which may be `raw_prediction`."""
        raise NotImplementedError(f"{type(self).__name__} must define inverse(...)")

    def inverse_backward(self, predictions: Array, delta: Array) -> None:
        """Multiply `delta` in place: from d loss / d prediction to d loss / d raw prediction."""
        raise NotImplementedError(f"{type(self).__name__} must define inverse_backward(...)")

    def log_inverse(self, raw_prediction: Array) -> Array:
        """Return the logarithms of the predictions, finite even where predictions are zero."""
        raise NotImplementedError(f"{type(self).__name__} must define log_inverse(...)")

    def link(self, predictions: Array) -> Array:
        """Return the float64 raw predictions of predictions, finite at the ends of their range."""
        raise NotImplementedError(f"{type(self).__name__} must define link(...)")

    def log_partition(self, raw_prediction: Array) -> Array:
        """Return the log-partition function, whose gradient is the prediction.

        The result has the shape of `raw_prediction`, or a last axis of 1 if all outputs of a row
        share one normalization. Only canonical links of exponential families define it.
        """
        raise NotImplementedError(f"{type(self).__name__} must define log_partition(...)")

    def average_predictions(self, raw_prediction: Array) -> Array:
        """Return the raw prediction of the ensemble, whose prediction is the members' mean.

        Parameters
        ----------
        raw_prediction : array of shape (n_estimators, n, k)
            The raw predictions of each member.

        Returns
        -------
        averaged : array of shape (n, k)
            In the dtype of `raw_prediction`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define average_predictions(...)")

    def average_predictions_backward(self, raw_prediction: Array, delta: Array) -> Array:
        """Return d loss / d raw prediction of each member.

        Parameters
        ----------
        raw_prediction : array of shape (n_estimators, n, k)
            The raw predictions of each member.
        delta : array of shape (n, k)
            The derivatives with respect to the result of `average_predictions`.

        Returns
        -------
        deltas : array of shape (n_estimators, n, k)
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define average_predictions_backward(...)"
        )


class IdentityLink(Link):
    """Predictions are the raw predictions."""

    name = "identity"

    def inverse(self, raw_prediction: Array, out: Array) -> None:
        if out is not raw_prediction:
            np.copyto(out, raw_prediction)

    def inverse_backward(self, predictions: Array, delta: Array) -> None:
        pass

    def link(self, predictions: Array) -> Array:
        return predictions.astype(np.float64)

    def average_predictions(self, raw_prediction: Array) -> Array:
        return np.asarray(raw_prediction.mean(axis=0))

    def average_predictions_backward(self, raw_prediction: Array, delta: Array) -> Array:
        return np.repeat(delta[None] / len(raw_prediction), len(raw_prediction), axis=0)


class LogLink(Link):
    """Predictions exp(s): positive, and finite because s is clipped.

    The bounds are about half the logarithm of the largest float, so that products and quotients
    of two predictions are finite too.
    """

    name = "exp"

    def clip(self, raw_prediction: Array, out: Array | None = None) -> Array:
        """Return the raw predictions, clipped to the bounds; written to `out` if it is given."""
        bound = max_exp_argument(raw_prediction.dtype)
        return np.clip(raw_prediction, -bound, bound, out=out)

    def inverse(self, raw_prediction: Array, out: Array) -> None:
        np.exp(self.clip(raw_prediction, out), out=out)

    def inverse_backward(self, predictions: Array, delta: Array) -> None:
        np.multiply(delta, predictions, out=delta)

    def link(self, predictions: Array) -> Array:
        return _finite_log(predictions)

    def log_partition(self, raw_prediction: Array) -> Array:
        # Where the raw prediction is clipped, it continues along its tangent.
        clipped = self.clip(raw_prediction)
        excess = raw_prediction - clipped
        return np.asarray(np.exp(clipped, out=clipped) * (1 + excess))

    def average_predictions(self, raw_prediction: Array) -> Array:
        return _log_mean_exp(self.clip(raw_prediction))

    def average_predictions_backward(self, raw_prediction: Array, delta: Array) -> Array:
        clipped = self.clip(raw_prediction)
        return np.asarray(delta * softmax(clipped, axis=0) * (clipped == raw_prediction))


@cache
def max_exp_argument(dtype: np.dtype[Any]) -> float:
    """Return the bound to whose range `LogLink` clips raw predictions."""
    return (float(np.log(np.finfo(dtype).max)) - 1) / 2


class LogitLink(Link):
    """Predictions 1 / (1 + exp(-s)) of each output."""

    name = "logistic"

    def inverse(self, raw_prediction: Array, out: Array) -> None:
        expit(raw_prediction, out=out)

    def inverse_backward(self, predictions: Array, delta: Array) -> None:
        np.multiply(delta, predictions, out=delta)
        np.multiply(delta, 1 - predictions, out=delta)

    def log_inverse(self, raw_prediction: Array) -> Array:
        return -self.log_partition(-raw_prediction)

    def link(self, predictions: Array) -> Array:
        return _finite_log(predictions) - _finite_log(1 - predictions)

    def log_partition(self, raw_prediction: Array) -> Array:
        # log(1 + exp(s)) = max(s, 0) + log(1 + exp(-|s|)) does not overflow.
        tail = np.log1p(np.exp(-np.abs(raw_prediction)))
        return np.asarray(np.maximum(raw_prediction, 0) + tail)

    def average_predictions(self, raw_prediction: Array) -> Array:
        # The log-odds of the mean, from log p and log(1 - p), because 1 - p loses digits.
        log_p, log_rest = (
            _log_mean_exp(self.log_inverse(s)) for s in (raw_prediction, -raw_prediction)
        )
        return log_p - log_rest

    def average_predictions_backward(self, raw_prediction: Array, delta: Array) -> Array:
        # The derivative of log p with respect to s is 1 - p, that of log(1 - p) is -p.
        of_p, of_rest = (
            softmax(self.log_inverse(s), axis=0) for s in (raw_prediction, -raw_prediction)
        )
        return np.asarray(delta * (of_p * expit(-raw_prediction) + of_rest * expit(raw_prediction)))


# NumPy reduces a short last axis row by row, but the first axis many rows at a time. Up to this
# number of outputs, transposing the array pays off.
_MAX_TRANSPOSED_OUTPUTS = 32


class SoftmaxLink(Link):
    """Predictions exp(s_k) / sum_j exp(s_j) over the outputs of a row."""

    name = "softmax"

    def inverse(self, raw_prediction: Array, out: Array) -> None:
        if raw_prediction.shape[-1] > _MAX_TRANSPOSED_OUTPUTS:
            np.subtract(raw_prediction, raw_prediction.max(axis=-1, keepdims=True), out=out)
            np.exp(out, out=out)
            np.divide(out, out.sum(axis=-1, keepdims=True), out=out)
            return
        p = _copy_outputs_first(raw_prediction)
        np.subtract(p, p.max(axis=0), out=p)
        np.exp(p, out=p)
        np.divide(p, p.sum(axis=0), out=p)
        np.copyto(out, p.transpose(*range(1, p.ndim), 0))

    def inverse_backward(self, predictions: Array, delta: Array) -> None:
        # The Jacobian of softmax is diag(p) - p p'.
        np.subtract(delta, (delta * predictions).sum(axis=-1, keepdims=True), out=delta)
        np.multiply(delta, predictions, out=delta)

    def log_inverse(self, raw_prediction: Array) -> Array:
        # Subtracting the maximum first keeps the digits of differences of large raw predictions.
        shifted = raw_prediction - raw_prediction.max(axis=-1, keepdims=True)
        return np.asarray(shifted - self.log_partition(shifted))

    def link(self, predictions: Array) -> Array:
        return _finite_log(predictions)

    def log_partition(self, raw_prediction: Array) -> Array:
        if raw_prediction.shape[-1] > _MAX_TRANSPOSED_OUTPUTS:
            largest = raw_prediction.max(axis=-1, keepdims=True)
            total = np.exp(raw_prediction - largest).sum(axis=-1, keepdims=True)
            return np.asarray(largest + np.log(total))
        s = _copy_outputs_first(raw_prediction)
        largest = s.max(axis=0)
        np.subtract(s, largest, out=s)
        np.exp(s, out=s)
        return np.asarray(largest + np.log(s.sum(axis=0)))[..., None]

    def average_predictions(self, raw_prediction: Array) -> Array:
        return _log_mean_exp(self.log_inverse(raw_prediction))

    def average_predictions_backward(self, raw_prediction: Array, delta: Array) -> Array:
        # The derivative of log p_k with respect to s_j is -p_j, plus 1 if j is k.
        log_p = self.log_inverse(raw_prediction)
        deltas = delta * softmax(log_p, axis=0)
        return np.asarray(deltas - np.exp(log_p) * deltas.sum(axis=-1, keepdims=True))


def _copy_outputs_first(raw_prediction: Array) -> Array:
    """Return a contiguous copy with the outputs on the first axis."""
    last = raw_prediction.ndim - 1
    return np.array(raw_prediction.transpose(last, *range(last)), order="C")


@dataclass(frozen=True)
class NonCrossingQuantileLink(Link):
    """Predictions q_1 = s_1 and q_j = q_{j-1} + log(1 + exp(s_j)), in ascending order.

    Parameters
    ----------
    n : int
        The number of predictions per target. They are adjacent columns.
    """

    n: int
    name = "ordered"

    def inverse(self, raw_prediction: Array, out: Array) -> None:
        if out is not raw_prediction:
            np.copyto(out, raw_prediction)
        q = unflatten_last_axis(out, self.n)
        q[..., 1:] = LOGIT_LINK.log_partition(q[..., 1:])
        np.cumsum(q, axis=-1, out=q)

    def inverse_backward(self, predictions: Array, delta: Array) -> None:
        q, d = unflatten_last_axis(predictions, self.n), unflatten_last_axis(delta, self.n)
        # A raw prediction moves its own quantile and all higher ones.
        np.cumsum(d[..., ::-1], axis=-1, out=d[..., ::-1])
        d[..., 1:] *= -np.expm1(q[..., :-1] - q[..., 1:])

    def link(self, predictions: Array) -> Array:
        raw_prediction = predictions.astype(np.float64)
        q = unflatten_last_axis(raw_prediction, self.n)
        q[..., 1:] = _inverse_softplus(np.diff(q, axis=-1))
        return raw_prediction

    def average_predictions(self, raw_prediction: Array) -> Array:
        s = unflatten_last_axis(raw_prediction, self.n)
        averaged = s.mean(axis=0)
        averaged[..., 1:] = _inverse_softplus(LOGIT_LINK.log_partition(s[..., 1:]).mean(axis=0))
        return np.asarray(averaged.reshape(raw_prediction.shape[1:]))


@dataclass(frozen=True)
class GaussianLink(Link):
    """Mean s_1 and variance floor + exp(s_2) of each target, in adjacent columns.

    Parameters
    ----------
    floor : float
        The smallest variance, positive.
    """

    floor: float
    name = "mean_variance"

    def inverse(self, raw_prediction: Array, out: Array) -> None:
        if out is not raw_prediction:
            np.copyto(out, raw_prediction)
        variance = unflatten_last_axis(out, 2)[..., 1]
        LOG_LINK.inverse(variance, variance)
        variance += self.floor

    def inverse_backward(self, predictions: Array, delta: Array) -> None:
        variance = unflatten_last_axis(predictions, 2)[..., 1]
        unflatten_last_axis(delta, 2)[..., 1] *= variance - self.floor

    def link(self, predictions: Array) -> Array:
        raw_prediction = predictions.astype(np.float64)
        variance = unflatten_last_axis(raw_prediction, 2)[..., 1]
        variance[...] = _finite_log(variance - self.floor)
        return raw_prediction

    def log_variance(self, raw_variance: Array) -> Array:
        """Return log(floor + exp(s_2)), which does not overflow."""
        log_floor = math.log(self.floor)
        return np.asarray(np.logaddexp(raw_variance, log_floor, dtype=raw_variance.dtype))

    def average_predictions(self, raw_prediction: Array) -> Array:
        """Return the raw prediction of mean and variance of the mixture of all members.

        The variance of the mixture is the mean of the variances plus the variance of the means
        (Lakshminarayanan et al. 2017, section 2.4).
        """
        means, raw_variance = np.moveaxis(unflatten_last_axis(raw_prediction, 2), -1, 0)
        with np.errstate(divide="ignore"):
            log_disagreement = np.log(means.var(axis=0))
        log_variance = np.logaddexp(LOG_LINK.average_predictions(raw_variance), log_disagreement)
        averaged = np.stack([means.mean(axis=0), log_variance], axis=-1)
        return np.asarray(averaged.reshape(raw_prediction.shape[1:]), raw_prediction.dtype)


def unflatten_last_axis(array: Array, n: int) -> Array:
    """Return a view of shape (..., k, n) of an array of shape (..., k * n)."""
    return array.reshape(*array.shape[:-1], -1, n)


def _finite_log(predictions: Array) -> Array:
    """Return float64 logarithms, finite for zero and negative numbers too."""
    values = predictions.astype(np.float64)
    return np.asarray(np.log(np.maximum(values, np.finfo(np.float64).tiny)))


def _log_mean_exp(values: Array) -> Array:
    """Return log(mean(exp(values))) over the first axis, without overflow."""
    largest = values.max(axis=0)
    return np.asarray(largest + np.log(np.exp(values - largest).mean(axis=0)))


def _inverse_softplus(values: Array) -> Array:
    """Return log(exp(values) - 1), finite for zero too."""
    values = np.maximum(values, np.finfo(values.dtype).tiny)
    return np.asarray(values + np.log(-np.expm1(-values)))


IDENTITY_LINK = IdentityLink()
LOG_LINK = LogLink()
LOGIT_LINK = LogitLink()
SOFTMAX_LINK = SoftmaxLink()
