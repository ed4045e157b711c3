"""Base class of layers, and the arrays that a built layer computes on.

A network is a sequence of layers. A layer is a frozen dataclass that declares its parameters and
its output shape, and computes on the arrays of a `LayerContext`: those of some members, for one
batch shape. A new layer takes one class, and nothing else has to know of it.

The shape of a layer's input is that of one row, without the axis of the rows: ``(8,)`` for eight
numbers, ``(20, 3)`` for a sequence of 20 steps with 3 channels, and ``(28, 28, 3)`` for an image
of height, width and channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np

from ..activations import ActivationFunction, Relu, get_activation
from ..initializers import GlorotUniform, Initializer, VarianceScaling
from ..utils.arrays import Array, BufferPool, FloatOrPerMember, squeeze_member_axis
from ..utils.configurable import Configurable
from ..utils.suggestions import find_by_name

Shape: TypeAlias = tuple[int, ...]
"""The shape of one row of a layer's input or output, without the axis of the rows."""

BatchView: TypeAlias = Literal["shaped", "flat", "positions"]
"""How a layer sees a batch of rows: see `Layer.batch_view`."""

# The buffer that weighs the past batches of running statistics. It has double precision, is not
# averaged, and no fitted attribute shows it.
NUM_BATCHES_TRACKED = "weight"

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
    """

    name: str
    shape: tuple[int, ...]
    initializer: ArrayInitializer = 0.0
    regularized: bool = False

    @property
    def size(self) -> int:
        """The number of values of a member."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class NormalInit:
    """Initializer that draws an array from a normal distribution with mean zero.

    Parameters
    ----------
    deviation : float
        The standard deviation.
    shape : tuple of int
        The shape of the array.
    """

    deviation: float
    shape: Shape

    def __call__(self, rng: np.random.RandomState) -> Array:
        drawn: Array = rng.normal(0, self.deviation, self.shape)
        return drawn


@dataclass(frozen=True)
class KernelInit:
    """Initializer of the weights of a layer before the dense ones.

    Without an `initializer` they are uniform with variance 2 / fan_in before a relu (He et al.
    2015, equation 10), and with the variance of the activation's own initializer otherwise, most
    often 2 / (fan_in + fan_out) (Glorot & Bengio 2010, equation 12).

    Parameters
    ----------
    shape : tuple of int
        The shape of the weights, whose last axis is that of the outputs.
    activation : str, ActivationFunction or None, default=None
        The activation of the layer.
    n_positions : float, default=1
        The number of positions that share a weight's window: fan_out is the number of outputs
        times it, as fan_in is the number of all other weights of an output.
    initializer : Initializer or None, default=None
        What draws the weights instead.
    """

    shape: Shape
    activation: str | ActivationFunction | None = None
    n_positions: float = 1
    initializer: Initializer | None = None

    def __call__(self, rng: np.random.RandomState) -> Array:
        fan_in, n_units = math.prod(self.shape[:-1]), self.shape[-1]
        initializer = self.initializer
        if initializer is None:
            f = None if self.activation is None else get_activation(self.activation)
            initializer = GlorotUniform() if f is None else f.initializer
            if isinstance(f, Relu):
                initializer = VarianceScaling(2.0, "fan_in")
            elif isinstance(initializer, GlorotUniform):
                share = fan_in / (fan_in + n_units * self.n_positions)
                initializer = VarianceScaling(initializer.factor / 3 * share, "fan_in")
        weights, _ = initializer.draw(rng, fan_in, n_units)
        return weights.reshape(self.shape)


@dataclass(slots=True)
class BatchWeights:
    """Weights of the rows of a training batch.

    Attributes
    ----------
    weight : float or array of shape (n_estimators or 1, n, 1)
        The weight of each row in the loss; those of a member sum to one.
    total : float or array of shape (n_estimators, 1)
        The sum of the sample weights of the batch.
    """

    weight: FloatOrPerMember = 1.0
    total: FloatOrPerMember = 1.0


