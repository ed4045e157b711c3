"""The losses: what a network minimises, and how its scores become predictions."""

from .base import CanonicalLoss, Loss
from .classification import (
    CLASSIFIER_LOSSES,
    ClassifierLoss,
    Focal,
    Hinge,
    LogLoss,
    ProbabilitySquaredError,
    SquaredHinge,
)
from .links import EXP, IDENTITY, LOGISTIC, SOFTMAX, Link
from .regression import (
    REGRESSOR_LOSSES,
    AbsoluteError,
    Gamma,
    Gaussian,
    Huber,
    LogCosh,
    Poisson,
    Quantile,
    SquaredError,
    Tweedie,
)

__all__ = [
    "CLASSIFIER_LOSSES",
    "EXP",
    "IDENTITY",
    "LOGISTIC",
    "REGRESSOR_LOSSES",
    "SOFTMAX",
    "AbsoluteError",
    "CanonicalLoss",
    "ClassifierLoss",
    "Focal",
    "Gamma",
    "Gaussian",
    "Hinge",
    "Huber",
    "Link",
    "LogCosh",
    "LogLoss",
    "Loss",
    "Poisson",
    "ProbabilitySquaredError",
    "Quantile",
    "SquaredError",
    "SquaredHinge",
    "Tweedie",
]


def __dir__() -> list[str]:
    return __all__
