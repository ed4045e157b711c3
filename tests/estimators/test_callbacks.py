"""Do callbacks follow a fit as scikit-learn's protocol says, and change nothing by it?"""

import copy

import numpy as np
import pandas as pd
import pytest
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropRegressor,
)
from skbackprop.training.training_run import TrainingInterrupted
from skbackprop.weight_averaging import ExponentialMovingAverage
from support import NAMES, answers, data_for, few_epochs, pickled, quick, same_bits

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

ALL = pytest.mark.parametrize(
    "estimator_class", [BackpropClassifier, BackpropRegressor, BackpropAutoencoder]
)


class Recorder:
    """Records the hooks; stops at an epoch, or raises `error` in a hook like "begin epoch 1"."""

    def __init__(self, stop_at=None, error_in=None, error=RuntimeError):
        self.stop_at, self.error_in, self.error = stop_at, error_in, error
        self.hooks, self.fitted = [], []

    def setup(self, estimator, context):
        self._note("setup", context)

    def teardown(self, estimator, context):
        self._note("teardown", context)

    def on_fit_task_begin(self, estimator, context, *, fitted_estimator=None):
        self._note("begin", context)

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
        self.X, self.y, self.metadata = X, y, metadata
        self.fitted.append(fitted_estimator)
        self._note("end", context)
        return context.parent is not None and context.task_id == self.stop_at

    def _note(self, hook, context):
        name = f"{hook} {context.task_name} {context.task_id}"
        self.hooks.append(name)
        if name == self.error_in:
            raise self.error(name)


def hooks_of(n_epochs, name="epoch"):
    """Return the hooks of a fit of so many epochs."""
    epochs = [f"{hook} {name} {i}" for i in range(n_epochs) for hook in ("begin", "end")]
    return ["setup fit 0", "begin fit 0", *epochs, "end fit 0", "teardown fit 0"]


def followed(estimator_class, callback=None, **settings):
    """Return an estimator, with the settings that it has and a callback, and the callback."""
    callback = callback or Recorder()
    settings = {"n_iter_no_change": np.inf} | settings_for(estimator_class, settings)
    return quick(estimator_class, **settings).set_callbacks(callback), callback


SETTINGS = {
    "adam": {},
    "sgd": {"solver": "sgd", "learning_rate": "adaptive"},
    "early stopping": {"early_stopping": True},
    "ensemble": {"n_estimators": 3, "early_stopping": True, "n_iter_no_change": 1},
    "average": {"average": ExponentialMovingAverage(0.5)},
    "dropout and normalization": {"dropout": 0.2, "normalization": "batch"},
    "float32": {"dtype": "float32"},
    "lbfgs": {"solver": "lbfgs"},
    "lbfgs, early stopping": {"solver": "lbfgs", "early_stopping": True},
}
EACH = pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)


def settings_for(estimator_class, settings):
    """Return those of the settings that an estimator has."""
    names = estimator_class._get_param_names()
    return {name: value for name, value in settings.items() if name in names}


def score_of(estimator, X, y, **params):
    """Score an estimator by its own score."""
    return estimator.score(X, y, **params)


@ALL
@EACH
def test_callbacks_see_every_epoch_and_change_nothing(estimator_class, settings):
    X, y = data_for(estimator_class)
    model, callback = followed(estimator_class, **settings)
    model.fit(X, y)
    alone = copy.deepcopy(model).set_callbacks().fit(X, y)
    assert same_bits(model, alone)
    n_epochs = int(np.max(model.n_iter_))
    name = "iteration" if model.solver == "lbfgs" else "epoch"
    assert callback.hooks == hooks_of(n_epochs, name)
    assert callback.X is X
    assert callback.y is (X if estimator_class is BackpropAutoencoder else y)
    assert callback.metadata is None


@pytest.mark.long
@ALL
@EACH
def test_estimator_of_an_epoch_equals_a_shorter_fit(estimator_class, settings):
    X, y = data_for(estimator_class)
    model, callback = followed(estimator_class, **settings)
    model.fit(X, y)
    for i, fitted in enumerate(callback.fitted[:-1]):
        expected = copy.deepcopy(model).set_callbacks().set_params(max_iter=i + 1).fit(X, y)
        np.testing.assert_equal(answers(fitted, X), answers(expected, X))
        np.testing.assert_equal(answers(pickled(fitted, None), X), answers(expected, X))
        assert np.array_equal(fitted.n_iter_, expected.n_iter_)
        assert np.array_equal(fitted.best_iter_, expected.best_iter_)
        if model.solver != "lbfgs":  # of which the last loss is the result's
            assert fitted.loss_curve_ == expected.loss_curve_
    assert same_bits(callback.fitted[-1], model)


