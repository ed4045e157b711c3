"""Callbacks for `set_callbacks`: checkpoints, live plots, logs and pruning by Optuna."""

from .checkpoint import Checkpoint
from .live_plot import LiveLossPlot
from .optuna_pruning import OptunaPruningCallback
from .training_log import TrainingLog

__all__ = ["Checkpoint", "LiveLossPlot", "OptunaPruningCallback", "TrainingLog"]


def __dir__() -> list[str]:
    return __all__
