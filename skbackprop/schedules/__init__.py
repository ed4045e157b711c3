"""The learning-rate schedules: what an epoch's rate is."""

from .base import Schedule
from .kinds import (
    SCHEDULES,
    Adaptive,
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    OneCycle,
    Plateau,
    Step,
)
from .warmup import OfProgress, WarmUp

__all__ = [
    "SCHEDULES",
    "Adaptive",
    "Constant",
    "Cosine",
    "Exponential",
    "InverseScaling",
    "OfProgress",
    "OneCycle",
    "Plateau",
    "Schedule",
    "Step",
    "WarmUp",
]


def __dir__() -> list[str]:
    return __all__
