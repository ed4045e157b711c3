"""scale_target trains on standardized targets, and predicts in the units of y."""

import numpy as np
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropRegressor
from skbackprop.losses import Quantile
from support import few_epochs, quick, same_bits, value_data

X, Y = value_data(60, n_outputs=2)
Y = 1e4 + [3e3, 5] * Y
pytestmark = few_epochs


def scaled(**settings):
    return quick(BackpropRegressor, scale_target=True, **settings)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("y", [Y, Y[:, 0]], ids=["two targets", "one target"])
def test_equals_transformed_target_regressor(y, solver):
    own = scaled(solver=solver).fit(X, y)
    around = TransformedTargetRegressor(
        quick(BackpropRegressor, solver=solver), transformer=StandardScaler()
    ).fit(X, y)
    np.testing.assert_allclose(own.loss_curve_, around.regressor_.loss_curve_)
    np.testing.assert_allclose(own.predict(X), around.predict(X))
    assert own.score(X, y) == pytest.approx(around.score(X, y), rel=1e-9)


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
def test_mean_and_scale_are_those_of_the_rows_as_they_weigh(weighted):
    repeats = np.random.RandomState(0).randint(0, 3, 60) if weighted else np.ones(60, int)
    model = scaled().fit(X, Y, sample_weight=repeats if weighted else None)
    np.testing.assert_allclose(model.target_mean_, Y.repeat(repeats, axis=0).mean(axis=0))
    np.testing.assert_allclose(model.target_scale_, Y.repeat(repeats, axis=0).std(axis=0))
    plain = quick(BackpropRegressor).fit(X, Y)
    assert plain.target_mean_ is None
    assert plain.target_scale_ is None


@pytest.mark.parametrize("constant", [0.1, 0.0, -1e9])
def test_a_constant_target_has_the_scale_one(constant):
    y = np.column_stack([np.full(60, constant), Y[:, 0]])
    model = scaled().fit(X, y)
    assert (model.target_mean_[0], model.target_scale_[0]) == (constant, 1)
    assert np.abs(model.predict(X)[:, 0] - constant).max() < 3
    # Rows of weight zero do not count.
    y[0, 0], weight = 7.0, np.r_[0, np.ones(59)]
    assert scaled().fit(X, y, sample_weight=weight).target_scale_[0] == 1


def test_quantiles_and_deviations_are_in_the_units_of_y():
    for loss in (Quantile([0.1, 0.9]), "gaussian"):
        y = (Y - Y.mean(axis=0)) / Y.std(axis=0)
        model, by_hand = scaled(loss=loss).fit(X, Y), quick(BackpropRegressor, loss=loss).fit(X, y)
        axes = (1, -1, 1) if isinstance(loss, Quantile) else (1, -1)
        mean, scale = Y.mean(axis=0).reshape(axes), Y.std(axis=0).reshape(axes)
        predicted, std = model.predict(X, return_std=True)
        expected, expected_std = by_hand.predict(X, return_std=True)
        np.testing.assert_allclose(predicted, mean + scale * expected)
        if loss == "gaussian":
            np.testing.assert_allclose(std, scale * expected_std)


@pytest.mark.parametrize("loss", ["poisson", "gamma", "tweedie"])
def test_targets_of_positive_means_are_divided_by_their_mean(loss):
    y = np.abs(Y)
    model = scaled(loss=loss).fit(X, y)
    by_hand = quick(BackpropRegressor, loss=loss).fit(X, y / y.mean(axis=0))
    np.testing.assert_array_equal(model.target_mean_, [0, 0])
    np.testing.assert_allclose(model.target_scale_, y.mean(axis=0))
    np.testing.assert_allclose(model.predict(X), y.mean(axis=0) * by_hand.predict(X))
    assert model.score(X, y) == pytest.approx(by_hand.score(X, y / y.mean(axis=0)), rel=1e-6)
    if loss == "poisson":
        assert scaled(loss=loss).fit(X, np.zeros(60)).target_scale_ == [1]


def test_targets_too_large_to_be_scaled_are_an_error():
    with pytest.raises(ValueError, match=r"y is too large to be scaled.*1\.\d+e\+308"):
        scaled().fit(X, 1.5e308 * np.linspace(-1, 1, 60))


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "poisson", "gaussian"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_training_is_the_same_in_any_unit_of_y(dtype, loss, weighted):
    """A power of two leaves all bits of y alone; predictions are in double precision."""
    y = 0.1 + np.abs(value_data(60)[1])
    weight = np.arange(60) % 3 if weighted else None
    settings = {"loss": loss, "dtype": dtype}
    expected = scaled(**settings).fit(X, y, sample_weight=weight)
    for exponent in (-990, -530, -115, 120, 530, 1000):
        in_unit = np.ldexp(y, exponent)
        model = scaled(**settings).fit(X, in_unit, sample_weight=weight)
        assert same_bits(model, expected)
        np.testing.assert_array_equal(model.predict(X), np.ldexp(expected.predict(X), exponent))
        if abs(exponent) < 500:  # squares of the errors neither overflow nor underflow
            assert model.score(X, in_unit) == expected.score(X, y)


@pytest.mark.parametrize("loss", ["squared_error", "gaussian", Quantile([0.1, 0.5, 0.9])], ids=str)
def test_a_mean_far_above_the_spread_does_not_round_predictions(loss):
    """Numbers like Unix time have no digits of single precision left for their spread."""
    offset, y = 1.7e9, Y[:, 1] - Y[:, 1].mean()
    settings = {"loss": loss, "dtype": "float32", "early_stopping": True, "n_estimators": 2}
    near, far = scaled(**settings).fit(X, y), scaled(**settings).fit(X, offset + y)
    np.testing.assert_allclose(far.predict(X) - offset, near.predict(X), atol=1e-3 * y.std())
    if loss == "gaussian":
        deviations = [model.predict(X, return_std=True)[1] for model in (far, near)]
        np.testing.assert_allclose(*deviations, rtol=1e-4)
    assert far.score(X, offset + y) == pytest.approx(near.score(X, y), abs=1e-4)
    np.testing.assert_allclose(far.validation_scores_, near.validation_scores_, atol=1e-4)


# --------------------------------------------------------------------------- in pieces


def test_mean_and_scale_stay_in_further_training_and_are_learned_anew_in_a_new_fit():
    for further in ("partial_fit", "fit"):
        model = scaled(warm_start=True).fit(X, Y)
        mean, scale = model.target_mean_, model.target_scale_
        getattr(model, further)(X, 10 * Y)
        assert model.target_mean_ is mean
        assert model.target_scale_ is scale
    anew = model.set_params(warm_start=False).fit(X, 10 * Y)
    np.testing.assert_allclose(anew.target_scale_, 10 * scale)
