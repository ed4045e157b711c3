"""Callbacks follow a search by scikit-learn's protocol, and do not change results."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import (
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    BackpropRandomizedSearchCV,
)
from skbackprop.estimators import _fit_many
from support import assert_same_search, bits, class_data, few_epochs, quick
from support.searches import CallbackRecorder

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

X, Y = class_data(41)
N_EPOCHS = 4
NETWORK = quick(BackpropClassifier, max_iter=N_EPOCHS)
GRID = {"learning_rate_init": [0.001, 0.01, 0.1], "hidden_layer_sizes": [(5,), (6,)]}
RANDOM = {"n_iter": 5, "random_state": 0}


def fit_search(kind, callback=None, estimator=NETWORK, grid=GRID, **settings):
    """Return a fitted search with a callback."""
    settings = {"cv": 2, "scoring": bits, "return_train_score": True} | settings
    search = kind(estimator, grid, **settings)
    if callback is not None:
        search.set_callbacks(callback)
    return search.fit(X, Y)


@pytest.mark.long
@pytest.mark.parametrize(
    "ours, theirs, settings",
    [
        (BackpropGridSearchCV, GridSearchCV, {}),
        (BackpropRandomizedSearchCV, RandomizedSearchCV, RANDOM),
    ],
    ids=["grid", "random"],
)
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_each_stack_and_each_epoch_is_a_task(ours, theirs, settings, in_pipeline):
    estimator, grid = NETWORK, GRID
    if in_pipeline:
        estimator = make_pipeline(StandardScaler(), NETWORK)
        grid = {f"backpropclassifier__{name}": values for name, values in GRID.items()}
    mine, reference = CallbackRecorder(), CallbackRecorder()
    found = fit_search(ours, mine, estimator, grid, **settings)
    expected = fit_search(theirs, reference, estimator, grid, **settings)
    assert_same_search(found, expected)
    assert_same_search(found, fit_search(ours, None, estimator, grid, **settings))
    assert sorted(mine.begun) == sorted(mine.ended)
    # The ids are scikit-learn's; the first fit of each stack has another name.
    stacks = mine.named("stack")
    ids = {path[-1][1] for path in [*stacks, *mine.named("candidate-split-evaluation")]}
    assert ids == {path[-1][1] for path in reference.named("candidate-split-evaluation")}
    in_stacks = [path for path in mine.named("epoch") if path[-2][0] == "stack"]
    assert len(stacks) == 2  # for both of the shapes
    assert sorted(in_stacks) == sorted(
        (*stack, ("epoch", i)) for stack in stacks for i in range(N_EPOCHS)
    )
    fits = [path for path in reference.ended if len(path) < 3]
    assert [path for path in mine.ended if len(path) < 3] == fits
    # Hooks get the data that scikit-learn's search passes to them.
    for name, X_passed, y_passed, metadata in mine.data:
        if name in ("stack", "candidate-split-evaluation"):
            assert any(
                np.array_equal(X_passed, theirs) and np.array_equal(y_passed, y)
                for _, theirs, y, _ in reference.data
            )
            assert metadata is None
        if name == "epoch":
            assert X_passed is None


def test_hooks_get_the_weights_of_the_rows():
    callback, weight = CallbackRecorder(), np.arange(len(X)) + 1.0
    search = BackpropGridSearchCV(NETWORK, GRID, cv=2).set_callbacks(callback)
    search.fit(X, Y, sample_weight=weight)
    for name, X_passed, _, metadata in callback.data:
        if name in ("stack", "candidate-split-evaluation"):
            assert len(metadata["sample_weight"]) == len(X_passed) < len(X)
    assert callback.data[-1][3]["sample_weight"] is weight


def test_hook_that_returns_true_stops_a_stack():
    callback = CallbackRecorder(stop_in=(("epoch", 1),))
    found = fit_search(BackpropGridSearchCV, callback)
    estimator = quick(BackpropClassifier, max_iter=2)
    assert_same_search(found, fit_search(BackpropGridSearchCV, None, estimator))
    assert len(callback.named("epoch")) == 2 * 2


@pytest.mark.long
@pytest.mark.parametrize("task", [("epoch", 1), ("candidate-split-evaluation", 2), ("search", 0)])
def test_error_in_a_hook_leaves_the_search_unchanged(task):
    callback = CallbackRecorder(error_in=(task,))
    search = BackpropGridSearchCV(NETWORK, GRID, cv=2).set_callbacks(callback)
    before = set(vars(search))
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with pytest.raises(ZeroDivisionError, match="a mistake in a callback"):
            search.fit(X, Y)
    assert set(vars(search)) == before
    assert not callback.is_set_up


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:One or more of the:UserWarning")
def test_single_and_failing_fits_are_tasks():
    grid = [
        {"estimator": [LogisticRegression()]},
        {"estimator": [NETWORK], "estimator__solver": ["adam", "lbfgs"]},
        {"estimator": [NETWORK], "estimator__alpha": [-1.0, 0.1]},
    ]
    pipeline = make_pipeline(StandardScaler(), NETWORK)
    pipeline.steps[-1] = "estimator", NETWORK
    mine, reference = CallbackRecorder(), CallbackRecorder()
    found = []
    for kind, callback in ((BackpropGridSearchCV, mine), (GridSearchCV, reference)):
        with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 10"):
            found.append(fit_search(kind, callback, pipeline, grid))
    assert_same_search(*found)
    assert sorted(mine.begun) == sorted(mine.ended)
    ours = mine.named("stack") + mine.named("candidate-split-evaluation")
    assert len(ours) == len(reference.named("candidate-split-evaluation")) == 2 * 5


@pytest.mark.filterwarnings("ignore:One or more of the:UserWarning")
def test_epoch_repeated_after_a_divergence_is_one_task(monkeypatch):
    monkeypatch.setattr(_fit_many, "_fit_one_by_one", None)
    callback, grid = CallbackRecorder(), {"learning_rate_init": [0.1, 0.01, 1e300, 0.02, 0.03]}
    estimator = quick(BackpropClassifier, max_iter=N_EPOCHS, solver="sgd")
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 10"):
        fit_search(BackpropGridSearchCV, callback, estimator, grid)
    (stack,) = callback.named("stack")
    epochs = [path for path in callback.named("epoch") if path[:-1] == stack]
    assert epochs == [(*stack, ("epoch", i)) for i in range(N_EPOCHS)]
    assert sorted(callback.begun) == sorted(callback.ended)


@pytest.mark.long
def test_callbacks_of_the_estimator_follow_each_fit(capsys):
    callback, reference = CallbackRecorder(), CallbackRecorder()
    estimator = clone(NETWORK).set_callbacks(callback)
    found = fit_search(BackpropGridSearchCV, None, estimator, verbose=1)
    assert "one by one: callbacks" in capsys.readouterr().out
    assert_same_search(found, fit_search(GridSearchCV, None, estimator.set_callbacks(reference)))
    assert len(callback.named("epoch")) == (6 * 2 + 1) * N_EPOCHS
    assert (callback.begun, callback.ended) == (reference.begun, reference.ended)


@pytest.mark.long
def test_callbacks_of_networks_in_the_grid_follow_each_fit(capsys):
    callback = CallbackRecorder()
    networks = [clone(NETWORK).set_params(alpha=alpha) for alpha in (0.1, 0.2)]
    grid = {"backpropclassifier": [network.set_callbacks(callback) for network in networks]}
    pipeline = make_pipeline(StandardScaler(), NETWORK)
    found = fit_search(BackpropGridSearchCV, None, pipeline, grid, verbose=1)
    assert "2 of 2 candidates are trained one by one: callbacks need" in capsys.readouterr().out
    assert len(callback.named("epoch")) == (2 * 2 + 1) * N_EPOCHS
    assert_same_search(found, fit_search(GridSearchCV, None, pipeline, grid))


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.filterwarnings("ignore::UserWarning:joblib")
def test_progress_bar_shows_the_stacks(n_jobs, capsys):
    fit_search(BackpropGridSearchCV, ProgressBar(), n_jobs=n_jobs)
    shown = capsys.readouterr().out
    stack = f"stack of {6 // n_jobs}, task #"  # two workers have a split each
    for task in ("fit", "search #0", stack, "refit-with-best-params"):
        assert f"BackpropGridSearchCV - {task}" in shown


# -------------------------------------------------------------------------------- halving

HALVING_GRID = {"learning_rate_init": [0.001, 0.01, 0.1], "alpha": [0.0, 0.3, 1.0]}
STEADY = quick(BackpropClassifier, max_iter=9, batch_size=10, n_iter_no_change=np.inf)


@pytest.mark.long
def test_each_round_stack_and_epoch_is_a_task():
    mine, reference = CallbackRecorder(), CallbackRecorder()
    found = fit_search(BackpropHalvingGridSearchCV, mine, STEADY, HALVING_GRID)
    settings = {"resource": "max_iter", "max_resources": 9}
    expected = fit_search(HalvingGridSearchCV, reference, STEADY, HALVING_GRID, **settings)
    assert_same_search(found, expected)
    assert sorted(mine.begun) == sorted(mine.ended)
    above = [[path for path in r.ended if len(path) < 4] for r in (mine, reference)]
    assert above[0] == above[1]
    rounds = [path[2][1] for path in mine.named("epoch") if path[2][0] == "halving-iteration"]
    assert [rounds.count(i) for i in range(3)] == [2 * 1, 2, 6]


@pytest.mark.long
def test_hook_that_returns_true_stops_a_stack_for_this_round():
    callback = CallbackRecorder((("halving-iteration", 1), ("stack", 0), ("epoch", 0)))
    fit_search(BackpropHalvingGridSearchCV, callback, STEADY, HALVING_GRID)
    rounds = [path[2][1] for path in callback.named("epoch") if path[2][0] == "halving-iteration"]
    # The missing epoch is made up for in the next round.
    assert [rounds.count(i) for i in range(3)] == [2 * 1, 1, 7]


@pytest.mark.long
def test_callbacks_of_the_estimator_follow_each_fit_of_a_halving_search(capsys):
    estimator = clone(STEADY).set_callbacks(CallbackRecorder())
    found = fit_search(BackpropHalvingGridSearchCV, None, estimator, HALVING_GRID, verbose=1)
    assert "one by one: callbacks" in capsys.readouterr().out
    settings = {"resource": "max_iter", "max_resources": 9}
    assert_same_search(
        found, fit_search(HalvingGridSearchCV, None, STEADY, HALVING_GRID, **settings)
    )
