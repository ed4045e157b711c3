"""Passes of convolutions: windows copied to the rows of a matrix, and products with kernels.

One product of the columns computes a layer, and two its gradients.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..utils.arrays import Array, squeeze_member_axis
from .base import LayerContext, Shape, padding_mask
from .dense import RowSum

# The most values of columns that are computed at once: a megabyte in single precision. Those of a
# batch are kept for the backward pass if they are no more. Otherwise it is faster to copy them once
# again, a few rows at a time, than to read them from memory.
_CACHED_VALUES = 1 << 18

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


class Windows:
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
        self._parts = list(self._iter_parts())
        self._n_windows = math.prod(geometry.output_size)
        n_values = self._n_windows * self.window
        self._n_at_once = max(_CACHED_VALUES // n_values, 1)
        self._is_kept = is_kept and context.n_rows <= self._n_at_once
        if self._is_padded:
            # Nothing else writes to the border of this buffer.
            self._padded_buffer(context.n_rows)[...] = 0

    def iter_columns(self, images: Array, is_again: bool = False) -> Iterator[tuple[slice, Array]]:
        """Yield the columns of the windows of some rows, and which part of all windows they are.

        Parameters
        ----------
        images : array
            What `pad` has returned.
        is_again : bool, default=False
            Whether the columns of the same images have been yielded before.
        """
        n_rows, n_windows = self._context.n_rows, self._n_windows
        if self._is_pointwise:
            columns = images.reshape(*self._members(images), -1, self.window)
            yield slice(0, n_rows * n_windows), columns
            return
        name = f"columns {self._context.index}" if self._is_kept else "columns"
        for start in range(0, n_rows, self._n_at_once):
            part = images[:, start : start + self._n_at_once]
            stop = start + part.shape[1]
            columns = self._columns(name, stop - start)[: len(images)]
            if not (self._is_kept and is_again):
                np.copyto(columns, self._windows(part))
            yield slice(start * n_windows, stop * n_windows), self._as_matrix(columns)

    def scatter_product(self, delta: Array, kernels: Array, images: Array) -> None:
        """Write the sum of the rows of ``delta @ kernels.T``, each at its window, to images."""
        transposed = kernels.swapaxes(-1, -2)
        if self._is_pointwise:
            _multiply(delta, transposed, images.reshape(*self._members(images), -1, self.window))
            return
        for start in range(0, self._context.n_rows, self._n_at_once):
            part = images[:, start : start + self._n_at_once]
            stop = start + part.shape[1]
            rows = delta[..., start * self._n_windows : stop * self._n_windows, :]
            columns = self._columns("columns", stop - start)
            matrix = self._as_matrix(columns)
            if self._is_transposed:
                _multiply(kernels, rows.swapaxes(-1, -2), matrix.swapaxes(-1, -2))
            else:
                _multiply(rows, transposed, matrix)
            self._add(columns, part)

    def _add(self, columns: Array, images: Array) -> None:
        """Write the sum of columns, each at its window, to images."""
        with self.summing(images) as padded:
            windows = self._windows(padded)
            for index in self._parts:
                part = windows[index]
                np.add(part, columns[index], out=part)

    @contextmanager
    def summing(self, images: Array) -> Iterator[Array]:
        """Context in which a sum goes to zeros of the padded size, and then to images."""
        padded = images
        if self._is_padded:
            shape = *images.shape[:2], *self._geometry.padded_size, self._n_channels
            padded = self._context.pool.get("scattered images", shape)
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

    def _columns(self, name: str, n_rows: int) -> Array:
        """Return the buffer of columns: the axes of windows before or after those of a window."""
        windows = n_rows, *self._geometry.output_size
        window = *self._geometry.kernel_size, self._n_channels
        shape = (*window, *windows) if self._is_transposed else (*windows, *window)
        return self._context.pool.get(name, (self._context.n_estimators, *shape))

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

    def _iter_parts(self) -> Iterator[tuple[Any, ...]]:
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
        self._biases = context.parameters["kernel_biases"]
        self._pixels = context.scratch("biases", n_pixels, n_filters)
        shape = self._pixels.shape[:-2]
        self._rows = self._pixels.reshape(*shape, 1, n_pixels * n_filters)
        self._output_shape = *shape, -1, n_pixels * n_filters

    def add(self, out: Array) -> None:
        """Add the biases to the output of a batch."""
        np.copyto(self._pixels, self._biases)
        rows = out.reshape(self._output_shape)
        np.add(rows, self._rows, out=rows)


class KernelGradient:
    """Gradient of kernels, as a sum over parts of the windows.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    shape : tuple of int
        The shape of the kernels as matrices.
    """

    def __init__(self, context: LayerContext, shape: Shape) -> None:
        self._gradient = context.gradients["kernels"].reshape(shape)
        self._part = context.pool.get("kernel gradient", self._gradient.shape)

    def add(self, rows: slice, columns: Array, delta: Array) -> None:
        """Add the product of the columns of some windows and their `delta`."""
        transposed = columns.swapaxes(-1, -2)
        if rows.start == 0:
            _multiply(transposed, delta, self._gradient)
        else:
            _multiply(transposed, delta, self._part)
            np.add(self._gradient, self._part, out=self._gradient)


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
        self._windows = Windows(context, geometry, n_channels, is_kept=context.is_training)
        n_filters, members = context.output_shape[-1], (-1,) if context.n_estimators > 1 else ()
        self._output_shape = *members, context.n_rows * math.prod(geometry.output_size), n_filters
        shape = *members, self._windows.window, n_filters
        self._kernels = context.parameters["kernels"].reshape(shape)
        self._d_kernels = KernelGradient(context, shape) if context.is_training else None
        self._biases = TiledBiases(context) if "kernel_biases" in context.parameters else None
        self._d_biases, self._sum_rows = context.gradients.get("kernel_biases"), RowSum()

    def forward(self, x: Array, out: Array) -> None:
        self._images = self._windows.pad(x.reshape(self._windows.image_shape))
        z = out.reshape(self._output_shape)
        for rows, columns in self._windows.iter_columns(self._images):
            _multiply(columns, self._kernels, z[..., rows, :])
        if self._biases is not None:
            self._biases.add(out)

    def backward(self, delta: Array) -> Array:
        delta = delta.reshape(self._output_shape)
        if self._d_kernels is not None:
            for rows, columns in self._windows.iter_columns(self._images, is_again=True):
                self._d_kernels.add(rows, columns, delta[..., rows, :])
        if self._d_biases is not None:
            self._sum_rows(delta, self._d_biases)
        grad_input = self._context.grad_input
        if grad_input is None:
            return delta
        images = grad_input.reshape(self._windows.image_shape)
        self._windows.scatter_product(delta, self._kernels, images)
        self._windows.clear_padding(images)
        return grad_input


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
        self._windows = Windows(context, geometry, n_filters)
        members = (-1,) if context.n_estimators > 1 else ()
        n_windows = context.n_rows * math.prod(geometry.output_size)
        n_channels = math.prod(context.input_shape) // math.prod(geometry.output_size)
        self._input_shape = *members, n_windows, n_channels
        self._output_shape = *members, context.n_rows * math.prod(geometry.input_size), n_filters
        shape = *members, self._windows.window, n_channels
        self._kernels = context.parameters["kernels"].reshape(shape)
        self._d_kernels = KernelGradient(context, shape) if context.is_training else None
        self._biases = TiledBiases(context) if "kernel_biases" in context.parameters else None
        self._d_biases, self._sum_rows = context.gradients.get("kernel_biases"), RowSum()

    def forward(self, x: Array, out: Array) -> None:
        self._x = x.reshape(self._input_shape)
        images = out.reshape(self._windows.image_shape)
        self._windows.scatter_product(self._x, self._kernels, images)
        if self._biases is not None:
            self._biases.add(out)

    def backward(self, delta: Array) -> Array:
        if self._d_biases is not None:
            self._sum_rows(delta.reshape(self._output_shape), self._d_biases)
        grad_input = self._context.grad_input
        if grad_input is not None:
            d_x = grad_input.reshape(self._input_shape)
        images = self._windows.pad(delta.reshape(self._windows.image_shape))
        for rows, columns in self._windows.iter_columns(images):
            if self._d_kernels is not None:
                self._d_kernels.add(rows, columns, self._x[..., rows, :])
            if grad_input is not None:
                _multiply(columns, self._kernels, d_x[..., rows, :])
        return delta if grad_input is None else grad_input


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
        self._windows = Windows(context, geometry, n_channels)
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
            self._biases.add(out)

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
