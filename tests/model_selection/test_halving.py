"""Halving searches equal scikit-learn's, but survivors resume training.

The oracle is scikit-learn's halving search over the same estimator, which trains all candidates
from the start in each round: scores, ranks and choices are equal to the bit, at one BLAS thread.
Scores do not show that candidates resume, so the epochs of stacks are counted.
"""

import itertools
import pickle
import subprocess
import sys
import warnings

import numpy as np
import pytest
from scipy import sparse
from scipy.stats import loguniform
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, FitFailedWarning, NotFittedError
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score
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
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    BackpropHalvingRandomSearchCV,
    BackpropRegressor,
)
from skbackprop.activations import Relu
from skbackprop.nn.ensemble_trainer import StackTrainer
from skbackprop.optimizers import SGD, AdamW
from support import (
    answers,
    assert_same_search,
    bits,
    class_data,
    few_epochs,
    label_data,
    outcome,
    quick,
    value_data,
)

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

N = 41  # two splits of it differ in size
X, Y = class_data(N)
VALUES = value_data(N)
N_EPOCHS = 9
CLASSIFIER = quick(BackpropClassifier, max_iter=N_EPOCHS, batch_size=10)
REGRESSOR = quick(BackpropRegressor, max_iter=N_EPOCHS, batch_size=10)
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


def searched(kind, estimator=CLASSIFIER, grid=GRID, data=(X, Y), fit_params=None, **settings):
    """Return a fitted search, by default with up to nine epochs and two splits."""
    theirs = not issubclass(kind, (BackpropHalvingGridSearchCV, BackpropHalvingRandomSearchCV))
    common = {"cv": 2, "scoring": checksum}
    if theirs:  # whose defaults are others
        in_pipeline = hasattr(estimator, "steps")
        name = f"{estimator.steps[-1][0]}__max_iter" if in_pipeline else "max_iter"
        common |= {"resource": name, "max_resources": N_EPOCHS}
    return kind(estimator, grid, **common | settings).fit(*data, **fit_params or {})


def assert_halves_equally(*arguments, **settings):
    """Assert that both grid searches have equal results, and return both."""
    pair = [searched(kind, *arguments, **settings) for kind in PAIRS[0]]
    assert_same_halving(*pair)
    return pair


def assert_same_halving(actual, expected):
    assert_same_search(actual, expected)
    for name in COUNTS:
        assert getattr(actual, name) == getattr(expected, name), name


@pytest.fixture
def epochs(monkeypatch):
    """Provide the number of networks in each epoch of a stack."""
    counted, run_epoch = [], StackTrainer.run_epoch

    def noted(stack, rate):
        counted.append(len(stack))
        return run_epoch(stack, rate)

    monkeypatch.setattr(StackTrainer, "run_epoch", noted)
    return counted


# ------------------------------------------------------------------------------- the same bits

