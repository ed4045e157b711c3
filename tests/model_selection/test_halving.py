"""Halving searches equal scikit-learn's, but survivors resume training.

The oracle is scikit-learn's halving search over the same estimator, which trains all candidates
from the start in each round: scores, ranks and choices are equal to the bit, at one BLAS thread.
Scores do not show that candidates resume, so the networks in each epoch of a stack are counted.
"""

import pickle
import warnings

import joblib
import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GroupKFold,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    KFold,
    ShuffleSplit,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropHalvingGridSearchCV,
    BackpropHalvingRandomSearchCV,
)
from skbackprop.optimizers import SGD, AdamW
from support import answers, assert_same_search, bits, class_data, few_epochs, quick

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

N = 41  # two splits of it differ in size
X, Y = class_data(N)
N_EPOCHS = 9
CLASSIFIER = quick(BackpropClassifier, max_iter=N_EPOCHS, batch_size=10)
STEADY = clone(CLASSIFIER).set_params(n_iter_no_change=np.inf)
GRID = {"learning_rate_init": [0.001, 0.01, 0.1], "alpha": [0.0, 0.3, 1.0]}
LAST = "backpropclassifier__"
SCALED = make_pipeline(StandardScaler(), PCA(), CLASSIFIER)
WEIGHT = np.random.RandomState(0).uniform(0.1, 3, N) * (np.arange(N) % 5 > 0)
PAIRS = [
    (BackpropHalvingGridSearchCV, HalvingGridSearchCV),
    (BackpropHalvingRandomSearchCV, HalvingRandomSearchCV),
]
EVERY_SEARCH = pytest.mark.parametrize("ours, theirs", PAIRS, ids=["grid", "random"])
COUNTS = (
    "n_resources_",
    "n_candidates_",
    "n_remaining_candidates_",
    "n_iterations_",
    "n_possible_iterations_",
    "n_required_iterations_",
    "min_resources_",
    "max_resources_",
)


def checksum(estimator, X, y=None):
    return bits(estimator, X, y)


def fit_search(kind, estimator=CLASSIFIER, grid=GRID, data=(X, Y), fit_params=None, **settings):
    """Return a fitted search, by default with up to nine epochs and two splits."""
    theirs = not issubclass(kind, (BackpropHalvingGridSearchCV, BackpropHalvingRandomSearchCV))
    common = {"cv": 2, "scoring": checksum}
    if theirs:  # whose defaults are others
        in_pipeline = hasattr(estimator, "steps")
        name = f"{estimator.steps[-1][0]}__max_iter" if in_pipeline else "max_iter"
        common |= {"resource": name, "max_resources": N_EPOCHS}
    return kind(estimator, grid, **common | settings).fit(*data, **fit_params or {})


def assert_halving_equals(*arguments, **settings):
    """Assert that both grid searches have equal results, and return both."""
    pair = [fit_search(kind, *arguments, **settings) for kind in PAIRS[0]]
    assert_same_halving(*pair)
    return pair


def assert_same_halving(actual, expected):
    assert_same_search(actual, expected)
    for name in COUNTS:
        assert getattr(actual, name) == getattr(expected, name), name


# ------------------------------------------------------------------------------- the same bits

EARLY = {"early_stopping": True, "n_iter_no_change": 2, "learning_rate_init": 0.05}


def case(grid, estimator=CLASSIFIER, data=(X, Y)):
    return estimator, grid, data


CASES = {
    "multiclass": case(GRID),
    "rows by themselves": case(
        {"learning_rate_init": [0.001, 0.01, 0.1]},
        quick(BackpropAutoencoder, max_iter=N_EPOCHS),
        (X, None),
    ),
    "early stopping": case(
        {"early_stopping": [True, False], "validation_fraction": [0.1, 0.3], "tol": [1e-4, 0.5]},
        clone(CLASSIFIER).set_params(**EARLY),
    ),
    "seeds and orders": case(
        {"random_state": [0, 1, np.random.RandomState(2)], "shuffle": [True, False]}
    ),
    "sgd": case(
        {
            "learning_rate": ["constant", "adaptive", "invscaling", "plateau"],
            "learning_rate_init": [0.1, 2e-6],
            "momentum": [0.0, 0.9],
        },
        clone(CLASSIFIER).set_params(solver="sgd", n_iter_no_change=1, tol=0.05),
    ),
    "optimizers": case({"solver": [AdamW(), SGD(0.9), "adam", "rmsprop"]}),
    "averages": case({"average": [None, "polyak", "ema"]}),
    "masks and statistics": case(
        {"dropout": [0.0, 0.3], "normalization": [None, "batch", "layer"]}
    ),
    "widths and members": case({"hidden_layer_sizes": [(), 3, (4, 3)], "n_estimators": [1, 2]}),
    "pipeline": case(
        {
            "standardscaler__with_std": [True, False],
            "pca__n_components": [2, 3],
            f"{LAST}learning_rate_init": [0.01, 0.1],
        },
        SCALED,
    ),
    "steps": case(
        [
            {"backpropclassifier": [LogisticRegression(), STEADY]},
            {"backpropclassifier": [CLASSIFIER], f"{LAST}alpha": [0, 1]},
        ],
        SCALED,
    ),
    "one candidate": case({"alpha": [0.1]}),
}


