"""Linear layers for columns of numbers, and the base class of layers that read columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..utils.arrays import Array
from .base import BatchView, BuiltLayer, Layer, LayerContext, NormalInit, ParameterSpec, Shape


class ColumnLayer(Layer):
    """Base class of layers whose input is one number for each column."""

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) != 1:
            raise self.input_shape_error("columns without a further axis", input_shape)
        self.validate_columns(input_shape[0])
        return (self.compute_n_outputs(input_shape[0]),)

    def validate_columns(self, n_inputs: int) -> None:
        """Raise a ValueError if the layer can not have `n_inputs` inputs."""

    def compute_n_outputs(self, n_inputs: int) -> int:
        """Return the number of outputs."""
        raise NotImplementedError(f"{type(self).__name__} must define compute_n_outputs(n_inputs)")


@dataclass(frozen=True)
class BlockDiagonalDense(ColumnLayer):
    """Block-diagonal linear layer: z_g = x_g W_g for each block g of inputs.

    The inputs are `n_blocks` blocks side by side, of equal width, and then any number of others,
    which pass through. So are the outputs. With the encodings of one number as a block it is the
    trained half of an embedding of numbers (Gorishniy, Rubachev & Babenko 2022, section 3).

    Parameters
    ----------
    n_blocks : int
        The number of blocks.
    width : int
        The number of inputs of each block.
    n_units : int
        The number of outputs of each block.
    """

    n_blocks: int
    width: int
    n_units: int

    def compute_n_outputs(self, n_inputs: int) -> int:
        return n_inputs - self.n_blocks * (self.width - self.n_units)

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        shape = self.n_blocks, self.width, self.n_units
        return (ParameterSpec("maps", shape, NormalInit(self.width**-0.5, shape)),)

    def max_matmul_size(self, input_shape: Shape) -> int:
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
        """Return a view of columns as (..., n_blocks, n, width), whose matrices BLAS takes."""
        columns = array[..., : self.n_blocks * width]
        return columns.reshape(*array.shape[:-1], self.n_blocks, width).swapaxes(-2, -3)


@dataclass(frozen=True)
class Scale(Layer):
    """Trained factor for each input: z = x * s, where s is initially one.

    With one number for each input, a network learns the importance of inputs faster than by the
    weights of all units of the first layer (Holzmueller, Grinsztajn & Steinwart 2024, section 3).

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
    >>> model = BackpropClassifier(layers=Scale(), batch_size=16, tol=0.01, random_state=0)
    >>> model.fit(X, y).scales_[0].shape
    (4,)
    """

    batch_view: ClassVar[BatchView] = "flat"
    inplace_backward: ClassVar[bool] = True

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (self,)

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        return (ParameterSpec("scales", (math.prod(input_shape),), initializer=1.0),)

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltScale(context)


class BuiltScale:
    """z = x * s, bound to its arrays.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    """

    def __init__(self, context: LayerContext) -> None:
        self._scales, self._d_scales = context.parameters["scales"], context.gradients.get("scales")
        if self._d_scales is not None:
            self._products = context.scratch("products", context.n_rows, context.n_inputs)
            self._ones = np.ones((1, context.n_rows), self._scales.dtype)

    def forward(self, x: Array, out: Array) -> None:
        self._x = x
        np.multiply(x, self._scales, out=out)

    def backward(self, delta: Array) -> Array:
        if self._d_scales is not None:
            np.multiply(self._x, delta, out=self._products)
            np.matmul(self._ones, self._products, out=self._d_scales)
        return np.multiply(delta, self._scales, out=delta)
