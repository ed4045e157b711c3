"""Training that diverges or is interrupted ends with the last good weights, or an error."""

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.optimizers import OPTIMIZERS
from support import (
    BOTH,
    assert_same_network,
    data_for,
    few_epochs,
    interrupt,
    same_bits,
    some_parameters,
    value_data,
)

pytestmark = few_epochs

N_ROWS, N_FEATURES = 60, 4
SMALL = {"hidden_layer_sizes": (6,), "batch_size": 25, "random_state": 3}  # three batches an epoch


HUGE_TARGETS = value_data(N_ROWS)[0], 1e200 * value_data(N_ROWS)[1]
DIVERGING = {
    "a huge rate": (value_data(N_ROWS), {"learning_rate_init": 1e60}),
    "huge targets": (HUGE_TARGETS, {}),
    "huge targets, no epoch scored": (HUGE_TARGETS, {"early_stopping": True}),
    "huge input": ((1e30 * value_data(N_ROWS)[0], value_data(N_ROWS)[1]), {}),
}


@pytest.mark.parametrize("case", DIVERGING)
def test_divergence_ends_training_with_an_error_that_names_rate_and_scale(case, capsys):
    data, changes = DIVERGING[case]
    settings = SMALL | {"solver": "sgd", "activation": "identity", "max_iter": 50} | changes
    with pytest.raises(ValueError, match=r"learning_rate_init[\s\S]* X"):
        BackpropRegressor(verbose=True, **settings).fit(*data)
    assert capsys.readouterr().out.count("Iteration") < 10


def test_divergence_after_a_scored_epoch_keeps_the_best_weights_and_warns():
    X, y = value_data(N_ROWS, N_FEATURES)
    settings = SMALL | {"solver": "sgd", "activation": "identity", "learning_rate_init": 0.8}
    settings |= {"early_stopping": True, "max_iter": 100, "n_iter_no_change": 100}
    regressor = BackpropRegressor(**settings)
    with pytest.warns(ConvergenceWarning, match=r"learning_rate_init[\s\S]* X"):
        regressor.fit(X, y)
    assert regressor.n_iter_ == len(regressor.validation_scores_) < 100
    assert regressor.best_validation_score_ == max(regressor.validation_scores_)
    best = BackpropRegressor(**settings | {"max_iter": regressor.best_iter_}).fit(X, y)
    assert_same_network(regressor, best, rtol=0, atol=0)
    assert regressor.t_ == regressor.n_iter_ * best.t_ / best.n_iter_
    assert np.isfinite(regressor.predict(X)).all()


def test_a_warm_fit_that_diverges_in_a_later_epoch_leaves_no_records():
    data = value_data(N_ROWS, N_FEATURES)
    settings = SMALL | {"solver": "sgd", "activation": "identity", "max_iter": 100}
    regressor = BackpropRegressor(**settings | {"warm_start": True, "max_iter": 2}).fit(*data)
    losses = regressor.loss_curve_
    with pytest.raises(ValueError, match=r"diverged in epoch ([2-9]|\d\d)"):
        regressor.set_params(max_iter=100, learning_rate_init=0.8).fit(*data)
    assert regressor.loss_curve_ == losses


def interrupt_step(monkeypatch, solver, n_steps):
    interrupt(monkeypatch, OPTIMIZERS[solver], "step", n_steps)


@pytest.mark.parametrize(
    "settings",
    [
        {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 1, "tol": 1.0},
        {"solver": "adam"},
    ],
    ids=["adaptive", "adam"],
)
@BOTH
@pytest.mark.parametrize("max_iter", [3, 10])  # the interrupt is in the third epoch
def test_training_goes_on_after_an_interrupt(estimator_class, settings, max_iter, monkeypatch):
    """As if nothing had happened: moments, order, stream and schedule went back as well."""
    X, y = data_for(estimator_class, N_ROWS)
    settings = SMALL | settings
    whole = estimator_class(max_iter=6, **settings).fit(X, y)
    interrupted = estimator_class(max_iter=max_iter, warm_start=True, **settings)
    interrupt_step(monkeypatch, settings["solver"], 7)
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit(X, y)
    assert same_bits(interrupted.set_params(max_iter=4).fit(X, y), whole)


@BOTH
def test_interrupt_in_the_first_epoch_leaves_the_initial_weights(estimator_class, monkeypatch):
    X, y = data_for(estimator_class, N_ROWS)
    start = some_parameters(N_FEATURES, 6, 3 if estimator_class is BackpropClassifier else 1)
    estimator = estimator_class(init=start, **SMALL)
    interrupt_step(monkeypatch, "adam", 1)
    with pytest.raises(KeyboardInterrupt):
        estimator.fit(X, y)
    for array, initial in zip(estimator.coefs_, start[0], strict=True):
        np.testing.assert_array_equal(array, initial)
    assert estimator.n_iter_ == estimator.t_ == 0
    assert estimator.loss_curve_ == []
    assert len(estimator.predict(X)) == N_ROWS

    whole = estimator_class(max_iter=2, init=start, **SMALL).fit(X, y)
    assert same_bits(estimator.partial_fit(X, y).partial_fit(X, y), whole)
