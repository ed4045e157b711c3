"""Forward and backward pass of recurrent layers: backpropagation through time.

The gates of a layer are blocks of arrays whose axes are (gate, member, step, row, unit). The input
of all steps takes one product, and the state one for each step, which write to whole blocks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from ..activations import get_activation
from ..utils.arrays import Array
from .base import LayerContext, Shape


def split_channels(input_shape: Shape) -> tuple[int, int]:
    """Return the number of steps and of channels of a sequence."""
    n_steps, *channels = input_shape
    return n_steps, channels[0] if channels else 1


DIRECTIONS = ("forward", "backward")


class BuiltRecurrent(ABC):
    """Both passes of a recurrent layer, step by step.

    The derived class computes single steps, and says how blocks of gates are laid out.

    Parameters
    ----------
    layer : GRU, LSTM or SimpleRNN
        The settings.
    context : LayerContext
        The arrays of the layer.
    is_reversed : bool, default=False
        Whether it reads sequences from the end. "Step" then means the order in which it reads.
    """

    # For each block of the input's product and of the state's: the gate whose weights it has.
    input_gates: ClassVar[Sequence[int]]
    recurrent_gates: ClassVar[Sequence[int]]
    # The gates that are logistic: s(a) = (1 + tanh(a / 2)) / 2, and the weights take the half.
    logistic_gates: ClassVar[Sequence[int]] = ()
    # The number of blocks, which are those of the input and others of the state.
    n_blocks: ClassVar[int]
    # The number of arrays that a step passes on.
    n_states: ClassVar[int] = 1

    def __init__(self, layer: Any, context: LayerContext, is_reversed: bool = False) -> None:
        self._context, self._return_sequences = context, layer.return_sequences
        self._is_reversed = is_reversed
        self._n_steps, self._n_channels = split_channels(context.input_shape)
        self._n_rows, self._n_units = context.n_rows, layer.n_units
        self._truncate = layer.truncate
        self._has_backward = context.is_training or context.grad_input is not None
        n_steps, n_rows, n_units = self._n_steps, self._n_rows, self._n_units
        n_inputs, n_recurrent = len(self.input_gates), len(self.recurrent_gates)
        self._input = self._scratch("steps", n_steps, n_rows, self._n_channels + 1)
        self._input_kernels = self._blocks("kernels", n_inputs, self._n_channels + 1, n_units)
        self._recurrent = self._blocks("recurrent", n_recurrent, n_units, n_units)
        self._product = self._blocks("product", n_recurrent, n_rows, n_units)
        self._gates = self._blocks("gates", self.n_blocks, n_steps, n_rows, n_units)
        self._states = self._blocks("states", self.n_states, n_steps + 1, n_rows, n_units)
        self._gates_of_step = _split_steps(self._gates)
        self._state_of_step = _split_steps(self._states)
        self._outputs = [state[0] for state in self._state_of_step]
        if self._has_backward:
            self._d_state = self._blocks("d states", self.n_states, n_rows, n_units)
            self._d_output = self._d_state[0]
            self._carried = self._blocks("carried", self.n_states, n_rows, n_units)

    def _blocks(self, name: str, n_blocks: int, *shape: int) -> Array:
        """Return a scratch array of shape (n_blocks, n_estimators, *shape).

        With a single member it has no member axis.
        """
        context, direction = self._context, DIRECTIONS[self._is_reversed]
        array: Array = context.pool.get(
            f"{name} {direction} {context.index}", (n_blocks, context.n_estimators, *shape)
        )
        return array[:, 0] if context.n_estimators == 1 else array

    def _scratch(self, name: str, *shape: int) -> Array:
        """Return a scratch array of shape (n_estimators, *shape)."""
        array: Array = self._blocks(name, 1, *shape)[0]
        return array

    def _saved(self, name: str) -> list[Array]:
        """Return an array for each step, which `_step` fills and `_step_back` reads."""
        shape = self._n_rows, self._n_units
        if not self._has_backward:
            return [self._scratch(name, *shape)] * self._n_steps
        return _split_steps(self._scratch(name, self._n_steps, *shape))

    def _columns(self, array: Array, gate: int) -> Array:
        """Return the columns of a gate."""
        return array[..., gate * self._n_units : (gate + 1) * self._n_units]

    def _steps_first(self, rows: Array) -> Array:
        """Return a view of (..., n_rows, n_steps, n), steps first and in the order of reading."""
        steps = rows.swapaxes(-3, -2)
        return steps[..., ::-1, :, :] if self._is_reversed else steps

    # ---------------------------------------------------------------- forward pass

    def forward(self, x: Array, out: Array) -> None:
        self._read_parameters()
        self._write_input(x)
        self._find_padding()
        self._states[..., 0, :, :] = 0
        for step in range(self._n_steps):
            self._step(step)
            if self._is_padded[step]:
                state = self._state_of_step
                np.copyto(state[step + 1], state[step], where=self._padding[step])
        outputs = self._states[0]
        if not self._return_sequences:
            np.copyto(out, outputs[..., -1, :, :])
            return
        out = self._steps_first(out)
        np.copyto(out, outputs[..., 1:, :, :])
        if self._context.lengths is not None:
            np.copyto(out, 0, where=np.moveaxis(self._padding, 0, -3))

    def _read_parameters(self) -> None:
        """Copy the weights to blocks, one for each gate; logistic gates take half of them."""
        parameters = self._context.parameters
        for block, gate in enumerate(self.input_gates):
            factor = 0.5 if gate in self.logistic_gates else 1.0
            kernels = self._input_kernels[block]
            np.multiply(
                self._columns(parameters["kernels"], gate), factor, out=kernels[..., :-1, :]
            )
            biases = self._columns(parameters["kernel_biases"], gate)
            np.multiply(biases, factor, out=kernels[..., -1:, :])
        for block, gate in enumerate(self.recurrent_gates):
            factor = 0.5 if gate in self.logistic_gates else 1.0
            own = self._columns(parameters["recurrent_kernels"], gate)
            np.multiply(own, factor, out=self._recurrent[block])

    def _write_input(self, x: Array) -> None:
        """Copy x with steps first and a channel of ones, and multiply it with the kernels."""
        shape = x.shape[: x.ndim - len(self._context.input_shape)]
        x = x.reshape(*shape, self._n_steps, self._n_channels)
        steps = self._input if x.ndim == 3 else self._input[: len(x)]
        np.copyto(steps[..., :-1], self._steps_first(x))
        steps[..., -1] = 1
        self._all_steps = _merge_steps(steps)
        np.matmul(
            self._all_steps,
            self._input_kernels,
            out=_merge_steps(self._gates[: len(self.input_gates)]),
        )

    def _find_padding(self) -> None:
        """Find the padded rows of each step, and where truncation cuts."""
        lengths: Array | None = self._context.lengths
        n_steps = self._n_steps
        self._is_padded: Sequence[bool] = (False,) * n_steps
        # The steps from each step to the last one of its sequence.
        self._steps_left: Array = np.arange(n_steps, 0, -1)
        if lengths is None:
            return
        if self._context.n_estimators == 1:
            lengths = lengths[0]
        left = self._steps_left.reshape(-1, *(1,) * (lengths.ndim + 1))
        if self._is_reversed:
            self._padding = left > lengths[..., None]
        else:
            self._steps_left = left - (n_steps - lengths[..., None])
            self._padding = self._steps_left <= 0
        self._is_padded = [bool(padding.any()) for padding in self._padding]

    @abstractmethod
    def _step(self, step: int) -> None:
        """Compute the state after a step from that before it."""

    # --------------------------------------------------------------- backward pass

    def backward(self, delta: Array) -> Array:
        first_step = self._backward_through_time(delta)
        self._gates[..., :first_step, :, :] = 0
        gradients, grad_input = self._context.gradients, self._context.grad_input
        d_input = _merge_steps(self._gates[: len(self.input_gates)])
        if self._context.is_training:
            states = _merge_steps(self._states[0][..., :-1, :, :]).swapaxes(-1, -2)
            d_recurrent = _merge_steps(self._gates[-len(self.recurrent_gates) :])
            np.matmul(states, d_recurrent, out=self._recurrent)
            for block, gate in enumerate(self.recurrent_gates):
                self._columns(gradients["recurrent_kernels"], gate)[...] = self._recurrent[block]
        if grad_input is not None:
            self._write_input_gradient(d_input, grad_input)
        if self._context.is_training:
            np.matmul(self._all_steps.swapaxes(-1, -2), d_input, out=self._input_kernels)
            for block, gate in enumerate(self.input_gates):
                kernels = self._input_kernels[block]
                self._columns(gradients["kernels"], gate)[...] = kernels[..., :-1, :]
                self._columns(gradients["kernel_biases"], gate)[...] = kernels[..., -1:, :]
        return delta if grad_input is None else grad_input

    def _backward_through_time(self, delta: Array) -> int:
        """Write the gradients of the gates, and return the first step that has any."""
        recurrent = self._context.parameters["recurrent_kernels"]
        for block, gate in enumerate(self.recurrent_gates):
            np.copyto(self._recurrent[block], self._columns(recurrent, gate).swapaxes(-1, -2))
        d_state, carried = self._d_state, self._carried
        d_output = self._d_output
        d_state[...] = 0
        if self._return_sequences:
            d_outputs = self._steps_first(delta)
        else:
            np.copyto(d_output, delta)
        for step in reversed(range(self._n_steps)):
            is_padded = self._is_padded[step]
            if self._return_sequences:
                is_real = ~self._padding[step] if is_padded else True
                np.add(d_output, d_outputs[..., step, :, :], out=d_output, where=is_real)
            if is_padded:
                padding = self._padding[step]
                np.multiply(d_state, padding, out=carried)
                np.copyto(d_state, 0, where=padding)
            self._step_back(step)
            if is_padded:
                np.add(d_state, carried, out=d_state)
            if self._truncate is not None:
                left = self._steps_left[step]
                is_cut = (left > 0) & (left % self._truncate == 0)
                if is_cut.all() and not self._return_sequences:
                    return step
                np.copyto(d_state, 0, where=is_cut)
        return 0

    def _write_input_gradient(self, d_input: Array, grad_input: Array) -> None:
        """Write the gradient with respect to x, from that of the gates."""
        context, shape = self._context, (self._n_steps, self._n_rows, self._n_channels)
        steps = self._blocks("d steps", 2, *shape)
        total, product = _merge_steps(steps)
        kernels = context.parameters["kernels"]
        for block, gate in enumerate(self.input_gates):
            own = self._columns(kernels, gate).swapaxes(-1, -2)
            np.matmul(d_input[block], own, out=product if block else total)
            if block:
                np.add(total, product, out=total)
        gradient = grad_input.reshape(*steps.shape[1:-3], self._n_rows, self._n_steps, -1)
        np.copyto(self._steps_first(gradient), steps[0])

    @abstractmethod
    def _step_back(self, step: int) -> None:
        """Replace the gates of a step by their gradients, and compute that of the state before it.

        The gradient with respect to the state after the step is in `_d_state`, and that with
        respect to the state before it takes its place.
        """


def _split_steps(array: Array) -> list[Array]:
    """Return the part of each step of an array of shape (..., n_steps, n_rows, n_units)."""
    return list(np.moveaxis(array, -3, 0))


def _merge_steps(array: Array) -> Array:
    """Return a view of shape (..., n_steps * n_rows, n_units)."""
    *others, n_steps, n_rows, n_units = array.shape
    return array.reshape(*others, n_steps * n_rows, n_units)


class BuiltGRU(BuiltRecurrent):
    """The steps of a GRU.

    The blocks are the candidate n, the gates z and r, and the state's share of the candidate,
    q = h U_n + c_n. Their gradients take their places.
    """

    input_gates: ClassVar[Sequence[int]] = (2, 0, 1)
    recurrent_gates: ClassVar[Sequence[int]] = (0, 1, 2)
    logistic_gates: ClassVar[Sequence[int]] = (0, 1)
    n_blocks: ClassVar[int] = 4

    def __init__(self, layer: Any, context: LayerContext, is_reversed: bool = False) -> None:
        super().__init__(layer, context, is_reversed)
        self._differences = self._saved("differences")
        # For each step n, z, r and q, then z and r in one, and what the state's gradient follows.
        self._parts = [(*blocks, blocks[1:3], blocks[1:]) for blocks in self._gates_of_step]
        self._product_of_gates, self._product_of_candidate = self._product[:2], self._product[2]
        self._biases = context.parameters["recurrent_biases"]
        slopes = self._blocks("slopes", 2, context.n_rows, layer.n_units)
        self._slopes = *slopes, slopes
        self._ones = np.ones((1, self._n_steps * context.n_rows), context.pool.dtype)

    def _step(self, step: int) -> None:
        n, z, r, q, gates, _ = self._parts[step]
        h, output = self._outputs[step], self._outputs[step + 1]
        difference = self._differences[step]
        np.matmul(h, self._recurrent, out=self._product)
        np.add(gates, self._product_of_gates, out=gates)
        np.tanh(gates, out=gates)
        np.multiply(gates, 0.5, out=gates)
        np.add(gates, 0.5, out=gates)
        np.add(self._product_of_candidate, self._biases, out=q)
        np.multiply(r, q, out=output)
        np.add(n, output, out=n)
        np.tanh(n, out=n)
        # (1 - z) n + z h = n + z (h - n)
        np.subtract(h, n, out=difference)
        np.multiply(z, difference, out=output)
        np.add(output, n, out=output)

    def _step_back(self, step: int) -> None:
        n, z, r, q, gates, recurrent = self._parts[step]
        slope_z, slope_r, slopes = self._slopes
        d_h = self._d_output
        # With d for the gradient with respect to the new state:
        # d n = d (1 - z) (1 - n^2), d z = d (h - n) z (1 - z), d r = d n q r (1 - r), d q = d n r
        np.subtract(1, gates, out=slopes)
        np.multiply(n, n, out=n)
        np.subtract(1, n, out=n)
        np.multiply(n, slope_z, out=n)
        np.multiply(n, d_h, out=n)
        np.multiply(slopes, gates, out=slopes)
        np.multiply(slope_r, q, out=slope_r)
        np.multiply(n, r, out=q)
        np.multiply(n, slope_r, out=r)
        np.multiply(slope_z, self._differences[step], out=slope_z)
        d_through_z = np.multiply(d_h, z, out=slope_r)
        np.multiply(slope_z, d_h, out=z)
        if step:
            np.matmul(recurrent, self._recurrent, out=self._product)
            np.add(d_through_z, self._product[0], out=d_h)
            np.add(d_h, self._product[1], out=d_h)
            np.add(d_h, self._product[2], out=d_h)

    def backward(self, delta: Array) -> Array:
        grad_input = super().backward(delta)
        if self._context.is_training:
            d_q = _merge_steps(self._gates[-1])
            np.matmul(self._ones, d_q, out=self._context.gradients["recurrent_biases"])
        return grad_input


class BuiltLSTM(BuiltRecurrent):
    """The steps of an LSTM.

    The blocks are the gates i, f and o and the candidate g. Their gradients take their places.
    """

    input_gates: ClassVar[Sequence[int]] = (0, 1, 3, 2)
    recurrent_gates: ClassVar[Sequence[int]] = (0, 1, 3, 2)
    logistic_gates: ClassVar[Sequence[int]] = (0, 1, 3)
    n_blocks: ClassVar[int] = 4
    n_states: ClassVar[int] = 2

    def __init__(self, layer: Any, context: LayerContext, is_reversed: bool = False) -> None:
        super().__init__(layer, context, is_reversed)
        self._squashed_cells = self._saved("squashed cells")
        # For each step i, f, o and g, then the logistic ones and the first two in one.
        self._parts = [(*blocks, blocks[:3], blocks[:2]) for blocks in self._gates_of_step]
        self._cells = [state[1] for state in self._state_of_step]
        slopes = self._blocks("slopes", 4, context.n_rows, layer.n_units)
        self._slopes = *slopes, slopes[:3], slopes[:2]
        if self._has_backward:
            self._d_cell = self._d_state[1]

    def _step(self, step: int) -> None:
        blocks, (i, f, o, g, gates, _) = self._gates_of_step[step], self._parts[step]
        cell, squashed = self._cells[step + 1], self._squashed_cells[step]
        np.matmul(self._outputs[step], self._recurrent, out=self._product)
        np.add(blocks, self._product, out=blocks)
        np.tanh(blocks, out=blocks)
        np.multiply(gates, 0.5, out=gates)
        np.add(gates, 0.5, out=gates)
        np.multiply(f, self._cells[step], out=cell)
        np.multiply(i, g, out=squashed)
        np.add(cell, squashed, out=cell)
        np.tanh(cell, out=squashed)
        np.multiply(o, squashed, out=self._outputs[step + 1])

    def _step_back(self, step: int) -> None:
        i, f, o, g, gates, gates_of_cell = self._parts[step]
        slope_i, slope_f, slope_o, slope_g, slopes, slopes_of_cell = self._slopes
        d_h, d_c = self._d_output, self._d_cell
        squashed = self._squashed_cells[step]
        # d o = d h tanh(c) o (1 - o), d c += d h o (1 - tanh(c)^2), d i = d c g i (1 - i),
        # d f = d c c_before f (1 - f), d g = d c i (1 - g^2), d c_before = d c f
        np.multiply(squashed, squashed, out=slope_g)
        np.subtract(1, slope_g, out=slope_g)
        np.multiply(slope_g, o, out=slope_g)
        np.multiply(slope_g, d_h, out=slope_g)
        np.add(d_c, slope_g, out=d_c)
        np.subtract(1, gates, out=slopes)
        np.multiply(slopes, gates, out=slopes)
        np.multiply(slope_o, squashed, out=slope_o)
        np.multiply(slope_o, d_h, out=o)
        np.multiply(slope_i, g, out=slope_i)
        np.multiply(slope_f, self._cells[step], out=slope_f)
        np.multiply(g, g, out=slope_g)
        np.subtract(1, slope_g, out=slope_g)
        np.multiply(slope_g, i, out=slope_g)
        np.multiply(slope_g, d_c, out=g)
        d_cell_before = np.multiply(d_c, f, out=slope_g)
        np.multiply(slopes_of_cell, d_c, out=gates_of_cell)
        np.copyto(d_c, d_cell_before)
        if step:
            product = self._product
            np.matmul(self._gates_of_step[step], self._recurrent, out=product)
            np.add(product[0], product[1], out=d_h)
            np.add(d_h, product[2], out=d_h)
            np.add(d_h, product[3], out=d_h)


class BuiltSimpleRNN(BuiltRecurrent):
    """The steps of a SimpleRNN. The only block is z = x W + h U + b, and then its gradient."""

    input_gates: ClassVar[Sequence[int]] = (0,)
    recurrent_gates: ClassVar[Sequence[int]] = (0,)
    n_blocks: ClassVar[int] = 1

    def __init__(self, layer: Any, context: LayerContext, is_reversed: bool = False) -> None:
        super().__init__(layer, context, is_reversed)
        self._function = get_activation(layer.activation)

    def _step(self, step: int) -> None:
        (z,), (product,) = self._gates_of_step[step], self._product
        np.matmul(self._outputs[step], self._recurrent[0], out=product)
        np.add(z, product, out=z)
        self._function.forward(z, self._outputs[step + 1])

    def _step_back(self, step: int) -> None:
        (z,), (output,), (d_h,) = self._gates_of_step[step], self._product, self._d_state
        # The activation may overwrite its output, which the gradient of U needs.
        np.copyto(output, self._outputs[step + 1])
        self._function.backward(z, output, d_h)
        np.copyto(z, d_h)
        if step:
            np.matmul(z, self._recurrent[0], out=d_h)


class BuiltBidirectional:
    """Both directions of a `Bidirectional` layer.

    Parameters
    ----------
    layer : GRU, LSTM or SimpleRNN
        The layer of each direction.
    context : LayerContext
        The arrays of both.
    """

    def __init__(self, layer: Any, context: LayerContext) -> None:
        self._context, self._n_units = context, layer.n_units
        grad_inputs = [context.grad_input, None]
        if context.grad_input is not None:
            shape = context.n_rows, *context.input_shape
            grad_inputs[1] = context.scratch("backward gradient", *shape)
        self._contexts = [
            replace(
                context,
                parameters=_without_prefix(context.parameters, direction),
                gradients=_without_prefix(context.gradients, direction),
                grad_input=grad_input,
            )
            for direction, grad_input in zip(DIRECTIONS, grad_inputs, strict=True)
        ]
        forward, backward = self._contexts
        self._built: tuple[BuiltRecurrent, BuiltRecurrent] = (
            layer.build_direction(forward),
            layer.build_direction(backward, True),
        )

    def forward(self, x: Array, out: Array) -> None:
        for context, built, part in zip(
            self._contexts, self._built, self._halves(out), strict=True
        ):
            context.lengths = self._context.lengths
            built.forward(x, part)

    def backward(self, delta: Array) -> Array:
        forward, backward = (
            built.backward(part)
            for built, part in zip(self._built, self._halves(delta), strict=True)
        )
        if self._context.grad_input is not None:
            np.add(forward, backward, out=forward)
        return forward

    def _halves(self, units: Array) -> tuple[Array, Array]:
        """Return the units of each direction."""
        return units[..., : self._n_units], units[..., self._n_units :]


def _without_prefix(named: Mapping[str, Array], direction: str) -> dict[str, Array]:
    """Return the arrays of a direction by the names that its layer gives them."""
    prefix = f"{direction}_"
    return {
        name.removeprefix(prefix): array for name, array in named.items() if name.startswith(prefix)
    }
