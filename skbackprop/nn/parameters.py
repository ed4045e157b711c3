"""The parameters of a stack: named blocks layer by layer, and for training one flat array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

from ..layers.base import NUM_BATCHES_TRACKED, ParameterSpec
from ..utils.arrays import Array, ArrayDict
from ..utils.stack_members import index_state

Named: TypeAlias = Mapping[str, Array]
Streams: TypeAlias = Sequence[np.random.RandomState]


class Parameters:
    """All that a stack of networks of one architecture needs to predict.

    Parameters
    ----------
    blocks : sequence of dict
        The arrays of each layer's blocks by name, of shape (n_estimators, ...).
    running : sequence of dict
        The arrays of each layer's running statistics, likewise.

    Attributes
    ----------
    dtype : dtype
        That of all parameters.
    """

    def __init__(self, blocks: Sequence[Named], running: Sequence[Named]) -> None:
        self.blocks, self.running = blocks, running
        first = next(array for named in blocks for array in named.values())
        self.dtype: np.dtype[np.floating] = first.dtype
        self._n_members = len(first)

    def of(self, name: str) -> list[Array]:
        """Return the arrays of a name, one for each layer that has such a block or statistic."""
        return [named[name] for named in (*self.blocks, *self.running) if name in named]

    @property
    def weights(self) -> list[Array]:
        """The weights of each dense layer."""
        return self.of("weights")

    @property
    def biases(self) -> list[Array]:
        """The biases that belong to each of the weights."""
        return self.of("biases")

    def __len__(self) -> int:
        return self._n_members

    def part(self, layers: slice) -> Parameters:
        """Return the parameters of some consecutive layers, the very same arrays."""
        return Parameters(self.blocks[layers], self.running[layers])

    def astype(self, dtype: Any) -> Parameters:
        """Return the parameters in another precision, the very same arrays where it is theirs."""
        return Parameters(
            *(
                [
                    {name: array.astype(dtype, copy=False) for name, array in named.items()}
                    for named in kind
                ]
                for kind in (self.blocks, self.running)
            )
        )

    def members(self, members: slice) -> Parameters:
        """Return the parameters of some members, as views of the same memory."""
        if members.stop - members.start == len(self):
            return self
        return Parameters(
            *(
                [{name: array[members] for name, array in named.items()} for named in kind]
                for kind in (self.blocks, self.running)
            )
        )


class FlatParameters(Parameters):
    """Parameters in one array, as optimizers want them.

    Parameters
    ----------
    theta : array of shape (n_estimators, n_parameters)
        All parameters, of which `blocks` are views.
    statistics : dict
        The state of the running statistics, of which `running` are views. It is no part of
        `theta`: no optimizer changes it.
    layout : Layout
        Where each block lies in them.

    Attributes
    ----------
    regularized : array of shape (n_estimators, n_penalised)
        The part of `theta` that the penalty acts on.
    """

    def __init__(self, theta: Array, statistics: ArrayDict, layout: ParameterLayout) -> None:
        super().__init__(*layout.views(theta, statistics))
        self.theta, self.statistics, self._layout = theta, statistics, layout
        self.regularized = theta[:, : layout.n_penalised]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.theta, self.statistics, self._layout)  # the rest are views

    def members(self, members: Any) -> FlatParameters:
        """Return the parameters of some members: views for a slice, copies for their numbers."""
        if isinstance(members, slice) and members.stop - members.start == len(self):
            return self
        return self.like(self.theta[members], index_state(self.statistics, members))

    def like(self, theta: Array, statistics: ArrayDict | None = None) -> FlatParameters:
        """Return parameters of the same architecture in another array.

        The running statistics are those given, or else the very same.
        """
        return FlatParameters(
            theta, self.statistics if statistics is None else statistics, self._layout
        )

    def scale_last_layer(self, temperature: float) -> FlatParameters:
        """Return parameters whose scores are divided by a temperature: copies, but where it is 1.

        The last layer has no activation, so that it is enough to divide its weights and biases.
        """
        if temperature == 1.0:
            return self
        divided = self.like(self.theta.copy())
        divided.weights[-1][...] /= temperature
        divided.biases[-1][...] /= temperature
        return divided


class ParameterLayout:
    """Where the blocks of all layers lie in `theta`, and their statistics in a state.

    In `theta` all that is penalised comes first, so that a penalty acts on one slice, in the
    order of the layers. The rest follows name by name, in the order in which the names first
    come. The state has one array for each name of a statistic.

    Parameters
    ----------
    blocks, statistics : sequence of sequences of Block
        Those of each layer.

    Attributes
    ----------
    n_penalised, n_parameters : int
        The numbers of a member that are penalised, and all.
    """

    def __init__(
        self,
        blocks: Sequence[Sequence[ParameterSpec]],
        statistics: Sequence[Sequence[ParameterSpec]],
    ) -> None:
        self._blocks, self._n_layers = (blocks, statistics), len(blocks)
        learned, running = (
            [(layer, block) for layer, own in enumerate(kind) for block in own]
            for kind in (blocks, statistics)
        )
        names = list(dict.fromkeys(block.name for _, block in learned))
        learned.sort(key=lambda item: -1 if item[1].regularized else names.index(item[1].name))
        self._theta = _FlatBuffer(learned)
        self._statistics = {
            name: _FlatBuffer([item for item in running if item[1].name == name])
            for name in dict.fromkeys(block.name for _, block in running)
        }
        self.n_penalised = sum(block.size for _, block in learned if block.regularized)
        self.n_parameters = self._theta.size

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._blocks  # the rest follows

    def start(
        self, n_estimators: int, dtype: np.dtype[np.floating], rngs: Streams = ()
    ) -> FlatParameters:
        """Return parameters and statistics as they start, drawn from a stream for each member.

        Without streams what is drawn is zero, for the caller to fill.
        """
        theta = self._theta.start(n_estimators, dtype, rngs)
        statistics = {
            name: row.start(
                n_estimators, np.dtype(np.float64) if name == NUM_BATCHES_TRACKED else dtype, rngs
            )
            for name, row in self._statistics.items()
        }
        return FlatParameters(theta, statistics, self)

    def views(self, theta: Array, statistics: ArrayDict) -> tuple[list[Named], list[Named]]:
        """Return each layer's blocks and statistics, as views of these arrays."""
        blocks: list[dict[str, Array]] = [{} for _ in range(self._n_layers)]
        running: list[dict[str, Array]] = [{} for _ in range(self._n_layers)]
        self._theta.view(theta, blocks)
        for name, row in self._statistics.items():
            row.view(statistics[name], running)
        return [*blocks], [*running]


