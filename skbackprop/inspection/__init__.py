"""Looking at a network, and at how it trains."""

from ..estimators.summary import Summary
from .gradient_importance import gradient_importance
from .hidden_features import BackpropFeatures
from .learning_rate_finder import LearningRateFinderResult, find_learning_rate

__all__ = [
    "BackpropFeatures",
    "LearningRateFinderResult",
    "Summary",
    "find_learning_rate",
    "gradient_importance",
]


def __dir__() -> list[str]:
    return __all__
