"""Parameter layout: the arrays of layers are views of one array, regularized ones first."""

import numpy as np
import pytest

from skbackprop.activations import ACTIVATIONS
from skbackprop.layers import BatchNormalization
from skbackprop.nn.network import dense_network
from support.stacks import DTYPES

WIDTHS = (4, 3, 5, 2)
SHAPES = [(4, 3), (3, 5), (5, 2)]
N_WEIGHTS, N_BIASES, N_GAINS = 12 + 15 + 10, 3 + 5 + 2, 3 + 5
N = N_WEIGHTS + N_BIASES + N_GAINS


def network_with(normalization):
    return dense_network(WIDTHS, (ACTIVATIONS["tanh"],) * 2, normalization=normalization)


def started(n_estimators, normalization=None, dtype=np.float64):
    return network_with(normalization).layout.init(n_estimators, np.dtype(dtype))


def some_members(n_estimators):
    rng = np.random.RandomState(0)
    return [[(rng.randn(*shape), rng.randn(shape[1])) for shape in SHAPES]] * n_estimators


@pytest.fixture
def parameters():
    start = started(2, BatchNormalization())
    return start.with_theta(np.arange(2 * N, dtype=float).reshape(2, N))


def test_arrays_have_the_shapes_of_each_layer(parameters):
    assert len(parameters) == 2
    assert [weights.shape for weights in parameters.weights] == [(2, *shape) for shape in SHAPES]
    assert [biases.shape for biases in parameters.biases] == [(2, 1, n) for _, n in SHAPES]
    for name in ("gains", "means", "variances"):
        assert [array.shape for array in parameters.select(name)] == [(2, 1, 3), (2, 1, 5)]
    assert parameters.select("no such block") == []


def test_all_weights_come_before_all_biases_and_these_before_all_gains(parameters):
    kinds = parameters.weights, parameters.biases, parameters.select("gains")
    flat = [array.reshape(2, -1) for kind in kinds for array in kind]
    np.testing.assert_array_equal(np.hstack(flat), parameters.theta)
    np.testing.assert_array_equal(parameters.regularized, parameters.theta[:, :N_WEIGHTS])


def test_blocks_are_views(parameters):
    arrays = [*parameters.weights, *parameters.biases, *parameters.select("gains")]
    assert all(np.shares_memory(array, parameters.theta) for array in arrays)
    parameters.theta[:] = 7
    assert all((array == 7).all() for array in [*arrays, parameters.regularized])
    for array in arrays:
        array[:] = 3
    assert (parameters.theta == 3).all()


def test_statistics_are_views_of_one_array_for_each_name(parameters):
    for name in ("means", "variances"):
        flat = [array.reshape(2, -1) for array in parameters.select(name)]
        np.testing.assert_array_equal(np.hstack(flat), parameters.statistics[name])
        parameters.statistics[name][:] = 7
        assert all((array == 7).all() for array in parameters.select(name))


@pytest.mark.parametrize("dtype", DTYPES)
def test_blocks_and_statistics_start_as_declared(dtype):
    start = started(3, BatchNormalization(), dtype)
    names = {"weights": 0, "biases": 0, "gains": 1, "means": 0, "variances": 1}
    for name, value in names.items():
        assert all((array == value).all() for array in start.select(name)), name
        assert all(array.dtype == dtype for array in start.select(name)), name
    # What earlier batches weigh is counted, in double precision, for each layer.
    assert start.statistics["weight"].dtype == np.float64
    np.testing.assert_array_equal(start.statistics["weight"], np.zeros((3, 2)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_initial_parameters_are_copied(dtype):
    members = some_members(3)
    parameters = network_with(None).init_parameters(members, np.dtype(dtype))
    assert parameters.theta.shape == (3, N_WEIGHTS + N_BIASES)
    assert parameters.dtype == parameters.theta.dtype == dtype
    for member, layers in enumerate(members):
        for i, (weights, biases) in enumerate(layers):
            np.testing.assert_array_equal(parameters.weights[i][member], weights.astype(dtype))
            np.testing.assert_array_equal(parameters.biases[i][member, 0], biases.astype(dtype))
            assert not np.shares_memory(parameters.theta, weights)


def test_some_members_are_views_of_the_same_memory(parameters):
    second = parameters.members(slice(1, 2))
    assert len(second) == 1
    second.weights[0][:] = -1
    assert (parameters.weights[0][1] == -1).all()
    assert (parameters.weights[0][0] >= 0).all()
    assert parameters.members(slice(0, 2)) is parameters


def test_the_same_architecture_in_another_array(parameters):
    other = parameters.with_theta(np.zeros((3, N), np.float32))
    assert (len(other), other.dtype) == (3, np.float32)
    assert not np.shares_memory(other.theta, parameters.theta)


def test_arrays_need_not_share_memory():
    network = network_with(BatchNormalization())
    named = {
        name: [np.zeros((2, *np.atleast_2d(np.empty(shape)).shape), np.float32) for shape in shapes]
        for name, shapes in network.shapes.items()
    }
    parameters = network.parameters(named)
    assert (len(parameters), parameters.dtype) == (2, np.float32)
    for name, arrays in named.items():
        assert all(one is other for one, other in zip(parameters.select(name), arrays, strict=True))
