"""Residual connections: the input of some layers is added to their output.

A network is a sequence of layers, so `Residual` expands to a start layer, its inner layers, and an
end layer that adds what the start layer has seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np

from ..utils._name_types import LayerName
from ..utils.arrays import Array
from .base import (
    BatchView,
    BuiltLayer,
    Layer,
    LayerContext,
    Shape,
    check_layers,
    expand_layers,
    padding_mask,
)
from .embeddings import LAYERS


@dataclass(frozen=True)
class Residual(Layer):
    """Residual connection around some layers F: y = x + F(x).

    The gradient with respect to x is that of y, plus the gradient through F, so it reaches the
    first layers of deep networks. Residual connections can be nested.

    Parameters
    ----------
    layers : Layer, str, or list of these
        The layers F, one or several in a row. Their output must have the shape of their input.

    Raises
    ------
    ValueError
        If `layers` is empty or holds anything but layers; in `fit`, if the output of the layers
        has another shape than their input.

    References
    ----------
    He, K., Zhang, X., Ren, S. & Sun, J. (2016). Deep residual learning for image recognition. CVPR.
    Section 3.2, equation 1.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import Dense, LayerNormalization, Residual
    >>> block = Residual([LayerNormalization(), Dense(16, activation="relu"), Dense(8)])
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier((), layers=[Dense(8), block, block], tol=0.01, random_state=0)
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    layers: Layer | LayerName | Sequence[Layer | LayerName]

    def __post_init__(self) -> None:
        layers = check_layers(self.layers, LAYERS, "layers of Residual")
        if not layers:
            raise ValueError(f"Residual needs at least one layer, got layers={self.layers!r}.")
        if layers[0].reads_columns:
            raise ValueError(
                f"layers of Residual must not start with {type(layers[0]).__name__}, which reads "
                "columns of X. Put it before the Residual."
            )
        object.__setattr__(self, "layers", layers)

    @property
    def inner_layers(self) -> tuple[Layer, ...]:
        return cast(tuple[Layer, ...], self.layers)

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (self,)

    def expand(self, input_shape: Shape) -> tuple[Layer, ...]:
        inner, _ = expand_layers(self.inner_layers, input_shape)
        return ResidualStart(self), *inner, ResidualEnd()

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        shape = input_shape
        for layer in self.inner_layers:
            shape = layer.compute_output_shape(shape)
        if shape != input_shape:
            raise ValueError(
                f"The layers of {self!r} must keep the shape of their input, which is added to "
                f"their output, but rows of shape {input_shape} become rows of shape {shape}. "
                "Change the last layer, or add one that restores the shape."
            )
        return input_shape


@dataclass(frozen=True)
class ResidualStart(Layer):
    """Pass the input on, to the next layer and to the end of the residual connection.

    Parameters
    ----------
    residual : Residual
        The connection that it starts.
    """

    residual: Residual

    batch_view: ClassVar[BatchView] = "flat"
    saves_output: ClassVar[bool] = True
    inplace_backward: ClassVar[bool] = True

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.residual.compute_output_shape(input_shape)

    def inplace_forward(self, has_backward: bool) -> bool:
        return True

    def build(self, context: LayerContext) -> BuiltLayer:
        built = BuiltResidualStart(context)
        context.open_residuals.append(built)
        return built


@dataclass(frozen=True)
class ResidualEnd(Layer):
    """Add the input of the residual connection that started last."""

    batch_view: ClassVar[BatchView] = "flat"
    inplace_backward: ClassVar[bool] = True

    def inplace_forward(self, has_backward: bool) -> bool:
        return True

    def build(self, context: LayerContext) -> BuiltLayer:
        if not context.open_residuals:
            raise ValueError(
                "A part of a network must not start inside a Residual, because it would lack the "
                "input that is added. Start it before or after the Residual."
            )
        return BuiltResidualEnd(context, context.open_residuals.pop())


class BuiltResidualStart:
    """The start of a residual connection.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.

    Attributes
    ----------
    x : array of shape (n_estimators, n_rows, n_values)
        The current batch.
    delta : array of the same shape
        The gradient with respect to the output of the connection.
    """

    x: Array
    delta: Array

    def __init__(self, context: LayerContext) -> None:
        self.context = context
        self.depth = len(context.open_residuals)

    def forward(self, x: Array, out: Array) -> None:
        if not np.may_share_memory(x, out):
            np.copyto(out, x)
        self.x = out

    def backward(self, delta: Array) -> Array:
        np.add(delta, self.delta, out=delta)
        return delta


class BuiltResidualEnd:
    """The end of a residual connection: y = x + F(x), of which it gets F(x).

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    start : BuiltResidualStart
        The start of the connection.
    """

    def __init__(self, context: LayerContext, start: BuiltResidualStart) -> None:
        self._context, self._start = context, start
        shape = context.n_estimators, context.n_rows, context.n_outputs
        # Connections that follow each other can share it, those around each other can't.
        start.delta = context.pool.get(f"residual {start.depth}", shape)
        if context.n_estimators == 1:
            start.delta = start.delta[0]

    def forward(self, x: Array, out: Array) -> None:
        self._is_real = self._steps_of_changed_lengths()
        if self._is_real is None:
            np.add(x, self._start.x, out=out)
        else:
            np.copyto(out, x)
            np.add(out, self._start.x, out=out, where=self._is_real)

    def backward(self, delta: Array) -> Array:
        np.copyto(self._start.delta, delta)
        if self._is_real is not None:
            np.multiply(delta, self._is_real, out=self._start.delta)
        return delta

    def _steps_of_changed_lengths(self) -> Array | None:
        """Return which values of x are no padding if F has changed the lengths, else None."""
        lengths, after = self._start.context.lengths, self._context.lengths
        if lengths is None or lengths is after:
            return None
        if after is not None and np.array_equal(lengths, after):
            return None
        n_steps, *rest = self._context.input_shape
        is_real = (~padding_mask(lengths, n_steps)).repeat(math.prod(rest), axis=-1)
        return is_real if self._context.n_estimators > 1 else is_real[0]
