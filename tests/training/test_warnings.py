"""Warnings about how training ended, from scikit-learn's module and at the user's line.

A filter of warnings that was written for scikit-learn's networks finds ours as well.
"""

import inspect
import re
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import make_scorer
from sklearn.model_selection import cross_val_score
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
    EarlyStopping,
)
from skbackprop.layers import BatchNormalization, CategoricalEmbedding, Conv2D
from support import BOTH, PAIRS, class_data, classes_for, data_for, few_epochs, quick, value_data

# ------------------------------------------------------------------------ what they say

ADVICE = {
    "X": "values in X are too large",
    "y": "set scale_target=True",
    "epochs": "Increase max_iter",
}
SETTINGS = {"max_iter": 3, "random_state": 0}


def advice_of(model, *data):
    """Return which advice the only warning of a fit gives."""
    with pytest.warns(ConvergenceWarning, match="Maximum iterations|failed to converge") as caught:
        model.fit(*data)
    (text,) = [str(warning.message) for warning in caught]
    return [name for name, words in ADVICE.items() if words in text]


@pytest.mark.parametrize(
    "settings", [{}, {"n_estimators": 2}, {"dtype": "float32"}, {"solver": "lbfgs"}], ids=str
)
@BOTH
def test_the_advice_names_the_cause(estimator_class, settings):
    X, y = class_data() if estimator_class is BackpropClassifier else value_data()
    settings = SETTINGS | settings
    assert advice_of(estimator_class(**settings), X, y) == ["epochs"]
    for values in (1e3 * X, sparse.csr_array(1e3 * X)):
        assert advice_of(estimator_class(**settings), values, y) == ["X"]
    if estimator_class is BackpropRegressor:
        assert advice_of(estimator_class(**settings), X, 1e3 * y) == ["y"]
        assert advice_of(estimator_class(scale_target=True, **settings), X, 1e3 * y) == ["epochs"]


@pytest.mark.parametrize("value", [0, 1, 10])
@BOTH
def test_early_stopping_on_a_constant_target_does_not_warn(estimator_class, value):
    """So has scikit-learn's `test_preserve_feature_names` it: there is nothing to change."""
    X = pd.DataFrame(np.random.RandomState(0).randn(10, 2), columns=["a", "b"])
    model = estimator_class(early_stopping=True, validation_fraction=0.2, random_state=0)
    model.fit(X, pd.Series(np.full(10, value)))


