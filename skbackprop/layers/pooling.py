"""Pooling: the maximum or the mean of each window of a sequence or image, or of all of it.

The maximum of a rectangle is that of the maxima of its rows, and so is the mean. Images are thus
pooled along one axis after the other, on views of the input.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np

from ..utils.arrays import BLOCK, Array
from ..utils.validation import validate_positive_int
from .base import BuiltLayer, Layer, LayerContext, Shape, check_axes, padding_mask
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
    def are_adjacent(self) -> bool:
        """Whether each window starts where the one before it ends, from the first value on."""
        n_covered = self.n_outputs * self.size
        return self.size == self.stride and self.before == 0 and n_covered <= self.n_inputs

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
        check_axes(self, input_shape, self.n_axes)
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

    See Also
    --------
    AveragePool1D : Mean over windows of steps.
    GlobalMaxPool1D : Maximum over all steps.

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

    See Also
    --------
    AveragePool2D : Mean over windows of an image.
    GlobalMaxPool2D : Maximum over the whole image.

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

    See Also
    --------
    MaxPool1D : Maximum over windows of steps.
    GlobalAveragePool1D : Mean over all steps.

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

    See Also
    --------
    MaxPool2D : Maximum over windows of an image.
    GlobalAveragePool2D : Mean over the whole image.

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
        check_axes(self, input_shape, self.n_axes)
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

    See Also
    --------
    GlobalAveragePool1D : Mean over all steps.

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

    See Also
    --------
    GlobalAveragePool2D : Mean over the whole image.

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

    See Also
    --------
    GlobalMaxPool1D : Maximum over all steps.

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

    See Also
    --------
    GlobalMaxPool2D : Maximum over the whole image.

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


# --------------------------------------------------------------------- along one axis


AxisIndex: TypeAlias = tuple[slice, ...]
"""Members, what is before the axis, and places along it."""


class AxisPooling(ABC):
    """Pooling along the third of four axes: members, what is before, the axis, what is after.

    Parameters
    ----------
    windows : PoolingWindows
        The windows.
    """

    def __init__(self, windows: PoolingWindows) -> None:
        self.windows = windows
        # Where the values of each offset are, and the windows that have them.
        self.slices: list[tuple[AxisIndex, AxisIndex]] = []
        for offset in range(windows.size):
            values, of = windows.slices(offset)
            self.slices.append((np.s_[:, :, values], np.s_[:, :, of]))

    @abstractmethod
    def forward(self, x: Array, out: Array, part: slice) -> None:
        """Write the pooled values to `out`, for a part of the second axis of all rows."""

    @abstractmethod
    def backward(self, delta: Array, grad_input: Array, part: slice) -> None:
        """Write the gradient with respect to `x` to `grad_input`."""

    def _clear(self, grad_input: Array) -> None:
        """Set to zero what is added to, or belongs to no window."""
        is_adjacent = self.windows.are_adjacent
        grad_input[:, :, self.windows.n_outputs * self.windows.size if is_adjacent else 0 :] = 0


class AxisMax(AxisPooling):
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
        The shape of the output for all rows, with the member axis.
    """

    def __init__(
        self, context: LayerContext, windows: PoolingWindows, axis: int, shape: Shape
    ) -> None:
        super().__init__(windows)
        self._pool = context.pool
        self._are_pairs = windows.are_adjacent and windows.size == 2
        # The offset of the largest value in each window.
        self._winners: Array | None = None
        if context.grad_input is not None:
            name, dtype = f"winners {axis} {context.index}", np.min_scalar_type(windows.size - 1)
            self._winners = context.pool.get(name, shape, dtype)

    def forward(self, x: Array, out: Array, part: slice) -> None:
        winners = None if self._winners is None else self._winners[:, part]
        if self._are_pairs:
            one, other = (x[values] for values, _ in self.slices)
            if winners is not None:
                np.greater(other, one, out=winners.view(np.bool_))
            np.maximum(one, other, out=out)
            return
        first, rest = 0, self.slices
        if self.windows.before:
            out.fill(-np.inf)
        else:
            np.copyto(out, x[self.slices[0][0]])
            first, rest = 1, self.slices[1:]
        if winners is not None:
            winners.fill(0)
        for offset, (values, of) in enumerate(rest, first):
            if winners is not None:
                self._save_larger(offset, x[values], out, of, winners)
            np.maximum(out[of], x[values], out=out[of])

    def _save_larger(
        self, offset: int, values: Array, out: Array, of: AxisIndex, winners: Array
    ) -> None:
        """Save the offset for the windows in which its value is larger than those before it."""
        is_larger = self._pool.get("is larger", out.shape, np.bool_)
        offsets = self._pool.get(f"offsets {winners.dtype}", out.shape, winners.dtype)
        is_larger.fill(False)
        np.greater(values, out[of], out=is_larger[of])
        # A maximum takes a tenth of the time of an assignment where they are larger.
        np.multiply(is_larger, winners.dtype.type(offset), out=offsets)
        np.maximum(winners, offsets, out=winners)

    def backward(self, delta: Array, grad_input: Array, part: slice) -> None:
        assert self._winners is not None
        winners = self._winners[:, part]
        self._clear(grad_input)
        if self._are_pairs:
            first, second = (grad_input[values] for values, _ in self.slices)
            np.multiply(delta, winners.view(np.bool_), out=second)
            np.subtract(delta, second, out=first)
            return
        is_winner = self._pool.get("is larger", delta.shape, np.bool_)
        share = self._pool.get("share", delta.shape)
        for offset, (values, of) in enumerate(self.slices):
            np.equal(winners, winners.dtype.type(offset), out=is_winner)
            if self.windows.stride >= self.windows.size:
                np.multiply(delta[of], is_winner[of], out=grad_input[values])
            else:
                np.multiply(delta, is_winner, out=share)
                np.add(grad_input[values], share[of], out=grad_input[values])


