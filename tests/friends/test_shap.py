"""SHAP explains the predictions of networks by values that add up to them.

Exact Shapley values of a linear model are known: each weight times how far the feature is from its
mean over the background rows.
"""

import warnings

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier, BackpropRegressor, TabularRegressor
from skbackprop.inspection import explain
from support import class_data, few_epochs, quick, value_data

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]


@pytest.fixture(scope="module")
def shap():
    """Import it without the warnings that it makes itself, and without a minute of compiling."""
    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as monkeypatch:
        warnings.simplefilter("ignore")
        monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # which is read once, on import
        import shap
    return shap


def test_exact_values_of_a_linear_network(shap):
    X, y = value_data(60)
    model = BackpropRegressor((), solver="lbfgs", max_iter=1000, random_state=0).fit(X, y)
    found = shap.explainers.Exact(model.predict, X[:20])(X[20:25])
    by_hand = (X[20:25] - X[:20].mean(axis=0)) * model.coefs_[0][:, 0]
    np.testing.assert_allclose(found.values, by_hand, atol=1e-9)


@pytest.mark.parametrize(
    "model",
    [
        quick(BackpropRegressor),
        make_pipeline(StandardScaler(), quick(BackpropRegressor, n_estimators=2)),
        TabularRegressor(2, max_iter=1, random_state=0),
    ],
    ids=["network", "pipeline", "tabular"],
)
def test_values_add_up_to_predictions(shap, model):
    X, y = value_data(60)
    model.fit(X, y)
    found = shap.Explainer(model.predict, X[:10])(X[20:24])
    np.testing.assert_allclose(found.base_values, model.predict(X[:10]).mean(), rtol=1e-6)
    sums = found.base_values + found.values.sum(axis=1)
    np.testing.assert_allclose(sums, model.predict(X[20:24]), rtol=1e-6)


def test_explain_returns_the_exact_values_of_shap(shap):
    X, y = class_data(60)
    model = quick(BackpropClassifier).fit(X, y)
    found = explain(model, X[20:24], X[:10])
    expected = shap.explainers.Exact(model.predict_proba, X[:10])(X[20:24])
    np.testing.assert_allclose(found.values, expected.values, atol=1e-9)
    np.testing.assert_allclose(found.base_values, expected.base_values, atol=1e-9)
    shown = shap.Explanation(found.values, found.base_values, found.data)
    assert shown[0].values.shape == expected[0].values.shape
