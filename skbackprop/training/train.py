"""Training of networks of one architecture: in stacks and threads, or by L-BFGS."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from itertools import repeat
from typing import Any, TypeAlias

import numpy as np

from ..nn.network import Network
from ..nn.rows import Rows
from ..nn.train_state import TrainState
from ..utils.configurable import is_equal
from .config import Config, stack_configs
from .epochs import (
    GetState,
    MakeStack,
    Members,
    join_states,
    train_epochs,
    train_next_epoch,
)
from .lbfgs import train_by_lbfgs
from .model import Model
from .problem import Problem
from .resources import compute_rows_at_once, limit_blas, n_blas_threads, split_into_stacks
from .validation import fit_shared_temperature, predict_out_of_fold

# The memory that a stack may take, in bytes. It only matters for members that visit their rows in
# different orders: each then has a copy of the next rows.
_MAX_STACK_BYTES = 1 << 28


class TrainingInterrupted(Exception):
    """Training was interrupted by Ctrl-C, or has lost its connection to a cluster.

    Parameters
    ----------
    models : list of Model
        The models after the last complete epoch.
    """

    def __init__(self, models: list[Model]) -> None:
        super().__init__("Training was interrupted.")
        self.models = models


OnEpoch: TypeAlias = Callable[[GetState], bool]
"""Called after each epoch with a function that returns the state; returns whether to stop."""


def train(
    problems: Sequence[Problem],
    models: Sequence[Model],
    on_epoch: OnEpoch | None = None,
    until: int | None = None,
    make_stack: MakeStack | None = None,
    start: float | None = None,
) -> list[Model]:
    """Train the networks of models side by side, and return the models after training.

    Stacks train an epoch in turn, or side by side in threads. Members that L-BFGS trains take
    turns.

    Parameters
    ----------
    problems : sequence of Problem
        The data of each model.
    models : sequence of Model
        The models before training, whose configurations have one `stacking_key`. The state of a
        single model is changed in place.
    on_epoch : callable or None, default=None
        Called after each epoch; with L-BFGS at the end only.
    until : int or None, default=None
        The epoch after which training pauses; None to train to ``max_iter``.
    make_stack : callable or None, default=None
        Makes the only stack, of members that a cluster trains; None to train here.
    start : float or None, default=None
        The time, by `time.monotonic`, from which a time limit counts; None for now.

    Raises
    ------
    TrainingInterrupted
        On Ctrl-C, or when the connection to a cluster is lost. Its models are those after the last
        complete epoch.
    """
    start = time.monotonic() if start is None else start
    config = models[0].config
    configs = [model.config for model in models for _ in range(len(model.state))]
    members = _gather_members(problems, models)
    stacks = _divide_into_stacks(members, configs, is_single=make_stack is not None)
    n_threads = 1 if config.is_lbfgs else min(len(stacks), n_blas_threads())
    n_turns = -(-len(stacks) // n_threads)
    seconds = config.time_limit * len(configs) / config.n_estimators
    iterators: list[Iterator[GetState]] = []
    for i, part in enumerate(stacks):
        deadlines = (start + seconds * (i // n_threads + 1) / n_turns, start + seconds)
        if config.is_lbfgs:
            iterators.append(train_by_lbfgs(part, until, deadlines))
        else:
            iterators.append(train_epochs(part, until, deadlines, make_stack))
    states = [next(iterator) for iterator in iterators]

    def join(reason: str = "") -> TrainState:
        """Return the state of all members; set the reason to stop of those still training."""
        pairs = zip(stacks, states, strict=True)
        result = join_states([(np.sort(part.numbers), get_state()) for part, get_state in pairs])
        if reason:
            result.stop_reason = [item or reason for item in result.stop_reason]
        return result

    try:
        with _run_in_threads(members, n_threads) as map_stacks:
            # `next` trains a stack for an epoch, and returns None if its training has ended.
            while any(new_states := list(map_stacks(next, iterators, repeat(None)))):
                states = [new or last for new, last in zip(new_states, states, strict=True)]
                if on_epoch is not None and on_epoch(join):
                    return _divide_among_models(models, join("stopped"))
    except (KeyboardInterrupt, ConnectionError) as error:
        raise TrainingInterrupted(_divide_among_models(models, join("interrupted"))) from error
    return _divide_among_models(models, join())


def train_next(problem: Problem, model: Model, make_stack: MakeStack | None = None) -> Model:
    """Train a model for one more epoch, without a time limit and early stopping.

    Parameters
    ----------
    problem : Problem
        The data.
    model : Model
        The model before training, whose state is changed in place. If the epoch fails or diverges,
        its arrays are as they were.
    make_stack : callable or None, default=None
        Makes the stack of members that a cluster trains; None to train here.
    """
    config = model.config
    is_scored = problem.validation_rows is not None and config.early_stopping is not None
    config = config.without_time_limit if is_scored else config.without_stopping_criteria
    if model.stack is not None and model.stack.config is config:
        # `start_model` has given it the rows.
        network = model.training_network
        with _limit_blas(network, config, problem.rows, problem.rows.n_rows):
            train_next_epoch(model.stack, network, problem.make_validation(model))
        return model
    members = replace(_gather_members([problem], [model]), config=config)
    configs = [config] * len(model.state)
    parts = _divide_into_stacks(members, configs, is_single=make_stack is not None)
    bind = Members.bind if make_stack is None else make_stack
    stacks = [bind(part) for part in parts]
    with _run_in_threads(members, min(len(parts), n_blas_threads())) as map_stacks:
        networks = repeat(members.network)
        list(map_stacks(train_next_epoch, stacks, networks, [part.validation for part in parts]))
    state = join_states([(part.numbers, part.state) for part in parts])
    stack = stacks[0] if len(stacks) == 1 else None
    return replace(model, state=state, is_incremental=True, stack=stack)


def finish_model(problem: Problem, model: Model, *, calibrates: bool = True) -> Model:
    """Return a model after training that predicts: of the best epoch, calibrated, with results."""
    config = model.config
    state = model.state
    if "theta" in state.best and not model.is_incremental:
        state.return_to_best()
        state.best = {name: state.best[name] for name in ("score", "epoch")}
    if calibrates and config.early_stopping is not None and config.early_stopping.calibrate:
        validation = [part for part in problem.make_validation(model) if part is not None]
        if validation:
            state.temperature[...] = 1
            state.temperature[...] = fit_shared_temperature(
                model.network, state.inference_parameters(model.network.layout), validation
            )
    model = model.summarize()
    if problem.has_folds:
        out_of_fold = predict_out_of_fold(
            model.network, model.parameters, problem.rows, problem.targets, state.held_out
        )
        model = replace(model, out_of_fold=out_of_fold)
    return model


def _gather_members(problems: Sequence[Problem], models: Sequence[Model]) -> Members:
    """Return the networks of all models, with the configuration of the first one."""
    first = models[0]
    rows: list[Rows] = []
    validation: list[Any] = []
    for problem, model in zip(problems, models, strict=True):
        rows += [problem.rows] * len(model.state)
        validation += problem.make_validation(model)
    state = TrainState.concat([model.state for model in models])
    if len(models) > 1:
        # Models with equal starts have one state. Orders that stacks cannot share are copied later.
        state.history = [history.copy() for history in state.history]
        state.layer_rngs = [copy.deepcopy(rng) for rng in state.layer_rngs]
    return Members(
        network=first.training_network,
        loss=problems[0].targets.loss,
        config=first.config,
        rows=rows,
        validation=validation,
        state=state,
        numbers=np.arange(len(state)),
    )


def _divide_into_stacks(
    members: Members, configs: Sequence[Config], *, is_single: bool
) -> list[Members]:
    """Return the members of each stack; `configs` has the configuration of each member."""
    state = members.state
    n = len(state)
    parts = [np.arange(n)]
    if n > 1 and not is_single:
        parts = split_into_stacks(
            members.network,
            configs[0],
            _count_rows(members),
            state.epoch[:, 0].tolist(),
            state.parameters.dtype.itemsize,
            _MAX_STACK_BYTES,
        )
    stacks: list[Members] = []
    used_rngs: set[int] = set()
    for part in parts:
        index = part.tolist()
        part_configs = [configs[i] for i in index]
        config = stack_configs(part_configs)
        if index == list(range(n)):
            stack = replace(members, config=config)
        else:
            stack = members.take(index, config)
        if n > 1:
            _share_orders(stack.rows, stack.state, used_rngs)
        stacks.append(stack)
    return stacks


def _divide_among_models(models: Sequence[Model], state: TrainState) -> list[Model]:
    """Return the models with their parts of the state of all networks."""
    if len(models) == 1:
        return [replace(models[0], state=state)]
    result: list[Model] = []
    end = 0
    for model in models:
        start = end
        end += len(model.state)
        result.append(replace(model, state=state.take(slice(start, end))))
    return result


def _count_rows(members: Members) -> list[int]:
    """Return the number of rows that each member visits."""
    pairs = zip(members.rows, members.state.orders, strict=True)
    return [rows.n_visited(order) for rows, order in pairs]


@contextmanager
def _run_in_threads(members: Members, n_threads: int) -> Iterator[Callable[..., Any]]:
    """Context with a function like `map`, in which BLAS takes the threads that are left."""
    n_rows = max(_count_rows(members))
    with _limit_blas(members.network, members.config, members.rows[0], n_rows, n_threads):
        if n_threads == 1:
            yield map
        else:
            with ThreadPoolExecutor(n_threads) as pool:
                yield pool.map


def _limit_blas(
    network: Network, config: Config, rows: Rows, n_rows: int, n_threads: int = 1
) -> AbstractContextManager[None]:
    """Return a context for training on `n_rows` of the rows, in some threads of Python."""
    n_at_once = compute_rows_at_once(network, config, rows, n_rows)
    return limit_blas(
        n_at_once * network.max_matmul_size,
        is_lbfgs=config.is_lbfgs,
        n_side_by_side=n_threads,
        divides_rows=network.divides_rows,
    )


def _share_orders(rows: Sequence[Rows], state: TrainState, used_rngs: set[int]) -> None:
    """Share the order and the random state of neighboring members that visit the same rows.

    Their rows are then shuffled once, and gathered once for each batch. Stacks share nothing: a
    stack gets copies if its random state is among `used_rngs`, the ids of those of other stacks.
    """
    rngs = list(state.rngs)
    copies: dict[int, Any] = {}
    for i, (order, rng) in enumerate(zip(state.orders, rngs, strict=True)):
        if rng is not None and id(rng) in used_rngs:
            if id(rng) not in copies:
                copies[id(rng)] = copy.deepcopy((order, rng))
            state.orders[i], state.rngs[i] = copies[id(rng)]
    used_rngs.update(map(id, rngs))
    for i in range(1, len(state)):
        orders = state.orders[i - 1 : i + 1]
        rngs = state.rngs[i - 1 : i + 1]
        if rows[i - 1] is not rows[i] or None in rngs or orders[0] is orders[1]:
            continue
        positions = [rng.get_state(legacy=False) for rng in rngs if rng is not None]
        if is_equal(*orders) and is_equal(*positions):
            state.orders[i] = state.orders[i - 1]
            state.rngs[i] = state.rngs[i - 1]
