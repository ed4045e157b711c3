"""The public checkers find wrong gradients, and pass right ones."""

from dataclasses import dataclass

import numpy as np
import pytest

from skbackprop import BackpropRegressor
from skbackprop.activations import ACTIVATIONS, ActivationFunction, Tanh
from skbackprop.layers import (
    GRU,
    BatchNormalization,
    CategoricalEmbedding,
    Conv2D,
    Dropout,
    Embedding,
    Layer,
    LayerNormalization,
    MaxPool2D,
    Residual,
    TransformerBlock,
)
from skbackprop.layers.base import ParameterSpec
from skbackprop.layers.latent import Sampling
from skbackprop.losses import Poisson, SquaredError
from skbackprop.optimizers import SGD
from skbackprop.testing import check_activation, check_gradient, check_layer, check_loss
from support import few_epochs, quick, same_bits, value_data

THETA = np.random.RandomState(0).normal(size=(3, 4))
MISMATCH = "the gradient does not match the value"


def cubes(theta):
    return np.sum(theta**3), 3 * theta**2


# ------------------------------------------------------------------------ check_gradient


@pytest.mark.parametrize("theta", [THETA, THETA[:, 0].tolist(), np.arange(1, 5)])
def test_a_right_gradient_passes(theta):
    assert 0 < check_gradient(cubes, theta) < 1e-6


@pytest.mark.parametrize(
    "spoil",
    [
        lambda g: 1.001 * g,
        lambda g: -g,
        lambda g: np.zeros_like(g),
        lambda g: g.ravel()[::-1].reshape(g.shape),
        lambda g: np.where(np.arange(4) == 1, np.nan, g),
        lambda g: g + np.where(np.arange(12).reshape(3, 4) == 6, 0.1, 0),
    ],
    ids=["scale", "sign", "zeros", "order", "nan", "one component"],
)
def test_a_wrong_gradient_is_found(spoil):
    def spoiled(theta):
        value, gradient = cubes(theta)
        return value, spoil(gradient)

    with pytest.raises(AssertionError, match=f"{MISMATCH}: along direction 0 it is .* difference"):
        check_gradient(spoiled, THETA)


def test_wrong_arguments_are_an_error():
    with pytest.raises(AssertionError, match=r"the gradient has the wrong shape \(4,\)"):
        check_gradient(lambda theta: (theta.sum(), np.ones(4)), THETA)
    with pytest.raises(ValueError, match="n_directions == 0, must be >= 1"):
        check_gradient(cubes, THETA, n_directions=0)


def test_the_error_is_relative_to_the_norm_of_the_gradient():
    """Along the only direction of one dimension, 2 x instead of 2 x + 1e-7 is off by 1e-7."""
    error = check_gradient(lambda x: (np.sum(x**2 + 1e-7 * x), 2 * x), [1.0])
    assert error == pytest.approx(1e-7 / (2 + 1e-3), rel=1e-2)
    # The difference of a cube is off by the square of the step.
    assert check_gradient(cubes, [1.0], step=0.1, rtol=1) == pytest.approx(0.01 / 3, rel=1e-3)


def test_check_gradient_copies_theta_and_gradient():
    theta, memory = THETA.copy(), np.empty_like(THETA)

    def careless(x):
        value, memory[...] = cubes(x)
        x[...] = np.nan
        return value, memory

    check_gradient(careless, theta)
    np.testing.assert_array_equal(theta, THETA)


# ---------------------------------------------------------- check_activation, check_loss


@dataclass(frozen=True)
class WrongSlope(Tanh):
    """f(z) = tanh(z), but f'(z) = a (1 - a)."""

    def backward(self, z, a, delta):
        delta *= a * (1 - a)


@dataclass(frozen=True)
class WrongInPlace(ActivationFunction):
    """f(z) = 2 z + z, where the second z is no longer there if a is z."""

    def forward(self, z, a):
        np.multiply(z, 2, out=a)
        a += z

    def backward(self, z, a, delta):
        delta *= 3


