"""Does each run of a stack end as if it had been trained alone, whatever the others do?

Runs come from estimators that are about to be fitted. They differ in all in which runs of one
stack may, and on the same data and seed they share what is equal.
"""

import threading
from dataclasses import replace

import numpy as np
import pytest
from sklearn.exceptions import ConvergenceWarning

from skbackprop import BackpropClassifier, BackpropRegressor
from skbackprop.estimators._fit_context import FitArguments
from skbackprop.estimators.base import make_fit_context
from skbackprop.optimizers import OPTIMIZERS, AMSGrad
from skbackprop.schedules import SCHEDULES
from skbackprop.training import loop as loop_module
from skbackprop.training import parallelism as sizes_module
from skbackprop.training.loop import StochasticTraining
from skbackprop.training.training_run import evaluate_validation
from support import BOTH, classes_for, data_for, few_epochs, same_bits
from support.runs import N_ROWS, SHARED, assert_same_run, finished, runs_of, train_runs
from support.stacks import Falling

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

STOCHASTIC = {
    "sgd": {"solver": "sgd"},
    "momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "adam": {},
    "in order": {"shuffle": False},
    "early stopping": {"early_stopping": True, "validation_fraction": 0.3},
}
every_setting = pytest.mark.parametrize("settings", STOCHASTIC.values(), ids=STOCHASTIC)
every_solver = pytest.mark.parametrize("solver", [*OPTIMIZERS, "lbfgs"])
one_table_or_many = pytest.mark.parametrize("is_shared", [True, False], ids=["one table", "many"])

# What runs of one stack may differ in: the first two do in nothing.
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


def assert_each_as_alone(runs, alone):
    """Train the runs of `alone` one by one, and assert that the others ended like them."""
    for i, (run, expected) in enumerate(zip(runs, alone, strict=True)):
        assert train_runs([expected]) is None
        assert_same_run(run, expected, f"of run {i}")


# ---------------------------------------------------------------- each run as if it were alone


@pytest.mark.long
@BOTH
@one_table_or_many
@every_setting
def test_runs_of_a_stack_match_runs_alone(settings, is_shared, estimator_class):
    runs, alone = (
        runs_of(estimator_class, DIFFERENCES, settings, is_shared=shared)
        for shared in (is_shared, False)
    )
    finished(StochasticTraining(runs))
    assert_each_as_alone(runs, alone)
    assert len({run.n_iter for run in runs}) > 1


@pytest.mark.parametrize("learning_rate", SCHEDULES)
def test_runs_may_have_different_schedules(learning_rate):
    settings = {"solver": "sgd", "max_iter": 40}
    of_runs = [
        {"learning_rate": learning_rate, "learning_rate_init": rate, "tol": tol}
        | {"n_iter_no_change": patience}
        | ({"power_t": tol} if learning_rate == "invscaling" else {})
        for rate, tol, patience in [(0.1, 0.3, 2), (0.02, 0.1, 1), (1e-5, 0.5, 1), (0.1, 0.3, 7)]
    ]
    runs, alone = (runs_of(BackpropRegressor, of_runs, settings) for _ in range(2))
    finished(StochasticTraining(runs))
    assert_each_as_alone(runs, alone)


@BOTH
def test_a_run_continues_in_a_stack_from_its_own_state(estimator_class):
    """What `train` leaves in the state of one and of several is of the same kind."""
    data = data_for(estimator_class, N_ROWS)
    settings = SHARED | {"warm_start": True, "max_iter": 3}
    ends = []
    for is_together in (False, True):
        models = [estimator_class(alpha=alpha, **settings).fit(*data) for alpha in (0.1, 1.0)]
        runs = []
        for model in models:
            params, *checked = model._validate_fit(FitArguments(*data), True, False)
            starts = model._make_starts(params.config, checked[1].table)
            runs += model._make_runs(params.config, *checked, starts)
        for some in [runs] if is_together else [[run] for run in runs]:
            finished(StochasticTraining(some))
        ends.append(runs)
    for run, expected in zip(*ends, strict=True):
        assert_same_run(run, expected)


# --------------------------------------------------------------------------- what is shared


def test_equal_runs_on_one_table_share_order_and_stream():
    stack = StochasticTraining(
        runs_of(BackpropRegressor, [{}, {"alpha": 1.0}, {"random_state": 4}])
    ).stack
    assert stack.state.orders[0] is stack.state.orders[1] is not stack.state.orders[2]
    assert stack.state.rngs[0] is stack.state.rngs[1] is not stack.state.rngs[2]


