"""One temperature for what networks say: found on rows that they have not been trained on.

Scores are divided by it, so that probabilities say how often labels are right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from ..utils.arrays import Array, IndexArray
from .callbacks import INTERRUPTS, Interrupt
from .training_run import TrainingRun

_HIGHEST = 20.0
_LOWEST = 1 / _HIGHEST

# Rows by which a temperature is known to a hundredth; of more than these, some do.
_MOST_ROWS = 1 << 15

# How far a temperature is thought to be from one before any row is seen: by a factor of two.
_SPREAD = math.log(2)

# By which share the temperature of the mean of very many networks is lower than that of each.
_LESS = 0.2


def subsampler(n: int) -> slice | IndexArray:
    """Return what takes rows that are drawn of n, the same ones each time, or all if they are few.

    Every so-many-th would be of one class where classes take turns.
    """
    if n <= _MOST_ROWS:
        return slice(None)
    return np.sort(np.random.default_rng(0).choice(n, _MOST_ROWS, replace=False, shuffle=False))


def normalized_weights(weight: Array | None, rows: slice | IndexArray) -> Array | None:
    """Return the weights of some rows; None for equal ones, also where none weighs anything."""
    return None if weight is None or not weight[rows].any() else weight[rows]


def fit_temperature(
    losses_at: Callable[[float], Array],
    weight: Array | None,
    lowest: float = _LOWEST,
    spread: float = math.inf,
) -> tuple[float, float]:
    """Return the temperature T of the greatest likelihood (Guo et al. 2017, section 4.2).

    It is where the mean of the losses, plus (log T / spread)^2 / (2 n), is least: the mode of the
    posterior, if the logarithm of T is normal. So of few rows it is near one, and finite where
    all rows are right. Of weights w the number of rows is n = sum(w)^2 / sum(w^2).

    Parameters
    ----------
    losses_at : callable
        Returns the log loss of each row with a temperature: an array of shape (n,).
    weight : array of shape (n,) or None
        What each row weighs.
    lowest : float, default=0.05
        The least that it may be.
    spread : float, default=np.inf
        The standard deviation of its logarithm, before any row is seen.

    Returns
    -------
    temperature, loss : float
        The temperature, up to 20, and what is least with it: the mean log loss, where `spread` is
        infinite.
    """

    def loss(log_temperature: float) -> float:
        losses = losses_at(math.exp(log_temperature))
        shares = np.ones(len(losses)) if weight is None else weight / weight.max()
        n = shares.sum() ** 2 / np.square(shares).sum()
        doubt = (log_temperature / spread) ** 2 / (2 * n)
        return float(np.average(losses, weights=weight) + doubt)

    bounds = math.log(lowest), math.log(_HIGHEST)
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return math.exp(found.x), float(found.fun)


def fit_temperature_scaling(runs: Sequence[TrainingRun]) -> Interrupt | None:
    """Give the runs of an estimator the temperature that suits their mean prediction.

    Without rows that are watched they keep the one that they have, and where this is broken off.

    Parameters
    ----------
    runs : sequence of Run
        Those of all members.

    Returns
    -------
    interrupt : Interrupt or None
        What has broken it off: who has trained for hours is to keep the networks all the same.
    """
    if any(run.watched is None or run.error is not None for run in runs):
        return None
    log_losses = runs[0].problem.log_losses
    if log_losses is None:
        return None
    try:
        temperature = _temperature_of(runs, log_losses)
    except INTERRUPTS as interrupt:
        return interrupt
    for run in runs:
        run.temperature = temperature
    return None


def _temperature_of(
    runs: Sequence[TrainingRun], log_losses: Callable[[Array, Array], Array]
) -> float:
    """Return the temperature of the networks' mean.

    Where all have been watched by the same rows, it is that of their mean on these. Where each has
    held out rows of its own, there is no row that none was trained on: it is that of single
    networks, each on its own rows, less the part that the mean does away with.
    """
    n_estimators, said = len(runs), [_said_of_watched(run) for run in runs]
    if n_estimators == 1 or runs[0].problem.watched is not None:
        _, y, weight = said[0]
        return _likeliest(log_losses, np.stack([own for own, _, _ in said]), y, weight)
    scores, y = (np.concatenate([each[i] for each in said]) for i in (0, 1))
    weights = [own for _, _, own in said if own is not None]  # of all, or of none
    weight = np.concatenate(weights) if weights else None
    of_each = _likeliest(log_losses, scores[None], y, weight)
    return of_each * (1 - _LESS * (1 - 1 / n_estimators))


def _said_of_watched(run: TrainingRun) -> tuple[Array, Array, Array | None]:
    """Return the scores, targets and weights of the rows by which a run was watched."""
    watched = run.watched
    assert watched is not None
    table, rows = watched.table, watched.rows
    with np.errstate(all="ignore"):
        (scores,) = run.problem.evaluator.predictions_of(
            run.network, run.inference_parameters, table.X, rows
        )
    weight = table.weight
    return scores, watched.encoded, weight if weight is None or rows is None else weight[rows]


def _likeliest(
    log_losses: Callable[[Array, Array], Array], scores: Array, y: Array, weight: Array | None
) -> float:
    """Return the temperature that minimizes the loss, or 1 if raw predictions are not finite."""
    if not np.isfinite(scores).all():
        return 1.0
    some = subsampler(len(y))
    scores, y = scores[:, some].astype(np.float64), y[some]
    with np.errstate(all="ignore"):
        temperature, _ = fit_temperature(
            lambda divisor: log_losses(scores / divisor, y),
            normalized_weights(weight, some),
            spread=_SPREAD,
        )
    return temperature
