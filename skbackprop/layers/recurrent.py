"""Recurrent layers: GRU.

A recurrent layer reads a sequence step by step. Its state after a step follows from the step's
input and the state before it, by the same weights at each step. The gradient is computed by
backpropagation through time: the steps are layers of a deep network that share their weights
(Werbos 1990).

The gates of a layer are blocks of arrays whose axes are (gate, member, step, row, unit). The input
of all steps takes one product, and the state one for each step, which write to whole blocks.

References
----------
Werbos, P. J. (1990). Backpropagation through time: what it does and how to do it. Proceedings of
the IEEE 78(10), 1550-1560.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..initializers import VarianceScaling
from ..utils.arrays import Array
from ..utils.validation import validate_positive_int
from .base import BuiltLayer, KernelInit, Layer, LayerContext, ParameterSpec, Shape


@dataclass(frozen=True)
class OrthogonalInit:
    """Initializer of recurrent kernels: a random orthogonal matrix for each gate.

    Powers of an orthogonal matrix neither grow nor vanish (Saxe et al. 2014, section 3). The
    matrices are uniformly distributed (Mezzadri 2007, section 5).

    Parameters
    ----------
    n_units : int
        The number of rows and columns of each matrix.
    n_gates : int
        The number of matrices, side by side.

    References
    ----------
    Mezzadri, F. (2007). How to generate random matrices from the classical compact groups. Notices
    of the AMS 54(5), 592-604.

    Saxe, A. M., McClelland, J. L. & Ganguli, S. (2014). Exact solutions to the nonlinear dynamics
    of learning in deep linear neural networks. ICLR.
    """

    n_units: int
    n_gates: int

    def __call__(self, rng: np.random.RandomState) -> Array:
        normal = rng.normal(size=(self.n_gates, self.n_units, self.n_units))
        q, r = np.linalg.qr(normal)
        q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]
        return np.concatenate(q, axis=1)


class RecurrentLayer(Layer):
    """Base class of recurrent layers: shapes, parameters and padding."""

    n_units: int
    return_sequences: bool
    truncate: int | None

    n_gates: ClassVar[int]
    # The number of arrays with a value for each step and unit, beside those of the gates.
    n_saved: ClassVar[int]
    reads_sequences: ClassVar[bool] = True

    def __post_init__(self) -> None:
        validate_positive_int(self, "n_units")
        if not isinstance(self.return_sequences, (bool, np.bool_)):
            raise ValueError(
                f"return_sequences of {type(self).__name__} must be True, for the state after each "
                f"step, or False, for that after the last step, got {self.return_sequences!r}."
            )
        if self.truncate is not None:
            validate_positive_int(self, "truncate")

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        if len(input_shape) not in (1, 2):
            raise self.input_shape_error(
                "sequences of shape (n_steps,) or (n_steps, n_channels)", input_shape
            )
        return (input_shape[0], self.n_units) if self.return_sequences else (self.n_units,)

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        return lengths if self.return_sequences else None

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        n_channels, n_columns = split_channels(input_shape)[1], self.n_gates * self.n_units
        # Glorot & Bengio (2010, equation 12), for each gate.
        glorot = VarianceScaling(2 * n_channels / (n_channels + self.n_units), "fan_in")
        kernels, recurrent = (n_channels, n_columns), (self.n_units, n_columns)
        return (
            ParameterSpec("kernels", kernels, KernelInit(kernels, initializer=glorot), True),
            ParameterSpec(
                "recurrent_kernels", recurrent, OrthogonalInit(self.n_units, self.n_gates), True
            ),
            ParameterSpec("kernel_biases", (n_columns,)),
        )

    def memory_per_sample(self, input_shape: Shape) -> int:
        n_steps, n_channels = split_channels(input_shape)
        # The gates, the saved arrays and the states, written once and read once.
        n_values = 2 * (self.n_gates + self.n_saved + 1) * self.n_units
        return n_steps * (n_values + 2 * n_channels)

    def max_matmul_size(self, input_shape: Shape) -> int:
        n_steps, n_channels = split_channels(input_shape)
        return n_steps * max(n_channels, self.n_units) * self.n_gates * self.n_units


def split_channels(input_shape: Shape) -> tuple[int, int]:
    """Return the number of steps and of channels of a sequence."""
    n_steps, *channels = input_shape
    return n_steps, channels[0] if channels else 1


@dataclass(frozen=True)
class GRU(RecurrentLayer):
    """Gated recurrent unit: h_t = (1 - z) * n + z * h, with the state h before step t.

    The update gate z, the reset gate r and the candidate n are

    - z = s(x W_z + h U_z + b_z)
    - r = s(x W_r + h U_r + b_r)
    - n = tanh(x W_n + b_n + r * (h U_n + c_n))

    with s(a) = 1 / (1 + exp(-a)), the input x of the step and h_0 = 0 (Cho et al. 2014, equations
    5 to 8). As in cuDNN, PyTorch and Keras, the reset gate is applied after the product with U_n,
    which has its own bias c_n.

    A fit stores W, U, b and c in ``kernels_``, ``recurrent_kernels_``, ``kernel_biases_`` and
    ``recurrent_biases_``. The first three have the columns of z, r and n side by side.

    Parameters
    ----------
    n_units : int
        The number of units of the state, at least 1.
    return_sequences : bool, default=False
        Whether the output is the states after all steps, of shape (n_steps, n_units), instead of
        the state after the last step, of shape (n_units,). At padded steps they are zero.
    truncate : int or None, default=None
        The number k of steps of truncated backpropagation through time; None for all. Each
        sequence is cut into pieces of k steps, counted from its end, and the gradient does not flow
        through the state from one piece to the one before it (Williams & Peng 1990, BPTT(k; k)).

    Raises
    ------
    ValueError
        If a parameter has an invalid value.

    References
    ----------
    Cho, K., van Merrienboer, B., Gulcehre, C., Bahdanau, D., Bougares, F., Schwenk, H. & Bengio, Y.
    (2014). Learning phrase representations using RNN encoder-decoder for statistical machine
    translation. EMNLP.

    Williams, R. J. & Peng, J. (1990). An efficient gradient-based algorithm for on-line training of
    recurrent network trajectories. Neural Computation 2(4), 490-501.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import GRU
    >>> X = np.random.default_rng(0).normal(size=(200, 10, 2))
    >>> y = X[:, -3:, 0].sum(axis=1) > 0
    >>> model = BackpropClassifier(
    ...     (),
    ...     layers=GRU(8),
    ...     learning_rate_init=0.03,
    ...     batch_size=50,
    ...     max_iter=20,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    n_units: int
    return_sequences: bool = False
    truncate: int | None = None

    n_gates: ClassVar[int] = 3
    n_saved: ClassVar[int] = 2

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        own = ParameterSpec("recurrent_biases", (self.n_units,))
        return *super().parameter_specs(input_shape), own

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltGRU(self, context)


class BuiltRecurrent:
    """Both passes of a recurrent layer, step by step.

    The derived class computes single steps, and says how blocks of gates are laid out.

    Parameters
    ----------
    layer : RecurrentLayer
        The settings.
    context : LayerContext
        The arrays of the layer.
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

    def __init__(self, layer: RecurrentLayer, context: LayerContext) -> None:
        self._context, self._return_sequences = context, layer.return_sequences
        self._n_steps, self._n_channels = split_channels(context.input_shape)
        self._n_rows, self._n_units = context.n_rows, layer.n_units
        self._truncate = layer.truncate
        self._has_backward = context.is_training or context.grad_input is not None
        n_steps, n_rows, n_units = self._n_steps, self._n_rows, self._n_units
        n_inputs, n_recurrent = len(self.input_gates), len(self.recurrent_gates)
        self._input = context.scratch("steps", n_steps, n_rows, self._n_channels + 1)
        self._input_kernels = self._blocks("kernels", n_inputs, self._n_channels + 1, n_units)
        self._recurrent = self._blocks("recurrent", n_recurrent, n_units, n_units)
        self._product = self._blocks("product", n_recurrent, n_rows, n_units)
        self._gates = self._blocks("gates", self.n_blocks, n_steps, n_rows, n_units)
        self._states = self._blocks("states", self.n_states, n_steps + 1, n_rows, n_units)
        self._gates_of_step = _split_steps(self._gates)
        self._state_of_step = _split_steps(self._states)
        if self._has_backward:
            self._d_state = self._blocks("d states", self.n_states, n_rows, n_units)
            self._carried = self._blocks("carried", self.n_states, n_rows, n_units)

    def _blocks(self, name: str, n_blocks: int, *shape: int) -> Array:
        """Return a scratch array of shape (n_blocks, n_estimators, *shape).

        With a single member it has no member axis.
        """
        context = self._context
        array = context.pool.get(
            f"{name} {context.index}", (n_blocks, context.n_estimators, *shape)
        )
        return array[:, 0] if context.n_estimators == 1 else array

    def _saved(self, name: str) -> list[Array]:
        """Return an array for each step, which `_step` fills and `_step_back` reads."""
        shape = self._n_rows, self._n_units
        if not self._has_backward:
            return [self._context.scratch(name, *shape)] * self._n_steps
        return _split_steps(self._context.scratch(name, self._n_steps, *shape))

    def _columns(self, array: Array, gate: int) -> Array:
        """Return the columns of a gate."""
        return array[..., gate * self._n_units : (gate + 1) * self._n_units]

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
        out = out.swapaxes(-3, -2)
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
        np.copyto(steps[..., :-1], x.swapaxes(-3, -2))
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
        # The steps from each step to the end of its sequence.
        self._steps_left: Array = np.arange(n_steps, 0, -1)
        if lengths is None:
            return
        if self._context.n_estimators == 1:
            lengths = lengths[0]
        order = np.arange(n_steps).reshape(-1, *(1,) * (lengths.ndim + 1))
        self._steps_left = lengths[..., None] - order
        self._padding = self._steps_left <= 0
        self._is_padded = [bool(padding.any()) for padding in self._padding]

    def _step(self, step: int) -> None:
        """Compute the state after a step from that before it."""
        raise NotImplementedError

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
        d_output = d_state[0]
        d_state[...] = 0
        if not self._return_sequences:
            np.copyto(d_output, delta)
        for step in reversed(range(self._n_steps)):
            is_padded = self._is_padded[step]
            if self._return_sequences:
                is_real = ~self._padding[step] if is_padded else True
                np.add(d_output, delta[..., step, :], out=d_output, where=is_real)
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
        np.copyto(gradient.swapaxes(-3, -2), steps[0])

    def _step_back(self, step: int) -> None:
        """Replace the gates of a step by their gradients, and compute that of the state before it.

        The gradient with respect to the state after the step is in `_d_state`, and that with
        respect to the state before it takes its place.
        """
        raise NotImplementedError


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

    def __init__(self, layer: RecurrentLayer, context: LayerContext) -> None:
        super().__init__(layer, context)
        self._outputs = [state[0] for state in self._state_of_step]
        self._differences = self._saved("differences")
        self._biases = context.parameters["recurrent_biases"]
        self._scratch = self._blocks("scratch", 2, context.n_rows, layer.n_units)
        self._ones = np.ones((1, self._n_steps * context.n_rows), context.pool.dtype)

    def _step(self, step: int) -> None:
        n, q = self._gates_of_step[step][::3]
        gates = self._gates_of_step[step][1:3]
        h, output, difference = (
            self._outputs[step],
            self._outputs[step + 1],
            self._differences[step],
        )
        product = self._product
        np.matmul(h, self._recurrent, out=product)
        np.add(gates, product[:2], out=gates)
        np.tanh(gates, out=gates)
        np.multiply(gates, 0.5, out=gates)
        np.add(gates, 0.5, out=gates)
        z, r = gates
        np.add(product[2], self._biases, out=q)
        np.multiply(r, q, out=output)
        np.add(n, output, out=n)
        np.tanh(n, out=n)
        # (1 - z) n + z h = n + z (h - n)
        np.subtract(h, n, out=difference)
        np.multiply(z, difference, out=output)
        np.add(output, n, out=output)

    def _step_back(self, step: int) -> None:
        blocks, product, scratch = self._gates_of_step[step], self._product, self._scratch
        (n, z, r, q), gates = blocks, blocks[1:3]
        slope_z, slope_r = scratch
        d_h = self._d_state[0]
        # With d for the gradient with respect to the new state:
        # d n = d (1 - z) (1 - n^2), d z = d (h - n) z (1 - z), d r = d n q r (1 - r), d q = d n r
        np.subtract(1, gates, out=scratch)
        np.multiply(n, n, out=n)
        np.subtract(1, n, out=n)
        np.multiply(n, slope_z, out=n)
        np.multiply(n, d_h, out=n)
        np.multiply(scratch, gates, out=scratch)
        np.multiply(slope_r, q, out=slope_r)
        np.multiply(n, r, out=q)
        np.multiply(n, slope_r, out=r)
        np.multiply(slope_z, self._differences[step], out=slope_z)
        np.multiply(d_h, z, out=slope_r)
        np.multiply(slope_z, d_h, out=z)
        if step:
            np.matmul(blocks[1:], self._recurrent, out=product)
            np.add(slope_r, product[0], out=d_h)
            np.add(d_h, product[1], out=d_h)
            np.add(d_h, product[2], out=d_h)

    def backward(self, delta: Array) -> Array:
        grad_input = super().backward(delta)
        if self._context.is_training:
            d_q = _merge_steps(self._gates[-1])
            np.matmul(self._ones, d_q, out=self._context.gradients["recurrent_biases"])
        return grad_input
