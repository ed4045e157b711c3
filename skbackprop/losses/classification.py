"""Losses of classifiers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from ..utils.arrays import Array
from ..utils.validation import between
from .base import CanonicalLinkLoss, Loss, TargetInterval
from .links import IDENTITY_LINK, LOGIT_LINK, SOFTMAX_LINK, Link


class ClassifierLoss(Loss):
    """Loss of 0/1 targets, with softmax for mutually exclusive classes, else logistic.

    Attributes
    ----------
    multiclass : bool
        Whether the classes are mutually exclusive; the classifier sets it.
    supports_predict_proba : bool, default=True
        Whether predictions are probabilities. If not, the classifier has no `predict_proba`, and
        label smoothing is not possible.
    average_over_outputs : bool, default=False
        The reported loss is the sum over several labels, as in scikit-learn.
    """

    _set_elsewhere = frozenset({"multiclass"})  # by the classifier

    multiclass: bool
    supports_predict_proba: ClassVar[bool] = True
    interval_y_true: ClassVar[TargetInterval] = TargetInterval(0.0, 1.0)
    average_over_outputs: ClassVar[bool] = False

    @property
    def link(self) -> Link:
        return SOFTMAX_LINK if self.multiclass else LOGIT_LINK


@dataclass(frozen=True)
class LogLoss(CanonicalLinkLoss, ClassifierLoss):
    """Cross-entropy: loss = -sum_k y_k log p_k; for the logistic link -sum_k log p(y_k).

    In terms of raw predictions: loss = log sum_j exp(s_j) - sum_k y_k s_k; for the logistic link
    sum_k log(1 + exp(s_k)) - y_k s_k. The gradient is p - y.

    See Also
    --------
    BrierScore : Bounded, and less sensitive to wrong labels.
    Focal : Weights down rows that are easy.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.losses import LogLoss
    >>> raw_prediction, y = np.array([[0.0, 0.0]]), np.array([[1.0, 0.0]])
    >>> LogLoss(multiclass=True).value(raw_prediction, y)
    array([0.69314718])
    """

    multiclass: bool = False

    def log_likelihood(self, raw_prediction: Array, y: Array, dispersion: float = 1.0) -> Array:
        return -self.value(raw_prediction, y)


@dataclass(frozen=True)
class BrierScore(ClassifierLoss):
    """Half the squared distance of probabilities and labels: loss = 1/2 sum_k (p_k - y_k)^2.

    For the logistic link the gradient is p (1 - p) (p - y).

    See Also
    --------
    LogLoss : The default loss of classifiers.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.losses import BrierScore
    >>> raw_prediction, y = np.array([[0.0, 0.0]]), np.array([[1.0, 0.0]])
    >>> BrierScore(multiclass=True).value(raw_prediction, y)
    array([0.25])
    """

    multiclass: bool = False

    def value(self, raw_prediction: Array, y: Array) -> Array:
        error = np.empty_like(raw_prediction)
        self.link.inverse(raw_prediction, error)
        error -= y
        return np.asarray(0.5 * np.square(error).sum(axis=-1))

    def gradient(self, raw_prediction: Array, y: Array, out: Array) -> None:
        self.link.inverse(raw_prediction, out)
        probabilities = out.copy()
        np.subtract(out, y, out=out)
        self.link.inverse_backward(probabilities, out)


@dataclass(frozen=True)
class Focal(ClassifierLoss):
    """Focal loss: loss = -sum_k y_k (1 - p_k)^gamma log p_k (Lin et al. 2017, section 3).

    Rows that are already classified well, with p near 1, count less than in the cross-entropy, so
    that training focuses on hard rows. For the logistic link the loss is the sum over outputs of
    ``-y (1 - p)^gamma log p - (1 - y) p^gamma log(1 - p)``.

    The gradient is that of the cross-entropy times (1 - p)^gamma (1 - gamma r) with
    r = p log p / (1 - p). For the class weight alpha_t of the paper use ``class_weight``.

    Parameters
    ----------
    gamma : float, default=2.0
        The focusing parameter, non-negative: the larger, the less rows count that are classified
        well. With 0, the loss is the cross-entropy.
    multiclass : bool, default=False
        Whether the classes are mutually exclusive; the classifier sets it.

    Raises
    ------
    ValueError
        If `gamma` is out of range.

    See Also
    --------
    LogLoss : The default loss of classifiers.

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

    gamma: Annotated[float, between(0, closed="left")] = 2.0
    multiclass: bool = False

    def value(self, raw_prediction: Array, y: Array) -> Array:
        values = y * self._focal_term(self.link.log_inverse(raw_prediction))[0]
        if not self.multiclass:
            values += (1 - y) * self._focal_term(self.link.log_inverse(-raw_prediction))[0]
        return np.asarray(values.sum(axis=-1))

    def gradient(self, raw_prediction: Array, y: Array, out: Array) -> None:
        log_p = self.link.log_inverse(raw_prediction)
        if self.multiclass:
            slope = y * self._focal_term(log_p)[1]
            # The derivative of log p_k with respect to s_j is -p_j, plus 1 if j is k.
            np.multiply(np.exp(log_p), slope.sum(axis=-1, keepdims=True), out=out)
            np.subtract(slope, out, out=out)
            return
        log_rest = self.link.log_inverse(-raw_prediction)
        slope = y * self._focal_term(log_p)[1] * np.exp(log_rest)
        np.multiply((1 - y) * self._focal_term(log_rest)[1], np.exp(log_p), out=out)
        np.subtract(slope, out, out=out)

    def _focal_term(self, log_p: Array) -> tuple[Array, Array]:
        """Return -(1 - p)^gamma log p, and its derivative with respect to log p."""
        rest = -np.expm1(log_p)
        factor = rest**self.gamma
        # p log p / (1 - p) tends to -1 as p tends to 1.
        ratio = np.full_like(rest, -1)
        np.divide(np.exp(log_p) * log_p, rest, out=ratio, where=rest > 0)
        return -factor * log_p, factor * (self.gamma * ratio - 1)


