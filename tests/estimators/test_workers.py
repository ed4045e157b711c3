"""A fit repeats to the bit in another process, however that was started."""

import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

import pytest

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from support import answers, data_for, few_epochs, quick, same_values

pytestmark = [few_epochs, pytest.mark.slow]

SETTINGS = [
    {},
    {"solver": "lbfgs"},
    {"early_stopping": True, "n_estimators": 3},
    {"dropout": 0.3, "dtype": "float32", "average": "polyak"},
]
WAYS = ["fork", "spawn"] if sys.platform.startswith("linux") else ["spawn"]


def estimators():
    """Return an estimator of each kind with each of the settings that it has."""
    return [
        quick(kind, **settings)
        for kind in (BackpropClassifier, BackpropRegressor, BackpropAutoencoder)
        for settings in SETTINGS
        if settings.keys() <= set(kind._get_param_names())
    ]


def fitted_answers(model):
    """Return what a model says after a fit, and after a further epoch where it can have one."""
    X, y = data_for(type(model))
    found = [answers(model.fit(X, y), X)]
    if model.solver != "lbfgs":
        found.append(answers(model.partial_fit(X, y), X))
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.usefixtures("one_blas_thread")
def test_fit_repeats_in_another_process(way):
    models = estimators()
    expected = [fitted_answers(model) for model in estimators()]
    context = multiprocessing.get_context(way)
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        found = list(pool.map(fitted_answers, models))
    assert same_values(found, expected)
