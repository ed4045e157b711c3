"""Do searches find on Ray and on Spark what they find at home, and does the page's code run?

`make test-clusters` runs this in an environment of its own; Spark needs Java 17.
"""

import doctest
import os
from pathlib import Path

import joblib
import numpy as np
import pytest
import ray
from joblibspark import register_spark
from pyspark.sql import SparkSession
from ray.util.joblib import register_ray
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skbackprop import BackpropClassifier
from skbackprop.tabular import TabularRegressor
from support import assert_same_search, class_data, few_epochs, quick, same_bits
from support.searches import SEARCHES

PAGE = Path(__file__).parents[2] / "docs" / "user_guide" / "clusters.md"

pytestmark = [
    few_epochs,
    pytest.mark.usefixtures("one_blas_thread"),
    # What joblibspark and PySpark say of themselves, and pandas of PySpark.
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`apply_async` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:Spark local mode doesn't support stage-level:UserWarning"),
    pytest.mark.filterwarnings("ignore:Spark session is not provided:UserWarning"),
]


def on_ray():
    ray.init(num_cpus=2, include_dashboard=False)
    register_ray()
    return ray.shutdown


def on_spark():
    spark = SparkSession.builder.master("local[2]").config("spark.ui.enabled", False).getOrCreate()
    register_spark()
    return spark.stop


@pytest.fixture(scope="module", params=[on_ray, on_spark])
def backend(request):
    """The name of a backend of joblib whose workers are there."""
    stop = request.param()
    yield request.param.__name__.removeprefix("on_")
    stop()


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_on_a_cluster_find_what_they_find_at_home(backend, name):
    X, y = class_data(90)
    at_home = clone(SEARCHES[name]).fit(X, y)
    with joblib.parallel_backend(backend):
        on_cluster = clone(SEARCHES[name]).fit(X, y)
    assert_same_search(on_cluster, at_home)
    assert same_bits(on_cluster.best_estimator_, at_home.best_estimator_)


def test_jobs_run_on_the_workers(backend):
    def process(estimator, X, y):
        return os.getpid()

    search = GridSearchCV(quick(BackpropClassifier), {"alpha": [0.1, 1.0]}, cv=2, scoring=process)
    with joblib.parallel_backend(backend):
        search.fit(*class_data())
    scores = [search.cv_results_[f"split{i}_test_score"] for i in range(2)]
    assert os.getpid() not in np.ravel(scores)


@pytest.mark.parametrize("backend", [on_ray], indirect=True)
@pytest.mark.parametrize(
    "model",
    [quick(BackpropClassifier), TabularRegressor(n_estimators=2, max_iter=2)],
    ids=["network", "table"],
)
def test_rows_in_rays_store_are_read_only_and_fitted_all_the_same(backend, model):
    def fitted(model, X, y):
        return X.flags.writeable or y.flags.writeable, model.fit(X, y).predict(X)

    X, y = class_data()
    writeable, predicted = ray.get(ray.remote(fitted).remote(model, ray.put(X), ray.put(y)))
    assert not writeable
    assert len(predicted) == len(X)


def test_the_code_of_the_page_does_what_it_says():
    options = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    n_failed, n_tried = doctest.testfile(str(PAGE), module_relative=False, optionflags=options)
    assert n_tried and not n_failed
