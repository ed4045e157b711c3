"""Linear layers for columns of numbers, and the base class of layers that read columns."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import numpy as np

from ..utils.arrays import Array
from .base import BoundLayer, Layer, LayerContext, ParameterSpec, Shape, draw_normal


def view_blocks(array: Array, n_blocks: int, width: int) -> Array:
    """Return a view of the first columns as (..., n_blocks, n, width), which BLAS takes."""
    columns = array[..., : n_blocks * width]
    return columns.reshape(*array.shape[:-1], n_blocks, width).swapaxes(-2, -3)


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
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.
    """

    n_blocks: int
    width: int
    n_units: int

    def compute_n_outputs(self, n_inputs: int) -> int:
        return n_inputs - self.n_blocks * (self.width - self.n_units)

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        shape = self.n_blocks, self.width, self.n_units
        return (ParameterSpec("maps", shape, partial(draw_normal, self.width**-0.5, shape)),)

    def bind(self, context: LayerContext) -> BoundLayer:
        maps, d_maps = context.parameters["maps"], context.gradients.get("maps")
        grad_input, n_blocks = context.grad_input, self.n_blocks
        n_mapped, n_outputs = n_blocks * self.width, n_blocks * self.n_units

        def forward(x: Array, out: Array) -> None:
            inputs = view_blocks(x, n_blocks, self.width)
            np.matmul(inputs, maps, out=view_blocks(out, n_blocks, self.n_units))
            out[..., n_outputs:] = x[..., n_mapped:]

        def backward(x: Array, out: Array, delta: Array) -> None:
            d_outputs = view_blocks(delta, n_blocks, self.n_units)
            if d_maps is not None:
                inputs = view_blocks(x, n_blocks, self.width)
                np.matmul(inputs.swapaxes(-1, -2), d_outputs, out=d_maps)
            if grad_input is not None:
                d_inputs = view_blocks(grad_input, n_blocks, self.width)
                np.matmul(d_outputs, maps.swapaxes(-1, -2), out=d_inputs)
                grad_input[..., n_mapped:] = delta[..., n_outputs:]

        return forward, backward


@dataclass(frozen=True)
class Scale(Layer):
    """Trained factor for each input: z = x * s, where s is initially one.

    With one number for each input, a network learns the importance of inputs faster than by the
    weights of all units of the first layer (Holzmueller, Grinsztajn & Steinwart 2024, section 3).

    Parameters
    ----------
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

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

    batch_view = "flat"

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (self,)

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        return (ParameterSpec("scales", (math.prod(input_shape),), initializer=1.0),)

    def bind(self, context: LayerContext) -> BoundLayer:
        scales, d_scales = context.parameters["scales"], context.gradients.get("scales")
        products = context.scratch("products", *context.x_shape) if context.gradients else None
        ones, grad_input = context.batch.ones(context.batch.n_rows), context.grad_input

        def forward(x: Array, out: Array) -> None:
            np.multiply(x, scales, out=out)

        def backward(x: Array, out: Array, delta: Array) -> None:
            if d_scales is not None:
                np.matmul(ones, np.multiply(x, delta, out=products), out=d_scales)
            if grad_input is not None:
                np.multiply(delta, scales, out=grad_input)

        return forward, backward
