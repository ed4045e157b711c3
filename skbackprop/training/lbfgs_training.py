"""Training of one run by L-BFGS."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.optimize import OptimizeResult

from ..nn.lbfgs import EvaluationLog, FullBatchObjective, minimize
from ..nn.objective import DivergenceError
from ..nn.stack_trainer import TimeLimitReached
from ..optimizers import LBFGS
from .checkpoint import StopReason
from .diagnostics import record_outcome
from .training_run import (
    INTERRUPTS,
    EpochObserver,
    Interrupt,
    TrainingRun,
    evaluate_validation,
    make_time_limit,
    monitored_value,
)

# The status of SciPy's result after a StopIteration.
_STOPPED_BY_CALLBACK = 99


class LBFGSTraining:
    """The training of one run by L-BFGS.

    Parameters
    ----------
    run : TrainingRun
        The run.
    observer : EpochObserver
        Follows the iterations.
    """

    def __init__(self, run: TrainingRun, observer: EpochObserver) -> None:
        if not isinstance(run.config.solver, LBFGS):
            raise TypeError(f"runs of L-BFGS need its settings, got {run.config.solver!r}")
        self._run, self._observer, self._lbfgs = run, observer, run.config.solver
        in_double = run.parameters.with_theta(run.parameters.theta.astype(np.float64))
        run.state = replace(run.state, parameters=in_double)
        if observer.needs_checkpoints and run.evaluations is None:
            run.evaluations = EvaluationLog(run.parameters.theta[0].copy(), [], [])
        # Of the last complete iteration. Both are replaced by one assignment, for Ctrl-C.
        self._last = run.history, run.parameters.theta.copy()
        self._is_within_iteration = False
        self._is_stopped = False  # by the observer

    def train(self) -> Interrupt | None:
        """Train to the end; return the interrupt that ended training, if there is one."""
        run = self._run
        try:
            result = self._minimize()
        except INTERRUPTS as interrupt:
            self._restore("stopped")
            return interrupt
        except TimeLimitReached:
            self._restore("time_limit")
        except DivergenceError:
            record_outcome(run, self._last[0], "diverged")
        else:
            history = self._last[0]._replace(loss=float(result.fun))
            if self._is_stopped:
                record_outcome(run, history, "stopped")
            elif result.status in (0, _STOPPED_BY_CALLBACK):
                record_outcome(run, history, "converged")
            else:
                record_outcome(run, history, "unconverged", result.message.strip())
        if self._is_within_iteration:
            self._observer.on_epoch_end(self._snapshot_runs)
        return None

    def _minimize(self) -> OptimizeResult:
        run = self._run
        objective = FullBatchObjective(
            run.objective,
            run.parameters,
            run.table,
            run.train,
            run.rows_at_once,
            make_time_limit([run]),
            run.evaluations,
        )
        return minimize(
            objective,
            self._lbfgs,
            max_iter=run.config.max_iter,
            tol=run.config.tol,
            on_evaluation=self._begin_iteration,
            on_iteration=self._end_iteration,
        )

    def _begin_iteration(self) -> None:
        # Cached evaluations are those of an earlier process, which has called the observer.
        evaluations = self._run.evaluations
        is_cached = evaluations is not None and evaluations.is_known
        if not (self._is_within_iteration or is_cached):
            self._is_within_iteration = True
            try:
                self._observer.on_epoch_begin(self._snapshot_runs)
            except StopIteration as error:  # which SciPy may take for the end
                raise RuntimeError("A callback has raised StopIteration.") from error

    def _end_iteration(self, loss: float) -> bool:
        """Record an iteration; return whether it is the last."""
        run = self._run
        (result,) = evaluate_validation([run], [loss], run.parameters)
        # Of equally good iterations the last has the lowest loss. On few rows many are equal.
        history = self._last[0].with_epoch(result, run.state, 0, last_of_equals=True)
        self._last = history, run.parameters.theta.copy()  # now it has happened
        if self._is_within_iteration:  # else an earlier process has printed it
            run.print_progress(history)
        is_last = result.validation_score is not None and self._stops(monitored_value(result))
        if not self._is_within_iteration:
            self._observer.skip_epoch()
            return is_last
        self._is_within_iteration = False
        self._is_stopped = self._observer.on_epoch_end(self._snapshot_runs)
        return is_last or self._is_stopped

    def _stops(self, monitored: float) -> bool:
        """Return whether the validation score has not improved for too long."""
        run, may_stop = self._run, np.ones((1, 1), dtype=bool)
        _, stopped = run.config.patience.on_epoch_end(
            run.state.progress, np.array([[monitored]]), may_stop
        )
        if stopped.item():
            run.print_stall(self._last[0], "Stopping.")
        return bool(stopped.item())

    def _snapshot_runs(self) -> list[TrainingRun]:
        run, (history, theta) = self._run, self._last
        parameters = run.parameters.with_theta(theta)
        return [run.snapshot(history, replace(run.state, parameters=parameters))]

    def _restore(self, reason: StopReason) -> None:
        """End with the last complete iteration."""
        run, (history, theta) = self._run, self._last
        run.parameters.theta[...] = theta
        record_outcome(run, history, reason)
