"""Class weights: validation, and the sample weights that they imply.

The numbers are validated with the parameters, the classes with y. Class weights then become
sample weights, so training handles only sample weights.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from numbers import Real
from typing import Any, Literal, TypeAlias

import numpy as np

from ..utils.arrays import Array

BALANCED = "balanced"
"""The name of the weights that give all classes the same total weight."""

ClassWeight: TypeAlias = Literal["balanced"] | Mapping[Any, float]
"""The weights of the classes."""


def validate_class_weight(class_weight: Any) -> Any:
    """Validate `class_weight` and return a copy with plain labels and floats.

    Raises
    ------
    ValueError
        If a weight is not a finite number, or is negative.
    """
    if isinstance(class_weight, str):
        return class_weight
    weights = {}
    for label, weight in class_weight.items():
        number = math.nan
        if isinstance(weight, Real) and not isinstance(weight, bool):
            with suppress(OverflowError):  # an integer may be too large for a float
                number = float(weight)
        if not 0 <= number < math.inf:
            raise ValueError(
                "class_weight must contain a finite, non-negative number for each class, got "
                f"{weight!r} for the class {label!r}."
            )
        weights[label.item() if isinstance(label, np.generic) else label] = number
    return weights


def compute_sample_weight(
    class_weight: Any, classes: Array, codes: Array, weight: Array | None
) -> Array:
    """Return the weight of each row: the product of its sample weight and its class weights.

    Parameters are those of `compute_class_weight`.

    Raises
    ------
    ValueError
        If `compute_class_weight` raises it, if no row is left with a weight, or if the sum of the
        weights overflows.
    """
    class_weights = compute_class_weight(class_weight, classes, codes, weight)
    columns = zip(class_weights, codes.T, strict=True)
    with np.errstate(over="ignore", invalid="ignore"):
        row_weights: Array = np.prod([weights[column] for weights, column in columns], axis=0)
        if weight is not None:
            row_weights *= weight
        total = row_weights.sum()
    check_total_weight(total, class_weight, weight)
    return row_weights


def compute_class_weight(
    class_weight: Any, classes: Array, codes: Array, weight: Array | None
) -> Array:
    """Return the weight of each class in each column: shape (n_columns, n_classes).

    "balanced" is n / (n_classes * n_c) for a class with n_c of n rows, counted by weight. Rows of
    weight zero, and classes with no other rows, do not count.

    Parameters
    ----------
    class_weight : dict or "balanced"
        The weights, as `validate_class_weight` returns them.
    classes : array of shape (n_classes,)
        The possible labels.
    codes : array of int of shape (n, n_columns)
        The position of each label in `classes`. Only a 0/1 matrix has several columns.
    weight : array of shape (n,) or None
        The sample weights; None for ones.

    Raises
    ------
    ValueError
        If a label of the dict is no class, or if a dict is given for several columns.
    """
    if class_weight == BALANCED:
        class_weights = np.ones((codes.shape[1], len(classes)))
        for weights, column in zip(class_weights, codes.T, strict=True):
            totals = np.bincount(column, weights=weight, minlength=len(classes))
            nonzeros = totals[totals > 0]
            weights[totals > 0] = nonzeros.sum() / (len(nonzeros) * nonzeros)
        return class_weights
    if codes.shape[1] > 1:
        raise ValueError(
            "class_weight must be 'balanced' or None for a 0/1 matrix y, got "
            f"{class_weight!r}. To weight the labels of each column, pass sample_weight="
            "sklearn.utils.class_weight.compute_sample_weight([...], y), with a dict of the "
            "classes 0 and 1 for each column."
        )
    labels = classes.tolist()
    unknown_labels = [label for label in class_weight if label not in labels]
    if unknown_labels:
        raise ValueError(
            f"class_weight must contain only classes of `y`, got {unknown_labels}. The classes are "
            f"{classes}."
        )
    return np.array([[class_weight.get(label, 1.0) for label in labels]])


def check_total_weight(total: float, class_weight: Any, weight: Array | None) -> None:
    """Check that the sum of the row weights is finite and not zero."""
    if total > 0 and np.isfinite(total):
        return
    suffix = "" if weight is None else " and sample_weight"
    if total == 0:
        raise ValueError(
            f"class_weight={class_weight!r}{suffix} must give at least one row a positive weight. "
            "Give a class of y a positive weight."
        )
    raise ValueError(
        f"class_weight={class_weight!r}{suffix} make row weights with a sum that is too large for "
        "a float. Scale the weights down."
    )
