"""Callbacks that follow training, in scikit-learn's protocol: see `set_callbacks`."""

from .checkpoint import Checkpoint

__all__ = ["Checkpoint"]
