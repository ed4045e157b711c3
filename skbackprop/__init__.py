"""The neural network that people who use scikit-learn wish it had."""

from .classifier import BackpropClassifier
from .regressor import BackpropRegressor

__all__ = ["BackpropClassifier", "BackpropRegressor", "__version__"]

__version__ = "0.1.0"
