"""Tests of LinearWarmup, LambdaSchedule and the progress that schedules see.

The progress is that of a fit, of calls of `partial_fit`, of ensembles and of searches.
"""

import copy
import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from skbackprop import BackpropClassifier, BackpropGridSearchCV, BackpropRegressor
from skbackprop.schedules import (
    SCHEDULES,
    Adaptive,
    ConstantRate,
    CosineDecay,
    InverseScaling,
    LambdaSchedule,
    LinearWarmup,
    OneCycle,
    ReduceOnPlateau,
    StepDecay,
)
from skbackprop.utils.configurable import stack_settings
from support import (
    assert_same_network,
    assert_same_search,
    bits,
    class_data,
    few_epochs,
    outcome,
    quick,
    same_bits,
    value_data,
)
from support.stacks import assert_same_bits

X, Y = value_data()
LABELS = class_data()
EXACT = {"n_iter_no_change": np.inf}  # as many epochs as are asked for


def falls(progress):
    return 1 - progress


@dataclass(frozen=True)
class Falls:
    """A function of progress with a setting."""

    power: float = 1.0

    def __call__(self, progress):
        return (1 - progress) ** self.power


# One of each kind, the named ones with numbers that let them act within a few epochs.
KINDS = {
    **{name: kind() for name, kind in SCHEDULES.items()},
    "adaptive": Adaptive(tol=10, n_iter_no_change=2),
    "plateau": ReduceOnPlateau(tol=10, patience=1),
    "function": LambdaSchedule(falls),
    "warm cosine": LinearWarmup("cosine", 0.4),
    "warm adaptive": LinearWarmup(Adaptive(tol=10, n_iter_no_change=2), 0.4),
    "warm plateau": LinearWarmup(ReduceOnPlateau(tol=10, patience=1), 0.2, start_factor=0),
    "warm function": LinearWarmup(falls),
    "twice warm": LinearWarmup(LinearWarmup("step", 0.2), 0.4),
}
every_kind = pytest.mark.parametrize("schedule", KINDS.values(), ids=KINDS)


def rates_of(schedule, n_epochs, base=1.0):
    """Return the rates of so many epochs without progress in their losses."""
    base, state, rates = np.array([[base]]), schedule.init(1), []
    for epoch in range(n_epochs):
        rates.append(schedule.rate(state, base, epoch / n_epochs).item())
        schedule.on_epoch_end(state, base, np.ones((1, 1)), np.full((1, 1), 50.0 * (epoch + 1)))
    return np.array(rates)


# ------------------------------------------------------------------------ rates, by hand


@pytest.mark.parametrize(
    "schedule, rates",
    [
        (LinearWarmup(warmup_fraction=0.5, start_factor=0.2), [0.2, 0.4, 0.6, 0.8, 1, 1, 1, 1]),
        (LinearWarmup(warmup_fraction=0.5, start_factor=0), [0, 0.25, 0.5, 0.75, 1, 1, 1, 1]),
        (LinearWarmup(warmup_fraction=1, start_factor=0), np.arange(8) / 8),
        (LinearWarmup(warmup_fraction=0), [1] * 8),
        (
            LinearWarmup(StepDecay(milestones=[0.25, 0.5]), 0.5, 0),
            [0, 0.25, 0.05, 0.075, 0.01, 0.01, 0.01, 0.01],
        ),
        (LinearWarmup(falls, 0.25, 0), [0, 0.5 * 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125]),
        (LambdaSchedule(falls), 1 - np.arange(8) / 8),
        (LambdaSchedule(lambda progress: 3), [3] * 8),
        (LambdaSchedule(lambda progress: np.float32(0.5)), [0.5] * 8),
    ],
)
def test_rates(schedule, rates):
    np.testing.assert_allclose(rates_of(schedule, 8), rates, rtol=1e-14)
    np.testing.assert_allclose(rates_of(schedule, 8, 0.3), 0.3 * np.array(rates), rtol=1e-14)


@pytest.mark.parametrize("schedule", [kind() for kind in SCHEDULES.values()], ids=SCHEDULES)
def test_a_warm_up_is_a_factor_and_the_schedule_goes_its_own_way(schedule):
    factor = np.array([0.1 + 0.9 * epoch / 6 for epoch in range(6)] + [1] * 24)
    warm = LinearWarmup(schedule, warmup_fraction=0.2, start_factor=0.1)
    np.testing.assert_allclose(rates_of(warm, 30), factor * rates_of(schedule, 30), rtol=1e-14)
    assert warm.convergence_message == schedule.convergence_message
    assert warm.init(3).keys() == schedule.init(3).keys()
    may_stop = warm.may_stop(warm.init(3), 3)
    np.testing.assert_array_equal(may_stop, schedule.may_stop(schedule.init(3), 3))


