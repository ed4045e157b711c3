"""Learning-rate schedules: one class and one line in `SCHEDULES` each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Any, cast

import numpy as np

from ..utils._typing import ScheduleName
from ..utils.arrays import Array, ArrayDict, FloatOrPerMember
from ..utils.validation import did_you_mean, validate_interval
from .base import (
    LearningRateSchedule,
    init_plateau_counter,
    per_member_floats,
    update_plateau_counter,
)


@dataclass(frozen=True)
class ConstantRate(LearningRateSchedule):
    """The base rate in every epoch: rate = base.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import Constant
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=Constant(),
    ...     learning_rate_init=0.01,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """


@dataclass(frozen=True)
class InverseScaling(LearningRateSchedule):
    """The rate falls with the rows seen: rate = base / (1 + t)^power_t after t rows.

    Parameters
    ----------
    power_t : float, default=0.5
        The exponent, not negative.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import InverseScaling
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=InverseScaling(power_t=0.1),
    ...     learning_rate_init=0.02,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    power_t: FloatOrPerMember = 0.5

    def __post_init__(self) -> None:
        validate_interval(self, "power_t", low=0, closed="left")

    def init(self, n_estimators: int) -> ArrayDict:
        return {"n_samples_seen": np.zeros((n_estimators, 1))}

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        return np.asarray(
            base / per_member_floats(_power, base, 1 + state["n_samples_seen"], self.power_t)
        )

    def on_epoch_end(
        self, state: ArrayDict, base: Array, monitored: Array, n_samples_seen: Array
    ) -> None:
        state["n_samples_seen"][...] = n_samples_seen


@dataclass(frozen=True)
class Adaptive(LearningRateSchedule):
    """The rate falls where progress stalls: rate = base / 5^k after k stalls.

    A stall is more than `n_iter_no_change` epochs in a row without an improvement of `tol`.
    Training may end when it stalls at a rate of 1e-6 or less.

    Parameters
    ----------
    tol : float, default=1e-4
        The improvement that counts as progress, not negative.
    n_iter_no_change : float, default=10.0
        How many epochs may pass without progress, not negative.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import Adaptive
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=Adaptive(n_iter_no_change=5),
    ...     learning_rate_init=0.01,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    tol: FloatOrPerMember = 1e-4
    n_iter_no_change: FloatOrPerMember = 10.0

    def __post_init__(self) -> None:
        validate_interval(self, "tol", low=0, closed="left")
        validate_interval(self, "n_iter_no_change", low=0)  # np.inf for a rate that never falls

    @property
    def convergence_message(self) -> str:
        return "Learning rate too small. Stopping."

    def init(self, n_estimators: int) -> ArrayDict:
        return {
            "divisor": np.ones((n_estimators, 1)),
            "stalled": np.zeros((n_estimators, 1), dtype=bool),
            **init_plateau_counter(n_estimators),
        }

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        return np.asarray(base / state["divisor"])

    def on_epoch_end(
        self, state: ArrayDict, base: Array, monitored: Array, n_samples_seen: Array
    ) -> None:
        update_plateau_counter(state, monitored, self.tol)
        weary = state["count"] > self.n_iter_no_change
        exhausted = base / state["divisor"] <= 1e-6
        state["stalled"][...] = weary & exhausted
        state["divisor"][weary & ~exhausted] *= 5
        state["count"][weary & ~exhausted] = 0

    def may_stop(self, state: ArrayDict, n_estimators: int) -> Array:
        return np.asarray(state["stalled"])


@dataclass(frozen=True)
class CosineDecay(LearningRateSchedule):
    """The rate falls along half a cosine (Loshchilov & Hutter 2017, equation 5).

    rate = base * (final + (1 - final) * (1 + cos(pi * progress)) / 2). It hardly falls at first
    and at the end, and most in the middle. Each `fit` of a warm start begins at the top again:
    the warm restarts of section 3.

    Parameters
    ----------
    final : float, default=0.0
        The share of the base rate that it falls to, in [0, 1].

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import Cosine
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=Cosine(final=0.01),
    ...     learning_rate_init=0.02,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    final: FloatOrPerMember = 0.0

    def __post_init__(self) -> None:
        validate_interval(self, "final", low=0, high=1)

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        return base * per_member_floats(lambda final: _leg(1.0, final, progress), base, self.final)


