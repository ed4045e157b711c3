"""Roles of the values of columns of objects: numbers, levels, dates, durations, missing values."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cache
from typing import Any, Literal

import numpy as np

Role = Literal["number", "level", "missing", "date", "time", "duration", "other"]

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


def count_present(values: Sequence[Any]) -> int:
    """Return the number of values that are not missing, in a tenth of the time of a loop."""
    known = {
        type_: count
        for type_, count in Counter(map(type, values)).items()
        if find_role(type_) != "missing"
    }
    with_nan = [type_ for type_ in known if issubclass(type_, _WITH_NAN)]
    if with_nan:
        is_nan = (type(value) in with_nan and value != value for value in values)
        return sum(known.values()) - sum(is_nan)
    return sum(known.values())
