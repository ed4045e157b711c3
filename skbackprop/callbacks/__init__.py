"""Callbacks of our own for `set_callbacks`, in scikit-learn's protocol: what follows a fit."""

from .checkpoint import Checkpoint
from .curve import LearningCurve
from .log import TrainingLog
from .pruning import OptunaPruning

__all__ = ["Checkpoint", "LearningCurve", "OptunaPruning", "TrainingLog"]


def __dir__() -> list[str]:
    return __all__
