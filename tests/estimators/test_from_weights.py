"""Can a network be put together from weights, without `fit`, as public code does?

Such code sets `coefs_`, `intercepts_` and what else scikit-learn's networks need to predict. A
network that was put together says what the one says that the weights are from, as scikit-learn's
does, and it can be trained on.
"""

import copy

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.neural_network._base import ACTIVATIONS
from sklearn.utils.validation import check_is_fitted

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor, EarlyStopping
from skbackprop.layers import PeriodicEmbedding
from skbackprop.losses.links import OUTPUT_ACTIVATIONS
from support import (
    BOTH,
    answers,
    assert_same_network,
    class_data,
    classes_for,
    data_for,
    deep_copied,
    few_epochs,
    label_data,
    pickled,
    quick,
    safely_saved,
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
OF_OURS = {
    "hinge": (BackpropClassifier, {"loss": "hinge"}, (X, CLASSES)),
    "quantile": (BackpropRegressor, {"loss": "quantile"}, (X, VALUES)),
    "members": (BackpropClassifier, {"n_estimators": 3}, (X, CLASSES)),
    "layers normalized": (BackpropClassifier, {"normalization": "layer"}, (X, CLASSES)),
    "batches normalized": (BackpropRegressor, {"normalization": "batch"}, (X, VALUES)),
    "input scaled": (BackpropRegressor, {"layers": "scale", "n_estimators": 2}, (X, VALUES)),
    "waves": (BackpropRegressor, {"layers": PeriodicEmbedding(2)}, (X, VALUES)),
    "scaled": (BackpropRegressor, {"scale_target": True}, (X, VALUES)),
    "an activation each": (BackpropRegressor, {"activation": ["silu"]}, (X, VALUES)),
    "autoencoder": (BackpropAutoencoder, {"hidden_layer_sizes": (6, 5)}, (X, None)),
    "flat autoencoder": (BackpropAutoencoder, {"hidden_layer_sizes": ()}, (X, None)),
}
THEIRS = {BackpropClassifier: MLPClassifier, BackpropRegressor: MLPRegressor}
WEIGHTS = ["coefs_", "intercepts_"]
SHAPES = ["n_layers_", "n_outputs_", "out_activation_"]
OF_OURS_ALONE = [
    *("n_parameters_", "gains_", "running_means_", "running_variances_", "scales_"),
    *("frequencies_", "maps_", "offset_", "target_mean_", "target_scale_"),
]


def assembled(estimator, source, *names):
    """Return the estimator with copies of attributes of another, as far as that has them."""
    for name in names:
        if hasattr(source, name):
            setattr(estimator, name, copy.deepcopy(getattr(source, name)))
    return estimator


def assert_same_answers(actual, expected, X, rtol=1e-6):
    for found, reference in zip(answers(actual, X), answers(expected, X), strict=True):
        assert type(found) is type(reference)
        for part, own in zip(found, reference, strict=True):
            if np.asarray(own).dtype.kind in "OU":
                np.testing.assert_array_equal(part, own)
            else:
                np.testing.assert_allclose(part, own, rtol=rtol, atol=1e-12)


# --------------------------------------------------------------------------- predictions


@pytest.mark.parametrize("labels", ["_label_binarizer", "classes_"])
@pytest.mark.parametrize("kind", KINDS)
def test_weights_of_scikit_learn_predict_as_they_do_there(kind, labels):
    """Where its binarizer is set, it says what the labels are, as in scikit-learn."""
    ours, settings, (X, y) = KINDS[kind]
    trained = quick(THEIRS[ours], **settings).fit(X, y)
    found = assembled(ours(**settings), trained, *WEIGHTS, *SHAPES, labels)
    theirs = assembled(THEIRS[ours](**settings), trained, *WEIGHTS, *SHAPES, "_label_binarizer")
    assert_says_what_scikit_learn_does(found, theirs, X, rtol=1e-5)
    assert found.score(X, y) == pytest.approx(trained.score(X, y), rel=1e-5)


@pytest.mark.parametrize("kind", [*KINDS, *OF_OURS])
def test_assembled_network_predicts_as_the_trained_one(kind):
    ours, settings, (X, y) = (KINDS | OF_OURS)[kind]
    trained = quick(ours, **settings).fit(X, y)
    names = [*WEIGHTS, "classes_", "out_activation_", *OF_OURS_ALONE]
    found = assembled(ours(**trained.get_params(deep=False)), trained, *names)
    check_is_fitted(found)
    for model in (found, pickled(found, None), deep_copied(found, None)):
        assert_same_answers(model, trained, X, rtol=0)
    for name in (*SHAPES, "n_features_in_"):
        assert getattr(found, name) == getattr(trained, name)
    assert vars(found).keys() - found.get_params() <= set(names)  # to predict writes nothing


@BOTH
def test_hidden_layers_are_those_of_the_weights(estimator_class):
    """As in scikit-learn, whatever `hidden_layer_sizes` says."""
    X, y = data_for(estimator_class)
    trained = quick(estimator_class, hidden_layer_sizes=(6, 3)).fit(X, y)
    found = assembled(estimator_class(), trained, *WEIGHTS)
    assert_same_answers(found, trained, X, rtol=0)
    with pytest.raises(ValueError, match=r"hidden_layer_sizes was \(6, 3\)"):
        found.partial_fit(X, y, **classes_for(estimator_class))


@pytest.mark.parametrize("n_outputs, expected", [(1, {0, 1}), (3, {0, 1, 2})])
def test_unnamed_classes_are_numbers(n_outputs, expected):
    found = BackpropClassifier()
    found.coefs_, found.intercepts_ = some_parameters(4, 5, n_outputs)
    assert set(found.predict(X)) <= expected
    assert set(found.classes_) == expected
    assert found.predict_proba(X).shape == (N, len(expected))


def test_other_weights_may_follow():
    """One estimator may try many networks: nothing of the last one is left."""
    found = BackpropRegressor()
    for widths in [(4, 5, 1), (4, 2, 3, 2), (3, 1)]:
        found.coefs_, found.intercepts_ = some_parameters(*widths)
        assert found.predict(X[:, : widths[0]]).shape == ((N,) if widths[-1] == 1 else (N, 2))
        assert (found.n_features_in_, found.n_layers_) == (widths[0], len(widths))


# ------------------------------------------------------------- another output activation

THEIR_ACTIVATIONS = pytest.mark.parametrize("name", sorted(ACTIVATIONS))


def said_by(model, X):
    """Return what scikit-learn's networks have methods for."""
    names = ("predict", "predict_proba", "predict_log_proba")
    return [getattr(model, name)(X) for name in names if hasattr(model, name)]


def assert_says_what_scikit_learn_does(ours, theirs, X, rtol=1e-6):
    with np.errstate(all="ignore"):
        pairs = list(zip(said_by(ours, X), said_by(theirs, X), strict=True))
    for found, expected in pairs:
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-9)
        else:
            np.testing.assert_array_equal(found, expected)


