"""Label smoothing: a loss whose targets are spread, in part, over the other classes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..core.arrays import Array
from .base import Loss
from .classification import ClassifierLoss
from .links import Link


@dataclass(frozen=True)
class Smoothed(Loss):
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
    is_reported_per_target: ClassVar[bool] = False

    @property
    def link(self) -> Link:
        return self.inner.link

    def value(self, scores: Array, y: Array) -> Array:
        return self.inner.value(scores, self._smooth(y))

    def gradient(self, scores: Array, y: Array, out: Array) -> None:
        self.inner.gradient(scores, self._smooth(y), out)

    def _smooth(self, y: Array) -> Array:
        n_classes = y.shape[-1] if self.inner.exclusive else 2
        smooth = y * (1 - self.share)
        return np.add(smooth, self.share / n_classes, out=smooth)
