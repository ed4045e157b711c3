"""Importance of columns: Shapley values of predictions, and gradients of networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import narwhals.stable.v2 as nw
import numpy as np
from sklearn.base import is_classifier
from sklearn.utils import gen_batches
from sklearn.utils.sparsefuncs import mean_variance_axis
from sklearn.utils.validation import check_is_fitted

from .._sklearn import _safe_indexing
from ..estimators._estimator_mixin import get_pipeline_steps
from ..estimators._supervised import BaseSupervisedNetwork
from ..estimators._validation import copy_without_feature_names, validate_input
from ..estimators.classifier import BackpropClassifier
from ..estimators.explanation import (
    Explanation,
    draw_background,
    make_explanation,
    output_transform,
)
from ..utils.arrays import Array, MatrixLike

# The number of values in the gradients of a block of rows.
_BLOCK_SIZE = 1 << 21

# Blocks of hybrid rows: arrays of this number of values fit into the cache. The validation of a
# frame takes long for each column, so its blocks have up to this number of rows.
_HYBRID_VALUES, _HYBRID_ROWS = 1 << 18, 1 << 14


def explain(
    estimator: Any,
    X: MatrixLike,
    background: MatrixLike | None = None,
    *,
    output: Literal["probability", "log_odds"] = "probability",
    n_permutations: int | None = None,
    random_state: int | np.random.RandomState | None = 0,
) -> Explanation:
    """Explain each prediction by the contribution of each column.

    The contributions are interventional Shapley values (Janzing et al. 2020): they sum to the
    prediction minus the mean prediction of the background. The contribution of a column is the mean
    change of the prediction when its value replaces that of a background row, over all orders in
    which columns are replaced. `explain` accepts all fitted estimators and pipelines; columns are
    those of X, before any transformer. For a `TabularClassifier` or `TabularRegressor`, it calls
    the method `explain`, which encodes the table only once.

    Parameters
    ----------
    estimator : estimator
        A fitted classifier with `predict_proba`, a fitted regressor, or any estimator with
        `predict` that returns numbers.
    X : array-like or data frame of shape (n_samples, n_features)
        The rows to explain.
    background : array-like or data frame of shape (n_background, n_features), default=None
        Rows to compare with, such as the training rows. If there are more than 100, a random sample
        of 100 is used; with more than 1,000 columns, of 100,000 / n_features, but at least 10. With
        None, a tabular estimator uses the training rows that it keeps; other
        estimators need a background.
    output : {"probability", "log_odds"}, default="probability"
        The output of a classifier to explain: the probability p of each class, or its log-odds
        log(p / (1 - p)). Log-odds distinguish 0.99 from 0.999 better.
    n_permutations : int, default=None
        The number of random orders for each background row. Every second order is the reverse of
        the previous one (Mitchell et al. 2022). None computes exact values for up to 6 columns, and
        draws 1 order for more. The time is proportional to this number and, up to 1,000 columns, to
        the square of that of columns. Even numbers give exact values if columns interact only in
        pairs.
    random_state : int, RandomState instance or None, default=0
        Seed of the orders, and of the sample of background rows.

    Returns
    -------
    explanation : Explanation
        Its ``values`` have the shape (n_samples, n_features) for a regressor with one target, else
        (n_samples, n_features, n_outputs), with an output for each class or target.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    AttributeError
        If the estimator is a classifier without `predict_proba`.
    ValueError
        If X is sparse, the background is missing, its columns differ from those of X, or an
        argument is not valid.

    References
    ----------
    Janzing, D., Minorics, L. & Bloebaum, P. (2020). Feature relevance quantification in explainable
    AI: a causal problem. AISTATS.

    Mitchell, R., Cooper, J., Frank, E. & Holmes, G. (2022). Sampling permutations for Shapley value
    estimation. Journal of Machine Learning Research 23(43).

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.inspection import explain
    >>> X = np.random.default_rng(0).normal(size=(200, 3))
    >>> y = 3 * X[:, 0] - X[:, 1]  # the last feature has no effect
    >>> model = BackpropRegressor((), solver="lbfgs", random_state=0).fit(X, y)
    >>> row, mean = X[:1], X[:100].mean(axis=0)
    >>> contributions = explain(model, row, background=X[:100]).values[0]
    >>> bool(np.allclose(contributions, [3, -1, 0] * (row[0] - mean), atol=0.01))
    True
    """
    check_is_fitted(estimator)
    if hasattr(estimator, "explain"):
        settings = {"output": output} if is_classifier(estimator) else {}
        return estimator.explain(
            X,
            background=background,
            n_permutations=n_permutations,
            random_state=random_state,
            **settings,
        )
    if background is None:
        raise ValueError(
            f"background must be given for {type(estimator).__name__}, which keeps no training "
            "rows. Pass training rows, of which a sample of 100 is used."
        )
    rows, background_rows = _to_table(X, "X"), _to_table(background, "background")
    index = draw_background(len(background_rows), background_rows.shape[1], random_state)
    background_rows = _safe_indexing(background_rows, index)
    predict = _make_predict_function(estimator, output)
    predictions, background_predictions = predict(rows), predict(background_rows)
    codes, decode, names = _factorize_tables(rows, background_rows)
    rows_at_once = _HYBRID_ROWS
    if isinstance(rows, np.ndarray):
        rows_at_once = max(1, min(rows_at_once, _HYBRID_VALUES // codes.shape[1]))
    return make_explanation(
        lambda hybrids: predict(decode(hybrids)),
        codes[: len(rows)],
        codes[len(rows) :],
        np.arange(codes.shape[1]),
        predictions,
        background_predictions,
        rows if isinstance(rows, np.ndarray) else nw.from_native(rows).to_numpy(),
        names,
        _output_names(estimator),
        n_permutations,
        random_state,
        rows_at_once=rows_at_once,
    )


def _to_table(X: Any, name: str) -> Any:
    """Return X as a data frame or a 2d array."""
    if nw.dependencies.is_into_dataframe(X):
        return X
    table = np.asarray(X)
    if isinstance(X, (list, tuple)) and table.dtype.kind == "U":
        table = np.asarray(X, dtype=object)
    if table.ndim != 2 or not len(table):
        hint = f" For one row, pass {name}.reshape(1, -1)." if table.ndim == 1 else ""
        raise ValueError(
            f"{name} must be a dense table of shape (n_samples, n_features) with at least one row, "
            f"got a {type(X).__name__} of shape {np.shape(X)}.{hint}"
        )
    return table


def _factorize_tables(
    X: Any, background: Any
) -> tuple[Array, Callable[[Array], Any], list[str] | None]:
    """Return two tables as one matrix of numbers, its inverse, and the names of columns.

    Each value that is not a number is encoded as the first row that holds it.
    """
    if isinstance(X, np.ndarray):
        if not isinstance(background, np.ndarray):
            background = nw.from_native(background).to_numpy()
        table = np.concatenate([X, background])
        if table.dtype.kind in "biuf":
            return table, np.asarray, None
        columns = np.arange(table.shape[1])
        by_column = [table[:, column].tolist() for column in columns]
        codes = np.stack([_find_first_rows(values) for values in by_column], axis=1)
        return codes, lambda rows: table[rows, columns], None
    frames = [nw.from_native(data, eager_only=True) for data in (X, background)]
    frame = nw.concat([frames[0], frames[1].select(frames[0].columns)])
    names = list(frame.columns)
    if len(set(frame.schema.values())) == 1 and frame.to_numpy().dtype.kind in "biuf":
        # Columns of one type are a matrix, from which a frame is made in a tenth of the time.
        make_frame = partial(nw.from_numpy, schema=names, backend=frame.implementation)
        return frame.to_numpy(), lambda rows: make_frame(rows).to_native(), names
    codes = np.stack([_find_first_rows(frame[name].to_list()) for name in names], axis=1)

    def decode(rows: Array) -> Any:
        pairs = zip(names, np.ascontiguousarray(rows.T), strict=True)
        return nw.from_dict({name: frame[name][indices] for name, indices in pairs}).to_native()

    return codes, decode, names


def _find_first_rows(values: list[Any]) -> Array:
    """Return the first row of the value of each row; missing values are equal."""
    codes: dict[Any, int] = {}
    try:
        keys = [value if value == value else None for value in values]
        return np.array([codes.setdefault(key, row) for row, key in enumerate(keys)])
    except TypeError:  # values without a hash, or NA of pandas, which is neither true nor false
        return np.arange(len(values))


def _make_predict_function(estimator: Any, output: str) -> Callable[[Any], Array]:
    """Return the function from a table to what is explained."""
    transform = output_transform(output)
    if not is_classifier(estimator):
        return lambda table: np.asarray(estimator.predict(table))

    def predict(table: Any) -> Array:
        probabilities = estimator.predict_proba(table)
        if isinstance(probabilities, list):  # for several columns of labels
            return np.concatenate([transform(column) for column in probabilities], axis=1)
        return transform(probabilities)

    return predict


def _output_names(estimator: Any) -> list[str] | None:
    """Return the names of classes; of several columns of labels, with their number before that."""
    classes = getattr(estimator, "classes_", None)
    if classes is None or not is_classifier(estimator):
        return None
    if isinstance(classes, list):
        return [f"{i}: {label}" for i, labels in enumerate(classes) for label in labels]
    return [str(label) for label in classes]


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
    *transformers, network = get_pipeline_steps(estimator)
    if not isinstance(network, BaseSupervisedNetwork):
        raise TypeError(
            "estimator must be a BackpropClassifier, a BackpropRegressor or a Pipeline that ends "
            f"in one, got {estimator!r}."
        )
    has_scores = isinstance(network, BackpropClassifier)
    if of is not None and not has_scores:
        raise ValueError(f"of must be None for a regressor, got {of!r}.")
    check_is_fitted(network)
    for step in transformers:
        X = step.transform(X)
    inputs: Any = validate_input(network, X)
    nameless = copy_without_feature_names(network)  # validated rows have no names
    of_output = {"of": "score" if of is None else of} if has_scores else {}
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
    importance[..., network._model.network.layers[0].categorical_columns] = np.nan
    return importance
