"""Raw tables: networks against boosting, with default settings, on rows held out.

Each table is split several times: a quarter of the rows, at most, is held out, and at most 10,000
(``--rows``) are trained on. All models have their defaults; what they do not take, categories or
missing values, is made for them as their users would make it. LightGBM, RealMLP (of pytabkit) and
CatBoost are there where they are installed. Without options the tables are those that scikit-learn
and statsmodels ship; ``--tables FILE`` takes a Python file that defines ``names()``, and
``load(name)`` that returns X (a data frame), y, and "classification" or "regression".
"""

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.compose import (
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, OneHotEncoder, StandardScaler

from benchmarks._report import argument_parser, as_time, print_setting, print_table
from benchmarks._timing import seconds_per_call
from skbackprop import TabularClassifier, TabularRegressor

MOST_ROWS = 10_000
N_SPLITS = 3
FEWER = 4  # members of the faster setting that the documentation names
# The networks with boosting among what they are mixed with.
BLENDED = "with boosting"
CLASSES, NUMBERS = "classification", "regression"

Data = tuple[pd.DataFrame, pd.Series, str]

# -------------------------------------------------------------------------------- tables


def any_visit() -> Data:
    import statsmodels.api as sm

    X = sm.datasets.randhie.load_pandas().data
    return X, X.pop("mdvis") > 0, CLASSES


def party() -> Data:
    import statsmodels.api as sm

    X = sm.datasets.anes96.load_pandas().data.drop(columns="logpopul")
    return X, X.pop("PID"), CLASSES


def visits() -> Data:
    import statsmodels.api as sm

    X = sm.datasets.randhie.load_pandas().data
    return X, X.pop("mdvis").astype(float), NUMBERS


def of_scikit_learn(load: Callable[..., Any], task: str) -> Callable[[], Data]:
    return lambda: (*load(return_X_y=True, as_frame=True), task)


SHIPPED = {
    "breast cancer": of_scikit_learn(load_breast_cancer, CLASSES),
    "wine": of_scikit_learn(load_wine, CLASSES),
    "digits": of_scikit_learn(load_digits, CLASSES),
    "any doctor's visit": any_visit,
    "party": party,
    "diabetes": of_scikit_learn(load_diabetes, NUMBERS),
    "doctor's visits": visits,
}


def tables_in(path: str) -> dict[str, Callable[[], Data]]:
    """Return the tables that a Python file defines, by name."""
    spec = spec_from_file_location("tables_of_benchmark", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: lambda name=name: module.load(name) for name in module.names()}


# -------------------------------------------------------------------------------- models


def with_encoded(X: pd.DataFrame, model: Any) -> Any:
    """Return a pipeline that imputes, scales and one-hot encodes before a model."""
    is_category = np.array([not pd.api.types.is_numeric_dtype(dtype) for dtype in X.dtypes])
    numbers, categories = X.columns[~is_category], X.columns[is_category]
    of_numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
    of_categories = make_pipeline(
        SimpleImputer(strategy="constant", fill_value="missing"),
        OneHotEncoder(handle_unknown="ignore"),
    )
    encoder = make_column_transformer((of_numbers, numbers), (of_categories, categories))
    return make_pipeline(encoder, model)


def with_numbers_filled(model: Any) -> Any:
    """Return a pipeline that imputes numbers, and leaves categories as they are, before a model."""
    of_numbers = SimpleImputer(strategy="median"), make_column_selector(dtype_include="number")
    filled = make_column_transformer(of_numbers, remainder="passthrough")
    return make_pipeline(filled.set_output(transform="pandas"), model)


def with_cat_features(X: pd.DataFrame, kind: Any, seed: int) -> Any:
    """Return a CatBoost model that is told which columns are categories."""
    names = [name for name in X if not pd.api.types.is_numeric_dtype(X[name])]
    return kind(cat_features=names, random_seed=seed, verbose=False, allow_writing_files=False)


def classifiers(X: pd.DataFrame, seed: int) -> dict[str, Any]:
    found = {
        "TabularClassifier": TabularClassifier(blend=None, random_state=seed),
        f"TabularClassifier({FEWER})": TabularClassifier(FEWER, blend=None, random_state=seed),
        BLENDED: TabularClassifier(random_state=seed),
        "MLPClassifier": with_encoded(X, MLPClassifier(random_state=seed)),
        "HistGradientBoosting": HistGradientBoostingClassifier(random_state=seed),
    }
    if find_spec("lightgbm"):
        from lightgbm import LGBMClassifier

        found["LightGBM"] = LGBMClassifier(random_state=seed, verbose=-1)
    if find_spec("pytabkit"):
        from pytabkit import RealMLP_TD_Classifier

        found["RealMLP"] = with_numbers_filled(
            RealMLP_TD_Classifier(device="cpu", random_state=seed)
        )
    if find_spec("catboost"):
        from catboost import CatBoostClassifier

        found["CatBoost"] = with_cat_features(X, CatBoostClassifier, seed)
    return found


def regressors(X: pd.DataFrame, seed: int) -> dict[str, Any]:
    network = with_encoded(X, MLPRegressor(random_state=seed))
    found = {
        "TabularRegressor": TabularRegressor(blend=None, random_state=seed),
        f"TabularRegressor({FEWER})": TabularRegressor(FEWER, blend=None, random_state=seed),
        BLENDED: TabularRegressor(random_state=seed),
        "MLPRegressor": TransformedTargetRegressor(network, transformer=StandardScaler()),
        "HistGradientBoosting": HistGradientBoostingRegressor(random_state=seed),
    }
    if find_spec("lightgbm"):
        from lightgbm import LGBMRegressor

        found["LightGBM"] = LGBMRegressor(random_state=seed, verbose=-1)
    if find_spec("pytabkit"):
        from pytabkit import RealMLP_TD_Regressor

        found["RealMLP"] = with_numbers_filled(
            RealMLP_TD_Regressor(device="cpu", random_state=seed)
        )
    if find_spec("catboost"):
        from catboost import CatBoostRegressor

        found["CatBoost"] = with_cat_features(X, CatBoostRegressor, seed)
    return found


# --------------------------------------------------------------------------- measurements


class Outcome(NamedTuple):
    """What came of a model on one split.

    Parameters
    ----------
    quality, error : float
        Accuracy and log loss, or R2 and the root mean squared error over the standard deviation.
    seconds, work : float
        The time of its fit, and that of all processors together: other programs that run change
        the first more than the second.
    spread : float
        The standard error of the quality, from the rows it was measured on.
    estimated : float
        What the model itself had expected of its quality, out of fold; NaN if it says nothing.
    """

    quality: float
    error: float
    seconds: float
    work: float
    spread: float
    estimated: float


def judged(
    model: Any, task: str, X: pd.DataFrame, y: np.ndarray, times: tuple[float, float]
) -> Outcome:
    """Return how good a fitted model is on rows that it has not seen; its fit took such times."""
    estimated = getattr(model, "oof_score_", np.nan)
    if task == CLASSES:
        probabilities = model.predict_proba(X)
        is_right = model.classes_[probabilities.argmax(axis=1)] == y
        error = log_loss(y, probabilities, labels=model.classes_)
        return Outcome(is_right.mean(), error, *times, _standard_error(is_right), estimated)
    squared = (y - model.predict(X)) ** 2 / y.var()
    quality = 1 - squared.mean()
    return Outcome(quality, squared.mean() ** 0.5, *times, _standard_error(squared), estimated)


def _standard_error(values: np.ndarray) -> float:
    return float(values.std() / len(values) ** 0.5)


def prepared(X: pd.DataFrame) -> pd.DataFrame:
    """Return a table whose categories are of a dtype that all know, missing ones a level."""
    columns = {}
    for name in X:
        column = X[name]
        if not pd.api.types.is_numeric_dtype(column):
            filled = column.astype(object).where(column.notna(), "missing").astype(str)
            column = filled.astype("category")
        columns[str(name)] = column
    return pd.DataFrame(columns)


def outcomes(data: Data, seed: int, smoke: bool, most_rows: int) -> dict[str, Outcome]:
    """Return what comes of each model on one split of a table."""
    X, y, task = data
    X = prepared(X)
    y = LabelEncoder().fit_transform(y.astype(str)) if task == CLASSES else np.asarray(y, float)
    most = 200 if smoke else round(most_rows / 0.75)
    rows = np.random.default_rng(seed).permutation(len(X))[:most]
    X, y = X.iloc[rows], y[rows]
    is_stratified = task == CLASSES and np.bincount(y)[np.unique(y)].min() > 1
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.25, random_state=seed, stratify=y if is_stratified else None
    )
    found = {}
    for name, model in (classifiers if task == CLASSES else regressors)(X, seed).items():
        if smoke and name.startswith(("Tabular", BLENDED, "HistGradientBoosting")):
            model.set_params(max_iter=2)
        start, start_of_work = time.perf_counter(), time.process_time()
        model.fit(X_train, y_train)
        times = time.perf_counter() - start, time.process_time() - start_of_work
        found[name] = judged(model, task, X_test, y_test, times)
    return found


