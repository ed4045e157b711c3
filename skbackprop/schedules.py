"""Learning-rate schedules. To add one, write a class and add it to `SCHEDULES`.

A schedule computes the learning rate of each epoch. Like an optimizer it is a frozen set of
settings, and its state is a dict of arrays with one row for each member of the stack.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from numbers import Real
from typing import Annotated, Any, ClassVar, cast

import numpy as np

from .utils._name_types import ScheduleName
from .utils.arrays import Array, ArrayDict, FloatOrPerMember
from .utils.configurable import Configurable
from .utils.validation import between, find_by_name

__all__ = [
    "SCHEDULES",
    "Adaptive",
    "ConstantRate",
    "CosineDecay",
    "ExponentialDecay",
    "InverseScaling",
    "LambdaSchedule",
    "LearningRateSchedule",
    "LinearWarmup",
    "OneCycle",
    "ReduceOnPlateau",
    "StepDecay",
]


class LearningRateSchedule(Configurable):
    """Base class of schedules; all arrays have the shape (n_estimators, 1)."""

    # The end of the printed message when training stops for lack of progress.
    convergence_message: ClassVar[str] = "Stopping."

    def init(self, n_estimators: int) -> ArrayDict:
        """Return the initial state."""
        return {}

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        """Return the learning rate of the next epoch.

        Parameters
        ----------
        state : dict
            The state returned by `init` and updated by `on_epoch_end`.
        base : array of shape (n_estimators, 1)
            The base rate, the estimator's `learning_rate_init`.
        progress : float in [0, 1)
            The number of completed epochs divided by `max_iter`: in this call of `fit`, or in
            all calls of `partial_fit` since the last `fit`.
        """
        return base

    def on_epoch_end(
        self, state: ArrayDict, base: Array, monitored: Array, n_samples_seen: Array
    ) -> None:
        """Update the state by an epoch's monitored value (lower is better) and the sample count."""

    def may_stop(self, state: ArrayDict, n_estimators: int) -> Array:
        """Return for each member whether training may stop for lack of progress."""
        return np.ones((n_estimators, 1), dtype=bool)


def init_plateau_counter(n_estimators: int) -> ArrayDict:
    """Return the initial state of `update_plateau_counter`."""
    return {"best": np.full((n_estimators, 1), np.inf), "count": np.zeros((n_estimators, 1))}


def update_plateau_counter(state: ArrayDict, monitored: Array, tol: FloatOrPerMember) -> None:
    """Count the consecutive epochs without an improvement of the best value by `tol`.

    A value that is not finite counts as no improvement.
    """
    progressed = (monitored < np.inf) & (monitored <= state["best"] - tol)
    state["count"][...] = np.where(progressed, 0, state["count"] + 1)
    np.fmin(state["best"], monitored, out=state["best"])


def map_per_member(
    function: Callable[..., float], base: Array, *settings: FloatOrPerMember
) -> Array:
    """Return a function of each member's own settings, in the shape of the base rates.

    It is computed in Python floats. NumPy's powers and cosines of an array depend on the position
    of a value in it, and would so depend on the size of the stack.
    """
    columns = [np.broadcast_to(values, base.shape).ravel().tolist() for values in settings]
    values = [function(*row) for row in zip(*columns, strict=True)]
    return np.array(values, dtype=float)[:, None]


@dataclass(frozen=True)
class ConstantRate(LearningRateSchedule):
    """Constant learning rate: rate = base.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import ConstantRate
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=ConstantRate(),
    ...     learning_rate_init=0.01,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """


