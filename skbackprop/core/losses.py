"""What a loss is, and the losses of the classifier: functions of the last layer's raw scores.

A loss sees scores, never probabilities: it is computed by log-sum-exp and stays finite where
a probability would round to 0 or 1. The link (the inverse of which turns scores into
predictions) belongs to the loss, so prediction and gradient cannot disagree.

One class and one line in `CLASSIFIER_LOSSES` make a loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from .arrays import Array
from .baselines import least
from .checks import check_range
from .links import IDENTITY, LOGISTIC, SOFTMAX, Link


class Loss:
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
    is_reported_per_target : bool, default=True
        Whether the loss that training reports, and compares with ``tol``, is the mean over the
        targets of a row, so that it has one size for any number of them. What is minimised is
        their sum in any case.
    """

    target_minimum: ClassVar[float] = -np.inf
    includes_minimum: ClassVar[bool] = True
    target_maximum: ClassVar[float] = np.inf
    is_reported_per_target: ClassVar[bool] = True

    @property
    def link(self) -> Link:
        raise NotImplementedError(f"{type(self).__name__} has to define its link")

    def value(self, scores: Array, y: Array) -> Array:
        """Return the loss of each row, summed over its outputs: shape (n_members, n)."""
        raise NotImplementedError(f"{type(self).__name__} has to define value(scores, y)")

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        """Write d value / d scores to `out`, which may be `scores`.

        A single network trains without the member axis: then all three have shape (n, k).
        """
        raise NotImplementedError(f"{type(self).__name__} has to define gradient(scores, y, out)")

    @property
    def scores_per_target(self) -> int:
        return 1

    def predict(self, scores: Array) -> Array:
        """Return the predictions of k targets: shape (n, k), or (n, k, c) for c of each."""
        predictions = np.empty_like(scores)
        self.link.inverse(scores, predictions)
        return predictions

    def deviation(self, scores: Array) -> Array | None:
        """Return the standard deviation of each target, of shape (n, k); None if not learned."""
        return None

    def constant(self, y: Array, weight: Array | None) -> Array:
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
        each = self.scores_per_target
        targets = np.repeat(y[:, None], each, axis=1)[None]

        def value_and_gradient(constant: Array) -> tuple[float, Array]:
            scores = np.tile(constant, (1, len(y), 1))
            value = np.average(self.value(scores, targets)[0], weights=weight)
            self.gradient(scores, targets, scores)
            return value, np.average(scores[0], axis=0, weights=weight)

        return least(value_and_gradient, each)

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
        each = self.scores_per_target
        columns = [slice(start, start + each) for start in range(0, y.shape[1], each)]
        return float(np.mean([self._score_of_one(scores[:, c], y[:, c], weight) for c in columns]))

    def _score_of_one(self, scores: Array, y: Array, weight: Array | None) -> float:
        if weight is not None:  # rows that do not count, however far off
            counted = weight > 0
            scores, y, weight = scores[counted], y[counted], weight[counted]
        y = y.astype(np.float64)
        constant = np.broadcast_to(self.constant(y[:, 0], weight), y.shape)
        loss, baseline = (
            float(np.average(self.value(each[None], y[None])[0], weights=weight))
            for each in (scores.astype(np.float64), constant)
        )
        if (y[:, 0] == y[0, 0]).all():
            return float(loss <= baseline)
        return self.explained(loss, baseline)

    def explained(self, loss: float, baseline: float) -> float:
        """Return the score of a mean loss, given that of the best constant."""
        return (baseline - loss) / (abs(baseline) or 1.0)


class CanonicalLoss(Loss):
    """A loss whose link is canonical: its gradient is the prediction minus the target.

    The negative log likelihood A(s) - y s of an exponential family with log-partition A has
    the gradient A'(s) - y (McCullagh & Nelder 1989, section 2.2).
    """

    def value(self, scores: Array, y: Array) -> Array:
        normalizer = self.link.normalizer(scores).sum(axis=-1)
        # Of short rows, einsum adds up products several times as fast as a sum over the last axis.
        return np.asarray(normalizer - np.einsum("...k,...k->...", y, scores))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        self.link.inverse(scores, out)
        np.subtract(out, y, out=out)


