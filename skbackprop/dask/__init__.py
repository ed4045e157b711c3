"""Estimators for data on the workers of a Dask cluster."""

from importlib import import_module

from ..utils.validation import require_extra

with require_extra("skbackprop.dask", extra="dask"):
    for _module in ("dask.array", "dask.dataframe", "distributed"):
        import_module(_module)

from ._blocks import ClusterLostError
from .estimators import DaskBackpropClassifier, DaskBackpropRegressor
from .tabular import DaskTabularClassifier, DaskTabularRegressor

__all__ = [
    "ClusterLostError",
    "DaskBackpropClassifier",
    "DaskBackpropRegressor",
    "DaskTabularClassifier",
    "DaskTabularRegressor",
]
