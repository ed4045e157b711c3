"""Predictions of tabular estimators, their explanations, and importances of columns.

The components of an estimator are ensembles of networks, and clones of other estimators, with a
member for each fold. For classes their outputs are logits, a single one for two classes. For
numbers they are, for each target, a prediction, one for each of several quantiles, or a mean and a
variance.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from numbers import Integral
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.metrics import get_scorer
from sklearn.utils import Bunch, check_random_state, check_scalar
from sklearn.utils.validation import check_is_fitted

from ..estimators._validation import prefix_errors
from ..estimators.explanation import Explanation, draw_background, make_explanation
from ..nn.rows import row_vectors
from ..training.resources import limit_blas, n_blas_threads
from ..utils.arrays import Array, MatrixLike, as_dense
from ._model_inputs import WIDTH, FeatureBuilder
from ._read_table import read_table
from ._table_encoding import UnscaledRows

# Limits of the rows that are predicted at once, and of the elements of their widest view.
_ROWS_AT_ONCE = 4096
_ELEMENTS_AT_ONCE = 1 << 22

# Networks predict more rows than this in single precision, which takes less than half the time and
# changes predictions by a few millionths.
MANY_ROWS = 4096

Mix: TypeAlias = Callable[[Sequence[Array]], Array]
"""Returns predictions for n rows, given a list with the outputs of each component."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class TabularPredictionMixin(metaclass=ABCMeta):
    """Predictions of a fitted tabular estimator, explanations, and importances of columns."""

    _features: FeatureBuilder
    _blended: list[Any]  # CrossFittedEstimators
    networks_: list[Any]
    oof_member_: Array
    background_: UnscaledRows | None

    @staticmethod
    @abstractmethod
    def _validate_targets(y: Any, sample_weight: Any, X: Any) -> tuple[Array, Array | None]:
        """Return the validated targets and weights of the rows of X."""

    @abstractmethod
    def _encode_targets(self, y: Array) -> Array:
        """Return the valid numbers, or the class index of each label, which must be known."""

    @abstractmethod
    def _mix(self, outputs: Sequence[Array]) -> Array:
        """Return the mixture of the outputs of all components."""

    @abstractmethod
    def _is_out_of_fold(self, mixture: Array) -> bool:
        """Return whether mixed outputs are close to those of the training rows."""

    @abstractmethod
    def _score_predictions(
        self, y: Array, mixture: Array, weight: Array | None, scoring: Any = None
    ) -> float:
        """Return the score of mixed outputs, by a scorer or as `oof_score_`."""

    # ------------------------------------------------------------------ prediction

    @property
    def _components(self) -> list[Any]:
        """The components of the mixture, each with `view` and `outputs`."""
        return [*self.networks_, *self._blended]

    @property
    def _rows_at_once(self) -> int:
        """The number of rows that are predicted at once."""
        width = self._features.n_encoded + self._features.n_blocks * WIDTH
        return min(_ROWS_AT_ONCE, max(1, _ELEMENTS_AT_ONCE // width))

    @np.errstate(all="ignore")
    def _predict(self, X: Any, mix: Mix) -> Array:
        """Return the result of `mix` for the outputs of all components."""
        if not hasattr(self, "networks_"):  # check_is_fitted takes a hundred times as long
            check_is_fitted(self)
        rows = self._features.encoding.read_rows(read_table(self, X, reset=False))
        return self._predict_in_blocks(rows, mix)

    def _predict_for_score(self, X: Any, y: Any, weight: Any) -> tuple[Any, Array, Array | None]:
        """Return the targets, mixed outputs and weights that the score is computed from."""
        outputs = self._predict(X, self._mix)
        y, weight = self._validate_targets(y, weight, outputs)
        return self._encode_targets(y), outputs, weight

    def _predict_in_blocks(self, rows: UnscaledRows, mix: Mix) -> Array:
        """Predict rows, in blocks that limit memory and run in several threads."""
        n_rows, block_size = len(rows.codes), self._rows_at_once
        if n_rows <= block_size:
            return self._predict_rows(rows, mix)
        blocks = [slice(start, start + block_size) for start in range(0, n_rows, block_size)]

        def predict(block: slice) -> Array:
            return self._predict_rows(rows.take(block), mix, single_precision=n_rows > MANY_ROWS)

        return np.concatenate(self._map_in_threads(predict, blocks))

    def _predict_rows(self, rows: UnscaledRows, mix: Mix, **options: Any) -> Array:
        """Predict rows in one block; options are those of the `outputs` of a component."""
        inputs, outputs = self._features.make_inputs(rows, with_table=bool(self._blended)), []
        for part in self._components:
            outputs.append(part.outputs(inputs[part.view], **options))
        return mix(outputs)

    def _map_in_threads(
        self, function: Callable[[Item], Result], items: Sequence[Item]
    ) -> list[Result]:
        """Apply a function that predicts to items, in threads if all components allow it.

        An error or Ctrl-C cancels the items that have not started.
        """
        is_thread_safe = all(part.is_thread_safe for part in self._components)
        n_threads = min(n_blas_threads(), len(items)) if is_thread_safe else 1
        max_size = max(part.max_matmul_size for part in self._components)
        with limit_blas(max_size, n_side_by_side=n_threads):
            if n_threads == 1:
                return [function(item) for item in items]
            with ThreadPoolExecutor(n_threads) as pool:
                return list(pool.map(function, items))

    def _predict_out_of_fold(self, rows: UnscaledRows) -> Array:
        """Predict each training row by the members that held out its fold."""
        folds, size = self.oof_member_, self._rows_at_once
        predictions: list[Array] = []
        fold_rows = [np.flatnonzero(folds == fold) for fold in range(folds.max() + 1)]
        for member, rows_held_out in enumerate(fold_rows):
            for start in range(0, len(rows_held_out), size):
                part = rows.take(rows_held_out[start : start + size])
                mixture = self._predict_rows(part, self._mix, single_precision=True, member=member)
                predictions.append(mixture)
        return np.concatenate(predictions)[np.argsort(np.concatenate(fold_rows))]

    # ------------------------------------------------------- explanations, importances

    @np.errstate(all="ignore")
    def _explain(
        self,
        X: Any,
        background: Any,
        mix: Mix,
        output_names: list[str] | None,
        n_permutations: int | None,
        random_state: Any,
    ) -> Explanation:
        """Return the contribution of each column to the result of `mix`.

        Numbers and codes of a column are switched together. Predictions for coalitions are computed
        in single precision. Contributions sum to predictions of whole rows, as of `predict`.
        """
        check_is_fitted(self)
        columns, encoding = read_table(self, X, reset=False), self._features.encoding
        sample = vars(self).get("background_")
        if background is not None:
            with prefix_errors("background"):
                table = read_table(self, background, reset=False)
                index = draw_background(table.n_rows, len(encoding.kinds), random_state)
                sample = encoding.read_rows(table).take(index)
        elif sample is None:
            raise ValueError(
                "background must be given, because this estimator keeps no training rows in "
                "background_. Pass training rows, or fit again."
            )

        def predict(matrix: Array, single_precision: bool = True) -> Array:
            hybrids = encoding.from_matrix(matrix)
            return self._predict_rows(hybrids, mix, single_precision=single_precision)

        rows, background_matrix = encoding.read_rows(columns), encoding.to_matrix(sample)
        return make_explanation(
            predict,
            encoding.to_matrix(rows),
            background_matrix,
            encoding.matrix_sources,
            self._predict_in_blocks(rows, mix),
            predict(background_matrix, single_precision=False),
            columns.to_array(),
            columns.names,
            output_names,
            n_permutations,
            random_state,
            rows_at_once=self._rows_at_once,
            map_rows=lambda function, items: self._map_in_threads(function, list(items)),
        )

    def permutation_importance(
        self,
        X: MatrixLike,
        y: ArrayLike,
        sample_weight: ArrayLike | None = None,
        *,
        scoring: Any = None,
        n_repeats: int = 5,
        random_state: int | np.random.RandomState | None = None,
    ) -> Bunch:
        """Return how much permuting each column lowers the out-of-fold score.

        Pass the training data, because `fit` does not keep it. The score of out-of-fold predictions
        is used, so importances hold for new rows, and no rows have to be set aside. Columns are
        those of the table, not of its encoding. This method also sets ``feature_importances_`` to
        the mean importances.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features)
            The training table, with rows in the order of `fit`.
        y : array-like of the shape of y in `fit`
            The target of the training table.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            The weight of each row, or of each target, in the score; None for equal weights.
        scoring : str, callable or None, default=None
            A scorer as in scikit-learn; None for the score of ``oof_score_``. For a classifier,
            "neg_log_loss" is finer than accuracy.
        n_repeats : int, default=5
            The number of permutations of each column.
        random_state : int, RandomState instance or None, default=None
            Seed of the permutations.

        Returns
        -------
        result : Bunch
            As in scikit-learn's function of this name: ``importances_mean`` and
            ``importances_std``, of shape (n_features,), and ``importances``, of shape
            (n_features, n_repeats).

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is not the training table, or if `fit` had no folds because of X_val, or ran on a
            Dask cluster.

        Notes
        -----
        If several columns have the same information, each of them has a low importance, because the
        model can use the other ones. Target statistics of categories are out of fold, as in `fit`.

        References
        ----------
        Breiman, "Random forests", Machine Learning 45, 2001, section 10.
        """
        check_is_fitted(self)
        if not hasattr(self, "oof_member_"):
            raise ValueError(
                "permutation_importance needs to know which rows each network has held out, but "
                "with X_val there are none, and those on a Dask cluster are not kept. Pass rows "
                "that were not trained on to sklearn.inspection.permutation_importance."
            )
        check_scalar(n_repeats, "n_repeats", Integral, min_val=1)
        encoding = self._features.encoding
        columns = read_table(self, X, reset=False)
        y, weight = self._validate_targets(y, sample_weight, columns.table)
        y_encoded = self._encode_targets(y)
        n_rows = len(self.oof_member_)
        is_training_table = columns.n_rows == n_rows
        if is_training_table:
            rows = encoding.read_rows(columns, encoding.folds)
            is_training_table = self._is_out_of_fold(self._predict_out_of_fold(rows))
        if not is_training_table:
            raise ValueError(
                f"X must be the table of {n_rows} rows that fit was given, in the same order, got "
                f"{columns.n_rows} other row(s). For other rows use "
                "sklearn.inspection.permutation_importance."
            )
        n_columns, matrix = len(encoding.kinds), encoding.to_matrix(rows)
        rng = check_random_state(random_state)
        seeds = rng.randint(np.iinfo(np.int32).max, size=n_columns)

        def score(matrix: Array) -> float:
            mixture = self._predict_out_of_fold(encoding.from_matrix(matrix, encoding.folds))
            return self._score_predictions(y_encoded, mixture, weight, scoring)

        baseline = score(matrix)

        def score_drops(column: int) -> list[float]:
            column_rng = np.random.RandomState(seeds[column])
            is_column = encoding.matrix_sources == column
            orders = (column_rng.permutation(n_rows) for _ in range(n_repeats))
            return [baseline - score(np.where(is_column, matrix[rows], matrix)) for rows in orders]

        importances = np.array(self._map_in_threads(score_drops, range(n_columns)))
        self._importances = importances.mean(axis=1)
        return Bunch(
            importances_mean=self._importances,
            importances_std=importances.std(axis=1),
            importances=importances,
        )

    @property
    def feature_importances_(self) -> Array:
        """The means of the last call of `permutation_importance`."""
        if not hasattr(self, "_importances"):
            raise AttributeError(
                "feature_importances_ is not computed yet. Call permutation_importance(X, y) "
                "first, with the table that fit was given."
            )
        return np.asarray(self._importances)


def keep_background(
    rows: UnscaledRows, weight: Array | None, rng: np.random.RandomState
) -> UnscaledRows:
    """Return a few training rows with weight, as the background of explanations."""
    n_rows, n_codes = rows.codes.shape
    has_weight = np.ones(n_rows) if weight is None else row_vectors(weight).any(axis=1)
    candidates = np.flatnonzero(has_weight)
    n_columns = rows.numbers.shape[1] + n_codes
    kept = candidates[draw_background(len(candidates), n_columns, rng)]
    return UnscaledRows(as_dense(rows.numbers[kept]), rows.codes[kept])


class _PrecomputedPredictions(BaseEstimator):
    """Estimator for scorers, with precomputed predictions or probabilities of classes."""

    def __init__(self, predictions: Array, classes: Array | None) -> None:
        self.predictions, self.classes = predictions, classes
        self.classes_ = classes

    def predict(self, X: Any) -> Array:
        if self.classes_ is None:
            return self.predictions
        return np.asarray(self.classes_[self.predictions.argmax(axis=1)])

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
    options = {} if weight is None else {"sample_weight": weight}
    return float(get_scorer(scoring)(estimator, None, y, **options))
