"""Explanations: the contribution of each column to each prediction, a Shapley value."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import factorial
from numbers import Integral
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.special import logit
from sklearn.utils import check_random_state, check_scalar, gen_batches

from ..utils.arrays import Array, IndexArray

ExplainedOutput: TypeAlias = Literal["probability", "log_odds"]

# The largest number of background rows of an explanation. With many columns there are fewer rows,
# with at most this number of values, since the time grows with rows times the square of columns.
N_BACKGROUND, _MIN_BACKGROUND, _BACKGROUND_VALUES = 100, 10, 100_000

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
        return np.asarray(self.base_values + self.values.sum(axis=1))

    @property
    def importances(self) -> Array:
        """The mean absolute contribution of each column, over the rows and, if any, outputs."""
        axes = tuple(axis for axis in range(self.values.ndim) if axis != 1)
        return np.asarray(np.abs(self.values).mean(axis=axes))


def draw_background(n_rows: int, n_columns: int, random_state: Any) -> IndexArray:
    """Return the rows of a background sample, in order: all of them if there are few."""
    size = max(_MIN_BACKGROUND, min(N_BACKGROUND, _BACKGROUND_VALUES // n_columns))
    if n_rows <= size:
        return np.arange(n_rows)
    rng = check_random_state(random_state)
    return np.sort(rng.choice(n_rows, size, replace=False))


def output_transform(output: Any) -> Callable[[Array], Array]:
    """Return the function from probabilities of classes to the output that is explained."""
    if output == "probability":
        return np.asarray
    if output == "log_odds":
        return lambda p: np.asarray(logit(np.clip(p, _MIN_PROBABILITY, 1 - _MIN_PROBABILITY)))
    raise ValueError(f'output must be "probability" or "log_odds", got {output!r}.')


# Values are exact up to this number of columns. They take 2**n_columns predictions for each pair of
# a row and a background row.
MAX_EXACT_COLUMNS = 6

# The maximum number of elements of the coalitions in memory.
_COALITION_ELEMENTS = 1 << 22

HybridPredictor: TypeAlias = Callable[[IndexArray, NDArray[np.bool_]], Array]
"""Returns predictions (n, n_outputs) for an explained row, given the background row that each
hybrid is made with, and whether each column is that of the explained row, of shape (n, n_columns).
"""
RowMapper: TypeAlias = Callable[[Callable[[int], Array], Iterable[int]], Iterable[Array]]


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
    *,
    rows_at_once: int,
    map_rows: RowMapper = map,
) -> Explanation:
    """Return an explanation by interventional Shapley values.

    The value of a set S of columns of row x is v(S) = mean_b f(x_S, b_rest), over background rows
    b (Janzing et al. 2020). The Shapley value of column j is its mean gain v(S + j) - v(S) over the
    permutations of all columns, where S are the columns before j (Shapley 1953). Permutations are
    sampled (Strumbelj & Kononenko 2014), and come in antithetic pairs: an order and its reverse
    (Mitchell et al. 2022). The values of a row sum to its prediction minus the mean prediction of
    the background, whatever the number of permutations.

    Parameters
    ----------
    predict : callable
        Returns the predictions for a matrix of rows, of shape (n,) or (n, n_outputs). It may be
        called in several threads.
    rows, background : array of shape (n_rows or n_background, width)
        The explained and the background rows as matrices.
    sources : IndexArray of shape (width,)
        The column of the table that each column of the matrices comes from.
    predictions, background_predictions : array of shape (n,) or (n, n_outputs)
        The predictions for the explained rows, and for the background.
    data : array of shape (n_rows, n_columns)
        The values of the explained rows.
    feature_names : sequence or None
        The names of the columns; None for x0, x1, ...
    output_names : list of str or None
        The names of the outputs.
    n_permutations : int or None
        The number of permutations for each background row; None for exact values up to
        `MAX_EXACT_COLUMNS` columns, and 1 for more.
    random_state : int, RandomState instance or None
        Draws the permutations, which are the same for all rows.
    rows_at_once : int
        The maximum number of rows that are predicted at once.
    map_rows : callable, default=map
        Applies a function to rows.

    References
    ----------
    Janzing, D., Minorics, L. & Bloebaum, P. (2020). Feature relevance quantification in explainable
    AI: a causal problem. AISTATS.

    Mitchell, R., Cooper, J., Frank, E. & Holmes, G. (2022). Sampling permutations for Shapley value
    estimation. Journal of Machine Learning Research 23(43).

    Shapley, L. S. (1953). A value for n-person games. Contributions to the Theory of Games 2.

    Strumbelj, E. & Kononenko, I. (2014). Explaining prediction models and individual predictions
    with feature contributions. Knowledge and Information Systems 41, 647-665.
    """
    (n_rows, n_columns), shape = data.shape, predictions.shape[1:]
    if n_permutations is not None:
        check_scalar(n_permutations, "n_permutations", Integral, min_val=1)
    rng = check_random_state(random_state)
    outputs = predictions.reshape(n_rows, -1).astype(np.float64)
    background_outputs = background_predictions.reshape(len(background), -1).astype(np.float64)
    is_exact = n_permutations is None and n_columns <= MAX_EXACT_COLUMNS
    if not is_exact:
        orders = draw_permutations(len(background), n_columns, n_permutations or 1, rng)

    is_table = np.array_equal(sources, np.arange(n_columns))

    def explain_row(row: int) -> Array:
        def predict_hybrids(index: IndexArray, mask: NDArray[np.bool_]) -> Array:
            results = []
            for part in gen_batches(len(index), rows_at_once):
                is_explained = mask[part] if is_table else mask[part][:, sources]
                hybrids = np.where(is_explained, rows[row], background[index[part]])
                results.append(predict(hybrids))
            return np.concatenate(results).reshape(len(index), -1)

        is_nan = (rows[row] != rows[row]) & (background != background)
        index, column = np.nonzero((rows[row] != background) & ~is_nan)
        differs = np.zeros((len(background), n_columns), dtype=bool)
        differs[index, sources[column]] = True
        if is_exact:
            return _exact_values(predict_hybrids, differs, outputs[row], background_outputs)
        return _sampled_values(predict_hybrids, differs, outputs[row], background_outputs, orders)

    values = np.array(list(map_rows(explain_row, range(n_rows))))
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


def draw_permutations(
    n_background: int, n_columns: int, n_permutations: int, rng: np.random.RandomState
) -> IndexArray:
    """Return permutations, every second of which is the reverse of the one before.

    With an odd number per background row, pairs belong to neighboring background rows. Most of the
    error comes from the background sample, so one permutation for each of many rows is better than
    two for each of half as many rows.

    Returns
    -------
    orders : IndexArray of shape (n_background, n_permutations, n_columns)
    """
    n_orders = n_background * n_permutations
    orders = rng.uniform(size=((n_orders + 1) // 2, n_columns)).argsort(axis=1)
    pairs = np.stack([orders, orders[:, ::-1]], axis=1).reshape(-1, n_columns)[:n_orders]
    result: IndexArray = pairs.reshape(n_background, n_permutations, n_columns)
    return result


def _exact_values(
    predict: HybridPredictor, differs: NDArray[np.bool_], output: Array, background: Array
) -> Array:
    """Return the Shapley values of one row from the predictions of all coalitions."""
    n_background, n_columns = differs.shape
    codes = np.arange(1 << n_columns)
    powers = 1 << np.arange(n_columns)
    coalitions = (codes[:, None] & powers) > 0
    # Equal columns do not affect predictions, so many coalitions have the same prediction.
    full_codes: IndexArray = differs.astype(np.intp) @ powers
    effective_codes = codes & full_codes[:, None]
    outputs = np.empty((*effective_codes.shape, output.shape[-1]))
    outputs[np.arange(n_background), full_codes] = output
    outputs[:, 0] = background
    is_new = (effective_codes == codes) & (codes > 0) & (codes != full_codes[:, None])
    index, code = np.nonzero(is_new)
    if len(index):
        outputs[index, code] = predict(index, coalitions[code])
    means = np.take_along_axis(outputs, effective_codes[..., None], axis=1).mean(axis=0)
    size = coalitions.sum(axis=1)
    weights = np.array(
        [factorial(s) * factorial(n_columns - s - 1) for s in range(n_columns)], dtype=float
    ) / factorial(n_columns)
    values = np.empty((n_columns, output.shape[-1]))
    for column, power in enumerate(powers):
        others = codes[~coalitions[:, column]]
        values[column] = weights[size[others]] @ (means[others + power] - means[others])
    return values


def _sampled_values(
    predict: HybridPredictor,
    differs: NDArray[np.bool_],
    prediction: Array,
    background: Array,
    orders: IndexArray,
) -> Array:
    """Return the Shapley values of one row from permutations of each background row."""
    n_columns, n_outputs = orders.shape[-1], len(prediction)
    values = np.zeros((n_columns, n_outputs))
    background_rows = np.repeat(np.arange(orders.shape[0]), orders.shape[1])
    flat_orders: Any = orders.reshape(-1, n_columns)
    for part in gen_batches(len(flat_orders), max(1, _COALITION_ELEMENTS // n_columns**2)):
        index, order = background_rows[part], flat_orders[part]
        is_change = differs[index[:, None], order]
        # The columns that differ are switched one after another.
        path, step = np.nonzero(is_change)
        n_switched = is_change.cumsum(axis=1)
        position, n_changes = n_switched[path, step], n_switched[path, -1]
        is_between = position < n_changes
        v_after = np.empty((len(path), n_outputs))
        v_after[~is_between] = prediction
        if is_between.any():
            ranks = order.argsort(axis=1).astype(np.int32)
            inner_path = path[is_between]
            is_explained = ranks[inner_path] <= step[is_between][:, None].astype(np.int32)
            v_after[is_between] = predict(index[inner_path], is_explained)
        v_before = np.empty_like(v_after)
        v_before[1:] = v_after[:-1]
        is_first = position == 1
        v_before[is_first] = background[index[path[is_first]]]
        columns, gains = order[path, step], v_after - v_before
        for output in range(n_outputs):
            values[:, output] += np.bincount(columns, gains[:, output], n_columns)
    values /= orders.shape[0] * orders.shape[1]
    return values