@every_kind
def test_members_with_settings_of_their_own_equal_each_alone(schedule):
    """Numbers of the warm-up and of the schedule within differ from member to member."""
    warm = [
        LinearWarmup(schedule, length, start)
        for length, start in [(0.1, 0.2), (0.5, 0.0), (0.3, 0.7)]
    ]
    warm += [LinearWarmup(CosineDecay(0.1)), LinearWarmup(CosineDecay(0.3), 0.7)]
    base = np.array([[0.3]])
    for members in (warm[:3], warm[3:]):
        n = len(members)
        joined = stack_settings(members)
        state, monitored = joined.init(n), np.ones((n, 1))
        alone = [rates_of(member, 10, 0.3) for member in members]
        for epoch in range(10):
            rates = joined.rate(state, np.repeat(base, n, axis=0), epoch / 10)
            assert_same_bits(rates, np.array([[own[epoch]] for own in alone]))
            joined.on_epoch_end(state, rates, monitored, np.full((n, 1), 50.0 * (epoch + 1)))


# ------------------------------------------------------------------------------ settings


def test_a_name_is_the_schedule_with_its_defaults():
    for name, kind in SCHEDULES.items():
        assert LinearWarmup(name) == LinearWarmup(kind())
    assert LinearWarmup(falls) == LinearWarmup(LambdaSchedule(falls))


@pytest.mark.parametrize("schedule", ["cosin", None, 0.5, CosineDecay, ["cosine"]], ids=repr)
def test_what_is_no_schedule_is_an_error_that_lists_the_names(schedule):
    with pytest.raises(ValueError, match=r"schedule must be one of the names \['adaptive', .*got"):
        LinearWarmup(schedule)


def test_a_class_in_the_place_of_an_instance_is_an_error_that_names_the_parameter():
    with pytest.raises(ValueError, match="^learning_rate must be one of the names"):
        quick(BackpropRegressor, learning_rate=CosineDecay).fit(X, Y)


@pytest.mark.parametrize(
    "changes", [{"warmup_fraction": 1.1}, {"warmup_fraction": -0.1}, {"start_factor": 2}], ids=str
)
def test_a_setting_out_of_its_range_is_an_error(changes):
    with pytest.raises(ValueError, match=r"of LinearWarmup must be a number in the range \[0, 1\]"):
        LinearWarmup(**changes)


def test_a_function_has_to_be_one():
    with pytest.raises(ValueError, match="function of LambdaSchedule must be a callable"):
        LambdaSchedule(0.5)


@every_kind
def test_schedules_survive_copies(schedule):
    model = BackpropClassifier(learning_rate=schedule)
    for twin in (clone(model), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)):
        assert twin.learning_rate == schedule


# ----------------------------------------------------------------- functions that go wrong


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -0.1, None, "1", 1j, [1.0]], ids=repr)
@pytest.mark.parametrize("wrap", [lambda function: function, LambdaSchedule, LinearWarmup])
def test_what_is_no_share_of_the_rate_is_an_error_that_leaves_all_as_it_was(wrong, wrap):
    model = quick(BackpropRegressor, warm_start=True, **EXACT).fit(X, Y)
    before, losses = copy.deepcopy(vars(model)), list(model.loss_curve_)

    def turns_wrong(progress):
        return 1.0 if progress < 0.5 else wrong

    model.set_params(learning_rate=wrap(turns_wrong))
    with pytest.raises(ValueError, match=r"turns_wrong.* returned .* at progress 0\.6") as error:
        model.fit(X, Y)
    assert f"returned {wrong!r} at" in str(error.value)
    assert [*map(repr, model.coefs_)] == [*map(repr, before["coefs_"])]
    assert model.loss_curve_ == losses
    # It goes on as if the failed fit had never been: stream, moments and order are as they were.
    other = quick(BackpropRegressor, warm_start=True, **EXACT).fit(X, Y).fit(X, Y)
    assert same_bits(model.set_params(learning_rate="constant").fit(X, Y), other)


def fails(progress):
    raise ZeroDivisionError("a function of the user's own")


@pytest.mark.long
@few_epochs
@pytest.mark.parametrize("wrong", [lambda progress: -1, fails], ids=["negative", "raises"])
def test_in_a_search_a_wrong_function_fails_its_own_candidate_alone(wrong):
    model = quick(BackpropRegressor)
    grid = {"learning_rate": ["cosine", wrong, falls], "learning_rate_init": [0.01, 0.1]}
    found, said = outcome(BackpropGridSearchCV(model, grid, scoring=bits, cv=2), X, Y)
    expected, also_said = outcome(GridSearchCV(model, grid, scoring=bits, cv=2), X, Y)
    assert_same_search(found, expected)
    assert said == also_said
    failed = np.isnan(found.cv_results_["mean_test_score"])
    assert failed.tolist() == [False] * 2 + [True] * 2 + [False] * 2


# ------------------------------------------------------------------------ what progress is


def recorder():
    """Return a function of progress, and the list of what it is called with."""
    seen = []

    def function(progress):
        assert type(progress) is float
        seen.append(progress)
        return 1.0

    return function, seen


def test_progress_of_a_fit_is_the_epochs_done_over_the_epochs_asked_for():
    function, seen = recorder()
    model = quick(BackpropRegressor, learning_rate=function, max_iter=4, warm_start=True, **EXACT)
    model.fit(X, Y)
    assert seen == [0, 0.25, 0.5, 0.75]
    model.set_params(max_iter=np.int64(2)).fit(X, Y)  # a warm start begins again
    assert seen[4:] == [0, 0.5]


