"""The training loop: epochs, validation scores and stopping of a stack of networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Self, TypeAlias

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


@dataclass(frozen=True, eq=False)
class Members:
    """Networks of one architecture that train together, each on rows of its own.

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
        The state of the members, which training changes in place.
    numbers : array of int
        The number of each member among all that are trained.
    """

    network: Network
    loss: Loss
    config: Config
    rows: Sequence[Rows]
    validation: Sequence[Validation | None]
    state: TrainState
    numbers: Array

    def take(self, index: Sequence[int], config: Config | None = None) -> Self:
        """Return some of the members; `config` is their configuration if it is known."""
        return replace(
            self,
            config=self.config.members(index) if config is None else config,
            rows=[self.rows[i] for i in index],
            validation=[self.validation[i] for i in index],
            state=self.state.take(index),
            numbers=self.numbers[index],
        )

    def bind(self) -> BaseStack:
        """Return a stack that trains the members in this process."""
        return Stack(self.network, self.loss, self.config, self.rows, self.state)


MakeStack: TypeAlias = Callable[[Members], BaseStack]
"""Makes the stack that trains some members."""


def train_epochs(
    members: Members,
    until: int | None = None,
    deadlines: tuple[float, float] = (math.inf, math.inf),
    make_stack: MakeStack | None = None,
) -> Iterator[GetState]:
    """Train the members of a stack by a stochastic optimizer, epoch by epoch.

    Parameters
    ----------
    members : Members
        The members. They are sorted by the number of rows that they visit, the fewest first.
    until : int or None, default=None
        The epoch after which training pauses; None to train to ``max_iter``.
    deadlines : tuple of float, default=(np.inf, np.inf)
        The times, by `time.monotonic`, after which no further batch begins: in the first epoch,
        whose steps, at least one, are kept, and in later epochs, which are then undone.
    make_stack : callable or None, default=None
        Makes the stack that trains some of the members; None for `Members.bind`.

    Yields
    ------
    get_state : callable
        Returns the state of all members, in the order of their numbers, after each epoch and at
        the end.

    Raises
    ------
    KeyboardInterrupt, ConnectionError
        On Ctrl-C, or when the connection to a cluster is lost. The state is then that after the
        last complete epoch.
    """
    until = members.config.max_iter if until is None else until
    ended: list[tuple[Array, TrainState]] = []
    stack: BaseStack | None = None
    is_complete = True
    try:
        while True:
            state = members.state
            if any(state.stop_reason) and not all(state.stop_reason):  # members leave the stack
                has_ended = np.array(state.stop_reason) != ""
                ended.append((members.numbers[has_ended], state.take(has_ended)))
                members = members.take(np.flatnonzero(~has_ended).tolist())
                state = members.state
                stack = None
            yield partial(join_states, [*ended, (members.numbers, state)])
            n_done = int(state.epoch[0, 0])
            if all(state.stop_reason) or n_done >= until:
                return
            if stack is None:
                stack = members.bind() if make_stack is None else make_stack(members)
            stack.save()
            is_complete = False
            _train_epoch(stack, members, deadlines[n_done > 0])
            is_complete = True
    except BaseException:
        if stack is not None and not is_complete:
            stack.restore()  # an estimator may hold this state
        raise


def train_next_epoch(
    stack: BaseStack, network: Network, validation: Sequence[Validation | None]
) -> None:
    """Train the members of a stack for one epoch, which is undone if one of them diverges."""
    # Reading random states would take as long as a step on a few rows.
    stack.save(with_random_states=False)
    try:
        losses = stack.train_epoch(learning_rate(stack))
        is_finite = np.isfinite(losses) & stack.state.is_finite()
        if is_finite.all():
            end_epoch(network, stack, validation, losses, is_only=True)
        else:
            stack.restore()
            stack.state.stop_reason = ["stopped" if flag else "diverged" for flag in is_finite]
    except BaseException:
        stack.restore()
        raise


def _train_epoch(stack: BaseStack, members: Members, deadline: float) -> None:
    """Train the members of a stack for one epoch; members that diverge end at its beginning."""
    state = stack.state
    try:
        losses = stack.train_epoch(learning_rate(stack), deadline)
    except TimeLimitReached:
        _end_by_time_limit(stack)
        return
    validation = members.validation
    is_finite = np.isfinite(losses) & state.is_finite()
    if not is_finite.all():
        stack.restore_members(~is_finite)
        state.stop_reason = ["" if flag else "diverged" for flag in is_finite]
        pairs = zip(is_finite, validation, strict=True)
        validation = [part if flag else None for flag, part in pairs]
    end_epoch(members.network, stack, validation, losses)


def _end_by_time_limit(stack: BaseStack) -> None:
    """End training within an epoch: the steps of a first epoch are kept, others are undone."""
    state = stack.state
    is_first = not state.epoch[0, 0]
    is_diverged = ~state.is_finite()
    if not is_first:
        stack.restore()
    elif is_diverged.any():
        stack.restore_members(is_diverged)
    state.stop_reason = ["diverged" if flag and is_first else "time_limit" for flag in is_diverged]


def learning_rate(stack: BaseStack) -> Array:
    """Return the learning rates of the next epoch, an array of shape (n_estimators, 1)."""
    config = stack.config
    n_epochs = int(stack.state.epoch[0, 0])
    progress = min(n_epochs, config.max_iter - 1) / config.max_iter
    return config.learning_rate.rate(stack.state.schedule, stack.initial_rate, progress)


def end_epoch(
    network: Network,
    stack: BaseStack,
    validation: Sequence[Validation | None],
    losses: Array,
    *,
    is_only: bool = False,
) -> None:
    """Score and record an epoch, keep the best parameters, and set the reasons to stop.

    Members whose training has ended have a reason in the state, and no validation rows. L-BFGS
    stops by itself if its loss makes no progress, and after `max_iter` iterations, so only its
    scores count here. `is_only` says that the epoch is the only one of a call of `partial_fit`.
    """
    config = stack.config
    state = stack.state
    active = [i for i, reason in enumerate(state.stop_reason) if not reason]
    results = evaluate(network, state, validation) if any(validation) else [{}] * len(state)
    scores, has_scores = _record(state, active, losses, results)
    objective = losses[:, None].copy()
    for i in active:
        if "validation_score" in results[i]:
            objective[i] = math.inf if math.isnan(scores[i, 0]) else -scores[i, 0]
    config.learning_rate.on_epoch_end(
        state.schedule, stack.initial_rate, objective, state.n_samples_seen
    )
    if has_scores:
        # Few rows give many ties. The last one of L-BFGS has the lowest loss.
        state.keep_best(scores, prefer_last=config.is_lbfgs)
    if config.verbose:
        print_epoch(state, 1 if is_only else int(state.epoch.max()))
    is_stalled = np.zeros(scores.shape, dtype=bool)
    if config.stops_without_progress and (has_scores or not config.is_lbfgs):
        is_stalled = _find_stalled(stack, objective, scores)
    for i in active:
        if is_stalled[i, 0]:
            state.stop_reason[i] = "converged"
        elif state.epoch[i, 0] >= config.max_iter and not config.is_lbfgs:
            state.stop_reason[i] = "unconverged"


def _record(
    state: TrainState, active: Sequence[int], losses: Array, results: Sequence[dict[str, Any]]
) -> tuple[Array, bool]:
    """Count and record an epoch; return the scores, NaN without one, and whether there are any."""
    # Slices are faster than index arrays, and an epoch may be short.
    index: Any = slice(None) if len(active) == len(state) else active
    state.epoch[index] += 1
    state.loss[index, 0] = losses[index]
    state.best_loss[index, 0] = np.fmin(state.best_loss[index, 0], losses[index])
    scores = np.full((len(state), 1), np.nan)
    has_scores = False
    for i in active:
        record = {"epoch": int(state.epoch[i, 0]), "loss": float(losses[i]), **results[i]}
        state.history[i].append(record)
        if "validation_score" in record:
            has_scores = True
            scores[i] = record["validation_score"]
    return scores, has_scores


def _find_stalled(stack: BaseStack, objective: Array, scores: Array) -> Array:
    """Return the members that make no progress at a learning rate that is not lowered further."""
    config = stack.config
    state = stack.state
    schedule = config.learning_rate
    update_plateau_counter(state.plateau, objective, config.tol)
    has_no_progress = state.plateau["count"] > config.n_iter_no_change
    may_stop = schedule.may_stop(state.schedule, len(state))
    state.plateau["count"][has_no_progress & ~may_stop] = 0
    is_stalled: Array = has_no_progress & may_stop
    if config.verbose:
        for i in np.flatnonzero(has_no_progress).tolist():
            member = config.members(slice(i, i + 1))
            quantity = "Training loss" if np.isnan(scores[i, 0]) else "Validation score"
            message = schedule.convergence_message
            if not is_stalled[i, 0]:
                message = f"Setting learning rate to {learning_rate(stack)[i, 0]:f}"
            print(
                f"{quantity} did not improve more than tol={member.tol:f} for "
                f"{member.n_iter_no_change:.0f} consecutive epochs. {message}"
            )
    return is_stalled


def print_epoch(state: TrainState, number: int) -> None:
    """Print the loss and the score of the last epoch, averaged over the networks."""
    pairs = zip(state.history, state.stop_reason, strict=True)
    last_records = [history.last for history, reason in pairs if reason != "diverged"]
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


def join_states(parts: Sequence[tuple[Array, TrainState]]) -> TrainState:
    """Join parts, each the numbers and the state of some members, in the order of the members."""
    if len(parts) == 1 and len(parts[0][0]) == 1:
        return parts[0][1]
    numbers = np.concatenate([part_numbers for part_numbers, _ in parts])
    states = [state for _, state in parts if len(state)]
    result = states[0] if len(states) == 1 else TrainState.concat(states)
    return result if (np.diff(numbers) > 0).all() else result.take(np.argsort(numbers))
