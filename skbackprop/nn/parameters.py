"""Parameters of a stack: one flat array for training, and views of it for each layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, TypeAlias

import numpy as np

from ..initializers import Initializer
from ..layers.base import NUM_BATCHES_TRACKED, ParameterSpec
from ..utils.arrays import Array, ArrayDict, index_state

NamedArrays: TypeAlias = Mapping[str, Array]
RandomStates: TypeAlias = Sequence[np.random.RandomState]


class Parameters:
    """All arrays with which a stack of networks predicts.

    Parameters
    ----------
    theta : array of shape (n_estimators, n_parameters)
        All trained parameters, as optimizers need them.
    buffers : dict
        Arrays that no optimizer changes, such as running statistics; one for each name.
    layout : ParameterLayout
        The positions of the layers' arrays.
    part : slice, default=slice(None)
        The layers that `layers` and `buffers_of_layers` return.

    Attributes
    ----------
    regularized : array of shape (n_estimators, n_regularized)
        The part of `theta` that the penalty acts on.
    """

    def __init__(
        self,
        theta: Array,
        buffers: ArrayDict,
        layout: ParameterLayout,
        part: slice = slice(None),
    ) -> None:
        self.theta, self.buffers, self.layout, self._part = theta, buffers, layout, part
        self.regularized = theta[:, : layout.n_regularized]

    @cached_property
    def _views(self) -> tuple[list[NamedArrays], list[NamedArrays]]:
        return self.layout.views(self.theta, self.buffers)

    @property
    def layers(self) -> list[NamedArrays]:
        """The trained arrays of each layer by name, as views of shape (n_estimators, ...)."""
        return self._views[0][self._part]

    @property
    def buffers_of_layers(self) -> list[NamedArrays]:
        """The buffers of each layer by name, as views of shape (n_estimators, ...)."""
        return self._views[1][self._part]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.theta, self.buffers, self.layout, self._part)  # views are left out

    def __len__(self) -> int:
        return len(self.theta)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the trained parameters."""
        return self.theta.dtype

    def select(self, name: str) -> list[Array]:
        """Return the arrays of a name, one for each layer that has one."""
        return [item[name] for item in (*self.layers, *self.buffers_of_layers) if name in item]

    def part(self, layers: slice) -> Parameters:
        """Return the parameters of some consecutive layers, without copies."""
        return Parameters(self.theta, self.buffers, self.layout, layers)

    def members(self, members: Any) -> Parameters:
        """Return the parameters of some members: views for a slice, copies for an index array."""
        if isinstance(members, slice) and members.indices(len(self)) == (0, len(self), 1):
            return self
        return self.with_arrays(self.theta[members], index_state(self.buffers, members))

    def with_arrays(self, theta: Array, buffers: ArrayDict | None = None) -> Parameters:
        """Return parameters of the same layout in other arrays.

        Without `buffers` they share the buffers.
        """
        buffers = self.buffers if buffers is None else buffers
        return Parameters(theta, buffers, self.layout, self._part)

    def with_layout(self, layout: ParameterLayout) -> Parameters:
        """Return the parameters for a network that differs only in layers without parameters."""
        return Parameters(self.theta, self.buffers, layout)

    def astype(self, dtype: Any) -> Parameters:
        """Return the parameters in another dtype, without copies where it is the same."""
        buffers = {name: array.astype(dtype, copy=False) for name, array in self.buffers.items()}
        return self.with_arrays(self.theta.astype(dtype, copy=False), buffers)

    def copy(self) -> Parameters:
        """Return a copy."""
        buffers = {name: array.copy() for name, array in self.buffers.items()}
        return self.with_arrays(self.theta.copy(), buffers)


