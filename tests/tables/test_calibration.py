"""Are temperatures and weights of models those of the greatest likelihood?"""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, softmax

from skbackprop.tables.calibration import (
    probabilities,
    temperature_for,
    weights_by_likelihood,
    weights_by_squared_error,
)


def logits_for(n_outputs, n=4000, seed=0):
    """Return scores, and labels drawn with the probabilities that they say."""
    rng = np.random.RandomState(seed)
    scores = 2 * rng.randn(n, n_outputs)
    said = probabilities(scores)
    return scores, np.array([rng.choice(said.shape[1], p=row) for row in said])


@pytest.mark.parametrize("n_outputs", [1, 2, 5])
def test_probabilities(n_outputs):
    scores, _ = logits_for(n_outputs)
    said = probabilities(scores.astype(np.float32), 3.0)
    assert said.dtype == np.float64
    if n_outputs == 1:
        np.testing.assert_allclose(said[:, 1], expit(scores[:, 0] / 3), rtol=1e-5)
    else:
        np.testing.assert_allclose(said, softmax(scores / 3, axis=1), rtol=1e-5)
    np.testing.assert_allclose(said.sum(axis=1), 1)


@pytest.mark.parametrize("factor", [0.6, 1.0, 4.0])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_a_temperature_takes_back_what_scores_were_multiplied_by(n_outputs, factor):
    scores, codes = logits_for(n_outputs)
    assert temperature_for(factor * scores, codes, None) == pytest.approx(factor, rel=0.1)


def test_rows_weigh_and_the_lowest_is_kept():
    scores, codes = logits_for(3, 300)
    weight = np.random.RandomState(1).randint(0, 3, 300)
    repeated = [np.repeat(array, weight, axis=0) for array in (scores, codes)]
    expected = temperature_for(*repeated, None)
    assert temperature_for(scores, codes, weight) == pytest.approx(expected, rel=1e-2)
    sure = np.eye(3)[codes]
    assert temperature_for(sure, codes, None) == pytest.approx(0.5, rel=1e-2)


@pytest.mark.parametrize("is_weighted", [False, True])
def test_weights_are_those_of_the_likeliest_mixture(is_weighted):
    rng = np.random.RandomState(0)
    likelihoods = rng.uniform(0.1, 0.9, (3, 200)) ** [[1.0], [0.7], [2.0]]
    weight = rng.rand(200) if is_weighted else None

    def loss(free):
        return -np.average(np.log(softmax(free) @ likelihoods), weights=weight)

    best = minimize(loss, np.zeros(3))
    found = weights_by_likelihood(likelihoods, weight)
    assert found.sum() == pytest.approx(1)
    assert loss(np.log(found)) == pytest.approx(best.fun, abs=1e-4)
    np.testing.assert_array_equal(weights_by_likelihood(likelihoods[:1], weight), [1.0])


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
    found = weights_by_squared_error(scale * predictions, scale * y, weight)
    assert found.sum() == pytest.approx(1)
    assert found.min() < 0.01
    assert loss(found) == pytest.approx(best.fun, rel=1e-4)


def test_weights_of_models_that_are_all_right_are_equal():
    y = np.arange(5.0)
    np.testing.assert_array_equal(weights_by_squared_error(np.array([y, y]), y, None), [0.5, 0.5])
    np.testing.assert_array_equal(weights_by_squared_error(np.array([y, 2 * y]), y, None), [1, 0])
