"""The rows of every member, served in batches out of buffers that are filled a chunk at a time.

A chunk is several batches of one size: one call gathers their rows, and the batches are views
of it, made once. Members differ in their rows, their order and their number of rows; members
whose next batches have one size form a group and go through the network together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import sparse

from ..utils.arrays import Array, BufferPool, FloatOrPerMember, IndexArray, squeeze_member_axis

# Bytes of input that a chunk gathers at once, or of targets where a row has more of them, as far
# as whole batches allow.
CHUNK_BYTES = 1 << 18


@dataclass(frozen=True)
class Dataset:
    """What a member learns from.

    Parameters
    ----------
    X : array or CSR matrix of shape (n, d)
        The input.
    y : array or CSR matrix of shape (n, k)
        The targets; any dtype that the batches' dtype can hold. Those of a batch are dense.
    weight : array of shape (n,) or None, default=None
        The weight of each row; None for equal weights.
    """

    X: Any
    y: Any
    weight: Array | None = None

    @property
    def n_rows(self) -> int:
        return int(self.X.shape[0])

    @property
    def is_sparse(self) -> bool:
        return bool(sparse.issparse(self.X))

    @property
    def arrays(self) -> list[Any]:
        """All that is here: X, y and the weights, if there are any."""
        return [self.X, self.y] if self.weight is None else [self.X, self.y, self.weight]


@dataclass
class Batch:
    """All that a step needs to know of its data, as views of a chunk's buffers.

    A batch of a single member has arrays without the member axis. Where many members see the
    same rows, the axis of all arrays but `scores` has the length one, and broadcasts.

    Attributes
    ----------
    x : array of shape (n_estimators, n, d), or a list of CSR matrices
        The input.
    y, scores : arrays of shape (n_estimators, n, k)
        The targets, and where the scores go.
    weight : array of shape (n_estimators, n, 1), or float
        What each row's gradient is multiplied by.
    total : array of shape (n_estimators, 1), or float
        What `weight` was divided by: the weight of the rows over which the loss is a mean.
    is_empty : array of bool of shape (n_estimators,), or None
        The members in whose batch every row has weight zero, if there are any.
    """

    x: Any
    y: Array
    scores: Array
    weight: FloatOrPerMember
    total: FloatOrPerMember
    is_empty: Array | None = None

    def member(self, i: int) -> Batch:
        """Return the batch of the i-th member alone, as views."""

        def own(value: Any) -> Any:
            return value if isinstance(value, float) else value[min(i, len(value) - 1)]

        x = [own(self.x)] if isinstance(self.x, list) else own(self.x)
        total = own(self.total)
        return Batch(x, own(self.y), self.scores[i], own(self.weight), float(np.squeeze(total)))


@dataclass
class PrefetchBuffer:
    """Consecutive batches of one size of a group of members, and the buffers behind them."""

    members: slice
    batch_size: int
    batches: list[Batch]
    x: Array | None
    y: Array
    scores: Array
    raw_weight: Array | None = None
    weight: Array | None = None


@dataclass(frozen=True)
class _IndexRange:
    """Rows of a group of members, counted in each member's own order."""

    members: slice
    start: int
    batch_size: int
    n_batches: int

    @property
    def n_rows(self) -> int:
        return self.batch_size * self.n_batches


