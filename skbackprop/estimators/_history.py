"""Loss curves of estimators, and their training history for callbacks and displays."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..training.checkpoint import History
from ..training.training_run import TrainingRun
from ..utils.arrays import Array

CURVES = ("loss_curve_", "validation_loss_curve_", "validation_scores_")

# Attributes with losses and scores of each network, which further training continues.
HISTORY_ATTRIBUTES = (
    "loss_curve_",
    "best_loss_",
    "validation_loss_curve_",
    "validation_scores_",
    "best_validation_score_",
    "best_iter_",
)


class ImmutableCurve:
    """Immutable loss curve: the first numbers of a list that longer curves share.

    Curves that continue it share its list; each knows how much of it is its own. Only the longest
    is extended in place, a shorter one is copied first.

    Parameters
    ----------
    numbers : list of float, or array
        The numbers. A list is used as it is, an array becomes a list of NumPy scalars.
    """

    def __init__(self, numbers: list[float] | Array) -> None:
        self._numbers = numbers if isinstance(numbers, list) else list(numbers)
        self._n = len(numbers)

    def __repr__(self) -> str:
        return f"ImmutableCurve({self._numbers[: self._n]})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy its own numbers only; NumPy scalars as one array."""
        own = self.numbers[: self._n]
        are_scalars = bool(own) and all(isinstance(number, np.float64) for number in own)
        return ImmutableCurve, (np.array(own) if are_scalars else own,)

    def __len__(self) -> int:
        return self._n

    @property
    def numbers(self) -> list[float]:
        """The numbers: the shared list itself if nothing has been added to it, else a copy."""
        return self._numbers if len(self._numbers) == self._n else self._numbers[: self._n]

    def extended(self, more: list[float]) -> ImmutableCurve:
        """Return this curve with more numbers at its end."""
        numbers = self.numbers
        numbers += more
        return ImmutableCurve(numbers)


def extend_curve(past: Any, more: list[float]) -> ImmutableCurve:
    """Return a curve that continues another one, a list set by the user, or None."""
    curve = past if isinstance(past, ImmutableCurve) else ImmutableCurve(list(past or []))
    return curve.extended(more)


class HistoryAttribute:
    """A fitted attribute that is stored as an `ImmutableCurve` and read as a list.

    With several networks it is a list of such lists; it may be None.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, estimator: Any, owner: type) -> Any:
        if estimator is None:
            return self
        try:
            kept = vars(estimator)[self._name]
        except KeyError:
            raise AttributeError(
                f"{owner.__name__!r} object has no attribute {self._name!r}"
            ) from None
        return [_as_list(each) for each in kept] if isinstance(kept, list) else _as_list(kept)

    def __set__(self, estimator: Any, value: Any) -> None:
        vars(estimator)[self._name] = value


def _as_list(kept: Any) -> Any:
    return kept.numbers if isinstance(kept, ImmutableCurve) else kept


def make_history_attributes(
    runs: Sequence[TrainingRun], before: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Return the fitted attributes about the training of runs, which continue those `before`."""
    histories = zip(*map(_continue_history, runs, before), strict=True)
    values: dict[str, list[Any]] = {
        "n_iter_": [run.n_iter for run in runs],
        "converged_": [run.is_converged for run in runs],
        "t_": [run.n_samples_seen for run in runs],
        "loss_": [np.float64(run.history.loss) for run in runs],
        **dict(zip(HISTORY_ATTRIBUTES, map(list, histories), strict=True)),
    }
    return {name: _per_member(each) for name, each in values.items()}


def _continue_history(run: TrainingRun, before: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the history attributes of one network, which continue those `before`."""
    history, best = run.history, run.history.best
    # Losses are NumPy scalars, as in scikit-learn: they have methods such as round.
    losses = extend_curve(before.get("loss_curve_"), list(map(np.float64, history.losses)))
    # A call without validation data keeps the curve of earlier calls.
    validation_losses = before.get("validation_loss_curve_")
    if run.validation_data is not None:
        validation_losses = extend_curve(
            validation_losses, list(map(np.float64, history.validation_losses))
        )
    # The best of partial_fit is that of all calls.
    continues_best = run.incremental and bool(before)
    best_iter: Any = history.best_epoch
    if run.config.stopping is not None:
        scores = extend_curve(before.get("validation_scores_"), history.validation_scores)
        best_score: Any = -math.inf if best is None else best.score
        if best is None and not history.validation_scores:
            # With validation data it is a float, even if L-BFGS made no iteration to score.
            unscored = None if run.validation_data is None else math.nan
            best_score = before.get("best_validation_score_") if continues_best else unscored
        elif best is not None and run.incremental:  # counted in the scores of all calls
            best_iter = len(scores) if best.n_iter else before.get("best_iter_")
        return losses, None, validation_losses, scores, best_score, best_iter
    best_loss = min(history.losses, default=np.inf)
    if continues_best and before["best_loss_"] is not None:
        best_loss = min(best_loss, before["best_loss_"])
    return losses, np.float64(best_loss), validation_losses, None, None, best_iter


def _per_member(values: list[Any]) -> Any:
    """Return the value of a single member, or an array or list with those of several."""
    if len(values) == 1 or values[0] is None:
        return values[0]
    return values if isinstance(values[0], ImmutableCurve) else np.array(values)


def get_current_history(fitted_estimator: Any) -> Sequence[History]:
    """Return the history of each member in the current fit, for callbacks.

    Parameters
    ----------
    fitted_estimator : estimator or None
        The estimator as if training ended now.

    Returns
    -------
    histories : sequence of History
        One for each member; empty for None and for estimators of other packages.
    """
    return getattr(fitted_estimator, "_histories", ())


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


def _get_curves(estimator: Any, name: str, n_estimators: int) -> list[list[float]]:
    """Return copies of a curve of each member; empty lists if the estimator has none."""
    value = getattr(estimator, name, None)
    if value is None:
        return [[] for _ in range(n_estimators)]
    return [list(curve) for curve in ([value] if n_estimators == 1 else value)]
