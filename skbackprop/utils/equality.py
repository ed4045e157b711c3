"""Comparison of settings: deep equality, grouping, and descriptions as text."""

from __future__ import annotations

import dis
import operator
import re
import sys
import types
import warnings
import zlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, cached_property, partial
from numbers import Integral, Real
from typing import Any, TypeAlias, TypeVar, cast

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


Lines: TypeAlias = Iterator[tuple[str, str]]

# The maximum number of array values or list items, and of characters, that are not abbreviated.
_N_ITEMS, _N_CHARACTERS = 20, 400

# The maximum number of lines about one value; a checksum replaces further lines.
_N_LINES = 200

# The maximum depth of nested objects.
_DEPTH = 16

_RANDOM = (np.random.RandomState, np.random.Generator, np.random.BitGenerator)
_ATOMS = (type(None), bool, int, float, complex, str, bytes)


def describe(name: str, value: Any) -> dict[str, str]:
    """Return a description of a value and of all its contents, as text by name.

    Objects are described by their classes and attributes. Functions and classes that can be
    imported are described by their names; those of a script, a notebook or another function by
    their code, and by the values of the variables that they read but do not assign.
    """
    lines = list(_Describer().lines(name, value))
    rest = "\n".join(map("\n".join, lines[_N_LINES:]))
    more = {f"{name}, the rest": f"checksum {_checksum(rest)}"} if rest else {}
    return dict(lines[:_N_LINES]) | more


class _Describer:
    """Describes values, and each user-defined function and class in full only once."""

    def __init__(self) -> None:
        self._known: set[int] = set()
        self._above: list[int] = []

    def lines(self, name: str, value: Any) -> Lines:
        """Yield pairs (name, text) for a value and its contents."""
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, _ATOMS):
            yield name, _abbreviate(repr(value))
        elif isinstance(value, types.ModuleType):
            yield name, f"module {value.__name__}"
        elif isinstance(value, np.ndarray) and value.dtype != object:
            yield name, _describe_array(value)
        elif _is_importable(value):
            yield name, f"{'class ' * isinstance(value, type)}{_label(value)}"
        elif id(value) in self._above or len(self._above) > _DEPTH:
            yield name, _label(type(value))
        else:
            self._above.append(id(value))
            yield from self._within(name, value)
            self._above.pop()

    def _within(self, name: str, value: Any) -> Lines:
        if isinstance(value, (list, tuple, np.ndarray)):
            yield from self._items(name, {f"[{i}]": item for i, item in enumerate(value)})
        elif isinstance(value, (set, frozenset)):
            texts = sorted(str(list(self.lines("", item))) for item in value)
            yield from self._items(name, {f"[{i}]": text for i, text in enumerate(texts)})
        elif isinstance(value, Mapping):
            yield from self._items(name, {f"[{_abbreviate(repr(k))}]": v for k, v in value.items()})
        elif isinstance(value, types.FunctionType):
            yield name, f"function {value.__qualname__}"
            yield from self._once(name, value, self._function)
        elif isinstance(value, type):
            yield name, f"class {_label(value)}"
            yield from self._once(name, value, self._class)
        elif isinstance(value, types.MethodType):
            yield name, f"method {value.__name__}"
            yield from self._attributes(
                name, {"object": value.__self__, "function": value.__func__}
            )
        elif isinstance(value, partial):
            parts = {"function": value.func, "args": value.args, "keywords": value.keywords}
            yield name, "partial"
            yield from self._attributes(name, parts)
        else:
            yield from self._object(name, value)

    def _items(self, name: str, items: Mapping[str, Any]) -> Lines:
        """Yield one line for a few atomic items, else their number and the lines of each."""
        if len(items) <= _N_ITEMS and all(
            isinstance(v, (*_ATOMS, np.generic)) for v in items.values()
        ):
            is_sequence = all(key == f"[{i}]" for i, key in enumerate(items))
            texts = [dict(self.lines("", item))[""] for item in items.values()]
            if not is_sequence:
                texts = sorted(
                    f"{key[1:-1]}: {text}" for key, text in zip(items, texts, strict=True)
                )
            comma = "," if is_sequence and len(items) == 1 else ""
            joined = f"{', '.join(texts)}{comma}"
            yield name, f"({joined})" if is_sequence else f"{{{joined}}}"
            return
        yield name, f"length {len(items)}"
        for key in items if next(iter(items), "") == "[0]" else sorted(items):
            yield from self.lines(f"{name}{key}", items[key])

    def _object(self, name: str, value: Any) -> Lines:
        kind = type(value)
        held = contents_of(value) if is_dataclass(value) else _pickled_state(value)
        if held is None:  # only its repr is known
            yield name, _abbreviate(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)))
            return
        yield name, _label(kind)
        if not _is_importable(kind):
            yield from self._once(name, kind, self._class)
        yield from self._attributes(name, held)

    def _attributes(self, name: str, held: Mapping[str, Any]) -> Lines:
        for attribute in sorted(held):
            yield from self.lines(f"{name}.{attribute}", held[attribute])

    def _once(self, name: str, value: Any, described: Any) -> Lines:
        if id(value) not in self._known:
            self._known.add(id(value))
            yield from described(name, value)

    def _class(self, name: str, kind: type) -> Lines:
        """Yield the functions of a class, and of its bases, that can't be imported."""
        for each in kind.__mro__:
            for attribute, value in [] if _is_importable(each) else sorted(vars(each).items()):
                function = getattr(value, "__func__", getattr(value, "fget", value))
                if isinstance(function, types.FunctionType):
                    inner = f"{name}.{each.__name__}.{attribute}"
                    yield from self._once(inner, function, self._function)

    def _function(self, name: str, function: types.FunctionType) -> Lines:
        """Yield the code of a function, and the values to which it refers."""
        code = function.__code__
        version = sys.implementation.cache_tag
        yield f"{name}.__code__", f"checksum {_checksum(_code_to_text(code))} by {version}"
        held: dict[str, Any] = dict(vars(function))
        for kind in ("__defaults__", "__kwdefaults__"):
            if getattr(function, kind):
                held[kind] = getattr(function, kind)
        loaded, stored = _variables(code)
        own, cells = function.__globals__, function.__closure__ or ()
        held |= {variable: own[variable] for variable in loaded if variable in own}
        for variable, cell in zip(code.co_freevars, cells, strict=True):
            if cell != types.CellType():  # an empty cell is not assigned yet
                held[variable] = cell.cell_contents
        yield from self._attributes(name, {v: held[v] for v in held if v not in stored})


