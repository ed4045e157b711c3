"""Base class of layers, and the arrays that layers are bound to.

A network is a sequence of layers. A layer is a frozen dataclass that declares its parameters and
its output shape, and binds itself to the arrays of a `LayerContext`: those of some members, for one
batch shape. A new layer takes one class, and nothing else has to know of it.

The shape of a layer's input is that of one row, without the axis of the rows: ``(8,)`` for eight
numbers, ``(20, 3)`` for a sequence of 20 steps with 3 channels, and ``(28, 28, 3)`` for an image
of height, width and channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from numbers import Integral
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from ..activations import ActivationFunction, Relu, get_activation
from ..initializers import GlorotUniform, Initializer, VarianceScaling
from ..utils.arrays import Array, BufferPool, FloatOrPerMember
from ..utils.configurable import Configurable
from ..utils.parallel import parallel_for
from ..utils.validation import find_by_name

Shape: TypeAlias = tuple[int, ...]
"""The shape of one row of a layer's input or output, without the axis of the rows."""

BatchView: TypeAlias = Literal["shaped", "flat", "positions", "sequences", "any"]
"""How a layer sees a batch of rows: see `Layer.batch_view`."""

BackwardReads: TypeAlias = Literal["input", "output", "both", "neither"]
"""Which arrays the backward pass of a layer reads: see `Layer.backward_reads`."""

BoundLayer: TypeAlias = tuple[Callable[[Any, Any], object], Callable[[Any, Any, Any], object]]
"""The functions ``forward(x, out)`` and ``backward(x, out, delta)``: see `Layer.bind`."""

# The buffer that weighs the past batches of running statistics. It has double precision, is not
# averaged, and no fitted attribute shows it.
NUM_BATCHES_TRACKED = "weight"

# The buffer of all arrays of layers that are not trainable.
FROZEN = "frozen"

ArrayInitializer: TypeAlias = float | Initializer | Callable[[np.random.RandomState], Array]
"""Initial value of an array: a number, an initializer of weights, or a function of a RandomState.

An `Initializer` draws weights together with their biases, which are the next array named "biases"
in the order of the layers. The estimator's `init` replaces it.
"""


@dataclass(frozen=True)
class ParameterSpec:
    """Declaration of an array that a layer has for each member.

    Parameters
    ----------
    name : str
        The name, shared by similar arrays of all layers: "weights", "biases", "gains".
    shape : tuple of int
        The shape of a member's array, as the user sees it. Layers see a shape (n,) as (1, n), which
        broadcasts over the rows of a batch.
    initializer : float, Initializer or callable, default=0.0
        The initial value, or what draws it.
    regularized : bool, default=False
        Whether the penalty and weight decay act on it.
    trained : bool, default=True
        Whether the optimizer changes it. Other arrays, such as running statistics, are buffers.
    frozen : bool, default=False
        Whether the optimizer leaves it as it is, because its layer is not trainable.
    """

    name: str
    shape: tuple[int, ...]
    initializer: ArrayInitializer = 0.0
    regularized: bool = False
    trained: bool = True
    frozen: bool = False

    @cached_property
    def size(self) -> int:
        """The number of values of a member."""
        return math.prod(self.shape)


def draw_normal(deviation: float, shape: Shape, rng: np.random.RandomState) -> Array:
    """Draw an array from a normal distribution with mean zero."""
    values: Array = rng.normal(0, deviation, shape)
    return values