def test_the_activations_are_those_of_scikit_learn():
    assert set(OUTPUT_ACTIVATIONS) == set(ACTIVATIONS)


@THEIR_ACTIVATIONS
@pytest.mark.parametrize("how", ["fitted", "put together", "copied", "pickled", "saved"])
@pytest.mark.parametrize("kind", KINDS)
def test_an_output_activation_that_is_set_is_applied(kind, how, name, tmp_path):
    """`out_activation_` after `fit`, or beside weights, is what scikit-learn predicts by."""
    ours, settings, (X, y) = KINDS[kind]
    theirs = quick(THEIRS[ours], **settings).fit(X, y)
    found = assembled(ours(**settings), theirs, *WEIGHTS, *SHAPES, "_label_binarizer")
    if how != "put together":
        found = quick(ours, **settings).fit(X, y)
        assembled(found, theirs, *WEIGHTS)
    for model in (found, theirs):
        model.out_activation_ = name
    copies = {"copied": deep_copied, "pickled": pickled, "saved": safely_saved}
    found = copies[how](found, tmp_path) if how in copies else found
    assert found.out_activation_ == name
    rtol = 1e-3 if kind == "float32" else 1e-5
    assert_says_what_scikit_learn_does(found, theirs, X, rtol)
    assert found.score(X, y) == pytest.approx(theirs.score(X, y), rel=1e-4, abs=1e-6)


