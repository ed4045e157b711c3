"""Validation of X, y, sample weights and groups, with a fast path for plain arrays.

scikit-learn's checks take longer than a training step of a small network. A plain NumPy array of
the right width passes all of them if its values are finite, so only this is checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from inspect import isfunction
from numbers import Real
from typing import Any, TypeVar

import numpy as np
from scipy.sparse import issparse
from sklearn.base import is_classifier, is_regressor
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import (
    assert_all_finite,
    check_array,
    column_or_1d,
    validate_data,
)

from .._sklearn import _check_sample_weight, warn
from ..layers.base import has_sequence_layer
from ..layers.embeddings import Embedding
from ..losses.base import Loss
from ..training.architecture import check_layers_param
from ..utils.arrays import Array, LazyMatrix, as_dense, max_abs

_FLOATS = (np.float64, np.float32)

# The private methods of scikit-learn's networks, which are never called here.
_PRIVATE_METHODS = [
    name
    for kind in (MLPClassifier, *MLPRegressor.__mro__)
    if kind.__module__ == MLPRegressor.__module__
    for name, method in vars(kind).items()
    if isfunction(method) and name.startswith("_") and not name.startswith("__")
]

Estimator = TypeVar("Estimator")


def reject_unused_overrides(estimator: Any) -> None:
    """Raise a TypeError if an estimator overrides a method that would never be called."""
    for name in _PRIVATE_METHODS:
        if callable(getattr(estimator, name, None)):
            raise TypeError(
                f"{type(estimator).__name__} overrides {name}, a private method of scikit-learn's "
                "networks that skbackprop never calls. Remove it, and see "
                "docs/user_guide/scikit_learn.md for what to use instead."
            )


def shallow_copy(estimator: Estimator) -> Estimator:
    """Return a shallow copy with the same attributes, to which checks may write."""
    other = object.__new__(type(estimator))
    set_attributes(other, vars(estimator))
    return other


def copy_without_feature_names(estimator: Estimator) -> Estimator:
    """Return a shallow copy that takes rows without feature names, and does not warn."""
    other = shallow_copy(estimator)
    vars(other).pop("feature_names_in_", None)
    return other


def set_attributes(estimator: Any, attributes: Mapping[str, Any]) -> None:
    """Set attributes in one step, which Ctrl-C cannot interrupt halfway."""
    vars(estimator).update(attributes)


def replace_attributes(estimator: Any, fitted: Any) -> None:
    """Replace all attributes by those of a fitted copy, in one assignment."""
    estimator.__dict__ = vars(fitted)


@contextmanager
def prefix_errors(name: str) -> Iterator[None]:
    """Prefix the errors of checks with the names of the arguments."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


def check_scalar_score(score: Any, scoring: Any) -> float:
    """Return a scorer's result as a float, after a check."""
    if not isinstance(score, Real) or isinstance(score, bool):
        raise ValueError(
            f"scoring={scoring!r} of EarlyStopping must return a number that is higher for better "
            f"predictions, but returned {score!r}."
        )
    return float(score)


# ----------------------------------------------------------------------------------------- X


def validate_input(estimator: Any, X: Any, dtype: np.dtype[np.floating]) -> Any:
    """Return X as a float array or CSR matrix with the features of the training data."""
    X = validate_features(estimator, X, reset=False)
    check_fits_dtype(X, dtype)
    network = estimator._data_info.network
    network.layers[0].validate_prediction_input(X)
    network.validate_padding(X)
    return X


def flatten_rows(estimator: Any, X: Any, reset: bool) -> Any:
    """Return X with one axis for each row, if the layers of the network take rows of more.

    `reset` sets the shape of a row, which `get_row_shape` returns.
    """
    if reset:
        estimator._row_shape = None
    fitted = _get_fitted_info(estimator)
    if fitted is None:
        takes_shapes = bool(getattr(estimator, "layers", None))
    else:
        takes_shapes = len(fitted.network.input_shape) > 1
    if takes_shapes and isinstance(X, (list, tuple)):
        with suppress(ValueError):  # rows of different lengths, as scikit-learn's check will say
            X = np.asarray(X)
    if not takes_shapes or issparse(X) or getattr(X, "ndim", 2) < 3:
        return X
    row_shape = tuple(X.shape[1:])
    if reset:
        estimator._row_shape = row_shape
    if fitted is None and "_row_shape" not in vars(estimator):  # made from weights
        fitted = getattr(estimator, "_data_info", None)
    expected = fitted.network.input_shape if fitted else get_row_shape(estimator)
    if row_shape != expected:
        raise ValueError(
            f"Rows of X must have the shape {expected} of the training data, got {row_shape}."
        )
    return np.asanyarray(X).reshape(len(X), math.prod(row_shape))  # masked arrays stay masked


