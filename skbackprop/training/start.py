"""Start of training: new networks or those of a model, with the held-out rows of each network."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from sklearn.utils import check_random_state

from ..early_stopping import EarlyStopping
from ..layers.dense import dropout_rng
from ..nn.network import Network
from ..nn.rows import Rows
from ..nn.train_state import TrainState
from ..optimizers import Optimizer
from ..utils.arrays import Array, ArrayDict, IndexArray
from ..utils.configurable import is_equal
from .architecture import make_initial_weights
from .config import Config
from .model import Model
from .problem import Problem
from .resources import check_memory, compute_rows_at_once
from .splits import (
    are_groups_whole,
    draw_folds,
    draw_group_folds,
    group_train_validation_split,
    n_weighted_groups,
    train_validation_split,
)

Split: TypeAlias = tuple[IndexArray, IndexArray]
"""The training rows and the held-out rows."""

_LARGEST_SEED = np.iinfo(np.int32).max


def spawn_rngs(random_state: Any, n_estimators: int) -> list[np.random.RandomState]:
    """Return a random stream for each network; the first is the user's own.

    Without a seed, the first is NumPy's global stream, as in scikit-learn. A copy of it draws the
    seeds of the others, so that the first network does not depend on their number.
    """
    rng: np.random.RandomState = check_random_state(random_state)
    if n_estimators == 1:
        return [rng]
    seeds = copy.deepcopy(rng).randint(_LARGEST_SEED, size=n_estimators - 1).tolist()
    return [rng, *map(np.random.RandomState, seeds)]


@dataclass(frozen=True)
class Fresh:
    """A start with new networks, whose weights are drawn from a random state."""

    random_state: Any


@dataclass(frozen=True)
class Warm:
    """A start of `fit` from a copy of a model, with a new count of epochs."""

    model: Model


@dataclass(frozen=True)
class Next:
    """A start of one more epoch of a model, in place, as in `partial_fit`."""

    model: Model


Start: TypeAlias = Fresh | Warm | Next


def start_model(problem: Problem, config: Config, params: dict[str, Any], start: Start) -> Model:
    """Return the model before the first epoch of a training.

    Parameters
    ----------
    problem : Problem
        The data.
    config : Config
        The configuration.
    params : dict
        The parameters of the estimator, from which the configuration was made.
    start : Fresh, Warm or Next
        What training starts from.

    Raises
    ------
    ValueError
        If there are too few rows or groups to hold out, no training row has weight, the memory is
        too small, or the solver cannot train the network.
    """
    network = _make_network(problem, config, start)
    if isinstance(start, Next) and _has_stack_for(start.model, problem, config):
        start.model.state.stop_reason = [""] * len(start.model.state)
        return start.model
    rngs = _make_rngs(config, params, start)
    training_network = network.with_dropout(config.dropout_rates)
    dtype = _check_training(training_network, problem.rows, config)
    fold_rng = _spawn_fold_rng(rngs) if problem.draws_folds else None
    results: Mapping[str, Any] = {}
    match start:
        case Fresh():
            state = _init_state(training_network, config, dtype, rngs)
            _init_optimization(state, config)
        case Warm(last):
            state = _start_again(last.state, training_network, config, rngs)
        case Next(last):
            results = last.results
            state = _continue(last, training_network, config, rngs)
    _divide_rows(state, problem, config, fold_rng)
    return Model(
        params,
        config,
        network,
        problem.targets,
        state,
        problem.row_shape,
        problem.feature_names,
        results=results,
    )


def _has_stack_for(model: Model, problem: Problem, config: Config) -> bool:
    """Return whether a model has a stack for a configuration, which is given the next rows.

    What it takes to train the model has then been checked, and is made.
    """
    stack = model.stack
    return (
        stack is not None
        and model.config is config
        and problem.hold_out is None
        and stack.set_rows([problem.rows] * len(model.state))
    )


def _make_network(problem: Problem, config: Config, start: Start) -> Network:
    """Return the network that predicts, which a start from a model shares if it can."""
    if not isinstance(start, Fresh) and start.model.config is config:
        network = start.model.network
    else:
        network = config.network(problem.row_shape, problem.rows.y.shape[1])
    problem.check_padding(network)
    return network


def _make_rngs(config: Config, params: dict[str, Any], start: Start) -> list[np.random.RandomState]:
    """Return the random stream of each network, those of a model if training continues."""
    if isinstance(start, Fresh):
        return spawn_rngs(start.random_state, config.n_estimators)
    state = start.model.state
    rngs = [rng for rng in state.rngs if rng is not None]
    if len(rngs) < len(state):  # a pickle may lack random states
        rngs = spawn_rngs(params["random_state"], len(state))
    return rngs


def _check_training(network: Network, rows: Rows, config: Config) -> Any:
    """Return the dtype of new parameters, after a check that the network can be trained."""
    config.validate_network(network)
    is_single = rows.X.dtype.kind == "f" and rows.X.dtype.itemsize == 4
    dtype = config.dtype or np.dtype(np.float32 if is_single else np.float64)
    n_at_once = compute_rows_at_once(network, config, rows, rows.n_rows)
    check_memory(network, config, n_at_once, dtype.itemsize)
    return dtype


def _init_state(
    network: Network, config: Config, dtype: Any, rngs: Sequence[np.random.RandomState]
) -> TrainState:
    """Return the state of new networks, whose initial weights are drawn from the streams."""
    weights = []
    layer_rngs: list[np.random.Generator | None] = []
    for member, rng in enumerate(rngs):
        layer_rngs.append(dropout_rng(rng) if network.stochastic else None)
        weights.append(make_initial_weights(config.init, network, rng, member, len(rngs)))
    parameters = network.init_parameters(weights, dtype, rngs)
    state = TrainState.initial(parameters)
    state.rngs = [*rngs]
    state.layer_rngs = layer_rngs
    return state


def _start_again(
    last_state: TrainState,
    network: Network,
    config: Config,
    rngs: Sequence[np.random.RandomState],
) -> TrainState:
    """Return a copy of a state that starts a new count of epochs, without calibration."""
    state = _fit_to_network(last_state.copy(), network, rngs)
    state.restart()
    state.best_loss = np.full_like(state.best_loss, np.inf)
    state.temperature = np.ones_like(state.temperature)
    _init_optimization(state, config)
    return state


def _continue(
    last: Model, network: Network, config: Config, rngs: Sequence[np.random.RandomState]
) -> TrainState:
    """Return the state of a model for a call of `partial_fit` that needs another stack.

    It shares the arrays of the model, so the arrays that a user holds are trained as well.
    """
    # One network of an ensemble shares arrays with it, which training must not change.
    is_view = last.state.parameters.theta.base is not None
    state = last.state.copy() if is_view else last.state.share()
    state = _fit_to_network(state, network, rngs)
    is_same_rule = config is last.config or is_equal(
        config.early_stopping, last.config.early_stopping
    )
    if not (last.is_incremental and is_same_rule):
        state.restart()
    _init_optimization(state, config)
    return state


def _fit_to_network(
    state: TrainState, network: Network, rngs: Sequence[np.random.RandomState]
) -> TrainState:
    """Return a state for another training of a network, whose layers may be frozen by now."""
    if state.parameters.layout.frozen != network.layout.frozen:
        # What is frozen is what predicts: averages and the best epoch, not the last step.
        state = state.with_parameters(state.inference_parameters(network.layout))
        state.optimizer = {}
    state.rngs = [*rngs]
    state.stop_reason = [""] * len(state)
    if state.parameters.layout is not network.layout:
        state.parameters = state.parameters.with_layout(network.layout)
    if network.stochastic and None in state.layer_rngs:
        state.layer_rngs = [dropout_rng(rng) for rng in rngs]
    return state


def _init_optimization(state: TrainState, config: Config) -> None:
    """Keep the states of optimizer, schedule and average if they fit, or initialize them."""
    theta = state.parameters.theta
    new: dict[str, ArrayDict] = {"optimizer": {}, "schedule": {}, "average": {}}
    if isinstance(config.solver, Optimizer):
        new["optimizer"] = config.solver.init(theta)
        new["schedule"] = config.learning_rate.init(len(state))
        if config.average is not None:
            buffers = state.parameters.statistics
            new["average"] = config.average.init(theta, state.n_samples_seen, buffers)
    for name, arrays in new.items():
        last_arrays = getattr(state, name)
        last_shapes = {key: array.shape for key, array in last_arrays.items()}
        if last_shapes != {key: array.shape for key, array in arrays.items()}:
            setattr(state, name, arrays)


def _spawn_fold_rng(rngs: Sequence[np.random.RandomState]) -> np.random.RandomState:
    """Return the random state of the folds.

    Its seed is drawn after those of the networks, and before the networks draw, so neither depends
    on the other.
    """
    seeds = copy.deepcopy(rngs[0]).randint(_LARGEST_SEED, size=len(rngs))
    return np.random.RandomState(seeds[-1])


def _divide_rows(
    state: TrainState, problem: Problem, config: Config, fold_rng: np.random.RandomState | None
) -> None:
    """Set the rows that each network is trained on, and those that it holds out.

    Raises
    ------
    ValueError
        If there are too few rows or groups to hold out, or no training row has weight.
    """
    rows = problem.rows
    folds = problem.folds
    if folds is None and problem.hold_out is None:
        for i, order in enumerate(state.orders):
            state.held_out[i] = None
            if not config.shuffle:
                state.orders[i] = None
            elif order is None or len(order) != rows.n_rows:
                state.orders[i] = np.arange(rows.n_rows)
        return
    strata = None if problem.hold_out is None else problem.targets.strata(rows.y)
    if fold_rng is not None:
        folds = _draw_folds(state, rows, strata, problem.groups, fold_rng)
    for i, rng in enumerate(state.rngs):
        last_split = _last_split(state, i, rows.n_rows)
        if folds is not None:
            split = _split_by_fold(folds == i, last_split)
        else:
            assert rng is not None
            assert problem.hold_out is not None
            split = _draw_split(problem.hold_out, rows, strata, problem.groups, rng, last_split)
        _check_weights(rows, split[0], config)
        state.orders[i], state.held_out[i] = split


def _split_by_fold(is_held_out: Array, last_split: Split | None) -> Split:
    """Return the rows outside and inside of a fold, in the order of the last split if it is one."""
    split = _indices_of_mask(~is_held_out), _indices_of_mask(is_held_out)
    if last_split is not None and np.array_equal(np.sort(last_split[1]), split[1]):
        return last_split
    return split


def _last_split(state: TrainState, i: int, n_rows: int) -> Split | None:
    """Return the last split if it has the same number of rows."""
    order = state.orders[i]
    held_out = state.held_out[i]
    if order is None or held_out is None or len(order) + len(held_out) != n_rows:
        return None
    return order, held_out


def _indices_of_mask(mask: Array) -> IndexArray:
    """Return row numbers as 32-bit integers if possible, since networks keep several copies."""
    rows: Any = np.flatnonzero(mask)
    return rows.astype(np.int32) if len(mask) <= np.iinfo(np.int32).max else rows


def _check_weights(rows: Rows, train: IndexArray, config: Config) -> None:
    if rows.weight is not None and not rows.weight[train].any(axis=0).all():
        is_by_class = config.class_weight is not None
        weight_name = "weight (with class_weight)" if is_by_class else "sample_weight"
        raise ValueError(
            f"Held-out rows must leave a training row with a positive {weight_name}, for each "
            "target, but are all such rows. Remove rows of weight zero and targets of few rows, or "
            "choose another random_state, a larger n_estimators, or early_stopping=False."
        )


def _draw_split(
    early_stopping: EarlyStopping,
    rows: Rows,
    strata: Array | None,
    groups: Array | None,
    rng: np.random.RandomState,
    last_split: Split | None,
) -> Split:
    """Return the last split if it is still valid, else a new one."""
    n = rows.n_rows
    n_held_out = early_stopping.n_held_out(n)
    if n_held_out >= n:
        raise ValueError(
            f"early_stopping=True must leave rows to train on, but holds out {n_held_out} rows of "
            f"n_samples = {n}. Use more rows, a smaller validation_fraction (now "
            f"{early_stopping.validation_fraction}), or early_stopping=False."
        )
    if groups is not None:
        if last_split is not None and are_groups_whole(groups, last_split):
            return last_split
        return group_train_validation_split(groups, n_held_out / n, rng, strata, rows.row_weight)
    if last_split is not None and len(last_split[1]) == n_held_out:
        return last_split
    return train_validation_split(n, n_held_out, rng, strata)


def _draw_folds(
    state: TrainState,
    rows: Rows,
    strata: Array | None,
    groups: Array | None,
    rng: np.random.RandomState,
) -> Array:
    """Return the fold of each row, which one network holds out: the last folds or new ones.

    Raises
    ------
    ValueError
        If there are fewer than two networks, or fewer rows, or groups, than networks.
    """
    n_rows = rows.n_rows
    n_folds = len(state)
    requirement = 'EarlyStopping(validation_fraction="folds") needs'
    if n_folds < 2:
        raise ValueError(
            f"{requirement} several networks, each of which holds out one fold, got "
            "n_estimators=1. Set n_estimators to the number of folds, at least 2, or "
            "validation_fraction to a share of the rows."
        )
    if n_rows < n_folds:
        raise ValueError(
            f"{requirement} at least one row for each network to hold out, got n_samples = "
            f"{n_rows} and n_estimators={n_folds}. Use more rows, or set n_estimators to at most "
            f"{n_rows}."
        )
    last_splits = [_last_split(state, i, n_rows) for i in range(n_folds)]
    held_out = [split[1] for split in last_splits if split is not None]
    folds = np.full(n_rows, -1)
    for fold, rows_of_fold in enumerate(held_out):
        folds[rows_of_fold] = fold
    has_last_folds = sum(map(len, held_out)) == n_rows and folds.min() >= 0
    if has_last_folds and (groups is None or are_groups_whole(groups, held_out)):
        return folds
    if groups is None:
        return draw_folds(n_rows, n_folds, rng, strata)
    weight = rows.row_weight
    n_groups = n_weighted_groups(groups, weight)
    if n_groups < n_folds:
        raise ValueError(
            f"{requirement} at least one group with positive weight for each network to hold out, "
            f"got {n_groups} groups and n_estimators={n_folds}. Use rows of more groups, set "
            f"n_estimators to at most {n_groups}, or fit without groups."
        )
    has_weight = None if weight is None else weight > 0
    return draw_group_folds(groups, n_folds, rng, strata, has_weight)
