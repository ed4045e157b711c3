"""The training loop: epochs, validation scores and stopping of a stack of networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from ..losses.base import Loss
from ..nn.network import Network
from ..nn.rows import Rows
from ..nn.stack import BaseStack, Stack, TimeLimitReached
from ..nn.train_state import TrainState
from ..schedules import update_plateau_counter
from ..utils.arrays import Array
from .config import Config
from .validation import Validation, evaluate

GetState: TypeAlias = Callable[[], TrainState]
"""Returns the state after the last complete epoch."""

MakeStack: TypeAlias = Callable[[Config, TrainState, Sequence[int]], BaseStack]
"""Makes the stack of some members from their configuration, their state and their numbers."""


def train_epochs(
    network: Network,
    loss: Loss,
    config: Config,
    rows: Sequence[Rows],
    validation: Sequence[Validation | None],
    state: TrainState,
    until: int | None = None,
    deadlines: tuple[float, float] = (math.inf, math.inf),
    make_stack: MakeStack | None = None,
    incremental: bool = False,
) -> Iterator[GetState]:
    """Train the networks of a stack by a stochastic optimizer, epoch by epoch.

    Parameters
    ----------
    network : Network
        The architecture, with the layers for training only.
    loss : Loss
        The loss.
    config : Config
        The configuration of all members, as from `stack_configs`.
    rows : sequence of Rows
        The rows of each member, which its order in the state refers to.
    validation : sequence of Validation or None
        The validation rows of each member.
    state : TrainState
        The state of the members, changed in place. They are sorted by the number of rows that they
        visit, the fewest first.
    until : int or None, default=None
        The epoch after which training pauses; None to train to ``max_iter``.
    deadlines : tuple of float, default=(np.inf, np.inf)
        The times, by `time.monotonic`, after which no further batch begins: in the first epoch,
        whose steps, at least one, are kept, and in later epochs, which are then undone.
    make_stack : callable or None, default=None
        Makes the stack that trains some of the members; None for a `Stack` with their rows.
    incremental : bool, default=False
        Whether this is a call of `partial_fit`, a single epoch that is undone if a member diverges.

    Yields
    ------
    get_state : callable
        Returns the state of all members, after each epoch and at the end.

    Raises
    ------
    KeyboardInterrupt, ConnectionError
        On Ctrl-C, or when the connection to a cluster is lost. The state is then that after the
        last complete epoch.
    """
    until = config.max_iter if until is None else until
    members, parts = np.arange(len(state)), list[tuple[Array, TrainState]]()
    stack: BaseStack | None = state.stack
    if stack is not None and not (stack.config is config and stack.set_rows(rows)):
        stack = None
    is_complete = True
    try:
        while True:
            if any(state.stop_reason) and not all(state.stop_reason):  # members leave the stack
                has_ended = np.array(state.stop_reason) != ""
                parts = [*parts, (members[has_ended], state.take(has_ended))]
                survivors = np.flatnonzero(~has_ended).tolist()
                members, state = members[survivors], state.take(survivors)
                config, stack = config.members(survivors), None
                rows, validation = [rows[i] for i in survivors], [validation[i] for i in survivors]
            yield partial(join_members, [*parts, (members, state)])
            n_done = int(state.epoch[0, 0])
            if all(state.stop_reason) or n_done >= until:
                return
            if stack is None:
                if make_stack is None:
                    stack = Stack(network, loss, config, rows, state)
                else:
                    stack = make_stack(config, state, members.tolist())
                state.stack = stack if incremental else None
            # Reading random states would take `partial_fit` as long as a step on a few rows.
            stack.save(with_random_states=not incremental)
            is_complete = False
            try:
                losses = stack.train_epoch(_learning_rate(stack), deadlines[n_done > 0])
            except TimeLimitReached:
                is_diverged = ~state.is_finite()
                if n_done:
                    stack.restore()
                elif is_diverged.any():
                    stack.restore_members(is_diverged)
                state.stop_reason = [
                    "diverged" if flag and not n_done else "time_limit" for flag in is_diverged
                ]
            else:
                is_finite = np.isfinite(losses) & state.is_finite()
                if is_finite.all():
                    end_epoch(network, stack, validation, losses)
                elif state.stack is stack:  # a call of `partial_fit` is undone
                    stack.restore()
                    state.stop_reason = ["stopped" if flag else "diverged" for flag in is_finite]
                else:
                    stack.restore_members(~is_finite)
                    state.stop_reason = ["" if flag else "diverged" for flag in is_finite]
                    pairs = zip(is_finite, validation, strict=True)
                    validation = [part if flag else None for flag, part in pairs]
                    end_epoch(network, stack, validation, losses)
            is_complete = True
    except BaseException:
        if stack is not None and not is_complete:
            stack.restore()  # an estimator may hold this state
        raise


def _learning_rate(stack: BaseStack) -> Array:
    """Return the learning rates of the next epoch, an array of shape (n_estimators, 1)."""
    config, state = stack.config, stack.state
    progress = min(int(state.epoch[0, 0]), config.max_iter - 1) / config.max_iter
    return config.learning_rate.rate(state.schedule, stack.initial_rate, progress)


def end_epoch(
    network: Network,
    stack: BaseStack,
    validation: Sequence[Validation | None],
    losses: Array,
) -> None:
    """Score and record an epoch, keep the best parameters, and set the reasons to stop.

    Members whose training has ended have a reason in the state, and no validation rows. L-BFGS
    stops by itself if its loss makes no progress, and after `max_iter` iterations, so only its
    scores count here.
    """
    config, state = stack.config, stack.state
    schedule = config.learning_rate
    members = [i for i, reason in enumerate(state.stop_reason) if not reason]
    results = evaluate(network, state, validation) if any(validation) else [{}] * len(state)
    state.epoch[members] += 1
    state.loss[members, 0] = losses[members]
    objective, scores, has_scores = losses[:, None].copy(), np.full((len(state), 1), np.nan), False
    for i in members:
        record = {"epoch": int(state.epoch[i, 0]), "loss": float(losses[i]), **results[i]}
        state.history[i].append(record)
        if "validation_score" in record:
            has_scores = True
            scores[i] = record["validation_score"]
            objective[i] = math.inf if math.isnan(scores[i, 0]) else -scores[i, 0]
    schedule.on_epoch_end(state.schedule, stack.initial_rate, objective, state.n_samples_seen)
    if has_scores:
        # Few rows give many ties. The last one of L-BFGS has the lowest loss.
        state.keep_best(scores, prefer_last=config.is_lbfgs)
    if config.verbose:  # `partial_fit` has a single epoch
        print_epoch(state, 1 if state.stack is stack else int(state.epoch.max()))
    stop_mask = np.zeros_like(scores, dtype=bool)
    if config.stops_without_progress and (has_scores or not config.is_lbfgs):
        update_plateau_counter(state.plateau, objective, config.tol)
        stall_mask = state.plateau["count"] > config.n_iter_no_change
        may_stop = schedule.may_stop(state.schedule, len(state))
        state.plateau["count"][stall_mask & ~may_stop] = 0
        stop_mask = stall_mask & may_stop
        if config.verbose:
            for i in np.flatnonzero(stall_mask).tolist():
                member = config.members(slice(i, i + 1))
                quantity = "Training loss" if np.isnan(scores[i, 0]) else "Validation score"
                message = f"Setting learning rate to {_learning_rate(stack)[i, 0]:f}"
                print(
                    f"{quantity} did not improve more than tol={member.tol:f} for "
                    f"{member.n_iter_no_change:.0f} consecutive epochs. "
                    f"{schedule.convergence_message if stop_mask[i, 0] else message}"
                )
    for i in members:
        if stop_mask[i, 0]:
            state.stop_reason[i] = "converged"
        elif state.epoch[i, 0] >= config.max_iter and not config.is_lbfgs:
            state.stop_reason[i] = "unconverged"


def print_epoch(state: TrainState, number: int) -> None:
    """Print the loss and the score of the last epoch, averaged over the networks."""
    pairs = zip(state.history, state.stop_reason, strict=True)
    last_records = [records[-1] for records, reason in pairs if reason != "diverged"]
    if not last_records:
        return
    means = {
        name: float(np.mean([record[name] for record in last_records]))
        for name in ("loss", "validation_loss", "validation_score")
        if all(name in record for record in last_records)
    }
    print(f"Iteration {number}, loss = {means['loss']:.8f}")
    if "validation_score" in means:
        print(f"Validation score: {means['validation_score']:f}")
    elif "validation_loss" in means:
        print(f"Validation loss: {means['validation_loss']:f}")


def join_members(parts: Sequence[tuple[Array, TrainState]]) -> TrainState:
    """Join parts, each the numbers and the state of some members, in the order of the members."""
    if len(parts) == 1 and len(parts[0][0]) == 1:
        return parts[0][1]
    members = np.concatenate([numbers for numbers, _ in parts])
    states = [state for _, state in parts if len(state)]
    result = states[0] if len(states) == 1 else TrainState.concat(states)
    return result if (np.diff(members) > 0).all() else result.take(np.argsort(members))
