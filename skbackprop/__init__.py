"""The neural network that people who use scikit-learn wish it had."""

from .classifier import BackpropClassifier
from .core.losses import Focal, Hinge, SquaredHinge
from .core.regression import Gaussian, Huber, Quantile, Tweedie
from .regressor import BackpropRegressor
from .search import BackpropGridSearchCV, BackpropRandomizedSearchCV

__all__ = [
    "BackpropClassifier",
    "BackpropGridSearchCV",
    "BackpropRandomizedSearchCV",
    "BackpropRegressor",
    "Focal",
    "Gaussian",
    "Hinge",
    "Huber",
    "Quantile",
    "SquaredHinge",
    "Tweedie",
    "__version__",
]

__version__ = "0.1.0"
