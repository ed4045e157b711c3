"""Penalties have the values and gradients of their formulas, without biases."""

import numpy as np
import pytest
from sklearn.linear_model import ElasticNet as LinearElasticNet
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropRegressor
from skbackprop.nn.objective import L1L2, L2
from skbackprop.testing import check_gradient
from support import BOTH, data_for, few_epochs, grows_by_less, peak_of, quick
from support.stacks import DTYPES, assert_same_bits

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


def gradient(penalty, weights, scale=1.0):
    g = np.zeros_like(weights)
    penalty.add_gradient([(weights, g, np.full_like(weights, np.nan))], scale)
    return g


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
def test_gradient_is_the_derivative_of_the_value(penalty, n_estimators):
    def value_and_gradient(weights):
        measures = penalty.accumulate(weights)[:, None]
        return penalty.value(measures).sum(), gradient(penalty, weights)

    check_gradient(value_and_gradient, weights_of(n_estimators))


@every_dtype
@every_stack
def test_value_is_the_formula_for_each_member_and_step(penalty, dtype):
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


@every_dtype
def test_penalty_sums_do_not_depend_on_the_stack(dtype):
    weights = weights_of(9, dtype, n_weights=10_000)
    together = L1L2(0.1, np.linspace(0.1, 0.9, 9)[:, None]).accumulate(weights)
    for i, ratio in enumerate(np.linspace(0.1, 0.9, 9).tolist()):
        alone = L1L2(0.1, ratio).accumulate(weights[i : i + 1].copy())
        assert_same_bits(together[i : i + 1], alone)


@every_dtype
def test_l1_ratio_zero_is_l2(dtype):
    weights = weights_of(1, dtype)
    elastic, l2 = L1L2(0.3, 0.0), L2(0.3)
    np.testing.assert_array_equal(gradient(elastic, weights), gradient(l2, weights))
    values = [p.value(p.accumulate(weights).astype(float)[:, None]) for p in (elastic, l2)]
    np.testing.assert_allclose(*values, rtol=1e-14)


@every_stack
def test_a_penalty_is_its_smooth_part_and_the_rest(penalty):
    weights = weights_of(3)
    values, smooth = (
        p.value(p.accumulate(weights)[:, None])[:, 0] for p in (penalty, penalty.smooth)
    )
    rest = np.ravel(penalty.l1) * np.abs(weights).sum(axis=1)
    np.testing.assert_allclose(smooth + rest, values, rtol=1e-13)


def test_penalty_sums_take_constant_memory():
    def peak(n_weights):
        return peak_of(STACKS["elastic"].accumulate, weights_of(3, n_weights=n_weights))

    peak(10_000)
    # 80,000 weights more would be 240,000 bytes even as booleans.
    assert grows_by_less(peak, 20_000, 100_000, 20_000)


def test_zero_alpha_ignores_overflow():
    for penalty in (L2(0.0), L1L2(0.0, 0.5)):
        with np.errstate(invalid="ignore"):  # as training has it
            assert penalty.value(np.array([[np.inf]])) == 0


# --------------------------------------------------------------------- in the estimators


def linear_data(n=200, n_features=12):
    """Return standardized X, of which the first three columns alone matter, and y."""
    rng = np.random.RandomState(0)
    X = StandardScaler().fit_transform(rng.randn(n, n_features) + 0.5 * rng.randn(n, 1))
    return X, X[:, :3] @ [2.0, -1.0, 0.5] + 3 + 0.3 * rng.randn(n)


@pytest.mark.parametrize("l1_ratio", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("alpha", [0.01, 0.1, 1.0])
def test_a_network_without_hidden_layers_is_scikit_learns_elastic_net(alpha, l1_ratio):
    """By L-BFGS, with the very zeros; there the strength is per row."""
    X, y = linear_data()
    reference = LinearElasticNet(alpha=alpha, l1_ratio=l1_ratio, tol=1e-12, max_iter=10_000)
    reference.fit(X, y)
    model = BackpropRegressor(
        (), solver="lbfgs", alpha=len(X) * alpha, l1_ratio=l1_ratio, tol=1e-9, random_state=0
    ).fit(X, y)
    np.testing.assert_allclose(model.coefs_[0][:, 0], reference.coef_, atol=5e-5)
    np.testing.assert_allclose(model.intercepts_[0], reference.intercept_, atol=5e-5)
    np.testing.assert_array_equal(model.coefs_[0][:, 0] == 0, reference.coef_ == 0)


@few_epochs
@BOTH
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_reported_loss_includes_the_penalty(estimator_class, solver):
    """That of the last iteration, or of one batch before the only step."""
    X, y = data_for(estimator_class)
    settings = {"solver": solver, "max_iter": 1, "batch_size": len(X)}
    free, regularized = (
        quick(estimator_class, alpha=alpha, l1_ratio=0.3, **settings).fit(X, y) for alpha in (0, 2)
    )
    if solver == "adam":
        start = quick(estimator_class, learning_rate_init=1e-300, **settings).fit(X, y).coefs_
        sums = sum(0.3 * np.abs(w).sum() + 0.35 * (w**2).sum() for w in start)
        assert regularized.loss_ - free.loss_ == pytest.approx(2 * sums / len(X), rel=1e-10)
    assert regularized.loss_ > free.loss_


@few_epochs
@BOTH
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_a_row_of_weight_two_is_the_row_twice(estimator_class, solver):
    X, y = data_for(estimator_class)
    weight = np.random.RandomState(0).randint(1, 3, len(X))
    settings = {"alpha": 0.5, "l1_ratio": 0.5, "batch_size": weight.sum(), "shuffle": False}
    weighted = quick(estimator_class, solver=solver, **settings | {"batch_size": len(X)})
    repeated = quick(estimator_class, solver=solver, **settings)
    weighted.fit(X, y, sample_weight=weight)
    repeated.fit(np.repeat(X, weight, axis=0), np.repeat(y, weight))
    for one, other in zip(weighted.coefs_, repeated.coefs_, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-9)
