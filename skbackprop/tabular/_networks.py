"""Networks of the tabular estimators: initial weights, training in cycles, outputs for mixtures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from ..estimators._decorators import with_callbacks
from ..estimators._fit_context import DataInfo, FitArguments, FitContext
from ..estimators.base import BaseNeuralNetwork
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..initializers import Initializer
from ..nn.network import Network
from ..nn.prediction import ROWS_OF_PREDICTOR, CachedPredictor
from ..training.diagnostics import MAX_ITER_REACHED, OUT_OF_TIME
from ..training.partial_fit_session import PartialFitSession
from ..training.training_run import TrainingRun
from ..training.weight_init import Layers
from ..utils.arrays import Array, DropCachedPropertiesMixin, join_keys
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

    def layers(self, network: Network, rng: np.random.RandomState, member: int) -> Layers:
        """Draw the weights and biases of a member."""
        *hidden, last = network.shapes["weights"]
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

    _training: Any
    _runs: Sequence[TrainingRun]
    min_gain: ClassVar[float] = 0.05

    @with_callbacks
    def fit_cycle(
        self,
        rows: LabeledRows,
        folds: Array | None,
        checkpoint: tuple[Mapping[str, Array], Path] | None = None,
    ) -> None:
        """Train for `max_iter` more epochs, or resume from the arrays of a checkpoint."""
        self._train(FitArguments(*rows, folds=folds, checkpoint=checkpoint))

    def _set_fitted_attributes(
        self, context: FitContext, continues: bool, session: PartialFitSession | None = None
    ) -> None:
        """Set the fitted attributes, without the warnings that are expected after each cycle.

        Each cycle uses up its epochs. If the time limit ends training, there is one warning for
        all cycles.
        """
        expected = MAX_ITER_REACHED, OUT_OF_TIME
        for run in context.runs:
            run.warnings = [each for each in run.warnings if not each.startswith(expected)]
        self._runs = context.runs
        super()._set_fitted_attributes(context, continues, session)

    def cycle_arrays(self) -> dict[str, Array]:
        """Return copies of the arrays that `fit_cycle` resumes from at the end of a cycle."""
        return {
            join_keys("checkpoints", i, name): array.copy()
            for i, run in enumerate(self._runs)
            for name, array in run.checkpoint.to_arrays().items()
        }

    def finish(self, n_iter: Array) -> None:
        """End training after `n_iter` epochs of each network, and convert to double precision.

        In double precision, the prediction of a row does not depend visibly on the other rows.
        """
        self._data_info: DataInfo = replace(self._data_info, dtype=np.dtype(np.float64))
        for name in self._name_attributes(self._data_info.network).values():
            arrays = getattr(self, name)
            if arrays is not None:
                setattr(self, name, [array.astype(np.float64) for array in arrays])
        self.n_iter_ = n_iter
        del self._training, self._runs

    def out_of_fold_outputs(self) -> Array:
        """Return the out-of-fold outputs of the training rows, of shape (1, n, n_outputs)."""
        return self.component_outputs(self._get_out_of_fold().scores[None].copy())

    def component_outputs(self, scores: Array) -> Array:
        """Return the outputs of a component, given raw predictions of all networks."""
        return scores

    def loss_of_outputs(self, outputs: Array, rows: LabeledRows, is_out_of_fold: bool) -> float:
        """Return the loss of the outputs for rows that were held out."""
        raise NotImplementedError

    def make_predictor(self, dtype: Any) -> CachedPredictor:
        """Return a predictor of raw predictions in a dtype."""
        info = self._data_info
        return CachedPredictor(info.network, self._fitted_parameters(info).astype(dtype))


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
        return self._in_single.network.max_matmul_size(ROWS_OF_PREDICTOR)

    def outputs(self, X: Array, single_precision: bool = False) -> Array:
        """Return the outputs of all networks, of shape (n_estimators, n, n_outputs)."""
        predictor = self._in_single if single_precision else self._in_double
        with np.errstate(all="ignore"):
            return np.asarray(self.networks.component_outputs(predictor.scores(X)))

    def member_outputs(self, member: int, X: Array) -> Array:
        """Return the outputs of one network, of shape (n, n_outputs), in single precision."""
        with np.errstate(all="ignore"):
            return np.asarray(self.networks.component_outputs(self._members[member].scores(X))[0])

    @cached_property
    def _members(self) -> list[CachedPredictor]:
        network, parameters = self._in_single.network, self._in_single.parameters
        members = [slice(at, at + 1) for at in range(len(parameters))]
        return [CachedPredictor(network, parameters.members(member)) for member in members]

    @cached_property
    def _in_double(self) -> CachedPredictor:
        predictor: CachedPredictor = self.networks.make_predictor(np.float64)
        return predictor

    @cached_property
    def _in_single(self) -> CachedPredictor:
        predictor: CachedPredictor = self.networks.make_predictor(np.float32)
        return predictor


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
        each = [self._data_info.loss.predict_std(own) for own in scores]
        std = self._to_units_of_y(each, from_zero=True)
        variance = np.square(std.astype(np.float64))
        return np.concatenate([outputs, variance[..., None]], axis=2)

    def loss_of_outputs(self, outputs: Array, rows: LabeledRows, is_out_of_fold: bool) -> float:
        """Return the unexplained share of the loss."""
        if is_out_of_fold:
            return 1 - float(self.oof_score_)
        targets = self._get_target_encoder(self._data_info).encode(rows.y, needs_all=False)
        scores = self._predict_in_blocks(rows.X, self._average_raw)
        return 1 - float(self._data_info.loss.score(scores, targets, rows.weight))