@dataclass(slots=True)
class LayerContext:
    """Arrays and settings of a built layer: those of some members, for one batch shape.

    All arrays have the member axis first; with a single member they have none.

    Parameters
    ----------
    index : int
        The index of the layer in the network.
    n_estimators : int
        The number of members.
    input_shape, output_shape : tuple of int
        The shape of one row before and after the layer.
    n_rows, n_inputs, n_outputs : int
        The number of rows of the batch, and of values of one row before and after the layer. For a
        layer that sees positions, the number of all positions of the batch, and of channels.
    pool : BufferPool
        The memory for scratch arrays.
    parameters, gradients, buffers : dict of arrays
        The layer's parameters, the arrays to which `backward` writes their gradients, and its
        buffers such as running statistics, all by name. In prediction there are no gradients.
    is_training : bool, default=False
        Whether this is a training step, not a prediction.
    grad_input : array of the shape of the input, or None, default=None
        The array to which `backward` writes the gradient with respect to the input. None if it is
        not needed, or if the layer writes it to `delta`.
    can_overwrite_input : bool, default=False
        Whether `forward` may overwrite the input, which no other layer reads.
    is_sparse : bool, default=False
        Whether the input is a list of CSR matrices: one for each member, or one for all.
    rngs : sequence of Generator, default=()
        The random generators of a stochastic layer, one for each member.
    batch : BatchWeights
        The row weights of the current training batch.
    open_residuals : list
        The residual connections around the layer: built start layers, which add to a later one.
    lengths : array of int of shape (n_estimators or 1, n_rows) or None, default=None
        The number of steps of each sequence of the current batch; those after it are padding. None
        if no sequence has padding.
    activity_loss : array of shape (n_estimators, n_rows) or None, default=None
        The sum of the layers' own losses of each row of the current training batch. None in
        prediction, and if no layer has one.
    """

    index: int
    n_estimators: int
    input_shape: Shape
    output_shape: Shape
    n_rows: int
    n_inputs: int
    n_outputs: int
    pool: BufferPool
    parameters: Mapping[str, Array] = field(default_factory=dict)
    gradients: Mapping[str, Array] = field(default_factory=dict)
    buffers: Mapping[str, Array] = field(default_factory=dict)
    is_training: bool = False
    grad_input: Array | None = None
    can_overwrite_input: bool = False
    is_sparse: bool = False
    rngs: Sequence[np.random.Generator] = ()
    batch: BatchWeights = field(default_factory=BatchWeights)
    open_residuals: list[Any] = field(default_factory=list)
    lengths: Array | None = None
    activity_loss: Array | None = None

    def scratch(self, name: str, *shape: int) -> Array:
        """Return the layer's own uninitialized array of shape (n_estimators, *shape)."""
        array = self.pool.get(f"{name} {self.index}", (self.n_estimators, *shape))
        return squeeze_member_axis(array)

    def input_copy(self) -> Array | None:
        """Return the array for a copy of the input; None if the input may be overwritten."""
        if self.can_overwrite_input:
            return None
        return self.scratch("input", self.n_rows, self.n_inputs)

    def with_member_axis(self, array: Array) -> Array:
        """Return a view of an array with the member axis, also if all members share it."""
        return array[None] if self.n_estimators == 1 or array.ndim == 2 else array

    @property
    def n_positions(self) -> int:
        """The number of positions of a row: of steps of a sequence, or of pixels."""
        return math.prod(self.input_shape[:-1])


class BuiltLayer(Protocol):
    """A layer bound to the arrays of a `LayerContext`."""

    def forward(self, x: Any, out: Any) -> None:
        """Write the layer's output for `x` to `out`."""

    def backward(self, delta: Array) -> Array:
        """Write the gradients of the parameters, and return that with respect to the input.

        On return `delta` may be overwritten.
        """


