"""Initializers, which draw the initial weights and biases of each layer.

To add an initializer, write a class and add it to `INITIALIZERS`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .utils.configurable import Configurable
from .utils.validation import between

__all__ = ["INITIALIZERS", "GlorotUniform", "Initializer", "VarianceScaling"]


WeightsAndBiases: TypeAlias = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Weights of shape (fan_in, fan_out) and biases of shape (fan_out,)."""


class Initializer(Configurable):
    """Base class of initializers, which draw the weights and biases of one layer."""

    def draw(self, rng: np.random.RandomState, fan_in: int, fan_out: int) -> WeightsAndBiases:
        """Return weights of shape (fan_in, fan_out) and biases of shape (fan_out,)."""
        raise NotImplementedError(f"{type(self).__name__} must define draw(...)")

    def draw_all(
        self, rng: np.random.RandomState, shapes: Sequence[tuple[int, ...]]
    ) -> list[WeightsAndBiases]:
        """Return the weights and biases of all layers of a network, in their order."""
        return [self.draw(rng, *shape) for shape in shapes]


@dataclass(frozen=True)
class GlorotUniform(Initializer):
    """Weights and biases uniform in [-c, c] with c = sqrt(factor / (fan_in + fan_out)).

    The bound of the weights is that of Glorot & Bengio (2010, section 4.2.1). The biases have the
    same bound, as in scikit-learn.

    Parameters
    ----------
    factor : float, default=6.0
        Positive number: 6 for most activations, 2 for the logistic one.

    Raises
    ------
    ValueError
        If the factor is not a positive number.

    See Also
    --------
    VarianceScaling : Other distributions and variances; zero biases.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.initializers import GlorotUniform
    >>> BackpropClassifier(init=GlorotUniform(3.0))
    BackpropClassifier(init=GlorotUniform(factor=3.0))
    """

    factor: Annotated[float, between(0, closed="neither")] = 6.0

    def draw(self, rng: np.random.RandomState, fan_in: int, fan_out: int) -> WeightsAndBiases:
        bound = np.sqrt(self.factor / (fan_in + fan_out))
        weights = rng.uniform(-bound, bound, (fan_in, fan_out))
        return weights, rng.uniform(-bound, bound, fan_out)


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Weights with mean 0 and variance = scale / fan; biases are zero.

    The parameters are Keras's. Glorot & Bengio (2010, equation 12) use the mean of fan_in and
    fan_out, LeCun et al. (1998, section 4.6) use fan_in, and He et al. (2015, equation 10) use
    fan_in with a scale of 2.

    Parameters
    ----------
    scale : float, default=1.0
        The numerator of the variance, positive.
    mode : {"fan_in", "fan_out", "fan_avg"}, default="fan_avg"
        The denominator of the variance: the number of inputs, the number of outputs, or the mean
        of both.
    distribution : {"uniform", "normal"}, default="uniform"
        The distribution of the weights. The normal distribution is not truncated.

    Raises
    ------
    ValueError
        If a parameter has an invalid value.

    See Also
    --------
    GlorotUniform : The initializer of scikit-learn.

    Examples
    --------
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.initializers import VarianceScaling
    >>> model = BackpropClassifier(init=VarianceScaling(scale=1.5, mode="fan_in"))
    """

    scale: Annotated[float, between(0, closed="neither")] = 1.0
    mode: Literal["fan_in", "fan_out", "fan_avg"] = "fan_avg"
    distribution: Literal["uniform", "normal"] = "uniform"

    def draw(self, rng: np.random.RandomState, fan_in: int, fan_out: int) -> WeightsAndBiases:
        fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
        std = np.sqrt(self.scale / fans[self.mode])
        if self.distribution == "normal":
            weights = rng.normal(0.0, std, (fan_in, fan_out))
        else:
            bound = np.sqrt(3) * std
            weights = rng.uniform(-bound, bound, (fan_in, fan_out))
        return weights, np.zeros(fan_out)


INITIALIZERS: dict[str, Initializer] = {
    "glorot_uniform": VarianceScaling(),
    "glorot_normal": VarianceScaling(distribution="normal"),
    "he_uniform": VarianceScaling(scale=2.0, mode="fan_in"),
    "he_normal": VarianceScaling(scale=2.0, mode="fan_in", distribution="normal"),
    "lecun_uniform": VarianceScaling(mode="fan_in"),
    "lecun_normal": VarianceScaling(mode="fan_in", distribution="normal"),
}
