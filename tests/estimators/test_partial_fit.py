"""Calls of `partial_fit` continue the training exactly, whatever happens in between.

A pickle takes nothing along that is bound to the arrays of the last call. So a model that is
unpickled before each call is the oracle, to the bit.
"""

import copy

import numpy as np
import pytest
from scipy import sparse

from skbackprop import BackpropRegressor, EarlyStopping
from skbackprop.nn.history import History
from support import BOTH, classes_for, data_for, few_epochs, pickled, quick, same_values

pytestmark = few_epochs

N = 40
SETTINGS = {
    "adam": {},
    "average": {"average": "polyak"},
    "normalization": {"normalization": "batch", "dropout": 0.3},
    "early stopping": {"early_stopping": EarlyStopping("loss")},
    "members": {"n_estimators": 2},
}
ATTRIBUTES = ("coefs_", "intercepts_", "gains_", "running_means_", "running_variances_")
ATTRIBUTES += ("loss_curve_", "validation_loss_curve_", "validation_scores_", "best_loss_", "t_")
ATTRIBUTES += ("best_validation_score_", "best_iter_", "converged_", "n_iter_", "loss_")


def assert_same(model, expected):
    for name in ATTRIBUTES:
        values = getattr(model, name, None), getattr(expected, name, None)
        assert same_values(*values), name


def unpickled(model):
    return pickled(model, None)


def first_call(estimator_class, **settings):
    data = data_for(estimator_class, N)
    model = quick(estimator_class, **settings)
    return model.partial_fit(*data, **classes_for(estimator_class)), data


def assign(model, X, y):
    model.coefs_ = [2 * array for array in model.coefs_]


def assign_item(model, X, y):
    model.intercepts_[0] = model.intercepts_[0] + 1


def fail(X, y, message):
    def train(model, X_right, y_right):
        with pytest.raises(ValueError, match=message):
            model.partial_fit(X(X_right), y(y_right))

    return train


def same(values):
    return values


EVENTS = {
    "assigned weights": assign,
    "assigned item": assign_item,
    "warm fit": lambda model, X, y: model.set_params(warm_start=True).fit(X, y),
    "another rate": lambda model, X, y: model.set_params(learning_rate_init=0.1),
    "diverged call": fail(lambda X: np.full_like(X, 1e300), same, "diverged"),
    "refused call": fail(lambda X: X * np.nan, same, "NaN"),
    "sparse rows": lambda model, X, y: model.partial_fit(sparse.csr_array(X), y),
    "weighted rows": lambda model, X, y: model.partial_fit(X, y, 1.0 + np.arange(len(X))),
    "trained copy": lambda model, X, y: copy.copy(model).partial_fit(X, y).partial_fit(X, y),
}


def test_the_best_loss_is_the_lowest_of_all_calls():
    model, (X, y) = first_call(BackpropRegressor)
    for factor in (10, 1, 20):
        model.partial_fit(X, factor * y)
    assert model.best_loss_ == min(model.loss_curve_) < model.loss_


@BOTH
@pytest.mark.parametrize("case", ["adam", "average", "early stopping", "normalization"])
@pytest.mark.parametrize("event", EVENTS)
def test_changes_between_two_calls_take_effect(estimator_class, case, event):
    model, (X, y) = first_call(estimator_class, shuffle=False, **SETTINGS[case])
    own = {"X_val": X, "y_val": y}
    model.partial_fit(X, y, **own).partial_fit(X, y, **own)
    twin = unpickled(model)
    for each in (model, twin):
        EVENTS[event](each, X, y)
    for _ in range(3):
        model.partial_fit(X, y, **own)
        twin = unpickled(twin).partial_fit(X, y, **own)
        assert_same(model, twin)


@BOTH
@pytest.mark.parametrize("case", ["adam", "average", "early stopping", "members"])
def test_failed_calls_change_nothing(estimator_class, case):
    model, (X, y) = first_call(estimator_class, shuffle=False, **SETTINGS[case])
    spared = copy.deepcopy(model)
    for event in ("diverged call", "refused call"):
        EVENTS[event](model, X, y)
        assert_same(model, spared)
    assert_same(model.partial_fit(X, y), spared.partial_fit(X, y))


# ---------------------------------------------------------------------- what a call costs


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@BOTH
def test_calls_read_nothing_of_the_calls_before_them(estimator_class, settings, monkeypatch):
    """So a call costs the same however many there were."""
    model, (X, y) = first_call(estimator_class, **settings)
    options = {"X_val": X, "y_val": y} if "early_stopping" in settings else {}

    def refuse(*arguments):
        raise AssertionError("a call has read the history")

    for name in ("copy", "curve", "to_array"):
        monkeypatch.setattr(History, name, refuse)
    for _ in range(3):
        model.partial_fit(X, y, **options)
    monkeypatch.undo()
    assert np.shape(model.loss_curve_)[-1] == 4


@pytest.mark.parametrize("n_estimators", [1, 2])
@BOTH
def test_what_is_made_for_a_call_serves_the_next_ones(estimator_class, n_estimators):
    model, (X, y) = first_call(estimator_class, n_estimators=n_estimators)
    stack = model._model.stack
    assert model.partial_fit(X[::-1].copy(), y[::-1].copy())._model.stack is stack
    assert model.partial_fit(X[:9], y[:9])._model.stack is not stack
    stack = model._model.stack
    assert model.partial_fit(X[9:18], y[9:18])._model.stack is stack
    model.set_params(learning_rate_init=0.1).partial_fit(X[:9], y[:9])
    assert model._model.stack is not stack
