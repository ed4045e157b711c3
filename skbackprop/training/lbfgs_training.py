"""The training of one run by L-BFGS."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import OptimizeResult

from ..nn.ensemble_trainer import TimeLimitReached
from ..nn.lbfgs import EvaluationCache, FullBatchObjective, minimize
from ..nn.objective import DivergenceError
from ..optimizers import LBFGS
from .blas_threads import BlasLimit
from .callbacks import INTERRUPTS, NO_OBSERVER, EpochObserver, Interrupt
from .convergence import (
    end_unconverged_lbfgs,
    on_converged,
    on_diverged,
    on_interrupted,
    on_time_limit,
)
from .history import EpochRecord, ParameterSnapshot, copy_member_snapshot
from .model_stacks import time_limit_for
from .training_run import TrainingRun, evaluate_validation, score_to_loss

# The status of SciPy's result after a StopIteration.
_STOPPED_BY_CALLBACK = 99


class LBFGSLoop:
    """The training of several runs by L-BFGS, one after the other.

    Parameters
    ----------
    runs : sequence of TrainingRun
        The runs.
    """

    def __init__(self, runs: Sequence[TrainingRun]) -> None:
        self._runs = runs

    def train(self, observer: EpochObserver = NO_OBSERVER) -> Interrupt | None:
        """Train until the first interrupt, and return it; None if there is none."""
        for run in self._runs:
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


class _LastIteration(NamedTuple):
    """The last complete iteration."""

    record: EpochRecord
    kept: ParameterSnapshot


class LBFGSTraining:
    """The training of a run by L-BFGS.

    Parameters
    ----------
    run : Run
        The run.
    follower : Follower
        Who follows its iterations.
    """

    def __init__(self, run: TrainingRun, follower: EpochObserver) -> None:
        if not isinstance(run.config.solver, LBFGS):
            raise TypeError(f"runs of L-BFGS need its settings, got {run.config.solver!r}")
        self._run, self._follower, self._lbfgs = run, follower, run.config.solver
        in_double = run.parameters.like(run.parameters.theta.astype(np.float64))
        run.state = replace(run.state, parameters=in_double)
        if follower.needs_moments and run.evaluations is None:
            run.evaluations = EvaluationCache(run.parameters.theta[0].copy(), [], [])
        self._reached = _LastIteration(run.record, copy_member_snapshot(run.state, 0))
        self._is_within_iteration = False
        self._is_stopped = False  # by the follower

    def train(self) -> Interrupt | None:
        """Train to the end, and let the run say how it came to it."""
        run = self._run
        try:
            result = self._minimise()
        except INTERRUPTS as interrupt:
            self._go_back(on_interrupted)
            return interrupt
        except TimeLimitReached:
            self._go_back(on_time_limit)
        except DivergenceError:
            run.end(self._reached.record)
            on_diverged(run)
        else:
            run.end(self._reached.record._replace(loss=float(result.fun)))
            self._end(result)
        if self._is_within_iteration:
            self._follower.on_epoch_end(self._standing)
        return None

    def _minimise(self) -> OptimizeResult:
        run = self._run
        whole = FullBatchObjective(
            run.objective,
            run.parameters,
            run.table,
            run.train,
            run.rows_at_once,
            time_limit_for([run]),
            run.evaluations,
            run.problem.whole,
        )
        return minimize(
            whole,
            self._lbfgs,
            max_iter=run.config.max_iter,
            tol=run.config.tol,
            on_evaluation=self._begin_iteration,
            on_iteration=self._end_iteration,
        )

    def _begin_iteration(self) -> None:
        if not (self._is_within_iteration or self._is_known):
            self._is_within_iteration = True
            self._follower.on_epoch_begin(self._standing)

    def _end_iteration(self, loss: float) -> bool:
        """Record an iteration; return whether it is the last."""
        run = self._run
        (seen,) = evaluate_validation([run], run.parameters)
        kept = copy_member_snapshot(run.state, 0)
        record = run.after_epoch(self._reached.record, loss, seen, lambda: kept)
        self._reached = _LastIteration(record, kept)  # now it has happened
        if self._is_within_iteration:  # else an earlier process has told of it
            run.print_progress(record)
        is_last = seen is not None and seen.score is not None and self._is_impatient(seen.score)
        if not self._is_within_iteration:
            self._follower.skip_epoch()
            return is_last
        self._is_within_iteration = False
        self._is_stopped = self._follower.on_epoch_end(self._standing)
        return is_last or self._is_stopped

    @property
    def _is_known(self) -> bool:
        """Whether the next evaluation is known of an earlier process, which has told of it."""
        evaluations = self._run.evaluations
        return evaluations is not None and evaluations.is_known

    def _is_impatient(self, score: float) -> bool:
        """Return whether validation scores have not risen for too long."""
        run, may_stop = self._run, np.ones((1, 1), dtype=bool)
        monitored = np.array([[score_to_loss(score)]])
        _, stopped = run.config.patience.on_epoch_end(run.state.progress, monitored, may_stop)
        if stopped.item():
            run.print_stall("Stopping.")
        return bool(stopped.item())

    def _standing(self) -> list[TrainingRun]:
        run, (record, kept) = self._run, self._reached
        parameters = run.parameters.like(kept.theta, kept.statistics)
        return [run.copy_at(record, replace(run.state, parameters=parameters).copy())]

    def _go_back(self, end: Callable[[TrainingRun], None]) -> None:
        """End with the last complete iteration."""
        run, (record, kept) = self._run, self._reached
        run.parameters.theta[...] = kept.theta
        run.end(record)
        end(run)

    def _end(self, result: OptimizeResult) -> None:
        """Say how SciPy has ended."""
        run = self._run
        if self._is_stopped:
            on_interrupted(run)
        elif result.status in (0, _STOPPED_BY_CALLBACK):
            on_converged(run)
        else:
            end_unconverged_lbfgs(run, result.message.strip())
