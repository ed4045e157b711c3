"""Kinds of Dask data, prediction block by block, further training, and errors."""

import gc
import pickle
import time
from contextvars import Context

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pytest
from dask import delayed
from scipy import sparse
from sklearn.base import clone

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.dask import DaskBackpropClassifier, DaskBackpropRegressor, DaskTabularClassifier
from skbackprop.early_stopping import EarlyStopping
from skbackprop.layers import GRU, Conv2D
from skbackprop.losses import Quantile
from skbackprop.optimizers import LBFGS
from support import NAMES, changed, class_data, few_epochs, label_data, value_data
from support.cluster import assert_same_fit, dask_data, settings_of

pytestmark = [few_epochs, pytest.mark.slow, pytest.mark.usefixtures("client", "one_blas_thread")]

N = 40
SETTINGS = settings_of(batch_size=N, solver="sgd")
DISTRIBUTED = SETTINGS | {"sync_every": 1}


def dask_frames(X, y, n_blocks=2):
    """Return a Dask frame and series."""
    frame = pd.DataFrame(X, columns=NAMES).assign(y=y)
    frame = dd.from_pandas(frame, npartitions=n_blocks)
    return frame[NAMES], frame["y"]


# -------------------------------------------------------------------------------- kinds of data


def test_string_labels_that_most_blocks_lack():
    """A row of each label is in the sample of the client, however rare it is."""
    n = 30_000
    X, y = da.zeros((n, 100), chunks=(5_000, 100)), np.sort(np.arange(n) % 3) + 1
    y[-1], y[7] = 4, 0
    settings = settings_of(class_weight="balanced", batch_size=n, solver="sgd", max_iter=1)
    settings["hidden_layer_sizes"] = ()
    labels = da.from_array(y.astype(str), 5_000)
    model = DaskBackpropClassifier(**settings, sync_every=1).fit(X, labels)
    assert model.classes_.tolist() == list("01234")
    local = BackpropClassifier(**settings).fit(np.zeros((n, 100)), y)
    np.testing.assert_allclose(model.loss_, local.loss_, rtol=1e-9)


def test_frames_keep_their_column_names():
    X, y = class_data(N)
    frame, labels = dask_frames(X, y)
    distributed = DaskBackpropClassifier(**DISTRIBUTED).fit(frame, labels)
    local = BackpropClassifier(**SETTINGS).fit(pd.DataFrame(X, columns=NAMES), y)
    assert_same_fit(local, distributed)
    assert distributed.feature_names_in_.tolist() == NAMES
    predicted = distributed.predict_proba(frame)
    assert isinstance(predicted, da.Array)
    expected = local.predict_proba(pd.DataFrame(X, columns=NAMES))
    np.testing.assert_allclose(predicted.compute(), expected, rtol=1e-9)
    with pytest.raises(ValueError, match="feature names"):
        distributed.partial_fit(frame[NAMES[::-1]], labels)
    assert not hasattr(distributed.fit(*dask_data(X, y)), "feature_names_in_")
    mixed = DaskBackpropClassifier(**DISTRIBUTED).fit(frame, da.from_array(y, chunks=20))
    assert_same_fit(local, mixed)


FROM_FILES = {
    "dropped": lambda d: (d.drop(columns=["label", "weight"]), d["label"], d["weight"]),
    "selected": lambda d: (d[NAMES], d.label, d.weight),
    "filtered": lambda d: FROM_FILES["dropped"](d[d["label"] > 0]),
    "computed": lambda d: (d[NAMES] * 2, d["label"] + 1, d["weight"] + d["label"]),
    "in fewer partitions": lambda d: FROM_FILES["selected"](d.repartition(npartitions=3)),
    "persisted": lambda d: FROM_FILES["dropped"](d.persist()),
    "persisted after a change": lambda d: FROM_FILES["selected"](d.map_partitions(abs).persist()),
    "as arrays": lambda d: [
        each.to_dask_array().compute_chunk_sizes() for each in FROM_FILES["dropped"](d)
    ],
}


