"""Training state of a stack of networks: all that training changes."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from ..utils.arrays import (
    Array,
    ArrayDict,
    IndexArray,
    concatenate_states,
    flatten_dict,
    index_state,
    join_keys,
    to_python_scalars,
    unflatten_dict,
)
from .parameters import FlatParameters, ParameterLayout

# The fields that are dicts of arrays.
_DICTS = ("optimizer", "schedule", "average", "progress")


@dataclass
class TrainState:
    """Complete training state of a stack of networks, from which training can be resumed exactly.

    Parameters
    ----------
    parameters : FlatParameters
        The parameters and the running statistics.
    optimizer, schedule, average : dict
        The states of the optimizer, the schedule and the weight average, a row for each member.
    progress : dict
        The counter of epochs without progress, which `PlateauStopper` updates.
    n_samples_seen : array of int of shape (n_estimators, 1)
        The number of samples that each member has been trained on.
    orders : list of IndexArray or None
        The rows that each member visits, in the order of the last epoch, shuffled in place; None
        for all rows in their order. Members that visit the same rows in the same order may share
        one array, which is shuffled once, and whose rows are gathered once.
    rngs : list of RandomState or None
        The random state that shuffles each order, shared like the order; None for no shuffling.
    masks : list of Generator
        The random generator of each member's dropout masks; empty without dropout.
    """

    parameters: FlatParameters
    optimizer: ArrayDict
    schedule: ArrayDict
    average: ArrayDict
    progress: ArrayDict
    n_samples_seen: Array
    orders: list[IndexArray | None]
    rngs: list[np.random.RandomState | None]
    masks: list[np.random.Generator] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.parameters.theta)

    def take(self, members: Any) -> Self:
        """Return the state of some members.

        Arrays are views for a slice of members, and copies for an index array. Orders and random
        states are not copied, so that members that share them continue to do so.
        """
        numbers = np.arange(len(self))[members].tolist()
        return type(self)(
            self.parameters.members(members),
            **_map_dict_fields(lambda name: index_state(getattr(self, name), members)),
            n_samples_seen=self.n_samples_seen[members],
            orders=[self.orders[i] for i in numbers],
            rngs=[self.rngs[i] for i in numbers],
            masks=[self.masks[i] for i in numbers] if self.masks else [],
        )

    @classmethod
    def concatenate(cls, states: Sequence[Self]) -> Self:
        """Return the state of all members of several states, of networks of one architecture.

        A single state is returned as it is; else the arrays are copied.
        """
        first = states[0]
        if len(states) == 1:
            return first
        return cls(
            first.parameters.with_theta(
                np.concatenate([state.parameters.theta for state in states]),
                concatenate_states([state.parameters.statistics for state in states]),
            ),
            **_map_dict_fields(lambda name: concatenate_states([getattr(s, name) for s in states])),
            n_samples_seen=np.concatenate([state.n_samples_seen for state in states]),
            orders=[order for state in states for order in state.orders],
            rngs=[rng for state in states for rng in state.rngs],
            masks=[masks for state in states for masks in state.masks],
        )

    def copy(self) -> Self:
        """Return a deep copy."""
        # Together, so that members that share an order or a random state share the copy.
        return self._with_arrays_copied(*copy.deepcopy((self.orders, self.rngs, self.masks)))

    def shallow_copy(self) -> Self:
        """Return a copy of a single member's state that shares its random state."""
        orders = [order if order is None else order.copy() for order in self.orders]
        masks = copy.deepcopy(self.masks) if self.masks else []
        return self._with_arrays_copied(orders, list(self.rngs), masks)

    def _with_arrays_copied(
        self,
        orders: list[IndexArray | None],
        rngs: list[np.random.RandomState | None],
        masks: list[np.random.Generator],
    ) -> Self:
        return type(self)(
            self.parameters.with_theta(
                self.parameters.theta.copy(), _copy_arrays(self.parameters.statistics)
            ),
            **_map_dict_fields(lambda name: _copy_arrays(getattr(self, name))),
            n_samples_seen=self.n_samples_seen.copy(),
            orders=orders,
            rngs=rngs,
            masks=masks,
        )

    def trained_arrays(self) -> list[Array]:
        """Return the arrays that steps change, with a row for each member."""
        states = self.parameters.statistics, self.optimizer, self.average
        return [self.parameters.theta, *(array for state in states for array in state.values())]

    def to_arrays(self) -> dict[str, Array]:
        """Return the state as arrays by name, without Python objects, for files."""
        arrays = {"theta": self.parameters.theta, "n_samples_seen": self.n_samples_seen}
        dicts = _map_dict_fields(lambda name: getattr(self, name))
        for kind, state in {"statistics": self.parameters.statistics, **dicts}.items():
            arrays |= {join_keys(kind, name): array for name, array in state.items()}
        for i, order in enumerate(self.orders):
            if order is not None:
                arrays[join_keys("orders", i)] = order
        for i, rng in enumerate(self.rngs):
            if rng is not None:
                arrays |= dict(flatten_dict(join_keys("rngs", i), rng.get_state(legacy=False)))
        for i, masks in enumerate(self.masks):
            arrays |= dict(flatten_dict(join_keys("masks", i), masks.bit_generator.state))
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], layout: ParameterLayout) -> Self:
        """Return the state that `to_arrays` has described, with copies of the arrays.

        Parameters
        ----------
        arrays : dict
            The arrays by name.
        layout : ParameterLayout
            The layout of the network's parameters.
        """
        named = unflatten_dict(arrays)
        n_estimators = len(named["theta"])

        def dict_of(kind: str) -> ArrayDict:
            return {name: np.array(array) for name, array in named.get(kind, {}).items()}

        def list_of(kind: str, make: Any) -> list[Any]:
            found = named.get(kind, {})
            return [make(found[str(i)]) if str(i) in found else None for i in range(n_estimators)]

        return cls(
            FlatParameters(np.array(named["theta"]), dict_of("statistics"), layout),
            **_map_dict_fields(dict_of),
            n_samples_seen=np.array(named["n_samples_seen"]),
            orders=list_of("orders", np.array),
            rngs=list_of("rngs", _restore_random_state),
            masks=list_of("masks", _restore_generator) if "masks" in named else [],
        )


def _map_dict_fields(function: Callable[[str], ArrayDict]) -> dict[str, Any]:
    """Return the value of a function for the name of each field that is a dict of arrays."""
    return {name: function(name) for name in _DICTS}


def _copy_arrays(state: ArrayDict) -> ArrayDict:
    return {name: array.copy() for name, array in state.items()}


def _restore_random_state(state: dict[str, Any]) -> np.random.RandomState:
    rng = np.random.RandomState(getattr(np.random, str(state["bit_generator"]))())
    rng.set_state(to_python_scalars(state))
    return rng


def _restore_generator(state: dict[str, Any]) -> np.random.Generator:
    bit_generator = getattr(np.random, str(state["bit_generator"]))()
    bit_generator.state = to_python_scalars(state)
    return np.random.Generator(bit_generator)
