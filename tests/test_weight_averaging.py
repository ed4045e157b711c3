"""Averages of weights over the steps of training, which training itself does not notice.

An optimizer that writes down the parameters after each of its steps gives the naive averages.
"""

import pickle
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from scipy import sparse
from sklearn.linear_model import SGDClassifier

from skbackprop import BackpropClassifier, BackpropRegressor, weight_averaging
from skbackprop.optimizers import SGD
from skbackprop.utils import arrays
from skbackprop.weight_averaging import (
    AVERAGES,
    ExponentialMovingAverage,
    PolyakAverage,
    WeightAverage,
)
from support import BOTH, class_data, data_for, few_epochs, grows_by_less, pairs, peak_of, same_bits
from support.stacks import (
    DTYPES,
    LOSSES,
    assert_same_bits,
    deep_network,
    five_members,
    public_kinds,
    trained,
    without_formula,
)

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

N_ROWS, M = 60, 3
SEVERAL = {
    "all steps": "polyak",
    "from row 70": PolyakAverage(start=70),
    "ema": ExponentialMovingAverage(decay=0.8),
}
SETTINGS = {
    "hidden_layer_sizes": (5,),
    "batch_size": 25,  # two full batches and a short one an epoch
    "max_iter": 6,
    "alpha": 0.01,
    "learning_rate_init": 0.05,
    "random_state": 3,
    "n_iter_no_change": np.inf,
}
every_average = pytest.mark.parametrize("average", SEVERAL.values(), ids=SEVERAL)


@dataclass(frozen=True)
class Recorded(SGD):
    """Gradient descent that writes down the parameters after each step."""

    steps: ClassVar[list[np.ndarray]] = []

    def step(self, theta, g, state, rate):
        super().step(theta, g, state, rate)
        self.steps.append(theta.copy())


@pytest.fixture
def steps():
    Recorded.steps.clear()
    return Recorded.steps


def naive(steps, average, batch_sizes):
    """Return the average of recorded steps, from its definition."""
    seen = np.cumsum(batch_sizes)
    average = AVERAGES[average]() if isinstance(average, str) else average
    if isinstance(average, ExponentialMovingAverage):
        shares = average.decay ** np.arange(len(steps))[::-1]
    else:
        shares = (seen >= average.start).astype(float)
    if not shares.any():
        return steps[-1]
    return np.average(np.array(steps, dtype=float), axis=0, weights=shares)


def theta_of(model):
    """Return all weights, then all biases, as one member's parameters are ordered."""
    return np.concatenate([array.ravel() for array in model.coefs_ + model.intercepts_])


def raw_theta(model):
    """Return the weights that training goes on from."""
    return model._model.state.parameters.theta[0]


def by_partial_fit(model, X, y, n_epochs, travels=False):
    """Train by epochs, with a trip through pickle after each."""
    for _ in range(n_epochs):
        classes = {"classes": np.unique(y)} if isinstance(model, BackpropClassifier) else {}
        model.partial_fit(X, y, **classes)
        model = pickle.loads(pickle.dumps(model)) if travels else model
    return model


def test_table_is_complete_and_every_docstring_has_a_formula():
    kinds = public_kinds(weight_averaging, WeightAverage)
    assert kinds == set(AVERAGES.values())
    assert without_formula(kinds) == set()


# ------------------------------------------------------------------------------ the formulas

KINDS = {
    "polyak": PolyakAverage(),
    "polyak from row 30": PolyakAverage(30.0),
    "ema": ExponentialMovingAverage(0.9),
    "exponential, long": ExponentialMovingAverage(0.999),
}
SIZES = [8, 8, 3] * 5  # of the batches
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def walk(n_estimators=M, dtype=np.float64, n_parameters=20):
    """Return the parameters of a stack after each of some steps."""
    rng = np.random.RandomState(0)
    return 5 + rng.normal(size=(len(SIZES), n_estimators, n_parameters)).cumsum(axis=0).astype(
        dtype
    )


def followed(kind, thetas, n_samples_seen=0):
    """Return the averages after the last step, and their state."""
    seen = np.full((thetas.shape[1], 1), n_samples_seen)
    state = kind.init(thetas[0], seen, {})
    for theta, n_rows in zip(thetas, SIZES, strict=True):
        kind.update(theta.copy(), np.empty_like(theta), state, n_rows, {})
    return averaged(thetas[-1], state), state


