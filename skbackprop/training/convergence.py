"""Convergence and divergence warnings at the end of training."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from ..losses.base import can_be_scaled
from ..losses.classification import ClassifierLoss, LabelSmoothing
from ..losses.multioutput import MultiOutputLoss
from ..nn.data_loader import Dataset
from ..nn.objective import Objective
from ..nn.parameters import Parameters
from ..nn.prediction import iter_predict_raw, predict_raw
from ..utils.arrays import Array, IndexArray, as_dense, max_abs
from .history import Window
from .training_run import TrainingRun

# What a largest weight has grown by when the loss is worth a look.
GROWN = 4.0
# The largest weight that a network needs beside targets of up to one. With smaller ones its output
# on finite rows is finite, or as good as that.
SAFE = 1e6
# The score of a regressor, zero for a constant, below which nothing has been learned.
_USELESS_SCORE = -1.0
# The rows of one or more calls of `partial_fit` that are enough to judge their mean loss: that of
# single rows varies by orders of magnitude.
ENOUGH_ROWS = 64
# Numbers that are looked at, where there are more.
_N_NUMBERS = 1 << 20


@dataclass(frozen=True)
class DivergenceCheck:
    """What a training has ended with, by which to tell whether it has diverged.

    Parameters
    ----------
    worst, last : float
        The loss at worst and at last.
    has_risen : bool
        Whether the last loss is above the first, by enough to count.
    growth : float
        What the largest weight has grown by; 0 where it is not known.
    largest : float
        The largest absolute weight.
    score : float or None
        What the estimator's own `score` makes of what is kept, if that was asked for.
    """

    worst: float
    last: float
    has_risen: bool
    growth: float
    largest: float
    score: float | None

    def has_diverged(self, y: Array, zero: Callable[[], float]) -> bool:
        """Return whether the loss or the weights have gone astray.

        Parameters
        ----------
        y : array
            The encoded targets.
        zero : callable
            Returns the mean loss of a network whose raw scores are all zero.
        """
        if self.largest > SAFE and self.largest > SAFE * max_abs(y):
            return True
        has_grown = self.growth > GROWN
        if not (self.has_risen or has_grown):
            return False
        if self.score is not None and self.score < _USELESS_SCORE:
            return True
        nothing = zero()
        if nothing == 0:  # of targets that are all the same there is nothing to measure it by
            return False
        if self.last > nothing + abs(nothing):
            return True
        # It has come back, but to a network that says the same of every row.
        was_astray = self.worst > nothing + 9 * abs(nothing)
        return has_grown and was_astray and self.last > nothing - 0.1 * abs(nothing)


def subsample_evenly(
    table: Dataset, rows: IndexArray | None, numbers_per_row: int, n_numbers: int = _N_NUMBERS
) -> IndexArray:
    """Return rows that lie evenly among those given, or all: as many as are looked at.

    Rows that weigh nothing are none of them.
    """
    rows = np.arange(table.n_rows) if rows is None else rows
    if table.weight is not None:
        rows = rows[table.weight[rows] > 0]
    return rows[:: -(-len(rows) * numbers_per_row // n_numbers)]


def baseline_loss(table: Dataset, rows: IndexArray | None, objective: Objective) -> float:
    """Return the mean loss of scores of zero, of rows spread evenly where there are many."""
    k = table.y.shape[1]
    rows = subsample_evenly(table, rows, k)
    return _mean_loss([np.zeros((len(rows), k))], table, rows, objective)


def mean_loss(
    parameters: Parameters, table: Dataset, rows: IndexArray | None, objective: Objective
) -> float:
    """Return the mean loss of one network on some rows, or all; NaN if a score is not finite."""
    rows = np.arange(table.n_rows) if rows is None else rows
    scores = iter_predict_raw(objective.network, parameters, table.X, rows)
    return _mean_loss((block[0].astype(np.float64) for block in scores), table, rows, objective)


def _mean_loss(
    blocks: Iterable[Array], table: Dataset, rows: IndexArray, objective: Objective
) -> float:
    """Return the mean loss of scores that come in blocks of rows, in the size that is reported.

    It is NaN if they are not finite.
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


