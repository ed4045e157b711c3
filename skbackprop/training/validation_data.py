"""Validation rows, and the loss and score computed on them after each epoch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol, TypeAlias

import numpy as np

from ..nn.data_loader import Dataset
from ..nn.network import Network
from ..nn.objective import Objective
from ..nn.parameters import FlatParameters, Parameters
from ..nn.prediction import predict_raw
from ..utils.arrays import Array, IndexArray


class ValidationResult(NamedTuple):
    """The validation loss and score after an epoch.

    Parameters
    ----------
    loss : float
        The mean loss of the rows, as reported, without the penalty.
    score : float or None
        The score that should rise; None without early stopping.
    """

    loss: float
    score: float | None


@dataclass(eq=False)
class ValidationData:
    """Validation rows.

    Parameters
    ----------
    table : Dataset
        The table that contains them.
    rows : array of int or None
        The row numbers in the table; None for all rows.
    y_given : array-like
        The targets of the table as the user has given them.
    """

    table: Dataset
    rows: IndexArray | None
    y_given: Any

    @cached_property
    def inputs(self) -> Any:
        """The input of the rows."""
        return self.table.X if self.rows is None else self.table.X[self.rows]

    @cached_property
    def y(self) -> Any:
        """The targets, as the user has given them."""
        return self.y_given if self.rows is None else self.y_given[self.rows]

    @cached_property
    def encoded(self) -> Array:
        """The encoded targets."""
        y: Array = self.table.y if self.rows is None else self.table.y[self.rows]
        return y

    @cached_property
    def weight(self) -> Array | None:
        """The weights; None for equal weights, or if all are zero."""
        weight = self.table.weight
        if weight is None or self.rows is None:
            return weight
        weight = weight[self.rows]
        return weight if weight.any() else None

    def is_same(self, other: ValidationData | None) -> bool:
        """Return whether these are the same rows of the same table."""
        if other is None or other.table is not self.table:
            return False
        if self.rows is None or other.rows is None:
            return self.rows is other.rows
        return np.array_equal(self.rows, other.rows)


class Evaluator(Protocol):
    """Computes the predictions, the loss and the score of networks on validation rows."""

    def predictions_of(self, network: Network, parameters: Parameters, X: Any, rows: Any) -> Array:
        """Return the predictions of every member, as `loss` and `score` take them."""

    def loss(self, outcomes: Array, watched: ValidationData) -> float:
        """Return the mean loss of the predictions."""

    def score(self, outcomes: Array, watched: ValidationData) -> float:
        """Return the estimator's own score of the predictions."""


Scorer: TypeAlias = Callable[[FlatParameters, ValidationData, Array], float]
"""Returns the user's score from parameters of one network, validation rows and predictions."""

Score: TypeAlias = Callable[[Array, Array, "Array | None"], float]

# Rows whose losses are computed in one block.
_ROWS_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class RawPredictionEvaluator:
    """Evaluates networks by their raw scores.

    Parameters
    ----------
    objective : Objective
        The objective, with the loss.
    own_score : callable
        Returns the estimator's score of (scores, encoded targets, weights).
    """

    objective: Objective
    own_score: Score

    def predictions_of(self, network: Network, parameters: Parameters, X: Any, rows: Any) -> Array:
        """Return the raw scores."""
        return predict_raw(network, parameters, X, rows)

    def loss(self, outcomes: Array, watched: ValidationData) -> float:
        """Return the mean loss of the scores."""
        values, y = np.empty(len(outcomes)), watched.encoded
        for start in range(0, len(outcomes), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            scores, targets = outcomes[None, part], y[None, part]
            in_double = scores.astype(np.float64), targets.astype(np.float64)
            values[part] = self.objective.loss.value(*in_double)[0]
        return weighted_mean(values, watched.weight) / self.objective.loss_normalizer

    def score(self, outcomes: Array, watched: ValidationData) -> float:
        """Return the estimator's own score of the raw scores."""
        return self.own_score(outcomes, watched.encoded, watched.weight)


def weighted_mean(values: Array, weight: Array | None) -> float:
    """Return the weighted mean of losses; rows of weight zero may have any loss."""
    if weight is None:
        return float(values.mean())
    return float(np.average(values[weight > 0], weights=weight[weight > 0]))
