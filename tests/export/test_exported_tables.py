"""Export of table encoders and tabular estimators, with missing and unknown values."""

import datetime
import decimal
import enum

import numpy as np
import pandas as pd
import pytest
import skl2onnx
from onnxruntime import InferenceSession
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from test_onnx import outputs_of

from skbackprop import BackpropClassifier, TabularClassifier, TabularRegressor
from skbackprop.export import register_converters, to_onnx
from skbackprop.export._converters import SCALERS
from skbackprop.losses import Quantile
from skbackprop.tabular import PeriodicFeatures, PiecewiseLinearEncoder, TableEncoder
from support.cases import SHORT, is_close
from support.tables import growing_levels

RNG = np.random.default_rng(0)
N = 200
TABLE = np.column_stack(
    [
        RNG.normal(size=N) * 10 + 200,
        RNG.integers(0, 5, N),
        RNG.normal(size=N) ** 3,
        RNG.integers(0, 2, N),
        RNG.integers(0, 60, N),
        np.full(N, 7.0),
    ]
)
TABLE[RNG.random(TABLE.shape) < 0.05] = np.nan
LABELS = (np.nan_to_num(TABLE[:, 2]) > 0).astype(int) + (np.nan_to_num(TABLE[:, 1]) > 2)
NUMBERS = np.nan_to_num(TABLE[:, 2]) + np.nan_to_num(TABLE[:, 1])
TWO_TARGETS = np.column_stack([NUMBERS, 9 - 2 * NUMBERS])
# New rows, with unknown levels, large numbers, and numbers beyond the two values of a column.
ROWS = TABLE.copy()
ROWS[:4, 1], ROWS[4:8, 4], ROWS[8, 0], ROWS[9, 2] = 99, 1000, 1e30, -1e30
ROWS[10:12, 3] = 3, -1
ROWS = ROWS.astype(np.float32)


@pytest.mark.parametrize(
    "encoder",
    [
        TableEncoder([1, 4]),
        TableEncoder([1, 4], encoding="ordinal"),
        TableEncoder([1, 4], max_categories=4, random_state=0),
        TableEncoder([1, 3, 4], min_frequency=1, max_categories=None),
        TableEncoder(),
    ],
    ids=str,
)
def test_table_encoders(encoder):
    encoder = encoder.fit(TABLE, LABELS)
    (encoded,) = outputs_of(to_onnx(encoder), ROWS).values()
    assert is_close(encoded, encoder.transform(ROWS))


@pytest.mark.parametrize(
    "encoder", [PiecewiseLinearEncoder(4), PeriodicFeatures(3, random_state=0)], ids=str
)
def test_numeric_encoders(encoder):
    X = np.nan_to_num(TABLE)
    rows = X[::2].astype(np.float32) + np.float32(0.25)
    (encoded,) = outputs_of(to_onnx(encoder.fit(X / 10)), rows / 10).values()
    assert is_close(encoded, encoder.transform(rows / 10))


@pytest.mark.parametrize("labels", [LABELS, LABELS > 1, np.zeros(N), np.array(list("abc"))[LABELS]])
@pytest.mark.parametrize("categorical_features", [[1, 4], None])
@pytest.mark.filterwarnings("ignore:y contains only the class")
def test_tabular_classifiers(labels, categorical_features):
    settings = {"categorical_features": categorical_features, "max_iter": 2, "random_state": 0}
    estimator = TabularClassifier(2, **settings).fit(TABLE, labels)
    found = outputs_of(to_onnx(estimator), ROWS)
    assert found["label"].tolist() == estimator.predict(ROWS).tolist()
    assert is_close(found["probabilities"], estimator.predict_proba(ROWS))


@pytest.mark.parametrize(
    "settings",
    [
        {"n_estimators": 3},
        {"loss": "gaussian", "clip": False},
        {"loss": Quantile([0.1, 0.9])},
        {"blend": "boosting", "monotonic_cst": [1, 0, -1, -1, 0, 0]},
    ],
)
@pytest.mark.parametrize("y", [NUMBERS, TWO_TARGETS], ids=["one target", "two targets"])
def test_tabular_regressors(settings, y):
    settings = {"n_estimators": 2, "max_iter": 2, "random_state": 0} | settings
    estimator = TabularRegressor(**settings).fit(TABLE, y)
    (found,) = outputs_of(to_onnx(estimator), ROWS).values()
    predicted = estimator.predict(ROWS)
    assert is_close(found, predicted.reshape(found.shape))