@dataclass(frozen=True)
class OneCycle(LearningRateSchedule):
    """The rate rises to the base rate, and falls far below where it began (Smith & Topin 2018).

    rate = base * leg(start, 1, progress / warm_up) while progress < warm_up, then
    base * leg(1, final, (progress - warm_up) / (1 - warm_up)), where
    leg(a, b, q) = a + (b - a) * (1 - cos(pi * q)) / 2. The base rate is the largest, and may be
    several times as large as a constant one. The paper has straight legs, and a third one that
    falls below the start; a falling half cosine is both in one. The momentum is not cycled.

    Parameters
    ----------
    warm_up : float, default=0.3
        The share of training in which the rate rises, in [0, 1].
    start, final : float, default=0.04, 1e-4
        The shares of the base rate that it rises from and falls to, in [0, 1].

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import OneCycle
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=OneCycle(warm_up=0.2),
    ...     learning_rate_init=0.05,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    warm_up: FloatOrPerMember = 0.3
    start: FloatOrPerMember = 0.04
    final: FloatOrPerMember = 1e-4

    def __post_init__(self) -> None:
        validate_interval(self, "warm_up", "start", "final", low=0, high=1)

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        def share(warm_up: float, start: float, final: float) -> float:
            if progress < warm_up:
                return _leg(start, 1.0, progress / warm_up)
            return _leg(1.0, final, (progress - warm_up) / (1 - warm_up))

        return base * per_member_floats(share, base, self.warm_up, self.start, self.final)


@dataclass(frozen=True)
class StepDecay(LearningRateSchedule):
    """The rate falls in steps: rate = base * factor^k once progress has passed k of `at`.

    With the defaults, a tenth from the middle of training on, a hundredth in its last quarter
    (He et al. 2016, section 4.2).

    Parameters
    ----------
    factor : float, default=0.1
        What each step multiplies the rate by, in (0, 1].
    at : sequence of float, default=(0.5, 0.75)
        The shares of training after which a step is taken, each in [0, 1).

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import Step
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=Step(factor=0.2, at=(0.6, 0.9)),
    ...     learning_rate_init=0.02,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    factor: FloatOrPerMember = 0.1
    at: tuple[float, ...] = (0.5, 0.75)

    def __post_init__(self) -> None:
        validate_interval(self, "factor", low=0, high=1, closed="right")
        at = tuple(self.at) if isinstance(self.at, Iterable) else (self.at,)
        if not all(isinstance(part, Real) and 0 <= part < 1 for part in at):
            raise ValueError(f"at of Step must hold numbers in the range [0, 1), got {self.at!r}.")
        object.__setattr__(self, "at", tuple(float(part) for part in at))

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        n_steps = sum(progress >= milestone for milestone in self.at)
        return base * per_member_floats(lambda factor: factor**n_steps, base, self.factor)


@dataclass(frozen=True)
class ExponentialDecay(LearningRateSchedule):
    """The rate falls by the same factor in every epoch: rate = base * final^progress.

    The factor of an epoch is final^(1 / max_iter).

    Parameters
    ----------
    final : float, default=0.01
        The share of the base rate that it falls to, in (0, 1].

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import Exponential
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=Exponential(final=0.1),
    ...     learning_rate_init=0.02,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    final: FloatOrPerMember = 0.01

    def __post_init__(self) -> None:
        validate_interval(self, "final", low=0, high=1, closed="right")

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        return base * per_member_floats(lambda final: final**progress, base, self.final)


@dataclass(frozen=True)
class ReduceOnPlateau(LearningRateSchedule):
    """The rate falls where progress stalls: rate = max(base * factor^k, smallest) after k stalls.

    A stall is more than `patience` epochs in a row without an improvement of `tol` in the
    training loss, or in the validation score under early stopping. Unlike `Adaptive` it does
    not hold off the end of training, which is up to the estimator's `n_iter_no_change`.

    Parameters
    ----------
    factor : float, default=0.1
        What each stall multiplies the rate by, in (0, 1].
    patience : float, default=5.0
        How many epochs may pass without progress, not negative.
    tol : float, default=1e-4
        The improvement that counts as progress, not negative.
    smallest : float, default=0.0
        The rate that it does not fall below, not negative; a base rate below it stays.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import ReduceOnPlateau
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=ReduceOnPlateau(factor=0.5, patience=3),
    ...     learning_rate_init=0.02,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    factor: FloatOrPerMember = 0.1
    patience: FloatOrPerMember = 5.0
    tol: FloatOrPerMember = 1e-4
    smallest: FloatOrPerMember = 0.0

    def __post_init__(self) -> None:
        validate_interval(self, "factor", low=0, high=1, closed="right")
        validate_interval(self, "patience", low=0)
        validate_interval(self, "tol", "smallest", low=0, closed="left")

    def init(self, n_estimators: int) -> ArrayDict:
        return {"share": np.ones((n_estimators, 1)), **init_plateau_counter(n_estimators)}

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        lowest = np.minimum(base, self.smallest)
        return np.asarray(np.maximum(base * state["share"], lowest))

    def on_epoch_end(
        self, state: ArrayDict, base: Array, monitored: Array, n_samples_seen: Array
    ) -> None:
        update_plateau_counter(state, monitored, self.tol)
        weary = state["count"] > self.patience
        np.copyto(state["share"], state["share"] * self.factor, where=weary)
        state["count"][weary] = 0


