"""Do the estimators do their work inside scikit-learn's meta-estimators, searches and tools?

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
from sklearn.base import clone, is_classifier, is_regressor
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import (
    AdaBoostClassifier,
    AdaBoostRegressor,
    BaggingRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    cross_val_predict,
    learning_curve,
    train_test_split,
)
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import MultiOutputClassifier, MultiOutputRegressor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.semi_supervised import SelfTrainingClassifier
from sklearn.utils import get_tags
from threadpoolctl import threadpool_info

from skbackprop import BackpropClassifier, BackpropGridSearchCV, BackpropRegressor
from support import BOTH, assert_same_network, class_data, few_epochs, label_data, value_data

pytestmark = few_epochs
SHORT = {"hidden_layer_sizes": (16,), "learning_rate_init": 0.01, "random_state": 0}


def quick_classifier(**settings):
    return BackpropClassifier(**SHORT | {"max_iter": 40} | settings)


def quick_regressor(**settings):
    return BackpropRegressor(**SHORT | {"max_iter": 100} | settings)


@pytest.fixture(scope="module")
def cancer():
    """Train and test rows of a binary problem on which the majority class scores 0.63."""
    X, y = load_breast_cancer(return_X_y=True)
    return train_test_split(X, y, random_state=0, stratify=y)


# ------------------------------------------------------------------------------- pipelines


@pytest.mark.long
def test_pipeline_with_a_scaler_classifies(cancer):
    X, X_test, y, y_test = cancer
    model = make_pipeline(StandardScaler(), quick_classifier()).fit(X, y)
    assert model.score(X_test, y_test) > 0.95
    np.testing.assert_allclose(model.predict_proba(X_test).sum(axis=1), 1)
    by_hand = quick_classifier().fit(StandardScaler().fit_transform(X), y)
    assert_same_network(model[-1], by_hand)


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


def test_pipeline_hands_on_a_sparse_matrix_of_words():
    texts = ["good fine great", "bad awful poor", "great good", "poor bad", "fine", "awful"] * 5
    y = ["up", "down"] * 15
    model = make_pipeline(TfidfVectorizer(), quick_classifier(max_iter=100)).fit(texts, y)
    assert model.score(texts, y) == 1
    assert list(model.predict(["good and great", "poor and awful"])) == ["up", "down"]


# ------------------------------------------------------------------------ search and scores


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::UserWarning:joblib")  # a slow start of a worker is no fault
def test_grid_search_finds_the_same_with_one_and_two_processes(cancer):
    X, X_test, y, y_test = cancer
    network = "backpropclassifier__"
    grid = {network + "learning_rate_init": [1e-5, 0.01]}
    grid[network + "hidden_layer_sizes"] = [(4,), (16,)]
    model = make_pipeline(StandardScaler(), quick_classifier(max_iter=20))
    alone, paired = (
        GridSearchCV(model, grid, cv=3, n_jobs=n_jobs, scoring="neg_log_loss").fit(X, y)
        for n_jobs in (1, 2)
    )
    scores, expected = (each.cv_results_["mean_test_score"] for each in (paired, alone))
    np.testing.assert_allclose(scores, expected, rtol=1e-9)
    assert alone.best_params_ == paired.best_params_
    assert alone.best_params_[network + "learning_rate_init"] == 0.01
    assert_same_network(alone.best_estimator_[-1], paired.best_estimator_[-1], 1e-9, 1e-9)
    assert (alone.predict(X_test) == y_test).mean() > 0.94


@pytest.mark.long
def test_halving_search_spends_epochs(cancer):
    X, X_test, y, y_test = cancer
    network = "backpropclassifier__"
    search = HalvingGridSearchCV(
        make_pipeline(StandardScaler(), quick_classifier()),
        {network + "learning_rate_init": [1e-5, 1e-4, 1e-3, 1e-2]},
        resource=network + "max_iter",
        **{"min_resources": 5, "max_resources": 20, "factor": 2, "cv": 3, "random_state": 0},
    ).fit(X, y)
    assert search.n_resources_ == [5, 10, 20]
    assert search.best_estimator_[-1].n_iter_ == search.best_estimator_[-1].max_iter == 20
    assert search.best_params_[network + "learning_rate_init"] == 1e-2
    assert search.score(X_test, y_test) > 0.94


@pytest.mark.long
def test_cross_val_predict_takes_every_method():
    X, y = class_data(90)
    shapes = {"predict": (90,), "predict_proba": (90, 3), "predict_log_proba": (90, 3)}
    shapes["decision_function"] = (90, 3)
    for method, shape in shapes.items():
        network = quick_classifier(learning_rate_init=0.05)
        out = cross_val_predict(network, X, y, cv=3, method=method)
        assert out.shape == shape
        labels = out if out.ndim == 1 else out.argmax(axis=1)
        assert (labels == y).mean() > 0.7, method  # guessing: 0.33


def test_learning_curve_exploits_partial_fit():
    X, y = class_data(150)
    network, sizes = quick_classifier(learning_rate_init=0.05), np.linspace(0.1, 1.0, 10)
    _, _, scores = learning_curve(
        network, X, y, train_sizes=sizes, cv=3, exploit_incremental_learning=True
    )
    assert scores.shape == (10, 3)
    # Each size continues from the one before it: one epoch a size is enough to learn.
    assert scores[-1].mean() > max(scores[0].mean() + 0.1, 0.7)


# ------------------------------------------------------------------------ meta-estimators


@pytest.mark.long
@pytest.mark.parametrize("method", ["sigmoid", "isotonic", "temperature"])
def test_calibration(cancer, method):
    X, X_test, y, y_test = cancer
    model = make_pipeline(StandardScaler(), quick_classifier())
    calibrated = CalibratedClassifierCV(model, method=method, cv=3).fit(X, y)
    probabilities = calibrated.predict_proba(X_test)
    assert probabilities.shape == (len(X_test), 2)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert log_loss(y_test, probabilities) < 0.3  # the class frequencies alone: 0.66
    assert calibrated.score(X_test, y_test) > 0.93


MANY = class_data(120)


class WithoutScores(BackpropClassifier):
    """A network that has, like scikit-learn's, probabilities alone."""

    decision_function = property()


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda network: CalibratedClassifierCV(network, cv=3).fit(*MANY).predict_proba(MANY[0]),
        lambda network: OneVsOneClassifier(network).fit(*MANY).decision_function(MANY[0]),
    ],
    ids=["calibrated", "one against one"],
)
def test_scikit_learns_own_tools_prefer_scores_to_probabilities(wrapped):
    """That is all that tells their results from those with scikit-learn's network."""
    settings = {"hidden_layer_sizes": (5,), "max_iter": 10, "random_state": 0}
    expected = wrapped(MLPClassifier(**settings))
    np.testing.assert_allclose(wrapped(WithoutScores(**settings)), expected, rtol=1e-6)
    assert not np.allclose(wrapped(BackpropClassifier(**settings)), expected, rtol=1e-3)


