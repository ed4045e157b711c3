"""Formats of strings: how a column writes its numbers or dates.

A format holds for a column as a whole. It is found in `fit`, and reads the strings of new rows.
"""

from __future__ import annotations

import datetime
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple, Self, TypeAlias

# Strings that stand for a missing value in columns of numbers and dates, in lower case.
_MISSING_WORDS = {
    *("", "-", "--", "\N{EN DASH}", "\N{EM DASH}", ".", "..", "?", "na", "n/a", "n.a.", "<na>"),
    *("nan", "nat", "null", "(null)", "none", r"\n", "0000-00-00", "0000-00-00 00:00:00"),
    *("#n/a", "#nv", "#div/0!", "#value!", "#wert!", "#valeur!", "#num!", "#ref!", "#name?"),
}

# A format is tried on at most this number of strings, more than half of which must fit.
_N_SAMPLED = 1000


def is_missing_word(text: str) -> bool:
    """Return whether a string stands for a missing value in a column of numbers or dates."""
    return text.strip().casefold() in _MISSING_WORDS


# ---------------------------------------------------------------------------- numbers

_UNIT = (
    r"%|[A-Z]{0,3}\s?[$€£¥₹₩₽₺₴₪₫₱₦฿]|AUD|BRL|CAD|CHF|CNY|CZK|DKK|EUR|GBP|HUF|INR|JPY|KRW|MXN|NOK|NZD"
    r"|PLN|SEK|TRY|USD|ZAR|Fr\.|kr\.?|Kč|Rs\.?|zł"
)

# The signs that a number may have before and after it.
_SIGNS = ("", "+", "-", "\N{MINUS SIGN}", "()")

# Most numbers, which are parsed in a third of the time.
_PLAIN_NUMBER = re.compile(r"-?(?:[1-9][0-9]{0,2}(?:,[0-9]{3})+|0|[1-9][0-9]*)(?:\.[0-9]+)?")


@cache
def _number_pattern(decimal: str) -> re.Pattern[str]:
    """Return the pattern of numbers. Codes such as 007 may have leading zeros, numbers have none.

    Its groups are the sign, a unit, the sign, the whole number and its separator of thousands, the
    fraction, the exponent, a unit, and the sign. Parentheses are signs.
    Spaces are never given back (*+), which would take forever in strings that begin with many.
    """
    separators = rf"[{'.,'.replace(decimal, '')}'\N{{RIGHT SINGLE QUOTATION MARK}}\s]"
    whole = rf"[1-9][0-9]{{0,2}}(?:({separators})[0-9]{{3}})(?:\5[0-9]{{3}})*|0|[1-9][0-9]*|"
    if decimal == ".":  # lakhs and crores
        whole = f"[1-9][0-9]?(?:,[0-9]{{2}})+,[0-9]{{3}}|{whole}"
    sign = r"([+\-\N{MINUS SIGN}(]?)"
    return re.compile(
        rf"\s*+{sign}\s*+({_UNIT}|)\s*+{sign}({whole})(?:{re.escape(decimal)}([0-9]*))?"
        rf"([eE][+-]?[0-9]+|)\s*+({_UNIT}|)\s*+([)-]?)\s*+"
    )


