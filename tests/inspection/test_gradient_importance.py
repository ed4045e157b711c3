"""Gradient importance is the RMS gradient times the standard deviation."""

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.inspection import _explain, gradient_importance
from skbackprop.layers import CategoricalEmbedding
from support import BOTH, NAMES, class_data, data_for, few_epochs, quick, value_data

pytestmark = few_epochs


def test_equals_standardized_coefficients_of_a_linear_model():
    X, y = value_data(n_outputs=2)
    X = X * [1, 10, 0.1, 3] + [0, 5, -5, 100]
    model = BackpropRegressor(
        (), alpha=0, solver="lbfgs", scale_target=True, max_iter=5000, tol=1e-10, random_state=0
    )
    found = gradient_importance(model.fit(X, y), X)
    expected = np.abs(LinearRegression().fit(X, y).coef_) * X.std(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@BOTH
@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array, np.float32], ids=repr)
def test_is_rms_gradient_times_standard_deviation(estimator_class, n_estimators, container):
    X, y = data_for(estimator_class)
    X = np.where(X > 0, 3 * X, 0)
    model = quick(estimator_class, n_estimators=n_estimators).fit(X, y)
    gradient = model.input_gradient(X)
    expected = np.sqrt((gradient**2).mean(axis=0)) * X.std(axis=0)
    found = gradient_importance(model, container(X))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.shape == ((3, 4) if estimator_class is BackpropClassifier else (4,))


def test_output_probability(monkeypatch):
    X, y = class_data()
    monkeypatch.setattr(_explain, "_BLOCK_SIZE", 120)  # ten rows at once
    model = quick(BackpropClassifier).fit(X, y)
    gradient = model.input_gradient(X, "probability")
    expected = np.sqrt((gradient**2).mean(axis=0)) * X.std(axis=0)
    np.testing.assert_allclose(gradient_importance(model, X, of="probability"), expected)
    np.testing.assert_allclose(
        gradient_importance(model, X), gradient_importance(model, X, of="score")
    )


@pytest.mark.parametrize("seed", range(3))
def test_square_bounds_total_sobol_index(seed):
    """The oracle is the total Sobol' index: half the mean square change by a new draw."""
    rng = np.random.default_rng(seed)
    X, y = value_data(seed=seed)
    model = quick(BackpropRegressor, activation="tanh", learning_rate_init=0.1).fit(X, y)
    X = rng.normal(size=(20_000, 4))
    bounds, predicted = np.square(gradient_importance(model, X)), model.predict(X)
    for feature, bound in enumerate(bounds):
        other = X.copy()
        other[:, feature] = rng.normal(size=len(X))
        total = np.square(predicted - model.predict(other)).mean() / 2
        assert total < 1.05 * bound


@BOTH
def test_pipeline_equals_its_network(estimator_class):
    X, y = data_for(estimator_class)
    frame = pd.DataFrame(10 * X + 5, columns=NAMES)
    scaler = StandardScaler().set_output(transform="pandas")
    pipeline = make_pipeline(scaler, quick(estimator_class)).fit(frame, y)
    expected = gradient_importance(pipeline[-1], pipeline[:-1].transform(frame))
    np.testing.assert_allclose(gradient_importance(pipeline, frame), expected)
    alone = make_pipeline(quick(estimator_class)).fit(X, y)
    np.testing.assert_allclose(gradient_importance(alone, X), gradient_importance(alone[-1], X))


def test_is_nan_for_categorical_columns():
    X, y = class_data(60)
    X[:, 1] = np.arange(60) % 5
    model = quick(BackpropClassifier, layers=CategoricalEmbedding({1: 5}))
    expected = X.std(axis=0) * np.sqrt((model.fit(X, y).input_gradient(X) ** 2).mean(axis=0))
    expected[:, 1] = np.nan
    np.testing.assert_allclose(gradient_importance(model, X), expected)


def test_raises_on_invalid_input():
    X, y = value_data()
    with pytest.raises(NotFittedError):
        gradient_importance(BackpropRegressor(), X)
    with pytest.raises(NotFittedError):
        gradient_importance(make_pipeline(StandardScaler(), BackpropRegressor()), X)
    model = quick(BackpropRegressor).fit(X, y)
    with pytest.raises(ValueError, match="of must be None for a regressor, got 'score'"):
        gradient_importance(model, X, of="score")
    with pytest.raises(ValueError, match="3 features"):
        gradient_importance(model, X[:, :3])
    classifier = quick(BackpropClassifier).fit(X, y > 0)
    with pytest.raises(ValueError, match='of must be "score" or "probability", got 1'):
        gradient_importance(classifier, X, of=1)
