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
    """Networks of one architecture that train epoch by epoch, each of which can be undone.

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
        # Members that share an order share its random state; it is shuffled once.
        pairs = zip(state.orders, state.rngs, strict=True)
        self._shuffled = list(
            {
                id(order): (order, rng)
                for order, rng in pairs
                if config.shuffle and order is not None and rng is not None
            }.values()
        )
        self._changed = state.changed_arrays()
        self._saved = [np.empty_like(array) for array in self._changed]
        self._saved_orders = [np.empty_like(order) for order, _ in self._shuffled]
        self._positions: list[Any] | None = None
        self._n_records, self._best, self._reasons = [0] * n, state.best, list(state.stop_reason)

    def set_rows(self, rows: Sequence[Rows]) -> bool:
        """Replace the rows by others of the same number and kind; return whether they are."""
        return False

    @abstractmethod
    def train_epoch(self, rate: Array, deadline: float = math.inf) -> Array:
        """Make the steps of an epoch; return each member's mean loss, penalty included.

        The mean goes over the epoch's batches as they were visited, each by its weight.

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
            After the deadline. The state is then that after the batches so far.
        """

    # ---------------------------------------------------------------- rollback

    def save(self, *, with_random_states: bool = True) -> None:
        """Copy all that an epoch changes.

        To read the position of a random state takes as long as a step on a few rows.
        """
        for copy, array in zip(self._saved, self._changed, strict=True):
            copy[...] = array
        for copy, (order, _) in zip(self._saved_orders, self._shuffled, strict=True):
            copy[...] = order
        state = self.state
        self._n_records = [len(records) for records in state.history]
        self._best, self._reasons = state.best, list(state.stop_reason)
        self._positions = None
        if with_random_states:
            self._positions = [rng.get_state(legacy=False) for _, rng in self._shuffled]
            self._positions += [mask.bit_generator.state for mask in self._masks]

    def restore(self) -> None:
        """Restore the state of the last `save`."""
        for copy, array in zip(self._saved, self._changed, strict=True):
            array[...] = copy
        for copy, (order, _) in zip(self._saved_orders, self._shuffled, strict=True):
            order[...] = copy
        state = self.state
        for records, n_records in zip(state.history, self._n_records, strict=True):
            del records[n_records:]
        state.best, state.stop_reason = self._best, list(self._reasons)
        if self._positions is not None:
            for position, (_, rng) in zip(self._positions, self._shuffled, strict=False):
                rng.set_state(position)
            for position, mask in zip(
                self._positions[len(self._shuffled) :], self._masks, strict=True
            ):
                mask.bit_generator.state = position

    def restore_members(self, members: Array) -> None:
        """Restore the arrays of some members, an array of bool, whose training ends."""
        for copy, array in zip(self._saved, self._changed, strict=True):
            array[members] = copy[members]

    @property
    def _masks(self) -> list[np.random.Generator]:
        return [mask for mask in self.state.masks if mask is not None]


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
        n_rows = [
            each.n_rows if order is None else len(order)
            for each, order in zip(rows, state.orders, strict=True)
        ]
        sizes = [min(config.batch_size, size) for size in n_rows]
        self.batches = Batches(rows, state.orders, sizes, self._pool)
        self._normalizer = loss_normalizer(network, loss)
        self._steps: dict[tuple[int, int, int], Step] = {}

    def set_rows(self, rows: Sequence[Rows]) -> bool:
        batches = self.batches
        for order, last_order in zip(self.state.orders, batches.orders, strict=True):
            if order is not last_order:
                return False
        for new, old in zip(rows, batches.rows, strict=True):
            if (
                new.n_rows != old.n_rows
                or new.is_sparse != old.is_sparse
                or (new.weight is None) != (old.weight is None)
            ):
                return False
        batches.set_rows(rows)
        return True

    # ------------------------------------------------------------------- epochs

    def train_epoch(self, rate: Array, deadline: float = math.inf) -> Array:
        for order, rng in self._shuffled:
            rng.shuffle(order)
        sums: list[list[float]] = [[] for _ in range(len(self.state))]
        with np.errstate(all="ignore"):
            np.setbufsize(BUFFER_SIZE)  # until the end of the context
            for chunk in self.batches.chunks():
                sums_of_weights = self._train_chunk(chunk, rate, deadline)
                penalty = self._config_of(chunk.members).penalty
                penalties = penalty.value(np.array(sums_of_weights, dtype=float).T)
                losses = sum_losses(self._loss, chunk) / self._normalizer
                both = zip(losses.tolist(), penalties.tolist(), strict=True)
                for own_sums, (of_rows, of_weights) in zip(sums[chunk.members], both, strict=True):
                    own_sums += of_rows
                    own_sums += of_weights
            self.state.flush_subnormals()
            # Exactly rounded sums do not depend on how an epoch was cut into chunks.
            totals = np.array([fsum_or_nan(values) for values in sums])
            return np.asarray(totals / self.batches.total_weights)

    def _train_chunk(self, chunk: Chunk, rate: Array, deadline: float) -> list[Array]:
        """Make a step for each batch of a chunk; return the sums over the weights before each."""
        step = self._step(chunk.members, chunk.batch_size)
        step.set_rate(rate[chunk.members])
        sums_of_weights: list[Array] = []
        try:
            for batch in chunk.batches:
                if deadline != math.inf and time.monotonic() > deadline:
                    raise TimeLimitReached
                sums_of_weights.append(
                    step(batch)
                    if batch.is_empty is None
                    else self._step_separately(step, chunk, batch)
                )
        finally:
            n_samples_seen = self.state.n_samples_seen[chunk.members]
            n_samples_seen += len(sums_of_weights) * chunk.batch_size
        return sums_of_weights

    def _step_separately(self, step: Step, chunk: Chunk, batch: Batch) -> Array:
        """Make a step for each member whose batch has a positive weight."""
        batch.scores[...] = 0
        sums_of_weights = np.zeros(chunk.members.stop - chunk.members.start)
        is_empty = np.broadcast_to(np.asarray(batch.is_empty), sums_of_weights.shape)
        batch.activity_loss = np.zeros(len(sums_of_weights))
        for i in np.flatnonzero(~is_empty).tolist():
            member = chunk.members.start + i
            alone = self._step(slice(member, member + 1), chunk.batch_size)
            alone.set_rate(step.rates[i : i + 1])
            own = batch.member(i)
            sums_of_weights[i : i + 1] = alone(own)
            if own.activity_loss is not None:
                batch.activity_loss[i] = own.activity_loss.item()
        return sums_of_weights

    def _config_of(self, members: slice) -> Any:
        """Return the configuration of some members."""
        return self.config if self._are_all(members) else self.config.members(members)

    def _are_all(self, members: slice) -> bool:
        return bool(members.stop - members.start == len(self.state))

    def _step(self, members: slice, batch_size: int) -> Step:
        key = (members.start, members.stop, batch_size)
        if key not in self._steps:
            self._steps[key] = Step(
                self._network,
                self._loss,
                self._config_of(members),
                self.state if self._are_all(members) else self.state.take(members),
                self._gradients.members(members),
                batch_size,
                self._pool,
                self.batches.is_sparse,
            )
        return self._steps[key]
