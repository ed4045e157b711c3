"""The rows of one worker, and what it computes of them between two exchanges with the client.

A `Configurable` is an actor: it lives on a worker beside its rows. It keeps buffers from call to
call, and nothing that a result depends on: what a call returns follows from its arguments and the
rows. So another worker that is given the same rows can take its place in any round.
"""

from __future__ import annotations

import copy
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any, NamedTuple, Self, TypeVar

import numpy as np
from scipy.sparse import issparse, vstack

from ..nn.data_loader import Dataset
from ..nn.ensemble_trainer import EnsembleTrainer
from ..nn.full_batch import LocalFullBatchLoss
from ..nn.objective import Objective, fsum_or_nan
from ..nn.parameters import FlatParameters
from ..nn.prediction import predict_raw
from ..nn.train_state import TrainState
from ..nn.update import UpdateRule
from ..schedules import ConstantRate, init_plateau_counter
from ..training.blas_threads import with_blas_limit
from ..utils.arrays import BUFFER_SIZE, Array, ArrayDict, IndexArray
from ..utils.stack_members import index_state
from ._partitions import Partition

Result = TypeVar("Result")

_GOLDEN = (5**0.5 - 1) / 2

# Numbers in the buffers of the rows that go through the network at once.
_NUMBERS_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class WorkerConfig:
    """What all parts of a training have in common.

    Parameters
    ----------
    objective : Objective
        What is minimised, of one network.
    rule : Rule or None
        How a step is made; None where it is not here that steps are made.
    batch_size : int
        The rows of a batch.
    """

    objective: Objective
    rule: UpdateRule | None
    batch_size: int