@dataclass(frozen=True)
class NumberFormat:
    """Format of numbers in strings.

    Thousands may be separated by spaces, apostrophes, and points or commas, and by commas as in
    India. Accountants write negative numbers in parentheses, and zero as a currency and a dash.
    Banks write the minus after the decimals.

    Parameters
    ----------
    decimal : {".", ","}
        The decimal mark.
    unit : str
        The currency that numbers may have, the percent sign that all must have, or "".
    """

    decimal: str = "."
    unit: str = ""

    def __str__(self) -> str:
        mark = "point" if self.decimal == "." else "comma"
        return f"numbers with a decimal {mark}{self.unit and f' in {self.unit}'}"

    def parse(self, text: str) -> float | None:
        """Return the number in a string, or None."""
        if self.decimal == "." and self.unit != "%" and _PLAIN_NUMBER.fullmatch(text):
            return float(text.replace(",", ""))
        match = _number_pattern(self.decimal).fullmatch(text)
        if match is None:
            return None
        sign, before, later_sign, whole, separator, fraction, *others = match.groups()
        exponent, after, last_sign = others
        if not (whole or fraction):
            return 0.0 if before and before == self.unit and later_sign == "-" else None
        signs = sign + later_sign + last_sign
        if signs not in _SIGNS or (last_sign == "-" and not fraction):  # the grade 2- is no number
            return None
        if (before + after or self.unit.strip("%")) != self.unit or (separator and exponent):
            return None
        digits = whole.replace(separator or ",", "")
        number = float(f"{digits}.{fraction or ''}{exponent}") / (100 if self.unit == "%" else 1)
        return number if signs in ("", "+") else -number

    @classmethod
    def candidates(cls, strings: Sequence[str], sample: Sequence[str]) -> Iterable[Self]:
        """Return the formats that strings may have, with the most frequent unit."""
        has_marks = any("," in text or "." in text for text in strings)
        for decimal in ".," if has_marks else ".":
            matches = map(_number_pattern(decimal).fullmatch, sample)
            units = Counter(match[2] or match[8] for match in matches if match)
            units[""] *= "%" in units  # numbers without a currency have that of the others
            yield cls(decimal, max(units, key=units.__getitem__))

    def is_ambiguous(self, strings: Sequence[str], numbers: Sequence[Any]) -> bool:
        """Return whether strings that fit with both decimal marks may have the other one.

        In a column with thousands, smaller numbers have no mark. A column with three decimals has
        a mark in each number, or drops zeros at the end, but not all of them end in zero.
        """
        by_text = dict(zip(strings, numbers, strict=True))
        plain = [x or 0 for text, x in by_text.items() if not {",", "."} & {*text}]
        has_thousands = bool(plain) and max(map(abs, plain)) < 1000
        if any("," in text for text in strings):
            return not has_thousands and any(text[-1] != "0" for text in strings)
        return has_thousands and any("." in text and text[-1] == "0" for text in strings)


# ------------------------------------------------------------------------------ dates

# The months in English, German and French. A name may be abbreviated to three letters or more.
_MONTHS = {
    name[:length]: month
    for month, names in enumerate(
        [
            "january januar janvier jänner",
            "february februar février",
            "march märz mrz mars",
            "april avril",
            "may mai",
            "june juni juin",
            "july juli juillet",
            "august août",
            "september septembre",
            "october oktober octobre",
            "november novembre",
            "december dezember décembre",
        ],
        start=1,
    )
    for name in names.split()
    for length in range(3, len(name) + 1)
}

_NAME = r"[^\W\d_]{3,}\.?"
_SEPARATOR = r"(?:st|nd|rd|th|er)?(\s*[-/.,]\s*|\s+|(?<=[0-9])(?=[a-z])|(?<=[a-z])(?=[0-9]))"
_DATE = re.compile(
    rf"\s*([0-9]{{1,4}}|{_NAME}){_SEPARATOR}([0-9]{{1,2}}|{_NAME}){_SEPARATOR}([0-9]{{1,4}})"
    r"(?:[T,:\s]\s*([0-9]{1,2}):([0-9]{2})(?::([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r"\s*(?:([ap])\.?m\.?)?\s*(?:Z|UTC|GMT|Uhr|[+-][0-9]{2}(?::?[0-9]{2}){0,2})?)?\s*",
    re.IGNORECASE,
)
# Years of two digits from this one on are of the last century.
_FIRST_YEAR = 69


