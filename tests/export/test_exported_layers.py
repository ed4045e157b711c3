"""Networks of each kind of layer as ONNX models give what the networks predict."""

from functools import cache

import numpy as np
import pytest
from sklearn.frozen import FrozenEstimator
from test_onnx import assert_all_tensors_are_used, outputs_of

from skbackprop import BackpropAutoencoder, BackpropClassifier
from skbackprop.export import to_onnx
from skbackprop.inspection import BackpropFeatures
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
    Embedding,
    Flatten,
    GaussianNoise,
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
    Reshape,
    Residual,
    SimpleRNN,
    TransformerBlock,
    UpSampling2D,
)
from support.cases import SHORT, is_close

RNG = np.random.default_rng(0)
N_ROWS = 40
NUMBERS = RNG.normal(size=(N_ROWS, 18)).astype(np.float32)
TOKENS = RNG.integers(0, 5, (N_ROWS, 7))

# The layers, by name, with the shape of a row.
CASES = {
    "dense": ((6, 3), [Dense(4, activation="relu"), Flatten()]),
    "dense without biases": ((6, 3), [Dense(4, use_bias=False), Activation("tanh")]),
    "dense of images": ((2, 3, 3), [Dense(2, activation="gelu"), Dropout(0.2), Dense(3)]),
    "batch normalization": ((6, 3), [Dense(4), BatchNormalization(), Activation("relu")]),
    "layer normalization": ((6, 3), [LayerNormalization(), Dense(4)]),
    "convolution of images": ((4, 4), [Conv2D(3, 3, activation="relu"), Conv2D(2, 2)]),
    "augmentation": ((4, 4), [GaussianNoise(0.1), RandomFlip(), RandomTranslation2D(0.4)]),
    "convolution with strides": (
        (3, 3, 2),
        [Conv2D(3, (3, 2), strides=(2, 1), padding="same"), BatchNormalization()],
    ),
    "convolution of sequences": (
        (6, 3),
        [Conv1D(4, 3, padding="causal", dilation=2), Activation("relu"), Conv1D(3, 2, strides=2)],
    ),
    "convolution without biases": ((18,), [Conv1D(4, 5, use_bias=False, padding="same")]),
    "transposed convolution": (
        (3, 2),
        [
            Conv2DTranspose(3, 3, strides=2, padding="same", activation="relu"),
            Conv2DTranspose(2, (1, 2), strides=(2, 1), use_bias=False),
        ],
    ),
    "convolution of each channel": (
        (3, 3, 2),
        [DepthwiseConv2D((2, 3), padding="same"), Conv2D(3, 1, activation="relu")],
    ),
    "repeated pixels": ((3, 2, 2), [UpSampling2D((2, 1)), Conv2D(2, 2), UpSampling2D()]),
    "pooling of images": (
        (5, 3),
        [
            Conv2D(4, 2, padding="same"),
            MaxPool2D(3, strides=(1, 2), padding="same"),
            AveragePool2D((3, 2), padding="same"),
        ],
    ),
    "pooling of sequences": (
        (6, 3),
        [MaxPool1D(2, strides=1), Dense(4), AveragePool1D(3, strides=2, padding="same")],
    ),
    "maximum of all positions": ((6, 3), [Dense(4), GlobalMaxPool1D()]),
    "mean of all positions": ((3, 3, 2), [Dense(4), GlobalAveragePool2D()]),
    "pooling of the input": ((4, 4), [MaxPool2D(3, strides=1), GlobalMaxPool2D()]),
    "pooling of numbers": ((9,), [AveragePool1D(2), GlobalAveragePool1D(), Dense(2)]),
    "recurrence": ((6, 3), [GRU(4, return_sequences=True), GRU(3)]),
    "recurrence over numbers": ((5,), [GRU(4)]),
    "long short-term memory": ((6, 3), [LSTM(4, return_sequences=True), LSTM(3)]),
    "recurrence without gates": ((6, 3), [SimpleRNN(4, return_sequences=True), SimpleRNN(3)]),
    "recurrence of relu": ((5,), [SimpleRNN(3, "relu", return_sequences=True)]),
    "both directions": (
        (6, 3),
        [Bidirectional(LSTM(2, return_sequences=True)), Bidirectional(GRU(3))],
    ),
    "attention": ((6, 3), [PositionalEncoding(trained=True), MultiHeadAttention(2, 3)]),
    "transformer": (
        (7,),
        [
            Embedding(5, 4),
            PositionalEncoding(),
            TransformerBlock(2, 6, dropout=0.1, is_causal=True),
            GlobalMaxPool1D(),
        ],
    ),
    "permuted axes": ((3, 2, 2), [Dense(4), Permute((3, 1, 2)), Conv2D(2, 2)]),
    "residual": (
        (6, 3),
        [Residual([Dense(4, activation="relu"), Residual(Dense(4)), Dropout(0.1), Dense(3)])],
    ),
    "residual of shared rows": ((5,), [Residual("scale"), Dense(3)]),
    "embedding": ((7,), [Embedding(5, 3), Dense(4, activation="relu")]),
    "reshape": ((18,), [Reshape((2, 3, 3)), Dense(4, activation="tanh"), Reshape((4, -1))]),
}
# The model that onnx's reference evaluator can't compute: it knows no relu in RNN.
WITHOUT_REFERENCE = {"recurrence of relu"}


