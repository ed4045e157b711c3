"""Rows of data, and the shuffled batches of them for each member of a stack.

A chunk is several batches of one size: one call gathers their rows, and the batches are views of
its buffers, created once. Members may differ in their rows, their order and their number of rows.
Members whose next batches have one size form a group and go through the network together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
from scipy import sparse

from ..utils.arrays import (
    Array,
    BufferPool,
    FloatOrPerMember,
    IndexArray,
    LazyMatrix,
)

# Size of a chunk's input in bytes, or of its targets if they are wider, rounded to whole batches.
CHUNK_BYTES = 1 << 18


def row_vectors(values: Array) -> Array:
    """Return values of shape (n,) or (n, n_targets) with the axis of targets."""
    return values.reshape(len(values), -1)


def split_targets(y: Array, weight: Array | None) -> Iterator[tuple[Array, Array | None]]:
    """Yield the values and the weights of each target, of shape (n,).

    Both are given in the shape (n,) or (n, n_targets).
    """
    for target, values in enumerate(np.atleast_2d(y.T)):
        yield values, weight if weight is None or weight.ndim == 1 else weight[:, target]


@dataclass(frozen=True, eq=False)
class Rows:
    """Selected rows of a table, with their targets and weights.

    Parameters
    ----------
    X : array, LazyMatrix or CSR matrix of shape (n, d)
        The input.
    y : array or CSR matrix of shape (n, k)
        The encoded targets, of any dtype that the batches' dtype can hold. Batches are dense.
    weight : array of shape (n,) or (n, n_targets), or None, default=None
        The weights of the rows, or of their targets; None for equal weights.
    original_y : array-like, default=None
        The targets as the user has given them, for scorers.
    index : array of int or None, default=None
        The numbers of the selected rows of X; None for all.
    """

    X: Any
    y: Any
    weight: Array | None = None
    original_y: Any = None
    index: IndexArray | None = None

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return int(self.X.shape[0]) if self.index is None else len(self.index)

    def n_visited(self, order: IndexArray | None) -> int:
        """Return the number of rows that an order visits; None visits all."""
        return self.n_rows if order is None else len(order)

    @property
    def n_weights(self) -> int:
        """The number of weights of a row: one, one for each target, or 0 without weights."""
        return 0 if self.weight is None else math.prod(self.weight.shape[1:])

    @property
    def row_weight(self) -> Array | None:
        """The weight of each row, which is the mean of the weights of its targets."""
        weight = self.weight
        return weight if weight is None or weight.ndim == 1 else weight.mean(axis=1)

    @cached_property
    def selected_y(self) -> Array:
        """The encoded targets of the selected rows."""
        y: Array = self.select(self.y)
        return y

    @cached_property
    def selected_weight(self) -> Array | None:
        """The weights of the selected rows; None for equal weights, or if all are zero."""
        weight: Array | None = self.select(self.weight)
        return None if weight is None or not weight.any() else weight

    @property
    def is_sparse(self) -> bool:
        """Whether X is sparse."""
        return bool(sparse.issparse(self.X))

    def select(self, values: Any) -> Any:
        """Return the items of these rows, from an array for the whole table."""
        return values if self.index is None or values is None else values[self.index]

    def has_same_rows(self, other: Rows) -> bool:
        """Return whether two selections have the same rows of one table."""
        if other.X is not self.X or other.y is not self.y:
            return False
        indices: Any = self.index, other.index
        return indices[0] is indices[1] or np.array_equal(*indices)


@dataclass
class Batch:
    """Data of a training step, as views of a chunk's buffers.

    With a single member the arrays have no member axis. If several members see the same rows, the
    member axis of all arrays but `predictions` has length one, and broadcasts.

    Attributes
    ----------
    x : array of shape (n_estimators, n, d), or a list of CSR matrices
        The input.
    y, predictions : arrays of shape (n_estimators, n, k)
        The targets, and the array for the raw predictions.
    weight : array of shape (n_estimators, n, 1 or k), or float
        The factor of the gradient of each row, or of each of its outputs.
    total : array of shape (n_estimators, 1), or float
        The total weight of the rows over which the loss is averaged; `weight` is divided by it.
    is_empty : array of bool of shape (n_estimators,), or None
        The members whose batch has only rows of weight zero; None if there are none.
    activity_loss : float64 array of shape (n_estimators,), or None
        The weighted sum over the rows of the layers' own losses, as of the last step; None if no
        layer has one.
    """

    x: Any
    y: Array
    predictions: Array
    weight: FloatOrPerMember
    total: FloatOrPerMember
    is_empty: Array | None = None
    activity_loss: Array | None = None

    def member(self, i: int) -> Batch:
        """Return the batch of a single member, as views."""

        def get(value: Any) -> Any:
            return value if isinstance(value, float) else value[min(i, len(value) - 1)]

        x = [get(self.x)] if isinstance(self.x, list) else get(self.x)
        total = float(np.squeeze(get(self.total)))
        return Batch(x, get(self.y), self.predictions[i], get(self.weight), total)


@dataclass
class Chunk:
    """Consecutive batches of one size of a group of members, and their buffers."""

    members: slice
    batch_size: int
    batches: list[Batch]
    x: Any
    y: Array
    predictions: Array
    raw_weight: Any = None
    weight: Any = None


class Batches:
    """Batches of an epoch of a stack.

    Parameters
    ----------
    rows : sequence of Rows
        The data of each member, all dense or all sparse.
    orders : sequence of IndexArray or None
        The rows that each member visits, in order; None for all rows in their order. Members are
        sorted by the number of rows that they visit, the fewest first. If all share one table and
        one order, as the same objects, the rows are gathered once.
    batch_size : int
        The number of rows of a batch. Members with fewer rows have smaller batches.
    pool : BufferPool
        The memory for buffers.
    mean_over : {"batch", "epoch"}, default="batch"
        The rows over which the loss is averaged: those of a batch (stochastic solvers), or of all
        batches, whose gradients are then summed.
    """

    def __init__(
        self,
        rows: Sequence[Rows],
        orders: Sequence[IndexArray | None],
        batch_size: int,
        pool: BufferPool,
        mean_over: str = "batch",
    ) -> None:
        self.rows, self.orders = list(rows), list(orders)
        self.pool = pool
        self.is_sparse = rows[0].is_sparse
        self.is_shared, n_rows = True, list[int]()
        self._n_weights = 0
        for i, (member_rows, order) in enumerate(zip(rows, orders, strict=True)):
            n_rows.append(member_rows.n_visited(order))
            self._n_weights = max(self._n_weights, member_rows.n_weights)
            self.is_shared &= self._visits_the_same(0, i)
        assert n_rows == sorted(n_rows)
        self.n_rows = np.array(n_rows)
        self.batch_sizes = np.minimum(self.n_rows, batch_size).tolist()
        self.total_weights = self._total_weights()
        self._mean_over_epoch = mean_over == "epoch"
        self._chunks: list[tuple[int, Chunk]] = []
        self._plan()

    def set_rows(self, rows: Sequence[Rows]) -> None:
        """Replace the rows by others of the same number and kind."""
        self.rows = list(rows)
        self.total_weights = self._total_weights()

    def chunks(self) -> Iterator[Chunk]:
        """Yield chunks with each row of each member once. A chunk is valid until the next one."""
        for start, chunk in self._chunks:
            self._fill(chunk, start)
            yield chunk

    def _visits_the_same(self, i: int, j: int) -> bool:
        """Return whether two members visit the same rows in the same order."""
        return self.rows[i] is self.rows[j] and self.orders[i] is self.orders[j]

    def _total_weights(self) -> Array:
        """Return the total weight of the rows of each member, of shape (n_estimators,)."""
        totals = self.n_rows.astype(float)
        for member, (rows, order) in enumerate(zip(self.rows, self.orders, strict=True)):
            weight = rows.row_weight
            if weight is not None:
                # In the order of the table, the sum does not depend on the shuffling.
                if order is not None and len(order) < rows.n_rows:
                    weight = weight[np.sort(order)]
                totals[member] = weight.sum(dtype=float)
        return totals

    def _plan(self) -> None:
        """Split an epoch into chunks by group and batch size, and where a chunk is full."""
        n_rows = self.n_rows.tolist()
        buffers: dict[tuple[int, int, int, int], Chunk] = {}
        n_done, first_rows = [0] * len(n_rows), self.rows[0]
        n_columns = max(first_rows.X.shape[1], first_rows.y.shape[1])
        row_bytes = n_columns * self.pool.dtype.itemsize
        while n_done != n_rows:
            # The size of each member's next batch; members with equal sizes form a group.
            sizes = np.minimum(self.batch_sizes, np.subtract(n_rows, n_done)).tolist()
            stop = 0
            for (size, position), group in groupby(list(zip(sizes, n_done, strict=True))):
                start, stop = stop, stop + len(list(group))
                if size:
                    # The first member has the fewest rows.
                    n_full = (n_rows[start] - position) // size
                    n_batches = 1 if self.is_sparse else max(1, CHUNK_BYTES // (row_bytes * size))
                    n_batches = min(n_full, n_batches)
                    key = start, stop, size, n_batches
                    if key not in buffers:
                        buffers[key] = self._allocate(slice(start, stop), size, n_batches)
                    self._chunks.append((position, buffers[key]))
                    n_done[start:stop] = [position + size * n_batches] * (stop - start)

    def _allocate(self, members: slice, batch_size: int, n_batches: int) -> Chunk:
        """Return a chunk of undefined content."""
        n_estimators, n_rows = members.stop - members.start, batch_size * n_batches
        n_tables = 1 if self.is_shared else n_estimators
        n_inputs, n_outputs = self.rows[0].X.shape[1], self.rows[0].y.shape[1]
        # Sparse rows are a list of matrices, of a single batch.
        x: Any = [None] * n_tables
        if not self.is_sparse:
            x = self.pool.get("x", (n_tables, n_rows, n_inputs))
        chunk = Chunk(
            members,
            batch_size,
            [],
            x,
            self.pool.get("y", (n_tables, n_rows, n_outputs)),
            self.pool.get("predictions", (n_estimators, n_rows, n_outputs)),
        )
        if self._n_weights:
            # Weights may have any scale, so double precision holds them until normalization.
            chunk.raw_weight = np.empty((n_tables, n_rows, self._n_weights))
            n_factors = 1 if self._n_weights == 1 else n_outputs
            chunk.weight = self.pool.get("weight", (n_tables, n_rows, n_factors))
        axis: Any = 0 if n_estimators == 1 else slice(None)
        total = float(self.n_rows[0] if self._mean_over_epoch else batch_size)
        for start in range(0, n_rows, batch_size):
            row_slice = slice(start, start + batch_size)
            chunk.batches.append(
                Batch(
                    chunk.x if self.is_sparse else chunk.x[axis, row_slice],
                    chunk.y[axis, row_slice],
                    chunk.predictions[axis, row_slice],
                    1 / total if chunk.weight is None else chunk.weight[axis, row_slice],
                    total,
                )
            )
        return chunk

    def _fill(self, chunk: Chunk, start: int) -> None:
        """Gather the rows of a chunk, from the member's row `start` on in its order."""
        stop = start + chunk.batch_size * len(chunk.batches)
        for i in range(len(chunk.y)):
            member = chunk.members.start + i
            if i and self._visits_the_same(member - 1, member):
                for array in (chunk.x, chunk.y, chunk.raw_weight):
                    if array is not None:
                        array[i] = array[i - 1]
                continue
            rows, order = self.rows[member], self.orders[member]
            part: Any = slice(start, stop) if order is None else order[start:stop]
            if self.is_sparse:
                chunk.x[i] = rows.X[part]
            else:
                _gather(rows.X, part, chunk.x[i])
            _gather(rows.y, part, chunk.y[i])
            if chunk.raw_weight is not None:
                if rows.weight is None:
                    chunk.raw_weight[i] = 1
                else:
                    _gather(rows.weight.reshape(-1, self._n_weights), part, chunk.raw_weight[i])
        if chunk.raw_weight is not None:
            self._normalize_weights(chunk)

    def _normalize_weights(self, chunk: Chunk) -> None:
        """Divide the weights by their sums, and mark batches of weight zero."""
        shape = (len(chunk.y), len(chunk.batches), chunk.batch_size, self._n_weights, -1)
        weights = chunk.raw_weight.reshape(shape)
        if self._mean_over_epoch:
            members = slice(chunk.members.start, chunk.members.start + len(chunk.y))
            totals = self.total_weights[members, None]
            totals = np.repeat(totals, len(chunk.batches), axis=1)
        else:
            totals = weights.sum(axis=(2, 3, 4)) / self._n_weights
        divisors = np.where(totals == 0, 1, totals)[:, :, None, None, None]
        np.divide(weights, divisors, out=chunk.weight.reshape(shape), casting="same_kind")
        is_single = chunk.members.stop - chunk.members.start == 1
        for batch, total in zip(chunk.batches, totals.T, strict=True):
            batch.total = float(total[0]) if is_single else total[:, None]
            batch.is_empty = None if total.all() else total == 0


def _gather(source: Any, indices: Any, out: Array) -> None:
    """Copy rows of an array, a lazy or a CSR matrix to `out`, in the dtype of `out`."""
    if isinstance(source, LazyMatrix):
        source.write_rows(indices, out)
    elif not isinstance(source, np.ndarray):
        source[indices].astype(out.dtype, copy=False).toarray(out=out)
    elif isinstance(indices, slice):
        np.copyto(out, source[indices])
    elif source.dtype == out.dtype and source.flags.c_contiguous and out.flags.c_contiguous:
        # Indices are in range; mode="clip" avoids the buffer of NumPy's check.
        np.take(source, indices, axis=0, out=out, mode="clip")
    else:
        out[...] = source[indices]
