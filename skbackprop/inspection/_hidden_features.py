"""Transformer that returns the outputs of a network's hidden layer."""

from __future__ import annotations

from copy import copy
from typing import Any, Self

from numpy.typing import ArrayLike
from sklearn.base import (
    ClassNamePrefixFeaturesOutMixin,
    MetaEstimatorMixin,
    TransformerMixin,
    clone,
)
from sklearn.frozen import FrozenEstimator
from sklearn.utils import get_tags
from sklearn.utils.validation import check_is_fitted

from ..estimators._estimator_mixin import EstimatorMixin, get_pipeline_steps
from ..estimators._supervised import n_layers_up_to
from ..utils.arrays import Array, MatrixLike


class BackpropFeatures(
    ClassNamePrefixFeaturesOutMixin, TransformerMixin, MetaEstimatorMixin, EstimatorMixin
):
    """Transformer that trains a network and returns the outputs of a hidden layer.

    The outputs are a = f(z), as from the network's `hidden_features`. In a pipeline they transfer
    the features learned for one task to another estimator.

    Parameters
    ----------
    estimator : BackpropClassifier, BackpropRegressor or FrozenEstimator
        The network. `fit` trains a clone of it. To use a fitted network without training it again,
        pass scikit-learn's ``FrozenEstimator(network)``.
    layer : int, default=-1
        The index of the hidden layer: 0 is the first, -1 the last.

    Attributes
    ----------
    estimator_ : BackpropClassifier, BackpropRegressor or FrozenEstimator
        The fitted network.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the features, if X has names that are all strings.

    See Also
    --------
    BackpropClassifier.hidden_features : The same outputs, from a fitted network.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.inspection import BackpropFeatures
    >>> X, y = load_iris(return_X_y=True)
    >>> network = BackpropClassifier((16, 3), solver="lbfgs", max_iter=1000, random_state=0)
    >>> features = BackpropFeatures(network).fit(X, y)
    >>> features.transform(X).shape
    (150, 3)
    >>> model = make_pipeline(BackpropFeatures(network), LogisticRegression(max_iter=1000))
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    def __init__(self, estimator: Any, layer: int = -1) -> None:
        self.estimator = estimator
        self.layer = layer

    def fit(
        self, X: MatrixLike, y: MatrixLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train a clone of the network on X and y.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            The targets. A frozen network does not need them.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each row; None for equal weights.

        Returns
        -------
        self : object
            The fitted transformer.

        Raises
        ------
        TypeError
            If the estimator is not a network with hidden layers.
        ValueError
            If the network has no such hidden layer, or if the network's `fit` raises an error.
        """
        if not hasattr(self.estimator, "hidden_features"):
            raise TypeError(
                "estimator must be a BackpropClassifier, a BackpropRegressor or a FrozenEstimator "
                f"of one, got {self.estimator!r}."
            )
        weights = {} if sample_weight is None else {"sample_weight": sample_weight}
        fitted = clone(self.estimator).fit(X, y, **weights)
        _count_features(fitted, self.layer)  # checks the layer
        self.estimator_ = fitted
        return self

    def transform(self, X: MatrixLike) -> Array:
        """Return the outputs of the hidden layer.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.

        Returns
        -------
        features : array of shape (n_samples, n_estimators * n_units)
            The outputs, in the dtype of the network.

        Raises
        ------
        NotFittedError
            If the transformer is not fitted.
        ValueError
            If the network has no such hidden layer, or X is invalid input for it.
        """
        check_is_fitted(self)
        return self.estimator_.hidden_features(X, self.layer)

    @property
    def n_features_in_(self) -> int:
        """The number of features seen during `fit`."""
        return self.estimator_.n_features_in_

    @property
    def feature_names_in_(self) -> Array:
        """The names of the features seen during `fit`, if X had names."""
        return self.estimator_.feature_names_in_

    @property
    def _n_features_out(self) -> int:
        """The number of output columns, for `get_feature_names_out`."""
        return _count_features(self.estimator_, self.layer)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner, dtype = get_tags(self.estimator), getattr(self.estimator, "dtype", None)
        tags.input_tags, tags.target_tags = copy(inner.input_tags), copy(inner.target_tags)
        tags.target_tags.required = not isinstance(self.estimator, FrozenEstimator)
        tags.transformer_tags.preserves_dtype = [dtype] if dtype else ["float64", "float32"]
        return tags


def _count_features(network: Any, layer: int) -> int:
    """Return the number of units of a hidden layer of all members of a fitted network."""
    (network,) = get_pipeline_steps(network)
    inner = network._model.network
    return inner.n_units[n_layers_up_to(inner, layer)] * len(network._model.state)
