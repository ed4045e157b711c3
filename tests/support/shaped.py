"""Layers for images and sequences, and networks of them, for the tests of layers."""

import numpy as np

from skbackprop.layers import (
    GRU,
    LSTM,
    AveragePool1D,
    AveragePool2D,
    BatchNormalization,
    Bidirectional,
    Conv1D,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Embedding,
    GlobalAveragePool1D,
    GlobalAveragePool2D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    LayerNormalization,
    MaxPool1D,
    MaxPool2D,
    MultiHeadAttention,
    Permute,
    PositionalEncoding,
    RandomFlip,
    RandomTranslation2D,
    Residual,
    SimpleRNN,
    TransformerBlock,
    UpSampling2D,
)
from skbackprop.layers.base import FROZEN, expand_layers
from skbackprop.layers.reshaping import CropOrPad, Flatten
from skbackprop.nn.network import BoundNetwork, Network, dense_layers
from skbackprop.nn.prediction import compute_input_gradients, predict_raw
from skbackprop.testing import check_gradient
from skbackprop.utils.arrays import BufferPool, squeeze_member_axis

from .stacks import LOSSES, batch_gradient, some_table

LOSS = LOSSES["squared_error-identity"]
N_TARGETS = 2

# Layers with the shape of their rows. "nan" or "tokens" says what ends in padding.
SHAPED_LAYERS = {
    "Conv1D": ((7, 2), (Conv1D(3, 3, 2, "same", 2, "tanh"), Conv1D(2, 2)), None),
    "Conv1D, padded": ((7, 2), (Conv1D(3, 3, 2, "same"), Conv1D(2, 2, padding="causal")), "nan"),
    "Conv1D of one channel": ((14,), (Conv1D(1, 3, dilation=2, use_bias=False),), None),
    "Conv2D": ((4, 4), (Conv2D(3, 2, activation="relu"), Conv2D(2, 3, 2, "same")), None),
    "Conv2D of one pixel": ((2, 3, 2), (Conv2D(1, 1), Conv2D(3, (2, 1))), None),
    "GRU, padded": ((7, 2), (GRU(3),), "nan"),
    "GRU of one channel": ((14,), (GRU(1, return_sequences=True), GRU(2)), None),
    "LSTM, padded": ((7, 2), (LSTM(2, return_sequences=True), LSTM(3)), "nan"),
    "SimpleRNN": ((7, 2), (SimpleRNN(3),), None),
    "Bidirectional, padded": (
        (7, 2),
        (Bidirectional(LSTM(2, return_sequences=True)), Bidirectional(SimpleRNN(2, "silu"))),
        "nan",
    ),
    "Embedding and GRU": ((7,), (Embedding(5, 3), GRU(2)), "tokens"),
    "Conv2DTranspose": ((3, 2, 2), (Conv2DTranspose(2, 3, 2), Conv2DTranspose(1, (1, 9))), None),
    "MaxPool1D, padded": (
        (9, 2),
        (MaxPool1D(2, padding="same"), AveragePool1D(3, 1, "same")),
        "nan",
    ),
    "MaxPool2D": ((4, 6, 2), (MaxPool2D((2, 3)), MaxPool2D(2, 1, "same")), None),
    "AveragePool2D": ((5, 4), (Dense(2), AveragePool2D(2, padding="same")), None),
    "GlobalMaxPool1D, padded": ((7, 2), (GlobalMaxPool1D(),), "nan"),
    "GlobalAveragePool1D, padded": ((7, 2), (Dense(3), GlobalAveragePool1D()), "nan"),
    "global pooling of images": ((3, 4, 2), (Dense(3), GlobalMaxPool2D()), None),
    "Permute": ((3, 4, 2), (Permute((2, 3, 1)), GlobalAveragePool2D()), None),
    "Residual": ((5, 3), (Residual([LayerNormalization(), Residual(Dense(3, "silu"))]),), None),
    "Residual, padded": ((5, 3), (Residual(MultiHeadAttention(1)), Residual(Dense(3))), "nan"),
    "Residual and dropout": ((4, 2), (Conv1D(3, 2), Residual([Dropout(0.2), Dense(3)])), None),
    "RandomFlip": ((2, 3, 2), (RandomFlip(), Conv2D(3, 2), RandomFlip("horizontal")), None),
    "RandomTranslation2D": ((3, 4), (Conv2D(2, 2), RandomTranslation2D(0.6), Conv2D(2, 1)), None),
    "DepthwiseConv2D": ((4, 3, 2), (DepthwiseConv2D(2, 2, "same"), DepthwiseConv2D((1, 2))), None),
    "UpSampling2D": ((2, 3), (UpSampling2D((1, 2)), Conv2D(2, 2)), None),
    "CropOrPad": ((3, 4), (Conv2D(2, 1), CropOrPad((5, 3))), None),
    "CropOrPad at both ends": ((2, 3, 2), (CropOrPad((4, 4)), Conv2D(2, 2, 3)), None),
    "Embedding": ((7,), (Embedding(5, 3), Conv1D(2, 2, padding="same")), "tokens"),
    "PositionalEncoding": ((4, 3), (PositionalEncoding(), Conv1D(2, 2, padding="same")), "nan"),
    "trained PositionalEncoding": (
        *((7,), (Embedding(5, 3), PositionalEncoding(trained=True), Dense(2)), "tokens"),
    ),
    "MultiHeadAttention": ((5, 4), (MultiHeadAttention(2),), None),
    "MultiHeadAttention, padded": ((5, 4), (MultiHeadAttention(2), MultiHeadAttention(4)), "nan"),
    "causal MultiHeadAttention": ((5, 3), (MultiHeadAttention(2, 2, is_causal=True),), "nan"),
    "MultiHeadAttention of one step": ((1, 3), (MultiHeadAttention(1, 1),), None),
    "TransformerBlock": (
        *((6,), (Embedding(5, 4), PositionalEncoding(), TransformerBlock(2, 6)), "tokens"),
    ),
    "BatchNormalization, padded": ((6, 3), (Dense(3), BatchNormalization(), GRU(2)), "nan"),
    "TransformerBlock, padded": ((6, 4), (TransformerBlock(1, 5, "relu", key_size=3),), "nan"),
}