@cache
def network(name, n_estimators):
    """Return a fitted network."""
    shape, layers = CASES[name]
    settings = {"n_estimators": n_estimators, "layers": layers, "input_shape": shape}
    X, y = rows_of(name), np.arange(N_ROWS) % 3
    return BackpropClassifier((5,), **SHORT | settings).fit(X, y)


def rows_of(name):
    """Return rows of tokens, or of numbers that float32 holds exactly."""
    shape, (first, *_) = CASES[name]
    return TOKENS if isinstance(first, Embedding) else NUMBERS[:, : np.prod(shape)]


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("name", CASES)
def test_onnx_models_equal_the_network(name, n_estimators):
    estimator, X = network(name, n_estimators), rows_of(name)
    proto = to_onnx(estimator)
    assert_all_tensors_are_used(proto.graph)
    found = outputs_of(proto, X, with_reference=name not in WITHOUT_REFERENCE)
    assert found["label"].tolist() == estimator.predict(X).tolist()
    assert is_close(found["probabilities"], estimator.predict_proba(X))


def test_rows_are_flat_whatever_their_shape_in_training():
    X = rows_of("dense").reshape(-1, 6, 3)
    estimator = BackpropClassifier((), layers=Dense(2), **SHORT).fit(X, np.arange(N_ROWS) % 2)
    found = outputs_of(to_onnx(estimator), X.reshape(-1, 18))
    assert is_close(found["probabilities"], estimator.predict_proba(X))


def test_features_of_images_are_flat():
    estimator = network("convolution of images", 3)
    X = rows_of("convolution of images")
    features = BackpropFeatures(FrozenEstimator(estimator), 0).fit(X)
    (found,) = outputs_of(to_onnx(features), X).values()
    assert is_close(found, features.transform(X))


def test_raises_on_recurrence_with_other_activations():
    layers = SimpleRNN(2, activation="gelu")
    estimator = BackpropClassifier((), layers=layers, **SHORT).fit(NUMBERS, np.arange(N_ROWS) % 2)
    with pytest.raises(TypeError, match=r"activation='gelu' cannot be exported.*\['tanh', 'relu'"):
        to_onnx(estimator)


@pytest.mark.parametrize("variational", [False, True])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5)])
def test_autoencoder_of_images(shape, variational):
    layers = [Conv2D(3, 2, strides=2, activation="relu"), BatchNormalization()]
    settings = {"layers": layers, "input_shape": shape, "variational": variational}
    autoencoder = BackpropAutoencoder(2, (), **settings, **SHORT)
    X = NUMBERS[:, : np.prod(shape)]
    codes = autoencoder.fit(X).transform(X)
    found = outputs_of(to_onnx(autoencoder), X)
    assert is_close(found["codes"], codes)
    assert is_close(found["reconstruction"], autoencoder.inverse_transform(codes))


@pytest.mark.parametrize("is_flat", [False, True])
def test_rows_have_the_shape_of_training(is_flat):
    images = np.random.default_rng(0).normal(size=(20, 6, 5))
    X = images.reshape(20, -1) if is_flat else images
    settings = {"layers": Flatten(), "input_shape": (6, 5), **SHORT}
    (value,) = to_onnx(BackpropClassifier((), **settings).fit(X, np.arange(20) % 2)).graph.input
    shape = [axis.dim_value for axis in value.type.tensor_type.shape.dim[1:]]
    assert shape == list(X.shape[1:])
