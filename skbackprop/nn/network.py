"""A network: its sequence of layers, and the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np

from ..activations import ActivationFunction
from ..initializers import Initializer
from ..layers.base import NUM_BATCHES_TRACKED, Layer, ParameterSpec
from ..layers.dense import Activation, Dense
from ..layers.dropout import Dropout
from ..layers.normalization import Normalization
from ..utils.arrays import Array
from .parameters import FlatParameters, ParameterLayout, Parameters, Streams

OutputPlacement: TypeAlias = Literal["buffer", "input", "matrices", "scores"]


@dataclass(frozen=True, slots=True)
class LayerStep:
    """A layer on the way, and what follows from those before and after it.

    Parameters
    ----------
    layer : Layer
        The layer.
    index, n_inputs, n_outputs : int
        Its place in the network, and the columns before and after it.
    is_sparse : bool
        Whether its input is a list of CSR matrices.
    can_overwrite_input : bool
        Whether nobody else reads its input once it has gone forward.
    output : {"buffer", "input", "matrices", "scores"}
        Where its output goes: to a buffer of its own, to where its input is, to a list of CSR
        matrices, or with the last layer to the scores.
    grad_buffer_index : int or None
        To which of two buffers the gradient by its input goes: a layer reads one while it fills
        the other. None where none is wanted, or where it takes the memory of that by the output.
    """

    layer: Layer
    index: int
    n_inputs: int
    n_outputs: int
    is_sparse: bool
    can_overwrite_input: bool
    output: OutputPlacement
    grad_buffer_index: int | None


class ExecutionPlan:
    """The way forward through the layers of a network, and back where that is wanted.

    Parameters
    ----------
    layers : sequence of Layer
        The layers. Those that are random are left out in prediction.
    n_units : sequence of int
        The number of inputs, and of the outputs of each layer.
    is_training : bool
        Whether there is a way back, down to the lowest layer that learns.
    is_sparse : bool
        Whether the input is sparse.
    is_by_input : bool, default=False
        Whether there is a way back out of training: to the input, through layers as they predict.

    Attributes
    ----------
    steps : list of Step
        The layers that are gone through.
    lowest : int
        The last step on the way back.
    grad_buffer_index : int
        To which of the two buffers d loss / d scores goes.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        n_units: Sequence[int],
        is_training: bool,
        is_sparse: bool,
        is_by_input: bool = False,
    ) -> None:
        has_way_back = is_training or is_by_input
        places = [i for i, layer in enumerate(layers) if is_training or not layer.stochastic]
        last = layers[places[-1]]
        if has_way_back and last.saves_output:
            raise TypeError(
                f"{type(last).__name__} may not be the last layer in training: it would "
                "overwrite the scores. The loss has a link in its place."
            )
        learning = (step for step, i in enumerate(places) if layers[i].blocks(n_units[i]))
        self.first_trainable_layer, self.grad_buffer_index = (
            0 if is_by_input else next(learning, len(places)),
            0,
        )
        # The first step the gradient by whose input is wanted.
        self._first_by_input = 0 if is_by_input else self.first_trainable_layer + 1
        self.steps: list[LayerStep] = []
        can_overwrite_input = False
        for i in places:
            layer, n_inputs, n_outputs = layers[i], n_units[i], n_units[i + 1]
            if is_sparse and not layer.takes_sparse:
                raise TypeError(f"{type(layer).__name__} takes no sparse input. Pass X.toarray().")
            can_overwrite_input = can_overwrite_input and not is_sparse
            gives_sparse = is_sparse and layer.keeps_sparse
            output: OutputPlacement = "buffer"
            if i == places[-1]:
                output = "scores"
            elif gives_sparse:
                output = "matrices"
            elif can_overwrite_input and layer.inplace_forward(has_way_back):
                output = "input"
            grad_buffer_index = self._next_turn(layer) if has_way_back else None
            self.steps.append(
                LayerStep(
                    layer,
                    i,
                    n_inputs,
                    n_outputs,
                    is_sparse,
                    can_overwrite_input,
                    output,
                    grad_buffer_index,
                )
            )
            is_sparse, can_overwrite_input = gives_sparse, not layer.saves_output

    def _next_turn(self, layer: Layer) -> int | None:
        """Return the buffer for the gradient by the layer's input, that by its output is next."""
        n_below = len(self.steps)
        if n_below < self.first_trainable_layer or layer.inplace_backward:
            return None
        grad_buffer_index, self.grad_buffer_index = (
            self.grad_buffer_index,
            1 - self.grad_buffer_index,
        )
        return grad_buffer_index if n_below >= self._first_by_input else None


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
    def _blocks(self) -> tuple[list[tuple[ParameterSpec, ...]], list[tuple[ParameterSpec, ...]]]:
        """The blocks and the statistics of each layer."""
        sited = list(zip(self.layers, self.n_units[:-1], strict=True))
        return [layer.blocks(n) for layer, n in sited], [layer.statistics(n) for layer, n in sited]

    @cached_property
    def layout(self) -> ParameterLayout:
        """Where each layer's blocks lie in the parameters."""
        return ParameterLayout(*self._blocks)

    @cached_property
    def has_regularized_parameters(self) -> tuple[bool, ...]:
        """Which layers have something that is penalised."""
        blocks, _ = self._blocks
        return tuple(any(block.regularized for block in own) for own in blocks)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """The number of inputs, and of the outputs of each layer of weights."""
        outputs = zip(self.has_regularized_parameters, self.n_units[1:], strict=True)
        return (self.n_inputs, *(n for has_weights, n in outputs if has_weights))

    def activations_per_sample(self, is_sparse: bool) -> int:
        """Return the numbers of a row in the buffers of a pass; a sparse input is in none."""
        return sum(self.widths[1:] if is_sparse else self.widths)

    @cached_property
    def shapes(self) -> dict[str, list[tuple[int, ...]]]:
        """The shape of a member's arrays of each name, one for each layer that has it."""
        shapes: dict[str, list[tuple[int, ...]]] = {}
        for block in (block for kind in self._blocks for own in kind for block in own):
            if block.name != NUM_BATCHES_TRACKED:
                shapes.setdefault(block.name, []).append(block.shape)
        return shapes

    @cached_property
    def activations(self) -> tuple[ActivationFunction, ...]:
        """The activations, in their order."""
        return tuple(layer.activation for layer in self.layers if isinstance(layer, Activation))

    @cached_property
    def n_up_to_activation(self) -> tuple[int, ...]:
        """The number of layers up to each activation, itself included."""
        counted = enumerate(self.layers, start=1)
        return tuple(n for n, layer in counted if isinstance(layer, Activation))

    def part(self, layers: slice) -> Network:
        """Return some consecutive layers as a network of their own."""
        return Network(self.n_units[layers][0], self.layers[layers])

    @cached_property
    def stochastic(self) -> bool:
        """Whether a layer draws random numbers in training."""
        return any(layer.stochastic for layer in self.layers)

    def execution_plan(
        self, is_training: bool, is_sparse: bool, is_by_input: bool = False
    ) -> ExecutionPlan:
        """Return the way through the layers, which is found once and kept."""
        kind = is_training, is_sparse, is_by_input
        if kind not in self._ways:
            self._ways[kind] = ExecutionPlan(self.layers, self.n_units, *kind)
        return self._ways[kind]

    @cached_property
    def _ways(self) -> dict[tuple[bool, bool, bool], ExecutionPlan]:
        return {}

    def max_matmul_size(self, n_rows: int) -> int:
        """Return the multiplications in the largest matrix product for so many rows."""
        return n_rows * self._largest_product

    @cached_property
    def _largest_product(self) -> int:
        sited = zip(self.layers, self.n_units[:-1], strict=True)
        return max(layer.max_matmul_size(n_inputs) for layer, n_inputs in sited)

    @property
    def memory_per_sample(self) -> int:
        """Return about how many numbers of a row a step goes over."""
        sited = zip(self.layers, self.n_units[:-1], strict=True)
        return 2 * self.n_inputs + sum(layer.memory_per_sample(n) for layer, n in sited)

    def with_dropout(self, rates: Sequence[float]) -> Network:
        """Return the network with dropout of these rates before its layers of weights, or none.

        The first is that of the input; there are as many as layers of weights, or none at all.
        """
        if not (any(rates) or self.stochastic):
            return self
        rates = tuple(rates)
        other = self._others.get(rates)
        if other is None:
            other = Network(self.n_inputs, self._layers_with(rates))
            if not self.stochastic:
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
        for layer, has_weights in zip(self.layers, self.has_regularized_parameters, strict=True):
            rate = next(rest, 0.0) if has_weights else 0.0
            if rate > 0:
                layers.append(Dropout(rate))
            if not isinstance(layer, Dropout):
                layers.append(layer)
        return tuple(layers)

    # ------------------------------------------------------------------ its parameters

    def draw(
        self, initializers: Sequence[Initializer], rng: np.random.RandomState
    ) -> list[tuple[Array, Array]]:
        """Return initial (weights, biases) of each dense layer, drawn in that order by its own."""
        return [
            initializer.draw(rng, *shape)
            for initializer, shape in zip(initializers, self.shapes["weights"], strict=True)
        ]

    def start(
        self,
        members: Sequence[Sequence[tuple[Array, Array]]],
        dtype: np.dtype[np.floating],
        rngs: Streams = (),
    ) -> FlatParameters:
        """Return parameters with copies of each member's (weights, biases), layer by layer.

        All else is as it starts, drawn from a stream for each member where it is random.
        """
        parameters = self.layout.start(len(members), dtype, rngs)
        for i, layers in enumerate(zip(*members, strict=True)):
            for member, (weights, biases) in enumerate(layers):
                parameters.weights[i][member] = weights
                parameters.biases[i][member, 0] = biases
        return parameters

    def copy_parameters(self, start: Parameters, dtype: np.dtype[np.floating]) -> FlatParameters:
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
            [[block.name for block in own if block.name != NUM_BATCHES_TRACKED] for own in kind]
            for kind in self._blocks
        )


def dense_network(
    widths: Sequence[int],
    activations: Sequence[ActivationFunction],
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
        layers.append(Activation(activation))
    return Network(n_inputs, (*layers, Dense(n_outputs))).with_dropout(dropout)
