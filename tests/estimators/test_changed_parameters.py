"""Does a fitted network predict as it was fitted, whatever its parameters are set to afterwards?

They are for the next `fit`, which learns everything anew, or for the next epochs of a warm start,
which refuse those that shape the network.
"""

import pickle
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import pytest
from sklearn.base import clone

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.losses import Gaussian, Quantile, SquaredError
from support import BOTH, answers, assert_same_network, classes_for, data_for, few_epochs, quick

pytestmark = few_epochs

# Another value for each parameter than the one that it is fitted with.
CHANGES = {
    **{"hidden_layer_sizes": (3, 2), "activation": "tanh", "loss": Quantile([0.1, 0.9])},
    **{"solver": "lbfgs", "alpha": 10.0, "l1_ratio": 0.5, "batch_size": 7, "shuffle": False},
    **{"learning_rate": "cosine", "learning_rate_init": 0.1, "power_t": 0.1, "momentum": 0.1},
    **{"nesterovs_momentum": False, "beta_1": 0.1, "beta_2": 0.1, "epsilon": 1.0, "max_fun": 1},
    **{"max_iter": 1, "tol": 1.0, "n_iter_no_change": 1, "time_limit": 60, "warm_start": True},
    **{"early_stopping": True, "validation_fraction": 0.5, "random_state": 1, "verbose": True},
    **{"n_estimators": 5, "class_weight": "balanced", "label_smoothing": 0.5},
    **{
        "scale_target": True,
        "clip_norm": 0.1,
        "layers": "periodic",
        "dropout": 0.5,
        "input_shape": (2, 2),
    },
    **{"normalization": "batch", "average": "polyak", "init": "he_normal", "dtype": "float32"},
}


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
@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("name", CHANGES)
def test_a_parameter_set_after_fit_does_not_move_predictions(estimator_class, n_estimators, name):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, n_estimators=n_estimators).fit(X, y)
    if name in model.get_params():
        of_classifier = {"loss": "hinge"} if estimator_class is BackpropClassifier else {}
        change = {name: (CHANGES | of_classifier)[name]}
        assert_unmoved(model, X, y, lambda: model.set_params(**change))


def test_changes_cover_every_parameter():
    names = set(BackpropClassifier().get_params()) | set(BackpropRegressor().get_params())
    assert set(CHANGES) == names


LOSSES = {
    BackpropClassifier: ["log_loss", "focal", "hinge"],
    BackpropRegressor: ["squared_error", "poisson", Gaussian(), Quantile([0.1, 0.5, 0.9])],
}
CHANGED_LOSSES = [
    (kind, *pair) for kind, losses in LOSSES.items() for pair in permutations(losses, 2)
]


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("estimator_class, fitted, later", CHANGED_LOSSES)
def test_set_loss_acts_in_the_next_fit(estimator_class, fitted, later, n_estimators):
    X, y = data_for(estimator_class)
    y = np.abs(y)
    model = quick(estimator_class, loss=fitted, n_estimators=n_estimators).fit(X, y)

    def change():
        with pytest.raises(ValueError, match="loss was .* when training began"):
            model.set_params(loss=later).partial_fit(X, y)

    assert_unmoved(model, X, y, change)
    fresh = quick(estimator_class, loss=later, n_estimators=n_estimators).fit(X, y)
    assert_same_network(model.fit(X, y), fresh)
    for actual, expected in zip(says(model, X, y)[1], says(fresh, X, y)[1], strict=True):
        np.testing.assert_array_equal(actual, expected)


@dataclass(frozen=True)
class Weighted(SquaredError):
    """L = (s - y)^2 / 2, with an array, so that == cannot compare two of them."""

    weights: np.ndarray


def test_losses_with_different_arrays_are_different():
    X, y = data_for(BackpropRegressor)
    model = quick(BackpropRegressor, loss=Weighted(np.ones(2))).partial_fit(X, y)
    model = pickle.loads(pickle.dumps(model.partial_fit(X, y))).partial_fit(X, y)
    with pytest.raises(ValueError, match="loss was Weighted.* when training began"):
        model.set_params(loss=Weighted(np.zeros(2))).partial_fit(X, y)
    model.set_params(loss=Weighted(np.ones(2))).partial_fit(X, y)


def test_score_checks_targets_by_the_fitted_loss():
    X, y = data_for(BackpropRegressor)
    model = quick(BackpropRegressor, loss="gamma").fit(X, np.exp(y)).set_params(loss="huber")
    with pytest.raises(ValueError, match="loss='gamma' needs targets y > 0"):
        model.score(X, y)


@pytest.mark.parametrize("n_estimators", [1, 2])
@pytest.mark.parametrize(
    "model, change",
    [
        *(
            (quick(BackpropRegressor, loss="huber", scale_target=True), {"loss": later})
            for later in ("gamma", "poisson", "gaussian")
        ),
        (quick(BackpropClassifier, loss="hinge"), {"label_smoothing": 0.1}),
    ],
    ids=["gamma", "poisson", "gaussian", "label smoothing of hinge"],
)
def test_parameters_that_do_not_go_together_change_nothing_after_fit(model, change, n_estimators):
    X, y = data_for(type(model))
    y = 100 + 10 * y
    model = clone(model).set_params(n_estimators=n_estimators).fit(X, y)
    assert_unmoved(model, X, y, lambda: model.set_params(**change))


WRONG = {"alpha": -1, "batch_size": 0, "learning_rate_init": "fast", "max_iter": None}
WRONG |= {"loss": "beauty", "hidden_layer_sizes": None}


@BOTH
@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("n_estimators", [1, 2])
def test_wrong_parameter_between_partial_fits_is_named(estimator_class, name, n_estimators):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, n_estimators=n_estimators)
    model.partial_fit(X, y, **classes_for(estimator_class)).partial_fit(X, y)
    right = getattr(model, name)

    def fail():
        for _ in range(2):
            with pytest.raises(ValueError, match=name):
                model.set_params(**{name: WRONG[name]}).partial_fit(X, y)

    assert_unmoved(model, X, y, fail)
    for _ in range(2):
        model = pickle.loads(pickle.dumps(model.set_params(**{name: right}).partial_fit(X, y)))


@BOTH
def test_pickle_drops_replaced_parameters(estimator_class):
    X, y = data_for(estimator_class)
    start = quick(estimator_class).fit(X, y)
    model = quick(estimator_class, init=(start.coefs_, start.intercepts_)).fit(X, y)
    before = len(pickle.dumps(model))
    after = len(pickle.dumps(model.set_params(init="auto")))
    assert after < before - sum(array.nbytes for array in start.coefs_ + start.intercepts_)


@BOTH
def test_methods_of_an_unfitted_estimator_follow_its_loss(estimator_class):
    model = quick(estimator_class).set_params(loss="hinge")
    assert not hasattr(model, "predict_proba")
    supports_predict_proba = estimator_class is BackpropClassifier
    assert hasattr(model.set_params(loss="log_loss"), "predict_proba") == supports_predict_proba


@BOTH
def test_failed_fit_keeps_the_fitted_loss(estimator_class):
    X, y = data_for(estimator_class)
    later = LOSSES[estimator_class][-1]
    model = quick(estimator_class).fit(X, y)

    def fail():
        with pytest.raises(ValueError, match="diverged"):
            model.set_params(loss=later, learning_rate_init=1e300).fit(X, y)
        with pytest.raises(ValueError, match="loss was"):
            model.partial_fit(X, y)

    assert_unmoved(model, X, y, fail)
