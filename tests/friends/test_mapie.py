"""MAPIE's intervals and prediction sets for networks equal those computed by hand.

Split conformal prediction (Vovk et al. 2005) around a model that is fitted already: the interval of
a row is its prediction plus and minus the ceil((n + 1) c)-th smallest of n absolute residuals.
"""

import math

import numpy as np
import pytest
from mapie.classification import CrossConformalClassifier, SplitConformalClassifier
from mapie.regression import CrossConformalRegressor, SplitConformalRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import (
    BackpropClassifier,
    BackpropRegressor,
    ConformalClassifier,
    ConformalRegressor,
)
from support import class_data, few_epochs, quick, value_data

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

NETWORKS = [
    quick(BackpropRegressor),
    make_pipeline(StandardScaler(), quick(BackpropRegressor, n_estimators=2)),
]


@pytest.mark.parametrize("network", NETWORKS, ids=["network", "pipeline"])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_split_conformal_intervals(network, level):
    X, y = value_data(150)
    model = network.fit(X[:50], y[:50])
    theirs = SplitConformalRegressor(model, confidence_level=level)
    predicted, intervals = theirs.conformalize(X[50:100], y[50:100]).predict_interval(X[100:])
    residuals = np.sort(abs(y[50:100] - model.predict(X[50:100])))
    width = residuals[math.ceil(51 * level) - 1]
    np.testing.assert_allclose(predicted, model.predict(X[100:]))
    by_hand = predicted[:, None] + [-width, width]
    np.testing.assert_allclose(intervals[..., 0], by_hand, rtol=1e-6)
    ours = ConformalRegressor(
        FrozenEstimator(model), coverage=level, conformity_score="absolute"
    ).fit(X[50:100], y[50:100])
    np.testing.assert_allclose(ours.predict_interval(X[100:]), by_hand, rtol=1e-6)


def test_coverage_of_cross_conformal_intervals():
    X, y = value_data(240)
    network = BackpropRegressor((), solver="lbfgs", max_iter=200)
    model = CrossConformalRegressor(network, confidence_level=0.8, cv=4, random_state=0)
    _, intervals = model.fit_conformalize(X[:120], y[:120]).predict_interval(X[120:])
    low, high = intervals[:, 0, 0], intervals[:, 1, 0]
    held = np.mean((low <= y[120:]) & (y[120:] <= high))
    assert 0.7 <= held <= 0.9  # of 120 rows: within two and a half standard deviations


def test_split_conformal_prediction_sets():
    X, y = class_data(150)
    model = quick(BackpropClassifier, learning_rate_init=0.05, max_iter=30).fit(X[:50], y[:50])
    theirs = SplitConformalClassifier(model, confidence_level=0.9, conformity_score="lac")
    labels, sets = theirs.conformalize(X[50:100], y[50:100]).predict_set(X[100:])
    scores = np.sort(1 - model.predict_proba(X[50:100])[np.arange(50), y[50:100]])
    largest = scores[math.ceil(51 * 0.9) - 1]
    assert labels.tolist() == model.predict(X[100:]).tolist()
    by_hand = 1 - model.predict_proba(X[100:]) <= largest + 1e-9
    np.testing.assert_array_equal(sets[..., 0], by_hand)
    ours = ConformalClassifier(FrozenEstimator(model)).fit(X[50:100], y[50:100])
    np.testing.assert_array_equal(ours.predict_set(X[100:]), by_hand)


def test_cross_conformal_prediction_sets():
    """Sets of "lac" are equal. MAPIE's sets of "aps" contain one label more than needed."""
    X, y = class_data(500, n_classes=4)
    y = np.where(np.random.RandomState(0).rand(500) < 0.3, y[::-1], y)
    network = BackpropClassifier((), solver="lbfgs", max_iter=200, random_state=0)
    cv, sets = StratifiedKFold(4), {}
    for score, how in [("lac", "crossval"), ("aps", "mean")]:
        theirs = CrossConformalClassifier(network, conformity_score=score, cv=cv, random_state=0)
        theirs = theirs.fit_conformalize(X[:200], y[:200])
        ours = ConformalClassifier(network, conformity_score=score, cv=cv).fit(X[:200], y[:200])
        sets[score] = ours.predict_set(X[200:])
        sets[f"their {score}"] = theirs.predict_set(X[200:], agg_scores=how)[1][..., 0]
    np.testing.assert_array_equal(sets["lac"], sets["their lac"])
    size = {name: each.sum() for name, each in sets.items()}
    assert size["aps"] < size["their aps"]
    covered = {name: each[np.arange(300), y[200:]].mean() for name, each in sets.items()}
    assert min(covered.values()) > 0.85
