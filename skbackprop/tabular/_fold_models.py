"""Components of a tabular ensemble: one model for each fold, their training data and prediction.

A component is an ensemble of networks, or the clones of another estimator, one for each fold. Both
predict by the same methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..training.parallelism import BlasLimit, threads_for_stacks
from ..utils.arrays import Array
from ._dataframe import AnyColumns
from ._network_inputs import WIDTH, FeatureBuilder, FeatureView
from ._progress_and_checkpoint import FitProgress

# Limits of the rows that are predicted at once, and of the elements of their widest view.
_ROWS_AT_ONCE = 2048
_ELEMENTS_AT_ONCE = 1 << 22

# Networks predict more rows than this in single precision, in less than half the time. Predictions
# differ by a few millionths from those in double precision.
MANY_ROWS = 4096

Item = TypeVar("Item")
Result = TypeVar("Result")
Mix = Callable[[Sequence[Array]], Array]


class LabeledRows(NamedTuple):
    """Rows with their targets and weights.

    Parameters
    ----------
    X : TableRows or array of shape (n, n_inputs)
        The rows, of a table or in the view of a component.
    y : array of shape (n,)
        The targets: numbers, or class indices.
    weight : array of shape (n,) or None
        The weight of each row.
    """

    X: Any
    y: Array
    weight: Array | None


class TrainingData(NamedTuple):
    """Data, folds and limits with which a component is trained.

    Parameters
    ----------
    rows : LabeledRows
        The training rows, in the view of the component.
    n_estimators : int
        The number of models.
    folds : array of int of shape (n,) or None
        The model that holds out each row; None if there are validation rows.
    validation : LabeledRows or None
        The user's validation rows. With them all models are trained on all training rows.
    rng : RandomState
        Source of all randomness.
    time_limit : float
        The maximum number of seconds; may be infinite.
    estimator : estimator
        The tabular estimator.
    context : CallbackContext
        Its callback context.
    progress : FitProgress
        Reports progress and keeps checkpoints.
    """

    rows: LabeledRows
    n_estimators: int
    folds: Array | None
    validation: LabeledRows | None
    rng: np.random.RandomState
    time_limit: float
    estimator: Any
    context: Any
    progress: FitProgress

    @property
    def held_out(self) -> LabeledRows:
        """The rows that models are evaluated on."""
        return self.rows if self.validation is None else self.validation

    @property
    def n_train(self) -> int:
        """The number of training rows of the model with the largest fold."""
        n_held_out = 0 if self.folds is None else int(np.bincount(self.folds).max())
        return len(self.rows.y) - n_held_out


class FoldEnsemble(ABC):
    """Models of one kind, each of which holds out one fold of the training rows.

    For classes their outputs are logits, a single one for two classes. For numbers they are a
    prediction, one for each of several quantiles, or a mean and a variance.

    Attributes
    ----------
    view : FeatureView
        The representation of rows that the models take.
    """

    view: FeatureView

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may predict at once."""
        return False

    @property
    def max_matmul_size(self) -> int:
        """The multiplications of the largest matrix product of a prediction, if known."""
        return 0

    @abstractmethod
    def outputs(self, X: Array, single_precision: bool = False) -> Array:
        """Return the outputs of all models, of shape (n_estimators, n, n_outputs)."""

    @abstractmethod
    def member_outputs(self, member: int, X: Array) -> Array:
        """Return the outputs of one model, of shape (n, n_outputs), in any precision."""


def predict_in_blocks(
    columns: AnyColumns, features: FeatureBuilder, components: Sequence[FoldEnsemble], mix: Mix
) -> Array:
    """Predict the rows of a table, in blocks that limit memory and run in several threads.

    Parameters
    ----------
    columns : AnyColumns
        The table.
    features : FeatureBuilder
        Builds the views of the rows.
    components : sequence of FoldEnsemble
        The components.
    mix : callable
        Returns predictions for n rows, given a list with the outputs of each component.

    Returns
    -------
    predictions : array of shape (n_rows, ...)
    """
    n_rows, views = columns.n_rows, {each.view for each in components}

    def predict(block: AnyColumns) -> Array:
        rows = features.rows(block)
        inputs = {view: features.transform(rows, view) for view in views}
        return mix([each.outputs(inputs[each.view], n_rows > MANY_ROWS) for each in components])

    width = features.n_encoded + features.n_blocks * WIDTH
    block_size = min(_ROWS_AT_ONCE, max(1, _ELEMENTS_AT_ONCE // width))
    if n_rows <= block_size:
        return predict(columns)
    blocks = [slice(start, start + block_size) for start in range(0, n_rows, block_size)]
    return np.concatenate(
        map_in_threads(lambda block: predict(columns.part(block)), blocks, components)
    )


def map_in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], components: Sequence[FoldEnsemble]
) -> list[Result]:
    """Apply a function that predicts with components to items, in threads if all allow it.

    An error or Ctrl-C cancels the items that have not been started.
    """
    is_thread_safe = all(each.is_thread_safe for each in components)
    n_threads = min(threads_for_stacks(), len(items)) if is_thread_safe else 1
    largest = max(each.max_matmul_size for each in components)

    with BlasLimit(largest, n_side_by_side=n_threads) as limit, limit:
        if n_threads == 1:
            return [function(item) for item in items]
        with ThreadPoolExecutor(n_threads) as pool:
            try:
                return list(pool.map(function, items))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