def fit_with_constant_score(scoring, data, **settings):
    """Fit with steps that are too small to matter; return the texts of the warnings."""
    X, y = data
    is_class = y.dtype.kind in "iU"
    settings = {"learning_rate_init": 1e-9, "n_iter_no_change": 3, "random_state": 0} | settings
    kind = BackpropClassifier if is_class else BackpropRegressor
    rule = EarlyStopping(scoring, n_iter_no_change=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = kind((5,), early_stopping=rule, **settings).fit(X, y)
    assert model.converged_ if np.ndim(model.converged_) == 0 else model.converged_.all()
    assert all(issubclass(warning.category, ConvergenceWarning) for warning in caught)
    return [str(warning.message) for warning in caught]


def constant(value):
    """Return a scorer that finds all networks equally good."""
    return lambda estimator, X, y: value


LABELS = class_data(200)[0], np.random.RandomState(1).randint(2, size=(200, 12))
WORDS = {
    "labels": (None, LABELS, {}, r"was 0 in each .*scoring=None: all labels of a row right"),
    "classes": (None, class_data(200), {}, "scoring=None: accuracy"),
    "members": ("accuracy", LABELS, {"n_estimators": 2}, "scoring='accuracy'"),
    "L-BFGS": (constant(0.25), LABELS, {"solver": "lbfgs"}, "was 0.25 in each of the"),
    "named": ("f1_macro", class_data(200), {}, r'to "loss" or "neg_log_loss", .*or increase'),
    "a negated loss": ("neg_root_mean_squared_error", value_data(200), {"tol": 1.0}, None),
    "a function": (constant(0.0), value_data(200), {}, 'To train on, set scoring .* to "loss"'),
    "a made scorer": (
        make_scorer(lambda y, y_pred: 1.0, greater_is_better=False),
        value_data(200),
        {},
        "was -1 in each of the 5 epochs",
    ),
    "loss": (
        "loss",
        value_data(200),
        {"learning_rate_init": 1e-30},
        "To train on, increase n_iter",
    ),
}


@pytest.mark.parametrize("name", WORDS)
def test_a_validation_score_that_never_changes_warns(name):
    scoring, data, settings, words = WORDS[name]
    texts = fit_with_constant_score(scoring, data, **settings)
    if words is None:  # the score has changed, although by less than the tolerance
        assert texts == []
    else:
        (text,) = texts
        assert re.search(words, text)
        assert "Early stopping ended training" in text
        assert "n_iter_no_change (now 3)" in text


@pytest.mark.parametrize(
    "scoring, data",
    [
        (None, (class_data(200)[0], np.zeros(200, dtype=int))),
        (constant(1.0), value_data(200)),
        (make_scorer(lambda y, y_pred: 0.0, greater_is_better=False), value_data(200)),
    ],
    ids=["accuracy", "a function", "a negated loss"],
)
def test_the_best_validation_score_in_all_epochs_does_not_warn(scoring, data):
    assert fit_with_constant_score(scoring, data) == []


def test_a_validation_score_that_is_constant_at_last_only_does_not_warn():
    scores = iter([0.1, *[0.5] * 100])
    assert fit_with_constant_score(lambda estimator, X, y: next(scores), value_data(200)) == []


@pytest.mark.parametrize(
    "values, words",
    [
        (lambda X: 1e5 * X, r"too large, with root mean squares of up to \d"),
        (
            lambda X: np.c_[2020 + 3 * X[:, :1], np.full((len(X), 1), 0.1), X],
            "mean of .* deviations",
        ),
    ],
)
@pytest.mark.parametrize("settings", [{"tol": 1e9}, {"solver": "lbfgs", "tol": 1e9}], ids=str)
@BOTH
def test_training_that_converges_on_values_far_from_zero_warns(
    estimator_class, settings, values, words
):
    X, y = class_data() if estimator_class is BackpropClassifier else value_data()
    model = estimator_class(random_state=0, n_iter_no_change=2, **settings)
    with pytest.warns(ConvergenceWarning, match=words):
        model.fit(values(X), y)
    assert model.converged_


@pytest.mark.parametrize(
    "layers, advice", [([], ["X"]), ([BatchNormalization()], ["epochs"])], ids=["first", "scaled"]
)
def test_images_with_values_up_to_255_get_advice_on_scale(layers, advice):
    X, y = class_data(60)
    images = 255 * np.random.RandomState(0).rand(len(X), 5, 5)
    model = BackpropClassifier(layers=[*layers, Conv2D(2, 3)], **SETTINGS)
    assert advice_of(model, images, y) == advice
    assert advice_of(model, images / 255, y) == ["epochs"]


def test_neither_targets_of_an_autoencoder_nor_categories_get_advice_on_scale():
    X, _ = value_data()
    assert advice_of(BackpropAutoencoder(2, **SETTINGS), X) == ["epochs"]
    assert advice_of(BackpropAutoencoder(2, **SETTINGS), 1e3 * X) == ["X"]
    codes = np.random.RandomState(0).randint(1000, size=(200, 1)).astype(float)
    model = BackpropRegressor(layers=[CategoricalEmbedding({0: 1000})], **SETTINGS)
    assert advice_of(model, codes, codes[:, 0] / 1000) == ["epochs"]


@few_epochs
@BOTH
def test_predictions_that_are_not_finite_name_input_or_weights(estimator_class):
    X, y = data_for(estimator_class, 60)
    model = estimator_class(max_iter=3, random_state=0).fit(X, y)
    coefs = [weights.copy() for weights in model.coefs_]
    model.coefs_ = [4 * weights for weights in coefs]
    far = 1e308 * np.sign(model.coefs_[0][:, :1].T)
    with pytest.raises(ValueError, match=r"value in X is 1e\+308.*same scale as the training data"):
        model.predict(far)
    model.coefs_ = [weights * 1e200 for weights in coefs]
    with pytest.raises(ValueError, match=r"in the weights \S+e\+\d+\. The weights are too large"):
        model.predict(X)


# ------------------------------------------------------------------------ where they are from

EITHER = [BackpropClassifier, BackpropRegressor, MLPClassifier, MLPRegressor]


@pytest.mark.parametrize("estimator_class", EITHER)
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_filter_for_scikit_learns_module_is_enough(estimator_class, solver):
    for module in ("sklearn", "sklearn.neural_network", ".*_multilayer_perceptron"):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.filterwarnings("ignore", category=ConvergenceWarning, module=module)
            quick(estimator_class, solver=solver, max_iter=2).fit(*data_for(estimator_class))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", category=ConvergenceWarning, module="numpy")
        with pytest.raises(ConvergenceWarning):
            quick(estimator_class, max_iter=2).fit(*data_for(estimator_class))


@pytest.mark.parametrize("action", ["once", "default", "module", "always"])
@PAIRS
def test_fits_warn_as_often_as_scikit_learns(ours, theirs, action):
    """Of all fits: in between, checks of the data let Python forget what it has shown."""

    def n_shown(estimator_class):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter(action)
            for _ in range(3):
                quick(estimator_class, max_iter=2).fit(*data_for(estimator_class))
        return len(caught)

    assert n_shown(ours) == n_shown(theirs)


def line_of_next():
    return inspect.currentframe().f_back.f_lineno + 1


def test_file_and_line_are_the_users():
    X, y = data_for(BackpropClassifier)
    network = quick(BackpropClassifier, max_iter=2, n_estimators=2)
    search = BackpropGridSearchCV(network, {"alpha": [0.1, 1]}, cv=2)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lines = [line_of_next()]
        network.fit(X, y)
        lines.append(line_of_next())
        make_pipeline(StandardScaler(), network).fit(X, y)
        lines.append(line_of_next())
        cross_val_score(network, X, y, cv=2)
        lines.append(line_of_next())
        search.fit(X, y)
        lines.append(line_of_next())
        network.set_params(batch_size=1000, n_iter_no_change=float("inf")).fit(X, y)
    found = dict.fromkeys((w.filename, w.lineno) for w in caught)
    assert list(found) == [(__file__, line) for line in lines]


@BOTH
def test_partial_fit_does_not_warn(estimator_class):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, batch_size=1000)
    model.partial_fit(X, y, **classes_for(estimator_class)).partial_fit(X, y)
