"""Kinds of Dask data, prediction block by block, and errors."""

import copy
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
from sklearn.metrics import get_scorer

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.dask import (
    DaskBackpropClassifier,
    DaskBackpropRegressor,
    DaskTabularClassifier,
)
from skbackprop.dask._row_blocks import row_blocks
from skbackprop.early_stopping import EarlyStopping
from skbackprop.layers import GRU, Conv2D, Dense, LayerNormalization
from skbackprop.losses import Quantile
from skbackprop.optimizers import LBFGS
from skbackprop.tabular import TableEncoder
from support import NAMES, changed, class_data, few_epochs, value_data
from support.cluster import assert_same_fit, dask_data, settings_of

pytestmark = [few_epochs, pytest.mark.long, pytest.mark.usefixtures("client", "one_blas_thread")]

N = 40
SETTINGS = settings_of(batch_size=N)
DISTRIBUTED = SETTINGS | {"sync_every": 1}


def dask_frames(X, y, n_blocks=2):
    """Return a Dask frame and series."""
    frame = pd.DataFrame(X, columns=NAMES).assign(y=y)
    frame = dd.from_pandas(frame, npartitions=n_blocks)
    return frame[NAMES], frame["y"]


# -------------------------------------------------------------------------------- kinds of data


def test_string_labels_that_some_blocks_lack():
    X, y = class_data(N)
    order = np.argsort(y)
    X, y = X[order], np.array(["one", "three", "two"])[y[order]]
    distributed = DaskBackpropClassifier(**DISTRIBUTED).fit(*dask_data(X, y, rows=15))
    assert_same_fit(BackpropClassifier(**SETTINGS).fit(X, y), distributed)
    assert distributed.classes_.tolist() == ["one", "three", "two"]
    assert set(distributed.predict(X)) <= {"one", "two", "three"}


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


@pytest.mark.parametrize("way", FROM_FILES)
def test_input_and_targets_from_the_same_files(way, tmp_path):
    """By itself, Dask joins partitions of files from which few columns are read."""
    X, y = class_data(4 * N)
    frame = pd.DataFrame(X, columns=NAMES).assign(label=y, weight=np.arange(4 * N) % 3 + 1.0)
    for i, start in enumerate(range(0, 4 * N, 20)):
        frame[start : start + 20].to_parquet(tmp_path / f"{i}.parquet")
    X, y, weight = FROM_FILES[way](dd.read_parquet(tmp_path))
    whole = [np.asarray(each.compute()) for each in (X, y, weight)]
    if [*FROM_FILES].index(way) % 2:  # every second case has no weights
        weight, whole[2] = None, None
    settings = {"batch_size": len(whole[0]), "early_stopping": True, "n_iter_no_change": 10}
    local = BackpropClassifier(**SETTINGS | settings)
    local.fit(*whole, X_val=whole[0], y_val=whole[1])
    model = DaskBackpropClassifier(**DISTRIBUTED | settings)
    assert_same_fit(local, model.fit(X, y, weight, X_val=X, y_val=y))
    np.testing.assert_array_equal(model.predict(X).compute(), local.predict(whole[0]))
    assert model.score(X, y, weight) == pytest.approx(local.score(*whole))
    local.set_params(early_stopping=False).partial_fit(whole[0], whole[1])
    assert_same_fit(local, model.set_params(early_stopping=False).partial_fit(X, y))


def test_only_required_columns_of_files_are_read(tmp_path):
    frame = pd.DataFrame(np.ones((N, 4)), columns=NAMES).assign(label=0)
    for i in range(4):
        frame[i * 10 : i * 10 + 10].to_parquet(tmp_path / f"{i}.parquet")
    d = dd.read_parquet(tmp_path)
    blocks = row_blocks(d["label"])
    for i in range(4):  # the other columns are gone
        frame[["label"]][i * 10 : i * 10 + 10].to_parquet(tmp_path / f"{i}.parquet")
    assert [len(block.compute()) for block in blocks] == [10] * 4


def frame_of_files(folder):
    """Return a Dask frame of four files with columns that are read in different ways."""
    X, y = class_data(N)
    frame = pd.DataFrame(X, columns=NAMES).assign(y=y)
    for i in range(4):
        frame[i * 10 : i * 10 + 10].to_parquet(folder / f"{i}.parquet")
    return dd.read_parquet(folder)


