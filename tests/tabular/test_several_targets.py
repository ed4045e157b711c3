"""Does a tabular regressor of several targets treat each as a regressor of its own would?"""

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score

from skbackprop import TabularRegressor
from skbackprop.losses import Quantile
from skbackprop.tabular import TableEncoder
from skbackprop.tabular._table_encoding import FittedEncoding
from support.tables import columns_of, component_inputs, growing_levels

SMALL = {"n_estimators": 2, "max_iter": 3, "blend": None, "random_state": 0}


def two_targets(n, seed=0):
    """Return a table and two targets, each of which depends on a number and a level of its own."""
    rng = np.random.RandomState(seed)
    X = pd.DataFrame({"a": rng.uniform(-2, 2, n), "b": rng.uniform(-2, 2, n)})
    X["shop"] = [f"s{level}" for level in rng.randint(40, size=n)]
    noise = rng.randn(n, 2) * [0.2, 0.4]
    return X, np.column_stack([np.sin(2 * X["a"]), 100 + np.abs(X["b"])]) + noise


@pytest.mark.parametrize("loss", ["squared_error", "gaussian", Quantile([0.1, 0.9])], ids=str)
def test_results_have_the_shape_of_y(loss):
    X, Y = two_targets(100)
    frame = pd.DataFrame(Y, columns=["first", "second"])
    model = TabularRegressor(**SMALL, loss=loss).fit(X, frame)
    shape = (100, 2, 2) if isinstance(loss, Quantile) else (100, 2)
    predictions = model.predict(X)
    assert predictions.shape == model.oof_prediction_.shape == shape
    assert [each.shape for each in model.predict(X, return_std=True)] == [shape, shape]
    assert model.predict_interval(X).shape == (100, 2, 2)
    assert model.weights_.shape == (1, 2)
    explanation = model.explain(X[:3], n_permutations=2)
    assert explanation.values.shape == (3, 3, *shape[1:])
    np.testing.assert_allclose(explanation.predictions, predictions[:3], rtol=1e-6)
    assert model.permutation_importance(X, frame, n_repeats=2).importances.shape == (3, 2)
    assert np.isfinite(model.score(X, frame))
    with pytest.raises(ValueError, match=r"y must have 2 column\(s\)"):
        model.score(X, Y[:, 0])
    with pytest.warns(DataConversionWarning, match="column-vector"):
        model.fit(X, Y[:, :1])
    np.testing.assert_array_equal(model.predict(X), clone(model).fit(X, Y[:, 0]).predict(X))


def test_each_target_is_learned_and_its_intervals_cover_it():
    X, Y = two_targets(3000)
    model = TabularRegressor(4, max_iter=60, blend="boosting", random_state=0)
    model.fit(X[:900], Y[:900])
    new, scores = (X[900:], Y[900:]), []
    for target in range(2):
        alone = clone(model).fit(X[:900], Y[:900, target])
        scores.append(alone.score(new[0], new[1][:, target]))
        error = np.square(model.predict(new[0])[:, target] - new[1][:, target]).mean()
        assert error < 1.1 * np.square(alone.predict(new[0]) - new[1][:, target]).mean()
    assert model.score(*new) == pytest.approx(np.mean(scores), abs=0.03)
    low, high = np.moveaxis(model.predict_interval(new[0]), 2, 0)
    is_inside = (low <= new[1]) & (new[1] <= high)
    np.testing.assert_allclose(is_inside.mean(axis=0), 0.9, atol=0.03)


@pytest.mark.parametrize("blend", [None, "boosting"])
def test_units_and_order_of_targets_do_not_matter(blend):
    X, Y = two_targets(300)
    model = TabularRegressor(2, max_iter=20, blend=blend, random_state=0).fit(X, Y)
    scaled = clone(model).fit(X, Y * [1, 1 << 20])
    np.testing.assert_allclose(scaled.predict(X), model.predict(X) * [1, 1 << 20], rtol=1e-4)
    assert scaled.oof_score_ == pytest.approx(model.oof_score_, abs=1e-4)
    swapped = clone(model).fit(X, Y[:, ::-1])
    difference = swapped.predict(X)[:, ::-1] - model.predict(X)
    assert (np.sqrt(np.square(difference).mean(axis=0)) < 0.25 * Y.std(axis=0)).all()


def test_each_target_has_its_own_statistics_and_interactions():
    X, y = growing_levels(600)
    Y = np.column_stack([y, np.random.RandomState(0).randn(600), 1e3 * y])
    settings = TableEncoder(max_categories=5, target_type="continuous", random_state=0)
    encodings = [
        FittedEncoding.fit(columns_of(X), y, settings, with_interactions=True)[0]
        for y in (Y, Y[:, 0], Y[:, 1])
    ]
    together, *alone = (encoding.categories.statistics.tables for encoding in encodings)
    np.testing.assert_array_equal(together[:2], [tables[0] for tables in alone])
    interactions, *alone = (encoding.interactions for encoding in encodings)
    first, last = interactions.coefficients
    np.testing.assert_array_equal(first, alone[0].coefficients[0])
    np.testing.assert_allclose(last, 1e3 * first, rtol=1e-9)
    assert alone[1] is None


