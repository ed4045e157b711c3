"""How many threads BLAS may use while networks train, and how many train them side by side."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Self, TypeVar

from threadpoolctl import ThreadpoolController

Result = TypeVar("Result")

# Multiplications in the largest product of a step. Below the first, BLAS libraries take one
# thread by themselves; below the second, two threads save little while the cores are idle and
# cost up to a hundred times the product where another process holds one of them.
_ALWAYS_ONE_THREAD = 2**18
_WORTH_MORE_THREADS = 10**7


@lru_cache(maxsize=1)
def _controller() -> ThreadpoolController:
    # Looking the libraries up takes milliseconds, so it is done once a process.
    return ThreadpoolController().select(user_api="blas")


class _BlasUsers:
    """The contexts in which BLAS is limited to one thread, of all threads of the process.

    The limit holds from the first context that begins to the last that ends. Two overlapping
    limits of threadpoolctl would not do: the second would find one thread, and in the end leave
    BLAS with it for good.

    `_apply` makes BLAS what the set of users demands. It may be interrupted anywhere, by Ctrl-C or
    a fork, and called once more.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._users: set[tuple[int, object]] = set()  # each with the thread that it runs in
        self._before: list[int] | None = None

    def add(self, user: tuple[int, object]) -> None:
        """Limit BLAS until this user is discarded."""
        self._users.add(user)
        self._apply()

    def discard(self, user: tuple[int, object]) -> None:
        """Lift the limit if this was the last user; may be called again."""
        self._users.discard(user)
        self._apply()

    def _apply(self) -> None:
        """Set the limit if there are users, else lift it."""
        with self._lock:
            if self._users:
                if self._before is None:
                    self._before = _n_threads()
                _set_threads([1] * len(self._before))
            elif self._before is not None:
                _set_threads(self._before)
                self._before = None

    def after_fork(self) -> None:
        """Forget, in a forked process, the users in threads that it does not have."""
        self._lock = threading.Lock()  # a thread that is gone may have held the other
        own = threading.get_ident()
        self._users = {user for user in self._users if user[0] == own}
        self._apply()


def _n_threads() -> list[int]:
    """Return the number of threads of each BLAS library."""
    return [library.num_threads for library in _controller().lib_controllers]


def _set_threads(numbers: Sequence[int]) -> None:
    """Set the number of threads of each BLAS library, from whichever thread."""
    for library, number in zip(_controller().lib_controllers, numbers, strict=True):
        library.set_num_threads(number)
        # The thread that has set OpenBLAS would else be the only one that can.
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread()


_USERS = _BlasUsers()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_USERS.after_fork)


def threads_for_stacks() -> int:
    """Return how many threads may train stacks side by side: as many as BLAS would use.

    A limit of BLAS, as joblib sets it in its workers, limits these threads as well. Code that
    already runs in one of several threads gets one.
    """
    if threading.current_thread() is not threading.main_thread():
        return 1
    return max(_n_threads(), default=1)


class BlasLimit:
    """Context in which BLAS uses one thread where matrix products are too small to share.

    Enter it twice, ``with BlasLimit(size) as limit, limit:``. Ctrl-C at the start of one exit is
    then followed by the other, and the limit is lifted in any case. The first entry does nothing.

    Parameters
    ----------
    max_matmul_size : int
        The number of multiplications in the largest matrix product of a step.
    is_lbfgs : bool, default=False
        Whether SciPy's L-BFGS makes BLAS calls of its own, which are shared even where the
        network's products are not.
    n_side_by_side : int, default=1
        The number of threads that train at the same time. With several, each uses BLAS alone.
    """

    def __init__(
        self, max_matmul_size: int, is_lbfgs: bool = False, n_side_by_side: int = 1
    ) -> None:
        is_small = max_matmul_size < _WORTH_MORE_THREADS and (
            is_lbfgs or max_matmul_size > _ALWAYS_ONE_THREAD
        )
        self._is_needed = is_small or n_side_by_side > 1
        self._user = threading.get_ident(), object()
        self._is_guarded = False

    def __enter__(self) -> Self:
        if self._is_needed and self._is_guarded:
            _USERS.add(self._user)
        self._is_guarded = True
        return self

    def __exit__(self, *error: object) -> None:
        if self._is_needed:
            _USERS.discard(self._user)


def with_blas_limit(
    action: Callable[[], Result], max_matmul_size: int, n_side_by_side: int = 1
) -> Result:
    """Return what `action()` returns, called under a `BlasLimit`."""
    with BlasLimit(max_matmul_size, n_side_by_side=n_side_by_side) as limit, limit:
        return action()
