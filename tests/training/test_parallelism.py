"""Threads of BLAS and of training, and the sizes and groups of stacks."""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from threadpoolctl import threadpool_info, threadpool_limits

from skbackprop.activations import ACTIVATIONS
from skbackprop.nn.data_loader import CHUNK_BYTES
from skbackprop.nn.network import dense_network
from skbackprop.training.parallelism import (
    _ALWAYS_ONE_THREAD,
    _FEWEST_MEMBERS,
    _WORTH_A_THREAD,
    _WORTH_MORE_THREADS,
    _WORTH_OPENMP,
    CACHE_BYTES,
    BlasLimit,
    array_split,
    bytes_per_member,
    compute_n_stacks,
    max_stack_size,
    openmp_limit,
    threads_for_stacks,
)
from skbackprop.utils.equality import group_by_equality

MIDDLING = (_ALWAYS_ONE_THREAD + _WORTH_MORE_THREADS) // 2


def with_limit(action, *arguments, **options):
    """Return what `action()` returns under a `BlasLimit`."""
    with BlasLimit(*arguments, **options) as limit, limit:
        return action()


def blas_threads():
    """Return the number of threads that each BLAS library of this process may use."""
    counts = {
        lib["filepath"]: lib["num_threads"]
        for lib in threadpool_info()
        if lib["user_api"] == "blas"
    }
    assert counts
    return counts


@pytest.fixture
def before():
    """Allow two threads, so that a limit shows."""
    with threadpool_limits(limits=2, user_api="blas"):
        counts = blas_threads()
        assert set(counts.values()) == {2}
        yield counts


def test_an_exception_lifts_the_limit(before):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with_limit(interrupted, MIDDLING)
    assert blas_threads() == before


@pytest.mark.parametrize("is_lbfgs", [False, True])
@pytest.mark.parametrize(
    "max_matmul_size", [1, _ALWAYS_ONE_THREAD, MIDDLING, _WORTH_MORE_THREADS, 2**40]
)
def test_limits_middling_products_and_small_ones_of_lbfgs(max_matmul_size, is_lbfgs, before):
    is_limited = max_matmul_size == MIDDLING or (is_lbfgs and max_matmul_size < MIDDLING)
    limited = with_limit(blas_threads, max_matmul_size, is_lbfgs=is_lbfgs)
    assert set(limited.values()) == {1 if is_limited else 2}
    assert blas_threads() == before


def test_limits_can_be_nested(before):
    def outer():
        inner = with_limit(blas_threads, MIDDLING)
        return inner, blas_threads()

    for counts in with_limit(outer, MIDDLING):
        assert set(counts.values()) == {1}
    assert blas_threads() == before


def test_overlapping_limits_end_with_the_last(before):
    """Of two threads, the one that began first is done while the other still trains."""
    has_begun, is_done = threading.Event(), threading.Event()

    def other():
        has_begun.set()
        assert is_done.wait(60)
        return blas_threads()

    with ThreadPoolExecutor(1) as pool:
        limited = with_limit(
            lambda: (pool.submit(with_limit, other, MIDDLING), has_begun.wait(60))[0], MIDDLING
        )
        assert set(blas_threads().values()) == {1}
        is_done.set()
        assert set(limited.result(60).values()) == {1}
    assert blas_threads() == before


@pytest.mark.long
@pytest.mark.parametrize("action", [lambda: None, lambda: with_limit(lambda: None, MIDDLING)])
def test_an_interrupt_at_any_line_lifts_the_limit(action, before):
    """Wherever Python looks for signals: at the start of a function, and after each call."""
    place, was_pressed = 0, True
    while was_pressed:
        was_pressed = press_ctrl_c(lambda: with_limit(action, MIDDLING), place)
        assert blas_threads() == before, place
        place += 1
    assert place > 20
    assert set(with_limit(blas_threads, MIDDLING).values()) == {1}
    assert blas_threads() == before


def press_ctrl_c(action, place):
    """Call `action` with a Ctrl-C at a place of it, counted from 0; return whether there is one."""
    n_before = place

    def press(frame, event, argument):
        nonlocal n_before
        if event in ("call", "return", "c_return") and n_before is not None:
            n_before -= 1
            if n_before < 0:
                n_before = None
                raise KeyboardInterrupt

    sys.setprofile(press)
    try:
        action()
    except KeyboardInterrupt:
        pass
    finally:
        sys.setprofile(None)
    return n_before is None