class AxisSum(AxisPooling):
    """Sum of the windows along one axis.

    Parameters
    ----------
    windows : PoolingWindows
        The windows.
    """

    def forward(self, x: Array, out: Array, part: slice) -> None:
        rest = self.slices
        if self.windows.before:
            out.fill(0)
        elif self.windows.are_adjacent and self.windows.size > 1:
            np.add(x[rest[0][0]], x[rest[1][0]], out=out)
            rest = rest[2:]
        else:
            np.copyto(out, x[rest[0][0]])
            rest = rest[1:]
        for values, of in rest:
            np.add(out[of], x[values], out=out[of])

    def backward(self, delta: Array, grad_input: Array, part: slice) -> None:
        self._clear(grad_input)
        for values, of in self.slices:
            if self.windows.stride >= self.windows.size:
                np.copyto(grad_input[values], delta[of])
            else:
                np.add(grad_input[values], delta[of], out=grad_input[values])


# -------------------------------------------------------------------- bound to arrays


@dataclass(frozen=True)
class PoolingStep:
    """Pooling along one axis of a batch.

    Parameters
    ----------
    axis : AxisPooling
        The pooling.
    n_before : int
        The size of all axes of a row before it.
    input_shape, output_shape : tuple of int
        What is before the axis, the axis, and what is after it, for one row.
    """

    axis: AxisPooling
    n_before: int
    input_shape: Shape
    output_shape: Shape

    def part(self, rows: slice) -> slice:
        """Return the part of the second axis of arrays that belongs to some rows."""
        return slice(rows.start * self.n_before, rows.stop * self.n_before)


