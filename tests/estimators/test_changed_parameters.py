"""A fitted network predicts as it was fitted, whatever its parameters are set to afterwards."""

from itertools import permutations

import numpy as np
import pytest

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.losses import Gaussian, Quantile
from support import BOTH, answers, assert_same_network, data_for, few_epochs, quick
from support.cases import KINDS, other_value

pytestmark = few_epochs

OF_AUTOENCODERS = {"n_components", "variational", "beta", "contamination"}


def says(model, X, y):
    """Return the names of what a fitted model has beside training, and all that it says of X."""
    with_std = model.predict(X, return_std=True) if isinstance(model, BackpropRegressor) else ()
    methods = [name for name in dir(model) if name[0] != "_" and name != "partial_fit"]
    return methods, [*answers(model, X), *with_std, model.score(X, y)]


def assert_unmoved(model, X, y, act):
    """Assert that a fitted model says the same after `act`."""
    methods, before = says(model, X, y)
    act()
    assert says(model, X, y)[0] == methods
    for actual, expected in zip(says(model, X, y)[1], before, strict=True):
        np.testing.assert_array_equal(actual, expected)


@BOTH
@pytest.mark.parametrize("name", sorted(KINDS.keys() - OF_AUTOENCODERS))
def test_a_parameter_set_after_fit_does_not_move_predictions(estimator_class, name):
    X, y = data_for(estimator_class)
    model = quick(estimator_class).fit(X, y)
    if name in model.get_params():
        change = {name: other_value(estimator_class, name)}
        assert getattr(model, name) != change[name]
        assert_unmoved(model, X, y, lambda: model.set_params(**change))


LOSSES = {
    BackpropClassifier: ["log_loss", "focal", "hinge"],
    BackpropRegressor: ["squared_error", "poisson", Gaussian(), Quantile([0.1, 0.5, 0.9])],
}
CHANGED_LOSSES = [
    (kind, *pair) for kind, losses in LOSSES.items() for pair in permutations(losses, 2)
]


@pytest.mark.parametrize("estimator_class, fitted, later", CHANGED_LOSSES)
def test_set_loss_acts_in_the_next_fit(estimator_class, fitted, later):
    X, y = data_for(estimator_class)
    y = np.abs(y)
    model = quick(estimator_class, loss=fitted).fit(X, y)

    def change():
        with pytest.raises(ValueError, match="loss of the fitted network is .* must not change to"):
            model.set_params(loss=later).partial_fit(X, y)

    assert_unmoved(model, X, y, change)
    fresh = quick(estimator_class, loss=later).fit(X, y)
    assert_same_network(model.fit(X, y), fresh)
    for actual, expected in zip(says(model, X, y)[1], says(fresh, X, y)[1], strict=True):
        np.testing.assert_array_equal(actual, expected)
