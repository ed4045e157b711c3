"""Estimators of all kinds are loaded from a file as they were saved."""

import datetime
import decimal
import os
import pickle
import re
import threading
from zipfile import BadZipFile

import numpy as np
import pandas as pd
import pytest
import skops.io
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingRegressor, VotingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skops.io.exceptions import UntrustedTypesFoundException

from skbackprop import (
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
    EarlyStopping,
    TabularClassifier,
    TabularRegressor,
)
from skbackprop.activations import ActivationFunction, Tanh
from skbackprop.callbacks import Checkpoint, TrainingLog
from skbackprop.layers import BatchNormalization
from skbackprop.optimizers import AdamW
from skbackprop.persistence import get_trusted_types, load, save
from skbackprop.schedules import CosineDecay, LinearWarmup
from skbackprop.tabular import TableEncoder
from skbackprop.weight_averaging import ExponentialMovingAverage
from support import answers, cases, few_epochs, quick, safely_saved, same_bits, same_values

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

X, Y, NUMBERS = cases.X, cases.Y, cases.NUMBERS
WORDS = np.array(["low", "mid", "high"])[Y]
TREES = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"


def _table():
    columns = {"a": X[:, 0], "b": np.where(X[:, 1] > 1, np.nan, X[:, 1])}
    columns["kind"] = np.array(["x", "y", None], dtype=object)[Y]
    columns["rare"] = [f"rare level {i % 50}" for i in range(len(X))]
    return pd.DataFrame(columns | {"flag": X[:, 2] > 0})


TABLE = _table()
DATES_AND_TEXT = pd.DataFrame(
    {
        "day": pd.Timestamp("2020-01-01") + pd.to_timedelta(37 * np.arange(len(X)), unit="D"),
        "at": [datetime.time(i % 24) for i in range(len(X))],
        "took": pd.to_timedelta(X[:, 0], unit="h"),
        "note": [f"note of the {i}th row" for i in range(len(X))],
        "price": [f"{i + 1:,} %" for i in range(len(X))],
    }
)


TABULAR = {"n_estimators": 2, "max_iter": 2, "random_state": 0}
SEARCH = {"estimator": quick(BackpropClassifier), "cv": 2}
GRID = {"alpha": [0.1, 1.0]}
FOLDS = EarlyStopping("loss", "folds", calibrate=True)
LOG_TARGET = {"func": np.log, "inverse_func": np.exp}
NETWORK = cases.model("labels integers")
VOTERS = [("network", quick(BackpropClassifier)), ("linear", LogisticRegression())]

# In addition to tests/support/cases.py and to the contract of all estimators: estimators, and the
# X and y to fit them to.
MODELS = {
    "tabular quantiles": (TabularRegressor(**TABULAR, loss="quantile"), TABLE, NUMBERS),
    "blend, two targets": (
        TabularRegressor(**TABULAR, blend=[Ridge()]),
        TABLE,
        np.column_stack([NUMBERS, -NUMBERS]),
    ),
    "blend": (TabularClassifier(**TABULAR, blend=[LogisticRegression()]), TABLE, WORDS),
    "dates and text": (TabularRegressor(**TABULAR), DATES_AND_TEXT, NUMBERS),
    "table encoder, codes": (TableEncoder(encoding="ordinal"), TABLE, Y),
    "encoder pipeline": (make_pipeline(TableEncoder(), quick(BackpropClassifier)), TABLE, WORDS),
    "grid search by two metrics": (
        BackpropGridSearchCV(
            **SEARCH, param_grid=GRID, scoring=["accuracy", "neg_log_loss"], refit="accuracy"
        ),
        *(X, Y),
    ),
    "folds": (quick(BackpropClassifier, n_estimators=3, early_stopping=FOLDS), X, WORDS),
    "given weights": (
        quick(
            BackpropClassifier,
            init=(NETWORK.coefs_, NETWORK.intercepts_),
            hidden_layer_sizes=(7, 5),
        ),
        *(X, Y),
    ),
    "log target": (TransformedTargetRegressor(quick(BackpropRegressor), **LOG_TARGET), X, NUMBERS),
    "vote": (VotingClassifier(VOTERS), X, WORDS),
}
SETTINGS = {
    "adam": {"dropout": 0.2, "dtype": "float32"},
    "lbfgs": {"solver": "lbfgs"},
    "instances": {
        "activation": [Tanh(), "relu"],
        "hidden_layer_sizes": (4, 3),
        "normalization": BatchNormalization(),
        "average": ExponentialMovingAverage(0.5),
        "learning_rate": LinearWarmup(CosineDecay(), 0.5),
        "solver": AdamW(weight_decay=0.1),
        "n_estimators": 2,
    },
    "function of NumPy": {"learning_rate": np.cos},
    "a stream": {"random_state": np.random.RandomState(3)},
    "early stopping": {"early_stopping": True, "solver": "sgd", "learning_rate": "adaptive"},
}


