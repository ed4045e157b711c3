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
        self._fit_context = estimator._init_callback_context(max_subtasks=max_iter)
        self._fit_context.call_on_fit_task_begin(**self._arguments)
        for _ in range(int(task.state.epoch.min())):  # epochs before a checkpoint
            self._fit_context.subcontext("epoch")
        self._epoch_context = self._begin_epoch()

    def _begin_epoch(self) -> Any:
        epoch = self._fit_context.subcontext("epoch")
        epoch.call_on_fit_task_begin(**self._arguments)
        return epoch

    def on_epoch(self, get_state: GetState) -> bool:
        """Call the hooks for an epoch; return whether one of them stops training."""
        should_stop = self._epoch_context.call_on_fit_task_end(**self._with_state(get_state))
        if not should_stop and get_state().is_active:
            self._epoch_context = self._begin_epoch()
        return bool(should_stop)

    def end(self, get_state: GetState) -> None:
        """Call the hooks for the end of training, without a fitted estimator if it failed."""
        state, is_incremental = get_state(), self._task.incremental
        has_no_result = any(has_failed(state, i, is_incremental) for i in range(len(state)))
        self._fit_context.call_on_fit_task_end(
            **(self._arguments if has_no_result else self._with_state(get_state))
        )

    def _with_state(self, get_state: GetState) -> dict[str, Any]:
        """Return the arguments of hooks; a fitted estimator is made only if a hook needs it."""

        def attributes() -> dict[str, Any]:
            state = get_state()
            fitted_attributes: dict[str, Any] = self._estimator._finish(self._task, state.copy())
            return fitted_attributes | {"_training_state": state, "_task": self._task}

        return self._arguments | {"reconstruction_attributes": attributes}
