"""Convolution: explicit loops and SciPy as oracles, gradients, members, padding, and errors."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.signal import correlate

from skbackprop import BackpropClassifier
from skbackprop.layers import (
    Activation,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    DepthwiseConv2D,
    Scale,
    UpSampling2D,
    _convolution_passes,
)
from skbackprop.nn.network import Network
from skbackprop.nn.prediction import predict_raw
from support import few_epochs
from support.shaped import check_gradients, drawn_parameters, run_step

pytestmark = few_epochs

CASES = {
    "one pixel": (Conv2D(3, 1), (4, 5, 2)),
    "one pixel, strides": (Conv2D(3, 1, 2), (4, 5, 2)),
    "one pixel and channel": (Conv2D(3, 1), (4, 5)),
    "one pixel and channel, strides": (Conv2D(3, 1, 2), (4, 5)),
    "2": (Conv2D(3, 2), (4, 5)),
    "3": (Conv2D(2, 3), (6, 5, 3)),
    "wide": (Conv2D(2, (1, 4)), (3, 6, 2)),
    "high": (Conv2D(2, (3, 2), (2, 1)), (6, 4, 2)),
    "all of the image": (Conv2D(4, (3, 4)), (3, 4, 2)),
    "strides": (Conv2D(2, 3, 2), (7, 8, 1)),
    "strides over the kernel": (Conv2D(2, 2, 3), (8, 9, 2)),
    "one filter": (Conv2D(1, 3), (5, 5, 1)),
    "no bias": (Conv2D(2, 3, use_bias=False), (5, 4, 2)),
    "same": (Conv2D(2, 3, padding="same"), (4, 5, 2)),
    "same, even": (Conv2D(2, (2, 4), padding="same"), (4, 5)),
    "same, strides": (Conv2D(2, (3, 5), (2, 3), padding="same"), (7, 8, 2)),
    "same, larger than the image": (Conv2D(2, 5, padding="same"), (3, 2, 2)),
    "many channels": (Conv2D(20, 3, padding="same"), (4, 4, 17)),
    "steps": (Conv1D(3, 3), (8, 2)),
    "no channels": (Conv1D(3, 2), (7,)),
    "one step": (Conv1D(3, 1), (5, 2)),
    "every second": (Conv1D(2, 3, 2), (8, 2)),
    "dilation": (Conv1D(2, 3, 2, dilation=2), (9, 2)),
    "same steps": (Conv1D(2, 4, padding="same"), (6, 2)),
    "same steps, strides and dilation": (Conv1D(2, 3, 2, "same", dilation=3), (9, 2)),
    "causal": (Conv1D(2, 3, padding="causal"), (6, 2)),
    "causal, strides and dilation": (Conv1D(2, 2, 3, "causal", dilation=2), (10, 2)),
    "same, longer than the sequence": (Conv1D(2, 7, padding="same"), (3, 2)),
}
TRANSPOSED = {
    "1": (Conv2DTranspose(3, 1), (3, 4, 2)),
    "one pixel, strides": (Conv2DTranspose(3, 1, 2), (3, 2, 2)),
    "3": (Conv2DTranspose(2, 3), (3, 4, 2)),
    "one filter": (Conv2DTranspose(1, 3), (2, 9, 3)),
    "strides": (Conv2DTranspose(2, 3, 2), (3, 2, 2)),
    "strides over the kernel": (Conv2DTranspose(2, (1, 2), 3), (2, 3)),
    "other strides down": (Conv2DTranspose(2, 3, (1, 2)), (3, 2, 2)),
    "same": (Conv2DTranspose(2, 3, 2, "same"), (3, 4, 2)),
    "same, even": (Conv2DTranspose(2, (2, 4), (1, 2), "same", use_bias=False), (3, 2, 3)),
    "same, one filter": (Conv2DTranspose(1, 5, 2, "same"), (3, 8, 3)),
}
DEPTHWISE = {
    "depthwise": (DepthwiseConv2D(3), (5, 4, 3)),
    "depthwise, no channels": (DepthwiseConv2D((2, 1), use_bias=False), (4, 3)),
    "depthwise, strides": (DepthwiseConv2D(2, (1, 3)), (4, 7, 2)),
    "depthwise, same": (DepthwiseConv2D(3, 2, "same"), (5, 4, 2)),
    "depthwise, same, larger than the image": (DepthwiseConv2D(5, padding="same"), (2, 3, 4)),
}
UPSAMPLED = {
    "twice": (UpSampling2D(), (2, 3, 2)),
    "rows": (UpSampling2D((3, 1)), (2, 2)),
}
every_case = pytest.mark.parametrize("layer, shape", CASES.values(), ids=CASES)
every_transposed = pytest.mark.parametrize("layer, shape", TRANSPOSED.values(), ids=TRANSPOSED)
ALL = {
    **CASES,
    **TRANSPOSED,
    **DEPTHWISE,
    **{f"up {name}": case for name, case in UPSAMPLED.items()},
}
every_layer = pytest.mark.parametrize("layer, shape", ALL.values(), ids=ALL)
stacks = pytest.mark.parametrize("n_estimators", [1, 3])


def network_of(layer, shape):
    """Return a network of the layer, and of a trained one before it if it has no parameters."""
    return Network(shape, (layer,) if layer.parameter_specs(shape) else (Scale(), layer))


def zeros_before(layer, sizes, kernel):
    """Return the zeros before the first value of each axis, and the outputs, by the docstring."""
    strides, spans = layer.strides, getattr(layer, "dilation", 1) * (kernel - 1)
    if layer.padding == "valid":
        return 0 * sizes, (sizes - spans - 1) // strides + 1
    outputs = -(-sizes // strides)
    if layer.padding == "causal":
        return spans, outputs
    if len(sizes) == 1:
        return spans // 2, outputs
    return np.maximum((outputs - 1) * strides + spans + 1 - sizes, 0) // 2, outputs


def convolved(layer, x, kernels, biases):
    """Return one row's output by loops over outputs and the values of the kernel."""
    kernel = np.array(kernels.shape[:-2])
    sizes = np.array(x.shape[: len(kernel)])
    x = x.reshape(*sizes, -1)
    before, outputs = zeros_before(layer, sizes, kernel)
    out = np.zeros((*outputs, kernels.shape[-1])) + biases
    for position in np.ndindex(*outputs):
        for offset in np.ndindex(*kernel):
            dilated = np.multiply(offset, getattr(layer, "dilation", 1))
            at = np.multiply(position, layer.strides) + dilated - before
            if (at >= 0).all() and (at < sizes).all():
                out[position] += x[tuple(at)] @ kernels[offset]
    return out


