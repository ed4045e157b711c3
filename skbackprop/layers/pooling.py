"""Pooling: the maximum or the mean of each window of a sequence or image, or of all of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from ..utils.arrays import BLOCK, Array, max_by_halves
from ..utils.parallel import parallel_for, split_rows
from ._windows import AxisWindows, Pair, WindowLayer, validate_sizes
from .base import BoundLayer, Layer, LayerContext, ParameterFreeLayer, Shape
from .convolution import make_upsampling_layers
from .reshaping import Reshape


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
            for values, of in map(windows.get_slices, range(windows.size))
        ]
        self._reaches_over = windows.n_before > 0 or windows.n_after > 0
        self._is_pairwise = windows.are_adjacent and windows.size == 2
        # The winner of a window is the offset of its largest value.
        self._winners: Array | None = None
        if is_max and context.grad_input is not None:
            name, dtype = f"winners {axis} {context.index}", np.min_scalar_type(windows.size - 1)
            shape = context.batch.n_estimators, context.batch.n_rows, *self.output_shape
            self._winners = self._pool.get(name, shape, dtype)

    def forward(self, x: Array, out: Array, rows: slice) -> None:
        """Write the pooled values of some rows to `out`."""
        winners = None if self._winners is None else self._winners[:, rows]
        if self._is_pairwise:
            first, second = (x[values] for values, _ in self._slices)
            if winners is not None:
                np.greater(second, first, out=winners.view(np.bool_))
            self._combine(first, second, out=out)
            return
        if self._windows.n_before:
            out.fill(self._start)
            first_offset = 0
        else:
            np.copyto(out, x[self._slices[0][0]])
            first_offset = 1
        if winners is not None:
            winners.fill(0)
            is_larger = self._pool.get_for_thread("is larger", out.shape, np.bool_)
            name, dtype = f"offsets {winners.dtype}", winners.dtype
            offsets = self._pool.get_for_thread(name, out.shape, dtype)
        for offset, (values, of) in enumerate(self._slices[first_offset:], first_offset):
            if winners is not None:
                if self._reaches_over:
                    is_larger.fill(False)
                np.greater(x[values], out[of], out=is_larger[of])
                # A maximum takes a tenth of the time of an assignment where values are larger.
                np.multiply(is_larger, winners.dtype.type(offset), out=offsets)
                np.maximum(winners, offsets, out=winners)
            self._combine(out[of], x[values], out=out[of])

    def backward(self, delta: Array, grad_input: Array, rows: slice) -> None:
        """Write the gradient with respect to some rows of `x` to `grad_input`."""
        windows, winners = self._windows, self._winners
        if winners is not None and self._is_pairwise:
            first, second = (grad_input[values] for values, _ in self._slices)
            grad_input[:, :, :, 2 * windows.n_outputs :] = 0
            np.multiply(delta, winners[:, rows].view(np.bool_), out=second)
            np.subtract(delta, second, out=first)
            return
        is_disjoint = windows.stride >= windows.size
        # The other gradients are added up, or belong to no window.
        n_assigned = windows.n_outputs * windows.size if windows.are_adjacent else 0
        grad_input[:, :, :, n_assigned:] = 0
        if winners is not None:
            winners = winners[:, rows]
            is_winner = self._pool.get_for_thread("is larger", delta.shape, np.bool_)
        if winners is not None and not is_disjoint:
            shares = self._pool.get_for_thread("share", delta.shape)
        for offset, (values, of) in enumerate(self._slices):
            target, share = grad_input[values], delta[of]
            if winners is not None:
                np.equal(winners, winners.dtype.type(offset), out=is_winner)
                product = target if is_disjoint else shares[of]
                share = np.multiply(share, is_winner[of], out=product)
            if not is_disjoint:
                np.add(target, share, out=target)
            elif winners is None:
                np.copyto(target, share)


def bind_pooling(context: LayerContext, windows: Sequence[AxisWindows], is_max: bool) -> BoundLayer:
    """Return the passes of pooling along one axis after the other.

    Each part of a batch has as many rows as fit into the cache. Maxima are taken along the last
    axis first. So the first of several largest values of a row, and the first of several rows, are
    the first in the order of the memory. A mean is a sum, times one by the number of its values.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    windows : sequence of AxisWindows
        The windows along each axis of the input.
    is_max : bool
        Whether windows have their maximum instead of their mean.
    """
    batch, grad_input, sizes = context.batch, context.grad_input, [a.n_inputs for a in windows]
    sizes.append(context.out_shape[-1])
    parts = split_rows(batch.n_rows, 2 * BLOCK // (batch.n_estimators * math.prod(sizes)))
    input_shape, axes, steps = (-1, batch.n_rows, *sizes), range(len(windows)), []
    for axis in reversed(axes) if is_max else axes:
        steps.append(AxisPooling(context, windows[axis], sizes, axis, is_max))
        sizes[axis] = windows[axis].n_outputs
    output_shape, first, last = (-1, batch.n_rows, *sizes), steps[0], steps[-1]

    def split_into_steps(
        x: Array, out: Array, rows: slice
    ) -> list[tuple[AxisPooling, Array, Array]]:
        """Return each step with its input and its output, of some rows."""
        source = x.reshape(-1, batch.n_rows, *first.input_shape)[:, rows]
        target = out.reshape(-1, batch.n_rows, *last.output_shape)[:, rows]
        if first is last:
            return [(first, source, target)]
        members_and_rows = batch.n_estimators, rows.stop - rows.start
        shape = *members_and_rows, *first.output_shape
        between = batch.pool.get_for_thread("between axes", shape)
        next_source = between.reshape(*members_and_rows, *last.input_shape)
        return [(first, source, between), (last, next_source, target)]

    def compute_factor(lengths: Array | None) -> Array:
        """Return one by the number of values of each window."""
        factor = 1 / windows[0].count_values(lengths)
        if len(windows) == 2:
            factor = np.outer(factor, 1 / windows[1].count_values())
        # NumPy multiplies by a single number faster.
        has_one_value = bool((factor == factor.flat[0]).all())
        factor = factor.ravel()[:1] if has_one_value else factor[..., None]
        return factor.astype(batch.pool.dtype)

    factor_without_padding = compute_factor(None)

    def multiply_by_factor(pooled: Array) -> None:
        lengths = context.lengths
        factor = factor_without_padding if lengths is None else compute_factor(lengths)
        np.multiply(pooled, factor, out=pooled)

    def forward(x: Array, out: Array) -> None:
        pooled, neutral = out.reshape(output_shape), -np.inf if is_max else 0.0
        images = replace_padding(context, x.reshape(input_shape), neutral)

        def forward_rows(rows: slice) -> None:
            for step, source, target in split_into_steps(images, out, rows):
                step.forward(source, target, rows)

        parallel_for(forward_rows, parts)
        if not is_max:
            multiply_by_factor(pooled)
        elif context.lengths is not None:
            is_empty = np.maximum(windows[0].first_indices, 0) >= context.lengths[..., None]
            np.copyto(pooled, 0, where=is_empty[..., None])

    def backward(x: Array, out: Array, delta: Array) -> None:
        if grad_input is None:
            return
        if not is_max:
            multiply_by_factor(delta.reshape(output_shape))

        def backward_rows(rows: slice) -> None:
            for step, source, target in reversed(split_into_steps(grad_input, delta, rows)):
                step.backward(target, source, rows)

        parallel_for(backward_rows, parts)
        context.fill_padding(grad_input)

    return forward, backward


def replace_padding(context: LayerContext, x: Array, value: float) -> Array:
    """Return sequences (members, rows, steps, channels) with a value for padding, copied if any."""
    if context.lengths is None:
        return x
    copy = context.batch.pool.get(f"without padding {context.index}", x.shape)
    np.copyto(copy, x)
    context.fill_padding(copy, value)
    return copy


@dataclass(frozen=True)
class Pooling(WindowLayer, ParameterFreeLayer):
    """Base class of layers that pool windows."""

    pool_size: Annotated[int | Pair, validate_sizes] = 2
    strides: Annotated[int | Pair | None, validate_sizes] = None
    padding: Literal["valid", "same"] = "valid"

    size_name = "pool_size"
    size_text = "its pool_size"

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        sizes, strides = input_shape[: self.n_axes], self.window_strides[: self.n_axes]
        return make_upsampling_layers(self.compute_output_shape(input_shape), strides, sizes)

    def compute_padding(self, n: int, size: int, stride: int) -> Pair:
        n_before, n_after = super().compute_padding(n, size, stride)
        if self.padding == "same" and self.n_axes == 1:
            # Where the windows of a sequence are may not depend on the steps after it.
            n_before = max(size - stride, 0) // 2
            n_after = (math.ceil(n / stride) - 1) * stride + size - n_before - n
        return n_before, n_after

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return *self.compute_output_size(input_shape), math.prod(input_shape[self.n_axes :])

    def memory_per_sample(self, input_shape: Shape) -> int:
        # A row has an output with its gradient, and values between the two axes of an image.
        *others, n_channels = self.compute_output_shape(input_shape)
        between = max(others[0] * input_shape[1], input_shape[0] * others[1]) if others[1:] else 0
        return (2 * math.prod(others) + between) * n_channels

    def bind(self, context: LayerContext) -> BoundLayer:
        windows = self.compute_windows(context.input_shape)
        return bind_pooling(context, windows, is_max=isinstance(self, BaseMaxPooling))


class BaseMaxPooling(Pooling):
    """Base class of layers that take the maximum of windows."""


class BaseAveragePooling(Pooling):
    """Base class of layers that take the mean of windows."""


@dataclass(frozen=True)
class MaxPool1D(BaseMaxPooling):
    """Maximum of each window of a sequence, for each channel: y[t] = max_i x[s t + i - p].

    s is the stride and p the number of steps of the first window before the sequence. The gradient
    goes to the largest step of a window; if several are equal, to the first.

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

    batch_view = "sequences"


