"""Schedules made of others: a warm-up before any of them, and any function of progress."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real
from typing import Any, cast

from ..core.arrays import Array, PerMember, State
from ..core.checks import check_range
from ..core.names import ScheduleName
from ..core.suggestions import did_you_mean
from .base import Schedule, in_floats
from .kinds import SCHEDULES


@dataclass(frozen=True)
class OfProgress(Schedule):
    """Any function of progress: rate = base * function(progress).

    Estimators take a function as it is: ``learning_rate=lambda progress: 1 - progress``.

    Parameters
    ----------
    function : callable
        Called with the progress, a float in [0, 1), before each epoch; returns the share of the
        base rate, finite and not negative. It has to return the same whenever it is called with
        the same. What can be pickled is up to the function: a lambda can't.

    Raises
    ------
    ValueError
        If `function` can't be called; in training, if it returns anything but such a number.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import OfProgress
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=OfProgress(lambda progress: (1 - progress) ** 2),
    ...     learning_rate_init=0.02,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    function: Callable[[float], float]

    def __post_init__(self) -> None:
        if not callable(self.function):
            raise ValueError(
                "function of OfProgress must be a callable that takes the progress and returns "
                f"the share of the rate, got {self.function!r}."
            )

    def rate(self, state: State, base: Array, progress: float) -> Array:
        share = self.function(progress)
        if not (isinstance(share, Real) and 0 <= share < math.inf):
            raise ValueError(
                f"the learning_rate {self.function!r} returned {share!r} at progress {progress}, "
                "but has to return the share of learning_rate_init: a finite number that is not "
                "negative."
            )
        return base * float(share)


@dataclass(frozen=True)
class WarmUp(Schedule):
    """The rate of another schedule, reached in equal steps (Goyal et al. 2017, section 2.2).

    rate = (start + (1 - start) * progress / length) * the schedule's rate while
    progress < length, then the schedule's rate. Both see the same progress: what the schedule
    does in the middle of training, it does in the middle with a warm-up as well.

    Parameters
    ----------
    schedule : str, Schedule or callable, default="constant"
        What to warm up for; a name stands for a schedule with its defaults.
    length : float, default=0.05
        The share of training that the warm-up takes, in [0, 1].
    start : float, default=0.1
        The share of the rate that it begins with, in [0, 1].

    Raises
    ------
    ValueError
        If a setting is out of its range, or `schedule` is no schedule.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import WarmUp
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=WarmUp("cosine", length=0.1),
    ...     learning_rate_init=0.02,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    schedule: ScheduleName | Schedule | Callable[[float], float] = "constant"
    length: PerMember = 0.05
    start: PerMember = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_schedule(self.schedule))
        check_range(self, "length", "start", low=0, high=1)

    @property
    def _inner(self) -> Schedule:
        return cast(Schedule, self.schedule)  # whatever was given

    @property
    def last_words(self) -> str:
        return self._inner.last_words

    def init(self, n_members: int) -> State:
        return self._inner.init(n_members)

    def rate(self, state: State, base: Array, progress: float) -> Array:
        def share(length: float, start: float) -> float:
            return start + (1 - start) * progress / length if progress < length else 1.0

        rate = self._inner.rate(state, base, progress)
        return rate * in_floats(share, base, self.length, self.start)

    def end_epoch(self, state: State, base: Array, monitored: Array, n_seen: Array) -> None:
        self._inner.end_epoch(state, base, monitored, n_seen)

    def may_stop(self, state: State, n_members: int) -> Array:
        return self._inner.may_stop(state, n_members)


def as_schedule(schedule: Any, name: str = "schedule") -> Schedule:
    """Return the schedule that a name, an instance or a function of progress stands for.

    `name` is what an error calls it.
    """
    if isinstance(schedule, Schedule):
        return schedule
    if isinstance(schedule, str) and schedule in SCHEDULES:
        return SCHEDULES[schedule]()
    if callable(schedule) and not isinstance(schedule, type):
        return OfProgress(schedule)
    raise ValueError(
        f"{name} must be one of the names {sorted(SCHEDULES)}, a Schedule, or a callable that "
        f"takes the progress and returns the share of the rate, got {schedule!r}."
        f"{did_you_mean(schedule, SCHEDULES)}"
    )
