"""Convolution of sequences and images.

A convolution multiplies each window of its input by the same kernels. All windows are copied to the
rows of a matrix of columns, so that one product computes a layer, and two its gradients. A sequence
is computed as an image of height one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..activations import ActivationFunction, get_activation
from ..utils.arrays import Array
from ..utils.validation import validate_positive_int
from .base import BuiltLayer, KernelInit, Layer, LayerContext, ParameterSpec, Shape
from .dense import Activation, BuiltDense

Pair: TypeAlias = tuple[int, int]
"""Numbers for height and width."""


@dataclass(frozen=True)
class ConvolutionGeometry:
    """Sizes of a convolution of images; a sequence is an image of height one.

    Parameters
    ----------
    input_size : (height, width)
        The size of the input.
    kernel_size : (height, width)
        The size of the kernels.
    strides : (int, int)
        The steps between windows, down and to the right.
    dilation : (int, int)
        The steps between the values of a window.
    padding : ((top, bottom), (left, right))
        The number of zeros around the input. The right one may be more than is read.
    """

    input_size: Pair
    kernel_size: Pair
    strides: Pair = (1, 1)
    dilation: Pair = (1, 1)
    padding: tuple[Pair, Pair] = ((0, 0), (0, 0))

    @property
    def padded_size(self) -> Pair:
        """The height and the width of the input with zeros around it."""
        (top, bottom), (left, right) = self.padding
        return top + self.input_size[0] + bottom, left + self.input_size[1] + right

    @property
    def output_size(self) -> Pair:
        """The number of windows down and to the right; below one if there are none."""
        sizes = zip(self.padded_size, self.kernel_size, self.strides, self.dilation, strict=True)
        height, width = ((n - dilation * (k - 1) - 1) // s + 1 for n, k, s, dilation in sizes)
        return height, width

    def window_slices(self, row: int, column: int) -> tuple[slice, slice]:
        """Return where the padded input meets one value of the kernel, over all windows."""
        (height, width), (down, right) = self.output_size, self.strides
        top, left = row * self.dilation[0], column * self.dilation[1]
        return (
            slice(top, top + (height - 1) * down + 1, down),
            slice(left, left + (width - 1) * right + 1, right),
        )


class Convolution(Layer):
    """Base class of convolutions of sequences and images.

    A subclass has the fields `n_filters`, `activation` and `use_bias`.
    """

    n_filters: int
    activation: str | ActivationFunction | None
    use_bias: bool

    def compute_geometry(self, input_shape: Shape) -> ConvolutionGeometry:
        """Return the sizes and the padding for the shape of one row of the input."""
        raise NotImplementedError(f"{type(self).__name__} must define compute_geometry(shape)")

    def kernel_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the kernels: the window, input channels, and filters."""
        raise NotImplementedError(f"{type(self).__name__} must define kernel_shape(input_shape)")

    def expand(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (self,) if self.activation is None else (self, Activation(self.activation))

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        shape = self.kernel_shape(input_shape)
        initializer = KernelInit(shape, self.activation, math.prod(shape[:-2]))
        specs = (
            ParameterSpec("kernels", shape, initializer, regularized=True),
            ParameterSpec("kernel_biases", (self.n_filters,)),
        )
        return specs if self.use_bias else specs[:1]

    def memory_per_sample(self, input_shape: Shape) -> int:
        # The columns and the padded input, the output, and the gradients of all.
        geometry = self.compute_geometry(input_shape)
        window = math.prod(self.kernel_shape(input_shape)[:-1])
        n_channels = window // math.prod(geometry.kernel_size)
        n_values = math.prod(geometry.output_size) * (window + self.n_filters)
        return 2 * (n_values + math.prod(geometry.padded_size) * n_channels)

    def max_matmul_size(self, input_shape: Shape) -> int:
        n_windows = math.prod(self.compute_geometry(input_shape).output_size)
        return n_windows * math.prod(self.kernel_shape(input_shape))

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltConvolution(context, self.compute_geometry(context.input_shape))


@dataclass(frozen=True)
class Conv1D(Convolution):
    """Convolution of sequences: z[t] = sum_i x[s t + d i - p] W[i] + b, and a = f(z).

    x[t] are the channels of a step, W[i] a matrix of shape (channels, n_filters) for each step i of
    the kernel, s the stride, d the dilation and p the padding before the first step (the
    cross-correlation of LeCun et al. 1998, section II.A). Steps outside the sequence are zero.

    Parameters
    ----------
    n_filters : int
        The number of output channels, at least 1.
    kernel_size : int
        The number of steps that an output reads, at least 1.
    strides : int, default=1
        The number of steps from one output to the next, at least 1.
    padding : {"valid", "same", "causal"}, default="valid"
        With "valid" there are no zeros around the sequence: n steps have
        ``(n - dilation * (kernel_size - 1) - 1) // strides + 1`` outputs. The others have
        ``ceil(n / strides)``. "same" has ``dilation * (kernel_size - 1) // 2`` zeros before the
        sequence and the rest after it; "causal" has all of them before it, so that an output reads
        no later step.
    dilation : int, default=1
        The number of steps from one value of the kernel to the next, at least 1.
    activation : str, ActivationFunction or None, default=None
        The function f; None for none.
    use_bias : bool, default=True
        Whether it has biases b.

    Raises
    ------
    ValueError
        If a parameter has an invalid value; in `fit`, if the input has another shape than
        (steps,) or (steps, channels), or if it is shorter than the kernel with "valid".

    References
    ----------
    LeCun, Y., Bottou, L., Bengio, Y. & Haffner, P. (1998). Gradient-based learning applied to
    document recognition. Proceedings of the IEEE 86(11), 2278-2324.

    van den Oord, A. et al. (2016). WaveNet: a generative model for raw audio. arXiv:1609.03499.
    (Causal and dilated convolution.)

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import Conv1D
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> X = np.sin(np.outer(1 + y, np.arange(20)) + rng.uniform(0, 6, (200, 1)))
    >>> model = BackpropClassifier(
    ...     (),
    ...     layers=Conv1D(4, 5, activation="relu"),
    ...     input_shape=20,
    ...     learning_rate_init=0.01,
    ...     tol=0.01,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    >>> model.kernels_[0].shape
    (5, 1, 4)
    """

    n_filters: int
    kernel_size: int
    strides: int = 1
    padding: Literal["valid", "same", "causal"] = "valid"
    dilation: int = 1
    activation: str | ActivationFunction | None = None
    use_bias: bool = True

    reads_sequences: ClassVar[bool] = True

    def __post_init__(self) -> None:
        validate_positive_int(self, "n_filters", "kernel_size", "strides", "dilation")
        validate_padding(self, "valid", "same", "causal")
        _validate_activation(self)

    def compute_geometry(self, input_shape: Shape) -> ConvolutionGeometry:
        n_steps, before = input_shape[0], 0
        n_rest = self.dilation * (self.kernel_size - 1)
        if self.padding == "same":
            before = n_rest // 2
        elif self.padding == "causal":
            before = n_rest
        after = n_rest - before if self.padding == "same" else 0
        return ConvolutionGeometry(
            (1, n_steps),
            (1, self.kernel_size),
            (1, self.strides),
            (1, self.dilation),
            ((0, 0), (before, after)),
        )

    def kernel_shape(self, input_shape: Shape) -> Shape:
        return self.kernel_size, *_channels(input_shape, 1), self.n_filters

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) not in (1, 2):
            raise self.input_shape_error(
                "sequences of shape (steps,) or (steps, channels)", input_shape
            )
        n_outputs = self.compute_geometry(input_shape).output_size[1]
        if n_outputs < 1:
            raise self.input_shape_error(
                f"sequences of at least {self._min_steps} steps, the size of its kernel, unless "
                'padding="same"',
                input_shape,
            )
        return n_outputs, self.n_filters

    @property
    def _min_steps(self) -> int:
        """The number of steps from the first to the last that an output reads."""
        return self.dilation * (self.kernel_size - 1) + 1

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        if self.padding != "valid":
            padded: Array = -(-lengths // self.strides)
            return padded
        shortest = int(lengths.min())
        if shortest < self._min_steps:
            raise ValueError(
                f"{self!r} takes sequences of at least {self._min_steps} steps, the size of its "
                f'kernel, got one of {shortest} before its padding. Set padding="same", or leave '
                "such rows out."
            )
        return (lengths - self._min_steps) // self.strides + 1


@dataclass(frozen=True)
class Conv2D(Convolution):
    """Convolution of images: z[u, v] = sum_ij x[s u + i - p, s v + j - p] W[i, j] + b, a = f(z).

    x[u, v] are the channels of a pixel, W[i, j] a matrix of shape (channels, n_filters) for each
    pixel of the kernel, s the strides and p the padding before the first row and column (the
    cross-correlation of LeCun et al. 1998, section II.A). Pixels outside the image are zero.

    Parameters
    ----------
    n_filters : int
        The number of output channels, at least 1.
    kernel_size : int or (int, int)
        The height and the width of the kernels, at least 1.
    strides : int or (int, int), default=1
        The steps from one output to the next, down and to the right, at least 1.
    padding : {"valid", "same"}, default="valid"
        With "valid" there are no zeros around the image: n rows have
        ``(n - kernel_size) // strides + 1`` outputs. With "same" they have ``ceil(n / strides)``,
        with equal numbers of zeros before and after them, or one more after them.
    activation : str, ActivationFunction or None, default=None
        The function f; None for none.
    use_bias : bool, default=True
        Whether it has biases b.

    Raises
    ------
    ValueError
        If a parameter has an invalid value; in `fit`, if the input has another shape than
        (height, width) or (height, width, channels), or is smaller than the kernel with "valid".

    References
    ----------
    LeCun, Y., Bottou, L., Bengio, Y. & Haffner, P. (1998). Gradient-based learning applied to
    document recognition. Proceedings of the IEEE 86(11), 2278-2324.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import Conv2D
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> model = BackpropClassifier(
    ...     (),
    ...     layers=Conv2D(4, 3, activation="relu"),
    ...     input_shape=(8, 8),
    ...     tol=0.01,
    ...     random_state=0,
    ... )
    >>> model.fit(X / 16, y).score(X / 16, y) > 0.9
    True
    >>> model.kernels_[0].shape
    (3, 3, 1, 4)
    """

    n_filters: int
    kernel_size: int | Pair
    strides: int | Pair = 1
    padding: Literal["valid", "same"] = "valid"
    activation: str | ActivationFunction | None = None
    use_bias: bool = True

    def __post_init__(self) -> None:
        validate_positive_int(self, "n_filters")
        validate_pairs(self, "kernel_size", "strides")
        validate_padding(self, "valid", "same")
        _validate_activation(self)

    def compute_geometry(self, input_shape: Shape) -> ConvolutionGeometry:
        size = input_shape[0], input_shape[1]
        kernel_size, strides = as_pair(self.kernel_size), as_pair(self.strides)
        padding = (0, 0), (0, 0)
        if self.padding == "same":
            height, width = map(same_padding, size, kernel_size, strides)
            padding = height, width
        return ConvolutionGeometry(size, kernel_size, strides, padding=padding)

    def kernel_shape(self, input_shape: Shape) -> Shape:
        return *as_pair(self.kernel_size), *_channels(input_shape, 2), self.n_filters

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) not in (2, 3):
            raise self.input_shape_error(
                "images of shape (height, width) or (height, width, channels)", input_shape
            )
        output_size = self.compute_geometry(input_shape).output_size
        if min(output_size) < 1:
            height, width = as_pair(self.kernel_size)
            raise self.input_shape_error(
                f"images of at least {height} x {width} pixels, the size of its kernel, unless "
                'padding="same"',
                input_shape,
            )
        return *output_size, self.n_filters