@stacks
@every_case
def test_output_is_that_of_loops(layer, shape, n_estimators):
    network = network_of(layer, shape)
    parameters = drawn_parameters(network, n_estimators)
    X = np.random.RandomState(0).randn(4, math.prod(shape))
    out = predict_raw(network, parameters, X).reshape(n_estimators, 4, *network.row_shapes[-1])
    for member in range(n_estimators):
        kernels = parameters.select("kernels")[0][member]
        biases = parameters.select("kernel_biases")[0][member, 0] if layer.use_bias else 0
        for row, x in zip(out[member], X, strict=True):
            expected = convolved(layer, x.reshape(shape), kernels, biases)
            np.testing.assert_allclose(row, expected, atol=1e-13)


@stacks
@pytest.mark.parametrize("layer, shape", DEPTHWISE.values(), ids=DEPTHWISE)
def test_depthwise_convolution_is_one_with_zeros_between_channels(layer, shape, n_estimators):
    network = network_of(layer, shape)
    parameters = drawn_parameters(network, n_estimators)
    n_channels = math.prod(shape[2:])
    conv = Conv2D(n_channels, layer.kernel_size, layer.strides, layer.padding)
    other = network_of(conv, shape)
    same = drawn_parameters(other, n_estimators)
    same.theta[...] = 0
    for i in range(n_channels):
        same.select("kernels")[0][..., i, i] = parameters.select("kernels")[0][..., i]
    if layer.use_bias:
        same.select("kernel_biases")[0][...] = parameters.select("kernel_biases")[0]
    X = np.random.RandomState(0).randn(4, math.prod(shape))
    out, expected = predict_raw(network, parameters, X), predict_raw(other, same, X)
    np.testing.assert_allclose(out, expected, atol=1e-13)


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_output_is_scipys_correlation(padding):
    network = network_of(Conv2D(1, 3, padding=padding), (6, 7))
    parameters = drawn_parameters(network, 1)
    X = np.random.RandomState(0).randn(2, 6, 7)
    out = predict_raw(network, parameters, X.reshape(2, -1)).reshape(2, *network.row_shapes[-1])
    kernel = parameters.select("kernels")[0][0, :, :, 0, 0]
    for row, x in zip(out, X, strict=True):
        expected = correlate(x, kernel, padding) + parameters.select("kernel_biases")[0].item()
        np.testing.assert_allclose(row[..., 0], expected, atol=1e-13)


