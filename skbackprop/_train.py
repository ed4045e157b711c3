"""Training runs: those of one shape as one stack by stochastic steps, or one alone by L-BFGS."""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np

from ._run import Run, n_moments
from ._stacks import bytes_per_member, evenly_cut, members_at_once, n_stacks
from ._threads import limiting_blas, threads_for_stacks
from .core.arrays import Array, PerMember, Rows
from .core.batches import Table
from .core.lbfgs import WholeObjective, minimise
from .core.members import join_members, join_states, take_state
from .core.objective import Diverged, Objective
from .core.parameters import Parameters
from .core.several import join_schedules, schedule_state
from .core.training import Patience, Stack, descend

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
    runs : list of Run
        Those that are not done yet, as they stand in the stack.
    largest_product : int
        The multiplications in the largest matrix product of a step.
    n_done : int
        The epochs that these have trained for, those of earlier calls of `partial_fit` included.
    """

    def __init__(self, runs: Sequence[Run], report: Report | None = None) -> None:
        self.report, self.n_members = report, len(runs)
        self.runs = sorted(runs, key=lambda run: run.n_train)
        first, last = self.runs[0], self.runs[-1]
        self.largest_product = first.network.largest_product(last.batch_size)
        self.max_iter = int(first.settings.max_iter)
        self.n_done = first.n_done
        self.n_epochs = self.n_done + 1 if first.incremental else self.max_iter
        self.stack = _stack_of(self.runs)
        self._patience = Patience(
            len(self.runs),
            _per_member([float(run.settings.tol) for run in self.runs]),
            _per_member([float(run.patience) for run in self.runs]),
        )
        self._epochs = descend(self.stack, self.max_iter, self.n_done)

    def advance(self) -> None:
        """Train for an epoch, then let those go that are done; each pays its share of the time."""
        active, start = self.runs, time.perf_counter()
        self._advance()
        share = (time.perf_counter() - start) / len(active)
        for run in active:
            run.seconds += share
        if self.report is not None:
            self.report(self.n_done, len(self.runs), self.n_members)

    def _advance(self) -> None:
        try:
            losses = next(self._epochs)
        except Diverged as diverged:
            for i in np.flatnonzero(diverged.members).tolist():
                self.runs[i].end_diverged()
            self._let_go(diverged.members)
            self._epochs = descend(self.stack, self.max_iter, self.n_done)
            return
        try:
            monitored = self._record(losses)
        except BaseException:
            self.stack.restore()
            raise
        self.n_done += 1
        for run in self.runs:
            run.print_progress()
        done = self._stopped(monitored)
        if self.n_done == self.n_epochs:
            for i in np.flatnonzero(~done).tolist():
                self.runs[i].end_unconverged()
            done[:] = True
        self._let_go(done)

    def interrupt(self) -> None:
        """End training with the last epoch that is complete."""
        if self.runs:
            self._let_go(np.ones(len(self.runs), dtype=bool))

    def _record(self, losses: Array) -> Array:
        """Score the epoch, tell the schedule, and take note; return the values that are to fall."""
        stack, values = self.stack, losses.tolist()
        scores = validation_scores(self.runs, stack.averaged())
        monitored = np.array(
            [
                loss if score is None else _to_fall(score)
                for loss, score in zip(values, scores, strict=True)
            ]
        )[:, None]
        stack.schedule.end_epoch(stack.schedule_state, stack.rate, monitored, stack.n_seen)
        for run, loss, score in zip(self.runs, values, scores, strict=True):
            run.record(loss, score)
        return monitored

    def _stopped(self, monitored: Array) -> Array:
        """Return whose patience is at an end, with nothing left for the schedule to try."""
        stack = self.stack
        if self.runs[0].incremental:
            return np.zeros(len(self.runs), dtype=bool)
        may_stop = stack.schedule.may_stop(stack.schedule_state, len(stack))
        stalled, stopped = self._patience.end_epoch(monitored, may_stop)
        if stalled.any():
            progress = min(self.n_done, self.max_iter - 1) / self.max_iter
            rate = stack.schedule.rate(stack.schedule_state, stack.rate, progress)
            for i in np.flatnonzero(stalled).tolist():
                self.runs[i].print_stall(
                    self.runs[i].schedule.last_words
                    if stopped[i].item()
                    else f"Setting learning rate to {rate[i].item():f}"
                )
        return stopped[:, 0]

    def _let_go(self, done: Array) -> None:
        """Give the members that are done all that is theirs, and let them leave the stack."""
        if not done.any():
            return
        for i in np.flatnonzero(done).tolist():
            self._give_back(i)
        self.runs = [self.runs[i] for i in np.flatnonzero(~done).tolist()]
        if self.runs:
            self.stack.retire(done)
            self._patience.retire(done)
            _show_parameters(self.stack, self.runs)

    def _give_back(self, i: int) -> None:
        run, stack = self.runs[i], self.stack
        run.end_unscored()
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

    def end_iteration(loss: float) -> bool:
        (score,) = validation_scores([run], run.parameters)
        run.record(loss, score)
        run.print_progress()
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
        return interrupt
    except Diverged:
        run.end_diverged()
        return None
    run.end_unscored()
    run.loss = float(result.fun)
    if result.status not in (0, _STOPPED_BY_CALLBACK):
        run.warnings.append(
            f"lbfgs failed to converge after {run.n_iter} iteration(s) "
            f"({result.message.strip()}). Increase max_iter (now {settings.max_iter}) or "
            f"max_fun (now {settings.max_fun}), or scale X, for example with "
            "sklearn.preprocessing.StandardScaler."
        )
    return None


def _to_fall(score: float) -> float:
    """Return what falls as a score rises; a score that is not a number is the worst."""
    return math.inf if math.isnan(score) else -score
