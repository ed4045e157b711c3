"""Base class of layers, and the arrays that a built layer computes on.

A network is a sequence of layers. A layer is a frozen dataclass that declares its parameters and
computes on the arrays of a `LayerContext`: those of some members, for one batch shape. A new layer
takes one class, and nothing else has to know of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, TypeAlias

import numpy as np

from ..initializers import Initializer
from ..utils.arrays import Array, BufferPool, FloatOrPerMember, squeeze_member_axis

# The buffer that weighs the past batches of running statistics. It has double precision, is not
# averaged, and no fitted attribute shows it.
NUM_BATCHES_TRACKED = "weight"

ArrayInitializer: TypeAlias = float | Initializer | Callable[[np.random.RandomState], Array]
"""Initial value of an array: a number, an initializer of weights, or a function of a RandomState.

An `Initializer` draws weights together with their biases, which are the next array named "biases"
in the order of the layers. The estimator's `init` replaces it.
"""


@dataclass(frozen=True)
class ParameterSpec:
    """Declaration of an array that a layer has for each member.

    Parameters
    ----------
    name : str
        The name, shared by similar arrays of all layers: "weights", "biases", "gains".
    shape : tuple of int
        The shape of a member's array, as the user sees it. Layers see a shape (n,) as (1, n), which
        broadcasts over the rows of a batch.
    initializer : float, Initializer or callable, default=0.0
        The initial value, or what draws it.
    regularized : bool, default=False
        Whether the penalty and weight decay act on it.
    """

    name: str
    shape: tuple[int, ...]
    initializer: ArrayInitializer = 0.0
    regularized: bool = False

    @property
    def size(self) -> int:
        """The number of values of a member."""
        return math.prod(self.shape)


@dataclass(slots=True)
class BatchWeights:
    """Weights of the rows of a training batch.

    Attributes
    ----------
    weight : float or array of shape (n_estimators or 1, n, 1)
        The weight of each row in the loss; those of a member sum to one.
    total : float or array of shape (n_estimators, 1)
        The sum of the sample weights of the batch.
    """

    weight: FloatOrPerMember = 1.0
    total: FloatOrPerMember = 1.0


@dataclass(slots=True)
class LayerContext:
    """Arrays and settings of a built layer: those of some members, for one batch shape.

    All arrays have the member axis first; with a single member they have none.

    Parameters
    ----------
    index : int
        The index of the layer in the network.
    n_estimators, n_rows, n_inputs, n_outputs : int
        The shape of a batch before and after the layer.
    pool : BufferPool
        The memory for scratch arrays.
    parameters, gradients, buffers : dict of arrays
        The layer's parameters, the arrays to which `backward` writes their gradients, and its
        buffers such as running statistics, all by name. In prediction there are no gradients.
    is_training : bool, default=False
        Whether this is a training step, not a prediction.
    grad_input : array of shape (n_estimators, n_rows, n_inputs) or None, default=None
        The array to which `backward` writes the gradient with respect to the input. None if it is
        not needed, or if the layer writes it to `delta`.
    can_overwrite_input : bool, default=False
        Whether `forward` may overwrite the input, which no other layer reads.
    is_sparse : bool, default=False
        Whether the input is a list of CSR matrices: one for each member, or one for all.
    rngs : sequence of Generator, default=()
        The random generators of a stochastic layer, one for each member.
    batch : BatchWeights
        The row weights of the current training batch.
    """

    index: int
    n_estimators: int
    n_rows: int
    n_inputs: int
    n_outputs: int
    pool: BufferPool
    parameters: Mapping[str, Array] = field(default_factory=dict)
    gradients: Mapping[str, Array] = field(default_factory=dict)
    buffers: Mapping[str, Array] = field(default_factory=dict)
    is_training: bool = False
    grad_input: Array | None = None
    can_overwrite_input: bool = False
    is_sparse: bool = False
    rngs: Sequence[np.random.Generator] = ()
    batch: BatchWeights = field(default_factory=BatchWeights)

    def scratch(self, name: str, width: int, n_rows: int | None = None) -> Array:
        """Return the layer's own uninitialized array of shape (n_estimators, n_rows, width)."""
        shape = self.n_estimators, self.n_rows if n_rows is None else n_rows, width
        return squeeze_member_axis(self.pool.get(f"{name} {self.index}", shape))

    def input_copy(self) -> Array | None:
        """Return the array for a copy of the input; None if the input may be overwritten."""
        return None if self.can_overwrite_input else self.scratch("input", self.n_inputs)