@pytest.mark.parametrize(
    "values, kind",
    [
        (pd.date_range("2020-01-01", periods=40), "date"),
        ([datetime.time(at % 24) for at in range(40)], "time"),
        ([f"some words {at}" for at in range(40)], "text"),
    ],
)
def test_raises_on_dates_and_text(values, kind):
    frame = pd.DataFrame({"x": np.arange(40.0), "other": values})
    encoder = TableEncoder(random_state=0).fit(frame)
    with pytest.raises(
        TypeError, match=f"Column 'other' must contain numbers .* fit treated it as {kind}"
    ):
        to_onnx(encoder)


def test_durations_and_numbers_in_strings_are_numbers():
    numbers = np.column_stack([TABLE[:, 0], TABLE[:, 2]])
    frame = pd.DataFrame(
        {
            "took": pd.to_timedelta(numbers[:, 0], unit="s"),
            "price": [None if x != x else f"{x:,.9f}" for x in numbers[:, 1]],
        }
    )
    encoder = TableEncoder().fit(frame)
    (encoded,) = outputs_of(to_onnx(encoder), numbers.astype(np.float32)).values()
    assert is_close(encoded, encoder.transform(frame))


BLENDED = {"max_iter": 1, "random_state": 0}
BOOSTING = {
    TabularClassifier: HistGradientBoostingClassifier(max_iter=20, min_samples_leaf=3),
    TabularRegressor: HistGradientBoostingRegressor(max_iter=20, min_samples_leaf=3),
}


@pytest.mark.parametrize("y", [LABELS, LABELS > 1, NUMBERS, np.exp(NUMBERS / 4), TWO_TARGETS])
@pytest.mark.parametrize("categorical_features", [[1, 4], None])
def test_boosting_and_networks_are_one_model(y, categorical_features):
    """Rows have missing, rare and unknown categories, and values at the thresholds of trees."""
    kind = TabularClassifier if y.dtype.kind in "ib" else TabularRegressor
    settings = BLENDED | {"categorical_features": categorical_features}
    boosting = clone(BOOSTING[kind])
    if kind is TabularRegressor and y.min() > 0:
        settings["loss"] = "gamma"
        boosting.set_params(loss="gamma")
    model = kind(2, **settings, blend=[boosting]).fit(TABLE, y)
    rows = np.vstack([ROWS, np.full((1, TABLE.shape[1]), np.nan)])
    found = list(outputs_of(to_onnx(model), rows).values())[-1]
    predict = model.predict_proba if kind is TabularClassifier else model.predict
    assert is_close(found, predict(rows).reshape(found.shape))
    has_categories = model.blended_[0][0].is_categorical_ is not None
    assert has_categories == (categorical_features is not None)
    assert model.weights_[-1].min() > 0.5  # networks have learned nearly nothing


def test_numbers_at_the_thresholds_of_trees():
    """In single precision, all values are equal."""
    X, y = 1e4 + np.arange(40.0)[:, None] * 1e-6, np.arange(40.0)
    boosting = HistGradientBoostingRegressor(max_iter=3, min_samples_leaf=1, learning_rate=1.0)
    model = TabularRegressor(2, max_iter=1, blend=[boosting], random_state=0).fit(X, y)
    (found,) = outputs_of(to_onnx(model), X).values()
    assert is_close(found[:, 0], model.predict(X))


@pytest.mark.parametrize("decimals", [1, 3])
def test_rounded_rows_take_the_same_branches(decimals):
    """Quantiles of more than 255 decimals are thresholds on values, and others are between."""
    X = np.round(np.random.default_rng(0).lognormal(3, 1, (700, 2)), decimals)
    boosting = HistGradientBoostingRegressor(max_iter=20, min_samples_leaf=2)
    model = TabularRegressor(2, **BLENDED, blend=[boosting]).fit(X, np.sin(X).sum(axis=1))
    (found,) = outputs_of(to_onnx(model), X).values()
    assert is_close(found[:, 0], model.predict(X))


