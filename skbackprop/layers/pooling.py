"""Pooling: the maximum or the mean of each window of a sequence or image, or of all of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..utils.arrays import BLOCK, Array, max_by_halves
from ..utils.parallel import parallel_for, split_rows
from ._window_pooling import WindowPooling, replace_padding
from ._windows import Pair, WindowLayer
from .base import BoundLayer, Layer, LayerContext, Shape, check_axes, fill_padding, padding_mask
from .convolution import make_upsampling_layers
from .reshaping import Reshape


class Pooling(WindowLayer):
    """Base class of layers that pool windows. A subclass has the fields of `MaxPool2D`."""

    size_name = "pool_size"
    size_text = "its pool_size"

    def __post_init__(self) -> None:
        self.validate_windows()

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return make_upsampling_layers(
            self.compute_output_shape(input_shape),
            self.window_strides[: self.n_axes],
            input_shape[: self.n_axes],
        )

    def compute_padding(self, n: int, size: int, stride: int) -> Pair:
        before, after = super().compute_padding(n, size, stride)
        if self.padding == "same" and self.n_axes == 1:
            # Where the windows of a sequence are may not depend on the steps after it.
            before = max(size - stride, 0) // 2
            after = (math.ceil(n / stride) - 1) * stride + size - before - n
        return before, after

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return *self.compute_output_size(input_shape), math.prod(input_shape[self.n_axes :])

    def memory_per_sample(self, input_shape: Shape) -> int:
        # A row has an output with its gradient, and values between the two axes of an image.
        *others, n_channels = self.compute_output_shape(input_shape)
        between = max(others[0] * input_shape[1], input_shape[0] * others[1]) if others[1:] else 0
        return (2 * math.prod(others) + between) * n_channels


class MaxPooling(Pooling):
    """Base class of layers that take the maximum of windows."""

    def bind(self, context: LayerContext) -> BoundLayer:
        pooling = WindowPooling(context, self.compute_windows(context.input_shape), is_max=True)
        return pooling.forward, pooling.backward


class AveragePooling(Pooling):
    """Base class of layers that take the mean of windows."""

    def bind(self, context: LayerContext) -> BoundLayer:
        pooling = WindowPooling(context, self.compute_windows(context.input_shape), is_max=False)
        return pooling.forward, pooling.backward


@dataclass(frozen=True)
class MaxPool1D(MaxPooling):
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

    pool_size: int = 2
    strides: int | None = None
    padding: Literal["valid", "same"] = "valid"

    batch_view = "sequences"


@dataclass(frozen=True)
class MaxPool2D(MaxPooling):
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

    pool_size: int | Pair = 2
    strides: int | Pair | None = None
    padding: Literal["valid", "same"] = "valid"


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

    batch_view = "sequences"


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


class GlobalPooling(Layer):
    """Base class of layers that pool all positions of a row to one value for each channel."""

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        sizes, output_shape = input_shape[: self.n_axes], self.compute_output_shape(input_shape)
        one_position = *(1 for _ in sizes), *output_shape
        return Reshape(one_position), *make_upsampling_layers(one_position, sizes, sizes)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        check_axes(self, input_shape)
        return (math.prod(input_shape[self.n_axes :]),)

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        return None


class GlobalMaxPooling(GlobalPooling):
    """Base class of layers that take the maximum of all positions."""

    def memory_per_sample(self, input_shape: Shape) -> int:
        return math.prod(input_shape) // 2 + 3 * math.prod(self.compute_output_shape(input_shape))

    def bind(self, context: LayerContext) -> BoundLayer:
        batch, grad_input, (n_channels,) = context.batch, context.grad_input, context.out_shape[1:]
        n_positions = math.prod(context.input_shape[: self.n_axes])
        input_shape = -1, batch.n_rows, n_positions, n_channels
        output_shape = batch.n_estimators, batch.n_rows, 1, n_channels
        size = batch.n_estimators * n_positions * n_channels
        parts = split_rows(batch.n_rows, 2 * BLOCK // size)
        largest = batch.pool.get(f"largest {context.index}", output_shape)
        share = batch.pool.get("share of largest", output_shape)
        ones = batch.ones(n_positions)

        def find_positions(x: Array) -> Array:
            positions = x.reshape(input_shape)
            if context.lengths is None:
                return positions
            return replace_padding(context, positions, -np.inf)

        def forward(x: Array, out: Array) -> None:
            positions = find_positions(x)

            def forward_rows(rows: slice) -> None:
                shape = (
                    len(largest),
                    rows.stop - rows.start,
                    n_positions - n_positions // 2,
                    n_channels,
                )
                left = batch.pool.get_for_thread("maxima left", shape)
                np.copyto(largest[:, rows], max_by_halves(positions[:, rows], left))

            parallel_for(forward_rows, parts)
            pooled = out.reshape(output_shape)
            np.copyto(pooled, largest)
            if context.lengths is not None:
                np.copyto(pooled, 0, where=context.lengths[..., None, None] == 0)

        def backward(x: Array, out: Array, delta: Array) -> None:
            if grad_input is None:
                return
            positions, gradient = find_positions(x), grad_input.reshape(input_shape)
            d_pooled = delta.reshape(output_shape)

            def backward_rows(rows: slice) -> None:
                np.equal(positions[:, rows], largest[:, rows], out=gradient[:, rows])
                np.matmul(ones, gradient[:, rows], out=share[:, rows])
                np.divide(d_pooled[:, rows], share[:, rows], out=share[:, rows])
                np.multiply(gradient[:, rows], share[:, rows], out=gradient[:, rows])

            parallel_for(backward_rows, parts)
            if context.lengths is not None:
                fill_padding(gradient, context.lengths)

        return forward, backward


class GlobalAveragePooling(GlobalPooling):
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
            is_step = ~padding_mask(context.lengths, n_positions)
            weights = is_step / np.maximum(context.lengths, 1)[..., None]
            return weights[:, :, None].astype(equal.dtype)

        def forward(x: Array, out: Array) -> None:
            x, pooled, weights = (
                x.reshape(input_shape),
                out.reshape(output_shape),
                compute_weights(),
            )
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

    batch_view = "sequences"


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

    batch_view = "sequences"


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
