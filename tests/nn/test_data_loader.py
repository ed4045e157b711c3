"""The data loader yields each row once an epoch, with its target and weight.

The first column of X and the target both hold the index of the row, so that each value in a batch
shows its row.
"""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from skbackprop.nn import data_loader as batches_module
from skbackprop.nn.data_loader import DataLoader, Dataset
from skbackprop.utils.arrays import BufferPool

N_FEATURES = 3


def numbered_table(n_rows, offset=0, is_sparse=False, weight=None, dtype=np.float64):
    numbers = np.arange(offset, offset + n_rows)
    X = np.random.RandomState(0).normal(size=(n_rows, N_FEATURES)).astype(dtype)
    X[:, 0] = numbers + 1  # never zero, so that a sparse table stores it
    return Dataset(sparse.csr_array(X) if is_sparse else X, numbers[:, None] + 1, weight)


def served(batches):
    """Return what each member is served in an epoch: a list of (x, y, weight, total, is_empty)."""
    epochs = [[] for _ in batches.tables]
    for chunk in batches.chunks():
        for batch in chunk.batches:
            for i in range(chunk.members.stop - chunk.members.start):
                epochs[chunk.members.start + i].append(copied(chunk, batch, i))
    return epochs


def copied(chunk, batch, i):
    """Return copies of a batch's arrays for the i-th member of its chunk."""
    is_alone = chunk.members.stop - chunk.members.start == 1

    def own(array, n_axes=3):
        return array[min(i, len(array) - 1)] if np.ndim(array) == n_axes else array

    x = own(batch.x) if not isinstance(batch.x, list) else own_matrix(batch.x, i).toarray()
    is_empty = False if batch.is_empty is None else bool(own(batch.is_empty, 1))
    assert batch.scores.ndim == (2 if is_alone else 3)
    arrays = (x, own(batch.y), np.broadcast_to(own(batch.weight), (len(own(batch.y)), 1)))
    return *(np.array(array) for array in arrays), float(np.squeeze(own(batch.total, 2))), is_empty


def own_matrix(matrices, i):
    return matrices[min(i, len(matrices) - 1)]


@st.composite
def stacks(draw):
    """Draw tables, orders and batch sizes of a stack whose members are sorted by their rows."""
    n_rows = sorted(draw(st.lists(st.integers(1, 40), min_size=1, max_size=5)))
    batch_size = draw(st.integers(1, 17))
    rng = np.random.RandomState(draw(st.integers(0, 99)))
    is_sparse, is_weighted = draw(st.booleans()), draw(st.booleans())
    tables, orders = [], []
    for member, n in enumerate(n_rows):
        kind = draw(st.sampled_from(["as it stands", "shuffled", "some rows of a larger table"]))
        size = n + 5 if kind == "some rows of a larger table" else n
        weight = rng.uniform(size=size) * (rng.rand(size) < 0.4) if is_weighted else None
        tables.append(numbered_table(size, 1000 * member, is_sparse, weight))
        orders.append(None if kind == "as it stands" else rng.permutation(size)[:n])
    return tables, orders, [min(batch_size, n) for n in n_rows]


@given(stack=stacks(), chunk_bytes=st.sampled_from([1, 200, 1 << 18]))
def test_every_row_is_served_once_an_epoch_in_its_order(stack, chunk_bytes):
    tables, orders, batch_sizes = stack
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(batches_module, "CHUNK_BYTES", chunk_bytes)
        batches = DataLoader(tables, orders, batch_sizes, BufferPool(np.dtype(float)))
        epochs = [served(batches) for _ in range(2)]
    for epoch in epochs:
        for table, order, batch_size, member in zip(
            tables, orders, batch_sizes, epoch, strict=True
        ):
            rows = np.arange(table.n_rows) if order is None else order
            X = table.X.toarray() if table.is_sparse else table.X
            sizes = [len(x) for x, *_ in member]
            assert all(size == batch_size for size in sizes[:-1])
            assert 0 < sizes[-1] <= batch_size
            np.testing.assert_array_equal(np.vstack([x for x, *_ in member]), X[rows])
            np.testing.assert_array_equal(np.vstack([y for _, y, *_ in member]), table.y[rows])
            check_weights(table, rows, member)


def check_weights(table, rows, member):
    """Check that the weights of each batch add up to one, or are marked as nothing."""
    weights = np.ones(table.n_rows) if table.weight is None else table.weight
    start = 0
    for x, _, weight, total, is_empty in member:
        raw = weights[rows[start : start + len(x)]]
        assert total == pytest.approx(raw.sum(), rel=1e-14)
        assert is_empty == (raw.sum() == 0)
        np.testing.assert_allclose(weight[:, 0] * (total or 1), raw, rtol=1e-14)
        assert weight.sum() == pytest.approx(0 if is_empty else 1)
        start += len(x)


