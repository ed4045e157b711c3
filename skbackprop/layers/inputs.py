"""Layers before the first dense one: what becomes of each input before inputs are mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..core.arrays import Array
from .base import Block, BoundLayer, Layer, Site


@dataclass(frozen=True)
class Normal:
    """Draws an array from a normal distribution with the mean zero.

    Parameters
    ----------
    deviation : float
        Its standard deviation.
    shape : tuple of int
        The shape of the array.
    """

    deviation: float
    shape: tuple[int, ...]

    def __call__(self, stream: np.random.RandomState) -> Array:
        drawn: Array = stream.normal(0, self.deviation, self.shape)
        return drawn


@dataclass(frozen=True)
class BlockMaps(Layer):
    """A linear map of its own for each block of inputs: z_g = x_g W_g; other inputs pass through.

    The inputs are `n_blocks` blocks side by side, of equal width, and then any number of others.
    So are the outputs. With the encodings of one number as a block it is the learned half of an
    embedding of numbers (Gorishniy, Rubachev & Babenko 2022, section 3).

    Parameters
    ----------
    n_blocks : int
        The number of blocks.
    width : int
        The inputs of each of them.
    n_units : int
        The outputs of each of them.
    """

    n_blocks: int
    width: int
    n_units: int

    def n_outputs(self, n_inputs: int) -> int:
        return n_inputs - self.n_blocks * (self.width - self.n_units)

    def blocks(self, n_inputs: int) -> tuple[Block, ...]:
        shape = self.n_blocks, self.width, self.n_units
        return (Block("maps", shape, Normal(self.width**-0.5, shape)),)

    def largest_product(self, n_inputs: int) -> int:
        return self.width * self.n_units

    def forward(self, site: Site, x: Array, out: Array) -> None:
        np.matmul(self._blocks(x, self.width), site.parameters["maps"], out=self._outputs(out))
        out[..., self.n_blocks * self.n_units :] = x[..., self.n_blocks * self.width :]

    def backward(self, site: Site, x: Array, delta: Array) -> Array:
        d_outputs = self._outputs(delta)
        if site.is_training:
            transposed = self._blocks(x, self.width).swapaxes(-1, -2)
            np.matmul(transposed, d_outputs, out=site.gradients["maps"])
        if site.d_input is None:
            return delta
        transposed = site.parameters["maps"].swapaxes(-1, -2)
        np.matmul(d_outputs, transposed, out=self._blocks(site.d_input, self.width))
        d_others = site.d_input[..., self.n_blocks * self.width :]
        d_others[...] = delta[..., self.n_blocks * self.n_units :]
        return site.d_input

    def _outputs(self, array: Array) -> Array:
        return self._blocks(array, self.n_units)

    def _blocks(self, array: Array, width: int) -> Array:
        """Return columns as (..., n_blocks, n, width): a view, of which BLAS takes each matrix."""
        columns = array[..., : self.n_blocks * width]
        return columns.reshape(*array.shape[:-1], self.n_blocks, width).swapaxes(-2, -3)


@dataclass(frozen=True)
class Scale(Layer):
    """z = x * s, with a factor s for each input that is learned, and starts at one."""

    overwrites_delta: ClassVar[bool] = True

    def blocks(self, n_inputs: int) -> tuple[Block, ...]:
        return (Block("scales", (n_inputs,), 1.0),)

    def bind(self, site: Site) -> BoundLayer:
        return BoundScale(site)


class BoundScale:
    """z = x * s.

    Parameters
    ----------
    site : Site
        Where it computes.
    """

    def __init__(self, site: Site) -> None:
        self._scales, self._d_scales = site.parameters["scales"], site.gradients.get("scales")
        if self._d_scales is not None:
            self._products = site.buffer("products", site.n_inputs)
            self._ones = np.ones((1, site.n_rows), self._scales.dtype)

    def forward(self, x: Array, out: Array) -> None:
        self._x = x
        np.multiply(x, self._scales, out=out)

    def backward(self, delta: Array) -> Array:
        if self._d_scales is not None:
            np.multiply(self._x, delta, out=self._products)
            np.matmul(self._ones, self._products, out=self._d_scales)
        return np.multiply(delta, self._scales, out=delta)
