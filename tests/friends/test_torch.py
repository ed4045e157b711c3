"""Layers compute what those of torch compute, forward and backward, where torch is installed."""

import numpy as np
import pytest

from skbackprop.layers import (
    GRU,
    LSTM,
    AveragePool2D,
    Conv1D,
    Conv2D,
    MaxPool1D,
    MaxPool2D,
    Scale,
    SimpleRNN,
)
from skbackprop.nn.network import BoundNetwork, Network
from skbackprop.nn.prediction import compute_input_gradients
from skbackprop.utils.arrays import BufferPool
from support.shaped import drawn_parameters

torch = pytest.importorskip("torch")

N_ROWS = 5


def channels_first(module):
    """Return a module that takes and returns channels last."""

    def call(x):
        last = x.ndim - 1
        return module(x.movedim(last, 1)).movedim(1, -1)

    return call


def convolution(layer, kind, **settings):
    """Return a torch convolution with our kernels, whose channels are the last two axes."""

    def make(arrays, n_channels):
        kernels = arrays["kernels"]
        module = kind(n_channels, layer.n_filters, kernels.shape[:-2], **settings)
        module.weight.data = kernels.movedim((-1, -2), (0, 1)).contiguous()
        module.bias.data = arrays["kernel_biases"].reshape(-1)
        return channels_first(module.double()), {
            "kernels": lambda: module.weight.grad.movedim((0, 1), (-1, -2)),
            "kernel_biases": lambda: module.bias.grad,
        }

    return layer, make


def pooling(layer, module):
    return layer, lambda arrays, n_channels: (channels_first(module), {})


def recurrence(layer, kind, order):
    """Return a torch recurrent module with our arrays, whose gates stand in another order."""

    def blocks(array, gates):
        parts = array.reshape(*array.shape[:-1], len(order), -1)
        return parts[..., gates, :].reshape(array.shape)

    def make(arrays, n_channels):
        module = kind(n_channels, layer.n_units, batch_first=True).double()
        back = np.argsort(order).tolist()
        module.weight_ih_l0.data = blocks(arrays["kernels"], order).T.contiguous()
        module.weight_hh_l0.data = blocks(arrays["recurrent_kernels"], order).T.contiguous()
        module.bias_ih_l0.data = blocks(arrays["kernel_biases"], order).reshape(-1)
        module.bias_hh_l0.data *= 0
        if "recurrent_biases" in arrays:  # of the candidate state alone
            module.bias_hh_l0.data[-layer.n_units :] = arrays["recurrent_biases"].reshape(-1)
        gradients = {
            "kernels": lambda: blocks(module.weight_ih_l0.grad.T, back),
            "recurrent_kernels": lambda: blocks(module.weight_hh_l0.grad.T, back),
            "kernel_biases": lambda: blocks(module.bias_ih_l0.grad, back),
            "recurrent_biases": lambda: module.bias_hh_l0.grad[-layer.n_units :],
        }
        names = [name for name in gradients if name in arrays]

        def call(x):
            states, _ = module(x)
            return states if layer.return_sequences else states[:, -1]

        return call, {name: gradients[name] for name in names}

    return layer, make


nn = torch.nn
CASES = {
    "Conv2D": ((7, 6, 3), *convolution(Conv2D(4, 3), nn.Conv2d)),
    "Conv2D, same": ((7, 6, 3), *convolution(Conv2D(4, 3, padding="same"), nn.Conv2d, padding=1)),
    "Conv2D, strides": ((7, 6, 3), *convolution(Conv2D(2, (3, 2), 2), nn.Conv2d, stride=2)),
    "Conv1D": ((9, 2), *convolution(Conv1D(4, 3, dilation=2), nn.Conv1d, dilation=2)),
    "MaxPool2D": ((6, 8, 3), *pooling(MaxPool2D(2), nn.MaxPool2d(2))),
    "MaxPool2D, overlapping": ((7, 7, 3), *pooling(MaxPool2D(3, 2), nn.MaxPool2d(3, 2))),
    "MaxPool1D": ((9, 2), *pooling(MaxPool1D(3), nn.MaxPool1d(3))),
    "AveragePool2D": ((6, 8, 3), *pooling(AveragePool2D(2), nn.AvgPool2d(2))),
    "GRU": ((8, 3), *recurrence(GRU(4), nn.GRU, [1, 0, 2])),
    "GRU, sequences": ((8, 3), *recurrence(GRU(4, return_sequences=True), nn.GRU, [1, 0, 2])),
    "LSTM": ((8, 3), *recurrence(LSTM(4), nn.LSTM, [0, 1, 2, 3])),
    "SimpleRNN": ((8, 3), *recurrence(SimpleRNN(4), nn.RNN, [0])),
}


@pytest.mark.parametrize("input_shape, layer, make", CASES.values(), ids=CASES)
def test_outputs_and_gradients_equal_those_of_torch(input_shape, layer, make):
    network = Network(input_shape, (Scale(), layer))
    parameters = drawn_parameters(network, 1)
    parameters.select("scales")[0][...] = 1
    rng = np.random.RandomState(0)
    X = rng.randn(N_ROWS, *input_shape)
    slope = rng.randn(N_ROWS, network.n_units[-1])
    gradients = parameters.with_arrays(np.empty_like(parameters.theta))
    built = BoundNetwork(network, parameters, N_ROWS, BufferPool(np.dtype(float)), gradients)
    scores = np.empty_like(slope)
    built.forward(X.reshape(N_ROWS, -1), scores)
    built.delta[...] = slope
    built.backward()
    by_input = compute_input_gradients(
        network, parameters, X.reshape(N_ROWS, -1), lambda raw, i: slope[None], 1
    )

    arrays = {name: torch.tensor(array[0]) for name, array in parameters.layers[1].items()}
    module, parameter_gradients = make(arrays, input_shape[-1])
    x = torch.tensor(X, requires_grad=True)
    out = module(x)
    out.backward(torch.tensor(slope).reshape(out.shape))
    np.testing.assert_allclose(scores, out.detach().reshape(N_ROWS, -1), atol=1e-12)
    np.testing.assert_allclose(by_input[..., 0], x.grad.reshape(N_ROWS, -1), atol=1e-12)
    assert parameter_gradients.keys() == arrays.keys()
    for name, gradient in parameter_gradients.items():
        own = gradients.layers[1][name][0]
        np.testing.assert_allclose(own, gradient().reshape(own.shape), atol=1e-11, err_msg=name)
