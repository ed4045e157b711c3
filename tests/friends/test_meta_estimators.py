"""Networks work inside meta-estimators of scikit-learn, and next to other estimators.

The oracle does by hand what the meta-estimator promises. Calibration, stacking and
bagging are in tests/estimators/test_integration.py.
"""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    VotingClassifier,
    VotingRegressor,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier, BackpropRegressor, TabularClassifier
from support import assert_same_network, class_data, few_epochs, quick, value_data

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

TREES = {"max_iter": 5, "min_samples_leaf": 5, "random_state": 0}


@pytest.mark.parametrize("weights", [None, [1, 3]])
@pytest.mark.parametrize(
    "network",
    [
        make_pipeline(StandardScaler(), quick(BackpropClassifier)),
        quick(BackpropClassifier, n_estimators=2),
        TabularClassifier(2, max_iter=1, random_state=0),
    ],
    ids=["pipeline", "ensemble", "tabular"],
)
def test_soft_voting_averages_probabilities(network, weights):
    X, y = class_data(90)
    labels = np.array(["low", "middle", "high"])[y]
    members = [("boosting", HistGradientBoostingClassifier(**TREES)), ("network", network)]
    vote = VotingClassifier(members, voting="soft", weights=weights).fit(X, labels)
    each = [clone(member).fit(X, labels).predict_proba(X) for _, member in members]
    mean = np.average(each, axis=0, weights=weights)
    np.testing.assert_allclose(vote.predict_proba(X), mean, rtol=1e-9)
    assert vote.predict(X).tolist() == vote.classes_[mean.argmax(axis=1)].tolist()


def test_voting_regressor_averages_predictions():
    X, y = value_data(90)
    members = [
        ("boosting", HistGradientBoostingRegressor(**TREES)),
        ("network", quick(BackpropRegressor, scale_target=True)),
    ]
    vote = VotingRegressor(members).fit(X, y)
    mean = np.mean([clone(member).fit(X, y).predict(X) for _, member in members], axis=0)
    np.testing.assert_allclose(vote.predict(X), mean, rtol=1e-9)


def test_bagging_weights_rows():
    X, y = class_data(60)
    bag = BaggingClassifier(quick(BackpropClassifier), n_estimators=3, random_state=0).fit(X, y)
    for member, rows in zip(bag.estimators_, bag.estimators_samples_, strict=True):
        # scikit-learn gives rows that are drawn several times as weights.
        weight = np.bincount(rows, minlength=len(X))
        by_hand = quick(BackpropClassifier, random_state=member.random_state)
        assert_same_network(member, by_hand.fit(X, y, sample_weight=weight))
    each = [member.predict_proba(X) for member in bag.estimators_]
    np.testing.assert_allclose(bag.predict_proba(X), np.mean(each, axis=0))


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_transformed_targets(n_outputs):
    X, y = value_data(60, n_outputs=n_outputs)
    prices = np.exp(y + 3)
    model = TransformedTargetRegressor(quick(BackpropRegressor), func=np.log, inverse_func=np.exp)
    by_hand = quick(BackpropRegressor).fit(X, np.log(prices))
    assert_same_network(model.fit(X, prices).regressor_, by_hand)
    np.testing.assert_allclose(model.predict(X), np.exp(by_hand.predict(X)))
