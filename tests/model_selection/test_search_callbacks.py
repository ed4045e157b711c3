"""Callbacks follow a search by scikit-learn's protocol, and do not change results."""

import warnings

import numpy as np
import pytest
from sklearn.callback import ProgressBar
from sklearn.exceptions import FitFailedWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier, BackpropGridSearchCV, BackpropRandomizedSearchCV
from skbackprop.estimators import _fit_many
from support import assert_same_search, bits, class_data, few_epochs, quick

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

X, Y = class_data(41)
N_EPOCHS = 4
NETWORK = quick(BackpropClassifier, max_iter=N_EPOCHS)
GRID = {"learning_rate_init": [0.001, 0.01, 0.1], "hidden_layer_sizes": [(5,), (6,)]}
EVERY_SEARCH = pytest.mark.parametrize(
    "ours, theirs",
    [(BackpropGridSearchCV, GridSearchCV), (BackpropRandomizedSearchCV, RandomizedSearchCV)],
    ids=["grid", "random"],
)


class Recorder:
    """Record the tasks that begin and end, by the names and numbers of their parents."""

    def __init__(self, stop_in=None, error_in=None):
        self.begun, self.ended, self.data = [], [], []
        self.stop_in, self.error_in, self.is_set_up = stop_in, error_in, False

    def setup(self, estimator, context):
        self.is_set_up = True

    def teardown(self, estimator, context):
        self.is_set_up = False

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(way_to(context))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None):
        self.ended.append(way_to(context))
        self.data.append((context.task_name, X, y, metadata))
        if (context.task_name, context.task_id) == self.error_in:
            raise ZeroDivisionError("a mistake in a callback")
        return (context.task_name, context.task_id) == self.stop_in

    def named(self, name):
        """Return the paths of the ended tasks with a name."""
        return [way for way in self.ended if way[-1][0] == name]

    def stacks(self):
        """Return the paths of the ended stacks."""
        return [way for way in self.ended if is_of_stack(way[-1][0])]


def is_of_stack(name):
    return name.startswith("stack of ")


def way_to(context):
    here = (context.task_name, context.task_id)
    return (here,) if context.parent is None else (*way_to(context.parent), here)


def searched(kind, callback=None, estimator=NETWORK, grid=GRID, **settings):
    """Return a fitted search with a callback."""
    settings = {"cv": 2, "scoring": bits, "return_train_score": True} | settings
    if issubclass(kind, RandomizedSearchCV):
        settings = {"n_iter": 5, "random_state": 0} | settings
    search = kind(estimator, grid, **settings)
    if callback is not None:
        search.set_callbacks(callback)
    return search.fit(X, Y)


@pytest.mark.long
@EVERY_SEARCH
@pytest.mark.parametrize("in_pipeline", [False, True])
def test_each_stack_and_each_epoch_is_a_task(ours, theirs, in_pipeline):
    estimator, grid = NETWORK, GRID
    if in_pipeline:
        estimator = make_pipeline(StandardScaler(), NETWORK)
        grid = {f"backpropclassifier__{name}": values for name, values in GRID.items()}
    mine, reference = Recorder(), Recorder()
    found = searched(ours, mine, estimator, grid)
    expected = searched(theirs, reference, estimator, grid)
    assert_same_search(found, expected)
    assert_same_search(found, searched(ours, None, estimator, grid))
    assert sorted(mine.begun) == sorted(mine.ended)
    # The places are scikit-learn's: those of the stacks' first fits have another name.
    stacks = mine.stacks()
    places = {way[-1][1] for way in [*stacks, *mine.named("candidate-split-evaluation")]}
    assert places == {way[-1][1] for way in reference.named("candidate-split-evaluation")}
    of_stacks = [way for way in mine.named("epoch") if way[-2] in [way[-1] for way in stacks]]
    assert len(stacks) == 2  # for both of the shapes
    assert sorted(of_stacks) == sorted(
        (*stack, ("epoch", i)) for stack in stacks for i in range(N_EPOCHS)
    )
    fits = [way for way in reference.ended if len(way) < 3]
    assert [way for way in mine.ended if len(way) < 3] == fits
    # What hooks are told of the data of a fit is what scikit-learn tells them.
    for name, X_told, y_told, metadata in mine.data:
        if is_of_stack(name) or name == "candidate-split-evaluation":
            assert any(
                np.array_equal(X_told, theirs) and np.array_equal(y_told, y)
                for _, theirs, y, _ in reference.data
            )
            assert metadata is None
        if name == "epoch":
            assert X_told is None


def test_weights_go_with_the_rows():
    callback, weight = Recorder(), np.arange(len(X)) + 1.0
    search = BackpropGridSearchCV(NETWORK, GRID, cv=2).set_callbacks(callback)
    search.fit(X, Y, sample_weight=weight)
    for name, X_told, _, metadata in callback.data:
        if is_of_stack(name) or name == "candidate-split-evaluation":
            assert len(metadata["sample_weight"]) == len(X_told) < len(X)
    assert callback.data[-1][3]["sample_weight"] is weight


