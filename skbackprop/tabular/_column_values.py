"""Values of columns: roles such as number, level or date, kinds, checks, and conversions.

Dates are converted to arrays of datetime64[us], times of day and durations to arrays of seconds. A
date with a time zone stands for its wall-clock time.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import cache
from reprlib import repr as short_repr
from typing import Any, Literal, NamedTuple, NoReturn

import numpy as np

from ..utils.arrays import Array
from ._string_formats import (
    DateFormat,
    Format,
    FormatFit,
    NumberFormat,
    find_format,
    is_missing_word,
)

Kind = Literal["number", "category", "text", "date", "time", "duration"]

Role = Literal["number", "level", "missing", "date", "time", "duration", "other"]

# The roles of values that are not missing.
PLURALS: Mapping[Any, str] = {
    "number": "numbers",
    "level": "other values",
    "date": "dates",
    "time": "times of day",
    "duration": "durations",
}

_NUMBERS = (bool, int, float, np.bool_, np.integer, np.floating, Decimal, Fraction)
_DURATIONS = (datetime.timedelta, np.timedelta64)
# Types with a missing value of their own, which differs from itself.
_WITH_NAN = (float, np.floating, Decimal, np.datetime64, np.timedelta64)


def _role_of_type(type_: type) -> Role:
    """Return the role of the values of a type; "other" for unsupported types."""
    if type_ is type(None) or type_.__name__ in ("NAType", "NaTType"):  # pandas has these
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


def is_missing(value: Any, with_words: bool = False) -> bool:
    """Return whether a value is None, NaN, NaT, or pandas's NA; with words, also "n/a" or so."""
    if isinstance(value, str):
        return with_words and is_missing_word(value)
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


def check_role(values: Sequence[Any], role: Role, label: str) -> dict[Role, type]:
    """Return the roles of values; raise if some are not of the role that they had in `fit`."""
    types = check_supported(values, label)
    accepted = {role, "missing"}
    if types.keys() <= accepted:
        return types
    for row, value in enumerate(values):
        if find_role(type(value)) in accepted or is_missing(value):
            continue
        notes = {
            "number": ", with NaN for missing ones,",
            "date": ", for example by pandas.to_datetime, with None for missing ones,",
        }
        raise ValueError(
            f"{label} held {PLURALS[role]} in fit, but now holds {short_repr(value)} "
            f"({type(value).__name__}) in row {row}. Convert the column to "
            f"{PLURALS[role]}{notes.get(role, '')} or fit again."
        )
    return types


def raise_unsupported(values: Sequence[Any], label: str) -> NoReturn:
    """Raise an error about a column with lists, dicts, complex numbers and the like.

    The error names the first such value, or the first one that is not missing if only the dtype of
    the column is unsupported.
    """
    rows = [row for row, value in enumerate(values) if find_role(type(value)) == "other"]
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


# ----------------------------------------------------------------------- dates and times

# Dates are clipped to this many years around 1970, so that their differences fit into 64 bits.
_MAX_YEARS = 140_000

SECONDS_A_DAY = 86_400
_SECONDS_A_MONTH = 30.436875 * SECONDS_A_DAY  # the mean of the Gregorian calendar


def as_microsecond_dates(dates: Array) -> Array:
    """Return an array of datetime64 of any unit as datetime64[us], clipped to its range."""
    unit, _ = np.datetime_data(dates.dtype)
    if unit not in ("us", "ns", "ps", "fs", "as", "generic"):
        limits = np.array([-_MAX_YEARS, _MAX_YEARS], "M8[Y]").astype(dates.dtype)
        dates = np.where(np.isnat(dates), dates, np.clip(dates, *limits))
    return dates.astype("M8[us]")


def as_seconds(durations: Array) -> Array:
    """Return an array of timedelta64 of any unit as float64 seconds, with NaN for NaT."""
    unit, _ = np.datetime_data(durations.dtype)
    if unit in ("Y", "M"):
        seconds = durations.astype("m8[M]") / np.timedelta64(1, "M") * _SECONDS_A_MONTH
    else:
        seconds = durations / np.timedelta64(1, "s")
    return np.asarray(seconds, dtype=np.float64)


def convert_values(values: Sequence[Any], kind: Kind, label: str) -> Any:
    """Return the Python objects of a column of any kind but "category" as they are encoded.

    Text is a list, dates are datetime64[us], and other kinds are float64. Missing values are NaN or
    NaT. Strings of numbers and dates are parsed before.
    """
    if kind == "text":
        check_supported(values, label)
        return values
    if kind == "number":
        numbers = to_floats(values, label)
        if np.isinf(numbers).any():
            raise_infinite(label)
        return numbers
    assert kind in ("date", "time", "duration")
    check_role(values, kind, label)
    if kind == "date":
        return np.array([_to_date(value) for value in values], dtype="M8[us]")
    return np.array([_to_seconds(value) for value in values], dtype=np.float64)


def _to_date(value: Any) -> np.datetime64:
    """Return a date of any type, with NaT for a missing value; a period by its start."""
    if is_missing(value):
        return np.datetime64("NaT", "us")
    value = getattr(value, "start_time", value)  # pandas.Period has it
    if hasattr(value, "tz_localize"):  # pandas.Timestamp has it
        value = value.tz_localize(None).to_datetime64()
    if isinstance(value, np.datetime64):
        date: np.datetime64 = as_microsecond_dates(np.array([value]))[0]
        return date
    if isinstance(value, datetime.datetime):
        value = value.replace(tzinfo=None)
    return np.datetime64(value, "us")


