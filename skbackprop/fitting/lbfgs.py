"""The training of one run by L-BFGS."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from ..engine.deadline import OutOfTime
from ..engine.lbfgs import WholeObjective, minimise
from ..engine.objective import Diverged
from ..optimizers import LBFGS
from .course import copy_of_member
from .run import Run
from .scoring import seen_by, to_fall
from .stacking import deadline_of
from .threads import limiting_blas
from .verdict import end_diverged, end_out_of_time, judge

# The status of SciPy's result after a StopIteration.
_STOPPED_BY_CALLBACK = 99


def minimise_alone(run: Run) -> KeyboardInterrupt | None:
    """Train by L-BFGS; return the interrupt that ended it, if one did."""
    start, lbfgs = time.perf_counter(), run.plan.solver
    if not isinstance(lbfgs, LBFGS):
        raise TypeError(f"runs of L-BFGS need its settings, got {lbfgs!r}")
    largest = run.network.largest_product(run.rows_at_once)
    interrupt = limiting_blas(lambda: _minimise(run, lbfgs), largest, is_lbfgs=True)
    run.seconds += time.perf_counter() - start
    return interrupt


def _minimise(run: Run, lbfgs: LBFGS) -> KeyboardInterrupt | None:
    plan = run.plan
    in_double = run.parameters.like(run.parameters.theta.astype(np.float64))
    run.state = replace(run.state, parameters=in_double)
    patience = plan.patience
    may_stop = np.ones((1, 1), dtype=bool)
    # The last complete iteration: its course and its point, in one value.
    reached = run.course, copy_of_member(run.state, 0)

    def end_iteration(loss: float) -> bool:
        nonlocal reached
        (seen,) = seen_by([run], run.parameters)
        kept = copy_of_member(run.state, 0)
        reached = run.after_epoch(reached[0], loss, seen, lambda: kept), kept
        run.print_progress(reached[0])
        if seen is None or seen.score is None:
            return False
        _, stopped = patience.end_epoch(
            run.state.progress, np.array([[to_fall(seen.score)]]), may_stop
        )
        if stopped.item():
            run.print_stall("Stopping.")
        return bool(stopped.item())

    try:
        result = minimise(
            WholeObjective(
                run.objective,
                run.parameters,
                run.table,
                run.train,
                run.rows_at_once,
                deadline_of([run]),
            ),
            lbfgs,
            max_iter=plan.max_iter,
            tol=plan.tol,
            on_iteration=end_iteration,
        )
    except KeyboardInterrupt as interrupt:
        course, kept = reached
        run.parameters.theta[...] = kept.theta
        run.end(course)
        judge(run)
        return interrupt
    except OutOfTime:
        course, kept = reached
        run.parameters.theta[...] = kept.theta
        run.end(course)
        end_out_of_time(run)
        return None
    except Diverged:
        run.end(reached[0])
        end_diverged(run)
        return None
    run.end(reached[0]._replace(loss=float(result.fun)))
    judge(run)
    if result.status not in (0, _STOPPED_BY_CALLBACK):
        run.warnings.append(
            f"lbfgs failed to converge after {run.n_iter} iteration(s) "
            f"({result.message.strip()}). Increase max_iter (now {plan.max_iter}) or "
            f"max_fun (now {lbfgs.max_fun}), or scale X, for example with "
            "sklearn.preprocessing.StandardScaler."
        )
    return None
