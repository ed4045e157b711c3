"""Raw tables of a thousand to a million rows: log loss, time and memory, beside boosting.

The table is synthetic: twelve numbers (three with missing values, two skewed) and eight columns of
2 to 200 categories. The probability of the label is known for each row, and with it the noise
floor, the least log loss that any model can have. All models have their defaults, and are tested on
other rows. Each is fitted in a process of its own; "MB added" is its peak memory less what it had
before. LightGBM and CatBoost are there where they are installed. `--networks`, `--epochs`,
`--no-boosting` and `--time-limit` are for the tabular classifier; `--models` and `--rows` choose
some of the rows of the table.
"""

import multiprocessing
import time
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import log_loss

from benchmarks._report import argument_parser, print_setting, print_table
from benchmarks.tabular import with_cat_features
from skbackprop import TabularClassifier

SIZES = (1_000, 10_000, 100_000, 1_000_000)
N_TEST = 100_000
N_NUMBERS = 12
N_LEVELS = (2, 3, 5, 10, 20, 40, 80, 200)
OURS = "TabularClassifier"


class Table(NamedTuple):
    """A table, its labels, and the probability of label 1 in each row."""

    X: pd.DataFrame
    y: np.ndarray
    probability: np.ndarray

    @property
    def floor(self) -> float:
        """The mean log loss of the true probabilities, in expectation."""
        p = self.probability
        return float(-np.mean(p * np.log(p) + (1 - p) * np.log(1 - p)))


def make_table(n_rows: int, seed: int) -> Table:
    """Return a table with main effects, interactions, and slopes that differ between levels."""
    fixed, rng = np.random.default_rng(12345), np.random.default_rng(seed)
    effects = [fixed.normal(0, 0.4, n_levels) for n_levels in N_LEVELS]
    slopes = fixed.normal(0, 0.6, N_LEVELS[4])
    z = rng.normal(size=(N_NUMBERS, n_rows))
    z[1] += 0.5 * z[0]
    # Frequencies of levels fall geometrically, so that those of the longest columns are rare.
    codes = [
        np.minimum(rng.geometric(min(0.5, 3 / n_levels), n_rows) - 1, n_levels - 1)
        for n_levels in N_LEVELS
    ]
    logit = np.sin(2 * z[0]) + 0.8 * z[1] * z[2] + 0.7 * np.abs(z[3]) - 0.5 * (z[4] > 0.3)
    logit += 0.6 * np.where(z[5] > 0, z[6], -z[6]) + slopes[codes[4]] * z[7] - 0.5
    for effect, own in zip(effects, codes, strict=True):
        logit += effect[own]
    probability = expit(logit)
    y = (rng.random(n_rows) < probability).astype(int)
    z[[2, 6]] = np.exp(z[[2, 6]])
    z[9] = np.round(10 * z[9])
    columns: dict[str, Any] = {f"number {at}": column for at, column in enumerate(z)}
    for at in (3, 8, 10):
        columns[f"number {at}"][rng.random(n_rows) < 0.1] = np.nan
    for at, (own, n_levels) in enumerate(zip(codes, N_LEVELS, strict=True)):
        names = [f"level {level}" for level in range(n_levels)]
        columns[f"category {at}"] = pd.Categorical.from_codes(own, names)
    return Table(pd.DataFrame(columns), y, probability)


class Settings(NamedTuple):
    """The settings of the tabular classifier."""

    n_estimators: int | str = "auto"
    time_limit: float | None = None
    max_iter: int | None = None
    blend: str | None = "auto"


def make_model(name: str, X: pd.DataFrame, settings: Settings) -> Any:
    """Return a model with its defaults; raise ImportError if it is not installed."""
    if name == OURS:
        # The memory and the processor time are those of this process.
        return TabularClassifier(**settings._asdict(), n_jobs=1, random_state=0)
    if name == "HistGradientBoosting":
        return HistGradientBoostingClassifier(random_state=0)
    if name == "LightGBM":
        from lightgbm import LGBMClassifier

        return LGBMClassifier(random_state=0, verbose=-1)
    from catboost import CatBoostClassifier

    quiet = {"verbose": False, "allow_writing_files": False}
    return with_cat_features(CatBoostClassifier(random_state=0, **quiet), X)


MODELS = (OURS, "HistGradientBoosting", "LightGBM", "CatBoost")


def memory(name: str) -> float:
    """Return an entry of the process's status in megabytes; NaN where there is none."""
    status = Path("/proc/self/status")
    if not status.exists():
        return np.nan
    entries = dict(line.split(":", 1) for line in status.read_text().splitlines())
    return int(entries[name].split()[0]) / 1000


def outcome(name: str, n_rows: int, n_test: int, settings: Settings) -> list[str] | None:
    """Return a row of the table of results, measured in this process; None if not installed."""
    train, test = make_table(n_rows, 0), make_table(n_test, 1)
    try:
        model = make_model(name, train.X, settings)
    except ImportError:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a time limit
        if Path("/proc/self/clear_refs").exists():
            Path("/proc/self/clear_refs").write_text("5")  # reset the peak
        before, start, work = memory("VmRSS"), time.perf_counter(), time.process_time()
        model.fit(train.X, train.y)
        seconds, work = time.perf_counter() - start, time.process_time() - work
        added = memory("VmHWM") - before
        start = time.process_time()
        probabilities = model.predict_proba(test.X)
        rate = len(test.y) / (time.process_time() - start)
    loss = log_loss(test.y, probabilities)
    cells = [f"{loss:.4f}", f"{loss - test.floor:.4f}", f"{seconds:.1f}", f"{work:.1f}"]
    return [f"{n_rows:,}: {name}", *cells, f"{added:.0f}", f"{rate:,.0f}"]


def rows_of(
    sizes: Sequence[int], models: Sequence[str], n_test: int, settings: Settings
) -> Iterable[list[str]]:
    """Yield the rows of the table of results, each from a process of its own."""
    context = multiprocessing.get_context("spawn")
    for n_rows in sizes:
        for name in models:
            with context.Pool(1) as pool:
                found = pool.apply(outcome, (name, n_rows, n_test, settings))
            if found is not None:
                yield found


DEFAULTS = Settings()


def report(
    smoke: bool,
    sizes: Sequence[int] = SIZES,
    models: Sequence[str] = MODELS,
    settings: Settings = DEFAULTS,
) -> None:
    n_test = N_TEST
    if smoke:
        sizes, models, n_test, settings = (200,), MODELS[:2], 500, Settings(max_iter=2)
    head = ["rows, and model", "log loss", "above the floor", "seconds", "processor seconds"]
    head += ["MB added", "rows predicted a processor second"]
    print_table(
        f"A table of {N_NUMBERS + len(N_LEVELS)} columns, with a noise floor of "
        f"{make_table(n_test, 1).floor:.4f}:",
        head,
        rows_of(sizes, models, n_test, settings),
    )


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument("--rows", type=int, nargs="+", default=SIZES, help="of the table")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS)
    parser.add_argument("--networks", type=int, help="of each ensemble")
    parser.add_argument("--time-limit", type=float, help="of the tabular classifier, in seconds")
    parser.add_argument("--epochs", type=int, help="of its networks, at most")
    parser.add_argument("--no-boosting", action="store_true", help="in the tabular classifier")
    arguments = parser.parse_args()
    print_setting()
    blend = None if arguments.no_boosting else "auto"
    settings = Settings(arguments.networks or "auto", arguments.time_limit, arguments.epochs, blend)
    report(arguments.smoke, arguments.rows, arguments.models, settings)