EARLY = {"early_stopping": True, "n_iter_no_change": 2, "learning_rate_init": 0.05}
# Of each: the estimator, the grid and the data.
CASES = {
    "multiclass": (CLASSIFIER, GRID, (X, Y)),
    "multilabel": (CLASSIFIER, GRID, label_data(N)),
    "values": (REGRESSOR, GRID, VALUES),
    "rows by themselves": (
        quick(BackpropAutoencoder, max_iter=N_EPOCHS),
        {"learning_rate_init": [0.001, 0.01, 0.1]},
        (X, None),
    ),
    "float32": (clone(CLASSIFIER).set_params(dtype="float32"), GRID, (X, Y)),
    "sparse": (CLASSIFIER, GRID, (sparse.csr_array(np.maximum(X, 0)), Y)),
    "patience": (
        CLASSIFIER,
        {"n_iter_no_change": [1, 3, np.inf], "tol": [0.0, 0.1, 10.0]},
        (X, Y),
    ),
    "early stopping": (
        clone(CLASSIFIER).set_params(**EARLY),
        {"early_stopping": [True, False], "validation_fraction": [0.1, 0.3], "tol": [1e-4, 0.5]},
        (X, Y),
    ),
    "early stopping of values": (clone(REGRESSOR).set_params(**EARLY), GRID, VALUES),
    "seeds and orders": (
        CLASSIFIER,
        {"random_state": [0, 1, np.random.RandomState(2)], "shuffle": [True, False]},
        (X, Y),
    ),
    "sgd": (
        clone(CLASSIFIER).set_params(solver="sgd", n_iter_no_change=1, tol=0.05),
        {
            "learning_rate": ["constant", "adaptive", "invscaling", "plateau"],
            "learning_rate_init": [0.1, 2e-6],
            "momentum": [0.0, 0.9],
        },
        (X, Y),
    ),
    "optimizers": (CLASSIFIER, {"solver": [AdamW(), SGD(0.9), "adam", "rmsprop"]}, (X, Y)),
    "averages": (CLASSIFIER, {"average": [None, "polyak", "ema"]}, (X, Y)),
    "masks and statistics": (
        CLASSIFIER,
        {"dropout": [0.0, 0.3], "normalization": [None, "batch", "layer"]},
        (X, Y),
    ),
    "widths and members": (
        CLASSIFIER,
        {"hidden_layer_sizes": [(), 3, (4, 3)], "n_estimators": [1, 2]},
        (X, Y),
    ),
    "solvers": (CLASSIFIER, {"solver": ["adam", "sgd", "lbfgs"], "alpha": [0, 1]}, (X, Y)),
    "pipeline": (
        SCALED,
        {
            "standardscaler__with_std": [True, False],
            "pca__n_components": [2, 3],
            f"{LAST}learning_rate_init": [0.01, 0.1],
        },
        (X, Y),
    ),
    "strangers": (LogisticRegression(max_iter=N_EPOCHS), {"C": [0.1, 1, 10]}, (X, Y)),
    "steps": (
        SCALED,
        [
            {"backpropclassifier": [LogisticRegression(), STEADY]},
            {"backpropclassifier": [CLASSIFIER], f"{LAST}alpha": [0, 1]},
        ],
        (X, Y),
    ),
    "one candidate": (CLASSIFIER, {"alpha": [0.1]}, (X, Y)),
}


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_halving_finds_the_same_to_the_bit(case):
    estimator, grid, data = CASES[case]
    ours, theirs = assert_halves_equally(estimator, grid, data)
    for actual, expected in zip(
        answers(ours.best_estimator_, data[0]),
        answers(theirs.best_estimator_, data[0]),
        strict=True,
    ):
        np.testing.assert_array_equal(actual, expected, strict=True)


@pytest.mark.long
@pytest.mark.parametrize(
    "settings",
    [
        {"factor": 2},
        {"factor": 1.5, "min_resources": 2},
        {"min_resources": 4},
        {"min_resources": "smallest"},
        {"aggressive_elimination": True, "min_resources": 3, "factor": 2},
        {"aggressive_elimination": True, "min_resources": N_EPOCHS},
        {"aggressive_elimination": True, "min_resources": 1, "max_resources": 200},
        {"max_resources": 5, "factor": 2},
        {"return_train_score": False, "refit": False},
        {"refit": min},
        {"cv": KFold(3, shuffle=True, random_state=0)},
    ],
    ids=" and ".join,
)
def test_rounds_are_scikit_learns(settings):
    assert_halves_equally(**settings)


@pytest.mark.long
@EVERY_SEARCH
def test_rows_are_a_resource(ours, theirs):
    settings = {"resource": "n_samples", "max_resources": "auto", "min_resources": 12}
    settings |= {"factor": 2, "random_state": 0}
    estimator = clone(STEADY).set_params(batch_size="auto")
    assert_same_halving(*(searched(kind, estimator, **settings) for kind in (ours, theirs)))


@pytest.mark.long
def test_any_parameter_is_a_resource():
    """With n_estimators as resource, training starts again in each round."""
    settings = {"resource": "n_estimators", "max_resources": 4, "factor": 2}
    assert_halves_equally(STEADY, {"learning_rate_init": [0.001, 0.01, 0.1]}, **settings)


@pytest.mark.long
@pytest.mark.parametrize("random_state", [0, None, np.random.RandomState(0)])
def test_random_halving_draws_the_same_candidates(random_state):
    found = []
    for kind in PAIRS[1]:
        np.random.seed(0)
        own = pickle.loads(pickle.dumps(random_state))
        drawn = {"learning_rate_init": loguniform(1e-3, 0.1), "alpha": loguniform(1e-3, 1)}
        found.append(searched(kind, grid=drawn, random_state=own, min_resources=2))
    assert_same_halving(*found)
    assert found[0].n_candidates_ == [4, 2]