def averaged(theta, state):
    """Return the average of the parameters, which are their own before it has begun."""
    return np.where(state["total"] > 0, state["average"], theta)


@pytest.mark.parametrize("dtype", DTYPES)
@every_kind
@pytest.mark.parametrize("n_estimators", [1, M])
def test_averages_are_those_of_the_definition(n_estimators, kind, dtype, monkeypatch):
    thetas = walk(n_estimators, dtype)
    whole, _ = followed(kind, thetas)
    assert whole.dtype == dtype
    tolerance = {np.float64: 1e-13, np.float32: 1e-5}[dtype]
    np.testing.assert_allclose(whole, naive(thetas, kind, SIZES), rtol=tolerance)
    monkeypatch.setattr(arrays, "BLOCK", 21)  # several blocks, the last of them short
    assert_same_bits(followed(kind, thetas)[0], whole)


def test_rows_seen_before_count():
    thetas = walk()
    after_all, _ = followed(PolyakAverage(200.0), thetas)
    assert_same_bits(after_all, thetas[-1])
    late, _ = followed(PolyakAverage(200.0), thetas, n_samples_seen=150)
    np.testing.assert_allclose(late, naive(thetas, PolyakAverage(50), SIZES), rtol=1e-13)


def test_raising_start_restarts_the_average():
    """An average that has begun before would be out of date by then."""
    thetas = walk()
    _, state = followed(PolyakAverage(), thetas)
    PolyakAverage(1000.0).update(thetas[0], np.empty_like(thetas[0]), state, 8, {})
    assert_same_bits(averaged(thetas[0], state), thetas[0])


@every_kind
@pytest.mark.parametrize("n_estimators", [1, M])
def test_no_allocation_of_a_step_grows_with_the_network(n_estimators, kind):
    def peak(n_parameters):
        theta, g = np.ones((2, n_estimators, n_parameters))
        state = kind.init(theta, np.zeros((n_estimators, 1), dtype=int), {})
        kind.update(theta, g, state, 40, {})
        return peak_of(kind.update, theta, g, state, 40, {})

    # 60,000 parameters more would be 60,000 bytes even as booleans.
    assert grows_by_less(peak, 10_000, 70_000, 20_000)


def test_an_average_that_is_not_finite_has_diverged():
    """Between parameters of opposite signs lies more than a float can hold."""
    loss = LOSSES["log_loss-softmax"]
    state = trained(
        five_members(loss)[:2], 1, deep_network(), loss, SGD(), average=PolyakAverage(60)
    )
    state.average["average"][1, 3] = np.inf
    assert state.is_finite().tolist() == [True, False]


# ------------------------------------------------------------------------------ estimators


@pytest.mark.parametrize(
    "estimator_class, average, dtype, container, weighted",
    pairs(
        [BackpropClassifier, BackpropRegressor],
        list(SEVERAL.values()),
        ["float64", "float32"],
        [np.asarray, sparse.csr_array],
        [False, True],
    ),
)
def test_weights_are_averages_and_training_is_what_it_was(
    weighted, container, dtype, average, estimator_class, steps
):
    X, y = data_for(estimator_class, N_ROWS)
    weight = np.random.RandomState(1).uniform(0.1, 3, N_ROWS) if weighted else None
    settings = SETTINGS | {"solver": Recorded(), "dtype": dtype}
    model = estimator_class(average=average, **settings).fit(container(X), y, weight)
    recorded = [theta[0] for theta in steps]
    expected = naive(recorded, average, [25, 25, 10] * 6)
    assert model.coefs_[0].dtype == dtype
    tolerance = {"rtol": 1e-12, "atol": 1e-14} if dtype == "float64" else {"rtol": 1e-4}
    np.testing.assert_allclose(theta_of(model), expected, **tolerance)

    plain = estimator_class(**settings).fit(container(X), y, weight)
    assert plain.loss_curve_ == model.loss_curve_
    assert_same_bits(raw_theta(model), theta_of(plain))
    assert_same_bits(raw_theta(model), recorded[-1])
    assert not np.array_equal(theta_of(model), theta_of(plain))


