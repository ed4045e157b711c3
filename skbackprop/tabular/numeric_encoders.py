"""Transformers of numeric features: piecewise-linear encoding and periodic features."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import TransformerMixin
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted, validate_data

from .._sklearn import Interval, _check_feature_names_in
from ..estimators._estimator_mixin import EstimatorMixin, with_parameter_validation
from ..utils.arrays import Array

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
        feature, lower, width, minimum, maximum = self._bins()
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

    def _bins(self) -> tuple[Array, Array, Array, Array, Array]:
        """Return the feature, lower edge, width, and bounds of the fraction of each output."""
        feature = np.repeat(np.arange(self.n_features_in_), self.n_bins_)
        no_edges: Array = np.empty(0)
        lower = np.concatenate([no_edges, *(edges[:-1] for edges in self.bin_edges_)])
        width = np.concatenate([no_edges, *(np.diff(edges) for edges in self.bin_edges_)])
        is_last = np.append(feature[1:] != feature[:-1], True)[: len(feature)]
        is_first = np.append(True, feature[1:] != feature[:-1])[: len(feature)]
        return feature, lower, width, np.where(is_first, -1.0, 0.0), np.where(is_last, 2.0, 1.0)


def find_bin_edges(column: Array, n_bins: int) -> Array:
    """Return the edges of the bins of a feature."""
    quantiles = np.quantile(column.astype(np.float64), np.linspace(0, 1, n_bins + 1))
    return np.unique(quantiles)


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
