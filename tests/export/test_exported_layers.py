"""Networks of each kind of layer as ONNX models and C programs give what the networks predict."""

from functools import cache

import numpy as np
import pytest
from c_runs import CC, outputs_of_c
from test_onnx import outputs_of

from skbackprop import BackpropClassifier
from skbackprop.export import to_c, to_onnx
from skbackprop.layers import (
    GRU,
    Activation,
    BatchNormalization,
    Conv1D,
    Conv2D,
    Dense,
    Dropout,
    Embedding,
    Flatten,
    LayerNormalization,
    Reshape,
    Residual,
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
    "convolution with strides": (
        (3, 3, 2),
        [Conv2D(3, (3, 2), strides=(2, 1), padding="same"), BatchNormalization()],
    ),
    "convolution of sequences": (
        (6, 3),
        [Conv1D(4, 3, padding="causal", dilation=2), Activation("relu"), Conv1D(3, 2, strides=2)],
    ),
    "convolution without biases": ((18,), [Conv1D(4, 5, use_bias=False, padding="same")]),
    "recurrence": ((6, 3), [GRU(4, return_sequences=True), GRU(3)]),
    "recurrence over numbers": ((5,), [GRU(4)]),
    "residual": (
        (6, 3),
        [Residual([Dense(4, activation="relu"), Residual(Dense(4)), Dropout(0.1), Dense(3)])],
    ),
    "residual of shared rows": ((5,), [Residual("scale"), Dense(3)]),
    "embedding": ((7,), [Embedding(5, 3), Dense(4, activation="relu")]),
    "reshape": ((18,), [Reshape((2, 3, 3)), Dense(4, activation="tanh"), Reshape((4, -1))]),
}


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
    found = outputs_of(to_onnx(estimator), X)
    assert found["label"].tolist() == estimator.predict(X).tolist()
    assert is_close(found["probabilities"], estimator.predict_proba(X))


@pytest.mark.long
@pytest.mark.skipif(CC is None, reason="there is no C compiler")
def test_c_programs_equal_the_network(tmp_path):
    models = [(name, n_estimators) for name in CASES for n_estimators in (1, 3)]
    programs = [
        (to_c(network(*model), prefix=f"p{i}"), rows_of(model[0]), [3])
        for i, model in enumerate(models)
    ]
    for model, (label, probabilities) in zip(models, outputs_of_c(programs, tmp_path), strict=True):
        estimator, X = network(*model), rows_of(model[0])
        assert label[:, 0].tolist() == estimator.predict(X).tolist(), model
        assert is_close(probabilities, estimator.predict_proba(X)), model
