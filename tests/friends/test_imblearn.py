"""Networks work in pipelines of imbalanced-learn, which resample the rows of a fit.

The oracle is to resample by hand, and then to fit.
"""

import numpy as np
import pytest
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import make_pipeline
from imblearn.under_sampling import RandomUnderSampler
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier, BackpropGridSearchCV, TabularClassifier
from support import assert_same_network, class_data, few_epochs, quick

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

SAMPLERS = [
    RandomOverSampler(random_state=0),
    RandomUnderSampler(random_state=0),
    SMOTE(k_neighbors=3, random_state=0),
]


def imbalanced_data(n=200):
    """Return rows of two classes, a tenth of them of the second class."""
    X, y = class_data(n * 5, n_classes=2)
    rows = np.r_[np.flatnonzero(y == 0)[: n * 9 // 10], np.flatnonzero(y == 1)[: n // 10]]
    return X[rows] + 0.3 * np.random.RandomState(0).randn(len(rows), X.shape[1]), y[rows]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda sampler: type(sampler).__name__)
def test_pipeline_resamples_before_fit(sampler):
    X, y = imbalanced_data()
    model = make_pipeline(StandardScaler(), sampler, quick(BackpropClassifier)).fit(X, y)
    scaler = StandardScaler().fit(X)
    resampled = sampler.fit_resample(scaler.transform(X), y)
    assert np.ptp(np.bincount(resampled[1])) == 0
    by_hand = quick(BackpropClassifier).fit(*resampled)
    assert_same_network(model[-1], by_hand)
    probabilities = by_hand.predict_proba(scaler.transform(X))  # of all rows, none is resampled
    np.testing.assert_allclose(model.predict_proba(X), probabilities)


def test_search_resamples_training_rows_only():
    """Its scores are those of scikit-learn's search, in which the pipeline fits by itself."""
    X, y = imbalanced_data()
    model = make_pipeline(
        StandardScaler(), RandomOverSampler(random_state=0), quick(BackpropClassifier)
    )
    grid = {"backpropclassifier__alpha": [1e-4, 1.0], "backpropclassifier__max_iter": [3, 6]}
    ours, theirs = (
        kind(model, grid, cv=3, scoring="neg_log_loss").fit(X, y)
        for kind in (BackpropGridSearchCV, GridSearchCV)
    )
    scores = theirs.cv_results_["mean_test_score"]
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], scores, rtol=1e-9)
    assert_same_network(ours.best_estimator_[-1], theirs.best_estimator_[-1])


def test_tabular_estimator_after_sampler():
    X, y = imbalanced_data(60)
    sampler = RandomOverSampler(random_state=0)
    network = TabularClassifier(2, max_iter=1, random_state=0)
    model = make_pipeline(sampler, network).fit(X, y)
    by_hand = TabularClassifier(2, max_iter=1, random_state=0).fit(*sampler.fit_resample(X, y))
    np.testing.assert_allclose(model.predict_proba(X), by_hand.predict_proba(X))
