"""Networks as sequences of layers, and the plan by which a pass executes them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from ..activations import ActivationFunction, Relu
from ..initializers import GlorotUniform, Initializer
from ..layers.base import (
    NUM_BATCHES_TRACKED,
    BatchWeights,
    BuiltLayer,
    Layer,
    LayerContext,
    ParameterSpec,
    Shape,
)
from ..layers.dense import Activation, Dense, HiddenDropout
from ..layers.normalization import Normalization
from ..layers.pooling import GlobalMaxPooling, MaxPooling
from ..utils.arrays import Array, BufferPool, iter_row_slices, squeeze_member_axis
from .parameters import FlatParameters, ParameterLayout, Parameters, RandomStates

OutputPlacement: TypeAlias = Literal["buffer", "input", "matrices", "scores"]
Specs: TypeAlias = list[tuple[ParameterSpec, ...]]


@dataclass(frozen=True, slots=True)
class LayerStep:
    """A layer in an execution plan, with settings that depend on its neighbors.

    Parameters
    ----------
    layer : Layer
        The layer.
    index : int
        Its index in the network.
    input_shape, output_shape : tuple of int
        The shape of one row before and after it.
    is_sparse : bool
        Whether its input is a list of CSR matrices.
    can_overwrite_input : bool
        Whether no other layer reads its input.
    output : {"buffer", "input", "matrices", "scores"}
        The memory of its output: a buffer of its own, that of its input, a list of CSR matrices,
        or that of the raw predictions for the last layer.
    grad_buffer_index : int or None
        Which of two buffers holds the gradient with respect to its input: a layer reads one while
        it fills the other. None if the gradient is not needed, or is computed in place.
    """

    layer: Layer
    index: int
    input_shape: Shape
    output_shape: Shape
    is_sparse: bool
    can_overwrite_input: bool
    output: OutputPlacement
    grad_buffer_index: int | None

    def batch_shape(self, shape: Shape, n_rows: int) -> Shape:
        """Return the shape in which the layer sees `n_rows` rows of a shape."""
        if self.layer.batch_view == "flat":
            return n_rows, math.prod(shape)
        if self.layer.batch_view == "positions":
            return n_rows * math.prod(shape[:-1]), shape[-1]
        return n_rows, *shape


class BatchViews:
    """The shapes in which the layers of an execution plan see a batch.

    Arrays keep their memory between layers. Where a layer sees a batch in another shape than the
    layer that has written it, there is a view for it, else None.

    Parameters
    ----------
    steps : sequence of LayerStep
        The layers that are executed.
    n_rows : int
        The number of rows of the batch.
    has_members : bool
        Whether the arrays have a member axis.

    Attributes
    ----------
    reads, writes : list of tuples of int
        The shapes of each layer's input and output, without the member axis.
    sizes : list of (n_rows, n_inputs, n_outputs)
        The numbers of rows or positions of each layer, and of values of one before and after it.
    forward, backward : list of tuples of int or None
        The views of each layer's input, and of the gradient with respect to its output.
    scores, grad_input : tuple of int or None
        The views of the raw predictions for the last layer, and of the gradient with respect to
        the input after the first one.
    """

    def __init__(self, steps: Sequence[LayerStep], n_rows: int, has_members: bool) -> None:
        first, last = steps[0].input_shape, steps[-1].output_shape
        x_flat, scores_flat = (n_rows, math.prod(first)), (n_rows, math.prod(last))
        self.reads = [step.batch_shape(step.input_shape, n_rows) for step in steps]
        self.writes = [step.batch_shape(step.output_shape, n_rows) for step in steps]
        self.sizes = [
            (read[0], math.prod(read[1:]), math.prod(written[1:]))
            for read, written in zip(self.reads, self.writes, strict=True)
        ]

        def view(shape: Shape, given: Shape) -> Shape | None:
            # -1 stands for the members, or for one if all of them share the rows.
            return None if shape == given else (-1, *shape) if has_members else shape

        self.forward = list(map(view, self.reads, [x_flat, *self.writes[:-1]]))
        self.scores = view(self.writes[-1], scores_flat)
        self.backward = list(map(view, self.writes, [*self.reads[1:], scores_flat]))
        self.grad_input = view(x_flat, self.reads[0])


# The number of batch sizes whose views a plan keeps.
_N_SIZES = 8


class ExecutionPlan:
    """The order in which layers are executed forward and backward, and their buffers.

    Parameters
    ----------
    layers : sequence of Layer
        The layers. Prediction skips those for training only.
    shapes : sequence of tuples of int
        The shape of one row of the input, and of the output of each layer.
    is_training : bool
        Whether gradients are needed down to the first layer with parameters.
    is_sparse : bool
        Whether the input is sparse.
    with_input_gradient : bool, default=False
        Whether the gradient of a prediction with respect to the input is needed.

    Attributes
    ----------
    steps : list of LayerStep
        The layers that are executed.
    first_trainable_layer : int
        The first step that the backward pass reaches.
    grad_buffer_index : int
        Which of the two buffers holds the gradient with respect to the raw predictions.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        shapes: Sequence[Shape],
        is_training: bool,
        is_sparse: bool,
        with_input_gradient: bool = False,
    ) -> None:
        has_backward = is_training or with_input_gradient
        executed = [i for i, layer in enumerate(layers) if is_training or not layer.training_only]
        # A change of the input's shape alone needs no layer.
        while layers[executed[0]].is_reshape:
            del executed[0]
        executed = _pool_before_relu(layers, executed)
        last = executed[-1]
        if has_backward and layers[last].saves_output:
            raise TypeError(
                f"{type(layers[last]).__name__} cannot be the last layer in training, because it "
                "would overwrite the raw predictions. Use the link of the loss instead."
            )
        trainable = [
            step for step, i in enumerate(executed) if layers[i].parameter_specs(shapes[i])
        ]
        first = 0 if with_input_gradient else min(trainable, default=len(executed))
        self.first_trainable_layer = first
        # The first step whose gradient with respect to the input is needed.
        first_with_gradient = 0 if with_input_gradient else first + 1
        self.grad_buffer_index, can_overwrite_input = 0, False
        input_shape = shapes[executed[0]]
        self.steps: list[LayerStep] = []
        for step, i in enumerate(executed):
            layer = layers[i]
            if is_sparse and not layer.takes_sparse:
                raise TypeError(
                    f"{type(layer).__name__} does not accept sparse input. Pass X.toarray()."
                )
            can_overwrite_input = can_overwrite_input and not is_sparse
            output: OutputPlacement = "buffer"
            if i == last:
                output = "scores"
            elif is_sparse and layer.keeps_sparse:
                output = "matrices"
            elif layer.is_reshape or (can_overwrite_input and layer.inplace_forward(has_backward)):
                output = "input"
            index = None
            if has_backward and step >= first and not layer.inplace_backward:
                index = self.grad_buffer_index if step >= first_with_gradient else None
                self.grad_buffer_index = 1 - self.grad_buffer_index
            own = input_shape, layer.compute_output_shape(input_shape)
            self.steps.append(
                LayerStep(layer, i, *own, is_sparse, can_overwrite_input, output, index)
            )
            input_shape = own[1]
            is_sparse = is_sparse and layer.keeps_sparse
            if not layer.is_reshape:
                can_overwrite_input = not layer.saves_output
        self._views: dict[tuple[int, bool], BatchViews] = {}

    def batch_views(self, n_rows: int, has_members: bool) -> BatchViews:
        """Return the shapes in which the layers see a batch, which are cached."""
        views = self._views.get((n_rows, has_members))
        if views is None:
            if len(self._views) >= _N_SIZES:
                self._views.clear()
            views = self._views[n_rows, has_members] = BatchViews(self.steps, n_rows, has_members)
        return views


