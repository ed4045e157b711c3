"""Is every activation the function that it says, with that function's derivative, in place?"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.special import erfc, expit, ndtr, softmax

from skbackprop import BackpropClassifier, activations
from skbackprop.activations import ACTIVATIONS, ActivationFunction, Elu, LeakyRelu, SelfGated
from skbackprop.initializers import GlorotUniform, VarianceScaling
from skbackprop.layers.columns import Scale
from skbackprop.layers.dense import Activation
from skbackprop.nn.network import BoundNetwork, Network
from skbackprop.testing import check_activation
from skbackprop.utils.arrays import BufferPool
from support import BOTH, data_for, few_epochs, quick
from support.stacks import DTYPES, assert_same_bits, public_kinds, without_formula

pytestmark = few_epochs


class Oracle(NamedTuple):
    """What is known of an activation.

    `function` and `derivative` are as published, with a temporary for each step. At zero, an
    activation with a kink may have either derivative.
    """

    function: Callable
    derivative: Callable
    has_kink: bool = False


def leaky(slope):
    return Oracle(
        lambda z: np.where(z > 0, z, slope * z), lambda z: np.where(z > 0, 1, slope), has_kink=True
    )


def exponential_linear(alpha, scale=1.0):
    return Oracle(
        lambda z: scale * np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0))),
        lambda z: scale * np.where(z > 0, 1, alpha * np.exp(np.minimum(z, 0))),
        has_kink=alpha != 1,
    )


def normal(z):
    return np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def tanh_of_gelu(z):
    return np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))


def gate_of_mish(z):
    return np.tanh(np.logaddexp(z, 0))


# To test a new activation, add its oracle under its name.
ORACLES = {
    "identity": Oracle(lambda z: z, np.ones_like),
    "logistic": Oracle(expit, lambda z: expit(z) * expit(-z)),
    "tanh": Oracle(np.tanh, lambda z: 1 / np.cosh(z) ** 2),
    "relu": leaky(0),
    "leaky_relu": leaky(0.01),
    "elu": exponential_linear(1),
    "selu": exponential_linear(1.6732632423543772, 1.0507009873554805),
    "gelu": Oracle(
        lambda z: z / 2 * erfc(-z / np.sqrt(2)),
        lambda z: erfc(-z / np.sqrt(2)) / 2 + z * normal(z),
    ),
    "gelu_tanh": Oracle(
        lambda z: z / 2 * (1 + tanh_of_gelu(z)),
        lambda z: (
            (1 + tanh_of_gelu(z)) / 2
            + z / 2 * (1 - tanh_of_gelu(z) ** 2) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * z**2)
        ),
    ),
    "silu": Oracle(lambda z: z * expit(z), lambda z: expit(z) + z * expit(z) * expit(-z)),
    "mish": Oracle(
        lambda z: z * gate_of_mish(z),
        lambda z: gate_of_mish(z) + z * (1 - gate_of_mish(z) ** 2) * expit(z),
    ),
    "softplus": Oracle(lambda z: np.logaddexp(z, 0), expit),
}
# Other settings of the activations in the table.
SETTINGS = {
    "leaky_relu 0.3": (LeakyRelu(0.3), leaky(0.3)),
    "leaky_relu 0": (LeakyRelu(0), leaky(0)),
    "elu 0.5": (Elu(0.5), exponential_linear(0.5)),
    "elu 2": (Elu(2), exponential_linear(2)),
}
EVERY = ACTIVATIONS | {name: activation for name, (activation, _) in SETTINGS.items()}
ORACLES |= {name: oracle for name, (_, oracle) in SETTINGS.items()}
SHAPES = [(7,), (3, 5), (2, 3, 5), (500, 100)]

every_activation = pytest.mark.parametrize("activation", EVERY.values(), ids=EVERY)
every_name = pytest.mark.parametrize("name", EVERY)


def forward(activation, z):
    a = np.full_like(z, np.nan)
    activation.forward(z, a)
    return a


def derivative(activation, z):
    delta = np.ones_like(z)
    activation.backward(z.copy(), forward(activation, z), delta)
    return delta


def assert_close(actual, expected, z):
    """Assert equality but for a few units in the last place of 1, of the result, and of z.

    The matrix product that makes z leaves as much to chance.
    """
    eps = float(np.finfo(actual.dtype).eps)
    assert (np.abs(actual - expected) <= 4 * eps * (1 + np.abs(expected) + np.abs(z))).all()


# --------------------------------------------------------------- functions and derivatives


def test_table_is_complete_and_every_docstring_has_a_formula():
    kinds = public_kinds(activations, ActivationFunction)
    assert kinds == {type(activation) for activation in ACTIVATIONS.values()}
    assert without_formula(kinds) == set()
    assert len(set(ACTIVATIONS.values())) == len(ACTIVATIONS)
    assert {kind.__name__ for kind in kinds} <= set(activations.__all__)


@every_activation
def test_backward_is_the_derivative_of_forward(activation):
    check_activation(activation)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_name
def test_values_and_derivatives_are_those_of_the_oracle(name, shape, dtype):
    z = np.random.RandomState(0).normal(scale=5, size=shape).astype(dtype)
    function, slope, _ = ORACLES[name]
    a, d = forward(EVERY[name], z), derivative(EVERY[name], z)
    assert a.dtype == d.dtype == dtype
    assert_close(a, function(z.astype(float)), z)
    assert_close(d, slope(z.astype(float)), z)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@every_activation
def test_forward_keeps_z_and_works_in_place(activation, shape):
    z = np.random.RandomState(0).normal(size=shape)
    before = z.copy()
    a = forward(activation, z)
    np.testing.assert_array_equal(z, before)
    if not activation.needs_preactivation:
        activation.forward(z, z)
        np.testing.assert_array_equal(z, a)


@every_activation
def test_backward_multiplies_delta(activation):
    z, delta = np.random.RandomState(0).normal(size=(2, 3, 5))
    expected = delta * derivative(activation, z)
    activation.backward(z.copy(), forward(activation, z), delta)
    np.testing.assert_allclose(delta, expected, rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("dtype", DTYPES)
@every_activation
def test_memory_need_not_be_contiguous(activation, dtype):
    z = np.random.RandomState(0).normal(size=(300, 80)).astype(dtype)
    z_of_columns, a, delta = (np.full((80, 300), 1, dtype).T for _ in range(3))
    z_of_columns[...] = z
    activation.forward(z_of_columns, a)
    assert_same_bits(a, forward(activation, z))
    activation.backward(z_of_columns, a, delta)
    assert_same_bits(delta, derivative(activation, z))


@pytest.mark.parametrize("dtype", DTYPES)
@every_name
def test_huge_inputs_give_finite_values_and_the_limits_of_the_derivative(name, dtype):
    z = np.array([-1e30, -1e4, -100, 100, 1e4, 1e30], dtype)
    function, slope, _ = ORACLES[name]
    with np.errstate(over="ignore"):
        limits = function(z.astype(float)), slope(z.astype(float))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        a, d = forward(EVERY[name], z), derivative(EVERY[name], z)
    np.testing.assert_allclose(a, limits[0], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(d, limits[1], rtol=1e-6, atol=1e-6)


def test_gelu_of_long_rows_in_single_precision_is_fast_and_as_precise():
    z = np.linspace(-9, 9, 2 * 40_000, dtype=np.float32).reshape(2, -1)
    z[0, :3] = -3e38, -7, -5.99
    z[1, -3:] = 3e38, 7, 5.99
    s, gelu = np.empty_like(z), ACTIVATIONS["gelu"]
    with np.errstate(all="raise", under="ignore"):
        gelu.gate(z, s)
    np.testing.assert_allclose(s, ndtr(z.astype(float)), rtol=0, atol=1.2e-7)
    assert s[0, 0] == 0
    assert s[1, -1] == 1
    alone = np.empty_like(s[1])
    gelu.gate(z[1], alone)
    assert_same_bits(alone, s[1])
    gelu.gate(np.full((1, 3000), np.nan, np.float32), s[:1, :3000])
    assert np.isnan(s[0, :3000]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@every_name
def test_at_zero_and_at_the_smallest_numbers(name, dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    z = np.array([-tiny, 0, tiny, -np.finfo(dtype).tiny], dtype)
    function, slope, has_kink = ORACLES[name]
    assert_close(forward(EVERY[name], z), function(z.astype(float)), z)
    if not has_kink:
        assert_close(derivative(EVERY[name], z), slope(z.astype(float)), z)


def test_relu_is_flat_at_zero():
    zeros = np.array([0.0, -0.0])
    for activation in (ACTIVATIONS["relu"], LeakyRelu(0)):
        np.testing.assert_array_equal(derivative(activation, zeros), 0)


@every_activation
def test_threads_do_not_share_scratch_memory(activation):
    inputs = [np.random.RandomState(seed).normal(size=(64, 1_000)) for seed in range(8)]
    expected = [derivative(activation, z) for z in inputs]
    with ThreadPoolExecutor(4) as pool:
        for d, alone in zip(
            pool.map(lambda z: derivative(activation, z), inputs), expected, strict=True
        ):
            assert_same_bits(d, alone)


GATED = [name for name, kind in ACTIVATIONS.items() if isinstance(kind, SelfGated)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", GATED)
def test_a_saved_derivative_gives_the_same_bits(name, dtype):
    """In training the derivative is saved, for the gradient in prediction it is computed."""
    network = Network((4,), (Scale(), Activation(name), Scale()))
    z, delta = np.random.RandomState(0).normal(size=(2, 900, 4)).astype(dtype)
    parameters = network.layout.init(1, np.dtype(dtype))
    outcomes = []
    for gradients in (None, parameters.with_arrays(np.empty_like(parameters.theta))):
        pool, a = BufferPool(np.dtype(dtype)), np.empty_like(z)
        bound = BoundNetwork(network, parameters, 900, pool, gradients, with_input_gradient=True)
        bound.forward(z, a)
        bound.delta[...] = delta
        outcomes.append((a, bound.backward()))
    for plain, kept in zip(*outcomes, strict=True):
        assert_same_bits(plain, kept)


# ------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("slope", [np.float64(0.3), np.float32(0.25)], ids=repr)
def test_a_setting_of_another_kind_of_float_keeps_the_dtype(slope):
    z = np.random.RandomState(0).normal(size=(4, 5)).astype(np.float32)
    assert LeakyRelu(slope) == LeakyRelu(float(slope))
    assert_same_bits(forward(LeakyRelu(slope), z), forward(LeakyRelu(float(slope)), z))


# ------------------------------------------------------------------------ initial weights

# The others draw as scikit-learn does, without regard to the function.
VARIANCE_SCALED = [n for n, each in EVERY.items() if isinstance(each.initializer, VarianceScaling)]
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(200)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def second_moment(activation, variance):
    """Return E f(z)^2 of normal z of this variance, by quadrature."""
    return WEIGHTS @ forward(activation, np.sqrt(variance) * NODES) ** 2


@pytest.mark.parametrize("name", VARIANCE_SCALED)
def test_initial_weights_preserve_the_second_moment(name):
    """He's condition: inputs of second moment 1 come out of the layer with second moment 1."""
    initializer = EVERY[name].initializer
    assert initializer.mode == "fan_in"
    rtol = 0.15 if name == "elu 2" else 0.005
    assert second_moment(EVERY[name], initializer.scale) == pytest.approx(1, rel=rtol)


