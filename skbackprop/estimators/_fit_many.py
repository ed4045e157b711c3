"""Fitting several estimators at once: the same as fitting each alone, in stacks."""

from __future__ import annotations

import copy
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from numbers import Integral
from typing import Any, TypeAlias

from ..training.callbacks import NO_OBSERVER, EpochObserver
from ..training.config import TrainingConfig
from ..training.folds import InitialState
from ..training.loop import EpochReport, make_training_loop
from ..training.rng import new_rng
from ..training.temperature import fit_temperature_scaling
from ..training.training_run import TrainingRun
from ..utils.equality import group_by_equality, is_equal
from ._checkpoint_io import data_fingerprint
from ._data_info import FitArguments, FitContext, ValidatedParams
from ._resume import ResumeState, initial_state_of
from .base import BaseNeuralNetwork


class FitJob:
    """One estimator, the data that it is to be fitted to, and how that went.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        The estimator; `fit_many` fits it.
    X, y : array-like
        The data.
    fit_params : dict
        Further arguments of `fit`.
    planned : Planned or None, default=None
        What its parameters make, where they have been checked; None to check them.

    Attributes
    ----------
    reached : Reached or None
        How far it has come, where it is to go on; only that of training that has not failed.
    begins_anew : bool
        Whether it was to go on from what had been reached on other data.
    error : Exception or None
        What `fit` alone would have raised.
    traceback : str or None
        The same as Python prints it.
    seconds : float
        Its share of the time: of an epoch of a stack, one part for each member.
    """

    def __init__(
        self,
        estimator: BaseNeuralNetwork,
        X: Any,
        y: Any,
        fit_params: dict[str, Any],
        planned: ValidatedParams | None = None,
    ) -> None:
        self.estimator, self.X, self.y, self.fit_params = estimator, X, y, fit_params
        self._validated_params = planned
        self._start: ResumeState | None = None
        self.reached: ResumeState | None = None
        self.begins_anew = False
        self.error: Exception | None = None
        self.traceback: str | None = None
        self.seconds = 0.0
        self.prepared: FitContext | None = None
        self._alike: FitJob | None = None  # whose data it has been given
        self._data: int | None = None  # what that is known by, once it was asked
        # A stream of the user's, which training draws from, as it is before.
        self._random_state = copy.deepcopy(estimator.random_state)

    def resume_from_state(self, reached: ResumeState | None) -> None:
        """Begin where another fit of an estimator like this one stands, if the data is the same."""
        self._start = reached

    def prepare(self, alike: FitJob | None) -> None:
        """Check parameters and data, which another fit may have checked, and set up the runs."""
        self._try(lambda: self._prepare(alike))

    def _prepare(self, alike: FitJob | None) -> None:
        planned = self._validated_params
        if planned is None:
            planned = self.estimator._checked_plan(is_known=False)
        else:
            planned.warn()  # which is not done where plans are made for a whole search
        start = None
        if alike is None or alike.prepared is None:
            given = FitArguments(self.X, self.y, **self.fit_params)
            prepared = self.estimator._prepare_first(given, planned)
        else:
            known = alike.prepared
            start = self._known_start(planned.config, alike, known)
            starts = None if start is None else [start]
            prepared = self.estimator._prepare_shared_data(known, planned, starts)
        first = prepared.runs[0]
        first.shares_rng = start is not None
        if self.estimator.random_state is None:
            # Not NumPy's global stream, which those at their side would draw from as well.
            first.state = replace(first.state, rngs=[new_rng()])
        self.prepared, self._alike = prepared, alike
        if self._start is not None:
            self.begins_anew = self._start.data != self._data_of(prepared)
            if not self.begins_anew:
                self._start.resume(prepared.runs)

    def _known_start(
        self, config: TrainingConfig, alike: FitJob, known: FitContext
    ) -> InitialState | None:
        """Return what the only network of this fit begins with, where nothing has to be drawn.

        That is so if it goes on, or if one like it with the same seed has begun on the same data.
        """
        seed, other = self.estimator.random_state, alike.estimator.random_state
        has_one = config.n_estimators == known.planned.config.n_estimators == 1
        if not (
            has_one and isinstance(seed, Integral) and _draw_alike(config, known.planned.config)
        ):
            return None
        if self._start is not None:
            is_same = self._start.data == alike._data_of(known)
            layout, n_rows = known.learned.network.layout, known.data.table.n_rows
            return self._start.start(layout, n_rows) if is_same else None
        if alike._start is not None or not is_equal(seed, other):
            return None
        (run,) = known.runs
        run.shares_rng = True
        return initial_state_of(run)

    def _data_of(self, prepared: FitContext) -> int:
        if self._alike is not None:
            return self._alike._data_of(prepared)
        if self._data is None:
            self._data = data_fingerprint(prepared.runs[0].problem)
        return self._data

    @property
    def runs(self) -> list[TrainingRun]:
        """What is to be trained; nothing where that cannot be, or is over."""
        return self.prepared.runs if self.prepared else []

    def keep(self, goes_on: bool = False) -> None:
        """Let the estimator keep what came of its runs; note how far, if it is to go on."""
        self.seconds += sum(run.seconds for run in self.runs)
        if self.prepared is not None:
            prepared, self.prepared = self.prepared, None
            self._try(lambda: self._keep(prepared, goes_on))

    def _keep(self, prepared: FitContext, goes_on: bool) -> None:
        if (interrupt := fit_temperature_scaling(prepared.runs)) is not None:
            raise interrupt
        self.estimator._keep(prepared, continues=False)
        if goes_on:
            self.reached = ResumeState.of(prepared.runs, self._data_of(prepared))

    def alone(self, until: int | None = None) -> None:
        """Fit the estimator anew, by itself; until some epoch, if it is to go on from there."""
        self.prepared = None
        self.estimator.random_state = self._random_state
        if until is None:
            self._try(lambda: self.estimator.fit(self.X, self.y, **self.fit_params))
        else:
            self._try(lambda: self._alone_until(until))

    def _alone_until(self, until: int) -> None:
        self._prepare(None)
        runs = _to_be_trained(self.runs, until)
        if runs:
            interrupt = make_training_loop(runs, until=until).train()
            if interrupt is not None:
                raise interrupt
        self.keep(goes_on=True)

    def has_data_of(self, other: FitJob) -> bool:
        """Return whether both ask the same of the very same data, so that one check will do."""
        mine, theirs = self.estimator, other.estimator
        return (
            self.X is other.X
            and self.y is other.y
            and self.fit_params is other.fit_params
            and type(mine) is type(theirs)
            and is_equal(*(_what_data_depend_on(each) for each in (mine, theirs)))
        )

    def _try(self, action: Callable[[], object]) -> None:
        start = time.perf_counter()
        try:
            action()
        except Exception as error:
            self.error, self.traceback = error, traceback.format_exc()
            self.prepared, self.estimator.random_state = None, self._random_state
        self.seconds += time.perf_counter() - start


