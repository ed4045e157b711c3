"""Validation of X, together with y and sample weights, with a fast path for plain arrays.

scikit-learn's checks take longer than a training step of a small network. A plain NumPy array of
the right width passes all of them if its values are finite, so only finiteness is checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from inspect import isfunction
from typing import Any, TypeVar, cast

import numpy as np
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.utils.validation import column_or_1d, validate_data

from ..layers import LAYERS
from ..layers.base import check_layers, has_sequence_layer
from ..training.checks import (
    FLOATS,
    as_numbers,
    check_no_missing,
    is_finite,
    is_plain_target,
    replace_missing_targets,
    validate_weight,
    weigh_targets,
)
from ..utils.arrays import Array, LazyMatrix, as_dense

# The private methods of scikit-learn's networks, which skbackprop never calls.
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
        if callable(getattr(type(estimator), name, None)):
            raise TypeError(
                f"{type(estimator).__name__} overrides {name}, a private method of scikit-learn's "
                "networks that skbackprop never calls. Remove it, and see "
                "docs/user_guide/scikit_learn.md for what to use instead."
            )


def shallow_copy(estimator: Estimator) -> Estimator:
    """Return a shallow copy with the same attributes, to which checks may write."""
    copy = object.__new__(type(estimator))
    copy.__dict__.update(estimator.__dict__)
    return copy


def copy_without_feature_names(estimator: Estimator) -> Estimator:
    """Return a shallow copy that accepts X without feature names without a warning."""
    copy: Any = shallow_copy(estimator)
    vars(copy).pop("feature_names_in_", None)
    if "_model" in vars(copy):
        copy._model = replace(copy._model, feature_names=None)
    return cast(Estimator, copy)


def replace_attributes(estimator: Any, fitted: Any) -> None:
    """Give an estimator the attributes of its fitted copy, and no others."""
    for name in vars(estimator).keys() - vars(fitted).keys():
        delattr(estimator, name)
    for name, value in vars(fitted).items():
        setattr(estimator, name, value)


@contextmanager
def prefix_errors(name: str) -> Iterator[None]:
    """Context that puts the names of arguments before the messages of errors."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error


# ----------------------------------------------------------------------------------------- X


def validate_input(estimator: Any, X: Any) -> Any:
    """Return X as a float array or CSR matrix with the features of the training data."""
    X = validate_features(estimator, X, reset=False)
    network = estimator._model.network
    network.layers[0].validate_prediction_input(X)
    network.validate_padding(X)
    return X


def validate_features(estimator: Any, X: Any, reset: bool) -> Any:
    """Return validated X; `reset` sets the number, the names and the shape of features."""
    if isinstance(X, LazyMatrix):  # the rows of a LazyMatrix are validated
        if reset:
            estimator._row_shape = (X.shape[1],)
            estimator.n_features_in_ = X.shape[1]
        return X
    if not reset and _is_plain_input(estimator, X):
        return X
    X, options = _flatten_rows(estimator, X, reset)
    with _suggest_tabular(estimator):
        return validate_data(estimator, X, reset=reset, **options)


def validate_rows(
    estimator: Any, X: Any, y: Any, sample_weight: Any, numeric: bool, reset: bool
) -> tuple[Any, Any, Array | None]:
    """Return validated X, y and weights, with a weight for each target if y is numeric and has NaN.

    `reset` sets the number, the names and the shape of features.
    """
    is_missing = None
    if isinstance(X, LazyMatrix):
        X = validate_features(estimator, X, reset)
        y = as_numbers(y) if numeric else y
    elif reset or not _is_plain_input(estimator, X) or not is_plain_target(y, len(X), numeric):
        X, options = _flatten_rows(estimator, X, reset)
        if numeric:
            y, is_missing = replace_missing_targets(y)
        y = check_no_missing(y, "values" if numeric else "labels")
        y = as_dense(y) if getattr(y, "ndim", 2) == 1 else y
        with _suggest_tabular(estimator):
            X, y = validate_data(estimator, X, y, multi_output=True, reset=reset, **options)
        if numeric:
            y = as_numbers(y)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(as_dense(y), warn=True)
    if numeric:
        y, weight = weigh_targets(y, is_missing, sample_weight, X)
        return X, y, weight
    return X, y, validate_weight(sample_weight, X)