def write_files(folder):
    """Write a table with columns that are not used, in eight files."""
    X, y = class_data(4 * N)
    frame = pd.DataFrame(X, columns=NAMES).assign(label=y, weight=np.arange(4 * N) % 3 + 1.0)
    frame = frame.assign(**{f"other_{i}": 0.5 for i in range(20)})
    for i, start in enumerate(range(0, 4 * N, 20)):
        frame[start : start + 20].to_parquet(folder / f"{i}.parquet")
    return dd.read_parquet(folder)


@pytest.mark.parametrize("way", FROM_FILES)
def test_input_and_targets_from_the_same_files(way, tmp_path, client):
    """Dask joins partitions of files from which few columns are read.

    The scheduler warns if two computations at the same time use one key for different tasks.
    """

    def count_warnings():
        return sum("run_spec" in message for _, message in client.get_scheduler_logs())

    n_before = count_warnings()
    X, y, weight = FROM_FILES[way](write_files(tmp_path))
    whole = [np.asarray(each.compute()) for each in (X, y, weight)]
    if [*FROM_FILES].index(way) % 2:  # every second case has no weights
        weight, whole[2] = None, None
    settings = {"batch_size": len(whole[0]), "early_stopping": True, "n_iter_no_change": 10}
    local = BackpropClassifier(**SETTINGS | settings)
    local.fit(*whole, X_val=whole[0], y_val=whole[1])
    model = DaskBackpropClassifier(**DISTRIBUTED | settings)
    assert_same_fit(local, model.fit(X, y, weight, X_val=X, y_val=y))
    predicted = model.predict(X).persist()
    np.testing.assert_array_equal(predicted, local.predict(whole[0]))
    assert model.score(X, y, weight) == pytest.approx(local.score(*whole))
    local.set_params(early_stopping=False).partial_fit(whole[0], whole[1])
    assert_same_fit(local, model.set_params(early_stopping=False).partial_fit(X, y))
    assert count_warnings() == n_before


def test_the_advice_about_rows_persisted_alone_works(tmp_path):
    frame = write_files(tmp_path)
    data = frame[NAMES[:2]].map_partitions(abs).persist(), frame["label"]
    assert_fit_raises("X, y must have the same blocks of rows.* persist X and y", data=data)
    frame = frame.persist()
    DaskBackpropClassifier(**DISTRIBUTED).fit(frame[NAMES[:2]].map_partitions(abs), frame["label"])


def test_workers_release_the_rows_after_a_fit(client):
    """Without a garbage collection of this process."""

    def count_actors(dask_scheduler):
        return sum(task.actor for task in dask_scheduler.tasks.values())

    X, y = dask_data(*class_data(N))
    gc.collect()
    gc.disable()
    try:
        DaskBackpropClassifier(**DISTRIBUTED).fit(X, y)
        deadline = time.monotonic() + 10
        while client.run_on_scheduler(count_actors):  # it is told later
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        gc.enable()


def test_blocks_of_unknown_size_and_empty_blocks():
    X, y = class_data(N)
    frame, labels = dask_frames(X, y, 3)
    # This leaves the first of the three blocks empty.
    chosen = [each.map_partitions(lambda part: part[part.index >= 15]) for each in (frame, labels)]
    arrays = [each.to_dask_array() for each in chosen]
    distributed = DaskBackpropClassifier(**DISTRIBUTED).fit(*arrays)
    local = BackpropClassifier(**SETTINGS | {"batch_size": N - 15}).fit(X[15:], y[15:])
    assert_same_fit(local, distributed)
    assert distributed.predict(arrays[0]).compute().shape == (N - 15,)
    assert distributed.score(*arrays) == distributed.to_local().score(X[15:], y[15:])


def test_different_chunks_of_rows_and_chunks_of_columns():
    X, y = class_data(N)
    cut = da.from_array(X, chunks=(20, 2)), da.from_array(y, chunks=7)
    local = BackpropClassifier(**SETTINGS).fit(X, y)
    distributed = DaskBackpropClassifier(**DISTRIBUTED).fit(*cut)
    assert_same_fit(local, distributed)
    np.testing.assert_allclose(distributed.predict_proba(cut[0]), local.predict_proba(X), rtol=1e-9)


