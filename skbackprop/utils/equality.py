"""Deep equality of settings, and grouping by it."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, cached_property
from numbers import Integral, Real
from typing import Any, TypeVar, cast

import numpy as np

Item = TypeVar("Item")

# Types for which ``==`` decides.
_ONE_VALUE = (int, float, str)


def group_by_equality(items: Sequence[Item], keys: Sequence[Any]) -> list[list[Item]]:
    """Group items with equal keys, in the order of first appearance.

    Keys are compared, not hashed, since they may hold user-defined objects.
    """
    found: list[Any] = []
    groups: list[list[Item]] = []
    for item, key in zip(items, keys, strict=True):
        for known, group in zip(found, groups, strict=True):
            if is_equal(known, key):
                group.append(item)
                break
        else:
            found.append(key)
            groups.append([item])
    return groups


def is_equal(one: Any, other: Any) -> bool:
    """Return whether two values are equal, including all that they contain.

    Numbers are only equal to numbers of the same kind: 1 row is not 1.0 of all rows. Arrays, lists,
    tuples, dicts and dataclasses are equal if they have the same type and equal contents. The
    contents of a dataclass include attributes beside its fields, and a user-defined ``==`` must
    agree. Other objects are compared by ``==``; if that raises an error, they are different.
    """
    if one is other:
        return True
    one, other = _plain(one), _plain(other)
    if type(one) is not type(other) and _kind(one) is not _kind(other):
        return False
    if isinstance(one, _ONE_VALUE):
        return _answer(one, other) is True
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_equal(one[key], other[key]) for key in one)
    if is_dataclass(one) and not isinstance(one, type):
        return is_equal(contents_of(one), contents_of(other)) and _answer(one, other) is not False
    return _answer(one, other) is True


def extra_instance_attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of a dataclass instance beside its fields and cached properties."""
    names, _ = _names_of_fields(cast(Hashable, type(value)))
    return {
        name: held
        for name, held in getattr(value, "__dict__", {}).items()
        if name not in names and not isinstance(getattr(type(value), name, None), cached_property)
    }


@cache
def _names_of_fields(kind: Hashable) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the names of a dataclass's fields, and of those that are compared."""
    all_fields = fields(cast(Any, kind))
    names = frozenset(field.name for field in all_fields)
    return names, tuple(field.name for field in all_fields if field.compare)


def _plain(value: Any) -> Any:
    """Return a NumPy scalar as a Python value: NumPy's float32(0.9) equals 0.9 otherwise."""
    return value.item() if isinstance(value, np.generic) else value


def _kind(value: Any) -> type:
    """Return the type of a value, or the abstract type of a number or string."""
    for kind in (bool, Integral, Real, str):
        if isinstance(value, kind):
            return kind
    return type(value)


def contents_of(value: Any) -> dict[str, Any]:
    """Return the compared fields and the extra attributes of a dataclass instance, by name."""
    _, names = _names_of_fields(cast(Hashable, type(value)))
    return {name: getattr(value, name) for name in names} | extra_instance_attributes(value)


def _answer(one: Any, other: Any) -> bool | None:
    """Return the result of ``==``, or None if it has no truth value."""
    try:
        return bool(one == other)
    except (TypeError, ValueError):
        return None  # arrays, frames and pandas' NA have no single truth value
    except Exception as error:
        warnings.warn(
            "Objects that can't be compared count as different, so estimators with them do not "
            f"train in one stack, which is slower: their == raises {error!r}. Let it return True "
            "or False.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
