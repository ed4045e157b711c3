"""Gradient clipping: long gradients have the maximum norm, others stay unchanged."""

from dataclasses import replace

import numpy as np
import pytest

from skbackprop import BackpropRegressor
from skbackprop.nn.objective import DivergenceError
from skbackprop.nn.update import clip_by_global_norm
from skbackprop.optimizers import SGD
from support import (
    BOTH,
    changed,
    data_for,
    few_epochs,
    grows_by_less,
    peak_of,
    quick,
    same_bits,
    value_data,
)
from support.stacks import (
    DTYPES,
    LOSSES,
    Member,
    assert_same_bits,
    deep_network,
    iter_epochs,
    some_table,
    stack_of,
)

every_dtype = pytest.mark.parametrize("dtype", DTYPES)

LENGTHS = [1e-3, 0.5, 1.0, 2.0, 1e3]


def gradients(lengths=LENGTHS, n=100, dtype=np.float64):
    g = np.random.RandomState(0).normal(size=(len(lengths), n))
    return (g / np.linalg.norm(g, axis=1, keepdims=True) * np.c_[lengths]).astype(dtype)


def test_clipping_worked_by_hand():
    g = np.array([[3.0, 4.0], [0.3, 0.4]])
    clip_by_global_norm(g, 1.0)
    np.testing.assert_allclose(g, [[0.6, 0.8], [0.3, 0.4]], rtol=1e-15)
    clip_by_global_norm(g, np.array([[2.0], [0.05]]))
    np.testing.assert_allclose(g, [[0.6, 0.8], [0.03, 0.04]], rtol=1e-15)


@every_dtype
def test_scales_only_gradients_beyond_the_norm(dtype):
    g = gradients(dtype=dtype)
    clipped = g.copy()
    clip_by_global_norm(clipped, 0.75)
    assert_same_bits(clipped[:2], g[:2])
    expected = 0.75 * gradients([1.0] * 5)[2:]
    np.testing.assert_allclose(clipped[2:], expected, rtol=1e-6 if dtype == np.float32 else 1e-14)


@pytest.mark.parametrize(
    "dtype, scale",
    [(np.float32, 1e30), (np.float32, 1e-25), (np.float64, 1e200), (np.float64, 1e-200)],
)
def test_clips_gradients_whose_squares_overflow_or_underflow(dtype, scale):
    g = gradients([3.0 * scale, 0.5 * scale], dtype=dtype)
    expected = np.array([[1 / 3], [1.0]]) * g
    with np.errstate(over="ignore"):  # as training has it
        clip_by_global_norm(g, scale)
    np.testing.assert_allclose(g, expected, rtol=1e-6 if dtype == np.float32 else 1e-14)


@every_dtype
@pytest.mark.parametrize("clip_norm", [1.0, 1e-300, np.array([[1e-30], [np.inf], [1.0]])])
def test_clips_the_largest_floats(clip_norm, dtype):
    g = np.full((3, 8), np.finfo(dtype).max)
    with np.errstate(over="ignore"):
        clip_by_global_norm(g, clip_norm)
    bounds = np.broadcast_to(clip_norm, (3, 1)).ravel()
    norms = np.linalg.norm(g.astype(np.longdouble), axis=1)
    bounded = np.isfinite(bounds) & (bounds > np.finfo(dtype).tiny)
    np.testing.assert_allclose(norms[bounded], bounds[bounded], rtol=1e-6)
    assert np.isfinite(g).all()


@every_dtype
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_gradients_stay(value, dtype):
    g = gradients(dtype=dtype)
    g[3, 7] = value
    clip_by_global_norm(g, 0.1)
    assert not np.isfinite(g[3]).all()
    np.testing.assert_allclose(np.linalg.norm(g[[1, 2, 4]], axis=1), 0.1, rtol=1e-6)


def test_a_gradient_of_zero_stays_zero():
    g = np.zeros((2, 5))
    clip_by_global_norm(g, 1.0)
    assert not g.any()