@dataclass(frozen=True)
class Division:
    """How the blocks are divided among the workers.

    Parameters
    ----------
    numbers : list of lists of int
        The numbers of the blocks of each worker.
    n_rows : list of int
        The number of rows of each block.
    weights : list of float
        The total weight of the rows of each block.
    """

    numbers: list[list[int]]
    n_rows: list[int]
    weights: list[float]

    @property
    def part_sizes(self) -> list[int]:
        """The number of rows of each worker."""
        return [sum(self.n_rows[i] for i in own) for own in self.numbers]

    def weight_of(self, numbers: Sequence[int]) -> float:
        """Return the total weight of the rows of some blocks."""
        return math.fsum(self.weights[i] for i in numbers)

    def scale_of(self, numbers: Sequence[int], batch_size: int) -> float:
        """Return what a worker multiplies the weights of its rows by, 1 where all are alike.

        With it the batches of all workers weigh the same on average, and as much as those of a
        single machine. Penalties and running statistics go by the weight of a batch, so they are
        the same on all workers then, however much the rows of each weigh.
        """
        n_steps = [-(-size // batch_size) for size in self.part_sizes]
        largest = max(self.weights)
        total = math.fsum(weight / largest for weight in self.weights) * max(n_steps)
        share = self.weight_of(numbers) / largest * sum(n_steps) / total
        return 1 / share if share >= sys.float_info.min else 1.0


class BatchSlice(NamedTuple):
    """Which rows of a part a call is about: a piece of an epoch, of pieces of one size each.

    Parameters
    ----------
    order : int or None
        What the order of the rows in this epoch is drawn by; None for rows as they stand.
    masks : int
        What dropout's masks in this epoch are drawn by.
    piece, n_pieces : int
        The number of the piece, and how many make the epoch.
    """

    order: int | None
    masks: int
    piece: int
    n_pieces: int


class GradientResult(NamedTuple):
    """A network's gradient by a part's rows of a batch, and what else a step is to know of them.

    Parameters
    ----------
    g : array of shape (1, p)
        The gradient of their mean loss.
    statistics : list of arrays
        The running statistics, brought up to date.
    weight : float
        What the rows weigh.
    loss : float
        The sum of their losses, each times its weight.
    """

    g: Array
    statistics: list[Array]
    weight: float
    loss: float


class SyncState(NamedTuple):
    """What all parts begin a round of steps with, and what each of them comes to.

    Parameters
    ----------
    theta : array of shape (n_estimators, p)
        The parameters.
    statistics, optimizer, average : dict
        Those of a `TrainState`.
    """

    theta: Array
    statistics: ArrayDict
    optimizer: ArrayDict
    average: ArrayDict

    @classmethod
    def of(cls, state: TrainState) -> Self:
        """Return what a state has of it, the very same arrays."""
        parameters = state.parameters
        return cls(parameters.theta, parameters.statistics, state.optimizer, state.average)

    def member(self, i: int) -> Self:
        """Return that of one of several networks, as views."""
        own = slice(i, i + 1)
        return type(self)(self.theta[own], *(index_state(state, own) for state in self[1:]))

    def put_into(self, state: TrainState) -> None:
        """Copy it into the arrays of a state."""
        own = SyncState.of(state)
        np.copyto(own.theta, self.theta)
        for kind, given in zip(own[1:], self[1:], strict=True):
            for name, array in given.items():
                np.copyto(kind[name], array)


class LocalSGDResult(NamedTuple):
    """What the steps of a part on one network have come to.

    Parameters
    ----------
    common : Common
        What they have made of what they began with.
    weight : float
        The weight of all rows of the part.
    loss : float
        The mean loss over the steps, penalty included.
    """

    common: SyncState
    weight: float
    loss: float


class RemoteError(NamedTuple):
    """An exception of what was computed, unlike those of the connection."""

    error: Exception


def _answering(method: Callable[..., Result]) -> Callable[..., Result | RemoteError]:
    """Let a method return what it raises: who calls it can tell it from a worker that is lost."""

    @wraps(method)
    def answer(self: WorkerActor, *arguments: Any) -> Result | RemoteError:
        try:
            with np.errstate(all="ignore"):
                np.setbufsize(BUFFER_SIZE)  # until the end of the context
                return with_blas_limit(lambda: method(self, *arguments), self.max_matmul_size)
        except Exception as error:
            return RemoteError(error)

    return answer


def _member_of(theta: Array, statistics: ArrayDict, i: int) -> tuple[Array, ArrayDict]:
    """Return what is one network's of the parameters of several, as views."""
    own = slice(i, i + 1)
    return theta[own], index_state(statistics, own)


def runs_of(n_rows: int, n_steps: int) -> list[tuple[int, int]]:
    """Return how rows are divided evenly among steps: batches of two sizes at most, in two runs.

    Each run is the number of its rows, and the size of its batches.
    """
    size, n_larger = divmod(n_rows, n_steps)
    runs = (n_larger, size + 1), (n_steps - n_larger, size)
    return [(n_batches * size, size) for n_batches, size in runs if n_batches]


def piece_of(n_rows: int, number: int, share: BatchSlice) -> slice:
    """Return which rows of a block, in their order, are in a share of an epoch.

    It depends on the block alone, and not on who holds it or what else there is: so a batch has the
    same rows whoever computes it. Where a block does not divide evenly, the one row more comes at
    another time for each block, by multiples of the golden ratio, so that batches are of one size.
    """
    n_pieces = share.n_pieces
    shift = int(number * _GOLDEN % 1 * n_pieces)
    start, stop = ((n_rows * at + shift) // n_pieces for at in (share.piece, share.piece + 1))
    return slice(start, stop)


def _scaled(table: Dataset, scale: float) -> Dataset:
    """Return a table whose weights are multiplied by a number."""
    if scale == 1:
        return table
    weight = np.ones(table.n_rows) if table.weight is None else table.weight
    return replace(table, weight=weight * scale)


class WorkerActor:
    """The rows of one worker.

    Parameters
    ----------
    setting : Setting
        How they are trained on.
    division : Division
        How all blocks are divided among the workers.
    numbers : sequence of int
        The numbers of its blocks among all.
    *blocks : Block
        The rows, in several blocks.

    Attributes
    ----------
    max_matmul_size : int
        The multiplications in the largest matrix product of a step.
    """

    def __init__(
        self, setting: WorkerConfig, division: Division, numbers: Sequence[int], *blocks: Partition
    ) -> None:
        network, is_sparse = setting.objective.network, issparse(blocks[0].X)
        self._setting, self._numbers, self._blocks = setting, numbers, blocks
        self._starts = np.cumsum([0, *(block.n_rows for block in blocks)])
        self._n_rows = int(self._starts[-1])
        self._n_at_once = max(1, _NUMBERS_AT_ONCE // network.activations_per_sample(is_sparse))
        self._weight, self._largest_part = division.weight_of(numbers), max(division.part_sizes)
        self._scale = division.scale_of(numbers, setting.batch_size)
        self._orders: dict[tuple[int | None, bool], list[IndexArray]] = {}
        self._losses: dict[int, LocalFullBatchLoss] = {}
        self._stacks: dict[tuple[int, int, bool], EnsembleTrainer] = {}
        self._state: TrainState | None = None
        self._parameters: FlatParameters | None = None
        self._masks = [np.random.default_rng()] if network.stochastic else []
        self.max_matmul_size = network.max_matmul_size(setting.batch_size)

    # ------------------------------------------------------------------ what is computed

    @_answering
    def gradient(
        self, theta: Array, statistics: ArrayDict, shares: Sequence[BatchSlice]
    ) -> list[GradientResult]:
        """Return the gradient of each network, by this part's share of its batch."""
        self._keep_orders(shares)
        each = enumerate(shares)
        return [self._gradient(*_member_of(theta, statistics, i), share) for i, share in each]

    @_answering
    def steps(
        self, common: SyncState, rates: Array, shares: Sequence[BatchSlice]
    ) -> list[LocalSGDResult]:
        """Return what steps of each network, on this part's share of its epoch, lead to."""
        self._keep_orders(shares)
        each = enumerate(shares)
        return [self._steps(common.member(i), rates[i : i + 1], share) for i, share in each]

    def _gradient(self, theta: Array, statistics: ArrayDict, share: BatchSlice) -> GradientResult:
        parameters = self._set(theta, statistics)
        self._draw_masks(share)
        g, weight, losses = np.zeros(theta.shape), 0.0, [0.0]
        scale = self._scale if statistics else 1.0
        for table in self._tables(share):
            loss = self._loss_of(table, parameters)
            losses += loss()
            g += loss.total * loss.gradients.theta
            weight += loss.total
        g /= weight or 1.0
        running = [array.copy() for array in parameters.statistics.values()]
        return GradientResult(
            g.astype(theta.dtype), running, weight / scale, fsum_or_nan(losses) / scale
        )

    def _steps(self, common: SyncState, rate: Array, share: BatchSlice) -> LocalSGDResult:
        """Return what a network comes to in as many steps as all other workers make."""
        if self._weight == 0:
            return LocalSGDResult(common, 0.0, 0.0)
        n_most = -(-self._largest_part // share.n_pieces)
        n_steps = -(-n_most // self._setting.batch_size)
        rows, scale = self._rows_of_steps(share, n_most, n_steps)
        state = self._state = self._state or self._state_like(common)
        common.put_into(state)
        self._draw_masks(share)
        losses, weights, start = [], [], 0
        for n_rows, size in runs_of(len(rows), n_steps):
            table = self._gathered(rows[start : start + n_rows])
            assert table is not None
            stack = self._stack_of(_scaled(table, scale), size, state)
            losses.append(stack.run_epoch(rate).item())
            weights.append(stack.batches.total_weights.item())
            start += n_rows
        reached = copy.deepcopy(SyncState.of(state))  # the next network's steps go on in it
        return LocalSGDResult(reached, self._weight, float(np.average(losses, weights=weights)))

    @_answering
    def scores(self, theta: Array, statistics: ArrayDict) -> list[Array]:
        """Return the scores of all rows, block by block, as each of the networks predicts."""
        network = self._setting.objective.network
        parameters = FlatParameters(theta, statistics, network.layout)
        return [predict_raw(network, parameters, block.X) for block in self._blocks]

    @_answering
    def echo(self, *arguments: Any) -> Any:
        """Return what it is given: what a round takes in which nothing is computed."""
        return arguments[0]

    @_answering
    def seconds_of_step(self, theta: Array, statistics: ArrayDict, n_rows: int) -> float:
        """Return the time that the gradient of a batch of so many rows takes, at best."""
        parameters = self._set(theta, statistics)
        table = self._gathered(np.arange(min(n_rows, self._n_rows)))
        if table is None:
            return 0.0
        self._draw_masks(BatchSlice(None, 0, 0, 1))
        loss, best = self._loss_of(table, parameters), np.inf
        for _ in range(3):
            start = time.perf_counter()
            loss()
            best = min(best, time.perf_counter() - start)
        return float(best)

    # --------------------------------------------------------------------- rows of a share

    def _rows_of(self, share: BatchSlice, are_weighted: bool = False) -> IndexArray:
        """Return the rows of a share: of each block its own, in the order drawn for it.

        With `are_weighted`, of those rows whose weight is above zero.
        """
        orders = self._orders_of(share.order, are_weighted)
        pieces = [
            start + order[piece_of(len(order), number, share)]
            for start, number, order in zip(self._starts, self._numbers, orders, strict=False)
        ]
        return np.concatenate(pieces)

    def _rows_of_steps(
        self, share: BatchSlice, n_most: int, n_steps: int
    ) -> tuple[IndexArray, float]:
        """Return the rows of a share for so many steps, and what to multiply their weights by.

        Rows that weigh nothing are left out. The others are repeated as often as there is room in
        the `n_most` rows of the largest part.
        """
        rows = self._rows_of(share, are_weighted=True)
        n_own = float(len(rows))
        if not len(rows):  # there are fewer than shares
            every = self._rows_of(share._replace(piece=0, n_pieces=1), are_weighted=True)
            rows, n_own = every[[share.piece % len(every)]], len(every) / share.n_pieces
        if share.order is not None and len(self._blocks) > 1:  # so that each batch has some of all
            keys = share.order, self._numbers[0], share.piece
            np.random.default_rng(keys).shuffle(rows)
        n_times = max(1, n_most // len(rows))
        rows = np.resize(rows, max(n_times * len(rows), n_steps))
        return rows, self._scale * n_own / len(rows)

    def _orders_of(self, drawn_by: int | None, are_weighted: bool) -> list[IndexArray]:
        """Return the order of the rows of each block in an epoch."""
        key = drawn_by, are_weighted
        if key not in self._orders:
            orders = [np.arange(block.n_rows) for block in self._blocks]
            if drawn_by is not None:
                for number, order in zip(self._numbers, orders, strict=True):
                    np.random.default_rng([drawn_by, number]).shuffle(order)
            if are_weighted:
                orders = [
                    order if block.weight is None else order[block.weight[order] > 0]
                    for block, order in zip(self._blocks, orders, strict=True)
                ]
            self._orders[key] = orders
        return self._orders[key]

    def _keep_orders(self, shares: Sequence[BatchSlice]) -> None:
        """Forget all orders but those of the networks' epochs."""
        drawn_by = {share.order for share in shares}
        self._orders = {key: kept for key, kept in self._orders.items() if key[0] in drawn_by}

    def _tables(self, share: BatchSlice) -> Iterator[Dataset]:
        """Yield the rows of a share in tables of so many as go through the network at once."""
        if share.n_pieces == 1:  # their order is of no account
            for block in self._blocks:
                for start in range(0, block.n_rows, self._n_at_once):
                    yield block.table(slice(start, start + self._n_at_once))
            return
        rows = self._rows_of(share)
        for start in range(0, len(rows), self._n_at_once):
            table = self._gathered(rows[start : start + self._n_at_once])
            if table is not None:
                yield table

    def _gathered(self, rows: IndexArray) -> Dataset | None:
        """Return a table of some rows; None for none."""
        if not len(rows):
            return None
        if len(self._blocks) == 1:
            return self._blocks[0].table(rows)
        of_block = np.searchsorted(self._starts, rows, side="right") - 1
        places = {i: np.flatnonzero(of_block == i) for i in np.unique(of_block).tolist()}
        weight = None
        if self._blocks[0].weight is not None:
            weight = self._out_of_blocks("weight", rows, places)
        X, y = (self._out_of_blocks(name, rows, places) for name in ("X", "y"))
        return Dataset(X, y, weight)

    def _out_of_blocks(self, name: str, rows: IndexArray, places: dict[int, IndexArray]) -> Any:
        """Return rows of X, y or the weights; those of each block go to places of their own."""
        arrays = [getattr(block, name) for block in self._blocks]
        parts = (arrays[i][rows[own] - self._starts[i]] for i, own in places.items())
        if issparse(arrays[0]):
            return vstack([*parts])[np.argsort(np.concatenate([*places.values()]))]
        dtype = np.result_type(*(array.dtype for array in arrays))
        whole = np.empty((len(rows), *arrays[0].shape[1:]), dtype)
        for own, part in zip(places.values(), parts, strict=True):
            whole[own] = part
        return whole

    # ------------------------------------------------------------------------- what is bound

    def _set(self, theta: Array, statistics: ArrayDict) -> FlatParameters:
        """Return the parameters of this part, made those given."""
        if self._parameters is None:
            network = self._setting.objective.network
            self._parameters = network.layout.init(1, theta.dtype)
        np.copyto(self._parameters.theta, theta)
        for name, array in statistics.items():
            np.copyto(self._parameters.statistics[name], array)
        return self._parameters

    def _loss_of(self, table: Dataset, parameters: FlatParameters) -> LocalFullBatchLoss:
        """Return the loss over a table, in the memory that is bound for as many rows."""
        n_rows = table.n_rows
        if parameters.statistics:
            table = _scaled(table, self._scale)
        if n_rows not in self._losses:
            self._losses[n_rows] = LocalFullBatchLoss(
                self._setting.objective, parameters, table, None, n_rows, rngs=self._masks
            )
        self._losses[n_rows].set_data(table)
        return self._losses[n_rows]

    def _stack_of(self, table: Dataset, batch_size: int, state: TrainState) -> EnsembleTrainer:
        """Return the stack that steps through a table, likewise."""
        setting, key = self._setting, (table.n_rows, batch_size, table.weight is None)
        if key not in self._stacks:
            rule = setting.rule
            assert rule is not None
            self._stacks[key] = EnsembleTrainer(
                setting.objective,
                state,
                [table],
                [batch_size],
                rule.optimizer,
                ConstantRate(),
                np.ones((1, 1)),
                rule.clip_norm,
                rule.average,
            )
        self._stacks[key].set_data([table])
        return self._stacks[key]

    def _state_like(self, common: SyncState) -> TrainState:
        """Return a state in memory of its own, of one member that visits rows as they stand."""
        layout, masks = self._setting.objective.network.layout, self._masks
        theta, *states = copy.deepcopy(common)
        parameters = FlatParameters(theta, states[0], layout)
        counts = init_plateau_counter(1), np.zeros((1, 1), dtype=int)
        return TrainState(parameters, states[1], {}, states[2], *counts, [None], [None], masks)

    def _draw_masks(self, share: BatchSlice) -> None:
        """Let the masks be those of a share, whoever computes it."""
        for rng in self._masks:
            drawn = np.random.default_rng([share.masks, self._numbers[0], share.piece])
            rng.bit_generator.state = drawn.bit_generator.state
