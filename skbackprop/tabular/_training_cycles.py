"""Training of networks in cycles: data, settings, and the rule of the cycles."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from .._sklearn import warn
from ..layers.base import Layer
from ..layers.columns import BlockDiagonalDense, Scale
from ..optimizers import AdamW
from ..schedules import LinearWarmup
from ..training.diagnostics import OUT_OF_TIME
from ..utils.arrays import Array
from ._model_inputs import WIDTH, FeatureView
from ._networks import NetworkEnsemble
from ._prediction import LabeledRows
from ._progress import FitProgress

# -------------------------------------------------------------------------------- settings


@dataclass(frozen=True)
class EnsembleSettings:
    """Settings that differ between the ensembles of an estimator.

    Parameters
    ----------
    embeds : bool
        Whether inputs include a block of encodings of each number.
    hidden : tuple of int
        The units of the hidden layers.
    dropout : float
        The dropout rate.
    weight_decay : float
        The weight decay of AdamW, at a learning rate of one.
    max_batch_size : int
        The size of batches for very many rows.
    large_batch_rate : float
        The learning rate of batches of more than `BATCH_SIZE` rows.
    """

    embeds: bool
    hidden: tuple[int, ...]
    dropout: float
    weight_decay: float
    max_batch_size: int
    large_batch_rate: float


# Batches have at most this size, and are smaller for few rows. Above `MANY_ROWS` they have twice as
# many rows, and above `VERY_MANY_ROWS` four times, which takes less time for each row.
BATCH_SIZE = 256
MANY_ROWS, VERY_MANY_ROWS = 12_000, 60_000

# The default number of networks of an ensemble. Above so many rows half of them suffice, since
# networks that were trained on more rows differ less.
N_ESTIMATORS, MAX_ROWS_OF_FULL_ENSEMBLE = 8, 200_000

FOR_CLASSES = (
    EnsembleSettings(True, (128, 128), 0.2, 0.3, max_batch_size=1024, large_batch_rate=0.02),
    EnsembleSettings(False, (128, 128), 0.2, 0.3, max_batch_size=1024, large_batch_rate=0.02),
)
FOR_NUMBERS = (
    EnsembleSettings(True, (128, 128, 128), 0.1, 0.01, max_batch_size=512, large_batch_rate=0.01),
)

# The number of units that each block is mapped to, in addition to the number itself.
N_EMBEDDED = 3


def _steps_per_epoch(n_train: int, max_batch_size: int = BATCH_SIZE) -> int:
    size = BATCH_SIZE * (1 + (n_train > MANY_ROWS) + 2 * (n_train > VERY_MANY_ROWS))
    return -(-n_train // min(size, max_batch_size, max(32, n_train // 7)))


def network_params(
    defaults: EnsembleSettings, n_blocks: int, n_train: int, n_estimators: int
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
    """
    embedding = [BlockDiagonalDense(n_blocks, WIDTH, N_EMBEDDED)] if n_blocks else []
    layers: list[Layer] = [*embedding, Scale()]
    # Batches of almost equal size: a step on a small rest would be too noisy.
    batch_size = -(-n_train // _steps_per_epoch(n_train, defaults.max_batch_size))
    return {
        "hidden_layer_sizes": defaults.hidden,
        "layers": layers,
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


# ---------------------------------------------------------------------------------- cycles

# Each training cycle is twice as long as the one before. Three are usual, and five the maximum.
_N_CYCLES, _MAX_CYCLES = 3, 5
# A third cycle, which takes more than half of the time of three, begins if the second one reached
# this share of the gain that later ones take.
_GAIN_FOR_THIRD_CYCLE = 0.2
# The number of steps of the first cycle, and the bounds of its epochs. Many rows pay for more of
# them, until the steps of even the shortest cycle are many.
_STEPS, _MIN_EPOCHS, _MAX_EPOCHS = 100, 2, 8
_MIN_EPOCHS_OF_MANY, _EPOCHS_TIMES_ROWS = 6, 1_500_000

# A cycle is kept if its loss exceeds the lowest one by at most this share. Longer training makes
# networks differ more, and their average gains more from that than each of them loses. Networks of
# very many rows differ too little for that.
TOLERANCE = 0.01

# After its first cycle, the training of a further ensemble goes on if it lowers the loss of the
# earlier ensembles by this share. All cycles of an ensemble that adds nothing take 40 % of a fit.
MIN_GAIN_OF_ENSEMBLE = 0.005

# With very many rows, boosting that lowers the out-of-fold loss by less than this share is not
# worth its time, which is several times that of the networks' predictions. About half of the gain
# is one of averaging, which the networks of a prediction have without boosting.
MIN_GAIN_OF_BOOSTING = 0.02


def cycle_lengths(n_train: int, max_iter: int | None) -> list[int]:
    """Return the number of epochs of each training cycle, as many cycles as there may be.

    Parameters
    ----------
    n_train : int
        The number of training rows of a network.
    max_iter : int or None
        The maximum number of epochs of all cycles; None for no limit.
    """
    first = min(_MAX_EPOCHS, max(_MIN_EPOCHS, round(_STEPS / _steps_per_epoch(n_train))))
    if n_train > MANY_ROWS:
        many = min(_MIN_EPOCHS_OF_MANY, round(_EPOCHS_TIMES_ROWS / n_train))
        first = max(first, many)
    cycles, left = [], math.inf if max_iter is None else max_iter
    for cycle in range(_MAX_CYCLES):
        n_epochs = int(min(first * 2**cycle, left))
        left -= n_epochs
        cycles += [n_epochs] if n_epochs else []
    return cycles


class TrainingData(NamedTuple):
    """Data, folds and limits with which a component is trained.

    Parameters
    ----------
    rows : LabeledRows
        The training rows, in the view of the component.
    n_estimators : int
        The number of models.
    folds : array of int of shape (n,) or None
        The model that holds out each row; None if there are validation rows.
    validation : LabeledRows or None
        The user's validation rows. With them all models are trained on all training rows.
    rng : RandomState
        Source of all randomness.
    time_limit : float
        The maximum number of seconds; may be infinite.
    estimator : estimator
        The tabular estimator.
    context : CallbackContext
        Its callback context.
    progress : FitProgress
        Reports progress and keeps checkpoints.
    is_train : array of bool of shape (n,) or None, default=None
        Whether networks are trained on each row; None for all rows. It leaves held-out rows as they
        are.
    """

    rows: LabeledRows
    n_estimators: int
    folds: Array | None
    validation: LabeledRows | None
    rng: np.random.RandomState
    time_limit: float
    estimator: Any
    context: Any
    progress: FitProgress
    is_train: Array | None = None

    def with_arrays(self) -> Self:
        """Return the data with inputs that are arrays, as other estimators than networks need."""
        rows = self.rows._replace(X=self.rows.X[:])
        validation = self.validation
        if validation is not None:
            validation = validation._replace(X=validation.X[:])
        return self._replace(rows=rows, validation=validation)

    @property
    def held_out(self) -> LabeledRows:
        """The rows that models are evaluated on."""
        return self.rows if self.validation is None else self.validation

    @property
    def n_train(self) -> int:
        """The number of training rows of the model with the largest fold."""
        used = slice(None) if self.is_train is None else self.is_train
        n_held_out = 0 if self.folds is None else int(np.bincount(self.folds[used]).max())
        return len(self.rows.y[used]) - n_held_out

    @property
    def may_leave_out_rows(self) -> bool:
        """Whether networks can be trained on some of the rows."""
        return True

    def draw_sample(self, n_train: int) -> Self:
        """Return the data with about `n_train` training rows for each model, drawn at random.

        Each fold keeps the same share of its rows. Rows of weight zero come last.
        """
        share, (_, y, weight) = n_train / self.n_train, self.rows
        order = self.rng.permutation(len(y))
        if weight is not None:
            order = order[np.argsort(weight[order] == 0, kind="stable")]
        folds = np.zeros(len(y), np.intp) if self.folds is None else self.folds[order]
        is_train = np.zeros(len(y), dtype=bool)
        for fold in range(folds.max() + 1):
            own = order[folds == fold]
            is_train[own[: max(1, round(share * len(own)))]] = True
        return self._replace(is_train=is_train)


# A time limit that ends training before the first epoch.
MIN_TIME = 1e-9

# If the time does not suffice for the first cycle, it is shortened to at least this number of
# epochs, and then to fewer rows. The learning rate has to fall to zero in any case: on 200,000 rows
# three epochs of 20,000 had an excess log loss of 0.04, and half an epoch of all rows, in about the
# same time, one of 0.11.
_SHORT_EPOCHS, _MIN_SHORT_ROWS = 3, 1_000


class EpochTimer:
    """Callback of networks that measures the time of their epochs.

    Attributes
    ----------
    seconds : float
        The time of the last epoch.
    """

    def __init__(self) -> None:
        self._start = self.seconds = 0.0

    def setup(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Look at the clock when an epoch begins."""
        if context.task_name == "epoch":
            self._start = time.perf_counter()

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Look at the clock when an epoch ends."""
        if context.task_name == "epoch":
            self.seconds = time.perf_counter() - self._start

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing."""


def measure_epoch(networks: Any, data: TrainingData) -> float:
    """Return the seconds of an epoch, measured on two batches with copies of the networks."""
    timer, n_rows = EpochTimer(), 2 * networks.batch_size
    copies = copy.copy(networks).set_params(max_iter=1).set_callbacks(timer)
    every_row = data._replace(folds=None, rng=np.random.RandomState(0))
    sample = every_row.draw_sample(n_rows)
    with warnings.catch_warnings():  # which the networks will issue themselves
        warnings.simplefilter("ignore")
        copies.fit_cycle(sample.rows, None, is_train=sample.is_train)
    return timer.seconds * data.n_train / n_rows


def shorten_training(
    networks: Any, cycles: list[int], data: TrainingData
) -> tuple[list[int], TrainingData]:
    """Return cycles and data with which training ends within the time limit.

    If the first cycle would take longer, as measured, it is the only one. It has fewer epochs then,
    and if necessary fewer rows, so that the learning rate still falls to zero. Up to `MANY_ROWS`
    training rows nothing changes.

    Parameters
    ----------
    networks : TabularNetworkMixin
        The untrained networks.
    cycles : list of int
        The epochs of each cycle without a time limit.
    data : TrainingData
        The data.
    """
    n_train = data.n_train
    is_measured = MIN_TIME < data.time_limit < math.inf and n_train > MANY_ROWS
    if not (is_measured and data.may_leave_out_rows):
        return cycles, data
    start = time.perf_counter()
    epoch = max(measure_epoch(networks, data), MIN_TIME)
    left = max(data.time_limit - (time.perf_counter() - start), MIN_TIME)
    data = data._replace(time_limit=left)
    n_possible = max(left / epoch - _share_of_predictions(data), 0.0)
    if n_possible >= cycles[0]:
        return cycles, data
    n_epochs = max(min(_SHORT_EPOCHS, cycles[0]), int(n_possible))
    n_rows = max(_MIN_SHORT_ROWS, int(n_train * n_possible / n_epochs))
    if n_rows < n_train:
        data = data.draw_sample(n_rows)
    limit = data.estimator.time_limit
    warn(
        f"time_limit={limit:g} seconds do not suffice for a first training cycle. So each network "
        f"is trained on {data.n_train:,} of {n_train:,} rows, for {n_epochs} epoch(s). Increase "
        "time_limit, or train fewer networks.",
        ConvergenceWarning,
    )
    return [n_epochs], data


def _share_of_predictions(data: TrainingData) -> float:
    """Return the time of predicting held-out rows, divided by that of an epoch of all rows.

    It is one of the three matrix products of an epoch for each row and network.
    """
    n_networks = 1 if data.validation is None else data.n_estimators
    n_all = data._replace(is_train=None).n_train
    return len(data.held_out.y) * n_networks / (3 * data.n_estimators * n_all)


class CycleResult(NamedTuple):
    """Result of a training cycle.

    Parameters
    ----------
    networks : TabularNetworkMixin
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

    @classmethod
    def evaluate(cls, networks: Any, data: TrainingData, n_iter_before: Array | int) -> Self:
        """Evaluate networks at the end of a cycle."""
        if data.validation is None:
            outputs = networks.out_of_fold_outputs()
        else:
            outputs = NetworkEnsemble(networks, "encoded").outputs(data.validation.X)
        loss = networks.loss_of_outputs(outputs, data.held_out, data.validation is None)
        is_complete = bool((networks.n_iter_ == networks.max_iter).all())
        return cls(networks, outputs, loss, networks.n_iter_ + n_iter_before, is_complete)

    def is_useful(self, best_loss: float, n_train: int) -> bool:
        """Return whether the cycle is kept, given the lowest loss of earlier cycles."""
        has_tolerance = self.is_complete and n_train <= VERY_MANY_ROWS
        return not self.loss > best_loss * (1 + TOLERANCE if has_tolerance else 1)

    def lowers(self, best_loss: float, index: int) -> bool:
        """Return whether the cycle lowers the loss enough for a longer one.

        Parameters
        ----------
        best_loss : float
            The lowest loss of earlier cycles.
        index : int
            The number of earlier cycles; at least 1.
        """
        min_gain = self.networks.min_gain * (_GAIN_FOR_THIRD_CYCLE if index == 1 else 1)
        return best_loss - self.loss > min_gain * abs(best_loss)


def train_networks(
    networks: Any,
    view: FeatureView,
    cycles: Sequence[int],
    data: TrainingData,
    is_promising: Callable[[Array], bool],
) -> tuple[NetworkEnsemble, Array, Array]:
    """Train networks in cycles, up to the last useful one.

    After the second cycle, another one begins only if the last one has lowered the loss enough. All
    networks end with the same cycle, chosen among a few by the loss of all rows, so that
    out-of-fold predictions remain honest.

    Parameters
    ----------
    networks : TabularNetworkMixin
        The untrained networks.
    view : FeatureView
        The representation of rows that they take.
    cycles : sequence of int
        The epochs of each cycle.
    data : TrainingData
        The data.
    is_promising : callable
        Returns whether another cycle follows the first one, given its outputs.

    Returns
    -------
    ensemble : NetworkEnsemble
        The trained networks.
    outputs : array of shape (1, n, n_outputs) or (n_estimators, n, n_outputs)
        Their out-of-fold outputs, or those for validation rows.
    first_outputs : array of the same shape
        The outputs after the first cycle.
    """
    # The time that is not needed for predictions of held-out rows is for training.
    work = 1.0
    if data.is_train is not None:
        work = cycles[0] * data.n_train / data._replace(is_train=None).n_train
    share = work / (work + _share_of_predictions(data))
    end = time.perf_counter() + share * data.time_limit
    progress, estimator = data.progress, data.estimator
    progress.n_ensembles_begun += 1
    task = data.context.subcontext("ensemble", max_subtasks=None)
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
            networks.fit_cycle(data.rows, data.folds, checkpoint, data.is_train)
            progress.is_stopped |= cycle_task.call_on_fit_task_end(estimator=estimator)
        networks.set_callbacks()
        cycle = CycleResult.evaluate(networks, data, 0 if kept is None else kept.n_iter)
        now, is_useful = time.perf_counter(), cycle.is_useful(best_loss, data.n_train)
        if index == 0:
            first_outputs = cycle.outputs
            continues = is_promising(first_outputs)
        else:
            continues = is_useful and cycle.lowers(best_loss, index)
        n_cycles = max(_N_CYCLES, index + 2) if continues else index + 1
        progress.print_cycle(cycles[:n_cycles], index, cycle, now - start, is_useful)
        was_cut_short |= limit is not None and not cycle.is_complete and now >= end
        progress.is_stopped |= not cycle.is_complete and now < end
        if is_useful:
            best_loss = cycle.loss if kept is None else min(best_loss, cycle.loss)
            kept = cycle
        if not continues:
            break
    progress.is_stopped |= task.call_on_fit_task_end(estimator=estimator)
    assert kept is not None  # the first cycle is always useful
    if was_cut_short:
        n_rows = np.mean(kept.networks.t_)
        if kept.n_iter.any():
            result = f"Networks of {kept.n_iter.min()} to {kept.n_iter.max()} epochs are kept."
        elif n_rows:
            share = n_rows / data.n_train
            result = f"Networks of {share:.2%} of an epoch are kept."
        else:
            result = "They were over before the first batch, so nothing has been learned."
        warn(
            f"{OUT_OF_TIME}{estimator.time_limit:g} seconds are over, of which each ensemble gets "
            f"a share. {result} Increase time_limit, or train fewer networks.",
            ConvergenceWarning,
        )
    kept.networks.finish(kept.n_iter)
    return NetworkEnsemble(kept.networks, view), kept.outputs, first_outputs
