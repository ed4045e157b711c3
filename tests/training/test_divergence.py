"""Is it said when training has diverged, though all numbers are finite, and only then?"""

import copy
import pickle
import re
import warnings

import numpy as np
import pytest
from sklearn.datasets import make_regression
from sklearn.exceptions import ConvergenceWarning
from sklearn.preprocessing import scale

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
    EarlyStopping,
)
from skbackprop.weight_averaging import ExponentialMovingAverage
from support import BOTH, class_data, classes_for, data_for, few_epochs, value_data

N_ROWS = 120
SETTINGS = {"hidden_layer_sizes": (10,), "batch_size": 20, "max_iter": 30, "random_state": 0}


def divergences(model, data, method="fit", **fit_params):
    """Return the texts of the warnings that say that training has diverged."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        getattr(model, method)(*data, **fit_params)
    texts = [str(w.message) for w in caught if issubclass(w.category, ConvergenceWarning)]
    return [text for text in texts if "Training diverged" in text]


DIVERGING = {
    "sgd": {"solver": "sgd", "learning_rate_init": 100.0, "activation": "tanh", "max_iter": 3},
    "adam": {"learning_rate_init": 1e6},
    "adam, one epoch": {"learning_rate_init": 1e3, "max_iter": 1},
    "early stopping": {"learning_rate_init": 1e6, "early_stopping": True},
    "members": {"learning_rate_init": 1e6, "n_estimators": 3},
    "float32": {"learning_rate_init": 1e6, "dtype": "float32"},
    "batch norm": {"learning_rate_init": 1e6, "normalization": "batch"},
    "average": {"learning_rate_init": 1e6, "average": ExponentialMovingAverage(0.5)},
}


@BOTH
@pytest.mark.parametrize("settings", DIVERGING.values(), ids=DIVERGING)
def test_warns_of_divergence_among_finite_numbers(settings, estimator_class):
    model = estimator_class(**SETTINGS | settings)
    texts = divergences(model, data_for(estimator_class, N_ROWS))
    assert len(texts) == settings.get("n_estimators", 1)
    rate = settings["learning_rate_init"]
    assert re.search(r"first loss was \S+, the .*largest weight is \S+\. Lower", texts[0])
    assert f"learning_rate_init (now {rate})" in texts[0]
    assert ("are kept" in texts[0]) == ("early_stopping" in settings)


@pytest.mark.parametrize(
    "model",
    [
        BackpropRegressor(loss="absolute_error", **SETTINGS),
        BackpropRegressor(loss="huber", **SETTINGS),
        BackpropRegressor(loss="log_cosh", **SETTINGS),
        BackpropRegressor(loss="gaussian", **SETTINGS),
        BackpropAutoencoder(**SETTINGS),
    ],
    ids=str,
)
def test_warns_of_divergence_with_any_loss_and_of_an_autoencoder(model):
    assert divergences(model.set_params(learning_rate_init=1e6), value_data(N_ROWS))


@pytest.mark.parametrize("scale_of_X", [1e4, 1e6])
def test_warns_of_divergence_on_unscaled_data(scale_of_X):
    X, y = class_data(N_ROWS)
    model = BackpropClassifier(solver="sgd", learning_rate_init=0.1, **SETTINGS | {"max_iter": 3})
    assert "in X is" in divergences(model, (X * scale_of_X, y))[0]


GOOD = {
    "adam": {},
    "a loss below zero": {"loss": "gaussian", "learning_rate_init": 0.02, "max_iter": 300},
    "early stopping": {"early_stopping": True},
    "few held out": {"early_stopping": True, "validation_fraction": 0.02},
    "a strong penalty": {"alpha": 1e4},
    "lbfgs": {"solver": "lbfgs", "max_iter": 300, "alpha": 0.0},
    "dropout": {"dropout": 0.5, "learning_rate_init": 0.02},
    "batch norm": {"normalization": "batch", "learning_rate_init": 0.02},
    "momentum": {"solver": "sgd", "learning_rate_init": 0.02, "scale_target": True},
    "one epoch": {"max_iter": 1},
}


@pytest.mark.parametrize("factor", [0.0, 1e-8, 1e-2, 1.0, 1e4])
@pytest.mark.parametrize("settings", GOOD.values(), ids=GOOD)
def test_ordinary_fits_raise_no_false_alarm(settings, factor):
    X, y = value_data(N_ROWS)
    model = BackpropRegressor(**SETTINGS | settings)
    assert not divergences(model, (scale(X), scale(y) * factor))


def test_hard_or_small_data_raise_no_false_alarm():
    X, y = class_data(N_ROWS)
    at_random = np.random.default_rng(0).permutation(y)
    for data, max_iter in (((X, at_random), 100), ((X * 1e3, y), 3), ((X[:9], y[:9]), 100)):
        assert not divergences(BackpropClassifier(**SETTINGS | {"max_iter": max_iter}), data)


@pytest.mark.long
def test_a_validation_loss_is_not_judged_as_a_score():
    """That of five classes is above one where nothing can be learned, and -1 is a bad R2."""
    X, y = np.ones((100, 2)), np.arange(100) % 5
    stopping = EarlyStopping("loss", validation_fraction=0.3)
    changes = {"early_stopping": stopping, "learning_rate_init": 0.01, "warm_start": True}
    for seed in range(3):
        model = BackpropClassifier(**SETTINGS | changes | {"random_state": seed})
        for _ in range(2):  # in the second the loss ends a little above where it began
            assert not divergences(model, (X, y))


@pytest.mark.parametrize("rate", [1e-3, 1e6])
def test_rows_of_weight_zero_do_not_count(rate):
    X, y = class_data(N_ROWS)
    weight = np.r_[0.0, np.ones(N_ROWS - 1)]
    X[0] = 1e150
    model = BackpropClassifier(learning_rate_init=rate, solver="sgd", **SETTINGS | {"max_iter": 2})
    assert bool(divergences(model, (X, y, weight))) == (rate > 1)


def test_a_warm_start_near_zero_loss_may_end_higher():
    """There the loss of the first epoch is no yardstick."""
    X, y = make_regression(40, 3, random_state=0)
    data = scale(X), scale(y)
    settings = {"hidden_layer_sizes": (), "alpha": 0.0, "n_iter_no_change": np.inf}
    model = BackpropRegressor(solver="sgd", learning_rate_init=0.1, max_iter=300, **settings)
    model.set_params(warm_start=True, batch_size=10, random_state=0).fit(*data)
    assert model.loss_ < 1e-20
    noisy = data[0], data[1] + 0.01 * np.random.default_rng(0).normal(size=40)
    assert not divergences(model.set_params(max_iter=2), noisy)
    assert divergences(model.set_params(learning_rate_init=5.0, max_iter=10), noisy)


@BOTH
def test_partial_fit_calls_are_compared_with_the_first(estimator_class):
    data, classes = data_for(estimator_class, N_ROWS), classes_for(estimator_class)
    good = estimator_class(**SETTINGS)
    for _ in range(30):
        assert not divergences(good, data, "partial_fit", **classes)
    bad = copy.deepcopy(good).set_params(learning_rate_init=1e4)
    found = [divergences(bad, data, "partial_fit", **classes) for _ in range(3)]
    assert found[-1]


@pytest.mark.long
@pytest.mark.parametrize("n_rows", [1, 5, 16, 40, 64, 75])
@BOTH
def test_partial_fit_calls_of_few_rows_are_judged_together(estimator_class, n_rows):
    """The loss of a single row varies by orders of magnitude, and that of the first may be 0."""
    X, y = data_for(estimator_class, 150)
    X = scale(X)
    if estimator_class is BackpropRegressor:
        y = scale(y)
        order = np.argsort(np.abs(y))[:1]
        X, y = np.r_[X[order], X], np.r_[y[order], y]
    model, n_alarms = estimator_class(**SETTINGS), []
    for rate in (1e-3, 1e-2, 1e4):
        model.set_params(learning_rate_init=rate)
        n_alarms.append(0)
        for _ in range(2):
            for i, start in enumerate(range(0, len(y) - n_rows + 1, n_rows)):
                data = X[start : start + n_rows], y[start : start + n_rows]
                if i % 16 == 1:  # another process goes on
                    model = pickle.loads(pickle.dumps(model))
                found = divergences(model, data, "partial_fit", **classes_for(estimator_class))
                n_alarms[-1] += bool(found)
    assert n_alarms[:2] == [0, 0]
    assert n_alarms[2] > 0


@pytest.mark.long
def test_rows_of_weight_zero_do_not_count_for_partial_fit_calls():
    X, y = value_data(N_ROWS)
    data = scale(X), scale(y)
    model = BackpropRegressor(**SETTINGS | {"learning_rate_init": 1e3})
    weight = np.r_[1.0, np.zeros(N_ROWS - 1)]
    found = [bool(divergences(model, (*data, weight), "partial_fit")) for _ in range(130)]
    assert found.index(True) >= 63


def test_huge_weights_are_divergence_whatever_the_loss():
    """In its only epoch the loss is that before the step."""
    X, y = class_data(20)
    model = BackpropClassifier(learning_rate_init=1e7, max_iter=1, random_state=0)
    assert "largest weight is 1e+07" in divergences(model, (X, y))[0]


def test_candidates_of_a_search_are_judged_separately():
    rates = [1e-3, 1e5, 1e-2, 1e6]
    model = BackpropRegressor(n_iter_no_change=np.inf, **SETTINGS)
    search = BackpropGridSearchCV(model, {"learning_rate_init": rates}, cv=2, refit=False)
    texts = divergences(search, value_data(N_ROWS))
    (text,) = texts
    assert text.startswith(
        "4 of 8 fits ended with this warning or a similar one: Training diverged"
    )
    assert float(re.search(r"now ([^)]*)\)", text)[1]) in (1e5, 1e6)


# --------------------------------------------------------------- nothing usable is left


@few_epochs
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    "settings", [{}, {"n_estimators": 2}, {"average": ExponentialMovingAverage(0.5)}], ids=str
)
@pytest.mark.parametrize("dtype, rate", [("float64", 1e200), ("float32", 1e25)])
@BOTH
def test_raises_when_the_last_step_diverges(estimator_class, dtype, rate, settings, method):
    """Its weights are finite, but not what they make of X."""
    settings = SETTINGS | settings | {"dtype": dtype, "max_iter": 1, "batch_size": N_ROWS}
    model = estimator_class(learning_rate_init=rate, **settings)
    data, classes = data_for(estimator_class, N_ROWS), classes_for(estimator_class)
    fit_params = classes if method == "partial_fit" else {}
    message = rf"diverged in epoch 1: .*largest weight is \S+\. .*now {re.escape(str(rate))}"
    with pytest.raises(ValueError, match=message):
        getattr(model, method)(*data, **fit_params)
    assert not hasattr(model, "coefs_")


@few_epochs
@BOTH
def test_prediction_error_names_input_or_weights_that_are_too_large(estimator_class):
    X, y = data_for(estimator_class, N_ROWS)
    model = estimator_class(**SETTINGS).fit(X, y)
    coefs = model.coefs_
    model.coefs_ = [4 * weights for weights in coefs]
    far = 1e308 * np.sign(model.coefs_[0][:, :1].T)
    with pytest.raises(ValueError, match=r"value in X is 1e\+308.*same scale as the training data"):
        model.predict(far)
    model.coefs_ = [weights * 1e200 for weights in coefs]
    with pytest.raises(ValueError, match=r"in the weights \S+e\+\d+\. The weights are too large"):
        model.predict(X)
