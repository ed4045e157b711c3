"""Residual connections: the input of some layers is added to their output.

A network is a sequence of layers, so `Residual` expands to a start layer, its inner layers, and an
end layer that adds what the start layer has seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from ..utils._name_types import LayerName
from ..utils.arrays import Array
from .base import BoundLayer, Layer, LayerContext, Shape, check_layers, expand_layers
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
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

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

    batch_view = "flat"
    _set_elsewhere = frozenset({"trainable"})  # there is nothing to train
    backward_reads = "output"

    def __repr__(self) -> str:
        """Return the layer that the user has written, for errors."""
        return repr(self.residual)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return self.residual.compute_output_shape(input_shape)

    def bind(self, context: LayerContext) -> BoundLayer:
        open_residuals = context.batch.open_residuals
        # Connections that follow each other share this memory, but not nested ones.
        delta = context.batch.scratch(f"residual {len(open_residuals)}", *context.x_shape)
        connection = SimpleNamespace(context=context, x=None, delta=delta)
        open_residuals.append(connection)

        def forward(x: Array, out: Array) -> None:
            if not np.may_share_memory(x, out):
                np.copyto(out, x)
            connection.x = out

        def backward(x: Array, out: Array, delta: Array) -> None:
            np.add(delta, connection.delta, out=delta)

        return forward, backward


@dataclass(frozen=True)
class ResidualEnd(Layer):
    """Add the input of the residual connection that started last."""

    batch_view = "flat"
    backward_reads = "neither"

    def bind(self, context: LayerContext) -> BoundLayer:
        batch = context.batch
        if not batch.open_residuals:
            raise ValueError(
                "A part of a network must not start inside a Residual, because it would lack the "
                "input that is added. Start it before or after the Residual."
            )
        start = batch.open_residuals.pop()
        is_real: Array | None = None

        def forward(x: Array, out: Array) -> None:
            nonlocal is_real
            is_real = _find_steps(start.context, context)
            if is_real is None:
                np.add(x, start.x, out=out)
            else:
                np.copyto(out, x)
                np.add(out, start.x, out=out, where=is_real)

        def backward(x: Array, out: Array, delta: Array) -> None:
            np.copyto(start.delta, delta)
            if is_real is not None:
                np.multiply(delta, is_real, out=start.delta)

        return forward, backward


def _find_steps(start: LayerContext, end: LayerContext) -> Array | None:
    """Return which values of the input of a connection are no padding.

    None stands for all, also if the padding of its output is the same.
    """
    out_lengths: Any = end.lengths
    if start.lengths is None or np.array_equal(start.lengths, out_lengths):
        return None
    is_real = (~start.padding_mask()).repeat(math.prod(end.input_shape[1:]), axis=-1)
    return is_real if end.batch.n_estimators > 1 else is_real[0]
