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
from typing import TypeVar

Part = TypeVar("Part")


class _ThreadState(threading.local):
    """The team that a thread leads, and its number as a member of another's team."""

    team: ThreadTeam | None = None
    number = 0


_THREAD = _ThreadState()


class ThreadTeam:
    """Threads that `parallel_for` uses between `start` and `stop`, if called from the same thread.

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

    def start(self) -> None:
        """Make this the team of the current thread."""
        _THREAD.team = self

    def stop(self) -> None:
        """End the threads; may be called again."""
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


def _reset_team() -> None:
    _THREAD.team = None


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_reset_team)  # a fork has none of the threads


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
    if _THREAD.team is None or len(parts) < 2:
        for part in parts:
            function(part)
    else:
        _THREAD.team.run(function, parts)


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
