"""Networks that are trained together end as if trained alone, whatever the others do.

They differ in all in which networks of one stack may, as the candidates of a search do.
"""

import threading
from dataclasses import dataclass, replace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.optimizers import OPTIMIZERS
from skbackprop.schedules import LearningRateSchedule
from skbackprop.training import resources
from skbackprop.training import train as train_module
from skbackprop.training.train import TrainingInterrupted, train
from support import BOTH, changed, data_for, few_epochs, quick, same_bits, same_values

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

N_ROWS = 60
SHARED = {"hidden_layer_sizes": (6, 5), "batch_size": 25, "max_iter": 12, "random_state": 3}
STOCHASTIC = {
    "sgd": {"solver": "sgd"},
    "adam": {},
    "in order": {"shuffle": False},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3},
    "average and dropout": {"average": "ema", "dropout": 0.2},
}
every_setting = pytest.mark.parametrize("settings", STOCHASTIC.values(), ids=STOCHASTIC)

# What networks of one stack may differ in: the first two do in nothing.
DIFFERENCES = [
    {},
    {},
    {"random_state": 4},
    {"alpha": 1.0, "learning_rate_init": 0.05},
    {"tol": 10.0, "n_iter_no_change": 3},  # stops in the fifth epoch
    {"momentum": 0.5, "beta_1": 0.5, "epsilon": 1e-3},
    {"n_iter_no_change": np.inf},
    {"early_stopping": True, "validation_fraction": 0.5, "n_iter_no_change": 2},
    {"init": "he_normal"},
]


@dataclass(frozen=True)
class Falling(LearningRateSchedule):
    """rate = base * (1 - progress), which depends on how many epochs there are in all."""

    def rate(self, state, base, progress):
        return base * (1 - progress)


class Trained:
    """Estimators that differ in some changes, prepared on the same rows and trained together."""

    def __init__(self, estimator_class, differences, settings=None, **options):
        X, y = data_for(estimator_class, N_ROWS)
        params = [SHARED | (settings or {}) | changes for changes in differences]
        self.estimators = [estimator_class(**each) for each in params]
        pairs = [estimator._start_training({"X": X, "y": y}) for estimator in self.estimators]
        rows = pairs[0][0].rows  # networks that share their rows share the batches
        self.problems = [replace(problem, rows=rows) for problem, _ in pairs]
        self.models = [model for _, model in pairs]
        self.train(**options)

    def train(self, **options):
        """Train the members, or train them on."""
        self.models = train(self.problems, self.models, **options)

    def take(self, members):
        """Leave out all other members."""
        self.estimators = [self.estimators[i] for i in members]
        self.problems = [self.problems[i] for i in members]
        self.models = [self.models[i] for i in members]

    def stop_reasons(self):
        """Return why the training of each network has ended."""
        return [reason for model in self.models for reason in model.state.stop_reason]

    def count_epochs(self):
        """Return the number of epochs of each network."""
        return [int(model.state.epoch.item()) for model in self.models]

    def fitted(self):
        """Return the fitted estimators; the error in place of one that has diverged."""
        found = []
        for estimator, problem, model in zip(
            self.estimators, self.problems, self.models, strict=True
        ):
            try:
                estimator._set_trained(problem, model)
            except ValueError as error:
                found.append(str(error))
            else:
                found.append(estimator)
        return found


def assert_same_fits(estimators, expected):
    for one, other in zip(estimators, expected, strict=True):
        if isinstance(other, str):
            assert one == other
            continue
        assert same_bits(one, other)
        for name in ("validation_scores_", "validation_loss_curve_", "t_", "n_iter_", "best_iter_"):
            assert same_values(getattr(one, name), getattr(other, name)), name


def alone(estimator_class, differences, settings=None, **options):
    """Return the fitted estimators when each is trained for itself."""
    each = [Trained(estimator_class, [changes], settings, **options) for changes in differences]
    return [trained.fitted()[0] for trained in each]


@BOTH
@every_setting
def test_networks_trained_together_match_those_trained_alone(settings, estimator_class):
    together = Trained(estimator_class, DIFFERENCES, settings).fitted()
    assert_same_fits(together, alone(estimator_class, DIFFERENCES, settings))
    assert len({model.n_iter_ for model in together}) > 1


# ----------------------------------------------------------------- members that end before others


@pytest.mark.parametrize("schedule", ["constant", Falling()], ids=["constant", "falling"])
@BOTH
def test_diverging_networks_do_not_affect_others(estimator_class, schedule):
    """Rates from high to low, so that they diverge in different epochs."""
    # R2 of predictions that are finite, but not their squares, would warn.
    early_stopping = estimator_class is BackpropClassifier
    settings = {"solver": "sgd", "activation": "identity", "early_stopping": early_stopping}
    rates = [0.01, 1e150, 3e3, 1e8, 1e30, 0.02, 0.005]
    differences = [{"learning_rate_init": rate, "learning_rate": schedule} for rate in rates]
    trained = Trained(estimator_class, differences, settings)
    reasons = trained.stop_reasons()
    assert [reason == "diverged" for reason in reasons] == [rate > 1 for rate in rates]
    assert_same_fits(trained.fitted(), alone(estimator_class, differences, settings))


@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}, {"average": "ema"}], ids=str)
def test_training_may_pause_and_go_on_with_some_of_the_networks(settings):
    """So does successive halving: the candidates left are trained on as if alone."""
    differences = [{"alpha": alpha, "n_iter_no_change": np.inf} for alpha in (0.0, 0.1, 0.2, 0.3)]
    trained = Trained(BackpropClassifier, differences, settings, until=3)
    assert trained.count_epochs() == [3] * 4
    trained.take([2, 0])
    trained.train(until=7)
    expected = [differences[2], differences[0]]
    assert_same_fits(trained.fitted(), alone(BackpropClassifier, expected, settings, until=7))


