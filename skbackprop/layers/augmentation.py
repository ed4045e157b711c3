"""Layers for training only: noise, flips and translations of images.

In prediction and in exported models they leave their input as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from ..utils.arrays import Array
from ..utils.validation import between
from .base import BoundLayer, Layer, LayerContext, ParameterFreeLayer, Shape


@dataclass(frozen=True)
class GaussianNoise(ParameterFreeLayer):
    """Gaussian noise: out = x + stddev * e, with new standard normal numbers e for each batch.

    As the first layer it acts like an L2 penalty on the change of the output with the input
    (Bishop 1995). Prediction skips the layer. Each member has its own random generator, and draws
    the same noise in any stack.

    Parameters
    ----------
    stddev : float
        The standard deviation of the noise, non-negative.

    Raises
    ------
    ValueError
        If `stddev` is negative.

    See Also
    --------
    Dropout : Noise that multiplies.

    References
    ----------
    Bishop, C. M. (1995). Training with noise is equivalent to Tikhonov regularization. Neural
    Computation 7(1), 108-116.

    Examples
    --------
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.layers import GaussianNoise
    >>> model = BackpropRegressor(layers=GaussianNoise(0.1))
    """

    stddev: Annotated[float, between(0, closed="left")]

    batch_view = "flat"
    stochastic = True
    backward_reads = "neither"

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return ()

    def bind(self, context: LayerContext) -> BoundLayer | None:
        batch = context.batch
        if not batch.is_training:
            return None
        noise = batch.scratch("noise", *context.x_shape)

        def forward(x: Array, out: Array) -> None:
            batch.fill_with_noise(noise, self.stddev)
            np.add(x, noise, out=out)

        return forward, lambda x, out, delta: None


class ImageAugmentation(ParameterFreeLayer):
    """Base class of layers that move the pixels of each image at random in training.

    A move is a pair of integers, for height and width. Its gradient moves by the opposite pair.
    """

    batch_view = "shaped"
    stochastic = True
    backward_reads = "neither"

    def draw_moves(self, rng: np.random.Generator, n_rows: int, input_shape: Shape) -> Array:
        """Return random moves of the images of a batch, of shape (n_rows, 2)."""
        raise NotImplementedError(f"{type(self).__name__} must define draw_moves(...)")

    def move(self, image: Array, down: int, right: int, out: Array) -> None:
        """Write a moved image to `out`."""
        raise NotImplementedError(f"{type(self).__name__} must define move(...)")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self.check_n_axes(input_shape)
        return input_shape

    def bind(self, context: LayerContext) -> BoundLayer | None:
        batch, shape = context.batch, context.input_shape
        if not batch.is_training:
            return None
        moves = np.zeros((batch.n_estimators, batch.n_rows, 2), dtype=int)
        copy = np.empty(shape, batch.pool.dtype)

        def move_all(images: Array, sign: int) -> None:
            for images_of_member, pairs in zip(
                images.reshape(*moves.shape[:2], *shape), sign * moves, strict=True
            ):
                for row in np.flatnonzero(pairs.any(axis=1)).tolist():
                    down, right = pairs[row].tolist()
                    np.copyto(copy, images_of_member[row])
                    self.move(copy, down, right, images_of_member[row])

        def forward(x: Array, out: Array) -> None:
            if out is not x:
                np.copyto(out, x)
            for rng, pairs in zip(batch.rngs, moves, strict=True):
                pairs[...] = self.draw_moves(rng, batch.n_rows, shape)
            move_all(out, 1)

        def backward(x: Array, out: Array, delta: Array) -> None:
            move_all(delta, -1)

        return forward, backward


@dataclass(frozen=True)
class RandomFlip(ImageAugmentation):
    """Flip each image of a training batch at random, with probability 1/2 in each direction.

    Each epoch sees other copies of the images, which replaces copies in the training data.
    Prediction skips the layer. Each member has its own random generator.

    Parameters
    ----------
    mode : str, default="horizontal_and_vertical"
        What to exchange: "horizontal" for left and right, "vertical" for top and bottom, or
        "horizontal_and_vertical" for both, independently of each other.

    Raises
    ------
    ValueError
        If there is no such `mode`; in `fit`, if rows are no images.

    See Also
    --------
    RandomTranslation2D : Shift images at random.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import Conv2D, RandomFlip
    >>> model = BackpropClassifier(layers=[RandomFlip("horizontal"), Conv2D(16, 3)])
    """

    mode: Literal["horizontal", "vertical", "horizontal_and_vertical"] = "horizontal_and_vertical"

    def draw_moves(self, rng: np.random.Generator, n_rows: int, input_shape: Shape) -> Array:
        flips: Array = rng.integers(2, size=(n_rows, 2))
        return flips * ["vertical" in self.mode, "horizontal" in self.mode]

    def move(self, image: Array, down: int, right: int, out: Array) -> None:
        np.copyto(out, image[:: -1 if down else 1, :: -1 if right else 1])


@dataclass(frozen=True)
class RandomTranslation2D(ImageAugmentation):
    """Shift each image of a training batch at random, by whole pixels, up or down and sideways.

    All shifts up to the largest have the same probability. Pixels from outside of the image are
    zero. Each epoch sees other copies of the images, which replaces copies in the training data.
    Prediction skips the layer. Each member has its own random generator.

    Parameters
    ----------
    height_factor : float
        The largest shift up or down, as a share of the height, in [0, 1]. It is rounded to whole
        pixels.
    width_factor : float or None, default=None
        The largest shift to the left or right, as a share of the width; None for `height_factor`.

    Raises
    ------
    ValueError
        If a factor is out of range; in `fit`, if rows are no images, or are so small that both
        shifts are rounded to zero.

    See Also
    --------
    RandomFlip : Flip images at random.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import Conv2D, RandomTranslation2D
    >>> model = BackpropClassifier(layers=[RandomTranslation2D(0.1), Conv2D(16, 3)])
    """

    height_factor: Annotated[float, between(0, 1)]
    width_factor: Annotated[float | None, between(0, 1)] = None

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        super().compute_output_shape(input_shape)
        if not any(self._largest_shifts(input_shape)):
            raise self.input_shape_error("images that it shifts by at least one pixel", input_shape)
        return input_shape

    def _largest_shifts(self, input_shape: Shape) -> list[int]:
        """Return the largest shifts in pixels, for height and width."""
        width_factor = self.height_factor if self.width_factor is None else self.width_factor
        factors = self.height_factor, width_factor
        return [int(f * size + 0.5) for f, size in zip(factors, input_shape, strict=False)]

    def draw_moves(self, rng: np.random.Generator, n_rows: int, input_shape: Shape) -> Array:
        largest = np.array(self._largest_shifts(input_shape))
        return rng.integers(-largest, largest, size=(n_rows, 2), endpoint=True)

    def move(self, image: Array, down: int, right: int, out: Array) -> None:
        height, width = image.shape[:2]
        out[...] = 0
        out[max(down, 0) : height + down, max(right, 0) : width + right] = image[
            max(-down, 0) : height - down, max(-right, 0) : width - right
        ]
