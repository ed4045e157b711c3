"""Training on the workers: local steps from a common state, whose results are averaged.

The rows are divided into shards, one for each worker, where an actor trains on it. Other workers
can compute the blocks of a shard again, and a call depends only on its arguments. A call that loses
a worker is therefore repeated with new actors.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import numpy as np
from distributed import Future

from ..losses.base import Loss
from ..nn.network import Network
from ..nn.rows import Rows
from ..nn.stack import BaseStack, Stack, TimeLimitReached
from ..nn.train_state import TrainState
from ..training.config import Config
from ..training.epochs import Members
from ..training.model import Model
from ..training.problem import Problem
from ..utils.arrays import Array, IndexArray, LazyMatrix
from ._blocks import Block, ClusterLostError, concatenate, translate_comm_errors

# Seconds after which a call fails if the cluster has no workers, and seconds between checks that
# the workers of a call are alive. A call may fail this often in a row. The pause in seconds after
# a failure doubles each time.
_NO_WORKERS_TIMEOUT, _RESULT_TIMEOUT = 60.0, 2.0
_MAX_FAILURES = 6
_RETRY_PAUSE = 0.2

# The bound of the seeds of orders and of stochastic layers.
_MAX_SEED = np.iinfo(np.int32).max

# Adaptive optimizers divide steps by the root of the first of these states that exists.
_SECOND_MOMENTS = "largest_second_moment", "second_moment", "sum_of_squares"


@dataclass(frozen=True, eq=False)
class ClusterProblem(Problem):
    """Data of a training on a cluster: a `Problem` for a sample of the rows, with all rows.

    Attributes
    ----------
    blocks : Blocks
        All rows, encoded, on the workers.
    """

    blocks: Any = None


class RoundResult(NamedTuple):
    """Result of a round of steps on one shard.

    Parameters
    ----------
    state : TrainState
        The state after the round.
    weights : array of shape (n_estimators,)
        The total weight of the rows.
    losses : array of shape (n_estimators,)
        The mean loss of the rows, including the penalty.
    """

    state: TrainState
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
            places = np.flatnonzero(source == i)
            out[places] = self._parts[i][rows[places] - self._starts[i]]


class ShardTrainer:
    """Actor that makes local steps on one shard of the rows.

    Parameters
    ----------
    network : Network
        The architecture, with the layers for training only.
    loss : Loss
        The loss.
    config : Config
        The configuration of training.
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
        network: Network,
        loss: Loss,
        config: Config,
        n_rounds: int,
        n_steps: int,
        number: int,
        scale: float,
        *blocks: Block,
    ) -> None:
        self._network, self._loss, self._config = network, loss, config
        self._n_rounds, self._n_steps = n_rounds, n_steps
        self._number, self._scale = number, scale
        X, y, weights, folds = zip(*blocks, strict=True)
        matrix = X[0]
        if len(X) > 1:
            matrix = concatenate(X) if hasattr(matrix, "indptr") else StackedRows(X)
        targets, weight = np.concatenate(y), None
        if weights[0] is not None or scale != 1:
            weight = np.ones(len(targets)) if weights[0] is None else np.concatenate(weights)
            weight *= scale
        self._rows = Rows(matrix, targets, weight)
        self._folds = None if folds[0] is None else np.concatenate(folds)
        self._orders: dict[int, tuple[int | None, IndexArray]] = {}
        self._stacks: dict[int, tuple[Stack, IndexArray]] = {}  # batch sizes are the keys

    def train(self, *arguments: Any) -> RoundResult | Exception:
        """Return the result of `make_steps`, or the exception that it raises.

        This lets the client tell errors of the computation from errors of the connection.
        """
        try:
            return self.make_steps(*arguments)
        except Exception as error:
            return error

    def make_steps(
        self,
        state: TrainState,
        rates: Array,
        members: Sequence[int],
        order_seeds: Sequence[int | None],
        layer_seeds: Sequence[int],
        round_number: int,
    ) -> RoundResult:
        """Return all networks after the steps of a round.

        Parameters
        ----------
        state : TrainState
            The parameters, statistics and moments before the round, which do not change.
        rates : array of shape (n_estimators, 1)
            The learning rates.
        members : sequence of int
            The numbers of the networks, each of which may hold out some rows.
        order_seeds : sequence of int or None
            The seed of the order of the rows in this epoch, for each network; None without
            shuffling.
        layer_seeds : sequence of int
            The seed of the stochastic layers in this epoch, for each network.
        round_number : int
            The number of the round in the epoch.
        """
        state = state.copy()
        weights, losses = np.zeros((2, len(state)))
        for i, member in enumerate(members):
            order = self._draw_order(member, order_seeds[i])
            start, stop = (
                len(order) * number // self._n_rounds for number in (round_number, round_number + 1)
            )
            if start == stop:
                continue
            weights[i] = self._total_weight(order[start:stop]) / self._scale
            stack, rows = self._bind(state, i, order[start:stop])
            for layer_rng in stack.state.layer_rngs:
                if layer_rng is not None:
                    seed = layer_seeds[i], self._number, round_number
                    layer_rng.bit_generator.state = np.random.default_rng(seed).bit_generator.state
            # The mean loss of a stack counts each row once, but steps may visit rows twice.
            total = stack.train_epoch(rates[i : i + 1]) * stack.batches.total_weights
            losses[i] = total.item() / self._total_weight(rows)
            for array, source in zip(
                state.trained_arrays(), stack.state.trained_arrays(), strict=True
            ):
                array[i] = source[0]
        return RoundResult(state, weights, losses)

    def _bind(self, state: TrainState, i: int, rows: IndexArray) -> tuple[Stack, IndexArray]:
        """Return a stack of the i-th network, and the rows of its epoch, which is a round.

        All batches have the same size. Some rows are visited twice if their number is not a
        multiple of the number of steps.
        """
        batch_size = -(-len(rows) // self._n_steps)
        rows = np.resize(rows, batch_size * self._n_steps)
        if batch_size not in self._stacks:
            layer_rngs = [np.random.default_rng() if self._network.stochastic else None]
            order = rows.copy()
            member_state = replace(
                state.take(slice(i, i + 1)).copy(), orders=[order], layer_rngs=layer_rngs
            )
            config = replace(self._config, batch_size=batch_size)
            stack = Stack(self._network, self._loss, config, [self._rows], member_state)
            self._stacks[batch_size] = stack, order
        stack, order = self._stacks[batch_size]
        order[:] = rows
        for target, array in zip(stack.state.trained_arrays(), state.trained_arrays(), strict=True):
            target[0] = array[i]
        return stack, order

    def _draw_order(self, member: int, seed: int | None) -> IndexArray:
        """Return the rows that a network is trained on, in their order in an epoch."""
        if member not in self._orders or self._orders[member][0] != seed:
            is_used = np.ones(self._rows.n_rows, dtype=bool)
            if self._rows.weight is not None:
                is_used = self._rows.weight > 0
            if self._folds is not None:
                is_used = is_used & (self._folds != member)
            rows = np.flatnonzero(is_used)
            if seed is not None:
                np.random.default_rng([seed, self._number]).shuffle(rows)
            self._orders[member] = seed, rows
        return self._orders[member][1]

    def _total_weight(self, rows: IndexArray) -> float:
        weight = self._rows.weight
        return float(len(rows) if weight is None else weight[rows].sum())


class ShardPool:
    """Pool of actors, each of which trains on one shard of the rows.

    Parameters
    ----------
    problem : ClusterProblem
        The data.
    model : Model
        The networks.
    sync_every : int
        The largest number of steps of a round.

    Attributes
    ----------
    n_train : int
        The number of rows that a network is trained on.
    n_rounds, n_steps : int
        The number of rounds of an epoch, and the number of steps of a round.
    """

    def __init__(self, problem: ClusterProblem, model: Model, sync_every: int) -> None:
        self._actors: list[Any] = []
        self._futures: list[Future] = []  # an actor lives as long as its future
        config = model.config
        blocks = problem.blocks
        n_train = blocks.n_rows
        if problem.has_folds:
            n_train -= n_train // config.n_estimators
        self.n_train = n_train
        self._client = blocks.client
        weights = np.array(blocks.map_and_gather(_total_weight))
        if not 0 < weights.sum() < math.inf:
            raise ValueError(
                "sample_weight must have a positive and finite sum over all rows, got "
                f"{weights.sum():g}. Give at least one row a positive weight, or scale the weights "
                "down."
            )
        # With synchronous steps the shards share a batch, else each has its own.
        n_single_steps = -(-n_train // config.batch_size)
        n_batches = 1 if sync_every == 1 else len(blocks.shards)
        n_steps = -(-n_train // (config.batch_size * n_batches))
        self.n_rounds = -(-n_steps // sync_every)
        self.n_steps = -(-n_steps // self.n_rounds)
        self._workers = blocks.find_holders([numbers[0] for numbers in blocks.shards])
        network = model.training_network
        loss = problem.targets.loss
        # The client averages the weights over the steps, and draws the seeds of orders.
        config = replace(config, average=None, shuffle=False, early_stopping=None, init=None)
        self._arguments: list[tuple[Any, ...]] = []
        for number, numbers in enumerate(blocks.shards):
            batch_weight = weights[numbers].sum() / (self.n_rounds * self.n_steps)
            single_weight = weights.sum() / n_single_steps
            scale = single_weight / batch_weight if batch_weight else 1.0
            sizes, futures = (self.n_rounds, self.n_steps), [blocks.futures[i] for i in numbers]
            self._arguments.append((network, loss, config, *sizes, number, scale, *futures))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._drop_actors()
        self._arguments = []  # they hold the rows

    def train(self, *arguments: Any) -> list[RoundResult]:
        """Return the results of `ShardTrainer.make_steps` on all shards.

        Raises
        ------
        ClusterLostError
            If there are no workers, or rows are lost.
        Exception
            If an actor has raised it.
        """
        last_error: Exception | None = None
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
            except Exception as error:  # a worker or connection is lost
                last_error = error
                self._drop_actors()
                time.sleep(_RETRY_PAUSE * 2**n_failures)
        else:
            raise ClusterLostError.for_reason(
                f"workers were lost {_MAX_FAILURES} times in a row: {last_error}"
            ) from last_error
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
                if call.done() or not set(self._workers) <= self._client.nthreads().keys():
                    raise

    def rebalance(self) -> None:
        """Move shards of lost workers, which others took over, to workers without a shard."""
        is_crowded = len(set(self._workers)) < len(self._workers)
        if is_crowded and len(self._client.nthreads()) > len(set(self._workers)):
            self._drop_actors()

    def _make_actors(self) -> None:
        """Make the actors: on their last workers, else on workers without a shard."""
        with translate_comm_errors():
            self._client.wait_for_workers(1, timeout=_NO_WORKERS_TIMEOUT)
        workers = list(self._client.nthreads())
        spares = [worker for worker in workers if worker not in self._workers]
        for number, worker in enumerate(self._workers):
            if worker not in workers or worker in self._workers[:number]:
                self._workers[number] = spares.pop() if spares else workers[number % len(workers)]
        self._futures = [
            self._client.submit(
                ShardTrainer,
                *arguments,
                actor=True,
                workers=[worker],
                allow_other_workers=True,
                pure=False,
            )
            for arguments, worker in zip(self._arguments, self._workers, strict=True)
        ]
        with translate_comm_errors(), self._client.as_current():  # actors call through it
            self._actors = [future.result() for future in self._futures]

    def _drop_actors(self) -> None:
        for actor in self._actors:
            # Each call leaves a reference cycle with its actor, whose future would keep the rows on
            # the worker until the next garbage collection of this process.
            actor._future = None
        self._actors, self._futures = [], []


def _total_weight(block: Block, number: int) -> float:
    """Return the total weight of the rows."""
    return float(len(block.y) if block.weight is None else block.weight.sum())


class ClusterStack(BaseStack):
    """Networks that are trained by local SGD on the workers of a cluster.

    In each round all shards start from the same state, and steps are made on batches of their own
    rows (Stich 2019, algorithm 1). Then parameters, statistics and moments are averaged (Reddi et
    al. 2021), weighted by the total weight of the rows. All shards take part in the same number of
    steps, so that the weighted loss of all rows is minimized (Wang et al. 2020, section 3). With
    rounds of one step, plain SGD gives the same result as on one machine.

    Parameters
    ----------
    pool : ShardPool
        The rows, on the workers.
    members : Members
        The members, whose state is changed in place.

    References
    ----------
    Reddi, S. et al. (2021). Adaptive federated optimization. ICLR.

    Stich, S. U. (2019). Local SGD converges fast and communicates little. ICLR.

    Wang, J. et al. (2020). Tackling the objective inconsistency problem in heterogeneous federated
    optimization. NeurIPS.
    """

    def __init__(self, pool: ShardPool, members: Members) -> None:
        super().__init__(members.config, members.state)
        self._pool = pool
        self._members = members.numbers.tolist()

    def train_epoch(self, rate: Array, deadline: float = math.inf) -> Array:
        pool, state = self._pool, self.state
        pool.rebalance()
        order_seeds: list[int | None] = [None] * len(state)
        if self.config.shuffle:
            order_seeds = [int(rng.randint(_MAX_SEED)) for rng in state.rngs if rng is not None]
        layer_seeds = [
            0 if rng is None else int(rng.integers(_MAX_SEED)) for rng in state.layer_rngs
        ]
        # Local steps need these fields of the state only.
        shared_state = TrainState.initial(state.parameters, optimizer=state.optimizer)
        losses, weights = np.zeros((2, len(state)))
        for number in range(pool.n_rounds):
            if time.monotonic() > deadline and (number or state.epoch.any()):
                raise TimeLimitReached
            results = pool.train(
                shared_state, rate, self._members, order_seeds, layer_seeds, number
            )
            average_results(shared_state, results)
            start, stop = (pool.n_train * i // pool.n_rounds for i in (number, number + 1))
            state.n_samples_seen += stop - start
            self._update_average(stop - start)
            for result in results:
                losses += result.weights * result.losses
                weights += result.weights
        return np.asarray(losses / weights)

    def _update_average(self, n_rows: int) -> None:
        """Update the weight average as if the state had been the same in all steps of the round."""
        average, state, n_steps = self.config.average, self.state, self._pool.n_steps
        if average is None:
            return
        theta, buffers = state.parameters.theta, state.parameters.statistics
        scratch = np.empty_like(theta)
        for step in range(n_steps):
            n_step_rows = n_rows * (step + 1) // n_steps - n_rows * step // n_steps
            average.update(theta, scratch, state.average, n_step_rows, buffers)


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
        The results of the round. Shards without rows return the state unchanged.
    """
    weights = np.array([result.weights for result in results])[..., None]
    totals, shares = weights.sum(axis=0), np.full(weights.shape, 1 / len(results))
    shares = np.divide(weights, totals, out=shares, where=totals > 0)

    def average(arrays: Iterable[Array]) -> Any:
        return sum(share * array for share, array in zip(shares, arrays, strict=True))

    columns = zip(*(result.state.trained_arrays() for result in results), strict=True)
    means = [average(column) for column in columns]
    moment = next((name for name in _SECOND_MOMENTS if name in state.optimizer), None)
    if moment is not None and len(results) > 1:
        start, states = state.optimizer[moment], [result.state for result in results]
        scales = [np.sqrt((start + item.optimizer[moment]) / 2) for item in states]
        pairs = zip(scales, states, strict=True)
        sums, total = average(s * item.parameters.theta for s, item in pairs), average(scales)
        np.divide(sums, total, out=means[0], where=total > 0)
    for array, mean in zip(state.trained_arrays(), means, strict=True):
        # Counts of steps are equal, up to rounding.
        np.copyto(array, mean if array.dtype.kind == "f" else np.rint(mean), casting="unsafe")