@pytest.mark.parametrize("scaler", SCALERS)
def test_scalers_before_a_table_keep_all_digits(scaler):
    """Levels are equal, and rows take the same branches, only in double precision."""
    X = np.column_stack([1e9 + RNG.permutation(N), RNG.integers(0, 9, N) / 10])
    y = np.sin(X[:, 0]) + X[:, 1]
    blend = [BOOSTING[TabularRegressor]]
    table = TabularRegressor(2, **BLENDED, categorical_features=[1], blend=blend)
    for last in (table, TableEncoder([1], min_frequency=1)):
        model = make_pipeline(scaler(), last).fit(X, y)
        (found,) = outputs_of(to_onnx(model), X).values()
        expected = model.predict(X)[:, None] if last is table else model.transform(X)
        assert is_close(found, expected)


def test_folds_without_some_classes():
    """Clones of two of three classes, and of one, know nothing of the others."""
    X, y = np.arange(24.0)[:, None], np.repeat([0, 1, 2], [20, 3, 1])
    for labels in (y, y == 2, y > 0):
        blend = [BOOSTING[TabularClassifier]]
        model = TabularClassifier(3, **BLENDED, blend=blend).fit(X, labels)
        n_classes = {len(each.classes_) for each in model.blended_[0]}
        found = outputs_of(to_onnx(model), X.astype(np.float32))
        assert is_close(found["probabilities"], model.predict_proba(X))
        assert len(n_classes) == 2 or labels.sum() == 4


def test_raises_on_other_estimators_in_a_blend():
    ridge = TabularRegressor(2, **BLENDED, blend=[Ridge()]).fit(TABLE, NUMBERS)
    with pytest.raises(TypeError, match=r"blend with Ridge cannot be exported.*blend=None"):
        to_onnx(ridge)
    # A clone of gradient boosting that sees a single class is a DummyClassifier, too.
    dummy = TabularClassifier(2, **BLENDED, blend=[DummyClassifier()]).fit(TABLE, LABELS)
    with pytest.raises(TypeError, match="blend with DummyClassifier cannot be exported"):
        to_onnx(dummy)


def test_lines_of_categories():
    """With missing values and a new level."""
    frame, y = growing_levels(n=300)
    frame["level"] = frame["level"].str[1:].astype(float)
    settings = BLENDED | {"categorical_features": ["level"], "blend": None}
    estimator = TabularRegressor(2, **settings).fit(frame, y)
    assert estimator._features.encoding.interactions is not None
    rows = frame[:9].to_numpy().copy()
    rows[0, 0], rows[1, 1], rows[2, 1] = np.nan, np.nan, 1000
    (found,) = outputs_of(to_onnx(estimator), rows).values()
    assert is_close(found[:, 0], estimator.predict(pd.DataFrame(rows, columns=frame.columns)))


def test_constant_columns():
    estimator = TabularRegressor(2, max_iter=1, random_state=0).fit(
        np.ones((20, 2)), np.arange(20.0)
    )
    (found,) = outputs_of(to_onnx(estimator), np.array([[1, np.nan]])).values()
    assert is_close(found[:, 0], estimator.predict([[1, np.nan]]))
    for table in (np.ones((20, 1)), pd.DataFrame({"x": ["one"] * 20})):
        (found,) = outputs_of(to_onnx(TableEncoder().fit(table)), table).values()
        assert found.shape == (20, 0)


def test_skl2onnx_converters():
    register_converters()
    network, blend = BackpropClassifier((5,), **SHORT), [BOOSTING[TabularClassifier]]
    models = [
        make_pipeline(TableEncoder([1, 4]), network).fit(TABLE, LABELS),
        TabularClassifier(2, **BLENDED, blend=blend).fit(TABLE, LABELS),
    ]
    for model in models:
        proto = skl2onnx.to_onnx(model, ROWS[:1], options={"zipmap": False})
        label, probabilities = InferenceSession(proto.SerializeToString()).run(None, {"X": ROWS})
        assert label.tolist() == model.predict(ROWS).tolist()
        assert is_close(probabilities, model.predict_proba(ROWS))


