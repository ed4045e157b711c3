"""Network ensembles of tabular estimators, trained in cycles."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..estimators._checkpoint_io import resume_runs
from ..estimators._data_info import DataInfo, FitContext, ValidatedData
from ..estimators.base import BaseNeuralNetwork
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..layers.feature_layers import BlockDiagonalDense, Scale
from ..nn.network import Network
from ..nn.prediction import ROWS_OF_PREDICTOR, CachedPredictor
from ..training._warnings import warn
from ..training.config import TrainingConfig
from ..training.convergence import MAX_ITER_REACHED, OUT_OF_TIME
from ..training.history import InitialState
from ..training.partial_fit_session import PartialFitSession
from ..training.task import TrainingTask
from ..training.training_run import TrainingRun
from ..training.weight_init import Layers
from ..utils.arrays import Array, DropsCachedProperties
from ._calibration import calibrated
from ._components import (
    MIN_TIME,
    FoldEnsemble,
    FoldEnsembleFactory,
    TableValidationData,
    TrainingData,
)
from ._defaults import TOLERANCE, NetworkDefaults, cycle_lengths, network_params
from ._features import WIDTH, FeatureView, draw_seed

# The outputs of the map of each block, beside which the number itself is an input.
N_EMBEDDED = 3


@dataclass(frozen=True, eq=False)
class OutputBiasInit:
    """Initial weights from which the first predictions are near the mean of the targets.

    Hidden weights have the variance 2 / fan_in, the last ones a hundredth of 1 / fan_in.

    Parameters
    ----------
    scores : array of shape (n_outputs,)
        The scores of the mean: the biases of the last layer.
    """

    scores: Array

    def layers(self, network: Network, rng: np.random.RandomState, member: int) -> Layers:
        """Return a member's initial weights and biases, drawn from its stream."""
        *hidden, last = network.shapes["weights"]
        layers = [(_normal(rng, 2**0.5, shape), np.zeros(shape[1])) for shape in hidden]
        return [*layers, (_normal(rng, 0.1, last), np.asarray(self.scores, float))]


def _normal(rng: np.random.RandomState, gain: float, shape: tuple[int, ...]) -> Array:
    drawn: Array = rng.normal(0, gain / shape[0] ** 0.5, shape)
    return drawn


class TabularNetworkMixin(BaseNeuralNetwork):
    """What the networks of both estimators have beside what the base classes know.

    Attributes
    ----------
    _front : tuple of int
        The number of blocks at the beginning of a row, and the columns of each.
    _scores_of_mean : array of shape (n_outputs,)
        The scores to begin with.
    _folds : array of int of shape (n,) or None
        The network that holds out each row; None where there are rows to watch.
    _resumed_from : pair of dict of arrays and path, or None
        What the next fit goes on from, and the checkpoint that had it; None for nothing.
    """

    _front: tuple[int, int]
    _scores_of_mean: Array
    _folds: Array | None
    _resumed_from: tuple[Mapping[str, Array], Path] | None
    _training: Any

    def _plan_of(self, parameters: Mapping[str, Any]) -> TrainingConfig:
        config = super()._plan_of(parameters)
        n_blocks, width = self._front
        maps = (BlockDiagonalDense(n_blocks, width, N_EMBEDDED),) if n_blocks else ()
        architecture = replace(config.architecture, input_layers=(*maps, Scale()))
        return replace(
            config, architecture=architecture, initial=OutputBiasInit(self._scores_of_mean)
        )

    def _folds_for(self, problem: TrainingTask, starts: Sequence[InitialState]) -> Array | None:
        return self._folds

    def _runs(
        self,
        config: TrainingConfig,
        learned: DataInfo,
        data: ValidatedData,
        starts: Sequence[InitialState],
        incremental: bool,
    ) -> list[TrainingRun]:
        runs = super()._runs(config, learned, data, starts, incremental)
        if self._resumed_from:
            resume_runs(runs, *self._resumed_from)
        return runs

    def _keep(
        self, prepared: FitContext, continues: bool, session: PartialFitSession | None = None
    ) -> None:
        """Keep what came of the runs.

        That all epochs were used up is what was wanted; of the user's time limit, of which each leg
        has a part, there is one warning for all legs.
        """
        known = MAX_ITER_REACHED, OUT_OF_TIME
        for run in prepared.runs:
            run.warnings = [message for message in run.warnings if not message.startswith(known)]
        super()._keep(prepared, continues, session)

    def compact(self, n_iter: Array) -> None:
        """End training, after so many epochs of each, for predictions in double precision.

        These do not depend on the rows beside a row by more than nobody can see.
        """
        self._learned: DataInfo = replace(self._learned, dtype=np.dtype(np.float64))
        for name in self._attributes_of(self._learned.network).values():
            arrays = getattr(self, name)
            if arrays is not None:
                setattr(self, name, [array.astype(np.float64) for array in arrays])
        self.n_iter_ = n_iter
        del self._training, self._folds, self._resumed_from


