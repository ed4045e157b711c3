"""Training and prediction on a Dask cluster, of rows that stay on its workers."""

from importlib import import_module

from ..utils.optional_dependencies import require_extra

with require_extra("skbackprop.dask", extra="dask"):
    for _needed in ("dask.array", "dask.dataframe", "distributed"):
        import_module(_needed)

from ._errors import ClusterLostError
from ._sync import LocalSGD, SyncSGD
from .classifier import DaskBackpropClassifier
from .regressor import DaskBackpropRegressor

__all__ = [
    "ClusterLostError",
    "DaskBackpropClassifier",
    "DaskBackpropRegressor",
    "LocalSGD",
    "SyncSGD",
]


def __dir__() -> list[str]:
    return __all__