class Measured(NamedTuple):
    """The outcomes of all models on one table.

    Parameters
    ----------
    table : str
        The table's name, with its size.
    models : list of str
        The models.
    values : array of shape (n_models, n_splits, 6)
        Their outcomes.
    """

    table: str
    models: list[str]
    values: np.ndarray

    def mean(self, name: str) -> np.ndarray:
        """Return the mean of one part of the outcomes over the splits, for each model."""
        return self.values[:, :, Outcome._fields.index(name)].mean(axis=1)


def measured(
    tables: dict[str, Callable[[], Data]], task: str, smoke: bool, n_splits: int, most_rows: int
) -> Iterable[Measured]:
    """Yield what comes of each table for a task."""
    for table, load in tables.items():
        data = load()
        if data[2] != task:
            continue
        splits = [
            outcomes(data, seed, smoke, most_rows) for seed in range(1 if smoke else n_splits)
        ]
        models = list(splits[0])
        values = np.array([[split[name] for split in splits] for name in models])
        yield Measured(f"{table} ({len(data[0])} x {data[0].shape[1]})", models, values)


def rows_of(found: Iterable[Measured], kept: list[Measured]) -> Iterable[list[str]]:
    """Yield a row for each model on each table, and keep what was measured."""
    for each in found:
        kept.append(each)
        for i, name in enumerate(each.models):
            quality, error, *times, _, _ = each.values[i].mean(axis=0)
            spread = each.values[i, :, 1].std()
            cells = [f"{quality:.4f}", f"{error:.4f}", f"{spread:.4f}"]
            cells += [f"{seconds:.1f}" for seconds in times]
            yield [f"{each.table}: {name}", *cells]


