"""The contract of all layers: gradients, members of a stack, and complete epochs.

A layer of `LAYERS` or `NORMALIZATIONS` enters by its name, one for images or sequences by a row of
`SHAPED_LAYERS`, and of `WIDENED` if it takes memory. What a layer computes is tested in the file of
its kind.
"""

import math
from dataclasses import replace

import numpy as np
import pytest

from skbackprop.activations import ACTIVATIONS
from skbackprop.layers import (
    GRU,
    LAYERS,
    LSTM,
    NORMALIZATIONS,
    Activation,
    AveragePool1D,
    AveragePool2D,
    BatchNormalization,
    Bidirectional,
    CategoricalEmbedding,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Embedding,
    GaussianNoise,
    GlobalMaxPool1D,
    LayerNormalization,
    MaxPool1D,
    MaxPool2D,
    MultiHeadAttention,
    PeriodicEmbedding,
    Residual,
    SimpleRNN,
    TransformerBlock,
)
from skbackprop.layers.base import expand_layers
from skbackprop.layers.columns import BlockDiagonalDense, Scale
from skbackprop.layers.latent import Sampling
from skbackprop.layers.reshaping import Flatten
from skbackprop.nn.network import BoundNetwork, Network
from skbackprop.nn.prediction import compute_input_gradients, predict_raw
from skbackprop.optimizers import SGD, Adam
from skbackprop.testing import check_gradient
from skbackprop.utils.arrays import BufferPool, squeeze_member_axis
from skbackprop.weight_averaging import ExponentialMovingAverage
from support import few_epochs, grows_by_less, pairs
from support.shaped import (
    SHAPED_LAYERS,
    check_gradients,
    drawn_parameters,
    run_step,
    shaped_network,
)
from support.stacks import (
    DTYPES,
    LOSSES,
    Member,
    assert_each_as_alone,
    assert_same_bits,
    assert_same_state,
    batch_gradient,
    dense_network,
    five_members,
    in_turn,
    peak_of_an_epoch,
    some_table,
    trained,
)

pytestmark = few_epochs