def get_row_shape(estimator: Any) -> tuple[int, ...]:
    """Return the shape of one row of the training input, of a fitted estimator or a reader."""
    model = vars(estimator).get("_model")
    if model is not None:
        shape: tuple[int, ...] = model.row_shape
        return shape
    return estimator._row_shape or (int(estimator.n_features_in_),)


def _flatten_rows(estimator: Any, X: Any, reset: bool) -> tuple[Any, dict[str, Any]]:
    """Flatten the rows of X to one axis each, if the estimator has `layers`.

    `reset` sets the shape of a row for `get_row_shape`.

    Returns
    -------
    X : array-like or sparse matrix
        The flat rows.
    options : dict
        The options of scikit-learn's check of X.
    """
    layers = getattr(estimator, "layers", None)
    if reset:
        estimator._row_shape = None
    if isinstance(X, (list, tuple)):
        X = np.asarray(X)
    if getattr(X, "ndim", 2) >= 3:
        row_shape = tuple(X.shape[1:])
        if layers is None:
            raise ValueError(
                f"Found array with dim {X.ndim}, while dim <= 2 is required by "
                f"{type(estimator).__name__} without layers: rows of X have the shape {row_shape}. "
                "Pass layers such as Conv1D for sequences and Conv2D for images, or flatten the "
                "rows, X.reshape(len(X), -1)."
            )
        if reset:
            estimator._row_shape = row_shape
        expected = get_row_shape(estimator)
        model = vars(estimator).get("_model")
        if row_shape != expected and (model is None or row_shape != model.network.input_shape):
            raise ValueError(
                f"Rows of X must have the shape {expected} of the training data, got {row_shape}."
            )
        X = np.asarray(X).reshape(len(X), math.prod(row_shape))
    # A numeric array is not converted, because it may be larger than memory; its batches are.
    is_numeric = isinstance(X, np.ndarray) and X.dtype.kind in "biuf" and X.dtype.itemsize <= 8
    # The network checks that NaN is padding at the end of sequences.
    is_padded = layers is not None and has_sequence_layer(check_layers(layers, LAYERS))
    return X, {
        "accept_sparse": "csr",
        "dtype": None if is_numeric else FLOATS,
        "ensure_all_finite": "allow-nan" if is_padded else True,
    }


# Beginnings of scikit-learn's errors about missing values, strings, objects and dates.
_TABLE_ERRORS = (
    "Input X contains NaN",
    "could not convert string to float",
    "float() argument must be",
    "The DType <class",
)


@contextmanager
def _suggest_tabular(estimator: Any) -> Iterator[None]:
    """Add the estimators that accept missing values and strings to scikit-learn's errors."""
    try:
        with np.errstate(over="ignore", invalid="ignore"):  # the check sums all values
            yield
    except (ValueError, TypeError) as error:
        message = str(error).partition("\n")[0]
        if not message.startswith(_TABLE_ERRORS):
            raise
        name = type(estimator).__name__
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(
            f"{message}\n{name} accepts only finite numbers. For tables with missing values, "
            "strings or dates, use TabularClassifier or TabularRegressor, or put "
            f"skbackprop.tabular.TableEncoder before {name} in a pipeline."
        ) from None


def _is_plain_input(estimator: Any, X: Any) -> bool:
    """Return whether X is an array that needs no further check or conversion."""
    return (
        type(X) is np.ndarray
        and X.ndim == 2
        and X.dtype.type in FLOATS
        and len(X) > 0
        and X.shape[1] == _get_attribute(estimator, "n_features_in_")
        and _get_attribute(estimator, "feature_names_in_") is None
        and is_finite(X)
    )


def _get_attribute(estimator: Any, name: str) -> Any:
    """Return a fitted attribute or None, without `__getattr__`, which costs as much as a layer."""
    attributes = vars(estimator)
    if name in attributes or "_model" not in attributes:
        return getattr(estimator, name, None)
    return attributes["_model"].attributes.get(name)
