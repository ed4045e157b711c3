"""Passes of convolutions: windows copied to columns, one product, and two for the gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import pairwise, product
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..utils.arrays import Array, squeeze_member_axis
from ..utils.parallel import parallel_for, split_rows
from ._windows import AxisWindows
from .base import BoundLayer, LayerContext, Shape, parallelize_sums, sum_rows

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
        top, left = rows.n_before, columns.n_before
        self._interior = np.s_[:, :, top : top + size[0], left : left + size[1]]
        self._is_pointwise = all(axis.size == axis.stride == 1 for axis in windows)
        self._kernel_size = rows.size, columns.size
        self._output_size = rows.n_outputs, columns.n_outputs
        self.window = math.prod(self._kernel_size) * n_channels
        run = columns.size * n_channels
        is_short = run < _SHORT_RUN and run < columns.n_outputs
        self._is_transposed = is_short and not self._is_pointwise
        self.n_windows = math.prod(self._output_size)
        n_at_once = _CACHED_VALUES // (self.n_windows * self.window)
        self.parts = split_rows(self._batch.n_rows, n_at_once)
        self._is_kept = is_kept and len(self.parts) == 1
        self._padded: Array | None = None
        if self._is_padded or self._batch.takes_padding:
            sizes = *self._padded_size, n_channels
            name = f"padded {'x'.join(map(str, sizes))} {context.index}"
            shape = self._batch.n_estimators, self._batch.n_rows, *sizes
            # Nothing else writes to the border of this buffer.
            self._padded = self._batch.pool.get(name, shape)
            self._padded[...] = 0

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
            return self._as_matrix(images)[..., self.of_rows(rows), :]
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
            multiply(delta, transposed, self._as_matrix(images)[..., self.of_rows(rows), :])
            return
        columns = self._columns("columns", rows)
        matrix = self._as_matrix(columns)
        if self._is_transposed:
            multiply(kernels, delta.swapaxes(-1, -2), matrix.swapaxes(-1, -2))
        else:
            multiply(delta, transposed, matrix)
        with self.summing(images[:, rows]) as padded:
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
        if self._padded is None or not (self._is_padded or self._context.lengths is not None):
            return images
        padded = self._padded[: len(images)]
        if not is_again:
            interior = padded[self._interior]
            np.copyto(interior, images)
            self._context.fill_padding(interior)
        return padded

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
        """Return a view of columns, or of images, as matrices with a row for each window."""
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


def tile_biases(context: LayerContext) -> Array | None:
    """Return the biases of all pixels of a row of the output, if the layer has biases.

    NumPy adds long rows faster than short ones.
    """
    biases = context.parameters.get("kernel_biases")
    if biases is None:
        return None
    pixels = context.scratch("biases", *context.out_shape[-2:])
    np.copyto(pixels, biases)
    return pixels.reshape(*pixels.shape[:-2], 1, -1)


def add_biases(context: LayerContext, biases: Array | None, out: Array, rows: slice) -> None:
    """Add biases as `tile_biases` returns them to some rows of the output."""
    if biases is not None:
        n_before = math.prod(context.out_shape[1:-2])
        part = slice(rows.start * n_before, rows.stop * n_before)
        pixels = out.reshape(*biases.shape[:-2], -1, biases.shape[-1])[..., part, :]
        np.add(pixels, biases, out=pixels)


# Threads sum the gradients of at most this many groups of parts. More groups take more memory.
_N_GROUPS = 4


def bind_kernel_gradients(
    context: LayerContext, kernels: Array, parts: Sequence[slice], n_positions: int
) -> Callable[[Callable[..., None]], object]:
    """Return a function that sums the gradients of kernels and biases over parts of a batch.

    The function calls ``backward_part(rows, add)`` for each part, which passes its share by
    ``add(columns, factors, delta)``. It adds ``columns.T @ factors`` to the gradient of the
    kernels, and the rows of `delta` to that of the biases. Groups of consecutive parts have sums of
    their own, which threads compute side by side.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    kernels : array
        The kernels as matrices.
    parts : sequence of slice
        The rows of each part.
    n_positions : int
        The number of positions of a row of the output.
    """
    pool, gradients = context.batch.pool, context.gradients
    n_groups = min(_N_GROUPS, len(parts))
    bounds = [len(parts) * group // n_groups for group in range(n_groups + 1)]
    groups = [parts[start:stop] for start, stop in pairwise(bounds)]
    ones = context.batch.ones(max(part.stop - part.start for part in parts) * n_positions)

    def add(
        totals: Sequence[Array | None], is_first: bool, columns: Array, factors: Array, delta: Array
    ) -> None:
        products = (multiply, columns.swapaxes(-1, -2), factors), (sum_rows, delta, ones)
        for total, (write, a, b) in zip(totals, products, strict=True):
            if total is None:
                continue
            share = total if is_first else pool.get_for_thread("share of a sum", total.shape)
            write(a, b, share)
            if not is_first:
                np.add(total, share, out=total)

    def backward_group(
        group: Sequence[slice],
        d_kernels: Array | None,
        d_biases: Array | None,
        backward_part: Callable[..., None],
    ) -> None:
        for rows in group:
            backward_part(rows, partial(add, (d_kernels, d_biases), rows is group[0]))

    d_kernels = gradients["kernels"].reshape(kernels.shape) if gradients else None
    return parallelize_sums(backward_group, groups, d_kernels, gradients.get("kernel_biases"))


def bind_convolution(context: LayerContext, axes: ImageWindows) -> BoundLayer:
    """Return the passes of z = columns(x) W + b."""
    grad_input, n_filters = context.grad_input, context.out_shape[-1]
    n_channels = math.prod(context.input_shape) // math.prod(axis.n_inputs for axis in axes)
    windows = Im2Col(context, axes, n_channels, is_kept=bool(context.gradients))
    members = (-1,) if context.batch.n_estimators > 1 else ()
    z_shape = *members, context.batch.n_rows * windows.n_windows, n_filters
    kernels = context.parameters["kernels"].reshape(*members, windows.window, n_filters)
    add_up = bind_kernel_gradients(context, kernels, windows.parts, windows.n_windows)

    def forward(x: Array, out: Array) -> None:
        images, z, biases = windows.pad(x), out.reshape(z_shape), tile_biases(context)

        def forward_rows(rows: slice) -> None:
            multiply(windows.columns(images, rows), kernels, z[..., windows.of_rows(rows), :])
            add_biases(context, biases, out, rows)

        parallel_for(forward_rows, windows.parts)

    def backward(x: Array, out: Array, delta: Array) -> None:
        images, d_z = windows.pad(x, is_again=True), delta.reshape(z_shape)

        def backward_rows(rows: slice, add: Callable[..., None]) -> None:
            d_rows = d_z[..., windows.of_rows(rows), :]
            if context.gradients:
                add(windows.columns(images, rows, is_again=True), d_rows, d_rows)
            if grad_input is not None:
                d_images = grad_input.reshape(windows.image_shape)
                windows.scatter_product(d_rows, kernels, d_images, rows)

        add_up(backward_rows)
        if grad_input is not None:
            context.fill_padding(grad_input)

    return forward, backward


def bind_transposed_convolution(context: LayerContext, axes: ImageWindows) -> BoundLayer:
    """Return the passes of a convolution from the output to the input, exchanged."""
    grad_input, n_filters = context.grad_input, context.out_shape[-1]
    windows, n_pixels = Im2Col(context, axes, n_filters), math.prod(a.n_inputs for a in axes)
    members, n_rows = (-1,) if context.batch.n_estimators > 1 else (), context.batch.n_rows
    n_channels = math.prod(context.input_shape) // windows.n_windows
    x_shape = *members, n_rows * windows.n_windows, n_channels
    z_shape = *members, n_rows * n_pixels, n_filters
    kernels = context.parameters["kernels"].reshape(*members, windows.window, n_channels)
    add_up = bind_kernel_gradients(context, kernels, windows.parts, n_pixels)

    def forward(x: Array, out: Array) -> None:
        matrix, images = x.reshape(x_shape), out.reshape(windows.image_shape)
        biases = tile_biases(context)

        def forward_rows(rows: slice) -> None:
            x_rows = matrix[..., windows.of_rows(rows), :]
            windows.scatter_product(x_rows, kernels, images, rows)
            add_biases(context, biases, out, rows)

        parallel_for(forward_rows, windows.parts)

    def backward(x: Array, out: Array, delta: Array) -> None:
        matrix, d_z, d_images = x.reshape(x_shape), delta.reshape(z_shape), windows.pad(delta)

        def backward_rows(rows: slice, add: Callable[..., None]) -> None:
            of_rows, columns = windows.of_rows(rows), windows.columns(d_images, rows)
            pixels = slice(rows.start * n_pixels, rows.stop * n_pixels)
            add(columns, matrix[..., of_rows, :], d_z[..., pixels, :])
            if grad_input is not None:
                multiply(columns, kernels, grad_input.reshape(x_shape)[..., of_rows, :])

        add_up(backward_rows)

    return forward, backward


def bind_depthwise_convolution(context: LayerContext, axes: ImageWindows) -> BoundLayer:
    """Return the passes of a convolution of each channel: a sum over the pixels of the kernel."""
    batch, grad_input = context.batch, context.grad_input
    height, width, n_channels = context.out_shape[1:]
    # Each value of the kernel meets these pixels of the padded images, over all windows.
    by_axis = [[axis.slice_padded(offset) for offset in range(axis.size)] for axis in axes]
    offsets, windows = list(product(*by_axis)), Im2Col(context, axes, n_channels)
    shape = batch.n_estimators, len(offsets), 1, n_channels
    kernels = context.parameters["kernels"].reshape(shape)
    # Each pixel of a row has a copy of the kernels, since NumPy multiplies long rows faster.
    pixel_kernels = batch.pool.get("pixel kernels", (*shape[:2], width, n_channels))
    z_shape = batch.n_estimators, batch.n_rows, height, width, n_channels
    products = batch.pool.get("products", z_shape)
    n_pixels = batch.n_rows * height * width
    matrix = squeeze_member_axis(products.reshape(len(products), n_pixels, n_channels))
    ones, gradients = batch.ones(n_pixels), context.gradients

    def forward(x: Array, out: Array) -> None:
        images, z = windows.pad(x), out.reshape(z_shape)
        np.copyto(pixel_kernels, kernels)
        for i, (rows, columns) in enumerate(offsets):
            factors = pixel_kernels[:, i, None, None]
            np.multiply(images[:, :, rows, columns], factors, out=products if i else z)
            if i:
                np.add(z, products, out=z)
        add_biases(context, tile_biases(context), out, slice(0, batch.n_rows))

    def backward(x: Array, out: Array, delta: Array) -> None:
        images, d_z = windows.pad(x, is_again=True), delta.reshape(z_shape)
        if gradients:
            d_kernels = gradients["kernels"].reshape(shape)
            for i, (rows, columns) in enumerate(offsets):
                np.multiply(images[:, :, rows, columns], d_z, out=products)
                sum_rows(matrix, ones, squeeze_member_axis(d_kernels[:, i]))
        if "kernel_biases" in gradients:
            sum_rows(delta.reshape(matrix.shape), ones, gradients["kernel_biases"])
        if grad_input is None:
            return
        np.copyto(pixel_kernels, kernels)
        with windows.summing(grad_input.reshape(windows.image_shape)) as d_images:
            for i, (rows, columns) in enumerate(offsets):
                np.multiply(d_z, pixel_kernels[:, i, None, None], out=products)
                pixels = d_images[:, :, rows, columns]
                np.add(pixels, products, out=pixels)

    return forward, backward