class TableClassifierNetworks(TabularNetworkMixin, BackpropClassifier):
    """Networks for the labels of a table; made by a `TabularClassifier`."""

    def outputs_of(self, scores: Array) -> Array:
        """Return the logits of members, of shape (n_estimators, n, n_outputs): their scores."""
        return scores

    def loss_of(self, said: Array, seen: TableValidationData) -> float:
        """Return the mean log loss of what networks say of rows, with the best temperature."""
        _, loss = calibrated(said, seen.y, seen.weight)
        return loss


class TableRegressorNetworks(TabularNetworkMixin, BackpropRegressor):
    """Networks for the numbers of a table; made by a `TabularRegressor`."""

    def outputs_of(self, scores: Array) -> Array:
        """Return what members say of rows, of shape (n_estimators, n, n_outputs), by their scores.

        That is a prediction, or one for each level; or a mean and a variance.
        """
        said = self._means(scores)
        said = said.reshape(*said.shape[:2], -1)
        if not self._learns_deviation:
            return said
        each = [self._learned.loss.deviation(own) for own in scores]
        std = self._each_in_units_of_y(each, from_zero=True)
        variance = np.square(std.astype(np.float64))
        return np.concatenate([said, variance[..., None]], axis=2)

    def loss_of(self, said: Array, seen: TableValidationData) -> float:
        """Return the share of the loss that is left unexplained, of what is said of rows."""
        if self._folds is not None:
            return 1 - float(self.oof_score_)
        learned = self._learned
        targets = self._known_targets(learned).encode(seen.y, needs_all=False)
        return 1 - float(learned.loss.score(self._scores(seen.X), targets, seen.weight))


@dataclass(frozen=True, eq=False)
class NetworkEnsemble(DropsCachedProperties, FoldEnsemble):
    """An ensemble of networks.

    Parameters
    ----------
    networks : TableClassifierNetworks or TableRegressorNetworks
        The fitted networks.
    view : View
        How they see rows.
    """

    networks: Any
    view: FeatureView

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may ask them at once."""
        return True

    @property
    def max_matmul_size(self) -> int:
        """The multiplications in the largest matrix product while they predict."""
        network: Network = self.networks._learned.network
        return network.max_matmul_size(ROWS_OF_PREDICTOR)

    def outputs(self, X: Array, in_single: bool = False) -> Array:
        """Return what each network says of rows, of shape (n_estimators, n, n_outputs)."""
        predictor = self._in_single if in_single else self._in_double
        with np.errstate(all="ignore"):
            return np.asarray(self.networks.outputs_of(predictor.scores(X)))

    def outputs_of(self, member: int, X: Array) -> Array:
        """Return what one network says of rows, of shape (n, n_outputs), in single precision."""
        with np.errstate(all="ignore"):
            return np.asarray(self.networks.outputs_of(self._of_members[member].scores(X))[0])

    @cached_property
    def _of_members(self) -> list[CachedPredictor]:
        network, parameters = self._in_single.network, self._in_single.parameters
        members = [slice(at, at + 1) for at in range(len(parameters))]
        return [CachedPredictor(network, parameters.members(member)) for member in members]

    @cached_property
    def _in_double(self) -> CachedPredictor:
        return self._predictor(np.float64)

    @cached_property
    def _in_single(self) -> CachedPredictor:
        return self._predictor(np.float32)

    def _predictor(self, dtype: Any) -> CachedPredictor:
        learned = self.networks._learned
        parameters = self.networks._parameters(learned).astype(dtype)
        return CachedPredictor(learned.network, parameters)


class _TrainingCycle(NamedTuple):
    """What a leg of training has led to.

    Parameters
    ----------
    attributes : dict
        Those of the networks.
    said : array of shape (n_said, n, n_outputs)
        What they say of rows that they were not trained on.
    loss : float
        How far that is from the targets.
    n_iter : array of int of shape (n_estimators,)
        The epochs of all legs up to it.
    is_whole : bool
        Whether there was time for all of its epochs.
    """

    attributes: dict[str, Any]
    said: Array
    loss: float
    n_iter: Array
    is_whole: bool

    def is_of_use(self, best: float) -> bool:
        """Return whether it is kept where the least loss before it was `best`."""
        return not self.loss > best * (1 + TOLERANCE if self.is_whole else 1)


def _share_of_training(training: TrainingData) -> float:
    """Return the share of the time for training itself; the rest is for what is said afterwards.

    That takes one of an epoch's three matrix products for each row and member. Of a single epoch,
    the least that training is good for, it is this share that all else leaves.
    """
    n_trained = 3 * training.n_estimators * training.n_train
    n_said = len(training.X)
    if training.watched is not None:
        n_said = training.n_estimators * len(training.watched.X)
    return n_trained / (n_trained + n_said)


def _warn_of_time(time_limit: float, n_iter: Array) -> None:
    """Say that the user's time limit ended training, and after how many epochs that are kept."""
    limit = f"{OUT_OF_TIME}{time_limit:g} seconds are over, of which each ensemble has a part."
    if n_iter.any():
        kept = f"Networks of {n_iter.min()} to {n_iter.max()} epochs are kept."
    else:
        kept = (
            "After less than an epoch nothing has been learned: the weights are those at the start."
        )
    warn(f"{limit} {kept} Raise time_limit, or train fewer members.", ConvergenceWarning)


