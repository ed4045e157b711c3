"""Do intervals hold the share of targets that they should, whatever they are put around?

The oracles: rows that take turns, of which exactly a known number lies inside; the distribution of
the coverage in closed form; cases worked by hand; and scikit-learn's own checks.
"""

import math

import numpy as np
import pytest
from scipy import sparse
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import (
    BayesianRidge,
    LinearRegression,
    LogisticRegression,
    PoissonRegressor,
    Ridge,
)
from sklearn.model_selection import GridSearchCV, KFold, ShuffleSplit, train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import get_tags

from skbackprop import (
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRegressor,
    ConformalClassifier,
    ConformalRegressor,
    TabularRegressor,
)
from skbackprop.estimators.conformity_scores import conformal_quantile_rank
from skbackprop.losses import Gaussian, Quantile
from support import class_data, few_epochs, pickled, quick, sets_by_definition, value_data

pytestmark = few_epochs

QUANTILES = Quantile([0.1, 0.5, 0.9])


def network(**settings):
    return quick(BackpropRegressor, max_iter=20, learning_rate_init=0.01, **settings)


KINDS = {
    "absolute": network(),
    "scaled": network(loss=Gaussian(1e-4)),
    "quantile": network(loss=QUANTILES),
}
GAUSSIAN = network(loss="gaussian")
# Estimators, and the conformity score that "auto" takes for each.
ESTIMATORS = {
    **{kind: (estimator, kind) for kind, estimator in KINDS.items()},
    "ensemble": (network(n_estimators=3), "absolute"),
    "gaussian ensemble": (network(loss="gaussian", n_estimators=3), "scaled"),
    "ensemble of quantiles": (network(loss=QUANTILES, n_estimators=3), "quantile"),
    "pipeline": (make_pipeline(StandardScaler(), GAUSSIAN), "scaled"),
    "search": (GridSearchCV(GAUSSIAN, {"alpha": [0.1, 1.0]}, cv=2), "scaled"),
    "stacked search": (BackpropGridSearchCV(GAUSSIAN, {"alpha": [0.1, 1]}, cv=2), "scaled"),
    "linear": (LinearRegression(), "absolute"),
    "bayesian": (BayesianRidge(), "scaled"),
}


class Says(RegressorMixin, BaseEstimator):
    """Predicts what the columns of X say: one number, a number and its deviation, or quantiles."""

    def __init__(self, several=False):
        self.several = several

    def fit(self, X, y):
        self.n_features_in_ = X.shape[1]
        return self

    def predict(self, X, return_std=False):
        if self.several:
            return X
        return (X[:, 0], X[:, 1]) if return_std else X[:, 0]


def frozen(**settings):
    return FrozenEstimator(Says(**settings).fit(np.zeros((1, 2)), None))


def is_inside(intervals, y):
    return (intervals[..., 0] <= y) & (y <= intervals[..., 1])


# ------------------------------------------------------------------------------ coverage


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9])
@pytest.mark.parametrize("kind", KINDS)
def test_coverage_over_all_splits_matches_theory(kind, coverage):
    """A row lies inside if its score is among the smallest k of all n + 1: so k of them do."""
    X, y = value_data(90)
    model = FrozenEstimator(clone(KINDS[kind]).fit(X[:60], y[:60]))
    X, y = X[60:], y[60:]
    n_inside = 0
    for i in range(len(y)):
        others = np.arange(len(y)) != i
        conformal = ConformalRegressor(model, coverage=coverage).fit(X[others], y[others])
        assert conformal.conformity_score_ == kind
        n_inside += is_inside(conformal.predict_interval(X[i : i + 1]), y[i])[0]
    assert n_inside == math.ceil(len(y) * coverage - 1e-9)


# -------------------------------------------------------------------------- cases by hand


def test_absolute_residuals_by_hand():
    y = np.array([1.0, -2, 3, -4])  # of four, the fourth smallest is asked for
    conformal = ConformalRegressor(frozen(), coverage=0.8, conformity_score="absolute")
    conformal.fit(np.zeros((4, 2)), y)
    assert (conformal.correction_, conformal.n_calibration_) == (4.0, 4)
    assert conformal.predict_interval(np.array([[10.0, 0]])).tolist() == [[6.0, 14.0]]
    assert conformal.predict(np.array([[10.0, 0]])).tolist() == [10.0]