@pytest.mark.parametrize("case", CASES)
def test_matches_scikit_learn_to_the_bit(case):
    estimator, grid, data = CASES[case]
    ours, theirs = assert_halving_equals(estimator, grid, data)
    for actual, expected in zip(
        answers(ours.best_estimator_, data[0]),
        answers(theirs.best_estimator_, data[0]),
        strict=True,
    ):
        np.testing.assert_array_equal(actual, expected, strict=True)


@pytest.mark.parametrize(
    "settings",
    [
        {"factor": 2},
        {"factor": 1.5, "min_resources": 2},
        {"min_resources": "smallest"},
        {"aggressive_elimination": True, "min_resources": 3, "factor": 2},
        {"aggressive_elimination": True, "min_resources": N_EPOCHS},
        {"aggressive_elimination": True, "min_resources": 1, "grid": {"alpha": [0, 1]}},
        {"return_train_score": False, "refit": False},
        {"refit": min},
        {"cv": KFold(3, shuffle=True, random_state=0)},
    ],
    ids=" and ".join,
)
def test_rounds_match_scikit_learn(settings):
    assert_halving_equals(**settings)


@EVERY_SEARCH
def test_resource_may_be_rows(ours, theirs):
    settings = {"resource": "n_samples", "max_resources": "auto", "min_resources": 12}
    settings |= {"factor": 2, "random_state": 0}
    estimator = clone(STEADY).set_params(batch_size="auto")
    assert_same_halving(*(fit_search(kind, estimator, **settings) for kind in (ours, theirs)))


def test_resource_may_be_any_parameter():
    """With n_estimators as resource, training starts again in each round."""
    settings = {"resource": "n_estimators", "max_resources": 4, "factor": 2}
    assert_halving_equals(STEADY, {"learning_rate_init": [0.001, 0.01, 0.1]}, **settings)


@pytest.mark.parametrize("random_state", [0, None, np.random.RandomState(0)])
def test_random_halving_draws_the_candidates_of_scikit_learn(random_state):
    found = []
    for kind in PAIRS[1]:
        np.random.seed(0)
        own = pickle.loads(pickle.dumps(random_state))
        drawn = {"learning_rate_init": loguniform(1e-3, 0.1), "alpha": loguniform(1e-3, 1)}
        found.append(fit_search(kind, grid=drawn, random_state=own, min_resources=2))
    assert_same_halving(*found)
    assert found[0].n_candidates_ == [4, 2]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:joblib")  # a slow start
@pytest.mark.parametrize("case", ["early stopping", "masks and statistics", "averages", "pipeline"])
def test_two_processes_give_equal_results(case):
    alone, paired = (
        fit_search(BackpropHalvingGridSearchCV, *CASES[case], n_jobs=n_jobs) for n_jobs in (1, 2)
    )
    assert_same_halving(paired, alone)


def test_two_threads_give_equal_results():
    """Candidates of one stack go on in two, each with the random state of its own."""
    settings = {"factor": 1.5, "cv": [(np.arange(20), np.arange(20, N))], "refit": False}
    alone = fit_search(BackpropHalvingGridSearchCV, STEADY, **settings)
    with joblib.parallel_config("threading", n_jobs=2):
        paired = fit_search(BackpropHalvingGridSearchCV, STEADY, **settings)
    assert_same_halving(paired, alone)


def test_splits_sample_weights_and_groups():
    weights = {"sample_weight": WEIGHT, "groups": np.arange(N) % 7}
    assert_halving_equals(fit_params=weights, cv=GroupKFold(2), scoring=bits)


# ----------------------------------------------------------------------- nothing is trained twice


@pytest.mark.parametrize("estimator", [STEADY, make_pipeline(StandardScaler(), STEADY)])
def test_survivors_resume_training(estimator, stack_sizes):
    """Nine candidates train for an epoch, three up to the third, one up to the ninth.

    Of nine each split has a stack of its own.
    """
    grid = GRID if estimator is STEADY else {f"{LAST}{name}": v for name, v in GRID.items()}
    search = fit_search(BackpropHalvingGridSearchCV, estimator, grid)
    assert (search.n_candidates_, search.n_resources_) == ([9, 3, 1], [1, 3, 9])
    # The last are the best one's, on all data.
    assert stack_sizes == [9] * 2 + [6] * 2 + [2] * 6 + [1] * 9


