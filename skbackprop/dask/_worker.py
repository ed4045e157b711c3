"""Actor that holds the rows of one worker, and computes gradients, local steps and predictions.

An actor keeps buffers between calls, but no state that a result depends on: each result follows
from the arguments and the rows. So in any round another worker with the same rows can replace it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import issparse, vstack

from ..nn.data_loader import Dataset
from ..nn.lbfgs import FullBatchLoss
from ..nn.objective import Objective, fsum_or_nan
from ..nn.parameters import FlatParameters
from ..nn.prediction import predict_raw
from ..nn.stack_trainer import StackTrainer
from ..nn.train_state import TrainState
from ..schedules import ConstantRate
from ..training.config import TrainingConfig
from ..training.parallelism import BlasLimit
from ..utils.arrays import BUFFER_SIZE, Array, IndexArray
from ._partitions import Partition

_GOLDEN_RATIO = (5**0.5 - 1) / 2

# The number of values in the buffers of the rows that pass through the network together.
_BUFFERED_VALUES = 1 << 20


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
    """Slice of an epoch that one network is trained on in one of `n_rounds` rounds.

    Parameters
    ----------
    order_seed : int or None
        The seed of the order of the rows in this epoch; None for rows without shuffling.
    mask_seed : int
        The seed of the dropout masks in this epoch.
    round_number, n_rounds : int
        The number of the round, from 0, and the number of rounds in the epoch.
    member : int
        The number of the network, which may hold out some of the rows.
    """

    order_seed: int | None
    mask_seed: int
    round_number: int
    n_rounds: int
    member: int

    def slice_partition(self, n_rows: int, number: int) -> slice:
        """Return the rows of the slice in the order of a partition.

        They depend on the partition alone and not on its worker, so a batch has the same rows
        whichever worker computes it. Where a partition does not divide evenly, its larger slices
        are shifted by multiples of the golden ratio, so that all batches have about one size.
        """
        shift = int(number * _GOLDEN_RATIO % 1 * self.n_rounds)
        start, stop = (
            (n_rows * i + shift) // self.n_rounds
            for i in (self.round_number, self.round_number + 1)
        )
        return slice(start, stop)


class RoundResult(NamedTuple):
    """Result of one worker for one network after a round.

    Parameters
    ----------
    outcome : FlatParameters, TrainState or None
        In a synchronous step the gradient of the mean loss, with the updated running statistics;
        else the state after local steps, or None if all rows have weight zero.
    weight : float
        The total weight of the rows.
    loss : float
        The weighted sum of the losses; after local steps including the penalty.
    """

    outcome: Any
    weight: float
    loss: float


class WorkerActor:
    """Rows of one worker, which trains and predicts on them.

    Parameters
    ----------
    objective : Objective
        The objective of one network.
    config : TrainingConfig
        The configuration of training.
    share : WorkerShare
        The share of this worker.
    *partitions : Partition
        The rows.
    """

    def __init__(
        self,
        objective: Objective,
        config: TrainingConfig,
        share: WorkerShare,
        *partitions: Partition,
    ) -> None:
        self._objective, self._config = objective, config
        self._share, self._partitions = share, partitions
        self._starts = np.cumsum([0, *(partition.n_rows for partition in partitions)])
        per_row = objective.network.activations_per_sample(issparse(partitions[0].X))
        self._n_rows_at_once = max(1, _BUFFERED_VALUES // per_row)
        self._orders: dict[tuple[int | None, int | None], list[IndexArray]] = {}
        self._weights: dict[int, float] = {}
        self._losses: dict[int, FullBatchLoss] = {}
        self._trainers: dict[tuple[int, int, bool], StackTrainer] = {}
        self._state: TrainState | None = None
        self._network, self._batch_size = objective.network, config.batch_size

    # ------------------------------------------------------------------ calls

    def call(self, method: str, *arguments: Any) -> Any:
        """Return the result of a method, or the exception that it raises.

        So the client can tell an error of the computation from one of the connection.
        """
        try:
            with np.errstate(all="ignore"):
                np.setbufsize(BUFFER_SIZE)  # until the end of the context
                largest = self._network.max_matmul_size(self._batch_size)
                blas = BlasLimit(largest, divides_rows=self._network.divides_rows)
                with blas as limit, limit:
                    return getattr(self, method)(*arguments)
        except Exception as error:
            return error

    def train(
        self, is_synchronous: bool, states: TrainState, rates: Array, slices: Sequence[EpochSlice]
    ) -> list[RoundResult]:
        """Return each network after this worker's part of a round: a gradient or local steps."""
        seeds = {epoch_slice.order_seed for epoch_slice in slices}
        self._orders = {key: orders for key, orders in self._orders.items() if key[0] in seeds}
        results = []
        for i, epoch_slice in enumerate(slices):
            state = states.take(slice(i, i + 1))
            if is_synchronous:
                results.append(self._compute_gradient(state, epoch_slice))
            else:
                results.append(self._make_local_steps(state, rates[i : i + 1], epoch_slice))
        return results

    def predict_raw(self, parameters: FlatParameters) -> dict[int, Array]:
        """Return the raw predictions of all networks for each partition, by its number."""
        pairs = zip(self._share.partitions, self._partitions, strict=True)
        network = self._objective.network
        return {i: predict_raw(network, parameters, partition.X) for i, partition in pairs}

    def _compute_gradient(self, start: TrainState, epoch_slice: EpochSlice) -> RoundResult:
        state = self._load_state(start, epoch_slice)
        parameters = state.parameters
        g, weight, losses = np.zeros(parameters.theta.shape), 0.0, [0.0]
        scale = self._share.weight_scale if parameters.statistics else 1.0
        for data in self._iter_data(epoch_slice):
            data, n_rows = _scale_weight(data, scale), data.n_rows
            if n_rows not in self._losses:
                self._losses[n_rows] = FullBatchLoss(
                    self._objective, parameters, data, None, n_rows, rngs=state.masks
                )
            loss = self._losses[n_rows]
            loss.set_data(data)
            losses += loss()
            g += loss.total * loss.gradients.theta
            weight += loss.total
        g /= weight or 1.0
        updated = {name: array.copy() for name, array in parameters.statistics.items()}
        gradient = parameters.with_theta(g.astype(parameters.dtype), updated)
        return RoundResult(gradient, weight / scale, fsum_or_nan(losses) / scale)

    def _make_local_steps(
        self, start: TrainState, rate: Array, epoch_slice: EpochSlice
    ) -> RoundResult:
        """Return one network after as many steps as all other workers make."""
        share, total = self._share, self._training_weight(epoch_slice.member)
        if total == 0:
            return RoundResult(None, 0.0, 0.0)
        n_largest = -(-share.max_rows // epoch_slice.n_rounds)
        n_steps = -(-n_largest // self._config.batch_size)
        rows, scale = self._select_rows_of_steps(epoch_slice, n_largest, n_steps)
        state = self._load_state(start, epoch_slice)
        losses, weights, first = [], [], 0
        for n_rows, size in split_into_batch_sizes(len(rows), n_steps):
            part = self._gather(rows[first : first + n_rows])
            data = _scale_weight(Dataset(part.X, part.y, part.weight), scale)
            trainer = self._get_trainer(data, size, state)
            losses.append(trainer.run_epoch(rate).item())
            weights.append(trainer.batches.total_weights.item())
            first += n_rows
        after = get_changed_arrays(state).copy()  # the next network uses the same arrays
        return RoundResult(after, total, np.average(losses, weights=weights) * total)

    def _training_weight(self, member: int) -> float:
        """Return the total weight of the rows that a network is trained on."""
        if self._partitions[0].folds is None:
            return self._share.weight
        if member not in self._weights:
            parts = [partition.training_weight(member) for partition in self._partitions]
            self._weights[member] = fsum_or_nan([part.sum() for part in parts if part is not None])
        return self._weights[member]

    def _load_state(self, start: TrainState, epoch_slice: EpochSlice) -> TrainState:
        """Return the state of this worker after `start` was copied to it.

        The rows are visited without shuffling. The seed of the dropout masks is the same whichever
        worker computes the slice.
        """
        if self._state is None:
            masks = [np.random.default_rng()] if self._objective.network.stochastic else []
            self._state = replace(start.copy(), masks=masks)
        state = self._state
        for own, array in zip(state.trained_arrays(), start.trained_arrays(), strict=True):
            np.copyto(own, array)
        for rng in state.masks:
            seeded = np.random.default_rng(
                [epoch_slice.mask_seed, self._share.partitions[0], epoch_slice.round_number]
            )
            rng.bit_generator.state = seeded.bit_generator.state
        return state

    # --------------------------------------------------------------------- rows of a slice

    def _select_rows(self, epoch_slice: EpochSlice, trained_only: bool = False) -> IndexArray:
        """Return the rows of a slice, optionally only those that the network is trained on."""
        orders = self._draw_orders(
            epoch_slice.order_seed, epoch_slice.member if trained_only else None
        )
        numbers = self._share.partitions
        rows = [
            start + order[epoch_slice.slice_partition(len(order), number)]
            for start, number, order in zip(self._starts, numbers, orders, strict=False)
        ]
        return np.concatenate(rows)

    def _select_rows_of_steps(
        self, epoch_slice: EpochSlice, n_largest: int, n_steps: int
    ) -> tuple[IndexArray, float]:
        """Return the rows of a slice for `n_steps` local steps, and the factor of their weights.

        Rows of weight zero and held-out rows are left out. The others are repeated as often as they
        fit into the `n_largest` rows of the worker with the most rows.
        """
        rows = self._select_rows(epoch_slice, trained_only=True)
        n_own = float(len(rows))
        if not len(rows):  # fewer rows than rounds
            whole_epoch = epoch_slice._replace(round_number=0, n_rounds=1)
            rows_of_epoch = self._select_rows(whole_epoch, trained_only=True)
            rows = rows_of_epoch[[epoch_slice.round_number % len(rows_of_epoch)]]
            n_own = len(rows_of_epoch) / epoch_slice.n_rounds
        order_seed = epoch_slice.order_seed
        if order_seed is not None and len(self._partitions) > 1:  # mix partitions in each batch
            seed = order_seed, self._share.partitions[0], epoch_slice.round_number
            np.random.default_rng(seed).shuffle(rows)
        n_times = max(1, n_largest // len(rows))
        rows = np.resize(rows, max(n_times * len(rows), n_steps))
        return rows, self._share.weight_scale * n_own / len(rows)

    def _draw_orders(self, seed: int | None, member: int | None) -> list[IndexArray]:
        """Return the order of the rows of each partition in an epoch.

        With a member only those that this network is trained on.
        """
        key = seed, member
        if key not in self._orders:
            orders = [np.arange(partition.n_rows) for partition in self._partitions]
            if seed is not None:
                for number, order in zip(self._share.partitions, orders, strict=True):
                    np.random.default_rng([seed, number]).shuffle(order)
            if member is not None:
                weights = [partition.training_weight(member) for partition in self._partitions]
                orders = [
                    order if weight is None else order[weight[order] > 0]
                    for weight, order in zip(weights, orders, strict=True)
                ]
            self._orders[key] = orders
        return self._orders[key]

    def _iter_data(self, epoch_slice: EpochSlice) -> Iterator[Dataset]:
        """Yield the rows of a slice, as many at once as pass through the network together.

        Rows that the network holds out have weight zero.
        """
        for part in self._iter_rows(epoch_slice):
            yield Dataset(part.X, part.y, part.training_weight(epoch_slice.member))

    def _iter_rows(self, epoch_slice: EpochSlice) -> Iterator[Partition]:
        n_at_once = self._n_rows_at_once
        if epoch_slice.n_rounds == 1:  # all rows, in any order
            for partition in self._partitions:
                for start in range(0, partition.n_rows, n_at_once):
                    yield partition.take(slice(start, start + n_at_once))
            return
        rows = self._select_rows(epoch_slice)
        for start in range(0, len(rows), n_at_once):
            yield self._gather(rows[start : start + n_at_once])

    def _gather(self, rows: IndexArray) -> Partition:
        """Return rows of all partitions together."""
        if len(self._partitions) == 1:
            return self._partitions[0].take(rows)
        source = np.searchsorted(self._starts, rows, side="right") - 1
        targets = {i: np.flatnonzero(source == i) for i in np.unique(source).tolist()}
        parts = [
            self._partitions[i].take(rows[target] - self._starts[i])
            for i, target in targets.items()
        ]
        columns = zip(zip(*parts, strict=True), zip(*self._partitions, strict=True), strict=True)
        return Partition(*(_interleave(own, [*targets.values()], whole) for own, whole in columns))

    def _get_trainer(self, data: Dataset, batch_size: int, state: TrainState) -> StackTrainer:
        """Return the trainer of local steps, with the buffers of earlier data of this size."""
        key = data.n_rows, batch_size, data.weight is None
        if key not in self._trainers:
            self._trainers[key] = StackTrainer(
                self._objective,
                state,
                [data],
                [batch_size],
                self._config.update_rule,
                ConstantRate(),
                np.ones((1, 1)),
            )
        self._trainers[key].set_data([data])
        return self._trainers[key]


def get_changed_arrays(state: TrainState, is_synchronous: bool = False) -> TrainState:
    """Return the arrays of a state that a round changes, without copies.

    In a synchronous step these are the parameters and running statistics, after local steps also
    the moments and averages.
    """
    n_estimators = len(state)
    part = replace(
        state,
        schedule={},
        progress={},
        orders=[None] * n_estimators,
        rngs=[None] * n_estimators,
        masks=[],
    )
    return replace(part, optimizer={}, average={}) if is_synchronous else part


def split_into_batch_sizes(n_rows: int, n_steps: int) -> list[tuple[int, int]]:
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