class ParameterLayout:
    """Positions of all layers' arrays in `theta`, and of their buffers in a dict.

    In `theta` all regularized arrays come first, in the order of the layers, so that the penalty
    acts on one slice. The rest follows name by name, in the order of first appearance. Buffers have
    one flat array for each name.

    Parameters
    ----------
    specs : sequence of sequences of ParameterSpec
        The declarations of each layer.

    Attributes
    ----------
    n_regularized, n_parameters : int
        The number of regularized and of all trained values of a member.
    """

    def __init__(self, specs: Sequence[Sequence[ParameterSpec]]) -> None:
        self._specs = specs
        parameters: list[tuple[int, ParameterSpec]] = []
        buffers: list[tuple[int, ParameterSpec]] = []
        for layer, specs_of_layer in enumerate(specs):
            for spec in specs_of_layer:
                (parameters if spec.trained else buffers).append((layer, spec))
        names = list(dict.fromkeys(spec.name for _, spec in parameters))
        parameters.sort(key=lambda item: -1 if item[1].regularized else names.index(item[1].name))
        self._theta = _compute_placements(parameters)
        self._buffers = {
            name: _compute_placements([item for item in buffers if item[1].name == name])
            for name in dict.fromkeys(spec.name for _, spec in buffers)
        }
        self.n_regularized = sum(spec.size for _, spec in parameters if spec.regularized)
        self.n_parameters = sum(spec.size for _, spec in parameters)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._specs,)

    def init(
        self, n_estimators: int, dtype: np.dtype[np.floating], rngs: RandomStates = ()
    ) -> Parameters:
        """Return initial parameters and buffers, drawn from a random state for each member.

        Without random states, random values are zero. Weights and their biases are always zero,
        because `Network.draw_weights` draws them.
        """
        theta = _init_flat(self._theta, n_estimators, dtype, rngs)
        float64 = np.dtype(np.float64)
        buffers = {
            name: _init_flat(
                placements, n_estimators, float64 if name == NUM_BATCHES_TRACKED else dtype, rngs
            )
            for name, placements in self._buffers.items()
        }
        return Parameters(theta, buffers, self)

    def views(
        self, theta: Array, buffers: ArrayDict
    ) -> tuple[list[NamedArrays], list[NamedArrays]]:
        """Return the trained arrays and the buffers of each layer, as views."""
        parameters: list[dict[str, Array]] = [{} for _ in self._specs]
        buffer_views: list[dict[str, Array]] = [{} for _ in self._specs]
        for layer, spec, view in _iter_views(self._theta, theta):
            parameters[layer][spec.name] = view
        for name, placements in self._buffers.items():
            for layer, _, view in _iter_views(placements, buffers[name]):
                buffer_views[layer][name] = view
        return [*parameters], [*buffer_views]


_Placements: TypeAlias = list[tuple[int, ParameterSpec, int]]
"""The layer and the declaration of each array, and its position in a flat array."""


def _compute_placements(specs: Sequence[tuple[int, ParameterSpec]]) -> _Placements:
    """Return the positions of arrays side by side in a flat array."""
    offsets = accumulate((spec.size for _, spec in specs), initial=0)
    return [(*item, offset) for item, offset in zip(specs, offsets, strict=False)]


def _init_flat(
    placements: _Placements, n_estimators: int, dtype: np.dtype[np.floating], rngs: RandomStates
) -> Array:
    """Return a flat array of initial values."""
    flat = np.empty((n_estimators, sum(spec.size for _, spec, _ in placements)), dtype)
    for _, spec, view in _iter_views(placements, flat):
        initializer = spec.initializer
        if not (callable(initializer) or isinstance(initializer, Initializer)):
            view[...] = initializer
            continue
        view[...] = 0
        if callable(initializer) and rngs:
            for values, rng in zip(view, rngs, strict=True):
                values[...] = initializer(rng)
    return flat


def _iter_views(placements: _Placements, flat: Array) -> Iterable[tuple[int, ParameterSpec, Array]]:
    """Yield the layer, the declaration and a view of each array in `flat`."""
    for layer, spec, offset in placements:
        columns = flat[:, offset : offset + spec.size]
        if len(spec.shape) == 1:
            # Unlike `reshape`, this leaves a stride of zero, which NumPy's products depend on.
            yield layer, spec, columns[:, None]
        else:
            yield layer, spec, columns.reshape(len(columns), *spec.shape)
