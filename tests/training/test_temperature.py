"""Calibration on held-out rows fits a temperature and does not change training.

The oracle is a network with the same seed and without a temperature: SciPy minimizes scikit-learn's
log loss over the divisor of its last layer.
"""

import copy
import pickle

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import xlogy
from sklearn.base import clone
from sklearn.metrics import log_loss

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor, EarlyStopping
from skbackprop.training.validation import fit_temperature, subsample_index
from support import assert_same_network, class_data, few_epochs, label_data, quick, same_bits

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

PLAIN = EarlyStopping(validation_fraction=0.3, n_iter_no_change=np.inf)
CALIBRATED = PLAIN.set_params(calibrate=True)
SETTINGS = {"learning_rate_init": 0.1, "max_iter": 12, "warm_start": True}


def pair(n_estimators=1, **changes):
    """Return two classifiers that differ in whether they are calibrated."""
    settings = {"n_estimators": n_estimators} | SETTINGS | changes
    rules = PLAIN, CALIBRATED
    return [quick(BackpropClassifier, early_stopping=rule, **settings) for rule in rules]


def divided(model, temperature):
    """Return a classifier whose scores are divided by a temperature."""
    other = copy.deepcopy(model)
    other.coefs_[-1] = other.coefs_[-1] / temperature
    other.intercepts_[-1] = other.intercepts_[-1] / temperature
    return other


def loss_of_labels(model, X, y, weight):
    """Return the log loss, for several labels the sum."""
    said = model.predict_proba(X)
    if y.ndim == 2:
        losses = -(xlogy(y, said) + xlogy(1 - y, 1 - said)).sum(axis=1)
        return np.average(losses, weights=weight)
    return log_loss(y, said, labels=model.classes_, sample_weight=weight)


def likeliest(loss_at, n):
    """Return the best temperature of a log loss by n rows, whose logarithm is normal a priori."""
    found = minimize_scalar(lambda t: n * loss_at(np.exp(t)) + (t / np.log(2)) ** 2 / 2)
    return np.exp(found.x)


def flipped(X, y):
    """Return data where some labels are wrong, so that certainty does not pay."""
    y = y.copy()
    y[::4] = np.roll(y, 1, axis=0)[::4]
    return X, y


TWO, THREE, LABELS = (
    flipped(*data) for data in (class_data(90, n_classes=2), class_data(90), label_data(90))
)
CASES = {
    "two classes": (TWO, {}),
    "three classes": (THREE, {"dtype": "float32"}),
    "several": (THREE, {"n_estimators": 3}),
    "labels": (LABELS, {"n_estimators": 2, "max_iter": 4}),
    "averages": (TWO, {"average": "polyak"}),
    "lbfgs": (TWO, {"solver": "lbfgs", "hidden_layer_sizes": ()}),
    "smoothed": (THREE, {"label_smoothing": 0.3}),
    "another loss": (TWO, {"loss": "brier", "class_weight": {0: 1.0, 1: 3.0}}),
}


@pytest.mark.parametrize("name", CASES)
def test_the_temperature_fits_the_mean_prediction_on_x_val(name):
    (X, y), settings = CASES[name]
    weight = np.random.RandomState(0).randint(1, 4, 40).astype(float)
    given = {"X_val": X[50:], "y_val": y[50:], "sample_weight_val": weight}
    plain, model = (each.fit(X[:50], y[:50], **given) for each in pair(**settings))
    if "class_weight" in settings:
        weight = weight * np.where(y[50:] == 1, 3.0, 1.0)
    n = weight.sum() ** 2 / (weight**2).sum()
    expected = likeliest(lambda t: loss_of_labels(divided(plain, t), X[50:], y[50:], weight), n)
    assert plain.temperature_ == 1.0
    assert model.temperature_ == pytest.approx(expected, rel=3e-3)
    assert abs(np.log(expected)) > 0.02
    assert_same_network(model, divided(plain, model.temperature_), rtol=1e-6)


@pytest.mark.parametrize("fraction, is_weighted", [("folds", False), ("folds", True), (0.3, False)])
def test_the_temperature_of_members_with_own_splits(fraction, is_weighted):
    """With weights, the rows of the first fold weigh nothing."""
    (X, y), weight = THREE, np.ones(90)
    plain, model = (
        each.set_params(early_stopping__validation_fraction=fraction)
        for each in pair(n_estimators=4)
    )
    if is_weighted:
        weight = 10.0 * (plain.fit(X, y).oof_member_ > 0)
    plain, model = (clone(each).fit(X, y, weight) for each in (plain, model))
    parts = plain._model.state.held_out
    n = sum(np.count_nonzero(weight[rows]) for rows in parts)

    def loss_at(temperature):
        members = divided(plain, temperature).estimators_
        losses = [
            len(rows) * loss_of_labels(one, X[rows], y[rows], None)
            for one, rows in zip(members, parts, strict=True)
            if weight[rows].any()
        ]
        return sum(losses) / n

    assert model.temperature_ == pytest.approx(0.85 * likeliest(loss_at, n), rel=3e-3)
    if fraction == "folds":
        rows, (one, *_) = parts[0], model.estimators_
        np.testing.assert_array_equal(model.oof_predict_proba_[rows], one.predict_proba(X[rows]))
        np.testing.assert_array_equal(model.oof_prediction_, plain.oof_prediction_)


