"""Elementwise layers as the first of an ensemble, whose members share the rows that they read.

The input has one member there and the output has several. The oracle is each member by itself.
Sizes are below, at and above that of a block in which activations work, and whole blocks or not.
"""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skbackprop import BackpropGridSearchCV, BackpropRegressor, layers
from skbackprop.activations import _BLOCK_SIZE, ACTIVATIONS
from skbackprop.layers import (
    NORMALIZATIONS,
    Activation,
    Dense,
    Dropout,
    GaussianNoise,
    PositionalEncoding,
    Residual,
)
from skbackprop.layers.base import Layer, expand_layers
from skbackprop.layers.columns import Scale
from skbackprop.layers.latent import Sampling
from skbackprop.nn.network import Network
from skbackprop.nn.prediction import predict_raw
from support import assert_same_search, bits, few_epochs, networks_of, quick
from support.shaped import drawn_parameters, run_step
from support.stacks import DTYPES, assert_same_bits

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

ELEMENTWISE = {
    **{name: Activation(function) for name, function in ACTIVATIONS.items()},
    **{name: kind() for name, kind in NORMALIZATIONS.items()},
    "dropout": Dropout(0.3),
    "noise": GaussianNoise(0.3),
    "scale": Scale(),
    "positions": PositionalEncoding(),
    "residual": Residual(Activation("leaky_relu")),
}
# Rows and columns. A row of 2,100 columns is long for gelu, which works in larger blocks then.
SHAPES = [(100, 60), (128, 64), (256, 64), (200, 60), (35, 2_100)]
every_layer = pytest.mark.parametrize("name", ELEMENTWISE)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)
every_number = pytest.mark.parametrize("n_estimators", [1, 2, 3])


def test_sizes_are_on_both_sides_of_a_block():
    sizes = [n_rows * n_columns for n_rows, n_columns in SHAPES]
    assert min(sizes) < _BLOCK_SIZE < max(sizes)
    assert {size % _BLOCK_SIZE == 0 for size in sizes if size >= _BLOCK_SIZE} == {True, False}
    assert _BLOCK_SIZE in sizes


def test_every_elementwise_layer_is_here():
    """Sampling halves its input; other layers of this view belong to these."""
    kinds = {
        kind
        for kind in vars(layers).values()
        if isinstance(kind, type) and issubclass(kind, Layer) and kind.batch_view == "flat"
    }
    assert kinds - {Sampling} <= {type(layer) for layer in ELEMENTWISE.values()}


def network_of(name, n_columns):
    """Return a network that the layer comes first in, and again after a dense layer."""
    layer = ELEMENTWISE[name]
    shape = (n_columns // 2, 2) if name == "positions" else (n_columns,)
    body, _ = expand_layers([layer, Dense(2), layer, Dense(2)], shape)
    return Network(shape, tuple(body))


def rows_of(shape, seed=0):
    return np.random.RandomState(seed).normal(size=shape)


# ------------------------------------------------------------------------------- the passes


@pytest.mark.parametrize("dtype", DTYPES)
@every_number
@every_shape
@every_layer
def test_predictions_are_those_of_each_member(name, shape, n_estimators, dtype):
    network = network_of(name, shape[1])
    X = rows_of(shape).astype(dtype)
    parameters = drawn_parameters(network, n_estimators, dtype)
    together = predict_raw(network, parameters, X)
    for i in range(n_estimators):
        alone = predict_raw(network, parameters.members(slice(i, i + 1)), X)
        assert_same_bits(together[i], alone[0], f"of member {i}")


@every_number
@every_shape
@every_layer
def test_gradients_are_those_of_each_member(name, shape, n_estimators):
    """By the parameters and by the input, in training."""
    network = network_of(name, shape[1])
    X = rows_of(shape)
    parameters = drawn_parameters(network, n_estimators)
    delta = rows_of((n_estimators, len(X), network.n_units[-1]), seed=1)

    def step(members):
        rngs = [np.random.default_rng(i) for i in range(n_estimators)[members]]
        out, gradients, d_x = run_step(
            network, parameters.members(members), X, delta[members], rngs
        )
        return out, gradients.theta, d_x

    together = step(slice(None))
    for i in range(n_estimators):
        for actual, expected in zip(together, step(slice(i, i + 1)), strict=True):
            assert_same_bits(actual[i], expected[0], f"of member {i}")


# -------------------------------------------------------------------------- the estimators


def regressor(name, **settings):
    shape = (SHAPES[2][1] // 2, 2) if name == "positions" else None
    layer = ELEMENTWISE[name]
    return quick(
        BackpropRegressor, layers=[layer], input_shape=shape, max_iter=2, batch_size=100, **settings
    )


@pytest.mark.parametrize("how", ["fit", "partial_fit"])
@every_number
@pytest.mark.parametrize("shape", SHAPES[2:4], ids=str)
@every_layer
def test_an_ensemble_predicts_the_mean_of_its_members(name, shape, n_estimators, how):
    if name == "positions":
        shape = SHAPES[2]
    X = rows_of(shape)
    ensemble = regressor(name, n_estimators=n_estimators)
    getattr(ensemble, how)(X, X[:, 0])
    members = [member.predict(X) for member in networks_of(ensemble)]
    np.testing.assert_allclose(ensemble.predict(X), np.mean(members, axis=0), rtol=1e-9, atol=1e-9)


@every_layer
def test_a_stacked_search_scores_as_networks_trained_alone(name):
    X = rows_of(SHAPES[2])
    grid = {"alpha": [0.0, 0.1, 1.0]}
    settings = {"cv": 2, "scoring": bits}
    network = regressor(name, shuffle=False)
    searches = [
        kind(clone(network), grid, **settings).fit(X, X[:, 0])
        for kind in (BackpropGridSearchCV, GridSearchCV)
    ]
    assert_same_search(*searches)
