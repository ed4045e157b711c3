"""Training on the workers: local steps from a common state, whose results are averaged.

The rows are divided into shards, one for each worker, where an actor trains on it. Other workers
can compute the blocks of a shard again, and a call depends on its arguments alone. So a call that
has lost a worker is repeated with new actors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from distributed import Future

from ..nn.data_loader import Dataset
from ..nn.objective import Objective
from ..nn.stack_trainer import StackTrainer
from ..nn.train_state import TrainState
from ..schedules import ConstantRate
from ..training.config import TrainingConfig
from ..utils.arrays import BUFFER_SIZE, Array, IndexArray, LazyMatrix
from ._blocks import Block, Blocks, ClusterLostError, concatenate, translate_comm_errors

# Seconds that a cluster may have no workers, and between two checks whether the workers of a call
# are alive; consecutive failures of a call before it is given up, and the first pause in seconds
# between them, which doubles each time.
_NO_WORKERS_TIMEOUT, _RESULT_TIMEOUT = 60.0, 2.0
_MAX_FAILURES = 6
_RETRY_PAUSE = 0.2

# The bound of the seeds of orders and masks.
_MAX_SEED = np.iinfo(np.int32).max

# The state by whose root adaptive optimizers divide their steps: the first of these that exists.
_SECOND_MOMENTS = "largest_second_moment", "second_moment", "sum_of_squares"


class RoundResult(NamedTuple):
    """Result of a round of steps on one shard.

    Parameters
    ----------
    arrays : list of arrays of shape (n_estimators, n)
        The parameters, statistics and moments.
    weights : array of shape (n_estimators,)
        The total weight of the rows.
    losses : array of shape (n_estimators,)
        Their mean loss, penalty included.
    """

    arrays: list[Array]
    weights: Array
    losses: Array


class StackedRows(LazyMatrix):
    """Rows of several matrices below each other, without a copy.

    Parameters
    ----------
    parts : sequence of arrays or LazyMatrix
        The matrices.
    """

    def __init__(self, parts: Sequence[Any]) -> None:
        self._parts, self._starts = parts, np.cumsum([0, *map(len, parts)])
        dtype = np.result_type(*(part.dtype for part in parts))
        super().__init__((int(self._starts[-1]), parts[0].shape[1]), dtype)

    def write_rows(self, rows: slice | Array, out: Array) -> None:
        """Write rows to an array."""
        rows = np.arange(len(self))[rows] if isinstance(rows, slice) else rows
        source = np.searchsorted(self._starts, rows, side="right") - 1
        for i in np.unique(source).tolist():
            own = np.flatnonzero(source == i)
            out[own] = self._parts[i][rows[own] - self._starts[i]]


class ShardTrainer:
    """Actor that makes local steps on one shard of the rows.

    Parameters
    ----------
    objective : Objective
        The objective of one network.
    config : TrainingConfig
        The configuration of training.
    dtype : dtype
        The dtype of the parameters.
    n_rounds, n_steps : int
        The number of rounds of an epoch, and the number of steps of a round.
    number : int
        The number of the shard.
    scale : float
        The factor of the sample weights that gives a batch the weight of one on a single machine,
        on which penalties and running statistics depend.
    *blocks : Block
        The encoded rows.
    """

    def __init__(
        self,
        objective: Objective,
        config: TrainingConfig,
        dtype: np.dtype[np.floating],
        n_rounds: int,
        n_steps: int,
        number: int,
        scale: float,
        *blocks: Block,
    ) -> None:
        self._objective, self._n_rounds, self._n_steps = objective, n_rounds, n_steps
        self._number, self._scale = number, scale
        X, y, weights, folds = zip(*blocks, strict=True)
        matrix = X[0]
        if len(X) > 1:
            matrix = concatenate(X) if hasattr(matrix, "indptr") else StackedRows(X)
        targets, weight = np.concatenate(y), None
        if weights[0] is not None or scale != 1:
            weight = np.ones(len(targets)) if weights[0] is None else np.concatenate(weights)
            weight *= scale
        self._table = Dataset(matrix, targets, weight)
        self._folds = None if folds[0] is None else np.concatenate(folds)
        # The client averages the weights over the steps.
        self._rule = replace(config.update_rule, average=None)
        parameters = objective.network.layout.init(1, dtype)
        self._state = TrainState(
            parameters,
            optimizer=self._rule.optimizer.init(parameters.theta),
            schedule={},
            average={},
            progress={},
            n_samples_seen=np.zeros((1, 1), dtype=int),
            orders=[None],
            rngs=[None],
            masks=[np.random.default_rng()] if objective.network.stochastic else [],
        )
        self._orders: dict[int, tuple[int | None, IndexArray]] = {}
        self._trainers: dict[int, tuple[StackTrainer, IndexArray]] = {}

    def train(self, *arguments: Any) -> RoundResult | Exception:
        """Return the result of `make_steps`, or the exception that it raises.

        So the client can tell an error of the computation from one of the connection.
        """
        try:
            with np.errstate(all="ignore"):
                np.setbufsize(BUFFER_SIZE)  # until the end of the context
                return self.make_steps(*arguments)
        except Exception as error:
            return error

    def make_steps(
        self,
        arrays: Sequence[Array],
        rates: Array,
        members: Sequence[int],
        order_seeds: Sequence[int | None],
        mask_seeds: Sequence[int],
        round_number: int,
    ) -> RoundResult:
        """Return all networks after the steps of a round.

        Parameters
        ----------
        arrays : sequence of arrays of shape (n_estimators, n)
            The parameters, statistics and moments before, as `trained_arrays` returns them.
        rates : array of shape (n_estimators, 1)
            The learning rates.
        members : sequence of int
            The numbers of the networks, each of which may hold out some rows.
        order_seeds : sequence of int or None
            The seed of the order of the rows in this epoch, for each network; None without
            shuffling.
        mask_seeds : sequence of int
            The seed of the dropout masks in this epoch, for each network.
        round_number : int
            The number of the round in the epoch.
        """
        results = [array.copy() for array in arrays]
        weights, losses = np.zeros((2, len(members)))
        own = trained_arrays(self._state)
        for i, member in enumerate(members):
            order = self._draw_order(member, order_seeds[i])
            start, stop = (
                len(order) * at // self._n_rounds for at in (round_number, round_number + 1)
            )
            if start == stop:
                continue
            weights[i] = self._total_weight(order[start:stop]) / self._scale
            for mine, result in zip(own, results, strict=True):
                mine[...] = result[i]
            for mask in self._state.masks:
                seed = mask_seeds[i], self._number, round_number
                mask.bit_generator.state = np.random.default_rng(seed).bit_generator.state
            losses[i] = self._visit_rows(order[start:stop], rates[i : i + 1])
            for mine, result in zip(own, results, strict=True):
                result[i] = mine[0]
        return RoundResult(results, weights, losses)

    def _visit_rows(self, rows: IndexArray, rate: Array) -> float:
        """Make the steps of a round on batches of equal size, and return the mean loss.

        Some rows are visited twice if the number of rows is no multiple of the number of steps.
        """
        batch_size = -(-len(rows) // self._n_steps)
        rows = np.resize(rows, batch_size * self._n_steps)
        if batch_size not in self._trainers:
            order = rows.copy()
            trainer = StackTrainer(
                self._objective,
                replace(self._state, orders=[order]),
                [self._table],
                [batch_size],
                self._rule,
                ConstantRate(),
                np.ones((1, 1)),
            )
            self._trainers[batch_size] = trainer, order
        trainer, order = self._trainers[batch_size]
        order[:] = rows
        total = trainer.run_epoch(rate) * trainer.batches.total_weights
        return float(total.item() / self._total_weight(rows))

    def _draw_order(self, member: int, seed: int | None) -> IndexArray:
        """Return the rows that a network is trained on, in their order in an epoch."""
        if member not in self._orders or self._orders[member][0] != seed:
            is_used = np.ones(self._table.n_rows, dtype=bool)
            if self._table.weight is not None:
                is_used = self._table.weight > 0
            if self._folds is not None:
                is_used = is_used & (self._folds != member)
            rows = np.flatnonzero(is_used)
            if seed is not None:
                np.random.default_rng([seed, self._number]).shuffle(rows)
            self._orders[member] = seed, rows
        return self._orders[member][1]

    def _total_weight(self, rows: IndexArray) -> float:
        weight = self._table.weight
        return float(len(rows) if weight is None else weight[rows].sum())


class ShardPool:
    """Pool of actors, each of which trains on one shard of the rows.

    Parameters
    ----------
    blocks : Blocks
        The encoded rows.
    objective : Objective
        The objective of one network.
    config : TrainingConfig
        The configuration of training.
    dtype : dtype
        The dtype of the parameters.
    sync_every : int
        The largest number of steps of a round.
    n_train : int
        The number of rows that a network is trained on.

    Attributes
    ----------
    n_rounds, n_steps : int
        The number of rounds of an epoch, and the number of steps of a round.
    """

    def __init__(
        self,
        blocks: Blocks,
        objective: Objective,
        config: TrainingConfig,
        dtype: np.dtype[np.floating],
        sync_every: int,
        n_train: int,
    ) -> None:
        self._actors: list[Any] = []
        self._futures: list[Future] = []  # actors live as long as these
        self.n_train, self._client = n_train, blocks.client
        weights = np.array(blocks.compute(_total_weight))
        if not 0 < weights.sum() < math.inf:
            raise ValueError(
                "sample_weight must have a positive and finite sum over all rows, got "
                f"{weights.sum():g}. Give at least one row a positive weight, or scale the weights "
                "down."
            )
        # With synchronous steps the shards share a batch, else each has its own.
        n_steps_alone = -(-n_train // config.batch_size)
        n_batches = 1 if sync_every == 1 else len(blocks.shards)
        n_steps = -(-n_train // (config.batch_size * n_batches))
        self.n_rounds = -(-n_steps // sync_every)
        self.n_steps = -(-n_steps // self.n_rounds)
        self._places = blocks.find_holders([own[0] for own in blocks.shards])  # the workers
        self._arguments: list[tuple[Any, ...]] = []
        for number, own in enumerate(blocks.shards):
            weight_of_batch = weights[own].sum() / (self.n_rounds * self.n_steps)
            weight_alone = weights.sum() / n_steps_alone
            scale = weight_alone / weight_of_batch if weight_of_batch else 1.0
            settings = objective, config, dtype, self.n_rounds, self.n_steps, number, scale
            self._arguments.append((*settings, *(blocks.futures[i] for i in own)))

    def __del__(self) -> None:
        self._drop_actors()

    def train(self, *arguments: Any) -> list[RoundResult]:
        """Return the results of `ShardTrainer.make_steps` on all shards.

        Raises
        ------
        ClusterLostError
            If there are no workers, or rows are lost.
        Exception
            If an actor has raised it.
        """
        last: Exception | None = None
        for n_failures in range(_MAX_FAILURES):
            if self._client.status != "running":
                raise ClusterLostError.for_reason(f"the client is {self._client.status}")
            try:
                if not self._actors:
                    self._make_actors()
                calls = [actor.train(*arguments) for actor in self._actors]
                results = [self._wait_for(call) for call in calls]
                break
            except ClusterLostError:
                raise
            except Exception as error:  # of a lost worker or connection
                last = error
                self._drop_actors()
                time.sleep(_RETRY_PAUSE * 2**n_failures)
        else:
            raise ClusterLostError.for_reason(
                f"workers were lost {_MAX_FAILURES} times in a row: {last}"
            ) from last
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    def _wait_for(self, call: Any) -> Any:
        """Return the result of a call, or raise an error once a worker is gone."""
        while True:
            try:
                return call.result(timeout=_RESULT_TIMEOUT)
            except TimeoutError:
                if call.done() or not set(self._places) <= self._client.nthreads().keys():
                    raise

    def spread(self) -> None:
        """Move shards of lost workers, which others took over, to workers without a shard."""
        is_crowded = len(set(self._places)) < len(self._places)
        if is_crowded and len(self._client.nthreads()) > len(set(self._places)):
            self._drop_actors()

    def _make_actors(self) -> None:
        """Make the actors: on their last workers, else on workers without a shard."""
        with translate_comm_errors():
            self._client.wait_for_workers(1, timeout=_NO_WORKERS_TIMEOUT)
        workers = list(self._client.nthreads())
        free = [worker for worker in workers if worker not in self._places]
        for number, place in enumerate(self._places):
            if place not in workers or place in self._places[:number]:
                self._places[number] = free.pop() if free else workers[number % len(workers)]
        self._futures = [
            self._client.submit(
                ShardTrainer,
                *own,
                actor=True,
                workers=[place],
                allow_other_workers=True,
                pure=False,
            )
            for own, place in zip(self._arguments, self._places, strict=True)
        ]
        with translate_comm_errors(), self._client.as_current():  # the client of actors' calls
            self._actors = [future.result() for future in self._futures]

    def _drop_actors(self) -> None:
        for actor in self._actors:
            # Each call leaves a reference cycle with its actor, whose future would keep the rows on
            # the worker until the next garbage collection of this process.
            actor._future = None
        self._actors, self._futures = [], []


def _total_weight(block: Block, number: int) -> float:
    """Return the total weight of the rows."""
    return block.total_weight


@dataclass
class ClusterTrainer(StackTrainer):
    """Networks that are trained by local SGD on the workers of a cluster.

    In each round all shards start from the same state, and steps are made on batches of their own
    rows (Stich 2019, algorithm 1). Then parameters, statistics and moments are averaged (Reddi et
    al. 2021), weighted by the total weight of the rows. All shards take part in the same number of
    steps, so that the weighted loss of all rows is minimized (Wang et al. 2020, section 3). After
    rounds of one step, the result of plain SGD is that of one machine. The tables are a sample of
    the rows.

    Parameters
    ----------
    objective, state, tables, batch_sizes, rule, schedule, rate, time_limit, numbers
        As for `StackTrainer`.
    pool : ShardPool
        The rows, on the workers.

    References
    ----------
    Reddi, S. et al. (2021). Adaptive federated optimization. ICLR.

    Stich, S. U. (2019). Local SGD converges fast and communicates little. ICLR.

    Wang, J. et al. (2020). Tackling the objective inconsistency problem in heterogeneous federated
    optimization. NeurIPS.
    """

    pool: ShardPool = field(kw_only=True)

    def run_epoch(self, rate: Array) -> Array:
        """Visit all rows once and return the loss of each network, penalty included."""
        pool, state = self.pool, self.state
        pool.spread()
        orders = [None if rng is None else int(rng.randint(_MAX_SEED)) for rng in state.rngs]
        masks = [int(rng.integers(_MAX_SEED)) for rng in state.masks] or [0] * len(self)
        losses, weights = np.zeros((2, len(self)))
        rounds: Any = range(pool.n_rounds)
        if self.time_limit is not None:
            rounds = self.time_limit.iter_until_reached(rounds)
        for number in rounds:
            arrays = trained_arrays(state)
            results = pool.train(arrays, rate, self.numbers, orders, masks, number)
            average_results(state, results)
            first, last = (pool.n_train * at // pool.n_rounds for at in (number, number + 1))
            state.n_samples_seen += last - first
            self._update_average(last - first)
            for result in results:
                losses += result.weights * result.losses
                weights += result.weights
        return losses / weights

    def _update_average(self, n_rows: int) -> None:
        """Update the average of the weights, as if all steps of the round had led to this state."""
        if self.rule.average is None:
            return
        theta, statistics = self.parameters.theta, self.parameters.statistics
        n_steps = self.pool.n_steps
        for step in range(n_steps):
            n_rows_of_step = n_rows * (step + 1) // n_steps - n_rows * step // n_steps
            self.rule.average.update(
                theta, self.gradients.theta, self.state.average, n_rows_of_step, statistics
            )


def trained_arrays(state: TrainState) -> list[Array]:
    """Return the arrays of a state that steps change, with a row for each network."""
    parameters = state.parameters
    return [parameters.theta, *parameters.statistics.values(), *state.optimizer.values()]


def average_results(state: TrainState, results: Sequence[RoundResult]) -> None:
    """Set a state to the mean of the results of all shards, weighted by their rows.

    An adaptive optimizer divides its steps by the root of a second moment, which differs between
    shards within a round. Shards with large gradients would make smaller steps than the weighted
    loss requires. So each parameter is also weighted by this root, taken in the middle of the
    round, as in Wang et al. (2021), "Local adaptivity in federated learning", arXiv:2106.02305.

    Parameters
    ----------
    state : TrainState
        The state before the round, changed in place.
    results : sequence of RoundResult
        The results of the round. Shards without rows return what they were given.
    """
    weights = np.array([result.weights for result in results])[..., None]
    totals, equal = weights.sum(axis=0), np.full(weights.shape, 1 / len(results))
    parts = np.divide(weights, totals, out=equal, where=totals > 0)
    columns = list(zip(*(result.arrays for result in results), strict=True))
    means = [
        sum(part * array for part, array in zip(parts, column, strict=True)) for column in columns
    ]
    names = ["theta", *state.parameters.statistics, *state.optimizer]
    moment = next((name for name in _SECOND_MOMENTS if name in state.optimizer), None)
    if moment is not None and len(results) > 1:
        total, weighted = np.zeros_like(means[0]), np.zeros_like(means[0])
        pairs = zip(parts, columns[0], columns[names.index(moment)], strict=True)
        for part, theta, after in pairs:
            scale = part * np.sqrt((state.optimizer[moment] + after) / 2)
            total += scale
            weighted += scale * theta
        np.divide(weighted, total, out=means[0], where=total > 0)
    for array, mean in zip(trained_arrays(state), means, strict=True):
        # Counts of steps are equal, up to rounding.
        np.copyto(array, mean if array.dtype.kind == "f" else np.rint(mean), casting="unsafe")
