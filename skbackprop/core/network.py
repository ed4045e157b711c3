"""A network's architecture, and the passes forward and back over its layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import issparse

from .activations import Activation
from .arrays import Array, plain
from .initializers import Initializer
from .layers import Dense, Elementwise, Layer, SparseDense
from .parameters import Parameters
from .workspace import Workspace


@dataclass(frozen=True)
class Network:
    """Dense layers with an activation after each but the last.

    Parameters
    ----------
    widths : sequence of int
        The number of inputs, of units in each hidden layer, and of outputs.
    activations : sequence of Activation
        One for each hidden layer.
    """

    widths: tuple[int, ...]
    activations: tuple[Activation, ...]

    @cached_property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """The shape of each layer's weights."""
        return tuple(zip(self.widths[:-1], self.widths[1:], strict=True))

    def largest_product(self, n_rows: int) -> int:
        """Return the multiplications in the largest matrix product for so many rows."""
        return n_rows * max(fan_in * fan_out for fan_in, fan_out in self.shapes)

    def draw(
        self, initializers: Sequence[Initializer], stream: np.random.RandomState
    ) -> list[tuple[Array, Array]]:
        """Return initial (weights, biases) of each layer, drawn in that order by its own."""
        return [
            initializer.draw(stream, *shape)
            for initializer, shape in zip(initializers, self.shapes, strict=True)
        ]


class Pass:
    """The way forward through the layers and back, in the memory of one shape of batch.

    Parameters
    ----------
    network : Network
        The architecture.
    parameters : Parameters
        The parameters of the members that go through.
    n_rows : int
        The rows of a batch.
    workspace : Workspace
        Where the buffers come from.
    gradients : Parameters or None, default=None
        Where `backward` leaves the gradients; None where only `forward` is wanted.
    sparse : bool, default=False
        Whether the input is a list of CSR matrices.
    """

    def __init__(
        self,
        network: Network,
        parameters: Parameters,
        n_rows: int,
        workspace: Workspace,
        gradients: Parameters | None = None,
        sparse: bool = False,
    ) -> None:
        n_members = len(parameters)

        def buffer(name: str, width: int) -> Array:
            return plain(workspace.array(name, (n_members, n_rows, width)))

        self.layers: list[Layer] = []
        outputs: list[Array] = []  # of all layers but the last
        last = len(network.shapes) - 1
        for i, (fan_in, fan_out) in enumerate(network.shapes):
            kind = SparseDense if sparse and i == 0 else Dense
            if gradients is None:
                dense = kind(plain(parameters.weights[i]), plain(parameters.biases[i]))
            else:
                dense = kind(
                    plain(parameters.weights[i]),
                    plain(parameters.biases[i]),
                    plain(gradients.weights[i]),
                    plain(gradients.biases[i]),
                    # Two buffers in turn: a layer reads one while it fills the other.
                    buffer(f"delta {i % 2}", fan_in) if i else None,
                )
            self.layers.append(dense)
            if i < last:
                activation = network.activations[i]
                z = buffer(f"z {i}", fan_out)
                a = buffer(f"a {i}", fan_out) if activation.keeps_input else z
                self.layers.append(Elementwise(activation))
                outputs += [z, a]
        self._inner = list(zip(self.layers, outputs, strict=False))
        if gradients is not None:
            self.delta = buffer(f"delta {(last + 1) % 2}", network.widths[-1])

    def forward(self, x: Any, scores: Array) -> None:
        """Write the scores of the batch `x` to `scores`."""
        for layer, out in self._inner:
            layer.forward(x, out)
            x = out
        self.layers[-1].forward(x, scores)

    def backward(self) -> None:
        """Leave the gradients by all parameters, given d loss / d scores in `self.delta`.

        On return `delta` and the outputs of the hidden layers are overwritten.
        """
        delta = self.delta
        for layer in reversed(self.layers):
            delta = layer.backward(delta)


# Numbers in the buffers of a block of rows, and of the members that go through together.
_PREDICTION_NUMBERS = 1 << 21


def scores_of(network: Network, parameters: Parameters, X: Any, rows: Any = None) -> Array:
    """Return the scores of a stack, computed in blocks of rows so that memory is bounded.

    The scores of a member do not depend on how many there are.

    Parameters
    ----------
    network : Network
        The architecture.
    parameters : Parameters
        The parameters of all members; only read.
    X : array or CSR matrix of shape (n, d)
        The input, the same for all members.
    rows : Rows or None, default=None
        The rows to predict; None for all.

    Returns
    -------
    scores : array of shape (n_members, n, k)
        In the dtype of the parameters.
    """
    n = X.shape[0] if rows is None else len(rows)
    scores = np.empty((len(parameters), n, network.widths[-1]), parameters.dtype)
    start = 0
    for block in score_blocks(network, parameters, X, rows):
        stop = start + block.shape[1]
        scores[:, start:stop] = block
        start = stop
    return scores


def score_blocks(
    network: Network, parameters: Parameters, X: Any, rows: Any = None
) -> Iterator[Array]:
    """Yield the scores of one block of rows after the other, each valid until the next.

    Parameters and scores are those of `scores_of`, but for the number of rows.
    """
    n_members, dtype = len(parameters), parameters.dtype
    n = X.shape[0] if rows is None else len(rows)
    workspace, n_units = Workspace(dtype), sum(network.widths)
    # Rows as if for one member: a product of other shape may round otherwise.
    n_rows = max(1, min(n, _PREDICTION_NUMBERS // n_units))
    n_together = max(1, _PREDICTION_NUMBERS // (n_units * n_rows))
    passes: dict[tuple[int, int], Pass] = {}
    for start in range(0, n, n_rows):
        part = slice(start, min(start + n_rows, n))
        size = part.stop - part.start
        x = X[part] if rows is None else X[rows[part]]
        x = x if issparse(X) else x.astype(dtype, copy=False)
        scores = workspace.array("scores", (n_members, size, network.widths[-1]))
        for first in range(0, n_members, n_together):
            members = slice(first, min(first + n_together, n_members))
            key = (first, size)
            if key not in passes:
                passes[key] = Pass(
                    network, parameters.members(members), size, workspace, sparse=issparse(X)
                )
            passes[key].forward([x] if issparse(X) else x, plain(scores[members]))
        yield scores
