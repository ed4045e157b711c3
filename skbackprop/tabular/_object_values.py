"""Values of columns of objects: their roles, such as number, level or date, checks, and floats."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cache
from reprlib import repr as short_repr
from types import MappingProxyType
from typing import Any, Literal, NoReturn

import numpy as np

from ..utils.arrays import Array

Role = Literal["number", "level", "missing", "date", "time", "duration", "other"]

PLURALS = MappingProxyType(
    {
        "number": "numbers",
        "level": "other values",
        "date": "dates",
        "time": "times of day",
        "duration": "durations",
    }
)

_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating, Decimal, Fraction)
_DURATIONS = (datetime.timedelta, np.timedelta64)
# Types with a missing value of their own, which differs from itself.
_WITH_NAN = (float, np.floating, Decimal, np.datetime64, np.timedelta64)


def _role_of_type(type_: type) -> Role:
    """Return the role of the values of a type; "other" for unsupported types."""
    if type_ is type(None) or type_.__name__ in ("NAType", "NaTType"):  # of pandas
        return "missing"
    # Durations come before numbers, since timedelta64 is an integer type of NumPy.
    if issubclass(type_, _DURATIONS):
        return "duration"
    if issubclass(type_, (datetime.date, np.datetime64)) or type_.__name__ == "Period":  # of pandas
        return "date"
    if issubclass(type_, datetime.time):
        return "time"
    if issubclass(type_, _NUMBERS):
        return "number"
    if issubclass(type_, (complex, np.complexfloating)) or type_.__hash__ is None:
        return "other"
    return "level"


find_role: Callable[[type], Role] = cache(_role_of_type)


def find_roles(values: Sequence[Any]) -> dict[Role, type]:
    """Return the roles of values, each with one of their types."""
    return {find_role(type_): type_ for type_ in set(map(type, values))}


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, NaT, or pandas's NA."""
    is_nan = isinstance(value, _WITH_NAN) and value != value
    return is_nan or find_role(type(value)) == "missing"


def check_supported(values: Sequence[Any], label: str) -> dict[Role, type]:
    """Return the roles of values; raise if some are not supported."""
    types = find_roles(values)
    if "other" in types:
        raise_unsupported(values, label)
    return types


def to_floats(values: Sequence[Any], label: str) -> Array:
    """Return the values of a numeric column as float64, with NaN for missing values.

    Parameters
    ----------
    values : sequence
        The values.
    label : str
        The name of the column in errors.

    Raises
    ------
    TypeError
        If a value is not supported.
    ValueError
        If a value is not a number.
    """
    types = check_role(values, "number", label)
    if "missing" in types:  # NumPy converts None to NaN, but not the NA of pandas
        values = [np.nan if find_role(type(value)) == "missing" else value for value in values]
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        raise_infinite(label)


def check_role(
    values: Sequence[Any], role: Role, label: str, *, strings: bool = False
) -> dict[Role, type]:
    """Return the roles of values; raise if some are not of the role that they had in `fit`.

    Strings are accepted with `strings`, and missing values always.
    """
    types = check_supported(values, label)
    accepted = {role, "missing"}
    if types.keys() <= accepted:
        return types
    for row, value in enumerate(values):
        if find_role(type(value)) in accepted or is_missing(value):
            continue
        if strings and isinstance(value, str):
            continue
        remedy = "numbers, with NaN for missing ones," if role == "number" else PLURALS[role]
        raise ValueError(
            f"{label} held {PLURALS[role]} in fit, but now holds {short_repr(value)} "
            f"({type(value).__name__}) in row {row}. Convert the column to "
            f"{remedy} or fit again."
        )
    return types


def raise_unsupported(values: Sequence[Any], label: str) -> NoReturn:
    """Raise an error about a column with lists, dicts, complex numbers and the like.

    The error names the first such value, or the first one that is not missing if only the dtype of
    the column is unsupported.
    """

    def is_unsupported(value: Any) -> bool:
        try:
            hash(value)
        except TypeError:  # such as a tuple of lists
            return True
        return find_role(type(value)) == "other"

    rows = [row for row, value in enumerate(values) if is_unsupported(value)]
    row = rows[0] if rows else next(i for i, value in enumerate(values) if not is_missing(value))
    value = values[row]
    raise TypeError(
        f"{label} holds {short_repr(value)} in row {row}: argument must be a string "
        f"or a number, not {type(value).__name__!r}. Split such values into one column for each "
        "part, or remove the column."
    )


def raise_infinite(label: str) -> NoReturn:
    """Raise an error about a column with infinite values."""
    raise ValueError(
        f"{label} has infinite values (infinity, or a value too large for float64). Replace them "
        "with NaN if they stand for missing values, or with the largest plausible value."
    )