@pytest.mark.long
@pytest.mark.parametrize("max_stack_bytes", [1, 20_000])
@pytest.mark.parametrize("case", ["early stopping", "masks and statistics", "pipeline"])
def test_results_do_not_depend_on_the_size_of_stacks(case, max_stack_bytes):
    kind = BackpropHalvingGridSearchCV
    large, small = (
        searched(kind, *CASES[case], max_stack_bytes=size) for size in (2**28, max_stack_bytes)
    )
    assert_same_halving(small, large)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore::UserWarning:joblib")  # a slow start
@pytest.mark.parametrize("case", ["early stopping", "masks and statistics", "averages", "pipeline"])
def test_two_processes_find_the_same(case):
    alone, paired = (
        searched(BackpropHalvingGridSearchCV, *CASES[case], n_jobs=n_jobs) for n_jobs in (1, 2)
    )
    assert_same_halving(paired, alone)


@pytest.mark.long
def test_weights_and_groups_are_split_along_with_x():
    weights = {"sample_weight": WEIGHT, "groups": np.arange(N) % 7}
    assert_halves_equally(fit_params=weights, cv=GroupKFold(2), scoring=bits)


# ----------------------------------------------------------------------- nothing is trained twice


@pytest.mark.long
@pytest.mark.parametrize("estimator", [STEADY, make_pipeline(StandardScaler(), STEADY)])
def test_survivors_go_on_from_where_they_are(estimator, epochs):
    """Nine candidates train for an epoch, three up to the third, one up to the ninth.

    Of nine each split has a stack of its own.
    """
    grid = GRID if estimator is STEADY else {f"{LAST}{name}": v for name, v in GRID.items()}
    search = searched(BackpropHalvingGridSearchCV, estimator, grid)
    assert (search.n_candidates_, search.n_resources_) == ([9, 3, 1], [1, 3, 9])
    # The last are the best one's, on all data.
    assert epochs == [9] * 2 + [6] * 2 + [2] * 6 + [1] * 9


def test_repeated_rounds_train_nothing(epochs):
    settings = {"aggressive_elimination": True, "min_resources": N_EPOCHS}
    search = searched(BackpropHalvingGridSearchCV, STEADY, **settings)
    assert search.n_resources_ == [9, 9, 9]
    assert epochs == [9] * 2 * 9 + [1] * 9


def test_who_has_converged_stays_as_it_is(epochs):
    """With a patience of one epoch and a large tol, all converge after three epochs."""
    estimator = clone(CLASSIFIER).set_params(tol=1e3, n_iter_no_change=1)
    search = searched(BackpropHalvingGridSearchCV, estimator, min_resources=3)
    assert epochs == [9] * 2 * 3 + [1] * 3
    assert search.n_resources_ == [3, 9]


@pytest.mark.long
def test_the_same_parameters_twice_go_on_each_by_itself():
    """Without a seed the two differ, and the better one resumes from its own weights."""
    estimator = clone(STEADY).set_params(random_state=None)
    search = searched(
        BackpropHalvingGridSearchCV, estimator, {"alpha": [0.0] * 6}, scoring="neg_log_loss"
    )
    results = search.cv_results_
    first, second = (results["mean_test_score"][results["iter"] == i] for i in (0, 1))
    # So few steps change the score by less than the initial weights do.
    assert np.ptp(first) > 10 * abs(np.sort(first)[-2:].mean() - second.mean())


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


@pytest.mark.long
@pytest.mark.parametrize("random_state, goes_on", [(0, True), (None, False)])
def test_networks_on_other_rows_begin_anew(random_state, goes_on, epochs):
    estimator = make_pipeline(Drawing(random_state), STEADY)
    grid = {f"{LAST}{name}": values for name, values in GRID.items()}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        searched(BackpropHalvingGridSearchCV, estimator, grid)
    said = [str(w.message) for w in caught if "started again" in str(w.message)]
    assert [int(message.split()[0]) for message in said] == ([] if goes_on else [6, 2])
    rounds = [1, 2, 6] if goes_on else [1, 3, 9]
    assert epochs == [9] * 2 * rounds[0] + [6] * rounds[1] + [2] * rounds[2] + [1] * 9