class _FlatBuffer:
    """Blocks side by side in one row of numbers for each member.

    Parameters
    ----------
    placed : sequence of (layer, block)
        The number of the layer that each belongs to, and the blocks, in their order.
    """

    def __init__(self, placed: Sequence[tuple[int, ParameterSpec]]) -> None:
        starts = accumulate((block.size for _, block in placed), initial=0)
        self._places = [(*item, start) for item, start in zip(placed, starts, strict=False)]
        self.size = sum(block.size for _, block in placed)

    def start(self, n_estimators: int, dtype: np.dtype[np.floating], rngs: Streams = ()) -> Array:
        """Return an array of what the blocks hold at the start."""
        flat = np.empty((n_estimators, self.size), dtype)
        for _, block, start in self._places:
            part = _shaped(flat[:, start : start + block.size], block.shape)
            if callable(block.start) and not rngs:
                part[...] = 0
            elif callable(block.start):
                for own, rng in zip(part, rngs, strict=True):
                    own[...] = block.start(rng)
            else:
                part[...] = block.start
        return flat

    def view(self, flat: Array, views: Sequence[dict[str, Array]]) -> None:
        """Add views of the blocks in `flat` to those of their layers."""
        for layer, block, start in self._places:
            part = flat[:, start : start + block.size]
            views[layer][block.name] = _shaped(part, block.shape)


def _shaped(part: Array, shape: tuple[int, ...]) -> Array:
    """Return columns in the shape of a block for each member, as a view of the same memory."""
    if len(shape) == 1:
        # Unlike `reshape`, this leaves a stride of zero, and NumPy multiplies otherwise for it.
        return part[:, None]
    return part.reshape(len(part), *shape)