def images_and_sequences():
    """Yield (rows, settings of a network): flat rows, images, and sequences with padding."""
    X, _ = class_data(N, 16)
    layers = [Conv2D(3, 2, activation="tanh")]
    yield X, {"layers": layers, "input_shape": (4, 4)}
    yield X.reshape(N, 4, 4), {"layers": layers}
    sequences = X.reshape(N, 8, 2).copy()
    sequences[::3, 6:] = np.nan
    yield sequences, {"layers": [GRU(4)]}


@pytest.mark.parametrize("rows, settings", list(images_and_sequences()))
def test_images_and_sequences(rows, settings):
    _, y = class_data(N, 16)
    local = BackpropClassifier(**SETTINGS | settings)
    local.fit(rows, y, X_val=rows[:20], y_val=y[:20])
    X_blocks, y_blocks = dask_data(rows, y, rows=20)
    if rows.ndim > 2:
        X_blocks = X_blocks.rechunk((15, 2, 2))
    distributed = DaskBackpropClassifier(**DISTRIBUTED | settings)
    distributed.fit(X_blocks, y_blocks, X_val=X_blocks[:20], y_val=y_blocks[:20])
    assert_same_fit(local, distributed)
    predicted = distributed.predict_proba(X_blocks)
    np.testing.assert_allclose(predicted.compute(), local.predict_proba(rows), rtol=1e-9)
    assert distributed.score(X_blocks, y_blocks) == pytest.approx(local.score(rows, y))
    assert_same_fit(local.partial_fit(rows, y), distributed.partial_fit(X_blocks, y_blocks))
    if np.isnan(rows).any():
        with pytest.raises(ValueError, match="NaN in row 1, step 3"):
            distributed.fit(*dask_data(changed(rows, (1, 3), np.nan), y))


@pytest.mark.parametrize("kind", [sparse.csr_matrix, sparse.csr_array, sparse.coo_matrix])
def test_sparse_blocks_of_unknown_size_stay_sparse(kind, monkeypatch):
    X, y = class_data(2 * N)
    X[X < 0.5] = 0
    weight = np.arange(2 * N) % 3
    local = BackpropClassifier(**SETTINGS | {"batch_size": 2 * N})
    local.fit(sparse.csr_matrix(X), y, weight)
    pieces = [slice(0, 33), slice(33, 33), slice(33, 60), slice(60, 80)]
    blocks = [da.from_delayed(delayed(kind)(X[own]), (np.nan, 4), float) for own in pieces]
    labels, weights = (
        da.concatenate([da.from_delayed(delayed(each[own]), (np.nan,), float) for own in pieces])
        for each in (y, weight)
    )
    rows = da.concatenate(blocks, allow_unknown_chunksizes=True)
    for each in (sparse.csr_matrix, sparse.csr_array, sparse.coo_matrix):
        monkeypatch.setattr(each, "toarray", None)
    model = DaskBackpropClassifier(**DISTRIBUTED | {"batch_size": 2 * N})
    assert_same_fit(local, model.fit(rows, labels, weights))
    predicted = model.predict_proba(rows).compute()
    np.testing.assert_allclose(predicted, local.predict_proba(X), rtol=1e-9)
    assert model.score(rows, labels) == local.score(X, y)


# ------------------------------------------------------------------------------ prediction


@pytest.mark.parametrize(
    "method", ["predict", "predict_proba", "predict_log_proba", "decision_function"]
)
@pytest.mark.parametrize("data", [class_data, label_data])
def test_prediction_is_lazy_and_equals_the_local_one(method, data):
    X, y = data(N)
    arrays = dask_data(X, y)
    distributed = DaskBackpropClassifier(**DISTRIBUTED).fit(*arrays)
    output = getattr(distributed, method)(arrays[0])
    expected = getattr(distributed.to_local(), method)(X)
    assert isinstance(output, da.Array) and output.chunks[0] == (25, 15)
    assert output.dtype == expected.dtype and output.shape == expected.shape
    np.testing.assert_allclose(output.compute(), expected, rtol=1e-12)
    np.testing.assert_array_equal(getattr(distributed, method)(X), expected)


