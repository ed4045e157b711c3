"""A network's architecture: its widths, activations, dropout and normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..activations import Activation
from ..core.arrays import Array
from ..initializers import Initializer
from ..layers.normalization import Normalization
from .parameters import FlatParameters, Parameters


@dataclass(frozen=True)
class Network:
    """Dense layers with an activation after each but the last.

    Parameters
    ----------
    widths : sequence of int
        The number of inputs, of units in each hidden layer, and of outputs.
    activations : sequence of Activation
        One for each hidden layer.
    dropout : tuple of float, default=()
        The rates at which training leaves out inputs and the units of each hidden layer; empty
        where it leaves out none.
    normalization : Normalization or None, default=None
        What is made of the input of each activation.
    """

    widths: tuple[int, ...]
    activations: tuple[Activation, ...]
    dropout: tuple[float, ...] = ()
    normalization: Normalization | None = None

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """The shape of each layer's weights."""
        return tuple(zip(self.widths[:-1], self.widths[1:], strict=True))

    def largest_product(self, n_rows: int) -> int:
        """Return the multiplications in the largest matrix product for so many rows."""
        return n_rows * max(fan_in * fan_out for fan_in, fan_out in self.shapes)

    def draw(
        self, initializers: Sequence[Initializer], stream: np.random.RandomState
    ) -> list[tuple[Array, Array]]:
        """Return initial (weights, biases) of each layer, drawn in that order by its own."""
        return [
            initializer.draw(stream, *shape)
            for initializer, shape in zip(initializers, self.shapes, strict=True)
        ]

    def parameters(self, start: Parameters, dtype: np.dtype[np.floating]) -> FlatParameters:
        """Return parameters to train: copies of `start`, with all that it lacks.

        Gains start at one, and running statistics as the normalisation has them.
        """
        n_members, n_units = len(start), sum(self.widths[1:-1])
        p = sum(fan_in * fan_out + fan_out for fan_in, fan_out in self.shapes)
        statistics = {}
        if self.normalization is not None:
            p += n_units
            statistics = self.normalization.init(n_members, n_units, dtype)
        theta, has_gains = np.ones((n_members, p), dtype), self.normalization is not None
        parameters = FlatParameters(theta, self.shapes, has_gains, statistics)
        parameters.assign(start)
        return parameters
