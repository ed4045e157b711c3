"""X of three or more dimensions, and sequences that end in padding."""

import re
import tracemalloc

import numpy as np
import pytest

from skbackprop import BackpropClassifier, BackpropGridSearchCV
from skbackprop.layers import (
    GRU,
    Conv1D,
    Conv2D,
    Dense,
    Flatten,
    GlobalMaxPool1D,
    MaxPool2D,
    MultiHeadAttention,
    Permute,
    PositionalEncoding,
    Reshape,
    Residual,
)
from skbackprop.optimizers import LBFGS
from skbackprop.training import resources
from skbackprop.utils import arrays
from support import few_epochs, pairs, quick

pytestmark = few_epochs

LAYERS = [Dense(4, activation="relu"), Dense(2, activation="tanh")]


def sequences(n=40):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 6, 3))
    return X, (X[:, :, 0].sum(axis=1) > 0).astype(int)


def fitted(X, y, **settings):
    return quick(BackpropClassifier, layers=LAYERS, **settings).fit(X, y)


@pytest.mark.parametrize("convert", [np.asarray, np.ndarray.tolist], ids=["array", "lists"])
@pytest.mark.parametrize("n_estimators", [1, 3])
def test_shape_of_rows_and_input_shape_are_the_same(n_estimators, convert):
    X, y = sequences()
    flat = X.reshape(len(X), -1)
    shaped = fitted(convert(X), y, n_estimators=n_estimators)
    model = fitted(flat, y, n_estimators=n_estimators, input_shape=(6, 3))
    assert shaped.n_features_in_ == model.n_features_in_ == 18
    for rows in (X, flat):
        np.testing.assert_array_equal(shaped.predict_proba(rows), model.predict_proba(flat))
    np.testing.assert_array_equal(model.predict_proba(X), model.predict_proba(flat))
    shaped.partial_fit(X, y)
    model.partial_fit(flat, y)
    np.testing.assert_array_equal(shaped.predict_proba(X), model.predict_proba(X))


def test_validation_data_and_searches_take_shapes():
    X, y = sequences()
    model = quick(BackpropClassifier, layers=LAYERS, early_stopping=True)
    model.fit(X, y, X_val=X[:20], y_val=y[:20])
    with pytest.raises(
        ValueError, match=r"X_val, y_val: Rows of X must have the shape .* got \(5, 3\)"
    ):
        model.fit(X, y, X_val=X[:20, :5], y_val=y[:20])
    search = BackpropGridSearchCV(
        quick(BackpropClassifier, layers=LAYERS), {"alpha": [0.01, 1.0]}, cv=2
    )
    flat = BackpropGridSearchCV(
        quick(BackpropClassifier, layers=LAYERS, input_shape=(6, 3)), {"alpha": [0.01, 1.0]}, cv=2
    )
    scores = [
        each.fit(rows, y).cv_results_["mean_test_score"]
        for each, rows in ((search, X), (flat, X.reshape(len(X), -1)))
    ]
    np.testing.assert_array_equal(*scores)


@pytest.mark.parametrize("input_shape", [(5, 3), 7, (2, 3, 4)])
def test_input_shape_that_does_not_fit_is_named(input_shape):
    X, y = sequences()
    for rows in (X, X.reshape(len(X), -1)):
        with pytest.raises(
            ValueError, match="input_shape=.* does not match X, whose rows have the shape"
        ):
            fitted(rows, y, input_shape=input_shape)


@pytest.mark.parametrize("input_shape", [(), (0, 18), (6.0, 3), "6, 3", (True, 18), -18])
def test_input_shape_that_is_none_is_named(input_shape):
    X, y = sequences()
    with pytest.raises(ValueError, match="input_shape"):
        fitted(X, y, input_shape=input_shape)


def test_other_rows_in_prediction_are_an_error():
    X, y = sequences()
    model = fitted(X, y)
    expected = model.predict_proba(X)
    for rows in (X[:, :5], X[..., :2], X[:, None]):
        for method in (model.predict, model.predict_proba, lambda rows: model.partial_fit(rows, y)):
            with pytest.raises(
                ValueError, match=r"must have the shape \(6, 3\) of the training data"
            ):
                method(rows)
    np.testing.assert_array_equal(model.predict_proba(X), expected)


@pytest.mark.parametrize("solver", ["adam", LBFGS(n_corrections=1)])
def test_a_batch_larger_than_memory_names_layer_and_batch_size(monkeypatch, solver):
    X, y = sequences()
    model = quick(BackpropClassifier, layers=[Dense(2), Dense(500)], solver=solver).fit(X, y)
    expected = model.predict_proba(X)
    # A row of 6 x 500 outputs, with its gradient, takes 48,000 bytes.
    monkeypatch.setattr(resources, "total_memory", lambda: 40 * 48_000.0)
    with pytest.raises(MemoryError, match=r"40 rows .* Dense\(n_units=500\).* smaller batch_size"):
        model.fit(X, y)
    np.testing.assert_array_equal(model.predict_proba(X), expected)
    monkeypatch.setattr(resources, "total_memory", lambda: 80 * 48_000.0)
    model.fit(X, y)