class MarginLoss(ClassifierLoss):
    """Loss of the margins m_k = t_k s_k, where t_k is 1 for the class of the row, else -1.

    The outputs are decision values, positive for their class; there are no probabilities. With
    more than two classes, each is trained against the rest, as in scikit-learn's `LinearSVC` and
    `SGDClassifier` (Rifkin & Klautau 2004), and the largest decision value determines the class.
    """

    supports_predict_proba: ClassVar[bool] = False

    link = IDENTITY_LINK


@dataclass(frozen=True)
class Hinge(MarginLoss):
    """Hinge loss of support vector machines: loss = sum_k max(0, 1 - t_k s_k).

    t_k is 1 for the class of the row, else -1 (Cortes & Vapnik 1995, section 3). The gradient is
    -t if t s < 1, else 0; at the kink t s = 1 it is the subgradient 0.

    Parameters
    ----------
    multiclass : bool, default=False
        Whether the classes are mutually exclusive. It has no effect: with more than two classes,
        each is trained against the rest.

    See Also
    --------
    SquaredHinge : Its square, which is smooth.

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

    def value(self, raw_prediction: Array, y: Array) -> Array:
        return np.asarray(np.maximum(1 - (2 * y - 1) * raw_prediction, 0).sum(axis=-1))

    def gradient(self, raw_prediction: Array, y: Array, out: Array) -> None:
        sign = 2 * y - 1
        np.less(sign * raw_prediction, 1, out=out, casting="unsafe")
        np.multiply(out, -sign, out=out)


@dataclass(frozen=True)
class SquaredHinge(MarginLoss):
    """Squared hinge loss: loss = sum_k max(0, 1 - t_k s_k)^2, without a kink.

    t_k is 1 for the class of the row, else -1 (Chang et al. 2008, equation 3). The gradient is
    -2 t max(0, 1 - t s).

    Parameters
    ----------
    multiclass : bool, default=False
        Whether the classes are mutually exclusive. It has no effect: with more than two classes,
        each is trained against the rest.

    See Also
    --------
    Hinge : Less sensitive to wrong labels.

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

    def value(self, raw_prediction: Array, y: Array) -> Array:
        return np.asarray(np.square(np.maximum(1 - (2 * y - 1) * raw_prediction, 0)).sum(axis=-1))

    def gradient(self, raw_prediction: Array, y: Array, out: Array) -> None:
        sign = 2 * y - 1
        np.maximum(1 - sign * raw_prediction, 0, out=out)
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
    """Loss of smoothed targets: loss(s, y) = base_loss(s, (1 - a) y + a / K) with a = smoothing.

    K is the number of mutually exclusive classes, or 2 for each of several labels (Szegedy et al.
    2016, section 7). Validation scores and splits use the true targets.

    Parameters
    ----------
    base_loss : ClassifierLoss
        The loss; it must support probabilities.
    smoothing : float
        The share of each target that is spread evenly over all classes, in [0, 1).

    References
    ----------
    Szegedy, C., Vanhoucke, V., Ioffe, S., Shlens, J. & Wojna, Z. (2016). Rethinking the
    inception architecture for computer vision. CVPR.
    """

    base_loss: ClassifierLoss
    smoothing: float
    average_over_outputs: ClassVar[bool] = False

    @property
    def link(self) -> Link:
        return self.base_loss.link

    def value(self, raw_prediction: Array, y: Array) -> Array:
        return self.base_loss.value(raw_prediction, self._smooth(y))

    def gradient(self, raw_prediction: Array, y: Array, out: Array) -> None:
        self.base_loss.gradient(raw_prediction, self._smooth(y), out)

    def _smooth(self, y: Array) -> Array:
        n_classes = y.shape[-1] if self.base_loss.multiclass else 2
        smoothed = y * (1 - self.smoothing)
        return np.add(smoothed, self.smoothing / n_classes, out=smoothed)
