"""Immutable objects with settings, such as optimizers, losses and layers, and their comparison.

`get_params` is scikit-learn's. `set_params` returns a new object, while scikit-learn's estimators
change in place. In a stack, the settings of several members are one object, whose floats are shared
by all members or arrays of shape (n_estimators, 1).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from itertools import repeat, starmap
from numbers import Integral, Real
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, ClassVar, Literal, Self, Union, cast, get_args, get_origin, get_type_hints

import numpy as np

from .arrays import get_attributes
from .validation import check_keywords, did_you_mean, get_keywords


def number_by_equality(keys: Sequence[Any]) -> list[int]:
    """Return a number for each key, the same for equal keys: the index of the first of them.

    Keys are compared, not hashed, since they may hold user-defined objects.
    """
    numbers: list[int] = []
    for i, key in enumerate(keys):
        equal = (j for j in dict.fromkeys(numbers) if is_equal(keys[j], key))
        numbers.append(next(equal, i))
    return numbers


def is_equal(one: Any, other: Any) -> bool:
    """Return whether two values are equal, including all that they contain.

    Numbers are only equal to numbers of the same kind: 1 row is not 1.0 of all rows. Arrays, lists,
    tuples, dicts and dataclasses are equal if they have the same type and equal contents. The
    contents of a dataclass include attributes beside its fields. Other objects are compared by
    ``==``; if that raises an error, they are different.
    """
    if one is other:
        return True
    if isinstance(one, np.generic):  # NumPy's float32(0.9) does not equal 0.9
        one = one.item()
    if isinstance(other, np.generic):
        other = other.item()
    if type(one) is not type(other) and _abstract_type(one) is not _abstract_type(other):
        return False
    if isinstance(one, np.ndarray):
        can_be_nan = one.dtype.kind == "f"
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=can_be_nan)
    if isinstance(one, (list, tuple)):
        pairs = [(a, b) for a, b in zip(one, other, strict=False) if a is not b]
        return len(one) == len(other) and all(starmap(is_equal, pairs))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(is_equal(one[key], other[key]) for key in one)
    if is_dataclass(one) and not isinstance(one, type):
        return is_equal(get_attributes(one), get_attributes(other))
    try:
        return bool(one == other)
    except Exception:  # arrays and frames have no truth value
        return False


def _abstract_type(value: Any) -> type:
    """Return the type of a value, or the abstract type of a number or string."""
    for kind in (bool, Integral, Real, str):
        if isinstance(value, kind):
            return kind
    return type(value)


# Settings of other libraries' optimizers that are parameters of the estimators here.
_OF_ESTIMATORS = ("learning_rate_init", "learning_rate", "alpha", "clip_norm", "average", "loss")


@dataclass(frozen=True, eq=False, repr=False)
class Configurable:
    """Base class of frozen dataclasses, whose settings are the arguments of the constructor."""

    # Arguments that the estimator sets, which are not settings of the user.
    _set_elsewhere: ClassVar[frozenset[str]] = frozenset()

    def __new__(cls, *args: Any, **settings: Any) -> Self:
        """Create an object; raise for an unknown setting, or a value of another type."""
        if settings:
            check_keywords(cls, cls.__init__, settings, _OF_ESTIMATORS)
        values = dict(zip(get_keywords(cls.__init__) or (), args, strict=False)) | settings
        options, _ = _read_annotations(cast(Any, cls))
        for name, value in values.items():
            literals, classes = options.get(name, ([], object))
            is_literal = isinstance(value, (str, bool, np.bool_, NoneType)) and value in literals
            if not (is_literal or isinstance(value, classes)):
                raise _make_type_error(cls, name, value, literals, classes)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        """Check the settings whose annotations have a check, such as `between`.

        None is valid where it is the default.
        """
        cls: Any = type(self)
        for check, names in _read_annotations(cls)[1].items():
            check(self, *[n for n in names if not (getattr(self, n) is None is getattr(cls, n, 0))])

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__repr__" not in vars(cls):
            # As a method of the class itself, a dataclass does not replace it.
            cls.__repr__ = cls.__repr__  # type: ignore[method-assign]

    def __repr__(self) -> str:
        """Return the class with the settings that differ from their defaults."""
        defaults = {field.name: field.default for field in fields(self)}
        changed = [
            f"{name}={value!r}"
            for name, value in self.get_params(deep=False).items()
            if not is_equal(value, defaults[name])
        ]
        return f"{type(self).__qualname__}({', '.join(changed)})"

    @classmethod
    def setting_names(cls) -> list[str]:
        """Return the names of the settings, without nested ones."""
        ordered = sorted(fields(cls), key=attrgetter("kw_only"))  # as in the signature
        return [f.name for f in ordered if f.init and f.name not in cls._set_elsewhere]

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings by name.

        Parameters
        ----------
        deep : bool, default=True
            Whether to add nested settings, such as ``schedule__final_factor``, and those of
            objects in a list or tuple, such as ``layers__0__n_units``.

        Returns
        -------
        params : dict
            The settings.
        """
        params = {name: getattr(self, name) for name in self.setting_names()}
        if deep:
            for name, value in list(params.items()):
                params |= get_nested_params(name, value)
        return params

    def set_params(self, **params: Any) -> Self:
        """Return a new object with changed settings.

        Parameters
        ----------
        **params : dict
            The changed settings by name, also nested ones such as ``schedule__final_factor``.

        Returns
        -------
        part : Configurable
            The new object.

        Raises
        ------
        ValueError
            If there is no setting of a name, or a value is not valid.
        """
        plain, nested = split_nested_params(params)
        check_param_names([*plain, *nested], self.setting_names(), repr(self))
        part = replace(self, **plain)
        for name, settings in nested.items():
            value, owner = getattr(part, name), f" of {type(self).__name__}"
            part = replace(part, **{name: set_nested_params(name, value, settings, owner)})
        return part

    def __sklearn_clone__(self) -> Self:
        """Return a copy, for scikit-learn's `clone`, which would treat it as an estimator."""
        return copy.deepcopy(self)


