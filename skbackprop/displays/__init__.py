"""Plots of networks, their training, searches and explanations, in scikit-learn's display API."""

from .explanation import ExplanationDisplay
from .network import NetworkDisplay, WeightsDisplay
from .search import SearchDisplay
from .training import LearningRateDisplay, LossCurveDisplay

__all__ = [
    "ExplanationDisplay",
    "LearningRateDisplay",
    "LossCurveDisplay",
    "NetworkDisplay",
    "SearchDisplay",
    "WeightsDisplay",
]