@dataclass(frozen=True)
class MaxPool2D(BaseMaxPooling):
    """Maximum of each window of an image, for each channel: y[u, v] = max_ij x[s u + i, s v + j].

    s are the strides. The gradient goes to the largest pixel of a window; if several are equal, to
    the first, row by row.

    Parameters
    ----------
    pool_size : int or (int, int), default=2
        The height and the width of a window, at least 1.
    strides : int, (int, int) or None, default=None
        The steps from one window to the next, down and to the right, at least 1; None for
        `pool_size`.
    padding : {"valid", "same"}, default="valid"
        With "valid", all windows are inside the image: a side of n pixels has
        ``(n - pool_size) // strides + 1`` windows. With "same", it has ``ceil(n / strides)``, which
        may extend beyond both ends of the image equally, or beyond the last by one pixel more.
        Pixels outside the image are ignored.

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


@dataclass(frozen=True)
class AveragePool1D(BaseAveragePooling):
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

    batch_view = "sequences"


@dataclass(frozen=True)
class AveragePool2D(BaseAveragePooling):
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


class GlobalPooling(ParameterFreeLayer):
    """Base class of layers that pool all positions of a row to one value for each channel."""

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        sizes, output_shape = input_shape[: self.n_axes], self.compute_output_shape(input_shape)
        one_position = *(1 for _ in sizes), *output_shape
        return Reshape(one_position), *make_upsampling_layers(one_position, sizes, sizes)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self.check_n_axes(input_shape)
        return (math.prod(input_shape[self.n_axes :]),)

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        return None


class BaseGlobalMaxPooling(GlobalPooling):
    """Base class of layers that take the maximum of all positions."""

    def bind(self, context: LayerContext) -> BoundLayer:
        batch, grad_input, (n_channels,) = context.batch, context.grad_input, context.out_shape[1:]
        n_positions = math.prod(context.input_shape[: self.n_axes])
        input_shape = -1, batch.n_rows, n_positions, n_channels
        output_shape = batch.n_estimators, batch.n_rows, 1, n_channels
        size = batch.n_estimators * n_positions * n_channels
        parts = split_rows(batch.n_rows, 2 * BLOCK // size)
        largest = batch.pool.get(f"largest {context.index}", output_shape)
        share = batch.pool.get("share of largest", output_shape)
        ones, n_halves = batch.ones(n_positions), n_positions - n_positions // 2

        def forward(x: Array, out: Array) -> None:
            positions = replace_padding(context, x.reshape(input_shape), -np.inf)

            def forward_rows(rows: slice) -> None:
                shape = len(largest), rows.stop - rows.start, n_halves, n_channels
                halves = batch.pool.get_for_thread("maxima left", shape)
                np.copyto(largest[:, rows], max_by_halves(positions[:, rows], halves))

            parallel_for(forward_rows, parts)
            pooled = out.reshape(output_shape)
            np.copyto(pooled, largest)
            if context.lengths is not None:
                np.copyto(pooled, 0, where=context.lengths[..., None, None] == 0)

        def backward(x: Array, out: Array, delta: Array) -> None:
            if grad_input is None:
                return
            positions = replace_padding(context, x.reshape(input_shape), -np.inf)
            gradient, d_pooled = grad_input.reshape(input_shape), delta.reshape(output_shape)

            def backward_rows(rows: slice) -> None:
                np.equal(positions[:, rows], largest[:, rows], out=gradient[:, rows])
                np.matmul(ones, gradient[:, rows], out=share[:, rows])
                np.divide(d_pooled[:, rows], share[:, rows], out=share[:, rows])
                np.multiply(gradient[:, rows], share[:, rows], out=gradient[:, rows])

            parallel_for(backward_rows, parts)
            context.fill_padding(grad_input)

        return forward, backward


class BaseGlobalAveragePooling(GlobalPooling):
    """Base class of layers that take the mean of all positions."""

    def bind(self, context: LayerContext) -> BoundLayer:
        batch, grad_input, (n_channels,) = context.batch, context.grad_input, context.out_shape[1:]
        n_positions = math.prod(context.input_shape[: self.n_axes])
        input_shape = -1, batch.n_rows, n_positions, n_channels
        output_shape = batch.n_estimators, batch.n_rows, 1, n_channels
        equal = np.full((1, n_positions), 1 / n_positions, batch.pool.dtype)

        def compute_weights() -> Array:
            if context.lengths is None:
                return equal
            is_step = ~context.padding_mask()
            weights = is_step / np.maximum(context.lengths, 1)[..., None]
            return weights[:, :, None].astype(equal.dtype)

        def forward(x: Array, out: Array) -> None:
            x, pooled = x.reshape(input_shape), out.reshape(output_shape)
            weights = compute_weights()
            if n_channels > 1:
                np.matmul(weights, x, out=pooled)
                return
            # Some BLAS kernels round a dot product by the address of its second factor.
            products = batch.pool.get("weighted", (len(pooled), *input_shape[1:]))
            np.multiply(x, weights.swapaxes(-1, -2), out=products)
            np.add.reduce(products, axis=2, out=pooled[:, :, 0])

        def backward(x: Array, out: Array, delta: Array) -> None:
            if grad_input is not None:
                weights, d_pooled = compute_weights().swapaxes(-1, -2), delta.reshape(output_shape)
                np.multiply(d_pooled, weights, out=grad_input.reshape(input_shape))

        return forward, backward


@dataclass(frozen=True)
class GlobalMaxPool1D(BaseGlobalMaxPooling):
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

    batch_view = "sequences"


@dataclass(frozen=True)
class GlobalMaxPool2D(BaseGlobalMaxPooling):
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


@dataclass(frozen=True)
class GlobalAveragePool1D(BaseGlobalAveragePooling):
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

    batch_view = "sequences"


@dataclass(frozen=True)
class GlobalAveragePool2D(BaseGlobalAveragePooling):
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
