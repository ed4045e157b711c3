"""Do searches whose jobs joblib sends to a cluster find what they find at home?"""

import joblib
import numpy as np
import pytest
from distributed import get_task_stream
from scipy.stats import loguniform
from sklearn.model_selection import GridSearchCV

from skbackprop import (
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    BackpropRandomizedSearchCV,
)
from support import class_data, few_epochs

pytestmark = [few_epochs, pytest.mark.usefixtures("client", "one_blas_thread")]

GRID = {"alpha": [0.01, 1.0], "learning_rate_init": [0.01, 0.1], "hidden_layer_sizes": [(4,), (6,)]}
DRAWN = {"alpha": loguniform(1e-4, 1.0)}
NETWORK = BackpropClassifier((5,), max_iter=8, n_iter_no_change=np.inf, random_state=0)
SEARCHES = {
    "grid": lambda: BackpropGridSearchCV(NETWORK, GRID, cv=3),
    "random": lambda: BackpropRandomizedSearchCV(NETWORK, DRAWN, n_iter=4, cv=3, random_state=0),
    "halving": lambda: BackpropHalvingGridSearchCV(NETWORK, GRID, cv=3),
    "scikit-learn's": lambda: GridSearchCV(NETWORK, DRAWN | {"alpha": [0.1, 1.0]}, cv=3),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_on_a_cluster_find_what_they_find_at_home(client, name):
    X, y = class_data(90)
    at_home = SEARCHES[name]().fit(X, y)
    with joblib.parallel_backend("dask", client=client), get_task_stream(client) as tasks:
        on_cluster = SEARCHES[name]().fit(X, y)
    assert tasks.data
    own, other = at_home.cv_results_, on_cluster.cv_results_
    assert own.keys() == other.keys()
    for key in own:
        if "time" not in key:
            np.testing.assert_array_equal(np.array(own[key]), np.array(other[key]), err_msg=key)
    for one, two in zip(
        at_home.best_estimator_.coefs_, on_cluster.best_estimator_.coefs_, strict=True
    ):
        np.testing.assert_array_equal(one, two)
