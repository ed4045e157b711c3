"""Looking at a network, and at how it trains."""

from ..estimators.summary import Summary
from .features import BackpropFeatures
from .importance import input_importance
from .range_test import RangeTest, find_learning_rate

__all__ = ["BackpropFeatures", "RangeTest", "Summary", "find_learning_rate", "input_importance"]


def __dir__() -> list[str]:
    return __all__