@pytest.mark.parametrize("kind", ["frame", "persisted frame", "array"])
def test_computations_of_the_same_rows_do_not_collide(kind, client, tmp_path):
    """The scheduler warns if two computations at the same time use one key for different tasks."""

    def count_warnings():
        return sum("run_spec" in message for _, message in client.get_scheduler_logs())

    n_before = count_warnings()
    frame = frame_of_files(tmp_path)
    if kind != "frame":
        frame = frame.persist()
    X, y = frame[NAMES].map_partitions(lambda rows: rows / 2), frame["y"]
    if kind == "array":
        X, y = (each.to_dask_array(lengths=True) for each in (X, y))
        X = (X + 1).map_blocks(abs)
    model = DaskBackpropClassifier(**DISTRIBUTED).fit(X, y)
    predicted = model.predict(X).persist()
    model.score(X, y)
    np.testing.assert_array_equal(predicted, model.to_local().predict(X.compute()))
    model.partial_fit(X, y)
    frame.assign(predicted=predicted).compute()
    assert count_warnings() == n_before


def test_lazy_predictions_keep_persisted_rows_alive():
    X, y = class_data(N)
    model = DaskBackpropClassifier(**DISTRIBUTED).fit(*dask_frames(X, y))
    expected = model.to_local().predict(pd.DataFrame(X, columns=NAMES))
    predicted = model.predict(dask_frames(X, y)[0].persist())
    np.testing.assert_array_equal(predicted, expected)
    model.fit(*dask_data(X, y))
    predicted = model.predict(dask_data(X)[0].persist())
    np.testing.assert_array_equal(predicted, model.to_local().predict(X))


def test_workers_release_the_rows_after_a_fit(client):
    """Without a garbage collection of this process."""

    def count_actors(dask_scheduler):
        return sum(task.actor for task in dask_scheduler.tasks.values())

    X, y = dask_data(*class_data(N))
    model = DaskBackpropClassifier(**DISTRIBUTED | {"early_stopping": True, "n_iter_no_change": 10})
    gc.collect()
    gc.disable()
    try:
        model.fit(X, y, X_val=X, y_val=y)
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
    assert_same_fit(
        BackpropClassifier(**SETTINGS | {"batch_size": N - 15}).fit(X[15:], y[15:]), distributed
    )
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
    yield X, {"layers": [Dense(4, activation="relu"), LayerNormalization()]}
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
    assert isinstance(predicted, da.Array)
    np.testing.assert_allclose(predicted.compute(), local.predict_proba(rows), rtol=1e-9)
    assert distributed.score(X_blocks, y_blocks) == pytest.approx(local.score(rows, y))
    assert_same_fit(local.partial_fit(rows, y), distributed.partial_fit(X_blocks, y_blocks))
    expected = "Rows of X must have the shape" if rows.ndim > 2 else "X has 15 features"
    with pytest.raises(ValueError, match=f"block . of X: {expected}"):
        distributed.partial_fit(X_blocks[:, :-1], y_blocks)
    if np.isnan(rows).any():
        with pytest.raises(
            ValueError, match=r"block 0 of X: Input X contains NaN in row 1, step 3"
        ):
            distributed.fit(*dask_data(changed(rows, (1, 3), np.nan), y))


def test_read_only_integers_and_a_single_class():
    X = np.arange(N * 2).reshape(N, 2) % 7
    X.flags.writeable = False
    y = np.ones(N)
    distributed = DaskBackpropClassifier(**DISTRIBUTED).fit(*dask_data(X, y))
    assert_same_fit(BackpropClassifier(**SETTINGS).fit(X, y), distributed)


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


@pytest.mark.parametrize("sync_every, n_rows", [(1, 13), (2, 40)])
def test_sparse_blocks_train_like_dense_ones(sync_every, n_rows):
    """With 13 rows in a block each worker has several, and a batch mixes their rows."""
    X, y = dask_data(*class_data(2 * N), rows=n_rows)
    settings = DISTRIBUTED | {"batch_size": 16, "sync_every": sync_every}
    dense = DaskBackpropClassifier(**settings).fit(X, y)
    assert_same_fit(
        dense, DaskBackpropClassifier(**settings).fit(X.map_blocks(sparse.csr_matrix), y)
    )


# ------------------------------------------------------------------------------ prediction