class BuiltPooling(ABC):
    """Pooling of windows along one axis after the other, for as many rows as fit into the cache.

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
        n_channels = context.output_shape[-1]
        sizes = [axis.n_inputs for axis in windows]
        self._input_shape = -1, n_rows, *sizes, n_channels
        self._steps: list[PoolingStep] = []
        for axis in order:
            before, after = math.prod(sizes[:axis]), math.prod(sizes[axis + 1 :]) * n_channels
            n_inputs, n_outputs = sizes[axis], windows[axis].n_outputs
            if not windows[axis].is_trivial:
                shape = members, n_rows * before, n_outputs, after
                self._steps.append(
                    PoolingStep(
                        self._pool_axis(axis, shape),
                        before,
                        (before, n_inputs, after),
                        (before, n_outputs, after),
                    )
                )
            sizes[axis] = n_outputs
        self._output_shape = members, n_rows, *sizes, n_channels
        self._blocks = _row_blocks(context)

    @abstractmethod
    def _pool_axis(self, axis: int, output_shape: Shape) -> AxisPooling:
        """Return the pooling along one axis."""

    def _between(self, rows: slice) -> Array:
        """Return the array between two steps, for some rows."""
        n_rows, (before, *rest) = rows.stop - rows.start, self._steps[0].output_shape
        shape = self._context.n_estimators, n_rows * before, *rest
        return self._context.pool.get("between axes", shape)

    def _batch(self, array: Array, shape: Shape) -> Array:
        """Return a view of the rows of a batch, of which each has a shape of three axes."""
        before, *rest = shape
        return array.reshape(-1, self._context.n_rows * before, *rest)

    def forward(self, x: Array, out: Array) -> None:
        lengths = self._context.lengths
        if lengths is not None:
            x = _without_padding(self._context, x.reshape(self._input_shape), self.neutral)
        pooled = out.reshape(self._output_shape)
        if not self._steps:
            np.copyto(pooled, x.reshape(self._input_shape))
        for rows in self._blocks if self._steps else ():
            first, last = self._steps[0], self._steps[-1]
            source = self._batch(x, first.input_shape)[:, first.part(rows)]
            if first is not last:
                between = self._between(rows)
                first.axis.forward(source, between, first.part(rows))
                source = _block(between, last.input_shape)
            target = self._batch(out, last.output_shape)[:, last.part(rows)]
            last.axis.forward(source, target, last.part(rows))
        self._finish(pooled, lengths)

    @abstractmethod
    def _finish(self, out: Array, lengths: Array | None) -> None:
        """Change the output in place after the last axis."""

    def backward(self, delta: Array) -> Array:
        grad_input, lengths = self._context.grad_input, self._context.lengths
        if grad_input is None:
            return delta
        self._start(delta.reshape(self._output_shape))
        gradient = grad_input.reshape(self._input_shape)
        if not self._steps:
            np.copyto(gradient, delta.reshape(self._output_shape))
        for rows in self._blocks if self._steps else ():
            first, last = self._steps[0], self._steps[-1]
            source = self._batch(delta, last.output_shape)[:, last.part(rows)]
            if first is not last:
                between = self._between(rows)
                last.axis.backward(source, _block(between, last.input_shape), last.part(rows))
                source = between
            target = self._batch(grad_input, first.input_shape)[:, first.part(rows)]
            first.axis.backward(source, target, first.part(rows))
        if lengths is not None:
            np.copyto(gradient, 0, where=padding_mask(lengths, gradient.shape[2])[..., None])
        return grad_input

    @abstractmethod
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

    def _start(self, delta: Array) -> None:
        """Leave the gradient as it is: each maximum has that of its output."""


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
        self._blocks = _row_blocks(context)
        if context.grad_input is not None:
            self._largest = context.pool.get(f"largest {context.index}", self._output_shape)
            self._share = context.pool.get("share of largest", self._output_shape)
            self._ones = np.ones((1, n_positions), context.pool.dtype)

    def forward(self, x: Array, out: Array) -> None:
        context, pooled = self._context, out.reshape(self._output_shape)
        self._x = x = x.reshape(self._shape)
        if context.lengths is not None:
            self._x = x = _without_padding(context, x, -np.inf)
        np.copyto(pooled, self._largest_of(x))
        if context.grad_input is not None:
            np.copyto(self._largest, pooled)
        if context.lengths is not None:
            np.copyto(pooled, 0, where=context.lengths[..., None, None] == 0)

    def _largest_of(self, x: Array) -> Array:
        """Return the maxima, in memory that other layers share."""
        n = self._n_positions
        members, n_rows, _, n_channels = self._output_shape
        left = self._context.pool.get("maxima left", (members, n_rows, n - n // 2, n_channels))
        if n % 2:
            np.copyto(left[:, :, n // 2], x[:, :, n // 2])
        while n > 1:
            half = n // 2
            np.maximum(x[:, :, :half], x[:, :, n - half : n], out=left[:, :, :half])
            x, n = left, n - half
        return left[:, :, :1]

    def backward(self, delta: Array) -> Array:
        grad_input = self._context.grad_input
        if grad_input is None:
            return delta
        deltas, gradients = delta.reshape(self._output_shape), grad_input.reshape(self._shape)
        for rows in self._blocks:
            gradient, share = gradients[:, rows], self._share[:, rows]
            np.equal(self._x[:, rows], self._largest[:, rows], out=gradient)
            np.matmul(self._ones, gradient, out=share)
            np.divide(deltas[:, rows], share, out=share)
            np.multiply(gradient, share, out=gradient)
        lengths = self._context.lengths
        if lengths is not None:
            np.copyto(gradients, 0, where=padding_mask(lengths, self._n_positions)[..., None])
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
            is_step = ~padding_mask(lengths, self._n_positions)
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


def _block(array: Array, shape: Shape) -> Array:
    """Return a view of some rows, of which each has a shape of three axes."""
    return array.reshape(len(array), -1, *shape[1:])


def _row_blocks(context: LayerContext) -> list[slice]:
    """Return consecutive rows whose input fits into the cache of a core."""
    size = max(1, BLOCK // (context.n_estimators * context.n_inputs))
    n_rows = context.n_rows
    return [slice(start, min(start + size, n_rows)) for start in range(0, n_rows, size)]


def _without_padding(context: LayerContext, x: Array, value: float) -> Array:
    """Return a copy of sequences (members, rows, steps, channels) with a value for padding."""
    copy = context.pool.get(f"without padding {context.index}", x.shape)
    np.copyto(copy, x)
    assert context.lengths is not None
    np.copyto(copy, value, where=padding_mask(context.lengths, x.shape[2])[..., None])
    return copy
