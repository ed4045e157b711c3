"""Scores of held-out rows during training, out-of-fold predictions, and calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from scipy.optimize import minimize_scalar

from ..nn.network import Network
from ..nn.parameters import Parameters
from ..nn.prediction import predict_raw
from ..nn.rows import Rows
from ..nn.train_state import TrainState
from ..utils.arrays import Array, IndexArray
from .targets import LabelTargets, Targets

Scorer: TypeAlias = "Callable[[Parameters, Validation], float]"
"""Returns the user's score from the parameters of one network and validation rows."""


@dataclass(frozen=True, eq=False)
class Validation:
    """Validation rows of a network, and how its predictions of them are scored.

    Parameters
    ----------
    rows : Rows
        The rows.
    targets : Targets
        The encoding of the targets, which computes the loss and the score.
    scoring : callable, "loss", "score" or None
        The validation score: the user's scorer, the negated loss, the estimator's own score, or
        None for no score.
    """

    rows: Rows
    targets: Targets
    scoring: Scorer | Literal["loss", "score"] | None

    @cached_property
    def input(self) -> Any:
        """The input of the rows."""
        return self.rows.select(self.rows.X)

    @cached_property
    def original_y(self) -> Any:
        """The targets of the rows, as the user has given them."""
        return self.rows.select(self.rows.original_y)

    def score(
        self, network: Network, parameters: Parameters, predictions: Array
    ) -> dict[str, float]:
        """Return the loss and the score of one network's predictions."""
        loss = math.inf
        score = math.nan
        if np.isfinite(predictions).all():
            with np.errstate(all="ignore"):
                loss = self.targets.validation_loss(network, predictions, self.rows)
                if self.scoring == "loss":
                    score = -loss
                elif self.scoring == "score":
                    score = self.targets.validation_score(predictions, self.rows)
            if callable(self.scoring):
                score = self.scoring(parameters, self)
        result = {"validation_loss": float(loss)}
        return result if self.scoring is None else result | {"validation_score": float(score)}


def evaluate(
    network: Network, state: TrainState, validation: Sequence[Validation | None]
) -> list[dict[str, float]]:
    """Return the loss and the score of each network of a stack, if it has validation rows.

    Neighboring members with the same validation rows predict together.
    """
    parameters = state.averaged_parameters()
    results: list[dict[str, float]] = []
    while len(results) < len(validation):
        start, stop = len(results), len(results) + 1
        reference = validation[start]
        if reference is None:
            results.append({})
            continue
        while stop < len(validation) and _share_rows(reference, validation[stop]):
            stop += 1
        members = parameters.members(slice(start, stop))
        with np.errstate(all="ignore"):
            predictions = reference.targets.validation_predictions(network, members, reference.rows)
        for i, part in enumerate(validation[start:stop]):
            assert part is not None
            member_parameters = members.members(slice(i, i + 1))
            results.append(part.score(network, member_parameters, predictions[i]))
    return results


def _share_rows(one: Validation, other: Validation | None) -> bool:
    return other is not None and (one is other or one.rows.has_same_rows(other.rows))


class OutOfFoldPredictions(NamedTuple):
    """The prediction of each row by the network that holds it out.

    Parameters
    ----------
    member : array of int of shape (n_rows,)
        The number of that network.
    predictions : array of shape (n_rows, n_outputs)
        The raw predictions of that network.
    score : float
        The estimator's own score of the predictions, with the weights of training.
    """

    member: Array
    predictions: Array
    score: float


def predict_out_of_fold(
    network: Network,
    parameters: Parameters,
    rows: Rows,
    targets: Targets,
    held_out: Sequence[IndexArray | None],
) -> OutOfFoldPredictions:
    """Return the prediction of each row by the network that holds it out."""
    member = np.empty(rows.n_rows, dtype=np.intp)
    predictions = np.empty((rows.n_rows, network.n_units[-1]), parameters.dtype)
    with np.errstate(all="ignore"):
        for i, index in enumerate(held_out):
            member[index] = i
            member_parameters = parameters.members(slice(i, i + 1))
            predictions[index] = predict_raw(network, member_parameters, rows.X, index)[0]
        score = targets.validation_score(predictions, rows)
    return OutOfFoldPredictions(member, predictions, score)


_MAX_TEMPERATURE = 20.0
_MIN_TEMPERATURE = 1 / _MAX_TEMPERATURE

