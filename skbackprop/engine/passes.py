"""The passes forward and back over a network's layers, in the memory of one shape of batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..core.arrays import Array, plain
from ..core.workspace import Workspace
from ..layers.base import BatchAtHand, Layer, Site
from .network import Network
from .parameters import Parameters


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
        Where `backward` leaves the gradients; None in prediction, where only `forward` is wanted,
        and layers that are random are left out.
    sparse : bool, default=False
        Whether the input is a list of CSR matrices.
    streams : sequence of Generator, default=()
        What each member's random layers draw from in training.

    Attributes
    ----------
    batch : BatchAtHand
        What has to be told of each batch in training before it goes forward.
    delta : array of shape (n_members, n_rows, n_outputs)
        Where d loss / d scores goes before `backward`; in training alone.
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
        self.batch = BatchAtHand()
        self._shape = len(parameters), n_rows
        self._workspace = workspace
        sites = self._sites(network, parameters, gradients, streams)
        layers = [network.layers[site.index] for site in sites]
        outputs = self._outputs(layers, sites, sparse)
        # Gradients are wanted down to the lowest layer that learns.
        lowest = next((i for i, site in enumerate(sites) if site.parameters), len(sites))
        if gradients is not None:
            if layers[-1].needs_output:
                raise TypeError(
                    f"{type(layers[-1]).__name__} may not be the last layer in training: it would "
                    "overwrite the scores. The loss has a link in its place."
                )
            self._add_gradients(layers, sites, lowest)
        self.layers = [layer.bind(site) for layer, site in zip(layers, sites, strict=True)]
        self._inner = list(zip(self.layers[:-1], outputs, strict=True))
        self._learning = self.layers[lowest:][::-1]

    def _sites(
        self,
        network: Network,
        parameters: Parameters,
        gradients: Parameters | None,
        streams: Sequence[np.random.Generator],
    ) -> list[Site]:
        """Return where the layers compute, but those that are random in prediction."""
        n_members, n_rows = self._shape
        return [
            Site(
                index=i,
                n_members=n_members,
                n_rows=n_rows,
                n_inputs=network.n_units[i],
                n_outputs=network.n_units[i + 1],
                workspace=self._workspace,
                parameters=_plain(parameters.blocks[i]),
                gradients={} if gradients is None else _plain(gradients.blocks[i]),
                statistics=_plain(parameters.running[i]),
                is_training=gradients is not None,
                streams=streams,
                batch=self.batch,
            )
            for i, layer in enumerate(network.layers)
            if gradients is not None or not layer.is_random
        ]

    @staticmethod
    def _outputs(layers: list[Layer], sites: list[Site], sparse: bool) -> list[Any]:
        """Return where the outputs of all layers but the last go; tell sites of their inputs."""
        outputs: list[Any] = []
        for i, (layer, site) in enumerate(zip(layers, sites, strict=True)):
            if sparse and not layer.takes_sparse:
                raise TypeError(f"{type(layer).__name__} takes no sparse input.")
            site.is_sparse, sparse = sparse, sparse and layer.keeps_sparse
            site.owns_input = i > 0 and not site.is_sparse and not layers[i - 1].needs_output
            if i == len(layers) - 1:
                break
            if sparse:
                outputs.append([None] * site.n_members)
            elif site.owns_input and layer.overwrites_input(site.is_training):
                outputs.append(outputs[-1])
            else:
                outputs.append(site.buffer("output", site.n_outputs))
        return outputs

    def _add_gradients(self, layers: list[Layer], sites: list[Site], lowest: int) -> None:
        """Say where gradients by inputs go: a layer reads one buffer while it fills the other."""
        turn = 0

        def buffer(n_units: int) -> Array:
            shape = *self._shape, n_units
            return plain(self._workspace.array(f"delta {turn}", shape))

        for i in range(lowest, len(sites)):
            if not layers[i].overwrites_delta:
                sites[i].d_input = buffer(sites[i].n_inputs) if i > lowest else None
                turn = 1 - turn
        self.delta = buffer(sites[-1].n_outputs)

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
        for layer in self._learning:
            delta = layer.backward(delta)


def _plain(named: Mapping[str, Array]) -> dict[str, Array]:
    """Return arrays by name, without their member axis if it has one member."""
    return {name: plain(array) for name, array in named.items()} if named else {}
