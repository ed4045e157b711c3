"""The hooks of an estimator's callbacks, in scikit-learn's protocol: of a fit and of its epochs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ..training.callbacks import INTERRUPTS, EpochObserver, Interrupt, Standing
from ..training.lbfgs_training import LBFGSLoop
from ..training.loop import TrainingLoop
from ..training.training_run import TrainingRun
from ._checkpoint_io import describe_settings_of
from ._data_info import FitArguments

Attributes: TypeAlias = Callable[
    ["Mapping[str, str] | None", Sequence[TrainingRun]], "Mapping[str, Any] | None"
]
"""Returns what the estimator's fitted attributes would be; None if these runs have failed.

The first argument is what `describe_settings_of` returns, if another process is to go on from them.
"""


class CallbackRunner(EpochObserver):
    """Calls the hooks of an estimator's callbacks while it is fitted.

    The task of the fit has a subtask for each epoch, or iteration of L-BFGS. Members that L-BFGS
    trains one after the other have a task each, with their iterations as subtasks: there is no
    estimator of them before the last is trained.

    Parameters
    ----------
    estimator : estimator
        The estimator, which stays as it is.
    given : Given
        What it is fitted to, as the user gives it.
    runs : sequence of Run
        What is trained.
    attributes : callable
        Makes fitted attributes of runs as they stand.
    """

    def __init__(
        self,
        estimator: Any,
        given: FitArguments,
        runs: Sequence[TrainingRun],
        attributes: Attributes,
    ) -> None:
        config, weight = runs[0].config, given.sample_weight
        self._estimator, self._attributes, self._runs = estimator, attributes, runs
        self.needs_moments = any(
            getattr(callback, "resumes", False) for callback in estimator._skl_callbacks
        )
        self._settings = describe_settings_of(estimator, config) if self.needs_moments else None
        self._data = {
            "X": given.X,
            # An autoencoder's targets are its input.
            "y": given.X if given.y is None else given.y,
            "metadata": None if weight is None else {"sample_weight": weight},
        }
        self._is_lbfgs, self._max_iter = config.is_lbfgs, config.max_iter
        self._has_members = config.is_lbfgs and len(runs) > 1
        n_tasks = len(runs) if self._has_members else self._n_epochs
        self._fit = estimator._init_callback_context(max_subtasks=n_tasks)
        self._above = self._fit  # whose subtasks the epochs are
        self._epoch: Any = None

    @property
    def _n_epochs(self) -> int:
        # SciPy may give up in the midst of a last iteration that does not count.
        return self._max_iter + self._is_lbfgs

    def train(self, loop: TrainingLoop | LBFGSLoop) -> Interrupt | None:
        """Train all runs with the hooks of the fit; return the interrupt, if there is one."""
        self._fit.call_on_fit_task_begin(**self._told())
        n_iter = [run.n_iter for run in self._runs if run.ending is None]
        if not self._is_lbfgs:  # which goes through the epochs of a checkpoint again
            for _ in range(min(n_iter, default=0)):
                self.skip_epoch()
        interrupt = loop.train(self)
        if interrupt is None:
            copies = [run.copy_at(run.record, run.state.copy()) for run in self._runs]
            try:
                self._fit.call_on_fit_task_end(**self._told(lambda: copies))
            except INTERRUPTS as late:  # training is over, and kept
                return late
        return interrupt

    def skip_epoch(self) -> None:
        """Count an epoch that a resumed fit has had before, so that the next has its number."""
        self._next_epoch()

    def on_epoch_begin(self, standing: Standing) -> None:
        """Call the hooks for the beginning of an epoch."""
        self._epoch = self._next_epoch()
        self._epoch.call_on_fit_task_begin(**self._told_of_epoch(standing))

    def on_epoch_end(self, standing: Standing) -> bool:
        """Call the hooks for its end; return whether one of them wants training to end."""
        return bool(self._epoch.call_on_fit_task_end(**self._told_of_epoch(standing)))

    def on_member_begin(self, member: int) -> EpochObserver:
        """Call the hooks for the beginning of a member that L-BFGS trains."""
        if self._has_members:
            self._above = self._fit.subcontext("member", max_subtasks=self._n_epochs)
            self._above.call_on_fit_task_begin(**self._told())
        return self

    def on_member_end(self) -> None:
        """Call the hooks for its end; they can't leave the other members untrained."""
        if self._has_members:
            self._above.call_on_fit_task_end(**self._told())

    def _next_epoch(self) -> Any:
        return self._above.subcontext("iteration" if self._is_lbfgs else "epoch")

    def _told_of_epoch(self, standing: Standing) -> dict[str, Any]:
        # Of some members alone there is no estimator.
        return self._told(None if self._has_members else standing)

    def _told(self, standing: Standing | None = None) -> dict[str, Any]:
        """Return what hooks may ask for; the fitted estimator is made once one does."""
        told = {"estimator": self._estimator, **self._data}
        if standing is not None:
            told["reconstruction_attributes"] = lambda: self._attributes(self._settings, standing())
        return told
