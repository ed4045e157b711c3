"""Validation rows on the workers, whose raw predictions come to the client after each epoch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from ..estimators.base import BaseNeuralNetwork
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..nn.network import Network
from ..nn.parameters import FlatParameters, Parameters
from ..training.validation_data import Evaluator, ValidationData
from ..utils.arrays import Array
from ._actor_pool import ActorPool
from ._partitions import Partition, PartitionedDataset, Partitions


def make_validation_data(original: Partitions, encoded: Partitions) -> ValidationData:
    """Return validation data with targets and weights, and with no columns in X.

    Parameters
    ----------
    original : Partitions
        The rows with targets as passed to `fit`.
    encoded : Partitions
        The rows with encoded targets and with the weights of training.
    """
    y, weights = zip(*encoded.compute(_targets_and_weight), strict=True)
    weight = None if weights[0] is None else np.concatenate(weights)
    X = np.empty((encoded.n_rows, 0))
    table = PartitionedDataset(X, np.concatenate(y), weight, partitions=encoded)
    y_given = [y for y, _ in original.compute(_targets_and_weight)]
    return ValidationData(table, None, np.concatenate(y_given))


def _targets_and_weight(partition: Partition) -> tuple[Array, Array | None]:
    return partition.y, partition.weight


class RemoteEvaluator:
    """Evaluator whose raw predictions are computed on the workers.

    Parameters
    ----------
    evaluator : Evaluator
        The evaluator of the loss and the score.
    pool : ActorPool
        The validation rows.
    """

    def __init__(self, evaluator: Evaluator, pool: ActorPool) -> None:
        self.loss, self.score, self._pool = evaluator.loss, evaluator.score, pool

    def predictions_of(self, network: Network, parameters: Parameters, X: Any, rows: Any) -> Array:
        """Return the raw predictions of all rows by each network; X and rows are not used."""
        flat = cast(FlatParameters, parameters)
        results = self._pool.map("raw_predictions", flat.theta, flat.statistics)
        parts = {number: part for result in results for number, part in result.items()}
        return np.concatenate([parts[number] for number in sorted(parts)], axis=1)


class _PrecomputedMixin(BaseNeuralNetwork):
    """Estimator for scorers, whose raw predictions are known and whose X is not used."""

    _raw_prediction: Array

    def _validated(self, X: Any, y: Any, reset: bool) -> tuple[Any, Any]:
        return X, y

    def _predict_with(
        self, X: Any, outcome: Callable[[Array], Any], n_layers: int | None = None
    ) -> Any:
        return outcome(self._raw_prediction[None].copy())  # outcome may overwrite it


class PrecomputedClassifier(_PrecomputedMixin, BackpropClassifier):
    """Classifier with known raw predictions."""


class PrecomputedRegressor(_PrecomputedMixin, BackpropRegressor):
    """Regressor with known raw predictions."""
