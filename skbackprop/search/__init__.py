"""Searches the candidates of which train as stacks of networks."""

from .searches import BackpropGridSearchCV, BackpropRandomizedSearchCV

__all__ = ["BackpropGridSearchCV", "BackpropRandomizedSearchCV"]
