"""What a layer is: a specification of its parameters, and of its way forward and back.

A network is a sequence of layers. Each is a frozen dataclass, which declares what it learns in
named blocks and computes on the arrays of a `LayerContext`: those of some members, for one shape of
batch. One class makes a layer; nothing else has to know of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import numpy as np

from ..utils.arrays import Array, BufferPool, FloatOrPerMember, squeeze_member_axis

# The running statistic that says what the batches before weigh. It is kept in double precision,
# no average is taken of it, and no fitted attribute shows it.
NUM_BATCHES_TRACKED = "weight"


@dataclass(frozen=True)
class ParameterSpec:
    """An array of numbers that a layer has for each member.

    Parameters
    ----------
    name : str
        What it is called, the same in all layers that have the like: "weights", "biases",
        "gains".
    shape : tuple of int
        The shape of a member's array, as the user sees it. A shape (n,) is a row of numbers, which
        layers see as (1, n), so that it goes with the rows of a batch.
    start : float or callable, default=0.0
        What it holds at the start: a number, or what draws an array of the shape from a
        RandomState. The estimator's `init` draws "weights", and "biases" with them.
    regularized : bool, default=False
        Whether the penalty and decoupled decay act on it.
    """

    name: str
    shape: tuple[int, ...]
    start: float | Callable[[np.random.RandomState], Array] = 0.0
    regularized: bool = False

    @property
    def size(self) -> int:
        """The numbers of a member."""
        return math.prod(self.shape)


@dataclass(slots=True)
class BatchWeights:
    """What layers may ask of the batch that goes through in training.

    Attributes
    ----------
    weight : float or array of shape (n_estimators or 1, n, 1)
        The share of each row in the loss; a member's add up to one.
    total : float or array of shape (n_estimators, 1)
        What its rows weigh in all.
    """

    weight: FloatOrPerMember = 1.0
    total: FloatOrPerMember = 1.0


@dataclass(slots=True)
class LayerContext:
    """Where a layer computes: the arrays of some members, for one shape of batch.

    All arrays have the member axis first, those of a single member none.

    Parameters
    ----------
    index : int
        The layer's place in the network.
    n_estimators, n_rows, n_inputs, n_outputs : int
        The shape of a batch before and after the layer.
    workspace : Workspace
        Where buffers come from.
    parameters, gradients, statistics : dict of arrays
        The layer's blocks, where `backward` leaves their gradients, and its running statistics;
        all by name. Out of training there are no gradients, and none are wanted.
    is_training : bool, default=False
        Whether a training step goes through, not a prediction.
    grad_input : array of shape (n_estimators, n_rows, n_inputs) or None, default=None
        Where `backward` leaves the gradient by the input; None where none is wanted, or where
        the layer leaves it in the memory of `delta`.
    can_overwrite_input : bool, default=False
        Whether `forward` may overwrite the input, which nobody else reads.
    is_sparse : bool, default=False
        Whether the input is a list of CSR matrices: one for each member, or one for all.
    rngs : sequence of Generator, default=()
        What a random layer draws from, one for each member.
    batch : BatchAtHand
        What is told of each batch in training.
    """

    index: int
    n_estimators: int
    n_rows: int
    n_inputs: int
    n_outputs: int
    workspace: BufferPool
    parameters: Mapping[str, Array] = field(default_factory=dict)
    gradients: Mapping[str, Array] = field(default_factory=dict)
    statistics: Mapping[str, Array] = field(default_factory=dict)
    is_training: bool = False
    grad_input: Array | None = None
    can_overwrite_input: bool = False
    is_sparse: bool = False
    rngs: Sequence[np.random.Generator] = ()
    batch: BatchWeights = field(default_factory=BatchWeights)

    def buffer(self, name: str, width: int, n_rows: int | None = None) -> Array:
        """Return an array (n_estimators, n_rows, width) of undefined values, the layer's own."""
        shape = self.n_estimators, self.n_rows if n_rows is None else n_rows, width
        return squeeze_member_axis(self.workspace.array(f"{name} {self.index}", shape))

    def input_buffer(self) -> Array | None:
        """Return where a layer that overwrites its input copies it to; None if it owns it."""
        return None if self.can_overwrite_input else self.buffer("input", self.n_inputs)


