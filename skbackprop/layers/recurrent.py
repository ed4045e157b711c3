"""Recurrent layers: SimpleRNN, GRU, LSTM and Bidirectional.

A recurrent layer reads a sequence step by step. Its state after a step follows from the step's
input and the state before it, by the same weights at each step. The gradient is computed by
backpropagation through time: the steps are layers of a deep network that share their weights
(Werbos 1990).

References
----------
Srivastava, N., Mansimov, E. & Salakhutdinov, R. (2015). Unsupervised learning of video
representations using LSTMs. ICML. (Decoders of sequences.)

Werbos, P. J. (1990). Backpropagation through time: what it does and how to do it. Proceedings of
the IEEE 78(10), 1550-1560.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from ..activations import ActivationFunction, get_activation
from ..initializers import VarianceScaling
from ..utils.arrays import Array
from ..utils.validation import validate_bool, validate_positive_int
from ._built_recurrent import (
    DIRECTIONS,
    BuiltBidirectional,
    BuiltGRU,
    BuiltLSTM,
    BuiltRecurrent,
    BuiltSimpleRNN,
    split_channels,
)
from .base import BuiltLayer, KernelInit, Layer, LayerContext, ParameterSpec, Shape, check_axes
from .convolution import make_upsampling_layers
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
            for direction in DIRECTIONS
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
        repeated = Reshape(one_step), *make_upsampling_layers(one_step, (n_steps,), (n_steps,))
    return *repeated, decoding, Dense(math.prod(input_shape[1:]))
