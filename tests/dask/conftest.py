"""Fixture of a cluster of two workers in this process."""

import pytest
from distributed import Client, LocalCluster


@pytest.fixture(scope="module")
def client():
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    with LocalCluster(**settings, dashboard_address=":0") as cluster, Client(cluster) as client:
        yield client