@pytest.mark.long
@ALL
def test_estimators_of_epochs_share_nothing(estimator_class):
    X, y = data_for(estimator_class)

    class Spoiling(Recorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            for array in [*fitted_estimator.coefs_, *fitted_estimator.intercepts_]:
                array[...] = np.nan

    for settings in SETTINGS.values():
        model, _ = followed(estimator_class, Spoiling(), **settings)
        model.fit(X, y)
        assert same_bits(model, copy.deepcopy(model).set_callbacks().fit(X, y))


def test_estimator_of_an_epoch_trains_independently():
    X, y = data_for(BackpropClassifier)
    model, callback = followed(BackpropClassifier)
    make_pipeline(StandardScaler(), model).fit(X, y)
    n_hooks = len(callback.hooks)
    fitted = callback.fitted[1]
    for other in (fitted, pickled(fitted, None), copy.deepcopy(fitted)):
        assert not any("callback_ctx" in name or "teardown" in name for name in vars(other))
        other.set_callbacks().fit(X, y)
    assert len(callback.hooks) == n_hooks


@ALL
@EACH
def test_callback_that_returns_true_ends_training(estimator_class, settings):
    X, y = data_for(estimator_class)
    model, callback = followed(estimator_class, Recorder(stop_at=1), **settings)
    model.fit(X, y)
    assert np.max(model.n_iter_) == 2
    assert callback.hooks[-2:] == ["end fit 0", "teardown fit 0"]
    if model.solver != "lbfgs":
        two = copy.deepcopy(model).set_callbacks().set_params(max_iter=2).fit(X, y)
        assert same_bits(model, two)


@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_stop_by_callback_gives_no_convergence_warning():
    model, _ = followed(BackpropClassifier, Recorder(stop_at=1), n_iter_no_change=10)
    assert model.fit(*data_for(BackpropClassifier)).n_iter_ == 2


@ALL
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("place", ["setup fit 0", "begin fit 0", "begin {} 1", "end {} 1"])
def test_error_in_a_callback_leaves_the_estimator_unchanged(estimator_class, solver, place):
    X, y = data_for(estimator_class)
    place = place.format("iteration" if solver == "lbfgs" else "epoch")
    model, callback = followed(estimator_class, Recorder(error_in=place), solver=solver)
    rng = np.random.RandomState(3)
    model.set_params(random_state=rng)
    with pytest.raises(RuntimeError, match=place):
        model.fit(X, y)
    assert callback.hooks[-1] == "teardown fit 0"
    assert not hasattr(model, "coefs_")
    assert np.array_equal(rng.get_state()[1], np.random.RandomState(3).get_state()[1])
    left = set(vars(model)) - set(model.get_params())
    assert left == {"_skl_callbacks"}


@ALL
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, TrainingInterrupted])
@pytest.mark.parametrize("place, n_epochs", [("begin {} 2", 2), ("end {} 2", 3), ("end fit 0", 5)])
def test_an_interrupt_in_a_hook_keeps_the_epochs(estimator_class, solver, place, n_epochs, error):
    X, y = data_for(estimator_class)
    place = place.format("iteration" if solver == "lbfgs" else "epoch")
    callback = Recorder(error_in=place, error=error)
    model, _ = followed(estimator_class, callback, solver=solver)
    with pytest.raises(error):
        model.fit(X, y)
    assert model.n_iter_ == n_epochs
    assert callback.hooks[-1] == "teardown fit 0"


def test_a_failed_fit_tears_down_and_has_no_estimator():
    X, y = data_for(BackpropRegressor)
    diverging = {"solver": "sgd", "learning_rate_init": 1e200, "activation": "identity"}
    model, callback = followed(BackpropRegressor, **diverging)
    with pytest.raises(ValueError, match="diverged"):
        model.fit(X, y)
    assert callback.hooks[-1] == "teardown fit 0"
    assert callback.fitted[-1] is None


def test_a_member_that_diverges_leaves_the_others_an_epoch_at_a_time():
    X, y = data_for(BackpropRegressor)
    weights = quick(BackpropRegressor, n_estimators=3).fit(X, y)
    init = [np.array(layer) for layer in weights.coefs_], weights.intercepts_
    init[0][0][1] *= 1e200
    model, callback = followed(BackpropRegressor, solver="sgd", n_estimators=3, init=init)
    with pytest.raises(ValueError, match="Training diverged in epoch 1"):
        model.fit(X, y)
    assert callback.hooks == hooks_of(5)
    assert callback.fitted == [None] * 6


def test_members_of_lbfgs_are_tasks_of_their_own():
    X, y = data_for(BackpropClassifier)
    model, callback = followed(BackpropClassifier, solver="lbfgs", n_estimators=2, max_iter=2)
    model.fit(X, y)
    begin, tasks, end = callback.hooks[:2], callback.hooks[2:-2], callback.hooks[-2:]
    assert [*begin, *end] == hooks_of(0)
    iterations = hooks_of(2, "iteration")[2:-2]
    assert tasks[:6] == ["begin member 0", *iterations, "end member 0"]
    assert tasks[6:] == ["begin member 1", *iterations, "end member 1"]
    assert callback.fitted[:-1] == [None] * 6
    assert same_bits(callback.fitted[-1], model)


def test_ctrl_c_when_the_last_member_of_lbfgs_is_over_keeps_all():
    X, y = data_for(BackpropRegressor)
    callback = Recorder(error_in="end member 1", error=KeyboardInterrupt)
    model, _ = followed(BackpropRegressor, callback, solver="lbfgs", n_estimators=2)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert same_bits(model, copy.deepcopy(model).set_callbacks().fit(X, y))


