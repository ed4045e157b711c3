"""Checks of targets, sample weights and groups."""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

import numpy as np
from scipy.sparse import issparse
from sklearn.utils.validation import assert_all_finite, check_array, column_or_1d

from ..losses.base import Loss
from ..utils.arrays import Array, as_dense, count_rows

FLOATS = (np.float64, np.float32)


def check_no_missing(y: Any, kind: str = "labels", name: str = "Input y") -> Any:
    """Return y after a check for missing values and lists.

    Errors call the values of y `kind`, and y `name`. A list with strings becomes an array of
    objects, since NumPy would convert the 1 in ``[1, "a"]``, or a NaN, to a string.
    """
    if y is None or issparse(y):
        return y
    values = _to_array(y)
    if values.dtype == object and values.ndim == 1:
        _reject_lists(values, kind, name)
    if values.dtype.kind == "U" and not (hasattr(y, "dtype") or hasattr(y, "dtypes")):
        y = values = np.asarray(y, dtype=object)
    if values.dtype == object and any(map(_is_missing, values.flat)):
        raise ValueError(f"{name} contains missing {kind} (None or NaN). Remove or replace them.")
    return y


def _to_array(y: Any) -> Array:
    """Return y as an array, of lists if they have several lengths."""
    try:
        return np.asarray(y)
    except ValueError:
        return np.fromiter(y, dtype=object)


def _reject_lists(values: Array, kind: str, name: str) -> None:
    """Raise a ValueError if an array of objects contains a list, a set or an array."""
    for row, value in enumerate(values):
        if isinstance(value, (list, tuple, set, frozenset, np.ndarray)):
            advice = "Pass the same number of values for each row."
            if kind == "labels":
                advice = (
                    "For several labels of a row, convert y to zeros and ones by "
                    "sklearn.preprocessing.MultiLabelBinarizer(), and use BackpropClassifier."
                )
            raise ValueError(f"{name} contains {value!r} in row {row}. {advice}")


def _is_missing(label: Any) -> bool:
    """Return whether a label or value is None, NaN or pandas' NA."""
    is_nan = isinstance(label, Real) and label != label
    return label is None or is_nan or type(label).__name__ == "NAType"


def unify_label_dtype(labels: Array, name: str) -> Array:
    """Convert labels that are objects to strings or to numbers; errors call them `name`."""
    if labels.dtype != object:
        return labels
    are_strings = np.fromiter((isinstance(label, str) for label in labels), bool, len(labels))
    if are_strings.any() and not are_strings.all():
        string, number = labels[are_strings.argmax()], labels[are_strings.argmin()]
        raise ValueError(
            f"{name} must contain only strings or only numbers in each column, got {string!r} and "
            f"{number!r}. Convert the labels to one type."
        )
    return np.array(labels.tolist())


def validate_labels(y: Any) -> Array:
    """Return one column of labels without missing values."""
    values = np.asarray(check_no_missing(y))
    if values.ndim == 2 and values.shape[1] > 1:
        raise ValueError(
            f"y must be one column of labels, a 1d array, got the shape {values.shape}. Fit a "
            "classifier for each column, by sklearn.multioutput.MultiOutputClassifier(estimator)."
        )
    labels = np.asarray(column_or_1d(y, warn=True))
    if labels.dtype.kind == "f":
        assert_all_finite(labels, input_name="y")
    return labels


def validate_numbers(y: Any) -> Array:
    """Return targets as finite float64: of shape (n,), or of several targets (n, n_targets)."""
    y = check_no_missing(y, "values")
    values = np.asarray(y)
    has_several = values.ndim == 2 and values.shape[1] > 1
    numbers = as_numbers(values if has_several else column_or_1d(y, warn=True)).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # the check sums all values
        assert_all_finite(numbers, input_name="y")
    return numbers


def as_numbers(y: Any) -> Array:
    """Return an array of finite numbers; objects and strings are converted if possible."""
    y = as_dense(y)
    if y.dtype.kind in "biuf" and y.dtype.itemsize <= 8:
        return np.asarray(y)
    if y.dtype.kind in "mM":
        raise ValueError(f"y must contain numbers, got dates or durations ({y.dtype}).")
    try:
        with np.errstate(over="ignore"):
            numbers = np.asarray(y.astype(np.float64))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"y must contain numbers: {error}.") from error
    assert_all_finite(numbers, input_name="y")
    return numbers


def replace_missing_targets(y: Any) -> tuple[Any, Array | None]:
    """Return y with 0 for NaN and None, and where they were; None if there are none.

    Raises
    ------
    ValueError
        If all targets of a row are missing.
    """
    values = _to_array(y)
    if values.ndim not in (1, 2) or values.dtype.kind not in "fO":
        return y, None
    is_float = values.dtype.kind == "f"
    is_missing = np.isnan(values) if is_float else np.vectorize(_is_missing, "?")(values)
    if not is_missing.any():
        return y, None
    is_empty = is_missing.reshape(len(values), -1).all(axis=1)
    if is_empty.any():
        raise ValueError(
            f"Input y contains NaN or None: row {is_empty.argmax()} has no target. Remove rows "
            "without a target."
        )
    return np.where(is_missing, 0, values), is_missing


