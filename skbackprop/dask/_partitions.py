"""Checked rows of Dask collections, as futures on the workers.

What runs on the workers are functions of one `Partition`. Only small results, such as counts and
sums, come to the client.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from operator import getitem
from typing import Any, NamedTuple
from uuid import uuid4

import dask.array as da
import dask.dataframe as dd
import numpy as np
from dask import delayed
from distributed import Client, Future
from scipy.sparse import issparse, vstack

from ..estimators._validation import check_fits_dtype, infer_dtype, prefix_errors, validated_weight
from ..nn.data_loader import Dataset
from ..training.architecture import MLPSpec
from ..utils.arrays import Array
from ._errors import translate_comm_errors


class Partition(NamedTuple):
    """Rows on one worker.

    Parameters
    ----------
    X : array or CSR matrix of shape (n, d)
        The input, checked.
    y : array of shape (n,) or (n, k)
        The targets, checked; later encoded for the network.
    weight : array of shape (n,) or None
        The sample weights; None for equal weights.
    """

    X: Any
    y: Array
    weight: Array | None

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return int(self.X.shape[0])

    @property
    def total_weight(self) -> float:
        """The sum of the sample weights."""
        return float(self.n_rows if self.weight is None else self.weight.sum())

    def take(self, rows: Any) -> Partition:
        """Return some of the rows."""
        weight = None if self.weight is None else self.weight[rows]
        return Partition(self.X[rows], self.y[rows], weight)


class PartitionInfo(NamedTuple):
    """Facts about a partition that the client knows.

    Parameters
    ----------
    n_rows, n_features : int
        The shape of X.
    feature_names : array of str or None
        The names of the columns, if they have any.
    dtype : dtype
        The dtype of X.
    y_shape : tuple
        The shape of a row of y; empty for one value.
    weight : float
        The total weight of the rows.
    is_sparse : bool
        Whether X is a CSR matrix.
    n_stored : int
        The number of values of X in memory.
    """

    n_rows: int
    n_features: int
    feature_names: Array | None
    dtype: np.dtype[Any]
    y_shape: tuple[int, ...]
    weight: float
    is_sparse: bool
    n_stored: int


@dataclass(frozen=True)
class Partitions:
    """Rows of a Dask collection, as futures of `Partition`.

    Parameters
    ----------
    client : Client
        The client of the cluster.
    futures : list of Future
        The partitions. None is empty.
    infos : list of PartitionInfo
        Facts about each.
    """

    client: Client
    futures: list[Future]
    infos: list[PartitionInfo]

    @property
    def n_rows(self) -> int:
        """The total number of rows."""
        return sum(info.n_rows for info in self.infos)

    @property
    def weight(self) -> float:
        """The total weight of the rows."""
        return math.fsum(info.weight for info in self.infos)

    @property
    def dtype(self) -> np.dtype[Any]:
        """A dtype that holds X of all partitions."""
        return np.result_type(*(info.dtype for info in self.infos))

    @property
    def feature_attributes(self) -> dict[str, Any]:
        """The attributes of an estimator that is fitted to these features."""
        first = self.infos[0]
        names = {} if first.feature_names is None else {"feature_names_in_": first.feature_names}
        return {"n_features_in_": first.n_features, **names}

    def check_weight(self, name: str = "sample_weight") -> None:
        """Check that the total weight is positive and finite."""
        if not 0 < self.weight < math.inf:
            raise ValueError(
                f"{name} adds up to {self.weight:g} over all rows, but the sum must be positive "
                "and finite. Give at least one row a positive weight, or scale the weights down."
            )

    def compute(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return the result of a function of each partition, which should be small."""
        return gather(self.client, self._submit(function, arguments, "backprop-facts"))

    def map(self, function: Callable[..., Partition], *arguments: Any) -> Partitions:
        """Return new partitions, made of each where it is."""
        return replace(self, futures=self._submit(function, arguments, "backprop-targets"))

    def with_current_weights(self) -> Partitions:
        """Return the same partitions with the total weight of each computed again."""
        weights = self.compute(_total_weight)
        infos = zip(self.infos, weights, strict=True)
        return replace(self, infos=[info._replace(weight=weight) for info, weight in infos])

    def _submit(
        self, function: Callable[..., Any], arguments: Sequence[Any], name: str
    ) -> list[Future]:
        # Dask's dashboard groups tasks by the part of their name before the first digit.
        token = name + unique_suffix()
        return [
            self.client.submit(function, future, *arguments, key=(token, i))
            for i, future in enumerate(self.futures)
        ]

    def sample(self, n_values: int) -> Partition:
        """Return evenly spaced rows with about `n_values` values of X, at least two rows.

        All rows are returned if they have no more values. A sparse row counts as at least one.
        """
        n_stored = max(self.n_rows, sum(info.n_stored for info in self.infos))
        n_rows = max(2, n_values * self.n_rows // n_stored)
        step = max(1, -(-self.n_rows // n_rows))
        starts = np.cumsum([0, *(info.n_rows for info in self.infos)]).tolist()
        key = "backprop-sample"
        futures = [
            self.client.submit(_take_every, future, -start % step, step, key=key + unique_suffix())
            for future, start in zip(self.futures, starts, strict=False)
        ]
        X, y, weights = zip(*gather(self.client, futures), strict=True)
        join: Any = vstack if self.infos[0].is_sparse else np.concatenate
        has_weights = weights[0] is not None
        return Partition(
            join(X), np.concatenate(y), np.concatenate(weights) if has_weights else None
        )


@dataclass(frozen=True)
class PartitionedDataset(Dataset):
    """Rows of partitions that the client has: a sample, or the targets alone.

    Parameters
    ----------
    X, y, weight : arrays
        The rows.
    partitions : Partitions
        All rows, on the workers.
    """

    partitions: Partitions = field(kw_only=True)


@dataclass(frozen=True)
class PartitionValidator:
    """Checks of the rows of one partition, as the fit of a local estimator makes them.

    Parameters
    ----------
    kind : class
        The class of the local estimator.
    features : dict or None
        The attributes `n_features_in_` and `feature_names_in_` that X must agree with; None to
        accept any features.
    dtype : dtype or None
        The dtype of the network; None for the dtype of X.
    architecture : MLPSpec
        The network that has to accept the rows.
    """

    kind: Any
    features: dict[str, Any] | None
    dtype: np.dtype[Any] | None
    architecture: MLPSpec

    def __call__(
        self, X: Any, y: Any, weight: Any, name: str
    ) -> tuple[Partition, PartitionInfo] | tuple[None, None]:
        """Return the checked partition and facts about it; None for both if it is empty."""
        if X.shape[0] == 0:  # a sparse matrix has no len
            return None, None
        estimator = self.kind()
        estimator._set(self.features or {})
        with prefix_errors(name):
            X, y = estimator._validated(X, y, reset=self.features is None)
            check_fits_dtype(X, self.dtype or infer_dtype(X))
            if weight is not None:
                weight = validated_weight(np.asarray(weight).reshape(-1), X, may_be_zero=True)
            self.architecture.validate_input(X)
        if issparse(y):
            raise TypeError(
                f"y of {name} is sparse, but a Dask estimator needs dense targets. Pass "
                "y.map_blocks(lambda block: block.toarray())."
            )
        partition = Partition(X, y, weight)
        return partition, PartitionInfo(
            n_rows=X.shape[0],
            n_features=X.shape[1],
            feature_names=vars(estimator).get("feature_names_in_"),
            dtype=X.dtype,
            y_shape=y.shape[1:],
            weight=partition.total_weight,
            is_sparse=issparse(X),
            n_stored=X.size,
        )


def make_partitions(
    client: Client, X: Any, y: Any, weight: Any, validator: PartitionValidator, name: str = "X"
) -> Partitions:
    """Return the rows of Dask arrays or frames, checked on the workers.

    Parameters
    ----------
    client : Client
        The client of the cluster.
    X, y, weight : Dask array or frame
        The rows as passed to `fit`; the weight may be None.
    validator : PartitionValidator
        The checks of each partition.
    name : str, default="X"
        The name of X in errors.
    """
    token, check = "backprop-rows" + unique_suffix(), delayed(validator, pure=False)
    pairs = client.compute(
        [
            check(*columns, f"block {i} of {name}", dask_key_name=(token, i))
            for i, columns in enumerate(delayed_partitions(X, y, weight, name))
        ]
    )
    both = Partitions(client, pairs, [])
    futures = both._submit(getitem, (0,), "backprop-facts")
    infos = both.compute(getitem, 1)
    nonempty = [pair for pair in zip(futures, infos, strict=True) if pair[1] is not None]
    if not nonempty:
        raise ValueError(f"{name} has no rows, but at least one is needed for training.")
    partitions = Partitions(client, *(list(each) for each in zip(*nonempty, strict=True)))
    _check_same_columns(partitions.infos, name)
    return partitions


def gather(client: Client, futures: Sequence[Future]) -> list[Any]:
    """Return the results of small tasks, or raise the error of a task."""
    with translate_comm_errors():
        return list(client.gather(list(futures)))


def unique_suffix() -> str:
    """Return the end of a task name that no other task has."""
    return f"-{uuid4().hex}"


# ------------------------------------------------------------------- Dask collections


def delayed_partitions(X: Any, y: Any, weight: Any, name: str) -> list[tuple[Any, Any, Any]]:
    """Return X, y and the weight of each block of rows, not computed yet."""
    suffix = name.removeprefix("X")
    arrays = {name: X, f"y{suffix}": y}
    if weight is not None:
        arrays[f"sample_weight{suffix}"] = weight
    for argument, value in arrays.items():
        if not isinstance(value, (da.Array, dd.DataFrame, dd.Series)):
            raise TypeError(
                f"{argument} must be a Dask array or frame, got {type(value).__name__}. Use the "
                "local estimator for rows in this process, or make a Dask array with "
                "dask.array.from_array."
            )
    X = merge_column_chunks(X)
    columns = [row_blocks(X)]
    columns += [row_blocks(_rechunk_like(each, X)) for each in (y, weight) if each is not None]
    if len({len(column) for column in columns}) > 1:
        raise ValueError(
            f"{', '.join(arrays)} have {', '.join(str(len(c)) for c in columns)} blocks of rows, "
            "but must have the same number. Rechunk or repartition them alike. "
            "Arrays made by to_dask_array() have blocks of their own: pass the frames instead, or "
            "call compute_chunk_sizes() of each array before."
        )
    if weight is None:
        columns.append([None] * len(columns[0]))
    return list(zip(*columns, strict=True))


def merge_column_chunks(array: Any) -> Any:
    """Return a collection in which each row lies in one block."""
    if isinstance(array, da.Array) and array.ndim == 2 and array.numblocks[1] > 1:
        return array.rechunk({1: -1})
    return array


def _rechunk_like(array: Any, X: Any) -> Any:
    """Return an array with the chunks of X, if the chunk sizes of both are known."""
    array = merge_column_chunks(array)
    if isinstance(array, da.Array) and isinstance(X, da.Array):
        own, target = array.chunks[0], X.chunks[0]
        # Unknown sizes are NaN, and so is their sum.
        if sum(own) == sum(target) and own != target:
            return array.rechunk({0: target})
    return array


def row_blocks(array: Any) -> list[Any]:
    """Return the blocks of rows of a Dask array or frame, not computed yet.

    A frame has a block for each of its partitions. Dask's full optimization would join partitions
    of a file from which few columns are read, and X and y of one file would have different blocks.
    So columns are still selected when the file is read, but no partitions are joined.
    """
    if isinstance(array, da.Array):
        return list(array.to_delayed().ravel())
    return list(array.simplify().to_delayed(optimize_graph=False))


# --------------------------------------------------------------------------- on the workers


def _total_weight(partition: Partition) -> float:
    return partition.total_weight


def _take_every(partition: Partition, start: int, step: int) -> Partition:
    """Return every `step`-th row, without the memory of the others."""
    X, y, weight = partition.take(slice(start, None, step))
    return Partition(X.copy(), y.copy(), None if weight is None else weight.copy())


def _check_same_columns(infos: Sequence[PartitionInfo], name: str) -> None:
    """Check that all partitions have the same columns, and that all or none are sparse."""
    first = infos[0]
    for info in infos:
        if info.n_features != first.n_features or info.y_shape != first.y_shape:
            raise ValueError(
                f"{name} has {first.n_features} columns in its first block and {info.n_features} "
                f"in another, y {first.y_shape or 'one'} and {info.y_shape or 'one'}. All blocks "
                "must have the same columns."
            )
        if info.is_sparse != first.is_sparse:
            raise ValueError(
                f"{name} has blocks of sparse matrices and of dense arrays. Make all of them of "
                "one kind, for example with X.map_blocks(scipy.sparse.csr_matrix)."
            )
