"""Networks that processes train, some each, end as those that one process trains, to the bit."""

import os
import re
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from textwrap import dedent

import numpy as np
import pytest
from joblib import Parallel, cpu_count, delayed, parallel_config
from sklearn.base import clone
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict

from skbackprop import (
    BackpropClassifier,
    BackpropRegressor,
    EarlyStopping,
    TabularClassifier,
)
from skbackprop.callbacks import Checkpoint
from skbackprop.schedules import LearningRateSchedule
from skbackprop.training import jobs
from skbackprop.training.jobs import JobCount
from support import (
    answers,
    class_data,
    few_epochs,
    label_data,
    quick,
    same_bits,
    same_values,
    value_data,
)
from support.tables import BOTH, mixed_data

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

N_MEMBERS = 3
ENSEMBLES = {
    "classes": (BackpropClassifier, class_data(), {}),
    "labels": (BackpropClassifier, label_data(), {"loss": "focal"}),
    "numbers": (BackpropRegressor, value_data(n_outputs=2), {"scale_target": True}),
    "early stopping": (
        BackpropClassifier,
        class_data(),
        {"early_stopping": True, "n_iter_no_change": 1, "tol": 0.1, "max_iter": 30},
    ),
    "folds": (
        BackpropRegressor,
        value_data(),
        {"early_stopping": EarlyStopping(validation_fraction="folds")},
    ),
    "a scorer": (BackpropClassifier, class_data(), {"early_stopping": EarlyStopping("f1_macro")}),
    "frozen": (BackpropRegressor, value_data(), {"n_frozen_layers": 1}),
    "all at once": (
        BackpropClassifier,
        class_data(),
        {"dropout": 0.2, "average": "ema", "normalization": "batch", "learning_rate": "cosine"},
    ),
    "L-BFGS": (BackpropRegressor, value_data(), {"solver": "lbfgs"}),
    "float32, in order": (BackpropRegressor, value_data(), {"dtype": "float32", "shuffle": False}),
}
TABLES = {
    "all": {},
    "a time limit": {"time_limit": 1e4},
    "boosting": {"blend": "boosting"},
    "boosting and a time limit": {"blend": "boosting", "time_limit": 1e4},
    "a forest and boosting": {"blend": ["forest", "boosting"]},
    "monotone": {"monotonic_cst": {"none": 1}},
}


def ensemble(name, **changes):
    """Return an ensemble that is not fitted, and its data."""
    kind, data, settings = ENSEMBLES[name]
    settings = {"n_estimators": N_MEMBERS, "warm_start": True} | settings | changes
    return quick(kind, **settings), data


def table(kind, n_jobs, **settings):
    if isinstance(settings.get("blend"), list):
        forest = RandomForestClassifier if kind is TabularClassifier else RandomForestRegressor
        settings = settings | {"blend": [forest(3), "boosting"]}
    params = {"n_estimators": N_MEMBERS, "max_iter": 6, "random_state": 0, "n_jobs": n_jobs}
    return kind(**params | settings)


def assert_same(actual, expected, X):
    assert same_bits(actual, expected)
    assert same_values(answers(actual, X), answers(expected, X))
    for name in ("n_iter_", "t_", "best_loss_", "best_iter_", "validation_scores_", "converged_"):
        assert same_values(getattr(actual, name), getattr(expected, name)), name


@pytest.mark.parametrize("name", ENSEMBLES)
@pytest.mark.parametrize("n_jobs", [1, 2, 5, -1])
def test_ensembles(name, n_jobs):
    """In threads, whose states are sent in the same way: first anew, then warm."""
    (expected, (X, y)), (actual, _) = ensemble(name), ensemble(name, n_jobs=n_jobs)
    for _ in range(2):
        expected.fit(X, y)
        with parallel_config("threading"):
            actual.fit(X, y)
        assert_same(actual, expected, X)


@pytest.mark.parametrize("name", ENSEMBLES)
def test_ensembles_in_processes(name):
    (expected, (X, y)), (actual, _) = ensemble(name), ensemble(name, n_jobs=2)
    assert_same(actual.fit(X, y), expected.fit(X, y), X)


def test_what_fit_is_given():
    X, y = class_data(90)
    X.flags.writeable = False
    groups = np.arange(90) // 3
    weight = np.linspace(0, 1, 90)
    arguments = [
        {"X_val": X[:30], "y_val": y[:30], "sample_weight_val": weight[:30]},
        {"groups": groups, "sample_weight": weight},
    ]
    for each in arguments:
        models = [
            quick(BackpropClassifier, n_estimators=3, early_stopping=True, n_jobs=n_jobs)
            for n_jobs in (1, 2)
        ]
        assert_same(*(model.fit(X, y, **each) for model in models), X)