class BuiltLayer(Protocol):
    """A layer at its site: what a pass asks of it."""

    def forward(self, x: Any, out: Any) -> None:
        """Write the layer's output on `x` to `out`."""

    def backward(self, delta: Array) -> Array:
        """Leave the gradients by its blocks, and return the gradient by the input.

        On return `delta` may be overwritten.
        """


class Layer:
    """A layer of a network: settings, what it learns, and how it computes.

    It defines `forward` and `backward`. One that keeps more than its input between the two, or
    takes sparse input, defines `bind` instead.

    Attributes
    ----------
    is_random : bool, default=False
        Whether it draws from the members' streams. It does so in training, and prediction
        leaves it out.
    saves_output : bool, default=False
        Whether `backward` reads the output of `forward`, which so has to stay.
    inplace_backward : bool, default=False
        Whether it returns the gradient by its input in the memory of `delta`.
    takes_sparse, keeps_sparse : bool, default=False
        Whether it takes sparse input, and whether its output is sparse then.
    n_buffers : int, default=2
        About how many arrays of the size of its output a step goes over: output and gradient.
    """

    stochastic: ClassVar[bool] = False
    saves_output: ClassVar[bool] = False
    inplace_backward: ClassVar[bool] = False
    takes_sparse: ClassVar[bool] = False
    keeps_sparse: ClassVar[bool] = False
    n_buffers: ClassVar[int] = 2

    def inplace_forward(self, has_way_back: bool) -> bool:
        """Return whether the output takes the memory of the input, where the layer owns it."""
        return False

    def n_outputs(self, n_inputs: int) -> int:
        """Return the number of outputs for each row."""
        return n_inputs

    def blocks(self, n_inputs: int) -> tuple[ParameterSpec, ...]:
        """Return what the layer learns."""
        return ()

    def statistics(self, n_inputs: int) -> tuple[ParameterSpec, ...]:
        """Return what it keeps running, which no optimizer changes."""
        return ()

    def memory_per_sample(self, n_inputs: int) -> int:
        """Return about how many numbers of a row a step goes over, beside the layer's input."""
        return self.n_buffers * self.n_outputs(n_inputs)

    def max_matmul_size(self, n_inputs: int) -> int:
        """Return the multiplications of the largest matrix product, for one row."""
        return max((block.size for block in self.blocks(n_inputs) if block.regularized), default=0)

    def init_running_count(
        self, statistics: Mapping[str, Array], n_samples_seen: int, batch_size: int, weight: float
    ) -> None:
        """Set what no fitted attribute tells of the running statistics.

        All that is known is that there were `n_samples_seen` rows, of the mean `weight`.
        """

    def build(self, site: LayerContext) -> BuiltLayer:
        """Return the layer at a site."""
        return _BuiltParameterFree(self, site)

    def forward(self, site: LayerContext, x: Array, out: Array) -> None:
        """Write the output on `x` to `out`."""
        raise NotImplementedError(f"{type(self).__name__} has to define forward(site, x, out)")

    def backward(self, site: LayerContext, x: Array, delta: Array) -> Array:
        """Write to `site.gradients`, and return the gradient by `x`, in `site.d_input`.

        Where that is None, what is returned makes no difference. Where `site.is_training` is
        false, there are no `site.gradients` to write to. On return `delta` may be overwritten.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define backward(site, x, delta)")


class _BuiltParameterFree:
    """A layer at its site, and the input of the batch at hand."""

    def __init__(self, layer: Layer, site: LayerContext) -> None:
        self._layer, self._site = layer, site

    def forward(self, x: Array, out: Array) -> None:
        self._x = x
        self._layer.forward(self._site, x, out)

    def backward(self, delta: Array) -> Array:
        return self._layer.backward(self._site, self._x, delta)
