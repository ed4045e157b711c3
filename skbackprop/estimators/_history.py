"""Training history of an estimator, for callbacks and displays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .base import BaseNeuralNetwork


@dataclass(frozen=True)
class History:
    """Losses and scores of one network, by epoch.

    Parameters
    ----------
    losses : list of float
        The training loss of each epoch.
    validation_losses : list of float
        The validation loss after each epoch; empty without validation data.
    validation_scores : list of float
        The validation score after each epoch; empty without early stopping.
    best_epoch : int
        The epoch whose weights are kept, counted from 1.
    """

    losses: list[float]
    validation_losses: list[float]
    validation_scores: list[float]
    best_epoch: int


def history_of(fitted_estimator: Any) -> list[History]:
    """Return the history of each member in the current fit.

    After a warm start, it does not include earlier fits, as `n_iter_`.

    Parameters
    ----------
    fitted_estimator : estimator or None
        The estimator as if training ended now.

    Returns
    -------
    histories : list of History
        One for each member; empty for None and for estimators of other packages.
    """
    if not isinstance(fitted_estimator, BaseNeuralNetwork):
        return []
    best_epochs = np.atleast_1d(fitted_estimator.best_iter_).tolist()
    n_estimators = len(best_epochs)
    before = getattr(fitted_estimator, "_curves_before", None)

    def curves(name: str) -> list[list[float]]:
        now = _curves_of(fitted_estimator, name, n_estimators)
        if before is None:
            return now
        # Values that were there before are those of earlier fits.
        return [curve[len(past[name] or ()) :] for curve, past in zip(now, before, strict=True)]

    return [
        History(*member)
        for member in zip(
            curves("loss_curve_"),
            curves("validation_loss_curve_"),
            curves("validation_scores_"),
            best_epochs,
            strict=True,
        )
    ]


def full_history(estimator: Any) -> list[History]:
    """Return the history of each member over all fits, including those before a warm start.

    Parameters
    ----------
    estimator : estimator
        A fitted network of this package, or another estimator with a ``loss_curve_``, such as
        scikit-learn's networks.

    Returns
    -------
    histories : list of History
        One for each member. The best epoch is counted over all fits as well.
    """
    is_ours = isinstance(estimator, BaseNeuralNetwork)
    n_estimators = estimator._n_trained if is_ours else 1
    curves = [
        _curves_of(estimator, name, n_estimators)
        for name in ("loss_curve_", "validation_loss_curve_", "validation_scores_")
    ]
    if is_ours:
        best = np.atleast_1d(estimator.best_iter_)
        if not estimator._went_on:  # best_iter_ is counted in the last fit
            best = best + [len(losses) for losses in curves[0]] - estimator.n_iter_
        best_epochs = best.tolist()
    else:  # scikit-learn keeps the first of equal best scores
        best_epochs = [1 + int(np.argmax(scores)) if scores else 0 for scores in curves[2]]
    return [History(*member) for member in zip(*curves, best_epochs, strict=True)]


def _curves_of(estimator: Any, name: str, n_estimators: int) -> list[list[float]]:
    """Return copies of a curve of each member; empty lists if the estimator has none."""
    value = getattr(estimator, name, None)
    if value is None:
        return [[] for _ in range(n_estimators)]
    return [list(curve) for curve in ([value] if n_estimators == 1 else value)]
