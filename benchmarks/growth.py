"""What a call of `partial_fit` costs after 30,000 calls, and an epoch in a fit of 3,000.

A stream of rows never ends, so no call may look at, copy or write what the calls before it did.
"""

import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import cycle, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier, MLPRegressor

from benchmarks import _data
from benchmarks._contenders import OURS, SKLEARN
from benchmarks._report import argument_parser, as_time, print_setting, print_table, verdict
from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.callbacks import Checkpoint

GOAL = 1.1
N_CALLS, N_AT_AN_END = 30_000, 1_000
N_ROWS = 32
N_TOGETHER = 50  # calls that are timed as one
FEW_EPOCHS, MANY_EPOCHS = 50, 3_000
N_ROUNDS = 3

Ends = tuple[float, float]  # the seconds of an early and of a late call or epoch


def ends_of_calls(call: Callable[[], object], n_calls: int, n_at_an_end: int) -> Ends:
    """Return the best mean time of some calls in a row, among the first ones and the last ones."""
    clock = [time.perf_counter()]
    for _ in range(n_calls // N_TOGETHER):
        for _ in range(N_TOGETHER):
            call()
        clock.append(time.perf_counter())
    times = [(stop - start) / N_TOGETHER for start, stop in pairwise(clock)]
    n_times = n_at_an_end // N_TOGETHER
    return min(times[:n_times]), min(times[-n_times:])


def ends_of_fits(fit: Callable[[int], object], few: int, many: int, n_rounds: int) -> Ends:
    """Return the time of an epoch in a fit of few epochs, and in one of many."""
    best = dict.fromkeys((1, few, many), np.inf)
    for _ in range(n_rounds):
        for n_epochs in best:
            start = time.perf_counter()
            fit(n_epochs)
            best[n_epochs] = min(best[n_epochs], time.perf_counter() - start)
    return tuple((best[n] - best[1]) / (n - 1) for n in (few, many))


def partial_fit_of(model: Any, X: np.ndarray, y: np.ndarray) -> Callable[[], object]:
    """Return what calls `partial_fit` on the next rows, of a model that has been trained before."""
    parts = [slice(start, start + N_ROWS) for start in range(0, len(X), N_ROWS)]
    batches = cycle([(X[rows], y[rows]) for rows in parts])
    options = {"X_val": X[:N_ROWS], "y_val": y[:N_ROWS]} if model.early_stopping else {}
    model.partial_fit(X, y, **({"classes": np.unique(y)} if y.dtype.kind == "i" else {}))
    return lambda: model.partial_fit(*next(batches), **options)


def fit_of(model: Any, X: np.ndarray, y: np.ndarray) -> Callable[[int], object]:
    """Return what trains for so many epochs."""
    model.set_params(n_iter_no_change=np.inf)
    return lambda n_epochs: model.set_params(max_iter=n_epochs).fit(X, y)


def measured(smoke: bool, path: Path) -> Any:
    """Yield the name of each kind of work, and the times of the contenders, None without one."""
    n_calls, n_at_an_end = (4 * N_TOGETHER, N_TOGETHER) if smoke else (N_CALLS, N_AT_AN_END)
    # Few rows would be learned by heart, and steps of next to nothing take another time.
    X, labels = _data.dense(100 * N_ROWS, 20, 2, "float64")
    numbers = X[:, 0] + np.random.default_rng(0).normal(size=len(X))
    params = {"hidden_layer_sizes": (100,), "random_state": 0}
    for name, y, ours, theirs in (
        ("classifier", labels, BackpropClassifier(**params), MLPClassifier(**params)),
        ("regressor", numbers, BackpropRegressor(**params), MLPRegressor(**params)),
        ("ensemble of 8", labels, BackpropClassifier(**params, n_estimators=8), None),
        ("`X_val` scored", labels, BackpropClassifier(**params, early_stopping=True), None),
    ):
        calls = [each and partial_fit_of(each, X, y) for each in (ours, theirs)]
        ends = [call and ends_of_calls(call, n_calls, n_at_an_end) for call in calls]
        yield f"`partial_fit` of {N_ROWS} rows, {name}", ends
    few, many, n_rounds = (2, 4, 1) if smoke else (FEW_EPOCHS, MANY_EPOCHS, N_ROUNDS)
    X, y = _data.dense(100, 20, 2, "float64")
    for name, stops_early in (("", False), (", early stopping", True)):
        both = params | {"early_stopping": stops_early}
        fits = [fit_of(kind(**both), X, y) for kind in (BackpropClassifier, MLPClassifier)]
        yield f"an epoch{name}", [ends_of_fits(fit, few, many, n_rounds) for fit in fits]
        ours = BackpropClassifier(**both).set_callbacks(Checkpoint(path))
        ends = ends_of_fits(fit_of(ours, X, y), few, many, n_rounds)
        yield f"an epoch{name}, a `Checkpoint` of each", [ends, None]


def report(smoke: bool) -> None:
    def row(name: str, ours: Ends, theirs: Ends | None) -> list[str]:
        cells = [name]
        for ends in (ours, theirs):
            early, late = ends or (np.nan, np.nan)
            cells += [as_time(early), as_time(late), f"{late / early:.2f}"] if ends else ["-"] * 3
        return [*cells, f"{GOAL:.2f}", verdict(ours[1] <= GOAL * ours[0], smoke)]

    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore", ConvergenceWarning)  # training goes on as long as told
        print_table(
            f"Growth: a call among the first {N_AT_AN_END:,} and the last {N_AT_AN_END:,} of "
            f"{N_CALLS:,}, an epoch in a fit of {FEW_EPOCHS:,} and of {MANY_EPOCHS:,}:",
            [
                "work",
                *(f"{name}, {end}" for name in (OURS, SKLEARN) for end in ("early", "late", "x")),
                "goal",
                "verdict",
            ],
            (row(name, *ends) for name, ends in measured(smoke, Path(folder) / "growth.npz")),
        )


if __name__ == "__main__":
    arguments = argument_parser(__doc__).parse_args()
    print_setting()
    report(arguments.smoke)
