"""The training of one run by L-BFGS."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ..engine.epochs import Patience
from ..engine.lbfgs import WholeObjective, minimise
from ..engine.objective import Diverged
from ..optimizers import SOLVERS
from .descent import _kept_alone
from .plan import build
from .run import Run
from .scoring import to_fall, validation_scores
from .threads import limiting_blas

# The status of SciPy's result after a StopIteration.
_STOPPED_BY_CALLBACK = 99


def minimise_alone(run: Run) -> KeyboardInterrupt | None:
    """Train by L-BFGS; return the interrupt that ended it, if one did."""
    start = time.perf_counter()
    largest = run.network.largest_product(run.rows_at_once)
    interrupt = limiting_blas(lambda: _minimise(run), largest, is_lbfgs=True)
    run.seconds += time.perf_counter() - start
    return interrupt


def _minimise(run: Run) -> KeyboardInterrupt | None:
    settings = run.settings
    solver: Any = build(SOLVERS, settings.solver, settings)
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
        _, stopped = patience.end_epoch(np.array([[to_fall(score)]]), may_stop)
        if stopped.item():
            run.print_stall("Stopping.")
        return bool(stopped.item())

    try:
        result = minimise(
            WholeObjective(run.objective, run.parameters, run.table, run.train, run.rows_at_once),
            solver,
            max_iter=settings.max_iter,
            tol=settings.tol,
            on_iteration=end_iteration,
        )
    except KeyboardInterrupt as interrupt:
        course, kept = reached
        run.parameters.theta[...] = kept.theta
        run.end(course)
        run.judge()
        return interrupt
    except Diverged:
        run.end(reached[0])
        run.end_diverged()
        return None
    run.end(reached[0]._replace(loss=float(result.fun)))
    run.judge()
    if result.status not in (0, _STOPPED_BY_CALLBACK):
        run.warnings.append(
            f"lbfgs failed to converge after {run.n_iter} iteration(s) "
            f"({result.message.strip()}). Increase max_iter (now {settings.max_iter}) or "
            f"max_fun (now {solver.max_fun}), or scale X, for example with "
            "sklearn.preprocessing.StandardScaler."
        )
    return None
