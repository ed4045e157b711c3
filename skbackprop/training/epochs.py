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

# Errors that leave the last complete epoch: Ctrl-C, and the loss of the workers of a cluster.
_INTERRUPTS = KeyboardInterrupt, ConnectionError


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
        The times, by `time.monotonic`, at which the first epoch ends in its midst, and at which
        training ends with the last complete epoch.
    make_stack : callable or None, default=None
        Makes the stack that trains some of the members; None for a `Stack` with their rows.

    Yields
    ------
    get_state : callable
        Returns the state of all members, after each epoch and at the end.

    Raises
    ------
    TrainingInterrupted
        On Ctrl-C, or when the connection to a cluster is lost.
    """
    until = config.max_iter if until is None else until
    members, ended = np.arange(len(state)), list[tuple[Array, TrainState]]()
    stack: BaseStack | None = state.stack
    if stack is not None and not (stack.config is config and stack.set_rows(rows)):
        stack = None
    is_complete = True
    try:
        while True:
            over = [i for i, reason in enumerate(state.stop_reason) if reason]
            if 0 < len(over) < len(members):  # these members leave the stack
                going = [i for i, reason in enumerate(state.stop_reason) if not reason]
                left = members[over], state.take(over)
                ended, members, state = [*ended, left], members[going], state.take(going)
                stack = None
            yield partial(join_members, [*ended, (members, state)])
            n_done = int(state.epoch[0, 0])
            if not state.is_active or n_done >= until:
                return
            numbers = members.tolist()
            if stack is None:
                own_config = config.members(members) if ended else config
                if make_stack is None:
                    stack = Stack(network, loss, own_config, [rows[i] for i in numbers], state)
                else:
                    stack = make_stack(own_config, state, numbers)
                state.stack = stack if until - n_done == 1 else None
            # `partial_fit` has a single epoch, after which nothing continues if it fails.
            stack.save(with_random_states=until - n_done > 1)
            is_complete = False
            try:
                losses = stack.train_epoch(_learning_rate(stack), deadlines[n_done > 0])
            except TimeLimitReached:
                lost = ~state.is_finite()
                if n_done:
                    stack.restore()
                elif lost.any():
                    stack.restore_members(lost)
                state.stop_reason = [
                    "diverged" if is_lost and not n_done else "time_limit" for is_lost in lost
                ]
            else:
                diverged = ~(np.isfinite(losses) & state.is_finite())
                if diverged.any() and state.stack is stack:  # a call is all or nothing
                    stack.restore()
                    state.stop_reason = ["diverged" if lost else "stopped" for lost in diverged]
                else:
                    if diverged.any():
                        stack.restore_members(diverged)
                        state.stop_reason = ["diverged" if lost else "" for lost in diverged]
                    _end_epoch(network, stack, [validation[i] for i in numbers], losses)
            is_complete = True
    except BaseException as error:
        if stack is not None and not is_complete:
            stack.restore()  # `partial_fit` trains the state of its estimator
        if not isinstance(error, _INTERRUPTS):
            raise
        raise TrainingInterrupted(join_members([*ended, (members, state)])) from error


def _learning_rate(stack: BaseStack) -> Array:
    """Return the learning rates of the next epoch, an array of shape (n_estimators, 1)."""
    config, state = stack.config, stack.state
    progress = min(int(state.epoch[0, 0]), config.max_iter - 1) / config.max_iter
    return config.learning_rate.rate(state.schedule, stack.initial_rate, progress)


def _end_epoch(
    network: Network,
    stack: BaseStack,
    validation: Sequence[Validation | None],
    losses: Array,
) -> None:
    """Score and record an epoch, keep the best parameters, and find who stops after it."""
    config, state = stack.config, stack.state
    schedule = config.learning_rate
    going = [i for i, reason in enumerate(state.stop_reason) if not reason]
    checked = [validation[i] if i in going else None for i in range(len(state))]
    results = evaluate(network, state, checked)
    state.epoch[going] += 1
    state.loss[going, 0] = losses[going]
    monitored, scores = losses[:, None].copy(), np.full((len(state), 1), np.nan)
    for i in going:
        record = {"epoch": int(state.epoch[i, 0]), "loss": float(losses[i]), **results[i]}
        state.history[i].append(record)
        if "validation_score" in record:
            scores[i] = record["validation_score"]
            monitored[i] = math.inf if math.isnan(scores[i, 0]) else -scores[i, 0]
    schedule.on_epoch_end(state.schedule, stack.initial_rate, monitored, state.n_samples_seen)
    if any(each is not None and each.scoring is not None for each in validation):
        state.keep_best(scores)
    if config.verbose:  # `partial_fit` has a single epoch
        print_epoch(state, 1 if state.stack is stack else int(state.epoch.max()))
    stops = np.zeros_like(scores, dtype=bool)
    if np.isfinite(config.n_iter_no_change).any():
        stalled = is_stalled(config, state, monitored)
        may_stop = schedule.may_stop(state.schedule, len(state))
        state.plateau["count"][stalled & ~may_stop] = 0
        stops = stalled & may_stop
        if config.verbose:
            for i in np.flatnonzero(stalled).tolist():
                rate = _learning_rate(stack)[i, 0]
                lower = f"Setting learning rate to {rate:f}"
                print_stall(
                    config.members(slice(i, i + 1)),
                    not np.isnan(scores[i, 0]),
                    schedule.convergence_message if stops[i, 0] else lower,
                )
    for i in going:
        if stops[i, 0]:
            state.stop_reason[i] = "converged"
        elif state.epoch[i, 0] >= config.max_iter:
            state.stop_reason[i] = "unconverged"


def print_epoch(state: TrainState, number: int) -> None:
    """Print the losses and scores of the last epoch; of several networks, their means."""
    pairs = zip(state.history, state.stop_reason, strict=True)
    last = [records[-1] for records, reason in pairs if reason != "diverged"]
    if not last:
        return
    means = {
        name: float(np.mean([record[name] for record in last]))
        for name in ("loss", "validation_loss", "validation_score")
        if all(name in record for record in last)
    }
    print(f"Iteration {number}, loss = {means['loss']:.8f}")
    if "validation_score" in means:
        print(f"Validation score: {means['validation_score']:f}")
    elif "validation_loss" in means:
        print(f"Validation loss: {means['validation_loss']:f}")


def is_stalled(config: Config, state: TrainState, monitored: Array) -> Array:
    """Return which members make no progress any more, after an epoch.

    Parameters
    ----------
    config : Config
        The configuration of the members.
    state : TrainState
        Their state, in which epochs without progress are counted.
    monitored : array of shape (n_estimators, 1)
        The monitored value, lower is better.

    Returns
    -------
    stalled : array of bool of shape (n_estimators, 1)
        Whether more than ``n_iter_no_change`` epochs were without progress.
    """
    update_plateau_counter(state.plateau, monitored, config.tol)
    return np.asarray(state.plateau["count"] > config.n_iter_no_change)


def print_stall(config: Config, is_scored: bool, consequence: str) -> None:
    """Print that progress has stalled, and the consequence."""
    monitored = "Validation score" if is_scored else "Training loss"
    print(
        f"{monitored} did not improve more than tol={config.tol:f} for "
        f"{config.n_iter_no_change:.0f} consecutive epochs. {consequence}"
    )


def join_members(parts: Sequence[tuple[Array, TrainState]]) -> TrainState:
    """Return the state of all members, in their order, from their numbers and states in parts."""
    if len(parts) == 1 and len(parts[0][0]) == 1:
        return parts[0][1]
    members = np.concatenate([numbers for numbers, _ in parts])
    states = [state for _, state in parts if len(state)]
    joined = states[0] if len(states) == 1 else TrainState.concat(states)
    return joined if (np.diff(members) > 0).all() else joined.take(np.argsort(members))