@THEIR_ACTIVATIONS
@pytest.mark.parametrize("kind", KINDS)
def test_training_goes_on_with_an_output_activation_that_was_set(kind, name):
    """With scikit-learn's gradient, prediction minus target, and its loss."""
    ours, settings, (X, y) = KINDS[kind]
    settings = settings | {"solver": "sgd", "momentum": 0.0, "shuffle": False}
    found, expected = (quick(each, warm_start=True, **settings) for each in (ours, THEIRS[ours]))
    rtol = 1e-3 if kind == "float32" else 1e-6
    for model in (found, expected):
        model.fit(X, y)
        model.out_activation_ = name
    for train in ("partial_fit", "fit"):
        with np.errstate(all="ignore"):
            getattr(expected, train)(X, y)
        if not np.isfinite(expected.loss_):  # a Poisson loss of negative means, say
            with pytest.raises(ValueError, match="diverged"):
                getattr(found, train)(X, y)
            return
        getattr(found, train)(X, y)
        assert found.out_activation_ == name
        assert found.loss_ == pytest.approx(expected.loss_, rel=rtol)
        assert_same_network(found, expected, rtol=rtol, atol=rtol)
        assert_says_what_scikit_learn_does(found, expected, X, rtol)


@THEIR_ACTIVATIONS
@pytest.mark.parametrize("kind", KINDS)
def test_setting_the_activation_of_the_loss_restores_it(kind, name):
    ours, settings, (X, y) = KINDS[kind]
    model, twin = (quick(ours, **settings).fit(X, y) for _ in range(2))
    own, before = model.out_activation_, answers(twin, X)
    model.out_activation_ = name
    model.out_activation_ = own
    np.testing.assert_equal(answers(model, X), before)
    assert_same_network(model.partial_fit(X, y), twin.partial_fit(X, y), rtol=0, atol=0)
    model.out_activation_ = name
    assert model.fit(X, y).out_activation_ == own  # a fit that begins anew


@THEIR_ACTIVATIONS
@BOTH
def test_members_predict_by_the_mean_of_their_activations(estimator_class, name):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, n_estimators=3).fit(X, y)
    model.out_activation_ = name
    method = "predict_proba" if estimator_class is BackpropClassifier else "predict"
    each = [getattr(member, method)(X) for member in model.estimators_]
    np.testing.assert_allclose(getattr(model, method)(X), np.mean(each, axis=0), rtol=1e-9)


@THEIR_ACTIVATIONS
@pytest.mark.parametrize("n_estimators", [1, 2])
def test_gradients_are_those_of_the_activation(name, n_estimators):
    X, y = value_data(N, n_outputs=2)
    model = quick(BackpropRegressor, activation="tanh", n_estimators=n_estimators).fit(X, y)
    model.out_activation_ = name
    step = 1e-6
    for feature, move in enumerate(step * np.eye(X.shape[1])):
        slope = (model.predict(X + move) - model.predict(X - move)) / (2 * step)
        found = model.input_gradient(X)[..., feature]
        np.testing.assert_allclose(found, slope, rtol=1e-5, atol=1e-7)


@THEIR_ACTIVATIONS
@pytest.mark.parametrize("kind", ["two classes", "three words", "labels", "one output"])
def test_early_stopping_goes_by_the_score_under_the_activation(kind, name):
    ours, settings, (X, y) = KINDS[kind]
    model = quick(ours, early_stopping=True, **settings).fit(X, y)
    model.out_activation_ = name
    model.partial_fit(X, y, X_val=X, y_val=y)
    assert model.validation_scores_[-1] == pytest.approx(model.score(X, y))


UNFIT = {
    "no name": (BackpropRegressor, {}, "sigmoid", "must be one of .*, got 'sigmoid'"),
    "no string": (BackpropClassifier, {}, None, "must be one of .*, got None"),
    "loss": (BackpropRegressor, {"loss": "huber"}, "tanh", "'identity' for the loss Huber"),
    "smoothing": (
        BackpropClassifier,
        {"label_smoothing": 0.1},
        "tanh",
        "must be 'softmax' for the loss",
    ),
    "hinge": (BackpropClassifier, {"loss": "hinge"}, "logistic", "'identity' for the loss Hinge"),
}


