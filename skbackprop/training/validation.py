"""Validation rows, and the losses and scores of networks on them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np

from ..nn.network import Network
from ..nn.parameters import Parameters
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
