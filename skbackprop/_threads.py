"""How many threads BLAS may use while a network trains."""

from __future__ import annotations

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


@contextmanager
def blas_threads_for(largest_product: int, is_lbfgs: bool = False) -> Iterator[None]:
    """Limit BLAS to one thread where the products are too small to be shared.

    Parameters
    ----------
    largest_product : int
        The number of multiplications in the largest matrix product of a step.
    is_lbfgs : bool, default=False
        Whether SciPy's L-BFGS makes BLAS calls of its own, which are shared even where the
        network's products are not.
    """
    if largest_product < _WORTH_MORE_THREADS and (is_lbfgs or largest_product > _ALWAYS_ONE_THREAD):
        with _controller().limit(limits=1):
            yield
    else:
        yield