@pytest.mark.parametrize(
    "settings",
    [{}, {"n_estimators": 2}, {"average": "ema"}, {"solver": "lbfgs", "max_iter": 3}],
    ids=str,
)
def test_further_training_starts_from_undivided_weights(settings):
    X, y = THREE
    plain, model = pair(**settings)

    def assert_alike():
        assert model.temperature_ != 1.0
        np.testing.assert_array_equal(model.coefs_[0], plain.coefs_[0])
        expected = plain.intercepts_[-1] / model.temperature_
        np.testing.assert_array_equal(model.intercepts_[-1], expected)

    for _ in range(2):
        plain.fit(X, y), model.fit(X, y)
        assert_alike()
        model = pickle.loads(pickle.dumps(model))
    if "solver" in settings:
        return
    watched = {"X_val": X[:30], "y_val": y[:30]}
    found = [model.temperature_]
    for given in ({}, {}, watched, watched, {}):
        plain.partial_fit(X, y, **given), model.partial_fit(X, y, **given)
        assert_alike()
        found.append(model.temperature_)
    assert found[0] == found[1] == found[2] != found[3]
    model.coefs_[-1] = model.coefs_[-1] * 2  # what users assign is what counts
    assert model.partial_fit(X, y).temperature_ == 1.0


def test_a_warm_fit_without_calibration_has_no_temperature():
    plain, model = pair()
    for rule in (CALIBRATED, False):
        model.set_params(early_stopping=rule).fit(*THREE)
    for rule in (PLAIN, False):
        plain.set_params(early_stopping=rule).fit(*THREE)
    assert model.temperature_ == 1
    assert same_bits(model, plain)


def test_each_scored_call_of_partial_fit_calibrates_anew():
    (X, y), watched = THREE, {"X_val": THREE[0][:30], "y_val": THREE[1][:30]}
    rule, temperatures = CALIBRATED.set_params(scoring="loss"), []
    for given in (watched, {}):
        model = quick(BackpropClassifier, early_stopping=rule, learning_rate_init=0.01)
        model.partial_fit(X, y, classes=np.unique(y), **given).partial_fit(X, y, **watched)
        temperatures.append(model.temperature_)
    assert temperatures[0] == temperatures[1] != 1


def test_a_pickle_without_state_continues_from_divided_weights():
    X, y = THREE
    plain, model = (each.set_params(warm_start=False).fit(X, y) for each in pair())
    returned, same_weights = (
        pickle.loads(pickle.dumps(each)).partial_fit(X, y)
        for each in (model, divided(plain, model.temperature_))
    )
    assert model.temperature_ != returned.temperature_ == 1.0
    assert same_bits(returned, same_weights)


# ------------------------------------------------------------------------------- of few rows


@pytest.mark.parametrize(
    "weight", [None, [1, 1, 1, 1, 0], [5e-200, 5e-200, 5e-200, 5e-200, 0]], ids=str
)
def test_the_temperature_is_finite_if_all_rows_are_right(weight):
    """At the least, n u e^-u / (1 + e^-u) = log(1 / T), with u = margin / T."""
    weight = None if weight is None else np.array(weight, dtype=float)
    n, margin = (5 if weight is None else 4), 3.0

    def losses_at(temperature):
        return np.log1p(np.exp(-np.full(5, margin / temperature)))

    temperature, _ = fit_temperature(losses_at, weight, spread=1.0)
    u = margin / temperature
    assert n * u / (1 + np.exp(u)) == pytest.approx(-np.log(temperature), rel=0.01)
    assert fit_temperature(losses_at, weight)[0] == pytest.approx(0.05, rel=0.01)


def test_a_sample_of_many_rows_has_all_classes():
    n = 70_000
    rows = subsample_index(n)
    assert len(np.unique(np.arange(n)[rows])) == 1 << 15
    for period in (2, 3):
        shares = np.bincount(np.arange(n)[rows] % period) / len(rows)
        np.testing.assert_allclose(shares, 1 / period, atol=0.02)
    np.testing.assert_array_equal(rows, subsample_index(n))
    assert np.arange(30_000)[subsample_index(30_000)].shape == (30_000,)


def test_the_temperature_of_awkward_rows():
    X, y = class_data(12, n_classes=2)
    _, model = pair()
    assert 0.05 <= model.fit(X, y, X_val=X[:1], y_val=y[:1]).temperature_ <= 20
    assert model.fit(X, y, X_val=1e308 * np.sign(X), y_val=y).temperature_ == 1  # not finite
    same = np.flatnonzero(y == 1)
    given = {"X_val": X[same], "y_val": y[same]}
    with pytest.raises(ValueError, match="at least one weight above zero"):
        model.fit(X, y, **given, sample_weight_val=0.0 * same)
    said = model.fit(X, y, **given).predict_proba(X)
    assert np.isfinite(np.log(said)).all()
    only = pair()[1].fit(X, np.full(12, "a"))  # all temperatures are as good
    assert (only.predict_proba(X) == 1).all()
    assert only.temperature_ == pytest.approx(1.0, abs=2e-3)


@pytest.mark.parametrize(
    "model", [BackpropClassifier(loss="hinge"), BackpropRegressor(), BackpropAutoencoder()], ids=str
)
def test_calibration_needs_probabilities(model):
    with pytest.raises(
        ValueError, match="needs a loss with probabilities|only valid for classifiers"
    ):
        model.set_params(early_stopping=CALIBRATED).fit(*TWO)
