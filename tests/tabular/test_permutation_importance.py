"""Is the importance of a column the loss of out-of-fold score when it is permuted?"""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_selection import SelectFromModel
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.class_weight import compute_sample_weight

from skbackprop import TabularClassifier, TabularRegressor
from support.tables import BOTH, component_inputs, growing_levels, mixed_data

SETTINGS = {"n_estimators": 3, "max_iter": 20, "blend": None, "random_state": 0}


@BOTH
def test_importances_order_columns(kind):
    X, y = mixed_data(kind, 300)
    model = kind(**SETTINGS).fit(X, y)
    found = model.permutation_importance(X, y, random_state=0)
    assert found.importances.shape == (3, 5)
    np.testing.assert_allclose(found.importances_mean, found.importances.mean(axis=1))
    np.testing.assert_allclose(found.importances_std, found.importances.std(axis=1))
    none, some, city = found.importances_mean
    assert abs(none) < 0.03
    assert city > 0.1
    assert city > some > none
    again = model.permutation_importance(X, y, random_state=0)
    np.testing.assert_array_equal(again.importances, found.importances)


@BOTH
def test_importances_are_out_of_fold(kind):
    X, y = mixed_data(kind, 60)
    other = LogisticRegression() if kind is TabularClassifier else Ridge()
    model = kind(**SETTINGS | {"max_iter": 3, "blend": ["boosting", other]}).fit(X, y)
    # The permutations of the second column, drawn as by its own seed.
    seeds = np.random.RandomState(5).randint(np.iinfo(np.int32).max, size=3)
    order = np.random.RandomState(seeds[1]).permutation(60)
    permuted = X.assign(some=X["some"].to_numpy()[order])
    predictions = []
    for row, member in enumerate(model.oof_member_):
        inputs = component_inputs(model, permuted.iloc[[row]])
        outputs = [
            each.outputs(x, single_precision=True, member=member)
            for each, x in zip(model._components, inputs, strict=True)
        ]
        predictions.append(model._mix(outputs)[0])
    found = model.permutation_importance(X, y, n_repeats=1, random_state=5)
    if kind is TabularClassifier:
        predictions = model.classes_[np.argmax(predictions, axis=1)]
        expected = model.oof_score_ - accuracy_score(y, predictions)
    else:
        expected = model.oof_score_ - r2_score(y, model._predictions(np.array(predictions)))
    assert found.importances[1, 0] == pytest.approx(expected, abs=1e-5)


def test_scoring_and_sample_weights():
    X, y = mixed_data(TabularClassifier, 300)
    model = TabularClassifier(**SETTINGS).fit(X, y)
    for scoring in ("neg_log_loss", "roc_auc"):
        found = model.permutation_importance(X, y, scoring=scoring, random_state=0)
        assert found.importances_mean[2] > 0.1
    # The third column is constant for all rows with weight.
    weight = (X["city"] == "a").to_numpy().astype(float)
    found = model.permutation_importance(X, y, weight, random_state=0).importances_mean
    assert found[1] >= 0
    balanced = compute_sample_weight("balanced", y)
    weighted = model.permutation_importance(X, y, balanced, random_state=0).importances_mean
    assert weighted[2] > weighted[0]
    y = 1.0 * (y == "yes")
    regressor = TabularRegressor(**SETTINGS | {"max_iter": 3}).fit(X, y)
    found = regressor.permutation_importance(X, y, scoring="neg_mean_absolute_error", n_repeats=2)
    assert found.importances.shape == (3, 2)


def test_scorers_get_out_of_fold_predictions_and_weights():
    X, y = growing_levels(400)
    model = TabularRegressor(**SETTINGS | {"max_iter": 2}).fit(X, y)
    assert model._features.encoding.interactions is not None
    weight, calls = np.arange(1.0, 401), []

    def scoring(estimator, X, y, sample_weight):
        np.testing.assert_array_equal(sample_weight, weight)
        calls.append(estimator.predict(X))
        return 0.0

    model.permutation_importance(X, y, weight, scoring=scoring, n_repeats=1)
    np.testing.assert_allclose(calls[0], model.oof_prediction_, rtol=0, atol=1e-4)


def test_categories_are_permuted_with_their_target_statistics():
    rng = np.random.RandomState(0)
    level = rng.randint(60, size=600)
    X = pd.DataFrame({"level": [f"l{each}" for each in level], "noise": rng.randn(600)})
    y = rng.randn(60)[level]
    model = TabularRegressor(**SETTINGS).fit(X, y)
    assert model._features.encoding.matrix_sources.tolist() == [1, 0, 0]
    found = model.permutation_importance(X, y).importances_mean
    assert found[0] > 0.8
    assert abs(found[1]) < 0.05


@BOTH
def test_feature_importances_after_permutation_importance(kind):
    X, y = mixed_data(kind, 80)
    model = kind(**SETTINGS | {"max_iter": 4}).fit(X, y)
    assert not hasattr(model, "feature_importances_")
    with pytest.raises(AttributeError, match=r"permutation_importance\(X, y\)"):
        model.feature_importances_  # noqa: B018
    found = model.permutation_importance(X, y, n_repeats=2)
    np.testing.assert_array_equal(model.feature_importances_, found.importances_mean)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(model)).feature_importances_, found.importances_mean
    )
    chosen = SelectFromModel(model, prefit=True, max_features=1, threshold=-np.inf)
    assert chosen.transform(X.to_numpy()).shape == (80, 1)
    assert not hasattr(model.fit(X, y), "feature_importances_")


@BOTH
def test_raises_on_other_rows_than_those_of_fit(kind):
    X, y = mixed_data(kind, 80)
    model = kind(**SETTINGS).fit(X, y)
    for rows, labels in ((X[::-1], y[::-1]), (X[:40], y[:40])):
        with pytest.raises(ValueError, match="80 rows that fit was given"):
            model.permutation_importance(rows, labels)
    with pytest.raises(ValueError, match="n_repeats"):
        model.permutation_importance(X, y, n_repeats=0)
    model.fit(X[:60], y[:60], X_val=X[60:], y_val=y[60:])
    with pytest.raises(ValueError, match="X_val"):
        model.permutation_importance(X, y)
