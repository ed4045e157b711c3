"""Each candidate of a search equals a single fit to the bit, also if it fails.

Transformers are fitted once for each split and each setting. A candidate fails exactly if its own
fit fails, and does not affect the others. The oracle is scikit-learn's search.
"""

from dataclasses import dataclass
from typing import ClassVar

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA, KernelPCA
from sklearn.exceptions import FitFailedWarning
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skbackprop import BackpropClassifier, BackpropGridSearchCV, BackpropRegressor
from skbackprop.activations import ActivationFunction
from skbackprop.estimators import _fit_many
from skbackprop.losses import SquaredError
from skbackprop.model_selection import _candidate_evaluator
from skbackprop.schedules import LearningRateSchedule
from skbackprop.training import loop
from skbackprop.training import parallelism as sizes_module
from support import assert_same_search, bits, class_data, few_epochs, outcome, quick, value_data

pytestmark = few_epochs

N = 41
X, Y = class_data(N)
NETWORK = quick(BackpropClassifier)
TWO_PROCESSES = pytest.mark.filterwarnings("ignore::UserWarning:joblib")  # a slow start


class Noted(TransformerMixin, BaseEstimator):
    """Return X unchanged, record every fit, and fail on request."""

    fits: ClassVar[list] = []

    def __init__(self, factor=1, fails=False):
        self.factor, self.fails = factor, fails

    def fit(self, X, y=None):
        self.fits.append((self.factor, len(X)))
        if self.fails:
            raise Refused("a transformer", "it was told to")
        return self

    def transform(self, X):
        return self.factor * X

    def __sklearn_is_fitted__(self):
        return True


class Refused(Exception):
    """An error with two arguments, which cannot be unpickled."""

    def __init__(self, who, why):
        super().__init__(f"{who} refused, since {why}")


@pytest.fixture
def fits():
    Noted.fits.clear()
    return Noted.fits


def both_outcomes(estimator, grid, data=(X, Y), fit_params=None, **settings):
    """Return the fitted search, or its error, and the warnings, of both searches."""
    settings = {"cv": 2, "scoring": bits, "return_train_score": True, **settings}
    own = settings.pop("max_stack_bytes", 2**28)
    return [
        outcome(search, *data, **fit_params or {})
        for search in (
            BackpropGridSearchCV(estimator, grid, max_stack_bytes=own, **settings),
            GridSearchCV(estimator, grid, **settings),
        )
    ]


def assert_same_outcome(estimator, grid, *args, **settings):
    """Assert that both searches have equal results and warnings, or equal errors."""
    actual, expected = both_outcomes(estimator, grid, *args, **settings)
    assert actual[1] == expected[1]
    if isinstance(expected[0], GridSearchCV):
        assert_same_search(actual[0], expected[0])
    return expected


# -------------------------------------------------------------------------- transformers


@pytest.mark.long
def test_transformers_are_fitted_once_for_each_split_and_setting(fits):
    grid = {"noted__factor": [1, 2], "backpropclassifier__alpha": [0, 1, 2]}
    grid["backpropclassifier__hidden_layer_sizes"] = [(3,), (4, 4)]
    search = BackpropGridSearchCV(make_pipeline(Noted(), NETWORK), grid, cv=KFold(3)).fit(X, Y)
    in_search, refit = fits[:-1], fits[-1]
    assert sorted(in_search) == [(1, 27), (1, 27), (1, 28), (2, 27), (2, 27), (2, 28)]
    assert refit == (search.best_params_["noted__factor"], N)


@pytest.mark.long
def test_transformers_are_fitted_once_however_small_the_stacks(fits):
    grid = {"backpropclassifier__alpha": [0, 1, 2], "backpropclassifier__solver": ["adam", "lbfgs"]}
    model = make_pipeline(Noted(), NETWORK)
    BackpropGridSearchCV(model, grid, cv=3, refit=False, max_stack_bytes=1).fit(X, Y)
    assert len(fits) == 3


@pytest.mark.parametrize("dress", [np.asarray, pd.DataFrame])
def test_keeps_transformed_rows_of_few_splits_if_memory_is_scarce(fits, dress):
    def noted(*_):
        fits.append("score")
        return 0.0

    settings = {"scoring": noted, "cv": KFold(6), "refit": False, "max_stack_bytes": X.nbytes}
    grid = {"backpropclassifier__alpha": [0, 1]}
    BackpropGridSearchCV(make_pipeline(Noted(), NETWORK), grid, **settings).fit(dress(X), Y)
    two_splits = ["fit"] * 2 + ["score"] * 4
    assert ["score" if event == "score" else "fit" for event in fits] == two_splits * 3


