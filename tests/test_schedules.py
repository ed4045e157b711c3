"""Learning rates of all schedules, scikit-learn's stopping rules, and the progress of training."""

import copy
import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from sklearn.neural_network import MLPRegressor
from sklearn.neural_network._stochastic_optimizers import SGDOptimizer

from skbackprop import BackpropRegressor, EarlyStopping, schedules
from skbackprop.optimizers import OPTIMIZERS
from skbackprop.schedules import (
    SCHEDULES,
    Adaptive,
    ConstantRate,
    CosineDecay,
    ExponentialDecay,
    InverseScaling,
    LambdaSchedule,
    LearningRateSchedule,
    LinearWarmup,
    OneCycle,
    ReduceOnPlateau,
    StepDecay,
)
from skbackprop.utils.configurable import stack_settings
from support import few_epochs, quick, some_parameters, value_data
from support.stacks import assert_same_bits, per_member, public_kinds, variants, without_formula

pytestmark = few_epochs

VARIANTS = variants(SCHEDULES)

# Losses on a coarse grid, so that ties and improvements of just tol occur.
losses_of_epochs = st.lists(st.integers(0, 8).map(lambda n: n / 4), min_size=1, max_size=40)


def record(schedule, base, monitored, n_rows=50):
    """Return the rate of each epoch and the answers of may_stop after it, a column a member."""
    base = np.array(base, dtype=float)[:, None]
    state = schedule.init(len(base))
    rates, may_stop = [], []
    for epoch, values in enumerate(monitored, start=1):
        rates.append(schedule.rate(state, base, (epoch - 1) / len(monitored)).copy())
        n_samples_seen = np.full(base.shape, epoch * n_rows)
        schedule.on_epoch_end(state, base, np.array(values, dtype=float)[:, None], n_samples_seen)
        may_stop.append(schedule.may_stop(state, len(base)).copy())
    return np.array(rates), np.array(may_stop), state


def rates_of(schedule, n_epochs, base=1.0):
    """Return the rates of so many epochs without progress in their losses."""
    return record(schedule, [base], [[1.0]] * n_epochs)[0].ravel()


def test_table_is_complete_and_every_docstring_has_a_formula():
    kinds = public_kinds(schedules, LearningRateSchedule)
    assert kinds == {*SCHEDULES.values(), LambdaSchedule, LinearWarmup}
    assert without_formula(kinds) == set()


# ----------------------------------------------------------------------- scikit-learn's


class TheirCourse:
    """scikit-learn's training, epoch by epoch, with scores instead of a network."""

    def __init__(self, rule, rate, tol, n_iter_no_change):
        self.optimizer = SGDOptimizer([], rate, rule, power_t=0.3)
        self.network = MLPRegressor(tol=tol, n_iter_no_change=n_iter_no_change)
        self.network.validation_scores_, self.network.best_validation_score_ = [], -np.inf
        self.network.coefs_, self.network.intercepts_ = [], []
        self.network._no_improvement_count = 0
        self.t = 0

    def on_epoch_end(self, score):
        """Return whether training stops."""
        network = self.network
        network._score = lambda *_, sample_weight: score
        network._update_no_improvement_count(True, None, None, None)
        self.t += 50
        self.optimizer.iteration_ends(self.t)
        stalled = network._no_improvement_count > network.n_iter_no_change
        stopped = stalled and self.optimizer.trigger_stopping("", verbose=False)
        if stalled and not stopped:
            network._no_improvement_count = 0
        return stopped


def recording(schedule, rates):
    """Return a schedule that appends the rate of each epoch to a list."""

    class Recording(type(schedule)):
        def rate(self, state, base, progress):
            rates.append(super().rate(state, base, progress).item())
            return super().rate(state, base, progress)

    return Recording(**schedule.get_params(deep=False))