@dataclass(frozen=True)
class InverseScaling(LearningRateSchedule):
    """Inverse scaling: rate = base / (1 + t)^power_t after t training samples.

    Parameters
    ----------
    power_t : float, default=0.5
        The exponent, 0 or more.

    Raises
    ------
    ValueError
        If a setting is out of range.

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

    power_t: Annotated[FloatOrPerMember, between(0, closed="left")] = 0.5

    def init(self, n_estimators: int) -> ArrayDict:
        return {"n_samples_seen": np.zeros((n_estimators, 1))}

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        return np.asarray(
            base / map_per_member(pow, base, 1 + state["n_samples_seen"], self.power_t)
        )

    def on_epoch_end(
        self, state: ArrayDict, base: Array, monitored: Array, n_samples_seen: Array
    ) -> None:
        state["n_samples_seen"][...] = n_samples_seen


@dataclass(frozen=True)
class Adaptive(LearningRateSchedule):
    """Divide the rate by 5 on each plateau: rate = base / 5^k after k plateaus.

    A plateau is more than `n_iter_no_change` consecutive epochs without an improvement of `tol`.
    Training may only stop on a plateau at a rate of 1e-6 or less.

    Parameters
    ----------
    tol : float, default=1e-4
        Minimum improvement that counts as progress, 0 or more.
    n_iter_no_change : float, default=10.0
        Number of epochs without progress to tolerate, 0 or more.

    Raises
    ------
    ValueError
        If a setting is out of range.

    See Also
    --------
    ReduceOnPlateau : With a factor and a patience of your own.

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

    tol: Annotated[FloatOrPerMember, between(0, closed="left")] = 1e-4
    n_iter_no_change: Annotated[FloatOrPerMember, between(0)] = 10.0  # np.inf: it never falls

    convergence_message = "Learning rate too small. Stopping."

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
        on_plateau = state["count"] > self.n_iter_no_change
        exhausted = base / state["divisor"] <= 1e-6
        state["stalled"][...] = on_plateau & exhausted
        state["divisor"][on_plateau & ~exhausted] *= 5
        state["count"][on_plateau & ~exhausted] = 0

    def may_stop(self, state: ArrayDict, n_estimators: int) -> Array:
        return np.asarray(state["stalled"])


@dataclass(frozen=True)
class CosineDecay(LearningRateSchedule):
    """Cosine decay of the rate (Loshchilov & Hutter 2017, equation 5).

    rate = base * (final_factor + (1 - final_factor) * (1 + cos(pi * progress)) / 2). The rate
    falls fastest in the middle of training. With `warm_start` each `fit` starts at the base rate
    again: the warm restarts of section 3.

    Parameters
    ----------
    final_factor : float, default=0.0
        Final rate as a fraction of the base rate, in [0, 1].

    Raises
    ------
    ValueError
        If a setting is out of range.

    See Also
    --------
    OneCycle : Rises before it falls.
    LinearWarmup : Put a warm-up before any schedule.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import CosineDecay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=CosineDecay(final_factor=0.01),
    ...     learning_rate_init=0.02,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    final_factor: Annotated[FloatOrPerMember, between(0, 1)] = 0.0

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        def factor(final: float) -> float:
            return _anneal(1.0, final, progress)

        return base * map_per_member(factor, base, self.final_factor)


@dataclass(frozen=True)
class OneCycle(LearningRateSchedule):
    """Warm up to the base rate, then decay far below the initial rate (Smith & Topin 2018).

    rate = base * anneal(start_factor, 1, progress / warmup_fraction) while
    progress < warmup_fraction, then
    base * anneal(1, final_factor, (progress - warmup_fraction) / (1 - warmup_fraction)), where
    anneal(a, b, q) = a + (b - a) * (1 - cos(pi * q)) / 2. The base rate is the largest rate, and
    may be several times as large as a constant one. The paper has linear phases and a third one
    below the initial rate; cosine decay covers both. The momentum is not cycled.

    Parameters
    ----------
    warmup_fraction : float, default=0.3
        Fraction of training in which the rate rises, in [0, 1].
    start_factor, final_factor : float, default=0.04, 1e-4
        Initial and final rate as fractions of the base rate, in [0, 1].

    Raises
    ------
    ValueError
        If a setting is out of range.

    See Also
    --------
    CosineDecay : Falls from the first epoch.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import OneCycle
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=OneCycle(warmup_fraction=0.2),
    ...     learning_rate_init=0.05,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    warmup_fraction: Annotated[FloatOrPerMember, between(0, 1)] = 0.3
    start_factor: Annotated[FloatOrPerMember, between(0, 1)] = 0.04
    final_factor: Annotated[FloatOrPerMember, between(0, 1)] = 1e-4

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        def factor(warmup: float, start: float, final: float) -> float:
            if progress < warmup:
                return _anneal(start, 1.0, progress / warmup)
            return _anneal(1.0, final, (progress - warmup) / (1 - warmup))

        settings = self.warmup_fraction, self.start_factor, self.final_factor
        return base * map_per_member(factor, base, *settings)


