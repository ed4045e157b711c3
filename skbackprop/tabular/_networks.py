"""Networks of the tabular estimators: settings, training in cycles, outputs, and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from ..early_stopping import EarlyStopping
from ..estimators._checkpoint import (
    describe_fit,
    not_readable,
    read_checkpoint,
    resume_model,
    select_state,
    write_checkpoint,
)
from ..estimators._estimator_mixin import with_callbacks
from ..estimators._validation import shallow_copy
from ..estimators.base import BaseNeuralNetwork
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..initializers import Initializer, WeightsAndBiases
from ..layers.columns import BlockDiagonalDense, Scale
from ..nn.prediction import FEW_ROWS, Predictor
from ..nn.rows import Rows
from ..nn.train_state import dump_random_state, load_random_state
from ..optimizers import AdamW
from ..schedules import LinearWarmup
from ..training.config import Config
from ..training.diagnostics import OUT_OF_TIME, warn
from ..training.jobs import JobCount
from ..training.model import Model
from ..training.problem import Problem
from ..training.start import Start
from ..utils.arrays import Array
from ._ensemble_weights import fit_softmax_temperature
from ._model_inputs import WIDTH, FeatureView
from ._monotone import MonotoneInputs

# -------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class EnsembleSettings:
    """Settings that differ between the ensembles of an estimator.

    Parameters
    ----------
    view : FeatureView
        The representation of rows that the networks take.
    hidden_layer_sizes : tuple of int
        The number of units of each hidden layer.
    dropout : float
        The dropout rate.
    weight_decay : float
        The weight decay of AdamW, at a learning rate of one.
    max_batch_size : int
        The size of batches for very many rows.
    large_batch_rate : float
        The learning rate of batches of more than `BATCH_SIZE` rows.
    """

    view: FeatureView
    hidden_layer_sizes: tuple[int, ...]
    dropout: float
    weight_decay: float
    max_batch_size: int
    large_batch_rate: float


# Batches have at most this size, and are smaller for few rows. Above `MANY_ROWS` they have twice as
# many rows, and above `VERY_MANY_ROWS` four times, which takes less time for each row.
BATCH_SIZE = 256
MANY_ROWS, VERY_MANY_ROWS = 12_000, 60_000

FOR_CLASSES = (
    EnsembleSettings("embedded", (128, 128), 0.2, 0.3, 1024, large_batch_rate=0.02),
    EnsembleSettings("encoded", (128, 128), 0.2, 0.3, 1024, large_batch_rate=0.02),
)
FOR_NUMBERS = (
    EnsembleSettings("embedded", (128, 128, 128), 0.1, 0.01, 512, large_batch_rate=0.01),
)

# The number of units that each block is mapped to, in addition to the number itself.
N_EMBEDDED = 3


def _steps_per_epoch(n_train: int, max_batch_size: int = BATCH_SIZE) -> int:
    size = BATCH_SIZE * (1 + (n_train > MANY_ROWS) + 2 * (n_train > VERY_MANY_ROWS))
    return -(-n_train // min(size, max_batch_size, max(32, n_train // 7)))


def network_params(
    defaults: EnsembleSettings,
    n_blocks: int,
    n_train: int,
    n_estimators: int,
    constraints: tuple[int, ...] = (),
) -> dict[str, Any]:
    """Return the constructor parameters of the networks.

    Parameters
    ----------
    defaults : EnsembleSettings
        The settings of the ensemble.
    n_blocks : int
        The number of blocks of encodings that rows begin with.
    n_train : int
        The number of training rows of a network.
    n_estimators : int
        The number of networks.
    constraints : tuple of int, default=()
        The constraint of each encoded column; () for none.
    """
    monotone = [MonotoneInputs(constraints, n_blocks)] if constraints else []
    n_blocks -= int(np.count_nonzero(constraints[:n_blocks]))
    embedding = [BlockDiagonalDense(n_blocks, WIDTH, N_EMBEDDED)] if n_blocks else []
    scale = [] if monotone else [Scale()]  # factors might become negative
    # Batches have almost equal sizes, because a step on a small rest would be too noisy.
    batch_size = -(-n_train // _steps_per_epoch(n_train, defaults.max_batch_size))
    return {
        "hidden_layer_sizes": defaults.hidden_layer_sizes,
        "layers": [*monotone, *embedding, *scale],
        "activation": "silu",
        "dropout": defaults.dropout,
        "solver": AdamW(0.9, 0.95, weight_decay=defaults.weight_decay),
        "alpha": 0.0,
        "batch_size": batch_size,
        "learning_rate": LinearWarmup("cosine", warmup_fraction=0.05),
        "learning_rate_init": 0.01 if n_train <= MANY_ROWS else defaults.large_batch_rate,
        "n_iter_no_change": np.inf,
        "warm_start": True,
        "n_estimators": n_estimators,
        "dtype": "float32",
    }


# ---------------------------------------------------------------------------------- networks


@dataclass(frozen=True)
class OutputBiasInit(Initializer):
    """Initial weights with which the first predictions are close to a constant.

    Hidden weights have the variance 2 / fan_in, output weights 0.01 / fan_in. Weights between
    monotone units are divided by the number of their inputs, because they do not cancel out.

    Parameters
    ----------
    intercepts : tuple of float
        The raw predictions of the constant: the biases of the last layer.
    n_monotone : int, default=0
        The number of monotone inputs, as in `MonotoneInputs`.
    """

    intercepts: tuple[float, ...]
    n_monotone: int = 0

    def draw_all(
        self, rng: np.random.RandomState, shapes: Sequence[tuple[int, ...]]
    ) -> list[WeightsAndBiases]:
        """Draw the weights and biases of all layers."""
        *shapes, output_shape = shapes
        layers = [
            (rng.normal(0, 2**0.5 / shape[0] ** 0.5, shape), np.zeros(shape[1])) for shape in shapes
        ]
        weights = rng.normal(0, 0.1 / output_shape[0] ** 0.5, output_shape)
        layers.append((weights, np.array(self.intercepts)))
        n_inputs = self.n_monotone
        for weights, _ in layers if n_inputs else ():
            weights[-n_inputs:] /= n_inputs
            n_inputs = weights.shape[1] // 2  # half of the hidden units have constraints
        return layers


# The decimals of raw predictions of monotone networks, whose rounding errors are below 1e-12.
_N_DECIMALS = 6


class TabularNetworkMixin(BaseNeuralNetwork):
    """Networks of a tabular estimator: training in cycles, and component outputs.

    Attributes
    ----------
    min_gain : float
        The share of the loss that a cycle must remove so that a longer one begins after it.
    """

    min_gain: ClassVar[float] = 0.05
    is_thread_safe: ClassVar[bool] = True  # several threads may predict at once
    n_jobs: int | None

    @with_callbacks
    def fit_cycle(self, name: str, task: Any, data: TrainingData) -> bool:
        """Train for `max_iter` more epochs; return whether a callback ends training after them.

        If the checkpoints have a cycle of this name, its networks are taken over instead.
        """
        estimator, checkpoints = data.estimator, data.checkpoints
        arguments = {
            "X": data.rows.X,
            "y": data.rows.y,
            "sample_weight": data.rows.weight,
            "folds": data.folds,
        }
        # Other callbacks are propagated, or write the checkpoints of the estimator.
        callbacks = getattr(estimator, "_skl_callbacks", [])
        own = (item for item in callbacks if not hasattr(item, "max_propagation_depth"))
        self.set_callbacks(*(item for item in own if not getattr(item, "resumes", False)))
        self.__dict__.pop("_predictors", None)
        cycle_task = task.subcontext("cycle")
        with cycle_task.propagate_callback_context(self):
            cycle_task.call_on_fit_task_begin(estimator=estimator)
            arrays = checkpoints.read(name)
            if arrays:
                problem, model = self._start_training(arguments)
                self._set_trained(problem, resume_model(model, arrays, checkpoints.path))
            else:
                self._fit_rows(arguments)
            is_stopped: bool = cycle_task.call_on_fit_task_end(estimator=estimator)
        self.set_callbacks()
        if (self.n_iter_ == self.max_iter).all():
            checkpoints.save(name, self)
        return is_stopped

    def _make_problem(
        self,
        config: Config,
        arguments: dict[str, Any],
        start: Start,
        hold_out: EarlyStopping | None,
    ) -> Problem:
        problem = super()._make_problem(config, arguments, start, hold_out)
        return replace(problem, folds=arguments["folds"])

    def _collect_warnings(self, problem: Problem, model: Model) -> list[str]:
        """Return the warnings without the time limit, which has one warning for all cycles."""
        messages = super()._collect_warnings(problem, model)
        return [text for text in messages if not text.startswith(OUT_OF_TIME)]

    def finish(self, n_iter: Array) -> None:
        """End training after `n_iter` epochs of each network, and convert to double precision.

        In double precision, other rows have no visible effect on the prediction of a row.
        """
        self.n_jobs = None
        parameters = self._model.parameters.astype(np.float64)
        model = self._model.with_parameters(parameters, only_predicts=True)
        self._set_model(replace(model, results={**model.results, "n_iter_": n_iter}))

    # ------------------------------------------------------- a component of a mixture

    @property
    def view(self) -> FeatureView:
        """The representation of rows that the networks take."""
        return "embedded" if getattr(self.layers[0], "n_blocks", 0) else "encoded"

    @property
    def max_matmul_size(self) -> int:
        """The multiplications of the largest matrix product of a prediction."""
        return FEW_ROWS * self._model.network.max_matmul_size

    def outputs(self, X: Array, single_precision: bool = False, member: int | None = None) -> Array:
        """Return the outputs of all networks, or of one, of shape (n_networks, n, n_outputs)."""
        is_monotone = isinstance(self.layers[0], MonotoneInputs)
        single_precision &= not is_monotone
        predictors = self.__dict__.setdefault("_predictors", {})
        if (single_precision, member) not in predictors:
            dtype = np.float32 if single_precision else np.float64
            parameters = self._model.parameters.astype(dtype)
            if member is not None:
                parameters = parameters.members(slice(member, member + 1))
            predictors[single_precision, member] = Predictor(
                self._model.network, parameters, FEW_ROWS
            )
        with np.errstate(all="ignore"):
            parts = predictors[single_precision, member].iter_parts(X)
            scores = np.concatenate([block for _, block in parts], axis=1)
            # The place of a row in its block affects rounding, which must not cause a step.
            scores = np.round(scores, _N_DECIMALS) if is_monotone else scores
            return np.asarray(self.convert_raw_predictions(scores))

    def out_of_fold_outputs(self) -> Array:
        """Return the out-of-fold outputs of the training rows, of shape (1, n, n_outputs)."""
        return self.convert_raw_predictions(self._get_out_of_fold().predictions[None].copy())

    def convert_raw_predictions(self, raw_predictions: Array) -> Array:
        """Return the outputs of a component, given raw predictions of networks."""
        return raw_predictions


class TabularClassifierNetworks(TabularNetworkMixin, BackpropClassifier):
    """Networks of a `TabularClassifier`, whose outputs are logits."""

    def held_out_loss(self, outputs: Array, rows: Rows, is_out_of_fold: bool) -> float:
        """Return the mean log loss with the best temperature.

        Overconfidence, which temperature scaling corrects, does not affect this loss, so it does
        not stop training (Holzmueller et al. 2025, arXiv 2501.19195, section 3).
        """
        _, loss = fit_softmax_temperature(outputs, rows.y, rows.weight)
        return loss


class TabularRegressorNetworks(TabularNetworkMixin, BackpropRegressor):
    """Networks of a `TabularRegressor`."""

    min_gain = 0.1  # squared errors fall twice as fast as errors

    def convert_raw_predictions(self, raw_predictions: Array) -> Array:
        """Return the predictions of all networks, of shape (n_networks, n, n_targets, n_outputs).

        Outputs are a prediction, one for each quantile, or a mean and a variance.
        """
        shape = *raw_predictions.shape[:2], self._number_targets.n_targets, -1
        outputs = self._predict_means(raw_predictions).reshape(shape)
        if not self._number_targets.have_std:
            return outputs
        stds = [self._number_targets.loss.predict_std(member) for member in raw_predictions]
        std = self._to_units_of_y(stds, from_zero=True)
        variance = np.square(std.astype(np.float64)).reshape(shape)
        return np.concatenate([outputs, variance], axis=3)

    def held_out_loss(self, outputs: Array, rows: Rows, is_out_of_fold: bool) -> float:
        """Return the unexplained share of the loss."""
        if is_out_of_fold:
            return 1 - float(self.oof_score_)
        targets = self._number_targets.encode(rows.y)
        raw_predictions = self._predict_in_blocks(rows.X, self._average_raw)
        return 1 - float(self._number_targets.loss.score(raw_predictions, targets, rows.weight))


# ---------------------------------------------------------------------------------- cycles

# Each training cycle is twice as long as the one before.
_USUAL_CYCLES, _MAX_CYCLES = 3, 5
# A third cycle, which takes more than half of the time of three, begins if the second one reached
# this share of the gain that later ones take.
_GAIN_FOR_THIRD_CYCLE = 0.2
# The number of steps of the first cycle, and the bounds of its epochs. With many rows, more epochs
# pay off, until even the shortest cycle has many steps.
_STEPS, _MIN_EPOCHS, _MAX_EPOCHS = 100, 2, 8
_MIN_EPOCHS_OF_MANY, _EPOCHS_TIMES_ROWS = 6, 1_500_000

# A cycle is kept if its loss exceeds the lowest one by at most this share. Longer training makes
# networks differ more, and their average gains more from that than each of them loses. Networks of
# very many rows differ too little for that.
TOLERANCE = 0.01


def cycle_lengths(n_train: int, max_iter: int | None) -> list[int]:
    """Return the number of epochs of each possible training cycle.

    Parameters
    ----------
    n_train : int
        The number of training rows of a network.
    max_iter : int or None
        The maximum number of epochs of all cycles; None for no limit.
    """
    n_first = min(_MAX_EPOCHS, max(_MIN_EPOCHS, round(_STEPS / _steps_per_epoch(n_train))))
    if n_train > MANY_ROWS:
        n_min = min(_MIN_EPOCHS_OF_MANY, round(_EPOCHS_TIMES_ROWS / n_train))
        n_first = max(n_first, n_min)
    cycles, n_left = [], math.inf if max_iter is None else max_iter
    for cycle in range(_MAX_CYCLES):
        n_epochs = int(min(n_first * 2**cycle, n_left))
        n_left -= n_epochs
        cycles += [n_epochs] if n_epochs else []
    return cycles


# The multiply-adds of networks in a second on one core, as a rough estimate. It is the same on each
# machine, so that the number of networks does not depend on chance.
_MULTIPLY_ADDS = 5e9


def count_affordable_networks(estimator: Any, n_rows: int, seconds: float) -> int:
    """Return how many networks can be trained for one cycle within a time, at least 2.

    Parameters
    ----------
    estimator : estimator
        The tabular estimator, with fitted features.
    n_rows : int
        The number of training rows of a network.
    seconds : float
        The time for all networks of the first ensemble.
    """
    n_blocks, n_inputs = estimator._features.n_blocks, estimator._features.n_encoded
    hidden_layer_sizes = estimator._configurations[0].hidden_layer_sizes
    widths = [n_inputs + N_EMBEDDED * n_blocks, *hidden_layer_sizes, 1]
    n_weights = N_EMBEDDED * WIDTH * n_blocks + sum(a * b for a, b in pairwise(widths))
    n_visited = n_rows * cycle_lengths(n_rows, estimator.max_iter)[0]
    # Training multiplies each weight three times for each row.
    return max(2, int(seconds * _MULTIPLY_ADDS / (3 * n_weights * n_visited)))


class TrainingData(NamedTuple):
    """Data, folds and limits with which a component is trained.

    Parameters
    ----------
    rows : Rows
        The training rows, in the view of the component.
    n_train : int
        The number of training rows of the model with the largest fold.
    n_estimators : int
        The number of models.
    folds : array of int of shape (n,) or None
        The model that holds out each row; None if there are validation rows.
    held_out : Rows
        The rows that models are evaluated on: the training rows, out of fold, or the user's
        validation rows. With the latter, all models are trained on all training rows.
    rng : RandomState
        The source of all random numbers.
    end : float
        The time of `time.perf_counter` at which training ends; may be infinite.
    estimator : estimator
        The tabular estimator.
    context : CallbackContext
        The callback context of the estimator.
    checkpoints : CycleCheckpoints
        The checkpoints of the networks after each cycle.
    jobs : JobCount
        How many jobs networks and clones are divided among.
    """

    rows: Rows
    n_train: int
    n_estimators: int
    folds: Array | None
    held_out: Rows
    rng: np.random.RandomState
    end: float
    estimator: Any
    context: Any
    checkpoints: CycleCheckpoints
    jobs: JobCount


# A time limit that ends training before the first epoch.
_MIN_TIME = 1e-9


def train_networks(
    networks: Any, number: int, data: TrainingData, is_promising: Callable[[Array], bool]
) -> tuple[Any, Array, bool]:
    """Train networks in cycles, up to the last useful one.

    After the second cycle, another one begins only if the last one has lowered the loss enough. All
    networks end with the same cycle, chosen among a few by the loss of all rows, so that
    out-of-fold predictions remain honest.

    Parameters
    ----------
    networks : TabularNetworkMixin
        The untrained networks.
    number : int
        The number of the ensemble, from 1 on.
    data : TrainingData
        The data.
    is_promising : callable
        Returns whether another cycle follows the first one, given its outputs.

    Returns
    -------
    networks : TabularNetworkMixin
        The trained networks.
    outputs : array of shape (1, n, n_outputs) or (n_estimators, n, n_outputs)
        The out-of-fold outputs, or the outputs for validation rows.
    is_stopped : bool
        Whether a callback has ended training.
    """
    estimator = data.estimator
    task = data.context.subcontext("ensemble", max_subtasks=None)
    task.call_on_fit_task_begin(estimator=estimator)
    best_networks: Any = None
    n_iter: Any = 0
    best_loss, seconds, is_stopped, is_cut_short = math.inf, 0.0, False, False
    cycles = cycle_lengths(data.n_train, estimator.max_iter)
    for index, n_epochs in enumerate(cycles):
        start = time.perf_counter()
        if index:
            # The time of an epoch is estimated from the last cycle.
            is_cut_short |= data.end - start < seconds / cycles[index - 1] * n_epochs
            if is_cut_short or is_stopped:
                break
        time_limit = None if math.isinf(data.end) else max(data.end - start, _MIN_TIME)
        networks = shallow_copy(networks)  # the next cycle copies their state
        networks.max_iter, networks.time_limit = n_epochs, time_limit
        n_epochs_left = sum(cycles[index : max(index + 1, _USUAL_CYCLES)])
        n_epochs_left += sum(cycles[:_USUAL_CYCLES]) * (len(estimator._configurations) - number)
        networks.n_jobs = data.jobs.resolve(data.jobs.seconds_per_epoch * n_epochs_left)
        is_stopped = networks.fit_cycle(f"{number}_{index}", task, data)
        is_complete = bool((networks.n_iter_ == n_epochs).all())
        if data.folds is not None:
            outputs = networks.out_of_fold_outputs()
        else:
            outputs = networks.outputs(data.held_out.X)
        loss = networks.held_out_loss(outputs, data.held_out, data.folds is not None)
        seconds = time.perf_counter() - start
        data.jobs.seconds_per_epoch = seconds * min(networks.n_jobs, data.n_estimators) / n_epochs
        has_tolerance = is_complete and data.n_train <= VERY_MANY_ROWS
        is_useful = not loss > best_loss * (1 + TOLERANCE if has_tolerance else 1)
        if index == 0:
            continues = is_promising(outputs)
        else:
            min_gain = networks.min_gain * (_GAIN_FOR_THIRD_CYCLE if index == 1 else 1)
            continues = is_useful and best_loss - loss > min_gain * abs(best_loss)
        if estimator.verbose:
            n_trained, suffix = int(networks.n_iter_.max()), "" if is_useful else " (not kept)"
            print(
                f"[{type(estimator).__name__}] ensemble {number}, cycle {index + 1}: "
                f"{n_trained} epochs, validation loss {loss:.4g}{suffix}",
                flush=True,
            )
        is_over = start + seconds >= data.end
        is_cut_short |= not is_complete and is_over
        is_stopped |= not is_complete and not is_over
        if is_useful:
            best_loss = min(best_loss, loss)
            best_networks, best_outputs, n_iter = networks, outputs, n_iter + networks.n_iter_
        if not continues:
            break
    is_stopped |= task.call_on_fit_task_end(estimator=estimator)
    assert best_networks is not None  # the first cycle is always useful
    if is_cut_short:
        n_batches, batches = -(-best_networks.t_ // best_networks.batch_size), ""
        if not n_iter.all():
            batches = f", or {n_batches.min()} to {n_batches.max()} batches,"
        warn(
            f"{OUT_OF_TIME}{estimator.time_limit:g} seconds are over, of which each ensemble gets "
            f"a share. Networks of {n_iter.min()} to {n_iter.max()} epochs{batches} are kept. "
            "Increase time_limit, or train fewer networks.",
            ConvergenceWarning,
        )
    best_networks.finish(n_iter)
    return best_networks, best_outputs, is_stopped


# ---------------------------------------------------------------------- checkpoints

# Parameters that may differ when a fit is resumed.
_OMIT = {"n_jobs", "verbose", "random_state"}


class CycleCheckpoints:
    """The networks after each complete training cycle, in the file of a callback `Checkpoint`.

    A resumed fit repeats the steps of the first one, except for cycles in the file.

    Parameters
    ----------
    estimator : estimator
        The tabular estimator.
    resume_from : str, path or None
        The file to resume from.
    """

    def __init__(self, estimator: Any, resume_from: Any) -> None:
        self._estimator = estimator
        callbacks = getattr(estimator, "_skl_callbacks", [])
        self._callbacks = [item for item in callbacks if getattr(item, "resumes", False)]
        self.path = Path(resume_from or "")
        self._checkpoint = {} if resume_from is None else read_checkpoint(self.path)
        self._description: dict[str, Array] = {}
        self._arrays = _select(self._checkpoint, "state")

    def start_stream(self, rng: np.random.RandomState) -> np.random.RandomState:
        """Return the random stream of the fit, or of the first fit if it is resumed."""
        if self._checkpoint:
            try:
                rng = load_random_state(self._arrays["stream"].item())
            except Exception as error:
                raise not_readable(self.path) from error
        elif self._callbacks:
            self._arrays = {"stream": np.array(dump_random_state(rng))}
        return rng

    def check_data(self, data: Sequence[Any]) -> None:
        """Check that a resumed fit has the parameters and data of the checkpoint."""
        if self._checkpoint or self._callbacks:
            self._description = describe_fit(self._estimator, data, _OMIT)
        if self._checkpoint:
            select_state(self._checkpoint, self._description)

    def read(self, cycle: str) -> dict[str, Array]:
        """Return the networks after a cycle as arrays; none if the file does not have them."""
        return self._checkpoint and _select(self._arrays, f"cycles/{cycle}")

    def save(self, cycle: str, networks: Any) -> None:
        """Write the file of each callback, with the networks after one more cycle."""
        if self._callbacks:
            for name, array in networks._model.state.to_arrays().items():
                self._arrays[f"cycles/{cycle}/{name}"] = array.copy()
        for callback in self._callbacks:
            write_checkpoint(callback.path, self._description, self._arrays)


def _select(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """Return the arrays whose names begin with a prefix, by the rest of their names."""
    start = f"{prefix}/"
    return {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}
