"""Callback that reports epochs to Optuna and stops pruned trials."""

from __future__ import annotations

import math
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from ..estimators.base import BaseNeuralNetwork
from ..utils.validation import require_extra

MonitoredValue: TypeAlias = Literal["validation_score", "validation_loss", "loss"]
"""The values of an epoch that can be reported."""


class OptunaPruningCallback:
    """Callback that reports each epoch to an Optuna trial and stops training if it is pruned.

    Optuna's pruners compare a trial with other trials at the same epoch. If the trial is pruned,
    `fit` raises `optuna.TrialPruned`, which tells the study. The estimator then stays as it was
    before `fit`.

    Parameters
    ----------
    trial : optuna.trial.Trial
        The trial that the fit belongs to.
    monitor : {"validation_score", "validation_loss", "loss"}, default="validation_score"
        The value to report: the score or the loss of the validation rows, which
        ``early_stopping=True`` holds out or ``X_val`` gives, or the training loss. For an
        ensemble, the mean over its members. The study must maximize a score and minimize a loss.

    Raises
    ------
    ImportError
        When a fit begins, if Optuna is not installed: ``pip install "skbackprop[optuna]"``.
    TypeError
        When a fit begins, if the estimator is not a network of this package. Set the callback on
        the network itself, not on a pipeline around it.
    ValueError
        If `monitor` is not one of these values; when a fit begins, if the study has the other
        direction; after the first epoch, if there are no validation rows.
    optuna.TrialPruned
        After an epoch, if the trial is pruned.

    See Also
    --------
    BackpropHalvingRandomSearchCV : Drops bad candidates early, without Optuna.

    Notes
    -----
    Optuna's steps are epochs, counted from 1. A value that is not finite is reported as NaN, which
    pruners rank last. A fit by L-BFGS has a single step, at its end, so it is not ended early.

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

    def __init__(self, trial: Any, monitor: MonitoredValue = "validation_score") -> None:
        if monitor not in get_args(MonitoredValue):
            names = list(get_args(MonitoredValue))
            raise ValueError(f"monitor must be one of {names}, got {monitor!r}.")
        self.trial, self.monitor = trial, monitor

    def __repr__(self) -> str:
        return f"OptunaPruningCallback({self.trial!r}, monitor={self.monitor!r})"

    def setup(self, estimator: Any, context: Any) -> None:
        """Check that the estimator trains in epochs and the study has the right direction."""
        _import_optuna()
        if not isinstance(estimator, BaseNeuralNetwork):
            raise TypeError(
                "OptunaPruningCallback must be set on a skbackprop network, got a "
                f"{type(estimator).__name__}. Call set_callbacks on the network itself, such as "
                "model[-1] of a pipeline."
            )
        expected = "maximize" if self.monitor == "validation_score" else "minimize"
        study = getattr(self.trial, "study", None)  # a FixedTrial has none
        direction = expected if study is None else study.directions[0].name.lower()
        if direction != expected:
            raise ValueError(
                f'monitor={self.monitor!r} needs direction="{expected}", but the study has '
                f'direction="{direction}". Create a new study, or monitor another value.'
            )

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Report an epoch, and stop training if the trial is pruned."""
        if context.task_name != "epoch" or fitted_estimator is None:
            return
        epoch = context.task_id + 1
        self.trial.report(self._mean_last_value(fitted_estimator._state.history), epoch)
        if self.trial.should_prune():
            raise _import_optuna().TrialPruned(f"{self.monitor} after epoch {epoch}")

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def _mean_last_value(self, history: list[list[dict[str, Any]]]) -> float:
        """Return the mean of the last value of each member, also of members that have stopped."""
        last = [records[-1] for records in history]
        if not all(self.monitor in record for record in last):
            raise ValueError(
                f"monitor={self.monitor!r} needs validation rows, but no rows are held out. Set "
                'early_stopping=True, or monitor="loss".'
            )
        value = float(np.mean([record[self.monitor] for record in last]))
        return value if math.isfinite(value) else math.nan


def _import_optuna() -> Any:
    with require_extra("OptunaPruningCallback", extra="optuna"):
        import optuna
    return optuna
