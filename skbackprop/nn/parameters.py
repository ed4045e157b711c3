"""Parameters of a stack: arrays by name for each layer, and one flat array for training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
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
    layers : sequence of dict
        The trained arrays of each layer by name, of shape (n_estimators, ...).
    running : sequence of dict
        The buffers of each layer by name, such as running statistics.

    Attributes
    ----------
    dtype : dtype
        The dtype of the trained arrays.
    """

    def __init__(self, layers: Sequence[NamedArrays], running: Sequence[NamedArrays]) -> None:
        self.layers, self.running = layers, running
        first = next(array for named in layers for array in named.values())
        self.dtype: np.dtype[np.floating] = first.dtype
        self._n_members = len(first)

    def select(self, name: str) -> list[Array]:
        """Return the arrays of a name, one for each layer that has one."""
        return [named[name] for named in (*self.layers, *self.running) if name in named]

    @property
    def weights(self) -> list[Array]:
        """The weights of each dense layer."""
        return self.select("weights")

    @property
    def biases(self) -> list[Array]:
        """The biases, in the order of the weights."""
        return self.select("biases")

    def __len__(self) -> int:
        return self._n_members

    def part(self, layers: slice) -> Parameters:
        """Return the parameters of some consecutive layers, without copies."""
        return Parameters(self.layers[layers], self.running[layers])

    def astype(self, dtype: Any) -> Parameters:
        """Return the parameters in another dtype, without copies where it is the same."""
        layers, running = (
            [{name: a.astype(dtype, copy=False) for name, a in named.items()} for named in kind]
            for kind in (self.layers, self.running)
        )
        return Parameters(layers, running)

    def members(self, members: slice) -> Parameters:
        """Return the parameters of some members, as views."""
        if members.stop - members.start == len(self):
            return self
        return Parameters(
            *(
                [index_state(named, members) for named in kind]
                for kind in (self.layers, self.running)
            )
        )


class FlatParameters(Parameters):
    """Parameters in one flat array, as optimizers need them.

    Parameters
    ----------
    theta : array of shape (n_estimators, n_parameters)
        All trained parameters; the arrays of `layers` are views of it.
    statistics : dict
        The buffers of all layers, such as running statistics; the arrays of `running` are views of
        them. No optimizer changes them.
    layout : ParameterLayout
        The positions of the arrays.

    Attributes
    ----------
    regularized : array of shape (n_estimators, n_regularized)
        The part of `theta` that the penalty acts on.
    """

    def __init__(self, theta: Array, statistics: ArrayDict, layout: ParameterLayout) -> None:
        super().__init__(*layout.views(theta, statistics))
        self.theta, self.statistics, self._layout = theta, statistics, layout
        self.regularized = theta[:, : layout.n_regularized]

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.theta, self.statistics, self._layout)  # the rest are views

    def members(self, members: Any) -> FlatParameters:
        """Return the parameters of some members: views for a slice, copies for an index array."""
        if isinstance(members, slice) and members.stop - members.start == len(self):
            return self
        return self.with_theta(self.theta[members], index_state(self.statistics, members))

    def with_theta(self, theta: Array, statistics: ArrayDict | None = None) -> FlatParameters:
        """Return parameters of the same layout in another array.

        Without `statistics` they share the buffers.
        """
        statistics = self.statistics if statistics is None else statistics
        return FlatParameters(theta, statistics, self._layout)

    def scale_last_layer(self, temperature: float) -> FlatParameters:
        """Return parameters whose raw predictions are divided by a temperature.

        The last layer has no activation, so dividing its weights and biases is enough. With
        temperature 1 the parameters themselves are returned, else copies.
        """
        if temperature == 1.0:
            return self
        divided = self.with_theta(self.theta.copy())
        divided.weights[-1][...] /= temperature
        divided.biases[-1][...] /= temperature
        return divided


def select_averaged_parameters(
    theta: Array, statistics: ArrayDict, average: ArrayDict
) -> tuple[Array, ArrayDict]:
    """Return the averages of flat parameters and of running statistics, as new arrays.

    `average` is the state of a `WeightAverage`. Before averaging has begun, the averages are the
    current values.
    """
    has_begun = average["total"] > 0
    averaged = {
        name: np.where(has_begun, average[name], array) if name in average else array
        for name, array in statistics.items()
    }
    return np.where(has_begun, average["average"], theta), averaged


