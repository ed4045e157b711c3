"""Training runs: those of one shape as one stack by stochastic steps, or one alone by L-BFGS."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from ._run import Course, Kept, Run, n_moments
from ._stacks import bytes_per_member, evenly_cut, members_at_once, n_stacks
from ._threads import limiting_blas, threads_for_stacks
from .core.arrays import Array, PerMember, Rows
from .core.batches import Table
from .core.lbfgs import WholeObjective, minimise
from .core.members import join_members, join_states, take_state
from .core.objective import Diverged, Objective
from .core.parameters import Parameters
from .core.several import join_schedules, schedule_state
from .core.training import Patience, Stack, train_epoch, train_epoch_or_none

Report = Callable[[int, int, int], None]

# The status of SciPy's result after a StopIteration.
_STOPPED_BY_CALLBACK = 99


def train(runs: Sequence[Run]) -> KeyboardInterrupt | None:
    """Train the runs of one estimator; return the interrupt that ended it, if one did.

    Runs that fail have their `error` set, and take no other with them.
    """
    if runs[0].problem.is_lbfgs:
        interrupts = (minimise_alone(run) for run in runs)
        return next((interrupt for interrupt in interrupts if interrupt), None)
    descents = [Descent(members) for members in cut_to_size(runs, sys.maxsize)]
    try:
        train_side_by_side(descents)
    except KeyboardInterrupt as interrupt:
        for descent in descents:
            descent.interrupt()
        return interrupt
    return None


def cut_to_size(runs: Sequence[Run], max_bytes: int) -> list[Sequence[Run]]:
    """Return runs of one shape in parts that train fastest as a stack, within a bound of memory."""
    if len(runs) == 1:
        return [runs]
    problem, n_kept = runs[0].problem, n_moments(runs[0].settings)
    settings = problem.network, problem.batch_size, problem.dtype.itemsize
    size = members_at_once(*settings, runs[0].n_train, max_bytes, n_kept)
    each, n_threads = bytes_per_member(*settings, n_kept), threads_for_stacks()
    return evenly_cut(runs, n_stacks(len(runs), size, each, n_threads))


def train_side_by_side(descents: Sequence[Descent]) -> None:
    """Train several stacks, an epoch of each in turn, so that an interrupt finds them abreast.

    Where there are threads for it, several have their turn at the same time.
    """
    n_threads = min(len(descents), threads_for_stacks()) if len(descents) > 1 else 1
    largest = max(descent.largest_product for descent in descents)

    def take_turns() -> None:
        with _pool(n_threads) as advance:
            while waiting := [descent for descent in descents if descent.runs]:
                for _ in advance(lambda descent: descent.advance(), waiting):
                    pass

    limiting_blas(take_turns, largest, n_side_by_side=n_threads)


@contextmanager
def _pool(n_threads: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Provide a `map` that shares its calls between threads; one thread needs no other."""
    if n_threads == 1:
        yield map
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            yield pool.map


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
        stay, stack, patience = np.flatnonzero(~done).tolist(), self.stack, self.patience
        if stay:
            stack, patience = copy.copy(stack), copy.copy(patience)
            stack.retire(done)
            patience.retire(done)
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

    Attributes
    ----------
    largest_product : int
        The multiplications in the largest matrix product of a step.
    """

    def __init__(self, runs: Sequence[Run], report: Report | None = None) -> None:
        self.report, self.n_members = report, len(runs)
        ordered = sorted(runs, key=lambda run: run.n_train)
        first, last = ordered[0], ordered[-1]
        self.largest_product = first.network.largest_product(last.batch_size)
        self.max_iter = int(first.settings.max_iter)
        n_done, self._is_incremental = first.n_done, first.incremental
        self.n_epochs = n_done + 1 if first.incremental else self.max_iter
        patience = Patience(
            len(ordered),
            _per_member([float(run.settings.tol) for run in ordered]),
            _per_member([float(run.patience) for run in ordered]),
        )
        courses = [run.course for run in ordered]
        self._stage = _Stage(n_done, ordered, courses, _stack_of(ordered), patience)

    @property
    def runs(self) -> list[Run]:
        """Those that are not done yet, as they stand in the stack."""
        return self._stage.runs

    @property
    def stack(self) -> Stack:
        """The stack that these train in."""
        return self._stage.stack

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
        except Diverged as diverged:
            self._let_go(diverged.members, Run.end_diverged)
            if self._is_incremental:
                self.interrupt()  # the others are in the midst of their only epoch
            return
        monitored = self._record(losses)
        stage = self._stage
        for run, course in zip(stage.runs, stage.courses, strict=True):
            run.print_progress(course)
        done = self._stopped(monitored)
        self._let_go(done)
        if stage.n_done == self.n_epochs and self.runs:
            self._let_go(np.ones(len(self.runs), dtype=bool), Run.end_unconverged)

    def _train_epoch(self) -> Array:
        """Train the stack for an epoch and return its losses."""
        stack, n_done = self.stack, self._stage.n_done
        if self._is_incremental:
            # What it trains are copies, of which nothing is kept if the one epoch fails.
            return train_epoch(stack, n_done / self.max_iter)
        return train_epoch_or_none(stack, n_done, self.max_iter)

    def interrupt(self) -> None:
        """End training with the last epoch that is complete."""
        if self.runs:
            self.stack.stand_at(self._stage.n_done)
            self._let_go(np.ones(len(self.runs), dtype=bool))

    def _record(self, losses: Array) -> Array:
        """Score the epoch, tell the schedule, and take note; return the values that are to fall."""
        n_done, runs, courses, stack, patience = self._stage
        values = losses.tolist()
        scores = validation_scores(runs, stack.averaged())
        monitored = np.array(
            [
                loss if score is None else _to_fall(score)
                for loss, score in zip(values, scores, strict=True)
            ]
        )[:, None]
        stack.schedule.end_epoch(stack.schedule_state, stack.rate, monitored, stack.n_seen)
        courses = [
            run.after_epoch(courses[i], values[i], scores[i], partial(_kept_of, stack, i))
            for i, run in enumerate(runs)
        ]
        self._stage = _Stage(n_done + 1, runs, courses, stack, patience)  # now it has happened
        return monitored

    def _stopped(self, monitored: Array) -> Array:
        """Return whose patience is at an end, with nothing left for the schedule to try."""
        n_done, runs, _, stack, patience = self._stage
        if self._is_incremental:
            return np.zeros(len(runs), dtype=bool)
        may_stop = stack.schedule.may_stop(stack.schedule_state, len(stack))
        stalled, stopped = patience.end_epoch(monitored, may_stop)
        if stalled.any():
            progress = min(n_done, self.max_iter - 1) / self.max_iter
            rate = stack.schedule.rate(stack.schedule_state, stack.rate, progress)
            for i in np.flatnonzero(stalled).tolist():
                runs[i].print_stall(
                    runs[i].schedule.last_words
                    if stopped[i].item()
                    else f"Setting learning rate to {rate[i].item():f}"
                )
        return stopped[:, 0]

    def _let_go(self, done: Array, end: Callable[[Run], None] | None = None) -> None:
        """Give the members that are done all that is theirs, and let them leave the stack.

        `end` is told each of them: why it is done, where there is more to say than that it is.
        """
        if not done.any():
            return
        for i in np.flatnonzero(done).tolist():
            self._give_back(i)
            if end is not None:
                end(self.runs[i])
        stage = self._stage.without(done)
        if stage.runs:
            _show_parameters(stage.stack, stage.runs)
        self._stage = stage

    def _give_back(self, i: int) -> None:
        run, stack = self.runs[i], self.stack
        run.end(self._stage.courses[i])
        run.n_seen = int(stack.n_seen[i].item())
        if self.n_members == 1:
            return  # nothing was ever joined
        rows = np.array([i])
        run.parameters = stack.parameters.members(rows)
        if run.parameters.statistics:
            run.state["statistics"] = run.parameters.statistics
        run.state["optimizer"] = take_state(stack.optimizer_state, rows)
        run.state["average"] = take_state(stack.average_state, rows)
        run.state["schedule"] = schedule_state(stack.schedule, stack.schedule_state, i)
        stream, order = stack.streams[i], stack.orders[i]
        if stream is not None:
            run.state["stream"].set_state(stream.get_state(legacy=False))
        if order is not None:
            run.state["order"] = order.copy()


def _kept_of(stack: Stack, i: int) -> Kept:
    """Return copies of what a member of a stack predicts with and goes on from."""
    rows = np.array([i])
    return Kept(
        stack.parameters.theta[rows],
        take_state(stack.parameters.statistics, rows),
        take_state(stack.average_state, rows),
    )


def validation_scores(runs: Sequence[Run], parameters: Parameters) -> list[float | None]:
    """Return each run's score on the rows that it holds out; None for those that hold none.

    Runs that stand side by side and hold out the same rows go through the network together.
    """
    found: list[float | None] = []
    while len(found) < len(runs):
        start, stop = len(found), len(found) + 1
        table, rows = runs[start].table, runs[start].validation
        if rows is None:
            found.append(None)
            continue
        while stop < len(runs) and _holds_out(runs[stop], table, rows):
            stop += 1
        with np.errstate(all="ignore"):
            members = parameters.members(slice(start, stop))
            problem = runs[start].problem
            outcomes = problem.outcomes(problem.network, members, table.X, rows)
        found += [
            run.validation_score(own) for run, own in zip(runs[start:stop], outcomes, strict=True)
        ]
    return found


def _holds_out(run: Run, table: Table, rows: Rows) -> bool:
    held_out = run.validation
    return run.table is table and held_out is not None and np.array_equal(held_out, rows)


def _stack_of(runs: Sequence[Run]) -> Stack:
    """Return the stack that trains these runs; they share what is equal."""
    streams: list[np.random.RandomState | None] = []
    orders: list[Rows | None] = []
    for i, run in enumerate(runs):
        if i and _visit_the_same(runs[i - 1], run):
            streams.append(streams[-1])
            orders.append(orders[-1])
        else:
            streams.append(_stream_of(run, is_alone=len(runs) == 1))
            orders.append(run.state["order"])
    first = runs[0]
    parameters = first.parameters
    if len(runs) > 1:
        parameters = parameters.like(
            np.concatenate([run.parameters.theta for run in runs]),
            join_states([run.parameters.statistics for run in runs]),
        )
    schedule, state_of_schedule = join_schedules(
        [run.schedule for run in runs], [run.state["schedule"] for run in runs]
    )
    stack = Stack(
        objective=Objective(
            first.network,
            first.problem.loss,
            join_members([run.objective.penalty for run in runs]),
        ),
        parameters=parameters,
        tables=[run.table for run in runs],
        orders=orders,
        streams=streams,
        batch_sizes=[run.batch_size for run in runs],
        optimizer=join_members([run.optimizer for run in runs]),
        schedule=schedule,
        rate=np.array([[float(run.settings.learning_rate_init)] for run in runs]),
        optimizer_state=join_states([run.state["optimizer"] for run in runs]),
        schedule_state=state_of_schedule,
        n_seen=np.array([[run.n_seen] for run in runs]),
        clip_norm=_per_member([run.clip_norm for run in runs]),
        dropout_streams=[run.state["dropout stream"] for run in runs if run.network.dropout],
        average=join_members([run.average for run in runs]),
        average_state=join_states([run.state["average"] for run in runs]),
    )
    if len(runs) > 1:
        _show_parameters(stack, runs)
    return stack


def _stream_of(run: Run, is_alone: bool) -> np.random.RandomState | None:
    """Return what shuffles a run's rows: in a stack a copy, which others may share."""
    if not run.settings.shuffle:
        return None
    stream: np.random.RandomState = run.state["stream"]
    return stream if is_alone else copy.deepcopy(stream)


