"""A candidate of a search fails exactly where scikit-learn's search has it fail.

Failing candidates do not affect the others. Results, warnings and errors are those of
scikit-learn's search.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.exceptions import FitFailedWarning
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline

from skbackprop import BackpropClassifier, BackpropGridSearchCV, BackpropRegressor
from skbackprop.activations import ActivationFunction
from skbackprop.schedules import LearningRateSchedule
from support import assert_same_search, bits, class_data, few_epochs, outcome, quick, value_data

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

N = 41
X, Y = class_data(N)
NETWORK = quick(BackpropClassifier)
GOOD = {"learning_rate_init": [0.01, 0.1], "alpha": [0, 1]}


def assert_same_outcome(estimator, grid, data=(X, Y), fit_params=None, **settings):
    """Assert that both searches have equal results and warnings, or equal errors; return them."""
    settings = {"cv": 2, "scoring": bits, "return_train_score": True, **settings}
    actual, expected = (
        outcome(kind(estimator, grid, **settings), *data, **fit_params or {})
        for kind in (BackpropGridSearchCV, GridSearchCV)
    )
    assert actual[1] == expected[1]
    if isinstance(expected[0], GridSearchCV):
        assert_same_search(actual[0], expected[0])
    return expected


WRONG = {
    "hidden_layer_sizes": [(0,), None, "abc"],
    "activation": ["softmax", ["relu", "relu"], []],
    "solver": ["newton", None],
    "alpha": [-1, "much", np.nan],
    "batch_size": [0, 2.5, "all"],
    "learning_rate_init": [0, 1e300],
    "max_iter": [0, 2.5, None],
    "random_state": ["seed", -1],
    "n_estimators": [0, "two"],
    "init": ["zeros", ([1], [2], [3])],
    "loss": ["zero_one", None],
}


@pytest.mark.parametrize("name", WRONG)
def test_invalid_parameter_fails_its_candidate_only(name):
    expected = assert_same_outcome(NETWORK, [GOOD, {name: WRONG[name], "tol": [0.1, 0.2]}])
    assert FitFailedWarning in {category for category, _ in expected[1]}
    is_failure = [False] * 4 + [True] * 2 * len(WRONG[name])
    assert np.isnan(expected[0].cv_results_["mean_test_score"]).tolist() == is_failure


@pytest.mark.parametrize("return_train_score", [True, False])
@pytest.mark.parametrize("error_score", [np.nan, -1.5])
@pytest.mark.parametrize("scoring", [None, ["accuracy", "neg_log_loss"], lambda *_: {"one": 1}])
def test_error_score_replaces_the_score(error_score, scoring, return_train_score):
    assert_same_outcome(
        NETWORK,
        {"learning_rate_init": [0.01, 1e300], "alpha": [0.1, -1]},
        scoring=scoring,
        error_score=error_score,
        refit=False,
        return_train_score=return_train_score,
    )


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("early_stopping", [True, False])
@pytest.mark.parametrize("max_iter", [1, 20])
def test_divergence_fails_its_candidate_only(solver, early_stopping, max_iter):
    """Training diverges in the first epoch, which may be the only one, in a later one, or never."""
    settings = {"activation": "identity", "max_iter": max_iter, "tol": 0.0, "batch_size": 5}
    model = quick(BackpropRegressor, solver=solver, early_stopping=early_stopping, **settings)
    rates = {"learning_rate_init": [1e300, 1e30, 30.0, 0.001], "alpha": [0, 1]}
    assert_same_outcome(model, rates, value_data(N))


class Failing(TransformerMixin, BaseEstimator):
    """Return X unchanged, or fail in `fit`."""

    def __init__(self, fails=True):
        self.fails = fails

    def fit(self, X, y=None):
        if self.fails:
            raise ZeroDivisionError("it was told to")
        return self

    def transform(self, X):
        return X

    def __sklearn_is_fitted__(self):
        return True


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:joblib")  # a slow start of processes
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_failing_transformer_fails_its_candidates_only(n_jobs):
    grid = {"failing__fails": [False, True], "backpropclassifier__alpha": [0, 1]}
    expected = assert_same_outcome(make_pipeline(Failing(), NETWORK), grid, n_jobs=n_jobs)
    assert FitFailedWarning in {category for category, _ in expected[1]}


def test_candidates_may_fail_on_one_split_only():
    """All training rows of the second split have weight zero."""
    weight = {"sample_weight": np.where(np.arange(N) <= N // 2, 0, 1)}
    expected = assert_same_outcome(
        NETWORK, {"alpha": [0, 1]}, fit_params=weight, cv=KFold(2), refit=False
    )
    assert FitFailedWarning in {category for category, _ in expected[1]}


@pytest.mark.parametrize(
    "estimator, grid",
    [
        (NETWORK, {"alpha": [-1, -2]}),
        (NETWORK, {"learning_rate_init": [1e300]}),
        (NETWORK, {"solver": ["newton", "lbfgs"], "alpha": [-1]}),
        (make_pipeline(Failing(), NETWORK), {"backpropclassifier__alpha": [0, 1]}),
    ],
)
def test_search_fails_if_all_candidates_fail(estimator, grid):
    kind, says = assert_same_outcome(estimator, grid)
    assert kind is ValueError and says.startswith("All the ")


@pytest.mark.parametrize(
    "estimator, grid, error, says",
    [
        (NETWORK, {"alpha": [0, -1]}, ValueError, "alpha"),
        (NETWORK, {"learning_rate_init": [0.1, 1e300]}, ValueError, "diverged"),
        (make_pipeline(Failing(), NETWORK), {"failing__fails": [True]}, ZeroDivisionError, "told"),
    ],
)
def test_error_score_raise_raises_the_error(estimator, grid, error, says):
    search = BackpropGridSearchCV(estimator, grid, cv=2, error_score="raise")
    with pytest.raises(error, match=says):
        search.fit(X, Y)
    assert not hasattr(search, "cv_results_")


@pytest.mark.parametrize(
    "data",
    [
        (X[:, 0], Y),
        (np.where(X > 2, np.nan, X), Y),
        (X.astype(str) + "!", Y),
        (X, None),
        (X, np.array([1, "one", None] * N, dtype=object)[:N]),
        (X, [[1], [1, 2]] * (N // 2) + [[1]]),
        (X, np.linspace(0, 1, N)),
    ],
    ids=["1-D", "NaN", "words", "no y", "mixed y", "ragged y", "continuous y"],
)
def test_invalid_data_fails_as_in_scikit_learn(data):
    assert_same_outcome(NETWORK, {"alpha": [0, 1]}, data, cv=KFold(3))


def test_unknown_arguments_of_fit_fail_as_in_scikit_learn():
    assert_same_outcome(NETWORK, {"alpha": [0, 1]}, fit_params={"color": True})


@dataclass(frozen=True)
class Picky(ActivationFunction):
    """f(z) = z, with an error in the first forward pass if there are five units."""

    def forward(self, z, a):
        if z.shape[-1] == 5:
            raise ArithmeticError("too wide")
        a[...] = z

    def backward(self, z, a, delta):
        pass


@dataclass(frozen=True)
class Stubborn(LearningRateSchedule):
    """The base rate, with an error after two epochs."""

    def init(self, n_estimators):
        return {"n": np.zeros((n_estimators, 1))}

    def on_epoch_end(self, state, base, monitored, n_samples_seen):
        state["n"] += 1
        if (state["n"] > 2).any():
            raise ArithmeticError("not a third time")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.FitFailedWarning")
@pytest.mark.filterwarnings("ignore:One or more of the:UserWarning")
@pytest.mark.parametrize("part", [{"activation": [Picky()]}, {"learning_rate": [Stubborn()]}])
def test_error_during_training_fails_its_candidate_only(part):
    grid = [GOOD, part | {"max_iter": [1, 4], "hidden_layer_sizes": [(4,), (5,)]}]
    with pytest.warns(RuntimeWarning, match="are trained one by one.*(too wide|third time)"):
        ours = BackpropGridSearchCV(NETWORK, grid, cv=2, scoring=bits).fit(X, Y)
    assert_same_search(ours, GridSearchCV(NETWORK, grid, cv=2, scoring=bits).fit(X, Y))


@dataclass(frozen=True)
class Flat(ActivationFunction):
    """f(z) = z, only for a single network."""

    def forward(self, z, a):
        if z.ndim == 3:
            raise ArithmeticError("only one at a time")
        a[...] = z

    def backward(self, z, a, delta):
        pass


def test_part_that_supports_only_single_networks_costs_only_time():
    estimator, settings = quick(BackpropClassifier, activation=Flat()), {"cv": 2, "scoring": bits}
    search = BackpropGridSearchCV(estimator, {"alpha": [0, 1]}, **settings)
    with pytest.warns(RuntimeWarning, match="only one at a time.*member axis first"):
        search.fit(X, Y)
    assert_same_search(search, GridSearchCV(estimator, {"alpha": [0, 1]}, **settings).fit(X, Y))
