"""Training when workers come and go, on Ctrl-C, and when the cluster is gone; and its events."""

import os
import signal
import time
from types import SimpleNamespace

import dask.array as da
import numpy as np
import pytest
from dask import delayed
from distributed import Client
from distributed.comm import CommClosedError
from sklearn.exceptions import ConvergenceWarning

from skbackprop import BackpropClassifier
from skbackprop.callbacks import Checkpoint
from skbackprop.dask import ClusterLostError, DaskBackpropClassifier, _trainer
from skbackprop.dask._trainer import ActorPool, assign_partitions
from skbackprop.early_stopping import EarlyStopping
from skbackprop.nn import stack_trainer
from support import class_data, few_epochs
from support.cluster import assert_same_fit, dask_data, make_cluster, settings_of

pytestmark = [few_epochs, pytest.mark.long, pytest.mark.usefixtures("one_blas_thread")]

SETTINGS = settings_of(max_iter=8, batch_size=64)
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


def make_model(action, client, epoch=3, **changes):
    """Return an estimator that calls a function before its fourth epoch."""
    model = DaskBackpropClassifier(**SETTINGS | {"sync_every": 1, "client": client} | changes)
    return model.set_callbacks(RunBeforeEpoch(epoch, action))


@pytest.fixture
def short_timeouts(monkeypatch):
    monkeypatch.setattr(_trainer, "_RESULT_TIMEOUT", 0.2)
    monkeypatch.setattr(_trainer, "_NO_WORKERS_TIMEOUT", 0.3)
    monkeypatch.setattr(_trainer, "_CHECK_INTERVAL", 0.0)


def test_killed_worker_does_not_change_the_result():
    """Its rows are computed again, and the round is repeated."""

    def kill_worker():  # as the operating system does when memory runs out
        os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    with make_cluster(processes=True) as cluster, Client(cluster) as client:
        model = make_model(kill_worker, client).fit(*BLOCKS)
    assert_same_fit(BackpropClassifier(**SETTINGS).fit(X, Y), model)


def test_rows_from_scatter_are_lost_with_their_worker(short_timeouts):
    """Dask cannot compute them again."""
    with make_cluster() as cluster, Client(cluster) as client:
        put = [
            client.scatter(part, workers=[worker])
            for part, worker in zip((X[:32], X[32:]), client.nthreads(), strict=True)
        ]
        rows = da.concatenate([da.from_delayed(delayed(each), (32, 4), X.dtype) for each in put])
        model = make_model(lambda: cluster.sync(cluster.workers[0].close), client)
        with pytest.raises(ClusterLostError, match="scatter"):
            model.fit(rows, HALVES[1])
    assert model.n_iter_ == 3


def test_new_worker_takes_part(monkeypatch, short_timeouts):
    counts, original = [], _trainer.make_worker_shares

    def record_shares(numbers, *arguments):
        counts.append(sorted(map(len, numbers)))
        return original(numbers, *arguments)

    def add_worker():
        cluster.scale(2)
        client.wait_for_workers(2)

    monkeypatch.setattr(_trainer, "make_worker_shares", record_shares)
    with make_cluster(1) as cluster, Client(cluster) as client:
        model = make_model(add_worker, client).fit(*BLOCKS)
    assert_same_fit(BackpropClassifier(**SETTINGS).fit(X, Y), model)
    assert counts == [[4], [2, 2]]


