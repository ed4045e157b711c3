"""Callbacks follow a search as they follow scikit-learn's, and do not change results."""

import pytest
from sklearn.base import clone
from sklearn.callback import ProgressBar
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier, BackpropGridSearchCV, BackpropHalvingGridSearchCV
from skbackprop.callbacks import Checkpoint
from support import assert_same_search, bits, class_data, few_epochs, quick

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

X, Y = class_data(41)
N_EPOCHS = 4
NETWORK = quick(BackpropClassifier, max_iter=N_EPOCHS)
GRID = {"learning_rate_init": [0.001, 0.01, 0.1], "hidden_layer_sizes": [(5,), (6,)]}
HALVING = {"resource": "max_iter", "max_resources": N_EPOCHS, "factor": 2}


class CallbackRecorder:
    """Record the tasks that begin and end; the end of the task `error_in` raises an error.

    A task is the names and ids of its parents and its own.
    """

    def __init__(self, error_in=()):
        self.error_in, self.begun, self.ended, self.is_set_up = error_in, [], [], False

    def setup(self, estimator, context):
        self.is_set_up = True

    def teardown(self, estimator, context):
        self.is_set_up = False

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(_path_of(context))

    def on_fit_task_end(self, estimator, context):
        path = _path_of(context)
        self.ended.append(path)
        if self.error_in and path[-len(self.error_in) :] == self.error_in:
            raise ZeroDivisionError("a mistake in a callback")

    def named(self, name):
        """Return the ended tasks with a name."""
        return [path for path in self.ended if path[-1][0] == name]


def _path_of(context):
    parents = () if context.parent is None else _path_of(context.parent)
    return (*parents, (context.task_name, context.task_id))


def fit_search(kind, callback=None, estimator=NETWORK, grid=GRID, **settings):
    """Return a fitted search with a callback."""
    search = kind(estimator, grid, cv=2, scoring=bits, **settings)
    if callback is not None:
        search.set_callbacks(callback)
    return search.fit(X, Y)


@pytest.mark.parametrize(
    "ours, theirs, settings",
    [
        (BackpropGridSearchCV, GridSearchCV, {}),
        (BackpropHalvingGridSearchCV, HalvingGridSearchCV, HALVING),
    ],
)
@pytest.mark.parametrize("n_jobs", [1, 2])
@pytest.mark.filterwarnings("ignore::UserWarning:joblib")  # a slow start of processes
def test_tasks_are_those_of_scikit_learn(ours, theirs, settings, n_jobs, stack_sizes):
    mine, reference = CallbackRecorder(), CallbackRecorder()
    found = fit_search(ours, mine, n_jobs=n_jobs, **settings)
    assert max(stack_sizes) > 1 or n_jobs > 1
    assert_same_search(found, fit_search(theirs, reference, n_jobs=n_jobs, **settings))
    assert (sorted(mine.begun), sorted(mine.ended)) == (
        sorted(reference.begun),
        sorted(reference.ended),
    )


@pytest.mark.parametrize("in_pipeline", [False, True])
def test_progress_bar_counts_the_candidates(in_pipeline, capsys, stack_sizes):
    estimator, grid = NETWORK, GRID
    if in_pipeline:
        estimator = make_pipeline(StandardScaler(), NETWORK)
        grid = {f"backpropclassifier__{name}": values for name, values in GRID.items()}
    fit_search(BackpropGridSearchCV, ProgressBar(), estimator, grid)
    shown = capsys.readouterr().out
    for task in ("fit", "search #0", "refit-with-best-params"):
        assert f"BackpropGridSearchCV - {task}" in shown
    assert max(stack_sizes) > 1


def test_callbacks_of_the_estimator_follow_each_fit():
    found = []
    for kind in (BackpropGridSearchCV, GridSearchCV):
        callback = CallbackRecorder()
        found.append((fit_search(kind, None, clone(NETWORK).set_callbacks(callback)), callback))
    (ours, mine), (theirs, reference) = found
    assert_same_search(ours, theirs)
    assert len(mine.named("epoch")) == (6 * 2 + 1) * N_EPOCHS
    assert (mine.begun, mine.ended) == (reference.begun, reference.ended)


def test_callbacks_of_networks_in_the_grid_follow_each_fit():
    callback = CallbackRecorder()
    networks = [clone(NETWORK).set_params(alpha=alpha) for alpha in (0.1, 0.2)]
    grid = {"backpropclassifier": [networks[0].set_callbacks(callback), networks[1]]}
    pipeline = make_pipeline(StandardScaler(), NETWORK)
    found = fit_search(BackpropGridSearchCV, None, pipeline, grid, refit=False)
    assert len(callback.named("epoch")) == 2 * N_EPOCHS
    assert_same_search(found, fit_search(GridSearchCV, None, pipeline, grid, refit=False))


def test_a_checkpoint_refuses_the_fits_of_a_search(tmp_path):
    model = clone(NETWORK).set_callbacks(Checkpoint(tmp_path / "network.npz"))
    with pytest.raises(ValueError, match="a search fits many networks"):
        GridSearchCV(model, GRID, cv=2, error_score="raise").fit(X, Y)
    assert not list(tmp_path.iterdir())


def test_error_in_a_hook_leaves_the_search_unchanged():
    callback = CallbackRecorder(error_in=(("search", 0),))
    search = BackpropGridSearchCV(NETWORK, GRID, cv=2).set_callbacks(callback)
    before = vars(search).copy()
    with pytest.raises(ZeroDivisionError, match="a mistake in a callback"):
        search.fit(X, Y)
    assert vars(search) == before
    assert not callback.is_set_up
