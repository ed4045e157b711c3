"""scikit-learn's inspection tools work, and agree with the gradients."""

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from sklearn.base import is_classifier
from sklearn.inspection import (
    PartialDependenceDisplay,
    partial_dependence,
    permutation_importance,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.inspection import gradient_importance
from support import BOTH, class_data, few_epochs, value_data

pytestmark = few_epochs
SETTINGS = {"hidden_layer_sizes": (16,), "learning_rate_init": 0.01, "max_iter": 100}
SETTINGS |= {"random_state": 0}


def test_permutation_importance_finds_the_only_relevant_feature():
    rng = np.random.RandomState(0)
    X = rng.randn(200, 4)
    model = BackpropRegressor(**SETTINGS).fit(X, 3 * X[:, 1] + 0.1 * rng.randn(200))
    importance = permutation_importance(model, X, 3 * X[:, 1], n_repeats=5, random_state=0)
    assert importance.importances_mean.argmax() == 1
    assert importance.importances_mean[1] > 1
    assert (np.delete(importance.importances_mean, 1) < 0.1).all()


def test_partial_dependence_rises_and_falls_with_the_feature():
    rng = np.random.RandomState(0)
    X = rng.randn(200, 3)
    model = BackpropRegressor(**SETTINGS).fit(X, 2 * X[:, 0] - X[:, 2])
    rising, falling = (
        partial_dependence(model, X, [feature], grid_resolution=10)["average"][0]
        for feature in (0, 2)
    )
    assert rising.shape == (10,)
    assert (np.diff(rising) > 0).all()
    assert (np.diff(falling) < 0).all()

    model = BackpropClassifier(**SETTINGS).fit(X, X[:, 0] > 0)
    probability = partial_dependence(model, X, [0], grid_resolution=10)["average"][0]
    assert (np.diff(probability) > 0).all()
    assert 0 < probability[0] < 0.5 < probability[-1] < 1


@BOTH
@pytest.mark.parametrize("n_estimators", [1, 3])
def test_slope_of_partial_dependence_is_mean_gradient(estimator_class, n_estimators):
    X, y = class_data(n_classes=2)
    model = estimator_class((6,), "tanh", n_estimators=n_estimators, max_iter=30, random_state=0)
    model.fit(X, y)
    at, step = 0.3, 1e-5
    values = {"custom_values": {2: np.array([at - step, at + step])}}
    settings = {"response_method": "predict_proba"} if is_classifier(model) else {}
    curve = partial_dependence(model, X, [2], method="brute", **values, **settings)["average"][0]
    rows = X.copy()
    rows[:, 2] = at
    of = {"of": "probability"} if is_classifier(model) else {}
    slope = model.input_gradient(rows, **of)[:, 2].mean()
    assert (curve[1] - curve[0]) / (2 * step) == pytest.approx(slope, rel=1e-6)


@pytest.mark.long
@BOTH
@pytest.mark.parametrize("n_estimators", [1, 3])
def test_partial_dependence_display(estimator_class, n_estimators):
    X, y = class_data(n_features=3)
    frame = pd.DataFrame(X, columns=["a", "b", "c"])
    network = estimator_class((6,), n_estimators=n_estimators, max_iter=5, random_state=0)
    model = make_pipeline(StandardScaler(), network).fit(frame, y)
    target = {"target": 2} if is_classifier(model) else {}
    display = PartialDependenceDisplay.from_estimator(
        model, frame, ["a", ("b", "c")], grid_resolution=4, ax=Figure().subplots(), **target
    )
    assert [results["average"].shape[1:] for results in display.pd_results] == [(4,), (4, 4)]
    each = PartialDependenceDisplay.from_estimator(
        model, frame, ["a"], kind="both", grid_resolution=4, ax=Figure().subplots(), **target
    )
    assert each.pd_results[0]["individual"].shape[1:] == (len(frame), 4)


@pytest.mark.long
def test_permutation_and_gradient_importance_agree():
    X, y = value_data(200, n_features=6)
    y = 3 * X[:, 1] + np.sin(X[:, 4])
    model = BackpropRegressor((16,), "tanh", solver="lbfgs", max_iter=2000, random_state=0)
    by_permutation = permutation_importance(model.fit(X, y), X, y, n_repeats=5, random_state=0)
    by_gradients = gradient_importance(model, X)
    for importance in (by_permutation.importances_mean, by_gradients):
        assert np.argsort(-importance)[:2].tolist() == [1, 4]
