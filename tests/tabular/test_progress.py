"""Is the reported progress of a tabular fit true, and is a fit resumed exactly?

The oracles: the fitted attributes, and the fit that nobody has followed or interrupted.
"""

import contextlib
import pickle
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skbackprop import BackpropClassifier, BackpropRegressor, TabularClassifier, TabularRegressor
from skbackprop.callbacks import Checkpoint, TrainingLog
from skbackprop.tabular import _networks, _progress, _training_cycles, base
from skbackprop.tabular._networks import TabularClassifierNetworks, TabularRegressorNetworks
from support import class_data, same_bits, value_data
from support.tables import BOTH

pytestmark = pytest.mark.usefixtures("one_blas_thread")

OTHERS = {TabularClassifier: LogisticRegression(), TabularRegressor: Ridge()}
CYCLES = [2, 3]
SMALL = {"n_estimators": 2, "blend": None, "random_state": 0}


@pytest.fixture(autouse=True)
def short_cycles(monkeypatch):
    """Let there be two cycles, both of which are kept."""
    monkeypatch.setattr(base, "cycle_lengths", lambda n_train, max_iter: CYCLES)
    monkeypatch.setattr(_training_cycles, "TOLERANCE", np.inf)
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
@pytest.mark.parametrize("time_limit", [None, 1000.0, 1e6])
@pytest.mark.parametrize("is_blended", [False, True])
def test_a_line_is_printed_for_each_cycle(kind, time_limit, is_blended, capsys):
    X, y = data_for(kind)
    blend = [OTHERS[kind]] if is_blended else None
    model = kind(**SMALL | {"blend": blend}, verbose=True, time_limit=time_limit).fit(X, y)
    *lines, end = capsys.readouterr().out.splitlines()
    name = re.escape(f"[{kind.__name__}]")
    found = re.fullmatch(rf"{name} done in ([\d.]+)s, oof_score_=(\S+)", end)
    assert float(found[2]) == pytest.approx(model.oof_score_, rel=1e-3)
    if is_blended:
        other = type(OTHERS[kind]).__name__
        assert re.match(rf"{name} blend, {other}: 2 folds in [\d.]+s", lines.pop(0))
    pattern = rf"{name} ensemble (\d) of (\d), cycle (\d): (\d) epoch\(s\) in ([\d.]+)s, "
    pattern += r"validation loss (\S+?)(?:, about ([\d.]+)s left)?"
    each = [re.fullmatch(pattern, line).groups() for line in lines]
    n = n_ensembles(kind)
    places = [(str(i + 1), str(n), str(cycle + 1)) for i in range(n) for cycle in range(2)]
    assert [(one, of, cycle) for one, of, cycle, *_ in each] == places
    assert [int(n_epochs) for *_, n_epochs, _, _, _ in each] == CYCLES * n
    left = [left for *_, left in each]
    assert all(left[:-1])
    assert left[-1] is None  # there is nothing to come
    assert max(map(float, left[:-1])) < 100  # of cycles to come, not of the limit


@BOTH
def test_the_time_left_is_that_of_the_remaining_epochs(kind, monkeypatch, capsys):
    """By a clock by which an epoch takes ten seconds, and all else no time."""
    X, y = data_for(kind)
    now = [0.0]
    fit_cycle = _networks.TabularNetworkMixin.fit_cycle

    def timed(self, *args):
        fit_cycle(self, *args)
        now[0] += 10 * self.max_iter

    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(_networks.TabularNetworkMixin, "fit_cycle", timed)
    for module in (_progress, _training_cycles, base):
        monkeypatch.setattr(module, "time", clock)
    kind(**SMALL, verbose=True).fit(X, y)
    found = re.findall(r"in (\S+)s, .*?(?:about (\S+)s left)?$", capsys.readouterr().out, re.M)
    n = n_ensembles(kind)
    n_left = np.cumsum([0, *(CYCLES * n)[:0:-1]])[::-1] * 10
    expected = [
        (f"{10 * CYCLES[i % 2]:.1f}", f"{n_left[i]:.1f}" if n_left[i] else "") for i in range(2 * n)
    ]
    assert found[:-1] == expected
    assert found[-1][0] == f"{10 * n * sum(CYCLES):.1f}"


@pytest.mark.parametrize("verbose", [0, 1])
def test_a_cycle_that_is_not_kept_is_printed_if_verbose(verbose, monkeypatch, capsys):
    monkeypatch.setattr(_training_cycles, "TOLERANCE", -1.0)
    model = TabularRegressor(**SMALL, verbose=verbose).fit(*data_for(TabularRegressor))
    assert (model.n_iter_ == 2).all()
    lines = capsys.readouterr().out.splitlines()
    if not verbose:
        assert not lines
        return
    assert "cycle 2: 3 epoch(s)" in lines[1]
    assert lines[1].endswith("(not kept)")


# ------------------------------------------------------------------------------ callbacks