def draw_kernels(
    shape: Shape,
    rng: np.random.RandomState,
    activation: str | ActivationFunction | None = None,
    n_positions: float = 1,
    initializer: Initializer | None = None,
) -> Array:
    """Draw the weights of a layer before the dense ones.

    Without an `initializer` they are uniform with variance 2 / fan_in before a relu (He et al.
    2015, equation 10), and with the variance of the activation's own initializer otherwise, most
    often 2 / (fan_in + fan_out) (Glorot & Bengio 2010, equation 12).

    Parameters
    ----------
    shape : tuple of int
        The shape of the weights, whose last axis is that of the outputs.
    rng : RandomState
        The random state.
    activation : str, ActivationFunction or None, default=None
        The activation of the layer.
    n_positions : float, default=1
        The number of positions that share a weight's window: fan_out is the number of outputs
        times it, as fan_in is the number of all other weights of an output.
    initializer : Initializer or None, default=None
        What draws the weights instead.
    """
    fan_in, n_units = math.prod(shape[:-1]), shape[-1]
    if initializer is None:
        f = None if activation is None else get_activation(activation)
        initializer = GlorotUniform() if f is None else f.initializer
        if isinstance(f, Relu):
            initializer = VarianceScaling(2.0, "fan_in")
        elif isinstance(initializer, GlorotUniform):
            share = fan_in / (fan_in + n_units * n_positions)
            initializer = VarianceScaling(initializer.factor / 3 * share, "fan_in")
    weights, _ = initializer.draw(rng, fan_in, n_units)
    return weights.reshape(shape)


@dataclass(slots=True)
class BatchMemory:
    """What all layers of a bound network share: memory, and the weights of the current batch.

    Parameters
    ----------
    n_estimators, n_rows : int
        The number of members, and of rows of a batch.
    pool : BufferPool
        The memory for buffers.
    is_training : bool, default=False
        Whether batches are training steps, not predictions.
    takes_padding : bool, default=False
        Whether batches are sequences that may end in padding.
    rngs : sequence of Generator, default=()
        The random generators of stochastic layers in training, one for each member.

    Attributes
    ----------
    weight : float or array of shape (n_estimators or 1, n, 1)
        The weight of each row in the loss; those of a member sum to one.
    total : float or array of shape (n_estimators, 1)
        The sum of the sample weights of the batch.
    activity_loss : array of shape (n_estimators, n_rows) or None
        The sum of the layers' own losses of each row of the current batch; None if no layer has
        asked for it.
    open_residuals : list of namespace
        The residual connections around the layer that is bound next. Each has the `context` of its
        start, the current batch `x`, and the gradient `delta` with respect to its output.
    """

    n_estimators: int
    n_rows: int
    pool: BufferPool
    is_training: bool = False
    takes_padding: bool = False
    rngs: Sequence[np.random.Generator] = ()
    weight: FloatOrPerMember = field(default=1.0, init=False)
    total: FloatOrPerMember = field(default=1.0, init=False)
    activity_loss: Array | None = field(default=None, init=False)
    open_residuals: list[Any] = field(default_factory=list, init=False)
    _ones: Array | None = field(default=None, init=False)

    def scratch(self, name: str, *shape: int) -> Array:
        """Return an uninitialized array of shape (n_estimators, *shape), shared by all layers.

        With a single member it has no member axis.
        """
        array = self.pool.get(name, (self.n_estimators, *shape))
        return array[0] if self.n_estimators == 1 else array

    def get_activity_loss(self) -> Array:
        """Return the array (n_estimators, n_rows) to which layers with a loss of their own add it.

        In training such a layer adds the loss of each row in its forward pass. In its backward pass
        it adds the gradient, times `weight`, to the gradient with respect to its input.
        """
        if self.activity_loss is None:
            self.activity_loss = self.scratch("activity loss", self.n_rows)
        return self.activity_loss

    def fill_with_noise(self, out: Array, deviation: float = 1.0) -> None:
        """Write normal noise of each member's generator to an array that `scratch` has returned."""
        # The noise is the same in single and in double precision.
        samples = self.pool.get("normal noise", out.shape[-2:], np.float64)
        for rng, noise in zip(self.rngs, out.reshape(-1, *samples.shape), strict=True):
            rng.standard_normal(out=samples)
            np.multiply(samples, deviation, out=noise)

    def ones(self, n: int) -> Array:
        """Return an array (1, n) of ones, whose product with a matrix is the sum of its rows."""
        if self._ones is None or self._ones.shape[1] < n:
            self._ones = np.ones((1, n), self.pool.dtype)
        return self._ones[:, :n]