# This number of rows determines a temperature to a hundredth. Of more rows, a sample is used.
_MAX_ROWS = 1 << 15

# The prior standard deviation of the logarithm of a temperature: a factor of two.
_PRIOR_SPREAD = math.log(2)

# Averaging very many networks lowers the temperature of a single network by this share.
_AVERAGING_SHARE = 0.2


def subsample_index(n: int) -> slice | IndexArray:
    """Return the index of a random sample of n rows, the same in each call, or of all if few.

    Evenly spaced rows are no alternative: where classes alternate, they might be of one class.
    """
    if n <= _MAX_ROWS:
        return slice(None)
    return np.sort(np.random.default_rng(0).choice(n, _MAX_ROWS, replace=False, shuffle=False))


def take_weights(weight: Array | None, rows: slice | IndexArray) -> Array | None:
    """Return the weights of some rows; None for equal weights, or if all are zero."""
    return None if weight is None or not weight[rows].any() else weight[rows]


def fit_temperature(
    losses_at: Callable[[float], Array],
    weight: Array | None,
    lowest: float = _MIN_TEMPERATURE,
    spread: float = math.inf,
) -> tuple[float, float]:
    """Return the temperature T of maximum likelihood (Guo et al. 2017, section 4.2).

    T minimizes the mean loss plus (log T / spread)^2 / (2 n): the mode of the posterior if log T
    is normally distributed. With few rows T is therefore near one, and T is finite even if all
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
        The temperature, at most 20, and the minimum, which is the mean log loss if `spread` is
        infinite.
    """

    def loss(log_temperature: float) -> float:
        losses = losses_at(math.exp(log_temperature))
        shares = np.ones(len(losses)) if weight is None else weight / weight.max()
        n = shares.sum() ** 2 / np.square(shares).sum()
        log_prior = (log_temperature / spread) ** 2 / (2 * n)
        return float(np.average(losses, weights=weight) + log_prior)

    bounds = math.log(lowest), math.log(_MAX_TEMPERATURE)
    optimum = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-3})
    return math.exp(optimum.x), float(optimum.fun)


def fit_shared_temperature(
    network: Network,
    parameters: Parameters,
    validation: Sequence[Validation],
) -> float:
    """Return the temperature for the mean prediction of several networks.

    With common validation rows it is fitted to the mean prediction. With a split for each network,
    every row is a training row of some networks. The temperature is then fitted to the predictions
    of each network for its own validation rows, and lowered by the effect of averaging.

    Parameters
    ----------
    network : Network
        The architecture.
    parameters : Parameters
        The parameters for prediction, before calibration.
    validation : sequence of Validation
        The validation rows of each network, with labels as targets.
    """
    targets = validation[0].targets
    assert isinstance(targets, LabelTargets)  # numbers have no probabilities to calibrate
    n_estimators = len(validation)
    predictions = []
    with np.errstate(all="ignore"):
        for i, part in enumerate(validation):
            member = parameters.members(slice(i, i + 1))
            predictions.append(predict_raw(network, member, part.rows.X, part.rows.index)[0])
    rows = validation[0].rows
    if n_estimators == 1 or validation[0] is validation[1]:
        weight = rows.selected_weight
        return _fit_to_predictions(targets, np.stack(predictions), rows.selected_y, weight)
    y = np.concatenate([part.rows.selected_y for part in validation])
    weight = None
    if rows.weight is not None:
        weight = np.concatenate([part.rows.select(part.rows.weight) for part in validation])
    temperature = _fit_to_predictions(targets, np.concatenate(predictions)[None], y, weight)
    return temperature * (1 - _AVERAGING_SHARE * (1 - 1 / n_estimators))


def _fit_to_predictions(
    targets: LabelTargets, predictions: Array, y: Array, weight: Array | None
) -> float:
    """Return the temperature that minimizes the loss, or 1 if raw predictions are not finite."""
    if not np.isfinite(predictions).all():
        return 1.0
    sample = subsample_index(len(y))
    y = y[sample]
    predictions = predictions[:, sample].astype(np.float64)
    with np.errstate(all="ignore"):
        temperature, _ = fit_temperature(
            lambda divisor: targets.mean_log_losses(predictions / divisor, y),
            take_weights(weight, sample),
            spread=_PRIOR_SPREAD,
        )
    return temperature
