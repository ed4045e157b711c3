"""Schedules of several kinds in one stack, so that members need not agree on theirs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..core.arrays import Array, PerMember, State
from ..core.equality import grouped
from ..core.members import join_members, join_states, kind_of, take_state
from .base import Schedule


@dataclass(frozen=True)
class Several(Schedule):
    """Each member follows the schedule that is its own.

    Parameters
    ----------
    schedules : tuple of Schedule
        One of each kind, with settings for all members, whether they follow it or not.
    which : array of shape (n_members, 1), or float
        The number of each member's own.
    """

    schedules: tuple[Schedule, ...]
    which: PerMember

    def init(self, n_members: int) -> State:
        return _numbered([schedule.init(n_members) for schedule in self.schedules])

    def rate(self, state: State, base: Array, progress: float) -> Array:
        rates = [
            schedule.rate(state_of(state, i), base, progress)
            for i, schedule in enumerate(self.schedules)
        ]
        return self._own(rates, base)

    def end_epoch(self, state: State, base: Array, monitored: Array, n_seen: Array) -> None:
        for i, schedule in enumerate(self.schedules):
            schedule.end_epoch(state_of(state, i), base, monitored, n_seen)

    def may_stop(self, state: State, n_members: int) -> Array:
        answers = [
            schedule.may_stop(state_of(state, i), n_members)
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
    schedules: Sequence[Schedule], states: Sequence[State]
) -> tuple[Schedule, State]:
    """Return one schedule, with its state, for members that have one each."""
    groups = grouped(range(len(schedules)), [kind_of(schedule) for schedule in schedules])
    if len(groups) == 1:
        return join_members(schedules), join_states(states)
    which = np.empty((len(schedules), 1))
    joined, joined_states = [], []
    for number, group in enumerate(groups):
        which[group] = number
        follows = [i in group for i in range(len(schedules))]
        filler = schedules[group[0]]
        joined.append(
            join_members([s if own else filler for s, own in zip(schedules, follows, strict=True)])
        )
        joined_states.append(
            join_states(
                [s if own else filler.init(1) for s, own in zip(states, follows, strict=True)]
            )
        )
    return Several(tuple(joined), which), _numbered(joined_states)


def schedule_state(schedule: Schedule, state: State, member: int) -> State:
    """Return a copy of what the schedule's state holds for one member."""
    if isinstance(schedule, Several):
        which = schedule.which
        number = which[member].item() if isinstance(which, np.ndarray) else which
        state = state_of(state, int(number))
    return take_state(state, np.array([member]))


def state_of(state: State, number: int) -> State:
    """Return the state of one of several schedules; its arrays are those of `state`."""
    prefix = f"{number} "
    return {
        name.removeprefix(prefix): array for name, array in state.items() if name.startswith(prefix)
    }


def _numbered(states: Sequence[State]) -> State:
    return {
        f"{number} {name}": array
        for number, state in enumerate(states)
        for name, array in state.items()
    }