@dataclass(slots=True)
class LayerContext:
    """The arrays that a layer is bound to: those of some members, for one batch shape.

    All arrays have the member axis first; with a single member they have none.

    Parameters
    ----------
    batch : BatchMemory
        What all layers share.
    index : int
        The index of the layer in the network.
    input_shape : tuple of int
        The shape of one row of the input.
    x_shape, out_shape : tuple of int
        The shapes in which the layer sees a batch and its output, without the member axis.
    parameters, gradients, buffers : dict of arrays
        The layer's parameters, the arrays to which `backward` writes their gradients, and its
        buffers such as running statistics, all by name. In prediction there are no gradients.
    grad_input : array of the shape of the input, or None, default=None
        The array to which `backward` writes the gradient with respect to the input. None if it is
        not needed, or if the layer writes it to `delta`.
    is_sparse : bool, default=False
        Whether the input is a list of CSR matrices: one for each member, or one for all.
    has_backward : bool, default=False
        Whether the backward pass comes to the layer.
    lengths : array of int of shape (n_estimators or 1, n_rows) or None, default=None
        The number of steps of each sequence of the current batch; those after it are padding. None
        if no sequence has padding.
    """

    batch: BatchMemory
    index: int
    input_shape: Shape
    x_shape: Shape
    out_shape: Shape
    parameters: Mapping[str, Array]
    gradients: Mapping[str, Array]
    buffers: Mapping[str, Array]
    grad_input: Array | None = None
    is_sparse: bool = False
    has_backward: bool = False
    lengths: Array | None = None

    def scratch(self, name: str, *shape: int) -> Array:
        """Return the layer's own uninitialized array of shape (n_estimators, *shape).

        With a single member it has no member axis.
        """
        batch = self.batch
        array = batch.pool.get(f"{name} {self.index}", (batch.n_estimators, *shape))
        return array[0] if batch.n_estimators == 1 else array

    def with_member_axis(self, array: Array) -> Array:
        """Return a view of an array with the member axis, also if all members share it."""
        return array[None] if self.batch.n_estimators == 1 or array.ndim == 2 else array

    def padding_mask(self) -> Array:
        """Return whether each step of a batch with padding is after the end of its sequence.

        The mask is an array of bool of shape (n_estimators or 1, n_rows, n_steps).
        """
        lengths: Any = self.lengths
        is_padding: Array = np.arange(self.input_shape[0]) >= lengths[..., None]
        return is_padding

    def fill_padding(self, sequences: Array, value: float = 0.0) -> None:
        """Set the steps after the end of sequences, which have the input's shape, to a value."""
        if self.lengths is not None:
            is_padding, axes = self.padding_mask(), (1,) * (len(self.input_shape) - 1)
            steps = sequences.reshape(-1, self.batch.n_rows, *self.input_shape)
            np.copyto(steps, value, where=is_padding.reshape(*is_padding.shape, *axes))


def sum_rows(matrix: Array, ones: Array, out: Array) -> None:
    """Write the sum of the rows of a matrix, or of each of several, to `out`.

    A product with ones takes a third of the time of a sum. There may be more ones than rows.
    """
    product, n_rows = np.dot if matrix.ndim == 2 else np.matmul, matrix.shape[-2]
    if ones.shape[1] > n_rows:
        ones = ones[:, :n_rows]
    if matrix.shape[-1] == 1:
        # Some BLAS kernels round a dot product by the address of the second factor. The ones are
        # aligned alike for a member of a stack and for a network alone.
        product(matrix.swapaxes(-1, -2), ones.T, out=out)
    else:
        product(ones, matrix, out=out)


