"""Explanations: the contribution of each column to each prediction, a Shapley value."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any, Literal, TypeAlias

import numpy as np
from scipy.special import logit
from sklearn.utils import check_random_state, check_scalar

from ..utils.arrays import Array, IndexArray
from ..utils.shapley import compute_shapley_values

ExplainedOutput: TypeAlias = Literal["probability", "log_odds"]

# The number of background rows of an explanation.
N_BACKGROUND = 100

# Probabilities closer than this to 0 or 1 are moved to this distance in log-odds.
_MIN_PROBABILITY = 1e-15


@dataclass(frozen=True, eq=False)
class Explanation:
    """Contribution of each column to each prediction: Shapley values.

    ``base_values + values.sum(axis=1)`` are the predictions. The attributes are those of
    `shap.Explanation`, so that the plots of shap take them.

    Parameters
    ----------
    values : array of shape (n_samples, n_features) or (n_samples, n_features, n_outputs)
        The contribution of each column: how much it moves the prediction away from the mean
        prediction of the background. The last axis is that of classes, targets or quantiles.
    base_values : array of shape (n_samples,) or (n_samples, n_outputs)
        The mean prediction of the background, the same for all rows.
    data : array of shape (n_samples, n_features)
        The values of the table.
    feature_names : list of str
        The names of the columns.
    output_names : list of str or None, default=None
        The names of the last axis of `values`, such as classes.

    See Also
    --------
    skbackprop.inspection.explain : Explains the predictions of any estimator.
    skbackprop.displays.ExplanationDisplay : Plots an explanation.

    Examples
    --------
    >>> import numpy as np
    >>> from skbackprop.inspection import Explanation
    >>> explanation = Explanation(
    ...     values=np.array([[2.0, -0.5], [-1.0, 0.5]]),
    ...     base_values=np.array([10.0, 10.0]),
    ...     data=np.array([[7, 1], [3, 0]]),
    ...     feature_names=["rooms", "lift"],
    ... )
    >>> explanation.predictions
    array([11.5,  9.5])
    >>> explanation.importances
    array([1.5, 0.5])
    """

    values: Array
    base_values: Array
    data: Any
    feature_names: list[str]
    output_names: list[str] | None = None

    @property
    def predictions(self) -> Array:
        """The predictions: base values plus the sum of the contributions."""
        predictions: Array = self.base_values + self.values.sum(axis=1)
        return predictions

    @property
    def importances(self) -> Array:
        """The mean absolute contribution of each column, over the rows and, if any, outputs."""
        axes = tuple(axis for axis in range(self.values.ndim) if axis != 1)
        importances: Array = np.abs(self.values).mean(axis=axes)
        return importances


def make_explanation(
    predict: Callable[[Array], Array],
    rows: Array,
    background: Array,
    sources: IndexArray,
    predictions: Array,
    background_predictions: Array,
    data: Array,
    feature_names: Sequence[str] | None,
    output_names: list[str] | None,
    n_permutations: int | None,
    random_state: Any,
    **settings: Any,
) -> Explanation:
    """Return an explanation by interventional Shapley values.

    Parameters
    ----------
    predict, rows, background, sources : object
        As of `compute_shapley_values`; `predict` may return an array of shape (n,).
    predictions, background_predictions : array of shape (n,) or (n, n_outputs)
        The predictions for the explained rows, and for the background.
    data : array of shape (n_rows, n_columns)
        The values of the explained rows.
    feature_names : sequence or None
        The names of the columns; None for x0, x1, ...
    output_names : list of str or None
        The names of the outputs.
    n_permutations : int or None
        As of `compute_shapley_values`.
    random_state : int, RandomState instance or None
        Draws the permutations.
    **settings : object
        Other arguments of `compute_shapley_values`.
    """
    n_rows, n_columns = data.shape
    if n_permutations is not None:
        check_scalar(n_permutations, "n_permutations", Integral, min_val=1)
    shape = predictions.shape[1:]
    values = compute_shapley_values(
        lambda matrix: predict(matrix).reshape(len(matrix), -1),
        rows,
        background,
        sources,
        predictions.reshape(n_rows, -1),
        background_predictions.reshape(len(background), -1),
        n_columns,
        n_permutations,
        check_random_state(random_state),
        **settings,
    )
    base = background_predictions.astype(np.float64).mean(axis=0)
    if feature_names is None:
        feature_names = [f"x{column}" for column in range(n_columns)]
    return Explanation(
        values=values.reshape(n_rows, n_columns, *shape),
        base_values=np.broadcast_to(base, (n_rows, *shape)).copy(),
        data=data,
        feature_names=[str(name) for name in feature_names],
        output_names=output_names,
    )


def draw_background(n_rows: int, random_state: Any) -> IndexArray:
    """Return the rows of a background sample, in order: all of them, or `N_BACKGROUND`."""
    if n_rows <= N_BACKGROUND:
        return np.arange(n_rows)
    rng = check_random_state(random_state)
    return np.sort(rng.choice(n_rows, N_BACKGROUND, replace=False))


def output_transform(output: Any) -> Callable[[Array], Array]:
    """Return the function from probabilities of classes to the output that is explained."""
    if output == "probability":
        return np.asarray
    if output == "log_odds":
        return log_odds
    raise ValueError(f'output must be "probability" or "log_odds", got {output!r}.')


def log_odds(probabilities: Array) -> Array:
    """Return log(p / (1 - p)) of probabilities p, with finite values for 0 and 1."""
    return np.asarray(logit(np.clip(probabilities, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)))
