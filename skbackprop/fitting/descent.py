"""The training of runs of one shape as the members of one stack."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ..core.arrays import Array
from ..core.members import join_members, take_members
from ..engine.deadline import Deadline, OutOfTime
from ..engine.epochs import Patience, train_epoch, train_epoch_or_none
from ..engine.objective import Diverged
from ..engine.stack import Stack
from ..engine.state import TrainingState
from ..schedules.mixed import schedule_state
from .course import Course, copy_of_member
from .run import Run
from .scoring import seen_by, to_fall
from .stacking import show_parameters, stack_of
from .verdict import end_converged, end_diverged, end_out_of_time, end_stopped, end_unconverged

Report = Callable[[int, int, int], None]


class _Stage(NamedTuple):
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
    runs: list[Run]
    courses: list[Course]
    stack: Stack
    patience: Patience

    def without(self, done: Array) -> _Stage:
        """Return the stage of those that are not done: this one stays as it is."""
        stay, stack, patience = np.flatnonzero(~done), self.stack, self.patience
        if len(stay):
            stack = copy.copy(stack)
            stack.retire(done)
            patience = take_members(patience, stay)
        runs, courses = [self.runs[i] for i in stay], [self.courses[i] for i in stay]
        return _Stage(self.n_done, runs, courses, stack, patience)


class Descent:
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
    largest_product : int
        The multiplications in the largest matrix product of a step.
    """

    def __init__(
        self,
        runs: Sequence[Run],
        report: Report | None = None,
        deadline: Deadline | None = None,
        until: int | None = None,
    ) -> None:
        self.report, self.n_members, self._all_runs = report, len(runs), runs
        ordered = sorted(runs, key=lambda run: run.n_train)
        first, last = ordered[0], ordered[-1]
        self.largest_product = first.network.largest_product(last.batch_size)
        self.max_iter = first.plan.max_iter
        n_done, self._is_incremental = first.n_done, first.incremental
        self.n_epochs = n_done + 1 if first.incremental else until or self.max_iter
        self._pauses = not first.incremental and self.n_epochs < self.max_iter
        patience = join_members([run.plan.patience for run in ordered])
        courses = [run.course for run in ordered]
        self._stage = _Stage(n_done, ordered, courses, stack_of(ordered, deadline), patience)

    def go_on(self) -> None:
        """Train for one epoch more, once runs of `partial_fit` have been given other rows."""
        runs, n_done = list(self._all_runs), self._all_runs[0].n_done
        self.n_epochs = n_done + 1
        self.stack.serve([run.table for run in runs])
        courses = [run.course for run in runs]
        self._stage = self._stage._replace(n_done=n_done, runs=runs, courses=courses)

    @property
    def runs(self) -> list[Run]:
        """Those that are not done yet, as they stand in the stack."""
        return self._stage.runs

    @property
    def n_done(self) -> int:
        """The epochs that they have trained for, those of earlier calls of partial_fit included."""
        return self._stage.n_done

    @property
    def stack(self) -> Stack:
        """The stack that these train in."""
        return self._stage.stack

    def standing(self) -> list[Run]:
        """Return what all runs would be if training ended now: copies, those that are done too."""
        active = {id(run): i for i, run in enumerate(self.runs)}
        return [self._standing(run, active.get(id(run))) for run in self._all_runs]

    def _standing(self, run: Run, i: int | None) -> Run:
        if i is None:
            return run.standing_at(run.course, run.state.copy())
        return run.standing_at(self._stage.courses[i], self._state_of(i).copy())

    def advance(self) -> None:
        """Train for an epoch, then let those go that are done; each pays its share of the time."""
        active, start = self.runs, time.perf_counter()
        self._advance()
        share = (time.perf_counter() - start) / len(active)
        for run in active:
            run.seconds += share
        if self.report is not None:
            self.report(self._stage.n_done, len(self.runs), self.n_members)

    def _advance(self) -> None:
        try:
            losses = self._train_epoch()
        except OutOfTime:
            self.interrupt(end_out_of_time)
            return
        except Diverged as diverged:
            self.retire(diverged.members, end_diverged)
            if self._is_incremental:
                self.interrupt()  # the others are in the midst of their only epoch
            return
        monitored = self._record(losses)
        stage = self._stage
        for run, course in zip(stage.runs, stage.courses, strict=True):
            run.print_progress(course)
        if stage.runs[0].is_judged:
            self.retire(self._stopped(monitored))
        if stage.n_done == self.n_epochs and self.runs:
            end = end_stopped if self._pauses else end_unconverged
            self.retire(np.ones(len(self.runs), dtype=bool), end)

    def _train_epoch(self) -> Array:
        """Train the stack for an epoch and return its losses."""
        stack, n_done = self.stack, self._stage.n_done
        if self._is_incremental:
            # What it trains are copies, of which nothing is kept if the one epoch fails.
            return train_epoch(stack, n_done / self.max_iter)
        return train_epoch_or_none(stack, n_done, self.max_iter)

    def interrupt(self, end: Callable[[Run], None] = end_stopped) -> None:
        """End training with the last epoch that is complete; `end` is that of `retire`."""
        if self.runs:
            self.stack.stand_at(self._stage.n_done)
            self.retire(np.ones(len(self.runs), dtype=bool), end)

    def _record(self, losses: Array) -> Array:
        """Score the epoch, tell the schedule, and take note; return the values that are to fall."""
        n_done, runs, courses, stack, patience = self._stage
        values = losses.tolist()
        seen = seen_by(runs, stack.averaged())
        monitored = np.array(
            [
                loss if own is None or own.score is None else to_fall(own.score)
                for loss, own in zip(values, seen, strict=True)
            ]
        )[:, None]
        state = stack.state
        stack.schedule.end_epoch(state.schedule, stack.rate, monitored, state.n_seen)
        courses = [
            run.after_epoch(courses[i], values[i], seen[i], partial(copy_of_member, stack.state, i))
            for i, run in enumerate(runs)
        ]
        self._stage = _Stage(n_done + 1, runs, courses, stack, patience)  # now it has happened
        return monitored

    def _stopped(self, monitored: Array) -> Array:
        """Return whose patience is at an end, with nothing left for the schedule to try."""
        n_done, runs, _, stack, patience = self._stage
        schedule, state = stack.schedule, stack.state
        may_stop = schedule.may_stop(state.schedule, len(stack))
        stalled, stopped = patience.end_epoch(state.progress, monitored, may_stop)
        if stalled.any():
            progress = min(n_done, self.max_iter - 1) / self.max_iter
            rate = schedule.rate(state.schedule, stack.rate, progress)
            for i in np.flatnonzero(stalled).tolist():
                consequence = f"Setting learning rate to {rate[i].item():f}"
                if stopped[i].item():
                    last_words = runs[i].plan.schedule.last_words
                    consequence = "It has converged." if self._is_incremental else last_words
                runs[i].print_stall(consequence)
        return stopped[:, 0]

    def retire(self, finished: Array, end: Callable[[Run], None] = end_converged) -> None:
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
            show_parameters(stage.stack, stage.runs)
        self._stage = stage

    def _give_back(self, i: int, copies: dict[int, Any]) -> None:
        run = self.runs[i]
        run.end(self._stage.courses[i])
        if self.n_members == 1:
            return  # nothing was ever joined
        own, streams = self._state_of(i), run.state.streams
        if run.shares_stream:
            orders, streams = copy.deepcopy((own.orders, own.streams), copies)
        else:
            orders, (stream,), (theirs,) = copy.deepcopy(own.orders), streams, own.streams
            if stream is not None and theirs is not None and theirs is not stream:
                stream.set_state(theirs.get_state(legacy=False))
        run.state = replace(own, orders=orders, streams=streams)

    def _state_of(self, i: int) -> TrainingState:
        """Return the state of a run in the stack; who shares order or stream goes on to."""
        run, stack = self.runs[i], self.stack
        if self.n_members == 1:
            return run.state
        own = stack.state.take(np.array([i]))
        if own.streams[0] is None:  # what visits rows as they stand draws nothing
            own.streams = run.state.streams
        own.schedule = schedule_state(stack.schedule, stack.state.schedule, i)
        return own
