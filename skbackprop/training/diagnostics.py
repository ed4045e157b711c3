"""Diagnosis of how training ended: divergence, lack of convergence, time limit."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from ..losses._composite import LabelSmoothing
from ..losses.base import can_be_scaled
from ..losses.classification import ClassifierLoss
from ..nn.data_loader import Dataset
from ..nn.objective import Objective
from ..nn.prediction import iter_predict_raw, predict_raw
from ..utils.arrays import Array, IndexArray, as_dense, max_abs
from .checkpoint import History, StopReason
from .training_run import TrainingRun

# The growth of the largest weight from which on the loss is checked.
GROWN = 4.0
# The largest weight that is plausible for targets of up to one. With smaller weights, the output on
# finite rows is practically always finite.
SAFE = 1e6
# A regressor's score below which nothing has been learned; a constant has 0.
_USELESS_SCORE = -1.0
# The number of rows of `partial_fit` calls that is enough to judge their mean loss. The loss of
# single rows varies by orders of magnitude.
ENOUGH_ROWS = 64
# The largest number of values of X or y that checks for divergence read.
_N_CHECKED = 1 << 20


def subsample_evenly(
    table: Dataset, rows: IndexArray | None, numbers_per_row: int, n_numbers: int = _N_CHECKED
) -> IndexArray:
    """Return evenly spaced rows of those given, or all if they have few numbers.

    Rows of weight zero are left out.
    """
    rows = np.arange(table.n_rows) if rows is None else rows
    if table.weight is not None:
        rows = rows[table.weight[rows] > 0]
    return rows[:: -(-len(rows) * numbers_per_row // n_numbers)]


def _zero_score_loss(run: TrainingRun, n_numbers: int = _N_CHECKED) -> float:
    """Return the mean training loss if all raw scores are zero, of a sample if there are many."""
    k = run.table.y.shape[1]
    rows = subsample_evenly(run.table, run.train, k, n_numbers)
    return _mean_loss([np.zeros((len(rows), k))], run.table, rows, run.objective)


def _mean_loss(
    blocks: Iterable[Array], table: Dataset, rows: IndexArray, objective: Objective
) -> float:
    """Return the mean loss of raw scores given in blocks of rows, as reported.

    It is NaN if a score is not finite.
    """
    start, total, weights = 0, 0.0, 0.0
    with np.errstate(all="ignore"):
        for scores in blocks:
            if not np.isfinite(scores).all():
                return math.nan
            part = rows[start : start + len(scores)]
            start += len(scores)
            weight = np.ones(len(part)) if table.weight is None else table.weight[part]
            y = as_dense(table.y[part]).astype(np.float64)
            values = objective.loss.value(scores[None], y[None])[0] / objective.loss_normalizer
            total += float(values[weight > 0] @ weight[weight > 0])
            weights += float(weight.sum())
    mean = total / weights
    return mean if math.isfinite(mean) else sys.float_info.max


# Sizes of inputs and targets from which on their scale is the problem. Networks are made for sizes
# of about one; the norm is that of a row.
_LARGEST = 10.0
_SMALLEST_NORM = 0.3
# A regressor's score from which on it has learned most of y.
_LEARNED = 0.6
# The largest number of values of X or y that advice is based on.
_N_SAMPLED = 1 << 16
# A learning rate is too high if the loss was this many times that of zero outputs.
_TIMES_ZERO = 4.0
# A learning rate is too low if the loss falls in nearly all epochs, at the end as fast as at the
# start, and would take this many times the epochs to reach zero.
_SHARE_OF_FALLS, _LAST_TO_FIRST, _TIMES_THE_EPOCHS = 0.95, 0.5, 2.0
# The share of the way from a constant prediction's accuracy to 1 that counts as learning.
_SHARE_ABOVE_FLOOR = 0.1
# The numbers of epochs and of steps from which on the loss curve is meaningful.
_N_EPOCHS, _N_STEPS = 8, 100


def convergence_advice(run: TrainingRun) -> str:
    """Return advice on how to make a run converge, for its most important problem."""
    return (
        _scale_advice(run)
        or _learning_rate_advice(run)
        or (
            "Increase max_iter, or set n_iter_no_change=np.inf to train for exactly max_iter "
            "epochs without this warning."
        )
    )


def early_stopping_advice(run: TrainingRun) -> str:
    """Return advice if early stopping used an uninformative score; else an empty string.

    Such a score was never much better than that of a constant prediction, while the validation loss
    still fell. The share of rows with all labels right is an example.
    """
    stopping, validation_data = run.config.stopping, run.validation_data
    losses, scores = run.history.validation_losses, run.history.validation_scores
    if stopping is None or validation_data is None or stopping.scoring == "loss" or not scores:
        return ""
    if run.incremental or run.config.is_lbfgs or not run.task.is_local:
        return ""
    patience, tol = (float(each) for each in (run.config.patience.n_epochs, stopping.tol))
    n = max(1, int(min(patience, len(losses))) // 2)
    if run.table.y is run.table.X or not len(losses) > max(1, patience):
        return ""
    if not min(losses[-n:]) < min(losses[:-n]) - tol:
        return ""
    if stopping.scoring is not None:
        floor = scores[0] + tol
    elif not isinstance(run.objective.loss, (ClassifierLoss, LabelSmoothing)):
        floor = tol  # the score of a constant is 0, and that of noisy targets may be little more
    else:
        rows, counts = np.unique(as_dense(validation_data.encoded), axis=0, return_counts=True)
        constant = np.tile(2.0 * rows[counts.argmax()] - 1, (validation_data.encoded.shape[0], 1))
        floor = run.task.evaluator.score(constant, validation_data)
        floor += _SHARE_ABOVE_FLOOR * (1 - floor)
    best = max(scores)
    if best == 1 or best > floor:
        return ""
    advice = _scale_advice(run) or 'Use the loss instead: set early_stopping=EarlyStopping("loss").'
    return f"{best:.3g} at best, while the validation loss still fell. {advice}"


def _scale_advice(run: TrainingRun) -> str:
    """Return advice on the scale of X or y, whichever is worse; empty if both are fine."""
    target_error, input_error, advice = _target_misscale(run), 0.0, ""
    if not run.config.architecture.layers:  # which have scales of their own
        sizes = _column_sizes(run, run.table.X)
        largest, norm = float(sizes.max(initial=0.0)), math.hypot(*sizes)
        if largest > _LARGEST or 0 < norm < _SMALLEST_NORM:
            # The orders of magnitude by which X is too large or too small.
            input_error = math.log10(largest) if largest > _LARGEST else -math.log10(norm)
            scaler = "MaxAbsScaler" if run.table.is_sparse else "StandardScaler"
            advice = (
                f"The values in X are too {'large' if largest > _LARGEST else 'small'}, with root "
                f"mean squares of up to {largest:.2g} in a column: scale X, for example with "
                f"sklearn.preprocessing.{scaler}."
            )
    if target_error > input_error:
        return (
            "The targets are too large, with a root mean square of about "
            f"{10**target_error:.2g}, because initial outputs are near 0: set scale_target=True."
        )
    return advice


def _column_sizes(run: TrainingRun, table: Any) -> Array:
    """Return the root mean square of each column of X or y, over evenly spaced rows."""
    is_sparse, (n_rows, n_columns) = hasattr(table, "indptr"), table.shape
    numbers_per_row = -(-len(table.data) // n_rows) if is_sparse else n_columns
    part = table[subsample_evenly(run.table, run.train, max(1, numbers_per_row), _N_SAMPLED)]
    part = part.astype(np.float64)
    with np.errstate(over="ignore"):
        squares = part.multiply(part) if is_sparse else np.square(part)
        return np.sqrt(np.asarray(squares.mean(axis=0))).ravel()


def _target_misscale(run: TrainingRun) -> float:
    """Return by how many orders of magnitude y is too large for a regressor; 0 if it is fine.

    It is fine if the network has learned most of y anyway.
    """
    config, table, loss = run.config, run.table, run.objective.loss
    if config.scale_target or table.y is table.X or not can_be_scaled(loss):
        return 0.0
    largest = _column_sizes(run, table.y).max()
    if largest <= _LARGEST:
        return 0.0
    rows = subsample_evenly(table, run.train, sum(run.network.widths), _N_SAMPLED)
    weight = None if table.weight is None else table.weight[rows]
    with np.errstate(all="ignore"):
        scores = predict_raw(run.network, run.inference_parameters, table.X, rows)[0]
        score = loss.score(scores, as_dense(table.y[rows]), weight)
    return 0.0 if score > _LEARNED else math.log10(largest)


def _learning_rate_advice(run: TrainingRun) -> str:
    """Return advice on the learning rate; empty if it is fine."""
    losses, rate = np.array(run.history.losses), run.config.rate
    # With roughly the penalty of the initial weights.
    n_products = sum(2 * a * b / (a + b) for a, b in pairwise(run.network.widths))
    penalty = float(run.config.penalty.alpha) * n_products / 2 / run.n_train
    zero = _zero_score_loss(run, _N_SAMPLED) + penalty
    if run.network.has_activity_loss:
        zero = max(zero, float(losses[0]))
    if losses.max() - zero > (_TIMES_ZERO - 1) * abs(zero) > 0:
        return (
            f"The loss rose to at least {_TIMES_ZERO:g} times the loss of a network that outputs "
            f"0, before it fell: lower learning_rate_init (now {rate:g})."
        )
    n_steps = len(losses) * -(-run.n_train // run.batch_size)
    changes = np.diff(losses)
    if len(losses) < _N_EPOCHS or n_steps < _N_STEPS or losses[-1] <= 0:
        return ""
    quarter = len(changes) // 4
    first, last = -changes[:quarter].mean(), -changes[-quarter:].mean()
    is_steady = (changes < 0).mean() > _SHARE_OF_FALLS and last > _LAST_TO_FIRST * first
    if is_steady and losses[-1] > _TIMES_THE_EPOCHS * len(losses) * last:
        return f"The loss falls slowly and steadily: increase learning_rate_init (now {rate:g})."
    return ""


# The start of the warning that max_iter was reached, in scikit-learn's words.
MAX_ITER_REACHED = "Stochastic Optimizer: Maximum iterations"
# The start of the warning that early stopping used an uninformative score.
UNINFORMATIVE_SCORE = (
    "Early stopping ended training by a validation score that stayed near that of constant "
    "predictions,"
)
OUT_OF_TIME = "Training ended: time_limit="


def warning_kind(message: str) -> str:
    """Return the words of a warning before its first number."""
    return re.split(r"[\d(=]", message)[0]


def distinct_warnings(runs: Sequence[TrainingRun]) -> list[str]:
    """Return the distinct warnings of several runs, one for all that ended in the same way."""
    found = list(dict.fromkeys(message for run in runs for message in run.warnings))
    for once in (MAX_ITER_REACHED, UNINFORMATIVE_SCORE, OUT_OF_TIME):
        alike = [message for message in found if message.startswith(once)]
        found = [message for message in found if message not in alike[1:]]
    return found


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
    if reason == "diverged":
        _warn_of_nonfinite_scores(run)
        run.stop_reason = reason
        _report_divergence(run, run.n_iter + 1, "the loss or a parameter is no longer finite")
        return
    _check_divergence(run)
    run.stop_reason, config = reason, run.config
    if reason == "converged":
        if advice := early_stopping_advice(run):
            run.warnings.append(f"{UNINFORMATIVE_SCORE} {advice}")
    elif reason == "time_limit":
        limit = f"{OUT_OF_TIME}{config.time_limit:g} seconds are over"
        if run.n_iter:
            unit = "iteration" if config.is_lbfgs else "epoch"
            run.warnings.append(
                f"{limit} after {run.n_iter} {unit}(s). The weights of {unit} "
                f"{run.history.best_epoch} are kept."
            )
        else:
            when = "end of the first iteration" if config.is_lbfgs else "first batch"
            end = f"{limit} before the {when}, so nothing has been learned."
            if (incomplete := history.incomplete) is not None:
                share = incomplete.n_rows / run.n_train
                end = f"{limit} after {share:.2%} of the first epoch. The weights then are kept."
            run.warnings.append(f"{end} Increase time_limit, or train on fewer rows.")
    elif reason == "unconverged" and config.is_lbfgs:
        max_fun = getattr(config.solver, "max_fun", math.inf)
        run.warnings.append(
            f"lbfgs failed to converge after {run.n_iter} iteration(s) ({lbfgs_message}). Increase "
            f"max_iter (now {config.max_iter}) or max_fun (now {max_fun}), or scale X, for example "
            "with sklearn.preprocessing.StandardScaler."
        )
    elif reason == "unconverged" and not run.incremental and config.patience.n_epochs != math.inf:
        run.warnings.append(
            f"{MAX_ITER_REACHED} ({config.max_iter}) reached and the optimization hasn't "
            f"converged yet. {convergence_advice(run)}"
        )


def _check_divergence(run: TrainingRun) -> None:
    """Warn of a divergence that has not led to infinite numbers, or has come back from them."""
    _warn_of_nonfinite_scores(run)
    first, best = run.first_loss, run.history.best
    if not run.n_iter or first is None:
        return
    largest, growth, last = run.largest_weight, run.growth, run.history.loss
    has_risen, zero = last > first, None
    if run.incremental:
        has_risen, last, zero = _check_partial_fit_calls(run, first)
    has_grown = growth > GROWN or largest > SAFE
    if not (has_risen or has_grown):
        return
    worst = max(*run.history.losses, last)
    if best is None and has_grown:  # the last step may have diverged
        loss = _loss_of_kept_weights(run, uses_all_rows=largest > SAFE)
        if not math.isfinite(loss):
            _report_divergence(
                run,
                run.n_iter,
                "the network's output on the training data is no longer finite, because its "
                f"largest weight is {largest:.3g}",
            )
            return
        if not run.incremental:
            last = max(last, loss)
            has_risen = has_risen or last > first + abs(first)
    if largest > SAFE and largest > SAFE * max_abs(run.table.y):
        has_diverged = True
    elif not (has_risen or growth > GROWN):
        has_diverged = False
    else:
        has_diverged = _is_useless(run, worst, last, zero)
    if has_diverged:
        kept = "" if best is None else f" {_describe_kept_weights(run)}"
        run.warnings.append(
            f"Training diverged: the first loss was {first:.3g}, the highest {worst:.3g} and the "
            f"last {last:.3g}, and the largest weight is {largest:.3g}. "
            f"{_divergence_advice(run)}{kept}"
        )


def _is_useless(run: TrainingRun, worst: float, last: float, zero: float | None) -> bool:
    """Return whether a network predicts worse than zero scores, or no better after a divergence.

    Parameters
    ----------
    run : TrainingRun
        The run.
    worst, last : float
        The worst and the last loss.
    zero : float or None
        The mean loss of zero scores; None to compute it.
    """
    best, stopping = run.history.best, run.config.stopping
    has_own_score = best is not None and stopping is not None and stopping.scoring is None
    if best is not None and has_own_score and best.score < _USELESS_SCORE:
        return True
    baseline = _zero_score_loss(run) if zero is None else zero
    if baseline == 0:  # all targets are the same, so there is no scale to compare with
        return False
    if run.network.has_activity_loss:  # its weight may have been raised
        return bool(_loss_of_kept_weights(run, uses_all_rows=False) > baseline + abs(baseline))
    if last > baseline + abs(baseline):
        return True
    # The loss has fallen again, but to that of a constant prediction.
    was_diverging = worst > baseline + 9 * abs(baseline)
    return run.growth > GROWN and was_diverging and last > baseline - 0.1 * abs(baseline)


def _check_partial_fit_calls(run: TrainingRun, first: float) -> tuple[bool, float, float | None]:
    """Add a call of `partial_fit` to the calls that are checked together.

    The loss of zero scores is computed for the calls after those whose losses have risen.

    Returns
    -------
    has_risen : bool
        Whether there are enough rows, with a mean loss clearly above the first.
    last : float
        The mean loss of the rows.
    zero : float or None
        Their mean loss with zero scores; None if it is still to be computed, for this call.
    """
    weight, before, last = run.table.weight, run.calls_before, run.history.loss
    n = run.n_train if weight is None else int(np.count_nonzero(weight))
    n_rows, total, zero = before.n_rows + n, before.loss + n * last, None
    if before.loss_of_zero_scores is not None:
        zero = before.loss_of_zero_scores + n * _zero_score_loss(run)
    if n_rows < ENOUGH_ROWS:
        run.calls = before._replace(n_rows=n_rows, loss=total, loss_of_zero_scores=zero)
        return False, last, None
    last = total / n_rows
    # The first call had other rows, so a slightly higher loss is normal.
    has_risen = last > first + abs(first)
    run.calls = before._replace(n_rows=0, loss=0.0, loss_of_zero_scores=0.0 if has_risen else None)
    is_one_call = before.n_rows == 0
    return has_risen and (zero is not None or is_one_call), last, zero and zero / n_rows


def _warn_of_nonfinite_scores(run: TrainingRun) -> None:
    if run.history.validation_scores and run.history.best is None:
        run.warnings.append(
            "No epoch has a finite validation score, so the weights of the last epoch are kept. "
            f"Scale the data, {_describe_scales(run)}"
        )


def _loss_of_kept_weights(run: TrainingRun, uses_all_rows: bool) -> float:
    """Return the mean loss of the kept weights on the training rows, or on a sample of them.

    It is NaN if a score is not finite.
    """
    parameters, table, rows = run.inference_parameters, run.table, run.train
    if not uses_all_rows:
        rows = subsample_evenly(table, rows, sum(run.network.widths))
    elif rows is None:
        rows = np.arange(table.n_rows)
    with np.errstate(all="ignore"):
        scores = iter_predict_raw(run.network, parameters, table.X, rows)
        blocks = (block[0].astype(np.float64) for block in scores)
        return _mean_loss(blocks, table, rows, run.objective)


def _report_divergence(run: TrainingRun, epoch: int, what: str) -> None:
    message = f"Training diverged in epoch {epoch}: {what}. {_divergence_advice(run)}"
    if run.history.best is None or run.incremental:  # a failed call leaves no result
        run.error = ValueError(message)
    else:
        run.warnings.append(f"{message} {_describe_kept_weights(run)}")


def _divergence_advice(run: TrainingRun) -> str:
    if run.config.is_lbfgs:  # which has no learning rate
        return f"Scale the data, {_describe_scales(run)}"
    lower = f"Lower learning_rate_init (now {run.config.rate})"
    return f"{lower}, or scale the data, {_describe_scales(run)}"


def _describe_kept_weights(run: TrainingRun) -> str:
    if run.incremental:
        return "The weights of the call with the best validation score are kept."
    epoch = run.history.best_epoch
    return f"The weights of epoch {epoch}, which had the best validation score, are kept."


def _describe_scales(run: TrainingRun) -> str:
    """Return how to scale the data, with its present scale."""
    report = (
        "for example with sklearn.preprocessing.StandardScaler: the largest absolute value in "
        f"X is {max_abs(run.table.X):.3g}, in the targets {max_abs(run.table.y):.3g}."
    )
    weight, alpha = run.table.weight, float(run.config.penalty.alpha)
    if weight is not None and (total := float(weight.mean()) * run.rows_at_once) < alpha:
        report += (
            f" The sample weights of a batch add up to about {total:.3g}, and the penalty "
            f"alpha={alpha:g} is divided by this sum: scale the weights to a mean of one, or lower "
            "alpha."
        )
    return report