def parallelize_sums(
    function: Callable[..., object], groups: Sequence[Any], *totals: Array | None
) -> Callable[..., object]:
    """Return a function that calls `function` for groups, in threads, and adds up their sums.

    Parameters
    ----------
    function : callable
        Takes a group, an array for each of its sums, and the arguments of the result.
    groups : sequence
        The groups, such as slices of rows.
    *totals : arrays or None
        The arrays for the sums over all groups; None for a sum that is not needed.
    """
    if len(groups) == 1:
        return partial(function, groups[0], *totals)
    all_sums = [
        total if total is None else np.empty((len(groups), *total.shape), total.dtype)
        for total in totals
    ]
    calls = [
        partial(function, group, *[sums if sums is None else sums[i] for sums in all_sums])
        for i, group in enumerate(groups)
    ]

    def call(*arguments: Any) -> None:
        def call_group(bound: Callable[..., object]) -> None:
            bound(*arguments)

        parallel_for(call_group, calls)
        for total, sums in zip(totals, all_sums, strict=True):
            if sums is not None:
                np.add.reduce(sums, axis=0, out=total)

    return call


def parallelize_rows(
    function: Callable[..., object], parts: Sequence[slice], *totals: Array | None
) -> Callable[..., object]:
    """Return a function of arrays that calls `function` with parts of their rows, in threads.

    The rows are the last axis but one. If there are `totals`, `function` takes arrays for the sums
    over its part first. None stands for arrays that are not needed.
    """
    if len(parts) == 1:
        return partial(function, *totals) if totals else function

    n_sums = len(totals)

    def call_part(index: Any, *arrays: Array | None) -> None:
        parts_of_arrays = [array if array is None else array[index] for array in arrays[n_sums:]]
        function(*arrays[:n_sums], *parts_of_arrays)

    return parallelize_sums(call_part, [np.s_[..., rows, :] for rows in parts], *totals)


_SHAPES = {
    1: "sequences of shape (steps,) or (steps, channels)",
    2: "images of shape (height, width) or (height, width, channels)",
}


