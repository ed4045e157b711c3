"""Layers before the first dense one: what becomes of each input before inputs are mixed.

One class, and one line in the table `INPUT_LAYERS` of `embeddings`, make one that users can name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..utils.arrays import Array
from ..utils.config import Configurable
from .base import BuiltLayer, Layer, LayerContext, ParameterSpec


class FeatureLayer(Configurable, Layer):
    """What becomes of each input of a network before its first dense layer.

    One class with two formulas makes one, as for any `Layer`: a frozen dataclass whose fields are
    its settings. What it learns is free of the penalty and of decay, which act on the dense layers'
    weights.

    Examples
    --------
    A shift of each input, which is learned, and kept in ``shifts_``:

    >>> from dataclasses import dataclass
    >>> import numpy as np
    >>> from skbackprop.layers import FeatureLayer
    >>> from skbackprop.layers.base import ParameterSpec
    >>> @dataclass(frozen=True)
    ... class Shift(FeatureLayer):
    ...     def parameter_specs(self, n_inputs):
    ...         return (ParameterSpec("shifts", (n_inputs,)),)
    ...
    ...     def forward(self, context, x, out):
    ...         np.add(x, context.parameters["shifts"], out=out)
    ...
    ...     def backward(self, context, x, delta):
    ...         if context.is_training:
    ...             context.gradients["shifts"][...] = delta.sum(axis=-2, keepdims=True)
    ...         if context.grad_input is not None:
    ...             context.grad_input[...] = delta
    ...         return delta
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(input_layers=Shift(), tol=0.01, random_state=0)
    >>> model.fit(X, y).shifts_[0].shape
    (4,)
    """

    # Whether it stands before all others, since it reads what X holds.
    is_first: ClassVar[bool] = False

    @property
    def categorical_columns(self) -> tuple[int, ...]:
        """The columns whose numbers stand for something else, so that no derivative tells of it."""
        return ()

    def validate_input_shape(self, n_inputs: int) -> None:
        """Raise a ValueError if so many inputs are none that the layer can stand behind."""

    def validate_input_values(self, X: Array) -> None:
        """Raise a ValueError if X holds what the first layer can not be trained on."""


@dataclass(frozen=True)
class NormalInit:
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

    def __call__(self, rng: np.random.RandomState) -> Array:
        drawn: Array = rng.normal(0, self.deviation, self.shape)
        return drawn


@dataclass(frozen=True)
class BlockDiagonalDense(FeatureLayer):
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

    def compute_n_outputs(self, n_inputs: int) -> int:
        return n_inputs - self.n_blocks * (self.width - self.n_units)

    def parameter_specs(self, n_inputs: int) -> tuple[ParameterSpec, ...]:
        shape = self.n_blocks, self.width, self.n_units
        return (ParameterSpec("maps", shape, NormalInit(self.width**-0.5, shape)),)

    def max_matmul_size(self, n_inputs: int) -> int:
        return self.width * self.n_units

    def forward(self, context: LayerContext, x: Array, out: Array) -> None:
        np.matmul(self._blocks(x, self.width), context.parameters["maps"], out=self._outputs(out))
        out[..., self.n_blocks * self.n_units :] = x[..., self.n_blocks * self.width :]

    def backward(self, context: LayerContext, x: Array, delta: Array) -> Array:
        d_outputs = self._outputs(delta)
        if context.is_training:
            transposed = self._blocks(x, self.width).swapaxes(-1, -2)
            np.matmul(transposed, d_outputs, out=context.gradients["maps"])
        if context.grad_input is None:
            return delta
        transposed = context.parameters["maps"].swapaxes(-1, -2)
        np.matmul(d_outputs, transposed, out=self._blocks(context.grad_input, self.width))
        d_others = context.grad_input[..., self.n_blocks * self.width :]
        d_others[...] = delta[..., self.n_blocks * self.n_units :]
        return context.grad_input

    def _outputs(self, array: Array) -> Array:
        return self._blocks(array, self.n_units)

    def _blocks(self, array: Array, width: int) -> Array:
        """Return columns as (..., n_blocks, n, width): a view, of which BLAS takes each matrix."""
        columns = array[..., : self.n_blocks * width]
        return columns.reshape(*array.shape[:-1], self.n_blocks, width).swapaxes(-2, -3)


@dataclass(frozen=True)
class Scale(FeatureLayer):
    """A factor for each input: z = x * s, where s starts at one and is learned.

    So a network finds out, by a number for each of its inputs, how much they are to count, sooner
    than by the weights of all units of the first layer (Holzmueller, Grinsztajn & Steinwart 2024,
    section 3).

    References
    ----------
    Holzmueller, D., Grinsztajn, L. & Steinwart, I. (2024). Better by default: strong pre-tuned MLPs
    and boosted trees on tabular data. NeurIPS.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import Scale
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(input_layers=Scale(), batch_size=16, tol=0.01, random_state=0)
    >>> model.fit(X, y).scales_[0].shape
    (4,)
    """

    inplace_backward: ClassVar[bool] = True

    def parameter_specs(self, n_inputs: int) -> tuple[ParameterSpec, ...]:
        return (ParameterSpec("scales", (n_inputs,), initializer=1.0),)

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltScale(context)


class BuiltScale:
    """z = x * s.

    Parameters
    ----------
    context : Site
        Where it computes.
    """

    def __init__(self, context: LayerContext) -> None:
        self._scales, self._d_scales = context.parameters["scales"], context.gradients.get("scales")
        if self._d_scales is not None:
            self._products = context.scratch("products", context.n_inputs)
            self._ones = np.ones((1, context.n_rows), self._scales.dtype)

    def forward(self, x: Array, out: Array) -> None:
        self._x = x
        np.multiply(x, self._scales, out=out)

    def backward(self, delta: Array) -> Array:
        if self._d_scales is not None:
            np.multiply(self._x, delta, out=self._products)
            np.matmul(self._ones, self._products, out=self._d_scales)
        return np.multiply(delta, self._scales, out=delta)
