"""Checks of X, y and sample weights: scikit-learn's, with a short cut for plain arrays.

scikit-learn's checks cost more than a step of a small network, and more than the prediction of
one row. A plain NumPy array that needs no conversion passes them all if it has the right width
and only finite values, so those two questions are asked directly.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from numbers import Real
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_classifier, is_regressor
from sklearn.utils.validation import (
    assert_all_finite,
    check_array,
    column_or_1d,
    validate_data,
)

from .._sklearn import _check_sample_weight
from ..losses.base import Loss
from ..utils.arrays import Array, as_dense, max_abs

_FLOATS = (np.float64, np.float32)


Estimator = TypeVar("Estimator")


def bare_clone(estimator: Estimator) -> Estimator:
    """Return an estimator that scikit-learn's checks may write to, in place of the one given."""
    other = object.__new__(type(estimator))
    vars(other).update(vars(estimator))
    return other


@contextmanager
def prefix_errors(name: str) -> Iterator[None]:
    """Let the errors of checks say which arguments they are about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def check_scalar_score(score: Any, scoring: Any) -> float:
    """Return a score as a float, checked."""
    if not isinstance(score, Real) or isinstance(score, bool):
        raise ValueError(
            f"scoring={scoring!r} of EarlyStopping returned {score!r}, but has to return a number "
            "that rises as the predictions get better."
        )
    return float(score)


def validated_input(estimator: Any, X: Any, dtype: np.dtype[np.floating]) -> Any:
    """Return X as a finite float array or CSR matrix with the features of the training data."""
    X = validated_features(estimator, X, reset=False)
    check_range(X, dtype)
    return X


def validated_features(estimator: Any, X: Any, reset: bool) -> Any:
    """Return checked X; with `reset` the estimator takes note of the features."""
    if not reset and _is_plain_input(estimator, X):
        return X
    _check_for_dates(X, "X")
    reject_masked_or_structured(X, "X")
    with _checks_of(estimator, X):
        return validate_data(estimator, X, accept_sparse="csr", reset=reset, **_asked_of(X))


def validate_latent(codes: Any, n_components: int, dtype: np.dtype[np.floating]) -> Array:
    """Return codes as a finite float array with a column for each component."""
    reject_masked_or_structured(codes, "X")
    X: Array = check_array(codes, dtype=_FLOATS)
    if X.shape[1] != n_components:
        raise ValueError(
            f"X has {X.shape[1]} column(s), but the autoencoder was trained with "
            f"n_components={n_components}. Pass codes as transform returns them."
        )
    check_range(X, dtype)
    return X


def validated_data(estimator: Any, X: Any, y: Any, numeric: bool, reset: bool) -> tuple[Any, Any]:
    """Return checked X and y; with `reset` the estimator takes note of the features."""
    if not reset and _is_plain_input(estimator, X) and is_plain_target(y, len(X), numeric):
        return X, y
    _check_for_dates(X, "X")
    if numeric:
        y = np.asarray(y) if isinstance(y, (list, tuple)) else y
        _check_for_dates(y, "y")
    reject_masked_or_structured(X, "X")
    y = check_no_missing(y, "values" if numeric else "labels")
    y = as_dense(y) if getattr(y, "ndim", 2) == 1 else y
    with _checks_of(estimator, X):
        X, y = validate_data(
            estimator,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            reset=reset,
            **_asked_of(X),
        )
    if numeric:
        y = as_numbers(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(as_dense(y), warn=True)
    return X, y


@contextmanager
def _checks_of(estimator: Any, X: Any) -> Iterator[None]:
    """Let errors of scikit-learn's checks say which columns they are about, and what takes them."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # in the sum that tells finite numbers
            yield
    except (ValueError, TypeError) as error:
        said, hint = str(error), ""
        if said.startswith(_OF_TABLES):
            said, hint = said.partition("\n")[0], f"\n{_estimator_of_tables(estimator)}"
        names = getattr(X, "column_names", getattr(X, "columns", ()))  # pyarrow's, or of others
        at_fault = [repr(name) for name in names if not _holds_finite_numbers(X[name])]
        if at_fault:
            some = [*at_fault[:5], "..."] if len(at_fault) > 5 else at_fault
            hint += (
                f"\nMissing values, infinities or words are in these columns of X: "
                f"{', '.join(some)}."
            )
        if not hint:
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{said}{hint}") from None


# How errors begin that are about missing values, words and other objects: what a table may hold.
_OF_TABLES = (
    "Input X contains NaN",
    "could not convert string to float",
    "float() argument must be",
)


def _estimator_of_tables(estimator: Any) -> str:
    """Return which estimators take tables with missing values and categories."""
    name = type(estimator).__name__
    tabular = ""
    if is_classifier(estimator):
        tabular = "use TabularClassifier, or "
    elif is_regressor(estimator):
        tabular = "use TabularRegressor, or "
    return (
        f"{name} takes finite numbers. For tables with missing values or words {tabular}put "
        f"skbackprop.tabular.TableEncoder before {name} in a pipeline."
    )