def _get_fitted_info(estimator: Any) -> Any:
    """Return the `_data_info` of a fitted estimator; None before training and in `fit`."""
    return None if "_row_shape" in vars(estimator) else vars(estimator).get("_data_info")


def get_row_shape(estimator: Any) -> tuple[int, ...]:
    """Return the shape of one row of the X that an estimator has last validated with `reset`."""
    return getattr(estimator, "_row_shape", None) or (int(estimator.n_features_in_),)


def _reads_sequences(estimator: Any) -> bool:
    """Return whether the layers of an estimator take NaN as the padding of sequences."""
    info = _get_fitted_info(estimator)
    if info is not None:
        return bool(info.network.reads_sequences)
    return has_sequence_layer(check_layers_param(getattr(estimator, "layers", None)))


def validate_features(estimator: Any, X: Any, reset: bool) -> Any:
    """Return validated X; `reset` sets the number, the names and the shape of features.

    The rows of a lazy matrix are valid where they are made.
    """
    if isinstance(X, LazyMatrix):
        if reset:
            estimator._row_shape, estimator.n_features_in_ = None, X.shape[1]
        return X
    if reset or getattr(X, "ndim", None) != 2:
        X = flatten_rows(estimator, X, reset)
    if not reset and _is_plain_input(estimator, X):
        return X
    reject_single_row(X, "X")
    _reject_dates(X, "X")
    reject_masked_or_structured(X, "X")
    with _explain_errors(estimator, X):
        return validate_data(
            estimator, X, accept_sparse="csr", reset=reset, **_check_options(estimator, X)
        )


# The distance of X_val from the mean of X, in standard deviations of X, beyond which X is probably
# standardized and X_val is not; and the number of rows that are compared.
_OTHER_SCALE, _N_ROWS_COMPARED = 10, 1_000


def warn_if_scaled_differently(X: Any, X_val: Any) -> None:
    """Warn if validation rows lie far outside the range of the training rows in most columns."""
    if issparse(X) or issparse(X_val) or isinstance(X, LazyMatrix):
        return
    train, rows = (np.asarray(each[:_N_ROWS_COMPARED], float) for each in (X, X_val))
    with np.errstate(all="ignore"):
        distances = np.median(np.abs(rows - train.mean(axis=0)), axis=0)
        ratios = distances / train.std(axis=0)
    ratios = ratios[np.isfinite(ratios)]  # neither of constant columns nor of padding
    typical = np.median(ratios) if len(ratios) else 0.0
    if typical > _OTHER_SCALE:
        warn(
            f"X_val is on another scale than X: in half of the columns, a typical value is "
            f"{typical:,.0f} or more standard deviations of X away from the mean of X. Transform "
            'X_val like X. A Pipeline does so with transform_input=["X_val"] and metadata routing.',
            UserWarning,
        )


def validate_latent(codes: Any, n_components: int, dtype: np.dtype[np.floating]) -> Array:
    """Return codes as a finite float array with a column for each component."""
    reject_masked_or_structured(codes, "X")
    reject_single_row(codes, "X")
    X: Array = check_array(codes, dtype=_FLOATS)
    if X.shape[1] != n_components:
        raise ValueError(
            f"X must have n_components={n_components} column(s), got {X.shape[1]}. Pass codes as "
            "returned by transform."
        )
    check_fits_dtype(X, dtype)
    return X


