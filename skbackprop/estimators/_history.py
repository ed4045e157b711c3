"""Fitted attributes about training: curves, counts, and the best epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..nn.train_state import TrainState
from ..training.config import Config

CURVES = {
    "loss_curve_": "loss",
    "validation_loss_curve_": "validation_loss",
    "validation_scores_": "validation_score",
}
"""The keys of the records of epochs, by the attributes that show them."""


_ATTRIBUTES = (
    "n_iter_",
    "converged_",
    "t_",
    "loss_",
    "best_loss_",
    "best_validation_score_",
    "best_iter_",
)


def history_attributes(
    state: TrainState, config: Config, incremental: bool, last_best_loss: Any
) -> dict[str, Any]:
    """Return the fitted attributes about the last training, per member if there are several.

    The best loss of `partial_fit` is that of all calls, and of the fit before them.
    """
    n, is_scored, values = len(state), config.early_stopping is not None, []
    last_best = np.full(n, np.inf) if last_best_loss is None else np.ravel(last_best_loss)
    for i in range(n):
        epoch = int(state.epoch[i, 0])
        n_iter = min(epoch, 1) if incremental else epoch
        losses = [record["loss"] for record in state.history[i][-n_iter:]] if n_iter else []
        if incremental:
            losses.append(last_best[i])
        best_epoch = int(state.best["epoch"][i, 0]) if state.best else 0
        values.append(
            (
                n_iter,
                state.stop_reason[i] == "converged",
                int(state.n_samples_seen[i, 0]),
                np.float64(state.loss[i, 0]),
                None if is_scored else np.float64(min(losses, default=np.inf)),
                (float(state.best["score"][i, 0]) if best_epoch else math.nan)
                if state.best
                else None,
                best_epoch or n_iter,
            )
        )
    columns = values[0] if n == 1 else map(per_member, zip(*values, strict=True))
    return dict(zip(_ATTRIBUTES, columns, strict=True))


def get_curve(state: TrainState, name: str) -> Any:
    """Return a curve over all fits, or a list of curves of several members; None without."""
    key = CURVES[name]
    # Losses are NumPy scalars, as in scikit-learn: they have methods such as round.
    kind = float if key == "validation_score" else np.float64
    curves = [[kind(record[key]) for record in own if key in record] for own in state.history]
    if key == "validation_loss" and not any(curves):
        return None
    return curves[0] if len(curves) == 1 else curves


def per_member(values: Sequence[Any]) -> Any:
    """Return the value of a single member, or an array with those of several."""
    return values[0] if len(values) == 1 or values[0] is None else np.array(values)


@dataclass(frozen=True)
class LossCurves:
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


def get_full_history(estimator: Any) -> list[LossCurves]:
    """Return the losses and scores of each member over all fits, including earlier warm starts.

    Parameters
    ----------
    estimator : estimator
        A fitted network of this package, or another estimator with a ``loss_curve_``, such as
        scikit-learn's networks.

    Returns
    -------
    histories : list of LossCurves
        One for each member. The best epoch is counted over all fits as well.
    """
    is_ours = hasattr(estimator, "best_iter_")
    n_estimators = np.size(estimator.best_iter_) if is_ours else 1
    curves = [_get_curves(estimator, name, n_estimators) for name in CURVES]
    if is_ours:
        best = np.atleast_1d(estimator.best_iter_)
        if not estimator._was_incremental:  # best_iter_ is counted in the last fit
            best = best + [len(losses) for losses in curves[0]] - estimator.n_iter_
        best_epochs = best.tolist()
    else:  # scikit-learn keeps the first of equal best scores
        best_epochs = [1 + int(np.argmax(scores)) if scores else 0 for scores in curves[2]]
    return [LossCurves(*member) for member in zip(*curves, best_epochs, strict=True)]


def _get_curves(estimator: Any, name: str, n_estimators: int) -> Sequence[list[float]]:
    """Return copies of a curve of each member; empty lists if the estimator has none."""
    value = getattr(estimator, name, None)
    if value is None:
        return [[] for _ in range(n_estimators)]
    return [list(curve) for curve in ([value] if n_estimators == 1 else value)]
