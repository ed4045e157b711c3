"""Estimators and encoders for raw tables."""

from .classifier import TabularClassifier
from .encoder import TableEncoder
from .numeric_encoders import PeriodicFeatures, PiecewiseLinearEncoder
from .regressor import TabularRegressor

__all__ = [
    "PeriodicFeatures",
    "PiecewiseLinearEncoder",
    "TableEncoder",
    "TabularClassifier",
    "TabularRegressor",
]
