"""Execution plans: buffers of outputs and gradients, cached for all passes."""

import copy
import pickle

from skbackprop.activations import ACTIVATIONS
from skbackprop.nn.network import dense_network

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
