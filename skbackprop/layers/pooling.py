"""Pooling: the maximum or the mean of each window of a sequence or image, or of all of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from ..utils.arrays import Array
from ..utils.validation import validate_positive_int
from ._built_convolution import Pair
from ._built_pooling import (
    BuiltAveragePooling,
    BuiltGlobalAverage,
    BuiltGlobalMax,
    BuiltMaxPooling,
    PoolingWindows,
)
from .base import BuiltLayer, Layer, LayerContext, Shape, check_axes
from .convolution import (
    as_pair,
    make_upsampling_layers,
    same_padding,
    validate_padding,
    validate_pairs,
)
from .reshaping import Reshape


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
        return make_upsampling_layers(
            self.compute_output_shape(input_shape), strides, input_shape[: self.n_axes]
        )

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
                f'one of {shortest} before its padding. Set padding="same", or remove such rows.'
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

    n_axes: ClassVar[int] = 1
    reads_sequences: ClassVar[bool] = True


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
        return Reshape(one_position), *make_upsampling_layers(one_position, sizes, sizes)

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