@dataclass(frozen=True)
class Layer(Configurable):
    """Base class of layers: settings, declared parameters, and both passes.

    A layer is a frozen dataclass whose fields are its settings. It defines `bind`, and
    `compute_output_shape` if its output has another shape than its input. Its parameters are not
    penalized unless their `ParameterSpec` says so.

    Parameters
    ----------
    trainable : bool, default=True
        Whether training changes the layer. Arrays of a frozen layer have no gradients, and neither
        penalty nor weight decay acts on them.

    Attributes
    ----------
    batch_view : {"shaped", "flat", "positions", "sequences", "any"}, default="shaped"
        The shape of `x` for n rows of shape (..., channels). "shaped" is (n, ..., channels).
        "flat" is (n, number of values), for elementwise layers. "positions" is (n * number of
        positions, channels), for layers that act on the channels of each position. "sequences" is
        (n, steps, channels), with one channel for rows of shape (steps,), for layers that read the
        steps of sequences and leave padding out. A layer of "any" only changes the shape: its
        output is a view of its input.
    stochastic : bool, default=False
        Whether it draws random numbers in training, from `context.batch.rngs`.
    takes_sparse : bool, default=False
        Whether it takes sparse input. The output of elementwise layers is then sparse, too.
    backward_reads : {"input", "output", "both", "neither"}, default="input"
        Which of `x` and `out` the backward pass reads; others may be overwritten before. All but
        "input" are for elementwise layers, which work in place: `out` may be `x` itself unless both
        are read, and the gradient with respect to the input goes to `delta`.

    See Also
    --------
    skbackprop.testing.check_layer : Check of the gradients of a layer.

    Examples
    --------
    A learned shift of each input, which a fit stores in ``shifts_``:

    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> from skbackprop.layers import Layer
    >>> from skbackprop.layers.base import ParameterSpec
    >>> @dataclass(frozen=True)
    ... class Shift(Layer):
    ...     def parameter_specs(self, input_shape):
    ...         return (ParameterSpec("shifts", input_shape),)
    ...
    ...     def bind(self, context):
    ...         shifts, gradient = context.parameters["shifts"], context.gradients.get("shifts")
    ...
    ...         def forward(x, out):
    ...             np.add(x, shifts, out=out)
    ...
    ...         def backward(x, out, delta):
    ...             if gradient is not None:
    ...                 gradient[...] = delta.sum(axis=-2, keepdims=True)
    ...             if context.grad_input is not None:
    ...                 context.grad_input[...] = delta
    ...
    ...         return forward, backward
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(layers=Shift(), tol=0.01, random_state=0)
    >>> model.fit(X, y).shifts_[0].shape
    (4,)
    """

    trainable: bool = field(default=True, kw_only=True)

    batch_view: ClassVar[BatchView] = "shaped"
    stochastic: ClassVar[bool] = False
    takes_sparse: ClassVar[bool] = False
    backward_reads: ClassVar[BackwardReads] = "input"

    @property
    def reads_sequences(self) -> bool:
        """Whether it reads the steps of sequences, and leaves padding out."""
        return self.batch_view == "sequences"

    @property
    def n_axes(self) -> int:
        """The number of axes of the positions of a row: one of sequences, two of images."""
        return 1 if self.reads_sequences else 2

    @property
    def categorical_columns(self) -> tuple[int, ...] | slice:
        """The columns of X that hold codes of categories, for which gradients have no meaning."""
        return ()

    @property
    def reads_columns(self) -> bool:
        """Whether it must be the first layer, since it reads codes of categories from X."""
        return self.categorical_columns != ()

    @property
    def inner_layers(self) -> tuple[Layer, ...]:
        """The layers that a block of layers holds; empty for other layers."""
        return ()

    def validate_input_values(self, X: Array) -> None:
        """Raise a ValueError if X has values that the first layer can not be trained on."""

    def validate_prediction_input(self, X: Array) -> None:
        """Raise a ValueError if X has values that the first layer can not predict from."""

    def expand(self, input_shape: Shape) -> tuple[Layer, ...]:
        """Return the layers that are executed for it: several if it stands for several.

        Raises
        ------
        ValueError
            If it does not take this input and the layers depend on it.
        """
        return (self,)

    def adapt_network(self, layers: list[Layer]) -> list[Layer]:
        """Return the layers of a network that begins with this layer."""
        return layers

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        """Return the layers that mirror it in the decoder of an autoencoder.

        They lead from rows of the output's shape to rows with as many values as the input's, in
        their order. An activation comes first, since it belongs to the output.

        Raises
        ------
        NotImplementedError
            If the layer has no mirror image.
        """
        raise NotImplementedError(f"{type(self).__name__} has no mirror image")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of one row of the output.

        Raises
        ------
        ValueError
            If the layer does not take this input: make it by `input_shape_error`.
        """
        return input_shape

    def compute_lengths(self, x: Array) -> Array | None:
        """Return the number of steps before the padding of each input sequence of a batch.

        Padding is NaN at the end. None stands for a batch without padding.

        Parameters
        ----------
        x : array of shape ``(n_estimators or 1, n_rows, *input_shape)``
            The batch; called for the first layer of a network that reads sequences.
        """
        values = x if x.ndim == 3 else x[..., 0]
        if not np.isnan(values[..., -1]).any():
            return None
        lengths: Array = np.count_nonzero(~np.isnan(values), axis=-1)
        return lengths

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        """Return the lengths of padded sequences after the layer; None if it leaves none."""
        return lengths

    def input_shape_error(self, expected: str, input_shape: Shape) -> ValueError:
        """Return the error that says what the layer takes, and what it got."""
        return ValueError(f"{self!r} takes {expected}, got rows of shape {input_shape}.")

    def check_n_axes(self, input_shape: Shape) -> None:
        """Raise a ValueError unless rows are sequences, of one axis, or images, of two.

        They may have a further axis of channels.
        """
        if len(input_shape) not in (self.n_axes, self.n_axes + 1):
            raise self.input_shape_error(_SHAPES[self.n_axes], input_shape)

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        """Return the declarations of the layer's arrays."""
        return ()

    def memory_per_sample(self, input_shape: Shape) -> int:
        """Return the approximate number of values of a row that a step reads or writes.

        By default these are the output and its gradient; none for layers that work in place.
        """
        if self.backward_reads != "input":
            return 0
        return 2 * math.prod(self.compute_output_shape(input_shape))

    def max_matmul_size(self, input_shape: Shape) -> int | None:
        """Return the number of multiplications of the largest matrix product, for one row.

        By default these are the weights of the largest regularized array: tables of embeddings,
        which no product reads, are not regularized. None stands for products of parts of a batch,
        which `parallel_for` divides among threads instead of BLAS.
        """
        largest = 0
        for spec in self.parameter_specs(input_shape):
            if spec.regularized and len(spec.shape) > 1:
                largest = max(largest, spec.size)
        return largest

    def bind(self, context: LayerContext) -> BoundLayer | None:
        """Return the two passes of the layer, bound to the arrays of a context.

        They are called for each batch. Parameters and buffers change in place in between, so only
        the passes may compute from them.

        Returns
        -------
        passes : pair of functions, or None
            ``forward(x, out)`` writes the output for `x` to `out`.

            ``backward(x, out, delta)`` gets the same arrays, and `delta`, the gradient with respect
            to the output. It writes the gradients of the parameters to `context.gradients`, unless
            there are none, as in prediction and in a frozen layer. It writes the gradient with
            respect to the input to `context.grad_input`, unless that is None; elementwise layers
            write it to `delta`. On return `delta` may be overwritten.

            None stands for a layer that leaves batches as they are, as dropout does in prediction.
        """
        raise NotImplementedError(f"{type(self).__name__} must define bind(context)")


