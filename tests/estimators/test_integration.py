"""The estimators do their work inside scikit-learn's meta-estimators, searches and tools.

Each test asks for a result that a mere absence of exceptions would not give: a score over a
baseline, the numbers of the same thing done by hand, or the shapes that the tool promises.
"""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor, make_column_transformer
from sklearn.ensemble import (
    BaggingClassifier,
    HistGradientBoostingClassifier,
    VotingClassifier,
)
from sklearn.model_selection import KFold
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_info

from skbackprop import (
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
    TabularClassifier,
)
from support import assert_same_network, class_data, few_epochs, label_data, quick, value_data

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

TREES = {"max_iter": 5, "min_samples_leaf": 5, "random_state": 0}
SHORT = {"hidden_layer_sizes": (16,), "learning_rate_init": 0.01, "random_state": 0}


def quick_classifier(**settings):
    return BackpropClassifier(**SHORT | {"max_iter": 40} | settings)


# ------------------------------------------------------------------------------- pipelines


def test_column_transformer_feeds_a_frame_of_mixed_columns():
    rng = np.random.RandomState(0)
    numbers = {"size": rng.randn(200), "weight": 100 * rng.randn(200)}
    frame = pd.DataFrame(numbers | {"kind": rng.choice(list("abc"), 200)})
    y = np.where((frame["size"] > 0) ^ (frame["kind"] == "a"), "yes", "no")
    columns = make_column_transformer(
        (StandardScaler(), ["size", "weight"]), (OneHotEncoder(sparse_output=False), ["kind"])
    ).set_output(transform="pandas")
    model = make_pipeline(columns, quick_classifier(max_iter=100)).fit(frame[:150], y[:150])

    assert model.score(frame[150:], y[150:]) > 0.9  # a linear model stays near 0.7
    assert list(model[-1].feature_names_in_) == list(columns.get_feature_names_out())
    shuffled_columns = frame[["kind", "weight", "size"]]
    np.testing.assert_array_equal(model.predict(shuffled_columns), model.predict(frame))


# ------------------------------------------------------------------------ meta-estimators


def test_multi_output_classifier_learns_batch_by_batch():
    X, Y = label_data(120, n_labels=2)
    model = MultiOutputClassifier(quick_classifier(learning_rate_init=0.05))
    for epoch in range(20):
        for rows in KFold(4).split(X):
            classes = [[0, 1], [0, 1]] if epoch == 0 else None
            model.partial_fit(X[rows[1]], Y[rows[1]], classes=classes)
    assert [estimator.t_ for estimator in model.estimators_] == [20 * 120] * 2
    assert (model.predict(X) == Y).mean() > 0.9


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


# ------------------------------------------------------------- conventions of an estimator


class Brief(BackpropRegressor):
    """A network of a user's own, whose constructor takes few parameters and one more."""

    def __init__(self, n_units=3, alpha=0.1, shift=0.0):
        super().__init__((n_units,), alpha=alpha, max_iter=3, solver="sgd", random_state=0)
        self.n_units, self.shift = n_units, shift


def test_the_constructor_of_a_derived_class_may_take_other_parameters():
    X, y = value_data()
    plain = BackpropRegressor((3,), alpha=0.1, max_iter=3, solver="sgd", random_state=0)
    brief = Brief().fit(X, y)
    assert_same_network(brief, plain.fit(X, y))
    assert_same_network(brief.partial_fit(X, y), plain.partial_fit(X, y))
    brief.solver = "adam"
    with pytest.raises(ValueError, match="solver of the fitted network is SGD"):
        brief.partial_fit(X, y)

    grid = {"alpha": [0.1, 10.0]}
    searches = [BackpropGridSearchCV(each, grid, cv=2).fit(X, y) for each in (Brief(), plain)]
    scores = [search.cv_results_["mean_test_score"] for search in searches]
    np.testing.assert_array_equal(*scores)


# -------------------------------------------------------------------------------- threads


@pytest.mark.parametrize("as_sparse", [False, True], ids=["dense", "sparse"])
def test_two_threads_predict_with_one_estimator(as_sparse):
    """Different rows at the same time, many times over: each thread gets its own answers."""
    X, y = class_data(2000, n_features=30)
    model = quick_classifier(hidden_layer_sizes=(100, 100), max_iter=3).fit(X, y)
    halves = [X[:1000], X[1000:]]
    if as_sparse:
        halves = [sparse.csr_array(half) for half in halves]
    serial = [model.predict_proba(half) for half in halves]
    parallel = joblib.Parallel(n_jobs=2, backend="threading")(
        joblib.delayed(model.predict_proba)(half) for half in halves * 20
    )
    for expected, actual in zip(serial * 20, parallel, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_two_threads_fit_two_estimators():
    X, y = class_data(300, n_features=20)
    threads_before = [library["num_threads"] for library in threadpool_info()]
    barrier = Barrier(2)

    def fit(seed):
        return quick_classifier(hidden_layer_sizes=(100,), max_iter=10, random_state=seed).fit(X, y)

    def fit_at_once(seed):
        barrier.wait()
        return fit(seed)

    with ThreadPoolExecutor(2) as pool:
        for seed, parallel in enumerate(pool.map(fit_at_once, (0, 1))):
            assert_same_network(parallel, fit(seed), rtol=1e-9, atol=1e-9)
    assert [library["num_threads"] for library in threadpool_info()] == threads_before
