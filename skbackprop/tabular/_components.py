"""What tabular estimators mix: models of one kind, one for each fold, and what these say of rows.

Ensembles of networks are such a component, and other estimators with a clone for each fold. Who
trains them, weighs them or predicts by them need not know which they are.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from ..utils.arrays import Array
from ._features import EncodedRows, FeatureView, draw_seed
from ._fit_progress import FitProgress

# A limit that is over before the first epoch.
MIN_TIME = 1e-9


class TableValidationData(NamedTuple):
    """Rows of the user's own that are not trained on, and that training stops by.

    Parameters
    ----------
    X : AnyColumns or array of shape (n, n_inputs)
        The rows: a table that was read, its rows, or these in the view of a component.
    y : array of shape (n,)
        Their targets, as those that are trained on.
    weight : array of shape (n,) or None
        What each row weighs.
    """

    X: Any
    y: Array
    weight: Array | None


class TrainingData(NamedTuple):
    """What the models of a component are trained on.

    Parameters
    ----------
    X : Rows or array of shape (n, n_inputs)
        The rows; for the models of a component in its view.
    y : array of shape (n,)
        The targets: numbers, or codes of classes from 0 on.
    weight : array of shape (n,) or None
        What each row weighs.
    n_estimators : int
        The number of models.
    folds : array of int of shape (n,) or None
        The model that holds out each row, from 0 on; None where there are rows to watch.
    watched : Watched or None
        Those; then all models are trained on all rows.
    rng : RandomState
        What draws all that is random.
    time_limit : float
        The most seconds that it may take; infinite for any.
    estimator : estimator
        That of the user.
    context : CallbackContext
        Its task, of which this is a part.
    progress : FitProgress
        What reports to the user how far the fit is.
    """

    X: Any
    y: Array
    weight: Array | None
    n_estimators: int
    folds: Array | None
    watched: TableValidationData | None
    rng: np.random.RandomState
    time_limit: float
    estimator: Any
    context: Any
    progress: FitProgress

    @property
    def n_train(self) -> int:
        """The rows that each model is trained on, of all but the largest fold."""
        n_held_out = 0 if self.folds is None else int(np.bincount(self.folds).max())
        return len(self.X) - n_held_out


class FoldEnsemble(ABC):
    """Models of one kind, each of which has held out a fold of the training rows.

    What they say of a row is for classes logits, of which one is for two classes. For numbers it
    is a prediction, or one for each level of several quantiles, or a mean and a variance.

    Attributes
    ----------
    view : View
        How they see rows.
    """

    view: FeatureView

    @property
    def is_thread_safe(self) -> bool:
        """Whether several threads may ask them at once."""
        return False

    @property
    def max_matmul_size(self) -> int:
        """The multiplications in the largest matrix product while they predict, if it is known."""
        return 0

    @abstractmethod
    def outputs(self, X: Array, in_single: bool = False) -> Array:
        """Return what each model says of rows in their view, of shape (n_estimators, n, n_outputs).

        With `in_single` it may be in single precision.
        """

    @abstractmethod
    def outputs_of(self, member: int, X: Array) -> Array:
        """Return what one model says of rows, of shape (n, n_outputs), in any precision."""


class FoldEnsembleFactory(ABC):
    """A kind of models that can be made a component.

    Attributes
    ----------
    view : View
        How they see rows.
    can_use_any_time : bool
        Whether it makes do with any time that there is.
    """

    view: FeatureView
    can_use_any_time: ClassVar[bool]

    @abstractmethod
    def train(self, training: TrainingData) -> tuple[FoldEnsemble, Array] | None:
        """Return the component, trained, and what it says of rows that were not trained on.

        The latter has shape (n_said, n, n_outputs). Of training rows there is one output: that of
        the model that has held the row out. Of the rows that are watched there is one of each
        model. None if there was not the time.
        """


def fit_components(
    kinds: Sequence[FoldEnsembleFactory],
    data: TrainingData,
    see: Callable[[EncodedRows, FeatureView], Array],
) -> list[tuple[FoldEnsemble, Array]]:
    """Return a component of each kind, trained, but for those that there was no time for.

    Those that are to come have equal parts of the time that is left. Those that make do with any
    are the last, and one of them is always trained.

    Parameters
    ----------
    kinds : sequence of Kind
        The kinds.
    data : Training
        What they are trained on.
    see : callable
        Returns rows in a view of them.

    Returns
    -------
    trained : list of (component, array)
        In the order of the kinds, each with what it says of rows that were not trained on.
    """
    start, trained = time.perf_counter(), dict[int, tuple[FoldEnsemble, Array]]()
    # What one kind draws does not depend on the others.
    rngs = [np.random.RandomState(draw_seed(data.rng)) for _ in kinds]
    order = sorted(range(len(kinds)), key=lambda at: kinds[at].can_use_any_time)
    for n_before, at in enumerate(order):
        kind, watched = kinds[at], data.watched
        if watched is not None:
            watched = watched._replace(X=see(watched.X, kind.view))
        X = see(data.X, kind.view)
        left = data.time_limit - (time.perf_counter() - start)
        is_over = left <= 0 or data.progress.is_stopped
        if is_over and any(kinds[other].can_use_any_time for other in trained):
            break
        share = max(left / (len(kinds) - n_before), MIN_TIME)
        own = data._replace(X=X, watched=watched, rng=rngs[at], time_limit=share)
        found = kind.train(own)
        if found is not None:
            trained[at] = found
    return [trained[at] for at in sorted(trained)]