@dataclass(frozen=True)
class ReadsItsInputLate(ActivationFunction):
    """f(z) = z^2, whose slope asks for z, which is no longer there if a is z."""

    def forward(self, z, a):
        np.multiply(z, z, out=a)

    def backward(self, z, a, delta):
        delta *= 2 * z


@dataclass(frozen=True)
class Square(ReadsItsInputLate):
    """f(z) = z^2, which says that it needs z."""

    needs_preactivation = True


def returning(part, method):
    """Return a part of the same class whose method returns its result and writes nothing."""

    def returned(self, *arrays):
        arrays = [array.copy() if isinstance(array, np.ndarray) else array for array in arrays]
        getattr(type(part), method)(self, *arrays)
        return arrays[0 if method == "step" else -1]

    return type("Returning", (type(part),), {method: returned})()


def test_right_activations_pass():
    for right in (Tanh(), Square()):
        assert check_activation(right) < 1e-6


@pytest.mark.parametrize(
    "wrong",
    [
        WrongSlope(),
        WrongInPlace(),
        ReadsItsInputLate(),
        returning(Tanh(), "forward"),
        returning(Tanh(), "backward"),
    ],
    ids=lambda wrong: type(wrong).__name__,
)
def test_a_wrong_activation_is_found(wrong):
    with pytest.raises(AssertionError, match=MISMATCH):
        check_activation(wrong)


def test_check_activation_at_given_points():
    at_a_kink = [0.0, 1.0]
    with pytest.raises(AssertionError, match=MISMATCH):
        check_activation(ACTIVATIONS["relu"], at_a_kink)
    check_activation(ACTIVATIONS["relu"], [-1.0, 1.0], n_directions=3)


@dataclass(frozen=True)
class HalfTheSlope(SquaredError):
    """1/2 (s - y)^2, but the gradient (s - y) / 2."""

    def gradient(self, scores, y, out):
        super().gradient(scores, y, out)
        out /= 2


@dataclass(frozen=True)
class ReadsScoresLate(SquaredError):
    """1/2 (s - y)^2, with a gradient that reads the scores after it has written over them."""

    def gradient(self, scores, y, out):
        np.negative(y, out=out)
        out += scores


@pytest.mark.parametrize("loss", [SquaredError(), Poisson()])
def test_right_losses_pass(loss):
    assert check_loss(loss, THETA, np.abs(THETA[::-1])) < 1e-6


@pytest.mark.parametrize(
    "wrong", [HalfTheSlope(), ReadsScoresLate(), returning(SquaredError(), "gradient")]
)
def test_a_wrong_loss_is_found(wrong):
    with pytest.raises(AssertionError, match=MISMATCH):
        check_loss(wrong, THETA, THETA[::-1])


@pytest.mark.parametrize(
    "reduced",
    [
        lambda values: values,
        lambda values: values.sum(axis=-2),
        lambda values: values.sum(),
        lambda values: np.broadcast_to(
            values.sum(axis=-1).mean(axis=-1, keepdims=True), values.shape[:-1]
        ),
    ],
    ids=["no sum", "rows", "all", "one for all rows"],
)
def test_a_value_that_is_not_of_each_row_is_found(reduced):
    @dataclass(frozen=True)
    class Reduced(SquaredError):
        def value(self, scores, y):
            return reduced((scores - y) ** 2 / 2)

    scores, y = np.random.RandomState(0).normal(size=(2, 4, 4))
    with pytest.raises(AssertionError, match=rf"value\(raw_prediction, y\) must|{MISMATCH}"):
        check_loss(Reduced(), scores, y)


# --------------------------------------------------------------------------- check_layer


def padded(X):
    """Return rows of which two end in padding."""
    X = X.copy()
    X[1, 2:] = X[3, 1:] = np.nan
    return X


