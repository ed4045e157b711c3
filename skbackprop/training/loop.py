"""The training loop: epochs, validation scores, early stopping."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..nn.ensemble_trainer import (
    EnsembleTrainer,
    PlateauStopper,
    TimeLimit,
    TimeLimitReached,
    train_epoch,
    train_epoch_or_rollback,
)
from ..nn.objective import DivergenceError
from ..nn.parameters import FlatParameters
from ..nn.train_state import TrainState
from ..utils.arrays import Array
from ..utils.stack_members import index_members, stack_settings
from .convergence import on_converged, on_diverged, on_interrupted, on_max_iter, on_time_limit
from .history import EpochRecord, copy_member_snapshot
from .model_stacks import bind_parameter_views, make_ensemble_trainer
from .training_run import TrainingRun
from .validation_data import ValidationResult


def evaluate_validation(
    runs: Sequence[TrainingRun], parameters: FlatParameters
) -> list[ValidationResult | None]:
    """Return what each run sees of the rows that it watches; None for those that watch none.

    Runs that stand side by side and watch the same rows go through the network together.
    """
    found: list[ValidationResult | None] = []
    while len(found) < len(runs):
        start, stop = len(found), len(found) + 1
        watched, problem = runs[start].watched, runs[start].problem
        if watched is None:
            found.append(None)
            continue
        while stop < len(runs) and watched.is_same(runs[stop].watched):
            stop += 1
        members = parameters.members(slice(start, stop))
        with np.errstate(all="ignore"):
            network = problem.objective.network
            outcomes = problem.evaluator.predictions_of(
                network, members, watched.table.X, watched.rows
            )
        found += [
            run.see(watched, own, members.members(slice(i, i + 1)))
            for i, (run, own) in enumerate(zip(runs[start:stop], outcomes, strict=True))
        ]
    return found


def as_loss(score: float) -> float:
    """Return what falls as a score rises; a score that is not a number is the worst."""
    return math.inf if math.isnan(score) else -score


Report = Callable[[int, int, int], None]


class _LoopState(NamedTuple):
    """Where a descent stands between two epochs.

    An epoch, or members that leave, put another in its place, so that Ctrl-C finds the one or the
    other: counters, losses, scores and weights of the same epoch.

    Parameters
    ----------
    n_done : int
        The epochs that count.
    runs : list of Run
        Those that are not done yet, as they stand in the stack.
    courses : list of Course
        How far each has come.
    stack : Stack
        The stack, which may be in the midst of the next epoch.
    patience : Patience
        When each is to stop.
    """

    n_done: int
    runs: list[TrainingRun]
    courses: list[EpochRecord]
    stack: EnsembleTrainer
    patience: PlateauStopper

    def without(self, done: Array) -> _LoopState:
        """Return the stage of those that are not done: this one stays as it is."""
        stay, stack, patience = np.flatnonzero(~done), self.stack, self.patience
        if len(stay):
            stack = copy.copy(stack)
            stack.drop_members(done)
            patience = index_members(patience, stay)
        runs, courses = [self.runs[i] for i in stay], [self.courses[i] for i in stay]
        return _LoopState(self.n_done, runs, courses, stack, patience)


class TrainingLoop:
    """The training of runs of one shape as the members of one stack.

    Parameters
    ----------
    runs : sequence of Run
        Runs of one `shape`.
    report : callable or None, default=None
        Called after each epoch with the epochs done, the members left and the members in all.
    deadline : Deadline or None, default=None
        When training is to end, with the epochs that are complete; None for never.
    until : int or None, default=None
        The epoch after which runs stop for now: their moments go on from it, to ``max_iter``.
        None for no such stop.

    Attributes
    ----------
    max_matmul_size : int
        The multiplications in the largest matrix product of a step.
    """

    def __init__(
        self,
        runs: Sequence[TrainingRun],
        report: Report | None = None,
        deadline: TimeLimit | None = None,
        until: int | None = None,
    ) -> None:
        self.report, self.n_estimators, self._all_runs = report, len(runs), runs
        ordered = sorted(runs, key=lambda run: run.n_train)
        first, last = ordered[0], ordered[-1]
        self.max_matmul_size = first.network.max_matmul_size(last.batch_size)
        self.max_iter = first.config.max_iter
        n_done, self._is_incremental = first.n_done, first.incremental
        self.n_epochs = n_done + 1 if first.incremental else until or self.max_iter
        self._pauses = not first.incremental and self.n_epochs < self.max_iter
        patience = stack_settings([run.config.patience for run in ordered])
        courses = [run.record for run in ordered]
        self._stage = _LoopState(
            n_done, ordered, courses, make_ensemble_trainer(ordered, deadline), patience
        )

    def continue_with(self) -> None:
        """Train for one epoch more, once runs of `partial_fit` have been given other rows."""
        runs, n_done = list(self._all_runs), self._all_runs[0].n_done
        self.n_epochs = n_done + 1
        self.stack.set_data([run.table for run in runs])
        courses = [run.record for run in runs]
        self._stage = self._stage._replace(n_done=n_done, runs=runs, courses=courses)

    @property
    def runs(self) -> list[TrainingRun]:
        """Those that are not done yet, as they stand in the stack."""
        return self._stage.runs

    @property
    def n_done(self) -> int:
        """The epochs that they have trained for, those of earlier calls of partial_fit included."""
        return self._stage.n_done

    @property
    def stack(self) -> EnsembleTrainer:
        """The stack that these train in."""
        return self._stage.stack

    def snapshot_runs(self) -> list[TrainingRun]:
        """Return what all runs would be if training ended now: copies, those that are done too."""
        active = {id(run): i for i, run in enumerate(self.runs)}
        return [self._standing(run, active.get(id(run))) for run in self._all_runs]

    def _standing(self, run: TrainingRun, i: int | None) -> TrainingRun:
        if i is None:
            return run.copy_at(run.record, run.state.copy())
        return run.copy_at(self._stage.courses[i], self._state_of(i).copy())

    def advance(self) -> None:
        """Train for an epoch, then let those go that are done; each pays its share of the time."""
        active, start = self.runs, time.perf_counter()
        self._advance()
        share = (time.perf_counter() - start) / len(active)
        for run in active:
            run.seconds += share
        if self.report is not None:
            self.report(self._stage.n_done, len(self.runs), self.n_estimators)

    def _advance(self) -> None:
        try:
            losses = self._train_epoch()
        except TimeLimitReached:
            self.interrupt(on_time_limit)
            return
        except DivergenceError as diverged:
            self.drop_members(diverged.members, on_diverged)
            if self._is_incremental:
                self.interrupt()  # the others are in the midst of their only epoch
            return
        monitored = self._record(losses)
        stage = self._stage
        for run, record in zip(stage.runs, stage.courses, strict=True):
            run.print_progress(record)
        if stage.runs[0].is_evaluated:
            self.drop_members(self._stopped(monitored))
        if stage.n_done == self.n_epochs and self.runs:
            end = on_interrupted if self._pauses else on_max_iter
            self.drop_members(np.ones(len(self.runs), dtype=bool), end)

    def _train_epoch(self) -> Array:
        """Train the stack for an epoch and return its losses."""
        stack, n_done = self.stack, self._stage.n_done
        if self._is_incremental:
            # What it trains are copies, of which nothing is kept if the one epoch fails.
            return train_epoch(stack, n_done / self.max_iter)
        return train_epoch_or_rollback(stack, n_done, self.max_iter)

    def interrupt(self, end: Callable[[TrainingRun], None] = on_interrupted) -> None:
        """End training with the last epoch that is complete; `end` is that of `retire`."""
        if self.runs:
            self.stack.restore_if_unfinished(self._stage.n_done)
            self.drop_members(np.ones(len(self.runs), dtype=bool), end)

    def _record(self, losses: Array) -> Array:
        """Score the epoch, tell the schedule, and take note; return the values that are to fall."""
        n_done, runs, courses, stack, patience = self._stage
        values = losses.tolist()
        seen = evaluate_validation(runs, stack.averaged())
        monitored = np.array(
            [
                loss if own is None or own.score is None else as_loss(own.score)
                for loss, own in zip(values, seen, strict=True)
            ]
        )[:, None]
        state = stack.state
        stack.schedule.on_epoch_end(state.schedule, stack.rate, monitored, state.n_samples_seen)
        courses = [
            run.after_epoch(
                courses[i], values[i], seen[i], partial(copy_member_snapshot, stack.state, i)
            )
            for i, run in enumerate(runs)
        ]
        self._stage = _LoopState(n_done + 1, runs, courses, stack, patience)  # now it has happened
        return monitored

    def _stopped(self, monitored: Array) -> Array:
        """Return whose patience is at an end, with nothing left for the schedule to try."""
        n_done, runs, _, stack, patience = self._stage
        schedule, state = stack.schedule, stack.state
        may_stop = schedule.may_stop(state.schedule, len(stack))
        stalled, stopped = patience.on_epoch_end(state.progress, monitored, may_stop)
        if stalled.any():
            progress = min(n_done, self.max_iter - 1) / self.max_iter
            rate = schedule.rate(state.schedule, stack.rate, progress)
            for i in np.flatnonzero(stalled).tolist():
                consequence = f"Setting learning rate to {rate[i].item():f}"
                if stopped[i].item():
                    last_words = runs[i].config.schedule.convergence_message
                    consequence = "It has converged." if self._is_incremental else last_words
                runs[i].print_stall(consequence)
        return stopped[:, 0]

    def drop_members(
        self, finished: Array, end: Callable[[TrainingRun], None] = on_converged
    ) -> None:
        """Let runs go after the epochs that they have done; the others train on without them.

        Parameters
        ----------
        finished : array of bool of shape (n_runs,)
            Those of `runs` to leave. Each is given back all that is its own.
        end : callable
            Called with each of them: says what there is to say of how it ended.
        """
        if not finished.any():
            return
        copies: dict[int, Any] = {}  # who shares an order or a stream goes on to share its copy
        for i in np.flatnonzero(finished).tolist():
            self._give_back(i, copies)
            end(self.runs[i])
        stage = self._stage.without(finished)
        if stage.runs:
            bind_parameter_views(stage.stack, stage.runs)
        self._stage = stage

    def _give_back(self, i: int, copies: dict[int, Any]) -> None:
        run = self.runs[i]
        run.end(self._stage.courses[i])
        if self.n_estimators == 1:
            return  # nothing was ever joined
        own, rngs = self._state_of(i), run.state.rngs
        if run.shares_rng:
            orders, rngs = copy.deepcopy((own.orders, own.rngs), copies)
        else:
            orders, (rng,), (theirs,) = copy.deepcopy(own.orders), rngs, own.rngs
            if rng is not None and theirs is not None and theirs is not rng:
                rng.set_state(theirs.get_state(legacy=False))
        run.state = replace(own, orders=orders, rngs=rngs)

    def _state_of(self, i: int) -> TrainState:
        """Return the state of a run in the stack; who shares order or stream goes on to."""
        run, stack = self.runs[i], self.stack
        if self.n_estimators == 1:
            return run.state
        own = stack.state.take(np.array([i]))
        if own.rngs[0] is None:  # what visits rows as they stand draws nothing
            own.rngs = run.state.rngs
        return own