LEVELS = {
    "words": (["a", "b"], None),
    "timestamps": ([pd.Timestamp("2020"), pd.Timestamp("2021")], r"Timestamp\('2020"),
    "enums": (list(enum.Enum("Color", ["RED", "BLUE"])), "<Color.BLUE"),
    "numbers and words": ([1, "b"], "1,"),
    "integers": ([1, 2], None),
    "booleans": ([True, False], None),
    "decimals": ([decimal.Decimal("1.5"), decimal.Decimal(2)], None),
    "large": ([1.0, 1e300], None),
}


@pytest.mark.parametrize("name", LEVELS)
def test_levels_of_all_types(name):
    levels, shown = LEVELS[name]
    column = np.empty(12, dtype=object)
    column[:] = (levels * 12)[:12]
    table = pd.DataFrame({"size": range(12), "x": pd.Series(column, dtype=object)})
    encoder = TableEncoder(["x"], min_frequency=1).fit(table)
    if shown is not None:
        with pytest.raises(TypeError, match=f"Column 'x' has levels such as {shown}"):
            to_onnx(encoder)
    else:
        rows = table
        if name != "words":
            rows = np.column_stack([np.arange(12), column.astype(float)])
        (encoded,) = outputs_of(to_onnx(encoder), rows).values()
        assert is_close(encoded, encoder.transform(table))


def table_of_words(n):
    """Return a table with missing values, few and many words, numbers and truth values."""
    rng = np.random.default_rng(n)
    table = pd.DataFrame(
        {
            "size": rng.normal(size=n),
            "city": rng.choice(["here", "over there", "\u00fc"], n),
            "shop": [f"shop {i}" for i in rng.integers(0, 90, n)],
            "is_open": rng.choice([True, False], n),
        }
    )
    table.loc[::7, "city"], table.loc[::11, "size"] = None, np.nan
    return table


@pytest.mark.parametrize("kind", [TabularClassifier, TabularRegressor])
def test_tables_of_words_have_an_input_for_each_column(kind):
    table, later = table_of_words(900), table_of_words(60)
    slope = np.where(table["city"] == "here", 3.0, -1.0)
    y = slope * table["size"].fillna(0) + table["shop"].str[5:].astype(int) / 30
    if kind is TabularClassifier:
        y = np.digitize(y, [0, 2]).astype(str)
    estimator = kind(2, max_iter=3, random_state=0).fit(table, y)
    later.loc[:9, "city"], later.loc[5:20, "shop"], later.loc[30:40, "shop"] = "new", "new", None
    model = to_onnx(estimator)
    assert [value.name for value in model.graph.input] == [*table]
    assert sum(node.op_type == "LabelEncoder" for node in model.graph.node) == 2
    found = outputs_of(model, later)
    if kind is TabularRegressor:
        assert is_close(found["variable"][:, 0], estimator.predict(later))
    else:
        assert found["label"].tolist() == estimator.predict(later).tolist()
        assert is_close(found["probabilities"], estimator.predict_proba(later))


def test_errors_about_words():
    table = pd.DataFrame({"label": list("abcd") * 3, "x": range(12)})
    estimator = TabularClassifier(2, max_iter=1, random_state=0).fit(table, [0, 1] * 6)
    for name in ("label", ""):
        renamed = TabularClassifier(2, max_iter=1, random_state=0)
        renamed.fit(table.rename(columns={"label": name}), [0, 1] * 6)
        with pytest.raises(ValueError, match=f"'{name}' has no name, or the name of an output"):
            to_onnx(renamed)
    empty = TableEncoder(min_frequency=1).fit(pd.DataFrame({"x": ["a", "", None]}))
    with pytest.raises(ValueError, match="'x' has missing values and empty strings"):
        to_onnx(empty)
    register_converters()
    with pytest.raises(TypeError, match="fitted to columns of strings.*Export the Tabular.* alone"):
        skl2onnx.to_onnx(estimator, table[:1])


def test_raises_on_levels_that_cannot_be_exported():
    """Other steps compute in single precision."""
    register_converters()
    for other, message in [
        (1 + 1e-12, "has levels that are equal as float32"),
        (1e300, "must have finite values in single precision"),
    ]:
        X = np.array([[1.0, 2], [other, 3], [2, 4]])
        alike = TableEncoder([0], min_frequency=1).fit(X)
        with pytest.raises(ValueError, match=message):
            skl2onnx.to_onnx(alike, X[:1].astype(np.float32))
