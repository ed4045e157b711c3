"""Do temperatures and weights of models maximize the likelihood?"""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, softmax

from skbackprop.tabular._ensemble_weights import (
    compute_probabilities,
    ensemble_temperature,
    fit_class_shifts,
    fit_softmax_temperature,
    mixture_weights_nll,
    stacking_weights_nnls,
)


def make_logits(n_outputs, n=4000, seed=0):
    """Return logits, and classes drawn with their probabilities."""
    rng = np.random.RandomState(seed)
    logits = 2 * rng.randn(n, n_outputs)
    shares = compute_probabilities(logits)
    return logits, np.array([rng.choice(shares.shape[1], p=row) for row in shares])


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
def test_probabilities_match_scipy(n_outputs):
    logits, _ = make_logits(n_outputs, 100)
    found = compute_probabilities(logits.astype(np.float32), 3.0)
    assert found.dtype == np.float64
    if n_outputs == 1:
        np.testing.assert_allclose(found[:, 1], expit(logits[:, 0] / 3), rtol=1e-5)
    else:
        np.testing.assert_allclose(found, softmax(logits / 3, axis=1), rtol=1e-5)
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize("factor", [0.6, 1.0, 4.0])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_temperature_recovers_the_factor_of_the_logits(n_outputs, factor):
    logits, codes = make_logits(n_outputs)
    assert fit_softmax_temperature(factor * logits, codes, None)[0] == pytest.approx(
        factor, rel=0.1
    )


@pytest.mark.parametrize(
    "temperature, n_networks, expected",
    [(4.0, 8, 2.0), (0.5, 8, 0.5), (4.0, 1, 4.0), (0.5, 1, 0.5)],
)
def test_temperature_of_an_ensemble(temperature, n_networks, expected):
    assert ensemble_temperature(temperature, n_networks) == expected


def test_temperature_with_weights_equals_repeated_rows():
    logits, codes = make_logits(3, 300)
    weight = np.random.RandomState(1).randint(0, 3, 300)
    repeated = [np.repeat(array, weight, axis=0) for array in (logits, codes)]
    expected = fit_softmax_temperature(*repeated, None)[0]
    assert fit_softmax_temperature(logits, codes, weight)[0] == pytest.approx(expected, rel=1e-2)


def test_temperature_is_at_least_one_half():
    _, codes = make_logits(3, 300)
    assert fit_softmax_temperature(np.eye(3)[codes], codes, None)[0] == pytest.approx(0.5, rel=1e-2)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_calibrated_loss_is_the_mean_log_loss_and_minimal(n_outputs):
    logits, codes = make_logits(n_outputs, 500)
    several = np.array([0.5 * logits, logits, 3 * logits])
    weight = np.random.RandomState(1).rand(500)

    def log_loss_at(temperature):
        shares = compute_probabilities(several, temperature)[:, np.arange(500), codes]
        return -np.average(np.log(shares).mean(axis=0), weights=weight)

    temperature, loss = fit_softmax_temperature(several, codes, weight)
    assert loss == pytest.approx(log_loss_at(temperature), rel=1e-9)
    assert loss < min(log_loss_at(0.9 * temperature), log_loss_at(1.1 * temperature))
    as_one = np.vstack(several), np.tile(codes, 3), np.tile(weight, 3)
    assert fit_softmax_temperature(*as_one)[0] == pytest.approx(temperature, rel=1e-3)


