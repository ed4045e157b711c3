"""Resources of training: threads, memory, and the sizes of stacks that train fastest."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, lru_cache, partial

import numpy as np
from threadpoolctl import ThreadpoolController

from ..nn.network import Network
from ..nn.rows import CHUNK_BYTES, Rows
from ..optimizers import LBFGS
from ..utils.arrays import IndexArray
from ..utils.parallel import ThreadTeam
from .config import Config

# Multiplications in the largest product of a step. Below the first number, BLAS libraries use one
# thread by themselves. Below the second, two threads save little on idle cores, and take up to a
# hundred times as long if another process uses one of the cores.
_ALWAYS_ONE_THREAD = 2**18
_WORTH_MORE_THREADS = 10**7

# scikit-learn's boosting uses several threads from this number of elements on. Below it, its short
# loops are no faster on two idle cores, and forty times slower on cores that are in use.
_WORTH_OPENMP = 2**20

# Bytes that a step of a stack may touch. Up to this number, the time per member falls with the size
# of the stack; above, it stays or rises (measured on a core with 2 MB of second-level cache).
CACHE_BYTES = 1 << 22

# A stack gets a separate thread if its step touches at least this number of bytes. Smaller steps
# spend too much of their time in Python, which runs one thread at a time.
_WORTH_A_THREAD = 1 << 19

# In smaller stacks, the member axis costs as much time as the shared overhead saves.
_FEWEST_MEMBERS = 4

# The largest number of activations of a block of rows.
_ACTIVATIONS = 1 << 20


@lru_cache(maxsize=2)
def _libraries(user_api: str) -> ThreadpoolController:
    # Looking up the libraries takes milliseconds, so each process does it once.
    return ThreadpoolController().select(user_api=user_api)


def openmp_limit(n_elements: int) -> AbstractContextManager[object]:
    """Return a context in which OpenMP uses one thread if there is little to do.

    Parameters
    ----------
    n_elements : int
        The number of elements of the data that its loops run over.
    """
    return nullcontext() if n_elements >= _WORTH_OPENMP else _libraries("openmp").limit(limits=1)


def n_blas_threads() -> int:
    """Return how many threads may train stacks side by side: as many as BLAS would use.

    A limit of BLAS threads, as joblib sets it in its workers, also limits these threads. Code that
    does not run in the main thread gets one thread.
    """
    if threading.current_thread() is not threading.main_thread():
        return 1
    return max((library.num_threads for library in _libraries("blas").lib_controllers), default=1)


def share_blas_threads(n_jobs: int) -> AbstractContextManager[object]:
    """Return a context in which each of several threads of joblib has its share of BLAS threads.

    After it, there are as many as before, whatever limits the threads have set in the meantime.
    """
    return _libraries("blas").limit(limits=max(1, n_blas_threads() // n_jobs))


@contextmanager
def limit_blas(
    max_matmul_size: int,
    *,
    is_lbfgs: bool = False,
    n_side_by_side: int = 1,
    divides_rows: bool = False,
) -> Iterator[None]:
    """Context in which BLAS uses one thread where matrix products are too small to share.

    Loops over parts of large arrays (`parallel_for`) then take the threads of BLAS, and in any case
    call BLAS with one thread each.

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
    has_large_arrays = divides_rows or max_matmul_size > _ALWAYS_ONE_THREAD
    is_small = max_matmul_size < _WORTH_MORE_THREADS and (has_large_arrays or is_lbfgs)
    is_limited = is_small or n_side_by_side > 1
    if not (has_large_arrays or is_limited):
        yield
        return
    one_thread = partial(_libraries("blas").limit, limits=1)
    team: AbstractContextManager[object] = nullcontext()
    if has_large_arrays and n_side_by_side == 1 and (n_threads := n_blas_threads()) > 1:
        team = ThreadTeam(n_threads, nullcontext if is_limited else one_thread)
    with one_thread() if is_limited else nullcontext(), team:
        yield


def bytes_per_member(network: Network, batch_size: int, itemsize: int) -> int:
    """Return roughly how many bytes a step touches for each member of a stack.

    The step touches parameters, gradients, most often two moments, and the activations of a batch.
    """
    return itemsize * (4 * network.layout.n_parameters + batch_size * network.memory_per_sample)


