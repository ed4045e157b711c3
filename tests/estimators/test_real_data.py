"""Does each loss of the regressor do on real data what it is for?

The data come with statsmodels: visits to a doctor and the health of 20,190 persons and years
from the RAND experiment, and the weekly level of carbon dioxide on Mauna Loa.
"""

import numpy as np
import pytest
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import mean_poisson_deviance
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from statsmodels.datasets import co2, randhie

from skbackprop import BackpropRegressor
from skbackprop.losses import Quantile
from support import few_epochs

pytestmark = [few_epochs, pytest.mark.long]


def persons(target):
    """Return half of the persons and years to train on, and half to test on."""
    table = randhie.load_pandas().data
    X, y = table.drop(columns=target).to_numpy(), table[target].to_numpy()
    return train_test_split(X, y, test_size=0.5, random_state=0)


def weeks():
    """Return half of the weeks to train on and half to test on: trend and season, and CO2."""
    level = co2.load_pandas().data["co2"].dropna()
    years = level.index.year + level.index.day_of_year / 365.25
    seasons = [f(2 * np.pi * k * years) for k in (1, 2, 3) for f in (np.sin, np.cos)]
    X = np.column_stack([(years - 1980) / 12, *seasons])
    return train_test_split(X, level.to_numpy(), test_size=0.5, random_state=0)


def network(**settings):
    settings = {
        "learning_rate_init": 0.002,
        "n_iter_no_change": np.inf,
        "random_state": 0,
    } | settings
    return make_pipeline(StandardScaler(), BackpropRegressor((32,), **settings))


def test_a_poisson_network_predicts_counts_better_than_a_poisson_regression():
    X_train, X_test, y_train, y_test = persons("mdvis")
    linear = make_pipeline(StandardScaler(), PoissonRegressor(alpha=0)).fit(X_train, y_train)
    ours = network(loss="poisson", max_iter=30).fit(X_train, y_train)
    deviances = [mean_poisson_deviance(y_test, model.predict(X_test)) for model in (ours, linear)]
    assert deviances[0] < deviances[1] - 0.02


def test_quantiles_cover_the_share_that_they_name():
    X_train, X_test, y_train, y_test = persons("disea")
    levels = [0.05, 0.25, 0.5, 0.75, 0.95]
    ours = network(loss=Quantile(levels), scale_target=True, max_iter=30).fit(X_train, y_train)
    assert len(y_test) > 10_000
    quantiles = ours.predict(X_test)
    assert (np.diff(quantiles) >= 0).all()
    covered = (y_test[:, None] <= quantiles).mean(axis=0)
    np.testing.assert_allclose(covered, levels, atol=0.02)


def test_intervals_of_the_gaussian_loss_are_calibrated():
    X_train, X_test, y_train, y_test = weeks()
    settings = {"scale_target": True, "alpha": 10.0, "batch_size": 50, "max_iter": 200}
    ours = network(loss="gaussian", **settings).fit(X_train, y_train)
    ensemble = network(loss="gaussian", n_estimators=5, **settings).fit(X_train, y_train)
    for model, tolerance in ((ours, 0.05), (ensemble, 0.1)):
        mean, std = model.predict(X_test, return_std=True)
        z = np.abs(y_test - mean) / std
        for share, quantile in ((0.5, 0.674), (0.9, 1.645)):
            assert (z < quantile).mean() == pytest.approx(share, abs=tolerance)
    assert ensemble.score(X_test, y_test) > ours.score(X_test, y_test)


def test_the_absolute_error_is_not_led_astray_by_outliers():
    """Of visits to a doctor some persons have seventy; of the weeks some get a misplaced point."""
    errors = {}
    for name, data in {"visits": persons("mdvis"), "weeks": weeks()}.items():
        X_train, X_test, y_train, y_test = data
        if name == "weeks":
            misplaced = np.random.RandomState(0).uniform(size=len(y_train)) < 0.05
            y_train = np.where(misplaced, 10 * y_train, y_train)
        for loss in ("squared_error", "absolute_error"):
            ours = network(loss=loss, scale_target=True, max_iter=40).fit(X_train, y_train)
            errors[name, loss] = np.abs(y_test - ours.predict(X_test))
    for measure in (np.mean, np.median):
        for name, share in (("visits", 0.95), ("weeks", 0.2)):
            absolute, squared = (
                measure(errors[name, loss]) for loss in ("absolute_error", "squared_error")
            )
            assert absolute < share * squared
