"""Convolution of sequences and images.

A convolution multiplies each window of its input by the same kernels. A sequence is computed as an
image of height one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import numpy as np

from ..activations import ActivationLike
from ..utils.arrays import Array
from ..utils.validation import validate_positive_int
from ._convolution_passes import (
    CACHED_VALUES_OF_ROW,
    ImageWindows,
    bind_convolution,
    bind_depthwise_convolution,
    bind_transposed_convolution,
)
from ._windows import AxisWindows, Pair, WindowLayer, as_pair, validate_sizes
from .base import (
    BoundLayer,
    Layer,
    LayerContext,
    ParameterFreeLayer,
    ParameterSpec,
    Shape,
    draw_kernels,
)
from .dense import make_activation_layers
from .reshaping import CropOrPad, Reshape


class Convolution(WindowLayer):
    """Base class of convolutions of sequences and images.

    A subclass has the fields `activation` and `use_bias`, and most have `n_filters`.
    """

    n_filters: int
    activation: ActivationLike | None
    use_bias: bool
    size_name = "kernel_size"
    size_text = "the size of its kernel"

    def image_windows(self, input_shape: Shape) -> ImageWindows:
        """Return the windows of images. A sequence is an image of height one."""
        *rows, columns = self.compute_windows(input_shape)
        return (rows[0] if rows else AxisWindows(1)), columns

    def kernel_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the kernels: the window, and the channels of input and output."""
        n_channels = math.prod(input_shape[self.n_axes :])
        return *self.window_size[: self.n_axes], n_channels, self.n_filters

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return *self.compute_output_size(input_shape), self.n_filters

    def draw_kernels(self, shape: Shape, rng: np.random.RandomState) -> Array:
        """Draw initial kernels of a shape."""
        n_positions = math.prod(shape[:-2])
        return draw_kernels(shape, rng, activation=self.activation, n_positions=n_positions)

    def expand(self, input_shape: Shape) -> tuple[Layer, ...]:
        return self, *make_activation_layers(self.activation)

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return *make_activation_layers(self.activation), *self.mirror_products(input_shape)

    def mirror_products(self, input_shape: Shape) -> tuple[Layer, ...]:
        """Return the layers that mirror it without its activation."""
        raise NotImplementedError(f"{type(self).__name__} must define mirror_products(input_shape)")

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        shape = self.kernel_shape(input_shape)
        specs = (
            ParameterSpec("kernels", shape, partial(self.draw_kernels, shape), regularized=True),
            ParameterSpec("kernel_biases", self.compute_output_shape(input_shape)[-1:]),
        )
        return specs if self.use_bias else specs[:1]

    def memory_per_sample(self, input_shape: Shape) -> int:
        # A row has columns, padded images before the windows, and an output with its gradient.
        windows = self.compute_windows(input_shape)
        n_windows = math.prod(axis.n_outputs for axis in windows)
        n_padded = math.prod(axis.n_padded for axis in windows)
        *window, n_channels, _ = self.kernel_shape(input_shape)
        n_columns = min(n_windows * math.prod(window) * n_channels, CACHED_VALUES_OF_ROW)
        return n_columns + n_padded * n_channels + super().memory_per_sample(input_shape)

    def max_matmul_size(self, input_shape: Shape) -> None:
        return None

    def bind(self, context: LayerContext) -> BoundLayer:
        return bind_convolution(context, self.image_windows(context.input_shape))


