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
from skbackprop.callbacks import Checkpoint
from skbackprop.nn import stack_trainer
from skbackprop.training import loop
from skbackprop.training.parallelism import array_split
from support import (
    BOTH,
    assert_same_search,
    classes_for,
    data_for,
    few_epochs,
    quick,
    same_bits,
    same_values,
)

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
    with pytest.warns(ConvergenceWarning, match=f"limit={time_limit} seconds are over. The last"):
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
    with pytest.warns(ConvergenceWarning, match="The best weights so far are kept"):
        model = quick(estimator_class, time_limit=36, **settings).fit(*data)
    expected = quick(estimator_class, **settings | {"max_iter": 6}).fit(*data)
    assert (model.n_iter_, model.best_iter_) == (6, expected.best_iter_)
    assert same_bits(model, expected)


@pytest.mark.usefixtures("clock")
@few_epochs
def test_lbfgs_keeps_its_last_iteration():
    data = data_for(BackpropRegressor, N)
    with pytest.warns(ConvergenceWarning, match="The last weights are kept"):
        model = quick(BackpropRegressor, solver="lbfgs", max_iter=50, time_limit=12).fit(*data)
    assert 0 < model.n_iter_ < 12
    settings = {"solver": "lbfgs", "max_iter": model.n_iter_}
    assert same_bits(model, quick(BackpropRegressor, **settings).fit(*data))


@BOTH
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.usefixtures("clock")
def test_nothing_is_learned_before_the_first_batch(estimator_class, solver):
    data = data_for(estimator_class, N)
    settings = SETTINGS | {"solver": solver}
    with pytest.warns(ConvergenceWarning, match="No epoch is complete. Increase time_limit"):
        model = quick(estimator_class, time_limit=0.5, **settings).fit(*data)
    assert (model.n_iter_, model.loss_curve_, model.t_) == (0, [], 0)
    assert len(model.predict(data[0][:3])) == 3


def same_weights(actual, expected):
    """Return whether two networks have the very same weights; losses may differ."""
    names = "coefs_", "intercepts_", "gains_", "running_means_", "running_variances_"
    pairs = [[getattr(model, name, None) for name in names] for model in (actual, expected)]
    return same_values(*pairs)


# Without shuffling, the first batches of an epoch are an epoch of the first rows.
IN_ORDER = SETTINGS | {"shuffle": False}
PARTS = {
    "plain": {},
    "average": {"average": "ema"},
    "batch normalization": {"normalization": "batch"},
    "nesterov": {"solver": "sgd"},
    "dropout": {"dropout": 0.3},
}


@BOTH
@pytest.mark.parametrize("n_batches", [1, 4])
@pytest.mark.parametrize("settings", PARTS.values(), ids=PARTS)
@pytest.mark.usefixtures("clock")
def test_the_batches_of_an_incomplete_first_epoch_count(estimator_class, settings, n_batches):
    X, y = data_for(estimator_class, N)
    settings = IN_ORDER | {"max_iter": 1} | settings
    with pytest.warns(ConvergenceWarning, match="No epoch is complete"):
        model = quick(estimator_class, time_limit=n_batches, **settings).fit(X, y)
    assert (model.n_iter_, model.best_iter_, model.loss_curve_) == (0, 0, [])
    n = 10 * n_batches
    expected = quick(estimator_class, **settings).fit(X[:n], y[:n])
    assert same_weights(model, expected)
    assert model.t_ == expected.t_ == n


@pytest.mark.parametrize("n_stacks", [1, 2, 4])
@pytest.mark.usefixtures("clock")
def test_all_stacks_have_a_part_of_the_time_of_the_first_epoch(n_stacks, monkeypatch):
    """One after the other, each makes four steps, in a quarter of 18 seconds or the like."""
    X, y = data_for(BackpropRegressor, N)
    monkeypatch.setattr(loop, "threads_for_stacks", lambda: 1)
    monkeypatch.setattr(loop, "array_split", lambda runs, _: array_split(runs, n_stacks))
    settings = IN_ORDER | {"n_estimators": 4, "max_iter": 1}
    # The look at the clock that ends the epoch of a stack takes time from the next one.
    with pytest.warns(ConvergenceWarning, match="No epoch is complete"):
        model = quick(BackpropRegressor, time_limit=5 * n_stacks - 1, **settings).fit(X, y)
    assert (model.n_iter_ == 0).all()
    n_batches = (model.t_ // 10).tolist()
    assert min(n_batches) >= 3
    for member, n in enumerate(n_batches):
        expected = quick(BackpropRegressor, **settings).fit(X[: 10 * n], y[: 10 * n])
        np.testing.assert_array_equal(model.coefs_[0][member], expected.coefs_[0][member])


@BOTH
@pytest.mark.usefixtures("clock")
def test_training_resumes_before_an_incomplete_first_epoch(estimator_class, tmp_path):
    path, data = tmp_path / "network.npz", data_for(estimator_class, N)
    settings = SETTINGS | {"early_stopping": True}
    model = quick(estimator_class, time_limit=3, **settings).set_callbacks(Checkpoint(path))
    with pytest.warns(ConvergenceWarning, match="No epoch is complete"):
        model.fit(*data)
    assert np.isnan(model.best_validation_score_)
    resumed = quick(estimator_class, **settings).fit(*data, resume_from=path)
    whole = quick(estimator_class, **settings).fit(*data)
    assert same_bits(resumed, whole)
    assert (resumed.t_, resumed.loss_curve_) == (whole.t_, whole.loss_curve_)


@pytest.mark.usefixtures("clock")
def test_a_warm_start_continues_from_an_incomplete_first_epoch():
    X, y = data_for(BackpropRegressor, N)
    settings = IN_ORDER | {"max_iter": 1, "warm_start": True, "solver": "sgd", "momentum": 0.0}
    with pytest.warns(ConvergenceWarning, match="No epoch is complete"):
        model = quick(BackpropRegressor, time_limit=2, **settings).fit(X, y)
    expected = quick(BackpropRegressor, **settings).fit(X[:20], y[:20])
    for each in (model, expected):
        each.set_params(time_limit=None).fit(X, y)
    assert same_weights(model, expected)
    assert model.t_ == expected.t_ == 20 + N


@pytest.mark.usefixtures("clock")
def test_an_incomplete_first_epoch_may_diverge():
    X, y = data_for(BackpropRegressor, N)
    settings = SETTINGS | {"solver": "sgd", "learning_rate_init": 1e300}
    with pytest.raises(ValueError, match="Training diverged in epoch 1"):
        quick(BackpropRegressor, time_limit=4, **settings).fit(X, y)


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
