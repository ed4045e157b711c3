"""How far training has come: what callbacks and displays read off an estimator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from .base import BaseNeuralNetwork


@dataclass(frozen=True)
class History:
    """What a network has come to in the epochs of one fit.

    Parameters
    ----------
    losses : list of float
        The training loss of each epoch.
    validation_losses : list of float
        The loss of the rows that are watched, after each epoch; empty where none are.
    validation_scores : list of float
        Their score after each epoch; empty without early stopping.
    best_epoch : int
        The epoch whose weights would be kept, counted from 1.
    """

    losses: list[float]
    validation_losses: list[float]
    validation_scores: list[float]
    best_epoch: int


def history_of(fitted_estimator: Any) -> list[History]:
    """Return the progress of each member of a network that is being fitted.

    Of a warm start it is that of the last call, as `n_iter_` is: epochs are counted from 1 in each
    fit.

    Parameters
    ----------
    fitted_estimator : estimator or None
        What it would be if training ended now.

    Returns
    -------
    progress : list of Progress
        One for each member; none of other estimators than ours, nor where there is none yet.
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
        # A curve that nothing is added to any more is that of an earlier fit.
        return [curve[len(past[name] or ()) :] for curve, past in zip(now, before, strict=True)]

    return [
        History(*of_member)
        for of_member in zip(
            curves("loss_curve_"),
            curves("validation_loss_curve_"),
            curves("validation_scores_"),
            best_epochs,
            strict=True,
        )
    ]


def full_history(estimator: Any) -> list[History]:
    """Return the progress of each member of a fitted network, over all fits that went on.

    Parameters
    ----------
    estimator : estimator
        One of ours, or another with a ``loss_curve_``, as scikit-learn's networks have.

    Returns
    -------
    progress : list of Progress
        One for each member. The best epoch is counted in the whole curves, too.
    """
    is_ours = isinstance(estimator, BaseNeuralNetwork)
    n_estimators = estimator._n_trained if is_ours else 1
    curves = [
        _curves_of(estimator, name, n_estimators)
        for name in ("loss_curve_", "validation_loss_curve_", "validation_scores_")
    ]
    if is_ours:
        best = np.atleast_1d(estimator.best_iter_)
        if not estimator._went_on:  # which counts those of the last fit alone
            best = best + [len(losses) for losses in curves[0]] - estimator.n_iter_
        best_epochs = best.tolist()
    else:  # they keep the first of the best scores
        best_epochs = [1 + int(np.argmax(scores)) if scores else 0 for scores in curves[2]]
    return [History(*of_member) for of_member in zip(*curves, best_epochs, strict=True)]


def _curves_of(estimator: Any, name: str, n_estimators: int) -> list[list[float]]:
    """Return copies of the curves of an estimator's members, empty ones if it has none."""
    value = getattr(estimator, name, None)
    if value is None:
        return [[] for _ in range(n_estimators)]
    return [list(curve) for curve in ([value] if n_estimators == 1 else value)]
