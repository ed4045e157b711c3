"""Warm starts continue training, and refuse changes of the network."""

import copy
import pickle

import numpy as np
import pytest
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split

from skbackprop import BackpropRegressor
from support import BOTH, data_for, few_epochs, same_bits, value_data

pytestmark = few_epochs

N_ROWS, N_FEATURES = 60, 4
SMALL = {"hidden_layer_sizes": (6,), "batch_size": 25, "random_state": 3}  # three batches an epoch


STRUCTURE = {
    "a width": {"hidden_layer_sizes": (7,)},
    "a depth": {"hidden_layer_sizes": (6, 6)},
    "activation": {"activation": "tanh"},
    "solver": {"solver": "sgd"},
    "loss": {"loss": "poisson"},
    "dtype": {"dtype": "float32"},
    "number of networks": {"n_estimators": 2},
    "scaling of targets": {"scale_target": True},
    "layers": {"layers": "scale"},
    "normalization": {"normalization": "layer"},
}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("case", STRUCTURE)
def test_change_of_structure_before_a_warm_fit_is_an_error(case, method):
    X, y = value_data(N_ROWS, N_FEATURES)
    y = np.abs(y)  # so that loss="poisson" has no other reason to complain
    regressor = BackpropRegressor(warm_start=True, max_iter=3, **SMALL).fit(X, y)
    before = copy.deepcopy(regressor)
    (name,) = STRUCTURE[case]
    regressor.set_params(**STRUCTURE[case])
    with pytest.raises(ValueError, match=name):
        getattr(regressor, method)(X, y)
    assert same_bits(regressor, before)


OTHERS = {
    **{"alpha": 1.0, "batch_size": 10, "learning_rate_init": 0.1, "momentum": 0.1},
    **{"nesterovs_momentum": False, "shuffle": False, "learning_rate": "invscaling"},
    **{"early_stopping": True, "beta_1": 0.5, "beta_2": 0.5, "epsilon": 0.1},
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_parameters_apply_in_a_warm_fit(name):
    X, y = value_data(N_ROWS, N_FEATURES)
    solver = "adam" if name in ("beta_1", "beta_2", "epsilon") else "sgd"
    settings = SMALL | {"solver": solver, "warm_start": True, "max_iter": 3}
    same, changed = (BackpropRegressor(**settings).fit(X, y) for _ in range(2))
    same.fit(X, y)
    changed.set_params(**{name: OTHERS[name]}).fit(X, y)
    assert len(changed.loss_curve_) == 6
    assert not np.array_equal(same.coefs_[0], changed.coefs_[0])


def test_shuffling_ends_with_a_warm_fit_in_order():
    settings = SMALL | {"solver": "sgd", "momentum": 0.0, "max_iter": 2, "warm_start": True}
    regressor, data = BackpropRegressor(**settings), value_data(N_ROWS, N_FEATURES)
    init = copy.deepcopy((regressor.fit(*data).coefs_, regressor.intercepts_))
    expected = BackpropRegressor(**settings, init=init, shuffle=False).fit(*data)
    assert np.array_equal(
        regressor.set_params(shuffle=False).fit(*data).predict(data[0]), expected.predict(data[0])
    )


def test_patience_begins_anew_with_a_warm_fit():
    settings = SMALL | {"tol": 10.0, "n_iter_no_change": 2, "warm_start": True, "max_iter": 4}
    regressor = BackpropRegressor(**settings)
    for _ in range(2):
        regressor.fit(*value_data(N_ROWS, N_FEATURES))
        assert regressor.n_iter_ == 4
        assert regressor.converged_  # in the last epoch as well


def test_warm_fit_holds_out_the_rows_of_the_first_fit():
    """The score of the weights that are kept is reached on the first fit's held-out rows."""
    X, y = value_data(N_ROWS, N_FEATURES)
    settings = SMALL | {"early_stopping": True, "warm_start": True, "validation_fraction": 0.25}
    settings |= {"solver": "sgd", "learning_rate_init": 0.02, "max_iter": 5}
    rng = np.random.RandomState(3)
    rng.uniform(size=N_FEATURES * 6 + 6 + 6 + 1)  # the draws of the initial weights
    _, held_out = train_test_split(np.arange(N_ROWS), test_size=0.25, random_state=rng)
    regressor = BackpropRegressor(**settings)
    for _ in range(3):
        regressor.fit(X, y)
        score = r2_score(y[held_out], regressor.predict(X[held_out]))
        assert np.isclose(score, regressor.best_validation_score_, rtol=1e-9)


@BOTH
def test_warm_fit_on_other_rows_or_with_another_share_draws_a_new_split(estimator_class):
    estimator = estimator_class(early_stopping=True, warm_start=True, max_iter=3, **SMALL)
    n_before = 0
    splits = (40, 0.25, 30), (60, 0.25, 45), (60, 0.5, 30), (60, 0, 60), (60, 0.5, 30)
    for n_rows, fraction, n_train in splits:
        estimator.set_params(early_stopping=fraction > 0, validation_fraction=fraction)
        estimator.fit(*data_for(estimator_class, n_rows))
        assert estimator.t_ - n_before == n_train * estimator.n_iter_
        n_before = estimator.t_


# ------------------------------------------------------------------ pickles

KEPT_IN_PICKLES = {
    "sgd": ({"solver": "sgd"}, 1),
    "adam": ({}, 1),
    "lbfgs": ({"solver": "lbfgs"}, 1),
    # Both moments of Adam where training is meant to continue.
    "warm start": ({"warm_start": True}, 3),
    "partial_fit": ({}, 3),
}


@pytest.mark.parametrize("way", KEPT_IN_PICKLES)
@BOTH
def test_pickle_holds_one_copy_of_the_weights_and_moments_where_training_goes_on(
    estimator_class, way
):
    """That it goes on to the bit is shown in test_estimator_contract.py."""
    settings, n_copies = KEPT_IN_PICKLES[way]
    X, y = data_for(estimator_class, N_ROWS, 100)
    estimator = estimator_class((300,), max_iter=2, random_state=0, **settings).fit(X, y)
    if way == "partial_fit":
        estimator.partial_fit(X, y)
    weights = sum(array.nbytes for array in estimator.coefs_ + estimator.intercepts_)
    assert n_copies - 0.1 < len(pickle.dumps(estimator)) / weights < n_copies + 0.1