@dataclass(frozen=True)
class StepDecay(LearningRateSchedule):
    """Step decay: rate = base * factor^k once progress has passed k of the `milestones`.

    By default the rate is a tenth from the middle of training on, and a hundredth in its last
    quarter (He et al. 2016, section 4.2).

    Parameters
    ----------
    factor : float, default=0.1
        Factor by which each step multiplies the rate, in (0, 1].
    milestones : sequence of float, default=(0.5, 0.75)
        Fractions of training after which the rate drops, each in [0, 1).

    Raises
    ------
    ValueError
        If a setting is out of range.

    See Also
    --------
    ExponentialDecay : Falls in every epoch.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import StepDecay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=StepDecay(factor=0.2, milestones=(0.6, 0.9)),
    ...     learning_rate_init=0.02,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    factor: Annotated[FloatOrPerMember, between(0, 1, "right")] = 0.1
    milestones: tuple[float, ...] = (0.5, 0.75)

    def __post_init__(self) -> None:
        super().__post_init__()
        value: Any = self.milestones
        milestones = tuple(value) if isinstance(value, Iterable) else (value,)
        if not all(isinstance(share, Real) and 0 <= float(share) < 1 for share in milestones):
            raise ValueError(
                f"milestones of StepDecay must be numbers in the range [0, 1), got {value!r}."
            )
        object.__setattr__(self, "milestones", tuple(map(float, milestones)))

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        n_steps = sum(progress >= milestone for milestone in self.milestones)
        return base * map_per_member(lambda factor: factor**n_steps, base, self.factor)


@dataclass(frozen=True)
class ExponentialDecay(LearningRateSchedule):
    """Exponential decay: rate = base * final_factor^progress.

    Each epoch multiplies the rate by final_factor^(1 / max_iter).

    Parameters
    ----------
    final_factor : float, default=0.01
        Final rate as a fraction of the base rate, in (0, 1].

    Raises
    ------
    ValueError
        If a setting is out of range.

    See Also
    --------
    StepDecay : Falls in steps.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import ExponentialDecay
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=ExponentialDecay(final_factor=0.1),
    ...     learning_rate_init=0.02,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    final_factor: Annotated[FloatOrPerMember, between(0, 1, "right")] = 0.01

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        return base * map_per_member(lambda final: final**progress, base, self.final_factor)


@dataclass(frozen=True)
class ReduceOnPlateau(LearningRateSchedule):
    """Reduce the rate on each plateau: rate = max(base * factor^k, smallest) after k plateaus.

    A plateau is more than `patience` consecutive epochs without an improvement of `tol` in the
    training loss, or in the validation score under early stopping. Unlike `Adaptive` it does
    not delay the end of training, which the estimator's `n_iter_no_change` decides.

    Parameters
    ----------
    factor : float, default=0.1
        Factor by which each plateau multiplies the rate, in (0, 1].
    patience : float, default=5.0
        Number of epochs without progress to tolerate, 0 or more.
    tol : float, default=1e-4
        Minimum improvement that counts as progress, 0 or more.
    smallest : float, default=0.0
        Lower bound of the rate, 0 or more. A base rate below it does not change.

    Raises
    ------
    ValueError
        If a setting is out of range.

    See Also
    --------
    Adaptive : The "adaptive" schedule of scikit-learn.

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

    factor: Annotated[FloatOrPerMember, between(0, 1, "right")] = 0.1
    patience: Annotated[FloatOrPerMember, between(0)] = 5.0
    tol: Annotated[FloatOrPerMember, between(0, closed="left")] = 1e-4
    smallest: Annotated[FloatOrPerMember, between(0, closed="left")] = 0.0

    def init(self, n_estimators: int) -> ArrayDict:
        return {"share": np.ones((n_estimators, 1)), **init_plateau_counter(n_estimators)}

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        lowest = np.minimum(base, self.smallest)
        return np.asarray(np.maximum(base * state["share"], lowest))

    def on_epoch_end(
        self, state: ArrayDict, base: Array, monitored: Array, n_samples_seen: Array
    ) -> None:
        update_plateau_counter(state, monitored, self.tol)
        on_plateau = state["count"] > self.patience
        np.copyto(state["share"], state["share"] * self.factor, where=on_plateau)
        state["count"][on_plateau] = 0


def _anneal(start: float, end: float, fraction: float) -> float:
    """Return a point on half a cosine from `start` to `end`."""
    return start + (end - start) * (1 - math.cos(math.pi * fraction)) / 2


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
    """Function of progress as a schedule: rate = base * function(progress).

    Estimators also take the function itself: ``learning_rate=lambda progress: 1 - progress``.

    Parameters
    ----------
    function : callable
        Called before each epoch with the progress, a float in [0, 1). Returns the factor of the
        base rate, finite and not negative, and always the same for the same progress. The
        estimator can be pickled if the function can; a lambda cannot.

    Raises
    ------
    ValueError
        If `function` is not callable; in training, if it returns an invalid factor.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import LambdaSchedule
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=LambdaSchedule(lambda progress: (1 - progress) ** 2),
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
                "function of LambdaSchedule must be a callable that takes the progress and returns "
                f"a factor for the learning rate, got {self.function!r}."
            )

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        factor = self.function(progress)
        if not (isinstance(factor, Real) and 0 <= factor < math.inf):
            raise ValueError(
                f"The learning_rate function {self.function!r} must return a finite, non-negative "
                f"factor for learning_rate_init, but returned {factor!r} at progress {progress}."
            )
        return base * float(factor)


