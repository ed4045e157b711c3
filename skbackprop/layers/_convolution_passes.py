"""Passes of convolutions: one product of columns, and two for its gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise, product

import numpy as np

from ..utils.arrays import Array, squeeze_member_axis
from ..utils.parallel import parallel_for
from ._im2col import Im2Col, ImageWindows, multiply
from .base import BoundLayer, GroupSums, LayerContext, sum_rows


class TiledBiases:
    """Biases of all pixels of a row of an image, since NumPy adds long rows faster than short ones.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer. There may be no biases.
    """

    def __init__(self, context: LayerContext) -> None:
        n_pixels, n_filters = context.out_shape[-2:]
        self._n_before = math.prod(context.out_shape[1:-2])
        self._biases = context.parameters.get("kernel_biases")
        self._pixels = context.scratch("biases", n_pixels, n_filters)
        shape = self._pixels.shape[:-2]
        self._rows = self._pixels.reshape(*shape, 1, n_pixels * n_filters)
        self._output_shape = *shape, -1, n_pixels * n_filters

    def read(self) -> None:
        """Read the parameters of the current step."""
        if self._biases is not None:
            np.copyto(self._pixels, self._biases)

    def add(self, out: Array, rows: slice) -> None:
        """Add the biases to some rows of the output."""
        if self._biases is not None:
            part = slice(rows.start * self._n_before, rows.stop * self._n_before)
            pixels = out.reshape(self._output_shape)[..., part, :]
            np.add(pixels, self._rows, out=pixels)


# Threads sum the gradients of at most this many groups of parts. More groups take more memory.
_N_GROUPS = 4


class KernelSums:
    """Gradients of kernels and biases, as sums over parts of a batch.

    Groups of consecutive parts have sums of their own, which threads compute side by side.

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

    def __init__(
        self, context: LayerContext, kernels: Array, parts: Sequence[slice], n_positions: int
    ) -> None:
        self._pool, gradients = context.batch.pool, context.gradients
        n_groups = min(_N_GROUPS, len(parts))
        bounds = [len(parts) * group // n_groups for group in range(n_groups + 1)]
        self._groups = [parts[start:stop] for start, stop in pairwise(bounds)]
        d_kernels = gradients["kernels"].reshape(kernels.shape) if gradients else None
        self._sums = GroupSums(n_groups, d_kernels, gradients.get("kernel_biases"))
        self._ones = context.batch.ones(max(part.stop - part.start for part in parts) * n_positions)

    def run(self, backward_part: Callable[..., None]) -> None:
        """Call ``backward_part(rows, add)`` for each part, which passes its share to `add`."""

        def run_group(group: int) -> None:
            kernels, biases = self._sums.of_group(group)
            for i, rows in enumerate(self._groups[group]):
                backward_part(rows, partial(self._add, kernels, biases, i == 0))

        parallel_for(run_group, range(len(self._groups)))
        self._sums.add_up()

    def _add(
        self,
        kernels: Array | None,
        biases: Array | None,
        is_first: bool,
        columns: Array,
        factors: Array,
        delta: Array,
    ) -> None:
        """Add ``columns.T @ factors`` and the sum of the rows of `delta` to the sums of a group."""
        if kernels is not None:
            transposed = columns.swapaxes(-1, -2)
            self._accumulate(lambda out: multiply(transposed, factors, out), kernels, is_first)
        if biases is not None:
            self._accumulate(lambda out: sum_rows(delta, self._ones, out), biases, is_first)

    def _accumulate(self, write: Callable[[Array], None], total: Array, is_first: bool) -> None:
        """Write a share to the sum of a group if it is the first one, and add it otherwise."""
        if is_first:
            write(total)
        else:
            share = self._pool.get_for_thread("share of a sum", total.shape)
            write(share)
            np.add(total, share, out=total)


def bind_convolution(context: LayerContext, axes: ImageWindows) -> BoundLayer:
    """Return the passes of z = columns(x) W + b."""
    grad_input, n_filters = context.grad_input, context.out_shape[-1]
    n_channels = math.prod(context.input_shape) // math.prod(axis.n_inputs for axis in axes)
    windows = Im2Col(context, axes, n_channels, is_kept=context.batch.is_training)
    members = (-1,) if context.batch.n_estimators > 1 else ()
    z_shape = *members, context.batch.n_rows * windows.n_windows, n_filters
    kernels = context.parameters["kernels"].reshape(*members, windows.window, n_filters)
    biases = TiledBiases(context)
    sums = KernelSums(context, kernels, windows.parts, windows.n_windows)

    def forward(x: Array, out: Array) -> None:
        images, z = windows.pad(x), out.reshape(z_shape)
        biases.read()

        def forward_rows(rows: slice) -> None:
            multiply(windows.columns(images, rows), kernels, z[..., windows.of_rows(rows), :])
            biases.add(out, rows)

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

        sums.run(backward_rows)
        if grad_input is not None:
            windows.clear_padding(grad_input.reshape(windows.image_shape))

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
    biases = TiledBiases(context)
    sums = KernelSums(context, kernels, windows.parts, n_pixels)

    def forward(x: Array, out: Array) -> None:
        matrix, images = x.reshape(x_shape), out.reshape(windows.image_shape)
        biases.read()

        def forward_rows(rows: slice) -> None:
            x_rows = matrix[..., windows.of_rows(rows), :]
            windows.scatter_product(x_rows, kernels, images, rows)
            biases.add(out, rows)

        parallel_for(forward_rows, windows.parts)

    def backward(x: Array, out: Array, delta: Array) -> None:
        matrix, d_z, d_images = x.reshape(x_shape), delta.reshape(z_shape), windows.pad(delta)

        def backward_rows(rows: slice, add: Callable[..., None]) -> None:
            of_rows, columns = windows.of_rows(rows), windows.columns(d_images, rows)
            pixels = slice(rows.start * n_pixels, rows.stop * n_pixels)
            add(columns, matrix[..., of_rows, :], d_z[..., pixels, :])
            if grad_input is not None:
                multiply(columns, kernels, grad_input.reshape(x_shape)[..., of_rows, :])

        sums.run(backward_rows)

    return forward, backward


def bind_depthwise_convolution(context: LayerContext, axes: ImageWindows) -> BoundLayer:
    """Return the passes of a convolution of each channel: a sum over the pixels of the kernel."""
    batch, grad_input, (height, width, n_channels) = (
        context.batch,
        context.grad_input,
        context.out_shape[1:],
    )
    # Each value of the kernel meets these pixels of the padded images, over all windows.
    by_axis = [[axis.slice_padded(offset) for offset in range(axis.size)] for axis in axes]
    offsets = list(product(*by_axis))
    windows, biases = Im2Col(context, axes, n_channels), TiledBiases(context)
    shape = batch.n_estimators, len(offsets), 1, n_channels
    kernels, d_biases = (
        context.parameters["kernels"].reshape(shape),
        context.gradients.get("kernel_biases"),
    )
    # Each pixel of a row has a copy of the kernels, since NumPy multiplies long rows faster.
    pixel_kernels = batch.pool.get("pixel kernels", (*shape[:2], width, n_channels))
    z_shape = batch.n_estimators, batch.n_rows, height, width, n_channels
    products = batch.pool.get("products", z_shape)
    n_pixels = batch.n_rows * height * width
    matrix = squeeze_member_axis(products.reshape(len(products), n_pixels, n_channels))
    ones = batch.ones(n_pixels) if context.gradients else None
    d_kernels: list[Array] = []
    if context.gradients:
        by_offset = context.gradients["kernels"].reshape(shape).swapaxes(0, 1)
        d_kernels = [squeeze_member_axis(d_kernel) for d_kernel in by_offset]

    def forward(x: Array, out: Array) -> None:
        images, z = windows.pad(x), out.reshape(z_shape)
        np.copyto(pixel_kernels, kernels)
        for i, (rows, columns) in enumerate(offsets):
            factors = pixel_kernels[:, i, None, None]
            np.multiply(images[:, :, rows, columns], factors, out=products if i else z)
            if i:
                np.add(z, products, out=z)
        biases.read()
        biases.add(out, slice(0, batch.n_rows))

    def backward(x: Array, out: Array, delta: Array) -> None:
        images, d_z = windows.pad(x, is_again=True), delta.reshape(z_shape)
        if ones is not None:
            for (rows, columns), d_kernel in zip(offsets, d_kernels, strict=True):
                np.multiply(images[:, :, rows, columns], d_z, out=products)
                sum_rows(matrix, ones, d_kernel)
            if d_biases is not None:
                sum_rows(delta.reshape(matrix.shape), ones, d_biases)
        if grad_input is None:
            return
        np.copyto(pixel_kernels, kernels)
        with windows.summing(grad_input.reshape(windows.image_shape)) as d_images:
            for i, (rows, columns) in enumerate(offsets):
                np.multiply(d_z, pixel_kernels[:, i, None, None], out=products)
                pixels = d_images[:, :, rows, columns]
                np.add(pixels, products, out=pixels)

    return forward, backward
