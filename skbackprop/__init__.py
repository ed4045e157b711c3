"""The neural network that people who use scikit-learn wish it had."""

from .classifier import BackpropClassifier
from .regressor import BackpropRegressor
from .search import BackpropGridSearchCV, BackpropRandomizedSearchCV

__all__ = [
    "BackpropClassifier",
    "BackpropGridSearchCV",
    "BackpropRandomizedSearchCV",
    "BackpropRegressor",
    "__version__",
]

__version__ = "0.1.0"
