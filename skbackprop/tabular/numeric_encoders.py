"""Transformers of numeric columns: piecewise-linear and periodic encoding."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import TransformerMixin
from sklearn.utils import check_random_state, gen_batches
from sklearn.utils.validation import check_is_fitted, validate_data

from .._sklearn import Interval, _check_feature_names_in
from ..estimators._decorators import checks_parameters
from ..estimators._mixins import EstimatorMixin
from ..utils.arrays import Array

_FLOATS = (np.float64, np.float32)
# Numbers of the output that are made at a time, so that they stay in the cache.
_BLOCK = 200_000


class PiecewiseLinearEncoder(TransformerMixin, EstimatorMixin):
    """Encode each number by how much of each of its bins it fills.

    The bins of a feature lie between its quantiles e_0 <= e_1 <= ... <= e_T. Component t is

        (x - e_t) / (e_{t+1} - e_t) - 1/2,

    where the fraction is clipped to [0, 1]: bins below x are full, those above are empty, and the
    one that x lies in is as full as x is far into it [1]_. The first goes on below 0, to -1, and
    the last above 1, to 2, so that values beyond the training data differ. What is linear in the
    components is piecewise linear in x.

    Parameters
    ----------
    n_bins : int, default=16
        The most bins of a feature; quantiles that are equal are one edge, so that features of few
        values have fewer. At least 1.

    Attributes
    ----------
    bin_edges_ : list of arrays
        The edges of each feature's bins, which rise.
    n_bins_ : array of int, of shape (n_features_in_,)
        The number of bins of each feature, and of its outputs; 0 for one that is constant.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, where they are all strings.

    See Also
    --------
    PeriodicFeatures : Numbers as cosines.
    sklearn.preprocessing.KBinsDiscretizer : Which bin it is, without where in it.

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

    @checks_parameters(prefer_skip_nested_validation=True)
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
            If X holds values that are missing or infinite, or no numbers.
        """
        numbers: Array = validate_data(self, X, dtype=_FLOATS)
        shares = np.linspace(0, 1, self.n_bins + 1)
        quantiles = np.quantile(numbers.astype(np.float64), shares, axis=0)
        self.bin_edges_ = [np.unique(edges) for edges in quantiles.T]
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
            The components, those of a feature side by side, between -1.5 and 1.5.

        Raises
        ------
        NotFittedError
            If the encoder is not fitted.
        ValueError
            If X holds values that are missing or infinite, no numbers, or other features than in
            `fit`.
        """
        check_is_fitted(self)
        numbers: Array = validate_data(self, X, dtype=_FLOATS, reset=False)
        feature, lower, width, least, most = self._bins()
        out = np.empty((len(numbers), len(feature)), dtype=numbers.dtype)
        for rows in gen_batches(len(numbers), max(1, _BLOCK // max(1, len(feature)))):
            with np.errstate(over="ignore"):  # of values that are far outside of narrow bins
                filled = numbers[rows][:, feature] - lower
                filled /= width
            np.clip(filled, least, most, out=filled)
            out[rows] = filled - 0.5
        return out

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the outputs: that of the feature, "_bin" and a number from 0 on.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            The names of the features; None for those of `fit`, or "x0", "x1" and so on.

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
        found = [f"{name}_bin{at}" for name, n_bins in names for at in range(n_bins)]
        return np.array(found, dtype=object)

    def _bins(self) -> tuple[Array, Array, Array, Array, Array]:
        """Return of each output its feature, lower edge, width, and the ends of its range."""
        feature = np.repeat(np.arange(self.n_features_in_), self.n_bins_)
        none: Array = np.empty(0)
        lower = np.concatenate([none, *(edges[:-1] for edges in self.bin_edges_)])
        width = np.concatenate([none, *(np.diff(edges) for edges in self.bin_edges_)])
        is_last = np.append(feature[1:] != feature[:-1], True)[: len(feature)]
        is_first = np.append(True, feature[1:] != feature[:-1])[: len(feature)]
        return feature, lower, width, np.where(is_first, -1.0, 0.0), np.where(is_last, 2.0, 1.0)


class PeriodicFeatures(TransformerMixin, EstimatorMixin):
    """Make several waves of each number: cos(2 pi f x + phase).

    The frequencies f are drawn from N(0, scale^2), the phases from [0, 2 pi), for each feature its
    own, and stay as they are [1]_. The numbers should be scaled, so that most lie between -3 and
    3, as `TableEncoder` leaves them.

    Parameters
    ----------
    n_frequencies : int, default=16
        The number of waves of each feature. At least 1.
    scale : float, default=0.5
        The standard deviation of the frequencies: the greater, the more detail. Above 0.
    random_state : int, RandomState instance or None, default=None
        Draws frequencies and phases.

    Attributes
    ----------
    frequencies_ : array of shape (n_features_in_, n_frequencies)
        The frequencies of each feature.
    phases_ : array of shape (n_features_in_, n_frequencies)
        Their phases.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, where they are all strings.

    See Also
    --------
    PiecewiseLinearEncoder : Numbers as shares of bins.
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

    @checks_parameters(prefer_skip_nested_validation=True)
    def fit(self, X: ArrayLike, y: ArrayLike | None = None) -> Self:
        """Draw the frequencies and phases.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The numbers, of which only their features count.
        y : None
            Ignored.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        ValueError
            If X holds values that are missing or infinite, or no numbers.
        """
        validate_data(self, X, dtype=_FLOATS)
        rng = check_random_state(self.random_state)
        shape = (self.n_features_in_, self.n_frequencies)
        self.frequencies_ = rng.normal(0, self.scale, shape)
        self.phases_ = rng.uniform(0, 2 * np.pi, shape)
        return self

    def transform(self, X: ArrayLike) -> Array:
        """Make waves of numbers.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features)
            The numbers.

        Returns
        -------
        waves : array of shape (n_samples, n_features * n_frequencies)
            The waves, those of a feature side by side.

        Raises
        ------
        NotFittedError
            If the transformer is not fitted.
        ValueError
            If X holds values that are missing or infinite, no numbers, or other features than in
            `fit`.
        """
        check_is_fitted(self)
        numbers: Array = validate_data(self, X, dtype=_FLOATS, reset=False)
        waves = numbers[:, :, np.newaxis] * (2 * np.pi * self.frequencies_).astype(numbers.dtype)
        waves += self.phases_.astype(numbers.dtype)
        waves = np.cos(waves, out=waves).reshape(len(numbers), -1)
        return waves

    def get_feature_names_out(self, input_features: Any = None) -> Array:
        """Return the names of the outputs: that of the feature, "_cos" and a number from 0 on.

        Parameters
        ----------
        input_features : array-like of str or None, default=None
            The names of the features; None for those of `fit`, or "x0", "x1" and so on.

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
        found = [f"{name}_cos{at}" for name in names for at in range(n_frequencies)]
        return np.array(found, dtype=object)
