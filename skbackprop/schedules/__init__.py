"""The learning-rate schedules: what an epoch's rate is."""

from .base import LearningRateSchedule
from .schedules import (
    SCHEDULES,
    Adaptive,
    ConstantRate,
    CosineDecay,
    ExponentialDecay,
    InverseScaling,
    LambdaSchedule,
    LinearWarmup,
    OneCycle,
    ReduceOnPlateau,
    StepDecay,
)

__all__ = [
    "SCHEDULES",
    "Adaptive",
    "ConstantRate",
    "CosineDecay",
    "ExponentialDecay",
    "InverseScaling",
    "LambdaSchedule",
    "LearningRateSchedule",
    "LinearWarmup",
    "OneCycle",
    "ReduceOnPlateau",
    "StepDecay",
]


def __dir__() -> list[str]:
    return __all__