@pytest.mark.long
def test_schedules_count_towards_the_last_rounds_epochs():
    """The last score of the survivor equals that of training at once."""
    estimator = clone(STEADY).set_params(learning_rate="cosine", solver="sgd")
    halved = searched(BackpropHalvingGridSearchCV, estimator)
    whole = BackpropGridSearchCV(estimator, GRID, cv=2, scoring=checksum).fit(X, Y)
    last = {name: values[-1] for name, values in halved.cv_results_.items()}
    i = whole.cv_results_["params"].index({n: last["params"][n] for n in GRID})
    for split in range(2):
        name = f"split{split}_test_score"
        assert last[name] == whole.cv_results_[name][i]


def test_scorers_see_the_rounds_epochs():
    def n_epochs(estimator, X, y):
        assert estimator.max_iter == estimator.n_iter_
        return estimator.n_iter_ - estimator.alpha

    search = searched(BackpropHalvingGridSearchCV, STEADY, scoring=n_epochs)
    results = search.cv_results_
    expected = results["n_resources"] - results["param_alpha"].astype(float)
    np.testing.assert_array_equal(results["mean_test_score"], expected)


def test_only_the_last_round_says_that_nobody_has_converged():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        search = searched(BackpropHalvingGridSearchCV, clone(CLASSIFIER).set_params(tol=0.0))
    said = [str(w.message) for w in caught if w.category is ConvergenceWarning]
    assert len(said) == 2 * 1 + 1  # one candidate on two splits, and the last fit
    assert all("Maximum iterations (9)" in message for message in said)
    assert search.n_iterations_ == 3


# --------------------------------------------------------------------------------- drop-ins


@EVERY_SEARCH
def test_constructor_has_scikit_learns_parameters(ours, theirs):
    import inspect

    mine, others = (list(inspect.signature(kind).parameters.values()) for kind in (ours, theirs))
    more = [p.name for p in mine[len(others) :]]
    assert [p.name for p in mine] == [*(p.name for p in others), *more]
    assert more == ["max_stack_bytes"]
    differ = [
        a.name for a, b in zip(mine, others, strict=False) if str(a.default) != str(b.default)
    ]
    assert differ == ["resource"]
    assert issubclass(ours, theirs)


@pytest.mark.long
@EVERY_SEARCH
@pytest.mark.parametrize("refit", [True, False])
def test_attributes_are_scikit_learns(ours, theirs, refit):
    settings = {"random_state": 0, "refit": refit, "min_resources": 2}
    found = [searched(kind, **settings) for kind in (ours, theirs)]
    public = [{name for name in vars(search) if name[0] != "_"} for search in found]
    assert public[0] - {"max_stack_bytes", "time_limit"} == public[1]
    for search in found:
        assert hasattr(search, "classes_") == refit


