"""Batches contain each row once an epoch, with its target and weight.

The first column of X and the target both hold the index of the row, so that each value in a batch
shows its row.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from skbackprop.nn import rows as rows_module
from skbackprop.nn.rows import Batches, Rows
from skbackprop.utils.arrays import BufferPool


def numbered_rows(n_rows, offset=0, is_sparse=False, weight=None):
    numbers = np.arange(offset, offset + n_rows)
    X = np.random.RandomState(0).normal(size=(n_rows, 3))
    X[:, 0] = numbers + 1  # never zero, so that a sparse matrix stores it
    return Rows(sparse.csr_array(X) if is_sparse else X, numbers[:, None] + 1, weight)


def batches_of(rows, orders, batch_sizes, dtype=float, **options):
    return Batches(rows, orders, max(batch_sizes), BufferPool(np.dtype(dtype)), **options)


def contents(batches):
    """Return the batches of an epoch for each member: lists of (x, y, weight, total, is_empty)."""
    epochs = [[] for _ in batches.rows]
    for chunk in batches.chunks():
        for batch in chunk.batches:
            for i in range(chunk.members.stop - chunk.members.start):
                epochs[chunk.members.start + i].append(copied(chunk, batch, i))
    return epochs


def copied(chunk, batch, i):
    """Return copies of a batch's arrays for the i-th member of its chunk."""
    is_alone = chunk.members.stop - chunk.members.start == 1
    assert batch.predictions.ndim == (2 if is_alone else 3)
    empty = np.ravel(False if batch.is_empty is None else batch.is_empty)
    is_empty = bool(empty[min(i, len(empty) - 1)])
    own = batch if is_alone else batch.member(i)
    x = own.x[0].toarray() if isinstance(own.x, list) else own.x
    weight = np.broadcast_to(own.weight, (len(own.y), 1))
    return np.array(x), np.array(own.y), np.array(weight), float(np.squeeze(own.total)), is_empty


@st.composite
def stacks(draw):
    """Draw rows, orders and batch sizes of a stack whose members are sorted by their rows."""
    n_rows = sorted(draw(st.lists(st.integers(1, 40), min_size=1, max_size=5)))
    batch_size = draw(st.integers(1, 17))
    rng = np.random.RandomState(draw(st.integers(0, 99)))
    is_sparse, is_weighted = draw(st.booleans()), draw(st.booleans())
    rows, orders = [], []
    for member, n in enumerate(n_rows):
        kind = draw(st.sampled_from(["in order", "shuffled", "some of more rows"]))
        size = n + 5 if kind == "some of more rows" else n
        weight = rng.uniform(size=size) * (rng.rand(size) < 0.4) if is_weighted else None
        rows.append(numbered_rows(size, 1000 * member, is_sparse, weight))
        orders.append(None if kind == "in order" else rng.permutation(size)[:n])
    return rows, orders, [min(batch_size, n) for n in n_rows]


@given(stack=stacks(), chunk_bytes=st.sampled_from([1, 200, 1 << 18]))
def test_every_row_comes_once_an_epoch_in_its_order(stack, chunk_bytes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "CHUNK_BYTES", chunk_bytes)
        batches = batches_of(*stack)
        epochs = [contents(batches) for _ in range(2)]
    for epoch in epochs:
        for rows, order, batch_size, member in zip(*stack, epoch, strict=True):
            order = np.arange(rows.n_rows) if order is None else order
            X = rows.X.toarray() if rows.is_sparse else rows.X
            sizes = [len(x) for x, *_ in member]
            assert all(size == batch_size for size in sizes[:-1])
            assert 0 < sizes[-1] <= batch_size
            np.testing.assert_array_equal(np.vstack([x for x, *_ in member]), X[order])
            np.testing.assert_array_equal(np.vstack([y for _, y, *_ in member]), rows.y[order])
            check_weights(rows, order, member)


def check_weights(rows, order, member):
    """Check that the weights of each batch add up to one, or are marked as nothing."""
    weights, start = np.ones(rows.n_rows) if rows.weight is None else rows.weight, 0
    for x, _, weight, total, is_empty in member:
        raw = weights[order[start : start + len(x)]]
        assert total == pytest.approx(raw.sum(), rel=1e-14)
        assert is_empty == (raw.sum() == 0)
        np.testing.assert_allclose(weight[:, 0] * (total or 1), raw, rtol=1e-14)
        assert weight.sum() == pytest.approx(0 if is_empty else 1)
        start += len(x)


@given(stack=stacks())
def test_the_mean_may_be_over_the_epoch(stack):
    for rows, order, size in zip(*stack, strict=True):
        batches = batches_of([rows], [order], [size], mean_over="epoch")
        weights = np.ones(rows.n_rows) if rows.weight is None else rows.weight
        weights = weights if order is None else weights[order]
        (member,) = contents(batches)
        assert batches.total_weights.item() == pytest.approx(weights.sum())
        assert all(total == pytest.approx(weights.sum()) for *_, total, _ in member)
        shares = np.concatenate([weight[:, 0] for _, _, weight, *_ in member])
        np.testing.assert_allclose(shares * (weights.sum() or 1), weights, rtol=1e-13)


@pytest.mark.parametrize("order", [None, np.random.RandomState(1).permutation(10)])
def test_sparse_targets_are_dense_in_batches(order):
    """X may be its own target: then no more than the rows of a batch are ever dense."""
    X = numbered_rows(10).X
    rows = Rows(sparse.csr_array(X), sparse.csr_array(X))
    (member,) = contents(batches_of([rows], [order], [4]))
    assert [len(y) for _, y, *_ in member] == [4, 4, 2]
    for arrays in zip(*[(x, y) for x, y, *_ in member], strict=True):
        np.testing.assert_array_equal(np.vstack(arrays), X if order is None else X[order])


@pytest.mark.parametrize("n_inputs, n_outputs", [(1, 500), (500, 1), (300, 300)])
def test_a_chunk_gathers_no_more_than_its_bytes_of_input_or_of_targets(n_inputs, n_outputs):
    rows = Rows(np.ones((3000, n_inputs)), np.ones((3000, n_outputs)))
    chunks = list(batches_of([rows], [None], [10]).chunks())
    assert sum(len(chunk.batches) for chunk in chunks) == 300
    for chunk in chunks:
        assert max(chunk.x.nbytes, chunk.y.nbytes) <= rows_module.CHUNK_BYTES


def test_rows_of_an_index():
    rows = Rows(*np.arange(20.0).reshape(2, 10, 1), index=np.array([7, 2]))
    assert rows.n_rows == 2
    np.testing.assert_array_equal(rows.select(rows.X), [[7], [2]])
    same = Rows(rows.X, rows.y, index=rows.index.copy())
    assert rows.has_same_rows(same)
    assert not rows.has_same_rows(Rows(rows.X, rows.y, index=np.array([2, 7])))
    assert not rows.has_same_rows(Rows(rows.X, rows.y))
    assert not rows.has_same_rows(Rows(rows.X.copy(), rows.y, index=rows.index))
