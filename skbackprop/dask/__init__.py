"""Training and prediction on a Dask cluster, of rows that stay on its workers."""

from importlib import import_module

try:
    for _needed in ("dask.array", "dask.dataframe", "distributed"):
        import_module(_needed)
except ImportError as error:
    raise ImportError("skbackprop.dask needs Dask: pip install 'skbackprop[dask]'.") from error

from .classifier import DaskBackpropClassifier
from .lost import ClusterLost
from .regressor import DaskBackpropRegressor
from .rounds import LocalSteps, Synchronous

__all__ = [
    "ClusterLost",
    "DaskBackpropClassifier",
    "DaskBackpropRegressor",
    "LocalSteps",
    "Synchronous",
]
