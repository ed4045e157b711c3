"""The training loop: epochs, validation scores, early stopping, threads and interrupts."""

from __future__ import annotations

import copy
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from operator import methodcaller
from typing import Any, NamedTuple

import numpy as np

from ..nn.objective import DivergenceError
from ..nn.stack_trainer import PlateauStopper, StackTrainer, TimeLimit, TimeLimitReached
from ..nn.train_state import TrainState
from ..utils.arrays import Array
from ..utils.configurable import index_settings, stack_settings
from ..utils.equality import group_by_equality, is_equal
from .checkpoint import History, IncompleteEpoch, ParameterSnapshot, StopReason
from .diagnostics import record_outcome
from .lbfgs_training import LBFGSTraining
from .parallelism import (
    BlasLimit,
    array_split,
    bytes_per_member,
    compute_n_stacks,
    max_stack_size,
    threads_for_stacks,
)
from .training_run import (
    INTERRUPTS,
    NO_OBSERVER,
    EpochObserver,
    Interrupt,
    TrainingRun,
    evaluate_validation,
    make_time_limit,
    monitored_value,
)

EpochReport = Callable[[int, int, int], None]
"""Called after each epoch of a stack: with the epochs done, the members left, and all members."""


def split_by_memory(runs: Sequence[TrainingRun], max_bytes: int) -> list[Sequence[TrainingRun]]:
    """Return runs of one shape in parts that train fastest as a stack, within a memory limit.

    Runs on distributed data stay together, since they take part in the same rounds.
    """
    first = runs[0]
    if len(runs) == 1 or not first.task.is_local:
        return [runs]
    config, n_moments = first.config, first.config.n_moments
    settings = first.network, config.batch_size, first.task.dtype.itemsize
    size = max_stack_size(*settings, first.n_train, max_bytes, n_moments)
    each, n_threads = bytes_per_member(*settings, n_moments), threads_for_stacks()
    return array_split(runs, compute_n_stacks(len(runs), size, each, n_threads))


