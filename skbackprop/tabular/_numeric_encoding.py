"""How columns of numbers are encoded: scaled by quartiles, clipped smoothly, indicators beside."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
from scipy import sparse

from ..utils.arrays import Array, DropsCachedProperties

# The smooth clip is within rounding of its bound there, and the square is finite.
_FAR = 1e9
# Quartiles that differ by no more than this share of the range are equal but for rounding.
_ROUNDING = 10 * np.finfo(np.float64).eps
# Columns of a sparse matrix that are dense at a time while their quantiles are found.
_SPARSE_BLOCK = 64


@dataclass(frozen=True)
class RobustScaling(DropsCachedProperties):
    """What was learned of k columns of numbers; each field has shape (k,).

    A column that is not constant is `scaled`, or `two_valued`: then it becomes 0 and 1. One that
    had missing values, and others, has an indicator of them (`with_missing`). The outputs are
    those that are scaled, the two-valued ones, the indicators.
    """

    center: Array
    scale: Array
    fill: Array  # what stands for a missing value, in units of the output
    scaled: Array
    two_valued: Array
    with_missing: Array

    @classmethod
    def learn(cls, values: Any) -> Self:
        """Learn from a matrix (n, k) of floats, with NaN for what is missing.

        A sparse one is never centred, so that its zeros stay zeros.
        """
        if isinstance(values, np.ndarray):
            return cls(*_learned(values, is_centred=True))
        blocks = [
            _learned(values[:, start : start + _SPARSE_BLOCK].toarray(), is_centred=False)
            for start in range(0, max(1, values.shape[1]), _SPARSE_BLOCK)
        ]
        return cls(*map(np.concatenate, zip(*blocks, strict=True)))

    @property
    def n_outputs(self) -> int:
        """The number of columns that `encode` writes."""
        return sum(map(len, self.input_columns()))

    def input_columns(self) -> tuple[Array, Array, Array]:
        """Return the columns that the three kinds of outputs are made of."""
        return self._sources

    def encode(self, values: Array, out: Array) -> None:
        """Write the outputs for a matrix (n, k) to `out` (n, n_outputs)."""
        scaled, two_valued, with_missing = self.input_columns()
        first, second = len(scaled), len(scaled) + len(two_valued)
        is_missing = np.isnan(values)
        with np.errstate(over="ignore", invalid="ignore"):  # of values that are next to infinite
            x = (values - self.center) * self.scale
        out[:, :first] = _filled(smooth_clip(x[:, scaled]), self.fill[scaled])
        out[:, first:second] = _filled(np.clip(x[:, two_valued], 0, 1), self.fill[two_valued])
        out[:, second:] = is_missing[:, with_missing]

    def encode_sparse(self, values: Any) -> sparse.csc_array:
        """Return the outputs for a sparse matrix (n, k) whose columns were not centred."""
        scaled, two_valued, with_missing = self.input_columns()
        x = sparse.csc_array(values)
        of_column = np.repeat(np.arange(x.shape[1]), np.diff(x.indptr))
        is_missing = x.copy()
        is_missing.data = np.isnan(x.data).astype(np.float64)
        with np.errstate(over="ignore"):
            data = x.data * self.scale[of_column]
        data = np.where(
            self.two_valued[of_column], np.clip(data, 0, 1), smooth_clip(data, in_place=False)
        )
        x.data = np.where(np.isnan(data), self.fill[of_column], data)
        blocks = [x[:, scaled], x[:, two_valued], is_missing[:, with_missing]]
        outputs = sparse.hstack(blocks, format="csc")
        outputs.eliminate_zeros()
        return outputs

    @cached_property
    def _sources(self) -> tuple[Array, Array, Array]:
        scaled, two_valued, with_missing = map(
            np.flatnonzero, (self.scaled, self.two_valued, self.with_missing)
        )
        return scaled, two_valued, with_missing


def smooth_clip(x: Array, in_place: bool = True) -> Array:
    """Return x / sqrt(1 + (x/3)^2), which is x near zero, and between -3 and 3 everywhere."""
    x = np.clip(x, -_FAR, _FAR, out=x if in_place else None)
    x /= np.sqrt(1 + (x / 3) ** 2)
    return x


def _filled(x: Array, fill: Array) -> Array:
    np.copyto(x, fill, where=np.isnan(x))
    return x


def _learned(values: Array, is_centred: bool) -> list[Array]:
    """Return the fields of `RegressionTargets` for columns of a dense matrix."""
    is_missing = np.isnan(values)
    is_empty = is_missing.all(axis=0)
    low, first, median, third, high = _quartiles(values)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        spread, width = third - first, high - low
        is_spread = (spread > _ROUNDING * width) & np.isfinite(1 / spread)
        scale = np.where(is_spread, 1 / spread, 2 / width)
    is_constant = is_empty | ~((width > 0) & np.isfinite(scale))
    two_valued = ((values == low) | (values == high) | is_missing).all(axis=0) & ~is_constant
    if not is_centred:
        two_valued &= low == 0
    center = np.where(two_valued, low, median if is_centred else 0.0)
    center = np.where(is_constant, 0.0, center)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        scale = np.where(is_constant, 0.0, np.where(two_valued, 1 / width, scale))
        fill = np.nan_to_num((median - center) * scale)
    fill = np.where(two_valued, fill, smooth_clip(fill, in_place=False))
    with_missing = is_missing.any(axis=0) & ~is_empty
    return [center, scale, fill, ~is_constant & ~two_valued, two_valued, with_missing]


def _quartiles(values: Array) -> Array:
    """Return minimum, quartiles and maximum of each column, NaN where there are no values."""
    if not values.shape[1]:
        return np.empty((5, 0))
    with warnings.catch_warnings(), np.errstate(over="ignore", invalid="ignore"):
        warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
        quartiles: Array = np.nanquantile(values, [0, 0.25, 0.5, 0.75, 1], axis=0)
    return quartiles
