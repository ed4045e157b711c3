"""Why has training not converged in the epochs that it had? The advice of a warning.

It is found in the scale of the data and the course of the loss, so that no epoch more is trained.
"""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from ..core.arrays import Array, as_dense
from ..engine.prediction import scores_of
from ..losses.base import can_be_scaled
from ..losses.blocks import BlockLoss
from ..losses.classification import ClassifierLoss
from ..losses.smoothing import Smoothed
from .divergence import loss_of_zero_scores, spread
from .run import Run

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


def advice_on(run: Run) -> str:
    """Return what to change so that a run converges: the cause that weighs most."""
    return (
        _on_scale(run)
        or _on_rate(run)
        or ("Raise max_iter, or set n_iter_no_change=np.inf if this many epochs are what you want.")
    )


def advice_on_stopping(run: Run) -> str:
    """Return what to change if early stopping went by a score that says nothing; else nothing.

    That is a score that was never much better than that of a constant prediction, as the share of
    rows with all labels right may be, while the loss of the same rows still fell.
    """
    stopping, losses = run.plan.stopping, run.watched_losses
    if stopping is None or stopping.scoring == "loss" or run.incremental or not run.scores:
        return ""
    if run.plan.is_lbfgs or not run.problem.is_here or run.table.y is run.table.X:
        return ""
    patience = float(run.plan.patience.n_epochs)
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


def _left_floor(run: Run) -> float:
    """Return the validation score from which on a network has learned something."""
    watched, loss, stopping = run.watched, run.objective.loss, run.plan.stopping
    tol = float(run.plan.patience.tol)
    if watched is None or (stopping is not None and stopping.scoring is not None):
        return run.scores[0] + tol
    if not isinstance(loss, (ClassifierLoss, BlockLoss, Smoothed)):
        return tol  # the score of a constant is 0, and that of noisy targets may be little more
    rows, counts = np.unique(as_dense(watched.encoded), axis=0, return_counts=True)
    row = 2.0 * rows[counts.argmax()] - 1
    constant = np.tile(row, (watched.encoded.shape[0], 1))
    floor = run.problem.judge.score(constant, watched)
    return floor + _SHARE_ABOVE_FLOOR * (1 - floor)


def _on_scale(run: Run) -> str:
    """Return what to do about the scale of X or y, whichever is worse; empty if it is right."""
    of_inputs, of_targets = _fault_of_inputs(run), _fault_of_targets(run)
    if of_targets > of_inputs:
        return _on_targets(of_targets)
    return _on_inputs(run) if of_inputs else ""


def _sizes(run: Run, table: Any) -> Array:
    """Return the root mean square of each column of X or y, of rows spread evenly."""
    is_sparse, (n_rows, n_columns) = hasattr(table, "indptr"), table.shape
    numbers_per_row = -(-len(table.data) // n_rows) if is_sparse else n_columns
    part = table[spread(run.table, run.train, max(1, numbers_per_row), _N_NUMBERS)]
    part = part.astype(np.float64)
    with np.errstate(over="ignore"):
        squares = part.multiply(part) if is_sparse else np.square(part)
        return np.sqrt(np.asarray(squares.mean(axis=0))).ravel()


def _fault_of_inputs(run: Run) -> float:
    """Return by how many orders of magnitude X is too large or too small; 0 if it is neither."""
    if run.plan.architecture.input_layers:  # which have scales of their own
        return 0.0
    sizes = _sizes(run, run.table.X)
    largest, norm = float(sizes.max(initial=0.0)), math.hypot(*sizes)
    if largest > _LARGEST:
        return math.log10(largest)
    return -math.log10(norm) if 0 < norm < _SMALLEST_NORM else 0.0


def _fault_of_targets(run: Run) -> float:
    """Return by how many orders of magnitude y is too large for a regressor; 0 if it is not.

    Where the network has learned most of y all the same, its size is no fault.
    """
    plan, table, loss = run.plan, run.table, run.objective.loss
    if plan.scale_target or table.y is table.X or not can_be_scaled(loss):
        return 0.0
    largest = _sizes(run, table.y).max()
    if largest <= _LARGEST:
        return 0.0
    rows = spread(table, run.train, sum(run.network.widths), _N_NUMBERS)
    weight = None if table.weight is None else table.weight[rows]
    with np.errstate(all="ignore"):
        scores = scores_of(run.network, run.predicting, table.X, rows)[0]
        score = loss.score(scores, as_dense(table.y[rows]), weight)
    return 0.0 if score > _LEARNED else math.log10(largest)


def _on_targets(size: float) -> str:
    return (
        f"The targets are too large, with a root mean square of about {10**size:.2g}, for outputs "
        "that begin near 0: set scale_target=True."
    )


def _on_inputs(run: Run) -> str:
    sizes = _sizes(run, run.table.X)
    scaler = "MaxAbsScaler" if run.table.is_sparse else "StandardScaler"
    too = "large" if sizes.max() > _LARGEST else "small"
    return (
        f"The values in X are too {too}, with root mean squares of up to {sizes.max():.2g} in a "
        f"column: scale X, for example with sklearn.preprocessing.{scaler}."
    )


def _on_rate(run: Run) -> str:
    """Return what to do about the rate; empty if it is not at fault."""
    losses, rate = np.array(run.losses), run.plan.rate
    zero = loss_of_zero_scores(run.table, run.train, run.objective) + _first_penalty(run)
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


def _first_penalty(run: Run) -> float:
    """Return about what the penalty on initial weights adds to the loss."""
    n_products = sum(2 * a * b / (a + b) for a, b in pairwise(run.network.widths))
    return float(run.plan.penalty.alpha) * n_products / 2 / run.n_train