@pytest.mark.parametrize("start", [1, 50, 119, 120, 121])
def test_averages_are_those_of_sgd_classifier(start):
    """Its steps are those of a batch of one row, without a hidden layer and without momentum."""
    X, y = class_data(40, n_classes=2)
    theirs = SGDClassifier(
        loss="log_loss",
        penalty=None,
        learning_rate="constant",
        eta0=0.1,
        max_iter=3,
        tol=None,
        shuffle=False,
        average=start,
    ).fit(X, y)
    ours = BackpropClassifier(
        (),
        solver="sgd",
        momentum=0.0,
        alpha=0.0,
        batch_size=1,
        learning_rate_init=0.1,
        max_iter=3,
        n_iter_no_change=np.inf,
        shuffle=False,
        average=PolyakAverage(start),
        init=([np.zeros((4, 1))], [np.zeros(1)]),
    ).fit(X, y)
    np.testing.assert_allclose(ours.coefs_[0].T, theirs.coef_, rtol=1e-9)
    np.testing.assert_allclose(ours.intercepts_[0], theirs.intercept_, rtol=1e-9)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("average", [True, 0, 0.9, "yes"], ids=str)
def test_raises_on_invalid_average(average, solver):
    with pytest.raises(ValueError, match="The 'average' parameter of BackpropRegressor must be"):
        BackpropRegressor(average=average, solver=solver).fit(*data_for(BackpropRegressor))


@pytest.mark.parametrize(
    "average, solver", [("polyak", "lbfgs"), (PolyakAverage(start=10_000), "adam")]
)
def test_with_lbfgs_and_before_the_start_weights_are_those_of_training(average, solver):
    X, y = data_for(BackpropRegressor)
    settings = SETTINGS | {"solver": solver}
    models = [BackpropRegressor(**settings, average=each).fit(X, y) for each in (None, average)]
    assert same_bits(*models)


# ------------------------------------------------------------------------------- in pieces


@every_average
@pytest.mark.parametrize("assign", ["whole", "one item"])
def test_weights_that_a_user_assigns_count(assign, average, steps):
    """They are what training goes on from, and the average begins anew with them."""
    X, y = data_for(BackpropRegressor)
    settings = SETTINGS | {"solver": Recorded(), "batch_size": 20}
    models = [BackpropRegressor(**settings, average=each).fit(X, y) for each in (average, None)]
    assert models[0].t_ > 70  # no start is ahead
    other = [array + 0.5 for array in models[0].coefs_]
    for model in models:
        model.intercepts_ = [array.copy() for array in models[0].intercepts_]
        if assign == "whole":
            model.coefs_ = [array.copy() for array in other]
        else:
            model.coefs_[:] = [array.copy() for array in models[0].coefs_]
            model.coefs_[1][2, 0] = 7.0
    np.testing.assert_array_equal(*(model.predict(X) for model in models))
    steps.clear()
    averaged_model, plain = (by_partial_fit(model, X, y, 1) for model in models)
    assert_same_bits(raw_theta(averaged_model), theta_of(plain))
    recorded = [theta[0] for theta in steps[:2]]
    exponential = isinstance(average, ExponentialMovingAverage)
    expected = naive(recorded, average if exponential else "polyak", [20, 20])
    np.testing.assert_allclose(theta_of(averaged_model), expected, rtol=1e-12)


def test_an_average_may_be_switched_on_and_off_between_calls(steps):
    X, y = data_for(BackpropRegressor)
    settings = SETTINGS | {"solver": Recorded(), "batch_size": 20}
    plain = by_partial_fit(BackpropRegressor(**settings), X, y, 6)
    recorded = [theta[0] for theta in steps]
    model = by_partial_fit(BackpropRegressor(**settings), X, y, 2)
    by_partial_fit(model.set_params(average="polyak"), X, y, 2)
    np.testing.assert_allclose(theta_of(model), np.mean(recorded[4:8], axis=0), rtol=1e-12)
    by_partial_fit(model.set_params(average=ExponentialMovingAverage(0.5)), X, y, 1)
    expected = naive(recorded[8:10], ExponentialMovingAverage(0.5), [20, 20])
    np.testing.assert_allclose(theta_of(model), expected, rtol=1e-12)
    by_partial_fit(model.set_params(average=None), X, y, 1)
    assert same_bits(model, plain)


