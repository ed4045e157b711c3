"""Temperature scaling of probabilities, after training.

Raw scores are divided by the temperature, so that probabilities match how often labels are right.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from ..nn.network import Network
from ..nn.parameters import Parameters
from ..nn.prediction import predict_raw
from ..utils.arrays import Array, IndexArray
from .validation import Validation

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


def fit_shared_temperature(
    network: Network,
    parameters: Parameters,
    validation: Sequence[Validation],
    targets: Any,
) -> float:
    """Return the temperature of the networks' mean prediction.

    With common validation data it is fitted to the mean prediction. With a split for each network,
    every row was trained on by some of them. Then it is fitted to the single networks, each on its
    own rows, and lowered by the share that averaging makes superfluous.

    Parameters
    ----------
    network : Network
        The architecture.
    parameters : Parameters
        The parameters to predict with, before calibration.
    validation : sequence of Validation
        The validation rows of each network.
    targets : LabelTargets
        The encoding of the targets, which computes the log losses of mean predictions.
    """
    n_estimators, scores = len(validation), []
    with np.errstate(all="ignore"):
        for i, each in enumerate(validation):
            alone = parameters.members(slice(i, i + 1))
            scores += [predict_raw(network, alone, each.rows.X, each.rows.index)[0]]
    y, weights = [each.y for each in validation], [each.weight for each in validation]
    if n_estimators == 1 or validation[0] is validation[1]:
        return _fit_to_scores(targets, np.stack(scores), y[0], weights[0])
    weight = None
    if any(own is not None for own in weights):
        weight = np.concatenate(
            [np.ones(len(own)) if w is None else w for own, w in zip(y, weights, strict=True)]
        )
    joined = np.concatenate(scores)[None], np.concatenate(y)
    of_each = _fit_to_scores(targets, *joined, weight)
    return of_each * (1 - _LESS * (1 - 1 / n_estimators))


def _fit_to_scores(targets: Any, scores: Array, y: Array, weight: Array | None) -> float:
    """Return the temperature that minimizes the loss, or 1 if raw predictions are not finite."""
    if not np.isfinite(scores).all():
        return 1.0
    some = subsample_index(len(y))
    scores, y = scores[:, some].astype(np.float64), y[some]
    with np.errstate(all="ignore"):
        temperature, _ = fit_temperature(
            lambda divisor: targets.mean_log_losses(scores / divisor, y),
            take_weights(weight, some),
            spread=_SPREAD,
        )
    return temperature
