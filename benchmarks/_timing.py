"""The one clock of all benchmarks: the best of several rounds, contenders taking turns.

Other programs only ever add to a time, so the smallest of several is the nearest to the truth;
taking turns spreads a busy minute over all contenders.
"""

import math
import time
from collections.abc import Callable, Mapping

Run = Callable[[int], object]  # does its work so many times over

MANY_EPOCHS = 6  # against one: the difference leaves out what a fit costs once


def seconds_of(run: Run, n_times: int) -> float:
    start = time.perf_counter()
    run(n_times)
    return time.perf_counter() - start


def best_seconds(runs: Mapping[str, Run], n_times: int, n_rounds: int) -> dict[str, float]:
    """Return for each contender its best time of `run(n_times)`."""
    best = dict.fromkeys(runs, math.inf)
    for _ in range(n_rounds):
        for name, run in runs.items():
            best[name] = min(best[name], seconds_of(run, n_times))
    return best


def seconds_per_epoch(runs: Mapping[str, Run], n_rounds: int) -> dict[str, float]:
    """Return for each contender (best time of 6 epochs - best time of 1) / 5."""
    best = {(name, n): math.inf for name in runs for n in (1, MANY_EPOCHS)}
    for _ in range(n_rounds):
        for name, n in best:
            best[name, n] = min(best[name, n], seconds_of(runs[name], n))
    return {
        name: max(best[name, MANY_EPOCHS] - best[name, 1], 0.0) / (MANY_EPOCHS - 1) for name in runs
    }


def seconds_per_call(runs: Mapping[str, Run], n_calls: int, n_rounds: int) -> dict[str, float]:
    """Return for each contender its best mean time of one of `n_calls` calls."""
    return {name: t / n_calls for name, t in best_seconds(runs, n_calls, n_rounds).items()}