def test_published_initial_weights():
    assert LeakyRelu(0).initializer == Elu(0).initializer == VarianceScaling(2.0, "fan_in")
    assert LeakyRelu(0.5).initializer == VarianceScaling(2 / 1.25, "fan_in")
    assert ACTIVATIONS["selu"].initializer == VarianceScaling(1.0, "fan_in", "normal")
    assert ACTIVATIONS["logistic"].initializer == GlorotUniform(2.0)
    for name in ("identity", "tanh", "relu"):
        assert ACTIVATIONS[name].initializer == GlorotUniform(6.0)


# ------------------------------------------------------------------- one for each layer


def layered(estimator_class, activation, **settings):
    return quick(estimator_class, hidden_layer_sizes=(7, 6), activation=activation, **settings)


@BOTH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("container", [np.asarray, csr_array])
def test_each_layer_has_its_own(estimator_class, container, dtype):
    X, y = data_for(estimator_class)
    X = np.where(np.abs(X) > 0.5, X, 0)
    each = ["gelu", LeakyRelu(0.3)]
    model = layered(estimator_class, each, dtype=dtype).fit(container(X), y)
    a = X.astype(dtype)
    for activation, weights, biases in zip(
        [ACTIVATIONS["gelu"], LeakyRelu(0.3)], model.coefs_, model.intercepts_, strict=False
    ):
        a = forward(activation, a @ weights + biases)
    scores = a @ model.coefs_[-1] + model.intercepts_[-1]
    assert scores.dtype == dtype
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    if estimator_class is BackpropClassifier:
        got, expected = model.predict_proba(container(X)), softmax(scores, axis=1)
    else:
        got, expected = model.predict(container(X)), scores[:, 0]
    np.testing.assert_allclose(got, expected, tolerance, tolerance)


@BOTH
@pytest.mark.parametrize("activation", [["relu"], ["relu", "softmax"], [None, None], 1.0, "swish"])
def test_raises_on_wrong_list_of_activations(estimator_class, activation):
    model = layered(estimator_class, activation)
    with pytest.raises(ValueError, match="activation"):
        model.fit(*data_for(estimator_class))
    assert not hasattr(model, "coefs_")


@BOTH
def test_no_layers_have_no_activations(estimator_class):
    X, y = data_for(estimator_class)
    empty = quick(estimator_class, hidden_layer_sizes=(), activation=[]).fit(X, y)
    named = quick(estimator_class, hidden_layer_sizes=(), activation="relu").fit(X, y)
    assert_same_bits(empty.coefs_[0], named.coefs_[0])
