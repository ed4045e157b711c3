"""Forward and backward pass of pooling, along one axis after the other.

The maximum of a rectangle is that of the maxima of its rows, and so is the mean.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import numpy as np

from ..utils.arrays import BLOCK, Array, max_by_halves
from ..utils.parallel import parallel_for, split_rows
from .base import LayerContext, Shape, padding_mask


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


# --------------------------------------------------------------------- along one axis


AxisIndex: TypeAlias = tuple[slice, ...]
"""Members, what is before the axis, and places along it."""


class AxisPooling(ABC):
    """Pooling along the third of four axes: members, what is before, the axis, what is after.

    Parameters
    ----------
    windows : PoolingWindows
        The windows.
    n_before, n_after : int
        The size of all axes of a row before the axis, and after it.
    """

    def __init__(self, windows: PoolingWindows, n_before: int, n_after: int) -> None:
        self.windows, self.n_before = windows, n_before
        self.input_shape = n_before, windows.n_inputs, n_after
        self.output_shape = n_before, windows.n_outputs, n_after
        # Where the values of each offset are, and the windows that have them.
        self.slices: list[tuple[AxisIndex, AxisIndex]] = []
        for offset in range(windows.size):
            values, of = windows.slices(offset)
            self.slices.append((np.s_[:, :, values], np.s_[:, :, of]))

    def part(self, rows: slice) -> slice:
        """Return the part of the second axis of arrays that belongs to some rows."""
        return slice(rows.start * self.n_before, rows.stop * self.n_before)

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
    n_before, n_after : int
        The size of all axes of a row before the axis, and after it.
    axis : int
        The number of the axis.
    """

    def __init__(
        self,
        context: LayerContext,
        windows: PoolingWindows,
        n_before: int,
        n_after: int,
        axis: int,
    ) -> None:
        super().__init__(windows, n_before, n_after)
        self._pool = context.pool
        self._are_pairs = windows.are_adjacent and windows.size == 2
        # The offset of the largest value in each window.
        self._winners: Array | None = None
        if context.grad_input is not None:
            name, dtype = f"winners {axis} {context.index}", np.min_scalar_type(windows.size - 1)
            shape = context.n_estimators, context.n_rows * n_before, windows.n_outputs, n_after
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
        is_larger = self._pool.get_for_thread("is larger", out.shape, np.bool_)
        offsets = self._pool.get_for_thread(f"offsets {winners.dtype}", out.shape, winners.dtype)
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
        is_winner = self._pool.get_for_thread("is larger", delta.shape, np.bool_)
        share = self._pool.get_for_thread("share", delta.shape)
        for offset, (values, of) in enumerate(self.slices):
            np.equal(winners, winners.dtype.type(offset), out=is_winner)
            if self.windows.stride >= self.windows.size:
                np.multiply(delta[of], is_winner[of], out=grad_input[values])
            else:
                np.multiply(delta, is_winner, out=share)
                np.add(grad_input[values], share[of], out=grad_input[values])


