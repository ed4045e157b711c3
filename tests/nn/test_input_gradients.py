"""Gradients of raw predictions with respect to the input, in blocks of rows."""

import numpy as np
import pytest
from scipy import sparse

from skbackprop.activations import ACTIVATIONS
from skbackprop.layers import BatchNormalization, LayerNormalization
from skbackprop.nn import prediction
from skbackprop.nn.network import dense_network
from skbackprop.nn.prediction import compute_input_gradients, predict_raw
from skbackprop.testing import check_gradient
from support.stacks import DTYPES, deep_network, some_parameters

N_ROWS = 12
SMOOTH = (ACTIVATIONS["tanh"], ACTIVATIONS["gelu"])
NETWORKS = {
    "deep": deep_network(),
    "without hidden layers": dense_network((4, 3), ()),
    "narrow": dense_network((1, 1, 1), SMOOTH[:1]),
    "over batches": dense_network((4, 7, 5, 2), SMOOTH, normalization=BatchNormalization()),
    "over layers": dense_network((4, 7, 5, 2), SMOOTH, normalization=LayerNormalization()),
}
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
n_estimators = pytest.mark.parametrize("n_estimators", [1, 3])


def inputs(network, n_rows=N_ROWS):
    X = np.random.RandomState(9).normal(size=(n_rows, network.widths[0]))
    return np.where(X > -0.5, X, 0)


def one_hot(scores, quantity):
    """Return the derivatives of the sum over the members of one score."""
    return np.eye(scores.shape[-1])[quantity] * np.ones_like(scores)


def gradients_of(network, parameters, X):
    return compute_input_gradients(network, parameters, X, one_hot, network.widths[-1])


@n_estimators
@every_network
def test_input_gradients_match_finite_differences(network, n_estimators):
    parameters, X = some_parameters(network, range(n_estimators)), inputs(network)
    gradients = gradients_of(network, parameters, X)
    assert gradients.shape == (N_ROWS, network.widths[0], network.widths[-1])
    for output in range(network.widths[-1]):
        check_gradient(
            lambda X, o=output: (
                predict_raw(network, parameters, X)[..., o].sum(),
                gradients_of(network, parameters, X)[..., o],
            ),
            X,
        )


@n_estimators
@every_network
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("container", [np.asfortranarray, sparse.csr_array])
def test_input_gradients_do_not_depend_on_the_container(network, n_estimators, dtype, container):
    X = inputs(network)
    expected = gradients_of(network, some_parameters(network, range(n_estimators)), X)
    parameters = some_parameters(network, range(n_estimators), dtype)
    gradients = gradients_of(network, parameters, container(X.astype(dtype)))
    assert gradients.dtype == dtype
    eps = np.finfo(dtype).eps * max(1, np.abs(expected).max())
    np.testing.assert_allclose(gradients, expected, rtol=1e3 * eps, atol=1e3 * eps)


@n_estimators
@pytest.mark.parametrize("rows_at_once", [1, 5, 11])
def test_blocks_of_rows_make_no_difference(n_estimators, rows_at_once, monkeypatch):
    network = NETWORKS["over layers"]
    parameters, X = some_parameters(network, range(n_estimators)), inputs(network)
    at_once = gradients_of(network, parameters, X)
    monkeypatch.setattr(
        prediction, "_BLOCK_NUMBERS", rows_at_once * n_estimators * network.memory_per_sample
    )
    np.testing.assert_allclose(gradients_of(network, parameters, X), at_once, rtol=1e-12)


@every_network
def test_parameters_and_input_are_only_read(network):
    parameters, X = some_parameters(network, range(2)), inputs(network)
    given = parameters.theta.copy(), X.copy()
    statistics = {name: array.copy() for name, array in parameters.statistics.items()}
    gradients_of(network, parameters, X)
    assert np.array_equal(parameters.theta, given[0])
    assert np.array_equal(X, given[1])
    for name, array in statistics.items():
        assert np.array_equal(parameters.statistics[name], array)
