"""Is BLAS limited to one thread where products are middling or stacks train side by side?"""

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skbackprop.training.parallelism import (
    _ALWAYS_ONE_THREAD,
    _WORTH_MORE_THREADS,
    BlasLimit,
    threads_for_stacks,
)

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


def test_middling_products_get_one_thread_and_then_all_is_as_before(before):
    assert set(with_limit(blas_threads, MIDDLING).values()) == {1}
    assert blas_threads() == before


def test_an_exception_lifts_the_limit_too(before):
    def interrupted():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        with_limit(interrupted, MIDDLING)
    assert blas_threads() == before


@pytest.mark.parametrize("max_matmul_size", [1, _ALWAYS_ONE_THREAD, _WORTH_MORE_THREADS, 2**40])
def test_small_and_large_products_are_left_to_blas(max_matmul_size, before):
    assert with_limit(blas_threads, max_matmul_size) == before
    assert blas_threads() == before


@pytest.mark.parametrize("max_matmul_size", [1, _ALWAYS_ONE_THREAD, MIDDLING])
def test_lbfgs_gets_one_thread_for_small_products_too(max_matmul_size, before):
    limited = with_limit(blas_threads, max_matmul_size, is_lbfgs=True)
    assert set(limited.values()) == {1}
    assert blas_threads() == before


def test_lbfgs_on_large_products_is_left_to_blas(before):
    assert with_limit(blas_threads, _WORTH_MORE_THREADS, is_lbfgs=True) == before


def test_a_limit_within_a_limit(before):
    def outer():
        inner = with_limit(blas_threads, MIDDLING)
        return inner, blas_threads()

    for counts in with_limit(outer, MIDDLING):
        assert set(counts.values()) == {1}
    assert blas_threads() == before


def test_limits_that_overlap_end_with_the_last(before):
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
def test_an_interrupt_anywhere_lifts_the_limit(action, before):
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
def test_a_fork_while_a_thread_trains_limits_the_child_only_if_it_trains_too(trains, first):
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


def test_stacks_get_as_many_threads_as_blas_and_one_inside_of_a_thread(before):
    assert threads_for_stacks() == 2
    with threadpool_limits(limits=1, user_api="blas"):
        assert threads_for_stacks() == 1
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(threads_for_stacks).result() == 1


def test_side_by_side_each_has_blas_to_itself(before):
    limited = with_limit(blas_threads, 10 * _WORTH_MORE_THREADS, n_side_by_side=2)
    assert set(limited.values()) == {1}
    assert blas_threads() == before
