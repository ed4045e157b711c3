"""Fit several estimators together, with the results of fitting each alone."""

from __future__ import annotations

import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ..training.checkpoint import TrainingCheckpoint
from ..training.loop import EpochReport, TrainingLoop, split_by_memory
from ..training.parallelism import array_split, threads_for_stacks
from ..training.random_states import make_rng_from_global_state
from ..training.training_run import TrainingRun
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

# The memory that a stack may take, in bytes. It only matters for members that visit their rows in
# different orders: each then has a copy of the next rows.
_MAX_STACK_BYTES = 1 << 28


@dataclass(eq=False)
class FitJob:
    """An estimator, the data to fit it to, and the outcome.

    Parameters
    ----------
    estimator : BaseNeuralNetwork
        The estimator, not fitted; `fit_many` fits it.
    X, y : array-like
        The data.
    fit_params : dict
        Further arguments of `fit`.
    params : ValidatedParams or None, default=None
        The validated parameters; None to validate them.
    start : list of TrainingCheckpoint or None, default=None
        The state of an estimator like this one to resume from, if it had the same data.

    Attributes
    ----------
    checkpoints : list of TrainingCheckpoint or None
        The state of each network to resume training from, after a pause.
    error : Exception or None
        The error that kept the estimator from being fitted.
    seconds : float
        The fit time. The members of a stack share that of an epoch equally.
    """

    estimator: BaseNeuralNetwork
    X: Any
    y: Any
    fit_params: dict[str, Any]
    params: ValidatedParams | None = None
    start: list[TrainingCheckpoint] | None = None
    checkpoints: list[TrainingCheckpoint] | None = field(default=None, init=False)
    error: Exception | None = field(default=None, init=False)
    seconds: float = field(default=0.0, init=False)
    _context: FitContext | None = field(default=None, init=False)

    @property
    def runs(self) -> list[TrainingRun]:
        """The runs to train; empty after a failure and after training."""
        return self._context.runs if self._context else []

    def prepare(self, other: FitJob | None) -> None:
        """Validate parameters and data, and make the runs; `other` has prepared the same data."""
        with self._record_errors():
            params = self.params or validate_params(self.estimator)
            if other is None or other._context is None:
                arguments = FitArguments(self.X, self.y, **self.fit_params)
                context = make_fit_context(self.estimator, arguments, params)
            else:
                context = make_shared_fit_context(self.estimator, params, other._context, None)
            first = context.runs[0]
            if self.estimator.random_state is None:
                # Not NumPy's global stream, which the other fits would draw from as well.
                first.state = replace(first.state, rngs=[make_rng_from_global_state()])
            if self.start and self.start[0].data_fingerprint == data_fingerprint(first.task):
                for run, checkpoint in zip(context.runs, self.start, strict=True):
                    run.resume(checkpoint)
            self._context = context

    def finish(self, pauses: bool) -> None:
        """Set the fitted attributes, and the state to resume from if training only pauses."""
        self.seconds += sum(run.seconds for run in self.runs)
        with self._record_errors():
            if self._context is not None:
                context, self._context = self._context, None
                finish_fit(self.estimator, context)
                if pauses:
                    data = data_fingerprint(context.runs[0].task)
                    self.checkpoints = [run.checkpoint.for_transfer(data) for run in context.runs]

    def fail(self, error: Exception) -> None:
        """Record an error, and drop the runs."""
        self.error, self._context = error, None

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
            self.fail(error)
        self.seconds += time.perf_counter() - start


def fit_many(
    fits: Sequence[FitJob],
    max_bytes: int = _MAX_STACK_BYTES,
    report: EpochReport | None = None,
    pause_epoch: int | None = None,
) -> None:
    """Fit unfitted estimators, with networks of one shape in one stack.

    Each ends exactly as after `fit` alone, to the bit with one BLAS thread, or has its `error` set.
    If a stack fails as a whole, a RuntimeWarning is issued: a user-defined part of a member may
    fail, or may support only single networks.

    Parameters
    ----------
    fits : sequence of FitJob
        The estimators and their data.
    max_bytes : int, default=2**28
        The memory that a stack may take.
    report : callable or None, default=None
        Called after each epoch of a stack, as `EpochReport` says.
    pause_epoch : int or None, default=None
        The epoch after which training pauses, to be resumed from the `checkpoints` of each fit;
        None to train to the end.
    """
    for i, fit in enumerate(fits):
        fit.prepare(
            next((each for each in fits[:i] if each.runs and fit.has_same_data(each)), None)
        )
    prepared = [fit for fit in fits if fit.runs]
    for group in group_by_equality(prepared, [fit.runs[0].stacking_key for fit in prepared]):
        # As many as threads train at the same time, each a stack.
        n_stacks = len(split_by_memory([run for fit in group for run in fit.runs], max_bytes))
        n_parts = min(len(group), -(-n_stacks // threads_for_stacks()))
        for part in array_split(group, n_parts):
            _train(part, max_bytes, report, pause_epoch)
            for fit in part:
                fit.finish(pauses=pause_epoch is not None)


def _train(
    fits: Sequence[FitJob], max_bytes: int, report: EpochReport | None, pause_epoch: int | None
) -> None:
    """Train the runs of fits together; after an error, none of them is fitted."""
    runs = [
        run
        for fit in fits
        for run in fit.runs
        if run.stop_reason is None and (pause_epoch is None or run.n_iter < pause_epoch)
    ]
    if not runs:
        return
    try:
        interrupt = TrainingLoop(runs, max_bytes, report, pause_epoch).train()
    except Exception as error:
        for fit in fits:
            fit.fail(error)
        warnings.warn(
            f"{len(fits)} estimators are trained one by one, which is slower but gives the same "
            f"results: training them together raised {error!r}. Custom layers, losses and other "
            "objects must accept arrays with the member axis first. If you use none, please report "
            "this.",
            RuntimeWarning,
            stacklevel=3,
        )
        return
    if interrupt is not None:
        raise interrupt
