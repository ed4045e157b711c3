"""Hyperparameter searches that train candidates as stacks of networks."""

from ._search import (
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    BackpropHalvingRandomSearchCV,
    BackpropRandomizedSearchCV,
)

__all__ = [
    "BackpropGridSearchCV",
    "BackpropHalvingGridSearchCV",
    "BackpropHalvingRandomSearchCV",
    "BackpropRandomizedSearchCV",
]
