"""The training of one run by L-BFGS."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import OptimizeResult

from ..engine.deadline import OutOfTime
from ..engine.lbfgs import Evaluations, WholeObjective, minimise
from ..engine.objective import Diverged
from ..optimizers import LBFGS
from .course import Course, Kept, copy_of_member
from .follower import NOBODY, Follower
from .interrupts import INTERRUPTS, Interrupt
from .run import Run
from .scoring import seen_by, to_fall
from .stacking import deadline_of
from .threads import limiting_blas
from .verdict import (
    end_converged,
    end_diverged,
    end_out_of_time,
    end_stopped,
    end_unconverged_lbfgs,
)

# The status of SciPy's result after a StopIteration.
_STOPPED_BY_CALLBACK = 99


def minimise_alone(run: Run, follower: Follower = NOBODY) -> Interrupt | None:
    """Train by L-BFGS; return the interrupt that ended it, if one did."""
    start = time.perf_counter()
    largest = run.network.largest_product(run.rows_at_once)
    minimisation = _Minimisation(run, follower.begin_member(run.member))
    interrupt = limiting_blas(minimisation.train, largest, is_lbfgs=True)
    try:
        follower.end_member()
    except INTERRUPTS as late:  # its training is over
        interrupt = interrupt or late
    run.seconds += time.perf_counter() - start
    return interrupt


class _Reached(NamedTuple):
    """The last complete iteration."""

    course: Course
    kept: Kept


class _Minimisation:
    """The training of a run by L-BFGS.

    Parameters
    ----------
    run : Run
        The run.
    follower : Follower
        Who follows its iterations.
    """

    def __init__(self, run: Run, follower: Follower) -> None:
        if not isinstance(run.plan.solver, LBFGS):
            raise TypeError(f"runs of L-BFGS need its settings, got {run.plan.solver!r}")
        self._run, self._follower, self._lbfgs = run, follower, run.plan.solver
        in_double = run.parameters.like(run.parameters.theta.astype(np.float64))
        run.state = replace(run.state, parameters=in_double)
        if follower.needs_moments and run.evaluations is None:
            run.evaluations = Evaluations(run.parameters.theta[0].copy(), [], [])
        self._reached = _Reached(run.course, copy_of_member(run.state, 0))
        self._is_within_iteration = False
        self._is_stopped = False  # by the follower

    def train(self) -> Interrupt | None:
        """Train to the end, and let the run say how it came to it."""
        run = self._run
        try:
            result = self._minimise()
        except INTERRUPTS as interrupt:
            self._go_back(end_stopped)
            return interrupt
        except OutOfTime:
            self._go_back(end_out_of_time)
        except Diverged:
            run.end(self._reached.course)
            end_diverged(run)
        else:
            run.end(self._reached.course._replace(loss=float(result.fun)))
            self._end(result)
        if self._is_within_iteration:
            self._follower.end_epoch(self._standing)
        return None

    def _minimise(self) -> OptimizeResult:
        run = self._run
        whole = WholeObjective(
            run.objective,
            run.parameters,
            run.table,
            run.train,
            run.rows_at_once,
            deadline_of([run]),
            run.evaluations,
            run.problem.whole,
        )
        return minimise(
            whole,
            self._lbfgs,
            max_iter=run.plan.max_iter,
            tol=run.plan.tol,
            on_evaluation=self._begin_iteration,
            on_iteration=self._end_iteration,
        )

    def _begin_iteration(self) -> None:
        if not (self._is_within_iteration or self._is_known):
            self._is_within_iteration = True
            self._follower.begin_epoch(self._standing)

    def _end_iteration(self, loss: float) -> bool:
        """Record an iteration; return whether it is the last."""
        run = self._run
        (seen,) = seen_by([run], run.parameters)
        kept = copy_of_member(run.state, 0)
        course = run.after_epoch(self._reached.course, loss, seen, lambda: kept)
        self._reached = _Reached(course, kept)  # now it has happened
        if self._is_within_iteration:  # else an earlier process has told of it
            run.print_progress(course)
        is_last = seen is not None and seen.score is not None and self._is_impatient(seen.score)
        if not self._is_within_iteration:
            self._follower.pass_over_epoch()
            return is_last
        self._is_within_iteration = False
        self._is_stopped = self._follower.end_epoch(self._standing)
        return is_last or self._is_stopped

    @property
    def _is_known(self) -> bool:
        """Whether the next evaluation is known of an earlier process, which has told of it."""
        evaluations = self._run.evaluations
        return evaluations is not None and evaluations.is_known

    def _is_impatient(self, score: float) -> bool:
        """Return whether validation scores have not risen for too long."""
        run, may_stop = self._run, np.ones((1, 1), dtype=bool)
        monitored = np.array([[to_fall(score)]])
        _, stopped = run.plan.patience.end_epoch(run.state.progress, monitored, may_stop)
        if stopped.item():
            run.print_stall("Stopping.")
        return bool(stopped.item())

    def _standing(self) -> list[Run]:
        run, (course, kept) = self._run, self._reached
        parameters = run.parameters.like(kept.theta, kept.statistics)
        return [run.standing_at(course, replace(run.state, parameters=parameters).copy())]

    def _go_back(self, end: Callable[[Run], None]) -> None:
        """End with the last complete iteration."""
        run, (course, kept) = self._run, self._reached
        run.parameters.theta[...] = kept.theta
        run.end(course)
        end(run)

    def _end(self, result: OptimizeResult) -> None:
        """Say how SciPy has ended."""
        run = self._run
        if self._is_stopped:
            end_stopped(run)
        elif result.status in (0, _STOPPED_BY_CALLBACK):
            end_converged(run)
        else:
            end_unconverged_lbfgs(run, result.message.strip())