@settings(max_examples=50)
@example(scores=[0.5] * 6, patience=1, tol=0.25, rule="adaptive", rate=1e-6)
@given(
    scores=losses_of_epochs,
    patience=st.integers(1, 4),
    tol=st.sampled_from([0.0, 0.25, 0.3]),
    rule=st.sampled_from(["constant", "invscaling", "adaptive"]),
    rate=st.sampled_from([0.1, 2e-5, 1e-6]),
)
def test_rates_and_stopping_are_those_of_scikit_learn(scores, patience, tol, rule, rate):
    theirs, their_rates = TheirCourse(rule, rate, tol, patience), []
    for score in scores:
        their_rates.append(theirs.optimizer.learning_rate)
        if theirs.on_epoch_end(score):
            break
    schedule = {
        "constant": ConstantRate(),
        "invscaling": InverseScaling(0.3),
        "adaptive": Adaptive(tol, patience),
    }[rule]
    values, rates = iter(scores), []
    ours = BackpropRegressor(
        (),
        solver="sgd",
        learning_rate=recording(schedule, rates),
        learning_rate_init=rate,
        early_stopping=EarlyStopping(
            lambda *_: next(values), 50, n_iter_no_change=patience, tol=tol
        ),
        max_iter=len(scores),
    ).fit(np.zeros((100, 1)), np.zeros(100))
    np.testing.assert_allclose(rates, their_rates, rtol=1e-12)
    assert ours.n_iter_ == len(their_rates)
    assert ours.best_validation_score_ == max(scores[: ours.n_iter_])


# ------------------------------------------------------------------------------- by hand

HALF_WAY_DOWN = (1 + math.sqrt(0.5)) / 2  # of half a cosine, after a quarter of it


@pytest.mark.parametrize(
    "schedule, shares",
    [
        (CosineDecay(), [1, HALF_WAY_DOWN, 0.5, 1 - HALF_WAY_DOWN]),
        (CosineDecay(final_factor=1), [1, 1, 1, 1]),
        (OneCycle(warmup_fraction=0.25, start_factor=0, final_factor=0), [0, 1, 0.75, 0.25]),
        (OneCycle(warmup_fraction=0, final_factor=0), [1, HALF_WAY_DOWN, 0.5, 1 - HALF_WAY_DOWN]),
        (OneCycle(warmup_fraction=1, start_factor=0), [0, 1 - HALF_WAY_DOWN, 0.5, HALF_WAY_DOWN]),
        (StepDecay(), [1, 1, 0.1, 0.01]),
        (StepDecay(factor=0.5, milestones=0.25), [1, 0.5, 0.5, 0.5]),
        (StepDecay(milestones=()), [1, 1, 1, 1]),
        (ExponentialDecay(final_factor=1), [1, 1, 1, 1]),
    ],
    ids=str,
)
def test_rates_in_each_quarter_of_training(schedule, shares):
    rates, may_stop, state = record(schedule, [0.3, 0.1], [[1, 1]] * 4)
    np.testing.assert_allclose(rates[:, 0, 0], 0.3 * np.array(shares), rtol=1e-14, atol=1e-17)
    np.testing.assert_allclose(rates[:, 1, 0], 0.1 * np.array(shares), rtol=1e-14, atol=1e-17)
    assert may_stop.all() and state == {}


@pytest.mark.parametrize("n_epochs", [1, 2, 7, 30])
def test_rates_are_those_of_the_published_formulas(n_epochs):
    """As they are written there: in epochs, between a largest and a smallest rate."""
    epochs, largest = np.arange(n_epochs), 0.3

    # Loshchilov & Hutter (2017), equation 5.
    smallest = 0.01 * largest
    cosine = smallest + 0.5 * (largest - smallest) * (1 + np.cos(np.pi * epochs / n_epochs))
    np.testing.assert_allclose(rates_of(CosineDecay(0.01), n_epochs, largest), cosine, rtol=1e-13)
    # The same factor in every epoch, so that n of them make `final`.
    decay = np.cumprod([1, *[0.05 ** (1 / n_epochs)] * (n_epochs - 1)])
    np.testing.assert_allclose(
        rates_of(ExponentialDecay(0.05), n_epochs, largest), largest * decay, rtol=1e-13
    )
    # Two legs, each annealed along half a cosine.
    bounds = 0.4 * n_epochs
    rise, fall = epochs / bounds, (epochs - bounds) / (n_epochs - bounds)
    up = largest / 25 + (largest - largest / 25) / 2 * (1 + np.cos(np.pi * (1 + rise)))
    down = largest / 1e3 + (largest - largest / 1e3) / 2 * (1 + np.cos(np.pi * fall))
    expected = np.where(epochs < bounds, up, down)
    np.testing.assert_allclose(
        rates_of(OneCycle(0.4, 1 / 25, 1e-3), n_epochs, largest), expected, rtol=1e-13
    )
    # Milestones, at an epoch each.
    milestones = [math.ceil(0.3 * n_epochs), math.ceil(0.6 * n_epochs)]
    stepped = [largest * 0.2 ** sum(m <= epoch for m in milestones) for epoch in epochs]
    np.testing.assert_allclose(
        rates_of(StepDecay(0.2, (0.3, 0.6)), n_epochs, largest), stepped, rtol=1e-13
    )