def _to_seconds(value: Any) -> float:
    """Return the seconds of a duration of any type, or of a time of day since midnight."""
    if is_missing(value):
        return np.nan
    if isinstance(value, datetime.time):
        return value.hour * 3600.0 + value.minute * 60 + value.second + value.microsecond / 1e6
    if isinstance(value, np.timedelta64):
        return float(as_seconds(np.array([value]))[0])
    return float(value.total_seconds())


# ------------------------------------------------------------------------------ kinds

# A column of strings is text if it has more distinct values than this. They must have two words on
# average if most values are distinct, and five words if values repeat up to 20 times. More than one
# of them must have letters, unlike in phone numbers.
_MIN_TEXTS, _TEXT_RULES = 30, ((0.5, 2.0), (0.05, 5.0))
# A category with at least this number of distinct numbers or dates may be misread.
_MIN_PARSED = 5


class Doubt(NamedTuple):
    """What may be wrong with a column, a kind of `column_kinds`, and what this kind does."""

    problem: str
    kind: Kind
    effect: str


class InferredKind(NamedTuple):
    """The kind of a column, the reason, the format of numbers or dates in strings, and a doubt.

    Numbers have a format if they are strings such as "1,234" and "12 %". Dates always have one,
    because those of new rows may be strings.
    """

    kind: Kind
    reason: str
    format: Format | None = None
    doubt: Doubt | None = None


# The kinds of columns of numbers or dates, and strings that stand for missing values.
_STRINGS_BESIDE: Mapping[Role, InferredKind] = {
    "number": InferredKind("number", "values are numbers", NumberFormat()),
    "date": InferredKind("date", "values are dates", DateFormat()),
}


def infer_kind_of_strings(values: Sequence[Any]) -> InferredKind:
    """Return the kind of a column of strings and missing values.

    In columns of numbers and dates, words such as "n/a" are missing values.
    """
    counts = {value: n for value, n in Counter(values).items() if not is_missing(value)}
    if not all(isinstance(value, str) for value in counts):
        return InferredKind("category", "values are neither strings nor numbers")
    strings = [value for value in counts if not is_missing_word(value)]
    fit = find_format(strings, (NumberFormat, DateFormat))
    kind: Kind = "date" if fit and isinstance(fit.format, DateFormat) else "number"
    if fit is not None and not fit.misfits:
        return InferredKind(kind, f"strings are {fit.format}", fit.format, _doubt_format(fit))
    share = len(strings) / max(1, sum(counts.values()))
    words = " ".join(strings).split()
    n_words = len(words) / max(1, len(strings))
    has_words = sum(any(map(str.isalpha, word)) for word in words) > len(strings)
    has_many = len(strings) > _MIN_TEXTS
    is_long = any(share > least and n_words >= minimum for least, minimum in _TEXT_RULES)
    if has_many and has_words and is_long:
        return InferredKind("text", f"strings of {n_words:.1f} words on average")
    doubt = None
    has_parsed = fit is not None and len(strings) - len(fit.misfits) >= _MIN_PARSED
    # Codes such as 007 are no numbers.
    if fit and has_parsed and not any("0" < x < "1" and x.isdecimal() for x in fit.misfits):
        values = ", ".join(map(short_repr, fit.misfits[:3]))
        problem = f"is read as a category, because it holds {values} beside {fit.format}"
        doubt = Doubt(problem, kind, "reads such values as missing")
    elif has_many and share > 0.5:
        problem = (
            f"is read as a category of {len(strings)} levels, most of which are too rare. Drop it"
        )
        doubt = Doubt(problem, "text", "compares parts of its strings")
    return InferredKind("category", "other strings", doubt=doubt)


def _doubt_format(fit: FormatFit) -> Doubt | None:
    """Return the doubt about a format if another one fits as well."""
    if fit.other is None:
        return None
    problem = f"is read as {fit.format}, but could be {fit.other} as well. If so,"
    if isinstance(fit.format, DateFormat):
        remedy = "convert it by pandas.to_datetime(..., dayfirst=True)"
        return Doubt(f"{problem} {remedy}", "date", "confirms the order")
    remedy = "remove the separators of thousands, and replace the decimal comma"
    return Doubt(f"{problem} {remedy}", "number", "confirms the decimal point")


def infer_column_kind(values: Sequence[Any], label: str) -> InferredKind:
    """Return the kind of a column of objects; an empty one is numeric.

    Raises
    ------
    TypeError
        If a value is not supported.
    ValueError
        If numbers, dates, times or durations are mixed with other values.
    """
    types = check_supported(values, label)
    if len(types) > 1:  # NaN is a missing value, not a number
        types = find_roles([value for value in values if not is_missing(value)])
    roles = [role for role in PLURALS if role in types]
    if "level" in types:
        levels = [value for value in values if find_role(type(value)) in ("level", "missing")]
        inferred = infer_kind_of_strings(levels)
        if roles == ["level"]:
            return inferred
        other, *more = [role for role in roles if role != "level"]
        strings = _STRINGS_BESIDE.get(other)
        if strings is not None and not more:
            if all(is_missing(level, with_words=True) for level in levels):
                return strings
            if inferred.kind == strings.kind:
                return inferred
    if len(roles) > 1:
        role, other_role = roles[:2]
        row, value = next(p for p in enumerate(values) if find_role(type(p[1])) == other_role)
        raise ValueError(
            f"{label} holds {PLURALS[role]} ({types[role].__name__}) and {PLURALS[other_role]} "
            f"({types[other_role].__name__}), such as {short_repr(value)} in row {row}. Convert "
            'the column with pandas.to_numeric(..., errors="coerce") or astype(str), or name its '
            "kind in column_kinds: as a 'number' or 'date', other strings are missing values."
        )
    kind: Kind = roles[0] if roles else "number"
    reason = f"values are {PLURALS[kind]}" if roles else "no values"
    return InferredKind(kind, reason, DateFormat() if kind == "date" else None)
