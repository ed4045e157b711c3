"""Training when a worker dies, on Ctrl-C, and when the cluster is gone."""

import os
import signal
import time

import dask.array as da
import numpy as np
import pytest
from dask import delayed
from distributed import Client, LocalCluster

from skbackprop import BackpropClassifier
from skbackprop.callbacks import Checkpoint
from skbackprop.dask import ClusterLostError, DaskBackpropClassifier, _trainer
from skbackprop.dask._trainer import ActorPool, assign_partitions
from skbackprop.early_stopping import EarlyStopping
from support import class_data, few_epochs

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

SETTINGS = {"max_iter": 8, "n_iter_no_change": np.inf, "learning_rate_init": 0.05}
SETTINGS |= {"hidden_layer_sizes": (5,), "random_state": 0, "batch_size": 64}
X, Y = class_data(64)


def dask_data(n=16):
    return da.from_array(X, chunks=(n, 4)), da.from_array(Y, chunks=n)


class RunBeforeEpoch:
    """Callback that calls a function once, before an epoch counted from zero."""

    def __init__(self, epoch, action):
        self.epoch, self.action = epoch, action

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        if context.parent is not None and context.task_id == self.epoch:
            self.action()

    def on_fit_task_end(self, estimator, context):
        pass


def assert_same_fit(local, distributed):
    for own, other in zip(local.coefs_, distributed.coefs_, strict=True):
        np.testing.assert_allclose(other, own, rtol=1e-9)
    assert distributed.n_iter_ == local.n_iter_


@pytest.fixture(scope="module")
def processes():
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": True}
    settings |= {"dashboard_address": ":0", "silence_logs": 50}
    with LocalCluster(**settings) as cluster, Client(cluster) as client:
        yield client


def kill_worker(client):
    """Kill a worker, as the operating system does when memory runs out."""
    pids = client.run(os.getpid)
    os.kill(next(iter(pids.values())), signal.SIGKILL)


@pytest.mark.long
def test_killed_worker_does_not_change_the_result(processes):
    """Its rows are computed again, and the round is repeated."""
    model = DaskBackpropClassifier(**SETTINGS, sync_every=1, client=processes)
    model.set_callbacks(RunBeforeEpoch(3, lambda: kill_worker(processes))).fit(*dask_data())
    assert_same_fit(BackpropClassifier(**SETTINGS).fit(X, Y), model)


@pytest.mark.long
def test_rows_from_scatter_are_lost_with_their_worker(processes):
    """Dask cannot compute them again."""
    processes.wait_for_workers(2)
    workers = processes.scheduler_info()["workers"]
    put = [
        processes.scatter(part, workers=[worker])
        for part, worker in zip((X[:32], X[32:]), workers, strict=True)
    ]
    blocks = [da.from_delayed(delayed(each), (32, 4), X.dtype) for each in put]
    model = DaskBackpropClassifier(**SETTINGS, sync_every=1, client=processes)
    model.set_callbacks(RunBeforeEpoch(3, lambda: kill_worker(processes)))
    with pytest.raises(ClusterLostError, match="scatter"):
        model.fit(da.concatenate(blocks), dask_data(32)[1])
    assert model.n_iter_ == 3


@pytest.mark.long
def test_new_worker_takes_part(monkeypatch):
    counts, settings = [], {"threads_per_worker": 1, "processes": False}
    original = _trainer.make_worker_shares

    def recorded(numbers, *arguments):
        counts.append(sorted(map(len, numbers)))
        return original(numbers, *arguments)

    monkeypatch.setattr(_trainer, "make_worker_shares", recorded)
    monkeypatch.setattr("skbackprop.dask._trainer._CHECK_INTERVAL", 0.0)
    settings |= {"n_workers": 1, "dashboard_address": ":0"}
    with LocalCluster(**settings) as cluster, Client(cluster) as client:

        def join():
            cluster.scale(2)
            client.wait_for_workers(2)

        model = DaskBackpropClassifier(**SETTINGS, sync_every=1, client=client)
        model.set_callbacks(RunBeforeEpoch(3, join)).fit(*dask_data())
    assert_same_fit(BackpropClassifier(**SETTINGS).fit(X, Y), model)
    assert counts == [[4], [2, 2]]


