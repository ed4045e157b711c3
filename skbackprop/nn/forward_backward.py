"""The passes forward and back over a network's layers, in the memory of one shape of batch."""

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
    """The way forward through the layers and back, in the memory of one shape of batch.

    Parameters
    ----------
    network : Network
        The architecture.
    parameters : Parameters
        The parameters of the members that go through.
    n_rows : int
        The rows of a batch.
    pool : Workspace
        Where the buffers come from.
    gradients : Parameters or None, default=None
        Where `backward` leaves the gradients; None in prediction, where only `forward` is wanted,
        and layers that are random are left out.
    sparse : bool, default=False
        Whether the input is a list of CSR matrices.
    rngs : sequence of Generator, default=()
        What each member's random layers draw from in training.
    is_by_input : bool, default=False
        Whether `backward` is wanted in prediction: for the gradient by the input, which it
        returns.

    Attributes
    ----------
    batch : BatchAtHand
        What has to be told of each batch in training before it goes forward.
    delta : array of shape (n_estimators, n_rows, n_outputs)
        Where d loss / d scores goes before `backward`, if there is a way back.
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
        is_by_input: bool = False,
    ) -> None:
        self.batch = BatchWeights()
        is_training, n_estimators = gradients is not None, len(parameters)

        def delta(grad_buffer_index: int, n_units: int) -> Array:
            return squeeze_member_axis(
                pool.get(f"delta {grad_buffer_index}", (n_estimators, n_rows, n_units))
            )

        way = network.execution_plan(is_training, sparse, is_by_input)
        self.layers: list[BuiltLayer] = []
        outputs: list[Any] = []
        out: Any = None
        for step in way.steps:
            i = step.index
            # By place, since names would take as long as the object itself.
            context = LayerContext(
                i,
                n_estimators,
                n_rows,
                step.n_inputs,
                step.n_outputs,
                pool,
                _plain(parameters.layers[i], n_estimators),
                _plain(gradients.layers[i], n_estimators) if gradients is not None else _NONE,
                _plain(parameters.running[i], n_estimators),
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
        if is_training or is_by_input:
            self._back = self.layers[way.first_trainable_layer :][::-1]
            self.delta = delta(way.grad_buffer_index, network.n_units[-1])

    def forward(self, x: Any, scores: Array) -> None:
        """Write the scores of the batch `x` to `scores`."""
        for layer, out in self._inner:
            layer.forward(x, out)
            x = out
        self.layers[-1].forward(x, scores)

    def backward(self) -> Array:
        """Leave the gradients by all parameters, given d loss / d scores in `self.delta`.

        On return `delta` and the outputs of the hidden layers are overwritten. What is returned
        is the gradient by the input, if that is wanted.
        """
        delta = self.delta
        for layer in self._back:
            delta = layer.backward(delta)
        return delta


def _plain(named: Mapping[str, Array], n_estimators: int) -> Mapping[str, Array]:
    """Return arrays by name, without their member axis if it has one member."""
    if not named or n_estimators > 1:
        return named
    return {name: array[0] for name, array in named.items()}