@pytest.mark.parametrize("case", UNFIT)
def test_an_activation_that_cannot_be_set_is_an_error_and_changes_nothing(case):
    estimator_class, settings, name, said = UNFIT[case]
    X, y = data_for(estimator_class)
    model = quick(estimator_class, **settings).fit(X, y)
    own, before = model.out_activation_, model.predict(X)
    with pytest.raises(ValueError, match=said):
        model.out_activation_ = name
    assert model.out_activation_ == own
    np.testing.assert_array_equal(model.predict(X), before)


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"solver": "lbfgs"}, "'lbfgs' cannot minimize"),
        ({"early_stopping": EarlyStopping(calibrate=True)}, "calibrate=True has no temperature"),
    ],
)
def test_training_that_cannot_use_a_set_activation_is_an_error(changes, said):
    model = quick(BackpropClassifier, warm_start=True, **changes).fit(X, CLASSES)
    model.out_activation_ = "tanh"
    weights = copy.deepcopy(model.coefs_)
    with pytest.raises(ValueError, match=f"out_activation_ was set to 'tanh', but .*{said}"):
        model.fit(X, CLASSES)
    np.testing.assert_array_equal(model.coefs_[0], weights[0])
    model.out_activation_ = "softmax"
    model.fit(X, CLASSES)


@BOTH
def test_a_hidden_activation_in_other_words_is_no_change(estimator_class):
    X, y = data_for(estimator_class)
    model, twin = (quick(estimator_class, warm_start=True).fit(X, y) for _ in range(2))
    model.set_params(activation=["relu"])
    assert_same_network(model.partial_fit(X, y).fit(X, y), twin.partial_fit(X, y).fit(X, y))


# --------------------------------------------------------------------------- going on


@pytest.mark.parametrize("kind", [*KINDS, *OF_OURS])
def test_training_goes_on_as_from_initial_weights(kind):
    """The first epoch is that of a network that was given the weights by `init`."""
    ours, settings, (X, y) = (KINDS | OF_OURS)[kind]
    settings = settings | {"shuffle": False, "solver": "sgd"}
    trained = quick(ours, **settings).fit(X, y)
    names = [*WEIGHTS, "classes_", "out_activation_", *OF_OURS_ALONE]
    found = assembled(ours(**trained.get_params(deep=False)), trained, *names)
    classes = {"classes": trained.classes_} if ours is BackpropClassifier else {}
    found.partial_fit(X, y, **classes)
    assert np.size(found.t_) == found.get_params().get("n_estimators", 1)
    if not settings.keys() & {"normalization", "layers"}:  # which have no initial values
        started = ours(**trained.get_params(deep=False)).set_params(
            init=(trained.coefs_, trained.intercepts_)
        )
        assert_same_network(found, started.partial_fit(X, y, **classes), rtol=1e-6)


def test_scikit_learns_own_test_of_sgd():
    """Weights are set by hand, and the first call of partial_fit names the classes."""
    X, y = np.array([[0.6, 0.8, 0.7]]), np.array([0])

    def check(estimator_class):
        model = estimator_class(
            hidden_layer_sizes=2,
            activation="logistic",
            solver="sgd",
            learning_rate_init=0.1,
            alpha=0.1,
            momentum=0,
            max_iter=1,
            random_state=1,
        )
        model.coefs_ = [np.array([[0.1, 0.2], [0.3, 0.1], [0.5, 0]]), np.array([[0.1], [0.2]])]
        model.intercepts_ = [np.array([0.1, 0.1]), np.array([1.0])]
        model.n_outputs_, model.n_layers_, model.out_activation_ = 1, 3, "logistic"
        model.t_, model.n_iter_, model.best_loss_, model.loss_curve_ = 0, 0, np.inf, []
        model._no_improvement_count = 0
        return model.partial_fit(X, y, classes=[0, 1])

    found = check(BackpropClassifier)
    expected = [[0.098, 0.195756], [0.2956664, 0.096008], [0.4939998, -0.002244]]
    np.testing.assert_allclose(found.coefs_[0], expected, atol=1e-3)
    np.testing.assert_allclose(found.coefs_[1], [[0.04706], [0.154089]], atol=1e-3)
    assert_same_network(found, check(MLPClassifier), rtol=1e-12)


