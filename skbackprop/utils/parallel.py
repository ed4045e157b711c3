"""Parallel loops over parts of arrays, in the threads of one fit."""

from __future__ import annotations

import contextvars
import itertools
import math
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import Self, TypeVar

Part = TypeVar("Part")


class _ThreadState(threading.local):
    """The team that a thread leads, and its number as a member of another's team."""

    team: ThreadTeam | None = None
    number = 0


_THREAD = _ThreadState()


class ThreadTeam:
    """Context in which `parallel_for`, if called from the same thread, uses several threads.

    They start with the first loop. Teams do not nest: the threads of a team, and those of other
    pools, run their loops alone.

    Parameters
    ----------
    n_threads : int
        The number of threads, the calling one included; at least 2.
    limit_blas : callable
        Returns a context in which BLAS uses one thread. It is entered for each loop.
    """

    def __init__(
        self, n_threads: int, limit_blas: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self._n_threads, self._limit_blas = n_threads, limit_blas
        self._executor: ThreadPoolExecutor | None = None
        self.process = os.getpid()

    def __enter__(self) -> Self:
        """Make this the team of the current thread."""
        _THREAD.team = self
        return self

    def __exit__(self, *error: object) -> None:
        """End the threads."""
        _THREAD.team = None
        if self._executor is not None:
            self._executor.shutdown()
            self._executor = None

    def run(self, function: Callable[[Part], None], parts: Sequence[Part]) -> None:
        """Call a function for each part; each thread takes the next part as it gets free."""
        if self._executor is None:
            self._executor = ThreadPoolExecutor(self._n_threads - 1)
        remaining = iter(parts)

        def work(number: int) -> None:
            _THREAD.number = number
            for part in remaining:
                function(part)

        with self._limit_blas():
            # NumPy's treatment of errors and its size of buffers belong to the context.
            others = [
                self._executor.submit(contextvars.copy_context().run, work, number)
                for number in range(1, min(self._n_threads, len(parts)))
            ]
            try:
                work(0)
            finally:
                wait(others)
            for other in others:
                other.result()


def parallel_for(function: Callable[[Part], None], parts: Sequence[Part]) -> None:
    """Call a function for each part, in the threads of the current `ThreadTeam` if there is one.

    The parts must not depend on the number of threads, so that it does not change results.

    Parameters
    ----------
    function : callable
        Takes a part. Calls for different parts must write to different arrays.
    parts : sequence
        The parts, such as slices of rows.
    """
    team = _THREAD.team
    # A process that is forked has none of the team's threads.
    if team is None or len(parts) < 2 or team.process != os.getpid():
        for part in parts:
            function(part)
    else:
        team.run(function, parts)


def thread_number() -> int:
    """Return the number of the current thread in its team; 0 for the thread that leads it."""
    return _THREAD.number


def split_rows(n_rows: int, n_at_once: int) -> list[slice]:
    """Return consecutive parts of rows, of `n_at_once` rows or less each.

    Several parts are a multiple of four of nearly equal size, so that threads have equal work.
    """
    n_parts = math.ceil(n_rows / max(n_at_once, 1))
    if n_parts > 1:
        n_parts = min(4 * math.ceil(n_parts / 4), n_rows)
    bounds = [n_rows * part // n_parts for part in range(n_parts + 1)]
    return list(itertools.starmap(slice, itertools.pairwise(bounds)))
