"""What the values of a column are: numbers, levels of a category, missing, or none of these."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, Literal, NoReturn

import numpy as np

from ..core.arrays import Array

Kind = Literal["number", "category"]
Role = Literal["number", "level", "missing", "date", "other"]

_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating, Decimal, Fraction)
_DATES = (datetime.date, datetime.time, datetime.timedelta, np.datetime64, np.timedelta64)


class _Roles(dict[type, Role]):
    """The role of the values of each type, found when it is first asked for."""

    def __missing__(self, type_: type) -> Role:
        self[type_] = role = _role_of(type_)
        return role


ROLES = _Roles()


def _role_of(type_: type) -> Role:
    """Return the role of a type's values; those that nothing can be made of are "other"."""
    if type_ is type(None) or type_.__name__ in ("NAType", "NaTType"):  # pandas's
        return "missing"
    if issubclass(type_, _NUMBERS):
        return "number"
    if issubclass(type_, _DATES) or type_.__name__ == "Period":  # pandas's
        return "date"
    if issubclass(type_, (complex, np.complexfloating)) or type_.__hash__ is None:
        return "other"
    return "level"


def types_in(values: Sequence[Any]) -> dict[Role, type]:
    """Return the roles that occur among values, each with a type that has it."""
    return {ROLES[type_]: type_ for type_ in set(map(type, values))}


def is_missing(value: Any) -> bool:
    """Return whether a value is None, NaN, or pandas's NA or NaT."""
    is_nan = isinstance(value, (float, np.floating, Decimal)) and value != value
    return is_nan or ROLES[type(value)] == "missing"


def kind_of(values: Sequence[Any], label: str) -> Kind:
    """Return whether the values of a column are numbers or levels; none at all are numbers.

    Raises
    ------
    ValueError
        If they are dates, numbers and levels mixed, or neither.
    """
    types = types_in(values)
    if "date" in types:
        refuse_dates(label, types["date"].__name__)
    if "number" in types and "level" in types:  # the numbers may be NaN, which is missing
        types = types_in([value for value in values if not is_missing(value)])
    if "number" in types and "level" in types:
        raise ValueError(
            f"{label} holds numbers ({types['number'].__name__}) beside other values "
            f"({types['level'].__name__}). Make numbers of all of it, as "
            'pandas.to_numeric(..., errors="coerce") does, or strings, as astype(str) does.'
        )
    if "other" in types and types.keys() <= {"other", "missing"}:
        refuse_nested(label, types["other"].__name__)
    return "category" if "level" in types else "number"


def floats_of(values: Sequence[Any], label: str) -> Array:
    """Return the values of a column of numbers as float64, with NaN for what is missing.

    Raises
    ------
    ValueError
        If some are no numbers.
    """
    types = types_in(values)
    if "date" in types:
        refuse_dates(label, types["date"].__name__)
    if "level" in types:
        found = next(value for value in values if ROLES[type(value)] == "level")
        raise ValueError(
            f"{label} held numbers in fit, and holds {found!r} ({types['level'].__name__}) now. "
            "Make numbers of its values, with NaN for what is none, or fit anew."
        )
    if "other" in types:
        values = without_others(values, label)
    if "missing" in types or "other" in types:  # NumPy takes None for NaN, but not pandas's NA
        values = [np.nan if ROLES[type(value)] == "missing" else value for value in values]
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        refuse_infinite(label)


def without_others(values: Sequence[Any], label: str) -> list[Any]:
    """Return values with None for those that are neither numbers nor levels, and warn of them."""
    found = next(value for value in values if ROLES[type(value)] == "other")
    warnings.warn(
        f"{label} holds values that are neither numbers nor strings, such as {found!r}. They are "
        "taken to be missing: if they should not be, make numbers or strings of them.",
        stacklevel=2,
    )
    return [None if ROLES[type(value)] == "other" else value for value in values]


def refuse_dates(label: str, type_: object) -> NoReturn:
    """Raise the error about a column of dates."""
    raise ValueError(
        f"{label} holds dates, times or durations ({type_}), which are no numbers to train on. "
        "Make numbers of it, each a column of its own: days since a first date, as "
        "(dates - dates.min()).dt.days, the month (dates.dt.month), the day of the week "
        "(dates.dt.dayofweek) or the hour (dates.dt.hour); of a duration its "
        "dt.total_seconds(). (These are pandas's names.)"
    )


def refuse_nested(label: str, type_: object) -> NoReturn:
    """Raise the error about a column of lists, dicts, complex numbers and the like."""
    raise ValueError(
        f"{label} holds values that are neither numbers nor strings ({type_}). Make columns of "
        "their parts, one for each, or leave the column out."
    )


def refuse_infinite(label: str) -> NoReturn:
    """Raise the error about a column that has infinite values."""
    raise ValueError(
        f"{label} has infinite values (infinity, or a value too large for float64). Replace them "
        "by NaN, if they stand for missing values, or by the largest value that makes sense."
    )
