"""Training when workers come and go, on Ctrl-C, and when the cluster is gone."""

import os
import signal
import time

import dask.array as da
import numpy as np
import pytest
from dask import delayed
from distributed import Client
from sklearn.exceptions import ConvergenceWarning

from skbackprop import BackpropClassifier
from skbackprop.callbacks import Checkpoint
from skbackprop.dask import ClusterLostError, DaskBackpropClassifier, _training
from skbackprop.dask._blocks import choose_workers, divide_into_shards
from skbackprop.dask._training import ShardPool
from skbackprop.early_stopping import EarlyStopping
from support import assert_same_network, class_data, few_epochs, interrupt
from support.cluster import assert_same_fit, dask_data, make_cluster, settings_of

pytestmark = [few_epochs, pytest.mark.slow, pytest.mark.usefixtures("one_blas_thread")]

SETTINGS = settings_of(max_iter=8, batch_size=64, solver="sgd")
X, Y = class_data(64)
BLOCKS = dask_data(X, Y, rows=16)
HALVES = dask_data(X, Y, rows=32)


class RunBeforeEpoch:
    """Callback that calls a function once, before an epoch counted from zero."""

    def __init__(self, epoch, action):
        self.epoch, self.action = epoch, action

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_end = setup

    def on_fit_task_begin(self, estimator, context):
        if context.parent is not None and context.task_id == self.epoch:
            self.action()


def make_model(action, **changes):
    """Return an estimator that calls a function before its fourth epoch."""
    model = DaskBackpropClassifier(**SETTINGS | {"sync_every": 1} | changes)
    return model.set_callbacks(RunBeforeEpoch(3, action))


@pytest.fixture
def short_timeouts(monkeypatch):
    monkeypatch.setattr(_training, "_NO_WORKERS_TIMEOUT", 0.3)
    monkeypatch.setattr(_training, "_RETRY_PAUSE", 0.01)
    monkeypatch.setattr(_training, "_RESULT_TIMEOUT", 0.2)


@pytest.mark.parametrize("sync_every", [1, 2])
def test_killed_worker_does_not_change_the_result(sync_every):
    """Its rows are computed again, and the round is repeated; a new worker takes them back."""

    def kill_worker():  # as the operating system does when memory runs out
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    changes = {"sync_every": sync_every, "batch_size": 16, "dropout": 0.2, "solver": "adam"}
    with make_cluster(processes=True) as cluster, Client(cluster) as client:
        undisturbed = DaskBackpropClassifier(**SETTINGS | changes).fit(*BLOCKS)
        model = make_model(kill_worker, **changes).fit(*BLOCKS)
    assert_same_network(model, undisturbed, rtol=1e-9)


def test_rows_from_scatter_are_lost_with_their_worker(short_timeouts):
    """Dask cannot compute them again."""
    with make_cluster() as cluster, Client(cluster) as client:
        put = [
            client.scatter(part, workers=[worker])
            for part, worker in zip((X[:32], X[32:]), client.nthreads(), strict=True)
        ]
        rows = da.concatenate([da.from_delayed(delayed(each), (32, 4), X.dtype) for each in put])
        model = make_model(lambda: cluster.sync(cluster.workers[0].close))
        with pytest.raises(ClusterLostError, match="scatter"):
            model.fit(rows, HALVES[1])
    assert model.n_iter_ == 3


def test_shares_of_lost_workers_move_to_new_ones(short_timeouts, monkeypatch):
    places, original = [], ShardPool._make_actors  # the number of workers with shares

    def record_places(self):
        original(self)
        places.append(len(set(self._workers)))

    def remove_worker():
        cluster.scale(1)
        while len(client.nthreads()) > 1:
            time.sleep(0.01)

    def add_worker():
        cluster.scale(2)
        client.wait_for_workers(2)

    monkeypatch.setattr(ShardPool, "_make_actors", record_places)
    with make_cluster() as cluster, Client(cluster) as client:
        model = DaskBackpropClassifier(**SETTINGS, sync_every=1)
        model.set_callbacks(RunBeforeEpoch(2, remove_worker), RunBeforeEpoch(5, add_worker))
        model.fit(*BLOCKS)
    assert places == [2, 1, 2]
    assert_same_fit(BackpropClassifier(**SETTINGS).fit(X, Y), model)


