"""Threads of BLAS and of training, and the sizes of stacks that train fastest."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import lru_cache
from itertools import pairwise
from typing import Self

from threadpoolctl import ThreadpoolController

from ..nn.data_loader import CHUNK_BYTES
from ..nn.network import Network
from ..utils.equality import Item
from ..utils.parallel import ThreadTeam

# Multiplications in the largest product of a step. Below the first, BLAS libraries take one
# thread by themselves; below the second, two threads save little while the cores are idle and
# cost up to a hundred times the product where another process holds one of them.
_ALWAYS_ONE_THREAD = 2**18
_WORTH_MORE_THREADS = 10**7

# Elements of data from which on more threads pay in scikit-learn's boosting. Below, its short loops
# take no less time on two idle cores than on one. Where other processes held the cores, they took
# forty times the time.
_WORTH_OPENMP = 2**20

# Bytes that a step of a stack may touch. Measured on a core with 2 MB of second-level cache: below,
# a member's time falls with the size of the stack; above, it stays or rises again.
CACHE_BYTES = 1 << 22

# Bytes of a step from which on a thread of its own pays: enough work between two calls of Python,
# which only one thread can make at a time.
_WORTH_A_THREAD = 1 << 19

# In smaller stacks the member axis costs as much as the shared overhead saves.
_FEWEST_MEMBERS = 4


@lru_cache(maxsize=1)
def _threadpool_controller() -> ThreadpoolController:
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
    return [library.num_threads for library in _threadpool_controller().lib_controllers]


def _set_threads(numbers: Sequence[int]) -> None:
    """Set the number of threads of each BLAS library, from whichever thread."""
    for library, number in zip(_threadpool_controller().lib_controllers, numbers, strict=True):
        library.set_num_threads(number)
        # The thread that has set OpenBLAS would else be the only one that can.
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread()


_USERS = _BlasUsers()
if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_USERS.after_fork)


@lru_cache(maxsize=1)
def _openmp() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")


def openmp_limit(n_elements: int) -> AbstractContextManager[object]:
    """Return a context in which OpenMP uses one thread in this thread if there is little to do.

    Parameters
    ----------
    n_elements : int
        The number of elements of the data that its loops run over.
    """
    return nullcontext() if n_elements >= _WORTH_OPENMP else _openmp().limit(limits=1)


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

    Loops over parts of large arrays (`parallel_for`) then take the threads of BLAS, and in any case
    call BLAS with one thread each.

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
    divides_rows : bool, default=False
        Whether layers compute parts of a batch, whose products are not to be shared.
    """

    def __init__(
        self,
        max_matmul_size: int,
        is_lbfgs: bool = False,
        n_side_by_side: int = 1,
        divides_rows: bool = False,
    ) -> None:
        is_small = max_matmul_size < _WORTH_MORE_THREADS and (
            is_lbfgs or divides_rows or max_matmul_size > _ALWAYS_ONE_THREAD
        )
        self._is_needed = is_small or n_side_by_side > 1
        self._team: ThreadTeam | None = None
        has_large_arrays = divides_rows or max_matmul_size > _ALWAYS_ONE_THREAD
        if has_large_arrays and n_side_by_side == 1 and (n_threads := threads_for_stacks()) > 1:
            self._team = ThreadTeam(n_threads, nullcontext if self._is_needed else _limit_blas)
        self._user = threading.get_ident(), object()
        self._is_guarded = False

    def __enter__(self) -> Self:
        if self._is_guarded:
            if self._is_needed:
                _USERS.add(self._user)
            if self._team is not None:
                self._team.start()
        self._is_guarded = True
        return self

    def __exit__(self, *error: object) -> None:
        if self._team is not None:
            self._team.stop()
        if self._is_needed:
            _USERS.discard(self._user)


@contextmanager
def _limit_blas() -> Iterator[None]:
    """Context in which BLAS uses one thread."""
    user = threading.get_ident(), object()
    try:
        _USERS.add(user)
        yield
    finally:
        _USERS.discard(user)


def bytes_per_member(network: Network, batch_size: int, itemsize: int, n_moments: int = 2) -> int:
    """Return roughly how many bytes a step touches for each member of a stack.

    They are the parameters, gradients, moments and averages, and the activations of a batch.
    """
    n_arrays = 2 + n_moments
    return itemsize * (
        n_arrays * network.layout.n_parameters + batch_size * network.memory_per_sample
    )


def check_batch_memory(network: Network, n_rows: int, itemsize: int) -> None:
    """Check that the buffers of a training batch are smaller than the memory of the machine.

    Parameters
    ----------
    network : Network
        The architecture.
    n_rows : int
        The number of rows of a batch.
    itemsize : int
        The bytes of a number.

    Raises
    ------
    MemoryError
        If they are not; the message names the layer that needs most.
    """
    needed, available = itemsize * n_rows * network.memory_per_sample, total_memory()
    if needed <= available:
        return
    sizes = network.memory_per_sample_of_layers
    largest = max(range(len(sizes)), key=sizes.__getitem__)
    own = itemsize * n_rows * sizes[largest]
    raise MemoryError(
        f"A training step on {n_rows:,} rows needs about {needed / 2**30:,.1f} GiB, "
        f"{own / 2**30:,.1f} GiB of it for {network.layers[largest]!r}, but this machine has "
        f"{available / 2**30:,.1f} GiB. Set a smaller batch_size (or another solver, if it is "
        "lbfgs), or reduce the layer."
    )


def total_memory() -> float:
    """Return the bytes of memory of the machine; infinity where it is not known."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):  # on Windows
        return math.inf


def max_stack_size(
    network: Network,
    batch_size: int,
    itemsize: int,
    n_rows: int,
    max_bytes: int,
    n_moments: int = 2,
) -> int:
    """Return how many networks train fastest as one stack, within a memory limit.

    Parameters
    ----------
    network : Network
        The architecture.
    batch_size : int
        The number of rows of a batch.
    itemsize : int
        The bytes of a number.
    n_rows : int
        The number of training rows.
    max_bytes : int
        The memory limit of a stack, including copies for rollback and gathered rows.
    n_moments : int, default=2
        The number of arrays, each like the parameters, that optimizer and average keep.
    """
    each = bytes_per_member(network, batch_size, itemsize, n_moments)
    n_inputs, *_, n_outputs = network.n_units
    n_gathered = min(CHUNK_BYTES // (itemsize * max(n_inputs, n_outputs)), n_rows)
    gathered = itemsize * n_gathered * (n_inputs + 2 * n_outputs)
    n_estimators = min(CACHE_BYTES // each, max_bytes // (3 * each + gathered))
    return n_estimators if n_estimators >= _FEWEST_MEMBERS else 1


def compute_n_stacks(n_estimators: int, size: int, each: int, n_threads: int) -> int:
    """Return the number of stacks for these members, so that all threads have equal work.

    Parameters
    ----------
    n_estimators : int
        The number of members.
    size : int
        The largest number of members in a stack.
    each : int
        The `bytes_per_member`.
    n_threads : int
        The number of threads that may train stacks side by side.
    """
    fewest = -(-n_estimators // size)
    balanced = min(n_estimators, -(-fewest // n_threads) * n_threads)
    return balanced if n_estimators * each >= balanced * _WORTH_A_THREAD else fewest


def array_split(items: Sequence[Item], n_parts: int) -> list[Sequence[Item]]:
    """Return consecutive parts of nearly equal length."""
    bounds = [len(items) * part // n_parts for part in range(n_parts + 1)]
    return [items[start:stop] for start, stop in pairwise(bounds)]
