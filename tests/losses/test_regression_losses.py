"""Regressor's losses: constants, scores, ranges of targets, settings and the estimator.

The contract that they share with the classifier's losses is tested in test_losses.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import d2_absolute_error_score, d2_pinball_score, d2_tweedie_score, r2_score

from skbackprop import BackpropRegressor
from skbackprop.losses import REGRESSOR_LOSSES, Gaussian, Huber, LogCosh, Loss, Quantile, Tweedie
from skbackprop.losses.links import IdentityLink
from skbackprop.losses.regression import ResidualLoss
from skbackprop.testing import check_loss
from support import few_epochs, quick
from support.stacks import DTYPES

LEVELS = (0.1, 0.5, 0.9)
LOSSES = REGRESSOR_LOSSES | {
    "huber of delta 0.3": Huber(0.3),
    "tweedie of power 1.2": Tweedie(1.2),
    "gaussian of a high floor": Gaussian(0.5),
    "upper quantile": Quantile(0.9),
    "quantiles": Quantile(LEVELS),
}
POSITIVE = {name: loss for name, loss in LOSSES.items() if loss.interval_y_true.low == 0}
every_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
every_positive_loss = pytest.mark.parametrize("loss", POSITIVE.values(), ids=POSITIVE)


def targets(n=40, k=1, seed=0):
    """Return positive targets of shape (n, k), of two decimals, so that some are equal."""
    return np.random.RandomState(seed).gamma(2, size=(n, k)).round(2) + 0.01


def some_scores(loss, n=40, k=1, seed=1):
    return np.random.RandomState(seed).normal(size=(n, k * loss.n_outputs_per_target))


def beside_scores(loss, y):
    """Return targets as a loss sees them: each beside each of its scores."""
    return np.repeat(y, loss.n_outputs_per_target, axis=1)


def value(loss, scores, y):
    """Return the loss of each row."""
    return loss.value(scores[None], beside_scores(loss, y)[None])[0]


# -------------------------------------------------------------------------------- values


@every_positive_loss
@pytest.mark.parametrize("score", [-1e4, -360.0, 360.0, 1e4])
def test_gradient_matches_value_where_the_link_clips(loss, score):
    """The loss goes on along its tangent."""
    y, above, below = np.full((1, 1), 2.0), np.full((1, 1), score + 1), np.full((1, 1), score - 1)
    slope = np.full((1, 1, 1), score)
    loss.gradient(slope, y[None], slope)
    expected = (value(loss, above, y) - value(loss, below, y)) / 2
    np.testing.assert_allclose(slope.item(), expected.item(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("loss", [Tweedie(1.2), Tweedie(1.9), Tweedie(1.99), LOSSES["gamma"]])
def test_deviances_are_bounded_below_the_smallest_mean(loss, dtype):
    """Of Tweedie's zeros, and of targets that are less than the least mean, it would."""
    y = np.full((4, 1), 0 if loss.interval_y_true.low_inclusive else np.finfo(dtype).tiny, dtype)
    scores = np.array([[-1e2], [-4e2], [-1e4], [-1e6]], dtype)
    values, slope = value(loss, scores, y), np.full((1, 4, 1), np.nan, dtype)
    loss.gradient(scores[None], y[None], slope)
    assert (np.diff(values) <= 0).all()
    assert values[-1] == values[-2] >= -1e-6
    np.testing.assert_array_equal(slope[0, 2:], 0)
    led_back = np.full((1, 1, 1), -1e4, dtype)
    loss.gradient(led_back, np.ones((1, 1, 1), dtype), led_back)
    assert led_back.item() < 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_cosh_is_linear_in_huge_residuals_and_quadratic_in_small_ones(dtype):
    huge, small = np.array([1e30, -1e4], dtype), np.geomspace(1e-15, 1e-4, 12, dtype=dtype)
    expected = [1e30, 1e4 - np.log(2), *np.square(small.astype(float)) / 2]
    residual = np.concatenate([huge, small])[:, None]
    got = value(LogCosh(), residual, np.zeros_like(residual))
    np.testing.assert_allclose(got, expected, rtol=1e-6)


