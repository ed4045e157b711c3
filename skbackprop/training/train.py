"""Training of networks of one architecture: in stacks and threads, or by L-BFGS."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np

from ..nn.rows import Rows
from ..nn.train_state import TrainState
from ..utils.configurable import is_equal
from .config import stack_configs
from .epochs import GetState, MakeStack, join_members, train_epochs
from .lbfgs import train_by_lbfgs
from .resources import compute_rows_at_once, limit_blas, n_blas_threads, split_into_stacks


class TrainingInterrupted(Exception):
    """Training was interrupted by Ctrl-C, or has lost its connection to a cluster.

    Parameters
    ----------
    state : TrainState
        The state after the last complete epoch.
    """

    def __init__(self, state: TrainState) -> None:
        super().__init__("Training was interrupted.")
        self.state = state


OnEpoch: TypeAlias = Callable[[GetState], bool]
"""Called after each epoch with a function that returns the state; returns whether to stop."""


def train(
    tasks: Sequence[Any],
    state: TrainState,
    on_epoch: OnEpoch | None = None,
    until: int | None = None,
    max_bytes: int = sys.maxsize,
    make_stack: MakeStack | None = None,
    start: float | None = None,
) -> TrainState:
    """Train the networks of prepared fits, and return their state.

    Stacks train an epoch in turn, or side by side in threads. Members that L-BFGS trains take
    turns.

    Parameters
    ----------
    tasks : sequence of PreparedFit
        The fits, whose configurations have one `stacking_key`. A call of `partial_fit` is a single
        fit, of one epoch.
    state : TrainState
        The state of all their networks, which may be changed in place.
    on_epoch : callable or None, default=None
        Called after each epoch; with L-BFGS at the end only.
    until : int or None, default=None
        The epoch after which training pauses; None to train to ``max_iter``.
    max_bytes : int, default=2**63 - 1
        The memory that a stack may take.
    make_stack : callable or None, default=None
        Makes the only stack, of members that a cluster trains; None to train here.
    start : float or None, default=None
        The time, by `time.monotonic`, from which a time limit counts; None for now.

    Raises
    ------
    TrainingInterrupted
        On Ctrl-C, or when the connection to a cluster is lost. Its state is that after the last
        complete epoch.
    """
    first, n_estimators = tasks[0], len(state)
    network, config = first.training_network, first.config
    if first.incremental:  # an epoch without a time limit
        until = int(state.epoch[0, 0]) + 1
        is_scored = first.validation[0] is not None and config.early_stopping is not None
        config = config.without_time_limit if is_scored else config.without_stopping_criteria
        members = [(config, first.rows, part) for part in first.validation]
    else:
        members = [(task.config, task.rows, part) for task in tasks for part in task.validation]
    start = time.monotonic() if start is None else start
    seconds = config.time_limit * n_estimators / config.n_estimators
    pairs = zip(members, state.orders, strict=True)
    n_rows = [rows.n_visited(order) for (_, rows, _), order in pairs]
    parts = [np.arange(n_estimators)]
    if make_stack is None and n_estimators > 1:
        itemsize, epochs = state.parameters.dtype.itemsize, state.epoch[:, 0].tolist()
        parts = split_into_stacks(network, config, n_rows, epochs, itemsize, max_bytes)
    n_threads = min(len(parts), n_blas_threads()) if len(parts) > 1 and not config.is_lbfgs else 1
    n_turns = -(-len(parts) // n_threads)
    train_part: Any = train_by_lbfgs
    if not config.is_lbfgs:
        train_part = partial(train_epochs, make_stack=make_stack, incremental=first.incremental)
    iterators: list[Iterator[GetState]] = []
    used_rngs: set[int] = set()
    for i, part in enumerate(parts):
        numbers = part.tolist()
        part_state = state if numbers == list(range(n_estimators)) else state.take(part)
        part_members = map(members.__getitem__, numbers)
        part_configs, part_rows, part_validation = zip(*part_members, strict=True)
        part_config = part_configs[0] if len(part) == 1 else stack_configs(part_configs)
        if len(state) > 1:
            _share_orders(part_rows, part_state, used_rngs)
        deadlines = start + seconds * (i // n_threads + 1) / n_turns, start + seconds
        arguments = part_config, part_rows, part_validation, part_state, until, deadlines
        iterators.append(train_part(network, first.targets.loss, *arguments))
    blas = limit_blas(
        compute_rows_at_once(network, config, first.rows, max(n_rows)) * network.max_matmul_size,
        is_lbfgs=config.is_lbfgs,
        n_side_by_side=n_threads,
        divides_rows=network.divides_rows,
    )
    states = list(map(next, iterators))

    def join(reason: str = "") -> TrainState:
        """Return the state of all members; set the reason to stop of those still training."""
        pairs = [(part, states[i]()) for i, part in enumerate(parts)]
        for _, part_state in pairs if len(pairs) > 1 else ():
            part_state.stack = None  # a reference cycle would keep the memory
        result = join_members(pairs)
        if reason:
            result.stop_reason = [item or reason for item in result.stop_reason]
        return result

    try:
        with blas, ThreadPoolExecutor(n_threads) if n_threads > 1 else nullcontext() as pool:
            map_stacks: Any = map if pool is None else pool.map
            # `next` trains a stack for an epoch, and returns None if its training has ended.
            while any(new_states := list(map_stacks(next, iterators, repeat(None)))):
                states = [new or last for new, last in zip(new_states, states, strict=True)]
                if on_epoch is not None and on_epoch(join):
                    return join("stopped")
    except (KeyboardInterrupt, ConnectionError) as error:
        raise TrainingInterrupted(join("interrupted")) from error
    return join()


def _share_orders(rows: Sequence[Rows], state: TrainState, used_rngs: set[int]) -> None:
    """Share the order and the random state of neighboring members that visit the same rows.

    Their rows are then shuffled once, and gathered once for each batch. Stacks share nothing: a
    stack gets copies if its random state is among `used_rngs`, the ids of those of other stacks.
    """
    rngs, copies = list(state.rngs), dict[int, Any]()
    for i, (order, rng) in enumerate(zip(state.orders, rngs, strict=True)):
        if rng is not None and id(rng) in used_rngs:
            if id(rng) not in copies:
                copies[id(rng)] = copy.deepcopy((order, rng))
            state.orders[i], state.rngs[i] = copies[id(rng)]
    used_rngs.update(map(id, rngs))
    for i in range(1, len(state)):
        orders, rngs = state.orders[i - 1 : i + 1], state.rngs[i - 1 : i + 1]
        if rows[i - 1] is not rows[i] or None in rngs or orders[0] is orders[1]:
            continue
        positions = [rng.get_state(legacy=False) for rng in rngs if rng is not None]
        if is_equal(*orders) and is_equal(*positions):
            state.orders[i], state.rngs[i] = state.orders[i - 1], state.rngs[i - 1]