def test_scaled_residuals_by_hand():
    X = np.array([[0.0, 1], [0, 2], [1, 4], [1, 0.5]])
    y = np.array([3.0, 2, -1, 2])  # 3, 1, 1/2 and 2 standard deviations off
    conformal = ConformalRegressor(frozen(), coverage=0.6).fit(X, y)  # the third smallest
    assert (conformal.conformity_score_, conformal.correction_) == ("scaled", 2.0)
    intervals = conformal.predict_interval(np.array([[5.0, 3], [5, 0]]))
    assert intervals.tolist() == [[-1.0, 11.0], [5.0, 5.0]]


def test_conformalised_quantiles_by_hand():
    X = np.array([[0.0, 2], [0, 2], [0, 4], [-1, 1], [2, 3]])
    y = np.array([3.0, 1, 5.5, 0.5, 0])  # 1 above, 1 inside, 1.5 above, 0.5 inside, 2 below
    scores = [1.0, -1.0, 1.5, -0.5, 2.0]
    new = np.array([[10.0, 14], [10, 11]])
    for rank, correction in enumerate(sorted(scores), start=1):
        conformal = ConformalRegressor(frozen(several=True), coverage=rank / 6).fit(X, y)
        assert (conformal.conformity_score_, conformal.correction_) == ("quantile", correction)
        first, second = conformal.predict_interval(new).tolist()
        assert first == [10 - correction, 14 + correction]
        # There is but half a unit on each side of the middle to be taken away.
        assert second == [10 - max(correction, -0.5), 11 + max(correction, -0.5)]
    assert conformal.predict(np.array([[10.0, 11, 14], [10, 10.25, 11]])).tolist() == [11.0, 10.25]


COUNTED = {
    "network": network(loss="poisson"),
    "search": GridSearchCV(network(loss="gamma"), {"alpha": [0.1, 1.0]}, cv=2),
    "table": TabularRegressor(2, loss="poisson", max_iter=2, random_state=0),
    "scikit-learn": PoissonRegressor(),
}


@pytest.mark.parametrize("name", COUNTED)
def test_intervals_stay_among_the_targets_that_the_loss_allows(name):
    X, y = value_data()
    counts = np.random.RandomState(0).poisson(np.exp(y / y.std())) + (name == "search")
    clipped = ConformalRegressor(COUNTED[name], random_state=0).fit(X, counts)
    low, high = clipped.predict_interval(X).T
    predicted = clipped.predict(X)
    assert low.min() == 0
    np.testing.assert_allclose(low, np.maximum(predicted - clipped.correction_, 0), rtol=1e-6)
    np.testing.assert_allclose(high, predicted + clipped.correction_, rtol=1e-6)
    assert ConformalRegressor(network(), random_state=0).fit(X, y).predict_interval(X).min() < 0


# ------------------------------------------------------------------- around any regressor


@pytest.mark.parametrize("name", ESTIMATORS)
@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_estimator_is_fitted_on_the_training_rows(name, coverage):
    X, y = value_data(80)
    estimator, kind = ESTIMATORS[name]
    model = ConformalRegressor(estimator, coverage=coverage, random_state=3).fit(X, y)
    assert (model.n_calibration_, model.conformity_score_) == (20, kind)
    rows, held_out = train_test_split(np.arange(80), test_size=20, random_state=3)
    alone = clone(estimator).fit(X[rows], y[rows])
    assert np.array_equal(model.estimator_.predict(X), alone.predict(X))
    # Of the rows held out, exactly as many lie inside as the rank says, but for rounding at ends.
    middle = model.predict_interval(X[held_out]).mean(axis=1, keepdims=True)
    slightly_wider = middle + (model.predict_interval(X[held_out]) - middle) * (1 + 1e-9)
    assert is_inside(slightly_wider, y[held_out]).sum() == conformal_quantile_rank(20, coverage)
    frozen_model = ConformalRegressor(FrozenEstimator(alone), coverage=coverage)
    frozen_model.fit(X[held_out], y[held_out])
    assert frozen_model.conformity_score_ == kind
    assert np.array_equal(frozen_model.predict_interval(X), model.predict_interval(X))