def _pool_before_relu(layers: Sequence[Layer], executed: Sequence[int]) -> list[int]:
    """Return the layers to execute with each relu after the maxima of windows that follow it.

    The relu of a maximum is the maximum of the relus, and the gradients are equal, too. There are
    fewer maxima.
    """
    order = list(executed)
    for step in range(len(order) - 1):
        layer, after = layers[order[step]], layers[order[step + 1]]
        is_relu = isinstance(layer, Activation) and isinstance(layer.function, Relu)
        if is_relu and isinstance(after, MaxPooling | GlobalMaxPooling):
            order[step], order[step + 1] = order[step + 1], order[step]
    return order


@dataclass(frozen=True)
class Network:
    """A sequence of layers.

    Parameters
    ----------
    input_shape : tuple of int
        The shape of one row of the input: ``(n,)`` for n numbers.
    layers : tuple of Layer
        The layers; the first one reads the input.
    """

    input_shape: Shape
    layers: tuple[Layer, ...]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.input_shape, self.layers)  # without cached properties

    @property
    def n_inputs(self) -> int:
        """The number of inputs."""
        return math.prod(self.input_shape)

    @cached_property
    def row_shapes(self) -> tuple[Shape, ...]:
        """The shape of one row of the input, and of the output of each layer."""
        return compute_row_shapes(self.input_shape, self.layers)

    @cached_property
    def n_units(self) -> tuple[int, ...]:
        """The number of inputs, and of outputs of each layer."""
        return tuple(map(math.prod, self.row_shapes))

    @cached_property
    def _layers_and_shapes(self) -> list[tuple[Layer, Shape]]:
        """Each layer, with the shape of its input."""
        return list(zip(self.layers, self.row_shapes[:-1], strict=True))

    @cached_property
    def _layer_specs(self) -> tuple[Specs, Specs]:
        """The parameters and the buffers of each layer."""
        return [layer.parameter_specs(shape) for layer, shape in self._layers_and_shapes], [
            layer.buffer_specs(shape) for layer, shape in self._layers_and_shapes
        ]

    @cached_property
    def reads_sequences(self) -> bool:
        """Whether a layer reads sequences."""
        return any(layer.reads_sequences for layer in self.layers)

    @cached_property
    def takes_padding(self) -> bool:
        """Whether the input is sequences that may end in padding."""
        for layer, shape in self._layers_and_shapes:
            if layer.reads_sequences:
                return True
            if layer.is_reshape or len(shape) != 2 or layer.batch_view == "shaped":
                return False
        return False

    @cached_property
    def layout(self) -> ParameterLayout:
        """The positions of all parameters and buffers in flat arrays."""
        return ParameterLayout(*self._layer_specs)

    @cached_property
    def has_weights(self) -> tuple[bool, ...]:
        """Whether each layer has an array named "weights", as dense layers have."""
        return tuple(any(spec.name == "weights" for spec in own) for own in self._layer_specs[0])

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """The number of inputs, and of outputs of each layer that has weights."""
        outputs = zip(self.has_weights, self.n_units[1:], strict=True)
        return (self.n_inputs, *(n for has_weights, n in outputs if has_weights))

    def validate_padding(self, X: Any) -> None:
        """Check that NaN in X is padding at the end of sequences, which the network leaves out.

        Raises
        ------
        ValueError
            If there is other NaN.
        """
        if not self.reads_sequences:
            return
        for rows in iter_row_slices(X):
            values = X[rows]
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
                        f"Row {rows.start + row} of X contains only NaN, which stands for padding, "
                        "but a sequence needs at least one step. Remove the row."
                    )
                takes = (
                    "NaN is only allowed as padding, at the end of a sequence and in all its "
                    "channels"
                    if self.takes_padding
                    else f"The first layer, {self.layers[0]!r}, does not accept NaN"
                )
                raise ValueError(
                    f"Input X contains NaN in row {rows.start + row}, step {step}. {takes}. "
                    "Impute missing values within sequences, for example by interpolation."
                )

    def activations_per_sample(self, is_sparse: bool) -> int:
        """Return the number of values of a row in the buffers of a pass, without sparse input."""
        n_units = sum(self.widths[1:] if is_sparse else self.widths)
        shapes = self.row_shapes
        each = zip(self.memory_per_sample_of_layers, shapes[:-1], shapes[1:], strict=True)
        return n_units + sum(n for n, *around in each if max(map(len, around)) > 1)

    @cached_property
    def shapes(self) -> dict[str, list[tuple[int, ...]]]:
        """The shapes of a member's arrays by name, one for each layer that has the array."""
        shapes: dict[str, list[tuple[int, ...]]] = {}
        for spec in (spec for kind in self._layer_specs for own in kind for spec in own):
            if spec.name != NUM_BATCHES_TRACKED:
                shapes.setdefault(spec.name, []).append(spec.shape)
        return shapes

    @cached_property
    def n_up_to_activation(self) -> tuple[int, ...]:
        """The number of layers up to and including each activation."""
        counted = enumerate(self.layers, start=1)
        return tuple(n for n, layer in counted if isinstance(layer, Activation))

    def part(self, layers: slice) -> Network:
        """Return a network of some consecutive layers."""
        return Network(self.row_shapes[layers][0], self.layers[layers])

    @cached_property
    def stochastic(self) -> bool:
        """Whether a layer draws random numbers in training."""
        return any(layer.stochastic for layer in self.layers)

    @cached_property
    def has_activity_loss(self) -> bool:
        """Whether a layer has a loss of its own for each row."""
        return any(layer.has_activity_loss for layer in self.layers)

    def execution_plan(
        self, is_training: bool, is_sparse: bool, with_input_gradient: bool = False
    ) -> ExecutionPlan:
        """Return the plan of a pass, which is cached."""
        kind = is_training, is_sparse, with_input_gradient
        if kind not in self._plans:
            self._plans[kind] = ExecutionPlan(self.layers, self.row_shapes, *kind)
        return self._plans[kind]

    @cached_property
    def _plans(self) -> dict[tuple[bool, bool, bool], ExecutionPlan]:
        return {}

    def max_matmul_size(self, n_rows: int) -> int:
        """Return the number of multiplications in the largest matrix product, for `n_rows` rows.

        Those of layers that compute a batch in parts do not count.
        """
        return n_rows * self._max_matmul_size_per_row

    @cached_property
    def divides_rows(self) -> bool:
        """Whether a layer computes a batch in parts."""
        return any(layer.divides_rows for layer in self.layers)

    @cached_property
    def _max_matmul_size_per_row(self) -> int:
        sizes = [
            layer.max_matmul_size(shape)
            for layer, shape in self._layers_and_shapes
            if not layer.divides_rows
        ]
        return max(sizes, default=0)

    @property
    def memory_per_sample(self) -> int:
        """The approximate number of values of a row that a step reads or writes."""
        return 2 * self.n_inputs + sum(self.memory_per_sample_of_layers)

    @cached_property
    def memory_per_sample_of_layers(self) -> tuple[int, ...]:
        """The approximate number of values of a row that each layer reads or writes in a step."""
        return tuple(layer.memory_per_sample(shape) for layer, shape in self._layers_and_shapes)

    def with_dropout(self, rates: Sequence[float]) -> Network:
        """Return the network with dropout before each layer that has weights.

        `rates` has one rate for each of these layers, the first one for the input, or is empty for
        no dropout.
        """
        if not (any(rates) or self.stochastic):
            return self
        rates = tuple(rates)
        other = self._dropout_variant.get(rates)
        if other is None:
            rest = iter(rates)
            layers: list[Layer] = []
            for layer, has_weights in zip(self.layers, self.has_weights, strict=True):
                if has_weights:
                    if layers and isinstance(layers[-1], HiddenDropout):
                        layers.pop()
                    rate = next(rest, 0.0)
                    if rate > 0:
                        layers.append(HiddenDropout(rate))
                layers.append(layer)
            other = Network(self.input_shape, tuple(layers))
            if not self.stochastic:
                other._dropout_variant[()] = self
            self._dropout_variant.clear()
            self._dropout_variant[rates] = other
        return other

    @cached_property
    def _dropout_variant(self) -> dict[tuple[float, ...], Network]:
        """The last network with other dropout rates, which `partial_fit` needs in each call."""
        return {}

    # ---------------------------------------------------------------------- parameters

    def draw_weights(
        self, rng: np.random.RandomState, initializer: Initializer | None = None
    ) -> list[tuple[Array, Array]]:
        """Return random initial (weights, biases), layer by layer.

        `initializer` replaces the initializers of the layers.
        """
        specs = (spec for own in self._layer_specs[0] for spec in own if spec.name == "weights")
        return [
            (initializer or cast(Initializer, spec.initializer)).draw(rng, *spec.shape)
            for spec in specs
        ]

    def init_parameters(
        self,
        members: Sequence[Sequence[tuple[Array, Array]]],
        dtype: np.dtype[np.floating],
        rngs: RandomStates = (),
    ) -> FlatParameters:
        """Return initial parameters with copies of each member's (weights, biases).

        All other arrays have their initial values, drawn from each member's random state.
        """
        parameters = self.layout.init(len(members), dtype, rngs)
        for i, layers in enumerate(zip(*members, strict=True)):
            for member, (weights, biases) in enumerate(layers):
                parameters.weights[i][member] = weights
                parameters.biases[i][member, 0] = biases
        return parameters

    def copy_parameters(self, start: Parameters, dtype: np.dtype[np.floating]) -> FlatParameters:
        """Return flat parameters with copies of all arrays of `start`."""
        parameters = self.layout.init(len(start), dtype)
        for name in self.shapes:
            for own, given in zip(parameters.select(name), start.select(name), strict=True):
                own[...] = given
        return parameters

    def parameters(self, named: Mapping[str, Sequence[Array]]) -> Parameters:
        """Return parameters made of arrays by name, one for each layer that has the array."""
        rest = {name: iter(arrays) for name, arrays in named.items()}
        layers, buffers = (
            [
                {spec.name: next(rest[spec.name]) for spec in own if spec.name in self.shapes}
                for own in kind
            ]
            for kind in self._layer_specs
        )
        return Parameters(layers, buffers)