def shaped_network(input_shape, layers):
    """Return a network of some layers and a dense one."""
    layers, shape = expand_layers(layers, input_shape)
    if len(shape) > 1:
        layers, shape = (*layers, Flatten()), (int(np.prod(shape)),)
    return Network(input_shape, (*layers, *dense_layers((), (), N_TARGETS)))


def drawn_parameters(network, n_estimators, dtype=float, first_seed=0):
    """Return parameters that differ from their initial values."""
    rngs = [np.random.RandomState(first_seed + i) for i in range(n_estimators)]
    parameters = network.layout.init(n_estimators, np.dtype(dtype), rngs)
    for arrays in (parameters.theta, parameters.buffers.get(FROZEN, [])):
        for values, rng in zip(arrays, rngs, strict=False):
            values += 0.4 * rng.randn(len(values))
    return parameters.astype(dtype)


def forward(input_shape, layers, X, n_estimators=1):
    """Return the output of layers for rows of X, of shape (n_estimators, n_rows, *output_shape)."""
    layers, _ = expand_layers(layers, input_shape)
    network = Network(input_shape, tuple(layers))
    parameters = drawn_parameters(network, n_estimators)
    scores = predict_raw(network, parameters, X.reshape(len(X), -1))
    return scores.reshape(*scores.shape[:2], *network.row_shapes[-1])


def run_step(network, parameters, x, delta, rngs=()):
    """Return the output of a training step, the gradients, and the gradient by the input.

    `delta` is the gradient by the output, of shape (n_estimators, n_rows, ...). So is `x`, or it
    has no axis of members if they share their rows.
    """
    n_estimators, dtype = len(parameters), parameters.dtype
    delta = delta.astype(dtype).reshape(n_estimators, -1, network.n_units[-1])
    x = x.astype(dtype).reshape(-1, delta.shape[1], network.n_units[0])
    gradients = parameters.with_arrays(np.full_like(parameters.theta, np.nan))
    n_rows, pool = delta.shape[1], BufferPool(dtype)
    bound = BoundNetwork(
        network, parameters, n_rows, pool, gradients, rngs=rngs, with_input_gradient=True
    )
    out = np.empty_like(delta)
    bound.forward(squeeze_member_axis(x), squeeze_member_axis(out))
    bound.delta[...] = squeeze_member_axis(delta)
    d_x = bound.backward().reshape(n_estimators, *x.shape[1:])
    return out, gradients, d_x.copy()


def padded(X, lengths):
    """Return sequences (n, t, ...) as rows, with NaN after the given number of steps of each."""
    X = X.copy()
    for x, length in zip(X, lengths, strict=True):
        x[length:] = np.nan
    return X.reshape(len(X), -1)


def check_gradients(network, n_estimators=1, n_rows=7, weighted=False, is_shared=False, X=None):
    """Check gradients by the parameters and by the input against finite differences.

    With `is_shared` all members have the same rows. NaN in X has a gradient of zero. A network with
    dropout is checked by its parameters only, with the same masks in each call.
    """
    n_inputs, n_outputs = network.n_units[0], network.n_units[-1]
    start = drawn_parameters(network, n_estimators)
    seeds = [0] * n_estimators if is_shared else range(n_estimators)
    tables = [
        some_table(LOSS, n_rows, (n_inputs, n_outputs), weighted=weighted, seed=seed)
        for seed in seeds
    ]
    tables = tables[:1] * n_estimators if is_shared else tables
    for table in tables:
        if X is not None:
            table.X[...] = X

    def by_parameters(theta):
        rngs = [np.random.default_rng(i) for i in range(n_estimators)]
        return batch_gradient(network, LOSS, tables, start.with_arrays(theta), rngs=rngs)[:2]

    check_gradient(by_parameters, start.theta, n_directions=4)
    if network.stochastic:
        return
    X = tables[0].X
    slope = np.random.RandomState(8).normal(size=(n_estimators, n_rows, n_outputs))
    is_padding = np.isnan(X)

    def by_input(x):
        x = np.where(is_padding, np.nan, x)
        gradient = compute_input_gradients(network, start, x, lambda scores, i: slope, 1)[..., 0]
        assert not gradient[is_padding].any()
        return (slope * predict_raw(network, start, x)).sum(), gradient

    check_gradient(by_input, np.where(is_padding, 0, X), n_directions=4)