@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_log_proba"])
def test_prediction_is_lazy_and_equals_the_local_one(method):
    X, y = class_data(N)
    arrays = dask_data(X, y)
    distributed = DaskBackpropClassifier(**DISTRIBUTED).fit(*arrays)
    output = getattr(distributed, method)(arrays[0])
    expected = getattr(distributed.to_local(), method)(X)
    assert isinstance(output, da.Array) and output.chunks[0] == (25, 15)
    assert output.dtype == expected.dtype and output.shape == expected.shape
    np.testing.assert_allclose(output.compute(), expected, rtol=1e-12)


@pytest.mark.parametrize("loss", ["squared_error", "gaussian", Quantile((0.2, 0.8))], ids=str)
def test_regressor_predicts_std_gradient_and_score(loss):
    X, y = value_data(N)
    arrays, weight = dask_data(X, y), np.arange(N) % 3
    distributed = DaskBackpropRegressor(**DISTRIBUTED, loss=loss, scale_target=True).fit(*arrays)
    local = distributed.to_local()
    for output, expected in zip(
        distributed.predict(arrays[0], return_std=True),
        local.predict(X, return_std=True),
        strict=True,
    ):
        np.testing.assert_allclose(output.compute(), expected, rtol=1e-12)
    gradient = distributed.input_gradient(arrays[0]).compute()
    np.testing.assert_allclose(gradient, local.input_gradient(X), rtol=1e-9, atol=1e-12)
    score = distributed.score(*arrays, da.from_array(weight, chunks=25))
    assert score == pytest.approx(local.score(X, y, weight), rel=1e-12)
    assert distributed.score(X, y) == local.score(X, y)


def test_to_local_returns_a_local_estimator():
    X, y = class_data(N)
    distributed = DaskBackpropClassifier(**DISTRIBUTED).fit(*dask_data(X, y))
    local = distributed.to_local()
    assert type(local) is BackpropClassifier
    assert local.get_params() == BackpropClassifier(**SETTINGS).get_params()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(local)).predict(X), local.predict(X))
    assert clone(local).fit(X, y).n_iter_ == 3
    assert "sync_every" not in vars(local)


def test_copies_keep_the_client_and_pickles_drop_it(client):
    X, y = class_data(N)
    distributed = DaskBackpropClassifier(**DISTRIBUTED, client=client).fit(*dask_data(X, y))
    assert clone(distributed).client is client and not hasattr(clone(distributed), "coefs_")
    assert copy.copy(distributed).client is client
    loaded = pickle.loads(pickle.dumps(distributed))
    assert loaded.client is None and loaded.sync_every == 1
    np.testing.assert_array_equal(loaded.predict(X), distributed.predict(X))


# -------------------------------------------------------------------------- further training


def test_partial_fit_equals_the_local_one():
    X, y = class_data(2 * N)
    halves = slice(N), slice(N, None)
    local = BackpropClassifier(**SETTINGS)
    distributed = DaskBackpropClassifier(**DISTRIBUTED)
    for _ in range(2):
        for half in halves:
            local.partial_fit(X[half], y[half], classes=[0, 1, 2, 3])
            distributed.partial_fit(*dask_data(X[half], y[half]), classes=[0, 1, 2, 3])
    assert_same_fit(local, distributed)
    assert distributed.t_ == 4 * N and len(distributed.loss_curve_) == 4
    local.set_params(batch_size=2 * N), distributed.set_params(batch_size=2 * N)
    assert_same_fit(local.fit(X, y), distributed.fit(*dask_data(X, y)))


def test_warm_start_equals_the_local_one():
    X, y = value_data(N)
    local = BackpropRegressor(**SETTINGS, warm_start=True, average="polyak")
    distributed = DaskBackpropRegressor(**DISTRIBUTED, warm_start=True, average="polyak")
    for _ in range(2):
        assert_same_fit(local.fit(X, y), distributed.fit(*dask_data(X, y)))
    assert len(distributed.loss_curve_) == 6


@pytest.mark.parametrize("scoring", [None, "loss", "roc_auc_ovr", "neg_log_loss", "accuracy"])
def test_early_stopping_by_rows_on_the_workers(scoring):
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
    validation = {name: da.from_array(each, chunks=25) for name, each in validation.items()}
    distributed.fit(*dask_data(X[:N], y[:N]), **validation)
    assert_same_fit(local, distributed)
    assert distributed.n_iter_ == local.n_iter_ < 40 and distributed.best_iter_ == local.best_iter_
    for name in ("validation_loss_curve_", "validation_scores_"):
        np.testing.assert_allclose(getattr(distributed, name), getattr(local, name), rtol=1e-9)
    assert distributed.temperature_ == pytest.approx(local.temperature_)
    assert (local.temperature_ == 1.0) is not stopping.calibrate


