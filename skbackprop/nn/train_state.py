"""All that training changes of the members of a stack, as one object."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np

from ..utils.arrays import Array, ArrayDict, IndexArray
from ..utils.flatten import flatten_dict, join_path, to_python_scalars, unflatten_dict
from ..utils.stack_members import concatenate_states, index_state
from .parameters import FlatParameters, ParameterLayout


@dataclass
class TrainState:
    """What members are, at one moment of their training: whoever has it can go on.

    Parameters
    ----------
    parameters : FlatParameters
        The parameters as the optimizer sees them, and the running statistics.
    optimizer, schedule, average : dict
        What `init` of each returned, or what an earlier training left, a row for each member.
    progress : dict
        What tells when to stop: what `init_plateau_counter` returned, and `PlateauStopper` follows.
    n_samples_seen : array of int of shape (n_estimators, 1)
        The rows that each member has been trained on.
    orders : list of Rows or None
        The rows that each member visits, in the order of the last epoch, shuffled in place; None
        for all rows as they stand. Members that visit the same rows in the same order may share
        one array: it is shuffled once, and its rows are gathered once.
    rngs : list of RandomState or None
        What shuffles each order, the same for all that share it; None for no shuffling.
    masks : list of Generator
        What draws each member's masks, where the network has dropout; empty where it has none.
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

        Arrays are views for a slice of members, and copies for an array of their numbers. Orders
        and streams are those of this state, so that who shares them goes on to.
        """
        numbers = np.arange(len(self))[members].tolist()
        return type(self)(
            self.parameters.members(members),
            index_state(self.optimizer, members),
            index_state(self.schedule, members),
            index_state(self.average, members),
            index_state(self.progress, members),
            self.n_samples_seen[members],
            [self.orders[i] for i in numbers],
            [self.rngs[i] for i in numbers],
            [self.masks[i] for i in numbers] if self.masks else [],
        )

    @classmethod
    def join(cls, states: Sequence[Self]) -> Self:
        """Return one state of the members of several, of networks of one architecture.

        That of one is returned as it is; of more, the arrays are copied.
        """
        first = states[0]
        if len(states) == 1:
            return first
        return cls(
            first.parameters.like(
                np.concatenate([state.parameters.theta for state in states]),
                concatenate_states([state.parameters.statistics for state in states]),
            ),
            concatenate_states([state.optimizer for state in states]),
            concatenate_states([state.schedule for state in states]),
            concatenate_states([state.average for state in states]),
            concatenate_states([state.progress for state in states]),
            np.concatenate([state.n_samples_seen for state in states]),
            [order for state in states for order in state.orders],
            [rng for state in states for rng in state.rngs],
            [masks for state in states for masks in state.masks],
        )

    def copy(self) -> Self:
        """Return a state that shares nothing with this one."""
        # Together, so that who shares an order or a stream goes on to share the copy.
        return self._with_arrays_copied(*copy.deepcopy((self.orders, self.rngs, self.masks)))

    def shallow_copy(self) -> Self:
        """Return the only member's state as it is now: all is copied but its stream."""
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
            self.parameters.like(self.parameters.theta.copy(), _copied(self.parameters.statistics)),
            _copied(self.optimizer),
            _copied(self.schedule),
            _copied(self.average),
            _copied(self.progress),
            self.n_samples_seen.copy(),
            orders,
            rngs,
            masks,
        )

    def learned(self) -> list[Array]:
        """Return the arrays that steps change, of a row for each member."""
        states = self.parameters.statistics, self.optimizer, self.average
        return [self.parameters.theta, *(array for state in states for array in state.values())]

    # ---------------------------------------------------------------- as arrays by name

    def to_arrays(self) -> dict[str, Array]:
        """Return the state as arrays by name, for files: nothing in them is a Python object."""
        arrays = {"theta": self.parameters.theta, "n_samples_seen": self.n_samples_seen}
        for kind, state in self._by_kind().items():
            arrays |= {join_path(kind, name): array for name, array in state.items()}
        for i, order in enumerate(self.orders):
            if order is not None:
                arrays[join_path("orders", i)] = order
        for i, rng in enumerate(self.rngs):
            if rng is not None:
                position = rng.get_state(legacy=False)
                arrays |= dict(flatten_dict(join_path("rngs", i), position))
        for i, masks in enumerate(self.masks):
            arrays |= dict(flatten_dict(join_path("masks", i), masks.bit_generator.state))
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Array], layout: ParameterLayout) -> Self:
        """Return the state that `to_arrays` has written, with copies of the arrays.

        Parameters
        ----------
        arrays : dict
            The arrays by name.
        layout : Layout
            That of the network.
        """
        named = unflatten_dict(arrays)
        n_estimators = len(named["theta"])

        def of_kind(kind: str) -> ArrayDict:
            return {name: np.array(array) for name, array in named.get(kind, {}).items()}

        def each(kind: str, made: Any) -> list[Any]:
            found = named.get(kind, {})
            return [made(found[str(i)]) if str(i) in found else None for i in range(n_estimators)]

        masks = each("masks", lambda state: np.random.Generator(_bit_generator(state)))
        return cls(
            FlatParameters(np.array(named["theta"]), of_kind("statistics"), layout),
            of_kind("optimizer"),
            of_kind("schedule"),
            of_kind("average"),
            of_kind("progress"),
            np.array(named["n_samples_seen"]),
            each("orders", np.array),
            each("rngs", _stream),
            masks if "masks" in named else [],
        )

    def _by_kind(self) -> dict[str, ArrayDict]:
        return {
            "statistics": self.parameters.statistics,
            "optimizer": self.optimizer,
            "schedule": self.schedule,
            "average": self.average,
            "progress": self.progress,
        }


def _copied(state: ArrayDict) -> ArrayDict:
    return {name: array.copy() for name, array in state.items()}


def _stream(state: dict[str, Any]) -> np.random.RandomState:
    rng = np.random.RandomState(getattr(np.random, str(state["bit_generator"]))())
    rng.set_state(to_python_scalars(state))
    return rng


def _bit_generator(state: dict[str, Any]) -> Any:
    generator = getattr(np.random, str(state["bit_generator"]))()
    generator.state = to_python_scalars(state)
    return generator