def test_the_classes_of_a_first_call_are_learned():
    found = BackpropClassifier((5,), warm_start=True, max_iter=2, random_state=0)
    found.coefs_, found.intercepts_ = some_parameters(4, 5, 3)
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        copy.deepcopy(found).partial_fit(X, WORDS)
    with pytest.raises(ValueError, match=r"needs a network with 1 output\(s\), but coefs_ has 3"):
        copy.deepcopy(found).partial_fit(X, np.repeat("a", N), classes=["a", "b"])
    with pytest.raises(ValueError, match=r"needs a network with 4 output\(s\), but coefs_ has 3"):
        copy.deepcopy(found).partial_fit(X, WORDS, classes=["a", "b", "c", "d"])
    for model in (found.partial_fit(X, WORDS, classes=["c", "b", "a"]), found.fit(X, WORDS)):
        assert model.classes_.tolist() == ["a", "b", "c"]
        assert set(model.predict(X)) <= {"a", "b", "c"}


@BOTH
def test_fit_starts_from_new_weights(estimator_class):
    X, y = data_for(estimator_class)
    found = quick(estimator_class)
    found.coefs_, found.intercepts_ = some_parameters(2, 7, 2)
    found.n_layers_, found.n_outputs_, found.out_activation_ = 9, 9, "tanh"
    expected = quick(estimator_class).fit(X, y)
    assert_same_network(found.fit(X, y), expected, rtol=0, atol=0)
    for name in SHAPES:
        assert getattr(found, name) == getattr(expected, name)


# ------------------------------------------------------------------- what cannot be told


@BOTH
def test_without_weights_nothing_is_fitted(estimator_class):
    X, _ = data_for(estimator_class)
    found = estimator_class()
    found.out_activation_, found.n_layers_ = "identity", 3
    for _ in range(2):
        with pytest.raises(NotFittedError):
            found.predict(X)
        assert not hasattr(found, "n_features_in_")
        assert not hasattr(found, "classes_")
        found.coefs_ = some_parameters(4, 5, 1)[0]  # and no intercepts


WRONG = {
    "classes": (BackpropClassifier, {"classes_": np.arange(4)}, r"with 4 .* has 3"),
    "two classes": (BackpropClassifier, {"classes_": ["a", "b"]}, r"with 1 .* has 3"),
    "output": (BackpropRegressor, {"out_activation_": "sigmoid"}, "one of .*, got 'sigmoid'"),
    "no name": (BackpropClassifier, {"out_activation_": ["softmax"]}, r"got \['softmax'\]"),
    "loss": (
        BackpropRegressor,
        {"loss": "huber", "out_activation_": "exp"},
        r"must be 'identity' for the loss Huber.*, got 'exp'",
    ),
    "depth": (
        BackpropRegressor,
        {"intercepts_": [np.zeros(5)]},
        "2 arrays of weights and 2 of intercepts, .* got 2 and 1",
    ),
    "vector": (BackpropRegressor, {"coefs_": [np.zeros(5)]}, r"of the shapes \[\(5,\)\]"),
    "nothing": (BackpropRegressor, {"coefs_": []}, "must be a list with an array of shape"),
    "dict": (BackpropRegressor, {"coefs_": {}}, "got a value of type dict"),
    "gap": (BackpropRegressor, {"coefs_": [np.ones((4, 5)), np.ones((6, 3))]}, "for layer 1"),
}


@pytest.mark.parametrize("case", WRONG)
def test_inconsistent_weights_are_an_error(case):
    estimator_class, changes, said = WRONG[case]
    found = estimator_class()
    found.coefs_, found.intercepts_ = some_parameters(4, 5, 3)
    for name, value in changes.items():
        setattr(found, name, value)
    with pytest.raises(ValueError, match=said):
        found.predict(X)


@pytest.mark.parametrize(
    "settings, name",
    [
        ({"scale_target": True}, "target_mean_"),
        ({"normalization": "layer"}, "gains_"),
        ({"normalization": "batch"}, "gains_"),
        ({"layers": "scale"}, "scales_"),
        ({"layers": PeriodicEmbedding(n_units=1)}, "frequencies_"),
    ],
)
def test_attributes_that_weights_do_not_determine_must_be_set(settings, name):
    found = BackpropRegressor(**settings)
    found.coefs_, found.intercepts_ = some_parameters(4, 5, 1)
    with pytest.raises(NotFittedError, match=f"needs? {name}, which is not set"):
        found.predict(X[:, : found.n_features_in_])
    if settings.get("normalization") == "batch":
        found.gains_ = [np.ones(5)]
        with pytest.raises(NotFittedError, match="needs running_means_, which is not set"):
            found.predict(X)