def test_early_stopping_of_regressors_by_named_scorers():
    X, y = value_data(2 * N)
    y, held_out = np.exp(y / 4), slice(N, None)

    def fitted(kind, settings, rows, scoring):
        stopping = {"early_stopping": EarlyStopping(scoring), "n_iter_no_change": 10}
        model = kind(**settings | stopping, loss="poisson", scale_target=True)
        X_val, y_val = rows(X[held_out], y[held_out])
        return model.fit(*rows(X[:N], y[:N]), X_val=X_val, y_val=y_val)

    for scoring in ("neg_median_absolute_error", "r2"):
        local = fitted(BackpropRegressor, SETTINGS, lambda *rows: rows, scoring)
        distributed = fitted(DaskBackpropRegressor, DISTRIBUTED, dask_data, scoring)
        assert distributed.validation_scores_ == pytest.approx(local.validation_scores_, rel=1e-9)


# ------------------------------------------------------------------------------ errors


def assert_fit_raises(match, error=ValueError, kind=DaskBackpropClassifier, data=None, **changes):
    X, y = data or dask_data(*class_data(N))
    model = kind(**DISTRIBUTED | changes)
    with pytest.raises(error, match=match):
        model.fit(X, y)
    assert not hasattr(model, "coefs_")


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"early_stopping": True}, "X_val and y_val"),
        (
            {
                "early_stopping": EarlyStopping(None, "folds"),
                "n_iter_no_change": 10,
                "n_estimators": 2,
            },
            "X_val and y_val",
        ),
        ({"sync_every": "auto"}, "sync_every"),
        ({"sync_every": 0}, "sync_every"),
        ({"sync_every": 1.5}, "sync_every"),
        ({"solver": "lbfgs"}, "solver must be one of 'sgd', .* on a Dask cluster, got 'lbfgs'"),
        ({"solver": LBFGS()}, "on a Dask cluster, got LBFGS"),
        ({"client": "tcp://elsewhere"}, "client must be"),
        ({"class_weight": {7: 1.0}}, "only classes of"),
        ({"class_weight": {0: 0.0, 1: 0.0, 2: 0.0}}, "must give at least one row"),
    ],
)
def test_invalid_parameters(changes, match):
    assert_fit_raises(match, **changes)


@pytest.mark.parametrize("scoring", [lambda estimator, X, y: 0.0, get_scorer("accuracy")])
def test_callable_scorers_raise_an_error_that_names_alternatives(scoring):
    X, y = dask_data(*class_data(N))
    stopping = {"early_stopping": EarlyStopping(scoring), "n_iter_no_change": 10}
    with pytest.raises(ValueError, match="scoring of EarlyStopping must be .*'neg_log_loss'"):
        DaskBackpropClassifier(**DISTRIBUTED | stopping).fit(X, y, X_val=X, y_val=y)


def test_local_and_missing_data():
    X, y = class_data(N)
    assert_fit_raises("X must be a Dask array or frame", TypeError, data=(X, y))
    rows, labels = dask_data(X, y)
    with pytest.raises(TypeError, match="y_val must be a Dask array or frame, got NoneType"):
        DaskBackpropClassifier(**DISTRIBUTED).fit(rows, labels, X_val=rows)
    assert_fit_raises("at least one row", data=dask_frames(X[:0], y[:0], 1))


@pytest.mark.parametrize(
    "y_val, changes, match",
    [
        (0, {}, "sample_weight_val must have a positive .* got 0"),
        (
            1,
            {"class_weight": {0: 1.0, 1: 0.0, 2: 1.0}},
            "X_val, y_val: .*must give at least one row",
        ),
        (3, {}, "X_val, y_val: .*not in"),
    ],
)
def test_validation_rows_without_weight_or_with_unknown_labels(y_val, changes, match):
    X, y = dask_data(*class_data(N))
    given = {"X_val": X, "y_val": da.full_like(y, y_val)}
    if y_val == 0:
        given["sample_weight_val"] = da.zeros(N, chunks=y.chunks)
    model = DaskBackpropClassifier(**DISTRIBUTED | changes)
    with pytest.raises(ValueError, match=match):
        model.fit(X, y, **given)
    assert not hasattr(model, "coefs_")


