"""Built layers compute their functions and write their gradients."""

import numpy as np
import pytest
from scipy import sparse

from skbackprop.activations import ACTIVATIONS, ActivationFunction, SelfGated
from skbackprop.layers.dense import BuiltActivation, BuiltDense, BuiltSelfGated, BuiltSparseDense
from skbackprop.testing import check_gradient
from support.stacks import DTYPES

pytestmark = pytest.mark.every

N_ROWS = 6
# (fan_in, fan_out), also where NumPy's products take a path of their own.
SHAPES = [(4, 3), (1, 3), (4, 1), (1, 1)]

every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
every_stack = pytest.mark.parametrize("n_estimators", [1, 3])


def drawn(n_estimators, *shape, dtype=np.float64, seed=0):
    """Return random numbers with a member axis, or without it for one member, as in a pass."""
    array = np.random.RandomState(seed).normal(size=(n_estimators, *shape)).astype(dtype)
    return array[0] if n_estimators == 1 else array


def dense(kind, n_estimators, fan_in, fan_out, n_rows=N_ROWS, dtype=np.float64, is_first=False):
    """Return a layer whose gradients are not a number until it has left them."""
    W = drawn(n_estimators, fan_in, fan_out, dtype=dtype)
    b = drawn(n_estimators, 1, fan_out, dtype=dtype)
    x = drawn(n_estimators, n_rows, fan_in, dtype=dtype)
    d_weights, d_biases, grad_input = (np.full_like(array, np.nan) for array in (W, b, x))
    return kind(W, b, d_weights, d_biases, None if is_first else grad_input)


@pytest.mark.parametrize("dtype", DTYPES)
@every_stack
@every_shape
def test_dense_is_an_affine_map_of_each_member(shape, n_estimators, dtype):
    layer = dense(BuiltDense, n_estimators, *shape, dtype=dtype)
    x = drawn(n_estimators, N_ROWS, shape[0], dtype=dtype, seed=1)
    out = np.empty((*x.shape[:-1], shape[1]), dtype)
    layer.forward(x, out)
    expected = np.einsum("...ni,...io->...no", x.astype(float), layer.weights) + layer.biases
    np.testing.assert_allclose(out, expected, rtol=1e-5, atol=10 * np.finfo(dtype).eps)


@pytest.mark.parametrize("n_rows", [1, N_ROWS])
@every_stack
@every_shape
def test_gradients_of_dense_are_derivatives(shape, n_estimators, n_rows):
    fan_in, fan_out = shape
    x = drawn(n_estimators, n_rows, fan_in, seed=1)
    slope = drawn(n_estimators, n_rows, fan_out, seed=2)

    def value(layer, x):
        out = np.empty_like(slope)
        layer.forward(x, out)
        return (slope * out).sum()

    def by_input(x):
        layer = dense(BuiltDense, n_estimators, fan_in, fan_out, n_rows)
        return value(layer, x), layer.backward(slope.copy())

    def by(name):
        def value_and_gradient(parameter):
            layer = dense(BuiltDense, n_estimators, fan_in, fan_out, n_rows)
            getattr(layer, name)[...] = parameter
            scalar = value(layer, x)
            layer.backward(slope.copy())
            return scalar, getattr(layer, f"d_{name}")

        return value_and_gradient

    check_gradient(by_input, x)
    check_gradient(by("weights"), drawn(n_estimators, fan_in, fan_out, seed=3))
    check_gradient(by("biases"), drawn(n_estimators, 1, fan_out, seed=3))


@every_stack
def test_the_first_layer_makes_no_gradient_by_its_input(n_estimators):
    layer = dense(BuiltDense, n_estimators, 4, 3, is_first=True)
    layer.forward(drawn(n_estimators, N_ROWS, 4), drawn(n_estimators, N_ROWS, 3))
    delta = drawn(n_estimators, N_ROWS, 3)
    assert layer.backward(delta) is delta
    assert np.isfinite(layer.d_weights).all()


@every_stack
@every_shape
def test_sparse_input_gives_what_dense_input_gives(shape, n_estimators):
    fan_in, fan_out = shape
    x = drawn(n_estimators, N_ROWS, fan_in, seed=1)
    x = x * (x > 0)
    on_dense, on_sparse = (
        dense(kind, n_estimators, fan_in, fan_out, is_first=True)
        for kind in (BuiltDense, BuiltSparseDense)
    )
    outs = []
    for layer, rows in [
        (on_dense, x),
        (on_sparse, [sparse.csr_array(own) for own in x.reshape(n_estimators, N_ROWS, fan_in)]),
    ]:
        outs.append(np.full((*x.shape[:-1], fan_out), np.nan))
        layer.forward(rows, outs[-1])
        layer.backward(drawn(n_estimators, N_ROWS, fan_out, seed=2))
    np.testing.assert_allclose(*outs, rtol=1e-13)
    np.testing.assert_allclose(on_sparse.d_weights, on_dense.d_weights, rtol=1e-13, atol=1e-15)
    np.testing.assert_allclose(on_sparse.d_biases, on_dense.d_biases, rtol=1e-13)


class Square(ActivationFunction):
    """f(z) = z^2, f'(z) = 2 z: an activation that needs its input again."""

    needs_preactivation = True

    def forward(self, z, a):
        np.multiply(z, z, out=a)

    def backward(self, z, a, delta):
        np.multiply(delta, z, out=delta)
        np.multiply(delta, 2.0, out=delta)


@pytest.mark.parametrize(
    "activation", [*ACTIVATIONS.values(), Square()], ids=[*ACTIVATIONS, "square"]
)
def test_activation_layer_matches_finite_differences(activation):
    slope = drawn(3, N_ROWS, 4, seed=2)

    def value_and_gradient(z):
        z = z.copy()
        layer = BuiltActivation(activation)
        a = np.empty_like(z) if activation.needs_preactivation else z
        layer.forward(z, a)
        value = (slope * a).sum()
        return value, layer.backward(slope.copy())

    check_gradient(value_and_gradient, drawn(3, N_ROWS, 4, seed=1))


GATED = {name: kind for name, kind in ACTIVATIONS.items() if isinstance(kind, SelfGated)}


@pytest.mark.parametrize("can_overwrite_input", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GATED)
def test_saved_gate_gives_the_same_bits(name, dtype, can_overwrite_input):
    z, delta = (drawn(3, 900, 4, seed=seed).astype(dtype) for seed in (1, 2))
    outcomes = []
    for kind in (BuiltActivation, BuiltSelfGated):
        buffers = [np.empty_like(z)] if kind is BuiltSelfGated else []
        layer = kind(GATED[name], None if can_overwrite_input else np.empty_like(z), *buffers)
        x, a = z.copy(), np.empty_like(z)
        layer.forward(x, a)
        np.testing.assert_array_equal(x, z)
        outcomes.append((a.copy(), layer.backward(delta.copy())))
    for plain, kept in zip(*outcomes, strict=True):
        assert plain.tobytes() == kept.tobytes()
