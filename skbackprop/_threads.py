"""How many threads BLAS may use while networks train, and how many train them side by side."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from threadpoolctl import ThreadpoolController

# Multiplications in the largest product of a step. Below the first, BLAS libraries take one
# thread by themselves; below the second, two threads save little while the cores are idle and
# cost up to a hundred times the product where another process holds one of them.
_ALWAYS_ONE_THREAD = 2**18
_WORTH_MORE_THREADS = 10**7


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    # Looking the libraries up takes milliseconds, so it is done once a process.
    return ThreadpoolController().select(user_api="blas")


def threads_for_stacks() -> int:
    """Return how many threads may train stacks side by side: as many as BLAS would take.

    So whoever limits BLAS, as joblib does in its workers, limits these as well; and what runs in
    one of several threads already gets no more.
    """
    if threading.current_thread() is not threading.main_thread():
        return 1
    return max((library.num_threads for library in _controller().lib_controllers), default=1)


@contextmanager
def blas_threads_for(
    largest_product: int, is_lbfgs: bool = False, n_side_by_side: int = 1
) -> Iterator[None]:
    """Limit BLAS to one thread where the products are too small to be shared.

    Parameters
    ----------
    largest_product : int
        The number of multiplications in the largest matrix product of a step.
    is_lbfgs : bool, default=False
        Whether SciPy's L-BFGS makes BLAS calls of its own, which are shared even where the
        network's products are not.
    n_side_by_side : int, default=1
        The threads that train at once; beside others, each has BLAS to itself.
    """
    is_small = largest_product < _WORTH_MORE_THREADS and (
        is_lbfgs or largest_product > _ALWAYS_ONE_THREAD
    )
    if is_small or n_side_by_side > 1:
        with _controller().limit(limits=1):
            yield
    else:
        yield
