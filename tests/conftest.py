"""Fixtures that several test files use, for a test or for all of a file."""

import pytest
import sklearn
from threadpoolctl import threadpool_limits


@pytest.fixture(scope="module")
def one_blas_thread():
    """Products that several threads share may be rounded in another order from call to call."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield
