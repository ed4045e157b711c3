"""Encodings of columns: robust scaling, category codes, one-hot outputs, target statistics.

Category code 0 stands for unknown categories. Codes 1 to k stand for those of the training table,
the last of them for all infrequent ones. None is the missing value, a category like any other.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import repeat
from typing import Any, ClassVar, Self

import numpy as np
from scipy import sparse

from ..utils.arrays import Array, DropCachedPropertiesMixin, as_dense
from ._read_table import raise_unsupported
from ._value_types import find_roles, is_missing

# Beyond this the smooth clip equals its bound but for rounding, and the square is still finite.
_FAR = 1e9
# Quartiles that differ by at most this share of the range are equal but for rounding.
_ROUNDING = 10 * np.finfo(np.float64).eps
# The number of values that are in double precision at once, for their quantiles.
_VALUES_AT_ONCE = 1 << 20

# The name of the output, or code, of infrequent categories.
INFREQUENT = "infrequent"


@dataclass(frozen=True)
class RobustScaling(DropCachedPropertiesMixin):
    """Scaling of k numeric columns by their quartiles.

    The outputs are, in this order: the scaled columns; the two-valued ones, as 0 and 1; and an
    indicator for each column with missing values. Constant columns have no output.

    Parameters
    ----------
    center, scale : array of shape (k,)
        The offset and factor of each column.
    fill : array of shape (k,)
        The output for a missing value.
    scaled, two_valued, with_missing : array of bool of shape (k,)
        The columns of each kind of output.
    """

    center: Array
    scale: Array
    fill: Array
    scaled: Array
    two_valued: Array
    with_missing: Array

    @classmethod
    def fit(cls, values: Any) -> Self:
        """Fit to a matrix (n, k) of floats, with NaN for missing values.

        Columns of a sparse matrix are not centered, so that zeros stay zeros.
        """
        is_dense = isinstance(values, np.ndarray)
        n_columns = columns_at_once(values.shape[0])
        blocks = []
        for start in range(0, max(1, values.shape[1]), n_columns):
            part = as_dense(values[:, start : start + n_columns])
            blocks.append(cls(*_fit_columns(part, centered=is_dense)))
        return cls.concatenate(blocks)

    @classmethod
    def concatenate(cls, scalings: Sequence[Self]) -> Self:
        """Return the scaling of the columns of several scalings."""
        each = [[getattr(own, field.name) for own in scalings] for field in fields(cls)]
        return cls(*map(np.concatenate, each))

    def take(self, columns: Array | list[int]) -> Self:
        """Return the scaling of some columns."""
        return type(self)(*(getattr(self, field.name)[columns] for field in fields(type(self))))

    def scale_together(self, columns: slice, values: Array) -> Self:
        """Return a scaling with one factor for some columns, whose variances then sum to one.

        Columns with two values keep their own factors.
        """
        variance = float(np.nanvar(values, axis=0).sum())
        scale = self.scale.copy()
        scale[columns][self.scaled[columns]] = 1 / np.sqrt(variance) if variance else 1.0
        return replace(self, scale=scale)

    @cached_property
    def input_columns(self) -> tuple[Array, Array, Array]:
        """The columns of the scaled outputs, the two-valued ones and the indicators."""
        masks = self.scaled, self.two_valued, self.with_missing
        scaled, two_valued, with_missing = map(np.flatnonzero, masks)
        return scaled, two_valued, with_missing

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return sum(map(len, self.input_columns))

    def scale_values(self, values: Array) -> Array:
        """Return a matrix (n, k) with each column scaled and clipped, and NaN as before."""
        scaled, two_valued, _ = self.input_columns
        with np.errstate(over="ignore", invalid="ignore"):  # for values close to infinity
            x = (values - self.center) * self.scale
        x[:, scaled] = smooth_clip(x[:, scaled])
        if len(two_valued):
            x[:, two_valued] = np.clip(x[:, two_valued], 0, 1)
        return np.asarray(x)

    def filled_column(self, x: Array, output: int) -> Array:
        """Return a scaled output in single precision, for a matrix (n, k) of scaled values."""
        column = self.input_columns[0][output]
        return _fill_nan(x[:, column].astype(np.float32), self.fill[column])

    def write_outputs(self, x: Array, out: Array) -> None:
        """Write the outputs for a matrix (n, k) of scaled values to `out` (n, n_outputs)."""
        scaled, two_valued, with_missing = self.input_columns
        first, second = len(scaled), len(scaled) + len(two_valued)
        out[:, :first] = _fill_nan(x[:, scaled], self.fill[scaled])
        out[:, first:second] = _fill_nan(x[:, two_valued], self.fill[two_valued])
        out[:, second:] = np.isnan(x[:, with_missing])

    def encode_sparse(self, values: Any) -> sparse.csc_array:
        """Return the outputs for a sparse matrix (n, k) whose columns are not centered."""
        scaled, two_valued, with_missing = self.input_columns
        x = sparse.csc_array(values)
        columns = np.repeat(np.arange(x.shape[1]), np.diff(x.indptr))
        is_missing = x.copy()
        is_missing.data = np.isnan(x.data).astype(np.float64)
        with np.errstate(over="ignore"):
            data = x.data * self.scale[columns]
        clipped = np.clip(data, 0, 1)
        data = np.where(self.two_valued[columns], clipped, smooth_clip(data, in_place=False))
        x.data = np.where(np.isnan(data), self.fill[columns], data)
        blocks = [x[:, scaled], x[:, two_valued], is_missing[:, with_missing]]
        outputs = sparse.hstack(blocks, format="csc")
        outputs.eliminate_zeros()
        return outputs


def columns_at_once(n_rows: int) -> int:
    """Return how many columns of so many rows are in double precision at once."""
    return max(1, _VALUES_AT_ONCE // max(1, n_rows))


def smooth_clip(x: Array, in_place: bool = True) -> Array:
    """Return x / sqrt(1 + (x/3)^2), which is close to x near zero and stays within [-3, 3]."""
    x = np.clip(x, -_FAR, _FAR, out=x if in_place else None)
    x /= np.sqrt(1 + (x / 3) ** 2)
    return x


def _fill_nan(x: Array, fill: Array) -> Array:
    np.copyto(x, fill, where=np.isnan(x))
    return x


def _fit_columns(values: Array, centered: bool) -> list[Array]:
    """Return the fields of `RobustScaling` for the columns of a dense matrix."""
    is_missing = np.isnan(values)
    is_empty = is_missing.all(axis=0)
    quartiles = np.empty((5, 0))
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        if values.size:
            quartiles = np.nanquantile(values, [0, 0.25, 0.5, 0.75, 1], axis=0)
        low, first, median, third, high = quartiles
        spread, width = third - first, high - low
        is_spread = (spread > _ROUNDING * width) & np.isfinite(1 / spread)
        scale = np.where(is_spread, 1 / spread, 2 / width)
    is_constant = is_empty | ~((width > 0) & np.isfinite(scale))
    two_valued = ((values == low) | (values == high) | is_missing).all(axis=0) & ~is_constant
    if not centered:
        two_valued &= low == 0
    center = np.where(two_valued, low, median if centered else 0.0)
    center = np.where(is_constant, 0.0, center)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        scale = np.where(is_constant, 0.0, np.where(two_valued, 1 / width, scale))
        fill = np.nan_to_num((median - center) * scale)
    fill = np.where(two_valued, fill, smooth_clip(fill, in_place=False))
    with_missing = is_missing.any(axis=0) & ~is_empty
    return [center, scale, fill, ~is_constant & ~two_valued, two_valued, with_missing]


def count_categories(values: Sequence[Any], label: str) -> Counter[Any]:
    """Return how often each category occurs; those of several blocks of rows can be added."""
    if "other" in find_roles(values):
        raise_unsupported(values, label)
    try:
        by_value = Counter(values)
    except TypeError:  # a tuple of lists is not hashable
        raise_unsupported(values, label)
    counts: Counter[Any] = Counter()
    for value, count in by_value.items():
        counts[None if is_missing(value) else value] += count
    return counts


@dataclass(frozen=True)
class CategoryLevels(DropCachedPropertiesMixin):
    """The categories of one column.

    Parameters
    ----------
    frequent : tuple
        The categories with a code of their own, in the order of the codes.
    infrequent : tuple
        The infrequent ones, which share the code after that.
    counts : tuple of int
        The number of occurrences of each code from 1 on.
    label : str
        The name of the column in errors.
    """

    frequent: tuple[Any, ...]
    infrequent: tuple[Any, ...]
    counts: tuple[int, ...]
    label: str

    @classmethod
    def fit(cls, counts: Mapping[Any, int], label: str, min_frequency: int) -> Self:
        """Fit to the counts of categories; those below the minimum frequency are infrequent."""
        levels = [level for level in counts if level is not None]
        try:
            levels.sort()
        except TypeError:  # of several types
            levels.sort(key=lambda level: (type(level).__name__, str(level)))
        if None in counts:
            levels.append(None)
        frequent = tuple(level for level in levels if counts[level] >= min_frequency)
        infrequent = tuple(level for level in levels if counts[level] < min_frequency)
        code_counts = [counts[level] for level in frequent]
        if infrequent:
            code_counts.append(sum(counts[level] for level in infrequent))
        return cls(frequent, infrequent, tuple(code_counts), label)

    @property
    def n_codes(self) -> int:
        """The number of codes, without code 0."""
        return len(self.counts)

    def names(self) -> list[str]:
        """Return a name for each code from 1 on."""
        names = ["missing" if level is None else str(level) for level in self.frequent]
        return [*names, INFREQUENT] if self.infrequent else names

    @cached_property
    def _codes(self) -> dict[Any, int]:
        codes = {level: code for code, level in enumerate(self.frequent, start=1)}
        return codes | dict.fromkeys(self.infrequent, len(self.frequent) + 1)

    def encode(self, values: Sequence[Any], first_row: int = 0) -> Array:
        """Return the code of each value; errors count rows from `first_row` on."""
        if "other" in find_roles(values):
            raise_unsupported(values, self.label, first_row)
        found = map(self._codes.get, values, repeat(0))
        try:
            codes = np.fromiter(found, dtype=np.intp, count=len(values))
        except TypeError:  # a tuple of lists is not hashable
            raise_unsupported(values, self.label, first_row)
        missing_code = self._codes.get(None, 0)
        if missing_code:
            for row in np.flatnonzero(codes == 0).tolist():
                if is_missing(values[row]):
                    codes[row] = missing_code
        return codes


@dataclass(frozen=True)
class OneHot(DropCachedPropertiesMixin):
    """One-hot encoding of codes; of two categories, only the second has an output.

    Parameters
    ----------
    positions : tuple of tuples of int
        For each column, the output of code 0, 1, ... among those of the column; -1 for none.
    names : tuple of tuples of str
        For each column, the suffixes of the names of its outputs.
    """

    positions: tuple[tuple[int, ...], ...]
    names: tuple[tuple[str, ...], ...]
    output_type: ClassVar[str] = "one_hot"

    @classmethod
    def fit(cls, columns: Sequence[CategoryLevels], max_categories: float) -> Self:
        """Assign outputs to codes; beyond `max_categories` the least frequent share one."""
        outputs = [_assign_outputs(levels, max_categories) for levels in columns]
        return cls(tuple(each for each, _ in outputs), tuple(names for _, names in outputs))

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return sum(map(len, self.names))

    def codes_with_output(self, column: int) -> Array:
        """Return the codes of a column that do not share their output with others."""
        positions = np.array(self.positions[column])
        counts = np.bincount(positions[positions >= 0], minlength=len(positions))
        return np.flatnonzero((positions >= 0) & (counts[positions] == 1))

    def outputs(self) -> list[tuple[int, str]]:
        """Return the column, and the suffix of the name, of each output."""
        return [(column, f"_{name}") for column, names in enumerate(self.names) for name in names]

    def encode(self, codes: Array, out: Array) -> None:
        """Write the outputs for codes (n, columns) to `out` (n, n_outputs)."""
        out[:] = 0
        out[self._active_outputs(codes)] = 1

    def encode_sparse(self, codes: Array) -> sparse.csc_array:
        """Return the outputs for codes (n, columns) as a sparse matrix."""
        rows, outputs = self._active_outputs(codes)
        shape = (len(codes), self.n_outputs)
        return sparse.csc_array((np.ones(len(rows)), (rows, outputs)), shape=shape)

    def _active_outputs(self, codes: Array) -> tuple[Array, Array]:
        """Return the rows and the outputs that are one."""
        starts, output_of_code = self._table
        outputs = output_of_code[starts + codes]
        rows, columns = np.nonzero(outputs >= 0)
        return rows, outputs[rows, columns]

    @cached_property
    def _table(self) -> tuple[Array, Array]:
        """Where each column starts in a flat array of the outputs of all codes, and that array."""
        lengths = [len(positions) for positions in self.positions]
        first_outputs = np.cumsum([0, *map(len, self.names)])
        by_column = [
            np.where(np.array(positions) < 0, -1, np.array(positions) + first)
            for positions, first in zip(self.positions, first_outputs, strict=False)
        ]
        starts = np.cumsum([0, *lengths])[: len(lengths)]
        return starts, np.concatenate([np.empty(0, dtype=np.intp), *by_column])


@dataclass(frozen=True)
class OrdinalCodes:
    """Ordinal encoding: the codes of all columns that are not constant.

    Parameters
    ----------
    columns : tuple of int
        These columns.
    """

    columns: tuple[int, ...]
    output_type: ClassVar[str] = "ordinal"

    @classmethod
    def fit(cls, columns: Sequence[CategoryLevels]) -> Self:
        """Find the columns that are not constant."""
        return cls(tuple(at for at, levels in enumerate(columns) if levels.n_codes > 1))

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return len(self.columns)

    def outputs(self) -> list[tuple[int, str]]:
        """Return the column, and the suffix of the name, of each output."""
        return [(column, "") for column in self.columns]

    def encode(self, codes: Array, out: Array) -> None:
        """Write the outputs for codes (n, columns) to `out` (n, n_outputs)."""
        out[:] = codes[:, self.columns]

    def encode_sparse(self, codes: Array) -> sparse.csc_array:
        """Return the outputs for codes (n, columns) as a sparse matrix."""
        return sparse.csc_array(codes[:, self.columns].astype(np.float64))


def _assign_outputs(
    levels: CategoryLevels, max_categories: float
) -> tuple[tuple[int, ...], tuple[str, ...]]:
    """Return the output of each code of a column, -1 for none, and the names of the outputs."""
    k, names = levels.n_codes, levels.names()
    if k < 2:
        return (-1,) * (k + 1), ()
    if k == 2:
        return (-1, -1, 0), (names[1],)
    if k <= max_categories:
        return tuple(range(-1, k)), tuple(names)
    by_count = sorted(range(len(levels.frequent)), key=lambda at: -levels.counts[at])
    chosen = sorted(by_count[: int(max_categories) - 1])
    positions = np.full(k + 1, len(chosen))
    positions[0] = -1
    positions[np.array(chosen) + 1] = range(len(chosen))
    return tuple(positions.tolist()), (*(names[at] for at in chosen), INFREQUENT)
