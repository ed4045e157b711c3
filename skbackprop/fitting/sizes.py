"""Which networks train together: those of one shape, as many as the processor's cache takes.

A stack pays the overhead of Python and NumPy once for all its members. Once the members no
longer fit into the cache together, they cost more than that saves.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from ..core.equality import Item
from ..engine.batches import CHUNK_BYTES
from ..engine.network import Network

# Bytes that a step of a whole stack may go over. Measured on a core with 2 MB of second-level
# cache: below, a member's time falls with the size of the stack; above, it stays or rises again.
_CACHE_BYTES = 1 << 22

# Bytes from which on a step of a stack gives threads enough to do between two calls of Python,
# which only one of them can make at a time.
_WORTH_A_THREAD = 1 << 19

# In smaller stacks, the member axis costs as much as the shared overhead saves.
_FEWEST_MEMBERS = 4


def bytes_per_member(network: Network, batch_size: int, itemsize: int, n_moments: int = 2) -> int:
    """Return about how many bytes a step goes over for each member of a stack.

    They are the parameters, their gradients and as many moments or averages, and a batch on its
    way through the layers and back.
    """
    n_arrays = 2 + n_moments
    return itemsize * (n_arrays * network.layout.n_parameters + batch_size * network.n_buffered)


def fits_into_cache(network: Network, n_rows: int, itemsize: int, n_moments: int) -> bool:
    """Return whether all that a step on so many rows goes over stays in the cache."""
    return bytes_per_member(network, n_rows, itemsize, n_moments) <= _CACHE_BYTES


def members_at_once(
    network: Network,
    batch_size: int,
    itemsize: int,
    n_rows: int,
    max_bytes: int,
    n_moments: int = 2,
) -> int:
    """Return how many networks are trained fastest as one stack, within a bound of memory.

    Parameters
    ----------
    network : Network
        The architecture.
    batch_size : int
        The rows of a batch.
    itemsize : int
        The bytes of a number.
    n_rows : int
        The rows that are trained on.
    max_bytes : int
        What a stack may take, copies for going back and gathered rows included.
    n_moments : int, default=2
        The arrays of the size of the parameters that optimizer and average keep.
    """
    each = bytes_per_member(network, batch_size, itemsize, n_moments)
    n_inputs, *_, n_outputs = network.n_units
    n_gathered = min(CHUNK_BYTES // (itemsize * max(n_inputs, n_outputs)), n_rows)
    gathered = itemsize * n_gathered * (n_inputs + 2 * n_outputs)
    n_members = min(_CACHE_BYTES // each, max_bytes // (3 * each + gathered))
    return n_members if n_members >= _FEWEST_MEMBERS else 1


def n_stacks(n_members: int, size: int, each: int, n_threads: int) -> int:
    """Return into how many stacks to cut members: so many that all threads have the same to do.

    Parameters
    ----------
    n_members : int
        All members.
    size : int
        The most members of a stack.
    each : int
        What `bytes_per_member` says of one.
    n_threads : int
        The threads that may train stacks side by side.
    """
    fewest = -(-n_members // size)
    balanced = min(n_members, -(-fewest // n_threads) * n_threads)
    return balanced if n_members * each >= balanced * _WORTH_A_THREAD else fewest


def evenly_cut(items: Sequence[Item], n_parts: int) -> list[Sequence[Item]]:
    """Return so many consecutive parts of nearly equal length."""
    bounds = [len(items) * part // n_parts for part in range(n_parts + 1)]
    return [items[start:stop] for start, stop in pairwise(bounds)]