def test_repeated_rounds_train_nothing(stack_sizes):
    settings = {"aggressive_elimination": True, "min_resources": N_EPOCHS}
    search = fit_search(BackpropHalvingGridSearchCV, STEADY, **settings)
    assert search.n_resources_ == [9, 9, 9]
    assert stack_sizes == [9] * 2 * 9 + [1] * 9


def test_converged_candidates_do_not_change(stack_sizes):
    """With a patience of one epoch and a large tol, all converge after three epochs."""
    estimator = clone(CLASSIFIER).set_params(tol=1e3, n_iter_no_change=1)
    search = fit_search(BackpropHalvingGridSearchCV, estimator, min_resources=3)
    assert stack_sizes == [9] * 2 * 3 + [1] * 3
    assert search.n_resources_ == [3, 9]


class Drawing(TransformerMixin, BaseEstimator):
    """Permute the columns at random."""

    def __init__(self, random_state=None):
        self.random_state = random_state

    def fit(self, X, y=None):
        rng = np.random.RandomState(self.random_state)
        self.mixed_ = rng.randn(X.shape[1], 3)
        return self

    def transform(self, X):
        return X @ self.mixed_


@pytest.mark.parametrize("random_state, goes_on", [(0, True), (None, False)])
def test_training_starts_again_if_the_rows_have_changed(random_state, goes_on, stack_sizes):
    estimator = make_pipeline(Drawing(random_state), STEADY)
    grid = {f"{LAST}{name}": values for name, values in GRID.items()}
    fit_search(BackpropHalvingGridSearchCV, estimator, grid)
    rounds = [1, 2, 6] if goes_on else [1, 3, 9]
    assert stack_sizes == [9] * 2 * rounds[0] + [6] * rounds[1] + [2] * rounds[2] + [1] * 9


def test_scorers_get_the_epochs_of_the_round():
    def n_epochs(estimator, X, y):
        assert estimator.max_iter == estimator.n_iter_
        return estimator.n_iter_ - estimator.alpha

    search = fit_search(BackpropHalvingGridSearchCV, STEADY, scoring=n_epochs)
    results = search.cv_results_
    expected = results["n_resources"] - results["param_alpha"].astype(float)
    np.testing.assert_array_equal(results["mean_test_score"], expected)


def test_only_the_last_round_warns_about_convergence():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search = fit_search(BackpropHalvingGridSearchCV, clone(CLASSIFIER).set_params(tol=0.0))
    said = [str(w.message) for w in caught if w.category is ConvergenceWarning]
    assert len(said) == 2 + 1  # of one candidate on two splits, and of the last fit
    assert all("Maximum iterations (9)" in message for message in said)
    assert search.n_iterations_ == 3


# --------------------------------------------------------------------------------- drop-ins


@pytest.mark.parametrize(
    "estimator, grid, settings",
    [
        (CLASSIFIER, GRID | {"max_iter": [3]}, {}),
        (CLASSIFIER, GRID, {"min_resources": 20}),
        (CLASSIFIER, GRID, {"resource": "epochs"}),
        (CLASSIFIER, GRID, {"factor": 0}),
        (CLASSIFIER, GRID, {"cv": ShuffleSplit(2)}),
        (CLASSIFIER, {"alpha": [-1]}, {}),
        (SCALED, {f"{LAST}max_iter": [3]}, {}),
    ],
)
def test_errors_match_scikit_learn(estimator, grid, settings):
    said = []
    for kind in PAIRS[0]:
        with pytest.raises(ValueError, match=".") as caught:
            fit_search(kind, estimator, grid, **settings)
        said.append(str(caught.value).partition("\n")[0].replace("Backprop", ""))
    assert said[0] == said[1]


def test_raises_if_resources_and_candidates_are_both_exhaust():
    settings = {"min_resources": "exhaust", "n_candidates": "exhaust"}
    with pytest.raises(ValueError, match="cannot be both set to 'exhaust'"):
        fit_search(BackpropHalvingRandomSearchCV, **settings)


# ------------------------------------------------------------------------------------ failures


@pytest.mark.filterwarnings("ignore:One or more of the:UserWarning")
@pytest.mark.parametrize(
    "grid",
    [
        {"alpha": [-1, 0.0, 0.3, 1.0]},
        {"learning_rate_init": [1e300, 0.001, 0.1], "solver": ["sgd"]},
        {"learning_rate_init": [0.1, 1.0, 1e3, 1e5], "solver": ["sgd"], "early_stopping": [True]},
        {"hidden_layer_sizes": [(3,), (-1,), (4,)]},
    ],
    ids=str,
)
@pytest.mark.parametrize("error_score", [np.nan, 0.0])
def test_failing_candidates_do_not_affect_others(grid, error_score):
    pair = []
    for kind in PAIRS[0]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitFailedWarning)
            pair.append(fit_search(kind, grid=grid, error_score=error_score))
    assert_same_halving(*pair)