def validate_features_and_targets(
    estimator: Any, X: Any, y: Any, numeric: bool, reset: bool
) -> tuple[Any, Any]:
    """Return validated X and y; `reset` sets the number, the names and the shape of features."""
    if isinstance(X, LazyMatrix):
        return validate_features(estimator, X, reset), as_numbers(y) if numeric else y
    if reset or getattr(X, "ndim", None) != 2:
        X = flatten_rows(estimator, X, reset)
    if not reset and _is_plain_input(estimator, X) and is_plain_target(y, len(X), numeric):
        return X, y
    reject_single_row(X, "X")
    _reject_dates(X, "X")
    if numeric:
        y = np.asarray(y) if isinstance(y, (list, tuple)) else y
        _reject_dates(y, "y")
    reject_masked_or_structured(X, "X")
    y = check_no_missing(y, "values" if numeric else "labels")
    y = as_dense(y) if getattr(y, "ndim", 2) == 1 else y
    with _explain_errors(estimator, X):
        X, y = validate_data(
            estimator,
            X,
            y,
            accept_sparse="csr",
            multi_output=True,
            reset=reset,
            **_check_options(estimator, X),
        )
    if numeric:
        y = as_numbers(y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(as_dense(y), warn=True)
    return X, y


# Beginnings of scikit-learn's errors about missing values, strings and other objects.
_TABLE_ERRORS = (
    "Input X contains NaN",
    "could not convert string to float",
    "float() argument must be",
)


@contextmanager
def _explain_errors(estimator: Any, X: Any) -> Iterator[None]:
    """Add the invalid columns, and the estimators that accept them, to scikit-learn's errors."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # in the sum that checks finiteness
            yield
    except (ValueError, TypeError) as error:
        message, hint, name = str(error), "", type(estimator).__name__
        fitted = _get_fitted_info(estimator)
        input_shape = fitted.network.input_shape if fitted else getattr(estimator, "input_shape", 0)
        row_shape = getattr(estimator, "_row_shape", None) or input_shape
        has_axes = isinstance(row_shape, (list, tuple)) and len(row_shape) > 1
        if getattr(X, "ndim", 2) > 2 and hasattr(estimator, "layers"):
            hint = (
                "\nFor images and sequences set layers, such as [Conv2D(16, 3)]; or flatten each "
                "row by X.reshape(len(X), -1)."
            )
        elif has_axes and getattr(X, "shape", None) == row_shape:
            hint = "\nX has the shape of a single row. Pass X[np.newaxis]."
        elif "inhomogeneous shape" in message and _reads_sequences(estimator):
            message = "Sequences in X must have the same length, got rows of different lengths."
            hint = "\nPad them at the end, with -1 for tokens or NaN for numbers."
        elif f"{name} is expecting" in message and _reads_sequences(estimator):
            hint = "\nPad sequences at the end, with -1 for tokens or NaN for numbers, or cut them."
        elif message.startswith("Input X contains NaN") and has_axes:
            message = message.partition("\n")[0]
            hint = (
                f"\nReplace missing values, or remove their rows. {name} takes NaN only with "
                "layers that read sequences, such as GRU, and only as padding at their end."
            )
        elif message.startswith(_TABLE_ERRORS):
            cluster = "Dask" if getattr(estimator, "_is_on_cluster", False) else ""
            how = f"put skbackprop.tabular.TableEncoder before {name} in a pipeline."
            if cluster:  # where pipelines cannot be fitted
                how = (
                    'fit encoder = skbackprop.tabular.TableEncoder().set_output(transform="pandas")'
                    " to a sample of rows, and pass X.map_partitions(encoder.transform)."
                )
            if is_classifier(estimator):
                how = f"use {cluster}TabularClassifier, or {how}"
            elif is_regressor(estimator):
                how = f"use {cluster}TabularRegressor, or {how}"
            message = message.partition("\n")[0]
            hint = (
                f"\n{cluster}{name} accepts only finite numbers. For tables with missing values or "
                f"strings, {how}"
            )
            layers = check_layers_param(getattr(estimator, "layers", None))
            if layers and isinstance(layers[0], Embedding):
                hint = f"\nEmbedding accepts only numbers as tokens. {Embedding.HOW_TO_ENCODE}"
        names = getattr(X, "column_names", getattr(X, "columns", ()))  # pyarrow, other libraries
        invalid = [repr(name) for name in names if not _is_finite_column(X[name])]
        if invalid:
            shown = [*invalid[:5], "..."] if len(invalid) > 5 else invalid
            hint += (
                "\nThese columns of X contain missing values, infinities or strings: "
                f"{', '.join(shown)}."
            )
        if not hint:
            raise
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{message}{hint}") from None


def _is_finite_column(column: Any) -> bool:
    """Return whether a column of a table has only finite numbers."""
    values = np.asarray(column)
    try:
        numbers = values if values.dtype.kind == "c" else values.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return bool(np.isfinite(numbers).all())


def _check_options(estimator: Any, X: Any) -> dict[str, Any]:
    """Return the options for the dtype and the values of X in scikit-learn's checks.

    A numeric array may be larger than memory, so it is not converted: batches are. Everything
    else becomes an array of floats. Sequences may end in NaN, which the network checks.
    """
    if not isinstance(X, np.ndarray) or X.dtype.kind not in "biuf" or X.dtype.itemsize > 8:
        is_padded = getattr(estimator, "layers", None) and _reads_sequences(estimator)
        return {"dtype": _FLOATS, "ensure_all_finite": "allow-nan" if is_padded else True}
    # scikit-learn need not check again what is finite, which copies arrays of some dtypes.
    if _is_finite(X):
        return {"dtype": None, "ensure_all_finite": False}
    return {
        "dtype": None,
        "ensure_all_finite": "allow-nan" if _reads_sequences(estimator) else True,
    }


def infer_dtype(X: Any) -> np.dtype[np.floating]:
    """Return the dtype of a network for X: float32 for float32, else float64."""
    is_single = X.dtype.kind == "f" and X.dtype.itemsize == 4
    return np.dtype(np.float32 if is_single else np.float64)


def check_fits_dtype(X: Any, dtype: Any) -> None:
    """Check that the values of X do not overflow in the model's dtype."""
    if X.dtype.itemsize > dtype.itemsize:
        largest = max_abs(X)
        if largest > float(np.finfo(dtype).max):
            raise ValueError(
                f"X contains {largest:.3g}, a value too large for the model's dtype {dtype.name}. "
                "Scale X, or use dtype='float64'."
            )


def _reject_dates(values: Any, name: str) -> None:
    """Raise an error for dates and durations, which NumPy would convert to nanoseconds."""
    dtypes = getattr(values, "dtypes", getattr(values, "dtype", None))
    for dtype in dtypes if isinstance(dtypes, Iterable) else [dtypes]:
        is_temporal = getattr(dtype, "is_temporal", None)  # polars
        if is_temporal() if is_temporal else getattr(dtype, "kind", None) in ("m", "M"):
            raise ValueError(
                f"{name} contains dates or durations ({dtype}), which a network cannot use. "
                "Convert them to numbers of moderate size, such as days since a first date, or "
                "the month and the day of the week."
            )


def reject_single_row(values: Any, name: str) -> None:
    """Raise an error for a Series or a dict, where a table of several rows is expected."""
    if hasattr(values, "to_frame"):  # a Series of pandas or polars
        how = "one row of a data frame, pass df.iloc[[0]] instead of df.iloc[0]; for one column, "
        how += f"pass {name}.to_frame()"
    elif isinstance(values, Mapping) and not issparse(values):  # dok_matrix may be a dict
        how = f"one row, pass pandas.DataFrame([{name}])"
    else:
        return
    raise ValueError(
        f"{name} must be a table of shape (n_samples, n_features), got a {type(values).__name__}. "
        f"For {how}."
    )


def reject_masked_or_structured(values: Any, name: str) -> None:
    """Raise an error for arrays with masked values or with fields."""
    if np.ma.is_masked(values):
        raise ValueError(
            f"{name} must not contain masked values, because NumPy would use the values behind the "
            "mask. Fill them, or remove their rows."
        )
    fields = getattr(getattr(values, "dtype", None), "names", None)
    if fields:
        raise ValueError(
            f"{name} must not be a structured array, got the fields {fields}. Convert them to "
            "columns, for example with numpy.lib.recfunctions.structured_to_unstructured."
        )


# ----------------------------------------------------------------------------------------- y


def check_no_missing(y: Any, what: str = "labels", name: str = "Input y") -> Any:
    """Return y after a check for missing values; errors call its values `what`, and y `name`.

    A list with strings becomes an array of objects, since NumPy would convert the 1 in
    ``[1, "a"]``, or a NaN, to a string.
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
        string, other = labels[are_strings.argmax()], labels[are_strings.argmin()]
        raise ValueError(
            f"{name} must contain only strings or only numbers in each column, got {string!r} and "
            f"{other!r}. Convert the labels to one type."
        )
    return np.array(labels.tolist())


def validate_labels(y: Any) -> Array:
    """Return one column of labels without missing values."""
    labels = _one_column(check_no_missing(y))
    if labels.dtype.kind == "f":
        assert_all_finite(labels, input_name="y")
    return np.asarray(labels)


def validate_numbers(y: Any) -> Array:
    """Return one column of targets as finite float64."""
    numbers = _one_column(check_no_missing(y, "values"))
    _reject_dates(numbers, "y")
    numbers = as_numbers(numbers).astype(np.float64)
    with np.errstate(over="ignore", invalid="ignore"):  # in the sum that checks finiteness
        assert_all_finite(numbers, input_name="y")
    return numbers


def _one_column(y: Any) -> Array:
    try:
        return np.asarray(column_or_1d(y, warn=True))
    except ValueError as error:
        raise ValueError(
            f"{error} For several targets, fit one estimator for each, as the meta-estimators of "
            "sklearn.multioutput do."
        ) from None


def as_numbers(y: Any) -> Array:
    """Return an array of finite numbers; objects and strings are converted if possible."""
    y = as_dense(y)
    if y.dtype.kind in "biuf" and y.dtype.itemsize <= 8:
        return np.asarray(y)
    try:
        with np.errstate(over="ignore"):
            numbers = np.asarray(y.astype(np.float64))
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"y must contain numbers: {error}.") from error
    assert_all_finite(numbers, input_name="y")
    return numbers


def check_targets(y: Any, loss: Loss, setting: Any, what: str = "targets y") -> None:
    """Check that all targets are in the range of a loss, which errors show as `setting`."""
    if not getattr(loss, "supports_predict_proba", True):
        raise ValueError(
            f"loss={setting!r} is a loss of classifiers, which does not predict {what}. Use it in "
            "BackpropClassifier, or choose another loss."
        )
    lowest, highest, (limit, high, low_inclusive) = y.min(), y.max(), loss.interval_y_true
    if lowest < limit or (lowest == limit and not low_inclusive):
        sign, found = ">=" if low_inclusive else ">", lowest
    elif highest > high:
        sign, found, limit = "<=", highest, high
    else:
        return
    raise ValueError(
        f"loss={setting!r} needs {what} {sign} {limit:g}, but {what[-1]} contains {found:g}. "
        "Choose a loss for this range of targets, such as 'squared_error'."
    )


# --------------------------------------------------------------------------- weights, groups

CLASSES_BY_NAME = (
    "Pass classes by name, as in partial_fit(X, y, classes=...), because the third positional "
    "argument is sample_weight."
)


def validate_weight(
    sample_weight: Any, X: Any, *, may_be_zero: bool = False, may_be_classes: bool = False
) -> Array | None:
    """Return non-negative float64 weights for the rows of X; None for None.

    Parameters
    ----------
    sample_weight : array-like of shape (n,) or None
        The weights.
    X : array-like
        The rows.
    may_be_zero : bool, default=False
        Whether all weights may be zero, as in a block of rows.
    may_be_classes : bool, default=False
        Whether errors explain how to pass `classes`, which may be given by mistake.
    """
    if sample_weight is None:
        return None
    if may_be_classes:
        try:
            return validate_weight(sample_weight, X, may_be_zero=may_be_zero)
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
            "The sum of sample_weight must be finite, but its largest value is "
            f"{weight.max():.3g}. Scale the weights, for example to a mean of one."
        )
    return weight


def validate_groups(groups: Any, n_rows: int, min_groups: int = 2) -> Array:
    """Return the groups of n rows as integers from 0 on, of at least `min_groups` groups."""
    values = np.asarray(check_no_missing(groups, "values", "groups"))
    if values.ndim == 0 or values.size != len(values):
        raise ValueError(
            f"groups must be a one-dimensional array with one group for each of the {n_rows} rows "
            f"of X, got an array of shape {values.shape}."
        )
    values = column_or_1d(values, warn=True)
    if len(values) != n_rows:
        raise ValueError(
            f"groups must have one value for each of the {n_rows} rows of X, got {len(values)} "
            "values."
        )
    if values.dtype.kind in "fmM" and np.isnan(values).any():
        raise ValueError("groups contains missing values. Give these rows a group, or remove them.")
    _, codes = np.unique(unify_label_dtype(values, "groups"), return_inverse=True)
    if codes.max() + 1 < min_groups:
        raise ValueError(
            "groups must contain at least 2 different groups, one to train on and one to hold out, "
            f"got only {values[0]!r}. Use rows of more groups, or fit without groups."
        )
    return np.asarray(codes)


# ---------------------------------------------------------------------------- plain arrays


def _is_plain_input(estimator: Any, X: Any) -> bool:
    """Return whether X is an array that needs no further check or conversion."""
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
    """Return whether y is an array of one or several columns that needs no conversion."""
    return (
        type(y) is np.ndarray
        and y.shape[:1] == (n_rows,)
        and (y.ndim == 1 or (y.ndim == 2 and y.shape[1] > 1))
        and (y.dtype.type in _FLOATS if numeric else y.dtype.kind in "biuU")
        and (y.dtype.kind in "biuU" or _is_finite(y))
    )


def _is_finite(values: Array) -> bool:
    """Return whether the sum of the values, and so each of them, is finite.

    It is also False if the sum of finite values overflows.
    """
    if values.dtype.kind != "f":
        return True
    wide = np.float64 if values.dtype.itemsize < 4 else None
    with np.errstate(over="ignore", invalid="ignore"):
        return math.isfinite(values.sum(dtype=wide))
