"""What several cores gain: tables and an ensemble in one process and in several, and boosting.

Each fit is timed twice: cold, where processes are started, and warm, where those of the fit before
are still there. Times on the clock and processor times, those of all processes, are of one fit.
"""

import time
import warnings
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from joblib import cpu_count
from joblib.externals.loky import get_reusable_executor
from sklearn.datasets import make_classification, make_regression

from benchmarks._report import MISSING, argument_parser, as_time, print_setting, print_table
from benchmarks._timing import cpu_seconds
from skbackprop import BackpropClassifier, TabularClassifier, TabularRegressor

SIZES = (1_000, 5_000, 10_000, 100_000)
N_COLUMNS = 20
KINDS = {
    "labels": (TabularClassifier, make_classification),
    "numbers": (TabularRegressor, make_regression),
}
BOOSTING = {"LightGBM": ("lightgbm", "LGBM"), "CatBoost": ("catboost", "CatBoost")}


def times_of(fit: Callable[[], object]) -> tuple[float, float]:
    """Return the seconds on the clock, and those of all processes, of a fit."""
    start, before = time.perf_counter(), cpu_seconds()
    fit()
    return time.perf_counter() - start, cpu_seconds() - before


def cells_of(make: Callable[[int | str], Any], X: np.ndarray, y: np.ndarray) -> list[str]:
    """Return the times with one process, with as many as cores cold and warm, and with "auto"."""
    cells = []
    one, _ = times_of(lambda: make(1).fit(X, y))
    for n_jobs, is_cold in ((1, False), (cpu_count(), True), (cpu_count(), False), ("auto", True)):
        if is_cold:
            get_reusable_executor().shutdown(wait=True)
        seconds, work = times_of(lambda n_jobs=n_jobs: make(n_jobs).fit(X, y))
        one = min(one, seconds) if n_jobs == 1 else one
        cells.append(f"{as_time(seconds)} ({as_time(work)}): {one / seconds:.2f}")
    return cells


def boosting_cells(kind: str, X: np.ndarray, y: np.ndarray) -> list[str]:
    """Return the times of boosting with all threads on the clock."""
    suffix = {"labels": "Classifier", "numbers": "Regressor"}[kind]
    cells = []
    for module, prefix in BOOSTING.values():
        if find_spec(module) is None:
            cells.append(MISSING)
            continue
        model = getattr(import_module(module), prefix + suffix)(random_state=0)
        model.set_params(**({"verbose": -1} if module == "lightgbm" else {"verbose": False}))
        seconds, _ = times_of(lambda model=model: model.fit(X, y))
        cells.append(as_time(seconds))
    return cells


def rows_of(sizes: Iterable[int], max_iter: int | None) -> Iterable[list[str]]:
    """Yield the cells of each row."""
    for n_rows in sizes:
        for kind, (estimator, make_data) in KINDS.items():
            noise = {"noise": 20.0} if kind == "numbers" else {}
            X, y = make_data(n_rows, N_COLUMNS, n_informative=10, random_state=0, **noise)

            def make(n_jobs: int | str, estimator: Any = estimator) -> Any:
                return estimator(max_iter=max_iter, n_jobs=n_jobs, random_state=0)

            yield [
                f"table of {n_rows:,} rows, {kind}",
                *cells_of(make, X, y),
                *boosting_cells(kind, X, y),
            ]


def report(smoke: bool) -> None:
    head = ["work", "1 process", f"{cpu_count()} processes, cold", "the same, warm", "auto, cold"]
    title = "Seconds on the clock, of all cores in parentheses, and the gain over one process:"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        print_table(
            title,
            [*head, *BOOSTING],
            rows_of((80,) if smoke else SIZES, 2 if smoke else None),
        )
        X, y = make_classification(80 if smoke else 20_000, N_COLUMNS, random_state=0)

        def make(n_jobs: int | str) -> BackpropClassifier:
            n_jobs = -1 if n_jobs == "auto" else n_jobs
            settings = {"n_iter_no_change": np.inf, "max_iter": 2 if smoke else 30}
            return BackpropClassifier((100,), n_estimators=8, n_jobs=n_jobs, **settings)

        print_table(title, head, [["eight networks of 100 units", *cells_of(make, X, y)]])


if __name__ == "__main__":
    arguments = argument_parser(__doc__).parse_args()
    print_setting()
    report(arguments.smoke)