@pytest.mark.long
@pytest.mark.parametrize("trains, first", [("another thread", "2"), ("this thread", "1")])
def test_a_forked_child_is_limited_only_if_it_trains(trains, first):
    finished = subprocess.run(
        [sys.executable, "-c", FORKING, trains], capture_output=True, text=True, timeout=120
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.split() == [first, "2"]


# Prints how many threads a child finds, and how many it finds after a limit of its own.
FORKING = f"""
import os, sys, threading
from threadpoolctl import threadpool_info, threadpool_limits
import numpy, scipy.linalg
from skbackprop.training.parallelism import BlasLimit

def n_threads():
    return max(lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas")

def fork():
    child = os.fork()
    if child:
        return os.waitpid(child, 0)
    print(n_threads(), flush=True)
    return None

def run_limited(action):
    with BlasLimit({MIDDLING}) as limit, limit:
        return action()

def train_in_another_thread():
    has_begun, is_done = threading.Event(), threading.Event()
    action = lambda: (has_begun.set(), is_done.wait(60))
    thread = threading.Thread(target=run_limited, args=(action,))
    thread.start()
    assert has_begun.wait(60)
    parent = fork()
    if parent:
        is_done.set()
        thread.join()
    return parent

threadpool_limits(limits=2, user_api="blas")
if sys.argv[1] == "this thread":
    parent = run_limited(fork)
else:
    parent = train_in_another_thread()
if not parent:
    run_limited(n_threads)
    print(n_threads(), flush=True)
    os._exit(0)
sys.exit(n_threads() != 2)
"""


@pytest.mark.parametrize("n_elements, expected", [(_WORTH_OPENMP - 1, 1), (_WORTH_OPENMP, 2)])
def test_openmp_has_one_thread_where_there_is_little_to_do(n_elements, expected):
    def counts():
        return {each["num_threads"] for each in threadpool_info() if each["user_api"] == "openmp"}

    with threadpool_limits(2, user_api="openmp"):
        with openmp_limit(n_elements):
            assert counts() <= {expected}
        assert counts() <= {2}


def test_threads_for_stacks_are_those_of_blas(before):
    assert threads_for_stacks() == 2
    with threadpool_limits(limits=1, user_api="blas"):
        assert threads_for_stacks() == 1
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(threads_for_stacks).result() == 1


def test_blas_has_one_thread_where_stacks_train_in_threads(before):
    limited = with_limit(blas_threads, 10 * _WORTH_MORE_THREADS, n_side_by_side=2)
    assert set(limited.values()) == {1}
    assert blas_threads() == before


# ---------------------------------------------------------------------- sizes of stacks

SMALLEST, LARGEST = 1, 2**62


def network(*widths):
    return dense_network(widths, (ACTIVATIONS["relu"],) * (len(widths) - 2))


networks = st.lists(st.integers(1, 300), min_size=2, max_size=5).map(lambda w: network(*w))
batch_sizes, itemsizes = st.integers(1, 500), st.sampled_from([4, 8])


@given(st.lists(st.integers(), min_size=1, max_size=60), st.data())
def test_array_split_makes_nearly_equal_parts(items, data):
    n_parts = data.draw(st.integers(1, len(items)))
    parts = array_split(items, n_parts)
    lengths = [len(part) for part in parts]
    assert [item for part in parts for item in part] == items
    assert len(parts) == n_parts
    assert max(lengths) - min(lengths) <= 1


@given(
    n_estimators=st.integers(1, 100),
    size=st.integers(1, 70),
    each=st.integers(1, 2**21),
    n_threads=st.integers(1, 8),
)
def test_number_of_stacks_respects_size_and_keeps_threads_busy(n_estimators, size, each, n_threads):
    n = compute_n_stacks(n_estimators, size, each, n_threads)
    fewest = -(-n_estimators // size)
    assert fewest <= n <= n_estimators
    assert n in (fewest, n_estimators) or n % n_threads == 0
    assert n == fewest or n_estimators * each / n >= _WORTH_A_THREAD
    assert compute_n_stacks(n_estimators, size, each, 1) == fewest


@given(st.lists(st.integers(0, 5), max_size=30))
def test_group_by_equality_keeps_the_order_of_first_keys(keys):
    items = list(enumerate(keys))
    groups = group_by_equality(items, keys)
    assert [{key for _, key in group} for group in groups] == [{k} for k in dict.fromkeys(keys)]
    assert all(group == sorted(group) for group in groups)
    assert sorted(item for group in groups for item in group) == items


def test_group_by_equality_needs_no_hashable_keys():
    keys = [[1], {"a": 2}, [np.int64(1)], {"a": 2.0}]
    assert group_by_equality("abcd", keys) == [["a", "c"], ["b"], ["d"]]


@given(networks, batch_sizes, itemsizes, st.integers(0, 4))
def test_bytes_per_member_counts_the_arrays_of_a_step(network, batch_size, itemsize, n_moments):
    dtype = np.dtype(f"f{itemsize}")
    n_parameters = sum(
        np.empty(shape, dtype).size + shape[1] for shape in network.shapes["weights"]
    )
    units = sum(np.empty((batch_size, width), dtype).nbytes for width in network.widths)
    expected = (2 + n_moments) * n_parameters * itemsize + 2 * units
    assert bytes_per_member(network, batch_size, itemsize, n_moments) == expected


@given(networks, batch_sizes, itemsizes, st.integers(1, 10**6), st.integers(SMALLEST, 2**28))
def test_stacks_fit_into_the_cache_and_the_memory_limit(
    network, batch_size, itemsize, n_rows, max_bytes
):
    def n_estimators(itemsize=itemsize, n_rows=n_rows, max_bytes=max_bytes):
        return max_stack_size(network, batch_size, itemsize, n_rows, max_bytes)

    n, each = n_estimators(), bytes_per_member(network, batch_size, itemsize)
    n_inputs, n_outputs = network.widths[0], network.widths[-1]
    n_gathered = min(CHUNK_BYTES // (itemsize * max(n_inputs, n_outputs)), n_rows)
    gathered = itemsize * n_gathered * (n_inputs + 2 * n_outputs)
    assert n == 1 or n >= _FEWEST_MEMBERS
    assert n == 1 or (n * each <= CACHE_BYTES and n * (each + gathered) <= max_bytes)
    assert n_estimators(max_bytes=2 * max_bytes) >= n
    assert n_estimators(n_rows=2 * n_rows) <= n
    assert n_estimators(itemsize=4) >= n_estimators(itemsize=8)


@pytest.mark.parametrize("widths, batch_size", [((2000, 2000, 1), 1), ((10, 10, 1), 10**6)])
def test_a_network_that_fills_the_cache_trains_alone(widths, batch_size):
    assert max_stack_size(network(*widths), batch_size, 8, 1000, LARGEST) == 1


def test_a_limit_of_one_byte_leaves_one_member_at_a_time():
    assert max_stack_size(network(2, 2, 1), 1, 4, 1000, SMALLEST) == 1
    assert max_stack_size(network(2, 2, 1), 1, 4, 1000, LARGEST) > 1000