@given(
    monitored=losses_of_epochs,
    factor=st.sampled_from([0.5, 0.1, 1.0]),
    patience=st.integers(0, 4),
    tol=st.sampled_from([0.0, 0.25, 0.3]),
    smallest=st.sampled_from([0.0, 0.02, 0.5]),
)
def test_plateau_is_the_rule_written_out(monitored, factor, patience, tol, smallest):
    rate, best, n_bad, expected = 0.1, math.inf, 0, []
    for value in monitored:
        expected.append(rate)
        n_bad = 0 if value <= best - tol else n_bad + 1
        best = min(best, value)
        if n_bad > patience:
            rate, n_bad = max(rate * factor, min(smallest, 0.1)), 0
    schedule = ReduceOnPlateau(factor, patience, tol, smallest)
    rates, may_stop, _ = record(schedule, [0.1], [[value] for value in monitored])
    np.testing.assert_allclose(rates.ravel(), expected, rtol=1e-12)
    assert may_stop.all()


# ------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "milestones", [1.0, [0.5, 1.0], [-0.1], "ab", None, [math.nan], [None]], ids=repr
)
def test_raises_on_wrong_milestones(milestones):
    with pytest.raises(ValueError, match="^milestones of StepDecay must be numbers"):
        StepDecay(milestones=milestones)


# ------------------------------------------------------------------------- in estimators


@pytest.mark.parametrize("solver", OPTIMIZERS)
def test_at_a_rate_of_zero_nothing_moves_and_training_goes_on(solver):
    X, y = value_data()
    init = some_parameters(4, 5, 1)
    params = {"solver": solver, "learning_rate": OneCycle(0.4, start_factor=0.0), "max_iter": 10}
    model = quick(BackpropRegressor, init=init, **params).partial_fit(X, y)
    for weights, initial in zip(model.coefs_, init[0], strict=True):
        np.testing.assert_array_equal(weights, initial)
    first = model.loss_
    for _ in range(9):
        model.partial_fit(X, y)
    assert np.isfinite(model.loss_) and model.loss_ < first


def test_plateau_leaves_the_end_of_training_to_its_stopping_rule(capsys):
    """With tol=10 no epoch but the first is progress: a tenth of the rate, then the end."""
    X, y = value_data()
    seen = []
    params = {"tol": 10, "n_iter_no_change": 6, "max_iter": 30, "verbose": True}
    schedule = recording(ReduceOnPlateau(tol=10, patience=3), seen)
    model = quick(BackpropRegressor, learning_rate=schedule, learning_rate_init=0.01, **params)
    assert model.fit(X, y).n_iter_ == 8
    np.testing.assert_allclose(seen[:8], [0.01] * 5 + [0.001] * 3)
    assert capsys.readouterr().out.endswith("for 6 consecutive epochs. Stopping.\n")


# ------------------------------------------------------- warmup, and functions of progress

X, Y = value_data()
EXACT = {"n_iter_no_change": np.inf}  # as many epochs as are asked for


def falls(progress):
    return 1 - progress


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
# Members of one kind, with numbers of their own. Warm-ups have them, and the schedule within.
WARM = [(0.1, 0.2), (0.5, 0.0), (0.3, 0.7)]
STACKS = {
    **{name: [per_member(kind, [f]) for f in (1.0, 0.5, 0.3)] for name, kind in VARIANTS.items()},
    **{f"warm {name}": [LinearWarmup(kind, *own) for own in WARM] for name, kind in KINDS.items()},
    "cosines": [LinearWarmup(CosineDecay(final), 0.3, final) for final in (0.1, 0.3, 0.3)],
}


