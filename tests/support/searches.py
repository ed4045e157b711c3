"""A small search of each kind, and a callback that records tasks."""

import numpy as np
from scipy.stats import loguniform
from sklearn.model_selection import GridSearchCV

from skbackprop import (
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropHalvingGridSearchCV,
    BackpropHalvingRandomSearchCV,
    BackpropRandomizedSearchCV,
)

_GRID = {
    "alpha": [0.01, 1.0],
    "learning_rate_init": [0.01, 0.1],
    "hidden_layer_sizes": [(4,), (6,)],
}
_DRAWN = {"alpha": loguniform(1e-4, 1.0)}
_NETWORK = BackpropClassifier((5,), max_iter=8, n_iter_no_change=np.inf, random_state=0)

SEARCHES = {
    "grid": BackpropGridSearchCV(_NETWORK, _GRID, cv=3),
    "random": BackpropRandomizedSearchCV(_NETWORK, _DRAWN, n_iter=4, cv=3, random_state=0),
    "halving": BackpropHalvingGridSearchCV(_NETWORK, _GRID, cv=3),
    "random halving": BackpropHalvingRandomSearchCV(_NETWORK, _DRAWN, cv=3, random_state=0),
    "scikit-learn's": GridSearchCV(_NETWORK, {"alpha": [0.1, 1.0]}, cv=3),
}


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