@stacks
@every_layer
def test_gradients_match_finite_differences(layer, shape, n_estimators):
    check_gradients(network_of(layer, shape), n_estimators, 5, weighted=True)


@stacks
@pytest.mark.parametrize(
    "layer, shape", [*CASES.values(), *TRANSPOSED.values()], ids=[*CASES, *TRANSPOSED]
)
def test_blocks_of_rows_change_nothing(layer, shape, n_estimators, monkeypatch):
    """The last block of rows is shorter than the others."""
    network = network_of(layer, shape)
    parameters = drawn_parameters(network, n_estimators)
    windows = layer.compute_windows(shape)
    is_transposed = isinstance(layer, Conv2DTranspose)
    image_shape = network.row_shapes[-1] if is_transposed else shape
    n_channels = math.prod(image_shape) // math.prod(axis.n_inputs for axis in windows)
    n_columns = n_channels * math.prod(axis.n_outputs * axis.size for axis in windows)
    X = np.random.RandomState(0).randn(7, math.prod(shape))
    delta = np.random.RandomState(8).normal(size=(n_estimators, 7, network.n_units[-1]))
    found = []
    for n_rows in (7, 3, 1):
        monkeypatch.setattr(_convolution_passes, "_CACHED_VALUES", n_rows * n_columns)
        out, gradients, d_x = run_step(network, parameters, X, delta)
        found.append((out, gradients.theta, d_x, predict_raw(network, parameters, X)))
    for values in found[1:]:
        for value, expected in zip(values, found[0], strict=True):
            np.testing.assert_allclose(value, expected, rtol=1e-9, atol=1e-12)


@stacks
@every_transposed
def test_transposed_convolution_is_the_adjoint_of_the_convolution(layer, shape, n_estimators):
    """<conv(x), y> = <x, transposed(y)> for the same kernels, and both without biases."""
    network = network_of(layer, shape)
    output_shape = network.row_shapes[-1]
    n_channels = math.prod(shape[2:])
    conv = Conv2D(n_channels, layer.kernel_size, layer.strides, layer.padding)
    convolution = network_of(conv, output_shape)
    assert convolution.row_shapes[-1] == (*shape[:2], n_channels)
    parameters = drawn_parameters(network, n_estimators)
    same = drawn_parameters(convolution, n_estimators)
    same.select("kernels")[0][...] = parameters.select("kernels")[0]
    for biases in (*parameters.select("kernel_biases"), *same.select("kernel_biases")):
        biases[...] = 0
    rng = np.random.RandomState(0)
    x, y = rng.randn(5, math.prod(output_shape)), rng.randn(5, math.prod(shape))
    np.testing.assert_allclose(
        (predict_raw(convolution, same, x) * y).sum(axis=-1),
        (x * predict_raw(network, parameters, y)).sum(axis=-1),
    )


@every_transposed
def test_transposed_convolution_adds_kernels_to_the_output(layer, shape):
    network = network_of(layer, shape)
    parameters = drawn_parameters(network, 1)
    kernels = parameters.select("kernels")[0][0]
    strides, size = np.broadcast_to(layer.strides, 2), np.array(shape[:2])
    kernel, total = np.array(kernels.shape[:2]), np.array(network.row_shapes[-1][:2])
    expected_size = size * strides
    before = np.zeros(2, int)
    if layer.padding == "valid":
        expected_size = expected_size + np.maximum(kernel - strides, 0)
    else:
        before = np.maximum(kernel - strides, 0) // 2
    assert (total == expected_size).all()
    x = np.random.RandomState(0).randn(math.prod(shape))
    padded = np.zeros((*(total + kernel), layer.n_filters))
    for pixel in np.ndindex(*size):
        top, left = np.multiply(pixel, strides)
        own = padded[top : top + kernel[0], left : left + kernel[1]]
        own += kernels @ x.reshape(*size, -1)[pixel]
    expected = padded[before[0] :, before[1] :][: total[0], : total[1]]
    if layer.use_bias:
        expected = expected + parameters.select("kernel_biases")[0][0]
    actual = predict_raw(network, parameters, x[None]).reshape(network.row_shapes[-1])
    np.testing.assert_allclose(actual, expected, atol=1e-13)


@stacks
@pytest.mark.parametrize("layer, shape", UPSAMPLED.values(), ids=UPSAMPLED)
def test_upsampling_repeats_pixels(layer, shape, n_estimators):
    network = network_of(layer, shape)
    parameters = drawn_parameters(network, n_estimators)
    X = np.random.RandomState(0).randn(4, *shape)
    parameters.select("scales")[0][...] = 1
    down, right = np.broadcast_to(layer.size, 2)
    expected = X.repeat(down, axis=1).repeat(right, axis=2).reshape(4, -1)
    for out in predict_raw(network, parameters, X.reshape(4, -1)):
        np.testing.assert_array_equal(out, expected)