class BuiltConvolution:
    """Convolution bound to its arrays: a dense layer on the columns of all windows.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    geometry : ConvolutionGeometry
        The sizes.
    """

    def __init__(self, context: LayerContext, geometry: ConvolutionGeometry) -> None:
        self._context, self._geometry = context, geometry
        n_members, n_rows = context.n_estimators, context.n_rows
        members = (-1,) if n_members > 1 else ()
        n_channels = math.prod(context.input_shape) // math.prod(geometry.input_size)
        n_windows = n_rows * math.prod(geometry.output_size)
        window = math.prod(geometry.kernel_size) * n_channels
        self._image_shape = -1, n_rows, *geometry.input_size, n_channels
        self._columns_shape = (
            n_members,
            n_rows,
            *geometry.output_size,
            *geometry.kernel_size,
            n_channels,
        )
        self._matrix_shape = *members, n_windows, window
        self._output_matrix_shape = *self._matrix_shape[:-1], context.output_shape[-1]
        self._columns = context.pool.get(f"columns {context.index}", self._columns_shape)
        self._d_columns: Array | None = None
        if context.grad_input is not None:
            self._d_columns = context.pool.get("d_columns", self._columns_shape)
        (top, bottom), (left, right) = geometry.padding
        self._interior = np.s_[
            :, :, top : top + geometry.input_size[0], left : left + geometry.input_size[1]
        ]
        self._padded_shape = n_members, n_rows, *geometry.padded_size, n_channels
        self._is_padded = top + bottom + left + right > 0
        if self._is_padded:
            # Nothing else writes to the border of this buffer.
            self._padded_input()[...] = 0
        parameters, gradients = context.parameters, context.gradients
        kernels_shape = *members, window, context.output_shape[-1]
        self._dense = BuiltDense(
            parameters["kernels"].reshape(kernels_shape),
            parameters.get("kernel_biases"),
            gradients["kernels"].reshape(kernels_shape) if context.is_training else None,
            gradients.get("kernel_biases"),
            None if self._d_columns is None else self._d_columns.reshape(self._matrix_shape),
        )

    def _padded_input(self) -> Array:
        size = "x".join(map(str, self._padded_shape[2:]))
        return self._context.pool.get(f"padded {size} {self._context.index}", self._padded_shape)

    def forward(self, x: Array, out: Array) -> None:
        images = self._pad(x.reshape(self._image_shape))
        (down, right), (row, column) = self._geometry.strides, self._geometry.dilation
        member_stride, row_stride, *(y, x_stride, channel) = images.strides
        columns = self._columns[: len(images)]
        windows = as_strided(
            images,
            columns.shape,
            (
                *(member_stride, row_stride, y * down, x_stride * right),
                *(y * row, x_stride * column, channel),
            ),
        )
        np.copyto(columns, windows)
        self._dense.forward(
            columns.reshape(self._matrix_shape), out.reshape(self._output_matrix_shape)
        )

    def _pad(self, images: Array) -> Array:
        """Return the images with zeros around them, and in place of the padding of sequences."""
        lengths = self._context.lengths
        if not self._is_padded and lengths is None:
            return images
        padded = self._padded_input()[: len(images)]
        interior = padded[self._interior]
        np.copyto(interior, images)
        if lengths is not None:
            self._clear_padding(interior, lengths)
        return padded

    def _clear_padding(self, images: Array, lengths: Array) -> None:
        """Set the steps after the end of each sequence to zero."""
        is_padding = np.arange(images.shape[3]) >= lengths[..., None]
        np.copyto(images, 0, where=is_padding[:, :, None, :, None])

    def backward(self, delta: Array) -> Array:
        self._dense.backward(delta.reshape(self._output_matrix_shape))
        grad_input = self._context.grad_input
        if grad_input is None or self._d_columns is None:
            return delta
        images = grad_input.reshape(self._image_shape)
        padded = (
            self._context.pool.get("d_padded", self._padded_shape) if self._is_padded else images
        )
        padded[...] = 0
        for row, column in np.ndindex(self._geometry.kernel_size):
            part = padded[:, :, *self._geometry.window_slices(row, column)]
            np.add(part, self._d_columns[..., row, column, :], out=part)
        if self._is_padded:
            np.copyto(images, padded[self._interior])
        if self._context.lengths is not None:
            self._clear_padding(images, self._context.lengths)
        return grad_input


