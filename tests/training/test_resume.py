"""Training that is copied, saved or continued by another method gives the same bits.

Optimizer state, random stream and order of the rows are compared by training for another epoch. The
contract suites compare the pieces themselves with a single fit.
"""

import copy

import numpy as np
import pytest

from skbackprop import BackpropClassifier, BackpropRegressor
from support import (
    assert_same_network,
    class_data,
    classes_for,
    deep_copied,
    few_epochs,
    memory_mapped,
    pickled,
    safely_saved,
    same_bits,
    same_values,
    value_data,
)

# Only the adaptive schedule needs a finite n_iter_no_change, and warns at max_iter then.
pytestmark = few_epochs

N_ROWS, N_EPOCHS = 60, 24
SHARED = {
    "hidden_layer_sizes": (6, 5),
    "batch_size": 25,  # two full batches and a short one an epoch
    "alpha": 0.01,
    "random_state": 3,
    "n_iter_no_change": np.inf,
}
SOLVERS = {
    "sgd": {"solver": "sgd", "momentum": 0.0},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "nesterov": {"solver": "sgd"},
}
# With tol=10 no epoch counts as progress: the rate falls in every sixth epoch, so that pieces
# of four epochs cut through the schedule's count, and is above the 1e-6 that ends training.
SCHEDULES = {
    "constant": {"learning_rate_init": 0.02},
    "invscaling": {"learning_rate": "invscaling", "learning_rate_init": 0.2},
    "adaptive": {
        "learning_rate": "adaptive",
        "learning_rate_init": 0.1,
        "n_iter_no_change": 5,
        "tol": 10.0,
    },
}
METHODS = {
    f"{solver} {schedule}": SOLVERS[solver] | SCHEDULES[schedule]
    for solver in SOLVERS
    for schedule in SCHEDULES
} | {
    "adam": {"solver": "adam", "learning_rate_init": 0.01},
    "in order": {"solver": "adam", "shuffle": False, "dtype": "float32"},
    "clipped": {"solver": "amsgrad", "clip_norm": 0.1, "l1_ratio": 0.5, "learning_rate_init": 0.01},
}


def by_fit(estimator, X, y, sample_weight=None, n_epochs=N_EPOCHS):
    estimator.set_params(max_iter=n_epochs, warm_start=False)
    return estimator.fit(X, y, sample_weight=sample_weight)


def by_partial_fit(estimator, X, y, sample_weight=None, n_epochs=N_EPOCHS):
    for _ in range(n_epochs):
        estimator.partial_fit(X, y, sample_weight=sample_weight, **classes_for(type(estimator)))
    return estimator


def by_warm_fits(estimator, X, y, sample_weight=None, n_epochs=N_EPOCHS):
    estimator.set_params(max_iter=4, warm_start=True)
    for _ in range(n_epochs // 4):
        estimator.fit(X, y, sample_weight=sample_weight)
    return estimator


def assert_same_state(estimator, reference, *data):
    """Assert that two estimators are the same to the bit, and will be after another epoch."""
    for n_more in (0, 1):
        for each in (estimator, reference):
            by_partial_fit(each, *data, n_epochs=n_more)
        assert_same_network(estimator, reference, rtol=0, atol=0)
        assert estimator.loss_curve_ == reference.loss_curve_
        assert estimator.loss_ == reference.loss_
        assert estimator.t_ == reference.t_
        assert estimator.coefs_[0].dtype == reference.coefs_[0].dtype


@pytest.mark.parametrize("method", METHODS)
def test_fit_partial_fit_and_warm_start_can_be_mixed(method):
    data, settings = value_data(N_ROWS), SHARED | METHODS[method]
    whole = by_fit(BackpropRegressor(**settings), *data)
    assert whole.n_iter_ == N_EPOCHS and whole.t_ == N_EPOCHS * N_ROWS

    mixed = by_fit(BackpropRegressor(**settings), *data, n_epochs=12)
    by_partial_fit(mixed, *data, n_epochs=4)
    by_warm_fits(mixed, *data, n_epochs=8)
    assert_same_state(mixed, whole, *data)


# ------------------------------------------------------------------- a trip in the middle


TRIPS = [pickled, deep_copied, memory_mapped, safely_saved]


@pytest.mark.long
@pytest.mark.parametrize("trip", TRIPS, ids=lambda trip: trip.__name__)
@pytest.mark.parametrize("way", [by_partial_fit, by_warm_fits], ids=lambda way: way.__name__)
@pytest.mark.parametrize("method", METHODS)
def test_a_round_trip_continues_training_and_leaves_the_original_alone(method, way, trip, tmp_path):
    data = *class_data(N_ROWS), np.random.RandomState(1).uniform(0.1, 3, N_ROWS)
    settings = SHARED | METHODS[method]
    whole = by_fit(BackpropClassifier(**settings), *data)

    halfway = way(BackpropClassifier(**settings), *data, n_epochs=12)
    returned = trip(halfway, tmp_path)
    before = [array.copy() for array in halfway.coefs_]
    assert same_bits(returned, halfway)
    assert_same_state(way(returned, *data, n_epochs=12), whole, *data)
    assert same_values(halfway.coefs_, before)


def test_another_number_of_rows_starts_a_new_order():
    """The last epoch's order is of use only for as many rows; the moments go on anyhow."""
    X, y = value_data(N_ROWS)
    estimator = BackpropRegressor(**SHARED)
    for n_rows in (N_ROWS, 30, N_ROWS):
        estimator.partial_fit(X[:n_rows], y[:n_rows])
    assert estimator.t_ == N_ROWS + 30 + N_ROWS
    assert len(estimator.loss_curve_) == 3


@pytest.mark.parametrize(
    "settings",
    [{}, {"early_stopping": True}, {"dropout": 0.3}, {"average": "polyak"}, {"n_estimators": 2}],
    ids=str,
)
def test_a_shallow_copy_trains_independently(settings):
    """What they share, arrays and all, is never changed in place."""
    X, y = class_data(N_ROWS)
    kept = SHARED | {"max_iter": 3, "warm_start": True} | settings
    original = BackpropClassifier(**kept).fit(X, y)
    expected = copy.deepcopy(original).fit(X, y)
    before = copy.deepcopy(original)
    other = copy.copy(original).fit(X, y)
    assert_same_network(other, expected)
    assert same_bits(original, before)
    assert_same_network(original.fit(X, y), expected)


def test_a_shallow_copy_draws_from_the_user_s_stream():
    X, y = class_data(N_ROWS)
    rng = np.random.RandomState(0)
    model = BackpropClassifier(random_state=rng).partial_fit(X, y, classes=[0, 1, 2])
    position = rng.get_state()[2]
    copy.copy(model).partial_fit(X, y)
    assert rng.get_state()[2] != position
