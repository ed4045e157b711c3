"""What the values of a column are: numbers, levels of a category, missing, or none of these."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from decimal import Decimal
from fractions import Fraction
from reprlib import repr as short_repr
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
    # Dates come first, for NumPy's timedelta64 is one of its integers.
    if issubclass(type_, _DATES) or type_.__name__ == "Period":  # pandas's
        return "date"
    if issubclass(type_, _NUMBERS):
        return "number"
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
    TypeError
        If one is neither a number nor a level.
    ValueError
        If they are dates, or numbers and levels mixed.
    """
    types = types_in(values)
    if "other" in types:
        refuse_others(values, label)
    if "date" in types:
        refuse_dates(label, types["date"].__name__)
    if "number" in types and "level" in types:  # the numbers may be NaN, which is missing
        types = types_in([value for value in values if not is_missing(value)])
    if "number" in types and "level" in types:
        row, level = _first(values, "level")
        raise ValueError(
            f"{label} holds numbers ({types['number'].__name__}) beside other values "
            f"({types['level'].__name__}), such as {short_repr(level)} in row {row}. Make numbers "
            "of all of it, as "
            'pandas.to_numeric(..., errors="coerce") does, or strings, as astype(str) does.'
        )
    return "category" if "level" in types else "number"


def floats_of(values: Sequence[Any], label: str, first_row: int = 0) -> Array:
    """Return the values of a column of numbers as float64, with NaN for what is missing.

    Parameters
    ----------
    values : sequence
        The values.
    label : str
        What an error calls the column.
    first_row : int, default=0
        The number of the first row in the table, for errors.

    Raises
    ------
    TypeError
        If one is neither a number nor a level.
    ValueError
        If some are dates or levels.
    """
    types = types_in(values)
    if "other" in types:
        refuse_others(values, label, first_row)
    if "date" in types:
        refuse_dates(label, types["date"].__name__)
    if "level" in types:
        row, level = _first(values, "level")
        raise ValueError(
            f"{label} held numbers in fit, and holds {short_repr(level)} ({type(level).__name__}) "
            f"now, in row {first_row + row}. Make numbers of its values, with NaN for what is "
            "none, or fit anew."
        )
    if "missing" in types:  # NumPy takes None for NaN, but not pandas's NA
        values = [np.nan if ROLES[type(value)] == "missing" else value for value in values]
    try:
        return np.array(values, dtype=np.float64)
    except OverflowError:
        refuse_infinite(label)


def _first(values: Iterable[Any], role: Role) -> tuple[int, Any]:
    """Return the place of the first value of a role, and the value."""
    return next(each for each in enumerate(values) if ROLES[type(each[1])] == role)


def refuse_dates(label: str, type_: object) -> NoReturn:
    """Raise the error about a column of dates."""
    raise ValueError(
        f"{label} holds dates, times or durations ({type_}), which are no numbers to train on. "
        "Make numbers of it, each a column of its own: days since a first date, as "
        "(dates - dates.min()).dt.days, the month (dates.dt.month), the day of the week "
        "(dates.dt.dayofweek) or the hour (dates.dt.hour); of a duration its "
        "dt.total_seconds(). (These are pandas's names.)"
    )


def refuse_others(values: Sequence[Any], label: str, first_row: int = 0) -> NoReturn:
    """Raise the error about a column that holds lists, dicts, complex numbers and the like.

    The error names the first such value; or the first value that is not missing, if only the
    dtype of the column is at fault.
    """
    rows = [row for row, value in enumerate(values) if _is_other(value)]
    row = rows[0] if rows else next(i for i, value in enumerate(values) if not is_missing(value))
    value = values[row]
    raise TypeError(
        f"{label} holds {short_repr(value)} in row {first_row + row}: argument must be a string "
        f"or a number, not {type(value).__name__!r}. Make columns of the parts of such values, "
        "one for each, or leave the column out."
    )


def _is_other(value: Any) -> bool:
    """Return whether a value is neither a number nor a level, as a tuple of lists is not."""
    if ROLES[type(value)] == "other":
        return True
    try:
        hash(value)
    except TypeError:
        return True
    return False


def refuse_infinite(label: str) -> NoReturn:
    """Raise the error about a column that has infinite values."""
    raise ValueError(
        f"{label} has infinite values (infinity, or a value too large for float64). Replace them "
        "by NaN, if they stand for missing values, or by the largest value that makes sense."
    )
