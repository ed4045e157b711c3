"""Windows of sequences and images, as convolutions and pooling layers read them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral
from typing import Any, ClassVar, TypeAlias

import numpy as np

from ..utils.arrays import Array
from ..utils.validation import validate_positive_int
from .base import Layer, Shape, as_ints

Pair: TypeAlias = tuple[int, int]
"""Numbers for height and width."""


@dataclass(frozen=True)
class AxisWindows:
    """The windows along one axis.

    Parameters
    ----------
    n_inputs : int
        The number of values along the axis.
    size : int, default=1
        The number of values of a window.
    stride : int, default=1
        The number of values from one window to the next.
    dilation : int, default=1
        The number of values from one value of a window to the next.
    n_before, n_after : int, default=0
        The number of values of padding before the first value of the axis, and after the last one.
        `n_after` is negative if no window has the last value.
    """

    n_inputs: int
    size: int = 1
    stride: int = 1
    dilation: int = 1
    n_before: int = 0
    n_after: int = 0

    @property
    def reach(self) -> int:
        """The number of values from the first to the last of a window."""
        return self.dilation * (self.size - 1) + 1

    @property
    def n_padded(self) -> int:
        """The number of values with padding."""
        return self.n_before + self.n_inputs + self.n_after

    @cached_property
    def n_outputs(self) -> int:
        """The number of windows; below one if there are none."""
        return (self.n_padded - self.reach) // self.stride + 1

    @property
    def are_adjacent(self) -> bool:
        """Whether each window starts where the one before it ends, from the first value on."""
        n_covered = self.n_outputs * self.size
        return self.size == self.stride and self.n_before == 0 and n_covered <= self.n_inputs

    @property
    def first_indices(self) -> Array:
        """The index of the first value of each window."""
        indices: Array = np.arange(self.n_outputs) * self.stride - self.n_before
        return indices

    def slice_padded(self, offset: int) -> slice:
        """Return where the values of this offset in their window are, in the padded axis."""
        start = offset * self.dilation
        return slice(start, start + (self.n_outputs - 1) * self.stride + 1, self.stride)

    def get_slices(self, offset: int) -> tuple[slice, slice]:
        """Return where the values of this offset in their window are, and which windows have one.

        The axis has no padding, and windows without dilation reach over its ends.
        """
        start = offset - self.n_before
        first = max(0, -(start // self.stride))
        last = min(self.n_outputs - 1, (self.n_inputs - 1 - start) // self.stride)
        begin, end = first * self.stride + start, last * self.stride + start
        return slice(begin, max(end, begin - 1) + 1, self.stride), slice(first, last + 1)

    def count_values(self, lengths: Array | None = None) -> Array:
        """Return the number of values in each window without padding, of at least one.

        `lengths` are those of sequences, whose steps after them do not count. The result has their
        shape and an axis of windows.
        """
        n = self.n_inputs if lengths is None else lengths[..., None]
        counts = np.minimum(n, self.first_indices + self.size) - np.maximum(self.first_indices, 0)
        at_least_one: Array = np.maximum(counts, 1)
        return at_least_one


class WindowLayer(Layer):
    """Base class of layers that read windows.

    Attributes
    ----------
    size_name, size_text : str
        The name of the setting that is the size of windows, and what errors call it.
    """

    strides: Any
    padding: str
    dilation: int = 1

    size_name: ClassVar[str]
    size_text: ClassVar[str]

    @property
    def window_size(self) -> Pair:
        """The size of windows; of sequences the first number."""
        return as_pair(getattr(self, self.size_name))

    @property
    def window_strides(self) -> Pair:
        """The steps from one window to the next; of sequences the first number."""
        return self.window_size if self.strides is None else as_pair(self.strides)

    def compute_windows(self, input_shape: Shape) -> tuple[AxisWindows, ...]:
        """Return the windows along each axis, for the shape of one row of the input."""
        sizes, strides = self.window_size, self.window_strides
        return tuple(
            AxisWindows(n, size, stride, self.dilation, *self.compute_padding(n, size, stride))
            for n, size, stride in zip(input_shape[: self.n_axes], sizes, strides, strict=False)
        )

    def compute_padding(self, n: int, size: int, stride: int) -> Pair:
        """Return the padding before and after n values."""
        if self.padding == "valid":
            return 0, 0
        n_zeros = max((math.ceil(n / stride) - 1) * stride + size - n, 0)
        return n_zeros // 2, n_zeros - n_zeros // 2

    def compute_output_size(self, input_shape: Shape) -> tuple[int, ...]:
        """Return the number of windows along each axis.

        Raises
        ------
        ValueError
            If the input has other axes, or there are no windows.
        """
        self.check_n_axes(input_shape)
        windows = self.compute_windows(input_shape)
        if min(axis.n_outputs for axis in windows) < 1:
            size = " x ".join(str(axis.reach) for axis in windows)
            kind = f"sequences of at least {size} steps"
            if self.n_axes == 2:
                kind = f"images of at least {size} pixels"
            raise self.input_shape_error(
                f'{kind}, {self.size_text}, unless padding="same"', input_shape
            )
        return tuple(axis.n_outputs for axis in windows)

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        stride = self.window_strides[0]
        if self.padding != "valid":
            padded: Array = -(-lengths // stride)
            return padded
        shortest = int(lengths.min())
        (windows,) = self.compute_windows((shortest,))
        if windows.n_outputs < 1:
            raise ValueError(
                f"{self!r} takes sequences of at least {windows.reach} steps, {self.size_text}, "
                f'got one of {shortest} before its padding. Set padding="same", or remove such '
                "rows."
            )
        n_windows: Array = (lengths - windows.reach) // stride + 1
        return n_windows


def as_pair(size: int | Pair) -> Pair:
    """Return (size, size) for a number, and a pair as it is."""
    return size if isinstance(size, tuple) else (size, size)


def validate_sizes(layer: Any, *names: str) -> None:
    """Check that fields are positive integers, or for images also pairs of them."""
    check = validate_positive_int if layer.n_axes == 1 else validate_pairs
    check(layer, *names)


def validate_pairs(layer: Any, *names: str) -> None:
    """Check that fields are positive integers or pairs of them, and make tuples of pairs."""
    for name in names:
        value = getattr(layer, name)
        sizes, is_number = as_ints(value), isinstance(value, Integral)
        if len(sizes) != (1 if is_number else 2) or min(sizes) < 1:
            raise ValueError(
                f"{name} of {type(layer).__name__} must be a positive int, or a pair of them for "
                f"height and width, got {value!r}."
            )
        object.__setattr__(layer, name, sizes[0] if is_number else sizes)
