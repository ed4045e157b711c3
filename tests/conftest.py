"""Fixtures for all tests, for those of a file, or for a test that asks for them."""

import numpy as np
import pytest
import sklearn
from threadpoolctl import threadpool_limits


@pytest.fixture(autouse=True)
def _same_draws():
    """Some of scikit-learn's checks fit without a seed: let them draw the same in any order."""
    np.random.seed(0)


@pytest.fixture(scope="module")
def one_blas_thread():
    """Products that several threads share may be rounded in another order from call to call."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield
