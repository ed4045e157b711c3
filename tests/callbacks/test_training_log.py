"""The training log has the values of each epoch, in both formats."""

import copy
import csv
import json
import math
import pickle
from datetime import datetime

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
    EarlyStopping,
)
from skbackprop.callbacks import COLUMNS, TrainingLog
from support import data_for, few_epochs, forks, quick

pytestmark = few_epochs

FORMATS = pytest.mark.parametrize("suffix", [".jsonl", ".csv"])


def read(path):
    """Return the table of a log as pandas reads it."""
    is_csv = path.suffix == ".csv"
    frame = pd.read_csv(path) if is_csv else pd.read_json(path, lines=True, precise_float=True)
    assert tuple(frame.columns) == COLUMNS
    return frame


def curves_of(model, name):
    """Return a curve for each member of a fitted estimator."""
    curve = getattr(model, name)
    return curve if getattr(model, "n_estimators", 1) > 1 else [curve]


def logged(path, estimator_class, **settings):
    """Return an estimator that was fitted with a log."""
    settings = {"n_iter_no_change": np.inf} | settings
    model = quick(estimator_class, **settings).set_callbacks(TrainingLog(path))
    return model.fit(*data_for(estimator_class))


SETTINGS = {
    "plain": {},
    "early stopping": {"early_stopping": True},
    "stopped by the loss": {"early_stopping": EarlyStopping("loss"), "n_iter_no_change": 10},
    "ensemble": {
        **{"n_estimators": 3, "early_stopping": True, "n_iter_no_change": 2, "max_iter": 30},
        "learning_rate_init": 0.3,
    },
}


@FORMATS
@pytest.mark.parametrize(
    "estimator_class, settings",
    [
        *((BackpropClassifier, settings) for settings in SETTINGS.values()),
        (BackpropRegressor, SETTINGS["stopped by the loss"]),
        (BackpropAutoencoder, SETTINGS["early stopping"]),
    ],
)
def test_the_line_of_each_epoch_has_the_values_of_the_estimator(
    tmp_path, suffix, settings, estimator_class
):
    model = logged(tmp_path / f"log{suffix}", estimator_class, **settings)
    table = read(tmp_path / f"log{suffix}")
    assert len(table) == np.sum(model.n_iter_)
    # The members of the ensemble do not stop together.
    assert np.ptp(model.n_iter_) > 0 or settings is not SETTINGS["ensemble"]
    assert set(table["estimator"]) == {estimator_class.__name__}
    for member, losses in enumerate(curves_of(model, "loss_curve_")):
        lines = table[table["member"] == member]
        assert lines["epoch"].tolist() == list(range(1, len(losses) + 1))
        assert lines["loss"].tolist() == losses
        if settings:
            assert lines["best_epoch"].iloc[-1] == np.atleast_1d(model.best_iter_)[member]
        else:  # no early stopping
            assert lines["best_epoch"].isna().all()
        for column, name in {
            "validation_loss": "validation_loss_curve_",
            "validation_score": "validation_scores_",
        }.items():
            if getattr(model, name) is None:
                assert lines[column].isna().all()
            else:
                assert lines[column].tolist() == curves_of(model, name)[member]


def test_times_and_ids_of_fits(tmp_path):
    model = logged(tmp_path / "log.jsonl", BackpropClassifier)
    model.fit(*data_for(BackpropClassifier))
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    times = [datetime.fromisoformat(line["time"]) for line in lines]
    assert times == sorted(times)
    assert {time.utcoffset().total_seconds() for time in times} == {0.0}
    first, second = lines[:5], lines[5:]
    for fit in (first, second):
        assert len({line["fit"] for line in fit}) == 1
        seconds = [line["seconds"] for line in fit]
        assert 0 <= seconds[0] <= seconds[-1] < 60
        assert seconds == sorted(seconds)
    assert first[0]["fit"] != second[0]["fit"]
    assert {line["task"] for line in lines} == {"0"}


def test_lbfgs_is_logged_at_the_end(tmp_path):
    path = tmp_path / "log.csv"
    model = logged(path, BackpropRegressor, solver="lbfgs", n_estimators=2, early_stopping=True)
    table = read(path)
    assert table["member"].tolist() == [0, 1]
    assert table["epoch"].tolist() == model.n_iter_.tolist()
    assert table["loss"].tolist() == [losses[-1] for losses in model.loss_curve_]
    assert table["best_epoch"].tolist() == model.best_iter_.tolist()


def test_warm_start_counts_its_own_epochs(tmp_path):
    X, y = data_for(BackpropRegressor)
    model = quick(BackpropRegressor, warm_start=True, max_iter=3, n_iter_no_change=np.inf)
    model.set_callbacks(TrainingLog(tmp_path / "log.csv"))
    model.fit(X, y, X_val=X, y_val=y).fit(X, y)
    table = read(tmp_path / "log.csv")
    assert table["epoch"].tolist() == [1, 2, 3, 1, 2, 3]
    assert table["loss"].tolist() == model.loss_curve_
    # What the second call does not watch, the first has left.
    assert table["validation_loss"].dropna().tolist() == model.validation_loss_curve_
    assert table["validation_loss"].isna().tolist() == 3 * [False] + 3 * [True]
    # A fit that begins anew does not go on from the last one's curves.
    model.set_params(warm_start=False).fit(X, y, X_val=X, y_val=y)
    assert read(tmp_path / "log.csv")["loss"].tolist()[6:] == model.loss_curve_