@pytest.mark.parametrize("loss", ["squared_error", "gaussian", Quantile((0.2, 0.8))], ids=str)
def test_regressor_predicts_std_and_score(loss):
    X, y = value_data(N)
    arrays, weight = dask_data(X, y), np.arange(N) % 3
    distributed = DaskBackpropRegressor(**DISTRIBUTED, loss=loss, scale_target=True).fit(*arrays)
    local = distributed.to_local()
    found = distributed.predict(arrays[0], return_std=True)
    for output, expected in zip(found, local.predict(X, return_std=True), strict=True):
        np.testing.assert_allclose(output.compute(), expected, rtol=1e-12)
    score = distributed.score(*arrays, da.from_array(weight, chunks=25))
    assert score == pytest.approx(local.score(X, y, weight), rel=1e-12)
    assert distributed.score(X, y) == local.score(X, y)


def test_to_local_clone_and_pickle():
    X, y = class_data(N)
    distributed = DaskBackpropClassifier(**DISTRIBUTED).fit(*dask_data(X, y))
    local = distributed.to_local()
    assert type(local) is BackpropClassifier
    assert local.get_params() == BackpropClassifier(**SETTINGS).get_params()
    assert distributed.get_params() == local.get_params() | {"sync_every": 1}
    assert "sync_every" not in vars(local) and "sync_every=1" in repr(distributed)
    loaded = pickle.loads(pickle.dumps(distributed))
    np.testing.assert_array_equal(loaded.predict(X), local.predict(X))
    unfitted = clone(loaded)
    assert unfitted.sync_every == 1 and not hasattr(unfitted, "coefs_")
    with pytest.raises(TypeError, match="hidden_layer_size"):
        DaskBackpropClassifier(hidden_layer_size=(3,))


# -------------------------------------------------------------------------- further training


def test_partial_fit_equals_the_local_one():
    X, y = class_data(2 * N)
    local = BackpropClassifier(**SETTINGS)
    distributed = DaskBackpropClassifier(**DISTRIBUTED)
    for half in (slice(N), slice(N, None), slice(N)):
        local.partial_fit(X[half], y[half], classes=[0, 1, 2, 3])
        distributed.partial_fit(*dask_data(X[half], y[half]), classes=[0, 1, 2, 3])
    assert_same_fit(local, distributed)
    assert distributed.t_ == 3 * N and len(distributed.loss_curve_) == 3
    local.set_params(batch_size=2 * N), distributed.set_params(batch_size=2 * N)
    assert_same_fit(local.fit(X, y), distributed.fit(*dask_data(X, y)))


def test_warm_start_equals_the_local_one():
    X, y = value_data(N)
    local = BackpropRegressor(**SETTINGS, warm_start=True, average="polyak")
    distributed = DaskBackpropRegressor(**DISTRIBUTED, warm_start=True, average="polyak")
    for _ in range(2):
        assert_same_fit(local.fit(X, y), distributed.fit(*dask_data(X, y)))
    assert len(distributed.loss_curve_) == 6


@pytest.mark.parametrize(
    "scoring", [None, "loss", "neg_log_loss", lambda model, X, y: model.score(X, y)]
)
def test_early_stopping_by_validation_rows(scoring):
    """Validation rows may be Dask collections or not; they are loaded into this process."""
    X, y = class_data(2 * N)
    y = np.array(["one", "three", "two"])[y]
    stopping = EarlyStopping(scoring, n_iter_no_change=3, calibrate=scoring == "loss")
    settings = {"max_iter": 40, "early_stopping": stopping, "learning_rate_init": 0.3}
    settings["n_iter_no_change"] = 10
    local = BackpropClassifier(**SETTINGS | settings)
    validation = {"X_val": X[N:], "y_val": y[N:]}
    if scoring == "neg_log_loss":
        validation["sample_weight_val"] = np.arange(N) % 3
    local.fit(X[:N], y[:N], **validation)
    distributed = DaskBackpropClassifier(**DISTRIBUTED | settings)
    if scoring is not None:
        validation = {name: da.from_array(each, chunks=25) for name, each in validation.items()}
    distributed.fit(*dask_data(X[:N], y[:N]), **validation)
    assert_same_fit(local, distributed)
    assert distributed.n_iter_ == local.n_iter_ < 40 and distributed.best_iter_ == local.best_iter_
    for name in ("validation_loss_curve_", "validation_scores_"):
        np.testing.assert_allclose(getattr(distributed, name), getattr(local, name), rtol=1e-9)
    assert distributed.temperature_ == pytest.approx(local.temperature_)


