"""Rows in blocks, each on the worker that holds it: from Dask's arrays and frames to checked ones.

What runs on the workers are functions of one block; what comes back to the client of a block are a
few numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from operator import getitem
from typing import Any, NamedTuple
from uuid import uuid4

import dask.array as da
import dask.dataframe as dd
import numpy as np
from dask import delayed
from distributed import Client, Future
from scipy.sparse import issparse, vstack

from ..estimators._validation import (
    bare_clone,
    check_range,
    infer_dtype,
    prefix_errors,
    validated_weight,
)
from ..nn.data_loader import Dataset
from ..training.architecture import MLPSpec
from ..utils.arrays import Array
from ._errors import translate_comm_errors

# Names of tasks, which Dask's dashboard groups by what comes before the first number.
ROWS, FACTS = "backprop-rows", "backprop-facts"
TARGETS, SAMPLE = "backprop-targets", "backprop-sample"


class Partition(NamedTuple):
    """Rows on one worker.

    Parameters
    ----------
    X : array or CSR matrix of shape (n, d)
        The input, checked.
    y : array of shape (n,) or (n, k)
        The targets: checked, and later as a network learns them.
    weight : array of shape (n,) or None
        What the rows weigh; None for ones.
    """

    X: Any
    y: Array
    weight: Array | None

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return int(self.X.shape[0])

    def table(self, rows: Any) -> Dataset:
        """Return some rows as a table."""
        return Dataset(
            self.X[rows], self.y[rows], None if self.weight is None else self.weight[rows]
        )


class PartitionInfo(NamedTuple):
    """What the client knows of a block.

    Parameters
    ----------
    n_rows, n_features : int
        Its shape.
    names : array of str or None
        The names of its columns, if they have any.
    dtype : dtype
        That of X.
    y_shape : tuple
        The shape of a row of y: empty for one value.
    weight : float
        What its rows weigh.
    is_sparse : bool
        Whether X is a CSR matrix.
    n_numbers : int
        The numbers of X that are in memory.
    """

    n_rows: int
    n_features: int
    names: Array | None
    dtype: np.dtype[Any]
    y_shape: tuple[int, ...]
    weight: float
    is_sparse: bool
    n_numbers: int


@dataclass(frozen=True)
class Partitions:
    """Rows in blocks on the workers.

    Parameters
    ----------
    client : Client
        The cluster's client.
    futures : list of Future
        The blocks, none empty.
    facts : list of Facts
        What is known of each.
    """

    client: Client
    futures: list[Future]
    facts: list[PartitionInfo]

    @property
    def n_rows(self) -> int:
        """The rows of all blocks."""
        return sum(fact.n_rows for fact in self.facts)

    @property
    def weight(self) -> float:
        """What all rows weigh."""
        return math.fsum(fact.weight for fact in self.facts)

    @property
    def dtype(self) -> np.dtype[Any]:
        """What holds the numbers of X of all of them."""
        return np.result_type(*(fact.dtype for fact in self.facts))

    def check_weight(self, name: str = "sample_weight") -> None:
        """Check that there is a row that weighs something, and that the weights can be added up."""
        if not 0 < self.weight < math.inf:
            raise ValueError(
                f"{name} adds up to {self.weight:g} over all rows, but has to be above zero and "
                "finite. Give a weight above zero to a row at least, or scale the weights down."
            )

    def each(self, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Return what a function makes of each block, which is to be little."""
        return gather_partitions(
            self.client, _submitted(self.client, function, self.futures, arguments, FACTS)
        )

    def map_blocks(self, function: Callable[..., Partition], *arguments: Any) -> Partitions:
        """Return other blocks in the place of these, made of each where it is."""
        made = _submitted(self.client, function, self.futures, arguments, TARGETS)
        return replace(self, futures=made)

    def weighed_anew(self) -> Partitions:
        """Return the same blocks, with what their rows weigh now."""
        weights = zip(self.facts, self.each(_weight_of), strict=True)
        return replace(self, facts=[fact._replace(weight=weight) for fact, weight in weights])

    def sample(self, n_numbers: int) -> Partition:
        """Return rows of about so many numbers, spread evenly among all; all if there are no more.

        There are two of them at least. A sparse row counts as one number at least.
        """
        n_there = max(self.n_rows, sum(fact.n_numbers for fact in self.facts))
        n_rows = max(2, n_numbers * self.n_rows // n_there)
        every = max(1, -(-self.n_rows // n_rows))
        starts = np.cumsum([0, *(fact.n_rows for fact in self.facts)]).tolist()
        futures = [
            self.client.submit(_every, future, -start % every, every, key=SAMPLE + unique_name())
            for future, start in zip(self.futures, starts, strict=False)
        ]
        parts = gather_partitions(self.client, futures)
        joined: Any = vstack if self.facts[0].is_sparse else np.concatenate
        weights = [part.weight for part in parts if part.weight is not None]
        return Partition(
            joined([part.X for part in parts]),
            np.concatenate([part.y for part in parts]),
            np.concatenate(weights) if weights else None,
        )


def blocks_of(
    client: Client,
    X: Any,
    y: Any,
    weight: Any,
    reader: Any,
    *,
    resets: bool,
    dtype: np.dtype[Any] | None,
    architecture: MLPSpec,
    name: str = "X",
) -> Partitions:
    """Return checked rows of Dask's arrays or frames; the reader takes note of the features.

    Parameters
    ----------
    client : Client
        The cluster's client.
    X, y, weight : Dask array or frame; weight may be None
        What the user gives.
    reader : estimator
        What checks X and y of each block as it would check those of a local fit.
    resets : bool
        Whether the features are those of X from now on; else X has to have those that are known.
    dtype : dtype or None
        What the network computes in; None for that of X.
    architecture : Architecture
        What has to take the rows.
    name : str, default="X"
        What X is called in errors.
    """
    triples = delayed_blocks(X, y, weight, name)
    token, check = unique_name(), delayed(_checked, pure=False)
    pairs = client.compute(
        [
            check(
                *triple,
                reader,
                resets,
                dtype,
                architecture,
                f"block {i} of {name}",
                dask_key_name=(ROWS + token, i),
            )
            for i, triple in enumerate(triples)
        ]
    )
    futures, facts = (_submitted(client, getitem, pairs, (k,), FACTS) for k in (0, 1))
    facts = gather_partitions(client, facts)
    there = [(future, fact) for future, fact in zip(futures, facts, strict=True) if fact]
    if not there:
        raise ValueError(f"{name} has no rows, but at least one is needed to train on.")
    blocks = Partitions(client, *(list(each) for each in zip(*there, strict=True)))
    _check_alike(blocks.facts, name)
    if resets:
        first = blocks.facts[0]
        reader.n_features_in_ = first.n_features
        if first.names is not None:
            reader.feature_names_in_ = first.names
    return blocks


def gather_partitions(client: Client, futures: Sequence[Future]) -> list[Any]:
    """Return the results of tasks, which are to be little; what one has raised is raised."""
    with translate_comm_errors():
        return list(client.gather(list(futures)))


def _submitted(
    client: Client,
    function: Callable[..., Any],
    futures: Sequence[Future],
    arguments: Sequence[Any],
    name: str,
) -> list[Future]:
    """Return tasks, named for Dask's dashboard, of a function of each of several results."""
    token = unique_name()
    return [
        client.submit(function, future, *arguments, key=(name + token, i))
        for i, future in enumerate(futures)
    ]


def unique_name() -> str:
    """Return the end of a name that no other task has."""
    return f"-{uuid4().hex}"


# ------------------------------------------------------------------- from Dask's collections


def delayed_blocks(X: Any, y: Any, weight: Any, name: str) -> list[tuple[Any, Any, Any]]:
    """Return X, y and weight of each block, not computed yet."""
    of_rows = name.removeprefix("X")
    named = {name: X, f"y{of_rows}": y}
    if weight is not None:
        named[f"sample_weight{of_rows}"] = weight
    for called, value in named.items():
        if not isinstance(value, (da.Array, dd.DataFrame, dd.Series)):
            raise TypeError(
                f"{called} must be a Dask array or frame, got {type(value).__name__}. Give rows "
                "that are in this process to the local estimator, or make a Dask array of them "
                "with dask.array.from_array."
            )
    X = in_one_block_of_columns(X)
    others = [None if each is None else _cut_like(each, X) for each in (y, weight)]
    columns = [row_blocks(each) for each in (X, *others) if each is not None]
    numbers = {len(column) for column in columns}
    if len(numbers) > 1:
        raise ValueError(
            f"{', '.join(named)} have {', '.join(str(len(c)) for c in columns)} blocks of rows, "
            "but each block of one needs its own of the others. Rechunk or repartition them alike. "
            "Arrays made by to_dask_array() have blocks of their own: give the frames instead, or "
            "call compute_chunk_sizes() of each array before."
        )
    if weight is None:
        columns.append([None] * len(columns[0]))
    return list(zip(*columns, strict=True))


def in_one_block_of_columns(array: Any) -> Any:
    """Return an array each row of which is in one block."""
    if isinstance(array, da.Array) and array.ndim == 2 and array.numblocks[1] > 1:
        return array.rechunk({1: -1})
    return array


def _cut_like(array: Any, X: Any) -> Any:
    """Return an array with blocks of the rows of X, where both know how many they have."""
    array = in_one_block_of_columns(array)
    if not (isinstance(array, da.Array) and isinstance(X, da.Array)):
        return array
    own, others = array.chunks[0], X.chunks[0]
    is_known = not np.isnan([*own, *others]).any()
    if is_known and sum(own) == sum(others) and own != others:
        return array.rechunk({0: others})
    return array


def row_blocks(array: Any) -> list[Any]:
    """Return the blocks of rows of a Dask array or frame, not computed yet.

    A frame has a block for each of its partitions. Dask's full optimization would join partitions
    of a file of which few columns are read, so that X and y of one file had different blocks. So
    the columns are still chosen when the file is read, but no partitions are joined.
    """
    if isinstance(array, da.Array):
        return list(array.to_delayed().ravel())
    return list(array.simplify().to_delayed(optimize_graph=False))


# --------------------------------------------------------------------------- on the workers


def _checked(
    X: Any,
    y: Any,
    weight: Any,
    reader: Any,
    resets: bool,
    dtype: Any,
    architecture: MLPSpec,
    name: str,
) -> tuple[Partition, PartitionInfo] | tuple[None, None]:
    """Return a block of rows that are what they should be, with what is known of it."""
    if X.shape[0] == 0:  # a matrix has no len
        return None, None
    reader = bare_clone(reader)
    with prefix_errors(name):
        X, y = reader._validated(X, y, reset=resets)
        check_range(X, dtype or infer_dtype(X))
        if weight is not None:
            weight = validated_weight(np.asarray(weight).reshape(-1), X, may_be_zero=True)
        architecture.validate_input(X)
    if issparse(y):
        raise TypeError(
            f"y of {name} is sparse, but targets on a cluster have to be dense: give "
            "y.map_blocks(lambda block: block.toarray())."
        )
    block = Partition(X, y, weight)
    return block, PartitionInfo(
        n_rows=X.shape[0],
        n_features=X.shape[1],
        names=vars(reader).get("feature_names_in_"),
        dtype=X.dtype,
        y_shape=y.shape[1:],
        weight=_weight_of(block),
        is_sparse=issparse(X),
        n_numbers=X.size,  # of a matrix: those that it stores
    )


def _weight_of(block: Partition) -> float:
    return float(block.n_rows if block.weight is None else block.weight.sum())


def _every(block: Partition, start: int, step: int) -> Partition:
    """Return every so many rows of a block, from one on."""
    rows = slice(start, None, step)
    weight = None if block.weight is None else block.weight[rows].copy()
    return Partition(block.X[rows].copy(), block.y[rows].copy(), weight)


def _check_alike(facts: Sequence[PartitionInfo], name: str) -> None:
    """Check that all blocks have the same columns."""
    first = facts[0]
    for fact in facts:
        if fact.n_features != first.n_features or fact.y_shape != first.y_shape:
            raise ValueError(
                f"{name} has {first.n_features} columns in its first block and {fact.n_features} "
                f"in another, y {first.y_shape or 'one'} and {fact.y_shape or 'one'}: all blocks "
                "need the same."
            )
        if fact.is_sparse != first.is_sparse:
            raise ValueError(
                f"{name} has blocks of sparse matrices and of dense arrays: all need to be of one "
                "kind. X.map_blocks(scipy.sparse.csr_matrix) makes all of them sparse."
            )
