"""Warnings and errors about how training ended, and warnings in the name of scikit-learn."""

from __future__ import annotations

import math
import sys
import warnings
from typing import Any

import numpy as np
from sklearn.metrics import get_scorer

from ..layers.normalization import Normalization
from ..losses.base import Loss, can_be_scaled
from ..nn.rows import Rows
from ..nn.train_state import TrainState
from ..optimizers import LBFGS
from ..utils.arrays import max_abs
from .config import Config
from .model import Model
from .problem import Problem
from .targets import ClassTargets, LabelTargets, Targets

# X or y counts as unscaled if the root mean square of a column is larger than this; after
# convergence, X above the second value only. It is computed from this number of evenly spaced rows.
_LARGEST_RMS = 10.0
_HUGE_RMS = 1e4
_N_ROWS = 1_000

# X also counts as unscaled if the mean of a column is this many times its standard deviation.
# Columns above the second value count as constant, because squares are rounded.
_FAR_FROM_ZERO = 100.0
_CONSTANT = 1e5

# The beginning of the warning that training has reached its time limit.
OUT_OF_TIME = "Training ended: time_limit="


def collect_warnings(problem: Problem, model: Model) -> list[str]:
    """Return the distinct warnings about how training ended.

    Parameters
    ----------
    problem : Problem
        The data.
    model : Model
        The model after training.

    Raises
    ------
    ValueError
        If training of a network diverged and left no weights to keep.
    """
    messages: dict[str, None] = {}
    for i in range(len(model.state)):
        for message in (_describe_scores(problem, model, i), _describe_end(problem, model, i)):
            if message:
                messages[message] = None
    return list(messages)


def has_failed(model: Model, i: int) -> bool:
    """Return whether training of a network diverged and left no weights to keep."""
    # A failed call of `partial_fit` keeps no weights.
    has_best = _get_best_epoch(model.state, i) > 0 and not model.is_incremental
    return model.state.stop_reason[i] == "diverged" and not has_best


def _get_best_epoch(state: TrainState, i: int) -> int:
    """Return the epoch whose weights are kept; 0 if no epoch has a score."""
    return int(state.best["epoch"][i, 0]) if state.best else 0


def _describe_scores(problem: Problem, model: Model, i: int) -> str:
    """Return the warning that no epoch of a network has a finite score; empty if one has."""
    state = model.state
    if not state.best or _get_best_epoch(state, i):
        return ""
    if not (state.epoch[i, 0] and "validation_score" in state.history[i].last):
        return ""
    return (
        "No epoch has a finite validation score, so the weights of the last epoch are kept. "
        f"{_divergence_advice(model.config, problem.rows)}"
    )


def _describe_end(problem: Problem, model: Model, i: int) -> str:
    """Return the warning about how training of a network has ended; empty if there is none."""
    config = model.config
    n_iter = int(model.state.epoch[i, 0])
    best_epoch = _get_best_epoch(model.state, i)
    match model.state.stop_reason[i]:
        case "diverged":
            message = (
                f"Training diverged in epoch {n_iter + 1}: the loss or a parameter is no longer "
                f"finite. {_divergence_advice(config, problem.rows)}"
            )
            if has_failed(model, i):
                raise ValueError(message)
            return (
                f"{message} The weights of epoch {best_epoch}, which had the best validation "
                "score, are kept."
            )
        case "time_limit":
            note = f"The last weights are kept, after {n_iter} epoch(s)."
            if best_epoch:
                note = f"The best weights so far are kept, of epoch {best_epoch} of {n_iter}."
            if not n_iter:
                note = (
                    "No epoch is complete, and the weights after the last batch are kept. Increase "
                    "time_limit, or train on fewer rows."
                )
            return f"{OUT_OF_TIME}{config.time_limit:g} seconds are over. {note}"
        case "unconverged":
            return _describe_unconverged(problem, model, n_iter)
        case "converged" if not model.is_incremental:
            if message := _describe_constant_score(problem, model, i):
                return message
            advice = _scale_advice(config, problem.targets.loss, problem.rows, _HUGE_RMS)
            return advice and f"Training ended without further progress. {advice}"
    return ""


def _describe_unconverged(problem: Problem, model: Model, n_iter: int) -> str:
    """Return the warning that a network needs more iterations; empty if none are expected."""
    config = model.config
    is_endless = model.is_incremental or config.n_iter_no_change == math.inf
    if is_endless and not config.is_lbfgs:
        return ""
    advice = _scale_advice(config, problem.targets.loss, problem.rows)
    if isinstance(config.solver, LBFGS):
        advice = advice or (
            f"Increase max_iter (now {config.max_iter}) or max_fun (now {config.solver.max_fun})."
        )
        return f"lbfgs failed to converge after {n_iter} iteration(s). {advice}"
    advice = advice or (
        "Increase max_iter, or set n_iter_no_change=np.inf to train for exactly max_iter epochs "
        "without this warning."
    )
    return (
        f"Stochastic Optimizer: Maximum iterations ({config.max_iter}) reached and the "
        f"optimization hasn't converged yet. {advice}"
    )


