"""Calls of a function side by side, by joblib: what independent fits have in common."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor
from typing import Any

from sklearn.utils.parallel import Parallel, delayed

from .resources import share_blas_threads

# The text, class, file and line of a warning.
Warned = tuple[str, type[Warning], str, int]


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
