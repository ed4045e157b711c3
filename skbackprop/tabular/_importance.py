"""How much each column of a table matters: what is lost out of fold where it is permuted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import Bunch

from ..estimators._mixins import get_scorer_with_suggestion
from ..training.blas_threads import threads_for_stacks, with_blas_limit
from ..utils.arrays import Array, as_dense
from ._components import FoldEnsemble
from ._encoding import EncodedInputs
from ._features import EncodedRows, FeatureBuilder
from ._prediction import thread_map

Mix = Callable[[list[Array]], Array]


class OutOfFoldPredictor:
    """What is said out of fold of the training rows, as they are or with permuted columns.

    Parameters
    ----------
    rows : Rows
        The training rows.
    inputs : Inputs
        What makes views of them.
    components : sequence of Component
        Those that are asked.
    folds : array of int of shape (n_rows,)
        The model of each component that has held out each row.
    mix : callable
        Returns what is said together, of a list with what each component says.
    """

    def __init__(
        self,
        rows: EncodedRows,
        inputs: FeatureBuilder,
        components: Sequence[FoldEnsemble],
        folds: Array,
        mix: Mix,
    ) -> None:
        self.taken_in = EncodedInputs(as_dense(rows.taken_in.numbers), rows.taken_in.codes)
        self.inputs, self.components, self.mix = inputs, components, mix
        self.rows_of_fold = [np.flatnonzero(folds == at) for at in range(int(folds.max()) + 1)]

    def said(self, taken_in: EncodedInputs) -> Array:
        """Return what is said of rows, each by the models that have held it out."""
        said: list[Array] = []
        for member, rows in enumerate(self.rows_of_fold):
            part = self.inputs.encoded(EncodedInputs(taken_in.numbers[rows], taken_in.codes[rows]))
            seen = {view: self.inputs.transform(part, view) for view in self.views}
            outputs = [each.outputs_of(member, seen[each.view]) for each in self.components]
            said.append(self.mix([own[None] for own in outputs]))
        mixed = np.concatenate(said)
        in_order = np.empty_like(mixed)
        in_order[np.concatenate(self.rows_of_fold)] = mixed
        return in_order

    @property
    def views(self) -> set[Any]:
        """The views of rows that components have."""
        return {each.view for each in self.components}

    def permuted(self, column: int, order: Array) -> EncodedInputs:
        """Return the rows with the values of a column of the table in another order."""
        numbers, codes = self.taken_in
        of_number, of_code = self.inputs.encoding.made_of(column)
        numbers, codes = numbers.copy(), codes.copy()
        numbers[:, of_number] = numbers[order][:, of_number]
        codes[:, of_code] = codes[order][:, of_code]
        return EncodedInputs(numbers, codes)


def permutation_importance(
    out_of_fold: OutOfFoldPredictor,
    score: Callable[[Array], float],
    n_columns: int,
    n_repeats: int,
    rng: np.random.RandomState,
) -> Bunch:
    """Return how much the score falls when each column is permuted (Breiman 2001, section 10).

    Parameters
    ----------
    out_of_fold : OutOfFold
        The training rows.
    score : callable
        Returns the score of what is said of them.
    n_columns, n_repeats : int
        The columns of the table, and how often each is permuted.
    rng : RandomState
        What draws the orders.

    Returns
    -------
    result : Bunch
        As that of scikit-learn's function of the name.
    """
    n_rows = len(out_of_fold.taken_in.codes)
    seeds = rng.randint(np.iinfo(np.int32).max, size=n_columns)
    baseline = score(out_of_fold.said(out_of_fold.taken_in))

    def of(column: int) -> list[float]:
        own = np.random.RandomState(seeds[column])
        orders = [own.permutation(n_rows) for _ in range(n_repeats)]
        return [
            baseline - score(out_of_fold.said(out_of_fold.permuted(column, order)))
            for order in orders
        ]

    components = out_of_fold.components
    is_thread_safe = all(each.is_thread_safe for each in components)
    n_threads = min(threads_for_stacks(), n_columns) if is_thread_safe else 1
    largest = max(each.max_matmul_size for each in components)
    found = with_blas_limit(
        lambda: thread_map(of, range(n_columns), n_threads), largest, n_side_by_side=n_threads
    )
    importances = np.array(found)
    return Bunch(
        importances_mean=importances.mean(axis=1),
        importances_std=importances.std(axis=1),
        importances=importances,
    )


class _PrecomputedEstimator(BaseEstimator):
    """An estimator whose answers are there already, for scorers."""

    def __init__(self, answers: Array) -> None:
        self.answers = answers
        self.is_fitted_ = True

    def predict(self, X: Any) -> Array:
        return self.answers


class _PrecomputedRegressor(RegressorMixin, _PrecomputedEstimator):
    """Numbers."""


class _PrecomputedClassifier(ClassifierMixin, _PrecomputedEstimator):
    """Labels, by probabilities."""

    def __init__(self, answers: Array, classes: Array) -> None:
        super().__init__(answers)
        self.classes = classes
        self.classes_ = classes

    def predict(self, X: Any) -> Array:
        labels: Array = self.classes_[self.answers.argmax(axis=1)]
        return labels

    def predict_proba(self, X: Any) -> Array:
        return self.answers


def apply_scorer(scoring: Any, answers: Array, classes: Array | None, y: Any, weight: Any) -> float:
    """Return what a scorer makes of predictions, or with classes of probabilities."""
    estimator = (
        _PrecomputedRegressor(answers)
        if classes is None
        else _PrecomputedClassifier(answers, classes)
    )
    weighted = {} if weight is None else {"sample_weight": weight}
    return float(get_scorer_with_suggestion(scoring, classes)(estimator, None, y, **weighted))
