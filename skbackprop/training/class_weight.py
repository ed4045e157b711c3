"""Class weights: validation, and the sample weights that they imply.

Numbers are checked with the parameters, classes with the labels. After that, class weights are
sample weights, and training does not know of classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from numbers import Real
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from ..utils.arrays import Array

BALANCED = "balanced"
"""The name of weights with which all classes count the same."""

ClassWeight: TypeAlias = Literal["balanced"] | Mapping[Any, float]
"""The weights of the classes of one column."""


class EncodedLabels(NamedTuple):
    """The labels of one column, as integer codes.

    Parameters
    ----------
    name : str
        The name of the column, for errors.
    classes : array of shape (n_classes,)
        The possible labels.
    codes : array of int of shape (n,)
        The position of each row's label in `classes`.
    """

    name: str
    classes: Array
    codes: Array


def validate_class_weight(class_weight: Any) -> Any:
    """Validate `class_weight` and return a copy with plain labels and floats.

    Raises
    ------
    ValueError
        If a weight is not a finite number, or is negative.
    """
    if isinstance(class_weight, list):
        return [_check_column(each, f"class_weight[{i}]") for i, each in enumerate(class_weight)]
    return _check_column(class_weight, "class_weight")


def _check_column(weights: Any, name: str) -> Any:
    """Validate the weights of one column and return a copy."""
    if weights is None or (isinstance(weights, str) and weights == BALANCED):
        return weights
    if not isinstance(weights, dict):
        raise ValueError(
            f'{name} must be a dict of class weights, "balanced" or None, got {weights!r}.'
        )
    checked = {}
    for label, weight in weights.items():
        number = math.nan
        if isinstance(weight, Real) and not isinstance(weight, bool):
            with suppress(OverflowError):  # of an integer too large for a float
                number = float(weight)
        if not 0 <= number < math.inf:
            raise ValueError(
                f"{name} must contain a finite, non-negative number for each class, got {weight!r} "
                f"for the class {label!r}."
            )
        checked[label.item() if isinstance(label, np.generic) else label] = number
    return checked


def reject_balanced(class_weight: Any) -> None:
    """Reject "balanced" weights in `partial_fit`.

    Raises
    ------
    ValueError
        If weights are "balanced": they depend on the number of rows of each class.
    """
    each = class_weight if isinstance(class_weight, list) else [class_weight]
    if BALANCED in each:
        raise ValueError(
            f"class_weight={class_weight!r} needs the number of rows in each class, but "
            "partial_fit gets only a part of the rows. Compute the weights once, from all labels "
            "or from a large sample, and pass them as a dict: weights = "
            "compute_class_weight('balanced', classes=classes, y=y), imported from "
            "sklearn.utils.class_weight, and class_weight=dict(zip(classes, weights))."
        )


def compute_sample_weight(
    class_weight: Any,
    columns: Sequence[EncodedLabels],
    has_several_columns: bool,
    weight: Array | None,
) -> Array:
    """Return the weight of each row: its own times the weights of its classes in all columns.

    Parameters
    ----------
    class_weight : dict, "balanced", or list of these and None
        The weights, as `validate_class_weight` returns them.
    columns : sequence of EncodedLabels
        The labels.
    has_several_columns : bool
        Whether y is a matrix, so that a list has an entry for each column.
    weight : array of shape (n,) or None
        The rows' own weights, which also count for "balanced"; None for ones.

    Raises
    ------
    ValueError
        If a label is no class, if the number of entries is not that of the columns, if no row is
        left with a weight, or if the sum of the weights overflows.
    """
    of_classes = class_weights_by_column(class_weight, columns, has_several_columns, weight)
    with np.errstate(over="ignore", invalid="ignore"):
        of_rows = apply_class_weight(of_classes, columns, weight)
        total = of_rows.sum()
    check_total_weight(total, class_weight, columns, weight)
    return of_rows


def class_weights_by_column(
    class_weight: Any,
    columns: Sequence[EncodedLabels],
    has_several_columns: bool,
    weight: Array | None,
) -> list[Array]:
    """Return the class weights of each column, for the arguments of `compute_sample_weight`."""
    is_list = isinstance(class_weight, list)
    if is_list and not has_several_columns:
        raise ValueError(
            "class_weight must be a dict, 'balanced' or None for a y with one column of labels, "
            f"got {class_weight!r}. The keys of the dict are the classes {columns[0].classes}."
        )
    if is_list and len(class_weight) != len(columns):
        raise ValueError(
            f"class_weight must have one entry for each of the {len(columns)} columns of y, got "
            f"{len(class_weight)} in {class_weight!r}. Pass a dict, 'balanced' or None for each "
            "column."
        )
    if isinstance(class_weight, dict) and has_several_columns:
        raise ValueError(
            f"class_weight must be 'balanced' or a list for a y with {len(columns)} columns, got "
            f"{class_weight!r}. Pass a list with a dict, 'balanced' or None for each column. For a "
            "label of a 0/1 matrix, the dict has the keys 0 (absent) and 1 (present)."
        )
    each = class_weight if is_list else [class_weight] * len(columns)
    pairs = zip(each, columns, strict=True)
    return [compute_class_weight(own, column, weight) for own, column in pairs]


def apply_class_weight(
    of_classes: Sequence[Array], columns: Sequence[EncodedLabels], weight: Array | None
) -> Array:
    """Return the weight of each row, given the class weights of each column."""
    pairs = zip(of_classes, columns, strict=True)
    of_rows: Array = np.prod([own[column.codes] for own, column in pairs], axis=0)
    if weight is not None:
        of_rows *= weight
    return of_rows


def compute_class_weight(weights: Any, column: EncodedLabels, weight: Array | None) -> Array:
    """Return the weight of each class of a column, for validated weights.

    "balanced" is n / (n_classes * n_c) for a class with n_c of n rows, counted by weight. Rows of
    weight zero, and classes with no other rows, do not count.
    """
    of_classes = np.ones(len(column.classes))
    if weights == BALANCED:
        counts = np.bincount(column.codes, weights=weight, minlength=len(column.classes))
        is_present = counts > 0
        counts = counts[is_present]
        of_classes[is_present] = counts.sum() / (len(counts) * counts)
        return of_classes
    positions = {label: i for i, label in enumerate(column.classes.tolist())}
    unknown = [label for label in weights or () if label not in positions]
    if unknown:
        raise ValueError(
            f"class_weight must contain only classes of {column.name}, got {unknown}. The classes "
            f"are {column.classes}."
        )
    for label, own in (weights or {}).items():
        of_classes[positions[label]] = own
    return of_classes


def check_total_weight(
    total: float, class_weight: Any, columns: Sequence[EncodedLabels], weight: Array | None
) -> None:
    """Check that the sum of the row weights is finite and not zero."""
    if total > 0 and np.isfinite(total):
        return
    by_rows = "" if weight is None else " and sample_weight"
    if total == 0:
        present = [np.unique(column.classes[column.codes]).tolist() for column in columns]
        raise ValueError(
            f"class_weight={class_weight!r}{by_rows} must give at least one row a positive weight, "
            f"but y contains only {present[0] if len(present) == 1 else present}. Give one of "
            "these classes a positive weight."
        )
    raise ValueError(
        f"class_weight={class_weight!r}{by_rows} make row weights with a sum that is too large for "
        "a float. Scale the weights down."
    )
