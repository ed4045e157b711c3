"""Encodings of numbers: robust scaling, piecewise-linear encoding and periodic features."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from scipy import sparse
from sklearn.base import TransformerMixin
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted, validate_data

from .._sklearn import Interval, _check_feature_names_in
from ..estimators._estimator_mixin import EstimatorMixin, with_parameter_validation
from ..utils.arrays import Array, DropCachedPropertiesMixin, as_dense

_FLOATS = (np.float64, np.float32)
# The number of output elements computed at once, so that they stay in the cache.
_BLOCK = 200_000


class PiecewiseLinearEncoder(TransformerMixin, EstimatorMixin):
    """Encode each number by the filled share of each of its bins.

    The bins of a feature lie between its quantiles e_0 <= e_1 <= ... <= e_T. Component t is

        (x - e_t) / (e_{t+1} - e_t) - 1/2,

    where the fraction is clipped to [0, 1]: bins below x are full, bins above x are empty, and the
    bin of x is filled up to x [1]_. The fraction of the first bin may fall to -1, and that of the
    last bin rise to 2, so that values beyond the training data differ. A linear function of the
    components is a piecewise-linear function of x.

    Parameters
    ----------
    n_bins : int, default=16
        The maximum number of bins of a feature, at least 1. Equal quantiles are merged, so that
        features with few values have fewer bins.

    Attributes
    ----------
    bin_edges_ : list of arrays
        The edges of the bins of each feature, in ascending order.
    n_bins_ : array of int, of shape (n_features_in_,)
        The number of bins of each feature, and of its outputs; 0 for constant features.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, if all are strings.

    See Also
    --------
    PeriodicFeatures : Cosines of numbers.
    sklearn.preprocessing.KBinsDiscretizer : Encode the bin only, without the position in it.

    References
    ----------
    .. [1] Gorishniy, Rubachev & Babenko, "On embeddings for numerical features in tabular deep
       learning", NeurIPS 2022.

    Examples
    --------
    >>> from skbackprop.tabular import PiecewiseLinearEncoder
    >>> X = [[0.0], [1.0], [2.0], [10.0], [20.0]]
    >>> encoder = PiecewiseLinearEncoder(n_bins=2).fit(X)
    >>> encoder.bin_edges_[0]
    array([ 0.,  2., 20.])
    >>> encoder.transform([[1.0], [2.0], [11.0], [29.0]])
    array([[ 0. , -0.5],
           [ 0.5, -0.5],
           [ 0.5,  0. ],
           [ 0.5,  1. ]])
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_bins": [Interval(Integral, 1, None, closed="left")],
    }

    def __init__(self, n_bins: int = 16) -> None:
        self.n_bins = n_bins

    @with_parameter_validation(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Find the edges of the bins.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The numbers.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted encoder.

        Raises
        ------
        ValueError
            If X has missing, infinite or non-numeric values.
        """
        numbers: Array = validate_data(self, X, dtype=_FLOATS)
        self.bin_edges_ = [find_bin_edges(column, self.n_bins) for column in numbers.T]
        self.n_bins_ = np.array([len(edges) - 1 for edges in self.bin_edges_], dtype=np.intp)
        return self

    def transform(self, X: ArrayLike) -> Array:
        """Encode numbers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The numbers.

        Returns
        -------
        encoded : array of shape (n_samples, sum(n_bins_))
            The components, grouped by feature, between -1.5 and 1.5.

        Raises
        ------
        NotFittedError
            If the encoder is not fitted.
        ValueError
            If X has missing, infinite or non-numeric values, or other features than in `fit`.
        """
        check_is_fitted(self)
        numbers: Array = validate_data(self, X, dtype=_FLOATS, reset=False)
        feature, lower, width, minimum, maximum = self._bin_arrays()
        out = np.empty((len(numbers), len(feature)), dtype=numbers.dtype)
        for rows in gen_batches(len(numbers), max(1, _BLOCK // max(1, len(feature)))):
            with np.errstate(over="ignore"):  # values may be far outside of narrow bins
                fractions = numbers[rows][:, feature] - lower
                fractions /= width
            np.clip(fractions, minimum, maximum, out=fractions)
            out[rows] = fractions - 0.5
        return out

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the outputs: name of the feature, "_bin" and a number.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            The names of the features; None for those seen in `fit`, or "x0", "x1" and so on.

        Returns
        -------
        names : array of str, of shape (sum(n_bins_),)
            A name for each output.

        Raises
        ------
        NotFittedError
            If the encoder is not fitted.
        ValueError
            If `input_features` are not those of `fit`.
        """
        check_is_fitted(self)
        names = zip(_check_feature_names_in(self, input_features), self.n_bins_, strict=True)
        output_names = [f"{name}_bin{i}" for name, n_bins in names for i in range(n_bins)]
        return np.array(output_names, dtype=object)

    def _bin_arrays(self) -> tuple[Array, ...]:
        """Return the feature, lower edge, width, and bounds of the fraction of each output."""
        bins = make_bins(self.bin_edges_, int(self.n_bins_.max()))
        feature, bin_number = np.nonzero(bins[-1])
        return feature, *bins[:-1, feature, bin_number]


@np.errstate(under="ignore")
def find_bin_edges(column: Array, n_bins: int) -> Array:
    """Return the edges of the bins of a feature."""
    quantiles = np.quantile(column.astype(np.float64), np.linspace(0, 1, n_bins + 1))
    return np.unique(quantiles)


def make_bins(edges: Sequence[Array], n_bins: int) -> Array:
    """Return the bins of features as numbers, padded to `n_bins` bins whose encoding is 0.

    Parameters
    ----------
    edges : sequence of arrays
        The edges of the bins of each feature.
    n_bins : int
        The number of bins, at least that of any feature.

    Returns
    -------
    bins : array of shape (5, n_features, n_bins)
        Numbers lower, width, least, most and shift of each bin, which encodes x as
        ``clip((x - lower) / width, least, most) - shift``.
    """
    bins = np.zeros((5, len(edges), n_bins))
    bins[1] = np.inf
    for feature, feature_edges in enumerate(edges):
        lower, width, least, most, shift = bins[:, feature, : len(feature_edges) - 1]
        lower[:], width[:] = feature_edges[:-1], np.diff(feature_edges)
        most[:], shift[:] = 1.0, 0.5
        least[:1], most[-1:] = -1.0, 2.0
    return bins


class PeriodicFeatures(TransformerMixin, EstimatorMixin):
    """Encode each number by several cosines: cos(2 pi f x + phase).

    For each feature, the frequencies f are drawn from N(0, scale^2) and the phases from [0, 2 pi);
    they are not trained [1]_. Numbers should be scaled so that most are between -3 and 3, as the
    output of `TableEncoder` is.

    Parameters
    ----------
    n_frequencies : int, default=16
        The number of cosines of each feature, at least 1.
    scale : float, default=0.5
        The standard deviation of the frequencies, positive. Larger values give more detail.
    random_state : int, RandomState instance or None, default=None
        Seed of the frequencies and phases.

    Attributes
    ----------
    frequencies_ : array of shape (n_features_in_, n_frequencies)
        The frequencies.
    phases_ : array of shape (n_features_in_, n_frequencies)
        The phases.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, if all are strings.

    See Also
    --------
    PiecewiseLinearEncoder : Filled shares of bins.
    sklearn.kernel_approximation.RBFSampler : Cosines of random sums of all features.

    References
    ----------
    .. [1] Gorishniy, Rubachev & Babenko, "On embeddings for numerical features in tabular deep
       learning", NeurIPS 2022; there the frequencies are trained.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.tabular import PeriodicFeatures
    >>> X = np.array([[-1.0, 0.5], [0.0, 1.0], [2.0, 0.0]])
    >>> features = PeriodicFeatures(n_frequencies=3, random_state=0).fit(X)
    >>> features.transform(X).shape
    (3, 6)
    >>> waves = np.cos(2 * np.pi * features.frequencies_[0] * X[:, [0]] + features.phases_[0])
    >>> np.allclose(features.transform(X)[:, :3], waves)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "n_frequencies": [Interval(Integral, 1, None, closed="left")],
        "scale": [Interval(Real, 0, None, closed="neither")],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        n_frequencies: int = 16,
        *,
        scale: float = 0.5,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_frequencies = n_frequencies
        self.scale = scale
        self.random_state = random_state

    @with_parameter_validation(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Draw the frequencies and phases.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The numbers. Only the number of features is used.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If X has missing, infinite or non-numeric values.
        """
        validate_data(self, X, dtype=_FLOATS)
        rng = check_random_state(self.random_state)
        shape = (self.n_features_in_, self.n_frequencies)
        self.frequencies_ = rng.normal(0, self.scale, shape)
        self.phases_ = rng.uniform(0, 2 * np.pi, shape)
        return self

    def transform(self, X: ArrayLike) -> Array:
        """Compute the cosines of numbers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The numbers.

        Returns
        -------
        waves : array of shape (n_samples, n_features * n_frequencies)
            The cosines, grouped by feature.

        Raises
        ------
        NotFittedError
            If the transformer is not fitted.
        ValueError
            If X has missing, infinite or non-numeric values, or other features than in `fit`.
        """
        check_is_fitted(self)
        numbers: Array = validate_data(self, X, dtype=_FLOATS, reset=False)
        waves = numbers[:, :, np.newaxis] * (2 * np.pi * self.frequencies_).astype(numbers.dtype)
        waves += self.phases_.astype(numbers.dtype)
        waves = np.cos(waves, out=waves).reshape(len(numbers), -1)
        return waves

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the outputs: name of the feature, "_cos" and a number.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            The names of the features; None for those seen in `fit`, or "x0", "x1" and so on.

        Returns
        -------
        names : array of str, of shape (n_features * n_frequencies,)
            A name for each output.

        Raises
        ------
        NotFittedError
            If the transformer is not fitted.
        ValueError
            If `input_features` are not those of `fit`.
        """
        check_is_fitted(self)
        names = _check_feature_names_in(self, input_features)
        n_frequencies = self.frequencies_.shape[1]
        output_names = [f"{name}_cos{i}" for name in names for i in range(n_frequencies)]
        return np.array(output_names, dtype=object)


# ------------------------------------------------------------------- robust scaling

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
        x[:, two_valued] = np.clip(x[:, two_valued], 0, 1)
        return np.asarray(x)

    def scaled_output(self, values: Any, output: int) -> Array:
        """Return a scaled output in single precision, for a matrix (n, k) of numbers."""
        column = self.input_columns[0][[output]]
        x = self.scale_values(as_dense(values[:, column]), column).astype(np.float32)[:, 0]
        return np.where(np.isnan(x), self.fill[column].astype(np.float32), x)

    def write_outputs(self, x: Array, out: Array) -> None:
        """Write the outputs for a matrix (n, k) of scaled values to `out` (n, n_outputs)."""
        is_missing, columns = np.isnan(x), self.input_columns
        numbers = np.where(is_missing, self.fill, x)
        start = 0
        for values, indices in zip((numbers, numbers, is_missing), columns, strict=True):
            out[:, start : start + len(indices)] = values[:, indices]
            start += len(indices)

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
        data = np.where(self.two_valued[columns], clipped, smooth_clip(data))
        x.data = np.where(np.isnan(data), self.fill[columns], data)
        blocks = [x[:, scaled], x[:, two_valued], is_missing[:, with_missing]]
        outputs = sparse.hstack(blocks, format="csc")
        outputs.eliminate_zeros()
        return outputs


def smooth_clip(x: Array) -> Array:
    """Return x / sqrt(1 + (x/3)^2), which is close to x near zero and stays within [-3, 3]."""
    x = np.clip(x, -_FAR, _FAR)
    x /= np.sqrt(1 + (x / 3) ** 2)
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
    fill = np.where(two_valued, fill, smooth_clip(fill))
    with_missing = is_missing.any(axis=0) & ~is_empty
    return [center, scale, fill, ~is_constant & ~two_valued, two_valued, with_missing]