@pytest.mark.parametrize("kind", KINDS)
def test_each_target_has_its_own_intervals(kind):
    X, Y = value_data(80, n_outputs=2)
    Y = Y * [1, 100]
    model = ConformalRegressor(clone(KINDS[kind]), coverage=0.8, random_state=0).fit(X, Y)
    assert model.conformity_score_ == kind
    assert (model.correction_.shape, model.predict(X).shape) == ((2,), (80, 2))
    intervals = model.predict_interval(X)
    assert intervals.shape == (80, 2, 2)
    _, held_out = train_test_split(np.arange(80), test_size=20, random_state=0)
    n_inside = is_inside(intervals[held_out], Y[held_out]).sum(axis=0)
    assert (
        abs(n_inside - conformal_quantile_rank(20, 0.8)) <= 1
    ).all()  # the one at the end may be rounded outside


@pytest.mark.parametrize("estimator", [LinearRegression(), Ridge(), *KINDS.values()])
@pytest.mark.filterwarnings("ignore:A column-vector y was passed")
def test_a_column_of_targets_is_one_target(estimator):
    X, y = value_data()
    model = ConformalRegressor(estimator, random_state=0)
    intervals = model.fit(X, y).predict_interval(X)
    np.testing.assert_allclose(model.fit(X, y[:, None]).predict_interval(X), intervals)


# -------------------------------------------------------------------------- rows held out


@pytest.mark.parametrize(
    "n, setting, expected",
    [
        (80, "auto", 20),
        (81, "auto", 21),
        (20, "auto", 9),  # what a coverage of 0.9 needs
        (10, "auto", 9),
        (80, 0.5, 40),
        (80, 30, 30),
        (81, 0.25, 21),
    ],
)
def test_number_of_held_out_rows(n, setting, expected):
    X, y = value_data(n)
    model = ConformalRegressor(LinearRegression(), calibration_fraction=setting)
    assert model.fit(X, y).n_calibration_ == expected


def test_raises_on_too_few_rows_for_the_coverage():
    X, y = value_data(100)
    few = ConformalRegressor(LinearRegression(), coverage=0.95, calibration_fraction=0.1)
    with pytest.raises(
        ValueError,
        match=r"coverage=0.95 needs at least 19 rows .* calibration_fraction=0.1 holds out 10 of "
        "n_samples=100",
    ):
        few.fit(X, y)
    with pytest.raises(ValueError, match="needs at least 19 .* there are n_samples=15"):
        few.set_params(estimator=FrozenEstimator(LinearRegression().fit(X, y))).fit(X[:15], y[:15])
    for setting, n in [("auto", 9), (100, 100), (0.99, 20)]:
        model = ConformalRegressor(LinearRegression(), calibration_fraction=setting)
        with pytest.raises(ValueError, match=f"9 rows .* more rows for training.* n_samples={n}"):
            model.fit(X[:n], y[:n])


def test_weights_are_those_of_the_rows_trained_on():
    X, y = value_data()
    weight = np.arange(1.0, 61)
    model = ConformalRegressor(network(), random_state=0).fit(X, y, sample_weight=weight)
    rows, held_out = train_test_split(np.arange(60), test_size=15, random_state=0)
    alone = network().fit(X[rows], y[rows], sample_weight=weight[rows])
    assert np.array_equal(model.predict(X), alone.predict(X))
    errors = np.sort(abs(y - alone.predict(X))[held_out])
    np.testing.assert_allclose(model.correction_, errors[conformal_quantile_rank(15, 0.9) - 1])


