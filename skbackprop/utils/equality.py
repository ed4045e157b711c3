"""Comparison of settings: deep equality, and grouping."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any, TypeVar

import numpy as np

Item = TypeVar("Item")


def group_by_equality(items: Sequence[Item], keys: Sequence[Any]) -> list[list[Item]]:
    """Group items with equal keys, in the order of first appearance.

    Keys are compared, not hashed, since they may hold user-defined objects.
    """
    groups: list[tuple[Any, list[Item]]] = []
    for item, key in zip(items, keys, strict=True):
        for first_key, group in groups:
            if is_equal(first_key, key):
                group.append(item)
                break
        else:
            groups.append((key, [item]))
    return [group for _, group in groups]


def is_equal(one: Any, other: Any) -> bool:
    """Return whether two values are equal, including all that they contain.

    Numbers are only equal to numbers of the same kind: 1 row is not 1.0 of all rows. Arrays, lists,
    tuples, dicts and dataclasses are equal if they have the same type and equal contents. The
    contents of a dataclass include attributes beside its fields, and a user-defined ``==`` must
    agree. Other objects are compared by ``==``; if that raises an error, they are different.
    """
    if one is other:
        return True
    # NumPy's float32(0.9) does not equal 0.9.
    one, other = (v.item() if isinstance(v, np.generic) else v for v in (one, other))
    if type(one) is not type(other) and _abstract_type(one) is not _abstract_type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(is_equal, one, other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_equal(one[key], other[key]) for key in one)
    if is_dataclass(one) and not isinstance(one, type):
        same = is_equal(get_contents(one), get_contents(other))
        return same and _equal_or_none(one, other) is not False
    return _equal_or_none(one, other) is True


def _abstract_type(value: Any) -> type:
    """Return the type of a value, or the abstract type of a number or string."""
    for kind in (bool, Integral, Real, str):
        if isinstance(value, kind):
            return kind
    return type(value)


def _equal_or_none(one: Any, other: Any) -> bool | None:
    """Return the result of ``==``, or None if it has no truth value, as for arrays and frames."""
    try:
        return bool(one == other)
    except Exception:
        return None


def get_contents(value: Any) -> dict[str, Any]:
    """Return the compared fields and the other attributes of a dataclass instance, by name."""
    kind, is_compared = type(value), {field.name: field.compare for field in fields(value)}
    return {
        name: held
        for name, held in vars(value).items()
        if is_compared.get(name, not isinstance(getattr(kind, name, None), cached_property))
    }
