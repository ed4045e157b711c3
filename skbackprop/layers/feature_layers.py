"""Layers that transform single inputs before the first dense layer.

A new layer with a name takes one class and one line in `INPUT_LAYERS` of the module `embeddings`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..utils.arrays import Array
from ..utils.configurable import Configurable
from .base import BuiltLayer, Layer, LayerContext, ParameterSpec


class FeatureLayer(Configurable, Layer):
    """Base class of layers that transform the inputs before the first dense layer.

    A layer is a frozen dataclass with two formulas, as for any `Layer`, whose fields are its
    settings. Its parameters are not penalized unless their `ParameterSpec` says so.

    Examples
    --------
    A learned shift of each input, which a fit stores in ``shifts_``:

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

    # Whether it must be the first layer, since it reads columns of X.
    is_first: ClassVar[bool] = False

    @property
    def categorical_columns(self) -> tuple[int, ...]:
        """The columns that hold codes of categories, for which gradients have no meaning."""
        return ()

    def validate_input_shape(self, n_inputs: int) -> None:
        """Raise a ValueError if the layer can not have `n_inputs` inputs."""

    def validate_input_values(self, X: Array) -> None:
        """Raise a ValueError if X has values that the first layer can not be trained on."""


@dataclass(frozen=True)
class NormalInit:
    """Initializer that draws an array from a normal distribution with mean zero.

    Parameters
    ----------
    deviation : float
        The standard deviation.
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
        """Return a view of columns as (..., n_blocks, n, width), whose matrices BLAS takes."""
        columns = array[..., : self.n_blocks * width]
        return columns.reshape(*array.shape[:-1], self.n_blocks, width).swapaxes(-2, -3)


@dataclass(frozen=True)
class Scale(FeatureLayer):
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
    """z = x * s, bound to its arrays.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
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