def as_pair(size: int | Pair) -> Pair:
    """Return (size, size) for a number, and a pair as it is."""
    return size if isinstance(size, tuple) else (size, size)


def _channels(input_shape: Shape, n_axes: int) -> tuple[int]:
    """Return the number of channels behind these axes of a row, one if it has no further axis."""
    return (math.prod(input_shape[n_axes:]),)


def same_padding(n: int, kernel_size: int, stride: int) -> Pair:
    """Return the zeros before and after n values for ceil(n / stride) windows."""
    n_zeros = max((math.ceil(n / stride) - 1) * stride + kernel_size - n, 0)
    return n_zeros // 2, n_zeros - n_zeros // 2


def validate_padding(layer: Any, *names: str) -> None:
    """Check that `padding` is one of some names."""
    if layer.padding not in names:
        raise ValueError(
            f"padding of {type(layer).__name__} must be one of "
            f"{', '.join(map(repr, names))}, got {layer.padding!r}."
        )


def _validate_activation(layer: Any) -> None:
    if layer.activation is not None:
        get_activation(layer.activation)


def validate_pairs(layer: Any, *names: str) -> None:
    """Check that fields are positive integers or pairs of them, and make tuples of pairs."""
    for name in names:
        value = getattr(layer, name)
        is_pair = isinstance(value, Iterable) and not isinstance(value, str)
        sizes = list(value) if is_pair else [value]
        is_valid = all(isinstance(n, Integral) and not isinstance(n, bool) for n in sizes)
        if len(sizes) != (2 if is_pair else 1) or not is_valid or min(sizes) < 1:
            raise ValueError(
                f"{name} of {type(layer).__name__} must be a positive int, or a pair of them for "
                f"height and width, got {value!r}."
            )
        numbers = tuple(map(int, sizes))
        object.__setattr__(layer, name, numbers if is_pair else numbers[0])
