"""Feature importance from the gradients of a network by its input."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import gen_batches
from sklearn.utils.sparsefuncs import mean_variance_axis
from sklearn.utils.validation import check_is_fitted

from ..estimators._supervised import BaseSupervisedNetwork
from ..estimators._validation import copy_without_feature_names, validate_input
from ..estimators.classifier import BackpropClassifier
from ..utils.arrays import MatrixLike

# The number of values in the gradients of a block of rows.
_BLOCK_SIZE = 1 << 21


def gradient_importance(
    estimator: Any, X: MatrixLike, of: Literal["score", "probability"] | None = None
) -> Any:
    """Return the importance of each feature, from gradients by the input.

    importance_j = s_j sqrt(mean_i g_ij^2), where s_j is the standard deviation of feature j over
    the rows of X, and g_ij is the derivative of the output by feature j at row i. It has the unit
    of the output. For a linear model it is abs(coefficient) times s_j. If features are independent
    and normal, its square is an upper bound on the total Sobol' index of the feature times the
    variance of the output: the part of the variance that vanishes when the feature is fixed,
    interactions included (Sobol' & Kucherenko 2009; Lamboni et al. 2013 for other distributions, up
    to a factor). It takes one backward pass for each output, where permutation importance takes
    many predictions for each feature.

    The importance describes the network, not the target: features that carry the same information
    share it.

    Parameters
    ----------
    estimator : BackpropClassifier, BackpropRegressor or Pipeline
        The fitted network, or a fitted pipeline that ends in one. For a pipeline, the features are
        the inputs of the network, after the transformers.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        The rows to average over, preferably rows that the network was not trained on.
    of : {"score", "probability"} or None, default=None
        The output of a classifier that is differentiated, as in `input_gradient`; None for the
        score. For a regressor it is the prediction.

    Returns
    -------
    importance : float64 array
        Of shape (n_features,) for a regressor with one target and for two classes, else
        (n_outputs, n_features). NaN for the categorical columns of a
        `layers.CategoricalEmbedding`, which have no gradients; scikit-learn's
        `permutation_importance` covers them.

    Raises
    ------
    TypeError
        If the estimator is not a network of skbackprop.
    NotFittedError
        If the network is not fitted.
    ValueError
        If X is invalid input for the network, or `of` is not one of its outputs.

    References
    ----------
    Lamboni, M., Iooss, B., Popelin, A.-L. & Gamboa, F. (2013). Derivative-based global sensitivity
    measures: general links with Sobol' indices and numerical tests. Mathematics and Computers in
    Simulation 87, 45-54.

    Sobol', I. M. & Kucherenko, S. (2009). Derivative based global sensitivity measures and their
    link with global sensitivity indices. Mathematics and Computers in Simulation 79(10), 3009-3017.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.inspection import gradient_importance
    >>> X = np.random.default_rng(0).normal(size=(500, 3))
    >>> y = 2 * X[:, 0] + np.sin(X[:, 1])  # the last feature has no effect
    >>> model = BackpropRegressor(
    ...     (16,), activation="tanh", solver="lbfgs", max_iter=5000, random_state=0
    ... )
    >>> gradient_importance(model.fit(X, y), X).round(1)
    array([2. , 0.7, 0. ])
    """
    network = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if not isinstance(network, BaseSupervisedNetwork):
        raise TypeError(
            "estimator must be a BackpropClassifier, a BackpropRegressor or a Pipeline that ends "
            f"in one, got {estimator!r}."
        )
    is_classifier = isinstance(network, BackpropClassifier)
    if of is not None and not is_classifier:
        raise ValueError(f"of must be None for a regressor, got {of!r}.")
    check_is_fitted(network)
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        X = estimator[:-1].transform(X)
    inputs: Any = validate_input(network, X)
    nameless = copy_without_feature_names(network)  # validated rows have no names
    of_output = {"of": "score" if of is None else of} if is_classifier else {}
    n_rows = max(1, _BLOCK_SIZE // (network.n_features_in_ * network.n_outputs_))
    squares = [
        np.square(nameless.input_gradient(inputs[rows], **of_output), dtype=np.float64).sum(axis=0)
        for rows in gen_batches(inputs.shape[0], n_rows)
    ]
    if isinstance(inputs, np.ndarray):
        std = inputs.std(axis=0, dtype=np.float64)
    else:  # a CSR matrix
        std = np.sqrt(mean_variance_axis(inputs.astype(np.float64), axis=0)[1])
    importance = std * np.sqrt(sum(squares) / inputs.shape[0])
    importance[..., network._network.layers[0].categorical_columns] = np.nan
    return importance
