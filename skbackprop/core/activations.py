"""Activation functions of the hidden layers, each with its derivative.

One class and one line in `ACTIVATIONS` make an activation; an instance of one's own needs
no registration.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np

from .arrays import Array


class Activation:
    """An element-wise function f and its derivative.

    Attributes
    ----------
    keeps_input : bool, default=False
        Whether `backward` reads `z`. If not, `z` and `a` may share their memory.
    init_factor : float, default=6.0
        The factor c in the bound sqrt(c / (fan_in + fan_out)) of the initial weights under
        ``init="auto"`` (Glorot & Bengio 2010, section 4.2.1).
    """

    keeps_input: ClassVar[bool] = False
    init_factor: ClassVar[float] = 6.0

    def forward(self, z: Array, a: Array) -> None:
        """Write f(z) to `a`, which may be `z` itself unless `keeps_input`."""
        raise NotImplementedError(f"{type(self).__name__} has to define forward(z, a)")

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        """Multiply `delta` by f'(z) in place. On return `z` and `a` may be overwritten."""
        raise NotImplementedError(f"{type(self).__name__} has to define backward(z, a, delta)")


@dataclass(frozen=True)
class Identity(Activation):
    """f(z) = z, f'(z) = 1."""

    def forward(self, z: Array, a: Array) -> None:
        if a is not z:
            np.copyto(a, z)

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        pass


@dataclass(frozen=True)
class Logistic(Activation):
    """f(z) = 1 / (1 + exp(-z)) = (1 + tanh(z / 2)) / 2, f'(z) = a (1 - a).

    The form with tanh is computed, since NumPy's tanh is vectorised: its error is one unit
    in the last place of 1, not of f(z), which no layer above can tell apart.
    """

    init_factor: ClassVar[float] = 2.0

    def forward(self, z: Array, a: Array) -> None:
        np.multiply(z, 0.5, out=a)
        np.tanh(a, out=a)
        np.multiply(a, 0.5, out=a)
        np.add(a, 0.5, out=a)

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        np.multiply(delta, a, out=delta)
        np.subtract(1.0, a, out=a)
        np.multiply(delta, a, out=delta)


@dataclass(frozen=True)
class Tanh(Activation):
    """f(z) = tanh(z), f'(z) = 1 - a^2."""

    def forward(self, z: Array, a: Array) -> None:
        np.tanh(z, out=a)

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        np.multiply(a, a, out=a)
        np.subtract(1.0, a, out=a)
        np.multiply(delta, a, out=delta)


@dataclass(frozen=True)
class Relu(Activation):
    """f(z) = max(z, 0), f'(z) = 1 where z > 0, else 0."""

    def forward(self, z: Array, a: Array) -> None:
        np.maximum(z, _zeros_for(z), out=a)

    def backward(self, z: Array, a: Array, delta: Array) -> None:
        np.greater(a, 0, out=a)
        np.multiply(delta, a, out=delta)


def _zeros_for(z: Array) -> Array:
    """Return zeros that broadcast to `z`: a row, or where `z` is small, its very shape.

    NumPy's maximum is vectorised for two arrays, not for an array and a scalar, and goes
    through arrays of one shape in one loop instead of one for each row.
    """
    return _zeros(z.shape if z.nbytes <= 1 << 19 else z.shape[-1:], z.dtype)


@lru_cache(maxsize=64)
def _zeros(shape: tuple[int, ...], dtype: np.dtype[np.floating]) -> Array:
    zeros = np.zeros(shape, dtype)
    zeros.flags.writeable = False
    return zeros


ACTIVATIONS: dict[str, Activation] = {
    "identity": Identity(),
    "logistic": Logistic(),
    "tanh": Tanh(),
    "relu": Relu(),
}