def _describe_constant_score(problem: Problem, model: Model, i: int) -> str:
    """Return the warning that all epochs had one validation score; empty if it is the best one."""
    rule = model.config.early_stopping
    patience = model.config.n_iter_no_change
    # Without a score the loss decides, and L-BFGS may have converged by itself.
    if rule is None or model.state.plateau["count"][i, 0] <= patience:
        return ""
    n_iter = int(model.state.epoch[i, 0])
    scores = model.state.history[i].curve("validation_score", n_iter)
    best_score = 0.0 if _is_negated_loss(rule.scoring) else 1.0
    if not len(scores) or scores[0] == best_score or (scores != scores[0]).any():
        return ""
    if _is_constant(problem.rows):
        return ""
    advice = f"increase n_iter_no_change (now {rule.n_iter_no_change:g})"
    if rule.scoring != "loss":
        is_class = isinstance(problem.targets, ClassTargets)
        scorers = '"loss" or "neg_log_loss"' if is_class else '"loss"'
        advice = (
            f"set scoring of EarlyStopping to {scorers}, which small changes count in, or {advice}"
        )
    name = _name_score(rule.scoring, problem.targets)
    return (
        f"Early stopping ended training although the validation score was {scores[0]:g} in each of "
        f"the {n_iter} epochs ({name}), so it could not show progress. To train on, {advice}."
    )


def _name_score(scoring: Any, targets: Targets) -> str:
    """Return the `scoring` of early stopping; of the default, also what the score is."""
    name = f"scoring={scoring!r}"
    if scoring is not None:
        return name
    if not isinstance(targets, LabelTargets):
        return f"{name}: D2 of the loss"
    return f"{name}: accuracy" if targets.is_exclusive else f"{name}: all labels of a row right"


def _is_constant(rows: Rows) -> bool:
    """Return whether all targets are equal, so that there is nothing to learn."""
    y = rows.y
    return y is not rows.X and not max_abs(y[1:] != y[:-1])


def _is_negated_loss(scoring: Any) -> bool:
    """Return whether the best value of a validation score is 0; that of others is 1."""
    if scoring is None or scoring == "loss":
        return scoring == "loss"
    sign: int = getattr(get_scorer(scoring), "_sign", 1)
    return sign < 0


def _divergence_advice(config: Config, rows: Rows) -> str:
    """Return how to avoid divergence, with the learning rate and the scale of the data."""
    scale = f"Lower learning_rate_init (now {config.learning_rate_init}), or scale the data"
    if config.is_lbfgs:  # L-BFGS has no learning rate
        scale = "Scale the data"
    return (
        f"{scale}, for example with sklearn.preprocessing.StandardScaler: the largest absolute "
        f"value in X is {max_abs(rows.X):.3g}, in the targets {max_abs(rows.y):.3g}."
    )


def _scale_advice(config: Config, loss: Loss, rows: Rows, largest_rms: float = _LARGEST_RMS) -> str:
    """Return which of X and y to scale; empty if neither has values far from 0."""
    # Codes of embeddings are large, and normalization scales its input.
    first = config.layers[0] if config.layers else None
    if first is None or not (first.reads_columns or isinstance(first, Normalization)):
        size, ratio = _measure_scale(rows.X)
        problem = ""
        if size > largest_rms:
            problem = f"are too large, with root mean squares of up to {size:.2g} in a column"
        elif ratio > _FAR_FROM_ZERO and first is None:  # a pixel may be nearly constant
            problem = f"are far from 0, with a mean of {ratio:.2g} standard deviations in a column"
        if problem:
            example = "X / 255 for images" if first else "with sklearn.preprocessing.StandardScaler"
            return f"The values in X {problem}: scale X, for example {example}."
    is_scalable = can_be_scaled(loss) and rows.y is not rows.X and not config.scale_target
    if is_scalable and (size := _measure_scale(rows.y)[0]) > largest_rms:
        return (
            f"The targets are too large, with a root mean square of {size:.2g}, because initial "
            "outputs are near 0: set scale_target=True."
        )
    return ""


def _measure_scale(table: Any) -> tuple[float, float]:
    """Return the largest root mean square, and ratio of mean and spread, of the columns."""
    rows = table[np.arange(0, table.shape[0], -(-table.shape[0] // _N_ROWS))].astype(np.float64)
    with np.errstate(all="ignore"):
        squares = rows.multiply(rows) if hasattr(rows, "multiply") else np.square(rows)
        mean = np.asarray(rows.mean(axis=0))
        mean_square = np.asarray(squares.mean(axis=0))
        ratio = np.abs(mean) / np.sqrt(np.maximum(mean_square - mean**2, 0))
        ratios = ratio[ratio < _CONSTANT]
        return float(np.sqrt(mean_square).max(initial=0)), float(ratios.max(initial=0))


# The module of scikit-learn's warnings, for `filterwarnings("ignore", module="sklearn")`.
_MODULE = "sklearn.neural_network._multilayer_perceptron"
# The packages between the user's line and this module.
_SKIPPED_PACKAGES = {"joblib", "sklearn", "skbackprop"}


def warn(message: str, category: type[Warning]) -> None:
    """Issue a warning in the name of scikit-learn's module, at the user's line.

    The line is that of the first frame outside of this package, scikit-learn and joblib.
    """
    frame = sys._getframe()
    package = __name__
    while frame.f_back is not None and package.partition(".")[0] in _SKIPPED_PACKAGES:
        frame = frame.f_back
        package = str(frame.f_globals.get("__name__", ""))
    warnings.warn_explicit(
        message,
        category,
        frame.f_code.co_filename,
        frame.f_lineno,
        module=_MODULE,
        registry=frame.f_globals.setdefault("__warningregistry__", {}),
    )
