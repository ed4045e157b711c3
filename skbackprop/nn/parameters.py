"""Parameters of a stack: one flat array for training, and views of it for each layer."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from itertools import chain
from operator import attrgetter
from typing import Any, TypeAlias

import numpy as np

from ..initializers import Initializer
from ..layers.base import FROZEN, NUM_BATCHES_TRACKED, ParameterSpec
from ..utils.arrays import Array, ArrayDict, index_state

RandomStates: TypeAlias = Sequence[np.random.RandomState]


class Parameters:
    """All arrays with which a stack of networks predicts.

    Parameters
    ----------
    theta : array of shape (n_estimators, n_parameters)
        All trained parameters, as optimizers need them.
    buffers : dict
        Arrays that no optimizer changes, such as running statistics, one for each name, and one of
        all frozen parameters.
    layout : ParameterLayout
        The positions of the layers' arrays.
    part : slice, default=slice(None)
        The layers whose `views` are returned.

    Attributes
    ----------
    regularized : array of shape (n_estimators, n_regularized)
        The part of `theta` that the penalty acts on.
    statistics : dict
        The buffers that training changes: all but the frozen parameters.
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
        self.statistics = dict(buffers)
        self.statistics.pop(FROZEN, None)

    @cached_property
    def views(self) -> tuple[list[ArrayDict], list[ArrayDict]]:
        """The parameters and the buffers of each layer by name, as views."""
        trained, buffers = self.layout.views(self.theta, self.buffers)
        return trained[self._part], buffers[self._part]

    @property
    def layers(self) -> list[ArrayDict]:
        """The parameters of each layer by name, as views of shape (n_estimators, ...)."""
        return self.views[0]

    def member_views(self) -> tuple[list[ArrayDict], list[ArrayDict]]:
        """Return the `views`, without the member axis if there is a single member."""
        if len(self.theta) > 1:
            return self.views
        trained, buffers = self.layout.views(self.theta, self.buffers, members=0)
        return trained[self._part], buffers[self._part]

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
        return [arrays[name] for arrays in (*self.views[0], *self.views[1]) if name in arrays]

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
        """Return the parameters for a network of the same arrays, some of them newly frozen or not.

        They share the arrays if the same ones are frozen.
        """
        if layout.frozen == self.layout.frozen:
            return Parameters(self.theta, self.buffers, layout)
        parameters = layout.init(len(self), self.dtype)
        for name in {name for views in self.views for arrays in views for name in arrays}:
            for new, old in zip(parameters.select(name), self.select(name), strict=True):
                new[...] = old
        return parameters

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
    one flat array for each name. Frozen parameters are one buffer, whatever their names.

    Parameters
    ----------
    specs : sequence of sequences of ParameterSpec
        The declarations of each layer.

    Attributes
    ----------
    n_regularized, n_parameters, n_frozen : int
        The number of regularized, of all trained and of frozen values of a member.
    frozen : list of bool
        Whether each array is frozen, in the order of the layers.
    """

    def __init__(self, specs: Sequence[Sequence[ParameterSpec]]) -> None:
        self._specs = specs
        self.frozen = [*map(attrgetter("frozen"), chain.from_iterable(specs))]
        # Arrays are grouped by whether they are buffers, and by name. All regularized arrays form
        # one group, so that the penalty acts on one slice.
        groups: dict[tuple[bool, str], list[tuple[int, ParameterSpec]]] = {(False, ""): []}
        for is_buffer in (False, True):
            for number, specs_of_layer in enumerate(specs):
                for spec in specs_of_layer:
                    if spec.trained is not is_buffer:
                        key = is_buffer, "" if spec.regularized else spec.name
                        groups.setdefault(key, []).append((number, spec))
        # An item is a layer, its array, its buffer, "" for `theta`, and its position there.
        self._placements: list[tuple[int, ParameterSpec, str, int]] = []
        sizes, self.n_regularized = {"": 0}, 0
        for (is_buffer, name), items in groups.items():
            for number, spec in items:
                buffer = FROZEN if spec.frozen else spec.name if is_buffer else ""
                self._placements.append((number, spec, buffer, sizes.setdefault(buffer, 0)))
                sizes[buffer] += spec.size
            self.n_regularized = self.n_regularized if name else sizes[""]
        self.n_parameters, self._buffer_sizes = sizes.pop(""), sizes
        self.n_frozen = sizes.get(FROZEN, 0)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._specs,)

    def init(
        self, n_estimators: int, dtype: np.dtype[np.floating], rngs: RandomStates = ()
    ) -> Parameters:
        """Return initial parameters and buffers, drawn from a random state for each member.

        Without random states, random values are zero. Weights and their biases are always zero,
        because `Network.draw_weights` draws them.
        """
        theta, buffers = np.zeros((n_estimators, self.n_parameters), dtype), dict[str, Array]()
        for name, size in self._buffer_sizes.items():
            is_count = name == NUM_BATCHES_TRACKED
            buffers[name] = np.zeros((n_estimators, size), np.float64 if is_count else dtype)
        parameters = Parameters(theta, buffers, self)
        for number, spec, _, _ in self._placements:
            array = parameters.views[not spec.trained][number][spec.name]
            initializer = spec.initializer
            if callable(initializer):
                for values, rng in zip(array, rngs, strict=False):
                    values[...] = initializer(rng)
            elif not isinstance(initializer, Initializer):
                array[...] = initializer
        return parameters

    def views(
        self, theta: Array, buffers: ArrayDict, members: slice | int = slice(None)
    ) -> tuple[list[ArrayDict], list[ArrayDict]]:
        """Return the parameters and the buffers of each layer by name, as views.

        Vectors get an axis before their last one. With a number for `members`, the arrays are
        those of one member, without the member axis.
        """
        views: tuple[list[ArrayDict], list[ArrayDict]] = [], []
        for _ in self._specs:
            views[0].append({})
            views[1].append({})
        for number, spec, buffer, offset in self._placements:
            flat = buffers[buffer] if buffer else theta
            columns = flat[members, offset : offset + spec.size]
            views[not spec.trained][number][spec.name] = (
                # Unlike `reshape`, this leaves a stride of zero, which NumPy's products depend on.
                columns[..., None, :]
                if len(spec.shape) == 1
                else columns.reshape(*columns.shape[:-1], *spec.shape)
            )
        return views
