"""Fit several estimators together, with the results of fitting each alone."""

from __future__ import annotations

import copy
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral
from typing import Any, TypeAlias

from ..training.checkpoint import TrainingCheckpoint
from ..training.config import TrainingConfig
from ..training.diagnostics import distinct_warnings
from ..training.loop import EpochReport, TrainingLoop
from ..training.random_states import make_rng_from_global_state
from ..training.training_run import NO_OBSERVER, EpochObserver, TrainingRun
from ..utils.equality import group_by_equality, is_equal
from ._checkpoint_io import data_fingerprint
from ._fit_context import FitArguments, FitContext, ValidatedParams
from .base import (
    BaseNeuralNetwork,
    finish_fit,
    make_fit_context,
    make_shared_fit_context,
    validate_params,
)


class FitJob:
    """An estimator, the data to fit it to, and the outcome.

    Parameters
    ----------
    estimator : BaseNeuralNetwork
        The estimator; `fit_many` fits it.
    X, y : array-like
        The data.
    fit_params : dict
        Further arguments of `fit`.
    params : ValidatedParams or None, default=None
        The validated parameters; None to validate them.

    Attributes
    ----------
    start : list of TrainingCheckpoint or None
        The state of an estimator like this one to resume from, if it has the same data.
    checkpoints : list of TrainingCheckpoint or None
        The state of each network to resume training from, after a pause that was no failure.
    restarted : bool
        Whether training was to resume from a state of other data, and started again instead.
    error : Exception or None
        The error that `fit` alone would have raised.
    traceback : str or None
        The traceback of the error, as Python prints it.
    warnings : list of str
        The warnings about how training ended, which are not issued.
    seconds : float
        The fit time. The members of a stack share that of an epoch equally.
    """

    def __init__(
        self,
        estimator: BaseNeuralNetwork,
        X: Any,
        y: Any,
        fit_params: dict[str, Any],
        params: ValidatedParams | None = None,
    ) -> None:
        self.estimator, self.X, self.y, self.fit_params = estimator, X, y, fit_params
        self._validated_params = params
        self.start: list[TrainingCheckpoint] | None = None
        self.checkpoints: list[TrainingCheckpoint] | None = None
        self.restarted = False
        self.error: Exception | None = None
        self.traceback: str | None = None
        self.warnings: list[str] = []
        self.seconds = 0.0
        self.context: FitContext | None = None
        self._template: FitJob | None = None  # the job that has prepared the same data
        self._data: int | None = None  # the fingerprint of the data, once computed
        # The user's random stream before training draws from it.
        self._random_state = copy.deepcopy(estimator.random_state)

    def prepare(self, template: FitJob | None = None) -> None:
        """Validate parameters and data, and make the runs; `template` is a job with this data."""
        with self._record_errors():
            params = self._validated_params or validate_params(self.estimator)
            start = None
            if template is None or template.context is None:
                arguments = FitArguments(self.X, self.y, **self.fit_params)
                context = make_fit_context(self.estimator, arguments, params)
            else:
                start = self._shared_initial_state(params.config, template, template.context)
                starts = None if start is None else [start]
                context = make_shared_fit_context(self.estimator, params, template.context, starts)
            first = context.runs[0]
            first.shares_rng = start is not None
            if self.estimator.random_state is None:
                # Not NumPy's global stream, which the other fits would draw from as well.
                first.state = replace(first.state, rngs=[make_rng_from_global_state()])
            self.context, self._template = context, template
            if self.start is not None:
                self.restarted = self.start[0].data_fingerprint != self.fingerprint(context)
                if not self.restarted:
                    for run, checkpoint in zip(context.runs, self.start, strict=True):
                        run.resume(checkpoint)

    def _shared_initial_state(
        self, config: TrainingConfig, template: FitJob, other: FitContext
    ) -> TrainingCheckpoint | None:
        """Return the initial state of the only network if it is known without drawing it.

        It is if training resumes, or if `template` has the same seed and the same data.
        """
        seed = self.estimator.random_state
        other_config = other.params.config
        if not (
            config.n_estimators == other_config.n_estimators == 1
            and isinstance(seed, Integral)
            and is_equal(
                *([of.architecture, of.initial, of.stopping] for of in (config, other_config))
            )
        ):
            return None
        if self.start is not None:
            is_same = self.start[0].data_fingerprint == template.fingerprint(other)
            return self.start[0].copy_initial_state() if is_same else None
        if template.start is not None or not is_equal(seed, template.estimator.random_state):
            return None
        (run,) = other.runs
        run.shares_rng = True
        return run.checkpoint.copy_initial_state()

    def fingerprint(self, context: FitContext) -> int:
        """Return the fingerprint of the data, computed once for all jobs that share it."""
        if self._template is not None:
            return self._template.fingerprint(context)
        if self._data is None:
            self._data = data_fingerprint(context.runs[0].task)
        return self._data

    @property
    def runs(self) -> list[TrainingRun]:
        """The runs to train; empty after a failure and after training."""
        return self.context.runs if self.context else []

    def finish(self, resumes: bool = False) -> None:
        """Set the fitted attributes, and the state to resume from if training continues later."""
        self.seconds += sum(run.seconds for run in self.runs)
        if self.context is not None:
            context, self.context = self.context, None
            with self._record_errors():
                self.warnings = distinct_warnings(context.runs)
                for run in context.runs:
                    run.warnings = []
                finish_fit(self.estimator, context)
                if resumes:
                    data = self.fingerprint(context)
                    self.checkpoints = [run.checkpoint.for_transfer(data) for run in context.runs]

    def fit_alone(self, pause_epoch: int | None = None) -> None:
        """Fit the estimator again, by itself; up to the epoch `pause_epoch`, if there is one."""
        self.context = None
        self.estimator.random_state = self._random_state
        if pause_epoch is not None:
            self.prepare()
        with self._record_errors():
            if pause_epoch is None:
                self.estimator.fit(self.X, self.y, **self.fit_params)
            else:
                if runs := _select_unfinished(self.runs, pause_epoch):
                    _train(TrainingLoop(runs, pause_epoch=pause_epoch))
                self.finish(resumes=True)

    def has_same_data(self, other: FitJob) -> bool:
        """Return whether both have the very same data, to be validated in the same way."""
        mine, theirs = self.estimator, other.estimator
        return (
            self.X is other.X
            and self.y is other.y
            and self.fit_params is other.fit_params
            and type(mine) is type(theirs)
            and all(
                is_equal(getattr(mine, name, None), getattr(theirs, name, None))
                for name in ("dtype", "loss", "scale_target", "class_weight")
            )
        )

    @contextmanager
    def _record_errors(self) -> Iterator[None]:
        """Record an error instead of raising it, and the time in any case."""
        start = time.perf_counter()
        try:
            yield
        except Exception as error:
            self.error, self.traceback = error, traceback.format_exc()
            self.context, self.estimator.random_state = None, self._random_state
        self.seconds += time.perf_counter() - start


