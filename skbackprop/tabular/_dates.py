"""Encoding of dates, times of day and durations as numbers.

Dates are arrays of datetime64[us], times of day and durations are arrays of seconds. A date with a
time zone stands for its wall-clock time.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np

from ..utils.arrays import Array
from ._object_values import is_missing

# Dates are clipped to this many years around 1970, so that their differences fit into 64 bits.
_MAX_YEARS = 140_000

_SECONDS_A_DAY = 86_400
_SECONDS_A_MONTH = 30.436875 * _SECONDS_A_DAY  # of the Gregorian calendar, on average

_ISO_DATE = re.compile(r"\s*(\d{4}-\d\d-\d\d([T ]\d\d:\d\d.*)?)\s*")


def as_microseconds(dates: Array) -> Array:
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


def parse_iso_date(text: str) -> datetime.datetime | None:
    """Return a date in ISO 8601 form, with or without a time; None if the text is none."""
    found = _ISO_DATE.fullmatch(text)
    if found is None:
        return None
    try:
        return datetime.datetime.fromisoformat(found[1].rstrip())
    except ValueError:
        return None


def dates_to_microseconds(values: Sequence[Any]) -> Array:
    """Return dates of any types as datetime64[us], with NaT for missing values and other strings.

    A period is its first moment.
    """
    not_a_date = np.datetime64("NaT", "us")

    def convert(value: Any) -> Any:
        if isinstance(value, str):
            value = parse_iso_date(value)
        if is_missing(value):
            return not_a_date
        value = getattr(value, "start_time", value)  # of a Period of pandas
        if hasattr(value, "tz_localize"):  # a Timestamp of pandas
            value = value.tz_localize(None).to_datetime64()
        if isinstance(value, np.datetime64):
            return as_microseconds(np.array([value]))[0]
        if isinstance(value, datetime.datetime):
            value = value.replace(tzinfo=None)
        return np.datetime64(value, "us")

    return np.array([convert(value) for value in values], dtype="M8[us]")


def times_to_seconds(values: Sequence[Any]) -> Array:
    """Return times of day as seconds since midnight, with NaN for missing values."""
    seconds = [
        np.nan
        if is_missing(time)
        else time.hour * 3600.0 + time.minute * 60 + time.second + time.microsecond / 1e6
        for time in values
    ]
    return np.array(seconds, dtype=np.float64)


def durations_to_seconds(values: Sequence[Any]) -> Array:
    """Return durations of any types as seconds, with NaN for missing values."""

    def convert(value: Any) -> float:
        if is_missing(value):
            return np.nan
        if isinstance(value, np.timedelta64):
            return float(as_seconds(np.array([value]))[0])
        return float(value.total_seconds())

    return np.array([convert(value) for value in values], dtype=np.float64)


def _cycle(share: Array) -> list[Array]:
    """Return the sine and cosine of shares of a period.

    They are rounded, so that sin(pi) equals sin(0), and constant columns stay constant.
    """
    return [np.round(function(2 * np.pi * share), 12) for function in (np.sin, np.cos)]


@dataclass(frozen=True)
class DateEncoding:
    """Encoding of a column of dates: parts of the calendar as cycles, and the time passed.

    Parameters
    ----------
    label : str
        The name of the column in errors.
    first : int
        The first date of the training table, in microseconds since 1970.
    """

    label: str
    first: int
    output_type: ClassVar[str] = "date"
    kind: ClassVar[str] = "date"
    suffixes: ClassVar[tuple[str, ...]] = (
        *("_year", "_month_sin", "_month_cos", "_weekday_sin", "_weekday_cos"),
        *("_yearday_sin", "_yearday_cos", "_hour_sin", "_hour_cos", "_elapsed"),
    )

    @classmethod
    def fit(cls, dates: Array, label: str) -> Self:
        """Find the first date."""
        known = dates[~np.isnat(dates)]
        return cls(label, int(known.min().astype(np.int64)) if len(known) else 0)

    def encode(self, dates: Array) -> Array:
        """Return the parts of dates (n,) as a matrix (n, 10), with NaN for missing values.

        Cycles are the sine and cosine of 2 pi times m/12, w/7, d/D and s/86400: m full months and
        d full days of a year of D days, w days since Monday, and s seconds since midnight.
        """
        days, months, years = (dates.astype(f"M8[{unit}]") for unit in "DMY")
        day = np.timedelta64(1, "D")
        day_of_year = (days - years.astype("M8[D]")) / day
        n_days = ((years + 1).astype("M8[D]") - years.astype("M8[D]")) / day
        parts = [
            years.astype(np.int64) + 1970,
            *_cycle(months.astype(np.int64) % 12 / 12),
            *_cycle((days.astype(np.int64) + 3) % 7 / 7),
            *_cycle(day_of_year / n_days),
            *_cycle((dates - days) / day),
            (dates.astype(np.int64) - self.first) / (_SECONDS_A_DAY * 1e6),
        ]
        encoded = np.column_stack(parts).astype(np.float64, copy=False)
        encoded[np.isnat(dates)] = np.nan
        return encoded


@dataclass(frozen=True)
class TimeEncoding:
    """Encoding of a column of times of day: the hour as a number and as a cycle.

    Parameters
    ----------
    label : str
        The name of the column in errors.
    """

    label: str
    output_type: ClassVar[str] = "date"
    kind: ClassVar[str] = "time"
    suffixes: ClassVar[tuple[str, ...]] = ("_hour", "_hour_sin", "_hour_cos")

    def encode(self, seconds: Array) -> Array:
        """Return the parts of times (n,), in seconds since midnight, as a matrix (n, 3)."""
        return np.column_stack([seconds / 3600, *_cycle(seconds / _SECONDS_A_DAY)])
