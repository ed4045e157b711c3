"""Dense, Activation and Dropout layers."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated, Any, ClassVar

import numpy as np
from scipy.sparse import csr_array

from ..activations import ActivationFunction, ActivationLike, SelfGated, get_activation
from ..initializers import GlorotUniform, Initializer
from ..utils.arrays import Array
from ..utils.configurable import check_in_place
from ..utils.parallel import split_rows
from ..utils.validation import between, validate_positive_int
from .base import (
    ArrayInitializer,
    BoundLayer,
    Layer,
    LayerContext,
    ParameterFreeLayer,
    ParameterSpec,
    Shape,
    draw_kernels,
    parallelize_rows,
    sum_rows,
)

# A thread computes at most this many positions at once.
_POSITIONS_AT_ONCE = 1_024

# Threads sum the gradients of at most this many groups of positions.
_N_GROUPS = 4


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
    trainable : bool, default=True
        Whether training changes the layer; False freezes it.

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

    n_units: Annotated[int, validate_positive_int]
    activation: ActivationLike | None = None
    use_bias: bool = True
    initializer: Initializer | None = None
    # The names of its arrays start with the scope, which hidden layers of an estimator lack.
    scope: str = field(default="", repr=False)

    batch_view = "positions"
    takes_sparse = True
    _set_elsewhere: ClassVar[frozenset[str]] = frozenset({"scope"})

    def expand(self, input_shape: Shape) -> tuple[Layer, ...]:
        return replace(self, scope="dense_"), *make_activation_layers(self.activation)

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        linear = replace(self, n_units=input_shape[-1], activation=None)
        return *make_activation_layers(self.activation), linear

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        return *input_shape[:-1], self.n_units

    def parameter_specs(self, input_shape: Shape) -> tuple[ParameterSpec, ...]:
        shape = input_shape[-1], self.n_units
        weights, biases = f"{self.scope}weights", f"{self.scope}biases"
        initializer: ArrayInitializer = self.initializer or GlorotUniform()
        if self.scope:
            initializer = partial(
                draw_kernels, shape, activation=self.activation, initializer=self.initializer
            )
        specs = (
            ParameterSpec(weights, shape, initializer, regularized=True),
            ParameterSpec(biases, (self.n_units,)),
        )
        return specs if self.use_bias else specs[:1]

    def bind(self, context: LayerContext) -> BoundLayer:
        names = f"{self.scope}weights", f"{self.scope}biases"
        return bind_dense(context, *names, context.grad_input)


def bind_dense(
    context: LayerContext, weights: str, biases: str, grad_input: Array | None
) -> BoundLayer:
    """Return the passes of z = x W + b of rows, or of positions, which threads divide.

    Parameters
    ----------
    context : LayerContext
        The arrays of the layer.
    weights, biases : str
        The names of W and b. There may be no b.
    grad_input : array or None
        The array for the gradient with respect to x.
    """
    gradients, n_positions = context.gradients, context.x_shape[0]
    w, b = context.parameters[weights], context.parameters.get(biases)
    ones = context.batch.ones(n_positions) if gradients else None
    # For single matrices np.dot has the lowest overhead. For stacks np.matmul is slow with an
    # inner dimension of one, where the product is a multiplication.
    product: Any = np.dot if w.ndim == 2 else np.matmul
    outer_product = np.multiply if w.shape[-1] == 1 and w.ndim > 2 else product

    def forward(x: Any, out: Array) -> None:
        if context.is_sparse:
            _multiply_sparse(x, w, out)
        else:
            product(x, w, out=out)
        if b is not None:
            np.add(out, b, out=out)

    def backward(
        d_w: Array | None,
        d_b: Array | None,
        grad_input: Array | None,
        x: Any,
        out: Array | None,
        delta: Array,
    ) -> None:
        if d_w is not None:
            if context.is_sparse:
                _multiply_sparse([matrix.T for matrix in x], delta, d_w)
            else:
                product(x.swapaxes(-1, -2), delta, out=d_w)
        if d_b is not None and ones is not None:
            sum_rows(delta, ones, d_b)
        if grad_input is not None:
            outer_product(delta, w.swapaxes(-1, -2), out=grad_input)

    d_w, d_b = gradients.get(weights), gradients.get(biases)
    if len(context.input_shape) == 1 or n_positions <= _POSITIONS_AT_ONCE:
        return forward, partial(backward, d_w, d_b, grad_input)
    groups = split_rows(n_positions, max(n_positions // _N_GROUPS, _POSITIONS_AT_ONCE))
    parts = split_rows(n_positions, _POSITIONS_AT_ONCE)
    backward_groups = parallelize_rows(backward, groups, d_w, d_b)
    return parallelize_rows(forward, parts), partial(backward_groups, grad_input)


def _multiply_sparse(matrices: list[Any], b: Array, out: Array) -> None:
    """Write the products of sparse matrices, one for each member or one for all, with b."""
    if out.ndim == 2:
        b, out = b[None], out[None]
    for member, product in enumerate(out):
        product[...] = matrices[member % len(matrices)] @ b[member]


# A thread computes at most this many values of an activation at once.
_VALUES_AT_ONCE = 1 << 17


@dataclass(frozen=True)
class Activation(ParameterFreeLayer):
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

    activation: ActivationLike

    batch_view = "flat"

    def __post_init__(self) -> None:
        reads = "both" if self.function.needs_preactivation else "output"
        object.__setattr__(self, "backward_reads", reads)

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (self,)

    @property
    def function(self) -> ActivationFunction:
        """The activation function."""
        return get_activation(self.activation)

    def bind(self, context: LayerContext) -> BoundLayer:
        function, is_training = self.function, context.batch.is_training
        (n_rows, n_units), gates = context.x_shape, None

        def forward(z: Array, a: Array) -> None:
            # A method of a user may return its result instead of writing it.
            result: object = function.forward(z, a)  # type: ignore[func-returns-value]
            if result is not None:
                check_in_place(function, "forward(z, a)", "a", result, a)

        def backward(z: Array, a: Array, delta: Array) -> None:
            result: object = function.backward(z, a, delta)  # type: ignore[func-returns-value]
            if result is not None:
                check_in_place(function, "backward(z, a, delta)", "delta", result, delta)

        passes: Any = forward, backward
        if is_training and isinstance(function, SelfGated):
            passes = function.forward_with_derivative, _multiply_by_derivative
            gates = context.batch.scratch("gates", n_rows, n_units)
        if is_training and n_rows * n_units > _VALUES_AT_ONCE:
            parts = split_rows(n_rows, _VALUES_AT_ONCE // n_units)
            passes = [parallelize_rows(function, parts) for function in passes]
        return (passes[0] if gates is None else partial(passes[0], gates)), passes[1]


def make_activation_layers(activation: ActivationLike | None) -> tuple[Layer, ...]:
    """Return the layer of an activation, if there is one."""
    return () if activation is None else (Activation(activation),)


def _multiply_by_derivative(derivative: Array, a: Array, delta: Array) -> None:
    np.multiply(delta, derivative, out=delta)


# A mask compares values of 16 bits with the rate.
_N_VALUES = 1 << 16


def dropout_rng(rng: np.random.RandomState) -> np.random.Generator:
    """Return a random generator for masks, seeded by a copy of `rng`, which does not advance."""
    seed = copy.deepcopy(rng).randint(np.iinfo(np.int32).max, size=4)
    return np.random.default_rng(seed.tolist())


@dataclass(frozen=True)
class Dropout(ParameterFreeLayer):
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

    rate: Annotated[float, between(0, 1, "left")]

    batch_view = "flat"
    stochastic = True
    takes_sparse = True
    backward_reads = "neither"

    def mirror(self, input_shape: Shape) -> tuple[Layer, ...]:
        return (self,)

    def bind(self, context: LayerContext) -> BoundLayer | None:
        batch = context.batch
        if not batch.is_training:
            return None
        # The smallest 16-bit value that keeps a unit, and the factor of kept units.
        n_dropped = min(round(self.rate * _N_VALUES), _N_VALUES - 1)
        threshold, factor = np.uint16(n_dropped), _N_VALUES / (_N_VALUES - n_dropped)
        if context.is_sparse:
            return _bind_sparse_dropout(batch.rngs, threshold, factor)
        n_estimators, size = batch.n_estimators, math.prod(context.x_shape)
        is_kept = batch.pool.get("is kept", (n_estimators, size), np.bool_)
        mask = context.scratch("mask", *context.x_shape)
        flat_mask, value = mask.reshape(n_estimators, size), batch.pool.dtype.type(factor)

        def forward(x: Array, out: Array) -> None:
            for rng, is_kept_of_member in zip(batch.rngs, is_kept, strict=True):
                np.greater_equal(_draw_values(rng, size), threshold, out=is_kept_of_member)
            np.multiply(is_kept, value, out=flat_mask)
            np.multiply(x, mask, out=out)

        def backward(x: Array, out: Array, delta: Array) -> None:
            np.multiply(delta, mask, out=delta)

        return forward, backward


def _bind_sparse_dropout(
    rngs: Sequence[np.random.Generator], threshold: np.uint16, factor: float
) -> BoundLayer:
    """Return the passes of dropout of the stored entries of CSR matrices."""

    def forward(x: list[Any], out: list[Any]) -> None:
        for member, rng in enumerate(rngs):
            rows = x[member % len(x)]
            data = rows.data * (_draw_values(rng, len(rows.data)) >= threshold)
            data *= factor
            out[member] = csr_array((data, rows.indices, rows.indptr), shape=rows.shape)

    return forward, lambda x, out, delta: None


@dataclass(frozen=True)
class HiddenDropout(Dropout):
    """Dropout before a dense layer, by the rates of an estimator's `dropout`."""


def _draw_values(rng: np.random.Generator, n_values: int) -> Array:
    """Draw random 16-bit values. A word of 64 bits holds four of them."""
    words: Array = rng.bit_generator.random_raw(-(-n_values // 4))
    return words.view(np.uint16)[:n_values]
