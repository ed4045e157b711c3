"""Networks of layers for images and sequences, for the tests of these layers."""

import numpy as np

from skbackprop.layers.base import FROZEN, expand_layers
from skbackprop.layers.reshaping import Flatten
from skbackprop.nn.network import BoundNetwork, Network, dense_layers
from skbackprop.nn.prediction import compute_input_gradients, predict_raw
from skbackprop.testing import check_gradient
from skbackprop.utils.arrays import BufferPool, squeeze_member_axis

from .stacks import LOSSES, batch_gradient, some_table

LOSS = LOSSES["squared_error-identity"]
N_TARGETS = 2


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
