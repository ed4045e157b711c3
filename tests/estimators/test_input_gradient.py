"""The gradient by the input is what central differences say, of all that a network can be."""

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.activations import ACTIVATIONS
from skbackprop.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES, Quantile
from skbackprop.nn import prediction
from support import (
    BOTH,
    class_data,
    data_for,
    few_epochs,
    label_data,
    pairs,
    peak_of,
    quick,
    value_data,
)

pytestmark = few_epochs

STEP = 1e-5
MEMBERS = pytest.mark.parametrize("n_estimators", [1, 3])
SPARSE = pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])


def rough(estimator_class, **settings):
    """Return a small network whose weights are of the order of one, so that curves are curved."""
    return quick(
        estimator_class,
        **{"hidden_layer_sizes": (6, 5), "learning_rate_init": 0.1, "activation": "tanh"}
        | settings,
    )


def differences(function, X):
    """Return central differences of a function of rows, with the features as a last axis."""
    by_feature = []
    for step in STEP * np.eye(X.shape[1]):
        above, below = np.asarray(function(X + step)), np.asarray(function(X - step))
        by_feature.append((above - below) / (2 * STEP))
    return np.stack(by_feature, axis=-1)


def assert_is_derivative(gradient, function, X):
    expected = differences(function, X)
    assert gradient.shape == expected.shape
    assert np.abs(expected).max() > 1e-3  # there is something to be told
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())


def probabilities(model):
    """Return a function: the probability of each class, of two that of the second."""
    if len(model.classes_) == 2 and model.n_outputs_ == 1:
        return lambda X: model.predict_proba(X)[:, 1]
    return model.predict_proba


# ----------------------------------------------------------- activations and normalization


@pytest.mark.parametrize(
    "estimator_class, n_estimators, normalization, is_sparse, activation",
    pairs(
        [BackpropClassifier, BackpropRegressor],
        *([1, 3], [None, "batch", "layer"], [False, True], [*ACTIVATIONS]),
    ),
)
def test_through_every_activation(
    estimator_class, n_estimators, normalization, is_sparse, activation
):
    X, y = data_for(estimator_class)
    settings = {"normalization": normalization, "n_estimators": n_estimators, "dropout": 0.2}
    model = rough(estimator_class, activation=activation, **settings).fit(X, y)
    gradient = model.input_gradient(sparse.csr_array(X) if is_sparse else X)
    is_regressor = estimator_class is BackpropRegressor
    assert_is_derivative(gradient, model.predict if is_regressor else model.decision_function, X)


def test_equals_a_case_computed_by_hand():
    """Of y = 3 tanh(x_1 + 2 x_2), the derivatives are 3 (1 - tanh^2) times 1 and 2."""
    coefs = [np.array([[1.0], [2.0]]), np.array([[3.0]])]
    model = BackpropRegressor.from_weights(coefs, [np.zeros(1)] * 2, activation="tanh")
    gradient = model.input_gradient(np.array([[0.0, 0.0], [1.0, -0.5], [1.0, 0.0]]))
    slope = 3 * (1 - np.tanh(1) ** 2)
    np.testing.assert_allclose(gradient, [[3, 6], [3, 6], [slope, 2 * slope]])


# ------------------------------------------------------------------------------- classifiers

LABELS = {
    "two classes": class_data(n_classes=2),
    "three classes": class_data(n_classes=3),
    "three labels": label_data(n_labels=3),
}


@pytest.mark.parametrize(
    "labels, loss, of, n_estimators",
    [
        row
        for row in pairs([*LABELS], [*CLASSIFIER_LOSSES], ["score", "probability"], [1, 3])
        if row[2] == "score" or CLASSIFIER_LOSSES[row[1]].supports_predict_proba
    ],
)
def test_gradients_of_scores_and_probabilities(labels, loss, of, n_estimators):
    X, y = LABELS[labels]
    model = rough(BackpropClassifier, loss=loss, n_estimators=n_estimators).fit(X, y)
    function = model.decision_function if of == "score" else probabilities(model)
    assert_is_derivative(model.input_gradient(X, of), function, X)


