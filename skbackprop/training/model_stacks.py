"""Stacks of networks that train together: their sizes and their joint state."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np

from ..nn.data_loader import CHUNK_BYTES
from ..nn.ensemble_trainer import StackTrainer, TimeLimit
from ..nn.network import Network
from ..nn.train_state import TrainState
from ..optimizers import Optimizer
from ..schedules import LearningRateSchedule
from ..utils.arrays import FloatOrPerMember
from ..utils.configurable import stack_settings
from ..utils.equality import Item, is_equal
from .training_run import TrainingRun

# Bytes that a step of a stack may touch. Measured on a core with 2 MB of second-level cache: below,
# a member's time falls with the size of the stack; above, it stays or rises again.
_CACHE_BYTES = 1 << 22

# Bytes of a step from which on a thread of its own pays: enough work between two calls of Python,
# which only one thread can make at a time.
_WORTH_A_THREAD = 1 << 19

# In smaller stacks the member axis costs as much as the shared overhead saves.
_FEWEST_MEMBERS = 4


def bytes_per_member(network: Network, batch_size: int, itemsize: int, n_moments: int = 2) -> int:
    """Return roughly how many bytes a step touches for each member of a stack.

    They are the parameters, gradients, moments and averages, and the activations of a batch.
    """
    n_arrays = 2 + n_moments
    return itemsize * (
        n_arrays * network.layout.n_parameters + batch_size * network.memory_per_sample
    )


def fits_into_cache(network: Network, n_rows: int, itemsize: int, n_moments: int) -> bool:
    """Return whether all that a step on so many rows touches fits into the cache."""
    return bytes_per_member(network, n_rows, itemsize, n_moments) <= _CACHE_BYTES


def max_stack_size(
    network: Network,
    batch_size: int,
    itemsize: int,
    n_rows: int,
    max_bytes: int,
    n_moments: int = 2,
) -> int:
    """Return how many networks train fastest as one stack, within a memory limit.

    Parameters
    ----------
    network : Network
        The architecture.
    batch_size : int
        The number of rows of a batch.
    itemsize : int
        The bytes of a number.
    n_rows : int
        The number of training rows.
    max_bytes : int
        The memory limit of a stack, including copies for rollback and gathered rows.
    n_moments : int, default=2
        The number of arrays, each like the parameters, that optimizer and average keep.
    """
    each = bytes_per_member(network, batch_size, itemsize, n_moments)
    n_inputs, *_, n_outputs = network.n_units
    n_gathered = min(CHUNK_BYTES // (itemsize * max(n_inputs, n_outputs)), n_rows)
    gathered = itemsize * n_gathered * (n_inputs + 2 * n_outputs)
    n_estimators = min(_CACHE_BYTES // each, max_bytes // (3 * each + gathered))
    return n_estimators if n_estimators >= _FEWEST_MEMBERS else 1


def n_stacks(n_estimators: int, size: int, each: int, n_threads: int) -> int:
    """Return the number of stacks for these members, so that all threads have equal work.

    Parameters
    ----------
    n_estimators : int
        The number of members.
    size : int
        The largest number of members in a stack.
    each : int
        The `bytes_per_member`.
    n_threads : int
        The number of threads that may train stacks side by side.
    """
    fewest = -(-n_estimators // size)
    balanced = min(n_estimators, -(-fewest // n_threads) * n_threads)
    return balanced if n_estimators * each >= balanced * _WORTH_A_THREAD else fewest


def array_split(items: Sequence[Item], n_parts: int) -> list[Sequence[Item]]:
    """Return consecutive parts of nearly equal length."""
    bounds = [len(items) * part // n_parts for part in range(n_parts + 1)]
    return [items[start:stop] for start, stop in pairwise(bounds)]


def make_stack_trainer(
    runs: Sequence[TrainingRun], deadline: TimeLimit | None = None
) -> StackTrainer:
    """Return the stack that trains these runs by a stochastic optimizer."""
    first = runs[0]
    schedule, state = _join_states(runs)
    penalty = stack_settings([run.objective.penalty for run in runs])
    solvers = [run.config.solver for run in runs]
    optimizers = [solver for solver in solvers if isinstance(solver, Optimizer)]
    stack = first.problem.stack(
        objective=replace(first.objective, penalty=penalty),
        state=state,
        tables=[run.table for run in runs],
        batch_sizes=[run.batch_size for run in runs],
        optimizer=stack_settings(optimizers),
        schedule=schedule,
        rate=np.array([[run.config.rate] for run in runs]),
        clip_norm=stack_hyperparameter([run.config.clip_norm for run in runs]),
        average=stack_settings([run.config.average for run in runs]),
        deadline=deadline,
    )
    if len(runs) > 1:
        bind_parameter_views(stack, runs)
    return stack


def _join_states(runs: Sequence[TrainingRun]) -> tuple[LearningRateSchedule, TrainState]:
    """Return one schedule and one state for all runs."""
    first = runs[0]
    if len(runs) == 1:
        shuffles = first.config.shuffle
        state = first.state if shuffles else replace(first.state, rngs=[None])
        return first.config.schedule, state
    schedule = stack_settings([run.config.schedule for run in runs])
    return schedule, TrainState.join(_share_orders(runs))


def time_limit_for(runs: Sequence[TrainingRun]) -> TimeLimit | None:
    """Return the time limit for training runs of one shape together; None for no limit.

    Each network has an equal share of the time of its fit; together they have the sum.
    """
    config = runs[0].config
    if config.time_limit == math.inf or runs[0].incremental:
        return None
    return TimeLimit(config.time_limit * len(runs) / config.n_estimators)


def _share_orders(runs: Sequence[TrainingRun]) -> list[TrainState]:
    """Return the states of runs, where runs that visit the same rows share order and stream.

    Both are copies. The streams of runs without shuffling are None.
    """
    states: list[TrainState] = []
    for i, run in enumerate(runs):
        state = run.state
        if i and _visit_same_rows(runs[i - 1], run):
            shared = states[-1]
            states.append(replace(state, orders=shared.orders, rngs=shared.rngs))
            continue
        orders, rngs = copy.deepcopy(state.orders), copy.copy(state.rngs)
        rngs[0] = copy.deepcopy(rngs[0]) if run.config.shuffle else None
        states.append(replace(state, orders=orders, rngs=rngs))
    return states


def bind_parameter_views(stack: StackTrainer, runs: Sequence[TrainingRun]) -> None:
    """Make the parameters of each run, and their average, views of the stack's arrays."""
    for i, run in enumerate(runs):
        own = stack.state.take(slice(i, i + 1))
        run.state = replace(run.state, parameters=own.parameters, average=own.average)


def _visit_same_rows(one: TrainingRun, other: TrainingRun) -> bool:
    """Return whether two runs visit the same rows in the same order in every epoch."""
    if one.table is not other.table or one.config.shuffle != other.config.shuffle:
        return False
    if not is_equal(one.state.orders, other.state.orders):
        return False
    if not one.config.shuffle or is_equal(one.state.rngs, other.state.rngs):
        return True
    return is_equal(*(_stream_positions(run.state) for run in (one, other)))


def _stream_positions(state: TrainState) -> list[object]:
    """Return the positions of the streams, as comparable values."""
    return [rng and rng.get_state(legacy=False) for rng in state.rngs]


def stack_hyperparameter(values: list[float]) -> FloatOrPerMember:
    """Return a hyperparameter for a stack: one float if it is the same for all members."""
    if values.count(values[0]) == len(values):
        return values[0]
    return np.array(values)[:, None]
