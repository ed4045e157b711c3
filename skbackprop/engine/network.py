"""A network's architecture: a sequence of layers, and the function that builds it of dense ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from ..activations import Activation
from ..core.arrays import Array
from ..initializers import Initializer
from ..layers.base import WEIGHT, Block, Layer
from ..layers.dense import Dense, Elementwise
from ..layers.dropout import Dropout
from ..layers.normalization import Normalization
from .parameters import FlatParameters, Layout, Parameters, Streams
from .way import Way


@dataclass(frozen=True)
class Network:
    """Layers, one after the other.

    Parameters
    ----------
    n_inputs : int
        The number of inputs.
    layers : sequence of Layer
        The layers, the first of which sees the input.
    """

    n_inputs: int
    layers: tuple[Layer, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.n_inputs, self.layers)  # what is cached stays behind

    @cached_property
    def n_units(self) -> tuple[int, ...]:
        """The number of inputs, and of the outputs of each layer."""
        n_units = [self.n_inputs]
        for layer in self.layers:
            n_units.append(layer.n_outputs(n_units[-1]))
        return tuple(n_units)

    @cached_property
    def _blocks(self) -> tuple[list[tuple[Block, ...]], list[tuple[Block, ...]]]:
        """The blocks and the statistics of each layer."""
        sited = list(zip(self.layers, self.n_units[:-1], strict=True))
        return [layer.blocks(n) for layer, n in sited], [layer.statistics(n) for layer, n in sited]

    @cached_property
    def layout(self) -> Layout:
        """Where each layer's blocks lie in the parameters."""
        return Layout(*self._blocks)

    @cached_property
    def has_weights(self) -> tuple[bool, ...]:
        """Which layers have something that is penalised."""
        blocks, _ = self._blocks
        return tuple(any(block.is_penalised for block in own) for own in blocks)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """The number of inputs, and of the outputs of each layer of weights."""
        outputs = zip(self.has_weights, self.n_units[1:], strict=True)
        return (self.n_inputs, *(n for has_weights, n in outputs if has_weights))

    def n_of_row(self, is_sparse: bool) -> int:
        """Return the numbers of a row in the buffers of a pass; a sparse input is in none."""
        return sum(self.widths[1:] if is_sparse else self.widths)

    @cached_property
    def shapes(self) -> dict[str, list[tuple[int, ...]]]:
        """The shape of a member's arrays of each name, one for each layer that has it."""
        shapes: dict[str, list[tuple[int, ...]]] = {}
        for block in (block for kind in self._blocks for own in kind for block in own):
            if block.name != WEIGHT:
                shapes.setdefault(block.name, []).append(block.shape)
        return shapes

    @cached_property
    def activations(self) -> tuple[Activation, ...]:
        """The activations, in their order."""
        return tuple(layer.activation for layer in self.layers if isinstance(layer, Elementwise))

    @cached_property
    def n_up_to_activation(self) -> tuple[int, ...]:
        """The number of layers up to each activation, itself included."""
        counted = enumerate(self.layers, start=1)
        return tuple(n for n, layer in counted if isinstance(layer, Elementwise))

    def part(self, layers: slice) -> Network:
        """Return some consecutive layers as a network of their own."""
        return Network(self.n_units[layers][0], self.layers[layers])

    @cached_property
    def is_random(self) -> bool:
        """Whether a layer draws random numbers in training."""
        return any(layer.is_random for layer in self.layers)

    def way(self, is_training: bool, is_sparse: bool, is_by_input: bool = False) -> Way:
        """Return the way through the layers, which is found once and kept."""
        kind = is_training, is_sparse, is_by_input
        if kind not in self._ways:
            self._ways[kind] = Way(self.layers, self.n_units, *kind)
        return self._ways[kind]

    @cached_property
    def _ways(self) -> dict[tuple[bool, bool, bool], Way]:
        return {}

    def largest_product(self, n_rows: int) -> int:
        """Return the multiplications in the largest matrix product for so many rows."""
        return n_rows * self._largest_product

    @cached_property
    def _largest_product(self) -> int:
        sited = zip(self.layers, self.n_units[:-1], strict=True)
        return max(layer.largest_product(n_inputs) for layer, n_inputs in sited)

    @property
    def n_buffered(self) -> int:
        """Return about how many numbers of a row a step goes over."""
        sited = zip(self.layers, self.n_units[:-1], strict=True)
        return 2 * self.n_inputs + sum(layer.n_buffered(n) for layer, n in sited)

    def with_dropout(self, rates: Sequence[float]) -> Network:
        """Return the network with dropout of these rates before its layers of weights, or none.

        The first is that of the input; there are as many as layers of weights, or none at all.
        """
        if not (any(rates) or self.is_random):
            return self
        rates = tuple(rates)
        other = self._others.get(rates)
        if other is None:
            other = Network(self.n_inputs, self._layers_with(rates))
            if not self.is_random:
                other._others[()] = self
            self._others.clear()
            self._others[rates] = other
        return other

    @cached_property
    def _others(self) -> dict[tuple[float, ...], Network]:
        """The last network with other dropout: `partial_fit` asks for it, and back, each time."""
        return {}

    def _layers_with(self, rates: Sequence[float]) -> tuple[Layer, ...]:
        """Return the layers with dropout of these rates."""
        rest = iter(rates)
        layers: list[Layer] = []
        for layer, has_weights in zip(self.layers, self.has_weights, strict=True):
            rate = next(rest, 0.0) if has_weights else 0.0
            if rate > 0:
                layers.append(Dropout(rate))
            if not isinstance(layer, Dropout):
                layers.append(layer)
        return tuple(layers)

    # ------------------------------------------------------------------ its parameters

    def draw(
        self, initializers: Sequence[Initializer], stream: np.random.RandomState
    ) -> list[tuple[Array, Array]]:
        """Return initial (weights, biases) of each dense layer, drawn in that order by its own."""
        return [
            initializer.draw(stream, *shape)
            for initializer, shape in zip(initializers, self.shapes["weights"], strict=True)
        ]

    def start(
        self,
        members: Sequence[Sequence[tuple[Array, Array]]],
        dtype: np.dtype[np.floating],
        streams: Streams = (),
    ) -> FlatParameters:
        """Return parameters with copies of each member's (weights, biases), layer by layer.

        All else is as it starts, drawn from a stream for each member where it is random.
        """
        parameters = self.layout.start(len(members), dtype, streams)
        for i, layers in enumerate(zip(*members, strict=True)):
            for member, (weights, biases) in enumerate(layers):
                parameters.weights[i][member] = weights
                parameters.biases[i][member, 0] = biases
        return parameters

    def copied(self, start: Parameters, dtype: np.dtype[np.floating]) -> FlatParameters:
        """Return parameters to train, with copies of all that `start` has."""
        parameters = self.layout.start(len(start), dtype)
        for name in self.shapes:
            for own, given in zip(parameters.of(name), start.of(name), strict=True):
                own[...] = given
        return parameters

    def parameters(self, named: Mapping[str, Sequence[Array]]) -> Parameters:
        """Return parameters of given arrays, by name, one for each layer that has it."""
        rest = {name: iter(arrays) for name, arrays in named.items()}
        blocks, running = (
            [{name: next(rest[name]) for name in own} if own else {} for own in kind]
            for kind in self._names
        )
        return Parameters(blocks, running)

    @cached_property
    def _names(self) -> tuple[list[list[str]], ...]:
        """The names of the blocks and of the statistics of each layer, but for `WEIGHT`."""
        return tuple(
            [[block.name for block in own if block.name != WEIGHT] for own in kind]
            for kind in self._blocks
        )


def dense_network(
    widths: Sequence[int],
    activations: Sequence[Activation],
    dropout: Sequence[float] = (),
    normalization: Normalization | None = None,
) -> Network:
    """Return dense layers with an activation after each but the last.

    Parameters
    ----------
    widths : sequence of int
        The number of inputs, of units in each hidden layer, and of outputs.
    activations : sequence of Activation
        One for each hidden layer.
    dropout : sequence of float, default=()
        The rates at which training leaves out inputs and the units of each hidden layer; empty
        where it leaves out none.
    normalization : Normalization or None, default=None
        What is made of the input of each activation.
    """
    n_inputs, *hidden, n_outputs = widths
    layers: list[Layer] = []
    for n_units, activation in zip(hidden, activations, strict=True):
        layers.append(Dense(n_units, has_biases=normalization is None))
        if normalization is not None:
            layers.append(normalization)
        layers.append(Elementwise(activation))
    return Network(n_inputs, (*layers, Dense(n_outputs))).with_dropout(dropout)
