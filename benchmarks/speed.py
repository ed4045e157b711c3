"""Time of training and prediction: an epoch, an update of 32 rows, one row, sparse rows.

An epoch's time is (best time of 6 epochs - best time of 1) / 5. The goals are for float32: how
many times as fast as scikit-learn, but never more than 0.85 of what the bare products would be;
and, for large networks, which part of the bare products' speed, and how many times as fast as torch
where it is installed. The goals' column names all three.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import _data
from benchmarks._contenders import BARE, OURS, SKLEARN, TORCH, Problem, contenders
from benchmarks._report import (
    MISSING,
    argument_parser,
    as_time,
    print_setting,
    print_table,
    verdict,
)
from benchmarks._timing import Run, seconds_per_call, seconds_per_epoch

N_ROWS = 20_000
N_SMOKE_ROWS = 48
OF_CEILING = 0.85
N_ROUNDS_FLOAT64 = 2  # it has no goal to reach


@dataclass(frozen=True)
class Case:
    """One row of the table: its name, its problem, what is timed, and the goals."""

    name: str
    problem: Callable[[str, bool], Problem]  # of dtype, smoke
    what: str = "epochs"
    n_rounds: int = 5
    against_sklearn: float | None = None
    of_bare: float | None = None
    against_torch: float | None = None

    def seconds(self, dtype: str, smoke: bool) -> dict[str, float | None]:
        """Return the time of each contender that is installed; None where it can't compete."""
        problem = self.problem(dtype, smoke)
        runs: dict[str, Run | None] = {
            name: getattr(contender, self.what)(problem) for name, contender in contenders().items()
        }
        able = {name: run for name, run in runs.items() if run is not None}
        n_rounds = 1 if smoke else self.n_rounds if dtype == "float32" else N_ROUNDS_FLOAT64
        if self.what == "epochs":
            times = seconds_per_epoch(able, n_rounds)
        else:
            times = seconds_per_call(able, 2 if smoke else 500, n_rounds)
        return {name: times.get(name) for name in runs}


def network(*sizes: int, batch_size: int) -> Callable[[str, bool], Problem]:
    def problem(dtype: str, smoke: bool) -> Problem:
        n_rows = N_SMOKE_ROWS if smoke else N_ROWS
        X, y = _data.dense(n_rows, sizes[0], sizes[-1], dtype)
        return Problem(X, y, sizes[1:-1], min(batch_size, n_rows))

    return problem


def small_batch(dtype: str, smoke: bool) -> Problem:
    X, y = _data.dense(32, 20, 2, dtype)
    return Problem(X, y, (100,), 32)


def sparse_text(dtype: str, smoke: bool) -> Problem:
    n_rows = N_SMOKE_ROWS if smoke else 50_000
    X, y = _data.sparse_rows(n_rows, 2_000, 2, 0.01, dtype)
    return Problem(X, y, (100,), min(200, n_rows))


CASES = [
    Case(
        "20-100-2, batch 32",
        network(20, 100, 2, batch_size=32),
        n_rounds=10,
        against_sklearn=5,
    ),
    Case(
        "20-100-2, batch 200",
        network(20, 100, 2, batch_size=200),
        n_rounds=10,
        against_sklearn=4,
    ),
    Case(
        "100-256-256-10, batch 200",
        network(100, 256, 256, 10, batch_size=200),
        against_sklearn=1.9,
    ),
    Case(
        "54-256-256-256-7, batch 256",
        network(54, 256, 256, 256, 7, batch_size=256),
        of_bare=0.85,
        against_torch=1,
    ),
    Case(
        "784-512-512-10, batch 200",
        network(784, 512, 512, 10, batch_size=200),
        against_sklearn=1.5,
        of_bare=0.85,
        against_torch=1,
    ),
    Case(
        "784-1024-1024-10, batch 1024",
        network(784, 1024, 1024, 10, batch_size=1024),
        n_rounds=3,
        of_bare=0.85,
        against_torch=1,
    ),
    Case(
        "`partial_fit` of 32 rows, 20-100-2",
        small_batch,
        what="updates",
        n_rounds=10,
        against_sklearn=5,
    ),
    Case(
        "`predict_proba` of one row, 20-100-2",
        small_batch,
        what="predictions",
        n_rounds=10,
        against_sklearn=1,
    ),
    Case(
        "sparse 50,000 x 2,000 at 1 %, 100 units",
        sparse_text,
        against_sklearn=1.5,
    ),
]


def row_of(case: Case, dtype: str, smoke: bool) -> list[str]:
    seconds = case.seconds(dtype, smoke)
    ours, sklearn, bare, torch = (
        seconds.get(name) or math.nan for name in (OURS, SKLEARN, BARE, TORCH)
    )
    ratios = [t / ours if ours else math.nan for t in (sklearn, bare, torch)]
    times = [
        MISSING if name not in seconds else "-" if not seconds[name] else as_time(seconds[name])
        for name in (OURS, SKLEARN, BARE, TORCH)
    ]
    row = [case.name, *times, *("-" if math.isnan(ratio) else f"{ratio:.2f}" for ratio in ratios)]
    if dtype == "float64":
        return row
    against_sklearn = case.against_sklearn
    if against_sklearn is not None:
        against_sklearn = min(against_sklearn, OF_CEILING * sklearn / bare)
    against_torch = None if math.isnan(torch) else case.against_torch
    goals = [against_sklearn, case.of_bare, against_torch]
    cells = ["-" if goal is None else f"{goal:.2f}" for goal in goals]
    judged = [(ratio, goal) for ratio, goal in zip(ratios, goals, strict=True) if goal is not None]
    reached = all(ratio >= goal for ratio, goal in judged)
    return [*row, ", ".join(cells), verdict(reached, smoke) if judged else "-"]


def report(smoke: bool, only: str = "") -> None:
    """Print both tables, of the cases whose names contain `only`."""
    ratios = [f"times {SKLEARN}", "of bare speed", f"times {TORCH}"]
    head = [OURS, SKLEARN, BARE, TORCH, *ratios]
    for dtype in ("float32", "float64"):
        goal_head = ["goals of the three", "verdict"] if dtype == "float32" else []
        rows = (row_of(case, dtype, smoke) for case in CASES if only in case.name)
        print_table(
            f"Time of an epoch, or of a call, in {dtype}:",
            ["network", *head, *goal_head],
            rows,
        )


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument("--only", default="", help="only the rows whose names contain this")
    arguments = parser.parse_args()
    print_setting()
    report(arguments.smoke, arguments.only)
