"""Rows are transformed and parameters validated once, with equal scores.

The oracle is scikit-learn's search, which passes the whole pipeline and the test rows to each
scorer. Scores do not show that nothing is computed twice, so calls are counted.
"""

import pickle
from collections import Counter
from typing import ClassVar

import numpy as np
import pytest
import sklearn
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.metrics import accuracy_score, make_scorer
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier, BackpropGridSearchCV, BackpropHalvingGridSearchCV
from skbackprop.estimators._fit_many import FitJob, fit_many
from skbackprop.model_selection._candidates import CandidateStates
from support import assert_same_search, class_data, few_epochs, quick

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

X, Y = class_data(41)
GRID = {"backpropclassifier__alpha": [0.0, 0.1, 1.0]}
NETWORK = quick(BackpropClassifier)


class Counting(StandardScaler):
    """Record the number of rows of each call of `transform`."""

    n_rows: ClassVar = []

    def transform(self, X, copy=None):
        Counting.n_rows.append(len(X))
        return super().transform(X, copy)


class OneOff(Pipeline):
    """A pipeline whose predictions differ from those of its network."""

    def predict(self, X):
        return np.roll(super().predict(X), 1)


class Refusing(TransformerMixin, BaseEstimator):
    """Raise an error for rows that it is not fitted to."""

    def fit(self, X, y=None):
        self.n_ = len(X)
        return self

    def transform(self, X):
        if len(X) != self.n_:
            raise ValueError("these are other rows")
        return X


def whole_pipeline(estimator, X, y):
    """A user-defined scorer that uses attributes of the estimator."""
    assert isinstance(estimator, Pipeline)
    return accuracy_score(y, estimator.predict(X)) + estimator[0].mean_[0]


def fit_both(estimator, grid=GRID, **settings):
    searches = [
        kind(estimator, grid, cv=2, **settings) for kind in (BackpropGridSearchCV, GridSearchCV)
    ]
    for search in searches:
        search.fit(X, Y)
    return searches


@pytest.mark.long
@pytest.mark.parametrize(
    "scoring",
    [
        None,
        "neg_log_loss",
        ["accuracy", "roc_auc_ovr"],
        make_scorer(accuracy_score, normalize=False),
        whole_pipeline,
        {"own": whole_pipeline, "accuracy": "accuracy"},
    ],
    ids=["own", "metric", "several", "made", "callable", "mixed"],
)
@pytest.mark.parametrize("return_train_score", [False, True])
def test_any_scorer_scores_the_whole_pipeline(scoring, return_train_score):
    settings = {"scoring": scoring, "return_train_score": return_train_score, "refit": False}
    assert_same_search(*fit_both(make_pipeline(StandardScaler(), NETWORK), **settings))


def test_scores_the_predictions_of_a_subclass_of_pipeline():
    assert_same_search(
        *fit_both(OneOff([("scale", StandardScaler()), ("backpropclassifier", NETWORK)]))
    )


@pytest.mark.long
def test_scores_match_with_metadata_routing():
    with sklearn.config_context(enable_metadata_routing=True):
        assert_same_search(*fit_both(make_pipeline(StandardScaler(), NETWORK)))


@pytest.mark.filterwarnings("ignore:(Scoring failed|One or more of the test scores):UserWarning")
def test_rows_that_cannot_be_transformed_fail_each_score():
    assert_same_search(*fit_both(make_pipeline(Refusing(), NETWORK), refit=False))


@pytest.mark.parametrize("search_class", [BackpropGridSearchCV, BackpropHalvingGridSearchCV])
def test_test_rows_are_transformed_once_for_all_candidates(search_class):
    Counting.n_rows.clear()
    settings = {"cv": 2, "refit": False, "return_train_score": True}
    search = search_class(make_pipeline(Counting(), NETWORK), GRID, **settings).fit(X, Y)
    n_rounds = getattr(search, "n_iterations_", 1)
    # Either half of the rows is fitted, and scored as test rows and as training rows.
    assert Counter(Counting.n_rows) == {20: 3 * n_rounds, 21: 3 * n_rounds}


def test_parameters_are_validated_once_for_all_splits(monkeypatch):
    checked, check = [], BackpropClassifier._make_config

    def count(self, parameters):
        checked.append(self.alpha)
        return check(self, parameters)

    monkeypatch.setattr(BackpropClassifier, "_make_config", count)
    BackpropGridSearchCV(NETWORK, {"alpha": [0.0, 0.1, 1.0]}, cv=4, refit=False).fit(X, Y)
    assert sorted(checked) == [0.0, 0.1, 1.0]


def test_pickled_states_share_row_orders_and_streams():
    data = X, Y, {}
    fits = [FitJob(quick(BackpropClassifier, alpha=alpha), *data) for alpha in (0.1, 1.0)]
    fit_many(fits, 2**28, pause_epoch=2)
    sent = CandidateStates({(i, 0): fit.checkpoints for i, fit in enumerate(fits)})
    one, other = pickle.loads(pickle.dumps(sent)).values()
    states = [checkpoints[0].state for checkpoints in (one, other)]
    assert states[0].orders[0] is states[1].orders[0]
    assert states[0].rngs[0] is states[1].rngs[0]
