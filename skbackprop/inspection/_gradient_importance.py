"""How much does each feature matter? The network's gradients by its input, summed up over rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import gen_batches
from sklearn.utils.sparsefuncs import mean_variance_axis
from sklearn.utils.validation import check_is_fitted

from ..estimators._supervised import BaseSupervisedNetwork
from ..estimators._validation import validated_input
from ..estimators.classifier import BackpropClassifier
from ..layers.feature_layers import FeatureLayer
from ..utils.arrays import Array, MatrixLike

# Numbers in the gradients of a block of rows.
_NUMBERS = 1 << 21


def gradient_importance(
    estimator: Any, X: MatrixLike, of: Literal["score", "probability"] | None = None
) -> Any:
    """Return how much what a network says varies with each feature, by its gradients.

    importance_j = s_j sqrt(mean_i g_ij^2), where s_j is the standard deviation of the feature j
    over the rows of X, and g_ij the derivative of the output for the row i by it. It is in the
    units of the output. Of a linear model it is abs(coefficient) times s_j. If the features were
    independent and normal, its square would be an upper bound on that part of the output's variance
    which goes away when the feature is known, together with all others (Sobol' & Kucherenko 2009;
    Lamboni et al. 2013, for other distributions up to a factor). That takes one pass for each
    output; to permute each feature takes many.

    It says what the network responds to, not what the target depends on: features that tell the
    same share the response among them.

    Parameters
    ----------
    estimator : BackpropClassifier, BackpropRegressor or Pipeline
        The fitted network, or a fitted pipeline that ends in one. The importance is then that of
        what the network is given, the output of the transformers before it.
    X : array-like or sparse matrix of shape (n_samples, n_features)
        The rows to average over: best ones that the network was not trained on.
    of : {"score", "probability"} or None, default=None
        Of a classifier, the output whose `input_gradient` it is; None for the score. A regressor
        has one output for each target, its prediction.

    Returns
    -------
    importance : float64 array, or list of such arrays
        Of shape (n_features,) for a regressor with one target and for two classes, else
        (n_outputs, n_features): that of `input_gradient` without the rows. A list for several
        columns of labels. NaN for the codes of a `layers.CategoricalEmbedding`, which gradients
        know nothing of: take scikit-learn's `permutation_importance` for these.

    Raises
    ------
    TypeError
        If the estimator is none of ours.
    NotFittedError
        If the network is not fitted.
    ValueError
        If X is not valid input for it, or `of` is not one of its outputs.

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
    >>> y = 2 * X[:, 0] + np.sin(X[:, 1])  # the last feature has no part in it
    >>> model = BackpropRegressor(
    ...     (16,), activation="tanh", solver="lbfgs", max_iter=5000, random_state=0
    ... )
    >>> gradient_importance(model.fit(X, y), X).round(1)
    array([2. , 0.7, 0. ])
    """
    network = estimator.steps[-1][1] if isinstance(estimator, Pipeline) else estimator
    if not isinstance(network, BaseSupervisedNetwork):
        raise TypeError(
            "gradient_importance takes a BackpropClassifier, a BackpropRegressor or a Pipeline "
            f"that ends in one, got {estimator!r}."
        )
    is_classifier = isinstance(network, BackpropClassifier)
    if of is not None and not is_classifier:
        raise ValueError(f"of is for classifiers: leave it None for a regressor, got {of!r}.")
    check_is_fitted(network)
    if isinstance(estimator, Pipeline) and len(estimator) > 1:
        X = estimator[:-1].transform(X)
    learned = network._learned
    X = validated_input(network, X, learned.dtype)
    of_output = {"of": "score" if of is None else of} if is_classifier else {}
    n_rows = max(1, _NUMBERS // (learned.n_features * learned.network.n_units[-1]))
    means = _mean_squares(partial(network._gradients, **of_output), X, n_rows)
    importance = [_deviation(X) * np.sqrt(mean) for mean in means]
    first = learned.network.layers[0]
    if isinstance(first, FeatureLayer):
        for each in importance:
            each[..., first.categorical_columns] = np.nan
    is_by_column = is_classifier and isinstance(network.classes_, list)
    return importance if is_by_column else importance[0]


def _mean_squares(gradients: Callable[[Any], Any], X: Any, n_rows: int) -> list[Array]:
    """Return the mean squares of gradients over the rows of X, `n_rows` at a time.

    There is one for each column of labels, or one in all. They are in double precision.
    """
    sums: list[Any] = []
    for rows in gen_batches(X.shape[0], n_rows):
        found = gradients(X[rows])
        parts = found if isinstance(found, list) else [found]
        squares = [np.square(part, dtype=np.float64).sum(axis=0) for part in parts]
        sums = [own + more for own, more in zip(sums, squares, strict=True)] if sums else squares
    return [total / X.shape[0] for total in sums]


def _deviation(X: Any) -> Any:
    """Return the standard deviation of each column, in double precision."""
    if not isinstance(X, np.ndarray):  # a CSR matrix
        return np.sqrt(mean_variance_axis(X.astype(np.float64), axis=0)[1])
    return np.asarray(X.std(axis=0, dtype=np.float64))
