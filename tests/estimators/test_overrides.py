"""Do subclasses that override private methods of scikit-learn's networks hear that none is called?

And does the documentation name all private names that are missing?
"""

import inspect
import re
from pathlib import Path
from types import MethodType

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron

import skbackprop
from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
)
from skbackprop.estimators._mlp_overrides import REPLACEMENTS
from support import BOTH, classes_for, data_for, few_epochs, label_data, quick

pytestmark = few_epochs

DIFFERENCES = Path(skbackprop.__file__).parents[1] / "docs" / "user_guide" / "scikit_learn.md"
THEIRS = (BaseMultilayerPerceptron, MLPClassifier, MLPRegressor)
PRIVATE_METHODS = sorted(
    {
        name
        for kind in THEIRS
        for name, value in vars(kind).items()
        if inspect.isfunction(value) and name.startswith("_") and not name.startswith("__")
    }
)


def override(self, *arguments, **named):
    raise AssertionError("this is never called")


def refuses(name, train, *data, **named):
    with pytest.raises(TypeError, match=rf"overrides {name}, a private method.* Instead, "):
        train(*data, **named)


def test_the_table_has_all_private_methods():
    assert set(PRIVATE_METHODS) <= set(REPLACEMENTS)


@pytest.mark.parametrize("name", REPLACEMENTS)
def test_suggested_replacements_exist(name):
    """Parameters exist, and so do methods and classes that are named."""
    text = REPLACEMENTS[name]
    for parameter in re.findall(r"(\w+)=[ ,(A-Z]", text):
        known = BackpropRegressor().get_params() | BackpropClassifier().get_params()
        assert parameter in known
    for method in re.findall(r"(?:override|by|super\(\)\.|and) (\w+_\w+)\b", text):
        assert hasattr(BackpropClassifier(), method)


@pytest.mark.parametrize("name", PRIVATE_METHODS)
@pytest.mark.parametrize(
    "estimator_class", [BackpropClassifier, BackpropRegressor, BackpropAutoencoder]
)
def test_an_override_is_an_error_when_training_begins(estimator_class, name):
    assert not hasattr(estimator_class, name)  # so that none of ours is overridden in earnest
    X, y = data_for(estimator_class)
    overriding = type("Own", (estimator_class,), {name: override})
    for train in ("fit", "partial_fit"):
        model = quick(overriding)
        named = classes_for(estimator_class) if train == "partial_fit" else {}
        refuses(name, getattr(model, train), X, y, **named)
        assert not hasattr(model, "coefs_")


@BOTH
@pytest.mark.parametrize("how", ["property", "static", "mixin", "ancestor", "instance"])
def test_overrides_of_any_kind_are_found(estimator_class, how):
    own = {"property": property(override), "static": staticmethod(override)}.get(how, override)
    if how == "mixin":
        model = type("Own", (type("Mixin", (), {"_backprop": own}), estimator_class), {})()
    elif how == "instance":
        model = estimator_class()
        model._backprop = MethodType(own, model)
    else:
        model = type("Own", (estimator_class,), {"_backprop": own})()
        if how == "ancestor":
            model = type("Own", (type(model),), {})()
    refuses("_backprop", model.fit, *data_for(estimator_class))


@BOTH
def test_a_patched_class(estimator_class, monkeypatch):
    monkeypatch.setattr(estimator_class, "_forward_pass", override, raising=False)
    refuses("_forward_pass", quick(estimator_class).fit, *data_for(estimator_class))


def test_search_reports_overrides():
    X, y = data_for(BackpropClassifier)
    own = type("Own", (BackpropClassifier,), {"_init_coef": override})
    search = BackpropGridSearchCV(quick(own), {"alpha": [0.1, 1.0]}, error_score="raise")
    refuses("_init_coef", search.fit, X, y)


def test_subclass_may_use_other_names():
    """Public overrides, other private methods, and values under the names of methods."""

    class Own(BackpropClassifier):
        _predict = None

        def fit(self, X, y):
            self._score = 0.5
            return super().fit(self._scaled(X), y)

        def _scaled(self, X):
            return X / 2

    X, y = data_for(BackpropClassifier)
    found, expected = quick(Own).fit(X, y), quick(BackpropClassifier).fit(X / 2, y)
    np.testing.assert_array_equal(found.coefs_[0], expected.coefs_[0])


def test_the_names_that_are_missing_are_documented():
    text = DIFFERENCES.read_text()
    named = set(re.findall(r"`(_\w+)`", text))
    assert set(PRIVATE_METHODS) <= named
    X, Y = label_data()
    for solver in ("sgd", "adam", "lbfgs"):
        for early_stopping in (False, True):
            settings = {"solver": solver, "early_stopping": early_stopping}
            fitted = quick(MLPClassifier, **settings).fit(X, Y)
            private = {name for name in vars(fitted) if re.match(r"_[a-z]", name)}
            assert private - {"_sklearn_output_config"} <= named
            ours = vars(quick(BackpropClassifier, **settings).fit(X, Y))
            assert private.isdisjoint(ours)


def test_replacement_suggested_by_the_error_works():
    """A row for each class, weighted by its probability, gives the gradient of soft labels."""
    X, _ = data_for(BackpropClassifier)
    shares = np.random.RandomState(0).dirichlet(np.ones(3), len(X))
    rows, weight = np.repeat(X, 3, axis=0), shares.ravel()
    model = BackpropClassifier((), solver="lbfgs", alpha=0, max_iter=1000, tol=1e-10)
    model.fit(rows, np.tile([0, 1, 2], len(X)), sample_weight=weight)
    error = model.predict_proba(X) - shares
    np.testing.assert_allclose(error.T @ X, 0, atol=1e-4)  # the gradient of the cross-entropy
    np.testing.assert_allclose(error.sum(axis=0), 0, atol=1e-4)