def test_without_its_training_state_a_network_goes_on_from_the_averages():
    X, y = data_for(BackpropRegressor)
    model = BackpropRegressor(**SETTINGS, average="polyak", solver="sgd", momentum=0.0).fit(X, y)
    weights = [array.copy() for array in model.coefs_], [a.copy() for a in model.intercepts_]
    returned = pickle.loads(pickle.dumps(model))
    started = BackpropRegressor(
        **SETTINGS, solver="sgd", momentum=0.0, average="polyak", init=weights
    )
    for each in (returned.set_params(shuffle=False), started.set_params(shuffle=False)):
        by_partial_fit(each, X, y, 1)
    assert_same_bits(theta_of(returned), theta_of(started))


# -------------------------------------------------------------------------- early stopping

STOPPING = SETTINGS | {
    "early_stopping": True,
    "validation_fraction": 0.3,
    "n_iter_no_change": 3,
    "max_iter": 30,
    "learning_rate_init": 0.2,
}


@BOTH
@every_average
def test_early_stopping_scores_the_averages_and_keeps_the_best(average, estimator_class):
    X, y = data_for(estimator_class, N_ROWS)
    model = estimator_class(**STOPPING, average=average).fit(X, y)
    held_out = model._model.state.held_out[0]
    assert model.best_validation_score_ == max(model.validation_scores_)
    score = model.score(X[held_out], y[held_out])
    assert model.best_validation_score_ == pytest.approx(score, rel=1e-12)
    for n_epochs in (1, 4, model.best_iter_):
        settings = STOPPING | {"max_iter": n_epochs, "n_iter_no_change": np.inf}
        shorter = estimator_class(**settings, average=average).fit(X, y)
        if shorter.best_iter_ == n_epochs:
            score = shorter.score(X[held_out], y[held_out])
            assert model.validation_scores_[n_epochs - 1] == pytest.approx(score, rel=1e-12)
    assert_same_bits(theta_of(shorter), theta_of(model))
    assert_same_bits(raw_theta(shorter), raw_theta(model))


@every_average
def test_warm_start_continues_from_raw_weights_of_best_epoch(average, steps):
    X, y = data_for(BackpropRegressor, N_ROWS)
    settings = STOPPING | {"solver": Recorded(momentum=0.0), "warm_start": True}
    model = BackpropRegressor(**settings, average=average).fit(X, y)
    n_steps = 2 * model.best_iter_  # of 42 rows in batches of 25
    assert_same_bits(raw_theta(model), steps[n_steps - 1][0])
    before = theta_of(model).copy()
    steps.clear()
    model.set_params(max_iter=1).fit(X, y)
    assert np.abs(steps[0][0] - raw_theta(model)).max() < np.abs(steps[0][0] - before).max()


# ---------------------------------------------------------------------- running statistics


def statistics_of(model):
    return np.concatenate([*model.running_means_, *model.running_variances_], axis=-1)


@BOTH
@every_average
@pytest.mark.parametrize("n_estimators", [1, 2])
def test_running_statistics_are_averaged_like_the_weights(n_estimators, average, estimator_class):
    X, y = data_for(estimator_class)
    settings = SETTINGS | {
        "normalization": "batch",
        "n_estimators": n_estimators,
        "batch_size": len(X),
    }
    raw, after_steps = estimator_class(**settings), []
    for _ in range(SETTINGS["max_iter"]):  # of one step each
        by_partial_fit(raw, X, y, 1)
        after_steps.append(statistics_of(raw))
    averaged_model = estimator_class(average=average, **settings).fit(X, y)
    expected = naive(after_steps, average, [len(X)] * len(after_steps))
    np.testing.assert_allclose(statistics_of(averaged_model), expected, rtol=1e-12)
    in_pieces = by_partial_fit(estimator_class(average=average, **settings), X, y, 6, travels=True)
    assert same_bits(in_pieces, averaged_model)
    assert_same_bits(statistics_of(in_pieces), statistics_of(averaged_model))
