"""Trainer of networks whose rows are on the workers of a cluster.

Training survives the loss of workers. Partitions are Dask tasks, which other workers compute again,
and a call depends on its arguments alone. So a call that has lost a worker is repeated with new
actors. Actors are also replaced after a worker has joined.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import numpy as np
from distributed import Future

from ..nn.network import Network
from ..nn.objective import Objective, fsum_or_nan
from ..nn.parameters import Parameters
from ..nn.stack_trainer import StackTrainer
from ..nn.train_state import TrainState
from ..training.config import TrainingConfig
from ..training.training_task import Evaluator
from ..utils.arrays import Array
from ._cluster_errors import ClusterLostError, make_cluster_lost_error, translate_comm_errors
from ._partitions import Partitions
from ._worker import EpochSlice, RoundResult, WorkerActor, WorkerShare, get_changed_arrays

# The topic of the events by which any client of the cluster can follow a training.
TOPIC = "skbackprop"

# Seconds between two checks for workers that have joined or left.
_CHECK_INTERVAL = 1.0

# Seconds to wait for a result before a check whether its worker is alive.
_RESULT_TIMEOUT = 2.0

# Seconds that a cluster may have no workers.
_NO_WORKERS_TIMEOUT = 60.0

# Consecutive failures of a call before it is given up, and the first pause in seconds between
# retries, which doubles each time.
_MAX_FAILURES = 6
_RETRY_PAUSE = 0.1

# The bound of the seeds of orders and masks.
_MAX_SEED = np.iinfo(np.int64).max

# The state by whose root adaptive optimizers divide their steps: the first of these that exists.
_SECOND_MOMENTS = "largest_second_moment", "second_moment", "sum_of_squares"


class ActorPool:
    """One actor on each worker, with a share of the partitions.

    Actors are created at the first call, and again after a worker has left or joined.

    Parameters
    ----------
    partitions : Partitions
        The rows.
    objective : Objective
        The objective of one network.
    config : TrainingConfig
        The configuration of training.

    Attributes
    ----------
    config : TrainingConfig
        The configuration, with a batch size of at most the number of rows.
    n_calls : int
        The number of calls so far.
    """

    def __init__(
        self, partitions: Partitions, objective: Objective, config: TrainingConfig
    ) -> None:
        self._actors: list[Any] = []
        self.partitions = partitions
        self.config = replace(config, batch_size=min(config.batch_size, partitions.n_train))
        self.n_calls = 0
        self._objective, self._client = objective, partitions.client
        self._workers: list[str] = []
        self._futures: list[Future] = []  # actors live as long as these
        self._max_rows = 0
        self._last_check = -math.inf
        self._fit_id = uuid4().hex[:8]

    def __del__(self) -> None:
        self._drop_actors()

    @property
    def max_rows(self) -> int:
        """The number of rows that a network is trained on by the worker with the most."""
        self._update_actors()
        return self._max_rows

    def map(self, method: str, *arguments: Any) -> list[Any]:
        """Return the results of a method of all actors.

        Raises
        ------
        ClusterLostError
            If there are no workers, or rows are lost.
        Exception
            If an actor has raised it.
        """
        self.n_calls += 1
        n_failures = 0
        while True:
            try:
                self._update_actors()
                futures = [actor.call(method, *arguments) for actor in self._actors]
                results = [self._wait_for(future) for future in futures]
                break
            except ClusterLostError:
                raise
            except Exception as error:  # a lost worker or connection
                self._drop_actors()
                n_failures += 1
                if any(future.cancelled() for future in self.partitions.futures):
                    raise make_cluster_lost_error("blocks of rows were cancelled") from error
                if n_failures == _MAX_FAILURES:
                    raise make_cluster_lost_error(
                        f"workers were lost {_MAX_FAILURES} times in a row: {error}"
                    ) from error
            time.sleep(_RETRY_PAUSE * 2**n_failures)
        for result in results:
            if isinstance(result, Exception):
                raise result
        return results

    def log_event(self, **event: Any) -> None:
        """Log an event to the scheduler. Communication errors are ignored."""
        if self._client.status == "running":
            with suppress(OSError, CancelledError):
                self._client.log_event(TOPIC, {"fit": self._fit_id, **event})

    def _wait_for(self, future: Any) -> Any:
        """Return the result of a call, or raise a ConnectionError once a worker is lost."""
        while True:
            try:
                return future.result(timeout=_RESULT_TIMEOUT)
            except TimeoutError:
                if future.done():
                    raise
            if not set(self._workers) <= set(self._find_workers()):
                raise ConnectionError("a worker is gone")

    def _find_workers(self) -> list[str]:
        """Return the addresses of the workers of the cluster."""
        self._last_check = time.monotonic()
        if self._client.status != "running":
            raise make_cluster_lost_error(f"the client is {self._client.status}")
        with translate_comm_errors():
            return list(self._client.nthreads())

    def _update_actors(self) -> None:
        """Create actors if there are none, or if workers have left or joined."""
        if self._actors and time.monotonic() - self._last_check < _CHECK_INTERVAL:
            return
        workers = self._find_workers()
        if self._actors and set(workers) == set(self._workers):
            return
        timeout = time.monotonic() + _NO_WORKERS_TIMEOUT
        while not workers:
            if time.monotonic() > timeout:
                raise make_cluster_lost_error("there are no workers")
            time.sleep(_RETRY_PAUSE)
            workers = self._find_workers()
        self._drop_actors()
        self._create_actors(workers)
        self._workers, self._last_check = workers, time.monotonic()

    def _drop_actors(self) -> None:
        for actor in self._actors:
            # Each call leaves a reference cycle with its actor, whose future would keep the rows on
            # the worker until the next garbage collection of this process.
            actor._future = None
        self._actors, self._futures, self._last_check = [], [], -math.inf

    def _create_actors(self, workers: Sequence[str]) -> None:
        partitions, infos = self.partitions.futures, self.partitions.infos
        locations = self._client.who_has(partitions)
        holders = [[*locations.get(future.key, ())] for future in partitions]
        n_rows, n_train, weights = zip(
            *((info.n_rows, info.n_train, info.weight) for info in infos), strict=True
        )
        assigned = zip(assign_partitions(holders, n_rows, workers), workers, strict=True)
        # In the order of the partitions, so that results do not depend on the workers' addresses.
        numbers, workers = zip(*sorted(pair for pair in assigned if pair[0]), strict=True)
        shares = make_worker_shares(numbers, n_train, weights, self.config.batch_size)
        self._max_rows = shares[0].max_rows
        self._futures = [
            self._client.submit(
                WorkerActor,
                self._objective,
                self.config,
                share,
                *(partitions[i] for i in share.partitions),
                key=f"backprop-actor-{uuid4()}",
                actor=True,
                workers=[worker],
                allow_other_workers=True,
            )
            for share, worker in zip(shares, workers, strict=True)
        ]
        with self._client.as_current():  # the client that the actors' calls go through
            self._actors = [future.result() for future in self._futures]


def make_worker_shares(
    numbers: Sequence[list[int]], n_rows: Sequence[int], weights: Sequence[float], batch_size: int
) -> list[WorkerShare]:
    """Return the share of each worker.

    Parameters
    ----------
    numbers : sequence of lists of int
        The numbers of the partitions of each worker.
    n_rows, weights : sequences of numbers
        The number of rows that a network is trained on and the total weight of each partition.
    batch_size : int
        The number of rows in a batch.
    """
    sizes = [sum(n_rows[i] for i in own) for own in numbers]
    n_steps = [-(-size // batch_size) for size in sizes]
    largest = max(weights)  # weights may be too small to be multiplied
    total = math.fsum(weight / largest for weight in weights) * max(n_steps)
    shares = []
    for own in numbers:
        weight = math.fsum(weights[i] for i in own)
        fraction = weight / largest * sum(n_steps) / total
        scale = 1 / fraction if fraction >= sys.float_info.min else 1.0
        shares.append(WorkerShare(own, weight, max(sizes), scale))
    return shares


def assign_partitions(
    holders: Sequence[Sequence[str]], n_rows: Sequence[int], workers: Sequence[str]
) -> list[list[int]]:
    """Return the numbers of the partitions that each worker takes.

    Workers take the partitions that they hold. Then partitions move from the worker with the most
    rows to the worker with the least, as long as the second then has no more rows than the first.

    Parameters
    ----------
    holders : sequence of sequences of str
        The workers that hold each partition.
    n_rows : sequence of int
        The number of rows of each partition.
    workers : sequence of str
        All workers.
    """
    assigned: dict[str, list[int]] = {worker: [] for worker in workers}

    def load(worker: str) -> int:
        return sum(n_rows[i] for i in assigned[worker])

    for i in sorted(range(len(n_rows)), key=lambda i: -n_rows[i]):
        candidates = [worker for worker in holders[i] if worker in assigned] or list(workers)
        assigned[min(candidates, key=load)].append(i)
    while True:
        most, least = max(workers, key=load), min(workers, key=load)
        gap = load(most) - load(least)
        movable = [i for i in assigned[most] if 2 * n_rows[i] <= gap]
        if not movable:
            return [sorted(assigned[worker]) for worker in workers]
        largest = max(movable, key=lambda i: n_rows[i])
        assigned[most].remove(largest)
        assigned[least].append(largest)


@dataclass
class DistributedTrainer(StackTrainer):
    """Networks that are trained by synchronous or local SGD on the workers of a cluster.

    All networks take part in each round, with rows in an order of their own, and each is computed
    as if it were alone. The tables are a sample of the rows.

    With ``sync_every=1`` all workers share each batch, and each step uses the sum of their
    gradients (Dean et al. 2012, section 4, without stale gradients): what one machine computes for
    the same batch, up to rounding.

    Otherwise a round is local SGD (Stich 2019, algorithm 1). All workers start with the same
    parameters and moments and make `sync_every` steps on batches of their own rows. Parameters,
    moments, averages and running statistics are then averaged (Reddi et al. 2021, Wang et al.
    2020), weighted by the total weight of each worker's rows. All workers make the same number of
    steps, so that the weighted loss of all rows is minimized (Wang et al. 2020b, section 3): the
    worker with the most rows takes batches of at most about the batch size, and one with fewer
    rows visits them several times or takes smaller batches.

    Parameters
    ----------
    objective, state, tables, batch_sizes, rule, schedule, rate, time_limit, numbers
        As for `StackTrainer`.
    pool : ActorPool
        The rows, on the workers.
    sync_every : int
        The number of steps in a round.

    References
    ----------
    Dean, J. et al. (2012). Large scale distributed deep networks. NeurIPS.

    Reddi, S. et al. (2021). Adaptive federated optimization. ICLR.

    Stich, S. U. (2019). Local SGD converges fast and communicates little. ICLR.

    Wang, J. et al. (2020). SlowMo: improving communication-efficient distributed SGD with slow
    momentum. ICLR, section 2.

    Wang, J. et al. (2020b). Tackling the objective inconsistency problem in heterogeneous federated
    optimization. NeurIPS.
    """

    pool: ActorPool = field(kw_only=True)
    sync_every: int = field(kw_only=True)

    def run_epoch(self, rate: Array) -> Array:
        """Visit all rows once and return the loss of each network, penalty included."""
        pool, partitions = self.pool, self.pool.partitions
        start, n_calls = time.perf_counter(), pool.n_calls
        is_synchronous, batch_size = self.sync_every == 1, pool.config.batch_size
        n_steps = -(-(partitions.n_train if is_synchronous else pool.max_rows) // batch_size)
        n_rounds = -(-n_steps // self.sync_every)
        losses: list[list[float]] = [[] for _ in range(len(self))]  # of each network
        weights: list[list[float]] = [[] for _ in range(len(self))]
        for slices in self._iter_slices(n_rounds):
            state = get_changed_arrays(self.state, is_synchronous)
            results = pool.map("train", is_synchronous, state, rate, slices)
            of_round = slices[0].slice_partition(partitions.n_train, 0)
            n_rows = of_round.stop - of_round.start
            self.state.n_samples_seen += n_rows
            for i, parts in enumerate(zip(*results, strict=True)):
                member = slice(i, i + 1)
                if is_synchronous:
                    losses[i] += self._make_step(member, parts, batch_size, rate[i].item())
                    weights[i] += [part.weight for part in parts]
                else:
                    average_workers(self.state.take(member), parts, n_rows)
                    losses[i] += [part.loss / n_rounds for part in parts]
                    weights[i] += [part.weight / n_rounds for part in parts]
        means = np.array(
            [
                fsum_or_nan(own_losses) / math.fsum(own_weights)
                for own_losses, own_weights in zip(losses, weights, strict=True)
            ]
        )
        pool.log_event(
            epoch=int(self.state.n_samples_seen.max()) // partitions.n_train,
            loss=float(means.mean()),
            sync_every=self.sync_every,
            n_rounds=pool.n_calls - n_calls,
            seconds=time.perf_counter() - start,
        )
        return means

    def _iter_slices(self, n_rounds: int) -> Iterable[list[EpochSlice]]:
        """Yield the slices of each round, one for each network, until the time limit."""
        rngs = self.state.rngs
        # Networks that share a stream visit rows in the same order.
        seeds = {
            key: None if rng is None else int(rng.randint(_MAX_SEED, dtype=np.int64))
            for key, rng in {id(rng): rng for rng in rngs}.items()
        }
        mask_seeds = [int(rng.integers(_MAX_SEED)) for rng in self.state.masks] or [0] * len(self)
        slices: Iterable[list[EpochSlice]] = (
            [
                EpochSlice(seeds[id(rng)], mask_seed, number, n_rounds, member)
                for rng, mask_seed, member in zip(rngs, mask_seeds, self.numbers, strict=True)
            ]
            for number in range(n_rounds)
        )
        return slices if self.time_limit is None else self.time_limit.iter_until_reached(slices)

    def _make_step(
        self, member: slice, parts: Sequence[RoundResult], n_rows: int, rate: float
    ) -> list[float]:
        """Make a step of one network with the gradients of a batch, and return its losses."""
        weights = [part.weight for part in parts]
        total = math.fsum(weights)
        if total == 0:
            return []
        step = self._step(member, 1)  # bound to the smallest batch, because it sees no rows
        statistics = self.parameters.members(member).statistics
        mean = _weighted_mean([part.outcome.theta for part in parts], weights)
        np.copyto(step.gradient.g, mean, casting="same_kind")
        for name, array in statistics.items():
            each = [part.outcome.statistics[name] for part in parts]
            np.copyto(array, _weighted_mean(each, weights))
        objective = step.gradient.objective
        sums_of_weights = step.gradient.add_penalty(total)
        step.update(n_rows, rate)
        losses = [part.loss / objective.loss_normalizer for part in parts]
        return losses + objective.penalty.value(sums_of_weights.astype(float)).tolist()


class RemoteEvaluator:
    """Evaluator whose raw predictions are computed on the workers.

    Parameters
    ----------
    evaluator : Evaluator
        The evaluator of the loss and the score.
    pool : ActorPool
        The validation rows.
    """

    def __init__(self, evaluator: Evaluator, pool: ActorPool) -> None:
        self.loss, self.score, self._pool = evaluator.loss, evaluator.score, pool

    def predict(self, network: Network, parameters: Parameters, X: Any, rows: Any) -> Array:
        """Return the raw predictions of all rows by each network; X and rows are not used."""
        parts: dict[int, Array] = {}
        for part in self._pool.map("predict_raw", parameters):
            parts |= part
        return np.concatenate([parts[number] for number in sorted(parts)], axis=1)


def average_workers(state: TrainState, results: Sequence[RoundResult], n_rows: int) -> None:
    """Set a state to the mean over the workers, weighted by the total weight of their rows.

    All workers have made the same number of steps, so the expected step is that of the weighted
    mean of all rows.

    Parameters
    ----------
    state : TrainState
        The state before the round, changed in place.
    results : sequence of RoundResult
        The states of the workers after the round.
    n_rows : int
        The number of rows of all workers in the round.
    """
    weighted = [(part.outcome, part.weight) for part in results if part.weight > 0]
    parts: list[TrainState] = [part for part, _ in weighted]
    weights = [weight for _, weight in weighted]
    theta = state.parameters.theta
    np.copyto(theta, _average_parameters(state, parts, weights), casting="same_kind")
    for name, array in state.parameters.statistics.items():
        _set_to_mean(array, [part.parameters.statistics[name] for part in parts], weights)
    for name, array in state.optimizer.items():
        _set_to_mean(array, [part.optimizer[name] for part in parts], weights)
    for name, array in state.average.items():
        own_weights = weights
        if name != "total":
            if array.dtype.kind != "f":  # the number of rows seen
                array += n_rows
                continue
            # The averages of workers count by their number of steps, which may be zero.
            own_weights = [
                weight * part.average["total"].item()
                for part, weight in zip(parts, weights, strict=True)
            ]
        _set_to_mean(array, [part.average[name] for part in parts], own_weights)


def _average_parameters(
    before: TrainState, parts: Sequence[TrainState], weights: Sequence[float]
) -> Array:
    """Return the mean of the workers' parameters, corrected for their second moments.

    An adaptive optimizer divides its steps by the root of a second moment, which differs between
    workers within a round. Workers with large gradients would make smaller steps than the weighted
    loss requires. So each parameter is also weighted by this root, taken in the middle of the
    round, as in Wang et al. (2021), "Local adaptivity in federated learning", arXiv:2106.02305.
    """
    mean = _weighted_mean([part.parameters.theta for part in parts], weights)
    name = next((name for name in _SECOND_MOMENTS if name in before.optimizer), None)
    if name is None or len(parts) == 1:
        return mean
    moment, total_weight = before.optimizer[name].astype(float), math.fsum(weights)
    total, weighted = np.zeros(mean.shape), np.zeros(mean.shape)
    for part, weight in zip(parts, weights, strict=True):
        scale = weight / total_weight * np.sqrt((moment + part.optimizer[name]) / 2)
        total += scale
        weighted += scale * part.parameters.theta
    return np.divide(weighted, total, out=mean, where=total > 0)


def _set_to_mean(array: Array, parts: Sequence[Array], weights: Sequence[float]) -> None:
    """Set an array to the weighted mean of others, rounded if it holds integers."""
    mean = _weighted_mean(parts, weights)
    np.copyto(array, mean if array.dtype.kind == "f" else np.rint(mean), casting="unsafe")


def _weighted_mean(arrays: Sequence[Array], weights: Sequence[float]) -> Array:
    """Return the weighted mean of arrays in double precision."""
    total = math.fsum(weights)
    mean = np.zeros(arrays[0].shape)
    for array, weight in zip(arrays, weights, strict=True):
        if weight:
            mean += weight / total * array
    return mean