@dataclass(frozen=True)
class DateFormat:
    """Format of dates in strings, with or without a time of day, whose time zone is ignored.

    Parameters
    ----------
    order : {"ymd", "dmy", "mdy", "ybd", "dby", "bdy"}
        The order of year, month and day; "b" stands for a month by name.
    separators : tuple of two str
        The marks between them.
    """

    order: str = "ymd"
    separators: tuple[str, str] = ("-", "-")

    def __str__(self) -> str:
        first, second, third = (
            {"y": "year", "d": "day"}.get(letter, "month") for letter in self.order
        )
        before, after = (mark + " " * (mark == ",") for mark in self.separators)
        return f"dates of the form {first}{before}{second}{after}{third}"

    def parse(self, text: str) -> datetime.datetime | None:
        """Return the date in a string, or None."""
        if self.order == "ymd" and text[4:5] == text[7:8] == self.separators[0] == "-":
            with suppress(ValueError):  # takes a fifth of the time
                return datetime.datetime.fromisoformat(text).replace(tzinfo=None)
        match = _DATE.fullmatch(text)
        if match is None or _get_separators(match) != self.separators:
            return None
        parts = dict(zip(self.order, match.group(1, 3, 5), strict=True))
        year, day, hour = parts["y"], parts["d"], int(match[6] or 0)
        if len(year) != 4 and (len(year) != 2 or self.order[0] == "y"):
            return None
        is_german = self.separators[0] == "." and len(day) == len(parts.get("m", "")) == 2
        if len(year) == 2 and not ("b" in parts or "/" in self.separators or is_german):
            return None  # neither versions such as 1.2.10 nor parts of codes are dates
        if match[10]:
            if not 1 <= hour <= 12:
                return None
            hour = hour % 12 + 12 * (match[10] in "pP")
        try:
            century = 0 if len(year) == 4 else 1900 if int(year) >= _FIRST_YEAR else 2000
            month = _MONTHS[parts["b"].rstrip(".").casefold()] if "b" in parts else int(parts["m"])
            seconds, micros = int(match[8] or 0), int((match[9] or "")[:6].ljust(6, "0"))
            time = (hour, int(match[7] or 0), seconds, micros)
            return datetime.datetime(century + int(year), month, int(day), *time)
        except (KeyError, ValueError):
            return None

    @classmethod
    def candidates(cls, strings: Sequence[str], sample: Sequence[str]) -> Iterable[Self]:
        """Return the most frequent formats of strings, with the month before the day in doubt."""
        formats: Counter[Self] = Counter()
        for match in filter(None, map(_DATE.fullmatch, sample)):
            separators = _get_separators(match)
            if not match[1].isdecimal():
                orders = ["bdy"]
            elif not match[3].isdecimal():
                orders = ["ybd" if len(match[1]) == 4 else "dby"]
            elif len(match[1]) == 4:
                orders = ["ymd"]
            else:
                orders = ["mdy", "dmy"] if separators[0] in "-/" else ["dmy"]
            formats.update(cls(order, separators) for order in orders)
        return [item for item, _ in formats.most_common(3)]

    def is_ambiguous(self, strings: Sequence[str], dates: Sequence[Any]) -> bool:
        """Return True: dates that fit another format too may have that one."""
        return True


def _get_separators(match: re.Match[str]) -> tuple[str, str]:
    return match[2].strip() or " ", match[4].strip() or " "


# -------------------------------------------------------------------- choice of a format

Format: TypeAlias = NumberFormat | DateFormat


class FormatFit(NamedTuple):
    """The best format, the strings that do not fit it, and another one that fits as well."""

    format: Format
    misfits: list[str]
    other: Format | None


def find_format(
    strings: Sequence[str], kinds: Sequence[type[Format]], min_fit: float = 0.5
) -> FormatFit | None:
    """Return the format that fits the largest share of distinct strings, above the minimum."""
    sample = strings[:: len(strings) // _N_SAMPLED + 1] if min_fit else strings
    best, best_values = None, list[Any]()
    for item in (candidate for kind in kinds for candidate in kind.candidates(strings, sample)):
        n_fitting = sum(item.parse(text) is not None for text in sample)
        if n_fitting <= min_fit * len(sample):
            continue
        values = [item.parse(text) for text in strings]
        misfits = [text for text, value in zip(strings, values, strict=True) if value is None]
        if best is None or len(misfits) < len(best.misfits):
            best, best_values = FormatFit(item, misfits, None), values
        elif (
            (type(item), len(misfits)) == (type(best.format), len(best.misfits))
            and values != best_values
            and best.format.is_ambiguous(strings, best_values)
        ):
            best = best._replace(other=item)
    return best


def parse_strings(values: Sequence[Any], form: Format) -> tuple[list[Any], dict[str, int]]:
    """Return values with parsed strings, and how often each string occurs that does not fit.

    Strings without a number or date become None.
    """
    counts = Counter(value for value in values if isinstance(value, str))
    parsed = {text: form.parse(text) for text in counts}
    misfits = {
        text: counts[text]
        for text, value in parsed.items()
        if value is None and not is_missing_word(text)
    }
    return [parsed[x] if isinstance(x, str) else x for x in values], misfits