def _leg(start: float, end: float, part: float) -> float:
    """Return what half a cosine has reached from `start` to `end`."""
    return start + (end - start) * (1 - math.cos(math.pi * part)) / 2


def _power(base: float, exponent: float) -> float:
    """Return base^exponent, infinite where no float can hold it."""
    try:
        power: float = base**exponent
    except OverflowError:
        return math.inf
    return power


SCHEDULES: dict[str, type[LearningRateSchedule]] = {
    "constant": ConstantRate,
    "invscaling": InverseScaling,
    "adaptive": Adaptive,
    "cosine": CosineDecay,
    "one_cycle": OneCycle,
    "step": StepDecay,
    "exponential": ExponentialDecay,
    "plateau": ReduceOnPlateau,
}


@dataclass(frozen=True)
class LambdaSchedule(LearningRateSchedule):
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

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        share = self.function(progress)
        if not (isinstance(share, Real) and 0 <= share < math.inf):
            raise ValueError(
                f"the learning_rate {self.function!r} returned {share!r} at progress {progress}, "
                "but has to return the share of learning_rate_init: a finite number that is not "
                "negative."
            )
        return base * float(share)


@dataclass(frozen=True)
class LinearWarmup(LearningRateSchedule):
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
    >>> from skbackprop.schedules import LinearWarmup
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=LinearWarmup("cosine", length=0.1),
    ...     learning_rate_init=0.02,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    schedule: ScheduleName | LearningRateSchedule | Callable[[float], float] = "constant"
    length: FloatOrPerMember = 0.05
    start: FloatOrPerMember = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_schedule(self.schedule))
        validate_interval(self, "length", "start", low=0, high=1)

    @property
    def _inner(self) -> LearningRateSchedule:
        return cast(LearningRateSchedule, self.schedule)  # whatever was given

    @property
    def convergence_message(self) -> str:
        return self._inner.convergence_message

    def init(self, n_estimators: int) -> ArrayDict:
        return self._inner.init(n_estimators)

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        def share(length: float, start: float) -> float:
            return start + (1 - start) * progress / length if progress < length else 1.0

        rate = self._inner.rate(state, base, progress)
        return rate * per_member_floats(share, base, self.length, self.start)

    def on_epoch_end(
        self, state: ArrayDict, base: Array, monitored: Array, n_samples_seen: Array
    ) -> None:
        self._inner.on_epoch_end(state, base, monitored, n_samples_seen)

    def may_stop(self, state: ArrayDict, n_estimators: int) -> Array:
        return self._inner.may_stop(state, n_estimators)


def as_schedule(schedule: Any, name: str = "schedule") -> LearningRateSchedule:
    """Return the schedule that a name, an instance or a function of progress stands for.

    `name` is what an error calls it.
    """
    if isinstance(schedule, LearningRateSchedule):
        return schedule
    if isinstance(schedule, str) and schedule in SCHEDULES:
        return SCHEDULES[schedule]()
    if callable(schedule) and not isinstance(schedule, type):
        return LambdaSchedule(schedule)
    raise ValueError(
        f"{name} must be one of the names {sorted(SCHEDULES)}, a Schedule, or a callable that "
        f"takes the progress and returns the share of the rate, got {schedule!r}."
        f"{did_you_mean(schedule, SCHEDULES)}"
    )
