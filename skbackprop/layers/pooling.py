"""Pooling: the maximum or the mean of each window of a sequence or image, or of all of it.

The maximum of a rectangle is that of the maxima of its rows, and so is the mean. Images are thus
pooled along one axis after the other, on views of the input.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, TypeAlias

import numpy as np

from ..utils.arrays import Array
from ..utils.validation import validate_positive_int
from .base import BuiltLayer, Layer, LayerContext, Shape
from .convolution import (
    Pair,
    as_pair,
    enlarge,
    same_padding,
    validate_padding,
    validate_pairs,
)
from .reshaping import Reshape


@dataclass(frozen=True)
class PoolingWindows:
    """The windows along one axis.

    Parameters
    ----------
    n_inputs, n_outputs : int
        The number of values along the axis, and of windows.
    size : int
        The number of values of a window.
    stride : int
        The number of values from one window to the next.
    before : int
        The number of values of the first window before the first value of the axis.
    """

    n_inputs: int
    n_outputs: int
    size: int
    stride: int
    before: int = 0

    @property
    def is_trivial(self) -> bool:
        """Whether each value is a window of its own."""
        return self.size == self.stride == 1

    @property
    def is_partition(self) -> bool:
        """Whether each value is in one window."""
        return self.size == self.stride and self.n_inputs == self.n_outputs * self.size

    def slices(self, offset: int) -> tuple[slice, slice]:
        """Return where the values of this offset in their window are, and which windows have one.

        Windows reach over both ends of the axis with "same" padding.
        """
        start = offset - self.before
        first = max(0, -(start // self.stride))
        last = min(self.n_outputs - 1, (self.n_inputs - 1 - start) // self.stride)
        begin, end = first * self.stride + start, last * self.stride + start
        return slice(begin, max(end, begin - 1) + 1, self.stride), slice(first, last + 1)

    @property
    def starts(self) -> Array:
        """The index of the first value of each window."""
        starts: Array = np.arange(self.n_outputs) * self.stride - self.before
        return starts

    def counts(self, lengths: Array | None = None) -> Array:
        """Return the number of values in each window, of at least one.

        `lengths` are those of sequences, whose steps after them do not count. The result has their
        shape and an axis of windows.
        """
        n = self.n_inputs if lengths is None else lengths[..., None]
        counts = np.minimum(n, self.starts + self.size) - np.maximum(self.starts, 0)
        at_least_one: Array = np.maximum(counts, 1)
        return at_least_one


class Pooling(Layer):
    """Base class of layers that pool windows. A subclass has the fields of `MaxPool2D`."""

    pool_size: Any
    strides: Any
    padding: Literal["valid", "same"]

    n_axes: ClassVar[int]

    def __post_init__(self) -> None:
        names = ("pool_size",) if self.strides is None else ("pool_size", "strides")
        if self.n_axes == 1:
            validate_positive_int(self, *names)
        else:
            validate_pairs(self, *names)
        validate_padding(self, "valid", "same")

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        strides = [axis.stride for axis in self.compute_windows(input_shape)]
        return enlarge(self.compute_output_shape(input_shape), strides, input_shape[: self.n_axes])

    def compute_windows(self, input_shape: Shape) -> tuple[PoolingWindows, ...]:
        """Return the windows along each axis, for the shape of one row of the input."""
        sizes = as_pair(self.pool_size)[: self.n_axes]
        strides = sizes if self.strides is None else as_pair(self.strides)[: self.n_axes]
        windows = []
        for n, size, stride in zip(input_shape, sizes, strides, strict=False):
            n_outputs, before = (n - size) // stride + 1, 0
            if self.padding == "same":
                n_outputs = math.ceil(n / stride)
                # Where the windows of a sequence are may not depend on the steps after it.
                before = (
                    max(size - stride, 0) // 2
                    if self.n_axes == 1
                    else same_padding(n, size, stride)[0]
                )
            windows.append(PoolingWindows(n, n_outputs, size, stride, before))
        return tuple(windows)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        _check_shape(self, input_shape, self.n_axes)
        windows = self.compute_windows(input_shape)
        if min(axis.n_outputs for axis in windows) < 1:
            size = " x ".join(str(axis.size) for axis in windows)
            kind = f"sequences of at least {size} steps"
            if self.n_axes == 2:
                kind = f"images of at least {size} pixels"
            raise self.input_shape_error(
                f'{kind}, its pool_size, unless padding="same"', input_shape
            )
        n_channels = math.prod(input_shape[self.n_axes :])
        return *(axis.n_outputs for axis in windows), n_channels

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        stride = self.pool_size if self.strides is None else self.strides
        if self.padding == "same":
            padded: Array = -(-lengths // stride)
            return padded
        shortest = int(lengths.min())
        if shortest < self.pool_size:
            raise ValueError(
                f"{self!r} takes sequences of at least {self.pool_size} steps, its pool_size, got "
                f'one of {shortest} before its padding. Set padding="same", or leave such rows out.'
            )
        n_windows: Array = (lengths - self.pool_size) // stride + 1
        return n_windows

    def memory_per_sample(self, input_shape: Shape) -> int:
        # The output and its gradient, and what is between the two axes of an image.
        *others, n_channels = self.compute_output_shape(input_shape)
        between = max(others[0] * input_shape[1], input_shape[0] * others[1]) if others[1:] else 0
        return (2 * math.prod(others) + between) * n_channels


class MaxPooling(Pooling):
    """Base class of layers that take the maximum of windows."""

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltMaxPooling(context, self.compute_windows(context.input_shape))


class AveragePooling(Pooling):
    """Base class of layers that take the mean of windows."""

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltAveragePooling(context, self.compute_windows(context.input_shape))


@dataclass(frozen=True)
class MaxPool1D(MaxPooling):
    """Maximum of each window of a sequence, for each channel: y[t] = max_i x[s t + i - p].

    s is the stride and p the number of steps of the first window before the sequence. The gradient
    goes to the largest step of a window, and to the first of several.

    Parameters
    ----------
    pool_size : int, default=2
        The number of steps of a window, at least 1.
    strides : int or None, default=None
        The number of steps from one window to the next, at least 1; None for `pool_size`.
    padding : {"valid", "same"}, default="valid"
        With "valid" all windows are inside of the sequence: n steps have
        ``(n - pool_size) // strides + 1`` of them. With "same" they have ``ceil(n / strides)``;
        ``max(pool_size - strides, 0) // 2`` steps of the first window are before the sequence, and
        the last one may end after it. Steps outside of it do not count.

    Raises
    ------
    ValueError
        If a parameter has an invalid value; in `fit`, if the input has another shape than
        (steps,) or (steps, channels), or is shorter than `pool_size` with "valid".

    References
    ----------
    Goodfellow, I., Bengio, Y. & Courville, A. (2016). Deep learning. MIT Press. Section 9.3.

    Examples
    --------
    >>> from skbackprop.layers import MaxPool1D
    >>> MaxPool1D(4).compute_output_shape((22, 3))
    (5, 3)
    >>> MaxPool1D(4, padding="same").compute_output_shape((22, 3))
    (6, 3)
    """

    pool_size: int = 2
    strides: int | None = None
    padding: Literal["valid", "same"] = "valid"

    n_axes: ClassVar[int] = 1
    reads_sequences: ClassVar[bool] = True


@dataclass(frozen=True)
class MaxPool2D(MaxPooling):
    """Maximum of each window of an image, for each channel: y[u, v] = max_ij x[s u + i, s v + j].

    s are the strides. The gradient goes to the largest pixel of a window, and to the first of
    several, row by row.

    Parameters
    ----------
    pool_size : int or (int, int), default=2
        The height and the width of a window, at least 1.
    strides : int, (int, int) or None, default=None
        The steps from one window to the next, down and to the right, at least 1; None for
        `pool_size`.
    padding : {"valid", "same"}, default="valid"
        With "valid" all windows are inside of the image: n rows have
        ``(n - pool_size) // strides + 1`` of them. With "same" they have ``ceil(n / strides)``,
        which reach equally far over both ends, or one further over the last. Pixels outside of the
        image do not count.

    Raises
    ------
    ValueError
        If a parameter has an invalid value; in `fit`, if the input has another shape than
        (height, width) or (height, width, channels), or is smaller than `pool_size` with "valid".

    References
    ----------
    Goodfellow, I., Bengio, Y. & Courville, A. (2016). Deep learning. MIT Press. Section 9.3.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import Conv2D, MaxPool2D
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> layers = [Conv2D(4, 3, activation="relu"), MaxPool2D(2)]
    >>> MaxPool2D(2).compute_output_shape((6, 6, 4))
    (3, 3, 4)
    >>> model = BackpropClassifier((), layers=layers, input_shape=(8, 8), tol=0.01, random_state=0)
    >>> model.fit(X / 16, y).score(X / 16, y) > 0.9
    True
    """

    pool_size: int | Pair = 2
    strides: int | Pair | None = None
    padding: Literal["valid", "same"] = "valid"

    n_axes: ClassVar[int] = 2


@dataclass(frozen=True)
class AveragePool1D(AveragePooling):
    """Mean of each window of a sequence, for each channel: y[t] = mean_i x[s t + i - p].

    s is the stride and p the number of steps of the first window before the sequence.

    Parameters
    ----------
    pool_size : int, default=2
        The number of steps of a window, at least 1.
    strides : int or None, default=None
        The number of steps from one window to the next, at least 1; None for `pool_size`.
    padding : {"valid", "same"}, default="valid"
        As in `MaxPool1D`. Steps outside of the sequence do not count: the mean is that of the
        others.

    Raises
    ------
    ValueError
        If a parameter has an invalid value; in `fit`, if the input has another shape than
        (steps,) or (steps, channels), or is shorter than `pool_size` with "valid".

    References
    ----------
    Goodfellow, I., Bengio, Y. & Courville, A. (2016). Deep learning. MIT Press. Section 9.3.

    Examples
    --------
    >>> from skbackprop.layers import AveragePool1D
    >>> AveragePool1D(4, strides=2).compute_output_shape((22, 3))
    (10, 3)
    """

    pool_size: int = 2
    strides: int | None = None
    padding: Literal["valid", "same"] = "valid"

    n_axes: ClassVar[int] = 1
    reads_sequences: ClassVar[bool] = True


@dataclass(frozen=True)
class AveragePool2D(AveragePooling):
    """Mean of each window of an image, for each channel: y[u, v] = mean_ij x[s u + i, s v + j].

    s are the strides.

    Parameters
    ----------
    pool_size : int or (int, int), default=2
        The height and the width of a window, at least 1.
    strides : int, (int, int) or None, default=None
        The steps from one window to the next, down and to the right, at least 1; None for
        `pool_size`.
    padding : {"valid", "same"}, default="valid"
        As in `MaxPool2D`. Pixels outside of the image do not count: the mean is that of the others.

    Raises
    ------
    ValueError
        If a parameter has an invalid value; in `fit`, if the input has another shape than
        (height, width) or (height, width, channels), or is smaller than `pool_size` with "valid".

    References
    ----------
    LeCun, Y., Bottou, L., Bengio, Y. & Haffner, P. (1998). Gradient-based learning applied to
    document recognition. Proceedings of the IEEE 86(11), 2278-2324. (Section II.B, subsampling.)

    Examples
    --------
    >>> from skbackprop.layers import AveragePool2D
    >>> AveragePool2D((2, 3)).compute_output_shape((8, 9, 5))
    (4, 3, 5)
    """

    pool_size: int | Pair = 2
    strides: int | Pair | None = None
    padding: Literal["valid", "same"] = "valid"

    n_axes: ClassVar[int] = 2


class GlobalPooling(Layer):
    """Base class of layers that pool all positions of a row to one value for each channel."""

    n_axes: ClassVar[int]

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        sizes, output_shape = input_shape[: self.n_axes], self.compute_output_shape(input_shape)
        one_position = *(1 for _ in sizes), *output_shape
        return Reshape(one_position), *enlarge(one_position, sizes, sizes)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        _check_shape(self, input_shape, self.n_axes)
        return (math.prod(input_shape[self.n_axes :]),)

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        return None


class GlobalMaxPooling(GlobalPooling):
    """Base class of layers that take the maximum of all positions."""

    def memory_per_sample(self, input_shape: Shape) -> int:
        return math.prod(input_shape) // 2 + 3 * math.prod(self.compute_output_shape(input_shape))

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltGlobalMax(context, math.prod(context.input_shape[: self.n_axes]))


class GlobalAveragePooling(GlobalPooling):
    """Base class of layers that take the mean of all positions."""

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltGlobalAverage(context, math.prod(context.input_shape[: self.n_axes]))


@dataclass(frozen=True)
class GlobalMaxPool1D(GlobalMaxPooling):
    """Maximum of all steps of a sequence, for each channel: y = max_t x[t].

    Steps that share the maximum share its gradient equally.

    Raises
    ------
    ValueError
        In `fit`, if the input has another shape than (steps,) or (steps, channels).

    Examples
    --------
    >>> from skbackprop.layers import GlobalMaxPool1D
    >>> GlobalMaxPool1D().compute_output_shape((200, 32))
    (32,)
    """

    n_axes: ClassVar[int] = 1
    reads_sequences: ClassVar[bool] = True


@dataclass(frozen=True)
class GlobalMaxPool2D(GlobalMaxPooling):
    """Maximum of all pixels of an image, for each channel: y = max_uv x[u, v].

    Pixels that share the maximum share its gradient equally.

    Raises
    ------
    ValueError
        In `fit`, if the input has another shape than (height, width) or (height, width, channels).

    Examples
    --------
    >>> from skbackprop.layers import GlobalMaxPool2D
    >>> GlobalMaxPool2D().compute_output_shape((7, 7, 32))
    (32,)
    """

    n_axes: ClassVar[int] = 2


@dataclass(frozen=True)
class GlobalAveragePool1D(GlobalAveragePooling):
    """Mean of all steps of a sequence, for each channel: y = mean_t x[t].

    Raises
    ------
    ValueError
        In `fit`, if the input has another shape than (steps,) or (steps, channels).

    Examples
    --------
    >>> from skbackprop.layers import GlobalAveragePool1D
    >>> GlobalAveragePool1D().compute_output_shape((200, 32))
    (32,)
    """

    n_axes: ClassVar[int] = 1
    reads_sequences: ClassVar[bool] = True


@dataclass(frozen=True)
class GlobalAveragePool2D(GlobalAveragePooling):
    """Mean of all pixels of an image, for each channel: y = mean_uv x[u, v].

    Raises
    ------
    ValueError
        In `fit`, if the input has another shape than (height, width) or (height, width, channels).

    References
    ----------
    Lin, M., Chen, Q. & Yan, S. (2014). Network in network. ICLR. (Section 3.2.)

    Examples
    --------
    >>> from skbackprop.layers import GlobalAveragePool2D
    >>> GlobalAveragePool2D().compute_output_shape((7, 7, 32))
    (32,)
    """

    n_axes: ClassVar[int] = 2


def _check_shape(layer: Layer, input_shape: Shape, n_axes: int) -> None:
    """Check that rows have these axes, and at most one of channels."""
    if len(input_shape) not in (n_axes, n_axes + 1):
        axes = "steps" if n_axes == 1 else "height, width"
        kind = "sequences" if n_axes == 1 else "images"
        comma = "," if n_axes == 1 else ""
        raise layer.input_shape_error(
            f"{kind} of shape ({axes}{comma}) or ({axes}, channels)", input_shape
        )


# --------------------------------------------------------------------- along one axis


AxisIndex: TypeAlias = tuple[slice, ...]
"""Members, what is before the axis, and places along it."""


class AxisPooling(Protocol):
    """Pooling along the third of four axes: members, what is before, the axis, what is after."""

    def forward(self, x: Array, out: Array) -> None:
        """Write the pooled values to `out`."""

    def backward(self, delta: Array, grad_input: Array) -> None:
        """Write the gradient with respect to `x` to `grad_input`."""


class AxisMax:
    """Maximum of the windows along one axis.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    windows : PoolingWindows
        The windows.
    axis : int
        The number of the axis.
    shape : tuple of int
        The shape of the output, with the member axis.
    """

    def __init__(
        self, context: LayerContext, windows: PoolingWindows, axis: int, shape: Shape
    ) -> None:
        self._windows, self._pool, self._shape = windows, context.pool, shape
        self._slices = [_of_axis(*windows.slices(offset)) for offset in range(windows.size)]
        self._is_halved = windows.is_partition and windows.size == 2
        self._has_backward = context.grad_input is not None
        if self._has_backward:
            # The offset of the largest value in each window.
            self._dtype = np.min_scalar_type(windows.size - 1)
            name = f"winners {axis} {context.index}"
            self._winners = context.pool.get(name, shape, self._dtype)
            self._offsets = context.pool.get(f"offsets {self._dtype}", shape, self._dtype)
            self._is_winner = context.pool.get("is winner", shape, np.bool_)

    def forward(self, x: Array, out: Array) -> None:
        first, *rest = self._slices
        if self._is_halved:
            one, other = x[first[0]], x[rest[0][0]]
            if self._has_backward:
                np.greater(other, one, out=self._winners.view(np.bool_))
            np.maximum(one, other, out=out)
            return
        if self._windows.before:
            out.fill(-np.inf)
            rest = self._slices
        else:
            np.copyto(out, x[first[0]])
        if self._has_backward:
            self._winners.fill(0)
        for offset, (values, of) in enumerate(rest, self._windows.size - len(rest)):
            if self._has_backward:
                self._save_larger(offset, x[values], out, of)
            np.maximum(out[of], x[values], out=out[of])

    def _save_larger(self, offset: int, values: Array, out: Array, of: AxisIndex) -> None:
        """Save the offset for the windows in which its value is larger than those before it."""
        is_winner, offsets = self._is_winner, self._offsets
        is_winner.fill(False)
        np.greater(values, out[of], out=is_winner[of])
        # A maximum takes a tenth of the time of an assignment where they are larger.
        np.multiply(is_winner, self._dtype.type(offset), out=offsets)
        np.maximum(self._winners, offsets, out=self._winners)

    def backward(self, delta: Array, grad_input: Array) -> None:
        windows = self._windows
        if self._is_halved:
            first, second = grad_input[self._slices[0][0]], grad_input[self._slices[1][0]]
            np.multiply(delta, self._winners.view(np.bool_), out=second)
            np.subtract(delta, second, out=first)
            return
        if not windows.is_partition:
            grad_input.fill(0)
        for offset, (values, of) in enumerate(self._slices):
            is_winner = np.equal(self._winners, self._dtype.type(offset), out=self._is_winner)
            if windows.stride >= windows.size:
                np.multiply(delta[of], is_winner[of], out=grad_input[values])
            else:
                share = self._pool.get("share", self._shape)
                np.multiply(delta, is_winner, out=share)
                np.add(grad_input[values], share[of], out=grad_input[values])


class AxisSum:
    """Sum of the windows along one axis.

    Parameters
    ----------
    windows : PoolingWindows
        The windows.
    """

    def __init__(self, windows: PoolingWindows) -> None:
        self._windows = windows
        self._slices = [_of_axis(*windows.slices(offset)) for offset in range(windows.size)]

    def forward(self, x: Array, out: Array) -> None:
        (first, *rest) = self._slices
        if self._windows.before:
            out.fill(0)
            rest = self._slices
        elif self._windows.is_partition and rest:
            np.add(x[first[0]], x[rest[0][0]], out=out)
            rest = rest[1:]
        else:
            np.copyto(out, x[first[0]])
        for values, of in rest:
            np.add(out[of], x[values], out=out[of])

    def backward(self, delta: Array, grad_input: Array) -> None:
        windows = self._windows
        if windows.is_partition:
            members, before, n_outputs, after = delta.shape
            parts = grad_input.reshape(members, before, n_outputs, windows.size, after)
            np.copyto(parts, delta[:, :, :, None])
            return
        grad_input.fill(0)
        for values, of in self._slices:
            np.add(grad_input[values], delta[of], out=grad_input[values])


def _of_axis(values: slice, windows: slice) -> tuple[AxisIndex, AxisIndex]:
    """Return two slices of the third axis as indices."""
    return (slice(None), slice(None), values), (slice(None), slice(None), windows)


# -------------------------------------------------------------------- bound to arrays


class BuiltPooling:
    """Pooling of windows along one axis after the other.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    windows : sequence of PoolingWindows
        The windows along each axis of the input.
    order : sequence of int
        The axes in the order in which they are pooled.
    """

    # What padding is replaced by, so that it does not count.
    neutral: ClassVar[float]

    def __init__(
        self, context: LayerContext, windows: Sequence[PoolingWindows], order: Sequence[int]
    ) -> None:
        self._context, self._windows = context, windows
        members, n_rows = context.n_estimators, context.n_rows
        self._n_channels = context.output_shape[-1]
        sizes = [axis.n_inputs for axis in windows]
        self._input_shape = -1, n_rows, *sizes, self._n_channels
        # Each axis, with the shapes before and after it is pooled.
        self._steps: list[tuple[AxisPooling, Shape, Shape]] = []
        for axis in order:
            before = n_rows * math.prod(sizes[:axis])
            after = math.prod(sizes[axis + 1 :]) * self._n_channels
            shapes = (-1, before, sizes[axis], after), (-1, before, windows[axis].n_outputs, after)
            if not windows[axis].is_trivial:
                output_shape = members, *shapes[1][1:]
                self._steps.append((self._pool_axis(axis, output_shape), *shapes))
            sizes[axis] = windows[axis].n_outputs
        self._output_shape = members, n_rows, *sizes, self._n_channels
        if len(self._steps) == 2:
            shape = members, *self._steps[0][2][1:]
            self._between = context.pool.get("between axes", shape)

    def _pool_axis(self, axis: int, output_shape: Shape) -> AxisPooling:
        """Return the pooling along one axis."""
        raise NotImplementedError

    def forward(self, x: Array, out: Array) -> None:
        lengths = self._context.lengths
        if lengths is not None:
            x = _without_padding(self._context, x.reshape(self._input_shape), self.neutral)
        if not self._steps:
            np.copyto(out.reshape(self._output_shape), x.reshape(self._input_shape))
        for i, (axis, before, after) in enumerate(self._steps):
            is_last = i == len(self._steps) - 1
            pooled = (out if is_last else self._between).reshape(after)
            axis.forward(x.reshape(before), pooled)
            x = pooled
        self._finish(out.reshape(self._output_shape), lengths)

    def _finish(self, out: Array, lengths: Array | None) -> None:
        """Change the output in place after the last axis."""

    def backward(self, delta: Array) -> Array:
        grad_input, lengths = self._context.grad_input, self._context.lengths
        if grad_input is None:
            return delta
        self._start(delta.reshape(self._output_shape))
        if not self._steps:
            np.copyto(grad_input.reshape(-1), delta.reshape(-1))
        for i, (axis, before, after) in reversed(list(enumerate(self._steps))):
            grad = (grad_input if i == 0 else self._between).reshape(before)
            axis.backward(delta.reshape(after), grad)
            delta = grad
        if lengths is not None:
            images = grad_input.reshape(self._input_shape)
            np.copyto(images, 0, where=_is_padding(lengths, images.shape[2])[..., None])
        return grad_input

    def _start(self, delta: Array) -> None:
        """Change the gradient with respect to the output in place, before the last axis."""


class BuiltMaxPooling(BuiltPooling):
    """Maximum of windows: first of each row, then of the maxima of rows.

    In this order, the first of several largest values of a row, and the first of several rows,
    are the first in the order of the memory.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    windows : sequence of PoolingWindows
        The windows along each axis of the input.
    """

    neutral = -np.inf

    def __init__(self, context: LayerContext, windows: Sequence[PoolingWindows]) -> None:
        super().__init__(context, windows, range(len(windows))[::-1])

    def _pool_axis(self, axis: int, output_shape: Shape) -> AxisPooling:
        return AxisMax(self._context, self._windows[axis], axis, output_shape)

    def _finish(self, out: Array, lengths: Array | None) -> None:
        if lengths is not None:
            is_empty = np.maximum(self._windows[0].starts, 0) >= lengths[..., None]
            np.copyto(out, 0, where=is_empty[..., None])


class BuiltAveragePooling(BuiltPooling):
    """Mean of windows: their sum, times one by the number of their values.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    windows : sequence of PoolingWindows
        The windows along each axis of the input.
    """

    neutral = 0

    def __init__(self, context: LayerContext, windows: Sequence[PoolingWindows]) -> None:
        super().__init__(context, windows, range(len(windows)))
        factors = [1 / axis.counts() for axis in windows]
        factor = factors[0] if len(factors) == 1 else np.outer(*factors)
        is_equal = bool((factor == factor.flat[0]).all())
        self._factor: float | Array = factor.astype(context.pool.dtype)[..., None]
        if is_equal:
            self._factor = float(factor.flat[0])

    def _pool_axis(self, axis: int, output_shape: Shape) -> AxisPooling:
        return AxisSum(self._windows[axis])

    def _finish(self, out: Array, lengths: Array | None) -> None:
        self._current = self._factor
        if lengths is not None:
            factor = 1 / self._windows[0].counts(lengths)
            self._current = factor.astype(out.dtype)[..., None]
        np.multiply(out, self._current, out=out)

    def _start(self, delta: Array) -> None:
        np.multiply(delta, self._current, out=delta)


class BuiltGlobalMax:
    """Maximum of all positions: one half of them with the other, until one is left.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    n_positions : int
        The number of positions of a row.
    """

    def __init__(self, context: LayerContext, n_positions: int) -> None:
        self._context, self._n_positions = context, n_positions
        members, n_rows, n_channels = context.n_estimators, context.n_rows, context.n_outputs
        self._shape = -1, n_rows, n_positions, n_channels
        self._output_shape = members, n_rows, 1, n_channels
        n_left = n_positions - n_positions // 2
        self._left = context.pool.get("maxima left", (members, n_rows, n_left, n_channels))
        if context.grad_input is not None:
            self._largest = context.pool.get(f"largest {context.index}", self._output_shape)
            self._share = context.pool.get("share of largest", self._output_shape)
            self._ones = np.ones((1, n_positions), context.pool.dtype)

    def forward(self, x: Array, out: Array) -> None:
        x = x.reshape(self._shape)
        if self._context.lengths is not None:
            x = _without_padding(self._context, x, -np.inf)
        source, left, n = x, self._left, self._n_positions
        while n > 1:
            half = n // 2
            np.maximum(source[:, :, :half], source[:, :, n - half : n], out=left[:, :, :half])
            if n % 2 and source is not left:
                np.copyto(left[:, :, half], source[:, :, half])
            source, n = left, n - half
        largest = source[:, :, :1]
        if self._context.grad_input is not None:
            np.copyto(self._largest, largest)
        self._x = x
        pooled = out.reshape(self._output_shape)
        np.copyto(pooled, largest)
        if self._context.lengths is not None:
            np.copyto(pooled, 0, where=self._context.lengths[..., None, None] == 0)

    def backward(self, delta: Array) -> Array:
        grad_input = self._context.grad_input
        if grad_input is None:
            return delta
        gradient, share = grad_input.reshape(self._shape), self._share
        np.equal(self._x, self._largest, out=gradient)
        np.matmul(self._ones, gradient, out=share)
        np.divide(delta.reshape(self._output_shape), share, out=share)
        np.multiply(gradient, share, out=gradient)
        lengths = self._context.lengths
        if lengths is not None:
            np.copyto(gradient, 0, where=_is_padding(lengths, self._n_positions)[..., None])
        return grad_input


class BuiltGlobalAverage:
    """Mean of all positions, as a product with their weights.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    n_positions : int
        The number of positions of a row.
    """

    def __init__(self, context: LayerContext, n_positions: int) -> None:
        self._context, self._n_positions = context, n_positions
        members, n_rows, n_channels = context.n_estimators, context.n_rows, context.n_outputs
        self._shape = -1, n_rows, n_positions, n_channels
        self._output_shape = members, n_rows, 1, n_channels
        self._equal = np.full((1, n_positions), 1 / n_positions, context.pool.dtype)
        self._products: Array | None = None
        if n_channels == 1:
            # Some BLAS kernels round a dot product by the address of its second factor.
            self._products = context.pool.get("weighted", (members, *self._shape[1:]))

    def forward(self, x: Array, out: Array) -> None:
        x, pooled = x.reshape(self._shape), out.reshape(self._output_shape)
        self._weights, lengths = self._equal, self._context.lengths
        if lengths is not None:
            is_step = ~_is_padding(lengths, self._n_positions)
            weights = is_step / np.maximum(lengths, 1)[..., None]
            self._weights = weights[:, :, None].astype(out.dtype)
        if self._products is None:
            np.matmul(self._weights, x, out=pooled)
        else:
            np.multiply(x, self._weights.swapaxes(-1, -2), out=self._products)
            np.add.reduce(self._products, axis=2, out=pooled[:, :, 0])

    def backward(self, delta: Array) -> Array:
        grad_input = self._context.grad_input
        if grad_input is None:
            return delta
        weights = self._weights.swapaxes(-1, -2)
        np.multiply(delta.reshape(self._output_shape), weights, out=grad_input.reshape(self._shape))
        return grad_input


def _is_padding(lengths: Array, n_steps: int) -> Array:
    """Return whether each step of each sequence is padding."""
    is_padding: Array = np.arange(n_steps) >= lengths[..., None]
    return is_padding


def _without_padding(context: LayerContext, x: Array, value: float) -> Array:
    """Return a copy of sequences (members, rows, steps, channels) with a value for padding."""
    copy = context.pool.get(f"without padding {context.index}", x.shape)
    np.copyto(copy, x)
    assert context.lengths is not None
    np.copyto(copy, value, where=_is_padding(context.lengths, x.shape[2])[..., None])
    return copy