SEQUENCES = np.random.RandomState(0).normal(size=(4, 5, 2))
TOKENS = np.array([[0, 2, 1, 1], [2, 0, -1, -1], [1, 1, 2, 0]])
CODES = np.array([[0.3, 0], [0.1, 2], [-1.0, 1]])
RIGHT_LAYERS = {
    "convolution": (Conv2D(2, 2, activation="relu"), (4, 3, 2), None),
    "pooling": (MaxPool2D((2, 3)), (4, 6), None),
    "recurrence with padding": (GRU(2), (5, 2), padded(SEQUENCES)),
    "tokens": (Embedding(3, 2), (4,), TOKENS),
    "codes": (CategoricalEmbedding({1: 3}, 2), (2,), CODES),
    "several layers": (TransformerBlock(2, 3), (3, 4), None),
    "running statistics": (BatchNormalization(), (3, 2), None),
    "random numbers": (Residual([LayerNormalization(), Dropout(0.3)]), (6,), None),
    "a loss of its own": (Sampling(0.7), (8,), None),
}


@pytest.mark.parametrize("layer, shape, X", RIGHT_LAYERS.values(), ids=RIGHT_LAYERS)
def test_right_layers_pass(layer, shape, X):
    assert 0 < check_layer(layer, shape, X) < 1e-6


@dataclass(frozen=True)
class Scaled(Layer):
    """out = x * s, with a factor s for each channel."""

    def parameter_specs(self, input_shape):
        return (ParameterSpec("factors", input_shape[-1:], 1.0),)

    def bind(self, context):
        factors = context.parameters["factors"][..., None, :]

        def forward(x, out):
            np.multiply(x, factors, out=out)

        def backward(x, out, delta):
            if context.gradients:
                total = (x * delta).sum(axis=(-3, -2), keepdims=True)
                context.gradients["factors"][...] = total[..., 0, :]
            if context.grad_input is not None:
                np.multiply(delta, factors, out=context.grad_input)

        return forward, backward


class WrongParameterGradient(Scaled):
    def bind(self, context):
        forward, inner = super().bind(context)

        def backward(x, out, delta):
            inner(x, out, delta)
            if context.gradients:
                context.gradients["factors"][..., 0] *= 1.01

        return forward, backward


class WrongInputGradient(Scaled):
    def bind(self, context):
        forward, inner = super().bind(context)

        def backward(x, out, delta):
            inner(x, out, delta)
            if context.grad_input is not None:
                context.grad_input[...] = delta

        return forward, backward


class AddsGradients(Scaled):
    def bind(self, context):
        forward, inner = super().bind(context)

        def backward(x, out, delta):
            before = context.gradients["factors"].copy() if context.gradients else 0
            inner(x, out, delta)
            if context.gradients:
                context.gradients["factors"][...] += before

        return forward, backward


class AddsToItsOutput(Scaled):
    """The memory of the output is zero at first."""

    def bind(self, context):
        context.scratch("output", *context.out_shape)[...] = 0
        factors, (_, backward) = context.parameters["factors"], super().bind(context)

        def forward(x, out):
            out += x * factors[..., None, :]

        return forward, backward


class OverwritesItsInput(Scaled):
    def bind(self, context):
        inner, inner_back = super().bind(context)

        def forward(x, out):
            inner(x, out)
            x *= 2

        return forward, lambda x, out, delta: inner_back(x / 2, out, delta)


class MixesMembers(Scaled):
    """The output of the first member in place of that of each."""

    def bind(self, context):
        inner, backward = super().bind(context)

        def forward(x, out):
            inner(x, out)
            out[...] = out[:1]

        return forward, backward


class OnlyInTraining(Scaled):
    def bind(self, context):
        forward, backward = super().bind(context)
        return forward, backward if context.batch.is_training else lambda x, out, delta: None


class PassesGradientsToPadding(GRU):
    def bind(self, context):
        forward, inner = super().bind(context)

        def backward(x, out, delta):
            inner(x, out, delta)
            if context.grad_input is not None:
                context.grad_input[context.grad_input == 0] = 1

        return forward, backward