def test_parameters_larger_than_memory_name_the_layer_before_they_are_drawn():
    X, y = sequences()
    rng = np.random.RandomState(0)
    layers = [Flatten(), Dense(10**9), Dense(2)]
    with pytest.raises(MemoryError, match=r"for Dense\(n_units=1000000000\) .* \(18,\)"):
        BackpropClassifier(layers=layers, batch_size=1, random_state=rng).fit(X, y)
    assert rng.randint(1000) == np.random.RandomState(0).randint(1000)


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_the_memory_that_a_fit_is_checked_for_is_what_it_takes(monkeypatch, solver):
    X, y = sequences()
    model = quick(BackpropClassifier, layers=[Flatten(), Dense(10_000)], solver=solver)
    tracemalloc.start()
    model.fit(X, y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    monkeypatch.setattr(resources, "total_memory", lambda: 1.1 * peak)
    model.fit(X, y)
    monkeypatch.setattr(resources, "total_memory", lambda: 0.9 * peak)
    with pytest.raises(MemoryError, match=r"of it for Dense\(n_units=10000\)"):
        model.fit(X, y)


# ----------------------------------------------------------------------------- missing values

READERS = {
    "gru": [GRU(2)],
    "dense before": [Dense(2), GRU(2)],
    "convolution": [Conv1D(2, 1), GlobalMaxPool1D()],
    "attention": [PositionalEncoding(), MultiHeadAttention(1)],
}
MISSING = {
    "one channel": (
        np.s_[3, 5, 1],
        "contains NaN in row 3, step 5. NaN is only allowed as padding",
    ),
    "first step": (np.s_[3, 0], "contains NaN in row 3, step 0. NaN is only allowed as padding"),
    "in between": (np.s_[3, 2:4], "contains NaN in row 3, step 3. NaN is only allowed as padding"),
    "a row": (np.s_[3], "Row 3 of X contains only NaN"),
}


@pytest.mark.parametrize(
    "reader, missing, is_flat, n_rows_at_once",
    pairs(list(READERS), list(MISSING), [False, True], [2, 100]),
)
def test_nan_that_is_no_padding_is_an_error(reader, missing, is_flat, n_rows_at_once, monkeypatch):
    layers, (where, says) = READERS[reader], MISSING[missing]
    monkeypatch.setattr(arrays, "_VALUES_CHECKED", 18 * n_rows_at_once)
    X, y = sequences()
    X[7, 4:] = np.nan  # padding
    wrong = X.copy()
    wrong[where] = np.nan
    if is_flat:
        X, wrong = X.reshape(len(X), -1), wrong.reshape(len(X), -1)
    model = quick(BackpropClassifier, layers=layers, input_shape=(6, 3)).fit(X, y)
    expected = model.predict_proba(X)
    for method in (
        lambda rows: quick(BackpropClassifier, layers=layers, input_shape=(6, 3)).fit(rows, y),
        lambda rows: model.partial_fit(rows, y),
        model.predict,
    ):
        with pytest.raises(ValueError, match=says):
            method(wrong)
    np.testing.assert_array_equal(model.predict_proba(X), expected)


@pytest.mark.parametrize(
    "first", [Reshape((3, 6)), Residual([Permute((2, 1)), Permute((2, 1))])], ids=str
)
def test_networks_whose_first_layer_reads_no_sequences_take_no_padding(first):
    X, y = sequences()
    layers = [first, Reshape((6, 3)), GRU(2)]
    quick(BackpropClassifier, layers=layers).fit(X, y)
    X[2, 4:] = np.nan
    says = f"row 2, step 4. The first layer, {re.escape(repr(first))}, does not accept NaN"
    with pytest.raises(ValueError, match=says):
        quick(BackpropClassifier, layers=layers).fit(X, y)


def test_an_error_about_images_with_the_channels_first_names_the_order_of_the_axes():
    images, layers = np.zeros((4, 3, 16, 16)), [Conv2D(2, 3), MaxPool2D(2)]
    says = r"layers\[1\]: .* Rows of shape \(3, 16, 16\) are read as .*np.moveaxis\(X, 1, -1\)"
    with pytest.raises(ValueError, match=says):
        quick(BackpropClassifier, layers=layers).fit(images, [0, 1] * 2)
    quick(BackpropClassifier, layers=layers).fit(np.moveaxis(images, 1, -1), [0, 1] * 2)
    with pytest.raises(ValueError, match=r"got rows of shape \(4, 4, 3\)\.$"):
        quick(BackpropClassifier, layers=Conv2D(2, 5)).fit(np.zeros((4, 4, 4, 3)), [0, 1] * 2)


def test_missing_values_of_images_and_single_images_are_errors():
    X, y = sequences()
    layers = Conv2D(2, 2)
    model = quick(BackpropClassifier, layers=layers).fit(X, y)
    with pytest.raises(ValueError, match="X has 3 features"):
        model.predict(X[0])
    X[2, 4:] = np.nan
    for method in (
        model.predict,
        lambda rows: quick(BackpropClassifier, layers=layers).fit(rows, y),
    ):
        with pytest.raises(ValueError, match="Input X contains NaN"):
            method(X)