def _holds_finite_numbers(column: Any) -> bool:
    values = np.asarray(column)
    try:
        numbers = values if values.dtype.kind == "c" else values.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return bool(np.isfinite(numbers).all())


def _asked_of(X: Any) -> dict[str, Any]:
    """Return what scikit-learn's checks are asked of the numbers in X, beside its shape.

    An array of numbers is left as it is, since it may be larger than memory: batches are converted.
    All else is made an array of floats.
    """
    if not isinstance(X, np.ndarray) or X.dtype.kind not in "biuf" or X.dtype.itemsize > 8:
        return {"dtype": _FLOATS}
    # What is found to be finite here needs no second look, which of some dtypes makes copies.
    return {"dtype": None, "ensure_all_finite": not _is_finite(X)}


def infer_dtype(X: Any) -> np.dtype[np.floating]:
    """Return the dtype that a network for X computes in: float32 if X has it, else float64."""
    is_single = X.dtype.kind == "f" and X.dtype.itemsize == 4
    return np.dtype(np.float32 if is_single else np.float64)


def _check_for_dates(values: Any, name: str) -> None:
    """Say so where dates would be taken for the nanoseconds that they are counted in."""
    dtypes = getattr(values, "dtypes", getattr(values, "dtype", None))
    for dtype in dtypes if isinstance(dtypes, Iterable) else [dtypes]:
        if _is_of_dates(dtype):
            raise ValueError(
                f"{name} holds dates or durations ({dtype}), which are no numbers to train on. "
                "Make numbers of a moderate size of them, such as days since a first date, or "
                "the month and the day of the week."
            )


def _is_of_dates(dtype: Any) -> bool:
    """Return whether a dtype of NumPy, pandas or polars is for dates, times or durations."""
    is_temporal = getattr(dtype, "is_temporal", None)  # polars
    return bool(is_temporal()) if is_temporal else getattr(dtype, "kind", None) in ("m", "M")


def reject_masked_or_structured(values: Any, name: str) -> None:
    """Say so where an array has a mask or fields, which NumPy would drop, or cannot convert."""
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name} has values that are masked, and so missing. Fill them in, or leave out their "
            "rows: NumPy would take what is behind the mask."
        )
    fields = getattr(getattr(values, "dtype", None), "names", None)
    if fields:
        raise ValueError(
            f"{name} is a structured array with the fields {fields}. Make columns of them, for "
            "example by numpy.lib.recfunctions.structured_to_unstructured."
        )


def check_no_missing(y: Any, what: str = "labels", name: str = "Input y") -> Any:
    """Return y, in which nothing is missing; `what` it holds and its `name` are for the error.

    Of a list NumPy makes words where it can: of the 1 in ``[1, "a"]``, and of a NaN. So a list with
    words comes back as an array of objects.
    """
    if y is None or issparse(y):
        return y
    reject_masked_or_structured(y, name)
    values = np.asarray(y)
    if values.dtype.kind == "U" and not (hasattr(y, "dtype") or hasattr(y, "dtypes")):
        y = values = np.asarray(y, dtype=object)
    if values.dtype == object:
        missing = np.fromiter(map(_is_missing, values.flat), bool, values.size)
        if missing.any():
            where = f" in column {missing.argmax() % values.shape[1]}" if values.ndim == 2 else ""
            raise ValueError(
                f"{name} contains missing {what} (None or NaN){where}. Remove or replace them."
            )
    return y


def unify_label_dtype(labels: Array, name: str) -> Array:
    """Return labels as words or as numbers where they are objects; `name` is for the error."""
    if labels.dtype != object:
        return labels
    are_words = np.fromiter((isinstance(label, str) for label in labels), bool, len(labels))
    if are_words.any() and not are_words.all():
        word, other = labels[are_words.argmax()], labels[are_words.argmin()]
        raise ValueError(
            f"{name} has words beside other labels, such as {word!r} and {other!r}. Make all "
            "labels of a column words, or all numbers."
        )
    return np.array(labels.tolist())


def _is_missing(label: Any) -> bool:
    """Return whether a label or value is None, NaN or pandas' NA."""
    is_nan = isinstance(label, Real) and label != label
    return label is None or is_nan or type(label).__name__ == "NAType"


def validated_labels(y: Any) -> Array:
    """Return the labels of one column, of which none is missing."""
    labels = column_or_1d(check_no_missing(y), warn=True)
    if labels.dtype.kind == "f":
        assert_all_finite(labels, input_name="y")
    return np.asarray(labels)


def validated_numbers(y: Any) -> Array:
    """Return the targets of one column as finite float64."""
    numbers = column_or_1d(check_no_missing(y, "values"), warn=True)
    _check_for_dates(numbers, "y")
    numbers = as_numbers(numbers).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # in the sum that tells finite numbers
        assert_all_finite(numbers, input_name="y")
    return numbers


def as_numbers(y: Any) -> Array:
    """Return an array of finite numbers: objects and words are made floats, if they can be."""
    y = as_dense(y)
    if y.dtype.kind in "biuf" and y.dtype.itemsize <= 8:
        return np.asarray(y)
    try:
        with np.errstate(over="ignore"):
            numbers = np.asarray(y.astype(np.float64))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"y must hold numbers: {error}.") from error
    assert_all_finite(numbers, input_name="y")
    return numbers


