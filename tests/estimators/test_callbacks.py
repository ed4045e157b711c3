"""Callbacks follow a fit in scikit-learn's protocol, and do not change it."""

import copy

import numpy as np
import pandas as pd
import pytest
from sklearn.callback import ScoringMonitor
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
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


def hooks_of(n_epochs):
    """Return the hooks of a fit of so many epochs."""
    epochs = [f"{hook} epoch {i}" for i in range(n_epochs) for hook in ("begin", "end")]
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


@ALL
@EACH
def test_callbacks_see_every_epoch_and_change_nothing(estimator_class, settings):
    X, y = data_for(estimator_class)
    model, callback = followed(estimator_class, **settings)
    model.fit(X, y)
    alone = copy.deepcopy(model).set_callbacks().fit(X, y)
    assert same_bits(model, alone)
    # L-BFGS has one task for all its iterations.
    assert callback.hooks == hooks_of(1 if model.solver == "lbfgs" else int(np.max(model.n_iter_)))
    assert callback.X is X
    assert callback.y is (X if estimator_class is BackpropAutoencoder else y)
    assert callback.metadata is None


STOCHASTIC = pytest.mark.parametrize(
    "settings",
    [pytest.param(each, id=name) for name, each in SETTINGS.items() if "lbfgs" not in name],
)


@ALL
@STOCHASTIC
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
        assert fitted.loss_curve_ == expected.loss_curve_
    assert same_bits(callback.fitted[-1], model)


@EACH
def test_estimators_of_epochs_share_nothing(settings):
    X, y = data_for(BackpropClassifier)

    class Spoiling(Recorder):
        def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
            for array in [*fitted_estimator.coefs_, *fitted_estimator.intercepts_]:
                if array.flags.writeable:  # averages are not
                    array[...] = np.nan

    model, _ = followed(BackpropClassifier, Spoiling(), **settings)
    model.fit(X, y)
    assert same_bits(model, copy.deepcopy(model).set_callbacks().fit(X, y))


@ALL
@pytest.mark.filterwarnings("error::sklearn.exceptions.ConvergenceWarning")
def test_callback_that_returns_true_ends_training(estimator_class):
    X, y = data_for(estimator_class)
    model, callback = followed(estimator_class, Recorder(stop_at=1), n_iter_no_change=10)
    assert model.fit(X, y).n_iter_ == 2
    assert callback.hooks[-2:] == ["end fit 0", "teardown fit 0"]
    two = copy.deepcopy(model).set_callbacks().set_params(max_iter=2, n_iter_no_change=np.inf)
    assert same_bits(model, two.fit(X, y))


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize(
    "place", ["setup fit 0", "begin fit 0", "begin epoch 0", "end epoch 0", "end fit 0"]
)
def test_error_in_a_callback_leaves_the_estimator_unchanged(solver, place):
    X, y = data_for(BackpropClassifier)
    model, callback = followed(BackpropClassifier, Recorder(error_in=place), solver=solver)
    with pytest.raises(RuntimeError, match=place):
        model.fit(X, y)
    assert callback.hooks[-1] == "teardown fit 0"
    assert not hasattr(model, "coefs_")
    assert set(vars(model)) - set(model.get_params()) == {"_skl_callbacks"}


@ALL
@pytest.mark.parametrize(
    "place, n_epochs", [("begin epoch 2", 2), ("end epoch 2", 3), ("end fit 0", 5)]
)
def test_an_interrupt_in_a_hook_keeps_the_epochs(estimator_class, place, n_epochs):
    X, y = data_for(estimator_class)
    callback = Recorder(error_in=place, error=KeyboardInterrupt)
    model, _ = followed(estimator_class, callback)
    with pytest.raises(KeyboardInterrupt):
        model.fit(X, y)
    assert model.n_iter_ == n_epochs
    assert callback.hooks[-1] == "teardown fit 0"


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


# ----------------------------------------------------------------- scikit-learn's callbacks


@pytest.mark.slow
def test_in_pipelines_in_searches_in_workers():
    X, y = data_for(BackpropClassifier)
    monitor = ScoringMonitor(scoring="accuracy")
    model, _ = followed(BackpropClassifier, monitor, max_iter=3)
    rates = {"backpropclassifier__learning_rate_init": [0.1, 0.01]}
    search = GridSearchCV(make_pipeline(StandardScaler(), model), rates, cv=2, n_jobs=2)
    search.fit(X, y)
    data = monitor.get_logs().data
    epochs = [row for row in data if row["task_name"] == "epoch"]
    assert len(epochs) == 3 * (2 * 2 + 1)
    best = search.best_estimator_[-1]
    last = max((row for row in epochs), key=lambda row: row["task_id_path"])
    assert last["accuracy"] == best.score(search.best_estimator_[:-1].transform(X), y)
