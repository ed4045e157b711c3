"""Comparison of settings: deep equality, grouping, and descriptions as text."""

from __future__ import annotations

import dis
import operator
import re
import sys
import types
import zlib
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache, cached_property, partial
from numbers import Integral, Real
from typing import Any, TypeAlias, TypeVar, cast

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
        if not is_equal(get_contents(one), get_contents(other)):
            return False
        return _equal_or_none(one, other) is not False
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
    """Return the compared fields and the extra attributes of a dataclass instance, by name."""
    _, names = _get_field_names(cast(Hashable, type(value)))
    return {name: getattr(value, name) for name in names} | extra_instance_attributes(value)


def extra_instance_attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of a dataclass instance beside its fields and cached properties."""
    names, _ = _get_field_names(cast(Hashable, type(value)))
    return {
        name: held
        for name, held in getattr(value, "__dict__", {}).items()
        if name not in names and not isinstance(getattr(type(value), name, None), cached_property)
    }


@cache
def _get_field_names(kind: Hashable) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the names of a dataclass's fields, and of those that are compared."""
    all_fields = fields(cast(Any, kind))
    names = frozenset(field.name for field in all_fields)
    return names, tuple(field.name for field in all_fields if field.compare)


# ------------------------------------------------------------------------- descriptions

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

    It is the same in every process. Objects are described by their classes and attributes.
    Functions and classes that can be imported are described by their names; those of a script, a
    notebook or another function by their code, and by the values of the variables that they read
    but do not assign.
    """
    lines = list(_Describer().lines(name, value))
    rest = "\n".join(map("\n".join, lines[_N_LINES:]))
    more = {f"{name}, the rest": f"checksum {_checksum(rest)}"} if rest else {}
    return dict(lines[:_N_LINES]) | more


class _Describer:
    """Describes values, and each user-defined function and class in full only once."""

    def __init__(self) -> None:
        self._described: set[int] = set()
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
            yield name, f"{'class ' * isinstance(value, type)}{_qualified_name(value)}"
        elif id(value) in self._above or len(self._above) > _DEPTH:
            yield name, _qualified_name(type(value))
        else:
            self._above.append(id(value))
            if isinstance(value, (list, tuple, np.ndarray, set, frozenset, Mapping)):
                yield from self._container_lines(name, value)
            else:
                text, contents = self._describe_object(value)
                yield name, text
                for attribute in sorted(contents):
                    yield from self.lines(f"{name}.{attribute}", contents[attribute])
            self._above.pop()

    def _container_lines(self, name: str, value: Any) -> Lines:
        """Yield one line for a few plain items, else their number and the lines of each."""
        if isinstance(value, Mapping):
            items = sorted(
                ((_abbreviate(repr(key)), key) for key in value), key=lambda item: item[0]
            )
            lines = [list(self.lines(f"{name}[{text}]", value[key])) for text, key in items]
        elif isinstance(value, (set, frozenset)):
            lines = sorted(list(self.lines(name, item)) for item in value)
        else:
            lines = [list(self.lines(f"{name}[{i}]", item)) for i, item in enumerate(value)]
        values = value.values() if isinstance(value, Mapping) else value
        if len(lines) > _N_ITEMS or not all(isinstance(v, (*_ATOMS, np.generic)) for v in values):
            yield name, f"length {len(lines)}"
            for own in lines:
                yield from own
        elif isinstance(value, Mapping):
            pairs = zip(items, lines, strict=True)
            texts = [f"{key}: {own[0][1]}" for (key, _), own in pairs]
            yield name, _abbreviate(f"{{{', '.join(texts)}}}")
        else:
            comma = "," if len(lines) == 1 else ""
            yield name, _abbreviate(f"({', '.join(own[0][1] for own in lines)}{comma})")

    def _describe_object(self, value: Any) -> tuple[str, Mapping[str, Any]]:
        """Return what a value is, and its contents by name."""
        if isinstance(value, types.MethodType):
            parts = {"object": value.__self__, "function": value.__func__}
            return f"method {value.__name__}", parts
        if isinstance(value, partial):
            parts = {"function": value.func, "args": value.args, "keywords": value.keywords}
            return "partial", parts
        if isinstance(value, (types.FunctionType, type)):
            is_class, is_new = isinstance(value, type), id(value) not in self._described
            self._described.add(id(value))
            contents = _class_contents if is_class else _function_contents
            text = f"{'class' if is_class else 'function'} {value.__qualname__}"
            return text, contents(value) if is_new else {}
        held = get_contents(value) if is_dataclass(value) else _pickled_state(value)
        if held is None:  # only its repr is known
            return _abbreviate(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value))), {}
        kind = type(value)
        return _qualified_name(kind), held if _is_importable(kind) else held | {"__class__": kind}


def _class_contents(kind: Any) -> dict[str, Any]:
    """Return the functions of a class, and of its bases, that can't be imported."""
    contents = {}
    for each in kind.__mro__:
        for name, value in {} if _is_importable(each) else vars(each).items():
            function = getattr(value, "__func__", getattr(value, "fget", value))
            if isinstance(function, types.FunctionType):
                contents[f"{each.__name__}.{name}"] = function
    return contents


def _function_contents(function: Any) -> dict[str, Any]:
    """Return the code of a function, and the values to which it refers."""
    code = function.__code__
    checksum = f"{_checksum(_code_to_text(code))} by {sys.implementation.cache_tag}"
    held: dict[str, Any] = {"__code__": checksum, **vars(function)}
    for kind in ("__defaults__", "__kwdefaults__"):
        if getattr(function, kind):
            held[kind] = getattr(function, kind)
    loaded, stored = _variables(code)
    global_values, cells = function.__globals__, function.__closure__ or ()
    held |= {variable: global_values[variable] for variable in loaded if variable in global_values}
    for variable, cell in zip(code.co_freevars, cells, strict=True):
        if cell != types.CellType():  # an empty cell is not assigned yet
            held[variable] = cell.cell_contents
    return {name: value for name, value in held.items() if name not in stored}


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


def _qualified_name(value: Any) -> str:
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
