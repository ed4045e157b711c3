"""What a gradient does to the parameters: clipping, decay, the optimizer's step, the average."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..averages import Average
from ..core.arrays import PerMember
from ..core.members import cut, take_members
from ..core.parts import check_in_place
from ..optimizers import Optimizer
from .clipping import clip_gradients
from .parameters import FlatParameters
from .state import TrainingState


@dataclass(frozen=True)
class Rule:
    """How members make a step of a gradient; what may differ between them is an array.

    Parameters
    ----------
    optimizer : Optimizer
        What makes the step.
    clip_norm : float or array of shape (n_members, 1)
        The largest norm of a gradient; infinite for any.
    average : Average or None
        What averages the parameters over the steps; None for no average.
    """

    optimizer: Optimizer
    clip_norm: PerMember
    average: Average | None

    def members(self, members: Any) -> Rule:
        """Return the rule of some members."""
        clip_norm = self.clip_norm
        if isinstance(clip_norm, np.ndarray):
            clip_norm = cut(clip_norm, members)
        return Rule(
            take_members(self.optimizer, members), clip_norm, take_members(self.average, members)
        )

    def update(self, state: TrainingState, gradients: FlatParameters) -> Update:
        """Return what steps by `gradients` are made with, bound to the state that they change."""
        kind = Update if self.average is None else AveragedUpdate
        return kind(self, state, gradients)


class Update:
    """A step of some members, once their gradient is there, bound to what it changes.

    Parameters
    ----------
    rule : Rule
        How these members make a step.
    state : TrainingState
        Their state, changed in place.
    gradients : FlatParameters
        Their gradients; each step destroys them.
    """

    def __init__(self, rule: Rule, state: TrainingState, gradients: FlatParameters) -> None:
        self._theta, self._g = state.parameters.theta, gradients.theta
        self._weights, self._moments = state.parameters.penalised, state.optimizer
        self._optimizer, self._clip_norm = rule.optimizer, rule.clip_norm
        self._decays = type(rule.optimizer).decay is not Optimizer.decay
        self._clips = bool(np.isfinite(rule.clip_norm).any())

    def __call__(self, n_rows: int, rate: PerMember) -> None:
        """Make the step on a batch of so many rows."""
        if self._clips:
            clip_gradients(self._g, self._clip_norm)
        if self._decays:
            self._optimizer.decay(self._weights, rate)
        result: object = self._optimizer.step(self._theta, self._g, self._moments, rate)  # type: ignore[func-returns-value]
        if result is not None:
            check_in_place(
                self._optimizer, "step(theta, g, state, rate)", "theta", result, self._theta
            )


class AveragedUpdate(Update):
    """A step of which the average takes note."""

    def __init__(self, rule: Rule, state: TrainingState, gradients: FlatParameters) -> None:
        super().__init__(rule, state, gradients)
        self._average: Any = rule.average
        self._averages, self._statistics = state.average, state.parameters.statistics

    def __call__(self, n_rows: int, rate: PerMember) -> None:
        """Make the step, and let the average follow."""
        super().__call__(n_rows, rate)
        self._average.update(self._theta, self._g, self._averages, n_rows, self._statistics)
