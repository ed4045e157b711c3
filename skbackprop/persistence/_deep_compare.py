"""Whether what was read back from a file is what was saved, down to the last bit of each array."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import BuiltinFunctionType, FunctionType
from typing import Any

import numpy as np

from ..utils.arrays import Array

# What is the same only if it is the very same object.
_NAMED = (type, FunctionType, BuiltinFunctionType, np.ufunc)
# What Python prints exactly, NaN and -0.0 as well.
_PRINTED = (bool, int, float, complex, str, bytes, bytearray, type(None), slice, range)


def first_difference(one: Any, other: Any, name: str) -> str | None:
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
    if type(one) is not type(other):
        yield name
        return
    are_equal = _as_values(one, other)
    if are_equal is None:
        # A container of a class of its own may hold more, to which making it anew may add.
        held = list(getattr(one, "__dict__", ()))
        parts, others = (parts_of(each, name, held) for each in (one, other))
        yield from _differences_within(parts, others, name, compared)
    elif not are_equal:
        yield name


def _as_values(one: Any, other: Any) -> bool | None:
    """Return whether two objects of one type are the same; None if that is asked of their parts."""
    if isinstance(one, _NAMED):
        return False
    if isinstance(one, _PRINTED):
        return repr(one) == repr(other)
    if isinstance(one, np.ndarray) and not one.dtype.hasobject:
        return _are_same_arrays(one, other)
    if isinstance(one, (set, frozenset)):
        return bool(one == other)
    return None


def _differences_within(
    parts: dict[str, Any], others: dict[str, Any], name: str, compared: dict[Any, Any]
) -> Iterator[str]:
    if list(parts) != list(others):
        yield name
        return
    for part in parts:
        yield from _differences(parts[part], others[part], part, compared)


def _are_same_arrays(one: Array, other: Array) -> bool:
    """Return whether two arrays hold the same bits, in the same order of memory."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    if one.dtype.names is not None:  # between fields there may be bits that nobody has set
        return all(_are_same_arrays(one[name], other[name]) for name in one.dtype.names)
    is_in_order = one.flags.f_contiguous == other.flags.f_contiguous
    return is_in_order and one.tobytes() == other.tobytes()


def parts_of(thing: Any, name: str, held: Sequence[str] = ()) -> dict[str, Any]:
    """Return the parts of an object by name, as pickle takes them.

    Parameters
    ----------
    thing : object
        The object.
    name : str
        What it is called.
    held : sequence of str, default=()
        The attributes of a container that are parts of it too.
    """
    if isinstance(thing, (dict, list, tuple)):
        return _items(thing, name) | {f"{name}.{each}": getattr(thing, each, None) for each in held}
    if isinstance(thing, np.ndarray):  # of objects
        return {f"{name}.shape": thing.shape, f"{name}.tolist()": thing.ravel().tolist()}
    if isinstance(thing, np.random.RandomState):  # its bit generator remembers a seed, in vain
        return {f"{name}.get_state()": thing.get_state(legacy=False)}
    if isinstance(thing, partial):  # whose own attributes are a dict, or none
        return {name: (thing.func, thing.args, thing.keywords, vars(thing))}
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
