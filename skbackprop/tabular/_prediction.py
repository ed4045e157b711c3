"""Predictions of a tabular estimator, and importances of columns.

Its components are ensembles of networks, and clones of other estimators, with a member for each
fold. For classes their outputs are logits, a single one for two classes. For numbers they are a
prediction, one for each of several quantiles, or a mean and a variance.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.metrics import get_scorer
from sklearn.utils import Bunch

from ..training.parallelism import limit_blas, n_blas_threads
from ..utils.arrays import Array
from ._model_inputs import WIDTH, FeatureBuilder, FeatureView
from ._table_encoding import UnscaledRows

# Limits of the rows that are predicted at once, and of the elements of their widest view.
_ROWS_AT_ONCE = 4096
_ELEMENTS_AT_ONCE = 1 << 22

# Networks predict more rows than this in single precision, in less than half the time. Predictions
# differ by a few millionths from those in double precision.
MANY_ROWS = 4096

Item = TypeVar("Item")
Result = TypeVar("Result")


class LabeledRows(NamedTuple):
    """Rows with their targets and weights.

    Parameters
    ----------
    X : UnscaledRows or array of shape (n, n_inputs)
        The rows, of a table or in the view of a component.
    y : array of shape (n,)
        The targets: numbers, or class indices.
    weight : array of shape (n,) or None
        The weight of each row.
    """

    X: Any
    y: Array
    weight: Array | None

    def flat(self) -> list[Any]:
        """Return the arrays of rows of a table."""
        return [*self.X, self.y, self.weight]


@dataclass(frozen=True)
class TabularModel:
    """Fitted tabular estimator: from the rows of a table to predictions.

    Parameters
    ----------
    features : FeatureBuilder
        Builds the inputs of the components.
    components : sequence of NetworkEnsemble or CrossFittedEstimators
        The components.
    mix : callable
        Returns predictions for n rows, given a list with the outputs of each component.
    """

    features: FeatureBuilder
    components: Sequence[Any]
    mix: Callable[[Sequence[Array]], Array]

    @property
    def views(self) -> set[FeatureView]:
        """The views of rows that the components take."""
        return {each.view for each in self.components}

    @property
    def rows_at_once(self) -> int:
        """The number of rows that are predicted at once."""
        width = self.features.n_encoded + self.features.n_blocks * WIDTH
        return min(_ROWS_AT_ONCE, max(1, _ELEMENTS_AT_ONCE // width))

    def predict(self, rows: UnscaledRows) -> Array:
        """Predict rows, in blocks that limit memory and run in several threads."""
        n_rows, block_size, views = len(rows.codes), self.rows_at_once, self.views

        def predict_block(block: UnscaledRows) -> Array:
            return self.predict_inputs(self.features.make_inputs(block, views), n_rows > MANY_ROWS)

        if n_rows <= block_size:
            return predict_block(rows)
        blocks = [slice(start, start + block_size) for start in range(0, n_rows, block_size)]
        return np.concatenate(
            self.map_in_threads(lambda block: predict_block(rows.take(block)), blocks)
        )

    def predict_inputs(
        self, inputs: Mapping[FeatureView, Array], single_precision: bool = False
    ) -> Array:
        """Predict rows in all views at once."""
        outputs = [each.outputs(inputs[each.view], single_precision) for each in self.components]
        return self.mix(outputs)

    def map_in_threads(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> list[Result]:
        """Apply a function that predicts to items, in threads if all components allow it.

        An error or Ctrl-C cancels the items that have not been started.
        """
        is_thread_safe = all(each.is_thread_safe for each in self.components)
        n_threads = min(n_blas_threads(), len(items)) if is_thread_safe else 1
        largest = max(each.max_matmul_size for each in self.components)

        with limit_blas(largest, n_side_by_side=n_threads):
            if n_threads == 1:
                return [function(item) for item in items]
            with ThreadPoolExecutor(n_threads) as pool:
                try:
                    return list(pool.map(function, items))
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise


def predict_out_of_fold(model: TabularModel, rows: UnscaledRows, folds: Array) -> Array:
    """Predict each row by the members that held out its fold."""
    predictions: list[Array] = []
    rows_of_fold = [np.flatnonzero(folds == fold) for fold in range(folds.max() + 1)]
    for member, of_fold in enumerate(rows_of_fold):
        for start in range(0, len(of_fold), model.rows_at_once):
            part = rows.take(of_fold[start : start + model.rows_at_once])
            inputs = model.features.make_inputs(part, model.views)
            outputs = [
                each.member_outputs(member, inputs[each.view])[None] for each in model.components
            ]
            predictions.append(model.mix(outputs))
    by_fold = np.concatenate(predictions)
    in_order = np.empty_like(by_fold)
    in_order[np.concatenate(rows_of_fold)] = by_fold
    return in_order


def permutation_importance(
    model: TabularModel,
    rows: UnscaledRows,
    folds: Array,
    score: Callable[[Array], float],
    n_repeats: int,
    rng: np.random.RandomState,
) -> Bunch:
    """Return how much permuting each column lowers the score (Breiman 2001, section 10).

    Parameters
    ----------
    model : TabularModel
        The model.
    rows : UnscaledRows
        The training rows.
    folds : array of int of shape (n_rows,)
        The member of each component that held out each row.
    score : callable
        Returns the score of predictions.
    n_repeats : int
        The number of permutations of each column.
    rng : RandomState
        Draws the permutations.

    Returns
    -------
    result : Bunch
        As of scikit-learn's `permutation_importance`.
    """
    encoding = model.features.encoding
    n_columns, matrix = len(encoding.kinds), encoding.to_matrix(rows)
    seeds = rng.randint(np.iinfo(np.int32).max, size=n_columns)
    baseline = score(
        predict_out_of_fold(model, encoding.from_matrix(matrix, encoding.folds), folds)
    )

    def score_drops(column: int) -> list[float]:
        own, drops = np.random.RandomState(seeds[column]), []
        is_own = encoding.matrix_sources == column
        for _ in range(n_repeats):
            permuted = np.where(is_own, matrix[own.permutation(len(matrix))], matrix)
            own_rows = encoding.from_matrix(permuted, encoding.folds)
            drops.append(baseline - score(predict_out_of_fold(model, own_rows, folds)))
        return drops

    importances = np.array(model.map_in_threads(score_drops, range(n_columns)))
    return Bunch(
        importances_mean=importances.mean(axis=1),
        importances_std=importances.std(axis=1),
        importances=importances,
    )


class _PrecomputedPredictions(BaseEstimator):
    """Estimator with given predictions, or with probabilities of classes, for scorers."""

    def __init__(self, predictions: Array, classes: Array | None) -> None:
        self.predictions, self.classes = predictions, classes
        self.classes_ = classes

    def predict(self, X: Any) -> Array:
        if self.classes_ is None:
            return self.predictions
        labels: Array = self.classes_[self.predictions.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Any) -> Array:
        return self.predictions

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.estimator_type = "regressor" if self.classes_ is None else "classifier"
        return tags


def apply_scorer(
    scoring: Any, predictions: Array, classes: Array | None, y: Any, weight: Any
) -> float:
    """Return the score of predictions, or of probabilities if there are classes."""
    estimator = _PrecomputedPredictions(predictions, classes)
    weighted = {} if weight is None else {"sample_weight": weight}
    return float(get_scorer(scoring)(estimator, None, y, **weighted))
