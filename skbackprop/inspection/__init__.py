"""Looking at a network, and at how it trains."""

from .range_test import RangeTest, find_learning_rate

__all__ = ["RangeTest", "find_learning_rate"]
