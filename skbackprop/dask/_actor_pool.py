"""The workers that train together: a part of the rows on each, and calls to all of them at once.

Who is lost takes nothing along: blocks are tasks of Dask, which computes them again on another
worker, and a call depends on nothing but its arguments. So a call that has lost a worker is made
once more, of parts that are put together anew; likewise where a worker has joined.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence, Set
from concurrent.futures import CancelledError
from contextlib import suppress
from typing import Any

from distributed import Client, Future

from ._errors import ClusterLostError, cluster_lost_error, translate_comm_errors
from ._partitions import Partitions, unique_name
from ._worker import Division, RemoteError, WorkerActor, WorkerConfig

PART = "backprop-part"

# The topic of the events by which whoever watches the cluster can follow a training.
TOPIC = "skbackprop"

# Seconds between two looks at who is there.
_BETWEEN_LOOKS = 1.0

# Seconds to wait for an answer before a look at whether its worker is still there.
_PATIENCE = 2.0

# Seconds that a cluster may be without any worker.
_WITHOUT_WORKERS = 60.0

# Calls that may be lost one after the other, and the seconds after which one is made again: these
# twice, four times, and so on.
_MOST_LOST = 6
_BREATH = 0.1


class ActorPool:
    """Parts of rows on the workers of a cluster.

    Parameters
    ----------
    blocks : Blocks
        The rows.
    setting : Setting
        How they are trained on.

    Attributes
    ----------
    n_calls : int
        The calls so far.
    """

    def __init__(self, blocks: Partitions, setting: WorkerConfig) -> None:
        self._blocks, self._setting = blocks, setting
        self._client: Client = blocks.client
        self._workers: Set[str] = frozenset()
        self._actors: list[Any] = []
        self._kept: list[Future] = []  # which keep the actors
        self._division = Division([], [], [])
        self._looked = -math.inf
        self._name = unique_name()[1:9]
        self.n_calls = 0

    @property
    def largest_part(self) -> int:
        """The rows of the largest part."""
        self._assemble()
        return max(self._division.part_sizes)

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Return what a method of each part returns, in the order of the parts.

        Raises
        ------
        ClusterLostError
            If there are no workers, or no rows to be had any more.
        Exception
            What a part has raised.
        """
        self.n_calls += 1
        for answer in (answers := self._answers(method, arguments)):
            if isinstance(answer, RemoteError):
                raise answer.error
        return answers

    def _answers(self, method: str, arguments: Sequence[Any]) -> list[Any]:
        """Return what the parts answer, of a call that no worker was lost in."""
        errors: list[Exception] = []
        while True:
            try:
                self._assemble()
                futures = [getattr(actor, method)(*arguments) for actor in self._actors]
                return [self._answer(future) for future in futures]
            except ClusterLostError:
                raise
            except Exception as error:  # by the connection, or with a worker
                self.close()
                errors.append(error)
                if any(future.cancelled() for future in self._blocks.futures):
                    raise cluster_lost_error("blocks of rows were cancelled") from error
                if len(errors) == _MOST_LOST:
                    raise cluster_lost_error(
                        f"workers were lost {_MOST_LOST} times in a row: {error}"
                    ) from error
            time.sleep(_BREATH * 2 ** len(errors))

    def log_event(self, **news: Any) -> None:
        """Log an event for whoever watches the cluster: in vain, if the scheduler can't be had."""
        if self._client.status == "running":
            with suppress(OSError, CancelledError):
                self._client.log_event(TOPIC, {"fit": self._name, **news})

    def in_order(self, answers: Sequence[Sequence[Any]]) -> list[Any]:
        """Return what parts have said of each of their blocks, in the order of the blocks."""
        found = {
            i: value
            for numbers, values in zip(self._division.numbers, answers, strict=True)
            for i, value in zip(numbers, values, strict=True)
        }
        return [found[i] for i in range(len(found))]

    def _answer(self, future: Any) -> Any:
        """Return an answer, as long as all workers that are asked are there."""
        while True:
            try:
                return future.result(timeout=_PATIENCE)
            except TimeoutError:
                if future.done():
                    raise
            if not self._workers <= self._there().keys():
                raise ConnectionError("a worker is gone")

    # --------------------------------------------------------------------- who does what

    def _there(self) -> Mapping[str, Any]:
        """Return the workers that are there, by address."""
        self._looked = time.monotonic()
        if self._client.status != "running":
            raise cluster_lost_error(f"the client is {self._client.status}")
        with translate_comm_errors():
            workers: Mapping[str, Any] = self._client.scheduler_info()["workers"]
        return workers

    def _assemble(self) -> None:
        """See to it that each worker has a part."""
        if self._actors and time.monotonic() - self._looked < _BETWEEN_LOOKS:
            return
        workers = self._there()
        if self._actors and workers.keys() == self._workers:
            return
        give_up = time.monotonic() + _WITHOUT_WORKERS
        while not workers:
            if time.monotonic() > give_up:
                raise cluster_lost_error("there are no workers")
            time.sleep(_BREATH)
            workers = self._there()
        self.close()
        taken, facts = self._shared_out(list(workers)), self._blocks.facts
        self._division = Division(
            list(taken.values()), [fact.n_rows for fact in facts], [fact.weight for fact in facts]
        )
        self._kept = self._parts(taken)
        with self._client.as_current():  # whose calls are to go through this client
            self._actors = [future.result() for future in self._kept]
        self._workers = workers.keys()
        self._looked = time.monotonic()

    def close(self) -> None:
        self._actors, self._kept, self._looked = [], [], -math.inf

    def _shared_out(self, workers: Sequence[str]) -> dict[str, list[int]]:
        """Return the numbers of the blocks of each worker that has any."""
        blocks = self._blocks
        where = self._client.who_has(blocks.futures)
        holders = [[*where.get(future.key, ())] for future in blocks.futures]
        taken = assign_blocks(holders, [fact.n_rows for fact in blocks.facts], workers)
        named = [(own, worker) for own, worker in zip(taken, workers, strict=True) if own]
        return {worker: own for own, worker in sorted(named)}

    def _parts(self, taken: Mapping[str, list[int]]) -> list[Future]:
        """Return an actor for each part, on the worker that it is for."""
        token, futures = unique_name(), self._blocks.futures
        return [
            self._client.submit(
                WorkerActor,
                self._setting,
                self._division,
                numbers,
                *(futures[i] for i in numbers),
                key=(PART + token, i),
                actor=True,
                workers=[worker],
                allow_other_workers=True,
            )
            for i, (worker, numbers) in enumerate(taken.items())
        ]


def assign_blocks(
    holders: Sequence[Sequence[str]], n_rows: Sequence[int], workers: Sequence[str]
) -> list[list[int]]:
    """Return which blocks each worker takes: those that it holds, evened out block by block.

    A block goes from the worker with the most rows to the one with the least as long as the latter
    has no more rows with it than the former without it.

    Parameters
    ----------
    holders : sequence of sequences of str
        The workers that hold each block.
    n_rows : sequence of int
        Its rows.
    workers : sequence of str
        All workers that there are.
    """
    taken: dict[str, list[int]] = {worker: [] for worker in workers}

    def load(worker: str) -> int:
        return sum(n_rows[i] for i in taken[worker])

    for i in sorted(range(len(n_rows)), key=lambda i: -n_rows[i]):
        there = [worker for worker in holders[i] if worker in taken] or list(workers)
        taken[min(there, key=load)].append(i)
    while True:
        most, least = max(workers, key=load), min(workers, key=load)
        gap = load(most) - load(least)
        movable = [i for i in taken[most] if 2 * n_rows[i] <= gap]
        if not movable:
            return [sorted(taken[worker]) for worker in workers]
        largest = max(movable, key=lambda i: n_rows[i])
        taken[most].remove(largest)
        taken[least].append(largest)