@pytest.mark.parametrize("sync_every", [1, 2])
def test_ctrl_c_keeps_the_last_complete_epoch(client, monkeypatch, sync_every):
    settings = SETTINGS | {"batch_size": 8, "sync_every": sync_every}
    model = DaskBackpropClassifier(**settings)
    with monkeypatch.context() as context:
        interrupt(context, ShardPool, "train", 11)
        with pytest.raises(KeyboardInterrupt):
            model.fit(*HALVES)
    assert 0 < model.n_iter_ < 8
    shorter = DaskBackpropClassifier(**settings | {"max_iter": model.n_iter_})
    assert_same_fit(shorter.fit(*HALVES), model)


@pytest.mark.parametrize(
    "lost, match",
    [("client", "resume_from"), ("scheduler", "cannot be reached"), ("workers", "Timeout")],
)
def test_lost_cluster_keeps_the_last_complete_epoch(lost, match, short_timeouts):
    def lose():
        if lost == "client":
            client.close()
        elif lost == "scheduler":
            cluster.close()
        else:
            cluster.scale(0)
            while client.nthreads():
                time.sleep(0.01)

    with make_cluster() as cluster, Client(cluster) as client:
        model = make_model(lose)
        with pytest.raises(ClusterLostError, match=match):
            model.fit(*BLOCKS)
    local = BackpropClassifier(**SETTINGS | {"max_iter": 3}).fit(X, Y)
    assert_same_fit(local, model)
    np.testing.assert_array_equal(model.predict(X), local.predict(X))


def test_errors_on_the_workers_are_raised_unchanged(client, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("mine")

    monkeypatch.setattr("skbackprop.losses.classification.LogLoss.gradient", fail)
    model = DaskBackpropClassifier(**SETTINGS)
    with pytest.raises(ZeroDivisionError, match="mine"):
        model.fit(*BLOCKS)
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize("sync_every", [1, 2])
def test_resumed_checkpoint_equals_uninterrupted_fit(client, tmp_path, sync_every):
    settings = SETTINGS | {"batch_size": 8, "dropout": 0.2, "sync_every": sync_every}
    settings |= {"early_stopping": EarlyStopping("loss", n_iter_no_change=np.inf)}
    settings |= {"n_iter_no_change": 10, "solver": "adam"}
    data = dict(zip(("X", "y", "X_val", "y_val"), HALVES + BLOCKS, strict=True))
    whole = DaskBackpropClassifier(**settings).fit(**data)
    first = DaskBackpropClassifier(**settings | {"max_iter": 4})
    first.set_callbacks(Checkpoint(tmp_path / "four.npz")).fit(**data)
    resumed = DaskBackpropClassifier(**settings)
    resumed.fit(**data, resume_from=tmp_path / "four.npz")
    np.testing.assert_array_equal(resumed.coefs_[0], whole.coefs_[0])
    assert resumed.n_iter_ == 8


def test_time_limit_is_checked_before_each_round_but_the_first(client):
    settings = SETTINGS | {"batch_size": 16, "sync_every": 1}
    model = DaskBackpropClassifier(**settings, time_limit=1e-9)
    with pytest.warns(ConvergenceWarning, match=r"No epoch is complete"):
        model.fit(*HALVES)
    assert (model.n_iter_, model.t_) == (0, 16)


def test_shards_have_about_equal_numbers_of_rows():
    assert divide_into_shards([5, 4], 2) == [[0], [1]]
    assert divide_into_shards([5, 5, 4], 2) == [[0, 2], [1]]
    assert divide_into_shards([3, 1, 1, 1], 2) == [[0], [1, 2, 3]]
    assert divide_into_shards([1] * 5, 3) == [[0, 3], [1, 4], [2]]
    assert divide_into_shards([5], 2) == [[0]]


def test_shards_are_trained_where_most_of_their_rows_are():
    shards, sizes = [[0, 2], [1, 3]], [1, 1, 3, 3]
    assert choose_workers(shards, sizes, ["a", "a", "b", "a"], ["a", "b"]) == ["b", "a"]
    assert choose_workers(shards, sizes, ["a"] * 4, ["a", "b"]) == ["a", "b"]
    assert choose_workers(shards, sizes, [None, "gone", "b", "a"], ["a", "b"]) == ["b", "a"]