def _draw_alike(one: TrainingConfig, other: TrainingConfig) -> bool:
    """Return whether networks of one seed begin with the same weights and rows."""
    plans = one, other
    return is_equal(*([config.architecture, config.initial, config.stopping] for config in plans))


def _what_data_depend_on(estimator: BaseNeuralNetwork) -> list[Any]:
    """Return the parameters by which data is checked, targets are encoded and rows weighted."""
    settings = estimator._settings
    return [settings.get(name) for name in ("dtype", "loss", "scale_target", "class_weight")]


Follow: TypeAlias = Callable[[Sequence[FitJob]], EpochObserver]
"""Returns who follows fits that are trained side by side."""


def fit_many(
    fits: Sequence[FitJob],
    max_bytes: int,
    report: EpochReport | None = None,
    follow: Follow = lambda fits: NO_OBSERVER,
    until: int | None = None,
) -> None:
    """Fit estimators that have not been fitted before, networks of one shape as one stack.

    Each ends as `fit` alone would leave it, to the bit at one BLAS thread, and fails exactly where
    that would fail. A RuntimeWarning says so if they fail together, and none does alone.

    Parameters
    ----------
    fits : sequence of Fit
        The estimators and their data. On return each is fitted or holds its error.
    max_bytes : int
        The memory that a stack may take.
    report : callable or None, default=None
        Called after each epoch of a stack, as `EpochReport` says.
    follow : callable
        Returns who follows the epochs of fits that are trained side by side; by default nobody.
    until : int or None, default=None
        The epoch after which training stops for now, to go on from what each fit has `reached`.
        None trains to the end.
    """
    for i, fit in enumerate(fits):
        fit.prepare(
            next((known for known in fits[:i] if known.runs and fit.has_data_of(known)), None)
        )
    owners = {id(run): fit for fit in fits for run in fit.runs}
    runs = _to_be_trained([run for fit in fits for run in fit.runs], until)
    for group in group_by_equality(runs, [_shape_of_training(run) for run in runs]):
        trained = list(dict.fromkeys(owners[id(run)] for run in group))
        follower = follow(trained)
        try:
            interrupt = make_training_loop(group, max_bytes, report, until).train(follower)
            if interrupt is not None:
                raise interrupt
        except Exception as error:
            if error is follower.error:
                raise
            _fit_alone(trained, error, until)
    for fit in fits:
        fit.keep(goes_on=until is not None)


def _to_be_trained(runs: Sequence[TrainingRun], until: int | None) -> list[TrainingRun]:
    """Return the runs that have not ended, nor come as far as they are to go."""
    return [
        run for run in runs if run.ending is None and (until is None or run.record.n_iter < until)
    ]


def _shape_of_training(run: TrainingRun) -> list[Any] | None:
    """Return what runs must have in common to be trained side by side, or one after the other."""
    return None if run.config.is_lbfgs else [*run.shape, run.n_done]


def _fit_alone(fits: Sequence[FitJob], error: Exception, until: int | None) -> None:
    """Fit each by itself: a part of a user's own has failed, say, and does so for its owner.

    If it does so for none, something is wrong with the stack; then it is said.
    """
    for fit in fits:
        fit.alone(until)
    if all(fit.error is None for fit in fits):
        warnings.warn(
            f"{len(fits)} estimators were trained one by one, which is slower and does not change "
            f"results: together they raise {error!r}, and alone none does. Let parts of your own "
            "take arrays that have the members of a stack as first axis. If there are none, "
            "please report this.",
            RuntimeWarning,
            stacklevel=3,
        )