@pytest.mark.parametrize("solver, patience", [("adam", 2), ("lbfgs", 20)])
def test_without_a_finite_score_training_ends_and_keeps_the_last_epoch(solver, patience):
    """The square of a target that is held out is more than a float can hold."""
    settings = SHARED | {"early_stopping": True, "n_iter_no_change": 2, "solver": solver}
    X, y = data_for(BackpropRegressor, N_ROWS)
    estimator, shorter = (
        BackpropRegressor(**settings | {"max_iter": n}) for n in (50, patience + 1)
    )
    held_out = estimator._start_training({"X": X, "y": y})[1].state.held_out[0]
    y = changed(y, held_out[0], 1e200)
    for each in (estimator, shorter):
        with pytest.warns(
            ConvergenceWarning, match=r"No epoch has a finite .*in the targets 1e\+200"
        ):
            each.fit(X, y)
    assert not np.isfinite(estimator.validation_scores_).any()
    assert estimator.n_iter_ == estimator.best_iter_ == patience + 1
    assert same_bits(estimator, shorter)


# ----------------------------------------------------------------------------- several stacks


def cut_stacks(monkeypatch, size, n_threads=1):
    """Let stacks hold so many members, and train in so many threads."""
    monkeypatch.setattr(resources, "max_stack_size", lambda *arguments: size)
    for module in (resources, train_module):
        monkeypatch.setattr(module, "n_blas_threads", lambda: n_threads)


@BOTH
@pytest.mark.parametrize("settings", [*STOCHASTIC.values(), {"solver": "lbfgs"}], ids=str)
@pytest.mark.parametrize("size, n_threads", [(1, 1), (2, 1), (2, 3)])
def test_several_stacks_match_one(size, n_threads, settings, estimator_class, monkeypatch):
    X, y = data_for(estimator_class, N_ROWS)
    settings = SHARED | {"n_estimators": 5, "n_iter_no_change": 2, "tol": 0.05} | settings
    one = estimator_class(**settings).fit(X, y)
    cut_stacks(monkeypatch, size, n_threads)
    assert_same_fits([estimator_class(**settings).fit(X, y)], [one])


def test_stacks_hold_as_many_networks_as_the_cache_allows(stack_sizes, monkeypatch):
    X, y = data_for(BackpropRegressor, N_ROWS)
    model = BackpropRegressor(**SHARED | {"n_estimators": 9, "max_iter": 1})
    each = resources.bytes_per_member(model.fit(X, y)._model.network, SHARED["batch_size"], 8)
    stack_sizes.clear()
    for n, expected in [(9, [9]), (8, [5, 4]), (4, [3, 3, 3]), (3, [1] * 9)]:
        monkeypatch.setattr(resources, "CACHE_BYTES", n * each)
        model.fit(X, y)
        assert stack_sizes == expected
        stack_sizes.clear()


def press_ctrl_c(monkeypatch, solver, n_steps):
    """Raise KeyboardInterrupt in the step that follows `n_steps` steps."""
    step, steps = OPTIMIZERS[solver].step, []

    def interrupted(*arguments):
        step(*arguments)
        steps.append(1)
        if len(steps) == n_steps + 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(OPTIMIZERS[solver], "step", interrupted)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("size, n_steps", [(1, 7), (2, 7), (2, 16), (4, 0), (4, 17)])
def test_ctrl_c_leaves_complete_epochs(size, n_steps, solver, monkeypatch):
    """Networks in other stacks may have one epoch more."""
    differences = [{"random_state": seed, "solver": solver} for seed in range(4)]
    trained = Trained(BackpropRegressor, differences, until=0)
    with monkeypatch.context() as context:
        cut_stacks(context, size)
        press_ctrl_c(context, solver, n_steps)
        with pytest.raises(TrainingInterrupted) as interrupt:
            trained.train()
    trained.models = interrupt.value.models
    n_epochs = trained.count_epochs()
    assert max(n_epochs) - min(n_epochs) <= 1
    assert sum(n_epochs) == n_steps // 3 * size  # an epoch has three steps
    for i, n in enumerate(n_epochs):
        (expected,) = alone(BackpropRegressor, differences[i : i + 1], until=n)
        assert_same_fits(trained.fitted()[i : i + 1], [expected])


def test_ctrl_c_keeps_networks_that_have_ended(monkeypatch):
    differences = [{"tol": 10.0, "n_iter_no_change": 1}, {}, {"random_state": 4}]
    whole = Trained(BackpropRegressor, differences).fitted()
    press_ctrl_c(monkeypatch, "adam", 3 * 5 + 1)
    trained = Trained(BackpropRegressor, differences, until=0)
    with pytest.raises(TrainingInterrupted) as interrupt:
        trained.train()
    trained.models = interrupt.value.models
    assert trained.stop_reasons() == ["converged", "interrupted", "interrupted"]
    assert trained.count_epochs() == [3, 5, 5]
    assert_same_fits(trained.fitted()[:1], whole[:1])


def test_an_error_in_one_of_several_threads_leaves_none_running(monkeypatch):
    cut_stacks(monkeypatch, 2, n_threads=2)
    press_ctrl_c(monkeypatch, "adam", 5)
    n_threads = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        quick(BackpropRegressor, n_estimators=4).fit(*data_for(BackpropRegressor))
    assert threading.active_count() == n_threads
