"""Stochastic optimizers: settings that never change, and a state of arrays that does.

One class and one line in `OPTIMIZERS` make an optimizer. A hyperparameter may be one number
or an array of shape (n_members, 1), so that the members of a stack can differ in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from .arrays import Array, PerMember, State, column_blocks, factors


class Optimizer:
    """One rule to update the parameters from their gradients.

    For a stack of one, every hyperparameter and the rate are floats.
    """

    def init(self, theta: Array) -> State:
        """Return the state of a fresh start, for parameters of shape (n_members, p)."""
        raise NotImplementedError(f"{type(self).__name__} has to define init(theta)")

    def step(self, theta: Array, g: Array, state: State, rate: PerMember) -> None:
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
    """

    momentum: PerMember = 0.9
    nesterovs_momentum: bool = True

    def init(self, theta: Array) -> State:
        return {"velocity": np.zeros_like(theta)}

    def step(self, theta: Array, g: Array, state: State, rate: PerMember) -> None:
        momentum, rate = factors(theta, self.momentum, rate)
        for x, gradient, v in column_blocks(theta, g, state["velocity"]):
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
        What keeps the denominator from zero.
    """

    beta_1: PerMember = 0.9
    beta_2: PerMember = 0.999
    epsilon: PerMember = 1e-8

    def init(self, theta: Array) -> State:
        return {
            "first_moment": np.zeros_like(theta),
            "second_moment": np.zeros_like(theta),
            "n_steps": np.zeros((len(theta), 1), dtype=np.int64),
        }

    def step(self, theta: Array, g: Array, state: State, rate: PerMember) -> None:
        state["n_steps"] += 1
        rate, epsilon = self._corrected(state["n_steps"], rate)
        beta_1, beta_2, epsilon, rate = factors(theta, self.beta_1, self.beta_2, epsilon, rate)
        first, second = state["first_moment"], state["second_moment"]
        for x, gradient, m, v in column_blocks(theta, g, first, second):
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

    def _corrected(self, n_steps: Array, rate: PerMember) -> tuple[PerMember, PerMember]:
        """Return rate and epsilon as the scaled moments need them, bias correction included."""
        root, steps = _root(1 - self.beta_2), n_steps.ravel().tolist()
        bias = _root(1 - _power(self.beta_2, steps)) / (1 - _power(self.beta_1, steps))
        return rate * (bias * (1 - self.beta_1) / root), self.epsilon / root


def _root(value: PerMember) -> PerMember:
    """Return the square root, of a float as a float."""
    return np.asarray(np.sqrt(value)) if isinstance(value, np.ndarray) else math.sqrt(value)


def _power(beta: PerMember, steps: list[int]) -> PerMember:
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
}
