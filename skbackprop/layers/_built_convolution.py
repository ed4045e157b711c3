"""Forward and backward pass of convolutions, by im2col and matrix products.

One product of the columns computes a layer, and two its gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..utils.arrays import Array, squeeze_member_axis
from ..utils.parallel import parallel_for, split_rows
from .base import LayerContext, Shape, padding_mask
from .dense import RowSum

# The most values of columns that are computed at once: four megabytes in single precision. Smaller
# parts make threads wait for Python's lock. The columns of a batch are kept for the backward pass
# if they are no more. Otherwise it is faster to copy them once again, a few rows at a time, than to
# read them from memory.
_CACHED_VALUES = 1 << 20

# A row of a batch of 32 rows or more has at most this share of them.
CACHED_VALUES_OF_ROW = _CACHED_VALUES // 32

# Windows with fewer values than these side by side are copied column by column: NumPy copies and
# adds long runs of values faster than short ones.
_SHORT_RUN = 12

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


class Im2Col:
    """Windows of images as the rows of a matrix of columns, and the sum of such rows to images.

    All images have the shape (n_estimators or 1, n_rows, height, width, channels). The matrix has
    a row for each window, in the order of rows and positions, and a column for each value of a
    window. With several members there is a matrix for each of them.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    geometry : ConvolutionGeometry
        The sizes.
    n_channels : int
        The number of channels of the images.
    is_kept : bool, default=False
        Whether the columns are needed again, and kept unless they are many.
    """

    def __init__(
        self,
        context: LayerContext,
        geometry: ConvolutionGeometry,
        n_channels: int,
        is_kept: bool = False,
    ) -> None:
        self._context, self._geometry, self._n_channels = context, geometry, n_channels
        (height, width), (top, _), (left, _) = geometry.input_size, *geometry.padding
        self.image_shape = -1, context.n_rows, height, width, n_channels
        self._interior = np.s_[:, :, top : top + height, left : left + width]
        self._is_padded = geometry.padded_size != geometry.input_size
        self._is_pointwise = geometry.kernel_size == geometry.strides == (1, 1)
        self.window = math.prod(geometry.kernel_size) * n_channels
        run = geometry.kernel_size[1] * n_channels
        self._is_transposed = run < _SHORT_RUN and run < geometry.output_size[1]
        self._offsets = list(self._iter_offsets())
        self._n_windows = math.prod(geometry.output_size)
        self.parts = split_rows(context.n_rows, _CACHED_VALUES // (self._n_windows * self.window))
        self._is_kept = is_kept and len(self.parts) == 1
        if self._is_padded:
            # Nothing else writes to the border of this buffer.
            self._padded_buffer(context.n_rows)[...] = 0

    def of_rows(self, rows: slice) -> slice:
        """Return which windows of a batch are those of some rows."""
        return slice(rows.start * self._n_windows, rows.stop * self._n_windows)

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
            _multiply(delta, transposed, matrix[..., self.of_rows(rows), :])
            return
        columns = self._columns("columns", rows)
        matrix = self._as_matrix(columns)
        if self._is_transposed:
            _multiply(kernels, delta.swapaxes(-1, -2), matrix.swapaxes(-1, -2))
        else:
            _multiply(delta, transposed, matrix)
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
            shape = *images.shape[:2], *self._geometry.padded_size, self._n_channels
            padded = self._context.pool.get_for_thread("scattered images", shape)
        padded[...] = 0
        yield padded
        if self._is_padded:
            np.copyto(images, padded[self._interior])

    def clear_padding(self, images: Array) -> None:
        """Set the steps after the end of each sequence to zero."""
        if self._context.lengths is not None:
            is_padding = padding_mask(self._context.lengths, images.shape[3])
            np.copyto(images, 0, where=is_padding[:, :, None, :, None])

    def pad(self, images: Array) -> Array:
        """Return the images with zeros around them, and in place of the padding of sequences."""
        if not self._is_padded and self._context.lengths is None:
            return images
        padded = self._padded_buffer(self._context.n_rows)[: len(images)]
        interior = padded[self._interior]
        np.copyto(interior, images)
        self.clear_padding(interior)
        return padded

    def _padded_buffer(self, n_rows: int) -> Array:
        sizes = *self._geometry.padded_size, self._n_channels
        name = f"padded {'x'.join(map(str, sizes))} {self._context.index}"
        return self._context.pool.get(name, (self._context.n_estimators, n_rows, *sizes))

    def _columns(self, name: str, rows: slice) -> Array:
        """Return the buffer of columns: the axes of windows before or after those of a window."""
        windows = rows.stop - rows.start, *self._geometry.output_size
        window = *self._geometry.kernel_size, self._n_channels
        shape = (*window, *windows) if self._is_transposed else (*windows, *window)
        return self._context.pool.get_for_thread(name, (self._context.n_estimators, *shape))

    def _windows(self, images: Array) -> Array:
        """Return a view of all windows of padded images, with the axes of the columns."""
        members, rows, height, width, channels = images.strides
        (down, right), (below, beside) = self._geometry.strides, self._geometry.dilation
        sizes = images.shape[1], *self._geometry.output_size
        strides = rows, height * down, width * right
        window = *self._geometry.kernel_size, self._n_channels
        window_strides = height * below, width * beside, channels
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
        return () if self._context.n_estimators == 1 else array.shape[:1]

    def _iter_offsets(self) -> Iterator[tuple[Any, ...]]:
        """Yield indices of columns whose windows do not overlap, which together are all columns."""
        height, width = self._geometry.kernel_size
        rows = slice(None)
        if self._is_transposed:
            for row, column in np.ndindex(height, width):
                yield rows, row, column
        elif self._geometry.dilation[1] > 1:
            for row, column in np.ndindex(height, width):
                yield rows, rows, rows, rows, row, column
        else:
            period = math.ceil(width / self._geometry.strides[1])
            for row, first in np.ndindex(height, min(period, self._geometry.output_size[1])):
                yield rows, rows, rows, slice(first, None, period), row


class TiledBiases:
    """Biases of all pixels of a row of an image, since NumPy adds long rows faster than short ones.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    """

    def __init__(self, context: LayerContext) -> None:
        n_pixels, n_filters = context.output_shape[-2:]
        self._n_before = math.prod(context.output_shape[:-2])
        self._biases = context.parameters["kernel_biases"]
        self._pixels = context.scratch("biases", n_pixels, n_filters)
        shape = self._pixels.shape[:-2]
        self._rows = self._pixels.reshape(*shape, 1, n_pixels * n_filters)
        self._output_shape = *shape, -1, n_pixels * n_filters

    def read(self) -> None:
        """Read the parameters of the current step."""
        np.copyto(self._pixels, self._biases)

    def add(self, out: Array, rows: slice) -> None:
        """Add the biases to some rows of the output."""
        part = slice(rows.start * self._n_before, rows.stop * self._n_before)
        pixels = out.reshape(self._output_shape)[..., part, :]
        np.add(pixels, self._rows, out=pixels)


# Groups of parts of a batch, over which gradients of parameters are summed. More take more memory.
_N_GROUPS = 4


class KernelGradients:
    """Gradients of kernels and biases, as sums over parts of a batch.

    Groups of consecutive parts have sums of their own, which threads can compute side by side.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    shape : tuple of int
        The shape of the kernels as matrices.
    parts : sequence of slice
        The parts.

    Attributes
    ----------
    groups : list of sequences of slice
        The parts of each group.
    """

    def __init__(self, context: LayerContext, shape: Shape, parts: Sequence[slice]) -> None:
        self._pool, self._sum_rows, self._is_used = context.pool, RowSum(), context.is_training
        n_groups = min(_N_GROUPS, len(parts))
        bounds = [len(parts) * group // n_groups for group in range(n_groups + 1)]
        self.groups = [parts[start:stop] for start, stop in pairwise(bounds)]
        if self._is_used:
            self._kernels = self._sums("kernels", context.gradients["kernels"].reshape(shape))
            biases = context.gradients.get("kernel_biases")
            self._biases = None if biases is None else self._sums("biases", biases)

    def _sums(self, name: str, total: Array) -> list[Array]:
        """Return an array for the sum of each group, of which the first becomes the total."""
        others = self._pool.get(f"sums of {name}", (len(self.groups) - 1, *total.shape))
        return [total, *others]

    def add(self, group: int, rows: slice, columns: Array, factors: Array, delta: Array) -> None:
        """Add ``columns.T @ factors`` and the sum of the rows of `delta`, for a part of a group."""
        if not self._is_used:
            return
        is_first, transposed = rows == self.groups[group][0], columns.swapaxes(-1, -2)
        kernels = self._target(self._kernels, group, is_first)
        _multiply(transposed, factors, kernels)
        if not is_first:
            np.add(self._kernels[group], kernels, out=self._kernels[group])
        if self._biases is not None:
            biases = self._target(self._biases, group, is_first)
            self._sum_rows(delta, biases)
            if not is_first:
                np.add(self._biases[group], biases, out=self._biases[group])

    def _target(self, sums: list[Array], group: int, is_first: bool) -> Array:
        """Return the array for the product of a part: the sum of the group if it is the first."""
        total = sums[group]
        return total if is_first else self._pool.get_for_thread("part of a sum", total.shape)

    def finish(self) -> None:
        """Write the sums over all groups to the gradients."""
        if self._is_used:
            for total, *others in filter(None, (self._kernels, self._biases)):
                for other in others:
                    np.add(total, other, out=total)


class BuiltConvolution:
    """Convolution bound to its arrays: z = columns(x) W + b.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    geometry : ConvolutionGeometry
        The sizes.
    """

    def __init__(self, context: LayerContext, geometry: ConvolutionGeometry) -> None:
        self._context = context
        n_channels = math.prod(context.input_shape) // math.prod(geometry.input_size)
        self._windows = Im2Col(context, geometry, n_channels, is_kept=context.is_training)
        n_filters, members = context.output_shape[-1], (-1,) if context.n_estimators > 1 else ()
        self._output_shape = *members, context.n_rows * math.prod(geometry.output_size), n_filters
        shape = *members, self._windows.window, n_filters
        self._kernels = context.parameters["kernels"].reshape(shape)
        self._biases = TiledBiases(context) if "kernel_biases" in context.parameters else None
        self._sums = KernelGradients(context, shape, self._windows.parts)

    def forward(self, x: Array, out: Array) -> None:
        self._images, self._out = self._windows.pad(x.reshape(self._windows.image_shape)), out
        if self._biases is not None:
            self._biases.read()
        parallel_for(self._forward_rows, self._windows.parts)

    def _forward_rows(self, rows: slice) -> None:
        z = self._out.reshape(self._output_shape)[..., self._windows.of_rows(rows), :]
        _multiply(self._windows.columns(self._images, rows), self._kernels, z)
        if self._biases is not None:
            self._biases.add(self._out, rows)

    def backward(self, delta: Array) -> Array:
        self._delta = delta.reshape(self._output_shape)
        parallel_for(self._backward_group, range(len(self._sums.groups)))
        self._sums.finish()
        grad_input = self._context.grad_input
        if grad_input is None:
            return delta
        self._windows.clear_padding(grad_input.reshape(self._windows.image_shape))
        return grad_input

    def _backward_group(self, group: int) -> None:
        windows, grad_input = self._windows, self._context.grad_input
        for rows in self._sums.groups[group]:
            delta = self._delta[..., windows.of_rows(rows), :]
            if self._context.is_training:
                columns = windows.columns(self._images, rows, is_again=True)
                self._sums.add(group, rows, columns, delta, delta)
            if grad_input is not None:
                images = grad_input.reshape(windows.image_shape)
                windows.scatter_product(delta, self._kernels, images, rows)


class BuiltTransposedConvolution:
    """Transposed convolution bound to its arrays, with the passes of a convolution exchanged.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    geometry : ConvolutionGeometry
        The sizes of the convolution, from the output to the input.
    """

    def __init__(self, context: LayerContext, geometry: ConvolutionGeometry) -> None:
        self._context, n_filters = context, context.output_shape[-1]
        self._windows = Im2Col(context, geometry, n_filters)
        members = (-1,) if context.n_estimators > 1 else ()
        n_windows = context.n_rows * math.prod(geometry.output_size)
        n_channels = math.prod(context.input_shape) // math.prod(geometry.output_size)
        self._input_shape = *members, n_windows, n_channels
        self._n_pixels = math.prod(geometry.input_size)
        self._output_shape = *members, context.n_rows * self._n_pixels, n_filters
        shape = *members, self._windows.window, n_channels
        self._kernels = context.parameters["kernels"].reshape(shape)
        self._biases = TiledBiases(context) if "kernel_biases" in context.parameters else None
        self._sums = KernelGradients(context, shape, self._windows.parts)

    def forward(self, x: Array, out: Array) -> None:
        self._x, self._out = x.reshape(self._input_shape), out
        if self._biases is not None:
            self._biases.read()
        parallel_for(self._forward_rows, self._windows.parts)

    def _forward_rows(self, rows: slice) -> None:
        images = self._out.reshape(self._windows.image_shape)
        x = self._x[..., self._windows.of_rows(rows), :]
        self._windows.scatter_product(x, self._kernels, images, rows)
        if self._biases is not None:
            self._biases.add(self._out, rows)

    def backward(self, delta: Array) -> Array:
        self._delta = delta.reshape(self._output_shape)
        self._images = self._windows.pad(delta.reshape(self._windows.image_shape))
        parallel_for(self._backward_group, range(len(self._sums.groups)))
        self._sums.finish()
        grad_input = self._context.grad_input
        return delta if grad_input is None else grad_input

    def _backward_group(self, group: int) -> None:
        grad_input = self._context.grad_input
        for rows in self._sums.groups[group]:
            of_rows, columns = (
                self._windows.of_rows(rows),
                self._windows.columns(self._images, rows),
            )
            pixels = slice(rows.start * self._n_pixels, rows.stop * self._n_pixels)
            x, delta = self._x[..., of_rows, :], self._delta[..., pixels, :]
            self._sums.add(group, rows, columns, x, delta)
            if grad_input is not None:
                d_x = grad_input.reshape(self._input_shape)[..., of_rows, :]
                _multiply(columns, self._kernels, d_x)


class BuiltDepthwiseConvolution:
    """Convolution of each channel bound to its arrays: a sum over the pixels of the kernel.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    geometry : ConvolutionGeometry
        The sizes.
    """

    def __init__(self, context: LayerContext, geometry: ConvolutionGeometry) -> None:
        self._context, (height, width, n_channels) = context, context.output_shape
        n_members, n_rows, n_offsets = context.n_estimators, context.n_rows, geometry.kernel_size
        self._slices = [geometry.window_slices(*offset) for offset in np.ndindex(n_offsets)]
        self._windows = Im2Col(context, geometry, n_channels)
        parameters, gradients = context.parameters, context.gradients
        shape = n_members, len(self._slices), 1, n_channels
        self._kernels = parameters["kernels"].reshape(shape)
        # The kernels of each pixel of a row, since NumPy multiplies long rows faster.
        self._pixels = context.pool.get("pixel kernels", (*shape[:2], width, n_channels))
        self._output_shape = n_members, n_rows, height, width, n_channels
        self._products = context.pool.get("products", self._output_shape)
        matrix_shape = n_members, n_rows * height * width, n_channels
        self._matrix = squeeze_member_axis(self._products.reshape(matrix_shape))
        self._sum_rows, self._d_biases = RowSum(), gradients.get("kernel_biases")
        self._d_kernels: list[Array] = []
        if context.is_training:
            d_kernels = gradients["kernels"].reshape(shape).swapaxes(0, 1)
            self._d_kernels = [squeeze_member_axis(own) for own in d_kernels]
        self._biases = TiledBiases(context) if "kernel_biases" in parameters else None
        self._rows = slice(0, n_rows)

    def forward(self, x: Array, out: Array) -> None:
        self._images = self._windows.pad(x.reshape(self._windows.image_shape))
        np.copyto(self._pixels, self._kernels)
        total = out.reshape(self._output_shape)
        for i, (rows, columns) in enumerate(self._slices):
            pixels = self._images[:, :, rows, columns]
            product = total if i == 0 else self._products
            np.multiply(pixels, self._pixels[:, i, None, None], out=product)
            if i > 0:
                np.add(total, product, out=total)
        if self._biases is not None:
            self._biases.read()
            self._biases.add(out, self._rows)

    def backward(self, delta: Array) -> Array:
        delta = delta.reshape(self._output_shape)
        for (rows, columns), d_kernel in zip(self._slices, self._d_kernels, strict=False):
            np.multiply(self._images[:, :, rows, columns], delta, out=self._products)
            self._sum_rows(self._matrix, d_kernel)
        if self._d_biases is not None:
            self._sum_rows(
                squeeze_member_axis(delta.reshape(len(delta), -1, delta.shape[-1])), self._d_biases
            )
        grad_input = self._context.grad_input
        if grad_input is None:
            return delta
        np.copyto(self._pixels, self._kernels)
        with self._windows.summing(grad_input.reshape(self._windows.image_shape)) as images:
            for i, (rows, columns) in enumerate(self._slices):
                pixels = images[:, :, rows, columns]
                np.multiply(delta, self._pixels[:, i, None, None], out=self._products)
                np.add(pixels, self._products, out=pixels)
        return grad_input


class BuiltUpSampling:
    """Repeated pixels.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    size : (int, int)
        How often each row and each column is repeated.
    """

    def __init__(self, context: LayerContext, size: Pair) -> None:
        self._context = context
        (height, width), (down, right) = context.input_shape[:2], size
        self._copies = list(np.ndindex(size))
        self._input_shape = -1, context.n_rows, height, width, math.prod(context.input_shape[2:])
        self._output_shape = *self._input_shape[:3], down, width, right, self._input_shape[-1]

    def forward(self, x: Array, out: Array) -> None:
        images = x.reshape(self._input_shape)
        np.copyto(out.reshape(self._output_shape), images[:, :, :, None, :, None])

    def backward(self, delta: Array) -> Array:
        grad_input = self._context.grad_input
        if grad_input is None:
            return delta
        total, copies = grad_input.reshape(self._input_shape), delta.reshape(self._output_shape)
        np.copyto(total, copies[:, :, :, 0, :, 0])
        for row, column in self._copies[1:]:
            np.add(total, copies[:, :, :, row, :, column], out=total)
        return grad_input


def _multiply(a: Array, b: Array, out: Array) -> None:
    """Write the product of two matrices, or of each of several, to `out`."""
    product = np.dot if out.ndim == 2 else np.matmul
    product(a, b, out=out)
