"""Losses, each a function of the raw scores of the last layer, and the links that they own.

A loss sees scores, never probabilities: it is computed by log-sum-exp and stays finite where
a probability would round to 0 or 1. The link (the inverse of which turns scores into
predictions) belongs to the loss, so prediction and gradient cannot disagree.

One class and one line in `CLASSIFIER_LOSSES` or `REGRESSOR_LOSSES` make a loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import expit, xlogy

from .arrays import Array

# ------------------------------------------------------------------------------- links


class Link:
    """What turns scores into predictions.

    Attributes
    ----------
    name : str
        The name that estimators show as ``out_activation_``.
    """

    name: ClassVar[str]

    def inverse(self, scores: Array, out: Array) -> None:
        """Write the predictions (means, probabilities) to `out`, which may be `scores`."""
        raise NotImplementedError(f"{type(self).__name__} has no inverse(scores, out)")

    def log_inverse(self, scores: Array) -> Array:
        """Return the logarithm of the predictions, finite where they would round to zero."""
        raise NotImplementedError(f"{type(self).__name__} has no log_inverse(scores)")

    def pool(self, scores: Array) -> Array:
        """Return the scores whose prediction is the mean of the members' predictions.

        Parameters
        ----------
        scores : array of shape (n_members, n, k)
            The scores of each member.

        Returns
        -------
        pooled : array of shape (n, k)
            In the dtype of `scores`.
        """
        raise NotImplementedError(f"{type(self).__name__} has no pool(scores)")

    def backward(self, mean: Array, delta: Array) -> None:
        """Turn d loss / d prediction, `delta`, into d loss / d score, in place."""
        raise NotImplementedError(f"{type(self).__name__} has no backward(mean, delta)")

    def normalizer(self, scores: Array) -> Array:
        """Return the log-partition A(scores), the gradient of which is the prediction.

        The result has the shape of `scores`, or a last axis of one where all outputs of a
        row share one normalizer. Only links of the exponential family have it.
        """
        raise NotImplementedError(f"{type(self).__name__} has no normalizer(scores)")


class IdentityLink(Link):
    """Predictions are the scores."""

    name = "identity"

    def inverse(self, scores: Array, out: Array) -> None:
        if out is not scores:
            np.copyto(out, scores)

    def pool(self, scores: Array) -> Array:
        return np.asarray(scores.mean(axis=0))

    def backward(self, mean: Array, delta: Array) -> None:
        pass


class ExpLink(Link):
    """Predictions exp(s): positive, and finite since s is clipped to what exp can hold."""

    name = "exp"

    def inverse(self, scores: Array, out: Array) -> None:
        limits = np.finfo(scores.dtype)
        np.clip(scores, np.log(limits.tiny), np.log(limits.max) - 1, out=out)
        np.exp(out, out=out)

    def pool(self, scores: Array) -> Array:
        return _log_mean_exp(scores)

    def backward(self, mean: Array, delta: Array) -> None:
        np.multiply(delta, mean, out=delta)

    def normalizer(self, scores: Array) -> Array:
        mean = np.empty_like(scores)
        self.inverse(scores, mean)
        return mean


class LogisticLink(Link):
    """Predictions 1 / (1 + exp(-s)), each output for itself."""

    name = "logistic"

    def inverse(self, scores: Array, out: Array) -> None:
        expit(scores, out=out)

    def pool(self, scores: Array) -> Array:
        # The log odds of the mean, from logarithms of both probabilities: 1 - p would round.
        mean, rest = (_log_mean_exp(self.log_inverse(s)) for s in (scores, -scores))
        return mean - rest

    def log_inverse(self, scores: Array) -> Array:
        return -self.normalizer(-scores)

    def backward(self, mean: Array, delta: Array) -> None:
        np.multiply(delta, mean, out=delta)
        np.multiply(delta, 1 - mean, out=delta)

    def normalizer(self, scores: Array) -> Array:
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

    def pool(self, scores: Array) -> Array:
        return _log_mean_exp(self.log_inverse(scores))

    def log_inverse(self, scores: Array) -> Array:
        return scores - self.normalizer(scores)

    def backward(self, mean: Array, delta: Array) -> None:
        # The Jacobian of softmax is diag(p) - p p'.
        np.subtract(delta, (delta * mean).sum(axis=-1, keepdims=True), out=delta)
        np.multiply(delta, mean, out=delta)

    def normalizer(self, scores: Array) -> Array:
        if scores.shape[-1] > _FEW:
            largest = scores.max(axis=-1, keepdims=True)
            total = np.exp(scores - largest).sum(axis=-1, keepdims=True)
            return np.asarray(largest + np.log(total))
        s = _outputs_first(scores)
        largest = s.max(axis=0)
        np.subtract(s, largest, out=s)
        np.exp(s, out=s)
        return np.asarray(largest + np.log(s.sum(axis=0)))[..., None]


# NumPy reduces a short last axis row by row, and the first axis many rows at a time: up to so
# many outputs, turning the array costs less than that.
_FEW = 32


def _outputs_first(scores: Array) -> Array:
    """Return a copy of shape (k, n_members, n), contiguous."""
    last = scores.ndim - 1
    return np.array(scores.transpose(last, *range(last)), order="C")


def _log_mean_exp(values: Array) -> Array:
    """Return log(mean(exp(values))) over the first axis, without overflow."""
    largest = values.max(axis=0)
    return np.asarray(largest + np.log(np.exp(values - largest).mean(axis=0)))


# ------------------------------------------------------------------------------ losses


class Loss:
    """The loss of one row as a function of its scores s and targets y.

    Attributes
    ----------
    link : Link
        The link whose inverse turns scores into predictions.
    target_minimum : float, default=-inf
        The smallest target that the loss is defined for.
    """

    target_minimum: ClassVar[float] = -np.inf

    @property
    def link(self) -> Link:
        raise NotImplementedError(f"{type(self).__name__} has to define its link")

    def value(self, scores: Array, y: Array) -> Array:
        """Return the loss of each row, summed over its outputs: shape (n_members, n)."""
        raise NotImplementedError(f"{type(self).__name__} has to define value(scores, y)")

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        """Write d value / d scores to `out`, which may be `scores`."""
        raise NotImplementedError(f"{type(self).__name__} has to define gradient(scores, y, out)")


class CanonicalLoss(Loss):
    """A loss whose link is canonical: its gradient is the prediction minus the target.

    The negative log likelihood A(s) - y s of an exponential family with log-partition A has
    the gradient A'(s) - y (McCullagh & Nelder 1989, section 2.2).
    """

    def value(self, scores: Array, y: Array) -> Array:
        normalizer = self.link.normalizer(scores).sum(axis=-1)
        return np.asarray(normalizer - (y * scores).sum(axis=-1))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        self.link.inverse(scores, out)
        np.subtract(out, y, out=out)


class ClassifierLoss(Loss):
    """A loss on 0/1 targets. `exclusive` classes exclude each other: softmax, else logistic."""

    exclusive: bool

    @property
    def link(self) -> Link:
        return _SOFTMAX if self.exclusive else _LOGISTIC


@dataclass(frozen=True)
class LogLoss(CanonicalLoss, ClassifierLoss):
    """Cross-entropy: loss = -sum_k y_k log p_k; for the logistic link -sum_k log p(y_k).

    From scores: loss = log sum_j exp(s_j) - sum_k y_k s_k; for the logistic link
    sum_k log(1 + exp(s_k)) - y_k s_k. Its gradient is p - y.
    """

    exclusive: bool = False


@dataclass(frozen=True)
class ProbabilitySquaredError(ClassifierLoss):
    """Half the squared distance of probabilities and labels: loss = 1/2 sum_k (p_k - y_k)^2.

    The gradient goes through the link: p (1 - p) (p - y) for the logistic one.
    """

    exclusive: bool = False

    def value(self, scores: Array, y: Array) -> Array:
        error = np.empty_like(scores)
        self.link.inverse(scores, error)
        error -= y
        return np.asarray(0.5 * np.square(error).sum(axis=-1))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        self.link.inverse(scores, out)
        mean = out.copy()
        np.subtract(out, y, out=out)
        self.link.backward(mean, out)


@dataclass(frozen=True)
class SquaredError(CanonicalLoss):
    """Half the squared error: loss = 1/2 sum_k (s_k - y_k)^2, with the gradient s - y."""

    @property
    def link(self) -> Link:
        return _IDENTITY

    def value(self, scores: Array, y: Array) -> Array:
        return np.asarray(0.5 * np.square(scores - y).sum(axis=-1))


@dataclass(frozen=True)
class Poisson(CanonicalLoss):
    """Half the Poisson deviance, for y >= 0.

    loss = sum_k exp(s_k) - y_k s_k + y_k log y_k - y_k, with the gradient exp(s) - y.
    """

    target_minimum: ClassVar[float] = 0.0

    @property
    def link(self) -> Link:
        return _EXP

    def value(self, scores: Array, y: Array) -> Array:
        return np.asarray(super().value(scores, y) + (xlogy(y, y) - y).sum(axis=-1))


_IDENTITY = IdentityLink()
_EXP = ExpLink()
_LOGISTIC = LogisticLink()
_SOFTMAX = SoftmaxLink()

CLASSIFIER_LOSSES: dict[str, ClassifierLoss] = {
    "log_loss": LogLoss(),
    "squared_error": ProbabilitySquaredError(),
}

REGRESSOR_LOSSES: dict[str, Loss] = {
    "squared_error": SquaredError(),
    "poisson": Poisson(),
}