def test_deviance_of_large_counts_is_accurate_in_float32():
    rng = np.random.RandomState(0)
    y = rng.poisson(1e5, size=(1_000, 1)).astype(np.float32)
    scores = rng.normal(np.log(1e5), 1e-3, size=y.shape).astype(np.float32)
    exact = value(LOSSES["poisson"], scores.astype(float), y.astype(float))
    got = value(LOSSES["poisson"], scores, y)
    assert got.dtype == np.float32
    assert exact.mean() > 0.3
    assert np.abs(got - exact).max() < 0.02
    assert got.mean(dtype=float) == pytest.approx(exact.mean(), abs=5e-4)


@pytest.mark.parametrize(
    "name, slope", [("absolute_error", 0), ("quantile", 0), ("upper quantile", -0.4), ("huber", 0)]
)
def test_subgradient_at_a_kink(name, slope):
    out = np.full((1, 1, 1), np.nan)
    LOSSES[name].gradient(np.ones((1, 1, 1)), np.ones((1, 1, 1)), out)
    assert out.item() == pytest.approx(slope)


# ----------------------------------------------------------------------- links and ranges


@pytest.mark.parametrize("dtype", DTYPES)
@given(
    levels=st.lists(st.integers(1, 99), min_size=2, max_size=6, unique=True),
    scores=st.lists(st.floats(-1e4, 1e4, width=32), min_size=12, max_size=12),
)
def test_quantiles_never_cross(dtype, levels, scores):
    loss = Quantile([level / 100 for level in sorted(levels)])
    scores = np.resize(np.array(scores, dtype), (4, 2 * len(levels)))
    quantiles = loss.predict(scores)
    assert (quantiles.shape, quantiles.dtype) == ((4, 2, len(levels)), dtype)
    assert (np.diff(quantiles, axis=-1) >= 0).all()


@few_epochs
@pytest.mark.parametrize("scale_target, dtype", [(False, "float32"), (True, "float64")])
@every_loss
def test_predictions_are_in_range_for_any_input(loss, scale_target, dtype):
    X = np.random.RandomState(0).normal(size=(40, 3))
    y = targets()[:, 0] * 1e3
    model = quick(
        BackpropRegressor,
        loss=loss,
        scale_target=scale_target,
        dtype=dtype,
        learning_rate_init=0.1,
        max_iter=20,
    ).fit(X, y)
    for factor in (0, 1, 1e4, 1e15, -1e15):
        predicted = model.predict(factor * X)
        assert predicted.dtype == dtype
        assert np.isfinite(predicted).all()
        if loss.interval_y_true.low == 0:
            assert (predicted > 0).all()
        if loss is LOSSES["quantiles"]:
            assert (np.diff(predicted) >= 0).all()
        if isinstance(loss, Gaussian):
            _, std = model.predict(factor * X, return_std=True)
            assert np.isfinite(std).all()
            assert (std >= np.sqrt(loss.min_variance) * (1 - 1e-6)).all()


# ------------------------------------------------------------------- constants and scores


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@every_loss
def test_no_constant_is_better_than_the_best(loss, weighted):
    y = targets()[:, 0]
    weight = np.random.RandomState(2).randint(0, 4, len(y)).astype(float) if weighted else None
    best = loss.fit_intercept_only(y, weight)
    assert best.shape == (loss.n_outputs_per_target,)

    def mean_loss(constant):
        return np.average(value(loss, np.tile(constant, (len(y), 1)), y[:, None]), weights=weight)

    rest = np.random.RandomState(3).normal(size=(200, len(best)))
    for size in (1e-3, 0.1, 3):
        assert all(mean_loss(best) <= mean_loss(best + size * step) + 1e-12 for step in rest)


# Units that are common enough: moles of a trace, the product of a nation.
@pytest.mark.parametrize("unit", [1e-13, 1e-6, 1.0, 1e13])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
def test_a_constant_is_found_whatever_the_unit_of_y(unit, weighted):
    y = targets()[:, 0]
    weight = np.arange(40.0) if weighted else None
    for loss, numeric in [
        (Huber(0.7 * unit), ResidualLoss.fit_intercept_only),
        (Huber(0.7 * unit), Loss.fit_intercept_only),
        (LOSSES["squared_error"], Loss.fit_intercept_only),
    ]:
        expected = replace(loss, delta=0.7) if isinstance(loss, Huber) else loss
        expected = unit * expected.fit_intercept_only(y, weight)
        np.testing.assert_allclose(numeric(loss, unit * y, weight), expected, rtol=1e-6)


