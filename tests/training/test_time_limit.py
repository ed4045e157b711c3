"""Does a fit end when its time is over, with whole epochs, and does it say so?

The clock is one that the tests turn: each look at it takes a second.
"""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from skbackprop import BackpropAutoencoder, BackpropGridSearchCV, BackpropRegressor
from skbackprop.nn import stack_trainer
from support import BOTH, assert_same_search, classes_for, data_for, few_epochs, quick, same_bits

N = 60
# Six batches in an epoch; after the start each takes a second.
SETTINGS = {"batch_size": 10, "max_iter": 8, "n_iter_no_change": np.inf}


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by a second each time that somebody looks at it."""
    seconds = itertools.count()
    # Not that of the whole process: other threads may look at it, and make it go on.
    clock = SimpleNamespace(monotonic=lambda: float(next(seconds)))
    monkeypatch.setattr(stack_trainer, "time", clock)


@BOTH
@pytest.mark.parametrize("time_limit, n_epochs", [(6, 1), (11, 1), (12, 2), (30, 5)])
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.usefixtures("clock")
def test_time_limit_keeps_complete_epochs(estimator_class, solver, time_limit, n_epochs):
    data = data_for(estimator_class, N)
    settings = SETTINGS | {"solver": solver}
    model = quick(estimator_class, time_limit=time_limit, **settings)
    said = rf"time_limit={time_limit} seconds are over after {n_epochs} epoch\(s\)\. The weights of"
    with pytest.warns(ConvergenceWarning, match=said):
        model.fit(*data)
    assert model.n_iter_ == n_epochs
    expected = quick(estimator_class, **settings | {"max_iter": n_epochs}).fit(*data)
    assert same_bits(model, expected)
    assert model.t_ == expected.t_ == n_epochs * N


@BOTH
@pytest.mark.usefixtures("clock")
def test_time_limit_keeps_the_best_epoch(estimator_class):
    data = data_for(estimator_class, N)
    settings = SETTINGS | {"early_stopping": True, "learning_rate_init": 0.3, "batch_size": 9}
    with pytest.warns(ConvergenceWarning, match="The weights of epoch"):
        model = quick(estimator_class, time_limit=36, **settings).fit(*data)
    expected = quick(estimator_class, **settings | {"max_iter": 6}).fit(*data)
    assert (model.n_iter_, model.best_iter_) == (6, expected.best_iter_)
    assert same_bits(model, expected)


@pytest.mark.usefixtures("clock")
@few_epochs
def test_lbfgs_keeps_its_last_iteration():
    data = data_for(BackpropRegressor, N)
    with pytest.warns(ConvergenceWarning, match=r"after \d+ iteration\(s\)"):
        model = quick(BackpropRegressor, solver="lbfgs", max_iter=50, time_limit=12).fit(*data)
    assert 0 < model.n_iter_ < 12
    settings = {"solver": "lbfgs", "max_iter": model.n_iter_}
    assert same_bits(model, quick(BackpropRegressor, **settings).fit(*data))


@BOTH
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.usefixtures("clock")
def test_less_than_an_epoch_leaves_the_initial_weights(estimator_class, solver):
    data = data_for(estimator_class, N)
    settings = SETTINGS | {"solver": solver}
    with pytest.warns(ConvergenceWarning, match="less than one epoch, so the weights are still"):
        model = quick(estimator_class, time_limit=0.5, **settings).fit(*data)
    assert (model.n_iter_, model.loss_curve_) == (0, [])
    assert len(model.predict(data[0][:3])) == 3


@pytest.mark.usefixtures("clock")
def test_time_limit_of_an_autoencoder():
    X, _ = data_for(BackpropRegressor, N)
    with pytest.warns(ConvergenceWarning, match="time_limit=12 seconds"):
        assert quick(BackpropAutoencoder, time_limit=12, **SETTINGS).fit(X).n_iter_ == 2


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.usefixtures("clock")
@few_epochs
def test_members_share_the_time(solver):
    data = data_for(BackpropRegressor, N)
    settings = SETTINGS | {"solver": solver, "n_estimators": 3}
    model = quick(BackpropRegressor, time_limit=12, **settings).fit(*data)
    assert (model.n_iter_ > 0).all()
    assert (model.n_iter_ < 8).all()


@BOTH
@few_epochs
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_unused_time_changes_nothing(estimator_class, solver):
    data = data_for(estimator_class, N)
    settings = SETTINGS | {"solver": solver}
    plain, limited = (quick(estimator_class, time_limit=t, **settings) for t in (None, 1e9))
    assert same_bits(limited.fit(*data), plain.fit(*data))


@BOTH
@pytest.mark.usefixtures("clock")
def test_partial_fit_ignores_the_time_limit(estimator_class):
    X, y = data_for(estimator_class, N)
    model = quick(estimator_class, time_limit=0.5, batch_size=10)
    model.partial_fit(X, y, **classes_for(estimator_class))
    assert (model.n_iter_, model.t_) == (1, N)


@pytest.mark.long
@few_epochs
def test_candidates_of_a_search_have_a_time_limit():
    data = data_for(BackpropRegressor, N)
    grid = {"learning_rate_init": [0.01, 0.1], "time_limit": [1e9, 2e9]}
    searches = [
        kind(quick(BackpropRegressor, max_iter=3), grid, cv=2)
        for kind in (BackpropGridSearchCV, GridSearchCV)
    ]
    assert_same_search(*(search.fit(*data) for search in searches))


@pytest.mark.parametrize("time_limit", [0, -1, "long", np.nan])
def test_raises_on_an_invalid_time_limit(time_limit):
    with pytest.raises(ValueError, match="time_limit"):
        quick(BackpropRegressor, time_limit=time_limit).fit(*data_for(BackpropRegressor, N))