def assert_same(loaded, model, X):
    np.testing.assert_equal(answers(loaded, X), answers(model, X))


# Without scalers and without losses of all kinds of labels, which matter for exports only.
NAMES = [name for name in cases.NAMES if not re.search(r"Scaler|(two classes|multilabel)$", name)]


@pytest.mark.parametrize("name", NAMES)
def test_loaded_networks_predict_the_same(name, tmp_path):
    assert_same(safely_saved(cases.model(name), tmp_path), cases.model(name), cases.rows_of(name))


@pytest.mark.parametrize("estimator, X, y", MODELS.values(), ids=MODELS)
def test_loaded_tables_searches_and_meta_estimators_predict_the_same(estimator, X, y, tmp_path):
    model = clone(estimator).fit(X, y)
    assert_same(safely_saved(model, tmp_path), model, X)


def test_unfitted_estimators_keep_their_parameters(tmp_path):
    for estimator in (BackpropClassifier(random_state=3), TabularRegressor(blend=[Ridge()])):
        assert repr(safely_saved(estimator, tmp_path)) == repr(estimator)


@pytest.mark.slow
@pytest.mark.parametrize("kind, y", [(TabularClassifier, WORDS), (TabularRegressor, NUMBERS)])
def test_boosting_is_loaded_and_stays_part_of_the_model(kind, y, tmp_path):
    model = kind(**TABULAR, blend="boosting").fit(TABLE, y)
    loaded = safely_saved(model, tmp_path)
    assert_same(loaded, model, TABLE)
    boosting, own = loaded.blended_[0][0], model.blended_[0][0]
    assert boosting is loaded._components[-1].estimators[0]
    assert own._predictors[0][0].nodes.size > 0  # saving has changed nothing
    assert boosting.is_categorical_.any()
    assert_same(safely_saved(loaded, tmp_path), model, TABLE)
    assert_same(pickle.loads(pickle.dumps(loaded)), model, TABLE)


def test_trees_that_encode_categories_otherwise_must_be_trusted(tmp_path):
    frame = pd.DataFrame({"word": pd.Categorical(["a", "b"] * 20), "x": range(40)})
    boosting = HistGradientBoostingRegressor(max_iter=2).fit(frame, frame["x"])
    path, others = tmp_path / "model.skops", ["functools.partial"]
    others.append("sklearn.utils.validation.check_array")
    save(boosting, path)
    with pytest.raises(ValueError, match=f"cannot be checked.*'{TREES}'"):
        load(path, trusted=others)
    assert_same(load(path, trusted=[*others, TREES]), boosting, frame)


# ------------------------------------------------------------------------ resumed training


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_warm_start_resumes_to_the_bit(settings, tmp_path):
    model = quick(BackpropClassifier, warm_start=True, **settings).fit(X, Y)
    loaded, pickled = safely_saved(model, tmp_path), pickle.loads(pickle.dumps(model))
    for each in (loaded, pickled):
        each.set_params(max_iter=3).fit(X, Y)
    assert same_bits(loaded, pickled)
    assert_same(loaded, pickled, X)


# ----------------------------------------------------------------------------- callbacks


def test_callbacks_are_left_out(tmp_path):
    network = quick(BackpropClassifier)
    network.set_callbacks(TrainingLog(tmp_path / "log.csv"), Checkpoint(tmp_path / "file.npz"))
    model = make_pipeline(StandardScaler(), network).fit(X, Y)
    loaded = safely_saved(model, tmp_path)
    assert "callbacks" not in repr(vars(loaded[-1]))
    assert same_values(answers(loaded, X), answers(model, X))
    assert len(vars(model[-1])["_skl_callbacks"]) == 2


