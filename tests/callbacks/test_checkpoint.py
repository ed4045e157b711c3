"""Training resumes from a checkpoint to the bit, wherever it has ended."""

import copy
import errno
import os
import re
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor, EarlyStopping
from skbackprop.callbacks import Checkpoint, TrainingLog
from skbackprop.estimators import base
from skbackprop.nn import stack
from skbackprop.optimizers import SOLVERS
from skbackprop.training import resources
from skbackprop.training import train as train_module
from skbackprop.weight_averaging import ExponentialMovingAverage
from support import class_data, data_for, few_epochs, forks, quick, same_bits, same_values
from support.cases import KINDS, two_that_differ_in

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

N_EPOCHS = 6
SETTINGS = {
    "sgd": {"solver": "sgd", "learning_rate": "invscaling"},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1},
    "amsgrad": {"solver": "amsgrad", "learning_rate": "one_cycle"},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3},
    "average": {"average": ExponentialMovingAverage(0.5), "early_stopping": True},
    "dropout and normalization": {"dropout": 0.2, "normalization": "batch"},
    "members": {"n_estimators": 3},
    "members that stop": {
        **{"n_estimators": 3, "early_stopping": True, "n_iter_no_change": 1, "tol": 0.0}
    },
    "in order": {"shuffle": False},
    "float32": {"dtype": "float32"},
    "classes weighted": {"class_weight": "balanced"},
}
CASES = [
    pytest.param(kind, settings, id=f"{name} of {kind.__name__}")
    for kind in (BackpropClassifier, BackpropRegressor, BackpropAutoencoder)
    for name, settings in SETTINGS.items()
    if settings.keys() <= set(kind._get_param_names())
]
RESULTS = (
    *("coefs_", "intercepts_", "loss_curve_", "loss_", "best_loss_", "validation_scores_"),
    *("validation_loss_curve_", "best_validation_score_", "n_iter_", "best_iter_", "t_"),
)


class Kill(BaseException):
    """What stands for the kill of a process: nothing handles it."""


class SilentCallback:
    """Callback whose hooks do nothing."""

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context): ...


class KillAfter(SilentCallback):
    """Ends training as a kill does, once an epoch is over."""

    def __init__(self, n_epochs):
        self.n_epochs = n_epochs

    def on_fit_task_end(self, estimator, context):
        if context.task_id + 1 == self.n_epochs and context.task_name != "fit":
            raise Kill


class Numbers(SilentCallback):
    """Takes note of the numbers of the epochs."""

    def __init__(self):
        self.found = []

    def on_fit_task_end(self, estimator, context):
        if context.task_name != "fit":
            self.found.append(context.task_id)


def small(estimator_class, **settings):
    defaults = {"max_iter": N_EPOCHS, "n_iter_no_change": np.inf}
    return quick(estimator_class, **defaults | settings)


def assert_same_fit(actual, expected):
    for name in RESULTS:
        assert same_values(getattr(actual, name), getattr(expected, name)), name


def killed(model, data, *callbacks, **fit_params):
    with pytest.raises(Kill):
        model.set_callbacks(*callbacks).fit(*data, **fit_params)
    model.set_callbacks()


@pytest.mark.parametrize("estimator_class, settings", CASES)
def test_resumed_and_further_training_match_to_the_bit(estimator_class, settings, tmp_path):
    path, end, data = tmp_path / "network.npz", tmp_path / "end.npz", data_for(estimator_class)
    settings = settings | {"warm_start": True}
    whole = small(estimator_class, **settings).set_callbacks(Checkpoint(end, every=100)).fit(*data)
    assert_same_fit(small(estimator_class, **settings).fit(*data, resume_from=end), whole)
    for every in (1, 2):
        model = small(estimator_class, **settings)
        n_epochs = min(3, np.max(whole.n_iter_))
        killed(model, data, Checkpoint(path, every), KillAfter(n_epochs))
        resumed = small(estimator_class, **settings | {"random_state": 5})
        assert_same_fit(resumed.fit(*data, resume_from=path), whole)
    # What a resumed fit leaves behind is what an uninterrupted one does.
    assert_same_fit(resumed.fit(*data), whole.set_callbacks().fit(*data))


