"""Runs joined into the stack that trains them; they share what is equal."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..core.arrays import PerMember
from ..core.equality import is_equal
from ..core.members import join_members
from ..engine.deadline import Deadline
from ..engine.stack import Stack
from ..engine.state import TrainingState
from ..optimizers import Optimizer
from ..schedules.base import Schedule
from ..schedules.mixed import join_schedules
from .run import Run


def stack_of(runs: Sequence[Run], deadline: Deadline | None = None) -> Stack:
    """Return the stack that trains these runs, all with a stochastic optimizer."""
    first = runs[0]
    schedule, state = _joined(runs)
    penalty = join_members([run.objective.penalty for run in runs])
    solvers = [run.plan.solver for run in runs]
    optimizers = [solver for solver in solvers if isinstance(solver, Optimizer)]
    stack = first.problem.stack(
        objective=replace(first.objective, penalty=penalty),
        state=state,
        tables=[run.table for run in runs],
        batch_sizes=[run.batch_size for run in runs],
        optimizer=join_members(optimizers),
        schedule=schedule,
        rate=np.array([[run.plan.rate] for run in runs]),
        clip_norm=per_member([run.plan.clip_norm for run in runs]),
        average=join_members([run.plan.average for run in runs]),
        deadline=deadline,
    )
    if len(runs) > 1:
        show_parameters(stack, runs)
    return stack


def _joined(runs: Sequence[Run]) -> tuple[Schedule, TrainingState]:
    """Return one schedule and one state for all runs; those of one as they are."""
    first = runs[0]
    if len(runs) == 1:
        shuffles = first.plan.shuffle
        state = first.state if shuffles else replace(first.state, streams=[None])
        return first.plan.schedule, state
    schedule, state_of_schedule = join_schedules(
        [run.plan.schedule for run in runs], [run.state.schedule for run in runs]
    )
    # Schedules of several kinds have states of several kinds, which only they can join.
    states = [replace(state, schedule={}) for state in _states_that_share(runs)]
    return schedule, replace(TrainingState.join(states), schedule=state_of_schedule)


def deadline_of(runs: Sequence[Run]) -> Deadline | None:
    """Return when the training of runs of one shape has to end; None for never.

    Each has its part of the time of a fit, and all of them together have the sum.
    """
    plan = runs[0].plan
    if plan.time_limit == math.inf or runs[0].incremental:
        return None
    return Deadline(plan.time_limit * len(runs) / plan.n_members)


def _states_that_share(runs: Sequence[Run]) -> list[TrainingState]:
    """Return the states of runs with one order and stream for those who visit the same rows.

    Both are copies. The streams of runs that do not shuffle are None.
    """
    states: list[TrainingState] = []
    for i, run in enumerate(runs):
        state = run.state
        if i and _visit_the_same(runs[i - 1], run):
            shared = states[-1]
            states.append(replace(state, orders=shared.orders, streams=shared.streams))
            continue
        orders, streams = copy.deepcopy(state.orders), copy.copy(state.streams)
        streams[0] = copy.deepcopy(streams[0]) if run.plan.shuffle else None
        states.append(replace(state, orders=orders, streams=streams))
    return states


def show_parameters(stack: Stack, runs: Sequence[Run]) -> None:
    """Let each run see its own parameters in the stack, and their average."""
    for i, run in enumerate(runs):
        own = stack.state.take(slice(i, i + 1))
        run.state = replace(run.state, parameters=own.parameters, average=own.average)


def _visit_the_same(one: Run, other: Run) -> bool:
    """Return whether two runs visit the same rows in the same order in every epoch."""
    if one.table is not other.table or one.plan.shuffle != other.plan.shuffle:
        return False
    if not is_equal(one.state.orders, other.state.orders):
        return False
    if not one.plan.shuffle or is_equal(one.state.streams, other.state.streams):
        return True
    return is_equal(*(_positions(run.state) for run in (one, other)))


def _positions(state: TrainingState) -> list[object]:
    """Return where the streams stand, as values that can be compared."""
    return [stream and stream.get_state(legacy=False) for stream in state.streams]


def per_member(values: list[float]) -> PerMember:
    """Return a hyperparameter: one float if it is the same for all members."""
    if values.count(values[0]) == len(values):
        return values[0]
    return np.array(values)[:, None]
