"""Stochastic optimizers, and the settings of L-BFGS.

An optimizer is immutable; its state is a dict of arrays. A hyperparameter is a float, or an array
of shape (n_estimators, 1) if the members of a stack have different values. To add an optimizer,
write a class and add it to `OPTIMIZERS`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np

from .utils.arrays import (
    Array,
    ArrayDict,
    FloatOrPerMember,
    cast_hyperparameters,
    iter_column_blocks,
    iter_column_blocks_with_scratch,
)
from .utils.configurable import Configurable
from .utils.validation import between, validate_positive_int

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


class Optimizer(Configurable):
    """Base class of optimizers, which update the parameters by their gradients.

    For a single network, all hyperparameters and the learning rate are floats.
    """

    def decay(self, weights: Array, rate: FloatOrPerMember) -> None:
        """Apply decoupled weight decay in place, before each step; by default there is none.

        The array `weights` is the part of the parameters without biases.
        """

    def init(self, theta: Array) -> ArrayDict:
        """Return the initial state for parameters of shape (n_estimators, p)."""
        raise NotImplementedError(f"{type(self).__name__} must define init(theta)")

    def step(self, theta: Array, g: Array, state: ArrayDict, rate: FloatOrPerMember) -> None:
        """Update `theta` and the arrays of `state` in place; `g` is overwritten."""
        raise NotImplementedError(f"{type(self).__name__} must define step(...)")


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent with classical or Nesterov momentum.

    The velocity is v = momentum * v - rate * g. The update is theta + v, or with Nesterov momentum
    theta + momentum * v - rate * g (Sutskever et al. 2013, section 2).

    Parameters
    ----------
    momentum : float, default=0.9
        The factor of the previous velocity, in [0, 1].
    nesterovs_momentum : bool, default=True
        Whether to use Nesterov momentum.

    Raises
    ------
    ValueError
        If a setting is invalid.

    See Also
    --------
    Adam : Adapts the step of each weight.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.optimizers import SGD
    >>> BackpropClassifier(solver=SGD(momentum=0.95), learning_rate_init=0.05)
    BackpropClassifier(learning_rate_init=0.05, solver=SGD(momentum=0.95))
    """

    momentum: Annotated[FloatOrPerMember, between(0, 1)] = 0.9
    nesterovs_momentum: bool = True

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
    """Adam, adaptive moment estimation (Kingma & Ba 2015, algorithm 1, in the form of section 2).

    m = beta_1 m + (1 - beta_1) g, v = beta_2 v + (1 - beta_2) g^2, and in step t
    theta - rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(v) + epsilon).

    The state holds m / (1 - beta_1) and v / (1 - beta_2), which saves two passes over the
    parameters per step.

    Parameters
    ----------
    beta_1, beta_2 : float, default=0.9, 0.999
        Decay rates of the first and second moment, in [0, 1).
    epsilon : float, default=1e-8
        Small positive constant added to the denominator for numerical stability.

    Raises
    ------
    ValueError
        If a setting is out of range.

    See Also
    --------
    AdamW : Decoupled weight decay.
    SGD : Gradient descent with momentum.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.optimizers import Adam
    >>> BackpropClassifier(solver=Adam(beta_2=0.99))
    BackpropClassifier(solver=Adam(beta_2=0.99))
    """

    beta_1: Annotated[FloatOrPerMember, between(0, 1, "left")] = 0.9
    beta_2: Annotated[FloatOrPerMember, between(0, 1, "left")] = 0.999
    epsilon: Annotated[FloatOrPerMember, between(0, closed="neither")] = 1e-8
    _moments: ClassVar[tuple[str, ...]] = ("first_moment", "second_moment")

    def init(self, theta: Array) -> ArrayDict:
        state = {name: np.zeros_like(theta) for name in self._moments}
        return state | {"n_steps": np.zeros((len(theta), 1), dtype=np.int64)}

    def step(self, theta: Array, g: Array, state: ArrayDict, rate: FloatOrPerMember) -> None:
        state["n_steps"] += 1
        rate, epsilon = self._compute_corrected_rate(state["n_steps"], rate)
        beta_1, beta_2, epsilon, rate = cast_hyperparameters(
            theta, self.beta_1, self.beta_2, epsilon, rate
        )
        moments = map(state.__getitem__, self._moments)
        for x, gradient, m, v, *others in iter_column_blocks(theta, g, *moments):
            np.multiply(m, beta_1, out=m)
            np.add(m, gradient, out=m)
            np.multiply(v, beta_2, out=v)
            np.multiply(gradient, gradient, out=gradient)
            np.add(v, gradient, out=v)
            _take_step(x, m, self._denominator_moment(v, *others), epsilon, rate, gradient)

    def _denominator_moment(self, *moments: Array) -> Array:
        """Return the one of the moments after the first that scales the step."""
        return moments[0]

    def _compute_corrected_rate(
        self, n_steps: Array, rate: FloatOrPerMember
    ) -> tuple[FloatOrPerMember, FloatOrPerMember]:
        """Return learning rate and epsilon for the scaled moments, with bias correction."""
        root, steps = _root(1 - self.beta_2), n_steps.ravel().tolist()
        bias = _root(1 - _power(self.beta_2, steps)) / (1 - _power(self.beta_1, steps))
        return rate * (bias * (1 - self.beta_1) / root), self.epsilon / root


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

    Before each step of `Adam`, the weights shrink: W = W - rate * weight_decay * W. Biases do not.
    The decay does not depend on the batch size, the number of rows or, unlike an L2 penalty, on
    the size of the gradients. An L2 penalty (`alpha`) is applied in addition.

    Parameters
    ----------
    beta_1, beta_2 : float, default=0.9, 0.999
        Decay rates of the first and second moment, in [0, 1).
    epsilon : float, default=1e-8
        Small positive constant added to the denominator for numerical stability.
    weight_decay : float, default=0.01
        Decay of the weights per step, relative to the learning rate, non-negative.

    Raises
    ------
    ValueError
        If a setting is out of range.

    See Also
    --------
    Adam : Without weight decay.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.optimizers import AdamW
    >>> model = BackpropClassifier(solver=AdamW(weight_decay=0.1), alpha=0)
    """

    weight_decay: Annotated[FloatOrPerMember, between(0, closed="left")] = 0.01

    def decay(self, weights: Array, rate: FloatOrPerMember) -> None:
        (factor,) = cast_hyperparameters(weights, 1 - rate * self.weight_decay)
        np.multiply(weights, factor, out=weights)


@dataclass(frozen=True)
class NAdam(Adam):
    """Adam with Nesterov momentum (Dozat 2016, algorithm 2, with a constant momentum).

    With m and v as in `Adam`, the first moment looks one step ahead: in step t
    theta - rate * sqrt(1 - beta_2^t) * n / (sqrt(v) + epsilon), where
    n = beta_1 / (1 - beta_1^(t+1)) * m + (1 - beta_1) / (1 - beta_1^t) * g.

    Parameters
    ----------
    beta_1, beta_2 : float, default=0.9, 0.999
        Decay rates of the first and second moment, in [0, 1).
    epsilon : float, default=1e-8
        Small positive constant added to the denominator for numerical stability.

    Raises
    ------
    ValueError
        If a setting is out of range.

    See Also
    --------
    Adam : Without Nesterov's momentum.

    Notes
    -----
    In the paper, the momentum grows during training and v is multiplied by beta_2 once more than
    in Adam. This implementation does neither.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.optimizers import NAdam
    >>> model = BackpropClassifier(solver=NAdam(beta_1=0.95))
    """

    def step(self, theta: Array, g: Array, state: ArrayDict, rate: FloatOrPerMember) -> None:
        state["n_steps"] += 1
        now, next_ = (n.ravel().tolist() for n in (state["n_steps"], state["n_steps"] + 1))
        # The factor of the scaled first moment that is added to the gradient.
        momentum = self.beta_1 * (1 - _power(self.beta_1, now)) / (1 - _power(self.beta_1, next_))
        rate, epsilon = self._compute_corrected_rate(state["n_steps"], rate)
        beta_1, beta_2, momentum, epsilon, rate = cast_hyperparameters(
            theta, self.beta_1, self.beta_2, momentum, epsilon, rate
        )
        first, second = state["first_moment"], state["second_moment"]
        for x, gradient, m, v, scratch in iter_column_blocks_with_scratch(theta, g, first, second):
            np.multiply(m, beta_1, out=m)
            np.add(m, gradient, out=m)
            np.multiply(v, beta_2, out=v)
            np.multiply(gradient, gradient, out=scratch)
            np.add(v, scratch, out=v)
            np.multiply(m, momentum, out=scratch)
            np.add(gradient, scratch, out=gradient)
            _take_step(x, gradient, v, epsilon, rate, scratch)


@dataclass(frozen=True)
class AMSGrad(Adam):
    """Adam with a denominator that never decreases (Reddi et al. 2018, algorithm 2).

    With m and v as in `Adam`, u = max(u, v) is the largest second moment so far, and in step t
    theta - rate * sqrt(1 - beta_2^t) / (1 - beta_1^t) * m / (sqrt(u) + epsilon).

    Parameters
    ----------
    beta_1, beta_2 : float, default=0.9, 0.999
        Decay rates of the first and second moment, in [0, 1).
    epsilon : float, default=1e-8
        Small positive constant added to the denominator for numerical stability.

    Raises
    ------
    ValueError
        If a setting is out of range.

    See Also
    --------
    Adam : Without the maximum of past moments.

    Notes
    -----
    The bias of the moments is corrected as in Adam. The paper does not correct it, so that its
    first steps are about three times as long.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.optimizers import AMSGrad
    >>> model = BackpropClassifier(solver=AMSGrad(beta_2=0.99))
    """

    _moments: ClassVar[tuple[str, ...]] = (*Adam._moments, "largest_second_moment")

    def _denominator_moment(self, *moments: Array) -> Array:
        second_moment, largest = moments
        return np.maximum(largest, second_moment, out=largest)


@dataclass(frozen=True)
class RMSprop(Optimizer):
    """RMSprop, gradients scaled by a running root mean square (Tieleman & Hinton 2012).

    v = rho v + (1 - rho) g^2, and the update is theta - rate * g / (sqrt(v) + epsilon).

    The state holds v / (1 - rho), which saves a pass over the parameters per step.

    Parameters
    ----------
    rho : float, default=0.9
        Decay rate of the running mean, in [0, 1).
    epsilon : float, default=1e-8
        Small positive constant added to the denominator for numerical stability.

    Raises
    ------
    ValueError
        If a setting is out of range.

    See Also
    --------
    Adam : With momentum and bias correction.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.optimizers import RMSprop
    >>> model = BackpropClassifier(solver=RMSprop(rho=0.99))
    """

    rho: Annotated[FloatOrPerMember, between(0, 1, "left")] = 0.9
    epsilon: Annotated[FloatOrPerMember, between(0, closed="neither")] = 1e-8

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
            _take_step(x, gradient, v, epsilon, rate, scratch)


@dataclass(frozen=True)
class Adagrad(Optimizer):
    """Adagrad, gradients scaled by the root of their sum of squares (Duchi et al. 2011, figure 1).

    s = s + g^2, and the update is theta - rate * g / (sqrt(s) + epsilon).

    Parameters
    ----------
    epsilon : float, default=1e-8
        Small positive constant added to the denominator for numerical stability.

    Raises
    ------
    ValueError
        If a setting is out of range.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.optimizers import Adagrad
    >>> model = BackpropClassifier(solver=Adagrad(), learning_rate_init=0.02)
    """

    epsilon: Annotated[FloatOrPerMember, between(0, closed="neither")] = 1e-8

    def init(self, theta: Array) -> ArrayDict:
        return {"sum_of_squares": np.zeros_like(theta)}

    def step(self, theta: Array, g: Array, state: ArrayDict, rate: FloatOrPerMember) -> None:
        epsilon, rate = cast_hyperparameters(theta, self.epsilon, rate)
        for x, gradient, s, scratch in iter_column_blocks_with_scratch(
            theta, g, state["sum_of_squares"]
        ):
            np.multiply(gradient, gradient, out=scratch)
            np.add(s, scratch, out=s)
            _take_step(x, gradient, s, epsilon, rate, scratch)


@dataclass(frozen=True)
class LBFGS(Configurable):
    """Settings of L-BFGS, a full-batch quasi-Newton solver (Byrd et al. 1995).

    It is not an `Optimizer`. Each iteration is a line search theta = theta - s H g, where H
    approximates the inverse Hessian by the last changes of parameters and gradients. There is no
    learning rate: the step length s is chosen by evaluations of the loss.

    Parameters
    ----------
    max_fun : int, default=15000
        Maximum number of evaluations of the loss, at least 1.
    n_corrections : int, default=10
        The number of past iterations that approximate H, at least 1. Each takes two arrays of the
        size of the parameters.

    Raises
    ------
    ValueError
        If a setting is not an int of at least 1.

    See Also
    --------
    Adam : For many rows.

    References
    ----------
    Byrd, R. H., Lu, P., Nocedal, J. & Zhu, C. (1995). A limited memory algorithm for bound
    constrained optimization. SIAM Journal on Scientific Computing 16(5), 1190-1208.

    Examples
    --------
    >>> from skbackprop import BackpropRegressor
    >>> from skbackprop.optimizers import LBFGS
    >>> BackpropRegressor(solver=LBFGS(n_corrections=30))
    BackpropRegressor(solver=LBFGS(n_corrections=30))
    """

    max_fun: Annotated[int, validate_positive_int] = 15000
    n_corrections: Annotated[int, validate_positive_int] = 10


def _take_step(
    x: Array,
    direction: Array,
    squares: Array,
    epsilon: FloatOrPerMember,
    rate: FloatOrPerMember,
    scratch: Array,
) -> None:
    """Subtract ``rate * direction / (sqrt(squares) + epsilon)`` from `x`."""
    np.sqrt(squares, out=scratch)
    np.add(scratch, epsilon, out=scratch)
    np.divide(direction, scratch, out=scratch)
    np.multiply(scratch, rate, out=scratch)
    np.subtract(x, scratch, out=x)


def _root(value: FloatOrPerMember) -> FloatOrPerMember:
    """Return the square root, a float for a float."""
    return np.asarray(np.sqrt(value)) if isinstance(value, np.ndarray) else math.sqrt(value)


def _power(beta: FloatOrPerMember, steps: list[int]) -> FloatOrPerMember:
    """Return beta^t for the number of steps t of each member.

    Powers of Python floats are the same in a stack as for a single network. NumPy's powers depend
    on the position in the array.
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
