"""Nested dicts as flat dicts of arrays, for files without Python objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .arrays import Array

# The separator in the names of arrays.
_SEPARATOR = "/"


def join_keys(*parts: Any) -> str:
    """Join the keys of nested dicts to the name of an array."""
    return _SEPARATOR.join(map(str, parts))


def flatten_dict(name: str, value: Any) -> Iterator[tuple[str, Array]]:
    """Yield the values of nested dicts as arrays, with their names.

    An integer of more than 63 bits becomes a string: some random generators have 128 bits.
    """
    if isinstance(value, dict):
        for key, part in value.items():
            yield from flatten_dict(join_keys(name, key), part)
    else:
        is_long = isinstance(value, int) and value.bit_length() > 63
        yield name, np.asarray(hex(value) if is_long else value)


def unflatten_dict(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """Return nested dicts from arrays by name."""
    found: dict[str, Any] = {}
    for name, array in arrays.items():
        *keys, last = name.split(_SEPARATOR)
        inner = found
        for key in keys:
            inner = inner.setdefault(key, {})
        inner[last] = array
    return found


def to_python_scalars(value: Any) -> Any:
    """Return Python numbers and strings from the arrays of `flatten_dict`."""
    if isinstance(value, dict):
        return {name: to_python_scalars(part) for name, part in value.items()}
    if value.ndim:
        return np.array(value)
    item = value.item()
    return int(item, 16) if isinstance(item, str) and item.startswith("0x") else item
