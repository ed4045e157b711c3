"""Permutation importance of the columns of a table, by out-of-fold predictions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Bunch

from ..estimators._mixins import get_scorer_with_suggestion
from ..utils.arrays import Array, as_dense
from ._encoding import TableRows
from ._fold_models import FoldEnsemble, Mix, map_in_threads
from ._network_inputs import FeatureBuilder


class OutOfFoldPredictor:
    """Predicts each training row by the models that held it out, with columns permuted or not.

    Parameters
    ----------
    rows : TableRows
        The training rows.
    features : FeatureBuilder
        Builds the views of the rows.
    components : sequence of FoldEnsemble
        The components.
    folds : array of int of shape (n_rows,)
        The model of each component that held out each row.
    mix : callable
        Returns predictions, given a list with the outputs of each component.
    """

    def __init__(
        self,
        rows: TableRows,
        features: FeatureBuilder,
        components: Sequence[FoldEnsemble],
        folds: Array,
        mix: Mix,
    ) -> None:
        self.rows = TableRows(as_dense(rows.numbers), rows.codes)
        self.features, self.components, self.mix = features, components, mix
        self.rows_of_fold = [np.flatnonzero(folds == fold) for fold in range(folds.max() + 1)]

    def predict(self, rows: TableRows) -> Array:
        """Return the out-of-fold predictions of rows."""
        views = {each.view for each in self.components}
        predictions: list[Array] = []
        for member, own in enumerate(self.rows_of_fold):
            part = self.features.encode(TableRows(rows.numbers[own], rows.codes[own]))
            inputs = {view: self.features.transform(part, view) for view in views}
            outputs = [each.member_outputs(member, inputs[each.view]) for each in self.components]
            predictions.append(self.mix([array[None] for array in outputs]))
        by_fold = np.concatenate(predictions)
        in_order = np.empty_like(by_fold)
        in_order[np.concatenate(self.rows_of_fold)] = by_fold
        return in_order

    def permute(self, column: int, order: Array) -> TableRows:
        """Return the rows with a column of the table in another order."""
        numbers, codes = self.rows.numbers.copy(), self.rows.codes.copy()
        of_numbers, of_codes = self.features.encoding.matrix_columns(column)
        numbers[:, of_numbers] = numbers[order][:, of_numbers]
        codes[:, of_codes] = codes[order][:, of_codes]
        return TableRows(numbers, codes)

    def importances(
        self,
        score: Callable[[Array], float],
        n_columns: int,
        n_repeats: int,
        rng: np.random.RandomState,
    ) -> Bunch:
        """Return how much permuting each column lowers the score (Breiman 2001, section 10).

        Parameters
        ----------
        score : callable
            Returns the score of predictions.
        n_columns, n_repeats : int
            The number of columns of the table, and of permutations of each.
        rng : RandomState
            Draws the permutations.

        Returns
        -------
        result : Bunch
            As of scikit-learn's `permutation_importance`.
        """
        n_rows = len(self.rows.codes)
        seeds = rng.randint(np.iinfo(np.int32).max, size=n_columns)
        baseline = score(self.predict(self.rows))

        def drops(column: int) -> list[float]:
            own = np.random.RandomState(seeds[column])
            orders = [own.permutation(n_rows) for _ in range(n_repeats)]
            return [baseline - score(self.predict(self.permute(column, each))) for each in orders]

        importances = np.array(map_in_threads(drops, range(n_columns), self.components))
        return Bunch(
            importances_mean=importances.mean(axis=1),
            importances_std=importances.std(axis=1),
            importances=importances,
        )


class _PrecomputedRegressor(RegressorMixin, BaseEstimator):
    """Regressor with given predictions, for scorers."""

    def __init__(self, predictions: Array) -> None:
        self.predictions = predictions
        self.is_fitted_ = True

    def predict(self, X: Any) -> Array:
        return self.predictions


class _PrecomputedClassifier(ClassifierMixin, BaseEstimator):
    """Classifier with given probabilities, for scorers."""

    def __init__(self, probabilities: Array, classes: Array) -> None:
        self.probabilities, self.classes = probabilities, classes
        self.classes_ = classes

    def predict(self, X: Any) -> Array:
        labels: Array = self.classes_[self.probabilities.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Any) -> Array:
        return self.probabilities


def apply_scorer(
    scoring: Any, predictions: Array, classes: Array | None, y: Any, weight: Any
) -> float:
    """Return the score of predictions, or of probabilities if there are classes."""
    estimator: Any = _PrecomputedRegressor(predictions)
    if classes is not None:
        estimator = _PrecomputedClassifier(predictions, classes)
    weighted = {} if weight is None else {"sample_weight": weight}
    return float(get_scorer_with_suggestion(scoring, classes)(estimator, None, y, **weighted))