@pytest.mark.parametrize(
    "changes, is_shared",
    [
        ({"random_state": 4}, True),
        ({"early_stopping": True}, True),
        ({"shuffle": False}, True),
        ({}, False),
    ],
    ids=["another seed", "rows held out", "no shuffling", "another table"],
)
def test_runs_with_different_rows_share_nothing(changes, is_shared):
    stack = StochasticTraining(runs_of(BackpropRegressor, [{}, changes], is_shared=is_shared)).stack
    assert stack.state.orders[0] is None or stack.state.orders[0] is not stack.state.orders[1]
    assert stack.state.rngs[0] is None or stack.state.rngs[0] is not stack.state.rngs[1]


def test_runs_keep_streams_and_orders_of_their_own():
    """One that goes on later does not take another with it."""
    runs = runs_of(BackpropRegressor, [{}, {}])
    rngs = [run.state.rngs[0] for run in runs]
    finished(StochasticTraining(runs))
    assert [run.state.rngs[0] for run in runs] == rngs
    assert rngs[0] is not rngs[1]
    for name in ("optimizer", "schedule"):
        states = [getattr(run.state, name).values() for run in runs]
        assert not any(map(np.shares_memory, *states)), name
    assert not np.shares_memory(*(run.state.orders[0] for run in runs))
    assert not np.shares_memory(*(run.parameters.theta for run in runs))


MT, PCG, SFC = np.random.MT19937, np.random.PCG64, np.random.SFC64


@pytest.mark.parametrize(
    "kinds", [(MT, MT, MT), (PCG, PCG, PCG), (SFC, SFC, SFC), (MT, PCG, PCG), (PCG, SFC, MT)]
)
def test_streams_of_any_bit_generator(kinds):
    def changes():
        seeds = 5, 5, 6
        bits = [kind(seed) for kind, seed in zip(kinds, seeds, strict=True)]
        return [{"random_state": np.random.RandomState(own)} for own in bits]

    runs, alone = (runs_of(BackpropRegressor, changes()) for _ in range(2))
    finished(StochasticTraining(runs))
    assert_each_as_alone(runs, alone)


@pytest.mark.parametrize("early_stopping", [True, False])
def test_joint_evaluation_matches_single_runs(early_stopping):
    changes = [{}, {}, {}, {}, {"random_state": 4}, {"early_stopping": False}, {}]
    settings = {"early_stopping": early_stopping}
    runs = runs_of(BackpropRegressor, changes, settings)
    runs[1].table = replace(runs[1].table, X=runs[1].table.X + 1)
    parameters = runs[0].parameters
    stacked = parameters.with_theta(np.concatenate([run.parameters.theta for run in runs]))
    losses = list(range(len(runs)))
    together = evaluate_validation(runs, losses, stacked)
    assert together == [
        evaluate_validation([run], [loss], run.parameters)[0]
        for run, loss in zip(runs, losses, strict=True)
    ]
    assert [result.validation_loss is None for result in together] == [
        run.validation_data is None for run in runs
    ]


def test_non_finite_predictions_score_nan():
    runs = runs_of(BackpropRegressor, [{}, {}], {"early_stopping": True})
    theta = np.concatenate([run.parameters.theta for run in runs])
    theta[0] = 1e300
    first, second = evaluate_validation(runs, [0.0, 0.0], runs[0].parameters.with_theta(theta))
    assert first.validation_loss == np.inf
    assert np.isnan(first.validation_score)
    assert np.isfinite(second).all()


@pytest.mark.parametrize("solver, patience", [("adam", 2), ("lbfgs", 20)])
def test_without_a_finite_score_training_ends_and_keeps_the_last_epoch(solver, patience):
    """The square of a target that is held out is more than a float can hold."""
    settings = SHARED | {"early_stopping": True, "n_iter_no_change": 2, "solver": solver}
    estimator, at_once = (
        BackpropRegressor(**settings | {"max_iter": n}) for n in (50, patience + 1)
    )
    X, y = data_for(BackpropRegressor, N_ROWS)
    (run,) = make_fit_context(estimator, FitArguments(X, y)).runs
    y[run.validation_data.rows[0]] = 1e200
    for each in (estimator, at_once):
        with pytest.warns(
            ConvergenceWarning, match=r"No epoch has a finite .*in the targets 1e\+200"
        ):
            each.fit(X, y)
    assert not np.isfinite(estimator.validation_scores_).any()
    assert estimator.n_iter_ == estimator.best_iter_ == patience + 1
    assert same_bits(estimator, at_once)


# --------------------------------------------------------------------- runs that fail or stop


DIVERGING = {"solver": "sgd", "activation": "identity"}


