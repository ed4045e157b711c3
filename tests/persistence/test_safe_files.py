"""Estimators of all kinds are loaded from a safe file as they were saved."""

import ast
import datetime
import decimal
import enum
import os
import pickle
import re
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingRegressor, VotingClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
    EarlyStopping,
    TabularClassifier,
    TabularRegressor,
)
from skbackprop.activations import ActivationFunction, Tanh
from skbackprop.callbacks import Checkpoint, TrainingLog
from skbackprop.initializers import INITIALIZERS
from skbackprop.layers import BatchNormalization
from skbackprop.optimizers import SOLVERS, AdamW
from skbackprop.persistence import get_trusted_types, load, save
from skbackprop.schedules import SCHEDULES, CosineDecay, LinearWarmup
from skbackprop.tabular import TableEncoder
from skbackprop.weight_averaging import ExponentialMovingAverage
from support import (
    answers,
    cases,
    class_data,
    few_epochs,
    quick,
    safely_saved,
    same_bits,
    same_values,
)

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

X, Y, NUMBERS = cases.X, cases.Y, cases.NUMBERS
WORDS = np.array(["low", "mid", "high"])[Y]
TREES = "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor"


def _table():
    columns = {"a": X[:, 0], "b": np.where(X[:, 1] > 1, np.nan, X[:, 1])}
    columns["kind"] = np.array(["x", "y", None], dtype=object)[Y]
    columns["rare"] = [f"level {i % 50}" for i in range(len(X))]
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
RNG_OF_TREES = np.random.default_rng(0)
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
    "regression blend": (TabularRegressor(**TABULAR, blend=[Ridge()]), TABLE, NUMBERS),
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
    "data frame": (quick(BackpropRegressor), TABLE[["a"]], NUMBERS),
    "folds": (quick(BackpropClassifier, n_estimators=3, early_stopping=FOLDS), X, WORDS),
    "given weights": (
        quick(
            BackpropClassifier,
            init=(NETWORK.coefs_, NETWORK.intercepts_),
            hidden_layer_sizes=(7, 5),
        ),
        *(X, Y),
    ),
    "class weights": (quick(BackpropClassifier, class_weight={"low": 2.0, "mid": 1}), X, WORDS),
    "log target": (TransformedTargetRegressor(quick(BackpropRegressor), **LOG_TARGET), X, NUMBERS),
    "vote": (VotingClassifier(VOTERS), X, WORDS),
}
SETTINGS = {
    **{f"solver={name}": {"solver": name} for name in SOLVERS},
    **{f"learning_rate={name}": {"learning_rate": name, "solver": "sgd"} for name in SCHEDULES},
    **{f"init={name}": {"init": name} for name in INITIALIZERS},
    "instances": {
        "activation": [Tanh(), "relu"],
        "hidden_layer_sizes": (4, 3),
        "normalization": BatchNormalization(),
        "average": ExponentialMovingAverage(0.5),
        "learning_rate": LinearWarmup(CosineDecay(), 0.5),
        "solver": AdamW(weight_decay=0.1),
    },
    "function of NumPy": {"learning_rate": np.cos},
    "a stream": {"random_state": np.random.RandomState(3)},
    "dropout": {"dropout": 0.3, "n_estimators": 2},
    "early stopping": {"early_stopping": True, "dtype": "float32"},
}


def assert_same(loaded, model, X):
    np.testing.assert_equal(answers(loaded, X), answers(model, X))


# Without scalers and without losses of all kinds of labels, which matter for exports only.
NAMES = [name for name in cases.NAMES if not re.search(r"Scaler|(two classes|multilabel)$", name)]


@pytest.mark.parametrize("name", NAMES)
def test_loaded_networks_predict_the_same(name, tmp_path):
    assert_same(safely_saved(cases.model(name), tmp_path), cases.model(name), cases.rows_of(name))


@pytest.mark.long
@pytest.mark.parametrize("estimator, X, y", MODELS.values(), ids=MODELS)
def test_loaded_tables_searches_and_meta_estimators_predict_the_same(estimator, X, y, tmp_path):
    model = clone(estimator).fit(X, y)
    assert_same(safely_saved(model, tmp_path), model, X)


def test_networks_assembled_from_arrays_and_with_validation_data(tmp_path):
    assembled = BackpropClassifier((7, 5), activation="tanh")
    for name in ("coefs_", "intercepts_", "classes_"):
        setattr(assembled, name, getattr(cases.model("labels strings"), name))
    validated = quick(BackpropRegressor, early_stopping=True)
    validated.fit(X, NUMBERS, X_val=X[:9], y_val=NUMBERS[:9])
    for model in (assembled, validated):
        assert_same(safely_saved(model, tmp_path), model, X)