@pytest.mark.parametrize(
    "settings", [{}, {"early_stopping": True, "average": "ema"}, {"n_estimators": 2}], ids=str
)
@pytest.mark.parametrize("resuming", ["the same", "a new one", "one that is further"])
def test_warm_start_fits_resume_in_any_estimator(settings, resuming, tmp_path):
    """Its curves are those of the fits before it and its own, each epoch once."""
    path, data = tmp_path / "network.npz", data_for(BackpropRegressor)
    settings = settings | {"warm_start": True}
    model, whole, new = (small(BackpropRegressor, **settings) for _ in range(3))
    model.fit(*data)
    whole.fit(*data).fit(*data)
    killed(model, data, Checkpoint(path), KillAfter(2))
    further = copy.deepcopy(model).fit(*data)
    resumed = {"the same": model, "a new one": new, "one that is further": further}[resuming]
    assert_same_fit(resumed.set_callbacks().fit(*data, resume_from=path), whole)


class Begins(SilentCallback):
    """Takes note of the names of the tasks that begin and end."""

    def __init__(self):
        self.found = []

    def on_fit_task_begin(self, estimator, context):
        self.found.append(f"begin {context.task_name}")

    def on_fit_task_end(self, estimator, context):
        self.found.append(f"end {context.task_name}")


ENDS = {
    "by max_iter": {},
    "converged": {"tol": 10.0, "n_iter_no_change": 1},
    "early stopping": {"early_stopping": True, "tol": 10.0, "n_iter_no_change": 1},
    "members": SETTINGS["members"],
    "folds": {"n_estimators": 3, "early_stopping": EarlyStopping(validation_fraction="folds")},
    "members that stop": SETTINGS["members that stop"],
}


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("solver", [*SOLVERS])
def test_a_finished_training_is_resumed_with_callbacks(solver, end, tmp_path):
    """The same script again ends at once: callbacks are called for the fit, and for no epoch."""
    path, data = tmp_path / "network.npz", class_data(200)
    model = small(BackpropClassifier, solver=solver, **ENDS[end])
    whole = model.set_callbacks(Checkpoint(path)).fit(*data)
    without = clone(model).set_callbacks().fit(*data, resume_from=path)
    begins = Begins()
    again = clone(model).set_callbacks(Checkpoint(path), begins).fit(*data, resume_from=path)
    if solver == "lbfgs" and "unconverged" in whole._model.state.stop_reason:
        assert begins.found.count("begin epoch") == 1  # it starts again from its weights
    else:
        assert begins.found == ["begin fit", "end fit"]
        assert_same_fit(again, whole)
    assert_same_fit(again, without)


@pytest.mark.parametrize("settings", [{}, {"n_estimators": 2}])
def test_a_higher_max_iter_continues_a_finished_fit(settings, tmp_path):
    path, data = tmp_path / "network.npz", data_for(BackpropRegressor)
    small(BackpropRegressor, max_iter=3, **settings).set_callbacks(Checkpoint(path)).fit(*data)
    expected = small(BackpropRegressor, **settings).fit(*data)
    assert_same_fit(small(BackpropRegressor, **settings).fit(*data, resume_from=path), expected)
    with pytest.raises(ValueError, match="is of epoch 3, so max_iter=2 leaves no epochs"):
        small(BackpropRegressor, max_iter=2, **settings).fit(*data, resume_from=path)


def test_lbfgs_starts_again_from_its_weights(tmp_path):
    path, data = tmp_path / "network.npz", data_for(BackpropRegressor)
    first = small(BackpropRegressor, solver="lbfgs", max_iter=3).set_callbacks(Checkpoint(path))
    init = first.fit(*data).coefs_, first.intercepts_
    resumed = small(BackpropRegressor, solver="lbfgs").fit(*data, resume_from=path)
    expected = small(BackpropRegressor, solver="lbfgs", init=init).fit(*data)
    assert same_values(resumed.coefs_, expected.coefs_)
    assert resumed.loss_curve_[3:] == expected.loss_curve_