# Sizes of inputs and targets beyond which their scale is at fault. Networks are made for sizes of
# about one; the norm is that of a row.
_LARGEST = 10.0
_SMALLEST_NORM = 0.3
# The score from which on a regressor has learned most of y.
_LEARNED = 0.6
# The numbers of X and y that are looked at, at most.
_N_NUMBERS = 1 << 16
# A rate is too high if the loss has been so many times that of a network whose outputs are zero.
_TIMES_ZERO = 4.0
# A rate is too low if the loss falls in as good as all epochs, as fast at last as at first, and
# would have to fall for so many times the epochs.
_SHARE_OF_FALLS, _LAST_TO_FIRST, _TIMES_THE_EPOCHS = 0.95, 0.5, 2.0
# The share of the way from its floor to 1 that an accuracy has to go.
_SHARE_ABOVE_FLOOR = 0.1
# The epochs and the steps from which on the course of the loss says something.
_N_EPOCHS, _N_STEPS = 8, 100


def convergence_advice(run: TrainingRun) -> str:
    """Return what to change so that a run converges: the cause that weighs most."""
    return (
        _on_scale(run)
        or _on_rate(run)
        or ("Raise max_iter, or set n_iter_no_change=np.inf if this many epochs are what you want.")
    )


def early_stopping_advice(run: TrainingRun) -> str:
    """Return what to change if early stopping went by a score that says nothing; else nothing.

    That is a score that was never much better than that of a constant prediction, as the share of
    rows with all labels right may be, while the loss of the same rows still fell.
    """
    stopping, losses = run.config.stopping, run.validation_losses
    if stopping is None or stopping.scoring == "loss" or run.incremental or not run.scores:
        return ""
    if run.config.is_lbfgs or not run.problem.is_local or run.table.y is run.table.X:
        return ""
    patience = float(run.config.patience.n_epochs)
    if not len(losses) > max(1, patience):
        return ""
    n = max(1, int(patience) // 2)
    if not min(losses[-n:]) < min(losses[:-n]) - stopping.tol:
        return ""
    best = max(run.scores)
    if best == 1 or best > _left_floor(run):
        return ""
    advice = _on_scale(run) or 'Stop by the loss: set early_stopping=EarlyStopping("loss").'
    return f"{best:.3g} at best, while the validation loss still fell. {advice}"


def _left_floor(run: TrainingRun) -> float:
    """Return the validation score from which on a network has learned something."""
    watched, loss, stopping = run.watched, run.objective.loss, run.config.stopping
    tol = float(run.config.patience.tol)
    if watched is None or (stopping is not None and stopping.scoring is not None):
        return run.scores[0] + tol
    if not isinstance(loss, (ClassifierLoss, MultiOutputLoss, LabelSmoothing)):
        return tol  # the score of a constant is 0, and that of noisy targets may be little more
    rows, counts = np.unique(as_dense(watched.encoded), axis=0, return_counts=True)
    row = 2.0 * rows[counts.argmax()] - 1
    constant = np.tile(row, (watched.encoded.shape[0], 1))
    floor = run.problem.evaluator.score(constant, watched)
    return floor + _SHARE_ABOVE_FLOOR * (1 - floor)


def _on_scale(run: TrainingRun) -> str:
    """Return what to do about the scale of X or y, whichever is worse; empty if it is right."""
    of_inputs, of_targets = _fault_of_inputs(run), _fault_of_targets(run)
    if of_targets > of_inputs:
        return _on_targets(of_targets)
    return _on_inputs(run) if of_inputs else ""


def _sizes(run: TrainingRun, table: Any) -> Array:
    """Return the root mean square of each column of X or y, of rows spread evenly."""
    is_sparse, (n_rows, n_columns) = hasattr(table, "indptr"), table.shape
    numbers_per_row = -(-len(table.data) // n_rows) if is_sparse else n_columns
    part = table[subsample_evenly(run.table, run.train, max(1, numbers_per_row), _N_NUMBERS)]
    part = part.astype(np.float64)
    with np.errstate(over="ignore"):
        squares = part.multiply(part) if is_sparse else np.square(part)
        return np.sqrt(np.asarray(squares.mean(axis=0))).ravel()


def _fault_of_inputs(run: TrainingRun) -> float:
    """Return by how many orders of magnitude X is too large or too small; 0 if it is neither."""
    if run.config.architecture.input_layers:  # which have scales of their own
        return 0.0
    sizes = _sizes(run, run.table.X)
    largest, norm = float(sizes.max(initial=0.0)), math.hypot(*sizes)
    if largest > _LARGEST:
        return math.log10(largest)
    return -math.log10(norm) if 0 < norm < _SMALLEST_NORM else 0.0


def _fault_of_targets(run: TrainingRun) -> float:
    """Return by how many orders of magnitude y is too large for a regressor; 0 if it is not.

    Where the network has learned most of y all the same, its size is no fault.
    """
    config, table, loss = run.config, run.table, run.objective.loss
    if config.scale_target or table.y is table.X or not can_be_scaled(loss):
        return 0.0
    largest = _sizes(run, table.y).max()
    if largest <= _LARGEST:
        return 0.0
    rows = subsample_evenly(table, run.train, sum(run.network.widths), _N_NUMBERS)
    weight = None if table.weight is None else table.weight[rows]
    with np.errstate(all="ignore"):
        scores = predict_raw(run.network, run.inference_parameters, table.X, rows)[0]
        score = loss.score(scores, as_dense(table.y[rows]), weight)
    return 0.0 if score > _LEARNED else math.log10(largest)


def _on_targets(size: float) -> str:
    return (
        f"The targets are too large, with a root mean square of about {10**size:.2g}, for outputs "
        "that begin near 0: set scale_target=True."
    )


def _on_inputs(run: TrainingRun) -> str:
    sizes = _sizes(run, run.table.X)
    scaler = "MaxAbsScaler" if run.table.is_sparse else "StandardScaler"
    too = "large" if sizes.max() > _LARGEST else "small"
    return (
        f"The values in X are too {too}, with root mean squares of up to {sizes.max():.2g} in a "
        f"column: scale X, for example with sklearn.preprocessing.{scaler}."
    )


def _on_rate(run: TrainingRun) -> str:
    """Return what to do about the rate; empty if it is not at fault."""
    losses, rate = np.array(run.losses), run.config.rate
    zero = baseline_loss(run.table, run.train, run.objective) + _first_penalty(run)
    if losses.max() - zero > (_TIMES_ZERO - 1) * abs(zero) > 0:
        return (
            f"The loss rose to {_TIMES_ZERO:g} times that of a network whose outputs are 0, or "
            f"more, before it fell: lower learning_rate_init (now {rate:g})."
        )
    n_steps = len(losses) * -(-run.n_train // run.batch_size)
    changes = np.diff(losses)
    if len(losses) < _N_EPOCHS or n_steps < _N_STEPS or losses[-1] <= 0:
        return ""
    quarter = len(changes) // 4
    first, last = -changes[:quarter].mean(), -changes[-quarter:].mean()
    is_steady = (changes < 0).mean() > _SHARE_OF_FALLS and last > _LAST_TO_FIRST * first
    if is_steady and losses[-1] > _TIMES_THE_EPOCHS * len(losses) * last:
        return f"The loss falls slowly and steadily: raise learning_rate_init (now {rate:g})."
    return ""


def _first_penalty(run: TrainingRun) -> float:
    """Return about what the penalty on initial weights adds to the loss."""
    n_products = sum(2 * a * b / (a + b) for a, b in pairwise(run.network.widths))
    return float(run.config.penalty.alpha) * n_products / 2 / run.n_train


# How a warning begins that all epochs were used up, in scikit-learn's words.
USED_UP = "Stochastic Optimizer: Maximum iterations"
# How a warning begins that early stopping went by a score that says nothing.
STOPPED_BY_FLOOR = "Early stopping ended training by a validation score that never left its floor,"
OUT_OF_TIME = "Training ended: time_limit="


def messages_of(runs: Sequence[TrainingRun]) -> list[str]:
    """Return what to warn of after several runs.

    Of those that used up their epochs, or stopped by a useless score, it is one message.
    """
    found = list(dict.fromkeys(message for run in runs for message in run.warnings))
    for once in (USED_UP, STOPPED_BY_FLOOR):
        alike = [message for message in found if message.startswith(once)]
        found = [message for message in found if message not in alike[1:]]
    return found


def on_converged(run: TrainingRun) -> None:
    """Take note that training has ended by its stopping rule, and whether by a useless score."""
    _judge(run)
    run.ending = "converged"
    if advice := early_stopping_advice(run):
        run.warnings.append(f"{STOPPED_BY_FLOOR} {advice}")


def on_interrupted(run: TrainingRun) -> None:
    """Take note that the user has ended training, by Ctrl-C or a callback."""
    _judge(run)
    run.ending = "stopped"


def _judge(run: TrainingRun) -> None:
    """Take note of a divergence that has left the finite numbers alone, or come back to them."""
    _take_note_of_scores(run)
    first = run.first_loss
    if not run.n_iter or first is None:
        return
    largest, growth, last = run.largest_weight, run.growth, run.loss
    has_risen, zero = last > first, None
    if run.incremental:
        has_risen, last, zero = _judge_window(run, first)
    if has_risen or growth > GROWN or largest > SAFE:
        _look_at_losses(run, first, last, has_risen, growth, largest, zero)


def _judge_window(run: TrainingRun, first: float) -> tuple[bool, float, float | None]:
    """Add a call of `partial_fit` to the window of those that are judged together.

    The loss of scores of zero is computed only once the losses of a whole window have risen, from
    the next window on.

    Returns
    -------
    has_risen : bool
        Whether there are enough rows, with a mean loss far enough above the first to look closer.
    last : float
        Their mean loss.
    zero : float or None
        The mean loss that scores of zero would have; None if that is to be computed of this call.
    """
    weight, before = run.table.weight, run.window_before
    n = run.n_train if weight is None else int(np.count_nonzero(weight))
    n_rows, total, zero = before.n_rows + n, before.loss + n * run.loss, None
    if before.loss_of_zero_scores is not None:
        zero = before.loss_of_zero_scores + n * _loss_of_zero_scores(run)
    run.window, last = Window(n_rows, total, zero), run.loss
    if n_rows < ENOUGH_ROWS:
        return False, last, None
    last = total / n_rows
    # The first call has other rows, so that one may be a little above the other.
    has_risen = last > first + abs(first)
    run.window = Window(loss_of_zero_scores=0.0 if has_risen else None)
    is_one_call = before.n_rows == 0
    return has_risen and (zero is not None or is_one_call), last, zero and zero / n_rows


def on_max_iter(run: TrainingRun) -> None:
    """Take note that the epochs were used up, unless that is what the user wanted."""
    _judge(run)
    run.ending = "unconverged"
    if not run.incremental and run.config.patience.n_epochs != math.inf:
        run.warnings.append(
            f"{USED_UP} ({run.config.max_iter}) reached and the optimization hasn't converged yet. "
            f"{convergence_advice(run)}"
        )


def end_unconverged_lbfgs(run: TrainingRun, why: str) -> None:
    """Take note that SciPy has given up, and why."""
    _judge(run)
    run.ending = "unconverged"
    max_fun = getattr(run.config.solver, "max_fun", math.inf)
    run.warnings.append(
        f"lbfgs failed to converge after {run.n_iter} iteration(s) ({why}). Increase max_iter "
        f"(now {run.config.max_iter}) or max_fun (now {max_fun}), or scale X, for example with "
        "sklearn.preprocessing.StandardScaler."
    )


def on_time_limit(run: TrainingRun) -> None:
    """Take note that the time was used up, and of what that has left."""
    _judge(run)
    run.ending = "time_limit"
    limit = f"{OUT_OF_TIME}{run.config.time_limit:g} seconds are over after"
    if run.n_iter:
        unit = "iteration(s)" if run.config.is_lbfgs else "epoch(s)"
        kept = f"the weights of number {run.best_iter} are kept"
        run.warnings.append(f"{limit} {run.n_iter} {unit}; {kept}.")
    else:
        run.warnings.append(
            f"{limit} less than an epoch, so nothing has been learned and the "
            "weights are those at the start. Raise time_limit, or train on fewer rows."
        )


def on_diverged(run: TrainingRun) -> None:
    """Take note of an error, or of a warning where there is a scored epoch to go back to."""
    _take_note_of_scores(run)
    run.ending = "diverged"
    _diverge(run, run.n_iter + 1, "the loss or a parameter is no longer finite")


def _take_note_of_scores(run: TrainingRun) -> None:
    if run.scores and run.record.best is None:
        run.warnings.append(
            "The validation score of no epoch is a finite number, so the weights of the last "
            f"are kept. Scale the data, {_scales(run)}"
        )


def _look_at_losses(
    run: TrainingRun,
    first: float,
    last: float,
    has_risen: bool,
    growth: float,
    largest: float,
    zero: float | None,
) -> None:
    best, worst = run.record.best, max(*run.losses, last)
    if best is None and (growth > GROWN or largest > SAFE):
        # The last step may have gone astray.
        loss = _loss_of_kept(run, whole=largest > SAFE)
        if not math.isfinite(loss):
            _diverge(
                run,
                run.n_iter,
                "the network's output on the training data is no longer finite, since its "
                f"largest weight is {largest:.3g}",
            )
            return
        if not run.incremental:
            last = max(last, loss)
            has_risen = has_risen or last > first + abs(first)
    has_own_score = run.config.stopping is not None and run.config.stopping.scoring is None
    score = best.score if best is not None and has_own_score else None
    symptoms = DivergenceCheck(worst, last, has_risen, growth, largest, score)
    if symptoms.has_diverged(
        run.table.y, lambda: _loss_of_zero_scores(run) if zero is None else zero
    ):
        kept = "" if best is None else f" {_kept_epoch(run)}"
        run.warnings.append(
            f"Training diverged: the loss was {first:.3g} at first, {worst:.3g} at worst and "
            f"is {last:.3g} at last, and the largest weight is {largest:.3g}. "
            f"{_advice(run)}{kept}"
        )


def _loss_of_zero_scores(run: TrainingRun) -> float:
    return baseline_loss(run.table, run.train, run.objective)


def _loss_of_kept(run: TrainingRun, whole: bool) -> float:
    """Return the mean loss of what is kept, on the whole of the training rows or a sample.

    It is NaN if a score is not finite.
    """
    theta, statistics = run.kept.inference_parameters
    parameters, rows = run.parameters.like(theta, statistics), run.train
    if not whole:
        rows = subsample_evenly(run.table, rows, sum(run.network.widths))
    with np.errstate(all="ignore"):
        return mean_loss(parameters, run.table, rows, run.objective)


def _diverge(run: TrainingRun, epoch: int, what: str) -> None:
    message = f"Training diverged in epoch {epoch}: {what}. {_advice(run)}"
    if run.record.best is None or run.incremental:  # a call that fails leaves nothing
        run.error = ValueError(message)
    else:
        run.warnings.append(f"{message} {_kept_epoch(run)}")


def _advice(run: TrainingRun) -> str:
    if run.config.is_lbfgs:  # which has no learning rate
        return f"Scale the data, {_scales(run)}"
    return f"Lower learning_rate_init (now {run.config.rate}), or scale the data, {_scales(run)}"


def _kept_epoch(run: TrainingRun) -> str:
    if run.incremental:
        return "The weights of the call with the best validation score are kept."
    return f"The weights of epoch {run.best_iter}, which had the best validation score, are kept."


def _scales(run: TrainingRun) -> str:
    """Return how to scale the data, and what they are like as they are."""
    return (
        "for example with sklearn.preprocessing.StandardScaler: the largest absolute value in "
        f"X is {max_abs(run.table.X):.3g}, in the targets "
        f"{max_abs(run.table.y):.3g}.{_penalty_on_light_rows(run)}"
    )


def _penalty_on_light_rows(run: TrainingRun) -> str:
    """Return what to do where the rows of a batch weigh so little that the penalty is all."""
    weight, alpha = run.table.weight, float(run.config.penalty.alpha)
    of_a_batch = np.inf if weight is None else float(weight.mean()) * run.rows_at_once
    if of_a_batch >= alpha:
        return ""
    return (
        f" The rows of a batch have a sample_weight of about {of_a_batch:.3g}, by which the "
        f"penalty alpha={alpha:g} is divided: scale them to a mean of one, or lower alpha."
    )
