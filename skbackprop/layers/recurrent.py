"""Recurrent layers: SimpleRNN, GRU, LSTM and Bidirectional.

A recurrent layer reads a sequence step by step. Its state after a step follows from the step's
input and the state before it, by the same weights at each step. The gradient is computed by
backpropagation through time: the steps are layers of a deep network that share their weights
(Werbos 1990).

The gates of a layer are blocks of arrays whose axes are (gate, member, step, row, unit). The input
of all steps takes one product, and the state one for each step, which write to whole blocks.

References
----------
Srivastava, N., Mansimov, E. & Salakhutdinov, R. (2015). Unsupervised learning of video
representations using LSTMs. ICML. (Decoders of sequences.)

Werbos, P. J. (1990). Backpropagation through time: what it does and how to do it. Proceedings of
the IEEE 78(10), 1550-1560.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..activations import ActivationFunction, get_activation
from ..initializers import VarianceScaling
from ..utils.arrays import Array
from ..utils.validation import validate_bool, validate_positive_int
from .base import BuiltLayer, KernelInit, Layer, LayerContext, ParameterSpec, Shape, check_axes
from .convolution import enlarge
from .dense import Dense
from .reshaping import Reshape


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


@dataclass(frozen=True)
class ForgetBiasInit:
    """Initializer of the biases of an LSTM: one for the forget gates, else zero.

    The state is then kept at the start of training (Gers et al. 2000; Jozefowicz et al. 2015,
    section 5).

    Parameters
    ----------
    n_units : int
        The number of units.

    References
    ----------
    Jozefowicz, R., Zaremba, W. & Sutskever, I. (2015). An empirical exploration of recurrent
    network architectures. ICML.
    """

    n_units: int

    def __call__(self, rng: np.random.RandomState) -> Array:
        return np.repeat([0.0, 1.0, 0.0, 0.0], self.n_units)


class RecurrentLayer(Layer):
    """Base class of recurrent layers: shapes and parameters."""

    n_units: int
    return_sequences: bool
    truncate: int | None

    n_gates: ClassVar[int]
    # The number of arrays with a value for each step and unit, beside the gates and the state.
    n_saved: ClassVar[int]
    reads_sequences: ClassVar[bool] = True

    def __post_init__(self) -> None:
        validate_positive_int(self, "n_units")
        validate_bool(self, "return_sequences")
        if self.truncate is not None:
            validate_positive_int(self, "truncate")

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        same: Any = self  # a dataclass with this field
        return _mirror_sequences(self, replace(same, return_sequences=True), input_shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        check_axes(self, input_shape, 1)
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

    def build(self, context: LayerContext) -> BuiltLayer:
        return self.build_direction(context)

    def build_direction(self, context: LayerContext, is_reversed: bool = False) -> BuiltRecurrent:
        """Return the layer bound to the arrays of a context, which may read from the end."""
        raise NotImplementedError(f"{type(self).__name__} must define build_direction(...)")

    def memory_per_sample(self, input_shape: Shape) -> int:
        n_steps, n_channels = split_channels(input_shape)
        n_values = (self.n_gates + self.n_saved + 1) * self.n_units
        outputs = self.n_buffers * math.prod(self.compute_output_shape(input_shape))
        return n_steps * (n_values + 2 * n_channels) + outputs

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

    See Also
    --------
    LSTM : Recurrent layer with a cell state.
    Bidirectional : Read sequences in both directions.

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

    def build_direction(self, context: LayerContext, is_reversed: bool = False) -> BuiltRecurrent:
        return BuiltGRU(self, context, is_reversed)


@dataclass(frozen=True)
class LSTM(RecurrentLayer):
    """Long short-term memory: c_t = f * c + i * g and h_t = o * tanh(c_t).

    The cell c and the state h before step t are zero at first. The input gate i, the forget gate f,
    the candidate g and the output gate o are

    - i = s(x W_i + h U_i + b_i)
    - f = s(x W_f + h U_f + b_f)
    - g = tanh(x W_g + h U_g + b_g)
    - o = s(x W_o + h U_o + b_o)

    with s(a) = 1 / (1 + exp(-a)) and the input x of the step (Hochreiter & Schmidhuber 1997, with
    the forget gate of Gers et al. 2000). The biases of the forget gate are one at first.

    A fit stores W, U and b in ``kernels_``, ``recurrent_kernels_`` and ``kernel_biases_``, with the
    columns of i, f, g and o side by side.

    Parameters
    ----------
    n_units : int
        The number of units of the state, at least 1.
    return_sequences : bool, default=False
        Whether the output is the states h after all steps, of shape (n_steps, n_units), instead of
        the state after the last step, of shape (n_units,). At padded steps they are zero.
    truncate : int or None, default=None
        The number k of steps of truncated backpropagation through time; None for all. Each
        sequence is cut into pieces of k steps, counted from its end, and the gradient does not flow
        through h and c from one piece to the one before it (Williams & Peng 1990, BPTT(k; k)).

    Raises
    ------
    ValueError
        If a parameter has an invalid value.

    See Also
    --------
    GRU : Gated recurrent layer with fewer parameters.
    Bidirectional : Read sequences in both directions.

    References
    ----------
    Gers, F. A., Schmidhuber, J. & Cummins, F. (2000). Learning to forget: continual prediction with
    LSTM. Neural Computation 12(10), 2451-2471.

    Hochreiter, S. & Schmidhuber, J. (1997). Long short-term memory. Neural Computation 9(8),
    1735-1780.

    Williams, R. J. & Peng, J. (1990). An efficient gradient-based algorithm for on-line training of
    recurrent network trajectories. Neural Computation 2(4), 490-501.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import LSTM
    >>> X = np.random.default_rng(0).normal(size=(200, 10, 2))
    >>> y = X[:, -3:, 0].sum(axis=1) > 0
    >>> model = BackpropClassifier(
    ...     (),
    ...     layers=LSTM(8),
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

    n_gates: ClassVar[int] = 4
    n_saved: ClassVar[int] = 2

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        kernels, recurrent, biases = super().parameter_specs(input_shape)
        return kernels, recurrent, replace(biases, initializer=ForgetBiasInit(self.n_units))

    def build_direction(self, context: LayerContext, is_reversed: bool = False) -> BuiltRecurrent:
        return BuiltLSTM(self, context, is_reversed)


@dataclass(frozen=True)
class SimpleRNN(RecurrentLayer):
    """Recurrent layer without gates: h_t = f(x W + h U + b), with the state h before step t.

    x is the input of the step, and h_0 = 0 (Elman 1990). Over more than some ten steps a `GRU` or
    `LSTM` is easier to train.

    A fit stores W, U and b in ``kernels_``, ``recurrent_kernels_`` and ``kernel_biases_``.

    Parameters
    ----------
    n_units : int
        The number of units of the state, at least 1.
    activation : str or ActivationFunction, default="tanh"
        The function f.
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

    See Also
    --------
    GRU : Gated recurrent layer.
    LSTM : Recurrent layer with a cell state.

    References
    ----------
    Elman, J. L. (1990). Finding structure in time. Cognitive Science 14(2), 179-211.

    Williams, R. J. & Peng, J. (1990). An efficient gradient-based algorithm for on-line training of
    recurrent network trajectories. Neural Computation 2(4), 490-501.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import SimpleRNN
    >>> X = np.random.default_rng(0).normal(size=(200, 10, 2))
    >>> y = X[:, -3:, 0].sum(axis=1) > 0
    >>> model = BackpropClassifier(
    ...     (),
    ...     layers=SimpleRNN(8),
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
    activation: str | ActivationFunction = "tanh"
    return_sequences: bool = False
    truncate: int | None = None

    n_gates: ClassVar[int] = 1
    n_saved: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        get_activation(self.activation)

    def build_direction(self, context: LayerContext, is_reversed: bool = False) -> BuiltRecurrent:
        return BuiltSimpleRNN(self, context, is_reversed)


_DIRECTIONS = ("forward", "backward")


@dataclass(frozen=True)
class Bidirectional(Layer):
    """Two recurrent layers side by side: one reads a sequence forward, the other backward.

    The output has the units of both side by side (Schuster & Paliwal 1997). With
    ``return_sequences=True`` they stand at the step of the input that both have read last.
    Without it, they are the states after the last and after the first step. The backward layer
    starts at the last step before the padding.

    Both have the settings of `layer`, and weights of their own. A fit stores these in
    ``forward_kernels_``, ``backward_kernels_`` and so on.

    Parameters
    ----------
    layer : GRU, LSTM or SimpleRNN
        The layer of each direction.

    Raises
    ------
    ValueError
        If `layer` is not a recurrent layer.

    See Also
    --------
    GRU : Gated recurrent layer.
    LSTM : Recurrent layer with a cell state.

    References
    ----------
    Schuster, M. & Paliwal, K. K. (1997). Bidirectional recurrent neural networks. IEEE Transactions
    on Signal Processing 45(11), 2673-2681.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import GRU, Bidirectional
    >>> X = np.random.default_rng(0).normal(size=(200, 10, 2))
    >>> y = X[:, 0, 0] + X[:, -1, 0] > 0
    >>> model = BackpropClassifier(
    ...     (),
    ...     layers=Bidirectional(GRU(8)),
    ...     learning_rate_init=0.03,
    ...     batch_size=50,
    ...     max_iter=10,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.9
    True
    """

    layer: RecurrentLayer

    reads_sequences: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not isinstance(self.layer, RecurrentLayer):
            raise ValueError(
                "layer of Bidirectional must be a recurrent layer such as GRU(16), got "
                f"{self.layer!r}."
            )

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        inner: Any = self.layer
        both = Bidirectional(replace(inner, return_sequences=True))
        return _mirror_sequences(self, both, input_shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        *steps, n_units = self.layer.compute_output_shape(input_shape)
        return *steps, 2 * n_units

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        return self.layer.compute_output_lengths(lengths)

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        return tuple(
            replace(spec, name=f"{direction}_{spec.name}")
            for direction in _DIRECTIONS
            for spec in self.layer.parameter_specs(input_shape)
        )

    def memory_per_sample(self, input_shape: Shape) -> int:
        return 2 * self.layer.memory_per_sample(input_shape)

    def max_matmul_size(self, input_shape: Shape) -> int:
        return self.layer.max_matmul_size(input_shape)

    def build(self, context: LayerContext) -> BuiltLayer:
        return BuiltBidirectional(self.layer, context)


def _mirror_sequences(layer: Layer, decoding: Layer, input_shape: Shape) -> tuple[Layer, ...]:
    """Return the layers that decode the outputs of a recurrent layer to sequences.

    A vector for the whole sequence is repeated at each step (Srivastava et al. 2015, section 2.2).
    """
    n_steps, output_shape = input_shape[0], layer.compute_output_shape(input_shape)
    repeated: tuple[Layer, ...] = ()
    if len(output_shape) == 1:
        one_step = 1, *output_shape
        repeated = Reshape(one_step), *enlarge(one_step, (n_steps,), (n_steps,))
    return *repeated, decoding, Dense(math.prod(input_shape[1:]))


class BuiltRecurrent(ABC):
    """Both passes of a recurrent layer, step by step.

    The derived class computes single steps, and says how blocks of gates are laid out.

    Parameters
    ----------
    layer : RecurrentLayer
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

    def __init__(
        self, layer: RecurrentLayer, context: LayerContext, is_reversed: bool = False
    ) -> None:
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
        context, direction = self._context, _DIRECTIONS[self._is_reversed]
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

    def __init__(
        self, layer: RecurrentLayer, context: LayerContext, is_reversed: bool = False
    ) -> None:
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

    def __init__(
        self, layer: RecurrentLayer, context: LayerContext, is_reversed: bool = False
    ) -> None:
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

    def __init__(self, layer: SimpleRNN, context: LayerContext, is_reversed: bool = False) -> None:
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
    layer : RecurrentLayer
        The layer of each direction.
    context : LayerContext
        The arrays of both.
    """

    def __init__(self, layer: RecurrentLayer, context: LayerContext) -> None:
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
            for direction, grad_input in zip(_DIRECTIONS, grad_inputs, strict=True)
        ]
        forward, backward = self._contexts
        self._built = layer.build_direction(forward), layer.build_direction(backward, True)

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
