"""Losses of classifiers, and label smoothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..utils.arrays import Array
from ..utils.validation import validate_interval
from .base import CanonicalLinkLoss, Loss
from .links import IDENTITY_LINK, LOGIT_LINK, SOFTMAX_LINK, Link


class ClassifierLoss(Loss):
    """A loss on 0/1 targets. `multiclass` classes exclude each other: softmax, else logistic.

    Attributes
    ----------
    supports_predict_proba : bool, default=True
        Whether predictions are probabilities. Only then is there a `predict_proba`, and can a
        share of a target be spread over other classes.
    average_over_outputs : bool, default=False
        Of several labels the sum is reported, as in scikit-learn.
    """

    _set_elsewhere = frozenset({"multiclass"})  # by the classifier

    multiclass: bool
    supports_predict_proba: ClassVar[bool] = True
    target_minimum: ClassVar[float] = 0.0
    target_maximum: ClassVar[float] = 1.0
    average_over_outputs: ClassVar[bool] = False

    @property
    def link(self) -> Link:
        return SOFTMAX_LINK if self.multiclass else LOGIT_LINK


@dataclass(frozen=True)
class LogLoss(CanonicalLinkLoss, ClassifierLoss):
    """Cross-entropy: loss = -sum_k y_k log p_k; for the logistic link -sum_k log p(y_k).

    From scores: loss = log sum_j exp(s_j) - sum_k y_k s_k; for the logistic link
    sum_k log(1 + exp(s_k)) - y_k s_k. Its gradient is p - y.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.losses import LogLoss
    >>> scores, y = np.array([[0.0, 0.0]]), np.array([[1.0, 0.0]])
    >>> LogLoss(multiclass=True).value(scores, y)
    array([0.69314718])
    """

    multiclass: bool = False


@dataclass(frozen=True)
class BrierScore(ClassifierLoss):
    """Half the squared distance of probabilities and labels: loss = 1/2 sum_k (p_k - y_k)^2.

    The gradient goes through the link: p (1 - p) (p - y) for the logistic one.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.losses import BrierScore
    >>> scores, y = np.array([[0.0, 0.0]]), np.array([[1.0, 0.0]])
    >>> BrierScore(multiclass=True).value(scores, y)
    array([0.25])
    """

    multiclass: bool = False

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
    multiclass : bool, default=False
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
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.losses import Focal
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier((), loss=Focal(gamma=1.0), solver="lbfgs", random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    gamma: float = 2.0
    multiclass: bool = False

    def __post_init__(self) -> None:
        validate_interval(self, "gamma", low=0, high=np.inf, closed="left")

    def value(self, scores: Array, y: Array) -> Array:
        if self.multiclass:
            return np.asarray(
                (y * self._modulating_factor(self.link.log_inverse(scores))[0]).sum(axis=-1)
            )
        values = y * self._modulating_factor(self.link.log_inverse(scores))[0]
        values += (1 - y) * self._modulating_factor(self.link.log_inverse(-scores))[0]
        return np.asarray(values.sum(axis=-1))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        log_p = self.link.log_inverse(scores)
        if self.multiclass:
            slope = y * self._modulating_factor(log_p)[1]
            # The derivative of log p_k by s_j is -p_j, plus 1 where j is k.
            np.multiply(np.exp(log_p), slope.sum(axis=-1, keepdims=True), out=out)
            np.subtract(slope, out, out=out)
            return
        log_rest = self.link.log_inverse(-scores)
        slope = y * self._modulating_factor(log_p)[1] * np.exp(log_rest)
        np.multiply((1 - y) * self._modulating_factor(log_rest)[1], np.exp(log_p), out=out)
        np.subtract(slope, out, out=out)

    def _modulating_factor(self, log_p: Array) -> tuple[Array, Array]:
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

    supports_predict_proba: ClassVar[bool] = False

    @property
    def link(self) -> Link:
        return IDENTITY_LINK


@dataclass(frozen=True)
class Hinge(MarginLoss):
    """Hinge loss, of the support vector machine: loss = sum_k max(0, 1 - t_k s_k).

    t_k is 1 for the class of the row, else -1 (Cortes & Vapnik 1995, section 3). The gradient is
    -t where t s < 1, else 0; at the kink t s = 1, where there is none, it is 0.

    Parameters
    ----------
    multiclass : bool, default=False
        Whether the classes exclude each other, which changes nothing: more than two are told
        apart one against the rest.

    References
    ----------
    Cortes, C. & Vapnik, V. (1995). Support-vector networks. Machine Learning 20, 273-297.

    Rifkin, R. & Klautau, A. (2004). In defense of one-vs-all classification. JMLR 5, 101-141.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.losses import Hinge
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(loss=Hinge(), early_stopping=True, random_state=0)
    >>> model.fit(X, y).decision_function(X).shape
    (150, 3)
    >>> hasattr(model, "predict_proba")
    False
    """

    multiclass: bool = False

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
    multiclass : bool, default=False
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
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.losses import SquaredHinge
    >>> X, y = load_iris(return_X_y=True)
    >>> X = scale(X)
    >>> model = BackpropClassifier((), loss=SquaredHinge(), solver="lbfgs", random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    multiclass: bool = False

    def value(self, scores: Array, y: Array) -> Array:
        return np.asarray(np.square(np.maximum(1 - (2 * y - 1) * scores, 0)).sum(axis=-1))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        sign = 2 * y - 1
        np.maximum(1 - sign * scores, 0, out=out)
        np.multiply(out, -2 * sign, out=out)


CLASSIFIER_LOSSES: dict[str, ClassifierLoss] = {
    "log_loss": LogLoss(),
    "brier": BrierScore(),
    "focal": Focal(),
    "hinge": Hinge(),
    "squared_hinge": SquaredHinge(),
}


@dataclass(frozen=True)
class LabelSmoothing(Loss):
    """A classifier's loss on smoothed targets: loss(s, y) = inner(s, (1 - share) y + share / K).

    K is the number of classes that exclude each other, or 2 for each label by itself (Szegedy et
    al. 2016, section 7). The data keep the true targets, which scores and splits go by.

    Parameters
    ----------
    inner : ClassifierLoss
        The loss, whose link it has; it has to have probabilities.
    share : float
        The share that is spread evenly over all classes, in [0, 1).

    References
    ----------
    Szegedy, C., Vanhoucke, V., Ioffe, S., Shlens, J. & Wojna, Z. (2016). Rethinking the
    inception architecture for computer vision. CVPR.
    """

    inner: ClassifierLoss
    share: float
    average_over_outputs: ClassVar[bool] = False

    @property
    def link(self) -> Link:
        return self.inner.link

    def value(self, scores: Array, y: Array) -> Array:
        return self.inner.value(scores, self._smooth(y))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        self.inner.gradient(scores, self._smooth(y), out)

    def _smooth(self, y: Array) -> Array:
        n_classes = y.shape[-1] if self.inner.multiclass else 2
        smooth = y * (1 - self.share)
        return np.add(smooth, self.share / n_classes, out=smooth)
