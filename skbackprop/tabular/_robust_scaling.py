"""Scaling of numeric columns by their quartiles, with a smooth clip."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import Any, Self

import numpy as np
from scipy import sparse

from ..utils.arrays import Array, DropCachedPropertiesMixin, as_dense

# Beyond this value the smooth clip equals its bound up to rounding, and the square is finite.
_FAR = 1e9


# Quartiles that differ by at most this share of the range are equal up to rounding.
_ROUNDING = 10 * np.finfo(np.float64).eps


# The number of values whose quantiles are computed at once.
_VALUES_AT_ONCE = 1 << 20


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
    def fit(cls, values: Any, centered: bool = True) -> Self:
        """Fit to a matrix (n, k) of floats, with NaN for missing values.

        Columns of a sparse matrix are not centered, so that zeros stay zeros.
        """
        centered &= isinstance(values, np.ndarray)
        n_columns = max(1, _VALUES_AT_ONCE // max(1, values.shape[0]))
        blocks = []
        for start in range(0, max(1, values.shape[1]), n_columns):
            part = as_dense(values[:, start : start + n_columns])
            blocks.append(cls(*_fit_columns(part, centered)))
        return cls.concatenate(blocks)

    @classmethod
    def concatenate(cls, scalings: Sequence[Self]) -> Self:
        """Return the scaling of the columns of several scalings."""
        arrays = [[getattr(scaling, field.name) for scaling in scalings] for field in fields(cls)]
        return cls(*map(np.concatenate, arrays))

    def scale_together(self, values: Array) -> Self:
        """Return a scaling with one factor for all columns, whose variances then sum to one.

        Columns with two values keep their own factors.
        """
        variance = float(np.nanvar(values, axis=0).sum())
        factor = 1 / np.sqrt(variance) if variance else 1.0
        return replace(self, scale=np.where(self.scaled, factor, self.scale))

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

    def scale_values(self, values: Array, columns: Any = slice(None)) -> Array:
        """Return a matrix of some columns, scaled and clipped; NaN stays NaN."""
        scaled, two_valued = self.scaled[columns], self.two_valued[columns]
        with np.errstate(over="ignore", invalid="ignore"):  # values may be close to infinity
            x = (values - self.center[columns]) * self.scale[columns]
        x[:, scaled] = smooth_clip(x[:, scaled])
        if two_valued.any():
            x[:, two_valued] = np.clip(x[:, two_valued], 0, 1)
        return np.asarray(x)

    def scaled_output(self, values: Any, output: int) -> Array:
        """Return a scaled output in single precision, for a matrix (n, k) of numbers."""
        column = self.input_columns[0][[output]]
        x = self.scale_values(as_dense(values[:, column]), column).astype(np.float32)
        return _fill_nan(x, self.fill[column])[:, 0]

    def write_outputs(self, x: Array, out: Array) -> None:
        """Write the outputs for a matrix (n, k) of scaled values to `out` (n, n_outputs)."""
        scaled, two_valued, with_missing = self.input_columns
        n_scaled, n_values = len(scaled), len(scaled) + len(two_valued)
        out[:, :n_scaled] = _fill_nan(x[:, scaled], self.fill[scaled])
        out[:, n_scaled:n_values] = _fill_nan(x[:, two_valued], self.fill[two_valued])
        out[:, n_values:] = np.isnan(x[:, with_missing])

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
        minimum, q1, median, q3, maximum = quartiles
        spread, width = q3 - q1, maximum - minimum
        is_spread = (spread > _ROUNDING * width) & np.isfinite(1 / spread)
        scale = np.where(is_spread, 1 / spread, 2 / width)
    is_constant = is_empty | ~((width > 0) & np.isfinite(scale))
    two_valued = ((values == minimum) | (values == maximum) | is_missing).all(axis=0) & ~is_constant
    if not centered:
        two_valued &= minimum == 0
    center = np.where(two_valued, minimum, median if centered else 0.0)
    center = np.where(is_constant, 0.0, center)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        scale = np.where(is_constant, 0.0, np.where(two_valued, 1 / width, scale))
        fill = np.nan_to_num((median - center) * scale)
    fill = np.where(two_valued, fill, smooth_clip(fill, in_place=False))
    with_missing = is_missing.any(axis=0) & ~is_empty
    return [center, scale, fill, ~is_constant & ~two_valued, two_valued, with_missing]