def test_searched_steps_are_settings(fits):
    steps = [Noted(2), Noted(3)]
    grid = {"noted": steps, "backpropclassifier": [NETWORK, quick(BackpropClassifier, alpha=1)]}
    BackpropGridSearchCV(make_pipeline(Noted(), NETWORK), grid, cv=2, refit=False).fit(X, Y)
    assert sorted(factor for factor, _ in fits) == [2, 2, 3, 3]


def test_pipeline_with_memory_uses_its_cache(fits, tmp_path):
    model = Pipeline([("noted", Noted()), ("network", NETWORK)], memory=str(tmp_path))
    for _ in range(2):
        BackpropGridSearchCV(model, {"network__alpha": [0, 1]}, cv=2, refit=False).fit(X, Y)
    assert len(fits) == 2


@pytest.mark.parametrize(
    "estimator, grid, data",
    [
        (make_pipeline(PCA(), NETWORK), {"pca__n_components": [1, 1.0]}, (X, Y)),
        (
            make_pipeline(StandardScaler(), NETWORK),
            {"standardscaler__with_mean": [True, 1]},
            (X, Y),
        ),
        (
            make_pipeline(CountVectorizer(), NETWORK),
            # The fraction 1.0 of the texts is all of them, the number 1 is one.
            {"countvectorizer__max_df": [1.0, 1]},
            (np.array(["good great one", "bad poor one"] * 15 + ["one"]), np.arange(31) % 2),
        ),
    ],
    ids=["PCA", "StandardScaler", "CountVectorizer"],
)
def test_settings_of_transformers_that_are_equal_but_of_another_type(estimator, grid, data):
    assert_same_outcome(estimator, grid, data)


@pytest.mark.long
@pytest.mark.parametrize("drawn", [0, np.random.RandomState(0)])
def test_transformers_draw_the_random_numbers_of_scikit_learn(drawn):
    model = make_pipeline(PCA(2, svd_solver="randomized", random_state=drawn), NETWORK)
    assert_same_outcome(model, {"backpropclassifier__alpha": [0, 1]})


class Halving(Pipeline):
    """A pipeline that is fitted to every second row."""

    def fit(self, X, y=None, **params):
        return super().fit(X[::2], y[::2], **params)


class Remembering(Pipeline):
    def fit(self, X, y=None, **params):
        self.n_rows_ = len(X)
        return super().fit(X, y, **params)

    def score(self, X, y):
        return float(self.n_rows_)


class Asking(Pipeline):
    def fit(self, X, y=None, **params):
        super().fit(X, y, **params)
        self.share_ = float(np.mean(self.predict(X) == 0))
        return self

    def score(self, X, y):
        return self.share_


@pytest.mark.long
@pytest.mark.parametrize("kind", [Halving, Remembering, Asking])
def test_subclass_of_pipeline_is_fitted_by_its_own_fit(kind):
    model = kind([("scaler", StandardScaler()), ("network", NETWORK)])
    grid = {"network__alpha": [0, 1], "scaler__with_std": [True, False]}
    assert_same_outcome(model, grid, scoring=None)


def test_prints_that_a_pipeline_needs_its_network(capsys):
    model = Asking([("scaler", StandardScaler()), ("network", NETWORK)])
    assert single_fit_lines(printed_lines(capsys, model, {"network__alpha": [0, 1]})) == [
        "2 candidates are trained one by one on 2 splits: their pipeline cannot be fitted without "
        "its network."
    ]


def test_steps_may_be_a_tuple():
    model = Pipeline((("scaler", StandardScaler()), ("network", NETWORK)))
    assert_same_outcome(model, {"network__alpha": [0, 1]})


@pytest.mark.long
def test_searched_kernel_determines_how_x_is_split():
    """A precomputed kernel is split by rows and columns."""
    model = make_pipeline(KernelPCA(2), NETWORK)
    grid = {"kernelpca__kernel": ["precomputed", "linear"], "backpropclassifier__alpha": [0, 1]}
    assert_same_outcome(model, grid, (X @ X.T, Y))


# ------------------------------------------------------------------------------ failures