@pytest.mark.long
def test_nobody_has_to_enable_what_is_experimental():
    code = (
        "import skbackprop, sklearn.model_selection as selection; "
        "assert 'HalvingGridSearchCV' not in vars(selection)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.long
def test_search_is_cloned_and_pickled():
    search = searched(BackpropHalvingGridSearchCV, max_stack_bytes=12_345)
    assert clone(search).max_stack_bytes == 12_345
    assert not hasattr(clone(search), "cv_results_")
    assert_same_halving(pickle.loads(pickle.dumps(search)), search)


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
def test_errors_are_scikit_learns(estimator, grid, settings):
    said = []
    for kind in PAIRS[0]:
        with pytest.raises(ValueError, match=".") as caught:
            searched(kind, estimator, grid, **settings)
        said.append(str(caught.value).partition("\n")[0].replace("Backprop", ""))
    assert said[0] == said[1]


def test_exhaust_is_not_for_both():
    settings = {"min_resources": "exhaust", "n_candidates": "exhaust"}
    with pytest.raises(ValueError, match="cannot be both set to 'exhaust'"):
        searched(BackpropHalvingRandomSearchCV, **settings)


# --------------------------------------------------------------------------- several metrics


def by_name(estimator, X, y):
    return {"accuracy": accuracy_score(y, estimator.predict(X)), "bits": bits(estimator, X, y)}


@pytest.mark.long
@pytest.mark.parametrize("scoring", [{"accuracy": "accuracy", "bits": bits}, by_name])
def test_one_of_several_metrics_decides(scoring):
    single = searched(BackpropHalvingGridSearchCV)
    several = searched(BackpropHalvingGridSearchCV, scoring=scoring, refit="bits")
    for name in ("mean", "split1"):
        np.testing.assert_array_equal(
            several.cv_results_[f"{name}_test_bits"], single.cv_results_[f"{name}_test_score"]
        )
    assert several.multimetric_
    for name in ("best_index_", "best_score_", "best_params_", "n_candidates_"):
        assert getattr(several, name) == getattr(single, name)
    assert "mean_test_accuracy" in several.cv_results_


@pytest.mark.parametrize("refit", [True, False, "beauty"])
@pytest.mark.parametrize("scoring", [["accuracy", "neg_log_loss"], by_name])
def test_several_metrics_ask_for_the_one_that_decides(scoring, refit):
    with pytest.raises(ValueError, match=r"refit.*must be the name of the one .* \['accuracy'"):
        searched(BackpropHalvingGridSearchCV, scoring=scoring, refit=refit)


# ------------------------------------------------------------------------------------ failures


class Picky(Relu):
    """A user-defined activation that only supports single networks."""

    def forward(self, z, a):
        if z.ndim > 2:
            raise ValueError("one at a time")
        super().forward(z, a)


@pytest.mark.long
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
def test_failures_take_no_other_with_them(grid, error_score):
    pair = []
    for kind in PAIRS[0]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitFailedWarning)
            pair.append(searched(kind, grid=grid, error_score=error_score))
    assert_same_halving(*pair)


def test_a_failure_is_raised_where_that_is_wanted():
    with pytest.raises(ValueError, match="alpha"):
        searched(BackpropHalvingGridSearchCV, grid={"alpha": [0.1, -1]}, error_score="raise")


@pytest.mark.long
def test_candidates_that_cannot_share_a_stack_go_on_alone(epochs):
    estimator = clone(STEADY).set_params(activation=Picky())
    kind = BackpropHalvingGridSearchCV
    with pytest.warns(RuntimeWarning, match="trained one by one"):
        alone = searched(kind, estimator)
    n_alone = epochs.count(1)
    assert n_alone == 18 * 1 + 6 * 2 + 2 * 6 + 9
    assert_same_halving(alone, searched(kind, clone(STEADY)))


# ----------------------------------------------------------------------------------- callbacks