@pytest.mark.parametrize("settings", TABLES.values(), ids=TABLES)
@BOTH
def test_tables(kind, settings):
    X, y = mixed_data(kind, n=520 if "blend" in settings else 120)
    expected = table(kind, None, **settings).fit(X, y)
    for n_jobs, backend in ((2, "loky"), (3, "threading")):
        with parallel_config(backend):
            actual = table(kind, n_jobs, **settings).fit(X, y)
        assert same_values(answers(actual, X), answers(expected, X))
        assert same_values(actual.oof_prediction_, expected.oof_prediction_)
        assert same_values(actual.n_iter_, expected.n_iter_)


@BOTH
def test_auto_decides_by_time_and_changes_no_number(kind, monkeypatch):
    X, y = mixed_data(kind)
    settings = {"blend": "boosting", "max_iter": 14}
    expected = table(kind, 1, **settings).fit(X, y)
    counts = []

    def resolve(self, seconds):
        counts.append(resolve_by_time(self, seconds))
        return counts[-1]

    resolve_by_time = JobCount.resolve
    monkeypatch.setattr(JobCount, "resolve", resolve)
    for seconds in (1e-9, 1e9):
        monkeypatch.setattr(jobs, "_SECONDS_TO_START", seconds)
        counts.clear()
        actual = table(kind, "auto", **settings).fit(X, y)
        assert counts[0] == 1
        assert max(counts) == (1 if seconds > 1 else cpu_count())
        assert same_values(answers(actual, X), answers(expected, X))
        assert [networks.n_jobs for networks in actual.networks_] == [None] * len(actual.networks_)


def auto(n_bytes=0):
    return JobCount("auto", n_bytes).resolve(1e6)


def test_auto_takes_all_cores_but_not_everywhere(monkeypatch):
    monkeypatch.setattr(jobs, "effective_n_jobs", lambda n_jobs: 8 if n_jobs == -1 else n_jobs)
    assert auto() == 8
    assert JobCount("auto").resolve(0.0) == 1
    assert auto(n_bytes=1 << 60) == 1
    with parallel_config("threading", n_jobs=3):
        assert auto() == 3
    monkeypatch.undo()
    assert JobCount(None).resolve(1e6) == 1
    assert JobCount(3).resolve(0.0) == 3
    for backend in ("threading", "loky", "multiprocessing"):
        assert Parallel(n_jobs=2, backend=backend)([delayed(auto)()] * 2) == [1, 1]
    with ThreadPoolExecutor() as pool:
        assert pool.submit(auto).result() == 1


def test_auto_pays_for_processes_once():
    count = JobCount("auto")
    count._count_usable_cores = lambda: 2
    assert [count.resolve(seconds) for seconds in (3.9, 4.1, 3.9, 0.1)] == [1, 2, 2, 1]


@BOTH
def test_tables_resume_with_other_processes(kind, tmp_path):
    X, y = mixed_data(kind)
    path = tmp_path / "table.npz"
    whole = table(kind, 2).set_callbacks(Checkpoint(path)).fit(X, y)
    for n_jobs in (1, 3):
        resumed = table(kind, n_jobs).fit(X, y, resume_from=path)
        assert same_values(answers(resumed, X), answers(whole, X))


def test_the_user_s_random_state_goes_on():
    X, y = value_data()
    rngs = [np.random.RandomState(7) for _ in range(2)]
    for rng, n_jobs in zip(rngs, (1, 2), strict=True):
        quick(BackpropRegressor, n_estimators=3, random_state=rng, n_jobs=n_jobs).fit(X, y)
    assert same_values(*rngs)


def test_joblib_chooses_where_and_how_many():
    model, (X, y) = ensemble("classes")
    expected = clone(model).fit(X, y)
    with parallel_config("threading", n_jobs=2):
        assert_same(clone(model).fit(X, y), expected, X)
    with pytest.raises(ValueError, match="n_jobs == 0"):
        model.set_params(n_jobs=0).fit(X, y)


def test_inside_of_other_processes():
    model, (X, y) = ensemble("classes", n_jobs=2)
    alone = cross_val_predict(clone(model).set_params(n_jobs=1), X, y, cv=2)
    assert same_values(cross_val_predict(model, X, y, cv=2, n_jobs=2), alone)


def test_callbacks_and_lines_of_each_epoch_are_those_of_this_process(capsys, tmp_path):
    model, (X, y) = ensemble("classes", n_jobs=2, verbose=True)
    model.set_callbacks(Checkpoint(tmp_path / "network.npz")).fit(X, y)
    assert capsys.readouterr().out.count("Iteration") == model.max_iter


# ------------------------------------------------------------------- parts of a user's own


