"""Nested values as arrays by name, for files: nothing in them is a Python object."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .arrays import Array

# What stands between the parts of a name.
_WITHIN = "/"


def join_path(*parts: Any) -> str:
    """Return the name of what is reached by these parts, one within the other."""
    return _WITHIN.join(map(str, parts))


def flatten_dict(name: str, value: Any) -> Iterator[tuple[str, Array]]:
    """Yield the numbers and words of nested dicts as arrays, by the way to them.

    A number that no 64 bits hold becomes a word: some generators have one of 128 bits.
    """
    if isinstance(value, dict):
        for key, part in value.items():
            yield from flatten_dict(join_path(name, key), part)
    else:
        is_long = isinstance(value, int) and value.bit_length() > 63
        yield name, np.asarray(hex(value) if is_long else value)


def unflatten_dict(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Return dicts within dicts, by the parts of the names."""
    found: dict[str, Any] = {}
    for name, array in arrays.items():
        *way, last = name.split(_WITHIN)
        place = found
        for part in way:
            place = place.setdefault(part, {})
        place[last] = array
    return found


def to_python_scalars(value: Any) -> Any:
    """Return numbers and words where `flat` has made arrays of them."""
    if isinstance(value, dict):
        return {name: to_python_scalars(part) for name, part in value.items()}
    if value.ndim:
        return np.array(value)
    item = value.item()
    return int(item, 16) if isinstance(item, str) and item.startswith("0x") else item
