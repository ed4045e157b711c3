"""Shares of the columns of raw tables in the predictions of tabular estimators."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import csr_array
from sklearn.exceptions import NotFittedError
from sklearn.inspection import partial_dependence
from sklearn.linear_model import Ridge

from skbackprop import TabularClassifier, TabularRegressor
from skbackprop.inspection import explain
from skbackprop.persistence import load, save
from support import shapley_values
from support.tables import BOTH, component_inputs, mixed_data, predict

SETTINGS = {"n_estimators": 2, "max_iter": 2, "blend": None, "random_state": 0}


def by_definition(model, row, background):
    """Return the Shapley values of one row of a table, from predictions of raw tables."""
    names = list(row.columns)

    def value(coalition):
        table = background.assign(**{name: row[name].iloc[0] for name in coalition})
        return predict(model, table[names]).mean(axis=0)

    return shapley_values(value, names)


@BOTH
def test_values_are_those_of_the_definition_for_the_whole_model(kind):
    X, y = mixed_data(kind, 60)
    model = kind(**SETTINGS | {"blend": "boosting"}).fit(X, y)
    found = model.explain(X[:2], background=X[20:26])
    scale = np.ptp(predict(model, X))
    for row in (0, 1):
        expected = by_definition(model, X[row : row + 1], X[20:26])
        np.testing.assert_allclose(found.values[row], expected, atol=1e-5 * scale)
    assert found.feature_names == ["none", "some", "city"]
    assert found.output_names == (["no", "yes"] if kind is TabularClassifier else None)
    np.testing.assert_array_equal(found.data, X[:2].to_numpy(dtype=object))


def wide_table(n=60, seed=0):
    """Return a table of ten columns of all kinds, with missing values."""
    rng = np.random.RandomState(seed)
    table = pd.DataFrame({f"x{column}": rng.randn(n) for column in range(5)})
    table["city"] = rng.choice(["a", "b", None], n)
    table["many"] = [f"level number {row % 40}" for row in range(n)]  # text
    table["flag"] = rng.rand(n) < 0.5
    table["day"] = pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.randint(0, 400, n), "D")
    table["same"] = 1.0
    table.loc[::7, ["x0", "day"]] = None
    return table


@BOTH
def test_shares_sum_to_predictions(kind):
    X = wide_table()
    y = X["x1"] + (X["city"] == "a")
    y = np.digitize(y, [0, 1]) if kind is TabularClassifier else y
    model = kind(**SETTINGS | {"blend": ["boosting"] if kind is TabularClassifier else [Ridge()]})
    model.fit(X, y)
    new = X[:4].assign(city=["a", "unknown", None, "b"], many="unknown")
    found = model.explain(new)
    expected = predict(model, new)
    np.testing.assert_allclose(found.predictions, expected, atol=1e-12)
    np.testing.assert_array_equal(found.values[:, X.columns.get_loc("same")], 0)
    np.testing.assert_allclose(found.base_values[0], predict(model, X).mean(axis=0), atol=1e-9)
    again = model.explain(new)
    np.testing.assert_array_equal(found.values, again.values)
    other = model.explain(new, random_state=1)
    assert not np.array_equal(found.values, other.values)
    # A row's shares do not depend on the other rows.
    alone = model.explain(new[1:2])
    np.testing.assert_allclose(alone.values[0], found.values[1], atol=1e-5)
    finer = model.explain(new, n_permutations=4)
    np.testing.assert_allclose(finer.predictions, expected, atol=1e-12)


def test_blended_linear_model_has_known_values():
    rng = np.random.RandomState(0)
    X = rng.randn(60, 3)
    model = TabularRegressor(**SETTINGS | {"blend": [Ridge()]}, clip=False).fit(
        X, X[:, 0] + X[:, 1]
    )
    model.weights_ = np.array([0.0, 1.0])  # the linear model alone
    values = model.explain(X[:3], background=X).values
    encoded = component_inputs(model, X)[1].astype(np.float64)
    coefficients = np.mean([each.coef_ for each in model.blended_[0]], axis=0)
    expected = (encoded[:3] - encoded.mean(axis=0)) * coefficients
    np.testing.assert_allclose(values, expected, atol=1e-6)


def test_log_odds_and_several_classes():
    X, y = mixed_data(TabularClassifier, 60)
    model = TabularClassifier(**SETTINGS).fit(X, y)
    found = model.explain(X[:3], output="log_odds")
    shares = model.predict_proba(X[:3])
    np.testing.assert_allclose(found.predictions, np.log(shares / (1 - shares)), rtol=1e-6)
    np.testing.assert_allclose(found.values[:, :, 0], -found.values[:, :, 1], atol=1e-5)
    with pytest.raises(ValueError, match="output must be .*, got 'x'"):
        model.explain(X, output="x")


def test_one_row_as_a_dict_and_one_column():
    X, y = mixed_data(TabularRegressor, 60)
    model = TabularRegressor(**SETTINGS).fit(X[["city"]], y)
    found = model.explain({"city": "a"})
    assert found.values.shape == (1, 1)
    assert found.data[0, 0] == "a"
    np.testing.assert_allclose(found.predictions, model.predict({"city": "a"}), atol=1e-9)


def test_sparse_tables_and_arrays():
    rng = np.random.RandomState(0)
    X = rng.randn(40, 8) * (rng.rand(40, 8) < 0.5)
    dense = TabularRegressor(**SETTINGS).fit(X, X[:, 0])
    found = dense.explain(X[:2])
    assert found.feature_names[:2] == ["x0", "x1"]
    np.testing.assert_array_equal(found.data, X[:2])
    sparse = TabularRegressor(**SETTINGS).fit(csr_array(X), X[:, 0])
    explained = sparse.explain(csr_array(X[:2]))
    np.testing.assert_array_equal(explained.data, X[:2])
    np.testing.assert_allclose(explained.predictions, sparse.predict(csr_array(X[:2])), atol=1e-9)


def test_background_has_rows_with_weight_and_few_numbers():
    X, y = mixed_data(TabularRegressor, 300)
    weight = (X["city"] == "a").to_numpy().astype(float)
    model = TabularRegressor(**SETTINGS).fit(X, y, weight)
    numbers, codes = model.background_
    assert len(numbers) == min(100, np.count_nonzero(weight))
    assert len(np.unique(codes)) == 1
    assert len(pickle.dumps(model.background_)) < 5000


def test_saved_estimators_explain_the_same(tmp_path):
    X, y = mixed_data(TabularRegressor, 60)
    model = TabularRegressor(**SETTINGS).fit(X, y)
    save(model, tmp_path / "model.skops")
    loaded = load(tmp_path / "model.skops")
    np.testing.assert_array_equal(loaded.explain(X[:2]).values, model.explain(X[:2]).values)
    loaded.background_ = None
    with pytest.raises(ValueError, match="background must be given"):
        loaded.explain(X[:2])
    assert loaded.explain(X[:2], background=X).values.shape == (2, 3)


def test_function_explains_tabular_estimators_by_their_method():
    X, y = mixed_data(TabularClassifier, 60)
    model = TabularClassifier(**SETTINGS).fit(X, y)
    found = explain(model, X[:2], output="log_odds")
    np.testing.assert_array_equal(found.values, model.explain(X[:2], output="log_odds").values)
    regressor = TabularRegressor(**SETTINGS).fit(X, np.arange(60.0))
    found = explain(regressor, X[:2], X[10:20])
    np.testing.assert_array_equal(
        found.values, regressor.explain(X[:2], background=X[10:20]).values
    )


@BOTH
def test_errors(kind):
    X, y = mixed_data(kind, 60)
    with pytest.raises(NotFittedError):
        kind().explain(X)
    model = kind(**SETTINGS).fit(X, y)
    with pytest.raises(ValueError, match="background: "):
        model.explain(X[:1], background=X[["none", "some"]])
    with pytest.raises(ValueError, match="n_permutations == 0, must be >= 1"):
        model.explain(X[:1], n_permutations=0)


@BOTH
def test_partial_dependence_of_raw_tables_of_strings(kind):
    X, y = mixed_data(kind, 60)
    model = kind(**SETTINGS).fit(X, y)
    found = partial_dependence(model, X, ["city"], categorical_features=["city"])
    (levels,) = found["grid_values"]
    expected = [predict(model, X.assign(city=level)) for level in levels]
    expected = [each[:, 1] if kind is TabularClassifier else each for each in expected]
    np.testing.assert_allclose(found["average"][0], np.mean(expected, axis=1), rtol=1e-9)
    both = partial_dependence(
        model, X, ["none", "city"], categorical_features=["city"], grid_resolution=4
    )
    assert both["average"].shape == (1, 4, 3)
    as_array = kind(**SETTINGS).fit(X.to_numpy(dtype=object), y)
    again = partial_dependence(as_array, X.to_numpy(dtype=object), [2], categorical_features=[2])
    np.testing.assert_allclose(again["average"], found["average"], rtol=1e-9)
