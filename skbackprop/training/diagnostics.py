"""Warnings and errors about how training ended: divergence, no convergence, time limit."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..losses.base import can_be_scaled
from ..utils.arrays import max_abs
from .checkpoint import History, StopReason
from .training_run import TrainingRun

# The root mean square of a column from which on X or y counts as not scaled, and the number of
# evenly spaced rows that it is computed from.
_LARGEST_RMS, _N_ROWS = 10.0, 1_000

# The start of the warning that max_iter was reached, in scikit-learn's words.
MAX_ITER_REACHED = "Stochastic Optimizer: Maximum iterations"
OUT_OF_TIME = "Training ended: time_limit="


def warning_kind(message: str) -> str:
    """Return the words of a warning before its first number."""
    return re.split(r"[\d(=]", message)[0]


def distinct_warnings(runs: Sequence[TrainingRun]) -> list[str]:
    """Return the distinct warnings of several runs."""
    return list(dict.fromkeys(message for run in runs for message in run.warnings))


def record_outcome(
    run: TrainingRun, history: History, reason: StopReason, lbfgs_message: str = ""
) -> None:
    """Set the history and the stop reason of a run, and its warnings or its error.

    Parameters
    ----------
    run : TrainingRun
        The run, whose state is that of the last complete epoch.
    history : History
        The epochs that count.
    reason : StopReason
        Why training ended.
    lbfgs_message : str, default=""
        SciPy's explanation of an L-BFGS that has not converged.
    """
    run.set_history(history)
    run.stop_reason, config, best = reason, run.config, history.best
    if history.validation_scores and best is None:
        run.warnings.append(
            "No epoch has a finite validation score, so the weights of the last epoch are kept. "
            f"{_divergence_advice(run)}"
        )
    if reason == "diverged":
        message = (
            f"Training diverged in epoch {run.n_iter + 1}: the loss or a parameter is no longer "
            f"finite. {_divergence_advice(run)}"
        )
        if best is None or run.incremental:  # a failed call leaves no result
            run.error = ValueError(message)
        else:
            run.warnings.append(
                f"{message} The weights of epoch {best.n_iter}, which had the best validation "
                "score, are kept."
            )
    elif reason == "time_limit":
        kept = "The best weights so far are kept." if best else "The last weights are kept."
        if not run.n_iter:
            kept = "No epoch is complete. Increase time_limit, or train on fewer rows."
        run.warnings.append(f"{OUT_OF_TIME}{config.time_limit:g} seconds are over. {kept}")
    elif reason == "unconverged" and config.is_lbfgs:
        max_fun = getattr(config.solver, "max_fun", math.inf)
        run.warnings.append(
            f"lbfgs failed to converge after {run.n_iter} iteration(s) ({lbfgs_message}). Increase "
            f"max_iter (now {config.max_iter}) or max_fun (now {max_fun}), or scale X, for example "
            "with sklearn.preprocessing.StandardScaler."
        )
    elif reason == "unconverged" and not run.incremental and config.patience.n_epochs != math.inf:
        advice = _scale_advice(run) or (
            "Increase max_iter, or set n_iter_no_change=np.inf to train for exactly max_iter "
            "epochs without this warning."
        )
        run.warnings.append(
            f"{MAX_ITER_REACHED} ({config.max_iter}) reached and the optimization hasn't "
            f"converged yet. {advice}"
        )


def _divergence_advice(run: TrainingRun) -> str:
    """Return how to avoid divergence, with the learning rate and the scale of the data."""
    scale = f"Lower learning_rate_init (now {run.config.rate}), or scale the data"
    if run.config.is_lbfgs:  # which has no learning rate
        scale = "Scale the data"
    return (
        f"{scale}, for example with sklearn.preprocessing.StandardScaler: the largest absolute "
        f"value in X is {max_abs(run.table.X):.3g}, in the targets {max_abs(run.table.y):.3g}."
    )


def _scale_advice(run: TrainingRun) -> str:
    """Return which of X and y to scale; empty if neither has large values."""
    table, config = run.table, run.config
    # Layers such as embeddings have scales of their own.
    if not config.architecture.layers and (size := _root_mean_square(table.X)) > _LARGEST_RMS:
        return (
            f"The values in X are too large, with root mean squares of up to {size:.2g} in a "
            "column: scale X, for example with sklearn.preprocessing.StandardScaler."
        )
    is_scalable = can_be_scaled(run.objective.loss) and table.y is not table.X
    if is_scalable and not config.scale_target:
        size = _root_mean_square(table.y)
        if size > _LARGEST_RMS:
            return (
                f"The targets are too large, with a root mean square of {size:.2g}, because "
                "initial outputs are near 0: set scale_target=True."
            )
    return ""


def _root_mean_square(table: Any) -> float:
    """Return the largest root mean square of a column of X or y."""
    rows = table[np.arange(0, table.shape[0], -(-table.shape[0] // _N_ROWS))].astype(np.float64)
    with np.errstate(over="ignore"):
        squares = rows.multiply(rows) if hasattr(rows, "multiply") else np.square(rows)
        return float(np.max(np.sqrt(np.asarray(squares.mean(axis=0))), initial=0.0))
