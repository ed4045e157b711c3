"""Networks of the tabular estimators: initial weights, training in cycles, outputs for mixtures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..estimators._checkpoint import resume_training
from ..estimators._decorators import with_callbacks
from ..estimators.base import BaseNeuralNetwork, PreparedFit
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..initializers import Initializer, WeightsAndBiases
from ..nn.prediction import FEW_ROWS, Predictor
from ..nn.train_state import TrainState
from ..training.diagnostics import OUT_OF_TIME
from ..utils.arrays import Array, DropCachedPropertiesMixin
from ._mixture import fit_softmax_temperature
from ._model_inputs import FeatureView
from ._prediction import LabeledRows


@dataclass(frozen=True)
class OutputBiasInit(Initializer):
    """Initial weights with which the first predictions are close to a constant.

    Hidden weights have the variance 2 / fan_in, those of the last layer 0.01 / fan_in.

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
        *hidden, last = shapes
        layers = [
            (rng.normal(0, 2**0.5 / shape[0] ** 0.5, shape), np.zeros(shape[1])) for shape in hidden
        ]
        weights = rng.normal(0, 0.1 / last[0] ** 0.5, last)
        return [*layers, (weights, np.array(self.intercepts))]


class TabularNetworkMixin(BaseNeuralNetwork):
    """Networks of a tabular estimator: training in cycles, and component outputs.

    Attributes
    ----------
    min_gain : float
        The share of the loss that a cycle must remove so that a longer one begins after it.
    """

    min_gain: ClassVar[float] = 0.05

    @with_callbacks
    def fit_cycle(
        self,
        rows: LabeledRows,
        folds: Array | None,
        saved: tuple[Mapping[str, Array], Path] | None = None,
    ) -> None:
        """Train for `max_iter` more epochs, or take over the arrays of a checkpoint."""
        if saved is None:
            self._fit_rows(*rows, folds=folds)
        else:
            task = self._prepare(*rows, folds=folds)
            resume_training(dict(saved[0]), saved[1], task)
            self._set_fitted(task, task.state)

    def _describe_outcome(self, task: PreparedFit, state: TrainState) -> list[str]:
        """Return the warnings without that of the time limit, which is one for all cycles."""
        messages = super()._describe_outcome(task, state)
        return [each for each in messages if not each.startswith(OUT_OF_TIME)]

    def cycle_arrays(self) -> dict[str, Array]:
        """Return copies of the arrays that `fit_cycle` takes over at the end of a cycle."""
        return {name: array.copy() for name, array in self._state.to_arrays().items()}

    def finish(self, n_iter: Array) -> None:
        """End training after `n_iter` epochs of each network, and convert to double precision.

        In double precision, the prediction of a row does not depend visibly on the other rows.
        """
        parameters = self._predictor.parameters.astype(np.float64)
        state = self._state.from_predicting(parameters, only_predicts=True)
        self._set_networks(self._config, self._network, self._targets, state)
        self.n_iter_ = n_iter

    def out_of_fold_outputs(self) -> Array:
        """Return the out-of-fold outputs of the training rows, of shape (1, n, n_outputs)."""
        return self.component_outputs(self._get_out_of_fold().scores[None].copy())

    def component_outputs(self, scores: Array) -> Array:
        """Return the outputs of a component, given raw predictions of all networks."""
        return scores

    def loss_of_outputs(self, outputs: Array, rows: LabeledRows, is_out_of_fold: bool) -> float:
        """Return the loss of the outputs for rows that were held out."""
        raise NotImplementedError

    def make_predictor(self, dtype: Any) -> Predictor:
        """Return a predictor of raw predictions in a dtype."""
        return Predictor(self._network, self._predictor.parameters.astype(dtype), FEW_ROWS)


@dataclass(frozen=True, eq=False)
class NetworkEnsemble(DropCachedPropertiesMixin):
    """Ensemble of networks, one for each fold.

    Parameters
    ----------
    networks : TabularNetworkMixin
        The fitted networks.
    view : FeatureView
        The representation of rows that they take.
    """

    networks: Any
    view: FeatureView
    is_thread_safe: ClassVar[bool] = True  # several threads may predict at once

    @property
    def max_matmul_size(self) -> int:
        """The multiplications of the largest matrix product of a prediction."""
        return self._in_single.network.max_matmul_size(FEW_ROWS)

    def outputs(self, X: Array, single_precision: bool = False) -> Array:
        """Return the outputs of all networks, of shape (n_estimators, n, n_outputs)."""
        predictor = self._in_single if single_precision else self._in_double
        with np.errstate(all="ignore"):
            return np.asarray(self.networks.component_outputs(_predict_raw(predictor, X)))

    def member_outputs(self, member: int, X: Array) -> Array:
        """Return the outputs of one network, of shape (n, n_outputs), in single precision."""
        with np.errstate(all="ignore"):
            return np.asarray(
                self.networks.component_outputs(_predict_raw(self._members[member], X))[0]
            )

    @cached_property
    def _members(self) -> list[Predictor]:
        network, parameters = self._in_single.network, self._in_single.parameters
        members = [slice(at, at + 1) for at in range(len(parameters))]
        return [Predictor(network, parameters.members(each), FEW_ROWS) for each in members]

    @cached_property
    def _in_double(self) -> Predictor:
        predictor: Predictor = self.networks.make_predictor(np.float64)
        return predictor

    @cached_property
    def _in_single(self) -> Predictor:
        predictor: Predictor = self.networks.make_predictor(np.float32)
        return predictor


def _predict_raw(predictor: Predictor, X: Array) -> Array:
    """Return raw predictions of shape (n_estimators, n, n_outputs)."""
    return np.concatenate(list(predictor.iter_blocks(X)), axis=1)


class TabularClassifierNetworks(TabularNetworkMixin, BackpropClassifier):
    """Networks of a `TabularClassifier`, whose outputs are logits."""

    def loss_of_outputs(self, outputs: Array, rows: LabeledRows, is_out_of_fold: bool) -> float:
        """Return the mean log loss with the best temperature.

        It is independent of overconfidence, which temperature scaling corrects, so that it is no
        reason to stop training (Holzmueller et al. 2025, arXiv 2501.19195, section 3).
        """
        _, loss = fit_softmax_temperature(outputs, rows.y, rows.weight)
        return loss


class TabularRegressorNetworks(TabularNetworkMixin, BackpropRegressor):
    """Networks of a `TabularRegressor`."""

    min_gain = 0.1  # squared errors fall twice as fast as errors

    def component_outputs(self, scores: Array) -> Array:
        """Return predictions, one for each quantile, or mean and variance of all networks."""
        outputs = self._predict_means(scores)
        outputs = outputs.reshape(*outputs.shape[:2], -1)
        if not self._predicts_std:
            return outputs
        each = [self._targets.loss.predict_std(own) for own in scores]
        std = self._to_units_of_y(each, from_zero=True)
        variance = np.square(std.astype(np.float64))
        return np.concatenate([outputs, variance[..., None]], axis=2)

    def loss_of_outputs(self, outputs: Array, rows: LabeledRows, is_out_of_fold: bool) -> float:
        """Return the unexplained share of the loss."""
        if is_out_of_fold:
            return 1 - float(self.oof_score_)
        targets = self._targets.encode(rows.y, needs_all=False)
        scores = self._predict_in_blocks(rows.X, self._average_raw)
        return 1 - float(self._targets.loss.score(scores, targets, rows.weight))
