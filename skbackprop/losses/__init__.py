"""The losses: what a network minimises, and how its scores become predictions."""

from .base import CanonicalLinkLoss, Loss
from .classification import (
    CLASSIFIER_LOSSES,
    BrierScore,
    ClassifierLoss,
    Focal,
    Hinge,
    LogLoss,
    SquaredHinge,
)
from .links import IDENTITY_LINK, LOG_LINK, LOGIT_LINK, SOFTMAX_LINK, Link
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
    "IDENTITY_LINK",
    "LOGIT_LINK",
    "LOG_LINK",
    "REGRESSOR_LOSSES",
    "SOFTMAX_LINK",
    "AbsoluteError",
    "BrierScore",
    "CanonicalLinkLoss",
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
    "Quantile",
    "SquaredError",
    "SquaredHinge",
    "Tweedie",
]


def __dir__() -> list[str]:
    return __all__