@pytest.mark.long
def test_stacking(cancer):
    X, X_test, y, y_test = cancer
    networks = [
        (name, make_pipeline(StandardScaler(), quick_classifier(activation=name)))
        for name in ("relu", "tanh")
    ]
    stack = StackingClassifier(networks, final_estimator=LogisticRegression(), cv=3).fit(X, y)
    assert stack.final_estimator_.coef_.shape == (1, 2)
    assert stack.score(X_test, y_test) > 0.94


@pytest.mark.long
def test_soft_voting_averages_the_probabilities():
    X, y = class_data(120)
    members = [(str(seed), quick_classifier(random_state=seed)) for seed in range(3)]
    vote = VotingClassifier(members, voting="soft").fit(X, y)
    mean = np.mean([clone(member).fit(X, y).predict_proba(X) for _, member in members], axis=0)
    np.testing.assert_allclose(vote.predict_proba(X), mean, rtol=1e-9)
    assert vote.score(X, y) > 0.9


@pytest.mark.long
def test_bagging_averages_regressors():
    X, y = value_data(120)
    bag = BaggingRegressor(quick_regressor(), n_estimators=4, random_state=0).fit(X, y)
    mean = np.mean([member.predict(X) for member in bag.estimators_], axis=0)
    np.testing.assert_allclose(bag.predict(X), mean)
    assert len({member.coefs_[0][0, 0] for member in bag.estimators_}) == 4
    assert bag.score(X, y) > 0.9


@pytest.mark.long
def test_boosting_reweights_the_rows():
    X, y = class_data(120)
    weak = quick_classifier(hidden_layer_sizes=(4,), learning_rate_init=0.05)
    boosted = AdaBoostClassifier(weak, n_estimators=5, random_state=0).fit(X, y)
    assert len(boosted.estimators_) > 1
    assert boosted.score(X, y) >= clone(weak).fit(X, y).score(X, y)
    assert boosted.score(X, y) > 0.8

    X, y = value_data(120)
    boosted = AdaBoostRegressor(quick_regressor(), n_estimators=3, random_state=0).fit(X, y)
    assert boosted.score(X, y) > 0.9


def test_self_training_labels_the_unlabeled():
    X, y = class_data(200, n_classes=2)
    known = np.arange(200) < 20
    model = SelfTrainingClassifier(quick_classifier(), threshold=0.9, max_iter=5)
    model.fit(X, np.where(known, y, -1))
    newly = model.labeled_iter_ > 0
    assert newly.sum() > 50
    assert (model.transduction_[newly] == y[newly]).mean() > 0.9
    assert list(model.classes_) == [0, 1]  # -1 marks a missing label, it is no class


@pytest.mark.long
def test_multi_output_classifier_learns_batch_by_batch():
    X, Y = label_data(120, n_labels=2)
    model = MultiOutputClassifier(quick_classifier(learning_rate_init=0.05))
    for epoch in range(20):
        for rows in KFold(4).split(X):
            classes = [[0, 1], [0, 1]] if epoch == 0 else None
            model.partial_fit(X[rows[1]], Y[rows[1]], classes=classes)
    assert [estimator.t_ for estimator in model.estimators_] == [20 * 120] * 2
    assert (model.predict(X) == Y).mean() > 0.9