def compute_rows_at_once(network: Network, config: Config, rows: Rows, n_rows: int) -> int:
    """Return how many of `n_rows` rows go through the network at once in training."""
    size = config.batch_size
    if config.is_lbfgs:
        size = max(1, _ACTIVATIONS // network.activations_per_sample(rows.is_sparse))
    return min(size, n_rows)


def check_memory(network: Network, config: Config, n_rows: int, itemsize: int) -> None:
    """Check that the arrays of training are smaller than the memory that there is.

    These are the buffers of a batch, the parameters, their gradients and moments, and the copies
    of parameters and moments from which an epoch is undone.

    Parameters
    ----------
    network : Network
        The architecture.
    config : Config
        The configuration.
    n_rows : int
        The number of rows of a batch.
    itemsize : int
        The bytes of a number.

    Raises
    ------
    MemoryError
        If they are not; the message names the layer that needs the most memory.
    """
    solver, batch_bytes = config.solver, itemsize * n_rows
    if isinstance(solver, LBFGS):
        n_moments = solver.n_corrections
    else:
        n_moments = list(map(np.size, solver.init(np.zeros((1, 2))).values())).count(2)
    parameter_bytes = config.n_estimators * itemsize * (3 + 2 * n_moments)
    needed_bytes = batch_bytes * network.memory_per_sample
    needed_bytes += parameter_bytes * network.layout.n_parameters
    if needed_bytes <= total_memory():
        return
    sizes = [batch_bytes * n_values for n_values in network.memory_per_sample_of_layers]
    for i, layer in enumerate(network.layers):
        specs = layer.parameter_specs(network.row_shapes[i])
        sizes[i] += parameter_bytes * sum(spec.size for spec in specs if spec.trained)
    i = sizes.index(max(sizes))
    raise MemoryError(
        f"A training step on {n_rows:,} rows needs about {needed_bytes / 2**30:,.1f} GiB, "
        f"{sizes[i] / 2**30:,.1f} GiB of it for {network.layers[i]!r} with inputs of shape "
        f"{network.row_shapes[i]}, but there are {total_memory() / 2**30:,.1f} GiB. Reduce the "
        "layer or its inputs, or set a smaller batch_size, fewer n_estimators, dtype='float32' or "
        "another solver."
    )


@cache
def total_memory() -> float:
    """Return the bytes of memory that this process may use; infinity where it is not known."""
    try:
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        n_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ImportError, AttributeError, ValueError, OSError):  # Windows has neither
        return math.inf
    return float(n_bytes if limit == resource.RLIM_INFINITY else min(limit, n_bytes))


def max_stack_size(
    network: Network, batch_size: int, itemsize: int, n_rows: int, max_bytes: int
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
    """
    member_bytes = bytes_per_member(network, batch_size, itemsize)
    n_inputs, *_, n_outputs = network.n_units
    n_gathered = min(CHUNK_BYTES // (itemsize * max(n_inputs, n_outputs)), n_rows)
    row_bytes = itemsize * n_gathered * (n_inputs + 2 * n_outputs)
    n_estimators = min(CACHE_BYTES // member_bytes, max_bytes // (3 * member_bytes + row_bytes))
    return n_estimators if n_estimators >= _FEWEST_MEMBERS else 1


def compute_n_stacks(n_estimators: int, size: int, member_bytes: int, n_threads: int) -> int:
    """Return the number of stacks for some members, so that all threads have equal work.

    Parameters
    ----------
    n_estimators : int
        The number of members.
    size : int
        The largest number of members in a stack.
    member_bytes : int
        The `bytes_per_member`.
    n_threads : int
        The number of threads that may train stacks side by side.
    """
    n_min = -(-n_estimators // size)
    n_balanced = min(n_estimators, -(-n_min // n_threads) * n_threads)
    return n_balanced if n_estimators * member_bytes >= n_balanced * _WORTH_A_THREAD else n_min


def split_into_stacks(
    network: Network,
    config: Config,
    n_rows: Sequence[int],
    epochs: Sequence[int],
    itemsize: int,
    max_bytes: int,
) -> list[IndexArray]:
    """Return the members of each stack, those with the fewest rows first.

    Parameters
    ----------
    network : Network
        The architecture.
    config : Config
        The configuration of one of the members. L-BFGS trains each member alone.
    n_rows, epochs : sequence of int
        The number of training rows of each member, and of its epochs so far, which are equal
        within a stack.
    itemsize : int
        The bytes of a number.
    max_bytes : int
        The memory that a stack may take.
    """
    order = np.lexsort((n_rows, epochs))
    if config.is_lbfgs:
        return list(order[:, None])
    settings = network, config.batch_size, itemsize
    n_bytes, n_threads = bytes_per_member(*settings), n_blas_threads()
    size = max_stack_size(*settings, n_rows[0], max_bytes)
    boundaries = np.flatnonzero(np.diff(np.asarray(epochs)[order])) + 1
    return [
        part
        for group in np.split(order, boundaries)
        for part in np.array_split(group, compute_n_stacks(len(group), size, n_bytes, n_threads))
    ]
