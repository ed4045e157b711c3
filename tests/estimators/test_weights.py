"""Weights can be read, assigned, changed in place, and brought from another library."""

import copy

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import check_is_fitted

from skbackprop import BackpropClassifier, BackpropRegressor
from support import (
    BOTH,
    answers,
    assert_same_network,
    class_data,
    data_for,
    deep_copied,
    few_epochs,
    label_data,
    pickled,
    quick,
    safely_saved,
    same_bits,
    same_values,
    some_parameters,
    value_data,
)

pytestmark = few_epochs

N = 40
X, CLASSES = class_data(N)
WORDS = np.array(["a", "b", "c"])[CLASSES]
VALUES = value_data(N)[1]
WIDE = {"hidden_layer_sizes": (5, 4)}
KINDS = {
    "two classes": (BackpropClassifier, {}, class_data(N, n_classes=2)),
    "three words": (BackpropClassifier, {}, (X, WORDS)),
    "labels": (BackpropClassifier, {}, label_data(N)),
    "two layers": (BackpropClassifier, WIDE | {"activation": "tanh"}, (X, CLASSES)),
    "no hidden layer": (BackpropClassifier, {"hidden_layer_sizes": ()}, (X, CLASSES)),
    "one output": (BackpropRegressor, {}, (X, VALUES)),
    "two outputs": (BackpropRegressor, WIDE, value_data(N, n_outputs=2)),
    "poisson": (BackpropRegressor, {"loss": "poisson"}, (X, np.exp(VALUES))),
    "float32": (BackpropRegressor, {}, (X.astype(np.float32), VALUES)),
}
OURS_ALONE = {
    "hinge": (BackpropClassifier, {"loss": "hinge"}, (X, CLASSES)),
    "quantile": (BackpropRegressor, {"loss": "quantile"}, (X, VALUES)),
    "gaussian": (BackpropRegressor, {"loss": "gaussian"}, value_data(N, n_outputs=2)),
    "members": (BackpropClassifier, {"n_estimators": 3}, (X, WORDS)),
    "an activation each": (BackpropRegressor, {"activation": ["silu"]}, (X, VALUES)),
}
THEIRS = {BackpropClassifier: MLPClassifier, BackpropRegressor: MLPRegressor}


def from_weights_of(trained, ours, settings, y):
    """Return an estimator with the weights of another."""
    if ours is BackpropClassifier:
        is_multilabel = np.ndim(y) == 2
        settings = settings | {"classes": trained.classes_, "multilabel": is_multilabel}
    names = {"hidden_layer_sizes", "n_estimators"}  # which follow from the weights
    settings = {name: value for name, value in settings.items() if name not in names}
    return ours.from_weights(trained.coefs_, trained.intercepts_, **settings)


# ------------------------------------------------------------------------------ from_weights


@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_scikit_learn_predict_as_they_do_there(kind):
    ours, settings, (X, y) = KINDS[kind]
    trained = quick(THEIRS[ours], **settings).fit(X, y)
    model = from_weights_of(trained, ours, settings, y)
    rtol = 1e-4 if kind == "float32" else 1e-9
    for name in ("predict", "predict_proba"):
        if hasattr(trained, name):
            expected = getattr(trained, name)(X)
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(getattr(model, name)(X), expected, rtol=rtol)
            else:
                np.testing.assert_array_equal(getattr(model, name)(X), expected)
    assert model.score(X, y) == pytest.approx(trained.score(X, y), rel=rtol)
    assert model.out_activation_ == trained.out_activation_
    assert model.coefs_[0].dtype == trained.coefs_[0].dtype


@pytest.mark.parametrize("kind", [*KINDS, *OURS_ALONE])
def test_weights_of_a_fitted_network_make_an_equal_one(kind, tmp_path):
    ours, settings, (X, y) = (KINDS | OURS_ALONE)[kind]
    trained = quick(ours, **settings).fit(X, y)
    model = from_weights_of(trained, ours, settings, y)
    check_is_fitted(model)
    for each in (model, pickled(model, None), deep_copied(model, None)):
        assert same_values(answers(each, X), answers(trained, X))
    assert same_values(answers(safely_saved(model, tmp_path), X), answers(trained, X))
    for name in ("n_layers_", "n_outputs_", "n_features_in_", "n_parameters_", "out_activation_"):
        assert getattr(model, name) == getattr(trained, name)
    assert model.hidden_layer_sizes == trained.hidden_layer_sizes


@pytest.mark.parametrize("train", ["partial_fit", "fit"])
@pytest.mark.parametrize("kind", [*KINDS, *OURS_ALONE])
def test_training_continues_as_from_initial_weights(kind, train):
    ours, settings, (X, y) = (KINDS | OURS_ALONE)[kind]
    trained = quick(ours, **settings).fit(X, y)
    more = {"shuffle": False, "solver": "sgd", "warm_start": True, "max_iter": 2}
    model = from_weights_of(trained, ours, settings | more, y)
    started = quick(ours, init=(trained.coefs_, trained.intercepts_), **settings | more)
    classes = {"classes": trained.classes_} if ours is BackpropClassifier else {}
    if train == "fit":
        model.fit(X, y), started.fit(X, y)
    else:
        model.partial_fit(X, y), started.partial_fit(X, y, **classes)
    assert same_bits(model, started)