GOOD = {"learning_rate_init": [0.01, 0.1], "alpha": [0, 1]}
WRONG = {
    "hidden_layer_sizes": [(0,), None, "abc", 2.5, (3, -1)],
    "activation": ["softmax", None, ["softmax"], ["relu", "relu"], []],
    "solver": ["newton", None, ["adam"]],
    "alpha": [-1, None, "much", np.nan],
    "batch_size": [0, -5, 2.5, None, "all", np.inf, np.nan],
    "learning_rate": ["fast", None],
    "learning_rate_init": [0, -1, None, 1e300],
    "power_t": [-1],
    "max_iter": [0, 2.5, None],
    "shuffle": [2, None],
    "random_state": ["seed", -1],
    "tol": [-1, None],
    "verbose": ["much"],
    "warm_start": [None],
    "momentum": [2, None],
    "early_stopping": [None],
    "validation_fraction": [1, None],
    "beta_1": [1],
    "epsilon": [0],
    "n_iter_no_change": [0, 2.5],
    "n_estimators": [0, -1, None, 2.5, "two", np.nan],
    "init": ["zeros", ([], []), ([1], [2], [3])],
    "dtype": ["float16", np.float32],
    "loss": ["zero_one", None],
}


@pytest.mark.long
@pytest.mark.parametrize("name", WRONG)
def test_invalid_parameter_fails_its_candidate_only(name):
    other = "power_t" if name == "tol" else "tol"
    expected = assert_same_outcome(NETWORK, [GOOD, {name: WRONG[name], other: [0.1, 0.2]}])
    assert FitFailedWarning in {category for category, _ in expected[1]}
    is_failure = [False] * 4 + [True] * 2 * len(WRONG[name])
    assert np.isnan(expected[0].cv_results_["mean_test_score"]).tolist() == is_failure


@pytest.mark.parametrize("return_train_score", [True, False])
@pytest.mark.parametrize("error_score", [np.nan, 0, -1.5])
@pytest.mark.parametrize("scoring", [None, ["accuracy", "neg_log_loss"], lambda *_: {"one": 1}])
def test_error_score_replaces_the_score(error_score, scoring, return_train_score):
    grid = {"learning_rate_init": [0.01, 1e300], "alpha": [0.1, -1]}
    assert_same_outcome(
        NETWORK,
        grid,
        scoring=scoring,
        error_score=error_score,
        refit=False,
        return_train_score=return_train_score,
    )


@pytest.mark.long
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("early_stopping", [True, False])
def test_divergence_fails_its_candidate_only(solver, early_stopping, dtype):
    """Training diverges in the first epoch, in a later one, or never."""
    settings = {"activation": "identity", "max_iter": 20, "dtype": dtype, "tol": 0.0}
    model = quick(BackpropRegressor, solver=solver, early_stopping=early_stopping, **settings)
    rates = {"learning_rate_init": [1e300, 1e30, 30.0, 0.001], "alpha": [0, 1]}
    assert_same_outcome(model, rates, value_data(N))


@pytest.mark.long
def test_penalty_of_zero_does_not_overflow_beside_others():
    """Without a penalty, weights of 1e300 are allowed, although their squares overflow."""
    network = quick(BackpropClassifier, hidden_layer_sizes=())
    expected = assert_same_outcome(
        network, [GOOD, {"learning_rate_init": [1e300], "alpha": [0.0, 0.1]}]
    )
    means = expected[0].cv_results_["mean_test_score"]
    assert np.isfinite(means).tolist() == 4 * [True] + [True, False]


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=[TWO_PROCESSES, pytest.mark.long])])
def test_failing_transformer_fails_its_candidates_only(n_jobs):
    grid = {"noted__fails": [False, True], "backpropclassifier__alpha": [0, 1]}
    expected = assert_same_outcome(make_pipeline(Noted(), NETWORK), grid, n_jobs=n_jobs)
    assert FitFailedWarning in {category for category, _ in expected[1]}