def test_partial_fit_counts_on_and_stays_where_its_last_epoch_was():
    function, seen = recorder()
    model = quick(BackpropRegressor, learning_rate=function, max_iter=3)
    for _ in range(5):
        model.partial_fit(X, Y)
    assert seen == [0, 1 / 3, 2 / 3, 2 / 3, 2 / 3]
    model.set_params(max_iter=10).partial_fit(X, Y)
    assert seen[5:] == [0.5]  # five of ten
    model.set_params(**EXACT).fit(X, Y)
    del seen[:]
    model.partial_fit(X, Y).partial_fit(X, Y)
    assert seen == [0, 0.1]  # after a fit, its own course begins


def test_a_call_that_fails_is_not_counted():
    seen, is_failing = [], []

    def function(progress):
        seen.append(progress)
        return -1 if is_failing else 1

    model = quick(BackpropRegressor, learning_rate=function, max_iter=4)
    model.partial_fit(X, Y)
    is_failing.append(True)
    for _ in range(2):
        with pytest.raises(ValueError, match="returned -1 at progress 0.25"):
            model.partial_fit(X, Y)
    is_failing.clear()
    model.partial_fit(X, Y).partial_fit(X, Y)
    assert seen == [0, 0.25, 0.25, 0.25, 0.5]


@every_kind
@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("n_estimators", [1, 3])
def test_calls_of_partial_fit_equal_one_fit_of_as_many_epochs(n_estimators, solver, schedule):
    """To the bit, also with a trip through a pickle between them."""
    settings = {"solver": solver, "learning_rate": schedule, "n_estimators": n_estimators}
    settings |= {"batch_size": 25, "max_iter": 9, "learning_rate_init": 0.02} | EXACT
    whole = quick(BackpropRegressor, **settings).fit(X, Y)
    session = quick(BackpropRegressor, **settings)
    for call in range(9):
        session.partial_fit(X, Y)
        if call == 4:
            session = pickle.loads(pickle.dumps(session))
    assert same_bits(session, whole)
    np.testing.assert_array_equal(session.t_, whole.t_)


@every_kind
def test_the_first_member_of_an_ensemble_is_the_network_alone(schedule):
    settings = {"learning_rate": schedule, "learning_rate_init": 0.1} | EXACT
    alone = quick(BackpropClassifier, **settings).fit(*LABELS)
    ensemble = quick(BackpropClassifier, n_estimators=5, **settings).fit(*LABELS)
    assert_same_network(ensemble.estimators_[0], alone, rtol=0, atol=0)


@pytest.mark.long
@few_epochs
@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_a_search_over_schedules_is_scikit_learns_to_the_bit(solver):
    """Each kind trains in a stack of its own, with several members of a kind; some stop early."""
    schedules = [
        *KINDS.values(),
        *SCHEDULES,
        LinearWarmup(CosineDecay(0.3), 0.2),
        LinearWarmup(Adaptive(tol=0.1, n_iter_no_change=1), 0.1),
        StepDecay(milestones=[0.3]),
        InverseScaling(0.1),
        Falls(),
        Falls(2.0),
        LinearWarmup(Falls(2.0)),
    ]
    model = quick(BackpropRegressor, solver=solver, tol=0.05, n_iter_no_change=2, max_iter=12)
    grid = {"learning_rate": schedules, "learning_rate_init": [0.03, 0.1]}
    found = BackpropGridSearchCV(model, grid, scoring=bits, cv=2, refit=False).fit(X, Y)
    expected = GridSearchCV(model, grid, scoring=bits, cv=2, refit=False).fit(X, Y)
    assert_same_search(found, expected)
    scores = found.cv_results_["mean_test_score"]
    assert len(set(scores.tolist())) > len(scores) // 2


# ------------------------------------------------------------------------- what is printed


@few_epochs
def test_the_rate_that_is_printed_is_that_of_the_next_epoch(capsys):
    """With tol=10 no epoch but the first is progress: a fifth of the rate after the fourth."""
    settings = {"tol": 10, "n_iter_no_change": 2, "max_iter": 10, "verbose": True}
    schedule = LinearWarmup(
        Adaptive(tol=10, n_iter_no_change=2), warmup_fraction=0.5, start_factor=0
    )
    quick(BackpropRegressor, learning_rate=schedule, learning_rate_init=0.1, **settings).fit(X, Y)
    said = [line for line in capsys.readouterr().out.splitlines() if "Setting" in line]
    rates = [float(line.rpartition(" ")[2]) for line in said]
    # After four epochs the warm-up is at 0.4 / 0.5; after seven and ten it is over.
    np.testing.assert_allclose(rates, [0.1 / 5 * 0.8, 0.1 / 25, 0.1 / 125], rtol=1e-12)


def test_a_constant_warm_up_ends_at_the_base_rate():
    assert LinearWarmup() == LinearWarmup(ConstantRate(), 0.05, 0.1)
    assert rates_of(LinearWarmup(OneCycle(0.5, start_factor=1)), 100)[5:50].tolist() == [1.0] * 45