@FORMATS
def test_values_that_are_not_finite_can_be_read(tmp_path, suffix):
    path, (X, y) = tmp_path / f"log{suffix}", data_for(BackpropRegressor)
    stopping = EarlyStopping(lambda estimator, X, y: math.nan)
    model = quick(BackpropRegressor, max_iter=1, n_iter_no_change=np.inf, early_stopping=stopping)
    with np.errstate(over="ignore"):
        model.set_callbacks(TrainingLog(path)).fit(X, y, X_val=X, y_val=1e200 * y)
    line = read(path).iloc[0]
    assert math.isnan(line["validation_score"])
    if suffix == ".csv":
        assert line["validation_loss"] == math.inf
    else:
        strict = json.loads(path.read_text(), parse_constant=pytest.fail)
        assert strict["validation_loss"] is strict["validation_score"] is None


# ----------------------------------------------------------------------------- the file


@pytest.mark.parametrize("path", ["log", "log.txt", ""])
def test_raises_on_another_suffix(path):
    with pytest.raises(ValueError, match=r"TrainingLog .* \.jsonl or \.csv, got"):
        TrainingLog(path)


@FORMATS
def test_raises_before_training_if_the_path_is_not_writable(tmp_path, suffix):
    X, y = data_for(BackpropClassifier)
    folder = tmp_path / f"folder{suffix}"
    folder.mkdir()
    for path in (tmp_path / "missing" / f"log{suffix}", folder):
        model = quick(BackpropClassifier).set_callbacks(TrainingLog(path))
        with pytest.raises(OSError, match=str(path)):
            model.fit(X, y)
        assert not hasattr(model, "coefs_")
    assert list(tmp_path.iterdir()) == [folder]


def test_warns_if_writing_fails_during_training(tmp_path, monkeypatch):
    X, y = data_for(BackpropClassifier)
    log = TrainingLog(tmp_path / "folder" / "log.csv")
    log.path.parent.mkdir()

    class Removing(TrainingLog):
        def on_fit_task_begin(self, estimator, context):
            if log.path.exists():
                log.path.unlink()
                log.path.parent.rmdir()

    model = quick(BackpropClassifier, n_iter_no_change=np.inf)
    model.set_callbacks(log, Removing(tmp_path / "other.csv"))
    with pytest.warns(UserWarning, match="TrainingLog could not write to .*log.csv.*continues"):
        model.fit(X, y)
    assert model.n_iter_ == 5


def test_raises_on_a_file_with_other_columns(tmp_path):
    path = tmp_path / "iris.csv"
    path.write_text("sepal,petal\n1,2\n")
    model = quick(BackpropClassifier).set_callbacks(TrainingLog(path))
    with pytest.raises(ValueError, match="iris.csv is not a training log"):
        model.fit(*data_for(BackpropClassifier))
    assert path.read_text() == "sepal,petal\n1,2\n"


def train_and_write(paths, others):
    """Begin when all others do as well."""
    X = np.linspace(0, 1, 20)[:, None]
    model = BackpropRegressor((2,), max_iter=50, n_iter_no_change=np.inf, random_state=0)
    model.set_callbacks(*map(TrainingLog, paths))
    others.wait(100)
    model.fit(X, X[:, 0])


def test_two_processes_write_to_one_file(tmp_path):
    paths = [tmp_path / "log.jsonl", tmp_path / "log.csv"]
    context = forks()
    arguments = paths, context.Barrier(2)
    writers = [context.Process(target=train_and_write, args=arguments) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    for path in paths:
        table = read(path)
        assert len(table) == 100
        for _, lines in table.groupby("fit"):
            assert lines["epoch"].tolist() == list(range(1, 51))
    with paths[1].open(newline="") as file:
        assert {len(row) for row in csv.reader(file)} == {len(COLUMNS)}


# ----------------------------------------------------------- copies, pipelines, searches


def test_copies_share_the_file(tmp_path):
    X, y = data_for(BackpropClassifier)
    log = TrainingLog(tmp_path / "log.csv")
    log.path.touch()
    model = quick(BackpropClassifier, n_iter_no_change=np.inf).set_callbacks(log)
    copies = [clone(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    for each in (model, *copies):
        each.fit(X, y)
    pickle.loads(pickle.dumps(model)).fit(X, y)  # a fitted one, too
    table = read(log.path)
    assert len(table) == 5 * 5
    assert table["fit"].nunique() == 5


@pytest.mark.parametrize("search_class", [GridSearchCV, BackpropGridSearchCV])
def test_lines_identify_the_fits_of_a_search(tmp_path, search_class):
    X, y = data_for(BackpropClassifier)
    model = quick(BackpropClassifier, n_iter_no_change=np.inf, max_iter=3)
    model.set_callbacks(TrainingLog(tmp_path / "log.csv"))
    rates = {"backpropclassifier__learning_rate_init": [0.1, 0.01]}
    search = search_class(make_pipeline(StandardScaler(), model), rates, cv=2)
    search.fit(X, y)
    table = read(tmp_path / "log.csv")
    assert table["fit"].nunique() == 1
    fits = [lines for _, lines in table.groupby("task")]
    assert len(fits) == 2 * 2 + 1
    assert all(lines["epoch"].tolist() == [1, 2, 3] for lines in fits)
    losses = [lines["loss"].tolist() for lines in fits]
    assert search.best_estimator_[-1].loss_curve_ in losses


@FORMATS
def test_writes_no_line_for_a_pipeline_or_a_search(tmp_path, suffix):
    X, y = data_for(BackpropClassifier)
    path = tmp_path / f"log{suffix}"
    pipeline = make_pipeline(StandardScaler(), quick(BackpropClassifier))
    pipeline.set_callbacks(TrainingLog(path)).fit(X, y)
    grid = {"alpha": [0.1, 0.01]}
    GridSearchCV(quick(BackpropClassifier), grid, cv=2).set_callbacks(TrainingLog(path)).fit(X, y)
    assert len(path.read_text().splitlines()) == (suffix == ".csv")