def test_candidates_may_fail_on_one_split_only():
    """All training rows of the second split have weight zero."""
    weight = np.where(np.arange(N) <= N // 2, 0, 1)
    grid = {"alpha": [0, 1]}
    expected = assert_same_outcome(
        NETWORK, grid, fit_params={"sample_weight": weight}, cv=KFold(2), refit=False
    )
    assert FitFailedWarning in {category for category, _ in expected[1]}


@pytest.mark.parametrize(
    "estimator, grid",
    [
        (NETWORK, {"alpha": [-1, -2]}),
        (NETWORK, {"learning_rate_init": [1e300]}),
        (NETWORK, {"solver": ["newton", "lbfgs"], "alpha": [-1]}),
        (make_pipeline(Noted(fails=True), NETWORK), {"backpropclassifier__alpha": [0, 1]}),
    ],
)
def test_search_fails_if_all_candidates_fail(estimator, grid):
    kind, says = assert_same_outcome(estimator, grid)
    assert kind is ValueError and says.startswith("All the ")


@pytest.mark.parametrize(
    "grid, says, n_jobs",
    [
        ({"alpha": [0, -1]}, "alpha", 1),
        ({"learning_rate_init": [0.1, 1e300]}, "diverged", 1),
        ({"solver": ["lbfgs"], "alpha": [0, -1]}, "alpha", 1),
        pytest.param({"alpha": [0, -1]}, "alpha", 2, marks=[TWO_PROCESSES, pytest.mark.long]),
    ],
)
def test_error_score_raise_raises_the_error(grid, says, n_jobs):
    search = BackpropGridSearchCV(NETWORK, grid, cv=2, error_score="raise", n_jobs=n_jobs)
    with pytest.raises(ValueError, match=says):
        search.fit(X, Y)
    assert not hasattr(search, "cv_results_")


def test_error_score_raise_raises_the_error_of_a_transformer():
    model = make_pipeline(Noted(fails=True), NETWORK)
    search = BackpropGridSearchCV(model, {"backpropclassifier__alpha": [0]}, error_score="raise")
    with pytest.raises(Refused, match="it was told to"):
        search.fit(X, Y)


@pytest.mark.parametrize(
    "data",
    [
        (X[:, 0], Y),
        (np.zeros((N, 2, 2)), Y),
        (np.where(X > 2, np.nan, X), Y),
        (X.astype(str) + "!", Y),
        (X, None),
        (X, np.where(Y == 0, None, Y)),
        (X, np.array([1, "one", None] * N, dtype=object)[:N]),
        (X, [[1], [1, 2]] * (N // 2) + [[1]]),
        (X, np.linspace(0, 1, N)),
    ],
    ids=["1-D", "3-D", "NaN", "words", "no y", "missing y", "mixed y", "ragged y", "continuous y"],
)
def test_invalid_data_fails_as_in_scikit_learn(data):
    assert_same_outcome(NETWORK, {"alpha": [0, 1]}, data, cv=KFold(3))


@pytest.mark.parametrize("name", ["color", "classes", "incremental"])
def test_unknown_arguments_of_fit_fail_as_in_scikit_learn(name):
    assert_same_outcome(NETWORK, {"alpha": [0, 1]}, fit_params={name: True})


@dataclass(frozen=True)
class Picky(ActivationFunction):
    """f(z) = z, with an error in the first forward pass if there are five units."""

    def forward(self, z, a):
        if z.shape[-1] == 5:
            raise ArithmeticError("too wide")
        np.copyto(a, z)

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


@pytest.mark.long
@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("part", [{"activation": [Picky()]}, {"learning_rate": [Stubborn()]}])
def test_error_during_training_fails_its_candidate_only(part, solver, n_threads, monkeypatch):
    for module in (_candidate_evaluator, loop):
        monkeypatch.setattr(module, "threads_for_stacks", lambda: n_threads)
    monkeypatch.setattr(sizes_module, "_WORTH_A_THREAD", 1)
    grid = [GOOD, part | {"max_iter": [1, 4], "hidden_layer_sizes": [(4,), (5,)]}]
    assert_same_outcome(quick(BackpropClassifier, solver=solver), grid)


@dataclass(frozen=True)
class Scaled(ActivationFunction):
    """f(z) = s z, with a factor s for each unit."""

    scale: np.ndarray

    def forward(self, z, a):
        np.multiply(z, self.scale, out=a)

    def backward(self, z, a, delta):
        delta *= self.scale


@dataclass(frozen=True)
class ForEach(SquaredError):
    """L = (s - y)^2 / 2, with an unused array."""

    scale: np.ndarray


@pytest.mark.long
@pytest.mark.parametrize(
    "estimator, data",
    [
        (quick(BackpropClassifier, activation=Scaled(np.arange(5.0))), (X, Y)),
        (quick(BackpropRegressor, loss=ForEach(np.ones(3))), value_data(N, n_outputs=3)),
    ],
    ids=["activation", "loss"],
)
def test_parts_may_hold_arrays(estimator, data):
    """The == of dataclasses with arrays raises an error."""
    grid = [{}, {"alpha": [0, 1]}, {"activation": [Scaled(np.ones(5)), "relu"], "alpha": [0, 1]}]
    assert_same_outcome(estimator, grid, data)


# ----------------------------------------------------------------------- internal errors


def test_warns_of_an_internal_error_that_costs_only_time(monkeypatch):
    arguments, settings = (NETWORK, {"alpha": [0, 1]}), {"cv": 2, "scoring": bits}
    expected, expected_warnings = outcome(GridSearchCV(*arguments, **settings), X, Y)

    def fail(*args):
        raise AttributeError("it is broken")

    monkeypatch.setattr(_fit_many, "TrainingLoop", fail)
    actual, more = outcome(BackpropGridSearchCV(*arguments, **settings), X, Y)
    assert_same_search(actual, expected)
    ((category, text),) = more - expected_warnings
    assert category is RuntimeWarning
    assert "it is broken" in text and text.startswith("4")


@dataclass(frozen=True)
class Flat(ActivationFunction):
    """f(z) = z, only for a single network."""

    def forward(self, z, a):
        if z.ndim == 3:
            raise ArithmeticError("only one at a time")
        np.copyto(a, z)

    def backward(self, z, a, delta):
        pass


def test_warns_of_a_part_that_fails_in_stacks_only():
    estimator, settings = quick(BackpropClassifier, activation=Flat()), {"cv": 2, "scoring": bits}
    search = BackpropGridSearchCV(estimator, {"alpha": [0, 1]}, **settings)
    with pytest.warns(RuntimeWarning, match="only one at a time.*member axis first"):
        search.fit(X, Y)
    assert_same_search(search, GridSearchCV(estimator, {"alpha": [0, 1]}, **settings).fit(X, Y))


# ------------------------------------------------------------------------------- printing


def printed_lines(capsys, estimator, grid, verbose=1, **settings):
    """Return the lines that a search prints."""
    search = BackpropGridSearchCV(estimator, grid, cv=2, refit=False, verbose=verbose, **settings)
    assert outcome(search, X, Y)[0] is search
    return capsys.readouterr().out.splitlines()


def single_fit_lines(lines):
    return [line for line in lines if "one by one" in line]


@pytest.mark.long
def test_prints_why_candidates_are_trained_one_by_one(capsys):
    lines = printed_lines(capsys, NETWORK, {"solver": ["adam", "lbfgs"], "alpha": [0, 1, 2]})
    assert single_fit_lines(lines) == [
        "3 of 6 candidates are trained one by one: lbfgs trains one network at a time."
    ]
    assert lines[0] == "Fitting 2 folds for each of 6 candidates, totalling 12 fits"
    lines = printed_lines(capsys, SVC(), {"C": [1, 2]})
    assert single_fit_lines(lines) == [
        "2 of 2 candidates are trained one by one: SVC is not a network of skbackprop."
    ]
    lines = printed_lines(
        capsys, make_pipeline(PCA(), NETWORK), {"backpropclassifier": [SVC(), NETWORK]}
    )
    assert len(single_fit_lines(lines)) == 1
    assert not single_fit_lines(printed_lines(capsys, NETWORK, {"alpha": [0, 1]}))


class OwnFit(BackpropClassifier):
    def fit(self, X, y, sample_weight=None):
        return super().fit(-X, y, sample_weight)


class OwnScore(BackpropClassifier):
    def score(self, X, y, sample_weight=None):
        return 2 * super().score(X, y, sample_weight)


class OwnParameter(BackpropClassifier):
    """A network whose constructor computes a parameter from `width`."""

    def __init__(self, width=3):
        super().__init__((width,), max_iter=3, random_state=0)
        self.width = width


@pytest.mark.long
def test_candidates_keep_what_set_params_sets():
    assert_same_outcome(OwnParameter(), {"width": [3, 5]})


@pytest.mark.long
@pytest.mark.parametrize("kind, n_lines", [(OwnFit, 1), (OwnScore, 0)])
def test_subclass_with_its_own_fit_is_fitted_by_it(capsys, kind, n_lines):
    assert len(single_fit_lines(printed_lines(capsys, quick(kind), GOOD))) == n_lines
    assert_same_outcome(quick(kind), GOOD, scoring=None)
    assert_same_outcome(quick(kind), GOOD)


def test_verbose_prints_epochs_and_networks_left(capsys):
    lines = printed_lines(
        capsys, quick(BackpropClassifier, max_iter=3), {"alpha": [0, 1, 2]}, verbose=3
    )
    shown = [line for line in lines if "epoch" in line]
    assert shown == [
        "[stack 1 of 1] epoch 1, 6 of 6 networks left",
        "[stack 1 of 1] epoch 2, 6 of 6 networks left",
        "[stack 1 of 1] epoch 3, 0 of 6 networks left",
    ]
    lines = printed_lines(capsys, NETWORK, {"alpha": [0, 1, 2]})
    assert [line for line in lines if "epoch" in line] == [
        "[stack 1 of 1] epoch 5, 0 of 6 networks left"
    ]


@pytest.mark.parametrize("scoring", [None, ["accuracy", "neg_log_loss"]])
def test_verbose_2_prints_a_line_for_every_fit(capsys, scoring):
    grid = {"alpha": [0, 1, -1], "solver": ["adam", "lbfgs"]}
    lines = printed_lines(capsys, NETWORK, grid, verbose=2, scoring=scoring)
    shown = [line for line in lines if line.startswith("[CV")]
    assert len(shown) == 12
    assert sum("alpha=-1" in line and "nan" in line for line in shown) == 4


def test_prints_nothing_by_default(capsys):
    assert printed_lines(capsys, NETWORK, {"solver": ["adam", "lbfgs"]}, verbose=0) == []


# ---------------------------------------------------------------------------------- workers


@pytest.mark.long
@pytest.mark.parametrize("backend", ["threading", pytest.param("loky", marks=TWO_PROCESSES)])
def test_workers_give_equal_results(backend):
    grid = [GOOD, {"solver": ["lbfgs"], "hidden_layer_sizes": [3, 4]}]
    with joblib.parallel_config(backend, n_jobs=2):
        actual, expected = both_outcomes(NETWORK, grid, cv=3)
    assert_same_search(actual[0], expected[0])
    # Processes of scikit-learn's search keep their warnings to themselves.
    assert actual[1] == both_outcomes(NETWORK, grid, cv=3)[1][1]


@pytest.mark.parametrize(
    "n_stacks, size, n_jobs, sizes",
    [
        (4, 30, 2, [30] * 4),  # all have the same
        (5, 30, 2, [30] * 4 + [15] * 2),  # the fifth is shared
        (3, 12, 1, [12] * 3),
        (2, 1, 4, [1] * 2),  # there is nothing to cut
        (1, 4, 4, [1] * 4),
        (5, 30, 8, [30] * 5),  # too few workers are idle to share a stack
        (9, 30, 4, [30] * 8 + [7, 8, 7, 8]),
    ],
)
def test_stacks_are_balanced_between_workers(n_stacks, size, n_jobs, sizes):
    stacks = [[(stack, i) for i in range(size)] for stack in range(n_stacks)]
    shared = _candidate_evaluator._balance_stacks(stacks, n_jobs)
    assert [len(part) for part in shared] == sizes
    assert [task for part in shared for task in part] == [task for s in stacks for task in s]


def test_initial_weights_in_the_grid_are_unchanged():
    init = [np.ones((4, 5)), np.ones((5, 3))], [np.ones(5), np.ones(3)]
    BackpropGridSearchCV(NETWORK, {"init": [init], "alpha": [0, 1]}, cv=2).fit(X, Y)
    assert all((array == 1).all() for arrays in init for array in arrays)


@pytest.mark.parametrize(
    "settings, n_moments",
    [
        ({"solver": "sgd"}, 1),  # the velocity
        ({}, 2),
        ({"solver": "amsgrad"}, 3),
        ({"solver": "amsgrad", "average": "polyak"}, 4),
    ],
    ids=str,
)
def test_memory_of_a_stack_counts_moments_and_averages(monkeypatch, settings, n_moments):
    counted = []

    def members_at_once(*arguments):
        counted.append(arguments[-1])
        return sizes_module.max_stack_size(*arguments)

    monkeypatch.setattr(_candidate_evaluator, "max_stack_size", members_at_once)
    network = quick(BackpropClassifier, **settings)
    BackpropGridSearchCV(network, {"alpha": [0.1, 0.2]}, cv=2, refit=False).fit(X, Y)
    assert counted == [n_moments]
