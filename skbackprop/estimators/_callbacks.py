"""Calls of an estimator's callbacks, in scikit-learn's protocol."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

from ..training.loop import TrainingLoop
from ..training.training_run import (
    INTERRUPTS,
    EpochObserver,
    Interrupt,
    RunSnapshots,
    TrainingRun,
)
from ._checkpoint_io import describe_settings
from ._fit_context import FitArguments

MakeAttributes: TypeAlias = Callable[
    [Mapping[str, str] | None, Sequence[TrainingRun]], dict[str, Any] | None
]


class CallbackRunner(EpochObserver):
    """Calls the hooks of an estimator's callbacks while it is fitted.

    The task of the fit has a subtask for each epoch, or iteration of L-BFGS. Several networks that
    L-BFGS trains one after the other have a task each, with their iterations as subtasks. There is
    no fitted estimator before the last of them is trained.

    Parameters
    ----------
    estimator : estimator
        The estimator, which does not change.
    arguments : FitArguments
        The arguments of `fit`.
    runs : list of TrainingRun
        The runs.
    make_attributes : callable
        Returns the fitted attributes for the arguments (settings, unfinished runs).
    """

    def __init__(
        self,
        estimator: Any,
        arguments: FitArguments,
        runs: list[TrainingRun],
        make_attributes: MakeAttributes,
    ) -> None:
        config, weight = runs[0].config, arguments.sample_weight
        self._estimator, self._runs, self._make_attributes = estimator, runs, make_attributes
        self.needs_checkpoints = any(
            getattr(callback, "resumes", False) for callback in estimator._skl_callbacks
        )
        self._settings = describe_settings(estimator, config) if self.needs_checkpoints else None
        self._data = {
            "X": arguments.X,
            # The targets of an autoencoder are its input.
            "y": arguments.X if arguments.y is None else arguments.y,
            "metadata": None if weight is None else {"sample_weight": weight},
        }
        self._is_lbfgs, self._max_iter = config.is_lbfgs, config.max_iter
        self._has_members = config.is_lbfgs and len(runs) > 1
        n_tasks = len(runs) if self._has_members else self._n_epochs
        self._fit = estimator._init_callback_context(max_subtasks=n_tasks)
        self._parent = self._fit  # of the epochs
        self._epoch: Any = None

    @property
    def _n_epochs(self) -> int:
        # SciPy may stop in the midst of a last iteration, which does not count.
        return self._max_iter + self._is_lbfgs

    def train(self, loop: TrainingLoop) -> Interrupt | None:
        """Train all runs with the hooks of the fit; return the interrupt, if there is one."""
        self._fit.call_on_fit_task_begin(**self._hook_arguments())
        n_iter = [run.n_iter for run in self._runs if run.stop_reason is None]
        if not self._is_lbfgs:  # which repeats the epochs of a checkpoint
            for _ in range(min(n_iter, default=0)):
                self.skip_epoch()
        interrupt = loop.train(self)
        if interrupt is None:
            copies = [run.snapshot() for run in self._runs]
            try:
                self._fit.call_on_fit_task_end(**self._hook_arguments(lambda: copies))
            except INTERRUPTS as late:  # training is over, and kept
                return late
        return interrupt

    def skip_epoch(self) -> None:
        """Count an epoch from before a checkpoint, so that the next has its number."""
        self._next_epoch()

    def on_epoch_begin(self, snapshots: RunSnapshots) -> None:
        """Call the hooks for the start of an epoch."""
        self._epoch = self._next_epoch()
        self._epoch.call_on_fit_task_begin(**self._epoch_arguments(snapshots))

    def on_epoch_end(self, snapshots: RunSnapshots) -> bool:
        """Call the hooks for the end of an epoch; return whether one of them stops training."""
        return bool(self._epoch.call_on_fit_task_end(**self._epoch_arguments(snapshots)))

    def on_member_begin(self, member: int) -> EpochObserver:
        """Call the hooks for the start of a network that L-BFGS trains."""
        if self._has_members:
            self._parent = self._fit.subcontext("member", max_subtasks=self._n_epochs)
            self._parent.call_on_fit_task_begin(**self._hook_arguments())
        return self

    def on_member_end(self) -> None:
        """Call the hooks for its end; they cannot end the training of the others."""
        if self._has_members:
            self._parent.call_on_fit_task_end(**self._hook_arguments())

    def _next_epoch(self) -> Any:
        return self._parent.subcontext("iteration" if self._is_lbfgs else "epoch")

    def _epoch_arguments(self, snapshots: RunSnapshots) -> dict[str, Any]:
        # There is no fitted estimator of some of the networks.
        return self._hook_arguments(None if self._has_members else snapshots)

    def _hook_arguments(self, snapshots: RunSnapshots | None = None) -> dict[str, Any]:
        """Return the arguments of hooks; the fitted estimator is made when one asks for it."""
        arguments = {"estimator": self._estimator, **self._data}
        if snapshots is not None:
            arguments["reconstruction_attributes"] = lambda: self._make_attributes(
                self._settings, snapshots()
            )
        return arguments
