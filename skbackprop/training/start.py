"""Start of training: initial states, or continued ones, with the held-out rows of each network."""

from __future__ import annotations

import copy
from collections.abc import Sequence
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
from .architecture import make_initial_weights
from .config import Config
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


def start_training(
    network: Network,
    config: Config,
    rows: Rows,
    random_state: Any,
    *,
    dtype: Any = None,
    last_state: TrainState | None = None,
    incremental: bool = False,
    restarts: bool = True,
    is_unchanged: bool = False,
    holds_out: bool = False,
    strata: Array | None = None,
    groups: Array | None = None,
    folds: Array | None = None,
) -> TrainState:
    """Return the state before the first epoch, of new networks or of a warm start.

    Parameters
    ----------
    network : Network
        The architecture, with the layers for training only.
    config : Config
        The configuration.
    rows : Rows
        All rows.
    random_state : int, RandomState or None
        The estimator's parameter.
    dtype : dtype, default=None
        The dtype of new parameters.
    last_state : TrainState or None, default=None
        The state after the last training. A warm start continues from a copy of it; `partial_fit`
        changes it in place.
    incremental : bool, default=False
        Whether `partial_fit` trains.
    restarts : bool, default=True
        Whether the count of epochs and the best score start anew.
    is_unchanged : bool, default=False
        Whether the configuration is the same as in the last training.
    holds_out : bool, default=False
        Whether early stopping holds out rows.
    strata : array of int of shape (n_rows,) or None, default=None
        The class of each row, to stratify by.
    groups : array of int of shape (n_rows,) or None, default=None
        The group of each row, which splits keep together; None for no groups.
    folds : array of int of shape (n_rows,) or None, default=None
        The number of the network that holds out each row.

    Raises
    ------
    ValueError
        If there are too few rows or groups to hold out, or no training row has weight.
    """
    if last_state is None:
        rngs = spawn_rngs(random_state, config.n_estimators)
    else:
        rngs = [rng for rng in last_state.rngs if rng is not None]
        if len(rngs) < len(last_state):  # a pickle may lack random states
            rngs = spawn_rngs(random_state, len(last_state))
    early_stopping = config.early_stopping if holds_out else None
    draws_folds = folds is None and getattr(early_stopping, "validation_fraction", None) == "folds"
    if draws_folds:
        # The seed of the folds is drawn after those of the networks, and before the networks draw,
        # so neither depends on the other.
        seeds = copy.deepcopy(rngs[0]).randint(_LARGEST_SEED, size=len(rngs))
    if last_state is None:
        state = _init_state(network, config, dtype, rngs)
    else:
        # A network of an ensemble shares arrays with it, which training must not change.
        is_view = last_state.parameters.theta.base is not None
        state = last_state if incremental and not is_view else last_state.copy()
        if state.parameters.layout.frozen != network.layout.frozen:
            # What is frozen is what predicts: averages and the best epoch, not the last step.
            state = state.with_parameters(state.inference_parameters(network.layout))
            state.optimizer = {}
        state.rngs, state.stop_reason = [*rngs], [""] * len(state)
        if state.parameters.layout is not network.layout:
            state.parameters = state.parameters.with_layout(network.layout)
        if network.stochastic and None in state.layer_rngs:
            state.layer_rngs = [dropout_rng(rng) for rng in rngs]
        if restarts:
            state.restart()
        if not incremental:
            state.temperature = np.ones_like(state.temperature)
    if state.stack is None or not is_unchanged:
        _init_optimization(state, config)
    if draws_folds:
        folds = _draw_folds(state, rows, strata, groups, np.random.RandomState(seeds[-1]))
    for i, order in enumerate(state.orders):
        if folds is not None:
            last_split = _last_split(state, i, rows.n_rows)
            is_held_out = folds == i
            split = _indices_of_mask(~is_held_out), _indices_of_mask(is_held_out)
            if last_split is not None and np.array_equal(np.sort(last_split[1]), split[1]):
                split = last_split
        elif early_stopping is not None:
            last_split = _last_split(state, i, rows.n_rows)
            split = _draw_split(early_stopping, rows, strata, groups, rngs[i], last_split)
        else:
            state.held_out[i] = None
            if not config.shuffle:
                state.orders[i] = None
            elif order is None or len(order) != rows.n_rows:
                state.orders[i] = np.arange(rows.n_rows)
            continue
        _check_weights(rows, split[0], config)
        state.orders[i], state.held_out[i] = split
    return state


def _init_state(
    network: Network, config: Config, dtype: Any, rngs: Sequence[np.random.RandomState]
) -> TrainState:
    """Return the state of new networks, whose initial weights are drawn from the streams."""
    weights, layer_rngs = [], list[np.random.Generator | None]()
    for member, rng in enumerate(rngs):
        layer_rngs.append(dropout_rng(rng) if network.stochastic else None)
        weights.append(make_initial_weights(config.init, network, rng, member, len(rngs)))
    parameters = network.init_parameters(weights, dtype, rngs)
    state = TrainState.initial(parameters)
    state.rngs, state.layer_rngs = [*rngs], layer_rngs
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
        last_shapes = [*map(np.shape, map(last_arrays.get, arrays))]
        has_same_shapes = last_shapes == [*map(np.shape, arrays.values())]
        if not (has_same_shapes and last_arrays.keys() == arrays.keys()):
            setattr(state, name, arrays)


def _last_split(state: TrainState, i: int, n_rows: int) -> Split | None:
    """Return the last split if it has the same number of rows."""
    order, held_out = state.orders[i], state.held_out[i]
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
    n, n_held_out = rows.n_rows, early_stopping.n_held_out(rows.n_rows)
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
    n_rows, n_folds = rows.n_rows, len(state)
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
