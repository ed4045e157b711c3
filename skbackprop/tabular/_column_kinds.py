"""Kinds of columns: number, category, text, date and others, inferred or given."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral
from typing import Any

import numpy as np

from .._sklearn import _check_categorical_features
from ._dates import parse_iso_date
from ._object_values import find_role, is_missing
from ._read_table import Kind, SparseColumns, TableColumns
from ._text import parse_number

# The kinds of columns that `column_kinds` may name.
VALID_KINDS: tuple[Kind, ...] = ("number", "category", "text", "date", "time", "duration")

# The kinds of columns that are read as one number.
NUMERIC_KINDS = ("number", "numeric_string", "duration")


def find_kinds(
    columns: TableColumns, categorical_features: Any, column_kinds: Mapping[Any, Kind]
) -> list[Kind]:
    """Return the kind of each column.

    `column_kinds` comes first, then `categorical_features`, and then the values.

    Raises
    ------
    ValueError
        If a column can't be of the given kind, or is categorical without being named.
    """
    by_dtype = isinstance(categorical_features, str)
    is_category = np.zeros(columns.n_columns, dtype=bool)
    if not by_dtype:
        given = _check_categorical_features(columns.table, categorical_features)
        is_category = is_category if given is None else given
    given_kinds = _kinds_by_position(column_kinds, columns)
    kinds: list[Kind] = []
    for column in range(columns.n_columns):
        given_kind = given_kinds.get(column, "category" if is_category[column] else None)
        if given_kind == "category":
            kinds.append("category")
            continue
        kind = columns.kind(column)
        if given_kind is not None:
            kind = _override_kind(columns, column, kind, given_kind)
        elif kind == "category" and not by_dtype:
            raise ValueError(
                f"{columns.label(column)} is not numeric, but is not among the "
                f"categorical_features={categorical_features!r}. Add it, convert it to numbers, or "
                'set categorical_features="from_dtype" to treat all such columns as categories.'
            )
        kinds.append(kind)
    return kinds


def _kinds_by_position(column_kinds: Mapping[Any, Kind], columns: TableColumns) -> dict[int, Kind]:
    """Return `column_kinds` by the positions of columns."""
    names = None if columns.names is None else list(columns.names)
    by_position: dict[int, Kind] = {}
    for key, kind in column_kinds.items():
        if kind not in VALID_KINDS:
            raise ValueError(
                f"column_kinds must map each column to one of {list(VALID_KINDS)}, got {kind!r} "
                f"for the column {key!r}."
            )
        if names is not None and key in names:
            by_position[names.index(key)] = kind
        elif isinstance(key, Integral) and 0 <= int(key) < columns.n_columns:
            by_position[int(key)] = kind
        else:
            known = f"0 to {columns.n_columns - 1}" if names is None else f"{names}"
            raise ValueError(
                f"column_kinds must name columns of X, got {key!r}. The columns are {known}."
            )
    return by_position


def _override_kind(columns: TableColumns, column: int, kind: Kind, given: Kind) -> Kind:
    """Return the given kind of a column whose values are of another; raise if it can't be."""
    if given == kind or (given == "number" and kind in NUMERIC_KINDS):
        return kind
    label = columns.label(column)
    is_string = kind in ("category", "text", "date", "numeric_string")
    if given == "text" and not isinstance(columns, SparseColumns):
        return "text"
    if given in ("number", "date") and is_string:
        known = [value for value in columns.values(column) if not is_missing(value)]
        strings = [value for value in known if isinstance(value, str)]
        if given == "number":
            if not all(math.isnan(parse_number(value)) for value in strings):
                return "numeric_string"
        elif all(
            find_role(type(value)) == "date"
            or (isinstance(value, str) and (value.isspace() or not value or parse_iso_date(value)))
            for value in known
        ):
            return "date"
    raise ValueError(
        f"{label} can't be of the kind {given!r} that column_kinds gives: its values are of the "
        f"kind {kind!r}. Numbers may be strings such as '1,234' or '12 %', and dates strings in "
        "ISO 8601 format such as '2024-12-31'. Convert the column, or remove it from column_kinds."
    )
