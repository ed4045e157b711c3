"""Searches with joblib's Dask backend."""

import joblib
import pytest
from distributed import get_task_stream
from sklearn.base import clone

from support import assert_same_search, class_data, few_epochs, same_bits
from support.searches import SEARCHES

pytestmark = [few_epochs, pytest.mark.slow, pytest.mark.usefixtures("client", "one_blas_thread")]


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_on_a_cluster_equal_local_searches(client, name):
    X, y = class_data(90)
    local = clone(SEARCHES[name]).fit(X, y)
    with joblib.parallel_backend("dask", client=client), get_task_stream(client) as tasks:
        on_cluster = clone(SEARCHES[name]).fit(X, y)
    assert tasks.data
    assert_same_search(on_cluster, local)
    assert same_bits(on_cluster.best_estimator_, local.best_estimator_)