# ----------------------------------------------------------------------- gaps and weights


def with_gaps(n=150):
    """Return a table, two targets with NaN, and which of them are measured."""
    X, Y = two_targets(n)
    is_measured = np.random.RandomState(1).rand(n, 2) < 0.7
    is_measured[~is_measured.any(axis=1), 1] = True
    return X, np.where(is_measured, Y, np.nan), is_measured


def test_a_target_that_was_not_measured_is_a_row_left_out():
    X, Y, is_measured = with_gaps()
    model = TabularRegressor(**SMALL | {"blend": [Ridge()]}).fit(X, Y)
    folds, encoded = model.oof_member_, component_inputs(model, X)[1].astype(float)
    scores, (clones,) = [], model.blended_
    for target, rows in enumerate(is_measured.T):
        y = Y[:, target]
        for fold in range(2):
            own = Ridge().fit(encoded[rows & (folds != fold)], y[rows & (folds != fold)])
            np.testing.assert_allclose(clones[2 * fold + target].coef_, own.coef_, rtol=1e-9)
            assert len(model._scores[target][fold]) == np.sum(rows & (folds == fold))
        scores.append(r2_score(y[rows], model.oof_prediction_[rows, target]))
        assert model.predict(X)[:, target].max() <= y[rows].max()
    assert model.oof_score_ == pytest.approx(np.mean(scores))
    assert model.permutation_importance(X, Y).importances_mean.max() > 0
    with pytest.raises(ValueError, match="scoring='r2' has no weights for each target"):
        model.permutation_importance(X, Y, scoring="r2")


@pytest.mark.parametrize("loss", ["squared_error", "gaussian", "absolute_error"])
@pytest.mark.parametrize(
    "fit_params", [{}, {"groups": np.arange(150) // 3}], ids=["rows", "groups"]
)
def test_nothing_depends_on_values_that_were_not_measured(loss, fit_params):
    """Zeros among weights of two dimensions are gaps as well."""
    X, Y, is_measured = with_gaps()
    model = TabularRegressor(**SMALL, loss=loss).fit(X, Y, **fit_params)
    filled = np.where(is_measured, Y, np.nanmedian(Y, axis=0))
    weighted = clone(model).fit(X, filled, is_measured.astype(float), **fit_params)
    for method in ("predict", "predict_interval"):
        found, expected = getattr(weighted, method)(X), getattr(model, method)(X)
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    for y, weight in ((Y, None), (filled, is_measured.astype(float))):
        assert model.score(X, y, weight) == pytest.approx(weighted.score(X, Y), rel=1e-6)


@pytest.mark.parametrize("n_targets", [3, 70])
def test_two_rows_of_a_rare_target_are_in_two_folds(n_targets):
    X, Y = np.random.RandomState(0).randn(301, 2), np.ones((301, n_targets))
    Y[2:, -2], Y[0, -1] = np.nan, np.nan
    model = TabularRegressor(2, max_iter=1, blend=None, random_state=0).fit(X, Y)
    assert set(model.oof_member_[:2]) == {0, 1}


def test_raises_on_rows_and_targets_without_values():
    X, Y, is_measured = with_gaps()
    model = TabularRegressor(**SMALL)
    empty_row, empty_column, single = (np.where(is_measured, Y, 0.0) for _ in range(3))
    empty_row[7], empty_column[:, 1], single[1:, 1] = np.nan, np.nan, np.nan
    for y, error in (
        (empty_row, "row 7 has no target"),
        (empty_column, "^Column 1 of y has no value"),
        (single, "At least 2 rows with a positive weight are needed for each target.*got 1"),
    ):
        with pytest.raises(ValueError, match=error):
            model.fit(X, y)
    groups = np.arange(150) // 50
    in_two_groups = np.where(groups[:, None] == np.arange(3), np.nan, 1.0)  # for two folds
    with pytest.raises(ValueError, match="Held-out rows must leave .* larger n_estimators"):
        model.fit(X, in_two_groups, groups=groups)
    with pytest.raises(ValueError, match=r"sample_weight.shape == \(150, 3\)"):
        model.fit(X, Y, np.ones((150, 3)))
    with pytest.raises(ValueError, match="X_val, y_val: Column 1 of y has no value"):
        model.fit(X, Y, X_val=X, y_val=empty_column)
    score = model.fit(X, Y).score(X, empty_column)
    assert score == pytest.approx(r2_score(empty_column[:, 0], model.predict(X)[:, 0]))
