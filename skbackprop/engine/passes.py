"""The passes forward and back over a network's layers, in the memory of one shape of batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..core.arrays import Array, plain
from ..core.workspace import Workspace
from ..layers.base import Layer
from ..layers.dense import Dense, Elementwise, SparseDense
from ..layers.dropout import Dropout, InputDropout, SparseInputDropout
from ..layers.normalization import BatchWeights, Site
from .network import Network
from .parameters import FlatParameters, Parameters


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
