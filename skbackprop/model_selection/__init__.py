"""Searches the candidates of which train as stacks of networks."""

from .search import BackpropGridSearchCV, BackpropRandomizedSearchCV
from .successive_halving import BackpropHalvingGridSearchCV, BackpropHalvingRandomSearchCV

__all__ = [
    "BackpropGridSearchCV",
    "BackpropHalvingGridSearchCV",
    "BackpropHalvingRandomSearchCV",
    "BackpropRandomizedSearchCV",
]


def __dir__() -> list[str]:
    return __all__
