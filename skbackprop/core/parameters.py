"""The parameters of a stack: views layer by layer, and for training one flat array behind them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .arrays import Array


class Parameters:
    """The weights and biases of a stack of networks of one architecture.

    Parameters
    ----------
    weights : list of arrays of shape (n_members, fan_in, fan_out)
        One for each layer.
    biases : list of arrays of shape (n_members, 1, fan_out)
        One for each layer.
    """

    def __init__(self, weights: list[Array], biases: list[Array]) -> None:
        self.weights, self.biases = weights, biases

    def __len__(self) -> int:
        return len(self.weights[0])

    @property
    def dtype(self) -> np.dtype[np.floating]:
        """The dtype of all parameters."""
        return self.weights[0].dtype

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """The shape (fan_in, fan_out) of each layer's weights."""
        return [weights.shape[1:] for weights in self.weights]

    def members(self, members: slice) -> Parameters:
        """Return the parameters of some members, as views of the same memory."""
        if members.stop - members.start == len(self):
            return self
        return Parameters(
            [weights[members] for weights in self.weights],
            [biases[members] for biases in self.biases],
        )


class FlatParameters(Parameters):
    """Parameters in one array, as optimizers want them.

    Parameters
    ----------
    theta : array of shape (n_members, p)
        All parameters: the weights of all layers first, then all biases, so that a penalty
        on the weights is one slice. `weights` and `biases` are views of it.
    shapes : sequence of (fan_in, fan_out)
        The shape of each layer's weights.

    Attributes
    ----------
    penalised : array of shape (n_members, n_weights)
        The part of `theta` that holds the weights.
    """

    def __init__(self, theta: Array, shapes: Sequence[tuple[int, int]]) -> None:
        weights, biases, start = [], [], 0
        for fan_in, fan_out in shapes:
            stop = start + fan_in * fan_out
            weights.append(theta[:, start:stop].reshape(len(theta), fan_in, fan_out))
            start = stop
        self.theta = theta
        self.penalised = theta[:, :start]
        for _, fan_out in shapes:
            stop = start + fan_out
            biases.append(theta[:, start:stop].reshape(len(theta), 1, fan_out))
            start = stop
        super().__init__(weights, biases)

    @classmethod
    def of(
        cls,
        members: Sequence[Sequence[tuple[Array, Array]]],
        dtype: np.dtype[np.floating],
    ) -> FlatParameters:
        """Return parameters that hold copies of each member's (weights, biases), layer by layer."""
        shapes = [weights.shape for weights, _ in members[0]]
        p = sum(fan_in * fan_out + fan_out for fan_in, fan_out in shapes)
        parameters = cls(np.empty((len(members), p), dtype), shapes)
        for member, layers in enumerate(members):
            for i, (weights, biases) in enumerate(layers):
                parameters.weights[i][member] = weights
                parameters.biases[i][member, 0] = biases
        return parameters

    def members(self, members: slice) -> FlatParameters:
        """Return the parameters of some members, as views of the same memory."""
        if members.stop - members.start == len(self):
            return self
        return FlatParameters(self.theta[members], self.shapes)

    def like(self, theta: Array) -> FlatParameters:
        """Return parameters of the same architecture in another array."""
        return FlatParameters(theta, self.shapes)
