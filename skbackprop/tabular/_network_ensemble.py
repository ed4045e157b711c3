"""Network ensembles of tabular estimators, trained in cycles."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .._sklearn import warn
from ..estimators._decorators import with_callbacks
from ..estimators._fit_context import DataInfo, FitArguments, FitContext
from ..estimators.base import BaseNeuralNetwork
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..initializers import Initializer
from ..nn.network import Network
from ..nn.prediction import ROWS_OF_PREDICTOR, CachedPredictor
from ..training.convergence import MAX_ITER_REACHED, OUT_OF_TIME
from ..training.partial_fit_session import PartialFitSession
from ..training.weight_init import Layers
from ..utils.arrays import Array, DropsCachedProperties
from ._calibration_and_weights import calibrate
from ._defaults import TOLERANCE
from ._fold_models import FoldEnsemble, TrainingData
from ._network_inputs import FeatureView

# A time limit that ends training before the first epoch.
MIN_TIME = 1e-9


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
        layers = [(_draw_normal(rng, 2**0.5, shape), np.zeros(shape[1])) for shape in hidden]
        return [*layers, (_draw_normal(rng, 0.1, last), np.array(self.intercepts))]


def _draw_normal(rng: np.random.RandomState, gain: float, shape: tuple[int, ...]) -> Array:
    weights: Array = rng.normal(0, gain / shape[0] ** 0.5, shape)
    return weights


class TabularNetworkMixin(BaseNeuralNetwork):
    """Networks of a tabular estimator: training in cycles, and component outputs."""

    _training: Any

    @with_callbacks
    def fit_cycle(
        self, data: TrainingData, checkpoint: tuple[Mapping[str, Array], Path] | None
    ) -> None:
        """Train for `max_iter` more epochs, or resume from the arrays of a checkpoint."""
        rows = data.rows
        self._train(FitArguments(*rows, folds=data.folds, checkpoint=checkpoint))

    def _keep(
        self, prepared: FitContext, continues: bool, session: PartialFitSession | None = None
    ) -> None:
        """Set the fitted attributes, without the warnings that are expected after each cycle.

        Each cycle uses up its epochs. If the time limit ends training, there is one warning for
        all cycles.
        """
        expected = MAX_ITER_REACHED, OUT_OF_TIME
        for run in prepared.runs:
            run.warnings = [each for each in run.warnings if not each.startswith(expected)]
        super()._keep(prepared, continues, session)

    def compact(self, n_iter: Array) -> None:
        """End training after `n_iter` epochs of each network, and convert to double precision.

        In double precision, the prediction of a row does not depend visibly on the other rows.
        """
        self._learned: DataInfo = replace(self._learned, dtype=np.dtype(np.float64))
        for name in self._attributes_of(self._learned.network).values():
            arrays = getattr(self, name)
            if arrays is not None:
                setattr(self, name, [array.astype(np.float64) for array in arrays])
        self.n_iter_ = n_iter
        del self._training

    def held_out_outputs(self) -> Array:
        """Return the out-of-fold outputs of the training rows, of shape (1, n, n_outputs)."""
        return self.component_outputs(self._held_out_once.scores[None].copy())

    def component_outputs(self, scores: Array) -> Array:
        """Return the outputs of a `FoldEnsemble`, given raw predictions of all networks."""
        raise NotImplementedError

    def held_out_loss(self, outputs: Array, data: TrainingData) -> float:
        """Return the loss of outputs for the rows that were held out."""
        raise NotImplementedError

    @property
    def max_matmul_size(self) -> int:
        """The multiplications of the largest matrix product of a prediction."""
        return self._learned.network.max_matmul_size(ROWS_OF_PREDICTOR)

    def make_predictor(self, dtype: Any) -> CachedPredictor:
        """Return a predictor of raw predictions in a dtype."""
        learned = self._learned
        return CachedPredictor(learned.network, self._parameters(learned).astype(dtype))


class TableClassifierNetworks(TabularNetworkMixin, BackpropClassifier):
    """Networks of a `TabularClassifier`."""

    def component_outputs(self, scores: Array) -> Array:
        """Return the logits of all networks, of shape (n_estimators, n, n_outputs)."""
        return scores

    def held_out_loss(self, outputs: Array, data: TrainingData) -> float:
        """Return the mean log loss with the best temperature."""
        _, loss = calibrate(outputs, data.held_out.y, data.held_out.weight)
        return loss


class TableRegressorNetworks(TabularNetworkMixin, BackpropRegressor):
    """Networks of a `TabularRegressor`."""

    def component_outputs(self, scores: Array) -> Array:
        """Return predictions, one for each quantile, or mean and variance of all networks."""
        outputs = self._means(scores)
        outputs = outputs.reshape(*outputs.shape[:2], -1)
        if not self._learns_deviation:
            return outputs
        each = [self._learned.loss.predict_std(own) for own in scores]
        std = self._each_in_units_of_y(each, from_zero=True)
        variance = np.square(std.astype(np.float64))
        return np.concatenate([outputs, variance[..., None]], axis=2)

    def held_out_loss(self, outputs: Array, data: TrainingData) -> float:
        """Return the unexplained share of the loss."""
        if data.validation is None:
            return 1 - float(self.oof_score_)
        X, y, weight = data.validation
        targets = self._known_targets(self._learned).encode(y, needs_all=False)
        return 1 - float(self._learned.loss.score(self._scores(X), targets, weight))


@dataclass(frozen=True, eq=False)
class NetworkEnsemble(DropsCachedProperties, FoldEnsemble):
    """Ensemble of networks, one for each fold.

    Parameters
    ----------
    networks : TableClassifierNetworks or TableRegressorNetworks
        The fitted networks.
    view : FeatureView
        The representation of rows that they take.
    """

    networks: Any
    view: FeatureView

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may predict at once."""
        return True

    @property
    def max_matmul_size(self) -> int:
        """The multiplications of the largest matrix product of a prediction."""
        return int(self.networks.max_matmul_size)

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


