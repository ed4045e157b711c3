"""Fitting several estimators at once: the same as fitting each alone, in stacks."""

from __future__ import annotations

import copy
import pickle
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

from ..core.equality import grouped, is_equal
from ..fitting.descent import Descent, Report
from ..fitting.follower import NOBODY, Follower
from ..fitting.lbfgs import minimise_alone
from ..fitting.moment import Moment
from ..fitting.run import Run
from ..fitting.stacking import deadline_of
from ..fitting.streams import stream_of_its_own
from ..fitting.training import cut_to_size, train_side_by_side
from .base import BaseBackprop
from .learned import Given, Prepared
from .resumable import fingerprint_of


class Reached(NamedTuple):
    """How far the training of an estimator has come, for another one like it to go on from.

    Parameters
    ----------
    data : int
        What the data is known by.
    moments : list of bytes
        The arrays of the moment of each network, pickled: between processes one piece of bytes
        takes a fraction of the time of twenty arrays.
    """

    data: int
    moments: list[bytes]

    @classmethod
    def of(cls, runs: Sequence[Run], data: int) -> Reached:
        """Return how far runs have come."""
        return cls(data, [pickle.dumps(run.moment.to_arrays()) for run in runs])

    def resume(self, runs: Sequence[Run]) -> None:
        """Let runs go on from here."""
        for run, moment in zip(runs, self.moments, strict=True):
            run.resume(Moment.from_arrays(pickle.loads(moment), run.network.layout))


class Fit:
    """One estimator, the data that it is to be fitted to, and how that went.

    Parameters
    ----------
    estimator : BackpropClassifier or BackpropRegressor
        The estimator; `fit_together` fits it.
    X, y : array-like
        The data.
    fit_params : dict
        Further arguments of `fit`.

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

    def __init__(self, estimator: BaseBackprop, X: Any, y: Any, fit_params: dict[str, Any]) -> None:
        self.estimator, self.X, self.y, self.fit_params = estimator, X, y, fit_params
        self._start: Reached | None = None
        self.reached: Reached | None = None
        self.begins_anew = False
        self.error: Exception | None = None
        self.traceback: str | None = None
        self.seconds = 0.0
        self.prepared: Prepared | None = None
        self._alike: Fit | None = None  # whose data it has been given
        self._data: int | None = None  # what that is known by, once it was asked
        # A stream of the user's, which training draws from, as it is before.
        self._random_state = copy.deepcopy(estimator.random_state)

    def go_on_from(self, reached: Reached | None) -> None:
        """Begin where another fit of an estimator like this one stands, if the data is the same."""
        self._start = reached

    def prepare(self, alike: Fit | None) -> None:
        """Check parameters and data, which another fit may have checked, and set up the runs."""
        self._try(lambda: self._prepare(alike))

    def _prepare(self, alike: Fit | None) -> None:
        if alike is None or alike.prepared is None:
            prepared = self.estimator._prepare_first(Given(self.X, self.y, **self.fit_params))
        else:
            prepared = self.estimator._prepare_like(alike.prepared)
        if self.estimator.random_state is None:
            # Not NumPy's global stream, which those at their side would draw from as well.
            first = prepared.runs[0]
            first.state = replace(first.state, streams=[stream_of_its_own()])
        self.prepared = prepared
        self._alike = alike
        if self._start is None:
            return
        self.begins_anew = self._start.data != self._data_of(prepared)
        if not self.begins_anew:
            self._start.resume(prepared.runs)

    def _data_of(self, prepared: Prepared) -> int:
        if self._alike is not None:
            return self._alike._data_of(prepared)
        if self._data is None:
            self._data = fingerprint_of(prepared.runs[0].problem)
        return self._data

    @property
    def runs(self) -> list[Run]:
        """What is to be trained; nothing where that cannot be, or is over."""
        return self.prepared.runs if self.prepared else []

    def keep(self, goes_on: bool = False) -> None:
        """Let the estimator keep what came of its runs; note how far, if it is to go on."""
        self.seconds += sum(run.seconds for run in self.runs)
        if self.prepared is not None:
            prepared, self.prepared = self.prepared, None
            self._try(lambda: self._keep(prepared, goes_on))

    def _keep(self, prepared: Prepared, goes_on: bool) -> None:
        self.estimator._keep(prepared, continues=False)
        if goes_on:
            self.reached = Reached.of(prepared.runs, self._data_of(prepared))

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
            _train(runs, sys.maxsize, None, NOBODY, until)
        self.keep(goes_on=True)

    def has_data_of(self, other: Fit) -> bool:
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


def _what_data_depend_on(estimator: BaseBackprop) -> list[Any]:
    """Return the parameters by which data is checked, targets are encoded and rows weighted."""
    settings = estimator._settings
    return [settings.get(name) for name in ("dtype", "loss", "scale_target", "class_weight")]


Follow: TypeAlias = Callable[[Sequence[Fit]], Follower]
"""Returns who follows fits that are trained side by side."""


def fit_together(
    fits: Sequence[Fit],
    max_bytes: int,
    report: Report | None = None,
    follow: Follow = lambda fits: NOBODY,
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
        What each stack's `Descent` reports to.
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
    for group in grouped(runs, [_shape_of_training(run) for run in runs]):
        trained = list(dict.fromkeys(owners[id(run)] for run in group))
        follower = follow(trained)
        try:
            _train(group, max_bytes, report, follower, until)
        except Exception as error:
            if error is follower.error:
                raise
            _fit_alone(trained, error, until)
    for fit in fits:
        fit.keep(goes_on=until is not None)


def _to_be_trained(runs: Sequence[Run], until: int | None) -> list[Run]:
    """Return the runs that have not ended, nor come as far as they are to go."""
    return [
        run for run in runs if run.ending is None and (until is None or run.course.n_iter < until)
    ]


def _shape_of_training(run: Run) -> list[Any] | None:
    """Return what runs must have in common to be trained side by side, or one after the other."""
    return None if run.plan.is_lbfgs else [*run.shape, run.n_done]


def _fit_alone(fits: Sequence[Fit], error: Exception, until: int | None) -> None:
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


def _train(
    runs: Sequence[Run],
    max_bytes: int,
    report: Report | None,
    follower: Follower,
    until: int | None,
) -> None:
    """Train runs of one shape, or by L-BFGS."""
    if not runs[0].plan.is_lbfgs:
        parts, deadline = cut_to_size(runs, max_bytes), deadline_of(runs)
        descents = [Descent(members, report, deadline, until) for members in parts]
        train_side_by_side(descents, follower)
        return
    for run in runs:
        interrupt = minimise_alone(run, follower)
        if interrupt is not None:
            raise interrupt
