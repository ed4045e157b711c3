"""scikit-learn's inspection tools work, and agree with the gradients."""

import numpy as np
import pytest
from sklearn.base import is_classifier
from sklearn.inspection import partial_dependence, permutation_importance

from skbackprop import BackpropRegressor
from skbackprop.inspection import gradient_importance
from support import BOTH, class_data, few_epochs, value_data

pytestmark = few_epochs


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


def test_permutation_and_gradient_importance_agree():
    X, y = value_data(200, n_features=6)
    y = 3 * X[:, 1] + np.sin(X[:, 4])
    model = BackpropRegressor((16,), "tanh", solver="lbfgs", max_iter=2000, random_state=0)
    by_permutation = permutation_importance(model.fit(X, y), X, y, n_repeats=5, random_state=0)
    by_gradients = gradient_importance(model, X)
    for importance in (by_permutation.importances_mean, by_gradients):
        assert np.argsort(-importance)[:2].tolist() == [1, 4]
