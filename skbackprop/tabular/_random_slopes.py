"""Interactions of a categorical and a numeric column: a line for each category.

The lines are best linear predictors of a model with random intercepts and slopes (Robinson 1991):
for category c and number z, the target is a_c + b_c z + e. Slopes b_c are drawn from a distribution
with mean b and variance tau^2, and the errors e have the variance sigma^2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple, Self

import numpy as np
from scipy import sparse
from scipy.stats import f as f_distribution

from ..utils.arrays import Array

# The maximum number of pairs of columns that are encoded, and that are tried.
MAX_PAIRS, _MAX_TRIED = 3, 6
# A pair is tried if categories have at least this number of rows on average, the F-test finds
# different slopes at this level, and different slopes lower the variance of errors by this share.
_MIN_ROWS, _MAX_P_VALUE, _MIN_GAIN = 4, 0.001, 0.05
# A pair is encoded if the out-of-fold squared error of its lines is less than this share of that of
# parallel lines. With pairs above 0.8 the error of networks rose by up to 6 % on one of three
# tables.
_MAX_RATIO = 0.75
# The number of rows of the F-tests, and of numbers that are tested at once.
_TESTED_ROWS, _TESTED_NUMBERS = 20_000, 64


class _SlopeTest(NamedTuple):
    """Analysis of variance of the slopes of each of m numbers z.

    Parameters
    ----------
    counts, mean_y : arrays of shape (k,)
        The number of rows of each category, and the mean of the target y.
    mean_z, zz, zy : arrays of shape (k, m)
        The means of the numbers, and the sums of squares and products within categories.
    slope : array of shape (m,)
        The common slope b of all categories.
    between : array of shape (m,)
        The sum of squares by which separate slopes lower the squared error.
    n_slopes : array of shape (m,)
        The number of categories with a slope.
    within : array of shape (m,)
        The variance sigma^2 of the errors from separate lines; NaN without enough rows.
    df : array of shape (m,)
        The degrees of freedom of that variance.
    """

    counts: Array
    mean_y: Array
    mean_z: Array
    zz: Array
    zy: Array
    slope: Array
    between: Array
    n_slopes: Array
    within: Array
    df: Array

    @classmethod
    def from_rows(cls, codes: Array, z: Array, y: Array, n_codes: int) -> Self:
        """Return the analysis of numbers (n, m), whose categories have codes from 1 on."""
        shape = n_codes, len(codes)
        rows = sparse.csr_array((np.ones(len(codes)), (codes - 1, np.arange(len(codes)))), shape)
        counts: Array = np.asarray(rows.sum(axis=1))
        divisor = np.maximum(counts, 1)
        mean_z, mean_y = np.asarray(rows @ z) / divisor[:, None], np.asarray(rows @ y) / divisor
        dz, dy = z - mean_z[codes - 1], y - mean_y[codes - 1]
        products = (np.square(dz), dz * dy[:, None], np.square(dy))
        zz, zy, yy = (np.asarray(rows @ product) for product in products)
        has_slope = zz > 1e-12 * zz.sum(axis=0)
        explained = np.divide(zy**2, zz, out=np.zeros_like(zz), where=has_slope)
        total = np.maximum(zz.sum(axis=0), np.finfo(float).tiny)
        slope = zy.sum(axis=0) / total
        n_slopes = has_slope.sum(axis=0)
        df = counts.sum() - np.count_nonzero(counts) - n_slopes
        residual = np.maximum(yy.sum() - explained.sum(axis=0), 0)
        between = np.maximum(explained.sum(axis=0) - zy.sum(axis=0) ** 2 / total, 0)
        within = np.where(df > 0, residual / np.maximum(df, 1), np.nan)
        return cls(counts, mean_y, mean_z, zz, zy, slope, between, n_slopes, within, df)

    @property
    def gain(self) -> Array:
        """The share by which separate slopes lower the variance of errors."""
        df = self.df + self.n_slopes - 1
        common_variance = (self.within * self.df + self.between) / np.maximum(df, 1)
        return 1 - self.within / np.maximum(common_variance, np.finfo(float).tiny)

    @property
    def p_value(self) -> Array:
        """The p-value of the F-test of equal slopes."""
        df = np.maximum(self.n_slopes - 1, 1)
        ratio = self.between / df / np.maximum(self.within, np.finfo(float).tiny)
        return np.asarray(f_distribution.sf(ratio, df, np.maximum(self.df, 1)))


def fit_random_slopes(
    codes: Array, z: Array, y: Array, n_codes: int, are_parallel: bool = False
) -> Array:
    """Return the intercept and the slope of each category, after those of all rows.

    Slopes are shrunk toward the common one by the variance tau^2 of DerSimonian & Laird (1986,
    section 3), and the heights of lines at the mean of z toward the mean height.

    Parameters
    ----------
    codes : array of int of shape (n,)
        The category of each row, from 1 on.
    z, y : array of shape (n,)
        The number and the target.
    n_codes : int
        The number of categories.
    are_parallel : bool, default=False
        Whether all lines have the common slope.

    Returns
    -------
    lines : array of shape (1 + n_codes, 2)
    """
    lines = np.zeros((1 + n_codes, 2))
    if not len(y):
        return lines
    test = _SlopeTest.from_rows(codes, z[:, None], y, n_codes)
    counts, zz, zy, mean_z = test.counts, test.zz[:, 0], test.zy[:, 0], test.mean_z[:, 0]
    slope, within = float(test.slope[0]), float(np.nan_to_num(test.within[0]))
    tau2 = 0.0
    if not are_parallel and test.df[0] > 0 and test.n_slopes[0] > 1:
        excess = float(test.between[0]) - (test.n_slopes[0] - 1) * within
        tau2 = max(0.0, excess / (zz.sum() - np.square(zz).sum() / zz.sum()))
    precision = zz * tau2 + within
    is_precise = (counts > 0) & (precision > 0)
    divisor = np.where(is_precise, precision, 1)
    slopes = np.where(is_precise, (zy * tau2 + slope * within) / divisor, slope)
    middle = z.mean()
    heights = test.mean_y - slopes * (mean_z - middle)
    has_rows = counts > 0
    noise = within / np.maximum(counts, 1)
    noise += np.where(is_precise, within * tau2 / divisor, tau2) * np.square(mean_z - middle)
    weight = counts / counts.sum()
    mean = weight @ heights
    spread = max(0.0, float(weight @ (np.square(heights - mean) - noise)))
    share = np.divide(spread, spread + noise, out=np.ones(n_codes), where=spread + noise > 0)
    heights = np.where(has_rows, mean + share * (heights - mean), mean)
    lines[0] = mean - slope * middle, slope
    lines[1:] = np.column_stack([heights - slopes * middle, slopes])
    return lines


@dataclass(frozen=True, eq=False)
class RandomSlopes:
    """Interactions of a categorical and a numeric column: predictions by lines of the categories.

    For each of a few pairs of columns, the encoding of a row is the prediction of the target by the
    line of its category, at its number.

    Parameters
    ----------
    categories : tuple of int
        For each pair, the position of the categorical column.
    numbers : tuple of int
        For each pair, the position of the numeric column.
    coefficients : tuple of arrays of shape (n_folds + 1, 1 + n_codes, 2)
        For each pair, the intercept and the slope of each code without the rows of each fold; last,
        those of all rows. Code 0 is an unknown category.

    References
    ----------
    Robinson, G. K. (1991). That BLUP is a good thing: the estimation of random effects.
    Statistical Science 6(1), 15-32.

    DerSimonian, R. & Laird, N. (1986). Meta-analysis in clinical trials. Controlled Clinical
    Trials 7(3), 177-188.
    """

    categories: tuple[int, ...]
    numbers: tuple[int, ...]
    coefficients: tuple[Array, ...]

    @classmethod
    def fit(
        cls,
        codes: Array,
        z: Array,
        may_interact: Array,
        y: Array,
        draw_folds: Callable[[], Array],
        n_codes: Sequence[int],
    ) -> Self | None:
        """Choose pairs of columns by their out-of-fold error, and fit their lines.

        Parameters
        ----------
        codes : array of int of shape (n, n_categorical)
            The codes of categories.
        z : array of shape (n, n_numbers)
            The scaled numbers; NaN counts as 0.
        may_interact : array of bool of shape (n_numbers,)
            The numbers that may interact.
        y : array of shape (n,) or (n, n_targets)
            The targets, each of which has its own pairs, or NaN.
        draw_folds : callable
            Returns the fold of each row, an array of int of shape (n,), the same in each call.
        n_codes : sequence of int
            The number of codes of each categorical column.

        Returns
        -------
        interactions : RandomSlopes or None
            The interactions; None if there is no such pair.
        """
        results = list[tuple[float, int, int, Array]]()
        for target in np.atleast_2d(y.T):
            is_measured = ~np.isnan(target)
            rows: Any = slice(None) if is_measured.all() else is_measured
            # Division by a power of two does not round, and makes squares finite.
            unit = float(np.ldexp(1.0, int(np.frexp(np.abs(target[rows]).max())[1])))
            target = target[rows] / unit
            pairs = _find_promising_pairs(codes[rows], z[rows], may_interact, target, n_codes)
            fitted = []
            for category, number in pairs:
                folds, k = draw_folds(), n_codes[category]
                column_codes, n_folds = codes[rows, category].astype(np.intp), int(folds.max()) + 1
                pair_z = _fill(z[rows, number])
                pair = _fit_pair(column_codes, pair_z, target, k, folds[rows], n_folds)
                if pair is not None:
                    fitted.append((pair[0], category, number, unit * pair[1]))
            results += sorted(fitted, key=lambda item: item[0])[:MAX_PAIRS]
        if not results:
            return None
        _, categories, numbers, coefficients = zip(*results, strict=True)
        return cls(categories, numbers, coefficients)

    def encode(self, codes: Array, z: Array, folds: Array | None = None) -> Array:
        """Return the predictions of lines, of shape (n, n_pairs), out of fold if there are folds.

        Parameters
        ----------
        codes : array of int of shape (n, n_categorical)
            The codes of categories.
        z : array of shape (n, n_pairs)
            The scaled number of each pair.
        folds : array of int of shape (n,) or None, default=None
            The fold of each row.
        """
        rows = -1 if folds is None else folds
        pairs = zip(self.coefficients, self.categories, _fill(z).T, strict=True)
        return np.column_stack(
            [_predict_lines(lines[rows, codes[:, category]], x) for lines, category, x in pairs]
        )


def _fit_pair(
    codes: Array, z: Array, y: Array, n_codes: int, folds: Array, n_folds: int
) -> tuple[float, Array] | None:
    """Return the out-of-fold squared error of a pair, and its lines without each fold and of all.

    Return None if lines with separate slopes are not better enough than parallel ones.
    """
    errors, lines = [], []
    for are_parallel in (False, True):
        fold_lines = [
            fit_random_slopes(codes[rows], z[rows], y[rows], n_codes, are_parallel)
            for rows in (folds != fold for fold in range(n_folds))
        ]
        lines.append(np.stack(fold_lines))
        errors.append(np.square(y - _predict_lines(lines[-1][folds, codes], z)).sum())
    if not errors[0] < _MAX_RATIO * errors[1]:
        return None
    return errors[0], np.concatenate([lines[0], fit_random_slopes(codes, z, y, n_codes)[None]])


def _fill(z: Array) -> Array:
    """Return scaled numbers in double precision, with 0, about the median, for NaN."""
    return np.nan_to_num(z.astype(np.float64))


def _predict_lines(lines: Array, z: Array) -> Array:
    return np.asarray(lines[:, 0] + lines[:, 1] * z)


def _find_promising_pairs(
    codes: Array,
    z: Array,
    may_interact: Array,
    y: Array,
    n_codes: Sequence[int],
) -> list[tuple[int, int]]:
    """Return the pairs whose slopes differ by the F-test, by decreasing gain."""
    numbers = np.flatnonzero(may_interact)
    rows = slice(None, None, -(-len(y) // _TESTED_ROWS))
    target, results = y[rows].astype(np.float64), list[tuple[float, int, int]]()
    is_used = [3 <= k <= len(y) / _MIN_ROWS for k in n_codes]
    blocks = np.array_split(numbers, -(-len(numbers) // _TESTED_NUMBERS)) if len(numbers) else []
    for category, column in product(np.flatnonzero(is_used).tolist(), blocks):
        column_codes = codes[rows, category].astype(np.intp)
        block_z = _fill(z[rows][:, column])
        test = _SlopeTest.from_rows(column_codes, block_z, target, n_codes[category])
        is_useful = (test.n_slopes > 2) & (test.df > 0) & (test.gain > _MIN_GAIN)
        for i in np.flatnonzero(is_useful & (test.p_value < _MAX_P_VALUE)).tolist():
            results.append((float(test.gain[i]), category, int(column[i])))
    results.sort(reverse=True)
    return [(category, number) for _, category, number in results[:_MAX_TRIED]]