def check_targets(y: Any, loss: Loss, setting: Any, what: str = "targets y") -> None:
    """Check that a loss is defined for all targets; the `setting` that it stands for is named."""
    if not getattr(loss, "supports_predict_proba", True):
        raise ValueError(
            f"loss={setting!r} has decision values for labels, in place of predictions of {what}. "
            "Use it in BackpropClassifier, or choose another loss."
        )
    least, most, limit = y.min(), y.max(), loss.target_minimum
    if least < limit or (least == limit and not loss.includes_minimum):
        sign, found = ">=" if loss.includes_minimum else ">", least
    elif most > loss.target_maximum:
        sign, found, limit = "<=", most, loss.target_maximum
    else:
        return
    raise ValueError(
        f"loss={setting!r} needs {what} {sign} {limit:g}, but {what[-1]} contains {found:g}. "
        "Negative values in data, zeros or large ones are for other losses."
    )


CLASSES_BY_NAME = (
    "If classes were meant, pass them by name, partial_fit(X, y, classes=...): the third argument "
    "is sample_weight."
)


def validated_weight(
    sample_weight: Any, X: Any, *, may_be_zero: bool = False, may_be_classes: bool = False
) -> Array | None:
    """Return a float64 weight for each row of X, none negative; None for None.

    Not all are zero, unless they may be: of some rows among others. With `may_be_classes` errors
    say how classes are passed, which may have been given in the place of weights.
    """
    if sample_weight is None:
        return None
    if may_be_classes:
        try:
            return validated_weight(sample_weight, X, may_be_zero=may_be_zero)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{error}\n{CLASSES_BY_NAME}") from error
    reject_masked_or_structured(sample_weight, "sample_weight")
    weight: Array = _check_sample_weight(
        sample_weight,
        X,
        dtype=np.float64,
        ensure_non_negative=True,
        allow_all_zero_weights=may_be_zero,
    )
    with np.errstate(over="ignore"):
        total = weight.sum()
    if not np.isfinite(total):
        raise ValueError(
            f"sample_weight adds up to more than a float can hold: its largest value is "
            f"{weight.max():.3g}. Scale the weights down."
        )
    return weight


def validated_groups(groups: Any, n_rows: int, fewest: int = 2) -> Array:
    """Return the group of each of n rows as a number from 0 on, of so many groups at least."""
    values = np.asarray(check_no_missing(groups, "values", "groups"))
    if values.ndim == 0 or values.size != len(values):
        raise ValueError(
            f"groups must be an array of one axis, with a group for each of the {n_rows} rows of "
            f"X, but has the shape {values.shape}."
        )
    values = column_or_1d(values, warn=True)
    if len(values) != n_rows:
        raise ValueError(
            f"groups must name a group for each of the {n_rows} rows of X, but has {len(values)} "
            "values."
        )
    if values.dtype.kind in "fmM" and np.isnan(values).any():
        raise ValueError("groups contains missing values. Give each row a group, or remove it.")
    _, codes = np.unique(unify_label_dtype(values, "groups"), return_inverse=True)
    if codes.max() + 1 < fewest:
        raise ValueError(
            f"groups names the group {values[0]!r} alone, but at least 2 are needed: one to train "
            "on, and one to hold out. Leave groups out, or use rows of more groups."
        )
    return np.asarray(codes)


def check_range(X: Any, dtype: Any) -> None:
    """Check that X can be held in the model's dtype."""
    if X.dtype.itemsize > dtype.itemsize:
        largest = max_abs(X)
        if largest > float(np.finfo(dtype).max):
            raise ValueError(
                f"X contains {largest:.3g}, a value too large for the model's dtype {dtype.name}. "
                "Scale X, or use dtype='float64'."
            )


def _is_plain_input(estimator: Any, X: Any) -> bool:
    return (
        type(X) is np.ndarray
        and X.ndim == 2
        and X.dtype.type in _FLOATS
        and len(X) > 0
        and X.shape[1] == estimator.n_features_in_
        and not hasattr(estimator, "feature_names_in_")
        and _is_finite(X)
    )


def is_plain_target(y: Any, n_rows: int, numeric: bool) -> bool:
    """Return whether y is a plain array of one target a row that needs no conversion."""
    """Return whether y has a value, or a row of several, for each row, and needs no conversion."""
    return (
        type(y) is np.ndarray
        and y.shape[:1] == (n_rows,)
        and (y.ndim == 1 or (y.ndim == 2 and y.shape[1] > 1))
        and (y.dtype.type in _FLOATS if numeric else y.dtype.kind in "biuU")
        and (y.dtype.kind in "biuU" or _is_finite(y))
    )


def _is_finite(values: Array) -> bool:
    """Return whether the sum is finite: then all values are. An overflow says no as well."""
    if values.dtype.kind != "f":
        return True
    wide = np.float64 if values.dtype.itemsize < 4 else None
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(values.sum(dtype=wide))