WRONG_LAYERS = {
    WrongParameterGradient: "respect to the parameters: the gradient does not match",
    WrongInputGradient: "respect to the input: the gradient does not match",
    OnlyInTraining: "respect to the input in prediction: the gradient does not match",
    AddsGradients: "respect to the parameters: .* it is nan",
    AddsToItsOutput: MISMATCH,
    OverwritesItsInput: MISMATCH,
    MixesMembers: MISMATCH,
}


def test_a_layer_of_ones_own_passes():
    assert check_layer(Scaled(), (3, 2)) < 1e-6


@pytest.mark.parametrize("layer, message", WRONG_LAYERS.items())
def test_a_wrong_layer_is_found(layer, message):
    with pytest.raises(AssertionError, match=message):
        check_layer(layer(), (3, 2))


def test_a_gradient_with_respect_to_padding_is_found():
    with pytest.raises(AssertionError, match="with respect to padding.* must be zero"):
        check_layer(PassesGradientsToPadding(2), (5, 2), padded(SEQUENCES))


def test_check_layer_passes_options_on_and_raises_on_a_misfit():
    check_layer(WrongParameterGradient(), (3, 2), rtol=0.05)
    with pytest.raises(ValueError, match=r"images of shape .* got rows of shape \(3, 2, 1, 1\)"):
        check_layer(Conv2D(2, 2), (3, 2, 1, 1))
    with pytest.raises(ValueError, match=r"X must have rows of shape \(4,\), got \(3,\)"):
        check_layer(Scaled(), (4,), X=np.ones((5, 3)))
    with pytest.raises(ValueError, match="broadcast"):  # it is written for rows of two axes
        check_layer(Scaled(), (4,))


# ------------------------------------------------------------------- training by a wrong part


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize(
    "name, part, of_part",
    [
        ("loss", SquaredError(), "gradient"),
        ("activation", Tanh(), "forward"),
        ("activation", Square(), "backward"),
        ("solver", SGD(), "step"),
    ],
)
def test_training_by_a_part_that_returns_in_place_of_writing_is_an_error(
    name, part, of_part, n_estimators, method
):
    own = {name: returning(part, of_part), "n_estimators": n_estimators}
    model = quick(BackpropRegressor, **own)
    with pytest.raises(TypeError, match=rf"Returning\.{of_part}\(.*must write its result to"):
        getattr(model, method)(*value_data(40))
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize("n_estimators", [1, 2])
def test_training_by_a_gradient_that_writes_nothing_is_an_error(n_estimators):
    @dataclass(frozen=True)
    class Rebinding(SquaredError):
        def gradient(self, scores, y, out):
            out = scores - y  # noqa: F841

    model = quick(BackpropRegressor, loss=Rebinding(), n_estimators=n_estimators)
    with pytest.raises(TypeError, match=r"Rebinding\.gradient.* must write the gradient to out"):
        model.fit(*value_data(40))


def test_training_by_a_value_of_another_shape_is_an_error():
    @dataclass(frozen=True)
    class NotSummed(SquaredError):
        def value(self, scores, y):
            return (scores - y) ** 2 / 2

    with pytest.raises(
        ValueError, match=r"NotSummed\.value\(.*\) must return .* returned the shape"
    ):
        quick(BackpropRegressor, loss=NotSummed()).fit(*value_data(40))


@few_epochs
def test_part_may_return_the_array_it_has_written():
    @dataclass(frozen=True)
    class Both(SquaredError):
        def gradient(self, scores, y, out):
            return np.subtract(scores, y, out=out)

    @dataclass(frozen=True)
    class BothTanh(Tanh):
        def backward(self, z, a, delta):
            super().backward(z, a, delta)
            return delta

    data = value_data(40)
    model = quick(BackpropRegressor, loss=Both(), activation=BothTanh()).fit(*data)
    assert same_bits(model, quick(BackpropRegressor, activation="tanh").fit(*data))
