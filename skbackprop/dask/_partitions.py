"""Checked rows of Dask collections, as futures on the workers.

What runs on the workers are functions of one `Partition`. Only small results come to the client.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from uuid import uuid4

import numpy as np
from dask import delayed
from distributed import Client, Future
from scipy.sparse import issparse, vstack
from sklearn.base import is_regressor

from ..estimators._validation import (
    get_row_shape,
    prefix_errors,
    set_attributes,
    validate_features_and_targets,
    validate_weight,
)
from ..nn.data_loader import Dataset
from ..training.architecture import MLPSpec
from ..utils.arrays import Array
from ._cluster_errors import translate_comm_errors
from ._row_blocks import matching_blocks


class Partition(NamedTuple):
    """Rows on one worker.

    Parameters
    ----------
    X : array, CSR matrix or LazyMatrix of shape (n, d), data frame or ScaledRows
        The input, checked; of tabular estimators the raw rows, later encoded for the network.
    y : array of shape (n,) or (n, k)
        The targets, checked; later encoded for the network.
    weight : array of shape (n,) or None
        The sample weights; None for equal weights.
    folds : array of int of shape (n,) or None, default=None
        The network that holds out each row; None if all train on all rows.
    """

    X: Any
    y: Array
    weight: Array | None
    folds: Array | None = None

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self.y)

    @property
    def total_weight(self) -> float:
        """The sum of the sample weights."""
        return float(self.n_rows if self.weight is None else self.weight.sum())

    def take(self, rows: Any) -> Partition:
        """Return some of the rows."""
        weight = None if self.weight is None else self.weight[rows]
        folds = None if self.folds is None else self.folds[rows]
        return Partition(self.X[rows], self.y[rows], weight, folds)

    def training_weight(self, member: int) -> Array | None:
        """Return the weights in the training of a network: zero for rows that it holds out."""
        if self.folds is None:
            return self.weight
        is_train = (self.folds != member).astype(np.float64)
        return is_train if self.weight is None else self.weight * is_train


class PartitionInfo(NamedTuple):
    """Facts about a partition that the client knows.

    Parameters
    ----------
    n_rows : int
        The number of rows.
    row_shape : tuple
        The shape of a row of X, before it was flattened.
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
    n_held_out : int, default=0
        The number of rows that each network holds out, at least.
    """

    n_rows: int
    row_shape: tuple[int, ...]
    feature_names: Array | None
    dtype: np.dtype[Any]
    y_shape: tuple[int, ...]
    weight: float
    is_sparse: bool
    n_stored: int
    n_held_out: int = 0

    @property
    def n_train(self) -> int:
        """The number of rows that a network is trained on, at most."""
        return self.n_rows - self.n_held_out


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
    def n_train(self) -> int:
        """The number of rows that a network is trained on, at most."""
        return sum(info.n_train for info in self.infos)

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
        """The attributes of an estimator that has validated these features."""
        first = self.infos[0]
        names = {} if first.feature_names is None else {"feature_names_in_": first.feature_names}
        shape = first.row_shape
        return {"n_features_in_": math.prod(shape), "_row_shape": shape, **names}

    def check_weight(self, name: str = "sample_weight") -> None:
        """Check that the total weight is positive and finite."""
        if not 0 < self.weight < math.inf:
            raise ValueError(
                f"{name} must have a positive and finite sum over all rows, got {self.weight:g}. "
                "Give at least one row a positive weight, or scale the weights down."
            )

    def compute(self, function: Callable[..., Any], **arguments: Any) -> list[Any]:
        """Return the result of a function of each partition, which should be small."""
        futures = self.client.map(
            function, self.futures, key="backprop-statistics", pure=False, **arguments
        )
        return gather(self.client, futures)

    def map(self, function: Callable[..., Partition], **arguments: Any) -> Partitions:
        """Return new partitions, made of each where it is."""
        futures = self.client.map(
            function, self.futures, key="backprop-encoded", pure=False, **arguments
        )
        return replace(self, futures=futures)

    def sample(self, n_values: int) -> Partition:
        """Return evenly spaced rows with about `n_values` values of X, at least two rows.

        All rows are returned if they have no more values. A sparse row counts as at least one.
        """
        n_stored = max(self.n_rows, sum(info.n_stored for info in self.infos))
        step = max(1, -(-self.n_rows // max(2, n_values * self.n_rows // n_stored)))
        starts = np.cumsum([0, *(info.n_rows for info in self.infos)])[:-1]
        futures = self.client.map(
            _take_every,
            self.futures,
            (-starts % step).tolist(),
            step=step,
            key="backprop-sample",
            pure=False,
        )
        X, y, weights, _ = zip(*gather(self.client, futures), strict=True)
        weight = None if weights[0] is None else np.concatenate(weights)
        join: Any = vstack if self.infos[0].is_sparse else np.concatenate
        return Partition(join(X), np.concatenate(y), weight)


@dataclass(frozen=True)
class ClientRows(Dataset):
    """Rows of partitions that the client has: a sample, or the targets alone.

    Parameters
    ----------
    X, y, weight : arrays
        The rows.
    partitions : Partitions
        All rows, on the workers.
    """

    partitions: Partitions = field(kw_only=True)


def make_partitions(
    client: Client,
    X: Any,
    y: Any,
    weight: Any,
    make: Callable[..., Any],
    name: str = "X",
) -> Partitions:
    """Return the rows of Dask arrays or frames, checked on the workers.

    Parameters
    ----------
    client : Client
        The client of the cluster.
    X, y, weight : Dask array or frame
        The rows as passed to `fit`; the weight may be None.
    make : callable
        Returns the `Partition` and the `PartitionInfo` of a block, given its X, y and weight, its
        name in errors and its number; None and None if it has no rows.
    name : str, default="X"
        The name of X in errors.
    """
    make = delayed(make, pure=False, nout=2)
    pairs = [
        make(*block, f"block {i} of {name}", i, dask_key_name=f"backprop-rows-{uuid4()}")
        for i, block in enumerate(matching_blocks(X, y, weight, name))
    ]
    # Together, so that each block is read and checked once.
    futures = client.compute([half for pair in pairs for half in pair])
    infos = gather(client, futures[1::2])
    rows = [pair for pair in zip(futures[::2], infos, strict=True) if pair[1] is not None]
    if not rows:
        raise ValueError(f"{name} must have at least one row for training, got none.")
    partitions = Partitions(client, [future for future, _ in rows], [info for _, info in rows])
    kinds = {(info.row_shape, info.y_shape, info.is_sparse) for info in partitions.infos}
    if len(kinds) > 1:
        raise ValueError(
            f"All blocks of {name} and of its y must have the same columns, and be all dense or "
            f"all sparse, but (shape of a row of {name}, shape of a row of y, is sparse) is one of "
            f"{sorted(kinds)}. Convert the blocks, for example with "
            "X.map_blocks(scipy.sparse.csr_matrix)."
        )
    return partitions


def make_network_partition(
    X: Any,
    y: Any,
    weight: Any,
    name: str,
    number: int,
    *,
    kind: Any,
    features: dict[str, Any] | None,
    dtype: np.dtype[Any] | None,
    architecture: MLPSpec,
) -> tuple[Partition, PartitionInfo] | tuple[None, None]:
    """Return a partition, checked as by the fit of a local estimator, and facts about it.

    Parameters
    ----------
    X, y, weight : block
        The rows; the weight may be None. For an empty block None is returned twice.
    name : str
        The name of the block in errors.
    number : int
        The number of the block.
    kind : class
        The class of the local estimator.
    features : dict or None
        The attributes `n_features_in_`, `_row_shape` and `feature_names_in_` that X must agree
        with; None to accept any features.
    dtype : dtype or None
        The dtype of the network; None for the dtype of X.
    architecture : MLPSpec
        The network that has to accept the rows.
    """
    if X.shape[0] == 0:  # a sparse matrix has no len
        return None, None
    estimator = kind(layers=architecture.layers, input_shape=architecture.input_shape)
    set_attributes(estimator, features or {})
    with prefix_errors(name):
        X, y = validate_features_and_targets(
            estimator, X, y, is_regressor(estimator), reset=features is None
        )
        if weight is not None:
            weight = validate_weight(np.asarray(weight).reshape(-1), X, may_be_zero=True)
        architecture.validate_input(X)
        if architecture.reads_sequences:
            architecture.network(get_row_shape(estimator), 1).validate_padding(X)
    if issparse(y):
        raise TypeError(
            f"y of {name} must be dense, got a sparse array. Pass y.map_blocks(lambda block: "
            "block.toarray())."
        )
    partition = Partition(X, y, weight)
    return partition, PartitionInfo(
        n_rows=X.shape[0],
        row_shape=get_row_shape(estimator),
        feature_names=getattr(estimator, "feature_names_in_", None),
        dtype=X.dtype,
        y_shape=y.shape[1:],
        weight=partition.total_weight,
        is_sparse=issparse(X),
        n_stored=X.size,
    )


def gather(client: Client, futures: Sequence[Future]) -> list[Any]:
    """Return the results of small tasks, or raise the error of a task."""
    with translate_comm_errors():
        return list(client.gather(list(futures)))


def _take_every(partition: Partition, start: int, step: int) -> Partition:
    """Return every `step`-th row, without the memory of the others."""
    X, y, weight, _ = partition.take(slice(start, None, step))
    return Partition(X.copy(), y.copy(), None if weight is None else weight.copy())
