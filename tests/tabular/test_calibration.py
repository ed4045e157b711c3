"""Do temperatures and weights of models maximize the likelihood?"""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, softmax

from skbackprop.tabular._calibration_and_weights import (
    calibrate,
    mixture_weights_nll,
    probabilities,
    stacking_weights_nnls,
    temperature_for_scores,
)
from skbackprop.tabular.classifier import ensemble_temperature


def logits_for(n_outputs, n=4000, seed=0):
    """Return scores, and labels drawn with the probabilities that they say."""
    rng = np.random.RandomState(seed)
    scores = 2 * rng.randn(n, n_outputs)
    predictions = probabilities(scores)
    return scores, np.array([rng.choice(predictions.shape[1], p=row) for row in predictions])


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
def test_probabilities(n_outputs):
    scores, _ = logits_for(n_outputs)
    predictions = probabilities(scores.astype(np.float32), 3.0)
    assert predictions.dtype == np.float64
    if n_outputs == 1:
        np.testing.assert_allclose(predictions[:, 1], expit(scores[:, 0] / 3), rtol=1e-5)
    else:
        np.testing.assert_allclose(predictions, softmax(scores / 3, axis=1), rtol=1e-5)
    np.testing.assert_allclose(predictions.sum(axis=1), 1)


@pytest.mark.parametrize("factor", [0.6, 1.0, 4.0])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_a_temperature_takes_back_what_scores_were_multiplied_by(n_outputs, factor):
    scores, codes = logits_for(n_outputs)
    assert temperature_for_scores(factor * scores, codes, None) == pytest.approx(factor, rel=0.1)


@pytest.mark.parametrize(
    "temperature, n_networks, expected",
    [(4.0, 8, 2.0), (0.5, 8, 0.5), (4.0, 1, 4.0), (0.5, 1, 0.5)],
)
def test_a_mean_is_made_no_softer_than_a_network_alone(temperature, n_networks, expected):
    assert ensemble_temperature(temperature, n_networks) == expected


def test_rows_weigh_and_the_lowest_is_kept():
    scores, codes = logits_for(3, 300)
    weight = np.random.RandomState(1).randint(0, 3, 300)
    repeated = [np.repeat(array, weight, axis=0) for array in (scores, codes)]
    expected = temperature_for_scores(*repeated, None)
    assert temperature_for_scores(scores, codes, weight) == pytest.approx(expected, rel=1e-2)
    sure = np.eye(3)[codes]
    assert temperature_for_scores(sure, codes, None) == pytest.approx(0.5, rel=1e-2)


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_a_loss_is_that_of_the_probabilities_with_the_best_temperature(n_outputs):
    scores, codes = logits_for(n_outputs, 500)
    several = np.array([0.5 * scores, scores, 3 * scores])
    weight = np.random.RandomState(1).rand(500)
    temperature, loss = calibrate(several, codes, weight)
    predictions = probabilities(several, temperature)[:, np.arange(500), codes]
    assert loss == pytest.approx(
        -np.average(np.log(predictions).mean(axis=0), weights=weight), rel=1e-9
    )
    as_one = np.vstack(several), np.tile(codes, 3), np.tile(weight, 3)
    assert temperature_for_scores(*as_one) == pytest.approx(temperature, rel=1e-3)
    for other in (0.9, 1.1):
        others = probabilities(several, other * temperature)[:, np.arange(500), codes]
        assert loss < -np.average(np.log(others).mean(axis=0), weights=weight)


def test_of_many_rows_some_tell_the_temperature():
    scores, codes = logits_for(1, 2000)
    many = np.tile(scores, (40, 1)), np.tile(codes, 40)
    assert temperature_for_scores(*many, None) == pytest.approx(
        temperature_for_scores(scores, codes, None), rel=0.03
    )
    weight = (np.arange(80_000) % 3 == 1).astype(float)  # of those that are looked at, none
    assert temperature_for_scores(*many, weight) == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_weights_are_those_of_the_likeliest_mixture(is_weighted):
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
def test_weights_are_those_of_the_least_squared_error(scale, is_weighted):
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


def test_weights_of_models_that_are_all_right_are_equal():
    y = np.arange(5.0)
    np.testing.assert_array_equal(stacking_weights_nnls(np.array([y, y]), y, None), [0.5, 0.5])
    np.testing.assert_array_equal(stacking_weights_nnls(np.array([y, 2 * y]), y, None), [1, 0])
