"""The learning-rate schedules: one class and one line in `SCHEDULES` each."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from numbers import Real

import numpy as np

from ..core.arrays import Array, PerMember, State
from ..core.checks import check_range
from .base import Schedule, follow_progress, in_floats, init_progress


@dataclass(frozen=True)
class Constant(Schedule):
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
class InverseScaling(Schedule):
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

    power_t: PerMember = 0.5

    def __post_init__(self) -> None:
        check_range(self, "power_t", low=0, closed="left")

    def init(self, n_members: int) -> State:
        return {"n_seen": np.zeros((n_members, 1))}

    def rate(self, state: State, base: Array, progress: float) -> Array:
        return np.asarray(base / in_floats(_power, base, 1 + state["n_seen"], self.power_t))

    def end_epoch(self, state: State, base: Array, monitored: Array, n_seen: Array) -> None:
        state["n_seen"][...] = n_seen


@dataclass(frozen=True)
class Adaptive(Schedule):
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

    tol: PerMember = 1e-4
    n_iter_no_change: PerMember = 10.0

    def __post_init__(self) -> None:
        check_range(self, "tol", low=0, closed="left")
        check_range(self, "n_iter_no_change", low=0)  # np.inf for a rate that never falls

    @property
    def last_words(self) -> str:
        return "Learning rate too small. Stopping."

    def init(self, n_members: int) -> State:
        return {
            "divisor": np.ones((n_members, 1)),
            "stalled": np.zeros((n_members, 1), dtype=bool),
            **init_progress(n_members),
        }

    def rate(self, state: State, base: Array, progress: float) -> Array:
        return np.asarray(base / state["divisor"])

    def end_epoch(self, state: State, base: Array, monitored: Array, n_seen: Array) -> None:
        follow_progress(state, monitored, self.tol)
        weary = state["count"] > self.n_iter_no_change
        exhausted = base / state["divisor"] <= 1e-6
        state["stalled"][...] = weary & exhausted
        state["divisor"][weary & ~exhausted] *= 5
        state["count"][weary & ~exhausted] = 0

    def may_stop(self, state: State, n_members: int) -> Array:
        return np.asarray(state["stalled"])


@dataclass(frozen=True)
class Cosine(Schedule):
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

    final: PerMember = 0.0

    def __post_init__(self) -> None:
        check_range(self, "final", low=0, high=1)

    def rate(self, state: State, base: Array, progress: float) -> Array:
        return base * in_floats(lambda final: _leg(1.0, final, progress), base, self.final)


@dataclass(frozen=True)
class OneCycle(Schedule):
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

    warm_up: PerMember = 0.3
    start: PerMember = 0.04
    final: PerMember = 1e-4

    def __post_init__(self) -> None:
        check_range(self, "warm_up", "start", "final", low=0, high=1)

    def rate(self, state: State, base: Array, progress: float) -> Array:
        def share(warm_up: float, start: float, final: float) -> float:
            if progress < warm_up:
                return _leg(start, 1.0, progress / warm_up)
            return _leg(1.0, final, (progress - warm_up) / (1 - warm_up))

        return base * in_floats(share, base, self.warm_up, self.start, self.final)


@dataclass(frozen=True)
class Step(Schedule):
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

    factor: PerMember = 0.1
    at: tuple[float, ...] = (0.5, 0.75)

    def __post_init__(self) -> None:
        check_range(self, "factor", low=0, high=1, closed="right")
        at = tuple(self.at) if isinstance(self.at, Iterable) else (self.at,)
        if not all(isinstance(part, Real) and 0 <= part < 1 for part in at):
            raise ValueError(f"at of Step must hold numbers in the range [0, 1), got {self.at!r}.")
        object.__setattr__(self, "at", tuple(float(part) for part in at))

    def rate(self, state: State, base: Array, progress: float) -> Array:
        n_steps = sum(progress >= milestone for milestone in self.at)
        return base * in_floats(lambda factor: factor**n_steps, base, self.factor)


@dataclass(frozen=True)
class Exponential(Schedule):
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

    final: PerMember = 0.01

    def __post_init__(self) -> None:
        check_range(self, "final", low=0, high=1, closed="right")

    def rate(self, state: State, base: Array, progress: float) -> Array:
        return base * in_floats(lambda final: final**progress, base, self.final)


@dataclass(frozen=True)
class Plateau(Schedule):
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
    >>> from skbackprop.schedules import Plateau
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(
    ...     learning_rate=Plateau(factor=0.5, patience=3),
    ...     learning_rate_init=0.02,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> model.fit(X, y).score(X, y) > 0.95
    True
    """

    factor: PerMember = 0.1
    patience: PerMember = 5.0
    tol: PerMember = 1e-4
    smallest: PerMember = 0.0

    def __post_init__(self) -> None:
        check_range(self, "factor", low=0, high=1, closed="right")
        check_range(self, "patience", low=0)
        check_range(self, "tol", "smallest", low=0, closed="left")

    def init(self, n_members: int) -> State:
        return {"share": np.ones((n_members, 1)), **init_progress(n_members)}

    def rate(self, state: State, base: Array, progress: float) -> Array:
        lowest = np.minimum(base, self.smallest)
        return np.asarray(np.maximum(base * state["share"], lowest))

    def end_epoch(self, state: State, base: Array, monitored: Array, n_seen: Array) -> None:
        follow_progress(state, monitored, self.tol)
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


SCHEDULES: dict[str, type[Schedule]] = {
    "constant": Constant,
    "invscaling": InverseScaling,
    "adaptive": Adaptive,
    "cosine": Cosine,
    "one_cycle": OneCycle,
    "step": Step,
    "exponential": Exponential,
    "plateau": Plateau,
}
