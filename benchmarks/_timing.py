"""The one clock of all benchmarks: the best of several rounds, contenders taking turns.

Other programs only ever add to a time, so the smallest of several is the nearest to the truth;
taking turns spreads a busy minute over all contenders.
"""

import math
import os
import time
from collections.abc import Callable, Container, Mapping
from pathlib import Path
from typing import NamedTuple

Run = Callable[[int], object]  # does its work so many times over
Clock = Callable[[], float]

MANY_EPOCHS = 6  # against one: the difference leaves out what a fit costs once


def seconds_of(run: Run, n_times: int, clock: Clock = time.perf_counter) -> float:
    start = clock()
    run(n_times)
    return clock() - start


def best_seconds(runs: Mapping[str, Run], n_times: int, n_rounds: int) -> dict[str, float]:
    """Return for each contender its best time of `run(n_times)`."""
    best = dict.fromkeys(runs, math.inf)
    for _ in range(n_rounds):
        for name, run in runs.items():
            best[name] = min(best[name], seconds_of(run, n_times))
    return best


def seconds_per_epoch(
    runs: Mapping[str, Run], n_rounds: int, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Return for each contender (best time of 6 epochs - best time of 1) / 5."""
    best = {(name, n): math.inf for name in runs for n in (1, MANY_EPOCHS)}
    for _ in range(n_rounds):
        for name, n in best:
            best[name, n] = min(best[name, n], seconds_of(runs[name], n, clock))
    return {
        name: max(best[name, MANY_EPOCHS] - best[name, 1], 0.0) / (MANY_EPOCHS - 1) for name in runs
    }


def seconds_per_call(runs: Mapping[str, Run], n_calls: int, n_rounds: int) -> dict[str, float]:
    """Return for each contender its best mean time of one of `n_calls` calls."""
    return {name: t / n_calls for name, t in best_seconds(runs, n_calls, n_rounds).items()}


class Cost(NamedTuple):
    """What work costs: the time that passed, and that of all cores together."""

    seconds: float
    cpu_seconds: float


def best_costs(
    runs: Mapping[str, Run], n_rounds: int, leave_out: Container[int] = ()
) -> dict[str, Cost]:
    """Return for each contender the cost of its quickest `run(1)`, worker processes included.

    Child processes whose ids are in `leave_out` do not count.
    """
    best = dict.fromkeys(runs, Cost(math.inf, math.inf))
    for _ in range(n_rounds):
        for name, run in runs.items():
            before = cpu_seconds(leave_out)
            seconds = seconds_of(run, 1)
            best[name] = min(best[name], Cost(seconds, cpu_seconds(leave_out) - before))
    return best


def cpu_seconds(leave_out: Container[int] = ()) -> float:
    """Return what this process and those below it have used, also those that have ended.

    Not a number where there is no /proc to tell.
    """
    if not Path("/proc/self/stat").exists():
        return math.nan
    parents, ticks = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            # What precedes the last bracket is the id and the name, which may hold anything.
            fields = path.read_text().rpartition(") ")[2].split()
        except OSError:
            continue  # it has ended since
        pid = int(path.parent.name)
        parents[pid] = int(fields[1])
        ticks[pid] = sum(map(int, fields[11:15]))  # in user and in system mode, children's as well
    family = {os.getpid()}
    while below := {p for p in parents if parents[p] in family and p not in leave_out} - family:
        family |= below
    return sum(ticks[pid] for pid in family) / os.sysconf("SC_CLK_TCK")
