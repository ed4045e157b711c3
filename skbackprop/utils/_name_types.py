"""Literal types of the names of losses, solvers and so on; written by `make reference`."""

from __future__ import annotations

from typing import Literal, TypeAlias

ActivationName: TypeAlias = Literal[
    "identity",
    "logistic",
    "tanh",
    "relu",
    "leaky_relu",
    "elu",
    "selu",
    "gelu",
    "gelu_tanh",
    "silu",
    "mish",
    "softplus",
]
AutoencoderLossName: TypeAlias = Literal["squared_error", "log_loss"]
AverageName: TypeAlias = Literal["polyak", "ema"]
ClassifierLossName: TypeAlias = Literal["log_loss", "brier", "focal", "hinge", "squared_hinge"]
InitializerName: TypeAlias = Literal[
    "glorot_uniform",
    "glorot_normal",
    "he_uniform",
    "he_normal",
    "lecun_uniform",
    "lecun_normal",
]
LayerName: TypeAlias = Literal["scale", "periodic"]
NormalizationName: TypeAlias = Literal["batch", "layer"]
RegressorLossName: TypeAlias = Literal[
    "squared_error",
    "absolute_error",
    "huber",
    "log_cosh",
    "quantile",
    "poisson",
    "gamma",
    "tweedie",
    "gaussian",
]
ScheduleName: TypeAlias = Literal[
    "constant",
    "invscaling",
    "adaptive",
    "cosine",
    "one_cycle",
    "step",
    "exponential",
    "plateau",
]
SolverName: TypeAlias = Literal[
    "sgd",
    "adam",
    "adamw",
    "nadam",
    "amsgrad",
    "rmsprop",
    "adagrad",
    "lbfgs",
]
