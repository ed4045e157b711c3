"""Fixture of a cluster of two workers in this process, which all tests share."""

import pytest
from distributed import Client

from support.cluster import make_cluster


@pytest.fixture(scope="package")  # its threads end with the tests of this folder
def client():
    with make_cluster() as cluster, Client(cluster) as client:
        yield client
