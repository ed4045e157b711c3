"""Dask data, and the comparison of estimators trained on a cluster with local ones."""

import dask.array as da
import numpy as np
from distributed import LocalCluster

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.dask import DaskBackpropClassifier, DaskBackpropRegressor

DASK = {
    BackpropClassifier: DaskBackpropClassifier,
    BackpropRegressor: DaskBackpropRegressor,
}


def make_cluster(n_workers=2, **settings):
    """Return a cluster whose workers have one thread each, by default in this process."""
    settings = {"processes": False, "dashboard_address": ":0", "silence_logs": 50} | settings
    return LocalCluster(n_workers=n_workers, threads_per_worker=1, **settings)


def dask_data(*arrays, rows=25):
    """Return Dask arrays with blocks of so many rows; None stays None."""
    return [
        None if each is None else da.from_array(each, chunks=(rows, *map(int, each.shape[1:])))
        for each in arrays
    ]


def settings_of(**changes):
    """Return the settings of a small network that takes exactly three epochs."""
    settings = {"max_iter": 3, "n_iter_no_change": np.inf, "learning_rate_init": 0.05}
    return settings | {"hidden_layer_sizes": (5,), "random_state": 0} | changes


def assert_same_fit(local, distributed, rtol=1e-9):
    """Check that two estimators have learned the same, up to rounding."""
    pairs = zip(
        [*local.coefs_, *local.intercepts_],
        [*distributed.coefs_, *distributed.intercepts_],
        strict=True,
    )
    for own, other in pairs:
        np.testing.assert_allclose(other, own, rtol=rtol, atol=rtol * np.abs(own).max())
    curves = (np.hstack(each.loss_curve_) for each in (distributed, local))
    np.testing.assert_allclose(*curves, rtol=rtol)
    np.testing.assert_array_equal(distributed.t_, local.t_)
    np.testing.assert_array_equal(distributed.n_iter_, local.n_iter_)