def check_targets(y: Any, loss: Loss, subject: str = "targets y") -> None:
    """Check that all targets are in the range of a loss."""
    if not getattr(loss, "supports_predict_proba", True):
        raise ValueError(
            f"loss={loss!r} is a loss of classifiers, which does not predict {subject}. Use it in "
            "BackpropClassifier, or choose another loss."
        )
    minimum, maximum, (bound, upper, low_inclusive) = y.min(), y.max(), loss.interval_y_true
    if minimum < bound or (minimum == bound and not low_inclusive):
        sign, value = ">=" if low_inclusive else ">", minimum
    elif maximum > upper:
        sign, value, bound = "<=", maximum, upper
    else:
        return
    raise ValueError(
        f"loss={loss!r} needs {subject} {sign} {bound:g}, but {subject[-1]} contains {value:g}. "
        "Choose a loss for this range of targets, such as 'squared_error'."
    )


# --------------------------------------------------------------------------- weights, groups


def weigh_targets(
    y: Any, is_missing: Array | None, sample_weight: Any, X: Any
) -> tuple[Any, Array | None]:
    """Return numeric targets and their weights: of rows, or of each target if some are missing.

    Missing targets get the mean of their column and weight zero, so nothing depends on their value.
    """
    weight = validate_weight(sample_weight, X, y.shape[1] if y.ndim == 2 else 1)
    if is_missing is None:
        return y, weight
    weight = np.where(is_missing, 0, 1.0 if weight is None else weight.reshape(len(y), -1))
    y, is_measured = as_numbers(y), ~is_missing
    n_measured = is_measured.sum(axis=0)
    means = (y / np.maximum(n_measured, 1)).sum(axis=0, where=is_measured)
    # A column without values gets one that the loss accepts.
    return np.where(is_missing, np.where(n_measured, means, y[is_measured][0]), y), weight


def validate_weight(
    sample_weight: Any, X: Any, n_targets: int = 1, *, may_be_zero: bool = False
) -> Array | None:
    """Return non-negative float64 weights for the rows of X, or for their targets; None for None.

    With `may_be_zero` all weights may be zero, as in a block of rows.
    """
    if sample_weight is None:
        return None
    n_rows = count_rows(X)
    if isinstance(sample_weight, Real):
        sample_weight = np.full(n_rows, sample_weight, dtype=np.float64)
    weight: Array = check_array(
        sample_weight,
        dtype=np.float64,
        order="C",
        ensure_2d=False,
        ensure_min_samples=0,
        input_name="sample_weight",
    )
    if weight.ndim != 1 and n_targets == 1:
        raise ValueError(
            f"Sample weights must be 1D array or scalar, got an array of shape {weight.shape}."
        )
    if weight.shape not in ((n_rows,), (n_rows, n_targets)):
        per_target = "" if n_targets == 1 else f", or {n_rows, n_targets}: one for each target"
        raise ValueError(
            f"sample_weight.shape == {weight.shape}, expected {(n_rows,)}: one for each row of "
            f"X{per_target}."
        )
    if (weight < 0).any():
        raise ValueError(f"Negative values in data passed to sample_weight: {weight.min():.3g}.")
    with np.errstate(over="ignore"):
        total = weight.sum()
    if not (total or may_be_zero):
        raise ValueError("sample_weight must contain at least one weight above zero.")
    if not np.isfinite(total):
        raise ValueError(
            "The sum of sample_weight must be finite, but its largest value is "
            f"{weight.max():.3g}. Scale the weights, for example to a mean of one."
        )
    return weight


def validate_groups(groups: Any, n_rows: int, min_groups: int = 2) -> Array:
    """Return the groups of n rows as integers from 0 on, of at least `min_groups` groups."""
    values = np.asarray(check_no_missing(groups, "values", "groups"))
    if values.shape not in ((n_rows,), (n_rows, 1)):
        raise ValueError(
            f"groups must have one value for each of the {n_rows} rows of X, got an array of shape "
            f"{values.shape}."
        )
    values = values.ravel()
    if values.dtype.kind in "fmM" and np.isnan(values).any():
        raise ValueError("groups contains missing values. Give these rows a group, or remove them.")
    _, codes = np.unique(unify_label_dtype(values, "groups"), return_inverse=True)
    if codes.max() + 1 < min_groups:
        raise ValueError(
            f"groups must contain at least {min_groups} different groups, one to train on and one "
            f"to hold out, got only {values[:1].tolist()[0]!r}."
        )
    return np.asarray(codes)


# ---------------------------------------------------------------------------- plain arrays


def is_plain_target(y: Any, n_rows: int, numeric: bool) -> bool:
    """Return whether y is an array of one or several columns that needs no conversion."""
    return (
        type(y) is np.ndarray
        and y.shape[:1] == (n_rows,)
        and (y.ndim == 1 or (y.ndim == 2 and y.shape[1] > 1))
        and (y.dtype.type in FLOATS and is_finite(y) if numeric else y.dtype.kind in "biuU")
    )


def is_finite(values: Array) -> bool:
    """Return whether the sum of floats, and so each of them, is finite.

    It is also False if the sum of finite values overflows.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(values.sum())
