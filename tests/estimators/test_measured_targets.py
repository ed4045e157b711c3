"""NaN in y of several columns means "not measured", and weights may differ between targets."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.metrics import d2_absolute_error_score, r2_score
from sklearn.model_selection import GridSearchCV

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropRegressor,
    ConformalRegressor,
    EarlyStopping,
)
from skbackprop.losses import Gaussian, LogLoss, Loss, Quantile
from skbackprop.losses.links import IDENTITY_LINK
from skbackprop.model_selection import BackpropGridSearchCV
from support import assert_same_network, changed, few_epochs, label_data, quick, value_data

pytestmark = few_epochs

N, K = 60, 3
X, Y = value_data(N, n_outputs=K)
MEASURED = np.random.RandomState(1).rand(N, K) < 0.6
MEASURED[~MEASURED.any(axis=1), 1] = True
WITH_GAPS = np.where(MEASURED, np.add(Y, [0, 5, -3]), np.nan)
WEIGHT = np.random.RandomState(2).randint(0, 4, size=(N, K)).astype(float)
LINEAR = {"hidden_layer_sizes": (), "alpha": 5.0, "random_state": 0}


def minimum(**settings):
    return BackpropRegressor(solver="lbfgs", tol=1e-12, max_iter=5000, **LINEAR, **settings)


@pytest.mark.parametrize("loss", ["squared_error", "log_cosh", Gaussian(0.1)], ids=str)
@pytest.mark.parametrize("scale_target", [False, True])
@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
def test_separate_outputs_are_fitted_as_alone(loss, scale_target, weighted):
    """Without a hidden layer nothing is shared: each target is fitted to its measured rows."""
    model, weight = minimum(loss=loss, scale_target=scale_target), WEIGHT if weighted else None
    together = model.fit(X, WITH_GAPS, weight).predict(X)
    scores = []
    for j in range(K):
        rows, of_target = MEASURED[:, j], None if weight is None else weight[MEASURED[:, j], j]
        alone = minimum(loss=loss, scale_target=scale_target)
        alone.fit(X[rows], WITH_GAPS[rows, j], of_target)
        np.testing.assert_allclose(together[:, j], alone.predict(X), atol=1e-3)
        scores.append(alone.score(X[rows], WITH_GAPS[rows, j], of_target))
    assert model.score(X, WITH_GAPS, weight) == pytest.approx(np.mean(scores), abs=1e-4)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize(
    "loss", ["squared_error", "poisson", "gamma", Quantile([0.2, 0.8])], ids=str
)
def test_a_weight_is_a_number_of_measurements_and_zero_is_none(loss, solver):
    """Each entry by itself in a row, as often as it weighs, makes the same network."""
    settings = {"loss": loss, "solver": solver, "alpha": 0.5}
    y = np.exp(Y / 4)
    weight = np.where(MEASURED, WEIGHT, 0)
    weight[~weight.any(axis=1), 0] = 1
    model = quick(BackpropRegressor, batch_size=N, **settings).fit(X, y, weight)
    zeros_as_gaps = quick(BackpropRegressor, batch_size=N, **settings)
    zeros_as_gaps.fit(X, np.where(weight > 0, y, np.nan), np.maximum(weight, 1))
    assert_same_network(zeros_as_gaps, model)
    assert zeros_as_gaps.loss_curve_ == model.loss_curve_

    row, column = np.nonzero(weight)
    repeats = np.repeat(np.arange(len(row)), weight[row, column].astype(int))
    row, column = row[repeats], column[repeats]
    entries = np.full((len(row), K), np.nan)
    entries[np.arange(len(row)), column] = y[row, column]
    repeated = quick(BackpropRegressor, batch_size=len(row), **settings).fit(X[row], entries)
    # A row of one measurement out of three counts a third, and so does its share of the penalty.
    for ours, theirs in zip(repeated.coefs_, model.coefs_, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-8)
    np.testing.assert_allclose(repeated.loss_curve_, model.loss_curve_, rtol=1e-7)
    expected = model.score(X, y, weight)
    assert repeated.score(X[row], entries) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("n_estimators", [1, 3])
@pytest.mark.parametrize("loss", ["squared_error", "poisson", "gaussian"])
def test_equal_weights_of_all_targets_are_the_weight_of_the_row(loss, n_estimators):
    y, weight = np.exp(Y / 4), WEIGHT[:, 0] + 0.5
    columns = np.tile(weight[:, None], (1, K))
    models = [
        quick(
            BackpropRegressor,
            loss=loss,
            n_estimators=n_estimators,
            normalization="batch",
            dropout=0.1,
        ).fit(X, y, of_rows, X_val=X, y_val=y, sample_weight_val=of_rows)
        for of_rows in (weight, columns)
    ]
    np.testing.assert_allclose(*(model.predict(X) for model in models), rtol=1e-9)
    for name in ("loss_curve_", "validation_loss_curve_"):
        np.testing.assert_allclose(*(getattr(model, name) for model in models), rtol=1e-9)
    scores = models[0].score(X, y, weight), models[0].score(X, y, columns)
    assert scores[0] == pytest.approx(scores[1], rel=1e-12)


def test_mean_and_scale_are_those_of_the_measured_rows():
    model = quick(BackpropRegressor, scale_target=True).fit(X, WITH_GAPS, WEIGHT)
    for j, rows in enumerate(MEASURED.T):
        values, weight = WITH_GAPS[rows, j], WEIGHT[rows, j]
        mean = np.average(values, weights=weight)
        scale = np.sqrt(np.average((values - mean) ** 2, weights=weight))
        assert model.target_mean_[j] == pytest.approx(mean)
        assert model.target_scale_[j] == pytest.approx(scale)


@pytest.mark.parametrize("weighted", [False, True], ids=["equal", "weighted"])
@pytest.mark.parametrize("loss", ["squared_error", "poisson", "absolute_error"])
def test_the_score_is_the_mean_of_the_scores_of_measured_targets(loss, weighted):
    weight = WEIGHT + 0.5 if weighted else np.ones((N, K))
    y = np.abs(WITH_GAPS)
    model = quick(BackpropRegressor, loss=loss).fit(X, y)
    rows = MEASURED[:, :2].any(axis=1)
    y[:, 2] = np.nan  # a target without any measurement does not count
    metric, scores = d2_absolute_error_score if loss == "absolute_error" else r2_score, []
    for j in range(2):
        is_used = MEASURED[:, j]
        predictions = model.predict(X[is_used])[:, j]
        scores.append(metric(y[is_used, j], predictions, sample_weight=weight[is_used, j]))
    score = model.score(X[rows], y[rows], weight[rows] if weighted else None)
    assert score == pytest.approx(np.mean(scores))


CONTAINERS = {
    "list": lambda y: y.tolist(),
    "frame": pd.DataFrame,
    "nullable": lambda y: pd.DataFrame(y).astype("Float64"),
    "objects": lambda y: np.where(np.isnan(y), None, y),
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
def test_gaps_may_be_written_in_any_container(container):
    y = container(WITH_GAPS)
    model, expected = (quick(BackpropRegressor).fit(X, values) for values in (y, WITH_GAPS))
    assert_same_network(model, expected)
    assert model.score(X, y) == expected.score(X, WITH_GAPS)


def test_validation_and_further_training_skip_gaps():
    """A value that is not measured has no effect: it equals any value of weight zero."""
    filled, weight = np.where(MEASURED, WITH_GAPS, 7.0), MEASURED.astype(float)
    groups = np.arange(N) // 4
    for settings, options in (
        ({"early_stopping": True, "n_estimators": 2}, {"groups": groups}),
        ({"early_stopping": EarlyStopping(validation_fraction="folds"), "n_estimators": 3}, {}),
        ({"early_stopping": EarlyStopping(scoring="loss"), "solver": "lbfgs"}, {}),
        ({}, {"X_val": X[:9]}),
    ):
        models = []
        for y, weights in ((WITH_GAPS, None), (filled, weight)):
            if "X_val" in options:
                of_val = None if weights is None else weights[:9]
                options |= {"y_val": y[:9], "sample_weight_val": of_val}
            models.append(quick(BackpropRegressor, **settings).fit(X, y, weights, **options))
        assert_same_network(*models)
        for name in ("validation_scores_", "validation_loss_curve_", "oof_score_"):
            assert getattr(models[0], name, None) == getattr(models[1], name, None)
    parts = [slice(0, 20), slice(20, 40), slice(40, 60)]
    models = [quick(BackpropRegressor) for _ in range(2)]
    for part in parts:
        models[0].partial_fit(X[part], WITH_GAPS[part])
        models[1].partial_fit(X[part], filled[part], weight[part])
    assert_same_network(*models)


def test_searches_and_cross_validation_take_gaps():
    grid = {"alpha": [0.1, 1.0, 10.0]}
    ours = BackpropGridSearchCV(quick(BackpropRegressor), grid).fit(X, WITH_GAPS)
    theirs = GridSearchCV(quick(BackpropRegressor), grid).fit(X, WITH_GAPS)
    scores = [search.cv_results_["mean_test_score"] for search in (ours, theirs)]
    np.testing.assert_array_equal(*scores)
    assert np.isfinite(scores[0]).all()


class Coupled(Loss):
    """Half the square of the sum of the residuals."""

    link = IDENTITY_LINK

    def value(self, raw_prediction, y):
        return 0.5 * (raw_prediction - y).sum(axis=-1) ** 2

    def gradient(self, raw_prediction, y, out):
        out[...] = (raw_prediction - y).sum(axis=-1, keepdims=True)


REGRESSOR = quick(BackpropRegressor)
BY_SCORE = quick(BackpropRegressor, early_stopping=EarlyStopping(scoring="r2"))
EARLY = quick(BackpropRegressor, early_stopping=True, validation_fraction=0.9)
ERRORS = {
    "row": (REGRESSOR, changed(WITH_GAPS, 7, np.nan), None, "row 7 has no target"),
    "one target": (REGRESSOR, changed(Y[:, 0], 3, np.nan), None, "row 3 has no target"),
    "column": (
        REGRESSOR,
        np.add(Y, [0, np.nan, 0]),
        None,
        "Column 1 of y has no value",
    ),
    "no weight": (REGRESSOR, Y, np.ones((N, K)) * [0, 1, 1], "Column 0 of y has no value"),
    "training rows": (EARLY, changed(Y, np.s_[2:, 0], np.nan), None, "for each target, but"),
    "columns": (REGRESSOR, Y, WEIGHT[:, :2], r"\(60, 2\), expected \(60,\).*, or \(60, 3\)"),
    "weights of y": (REGRESSOR, Y[:, 0], WEIGHT, "must be 1D"),
    "scorer": (BY_SCORE, WITH_GAPS, None, "scoring='r2' of EarlyStopping has no weights for each"),
    "coupled": (
        quick(BackpropRegressor, loss=Coupled()),
        WITH_GAPS,
        None,
        "Coupled.* cannot weigh or skip",
    ),
    "softmax": (
        quick(BackpropRegressor, loss=LogLoss(multiclass=True)),
        np.full((N, K), 1 / K),
        WEIGHT,
        r"loss=LogLoss\(\) cannot weigh or skip single targets",
    ),
    "labels": (quick(BackpropClassifier), label_data(N)[1], WEIGHT, "must be 1D"),
    "input": (quick(BackpropAutoencoder), None, np.ones_like(X), "must be 1D"),
    "intervals": (ConformalRegressor(REGRESSOR), WITH_GAPS, None, "Input y contains NaN"),
}


@pytest.mark.parametrize("estimator, y, weight, message", ERRORS.values(), ids=ERRORS)
def test_targets_and_weights_that_cannot_be_used_are_an_error(estimator, y, weight, message):
    options = {} if weight is None else {"sample_weight": weight}
    with pytest.raises(ValueError, match=message):
        clone(estimator).fit(X, y, **options)


def test_validation_rows_with_gaps_need_a_sum_over_targets():
    with pytest.raises(ValueError, match="Coupled.* cannot weigh or skip"):
        quick(BackpropRegressor, loss=Coupled()).fit(X, Y, X_val=X, y_val=WITH_GAPS)


def test_a_loss_may_differ_between_targets():
    """With weights in the loss itself, an equal network is trained by weights of the targets."""

    @dataclass(frozen=True)
    class Weighted(Loss):
        link = IDENTITY_LINK

        def value(self, raw_prediction, y):
            return self.value_per_target(raw_prediction, y).sum(axis=-1)

        def value_per_target(self, raw_prediction, y):
            return 0.5 * np.array([1, 2, 3]) * (raw_prediction - y) ** 2

        def gradient(self, raw_prediction, y, out):
            out[...] = np.array([1, 2, 3]) * (raw_prediction - y)

    factors = np.tile([1.0, 2.0, 3.0], (N, 1))
    ratio = factors[MEASURED].sum() / MEASURED.sum()  # of the weights that the sums are divided by
    settings = {"batch_size": N, "solver": "sgd", "alpha": 0.0, "tol": 0.0}
    own = quick(BackpropRegressor, loss=Weighted(), learning_rate_init=0.01, **settings)
    plain = quick(BackpropRegressor, learning_rate_init=0.01 * ratio, **settings)
    predictions = own.fit(X, WITH_GAPS).predict(X), plain.fit(X, WITH_GAPS, factors).predict(X)
    np.testing.assert_allclose(*predictions, rtol=1e-9)
    assert own.loss_ == pytest.approx(plain.loss_ * ratio)
