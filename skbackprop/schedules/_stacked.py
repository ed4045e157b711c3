"""Schedules of several kinds in one stack, so that members need not agree on theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..utils.arrays import Array, ArrayDict, FloatOrPerMember
from ..utils.equality import group_by_equality
from ..utils.stack_members import concatenate_states, index_state, stack_settings, static_signature
from .base import LearningRateSchedule


@dataclass(frozen=True)
class StackedSchedule(LearningRateSchedule):
    """Each member follows the schedule that is its own.

    Parameters
    ----------
    schedules : tuple of Schedule
        One of each kind, with settings for all members, whether they follow it or not.
    which : array of shape (n_estimators, 1), or float
        The number of each member's own.
    """

    schedules: tuple[LearningRateSchedule, ...]
    which: FloatOrPerMember

    def init(self, n_estimators: int) -> ArrayDict:
        return _numbered([schedule.init(n_estimators) for schedule in self.schedules])

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        rates = [
            schedule.rate(state_of(state, i), base, progress)
            for i, schedule in enumerate(self.schedules)
        ]
        return self._own(rates, base)

    def on_epoch_end(
        self, state: ArrayDict, base: Array, monitored: Array, n_samples_seen: Array
    ) -> None:
        for i, schedule in enumerate(self.schedules):
            schedule.on_epoch_end(state_of(state, i), base, monitored, n_samples_seen)

    def may_stop(self, state: ArrayDict, n_estimators: int) -> Array:
        answers = [
            schedule.may_stop(state_of(state, i), n_estimators)
            for i, schedule in enumerate(self.schedules)
        ]
        return self._own(answers, answers[0])

    def _own(self, values: Sequence[Array], like: Array) -> Array:
        """Return the values of each member's own schedule."""
        chosen = np.empty_like(like)
        for i, value in enumerate(values):
            np.copyto(chosen, value, where=np.equal(self.which, i))
        return chosen


def join_schedules(
    schedules: Sequence[LearningRateSchedule], states: Sequence[ArrayDict]
) -> tuple[LearningRateSchedule, ArrayDict]:
    """Return one schedule, with its state, for members that have one each."""
    groups = group_by_equality(
        range(len(schedules)), [static_signature(schedule) for schedule in schedules]
    )
    if len(groups) == 1:
        return stack_settings(schedules), concatenate_states(states)
    which = np.empty((len(schedules), 1))
    joined, joined_states = [], []
    for number, group in enumerate(groups):
        which[group] = number
        follows = [i in group for i in range(len(schedules))]
        filler = schedules[group[0]]
        joined.append(
            stack_settings(
                [s if own else filler for s, own in zip(schedules, follows, strict=True)]
            )
        )
        joined_states.append(
            concatenate_states(
                [s if own else filler.init(1) for s, own in zip(states, follows, strict=True)]
            )
        )
    return StackedSchedule(tuple(joined), which), _numbered(joined_states)


def schedule_state(schedule: LearningRateSchedule, state: ArrayDict, member: int) -> ArrayDict:
    """Return a copy of what the schedule's state holds for one member."""
    if isinstance(schedule, StackedSchedule):
        which = schedule.which
        number = which[member].item() if isinstance(which, np.ndarray) else which
        state = state_of(state, int(number))
    return index_state(state, np.array([member]))


def state_of(state: ArrayDict, number: int) -> ArrayDict:
    """Return the state of one of several schedules; its arrays are those of `state`."""
    prefix = f"{number} "
    return {
        name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)
    }


def _numbered(states: Sequence[ArrayDict]) -> ArrayDict:
    return {
        f"{number} {name}": array
        for number, state in enumerate(states)
        for name, array in state.items()
    }