def padding_mask(lengths: Array, n_steps: int) -> Array:
    """Return whether each step is padding, for sequences of these lengths.

    Parameters
    ----------
    lengths : array of int of shape (n_estimators or 1, n_rows)
        The number of steps of each sequence, as `LayerContext.lengths` has them.
    n_steps : int
        The number of steps with padding.

    Returns
    -------
    is_padding : array of bool of shape (n_estimators or 1, n_rows, n_steps)
        True after the end of a sequence.
    """
    is_padding: Array = np.arange(n_steps) >= lengths[..., None]
    return is_padding


class Layer(Configurable):
    """Base class of layers: settings, declared parameters, and both passes.

    A layer is a frozen dataclass whose fields are its settings. It defines `forward` and
    `backward`, and `compute_output_shape` if its output has another shape than its input. A layer
    that keeps more than its input between the passes, or takes sparse input, defines `build`
    instead. Its parameters are not penalized unless their `ParameterSpec` says so.

    Attributes
    ----------
    batch_view : {"shaped", "flat", "positions"}, default="shaped"
        The shape of `x` for n rows of shape (..., channels). "shaped" is (n, ..., channels).
        "flat" is (n, number of values), for elementwise layers. "positions" is (n * number of
        positions, channels), for layers that act on the channels of each position.
    stochastic : bool, default=False
        Whether it draws random numbers in training, from `context.rngs`.
    training_only : bool, default=False
        Whether prediction skips the layer, whose output then has the shape of its input.
    has_activity_loss : bool, default=False
        Whether the layer adds a loss for each row that depends on its input. In training `forward`
        adds the value to `context.activity_loss`, if that is not None, and `backward` adds the
        gradient, times `context.batch.weight`, to the gradient with respect to the input.
    is_reshape : bool, default=False
        Whether it changes the shape only, so that its output is a view of its input.
    reads_sequences : bool, default=False
        Whether it reads the steps of sequences, and leaves padding out.
    saves_output : bool, default=False
        Whether `backward` reads the output of `forward`, which then must not be overwritten.
    inplace_backward : bool, default=False
        Whether it writes the gradient with respect to its input to `delta`.
    takes_sparse, keeps_sparse : bool, default=False
        Whether it takes sparse input, and whether its output is then sparse.
    divides_rows : bool, default=False
        Whether it divides large batches among threads by `parallel_for`, instead of using the
        threads of BLAS.
    reads_columns : bool, default=False
        Whether it must be the first layer, since it reads columns of X.
    n_buffers : int, default=2
        Approximate number of arrays of the size of the output that a step reads or writes: the
        output and its gradient.

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
    ...     def forward(self, context, x, out):
    ...         np.add(x, context.parameters["shifts"], out=out)
    ...
    ...     def backward(self, context, x, delta):
    ...         if context.is_training:
    ...             context.gradients["shifts"][...] = delta.sum(axis=-2, keepdims=True)
    ...         if context.grad_input is not None:
    ...             context.grad_input[...] = delta
    ...         return delta
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(layers=Shift(), tol=0.01, random_state=0)
    >>> model.fit(X, y).shifts_[0].shape
    (4,)
    """

    batch_view: ClassVar[BatchView] = "shaped"
    stochastic: ClassVar[bool] = False
    training_only: ClassVar[bool] = False
    has_activity_loss: ClassVar[bool] = False
    is_reshape: ClassVar[bool] = False
    reads_sequences: ClassVar[bool] = False
    saves_output: ClassVar[bool] = False
    inplace_backward: ClassVar[bool] = False
    takes_sparse: ClassVar[bool] = False
    keeps_sparse: ClassVar[bool] = False
    divides_rows: ClassVar[bool] = False
    reads_columns: ClassVar[bool] = False
    n_buffers: ClassVar[int] = 2

    @property
    def categorical_columns(self) -> tuple[int, ...] | slice:
        """The columns of X that hold codes of categories, for which gradients have no meaning."""
        return ()

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

    def inplace_forward(self, has_backward: bool) -> bool:
        """Return whether the output overwrites the input where that is allowed."""
        return False

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        """Return the declarations of the trained arrays."""
        return ()

    def buffer_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        """Return the declarations of arrays that no optimizer changes: running statistics."""
        return ()

    def memory_per_sample(self, input_shape: Shape) -> int:
        """Return the approximate number of values of a row that a step reads or writes."""
        return self.n_buffers * math.prod(self.compute_output_shape(input_shape))

    def max_matmul_size(self, input_shape: Shape) -> int:
        """Return the number of multiplications of the largest matrix product, for one row."""
        specs = self.parameter_specs(input_shape)
        return max((spec.size for spec in specs if len(spec.shape) > 1), default=0)

    def init_running_count(
        self, buffers: Mapping[str, Array], n_samples_seen: int, batch_size: int, weight: float
    ) -> None:
        """Restore the buffers that no fitted attribute shows, after `n_samples_seen` samples.

        Their mean sample weight is `weight`.
        """

    def build(self, context: LayerContext) -> BuiltLayer:
        """Return the layer bound to the arrays of a context."""
        return _BuiltSimpleLayer(self, context)

    def forward(self, context: LayerContext, x: Array, out: Array) -> None:
        """Write the output for `x` to `out`."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(context, x, out)")

    def backward(self, context: LayerContext, x: Array, delta: Array) -> Array:
        """Write to `context.gradients`, and return the gradient with respect to `x`.

        That goes to `context.grad_input`; where it is None, the return value is not used. If
        `context.is_training` is false, there are no `context.gradients` to write to. On return
        `delta` may be overwritten.
        """
        raise NotImplementedError(f"{type(self).__name__} must define backward(context, x, delta)")


def expand_layers(layers: Sequence[Layer], input_shape: Shape) -> tuple[list[Layer], Shape]:
    """Return the layers that are executed, and the shape of one row of their output.

    Raises
    ------
    ValueError
        If a layer does not take its input.
    """
    executed, shape = [], input_shape
    for layer in layers:
        for each in layer.expand(shape):
            shape = each.compute_output_shape(shape)
            executed.append(each)
    return executed, shape


_SHAPES = {
    1: "sequences of shape (steps,) or (steps, channels)",
    2: "images of shape (height, width) or (height, width, channels)",
}


def check_axes(layer: Layer, input_shape: Shape, n_axes: int) -> None:
    """Raise a ValueError unless rows are sequences, of one axis, or images, of two.

    They may have a further axis of channels.
    """
    if len(input_shape) not in (n_axes, n_axes + 1):
        raise layer.input_shape_error(_SHAPES[n_axes], input_shape)


def has_sequence_layer(layers: Sequence[Layer]) -> bool:
    """Return whether one of some layers, or of the layers within them, reads sequences."""
    return any(each.reads_sequences or has_sequence_layer(each.inner_layers) for each in layers)


class _BuiltSimpleLayer:
    """A layer that defines `forward` and `backward`, with the input of the current batch."""

    def __init__(self, layer: Layer, context: LayerContext) -> None:
        self._layer, self._context = layer, context

    def forward(self, x: Array, out: Array) -> None:
        self._x = x
        self._layer.forward(self._context, x, out)

    def backward(self, delta: Array) -> Array:
        return self._layer.backward(self._context, self._x, delta)


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
    each = [
        find_by_name(argument, layer, named, Layer)
        for layer in (layers if isinstance(layers, (list, tuple)) else [layers])
    ]
    for layer in each[1:]:
        if layer.reads_columns:
            raise ValueError(
                f"{type(layer).__name__} must be the first and only such layer of {argument}, "
                f"since it reads columns of X, got {each!r}."
            )
    return tuple(each)
