"""Losses made of other losses: with smoothed targets, or with another link."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from scipy.special import xlogy

from ..utils.arrays import Array
from .base import Loss, TargetInterval
from .classification import ClassifierLoss, LogLoss
from .links import OUTPUT_ACTIVATIONS, Link
from .regression import Poisson, SquaredError


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


@dataclass(frozen=True)
class LossWithLink(Loss):
    """Loss of predictions p that another link makes; its gradient is p - y.

    As in scikit-learn, the attribute `out_activation_` of a network can be set after `fit`:
    prediction applies it to the output of the last layer, and training continues as if it belonged
    to the loss.

    The gradient is the same as in scikit-learn: that of the loss for which the link is canonical.
    Value and gradient do not match, so training with L-BFGS is not possible.

    Parameters
    ----------
    base_loss : LogLoss, Poisson or SquaredError
        The loss.
    other_link : Link
        The link.
    """

    base_loss: Loss
    other_link: Link

    @property
    def link(self) -> Link:
        return self.other_link

    # Class attributes of the base, which here follow from the wrapped loss.
    @property
    def interval_y_true(self) -> TargetInterval:  # type: ignore[override]
        return TargetInterval(self.base_loss.interval_y_true.low)

    @property
    def average_over_outputs(self) -> bool:  # type: ignore[override]
        return self.base_loss.average_over_outputs

    def value(self, raw_prediction: Array, y: Array) -> Array:
        p = self.predict(raw_prediction)
        if isinstance(self.base_loss, SquaredError):
            return self.base_loss.value(p, y)
        with np.errstate(all="ignore"):
            if isinstance(self.base_loss, Poisson):
                return np.asarray((xlogy(y, y / p) - y + p).sum(axis=-1))
            epsilon = np.finfo(p.dtype).eps
            p = np.clip(p, epsilon, 1 - epsilon)
            losses = -xlogy(y, p)
            if p.shape[-1] == 1 or self.link.name == "logistic":
                losses -= xlogy(1 - y, 1 - p)
            return np.asarray(losses.sum(axis=-1))

    def gradient(self, raw_prediction: Array, y: Array, out: Array) -> None:
        self.link.inverse(raw_prediction, out)
        np.subtract(out, y, out=out)

    def score(self, raw_prediction: Array, y: Array, weight: Array | None) -> float:
        """Return R2 of the predictions."""
        return SquaredError().score(self.predict(raw_prediction), y, weight)

    def decision_values(self, raw_prediction: Array) -> Array:
        """Return numbers that determine the label: the largest one, or whether it is positive."""
        return np.asarray(self.predict(raw_prediction) - 0.5)


def unwrap_loss(loss: Loss) -> Loss:
    """Return a loss with its own link."""
    return loss.base_loss if isinstance(loss, LossWithLink) else loss


def override_link(loss: Loss, name: Any) -> Loss:
    """Return a loss with the link of a name, one of scikit-learn's output activations.

    Raises
    ------
    ValueError
        If the name is unknown, or the loss has no other link than its own.
    """
    base_loss = unwrap_loss(loss)
    if name == loss.link.name:
        return loss
    if name == base_loss.link.name:
        return base_loss
    if type(base_loss) not in (LogLoss, Poisson, SquaredError):  # the losses of scikit-learn
        raise ValueError(
            f"out_activation_ must be {base_loss.link.name!r} for the loss {base_loss!r}, got "
            f'{name!r}. Set it back, or use loss="log_loss", "squared_error" or "poisson", which '
            f"accept any of {sorted(OUTPUT_ACTIVATIONS)}."
        )
    if not isinstance(name, str) or name not in OUTPUT_ACTIVATIONS:
        raise ValueError(
            f"out_activation_ must be one of {sorted(OUTPUT_ACTIVATIONS)}, got {name!r}."
        )
    return LossWithLink(base_loss, OUTPUT_ACTIVATIONS[name])
