"""Calls of an estimator's callbacks, in scikit-learn's protocol."""

from __future__ import annotations

from typing import Any

from ..training.diagnostics import has_failed
from ..training.epochs import GetState


class CallbackHook:
    """Calls the hooks of an estimator's callbacks while it is fitted.

    The task of the fit has a subtask for each epoch; with L-BFGS it has one for all iterations.

    Parameters
    ----------
    estimator : estimator
        The estimator, which does not change.
    task : PreparedFit
        The fit.
    X, y, sample_weight
        The arguments of `fit`.
    """

    def __init__(self, estimator: Any, task: Any, X: Any, y: Any, sample_weight: Any) -> None:
        self._estimator, self._task = estimator, task
        self._arguments = {
            "estimator": estimator,
            "X": X,
            "y": X if y is None else y,  # the targets of an autoencoder are its input
            "metadata": None if sample_weight is None else {"sample_weight": sample_weight},
        }
        max_iter = 1 if task.config.is_lbfgs else task.config.max_iter
        self._fit = estimator._init_callback_context(max_subtasks=max_iter)
        self._fit.call_on_fit_task_begin(**self._arguments)
        for _ in range(int(task.state.epoch.min())):  # of a checkpoint that training resumes from
            self._fit.subcontext("epoch")
        self._epoch = self._begin_epoch()

    def _begin_epoch(self) -> Any:
        epoch = self._fit.subcontext("epoch")
        epoch.call_on_fit_task_begin(**self._arguments)
        return epoch

    def on_epoch(self, get_state: GetState) -> bool:
        """Call the hooks for an epoch; return whether one of them stops training."""
        stops = self._epoch.call_on_fit_task_end(**self._with_state(get_state))
        if not stops and get_state().is_active:
            self._epoch = self._begin_epoch()
        return bool(stops)

    def end(self, get_state: GetState) -> None:
        """Call the hooks for the end of training; there is no fitted estimator if it failed."""
        state, is_incremental = get_state(), self._task.incremental
        failed = any(has_failed(state, i, is_incremental) for i in range(len(state)))
        self._fit.call_on_fit_task_end(
            **(self._arguments if failed else self._with_state(get_state))
        )

    def _with_state(self, get_state: GetState) -> dict[str, Any]:
        """Return the arguments of hooks; the fitted estimator is made when one asks for it."""

        def attributes() -> dict[str, Any]:
            state = get_state()
            fitted: dict[str, Any] = self._estimator._finish(self._task, state.copy())
            return fitted | {"_training_state": state, "_task": self._task}

        return self._arguments | {"reconstruction_attributes": attributes}