class ClassifierLoss(Loss):
    """A loss on 0/1 targets. `exclusive` classes exclude each other: softmax, else logistic.

    Attributes
    ----------
    has_probabilities : bool, default=True
        Whether predictions are probabilities. Only then is there a `predict_proba`, and can a
        share of a target be spread over other classes.
    is_reported_per_target : bool, default=False
        Of several labels the sum is reported, as in scikit-learn.
    """

    exclusive: bool
    has_probabilities: ClassVar[bool] = True
    target_minimum: ClassVar[float] = 0.0
    target_maximum: ClassVar[float] = 1.0
    is_reported_per_target: ClassVar[bool] = False

    @property
    def link(self) -> Link:
        return SOFTMAX if self.exclusive else LOGISTIC


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
class Focal(ClassifierLoss):
    """Focal loss: loss = -sum_k y_k (1 - p_k)^gamma log p_k (Lin et al. 2017, section 3).

    Rows that are right already, with p near 1, count less than in the cross-entropy, so that
    training attends to the others. For the logistic link it is the sum over outputs of
    ``-y (1 - p)^gamma log p - (1 - y) p^gamma log(1 - p)``.

    The gradient has the factor (1 - p)^gamma (1 - gamma r), r = p log p / (1 - p), in place of
    the cross-entropy's 1. The balance alpha_t of the paper is a weight of the class: use
    ``sample_weight``.

    Parameters
    ----------
    gamma : float, default=2.0
        How much less the rows count that are right, not negative; 0 is the cross-entropy.
    exclusive : bool, default=False
        Whether the classes exclude each other; the classifier sets it.

    Raises
    ------
    ValueError
        If `gamma` is not a number in its range.

    References
    ----------
    Lin, T.-Y., Goyal, P., Girshick, R., He, K. & Dollár, P. (2017). Focal loss for dense object
    detection. ICCV.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier, Focal
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier((), loss=Focal(gamma=1.0), solver="lbfgs", random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    gamma: float = 2.0
    exclusive: bool = False

    def __post_init__(self) -> None:
        check_range(self, "gamma", low=0, high=np.inf, closed="left")

    def value(self, scores: Array, y: Array) -> Array:
        if self.exclusive:
            return np.asarray((y * self._focused(self.link.log_inverse(scores))[0]).sum(axis=-1))
        values = y * self._focused(self.link.log_inverse(scores))[0]
        values += (1 - y) * self._focused(self.link.log_inverse(-scores))[0]
        return np.asarray(values.sum(axis=-1))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        log_p = self.link.log_inverse(scores)
        if self.exclusive:
            slope = y * self._focused(log_p)[1]
            # The derivative of log p_k by s_j is -p_j, plus 1 where j is k.
            np.multiply(np.exp(log_p), slope.sum(axis=-1, keepdims=True), out=out)
            np.subtract(slope, out, out=out)
            return
        log_rest = self.link.log_inverse(-scores)
        slope = y * self._focused(log_p)[1] * np.exp(log_rest)
        np.multiply((1 - y) * self._focused(log_rest)[1], np.exp(log_p), out=out)
        np.subtract(slope, out, out=out)

    def _focused(self, log_p: Array) -> tuple[Array, Array]:
        """Return -(1 - p)^gamma log p, and its derivative by log p."""
        rest = -np.expm1(log_p)
        factor = rest**self.gamma
        # p log p / (1 - p) goes to -1 where p goes to 1.
        ratio = np.full_like(rest, -1)
        np.divide(np.exp(log_p) * log_p, rest, out=ratio, where=rest > 0)
        return -factor * log_p, factor * (self.gamma * ratio - 1)


class MarginLoss(ClassifierLoss):
    """A loss of the margins m_k = t_k s_k, with t_k = 1 for the class of the row, else -1.

    Each output is a decision value, above zero for its class; there are no probabilities. More
    than two classes are told apart one against the rest, as in scikit-learn's `LinearSVC` and
    `SGDClassifier` (Rifkin & Klautau 2004); the class of the largest score wins.
    """

    has_probabilities: ClassVar[bool] = False

    @property
    def link(self) -> Link:
        return IDENTITY


@dataclass(frozen=True)
class Hinge(MarginLoss):
    """Hinge loss, of the support vector machine: loss = sum_k max(0, 1 - t_k s_k).

    t_k is 1 for the class of the row, else -1 (Cortes & Vapnik 1995, section 3). The gradient is
    -t where t s < 1, else 0; at the kink t s = 1, where there is none, it is 0.

    Parameters
    ----------
    exclusive : bool, default=False
        Whether the classes exclude each other, which changes nothing: more than two are told
        apart one against the rest.

    References
    ----------
    Cortes, C. & Vapnik, V. (1995). Support-vector networks. Machine Learning 20, 273-297.

    Rifkin, R. & Klautau, A. (2004). In defense of one-vs-all classification. JMLR 5, 101-141.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier, Hinge
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(loss=Hinge(), early_stopping=True, random_state=0)
    >>> model.fit(X, y).decision_function(X).shape
    (150, 3)
    >>> hasattr(model, "predict_proba")
    False
    """

    exclusive: bool = False

    def value(self, scores: Array, y: Array) -> Array:
        return np.asarray(np.maximum(1 - (2 * y - 1) * scores, 0).sum(axis=-1))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        sign = 2 * y - 1
        np.less(sign * scores, 1, out=out, casting="unsafe")
        np.multiply(out, -sign, out=out)


@dataclass(frozen=True)
class SquaredHinge(MarginLoss):
    """Squared hinge loss: loss = sum_k max(0, 1 - t_k s_k)^2, which has no kink.

    t_k is 1 for the class of the row, else -1 (Chang et al. 2008, equation 3). The gradient is
    -2 t max(0, 1 - t s).

    Parameters
    ----------
    exclusive : bool, default=False
        Whether the classes exclude each other, which changes nothing: more than two are told
        apart one against the rest.

    References
    ----------
    Chang, K.-W., Hsieh, C.-J. & Lin, C.-J. (2008). Coordinate descent method for large-scale
    L2-loss linear support vector machines. JMLR 9, 1369-1398.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from skbackprop import BackpropClassifier, SquaredHinge
    >>> X, y = load_iris(return_X_y=True)
    >>> X = scale(X)
    >>> model = BackpropClassifier((), loss=SquaredHinge(), solver="lbfgs", random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    exclusive: bool = False

    def value(self, scores: Array, y: Array) -> Array:
        return np.asarray(np.square(np.maximum(1 - (2 * y - 1) * scores, 0)).sum(axis=-1))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        sign = 2 * y - 1
        np.maximum(1 - sign * scores, 0, out=out)
        np.multiply(out, -2 * sign, out=out)


CLASSIFIER_LOSSES: dict[str, ClassifierLoss] = {
    "log_loss": LogLoss(),
    "squared_error": ProbabilitySquaredError(),
    "focal": Focal(),
    "hinge": Hinge(),
    "squared_hinge": SquaredHinge(),
}
