"""Does a tabular regressor minimize each loss, and do intervals and sets of labels cover targets?

Its score is compared with that of the networks within, what it says at first with the best constant
of each loss, and intervals with the definition of CV+, put together by hand from the networks.
"""

from itertools import pairwise

import numpy as np
import pytest
from scipy.special import expit
from sklearn.base import clone
from sklearn.datasets import load_diabetes, make_classification
from sklearn.dummy import DummyRegressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, Ridge

from skbackprop import ConformalRegressor, TabularClassifier, TabularRegressor
from skbackprop.estimators.conformity_scores import (
    ErrorScale,
    UncalibratedBand,
    conformal_quantile_rank,
    cv_plus_interval,
)
from skbackprop.losses import (
    REGRESSOR_LOSSES,
    Gaussian,
    Hinge,
    Link,
    LogLoss,
    Quantile,
    SquaredError,
    Tweedie,
)
from skbackprop.tabular import _prediction
from skbackprop.tabular._read_table import read_table
from support import class_data, sets_by_definition
from support.tables import component_inputs

X, Y = load_diabetes(return_X_y=True)
X, Y = X[:120], Y[:120]
SMALL = {"n_estimators": 3, "max_iter": 4, "blend": None, "random_state": 0}
LOSSES = {
    **REGRESSOR_LOSSES,
    "three quantiles": Quantile([0.1, 0.5, 0.9]),
    "a high quantile": Quantile(0.8),
    "Tweedie(1.2)": Tweedie(1.2),
}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


# ------------------------------------------------------------------------------- losses


