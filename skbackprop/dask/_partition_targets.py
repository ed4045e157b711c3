"""Encoding of the targets of all partitions, and class weights.

Only labels, counts and sums come to the client.
"""

from __future__ import annotations

import math
from dataclasses import replace
from operator import attrgetter
from typing import Any

import numpy as np

from ..estimators._label_encoding import BaseLabelEncoder
from ..estimators._target_encoding import (
    RegressionTargetEncoder,
    check_can_be_scaled,
    compute_deviation_exponent,
    handle_zeros_in_scale,
    squared_deviations,
)
from ..estimators._validation import (
    unify_label_dtype,
)
from ..losses.base import Loss
from ..training.class_weight import (
    apply_class_weight,
    check_total_weight,
    compute_class_weight,
)
from ..utils.arrays import Array, max_abs
from ._partitions import Partition, Partitions

# How often each label is repeated among the labels that stand for all rows: scikit-learn takes
# labels that occur only once for numbers.
_N_REPEATS = 3


def encode_targets(partition: Partition, targets: Any) -> Partition:
    """Return a partition with encoded targets."""
    return partition._replace(y=targets.encode(partition.y, needs_all=False))


def make_y_with_all_labels(partitions: Partitions) -> Array:
    """Return a small y that holds all labels of each column."""
    columns = []
    for labels in zip(*partitions.compute(_unique_labels), strict=True):
        if len({each.dtype.kind == "U" for each in labels}) > 1:
            raise ValueError(
                "y must contain only strings or only numbers, but has strings in some blocks and "
                "numbers in others. Convert the labels of each column to one type."
            )
        columns.append(np.unique(np.concatenate(labels)))
    if not partitions.infos[0].y_shape:
        return np.tile(columns[0], _N_REPEATS)
    if len({column.dtype.kind == "U" for column in columns}) > 1:
        columns = [column.astype(object) for column in columns]
    n_rows = _N_REPEATS * max(map(len, columns))
    return np.column_stack([np.resize(column, n_rows) for column in columns])


def _unique_labels(partition: Partition) -> list[Array]:
    """Return the labels of each column of a partition."""
    columns = [partition.y] if partition.y.ndim == 1 else list(partition.y.T)
    return [np.unique(unify_label_dtype(column, "y")) for column in columns]


def weight_partitions_by_class(
    class_weight: Any, targets: BaseLabelEncoder, partitions: Partitions
) -> Partitions:
    """Return partitions of encoded targets, with sample weights multiplied by class weights."""
    if class_weight is None:
        return partitions
    one_row = targets.class_indices(np.zeros((1, targets.n_outputs), dtype=np.int8))
    counts = np.sum(partitions.compute(_class_counts, targets=targets), axis=0)
    weights = compute_class_weight(class_weight, one_row.classes, counts)
    weighted = partitions.map(_apply_class_weight, targets=targets, weights=weights)
    totals = zip(partitions.infos, weighted.compute(attrgetter("total_weight")), strict=True)
    weighted = replace(weighted, infos=[info._replace(weight=weight) for info, weight in totals])
    check_total_weight(weighted.weight, class_weight, None)
    return weighted


def _class_counts(partition: Partition, targets: BaseLabelEncoder) -> Array:
    """Return the total weight of the rows of each class, for each column."""
    return targets.class_indices(partition.y).count_by_class(partition.weight)


def _apply_class_weight(
    partition: Partition, targets: BaseLabelEncoder, weights: Array
) -> Partition:
    with np.errstate(over="ignore", invalid="ignore"):
        labels = targets.class_indices(partition.y)
        return partition._replace(weight=apply_class_weight(weights, labels, partition.weight))


def fit_regression_targets(
    loss: Loss, setting: Any, is_scaled: bool, partitions: Partitions, dtype: Any
) -> RegressionTargetEncoder:
    """Return numeric targets, with their mean and scale if they are to be scaled.

    Parameters
    ----------
    loss : Loss
        The loss.
    setting : str or Loss
        The loss as the user passed it, for errors.
    is_scaled : bool
        Whether targets are scaled.
    partitions : Partitions
        The rows.
    dtype : dtype
        The dtype of the network.
    """
    n_targets = math.prod(partitions.infos[0].y_shape)
    targets = RegressionTargetEncoder(loss, setting, n_targets)
    facts = partitions.compute(_check_and_sum, targets=targets)
    if not is_scaled:
        return targets
    check_can_be_scaled(loss, setting)
    totals, sums, minima, maxima, largest = zip(*facts, strict=True)
    total, low, high = sum(totals), np.min(minima, axis=0), np.max(maxima, axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        # The mean of a constant column is its value, without rounding.
        mean = np.where(low == high, low, sum(sums) / total)
        if targets.loss.interval_y_true.low == 0:
            mean, scale = np.zeros_like(mean), mean
        else:
            exponent = compute_deviation_exponent(mean, low, high)
            squares: Any = sum(partitions.compute(_sum_squares, mean=mean, exponent=exponent))
            scale = np.ldexp(np.sqrt(squares / total), exponent)
    scaled = replace(targets, mean=mean, scale=handle_zeros_in_scale(scale))
    return scaled.checked(max(largest), dtype)


def _check_and_sum(
    partition: Partition, targets: RegressionTargetEncoder
) -> tuple[float, Array, Array, Array, float]:
    """Return the total weight; the weighted sum, minimum and maximum of y; the largest |y|.

    The loss must be defined for all targets.
    """
    targets.encode(partition.y, needs_all=False)
    y, weight = _as_columns(partition.y), partition.weight
    counted = y if weight is None else y[weight > 0]
    low, high = counted.min(axis=0, initial=np.inf), counted.max(axis=0, initial=-np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = y.sum(axis=0) if weight is None else weight @ y
    return partition.total_weight, sums, low, high, max_abs(partition.y)


def _sum_squares(partition: Partition, mean: Array, exponent: Array) -> Array:
    """Return the weighted sums of squared deviations from the mean, over 4**exponent."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = squared_deviations(_as_columns(partition.y), mean, exponent)
        weight = partition.weight
        sums: Array = squares.sum(axis=0) if weight is None else weight @ squares
    return sums


def _as_columns(y: Array) -> Array:
    return (y[:, None] if y.ndim == 1 else y).astype(np.float64)
