"""Threads of BLAS and of training, and the sizes of stacks."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from skbackprop.activations import ACTIVATIONS
from skbackprop.nn.rows import CHUNK_BYTES
from skbackprop.training import resources
from skbackprop.training.resources import (
    _ALWAYS_ONE_THREAD,
    _FEWEST_MEMBERS,
    _WORTH_A_THREAD,
    _WORTH_MORE_THREADS,
    _WORTH_OPENMP,
    CACHE_BYTES,
    bytes_per_member,
    compute_n_stacks,
    limit_blas,
    max_stack_size,
    n_blas_threads,
    openmp_limit,
    split_into_stacks,
)
from support.stacks import LOSSES, dense_network, make_config

MIDDLING = (_ALWAYS_ONE_THREAD + _WORTH_MORE_THREADS) // 2


def n_threads(user_api="blas"):
    """Return the numbers of threads that the libraries of this process may use."""
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == user_api}


@pytest.fixture
def two_threads():
    """Allow two threads, so that a limit shows; afterwards there are two again."""
    with threadpool_limits(limits=2, user_api="blas"):
        assert n_threads() == {2}
        yield
        assert n_threads() == {2}


@pytest.mark.usefixtures("two_threads")
def test_an_exception_lifts_the_limit():
    with pytest.raises(KeyboardInterrupt), limit_blas(MIDDLING):
        raise KeyboardInterrupt


@pytest.mark.parametrize("is_lbfgs", [False, True])
@pytest.mark.parametrize(
    "max_matmul_size", [1, _ALWAYS_ONE_THREAD, MIDDLING, _WORTH_MORE_THREADS, 2**40]
)
@pytest.mark.usefixtures("two_threads")
def test_middling_products_and_small_ones_of_lbfgs_have_one_thread(max_matmul_size, is_lbfgs):
    is_limited = max_matmul_size == MIDDLING or (is_lbfgs and max_matmul_size < MIDDLING)
    with limit_blas(max_matmul_size, is_lbfgs=is_lbfgs):
        assert n_threads() == {1 if is_limited else 2}


@pytest.mark.usefixtures("two_threads")
def test_blas_has_one_thread_where_stacks_train_in_threads():
    with limit_blas(10 * _WORTH_MORE_THREADS, n_side_by_side=2):
        assert n_threads() == {1}


@pytest.mark.usefixtures("two_threads")
def test_stacks_train_in_as_many_threads_as_blas_has():
    assert n_blas_threads() == 2
    with threadpool_limits(limits=1, user_api="blas"):
        assert n_blas_threads() == 1
    assert threading.current_thread() is threading.main_thread()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(n_blas_threads).result() == 1


@pytest.mark.parametrize("n_elements, expected", [(_WORTH_OPENMP - 1, 1), (_WORTH_OPENMP, 2)])
def test_openmp_has_one_thread_where_there_is_little_to_do(n_elements, expected):
    with threadpool_limits(2, user_api="openmp"):
        with openmp_limit(n_elements):
            assert n_threads("openmp") <= {expected}
        assert n_threads("openmp") <= {2}


# ---------------------------------------------------------------------- sizes of stacks


def network(*widths):
    return dense_network(widths, (ACTIVATIONS["relu"],) * (len(widths) - 2))


networks = st.lists(st.integers(1, 300), min_size=2, max_size=5).map(lambda w: network(*w))
batch_sizes, itemsizes = st.integers(1, 500), st.sampled_from([4, 8])


@given(
    n_estimators=st.integers(1, 100),
    size=st.integers(1, 70),
    member_bytes=st.integers(1, 2**21),
    n_threads=st.integers(1, 8),
)
def test_the_number_of_stacks_respects_size_and_keeps_threads_busy(
    n_estimators, size, member_bytes, n_threads
):
    n = compute_n_stacks(n_estimators, size, member_bytes, n_threads)
    fewest = -(-n_estimators // size)
    assert fewest <= n <= n_estimators
    assert n in (fewest, n_estimators) or n % n_threads == 0
    assert n == fewest or n_estimators * member_bytes / n >= _WORTH_A_THREAD
    assert compute_n_stacks(n_estimators, size, member_bytes, 1) == fewest


@settings(max_examples=50)
@given(networks, batch_sizes, itemsizes, st.integers(1, 10**6), st.integers(1, 2**28))
def test_stacks_fit_into_the_cache_and_the_memory_limit(
    network, batch_size, itemsize, n_rows, max_bytes
):
    def n_estimators(itemsize=itemsize, n_rows=n_rows, max_bytes=max_bytes):
        return max_stack_size(network, batch_size, itemsize, n_rows, max_bytes)

    n, n_bytes = n_estimators(), bytes_per_member(network, batch_size, itemsize)
    n_inputs, n_outputs = network.widths[0], network.widths[-1]
    n_gathered = min(CHUNK_BYTES // (itemsize * max(n_inputs, n_outputs)), n_rows)
    gathered = itemsize * n_gathered * (n_inputs + 2 * n_outputs)
    assert n == 1 or n >= _FEWEST_MEMBERS
    assert n == 1 or (n * n_bytes <= CACHE_BYTES and n * (n_bytes + gathered) <= max_bytes)
    assert n_estimators(max_bytes=2 * max_bytes) >= n
    assert n_estimators(n_rows=2 * n_rows) <= n
    assert n_estimators(itemsize=4) >= n_estimators(itemsize=8)


@given(
    members=st.lists(st.tuples(st.integers(1, 50), st.integers(0, 2)), min_size=1, max_size=30),
    size=st.integers(1, 9),
)
def test_stacks_are_sorted_by_rows_and_of_members_at_the_same_epoch(members, size):
    n_rows, epochs = (list(values) for values in zip(*members, strict=True))
    config = make_config(LOSSES["squared_error-identity"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(resources, "max_stack_size", lambda *arguments: size)
        parts = split_into_stacks(network(2, 1), config, n_rows, epochs, 8, 2**62)
    assert sorted(i for part in parts for i in part) == list(range(len(members)))
    for part in parts:
        assert len(part) <= size
        assert len({epochs[i] for i in part}) == 1
        assert [n_rows[i] for i in part] == sorted(n_rows[i] for i in part)
