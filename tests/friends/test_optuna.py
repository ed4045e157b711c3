"""Optuna studies receive the score of each epoch, and end the trials that they prune.

The oracle of what is reported are the curves that the network itself keeps, and that of a trial
which is not pruned the same fit without a callback.
"""

import numpy as np
import optuna
import pytest
from optuna.pruners import BasePruner, MedianPruner
from optuna.trial import FixedTrial, TrialState
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.callbacks import OptunaPruningCallback
from support import class_data, few_epochs, quick, same_bits, value_data

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

X, Y = class_data(60)
HOLDING_OUT = {"early_stopping": True, "max_iter": 8, "n_iter_no_change": 100}


@pytest.fixture(autouse=True)
def silence():
    optuna.logging.set_verbosity(optuna.logging.ERROR)


class After(BasePruner):
    """Prunes each trial at some epoch."""

    def __init__(self, epoch):
        self.epoch = epoch

    def prune(self, study, trial):
        return trial.last_step == self.epoch


def study_of(objective, n_trials=1, direction="maximize", pruner=None):
    sampler = optuna.samplers.RandomSampler(seed=0)
    study = optuna.create_study(direction=direction, sampler=sampler, pruner=pruner)
    study.optimize(objective, n_trials=n_trials)
    return study


@pytest.mark.parametrize(
    "monitor, direction, curve",
    [
        ("validation_score", "maximize", "validation_scores_"),
        ("validation_loss", "minimize", "validation_loss_curve_"),
        ("loss", "minimize", "loss_curve_"),
    ],
)
@pytest.mark.parametrize("n_estimators", [1, 3])
def test_each_epoch_is_reported(monitor, direction, curve, n_estimators):
    settings = HOLDING_OUT | {"n_estimators": n_estimators}
    followed, alone = (quick(BackpropClassifier, **settings) for _ in range(2))

    def objective(trial):
        followed.set_callbacks(OptunaPruningCallback(trial, monitor)).fit(X, Y)
        return 0.0

    (trial,) = study_of(objective, direction=direction).trials
    expected = np.atleast_2d(getattr(alone.fit(X, Y), curve)).mean(axis=0)
    assert list(trial.intermediate_values) == list(range(1, 9))
    assert np.allclose(list(trial.intermediate_values.values()), expected, rtol=1e-12)
    assert trial.state is TrialState.COMPLETE and same_bits(followed, alone)


def test_pruned_trial_ends_without_changing_the_network():
    model = quick(BackpropClassifier, **HOLDING_OUT)

    def objective(trial):
        model.set_callbacks(OptunaPruningCallback(trial)).fit(X, Y)
        return model.best_validation_score_

    (trial,) = study_of(objective, pruner=After(3)).trials
    assert trial.state is TrialState.PRUNED and trial.last_step == 3
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_only_bad_trials_are_pruned():
    """Rates that are hopelessly low are behind at each epoch, in a pipeline as well."""
    rates = [0.03, 0.02, 0.01, 1e-6, 1e-7]

    def objective(trial):
        rate = rates[trial.number]
        model = quick(BackpropClassifier, **HOLDING_OUT, learning_rate_init=rate)
        pipeline = make_pipeline(StandardScaler(), model)
        model.set_callbacks(OptunaPruningCallback(trial, "validation_loss"))
        pipeline.fit(X, Y)
        return pipeline[-1].validation_loss_curve_[-1]

    pruner = MedianPruner(n_startup_trials=3, n_warmup_steps=1)
    study = study_of(objective, len(rates), "minimize", pruner)
    states = [trial.state for trial in study.trials]
    assert states[3:] == [TrialState.PRUNED] * 2
    assert study.best_trial.number < 3


def test_divergence_is_reported_as_nan():
    class Endless(FixedTrial):
        def report(self, value, step):
            reported.append(value)

    reported = []
    X, y = value_data(60)
    model = quick(BackpropRegressor, **HOLDING_OUT).set_callbacks(
        OptunaPruningCallback(Endless({}), "validation_loss")
    )
    model.fit(X, y, X_val=X, y_val=y * 1e300)
    assert np.isnan(reported).all() and len(reported) == 8


def test_raises_on_wrong_direction():
    def objective(trial):
        return (
            quick(BackpropClassifier, **HOLDING_OUT)
            .set_callbacks(OptunaPruningCallback(trial))
            .fit(X, Y)
        )

    with pytest.raises(ValueError, match='needs direction="maximize"'):
        study_of(objective, direction="minimize")


def test_raises_without_validation_rows_or_on_unknown_monitor():
    callback = OptunaPruningCallback(FixedTrial({}))
    with pytest.raises(ValueError, match="no rows are held out"):
        quick(BackpropClassifier).set_callbacks(callback).fit(X, Y)
    with pytest.raises(ValueError, match="monitor must be one of"):
        OptunaPruningCallback(FixedTrial({}), monitor="accuracy")


def test_raises_on_callback_of_a_pipeline():
    pipeline = make_pipeline(StandardScaler(), quick(BackpropClassifier))
    with pytest.raises(TypeError, match="on the network itself"):
        pipeline.set_callbacks(OptunaPruningCallback(FixedTrial({}))).fit(X, Y)