def test_weights_are_routed(routing):
    X, y = value_data()
    weight = np.arange(1.0, 61)
    asks = network().set_fit_request(sample_weight=True)
    direct = ConformalRegressor(asks, random_state=0).fit(X, y, sample_weight=weight)
    outer = make_pipeline(FunctionTransformer(), ConformalRegressor(asks, random_state=0))
    routed = outer.fit(X, y, sample_weight=weight)
    assert np.array_equal(routed.predict(X), direct.predict(X))
    assert not np.array_equal(clone(direct).fit(X, y).predict(X), direct.predict(X))
    with pytest.raises(TypeError, match="other"):
        direct.fit(X, y, other=weight)
    # A pipeline is asked for no standard deviation: its last step is.
    inside = make_pipeline(StandardScaler(), network(loss="gaussian"))
    assert ConformalRegressor(inside).fit(X, y).conformity_score_ == "scaled"


# ------------------------------------------------------------------------------ its place


@pytest.mark.parametrize("kind", KINDS)
def test_copies_and_sparse_matrices_have_the_same_intervals(kind, tmp_path):
    X, y = value_data()
    model = ConformalRegressor(KINDS[kind], random_state=0).fit(X, y)
    expected = model.predict_interval(X)
    assert np.array_equal(pickled(model, tmp_path).predict_interval(X), expected)
    of_sparse = clone(model).fit(sparse.coo_array(X), y)
    np.testing.assert_allclose(of_sparse.predict_interval(sparse.csr_array(X)), expected)


def test_tags_are_those_of_the_estimator():
    for estimator in (LinearRegression(), BackpropRegressor(loss="poisson"), BayesianRidge()):
        own, inner = get_tags(ConformalRegressor(estimator)), get_tags(estimator)
        assert own.input_tags == inner.input_tags
        assert own.target_tags == inner.target_tags
    assert get_tags(ConformalRegressor(FrozenEstimator(Ridge()))).target_tags.required


# --------------------------------------------------------------------------------- errors


def test_raises_on_predictions_of_wrong_shape():
    X, y = value_data()
    for estimator, kind, said in [
        (network(), "quantile", "needs predictions of several quantiles .* have the shape"),
        (KINDS["quantile"], "absolute", "needs predictions of one number for each target"),
        (KINDS["quantile"], "scaled", "needs predictions of one number for each target"),
        (LinearRegression(), "scaled", "return_std=True"),
        (network(), "scaled", "predicts 0 for some rows"),
    ]:
        with pytest.raises(ValueError, match=said):
            ConformalRegressor(estimator, conformity_score=kind).fit(X, y)
    for classifier in (LogisticRegression(), BackpropClassifier()):
        message = "must be a regressor.*ConformalClassifier.*CalibratedClassifierCV"
        with pytest.raises(ValueError, match=message):
            ConformalRegressor(classifier).fit(X, y > 0)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_predictions_that_are_not_finite_are_an_error(value):
    X, y = np.ones((20, 2)), np.zeros(20)
    X[3, 0] = value
    with pytest.raises(ValueError, match="must be finite, but 1 of 20"):
        ConformalRegressor(frozen()).fit(X, y)


def test_not_fitted_before_fit_and_after_failed_fit():
    X, y = value_data()
    model = ConformalRegressor(LinearRegression(), random_state=0)
    for method in (model.predict, model.predict_interval):
        with pytest.raises(NotFittedError):
            method(X)
    assert not hasattr(model, "n_features_in_")
    intervals = model.fit(X, y).predict_interval(X)
    for targets in (np.full(60, np.nan), y[:-1], None):
        with pytest.raises(ValueError, match=r"NaN|inconsistent|y to be passed"):
            model.fit(X, targets)
    assert np.array_equal(model.predict_interval(X), intervals)
    with pytest.raises(NotFittedError):
        ConformalRegressor(FrozenEstimator(LinearRegression())).fit(X, y)


# ------------------------------------------------------------------------- sets of labels

EVERY_SET = pytest.mark.parametrize(
    "settings",
    [{"conformity_score": kind, "by_class": by} for kind in ("lac", "aps") for by in (False, True)],
)
CLASSIFIERS = {
    "network": quick(BackpropClassifier, max_iter=20, learning_rate_init=0.01),
    "search": GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
    "pipeline": make_pipeline(StandardScaler(), GaussianNB()),
}