SEQUENCES = {name: case for name, case in CASES.items() if isinstance(case[0], Conv1D)}


@stacks
@pytest.mark.parametrize("layer, shape", SEQUENCES.values(), ids=SEQUENCES)
def test_padding_changes_nothing(layer, shape, n_estimators):
    """A padded sequence has the outputs and the gradients that it has without padding."""
    n_steps, n_padded = shape[0], shape[0] + 4
    second = Conv1D(2, 2, padding="same")
    network, padded = (
        Network((n, *shape[1:]), (layer, Activation("tanh"), second)) for n in (n_steps, n_padded)
    )
    parameters = drawn_parameters(network, n_estimators)
    X = np.random.RandomState(0).randn(3, *shape)
    P = np.concatenate([X, np.full((3, 4, *shape[1:]), np.nan)], axis=1)
    X, P = X.reshape(3, -1), P.reshape(3, -1)
    out, out_padded = (
        predict_raw(one, parameters, x).reshape(n_estimators, 3, -1, 2)
        for one, x in ((network, X), (padded, P))
    )
    n_outputs = out.shape[2]
    np.testing.assert_allclose(out_padded[:, :, :n_outputs], out, atol=1e-14)

    delta = np.random.RandomState(1).randn(*out.shape)
    delta_padded = np.zeros(out_padded.shape)
    delta_padded[:, :, :n_outputs] = delta
    _, gradients, d_x = run_step(network, parameters, X, delta)
    _, gradients_padded, d_padded = run_step(padded, parameters, P, delta_padded)
    np.testing.assert_allclose(gradients_padded.theta, gradients.theta, atol=1e-13)
    d_padded = d_padded.reshape(n_estimators, 3, n_padded, -1)
    d_x = d_x.reshape(n_estimators, 3, n_steps, -1)
    np.testing.assert_allclose(d_padded[:, :, :n_steps], d_x, atol=1e-14)
    assert not d_padded[:, :, n_steps:].any()


@pytest.mark.parametrize("layer", [Conv1D(2, 3), Conv1D(2, 2, dilation=2)], ids=str)
def test_a_sequence_shorter_than_the_kernel_is_an_error(layer):
    X = np.random.default_rng(0).normal(size=(5, 6))
    X[3, 2:] = np.nan
    network = network_of(layer, (6,))
    with pytest.raises(ValueError, match="takes sequences of at least 3 steps.* got one of 2"):
        predict_raw(network, drawn_parameters(network, 1), X)
    other = network_of(replace(layer, padding="same"), (6,))
    assert np.isfinite(predict_raw(other, drawn_parameters(other, 1), X)).all()


# Layer, shape of a row, and the error.
MISFITS = {
    "depthwise": (DepthwiseConv2D((2, 7)), (4, 6), "at least 2 x 7 pixels"),
    "columns to enlarge": (Conv2DTranspose(2, 3), (6,), "takes images of shape"),
    "columns to repeat": (UpSampling2D(), (6,), "takes images of shape"),
    "kernel": (Conv2D(2, 5), (4, 6), "at least 5 x 5 pixels"),
    "kernel one way": (Conv2D(2, (2, 7)), (4, 6), "at least 2 x 7 pixels"),
    "columns for an image": (Conv2D(2, 3), (24,), r"takes images of shape \(height, width\)"),
    "four axes": (Conv2D(2, 3), (4, 3, 2, 1), "takes images of shape"),
    "an image for a sequence": (Conv1D(2, 3), (4, 3, 2), r"sequences of shape \(steps,\)"),
    "steps": (Conv1D(2, 3, dilation=4), (8, 3), "at least 9 steps"),
}


@pytest.mark.parametrize("layer, shape, message", MISFITS.values(), ids=MISFITS)
def test_an_input_that_does_not_fit_is_an_error(layer, shape, message):
    X, y = np.zeros((6, math.prod(shape))), np.arange(6) % 2
    model = BackpropClassifier((), layers=[layer], input_shape=shape)
    with pytest.raises(ValueError, match=rf"layers\[0\]: .*{message}.* got rows of shape"):
        model.fit(X, y)


