"""Callbacks of our own for `set_callbacks`, in scikit-learn's protocol: what follows a fit."""

from .curve import LearningCurve
from .log import TrainingLog

__all__ = ["LearningCurve", "TrainingLog"]