def compute_row_shapes(input_shape: Shape, layers: Sequence[Layer]) -> tuple[Shape, ...]:
    """Return the shape of one row of the input, and of the output of each layer."""
    shapes = [input_shape]
    for layer in layers:
        shapes.append(layer.compute_output_shape(shapes[-1]))
    return tuple(shapes)


def dense_network(
    widths: Sequence[int],
    activations: Sequence[ActivationFunction],
    dropout: Sequence[float] = (),
    normalization: Normalization | None = None,
) -> Network:
    """Return a network of dense layers, with an activation after each but the last.

    The last layer has the initializer of the one before it.

    Parameters
    ----------
    widths : sequence of int
        The number of inputs, of units in each hidden layer, and of outputs.
    activations : sequence of ActivationFunction
        One for each hidden layer.
    dropout : sequence of float, default=()
        The dropout rates of the inputs and of each hidden layer; empty for no dropout.
    normalization : Normalization or None, default=None
        The normalization before each activation.
    """
    n_inputs, *hidden, n_outputs = widths
    layers: list[Layer] = []
    initializer: Initializer = GlorotUniform()
    for n_units, activation in zip(hidden, activations, strict=True):
        initializer = activation.initializer
        layers.append(Dense(n_units, None, normalization is None, initializer))
        if normalization is not None:
            layers.append(normalization)
        layers.append(Activation(activation))
    layers.append(Dense(n_outputs, initializer=initializer))
    return Network((n_inputs,), tuple(layers)).with_dropout(dropout)


