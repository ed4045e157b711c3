"""The learning rate finder suggests rates that train well, and changes nothing."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropRegressor,
    find_learning_rate,
)
from skbackprop.optimizers import OPTIMIZERS
from support import BOTH, class_data, data_for, quick, value_data

DIGITS = load_digits(return_X_y=True)
DIGITS = DIGITS[0] / 16, DIGITS[1]


def same_result(one, other):
    return all(
        np.array_equal(a, b) for a, b in zip(vars(one).values(), vars(other).values(), strict=True)
    )


# --------------------------------------------------------------------------------- result


@pytest.mark.parametrize("solver", OPTIMIZERS)
@pytest.mark.parametrize("batch_size", [32, 200])
def test_suggestion_trains_well(batch_size, solver):
    """The suggestion reduces the loss from 2.3 to below 0.3 in 20 epochs; 1 % of it does not."""
    model = BackpropClassifier((32,), solver=solver, batch_size=batch_size, random_state=0)
    found = find_learning_rate(model, *DIGITS)
    model.set_params(max_iter=20, n_iter_no_change=np.inf)
    losses = [
        model.set_params(learning_rate_init=factor * found.suggestion).fit(*DIGITS).loss_
        for factor in (0.01, 1.0)
    ]
    assert losses[1] < 0.3
    assert losses[1] < losses[0] / 4


def test_autoencoder_equals_regressor_of_x_on_x():
    X = StandardScaler().fit_transform(class_data(100, 6)[0])
    settings = {"activation": "identity", "batch_size": 10, "random_state": 0}
    regressor = BackpropRegressor((5, 2, 5), **settings)
    found = find_learning_rate(BackpropAutoencoder(2, (5,), **settings), X)
    assert same_result(found, find_learning_rate(regressor, X, X))


def test_rates_are_geometric_and_the_lowest_loss_is_between_them():
    found = find_learning_rate(BackpropClassifier(random_state=0), *DIGITS)
    assert found.rates[0] == 1e-6
    factors = found.rates[1:] / found.rates[:-1]
    np.testing.assert_allclose(factors, 1e7 ** (1 / 99), rtol=1e-12)
    assert len(found.rates) == len(found.losses) == len(found.smoothed_losses) <= 100
    assert np.isfinite(found.losses).all() and np.isfinite(found.smoothed_losses).all()
    lowest = np.argmin(found.smoothed_losses)
    assert 0 < lowest < len(found.rates) - 1
    assert found.suggestion == pytest.approx(found.rates[lowest] / 10)
    assert type(found.suggestion) is float
    # The first steps hardly move, so theirs are losses of the initial network.
    assert np.abs(found.losses[:10] - np.log(10)).max() < 0.3


def test_losses_equal_those_of_training():
    """At a constant rate with full batches, the losses equal those of a fit."""
    X, y = value_data()
    settings = {"batch_size": 60, "alpha": 0.1, "learning_rate_init": 0.01}
    model = quick(BackpropRegressor, **settings, max_iter=20, n_iter_no_change=np.inf)
    almost = 0.01 * (1 + 1e-9)
    with pytest.warns(UserWarning, match="still falling"):
        found = find_learning_rate(model, X, y, smallest=0.01, largest=almost, n_steps=20)
    np.testing.assert_allclose(found.losses, model.fit(X, y).loss_curve_, rtol=1e-6)


def test_batches_have_equal_size():
    """With 60 rows and batches of 25, the ten remaining rows are not used."""
    X, y = value_data()
    model = quick(BackpropRegressor, batch_size=25, solver="sgd", momentum=0, shuffle=False)
    found = find_learning_rate(model, X, y, smallest=1e-9, largest=1.0)
    np.testing.assert_allclose(found.losses[0:10:2], found.losses[0], rtol=1e-4)
    np.testing.assert_allclose(found.losses[1:10:2], found.losses[1], rtol=1e-4)
    assert found.losses[0] != found.losses[1]


# ----------------------------------------------------------------------- settings and data


@BOTH
@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "float32", "n_estimators": 3, "early_stopping": True, "alpha": 1.0},
        {"learning_rate": "one_cycle", "solver": "sgd", "batch_size": 7, "shuffle": False},
        {"learning_rate": lambda progress: 0.0, "warm_start": True, "random_state": None},
    ],
    ids=" ".join,
)
def test_with_all_settings(changes, estimator_class):
    X, y = data_for(estimator_class)
    found = find_learning_rate(quick(estimator_class, **changes), X, y)
    assert np.isfinite(found.losses).all()
    assert 1e-6 < found.suggestion < 10


@BOTH
def test_rows_of_weight_zero_are_ignored(estimator_class):
    X, y = data_for(estimator_class)
    stays = np.arange(len(X)) % 3 > 0
    model = quick(estimator_class, batch_size=8, shuffle=False)
    weighted = find_learning_rate(model, X, y, sample_weight=stays.astype(float))
    expected = find_learning_rate(model, X[stays], y[stays])
    np.testing.assert_allclose(weighted.losses[:50], expected.losses[:50], rtol=1e-9)


def test_pipeline_transforms_first():
    X, y = class_data()
    X = 100 * X + 1_000
    network = quick(BackpropClassifier)
    found = find_learning_rate(make_pipeline(StandardScaler(), network), X, y)
    expected = find_learning_rate(network, StandardScaler().fit_transform(X), y)
    assert same_result(found, expected)
    alone = find_learning_rate(network, X, y)
    assert not same_result(alone, expected)
    assert same_result(find_learning_rate(make_pipeline(network), X, y), alone)


# ---------------------------------------------------------------------------- side effects


def test_is_reproducible_and_changes_nothing():
    X, y = class_data()
    model = quick(BackpropClassifier, warm_start=True, n_iter_no_change=np.inf).fit(X, y)
    model.set_params(random_state=np.random.RandomState(3))
    before, data = pickle.dumps(model), (X.copy(), y.copy())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [find_learning_rate(each, X, y) for each in (model, model, clone(model))]
    assert pickle.dumps(model) == before
    assert same_result(found[0], found[1]) and same_result(found[0], found[2])
    np.testing.assert_array_equal(X, data[0])
    np.testing.assert_array_equal(y, data[1])


# --------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"smallest": 0}, "smallest and largest must be .* got 0 and 10.0"),
        ({"smallest": 1.0, "largest": 0.1}, "with 0 < smallest < largest"),
        ({"largest": np.inf}, "must be finite numbers"),
        ({"n_steps": 19}, "n_steps must be an int of at least 20, got 19"),
        ({"n_steps": 50.0}, "n_steps must be an int"),
    ],
)
def test_raises_on_parameters_out_of_range(changes, message):
    with pytest.raises(ValueError, match=message):
        find_learning_rate(quick(BackpropClassifier), *class_data(), **changes)


def test_raises_on_other_estimators():
    for estimator in (LogisticRegression(), make_pipeline(StandardScaler(), LogisticRegression())):
        with pytest.raises(TypeError, match="BackpropClassifier, .*, a BackpropAutoencoder or"):
            find_learning_rate(estimator, *class_data())


def test_raises_if_first_steps_diverge():
    X, y = value_data()
    model = quick(BackpropRegressor, solver="sgd", activation="identity")
    with pytest.raises(ValueError, match=r"diverged after \d+ steps, .*Lower smallest .*now 100"):
        find_learning_rate(model, 1e6 * X, y, smallest=100, largest=1e9)


def test_raises_if_no_rate_lowers_the_loss():
    X, y = value_data()
    model = quick(BackpropRegressor, solver="sgd", batch_size=60)
    with pytest.raises(
        ValueError, match=r"The loss did not fall at any rate between 1e-300 and 1e-200"
    ):
        find_learning_rate(model, X, y, smallest=1e-300, largest=1e-200)


def test_warns_if_the_loss_still_falls_at_the_largest_rate():
    X, y = value_data()
    model = quick(BackpropRegressor, batch_size=60)
    with pytest.warns(UserWarning, match=r"still falling at the largest rate, 0\.001"):
        found = find_learning_rate(model, X, y, largest=1e-3)
    assert found.suggestion == pytest.approx(1e-4)