@pytest.mark.parametrize(
    "kind",
    [
        BackpropClassifier,
        BackpropRegressor,
        BackpropAutoencoder,
        TabularClassifier,
        TabularRegressor,
    ],
)
def test_unfitted_estimators_keep_their_parameters(kind, tmp_path):
    assert repr(safely_saved(kind(random_state=3), tmp_path)) == repr(kind(random_state=3))


@pytest.mark.long
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


def test_boosting_alone_is_loaded_and_goes_on_learning(tmp_path):
    X = RNG_OF_TREES.normal(size=(60, 2))
    X[::7, 0] = np.nan
    boosting = HistGradientBoostingRegressor(max_iter=3, warm_start=True, random_state=0)
    boosting.fit(X, X[:, 1])
    loaded = safely_saved(boosting, tmp_path)
    assert_same(loaded, boosting, X)
    for each in (boosting, loaded):
        each.set_params(max_iter=5).fit(X, X[:, 1])
    assert_same(loaded, boosting, X)


def test_trees_of_a_fit_to_named_columns_must_be_trusted(tmp_path):
    """Their encoding of words is stored as it is."""
    frame = pd.DataFrame({"word": pd.Categorical(["a", "b"] * 20), "x": range(40)})
    boosting = HistGradientBoostingRegressor(max_iter=2).fit(frame, frame["x"])
    path = tmp_path / "model.skops"
    save(boosting, path)
    with pytest.raises(ValueError, match=rf"contains the types .*{TREES}.* not trusted") as caught:
        load(path)
    advised = re.search(r"trusted=(\[.*\])", str(caught.value))[1]
    assert_same(load(path, trusted=ast.literal_eval(advised)), boosting, frame)


# ------------------------------------------------------------------------ resumed training


@pytest.mark.long
@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_warm_start_resumes_to_the_bit(settings, tmp_path):
    model = quick(BackpropClassifier, warm_start=True, **settings).fit(X, Y)
    loaded, pickled = safely_saved(model, tmp_path), pickle.loads(pickle.dumps(model))
    for each in (loaded, pickled):
        each.set_params(max_iter=3).fit(X, Y)
    assert same_bits(loaded, pickled)
    assert_same(loaded, pickled, X)


@pytest.mark.long
@pytest.mark.parametrize("kind", [BackpropClassifier, BackpropRegressor, BackpropAutoencoder])
@pytest.mark.parametrize("n_estimators", [1, 3])
def test_partial_fit_resumes_to_the_bit(kind, n_estimators, tmp_path):
    members = {} if kind is BackpropAutoencoder else {"n_estimators": n_estimators}
    settings = members | {"dropout": 0.2, "early_stopping": True}
    model, whole = quick(kind, **settings), quick(kind, **settings)
    more = {"classes": [0, 1, 2]} if kind is BackpropClassifier else {}
    for _ in range(3):
        model.partial_fit(X, Y, X_val=X[:9], y_val=Y[:9], **more)
        whole.partial_fit(X, Y, X_val=X[:9], y_val=Y[:9], **more)
        model = safely_saved(model, tmp_path)
    assert same_bits(model, whole)


def test_shared_random_streams_stay_shared(tmp_path):
    rng = np.random.RandomState(0)
    model = quick(BackpropClassifier, random_state=rng, warm_start=True).fit(X, Y)
    loaded = safely_saved(model, tmp_path)
    assert model._training[0].state.rngs[0] is rng
    assert loaded._training[0].state.rngs[0] is loaded.random_state


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
    with pytest.raises(ValueError, match=f"contains the types {name}, which are not trusted"):
        load(path)
    for trusted in ([name], [Doubled]):
        assert_same(load(path, trusted=trusted), model, X)
    with pytest.raises(TypeError, match="trusted must be a list of names"):
        load(path, trusted=name)


