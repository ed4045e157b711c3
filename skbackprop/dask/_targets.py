"""Classes, class weights and target scaling for targets on the workers.

Each partition returns its labels or a few sums, and the client combines them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..estimators._label_encoding import BaseLabelEncoder
from ..estimators._target_scaling import (
    RegressionTargetEncoder,
    check_can_be_scaled,
    exponent_of_deviations,
    one_for_zero,
    squared_deviations,
)
from ..estimators._validation import unify_label_dtype
from ..training.class_weight import apply_class_weight, check_total, weights_of_each_class
from ..training.config import TrainingConfig
from ..utils.arrays import Array, max_abs
from ._partitions import Partition, Partitions

# How often each label is repeated among the labels that stand for all rows: scikit-learn takes
# labels that occur only once for numbers.
_N_REPEATS = 3


def encode_targets(partition: Partition, targets: Any) -> Partition:
    """Return a partition with encoded targets."""
    return partition._replace(y=targets.encode(partition.y, needs_all=False))


# ------------------------------------------------------------------------------------- labels


def y_with_all_labels(partitions: Partitions) -> Array:
    """Return a small y that holds all labels of each column."""
    columns = [_union(labels) for labels in zip(*partitions.compute(_unique_labels), strict=True)]
    if not partitions.infos[0].y_shape:
        return np.tile(columns[0], _N_REPEATS)
    n_rows = _N_REPEATS * max(map(len, columns))
    if len({column.dtype.kind == "U" for column in columns}) > 1:
        columns = [column.astype(object) for column in columns]
    return np.column_stack([np.resize(column, n_rows) for column in columns])


def _unique_labels(partition: Partition) -> list[Array]:
    """Return the labels of each column of a partition."""
    columns = [partition.y] if partition.y.ndim == 1 else list(partition.y.T)
    return [np.unique(unify_label_dtype(column, "y")) for column in columns]


def _union(labels: Sequence[Array]) -> Array:
    if len({each.dtype.kind == "U" for each in labels}) > 1:
        raise ValueError(
            "y has words in some blocks and numbers in others. Make all labels of a column words, "
            "or all numbers."
        )
    return np.unique(np.concatenate(labels))


def weight_by_class(
    class_weight: Any, targets: BaseLabelEncoder, partitions: Partitions
) -> Partitions:
    """Return partitions of encoded targets, with sample weights multiplied by class weights."""
    if class_weight is None:
        return partitions
    counts = zip(*partitions.compute(_class_counts, targets), strict=True)
    one_row = targets.class_indices(np.zeros((1, targets.n_outputs), dtype=np.int8))
    columns = [labels._replace(codes=np.arange(len(labels.classes))) for labels in one_row]
    # Checks the class weights of all columns together.
    weights_of_each_class(class_weight, columns, targets.has_several_columns, None)
    each = class_weight if isinstance(class_weight, list) else [class_weight] * len(columns)
    weights = [
        weights_of_each_class([own], [labels], True, np.sum(count, axis=0))[0]
        for own, labels, count in zip(each, columns, counts, strict=True)
    ]
    weighted = partitions.map(_apply_class_weight, targets, weights).with_current_weights()
    check_total(weighted.weight, class_weight, one_row, None)
    return weighted


def _class_counts(partition: Partition, targets: BaseLabelEncoder) -> list[Array]:
    """Return the total weight of the rows of each class, for each column."""
    weight = partition.weight
    return [
        np.bincount(labels.codes, weights=weight, minlength=len(labels.classes)).astype(float)
        for labels in targets.class_indices(partition.y)
    ]


def _apply_class_weight(
    partition: Partition, targets: BaseLabelEncoder, weights: Sequence[Array]
) -> Partition:
    with np.errstate(over="ignore", invalid="ignore"):
        labels = targets.class_indices(partition.y)
        return partition._replace(weight=apply_class_weight(weights, labels, partition.weight))


# ------------------------------------------------------------------------------------ numbers


def fit_regression_targets(
    config: TrainingConfig, setting: Any, partitions: Partitions, dtype: Any
) -> RegressionTargetEncoder:
    """Return numeric targets, with their mean and scale if they are to be scaled.

    Parameters
    ----------
    config : TrainingConfig
        The configuration of the fit.
    setting : str or Loss
        The loss as the user passed it, for errors.
    partitions : Partitions
        The rows.
    dtype : dtype
        The dtype of the network.
    """
    shape = partitions.infos[0].y_shape
    targets = RegressionTargetEncoder(config.loss, setting, shape[0] if shape else 1)
    partitions.compute(_check_targets, targets)
    if not config.scale_target:
        return targets
    check_can_be_scaled(config.loss, setting)
    totals, sums, minima, maxima, largest = zip(*partitions.compute(_target_sums), strict=True)
    total, low, high = sum(totals), np.min(minima, axis=0), np.max(maxima, axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        # The mean of a constant column is its value, without rounding.
        mean = np.where(low == high, low, sum(sums) / total)
        if targets.loss.interval_y_true.low == 0:
            mean, scale = np.zeros_like(mean), mean
        else:
            exponent = exponent_of_deviations(mean, low, high)
            squares: Any = sum(partitions.compute(_squared_deviation_sums, mean, exponent))
            scale = np.ldexp(np.sqrt(squares / total), exponent)
    scaled = replace(targets, mean=mean, scale=one_for_zero(scale))
    return scaled.checked(max(largest), dtype)


def _check_targets(partition: Partition, targets: RegressionTargetEncoder) -> None:
    """Check that the loss is defined for the targets of a partition."""
    targets.encode(partition.y, needs_all=False)


def _target_sums(partition: Partition) -> tuple[float, Array, Array, Array, float]:
    """Return the total weight; the weighted sum, minimum and maximum of y; the largest |y|."""
    y, weight = _as_columns(partition.y), partition.weight
    counted = y if weight is None else y[weight > 0]
    low, high = counted.min(axis=0, initial=np.inf), counted.max(axis=0, initial=-np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = y.sum(axis=0) if weight is None else weight @ y
    return partition.total_weight, sums, low, high, max_abs(partition.y)


def _squared_deviation_sums(partition: Partition, mean: Array, exponent: Array) -> Array:
    """Return the weighted sums of squared deviations from the mean, over 4**exponent."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = squared_deviations(_as_columns(partition.y), mean, exponent)
        weight = partition.weight
        sums: Array = squares.sum(axis=0) if weight is None else weight @ squares
    return sums


def _as_columns(y: Array) -> Array:
    return (y[:, None] if y.ndim == 1 else y).astype(np.float64)
