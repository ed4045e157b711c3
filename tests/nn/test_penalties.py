"""Penalties have the values and gradients of their formulas, without biases."""

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet, Ridge
from sklearn.preprocessing import scale

from skbackprop import BackpropRegressor
from skbackprop.nn.stack import L1L2, L2
from skbackprop.schedules import ExponentialDecay
from skbackprop.testing import check_gradient
from support import grows_by_less, peak_of
from support.stacks import DTYPES

N_WEIGHTS = 30
ALPHAS = np.array([[0.3], [0.0], [2.0]])
RATIOS = np.array([[0.5], [0.7], [1.0]])
# Of three members, and of one.
STACKS = {
    "l2": L2(ALPHAS),
    "elastic": L1L2(ALPHAS, RATIOS),
    "elastic of one ratio": L1L2(ALPHAS, 0.2),
    "elastic of one strength": L1L2(0.3, RATIOS),
}
ALONE = {"l2": L2(0.3), "elastic": L1L2(0.3, 0.6), "l1": L1L2(0.3, 1.0)}

every_stack = pytest.mark.parametrize("penalty", STACKS.values(), ids=STACKS)
every_dtype = pytest.mark.parametrize("dtype", DTYPES)


def weights_of(n_estimators, dtype=np.float64, n_weights=N_WEIGHTS):
    """Return weights as a slice of wider parameters, which they are in a network."""
    theta = np.random.RandomState(0).normal(size=(n_estimators, n_weights + 5)).astype(dtype)
    return theta[:, :n_weights]


def settings_of(penalty, i):
    """Return (alpha, l1_ratio) of a member."""
    ratio = getattr(penalty, "l1_ratio", 0.0)
    return tuple(np.broadcast_to(value, (3, 1))[i].item() for value in (penalty.alpha, ratio))


def naive_value(penalty, weights, i):
    alpha, ratio = settings_of(penalty, i)
    w = weights[i].astype(float)
    return alpha * (ratio * np.abs(w).sum() + (1 - ratio) / 2 * (w**2).sum())


@pytest.mark.parametrize(
    "penalty, n_estimators",
    [*((penalty, 3) for penalty in STACKS.values()), *((penalty, 1) for penalty in ALONE.values())],
)
def test_the_gradient_is_the_derivative_of_the_value(penalty, n_estimators):
    def value_and_gradient(weights):
        gradient, sums = np.zeros_like(weights), penalty.accumulate(weights)[:, None]
        penalty.add_gradient([(weights, gradient, np.full_like(weights, np.nan))], 1.0)
        return penalty.value(sums).sum(), gradient

    check_gradient(value_and_gradient, weights_of(n_estimators))


@every_dtype
@every_stack
def test_the_value_is_the_formula_for_each_member_and_step(penalty, dtype):
    weights = weights_of(3, dtype)
    steps = np.array([penalty.accumulate(weights), penalty.accumulate(2 * weights)], dtype=float).T
    expected = [[naive_value(penalty, w, i) for w in (weights, 2 * weights)] for i in range(3)]
    np.testing.assert_allclose(penalty.value(steps), expected, rtol=10 * np.finfo(dtype).eps)


@every_dtype
@every_stack
def test_the_gradient_is_added_block_by_block_with_its_scale(penalty, dtype):
    weights, scale = weights_of(3, dtype), np.array([[0.5], [1.0], [2.0]])
    weights[:, 3] = 0  # where |W| has a kink, its gradient is 0
    g, scratch = np.ones_like(weights), np.empty((3, 7), dtype)
    starts = range(0, N_WEIGHTS, 7)
    blocks = [(weights[:, i : i + 7], g[:, i : i + 7], scratch[:, : N_WEIGHTS - i]) for i in starts]
    penalty.add_gradient(blocks, scale)
    for i in range(3):
        alpha, ratio = settings_of(penalty, i)
        w = weights[i].astype(float)
        slope = alpha * (ratio * np.sign(w) + (1 - ratio) * w)
        np.testing.assert_allclose(g[i], 1 + scale[i] * slope, rtol=6 * np.finfo(dtype).eps)
    assert g.dtype == dtype


def test_sums_over_weights_take_constant_memory():
    def peak(n_weights):
        return peak_of(STACKS["elastic"].accumulate, weights_of(3, n_weights=n_weights))

    peak(10_000)
    # 80,000 weights more would be 240,000 bytes even as booleans.
    assert grows_by_less(peak, 20_000, 100_000, 20_000)


def test_zero_alpha_ignores_overflow():
    for penalty in (L2(0.0), L1L2(0.0, 0.5)):
        with np.errstate(invalid="ignore"):  # as in training
            assert penalty.value(np.array([[np.inf]])) == 0


# --------------------------------------------------------------------- in the estimators


@pytest.mark.parametrize("l1_ratio", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("alpha", [0.1, 1.0])
def test_a_network_without_hidden_layers_is_scikit_learns_elastic_net(alpha, l1_ratio):
    """There the strength is per row."""
    rng = np.random.RandomState(0)
    X = scale(rng.randn(100, 8) + 0.5 * rng.randn(100, 1))
    y = X[:, :3] @ [2.0, -1.0, 0.5] + 3 + 0.3 * rng.randn(100)
    theirs = (
        ElasticNet(alpha=alpha, l1_ratio=l1_ratio, tol=1e-12) if l1_ratio else Ridge(100 * alpha)
    )
    theirs.fit(X, y)
    settings = {"solver": "lbfgs", "tol": 1e-9}
    if l1_ratio:
        settings = {"solver": "adam", "learning_rate": ExponentialDecay(1e-3), "max_iter": 500}
        settings |= {"learning_rate_init": 0.3, "n_iter_no_change": np.inf}
    model = BackpropRegressor((), alpha=100 * alpha, l1_ratio=l1_ratio, random_state=0, **settings)
    model.fit(X, y), theirs.fit(X, y)
    np.testing.assert_allclose(model.coefs_[0][:, 0], theirs.coef_, atol=5e-4)
    np.testing.assert_allclose(model.intercepts_[0], theirs.intercept_, atol=5e-4)