@pytest.mark.parametrize("place", ["begin iteration 1", "end iteration 1"])
def test_a_stop_iteration_that_a_hook_lets_slip_is_an_error(place):
    """SciPy takes one for the wish to end."""
    X, y = data_for(BackpropRegressor)
    callback = Recorder(error_in=place, error=StopIteration)
    model, _ = followed(BackpropRegressor, callback, solver="lbfgs")
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        model.fit(X, y)
    assert not hasattr(model, "coefs_")


def test_weights_go_with_the_data_and_names_fit_them():
    X, y = data_for(BackpropClassifier)
    frame, weight = pd.DataFrame(X, columns=NAMES), np.arange(len(X))
    monitor, callback = ScoringMonitor(scoring="accuracy"), Recorder()
    model = quick(BackpropClassifier).set_callbacks(monitor, callback)
    model.fit(frame, y, sample_weight=weight, X_val=frame, y_val=y)
    assert callback.metadata == {"sample_weight": weight}
    assert callback.fitted[0].validation_loss_curve_ == model.validation_loss_curve_[:1]
    scores = [row["accuracy"] for row in monitor.get_logs().data]
    assert scores[0] == scores[-1] == model.score(frame, y, weight)
    assert len(scores) == 1 + model.n_iter_
    # Names of an earlier fit are not those of this one.
    model.fit(X, y)
    assert callback.fitted[-1].predict(X).shape == y.shape


def test_callbacks_of_a_warm_start_see_the_epochs_of_both_fits():
    X, y = data_for(BackpropRegressor)
    model, callback = followed(BackpropRegressor, warm_start=True, max_iter=3)
    model.fit(X, y).fit(X, y)
    assert callback.hooks == 2 * hooks_of(3)
    assert [len(fitted.loss_curve_) for fitted in callback.fitted] == [1, 2, 3, 3, 4, 5, 6, 6]
    alone = quick(BackpropRegressor, warm_start=True, max_iter=3, n_iter_no_change=np.inf)
    assert same_bits(model, alone.fit(X, y).fit(X, y))
    # A loop over partial_fit is in the user's hands.
    model.partial_fit(X, y)
    assert callback.hooks == 2 * hooks_of(3)


def test_a_parameter_that_a_callback_changes_counts_from_then_on():
    class Changing(Recorder):
        def on_fit_task_end(self, estimator, context):
            estimator.set_params(learning_rate_init=0.5)

    X, y = data_for(BackpropRegressor)
    model, _ = followed(BackpropRegressor, Changing(), random_state=0)
    model.fit(X, y)
    expected = quick(BackpropRegressor, n_iter_no_change=np.inf).fit(X, y)
    assert same_bits(model, expected)
    expected.set_params(learning_rate_init=0.5).partial_fit(X, y)
    assert same_bits(model.partial_fit(X, y), expected)


def test_a_class_or_an_object_without_hooks_is_refused():
    model = BackpropClassifier()
    for callback in (Recorder, "progress"):
        with pytest.raises(TypeError, match="callbacks must be instances"):
            model.set_callbacks(callback)


# ----------------------------------------------------------------- scikit-learn's callbacks


@ALL
@EACH
def test_scikit_learns_monitor_scores_each_epoch(estimator_class, settings):
    X, y = data_for(estimator_class)
    monitor = ScoringMonitor(scoring={"own": score_of})
    model, _ = followed(estimator_class, monitor, **settings)
    model.fit(X, y)
    scores = [row["own"] for row in monitor.get_logs().data]
    assert len(scores) == 1 + np.max(model.n_iter_)
    assert scores[0] == scores[-1] == model.score(X, y)


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.long)])
def test_in_pipelines_in_searches_in_workers(n_jobs):
    X, y = data_for(BackpropClassifier)
    monitor = ScoringMonitor(scoring="accuracy")
    model, _ = followed(BackpropClassifier, monitor, max_iter=3)
    rates = {"backpropclassifier__learning_rate_init": [0.1, 0.01]}
    search = GridSearchCV(make_pipeline(StandardScaler(), model), rates, cv=2, n_jobs=n_jobs)
    search.fit(X, y)
    data = monitor.get_logs().data
    epochs = [row for row in data if row["task_name"] == "epoch"]
    assert len(epochs) == 3 * (2 * 2 + 1)
    best = search.best_estimator_[-1]
    last = max((row for row in epochs), key=lambda row: row["task_id_path"])
    assert last["accuracy"] == best.score(search.best_estimator_[:-1].transform(X), y)


@ALL
@EACH
def test_scikit_learns_progress_bar_shows_the_epochs(estimator_class, settings, capsys):
    X, y = data_for(estimator_class)
    model = quick(estimator_class, **settings_for(estimator_class, settings))
    make_pipeline(StandardScaler(), model).set_callbacks(ProgressBar()).fit(X, y)
    shown = capsys.readouterr().out
    assert f"{estimator_class.__name__} - fit" in shown
    assert "100%" in shown
