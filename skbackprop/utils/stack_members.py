"""Stacking and indexing of the settings and states of members.

Settings are dataclasses whose floats are shared by all members, or arrays of shape
(n_estimators, 1); their fields may be settings too. A state is a dict of arrays with a row for each
member.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import numpy as np

from .arrays import Array, ArrayDict, FloatOrPerMember
from .equality import extra_instance_attributes, is_equal

Settings = TypeVar("Settings")


def index_settings(settings: Settings, members: Any) -> Settings:
    """Return settings for some members, by indexing arrays of shape (n_estimators, 1).

    Settings among the fields are indexed too.
    """
    if not _is_settings(settings):
        return settings
    whole: Any = settings
    changes: dict[str, Any] = {}
    for name in [field.name for field in fields(whole) if field.init]:
        value = getattr(whole, name)
        if isinstance(value, np.ndarray) and value.ndim == 2:  # other arrays are user-defined
            changes[name] = index_hyperparameter(value, members)
        elif _is_settings(value):
            changes[name] = index_settings(value, members)
    taken: Settings = replace(whole, **changes) if changes else settings
    return taken


def index_hyperparameter(values: Array, members: Any) -> FloatOrPerMember:
    """Return the hyperparameter of some members, as a float for a single member."""
    chosen = values[members]
    return float(chosen[0, 0]) if len(chosen) == 1 else chosen


def stack_settings(settings: Sequence[Settings]) -> Settings:
    """Stack settings of the same `static_signature`, one of each member."""
    first: Any = settings[0]
    if all(is_equal(one, first) for one in settings):
        return settings[0]
    changes: dict[str, Any] = {}
    for field in fields(first):
        values = [getattr(one, field.name) for one in settings]
        if field.init and not all(is_equal(value, values[0]) for value in values):
            is_number = isinstance(values[0], float)
            changes[field.name] = (
                np.array(values, dtype=float)[:, None] if is_number else stack_settings(values)
            )
    joined: Settings = replace(first, **changes)
    return joined


def static_signature(settings: Any) -> tuple[Any, ...]:
    """Return the part of settings that must be equal so that they can be stacked.

    It is everything but the floats of a dataclass, and of dataclasses among its fields.
    """
    if not _is_settings(settings):
        return (settings,)
    rest = [
        (field.name, static_signature(getattr(settings, field.name)))
        for field in fields(settings)
        if not (field.init and isinstance(getattr(settings, field.name), float))
    ]
    return (type(settings), *rest)


def _is_settings(value: Any) -> bool:
    """Return whether a value is a dataclass that can be stacked.

    Callables are not, nor instances with attributes beside their fields, which can't be replaced.
    """
    is_settings = is_dataclass(value) and not callable(value)
    return is_settings and not extra_instance_attributes(value)


def index_state(state: Mapping[str, Array], members: Any) -> ArrayDict:
    """Return the rows of some members: views for a slice, copies for an index array."""
    return {name: array[members] for name, array in state.items()}


def concatenate_states(states: Sequence[ArrayDict]) -> ArrayDict:
    """Concatenate states along the member axis; a single state is returned as it is."""
    if len(states) == 1:
        return states[0]
    return {name: np.concatenate([state[name] for state in states]) for name in states[0]}
