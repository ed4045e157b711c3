"""What is learned of targets that are spread over workers: classes, and the scale of numbers.

Each block says a few numbers or its labels, and the client puts them together. From then on the
blocks are encoded by what a local estimator would have learned of all of them at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..estimators._label_encoding import ClassificationTargets
from ..estimators._target_scaling import (
    RegressionTargets,
    exponent_of_deviations,
    one_for_zero,
    squared_deviations,
)
from ..estimators._validation import unify_label_dtype
from ..training.class_weight import (
    EncodedLabels,
    apply_class_weight,
    check_total,
    weights_of_each_class,
)
from ..utils.arrays import Array, max_abs
from ._partitions import Partition, Partitions

# How often each label is in the rows that stand for all: of labels that are there but once,
# scikit-learn would say that they look like numbers.
_REPEATS = 3

# ------------------------------------------------------------------------------------- labels


def collect_classes(blocks: Partitions) -> Array:
    """Return rows of y that have all labels of all rows, column by column, and few others."""
    found = blocks.each(_labels_of)
    columns = [_united([each[i] for each in found]) for i in range(len(found[0]))]
    if not blocks.facts[0].y_shape:
        return np.tile(columns[0], _REPEATS)
    n_rows = _REPEATS * max(map(len, columns))
    return np.column_stack([np.resize(column, n_rows) for column in _of_one_dtype(columns)])


def _labels_of(block: Partition) -> list[Array]:
    """Return the labels of each column of a block."""
    columns = [block.y] if block.y.ndim == 1 else list(block.y.T)
    return [np.unique(unify_label_dtype(column, "y")) for column in columns]


def _united(labels: Sequence[Array]) -> Array:
    """Return the labels that are in any of several arrays."""
    if len({each.dtype.kind == "U" for each in labels}) > 1:
        raise ValueError(
            "y holds words in some blocks and numbers in others. Make all labels of a column "
            "words, or all numbers."
        )
    return np.unique(np.concatenate(labels))


def _of_one_dtype(columns: Sequence[Array]) -> list[Array]:
    """Return columns as they are, or as objects where words stand beside numbers."""
    if len({each.dtype.kind == "U" for each in columns}) == 1:
        return list(columns)
    return [column.astype(object) for column in columns]


def class_weights(
    class_weight: Any, labels: ClassificationTargets, blocks: Partitions
) -> list[Array]:
    """Return the weights of the classes of each column, of blocks of encoded targets."""
    counts = [np.sum(each, axis=0) for each in zip(*blocks.each(_counts, labels), strict=True)]
    columns = labels.class_indices(np.zeros((1, labels.n_outputs), dtype=np.int8))
    once = [column._replace(codes=np.arange(len(column.classes))) for column in columns]
    of_columns = [
        weights_of_each_class([own], [column], True, weight)[0]
        for own, column, weight in zip(
            _by_column(class_weight, once, labels), once, counts, strict=True
        )
    ]
    return of_columns


def _by_column(
    class_weight: Any, columns: Sequence[EncodedLabels], labels: ClassificationTargets
) -> Sequence[Any]:
    weights_of_each_class(class_weight, columns, labels.has_several_columns, None)  # its checks
    return class_weight if isinstance(class_weight, list) else [class_weight] * len(columns)


def _counts(block: Partition, labels: ClassificationTargets) -> list[Array]:
    """Return what the rows of each class weigh, in each column."""
    return [
        np.bincount(column.codes, weights=block.weight, minlength=len(column.classes)).astype(float)
        for column in labels.class_indices(block.y)
    ]


def weighted_by_class(
    block: Partition, labels: ClassificationTargets, of_classes: Sequence[Array]
) -> Partition:
    """Return a block of encoded targets whose rows weigh by their classes as well."""
    with np.errstate(over="ignore", invalid="ignore"):
        weight = apply_class_weight(of_classes, labels.class_indices(block.y), block.weight)
    return block._replace(weight=weight)


def check_class_weights(
    class_weight: Any, labels: ClassificationTargets, blocks: Partitions
) -> None:
    """Check that weights of classes leave a row that weighs something."""
    columns = labels.class_indices(np.zeros((1, labels.n_outputs), dtype=np.int8))
    check_total(blocks.weight, class_weight, columns, None)


# ------------------------------------------------------------------------------------ numbers


def fit_target_scaler(
    numbers: RegressionTargets, blocks: Partitions, dtype: Any
) -> RegressionTargets:
    """Return numbers with the mean and scale of all rows, which weigh what they do in the loss."""
    sums = blocks.each(_sums)
    total, of_y = (sum(each[i] for each in sums) for i in (0, 1))
    least, most = (f([each[i] for each in sums], axis=0) for f, i in ((np.min, 2), (np.max, 3)))
    with np.errstate(over="ignore", invalid="ignore"):
        # A column of one value has it for its mean, exactly.
        mean = np.where(least == most, least, of_y / total)
        if numbers.loss.interval_y_true.low == 0:
            mean, scale = np.zeros_like(mean), mean
        else:
            exponent = exponent_of_deviations(mean, least, most)
            squares = sum(blocks.each(_squares, mean, exponent))
            scale = np.ldexp(np.sqrt(squares / total), exponent)
    largest = max(each[4] for each in sums)
    scaled = RegressionTargets(
        numbers.loss, numbers.setting, numbers.n_targets, mean, one_for_zero(scale)
    )
    return scaled.checked(largest, dtype)


def _sums(block: Partition) -> tuple[float, Array, Array, Array, float]:
    """Return what the rows weigh, the sums of their targets, and the least and most that count."""
    y, weight = _columns(block), block.weight
    counted = y if weight is None else y[weight > 0]
    least, most = counted.min(axis=0, initial=np.inf), counted.max(axis=0, initial=-np.inf)
    total = float(len(y) if weight is None else weight.sum())
    with np.errstate(over="ignore", invalid="ignore"):
        sums = y.sum(axis=0) if weight is None else weight @ y
    return total, sums, least, most, max_abs(block.y)


def _squares(block: Partition, mean: Array, exponent: Array) -> Array:
    """Return the sums of the squares of targets less their means, over 2**exponent."""
    y, weight = _columns(block), block.weight
    with np.errstate(over="ignore", invalid="ignore"):
        squares = squared_deviations(y, mean, exponent)
        sums: Array = squares.sum(axis=0) if weight is None else weight @ squares
    return sums


def _columns(block: Partition) -> Array:
    y = block.y[:, None] if block.y.ndim == 1 else block.y
    return y.astype(np.float64)


def checked_numbers(block: Partition, numbers: RegressionTargets) -> None:
    """Check that a loss takes the targets of a block."""
    numbers.encode(block.y, needs_all=False)


def encoded(block: Partition, targets: Any) -> Partition:
    """Return a block whose targets are as a network learns them."""
    return block._replace(y=targets.encode(block.y, needs_all=False))
