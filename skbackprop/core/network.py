"""A network's architecture, and the passes forward and back over its layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.sparse import issparse, vstack

from .activations import Activation
from .arrays import Array, plain
from .dropout import Dropout, InputDropout, SparseInputDropout
from .initializers import Initializer
from .layers import Dense, Elementwise, Layer, SparseDense
from .normalization import BatchWeights, Normalization, Site
from .parameters import FlatParameters, Parameters
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
    dropout : tuple of float, default=()
        The rates at which training leaves out inputs and the units of each hidden layer; empty
        where it leaves out none.
    normalization : Normalization or None, default=None
        What is made of the input of each activation.
    """

    widths: tuple[int, ...]
    activations: tuple[Activation, ...]
    dropout: tuple[float, ...] = ()
    normalization: Normalization | None = None

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

    def parameters(self, start: Parameters, dtype: np.dtype[np.floating]) -> FlatParameters:
        """Return parameters to train: copies of `start`, with all that it lacks.

        Gains start at one, and running statistics as the normalisation has them.
        """
        n_members, n_units = len(start), sum(self.widths[1:-1])
        p = sum(fan_in * fan_out + fan_out for fan_in, fan_out in self.shapes)
        statistics = {}
        if self.normalization is not None:
            p += n_units
            statistics = self.normalization.init(n_members, n_units, dtype)
        theta, has_gains = np.ones((n_members, p), dtype), self.normalization is not None
        parameters = FlatParameters(theta, self.shapes, has_gains, statistics)
        parameters.assign(start)
        return parameters


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
    streams : sequence of Generator, default=()
        What draws each member's masks in training, where the network has dropout.

    Attributes
    ----------
    batch_weights : BatchWeights or None
        What has to be told of each batch before it goes forward; None for nothing.
    """

    def __init__(
        self,
        network: Network,
        parameters: Parameters,
        n_rows: int,
        workspace: Workspace,
        gradients: Parameters | None = None,
        sparse: bool = False,
        streams: Sequence[np.random.Generator] = (),
    ) -> None:
        self.network, self.parameters, self.gradients = network, parameters, gradients
        self.n_rows, self.workspace = n_rows, workspace
        self.batch_weights = self._batch_weights()
        self.layers: list[Layer] = []
        self._outputs: list[Any] = []  # of all layers but the last
        if gradients is not None and network.dropout and network.dropout[0] > 0:
            self._add_input_dropout(streams, sparse)
        last = len(network.shapes) - 1
        for i in range(last):
            self._add_hidden(i, SparseDense if sparse and i == 0 else Dense)
            if gradients is not None and network.dropout and network.dropout[i + 1] > 0:
                shape = n_rows, network.widths[i + 1]
                layer = Dropout(network.dropout[i + 1], streams, shape, workspace, f"mask {i + 1}")
                self._add(layer, self._buffer(f"dropped {i + 1}", network.widths[i + 1]))
        self.layers.append(self._dense(last, SparseDense if sparse and last == 0 else Dense))
        self._inner = list(zip(self.layers, self._outputs, strict=False))
        if gradients is not None:
            self.delta = self._buffer(f"delta {(last + 1) % 2}", network.widths[-1])

    def _buffer(self, name: str, width: int) -> Array:
        shape = len(self.parameters), self.n_rows, width
        return plain(self.workspace.array(name, shape))

    def _add(self, layer: Layer, out: Any) -> None:
        self.layers.append(layer)
        self._outputs.append(out)

    def _add_input_dropout(self, streams: Sequence[np.random.Generator], sparse: bool) -> None:
        rate, width = self.network.dropout[0], self.network.widths[0]
        if sparse:
            self._add(SparseInputDropout(rate, streams), [None] * len(streams))
        else:
            layer = InputDropout(rate, streams, (self.n_rows, width), self.workspace, "mask 0")
            self._add(layer, self._buffer("dropped 0", width))

    def _add_hidden(self, i: int, kind: type[Dense]) -> None:
        """Add a hidden layer: the product, normalised where the network has it, and f of it."""
        activation, width = self.network.activations[i], self.network.widths[i + 1]
        z = self._buffer(f"z {i}", width)
        a = self._buffer(f"a {i}", width) if activation.keeps_input else z
        normalization = self.network.normalization
        if normalization is None:
            self._add(self._dense(i, kind), z)
        elif self.gradients is None:
            self._add(self._dense(i, kind, has_biases=False), z)
            self._add(normalization.prediction_layer(self._site(i)), z)
        else:
            self._add(self._dense(i, kind, has_biases=False), self._buffer(f"normed {i}", width))
            self._add(normalization.training_layer(self._site(i), self.batch_weights), z)
        self._add(Elementwise(activation), a)

    def _dense(self, i: int, kind: type[Dense], has_biases: bool = True) -> Dense:
        def of(parameters: Parameters) -> tuple[Array, Array | None]:
            biases = plain(parameters.biases[i]) if has_biases else None
            return plain(parameters.weights[i]), biases

        if self.gradients is None:
            return kind(*of(self.parameters))
        # Two buffers in turn: a layer reads one while it fills the other.
        d_input = self._buffer(f"delta {i % 2}", self.network.widths[i]) if i else None
        return kind(*of(self.parameters), *of(self.gradients), d_input)

    def _site(self, i: int) -> Site:
        """Return where hidden layer `i` is normalised."""
        parameters, gradients = self.parameters, self.gradients
        arrays = {"gains": parameters.gains[i], "biases": parameters.biases[i]}
        if parameters.means:
            arrays |= {"means": parameters.means[i], "variances": parameters.variances[i]}
        if gradients is not None:
            arrays |= {"d_gains": gradients.gains[i], "d_biases": gradients.biases[i]}
        plain_arrays = {name: plain(array) for name, array in arrays.items()}
        return Site(n_rows=self.n_rows, workspace=self.workspace, **plain_arrays)

    def _batch_weights(self) -> BatchWeights | None:
        """Return what has to be told of each batch before it goes forward in training."""
        normalization, parameters = self.network.normalization, self.parameters
        if self.gradients is None or normalization is None:
            return None
        assert isinstance(parameters, FlatParameters)
        return normalization.batch_weights(parameters.statistics, self.n_rows)

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


# Numbers in the scores of the rows of which predictions are made at once.
_OUTCOME_NUMBERS = 1 << 18


def outcomes_of(
    network: Network, parameters: Parameters, X: Any, outcome: Callable[[Array], Any]
) -> Any:
    """Return what `outcome` makes of the scores of a stack, so that memory is bounded.

    Parameters
    ----------
    network, parameters, X
        As in `scores_of`.
    outcome : callable
        Takes scores of shape (n_members, n, k), which it may overwrite, for any number n of rows;
        returns something for each row: an array, a CSR matrix, or a list or tuple of arrays.

    Returns
    -------
    outcomes : array, CSR matrix, list or tuple
        What `outcome` returns for all rows.
    """
    rows_at_once = max(1, _OUTCOME_NUMBERS // (len(parameters) * network.widths[-1]))
    parts = (
        outcome(block[:, start : start + rows_at_once])
        for block in score_blocks(network, parameters, X)
        for start in range(0, block.shape[1], rows_at_once)
    )
    return _joined(parts, X.shape[0])


def _joined(parts: Iterator[Any], n_rows: int) -> Any:
    """Put consecutive rows together, where each part is valid until the next is asked for."""
    whole: list[Array] = []
    start = 0
    for part in parts:
        if issparse(part):
            matrices: list[Any] = [part, *parts]
            return vstack(matrices)
        arrays = part if isinstance(part, (list, tuple)) else [part]
        stop = start + len(arrays[0])
        if stop - start == n_rows:
            return part
        if not whole:
            whole = [np.empty((n_rows, *array.shape[1:]), array.dtype) for array in arrays]
        for array, own in zip(whole, arrays, strict=True):
            array[start:stop] = own
        start = stop
    return type(part)(whole) if isinstance(part, (list, tuple)) else whole[0]
