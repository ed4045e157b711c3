"""Subclasses that override private methods of scikit-learn's networks get an error."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.neural_network import MLPClassifier
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron

import skbackprop
from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from support import classes_for, data_for, few_epochs, label_data, quick

pytestmark = few_epochs

DIFFERENCES = Path(skbackprop.__file__).parents[1] / "docs" / "user_guide" / "scikit_learn.md"
PRIVATE_METHODS = [
    name
    for name, value in inspect.getmembers(BaseMultilayerPerceptron, inspect.isfunction)
    if re.match(r"_[a-z]", name) and "MultilayerPerceptron" in value.__qualname__
]


def override(self, *arguments, **named):
    raise AssertionError("this is never called")


@pytest.mark.parametrize("name", [*PRIVATE_METHODS, "_score", "_validate_input"])
@pytest.mark.parametrize(
    "estimator_class", [BackpropClassifier, BackpropRegressor, BackpropAutoencoder]
)
def test_override_is_an_error_when_training_begins(estimator_class, name):
    assert not hasattr(estimator_class, name)
    X, y = data_for(estimator_class)
    model = quick(type("Own", (estimator_class,), {name: override}))
    for train, named in ((model.fit, {}), (model.partial_fit, classes_for(estimator_class))):
        with pytest.raises(TypeError, match=rf"Own overrides {name}, a private method"):
            train(X, y, **named)
    assert not hasattr(model, "coefs_")


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


def test_missing_names_are_documented():
    named = set(re.findall(r"`(_\w+)`", DIFFERENCES.read_text()))
    assert {*PRIVATE_METHODS, "_score", "_validate_input"} <= named
    X, Y = label_data()
    for solver in ("sgd", "adam", "lbfgs"):
        for early_stopping in (False, True):
            fitted = quick(MLPClassifier, solver=solver, early_stopping=early_stopping).fit(X, Y)
            private = {name for name in vars(fitted) if re.match(r"_[a-z]", name)}
            assert private - {"_sklearn_output_config"} <= named
