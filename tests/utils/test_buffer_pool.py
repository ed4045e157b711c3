"""Buffer pools: arrays of one name share memory, and have the requested shape."""

import numpy as np
import pytest

from skbackprop.utils.arrays import BufferPool
from support.stacks import DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_have_the_shape_and_dtype_asked_for(dtype):
    array = BufferPool(np.dtype(dtype)).get("z", (2, 3, 4))
    assert (array.shape, array.dtype) == ((2, 3, 4), dtype)
    assert array.flags.c_contiguous
    assert array.flags.writeable


def test_arrays_of_one_name_share_memory():
    pool = BufferPool(np.dtype(float))
    long, short = pool.get("z", (10, 3)), pool.get("z", (4, 3))
    assert np.shares_memory(long, short)
    short[:] = 1
    assert (long[:4] == 1).all()
    assert not np.shares_memory(long, pool.get("a", (10, 3)))


def test_growing_a_buffer_keeps_earlier_arrays():
    pool = BufferPool(np.dtype(float))
    small = pool.get("z", (2, 2))
    small[:] = 1
    large = pool.get("z", (5, 5))
    large[:] = 2
    assert (small == 1).all()
    assert np.shares_memory(large, pool.get("z", (3, 3)))


def test_two_pools_share_nothing():
    first, second = (BufferPool(np.dtype(float)).get("z", (4,)) for _ in range(2))
    assert not np.shares_memory(first, second)


def test_empty_arrays_are_possible():
    assert BufferPool(np.dtype(float)).get("x", (3, 0)).shape == (3, 0)
