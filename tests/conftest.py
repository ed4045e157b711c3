"""Fixtures for all tests, for those of a file, or for a test that asks for them."""

import numpy as np
import pytest
import sklearn
from threadpoolctl import threadpool_limits

from skbackprop.nn.stack_trainer import StackTrainer
from support.lanes import is_left_out, sample_of, thinned, use_examples


def pytest_addoption(parser):
    lanes = parser.getgroup("lanes", "how much of the suite runs")
    lanes.addoption(
        "--quick", action="store_true", help="a sample of each test's values, and nothing long"
    )
    lanes.addoption("--full", action="store_true", help="each combination, not only each pair")
    lanes.addoption("--site", action="store_true", help="the documentation site, in a browser")
    lanes.addoption("--clusters", action="store_true", help="searches on Ray and on Spark")


def pytest_configure(config):
    use_examples(10 if config.option.quick else 100)


def pytest_ignore_collect(collection_path, config):
    """Leave out what needs a browser, or Ray and Spark, where it is not asked for, and scripts.

    Those in typed/ are for a type checker: test_types.py runs it, and what of them can be run.
    """
    left_out = {"typed"} | {name for name in ("site", "clusters") if not config.getoption(name)}
    return True if collection_path.name in left_out else None


@pytest.hookimpl(wrapper=True)
def pytest_pycollect_makeitem(collector):
    """Choose among the combinations of a test function's parameters: see lanes.py."""
    found, option = (yield), collector.config.option
    if not isinstance(found, list):
        return found
    tests = [test for test in found if not is_left_out(test, option.quick, option.full)]
    if option.quick:
        return sample_of(thinned(tests, strength=1))
    return tests if option.full else thinned(tests, strength=2)


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
    sizes, run_epoch = [], StackTrainer.run_epoch

    def record_and_run(stack, rate):
        sizes.append(len(stack))
        return run_epoch(stack, rate)

    monkeypatch.setattr(StackTrainer, "run_epoch", record_and_run)
    return sizes


@pytest.fixture
def closed_figures():
    """Close the figures of pyplot after the test, and those of examples in docstrings before it."""
    from matplotlib import pyplot

    pyplot.close("all")
    yield
    pyplot.close("all")
