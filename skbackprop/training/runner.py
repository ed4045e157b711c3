"""Runs trained: those of one shape in stacks side by side, or one after the other by L-BFGS."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ..utils.equality import group_by_equality
from .blas_threads import threads_for_stacks, with_blas_limit
from .callbacks import INTERRUPTS, NO_OBSERVER, EpochObserver, Interrupt
from .lbfgs_training import fit_lbfgs
from .loop import TrainingLoop
from .model_stacks import array_split, bytes_per_member, max_stack_size, n_stacks, time_limit_for
from .training_run import TrainingRun


def train_runs(
    runs: Sequence[TrainingRun], follower: EpochObserver = NO_OBSERVER
) -> Interrupt | None:
    """Train the runs of one estimator; return the interrupt that ended it, if one did.

    Runs that fail have their `error` set, and take no other with them.
    """
    done = [run for run in runs if run.ending is not None]  # resumed after their end
    ready = [run for run in runs if run.ending is None]
    if not ready:
        return None
    if runs[0].config.is_lbfgs:
        interrupts = (fit_lbfgs(run, follower) for run in ready)
        return next((interrupt for interrupt in interrupts if interrupt), None)
    # A time limit may have left some of those that are resumed an epoch behind others.
    n_done = [run.n_iter for run in ready]
    for _ in range(min(n_done)):
        follower.skip_epoch()
    deadline = time_limit_for(ready)
    parts = [
        part
        for alike in group_by_equality(ready, n_done)
        for part in split_by_memory(alike, sys.maxsize)
    ]
    loops = [TrainingLoop(members, deadline=deadline) for members in parts]
    return run_loops(loops, follower, done)


def run_loops(
    loops: Sequence[TrainingLoop],
    follower: EpochObserver = NO_OBSERVER,
    done: Sequence[TrainingRun] = (),
) -> Interrupt | None:
    """Train stacks to their end; return the interrupt that ended it, if one did."""
    try:
        run_loops_concurrently(loops, follower, done)
    except INTERRUPTS as interrupt:
        for loop in loops:
            loop.interrupt()
        return interrupt
    return None


def split_by_memory(runs: Sequence[TrainingRun], max_bytes: int) -> list[Sequence[TrainingRun]]:
    """Return runs of one shape in parts that train fastest as a stack, within a bound of memory.

    Those whose rows are elsewhere take part in the same rounds.
    """
    first = runs[0]
    if len(runs) == 1 or not first.problem.is_local:
        return [runs]
    config, n_kept = first.config, first.config.n_moments
    settings = first.network, config.batch_size, first.problem.dtype.itemsize
    size = max_stack_size(*settings, first.n_train, max_bytes, n_kept)
    each, n_threads = bytes_per_member(*settings, n_kept), threads_for_stacks()
    return array_split(runs, n_stacks(len(runs), size, each, n_threads))


def run_loops_concurrently(
    loops: Sequence[TrainingLoop],
    follower: EpochObserver = NO_OBSERVER,
    done: Sequence[TrainingRun] = (),
) -> None:
    """Train several stacks, an epoch of each in turn, so that an interrupt finds them abreast.

    Where there are threads for it, several have their turn at the same time. Between two epochs
    the follower has its own, and may end training; it hears of those that were done before, too.
    """
    n_threads = min(len(loops), threads_for_stacks()) if len(loops) > 1 else 1
    largest = max(loop.max_matmul_size for loop in loops)

    def standing() -> list[TrainingRun]:
        return [*done, *(run for loop in loops for run in loop.snapshot_runs())]

    def take_turns() -> None:
        with _pool(n_threads) as advance:
            while waiting := [loop for loop in loops if loop.runs]:
                follower.on_epoch_begin(standing)
                n_done = min(loop.n_done for loop in waiting)
                # Those that lose a member to divergence go through the epoch once more.
                while behind := [d for d in waiting if d.runs and d.n_done == n_done]:
                    for _ in advance(lambda loop: loop.advance(), behind):
                        pass
                if follower.on_epoch_end(standing):
                    for loop in loops:
                        loop.interrupt()

    with_blas_limit(take_turns, largest, n_side_by_side=n_threads)


@contextmanager
def _pool(n_threads: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Provide a `map` that shares its calls between threads; one thread needs no other."""
    if n_threads == 1:
        yield map
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            yield pool.map
