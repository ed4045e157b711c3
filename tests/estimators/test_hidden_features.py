"""Hidden features are what a forward pass by hand makes of X."""

import numpy as np
import pytest
from scipy import sparse
from scipy.special import expit

from skbackprop import BackpropClassifier, BackpropRegressor
from support import BOTH, N, data_for, few_epochs, networks_of, pairs, quick

pytestmark = few_epochs

WIDTHS = (6, 3)
# Written out once more, so that the oracle shares nothing with the package.
FUNCTIONS = {"tanh": np.tanh, "relu": lambda z: np.maximum(z, 0), "logistic": expit}


def by_hand(model, X, layer, activation):
    """Return the outputs of a hidden layer of one network, as the formulas have it."""
    a = np.asarray(X)
    for i in range(layer + 1):
        z = a @ model.coefs_[i]
        if model.normalization == "batch":
            mean, variance = model.running_means_[i], model.running_variances_[i]
        else:
            mean, variance = z.mean(axis=1, keepdims=True), z.var(axis=1, keepdims=True)
        if model.normalization is not None:
            z = model.gains_[i] * (z - mean) / np.sqrt(variance + 1e-5)
        a = FUNCTIONS[activation](z + model.intercepts_[i])
    return a


@pytest.mark.parametrize(
    "estimator_class, normalization, activation, n_estimators, dtype, layer, is_sparse",
    pairs(
        [BackpropClassifier, BackpropRegressor],
        [None, "batch", "layer"],
        list(FUNCTIONS),
        [1, 3],
        ["float64", "float32"],
        [0, 1, -1, -2],
        [False, True],
    ),
)
def test_hidden_features_equal_a_forward_pass_by_hand(
    estimator_class, normalization, activation, n_estimators, dtype, layer, is_sparse
):
    X, y = data_for(estimator_class)
    X = np.where(np.arange(X.size).reshape(X.shape) % 3, X, 0)
    model = quick(
        estimator_class,
        hidden_layer_sizes=WIDTHS,
        activation=activation,
        normalization=normalization,
        n_estimators=n_estimators,
        dtype=dtype,
        dropout=0.3,
    )
    model.fit(X, y)
    features = model.hidden_features(sparse.csr_array(X) if is_sparse else X, layer)
    place = layer % len(WIDTHS)
    expected = np.hstack([by_hand(one, X, place, activation) for one in networks_of(model)])
    assert features.shape == (N, n_estimators * WIDTHS[place])
    assert features.dtype == dtype
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    np.testing.assert_allclose(features, expected, rtol=tolerance, atol=tolerance)


@BOTH
def test_the_last_layer_is_the_default_and_leads_to_the_scores(estimator_class):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, hidden_layer_sizes=WIDTHS).fit(X, y)
    features = model.hidden_features(X)
    assert np.array_equal(features, model.hidden_features(X, 1))
    scores = features @ model.coefs_[-1] + model.intercepts_[-1]
    if estimator_class is BackpropRegressor:
        np.testing.assert_allclose(scores[:, 0], model.predict(X))
    else:
        np.testing.assert_allclose(scores, model.decision_function(X))


@BOTH
@pytest.mark.parametrize("layer", [2, -3, 0.0, "last", None, True])
def test_missing_layer_is_named(estimator_class, layer):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, hidden_layer_sizes=WIDTHS).fit(X, y)
    message = rf"layer must be an int from -2 to 1 for .* 2 hidden layer\(s\), got {layer!r}\."
    with pytest.raises(ValueError, match=message):
        model.hidden_features(X, layer)


@BOTH
def test_a_network_without_hidden_layers_says_so(estimator_class):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, hidden_layer_sizes=()).fit(X, y)
    with pytest.raises(ValueError, match="no hidden layers.*hidden_layer_sizes"):
        model.hidden_features(X)