class BuiltNetwork:
    """Layers of a network bound to parameters, and to the memory of one batch shape.

    Parameters
    ----------
    network : Network
        The architecture.
    parameters : Parameters
        The parameters of the members.
    n_rows : int
        The number of rows of a batch.
    pool : BufferPool
        The memory for buffers.
    gradients : Parameters or None, default=None
        The arrays for the gradients in training; None in prediction, which skips layers for
        training only and needs `forward` only.
    sparse : bool, default=False
        Whether the input is a list of CSR matrices.
    rngs : sequence of Generator, default=()
        The random generators of each member's stochastic layers in training.
    with_input_gradient : bool, default=False
        Whether `backward` is needed in prediction, for the gradient with respect to the input.

    Attributes
    ----------
    batch : BatchWeights
        The row weights of the current training batch, to be set before `forward`.
    delta : array of shape (n_estimators, n_rows, n_outputs)
        The gradient of the loss with respect to the raw predictions, to be set before `backward`.
    activity_loss : array of shape (n_estimators, n_rows) or None
        The sum of the layers' own losses of each row, after `forward` in training; None if no
        layer has one.
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
        self.batch = BatchWeights()
        is_training, n_estimators = gradients is not None, len(parameters)
        self.activity_loss: Array | None = None
        if is_training and network.has_activity_loss:
            self.activity_loss = squeeze_member_axis(
                pool.get("activity loss", (n_estimators, n_rows))
            )

        def delta(grad_buffer_index: int, shape: Shape) -> Array:
            return squeeze_member_axis(
                pool.get(f"delta {grad_buffer_index}", (n_estimators, *shape))
            )

        plan = network.execution_plan(is_training, sparse, with_input_gradient)
        views = plan.batch_views(n_rows, n_estimators > 1)
        self.layers: list[BuiltLayer] = []
        contexts: list[LayerContext] = []
        open_residuals: list[Any] = []
        outputs: list[Any] = []
        out: Any = None
        shapes = zip(plan.steps, views.sizes, views.reads, views.writes, strict=True)
        for step, sizes, x_shape, out_shape in shapes:
            i = step.index
            # Positional: keyword arguments would take as long as the object itself.
            context = LayerContext(
                i,
                n_estimators,
                step.input_shape,
                step.output_shape,
                *sizes,
                pool,
                _without_member_axis(parameters.layers[i], n_estimators),
                _without_member_axis(gradients.layers[i], n_estimators)
                if gradients is not None
                else {},
                _without_member_axis(parameters.running[i], n_estimators),
                is_training,
                delta(step.grad_buffer_index, x_shape)
                if step.grad_buffer_index is not None
                else None,
                step.can_overwrite_input,
                step.is_sparse,
                rngs,
                self.batch,
                open_residuals,
            )
            contexts.append(context)
            if self.activity_loss is not None:
                context.activity_loss = self.activity_loss
            self.layers.append(step.layer.build(context))
            if step.output == "buffer":
                out = context.scratch("output", *out_shape)
            elif step.output == "matrices":
                out = [None] * n_estimators
            elif step.output == "input":
                out = out.reshape(*out.shape[: n_estimators > 1], *out_shape)
            outputs.append(out)

        self._inner = list(zip(self.layers[:-1], views.forward, outputs, strict=False))
        self._last = self.layers[-1], views.forward[-1], views.scores
        self._padding = PaddedInput(plan.steps, contexts, n_rows) if network.takes_padding else None
        if is_training or with_input_gradient:
            back = list(zip(self.layers, views.backward, strict=True))
            self._back = back[plan.first_trainable_layer :][::-1]
            self._input_view = views.grad_input if with_input_gradient else None
            self.delta = delta(plan.grad_buffer_index, (n_rows, network.n_units[-1]))

    def forward(self, x: Any, scores: Array) -> None:
        """Write the raw predictions for the batch `x` to `scores`."""
        if self._padding is not None:
            x = self._padding.apply(x)
        if self.activity_loss is not None:
            self.activity_loss.fill(0)
        for layer, view, out in self._inner:
            layer.forward(x if view is None else x.reshape(view), out)
            x = out
        layer, view, scores_view = self._last
        out = scores if scores_view is None else scores.reshape(scores_view)
        layer.forward(x if view is None else x.reshape(view), out)

    def backward(self) -> Array:
        """Compute the gradients of all parameters from `self.delta`.

        On return `delta` and the outputs of the hidden layers are overwritten. The gradient with
        respect to the input is returned if `with_input_gradient` is set.
        """
        delta = self.delta
        for layer, view in self._back:
            delta = layer.backward(delta if view is None else delta.reshape(view))
        return delta if self._input_view is None else delta.reshape(self._input_view)


class PaddedInput:
    """Replaces the padding of sequences by zeros, and tells layers their lengths.

    Parameters
    ----------
    steps : sequence of LayerStep
        The executed layers.
    contexts : sequence of LayerContext
        The arrays of each of them.
    n_rows : int
        The number of rows of a batch.
    """

    def __init__(
        self, steps: Sequence[LayerStep], contexts: Sequence[LayerContext], n_rows: int
    ) -> None:
        self._layers = [step.layer for step in steps]
        self._contexts, self._n_rows = contexts, n_rows
        self._is_set = False

    def apply(self, x: Array) -> Array:
        """Set the lengths of the sequences of a batch for each layer, and return it without NaN."""
        first = self._contexts[0].input_shape
        rows = x.reshape(-1, self._n_rows, *first)
        lengths = self._layers[0].compute_lengths(rows)
        if lengths is None and not self._is_set:
            return x
        self._is_set = lengths is not None
        cleaned = x if lengths is None else np.where(np.isnan(x), 0, x)
        for layer, context in zip(self._layers, self._contexts, strict=True):
            context.lengths = lengths
            if lengths is not None:
                lengths = layer.compute_output_lengths(lengths)
        return cleaned


def _without_member_axis(named: Mapping[str, Array], n_estimators: int) -> Mapping[str, Array]:
    """Return arrays by name, without the member axis of a single member."""
    if not named or n_estimators > 1:
        return named
    return {name: array[0] for name, array in named.items()}
