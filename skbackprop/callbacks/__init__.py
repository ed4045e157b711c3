"""Callbacks for `set_callbacks`: checkpoints, logs and pruning by Optuna."""

from .checkpoint import Checkpoint
from .optuna_pruning import OptunaPruningCallback
from .training_log import TrainingLog

__all__ = ["Checkpoint", "OptunaPruningCallback", "TrainingLog"]
