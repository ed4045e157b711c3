"""Events by which clients of the cluster follow a training."""

import dask.array as da
import numpy as np
import pytest
from distributed import Client
from distributed.comm import CommClosedError

from skbackprop.dask import DaskBackpropClassifier
from support import class_data, few_epochs

pytestmark = few_epochs

X, Y = class_data(60)
BLOCKS = da.from_array(X, chunks=(30, 4)), da.from_array(Y, chunks=30)
SETTINGS = {"max_iter": 3, "batch_size": 20, "random_state": 0}


def events_of_last_fit(client):
    events = [event for _, event in client.get_events("skbackprop")]
    return [event for event in events if event["fit"] == events[-1]["fit"]]


@pytest.mark.long
def test_fit_logs_an_event_for_each_epoch(client):
    model = DaskBackpropClassifier((4,), sync_every=1, **SETTINGS).fit(*BLOCKS)
    events = events_of_last_fit(client)
    assert [event["epoch"] for event in events] == [1, 2, 3]
    assert [event["loss"] for event in events] == model.loss_curve_
    assert {event["n_rounds"] for event in events} == {3}  # 60 rows, 20 a batch
    assert all(event["seconds"] > 0 for event in events)


@pytest.mark.long
def test_events_have_sync_every_and_the_number_of_rounds(client):
    DaskBackpropClassifier((4,), sync_every=1_000, **SETTINGS).fit(*BLOCKS)
    events = events_of_last_fit(client)
    assert {(event["sync_every"], event["n_rounds"]) for event in events} == {(1_000, 1)}


@pytest.mark.long
def test_fit_ignores_errors_of_events(client, monkeypatch):
    def failing(self, topic, msg):
        raise CommClosedError("in <TCP (closed)>")

    monkeypatch.setattr(Client, "log_event", failing)
    model = DaskBackpropClassifier((4,), sync_every=2, **SETTINGS).fit(*BLOCKS)
    assert model.n_iter_ == 3 and np.isfinite(model.loss_)
