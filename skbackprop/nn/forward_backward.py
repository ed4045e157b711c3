"""Forward and backward pass through a network, bound to the memory of one batch shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..layers.base import BatchWeights, BuiltLayer, LayerContext
from ..utils.arrays import Array, BufferPool, squeeze_member_axis
from .network import Network
from .parameters import Parameters

_NONE: Mapping[str, Array] = {}


class BuiltNetwork:
    """Layers of a network bound to parameters, and to the memory of one batch shape.

    Parameters
    ----------
    network : Network
        The architecture.
    parameters : Parameters
        The parameters of the members.
    n_rows : int
        The number of rows of a batch.
    pool : BufferPool
        The memory for buffers.
    gradients : Parameters or None, default=None
        The arrays for the gradients in training; None in prediction, which skips stochastic layers
        and needs `forward` only.
    sparse : bool, default=False
        Whether the input is a list of CSR matrices.
    rngs : sequence of Generator, default=()
        The random generators of each member's stochastic layers in training.
    with_input_gradient : bool, default=False
        Whether `backward` is needed in prediction, for the gradient with respect to the input.

    Attributes
    ----------
    batch : BatchWeights
        The row weights of the current training batch, to be set before `forward`.
    delta : array of shape (n_estimators, n_rows, n_outputs)
        The gradient of the loss with respect to the raw predictions, to be set before `backward`.
    """

    def __init__(
        self,
        network: Network,
        parameters: Parameters,
        n_rows: int,
        pool: BufferPool,
        gradients: Parameters | None = None,
        sparse: bool = False,
        rngs: Sequence[np.random.Generator] = (),
        with_input_gradient: bool = False,
    ) -> None:
        self.batch = BatchWeights()
        is_training, n_estimators = gradients is not None, len(parameters)

        def delta(grad_buffer_index: int, n_units: int) -> Array:
            return squeeze_member_axis(
                pool.get(f"delta {grad_buffer_index}", (n_estimators, n_rows, n_units))
            )

        plan = network.execution_plan(is_training, sparse, with_input_gradient)
        self.layers: list[BuiltLayer] = []
        outputs: list[Any] = []
        out: Any = None
        for step in plan.steps:
            i = step.index
            # Positional: keyword arguments would take as long as the object itself.
            context = LayerContext(
                i,
                n_estimators,
                n_rows,
                step.n_inputs,
                step.n_outputs,
                pool,
                _without_member_axis(parameters.layers[i], n_estimators),
                _without_member_axis(gradients.layers[i], n_estimators)
                if gradients is not None
                else _NONE,
                _without_member_axis(parameters.running[i], n_estimators),
                is_training,
                delta(step.grad_buffer_index, step.n_inputs)
                if step.grad_buffer_index is not None
                else None,
                step.can_overwrite_input,
                step.is_sparse,
                rngs,
                self.batch,
            )
            self.layers.append(step.layer.build(context))
            if step.output == "buffer":
                out = context.scratch("output", step.n_outputs)
            elif step.output == "matrices":
                out = [None] * n_estimators
            outputs.append(out)
        self._inner = list(zip(self.layers[:-1], outputs, strict=False))
        if is_training or with_input_gradient:
            self._back = self.layers[plan.first_trainable_layer :][::-1]
            self.delta = delta(plan.grad_buffer_index, network.n_units[-1])

    def forward(self, x: Any, scores: Array) -> None:
        """Write the raw predictions for the batch `x` to `scores`."""
        for layer, out in self._inner:
            layer.forward(x, out)
            x = out
        self.layers[-1].forward(x, scores)

    def backward(self) -> Array:
        """Compute the gradients of all parameters from `self.delta`.

        On return `delta` and the outputs of the hidden layers are overwritten. The gradient with
        respect to the input is returned if `with_input_gradient` is set.
        """
        delta = self.delta
        for layer in self._back:
            delta = layer.backward(delta)
        return delta


def _without_member_axis(named: Mapping[str, Array], n_estimators: int) -> Mapping[str, Array]:
    """Return arrays by name, without the member axis of a single member."""
    if not named or n_estimators > 1:
        return named
    return {name: array[0] for name, array in named.items()}