@one_table_or_many
@pytest.mark.parametrize("n_diverging", [1, 4])
@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early stopping"])
@pytest.mark.parametrize("schedule", ["constant", Falling()], ids=["constant", "falling"])
def test_diverging_runs_do_not_affect_others(schedule, early_stopping, n_diverging, is_shared):
    """Rates from high to low, so that they diverge in different epochs."""
    # R2 of predictions that are finite, but not their squares, would warn.
    estimator_class = BackpropClassifier if early_stopping else BackpropRegressor
    settings = DIVERGING | {"early_stopping": early_stopping, "learning_rate": schedule}
    rates = [0.01, *[1e150, 3e3, 1e8, 1e30][:n_diverging], 0.02, 0.005]
    changes = [{"learning_rate_init": rate} for rate in rates]
    runs = runs_of(estimator_class, changes, settings, is_shared=is_shared)
    alone = runs_of(estimator_class, changes, settings)
    finished(StochasticTraining(runs))
    assert_each_as_alone(runs, alone)
    diverged = [any("diverged" in text for text in [*r.warnings, str(r.error)]) for r in runs]
    assert diverged == [rate > 1 for rate in rates]


def test_all_runs_may_diverge():
    changes = [{"learning_rate_init": rate} for rate in (1e150, 1e100, 1e30)]
    runs = runs_of(BackpropRegressor, changes, DIVERGING)
    finished(StochasticTraining(runs))
    assert all(run.error is not None for run in runs)


@BOTH
@pytest.mark.parametrize("n_estimators", [1, 3])
def test_an_error_of_a_schedule_rolls_the_epoch_back(n_estimators, estimator_class, monkeypatch):
    """The random streams too: the next epoch has the order that this one had."""
    X, y = data_for(estimator_class, N_ROWS)
    settings = SHARED | {"learning_rate": Falling(), "n_estimators": n_estimators, "dropout": 0.2}
    model, expected = (estimator_class(**settings) for _ in range(2))
    for each in (model, expected):
        each.partial_fit(X, y, **classes_for(estimator_class))

    def raising(*arguments):
        raise RuntimeError("a schedule of the user's own")

    with monkeypatch.context() as context:
        context.setattr(Falling, "on_epoch_end", raising)
        with pytest.raises(RuntimeError, match="user's own"):
            model.partial_fit(X, y)
    for each in (model, expected):
        each.partial_fit(X, y)
    assert same_bits(model, expected)


# ----------------------------------------------------------------------------- several stacks


@pytest.mark.parametrize("settings", [{}, {"early_stopping": True}, {"average": "ema"}])
def test_runs_may_leave_the_stack_after_any_epoch(settings):
    """The losers of a comparison, say: each ends as if trained alone for as long as it was."""
    changes = [{"alpha": alpha, "n_iter_no_change": np.inf} for alpha in (0.0, 0.1, 0.2, 0.3)]
    runs, alone = (runs_of(BackpropClassifier, changes, settings) for _ in range(2))
    n_epochs, loop = [3, 12, 7, 3], StochasticTraining(runs)
    while loop.runs:
        loop.train_epoch()
        leave = [n_epochs[runs.index(run)] == loop.n_done for run in loop.runs]
        if loop.runs:
            loop.finish_members(np.array(leave), "converged")
    for run, expected, n in zip(runs, alone, n_epochs, strict=True):
        by_itself = StochasticTraining([expected])
        for _ in range(n):
            by_itself.train_epoch()
        by_itself.finish_all()
        assert run.n_iter == n
        assert_same_run(run, expected)


def cut_stacks(monkeypatch, size):
    """Let stacks hold so many members; the cache holds one at the least."""
    monkeypatch.setattr(loop_module, "max_stack_size", lambda *arguments: size)


@pytest.mark.long
@BOTH
@every_setting
@pytest.mark.parametrize("size, n_threads", [(1, 1), (2, 1), (4, 1), (2, 3)])
def test_several_stacks_match_one(size, n_threads, settings, estimator_class, monkeypatch):
    changes = [{"random_state": seed} for seed in range(5)]
    runs, expected = (runs_of(estimator_class, changes, settings) for _ in range(2))
    assert train_runs(expected) is None
    cut_stacks(monkeypatch, size)
    monkeypatch.setattr(loop_module, "threads_for_stacks", lambda: n_threads)
    assert train_runs(runs) is None
    for run, reference in zip(runs, expected, strict=True):
        assert_same_run(run, reference)


def test_an_error_in_one_of_several_threads_is_raised_and_leaves_none_running(monkeypatch):
    runs = runs_of(BackpropRegressor, [{"random_state": seed} for seed in range(4)])
    cut_stacks(monkeypatch, 2)
    monkeypatch.setattr(loop_module, "threads_for_stacks", lambda: 2)
    interrupt_step(monkeypatch, "adam", 5)
    n_threads = threading.active_count()
    assert isinstance(train_runs(runs), KeyboardInterrupt)
    assert threading.active_count() == n_threads


