"""Array types, array helpers and reusable buffers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from scipy.sparse import sparray, spmatrix

Array: TypeAlias = NDArray[Any]
"""A floating-point array; shapes are given where it is used, the member axis first."""

IndexArray: TypeAlias = NDArray[np.intp]
"""Row numbers into a table."""

MatrixLike: TypeAlias = "ArrayLike | sparray | spmatrix"
"""Rows as users have them: an array, a list of lists, a data frame, a sparse matrix."""

TableLike: TypeAlias = "MatrixLike | Mapping[str, Any]"
"""Rows of a table, or one of them as a dict."""

Columns: TypeAlias = "Literal['from_dtype'] | list[Any] | tuple[Any, ...] | Array | None"
"""Which columns of a table are categories: their numbers or names, or a mask."""

FloatOrPerMember: TypeAlias = float | Array
"""A hyperparameter: one float for all members, or an array of shape (n_estimators, 1)."""

ArrayDict: TypeAlias = dict[str, Any]
"""What changes during training: arrays and numbers by name, so that any pickler can carry it."""

# Columns of four such arrays stay in a core's cache while several passes go over them.
BLOCK = 65_536

# NumPy copies rows to buffers of so many numbers where an array has a stride between its rows or
# a factor for each of them. Rows that are longer than a buffer it goes over where they are.
BUFFER_SIZE = 2_048


def cast_hyperparameters(array: Array, *values: FloatOrPerMember) -> Sequence[FloatOrPerMember]:
    """Return hyperparameters by which `array` can be multiplied without a change of dtype.

    For one member they are floats, which never change it.
    """
    if len(array) == 1:
        return values
    dtype = array.dtype
    return [value.astype(dtype) if isinstance(value, np.ndarray) else value for value in values]


def squeeze_member_axis(array: Array) -> Array:
    """Return the array without its member axis if it has one member.

    Inside a pass, a single member goes without the axis: NumPy's calls cost less then.
    """
    return array[0] if len(array) == 1 else array


def iter_column_blocks(*arrays: Array) -> Iterable[tuple[Array, ...]]:
    """Return blocks of columns of arrays of shape (n_estimators, p), side by side."""
    n_estimators, p = arrays[0].shape
    width = max(BUFFER_SIZE, BLOCK // n_estimators)
    if p <= width:
        return (arrays,)
    # A tuple made of a list is of its size at once; made of a generator, it is cut to it.
    return (
        tuple([array[:, start : start + width] for array in arrays]) for start in range(0, p, width)
    )


def iter_column_blocks_with_scratch(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Yield `iter_column_blocks`, each with one more array of its shape, of undefined values."""
    scratch: Array | None = None
    for block in iter_column_blocks(*arrays):
        if scratch is None:
            scratch = np.empty_like(block[0])
        yield *block, scratch[:, : block[0].shape[1]]


def max_abs(X: Any) -> float:
    """Return the largest absolute value of an array or CSR matrix, without a copy of it."""
    values = X.data if hasattr(X, "indptr") else X
    # As floats: what is unsigned has no other sign.
    return max(-float(values.min(initial=0)), float(values.max(initial=0)))


def as_dense(y: Any) -> Any:
    """Return an array for a sparse matrix; anything else as it is."""
    return y.toarray() if hasattr(y, "toarray") else y


class BufferPool:
    """Named flat buffers, views of which are handed out.

    Two shapes under one name share their memory, so a short last batch costs nothing and
    only one of them may be in use at a time.
    """

    def __init__(self, dtype: np.dtype[np.floating]) -> None:
        self.dtype = dtype
        self._flat: dict[str, Array] = {}

    def get(self, name: str, shape: Sequence[int], dtype: Any = None) -> Array:
        """Return an array of the shape, of undefined values, in the buffer of the name.

        All arrays of a name have one dtype, that of the workspace unless another is given. The
        buffer is made anew where it is too small; arrays handed out before then keep the memory
        that they have.
        """
        size = math.prod(shape)
        flat = self._flat.get(name)
        if flat is None or flat.size < size:
            flat = self._flat[name] = np.empty(size, dtype or self.dtype)
        return flat[:size].reshape(shape)


class DropsCachedProperties:
    """A value of whose cached properties copies, pickles and files hold none: they come anew."""

    def __getstate__(self) -> dict[str, Any]:
        kind = type(self)
        return {
            name: held
            for name, held in vars(self).items()
            if not isinstance(getattr(kind, name, None), cached_property)
        }
