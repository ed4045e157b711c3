"""Are initial weights drawn from the distributions that were published?"""

import numpy as np
import pytest
from scipy import stats
from sklearn.neural_network import MLPClassifier

from skbackprop import initializers
from skbackprop.activations import ACTIVATIONS
from skbackprop.initializers import INITIALIZERS, GlorotUniform, Initializer, VarianceScaling
from support.stacks import deep_network, public_kinds, without_formula

# What init="auto" draws from where scikit-learn has the activation: it has no name.
AUTO = GlorotUniform()
EVERY = {**INITIALIZERS, "auto": AUTO}
every_initializer = pytest.mark.parametrize("initializer", EVERY.values(), ids=EVERY)

PUBLISHED_VARIANCES = {
    "glorot": lambda fan_in, fan_out: 2 / (fan_in + fan_out),  # equation 12
    "he": lambda fan_in, fan_out: 2 / fan_in,  # equation 10
    "lecun": lambda fan_in, fan_out: 1 / fan_in,  # equation 16
}


def test_table_is_complete_and_every_docstring_has_a_formula():
    kinds = public_kinds(initializers, Initializer)
    assert kinds == {type(initializer) for initializer in EVERY.values()}
    assert without_formula(kinds) == set()


@every_initializer
def test_weights_and_biases_have_their_shapes_and_break_symmetry(initializer):
    weights, biases = initializer.draw(np.random.RandomState(0), 5, 3)
    assert (weights.shape, biases.shape) == ((5, 3), (3,))
    assert np.isfinite(weights).all()
    assert np.isfinite(biases).all()
    assert len(np.unique(weights)) == weights.size


@pytest.mark.parametrize("shape", [(400, 100), (100, 400)], ids=str)
@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize("scheme", PUBLISHED_VARIANCES)
def test_weights_have_the_published_distribution(scheme, distribution, shape):
    deviation = np.sqrt(PUBLISHED_VARIANCES[scheme](*shape))
    initializer = INITIALIZERS[f"{scheme}_{distribution}"]
    weights, biases = initializer.draw(np.random.RandomState(0), *shape)
    if distribution == "uniform":
        bound = np.sqrt(3) * deviation
        assert np.abs(weights).max() <= bound
        expected = stats.uniform(-bound, 2 * bound)
    else:
        expected = stats.norm(0, deviation)
    # With 40,000 draws, a deviation that is 3 % off has a p-value below 1e-3.
    assert stats.kstest(weights.ravel(), expected.cdf).pvalue > 1e-3
    assert stats.kstest(1.05 * weights.ravel(), expected.cdf).pvalue < 1e-3
    assert not biases.any()


@pytest.mark.parametrize("name", ["identity", "logistic", "tanh", "relu"])
def test_glorot_uniform_makes_the_draws_of_scikit_learn(name):
    network = deep_network()
    theirs = MLPClassifier(activation=name)
    theirs._random_state = np.random.RandomState(7)
    expected = [theirs._init_coef(*shape, np.float64) for shape in network.shapes["weights"]]
    drawn = network.draw_weights(np.random.RandomState(7), ACTIVATIONS[name].initializer)
    for (weights, biases), (their_weights, their_biases) in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(weights, their_weights)
        np.testing.assert_array_equal(biases, their_biases)


@every_initializer
def test_draws_depend_on_the_random_state_alone(initializer):
    network = deep_network()
    first, again, other = (
        network.draw_weights(np.random.RandomState(seed), initializer) for seed in (1, 1, 2)
    )
    for (weights, _), (same, _), (different, _) in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(weights, same)
        assert not np.array_equal(weights, different)


def test_modes_and_distributions_are_those_of_keras():
    weights = {
        mode: VarianceScaling(2.0, mode).draw(np.random.RandomState(0), 3, 5)[0]
        for mode in ("fan_in", "fan_out", "fan_avg")
    }
    largest = np.abs(np.random.RandomState(0).uniform(-1, 1, (3, 5))).max()
    bounds = {mode: np.abs(drawn).max() / largest for mode, drawn in weights.items()}
    expected = {"fan_in": 3 * 2 / 3, "fan_out": 3 * 2 / 5, "fan_avg": 3 * 2 / 4}
    assert {mode: bound**2 for mode, bound in bounds.items()} == pytest.approx(expected)