@dataclass(frozen=True)
class Conv1D(Convolution):
    """Convolution of sequences: z[t] = sum_i x[s t + d i - p] W[i] + b, and a = f(z).

    x[t] are the channels of a step, W[i] a matrix of shape (channels, n_filters) for each step i of
    the kernel, s the stride, d the dilation and p the padding before the first step (the
    cross-correlation of LeCun et al. 1998, section II.A). Steps outside the sequence are zero.

    Parameters
    ----------
    n_filters : int
        The number of output channels, at least 1.
    kernel_size : int
        The number of steps that an output reads, at least 1.
    strides : int, default=1
        The number of steps from one output to the next, at least 1.
    padding : {"valid", "same", "causal"}, default="valid"
        With "valid" there are no zeros around the sequence: n steps have ``(n - dilation *
        (kernel_size - 1) - 1) // strides + 1`` outputs. With "same" and "causal", n steps have
        ``ceil(n / strides)`` outputs. "same" adds ``dilation * (kernel_size - 1)`` zeros, half of
        them (rounded down) before the sequence and the rest after it. "causal" adds all of these
        zeros before the sequence, so an output reads no later step.
    dilation : int, default=1
        The number of steps from one value of the kernel to the next, at least 1.
    activation : str, ActivationFunction or None, default=None
        The function f; None for none.
    use_bias : bool, default=True
        Whether the layer has biases b.
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

    Raises
    ------
    ValueError
        If a parameter has an invalid value; in `fit`, if the input has another shape than (steps,)
        or (steps, channels), or with "valid" if the sequence is shorter than the kernel.

    See Also
    --------
    Conv2D : Convolution over images.
    MaxPool1D : Maximum over windows of steps.

    References
    ----------
    LeCun, Y., Bottou, L., Bengio, Y. & Haffner, P. (1998). Gradient-based learning applied to
    document recognition. Proceedings of the IEEE 86(11), 2278-2324.

    van den Oord, A. et al. (2016). WaveNet: a generative model for raw audio. arXiv:1609.03499.
    (Causal and dilated convolution.)

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import Conv1D
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(2, size=200)
    >>> X = np.sin(np.outer(1 + y, np.arange(20)) + rng.uniform(0, 6, (200, 1)))
    >>> model = BackpropClassifier(
    ...     (),
    ...     layers=Conv1D(4, 5, activation="relu"),
    ...     input_shape=20,
    ...     learning_rate_init=0.01,
    ...     tol=0.01,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    >>> model.kernels_[0].shape
    (5, 1, 4)
    """

    n_filters: Annotated[int, validate_positive_int]
    kernel_size: Annotated[int, validate_sizes]
    strides: Annotated[int, validate_sizes] = 1
    padding: Literal["valid", "same", "causal"] = "valid"
    dilation: Annotated[int, validate_positive_int] = 1
    activation: ActivationLike | None = None
    use_bias: bool = True

    batch_view = "sequences"

    def mirror_products(self, input_shape: Shape) -> tuple[Layer, ...]:
        n_channels = math.prod(input_shape[1:])
        output_shape = self.compute_output_shape(input_shape)
        if self.padding == "causal" or self.dilation > 1:
            padding: Literal["same", "causal"] = "causal" if self.padding == "causal" else "same"
            enlarged = make_upsampling_layers(output_shape, (self.strides,), input_shape[:1])
            return *enlarged, Conv1D(n_channels, self.kernel_size, 1, padding, self.dilation)
        image_shape = 1, *output_shape
        kernel_size, strides = (1, self.kernel_size), (1, self.strides)
        transposed = Conv2DTranspose(n_channels, kernel_size, strides, self.padding)
        shape = transposed.compute_output_shape(image_shape)[1:]
        fitted = make_crop_or_pad(shape, input_shape[:1])
        return Reshape(image_shape), transposed, Reshape(shape), *fitted

    def compute_padding(self, n: int, size: int, stride: int) -> Pair:
        n_zeros = self.dilation * (size - 1)
        n_before = {"valid": 0, "same": n_zeros // 2, "causal": n_zeros}[self.padding]
        return n_before, n_zeros - n_before if self.padding == "same" else 0


@dataclass(frozen=True)
class ImageConvolution(Convolution):
    """Base class of convolutions of images that mix their channels."""

    n_filters: Annotated[int, validate_positive_int]
    kernel_size: Annotated[int | Pair, validate_sizes]
    strides: Annotated[int | Pair, validate_sizes] = 1
    padding: Literal["valid", "same"] = "valid"
    activation: ActivationLike | None = None
    use_bias: bool = True


@dataclass(frozen=True)
class Conv2D(ImageConvolution):
    """Convolution of images: z[u, v] = sum_ij x[s u + i - p, s v + j - p] W[i, j] + b, a = f(z).

    x[u, v] are the channels of a pixel, W[i, j] a matrix of shape (channels, n_filters) for each
    pixel of the kernel, s the strides and p the padding before the first row and column (the
    cross-correlation of LeCun et al. 1998, section II.A). Pixels outside the image are zero.

    Parameters
    ----------
    n_filters : int
        The number of output channels, at least 1.
    kernel_size : int or (int, int)
        The height and the width of the kernels, at least 1.
    strides : int or (int, int), default=1
        The vertical and the horizontal step from one output to the next, at least 1.
    padding : {"valid", "same"}, default="valid"
        "valid" adds no zeros around the image: a side of n pixels has ``(n - kernel_size) //
        strides + 1`` outputs. "same" adds zeros on both sides, for ``ceil(n / strides)`` outputs.
        An odd number of zeros puts one more at the end.
    activation : str, ActivationFunction or None, default=None
        The function f; None for none.
    use_bias : bool, default=True
        Whether the layer has biases b.
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

    Raises
    ------
    ValueError
        If a parameter has an invalid value; in `fit`, if the input has another shape than (height,
        width) or (height, width, channels), or with "valid" is smaller than the kernel.

    See Also
    --------
    Conv1D : Convolution over sequences.
    DepthwiseConv2D : Convolution of each channel by itself.
    MaxPool2D : Maximum over windows of an image.

    References
    ----------
    LeCun, Y., Bottou, L., Bengio, Y. & Haffner, P. (1998). Gradient-based learning applied to
    document recognition. Proceedings of the IEEE 86(11), 2278-2324.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import Conv2D
    >>> X, y = load_digits(n_class=3, return_X_y=True)
    >>> model = BackpropClassifier(
    ...     (),
    ...     layers=Conv2D(4, 3, activation="relu"),
    ...     input_shape=(8, 8),
    ...     tol=0.01,
    ...     random_state=0,
    ... )
    >>> model.fit(X / 16, y).score(X / 16, y) > 0.9
    True
    >>> model.kernels_[0].shape
    (3, 3, 1, 4)
    """

    def mirror_products(self, input_shape: Shape) -> tuple[Layer, ...]:
        n_channels = math.prod(input_shape[2:])
        output_shape = self.compute_output_shape(input_shape)
        transposed = Conv2DTranspose(n_channels, self.kernel_size, self.strides, self.padding)
        fitted = make_crop_or_pad(transposed.compute_output_shape(output_shape), input_shape[:2])
        return transposed, *fitted


@dataclass(frozen=True)
class Conv2DTranspose(ImageConvolution):
    """Transposed convolution of images, which enlarges them: the adjoint of a `Conv2D`.

    Each input pixel adds its channels, times the kernels, to a window of the output: with the
    strides s and the padding p of the convolution from output to input,

        z[u, v] = sum_ij x[(u - i + p) / s, (v - j + p) / s] W[i, j]^T + b,    a = f(z),

    over all i, j for which the indices of x are those of a pixel (Dumoulin & Visin 2016, chapter
    4). The strides are the factors by which height and width grow.

    Parameters
    ----------
    n_filters : int
        The number of output channels, at least 1.
    kernel_size : int or (int, int)
        The height and the width of the kernels, at least 1.
    strides : int or (int, int), default=1
        The vertical and the horizontal step in the output from one input pixel to the next, at
        least 1.
    padding : {"valid", "same"}, default="valid"
        With "valid", n rows have ``n * strides + max(kernel_size - strides, 0)`` outputs, so that
        all windows fit. With "same", they have ``n * strides``.
    activation : str, ActivationFunction or None, default=None
        The function f; None for none.
    use_bias : bool, default=True
        Whether the layer has biases b.
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

    Raises
    ------
    ValueError
        If a parameter has an invalid value; in `fit`, if the input has another shape than
        (height, width) or (height, width, channels).

    See Also
    --------
    Conv2D : Convolution, which this layer transposes.
    UpSampling2D : Enlarge images without parameters.

    References
    ----------
    Dumoulin, V. & Visin, F. (2016). A guide to convolution arithmetic for deep learning.
    arXiv:1603.07285.

    Examples
    --------
    >>> from skbackprop.layers import Conv2DTranspose
    >>> Conv2DTranspose(16, 3, strides=2, padding="same").compute_output_shape((7, 7, 32))
    (14, 14, 16)
    """

    def mirror_products(self, input_shape: Shape) -> tuple[Layer, ...]:
        n_channels = math.prod(input_shape[2:])
        return (Conv2D(n_channels, self.kernel_size, self.strides, self.padding),)

    def compute_windows(self, input_shape: Shape) -> tuple[AxisWindows, ...]:
        """Return the windows of the convolution from the output to the input."""
        settings = zip(input_shape, self.window_size, self.window_strides, strict=False)
        size = [
            n * stride + (max(size - stride, 0) if self.padding == "valid" else 0)
            for n, size, stride in settings
        ]
        return super().compute_windows(tuple(size))

    def kernel_shape(self, input_shape: Shape) -> Shape:
        return *self.window_size, self.n_filters, math.prod(input_shape[2:])

    def draw_kernels(self, shape: Shape, rng: np.random.RandomState) -> Array:
        # The variance is that of a convolution, whose fan_in is the number of inputs that
        # contribute to an output: at most ceil(kernel_size / strides) rows and columns of pixels.
        height, width, n_filters, n_channels = shape
        kernels = super().draw_kernels((height, width, n_channels, n_filters), rng)
        sizes = zip((height, width), self.window_strides, strict=True)
        n_windows = math.prod(math.ceil(size / stride) for size, stride in sizes)
        return kernels.swapaxes(-1, -2) * math.sqrt(height * width / n_windows)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self.check_n_axes(input_shape)
        size = (axis.n_inputs for axis in self.compute_windows(input_shape))
        return *size, self.n_filters

    def bind(self, context: LayerContext) -> BoundLayer:
        return bind_transposed_convolution(context, self.image_windows(context.input_shape))


@dataclass(frozen=True)
class DepthwiseConv2D(Convolution):
    """Convolution of each channel of images by its own kernel.

    For each channel c, with the strides s and the padding p as in `Conv2D`,

        z_c[u, v] = sum_ij x_c[s u + i - p, s v + j - p] w_c[i, j] + b_c,    a = f(z).

    Followed by a `Conv2D` of kernel size 1, which mixes the channels, it is a separable
    convolution, with fewer parameters and multiplications than a single `Conv2D` (Howard et al.
    2017, section 3.1).

    Parameters
    ----------
    kernel_size : int or (int, int)
        The height and the width of the kernels, at least 1.
    strides : int or (int, int), default=1
        The vertical and the horizontal step from one output to the next, at least 1.
    padding : {"valid", "same"}, default="valid"
        Zeros around the image, as in `Conv2D`.
    activation : str, ActivationFunction or None, default=None
        The function f; None for none.
    use_bias : bool, default=True
        Whether the layer has biases b.
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

    Raises
    ------
    ValueError
        If a parameter has an invalid value; in `fit`, if the input has another shape than (height,
        width) or (height, width, channels), or with "valid" is smaller than the kernel.

    See Also
    --------
    Conv2D : Convolution across all channels.

    References
    ----------
    Howard, A. G. et al. (2017). MobileNets: efficient convolutional neural networks for mobile
    vision applications. arXiv:1704.04861.

    Examples
    --------
    >>> from skbackprop.layers import Conv2D, DepthwiseConv2D
    >>> separable = [DepthwiseConv2D(3), Conv2D(64, 1, activation="relu")]
    >>> [math.prod(spec.shape) for spec in separable[0].parameter_specs((14, 14, 32))]
    [288, 32]
    """

    kernel_size: Annotated[int | Pair, validate_sizes]
    strides: Annotated[int | Pair, validate_sizes] = 1
    padding: Literal["valid", "same"] = "valid"
    activation: ActivationLike | None = None
    use_bias: bool = True

    def mirror_products(self, input_shape: Shape) -> tuple[Layer, ...]:
        output_shape = self.compute_output_shape(input_shape)
        enlarged = make_upsampling_layers(output_shape, self.window_strides, input_shape[:2])
        return *enlarged, DepthwiseConv2D(self.kernel_size, padding="same")

    def kernel_shape(self, input_shape: Shape) -> Shape:
        return *self.window_size, math.prod(input_shape[2:])

    def draw_kernels(self, shape: Shape, rng: np.random.RandomState) -> Array:
        height, width, n_channels = shape
        # An input meets height * width outputs, and not those of the other channels.
        n_positions = height * width / n_channels
        return draw_kernels(shape, rng, activation=self.activation, n_positions=n_positions)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return *self.compute_output_size(input_shape), math.prod(input_shape[2:])

    def memory_per_sample(self, input_shape: Shape) -> int:
        # A row has a padded input, products, and an output with its gradient.
        windows = self.compute_windows(input_shape)
        n_padded = math.prod(axis.n_padded for axis in windows)
        n_pixels = n_padded + 3 * math.prod(axis.n_outputs for axis in windows)
        return n_pixels * math.prod(input_shape[2:])

    def bind(self, context: LayerContext) -> BoundLayer:
        return bind_depthwise_convolution(context, self.image_windows(context.input_shape))


@dataclass(frozen=True)
class UpSampling2D(ParameterFreeLayer):
    """Enlarge images by repeated rows and columns: out[u, v] = x[u // size, v // size].

    Its gradient is the sum over the copies of each pixel.

    Parameters
    ----------
    size : int or (int, int), default=2
        How often each row and each column is repeated, at least 1.

    Raises
    ------
    ValueError
        If `size` has an invalid value; in `fit`, if the input has another shape than
        (height, width) or (height, width, channels).

    See Also
    --------
    Conv2DTranspose : Enlarge images by a learned convolution.

    Examples
    --------
    >>> from skbackprop.layers import UpSampling2D
    >>> UpSampling2D(2).compute_output_shape((7, 7, 32))
    (14, 14, 32)
    """

    size: Annotated[int | Pair, validate_sizes] = 2

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self.check_n_axes(input_shape)
        (height, width, *channels), (down, right) = input_shape, as_pair(self.size)
        return height * down, width * right, *channels

    def bind(self, context: LayerContext) -> BoundLayer:
        grad_input, (down, right) = context.grad_input, as_pair(self.size)
        n_rows, height, width, *channels = context.x_shape
        input_shape = -1, n_rows, height, width, math.prod(channels)
        output_shape = *input_shape[:3], down, width, right, input_shape[-1]

        def forward(x: Array, out: Array) -> None:
            images = x.reshape(input_shape)
            np.copyto(out.reshape(output_shape), images[:, :, :, None, :, None])

        def backward(x: Array, out: Array, delta: Array) -> None:
            if grad_input is None:
                return
            total, copies = grad_input.reshape(input_shape), delta.reshape(output_shape)
            np.copyto(total, copies[:, :, :, 0, :, 0])
            for row, column in list(np.ndindex(down, right))[1:]:
                np.add(total, copies[:, :, :, row, :, column], out=total)

        return forward, backward


def make_upsampling_layers(
    shape: Shape, factors: Sequence[int], sizes: Sequence[int]
) -> tuple[Layer, ...]:
    """Return the layers that repeat the positions of rows, for the decoder of an autoencoder.

    Parameters
    ----------
    shape : tuple of int
        The shape of one row: (steps, channels) or (height, width, channels).
    factors : sequence of int
        How often each step, or each row and column, is repeated.
    sizes : sequence of int
        The number of steps, or height and width, that the result has.
    """
    *positions, n_channels = shape
    enlarged = *(n * k for n, k in zip(positions, factors, strict=True)), n_channels
    layers: list[Layer] = []
    if enlarged != shape and len(positions) == 1:
        layers = [Reshape((1, *shape)), UpSampling2D((1, factors[0])), Reshape(enlarged)]
    elif enlarged != shape:
        layers = [UpSampling2D((factors[0], factors[1]))]
    return *layers, *make_crop_or_pad(enlarged, sizes)


def make_crop_or_pad(shape: Shape, sizes: Sequence[int]) -> tuple[Layer, ...]:
    """Return the layer that gives rows of a shape these sizes before their channels, if any."""
    return () if shape[:-1] == tuple(sizes) else (CropOrPad(tuple(sizes)),)
