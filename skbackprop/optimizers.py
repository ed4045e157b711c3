"""Stochastic optimizers: settings that never change, and a state of arrays that does.

One class and one line in `OPTIMIZERS` make an optimizer. A hyperparameter may be one number
or an array of shape (n_estimators, 1), so that the members of a stack can differ in it.

`LBFGS` holds the settings of the one solver that takes no stochastic steps; `SOLVERS` names all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .utils.arrays import (
    Array,
    ArrayDict,
    FloatOrPerMember,
    cast_hyperparameters,
    iter_column_blocks,
    iter_column_blocks_with_scratch,
)
from .utils.config import Configurable
from .utils.validation import validate_interval, validate_positive_int

__all__ = [
    "LBFGS",
    "OPTIMIZERS",
    "SGD",
    "SOLVERS",
    "AMSGrad",
    "Adagrad",
    "Adam",
    "AdamW",
    "NAdam",
    "Optimizer",
    "RMSprop",
]


def __dir__() -> list[str]:
    return __all__


class Optimizer(Configurable):
    """One rule to update the parameters from their gradients.

    For a stack of one, every hyperparameter and the rate are floats.
    """

    def decay(self, weights: Array, rate: FloatOrPerMember) -> None:
        """Shrink the weights in place, before each step; an optimizer without it leaves them.

        Decay that is decoupled from the gradients, such as `AdamW`'s, belongs here: `weights`
        is the part of the parameters that holds no biases.
        """

    def init(self, theta: Array) -> ArrayDict:
        """Return the state of a fresh start, for parameters of shape (n_estimators, p)."""
        raise NotImplementedError(f"{type(self).__name__} has to define init(theta)")

    def step(self, theta: Array, g: Array, state: ArrayDict, rate: FloatOrPerMember) -> None:
        """Update `theta` in place. On return `g` and the arrays in `state` are overwritten."""
        raise NotImplementedError(f"{type(self).__name__} has to define step(...)")


@dataclass(frozen=True)
class SGD(Optimizer):
    """Gradient descent with momentum, classical or Nesterov's.

    The velocity is v = momentum * v - rate * g. The step is theta + v, and under Nesterov's
    momentum theta + momentum * v - rate * g (Sutskever et al. 2013, section 2).

    Parameters
    ----------
    momentum : float, default=0.9
        The share of the last velocity that is kept, in [0, 1].
    nesterovs_momentum : bool, default=True
        Whether the step looks ahead along the velocity.

    Raises
    ------
    ValueError
        If the momentum is out of its range, or the flag is neither True nor False.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.optimizers import SGD
    >>> BackpropClassifier(solver=SGD(momentum=0.95), learning_rate_init=0.05)
    BackpropClassifier(learning_rate_init=0.05, solver=SGD(momentum=0.95, nesterovs_momentum=True))
    """

    momentum: FloatOrPerMember = 0.9
    nesterovs_momentum: bool = True

    def __post_init__(self) -> None:
        validate_interval(self, "momentum", low=0, high=1)
        if not isinstance(self.nesterovs_momentum, (bool, np.bool_)):
            raise ValueError(
                f"nesterovs_momentum of SGD must be True or False, got {self.nesterovs_momentum!r}."
            )

    def init(self, theta: Array) -> ArrayDict:
        return {"velocity": np.zeros_like(theta)}

    def step(self, theta: Array, g: Array, state: ArrayDict, rate: FloatOrPerMember) -> None:
        momentum, rate = cast_hyperparameters(theta, self.momentum, rate)
        for x, gradient, v in iter_column_blocks(theta, g, state["velocity"]):
            np.multiply(gradient, rate, out=gradient)
            np.multiply(v, momentum, out=v)
            np.subtract(v, gradient, out=v)
            if self.nesterovs_momentum:
                np.subtract(x, gradient, out=x)
                np.multiply(v, momentum, out=gradient)
                np.add(x, gradient, out=x)
            else:
                np.add(x, v, out=x)


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adaptive moments (Kingma & Ba 2015, algorithm 1, in the order of section 2).

    m = beta_1 m + (1 - beta_1) g, v = beta_2 v + (1 - beta_2) g^2, and in step t
    theta - rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon).

    The state holds m / (1 - beta_1) and v / (1 - beta_2), which saves two passes over the
    parameters a step.

    Parameters
    ----------
    beta_1, beta_2 : float, default=0.9, 0.999
        The decay of the first and second moment, in [0, 1).
    epsilon : float, default=1e-8
        What keeps the denominator from zero, positive.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.optimizers import Adam
    >>> BackpropClassifier(solver=Adam(beta_2=0.99))
    BackpropClassifier(solver=Adam(beta_1=0.9, beta_2=0.99, epsilon=1e-08))
    """

    beta_1: FloatOrPerMember = 0.9
    beta_2: FloatOrPerMember = 0.999
    epsilon: FloatOrPerMember = 1e-8

    def __post_init__(self) -> None:
        validate_interval(self, "beta_1", "beta_2", low=0, high=1, closed="left")
        validate_interval(self, "epsilon", low=0, closed="neither")

    def init(self, theta: Array) -> ArrayDict:
        return {
            "first_moment": np.zeros_like(theta),
            "second_moment": np.zeros_like(theta),
            "n_steps": np.zeros((len(theta), 1), dtype=np.int64),
        }

    def step(self, theta: Array, g: Array, state: ArrayDict, rate: FloatOrPerMember) -> None:
        state["n_steps"] += 1
        rate, epsilon = self._corrected(state["n_steps"], rate)
        beta_1, beta_2, epsilon, rate = cast_hyperparameters(
            theta, self.beta_1, self.beta_2, epsilon, rate
        )
        first, second = state["first_moment"], state["second_moment"]
        for x, gradient, m, v in iter_column_blocks(theta, g, first, second):
            np.multiply(m, beta_1, out=m)
            np.add(m, gradient, out=m)
            np.multiply(v, beta_2, out=v)
            np.multiply(gradient, gradient, out=gradient)
            np.add(v, gradient, out=v)
            np.sqrt(v, out=gradient)
            np.add(gradient, epsilon, out=gradient)
            np.divide(m, gradient, out=gradient)
            np.multiply(gradient, rate, out=gradient)
            np.subtract(x, gradient, out=x)

    def _corrected(
        self, n_steps: Array, rate: FloatOrPerMember
    ) -> tuple[FloatOrPerMember, FloatOrPerMember]:
        """Return rate and epsilon as the scaled moments need them, bias correction included."""
        root, steps = _root(1 - self.beta_2), n_steps.ravel().tolist()
        bias = _root(1 - _power(self.beta_2, steps)) / (1 - _power(self.beta_1, steps))
        return rate * (bias * (1 - self.beta_1) / root), self.epsilon / root


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

    The step is that of `Adam`, from weights that have shrunk before:
    W = W - rate * weight_decay * W. Biases do not shrink. The decay depends neither on the
    batch size nor on the number of rows nor, unlike a penalty, on the size of the gradients; a
    penalty (`alpha`) comes on top.

    Parameters
    ----------
    beta_1, beta_2 : float, default=0.9, 0.999
        The decay of the first and second moment, in [0, 1).
    epsilon : float, default=1e-8
        What keeps the denominator from zero, positive.
    weight_decay : float, default=0.01
        The share of the weights that a step at a rate of one takes away, not negative.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.optimizers import AdamW
    >>> model = BackpropClassifier(solver=AdamW(weight_decay=0.1), alpha=0)
    """

    weight_decay: FloatOrPerMember = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        validate_interval(self, "weight_decay", low=0, closed="left")

    def decay(self, weights: Array, rate: FloatOrPerMember) -> None:
        (kept,) = cast_hyperparameters(weights, 1 - rate * self.weight_decay)
        np.multiply(weights, kept, out=weights)


@dataclass(frozen=True)
class NAdam(Adam):
    """Adam with Nesterov's momentum (Dozat 2016, algorithm 2, with a constant momentum).

    With m and v as in `Adam`, the first moment looks one step ahead: in step t
    theta - rate * sqrt(1 - beta_2^t) * n / (sqrt(v) + epsilon), where
    n = beta_1 / (1 - beta_1^(t+1)) * m + (1 - beta_1) / (1 - beta_1^t) * g.

    Parameters
    ----------
    beta_1, beta_2 : float, default=0.9, 0.999
        The decay of the first and second moment, in [0, 1).
    epsilon : float, default=1e-8
        What keeps the denominator from zero, positive.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Notes
    -----
    The paper's momentum grows during training, and its v is multiplied by beta_2 once more
    than in Adam; neither is done here.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.optimizers import NAdam
    >>> model = BackpropClassifier(solver=NAdam(beta_1=0.95))
    """

    def step(self, theta: Array, g: Array, state: ArrayDict, rate: FloatOrPerMember) -> None:
        state["n_steps"] += 1
        ahead = self._ahead(state["n_steps"])
        rate, epsilon = self._corrected(state["n_steps"], rate)
        beta_1, beta_2, ahead, epsilon, rate = cast_hyperparameters(
            theta, self.beta_1, self.beta_2, ahead, epsilon, rate
        )
        first, second = state["first_moment"], state["second_moment"]
        for x, gradient, m, v, scratch in iter_column_blocks_with_scratch(theta, g, first, second):
            np.multiply(m, beta_1, out=m)
            np.add(m, gradient, out=m)
            np.multiply(v, beta_2, out=v)
            np.multiply(gradient, gradient, out=scratch)
            np.add(v, scratch, out=v)
            np.multiply(m, ahead, out=scratch)
            np.add(gradient, scratch, out=gradient)
            np.sqrt(v, out=scratch)
            np.add(scratch, epsilon, out=scratch)
            np.divide(gradient, scratch, out=gradient)
            np.multiply(gradient, rate, out=gradient)
            np.subtract(x, gradient, out=x)

    def _ahead(self, n_steps: Array) -> FloatOrPerMember:
        """Return how much of the scaled first moment is added to the gradient."""
        now, next_ = n_steps.ravel().tolist(), (n_steps + 1).ravel().tolist()
        return self.beta_1 * (1 - _power(self.beta_1, now)) / (1 - _power(self.beta_1, next_))


@dataclass(frozen=True)
class AMSGrad(Adam):
    """Adam whose denominator never falls (Reddi et al. 2018, algorithm 2).

    With m and v as in `Adam`, u = max(u, v) is the largest second moment so far, and in step t
    theta - rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(u) + epsilon).

    Parameters
    ----------
    beta_1, beta_2 : float, default=0.9, 0.999
        The decay of the first and second moment, in [0, 1).
    epsilon : float, default=1e-8
        What keeps the denominator from zero, positive.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Notes
    -----
    The bias of the moments is corrected as in Adam, which the paper leaves out: its first
    steps are some three times as long.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.optimizers import AMSGrad
    >>> model = BackpropClassifier(solver=AMSGrad(beta_2=0.99))
    """

    def init(self, theta: Array) -> ArrayDict:
        return {**super().init(theta), "largest_second_moment": np.zeros_like(theta)}

    def step(self, theta: Array, g: Array, state: ArrayDict, rate: FloatOrPerMember) -> None:
        state["n_steps"] += 1
        rate, epsilon = self._corrected(state["n_steps"], rate)
        beta_1, beta_2, epsilon, rate = cast_hyperparameters(
            theta, self.beta_1, self.beta_2, epsilon, rate
        )
        moments = state["first_moment"], state["second_moment"], state["largest_second_moment"]
        for x, gradient, m, v, largest in iter_column_blocks(theta, g, *moments):
            np.multiply(m, beta_1, out=m)
            np.add(m, gradient, out=m)
            np.multiply(v, beta_2, out=v)
            np.multiply(gradient, gradient, out=gradient)
            np.add(v, gradient, out=v)
            np.maximum(largest, v, out=largest)
            np.sqrt(largest, out=gradient)
            np.add(gradient, epsilon, out=gradient)
            np.divide(m, gradient, out=gradient)
            np.multiply(gradient, rate, out=gradient)
            np.subtract(x, gradient, out=x)


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """Steps over the root of a running mean of squared gradients (Tieleman & Hinton 2012).

    v = rho v + (1 - rho) g^2, and the step is theta - rate * g / (sqrt(v) + epsilon).

    The state holds v / (1 - rho), which saves a pass over the parameters a step.

    Parameters
    ----------
    rho : float, default=0.9
        The decay of the mean, in [0, 1).
    epsilon : float, default=1e-8
        What keeps the denominator from zero, positive.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.optimizers import RMSprop
    >>> model = BackpropClassifier(solver=RMSprop(rho=0.99))
    """

    rho: FloatOrPerMember = 0.9
    epsilon: FloatOrPerMember = 1e-8

    def __post_init__(self) -> None:
        validate_interval(self, "rho", low=0, high=1, closed="left")
        validate_interval(self, "epsilon", low=0, closed="neither")

    def init(self, theta: Array) -> ArrayDict:
        return {"second_moment": np.zeros_like(theta)}

    def step(self, theta: Array, g: Array, state: ArrayDict, rate: FloatOrPerMember) -> None:
        root = _root(1 - self.rho)
        rho, epsilon, rate = cast_hyperparameters(theta, self.rho, self.epsilon / root, rate / root)
        for x, gradient, v, scratch in iter_column_blocks_with_scratch(
            theta, g, state["second_moment"]
        ):
            np.multiply(v, rho, out=v)
            np.multiply(gradient, gradient, out=scratch)
            np.add(v, scratch, out=v)
            np.sqrt(v, out=scratch)
            np.add(scratch, epsilon, out=scratch)
            np.divide(gradient, scratch, out=gradient)
            np.multiply(gradient, rate, out=gradient)
            np.subtract(x, gradient, out=x)


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Steps over the root of the sum of all squared gradients (Duchi et al. 2011, figure 1).

    s = s + g^2, and the step is theta - rate * g / (sqrt(s) + epsilon).

    Parameters
    ----------
    epsilon : float, default=1e-8
        What keeps the denominator from zero, positive.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.optimizers import Adagrad
    >>> model = BackpropClassifier(solver=Adagrad(), learning_rate_init=0.02)
    """

    epsilon: FloatOrPerMember = 1e-8

    def __post_init__(self) -> None:
        validate_interval(self, "epsilon", low=0, closed="neither")

    def init(self, theta: Array) -> ArrayDict:
        return {"sum_of_squares": np.zeros_like(theta)}

    def step(self, theta: Array, g: Array, state: ArrayDict, rate: FloatOrPerMember) -> None:
        epsilon, rate = cast_hyperparameters(theta, self.epsilon, rate)
        for x, gradient, s, scratch in iter_column_blocks_with_scratch(
            theta, g, state["sum_of_squares"]
        ):
            np.multiply(gradient, gradient, out=scratch)
            np.add(s, scratch, out=s)
            np.sqrt(s, out=scratch)
            np.add(scratch, epsilon, out=scratch)
            np.divide(gradient, scratch, out=gradient)
            np.multiply(gradient, rate, out=gradient)
            np.subtract(x, gradient, out=x)


