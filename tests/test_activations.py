"""Is every activation the function that it says, with that function's derivative, in place?"""

import numpy as np
import pytest
from scipy.special import expit

from skbackprop.core import activations
from skbackprop.core.activations import ACTIVATIONS, Activation
from skbackprop.testing import check_activation
from stacks import DTYPES, public_kinds, without_formula

ORACLES = {
    "identity": lambda z: z,
    "logistic": expit,
    "tanh": np.tanh,
    "relu": lambda z: np.where(z > 0, z, 0),
}
SHAPES = [(7,), (3, 5), (2, 3, 5), (500, 100)]

every_activation = pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS)


def forward(activation, z):
    a = np.full_like(z, np.nan)
    activation.forward(z, a)
    return a


def derivative(activation, z):
    z = z.copy()
    delta = np.ones_like(z)
    activation.backward(z, forward(activation, z), delta)
    return delta


def test_table_is_complete_and_every_docstring_has_a_formula():
    kinds = public_kinds(activations, Activation)
    assert kinds == {type(activation) for activation in ACTIVATIONS.values()}
    assert without_formula(kinds) == set()


@every_activation
def test_backward_is_the_derivative_of_forward(activation):
    check_activation(activation)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ORACLES)
def test_values_are_those_of_the_oracle(name, shape, dtype):
    z = np.random.RandomState(0).normal(scale=5, size=shape).astype(dtype)
    a = forward(ACTIVATIONS[name], z)
    # One unit in the last place of 1 is what the logistic function promises.
    eps = float(np.finfo(dtype).eps)
    np.testing.assert_allclose(a, ORACLES[name](z.astype(float)), rtol=2 * eps, atol=eps)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_activation
def test_forward_spares_z_and_may_write_over_it(activation, shape):
    z = np.random.RandomState(0).normal(size=shape)
    before = z.copy()
    a = forward(activation, z)
    np.testing.assert_array_equal(z, before)
    if not activation.keeps_input:
        activation.forward(z, z)
        np.testing.assert_array_equal(z, a)


@every_activation
def test_backward_multiplies_delta(activation):
    z, delta = np.random.RandomState(0).normal(size=(2, 3, 5))
    expected = delta * derivative(activation, z)
    activation.backward(z.copy(), forward(activation, z), delta)
    np.testing.assert_allclose(delta, expected, rtol=1e-15, atol=1e-15)


@pytest.mark.parametrize("dtype", DTYPES)
@every_activation
def test_huge_inputs_give_finite_values_and_derivatives(activation, dtype):
    z = np.array([-1e30, -1e4, -100, 100, 1e4, 1e30], dtype)
    with np.errstate(over="raise", invalid="raise"):
        assert np.isfinite(forward(activation, z)).all()
        assert np.isfinite(derivative(activation, z)).all()


def test_relu_is_flat_at_zero():
    zeros = np.array([0.0, -0.0])
    np.testing.assert_array_equal(derivative(ACTIVATIONS["relu"], zeros), 0)


@pytest.mark.parametrize("method", ["forward", "backward"])
def test_an_unfinished_activation_says_what_it_has_to_define(method):
    class Unfinished(Activation):
        pass

    arguments = [np.ones(2)] * (2 if method == "forward" else 3)
    with pytest.raises(NotImplementedError, match=rf"Unfinished has to define {method}\("):
        getattr(Unfinished(), method)(*arguments)
