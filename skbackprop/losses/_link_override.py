"""A loss with another output activation than its own, as scikit-learn's networks may be given.

There `out_activation_` can be set after `fit`: prediction applies it to the scores, and training
goes on as if it belonged to the loss.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import xlogy

from ..utils.arrays import Array
from ..utils.validation import did_you_mean
from .base import Loss
from .classification import LogLoss
from .links import OUTPUT_ACTIVATIONS, Link
from .regression import Poisson, SquaredError

# Those of scikit-learn's networks.
_LOSSES = (LogLoss, Poisson, SquaredError)


@dataclass(frozen=True)
class LossWithLink(Loss):
    """A loss of predictions p that another link makes of the scores; its gradient is p - y.

    That is scikit-learn's: the gradient of the loss whose own link it would be. So value and
    gradient do not belong together, and training by L-BFGS is not possible.

    Parameters
    ----------
    inner : LogLoss, Poisson or SquaredError
        The loss.
    output : Link
        The link.
    """

    inner: Loss
    output: Link

    @property
    def link(self) -> Link:
        return self.output

    @property
    def target_minimum(self) -> float:  # type: ignore[override]
        return self.inner.target_minimum

    @property
    def average_over_outputs(self) -> bool:  # type: ignore[override]
        return self.inner.average_over_outputs

    def value(self, scores: Array, y: Array) -> Array:
        p = self.predict(scores)
        if isinstance(self.inner, SquaredError):
            return self.inner.value(p, y)
        with np.errstate(all="ignore"):
            if isinstance(self.inner, Poisson):
                return np.asarray((xlogy(y, y / p) - y + p).sum(axis=-1))
            epsilon = np.finfo(p.dtype).eps
            p = np.clip(p, epsilon, 1 - epsilon)
            losses = -xlogy(y, p)
            if p.shape[-1] == 1 or self.output.name == "logistic":
                losses -= xlogy(1 - y, 1 - p)
            return np.asarray(losses.sum(axis=-1))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        self.output.inverse(scores, out)
        np.subtract(out, y, out=out)

    def score(self, scores: Array, y: Array, weight: Array | None) -> float:
        """Return R2 of the predictions."""
        return SquaredError().score(self.predict(scores), y, weight)

    def decisive(self, scores: Array) -> Array:
        """Return numbers of which the largest, or a positive one, tells the label."""
        return np.asarray(self.predict(scores) - 0.5)


def unwrap_loss(loss: Loss) -> Loss:
    """Return a loss with its own link."""
    return loss.inner if isinstance(loss, LossWithLink) else loss


def override_link(loss: Loss, name: Any) -> Loss:
    """Return a loss with the link of a name: that of an activation of scikit-learn's networks.

    Raises
    ------
    ValueError
        If there is none of this name, or if the loss takes its own link alone.
    """
    own = unwrap_loss(loss)
    if name == loss.link.name:
        return loss
    if name == own.link.name:
        return own
    if type(own) not in _LOSSES:
        raise ValueError(
            f"out_activation_ is {name!r}, but the loss {own!r} goes with {own.link.name!r} alone. "
            'Set it back, or use loss="log_loss", "squared_error" or "poisson", which take any '
            f"of {sorted(OUTPUT_ACTIVATIONS)}."
        )
    if not isinstance(name, str) or name not in OUTPUT_ACTIVATIONS:
        question = did_you_mean(name, OUTPUT_ACTIVATIONS)
        raise ValueError(
            f"out_activation_ must be one of {sorted(OUTPUT_ACTIVATIONS)}, got {name!r}.{question}"
        )
    return LossWithLink(own, OUTPUT_ACTIVATIONS[name])
