"""Searches the candidates of which train as stacks of networks."""

from .halving import BackpropHalvingGridSearchCV, BackpropHalvingRandomSearchCV
from .searches import BackpropGridSearchCV, BackpropRandomizedSearchCV

__all__ = [
    "BackpropGridSearchCV",
    "BackpropHalvingGridSearchCV",
    "BackpropHalvingRandomSearchCV",
    "BackpropRandomizedSearchCV",
]


def __dir__() -> list[str]:
    return __all__