class ParameterFreeLayer(Layer):
    """Base class of layers without parameters, which have no setting `trainable`."""

    _set_elsewhere = frozenset({"trainable"})  # there is nothing to train


def expand_layers(layers: Sequence[Layer], input_shape: Shape) -> tuple[list[Layer], Shape]:
    """Return the layers that are executed, and the shape of one row of their output.

    All layers that a frozen one stands for are frozen.

    Raises
    ------
    ValueError
        If a layer does not take its input.
    """
    executed, shape = [], input_shape
    for layer in layers:
        for part in layer.expand(shape):
            shape = part.compute_output_shape(shape)
            executed.append(part if layer.trainable else replace(part, trainable=False))
    return executed, shape


def has_sequence_layer(layers: Sequence[Layer]) -> bool:
    """Return whether one of some layers, or of the layers within them, reads sequences."""
    return any(layer.reads_sequences or has_sequence_layer(layer.inner_layers) for layer in layers)


def as_ints(value: Any) -> tuple[int, ...]:
    """Return a sequence of integers, or a single one, as a tuple; () for anything else."""
    is_sequence = isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping | Set)
    numbers = tuple(value) if is_sequence else (value,)
    if any(isinstance(n, bool) or not isinstance(n, Integral) for n in numbers):
        return ()
    return tuple(map(int, numbers))


def check_layers(
    layers: Any, named: Mapping[str, type[Layer]], argument: str = "layers"
) -> tuple[Layer, ...]:
    """Return the layers of a list, or the only one, as instances.

    Parameters
    ----------
    layers : Layer, str, or list or tuple of these
        The layers.
    named : dict of str to class
        The layers that have a name.
    argument : str, default="layers"
        The argument, for the messages.

    Raises
    ------
    ValueError
        If there is anything else, or a layer that must be the first is not.
    """
    instances = [
        find_by_name(argument, layer, named, Layer)
        for layer in (layers if isinstance(layers, (list, tuple)) else [layers])
    ]
    # The first of the estimator's layers reads X, but none of the layers within another one.
    for layer in instances[1:] if argument == "layers" else instances:
        if layer.reads_columns:
            raise ValueError(
                f"{type(layer).__name__} must be the first and only such layer of layers, since it "
                f"reads columns of X, got the {argument} {instances!r}."
            )
    return tuple(instances)
