"""Stacks of networks bound to their rows: steps, with penalties and clipping, and epochs."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter, is_not
from typing import Any, Literal

import numpy as np

from ..layers.base import BatchMemory
from ..losses.base import Loss, separate_losses
from ..utils.arrays import (
    BUFFER_SIZE,
    Array,
    BufferPool,
    FloatOrPerMember,
    cast_hyperparameters,
    iter_column_blocks,
)
from ..utils.configurable import check_in_place
from .network import BoundNetwork, Network
from .rows import Batch, Batches, Chunk, Rows
from .train_state import TrainState

# The number of columns that are summed at once.
_COLUMNS = 4096


@dataclass(frozen=True)
class L2:
    """L2 penalty: alpha / 2 * sum(W^2), divided by the total weight of the training rows.

    Other penalties derive from this class.

    Parameters
    ----------
    alpha : float or array of shape (n_estimators, 1), default=0.0
        The strength, 0 or more.
    """

    alpha: FloatOrPerMember = 0.0

    def accumulate(self, weights: Array) -> Array:
        """Return the sums over the weights that `value` needs, of shape (n_estimators,)."""
        squares: Array = np.vecdot(weights, weights)
        return squares

    def value(self, sums: Array) -> Array:
        """Return undivided penalties from float64 sums of shape (n_estimators, n_steps)."""
        # Where alpha is 0, the sum of squares may have overflowed.
        return np.where(np.equal(self.alpha, 0), 0.0, 0.5 * self.alpha * sums)

    def add_gradient(
        self, blocks: Sequence[tuple[Array, Array, Array]], scale: FloatOrPerMember
    ) -> None:
        """Add `scale` times the gradient, for each block of (weights, gradient, scratch).

        On return the scratch arrays are overwritten.
        """
        (factor,) = cast_hyperparameters(blocks[0][0], self.alpha * scale)
        for weights, gradient, scratch in blocks:
            np.multiply(weights, factor, out=scratch)
            np.add(gradient, scratch, out=gradient)


@dataclass(frozen=True)
class L1L2(L2):
    """Elastic-net penalty: alpha * (l1_ratio * sum(|W|) + (1 - l1_ratio) / 2 * sum(W^2)).

    It is divided by the total weight of the training rows. The gradient of |W| is sign(W), which
    is 0 where W = 0 (Zou & Hastie 2005, section 2; parameters as in scikit-learn's `ElasticNet`).

    Parameters
    ----------
    alpha : float or array of shape (n_estimators, 1), default=0.0
        The strength, 0 or more.
    l1_ratio : float or array of shape (n_estimators, 1), default=0.5
        The share of the L1 penalty, in [0, 1].
    """

    alpha: FloatOrPerMember = 0.0
    l1_ratio: FloatOrPerMember = 0.5

    def accumulate(self, weights: Array) -> Array:
        # Sums in float64 over fixed pieces do not depend on the size of the stack.
        magnitudes = np.zeros(len(weights))
        for start in range(0, weights.shape[1], _COLUMNS):
            magnitudes += np.abs(weights[:, start : start + _COLUMNS]).sum(axis=1)
        squares = np.vecdot(weights, weights).astype(np.float64)
        share = np.ravel(self.l1_ratio)
        return np.asarray(2 * share * magnitudes + (1 - share) * squares)

    def add_gradient(
        self, blocks: Sequence[tuple[Array, Array, Array]], scale: FloatOrPerMember
    ) -> None:
        l1, l2 = cast_hyperparameters(
            blocks[0][0],
            self.alpha * self.l1_ratio * scale,
            self.alpha * (1 - self.l1_ratio) * scale,
        )
        for weights, gradient, scratch in blocks:
            np.sign(weights, out=scratch)
            np.multiply(scratch, l1, out=scratch)
            np.add(gradient, scratch, out=gradient)
            np.multiply(weights, l2, out=scratch)
            np.add(gradient, scratch, out=gradient)


# Within these bounds a sum of squares in single precision neither overflows nor loses small values.
_TINY, _HUGE = 1e-30, 1e30


class Step:
    """Training step of some members, bound to one batch size, to their state and gradients.

    Parameters
    ----------
    stack : Stack
        The stack, whose state is changed in place, and whose gradients each step overwrites.
    members : slice
        The members.
    n_rows : int
        The number of rows of a batch.

    Attributes
    ----------
    penalty : L2
        The penalty of these members.
    """

    def __init__(self, stack: Stack, members: slice, n_rows: int) -> None:
        config, state, gradients = stack.config, stack.state, stack.gradients.members(members)
        if members.stop - members.start < len(state):
            config, state = config.members(members), state.take(members)
        self._loss: Any = stack.loss
        self.penalty, self._weights = config.penalty, state.parameters.regularized
        rngs, is_sparse = list(filter(None, state.layer_rngs)), stack.batches.is_sparse
        self._pass = BoundNetwork(
            stack.network, state.parameters, n_rows, stack.pool, gradients, is_sparse, rngs
        )
        self._has_penalty = bool(np.any(self.penalty.alpha))
        self._zero_sums = np.zeros(len(state))
        self._blocks = [
            (weights, gradient, stack.pool.get("penalty", weights.shape))
            for weights, gradient in iter_column_blocks(self._weights, gradients.regularized)
        ]
        self._is_checked = False
        self._n_rows, self._theta, self._g = n_rows, state.parameters.theta, gradients.theta
        self._optimizer, self._moments = config.solver, state.optimizer
        self._clips, self._clip_norm = bool(np.isfinite(config.clip_norm).any()), config.clip_norm
        self._average, self._averages = config.average, state.average
        self._buffers = state.parameters.statistics

    def set_rate(self, rates: Array) -> None:
        """Set the learning rate of each member, an array of shape (n_estimators, 1)."""
        self.rates = rates
        self._rate: FloatOrPerMember = rates.item() if len(rates) == 1 else rates

    def update(self, total: FloatOrPerMember) -> Array:
        """Update the parameters after `backpropagate` of a batch whose rows weigh `total`.

        Returns the sums over the weights for the penalty.
        """
        sums = self.add_penalty_gradient(total)
        theta, g, rate = self._theta, self._g, self._rate
        if self._clips:
            clip_by_global_norm(g, self._clip_norm)
        self._optimizer.decay(self._weights, rate)
        result = self._optimizer.step(theta, g, self._moments, rate)
        if result is not None:
            check_in_place(self._optimizer, "step(theta, g, state, rate)", "theta", result, theta)
        if self._average is not None:
            self._average.update(theta, g, self._averages, self._n_rows, self._buffers)
        return sums

    def backpropagate(self, batch: Batch) -> None:
        """Write the raw predictions to the batch, and the gradient of the loss to `gradients`."""
        context = self._pass.batch
        context.weight, context.total = batch.weight, batch.total
        if isinstance(batch.weight, np.ndarray) and batch.weight.shape[-1] > 1:
            context.weight = batch.weight.mean(axis=-1, keepdims=True)
        self._pass.forward(batch.x, batch.predictions)
        if self._pass.activity_loss is not None:
            batch.activity_loss = _sum_by_weight(self._pass.activity_loss, context)
        delta = self._pass.delta
        if self._is_checked:
            self._loss.gradient(batch.predictions, batch.y, delta)
        else:
            self._check_gradient(batch, delta)
        np.multiply(delta, batch.weight, out=delta)
        self._pass.backward()

    def _check_gradient(self, batch: Batch, delta: Array) -> None:
        """Compute the gradient of the first batch, and check that the loss has written it.

        With a weight for each target, check that the loss has no term of several targets.
        """
        if isinstance(batch.weight, np.ndarray) and batch.weight.shape[-1] > 1:
            separate_losses(self._loss, batch.predictions, batch.y)
        delta.fill(np.nan)
        result = self._loss.gradient(batch.predictions, batch.y, delta)
        check_in_place(self._loss, "gradient(raw_prediction, y, out)", "out", result, delta)
        if np.isnan(delta).all() and np.isfinite(batch.predictions).all():
            raise TypeError(
                f"{type(self._loss).__name__}.gradient(raw_prediction, y, out) must write the "
                "gradient to out, but wrote nothing or only NaN. Write out[...] = result, or use "
                "out=out in NumPy functions."
            )
        self._is_checked = True

    def add_penalty_gradient(self, total: FloatOrPerMember) -> Array:
        """Add the gradient of the penalty, divided by `total`, the weight of the rows.

        Returns the sums over the weights from which the penalty computes its value, of shape
        (n_estimators,).
        """
        if not self._has_penalty:
            return self._zero_sums
        self.penalty.add_gradient(self._blocks, 1 / total)
        sums: Array = self.penalty.accumulate(self._weights)
        return sums


def clip_by_global_norm(g: Array, clip_norm: FloatOrPerMember) -> None:
    """Clip the gradients of each member in place by their global norm.

    g = clip_norm / |g| * g where |g| > clip_norm, with the Euclidean norm over all parameters of a
    member (Pascanu et al. 2013, algorithm 1). Gradients that are not finite stay as they are; the
    training checks for them after each epoch.

    Parameters
    ----------
    g : array of shape (n_estimators, p)
        The gradients.
    clip_norm : float or array of shape (n_estimators, 1)
        The maximum norm; infinity for no clipping.
    """
    bounds = np.broadcast_to(clip_norm, (len(g), 1)).ravel().tolist()
    for gradient, square, bound in zip(g, np.vecdot(g, g).tolist(), bounds, strict=True):
        if not _TINY < square < _HUGE:
            square = float(np.square(gradient, dtype=np.float64).sum())
        if bound < (norm := math.sqrt(square)) < math.inf:
            np.multiply(gradient, bound / norm, out=gradient)


def _sum_by_weight(values: Array, batch: BatchMemory) -> Array:
    """Return the weighted sum over the rows of a batch, in double precision, for each member."""
    losses = np.atleast_2d(values).astype(np.float64)
    weight = batch.weight[..., 0] if isinstance(batch.weight, np.ndarray) else batch.weight
    return np.asarray((losses * weight).sum(axis=1) * np.ravel(batch.total))


def loss_normalizer(network: Network, loss: Loss) -> int:
    """Return the number of targets by which the reported loss of a row is divided.

    Only the reported loss is a mean: the gradient is that of the sum over the targets.
    """
    return network.n_units[-1] // loss.n_outputs_per_target if loss.average_over_outputs else 1


def sum_losses(loss: Loss, chunk: Chunk) -> Array:
    """Return the weighted loss of each batch of a chunk, from its raw predictions.

    The losses of layers are included.

    Returns
    -------
    losses : float64 array of shape (n_estimators, n_batches)
        Sums over the rows of each batch, not divided by their weight.
    """
    weight = chunk.raw_weight
    if weight is not None and weight.shape[2] > 1:
        values = (loss.value_per_target(chunk.predictions, chunk.y) * weight).sum(axis=2)
    else:
        values = loss.value(chunk.predictions, chunk.y)
        if np.shape(values) != chunk.predictions.shape[:-1]:
            raise ValueError(
                f"{type(loss).__name__}.value(raw_prediction, y) must return the loss of each row, "
                f"of shape (networks, n) = {chunk.predictions.shape[:-1]}, but returned the shape "
                f"{np.shape(values)} for raw predictions of shape {chunk.predictions.shape}. Sum "
                "over the last axis."
            )
        if weight is not None:
            values = values * weight[:, :, 0]
    # A sum that also converts adds in an order that depends on the size of the stack.
    values = values.astype(np.float64, copy=False)
    batch_losses = values.reshape(len(values), len(chunk.batches), chunk.batch_size)
    sums = np.asarray(batch_losses.sum(axis=2))
    for i, batch in enumerate(chunk.batches):
        if batch.activity_loss is not None:
            sums[:, i] += batch.activity_loss
    return sums


def fsum_or_nan(values: list[float]) -> float:
    """Return the exactly rounded sum, or NaN if it is not finite."""
    try:
        return math.fsum(values)
    except (ValueError, OverflowError):
        return math.nan


class TimeLimitReached(Exception):
    """The time limit of training has been reached before the end of an epoch."""


class BaseStack(ABC):
    """Networks of one architecture that train epoch by epoch, with rollback of an epoch.

    Parameters
    ----------
    config : Config
        The configuration of the members.
    state : TrainState
        The training state, changed in place.

    Attributes
    ----------
    initial_rate : array of shape (n_estimators, 1)
        The learning rates that schedules start from.
    """

    def __init__(self, config: Any, state: TrainState) -> None:
        self.config, self.state, n = config, state, len(state)
        self.initial_rate = np.broadcast_to(config.learning_rate_init, (n, 1)).astype(float)
        # Members that share an order share its random state, so each order is shuffled once.
        orders: dict[int, tuple[Array, np.random.RandomState]] = {}
        for order, rng in zip(state.orders, state.rngs, strict=True):
            if config.shuffle and order is not None and rng is not None:
                orders[id(order)] = order, rng
        self._orders = list(orders.values())
        self._layer_rngs = list(filter(None, state.layer_rngs))
        self._arrays = state.changed_arrays() + [order for order, _ in self._orders]
        self._saved_arrays = list(map(np.empty_like, self._arrays))
        self._rng_states: list[Any] | None = None
        self._n_records, self._best, self._reasons = [0] * n, state.best, list(state.stop_reason)

    def set_rows(self, rows: Sequence[Rows]) -> bool:
        """Replace the rows by as many of the same kind; return whether that is possible."""
        return False

    @abstractmethod
    def train_epoch(self, rate: Array, deadline: float = math.inf) -> Array:
        """Make the steps of an epoch; return each member's mean loss, penalty included.

        The loss of each batch is computed before its step, and counts by the batch's weight.

        Parameters
        ----------
        rate : array of shape (n_estimators, 1)
            The learning rates.
        deadline : float, default=np.inf
            The time, by `time.monotonic`, after which no further batch begins.

        Returns
        -------
        losses : array of shape (n_estimators,)
            The losses, which may be infinite or NaN.

        Raises
        ------
        TimeLimitReached
            After the deadline. The state is then that after the last complete step.
        """

    # ---------------------------------------------------------------- rollback

    def save(self, *, with_random_states: bool = True) -> None:
        """Copy all that an epoch changes, for `restore`.

        Reading a random state takes as long as a step on a few rows, so it is optional.
        """
        for copy, array in zip(self._saved_arrays, self._arrays, strict=True):
            copy[...] = array
        state = self.state
        self._n_records = list(map(len, state.history))
        self._best, self._reasons = state.best, list(state.stop_reason)
        self._rng_states = None
        if with_random_states:
            self._rng_states = [rng.get_state(legacy=False) for _, rng in self._orders]
            self._rng_states += [rng.bit_generator.state for rng in self._layer_rngs]

    def restore(self) -> None:
        """Restore the state of the last `save`."""
        for copy, array in zip(self._saved_arrays, self._arrays, strict=True):
            array[...] = copy
        state = self.state
        for history, n_records in zip(state.history, self._n_records, strict=True):
            history.truncate(n_records)
        state.best, state.stop_reason = self._best, list(self._reasons)
        if self._rng_states is not None:
            for copy, (_, rng) in zip(self._rng_states, self._orders, strict=False):
                rng.set_state(copy)
            layer_states = self._rng_states[len(self._orders) :]
            for copy, layer_rng in zip(layer_states, self._layer_rngs, strict=True):
                layer_rng.bit_generator.state = copy

    def restore_members(self, members: Array) -> None:
        """Restore the arrays of the members whose training ends, by an array of bool."""
        for copy, array in zip(self._saved_arrays, self.state.changed_arrays(), strict=False):
            array[members] = copy[members]


class Stack(BaseStack):
    """Networks of one architecture with their rows, bound to their training state.

    Parameters
    ----------
    network : Network
        The architecture, with the layers for training only.
    loss : Loss
        The loss of a row, to which layers may add losses of their own.
    config : Config
        The configuration of the members.
    rows : list of Rows
        The rows of each member.
    state : TrainState
        The training state, changed in place. Members are sorted by the number of rows that they
        visit, the fewest first.
    mean_over : {"batch", "epoch"}, default="batch"
        The rows over which the loss is averaged, as in `Batches`.

    Attributes
    ----------
    gradients : Parameters
        The gradients of the last step.
    batches : Batches
        The batches of an epoch.
    pool : BufferPool
        The memory for buffers.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        config: Any,
        rows: Sequence[Rows],
        state: TrainState,
        mean_over: Literal["batch", "epoch"] = "batch",
    ) -> None:
        super().__init__(config, state)
        self.network, self.loss, theta = network, loss, state.parameters.theta
        self.pool = BufferPool(theta.dtype)
        self.gradients = state.parameters.with_arrays(np.empty_like(theta))
        self.batches = Batches(rows, state.orders, config.batch_size, self.pool, mean_over)
        self._normalizer = loss_normalizer(network, loss)
        self._steps: dict[tuple[int, int, int], Step] = {}

    def set_rows(self, rows: Sequence[Rows]) -> bool:
        batches, get_kind = self.batches, attrgetter("n_rows", "is_sparse", "n_weights")
        if any(map(is_not, self.state.orders, batches.orders)):
            return False
        if list(map(get_kind, rows)) != list(map(get_kind, batches.rows)):
            return False
        batches.set_rows(rows)
        return True

    # ------------------------------------------------------------------- epochs

    def train_epoch(self, rate: Array, deadline: float = math.inf) -> Array:
        for order, rng in self._orders:
            rng.shuffle(order)
        terms: list[list[float]] = [[] for _ in range(len(self.state))]
        # Each member makes at least one step of a fit, however short its time is.
        is_waiting, is_late = np.full(len(self.state), not self.state.epoch.any()), False
        is_cut = False
        with np.errstate(all="ignore"):
            np.setbufsize(BUFFER_SIZE)  # errstate restores the size at its end
            for chunk in self.batches.chunks():
                step, weight_sums = self.bind_step(chunk.members, chunk.batch_size), list[Array]()
                step.set_rate(rate[chunk.members])
                n_samples_seen = self.state.n_samples_seen[chunk.members]
                for batch in chunk.batches:
                    is_late = is_late or (deadline != math.inf and time.monotonic() > deadline)
                    if is_late and not is_waiting[chunk.members].any():
                        is_cut = True
                        break
                    is_waiting[chunk.members] = False
                    if batch.is_empty is None:
                        step.backpropagate(batch)
                        weight_sums.append(step.update(batch.total))
                    else:
                        weight_sums.append(self._step_separately(step, chunk, batch))
                n_samples_seen += len(weight_sums) * chunk.batch_size
                if is_cut and is_waiting.any():
                    continue
                if is_cut:
                    raise TimeLimitReached
                penalties = step.penalty.value(np.array(weight_sums, dtype=float).T)
                losses = sum_losses(self.loss, chunk) / self._normalizer
                lists = terms[chunk.members], losses.tolist(), penalties.tolist()
                for member_terms, batch_losses, batch_penalties in zip(*lists, strict=True):
                    member_terms += batch_losses
                    member_terms += batch_penalties
            self.state.flush_subnormals()
            # Exactly rounded sums do not depend on how an epoch is split into chunks.
            totals = np.array([fsum_or_nan(values) for values in terms])
            return np.asarray(totals / self.batches.total_weights)

    def _step_separately(self, step: Step, chunk: Chunk, batch: Batch) -> Array:
        """Make a step for each member whose batch has a positive weight."""
        batch.predictions[...] = 0
        weight_sums = np.zeros(chunk.members.stop - chunk.members.start)
        is_empty = np.broadcast_to(np.asarray(batch.is_empty), weight_sums.shape)
        batch.activity_loss = np.zeros(len(weight_sums))
        for i in np.flatnonzero(~is_empty).tolist():
            member = chunk.members.start + i
            member_step = self.bind_step(slice(member, member + 1), chunk.batch_size)
            member_step.set_rate(step.rates[i : i + 1])
            member_batch = batch.member(i)
            member_step.backpropagate(member_batch)
            weight_sums[i : i + 1] = member_step.update(member_batch.total)
            if member_batch.activity_loss is not None:
                batch.activity_loss[i] = member_batch.activity_loss.item()
        return weight_sums

    def bind_step(self, members: slice, batch_size: int) -> Step:
        """Return the step of some members for a batch size, which is bound once."""
        key = members.start, members.stop, batch_size
        if key not in self._steps:
            self._steps[key] = Step(self, members, batch_size)
        return self._steps[key]
