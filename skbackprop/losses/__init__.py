"""Losses of regressors and classifiers, and the links that turn raw output into predictions."""

from .base import CanonicalLinkLoss, Loss, TargetInterval
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
    "TargetInterval",
    "Tweedie",
]
