"""Feature importance, hidden features, summary and learning rate finder."""

from ..estimators.summary import Summary
from ._gradient_importance import gradient_importance
from ._hidden_features import BackpropFeatures
from ._learning_rate_finder import LearningRateFinderResult, find_learning_rate

__all__ = [
    "BackpropFeatures",
    "LearningRateFinderResult",
    "Summary",
    "find_learning_rate",
    "gradient_importance",
]


def __dir__() -> list[str]:
    return __all__