class Shares(ClassifierMixin, BaseEstimator):
    """Predicts the columns of X as probabilities."""

    def fit(self, X, y):
        self.classes_ = np.arange(X.shape[1])
        return self

    def predict_proba(self, X):
        return X


def overlapping_classes(n_classes, n, seed):
    """Return points around centers on a circle, and their classes, of which some are rare."""
    rng = np.random.RandomState(seed)
    shares = np.linspace(1, 2, n_classes)
    y = rng.choice(n_classes, n, p=shares / shares.sum())
    angles = 2 * np.pi * y / n_classes
    return np.stack([np.cos(angles), np.sin(angles)], axis=1) + rng.randn(n, 2), y


@pytest.mark.slow
@EVERY_SET
def test_coverage_of_sets_over_300_trials(settings):
    covered = []
    for trial in range(300):
        n_classes = 2 + trial % 9
        n_train = 100 * n_classes
        X, y = overlapping_classes(n_classes, n_train + 500, trial)
        model = ConformalClassifier(GaussianNB(), **settings).fit(X[:n_train], y[:n_train])
        is_inside = model.predict_set(X[n_train:])[np.arange(500), y[n_train:]]
        rare, common = (is_inside[y[n_train:] == label].mean() for label in (0, n_classes - 1))
        covered.append([is_inside.mean(), rare, common])
    mean, rare, common = np.mean(covered, axis=0)
    assert abs(mean - 0.9) < 0.02
    if settings["by_class"]:
        assert abs(rare - 0.9) < 0.02
        assert abs(common - 0.9) < 0.02
    else:
        assert common - rare > 0.05


def test_coverage_of_sets_over_all_splits_matches_theory():
    X, y = overlapping_classes(3, 90, 0)
    model, n_inside = FrozenEstimator(GaussianNB().fit(X[:60], y[:60])), 0
    X, y = X[60:], y[60:]
    for i in range(30):
        others = np.arange(30) != i
        sets = ConformalClassifier(model, coverage=0.8).fit(X[others], y[others])
        n_inside += sets.predict_set(X[i : i + 1])[0, y[i]]
    assert n_inside == 24


@EVERY_SET
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_each_fold_is_compared_by_the_classifier_that_held_it_out(name, settings, tmp_path):
    X, codes = class_data(90)
    labels, cv = np.array(["c", "a", "b"])[codes], KFold(3, shuffle=True, random_state=0)
    model = ConformalClassifier(CLASSIFIERS[name], coverage=0.8, cv=cv, **settings)
    sets = model.fit(X[:60], labels[:60]).predict_set(X[60:])
    held_out, folds, new = np.empty((60, 3)), np.empty(60, dtype=int), []
    for fold, (train, test) in enumerate(cv.split(X[:60])):
        alone = clone(CLASSIFIERS[name]).fit(X[train], labels[train])
        held_out[test], folds[test] = alone.predict_proba(X[test]), fold
        new.append(alone.predict_proba(X[60:]))
    codes = np.searchsorted(model.classes_, labels[:60])
    expected = sets_by_definition(
        *(settings["conformity_score"], np.array(new), held_out, codes, folds, 0.8),
        settings["by_class"],
    )
    np.testing.assert_array_equal(sets, expected)
    np.testing.assert_allclose(model.predict_proba(X[60:]), np.mean(new, axis=0))
    assert (len(model.estimators_), model.n_calibration_) == (3, 60)
    assert np.array_equal(pickled(model, tmp_path).predict_set(X[60:]), sets)
    # What is set after fit acts in the next fit.
    model.set_params(coverage=0.1, by_class=not settings["by_class"], conformity_score="lac")
    assert np.array_equal(model.predict_set(X[60:]), sets)


