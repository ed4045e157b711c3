"""Encoding of numeric columns: robust scaling, a smooth clip and missing indicators."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from scipy import sparse

from ..utils.arrays import Array, DropsCachedProperties

# Beyond this the smooth clip equals its bound but for rounding, and the square is still finite.
_FAR = 1e9
# Quartiles that differ by at most this share of the range are equal but for rounding.
_ROUNDING = 10 * np.finfo(np.float64).eps
# The number of columns of a sparse matrix that are dense at once, for their quantiles.
_SPARSE_BLOCK = 64


@dataclass(frozen=True)
class RobustScaling(DropsCachedProperties):
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
        if isinstance(values, np.ndarray):
            return cls(*_fit_columns(values, centered=True))
        blocks = [
            _fit_columns(values[:, start : start + _SPARSE_BLOCK].toarray(), centered=False)
            for start in range(0, max(1, values.shape[1]), _SPARSE_BLOCK)
        ]
        return cls(*map(np.concatenate, zip(*blocks, strict=True)))

    @property
    def n_outputs(self) -> int:
        """The number of outputs."""
        return sum(map(len, self.input_columns()))

    def input_columns(self) -> tuple[Array, Array, Array]:
        """Return the columns of the scaled outputs, the two-valued ones and the indicators."""
        return self._input_columns

    @cached_property
    def _input_columns(self) -> tuple[Array, Array, Array]:
        scaled, two_valued, with_missing = map(
            np.flatnonzero, (self.scaled, self.two_valued, self.with_missing)
        )
        return scaled, two_valued, with_missing

    def encode(self, values: Array, out: Array) -> None:
        """Write the outputs for a matrix (n, k) to `out` (n, n_outputs)."""
        scaled, two_valued, with_missing = self.input_columns()
        first, second = len(scaled), len(scaled) + len(two_valued)
        is_missing = np.isnan(values)
        with np.errstate(over="ignore", invalid="ignore"):  # for values close to infinity
            x = (values - self.center) * self.scale
        out[:, :first] = _fill_nan(smooth_clip(x[:, scaled]), self.fill[scaled])
        out[:, first:second] = _fill_nan(np.clip(x[:, two_valued], 0, 1), self.fill[two_valued])
        out[:, second:] = is_missing[:, with_missing]

    def encode_sparse(self, values: Any) -> sparse.csc_array:
        """Return the outputs for a sparse matrix (n, k) whose columns are not centered."""
        scaled, two_valued, with_missing = self.input_columns()
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
    low, first, median, third, high = _quartiles(values)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
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


def _quartiles(values: Array) -> Array:
    """Return minimum, quartiles and maximum of each column; NaN for empty columns."""
    if not values.shape[1]:
        return np.empty((5, 0))
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        quartiles: Array = np.nanquantile(values, [0, 0.25, 0.5, 0.75, 1], axis=0)
    return quartiles