@pytest.mark.parametrize("n_inputs, n_outputs", [(1, 500), (500, 1), (300, 300)])
def test_a_chunk_gathers_no_more_than_its_bytes_of_input_or_of_targets(n_inputs, n_outputs):
    table = Dataset(np.ones((3000, n_inputs)), np.ones((3000, n_outputs)))
    batches = DataLoader([table], [None], [10], BufferPool(np.dtype(float)))
    chunks = list(batches.chunks())
    assert sum(len(chunk.batches) for chunk in chunks) == 300
    for chunk in chunks:
        assert max(chunk.x.nbytes, chunk.y.nbytes) <= batches_module.CHUNK_BYTES


@given(stack=stacks())
def test_the_mean_may_be_over_the_epoch(stack):
    tables, orders, batch_sizes = stack
    alone = [
        DataLoader([table], [order], [size], BufferPool(np.dtype(float)), mean_over="epoch")
        for table, order, size in zip(tables, orders, batch_sizes, strict=True)
    ]
    for table, order, batches in zip(tables, orders, alone, strict=True):
        weights = np.ones(table.n_rows) if table.weight is None else table.weight
        weights = weights if order is None else weights[order]
        (member,) = served(batches)
        assert batches.total_weights.item() == pytest.approx(weights.sum())
        assert all(total == pytest.approx(weights.sum()) for *_, total, _ in member)
        shares = np.concatenate([weight[:, 0] for _, _, weight, *_ in member])
        np.testing.assert_allclose(shares * (weights.sum() or 1), weights, rtol=1e-13)


def assert_served_as_alone(batches):
    """Assert that each member is served what it would be if there were no other."""
    for member, table, order, size in zip(
        served(batches), batches.tables, batches.orders, batches.batch_sizes, strict=True
    ):
        (alone,) = served(DataLoader([table], [order], [size], BufferPool(np.dtype(float))))
        for arrays, own in zip(member, alone, strict=True):
            for array, expected in zip(arrays, own, strict=True):
                np.testing.assert_array_equal(array, expected)


dense_and_sparse = pytest.mark.parametrize("is_sparse", [False, True], ids=["dense", "sparse"])
equal_and_weighted = pytest.mark.parametrize(
    "is_weighted", [False, True], ids=["equal", "weighted"]
)


@dense_and_sparse
@equal_and_weighted
@pytest.mark.parametrize("n_visited", [None, 20, 9], ids=["as it stands", "shuffled", "some rows"])
def test_members_of_one_table_and_one_order_are_served_from_one_copy(
    n_visited, is_weighted, is_sparse
):
    order = None if n_visited is None else np.random.RandomState(0).permutation(20)[:n_visited]
    weight = np.arange(20) % 4.0 if is_weighted else None
    table = numbered_table(20, is_sparse=is_sparse, weight=weight)
    batches = DataLoader([table] * 5, [order] * 5, [8] * 5, BufferPool(np.dtype(float)))
    assert batches.is_shared
    assert_served_as_alone(batches)
    for chunk in batches.chunks():
        assert len(chunk.y) == 1
        assert len(chunk.scores) == 5


