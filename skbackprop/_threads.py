"""How many threads BLAS may use while networks train, and how many train them side by side."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
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


class _OneThread(AbstractContextManager[None]):
    """BLAS limited to one thread, from the first who asks for it to the last who does.

    The limit is the whole process's. With limits of threadpoolctl's, of two that overlap in two
    threads the second would find one thread, and in the end leave BLAS with it for good.
    """

    def __init__(self) -> None:
        self._lock, self._n_users = threading.Lock(), 0
        self._before: list[int] = []

    def __enter__(self) -> None:
        with self._lock:
            if not self._n_users:
                libraries = _controller().lib_controllers
                self._before = [library.num_threads for library in libraries]
                _set_threads([1] * len(libraries))
            self._n_users += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._n_users -= 1
            if not self._n_users:
                _set_threads(self._before)


def _set_threads(numbers: Sequence[int]) -> None:
    """Set the number of threads of each BLAS library, from whichever thread."""
    for library, number in zip(_controller().lib_controllers, numbers, strict=True):
        library.set_num_threads(number)
        # The thread that has set OpenBLAS would else be the only one that can.
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread()


_ONE_THREAD = _OneThread()


def threads_for_stacks() -> int:
    """Return how many threads may train stacks side by side: as many as BLAS would take.

    So whoever limits BLAS, as joblib does in its workers, limits these as well; and what runs in
    one of several threads already gets no more.
    """
    if threading.current_thread() is not threading.main_thread():
        return 1
    return max((library.num_threads for library in _controller().lib_controllers), default=1)


def blas_threads_for(
    largest_product: int, is_lbfgs: bool = False, n_side_by_side: int = 1
) -> AbstractContextManager[None]:
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
    return _ONE_THREAD if is_small or n_side_by_side > 1 else nullcontext()
