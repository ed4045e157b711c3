"""Raw tables on the workers of a cluster: their blocks, a sample of rows, and their encoding.

Rows stay on the workers. The client gets the counts of categories, sums of targets, and a random
sample of rows, which determines what is not a sum: the kinds of columns, and quantiles.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
from dask.dataframe.dispatch import concat
from scipy.sparse import issparse

from ..estimators._validation import prefix_errors, validate_weight
from ..tabular._categorical_encoding import (
    CategoricalEncoding,
    CategoryLevels,
    count_categories,
)
from ..tabular._column_kinds import find_kinds
from ..tabular._model_inputs import FeatureBuilder, FeatureView
from ..tabular._read_table import TableColumns, read_table
from ..tabular._table_encoding import (
    MAX_CATEGORIES,
    MIN_FREQUENCY,
    FittedEncoding,
    ScaledRows,
)
from ..tabular._target_encoding import TargetEncoding, TargetMoments
from ..tabular._targets import TabularTargets
from ..tabular.encoder import TableEncoder
from ..training.splitting import draw_folds
from ..utils.arrays import Array
from ._partitions import ClientRows, Partition, PartitionInfo, Partitions, gather

# The maximum number of rows of the sample; fewer for many columns, but not below the minimum.
_MAX_SAMPLE, _MIN_SAMPLE, _SAMPLE_VALUES = 1 << 16, 1 << 13, 1 << 21


def make_table_partition(
    X: Any,
    y: Any,
    weight: Any,
    name: str,
    number: int,
    *,
    validate_target: Callable[[Any], Array],
    is_stratified: bool,
    n_folds: int,
    seed: int,
) -> tuple[Partition, PartitionInfo] | tuple[None, None]:
    """Return a partition of a raw table, with checked targets, and facts about it.

    Parameters
    ----------
    X, y, weight : block
        The rows; the weight may be None. For an empty block None is returned twice.
    name : str
        The name of the block in errors.
    number : int
        The number of the block.
    validate_target : callable
        Returns a target as a 1d array; raises if it is not valid.
    is_stratified : bool
        Whether folds are stratified by the target, within the block.
    n_folds : int
        The number of folds.
    seed : int
        The seed of the fit. The fold of a row depends on it, on the number of the block and on the
        row's place there, so that any worker assigns the same.
    """
    if X.shape[0] == 0:
        return None, None
    if issparse(X):
        raise TypeError(
            f"{name} is sparse, but tabular estimators on a cluster take dense rows. Pass frames, "
            "or use DaskBackpropClassifier or DaskBackpropRegressor, which take sparse blocks."
        )
    with prefix_errors(name):
        y = validate_target(y)
        if len(y) != X.shape[0]:
            raise ValueError(
                f"X and y have inconsistent numbers of samples: {X.shape[0]} and {len(y)}."
            )
        if weight is not None:
            weight = validate_weight(np.asarray(weight).reshape(-1), y, may_be_zero=True)
    strata = np.unique(y, return_inverse=True)[1] if is_stratified else np.zeros(len(y))
    if weight is not None:
        strata = 2 * strata + (weight > 0)
    rng = np.random.RandomState([seed, number])
    folds = draw_folds(len(y), n_folds, rng, strata) + rng.randint(n_folds)
    folds = (folds % n_folds).astype(np.min_scalar_type(n_folds))
    partition = Partition(X, y, weight, folds)
    n_held_out = int(np.bincount(folds, minlength=n_folds).min())
    return partition, PartitionInfo(
        n_rows=len(y),
        row_shape=(X.shape[1],),
        feature_names=None,
        dtype=np.dtype(np.float32),
        y_shape=(),
        weight=partition.total_weight,
        is_sparse=False,
        n_stored=X.shape[0] * X.shape[1],
        n_held_out=n_held_out,
    )


def draw_sample(partitions: Partitions, seed: int) -> Partition:
    """Return a random sample of rows of raw tables; all rows if there are few."""
    (n_columns,) = partitions.infos[0].row_shape
    size = max(_MIN_SAMPLE, min(_MAX_SAMPLE, _SAMPLE_VALUES // n_columns))
    futures = partitions.client.map(
        _take_sample,
        partitions.futures,
        range(len(partitions.futures)),
        share=min(1.0, size / partitions.n_rows),
        seed=seed,
        key="backprop-sample",
        pure=False,
    )
    parts = [part for part in gather(partitions.client, futures) if part.n_rows]
    X, y, weights, folds = zip(*parts, strict=True)
    joined = np.concatenate(X) if isinstance(X[0], np.ndarray) else concat(list(X))
    weight = None if weights[0] is None else np.concatenate(weights)
    return Partition(joined, np.concatenate(y), weight, np.concatenate(folds))


def fit_features(
    estimator: Any,
    partitions: Partitions,
    sample: Partition,
    columns: TableColumns,
    n_folds: int,
    rng: np.random.RandomState,
) -> tuple[FeatureBuilder, ScaledRows]:
    """Fit the features of a tabular estimator to the rows of all partitions.

    Categories, their counts and target statistics are those of all rows. Everything else is fitted
    to the sample.

    Parameters
    ----------
    estimator : BaseTabular
        The estimator, which has read the columns of the sample, and whose targets are fitted.
    partitions : Partitions
        The raw rows.
    sample : Partition
        A sample of them.
    columns : TableColumns
        The columns of the sample.
    n_folds : int
        The number of folds.
    rng : RandomState
        Draws frequencies, and the start of a truncated SVD.

    Returns
    -------
    features : FeatureBuilder
        The features.
    rows : ScaledRows
        The rows of the sample, with out-of-fold target statistics.
    """
    reader, targets = _make_reader(estimator), estimator._targets
    kinds = find_kinds(columns, estimator.categorical_features, estimator.column_kinds or {})
    category_columns = [at for at, kind in enumerate(kinds) if kind == "category"]
    counts: list[Counter[Any]] = [Counter() for _ in category_columns]
    if category_columns:
        arguments = {"reader": reader, "category_columns": category_columns}
        for block in partitions.compute(_count_categories, **arguments):
            for total, own in zip(counts, block, strict=True):
                total.update(own)
    levels = [
        CategoryLevels.fit(own, columns.label(column), MIN_FREQUENCY)
        for own, column in zip(counts, category_columns, strict=True)
    ]
    categories = CategoricalEncoding.from_levels(category_columns, levels, MAX_CATEGORIES)
    assert sample.folds is not None
    if len(categories.target_encoded) and targets.target_type is not None:
        levels_by_column = {category_columns[at]: levels[at] for at in categories.target_encoded}
        blocks = partitions.compute(
            _target_moments,
            reader=reader,
            targets=targets,
            levels_by_column=levels_by_column,
            n_folds=n_folds,
        )
        moments = [TargetMoments.stack(own).merge(0) for own in zip(*blocks, strict=True)]
        n_outputs = len(moments[0].counts)
        classes = [None] if n_outputs == 1 else list(range(n_outputs))
        statistics = TargetEncoding.from_moments(moments, classes, sample.folds)
        categories = categories.with_statistics(statistics)
    encoding, rows = FittedEncoding.from_categories(
        columns,
        kinds,
        categories,
        categories.read_codes(columns),
        rng,
        np.float32,
        targets.encode(sample.y) if targets.target_type == "continuous" else None,
        partial(np.asarray, sample.folds),
    )
    return FeatureBuilder.from_encoding(encoding, rows, rng, partitions.n_rows)


def _make_reader(estimator: Any) -> TableEncoder:
    """Return a small encoder with the columns of an estimator, to read blocks."""
    reader = TableEncoder()
    reader.n_features_in_ = estimator.n_features_in_
    if hasattr(estimator, "feature_names_in_"):
        reader.feature_names_in_ = estimator.feature_names_in_
    return reader


def encode_rows(estimator: Any, partitions: Partitions, holds_out: bool) -> Partitions:
    """Return partitions of encoded rows, with encoded targets and the weights of training.

    Parameters
    ----------
    estimator : BaseTabular
        The estimator, whose targets and features are fitted.
    partitions : Partitions
        The raw rows.
    holds_out : bool
        Whether each network holds out a fold.
    """
    features = estimator._features
    encoded = partitions.map(
        _encode_partition,
        reader=_make_reader(estimator),
        features=features,
        targets=estimator._targets,
        holds_out=holds_out,
    )
    weights = encoded.compute(attrgetter("total_weight"))
    infos = [
        info._replace(
            row_shape=(features.n_encoded,),
            weight=weight,
            n_stored=info.n_rows * features.n_encoded,
            n_held_out=info.n_held_out if holds_out else 0,
        )
        for info, weight in zip(partitions.infos, weights, strict=True)
    ]
    return replace(encoded, infos=infos)


def rows_in_view(features: FeatureBuilder, rows: ClientRows, view: FeatureView) -> ClientRows:
    """Return encoded rows, on the client and on the workers, in a view."""
    X = features.make_training_input(rows.X, view)
    partitions = rows.partitions.map(_partition_in_view, features=features, view=view)
    width = X.shape[1]
    infos = [
        info._replace(row_shape=(width,), n_stored=info.n_rows * width) for info in partitions.infos
    ]
    return replace(rows, X=X, partitions=replace(partitions, infos=infos))


# --------------------------------------------------------------------------- on the workers


def _take_sample(partition: Partition, number: int, share: float, seed: int) -> Partition:
    """Return rows of a partition, each with a probability."""
    X, y, weight, folds = partition
    if share < 1:
        rng = np.random.RandomState([seed, number, 1])
        rows = np.flatnonzero(rng.random_sample(partition.n_rows) < share)
        X = X[rows] if isinstance(X, np.ndarray) else X.iloc[rows]
        y, weight = y[rows], None if weight is None else weight[rows]
        folds = None if folds is None else folds[rows]
    return Partition(X, y, weight, folds)


def _read(reader: TableEncoder, partition: Partition) -> TableColumns:
    with prefix_errors("a block of X"):
        return read_table(reader, partition.X, reset=False)


def _count_categories(
    partition: Partition, reader: TableEncoder, category_columns: Sequence[int]
) -> list[Counter[Any]]:
    """Return the counts of the categories in each of some columns."""
    columns = _read(reader, partition)
    with prefix_errors("a block of X"):
        return [count_categories(columns.values(at), columns.label(at)) for at in category_columns]


def _target_moments(
    partition: Partition,
    reader: TableEncoder,
    targets: TabularTargets,
    levels_by_column: dict[int, CategoryLevels],
    n_folds: int,
) -> list[TargetMoments]:
    """Return the moments of the target by fold and category, for each of some columns."""
    columns, folds = _read(reader, partition), partition.folds
    assert folds is not None
    y, n_classes = targets.encode(partition.y)[None], targets.n_classes
    if n_classes is not None and n_classes > 2:
        y = y == np.arange(n_classes)[:, None]
    y = y.astype(np.float64)
    return [
        TargetMoments.of_rows(
            levels.encode(columns.values(column)) - 1,
            folds,
            y,
            n_folds,
            levels.n_codes,
        )
        for column, levels in levels_by_column.items()
    ]


def _encode_partition(
    partition: Partition,
    reader: TableEncoder,
    features: FeatureBuilder,
    targets: TabularTargets,
    holds_out: bool,
) -> Partition:
    """Return encoded rows, with out-of-fold target statistics."""
    columns = _read(reader, partition)
    with prefix_errors("a block of X"):
        X = features.scale(columns, partition.folds)._replace(columns=None)  # forget the raw rows
    y = targets.encode(partition.y)
    weight = targets.training_weight(y, partition.weight)
    return Partition(X, y, weight, partition.folds if holds_out else None)


def _partition_in_view(
    partition: Partition, features: FeatureBuilder, view: FeatureView
) -> Partition:
    """Return encoded rows in a view."""
    return partition._replace(X=features.make_training_input(partition.X, view))