class Recorder:
    """Record the tasks that end, each by the names and numbers of its parents."""

    def __init__(self, stop_in=None):
        self.ended, self.begun, self.stop_in = [], [], stop_in

    def setup(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(way_to(context))

    def on_fit_task_end(self, estimator, context):
        self.ended.append(way_to(context))
        return self.ended[-1][-3:] == self.stop_in


def way_to(context):
    is_stack = context.task_name.endswith(", task")  # after its candidates and splits
    here = ("stack" if is_stack else context.task_name, context.task_id)
    return (here,) if context.parent is None else (*way_to(context.parent), here)


def followed(kind, callback, **settings):
    common = {"cv": 2, "scoring": checksum}
    if kind is HalvingGridSearchCV:
        common |= {"resource": "max_iter", "max_resources": N_EPOCHS}
    search = kind(STEADY, GRID, **common | settings).set_callbacks(callback)
    return search.fit(X, Y)


@pytest.mark.long
def test_each_round_stack_and_epoch_is_a_task():
    mine, reference = Recorder(), Recorder()
    found = followed(BackpropHalvingGridSearchCV, mine)
    assert_same_halving(found, followed(HalvingGridSearchCV, reference))
    assert sorted(mine.begun) == sorted(mine.ended)
    above = [[way for way in r.ended if len(way) < 4] for r in (mine, reference)]
    assert above[0] == above[1]
    in_rounds = {
        i: [way for way in mine.ended if way[-1][0] == "epoch" and way[2][1] == i] for i in range(3)
    }
    assert [len(ways) for ways in in_rounds.values()] == [2 * 1, 2, 6]


@pytest.mark.long
def test_true_ends_a_stack_for_this_round():
    stop_in = (("halving-iteration", 1), ("stack", 0), ("epoch", 0))
    callback = Recorder(stop_in)
    followed(BackpropHalvingGridSearchCV, callback)
    n_epochs = [
        sum(way[-1][0] == "epoch" and way[2][1] == i for way in callback.ended) for i in range(3)
    ]
    assert n_epochs == [2 * 1, 1, 7]  # what was missed is made up for in the next


@pytest.mark.long
def test_callbacks_of_the_candidates_follow_each_alone(capsys):
    callback = Recorder()
    estimator = clone(STEADY).set_callbacks(callback)
    found = searched(BackpropHalvingGridSearchCV, estimator, verbose=1)
    assert "one by one: callbacks" in capsys.readouterr().out
    assert_same_halving(found, searched(HalvingGridSearchCV, STEADY))


@pytest.mark.long
def test_rounds_are_printed_as_scikit_learn_prints_them(capsys):
    said = []
    for kind in PAIRS[0]:
        searched(kind, STEADY, verbose=1)
        lines = capsys.readouterr().out.splitlines()
        said.append([line for line in lines if not line.startswith("[")])
    assert said[0] == said[1]


# ------------------------------------------------------------------------------------- Ctrl-C


def interrupt_in_epoch(monkeypatch, number):
    """Raise KeyboardInterrupt in the epoch of this number, counted over all stacks."""
    run_epoch, epochs = StackTrainer.run_epoch, itertools.count(1)

    def counted(stack, rate):
        if next(epochs) == number:
            raise KeyboardInterrupt
        return run_epoch(stack, rate)

    monkeypatch.setattr(StackTrainer, "run_epoch", counted)


@pytest.mark.long
@pytest.mark.parametrize("was_fitted", [True, False])
@pytest.mark.parametrize("number, n_rounds", [(1, 0), (3, 1), (6, 2), (13, 3)])
def test_an_interrupt_leaves_the_complete_rounds(number, n_rounds, was_fitted, monkeypatch):
    """The rounds have two, two and six epochs of stacks, followed by the last fit."""
    search = BackpropHalvingGridSearchCV(STEADY, GRID, cv=2, scoring=checksum)
    if was_fitted:
        search.fit(X[:30], Y[:30])
    before = dict(vars(search))
    with monkeypatch.context() as patch:
        interrupt_in_epoch(patch, number)
        with pytest.raises(KeyboardInterrupt):
            search.fit(X, Y)
    if n_rounds == 0:
        assert vars(search) == before
        return
    assert (search.n_candidates_, search.n_iterations_) == ([9, 3, 1][:n_rounds], n_rounds)
    whole = clone(search).fit(X, Y)
    is_complete = whole.cv_results_["iter"] < n_rounds
    for name in ("mean_test_score", "iter", "n_resources"):
        np.testing.assert_array_equal(
            search.cv_results_[name], whole.cv_results_[name][is_complete]
        )
    assert search.best_params_ == search.cv_results_["params"][search.best_index_]
    assert search.best_score_ == search.cv_results_["mean_test_score"][search.best_index_]
    assert {n for n in vars(whole) if n[-1] == "_"} - {n for n in vars(search) if n[-1] == "_"} <= {
        "best_estimator_",
        "refit_time_",
    }
    with pytest.raises(NotFittedError):
        search.predict(X)


def test_an_error_leaves_the_search_as_it_was():
    def good_at_first(estimator, X, y):
        return 1 / (estimator.max_iter < N_EPOCHS)

    search = BackpropHalvingGridSearchCV(STEADY, GRID, cv=2, scoring=good_at_first)
    search.set_params(error_score="raise")
    before = dict(vars(search))
    with pytest.raises(ZeroDivisionError):
        search.fit(X, Y)
    assert vars(search) == before


# --------------------------------------------------------------------- scikit-learn's checks


@pytest.mark.long
def test_a_search_takes_warnings_as_scikit_learns():
    for kind in PAIRS[0]:
        search = kind(
            STEADY, GRID, resource="max_iter", max_resources=N_EPOCHS, cv=2, scoring=checksum
        )
        assert outcome(search, X, Y)[1] == set()
