"""The neural network that people who use scikit-learn wish it had."""

from .classifier import BackpropClassifier
from .core.activations import (
    Elu,
    Gelu,
    GeluTanh,
    Identity,
    LeakyRelu,
    Logistic,
    Mish,
    Relu,
    Selu,
    Silu,
    Softplus,
    Tanh,
)
from .core.initializers import BoundedUniform, VarianceScaling
from .core.losses import Focal, Hinge, SquaredHinge
from .core.optimizers import SGD, Adagrad, Adam, AdamW, AMSGrad, NAdam, RMSprop
from .core.regression import Gaussian, Huber, Quantile, Tweedie
from .regressor import BackpropRegressor
from .search import BackpropGridSearchCV, BackpropRandomizedSearchCV

__all__ = [
    "SGD",
    "AMSGrad",
    "Adagrad",
    "Adam",
    "AdamW",
    "BackpropClassifier",
    "BackpropGridSearchCV",
    "BackpropRandomizedSearchCV",
    "BackpropRegressor",
    "BoundedUniform",
    "Elu",
    "Focal",
    "Gaussian",
    "Gelu",
    "GeluTanh",
    "Hinge",
    "Huber",
    "Identity",
    "LeakyRelu",
    "Logistic",
    "Mish",
    "NAdam",
    "Quantile",
    "RMSprop",
    "Relu",
    "Selu",
    "Silu",
    "Softplus",
    "SquaredHinge",
    "Tanh",
    "Tweedie",
    "VarianceScaling",
    "__version__",
]

__version__ = "0.1.0"