def test_the_probability_of_an_only_class_does_not_change():
    X, _ = class_data()
    model = rough(BackpropClassifier).fit(X, np.ones(len(X)))
    assert not model.input_gradient(X, "probability").any()
    assert_is_derivative(model.input_gradient(X), model.decision_function, X)


def test_scores_of_members_that_are_sure_have_a_gradient_too():
    """Their probabilities round to one, and so does the mean of these."""
    X, y = class_data(n_classes=2)
    model = rough(BackpropClassifier, n_estimators=2, hidden_layer_sizes=()).fit(X, y)
    model.coefs_ = [1e3 * weights for weights in model.coefs_]
    gradient = model.input_gradient(X)
    assert np.isfinite(gradient).all()
    steepest = np.abs(model.coefs_[0]).max()
    assert steepest / 10 < np.abs(gradient).max() <= steepest


# ------------------------------------------------------------------------------- regressors


@pytest.mark.parametrize("loss", [*REGRESSOR_LOSSES.values(), Quantile([0.1, 0.5, 0.9])], ids=repr)
@pytest.mark.parametrize("n_targets", [1, 2])
@pytest.mark.parametrize("scale_target", [False, True])
@MEMBERS
def test_of_predictions_in_units_of_y(loss, n_targets, scale_target, n_estimators):
    X, y = value_data(n_outputs=n_targets)
    y = np.exp(y) if loss.interval_y_true.low == 0 else 100 * y
    settings = {"loss": loss, "scale_target": scale_target, "n_estimators": n_estimators}
    model = rough(BackpropRegressor, **settings).fit(X, y)
    assert_is_derivative(model.input_gradient(X), model.predict, X)


# ---------------------------------------------------------------------------- how it is done


@BOTH
@MEMBERS
@SPARSE
def test_single_precision_agrees_with_double(estimator_class, n_estimators, is_sparse):
    X, y = data_for(estimator_class)
    model = rough(estimator_class, n_estimators=n_estimators, normalization="layer").fit(X, y)
    expected = model.input_gradient(X)
    single = clone(model).set_params(dtype="float32").fit(X, y)
    for name in ("coefs_", "intercepts_", "gains_"):
        setattr(single, name, getattr(model, name))
    gradient = single.input_gradient(sparse.csr_array(X) if is_sparse else X)
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-4)


def test_memory_is_bounded(monkeypatch):
    """Beyond the result, it takes what a block of rows does, however many there are."""
    monkeypatch.setattr(prediction, "_BLOCK_VALUES", 1 << 14)
    X, y = value_data(500)
    model = quick(BackpropRegressor, hidden_layer_sizes=(100,)).fit(X, y)
    model.input_gradient(X)
    few, many = (peak_of(model.input_gradient, np.tile(X, (n, 1))) for n in (2, 20))
    assert many - few < 4 * 18 * X.nbytes


# ----------------------------------------------------------------------------------- errors


@pytest.mark.parametrize("of", ["predict", "logit", None, 1])
def test_invalid_target_of_the_gradient_is_named(of):
    X, y = class_data()
    model = quick(BackpropClassifier).fit(X, y)
    with pytest.raises(ValueError, match=f'of must be "score" or "probability", got {of!r}'):
        model.input_gradient(X, of)


def test_a_loss_without_probabilities_says_so():
    X, y = class_data()
    model = quick(BackpropClassifier, loss="hinge").fit(X, y)
    with pytest.raises(ValueError, match='of must be "score" for this loss: loss='):
        model.input_gradient(X, "probability")


@BOTH
def test_input_is_checked_as_that_of_predict(estimator_class):
    X, y = data_for(estimator_class)
    model = quick(estimator_class)
    with pytest.raises(NotFittedError):
        model.input_gradient(X)
    model.fit(X, y)
    with pytest.raises(ValueError, match=r"3 features, but .* 4 features"):
        model.input_gradient(X[:, :3])
    with pytest.raises(ValueError, match="NaN"):
        model.input_gradient(np.full_like(X, np.nan))
    model.coefs_ = [1e200 * weights for weights in model.coefs_]
    with pytest.raises(ValueError, match="not finite"):
        model.input_gradient(X)
