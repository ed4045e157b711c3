"""Training on the workers: its equality with one machine, and averages over unlike workers."""

import dask.array as da
import numpy as np
import pytest
from distributed import wait
from sklearn.base import clone
from sklearn.metrics import log_loss

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.dask import (
    DaskBackpropClassifier,
    DaskBackpropRegressor,
    DaskTabularClassifier,
)
from skbackprop.early_stopping import EarlyStopping
from skbackprop.losses import CLASSIFIER_LOSSES, REGRESSOR_LOSSES, Quantile
from skbackprop.optimizers import OPTIMIZERS
from skbackprop.weight_averaging import ExponentialMovingAverage, PolyakAverage
from support import assert_same_network, class_data, few_epochs, label_data, value_data
from support.cluster import DASK, assert_same_fit, dask_data, settings_of

pytestmark = [few_epochs, pytest.mark.slow, pytest.mark.usefixtures("client", "one_blas_thread")]

N = 60
SGD = {"solver": "sgd", "momentum": 0.0}


def fit_both(estimator_class, X, y, weight=None, **changes):
    """Return the local and the Dask estimator, fitted by synchronous SGD on all rows at once.

    The workers have 35 and 25 rows, in blocks of 25, 25 and 10.
    """
    settings = settings_of(**{"batch_size": N, "solver": "sgd"} | changes)
    local = estimator_class(**settings).fit(X, y, weight)
    distributed = DASK[estimator_class](**settings, sync_every=1)
    return local, distributed.fit(*dask_data(X, y, weight))


def weights(n=N):
    return np.random.RandomState(1).randint(0, 4, n).astype(float)


# --------------------------------------------------- SGD in synchronous steps, as on one machine


CHANGES = [
    *({"loss": loss} for loss in CLASSIFIER_LOSSES),
    {"momentum": 0.0},
    {"momentum": 0.5, "nesterovs_momentum": False},
    {"alpha": 10.0},
    {"alpha": 1.0, "l1_ratio": 0.5},
    {"learning_rate": "one_cycle"},
    {"learning_rate": "plateau"},
    {"average": PolyakAverage(start=2 * N)},
    {"average": ExponentialMovingAverage(0.9)},
    {"normalization": "layer"},
    {"hidden_layer_sizes": ()},
    {"hidden_layer_sizes": (4, 3), "activation": ["tanh", "gelu"]},
    {"shuffle": False},
    {"class_weight": "balanced"},
    {"class_weight": {0: 2.0, 2: 0.0}},
    {"layers": "periodic"},
    {"n_estimators": 3},
    {"n_frozen_layers": 1, "normalization": "batch", "average": "ema", "alpha": 1.0},
]


@pytest.mark.parametrize("changes", CHANGES, ids=str)
def test_synchronous_sgd_equals_one_machine(changes):
    """Every second case has sample weights."""
    weight = weights() if CHANGES.index(changes) % 2 else None
    assert_same_fit(*fit_both(BackpropClassifier, *class_data(N), weight, **changes))


@pytest.mark.parametrize("loss", [*REGRESSOR_LOSSES, Quantile((0.1, 0.9))], ids=str)
def test_synchronous_sgd_equals_one_machine_for_losses_of_regressors(loss):
    X, y = value_data(N)
    changes = {"loss": loss, "learning_rate_init": 0.001}
    assert_same_fit(*fit_both(BackpropRegressor, X, np.exp(y / 4), **changes))


def test_synchronous_sgd_equals_one_machine_for_other_data():
    X, y = class_data(N)
    local, distributed = fit_both(BackpropClassifier, X.astype(np.float32), y)
    assert distributed.coefs_[0].dtype == np.float32
    assert_same_fit(local, distributed, rtol=1e-4)
    assert_same_fit(*fit_both(BackpropClassifier, *label_data(N), weights()))
    X, y = value_data(N, n_outputs=2)
    y *= [1e3, 1e-3]
    local, distributed = fit_both(BackpropRegressor, X, y, weights(), scale_target=True)
    assert_same_fit(local, distributed)
    np.testing.assert_array_equal(distributed.target_scale_, local.target_scale_)
    np.testing.assert_allclose(distributed.predict(X), local.predict(X), rtol=1e-9)