@pytest.mark.parametrize("n_stacks", [1, 2])
def test_members_left_behind_by_a_time_limit_catch_up(n_stacks, tmp_path, monkeypatch):
    """The time may be over in the midst of a turn, of which the first stack has had its own."""
    path, data = tmp_path / "network.npz", data_for(BackpropRegressor)
    settings = {"n_estimators": 4}
    whole = small(BackpropRegressor, **settings).fit(*data)
    times = iter([0.0, 1.0, 1.0, 1.0, 3.0, 3.0, 3.0])
    for module in (resources, train_module):
        monkeypatch.setattr(module, "n_blas_threads", lambda: 1)
    with monkeypatch.context() as patch:
        patch.setattr(resources, "max_stack_size", lambda *arguments: 2)
        for module in (base, stack):
            patch.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(times)))
        model = small(BackpropRegressor, **settings, time_limit=2)
        model.set_callbacks(Checkpoint(path)).fit(*data)
    assert model.n_iter_.tolist() == [2, 2, 1, 1]
    monkeypatch.setattr(resources, "max_stack_size", lambda *arguments: 4 // n_stacks)
    numbers = Numbers()
    model.set_callbacks(numbers).set_params(time_limit=None).fit(*data, resume_from=path)
    assert_same_fit(model, whole)
    assert numbers.found == [1, 2, 3, 4, 5]


def test_epochs_are_counted_by_the_members_that_train(tmp_path):
    path, data = tmp_path / "network.npz", data_for(BackpropClassifier)
    settings = {"n_estimators": 3, "early_stopping": True, "n_iter_no_change": 2, "max_iter": 30}
    model, whole = (small(BackpropClassifier, **settings, learning_rate_init=0.3) for _ in range(2))
    whole.fit(*data)
    assert np.ptp(whole.n_iter_) > 1
    n_epochs = whole.n_iter_.max()
    killed(model, data, Checkpoint(path, every=n_epochs - 1), KillAfter(n_epochs))
    numbers = Numbers()
    assert_same_fit(model.set_callbacks(numbers).fit(*data, resume_from=path), whole)
    assert numbers.found == [n_epochs - 1]


def test_the_user_s_random_state_is_resumed(tmp_path):
    path, data = tmp_path / "network.npz", data_for(BackpropClassifier)
    rngs = [np.random.RandomState(seed) for seed in (7, 7, 8)]
    whole, first, second = (small(BackpropClassifier, random_state=each) for each in rngs)
    whole.fit(*data)
    killed(first, data, Checkpoint(path), KillAfter(2))
    assert_same_fit(second.fit(*data, resume_from=path), whole)
    assert same_values(rngs[2], rngs[0])


@pytest.mark.parametrize("settings", [{}, {"n_estimators": 2}])
def test_resumed_callbacks_count_epochs_on(settings, tmp_path):
    path, data = tmp_path / "network.npz", data_for(BackpropRegressor)
    log, whole_log = TrainingLog(tmp_path / "log.jsonl"), TrainingLog(tmp_path / "whole.jsonl")
    model = small(BackpropRegressor, **settings)
    model.set_callbacks(whole_log).fit(*data)
    killed(model, data, Checkpoint(path), log, KillAfter(2))
    numbers = Numbers()
    model.set_callbacks(log, numbers).fit(*data, resume_from=path)
    assert numbers.found == list(range(2, np.max(model.n_iter_)))
    lines, expected = (pd.read_json(each.path, lines=True) for each in (log, whole_log))
    for column in ("member", "epoch", "loss"):
        assert lines[column].tolist() == expected[column].tolist()


def test_a_pipeline_resumes_by_the_name_of_its_step(tmp_path):
    path, data = tmp_path / "network.npz", data_for(BackpropClassifier)
    pipeline = make_pipeline(StandardScaler(), quick(BackpropClassifier))
    pipeline[-1].set_callbacks(Checkpoint(path), KillAfter(2))
    with pytest.raises(Kill):
        pipeline.fit(*data)
    pipeline[-1].set_callbacks()
    resumed = pipeline.fit(*data, backpropclassifier__resume_from=path)[-1]
    assert same_bits(resumed, pipeline.fit(*data)[-1])


# ------------------------------------------------------------------------------- refusals


def checkpointed(tmp_path, **settings):
    """Return the file of a checkpoint of a classifier."""
    path = tmp_path / "network.npz"
    quick(BackpropClassifier, **settings).set_callbacks(Checkpoint(path)).fit(*class_data(40))
    return path


# May be others in another process.
FREE = {
    "max_iter",
    "n_jobs",
    "tol",
    "n_iter_no_change",
    "time_limit",
    "verbose",
    "warm_start",
    "random_state",
}


@pytest.mark.parametrize("name", KINDS)
def test_parameters_must_be_the_same_but_for_those_of_when_to_stop(name, tmp_path):
    path, settings = tmp_path / "network.npz", {"max_iter": 3, "random_state": 0}
    if name == "max_fun":
        settings["solver"] = "lbfgs"
    one, other = two_that_differ_in(name, **settings)
    data = data_for(type(one), 200)  # as many as a batch has, where nothing is said
    one.set_callbacks(Checkpoint(path)).fit(*data)
    if name in FREE:
        other.fit(*data, resume_from=path)
        return
    says = rf"resume_from: {name} was .* at the checkpoint and is .* now"
    with pytest.raises(ValueError, match=says):
        other.fit(*data, resume_from=path)


def test_functions_are_the_same_wherever_they_lie_in_memory(tmp_path):
    def model():
        return quick(BackpropClassifier, learning_rate=lambda progress: 1 - progress)

    path, data = tmp_path / "network.npz", class_data(40)
    killed(model(), data, Checkpoint(path), KillAfter(2))
    assert_same_fit(model().fit(*data, resume_from=path), model().fit(*data))


def test_data_must_be_the_same(tmp_path):
    path, (X, y) = checkpointed(tmp_path), class_data(40)
    says = "the checksum of the data was .* at the checkpoint"
    others = [(X + 1, y), (X, y[::-1]), (X[:30], y[:30]), (X[:, :3], y), (X, y, np.arange(40))]
    for data in (*others, (np.vstack([X[:-1], X[:1]]), y)):
        with pytest.raises(ValueError, match=says):
            quick(BackpropClassifier).fit(*data, resume_from=path)
    with pytest.raises(ValueError, match="class was BackpropClassifier .* is BackpropRegressor"):
        quick(BackpropRegressor).fit(X, y, resume_from=path)
    X = np.round(X) + 0.0  # which leaves no negative zeros
    quick(BackpropClassifier).set_callbacks(Checkpoint(path)).fit(X, y)
    quick(BackpropClassifier).fit(X.astype(int), y, resume_from=path)


def test_validation_rows_must_be_the_same(tmp_path):
    path, (X, y) = tmp_path / "network.npz", class_data(40)
    own = {"X_val": X[:9], "y_val": y[:9]}
    model, whole = (quick(BackpropClassifier, early_stopping=True) for _ in range(2))
    killed(model, (X, y), Checkpoint(path), KillAfter(2), **own)
    assert_same_fit(model.fit(X, y, resume_from=path, **own), whole.fit(X, y, **own))
    weighted = own | {"sample_weight_val": np.arange(9)}
    for others in ({}, {"X_val": X[9:18], "y_val": y[9:18]}, weighted):
        with pytest.raises(ValueError, match="the checksum of the data was"):
            model.fit(X, y, resume_from=path, **others)


def test_files_that_are_no_checkpoints_are_refused(tmp_path):
    data, whole = class_data(40), checkpointed(tmp_path).read_bytes()
    path, model = tmp_path / "other.npz", quick(BackpropClassifier)
    for kind, no_file in ((FileNotFoundError, path), (OSError, tmp_path)):
        with pytest.raises(kind, match=re.escape(repr(str(no_file)))):
            model.fit(*data, resume_from=no_file)
    flipped = bytearray(whole)
    flipped[len(whole) // 3] ^= 1
    for content in (b"", b"text", whole[:100], whole[: len(whole) // 2], flipped):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is not a readable checkpoint"):
            model.fit(*data, resume_from=str(path))
    np.savez(path, a=np.arange(3))
    with pytest.raises(ValueError, match="format was None at the checkpoint"):
        model.fit(*data, resume_from=path)
    with np.load(tmp_path / "network.npz") as file:
        np.savez(path, **{**file, "format": np.array("skbackprop checkpoint, version 99")})
    with pytest.raises(ValueError, match="format was .* version 99 at the checkpoint"):
        model.fit(*data, resume_from=path)
    with np.load(tmp_path / "network.npz") as file:
        np.savez(path, **{name: file[name] for name in file.files if name != "state/theta"})
    with pytest.raises(ValueError, match="is not a readable checkpoint"):
        model.fit(*data, resume_from=path)
    assert not hasattr(model, "coefs_")


def test_settings_and_fits_without_checkpoints_are_refused(tmp_path):
    data, path = class_data(40), tmp_path / "network.npz"
    for every in (0, 1.5):
        with pytest.raises((TypeError, ValueError), match="every .*must be"):
            Checkpoint(path, every)
    checkpoint = Checkpoint(path)
    assert repr(checkpoint) == f"Checkpoint({str(path)!r}, every=1)"
    assert Checkpoint("network.npz").path == tmp_path.cwd() / "network.npz"
    with pytest.raises(
        TypeError, match="network, got a LogisticRegression. Call set_callbacks on the"
    ):
        checkpoint.setup(LogisticRegression(), None)
    with pytest.raises(FileNotFoundError, match="No such file or directory"):
        quick(BackpropClassifier).set_callbacks(Checkpoint(path / "a" / "b")).fit(*data)
    assert not list(tmp_path.iterdir())


# --------------------------------------------------------------------------------- the file


def test_a_failing_write_keeps_the_old_file(tmp_path, monkeypatch):
    path, model = checkpointed(tmp_path), quick(BackpropClassifier)
    before = path.read_bytes()
    model.set_callbacks(Checkpoint(path))

    def write_on_full_disk(file, **arrays):
        file.write(b"some")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", write_on_full_disk)
    with pytest.raises(OSError, match="No space left"):
        model.fit(*class_data(40))
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def trained(path, every, begins=None):
    """Return a network whose training goes on from the file, if there is one."""
    X, y = load_digits(return_X_y=True)
    model = BackpropClassifier(
        (40,), early_stopping=True, n_estimators=2, max_iter=25, n_iter_no_change=30, random_state=0
    )
    if every:
        model.set_callbacks(Checkpoint(path, every))
    if begins:
        begins.set()
    with threadpool_limits(1):
        return model.fit(X, y, resume_from=path if path.exists() else None)


@pytest.mark.slow
def test_a_killed_process_resumes_to_the_same_bits(tmp_path):
    path, rng, n_kills = tmp_path / "network.npz", np.random.RandomState(0), 0
    start = time.perf_counter()
    whole = trained(tmp_path / "none.npz", every=0)
    seconds, context = time.perf_counter() - start, forks()
    while n_kills < 3:
        begins = context.Event()
        process = context.Process(target=trained, args=(path, 2, begins))
        process.start()
        assert begins.wait(100)
        time.sleep(rng.uniform(0, seconds))
        if process.is_alive():
            n_kills += 1
        else:  # it has trained to the end: the next begins anew
            path.unlink()
        process.kill()
        process.join()
    assert_same_fit(trained(path, every=2), whole)