class DataLoader:
    """The batches of one epoch of a stack.

    Parameters
    ----------
    tables : sequence of Table
        One for each member, all dense or all sparse.
    orders : sequence of Rows or None
        The rows that each member visits, in that order; None for all rows of the table as
        they stand. Members come sorted by the number of rows visited, the fewest first. Where
        all have one table and one order, the very same objects, they are served one copy.
    batch_sizes : sequence of int
        One for each member; equal but for members that have fewer rows.
    pool : Workspace
        Where the buffers come from.
    mean_over : {"batch", "epoch"}, default="batch"
        The rows over which the loss is a mean: those of one batch (stochastic solvers), or
        those of all batches, the gradients of which are then to be added up.
    """

    def __init__(
        self,
        tables: Sequence[Dataset],
        orders: Sequence[IndexArray | None],
        batch_sizes: Sequence[int],
        pool: BufferPool,
        mean_over: str = "batch",
    ) -> None:
        self.tables, self.orders = list(tables), list(orders)
        self.batch_sizes = list(batch_sizes)
        self.pool = pool
        self.is_sparse = tables[0].is_sparse
        self.is_shared = all(self._visits_the_same(0, i) for i in range(len(tables)))
        self.n_rows = np.array(
            [
                table.n_rows if order is None else len(order)
                for table, order in zip(tables, orders, strict=True)
            ]
        )
        if (np.diff(self.n_rows) < 0).any():
            raise ValueError(
                "the members of a stack have to be sorted by their number of rows, the fewest "
                f"first, got {self.n_rows.tolist()}."
            )
        self.total_weights = self._total_weights()
        self._mean_over_epoch = mean_over == "epoch"
        self._is_weighted = any(table.weight is not None for table in tables)
        self._segments = list(self._plan())
        self._chunks: dict[tuple[int, int, int, int], PrefetchBuffer] = {}

    def set_data(self, tables: Sequence[Dataset]) -> None:
        """Take other tables, of as many rows and alike."""
        self.tables = list(tables)
        self.total_weights = self._total_weights()

    def chunks(self) -> Iterator[PrefetchBuffer]:
        """Serve every row of every member once. A chunk is valid until the next is asked for."""
        for segment in self._segments:
            chunk = self._chunk(segment)
            self._fill(chunk, segment)
            yield chunk

    def _visits_the_same(self, i: int, j: int) -> bool:
        """Return whether two members visit the same rows in the same order."""
        return self.tables[i] is self.tables[j] and self.orders[i] is self.orders[j]

    def _total_weights(self) -> Array:
        """Return the weight of all rows that each member visits: shape (n_estimators,)."""
        totals = self.n_rows.astype(float)
        for member, (table, order) in enumerate(zip(self.tables, self.orders, strict=True)):
            if table.weight is not None:
                weight = table.weight
                # Summed in the table's order: the sum must not depend on how rows are shuffled.
                if order is not None and len(order) < table.n_rows:
                    weight = weight[np.sort(order)]
                totals[member] = weight.sum(dtype=float)
        return totals

    def _plan(self) -> Iterator[_IndexRange]:
        """Cut the epoch where the group or the batch size changes, or where a chunk is full."""
        n_rows, n_estimators = self.n_rows.tolist(), len(self.tables)
        done = [0] * n_estimators
        while done != n_rows:
            # The rows of the next batch of each member; those with equal ones go together.
            sizes = [min(b, n - d) for b, n, d in zip(self.batch_sizes, n_rows, done, strict=True)]
            start = 0
            while start < n_estimators:
                size, at, stop = sizes[start], done[start], start + 1
                while stop < n_estimators and (sizes[stop], done[stop]) == (size, at):
                    stop += 1
                if size:
                    n_whole = min(n - at for n in n_rows[start:stop]) // size
                    n_batches = min(n_whole, self._batches_at_once(size))
                    yield _IndexRange(slice(start, stop), at, size, n_batches)
                    done[start:stop] = [at + size * n_batches] * (stop - start)
                start = stop

    def _batches_at_once(self, batch_size: int) -> int:
        if self.is_sparse:
            return 1
        table = self.tables[0]
        row_bytes = max(table.X.shape[1], table.y.shape[1]) * self.pool.dtype.itemsize
        return int(max(1, CHUNK_BYTES // (row_bytes * batch_size)))

    def _chunk(self, segment: _IndexRange) -> PrefetchBuffer:
        members, size, n_batches = segment.members, segment.batch_size, segment.n_batches
        key = (members.start, members.stop, size, n_batches)
        if key not in self._chunks:
            self._chunks[key] = self._carve(segment)
        return self._chunks[key]

    def _carve(self, segment: _IndexRange) -> PrefetchBuffer:
        """Return a chunk of undefined content."""
        n_estimators = segment.members.stop - segment.members.start
        n_sources = 1 if self.is_shared else n_estimators
        n_outputs = self.tables[0].y.shape[1]

        def buffer(name: str, n: int, width: int) -> Array:
            return self.pool.get(name, (n, segment.n_rows, width))

        chunk = PrefetchBuffer(
            segment.members,
            segment.batch_size,
            [],
            None if self.is_sparse else buffer("x", n_sources, self.tables[0].X.shape[1]),
            buffer("y", n_sources, n_outputs),
            buffer("scores", n_estimators, n_outputs),
        )
        if self._is_weighted:
            # In double precision: weights of any scale, brought to order before they are used.
            chunk.raw_weight = np.empty((n_sources, segment.n_rows, 1))
            chunk.weight = buffer("weight", n_sources, 1)

        def view(array: Array) -> Array:
            return squeeze_member_axis(array) if n_estimators == 1 else array

        total = float(self.n_rows[0] if self._mean_over_epoch else segment.batch_size)
        for start in range(0, segment.n_rows, segment.batch_size):
            rows = slice(start, start + segment.batch_size)
            chunk.batches.append(
                Batch(
                    [None] * n_sources if chunk.x is None else view(chunk.x)[..., rows, :],
                    view(chunk.y)[..., rows, :],
                    view(chunk.scores)[..., rows, :],
                    1 / total if chunk.weight is None else view(chunk.weight)[..., rows, :],
                    total,
                )
            )
        return chunk

    def _fill(self, chunk: PrefetchBuffer, segment: _IndexRange) -> None:
        start, stop = segment.start, segment.start + segment.n_rows
        for i in range(len(chunk.y)):
            member = segment.members.start + i
            if i and self._visits_the_same(member - 1, member):
                self._repeat(chunk, i)
                continue
            table, order = self.tables[member], self.orders[member]
            rows: Any = slice(start, stop) if order is None else order[start:stop]
            if chunk.x is None:
                chunk.batches[0].x[i] = table.X[rows]
            else:
                _gather(table.X, rows, chunk.x[i])
            _gather(table.y, rows, chunk.y[i])
            if chunk.raw_weight is not None:
                if table.weight is None:
                    chunk.raw_weight[i] = 1
                else:
                    _gather(table.weight, rows, chunk.raw_weight[i, :, 0])
        if chunk.raw_weight is not None:
            self._normalise(chunk)

    @staticmethod
    def _repeat(chunk: PrefetchBuffer, i: int) -> None:
        """Give the i-th member the rows of the one before it."""
        if chunk.x is None:
            chunk.batches[0].x[i] = chunk.batches[0].x[i - 1]
        for array in (chunk.x, chunk.y, chunk.raw_weight):
            if array is not None:
                array[i] = array[i - 1]

    def _normalise(self, chunk: PrefetchBuffer) -> None:
        """Divide the weights by what they add up to, and mark the batches that weigh nothing."""
        assert chunk.raw_weight is not None
        assert chunk.weight is not None
        by_batch = (len(chunk.y), len(chunk.batches), chunk.batch_size, 1)
        raw = chunk.raw_weight.reshape(by_batch)
        if self._mean_over_epoch:
            members = slice(chunk.members.start, chunk.members.start + len(chunk.y))
            totals = self.total_weights[members, None]
            totals = np.repeat(totals, len(chunk.batches), axis=1)
        else:
            totals = raw.sum(axis=(2, 3))
        divisors = np.where(totals == 0, 1, totals)[:, :, None, None]
        np.divide(raw, divisors, out=chunk.weight.reshape(by_batch), casting="same_kind")
        is_single = chunk.members.stop - chunk.members.start == 1
        for batch, total in zip(chunk.batches, totals.T, strict=True):
            batch.total = float(total[0]) if is_single else total[:, None]
            batch.is_empty = None if total.all() else total == 0


def _gather(source: Any, rows: Any, out: Array) -> None:
    """Copy rows of `source` to `out`, in the dtype of `out`; of a CSR matrix its zeros as well."""
    if not isinstance(source, np.ndarray):
        source[rows].astype(out.dtype, copy=False).toarray(out=out)
    elif isinstance(rows, slice):
        np.copyto(out, source[rows])
    elif source.dtype == out.dtype and source.flags.c_contiguous and out.flags.c_contiguous:
        # In range by construction; mode="clip" spares NumPy a buffer for its check.
        np.take(source, rows, axis=0, out=out, mode="clip")
    else:
        out[...] = source[rows]
