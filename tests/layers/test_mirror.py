"""Do the mirror images of layers lead from a layer's output back to the shape of its input?"""

import math
from dataclasses import dataclass

import numpy as np
import pytest

from skbackprop import BackpropAutoencoder
from skbackprop import layers as all_layers
from skbackprop.layers import (
    GRU,
    LSTM,
    Activation,
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
    Flatten,
    GaussianNoise,
    GlobalAveragePool1D,
    GlobalAveragePool2D,
    GlobalMaxPool1D,
    GlobalMaxPool2D,
    Layer,
    LayerNormalization,
    MaxPool1D,
    MaxPool2D,
    MultiHeadAttention,
    Permute,
    PositionalEncoding,
    Reshape,
    Residual,
    Scale,
    SimpleRNN,
    TransformerBlock,
)
from skbackprop.layers.base import expand_layers
from skbackprop.layers.reshaping import CropOrPad
from skbackprop.losses import REGRESSOR_LOSSES
from skbackprop.nn.network import Network
from skbackprop.nn.prediction import predict_raw
from skbackprop.training.architecture import mirror_layers
from skbackprop.training.config import AutoencoderConfig

IMAGE, GRAY, SEQUENCE = (9, 8, 3), (9, 8), (9, 2)
CASES = [
    (Dense(4, "relu"), (5,)),
    (Dense(4), IMAGE),
    (Activation("tanh"), (5,)),
    (Dropout(0.2), IMAGE),
    (GaussianNoise(0.2), IMAGE),
    (Scale(), (5,)),
    (BatchNormalization(), IMAGE),
    (LayerNormalization(), SEQUENCE),
    (Flatten(), IMAGE),
    (Reshape((4, -1)), IMAGE),
    (Permute((3, 1, 2)), IMAGE),
    (Residual([Dense(2)]), SEQUENCE),
    (TransformerBlock(2, 5), (9, 4)),
    (MultiHeadAttention(2), SEQUENCE),
    (PositionalEncoding(), SEQUENCE),
    *((kind(4), SEQUENCE) for kind in (GRU, LSTM, SimpleRNN)),
    (GRU(4), (9,)),
    (GRU(4, return_sequences=True), SEQUENCE),
    (Bidirectional(GRU(4)), SEQUENCE),
    (Bidirectional(LSTM(4, return_sequences=True)), SEQUENCE),
    (Conv2D(4, 3, activation="relu"), GRAY),
    (Conv2DTranspose(4, 3, 2), IMAGE),
    (DepthwiseConv2D(3, activation="relu"), GRAY),
    (DepthwiseConv2D(2, (2, 3), "same"), IMAGE),
    *((kind(), (9,)) for kind in (GlobalAveragePool1D, GlobalMaxPool1D)),
    *((kind(), SEQUENCE) for kind in (GlobalAveragePool1D, GlobalMaxPool1D)),
    *((kind(), IMAGE) for kind in (GlobalAveragePool2D, GlobalMaxPool2D)),
    *((kind(2), SEQUENCE[:1]) for kind in (AveragePool1D, MaxPool1D)),
]
for padding in ("valid", "same"):
    for strides in (1, 2, 3):
        for size in (1, 2, 4):
            CASES += [(Conv1D(4, size, strides, padding), SEQUENCE)]
            CASES += [(Conv1D(4, size, strides, padding, dilation=2), SEQUENCE)]
            CASES += [(MaxPool1D(size, strides, padding), SEQUENCE)]
            CASES += [(Conv2D(4, (size, 3), (strides, 2), padding), IMAGE)]
            CASES += [(MaxPool2D((size, 3), (strides, 2), padding), IMAGE)]
            CASES += [(AveragePool2D(size, strides, padding), GRAY)]
CASES += [(Conv1D(4, 3, strides, "causal", 2), SEQUENCE) for strides in (1, 2)]


@pytest.mark.parametrize("layer, shape", CASES, ids=str)
def test_mirror_image_leads_back_to_the_shape_of_the_input(layer, shape):
    _, output_shape = expand_layers([layer], shape)
    _, found = expand_layers(layer.mirror(shape), output_shape)
    assert found == shape or found == (*shape, 1)