def _pickled_state(value: Any) -> dict[str, Any] | None:
    """Return the pickled state of an object by name; None if it has none.

    It does not include caches, such as those of pandas.
    """
    if isinstance(value, _RANDOM):  # their state changes
        return None
    try:
        reduced: Any = value.__reduce_ex__(4)
    except Exception:  # not picklable
        return getattr(value, "__dict__", None)
    if isinstance(reduced, str):  # the name of a singleton
        return {"name": reduced}
    arguments, state, items, pairs = [*reduced[1:5], None, None, None][:4]
    held: dict[str, Any] = {}
    for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
        held |= part if isinstance(part, dict) else {} if part is None else {"state": part}
    others = {
        "arguments": [each for each in arguments if each is not type(value)],
        "items": list(items or ()),
        "pairs": list(pairs or ()),
    }
    return {str(name): each for name, each in held.items()} | {n: o for n, o in others.items() if o}


def _variables(code: types.CodeType) -> tuple[set[str], set[str]]:
    """Return the global variables that code reads, and the outer variables that it assigns."""
    loaded, stored = set(), set()
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            loaded.add(instruction.argval)
        elif instruction.opname in ("STORE_GLOBAL", "STORE_DEREF"):
            stored.add(instruction.argval)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            of_nested = _variables(constant)
            loaded, stored = loaded | of_nested[0], stored | of_nested[1]
    return loaded, stored


def _code_to_text(code: types.CodeType) -> str:
    """Return code as text, without its location."""
    constants = [
        _code_to_text(constant)
        if isinstance(constant, types.CodeType)
        else repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)
        for constant in code.co_consts
    ]
    names = code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars
    return repr((code.co_code, names, code.co_argcount, code.co_flags, constants))


def _is_importable(value: Any) -> bool:
    """Return whether a function or class can be imported by its name."""
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if not (isinstance(module, str) and isinstance(name, str)) or module == "__main__":
        return False
    try:
        return operator.attrgetter(name)(sys.modules[module]) is value
    except (KeyError, AttributeError):
        return False


def _label(value: Any) -> str:
    """Return the name of a class or function, with its module if it is not of this package."""
    module, name = value.__module__, value.__qualname__
    is_ours = module.partition(".")[0] == __name__.partition(".")[0]
    return name if is_ours or module == "builtins" else f"{module}.{name}"


def _describe_array(array: Any) -> str:
    if array.size <= _N_ITEMS:
        return f"array {array.tolist()} of {array.dtype}"
    checksum = zlib.crc32(np.ascontiguousarray(array).tobytes())
    return f"array of shape {array.shape}, {array.dtype}, checksum {checksum:08x}"


def _abbreviate(text: str) -> str:
    if len(text) <= _N_CHARACTERS:
        return text
    return f"{text[:_N_CHARACTERS]}..., checksum {_checksum(text)}"


def _checksum(text: str) -> str:
    return f"{zlib.crc32(text.encode(errors='surrogatepass')):08x}"
