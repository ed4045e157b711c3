"""A fit ends when its time is over, with complete epochs, and says so.

The clock is one that the tests turn: each look at it takes a second.
"""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skbackprop import BackpropGridSearchCV, BackpropRegressor, EarlyStopping
from skbackprop.callbacks import Checkpoint
from skbackprop.estimators import base
from skbackprop.nn import stack
from skbackprop.training import lbfgs, resources
from skbackprop.training import train as train_module
from support import BOTH, classes_for, data_for, few_epochs, quick, same_bits, same_values

N = 60
# Six batches in an epoch; after the start each takes a second.
SETTINGS = {"batch_size": 10, "max_iter": 8, "n_iter_no_change": np.inf}


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on by a second each time that somebody looks at it."""
    seconds = itertools.count()
    # Not that of the whole process: other threads may look at it, and make it go on.
    clock = SimpleNamespace(monotonic=lambda: float(next(seconds)))
    for module in (base, stack, lbfgs, train_module):
        monkeypatch.setattr(module, "time", clock)


@BOTH
@pytest.mark.parametrize("time_limit, n_epochs", [(6, 1), (11, 1), (12, 2), (30, 5)])
@pytest.mark.usefixtures("clock")
def test_complete_epochs_are_kept(estimator_class, time_limit, n_epochs):
    data = data_for(estimator_class, N)
    model = quick(estimator_class, time_limit=time_limit, **SETTINGS)
    with pytest.warns(ConvergenceWarning, match=f"limit={time_limit} sec.* {n_epochs} epoch"):
        model.fit(*data)
    assert model.n_iter_ == n_epochs
    expected = quick(estimator_class, **SETTINGS | {"max_iter": n_epochs}).fit(*data)
    assert same_bits(model, expected)
    assert model.t_ == expected.t_ == n_epochs * N


@pytest.mark.usefixtures("clock")
def test_each_candidate_of_a_search_has_its_own_time():
    """Three batches of thirty rows take three seconds, alone or of all candidates together."""
    network = quick(BackpropRegressor, time_limit=6, **SETTINGS)
    settings = {"cv": 2, "refit": False, "scoring": lambda model, X, y: model.n_iter_}
    search = BackpropGridSearchCV(network, {"alpha": [0.1, 0.2, 0.3, 0.4]}, **settings)
    results = search.fit(*data_for(BackpropRegressor, N)).cv_results_
    assert results["mean_test_score"].tolist() == [SETTINGS["max_iter"]] * 4


@BOTH
@pytest.mark.usefixtures("clock")
def test_the_best_epoch_is_kept(estimator_class):
    data = data_for(estimator_class, N)
    settings = SETTINGS | {"early_stopping": True, "learning_rate_init": 0.3, "batch_size": 9}
    with pytest.warns(ConvergenceWarning, match=r"of epoch \d of 6"):
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


@pytest.mark.parametrize(
    "n_rows, batch_size, t, n_epochs",
    [(N, 10, [10, 10, 10], 0), (31, 20, [20, 20, 20], 0), (31, "auto", [20, 21, 21], 1)],
)
@pytest.mark.usefixtures("clock")
def test_each_network_makes_a_step_in_any_time(n_rows, batch_size, t, n_epochs):
    X, y = data_for(BackpropRegressor, n_rows)
    folds = EarlyStopping(validation_fraction="folds")
    settings = SETTINGS | {"batch_size": batch_size, "n_estimators": 3, "early_stopping": folds}
    with pytest.warns(ConvergenceWarning, match=r"after 1 batch\(es\)\. Inc|of epoch 1 of 1"):
        model = quick(BackpropRegressor, **settings, time_limit=0.5).fit(X, y)
    assert model.n_iter_.tolist() == [n_epochs] * 3
    assert sorted(model.t_) == t


@pytest.mark.usefixtures("clock")
def test_lbfgs_completes_an_iteration_in_any_time():
    data = data_for(BackpropRegressor, N)
    with pytest.warns(ConvergenceWarning, match=r"are kept, after 1 epoch\(s\)"):
        model = quick(BackpropRegressor, solver="lbfgs", time_limit=0.5).fit(*data)
    assert model.n_iter_ == 1


@pytest.mark.usefixtures("clock")
def test_the_time_of_validation_counts(monkeypatch):
    """Two seconds of three are over before training, which ends before the second batch."""
    validate = base.validate_rows

    def slowly(*arguments):
        for _ in range(2):
            base.time.monotonic()
        return validate(*arguments)

    monkeypatch.setattr(base, "validate_rows", slowly)
    model = quick(BackpropRegressor, time_limit=3, **SETTINGS)
    with pytest.warns(ConvergenceWarning, match=r"after 1 batch\(es\)"):
        model.fit(*data_for(BackpropRegressor, N))
    assert model.t_ == 10


def same_weights(actual, expected):
    """Return whether two networks have the very same weights; losses may differ."""
    names = "coefs_", "intercepts_", "gains_", "running_means_", "running_variances_"
    pairs = [[getattr(model, name, None) for name in names] for model in (actual, expected)]
    return same_values(*pairs)


# Without shuffling, the first batches of an epoch are an epoch of the first rows.
IN_ORDER = SETTINGS | {"shuffle": False, "max_iter": 1}
PARTS = {
    "plain": {},
    "average": {"average": "ema"},
    "batch normalization": {"normalization": "batch"},
    "dropout": {"dropout": 0.3},
}


@BOTH
@pytest.mark.parametrize("n_batches", [1, 4])
@pytest.mark.parametrize("settings", PARTS.values(), ids=PARTS)
@pytest.mark.usefixtures("clock")
def test_the_batches_of_an_incomplete_first_epoch_count(estimator_class, settings, n_batches):
    X, y = data_for(estimator_class, N)
    settings = IN_ORDER | settings
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
    monkeypatch.setattr(resources, "max_stack_size", lambda *arguments: 4 // n_stacks)
    for module in (resources, train_module):
        monkeypatch.setattr(module, "n_blas_threads", lambda: 1)
    # The look at the clock that ends the epoch of a stack takes time from the next one.
    settings = IN_ORDER | {"n_estimators": 4, "time_limit": 5 * n_stacks - 1}
    with pytest.warns(ConvergenceWarning, match="No epoch is complete"):
        model = quick(BackpropRegressor, **settings).fit(X, y)
    assert (model.n_iter_ == 0).all()
    n_batches = (model.t_ // 10).tolist()
    assert min(n_batches) >= 3
    for member, n in enumerate(n_batches):
        settings = IN_ORDER | {"n_estimators": 4}
        expected = quick(BackpropRegressor, **settings).fit(X[: 10 * n], y[: 10 * n])
        np.testing.assert_array_equal(model.coefs_[0][member], expected.coefs_[0][member])


@pytest.mark.usefixtures("clock")
def test_there_is_no_checkpoint_of_an_incomplete_first_epoch(tmp_path):
    path = tmp_path / "network.npz"
    model = quick(BackpropRegressor, time_limit=3, **SETTINGS).set_callbacks(Checkpoint(path))
    with pytest.warns(ConvergenceWarning, match="No epoch is complete"):
        model.fit(*data_for(BackpropRegressor, N))
    assert not path.exists()


@pytest.mark.usefixtures("clock")
def test_a_warm_start_continues_from_an_incomplete_first_epoch():
    X, y = data_for(BackpropRegressor, N)
    settings = IN_ORDER | {"warm_start": True, "solver": "sgd", "momentum": 0.0}
    with pytest.warns(ConvergenceWarning, match="No epoch is complete"):
        model = quick(BackpropRegressor, time_limit=2, **settings).fit(X, y)
    expected = quick(BackpropRegressor, **settings).fit(X[:20], y[:20])
    for each in (model, expected):
        each.set_params(time_limit=None).fit(X, y)
    assert same_weights(model, expected)
    assert model.t_ == expected.t_ == 20 + N


@pytest.mark.usefixtures("clock")
def test_an_incomplete_first_epoch_may_diverge():
    settings = SETTINGS | {"solver": "sgd", "learning_rate_init": 1e300, "time_limit": 4}
    with pytest.raises(ValueError, match="Training diverged in epoch 1"):
        quick(BackpropRegressor, **settings).fit(*data_for(BackpropRegressor, N))


@BOTH
@pytest.mark.usefixtures("clock")
def test_partial_fit_ignores_the_time_limit(estimator_class):
    X, y = data_for(estimator_class, N)
    model = quick(estimator_class, time_limit=0.5, batch_size=10)
    model.partial_fit(X, y, **classes_for(estimator_class))
    assert (model.n_iter_, model.t_) == (1, N)


@pytest.mark.parametrize("time_limit", [0, -1, "long", np.nan])
def test_an_invalid_time_limit_is_an_error(time_limit):
    with pytest.raises(ValueError, match="time_limit"):
        quick(BackpropRegressor, time_limit=time_limit).fit(*data_for(BackpropRegressor, N))
