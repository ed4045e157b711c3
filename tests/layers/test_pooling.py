"""Pooling compared with loops over windows; ties, padding, and wrong input."""

import itertools
import math

import numpy as np
import pytest

from skbackprop import BackpropClassifier
from skbackprop.layers import (
    Activation,
    AveragePool1D,
    AveragePool2D,
    Conv1D,
    Dense,
    GlobalAveragePool1D,
    GlobalAveragePool2D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    MaxPool1D,
    MaxPool2D,
)
from skbackprop.nn.network import Network
from skbackprop.nn.prediction import compute_input_gradients, predict_raw
from support import few_epochs, pairs
from support.shaped import check_gradients, drawn_parameters, forward, padded, shaped_network

pytestmark = few_epochs

# Windows that touch each other, with and without a rest, that overlap, and with gaps; of one
# value, of all, larger than the input, and of more than 256 values.
SEQUENCES = {
    "pairs": ((8, 3), {}),
    "pairs and a rest": ((9, 3), {}),
    "same pairs": ((9, 2), {"padding": "same"}),
    "threes": ((9, 3), {"pool_size": 3}),
    "overlapping": ((9, 3), {"pool_size": 3, "strides": 2}),
    "same, overlapping": ((9, 3), {"pool_size": 4, "strides": 2, "padding": "same"}),
    "same, one more": ((9, 3), {"pool_size": 3, "strides": 2, "padding": "same"}),
    "same, each step": ((7, 2), {"pool_size": 3, "strides": 1, "padding": "same"}),
    "gaps": ((9, 3), {"pool_size": 2, "strides": 3}),
    "one": ((5, 2), {"pool_size": 1}),
    "every other": ((5, 2), {"pool_size": 1, "strides": 2}),
    "all": ((5, 2), {"pool_size": 5}),
    "larger than the input": ((3, 2), {"pool_size": 8, "strides": 3, "padding": "same"}),
    "one channel": ((8,), {}),
    "many": ((300, 1), {"pool_size": 290, "strides": 7}),
}
IMAGES = {
    "pairs": ((6, 4, 3), {}),
    "pairs and a rest": ((7, 5, 2), {}),
    "same pairs": ((7, 5, 2), {"padding": "same"}),
    "overlapping": ((7, 6, 2), {"pool_size": 3, "strides": 2}),
    "same, overlapping": ((7, 6, 2), {"pool_size": 3, "strides": 2, "padding": "same"}),
    "same threes": ((7, 8, 2), {"pool_size": 3, "padding": "same"}),
    "gaps": ((7, 8, 2), {"pool_size": 2, "strides": (3, 4)}),
    "rows": ((4, 5, 2), {"pool_size": (1, 5)}),
    "columns": ((4, 5, 2), {"pool_size": (2, 1)}),
    "one": ((4, 3, 2), {"pool_size": 1}),
    "one channel": ((4, 6), {"pool_size": (2, 3)}),
    "different": ((5, 9, 1), {"pool_size": (3, 2), "strides": (1, 2), "padding": "same"}),
}
WINDOWS = {
    **{f"sequence {name}": (1, *case) for name, case in SEQUENCES.items()},
    **{f"image {name}": (2, *case) for name, case in IMAGES.items()},
}
KINDS = {
    "max": (np.max, (MaxPool1D, MaxPool2D), (GlobalMaxPool1D, GlobalMaxPool2D)),
    "average": (
        np.mean,
        (AveragePool1D, AveragePool2D),
        (GlobalAveragePool1D, GlobalAveragePool2D),
    ),
}
GLOBAL = {"sequence": (1, (7, 3)), "one step": (1, (1, 3)), "one channel": (1, (6,))}
GLOBAL |= {"image": (2, (3, 5, 2)), "image of one channel": (2, (4, 3)), "pixel": (2, (1, 1, 2))}
every_kind = pytest.mark.parametrize("kind", KINDS)
every_window = pytest.mark.parametrize("n_axes, shape, settings", WINDOWS.values(), ids=WINDOWS)
every_shape = pytest.mark.parametrize("n_axes, shape", GLOBAL.values(), ids=GLOBAL)


