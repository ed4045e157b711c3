"""Layers that change the shape of rows only: Flatten and Reshape."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..utils.arrays import Array
from .base import BuiltLayer, Layer, LayerContext, Shape


@dataclass(frozen=True)
class Flatten(Layer):
    """Flatten each row to one axis, as dense layers need it.

    The estimators do it before their first hidden layer. Padding at the end of a sequence becomes
    zeros.

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
            raise self.input_shape_error(f"{rest} values", input_shape)
        return shape

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        return None

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltReshape(context)


class BuiltReshape:
    """A view of the input; the steps after the end of a sequence become zeros.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    """

    def __init__(self, context: LayerContext) -> None:
        self._context = context

    def forward(self, x: Array, out: Array) -> None:
        self._clear_padding(x)

    def backward(self, delta: Array) -> Array:
        context = self._context
        delta = delta.reshape(
            *delta.shape[: delta.ndim - len(context.output_shape)], *context.input_shape
        )
        self._clear_padding(delta)
        return delta

    def _clear_padding(self, x: Array) -> None:
        """Set the steps after the end of each sequence to zero."""
        lengths = self._context.lengths
        if lengths is None:
            return
        is_padding = np.arange(self._context.input_shape[0]) >= lengths[..., None]
        members = np.broadcast_to(is_padding, (self._context.n_estimators, *is_padding.shape[1:]))
        self._context.with_member_axis(x)[members] = 0


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
