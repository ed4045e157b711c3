"""Is BLAS limited to one thread where products are middling or stacks train side by side?"""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skbackprop._threads import (
    _ALWAYS_ONE_THREAD,
    _WORTH_MORE_THREADS,
    blas_threads_for,
    threads_for_stacks,
)

MIDDLING = (_ALWAYS_ONE_THREAD + _WORTH_MORE_THREADS) // 2


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


def test_middling_products_get_one_thread_and_then_all_is_as_before(before):
    with blas_threads_for(MIDDLING):
        assert set(blas_threads().values()) == {1}
    assert blas_threads() == before


def test_an_exception_lifts_the_limit_too(before):
    with pytest.raises(KeyboardInterrupt), blas_threads_for(MIDDLING):
        raise KeyboardInterrupt
    assert blas_threads() == before


@pytest.mark.parametrize("largest_product", [1, _ALWAYS_ONE_THREAD, _WORTH_MORE_THREADS, 2**40])
def test_small_and_large_products_are_left_to_blas(largest_product, before):
    with blas_threads_for(largest_product):
        assert blas_threads() == before
    assert blas_threads() == before


@pytest.mark.parametrize("largest_product", [1, _ALWAYS_ONE_THREAD, MIDDLING])
def test_lbfgs_gets_one_thread_for_small_products_too(largest_product, before):
    with blas_threads_for(largest_product, is_lbfgs=True):
        assert set(blas_threads().values()) == {1}
    assert blas_threads() == before


def test_lbfgs_on_large_products_is_left_to_blas(before):
    with blas_threads_for(_WORTH_MORE_THREADS, is_lbfgs=True):
        assert blas_threads() == before


def test_a_limit_within_a_limit(before):
    with blas_threads_for(MIDDLING):
        with blas_threads_for(MIDDLING):
            assert set(blas_threads().values()) == {1}
        assert set(blas_threads().values()) == {1}
    assert blas_threads() == before


def test_limits_that_overlap_end_with_the_last(before):
    """As those of two threads do, of which one is done sooner than the other."""
    one, other = ExitStack(), ExitStack()
    one.enter_context(blas_threads_for(MIDDLING))
    other.enter_context(blas_threads_for(MIDDLING))
    one.close()
    assert set(blas_threads().values()) == {1}
    other.close()
    assert blas_threads() == before


def test_stacks_get_as_many_threads_as_blas_and_one_inside_of_a_thread(before):
    assert threads_for_stacks() == 2
    with threadpool_limits(limits=1, user_api="blas"):
        assert threads_for_stacks() == 1
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(threads_for_stacks).result() == 1


def test_side_by_side_each_has_blas_to_itself(before):
    with blas_threads_for(10 * _WORTH_MORE_THREADS, n_side_by_side=2):
        assert set(blas_threads().values()) == {1}
    assert blas_threads() == before