# --------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "value, match",
    [
        (threading.Lock(), r"BackpropClassifier\.verbose, which is .* cannot be pickled"),
        ({True: 1.0, False: 2.0}, r"\.verbose, which is {.*boolean keys.*0 and 1 instead of"),
        ({None: 1.0}, r"cannot restore BackpropClassifier\.verbose, which is {None: 1\.0}: "),
        ({"a": [0, {(0, 1): 1.0}]}, r"BackpropClassifier\.verbose\['a'\]\[1\], which is "),
    ],
    ids=["lock", "boolean keys", "None", "tuple"],
)
def test_save_names_the_part_that_skops_cannot_restore(value, match, tmp_path):
    path = tmp_path / "model.skops"
    save(BackpropClassifier(alpha=0.5), path)
    before = path.read_bytes()
    with pytest.raises(TypeError, match="BackpropClassifier cannot be saved.*" + match):
        save(BackpropClassifier(verbose=value), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.skops"]


def make_local_parts():
    class Local:
        pass

    def local(progress):
        return 1 - progress

    return {
        "a lambda, which a file cannot name: use a function defined by def": lambda p: 1 - p,
        "the function local, which is defined inside a function: define it at": local,
        "the class Local, which is defined inside a function": Local,
        "an object of the class Local, which is defined inside a function": Local(),
    }


LOCAL = make_local_parts()


@pytest.mark.parametrize("is_fitted", [False, True])
def test_save_says_in_a_sentence_which_parameter_holds_a_lambda(is_fitted, tmp_path):
    X, y = class_data(20)
    part = LOCAL[next(iter(LOCAL))]
    models = {
        "learning_rate": quick(BackpropClassifier, learning_rate=part),
        "early_stopping.scoring": quick(
            BackpropClassifier, early_stopping=EarlyStopping(scoring=lambda *_: 1.0)
        ),
        "steps[0][1].func": make_pipeline(
            FunctionTransformer(lambda X: X), quick(BackpropClassifier)
        ),
    }
    for place, model in models.items():
        if is_fitted:
            model.fit(X, y)
        with pytest.raises(TypeError) as caught:
            save(model, tmp_path / "model.skops")
        assert str(caught.value) == (
            f"{type(model).__name__} cannot be saved, because its {place} is a lambda, which a "
            "file cannot name: use a function defined by def in a module."
        )
        assert caught.value.__cause__ is None and caught.value.__suppress_context__


@pytest.mark.parametrize("says", LOCAL)
def test_save_says_what_code_no_module_names(says, tmp_path):
    with pytest.raises(TypeError, match=rf"because its verbose is {says}"):
        save(BackpropRegressor(verbose=LOCAL[says]), tmp_path / "model.skops")


def test_save_says_that_the_class_of_an_estimator_is_local(tmp_path):
    class Own(BackpropRegressor):
        pass

    with pytest.raises(TypeError, match="because it is an object of the class Own, which is"):
        save(Own(), tmp_path / "model.skops")


class Color(enum.Enum):
    RED, GREEN, BLUE = range(3)


LEVELS = {
    "strings": (["a", "b"], True),
    "bytes": ([b"a", b"b"], True),
    "booleans": ([True, False], True),
    "numbers": ([1.5, 2**70], True),
    "decimals": ([decimal.Decimal("1.5"), decimal.Decimal(2)], True),
    "tuples": ([(1, "a"), (2, "b")], True),
    "dates": ([datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)], True),
    "timestamps": ([pd.Timestamp("2020"), pd.Timestamp("2021")], False),
    "durations": ([pd.Timedelta(1), pd.Timedelta(2)], False),
    "enums": (list(Color), False),
}


@pytest.mark.parametrize("levels, is_restored", LEVELS.values(), ids=LEVELS)
def test_levels_of_categories_of_all_types(levels, is_restored, tmp_path):
    values = pd.Series(([*levels, None] * 12)[:12], dtype=object)
    table = pd.DataFrame({"size": range(12), "x": values})
    encoder, path = TableEncoder(["x"], min_frequency=1).fit(table), tmp_path / "encoder.skops"
    if is_restored:
        save(encoder, path)
        loaded = load(path, trusted=["datetime.date", "decimal.Decimal"])
        assert np.array_equal(loaded.transform(table), encoder.transform(table))
    else:
        place = r"TableEncoder\._encoding\.categories\.levels\[0\]\.frequent\[0\]"
        with pytest.raises(TypeError, match=rf"cannot be saved .*{place}.* levels of categories"):
            save(encoder, path)


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model.skops"
    save(BackpropClassifier(alpha=0.5), path)

    def fail(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match=r"cannot be saved there: No space left.*model\.skops"):
        save(BackpropClassifier(alpha=0.1), path)
    assert os.listdir(tmp_path) == ["model.skops"]
    assert load(path).alpha == 0.5


def test_missing_folder_is_named(tmp_path):
    path = tmp_path / "none" / "model.skops"
    with pytest.raises(FileNotFoundError, match=r"none.model\.skops"):
        save(BackpropClassifier(), path)
    with pytest.raises(FileNotFoundError, match=r"none.model\.skops"):
        load(path)


def test_skops_can_read_the_files(tmp_path):
    import skops.io

    path = Path(tmp_path) / "model.skops"
    save(quick(BackpropClassifier).fit(X, Y), path)
    assert set(skops.io.get_untrusted_types(file=path)) <= set(get_trusted_types())
    assert skops.io.load(path, trusted=get_trusted_types()).predict(X).shape == Y.shape