class TrainingLoop:
    """The training of runs of one shape: in stacks, or by L-BFGS one after the other.

    Each stack trains an epoch in turn, or the stacks train in threads side by side.

    Parameters
    ----------
    runs : sequence of TrainingRun
        The runs. Those that have ended already, as resumed ones may have, stay as they are.
    max_bytes : int, default=2**63 - 1
        The memory that a stack may take.
    report : callable or None, default=None
        The `EpochReport` of each stack.
    pause_epoch : int or None, default=None
        The epoch after which training pauses, to be resumed later; None to train to the end.

    Attributes
    ----------
    stacks : list of StochasticTraining
        The stacks; none for L-BFGS.
    """

    def __init__(
        self,
        runs: Sequence[TrainingRun],
        max_bytes: int = sys.maxsize,
        report: EpochReport | None = None,
        pause_epoch: int | None = None,
    ) -> None:
        self._done: list[TrainingRun] = []
        self._ready: list[TrainingRun] = []
        for run in runs:
            (self._ready if run.stop_reason is None else self._done).append(run)
        self.stacks: list[StochasticTraining] = []
        self._network, self._is_lbfgs = runs[0].network, runs[0].config.is_lbfgs
        if self._ready and not self._is_lbfgs:
            time_limit = make_time_limit(self._ready)
            # A time limit may have left some of the resumed runs an epoch behind the others.
            for alike in group_by_equality(self._ready, [run.n_iter for run in self._ready]):
                for members in split_by_memory(alike, max_bytes):
                    self.stacks.append(StochasticTraining(members, report, time_limit, pause_epoch))

    def train(self, observer: EpochObserver = NO_OBSERVER) -> Interrupt | None:
        """Train all runs to their end; return the interrupt that ended training, if one did.

        After an interrupt all runs keep their last complete epoch. A run that fails has its
        `error` set and does not affect the others.
        """
        if self._is_lbfgs:
            return self._train_by_lbfgs(observer)
        stacks = self.stacks
        n_threads = min(len(stacks), threads_for_stacks()) if len(stacks) > 1 else 1
        largest = max((stack.max_matmul_size for stack in stacks), default=0)
        n_turns = -(-len(stacks) // n_threads)
        for i, stack in enumerate(stacks):
            stack.limit_first_epoch((i // n_threads + 1) / n_turns)
        pool = ThreadPoolExecutor(n_threads) if n_threads > 1 else nullcontext()
        try:
            blas = BlasLimit(
                largest, n_side_by_side=n_threads, divides_rows=self._network.divides_rows
            )
            with blas as limit, limit, pool as threads:
                map_stacks: Any = map if threads is None else threads.map
                while waiting := [stack for stack in stacks if stack.runs]:
                    observer.on_epoch_begin(self.snapshot_runs)
                    n_done = min(stack.n_done for stack in waiting)
                    # A stack that loses a member to divergence repeats the epoch.
                    while behind := [s for s in waiting if s.runs and s.n_done == n_done]:
                        list(map_stacks(methodcaller("train_epoch"), behind))
                    if observer.on_epoch_end(self.snapshot_runs):
                        for stack in stacks:
                            stack.finish_all()
        except INTERRUPTS as interrupt:
            for stack in stacks:
                stack.finish_all()
            return interrupt
        return None

    def _train_by_lbfgs(self, observer: EpochObserver) -> Interrupt | None:
        for run in self._ready:
            start = time.perf_counter()
            largest = run.network.max_matmul_size(run.rows_at_once)
            training = LBFGSTraining(run, observer.on_member_begin(run.member))
            with BlasLimit(largest, is_lbfgs=True) as limit, limit:
                interrupt = training.train()
            try:
                observer.on_member_end()
            except INTERRUPTS as late:  # its training is over
                interrupt = interrupt or late
            run.seconds += time.perf_counter() - start
            if interrupt is not None:
                return interrupt
        return None

    def snapshot_runs(self) -> list[TrainingRun]:
        """Return copies of all runs as if training ended now, finished ones included."""
        return [*self._done, *(run for stack in self.stacks for run in stack.snapshot_runs())]


class _LoopState(NamedTuple):
    """The progress of a stack between two epochs.

    An epoch, or members that leave, replace the whole value. So Ctrl-C finds counters, losses,
    scores and weights of the same epoch.

    Parameters
    ----------
    n_done : int
        The number of complete epochs.
    runs : list of TrainingRun
        The runs still in training, in the order of the stack.
    histories : list of History
        The history of each.
    stack : StackTrainer
        The stack, which may be in the midst of the next epoch.
    patience : PlateauStopper
        The stopping rule of each.
    """

    n_done: int
    runs: list[TrainingRun]
    histories: list[History]
    stack: StackTrainer
    patience: PlateauStopper

    def without(self, finished: Array) -> _LoopState:
        """Return the state of the unfinished runs; this one does not change."""
        stay, stack, patience = np.flatnonzero(~finished), self.stack, self.patience
        if len(stay):
            stack = copy.copy(stack)
            stack.drop_members(finished)
            patience = index_settings(patience, stay)
        runs, histories = [self.runs[i] for i in stay], [self.histories[i] for i in stay]
        return _LoopState(self.n_done, runs, histories, stack, patience)


class StochasticTraining:
    """The training of runs of one shape as the members of one stack.

    Parameters
    ----------
    runs : sequence of TrainingRun
        Runs with equal `stacking_key`.
    report : callable or None, default=None
        The `EpochReport`.
    time_limit : TimeLimit or None, default=None
        Ends training with the epochs that are complete, and before the end of the first epoch with
        the batches so far; None for no limit.
    pause_epoch : int or None, default=None
        The epoch after which training pauses, to be resumed later; None to train to ``max_iter``.

    Attributes
    ----------
    max_matmul_size : int
        The number of multiplications in the largest matrix product of a step.
    """

    def __init__(
        self,
        runs: Sequence[TrainingRun],
        report: EpochReport | None = None,
        time_limit: TimeLimit | None = None,
        pause_epoch: int | None = None,
    ) -> None:
        self.report, self.n_estimators, self._all_runs = report, len(runs), runs
        self._time_limit = time_limit
        ordered = sorted(runs, key=lambda run: run.n_train)
        first, last = ordered[0], ordered[-1]
        if len(runs) == 1 and first.shares_rng:  # a stack of several has copies
            first.state, first.shares_rng = first.state.copy(), False
        self.max_matmul_size = first.network.max_matmul_size(last.batch_size)
        self.max_iter = first.config.max_iter
        n_done, self._is_incremental = first.n_done, first.incremental
        self.n_epochs = n_done + 1 if first.incremental else pause_epoch or self.max_iter
        self._pauses = not first.incremental and self.n_epochs < self.max_iter
        patience = stack_settings([run.config.patience for run in ordered])
        histories = [run.history for run in ordered]
        stack = make_stack_trainer(ordered, time_limit)
        self._state = _LoopState(n_done, ordered, histories, stack, patience)

    @property
    def runs(self) -> list[TrainingRun]:
        """The runs still in training, in the order of the stack."""
        return self._state.runs

    @property
    def n_done(self) -> int:
        """The number of complete epochs, those of earlier `partial_fit` calls included."""
        return self._state.n_done

    @property
    def stack(self) -> StackTrainer:
        """The stack that these runs train in."""
        return self._state.stack

    def continue_with_new_data(self) -> None:
        """Prepare one more epoch, after the runs of `partial_fit` were given other rows."""
        runs, n_done = list(self._all_runs), self._all_runs[0].n_done
        self.n_epochs = n_done + 1
        self.stack.set_data([run.table for run in runs])
        histories = [run.history for run in runs]
        self._state = self._state._replace(n_done=n_done, runs=runs, histories=histories)

    def limit_first_epoch(self, fraction: float) -> None:
        """Give the first epoch a fraction of the time, so that each stack has a part of it."""
        if self._time_limit is not None and not self.n_done:
            self.stack.time_limit = self._time_limit.fraction(fraction)

    # --------------------------------------------------------------------- an epoch

    def train_epoch(self) -> None:
        """Train all runs for one epoch, and finish those that stop after it."""
        active, start = self.runs, time.perf_counter()
        try:
            # partial_fit trains copies, which are dropped if its only epoch fails.
            losses = self.stack.train_epoch(
                self.n_done, self.max_iter, rollback=not self._is_incremental
            )
        except TimeLimitReached:
            self._keep_incomplete_epoch()
            self.finish_all("time_limit")
        except DivergenceError as diverged:
            self.finish_members(diverged.members, "diverged")
            if self._is_incremental:
                self.finish_all()  # the others are in the midst of their only epoch
        else:
            self._end_epoch(losses)
        share = (time.perf_counter() - start) / len(active)
        for run in active:
            run.seconds += share
        if self.report is not None:
            self.report(self.n_done, len(self.runs), self.n_estimators)

    def _keep_incomplete_epoch(self) -> None:
        """Keep the weights after some batches of the first epoch: there are no better ones.

        They only predict. The training state returns to that before the epoch, from which training
        can be resumed.
        """
        state, stack = self._state, self.stack
        if state.n_done:
            return
        with np.errstate(all="ignore"):
            stack.flush_subnormals()
            finite = stack.is_finite()
        n_samples_seen = stack.state.n_samples_seen.copy()
        snapshots = [ParameterSnapshot.from_state(stack.state, i) for i in range(len(state.runs))]
        stack.restore()
        n_rows = (n_samples_seen - stack.state.n_samples_seen).ravel().tolist()
        histories = [
            history._replace(incomplete=IncompleteEpoch(n, snapshot) if n and ok else None)
            for history, n, snapshot, ok in zip(
                state.histories, n_rows, snapshots, finite.tolist(), strict=True
            )
        ]
        self._state = state._replace(histories=histories)
        self.finish_members(~finite, "diverged")

    def _end_epoch(self, losses: Array) -> None:
        monitored = self._record_epoch(losses)
        state = self._state
        for run, history in zip(state.runs, state.histories, strict=True):
            run.print_progress(history)
        if state.runs[0].has_stopping_rule:
            self.finish_members(self._check_stopping(monitored), "converged")
        if state.n_done == self.n_epochs and self.runs:
            self.finish_all("stopped" if self._pauses else "unconverged")

    def _record_epoch(self, losses: Array) -> Array:
        """Evaluate and record an epoch; return the values that should fall, a row each."""
        n_done, runs, histories, stack, patience = self._state
        state = stack.state
        results = evaluate_validation(runs, losses.tolist(), stack.get_averaged_parameters())
        monitored = np.array([monitored_value(result) for result in results])[:, None]
        stack.schedule.on_epoch_end(state.schedule, stack.rate, monitored, state.n_samples_seen)
        histories = [
            history.with_epoch(result, state, i, last_of_equals=False)
            for i, (history, result) in enumerate(zip(histories, results, strict=True))
        ]
        stack.time_limit = self._time_limit
        # With this assignment the epoch has happened.
        self._state = _LoopState(n_done + 1, runs, histories, stack, patience)
        return monitored

    def _check_stopping(self, monitored: Array) -> Array:
        """Return which runs have had no progress for too long, with no lower rate to try."""
        n_done, runs, histories, stack, patience = self._state
        schedule, state = stack.schedule, stack.state
        may_stop = schedule.may_stop(state.schedule, len(stack))
        stalled, stopped = patience.on_epoch_end(state.progress, monitored, may_stop)
        if stalled.any():
            progress = min(n_done, self.max_iter - 1) / self.max_iter
            rate = schedule.rate(state.schedule, stack.rate, progress)
            for i in np.flatnonzero(stalled).tolist():
                consequence = f"Setting learning rate to {rate[i].item():f}"
                if stopped[i].item():
                    message = runs[i].config.schedule.convergence_message
                    consequence = "It has converged." if self._is_incremental else message
                runs[i].print_stall(histories[i], consequence)
        return stopped[:, 0]

    # ----------------------------------------------------------------- runs that end

    def finish_all(self, reason: StopReason = "stopped") -> None:
        """End training with the last complete epoch."""
        if self.runs:
            self.stack.restore_if_unfinished(self.n_done)
            self.finish_members(np.ones(len(self.runs), dtype=bool), reason)

    def finish_members(self, finished: Array, reason: StopReason) -> None:
        """End some runs after their last complete epoch; the others train on without them.

        Parameters
        ----------
        finished : array of bool of shape (n_runs,)
            Which of `runs` end. Each gets back its own state.
        reason : StopReason
            Why they end.
        """
        if not finished.any():
            return
        copies: dict[int, Any] = {}  # runs that share an order or a stream share its copy
        for i in np.flatnonzero(finished).tolist():
            self._detach_run(i, copies)
            record_outcome(self.runs[i], self._state.histories[i], reason)
        state = self._state.without(finished)
        if state.runs:
            bind_parameter_views(state.stack, state.runs)
        self._state = state

    def _detach_run(self, i: int, copies: dict[int, Any]) -> None:
        """Give a run its own state, apart from the stack."""
        run = self.runs[i]
        if self.n_estimators == 1:
            return  # its state is that of the stack
        own, rngs = self._member_state(i), run.state.rngs
        if run.shares_rng:
            orders, rngs = copy.deepcopy((own.orders, own.rngs), copies)
        else:
            orders, (rng,), (stack_rng,) = copy.deepcopy(own.orders), rngs, own.rngs
            if rng is not None and stack_rng is not None and stack_rng is not rng:
                rng.set_state(stack_rng.get_state(legacy=False))
        run.state = replace(own, orders=orders, rngs=rngs)

    def snapshot_runs(self) -> list[TrainingRun]:
        """Return copies of all runs as if training ended now, finished ones included."""
        active, copies = {id(run): i for i, run in enumerate(self.runs)}, []
        for run in self._all_runs:
            i = active.get(id(run))
            if i is None:
                copies.append(run.snapshot())
            else:
                copies.append(run.snapshot(self._state.histories[i], self._member_state(i)))
        return copies

    def _member_state(self, i: int) -> TrainState:
        """Return the state of a run in the stack; orders and streams stay shared."""
        run, stack = self.runs[i], self.stack
        if self.n_estimators == 1:
            return run.state
        own = stack.state.take(np.array([i]))
        if own.rngs[0] is None:  # without shuffling the stack has no stream
            own.rngs = run.state.rngs
        return own


def make_stack_trainer(
    runs: Sequence[TrainingRun], time_limit: TimeLimit | None = None
) -> StackTrainer:
    """Return the stack that trains these runs by a stochastic optimizer."""
    first = runs[0]
    if len(runs) == 1:
        state = first.state if first.config.shuffle else replace(first.state, rngs=[None])
    else:
        state = TrainState.concatenate(_share_orders(runs))
    each = [
        (
            *(run.table, run.batch_size, run.config.rate, run.objective.penalty),
            *(run.config.update_rule, run.config.schedule),
        )
        for run in runs
    ]
    tables, batch_sizes, rates, penalties, rules, schedules = map(list, zip(*each, strict=True))
    stack = first.task.stack(
        objective=replace(first.objective, penalty=stack_settings(penalties)),
        state=state,
        tables=tables,
        batch_sizes=batch_sizes,
        rule=stack_settings(rules),
        schedule=stack_settings(schedules),
        rate=np.array(rates)[:, None],
        time_limit=time_limit,
        numbers=[run.member for run in runs],
    )
    if len(runs) > 1:
        bind_parameter_views(stack, runs)
    return stack


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
    return is_equal(
        *([rng and rng.get_state(legacy=False) for rng in run.state.rngs] for run in (one, other))
    )