@pytest.mark.long
@pytest.mark.parametrize(
    "settings, n_moments",
    [
        ({"solver": "sgd"}, 1),
        ({}, 2),
        ({"solver": AMSGrad()}, 3),
        ({"average": "polyak"}, 3),
        ({"solver": "amsgrad", "average": "ema"}, 4),
    ],
    ids=str,
)
def test_stacks_are_as_large_as_the_cache_allows(settings, n_moments, monkeypatch):
    runs = runs_of(BackpropRegressor, [{}] * 9, settings)
    sizes = []
    monkeypatch.setattr(
        loop_module,
        "StochasticTraining",
        lambda some, *_: (sizes.append(len(some)), StochasticTraining(some))[1],
    )
    each = sizes_module.bytes_per_member(runs[0].network, SHARED["batch_size"], 8, n_moments)
    for n_estimators, expected in [(9, [9]), (8, [4, 5]), (4, [3, 3, 3]), (3, [1] * 9)]:
        monkeypatch.setattr(sizes_module, "CACHE_BYTES", n_estimators * each)
        train_runs(runs_of(BackpropRegressor, [{"max_iter": 1}] * 9, settings))
        assert sizes == expected
        sizes.clear()


def interrupt_step(monkeypatch, solver, n_steps):
    """Let Ctrl-C be pressed while a step is made, after so many."""
    step, steps = OPTIMIZERS[solver].step, []

    def interrupted(*arguments):
        step(*arguments)
        steps.append(1)
        if len(steps) == n_steps + 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(OPTIMIZERS[solver], "step", interrupted)


@pytest.mark.parametrize("solver", OPTIMIZERS)
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("n_steps", [0, 7, 16, 23])
def test_an_interrupt_leaves_whole_epochs_abreast(n_steps, size, solver, monkeypatch):
    changes = [{"random_state": seed} for seed in range(4)]
    runs = runs_of(BackpropRegressor, changes, {"solver": solver})
    cut_stacks(monkeypatch, size)
    with monkeypatch.context() as context:
        interrupt_step(context, solver, n_steps)
        assert isinstance(train_runs(runs), KeyboardInterrupt)
    assert max(run.n_iter for run in runs) - min(run.n_iter for run in runs) <= 1
    assert sum(run.n_iter for run in runs) == n_steps // 3 * size  # an epoch has three steps
    for run, changed in zip(runs, changes, strict=True):
        if run.n_iter:
            (alone,) = runs_of(
                BackpropRegressor, [changed], {"solver": solver, "max_iter": run.n_iter}
            )
            train_runs([alone])
            alone.warnings.clear()  # that its epochs are used up
        else:
            (alone,) = runs_of(BackpropRegressor, [changed], {"solver": solver})
        assert_same_run(run, alone)


def test_finished_runs_stay_finished_after_an_interrupt(monkeypatch):
    changes = [{"tol": 10.0, "n_iter_no_change": 1}, {}, {"random_state": 4}]
    runs, whole = (runs_of(BackpropRegressor, changes) for _ in range(2))
    train_runs(whole)
    with monkeypatch.context() as context:
        interrupt_step(context, "adam", 3 * 5 + 1)
        assert isinstance(train_runs(runs), KeyboardInterrupt)
    assert [run.n_iter for run in runs] == [3, 5, 5]
    assert_same_run(runs[0], whole[0])


# ------------------------------------------------------------------------------------ l-bfgs


@BOTH
@pytest.mark.parametrize("early_stopping", [False, True], ids=["", "early stopping"])
def test_lbfgs_trains_one_run_after_the_other(early_stopping, estimator_class):
    settings = {"solver": "lbfgs", "early_stopping": early_stopping}
    runs, alone = (runs_of(estimator_class, DIFFERENCES[:4], settings) for _ in range(2))
    assert train_runs(runs) is None
    assert_each_as_alone(runs, alone)


def test_diverging_lbfgs_runs_do_not_affect_others():
    changes = [{}, {"init": ([np.full((4, 1), 1e200)], [np.zeros(1)])}, {"random_state": 4}]
    settings = {"solver": "lbfgs", "hidden_layer_sizes": ()}
    runs, alone = (runs_of(BackpropRegressor, changes, settings) for _ in range(2))
    assert train_runs(runs) is None
    assert [run.error is not None for run in runs] == [False, True, False]
    assert_each_as_alone(runs[::2], alone[::2])
