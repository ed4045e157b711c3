"""Training that is copied, saved or continued by another method gives the same bits.

Optimizer state, random state and order of the rows are compared by training for another epoch.
"""

import numpy as np
import pytest

from skbackprop import BackpropClassifier
from support import (
    class_data,
    classes_for,
    deep_copied,
    few_epochs,
    memory_mapped,
    pairs,
    pickled,
    safely_saved,
    same_bits,
    same_values,
)

# Only the adaptive schedule needs a finite n_iter_no_change, and warns at max_iter then.
pytestmark = few_epochs

N_ROWS, N_EPOCHS = 60, 12
SHARED = {
    "hidden_layer_sizes": (6, 5),
    "batch_size": 25,  # two full batches and a short one an epoch
    "alpha": 0.01,
    "random_state": 3,
    "n_iter_no_change": np.inf,
    "learning_rate_init": 0.02,
}
METHODS = {
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "learning_rate_init": 0.2},
    # With tol=10 no epoch counts as progress: the rate falls in every third epoch, so that pieces
    # of four epochs cut through the schedule's count, and is above the 1e-6 that ends training.
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "n_iter_no_change": 2, "tol": 10.0},
    "adam": {"solver": "adam", "dropout": 0.2},
    "in order": {"solver": "adam", "shuffle": False, "dtype": "float32"},
    "clipped": {"solver": "amsgrad", "clip_norm": 0.1, "l1_ratio": 0.5},
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
        assert same_bits(estimator, reference)
        assert (estimator.loss_, estimator.t_) == (reference.loss_, reference.t_)


TRIPS = [pickled, deep_copied, memory_mapped, safely_saved]


@pytest.mark.parametrize(
    "method, way, trip",
    pairs(list(METHODS), [by_partial_fit, by_warm_fits], TRIPS),
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_round_trip_continues_training_and_leaves_the_original_alone(method, way, trip, tmp_path):
    data = *class_data(N_ROWS), np.random.RandomState(1).uniform(0.1, 3, N_ROWS)
    settings = SHARED | METHODS[method]
    whole = by_fit(BackpropClassifier(**settings), *data, n_epochs=8)
    halfway = way(BackpropClassifier(**settings), *data, n_epochs=4)
    returned = trip(halfway, tmp_path)
    before = [array.copy() for array in halfway.coefs_]
    assert same_bits(returned, halfway)
    assert_same_state(way(returned, *data, n_epochs=4), whole, *data)
    assert same_values(halfway.coefs_, before)