@pytest.mark.parametrize(
    "kind, settings, message",
    [
        (Conv2D, {"n_filters": 0}, "n_filters of Conv2D must be an int of at least 1, got 0"),
        (Conv2D, {"kernel_size": 0}, "kernel_size of Conv2D must be a positive int, or a pair"),
        (Conv2D, {"kernel_size": (3, 3, 3)}, "kernel_size of Conv2D must be .* got .3, 3, 3."),
        (Conv2D, {"kernel_size": (3, 1.5)}, "kernel_size of Conv2D must be"),
        (Conv2D, {"kernel_size": "3"}, "kernel_size of Conv2D must be"),
        (Conv2D, {"strides": (1, -1)}, "strides of Conv2D must be a positive int"),
        (Conv2D, {"padding": "causal"}, "padding of Conv2D must be 'valid' or 'same', got"),
        (Conv2D, {"activation": "rleu"}, "got 'rleu'. Did you mean 'relu'?"),
        (Conv2DTranspose, {"strides": 0}, "strides of Conv2DTranspose must be a positive int"),
        (Conv1D, {"dilation": 0}, "dilation of Conv1D must be an int of at least 1"),
        (Conv1D, {"kernel_size": (3, 3)}, "kernel_size of Conv1D must be an int"),
    ],
)
def test_an_invalid_setting_is_an_error(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        kind(**{"n_filters": 2, "kernel_size": 3} | settings)


def test_kernels_are_drawn_by_the_size_of_their_window():
    """Variances 2 / fan_in before a relu, and 2 / (fan_in + fan_out) else, as uniform numbers."""
    network = Network((8, 8, 20), (Conv2D(30, 3, activation="relu"), Conv2D(40, 3)))
    parameters = network.layout.init(1, np.dtype(float), [np.random.RandomState(0)])
    first, second = parameters.select("kernels")
    assert np.abs(first).max() == pytest.approx(math.sqrt(6 / 180), rel=0.01)
    assert np.abs(second).max() == pytest.approx(math.sqrt(6 / (270 + 360)), rel=0.01)
    assert not any(biases.any() for biases in parameters.select("kernel_biases"))


def test_kernels_of_a_transposed_convolution_are_drawn_by_the_pixels_that_meet():
    """A kernel of 4 x 4 with strides of 2 lets four pixels meet in each output."""
    network = Network((4, 4, 20), (Conv2DTranspose(30, 4, 2, activation="relu"),))
    parameters = network.layout.init(1, np.dtype(float), [np.random.RandomState(0)])
    (kernels,) = parameters.select("kernels")
    assert kernels.shape == (1, 4, 4, 30, 20)
    assert np.abs(kernels).max() == pytest.approx(math.sqrt(6 / 80), rel=0.01)


@pytest.mark.parametrize("activation, variance", [("relu", 2 / 9), ("tanh", 1 / 9)])
def test_kernels_of_a_depthwise_convolution_are_drawn_by_their_own_channel(activation, variance):
    network = Network((4, 4, 300), (DepthwiseConv2D(3, activation=activation),))
    parameters = network.layout.init(1, np.dtype(float), [np.random.RandomState(0)])
    (kernels,) = parameters.select("kernels")
    assert np.abs(kernels).max() == pytest.approx(math.sqrt(3 * variance), rel=0.01)


@pytest.mark.parametrize("size", [0, (1, 2, 3), 1.5, None])
def test_an_invalid_size_is_an_error(size):
    with pytest.raises(ValueError, match="size of UpSampling2D must be a positive int, or a pair"):
        UpSampling2D(size)


def test_pairs_are_tuples():
    layer = Conv2D(2, [3, np.int64(2)], strides=np.int64(2))
    assert layer == Conv2D(2, (3, 2), 2)
    assert layer.expand((9, 9)) == (layer,)
    assert Conv2D(2, 3, activation="relu").expand((9, 9))[1:] == (Activation("relu"),)


def test_memory_of_a_row():
    """Columns of small images are kept; those of large ones are copied a few rows at a time."""
    assert Conv2D(16, 3).memory_per_sample((8, 8)) == 36 * 9 + 2 * 36 * 16 + 64
    n_outputs, n_inputs = 200 * 200 * 64, 200 * 200 * 32
    large = Conv2D(64, 3, padding="same").memory_per_sample((200, 200, 32))
    assert 2 * n_outputs + n_inputs < large < 2.2 * n_outputs + n_inputs
    assert Conv2DTranspose(2, 2, 2).memory_per_sample((3, 4, 5)) == 12 * 8 + 3 * 48 * 2
    assert DepthwiseConv2D(3).memory_per_sample((5, 5, 2)) == 2 * (25 + 3 * 9)
