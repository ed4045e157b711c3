"""What tabular estimators mix: models of one kind, one for each fold, and what these say of rows.

Ensembles of networks are such a component, and other estimators with a clone for each fold. Who
trains them, weighs them or predicts by them need not know which they are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np

from ..core.arrays import Array
from .inputs import View


class Watched(NamedTuple):
    """Rows of the user's own that are not trained on, and that training stops by.

    Parameters
    ----------
    X : AnyColumns or array of shape (n, n_inputs)
        The rows: a table that was read, encoded, or in the view of a component.
    y : array of shape (n,)
        Their targets, as those that are trained on.
    weight : array of shape (n,) or None
        What each row weighs.
    """

    X: Any
    y: Array
    weight: Array | None


class Training(NamedTuple):
    """What the models of a component are trained on.

    Parameters
    ----------
    X : array of shape (n, n_inputs)
        The rows, in the view of the component.
    y : array of shape (n,)
        The targets: numbers, or codes of classes from 0 on.
    weight : array of shape (n,) or None
        What each row weighs.
    n_members : int
        The number of models.
    folds : array of int of shape (n,) or None
        The model that holds out each row, from 0 on; None where there are rows to watch.
    watched : Watched or None
        Those; then all models are trained on all rows.
    stream : RandomState
        What draws all that is random.
    time_limit : float
        The most seconds that it may take; infinite for any.
    estimator : estimator
        That of the user.
    context : CallbackContext
        Its task, of which this is a part.
    """

    X: Array
    y: Array
    weight: Array | None
    n_members: int
    folds: Array | None
    watched: Watched | None
    stream: np.random.RandomState
    time_limit: float
    estimator: Any
    context: Any

    @property
    def n_train(self) -> int:
        """The rows that each model is trained on, of all but the largest fold."""
        n_held_out = 0 if self.folds is None else int(np.bincount(self.folds).max())
        return len(self.X) - n_held_out


class Component(ABC):
    """Models of one kind, each of which has held out a fold of the training rows.

    What they say of a row is for classes logits, of which one is for two classes. For numbers it
    is a prediction, or one for each level of several quantiles, or a mean and a variance.

    Attributes
    ----------
    view : View
        How they see rows.
    """

    view: View

    @abstractmethod
    def outputs(self, X: Array) -> Array:
        """Return what each model says of rows in their view, of shape (n_members, n, n_outputs)."""


class Kind(ABC):
    """A kind of models that can be made a component.

    Attributes
    ----------
    view : View
        How they see rows.
    """

    view: View

    @abstractmethod
    def train(self, training: Training) -> tuple[Component, Array]:
        """Return the component, trained, and what it says of rows that were not trained on.

        The latter has shape (n_said, n, n_outputs). Of training rows there is one output: that of
        the model that has held the row out. Of the rows that are watched there is one of each
        model.
        """