def summary(kept: Sequence[Measured]) -> Iterable[list[str]]:
    """Yield a row for each model: means and medians over tables, and how it does by the last."""
    quality, error, seconds, work = (
        np.array([each.mean(name) for each in kept])
        for name in ("quality", "error", "seconds", "work")
    )
    ranks = rankdata(error, axis=1).mean(axis=0)
    for i, name in enumerate(kept[0].models):
        means = [f"{quality[:, i].mean():.4f}", f"{error[:, i].mean():.4f}", f"{ranks[i]:.2f}"]
        is_better = error[:, i] < error[:, -1]
        times = [f"{np.median(each[:, i]):.1f}" for each in (seconds, work)]
        yield [name, *means, f"{is_better.sum()} of {len(kept)}", *times]


def estimates(kept: Sequence[Measured]) -> Iterable[list[str]]:
    """Yield for each table what our default had expected of its quality, and what it then was."""
    for each in kept:
        quality, _, _, _, spread, estimated = each.values[0].mean(axis=0)
        distance = (estimated - quality) / spread
        cells = [f"{value:.4f}" for value in (estimated, quality, spread)]
        yield [each.table, *cells, f"{distance:+.1f}"]


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
) -> None:
    tables = SHIPPED if path is None else tables_in(path)
    for task, quality, error in ((CLASSES, "accuracy", "log loss"), (NUMBERS, "R2", "RMSE / sd")):
        kept: list[Measured] = []
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the MLP's epochs, and names that boosting changes
            head = [
                "table, and model",
                quality,
                error,
                "its deviation",
                "seconds",
                "processor seconds",
            ]
            found = measured(tables, task, smoke, n_splits, most_rows)
            title = f"Tables for {task}, means over {n_splits} split(s):"
            print_table(title, head, rows_of(found, kept))
        if not kept:
            continue
        last = kept[0].models[-1]
        names = ["mean rank", f"ahead of {last}", "median seconds", "of all processors"]
        head = ["model", f"mean {quality}", f"mean {error}", *names]
        print_table(f"All tables for {task}:", head, summary(kept))
        head = ["table", "out of fold", "test", "standard error", "distance / standard error"]
        print_table(f"The {quality} that the first model says of itself:", head, estimates(kept))
    print_table("Predictions, in 30 columns:", ["model, and what", "time"], speeds(smoke))


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument("--tables", help="a Python file that defines names() and load(name)")
    parser.add_argument("--splits", type=int, default=N_SPLITS, help="of each table")
    parser.add_argument("--rows", type=int, default=MOST_ROWS, help="for training, at most")
    arguments = parser.parse_args()
    print_setting()
    report(arguments.smoke, arguments.tables, arguments.splits, arguments.rows)