def test_every_layer_with_a_mirror_image_is_tested():
    kinds = [getattr(all_layers, name) for name in all_layers.__all__]
    kinds = {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Layer)}
    mirrored = {kind for kind in kinds if kind.mirror is not Layer.mirror}
    assert mirrored - {all_layers.Normalization} == {type(layer) for layer, _ in CASES}


def config_with(layers):
    """Return the configuration of an autoencoder without hidden layers."""
    params = BackpropAutoencoder(hidden_layer_sizes=(), layers=layers).get_params(deep=False)
    return AutoencoderConfig.from_params(params, REGRESSOR_LOSSES)


def named(layers):
    """Return the names of layers, and of the functions of activations."""
    return [
        layer.activation if isinstance(layer, Activation) else type(layer).__name__
        for layer in layers
    ]


@pytest.mark.parametrize(
    "layers, shape, expected",
    [
        ([], (4, 4), []),
        ([Flatten()], (4, 4), []),
        ([Dense(5, "tanh")], (4,), ["tanh", "Dense"]),
        ([Dense(5, "tanh"), Dense(3, "relu")], (4,), ["relu", "Dense", "tanh", "Dense"]),
        (
            [Dense(5, use_bias=False), BatchNormalization(), Activation("relu"), Dropout(0.1)],
            (4,),
            ["Dropout", "BatchNormalization", "relu", "Dense"],
        ),
        ([BatchNormalization(), Dense(5)], (4,), ["Dense"]),
        (
            [Conv2D(2, 3, activation="relu"), MaxPool2D(2), Conv2D(4, 2, activation="tanh")],
            (8, 8),
            ["Reshape", "tanh", "Conv2DTranspose", "UpSampling2D", "relu", "Conv2DTranspose"],
        ),
        (
            [Conv2D(2, 3, 2, activation="relu")],
            (8, 8),
            ["Reshape", "relu", "Conv2DTranspose", "CropOrPad"],
        ),
        (
            [Permute((2, 1)), Conv2D(4, 2)],
            (8, 7),
            ["Reshape", "Conv2DTranspose", "Reshape", "Permute"],
        ),
        (
            [GRU(4)],
            (9, 2),
            ["Reshape", "Reshape", "UpSampling2D", "Reshape", "GRU", "Dense"],
        ),
        (
            [Conv1D(2, 3, 3, activation="relu")],
            (9, 2),
            ["Reshape", "relu", "Reshape", "Conv2DTranspose"],
        ),
    ],
    ids=str,
)
def test_the_decoder_mirrors_the_layers_in_reverse_order(layers, shape, expected):
    mirrored = mirror_layers(layers, shape)
    assert named(mirrored) == expected
    network = config_with(layers).network(shape, 0)
    assert network.layers[len(network.layers) - len(mirrored) :] == tuple(mirrored)
    assert network.n_units[-1] == math.prod(shape)


@dataclass(frozen=True)
class Own(Layer):
    """A layer without a mirror image."""


@dataclass(frozen=True)
class Wrong(Layer):
    """A layer whose mirror image makes another number of values."""

    def mirror(self, input_shape):
        return (Dense(2),)


@pytest.mark.parametrize(
    "layer, message",
    [
        (
            Own(),
            r"layers\[1\]: Own\(\) has no mirror image.* Use .*Conv2D, .*mirror\(input_shape\)",
        ),
        (Wrong(), r"layers\[1\]: .* returns rows of shape \(2,\), .* as many values as \(3,\)"),
    ],
)
def test_layers_without_a_mirror_image_are_errors(layer, message):
    with pytest.raises(ValueError, match=message):
        config_with([Dense(3), layer]).network((4,), 0)


def test_sizes_are_cropped_or_the_last_ones_are_repeated():
    x = np.arange(12.0).reshape(1, 3, 4, 1)
    expected = np.pad(x, [(0, 0), (0, 2), (0, 0), (0, 0)], mode="edge")[:, :, :2]
    network = Network((3, 4, 1), (Scale(), CropOrPad((5, 2))))
    out = predict_raw(network, network.layout.init(1, np.dtype(float)), x.reshape(1, -1))
    np.testing.assert_array_equal(out.reshape(expected.shape), expected)