@pytest.mark.parametrize("loss", [LogCosh(), Huber()], ids=repr)
@pytest.mark.parametrize("outlier", [1e9, 1e15, 1e200])
def test_the_best_constant_is_found_beside_an_outlier(loss, outlier):
    """Its pull is that of any target on its side that is more than a few units off."""
    y = targets()[:, 0]
    y[0] = 1e3
    expected = loss.fit_intercept_only(y, None)
    y[0] = outlier
    np.testing.assert_allclose(loss.fit_intercept_only(y, None), expected, rtol=1e-9)


@every_loss
def test_rows_without_weight_do_not_count(loss):
    y, scores = beside_scores(loss, targets()), some_scores(loss)
    weight = np.random.RandomState(2).uniform(1, 2, 40)
    expected = loss.score(scores[1:], y[1:], weight[1:])
    weight[0], y[0], scores[0] = 0, 1e200, -1e200
    with np.errstate(over="raise", invalid="raise"):
        assert loss.score(scores, y, weight) == expected


# What scikit-learn says of (targets, predictions).
SCORES = {
    "squared_error": r2_score,
    "absolute_error": d2_absolute_error_score,
    "quantile": lambda *args, **kw: d2_pinball_score(*args, alpha=0.5, **kw),
    "upper quantile": lambda *args, **kw: d2_pinball_score(*args, alpha=0.9, **kw),
    "poisson": r2_score,
    "gamma": lambda *args, **kw: d2_tweedie_score(*args, power=2, **kw),
    "tweedie": lambda *args, **kw: d2_tweedie_score(*args, power=1.5, **kw),
    "tweedie of power 1.2": lambda *args, **kw: d2_tweedie_score(*args, power=1.2, **kw),
}


@few_epochs
@pytest.mark.parametrize("scale_target", [False, True])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("name", SCORES)
def test_the_score_is_that_of_scikit_learn(name, weighted, scale_target):
    loss, X = LOSSES[name], np.random.RandomState(0).normal(size=(40, 3))
    y = targets(k=3)
    y = y[:, 0] if name in POSITIVE else y  # scikit-learn's deviances take one target
    weight = np.random.RandomState(2).uniform(0, 2, 40) if weighted else None
    model = quick(BackpropRegressor, loss=loss, scale_target=scale_target, max_iter=20)
    model.fit(X, y, sample_weight=weight)
    expected = SCORES[name](y, model.predict(X), sample_weight=weight)
    assert model.score(X, y, sample_weight=weight) == pytest.approx(expected, rel=1e-9)


def test_the_score_of_one_variance_for_all_rows_is_r2():
    y = targets(k=2)
    mean = y + np.random.RandomState(1).normal(size=y.shape)
    scores = np.empty((40, 4))
    scores[:, ::2] = mean
    scores[:, 1::2] = np.log(((mean - y) ** 2).mean(axis=0) - 1e-6)
    score = Gaussian().score(scores, beside_scores(Gaussian(), y), None)
    assert score == pytest.approx(r2_score(y, mean), rel=1e-9)
    assert np.isfinite(Gaussian().score(scores * 1e6, beside_scores(Gaussian(), y), None))


@every_loss
def test_best_constant_scores_zero(loss):
    y = targets()
    constant = np.tile(loss.fit_intercept_only(y[:, 0], None), (40, 1))
    spread = beside_scores(loss, y)
    assert loss.score(constant, spread, None) == pytest.approx(0, abs=1e-12)
    closer = constant.copy()
    closer[:, 0] += 0.1 * np.sign(y[:, 0] - np.median(y)) * (np.abs(y[:, 0] - 1.6) > 1)
    assert 0 < loss.score(closer, spread, None) < 1