@pytest.mark.parametrize("members", STACKS.values(), ids=STACKS)
def test_a_member_with_settings_of_its_own_equals_the_member_alone(members):
    base = [0.1, 0.2, 4e-6]
    monitored = np.random.RandomState(0).randint(3, size=(40, 3))
    rates, may_stop, state = record(stack_settings(members), base, monitored)
    for i, member in enumerate(members):
        own = slice(i, i + 1)
        alone = record(member, base[own], monitored[:, own])
        assert_same_bits(rates[:, own], alone[0], f"rates of member {i}")
        assert_same_bits(may_stop[:, own], alone[1], f"may_stop of member {i}")
        for name, array in alone[2].items():
            assert_same_bits(state[name][own], array, f"{name} of member {i}")


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
def test_warmup_multiplies_the_rate_of_the_schedule(schedule):
    factor = np.array([0.1 + 0.9 * epoch / 6 for epoch in range(6)] + [1] * 24)
    warm = LinearWarmup(schedule, warmup_fraction=0.2, start_factor=0.1)
    np.testing.assert_allclose(rates_of(warm, 30), factor * rates_of(schedule, 30), rtol=1e-14)
    assert warm.init(3).keys() == schedule.init(3).keys()
    may_stop = warm.may_stop(warm.init(3), 3)
    np.testing.assert_array_equal(may_stop, schedule.may_stop(schedule.init(3), 3))


# ------------------------------------------------------------------------------ settings


def test_a_name_is_the_schedule_with_its_defaults():
    for name, kind in SCHEDULES.items():
        assert LinearWarmup(name) == LinearWarmup(kind())
    assert LinearWarmup(falls) == LinearWarmup(LambdaSchedule(falls))


@pytest.mark.parametrize("schedule", ["cosin", None, 0.5, CosineDecay, ["cosine"]], ids=repr)
def test_raises_on_invalid_schedule(schedule):
    with pytest.raises(ValueError, match="schedule must be one of 'constant', .*got"):
        LinearWarmup(schedule)


def test_raises_on_function_that_is_not_callable():
    with pytest.raises(ValueError, match="function of LambdaSchedule must be a callable"):
        LambdaSchedule(0.5)


# ----------------------------------------------------------------- functions that go wrong


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -0.1, None, "1", 1j, [1.0]], ids=repr)
def test_raises_on_invalid_factor_and_changes_nothing(wrong):
    def turns_wrong(progress):
        return 1.0 if progress < 0.5 else wrong

    for wrap in (lambda function: function, LambdaSchedule, LinearWarmup):
        model = quick(BackpropRegressor, warm_start=True, **EXACT).fit(X, Y)
        before, losses = copy.deepcopy(model.coefs_), list(model.loss_curve_)
        model.set_params(learning_rate=wrap(turns_wrong))
        with pytest.raises(
            ValueError, match=r"turns_wrong.* returned .* at progress 0\.6"
        ) as error:
            model.fit(X, Y)
        assert f"returned {wrong!r} at" in str(error.value)
        assert [*map(repr, model.coefs_)] == [*map(repr, before)]
        assert model.loss_curve_ == losses


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


# ------------------------------------------------------------------------- what is printed


def test_the_rate_that_is_printed_is_that_of_the_next_epoch(capsys):
    """With tol=10 no epoch but the first is progress: a fifth of the rate after the fourth."""
    params = {"tol": 10, "n_iter_no_change": 2, "max_iter": 10, "verbose": True}
    schedule = LinearWarmup(
        Adaptive(tol=10, n_iter_no_change=2), warmup_fraction=0.5, start_factor=0
    )
    quick(BackpropRegressor, learning_rate=schedule, learning_rate_init=0.1, **params).fit(X, Y)
    said = [line for line in capsys.readouterr().out.splitlines() if "Setting" in line]
    rates = [float(line.rpartition(" ")[2]) for line in said]
    # After four epochs the warm-up is at 0.4 / 0.5; after seven and ten it is over.
    np.testing.assert_allclose(rates, [0.1 / 5 * 0.8, 0.1 / 25, 0.1 / 125], rtol=1e-12)