@cache
def _read_annotations(cls: Any) -> tuple[dict[str, Any], dict[Callable[..., None], list[str]]]:
    """Return the values and classes that fields may have, and the checks of other fields.

    Numbers, sequences and functions have no values or classes. Fields with the same check are
    checked together.
    """
    options, checks = dict[str, Any](), dict[Callable[..., None], list[str]]()
    try:
        hints = get_type_hints(cls, include_extras=True)
    except Exception:  # an annotation of a user-defined class may name anything
        return _read_annotations(cls.__base__)
    for name, hint in hints.items():
        for check in getattr(hint, "__metadata__", ()):
            checks.setdefault(check, []).append(name)
        values, classes = list[Any](), list[type]()
        for kind in get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,):
            if get_origin(kind) is Literal:
                values += get_args(kind)
            elif kind in (bool, NoneType):
                values += (True, False) if kind is bool else (None,)
            elif isinstance(kind, type) and issubclass(kind, Configurable):
                classes.append(kind)
            else:
                break
        else:
            options[name] = values, tuple(classes)
    return options, checks


def _make_type_error(
    cls: type, name: str, value: Any, values: list[Any], classes: tuple[type, ...]
) -> ValueError:
    """Return the error for a setting that is none of the values and no object of the classes."""
    names = [" such as ".join(c.__name__ for c in (k, *k.__subclasses__())[:2]) for k in classes]
    *texts, last = [*map(repr, values), *(f"an object of class {name}" for name in names)]
    return ValueError(
        f"{name} of {cls.__name__} must be {', '.join(texts)}{' or ' * bool(texts)}{last}, got "
        f"{value!r}.{did_you_mean(value, [v for v in values if isinstance(v, str)])}"
    )


def has_settings(value: Any) -> bool:
    """Return whether a value has settings: an object, or a list or tuple with one."""
    if isinstance(value, (list, tuple)):
        return any(isinstance(item, Configurable) for item in value)
    return isinstance(value, Configurable)


def get_nested_params(name: str, value: Any) -> dict[str, Any]:
    """Return the settings of a value by name, such as ``name__momentum``.

    A list or tuple of objects has its entries, ``name__0``, and their settings.
    """
    if isinstance(value, Configurable):
        return {f"{name}__{setting}": item for setting, item in value.get_params().items()}
    params: dict[str, Any] = {}
    for i, item in enumerate(value if has_settings(value) else ()):
        params |= {f"{name}__{i}": item} | get_nested_params(f"{name}__{i}", item)
    return params


