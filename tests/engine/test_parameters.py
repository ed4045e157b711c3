"""Are a network's weights and biases views of one array, weights first?"""

import numpy as np
import pytest

from skbackprop.engine.parameters import FlatParameters, Parameters
from stacks import DTYPES

SHAPES = ((4, 3), (3, 5), (5, 2))
N_WEIGHTS, N_BIASES = 12 + 15 + 10, 3 + 5 + 2


def some_members(n_members):
    stream = np.random.RandomState(0)
    return [[(stream.randn(*shape), stream.randn(shape[1])) for shape in SHAPES]] * n_members


@pytest.fixture
def parameters():
    theta = np.arange(2 * (N_WEIGHTS + N_BIASES), dtype=float).reshape(2, -1)
    return FlatParameters(theta, SHAPES)


def test_shapes_are_those_of_each_layer(parameters):
    assert len(parameters) == 2
    assert tuple(parameters.shapes) == SHAPES
    assert [weights.shape for weights in parameters.weights] == [(2, *shape) for shape in SHAPES]
    assert [biases.shape for biases in parameters.biases] == [(2, 1, n) for _, n in SHAPES]


def test_all_weights_come_before_all_biases(parameters):
    flat = [array.reshape(2, -1) for array in [*parameters.weights, *parameters.biases]]
    np.testing.assert_array_equal(np.hstack(flat), parameters.theta)
    np.testing.assert_array_equal(parameters.penalised, parameters.theta[:, :N_WEIGHTS])


def test_weights_and_biases_are_views(parameters):
    arrays = [*parameters.weights, *parameters.biases, parameters.penalised]
    assert all(np.shares_memory(array, parameters.theta) for array in arrays)
    parameters.theta[:] = 7
    assert all((array == 7).all() for array in arrays)
    for array in arrays[:-1]:
        array[:] = 3
    assert (parameters.theta == 3).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_given_layers_are_copied(dtype):
    members = some_members(3)
    parameters = FlatParameters.of(members, np.dtype(dtype))
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
    other = parameters.like(np.zeros((3, N_WEIGHTS + N_BIASES), np.float32))
    assert (len(other), other.dtype, tuple(other.shapes)) == (3, np.float32, SHAPES)
    assert not np.shares_memory(other.theta, parameters.theta)


def test_layers_need_not_share_an_array():
    weights, biases = [np.zeros((2, 4, 3), np.float32)], [np.zeros((2, 1, 3), np.float32)]
    parameters = Parameters(weights, biases)
    assert (len(parameters), parameters.dtype) == (2, np.float32)
    assert parameters.shapes == [(4, 3)]