MakeObserver: TypeAlias = Callable[[Sequence[FitJob]], EpochObserver]
"""Returns the observer of fits that are trained side by side."""


def fit_many(
    fits: Sequence[FitJob],
    max_bytes: int,
    report: EpochReport | None = None,
    make_observer: MakeObserver | None = None,
    pause_epoch: int | None = None,
) -> None:
    """Fit unfitted estimators, with networks of one shape in one stack.

    Each ends exactly as after `fit` alone, to the bit with one BLAS thread, and fails where that
    would fail. If they fail together but none fails alone, there is a RuntimeWarning.

    Parameters
    ----------
    fits : sequence of FitJob
        The estimators and their data. On return each is fitted or has its error set.
    max_bytes : int
        The memory that a stack may take.
    report : callable or None, default=None
        Called after each epoch of a stack, as `EpochReport` says.
    make_observer : callable or None, default=None
        Returns the `EpochObserver` of fits that are trained side by side; None for no observer.
    pause_epoch : int or None, default=None
        The epoch after which training pauses, to be resumed from the `checkpoints` of each fit;
        None to train to the end.
    """
    for i, fit in enumerate(fits):
        fit.prepare(
            next((known for known in fits[:i] if known.runs and fit.has_same_data(known)), None)
        )
    owners = {id(run): fit for fit in fits for run in fit.runs}
    runs = _select_unfinished([run for fit in fits for run in fit.runs], pause_epoch)
    shapes = [None if run.config.is_lbfgs else [*run.stacking_key, run.n_done] for run in runs]
    for group in group_by_equality(runs, shapes):
        trained = list(dict.fromkeys(owners[id(run)] for run in group))
        observer = NO_OBSERVER if make_observer is None else make_observer(trained)
        try:
            _train(TrainingLoop(group, max_bytes, report, pause_epoch), observer)
        except Exception as error:
            if error is observer.error:
                raise
            _fit_one_by_one(trained, error, pause_epoch)
    for fit in fits:
        fit.finish(resumes=pause_epoch is not None)


def _select_unfinished(runs: Sequence[TrainingRun], pause_epoch: int | None) -> list[TrainingRun]:
    """Return the runs that have neither ended nor reached the epoch `pause_epoch`."""
    return [
        run
        for run in runs
        if run.stop_reason is None and (pause_epoch is None or run.n_iter < pause_epoch)
    ]


def _fit_one_by_one(fits: Sequence[FitJob], error: Exception, pause_epoch: int | None) -> None:
    """Fit each by itself after an error of them together; warn if none fails alone.

    The cause may be a user-defined part, which then fails for its owner only.
    """
    for fit in fits:
        fit.fit_alone(pause_epoch)
    if all(fit.error is None for fit in fits):
        warnings.warn(
            f"{len(fits)} estimators were trained one by one, which is slower but gives the same "
            f"results: training them together raised {error!r}, and training each alone did not. "
            "Custom layers, losses and other objects must accept arrays with the member axis "
            "first. If you use none, please report this.",
            RuntimeWarning,
            stacklevel=3,
        )


def _train(loop: TrainingLoop, observer: EpochObserver = NO_OBSERVER) -> None:
    """Train the runs of a loop; raise the interrupt that ends training."""
    interrupt = loop.train(observer)
    if interrupt is not None:
        raise interrupt
