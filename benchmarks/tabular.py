"""Raw tables: networks against boosting, with default settings, on rows held out.

Each table is split several times: a quarter of the rows, at most, is held out, and at most 10,000
are trained on. All models have their defaults; what they do not take, categories or missing
values, is made for them as their users would make it. LightGBM and CatBoost are there where they
are installed. Without options the tables are those that scikit-learn and statsmodels ship;
``--tables FILE`` takes a Python file that defines ``names()``, and ``load(name)`` that returns
X (a data frame), y, and "classification" or "regression".
"""

import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, log_loss, r2_score
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import LabelEncoder, OneHotEncoder, StandardScaler

from benchmarks._report import argument_parser, print_setting, print_table
from skbackprop import TabularClassifier, TabularRegressor

MOST_ROWS = 10_000
SEEDS = range(3)
CLASSES, NUMBERS = "classification", "regression"

Data = tuple[pd.DataFrame, pd.Series, str]

# -------------------------------------------------------------------------------- tables


def affairs() -> Data:
    import statsmodels.api as sm

    X = sm.datasets.fair.load_pandas().data
    return X, X.pop("affairs") > 0, CLASSES


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
    "affairs": affairs,
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


def with_cat_features(X: pd.DataFrame, kind: Any, seed: int) -> Any:
    """Return a CatBoost model that is told which columns are categories."""
    names = [name for name in X if not pd.api.types.is_numeric_dtype(X[name])]
    return kind(cat_features=names, random_seed=seed, verbose=False, allow_writing_files=False)


def classifiers(X: pd.DataFrame, seed: int) -> dict[str, Any]:
    found = {
        "TabularClassifier": TabularClassifier(random_state=seed),
        "MLPClassifier": with_encoded(X, MLPClassifier(random_state=seed)),
        "HistGradientBoosting": HistGradientBoostingClassifier(random_state=seed),
    }
    if find_spec("lightgbm"):
        from lightgbm import LGBMClassifier

        found["LightGBM"] = LGBMClassifier(random_state=seed, verbose=-1)
    if find_spec("catboost"):
        from catboost import CatBoostClassifier

        found["CatBoost"] = with_cat_features(X, CatBoostClassifier, seed)
    return found


def regressors(X: pd.DataFrame, seed: int) -> dict[str, Any]:
    network = with_encoded(X, MLPRegressor(random_state=seed))
    found = {
        "TabularRegressor": TabularRegressor(random_state=seed),
        "MLPRegressor": TransformedTargetRegressor(network, transformer=StandardScaler()),
        "HistGradientBoosting": HistGradientBoostingRegressor(random_state=seed),
    }
    if find_spec("lightgbm"):
        from lightgbm import LGBMRegressor

        found["LightGBM"] = LGBMRegressor(random_state=seed, verbose=-1)
    if find_spec("catboost"):
        from catboost import CatBoostRegressor

        found["CatBoost"] = with_cat_features(X, CatBoostRegressor, seed)
    return found


# --------------------------------------------------------------------------- measurements


class Outcome(NamedTuple):
    """How good a model is, how wrong, and the seconds of its fit."""

    quality: float
    error: float
    seconds: float


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


def outcomes(data: Data, seed: int, smoke: bool) -> dict[str, Outcome]:
    """Return what comes of each model on one split of a table."""
    X, y, task = data
    X = prepared(X)
    y = LabelEncoder().fit_transform(y.astype(str)) if task == CLASSES else np.asarray(y, float)
    most = 200 if smoke else round(MOST_ROWS / 0.75)
    rows = np.random.default_rng(seed).permutation(len(X))[:most]
    X, y = X.iloc[rows], y[rows]
    is_stratified = task == CLASSES and np.bincount(y)[np.unique(y)].min() > 1
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, test_size=0.25, random_state=seed, stratify=y if is_stratified else None
    )
    found = {}
    for name, model in (classifiers if task == CLASSES else regressors)(X, seed).items():
        if smoke and name.startswith(("Tabular", "HistGradientBoosting")):
            model.set_params(max_iter=2)
        start = time.perf_counter()
        model.fit(X_train, y_train)
        seconds = time.perf_counter() - start
        if task == CLASSES:
            probabilities = model.predict_proba(X_test)
            quality = accuracy_score(y_test, model.classes_[probabilities.argmax(axis=1)])
            error = log_loss(y_test, probabilities, labels=model.classes_)
        else:
            quality = r2_score(y_test, model.predict(X_test))
            error = max(0.0, 1 - quality) ** 0.5
        found[name] = Outcome(quality, error, seconds)
    return found


def rows_of(
    tables: dict[str, Callable[[], Data]],
    task: str,
    all_errors: dict[str, list[float]],
    smoke: bool,
) -> Iterable[list[str]]:
    """Yield a row for each model on each table, and note its mean errors in `all_errors`."""
    for table, load in tables.items():
        data = load()
        if data[2] != task:
            continue
        splits = [outcomes(data, seed, smoke) for seed in (SEEDS[:1] if smoke else SEEDS)]
        for name in splits[0]:
            each = np.array([split[name] for split in splits])
            quality, error, seconds = each.mean(axis=0)
            all_errors.setdefault(name, []).append(error)
            cells = [f"{quality:.4f}", f"{error:.4f}", f"{each[:, 1].std():.4f}", f"{seconds:.1f}"]
            yield [f"{table} ({len(data[0])} x {data[0].shape[1]}): {name}", *cells]


def summary(all_errors: dict[str, list[float]]) -> Iterable[Sequence[str]]:
    errors = np.array(list(all_errors.values()))
    ranks = rankdata(errors, axis=0).mean(axis=1)
    for name, own, rank in zip(all_errors, errors, ranks, strict=True):
        yield [name, f"{own.mean():.4f}", f"{rank:.2f}"]


def report(smoke: bool, path: str | None = None) -> None:
    tables = SHIPPED if path is None else tables_in(path)
    for task, quality, error in ((CLASSES, "accuracy", "log loss"), (NUMBERS, "R2", "RMSE / sd")):
        all_errors: dict[str, list[float]] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the MLP's epochs, and names that boosting changes
            head = ["table, and model", quality, error, "its deviation", "seconds"]
            print_table(
                f"Tables for {task}, means over {len(SEEDS)} splits:",
                head,
                rows_of(tables, task, all_errors, smoke),
            )
        if all_errors:
            head = ["model", f"mean {error}", "mean rank"]
            print_table(f"All tables for {task}:", head, summary(all_errors))


if __name__ == "__main__":
    parser = argument_parser(__doc__)
    parser.add_argument("--tables", help="a Python file that defines names() and load(name)")
    arguments = parser.parse_args()
    print_setting()
    report(arguments.smoke, arguments.tables)
