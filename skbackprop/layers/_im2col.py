"""Windows of images as the rows of matrices, for convolutions by matrix products (im2col)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..utils.arrays import Array
from ..utils.parallel import split_rows
from ._windows import AxisWindows
from .base import LayerContext, Shape, fill_padding

# A part of a batch has at most this many values of columns, four megabytes in single precision.
# With smaller parts, threads wait for Python's lock. The columns of a single part are kept for the
# backward pass. Several parts are copied again, which is faster than reading them from memory.
_CACHED_VALUES = 1 << 20

# A row of a batch of 32 rows or more has at most this many values of columns in memory.
CACHED_VALUES_OF_ROW = _CACHED_VALUES // 32

# Windows with fewer values side by side are copied column by column, since NumPy copies and adds
# long runs of values faster than short ones.
_SHORT_RUN = 12

ImageWindows: TypeAlias = tuple[AxisWindows, AxisWindows]
"""The windows along height and width. A sequence is an image of height one."""


class Im2Col:
    """Windows of images as the rows of a matrix of columns, and the sum of such rows to images.

    All images have the shape (n_estimators or 1, n_rows, height, width, channels). The matrix has
    a row for each window, in the order of rows and positions, and a column for each value of a
    window. With several members there is a matrix for each of them.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    windows : pair of AxisWindows
        The windows along height and width.
    n_channels : int
        The number of channels of the images.
    is_kept : bool, default=False
        Whether the columns are needed again, and kept unless they are many.
    """

    def __init__(
        self, context: LayerContext, windows: ImageWindows, n_channels: int, is_kept: bool = False
    ) -> None:
        self._context, self._batch, self._n_channels = context, context.batch, n_channels
        self._axes, (rows, columns) = windows, windows
        size = rows.n_inputs, columns.n_inputs
        self.image_shape = -1, self._batch.n_rows, *size, n_channels
        self._padded_size = rows.n_padded, columns.n_padded
        self._is_padded = self._padded_size != size
        top, left = rows.before, columns.before
        self._interior = np.s_[:, :, top : top + size[0], left : left + size[1]]
        self._is_pointwise = all(axis.size == axis.stride == 1 for axis in windows)
        self._kernel_size = rows.size, columns.size
        self._output_size = rows.n_outputs, columns.n_outputs
        self.window = math.prod(self._kernel_size) * n_channels
        run = columns.size * n_channels
        self._is_transposed = run < _SHORT_RUN and run < columns.n_outputs
        self.n_windows = math.prod(self._output_size)
        n_at_once = _CACHED_VALUES // (self.n_windows * self.window)
        self.parts = split_rows(self._batch.n_rows, n_at_once)
        self._is_kept = is_kept and len(self.parts) == 1
        if self._is_padded:
            # Nothing else writes to the border of this buffer.
            self._padded_buffer()[...] = 0

    def of_rows(self, rows: slice) -> slice:
        """Return which windows of a batch are those of some rows."""
        return slice(rows.start * self.n_windows, rows.stop * self.n_windows)

    def columns(self, images: Array, rows: slice, is_again: bool = False) -> Array:
        """Return the columns of the windows of some rows.

        Parameters
        ----------
        images : array
            What `pad` has returned.
        rows : slice
            One of `parts`.
        is_again : bool, default=False
            Whether this is the second call for the same images.
        """
        if self._is_pointwise:
            matrix = images.reshape(*self._members(images), -1, self.window)
            return matrix[..., self.of_rows(rows), :]
        name = f"columns {self._context.index}" if self._is_kept else "columns"
        columns = self._columns(name, rows)[: len(images)]
        if not (self._is_kept and is_again):
            np.copyto(columns, self._windows(images[:, rows]))
        return self._as_matrix(columns)

    def scatter_product(self, delta: Array, kernels: Array, images: Array, rows: slice) -> None:
        """Write the sum of ``delta @ kernels.T``, each row at its window, to some rows of images.

        `delta` has the windows of these rows.
        """
        transposed = kernels.swapaxes(-1, -2)
        if self._is_pointwise:
            matrix = images.reshape(*self._members(images), -1, self.window)
            multiply(delta, transposed, matrix[..., self.of_rows(rows), :])
            return
        columns = self._columns("columns", rows)
        matrix = self._as_matrix(columns)
        if self._is_transposed:
            multiply(kernels, delta.swapaxes(-1, -2), matrix.swapaxes(-1, -2))
        else:
            multiply(delta, transposed, matrix)
        self._add(columns, images[:, rows])

    def _add(self, columns: Array, images: Array) -> None:
        """Write the sum of columns, each at its window, to images."""
        with self.summing(images) as padded:
            windows = self._windows(padded)
            for index in self._offsets:
                part = windows[index]
                np.add(part, columns[index], out=part)

    @contextmanager
    def summing(self, images: Array) -> Iterator[Array]:
        """Context in which a sum goes to zeros of the padded size, and then to images."""
        padded = images
        if self._is_padded:
            shape = *images.shape[:2], *self._padded_size, self._n_channels
            padded = self._batch.pool.get_for_thread("scattered images", shape)
        padded[...] = 0
        yield padded
        if self._is_padded:
            np.copyto(images, padded[self._interior])

    def clear_padding(self, images: Array) -> None:
        """Set the steps after the end of each sequence to zero."""
        if self._context.lengths is not None:
            fill_padding(images[:, :, 0], self._context.lengths)

    def pad(self, x: Array, is_again: bool = False) -> Array:
        """Return images with zeros around them, and in place of the padding of sequences.

        Parameters
        ----------
        x : array
            The batch of images.
        is_again : bool, default=False
            Whether this is the second call for the same images.
        """
        images = x.reshape(self.image_shape)
        if not self._is_padded and self._context.lengths is None:
            return images
        padded = self._padded_buffer()[: len(images)]
        if not is_again:
            interior = padded[self._interior]
            np.copyto(interior, images)
            self.clear_padding(interior)
        return padded

    def _padded_buffer(self) -> Array:
        sizes = *self._padded_size, self._n_channels
        name = f"padded {'x'.join(map(str, sizes))} {self._context.index}"
        return self._batch.pool.get(name, (self._batch.n_estimators, self._batch.n_rows, *sizes))

    def _columns(self, name: str, rows: slice) -> Array:
        """Return the buffer of columns: the axes of windows before or after those of a window."""
        windows = rows.stop - rows.start, *self._output_size
        window = *self._kernel_size, self._n_channels
        shape = (*window, *windows) if self._is_transposed else (*windows, *window)
        return self._batch.pool.get_for_thread(name, (self._batch.n_estimators, *shape))

    def _windows(self, images: Array) -> Array:
        """Return a view of all windows of padded images, with the axes of the columns."""
        members, rows, height, width, channels = images.strides
        down, right = self._axes
        sizes = images.shape[1], *self._output_size
        strides = rows, height * down.stride, width * right.stride
        window = *self._kernel_size, self._n_channels
        window_strides = height * down.dilation, width * right.dilation, channels
        if self._is_transposed:
            sizes, window, strides, window_strides = window, sizes, window_strides, strides
        return as_strided(
            images, (len(images), *sizes, *window), (members, *strides, *window_strides)
        )

    def _as_matrix(self, columns: Array) -> Array:
        """Return a view of columns as matrices with a row for each window."""
        if self._is_transposed:
            return columns.reshape(*self._members(columns), self.window, -1).swapaxes(-1, -2)
        return columns.reshape(*self._members(columns), -1, self.window)

    def _members(self, array: Array) -> Shape:
        """Return the member axis of matrices; it is one if members share their rows."""
        return () if self._batch.n_estimators == 1 else array.shape[:1]

    @cached_property
    def _offsets(self) -> list[tuple[Any, ...]]:
        """Indices of columns whose windows do not overlap, which together are all columns."""
        (height, width), every = self._kernel_size, slice(None)
        offsets = list(np.ndindex(height, width))
        if self._is_transposed:
            return [(every, row, column) for row, column in offsets]
        if self._axes[1].dilation > 1:
            return [(every, every, every, every, row, column) for row, column in offsets]
        period = math.ceil(width / self._axes[1].stride)
        firsts = range(min(period, self._output_size[1]))
        return [
            (every, every, every, slice(first, None, period), row)
            for row in range(height)
            for first in firsts
        ]


def multiply(a: Array, b: Array, out: Array) -> None:
    """Write the product of two matrices, or of each of several, to `out`."""
    product = np.dot if out.ndim == 2 else np.matmul
    product(a, b, out=out)