def test_true_ends_a_stack():
    callback = Recorder(stop_in=("epoch", 1))
    found = searched(BackpropGridSearchCV, callback)
    estimator = quick(BackpropClassifier, max_iter=2)
    assert_same_search(found, searched(BackpropGridSearchCV, None, estimator))
    assert len(callback.named("epoch")) == 2 * 2


@pytest.mark.parametrize("place", [("epoch", 1), ("candidate-split-evaluation", 2), ("search", 0)])
def test_an_error_in_a_callback_is_said_and_leaves_the_search_as_it_was(place):
    callback = Recorder(error_in=place)
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
def test_candidates_alone_and_those_that_fail_are_tasks_too():
    grid = [
        {"estimator": [LogisticRegression()]},
        {"estimator": [NETWORK], "estimator__solver": ["adam", "lbfgs"]},
        {"estimator": [NETWORK], "estimator__alpha": [-1.0, 0.1]},
    ]
    pipeline = make_pipeline(StandardScaler(), NETWORK)
    pipeline.steps[-1] = "estimator", NETWORK
    mine, reference = Recorder(), Recorder()
    found = []
    for kind, callback in ((BackpropGridSearchCV, mine), (GridSearchCV, reference)):
        with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 10"):
            found.append(searched(kind, callback, pipeline, grid))
    assert_same_search(*found)
    assert sorted(mine.begun) == sorted(mine.ended)
    ours = mine.stacks() + mine.named("candidate-split-evaluation")
    assert len(ours) == len(reference.named("candidate-split-evaluation")) == 2 * 5


@pytest.mark.filterwarnings("ignore:One or more of the:UserWarning")
def test_an_epoch_that_others_do_again_when_one_diverges_is_one_task(monkeypatch):
    monkeypatch.setattr(_fit_many, "_fit_alone", None)
    callback, grid = Recorder(), {"learning_rate_init": [0.1, 0.01, 1e300, 0.02, 0.03]}
    estimator = quick(BackpropClassifier, max_iter=N_EPOCHS, solver="sgd")
    with pytest.warns(FitFailedWarning, match="2 fits failed out of a total of 10"):
        searched(BackpropGridSearchCV, callback, estimator, grid)
    (stack,) = callback.stacks()
    epochs = [way for way in callback.named("epoch") if way[:-1] == stack]
    assert epochs == [(*stack, ("epoch", i)) for i in range(N_EPOCHS)]
    assert sorted(callback.begun) == sorted(callback.ended)


@pytest.mark.long
def test_callbacks_of_the_candidates_themselves_follow_each_alone(capsys):
    callback = Recorder()
    estimator = quick(BackpropClassifier, max_iter=N_EPOCHS).set_callbacks(callback)
    found = searched(BackpropGridSearchCV, None, estimator, verbose=1)
    assert "one by one: callbacks" in capsys.readouterr().out
    reference = Recorder()
    estimator.set_callbacks(reference)
    assert_same_search(found, searched(GridSearchCV, None, estimator))
    assert len(callback.named("epoch")) == (6 * 2 + 1) * N_EPOCHS
    assert (callback.begun, callback.ended) == (reference.begun, reference.ended)


@pytest.mark.long
def test_so_do_those_of_networks_among_the_values_of_the_grid(capsys):
    callback = Recorder()
    networks = [quick(BackpropClassifier, max_iter=N_EPOCHS, alpha=alpha) for alpha in (0.1, 0.2)]
    grid = {"backpropclassifier": [network.set_callbacks(callback) for network in networks]}
    pipeline = make_pipeline(StandardScaler(), NETWORK)
    found = searched(BackpropGridSearchCV, None, pipeline, grid, verbose=1)
    assert "2 of 2 candidates are trained one by one: callbacks follow" in capsys.readouterr().out
    assert len(callback.named("epoch")) == (2 * 2 + 1) * N_EPOCHS
    assert_same_search(found, searched(GridSearchCV, None, pipeline, grid))


@pytest.mark.parametrize("n_jobs", [1, pytest.param(2, marks=pytest.mark.long)])
@pytest.mark.filterwarnings("ignore::UserWarning:joblib")
def test_scikit_learns_progress_bar_shows_the_stacks(n_jobs, capsys):
    searched(BackpropGridSearchCV, ProgressBar(), n_jobs=n_jobs)
    shown = capsys.readouterr().out
    # Two workers have a split each.
    stack = f"stack of {6 // n_jobs}, task #"
    for task in ("fit", "search #0", stack, "refit-with-best-params"):
        assert f"BackpropGridSearchCV - {task}" in shown
