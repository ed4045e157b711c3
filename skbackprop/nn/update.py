"""Parameter updates: gradient clipping, weight decay, optimizer step and weight averaging."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..optimizers import Optimizer
from ..utils.arrays import Array, FloatOrPerMember
from ..utils.configurable import check_in_place
from ..weight_averaging import WeightAverage
from .parameters import FlatParameters
from .train_state import TrainState

# Within these bounds a sum of squares neither overflows nor loses small values, in any dtype.
_TINY, _HUGE = 1e-30, 1e30


def clip_by_global_norm(g: Array, clip_norm: FloatOrPerMember) -> None:
    """Clip the gradients of each member in place by their global norm.

    g = clip_norm / |g| * g where |g| > clip_norm, with the Euclidean norm over all parameters of a
    member (Pascanu et al. 2013, algorithm 1). Gradients that are not finite stay as they are; the
    end of the epoch checks for them.

    Parameters
    ----------
    g : array of shape (n_estimators, p)
        The gradients.
    clip_norm : float or array of shape (n_estimators, 1)
        The maximum norm; infinity for no clipping.
    """
    bounds = np.broadcast_to(clip_norm, (len(g), 1)).ravel().tolist()
    for own, square, bound in zip(g, np.vecdot(g, g).tolist(), bounds, strict=True):
        if not _TINY < square < _HUGE:
            _clip_extreme(own, bound)
        elif (norm := math.sqrt(square)) > bound:
            np.multiply(own, bound / norm, out=own)


def _clip_extreme(g: Array, clip_norm: float) -> None:
    """Clip the gradient of one member whose squares overflow or underflow."""
    largest = float(np.abs(g).max())
    if not 0 < largest < math.inf:
        return
    scaled = g / largest
    norm = float(np.linalg.norm(scaled))
    if norm > clip_norm / largest:
        np.multiply(scaled, clip_norm / norm, out=g)


@dataclass(frozen=True)
class UpdateRule:
    """Update rule of a stack: clipping, weight decay, optimizer step and weight average.

    Parameters
    ----------
    optimizer : Optimizer
        The optimizer.
    clip_norm : float or array of shape (n_estimators, 1), default=np.inf
        The maximum norm of a gradient; infinite for no clipping.
    average : WeightAverage or None, default=None
        The average of the parameters over the steps.
    """

    optimizer: Optimizer
    clip_norm: FloatOrPerMember = math.inf
    average: WeightAverage | None = None

    def update(self, state: TrainState, gradients: FlatParameters) -> BoundUpdate:
        """Return the update bound to gradients and to the state that it changes."""
        kind = BoundUpdate if self.average is None else BoundUpdateWithAverage
        return kind(self, state, gradients)


class BoundUpdate:
    """Update step of some members, bound to their gradients and training state.

    Parameters
    ----------
    rule : UpdateRule
        The update rule of these members.
    state : TrainState
        Their state, changed in place.
    gradients : FlatParameters
        Their gradients; each step overwrites them.
    """

    def __init__(self, rule: UpdateRule, state: TrainState, gradients: FlatParameters) -> None:
        self._theta, self._g = state.parameters.theta, gradients.theta
        self._weights, self._moments = state.parameters.regularized, state.optimizer
        self._optimizer, self._clip_norm = rule.optimizer, rule.clip_norm
        self._decays = type(rule.optimizer).decay is not Optimizer.decay
        self._clips = bool(np.isfinite(rule.clip_norm).any())

    def __call__(self, n_rows: int, rate: FloatOrPerMember) -> None:
        """Make the step for a batch of `n_rows` rows."""
        if self._clips:
            clip_by_global_norm(self._g, self._clip_norm)
        if self._decays:
            self._optimizer.decay(self._weights, rate)
        # Its type says None, but the method of a user-defined part may return its result instead.
        result: object = self._optimizer.step(self._theta, self._g, self._moments, rate)  # type: ignore[func-returns-value]
        if result is not None:
            check_in_place(
                self._optimizer, "step(theta, g, state, rate)", "theta", result, self._theta
            )


class BoundUpdateWithAverage(BoundUpdate):
    """Update step followed by an update of the weight average."""

    def __init__(self, rule: UpdateRule, state: TrainState, gradients: FlatParameters) -> None:
        super().__init__(rule, state, gradients)
        self._average: Any = rule.average
        self._averages, self._statistics = state.average, state.parameters.statistics

    def __call__(self, n_rows: int, rate: FloatOrPerMember) -> None:
        """Make the step, and update the average."""
        super().__call__(n_rows, rate)
        self._average.update(self._theta, self._g, self._averages, n_rows, self._statistics)
