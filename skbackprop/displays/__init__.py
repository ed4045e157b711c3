"""Plots of networks, their training, searches and explanations, in scikit-learn's display API."""

from .explanation import ExplanationDisplay
from .learning_rate import LearningRateDisplay
from .loss_curve import LossCurveDisplay
from .network import NetworkDisplay
from .search import SearchDisplay
from .weights import WeightsDisplay

__all__ = [
    "ExplanationDisplay",
    "LearningRateDisplay",
    "LossCurveDisplay",
    "NetworkDisplay",
    "SearchDisplay",
    "WeightsDisplay",
]


def __dir__() -> list[str]:
    return __all__