@dataclass(frozen=True, eq=False)
class NetworkEnsembleFactory(FoldEnsembleFactory):
    """Networks of one configuration.

    Parameters
    ----------
    view : View
        How they see rows.
    n_blocks : int
        The blocks of columns at the beginning of a row, as they see it.
    configuration : Configuration
        What they are like.
    max_iter : int or None
        The most epochs; None for what suits the number of rows.
    build : callable
        Returns networks for (parameters, targets, weights of rows).
    """

    view: FeatureView
    n_blocks: int
    configuration: NetworkDefaults
    max_iter: int | None
    build: Callable[[dict[str, Any], Array, Array | None], Any]

    can_use_any_time: ClassVar[bool] = True

    def train(self, training: TrainingData) -> tuple[FoldEnsemble, Array]:
        """Return the networks, trained, and what they say of rows that were not trained on.

        They train in legs, up to the last that was of use. All members end with the same leg,
        chosen among a few by what is said of all rows: so what is said out of fold stays honest.
        """
        end = time.perf_counter() + training.time_limit * _share_of_training(training)
        n_train = training.n_train
        settings = network_params(self.configuration, n_train, training.n_estimators)
        settings["random_state"] = draw_seed(training.rng)
        networks = self.build(settings, training.y, training.weight)
        networks._front = self.n_blocks, WIDTH
        networks._folds = training.folds
        legs = cycle_lengths(n_train, self.max_iter)
        progress = training.progress
        progress.begin_ensemble()
        task = training.context.subcontext("ensemble", max_subtasks=len(legs))
        task.call_on_fit_task_begin(estimator=training.estimator)
        kept: list[_TrainingCycle] = []
        was_cut_short = False
        for at, n_epochs in enumerate(legs):
            start = time.perf_counter()
            left = end - start
            if kept and (left <= 0 or progress.is_stopped):
                break
            limit = None if math.isinf(left) else max(left, MIN_TIME)
            networks.set_params(max_iter=n_epochs, time_limit=limit)
            progress.begin_leg(networks, at)
            leg = self._leg(networks, training, task.subcontext("leg"), kept)
            now = time.perf_counter()
            is_kept = leg.is_of_use(min((each.loss for each in kept), default=math.inf))
            progress.print_leg(legs, at, leg, now - start, is_kept)
            was_cut_short |= limit is not None and not leg.is_whole and now >= end
            progress.is_stopped |= not leg.is_whole and now < end
            if not is_kept:
                break
            kept.append(leg)
        progress.is_stopped |= task.call_on_fit_task_end(estimator=training.estimator)
        if was_cut_short:
            _warn_of_time(training.estimator.time_limit, kept[-1].n_iter)
        networks.__dict__ = kept[-1].attributes
        networks.compact(kept[-1].n_iter)
        return NetworkEnsemble(networks, self.view), kept[-1].said

    def _leg(
        self, networks: Any, training: TrainingData, task: Any, before: Sequence[_TrainingCycle]
    ) -> _TrainingCycle:
        """Return what one more leg leads to."""
        with task.propagate_callback_context(networks):
            task.call_on_fit_task_begin(estimator=training.estimator)
            networks.fit(training.X, training.y, sample_weight=training.weight)
            wants_end = task.call_on_fit_task_end(estimator=training.estimator)
        training.progress.is_stopped |= wants_end
        networks.set_callbacks()
        if training.watched is None:
            seen = TableValidationData(training.X, training.y, training.weight)
            said = networks.outputs_of(networks._held_out_once.scores[None].copy())
        else:
            seen = training.watched
            said = NetworkEnsemble(networks, self.view).outputs(seen.X)
        loss = networks.loss_of(said, seen)
        n_iter = networks.n_iter_ + (before[-1].n_iter if before else 0)
        is_whole = bool((networks.n_iter_ == networks.max_iter).all())
        return _TrainingCycle(dict(vars(networks)), said, loss, n_iter, is_whole)
