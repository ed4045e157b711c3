"""Layers that change the shape of rows: Flatten, Reshape, Permute, and cropping or padding."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..utils.arrays import Array
from .base import BoundLayer, Layer, LayerContext, ParameterFreeLayer, Shape, as_ints


class Reshaping(ParameterFreeLayer):
    """Base class of layers whose output is their input in another shape.

    The steps after the end of a sequence become zeros.
    """

    batch_view = "any"
    backward_reads = "neither"

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (Reshape(input_shape),)

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        return None

    def bind(self, context: LayerContext) -> BoundLayer | None:
        if not context.batch.takes_padding:
            return None

        def forward(x: Array, out: Array) -> None:
            if not np.may_share_memory(x, out):
                np.copyto(out, x.reshape(out.shape))
            context.fill_padding(out)

        def backward(x: Array, out: Array, delta: Array) -> None:
            context.fill_padding(delta)

        return forward, backward


@dataclass(frozen=True)
class Flatten(Reshaping):
    """Flatten each row to one axis, as dense layers need it.

    The estimators do it before their first hidden layer. Padding at the end of a sequence becomes
    zeros.

    See Also
    --------
    Reshape : Give rows another shape.

    Examples
    --------
    >>> from skbackprop.layers import Flatten
    >>> Flatten().compute_output_shape((8, 8, 3))
    (192,)
    """

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)


@dataclass(frozen=True)
class Reshape(Reshaping):
    """Give each row another shape of as many values.

    Parameters
    ----------
    target_shape : tuple of int
        The shape of one row of the output. One size may be -1, and follows from the others.

    Raises
    ------
    ValueError
        If the shape is not valid; in `fit`, if the input has another number of values.

    See Also
    --------
    Flatten : Make rows one-dimensional.
    Permute : Exchange the axes of rows.

    Examples
    --------
    >>> from skbackprop.layers import Reshape
    >>> Reshape((-1, 3)).compute_output_shape((12,))
    (4, 3)
    """

    target_shape: tuple[int, ...]

    def __post_init__(self) -> None:
        shape = as_ints(self.target_shape)
        if not shape or shape.count(-1) > 1 or any(n < 1 and n != -1 for n in shape):
            raise ValueError(
                "target_shape of Reshape must be positive integers, of which one may be -1, such "
                f"as (8, 8, 1) or (-1, 3), got {self.target_shape!r}."
            )
        object.__setattr__(self, "target_shape", shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        size, rest = math.prod(input_shape), math.prod(n for n in self.target_shape if n > 0)
        shape = tuple(size // rest if n < 0 else n for n in self.target_shape)
        if math.prod(shape) != size:
            multiple = "a multiple of " * (-1 in self.target_shape)
            raise self.input_shape_error(f"rows of {multiple}{rest} values", input_shape)
        return shape


@dataclass(frozen=True)
class Permute(ParameterFreeLayer):
    """Permute the axes of each row: y[i, j] = x[j, i] for ``dims=(2, 1)``.

    The first axis of a sequence is that of its steps. Where it does not stay the first, padding at
    the end of a sequence becomes zeros.

    Parameters
    ----------
    dims : tuple of int
        The axes of the input in the order of the output. The first one is 1, as in Keras.

    Raises
    ------
    ValueError
        If `dims` are not the numbers from 1 to the number of axes; in `fit`, if the input has
        another number of axes.

    See Also
    --------
    Reshape : Give rows another shape.

    Examples
    --------
    >>> from skbackprop.layers import Permute
    >>> Permute((3, 1, 2)).compute_output_shape((28, 20, 3))
    (3, 28, 20)
    """

    dims: tuple[int, ...]

    def __post_init__(self) -> None:
        dims = as_ints(self.dims)
        if not dims or sorted(dims) != list(range(1, len(dims) + 1)):
            raise ValueError(
                "dims of Permute must be the numbers of the axes from 1 on, each once, such as "
                f"(2, 1), got {self.dims!r}."
            )
        object.__setattr__(self, "dims", dims)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != len(self.dims):
            raise self.input_shape_error(f"rows of {len(self.dims)} axes", input_shape)
        return tuple(input_shape[d - 1] for d in self.dims)

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (Permute(tuple(np.argsort(self.dims) + 1)),)

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        return lengths if self.dims[0] == 1 else None

    def bind(self, context: LayerContext) -> BoundLayer:
        grad_input = context.grad_input
        axes, loses_steps = (0, 1, *(d + 1 for d in self.dims)), self.dims[0] != 1
        inverse = np.argsort(axes).tolist()

        def permute(x: Array) -> Array:
            """Return a view of the input, or of its gradient, with the axes of the output."""
            return x.reshape(-1, *context.x_shape).transpose(axes)

        def forward(x: Array, out: Array) -> None:
            permuted = out.reshape(-1, *context.out_shape)
            np.copyto(permuted, permute(x))
            if loses_steps:
                context.fill_padding(permuted.transpose(inverse))

        def backward(x: Array, out: Array, delta: Array) -> None:
            if grad_input is not None:
                np.copyto(permute(grad_input), delta.reshape(-1, *context.out_shape))
                if loses_steps:
                    context.fill_padding(grad_input)

        return forward, backward


@dataclass(frozen=True)
class CropOrPad(ParameterFreeLayer):
    """Give sequences or images another size, at their end.

    The decoder of an autoencoder has it where windows have left out steps or pixels at the end of
    an axis, or have reached over it. An axis that is too long is cropped. If one is too short, its
    last step, row or column is repeated.

    Parameters
    ----------
    sizes : tuple of int
        The number of steps, or height and width, of the output.

    Examples
    --------
    >>> from skbackprop.layers.reshaping import CropOrPad
    >>> CropOrPad((7, 7)).compute_output_shape((8, 6, 3))
    (7, 7, 3)
    """

    sizes: tuple[int, ...]

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != len(self.sizes) + 1:
            raise self.input_shape_error(f"{len(self.sizes)} axes and channels", input_shape)
        return *self.sizes, input_shape[-1]

    def bind(self, context: LayerContext) -> BoundLayer:
        sizes = list(zip(context.input_shape, self.sizes, strict=False))
        # Input and output are the same in their common part.
        common: Any = (..., *(slice(min(n, size)) for n, size in sizes), slice(None))
        # The last step, row or column of the input is repeated after it in the output.
        repeated: list[Any] = []
        for axis, (n, size) in enumerate(sizes):
            after = (slice(None),) * (len(sizes) - axis)
            if size > n:
                repeated.append(((..., slice(n - 1, n), *after), (..., slice(n, size), *after)))

        def forward(x: Array, out: Array) -> None:
            out[common] = x[common]
            for last, rest in repeated:
                out[rest] = out[last]

        def backward(x: Array, out: Array, delta: Array) -> None:
            if context.grad_input is None:
                return
            for last, rest in reversed(repeated):
                # As many axes are after the repeated one as slices.
                delta[last] += delta[rest].sum(axis=1 - len(last), keepdims=True)
            context.grad_input.fill(0)
            context.grad_input[common] = delta[common]

        return forward, backward