# ------------------------------------------------------------------------ parts of users


class Doubled(ActivationFunction):
    """f(z) = 2 z."""

    def forward(self, z, a):
        """Compute f."""
        np.multiply(z, 2.0, out=a)

    def backward(self, z, a, delta):
        """Multiply by f'."""
        delta *= 2.0


def test_user_defined_parts_are_loaded_if_trusted(tmp_path):
    model, path = quick(BackpropClassifier, activation=Doubled()).fit(X, Y), tmp_path / "own.skops"
    save(model, path)
    name = f"{Doubled.__module__}.Doubled"
    with pytest.raises(UntrustedTypesFoundException, match=name):
        load(path)
    for trusted in ([name], [Doubled]):
        assert_same(load(path, trusted=trusted), model, X)


# --------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("value", [threading.Lock(), {None: 1.0}, lambda progress: 1 - progress])
def test_what_cannot_be_loaded_is_not_saved(value, tmp_path):
    path = tmp_path / "model.skops"
    save(BackpropClassifier(alpha=0.5), path)
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)):
        save(make_pipeline(StandardScaler(), BackpropClassifier(verbose=value)), path)
    assert os.listdir(tmp_path) == ["model.skops"]
    assert load(path).alpha == 0.5


LEVELS = {
    "strings": ["a", "b"],
    "bytes": [b"a", b"b"],
    "booleans": [True, False],
    "numbers": [1.5, 2**70],
    "decimals": [decimal.Decimal("1.5"), decimal.Decimal(2)],
    "tuples": [(1, "a"), (2, "b")],
    "dates": [datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)],
}


@pytest.mark.parametrize("levels", LEVELS.values(), ids=LEVELS)
def test_levels_of_categories_of_all_types(levels, tmp_path):
    values = pd.Series(([*levels, None] * 12)[:12], dtype=object)
    table = pd.DataFrame({"size": range(12), "x": values})
    encoder, path = TableEncoder(["x"], min_frequency=1).fit(table), tmp_path / "encoder.skops"
    save(encoder, path)
    loaded = load(path, trusted=["datetime.date", "decimal.Decimal"])
    assert np.array_equal(loaded.transform(table), encoder.transform(table))


def test_damaged_files_are_refused_or_give_the_same_model(tmp_path):
    """The zip has a checksum of each of its parts."""
    model, path = quick(BackpropClassifier, hidden_layer_sizes=(2,)).fit(X, Y), tmp_path / "a.skops"
    save(model, path)
    whole = path.read_bytes()
    for n_bytes in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:n_bytes])
        with pytest.raises(BadZipFile):
            load(path)
    for at in range(0, len(whole), 97):
        altered = bytearray(whole)
        altered[at] ^= 1 << at % 8
        path.write_bytes(altered)
        try:
            loaded = load(path)
        except Exception:  # of zipfile, zlib or json
            continue
        np.testing.assert_equal(loaded.predict_proba(X), model.predict_proba(X))


def test_missing_folder_is_named(tmp_path):
    path = tmp_path / "none" / "model.skops"
    with pytest.raises(FileNotFoundError, match=r"none.model\.skops"):
        save(BackpropClassifier(), path)
    with pytest.raises(FileNotFoundError, match=r"none.model\.skops"):
        load(path)


@pytest.mark.parametrize(
    "model", [quick(BackpropClassifier), TabularClassifier(blend=None, **TABULAR)], ids=repr
)
def test_skops_can_read_the_files(tmp_path, model):
    path = tmp_path / "model.skops"
    save(model.fit(X, Y), path)
    names = skops.io.get_untrusted_types(file=path)
    assert set(names) <= set(get_trusted_types())
    assert (len(names) == 1) == isinstance(model, BackpropClassifier)
    for trusted in (names, get_trusted_types()):
        again = skops.io.load(path, trusted=trusted)
        np.testing.assert_array_equal(again.predict_proba(X), model.predict_proba(X))
