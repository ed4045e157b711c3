"""Monotone networks, whose outputs do not decrease in some of their inputs.

A monotone network has two parts. Units of the first part see only inputs and units without
constraints. Units of the second part see all of them, and do not decrease in the inputs with
constraints. Such inputs come last, multiplied by the signs of their constraints. Within the second
part, weights are switched by their signs (Sartor et al. 2025): positive ones multiply max(x, 0),
and the absolute values of negative ones multiply min(x, 0). Neither decreases in x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import expit

from ..layers.base import BoundLayer, Layer, LayerContext
from ..layers.columns import ColumnLayer
from ..layers.dense import Activation, Dense
from ..utils.arrays import Array, IndexArray
from ._model_inputs import N_FREQUENCIES, WIDTH


@dataclass(frozen=True)
class MonotoneInputs(ColumnLayer):
    """Move the inputs with constraints to the end, multiplied by the signs of their constraints.

    Cosines of numbers with constraints are left out, because they are not monotone. The dense
    layers after this one are monotone.

    Parameters
    ----------
    signs : tuple of int
        The constraint of each encoded column: 1, -1, or 0 for none.
    n_blocks : int
        The number of blocks of the first encoded columns, which come before all encoded columns.
    trainable : bool, default=True
        Without effect, as there is nothing to train.
    """

    signs: tuple[int, ...]
    n_blocks: int

    def order(self) -> tuple[IndexArray, Array]:
        """Return the input and the sign of each output; 0 for no constraint."""
        signs = np.append(np.repeat(self.signs[: self.n_blocks], WIDTH), self.signs).astype(int)
        columns = np.arange(len(signs))
        is_cosine = (columns < self.n_blocks * WIDTH) & (columns % WIDTH < N_FREQUENCIES)
        columns = np.append(columns[signs == 0], columns[(signs != 0) & ~is_cosine])
        return columns, signs[columns]

    @property
    def n_monotone(self) -> int:
        """The number of outputs with constraints, which come last."""
        return int(np.count_nonzero(self.order()[1]))

    def compute_n_outputs(self, n_inputs: int) -> int:
        return len(self.order()[0])

    def adapt_network(self, layers: list[Layer]) -> list[Layer]:
        """Return monotone dense layers; half of the hidden units have constraints."""
        adapted, n_inputs, is_first = list[Layer](), self.n_monotone, True
        for layer in layers:
            if isinstance(layer, Dense):
                n_outputs = layer.n_units if layer is layers[-1] else layer.n_units // 2
                adapted.append(
                    MonotoneDense(
                        layer.n_units, n_inputs=n_inputs, n_outputs=n_outputs, is_first=is_first
                    )
                )
                n_inputs, is_first = n_outputs, False
            elif not isinstance(layer, Activation):
                adapted.append(layer)
        return adapted

    def bind(self, context: LayerContext) -> BoundLayer:
        (columns, signs), grad_input = self.order(), context.grad_input
        factors = np.where(signs, signs, 1).astype(np.int8)

        def forward(x: Array, out: Array) -> None:
            np.multiply(x[..., columns], factors, out=out)

        def backward(x: Array, out: Array, delta: Array) -> None:
            if grad_input is not None:
                grad_input[...] = 0
                grad_input[..., columns] = delta * factors

        return forward, backward


@dataclass(frozen=True)
class MonotoneDense(Dense):
    """Dense layer of a monotone network, with the activations of its inputs.

    Inputs without constraints have the activation SiLU before all layers but the first. With
    switched weights W, others add (x |W| + |x| W) / 2.

    Parameters
    ----------
    n_units, activation, use_bias, initializer, scope : object
        As in `Dense`; with biases, and without a further activation.
    n_inputs, n_outputs : int
        The numbers of inputs and of outputs with constraints, which come last.
    is_first : bool
        Whether it is the first layer.
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.
    """

    n_inputs: int = 0
    n_outputs: int = 0
    is_first: bool = False

    def activate(self, free: Any, others: Any) -> list[Any]:
        """Return the activations of inputs, side by side."""
        return [free if self.is_first else free * expit(free), others, np.abs(others)]

    def expand_weights(self, weights: Array) -> Array:
        """Return the weights of all activations."""
        n_free = weights.shape[-2] - self.n_inputs
        switched = weights[..., n_free:, :] / 2
        switched[..., : self.n_units - self.n_outputs] = 0
        return np.concatenate([weights[..., :n_free, :], np.abs(switched), switched], axis=-2)

    def bind(self, context: LayerContext) -> BoundLayer:
        names = f"{self.scope}weights", f"{self.scope}biases"
        weights, biases = (context.parameters[name] for name in names)
        d_weights, d_biases = (context.gradients.get(name) for name in names)
        n_all, grad_input = weights.shape[-2], context.grad_input
        split, n_others = n_all - self.n_inputs, self.n_units - self.n_outputs

        def activate(x: Array) -> Array:
            return np.concatenate(self.activate(x[..., :split], x[..., split:]), axis=-1)

        def forward(x: Array, out: Array) -> None:
            np.matmul(activate(x), self.expand_weights(weights), out=out)
            out += biases

        def backward(x: Array, out: Array, delta: Array) -> None:
            if d_weights is not None and d_biases is not None:
                d_w, d_switched = np.split(activate(x).swapaxes(-1, -2) @ delta, [n_all], axis=-2)
                d_w[..., split:, :] *= np.sign(weights[..., split:, :])
                d_w[..., split:, :] = (d_w[..., split:, :] + d_switched) / 2
                d_w[..., split:, :n_others] = 0
                d_weights[...] = d_w
                d_biases[...] = delta.sum(axis=-2, keepdims=True)
            if grad_input is not None:
                d_a = delta @ self.expand_weights(weights).swapaxes(-1, -2)
                grad_input[...] = d_a[..., :n_all]
                grad_input[..., split:] += d_a[..., n_all:] * np.sign(x[..., split:])
                if not self.is_first:
                    gate = expit(x[..., :split])
                    grad_input[..., :split] *= gate * (1 + x[..., :split] * (1 - gate))

        return forward, backward
