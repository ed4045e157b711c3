"""Networks as sequences of layers, and their passes bound to memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from operator import attrgetter
from typing import Any, NamedTuple, cast

import numpy as np

from ..activations import ActivationFunction, Relu
from ..initializers import GlorotUniform, Initializer
from ..layers.base import (
    NUM_BATCHES_TRACKED,
    BatchMemory,
    BatchView,
    Layer,
    LayerContext,
    ParameterSpec,
    Shape,
)
from ..layers.dense import Activation, Dense, HiddenDropout
from ..layers.latent import Sampling
from ..layers.normalization import Normalization
from ..layers.pooling import BaseGlobalMaxPooling, BaseMaxPooling
from ..utils.arrays import Array, ArrayDict, BufferPool, iter_row_slices
from .parameters import ParameterLayout, Parameters, RandomStates


class ExecutedLayer(NamedTuple):
    """A layer, its number in the network, and the shapes in which it sees a batch of one row."""

    number: int
    layer: Layer
    input_shape: Shape
    x_shape: Shape
    out_shape: Shape


class Network:
    """A sequence of layers.

    Parameters
    ----------
    input_shape : tuple of int
        The shape of one row of the input: ``(n,)`` for n numbers.
    layers : tuple of Layer
        The layers; the first one reads the input.

    Attributes
    ----------
    row_shapes : list of tuple of int
        The shape of one row of the input, and of the output of each layer.
    n_units : list of int
        The number of inputs, and of outputs of each layer.
    layout : ParameterLayout
        The positions of all parameters and buffers in flat arrays.
    shapes : dict
        The shapes of a member's arrays by name, one for each layer that has the array.
    widths : list of int
        The number of inputs, and of outputs of each layer that has weights, as dense layers have.
    memory_per_sample_of_layers : list of int
        The approximate number of values that a step reads or writes for a row, by layer.
    memory_per_sample : int
        The approximate number of values that a step reads or writes for a row.
    max_matmul_size : int
        The number of multiplications in the largest matrix product, for each row. Products of
        layers that compute a batch in parts do not count.
    divides_rows : bool
        Whether a layer computes a batch in parts.
    stochastic : bool
        Whether a layer draws random numbers in training.
    reads_sequences : bool
        Whether a layer reads sequences.
    """

    def __init__(self, input_shape: Shape, layers: tuple[Layer, ...]) -> None:
        self.input_shape, self.layers = input_shape, layers
        self.row_shapes, self.n_units = [input_shape], [math.prod(input_shape)]
        self.shapes: dict[str, list[Shape]] = {}
        self.widths, self.memory_per_sample_of_layers = [self.n_units[0]], list[int]()
        self.stochastic = any(map(attrgetter("stochastic"), layers))
        self.reads_sequences = any(map(attrgetter("reads_sequences"), layers))
        self.max_matmul_size, self.divides_rows = 0, False
        n_activations = 0
        self._weight_specs: list[ParameterSpec] = []
        all_specs = []
        for layer in layers:
            shape = self.row_shapes[-1]
            self.row_shapes.append(layer.compute_output_shape(shape))
            self.n_units.append(math.prod(self.row_shapes[-1]))
            specs = layer.parameter_specs(shape)
            if not layer.trainable:
                specs = tuple(replace(spec, frozen=spec.trained) for spec in specs)
            all_specs.append(specs)
            for spec in all_specs[-1]:
                if spec.name != NUM_BATCHES_TRACKED:
                    self.shapes.setdefault(spec.name, []).append(spec.shape)
                if spec.name in ("weights", "biases") and not isinstance(
                    layer, (Dense, Normalization)
                ):
                    raise ValueError(
                        f"{type(layer).__name__} declares an array named {spec.name!r}, as dense "
                        "layers do, whose arrays are drawn together. Choose another name."
                    )
                if spec.name == "weights":
                    self._weight_specs.append(spec)
                    self.widths.append(self.n_units[-1])
            self.memory_per_sample_of_layers.append(layer.memory_per_sample(shape))
            if max(len(shape), len(self.row_shapes[-1])) > 1:
                n_activations += self.memory_per_sample_of_layers[-1]
            matmul_size = layer.max_matmul_size(shape)
            self.max_matmul_size = max(self.max_matmul_size, matmul_size or 0)
            self.divides_rows |= matmul_size is None
        self.memory_per_sample = 2 * self.n_units[0] + sum(self.memory_per_sample_of_layers)
        self._n_activations = n_activations + sum(self.widths)
        self.layout = ParameterLayout(all_specs)
        # The last network with other dropout rates; each call of `partial_fit` needs it.
        self._dropout_variant: dict[tuple[float, ...], Network] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.input_shape, self.layers)

    @cached_property
    def takes_padding(self) -> bool:
        """Whether the input is sequences that may end in padding."""
        for layer, shape in zip(self.layers, self.row_shapes, strict=False):
            if layer.reads_sequences:
                return True
            if len(shape) != 2 or layer.batch_view in ("shaped", "any"):
                return False
        return False

    def validate_padding(self, X: Any) -> None:
        """Check that NaN in X is padding at the end of sequences, which layers skip.

        Raises
        ------
        ValueError
            If there are other NaNs.
        """
        if not self.reads_sequences:
            return
        for block in iter_row_slices(X):
            values = X[block]
            if X.dtype.kind != "f" or not np.isnan(values.sum()):
                continue
            shape = self.input_shape if len(self.input_shape) > 1 else (*self.input_shape, 1)
            is_missing = np.isnan(values).reshape(len(values), shape[0], -1)
            is_padding = is_missing.all(axis=2)
            is_wrong = (is_missing.any(axis=2) & ~is_padding) | is_padding[:, :1]
            is_wrong[:, :-1] |= is_padding[:, :-1] & ~is_padding[:, 1:]
            if not self.takes_padding:
                is_wrong |= is_padding
            if is_wrong.any():
                row, step = np.argwhere(is_wrong)[0]
                if is_padding[row].all():
                    raise ValueError(
                        f"Row {block.start + row} of X contains only NaN, which means padding, "
                        "but a sequence needs at least one step. Remove the row."
                    )
                rule = (
                    "NaN is only allowed as padding, at the end of a sequence and in all its "
                    "channels"
                    if self.takes_padding
                    else f"The first layer, {self.layers[0]!r}, does not accept NaN"
                )
                raise ValueError(
                    f"Input X contains NaN in row {block.start + row}, step {step}. {rule}. "
                    "Impute missing values within sequences, for example by interpolation."
                )

    def activations_per_sample(self, is_sparse: bool) -> int:
        """Return how many values of each row a pass buffers, not counting sparse input."""
        return self._n_activations - self.widths[0] if is_sparse else self._n_activations

    @cached_property
    def n_up_to_activation(self) -> tuple[int, ...]:
        """The number of layers up to and including each activation."""
        pairs = enumerate(self.layers, start=1)
        return tuple(n for n, layer in pairs if isinstance(layer, Activation))

    def part(self, layers: slice) -> Network:
        """Return a network of some consecutive layers."""
        return Network(self.row_shapes[layers][0], self.layers[layers])

    @cached_property
    def is_variational(self) -> bool:
        """Whether a layer draws codes from distributions."""
        return any(isinstance(layer, Sampling) for layer in self.layers)

    @cached_property
    def executed_layers(self) -> list[ExecutedLayer]:
        """The layers in the order of a pass.

        A ReLU before max pooling is executed after it: outputs and gradients are the same, and
        the ReLU has fewer values to compute.
        """
        order = list(range(len(self.layers)))
        for step in range(len(order) - 1):
            layer, next_layer = self.layers[order[step]], self.layers[order[step + 1]]
            is_relu = isinstance(layer, Activation) and isinstance(layer.function, Relu)
            if is_relu and isinstance(next_layer, BaseMaxPooling | BaseGlobalMaxPooling):
                order[step], order[step + 1] = order[step + 1], order[step]
        layers, shape = [], self.input_shape
        for i in order:
            layer, input_shape = self.layers[i], shape
            shape = layer.compute_output_shape(input_shape)
            x_shape = one_row_shape(layer.batch_view, input_shape)
            if layer.batch_view == "sequences" and len(x_shape) == 2:
                x_shape = *x_shape, 1
            out_shape = one_row_shape(layer.batch_view, shape)
            layers.append(ExecutedLayer(i, layer, input_shape, x_shape, out_shape))
        return layers

    def with_dropout(self, rates: tuple[float, ...]) -> Network:
        """Return the network with dropout before each layer that has weights.

        `rates` has one rate for each of these layers, the first one for the input, or is empty for
        no dropout.
        """
        if not any(rates):
            return self
        if rates not in self._dropout_variant:
            rate_iterator = iter(rates)
            layers: list[Layer] = []
            for layer, shape in zip(self.layers, self.row_shapes, strict=False):
                if "weights" in [spec.name for spec in layer.parameter_specs(shape)]:
                    rate = next(rate_iterator)
                    if rate > 0:
                        layers.append(HiddenDropout(rate))
                layers.append(layer)
            self._dropout_variant = {rates: Network(self.input_shape, tuple(layers))}
        return self._dropout_variant[rates]

    # ---------------------------------------------------------------------- parameters

    def draw_weights(
        self, rng: np.random.RandomState, initializer: Initializer | None = None
    ) -> list[tuple[Array, Array]]:
        """Return random initial (weights, biases), layer by layer.

        `initializer` replaces the initializers of the layers.
        """
        shapes, weights = self.shapes.get("weights", []), []
        if initializer is not None:
            return initializer.draw_all(rng, shapes)
        for spec in self._weight_specs:
            weights.append(cast(Initializer, spec.initializer).draw(rng, *spec.shape))
        return weights

    def init_parameters(
        self,
        members: Sequence[Sequence[tuple[Array, Array]]],
        dtype: np.dtype[np.floating],
        rngs: RandomStates = (),
    ) -> Parameters:
        """Return initial parameters with copies of each member's (weights, biases).

        All other arrays have their initial values, drawn from each member's random state.
        """
        parameters = self.layout.init(len(members), dtype, rngs)
        all_weights, all_biases = parameters.select("weights"), parameters.select("biases")
        for member, layers in enumerate(members):
            for i, (weights, biases) in enumerate(layers):
                all_weights[i][member], all_biases[i][member, 0] = weights, biases
        return parameters


def dense_layers(
    hidden_widths: Sequence[int],
    activations: Sequence[ActivationFunction],
    n_outputs: int,
    normalization: Normalization | None = None,
    n_frozen: int = 0,
) -> list[Layer]:
    """Return dense layers, with an activation after each but the last.

    The last layer has the initializer of the one before it.

    Parameters
    ----------
    hidden_widths : sequence of int
        The number of units in each hidden layer.
    activations : sequence of ActivationFunction
        One for each hidden layer.
    n_outputs : int
        The number of outputs.
    normalization : Normalization or None, default=None
        The normalization before each activation.
    n_frozen : int, default=0
        The number of hidden layers, from the first, that are not trainable.
    """
    layers: list[Layer] = []
    initializer: Initializer = GlorotUniform()
    for i, (n_units, activation) in enumerate(zip(hidden_widths, activations, strict=True)):
        initializer = activation.initializer
        dense = Dense(n_units, None, normalization is None, initializer)
        for layer in (dense,) if normalization is None else (dense, normalization):
            layers.append(replace(layer, trainable=False) if i < n_frozen else layer)
        layers.append(Activation(activation))
    return [*layers, Dense(n_outputs, initializer=initializer)]


class BoundNetwork:
    """The layers of a network bound to parameters, and to the memory of one batch shape.

    Each layer reads and writes the same arrays in each pass, except for the input of the first
    layer and the output of the last one.

    Parameters
    ----------
    network : Network
        The architecture.
    parameters : Parameters
        The parameters of the members. They may change in place between passes.
    n_rows : int
        The number of rows of a batch.
    pool : BufferPool
        The memory for buffers.
    gradients : Parameters or None, default=None
        The arrays for the gradients in training; None in prediction, which needs `forward` only.
    sparse : bool, default=False
        Whether the input is a list of CSR matrices.
    rngs : sequence of Generator, default=()
        The random generator of each member's stochastic layers in training.
    with_input_gradient : bool, default=False
        Whether `backward` is needed in prediction, for the gradient with respect to the input.

    Attributes
    ----------
    batch : BatchMemory
        The memory that the layers share. The row weights of the current training batch are to be
        set before `forward`.
    delta : array of shape (n_estimators, n_rows, n_outputs)
        The gradient of the loss with respect to the raw predictions, to be set before `backward`.
    activity_loss : array of shape (n_estimators, n_rows) or None
        The sum of the layers' own losses of each row, after `forward` in training; None if no
        layer has one.

    Raises
    ------
    TypeError
        If the input is sparse and a layer does not take it, or if the last layer in training
        would overwrite the raw predictions.
    """

    def __init__(
        self,
        network: Network,
        parameters: Parameters,
        n_rows: int,
        pool: BufferPool,
        gradients: Parameters | None = None,
        sparse: bool = False,
        rngs: Sequence[np.random.Generator] = (),
        with_input_gradient: bool = False,
    ) -> None:
        is_training, takes_padding = gradients is not None, network.takes_padding
        batch = BatchMemory(len(parameters), n_rows, pool, is_training, takes_padding, rngs)
        self.batch, self._layers = batch, network.executed_layers
        self._members = (batch.n_estimators,) if batch.n_estimators > 1 else ()
        trained, buffers = parameters.member_views()
        gradients_of_layers: list[ArrayDict] = [{}] * len(trained)
        if gradients is not None:
            gradients_of_layers = gradients.member_views()[0]
        needs_gradient, grad_buffer = with_input_gradient, 0
        self._contexts: list[LayerContext] = []
        # None stands for the input and the output of the network.
        self._forward: list[tuple[Any, Any, Any]] = []
        self._bound_layers: list[tuple[Layer, LayerContext, Any, Any, Any]] = []
        x: Any = None
        shape: Shape = ()
        can_overwrite = False
        for number, layer, input_shape, x_shape, out_shape in self._layers:
            reads, is_view, grad_input = layer.backward_reads, layer.batch_view == "any", None
            x_shape = n_rows * x_shape[0], *x_shape[1:]
            out_shape = n_rows * out_shape[0], *out_shape[1:]
            if needs_gradient and reads == "input":
                grad_input = batch.scratch(f"delta {grad_buffer}", *x_shape)
                # Two buffers are enough: a layer reads one while it fills the other.
                grad_buffer = 1 - grad_buffer
            layer_gradients = gradients_of_layers[number] if layer.trainable else {}
            # A layer needs the gradient with respect to its input if a layer before it has
            # parameters that are not frozen.
            needs_gradient = needs_gradient or bool(layer_gradients)
            context = LayerContext(
                batch,
                number,
                input_shape,
                x_shape,
                out_shape,
                trained[number],
                layer_gradients,
                buffers[number],
                grad_input,
                sparse,
                needs_gradient,
            )
            self._contexts.append(context)
            sparse = sparse and reads != "input"
            passes = layer.bind(context)
            if passes is None:
                continue
            if context.is_sparse and not layer.takes_sparse:
                raise TypeError(
                    f"{type(layer).__name__} does not accept sparse input. Pass X.toarray()."
                )
            if isinstance(x, np.ndarray) and shape != x_shape:
                x = x.reshape(*self._members, *x_shape)
            if reads == "both" and not can_overwrite:
                copy = context.scratch("input", *x_shape)
                self._forward.append((_copy, x, copy))
                x = copy
            # Elementwise layers work in place, unless a backward pass reads their input.
            out = None
            if is_view or (can_overwrite and reads in ("output", "neither")):
                out = x if x_shape == out_shape else x.reshape(*self._members, *out_shape)
            elif sparse:
                out = [None] * batch.n_estimators
            elif len(self._contexts) < len(self._layers):
                out = context.scratch("output", *out_shape)
            self._forward.append((passes[0], x, out))
            self._bound_layers.append((layer, context, passes[1], x, out))
            x, shape = out, out_shape
            if not is_view:
                can_overwrite = reads in ("input", "neither") and isinstance(x, np.ndarray)
        self._forward[-1] = *self._forward[-1][:2], None
        self._x_view = self._view(self._bound_layers[0][1].x_shape)
        self._out_view = self._view(shape)
        self.activity_loss = batch.activity_loss
        if is_training or with_input_gradient:
            self._bind_gradients(f"delta {grad_buffer}")

    def _view(self, shape: Shape) -> Shape | None:
        """Return the shape in which a layer views rows of shape (n_rows, n_units), if another."""
        if len(shape) == 2 and shape[0] == self.batch.n_rows:
            return None
        # -1 stands for the members, or for one if all of them share the rows.
        return (-1, *shape) if self._members else shape

    def _bind_gradients(self, name: str) -> None:
        """Bind each layer to the gradient with respect to its output, if it needs one.

        `name` is that of the memory for the gradient with respect to the raw predictions.
        """
        layer, context, *_ = self._bound_layers[-1]
        if layer.backward_reads in ("output", "both"):
            raise TypeError(
                f"{type(layer).__name__} cannot be the last layer in training, because it "
                "would overwrite the raw predictions. Use the link of the loss instead."
            )
        n_rows = self.batch.n_rows
        shape = n_rows, math.prod(context.out_shape) // n_rows
        self.delta = delta = self.batch.scratch(name, *shape)
        self._backward: list[tuple[Any, Any, Any, Array]] = []
        for _, context, backward, x, out in reversed(self._bound_layers):
            if context.has_backward:
                delta = delta.reshape(*self._members, *context.out_shape)
                self._backward.append((backward, x, out, delta))
                delta = delta if context.grad_input is None else context.grad_input
        self._grad_input = delta.reshape(*self._members, n_rows, -1)

    def forward(self, x: Any, predictions: Array) -> None:
        """Write the raw predictions for the batch `x` to `predictions`."""
        if self.batch.takes_padding:
            x = self._replace_padding(x)
        if self.activity_loss is not None:
            self.activity_loss.fill(0)
        self._x = first_x = x if self._x_view is None else x.reshape(self._x_view)
        last_out = predictions if self._out_view is None else predictions.reshape(self._out_view)
        for forward, x, out in self._forward:
            forward(first_x if x is None else x, last_out if out is None else out)

    def _replace_padding(self, x: Array) -> Array:
        """Set the lengths of sequences in the contexts; return the input with zeros for padding."""
        context = self._contexts[0]
        rows = x.reshape(-1, self.batch.n_rows, *context.input_shape)
        lengths = self._layers[0].layer.compute_lengths(rows)
        if lengths is None and context.lengths is None:
            return x
        values = x if lengths is None else np.where(np.isnan(x), 0, x)
        for executed_layer, context in zip(self._layers, self._contexts, strict=True):
            context.lengths = lengths
            if lengths is not None:
                lengths = executed_layer.layer.compute_output_lengths(lengths)
        return values

    def backward(self) -> Array:
        """Compute the gradients of all parameters from `self.delta`.

        On return `delta` and the outputs of the hidden layers are overwritten. The gradient with
        respect to the input is returned if `with_input_gradient` is set.
        """
        for backward, x, out, delta in self._backward:
            backward(self._x if x is None else x, out, delta)
        return self._grad_input


def _copy(x: Array, out: Array) -> None:
    np.copyto(out, x)


def one_row_shape(view: BatchView, shape: Shape) -> Shape:
    """Return the shape in which a layer sees a batch of one row."""
    if view == "flat":
        return 1, math.prod(shape)
    if view == "positions":
        return math.prod(shape[:-1]), shape[-1]
    return 1, *shape
