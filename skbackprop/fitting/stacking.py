"""Runs joined into the stack that trains them; they share what is equal."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.arrays import PerMember, Rows
from ..core.members import join_members, join_states, take_state
from ..engine.objective import Objective
from ..engine.stack import Stack
from ..schedules.mixed import join_schedules
from .run import Run


def stack_of(runs: Sequence[Run]) -> Stack:
    """Return the stack that trains these runs; they share what is equal."""
    streams: list[np.random.RandomState | None] = []
    orders: list[Rows | None] = []
    for i, run in enumerate(runs):
        if i and _visit_the_same(runs[i - 1], run):
            streams.append(streams[-1])
            orders.append(orders[-1])
        else:
            streams.append(_stream_of(run, is_alone=len(runs) == 1))
            orders.append(run.state["order"])
    first = runs[0]
    parameters = first.parameters
    if len(runs) > 1:
        parameters = parameters.like(
            np.concatenate([run.parameters.theta for run in runs]),
            join_states([run.parameters.statistics for run in runs]),
        )
    schedule, state_of_schedule = join_schedules(
        [run.schedule for run in runs], [run.state["schedule"] for run in runs]
    )
    stack = Stack(
        objective=Objective(
            first.network,
            first.problem.loss,
            join_members([run.objective.penalty for run in runs]),
        ),
        parameters=parameters,
        tables=[run.table for run in runs],
        orders=orders,
        streams=streams,
        batch_sizes=[run.batch_size for run in runs],
        optimizer=join_members([run.optimizer for run in runs]),
        schedule=schedule,
        rate=np.array([[float(run.settings.learning_rate_init)] for run in runs]),
        optimizer_state=join_states([run.state["optimizer"] for run in runs]),
        schedule_state=state_of_schedule,
        n_seen=np.array([[run.n_seen] for run in runs]),
        clip_norm=per_member([run.clip_norm for run in runs]),
        dropout_streams=[run.state["dropout stream"] for run in runs if run.network.is_random],
        average=join_members([run.average for run in runs]),
        average_state=join_states([run.state["average"] for run in runs]),
    )
    if len(runs) > 1:
        show_parameters(stack, runs)
    return stack


def _stream_of(run: Run, is_alone: bool) -> np.random.RandomState | None:
    """Return what shuffles a run's rows: in a stack a copy, which others may share."""
    if not run.settings.shuffle:
        return None
    stream: np.random.RandomState = run.state["stream"]
    return stream if is_alone else copy.deepcopy(stream)


def show_parameters(stack: Stack, runs: Sequence[Run]) -> None:
    """Let each run see its own parameters in the stack, and their average."""
    for i, run in enumerate(runs):
        run.parameters = stack.parameters.members(slice(i, i + 1))
        run.state["average"] = take_state(stack.average_state, slice(i, i + 1))


def _visit_the_same(one: Run, other: Run) -> bool:
    """Return whether two runs visit the same rows in the same order in every epoch."""
    if one.table is not other.table or one.settings.shuffle != other.settings.shuffle:
        return False
    if not np.array_equal(one.state["order"], other.state["order"]):
        return False
    return not one.settings.shuffle or _is_same_stream(one.state["stream"], other.state["stream"])


def _is_same_stream(one: np.random.RandomState, other: np.random.RandomState) -> bool:
    return _is_equal(one.get_state(legacy=False), other.get_state(legacy=False))


def _is_equal(one: Any, other: Any) -> bool:
    """Return whether two states are equal, of any bit generator: dicts of arrays and numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_equal(one[key], other[key]) for key in one)
    return np.array_equal(one, other)


def per_member(values: list[float]) -> PerMember:
    """Return a hyperparameter: one float if it is the same for all members."""
    if values.count(values[0]) == len(values):
        return values[0]
    return np.array(values)[:, None]