COEFS, INTERCEPTS = some_parameters(4, 5, 3)
WRONG = {
    "depth": (BackpropRegressor, (COEFS, INTERCEPTS[:1]), {}, "intercepts"),
    "vector": (BackpropRegressor, ([np.zeros(5)], [np.zeros(1)]), {}, "coefs"),
    "nothing": (BackpropRegressor, ([], []), {}, "coefs"),
    "gap": (BackpropRegressor, ([np.ones((4, 5)), np.ones((6, 3))], INTERCEPTS), {}, "shape"),
    "biases": (BackpropRegressor, (COEFS, INTERCEPTS[::-1]), {}, "shape"),
    "layers": (BackpropRegressor, (COEFS, INTERCEPTS), {"layers": "scale"}, "layers"),
    "normalization": (
        *(BackpropRegressor, (COEFS, INTERCEPTS)),
        *({"normalization": "batch"}, "normalization"),
    ),
    "four classes": (
        *(BackpropClassifier, (COEFS, INTERCEPTS)),
        *({"classes": list("abcd")}, r"need 4 output\(s\), but the last of coefs has 3"),
    ),
    "two classes": (
        *(BackpropClassifier, (COEFS, INTERCEPTS)),
        *({"classes": list("ab")}, r"need 1 output\(s\), but the last of coefs has 3"),
    ),
    "parameter": (BackpropRegressor, (COEFS, INTERCEPTS), {"alpha": -1}, "alpha"),
}


@pytest.mark.parametrize("estimator_class, weights, settings, message", WRONG.values(), ids=WRONG)
def test_inconsistent_weights_are_an_error(estimator_class, weights, settings, message):
    with pytest.raises(ValueError, match=message):
        estimator_class.from_weights(*weights, **settings)


# -------------------------------------------------------------------------- assigned weights


def assign(estimator, coefs, intercepts, how):
    """Assign weights in one of the ways that users do."""
    if how == "whole":
        estimator.coefs_, estimator.intercepts_ = coefs, intercepts
        return
    for arrays, given in ((estimator.coefs_, coefs), (estimator.intercepts_, intercepts)):
        for i, array in enumerate(given):
            if how == "by item":
                arrays[i] = array
            else:
                arrays[i][...] = array
    if how == "by slice":
        estimator.coefs_[:] = coefs


@pytest.mark.parametrize("how", ["whole", "by item", "by slice", "in place"])
@BOTH
def test_assigned_weights_are_honored(estimator_class, how):
    """By prediction, by `partial_fit` and by a warm fit: federated averaging lives on it."""
    n_outputs = 3 if estimator_class is BackpropClassifier else 1
    coefs, intercepts = some_parameters(4, 5, n_outputs, seed=9)
    X, y = data_for(estimator_class)
    settings = {"solver": "sgd", "momentum": 0.0, "shuffle": False, "max_iter": 2}
    scores = np.maximum(X @ coefs[0] + intercepts[0], 0) @ coefs[1] + intercepts[1]
    expected = scores.argmax(axis=1) if n_outputs == 3 else scores[:, 0]
    started = quick(estimator_class, init=(coefs, intercepts), **settings).fit(X, y)
    for train, n_calls in (("partial_fit", 2), ("fit", 1)):
        estimator = quick(estimator_class, warm_start=True, **settings).fit(X, y)
        assign(estimator, *copy.deepcopy((coefs, intercepts)), how)
        np.testing.assert_allclose(estimator.predict(X), expected)
        for _ in range(n_calls):
            getattr(estimator, train)(X, y)
        assert_same_network(estimator, started, rtol=1e-12)


def test_assigned_arrays_are_copied():
    model = quick(BackpropRegressor).fit(X, VALUES)
    given = [2 * array for array in model.coefs_]
    model.coefs_ = given
    expected = model.predict(X)
    given[0][...] = 0
    np.testing.assert_array_equal(model.predict(X), expected)


SHAPES = {
    "another width": some_parameters(4, 7, 1)[0],
    "another depth": some_parameters(4, 5, 5, 1)[0],
    "a layer less": some_parameters(4, 5)[0],
    "transposed": [array.T for array in some_parameters(4, 5, 1)[0]],
    "words": [np.full((4, 5), "a"), np.full((5, 1), "b")],
}


@pytest.mark.parametrize("coefs", SHAPES.values(), ids=SHAPES)
def test_assigned_weights_of_another_network_are_an_error(coefs):
    network = quick(BackpropRegressor).fit(X, VALUES)
    expected = network.predict(X)
    with pytest.raises(ValueError, match="coefs_"):
        network.coefs_ = coefs
    with pytest.raises(ValueError, match=r"coefs_\[0\]"):
        network.coefs_[0] = np.ones((3, 3))
    with pytest.raises(ValueError, match="shorter"):
        network.coefs_[:] = network.coefs_[:1]
    with pytest.raises(TypeError, match="more or fewer layers"):
        network.coefs_.append(coefs[0])
    with pytest.raises(TypeError, match="more or fewer layers"):
        del network.coefs_[0]
    np.testing.assert_array_equal(network.predict(X), expected)


@BOTH
def test_weights_of_an_unfitted_network_cannot_be_assigned(estimator_class):
    model = estimator_class()
    with pytest.raises(AttributeError, match=r"after fit.*from_weights\(coefs, intercepts\)"):
        model.coefs_ = COEFS
    assert not hasattr(model, "coefs_")