class ParameterLayout:
    """Positions of all layers' arrays in `theta`, and of their buffers in a dict.

    In `theta` all regularized arrays come first, in the order of the layers, so that the penalty
    acts on one slice. The rest follows name by name, in the order of first appearance. Buffers have
    one flat array for each name.

    Parameters
    ----------
    parameter_specs, buffer_specs : sequence of sequences of ParameterSpec
        The declarations of each layer.

    Attributes
    ----------
    n_regularized, n_parameters : int
        The number of regularized and of all trained values of a member.
    """

    def __init__(
        self,
        parameter_specs: Sequence[Sequence[ParameterSpec]],
        buffer_specs: Sequence[Sequence[ParameterSpec]],
    ) -> None:
        self._specs = parameter_specs, buffer_specs
        trained, buffers = (
            [(layer, spec) for layer, own in enumerate(kind) for spec in own]
            for kind in self._specs
        )
        names = list(dict.fromkeys(spec.name for _, spec in trained))
        trained.sort(key=lambda item: -1 if item[1].regularized else names.index(item[1].name))
        self._theta = _FlatBuffer(trained)
        self._buffers = {
            name: _FlatBuffer([item for item in buffers if item[1].name == name])
            for name in dict.fromkeys(spec.name for _, spec in buffers)
        }
        self.n_regularized = sum(spec.size for _, spec in trained if spec.regularized)
        self.n_parameters = self._theta.size

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self._specs

    def init(
        self, n_estimators: int, dtype: np.dtype[np.floating], rngs: RandomStates = ()
    ) -> FlatParameters:
        """Return initial parameters and buffers, drawn from a random state for each member.

        Without random states, random values are zero. Weights and their biases always are:
        `Network.draw_weights` draws them.
        """
        theta = self._theta.init(n_estimators, dtype, rngs)
        double = np.dtype(np.float64)
        statistics = {
            name: flat.init(n_estimators, double if name == NUM_BATCHES_TRACKED else dtype, rngs)
            for name, flat in self._buffers.items()
        }
        return FlatParameters(theta, statistics, self)

    def views(
        self, theta: Array, statistics: ArrayDict
    ) -> tuple[list[NamedArrays], list[NamedArrays]]:
        """Return the trained arrays and the buffers of each layer, as views."""
        layers: list[dict[str, Array]] = [{} for _ in self._specs[0]]
        running: list[dict[str, Array]] = [{} for _ in self._specs[0]]
        for layer, spec, view in self._theta.views(theta):
            layers[layer][spec.name] = view
        for name, flat in self._buffers.items():
            for layer, _, view in flat.views(statistics[name]):
                running[layer][name] = view
        return [*layers], [*running]


class _FlatBuffer:
    """Arrays side by side in one row of values for each member.

    Parameters
    ----------
    specs : sequence of (layer, spec)
        The index of the layer of each array, and its declaration.
    """

    def __init__(self, specs: Sequence[tuple[int, ParameterSpec]]) -> None:
        starts = accumulate((spec.size for _, spec in specs), initial=0)
        self._placed = [(*item, start) for item, start in zip(specs, starts, strict=False)]
        self.size = sum(spec.size for _, spec in specs)

    def init(
        self, n_estimators: int, dtype: np.dtype[np.floating], rngs: RandomStates = ()
    ) -> Array:
        """Return a flat array of initial values."""
        flat = np.empty((n_estimators, self.size), dtype)
        for _, spec, view in self.views(flat):
            initializer = spec.initializer
            if not (callable(initializer) or isinstance(initializer, Initializer)):
                view[...] = initializer
                continue
            view[...] = 0
            if callable(initializer) and rngs:
                for own, rng in zip(view, rngs, strict=True):
                    own[...] = initializer(rng)
        return flat

    def views(self, flat: Array) -> Iterable[tuple[int, ParameterSpec, Array]]:
        """Yield the layer, the declaration and a view of each array in `flat`."""
        for layer, spec, start in self._placed:
            columns = flat[:, start : start + spec.size]
            if len(spec.shape) == 1:
                # Unlike `reshape`, this leaves a stride of zero, which NumPy's products depend on.
                yield layer, spec, columns[:, None]
            else:
                yield layer, spec, columns.reshape(len(columns), *spec.shape)
