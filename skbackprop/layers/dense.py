"""Dense and Activation layers.

Bound to the memory of one batch shape, `forward` computes a layer's output from its input, and
`backward` the gradient with respect to its input from that with respect to its output.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..activations import ActivationFunction, SelfGated
from ..initializers import GlorotUniform, Initializer
from ..utils.arrays import Array
from ..utils.configurable import check_in_place
from .base import BuiltLayer, Layer, LayerContext, ParameterSpec


@dataclass(frozen=True)
class Dense(Layer):
    """Dense layer: z = x W + b.

    Parameters
    ----------
    n_units : int
        The number of outputs.
    has_biases : bool, default=True
        Whether it has biases; False before a normalization, which has them.
    initializer : Initializer, optional
        The initializer of the weights and their biases.
    """

    n_units: int
    has_biases: bool = True
    initializer: Initializer = field(default_factory=GlorotUniform)

    takes_sparse: ClassVar[bool] = True

    def compute_n_outputs(self, n_inputs: int) -> int:
        return self.n_units

    def parameter_specs(self, n_inputs: int) -> tuple[ParameterSpec, ...]:
        shape = n_inputs, self.n_units
        weights = ParameterSpec("weights", shape, self.initializer, regularized=True)
        biases = ParameterSpec("biases", (self.n_units,))
        return (weights, biases) if self.has_biases else (weights,)

    def build(self, context: LayerContext) -> BuiltLayer:
        kind = BuiltSparseDense if context.is_sparse else BuiltDense
        parameters, gradients = context.parameters, context.gradients
        return kind(
            parameters["weights"],
            parameters.get("biases"),
            gradients.get("weights"),
            gradients.get("biases"),
            context.grad_input,
        )


@dataclass(frozen=True)
class Activation(Layer):
    """Activation layer: a = f(z), in place where f allows it.

    Parameters
    ----------
    activation : ActivationFunction
        The function f.
    """

    activation: ActivationFunction

    saves_output: ClassVar[bool] = True
    inplace_backward: ClassVar[bool] = True
    n_buffers: ClassVar[int] = 0

    def inplace_forward(self, has_backward: bool) -> bool:
        return not self.activation.needs_preactivation

    def build(self, context: LayerContext) -> BuiltLayer:
        copy = context.input_copy()
        if context.is_training and isinstance(self.activation, SelfGated):
            return BuiltSelfGated(self.activation, copy, context.scratch("gate", context.n_outputs))
        return BuiltActivation(self.activation, copy)


class BuiltDense:
    """z = x W + b for all members at once; for a single member without the member axis.

    Parameters
    ----------
    weights : array of shape (n_estimators, fan_in, fan_out)
        The weights.
    biases : array of shape (n_estimators, 1, fan_out) or None
        The biases; None before a normalization, which adds them.
    d_weights, d_biases : arrays of the same shapes, or None
        The arrays for their gradients; None if these are not needed.
    grad_input : array of shape (n_estimators, n, fan_in) or None
        The array for the gradient with respect to the input; None if that is not needed, as in
        the first layer in training.
    """

    def __init__(
        self,
        weights: Array,
        biases: Array | None,
        d_weights: Array | None = None,
        d_biases: Array | None = None,
        grad_input: Array | None = None,
    ) -> None:
        self.weights, self.biases = weights, biases
        self.d_weights, self.d_biases, self.grad_input = d_weights, d_biases, grad_input
        # For single matrices np.dot has the lowest overhead. For stacks np.matmul is slow with an
        # inner dimension of one, where the product is a multiplication.
        is_plain = weights.ndim == 2
        self._has_one_output = weights.shape[-1] == 1
        self._product = np.dot if is_plain else np.matmul
        self._outer_product = (
            np.multiply if self._has_one_output and not is_plain else self._product
        )
        if grad_input is not None:
            self._weights_transposed = weights.swapaxes(-1, -2)
        self._ones: Array | None = None

    def forward(self, x: Any, out: Array) -> None:
        self._x: Any = x
        self._product(x, self.weights, out=out)
        if self.biases is not None:
            np.add(out, self.biases, out=out)

    def backward(self, delta: Array) -> Array:
        if self.d_weights is not None:
            self._product(self._x.swapaxes(-1, -2), delta, out=self.d_weights)
        if self.d_biases is not None:
            self._sum_rows(delta)
        if self.grad_input is not None:
            delta = self._outer_product(delta, self._weights_transposed, out=self.grad_input)
        return delta

    def _sum_rows(self, delta: Array) -> None:
        """Sum `delta` over its rows: a product with ones takes a third of the time of a sum."""
        if self._ones is None:
            self._ones = np.ones((1,) * (delta.ndim - 1) + delta.shape[-2:-1], delta.dtype)
            self._ones_transposed = self._ones.swapaxes(-1, -2)
        if self._has_one_output:
            # Some BLAS kernels round a dot product by the address of the second factor. The ones
            # are aligned alike for a member of a stack and for a network alone.
            self._product(delta.swapaxes(-1, -2), self._ones_transposed, out=self.d_biases)
        else:
            self._product(self._ones, delta, out=self.d_biases)


class BuiltSparseDense(BuiltDense):
    """Dense layer on sparse input: a list of CSR matrices, one for each member or one for all."""

    def forward(self, x: Any, out: Array) -> None:
        self._x = x
        by_member = zip(*self._by_member(self.weights, out), strict=True)
        for member, (weights, z) in enumerate(by_member):
            z[...] = x[member % len(x)] @ weights
        if self.biases is not None:
            np.add(out, self.biases, out=out)

    def backward(self, delta: Array) -> Array:
        if self.d_weights is not None:
            by_member = zip(*self._by_member(delta, self.d_weights), strict=True)
            for member, (errors, d_weights) in enumerate(by_member):
                d_weights[...] = self._x[member % len(self._x)].T @ errors
        if self.d_biases is not None:
            self._sum_rows(delta)
        if self.grad_input is not None:
            delta = self._outer_product(delta, self._weights_transposed, out=self.grad_input)
        return delta

    @staticmethod
    def _by_member(*arrays: Array) -> tuple[Any, ...]:
        return arrays if arrays[0].ndim == 3 else tuple(array[None] for array in arrays)


class BuiltActivation:
    """a = f(z); `out` may be `x` itself if the activation allows it.

    Parameters
    ----------
    activation : ActivationFunction
        The function f.
    copy : array or None, default=None
        The array to which z is copied first; None if z may be overwritten.
    """

    def __init__(self, activation: ActivationFunction, copy: Array | None = None) -> None:
        self.activation, self._copy = activation, copy

    def forward(self, x: Array, out: Array) -> None:
        self._z, self._a = self._save(x), out
        result: object = self.activation.forward(self._z, out)  # type: ignore[func-returns-value]
        if result is not None:
            check_in_place(self.activation, "forward(z, a)", "a", result, out)

    def _save(self, x: Array) -> Array:
        """Return the input, saved for the backward pass."""
        if self._copy is None:
            return x
        np.copyto(self._copy, x)
        return self._copy

    def backward(self, delta: Array) -> Array:
        result: object = self.activation.backward(self._z, self._a, delta)  # type: ignore[func-returns-value]
        if result is not None:
            check_in_place(self.activation, "backward(z, a, delta)", "delta", result, delta)
        return delta


class BuiltSelfGated(BuiltActivation):
    """a = z s(z), with the gate s saved for the backward pass.

    Parameters
    ----------
    activation : SelfGated
        The function f.
    copy : array or None
        The array to which z is copied first; None if z may be overwritten.
    gate : array of the shape of z
        The array for the gate.
    """

    activation: SelfGated

    def __init__(self, activation: SelfGated, copy: Array | None, gate: Array) -> None:
        super().__init__(activation, copy)
        self._gate = gate

    def forward(self, x: Array, out: Array) -> None:
        self._z = self._save(x)
        self.activation.gate(self._z, self._gate)
        np.multiply(self._gate, self._z, out=out)

    def backward(self, delta: Array) -> Array:
        self.activation.backward_from_gate(self._z, self._gate, delta)
        return delta