@pytest.mark.long
def test_multi_output_regressor_is_one_network_for_each_column():
    X, Y = value_data(60, n_outputs=2)
    model = MultiOutputRegressor(quick_regressor()).fit(X, Y)
    for column in range(2):
        assert_same_network(model.estimators_[column], quick_regressor().fit(X, Y[:, column]))


@pytest.mark.long
def test_one_versus_rest():
    X, y = class_data(120)
    model = OneVsRestClassifier(quick_classifier()).fit(X, y)
    assert len(model.estimators_) == 3
    assert model.score(X, y) > 0.85
    second = quick_classifier().fit(X, (y == 1).astype(int))
    assert_same_network(model.estimators_[1], second)

    X, Y = label_data(120)
    model = OneVsRestClassifier(quick_classifier()).fit(X, Y)
    assert model.multilabel_
    assert (model.predict(X) == Y).mean() > 0.9


# ----------------------------------------------------------------------- metadata routing


@pytest.mark.usefixtures("routing")
def test_sample_weight_is_routed_through_a_pipeline():
    X, y = class_data()
    weight = np.arange(60) % 3
    model = make_pipeline(
        StandardScaler().set_fit_request(sample_weight=False),
        quick_classifier().set_fit_request(sample_weight=True),
    ).fit(X, y, sample_weight=weight)
    X_scaled = StandardScaler().fit_transform(X)
    assert_same_network(model[-1], quick_classifier().fit(X_scaled, y, sample_weight=weight))
    unweighted = quick_classifier().fit(X_scaled, y)
    assert not np.allclose(model[-1].coefs_[0], unweighted.coefs_[0])


@pytest.mark.long
@pytest.mark.usefixtures("routing")
def test_sample_weight_is_routed_through_a_search_to_fit_and_score():
    X, y = class_data()
    weight = np.arange(60) % 3
    estimator = quick_classifier().set_fit_request(sample_weight=True)
    estimator.set_score_request(sample_weight=True)
    folds = KFold(2)
    search = GridSearchCV(estimator, {"alpha": [1e-4, 10]}, cv=folds)
    search.fit(X, y, sample_weight=weight)

    by_hand = []
    for train, test in folds.split(X):
        fold = quick_classifier().fit(X[train], y[train], sample_weight=weight[train])
        by_hand.append(fold.score(X[test], y[test], sample_weight=weight[test]))
    assert search.cv_results_["mean_test_score"][0] == pytest.approx(np.mean(by_hand))


@pytest.mark.usefixtures("routing")
def test_sample_weight_is_routed_to_partial_fit():
    X, Y = label_data(n_labels=2)
    weight = np.arange(60) % 3
    network = quick_classifier().set_partial_fit_request(sample_weight=True)
    model = MultiOutputClassifier(network)
    model.partial_fit(X, Y, classes=[[0, 1], [0, 1]], sample_weight=weight)
    alone = quick_classifier().partial_fit(X, Y[:, 1], classes=[0, 1], sample_weight=weight)
    assert_same_network(model.estimators_[1], alone)


@pytest.mark.usefixtures("routing")
@BOTH
def test_a_search_asks_what_to_do_with_weights_that_were_not_requested(estimator_class):
    X, y = class_data()
    search = GridSearchCV(estimator_class(max_iter=2), {"alpha": [0.1]}, cv=2)
    with pytest.raises(ValueError, match="sample_weight.*set_fit_request"):
        search.fit(X, y, sample_weight=np.ones(60))


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
    built = Brief()
    built.coefs_, built.intercepts_ = brief.coefs_, brief.intercepts_
    np.testing.assert_array_equal(built.predict(X), brief.predict(X))
    brief.solver = "adam"
    with pytest.raises(ValueError, match="solver was 'sgd'"):
        brief.partial_fit(X, y)

    grid = {"alpha": [0.1, 10.0]}
    searches = [BackpropGridSearchCV(each, grid, cv=2).fit(X, y) for each in (Brief(), plain)]
    scores = [search.cv_results_["mean_test_score"] for search in searches]
    np.testing.assert_array_equal(*scores)


@BOTH
def test_repr_shows_what_differs_from_the_defaults(estimator_class):
    name = estimator_class.__name__
    assert repr(estimator_class()) == f"{name}()"
    assert repr(estimator_class(alpha=0.5, solver="sgd")) == f"{name}(alpha=0.5, solver='sgd')"


def test_tags_say_what_the_estimators_take():
    of_classifier, of_regressor, of_counts = map(
        get_tags, (BackpropClassifier(), BackpropRegressor(), BackpropRegressor(loss="poisson"))
    )
    assert is_classifier(BackpropClassifier())
    assert is_regressor(BackpropRegressor())
    assert of_classifier.input_tags.sparse and of_regressor.input_tags.sparse
    assert of_classifier.classifier_tags.multi_class and of_classifier.classifier_tags.multi_label
    assert of_regressor.target_tags.multi_output
    assert not of_regressor.target_tags.positive_only
    assert of_counts.target_tags.positive_only


# -------------------------------------------------------------------------------- threads


@pytest.mark.long
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