class BuiltLayer(Protocol):
    """A layer bound to the arrays of a `LayerContext`."""

    def forward(self, x: Any, out: Any) -> None:
        """Write the layer's output for `x` to `out`."""

    def backward(self, delta: Array) -> Array:
        """Write the gradients of the parameters, and return that with respect to the input.

        On return `delta` may be overwritten.
        """


class Layer:
    """Base class of layers: settings, declared parameters, and both passes.

    A layer defines `forward` and `backward`. One that keeps more than its input between the two,
    or takes sparse input, defines `build` instead.

    Attributes
    ----------
    stochastic : bool, default=False
        Whether it draws random numbers. It does so in training, and prediction skips the layer.
    saves_output : bool, default=False
        Whether `backward` reads the output of `forward`, which then must not be overwritten.
    inplace_backward : bool, default=False
        Whether it writes the gradient with respect to its input to `delta`.
    takes_sparse, keeps_sparse : bool, default=False
        Whether it takes sparse input, and whether its output is then sparse.
    n_buffers : int, default=2
        Approximate number of arrays of the size of the output that a step reads or writes: the
        output and its gradient.
    """

    stochastic: ClassVar[bool] = False
    saves_output: ClassVar[bool] = False
    inplace_backward: ClassVar[bool] = False
    takes_sparse: ClassVar[bool] = False
    keeps_sparse: ClassVar[bool] = False
    n_buffers: ClassVar[int] = 2

    def inplace_forward(self, has_backward: bool) -> bool:
        """Return whether the output overwrites the input where that is allowed."""
        return False

    def compute_n_outputs(self, n_inputs: int) -> int:
        """Return the number of outputs for each row."""
        return n_inputs

    def parameter_specs(self, n_inputs: int) -> tuple[ParameterSpec, ...]:
        """Return the declarations of the trained arrays."""
        return ()

    def buffer_specs(self, n_inputs: int) -> tuple[ParameterSpec, ...]:
        """Return the declarations of arrays that no optimizer changes: running statistics."""
        return ()

    def memory_per_sample(self, n_inputs: int) -> int:
        """Return the approximate number of values of a row that a step reads or writes."""
        return self.n_buffers * self.compute_n_outputs(n_inputs)

    def max_matmul_size(self, n_inputs: int) -> int:
        """Return the number of multiplications of the largest matrix product, for one row."""
        specs = self.parameter_specs(n_inputs)
        return max((spec.size for spec in specs if len(spec.shape) > 1), default=0)

    def init_running_count(
        self, buffers: Mapping[str, Array], n_samples_seen: int, batch_size: int, weight: float
    ) -> None:
        """Restore the buffers that no fitted attribute shows, after `n_samples_seen` samples.

        Their mean sample weight is `weight`.
        """

    def build(self, context: LayerContext) -> BuiltLayer:
        """Return the layer bound to the arrays of a context."""
        return _BuiltFromFormulas(self, context)

    def forward(self, context: LayerContext, x: Array, out: Array) -> None:
        """Write the output for `x` to `out`."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(context, x, out)")

    def backward(self, context: LayerContext, x: Array, delta: Array) -> Array:
        """Write to `context.gradients`, and return the gradient with respect to `x`.

        That goes to `context.grad_input`; where it is None, the return value is not used. If
        `context.is_training` is false, there are no `context.gradients` to write to. On return
        `delta` may be overwritten.
        """
        raise NotImplementedError(f"{type(self).__name__} must define backward(context, x, delta)")


class _BuiltFromFormulas:
    """A layer that defines `forward` and `backward`, with the input of the current batch."""

    def __init__(self, layer: Layer, context: LayerContext) -> None:
        self._layer, self._context = layer, context

    def forward(self, x: Array, out: Array) -> None:
        self._x = x
        self._layer.forward(self._context, x, out)

    def backward(self, delta: Array) -> Array:
        return self._layer.backward(self._context, self._x, delta)