@every_dtype
def test_each_member_is_clipped_as_if_alone(dtype):
    g = gradients(n=1001, dtype=dtype)
    bounds = np.array([[1e-4], [1.0], [0.3], [np.inf], [7.0]])
    together = g.copy()
    clip_by_global_norm(together, bounds)
    for i, bound in enumerate(bounds.ravel().tolist()):
        alone = g[i : i + 1].copy()
        clip_by_global_norm(alone, bound)
        assert_same_bits(together[i : i + 1], alone)


def test_clipping_takes_no_memory_that_grows_with_the_network():
    def peak(n):
        return peak_of(clip_by_global_norm, gradients(n=n), 0.5)

    peak(10)
    # 80,000 numbers more would be 80,000 bytes even as booleans.
    assert grows_by_less(peak, 20_000, 100_000, 20_000)


# -------------------------------------------------------------------------- in training

NETWORK, LOSS = deep_network(), LOSSES["squared_error-identity"]


def trained(members, clip_norm, n_epochs=3):
    stack = stack_of(members, NETWORK, LOSS, SGD())
    stack.rule = replace(stack.rule, clip_norm=clip_norm)
    for _ in iter_epochs(stack, n_epochs):
        pass
    return stack


def members():
    return [
        Member(
            some_table(LOSS, 12 + 8 * seed, NETWORK.widths, seed=seed), seed, alpha=0.1, rate=0.01
        )
        for seed in range(3)
    ]


def test_the_members_of_a_stack_have_bounds_of_their_own():
    bounds = np.array([[0.1], [np.inf], [0.5]])
    together = trained(members(), bounds)
    for i, (member, bound) in enumerate(zip(members(), bounds.ravel().tolist(), strict=True)):
        alone = trained([member], bound)
        assert_same_bits(together.parameters.theta[i : i + 1], alone.parameters.theta)


def test_drop_members_drops_their_clip_norms():
    stack = trained(members(), np.array([[0.1], [0.2], [0.5]]))
    stack.drop_members(np.array([True, False, False]))
    np.testing.assert_array_equal(stack.rule.clip_norm, [[0.2], [0.5]])
    stack.drop_members(np.array([False, True]))
    assert stack.rule.clip_norm == 0.2


def test_the_step_of_gradient_descent_is_no_longer_than_rate_times_norm():
    """The penalty is part of what is clipped."""
    member = Member(some_table(LOSS, 8, NETWORK.widths), rate=0.5, alpha=1e6)
    stack = stack_of([member], NETWORK, LOSS, SGD(0.0, nesterovs_momentum=False))
    stack.rule = replace(stack.rule, clip_norm=0.01)
    before = stack.parameters.theta.copy()
    next(iter_epochs(stack, 1))
    step = np.linalg.norm(stack.parameters.theta - before)
    assert step == pytest.approx(0.5 * 0.01, rel=1e-9)


def test_an_infinite_gradient_is_divergence():
    member = Member(some_table(LOSS, 8, NETWORK.widths))
    stack = stack_of([member], NETWORK, LOSS, SGD())
    stack.rule = replace(stack.rule, clip_norm=0.1)
    stack.parameters.theta[...] = 1e200
    with pytest.raises(DivergenceError):
        next(iter_epochs(stack, 1))


@few_epochs
@BOTH
@pytest.mark.parametrize("solver, bound", [("adam", 1e6), ("lbfgs", 1e-9)])
def test_a_bound_never_reached_clips_nothing_nor_does_lbfgs(solver, bound, estimator_class):
    X, y = data_for(estimator_class)
    free, bounded = (
        quick(estimator_class, solver=solver, clip_norm=clip_norm).fit(X, y)
        for clip_norm in (None, bound)
    )
    assert same_bits(free, bounded)


@few_epochs
def test_clipping_keeps_an_outlier_from_wrecking_the_network():
    X, y = value_data(100)
    X[3] *= 1e3
    y = changed(y, 3, 1e4)
    settings = {"solver": "sgd", "learning_rate_init": 0.02, "batch_size": 10, "random_state": 0}
    with pytest.raises(ValueError, match="diverged"):
        BackpropRegressor((20,), **settings).fit(X, y)
    model = BackpropRegressor((20,), clip_norm=1.0, **settings).fit(X, y)
    others = np.arange(100) != 3
    assert model.score(X[others], y[others]) > 0.8
