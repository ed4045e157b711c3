"""Each loss of the regressor does on real data what it is for.

The data come with statsmodels: visits to a doctor and the health of 20,190 persons and years
from the RAND experiment, and the weekly level of carbon dioxide on Mauna Loa.
"""

import numpy as np
import pytest
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from statsmodels.datasets import co2, randhie

from skbackprop import BackpropRegressor
from skbackprop.losses import Quantile
from support import few_epochs

pytestmark = [few_epochs, pytest.mark.slow]


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