@pytest.mark.parametrize("sync_every", [1, 2])
def test_ctrl_c_keeps_the_last_complete_epoch(client, monkeypatch, sync_every):
    settings = SETTINGS | {"batch_size": 8, "sync_every": sync_every, "client": client}
    n_calls, original = [0], ActorPool._wait_for

    def interrupt(self, future):
        n_calls[0] += 1
        if n_calls[0] == 23:
            raise KeyboardInterrupt
        return original(self, future)

    model = DaskBackpropClassifier(**settings)
    with monkeypatch.context() as context:
        context.setattr(ActorPool, "_wait_for", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.fit(*HALVES)
    assert 0 < model.n_iter_ < 8
    shorter = DaskBackpropClassifier(**settings | {"max_iter": model.n_iter_})
    assert_same_fit(shorter.fit(*HALVES), model)
    assert model.predict(HALVES[0]).compute().shape == (64,)


@pytest.mark.parametrize(
    "lost, match",
    [("client", "resume_from"), ("scheduler", "cannot be reached"), ("workers", "no workers")],
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
        model = make_model(lose, client, early_stopping=EarlyStopping(calibrate=True))
        model.set_params(n_iter_no_change=10)
        with pytest.raises(ClusterLostError, match=match):
            model.fit(*BLOCKS, X_val=BLOCKS[0], y_val=BLOCKS[1])
    local = BackpropClassifier(**SETTINGS | {"max_iter": 3}).fit(X, Y)
    assert_same_fit(local, model)
    np.testing.assert_array_equal(model.predict(X), local.predict(X))
    assert model.temperature_ == 1.0  # the validation rows are gone too


def test_errors_on_the_workers_are_raised_unchanged(client, monkeypatch):
    def fail(*_):
        raise ZeroDivisionError("mine")

    monkeypatch.setattr("skbackprop.dask._worker.FullBatchLoss.__call__", fail)
    model = DaskBackpropClassifier(**SETTINGS, sync_every=1, client=client)
    with pytest.raises(ZeroDivisionError, match="mine"):
        model.fit(*BLOCKS)
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize("sync_every", [1, 2])
def test_resumed_checkpoint_equals_uninterrupted_fit(client, tmp_path, sync_every):
    """With one block for each worker the results are equal to the bit."""
    settings = SETTINGS | {"batch_size": 8, "dropout": 0.2, "client": client}
    stopping = EarlyStopping("loss", n_iter_no_change=np.inf, calibrate=True)
    settings |= {"early_stopping": stopping, "n_iter_no_change": 10, "sync_every": sync_every}
    data = dict(zip(("X", "y", "X_val", "y_val"), HALVES + BLOCKS, strict=True))
    whole = DaskBackpropClassifier(**settings).fit(**data)
    first = DaskBackpropClassifier(**settings | {"max_iter": 4})
    first.set_callbacks(Checkpoint(tmp_path / "four.npz")).fit(**data)
    resumed = DaskBackpropClassifier(**settings)
    resumed.fit(**data, resume_from=tmp_path / "four.npz")
    np.testing.assert_array_equal(resumed.coefs_[0], whole.coefs_[0])
    assert resumed.temperature_ == whole.temperature_ != first.temperature_
    assert resumed.n_iter_ == 8


@pytest.mark.parametrize("sync_every", [1, 2])
def test_rounds_of_an_incomplete_first_epoch_count(client, tmp_path, monkeypatch, sync_every):
    """By a clock that goes on by a second at each round, of four or of two in an epoch."""
    path, seconds = tmp_path / "network.npz", iter(range(100))
    clock = SimpleNamespace(monotonic=lambda: float(next(seconds)))
    settings = SETTINGS | {"batch_size": 16 // sync_every, "sync_every": sync_every}
    settings |= {"client": client, "max_iter": 3}
    whole = DaskBackpropClassifier(**settings).fit(*HALVES)
    model = DaskBackpropClassifier(**settings, time_limit=2 // sync_every)
    with monkeypatch.context() as context:
        context.setattr(stack_trainer, "time", clock)
        with pytest.warns(ConvergenceWarning, match="No epoch is complete"):
            model.set_callbacks(Checkpoint(path)).fit(*HALVES)
    assert (model.n_iter_, model.t_) == (0, 32)
    initial = DaskBackpropClassifier(**settings, time_limit=1e-9)
    with pytest.warns(ConvergenceWarning, match="No epoch is complete"):
        initial.fit(*HALVES)
    assert np.abs(model.coefs_[0] - initial.coefs_[0]).min() > 1e-6
    resumed = DaskBackpropClassifier(**settings).fit(*HALVES, resume_from=path)
    assert_same_fit(resumed, whole)


def test_partitions_stay_on_their_workers_unless_sizes_differ_much():
    assert assign_partitions([["a"], ["b"]], [5, 4], ["a", "b"]) == [[0], [1]]
    assert assign_partitions([["a"], ["a"], ["b"]], [5, 5, 4], ["a", "b"]) == [[0, 1], [2]]
    moved = assign_partitions([["a"]] * 4, [5] * 4, ["a", "b"])
    assert sorted(moved) == [[0, 1], [2, 3]]
    assert sorted(map(len, assign_partitions([[]] * 5, [1] * 5, ["a", "b", "c"]))) == [1, 2, 2]
    assert assign_partitions([["a"]], [5], ["a", "b"]) == [[0], []]
    assert assign_partitions([["gone"]], [5], ["a"]) == [[0]]


# --------------------------------------------------------------------------------- events


@pytest.mark.parametrize("sync_every, n_rounds", [(1, 4), (2, 1), (1_000, 1)])
def test_fit_logs_an_event_for_each_epoch(client, sync_every, n_rounds):
    """64 rows in batches of 16: four in all, or two for each worker."""
    settings = settings_of(batch_size=16, sync_every=sync_every, client=client)
    model = DaskBackpropClassifier(**settings).fit(*HALVES)
    events = [event for _, event in client.get_events("skbackprop")]
    events = [event for event in events if event["fit"] == events[-1]["fit"]]
    assert [event["epoch"] for event in events] == [1, 2, 3]
    assert [event["loss"] for event in events] == model.loss_curve_
    assert {(event["sync_every"], event["n_rounds"]) for event in events} == {
        (sync_every, n_rounds)
    }
    assert all(event["seconds"] > 0 for event in events)


def test_fit_ignores_errors_of_events(client, monkeypatch):
    def fail(self, topic, msg):
        raise CommClosedError("in <TCP (closed)>")

    monkeypatch.setattr(Client, "log_event", fail)
    model = DaskBackpropClassifier(**settings_of(batch_size=16, client=client)).fit(*HALVES)
    assert model.n_iter_ == 3 and np.isfinite(model.loss_)
