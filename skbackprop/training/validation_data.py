"""Rows by which training is watched, and what is seen of them after an epoch."""

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
    """What is seen of the rows after an epoch.

    Parameters
    ----------
    loss : float
        Their mean loss, as it is reported, without the penalty.
    score : float or None
        What is to rise; None if nothing is.
    """

    loss: float
    score: float | None


@dataclass(eq=False)
class ValidationData:
    """Rows that are not trained on.

    Parameters
    ----------
    table : Table
        The table that they are in.
    rows : Rows or None
        Which of its rows they are; None for all.
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
        """Their targets, as the user has given them."""
        return self.y_given if self.rows is None else self.y_given[self.rows]

    @cached_property
    def encoded(self) -> Array:
        """Their targets, as a network learns them."""
        y: Array = self.table.y if self.rows is None else self.table.y[self.rows]
        return y

    @cached_property
    def weight(self) -> Array | None:
        """Their weights; None for equal ones, also where none weighs anything."""
        weight = self.table.weight
        if weight is None or self.rows is None:
            return weight
        weight = weight[self.rows]
        return weight if weight.any() else None

    def is_same(self, other: ValidationData | None) -> bool:
        """Return whether others are the very same rows."""
        if other is None or other.table is not self.table:
            return False
        if self.rows is None or other.rows is None:
            return self.rows is other.rows
        return np.array_equal(self.rows, other.rows)


class Evaluator(Protocol):
    """What makes of a network, and of rows, what is seen of them."""

    def predictions_of(self, network: Network, parameters: Parameters, X: Any, rows: Any) -> Array:
        """Return for every member what `loss` and `score` take of each row."""

    def loss(self, outcomes: Array, watched: ValidationData) -> float:
        """Return the mean loss of the outcomes of rows."""

    def score(self, outcomes: Array, watched: ValidationData) -> float:
        """Return the estimator's own score of the outcomes of rows."""


Scorer: TypeAlias = Callable[[FlatParameters, ValidationData, Array], float]
"""Returns what a scorer of the user's makes of one network, of rows and of their outcomes."""

Score: TypeAlias = Callable[[Array, Array, "Array | None"], float]

# Rows whose losses are computed at once.
_ROWS_AT_ONCE = 1 << 14


@dataclass(frozen=True)
class RawPredictionEvaluator:
    """Judges a network by its raw scores.

    Parameters
    ----------
    objective : Objective
        What is minimised, with the loss.
    own_score : callable
        Returns the estimator's score of (scores, encoded targets, weights).
    """

    objective: Objective
    own_score: Score

    def predictions_of(self, network: Network, parameters: Parameters, X: Any, rows: Any) -> Array:
        """Return the raw scores."""
        return predict_raw(network, parameters, X, rows)

    def loss(self, outcomes: Array, watched: ValidationData) -> float:
        """Return the mean loss of the scores of rows."""
        values, y = np.empty(len(outcomes)), watched.encoded
        for start in range(0, len(outcomes), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            scores, targets = outcomes[None, part], y[None, part]
            in_double = scores.astype(np.float64), targets.astype(np.float64)
            values[part] = self.objective.loss.value(*in_double)[0]
        return weighted_mean(values, watched.weight) / self.objective.loss_normalizer

    def score(self, outcomes: Array, watched: ValidationData) -> float:
        """Return the estimator's own score of the scores of rows."""
        return self.own_score(outcomes, watched.encoded, watched.weight)


def weighted_mean(values: Array, weight: Array | None) -> float:
    """Return the mean of the losses of rows, of which those that weigh nothing do not count."""
    if weight is None:
        return float(values.mean())
    return float(np.average(values[weight > 0], weights=weight[weight > 0]))
