"""Trials of Optuna that end early: what each epoch comes to is reported, and losers are pruned."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from ..estimators._history import History, history_of
from ..estimators.base import BaseNeuralNetwork
from ..utils.optional_dependencies import require_extra
from ..utils.validation import did_you_mean

Value: TypeAlias = Literal["validation_score", "validation_loss", "loss"]
"""What can be reported of an epoch."""


class OptunaPruningCallback:
    """Reports each epoch to a trial of Optuna, and ends training where the trial is pruned.

    Optuna's pruners compare a trial with others at the same epoch: one that is behind ends there,
    with the error `optuna.TrialPruned`, which passes through `fit` and tells the study. The network
    is then left as it was before.

    Parameters
    ----------
    trial : optuna.trial.Trial
        The trial that the fit belongs to.
    of : {"validation_score", "validation_loss", "loss"}, default="validation_score"
        What is reported: the score of the rows that are held out by ``early_stopping=True`` or
        given as ``X_val``, their loss, or the training loss. Of an ensemble it is the mean over
        its members. The study has to maximise a score, and to minimise a loss.

    Raises
    ------
    ImportError
        When a fit begins, if Optuna is not installed: ``pip install "skbackprop[optuna]"``.
    TypeError
        When a fit begins, if it is not one of an estimator of this package. Set it on the network
        itself, not on a pipeline around it.
    ValueError
        If `of` is none of the three; when a fit begins, if the study goes in the other direction;
        after the first epoch, if there is no such value.
    optuna.TrialPruned
        After an epoch, if the trial is to be pruned.

    See Also
    --------
    BackpropHalvingRandomSearchCV : A search that drops losers by itself, and trains in stacks.

    Notes
    -----
    Epochs are Optuna's steps, counted from 1. A value that is not finite is reported as NaN, which
    pruners take for the worst.

    References
    ----------
    Akiba, T., Sano, S., Yanase, T., Ohta, T. & Koyama, M. (2019). Optuna: a next-generation
    hyperparameter optimization framework. KDD.

    Examples
    --------
    >>> import numpy as np
    >>> import optuna
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.callbacks import OptunaPruningCallback
    >>> X, y = load_iris(return_X_y=True)
    >>> def objective(trial):
    ...     rate = trial.suggest_float("learning_rate_init", 1e-4, 1e-1, log=True)
    ...     model = BackpropClassifier(
    ...         (16,),
    ...         learning_rate_init=rate,
    ...         early_stopping=True,
    ...         n_iter_no_change=np.inf,
    ...         max_iter=30,
    ...         random_state=0,
    ...     )
    ...     model.set_callbacks(OptunaPruningCallback(trial)).fit(X, y)
    ...     return model.best_validation_score_
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study(
    ...     direction="maximize", sampler=optuna.samplers.TPESampler(seed=0)
    ... )
    >>> study.optimize(objective, n_trials=5)
    >>> study.best_value > 0.8
    True
    """

    def __init__(self, trial: Any, of: Value = "validation_score") -> None:
        if of not in get_args(Value):
            names = list(get_args(Value))
            raise ValueError(f"of must be one of {names}, got {of!r}.{did_you_mean(of, names)}")
        self.trial, self.of = trial, of

    def __repr__(self) -> str:
        return f"OptunaPruningCallback({self.trial!r}, of={self.of!r})"

    def setup(self, estimator: Any, context: Any) -> None:
        """Check that the fit has epochs to report, and that the study goes in their direction."""
        _optuna()
        if not isinstance(estimator, BaseNeuralNetwork):
            raise TypeError(
                f"OptunaPruningCallback follows the epochs of a network of skbackprop, but "
                f"{type(estimator).__name__} has none. Call set_callbacks on the network itself: "
                "model[-1], if it ends a pipeline."
            )
        expected = "maximize" if self.of == "validation_score" else "minimize"
        study = getattr(self.trial, "study", None)  # a FixedTrial has none
        direction = expected if study is None else study.directions[0].name.lower()
        if direction != expected:
            raise ValueError(
                f'of={self.of!r} asks for direction="{expected}", but the study has '
                f'direction="{direction}". Create it anew, or report something else.'
            )

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Report an epoch, and end training if the trial is pruned."""
        progress = history_of(fitted_estimator)
        if context.task_name not in ("epoch", "iteration") or not progress:
            return
        epoch = context.task_id + 1
        self.trial.report(self._value(progress), epoch)
        if self.trial.should_prune():
            raise _optuna().TrialPruned(f"{self.of} after epoch {epoch}")

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def _value(self, progress: list[History]) -> float:
        """Return the mean of what the members have come to; who has stopped stays where it is."""
        curves = [_curve(member, self.of) for member in progress]
        if not all(curves):
            raise ValueError(
                f"There is no {self.of} to report: no rows are held out. Set "
                'early_stopping=True, or report of="loss".'
            )
        value = float(np.mean([curve[-1] for curve in curves]))
        return value if math.isfinite(value) else math.nan


def _curve(progress: History, of: Value) -> list[float]:
    if of == "loss":
        return progress.losses
    return progress.validation_losses if of == "validation_loss" else progress.validation_scores


def _optuna() -> Any:
    with require_extra("OptunaPruningCallback", extra="optuna"):
        import optuna
    return optuna
