"""Numbers as cosines of several frequencies, which are drawn once."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from .._sklearn import Interval, _check_feature_names_in
from ..core.arrays import Array
from ..estimators.decorators import checks_parameters
from ..estimators.shown import Documented

_FLOATS = (np.float64, np.float32)


class PeriodicFeatures(TransformerMixin, Documented):
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
    >>> from skbackprop.tables import PeriodicFeatures
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
        stream = check_random_state(self.random_state)
        shape = (self.n_features_in_, self.n_frequencies)
        self.frequencies_ = stream.normal(0, self.scale, shape)
        self.phases_ = stream.uniform(0, 2 * np.pi, shape)
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
