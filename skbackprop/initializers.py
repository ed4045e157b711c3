"""Initial weights and biases, drawn layer by layer from a random stream.

One class and one line in `INITIALIZERS` make an initializer.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .utils.config import Configurable

__all__ = ["INITIALIZERS", "GlorotUniform", "Initializer", "VarianceScaling"]


def __dir__() -> list[str]:
    return __all__


Drawn: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Weights of shape (fan_in, fan_out) and biases of shape (fan_out,)."""


class Initializer(Configurable):
    """How one layer's parameters are drawn."""

    def draw(self, rng: np.random.RandomState, fan_in: int, fan_out: int) -> Drawn:
        """Return weights of shape (fan_in, fan_out) and biases of shape (fan_out,)."""
        raise NotImplementedError(f"{type(self).__name__} has to define draw(...)")


@dataclass(frozen=True)
class GlorotUniform(Initializer):
    """All parameters are uniform in [-c, c], c = sqrt(factor / (fan_in + fan_out)).

    Glorot & Bengio (2010), section 4.2.1, for the weights; the biases share their bound, as in
    scikit-learn.

    Parameters
    ----------
    factor : float, default=6.0
        6 for most activations, 2 for the logistic one; positive.

    Raises
    ------
    ValueError
        If the factor is not a positive number.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.initializers import GlorotUniform
    >>> BackpropClassifier(init=GlorotUniform(3.0))
    BackpropClassifier(init=GlorotUniform(factor=3.0))
    """

    factor: float = 6.0

    def __post_init__(self) -> None:
        _set_positive(self, "factor")

    def draw(self, rng: np.random.RandomState, fan_in: int, fan_out: int) -> Drawn:
        bound = np.sqrt(self.factor / (fan_in + fan_out))
        weights = rng.uniform(-bound, bound, (fan_in, fan_out))
        return weights, rng.uniform(-bound, bound, fan_out)


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Weights have mean 0 and variance = gain / fan; biases = 0.

    The fan is the mean of fan_in and fan_out for Glorot & Bengio (2010, equation 12), fan_in
    for LeCun et al. (1998, section 4.6) and, with gain 2, for He et al. (2015, equation 10).

    Parameters
    ----------
    gain : float, default=1.0
        The numerator of the variance, positive.
    fan : {"in", "average"}, default="average"
        The denominator of the variance.
    normal : bool, default=False
        Whether to draw from the normal distribution instead of the uniform one.

    Raises
    ------
    ValueError
        If a parameter has none of these values.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.initializers import VarianceScaling
    >>> BackpropClassifier(init=VarianceScaling(gain=1.5, fan="in"))
    BackpropClassifier(init=VarianceScaling(gain=1.5, fan='in', normal=False))
    """

    gain: float = 1.0
    fan: str = "average"
    normal: bool = False

    def __post_init__(self) -> None:
        _set_positive(self, "gain")
        if self.fan not in ("in", "average"):
            raise ValueError(f"fan must be 'in' or 'average', got {self.fan!r}.")
        if not isinstance(self.normal, (bool, np.bool_)):
            raise ValueError(f"normal must be True or False, got {self.normal!r}.")

    def draw(self, rng: np.random.RandomState, fan_in: int, fan_out: int) -> Drawn:
        fan = fan_in if self.fan == "in" else (fan_in + fan_out) / 2
        deviation = np.sqrt(self.gain / fan)
        if self.normal:
            weights = rng.normal(0.0, deviation, (fan_in, fan_out))
        else:
            bound = np.sqrt(3) * deviation
            weights = rng.uniform(-bound, bound, (fan_in, fan_out))
        return weights, np.zeros(fan_out)


def _set_positive(initializer: Initializer, name: str) -> None:
    """Make a setting a float, which draws in double precision, unless it is no positive number."""
    value: Any = getattr(initializer, name)
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    if not (is_number and 0 < float(value) < np.inf):
        raise ValueError(f"{name} must be a positive number, got {value!r}.")
    object.__setattr__(initializer, name, float(value))


INITIALIZERS: dict[str, Initializer] = {
    "glorot_uniform": VarianceScaling(),
    "glorot_normal": VarianceScaling(normal=True),
    "he_uniform": VarianceScaling(gain=2.0, fan="in"),
    "he_normal": VarianceScaling(gain=2.0, fan="in", normal=True),
    "lecun_uniform": VarianceScaling(fan="in"),
    "lecun_normal": VarianceScaling(fan="in", normal=True),
}
