"""Execution plans: buffers of outputs and gradients, cached for all passes."""

import copy
import pickle

from skbackprop.activations import ACTIVATIONS
from skbackprop.layers import Conv1D, Dense, MaxPool1D
from skbackprop.layers.base import expand_layers
from skbackprop.nn.network import Network, dense_network

TANH, GELU = ACTIVATIONS["tanh"], ACTIVATIONS["gelu"]  # gelu keeps its input
WIDTHS = (4, 7, 5, 2)


def steps_of(network, is_training, is_sparse=False, with_input_gradient=False):
    """Return name, output, gradient buffer and whether the input may be overwritten, by step."""
    steps = network.execution_plan(is_training, is_sparse, with_input_gradient).steps
    return [
        (type(step.layer).__name__, step.output, step.grad_buffer_index, step.can_overwrite_input)
        for step in steps
    ]


def test_plan_of_prediction_reuses_buffers():
    network = dense_network(WIDTHS, (TANH, GELU), (0.5, 0.5, 0.5))
    assert steps_of(network, is_training=False) == [
        ("Dense", "buffer", None, False),
        ("Activation", "input", None, True),
        ("Dense", "buffer", None, False),
        ("Activation", "buffer", None, True),
        ("Dense", "scores", None, False),
    ]


def test_plan_of_training_alternates_gradient_buffers():
    """The lowest layer that learns wants none, nor does dropout below it."""
    network = dense_network(WIDTHS, (TANH, GELU), (0.5, 0.0, 0.0))
    way = network.execution_plan(is_training=True, is_sparse=False)
    assert steps_of(network, is_training=True) == [
        ("HiddenDropout", "buffer", None, False),
        ("Dense", "buffer", None, True),
        ("Activation", "input", None, True),
        ("Dense", "buffer", 1, False),
        ("Activation", "buffer", None, True),
        ("Dense", "scores", 0, False),
    ]
    assert (way.first_trainable_layer, way.grad_buffer_index) == (1, 1)


def test_plan_is_cached_and_not_copied():
    network = dense_network(WIDTHS, (TANH, TANH))
    ways = [
        network.execution_plan(*kind) for kind in ((True, False), (False, False), (False, True))
    ]
    assert len(set(map(id, ways))) == 3
    assert network.execution_plan(is_training=False, is_sparse=False) is ways[1]
    other = network.with_dropout((0.5, 0.5, 0.5))
    assert network.with_dropout((0.5, 0.5, 0.5)) is other
    assert network.with_dropout((0.5, 0.5, 0.0)) == dense_network(WIDTHS, (TANH, TANH), (0.5, 0.5))
    assert other.with_dropout(()) is network
    for other in (pickle.loads(pickle.dumps(network)), copy.deepcopy(network)):
        assert other == network
        assert vars(other).keys() == {"input_shape", "layers"}


def test_plan_pools_before_relu():
    """A maximum of relus is the relu of the maximum, of which there are fewer."""
    given = [Conv1D(3, 2, activation="relu"), MaxPool1D(2), Dense(2)]
    layers, _ = expand_layers(given, (9, 1))
    network = Network((9, 1), tuple(layers))
    for is_training in (False, True):
        steps = network.execution_plan(is_training, is_sparse=False).steps
        assert [type(step.layer).__name__ for step in steps] == [
            "Conv1D",
            "MaxPool1D",
            "Activation",
            "Dense",
        ]
        assert [step.index for step in steps] == [0, 2, 1, 3]
        assert [step.output_shape for step in steps] == [(8, 3), (4, 3), (4, 3), (4, 2)]
