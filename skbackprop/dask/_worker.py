"""Actor that holds the rows of one worker, and computes gradients, local steps and predictions.

An actor keeps buffers between calls, but no state that a result depends on: each result follows
from the arguments and the rows. So in any round another worker with the same rows can replace it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple, Self

import numpy as np
from scipy.sparse import issparse, vstack

from ..nn.data_loader import Dataset
from ..nn.ensemble_trainer import StackTrainer
from ..nn.lbfgs import FullBatchLoss
from ..nn.objective import Objective, fsum_or_nan
from ..nn.parameters import FlatParameters
from ..nn.prediction import predict_raw
from ..nn.train_state import TrainState
from ..nn.update import UpdateRule
from ..schedules import ConstantRate, init_plateau_counter
from ..training.blas_threads import with_blas_limit
from ..utils.arrays import BUFFER_SIZE, Array, ArrayDict, IndexArray, index_state
from ._partitions import Partition

_GOLDEN_RATIO = (5**0.5 - 1) / 2

# The number of values in the buffers of the rows that pass through the network together.
_BUFFERED_VALUES = 1 << 20


@dataclass(frozen=True)
class WorkerConfig:
    """Settings that all workers share.

    Parameters
    ----------
    objective : Objective
        The objective of one network.
    rule : UpdateRule
        The update rule of one network.
    batch_size : int
        The number of rows in a batch.
    """

    objective: Objective
    rule: UpdateRule
    batch_size: int


class WorkerShare(NamedTuple):
    """Share of one worker in the rows.

    Parameters
    ----------
    partitions : list of int
        The numbers of its partitions.
    weight : float
        The total weight of its rows.
    max_rows : int
        The number of rows of the worker with the most.
    weight_scale : float
        The factor of its sample weights that gives the batches of all workers the same weight on
        average: the weight of a batch on a single machine. Penalties and running statistics
        depend on the weight of a batch, so they are the same on all workers.
    """

    partitions: list[int]
    weight: float
    max_rows: int
    weight_scale: float


class EpochSlice(NamedTuple):
    """One of `n_pieces` equal pieces of an epoch.

    Parameters
    ----------
    order : int or None
        The seed of the order of the rows in this epoch; None for rows without shuffling.
    masks : int
        The seed of the dropout masks in this epoch.
    piece, n_pieces : int
        The number of the piece, from 0, and the number of pieces in the epoch.
    """

    order: int | None
    masks: int
    piece: int
    n_pieces: int

    def of_partition(self, n_rows: int, number: int) -> slice:
        """Return the rows of the piece in the order of a partition.

        They depend on the partition alone and not on its worker, so a batch has the same rows
        whichever worker computes it. Where a partition does not divide evenly, its larger pieces
        are shifted by multiples of the golden ratio, so that all batches have about one size.
        """
        shift = int(number * _GOLDEN_RATIO % 1 * self.n_pieces)
        start, stop = (
            (n_rows * piece + shift) // self.n_pieces for piece in (self.piece, self.piece + 1)
        )
        return slice(start, stop)


class GradientResult(NamedTuple):
    """Gradient of one network on one worker's part of a batch.

    Parameters
    ----------
    g : array of shape (1, p)
        The gradient of the mean loss.
    statistics : list of arrays
        The updated running statistics.
    weight : float
        The total weight of the rows.
    loss : float
        The weighted sum of the losses.
    """

    g: Array
    statistics: list[Array]
    weight: float
    loss: float


class SyncState(NamedTuple):
    """Arrays that workers start a round of local steps with, and that are averaged after it.

    Parameters
    ----------
    theta : array of shape (n_estimators, p)
        The parameters.
    statistics, optimizer, average : dict
        The dicts of a `TrainState`.
    """

    theta: Array
    statistics: ArrayDict
    optimizer: ArrayDict
    average: ArrayDict

    @classmethod
    def of(cls, state: TrainState) -> Self:
        """Return the arrays of a state, without copies."""
        parameters = state.parameters
        return cls(parameters.theta, parameters.statistics, state.optimizer, state.average)

    def member(self, i: int) -> Self:
        """Return the arrays of one network, as views."""
        own = slice(i, i + 1)
        return type(self)(self.theta[own], *(index_state(state, own) for state in self[1:]))

    def copy_to(self, other: Self) -> None:
        """Copy the values to the arrays of another."""
        np.copyto(other.theta, self.theta)
        for target, source in zip(other[1:], self[1:], strict=True):
            for name, array in source.items():
                np.copyto(target[name], array)


class LocalSGDResult(NamedTuple):
    """One network after the local steps of one worker.

    Parameters
    ----------
    state : SyncState
        The arrays after the steps.
    weight : float
        The total weight of the worker's rows.
    loss : float
        The mean loss over the steps, penalty included.
    """

    state: SyncState
    weight: float
    loss: float


class RemoteError(NamedTuple):
    """An exception of the computation, in contrast to one of the connection."""

    error: Exception


class WorkerActor:
    """Rows of one worker, which trains and predicts on them.

    Parameters
    ----------
    config : WorkerConfig
        The settings that all workers share.
    share : WorkerShare
        The share of this worker.
    *partitions : Partition
        The rows.
    """

    def __init__(self, config: WorkerConfig, share: WorkerShare, *partitions: Partition) -> None:
        network = config.objective.network
        self._config, self._share, self._partitions = config, share, partitions
        self._starts = np.cumsum([0, *(partition.n_rows for partition in partitions)])
        per_row = network.activations_per_sample(issparse(partitions[0].X))
        self._n_rows_at_once = max(1, _BUFFERED_VALUES // per_row)
        self._orders: dict[tuple[int | None, bool], list[IndexArray]] = {}
        self._losses: dict[int, FullBatchLoss] = {}
        self._trainers: dict[tuple[int, int, bool], StackTrainer] = {}
        self._state: TrainState | None = None
        self._parameters: FlatParameters | None = None
        self._masks = [np.random.default_rng()] if network.stochastic else []
        self._max_matmul_size = network.max_matmul_size(config.batch_size)

    # ------------------------------------------------------------------ calls

    def call(self, method: str, *arguments: Any) -> Any:
        """Return the result of a method, or its exception as a RemoteError."""
        try:
            with np.errstate(all="ignore"):
                np.setbufsize(BUFFER_SIZE)  # until the end of the context
                bound = partial(getattr(self, method), *arguments)
                return with_blas_limit(bound, self._max_matmul_size)
        except Exception as error:
            return RemoteError(error)

    def gradients(
        self, theta: Array, statistics: ArrayDict, slices: Sequence[EpochSlice]
    ) -> list[GradientResult]:
        """Return the gradient of each network on this worker's part of its batch."""
        self._drop_old_orders(slices)
        members = [slice(i, i + 1) for i in range(len(slices))]
        return [
            self._gradient(theta[member], index_state(statistics, member), own)
            for member, own in zip(members, slices, strict=True)
        ]

    def local_steps(
        self, start: SyncState, rates: Array, slices: Sequence[EpochSlice]
    ) -> list[LocalSGDResult]:
        """Return each network after local steps on this worker's part of a piece of an epoch."""
        self._drop_old_orders(slices)
        return [
            self._local_steps(start.member(i), rates[i : i + 1], own)
            for i, own in enumerate(slices)
        ]

    def raw_predictions(self, theta: Array, statistics: ArrayDict) -> dict[int, Array]:
        """Return the raw predictions of all networks for each partition, by its number."""
        network = self._config.objective.network
        parameters = FlatParameters(theta, statistics, network.layout)
        return {
            number: predict_raw(network, parameters, partition.X)
            for number, partition in zip(self._share.partitions, self._partitions, strict=True)
        }

    def _gradient(self, theta: Array, statistics: ArrayDict, piece: EpochSlice) -> GradientResult:
        if self._parameters is None:
            self._parameters = self._config.objective.network.layout.init(1, theta.dtype)
        parameters = self._parameters
        np.copyto(parameters.theta, theta)
        for name, array in statistics.items():
            np.copyto(parameters.statistics[name], array)
        self._seed_masks(piece)
        g, weight, losses = np.zeros(theta.shape), 0.0, [0.0]
        scale = self._share.weight_scale if statistics else 1.0
        for data in self._iter_data(piece):
            data, n_rows = _scale_weight(data, scale), data.n_rows
            if n_rows not in self._losses:
                self._losses[n_rows] = FullBatchLoss(
                    self._config.objective, parameters, data, None, n_rows, rngs=self._masks
                )
            loss = self._losses[n_rows]
            loss.set_data(data)
            losses += loss()
            g += loss.total * loss.gradients.theta
            weight += loss.total
        g /= weight or 1.0
        updated = [array.copy() for array in parameters.statistics.values()]
        return GradientResult(
            g.astype(theta.dtype), updated, weight / scale, fsum_or_nan(losses) / scale
        )

    def _local_steps(self, start: SyncState, rate: Array, piece: EpochSlice) -> LocalSGDResult:
        """Return one network after as many steps as all other workers make."""
        share = self._share
        if share.weight == 0:
            return LocalSGDResult(start, 0.0, 0.0)
        n_largest = -(-share.max_rows // piece.n_pieces)
        n_steps = -(-n_largest // self._config.batch_size)
        rows, scale = self._rows_of_steps(piece, n_largest, n_steps)
        state = self._state = self._state or self._make_state(start)
        start.copy_to(SyncState.of(state))
        self._seed_masks(piece)
        losses, weights, first = [], [], 0
        for n_rows, size in divide_evenly(len(rows), n_steps):
            data = _scale_weight(self._gather(rows[first : first + n_rows]), scale)
            trainer = self._trainer_for(data, size, state)
            losses.append(trainer.run_epoch(rate).item())
            weights.append(trainer.batches.total_weights.item())
            first += n_rows
        after = copy.deepcopy(SyncState.of(state))  # the next network uses the same arrays
        return LocalSGDResult(after, share.weight, float(np.average(losses, weights=weights)))

    # --------------------------------------------------------------------- rows of a piece

    def _rows_of(self, piece: EpochSlice, weighted_only: bool = False) -> IndexArray:
        """Return the rows of a piece, optionally only those with a positive weight."""
        orders = self._orders_of(piece.order, weighted_only)
        numbers = self._share.partitions
        rows = [
            start + order[piece.of_partition(len(order), number)]
            for start, number, order in zip(self._starts, numbers, orders, strict=False)
        ]
        return np.concatenate(rows)

    def _rows_of_steps(
        self, piece: EpochSlice, n_largest: int, n_steps: int
    ) -> tuple[IndexArray, float]:
        """Return the rows of a piece for `n_steps` local steps, and the factor of their weights.

        Rows of weight zero are left out. The others are repeated as often as they fit into the
        `n_largest` rows of the worker with the most rows.
        """
        rows = self._rows_of(piece, weighted_only=True)
        n_own = float(len(rows))
        if not len(rows):  # fewer rows than pieces
            whole = self._rows_of(piece._replace(piece=0, n_pieces=1), weighted_only=True)
            rows, n_own = whole[[piece.piece % len(whole)]], len(whole) / piece.n_pieces
        if piece.order is not None and len(self._partitions) > 1:  # mix partitions in each batch
            seed = piece.order, self._share.partitions[0], piece.piece
            np.random.default_rng(seed).shuffle(rows)
        n_times = max(1, n_largest // len(rows))
        rows = np.resize(rows, max(n_times * len(rows), n_steps))
        return rows, self._share.weight_scale * n_own / len(rows)

    def _orders_of(self, seed: int | None, weighted_only: bool) -> list[IndexArray]:
        """Return the order of the rows of each partition in an epoch."""
        key = seed, weighted_only
        if key not in self._orders:
            orders = [np.arange(partition.n_rows) for partition in self._partitions]
            if seed is not None:
                for number, order in zip(self._share.partitions, orders, strict=True):
                    np.random.default_rng([seed, number]).shuffle(order)
            if weighted_only and self._partitions[0].weight is not None:
                pairs = zip(self._partitions, orders, strict=True)
                orders = [order[partition.weight[order] > 0] for partition, order in pairs]  # type: ignore[index]
            self._orders[key] = orders
        return self._orders[key]

    def _drop_old_orders(self, slices: Sequence[EpochSlice]) -> None:
        seeds = {piece.order for piece in slices}
        self._orders = {key: orders for key, orders in self._orders.items() if key[0] in seeds}

    def _iter_data(self, piece: EpochSlice) -> Iterator[Dataset]:
        """Yield the rows of a piece, as many at once as pass through the network together."""
        n_at_once = self._n_rows_at_once
        if piece.n_pieces == 1:  # all rows, in any order
            for partition in self._partitions:
                for start in range(0, partition.n_rows, n_at_once):
                    yield Dataset(*partition.take(slice(start, start + n_at_once)))
            return
        rows = self._rows_of(piece)
        for start in range(0, len(rows), n_at_once):
            yield self._gather(rows[start : start + n_at_once])

    def _gather(self, rows: IndexArray) -> Dataset:
        """Return rows of all partitions together."""
        if len(self._partitions) == 1:
            return Dataset(*self._partitions[0].take(rows))
        source = np.searchsorted(self._starts, rows, side="right") - 1
        targets = {i: np.flatnonzero(source == i) for i in np.unique(source).tolist()}
        parts = [
            self._partitions[i].take(rows[target] - self._starts[i])
            for i, target in targets.items()
        ]
        columns = zip(zip(*parts, strict=True), zip(*self._partitions, strict=True), strict=True)
        return Dataset(*(_interleave(own, [*targets.values()], whole) for own, whole in columns))

    # ------------------------------------------------------------------------- buffers

    def _trainer_for(self, data: Dataset, batch_size: int, state: TrainState) -> StackTrainer:
        """Return the trainer of local steps, with the buffers of earlier data of this size."""
        config, key = self._config, (data.n_rows, batch_size, data.weight is None)
        if key not in self._trainers:
            self._trainers[key] = StackTrainer(
                config.objective,
                state,
                [data],
                [batch_size],
                config.rule.optimizer,
                ConstantRate(),
                np.ones((1, 1)),
                config.rule.clip_norm,
                config.rule.average,
            )
        self._trainers[key].set_data([data])
        return self._trainers[key]

    def _make_state(self, start: SyncState) -> TrainState:
        """Return a state of one network that visits the rows without shuffling."""
        theta, statistics, optimizer, average = copy.deepcopy(start)
        parameters = FlatParameters(theta, statistics, self._config.objective.network.layout)
        counters = init_plateau_counter(1), np.zeros((1, 1), dtype=int)
        return TrainState(
            parameters, optimizer, {}, average, *counters, [None], [None], self._masks
        )

    def _seed_masks(self, piece: EpochSlice) -> None:
        """Seed the dropout masks of a piece, the same whichever worker computes it."""
        for rng in self._masks:
            seeded = np.random.default_rng([piece.masks, self._share.partitions[0], piece.piece])
            rng.bit_generator.state = seeded.bit_generator.state


def divide_evenly(n_rows: int, n_steps: int) -> list[tuple[int, int]]:
    """Return the number of rows in batches of each size, and the size.

    The rows are divided into `n_steps` batches of at most two sizes, which differ by one.
    """
    size, n_larger = divmod(n_rows, n_steps)
    runs = (n_larger, size + 1), (n_steps - n_larger, size)
    return [(n_batches * size, size) for n_batches, size in runs if n_batches]


def _scale_weight(data: Dataset, scale: float) -> Dataset:
    """Return data with sample weights multiplied by a number."""
    if scale == 1:
        return data
    weight = np.ones(data.n_rows) if data.weight is None else data.weight
    return replace(data, weight=weight * scale)


def _interleave(parts: Sequence[Any], targets: Sequence[IndexArray], arrays: Sequence[Any]) -> Any:
    """Return an array of parts of others, each with the numbers of its rows in it."""
    if arrays[0] is None:
        return None
    order = np.concatenate(targets)
    if issparse(arrays[0]):
        return vstack(parts)[np.argsort(order)]
    dtype = np.result_type(*(array.dtype for array in arrays))
    result = np.empty((len(order), *arrays[0].shape[1:]), dtype)
    for target, part in zip(targets, parts, strict=True):
        result[target] = part
    return result
