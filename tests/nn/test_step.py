"""The gradient of a step is the derivative of the loss and the penalty, clipped by its norm."""

import numpy as np
import pytest

from skbackprop import BackpropRegressor
from skbackprop.activations import ACTIVATIONS, ActivationFunction
from skbackprop.nn.stack import L1L2, L2, clip_by_global_norm
from skbackprop.testing import check_gradient
from skbackprop.utils import arrays
from support import BOTH, changed, data_for, few_epochs, pairs, quick, same_bits, value_data
from support.stacks import (
    DTYPES,
    KINDS_OF_ROWS,
    LOSSES,
    NETWORK,
    assert_same_bits,
    batch_gradient,
    dense_network,
    in_turn,
    some_parameters,
    some_table,
)

N_ROWS, WIDTHS = 9, (4, 5, 6, 6)
ALPHAS = {1: 0.7, 3: np.array([[0.7], [0.0], [2.0]])}
RATIOS = {1: 0.3, 3: np.array([[0.3], [0.6], [1.0]])}
PENALTIES = {
    "free": lambda n_estimators: L2(0.0),
    "l2": lambda n_estimators: L2(ALPHAS[n_estimators]),
    "elastic": lambda n_estimators: L1L2(ALPHAS[n_estimators], RATIOS[n_estimators]),
}
STACKS = ["one", "three", "three on the same rows"]


class Cube(ActivationFunction):
    """f(z) = z^3, f'(z) = 3 z^2: an activation that needs its input again."""

    needs_preactivation = True

    def forward(self, z, a):
        np.power(z, 3, out=a)

    def backward(self, z, a, delta):
        delta *= 3 * z**2


def rows_of(stack, loss, widths, **options):
    seeds = {"one": [0], "three": range(3)}.get(stack, [0])
    tables = [some_table(loss, N_ROWS, widths, seed=seed, **options) for seed in seeds]
    return tables * 3 if stack == "three on the same rows" else tables


# Every loss, every activation, and each two of the other settings; with weights of targets, every
# loss that has several targets.
@pytest.mark.parametrize(
    "loss, activation, penalty, stack, rows",
    [
        (*parts, *others)
        for parts, others in in_turn(
            in_turn(LOSSES.values(), [*ACTIVATIONS.values(), Cube()]),
            pairs(list(PENALTIES), STACKS, KINDS_OF_ROWS),
        )
    ]
    + [
        (loss, ACTIVATIONS["tanh"], "l2", "three", {"weighted": "by target"})
        for loss in LOSSES.values()
        if not getattr(loss, "multiclass", False)
    ],
    ids=str,
)
def test_the_gradient_is_the_derivative_of_the_value(loss, activation, penalty, stack, rows):
    network = dense_network(WIDTHS, (activation, activation))
    tables = rows_of(stack, loss, WIDTHS, **rows)
    start = some_parameters(network, range(len(tables)))

    def value_and_gradient(theta, dtype):
        arguments = network, loss, tables
        penalty_of = PENALTIES[penalty](len(tables))
        value, exact, _ = batch_gradient(*arguments, start.with_arrays(theta), penalty_of)
        single = start.with_arrays(theta.astype(dtype))
        gradient = batch_gradient(*arguments, single, penalty_of)[1]
        assert gradient.dtype == dtype
        return value, exact if dtype == np.float64 else gradient

    for dtype, rtol in ((np.float64, 1e-6), (np.float32, 1e-4)):
        check_gradient(
            lambda theta, dtype=dtype: value_and_gradient(theta, dtype),
            start.theta,
            n_directions=2,
            rtol=rtol,
        )


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_penalty_in_blocks_is_that_at_once(penalty, n_estimators, monkeypatch):
    loss, penalty = LOSSES["log_loss-softmax"], PENALTIES[penalty](n_estimators)
    tables = [some_table(loss, N_ROWS, NETWORK.widths, seed=seed) for seed in range(n_estimators)]
    arguments = NETWORK, loss, tables, some_parameters(NETWORK, range(n_estimators)), penalty
    value, gradient, _ = batch_gradient(*arguments)
    monkeypatch.setattr(arrays, "BLOCK", 7)
    value_in_blocks, gradient_in_blocks, _ = batch_gradient(*arguments)
    assert value_in_blocks == value
    assert_same_bits(gradient_in_blocks, gradient)


# -------------------------------------------------------------------------------- clipping

every_dtype = pytest.mark.parametrize("dtype", DTYPES)
LENGTHS = [1e-3, 0.5, 1.0, 2.0, 1e3]


def gradients(lengths=LENGTHS, n=100, dtype=np.float64):
    g = np.random.RandomState(0).normal(size=(len(lengths), n))
    return (g / np.linalg.norm(g, axis=1, keepdims=True) * np.c_[lengths]).astype(dtype)


def test_clipping_worked_by_hand():
    g = np.array([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    clip_by_global_norm(g, 1.0)
    np.testing.assert_allclose(g, [[0.6, 0.8], [0.3, 0.4], [0, 0]], rtol=1e-15)
    clip_by_global_norm(g, np.array([[2.0], [0.05], [1.0]]))
    np.testing.assert_allclose(g, [[0.6, 0.8], [0.03, 0.04], [0, 0]], rtol=1e-15)


@every_dtype
def test_only_gradients_beyond_the_norm_are_scaled(dtype):
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
def test_gradients_whose_squares_overflow_or_underflow_are_clipped(dtype, scale):
    g = gradients([3.0 * scale, 0.5 * scale], dtype=dtype)
    expected = np.array([[1 / 3], [1.0]]) * g
    with np.errstate(over="ignore"):  # as in training
        clip_by_global_norm(g, scale)
    np.testing.assert_allclose(g, expected, rtol=1e-6 if dtype == np.float32 else 1e-14)


@every_dtype
@pytest.mark.parametrize("clip_norm", [1.0, 1e-300, np.array([[1e-30], [np.inf], [1.0]])])
def test_the_largest_floats_are_clipped(clip_norm, dtype):
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
def test_gradients_that_are_not_finite_stay_so(value, dtype):
    g = changed(gradients(dtype=dtype), (3, 7), value)
    clip_by_global_norm(g, 0.1)
    assert not np.isfinite(g[3]).all()
    np.testing.assert_allclose(np.linalg.norm(g[[1, 2, 4]], axis=1), 0.1, rtol=1e-6)


@few_epochs
@BOTH
@pytest.mark.parametrize("solver, bound", [("adam", 1e6), ("lbfgs", 1e-9)])
def test_a_bound_that_is_never_reached_clips_nothing_nor_does_lbfgs(solver, bound, estimator_class):
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