@dataclass(frozen=True)
class LinearWarmup(LearningRateSchedule):
    """Linear warmup of another schedule (Goyal et al. 2017, section 2.2).

    rate = (start_factor + (1 - start_factor) * progress / warmup_fraction) * the schedule's rate
    while progress < warmup_fraction, then the schedule's rate. The schedule sees the same progress
    with and without warmup, so a step in the middle of training stays there.

    Parameters
    ----------
    schedule : str, LearningRateSchedule or callable, default="constant"
        The schedule to warm up; a name stands for the schedule with its defaults.
    warmup_fraction : float, default=0.05
        Fraction of training that the warmup takes, in [0, 1].
    start_factor : float, default=0.1
        Initial factor of the rate, in [0, 1].

    Raises
    ------
    ValueError
        If a setting is out of range, or `schedule` is not a schedule.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.schedules import LinearWarmup
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=LinearWarmup("cosine", warmup_fraction=0.1),
    ...     learning_rate_init=0.02,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    schedule: ScheduleName | LearningRateSchedule | Callable[[float], float] = "constant"
    warmup_fraction: Annotated[FloatOrPerMember, between(0, 1)] = 0.05
    start_factor: Annotated[FloatOrPerMember, between(0, 1)] = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "schedule", as_schedule(self.schedule))
        super().__post_init__()

    @property
    def _inner(self) -> LearningRateSchedule:
        return cast(LearningRateSchedule, self.schedule)  # see `__post_init__`

    def init(self, n_estimators: int) -> ArrayDict:
        return self._inner.init(n_estimators)

    def rate(self, state: ArrayDict, base: Array, progress: float) -> Array:
        def factor(warmup: float, start: float) -> float:
            return start + (1 - start) * progress / warmup if progress < warmup else 1.0

        rate = self._inner.rate(state, base, progress)
        return rate * map_per_member(factor, base, self.warmup_fraction, self.start_factor)

    def on_epoch_end(
        self, state: ArrayDict, base: Array, monitored: Array, n_samples_seen: Array
    ) -> None:
        self._inner.on_epoch_end(state, base, monitored, n_samples_seen)

    def may_stop(self, state: ArrayDict, n_estimators: int) -> Array:
        return self._inner.may_stop(state, n_estimators)


def as_schedule(schedule: Any, name: str = "schedule") -> LearningRateSchedule:
    """Return the schedule for a name, an instance or a function of progress.

    Error messages call the value `name`.
    """
    if callable(schedule) and not isinstance(schedule, type):
        return LambdaSchedule(schedule)
    return find_by_name(name, schedule, SCHEDULES, LearningRateSchedule)
