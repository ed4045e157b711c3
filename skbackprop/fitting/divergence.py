"""Has training diverged without leaving the finite numbers? Judged by where it has ended.

The yardstick is the loss of a network whose raw scores are all zero, which new networks are close
to: it needs no pass, and holds for losses below zero, for warm starts, whose first loss is small,
and for targets of any scale.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from ..core.arrays import Array, Rows, as_dense, largest_magnitude
from ..engine.batches import Table
from ..engine.objective import Objective
from ..engine.parameters import Parameters
from ..engine.prediction import score_blocks

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
class Symptoms:
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
        if self.largest > SAFE and self.largest > SAFE * largest_magnitude(y):
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


def spread(
    table: Table, rows: Rows | None, numbers_per_row: int, n_numbers: int = _N_NUMBERS
) -> Rows:
    """Return rows that lie evenly among those given, or all: as many as are looked at.

    Rows that weigh nothing are none of them.
    """
    rows = np.arange(table.n_rows) if rows is None else rows
    if table.weight is not None:
        rows = rows[table.weight[rows] > 0]
    return rows[:: -(-len(rows) * numbers_per_row // n_numbers)]


def loss_of_zero_scores(table: Table, rows: Rows | None, objective: Objective) -> float:
    """Return the mean loss of scores of zero, of rows spread evenly where there are many."""
    k = table.y.shape[1]
    rows = spread(table, rows, k)
    return _mean_loss([np.zeros((len(rows), k))], table, rows, objective)


def loss_of(parameters: Parameters, table: Table, rows: Rows | None, objective: Objective) -> float:
    """Return the mean loss of one network on some rows, or all; NaN if a score is not finite."""
    rows = np.arange(table.n_rows) if rows is None else rows
    scores = score_blocks(objective.network, parameters, table.X, rows)
    return _mean_loss((block[0].astype(np.float64) for block in scores), table, rows, objective)


def _mean_loss(blocks: Iterable[Array], table: Table, rows: Rows, objective: Objective) -> float:
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
            values = objective.loss.value(scores[None], y[None])[0] / objective.n_averaged
            total += float(values[weight > 0] @ weight[weight > 0])
            weights += float(weight.sum())
    mean = total / weights
    return mean if math.isfinite(mean) else sys.float_info.max
