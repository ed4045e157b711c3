"""NaN in y of several columns means "not measured", and weights may differ between targets."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import d2_absolute_error_score, r2_score

from skbackprop import BackpropAutoencoder, BackpropClassifier, BackpropRegressor
from skbackprop.losses import Gaussian, LogLoss, Loss, Quantile
from skbackprop.losses.links import IDENTITY_LINK
from support import assert_same_network, changed, few_epochs, label_data, quick, value_data

pytestmark = few_epochs

N, K = 60, 3
X, Y = value_data(N, n_outputs=K)
MEASURED = np.random.RandomState(1).rand(N, K) < 0.6
MEASURED[~MEASURED.any(axis=1), 1] = True
WITH_GAPS = np.where(MEASURED, Y + [0, 5, -3], np.nan)
WEIGHT = np.random.RandomState(2).randint(0, 4, size=(N, K)).astype(float)
LINEAR = {"hidden_layer_sizes": (), "alpha": 0.5, "random_state": 0}


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
        np.testing.assert_allclose(together[:, j], alone.predict(X), atol=1e-5)
        scores.append(alone.score(X[rows], WITH_GAPS[rows, j], of_target))
    assert model.score(X, WITH_GAPS, weight) == pytest.approx(np.mean(scores), abs=1e-6)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("loss", ["squared_error", "poisson", "gamma", Quantile([0.2, 0.8])], ids=str)
def test_a_weight_is_a_number_of_measurements_and_zero_is_none(loss, solver):
    """Each entry by itself in a row, as often as it weighs, makes the same network."""
    settings = {"loss": loss, "solver": solver, "batch_size": 10_000, "alpha": 0.5}
    y = np.exp(Y / 4)
    weight = np.where(MEASURED, WEIGHT, 0)
    weight[~weight.any(axis=1), 0] = 1
    model = quick(BackpropRegressor, **settings).fit(X, y, weight)
    zeros_as_gaps = quick(BackpropRegressor, **settings)
    zeros_as_gaps.fit(X, np.where(weight > 0, y, np.nan), np.maximum(weight, 1))
    assert_same_network(zeros_as_gaps, model)
    assert zeros_as_gaps.loss_curve_ == model.loss_curve_

    row, column = np.nonzero(weight)
    repeats = np.repeat(np.arange(len(row)), weight[row, column].astype(int))
    row, column = row[repeats], column[repeats]
    entries = np.full((len(row), K), np.nan)
    entries[np.arange(len(row)), column] = y[row, column]
    repeated = quick(BackpropRegressor, **settings).fit(X[row], entries)
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
