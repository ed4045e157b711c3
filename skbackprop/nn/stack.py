"""A stack of networks bound to its rows, which makes the steps of an epoch."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..losses.base import Loss
from ..utils.arrays import BUFFER_SIZE, Array, BufferPool
from .network import Network
from .rows import Batch, Batches, Chunk, Rows
from .step import Step, fsum_or_nan, loss_normalizer, sum_losses
from .train_state import TrainState


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
        self._masks = list(filter(None, state.masks))
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
            self._rng_states = []
            for _, rng in self._orders:
                self._rng_states.append(rng.get_state(legacy=False))
            for mask in self._masks:
                self._rng_states.append(mask.bit_generator.state)

    def restore(self) -> None:
        """Restore the state of the last `save`."""
        for copy, array in zip(self._saved_arrays, self._arrays, strict=True):
            array[...] = copy
        state = self.state
        for records, n_records in zip(state.history, self._n_records, strict=True):
            del records[n_records:]
        state.best, state.stop_reason = self._best, list(self._reasons)
        if self._rng_states is not None:
            for copy, (_, rng) in zip(self._rng_states, self._orders, strict=False):
                rng.set_state(copy)
            for copy, mask in zip(self._rng_states[len(self._orders) :], self._masks, strict=True):
                mask.bit_generator.state = copy

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
        The loss.
    config : Config
        The configuration of the members.
    rows : list of Rows
        The rows of each member.
    state : TrainState
        The training state, changed in place. Members are sorted by the number of rows that they
        visit, the fewest first.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        config: Any,
        rows: Sequence[Rows],
        state: TrainState,
    ) -> None:
        super().__init__(config, state)
        self._network, self._loss, theta = network, loss, state.parameters.theta
        self._pool = BufferPool(theta.dtype)
        self._gradients = state.parameters.with_arrays(np.empty_like(theta))
        self.batches = Batches(rows, state.orders, config.batch_size, self._pool)
        self._normalizer = loss_normalizer(network, loss)
        self._steps: dict[tuple[int, int, int], Step] = {}

    def set_rows(self, rows: Sequence[Rows]) -> bool:
        batches = self.batches
        for order, last_order in zip(self.state.orders, batches.orders, strict=True):
            if order is not last_order:
                return False
        for new_rows, old_rows in zip(rows, batches.rows, strict=True):
            if (
                new_rows.n_rows != old_rows.n_rows
                or new_rows.is_sparse != old_rows.is_sparse
                or (new_rows.weight is None) != (old_rows.weight is None)
            ):
                return False
        batches.set_rows(rows)
        return True

    # ------------------------------------------------------------------- epochs

    def train_epoch(self, rate: Array, deadline: float = math.inf) -> Array:
        for order, rng in self._orders:
            rng.shuffle(order)
        terms: list[list[float]] = [[] for _ in range(len(self.state))]
        with np.errstate(all="ignore"):
            np.setbufsize(BUFFER_SIZE)  # errstate restores the size at its end
            for chunk in self.batches.chunks():
                step, weight_sums = self._step(chunk.members, chunk.batch_size), list[Array]()
                step.set_rate(rate[chunk.members])
                n_samples_seen = self.state.n_samples_seen[chunk.members]
                for batch in chunk.batches:
                    if deadline != math.inf and time.monotonic() > deadline:
                        n_samples_seen += len(weight_sums) * chunk.batch_size
                        raise TimeLimitReached
                    if batch.is_empty is None:
                        step.backpropagate(batch)
                        weight_sums.append(step.update(batch.total))
                    else:
                        weight_sums.append(self._step_separately(step, chunk, batch))
                n_samples_seen += len(weight_sums) * chunk.batch_size
                penalties = step.penalty.value(np.array(weight_sums, dtype=float).T)
                losses = sum_losses(self._loss, chunk) / self._normalizer
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
            member_step = self._step(slice(member, member + 1), chunk.batch_size)
            member_step.set_rate(step.rates[i : i + 1])
            member_batch = batch.member(i)
            member_step.backpropagate(member_batch)
            weight_sums[i : i + 1] = member_step.update(member_batch.total)
            if member_batch.activity_loss is not None:
                batch.activity_loss[i] = member_batch.activity_loss.item()
        return weight_sums

    def _step(self, members: slice, batch_size: int) -> Step:
        """Return the step of some members for a batch size, which is bound once."""
        key = members.start, members.stop, batch_size
        if key not in self._steps:
            config, state = self.config, self.state
            if members.stop - members.start < len(state):
                config, state = config.members(members), state.take(members)
            self._steps[key] = Step(
                self._network,
                self._loss,
                config,
                state,
                self._gradients.members(members),
                batch_size,
                self._pool,
                self.batches.is_sparse,
            )
        return self._steps[key]