def test_errors_name_the_block():
    X, y = class_data(N)
    X[30, 1] = np.nan
    assert_fit_raises("block 1 of X: Input X contains NaN", data=dask_data(X, y))
    X, y = class_data(N)
    assert_fit_raises(
        "blocks of rows", data=(da.from_array(X, chunks=(40, 4)), dask_frames(X, y)[1])
    )
    assert_fit_raises(
        "strings in some blocks", data=dask_data(X, np.array([1] * 25 + ["a"] * 15, object))
    )
    assert_fit_raises("Unknown label type", data=dask_data(*value_data(N)))
    assert_fit_raises(
        "y >= 0|contains",
        kind=DaskBackpropRegressor,
        data=dask_data(*value_data(N)),
        loss="poisson",
    )


@pytest.mark.parametrize("name", ["X", "y"])
def test_the_advice_about_rows_persisted_alone_works(name, tmp_path):
    frame = frame_of_files(tmp_path)
    data = {"X": frame[NAMES[:2]].map_partitions(abs), "y": frame["y"]}
    data[name] = data[name].persist()
    n_blocks = {"X": "2, 4", "y": "4, 2"}[name]
    advice = f"X, y must .* got {n_blocks}.* select"
    assert_fit_raises(advice, data=tuple(data.values()))
    frame = frame.persist()
    DaskBackpropClassifier(**DISTRIBUTED).fit(frame[NAMES[:2]].map_partitions(abs), frame["y"])


def test_persisted_frames_that_lack_blocks(tmp_path):
    """Dask 2026.8 joins blocks of some frames when it persists them, but keeps their divisions."""
    frame = frame_of_files(tmp_path)
    X, y = frame[NAMES[:2]].persist(), frame["y"]
    if any(block.key not in block.dask for block in X.to_delayed(optimize_graph=False)):
        assert_fit_raises("4 blocks of rows, .* only 2 exist.*frame = frame.persist", data=(X, y))


@pytest.mark.long
def test_the_advice_about_strings_works():
    X, y = class_data(N)
    table = pd.DataFrame({"size": X[:, 0], "town": np.where(X[:, 1] > 0, "Bonn", "Rome")})
    rows = dd.from_pandas(table, npartitions=2)
    labels = dd.from_pandas(pd.Series(y), npartitions=2)
    assert_fit_raises("TabularClassifier.* X.map_partitions.encoder.transform", data=(rows, labels))
    encoder = TableEncoder().set_output(transform="pandas").fit(table[::2])
    encoded = rows.map_partitions(encoder.transform)
    model = DaskBackpropClassifier(**DISTRIBUTED).fit(encoded, labels)
    assert model.feature_names_in_.tolist() == encoder.get_feature_names_out().tolist()
    assert model.predict(encoded).compute().shape == (N,)


def test_raises_without_a_client(monkeypatch):
    monkeypatch.setattr("distributed.client._global_clients", {})
    for kind in (DaskBackpropClassifier, DaskTabularClassifier):
        with pytest.raises(ValueError, match=r"client of .* no current client.*Client\(\) starts"):
            # In an empty context, in which the client of the fixture is not the current one.
            Context().run(kind(max_iter=1).fit, *dask_data(*class_data(N)))


def test_invalid_sparse_data():
    X, y = dask_data(*class_data(N))
    some = X.map_blocks(lambda block: sparse.csr_matrix(block) if len(block) == 15 else block)
    assert_fit_raises("blocks of X and of its y must have the same columns", data=(some, y))
    assert_fit_raises("y of .* must be dense", TypeError, data=(X, X.map_blocks(sparse.csr_matrix)))
    everywhere = X.map_blocks(sparse.csr_matrix), y
    assert_fit_raises("layers=.* need a dense X", TypeError, data=everywhere, layers="scale")


def test_invalid_weights():
    X, y = dask_data(*class_data(N))
    for weight, match in ((np.zeros(N), "must have a positive"), (-np.ones(N), "[Nn]egative")):
        with pytest.raises(ValueError, match=match):
            DaskBackpropClassifier(**DISTRIBUTED).fit(X, y, da.from_array(weight, chunks=25))
