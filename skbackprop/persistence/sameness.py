"""Whether what was read back from a file is what was saved, down to the last bit of each array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

# What is the same only if it is the very same object.
_NAMED = (type, FunctionType, BuiltinFunctionType, np.ufunc)
# What Python prints exactly, NaN and -0.0 as well.
_PRINTED = (bool, int, float, complex, str, bytes, bytearray, type(None), slice, range)


def difference(one: Any, other: Any, name: str) -> str | None:
    """Return the name of the first part in which two objects differ; None if they are the same.

    Parts are compared as pickle would take them, types and dtypes included.

    Parameters
    ----------
    one, other : object
        The objects.
    name : str
        What they are called; parts are called ``name.attribute``, ``name[key]``.
    """
    return next(_differences(one, other, name, {}), None)


def _differences(one: Any, other: Any, name: str, compared: dict[Any, Any]) -> Iterator[str]:
    """Yield the names of parts that differ; pairs that were compared are not compared again."""
    if one is other or (id(one), id(other)) in compared:
        return
    compared[id(one), id(other)] = one, other  # alive, so that no other object has their ids
    if type(one) is not type(other) or isinstance(one, _NAMED):
        yield name
    elif isinstance(one, _PRINTED):
        if repr(one) != repr(other):
            yield name
    elif isinstance(one, np.ndarray) and not one.dtype.hasobject:
        if not _are_same_arrays(one, other):
            yield name
    elif isinstance(one, (set, frozenset)):
        if one != other:
            yield name
    elif isinstance(one, np.random.RandomState):  # whose bit generator remembers a seed, in vain
        positions = one.get_state(legacy=False), other.get_state(legacy=False)
        yield from _differences(*positions, f"{name}.get_state()", compared)
    elif isinstance(one, partial):  # whose own attributes are a dict, or none
        parts = [(each.func, each.args, each.keywords, vars(each)) for each in (one, other)]
        yield from _differences(*parts, name, compared)
    elif isinstance(one, (dict, list, tuple)):
        # One of a class of its own may hold more, to which making it anew may add.
        held = list(getattr(one, "__dict__", ()))
        parts, others = (_items(each, name) | _held_by(each, held, name) for each in (one, other))
        yield from _differences_within(parts, others, name, compared)
    else:
        yield from _differences_within(_parts(one, name), _parts(other, name), name, compared)


def _differences_within(
    parts: dict[str, Any], others: dict[str, Any], name: str, compared: dict[Any, Any]
) -> Iterator[str]:
    if list(parts) != list(others):
        yield name
        return
    for part in parts:
        yield from _differences(parts[part], others[part], part, compared)


def _are_same_arrays(one: np.ndarray, other: np.ndarray) -> bool:
    """Return whether two arrays hold the same bits, in the same order of memory."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.names is not None:  # between fields there may be bits that nobody has set
        return all(_are_same_arrays(one[name], other[name]) for name in one.dtype.names)
    is_in_order = one.flags.f_contiguous == other.flags.f_contiguous
    return is_in_order and one.tobytes() == other.tobytes()


def _parts(thing: Any, name: str) -> dict[str, Any]:
    """Return what an object consists of that is no container, by name."""
    if isinstance(thing, np.ndarray):  # of objects
        return {f"{name}.shape": thing.shape, f"{name}.tolist()": thing.ravel().tolist()}
    made_by, arguments, state, items, pairs = (*thing.__reduce_ex__(4), None, None, None)[:5]
    parts = {f"the maker of {name}": made_by, f"the arguments of {name}": arguments}
    if isinstance(state, Mapping):
        parts |= {f"{name}.{attribute}": value for attribute, value in state.items()}
    else:
        parts[f"the state of {name}"] = state
    return parts | {
        f"the items of {name}": None if items is None else list(items),
        f"the pairs of {name}": None if pairs is None else list(pairs),
    }


def _items(thing: Any, name: str) -> dict[str, Any]:
    if isinstance(thing, dict):
        return {f"{name}[{type(key).__name__} {key!r}]": part for key, part in thing.items()}
    return {f"{name}[{i}]": part for i, part in enumerate(thing)}


def _held_by(thing: Any, attributes: Sequence[str], name: str) -> dict[str, Any]:
    return {f"{name}.{each}": getattr(thing, each, None) for each in attributes}
