"""Jobs of joblib: how many there are, and calls of a function side by side."""

from __future__ import annotations

import multiprocessing
import os
import threading
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any

from joblib import effective_n_jobs
from joblib.parallel import get_active_backend
from sklearn.utils.parallel import Parallel, delayed

from .resources import share_blas_threads, total_memory

# The text, class, file and line of a warning.
Warned = tuple[str, type[Warning], str, int]


AUTO = "auto"

# To start processes takes about as many seconds, and to send work to them so many.
_SECONDS_TO_START = 2.0
_SECONDS_TO_SEND = 0.1

# The bytes that a process takes besides its data.
_BYTES_OF_PROCESS = 3 << 28


class JobCount:
    """How many jobs the parts of a fit are divided among.

    Parameters
    ----------
    n_jobs : int, None or "auto"
        The number of jobs as in joblib; "auto" for all cores once the time that they save pays for
        starting processes. Such decisions never change a number.
    n_bytes : int
        The bytes that each job takes besides the data; "auto" uses half of the memory for them.

    Attributes
    ----------
    seconds_per_epoch : float
        The time that one job takes for an epoch of all networks, as of the last ones; 0 before.
    """

    def __init__(self, n_jobs: Any, n_bytes: int = 0) -> None:
        self._n_jobs = n_jobs
        self._n_bytes = n_bytes
        self._have_started = False
        self.seconds_per_epoch = 0.0

    def resolve(self, seconds: float) -> int:
        """Return the number of jobs for work that takes one job so many seconds."""
        if self._n_jobs != AUTO:
            return int(effective_n_jobs(self._n_jobs))
        n_jobs = self._count_usable_cores()
        cost = _SECONDS_TO_SEND if self._have_started else _SECONDS_TO_START
        if seconds * (1 - 1 / n_jobs) < cost:
            return 1
        self._have_started = True
        return n_jobs

    def _count_usable_cores(self) -> int:
        """Return how many cores "auto" may use: one inside of other jobs, threads and daemons."""
        backend, n_jobs = get_active_backend()
        is_main = threading.current_thread() is threading.main_thread()
        if backend.nesting_level or not is_main or multiprocessing.current_process().daemon:
            return 1
        n_affordable = total_memory() / 2 / (self._n_bytes + _BYTES_OF_PROCESS)
        return max(1, int(min(effective_n_jobs(n_jobs or -1), n_affordable)))


def run_jobs(
    function: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], n_jobs: int
) -> list[Any]:
    """Return the results of calls of a function, which joblib makes side by side.

    A single job at a time is this process itself. Warnings in others appear once, here.

    Parameters
    ----------
    function : callable
        The function.
    arguments : sequence of tuples
        The arguments of each call.
    n_jobs : int
        The number of calls at a time. joblib's backend determines whether each has a process.

    Raises
    ------
    RuntimeError
        If a process is killed.
    """
    if n_jobs == 1:
        return [function(*each) for each in arguments]
    calls = [delayed(_call)(function, each, os.getpid()) for each in arguments]
    with share_blas_threads(n_jobs):
        try:
            results = Parallel(n_jobs=n_jobs, batch_size=1)(calls)
        except BrokenExecutor as error:
            raise RuntimeError(
                "A process of fit was killed, most likely because memory was short. Set n_jobs=1, "
                "or a smaller n_jobs, which needs less memory."
            ) from error
    for warned in dict.fromkeys(item for _, caught in results for item in caught):
        warnings.warn_explicit(*warned)
    return [result for result, _ in results]


def _call(
    function: Callable[..., Any], arguments: tuple[Any, ...], parent: int
) -> tuple[Any, list[Warned]]:
    """Return the result of a call, and the warnings of this process unless it is the parent."""
    if os.getpid() == parent:
        return function(*arguments), []
    with warnings.catch_warnings(record=True) as caught:
        result = function(*arguments)
    return result, [
        (str(item.message), item.category, item.filename, item.lineno) for item in caught
    ]
