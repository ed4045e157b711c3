"""How many networks make a stack, and which: as many as fit, cut evenly, of equal keys."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from skbackprop.activations import ACTIVATIONS
from skbackprop.nn.data_loader import CHUNK_BYTES
from skbackprop.nn.network import dense_network
from skbackprop.training.parallelism import (
    _CACHE_BYTES,
    _FEWEST_MEMBERS,
    _WORTH_A_THREAD,
    array_split,
    bytes_per_member,
    max_stack_size,
    n_stacks,
)
from skbackprop.utils.equality import group_by_equality

SMALLEST, LARGEST = 1, 2**62


def network(*widths):
    return dense_network(widths, (ACTIVATIONS["relu"],) * (len(widths) - 2))


networks = st.lists(st.integers(1, 300), min_size=2, max_size=5).map(lambda w: network(*w))
batch_sizes, itemsizes = st.integers(1, 500), st.sampled_from([4, 8])


@given(st.lists(st.integers(), min_size=1, max_size=60), st.data())
def test_parts_are_nearly_equal(items, data):
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
def test_stacks_are_no_larger_than_allowed_and_as_many_as_keep_threads_busy(
    n_estimators, size, each, n_threads
):
    n = n_stacks(n_estimators, size, each, n_threads)
    fewest = -(-n_estimators // size)
    assert fewest <= n <= n_estimators
    assert n in (fewest, n_estimators) or n % n_threads == 0
    assert n == fewest or n_estimators * each / n >= _WORTH_A_THREAD
    assert n_stacks(n_estimators, size, each, 1) == fewest


@given(st.lists(st.integers(0, 5), max_size=30))
def test_groups_are_of_equal_keys_in_the_order_of_their_first(keys):
    items = list(enumerate(keys))
    groups = group_by_equality(items, keys)
    assert [{key for _, key in group} for group in groups] == [{k} for k in dict.fromkeys(keys)]
    assert all(group == sorted(group) for group in groups)
    assert sorted(item for group in groups for item in group) == items


def test_keys_are_compared_and_need_no_hash():
    keys = [[1], {"a": 2}, [np.int64(1)], {"a": 2.0}]
    assert group_by_equality("abcd", keys) == [["a", "c"], ["b"], ["d"]]


@given(networks, batch_sizes, itemsizes, st.integers(0, 4))
def test_bytes_are_those_of_the_arrays_of_a_step(network, batch_size, itemsize, n_moments):
    dtype = np.dtype(f"f{itemsize}")
    n_parameters = sum(
        np.empty(shape, dtype).size + shape[1] for shape in network.shapes["weights"]
    )
    units = sum(np.empty((batch_size, width), dtype).nbytes for width in network.widths)
    expected = (2 + n_moments) * n_parameters * itemsize + 2 * units
    assert bytes_per_member(network, batch_size, itemsize, n_moments) == expected


@given(networks, batch_sizes, itemsizes, st.integers(1, 10**6), st.integers(SMALLEST, 2**28))
def test_members_fit_into_the_cache_and_into_the_bound(
    network, batch_size, itemsize, n_rows, max_bytes
):
    def n_estimators(itemsize=itemsize, n_rows=n_rows, max_bytes=max_bytes):
        return max_stack_size(network, batch_size, itemsize, n_rows, max_bytes)

    n, each = n_estimators(), bytes_per_member(network, batch_size, itemsize)
    n_inputs, n_outputs = network.widths[0], network.widths[-1]
    n_gathered = min(CHUNK_BYTES // (itemsize * max(n_inputs, n_outputs)), n_rows)
    gathered = itemsize * n_gathered * (n_inputs + 2 * n_outputs)
    assert n == 1 or n >= _FEWEST_MEMBERS
    assert n == 1 or (n * each <= _CACHE_BYTES and n * (each + gathered) <= max_bytes)
    assert n_estimators(max_bytes=2 * max_bytes) >= n
    assert n_estimators(n_rows=2 * n_rows) <= n
    assert n_estimators(itemsize=4) >= n_estimators(itemsize=8)


@pytest.mark.parametrize("widths, batch_size", [((2000, 2000, 1), 1), ((10, 10, 1), 10**6)])
def test_a_network_that_fills_the_cache_trains_alone(widths, batch_size):
    assert max_stack_size(network(*widths), batch_size, 8, 1000, LARGEST) == 1


def test_a_bound_of_one_byte_leaves_one_member_at_a_time():
    assert max_stack_size(network(2, 2, 1), 1, 4, 1000, SMALLEST) == 1
    assert max_stack_size(network(2, 2, 1), 1, 4, 1000, LARGEST) > 1000
