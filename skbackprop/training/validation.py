"""Scores of held-out rows during training, out-of-fold predictions, and calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
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

Scorer: TypeAlias = "Callable[[Parameters, Validation, Array], float]"
"""Returns the user's score from the parameters of one network, validation rows and predictions."""


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
    targets: Any
    scoring: Scorer | Literal["loss", "score"] | None

    def with_index(self, index: IndexArray) -> Validation:
        """Return other rows of the same table."""
        return replace(self, rows=replace(self.rows, index=index))

    @cached_property
    def input(self) -> Any:
        """The input of the rows."""
        return self.rows.select(self.rows.X)

    @cached_property
    def original_y(self) -> Any:
        """The targets of the rows, as the user has given them."""
        return self.rows.select(self.rows.original_y)

    @cached_property
    def y(self) -> Array:
        """The encoded targets of the rows."""
        y: Array = self.rows.select(self.rows.y)
        return y

    @cached_property
    def weight(self) -> Array | None:
        """The weights; None for equal weights, or if all are zero."""
        weight: Array | None = self.rows.select(self.rows.weight)
        return None if weight is None or not weight.any() else weight

    def score(
        self, network: Network, parameters: Parameters, predictions: Array
    ) -> dict[str, float]:
        """Return the loss and the score of one network's predictions."""
        is_finite = bool(np.isfinite(predictions).all())
        with np.errstate(all="ignore"):
            loss = math.inf
            if is_finite:
                loss = self.targets.validation_loss(network, predictions, self)
            found = {"validation_loss": float(loss)}
            if self.scoring is None:
                return found
            if not is_finite:
                score = math.nan
            elif self.scoring == "loss":
                score = -loss
            elif self.scoring == "score":
                score = self.targets.validation_score(predictions, self)
        if is_finite and callable(self.scoring):
            score = self.scoring(parameters, self, predictions)
        return found | {"validation_score": float(score)}


def evaluate(
    network: Network, state: TrainState, validation: Sequence[Validation | None]
) -> list[dict[str, float]]:
    """Return the losses and scores of the networks of a stack; none without validation rows.

    Neighboring members with the same validation rows predict together.
    """
    if not any(validation):
        return [{}] * len(validation)
    parameters = state.averaged_parameters()
    results: list[dict[str, float]] = []
    while len(results) < len(validation):
        start, stop = len(results), len(results) + 1
        first = validation[start]
        if first is None:
            results.append({})
            continue
        while stop < len(validation) and _has_same_rows(first, validation[stop]):
            stop += 1
        members = parameters.members(slice(start, stop))
        with np.errstate(all="ignore"):
            predictions = first.targets.validation_predictions(network, members, first.rows)
        for i, each in enumerate(validation[start:stop]):
            assert each is not None
            alone = members.members(slice(i, i + 1))
            results.append(each.score(network, alone, predictions[i]))
    return results


def _has_same_rows(one: Validation, other: Validation | None) -> bool:
    return other is not None and (one is other or one.rows.has_same(other.rows))


class OutOfFoldPredictions(NamedTuple):
    """The prediction of each row by the network that has held it out.

    Parameters
    ----------
    member : array of int of shape (n_rows,)
        The number of that network.
    scores : array of shape (n_rows, n_outputs)
        Its raw predictions.
    score : float
        The estimator's own score of them, with the weights of training.
    """

    member: Array
    scores: Array
    score: float


def predict_out_of_fold(
    network: Network,
    parameters: Parameters,
    rows: Rows,
    held_out: Sequence[IndexArray | None],
    targets: Any,
) -> OutOfFoldPredictions:
    """Return the out-of-fold predictions of networks, each of which holds out some rows."""
    member = np.empty(rows.n_rows, dtype=np.intp)
    scores = np.empty((rows.n_rows, network.n_units[-1]), parameters.dtype)
    with np.errstate(all="ignore"):
        for i, own in enumerate(held_out):
            member[own] = i
            alone = parameters.members(slice(i, i + 1))
            scores[own] = predict_raw(network, alone, rows.X, own)[0]
        score = targets.validation_score(scores, Validation(rows, targets, None))
    return OutOfFoldPredictions(member, scores, score)


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
