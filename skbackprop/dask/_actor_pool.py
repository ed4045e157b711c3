"""Pool of actors that hold the rows of a cluster, and calls to all of them.

Training survives the loss of workers. Partitions are Dask tasks, which other workers compute again,
and a call depends on its arguments alone. So a call that has lost a worker is repeated with new
actors. Actors are also replaced after a worker has joined.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

from distributed import Client, Future

from ._errors import ClusterLostError, cluster_lost_error, translate_comm_errors
from ._partitions import Partitions, unique_suffix
from ._worker import RemoteError, WorkerActor, WorkerConfig, WorkerShare

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


class ActorPool:
    """One actor on each worker, with a share of the partitions.

    Actors are created at the first call, and again after a worker has left or joined.

    Parameters
    ----------
    partitions : Partitions
        The rows.
    config : WorkerConfig
        The settings of all workers.

    Attributes
    ----------
    n_calls : int
        The number of calls so far.
    """

    def __init__(self, partitions: Partitions, config: WorkerConfig) -> None:
        self.partitions, self.config = partitions, config
        self.n_calls = 0
        self._client: Client = partitions.client
        self._workers: Set[str] = frozenset()
        self._actors: list[Any] = []
        self._futures: list[Future] = []  # actors live as long as these
        self._max_rows = 0
        self._last_check = -math.inf
        self._fit_id = unique_suffix()[1:9]

    @property
    def max_rows(self) -> int:
        """The number of rows of the worker with the most."""
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
        errors: list[Exception] = []
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
                errors.append(error)
                if any(future.cancelled() for future in self.partitions.futures):
                    raise cluster_lost_error("blocks of rows were cancelled") from error
                if len(errors) == _MAX_FAILURES:
                    raise cluster_lost_error(
                        f"workers were lost {_MAX_FAILURES} times in a row: {error}"
                    ) from error
            time.sleep(_RETRY_PAUSE * 2 ** len(errors))
        for result in results:
            if isinstance(result, RemoteError):
                raise result.error
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
            if not self._workers <= self._find_workers().keys():
                raise ConnectionError("a worker is gone")

    def _find_workers(self) -> Mapping[str, Any]:
        """Return the workers of the cluster by address."""
        self._last_check = time.monotonic()
        if self._client.status != "running":
            raise cluster_lost_error(f"the client is {self._client.status}")
        with translate_comm_errors():
            workers: Mapping[str, Any] = self._client.scheduler_info()["workers"]
        return workers

    def _update_actors(self) -> None:
        """Create actors if there are none, or if workers have left or joined."""
        if self._actors and time.monotonic() - self._last_check < _CHECK_INTERVAL:
            return
        workers = self._find_workers()
        if self._actors and workers.keys() == self._workers:
            return
        timeout = time.monotonic() + _NO_WORKERS_TIMEOUT
        while not workers:
            if time.monotonic() > timeout:
                raise cluster_lost_error("there are no workers")
            time.sleep(_RETRY_PAUSE)
            workers = self._find_workers()
        self._drop_actors()
        self._create_actors(list(workers))
        self._workers = workers.keys()
        self._last_check = time.monotonic()

    def _drop_actors(self) -> None:
        self._actors, self._futures, self._last_check = [], [], -math.inf

    def _create_actors(self, workers: Sequence[str]) -> None:
        partitions, infos = self.partitions.futures, self.partitions.infos
        locations = self._client.who_has(partitions)
        holders = [[*locations.get(future.key, ())] for future in partitions]
        n_rows = [info.n_rows for info in infos]
        assigned = zip(assign_partitions(holders, n_rows, workers), workers, strict=True)
        # In the order of the partitions, so that results do not depend on the workers' addresses.
        numbers, workers = zip(*sorted(pair for pair in assigned if pair[0]), strict=True)
        weights = [info.weight for info in infos]
        shares = make_worker_shares(numbers, n_rows, weights, self.config.batch_size)
        self._max_rows = shares[0].max_rows
        token = "backprop-part" + unique_suffix()
        self._futures = [
            self._client.submit(
                WorkerActor,
                self.config,
                share,
                *(partitions[i] for i in share.partitions),
                key=(token, i),
                actor=True,
                workers=[worker],
                allow_other_workers=True,
            )
            for i, (share, worker) in enumerate(zip(shares, workers, strict=True))
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
        The number of rows and the total weight of each partition.
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