def in_a_process(do):
    """Return a schedule that does something in the processes that train."""
    parent = os.getpid()

    def rate(progress):
        if os.getpid() != parent and progress > 0.3:
            do()
        return 1.0

    return rate


def fail():
    raise ValueError("there is no rate")


def kill():
    os._exit(9)  # as the kernel ends a process, without a word


def warn():
    warnings.warn("the rate is a guess", UserWarning, stacklevel=1)


def test_functions_of_a_user_reach_the_processes():
    X, y = class_data()
    scale = np.float64(0.5)  # a value that a function refers to
    settings = {
        "n_estimators": 2,
        "learning_rate": lambda progress: float(1 - scale * progress),
        "early_stopping": EarlyStopping(lambda estimator, X, y: float(estimator.score(X, y)) / 2),
    }
    models = [quick(BackpropClassifier, n_jobs=n_jobs, **settings) for n_jobs in (1, 2)]
    assert_same(*(model.fit(X, y) for model in models), X)


@pytest.mark.parametrize(
    "do, kind, message",
    [(fail, ValueError, "there is no rate"), (kill, RuntimeError, r"killed.*Set n_jobs=1")],
    ids=["an error", "a kill"],
)
def test_what_fails_in_a_process_fails_here(do, kind, message):
    model, (X, y) = ensemble("classes", n_jobs=2)
    model.fit(X, y)
    before = answers(model, X)
    model.set_params(learning_rate=in_a_process(do))
    with pytest.raises(kind, match=message):
        model.fit(X, y)
    assert same_values(answers(model, X), before)
    model.set_params(learning_rate="constant").fit(X, y)  # there are new processes


class Failing(LogisticRegression):
    """A classifier that cannot be fitted."""

    def fit(self, X, y, sample_weight=None):
        raise ValueError("nothing to learn")


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_errors_of_blended_estimators_name_them(n_jobs):
    X, y = mixed_data(TabularClassifier)
    with pytest.raises(ValueError, match="nothing to learn") as caught:
        table(TabularClassifier, n_jobs).set_params(blend=[Failing()]).fit(X, y)
    (note,) = caught.value.__notes__
    assert re.fullmatch(r"Raised by Failing\(.*\) of blend, in fold \d\.", note)


def test_what_cannot_be_sent_fails_before_training():
    class Unsendable(LearningRateSchedule):
        def rate(self, state, base, progress):
            raise AssertionError("training has begun")

        def __reduce__(self):
            raise TypeError("this schedule stays here")

    model, data = ensemble("classes", n_jobs=2, learning_rate=Unsendable())
    with pytest.raises(Exception, match="stays here|pickle"):
        model.fit(*data)
    assert not hasattr(model, "coefs_")


def test_warnings_appear_once():
    model, data = ensemble("classes", n_jobs=2, learning_rate=in_a_process(warn))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(*data)
    texts = [str(warning.message) for warning in caught if warning.category is UserWarning]
    assert texts == ["the rate is a guess"]
    assert [item.category for item in caught].count(ConvergenceWarning) == 1


# --------------------------------------------------------------------------------- Ctrl-C

SCRIPT = """
    import os, sys, time
    from pathlib import Path
    import numpy as np
    from skbackprop import BackpropClassifier, EarlyStopping

    folder = Path(sys.argv[1])

    def slow(progress):
        if progress > 0.001:
            (folder / str(os.getpid())).touch()
        time.sleep(0.05)
        return 1.0

    X = np.random.RandomState(0).randn(200, 5)
    y = (X[:, 0] > 0).astype(int)
    model = BackpropClassifier((3,), n_estimators=4, n_jobs=2, learning_rate=slow,
                               max_iter=5000, n_iter_no_change=np.inf, random_state=0)
    try:
        model.fit(X, y)
    except KeyboardInterrupt:
        print("interrupted", *model.n_iter_, *model._model.state.stop_reason)
"""


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="signals of other systems")
@pytest.mark.parametrize("to_all", [True, False], ids=["from a terminal", "to one process"])
def test_ctrl_c_keeps_the_last_epochs_and_leaves_no_process(to_all, tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", dedent(SCRIPT), str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 100
        while len(list(tmp_path.iterdir())) < 2:
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        time.sleep(0.3)
        (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
        out, error = process.communicate(timeout=100)
        name, *results = out.split()
        assert name == "interrupted", error
        assert all(0 < int(n_epochs) < 5000 for n_epochs in results[:4])
        assert results[4:] == ["interrupted"] * 4
        while group_lives(process.pid):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        if group_lives(process.pid):
            os.killpg(process.pid, signal.SIGKILL)


def group_lives(number):
    try:
        os.killpg(number, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True
