"""Array types, array helpers, reusable buffers, and states as dicts of arrays."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .parallel import thread_number

if TYPE_CHECKING:
    from scipy.sparse import sparray, spmatrix

Array: TypeAlias = NDArray[Any]
"""A floating-point array, with the member axis first. Docstrings state the shape."""

IndexArray: TypeAlias = NDArray[np.intp]
"""Indices of rows."""

MatrixLike: TypeAlias = "ArrayLike | sparray | spmatrix"
"""Data as users pass it: an array, a list of lists, a data frame or a sparse matrix."""

TableLike: TypeAlias = "MatrixLike | Mapping[str, Any]"
"""A table, or one row of it as a dict."""

Columns: TypeAlias = "Literal['from_dtype'] | list[Any] | tuple[Any, ...] | Array | None"
"""The categorical columns of a table: indices, names or a mask."""

ColumnKinds: TypeAlias = (
    "Mapping[Any, Literal['number', 'category', 'text', 'date', 'time', 'duration']] | None"
)
"""What columns of a table are taken for, by their names or positions."""

MonotonicCst: TypeAlias = "ArrayLike | Mapping[Any, Literal[-1, 0, 1]] | None"
"""In which columns of a table predictions are monotone: an array, or a dict by name."""

FloatOrPerMember: TypeAlias = float | Array
"""A hyperparameter: a float for all members, or an array of shape (n_estimators, 1)."""

ArrayDict: TypeAlias = dict[str, Any]
"""State that changes in training: arrays and numbers by name."""

# The number of values for which four arrays fit into the cache of a core.
BLOCK = 65_536

# The size of NumPy's buffers in training. NumPy copies strided rows, and rows with a factor each,
# to a buffer unless a row is longer than it.
BUFFER_SIZE = 2_048


def cast_hyperparameters(array: Array, *values: FloatOrPerMember) -> Sequence[FloatOrPerMember]:
    """Return hyperparameters in the dtype of `array`.

    For one member they are floats, which do not change the dtype of a product.
    """
    if len(array) == 1:
        return values
    dtype = array.dtype
    return [value.astype(dtype) if isinstance(value, np.ndarray) else value for value in values]


def squeeze_member_axis(array: Array) -> Array:
    """Return an array without its member axis if it has one member.

    Passes of a single member have no member axis, since NumPy's calls are then faster.
    """
    return array[0] if len(array) == 1 else array


def iter_column_blocks(*arrays: Array) -> Iterable[tuple[Array, ...]]:
    """Return an iterable of blocks of columns of arrays of shape (n_estimators, p)."""
    n_estimators, p = arrays[0].shape
    width = max(BUFFER_SIZE, BLOCK // n_estimators)
    if p <= width:
        return (arrays,)
    # A tuple is created faster from a list than from a generator.
    return (
        tuple([array[:, start : start + width] for array in arrays]) for start in range(0, p, width)
    )


def iter_column_blocks_with_scratch(*arrays: Array) -> Iterable[tuple[Array, ...]]:
    """Return `iter_column_blocks`, each with a scratch array of the same shape."""
    blocks = list(iter_column_blocks(*arrays))
    scratch = np.empty_like(blocks[0][0])
    return [(*block, scratch[:, : block[0].shape[1]]) for block in blocks]


# The number of values of X that a check reads at once, so that it copies little of X.
_VALUES_CHECKED = 1 << 20


def iter_row_slices(X: Any) -> Iterator[slice]:
    """Yield slices of consecutive rows of a table, each of about a million values."""
    n_rows = max(1, _VALUES_CHECKED // max(1, X.shape[1]))
    for start in range(0, len(X), n_rows):
        yield slice(start, min(start + n_rows, len(X)))


class LazyMatrix:
    """Matrix whose rows are computed when they are read, so that few are in memory at once.

    Parameters
    ----------
    shape : tuple of int
        The number of rows and of columns.
    dtype : dtype
        The dtype of the rows.
    """

    ndim = 2

    def __init__(self, shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self.shape, self.dtype = shape, dtype

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | Array) -> Array:
        """Return rows as an array."""
        n_rows = len(range(*rows.indices(len(self)))) if isinstance(rows, slice) else len(rows)
        out = np.empty((n_rows, self.shape[1]), self.dtype)
        self.write_rows(rows, out)
        return out

    def write_rows(self, rows: slice | Array, out: Array) -> None:
        """Write rows to an array (n, n_columns), in the dtype of the array."""
        raise NotImplementedError


def max_abs(X: Any) -> float:
    """Return the largest absolute value of a matrix, without a copy."""
    if isinstance(X, LazyMatrix):
        return max(max_abs(X[rows]) for rows in iter_row_slices(X))
    values = X.data if hasattr(X, "indptr") else X
    # As floats, since unsigned integers have no negative values.
    return max(-float(values.min(initial=0)), float(values.max(initial=0)))


def max_by_halves(x: Array, halves: Array) -> Array:
    """Return the maximum over the third of four axes, which is kept.

    NumPy takes the maximum of two halves of an array faster than over a short axis.

    Parameters
    ----------
    x : array of shape (a, b, n, c)
        The values.
    halves : array of shape (a, b, n - n // 2, c)
        Memory for the result and what it is computed from.
    """
    n = x.shape[2]
    if n % 2:
        np.copyto(halves[:, :, n // 2], x[:, :, n // 2])
    while n > 1:
        half = n // 2
        np.maximum(x[:, :, :half], x[:, :, n - half : n], out=halves[:, :, :half])
        x, n = halves, n - half
    return halves[:, :, :1]


def as_dense(y: Any) -> Any:
    """Return a sparse matrix as an array, anything else unchanged."""
    return y.toarray() if hasattr(y, "toarray") else y


class BufferPool:
    """Named flat buffers that are reused for arrays of different shapes.

    Arrays of one name share their memory, so only one of them may be in use at a time. A short last
    batch takes no further memory.
    """

    def __init__(self, dtype: np.dtype[np.floating]) -> None:
        self.dtype = dtype
        self._flat: dict[str, Array] = {}

    def get(self, name: str, shape: Sequence[int], dtype: Any = None) -> Array:
        """Return an uninitialized array in the buffer of this name.

        All arrays of a name have one dtype, by default that of the pool. If the buffer is too
        small, a new one replaces it; arrays returned before keep their memory.
        """
        size = math.prod(shape)
        flat = self._flat.get(name)
        if flat is None or flat.size < size:
            flat = self._flat[name] = np.empty(size, dtype or self.dtype)
        return flat[:size].reshape(shape)

    def get_for_thread(self, name: str, shape: Sequence[int], dtype: Any = None) -> Array:
        """Return an uninitialized array for the current thread of a `parallel_for`."""
        number = thread_number()
        return self.get(f"{name}, thread {number}" if number else name, shape, dtype)


def get_attributes(value: Any) -> dict[str, Any]:
    """Return the attributes of an object, without its cached properties."""
    kind = type(value)
    return {
        name: held
        for name, held in vars(value).items()
        if not isinstance(getattr(kind, name, None), cached_property)
    }


class DropCachedPropertiesMixin:
    """Mixin that leaves cached properties out of copies, pickles and files."""

    def __getstate__(self) -> dict[str, Any]:
        return get_attributes(self)


def index_state(state: Mapping[str, Array], members: Any) -> ArrayDict:
    """Return the rows of some members: views for a slice, copies for an index array."""
    return {name: array[members] for name, array in state.items()}


def count_rows(value: Any) -> int:
    """Return the number of rows of an array, a data frame or a list; -1 for other values."""
    if not hasattr(value, "shape") and hasattr(value, "__array__"):
        value = np.asarray(value)
    if hasattr(value, "shape"):
        return value.shape[0] if value.shape else -1
    return len(value) if hasattr(value, "__len__") and not isinstance(value, str | dict) else -1