@pytest.mark.long
@pytest.mark.parametrize("sync_every", [1, 2])
def test_ctrl_c_keeps_the_last_complete_epoch(client, monkeypatch, sync_every):
    settings = SETTINGS | {"batch_size": 8}
    n_calls, original = [0], ActorPool._wait_for

    def interrupted(self, future):
        n_calls[0] += 1
        if n_calls[0] == 23:
            raise KeyboardInterrupt
        return original(self, future)

    settings["client"] = client
    model = DaskBackpropClassifier(**settings, sync_every=sync_every)
    with monkeypatch.context() as context:
        context.setattr(ActorPool, "_wait_for", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.fit(*dask_data(32))
    assert 0 < model.n_iter_ < 8 and len(model.loss_curve_) == model.n_iter_
    uninterrupted = DaskBackpropClassifier(
        **settings | {"max_iter": model.n_iter_}, sync_every=sync_every
    )
    assert_same_fit(uninterrupted.fit(*dask_data(32)), model)
    assert model.predict(dask_data(32)[0]).compute().shape == (64,)


@pytest.mark.long
def test_closed_client_keeps_the_last_complete_epoch(monkeypatch):
    monkeypatch.setattr("skbackprop.dask._trainer._RESULT_TIMEOUT", 0.2)
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    with LocalCluster(**settings, dashboard_address=":0") as cluster, Client(cluster) as client:
        model = DaskBackpropClassifier(**SETTINGS, sync_every=1, client=client)
        model.set_callbacks(RunBeforeEpoch(3, client.close))
        with pytest.raises(ClusterLostError, match="resume_from"):
            model.fit(*dask_data())
    assert model.n_iter_ == 3
    local = BackpropClassifier(**SETTINGS | {"max_iter": 3}).fit(X, Y)
    assert_same_fit(local, model)
    np.testing.assert_array_equal(model.predict(X), local.predict(X))


@pytest.mark.long
def test_closed_scheduler_keeps_the_last_complete_epoch(monkeypatch):
    monkeypatch.setattr("skbackprop.dask._trainer._RESULT_TIMEOUT", 0.2)
    settings = {"n_workers": 1, "threads_per_worker": 1, "processes": False}
    with LocalCluster(**settings, dashboard_address=":0", silence_logs=50) as cluster:
        client = Client(cluster)
        model = DaskBackpropClassifier(**SETTINGS, sync_every=2, client=client)
        model.set_params(early_stopping=EarlyStopping(calibrate=True), n_iter_no_change=10)
        model.set_callbacks(RunBeforeEpoch(2, cluster.close))
        rows, labels = dask_data()
        with pytest.raises(ClusterLostError, match="gone"):
            model.fit(rows, labels, X_val=rows, y_val=labels)
        client.close()
    assert model.n_iter_ == 2 and model.predict(X).shape == (64,)
    assert model.temperature_ == 1.0  # the validation rows are gone too


@pytest.mark.long
def test_cluster_without_workers_is_lost(monkeypatch):
    monkeypatch.setattr("skbackprop.dask._trainer._NO_WORKERS_TIMEOUT", 0.3)
    monkeypatch.setattr("skbackprop.dask._trainer._RESULT_TIMEOUT", 0.2)
    settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    with (
        LocalCluster(**settings, dashboard_address=":0", silence_logs=50) as cluster,
        Client(cluster) as client,
    ):
        model = DaskBackpropClassifier(**SETTINGS, sync_every=1, client=client)

        def leave():
            cluster.scale(0)
            while client.scheduler_info()["workers"]:
                time.sleep(0.01)

        model.set_callbacks(RunBeforeEpoch(3, leave))
        with pytest.raises(ClusterLostError, match="no workers"):
            model.fit(*dask_data())
    assert model.n_iter_ == 3


@pytest.mark.long
def test_errors_on_the_workers_are_raised_unchanged(client, monkeypatch):
    def failing(*_):
        raise ZeroDivisionError("mine")

    monkeypatch.setattr("skbackprop.dask._worker.FullBatchLoss.__call__", failing)
    model = DaskBackpropClassifier(**SETTINGS, sync_every=1, client=client)
    with pytest.raises(ZeroDivisionError, match="mine"):
        model.fit(*dask_data())
    assert not hasattr(model, "coefs_")


@pytest.mark.long
@pytest.mark.parametrize("sync_every", [1, 2])
def test_resumed_checkpoint_equals_uninterrupted_fit(client, tmp_path, sync_every):
    """With one block for each worker the results are equal to the bit."""
    settings = SETTINGS | {"batch_size": 8, "dropout": 0.2, "client": client}
    stopping = EarlyStopping("loss", n_iter_no_change=np.inf, calibrate=True)
    settings |= {"early_stopping": stopping, "n_iter_no_change": 10}
    validation = dict(zip(("X_val", "y_val"), dask_data(16), strict=True))
    whole = DaskBackpropClassifier(**settings, sync_every=sync_every).fit(
        *dask_data(32), **validation
    )
    first = DaskBackpropClassifier(**settings | {"max_iter": 4}, sync_every=sync_every)
    first.set_callbacks(Checkpoint(tmp_path / "four.npz")).fit(*dask_data(32), **validation)
    resumed = DaskBackpropClassifier(**settings, sync_every=sync_every)
    resumed.fit(*dask_data(32), **validation, resume_from=tmp_path / "four.npz")
    np.testing.assert_array_equal(resumed.coefs_[0], whole.coefs_[0])
    assert resumed.temperature_ == whole.temperature_ != first.temperature_
    assert resumed.n_iter_ == 8


@pytest.mark.long
def test_partitions_stay_on_their_workers_unless_sizes_differ_much():
    assert assign_partitions([["a"], ["b"]], [5, 4], ["a", "b"]) == [[0], [1]]
    assert assign_partitions([["a"], ["a"], ["b"]], [5, 5, 4], ["a", "b"]) == [[0, 1], [2]]
    assert assign_partitions([["a"]] * 4, [5] * 4, ["a", "b"]) in (
        [[0, 1], [2, 3]],
        [[2, 3], [0, 1]],
    )
    assert sorted(map(len, assign_partitions([[]] * 5, [1] * 5, ["a", "b", "c"]))) == [1, 2, 2]
    assert assign_partitions([["a"]], [5], ["a", "b"]) == [[0], []]
    assert assign_partitions([["gone"]], [5], ["a"]) == [[0]]
