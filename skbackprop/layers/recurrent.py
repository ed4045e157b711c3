"""Recurrent layers: SimpleRNN, GRU, LSTM and Bidirectional.

A recurrent layer reads a sequence step by step. Its state after a step follows from the step's
input and the state before it, by the same weights at each step. The gradient is computed by
backpropagation through time: the steps are layers of a deep network that share their weights
(Werbos 1990).

References
----------
Jozefowicz, R., Zaremba, W. & Sutskever, I. (2015). An empirical exploration of recurrent network
architectures. ICML. (Biases of forget gates.)

Mezzadri, F. (2007). How to generate random matrices from the classical compact groups. Notices of
the AMS 54(5), 592-604.

Saxe, A. M., McClelland, J. L. & Ganguli, S. (2014). Exact solutions to the nonlinear dynamics of
learning in deep linear neural networks. ICLR.

Srivastava, N., Mansimov, E. & Salakhutdinov, R. (2015). Unsupervised learning of video
representations using LSTMs. ICML. (Decoders of sequences.)

Werbos, P. J. (1990). Backpropagation through time: what it does and how to do it. Proceedings of
the IEEE 78(10), 1550-1560.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np

from ..activations import ActivationLike, get_activation
from ..initializers import VarianceScaling
from ..utils.arrays import Array
from ..utils.validation import validate_positive_int
from ._recurrence import Recurrence, StepPasses, split_channels
from .base import (
    BoundLayer,
    Layer,
    LayerContext,
    ParameterSpec,
    Shape,
    draw_kernels,
)
from .convolution import make_upsampling_layers
from .dense import Dense
from .reshaping import Reshape


def draw_orthogonal(n_units: int, n_gates: int, rng: np.random.RandomState) -> Array:
    """Draw recurrent kernels: a random orthogonal matrix for each gate, side by side.

    Powers of an orthogonal matrix neither grow nor vanish (Saxe et al. 2014, section 3). The
    matrices are uniformly distributed (Mezzadri 2007, section 5).
    """
    q, r = np.linalg.qr(rng.normal(size=(n_gates, n_units, n_units)))
    q *= np.sign(np.diagonal(r, axis1=1, axis2=2))[:, None]
    return np.concatenate(q, axis=1)


class RecurrentLayer(Layer):
    """Base class of recurrent layers: shapes and parameters.

    Attributes
    ----------
    input_gates, recurrent_gates : sequence of int
        For each block of the input's product and of the state's: the gate whose weights it has.
    logistic_gates : sequence of int, default=()
        The gates that are logistic: s(a) = (1 + tanh(a / 2)) / 2, and the weights take the half.
    n_blocks : int
        The number of blocks, which are those of the input and others of the state.
    n_states : int, default=1
        The number of arrays that a step passes on; the first one is the output.
    n_saved : int, default=1
        The number of further arrays with a value for each step and unit.
    """

    n_units: int
    return_sequences: bool
    truncate: int | None

    input_gates: ClassVar[Sequence[int]]
    recurrent_gates: ClassVar[Sequence[int]]
    logistic_gates: ClassVar[Sequence[int]] = ()
    n_blocks: ClassVar[int]
    n_states: ClassVar[int] = 1
    n_saved: ClassVar[int] = 1

    batch_view = "sequences"

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        same: Any = self  # a dataclass with this field
        return _mirror_sequences(self, replace(same, return_sequences=True), input_shape)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        self.check_n_axes(input_shape)
        return (input_shape[0], self.n_units) if self.return_sequences else (self.n_units,)

    def compute_output_lengths(self, lengths: Array) -> Array | None:
        return lengths if self.return_sequences else None

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        n_channels, n_columns = split_channels(input_shape)[1], len(self.input_gates) * self.n_units
        # Glorot & Bengio (2010, equation 12), for each gate.
        glorot = VarianceScaling(2 * n_channels / (n_channels + self.n_units), "fan_in")
        kernels, recurrent = (n_channels, n_columns), (self.n_units, n_columns)
        draw_glorot = partial(draw_kernels, kernels, initializer=glorot)
        orthogonal = partial(draw_orthogonal, self.n_units, len(self.input_gates))
        return (
            ParameterSpec("kernels", kernels, draw_glorot, True),
            ParameterSpec("recurrent_kernels", recurrent, orthogonal, True),
            ParameterSpec("kernel_biases", (n_columns,)),
        )

    def bind_steps(self, arrays: Recurrence) -> StepPasses:
        """Return both passes of a step.

        The second one replaces the gates of the step by their gradients. The gradient with respect
        to the state after the step is in `arrays.d_states`, and that with respect to the state
        before it takes its place.
        """
        raise NotImplementedError(f"{type(self).__name__} must define bind_steps(arrays)")

    def bind(self, context: LayerContext) -> BoundLayer:
        recurrence = Recurrence(self, context, context.grad_input)
        return recurrence.forward, recurrence.backward

    def memory_per_sample(self, input_shape: Shape) -> int:
        n_steps, n_channels = split_channels(input_shape)
        n_values = (self.n_blocks + self.n_states + self.n_saved) * self.n_units
        return n_steps * (n_values + 2 * n_channels) + super().memory_per_sample(input_shape)

    def max_matmul_size(self, input_shape: Shape) -> int:
        n_steps, n_channels = split_channels(input_shape)
        return n_steps * max(n_channels, self.n_units) * len(self.input_gates) * self.n_units


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
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

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

    n_units: Annotated[int, validate_positive_int]
    return_sequences: bool = False
    truncate: Annotated[int | None, validate_positive_int] = None

    # The blocks are the candidate n, the gates z and r, and the state's share of the candidate,
    # q = h U_n + c_n. Their gradients take their places.
    input_gates = (2, 0, 1)
    recurrent_gates = (0, 1, 2)
    logistic_gates = (0, 1)
    n_blocks = 4

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        recurrent_biases = ParameterSpec("recurrent_biases", (self.n_units,))
        return *super().parameter_specs(input_shape), recurrent_biases

    def bind_steps(self, arrays: Recurrence) -> StepPasses:
        # Each step has its blocks, z and r in one, and the three of the state's product in one.
        gates_of_step = [(*blocks, blocks[1:3], blocks[1:]) for blocks in arrays.gates]
        outputs, differences = arrays.outputs, arrays.saved("differences")
        recurrent, product, (d_h,) = arrays.recurrent, arrays.product, arrays.d_states
        biases = arrays.parameters["recurrent_biases"]
        slopes = arrays.blocks("slopes", 2, arrays.n_rows, self.n_units)
        slope_z, slope_r = slopes

        def step(t: int) -> None:
            n, z, r, q, gates, _ = gates_of_step[t]
            output, difference = outputs[t + 1], differences[t]
            np.matmul(outputs[t], recurrent, out=product)
            np.add(gates, product[:2], out=gates)
            np.tanh(gates, out=gates)
            np.multiply(gates, 0.5, out=gates)
            np.add(gates, 0.5, out=gates)
            np.add(product[2], biases, out=q)
            np.multiply(r, q, out=output)
            np.add(n, output, out=n)
            np.tanh(n, out=n)
            # (1 - z) n + z h = n + z (h - n)
            np.subtract(outputs[t], n, out=difference)
            np.multiply(z, difference, out=output)
            np.add(output, n, out=output)

        def step_back(t: int) -> None:
            n, z, r, q, gates, recurrent_blocks = gates_of_step[t]
            # With d for the gradient with respect to the new state: d n = d (1 - z) (1 - n^2),
            # d z = d (h - n) z (1 - z), d r = d n q r (1 - r), d q = d n r
            np.subtract(1, gates, out=slopes)
            np.multiply(n, n, out=n)
            np.subtract(1, n, out=n)
            np.multiply(n, slope_z, out=n)
            np.multiply(n, d_h, out=n)
            np.multiply(slopes, gates, out=slopes)
            np.multiply(slope_r, q, out=slope_r)
            np.multiply(n, r, out=q)
            np.multiply(n, slope_r, out=r)
            np.multiply(slope_z, differences[t], out=slope_z)
            d_through_z = np.multiply(d_h, z, out=slope_r)
            np.multiply(slope_z, d_h, out=z)
            if t:
                np.matmul(recurrent_blocks, recurrent, out=product)
                np.add(d_through_z, product[0], out=d_h)
                np.add(d_h, product[1], out=d_h)
                np.add(d_h, product[2], out=d_h)

        return step, step_back


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
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

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

    n_units: Annotated[int, validate_positive_int]
    return_sequences: bool = False
    truncate: Annotated[int | None, validate_positive_int] = None

    # The blocks are the gates i, f and o and the candidate g. Their gradients take their places.
    input_gates = (0, 1, 3, 2)
    recurrent_gates = (0, 1, 3, 2)
    logistic_gates = (0, 1, 3)
    n_blocks = 4
    n_states = 2

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        kernels, recurrent, biases = super().parameter_specs(input_shape)
        return kernels, recurrent, replace(biases, initializer=self.draw_biases)

    def draw_biases(self, rng: np.random.RandomState) -> Array:
        """Return initial biases: one for the forget gates, which keep the state, else zero.

        Gers et al. (2000); Jozefowicz et al. (2015, section 5).
        """
        return np.repeat([0.0, 1.0, 0.0, 0.0], self.n_units)

    def bind_steps(self, arrays: Recurrence) -> StepPasses:
        # Each step has its blocks, the logistic ones in one, the first two in one, and all.
        gates_of_step = [(*b, b[:3], b[:2], b) for b in arrays.gates]
        outputs = arrays.outputs
        cells = [state[1] for state in arrays.states]
        squashed_cells = arrays.saved("squashed cells")
        recurrent, product, (d_h, d_c) = arrays.recurrent, arrays.product, arrays.d_states
        slopes = arrays.blocks("slopes", 4, arrays.n_rows, self.n_units)
        (slope_i, slope_f, slope_o, slope_g), slopes_of_gates = slopes, slopes[:3]

        def step(t: int) -> None:
            i, f, o, g, gates, _, blocks = gates_of_step[t]
            cell, squashed = cells[t + 1], squashed_cells[t]
            np.matmul(outputs[t], recurrent, out=product)
            np.add(blocks, product, out=blocks)
            np.tanh(blocks, out=blocks)
            np.multiply(gates, 0.5, out=gates)
            np.add(gates, 0.5, out=gates)
            np.multiply(f, cells[t], out=cell)
            np.multiply(i, g, out=squashed)
            np.add(cell, squashed, out=cell)
            np.tanh(cell, out=squashed)
            np.multiply(o, squashed, out=outputs[t + 1])

        def step_back(t: int) -> None:
            i, f, o, g, gates, gates_of_cell, blocks = gates_of_step[t]
            squashed = squashed_cells[t]
            # d o = d h tanh(c) o (1 - o), d c += d h o (1 - tanh(c)^2), d i = d c g i (1 - i),
            # d f = d c c_before f (1 - f), d g = d c i (1 - g^2), d c_before = d c f
            np.multiply(squashed, squashed, out=slope_g)
            np.subtract(1, slope_g, out=slope_g)
            np.multiply(slope_g, o, out=slope_g)
            np.multiply(slope_g, d_h, out=slope_g)
            np.add(d_c, slope_g, out=d_c)
            np.subtract(1, gates, out=slopes_of_gates)
            np.multiply(slopes_of_gates, gates, out=slopes_of_gates)
            np.multiply(slope_o, squashed, out=slope_o)
            np.multiply(slope_o, d_h, out=o)
            np.multiply(slope_i, g, out=slope_i)
            np.multiply(slope_f, cells[t], out=slope_f)
            np.multiply(g, g, out=slope_g)
            np.subtract(1, slope_g, out=slope_g)
            np.multiply(slope_g, i, out=slope_g)
            np.multiply(slope_g, d_c, out=g)
            d_cell_before = np.multiply(d_c, f, out=slope_g)
            np.multiply(slopes[:2], d_c, out=gates_of_cell)
            np.copyto(d_c, d_cell_before)
            if t:
                np.matmul(blocks, recurrent, out=product)
                np.add(product[0], product[1], out=d_h)
                np.add(d_h, product[2], out=d_h)
                np.add(d_h, product[3], out=d_h)

        return step, step_back


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
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

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

    n_units: Annotated[int, validate_positive_int]
    activation: ActivationLike = "tanh"
    return_sequences: bool = False
    truncate: Annotated[int | None, validate_positive_int] = None

    # The only block is z = x W + h U + b, and then its gradient.
    input_gates = (0,)
    recurrent_gates = (0,)
    n_blocks = 1
    n_saved = 0

    def bind_steps(self, arrays: Recurrence) -> StepPasses:
        function, outputs = get_activation(self.activation), arrays.outputs
        (recurrent,), (product,), (d_h,) = arrays.recurrent, arrays.product, arrays.d_states

        def step(t: int) -> None:
            (z,) = arrays.gates[t]
            np.matmul(outputs[t], recurrent, out=product)
            np.add(z, product, out=z)
            function.forward(z, outputs[t + 1])

        def step_back(t: int) -> None:
            (z,) = arrays.gates[t]
            # The activation may overwrite its output, which the gradient of U needs.
            np.copyto(product, outputs[t + 1])
            function.backward(z, product, d_h)
            np.copyto(z, d_h)
            if t:
                np.matmul(z, recurrent, out=d_h)

        return step, step_back


@dataclass(frozen=True)
class Bidirectional(Layer):
    """Two recurrent layers side by side: one reads a sequence forward, the other backward.

    The output has the units of both side by side (Schuster & Paliwal 1997). With
    ``return_sequences=True``, each step has the states of both layers after they have read it.
    Otherwise, the output is the forward state after the last step and the backward state after
    the first step. The backward layer starts at the last step before the padding.

    Both have the settings of `layer`, and weights of their own. A fit stores these in
    ``forward_kernels_``, ``backward_kernels_`` and so on.

    Parameters
    ----------
    layer : GRU, LSTM or SimpleRNN
        The layer of each direction.
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

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

    batch_view = "sequences"

    def expand(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (self if self.layer.trainable else replace(self, trainable=False),)

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
            for direction in ("forward", "backward")
            for spec in self.layer.parameter_specs(input_shape)
        )

    def memory_per_sample(self, input_shape: Shape) -> int:
        return 2 * self.layer.memory_per_sample(input_shape)

    def max_matmul_size(self, input_shape: Shape) -> int:
        return self.layer.max_matmul_size(input_shape)

    def bind(self, context: LayerContext) -> BoundLayer:
        grad_input, n_units = context.grad_input, self.layer.n_units
        d_backward = None
        if grad_input is not None:
            d_backward = context.scratch("backward gradient", *context.x_shape)
        directions = [
            Recurrence(self.layer, context, grad_input, "forward"),
            Recurrence(self.layer, context, d_backward, "backward"),
        ]

        def forward(x: Array, out: Array) -> None:
            directions[0].forward(x, out[..., :n_units])
            directions[1].forward(x, out[..., n_units:])

        def backward(x: Array, out: Array, delta: Array) -> None:
            directions[0].backward(x, out, delta[..., :n_units])
            directions[1].backward(x, out, delta[..., n_units:])
            if grad_input is not None and d_backward is not None:
                np.add(grad_input, d_backward, out=grad_input)

        return forward, backward


def _mirror_sequences(layer: Layer, decoding: Layer, input_shape: Shape) -> tuple[Layer, ...]:
    """Return the layers that decode the outputs of a recurrent layer to sequences.

    A vector for the whole sequence is repeated at each step (Srivastava et al. 2015, section 2.2).
    """
    n_steps, output_shape = input_shape[0], layer.compute_output_shape(input_shape)
    repeated: tuple[Layer, ...] = ()
    if len(output_shape) == 1:
        one_step = 1, *output_shape
        repeated = Reshape(one_step), *make_upsampling_layers(one_step, (n_steps,), (n_steps,))
    return *repeated, decoding, Dense(math.prod(input_shape[1:]))
