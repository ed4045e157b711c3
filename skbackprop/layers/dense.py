"""Dense, Activation and Dropout layers.

Bound to the memory of one batch shape, `forward` computes a layer's output from its input, and
`backward` the gradient with respect to its input from that with respect to its output.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from scipy.sparse import csr_array

from ..activations import ActivationFunction, SelfGated, get_activation
from ..initializers import GlorotUniform, Initializer
from ..utils.arrays import Array, BufferPool, squeeze_member_axis
from ..utils.configurable import check_in_place
from ..utils.parallel import parallel_for, split_rows
from ..utils.validation import validate_interval, validate_positive_int
from .base import (
    ArrayInitializer,
    BatchView,
    BuiltLayer,
    KernelInit,
    Layer,
    LayerContext,
    ParameterSpec,
    Shape,
)


@dataclass(frozen=True)
class Dense(Layer):
    """Dense layer: a = f(x W + b), for each position of a sequence or image.

    Parameters
    ----------
    n_units : int
        The number of outputs, at least 1.
    activation : str, ActivationFunction or None, default=None
        The function f; None for none.
    use_bias : bool, default=True
        Whether it has biases b. A normalization after it has biases of its own.
    initializer : Initializer or None, default=None
        The initializer of weights and biases; None for that of the activation.

    Raises
    ------
    ValueError
        If a parameter has an invalid value.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import Dense
    >>> X, y = load_iris(return_X_y=True)
    >>> layers = [Dense(20, activation="gelu"), Dense(8)]
    >>> model = BackpropClassifier((10,), layers=layers, tol=0.01, random_state=0).fit(X, y)
    >>> [weights.shape for weights in model.dense_weights_]
    [(4, 20), (20, 8)]
    """

    n_units: int
    activation: str | ActivationFunction | None = None
    use_bias: bool = True
    initializer: Initializer | None = None
    # The start of the names of its arrays: hidden layers of an estimator have none.
    scope: str = field(default="", repr=False)

    batch_view: ClassVar[BatchView] = "positions"
    takes_sparse: ClassVar[bool] = True
    _set_elsewhere: ClassVar[frozenset[str]] = frozenset({"scope"})

    def __post_init__(self) -> None:
        validate_positive_int(self, "n_units")
        if self.activation is not None:
            get_activation(self.activation)

    def expand(self, input_shape: Shape) -> tuple[Layer, ...]:
        linear = replace(self, scope="dense_")
        return (linear,) if self.activation is None else (linear, Activation(self.activation))

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        linear = replace(self, n_units=input_shape[-1], activation=None)
        return (linear,) if self.activation is None else (Activation(self.activation), linear)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return *input_shape[:-1], self.n_units

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        shape = input_shape[-1], self.n_units
        weights, biases = f"{self.scope}weights", f"{self.scope}biases"
        drawn: ArrayInitializer = self.initializer or GlorotUniform()
        if self.scope:
            drawn = KernelInit(shape, self.activation, initializer=self.initializer)
        specs = (
            ParameterSpec(weights, shape, drawn, regularized=True),
            ParameterSpec(biases, (self.n_units,)),
        )
        return specs if self.use_bias else specs[:1]

    def build(self, context: LayerContext) -> BuiltLayer:
        parameters, gradients = context.parameters, context.gradients
        weights, biases = f"{self.scope}weights", f"{self.scope}biases"
        arrays = (
            parameters[weights],
            parameters.get(biases),
            gradients.get(weights),
            gradients.get(biases),
            context.grad_input,
        )
        if len(context.input_shape) > 1:
            return BuiltPositionwiseDense(context.n_rows, *arrays)
        return BuiltSparseDense(*arrays) if context.is_sparse else BuiltDense(*arrays)


@dataclass(frozen=True)
class Activation(Layer):
    """Activation layer: a = f(z), in place where f allows it.

    Parameters
    ----------
    activation : str or ActivationFunction
        The function f.

    Raises
    ------
    ValueError
        If there is no activation of this name.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import Activation, BatchNormalization, Dense
    >>> layers = [Dense(20, use_bias=False), BatchNormalization(), Activation("relu")]
    >>> model = BackpropClassifier(layers=layers)
    """

    activation: str | ActivationFunction

    batch_view: ClassVar[BatchView] = "flat"
    saves_output: ClassVar[bool] = True
    inplace_backward: ClassVar[bool] = True
    n_buffers: ClassVar[int] = 0

    def __post_init__(self) -> None:
        get_activation(self.activation)

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (self,)

    @property
    def function(self) -> ActivationFunction:
        """The activation function."""
        return get_activation(self.activation)

    def inplace_forward(self, has_backward: bool) -> bool:
        return not self.function.needs_preactivation

    def build(self, context: LayerContext) -> BuiltLayer:
        copy, function = context.input_copy(), self.function
        parts: Sequence[slice] = ()
        if context.is_training:
            parts = split_rows(context.n_rows, _VALUES_AT_ONCE // context.n_outputs)
        if context.is_training and isinstance(function, SelfGated):
            shape = context.n_estimators, context.n_rows, context.n_outputs
            gate = squeeze_member_axis(context.pool.get("gate", shape))  # for all layers
            return BuiltSelfGated(function, copy, gate, parts)
        return BuiltActivation(function, copy, parts)


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
        self._sum_rows = RowSum()

    def forward(self, x: Any, out: Array) -> None:
        self._x: Any = x
        self._product(x, self.weights, out=out)
        if self.biases is not None:
            np.add(out, self.biases, out=out)

    def backward(self, delta: Array) -> Array:
        if self.d_weights is not None:
            self._product(self._x.swapaxes(-1, -2), delta, out=self.d_weights)
        if self.d_biases is not None:
            self._sum_rows(delta, self.d_biases)
        if self.grad_input is not None:
            delta = self._outer_product(delta, self._weights_transposed, out=self.grad_input)
        return delta


# Positions that a thread computes at once, and groups of them with sums of gradients of their own.
_POSITIONS_AT_ONCE, _N_GROUPS = 1_024, 4


class BuiltPositionwiseDense(BuiltDense):
    """Dense layer on the positions of sequences or images, which are many.

    Parameters
    ----------
    n_positions : int
        The number of positions of a batch.
    *arrays : arrays or None
        Those of `BuiltDense`.
    """

    def __init__(self, n_positions: int, *arrays: Any) -> None:
        super().__init__(*arrays)
        self._parts = split_rows(n_positions, _POSITIONS_AT_ONCE)
        self._groups = split_rows(n_positions, max(n_positions // _N_GROUPS, _POSITIONS_AT_ONCE))
        # The sums of each group, and the gradients that they add up to.
        self._sums = [
            allocate_partial_sums(total, len(self._groups))
            for total in (self.d_weights, self.d_biases)
        ]

    def forward(self, x: Array, out: Array) -> None:
        self._x, self._out = x, out
        parallel_for(self._forward_part, self._parts)

    def _forward_part(self, part: slice) -> None:
        out = self._out[..., part, :]
        self._product(self._x[..., part, :], self.weights, out=out)
        if self.biases is not None:
            np.add(out, self.biases, out=out)

    def backward(self, delta: Array) -> Array:
        self._delta = delta
        parallel_for(self._backward_group, range(len(self._groups)))
        for total, sums in zip((self.d_weights, self.d_biases), self._sums, strict=True):
            if sums is not None and len(sums) > 1:
                np.add.reduce(sums, axis=0, out=total)
        return delta if self.grad_input is None else self.grad_input

    def _backward_group(self, group: int) -> None:
        part, (d_weights, d_biases) = self._groups[group], self._sums
        delta = self._delta[..., part, :]
        if d_weights is not None:
            inputs = self._x[..., part, :].swapaxes(-1, -2)
            self._product(inputs, delta, out=d_weights[group])
        if d_biases is not None:
            self._sum_rows(delta, d_biases[group])
        if self.grad_input is not None:
            grad_input = self.grad_input[..., part, :]
            self._outer_product(delta, self._weights_transposed, out=grad_input)


def allocate_partial_sums(total: Array | None, n_parts: int) -> Array | None:
    """Return memory for the sums of parts of a batch, which are the total itself if it is one."""
    if total is None or n_parts == 1:
        return None if total is None else total[np.newaxis]
    return np.empty((n_parts, *total.shape), total.dtype)


class RowSum:
    """Sum of the rows of matrices: a product with ones takes a third of the time of a sum."""

    def __init__(self) -> None:
        self._ones: Array | None = None

    def __call__(self, matrix: Array, out: Array) -> None:
        """Write the sum of the rows of `matrix`, or of each of several, to `out`."""
        product, n_rows = np.dot if matrix.ndim == 2 else np.matmul, matrix.shape[-2]
        ones = self._ones
        if ones is None or ones.shape[1] < n_rows:
            ones = self._ones = np.ones((1, n_rows), matrix.dtype)
        if ones.shape[1] > n_rows:
            ones = ones[:, :n_rows]
        if matrix.shape[-1] == 1:
            # Some BLAS kernels round a dot product by the address of the second factor. The ones
            # are aligned alike for a member of a stack and for a network alone.
            product(matrix.swapaxes(-1, -2), ones.T, out=out)
        else:
            product(ones, matrix, out=out)


class BuiltSparseDense(BuiltDense):
    """Dense layer on sparse input: a list of CSR matrices, one for each member or one for all."""

    def forward(self, x: Any, out: Array) -> None:
        self._x = x
        for member, (weights, z) in self._iter_members(self.weights, out):
            z[...] = x[member % len(x)] @ weights
        if self.biases is not None:
            np.add(out, self.biases, out=out)

    def backward(self, delta: Array) -> Array:
        if self.d_weights is not None:
            for member, (errors, d_weights) in self._iter_members(delta, self.d_weights):
                d_weights[...] = self._x[member % len(self._x)].T @ errors
        if self.d_biases is not None:
            self._sum_rows(delta, self.d_biases)
        if self.grad_input is not None:
            delta = self._outer_product(delta, self._weights_transposed, out=self.grad_input)
        return delta

    @staticmethod
    def _iter_members(*arrays: Array) -> Iterator[tuple[int, tuple[Array, ...]]]:
        """Yield the number of each member, with its part of each array."""
        stacked = arrays if arrays[0].ndim == 3 else [array[None] for array in arrays]
        return enumerate(zip(*stacked, strict=True))


# Values of an activation that a thread computes at once.
_VALUES_AT_ONCE = 1 << 17


class BuiltActivation:
    """a = f(z); `out` may be `x` itself if the activation allows it.

    Parameters
    ----------
    activation : ActivationFunction
        The function f.
    copy : array or None, default=None
        The array to which z is copied first; None if z may be overwritten.
    parts : sequence of slice, default=()
        The parts of the rows that are computed at once; none for all rows.
    """

    def __init__(
        self,
        activation: ActivationFunction,
        copy: Array | None = None,
        parts: Sequence[slice] = (),
    ) -> None:
        self.activation, self._copy, self._parts = activation, copy, parts

    def forward(self, x: Array, out: Array) -> None:
        self._z, self._a = self._save(x), out
        if len(self._parts) > 1:
            parallel_for(self._forward_rows, self._parts)
        else:
            self._forward(self._z, out)

    def _forward_rows(self, rows: slice) -> None:
        self._forward(self._z[..., rows, :], self._a[..., rows, :])

    def _forward(self, z: Array, a: Array) -> None:
        # Its type says None, but the method of a user-defined part may return its result instead.
        result: object = self.activation.forward(z, a)  # type: ignore[func-returns-value]
        if result is not None:
            check_in_place(self.activation, "forward(z, a)", "a", result, a)

    def _save(self, x: Array) -> Array:
        """Return the input, saved for the backward pass."""
        if self._copy is None:
            return x
        np.copyto(self._copy, x)
        return self._copy

    def backward(self, delta: Array) -> Array:
        if len(self._parts) > 1:
            self._delta = delta
            parallel_for(self._backward_rows, self._parts)
        else:
            self._backward(self._z, self._a, delta)
        return delta

    def _backward_rows(self, rows: slice) -> None:
        self._backward(self._z[..., rows, :], self._a[..., rows, :], self._delta[..., rows, :])

    def _backward(self, z: Array, a: Array, delta: Array) -> None:
        # Its type says None, but the method of a user-defined part may return its result instead.
        result: object = self.activation.backward(z, a, delta)  # type: ignore[func-returns-value]
        if result is not None:
            check_in_place(self.activation, "backward(z, a, delta)", "delta", result, delta)


class BuiltSelfGated(BuiltActivation):
    """a = z s(z), with the derivative saved for the backward pass.

    Parameters
    ----------
    activation : SelfGated
        The function f.
    copy : array or None
        The array to which z is copied first; None if z may be overwritten.
    gate : array of the shape of z
        The array for the gate, which is needed in the forward pass only.
    parts : sequence of slice
        The parts of the rows that are computed at once.
    """

    activation: SelfGated

    def __init__(
        self, activation: SelfGated, copy: Array | None, gate: Array, parts: Sequence[slice]
    ) -> None:
        super().__init__(activation, copy, parts)
        self._gate = gate

    def forward(self, x: Array, out: Array) -> None:
        self._z, self._a = self._save(x), out
        parallel_for(self._forward_rows, self._parts)

    def _forward_rows(self, rows: slice) -> None:
        z, gate = self._z[..., rows, :], self._gate[..., rows, :]
        self.activation.gate(z, gate)
        np.multiply(gate, z, out=self._a[..., rows, :])
        self.activation.derivative_from_gate(z, gate)

    def _backward_rows(self, rows: slice) -> None:
        delta = self._delta[..., rows, :]
        np.multiply(delta, self._z[..., rows, :], out=delta)

    def backward(self, delta: Array) -> Array:
        self._delta = delta
        parallel_for(self._backward_rows, self._parts)
        return delta


# The number of 16-bit values, and how many of them a random 64-bit word holds.
_N_VALUES = 1 << 16
_VALUES_PER_WORD = 4

# Words drawn at once, so that memory does not grow with the network.
_WORDS_AT_ONCE = 1 << 13


def dropout_rng(rng: np.random.RandomState) -> np.random.Generator:
    """Return a random generator for masks, seeded by a copy of `rng`, which does not advance."""
    seed = copy.deepcopy(rng).randint(np.iinfo(np.int32).max, size=4)
    return np.random.default_rng(seed.tolist())


@dataclass(frozen=True)
class Dropout(Layer):
    """Dropout layer: out = x * m, with a new random mask m for each training batch.

    With the rate p, m is 0 with probability p and 1 / (1 - p) otherwise (Srivastava et al. 2014,
    section 4, as inverted dropout). The mean of m is one, so prediction skips the layer.

    Each member has its own random generator, and draws the same masks in any stack. A unit is
    dropped by 16 random bits, so the rate is rounded to a multiple of 1 / 65,536.

    Parameters
    ----------
    rate : float
        The probability of dropping a unit, in [0, 1). Sparse input drops stored entries.

    Raises
    ------
    ValueError
        If the rate is out of range.

    See Also
    --------
    Dense : Fully connected layer.

    References
    ----------
    Srivastava, N., Hinton, G., Krizhevsky, A., Sutskever, I. & Salakhutdinov, R. (2014). Dropout:
    a simple way to prevent neural networks from overfitting. JMLR 15, 1929-1958.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.layers import Dense, Dropout
    >>> model = BackpropClassifier(layers=[Dense(50, activation="relu"), Dropout(0.2)])
    """

    rate: float

    batch_view: ClassVar[BatchView] = "flat"
    stochastic: ClassVar[bool] = True
    training_only: ClassVar[bool] = True
    inplace_backward: ClassVar[bool] = True
    takes_sparse: ClassVar[bool] = True
    keeps_sparse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        validate_interval(self, "rate", low=0, high=1, closed="left")

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (self,)

    def build(self, context: LayerContext) -> BuiltLayer:
        if context.is_sparse:
            return BuiltSparseDropout(self.rate, context.rngs)
        shape, name = (context.n_rows, context.n_inputs), f"mask {context.index}"
        return BuiltDropout(self.rate, context.rngs, shape, context.pool, name)


@dataclass(frozen=True)
class HiddenDropout(Dropout):
    """Dropout before a dense layer, by the rates of an estimator's `dropout`."""