@every_loss
def test_predictions_and_scores_match_the_networks(loss):
    model = TabularRegressor(**SMALL, loss=loss, clip=False).fit(X, Y)
    (networks,), seen = model.networks_, component_inputs(model, X)[0]
    np.testing.assert_allclose(model.predict(X), networks.predict(seen), rtol=1e-6)
    np.testing.assert_allclose(model.oof_prediction_, networks.oof_prediction_, rtol=1e-4)
    weight = np.random.RandomState(0).uniform(0.5, 2, len(Y))
    expected = networks.score(seen, Y, weight)
    assert model.score(X, Y, weight) == pytest.approx(expected, abs=1e-6)
    assert model.oof_score_ == pytest.approx(networks.oof_score_, abs=1e-4)
    for ours, theirs in (
        zip(model.predict(X[:9], return_std=True), networks.predict(seen[:9], True), strict=True)
        if loss != LOSSES["three quantiles"]
        else ()
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


@every_loss
def test_initial_predictions_are_near_the_best_constant(loss):
    """After a single step, networks still say of all rows what is best to say of all."""
    weight = np.where(np.median(Y) < Y, 3.0, 1.0)
    model = TabularRegressor(**SMALL | {"n_estimators": 2, "time_limit": 1e-9}, loss=loss)
    with pytest.warns(ConvergenceWarning, match="Networks of 0 to 0 epochs, or 1 to 1 batches"):
        predictions = model.fit(X, Y, weight).predict(X)
    y = np.repeat(Y, weight.astype(int))
    levels = {"three quantiles": [0.1, 0.5, 0.9], "a high quantile": [0.8]}
    is_median = loss in (LOSSES["absolute_error"], LOSSES["quantile"])
    name = next(name for name in LOSSES if LOSSES[name] == loss)
    quantiles = np.quantile(y, levels.get(name, [0.5]))
    expected = quantiles if is_median or name in levels else np.mean(y)
    # Huber's and log-cosh's constants lie between the median and the mean.
    tolerance = 0.3 * Y.std() + abs(np.mean(y) - np.median(y)) * (name in ("huber", "log_cosh"))
    assert np.abs(predictions - expected).max() < tolerance


def test_quantiles_of_targets_that_are_mostly_zero():
    """Equal quantiles must not begin where nothing can be learned of their distance."""
    rng = np.random.RandomState(0)
    x = rng.uniform(-1, 1, (300, 1))
    y = np.where(x[:, 0] > 0.4, rng.uniform(0, 5, 300), 0)
    model = TabularRegressor(n_estimators=2, loss=Quantile([0.1, 0.5]), max_iter=30, random_state=0)
    low, median = model.fit(x, y).predict([[-0.5], [0.9]]).T
    assert median[1] - low[1] > 0.5
    assert median[0] - low[0] < 0.5


@every_loss
def test_constant_targets(loss):
    for value in (7.0, 1e-9, 1e30):
        model = TabularRegressor(**SMALL, loss=loss).fit(X, np.full(len(X), value))
        np.testing.assert_allclose(model.predict(X), value)
        assert np.isfinite(model.predict_interval(X)).all()
        assert np.isfinite(model.oof_score_)


def test_predictions_are_clipped_to_the_range_of_y():
    far = 30 * X
    for loss in ("squared_error", "gaussian", "poisson", Quantile([0.1, 0.5, 0.9])):
        inside, free = (
            TabularRegressor(**SMALL, loss=loss, clip=clip).fit(X, Y) for clip in (True, False)
        )
        raw = free.predict(far)
        assert ((raw < Y.min()) | (raw > Y.max())).any()
        predictions = inside.predict(far)
        assert predictions.min() >= Y.min()
        assert predictions.max() <= Y.max()
        np.testing.assert_allclose(predictions, np.clip(raw, Y.min(), Y.max()), rtol=1e-6)


def test_standard_deviation_is_learned_or_that_of_the_networks():
    learned = TabularRegressor(**SMALL, loss=Gaussian(1e-4)).fit(X, Y)
    mean, std = learned.predict(X[:5], return_std=True)
    assert mean.shape == std.shape == (5,)
    assert (std > 10).all()
    disagreement = TabularRegressor(**SMALL, clip=False).fit(X, Y)
    _, std = disagreement.predict(X[:5], return_std=True)
    (networks,), seen = disagreement.networks_, component_inputs(disagreement, X[:5])[0]
    members = [member.predict(seen) for member in networks.estimators_]
    np.testing.assert_allclose(std, np.std(members, axis=0), rtol=1e-6)
    blended = TabularRegressor(**SMALL | {"blend": [Ridge()]}, clip=False).fit(X, Y)
    mean, std = blended.predict(X[:5], return_std=True)
    pairs = zip(blended._components, component_inputs(blended, X[:5]), strict=True)
    variances = [np.square(each.outputs(x)[..., 0, 0] - mean).mean(axis=0) for each, x in pairs]
    np.testing.assert_allclose(std, np.sqrt(blended.weights_ @ variances), rtol=1e-6)
    conformal = [ConformalRegressor(clone(each)).fit(X, Y) for each in (learned, disagreement)]
    assert [each.conformity_score_ for each in conformal] == ["scaled", "absolute"]


class Halved(Link):
    """A link of one's own that does not tell scores from predictions."""

    name = "halved"

    def inverse(self, scores, out):
        np.multiply(scores, 0.5, out=out)


class OneOfMyOwn(SquaredError):
    """A loss with that link."""

    link = Halved()


def test_raises_on_wrong_losses_and_targets():
    for loss, y, match in (
        ("gamma", np.r_[0.0, Y[1:]], r"loss=Gamma\(\) needs targets y > 0"),
        ("poisson", -Y, r"needs targets y >= 0"),
        (Hinge(), Y, "is a loss of classifiers"),
        (LogLoss(), Y, r"needs targets y <= 1"),
        ("log_loss", Y, "'loss' parameter of TabularRegressor must be"),
        (OneOfMyOwn(), Y, r"Halved, that does not compute.*Define its link"),
    ):
        with pytest.raises(ValueError, match=match):
            TabularRegressor(**SMALL, loss=loss).fit(X, y)


def test_a_loss_whose_targets_are_not_scaled():
    shares = expit((Y - Y.mean()) / Y.std())
    model = TabularRegressor(**SMALL, loss=LogLoss()).fit(X, shares)
    assert (np.abs(model.predict(X) - shares.mean()) < 0.5).all()
    assert not model.networks_[0].scale_target
    assert model.predict_interval(X).max() <= 1


@pytest.mark.parametrize("loss", ["squared_error", "absolute_error", "gaussian", "poisson"])
def test_mixture_weights_minimize_the_loss(loss):
    """Of a good model, its negative, and noise, the good one is all that counts."""
    rng = np.random.RandomState(0)
    y = rng.gamma(3, size=200)
    model = TabularRegressor(loss=loss, clip=False)
    model._fit_targets(y, None)
    good = y + 0.1 * rng.randn(200)
    models = [np.maximum(each, 0.01) for each in (good, y.max() - good, rng.gamma(3, size=200))]
    models = [each[:, None, None] for each in models]
    if model._targets.have_std:
        models = [np.dstack([each, np.full((200, 1), 0.5)]) for each in models]
    model._fit_mixture([each[None] for each in models], y, None)
    weights = model.weights_
    assert weights.sum() == pytest.approx(1)
    assert weights[0] > 0.9
    mixed = model._mix([each[None] for each in models])
    assert model._mixture_loss(mixed, y, None) < 0.1
    model._fit_mixture([models[1][None]], y, None)
    assert model.weights_.tolist() == [1]
    pairs = models[:2], models[1::-1]  # the first is good where the weight is
    crossed = [np.concatenate([one[:100], other[100:]])[None] for one, other in pairs]
    model._fit_mixture(crossed, y, np.repeat([1.0, 0.0], 100))
    assert model.weights_[0] > 0.9


@pytest.mark.parametrize("loss", ["squared_error", "gaussian", Quantile([0.1, 0.5, 0.9])], ids=str)
def test_a_mean_far_above_the_spread_does_not_round_predictions(loss):
    """Numbers like Unix time have no digits of single precision left for their spread."""
    offset, x = 1.7e9, np.random.default_rng(0).normal(size=(150, 3))
    y, many = 60 * x[:, 0], np.tile(x, (30, 1))
    blend = [Ridge(), DummyRegressor()] if loss == "squared_error" else None
    model = TabularRegressor(2, loss=loss, blend=blend, max_iter=20, random_state=0)
    near, far = clone(model).fit(x, y), clone(model).fit(x, offset + y)
    assert far.oof_score_ == pytest.approx(near.oof_score_, abs=1e-3)
    np.testing.assert_allclose(far.weights_, near.weights_, atol=1e-3)
    np.testing.assert_allclose(far.oof_prediction_ - offset, near.oof_prediction_, atol=0.1)
    np.testing.assert_allclose(far.predict(many) - offset, near.predict(many), atol=0.1)
    intervals = far.predict_interval(x) - offset
    np.testing.assert_allclose(intervals, near.predict_interval(x), atol=0.5)
    with pytest.raises(ValueError, match="X must be the table of 150 rows"):
        far.permutation_importance(x[::-1], offset + y[::-1])


# ---------------------------------------------------------------------------- intervals


def relative_error(oof_prediction, y, at):
    """Return the error of four ranges of predictions, each shrunk by ten rows, interpolated."""
    error = np.abs(y - oof_prediction)
    bounds = [-np.inf, *np.quantile(oof_prediction, [0.25, 0.5, 0.75]), np.inf]
    middles, errors = [], []
    for low, high in pairwise(bounds):
        own = (low < oof_prediction) & (oof_prediction <= high)
        middles.append(oof_prediction[own].mean())
        errors.append((error[own].sum() + 10 * error.mean()) / (own.sum() + 10))
    return np.interp(at, middles, errors) / error.mean()


def predict_band(model, loss, X, oof_prediction):
    """Return middle, half width and unit of the band of a network, each of shape (n,)."""
    if loss == "gaussian":
        mean, std = model.predict(X, return_std=True)
        return mean, 0 * mean, std
    predictions = model.predict(X)
    if loss == "squared_error":
        return predictions, 0 * predictions, relative_error(oof_prediction, Y[:90], predictions)
    low, _, high = predictions.T
    return (low + high) / 2, (high - low) / 2, 1 + 0 * low


@pytest.mark.parametrize("loss", ["squared_error", "gaussian", Quantile([0.1, 0.5, 0.9])], ids=str)
def test_intervals_match_the_definition_of_cv_plus(loss, monkeypatch):
    model = TabularRegressor(**SMALL, loss=loss, clip=False).fit(X[:90], Y[:90])
    (networks,) = model.networks_
    (seen,), (new,) = component_inputs(model, X[:90]), component_inputs(model, X[90:])
    ups, downs, oof = [], [], model.oof_prediction_
    for fold, member in enumerate(networks.estimators_):
        rows = np.flatnonzero(model.oof_member_ == fold)
        middle, half_width, unit = predict_band(member, loss, seen[rows], oof)
        scores = (np.abs(Y[rows] - middle) - half_width) / unit
        middle, half_width, unit = (each[:, None] for each in predict_band(member, loss, new, oof))
        ups.append(middle + half_width + unit * scores)
        downs.append(middle - half_width - unit * scores)
    rank = conformal_quantile_rank(90, 0.8)
    lower = np.sort(np.hstack(downs), axis=1)[:, 90 - rank]
    upper = np.sort(np.hstack(ups), axis=1)[:, rank - 1]
    found = model.predict_interval(X[90:], coverage=0.8)
    np.testing.assert_allclose(found, np.stack([lower, upper], axis=1), rtol=1e-3)
    monkeypatch.setattr(_prediction, "_ELEMENTS_AT_ONCE", 1000)
    np.testing.assert_allclose(model.predict_interval(X[90:], coverage=0.8), found, rtol=1e-6)
    np.testing.assert_allclose(model.predict_interval(X[90:91], 0.8), found[:1], rtol=1e-6)


def test_intervals_of_blended_models():
    model = TabularRegressor(**SMALL | {"blend": [Ridge()]}, clip=False).fit(X[:90], Y[:90])
    assert model.weights_.min() > 0
    inputs = component_inputs(model, X[90:])
    outputs = [each.outputs(x) for each, x in zip(model._components, inputs, strict=True)]
    by_fold = sum(w * own[..., 0, 0] for w, own in zip(model.weights_, outputs, strict=True))
    np.testing.assert_allclose(by_fold.mean(axis=0), model.predict(X[90:]), rtol=1e-6)
    scale = ErrorScale.fit(model.oof_prediction_, np.abs(Y[:90] - model.oof_prediction_))
    errors = np.abs(Y[:90] - model.oof_prediction_) / scale.at(model.oof_prediction_)
    scores = [np.sort(errors[model.oof_member_ == fold]) for fold in range(3)]
    band = UncalibratedBand(by_fold, 0.0, scale.at(by_fold))
    expected = cv_plus_interval(band, scores, 0.8)
    np.testing.assert_allclose(model.predict_interval(X[90:], 0.8), expected, rtol=1e-6)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("blend", [None, [LogisticRegression()]])
def test_sets_of_labels_match_the_definition_of_cv_plus(blend, n_classes, monkeypatch):
    """Each new row is compared with row i by the members that have held out row i."""
    X, y = class_data(120, n_classes=n_classes)
    model = TabularClassifier(**SMALL | {"blend": blend}).fit(X[:90], y[:90])
    rows = model._features.encoding.read_rows(read_table(model, X[90:], reset=False))
    members = [model._predict_rows(rows, model._mix, member=k) for k in range(3)]
    known = model.oof_predict_proba_, y[:90], model.oof_member_
    for kind in ("lac", "aps"):
        for by_class in (False, True):
            expected = sets_by_definition(kind, np.array(members), *known, 0.8, by_class)
            sets = model.predict_set(X[90:], 0.8, kind, by_class)
            np.testing.assert_array_equal(sets, expected)
    monkeypatch.setattr(_prediction, "_ELEMENTS_AT_ONCE", 1000)
    np.testing.assert_array_equal(model.predict_set(X[90:], 0.8, "aps", True), sets)
    with pytest.warns(UserWarning, match="only the class 0"):
        model.fit(X, np.zeros(120))
    assert model.predict_set(X[:2]).tolist() == [[True]] * 2


def test_a_tabular_classifier_has_sets_and_no_intervals():
    model = TabularClassifier(**SMALL)
    with pytest.raises(AttributeError, match=r"no predict_interval.*predict_set\(X, coverage\)"):
        model.predict_interval(X)
    with pytest.raises(ValueError, match="conformity_score must be one of .*'aps'.*got 'raps'"):
        model.fit(X, np.median(Y) < Y).predict_set(X, conformity_score="raps")


@pytest.mark.parametrize(
    "kind, method", [(TabularRegressor, "predict_interval"), (TabularClassifier, "predict_set")]
)
def test_raises_if_there_are_too_few_rows_for_the_coverage(kind, method):
    y = Y if kind is TabularRegressor else np.median(Y) < Y
    model = kind(**SMALL).fit(X[:18], y[:18])
    predict = getattr(model, method)
    assert predict(X[:2], 0.94).shape == (2, 2)
    with pytest.raises(
        ValueError, match=r"coverage=0.95 needs at least 19 held-out rows.* n_samples=18"
    ):
        predict(X[:2], 0.95)
    weight = np.r_[np.zeros(10), np.full(8, 3.0)]
    model.fit(X[:18], y[:18], weight)
    with pytest.raises(ValueError, match=r"coverage=0.9 needs at least 9 .* n_samples=8"):
        predict(X[:2])
    for coverage in (0, 1, -0.1, 1.5, "0.9", None, True):
        with pytest.raises(ValueError, match=r"coverage must be a number in the range \(0, 1\)"):
            predict(X[:2], coverage)


def test_relative_errors_of_predictions():
    rng = np.random.RandomState(0)
    predictions = rng.uniform(0, 10, 4000)
    scale = ErrorScale.fit(predictions, np.abs(predictions * rng.randn(4000)))
    np.testing.assert_allclose(scale.at([2.0, 5.0, 8.0]), [0.4, 1, 1.6], rtol=0.1)
    assert scale.at(-5) == scale.errors[0]
    few = ErrorScale.fit(predictions[:39], predictions[:39])
    assert few.at(predictions).tolist() == [1] * 4000
    # Equal predictions are one range.
    ties = ErrorScale.fit(np.repeat([1.0, 2.0], [150, 50]), np.repeat([1.0, 3.0], [150, 50]))
    expected = [(150 + 10 * 1.5) / 160 / 1.5, (150 + 10 * 1.5) / 60 / 1.5]
    np.testing.assert_allclose(ties.at([1, 2]), expected)
    assert ErrorScale.fit(predictions, np.zeros(4000)).at(3.0) == 1
    huge = ErrorScale.fit(predictions, np.full(4000, 1e308))
    np.testing.assert_allclose(huge.errors, 1)


def test_intervals_are_clipped_to_the_domain_of_the_loss():
    counts = np.random.RandomState(0).poisson(0.3, len(Y))
    model = TabularRegressor(**SMALL, loss="poisson").fit(X, counts)
    assert model.predict_interval(X).min() == 0
    assert TabularRegressor(**SMALL).fit(X, counts).predict_interval(X).min() < 0


@pytest.mark.parametrize("loss", ["squared_error", "gaussian", Quantile([0.05, 0.95])], ids=str)
def test_coverage_of_intervals(loss):
    rng = np.random.RandomState(0)
    x = rng.uniform(-1, 1, (2400, 2))
    y = x[:, 0] + (0.1 + np.abs(x[:, 1])) * rng.randn(2400)
    model = TabularRegressor(4, loss=loss, max_iter=20, blend=None, random_state=0)
    low, high = model.fit(x[:800], y[:800]).predict_interval(x[800:]).T
    is_inside = (low <= y[800:]) & (y[800:] <= high)
    assert abs(is_inside.mean() - 0.9) < 0.03
    is_quiet, width = np.abs(x[800:, 1]) < 0.3, high - low
    if loss != "squared_error":  # where there is less noise, they are narrower
        assert width[is_quiet].mean() < 0.7 * width[~is_quiet].mean()
        assert abs(is_inside[is_quiet].mean() - 0.9) < 0.08


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lac", "aps"])
def test_coverage_of_sets_of_labels(kind):
    """Single networks are less accurate than the ensemble, on both sides of the comparison."""
    covered = []
    for seed in range(6):
        X, y = make_classification(
            3000, 10, n_informative=6, n_classes=4, flip_y=0.2, random_state=seed
        )
        model = TabularClassifier(4, max_iter=10, blend=None, random_state=0).fit(X[:500], y[:500])
        sets = model.predict_set(X[500:], conformity_score=kind)
        covered.append(sets[np.arange(2500), y[500:]].mean())
    assert abs(np.mean(covered) - 0.9) < 0.02
