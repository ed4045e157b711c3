"""Passes of recurrent layers: backpropagation through time.

The gates of a layer are blocks of arrays whose axes are (gate, member, step, row, unit). The input
of all steps takes one product, and the state one for each step, which write to whole blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import numpy as np

from ..utils.arrays import Array
from .base import LayerContext, Shape

StepPasses: TypeAlias = tuple[Callable[[int], None], Callable[[int], None]]
"""The functions of the number of a step that compute the state after it, and its gradients."""


def split_channels(input_shape: Shape) -> tuple[int, int]:
    """Return the number of steps and of channels of a sequence."""
    n_steps, *channels = input_shape
    return n_steps, channels[0] if channels else 1


class Recurrence:
    """Both passes of a recurrent layer, step by step.

    Parameters
    ----------
    layer : RecurrentLayer
        The settings, and the computation of single steps.
    context : LayerContext
        The arrays of the layer, or of a layer of two directions.
    grad_input : array or None
        The array for the gradient with respect to the input.
    direction : {"", "forward", "backward"}, default=""
        The prefix of the names of its arrays in a layer of two directions. "backward" reads
        sequences from their end, and numbers their steps so.

    Attributes
    ----------
    gates : list of arrays of shape (n_blocks, ..., n_rows, n_units)
        The gates of each step.
    states : list of arrays of shape (n_states, ..., n_rows, n_units)
        The state before each step, and after the last one.
    outputs : list of arrays of shape (..., n_rows, n_units)
        The first array of each state.
    recurrent : array of shape (n_recurrent_gates, ..., n_units, n_units)
        The recurrent kernels of each gate; transposed in the backward pass.
    product : array of shape (n_recurrent_gates, ..., n_rows, n_units)
        Memory for the product of a state and the recurrent kernels, or of their gradients.
    d_states : array of shape (n_states, ..., n_rows, n_units)
        The gradient with respect to the state.
    """

    def __init__(
        self,
        layer: Any,
        context: LayerContext,
        grad_input: Array | None,
        direction: Literal["", "forward", "backward"] = "",
    ) -> None:
        self._layer, self._context, self._direction = layer, context, direction
        self._grad_input, prefix = grad_input, f"{direction}_" if direction else ""
        self.parameters, self._gradients = (
            {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}
            for arrays in (context.parameters, context.gradients)
        )
        self.n_rows, self._n_steps, n_channels = context.x_shape
        n_steps, n_rows, n_units = self._n_steps, self.n_rows, layer.n_units
        n_inputs, n_recurrent = len(layer.input_gates), len(layer.recurrent_gates)
        # The input has the axis of steps first, and a channel of ones, whose kernels are biases.
        (self._inputs,) = self.blocks("steps", 1, n_steps, n_rows, n_channels + 1)
        self._input_kernels = self.blocks("kernels", n_inputs, n_channels + 1, n_units)
        self.recurrent = self.blocks("recurrent", n_recurrent, n_units, n_units)
        self.product = self.blocks("product", n_recurrent, n_rows, n_units)
        self._gates = self.blocks("gates", layer.n_blocks, n_steps, n_rows, n_units)
        self._states = self.blocks("states", layer.n_states, n_steps + 1, n_rows, n_units)
        self.gates, self.states = _split_steps(self._gates), _split_steps(self._states)
        self.outputs = [state[0] for state in self.states]
        self.d_states = self.blocks("d states", layer.n_states, n_rows, n_units)
        self._carried = self.blocks("carried", layer.n_states, n_rows, n_units)
        self._step, self._step_back = layer.bind_steps(self)

    def blocks(self, name: str, n_blocks: int, *shape: int) -> Array:
        """Return a scratch array of shape (n_blocks, n_estimators, *shape).

        With a single member it has no member axis.
        """
        context, n_estimators = self._context, self._context.batch.n_estimators
        full_name = f"{name} {self._direction} {context.index}"
        array = context.batch.pool.get(full_name, (n_blocks, n_estimators, *shape))
        return array[:, 0] if n_estimators == 1 else array

    def saved(self, name: str) -> list[Array]:
        """Return an array for each step, which the forward pass fills for the backward pass."""
        shape = self.n_rows, self._layer.n_units
        if not self._context.has_backward:
            return [self.blocks(name, 1, *shape)[0]] * self._n_steps
        return _split_steps(self.blocks(name, 1, self._n_steps, *shape)[0])

    def _columns(self, gate: int) -> slice:
        """Return the columns of a gate in kernels and biases."""
        return slice(gate * self._layer.n_units, (gate + 1) * self._layer.n_units)

    def _steps_first(self, rows: Array) -> Array:
        """Return a view of (..., n_rows, n_steps, n), steps first and in the order of reading."""
        steps = rows.swapaxes(-3, -2)
        return steps[..., ::-1, :, :] if self._direction == "backward" else steps

    # ---------------------------------------------------------------- forward pass

    def forward(self, x: Array, out: Array) -> None:
        """Compute the states after all steps, and write them, or the last one, to `out`."""
        self._read_parameters()
        steps = self._inputs if x.ndim == 3 else self._inputs[: len(x)]
        np.copyto(steps[..., :-1], self._steps_first(x))
        steps[..., -1] = 1
        n_inputs = len(self._input_kernels)
        gates = _merge_steps(self._gates[:n_inputs])
        np.matmul(_merge_steps(steps), self._input_kernels, out=gates)
        self._find_padding()
        self._states[..., 0, :, :] = 0
        for step in range(self._n_steps):
            self._step(step)
            if self._is_padded[step]:
                last_state, state = self.states[step : step + 2]
                np.copyto(state, last_state, where=self._padding[step])
        outputs = self._states[0]
        if not self._layer.return_sequences:
            np.copyto(out, outputs[..., -1, :, :])
            return
        out = self._steps_first(out)
        np.copyto(out, outputs[..., 1:, :, :])
        if self._context.lengths is not None:
            np.copyto(out, 0, where=np.moveaxis(self._padding, 0, -3))

    def _read_parameters(self) -> None:
        """Copy the weights to blocks, one for each gate; logistic gates take half of them."""
        layer, parameters = self._layer, self.parameters
        for kernels, gate in zip(self._input_kernels, layer.input_gates, strict=True):
            columns, factor = self._columns(gate), 0.5 if gate in layer.logistic_gates else 1.0
            np.multiply(parameters["kernels"][..., columns], factor, out=kernels[..., :-1, :])
            biases = parameters["kernel_biases"][..., columns]
            np.multiply(biases, factor, out=kernels[..., -1:, :])
        for recurrent, gate in zip(self.recurrent, layer.recurrent_gates, strict=True):
            columns, factor = self._columns(gate), 0.5 if gate in layer.logistic_gates else 1.0
            np.multiply(parameters["recurrent_kernels"][..., columns], factor, out=recurrent)

    def _find_padding(self) -> None:
        """Find the padded rows of each step, and where truncation cuts."""
        lengths, n_steps = self._context.lengths, self._n_steps
        self._is_padded: Sequence[bool] = (False,) * n_steps
        # The number of steps from each step to the end of its sequence tells where truncation cuts.
        self._steps_left: Array = np.arange(n_steps, 0, -1)
        if lengths is None:
            return
        if self._context.batch.n_estimators == 1:
            lengths = lengths[0]
        left = self._steps_left.reshape(-1, *(1,) * (lengths.ndim + 1))
        if self._direction == "backward":
            self._padding = left > lengths[..., None]
        else:
            self._steps_left = left - (n_steps - lengths[..., None])
            self._padding = self._steps_left <= 0
        self._is_padded = [bool(padding.any()) for padding in self._padding]

    # --------------------------------------------------------------- backward pass

    def backward(self, x: Array, out: Array, delta: Array) -> None:
        """Write the gradients of the parameters and of the input."""
        layer, gradients = self._layer, self._gradients
        n_inputs, n_recurrent = len(self._input_kernels), len(self.recurrent)
        first_step = self._backward_through_time(delta)
        self._gates[..., :first_step, :, :] = 0
        d_inputs = _merge_steps(self._gates[:n_inputs])
        d_recurrent = _merge_steps(self._gates[-n_recurrent:])
        if self._grad_input is not None:
            self._write_input_gradient(d_inputs, self._grad_input)
        if not gradients:
            return
        states = _merge_steps(self._states[0][..., :-1, :, :]).swapaxes(-1, -2)
        np.matmul(states, d_recurrent, out=self.recurrent)
        for recurrent, gate in zip(self.recurrent, layer.recurrent_gates, strict=True):
            gradients["recurrent_kernels"][..., self._columns(gate)] = recurrent
        steps = self._inputs if x.ndim == 3 else self._inputs[: len(x)]
        np.matmul(_merge_steps(steps).swapaxes(-1, -2), d_inputs, out=self._input_kernels)
        for kernels, gate in zip(self._input_kernels, layer.input_gates, strict=True):
            columns = self._columns(gate)
            gradients["kernels"][..., columns] = kernels[..., :-1, :]
            gradients["kernel_biases"][..., columns] = kernels[..., -1:, :]
        if "recurrent_biases" in gradients:
            ones = self._context.batch.ones(self._n_steps * self.n_rows)
            np.matmul(ones, d_recurrent[-1], out=gradients["recurrent_biases"])

    def _backward_through_time(self, delta: Array) -> int:
        """Write the gradients of the gates, and return the first step that has any."""
        layer, d_states, carried = self._layer, self.d_states, self._carried
        kernels = self.parameters["recurrent_kernels"].swapaxes(-1, -2)
        for recurrent, gate in zip(self.recurrent, layer.recurrent_gates, strict=True):
            np.copyto(recurrent, kernels[..., self._columns(gate), :])
        d_states[...] = 0
        if layer.return_sequences:
            d_outputs = self._steps_first(delta)
        else:
            np.copyto(d_states[0], delta)
        for step in reversed(range(self._n_steps)):
            is_padded = self._is_padded[step]
            if layer.return_sequences:
                is_real = ~self._padding[step] if is_padded else True
                np.add(d_states[0], d_outputs[..., step, :, :], out=d_states[0], where=is_real)
            if is_padded:
                np.multiply(d_states, self._padding[step], out=carried)
                np.copyto(d_states, 0, where=self._padding[step])
            self._step_back(step)
            if is_padded:
                np.add(d_states, carried, out=d_states)
            if layer.truncate is not None:
                left = self._steps_left[step]
                is_cut = (left > 0) & (left % layer.truncate == 0)
                if is_cut.all() and not layer.return_sequences:
                    return step
                np.copyto(d_states, 0, where=is_cut)
        return 0

    def _write_input_gradient(self, d_inputs: Array, grad_input: Array) -> None:
        """Write the gradient with respect to x, from that of the gates."""
        n_channels = grad_input.shape[-1]
        steps = self.blocks("d steps", 2, self._n_steps, self.n_rows, n_channels)
        total, product = _merge_steps(steps)
        kernels = self.parameters["kernels"].swapaxes(-1, -2)
        for block, gate in enumerate(self._layer.input_gates):
            gate_kernels = kernels[..., self._columns(gate), :]
            np.matmul(d_inputs[block], gate_kernels, out=product if block else total)
            if block:
                np.add(total, product, out=total)
        np.copyto(self._steps_first(grad_input), steps[0])


def _split_steps(array: Array) -> list[Array]:
    """Return the part of each step of an array of shape (..., n_steps, n_rows, n_units)."""
    return list(np.moveaxis(array, -3, 0))


def _merge_steps(array: Array) -> Array:
    """Return a view of shape (..., n_steps * n_rows, n_units)."""
    *others, n_steps, n_rows, n_units = array.shape
    return array.reshape(*others, n_steps * n_rows, n_units)