@dense_and_sparse
@equal_and_weighted
@pytest.mark.parametrize(
    "members",
    ["AaBb", "AaAbAa", "AaAaAb", "AaBaAa", "AaAaBaBaBb", "A-A-Aa", "A-B-B-"],
)
def test_members_are_served_their_own_whoever_visits_the_same(members, is_weighted, is_sparse):
    """A letter for the table and one for its order; "-" stands for none. Neighbors may agree."""
    rng = np.random.RandomState(0)
    weights = [rng.randint(3, size=20).astype(float) if is_weighted else None for _ in "AB"]
    tables = {
        letter: numbered_table(20, 100 * i, is_sparse, weights[i]) for i, letter in enumerate("AB")
    }
    orders = {"a": rng.permutation(20), "b": rng.permutation(20), "-": None}
    batches = DataLoader(
        [tables[letter] for letter in members[::2]],
        [orders[letter] for letter in members[1::2]],
        [8] * (len(members) // 2),
        BufferPool(np.dtype(float)),
    )
    assert not batches.is_shared
    assert_served_as_alone(batches)


def test_rows_that_neighbours_share_are_gathered_once(monkeypatch):
    table, other = numbered_table(20), numbered_table(20, 100)
    order, gathered = np.arange(20)[::-1].copy(), []
    gather = batches_module._gather
    monkeypatch.setattr(
        batches_module,
        "_gather",
        lambda source, *rest: (gathered.append(source), gather(source, *rest)),
    )
    tables = [table, table, table, other]
    batches = DataLoader(tables, [order] * 4, [20] * 4, BufferPool(np.dtype(float)))
    assert_served_as_alone(batches)
    gathered.clear()
    list(batches.chunks())
    assert [source is table.X for source in gathered].count(True) == 1
    assert [source is other.X for source in gathered].count(True) == 1


def test_equal_orders_are_shared_only_if_they_are_one():
    """One that was shuffled in place would else take the other with it."""
    table = numbered_table(6)
    orders = [np.arange(6), np.arange(6)]
    batches = DataLoader([table] * 2, orders, [3] * 2, BufferPool(np.dtype(float)))
    assert not batches.is_shared
    orders[1][:] = orders[1][::-1].copy()
    assert_served_as_alone(batches)


def test_a_member_of_a_batch_is_a_view_of_it():
    weight = np.array([1.0, 2, 3, 0, 0, 0])
    tables = [numbered_table(6, 100 * i, weight=weight[:: 1 - 2 * i]) for i in range(2)]
    batches = DataLoader(tables, [None] * 2, [3] * 2, BufferPool(np.dtype(float)))
    first, second = next(batches.chunks()).batches
    assert (first.is_empty.tolist(), second.is_empty.tolist()) == ([False, True], [True, False])
    for i, batch in enumerate([first, second]):
        own = batch.member(i)
        for name in ("x", "y", "scores", "weight"):
            assert np.shares_memory(getattr(own, name), getattr(batch, name)), name
            assert getattr(own, name).ndim == 2
        np.testing.assert_array_equal(own.y[:, 0], np.arange(3) + 1 + 103 * i)
        assert (own.total, own.is_empty) == (6.0, None)


@pytest.mark.parametrize(
    "source",
    [
        lambda X: X.astype(np.float32),
        lambda X: X.astype(int),
        np.asfortranarray,
        lambda X: np.repeat(X, 2, axis=1)[:, ::2],
        lambda X: np.broadcast_to(X, X.shape),
    ],
    ids=["float32", "int", "Fortran", "strided", "read-only"],
)
@pytest.mark.parametrize("order", [None, np.array([3, 0, 4, 1, 2])], ids=["slice", "shuffled"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_any_layout_and_dtype_is_gathered(source, order, dtype):
    X = np.random.RandomState(0).randint(50, size=(5, 4)).astype(float)
    table = Dataset(source(X), np.arange(5)[:, None])
    (member,) = served(DataLoader([table], [order], [2], BufferPool(np.dtype(dtype))))
    got = np.vstack([x for x, *_ in member])
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, X if order is None else X[order])


def test_members_have_to_come_sorted():
    tables = [numbered_table(5), numbered_table(3)]
    with pytest.raises(ValueError, match=r"fewest first, got \[5, 3\]"):
        DataLoader(tables, [None, None], [3, 3], BufferPool(np.dtype(float)))


def test_batches_of_an_epoch_share_buffers_that_do_not_grow_with_the_data():
    def bytes_for(n_rows):
        pool = BufferPool(np.dtype(float))
        batches = DataLoader([numbered_table(n_rows)], [np.arange(n_rows)], [10], pool)
        assert sum(len(chunk.batches) for chunk in batches.chunks()) == n_rows // 10
        return sum(array.nbytes for array in pool._flat.values())

    sizes = [bytes_for(n_rows) for n_rows in (20_000, 40_000, 80_000)]
    assert all(small == large for small, large in pairwise(sizes))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shuffled", [False, True])
def test_sparse_targets_are_served_dense(shuffled, dtype):
    """A table may be its own target: then no more than the rows of a batch are ever dense."""
    X = numbered_table(10).X
    table = Dataset(sparse.csr_array(X), sparse.csr_array(X))
    order = np.random.RandomState(1).permutation(10) if shuffled else None
    batches = DataLoader([table], [order], [4], BufferPool(np.dtype(dtype)))

    (epoch,) = served(batches)
    expected = X if order is None else X[order]
    assert [len(y) for _, y, *_ in epoch] == [4, 4, 2]
    for served_rows in zip(*[(x, y) for x, y, *_ in epoch], strict=True):
        np.testing.assert_array_equal(np.vstack(served_rows).astype(dtype), expected.astype(dtype))