@pytest.mark.long
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
@pytest.mark.parametrize("time_limit", [None, 1000.0])
@pytest.mark.parametrize(
    "task, number, n_iter, n_trained",
    [("epoch", 1, 1, 1), ("epoch", 4, 4, 1), ("cycle", 1, 2, 1), ("ensemble", 1, 5, 1)],
)
def test_a_callback_ends_training(kind, task, number, n_iter, n_trained, time_limit):
    X, y = data_for(kind)
    following = TaskFollower(task, number, lambda: True)
    model = kind(**SMALL, time_limit=time_limit).set_callbacks(following).fit(X, y)
    assert model.n_iter_.tolist() == [[n_iter] * 2] * n_trained
    assert np.isfinite(model.oof_score_)


# ---------------------------------------------------------------------------- checkpoints


class Kill(BaseException):
    """What stands for the kill of a process: nothing handles it."""


def kill():
    raise Kill


FIT_ARGUMENTS = {
    "seed": lambda X, y: {},
    "weights and groups": lambda X, y: {
        "groups": np.arange(len(y)) // 3,
        "sample_weight": np.arange(len(y)) % 4,
    },
    "validation table": lambda X, y: {"X_val": X[:30], "y_val": y[:30]},
    "blend": lambda X, y: {},
}


@pytest.mark.long
@BOTH
@pytest.mark.parametrize("setting", FIT_ARGUMENTS)
@pytest.mark.parametrize("n_epochs", [1, 2, 3, 5, 7])
def test_a_resumed_fit_equals_an_uninterrupted_one(kind, setting, n_epochs, tmp_path):
    """Killed within and between cycles, and within the second ensemble."""
    n_all = sum(CYCLES) * n_ensembles(kind)
    n_epochs = min(n_epochs, n_all)
    (X, y), path = data_for(kind), tmp_path / "table.npz"
    arguments = FIT_ARGUMENTS[setting](X, y)
    model = kind(**SMALL | {"blend": [OTHERS[kind]] if setting == "blend" else None})
    expected = clone(model).fit(X, y, **arguments)

    model.set_callbacks(Checkpoint(path), TaskFollower("epoch", n_epochs, kill))
    with pytest.raises(Kill):
        model.fit(X, y, **arguments)
    # After the second fit, the checkpoint is that of the whole fit.
    for n_trained in (n_all - n_epochs, 0):
        follower = TaskFollower()
        resumed = clone(model).set_callbacks(follower, Checkpoint(path))
        assert_same(resumed.fit(X, y, **arguments, resume_from=path), expected, X)
        assert follower.tasks.count("epoch") == n_trained


@pytest.mark.long
@BOTH
@pytest.mark.parametrize("n_epochs", [4, 6, 8, 9])
def test_a_resumed_fit_decides_as_an_uninterrupted_one(kind, n_epochs, tmp_path, monkeypatch):
    """Cycles that depend on the loss, and a second ensemble that stops after its first cycle."""
    monkeypatch.setattr(base, "cycle_lengths", lambda n_train, max_iter: [1, 1, 2, 2, 2, 2])
    monkeypatch.setattr(base, "MIN_GAIN_OF_ENSEMBLE", np.inf)
    for networks in (TabularClassifierNetworks, TabularRegressorNetworks):
        monkeypatch.setattr(networks, "min_gain", 0.01)
    (X, y), path = data_for(kind), tmp_path / "table.npz"
    expected = kind(**SMALL).fit(X, y)
    assert expected.n_iter_[0, 0] > 4
    assert expected.n_iter_[1:].tolist() == [[1, 1]] * (n_ensembles(kind) - 1)
    following = TaskFollower("epoch", n_epochs, kill)
    with contextlib.suppress(Kill):
        kind(**SMALL).set_callbacks(Checkpoint(path), following).fit(X, y)
    assert_same(kind(**SMALL).fit(X, y, resume_from=path), expected, X)


@pytest.mark.long
@BOTH
def test_a_resumed_fit_can_be_interrupted_again(kind, tmp_path):
    """Not even while it goes through the cycles that were complete."""
    (X, y), path = data_for(kind), tmp_path / "table.npz"
    expected = kind(**SMALL).fit(X, y)
    with pytest.raises(Kill):
        kind(**SMALL).set_callbacks(Checkpoint(path), TaskFollower("epoch", 4, kill)).fit(X, y)
    killing = kind(**SMALL).set_callbacks(Checkpoint(path), TaskFollower("cycle", 1, kill))
    with pytest.raises(Kill):
        killing.fit(X, y, resume_from=path)
    following = TaskFollower()
    resumed = kind(**SMALL).set_callbacks(following).fit(X, y, resume_from=path)
    assert_same(resumed, expected, X)
    assert following.tasks.count("epoch") == sum(CYCLES) * n_ensembles(kind) - 4


