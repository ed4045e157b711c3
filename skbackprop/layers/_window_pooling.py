"""Maximum and mean of windows, along one axis after the other.

The maximum of a rectangle is that of the maxima of its rows, and so is the mean.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..utils.arrays import BLOCK, Array
from ..utils.parallel import parallel_for, split_rows
from ._windows import AxisWindows
from .base import LayerContext, Shape, fill_padding


class AxisPooling:
    """Maximum or sum of the windows along one axis.

    Arrays have five axes: members, rows, all axes before this one, this one, and all after it.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    windows : AxisWindows
        The windows.
    sizes : sequence of int
        The sizes of all axes of a row of the input.
    axis : int
        The number of the axis.
    is_max : bool
        Whether windows have their maximum instead of their sum.
    """

    def __init__(
        self,
        context: LayerContext,
        windows: AxisWindows,
        sizes: Sequence[int],
        axis: int,
        is_max: bool,
    ) -> None:
        self._windows, self._pool = windows, context.batch.pool
        n_before, n_after = math.prod(sizes[:axis]), math.prod(sizes[axis + 1 :])
        self.input_shape = n_before, windows.n_inputs, n_after
        self.output_shape = n_before, windows.n_outputs, n_after
        self._combine: np.ufunc = np.maximum if is_max else np.add
        self._start = -np.inf if is_max else 0.0
        # Each offset in the windows has values at some places, and in some of the windows.
        self._slices = [
            (np.s_[:, :, :, values], np.s_[:, :, :, of])
            for values, of in map(windows.slice_values, range(windows.size))
        ]
        self._is_pairwise = windows.are_adjacent and windows.size == 2
        # The winner of a window is the offset of its largest value.
        self._winners: Array | None = None
        if is_max and context.grad_input is not None:
            name, dtype = f"winners {axis} {context.index}", np.min_scalar_type(windows.size - 1)
            shape = context.batch.n_estimators, context.batch.n_rows, *self.output_shape
            self._winners = self._pool.get(name, shape, dtype)

    def forward(self, x: Array, out: Array, rows: slice) -> None:
        """Write the pooled values of some rows to `out`."""
        combine, slices = self._combine, self._slices
        winners = None if self._winners is None else self._winners[:, rows]
        if self._is_pairwise:
            first, second = (x[values] for values, _ in slices)
            if winners is not None:
                np.greater(second, first, out=winners.view(np.bool_))
            combine(first, second, out=out)
            return
        n_done = 0 if self._windows.before else 1
        if n_done:
            np.copyto(out, x[slices[0][0]])
        else:
            out.fill(self._start)
        if winners is not None:
            winners.fill(0)
        for offset, (values, of) in enumerate(slices[n_done:], n_done):
            if winners is not None:
                self._save_larger(offset, x[values], out, of, winners)
            combine(out[of], x[values], out=out[of])

    def _save_larger(
        self, offset: int, values: Array, out: Array, of: tuple[slice, ...], winners: Array
    ) -> None:
        """Save the offset for the windows in which its value is larger than those before it."""
        is_larger = self._pool.get_for_thread("is larger", out.shape, np.bool_)
        offsets = self._pool.get_for_thread(f"offsets {winners.dtype}", out.shape, winners.dtype)
        is_larger.fill(False)
        np.greater(values, out[of], out=is_larger[of])
        # A maximum takes a tenth of the time of an assignment where they are larger.
        np.multiply(is_larger, winners.dtype.type(offset), out=offsets)
        np.maximum(winners, offsets, out=winners)

    def backward(self, delta: Array, grad_input: Array, rows: slice) -> None:
        """Write the gradient with respect to some rows of `x` to `grad_input`."""
        windows = self._windows
        # The other gradients are added up, or belong to no window.
        n_assigned = windows.n_outputs * windows.size if windows.are_adjacent else 0
        grad_input[:, :, :, n_assigned:] = 0
        if self._winners is None:
            for values, of in self._slices:
                if windows.stride >= windows.size:
                    np.copyto(grad_input[values], delta[of])
                else:
                    np.add(grad_input[values], delta[of], out=grad_input[values])
            return
        winners = self._winners[:, rows]
        if self._is_pairwise:
            first, second = (grad_input[values] for values, _ in self._slices)
            np.multiply(delta, winners.view(np.bool_), out=second)
            np.subtract(delta, second, out=first)
            return
        is_winner = self._pool.get_for_thread("is larger", delta.shape, np.bool_)
        share = self._pool.get_for_thread("share", delta.shape)
        for offset, (values, of) in enumerate(self._slices):
            np.equal(winners, winners.dtype.type(offset), out=is_winner)
            if windows.stride >= windows.size:
                np.multiply(delta[of], is_winner[of], out=grad_input[values])
            else:
                np.multiply(delta, is_winner, out=share)
                np.add(grad_input[values], share[of], out=grad_input[values])


class WindowPooling:
    """Pooling of windows along one axis after the other, for as many rows as fit into the cache.

    Maxima are taken along the last axis first. So the first of several largest values of a row, and
    the first of several rows, are the first in the order of the memory. A mean is a sum, times one
    by the number of its values.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    windows : sequence of AxisWindows
        The windows along each axis of the input.
    is_max : bool
        Whether windows have their maximum instead of their mean.
    """

    def __init__(self, context: LayerContext, windows: Sequence[AxisWindows], is_max: bool) -> None:
        self._context, self._windows, self._is_max = context, windows, is_max
        self._batch, n_channels = context.batch, context.out_shape[-1]
        sizes = [*(axis.n_inputs for axis in windows), n_channels]
        self._input_shape = tuple(sizes)
        axes = range(len(windows))
        self._steps: list[AxisPooling] = []
        for axis in reversed(axes) if is_max else axes:
            if windows[axis].size > 1 or windows[axis].stride > 1:
                self._steps.append(AxisPooling(context, windows[axis], sizes, axis, is_max))
            sizes[axis] = windows[axis].n_outputs
        self._output_shape = tuple(sizes)
        self._factor = np.ones(1) if is_max else self._compute_factor(None)
        size = self._batch.n_estimators * math.prod(self._input_shape)
        self._parts = split_rows(self._batch.n_rows, 2 * BLOCK // size)

    def _view(self, array: Array, shape: Shape) -> Array:
        """Return a view of a batch with the member axis, in which a row has another shape."""
        return array.reshape(-1, self._batch.n_rows, *shape)

    def _between(self, rows: slice) -> tuple[Array, Array]:
        """Return the array between two axes, as the first and the last step see it."""
        first, last = self._steps[0], self._steps[-1]
        members_and_rows = self._batch.n_estimators, rows.stop - rows.start
        shape = *members_and_rows, *first.output_shape
        between = self._batch.pool.get_for_thread("between axes", shape)
        return between, between.reshape(*members_and_rows, *last.input_shape)

    def forward(self, x: Array, out: Array) -> None:
        """Write the pooled values of a batch."""
        lengths, pooled = self._context.lengths, self._view(out, self._output_shape)
        if lengths is not None:
            neutral = -np.inf if self._is_max else 0.0
            x = replace_padding(self._context, self._view(x, self._input_shape), neutral)
        if self._steps:
            parallel_for(lambda rows: self._forward_rows(x, out, rows), self._parts)
        else:
            np.copyto(pooled, self._view(x, self._input_shape))
        if not self._is_max:
            self._multiply_by_factor(pooled)
        elif lengths is not None:
            is_empty = np.maximum(self._windows[0].starts, 0) >= lengths[..., None]
            np.copyto(pooled, 0, where=is_empty[..., None])

    def _forward_rows(self, x: Array, out: Array, rows: slice) -> None:
        first, last = self._steps[0], self._steps[-1]
        source = self._view(x, first.input_shape)[:, rows]
        if first is not last:
            between, next_source = self._between(rows)
            first.forward(source, between, rows)
            source = next_source
        last.forward(source, self._view(out, last.output_shape)[:, rows], rows)

    def _multiply_by_factor(self, pooled: Array) -> None:
        lengths = self._context.lengths
        factor = self._factor if lengths is None else self._compute_factor(lengths)
        np.multiply(pooled, factor, out=pooled)

    def _compute_factor(self, lengths: Array | None) -> Array:
        """Return one by the number of values of each window."""
        factor = 1 / self._windows[0].count_values(lengths)
        if len(self._windows) == 2:
            factor = np.outer(factor, 1 / self._windows[1].count_values())
        # NumPy multiplies by a single number faster.
        has_one_value = bool((factor == factor.flat[0]).all())
        factor = factor.ravel()[:1] if has_one_value else factor[..., None]
        return factor.astype(self._batch.pool.dtype)

    def backward(self, x: Array, out: Array, delta: Array) -> None:
        """Write the gradient with respect to the input of a batch."""
        grad_input, pooled = self._context.grad_input, self._view(delta, self._output_shape)
        if grad_input is None:
            return
        if not self._is_max:
            self._multiply_by_factor(pooled)
        gradient = self._view(grad_input, self._input_shape)
        if self._steps:
            parallel_for(lambda rows: self._backward_rows(delta, grad_input, rows), self._parts)
        else:
            np.copyto(gradient, pooled)
        if self._context.lengths is not None:
            fill_padding(gradient, self._context.lengths)

    def _backward_rows(self, delta: Array, grad_input: Array, rows: slice) -> None:
        first, last = self._steps[0], self._steps[-1]
        source = self._view(delta, last.output_shape)[:, rows]
        if first is not last:
            previous_source, between = self._between(rows)
            last.backward(source, between, rows)
            source = previous_source
        first.backward(source, self._view(grad_input, first.input_shape)[:, rows], rows)


def replace_padding(context: LayerContext, x: Array, value: float) -> Array:
    """Return a copy of sequences (members, rows, steps, channels) with a value for padding."""
    assert context.lengths is not None
    copy = context.batch.pool.get(f"without padding {context.index}", x.shape)
    np.copyto(copy, x)
    fill_padding(copy, context.lengths, value)
    return copy
