"""The parameters of a stack: views layer by layer, and for training one flat array behind them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from ..core.arrays import Array, State
from ..core.members import take_state


class Parameters:
    """All that a stack of networks of one architecture needs to predict.

    Parameters
    ----------
    weights : list of arrays of shape (n_members, fan_in, fan_out)
        One for each layer.
    biases : list of arrays of shape (n_members, 1, fan_out)
        One for each layer.
    gains : sequence of arrays of shape (n_members, 1, units), default=()
        One for each hidden layer, where these are normalised.
    means, variances : sequence of arrays of shape (n_members, 1, units), default=(), ()
        The running statistics of each hidden layer, where it is normalised over batches.
    """

    def __init__(
        self,
        weights: list[Array],
        biases: list[Array],
        gains: Sequence[Array] = (),
        means: Sequence[Array] = (),
        variances: Sequence[Array] = (),
    ) -> None:
        self.weights, self.biases = weights, biases
        self.gains, self.means, self.variances = gains, means, variances

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
        return Parameters(*([array[members] for array in kind] for kind in self._kinds))

    def assign(self, other: Parameters) -> None:
        """Copy all that another one has."""
        for own, given in zip(self._kinds, other._kinds, strict=True):
            for array, source in zip(own, given, strict=bool(given)):
                array[...] = source

    @property
    def _kinds(self) -> list[Sequence[Array]]:
        return [self.weights, self.biases, self.gains, self.means, self.variances]


class FlatParameters(Parameters):
    """Parameters in one array, as optimizers want them.

    Parameters
    ----------
    theta : array of shape (n_members, p)
        All parameters: the weights of all layers first, so that a penalty on the weights is
        one slice, then all biases, then all gains. `weights`, `biases` and `gains` are views of
        it.
    shapes : sequence of (fan_in, fan_out)
        The shape of each layer's weights.
    has_gains : bool, default=False
        Whether each hidden layer has gains.
    statistics : dict or None, default=None
        The state of running statistics, of which `means` and `variances` are views. It is no
        part of `theta`: no optimizer changes it.

    Attributes
    ----------
    penalised : array of shape (n_members, n_weights)
        The part of `theta` that holds the weights.
    """

    def __init__(
        self,
        theta: Array,
        shapes: Sequence[tuple[int, int]],
        has_gains: bool = False,
        statistics: State | None = None,
    ) -> None:
        weights, start = [], 0
        for fan_in, fan_out in shapes:
            stop = start + fan_in * fan_out
            weights.append(theta[:, start:stop].reshape(len(theta), fan_in, fan_out))
            start = stop
        self.theta, self.has_gains = theta, has_gains
        self.penalised = theta[:, :start]
        widths = [fan_out for _, fan_out in shapes]
        biases = _rows_of(theta[:, start:], widths)
        gains = _rows_of(theta[:, start + sum(widths) :], widths[:-1]) if has_gains else ()
        self.statistics = statistics or {}
        running = [
            _rows_of(self.statistics[name], widths[:-1]) if self.statistics else ()
            for name in ("means", "variances")
        ]
        super().__init__(weights, biases, gains, *running)

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

    def members(self, members: Any) -> FlatParameters:
        """Return the parameters of some members: views for a slice, copies for their numbers."""
        if isinstance(members, slice) and members.stop - members.start == len(self):
            return self
        return self.like(self.theta[members], take_state(self.statistics, members))

    def like(self, theta: Array, statistics: State | None = None) -> FlatParameters:
        """Return parameters of the same architecture in another array.

        The running statistics are those given, or else the very same.
        """
        statistics = self.statistics if statistics is None else statistics
        return FlatParameters(theta, self.shapes, self.has_gains, statistics)


def _rows_of(flat: Array, widths: Sequence[int]) -> list[Array]:
    """Return views of the first columns, of shape (n_members, 1, width), one for each width."""
    stops = accumulate(widths)
    return [flat[:, None, stop - width : stop] for stop, width in zip(stops, widths, strict=True)]
