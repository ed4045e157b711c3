"""Layers that change the shape of rows: Flatten, Reshape, Permute, and cropping or padding."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Integral
from typing import Any, ClassVar

import numpy as np

from ..utils.arrays import Array
from .base import BuiltLayer, Layer, LayerContext, Shape, padding_mask


@dataclass(frozen=True)
class Flatten(Layer):
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

    is_reshape: ClassVar[bool] = True
    inplace_backward: ClassVar[bool] = True
    n_buffers: ClassVar[int] = 0

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return (math.prod(input_shape),)

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (Reshape(input_shape),)

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        return None

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltReshape(context)


@dataclass(frozen=True)
class Reshape(Layer):
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

    is_reshape: ClassVar[bool] = True
    inplace_backward: ClassVar[bool] = True
    n_buffers: ClassVar[int] = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "target_shape", _validate_shape(self.target_shape))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        size, rest = math.prod(input_shape), math.prod(n for n in self.target_shape if n > 0)
        shape = tuple(size // rest if n < 0 else n for n in self.target_shape)
        if math.prod(shape) != size:
            multiple = "a multiple of " * (-1 in self.target_shape)
            raise self.input_shape_error(f"rows of {multiple}{rest} values", input_shape)
        return shape

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (Reshape(input_shape),)

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        return None

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltReshape(context)


@dataclass(frozen=True)
class Permute(Layer):
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
        given = self.dims
        is_sequence = isinstance(given, Iterable) and not isinstance(given, str)
        dims: list[Any] = list(given) if is_sequence else [given]
        is_valid = all(isinstance(d, Integral) and not isinstance(d, bool) for d in dims)
        if not (dims and is_valid and sorted(dims) == list(range(1, len(dims) + 1))):
            raise ValueError(
                "dims of Permute must be the numbers of the axes from 1 on, each once, such as "
                f"(2, 1), got {given!r}."
            )
        object.__setattr__(self, "dims", tuple(map(int, dims)))

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != len(self.dims):
            raise self.input_shape_error(f"rows of {len(self.dims)} axes", input_shape)
        return tuple(input_shape[d - 1] for d in self.dims)

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (Permute(tuple(np.argsort(self.dims) + 1)),)

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        return lengths if self.dims[0] == 1 else None

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltPermute(context, self.dims)


@dataclass(frozen=True)
class CropOrPad(Layer):
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

    def forward(self, context: LayerContext, x: Array, out: Array) -> None:
        out[self._common(context)] = x[self._common(context)]
        for last, rest in self._repeated(context):
            out[rest] = out[last]

    def backward(self, context: LayerContext, x: Array, delta: Array) -> Array:
        if context.grad_input is None:
            return delta
        for last, rest in reversed(self._repeated(context)):
            # As many axes are after the repeated one as slices.
            delta[last] += delta[rest].sum(axis=1 - len(last), keepdims=True)
        context.grad_input.fill(0)
        context.grad_input[self._common(context)] = delta[self._common(context)]
        return context.grad_input

    def _common(self, context: LayerContext) -> tuple[Any, ...]:
        """Return where input and output are the same."""
        sizes = zip(context.input_shape, self.sizes, strict=False)
        return (..., *(slice(min(n, size)) for n, size in sizes), slice(None))

    def _repeated(self, context: LayerContext) -> list[tuple[tuple[Any, ...], tuple[Any, ...]]]:
        """Return the last step, row or column of the input, and those after it in the output."""
        found = []
        for axis, (n, size) in enumerate(zip(context.input_shape, self.sizes, strict=False)):
            after = (slice(None),) * (len(self.sizes) - axis)
            if size > n:
                found.append(((..., slice(n - 1, n), *after), (..., slice(n, size), *after)))
        return found


class BuiltReshape:
    """A view of the input; the steps after the end of a sequence become zeros.

    The last layer copies it.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    """

    def __init__(self, context: LayerContext) -> None:
        self._context = context

    def forward(self, x: Array, out: Array) -> None:
        self._clear_padding(x)
        if not np.may_share_memory(x, out):
            np.copyto(out, x.reshape(out.shape))

    def backward(self, delta: Array) -> Array:
        context = self._context
        delta = delta.reshape(
            *delta.shape[: delta.ndim - len(context.output_shape)], *context.input_shape
        )
        self._clear_padding(delta)
        return delta

    def _clear_padding(self, x: Array) -> None:
        """Set the steps after the end of each sequence to zero."""
        if self._context.lengths is not None:
            _clear_steps(
                x.reshape(-1, self._context.n_rows, *self._context.input_shape), self._context
            )


class BuiltPermute:
    """A copy of the input with its axes in another order.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    dims : tuple of int
        The axes of the input in the order of the output, from 1 on.
    """

    def __init__(self, context: LayerContext, dims: tuple[int, ...]) -> None:
        self._context = context
        self._axes = 0, 1, *(d + 1 for d in dims)
        self._input_shape = -1, context.n_rows, *context.input_shape
        self._output_shape = -1, context.n_rows, *context.output_shape
        self._loses_steps = dims[0] != 1

    def forward(self, x: Array, out: Array) -> None:
        permuted = out.reshape(self._output_shape)
        np.copyto(permuted, x.reshape(self._input_shape).transpose(self._axes))
        if self._loses_steps and self._context.lengths is not None:
            _clear_steps(permuted.transpose(np.argsort(self._axes)), self._context)

    def backward(self, delta: Array) -> Array:
        grad_input = self._context.grad_input
        if grad_input is None:
            return delta
        gradient = grad_input.reshape(self._input_shape)
        np.copyto(gradient.transpose(self._axes), delta.reshape(self._output_shape))
        if self._loses_steps and self._context.lengths is not None:
            _clear_steps(gradient, self._context)
        return grad_input


def _clear_steps(x: Array, context: LayerContext) -> None:
    """Set the steps after the end of sequences (members, rows, steps, ...) to zero."""
    assert context.lengths is not None
    is_padding = padding_mask(context.lengths, x.shape[2])
    np.copyto(x, 0, where=is_padding.reshape(*is_padding.shape, *(1,) * (x.ndim - 3)))


def _validate_shape(shape: Any) -> tuple[int, ...]:
    """Return a shape as a tuple of int, or raise a ValueError."""
    sizes = list(shape) if isinstance(shape, Iterable) and not isinstance(shape, str) else [shape]
    is_valid = all(isinstance(n, (int, np.integer)) and (n > 0 or n == -1) for n in sizes)
    if not (sizes and is_valid and sizes.count(-1) <= 1):
        raise ValueError(
            "target_shape of Reshape must be positive integers, of which one may be -1, such as "
            f"(8, 8, 1) or (-1, 3), got {shape!r}."
        )
    return tuple(map(int, sizes))
