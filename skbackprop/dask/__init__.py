"""Training and prediction on a Dask cluster, of rows that stay on its workers."""

from importlib import import_module

from ..core.extras import needed_by

with needed_by("skbackprop.dask", extra="dask"):
    for _needed in ("dask.array", "dask.dataframe", "distributed"):
        import_module(_needed)

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


def __dir__() -> list[str]:
    return __all__