def test_temperature_of_many_rows_comes_from_a_sample():
    logits, codes = make_logits(1, 2000)
    many = np.tile(logits, (40, 1)), np.tile(codes, 40)
    expected, _ = fit_softmax_temperature(logits, codes, None)
    assert fit_softmax_temperature(*many, None)[0] == pytest.approx(expected, rel=0.03)
    weight = (np.arange(80_000) % 3 == 1).astype(float)
    assert fit_softmax_temperature(*many, weight)[0] == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_mixture_weights_maximize_the_likelihood(is_weighted):
    rng = np.random.RandomState(0)
    likelihoods = rng.uniform(0.1, 0.9, (3, 200)) ** [[1.0], [0.7], [2.0]]
    weight = rng.rand(200) if is_weighted else None

    def loss(free):
        return -np.average(np.log(softmax(free) @ likelihoods), weights=weight)

    best = minimize(loss, np.zeros(3))
    found = mixture_weights_nll(likelihoods, weight)
    assert found.sum() == pytest.approx(1)
    assert loss(np.log(found)) == pytest.approx(best.fun, abs=1e-4)
    np.testing.assert_array_equal(mixture_weights_nll(likelihoods[:1], weight), [1.0])


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e8])
def test_stacking_weights_minimize_the_squared_error(scale, is_weighted):
    rng = np.random.RandomState(0)
    y = rng.randn(200)
    noise = rng.randn(4, 200) * [[0.5], [0.4], [0.6], [0.5]]
    predictions = y + noise + [[0.0], [0.1], [0.2], [3.0]]
    weight = rng.rand(200) if is_weighted else None

    def loss(weights):
        return np.average((weights @ predictions - y) ** 2, weights=weight)

    best = minimize(lambda free: loss(softmax(free)), np.zeros(4))
    found = stacking_weights_nnls(scale * predictions, scale * y, weight)
    assert found.sum() == pytest.approx(1)
    assert found.min() < 0.01
    assert loss(found) == pytest.approx(best.fun, rel=1e-4)


def test_stacking_weights_of_perfect_models():
    y = np.arange(5.0)
    np.testing.assert_array_equal(stacking_weights_nnls(np.array([y, y]), y, None), [0.5, 0.5])
    np.testing.assert_array_equal(stacking_weights_nnls(np.array([y, 2 * y]), y, None), [1, 0])


# -------------------------------------------------------------------------------- shifts


def shifted_means(probabilities, shifts, weight):
    logits = np.log(probabilities) + shifts
    return np.average(softmax(logits, axis=1), axis=0, weights=weight)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_shifts_move_the_mean_of_each_class_towards_its_frequency(n_classes):
    rng = np.random.default_rng(n_classes)
    truth = softmax(rng.normal(size=(3_000, n_classes)) * 2 - 2 * np.arange(n_classes), axis=1)
    codes = (truth.cumsum(axis=1) < rng.random((3_000, 1))).sum(axis=1)
    weight = rng.integers(0, 3, 3_000).astype(float)
    given = softmax(np.log(truth) + np.linspace(0, -0.5, n_classes), axis=1)
    shifts = fit_class_shifts(given, codes, weight)
    frequencies = np.bincount(codes, weight) / weight.sum()
    means = np.average(given, axis=0, weights=weight)
    noise = weight**2 @ (given * (1 - given)) / weight.sum() ** 2
    z_squared = (frequencies - means) ** 2 / noise
    expected = means + (frequencies - means) * z_squared / (1 + z_squared)
    found = shifted_means(given, shifts, weight)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=1e-6)
    repeated = [np.repeat(values, weight.astype(int), axis=0) for values in (given, codes)]
    assert np.abs(fit_class_shifts(*repeated, None) - shifts).max() < 0.1  # less noise


def test_shifts_of_equal_rows_by_hand():
    probabilities, codes = np.tile([0.9, 0.1], (100, 1)), np.arange(100) < 30
    low, high = fit_class_shifts(probabilities, codes.astype(int), None)
    share = (0.2**2 / (0.2**2 + 0.09 / 100)) * 0.2 + 0.1
    assert high - low == pytest.approx(np.log(share / (1 - share)) - np.log(0.1 / 0.9), abs=1e-4)
    assert np.abs(fit_class_shifts(probabilities, np.arange(100) % 10 // 9, None)).max() < 1e-9


def test_classes_without_rows_and_sure_probabilities_stay_finite():
    sure = np.eye(3)[[0, 0, 1]]
    for codes in ([0, 0, 1], [0, 1, 1]):
        assert np.isfinite(fit_class_shifts(sure, np.array(codes), np.array([1, 2, 0.0]))).all()
