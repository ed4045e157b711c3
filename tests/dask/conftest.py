"""Fixture of a cluster of two workers in this process, which all tests share."""

import pytest
from distributed import Client

from support.cluster import make_cluster


@pytest.fixture(scope="session")
def client():
    with make_cluster() as cluster, Client(cluster) as client:
        yield client
