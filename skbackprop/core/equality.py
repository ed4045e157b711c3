"""When two objects are equal, and what that puts together."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any, TypeVar

Item = TypeVar("Item")


def grouped(items: Sequence[Item], keys: Sequence[Any]) -> list[list[Item]]:
    """Return the items whose keys are equal together, in the order of first appearance.

    Keys are compared, not hashed: they may hold objects of a user's own. Those that can't be
    compared, such as arrays, are different.
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
    """Return whether two objects are equal; those that can't be compared are not."""
    try:
        return bool(one == other)
    except (TypeError, ValueError):
        return False  # arrays, frames and pandas' NA have no single truth value
    except Exception as error:
        warnings.warn(
            f"Objects that can't be compared count as different, and what has them does not train "
            f"together, which is slower: their == raises {error!r}. Let it return True or False.",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