def set_nested_params(name: str, value: Any, settings: Mapping[str, Any], owner: str = "") -> Any:
    """Return a copy of a value with changed settings.

    Parameters
    ----------
    name : str
        The name of the value, for errors.
    value : Any
        An object, or a list or tuple of objects. It does not change.
    settings : dict
        The changed settings by name; of a list or tuple ``"0"`` and ``"0__momentum"``.
    owner : str, default=""
        The end of the value's name in errors, such as " of LinearWarmup".

    Raises
    ------
    ValueError
        If there is no such setting, or its value is not valid.
    """
    if isinstance(value, Configurable):
        return value.set_params(**settings)
    if not has_settings(value):
        raise ValueError(
            f"{name}={value!r}{owner} has no settings of its own, so "
            f"{name}__{next(iter(settings))} does not exist. To change its settings, pass an "
            "object instead."
        )
    plain, nested = split_nested_params(settings)
    items = {str(i): item for i, item in enumerate(value)}
    for index in (*plain, *nested):
        if index not in items:
            valid = ", ".join(f"{name}__{i}" for i in items) or "none"
            raise ValueError(
                f"{name}__{index} does not exist, since {name}{owner} has only the items {valid}."
            )
    items |= plain
    for index, item_settings in nested.items():
        items[index] = set_nested_params(f"{name}__{index}", items[index], item_settings, owner)
    changed = list(items.values())
    return tuple(changed) if isinstance(value, tuple) else changed


def check_in_place(part: Any, call: str, name: str, result: Any, out: Any) -> None:
    """Raise a TypeError if a method returned its result instead of writing it to an argument.

    Parameters
    ----------
    part : Any
        The object whose method was called.
    call : str
        The method and its arguments, for the message.
    name : str
        The argument to which it has to write.
    result : Any
        The return value of the method.
    out : Any
        The array to which it had to write.
    """
    if result is None or result is out:
        return
    raise TypeError(
        f"{type(part).__name__}.{call} must write its result to {name} and return None, but it "
        f"returned a {type(result).__name__}. Write {name}[...] = result, or use out={name} in "
        "NumPy functions."
    )


def check_param_names(names: Iterable[str], valid: Iterable[str], owner: str) -> None:
    """Raise a ValueError with a suggestion for a parameter that does not exist."""
    valid = list(valid)
    for name in names:
        if name not in valid:
            raise ValueError(
                f"Invalid parameter {name!r} for {owner}. Valid parameters are: {valid!r}."
                f"{did_you_mean(name, valid)}"
            )


def split_nested_params(
    params: Mapping[str, Any],
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Split parameters into plain and nested ones.

    ``{"solver": s, "solver__momentum": 0.5}`` gives ``{"solver": s}`` and
    ``{"solver": {"momentum": 0.5}}``.
    """
    plain: dict[str, Any] = {}
    nested: dict[str, dict[str, Any]] = {}
    for name, value in params.items():
        parameter, delimiter, setting = name.partition("__")
        if delimiter:
            nested.setdefault(parameter, {})[setting] = value
        else:
            plain[name] = value
    return plain, nested


def index_settings(settings: Any, members: Any) -> Any:
    """Return settings for some members, by indexing arrays of shape (n_estimators, 1).

    Settings among the fields are indexed too.
    """
    if isinstance(settings, np.ndarray) and settings.ndim == 2:  # other arrays are user-defined
        chosen = settings[members]
        return float(chosen[0, 0]) if len(chosen) == 1 else chosen
    if not _is_settings(settings):
        return settings
    values = {field.name: getattr(settings, field.name) for field in fields(settings) if field.init}
    indexed = {name: index_settings(value, members) for name, value in values.items()}
    changes = {name: value for name, value in indexed.items() if value is not values[name]}
    return replace(settings, **changes) if changes else settings


def stack_settings(settings: Sequence[Any]) -> Any:
    """Stack settings of the same `static_signature`, one of each member."""
    first, *others = dict(zip(map(id, settings), settings, strict=True)).values()
    if all(map(is_equal, others, repeat(first))):
        return first
    if isinstance(first, float):
        return np.array(settings, dtype=float)[:, None]
    changes: dict[str, Any] = {}
    for field in fields(first):
        if field.init:
            changes[field.name] = stack_settings([*map(attrgetter(field.name), settings)])
    return replace(first, **changes)


def static_signature(settings: Any) -> tuple[Any, ...]:
    """Return the part of settings that must be equal so that they can be stacked.

    It is everything but floats, alone or among the fields of dataclasses.
    """
    if isinstance(settings, float):
        return (float,)
    if not _is_settings(settings):
        return (settings,)
    values = {f.name: static_signature(getattr(settings, f.name)) for f in fields(settings)}
    return type(settings), *values.items()


def _is_settings(value: Any) -> bool:
    """Return whether a value is a dataclass that can be stacked.

    Callables are not, nor instances with attributes beside their fields, which can't be replaced.
    """
    if not is_dataclass(value) or callable(value):
        return False
    return get_attributes(value).keys() <= value.__dataclass_fields__.keys()