class BuiltDropout:
    """out = x * m, with a new random mask m for each batch.

    Parameters
    ----------
    rate : float
        The probability of dropping a unit, in [0, 1).
    rngs : sequence of Generator
        The random generator of each member.
    shape : (n_rows, n_units)
        The shape of a member's batch.
    pool : BufferPool
        The memory for buffers.
    name : str
        The name of the mask's buffer; dropout layers share the other buffers.
    """

    def __init__(
        self,
        rate: float,
        rngs: Sequence[np.random.Generator],
        shape: tuple[int, int],
        pool: BufferPool,
        name: str,
    ) -> None:
        n_estimators, size = len(rngs), shape[0] * shape[1]
        n_words = -(-size // _VALUES_PER_WORD)
        self._rngs = rngs
        self._words = pool.get("random bits", (n_estimators, n_words), np.uint64)
        self._values = self._words.view(np.uint16)[:, :size]
        self._is_kept = pool.get("is kept", (n_estimators, size), np.bool_)
        self._flat_mask = pool.get(name, (n_estimators, size))
        self.mask = squeeze_member_axis(self._flat_mask.reshape(n_estimators, *shape))
        self._threshold, factor = _threshold_and_factor(rate)
        self._factor = pool.dtype.type(factor)

    def forward(self, x: Any, out: Array) -> None:
        for rng, words in zip(self._rngs, self._words, strict=True):
            _draw(rng, words)
        np.greater_equal(self._values, self._threshold, out=self._is_kept)
        np.multiply(self._is_kept, self._factor, out=self._flat_mask)
        np.multiply(x, self.mask, out=out)

    def backward(self, delta: Array) -> Array:
        np.multiply(delta, self.mask, out=delta)
        return delta


class BuiltSparseDropout:
    """Dropout of the stored entries of sparse input, a list of CSR matrices.

    Parameters
    ----------
    rate : float
        The probability of dropping an entry, in [0, 1).
    rngs : sequence of Generator
        The random generator of each member.
    """

    def __init__(self, rate: float, rngs: Sequence[np.random.Generator]) -> None:
        self._rngs = rngs
        self._threshold, self._factor = _threshold_and_factor(rate)

    def forward(self, x: Any, out: Any) -> None:
        for member, rng in enumerate(self._rngs):
            rows = x[member % len(x)]
            size = len(rows.data)
            words = np.empty(-(-size // _VALUES_PER_WORD), np.uint64)
            _draw(rng, words)
            is_kept = words.view(np.uint16)[:size] >= self._threshold
            data = rows.data * is_kept
            data *= self._factor
            out[member] = csr_array((data, rows.indices, rows.indptr), shape=rows.shape)

    def backward(self, delta: Array) -> Array:
        return delta


def _threshold_and_factor(rate: float) -> tuple[np.uint16, float]:
    """Return the smallest 16-bit value that keeps a unit, and the factor of kept units."""
    n_dropped = min(round(rate * _N_VALUES), _N_VALUES - 1)
    return np.uint16(n_dropped), _N_VALUES / (_N_VALUES - n_dropped)


def _draw(rng: np.random.Generator, words: Array) -> None:
    """Fill `words` with the next random bits of a generator."""
    for start in range(0, len(words), _WORDS_AT_ONCE):
        part = words[start : start + _WORDS_AT_ONCE]
        part[...] = rng.bit_generator.random_raw(len(part))