@pytest.mark.long
@BOTH
@pytest.mark.parametrize("is_global", [False, True], ids=["own stream", "global stream"])
def test_random_streams_are_resumed(kind, is_global, tmp_path):
    (X, y), path = data_for(kind), tmp_path / "table.npz"

    def build():
        np.random.seed(3)
        return kind(2, random_state=None if is_global else np.random.RandomState(3))

    expected = build().fit(X, y)
    with pytest.raises(Kill):
        build().set_callbacks(Checkpoint(path, every=2), TaskFollower("epoch", 4, kill)).fit(X, y)
    resumed = kind(2, random_state=None if is_global else np.random.RandomState(7))
    assert_same(resumed.fit(X, y, resume_from=path), expected, X)


@pytest.mark.long
def test_raises_on_checkpoints_of_other_fits(tmp_path):
    (X, y), path = data_for(TabularClassifier), tmp_path / "table.npz"
    model = TabularClassifier(**SMALL).set_callbacks(Checkpoint(path)).fit(X, y)
    model.set_callbacks()
    before = model.predict_proba(X)
    for other, message in [
        ({"n_estimators": 3}, "n_estimators was 2 at the checkpoint and is 3 now"),
        ({"blend": "boosting"}, "blend was None at the checkpoint and is 'boosting' now"),
        ({"max_iter": 9}, "max_iter was None at the checkpoint and is 9 now"),
    ]:
        changed = TabularClassifier(**SMALL | other)
        with pytest.raises(ValueError, match=f"resume_from: {message}"):
            changed.fit(X, y, resume_from=path)
    with pytest.raises(ValueError, match="of other data.* with the same categorical_features"):
        TabularClassifier(**SMALL, categorical_features=[0]).fit(X, y, resume_from=path)
    for data in [
        (np.where(np.arange(len(X)) == 7, 2.0, X.T).T, y),
        (X[:-1], y[:-1]),
        (X, np.roll(y, 1)),
        (X, y, np.arange(len(y)) % 2),
    ]:
        with pytest.raises(ValueError, match="the checkpoint is of other data"):
            model.fit(*data, resume_from=path)
    with pytest.raises(
        ValueError, match="by a TabularClassifier, but this estimator is a Backprop"
    ):
        BackpropClassifier().fit(X, y, resume_from=path)
    with pytest.raises(FileNotFoundError):
        model.fit(X, y, resume_from=tmp_path / "none.npz")
    np.testing.assert_array_equal(model.predict_proba(X), before)
    model.set_params(time_limit=1000, verbose=False).fit(X, y, resume_from=path)
    np.testing.assert_array_equal(model.predict_proba(X), before)


def scaled(factor):
    """Return an estimator to blend that holds a function of a user's own."""
    return make_pipeline(FunctionTransformer(lambda X: factor * X), Ridge())


@pytest.mark.long
@pytest.mark.parametrize(
    "one, other, name",
    [
        ({"n_estimators": 2}, {"n_estimators": np.int64(2)}, None),
        ({"blend": [Ridge()]}, {"blend": (Ridge(alpha=1.0),)}, None),
        ({"blend": [Ridge()]}, {"blend": [Ridge().fit([[0.0], [1.0]], [0, 1])]}, None),
        ({"blend": [scaled(2)]}, {"blend": [scaled(2)]}, None),
        ({"blend": [scaled(2)]}, {"blend": [scaled(3)]}, "factor"),
        ({"blend": [Ridge()]}, {"blend": [Ridge(2.0)]}, "alpha"),
        ({"categorical_features": [0]}, {"categorical_features": np.array([0])}, None),
    ],
)
def test_parameters_are_compared_by_value(one, other, name, tmp_path):
    (X, y), path = data_for(TabularRegressor), tmp_path / "table.npz"
    model = TabularRegressor(**SMALL | one).set_callbacks(Checkpoint(path)).fit(X, y)
    resumed = TabularRegressor(**SMALL | other)
    if name is None:
        assert_same(resumed.fit(X, y, resume_from=path), model, X)
        return
    with pytest.raises(ValueError, match=rf"resume_from: .*\b{name}\b.* was .* and is .* now"):
        resumed.fit(X, y, resume_from=path)


@pytest.mark.long
def test_a_fit_locks_its_checkpoint(tmp_path):
    (X, y), path = data_for(TabularRegressor), tmp_path / "table.npz"
    errors = []

    def fit_another():
        for other in (TabularRegressor(**SMALL), BackpropRegressor()):
            with pytest.raises(ValueError, match="Another fit, .* is writing to") as error:
                other.set_callbacks(Checkpoint(path)).fit(X, y)
            errors.append(error)

    following = TaskFollower("epoch", 3, fit_another)
    TabularRegressor(**SMALL).set_callbacks(Checkpoint(path), following).fit(X, y)
    assert len(errors) == 2
    assert [each.name for each in tmp_path.iterdir()] == [path.name]
