"""Runs trained: those of one shape in stacks side by side, or one after the other by L-BFGS."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from ..core.equality import grouped
from .descent import Descent
from .follower import NOBODY, Follower
from .interrupts import INTERRUPTS, Interrupt
from .lbfgs import minimise_alone
from .run import Run
from .sizes import bytes_per_member, evenly_cut, members_at_once, n_stacks
from .stacking import deadline_of
from .threads import limiting_blas, threads_for_stacks


def train(runs: Sequence[Run], follower: Follower = NOBODY) -> Interrupt | None:
    """Train the runs of one estimator; return the interrupt that ended it, if one did.

    Runs that fail have their `error` set, and take no other with them.
    """
    done = [run for run in runs if run.ending is not None]  # resumed after their end
    ready = [run for run in runs if run.ending is None]
    if not ready:
        return None
    if runs[0].plan.is_lbfgs:
        interrupts = (minimise_alone(run, follower) for run in ready)
        return next((interrupt for interrupt in interrupts if interrupt), None)
    # A time limit may have left some of those that are resumed an epoch behind others.
    n_done = [run.n_iter for run in ready]
    for _ in range(min(n_done)):
        follower.pass_over_epoch()
    deadline = deadline_of(ready)
    parts = [part for alike in grouped(ready, n_done) for part in cut_to_size(alike, sys.maxsize)]
    descents = [Descent(members, deadline=deadline) for members in parts]
    return train_descents(descents, follower, done)


def train_descents(
    descents: Sequence[Descent], follower: Follower = NOBODY, done: Sequence[Run] = ()
) -> Interrupt | None:
    """Train stacks to their end; return the interrupt that ended it, if one did."""
    try:
        train_side_by_side(descents, follower, done)
    except INTERRUPTS as interrupt:
        for descent in descents:
            descent.interrupt()
        return interrupt
    return None


def cut_to_size(runs: Sequence[Run], max_bytes: int) -> list[Sequence[Run]]:
    """Return runs of one shape in parts that train fastest as a stack, within a bound of memory.

    Those whose rows are elsewhere take part in the same rounds.
    """
    first = runs[0]
    if len(runs) == 1 or not first.problem.is_here:
        return [runs]
    plan, n_kept = first.plan, first.plan.n_moments
    settings = first.network, plan.batch_size, first.problem.dtype.itemsize
    size = members_at_once(*settings, first.n_train, max_bytes, n_kept)
    each, n_threads = bytes_per_member(*settings, n_kept), threads_for_stacks()
    return evenly_cut(runs, n_stacks(len(runs), size, each, n_threads))


def train_side_by_side(
    descents: Sequence[Descent], follower: Follower = NOBODY, done: Sequence[Run] = ()
) -> None:
    """Train several stacks, an epoch of each in turn, so that an interrupt finds them abreast.

    Where there are threads for it, several have their turn at the same time. Between two epochs
    the follower has its own, and may end training; it hears of those that were done before, too.
    """
    n_threads = min(len(descents), threads_for_stacks()) if len(descents) > 1 else 1
    largest = max(descent.largest_product for descent in descents)

    def standing() -> list[Run]:
        return [*done, *(run for descent in descents for run in descent.standing())]

    def take_turns() -> None:
        with _pool(n_threads) as advance:
            while waiting := [descent for descent in descents if descent.runs]:
                follower.begin_epoch(standing)
                n_done = min(descent.n_done for descent in waiting)
                # Those that lose a member to divergence go through the epoch once more.
                while behind := [d for d in waiting if d.runs and d.n_done == n_done]:
                    for _ in advance(lambda descent: descent.advance(), behind):
                        pass
                if follower.end_epoch(standing):
                    for descent in descents:
                        descent.interrupt()

    limiting_blas(take_turns, largest, n_side_by_side=n_threads)


@contextmanager
def _pool(n_threads: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """Provide a `map` that shares its calls between threads; one thread needs no other."""
    if n_threads == 1:
        yield map
    else:
        with ThreadPoolExecutor(n_threads) as pool:
            yield pool.map