LOSS = LOSSES["squared_error-identity"]
N_INPUTS, N_TARGETS = 14, 2
MAPS = BlockDiagonalDense(n_blocks=4, width=3, n_units=2)
# No block, one, and all columns; a width or a number of outputs of one, where NumPy takes another
# way; codes in the last columns, the first, some between and all.
FRONTS = {
    **{f"input {name}": (kind(),) for name, kind in LAYERS.items()},
    "maps": (MAPS,),
    "maps and scale": (MAPS, Scale()),
    "scale and maps": (Scale(), MAPS),
    "one block": (BlockDiagonalDense(1, 5, 3), Scale()),
    "all columns": (BlockDiagonalDense(2, 7, 1), Scale()),
    "one column each": (BlockDiagonalDense(6, 1, 2), Scale()),
    "more outputs": (BlockDiagonalDense(3, 2, 4),),
    "waves and scale": (PeriodicEmbedding(2, n_units=2), Scale()),
    "scale and fixed waves": (Scale(), PeriodicEmbedding(3, trained=False)),
    "waves of some": (PeriodicEmbedding(3, n_units=1, features=(12, 0, 5)),),
    "a wave of one": (PeriodicEmbedding(1, n_units=1, features=(13,)),),
    "waves twice": (PeriodicEmbedding(2, trained=False), PeriodicEmbedding(1, features=range(5))),
    "codes last": (CategoricalEmbedding({12: 3, 13: 2}, n_units=3),),
    "codes first": (CategoricalEmbedding({0: 4}, n_units=2),),
    "codes between": (CategoricalEmbedding({1: 3, 4: 5}, n_units=1), Scale()),
    "codes only": (CategoricalEmbedding(dict.fromkeys(range(14), 3), n_units=2),),
    "drawn codes": (Scale(), Sampling(0.7)),
    "drawn codes first": (Sampling(0.7),),
    "noise": (GaussianNoise(0.3), Scale(), GaussianNoise(0.2)),
    "codes and waves": (CategoricalEmbedding({5: 4}), PeriodicEmbedding(2, features=(0, 2))),
}
# Layers whose output has the shape of their input, several of which can follow each other.
REPEATED = {
    "Dense": ((2, 3), Dense(3, "gelu")),
    "LayerNormalization": ((2, 3), LayerNormalization()),
    "BatchNormalization": ((2, 3), BatchNormalization()),
    "Conv1D": ((4, 2), Conv1D(2, 3, padding="same")),
    "Conv2D": ((3, 3, 2), Conv2D(2, 2, padding="same")),
    "Conv2DTranspose": ((3, 3, 2), Conv2DTranspose(2, 2, padding="same")),
    "DepthwiseConv2D": ((3, 3, 2), DepthwiseConv2D(2, padding="same")),
    "MaxPool1D": ((5, 2), MaxPool1D(3, 1, "same")),
    "MaxPool2D": ((3, 4, 2), MaxPool2D(2, 1, "same")),
    "AveragePool2D": ((3, 4, 2), AveragePool2D(2, 1, "same")),
    "SimpleRNN": ((4, 2), SimpleRNN(2, return_sequences=True)),
    "GRU": ((4, 2), GRU(2, return_sequences=True)),
    "LSTM": ((4, 2), LSTM(2, return_sequences=True)),
    "Bidirectional": ((4, 2), Bidirectional(GRU(1, return_sequences=True))),
    "MultiHeadAttention": ((4, 2), MultiHeadAttention(2)),
    "TransformerBlock": ((4, 2), TransformerBlock(1, 3)),
    "Residual": ((4, 2), Residual([Dense(2, "tanh"), Residual(Dense(2))])),
}
# The arguments of `network_of`. Of these, networks without a front take sparse input.
CASES = {
    **{f"normalization {name}": {"normalization": kind()} for name, kind in NORMALIZATIONS.items()},
    "normalization and dropout": {
        "normalization": BatchNormalization(),
        "dropout": (0.2, 0.3, 0.4),
    },
    "normalization of narrow layers": {
        "normalization": BatchNormalization(0.5),
        "hidden": (1, 5, 1),
    },
    "hidden dropout": {"dropout": (0.0, 0.3, 0.5)},
    "input dropout": {"dropout": (0.4, 0.0, 0.0)},
    "dropout": {"dropout": (0.2, 0.5, 0.3)},
    **{name: {"front": front} for name, front in FRONTS.items()},
    "front and dropout": {"front": (MAPS, Scale()), "dropout": (0.2, 0.3, 0.0)},
    **{
        name: {"front": front, "input_shape": shape, "padding": padding}
        for name, (shape, front, padding) in SHAPED_LAYERS.items()
    },
}
# The same with each second layer frozen: the first, third, ... that has parameters, or the others.
for i, (name, layers) in enumerate(list(CASES.items())):
    CASES[f"{name}, frozen"] = layers | {"frozen": slice(i % 2, None, 2)}