def test_split_conformal_sets():
    """A single split, or a frozen classifier, has one model; sets are monotone in the coverage."""
    X, y = class_data(90)
    split = ShuffleSplit(1, test_size=20, random_state=0)
    ((train, held_out),) = split.split(X)
    alone = LogisticRegression().fit(X[train], y[train])
    smaller = np.zeros((90, 3), dtype=bool)
    for coverage in (0.5, 0.8, 0.95):
        by_split = ConformalClassifier(LogisticRegression(), coverage=coverage, cv=split).fit(X, y)
        frozen = ConformalClassifier(FrozenEstimator(alone), coverage=coverage)
        sets = frozen.fit(X[held_out], y[held_out]).predict_set(X)
        assert by_split.n_calibration_ == frozen.n_calibration_ == 20
        np.testing.assert_array_equal(by_split.predict_set(X), sets)
        assert (smaller <= sets).all()
        smaller = sets


def test_a_class_that_no_training_rows_of_a_fold_have():
    X, y = class_data(61)
    y = np.where(np.arange(61) == 60, 3, y)
    model = ConformalClassifier(GaussianNB(), cv=KFold(4)).fit(X, y)
    assert [len(each.classes_) for each in model.estimators_] == [4, 4, 4, 3]
    assert model.predict_set(X).shape == (61, 4)
    assert model.set_params(by_class=True).fit(X, y).predict_set(X)[:, 3].all()


def test_weights_are_those_of_the_training_rows_of_each_fold():
    X, y = class_data()
    weight = np.arange(1.0, 61)
    model = ConformalClassifier(GaussianNB(), cv=KFold(2)).fit(X, y, sample_weight=weight)
    alone = GaussianNB().fit(X[30:], y[30:], weight[30:])
    np.testing.assert_allclose(model.estimators_[0].predict_proba(X), alone.predict_proba(X))


def test_sets_may_be_empty_with_lac_but_not_with_aps():
    """Labels that are nearly always right need few rows with a label: the surest ones."""
    X = np.array([[0.9, 0.1]] * 18 + [[0.1, 0.9]] * 2)
    empty = {}
    for kind in ("lac", "aps"):
        model = ConformalClassifier(FrozenEstimator(Shares().fit(X, None)), conformity_score=kind)
        model.fit(X, X.argmax(axis=1))
        empty[kind] = (~model.predict_set(np.array([[0.9, 0.1], [0.6, 0.4]])).any(axis=1)).tolist()
    assert empty == {"lac": [False, True], "aps": [False, False]}


def test_raises_on_what_has_no_sets():
    X, y = class_data()
    for estimator, target, said in [
        (LinearRegression(), y, "must be a classifier with predict_proba.*ConformalRegressor"),
        (quick(BackpropClassifier, loss="hinge"), y, "must be a classifier with predict_proba"),
        (BackpropClassifier(), None, "y to be passed"),
        (BackpropClassifier(), np.eye(3)[y], "1d array"),
        (BackpropClassifier(), y[:-1], "inconsistent"),
        (BackpropClassifier(), y + 0.5, "Unknown label type"),
    ]:
        with pytest.raises(ValueError, match=said):
            ConformalClassifier(estimator).fit(X, target)
    with pytest.raises(ValueError, match=r"coverage=0.99 needs at least 99 .*n_samples=60"):
        ConformalClassifier(BackpropClassifier(), coverage=0.99).fit(X, y)
    with pytest.raises(ValueError, match=r"needs at least 9 .*n_samples=8"):
        ConformalClassifier(BackpropClassifier(), cv=ShuffleSplit(1, test_size=8)).fit(X, y)
    with pytest.raises(NotFittedError):
        ConformalClassifier(FrozenEstimator(LogisticRegression())).fit(X, y)
    with pytest.raises(NotFittedError):
        ConformalClassifier(LogisticRegression()).predict_set(X)
    shares = FrozenEstimator(Shares().fit(np.eye(3), None))
    with pytest.raises(ValueError, match="must be finite, but 1 of 60"):
        ConformalClassifier(shares).fit(np.r_[[[np.nan, 0, 1]], np.eye(3)[y[:19]]], y[:20])
    with pytest.raises(ValueError, match=r"classes not in .*: \['3'\]"):
        ConformalClassifier(shares).fit(np.eye(3)[y], np.r_[3, y[1:]])