@pytest.mark.parametrize("n_rows, weighted", [((40, 24), False), ((32, 32), True)])
def test_workers_share_a_batch(n_rows, weighted):
    """One machine learns the same from rows in the order of the shared batches."""
    X, y = class_data(64)
    weight = weights(64) + 1 if weighted else None
    blocks = np.split(np.arange(64), [n_rows[0]])
    quarters = [[b[len(b) * i // 4 : len(b) * (i + 1) // 4] for b in blocks] for i in range(4)]
    order = np.concatenate([part for parts in quarters for part in parts])
    settings = settings_of(batch_size=16, shuffle=False, solver="sgd", alpha=0.1)
    local = BackpropClassifier(**settings)
    local.fit(X[order], y[order], None if weight is None else weight[order])
    distributed = DaskBackpropClassifier(**settings, sync_every=1)
    assert_same_fit(local, distributed.fit(*dask_data(X, y, weight, rows=n_rows)))


@pytest.mark.parametrize("shuffle", [False, True])
def test_workers_shuffle_their_rows_differently(shuffle):
    """Two blocks have opposite targets: the steps are zero if they visit equal rows at once."""
    x = np.arange(1.0, 21.0)[:, None]
    init = [np.zeros((1, 1))], [np.zeros(1)]
    model = DaskBackpropRegressor((), init=init, batch_size=2, sync_every=1, shuffle=shuffle)
    model.set_params(max_iter=2, random_state=0, n_iter_no_change=np.inf, **SGD)
    model.fit(*dask_data(np.vstack([x, x]), np.hstack([x[:, 0], -x[:, 0]]), rows=20))
    assert (model.coefs_[0] != 0).all() == shuffle


# ----------------------------------------------------------------------------- local steps


@pytest.mark.parametrize("solver", OPTIMIZERS)
def test_a_single_share_is_trained_as_on_one_machine(solver):
    """All rows are in one block, so that there is nothing to average."""
    X, y = class_data(N)
    settings = settings_of(batch_size=15, shuffle=False, solver=solver, clip_norm=0.5)
    local = BackpropClassifier(**settings, n_estimators=2).fit(X, y, weights() + 1)
    for sync_every in (1, 2):
        model = DaskBackpropClassifier(**settings, n_estimators=2, sync_every=sync_every)
        assert_same_fit(local, model.fit(*dask_data(X, y, weights() + 1, rows=N)))


def local_sgd_by_hand(coefs, intercepts, X, y, settings, n_rounds):
    """Return the weights after local SGD of two workers with half of the rows each."""
    halves = [slice(0, 32), slice(32, 64)]
    for i in range(n_rounds):
        each = []
        for half in halves:
            rows = np.arange(64)[half][32 * i // n_rounds : 32 * (i + 1) // n_rounds]
            model = BackpropClassifier(**settings)
            model.partial_fit(X[rows], y[rows], classes=[0, 1, 2])
            model.coefs_, model.intercepts_ = [*coefs], [*intercepts]
            each.append(model.partial_fit(X[rows], y[rows]))
        coefs = [np.mean(own, axis=0) for own in zip(*(m.coefs_ for m in each), strict=True)]
        intercepts = [
            np.mean(own, axis=0) for own in zip(*(m.intercepts_ for m in each), strict=True)
        ]
    return coefs, intercepts


@pytest.mark.parametrize("n_steps, n_rounds", [(2, 2), (4, 1), (100, 1)])
def test_local_sgd_averages_the_workers(n_steps, n_rounds):
    X, y = class_data(64)
    settings = settings_of(batch_size=8, shuffle=False, max_iter=1, **SGD)
    start = DaskBackpropClassifier(**settings | {"learning_rate_init": 1e-300})
    start.fit(*dask_data(X, y, rows=(32, 32)))
    distributed = DaskBackpropClassifier(**settings, sync_every=n_steps)
    distributed.fit(*dask_data(X, y, rows=(32, 32)))
    expected = local_sgd_by_hand(start.coefs_, start.intercepts_, X, y, settings, n_rounds)
    arrays = [*distributed.coefs_, *distributed.intercepts_]
    for own, other in zip(arrays, [*expected[0], *expected[1]], strict=True):
        np.testing.assert_allclose(own, other, rtol=1e-9)


@pytest.mark.parametrize("solver", OPTIMIZERS)
@pytest.mark.parametrize("sync_every", [1, 2])
def test_local_sgd_on_equal_rows_equals_one_machine(solver, sync_every):
    """Both workers have the same rows, so their mean is the result of each."""
    X, y = class_data(32)
    settings = settings_of(batch_size=8, shuffle=False, solver=solver, clip_norm=0.5, alpha=0.1)
    local = BackpropClassifier(**settings).fit(X, y)
    if sync_every == 1:  # they share a batch, by whose weight the penalty is divided
        settings |= {"batch_size": 16, "alpha": 0.2}
    distributed = DaskBackpropClassifier(**settings, sync_every=sync_every)
    distributed.fit(*dask_data(np.vstack([X, X]), np.hstack([y, y]), rows=(32, 32)))
    assert_same_network(distributed, local, rtol=1e-9)
    np.testing.assert_allclose(distributed.loss_curve_, local.loss_curve_, rtol=1e-9)


@pytest.mark.parametrize("second_weight, share", [(None, 3 / 4), (1.0, 3 / 4), (6.0, 1 / 3)])
def test_workers_count_by_their_total_weight(second_weight, share):
    """The first has three times the rows, in as many steps; `share` is its part of the mean."""
    X, y = class_data(64)
    X[16:48], y[16:48] = np.vstack([X[:16]] * 2), np.hstack([y[:16]] * 2)
    settings = settings_of(batch_size=64, max_iter=1, alpha=0.0, **SGD)

    def steps(rows):
        blocks = dask_data(X[rows], y[rows], rows=(len(X[rows]),))
        return DaskBackpropClassifier(**settings, sync_every=2).fit(*blocks).coefs_[0]

    both = DaskBackpropClassifier(**settings, sync_every=2)
    weight = None if second_weight is None else np.repeat([1.0, second_weight], [48, 16])
    both.fit(*dask_data(X, y, weight, rows=(48, 16)))
    first, second = steps(slice(48)), steps(slice(48, 64))
    np.testing.assert_allclose(both.coefs_[0], share * first + (1 - share) * second, rtol=1e-9)


@pytest.mark.parametrize("sync_every", [1, 4])
def test_loss_is_the_weighted_mean_over_the_rows(sync_every):
    """The steps are too small to change the network; four are an epoch."""
    (X, y), weight = class_data(64), weights(64) + 1
    settings = settings_of(batch_size=8, learning_rate_init=1e-300, alpha=0.0, **SGD)
    model = DaskBackpropClassifier(**settings, sync_every=sync_every)
    model.fit(*dask_data(X, y, weight, rows=32))
    expected = log_loss(y, model.to_local().predict_proba(X), sample_weight=weight)
    np.testing.assert_allclose(model.loss_curve_, expected, rtol=1e-9)
    # Some of 31 rows are in two steps, which does not change the mean of equal losses.
    curves = []
    for n in (62, 64):
        model = DaskBackpropRegressor(**settings, sync_every=sync_every)
        curves.append(model.fit(*dask_data(np.ones((n, 4)), np.ones(n), rows=n // 2)).loss_curve_)
    np.testing.assert_allclose(*curves, rtol=1e-9)


def make_unlike_workers(kind, case):
    """Return X, y, sample weights, class weights and the numbers of rows of two unlike workers."""
    random = np.random.RandomState(0)
    rows = {"blocks": (540, 60), "few rows": (590, 10), "a row": (599, 1)}.get(case, (300, 300))
    group = np.repeat([0, 1], rows)
    X = random.normal(size=(600, 2)) + 0.3 * group[:, None]
    if kind is BackpropClassifier:
        y = (random.uniform(size=600) < np.where(group, 0.8, 0.3)).astype(int)
    else:
        y = X[:, 0] + group + random.normal(size=600) / 2
    weight = {
        "weights": np.where(group, 0.1, 1.0),
        "no weight": np.where(group, 0.0, 1.0),
        "each its own": random.randint(0, 4, 600) * np.where(group, 0.25, 1.0),
    }
    class_weight = {0: 1.0, 1: 0.1} if case == "classes" else None
    if case == "classes":  # mostly one class on each worker
        order = np.argsort(y + random.normal(size=600) / 4)
        X, y = X[order], y[order]
    return X, y, weight.get(case), class_weight, rows


OPTIMA = [
    *((BackpropRegressor, case) for case in ("blocks", "a row", "weights", "no weight")),
    *((BackpropClassifier, case) for case in ("few rows", "each its own", "classes")),
]


@pytest.mark.parametrize("kind, case", OPTIMA)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("sync_every", [1, 5])
def test_unlike_workers_find_the_weighted_optimum(sync_every, solver, kind, case):
    """Without a hidden layer there is one optimum, which local L-BFGS finds."""
    X, y, weight, class_weight, rows = make_unlike_workers(kind, case)
    settings = {"hidden_layer_sizes": (), "alpha": 0.0, "random_state": 0, "max_iter": 400}
    if class_weight is not None:
        settings["class_weight"] = class_weight
    local = kind(**settings, solver="lbfgs", tol=1e-8).fit(X, y, weight)
    settings |= {"solver": solver, "batch_size": 50, "max_iter": 25, "n_iter_no_change": np.inf}
    settings |= {"learning_rate_init": 0.2, "learning_rate": "one_cycle"}
    settings |= {"momentum": 0.5, "sync_every": sync_every}
    distributed = DASK[kind](**settings).fit(*dask_data(X, y, weight, rows=rows))
    np.testing.assert_allclose(distributed.coefs_[0], local.coefs_[0], atol=0.1)
    np.testing.assert_allclose(distributed.intercepts_[0], local.intercepts_[0], atol=0.1)


@pytest.mark.parametrize("rows, weight", [((950, 50), 1.0), ((500, 500), 0.02)])
@pytest.mark.parametrize("n_steps", [1, 4, 1_000])
@pytest.mark.parametrize("solver", ["sgd", "adam", "amsgrad", "adagrad"])
def test_workers_with_opposite_targets_find_the_weighted_mean(solver, n_steps, rows, weight):
    """Second moments of adaptive optimizers differ between the workers within a round."""
    y, weights = np.repeat([0.0, 1.0], rows), np.repeat([1.0, weight], rows)
    settings = {"solver": solver, "batch_size": 50, "max_iter": 50, "learning_rate_init": 0.02}
    settings["learning_rate_init"] *= 10 if solver == "adagrad" else 1
    model = DaskBackpropRegressor((), n_iter_no_change=np.inf, sync_every=n_steps, **settings)
    model.fit(*dask_data(np.zeros((len(y), 1)), y, weights, rows=rows))
    expected = np.average(y, weights=weights)
    np.testing.assert_allclose(model.intercepts_[0], expected, rtol=0.05)


@pytest.mark.parametrize("case", ["blocks", "weights", "each its own"])
@pytest.mark.parametrize("sync_every", [1, 3])
def test_penalty_on_unlike_workers_equals_one_machine(sync_every, case):
    """The penalty is divided by the weight of a batch."""
    X, y, weight, _, rows = make_unlike_workers(BackpropRegressor, case)
    settings = {"hidden_layer_sizes": (), "alpha": 20.0, "random_state": 0, "batch_size": 20}
    settings |= {"solver": "sgd", "max_iter": 40, "n_iter_no_change": np.inf}
    settings |= {"learning_rate_init": 0.05, "learning_rate": "one_cycle", "momentum": 0.5}
    local = BackpropRegressor(**settings).fit(X, y, weight)
    distributed = DaskBackpropRegressor(**settings, sync_every=sync_every)
    distributed.fit(*dask_data(X, y, weight, rows=rows))
    np.testing.assert_allclose(distributed.coefs_[0], local.coefs_[0], atol=0.03)
    np.testing.assert_allclose(distributed.loss_, local.loss_, rtol=0.1)


@pytest.mark.parametrize("case", ["blocks", "weights", "no weight"])
@pytest.mark.parametrize("sync_every", [1, 5])
def test_running_statistics_of_unlike_workers(sync_every, case):
    X, y, weight, _, rows = make_unlike_workers(BackpropRegressor, case)
    X[sum(rows[:1]) :] += 3.0
    settings = settings_of(normalization="batch", batch_size=60, max_iter=20)
    settings |= {"learning_rate_init": 1e-12}
    distributed = DaskBackpropRegressor(**settings, sync_every=sync_every)
    distributed.fit(*dask_data(X, y, weight, rows=rows))
    z = X @ distributed.coefs_[0]
    expected = np.average(z, axis=0, weights=weight)
    np.testing.assert_allclose(distributed.running_means_[0], expected, atol=0.2)


@pytest.mark.parametrize("changes", [{}, {"average": "ema", "normalization": "batch"}], ids=str)
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_worker_without_weight_changes_nothing(solver, changes):
    X, y = class_data(N)
    settings = settings_of(batch_size=20, solver=solver, alpha=0.0, sync_every=2, **changes)
    alone = DaskBackpropClassifier(**settings).fit(*dask_data(X, y, np.ones(N), rows=(N,)))
    X, y = np.vstack([X, X + 1]), np.hstack([y, 2 - y])
    weight = np.repeat([1.0, 0.0], N)
    both = DaskBackpropClassifier(**settings).fit(*dask_data(X, y, weight, rows=(N, N)))
    assert_same_network(both, alone, rtol=1e-9)
    np.testing.assert_allclose(both.loss_curve_, alone.loss_curve_, rtol=1e-9)


# ------------------------------------------------------------------- reproducibility, ensembles


@pytest.mark.parametrize("sync_every", [1, 3])
def test_fits_are_reproducible(sync_every):
    """Orders and masks follow from the seed; running statistics are close to those of all rows."""
    X, y = class_data(120)
    settings = settings_of(batch_size=20, max_iter=15, dropout=0.1, normalization="batch")
    model = DaskBackpropClassifier(**settings, average="polyak", sync_every=sync_every)
    arrays = dask_data(X, y, rows=30)
    model.fit(*arrays)
    assert model.score(*arrays) > 0.8
    assert_same_network(clone(model).fit(*arrays), model, rtol=0, atol=0)
    z = X @ model.coefs_[0]
    np.testing.assert_allclose(model.running_means_[0], z.mean(axis=0), atol=0.5)
    np.testing.assert_allclose(model.running_variances_[0], z.var(axis=0), rtol=0.5)


@pytest.mark.parametrize("kind", [DaskBackpropClassifier, DaskTabularClassifier])
def test_a_seed_gives_the_same_network_wherever_the_rows_are(kind, client):
    X, y = class_data(120)
    models = []
    for places in ([0, 0, 1, 1], [1, 0, 1, 0]):
        workers = [list(client.nthreads())[place] for place in places]
        arrays = []
        for array in (X, y):
            parts = zip(np.split(array, 4), workers, strict=True)
            blocks = [
                client.persist(da.from_array(part, name=False), workers=[to]) for part, to in parts
            ]
            arrays.append(da.concatenate(blocks))
        wait(arrays)
        models.append(kind(max_iter=4, random_state=0).fit(*arrays))
    np.testing.assert_array_equal(*(model.to_local().predict_proba(X) for model in models))


@pytest.mark.parametrize("sync_every", [1, 2])
def test_first_network_of_an_ensemble_equals_a_single_one(sync_every):
    """Each network has its own order, masks and running statistics."""
    arrays = dask_data(*class_data(80), rows=(40, 40))
    settings = settings_of(batch_size=16, dropout=0.2, normalization="batch")
    settings |= {"average": "ema"}
    alone = DaskBackpropClassifier(**settings, sync_every=sync_every).fit(*arrays)
    several = DaskBackpropClassifier(**settings, sync_every=sync_every, n_estimators=2).fit(*arrays)
    for one, both in zip(alone.coefs_, several.coefs_, strict=True):
        np.testing.assert_array_equal(both[0], one)
        assert (both[1] != one).any()
    np.testing.assert_array_equal(several.running_variances_[0][0], alone.running_variances_[0])
    assert several.loss_curve_[0] == alone.loss_curve_


def test_networks_of_an_ensemble_stop_by_their_own_scores():
    X, y = class_data(2 * N)
    stopping = EarlyStopping("neg_log_loss", n_iter_no_change=2)
    settings = settings_of(n_estimators=3, max_iter=60, n_iter_no_change=10, batch_size=N)
    settings |= {"learning_rate_init": 0.3, "early_stopping": stopping, "solver": "sgd"}
    local = BackpropClassifier(**settings).fit(X[:N], y[:N], X_val=X[N:], y_val=y[N:])
    distributed = DaskBackpropClassifier(**settings, sync_every=1)
    distributed.fit(*dask_data(X[:N], y[:N]), X_val=X[N:], y_val=y[N:])
    assert_same_fit(local, distributed, rtol=1e-6)
    assert len(set(local.n_iter_)) > 1
    np.testing.assert_array_equal(distributed.best_iter_, local.best_iter_)
