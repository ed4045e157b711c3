"""A layer that crops sequences and images or extends them, for sizes that windows do not fill."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..utils.arrays import Array
from .base import Layer, LayerContext, Shape


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
    >>> from skbackprop.layers.resizing import CropOrPad
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
