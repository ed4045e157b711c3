"""Shares of columns in the predictions of any estimator."""

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.sparse import csr_array
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeRegressor

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.inspection import explain
from support import class_data, few_epochs, label_data, quick, value_data

pytestmark = few_epochs


@pytest.mark.parametrize("n_permutations", [None, 1])
def test_known_values_of_a_linear_model(n_permutations):
    X, y = value_data(60)
    model = make_pipeline(StandardScaler(), LinearRegression()).fit(X, y)
    found = explain(model, X[20:25], X[:20], n_permutations=n_permutations)
    expected = (X[20:25] - X[:20].mean(axis=0)) * (model[1].coef_ / model[0].scale_)
    np.testing.assert_allclose(found.values, expected, atol=1e-12)
    np.testing.assert_allclose(found.base_values, np.full(5, model.predict(X[:20]).mean()))
    np.testing.assert_allclose(found.importances, np.abs(expected).mean(axis=0))
    assert found.feature_names == ["x0", "x1", "x2", "x3"]
    assert found.output_names is None


@pytest.mark.parametrize("n_estimators", [1, 2])
@pytest.mark.parametrize("n_features", [4, 8])
def test_shares_of_classes_sum_to_probabilities_and_log_odds(n_estimators, n_features):
    X, y = class_data(60, n_features)
    model = quick(BackpropClassifier, n_estimators=n_estimators).fit(X, y)
    found = explain(model, X[:3], X)
    assert found.values.shape == (3, n_features, 3)
    assert found.output_names == ["0", "1", "2"]
    shares = model.predict_proba(X[:3])
    np.testing.assert_allclose(found.predictions, shares, atol=1e-12)
    np.testing.assert_allclose(found.values.sum(axis=2), 0, atol=1e-12)
    found = explain(model, X[:3], X, output="log_odds")
    np.testing.assert_allclose(found.predictions, np.log(shares / (1 - shares)), atol=1e-9)


def test_several_targets_and_several_columns_of_labels():
    X, Y = value_data(60, n_outputs=2)
    model = quick(BackpropRegressor).fit(X, Y)
    found = explain(model, X[:3], X)
    assert found.values.shape == (3, 4, 2)
    np.testing.assert_allclose(found.predictions, model.predict(X[:3]), atol=1e-12)
    X, Y = label_data(60)
    labels = quick(BackpropClassifier).fit(X, Y)
    found = explain(labels, X[:3], X, output="log_odds")
    np.testing.assert_allclose(found.predictions, labels.decision_function(X[:3]), atol=1e-9)
    several = MultiOutputClassifier(LogisticRegression()).fit(X, Y[:, :2])
    found = explain(several, X[:3], X)
    assert found.output_names == ["0: 0", "0: 1", "1: 0", "1: 1"]
    np.testing.assert_allclose(
        found.predictions, np.hstack(several.predict_proba(X[:3])), atol=1e-12
    )


def words_pipeline(table, y):
    encoder = make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), ["word"]), remainder="passthrough"
    )
    return make_pipeline(encoder, LogisticRegression()).fit(table, y)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_with_strings_and_missing_values(frame):
    rng = np.random.RandomState(0)
    table = frame(
        {
            "number": rng.randn(40),
            "word": [["x", "y", None][row % 3] for row in range(40)],
            "same": np.ones(40),
        }
    )
    y = np.arange(40) % 3 == 0
    model = words_pipeline(table, y)
    found = explain(model, table[:4], table)
    np.testing.assert_allclose(found.predictions, model.predict_proba(table[:4]), atol=1e-12)
    assert found.feature_names == ["number", "word", "same"]
    np.testing.assert_array_equal(found.values[:, 2], 0)
    assert found.data[0, 1] == "x"
    # The columns of the background may be in another order.
    again = explain(model, table[:4], table[["same", "word", "number"]])
    np.testing.assert_array_equal(again.values, found.values)


def test_missing_values_are_not_zeros():
    X, y = np.array([[0.0], [np.nan]] * 10), np.array([0.0, 1.0] * 10)
    found = explain(DecisionTreeRegressor().fit(X, y), X[:2], X)
    np.testing.assert_allclose(found.values, [[-0.5], [0.5]])


@pytest.mark.parametrize("n_columns, n_background", [(4, 100), (2_000, 50), (20_000, 10)])
def test_many_background_rows_are_sampled(n_columns, n_background):
    X = np.random.RandomState(0).randn(300, n_columns)
    X[:2, 4:] = X[2:, 4:] = 0  # so that few columns are switched
    model = LinearRegression().fit(X[:, :4], X[:, 0])
    model.coef_, model.n_features_in_ = np.resize([3.0, -1.0], n_columns), n_columns
    index = np.sort(np.random.RandomState(3).choice(300, n_background, replace=False))
    found = explain(model, X[:2], X, random_state=3)
    np.testing.assert_allclose(found.base_values, model.predict(X[index]).mean())
    same = explain(model, X[:2], X[index], random_state=3)
    np.testing.assert_allclose(found.values, same.values)


def test_rows_of_many_columns_are_predicted_in_small_blocks():
    X, n_values = np.random.RandomState(0).randn(30, 600), []

    def total(rows):
        n_values.append(rows.size)
        return rows.sum(axis=1)

    model = DummyRegressor().fit(X, X[:, 0])
    model.predict = total
    found = explain(model, X[:1], X)
    np.testing.assert_allclose(found.values[0], X[0] - X.mean(axis=0), atol=1e-12)
    assert max(n_values) <= 2**18


def test_errors():
    X, y = class_data()
    with pytest.raises(NotFittedError):
        explain(BackpropClassifier(), X, X)
    model = quick(BackpropClassifier).fit(X, y)
    with pytest.raises(ValueError, match="background must be given for BackpropClassifier"):
        explain(model, X)
    with pytest.raises(ValueError, match="X has 3 features"):
        explain(model, X, X[:, :3])
    with pytest.raises(ValueError, match="X must be a dense table of shape"):
        explain(model, X[0], X)
    with pytest.raises(ValueError, match='output must be "probability" or "log_odds"'):
        explain(model, X, X, output="score")
    with pytest.raises(ValueError, match="X must be a dense table .* got a csr_array"):
        explain(model, csr_array(X), X)


@pytest.mark.parametrize(
    "row, how",
    [
        (pd.Series([1.0, 2.0, 3.0, 4.0]), r"pass NAME\.reshape\(1, -1\)"),
        (np.arange(4.0), r"pass NAME\.reshape\(1, -1\)"),
        ({"x0": 1.0}, r"got a dict of shape \(\)"),
    ],
)
def test_raises_on_a_row_without_its_table(row, how):
    X, y = value_data(60)
    model = LinearRegression().fit(X, y)
    for name, arguments in (("X", (row, X)), ("background", (X, row))):
        with pytest.raises(
            ValueError, match=f"{name} must be a dense table.* {how.replace('NAME', name)}"
        ):
            explain(model, *arguments)