@dataclass(frozen=True)
class LBFGS(Configurable):
    """Settings of L-BFGS, which minimises on all rows at once (Byrd et al. 1995).

    It is no `Optimizer`: an iteration is a search along theta = theta - s H g, where H is what the
    last changes of parameters and gradients say of the curvature, and the length s is chosen by
    evaluations of the loss. So there is no learning rate.

    Parameters
    ----------
    max_fun : int, default=15000
        The most evaluations of the loss, at least 1.
    n_corrections : int, default=10
        The number of past iterations that H is made of, at least 1. Each takes two arrays of the
        size of the parameters.

    Raises
    ------
    ValueError
        If a setting is no such int.

    References
    ----------
    Byrd, R. H., Lu, P., Nocedal, J. & Zhu, C. (1995). A limited memory algorithm for bound
    constrained optimization. SIAM Journal on Scientific Computing 16(5), 1190-1208.

    Examples
    --------
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.optimizers import LBFGS
    >>> BackpropRegressor(solver=LBFGS(n_corrections=30))
    BackpropRegressor(solver=LBFGS(max_fun=15000, n_corrections=30))
    """

    max_fun: int = 15000
    n_corrections: int = 10

    def __post_init__(self) -> None:
        validate_positive_int(self, "max_fun", "n_corrections")


def _root(value: FloatOrPerMember) -> FloatOrPerMember:
    """Return the square root, of a float as a float."""
    return np.asarray(np.sqrt(value)) if isinstance(value, np.ndarray) else math.sqrt(value)


def _power(beta: FloatOrPerMember, steps: list[int]) -> FloatOrPerMember:
    """Return beta^t for each member's t, the same in a stack as for the member alone.

    The powers are those of Python's floats, since NumPy's depend on where in an array they are.
    """
    if isinstance(beta, np.ndarray):
        bases = beta.ravel().tolist()
    elif steps.count(steps[0]) == len(steps):
        power: float = beta ** steps[0]
        return power
    else:
        bases = [beta] * len(steps)
    powers = [base**t for base, t in zip(bases, steps, strict=True)]
    return np.array(powers)[:, None]


OPTIMIZERS: dict[str, type[Optimizer]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "nadam": NAdam,
    "amsgrad": AMSGrad,
    "rmsprop": RMSprop,
    "adagrad": Adagrad,
}

SOLVERS: dict[str, type[Optimizer] | type[LBFGS]] = {**OPTIMIZERS, "lbfgs": LBFGS}
