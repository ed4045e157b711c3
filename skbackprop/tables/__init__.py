"""Raw tables as input for networks: numbers, categories, missing values."""

from .encoder import TableEncoder
from .periodic import PeriodicFeatures
from .piecewise import PiecewiseLinearEncoder

__all__ = ["PeriodicFeatures", "PiecewiseLinearEncoder", "TableEncoder"]
