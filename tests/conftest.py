"""Fixtures for all tests, for those of a file, or for a test that asks for them."""

import hypothesis
import numpy as np
import pytest
import sklearn
from threadpoolctl import threadpool_limits

from skbackprop.nn.stack import Stack

# The same examples in every run: an unchanged tree stays green.
hypothesis.settings.register_profile("suite", derandomize=True, deadline=None, database=None)
hypothesis.settings.load_profile("suite")


def pytest_addoption(parser):
    folders = parser.getgroup("folders", "folders of tests that need more than Python packages")
    folders.addoption("--site", action="store_true", help="the documentation site, in a browser")
    folders.addoption("--clusters", action="store_true", help="searches on Ray and on Spark")


def pytest_ignore_collect(collection_path, config):
    """Leave out what needs a browser, or Ray and Spark, where it is not asked for, and scripts.

    Those in typed/ are for a type checker: test_types.py runs it, and what of them can be run.
    """
    left_out = {"typed"} | {name for name in ("site", "clusters") if not config.getoption(name)}
    return True if collection_path.name in left_out else None


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


@pytest.fixture
def stack_sizes(monkeypatch):
    """Provide the number of networks in each epoch of a stack."""
    sizes, train_epoch = [], Stack.train_epoch

    def record_and_train(stack, *arguments):
        sizes.append(len(stack.state))
        return train_epoch(stack, *arguments)

    monkeypatch.setattr(Stack, "train_epoch", record_and_train)
    return sizes


@pytest.fixture
def closed_figures():
    """Close the figures of pyplot after the test, and those of examples in docstrings before it."""
    from matplotlib import pyplot

    pyplot.close("all")
    yield
    pyplot.close("all")