def _show_parameters(stack: Stack, runs: Sequence[Run]) -> None:
    """Let each run see its own parameters in the stack, and their average."""
    for i, run in enumerate(runs):
        run.parameters = stack.parameters.members(slice(i, i + 1))
        run.state["average"] = take_state(stack.average_state, slice(i, i + 1))


def _visit_the_same(one: Run, other: Run) -> bool:
    """Return whether two runs visit the same rows in the same order in every epoch."""
    if one.table is not other.table or one.settings.shuffle != other.settings.shuffle:
        return False
    if not np.array_equal(one.state["order"], other.state["order"]):
        return False
    return not one.settings.shuffle or _is_same_stream(one.state["stream"], other.state["stream"])


def _is_same_stream(one: np.random.RandomState, other: np.random.RandomState) -> bool:
    return _is_equal(one.get_state(legacy=False), other.get_state(legacy=False))


def _is_equal(one: Any, other: Any) -> bool:
    """Return whether two states are equal, of any bit generator: dicts of arrays and numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_is_equal(one[key], other[key]) for key in one)
    return np.array_equal(one, other)


def _per_member(values: list[float]) -> PerMember:
    """Return a hyperparameter: one float if it is the same for all members."""
    if values.count(values[0]) == len(values):
        return values[0]
    return np.array(values)[:, None]


def minimise_alone(run: Run) -> KeyboardInterrupt | None:
    """Train by L-BFGS; return the interrupt that ended it, if one did."""
    start = time.perf_counter()
    largest = run.network.largest_product(run.rows_at_once)
    interrupt = limiting_blas(lambda: _minimise(run), largest, is_lbfgs=True)
    run.seconds += time.perf_counter() - start
    return interrupt


def _minimise(run: Run) -> KeyboardInterrupt | None:
    settings = run.settings
    run.parameters = run.parameters.like(run.parameters.theta.astype(np.float64))
    patience = Patience(1, float(settings.tol), float(run.patience))
    may_stop = np.ones((1, 1), dtype=bool)
    # The last complete iteration: its course and its point, in one value.
    reached = run.course, _kept_alone(run)

    def end_iteration(loss: float) -> bool:
        nonlocal reached
        (score,) = validation_scores([run], run.parameters)
        kept = _kept_alone(run)
        reached = run.after_epoch(reached[0], loss, score, lambda: kept), kept
        run.print_progress(reached[0])
        if score is None:
            return False
        _, stopped = patience.end_epoch(np.array([[_to_fall(score)]]), may_stop)
        if stopped.item():
            run.print_stall("Stopping.")
        return bool(stopped.item())

    try:
        result = minimise(
            WholeObjective(run.objective, run.parameters, run.table, run.train, run.rows_at_once),
            max_iter=settings.max_iter,
            max_fun=settings.max_fun,
            tol=settings.tol,
            on_iteration=end_iteration,
        )
    except KeyboardInterrupt as interrupt:
        course, kept = reached
        run.parameters.theta[...] = kept.theta
        run.end(course)
        return interrupt
    except Diverged:
        run.end(reached[0])
        run.end_diverged()
        return None
    run.end(reached[0]._replace(loss=float(result.fun)))
    if result.status not in (0, _STOPPED_BY_CALLBACK):
        run.warnings.append(
            f"lbfgs failed to converge after {run.n_iter} iteration(s) "
            f"({result.message.strip()}). Increase max_iter (now {settings.max_iter}) or "
            f"max_fun (now {settings.max_fun}), or scale X, for example with "
            "sklearn.preprocessing.StandardScaler."
        )
    return None


def _kept_alone(run: Run) -> Kept:
    """Return copies of what a run that trains alone, by L-BFGS, predicts with."""
    parameters = run.parameters
    statistics = take_state(parameters.statistics, np.array([0]))
    return Kept(parameters.theta.copy(), statistics, {})


def _to_fall(score: float) -> float:
    """Return what falls as a score rises; a score that is not a number is the worst."""
    return math.inf if math.isnan(score) else -score
