"""Is the penalty half the sum of squared weights, with that gradient, and are biases free?"""

import numpy as np
import pytest

from skbackprop.core.penalties import L2
from skbackprop.testing import check_gradient
from stacks import DTYPES

N_WEIGHTS = 30


def weights_of(n_members, dtype=np.float64):
    """Return weights as a slice of wider parameters, which they are in a network."""
    theta = np.random.RandomState(0).normal(size=(n_members, N_WEIGHTS + 5)).astype(dtype)
    return theta[:, :N_WEIGHTS]


def gradient(penalty, weights, scale=1.0):
    g = np.zeros_like(weights)
    penalty.add_gradient([(weights, g, np.full_like(weights, np.nan))], scale)
    return g


def alphas(n_members):
    return 0.3 if n_members == 1 else np.array([[0.3], [0.0], [2.0]])


@pytest.mark.parametrize("n_members", [1, 3])
def test_gradient_is_the_derivative_of_the_value(n_members):
    penalty = L2(alphas(n_members))

    def value_and_gradient(weights):
        measures = penalty.measure(weights)[:, None]
        return penalty.value(measures).sum(), gradient(penalty, weights)

    check_gradient(value_and_gradient, weights_of(n_members))


@pytest.mark.parametrize("dtype", DTYPES)
def test_value_is_half_the_sum_of_squares_of_each_member_and_step(dtype):
    weights = weights_of(3, dtype)
    penalty = L2(alphas(3))
    steps = np.array([penalty.measure(weights), penalty.measure(2 * weights)], dtype=float).T
    half = np.array([0.15, 0.0, 1.0]) * (weights.astype(float) ** 2).sum(axis=1)
    expected = np.column_stack([half, 4 * half])
    np.testing.assert_allclose(penalty.value(steps), expected, rtol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_is_added_block_by_block_with_its_scale(dtype):
    weights, scale = weights_of(3, dtype), np.array([[0.5], [1.0], [2.0]])
    g, scratch = np.ones_like(weights), np.empty((3, 7), dtype)
    starts = range(0, N_WEIGHTS, 7)
    blocks = [(weights[:, i : i + 7], g[:, i : i + 7], scratch[:, : N_WEIGHTS - i]) for i in starts]
    L2(alphas(3)).add_gradient(blocks, scale)
    expected = 1 + alphas(3) * scale * weights.astype(float)
    np.testing.assert_allclose(g, expected, rtol=4 * np.finfo(dtype).eps)
    assert g.dtype == dtype
