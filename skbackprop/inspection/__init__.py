"""Explanations, feature importance, hidden features, summary and learning rate finder."""

from ..estimators.explanation import Explanation
from ..estimators.summary import Summary
from ._explain import explain, gradient_importance
from ._hidden_features import BackpropFeatures
from ._learning_rate_finder import LearningRateFinderResult, find_learning_rate

__all__ = [
    "BackpropFeatures",
    "Explanation",
    "LearningRateFinderResult",
    "Summary",
    "explain",
    "find_learning_rate",
    "gradient_importance",
]
