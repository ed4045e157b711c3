"""Is the progress of a tabular fit reported, and is a fit resumed exactly?

The oracles: the fitted attributes, and the fit that nobody has followed or interrupted.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.linear_model import LogisticRegression, Ridge

from skbackprop import BackpropClassifier, TabularClassifier, TabularRegressor
from skbackprop.callbacks import Checkpoint, TrainingLog
from skbackprop.tabular import _networks, base
from support import class_data, same_bits, value_data
from support.tables import BOTH

pytestmark = pytest.mark.usefixtures("one_blas_thread")

OTHERS = {TabularClassifier: LogisticRegression(), TabularRegressor: Ridge()}
CYCLES = [2, 3]
SMALL = {"n_estimators": 2, "blend": None, "random_state": 0}


@pytest.fixture(autouse=True)
def short_cycles(monkeypatch):
    """Let there be two cycles, both of which are kept."""
    monkeypatch.setattr(_networks, "cycle_lengths", lambda n_train, max_iter: CYCLES)
    monkeypatch.setattr(_networks, "TOLERANCE", np.inf)
    monkeypatch.setattr(base, "MIN_GAIN_OF_ENSEMBLE", -np.inf)


def data_for(kind):
    return class_data() if kind is TabularClassifier else value_data()


def n_ensembles(kind):
    return len(kind._configurations)


class TaskFollower:
    """Callback that records the ends of tasks, and acts at one of them."""

    def __init__(self, task="", number=-1, act=lambda: False):
        self.task, self.number, self.act = task, number, act
        self.tasks, self.fitted = [], []

    def setup(self, estimator, context): ...

    def teardown(self, estimator, context): ...

    def on_fit_task_begin(self, estimator, context): ...

    def on_fit_task_end(self, estimator, context, *, fitted_estimator):
        self.tasks.append(context.task_name)
        self.fitted.append(fitted_estimator)
        is_its_turn = context.task_name == self.task
        return is_its_turn and self.tasks.count(self.task) == self.number and self.act()


def assert_same(found, expected, X):
    """Assert that two models have learned the same, to the bit."""
    assert all(map(same_bits, found.networks_, expected.networks_))
    assert len(found.networks_) == len(expected.networks_)
    np.testing.assert_array_equal(found.n_iter_, expected.n_iter_)
    np.testing.assert_array_equal(found.weights_, expected.weights_)
    np.testing.assert_array_equal(found.predict(X), expected.predict(X))


# -------------------------------------------------------------------------- printed lines


@BOTH
@pytest.mark.parametrize("is_kept", [False, True])
def test_a_line_is_printed_for_each_cycle(kind, is_kept, monkeypatch, capsys):
    monkeypatch.setattr(_networks, "TOLERANCE", np.inf if is_kept else -1.0)
    model = kind(**SMALL, verbose=True).fit(*data_for(kind))
    lines = capsys.readouterr().out.splitlines()[model.n_features_in_ :]
    places = [(1 + i, 1 + cycle) for i in range(n_ensembles(kind)) for cycle in range(2)]
    for line, (ensemble, cycle) in zip(lines, places, strict=True):
        start = f"[{kind.__name__}] ensemble {ensemble}, cycle {cycle}: {CYCLES[cycle - 1]} epochs"
        assert line.startswith(f"{start}, validation loss ")
        assert line.endswith(" (not kept)") == (cycle == 2 and not is_kept)
    assert (model.n_iter_ == (5 if is_kept else 2)).all()
    model.set_params(verbose=False).fit(*data_for(kind))
    assert not capsys.readouterr().out


# ------------------------------------------------------------------------------ callbacks


@BOTH
def test_callbacks_are_called_after_each_epoch(kind, tmp_path):
    X, y = data_for(kind)
    following, log = TaskFollower(), TrainingLog(tmp_path / "log.jsonl")
    monitor = ScoringMonitor(scoring="accuracy" if kind is TabularClassifier else "r2")
    callbacks = [following, log, monitor, ProgressBar()]
    model = kind(**SMALL).set_callbacks(*callbacks).fit(X, y)

    n = n_ensembles(kind)
    cycles = [task for n_epochs in CYCLES for task in ["epoch"] * n_epochs + ["fit", "cycle"]]
    assert following.tasks == [*cycles, "ensemble"] * n + ["fit"]
    last_of_each = [
        fitted for fitted in following.fitted if fitted is not None and fitted.n_iter_[0] == 3
    ]
    for network, fitted in zip(model.networks_, last_of_each[1::2], strict=True):
        np.testing.assert_array_equal(network.coefs_[0], fitted.coefs_[0])
    lines = pd.read_json(log.path, lines=True)
    assert (
        lines.groupby("task", sort=False).size().tolist() == [2 * epochs for epochs in CYCLES] * n
    )
    losses = [lines.loss[lines.task.str.startswith(f"0/{i}/")].tolist() for i in range(n)]
    for network, found in zip(model.networks_, losses, strict=True):
        of_member = [found[member::2] for member in range(2)]
        np.testing.assert_allclose(of_member, network.loss_curve_, rtol=1e-6)

    assert_same(model, kind(**SMALL).fit(X, y), X)
    assert not any(hasattr(each, "_skl_callbacks") for each in model.networks_)
    model.set_callbacks()
    assert_same(pickle.loads(pickle.dumps(model)), model, X)


@BOTH
@pytest.mark.parametrize(
    "task, number, n_iter, n_trained",
    [("epoch", 1, 1, 1), ("epoch", 4, 4, 1), ("cycle", 1, 2, 1), ("ensemble", 1, 5, 1)],
)
def test_a_callback_ends_training(kind, task, number, n_iter, n_trained):
    X, y = data_for(kind)
    following = TaskFollower(task, number, lambda: True)
    model = kind(**SMALL).set_callbacks(following).fit(X, y)
    assert model.n_iter_.tolist() == [[n_iter] * 2] * n_trained
    assert np.isfinite(model.oof_score_)


# ---------------------------------------------------------------------------- checkpoints


class Kill(BaseException):
    """What stands for the kill of a process: nothing handles it."""


def kill():
    raise Kill


FIT_ARGUMENTS = {
    "weights and groups": lambda X, y: {
        "groups": np.arange(len(y)) // 3,
        "sample_weight": np.arange(len(y)) % 4,
    },
    "validation table": lambda X, y: {"X_val": X[:30], "y_val": y[:30]},
    "blend": lambda X, y: {},
}


@BOTH
@pytest.mark.parametrize("setting", FIT_ARGUMENTS)
@pytest.mark.parametrize("n_epochs", [3, 5, 7])
def test_a_resumed_fit_equals_an_uninterrupted_one(kind, setting, n_epochs, tmp_path):
    """Killed within the second cycle, at its end, and within the second ensemble."""
    n_all = sum(CYCLES) * n_ensembles(kind)
    n_epochs = min(n_epochs, n_all)
    (X, y), path = data_for(kind), tmp_path / "table.npz"
    arguments = FIT_ARGUMENTS[setting](X, y)
    blend = [OTHERS[kind]] if setting == "blend" else None
    model = kind(**SMALL | {"blend": blend, "random_state": None})
    np.random.seed(3)
    expected = clone(model).fit(X, y, **arguments)

    np.random.seed(3)
    model.set_callbacks(Checkpoint(path), TaskFollower("epoch", n_epochs, kill))
    with pytest.raises(Kill):
        model.fit(X, y, **arguments)
    n_saved = 2 if n_epochs < 7 else 5
    # After the second fit, the checkpoint is that of the whole fit.
    for n_trained in (n_all - n_saved, 0):
        follower, before = TaskFollower(), np.random.get_state()[1]
        resumed = clone(model).set_callbacks(follower, Checkpoint(path))
        assert_same(resumed.fit(X, y, **arguments, resume_from=path), expected, X)
        assert follower.tasks.count("epoch") == n_trained
        np.testing.assert_array_equal(np.random.get_state()[1], before)


@BOTH
def test_a_cycle_that_a_callback_ends_is_resumed_from_its_start(kind, tmp_path):
    (X, y), path = data_for(kind), tmp_path / "table.npz"
    callbacks = Checkpoint(path), TaskFollower("epoch", 4, lambda: True)
    kind(**SMALL).set_callbacks(*callbacks).fit(X, y)
    assert_same(kind(**SMALL).fit(X, y, resume_from=path), kind(**SMALL).fit(X, y), X)


def test_raises_on_checkpoints_of_other_fits(tmp_path):
    (X, y), path = data_for(TabularClassifier), tmp_path / "table.npz"
    model = TabularClassifier(**SMALL).set_callbacks(Checkpoint(path)).fit(X, y)
    model.set_callbacks()
    before = model.predict_proba(X)
    for other, message in [
        ({"n_estimators": 3}, "n_estimators was 2 at the checkpoint and is 3 now"),
        ({"blend": "boosting"}, "blend was None at the checkpoint and is 'boosting' now"),
    ]:
        changed = TabularClassifier(**SMALL | other)
        with pytest.raises(ValueError, match=f"resume_from: {message}"):
            changed.fit(X, y, resume_from=path)
    for data in [
        (np.where(np.arange(len(X)) == 7, 2.0, X.T).T, y),
        (X[:-1], y[:-1]),
        (X, np.roll(y, 1)),
        (X, y, np.arange(len(y)) % 2),
    ]:
        with pytest.raises(ValueError, match="the checksum of the data was"):
            model.fit(*data, resume_from=path)
    with pytest.raises(
        ValueError, match="class was TabularClassifier at the checkpoint and is Backprop"
    ):
        BackpropClassifier().fit(X, y, resume_from=path)
    np.testing.assert_array_equal(model.predict_proba(X), before)
    model.set_params(verbose=True, random_state=1).fit(X, y, resume_from=path)
    np.testing.assert_array_equal(model.predict_proba(X), before)
