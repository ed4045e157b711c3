"""Is training in pieces the same as training at once? The same bits, whatever the pieces.

`fit(max_iter=40)`, 40 times `partial_fit` and 10 warm fits of 4 epochs have to give the same
weights, losses and counters, also with a copy or a trip to the disk in the middle. That the
optimizer's moments, the random stream and the order of the rows are the same too shows one epoch
later: all are trained on, and would part if anything differed.
"""

import copy

import joblib
import numpy as np
import pytest
from scipy import sparse

from skbackprop import BackpropClassifier, BackpropRegressor
from support import (
    assert_same_network,
    class_data,
    deep_copied,
    few_epochs,
    memory_mapped,
    pickled,
    safely_saved,
    same_bits,
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
    "clipped": {"solver": "amsgrad", "clip_norm": 0.1, "l1_ratio": 0.5, "learning_rate_init": 0.01},
}


def by_fit(estimator, X, y, sample_weight, n_epochs=N_EPOCHS):
    estimator.set_params(max_iter=n_epochs, warm_start=False)
    return estimator.fit(X, y, sample_weight=sample_weight)


def by_partial_fit(estimator, X, y, sample_weight, n_epochs=N_EPOCHS):
    for _ in range(n_epochs):
        classes = {"classes": np.unique(y)} if isinstance(estimator, BackpropClassifier) else {}
        estimator.partial_fit(X, y, sample_weight=sample_weight, **classes)
    return estimator


def by_warm_fits(estimator, X, y, sample_weight, n_epochs=N_EPOCHS):
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


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("container", [np.asarray, sparse.csr_array], ids=["dense", "sparse"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weights"])
@pytest.mark.parametrize("shuffle", [True, False], ids=["shuffled", "in order"])
@pytest.mark.parametrize("method", METHODS)
def test_training_in_pieces_matches_a_single_fit(method, shuffle, weighted, container, dtype):
    X, y = value_data(N_ROWS, n_outputs=2)
    weight = np.random.RandomState(1).uniform(0.1, 3, N_ROWS) if weighted else None
    data = container(X.astype(dtype)), y, weight
    settings = {**SHARED, **METHODS[method], "shuffle": shuffle}

    whole = by_fit(BackpropRegressor(**settings), *data)
    assert whole.n_iter_ == N_EPOCHS == len(whole.loss_curve_)
    assert whole.t_ == N_EPOCHS * N_ROWS and whole.coefs_[0].dtype == dtype
    again = copy.deepcopy(whole.set_params(warm_start=True))  # assert_same_state trains it on

    by_epochs = by_partial_fit(BackpropRegressor(**settings), *data)
    assert by_epochs.n_iter_ == 1
    assert_same_state(by_epochs, whole, *data)

    by_fours = by_warm_fits(BackpropRegressor(**settings), *data)
    assert by_fours.n_iter_ == 4
    assert_same_state(by_fours, again, *data)


@pytest.mark.long
@pytest.mark.parametrize("method", ["momentum invscaling", "nesterov adaptive", "adam"])
def test_a_classifier_in_pieces_matches_a_single_fit(method):
    data = *class_data(N_ROWS), None
    settings = SHARED | METHODS[method]
    whole = by_fit(BackpropClassifier(**settings), *data)
    again = by_fit(BackpropClassifier(**settings), *data)
    assert_same_state(by_partial_fit(BackpropClassifier(**settings), *data), whole, *data)
    assert_same_state(by_warm_fits(BackpropClassifier(**settings), *data), again, *data)


@pytest.mark.parametrize("method", METHODS)
def test_fit_partial_fit_and_warm_start_can_be_mixed(method):
    """A cold fit, then `partial_fit`, then warm fits."""
    data = *value_data(N_ROWS), None
    settings = SHARED | METHODS[method]
    whole = by_fit(BackpropRegressor(**settings), *data)

    mixed = by_fit(BackpropRegressor(**settings), *data, n_epochs=12)
    by_partial_fit(mixed, *data, n_epochs=4)
    by_warm_fits(mixed, *data, n_epochs=8)
    assert_same_state(mixed, whole, *data)


def test_adaptive_schedule_has_an_effect_here():
    data = *value_data(N_ROWS), None
    settings = SHARED | METHODS["sgd adaptive"]
    adaptive = by_fit(BackpropRegressor(**settings), *data, n_epochs=40)
    constant = by_fit(BackpropRegressor(**settings | {"learning_rate": "constant"}), *data)
    assert constant.n_iter_ == 7 and adaptive.n_iter_ == 40
    assert adaptive.loss_curve_[:7] == constant.loss_curve_
    assert np.ptp(adaptive.loss_curve_[-3:]) < 1e-4 < np.ptp(adaptive.loss_curve_[:3])


# ------------------------------------------------------------------- a trip in the middle


def dumped(estimator, folder):
    joblib.dump(estimator, folder / "estimator.joblib")
    return joblib.load(folder / "estimator.joblib")


TRIPS = [pickled, deep_copied, dumped, memory_mapped, safely_saved]


@pytest.mark.long
@pytest.mark.parametrize("trip", TRIPS, ids=lambda trip: trip.__name__)
@pytest.mark.parametrize("way", [by_partial_fit, by_warm_fits], ids=lambda way: way.__name__)
@pytest.mark.parametrize("method", METHODS)
def test_round_trip_in_the_middle(method, way, trip, tmp_path):
    data = *class_data(N_ROWS), np.random.RandomState(1).uniform(0.1, 3, N_ROWS)
    settings = SHARED | METHODS[method]
    whole = by_fit(BackpropClassifier(**settings), *data)

    halfway = way(BackpropClassifier(**settings), *data, n_epochs=12)
    returned = trip(halfway, tmp_path)
    assert same_bits(returned, halfway)
    np.testing.assert_array_equal(returned.predict_proba(data[0]), halfway.predict_proba(data[0]))
    assert_same_state(way(returned, *data, n_epochs=12), whole, *data)


@pytest.mark.long
@pytest.mark.parametrize("trip", TRIPS, ids=lambda trip: trip.__name__)
def test_copies_share_no_arrays_with_the_original(trip, tmp_path):
    """Training one leaves the other alone, though their arrays once were the same."""
    data = *value_data(N_ROWS), None
    home = by_partial_fit(BackpropRegressor(**SHARED), *data, n_epochs=3)
    coefs = [array.copy() for array in home.coefs_]
    traveller = trip(home, tmp_path)
    by_partial_fit(traveller, *data, n_epochs=3)

    for kept, now, trained in zip(coefs, home.coefs_, traveller.coefs_, strict=True):
        np.testing.assert_array_equal(now, kept)
        assert not np.array_equal(trained, kept)


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
