"""Networks of the tabular estimators: initial weights, training in cycles, outputs for mixtures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..estimators._checkpoint import resume_training
from ..estimators._estimator_mixin import with_callbacks
from ..estimators.base import BaseNeuralNetwork, PreparedFit
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..initializers import Initializer, WeightsAndBiases
from ..layers.columns import BlockDiagonalDense
from ..nn.prediction import FEW_ROWS, Predictor
from ..nn.rows import Rows
from ..nn.train_state import TrainState
from ..training.diagnostics import OUT_OF_TIME
from ..utils.arrays import Array
from ._mixtures import fit_softmax_temperature
from ._model_inputs import FeatureView


@dataclass(frozen=True)
class OutputBiasInit(Initializer):
    """Initial weights with which the first predictions are close to a constant.

    Hidden weights have the variance 2 / fan_in, output weights 0.01 / fan_in.

    Parameters
    ----------
    intercepts : tuple of float
        The raw predictions of the constant: the biases of the last layer.
    """

    intercepts: tuple[float, ...]

    def draw_all(
        self, rng: np.random.RandomState, shapes: Sequence[tuple[int, ...]]
    ) -> list[WeightsAndBiases]:
        """Draw the weights and biases of all layers."""
        *shapes, output_shape = shapes
        layers = [
            (rng.normal(0, 2**0.5 / shape[0] ** 0.5, shape), np.zeros(shape[1])) for shape in shapes
        ]
        weights = rng.normal(0, 0.1 / output_shape[0] ** 0.5, output_shape)
        return [*layers, (weights, np.array(self.intercepts))]


class TabularNetworkMixin(BaseNeuralNetwork):
    """Networks of a tabular estimator: training in cycles, and component outputs.

    Attributes
    ----------
    min_gain : float
        The share of the loss that a cycle must remove so that a longer one begins after it.
    """

    min_gain: ClassVar[float] = 0.05
    is_thread_safe: ClassVar[bool] = True  # several threads may predict at once

    @with_callbacks
    def fit_cycle(
        self,
        rows: Rows,
        folds: Array | None,
        checkpoint: tuple[Mapping[str, Array], Path] | None = None,
    ) -> None:
        """Train for `max_iter` more epochs, or take over the arrays of a checkpoint."""
        self.__dict__.pop("_predictors", None)
        if checkpoint is None:
            self._fit_rows(rows.X, rows.y, rows.weight, folds=folds)
        else:
            task = self._prepare(rows.X, rows.y, rows.weight, folds=folds)
            resume_training(dict(checkpoint[0]), checkpoint[1], task)
            self._set_fitted(task, task.state)

    def _describe_outcome(self, task: PreparedFit, state: TrainState) -> list[str]:
        """Return the warnings without the time limit, which has one warning for all cycles."""
        messages = super()._describe_outcome(task, state)
        return [text for text in messages if not text.startswith(OUT_OF_TIME)]

    def cycle_arrays(self) -> dict[str, Array]:
        """Return copies of the arrays that `fit_cycle` takes over at the end of a cycle."""
        return {name: array.copy() for name, array in self._state.to_arrays().items()}

    def finish(self, n_iter: Array) -> None:
        """End training after `n_iter` epochs of each network, and convert to double precision.

        In double precision, other rows have no visible effect on the prediction of a row.
        """
        parameters = self._predictor.parameters.astype(np.float64)
        state = self._state.with_parameters(parameters, only_predicts=True)
        self._set_networks(self._config, self._network, self._targets, state)
        self.n_iter_ = n_iter

    # ------------------------------------------------------- a component of a mixture

    @property
    def view(self) -> FeatureView:
        """The representation of rows that the networks take."""
        return "embedded" if isinstance(self.layers[0], BlockDiagonalDense) else "encoded"

    @property
    def max_matmul_size(self) -> int:
        """The multiplications of the largest matrix product of a prediction."""
        return self._network.max_matmul_size(FEW_ROWS)

    def outputs(self, X: Array, single_precision: bool = False, member: int | None = None) -> Array:
        """Return the outputs of all networks, or of one, of shape (n_networks, n, n_outputs)."""
        predictors = self.__dict__.setdefault("_predictors", {})
        if (single_precision, member) not in predictors:
            parameters = self._predictor.parameters.astype(
                np.float32 if single_precision else np.float64
            )
            if member is not None:
                parameters = parameters.members(slice(member, member + 1))
            predictors[single_precision, member] = Predictor(self._network, parameters, FEW_ROWS)
        with np.errstate(all="ignore"):
            blocks = list(predictors[single_precision, member].iter_blocks(X))
            scores = blocks[0] if len(blocks) == 1 else np.concatenate(blocks, axis=1)
            return np.asarray(self.component_outputs(scores))

    def out_of_fold_outputs(self) -> Array:
        """Return the out-of-fold outputs of the training rows, of shape (1, n, n_outputs)."""
        return self.component_outputs(self._get_out_of_fold().predictions[None].copy())

    def component_outputs(self, raw_predictions: Array) -> Array:
        """Return the outputs of a component, given raw predictions of networks."""
        return raw_predictions

    def loss_of_outputs(self, outputs: Array, rows: Rows, is_out_of_fold: bool) -> float:
        """Return the loss of the outputs for rows that were held out."""
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        attributes = super().__getstate__()
        attributes.pop("_predictors", None)
        return attributes


class TabularClassifierNetworks(TabularNetworkMixin, BackpropClassifier):
    """Networks of a `TabularClassifier`, whose outputs are logits."""

    def loss_of_outputs(self, outputs: Array, rows: Rows, is_out_of_fold: bool) -> float:
        """Return the mean log loss with the best temperature.

        Overconfidence, which temperature scaling corrects, does not affect this loss, so it does
        not stop training (Holzmueller et al. 2025, arXiv 2501.19195, section 3).
        """
        _, loss = fit_softmax_temperature(outputs, rows.y, rows.weight)
        return loss


class TabularRegressorNetworks(TabularNetworkMixin, BackpropRegressor):
    """Networks of a `TabularRegressor`."""

    min_gain = 0.1  # squared errors fall twice as fast as errors

    def component_outputs(self, raw_predictions: Array) -> Array:
        """Return predictions, one for each quantile, or mean and variance of all networks."""
        outputs = self._predict_means(raw_predictions)
        outputs = outputs.reshape(*outputs.shape[:2], -1)
        if not self._predicts_std:
            return outputs
        stds = [self._targets.loss.predict_std(member) for member in raw_predictions]
        std = self._to_units_of_y(stds, from_zero=True)
        variance = np.square(std.astype(np.float64))
        return np.concatenate([outputs, variance[..., None]], axis=2)

    def loss_of_outputs(self, outputs: Array, rows: Rows, is_out_of_fold: bool) -> float:
        """Return the unexplained share of the loss."""
        if is_out_of_fold:
            return 1 - float(self.oof_score_)
        targets = self._targets.encode(rows.y, needs_all=False)
        raw_predictions = self._predict_in_blocks(rows.X, self._average_raw)
        return 1 - float(self._targets.loss.score(raw_predictions, targets, rows.weight))