@pytest.mark.parametrize("n", [1, 2, 7])
@every_loss
def test_constant_targets_score_zero_unless_they_are_met(loss, n):
    y = np.full((n, 1), 0.3)
    spread = beside_scores(loss, y)
    assert loss.score(some_scores(loss, n), spread, None) == 0.0
    if isinstance(loss, ResidualLoss):
        assert loss.score(y, spread, None) == 1.0
    weight = np.ones(n)
    weight[1:] = 0
    spread[1:] = 9.0  # rows that do not count
    assert loss.score(some_scores(loss, n), spread, weight) == 0.0


# ---------------------------------------------------------------------------- predictions


@few_epochs
@pytest.mark.parametrize("n_estimators", [1, 3])
def test_the_shape_of_predictions(n_estimators):
    X = np.random.RandomState(0).normal(size=(40, 3))
    for loss, k, shape, n_outputs in [
        ("quantile", 1, (40,), 1),
        (Quantile([0.3]), 2, (40, 2), 2),
        (Quantile(LEVELS), 1, (40, 3), 3),
        (Quantile(LEVELS), 2, (40, 2, 3), 6),
        ("gaussian", 1, (40,), 2),
        ("gaussian", 2, (40, 2), 4),
        ("huber", 2, (40, 2), 2),
    ]:
        y = targets(k=k) if k > 1 else targets()[:, 0]
        model = quick(BackpropRegressor, loss=loss, n_estimators=n_estimators).fit(X, y)
        mean, std = model.predict(X, return_std=True)
        assert mean.shape == std.shape == model.predict(X).shape == shape
        assert (model.n_outputs_, model.coefs_[-1].shape[-1]) == (n_outputs, n_outputs)
        assert np.isfinite(model.score(X, y))
        with pytest.raises(ValueError, match=f"y must have {k} column.*got {k + 1}"):
            model.partial_fit(X, targets(k=k + 1))


# ------------------------------------------------------------------------------- settings


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: Quantile([]), r"quantiles of Quantile must be .* in \(0, 1\).* got \[\]"),
        (lambda: Quantile([0.9, 0.1]), r"in ascending order, got \[0.9, 0.1\]"),
        (lambda: Quantile([0.5, 0.5]), "in ascending order"),
        (lambda: Quantile("median"), "quantiles of Quantile .* got 'median'"),
    ],
)
def test_raises_on_invalid_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# ---------------------------------------------------------------------- a loss of one's own


class CauchyLoss(Loss):
    """The negative log likelihood of a Cauchy distribution but for a constant: log(1 + r^2)."""

    link = IdentityLink()

    def value(self, scores, y):
        return np.log1p((scores - y) ** 2).sum(axis=-1)

    def gradient(self, scores, y, out):
        np.subtract(scores, y, out=out)
        out *= 2 / (1 + out**2)


@few_epochs
@pytest.mark.parametrize("scale_target", [False, True])
def test_custom_loss_is_one_class(scale_target):
    rng = np.random.RandomState(0)
    X = rng.normal(size=(200, 3))
    y = X @ [1.0, -2.0, 0.5] + 0.1 * rng.standard_cauchy(200)
    loss = CauchyLoss()
    check_loss(loss, rng.normal(size=(10, 2)), rng.normal(size=(10, 2)))
    settings = {"loss": loss, "scale_target": scale_target, "solver": "lbfgs", "max_iter": 200}
    model = quick(BackpropRegressor, **settings | {"early_stopping": True}).fit(X, y)
    assert model.score(X, y) > 0.5
    assert model.predict(X, return_std=True)[1].max() == 0
    assert quick(BackpropRegressor, **settings, n_estimators=3).fit(X, y).score(X, y) > 0.5


@every_loss
@pytest.mark.parametrize("k", [1, 2])
def test_predictions_are_those_of_the_link_that_are_named(loss, k):
    scores = some_scores(loss, k=k)
    of_link = np.empty_like(scores)
    loss.link.inverse(scores, of_link)
    named = of_link[:, loss.prediction_columns]
    np.testing.assert_array_equal(
        named.reshape(len(scores), -1), loss.predict(scores).reshape(40, -1)
    )
