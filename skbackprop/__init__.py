"""The neural network that people who use scikit-learn wish it had."""

from .autoencoder import BackpropAutoencoder
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
from .core.normalization import BatchNormalization, LayerNormalization
from .core.optimizers import SGD, Adagrad, Adam, AdamW, AMSGrad, NAdam, RMSprop
from .core.regression import Gaussian, Huber, Quantile, Tweedie
from .core.schedules import (
    Adaptive,
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    OneCycle,
    Plateau,
    Step,
)
from .core.warmup import OfProgress, WarmUp
from .regressor import BackpropRegressor
from .search import BackpropGridSearchCV, BackpropRandomizedSearchCV
from .tuning import RangeTest, find_learning_rate

__all__ = [
    "SGD",
    "AMSGrad",
    "Adagrad",
    "Adam",
    "AdamW",
    "Adaptive",
    "BackpropAutoencoder",
    "BackpropClassifier",
    "BackpropGridSearchCV",
    "BackpropRandomizedSearchCV",
    "BackpropRegressor",
    "BatchNormalization",
    "BoundedUniform",
    "Constant",
    "Cosine",
    "Elu",
    "Exponential",
    "Focal",
    "Gaussian",
    "Gelu",
    "GeluTanh",
    "Hinge",
    "Huber",
    "Identity",
    "InverseScaling",
    "LayerNormalization",
    "LeakyRelu",
    "Logistic",
    "Mish",
    "NAdam",
    "OfProgress",
    "OneCycle",
    "Plateau",
    "Quantile",
    "RMSprop",
    "RangeTest",
    "Relu",
    "Selu",
    "Silu",
    "Softplus",
    "SquaredHinge",
    "Step",
    "Tanh",
    "Tweedie",
    "VarianceScaling",
    "WarmUp",
    "__version__",
    "find_learning_rate",
]

__version__ = "0.1.0"
