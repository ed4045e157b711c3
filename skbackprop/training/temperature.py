"""Temperature scaling of probabilities, after training.

Raw scores are divided by the temperature, so that probabilities match how often labels are right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from scipy.optimize import minimize_scalar

from ..utils.arrays import Array, IndexArray
from .training_run import INTERRUPTS, Interrupt, TrainingRun

_HIGHEST = 20.0
_LOWEST = 1 / _HIGHEST

# Rows that determine a temperature to a hundredth; of more, a sample is used.
_MOST_ROWS = 1 << 15

# The prior standard deviation of the logarithm of a temperature: a factor of two.
_SPREAD = math.log(2)

# The share by which the temperature of the mean of very many networks is below that of each.
_LESS = 0.2


def subsample_index(n: int) -> slice | IndexArray:
    """Return an index of a random sample of n rows, the same each time, or of all if few.

    Evenly spaced rows might be all of one class, where classes take turns.
    """
    if n <= _MOST_ROWS:
        return slice(None)
    return np.sort(np.random.default_rng(0).choice(n, _MOST_ROWS, replace=False, shuffle=False))


def take_weights(weight: Array | None, rows: slice | IndexArray) -> Array | None:
    """Return the weights of some rows; None for equal weights, or if all are zero."""
    return None if weight is None or not weight[rows].any() else weight[rows]


def fit_temperature(
    losses_at: Callable[[float], Array],
    weight: Array | None,
    lowest: float = _LOWEST,
    spread: float = math.inf,
) -> tuple[float, float]:
    """Return the temperature T of maximum likelihood (Guo et al. 2017, section 4.2).

    T minimizes the mean loss plus (log T / spread)^2 / (2 n): the mode of the posterior if log T
    is normally distributed. So with few rows T is near one, and it is finite where all
    predictions are right. With weights w, the number of rows is n = sum(w)^2 / sum(w^2).

    Parameters
    ----------
    losses_at : callable
        Returns the log loss of each row at a temperature: an array of shape (n,).
    weight : array of shape (n,) or None
        The weight of each row.
    lowest : float, default=0.05
        The lowest temperature.
    spread : float, default=np.inf
        The prior standard deviation of log T.

    Returns
    -------
    temperature, loss : float
        The temperature, at most 20, and the minimum: the mean log loss if `spread` is infinite.
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
    """Set the temperature of the runs of an estimator, fitted to their mean prediction.

    Without validation rows, or after an interrupt, they keep the temperature that they have.

    Parameters
    ----------
    runs : sequence of TrainingRun
        The runs of all networks.

    Returns
    -------
    interrupt : Interrupt or None
        The interrupt, if there was one. It is not raised, so that hours of training are not lost.
    """
    if any(run.validation_data is None or run.error is not None for run in runs):
        return None
    log_losses = runs[0].task.log_losses
    if log_losses is None:
        return None
    try:
        temperature = _shared_temperature(runs, log_losses)
    except INTERRUPTS as interrupt:
        return interrupt
    for run in runs:
        run.temperature = temperature
    return None


def _shared_temperature(
    runs: Sequence[TrainingRun], log_losses: Callable[[Array, Array], Array]
) -> float:
    """Return the temperature of the networks' mean prediction.

    With common validation data it is fitted to the mean prediction. With a split for each network,
    every row was trained on by some of them. Then it is fitted to the single networks, each on its
    own rows, and lowered by the share that averaging makes superfluous.
    """
    n_estimators, parts = len(runs), [_validation_scores(run) for run in runs]
    if n_estimators == 1 or runs[0].task.validation_data is not None:
        _, y, weight = parts[0]
        return _fit_to_scores(log_losses, np.stack([own for own, _, _ in parts]), y, weight)
    scores, y = (np.concatenate([each[i] for each in parts]) for i in (0, 1))
    weights = [own for _, _, own in parts if own is not None]  # of all, or of none
    weight = np.concatenate(weights) if weights else None
    of_each = _fit_to_scores(log_losses, scores[None], y, weight)
    return of_each * (1 - _LESS * (1 - 1 / n_estimators))


def _validation_scores(run: TrainingRun) -> tuple[Array, Array, Array | None]:
    """Return the scores, targets and weights of the validation rows of a run."""
    validation_data = run.validation_data
    assert validation_data is not None
    X, weight, rows = validation_data.table.X, validation_data.table.weight, validation_data.rows
    with np.errstate(all="ignore"):
        (scores,) = run.task.evaluator.predict(run.network, run.inference_parameters, X, rows)
    if weight is not None and rows is not None:
        weight = weight[rows]
    return scores, validation_data.encoded, weight


def _fit_to_scores(
    log_losses: Callable[[Array, Array], Array], scores: Array, y: Array, weight: Array | None
) -> float:
    """Return the temperature that minimizes the loss, or 1 if raw predictions are not finite."""
    if not np.isfinite(scores).all():
        return 1.0
    some = subsample_index(len(y))
    scores, y = scores[:, some].astype(np.float64), y[some]
    with np.errstate(all="ignore"):
        temperature, _ = fit_temperature(
            lambda divisor: log_losses(scores / divisor, y),
            take_weights(weight, some),
            spread=_SPREAD,
        )
    return temperature