class AxisSum(AxisPooling):
    """Sum of the windows along one axis."""

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
        self._steps: list[AxisPooling] = []
        for axis in order:
            if not windows[axis].is_trivial:
                n_after = math.prod(sizes[axis + 1 :]) * n_channels
                self._steps.append(self._pool_axis(axis, math.prod(sizes[:axis]), n_after))
            sizes[axis] = windows[axis].n_outputs
        self._output_shape = members, n_rows, *sizes, n_channels
        self._parts = split_rows(n_rows, 2 * BLOCK // (members * context.n_inputs))

    @abstractmethod
    def _pool_axis(self, axis: int, n_before: int, n_after: int) -> AxisPooling:
        """Return the pooling along one axis."""

    def _between(self, rows: slice) -> Array:
        """Return the array between two steps, for some rows."""
        n_rows, (before, *rest) = rows.stop - rows.start, self._steps[0].output_shape
        shape = self._context.n_estimators, n_rows * before, *rest
        return self._context.pool.get_for_thread("between axes", shape)

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
        else:
            self._x, self._out = x, out
            parallel_for(self._forward_rows, self._parts)
        self._finish(pooled, lengths)

    def _forward_rows(self, rows: slice) -> None:
        first, last = self._steps[0], self._steps[-1]
        source = self._batch(self._x, first.input_shape)[:, first.part(rows)]
        if first is not last:
            between = self._between(rows)
            first.forward(source, between, first.part(rows))
            source = _block(between, last.input_shape)
        target = self._batch(self._out, last.output_shape)[:, last.part(rows)]
        last.forward(source, target, last.part(rows))

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
        else:
            self._delta, self._grad_input = delta, grad_input
            parallel_for(self._backward_rows, self._parts)
        if lengths is not None:
            np.copyto(gradient, 0, where=padding_mask(lengths, gradient.shape[2])[..., None])
        return grad_input

    def _backward_rows(self, rows: slice) -> None:
        first, last = self._steps[0], self._steps[-1]
        source = self._batch(self._delta, last.output_shape)[:, last.part(rows)]
        if first is not last:
            between = self._between(rows)
            last.backward(source, _block(between, last.input_shape), last.part(rows))
            source = between
        target = self._batch(self._grad_input, first.input_shape)[:, first.part(rows)]
        first.backward(source, target, first.part(rows))

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

    def _pool_axis(self, axis: int, n_before: int, n_after: int) -> AxisPooling:
        return AxisMax(self._context, self._windows[axis], n_before, n_after, axis)

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

    def _pool_axis(self, axis: int, n_before: int, n_after: int) -> AxisPooling:
        return AxisSum(self._windows[axis], n_before, n_after)

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
        self._parts = split_rows(n_rows, 2 * BLOCK // (members * context.n_inputs))
        if context.grad_input is not None:
            self._largest = context.pool.get(f"largest {context.index}", self._output_shape)
            self._share = context.pool.get("share of largest", self._output_shape)
            self._ones = np.ones((1, n_positions), context.pool.dtype)

    def forward(self, x: Array, out: Array) -> None:
        context, self._pooled = self._context, out.reshape(self._output_shape)
        pooled, self._x = self._pooled, x.reshape(self._shape)
        if context.lengths is not None:
            self._x = _without_padding(context, self._x, -np.inf)
        parallel_for(self._forward_rows, self._parts)
        if context.grad_input is not None:
            np.copyto(self._largest, pooled)
        if context.lengths is not None:
            np.copyto(pooled, 0, where=context.lengths[..., None, None] == 0)

    def _forward_rows(self, rows: slice) -> None:
        x, n = self._x[:, rows], self._n_positions
        members, _, _, n_channels = self._output_shape
        shape = members, rows.stop - rows.start, n - n // 2, n_channels
        left = self._context.pool.get_for_thread("maxima left", shape)
        np.copyto(self._pooled[:, rows], max_by_halves(x, left))

    def backward(self, delta: Array) -> Array:
        grad_input = self._context.grad_input
        if grad_input is None:
            return delta
        self._delta, self._gradient = (
            delta.reshape(self._output_shape),
            grad_input.reshape(self._shape),
        )
        parallel_for(self._backward_rows, self._parts)
        lengths = self._context.lengths
        if lengths is not None:
            is_padding = padding_mask(lengths, self._n_positions)
            np.copyto(self._gradient, 0, where=is_padding[..., None])
        return grad_input

    def _backward_rows(self, rows: slice) -> None:
        gradient, share = self._gradient[:, rows], self._share[:, rows]
        np.equal(self._x[:, rows], self._largest[:, rows], out=gradient)
        np.matmul(self._ones, gradient, out=share)
        np.divide(self._delta[:, rows], share, out=share)
        np.multiply(gradient, share, out=gradient)


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


def _without_padding(context: LayerContext, x: Array, value: float) -> Array:
    """Return a copy of sequences (members, rows, steps, channels) with a value for padding."""
    copy = context.pool.get(f"without padding {context.index}", x.shape)
    np.copyto(copy, x)
    assert context.lengths is not None
    np.copyto(copy, value, where=padding_mask(context.lengths, x.shape[2])[..., None])
    return copy