# Networks whose layers have a number of units, filters or steps, for how an epoch's memory grows.
WIDENED = {
    "dropout": lambda width: {"hidden": (width, width), "dropout": (0.2, 0.5, 0.5)},
    **{
        name: lambda width, kind=kind: {"hidden": (width, width), "normalization": kind()}
        for name, kind in NORMALIZATIONS.items()
    },
    "Sampling": lambda width: shaped((1,), Dense(2 * width), Sampling()) | {"hidden": (200,)},
    "Conv1D": lambda width: shaped((6, 1), Conv1D(width, 3, padding="causal")),
    "DepthwiseConv2D": lambda width: shaped((3, 3), Conv2D(width, 2), DepthwiseConv2D(1)),
    "Conv2DTranspose": lambda width: shaped((2, 2), Conv2DTranspose(width, 2, padding="same")),
    "Conv2D": lambda width: shaped((3, 3), Conv2D(2, 2), Conv2D(width, 2, padding="same")),
    "MaxPool2D": lambda width: shaped((2, 6, 1), Dense(width), MaxPool2D((2, 3), 2, "same")),
    "AveragePool1D": lambda width: shaped((6, 1), Dense(width), AveragePool1D(3, 2, "same")),
    "GlobalMaxPool1D": lambda width: shaped((2, 1), Dense(3 * width), GlobalMaxPool1D()),
    "Residual": lambda width: shaped((3, 1), Dense(width), Residual(Activation("tanh"))),
    "GRU": lambda width: shaped((width // 10, 1), GRU(10)),
    "Bidirectional": lambda width: shaped((width // 10, 1), Bidirectional(LSTM(10))),
    "Embedding": lambda width: shaped((6,), Embedding(5, width)),
    "MultiHeadAttention": lambda width: shaped((4, 300), MultiHeadAttention(1, width // 3)),
}
# Networks that take sparse input.
DENSE = [name for name, layers in CASES.items() if "front" not in layers]
every_layer = pytest.mark.parametrize("name", CASES)


def shaped(input_shape, *front):
    """Return arguments of `network_of` with more weights than an update reads at once."""
    return {"front": front, "input_shape": input_shape, "hidden": (60,)}


def network_of(
    front=(),
    activation="tanh",
    hidden=(5, 4),
    normalization=None,
    dropout=(),
    input_shape=(N_INPUTS,),
    padding=None,
    frozen=slice(0),
):
    """Return a network with layers before the dense ones.

    `frozen` are those of the layers with parameters that are not trainable.
    """
    front, shape = expand_layers(front, input_shape)
    if len(shape) > 1:
        front.append(Flatten())
    activations = (ACTIVATIONS[activation],) * len(hidden)
    widths = math.prod(shape), *hidden, N_TARGETS
    plain = dense_network(widths, activations, (), normalization)
    network = Network(input_shape, (*front, *plain.layers))
    layers = np.array(network.layers, dtype=object)
    has_arrays = [
        bool(layer.parameter_specs(shape))
        for layer, shape in zip(layers, network.row_shapes, strict=False)
    ]
    for i in np.flatnonzero(has_arrays)[frozen]:
        layers[i] = replace(layers[i], trainable=False)
    return Network(input_shape, tuple(layers)).with_dropout(dropout)


def codes_of(layers):
    """Return (column, number of levels) of the columns that hold codes."""
    first = next(iter(layers.get("front", ())), None)
    if isinstance(first, Embedding):
        return tuple((column, first.n_tokens) for column in range(*layers["input_shape"]))
    return first.n_levels if isinstance(first, CategoricalEmbedding) else ()


def write_codes(table, layers):
    """Write codes to the columns that are to hold them, some of them -1, and padding."""
    rng = np.random.default_rng(table.n_rows)
    padding = layers.get("padding")
    for column, n_levels in codes_of(layers):
        table.X[:, column] = rng.integers(0 if padding else -1, n_levels, table.n_rows)
    if padding:
        steps = table.X.reshape(table.n_rows, layers["input_shape"][0], -1)
        for row, length in zip(steps, rng.integers(1, steps.shape[1] + 1, len(steps)), strict=True):
            row[length:] = np.nan if padding == "nan" else -1
    return table


def tables_for(layers, n, n_rows=9, **options):
    widths = network_of(**layers).n_units[0], N_TARGETS
    tables = [some_table(LOSS, n_rows, widths, seed=i, **options) for i in range(n)]
    return [write_codes(table, layers) for table in tables]


# ----------------------------------------------------------------------------- gradients


def check_parameter_gradients(layers, stack, dtype, **options):
    """Compare the gradient by the parameters with finite differences in float64."""
    network, n = network_of(**layers), 1 if stack == "one" else 3
    tables = tables_for(layers, n, **options)
    tables = tables[:1] * 3 if stack == "three on one table" else tables
    start = drawn_parameters(network, n)

    def gradient(theta):
        rngs = [np.random.default_rng(i) for i in range(n)]
        parameters = start.with_arrays(theta).astype(theta.dtype)
        return batch_gradient(network, LOSS, tables, parameters, rngs=rngs)[:2]

    def at(theta):
        value, g = gradient(theta)
        if dtype != np.float64:
            _, g = gradient(theta.astype(dtype))
            assert g.dtype == dtype
        return value, g

    rtol = {np.float64: 1e-6, np.float32: 1e-3}[dtype]
    check_gradient(at, start.theta, n_directions=3, rtol=rtol)


@pytest.mark.parametrize(
    "name, stack, weighted, dtype",
    pairs(list(CASES), ["one", "three", "three on one table"], [False, True], DTYPES),
)
def test_gradient_matches_finite_differences(name, stack, weighted, dtype):
    check_parameter_gradients(CASES[name], stack, dtype, weighted=weighted)


@pytest.mark.parametrize("activation, name", in_turn(ACTIVATIONS, DENSE))
@pytest.mark.parametrize("stack", ["one", "three"])
def test_gradient_with_sparse_input_matches_finite_differences(activation, name, stack):
    layers = CASES[name] | {"activation": activation}
    check_parameter_gradients(layers, stack, np.float64, is_sparse=True)


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("shape, layer", REPEATED.values(), ids=REPEATED)
def test_equal_layers_share_no_memory_that_backward_reads(shape, layer, n_estimators):
    check_gradients(shaped_network(shape, [Dense(shape[-1]), layer, layer, layer]), n_estimators)


@pytest.mark.parametrize("n_estimators", [1, 3])
@every_layer
def test_gradient_by_the_input_matches_finite_differences(name, n_estimators):
    """The gradient by codes of categories is zero."""
    layers = CASES[name]
    network = network_of(**layers | {"dropout": ()})
    parameters = drawn_parameters(network, n_estimators)
    (table,) = tables_for(layers, 1)
    X, slope = table.X, np.random.RandomState(8).normal(size=(n_estimators, 9, N_TARGETS))
    is_number = np.isfinite(X)
    is_number[:, [column for column, _ in codes_of(layers)]] = False

    def at(numbers):
        X[is_number] = numbers
        gradient = compute_input_gradients(network, parameters, X, lambda scores, i: slope, 1)
        gradient = gradient.reshape(X.shape)
        assert not gradient[~is_number].any()
        return (slope * predict_raw(network, parameters, X)).sum(), gradient[is_number]

    numbers = X[is_number]
    at(numbers)
    if is_number.any():
        check_gradient(at, numbers)


@every_layer
def test_only_matrices_are_regularized(name):
    network = network_of(**CASES[name])
    parameters = drawn_parameters(network, 2)
    shapes = zip(network.layers, network.row_shapes, strict=False)
    trained = [(layer, shape) for layer, shape in shapes if layer.trainable]
    specs = [spec for layer, shape in trained for spec in layer.parameter_specs(shape)]
    regularized = [spec for spec in specs if spec.regularized]
    assert parameters.regularized.shape == (2, sum(spec.size for spec in regularized))
    assert all(len(spec.shape) > 1 for spec in regularized)
    for other in network.shapes.keys() - {spec.name for spec in regularized}:
        arrays = parameters.select(other)
        assert not any(np.shares_memory(array, parameters.regularized) for array in arrays)


@pytest.mark.parametrize("n_estimators", [1, 3])
@every_layer
def test_a_bound_network_follows_arrays_that_change_in_place(name, n_estimators):
    network = network_of(**CASES[name])
    (table,) = tables_for(CASES[name], 1)
    parameters = drawn_parameters(network, n_estimators)
    other = drawn_parameters(network, n_estimators, first_seed=5)
    for buffer in other.buffers.values():
        buffer += 0.3
    scores = np.empty((n_estimators, 9, N_TARGETS))
    bound = BoundNetwork(network, parameters, 9, BufferPool(np.dtype(float)))
    parameters.theta[...] = other.theta
    for key, array in other.buffers.items():
        parameters.buffers[key][...] = array
    bound.forward(table.X, squeeze_member_axis(scores))
    assert_same_bits(scores, predict_raw(network, other, table.X))


# ------------------------------------------------------------------------------- a stack


@pytest.mark.parametrize("dtype, weighted", [(np.float64, True), (np.float32, False)])
@every_layer
def test_a_member_of_five_equals_the_network_alone(name, dtype, weighted):
    check_five_members(CASES[name], dtype, weighted=weighted)


@pytest.mark.parametrize("name", DENSE)
def test_a_member_of_five_with_sparse_rows_equals_the_network_alone(name):
    check_five_members(CASES[name], np.float64, weighted=True, is_sparse=True)


def check_five_members(layers, dtype, **options):
    network = network_of(**layers)
    members = five_members(LOSS, network, **options)
    for member in members:
        write_codes(member.table, layers)
    average = ExponentialMovingAverage(0.9)
    assert_each_as_alone(members, 3, network, LOSS, Adam(), dtype=dtype, average=average)


@every_layer
def test_members_that_share_their_rows_are_as_if_they_did_not(name):
    """One batch for all members has one member on its first axis."""
    network = network_of(**CASES[name] | {"dropout": ()})
    (table,) = tables_for(CASES[name], 1, 20, weighted=True)
    shared = [Member(table, seed, 0.01, alpha=0.1, is_shuffled=False) for seed in range(3)]
    apart = [replace(member, table=replace(table)) for member in shared]
    states = [trained(members, 3, network, LOSS, Adam()) for members in (shared, apart)]
    assert_same_state(*states)


@pytest.mark.parametrize(
    "layers, shape",
    [
        ([Dense(500, "tanh")], (6,)),
        ([Dense(500, "silu"), LayerNormalization()], (6,)),
        ([MaxPool1D(3)], (30, 20)),
        ([GlobalMaxPool1D()], (30, 20)),
    ],
    ids=str,
)
def test_a_batch_that_is_computed_in_parts_is_the_sum_of_small_ones(layers, shape):
    network = shaped_network(shape, layers)
    parameters, rng = drawn_parameters(network, 1), np.random.RandomState(0)
    x, delta = rng.randn(300, math.prod(shape)), rng.randn(300, network.n_units[-1])
    whole = run_step(network, parameters, x, delta)
    rows = zip(np.split(x, 10), np.split(delta, 10), strict=True)
    outs, gradients, d_x = zip(
        *(run_step(network, parameters, *each) for each in rows), strict=True
    )
    np.testing.assert_allclose(whole[0], np.concatenate(outs, axis=1))
    np.testing.assert_allclose(whole[1].theta, sum(each.theta for each in gradients), atol=1e-9)
    np.testing.assert_allclose(whole[2], np.concatenate(d_x, axis=1), atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("widened", WIDENED.values(), ids=WIDENED)
def test_no_allocation_of_an_epoch_grows_with_the_network(widened):
    """Random words are drawn 8,192 at once, and 65,536 numbers are searched for subnormal ones."""

    def peak(width):
        network = network_of(**widened(width))
        table = some_table(LOSS, 300, network.widths, weighted=True)
        members = [Member(table, seed, 1e-4) for seed in range(3)]
        return peak_of_an_epoch(members, network, LOSS, SGD(), batch_size=128)

    # A batch of 260 units more would be 33,280 bytes even as booleans.
    assert grows_by_less(peak, 520, 780, 20_000)