class CycleResult(NamedTuple):
    """Result of a training cycle.

    Parameters
    ----------
    networks : TableClassifierNetworks or TableRegressorNetworks
        The networks.
    outputs : array of shape (1, n, n_outputs) or (n_estimators, n, n_outputs)
        The out-of-fold outputs of the training rows, or those of all networks for validation rows.
    loss : float
        The loss of the outputs.
    n_iter : array of int of shape (n_estimators,)
        The epochs of all cycles so far.
    is_complete : bool
        Whether all epochs of the cycle were trained.
    """

    networks: Any
    outputs: Array
    loss: float
    n_iter: Array
    is_complete: bool

    def is_useful(self, best_loss: float) -> bool:
        """Return whether the cycle is kept, given the lowest loss of earlier cycles."""
        return not self.loss > best_loss * (1 + TOLERANCE if self.is_complete else 1)


def train_networks(
    networks: Any, view: FeatureView, cycles: Sequence[int], data: TrainingData
) -> tuple[NetworkEnsemble, Array]:
    """Train networks in cycles, up to the last useful one.

    All networks end with the same cycle, chosen among a few by the loss of all rows, so that
    out-of-fold predictions remain honest.

    Parameters
    ----------
    networks : TableClassifierNetworks or TableRegressorNetworks
        The untrained networks.
    view : FeatureView
        The representation of rows that they take.
    cycles : sequence of int
        The epochs of each cycle.
    data : TrainingData
        The data.

    Returns
    -------
    ensemble : NetworkEnsemble
        The trained networks.
    outputs : array of shape (1, n, n_outputs) or (n_estimators, n, n_outputs)
        Their out-of-fold outputs, or those for validation rows.
    """
    end = time.perf_counter() + data.time_limit * _training_share(data)
    progress, estimator = data.progress, data.estimator
    progress.begin_ensemble()
    task = data.context.subcontext("ensemble", max_subtasks=len(cycles))
    task.call_on_fit_task_begin(estimator=estimator)
    kept: CycleResult | None = None
    best_loss, was_cut_short = math.inf, False
    for index, n_epochs in enumerate(cycles):
        start = time.perf_counter()
        left = end - start
        if kept is not None and (left <= 0 or progress.is_stopped):
            was_cut_short |= left <= 0
            break
        limit = None if math.isinf(left) else max(left, MIN_TIME)
        networks = copy.copy(networks).set_params(max_iter=n_epochs, time_limit=limit)
        checkpoint = progress.begin_cycle(networks, index)
        cycle_task = task.subcontext("cycle")
        with cycle_task.propagate_callback_context(networks):
            cycle_task.call_on_fit_task_begin(estimator=estimator)
            networks.fit_cycle(data, checkpoint)
            progress.is_stopped |= cycle_task.call_on_fit_task_end(estimator=estimator)
        networks.set_callbacks()
        cycle = _evaluate_cycle(networks, data, 0 if kept is None else kept.n_iter)
        now = time.perf_counter()
        is_useful = cycle.is_useful(best_loss)
        progress.print_cycle(cycles, index, cycle, now - start, is_useful)
        was_cut_short |= limit is not None and not cycle.is_complete and now >= end
        progress.is_stopped |= not cycle.is_complete and now < end
        if not is_useful:
            break
        best_loss = cycle.loss if kept is None else min(best_loss, cycle.loss)
        kept = cycle
    progress.is_stopped |= task.call_on_fit_task_end(estimator=estimator)
    assert kept is not None  # the first cycle is always useful
    if was_cut_short:
        _warn_of_time_limit(estimator.time_limit, kept.n_iter)
    kept.networks.compact(kept.n_iter)
    return NetworkEnsemble(kept.networks, view), kept.outputs


def _evaluate_cycle(networks: Any, data: TrainingData, n_iter_before: Array | int) -> CycleResult:
    """Return the result of a cycle."""
    if data.validation is None:
        outputs = networks.held_out_outputs()
    else:
        outputs = NetworkEnsemble(networks, "encoded").outputs(data.validation.X)
    loss = networks.held_out_loss(outputs, data)
    is_complete = bool((networks.n_iter_ == networks.max_iter).all())
    return CycleResult(networks, outputs, loss, networks.n_iter_ + n_iter_before, is_complete)


def _training_share(data: TrainingData) -> float:
    """Return the share of the time for training itself; the rest is for held-out predictions.

    Predictions take one of the three matrix products of an epoch for each row and network. Even a
    single epoch, the minimum, leaves this share to training.
    """
    n_trained = 3 * data.n_estimators * data.n_train
    n_predicted = len(data.held_out.y) * (1 if data.validation is None else data.n_estimators)
    return n_trained / (n_trained + n_predicted)


def _warn_of_time_limit(time_limit: float, n_iter: Array) -> None:
    """Warn that the time limit ended training, with the number of epochs that are kept."""
    limit = f"{OUT_OF_TIME}{time_limit:g} seconds are over, of which each ensemble has a part."
    if n_iter.any():
        kept = f"Networks of {n_iter.min()} to {n_iter.max()} epochs are kept."
    else:
        kept = (
            "After less than an epoch nothing has been learned: the weights are the initial ones."
        )
    warn(f"{limit} {kept} Raise time_limit, or train fewer networks.", ConvergenceWarning)