def axis_windows(n_axes, n, size, stride, padding):
    """Return the range of each window along an axis of n values."""
    if padding == "valid":
        return [range(start, start + size) for start in range(0, n - size + 1, stride)]
    n_windows = -(-n // stride)
    n_outside = max((n_windows - 1) * stride + size - n, 0)
    before = n_outside // 2 if n_axes == 2 else max(size - stride, 0) // 2
    starts = [o * stride - before for o in range(n_windows)]
    return [range(max(start, 0), min(start + size, n)) for start in starts]


def as_pair(value):
    return value if isinstance(value, tuple) else (value, value)


def pooled_by_loops(function, X, n_axes, pool_size=2, strides=None, padding="valid"):
    """Return windows of X of shape (n_rows, *sizes, channels) pooled one by one."""
    strides = pool_size if strides is None else strides
    each = [
        axis_windows(n_axes, *arguments, padding)
        for arguments in zip(X.shape[1:], as_pair(pool_size), as_pair(strides), strict=False)
    ][:n_axes]
    sizes = [len(windows) for windows in each]
    out = np.empty((len(X), *sizes, X.shape[-1]))
    for place in itertools.product(*map(range, sizes)):
        window = [list(windows[i]) for windows, i in zip(each, place, strict=True)]
        values = X[:, *np.ix_(*window)]
        axes = tuple(range(1, 1 + n_axes))
        out[:, *place] = function(values, axis=axes)
    return out


def as_images(X, n_axes):
    """Return rows with an axis of channels."""
    return X if X.ndim == n_axes + 2 else X[..., None]


def assert_pools(layer, pooled, shape, n_axes, n_estimators):
    """Assert that a layer after a dense one is a function of images."""
    dense, X = Dense(shape[-1], "tanh"), np.random.RandomState(0).randn(4, *shape)
    assert layer.compute_output_shape(shape) == pooled(as_images(X, n_axes)).shape[1:]
    outputs = (forward(shape, layers, X, n_estimators) for layers in ([dense, layer], [dense]))
    for actual, before in zip(*outputs, strict=True):
        expected = pooled(as_images(before, n_axes))
        np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("n_estimators", [1, 3])
@every_window
@every_kind
def test_windows_match_loops(kind, n_axes, shape, settings, n_estimators):
    function, layers, _ = KINDS[kind]
    assert_pools(
        layers[n_axes - 1](**settings),
        lambda X: pooled_by_loops(function, X, n_axes, **settings),
        *(shape, n_axes, n_estimators),
    )


@pytest.mark.parametrize("n_estimators", [1, 3])
@every_shape
@every_kind
def test_global_pooling_is_that_of_all_positions(kind, n_axes, shape, n_estimators):
    function, _, layers = KINDS[kind]
    axes = tuple(range(1, 1 + n_axes))
    assert_pools(
        layers[n_axes - 1](), lambda X: function(X, axis=axes), shape, n_axes, n_estimators
    )


def networks_of(layer, shape, first=False):
    """Return a network that starts with the layer, or has it after others."""
    return shaped_network(
        shape, [layer] if first else [Dense(shape[-1]), layer, Activation("tanh")]
    )


STACKS = [(1, False), (3, False), (3, True)]
# Finite differences of more inputs take long.
SMALL = {name: case for name, case in WINDOWS.items() if math.prod(case[1]) <= 200}


@pytest.mark.parametrize(
    "kind, window, stack, first", pairs(list(KINDS), list(SMALL), STACKS, [False, True])
)
def test_gradients_of_windows(kind, window, stack, first):
    n_axes, shape, settings = SMALL[window]
    layer = KINDS[kind][1][n_axes - 1](**settings)
    check_gradients(networks_of(layer, shape, first), stack[0], 5, True, stack[1])


@pytest.mark.parametrize(
    "kind, rows, stack, first", pairs(list(KINDS), list(GLOBAL), STACKS, [False, True])
)
def test_gradients_of_global_pooling(kind, rows, stack, first):
    n_axes, shape = GLOBAL[rows]
    network = networks_of(KINDS[kind][2][n_axes - 1](), shape, first)
    check_gradients(network, stack[0], 5, True, stack[1])


# ------------------------------------------------------------------------------------ ties


def gradient_of(layer, X, deltas):
    """Return the gradient of the sum of deltas * output by X, through a dense layer of ones."""
    n_channels = X.shape[-1]
    linear = Dense(n_channels, use_bias=False).expand(X.shape[1:])[0]
    network = Network(X.shape[1:], (linear, layer))
    parameters = network.layout.init(1, np.dtype(float))
    parameters.select("dense_weights")[0][...] = np.eye(n_channels)
    rows, slope = X.reshape(len(X), -1), deltas.reshape(1, len(X), -1)
    gradient = compute_input_gradients(network, parameters, rows, lambda scores, i: slope, 1)
    return gradient.reshape(X.shape)


@pytest.mark.parametrize("settings", [{}, {"strides": 1}, {"pool_size": 3}, {"padding": "same"}])
def test_the_first_of_several_largest_pixels_gets_the_gradient(settings):
    rng, settings = np.random.RandomState(0), {"pool_size": 2, "padding": "valid"} | settings
    X, layer = rng.randint(3, size=(20, 7, 7, 2)).astype(float), MaxPool2D(**settings)
    deltas = rng.randn(20, *layer.compute_output_shape(X.shape[1:]))
    stride = settings.get("strides", settings["pool_size"])
    windows = axis_windows(2, 7, settings["pool_size"], stride, settings["padding"])
    expected = np.zeros_like(X)
    for row, u, v, channel in np.ndindex(deltas.shape):
        places = itertools.product(windows[u], windows[v])
        first = max(places, key=lambda place, i=row, k=channel: X[i, *place, k])
        expected[row, *first, channel] += deltas[row, u, v, channel]
    np.testing.assert_allclose(gradient_of(layer, X, deltas), expected, atol=1e-14)


def test_positions_that_share_the_maximum_share_its_gradient():
    X = np.array([[1.0, 3, 2, 3, 3], [4, 4, 0, 1, 2]])[..., None]
    gradient = gradient_of(GlobalMaxPool1D(), X, np.array([6.0, 5.0]))
    np.testing.assert_array_equal(gradient[..., 0], [[0, 2, 0, 2, 2], [2.5, 2.5, 0, 0, 0]])


# --------------------------------------------------------------------------------- padding

SEQUENCE_LAYERS = {
    "pairs": [MaxPool1D(2)],
    "threes that overlap": [MaxPool1D(3, strides=2)],
    "same": [MaxPool1D(3, strides=2, padding="same")],
    "average": [AveragePool1D(2)],
    "same average": [AveragePool1D(3, strides=1, padding="same")],
    "both": [MaxPool1D(2, padding="same"), AveragePool1D(2, padding="same")],
}
every_sequence = pytest.mark.parametrize("last", [GlobalMaxPool1D(), GlobalAveragePool1D()])
every_layer = pytest.mark.parametrize("layers", SEQUENCE_LAYERS.values(), ids=SEQUENCE_LAYERS)
every_layer_or_none = pytest.mark.parametrize(
    "layers", [*SEQUENCE_LAYERS.values(), []], ids=[*SEQUENCE_LAYERS, "none"]
)
LENGTHS = (9, 3, 5, 8)


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("first", [[], [Dense(3, "tanh")], [Conv1D(3, 2, padding="same")]], ids=len)
@every_sequence
@every_layer_or_none
def test_a_padded_sequence_is_as_one_without(layers, last, first, n_estimators):
    """The same parameters serve all numbers of steps."""
    X = np.random.RandomState(0).randn(4, 9, 3)
    layers = [*first, *layers, last]
    network = shaped_network((9, 3), layers)
    parameters = drawn_parameters(network, n_estimators)
    scores = predict_raw(network, parameters, padded(X, LENGTHS))
    for row, length in enumerate(LENGTHS):
        alone = shaped_network((length, 3), layers)
        expected = predict_raw(
            alone, drawn_parameters(alone, n_estimators), X[row, :length].reshape(1, -1)
        )
        np.testing.assert_allclose(scores[:, row], expected[:, 0], rtol=1e-12, atol=1e-14)
    check_gradients(network, n_estimators, 4, X=padded(X, LENGTHS))


@pytest.mark.parametrize("n_estimators", [1, 3])
@every_layer
def test_padding_becomes_zeros_before_a_dense_layer(layers, n_estimators):
    X = np.random.RandomState(0).randn(4, 9, 3)
    network = shaped_network((9, 3), [Dense(3, "tanh"), *layers])
    check_gradients(network, n_estimators, 4, X=padded(X, LENGTHS))


@every_kind
def test_a_sequence_shorter_than_a_window_is_an_error(kind):
    layer = KINDS[kind][1][0](4)
    network, X = shaped_network((9, 3), [layer]), np.random.RandomState(0).randn(4, 9, 3)
    with pytest.raises(ValueError, match="at least 4 steps, its pool_size, got one of 3 before"):
        predict_raw(network, drawn_parameters(network, 1), padded(X, LENGTHS))


# ---------------------------------------------------------------------------------- errors

WRONG = {
    "no window": (lambda: MaxPool1D(0), "pool_size of MaxPool1D must be"),
    "half a window": (lambda: AveragePool2D(1.5), "pool_size of AveragePool2D must be"),
    "three sizes": (lambda: MaxPool2D((2, 2, 2)), "pool_size of MaxPool2D must be"),
    "a pair of steps": (lambda: MaxPool1D((2, 2)), "pool_size of MaxPool1D must be"),
    "no strides": (lambda: MaxPool2D(2, (0, 1)), "strides of MaxPool2D must be"),
}


@pytest.mark.parametrize("make, says", WRONG.values(), ids=WRONG)
def test_wrong_settings_are_errors(make, says):
    with pytest.raises(ValueError, match=says):
        make()


MISFITS = {
    "too few steps": (MaxPool1D(4), (3, 2), "sequences of at least 4 steps"),
    "too few pixels": (MaxPool2D((2, 5)), (4, 4, 1), "images of at least 2 x 5 pixels"),
    "an image": (AveragePool1D(2), (4, 4, 1), r"sequences of shape \(steps,\) or \(steps, ch"),
    "a sequence": (AveragePool2D(2), (4,), r"images of shape \(height, width\) or \(height, w"),
    "all of an image": (GlobalMaxPool1D(), (4, 4, 1), r"sequences .* got rows of shape \(4, 4, 1"),
    "all of a sequence": (GlobalAveragePool2D(), (4,), r"images of .* got rows of shape \(4,\)"),
}


@pytest.mark.parametrize("layer, shape, says", MISFITS.values(), ids=MISFITS)
def test_wrong_input_is_an_error_that_says_which_layer(layer, shape, says):
    X, y = np.zeros((8, *shape)), np.arange(8) % 2
    with pytest.raises(ValueError, match=rf"layers\[0\]: {type(layer).__name__}.* takes {says}"):
        BackpropClassifier((), layers=layer, input_shape=shape).fit(X.reshape(8, -1), y)


# ------------------------------------------------------------------------------ estimators


def test_pairs_are_settings_and_strides_are_those_of_the_windows():
    assert MaxPool2D([2, 3]) == MaxPool2D((2, 3))
    assert MaxPool2D(np.int64(2)) == MaxPool2D()
    assert MaxPool2D(3).compute_output_shape((9, 9, 1)) == (3, 3, 1)
    assert MaxPool2D().set_params(strides=1).compute_output_shape((9, 9, 1)) == (8, 8, 1)