# ------------------------------------------------------------------------------ errors


def assert_fit_raises(match, error=ValueError, kind=DaskBackpropClassifier, data=None, **changes):
    model = kind(**DISTRIBUTED | changes)
    with pytest.raises(error, match=match):
        model.fit(*(data or dask_data(*class_data(N))))
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"early_stopping": True}, "X_val and y_val"),
        ({"sync_every": 0}, "sync_every"),
        ({"solver": "lbfgs"}, "solver must be one of 'sgd', .* on a Dask cluster, got 'lbfgs'"),
        ({"solver": LBFGS()}, "on a Dask cluster, got LBFGS"),
        ({"class_weight": {7: 1.0}}, "only classes of"),
        ({"class_weight": {0: 0.0, 1: 0.0, 2: 0.0}}, "must give at least one row"),
    ],
)
def test_invalid_parameters(changes, match):
    assert_fit_raises(match, **changes)


def test_invalid_data():
    X, y = class_data(N)
    rows, labels = dask_data(X, y)
    assert_fit_raises("X must be a Dask array or frame", TypeError, data=(X, labels))
    assert_fit_raises("at least one row", data=dask_frames(X[:0], y[:0], 1))
    assert_fit_raises("NaN", data=dask_data(changed(X, (30, 1), np.nan), y))
    one_block = da.from_array(X, chunks=(40, 4))
    assert_fit_raises("blocks of rows", data=(one_block, dask_frames(X, y)[1]))
    mixed = np.array([1] * 25 + ["a"] * 15, object)
    assert_fit_raises("only strings or only numbers", data=dask_data(X, mixed))
    values = dask_data(*value_data(N))
    assert_fit_raises("Unknown label type", data=values)
    assert_fit_raises("y >= 0", kind=DaskBackpropRegressor, data=values, loss="poisson")
    some = rows.map_blocks(lambda block: sparse.csr_matrix(block) if len(block) == 15 else block)
    assert_fit_raises("all dense or all sparse", data=(some, labels))
    sparse_rows = rows.map_blocks(sparse.csr_matrix)
    assert_fit_raises("y of .* must be dense", TypeError, data=(rows, sparse_rows))
    assert_fit_raises("need a dense X", TypeError, data=(sparse_rows, labels), layers="scale")
    X, Y = value_data(N, n_outputs=2)
    model = DaskBackpropRegressor(**DISTRIBUTED).fit(*dask_data(X, Y))
    gaps = dask_data(X, changed(Y, (30, 1), np.nan))
    for call in (clone(model).fit, model.score):
        with pytest.raises(ValueError, match="On a Dask cluster, y must not contain NaN"):
            call(*gaps)
        with pytest.raises(ValueError, match="must be 1D"):
            call(*dask_data(X, Y, np.ones_like(Y)))
    pairs = dask_data(*label_data(N))
    assert_fit_raises("must be None for a y of several", data=pairs, class_weight="balanced")
    for weight, match in ((np.zeros(N), "zero"), (-np.ones(N), "[Nn]egative")):
        assert_fit_raises(match, data=(rows, labels, *dask_data(weight)))


def test_errors_on_the_workers_name_the_block():
    """The sample on the client may lack the invalid rows."""
    X = da.ones((30_000, 100), chunks=(10_000, 100))
    X = da.where(da.arange(30_000, chunks=10_000)[:, None] == 29_997, np.nan, X)
    data = X, da.ones(30_000, chunks=10_000)
    assert_fit_raises("block 2 of X: .*NaN", kind=DaskBackpropRegressor, data=data)


def test_raises_without_a_client(monkeypatch):
    monkeypatch.setattr("distributed.client._global_clients", {})
    for kind in (DaskBackpropClassifier, DaskTabularClassifier):
        with pytest.raises(ValueError, match=r"no current client.*Client\(\) starts"):
            # In an empty context, in which the client of the fixture is not the current one.
            Context().run(kind(max_iter=1).fit, *dask_data(*class_data(N)))
