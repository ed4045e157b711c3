"""A small search of each kind, a callback that records tasks, and interrupts of searches."""

import itertools

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
from skbackprop.nn.stack_trainer import StackTrainer

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
    """Record the tasks of a search that begin and end, and the data that hooks get.

    A task is the names and ids of its parents and its own; the name of each stack is "stack". The
    end of the task `stop_in` (its last names and ids) stops it, that of `error_in` raises an error.
    """

    def __init__(self, stop_in=(), error_in=()):
        self.stop_in, self.error_in = stop_in, error_in
        self.begun, self.ended, self.data, self.is_set_up = [], [], [], False

    def setup(self, estimator, context):
        self.is_set_up = True

    def teardown(self, estimator, context):
        self.is_set_up = False

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(_path_of(context))

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None):
        path = _path_of(context)
        self.ended.append(path)
        self.data.append((path[-1][0], X, y, metadata))
        if self.error_in and path[-len(self.error_in) :] == self.error_in:
            raise ZeroDivisionError("a mistake in a callback")
        return bool(self.stop_in) and path[-len(self.stop_in) :] == self.stop_in

    def named(self, name):
        """Return the ended tasks with a name."""
        return [path for path in self.ended if path[-1][0] == name]


def _path_of(context):
    name = "stack" if context.task_name.startswith("stack of ") else context.task_name
    parents = () if context.parent is None else _path_of(context.parent)
    return (*parents, (name, context.task_id))


def interrupt_in_epoch(monkeypatch, number):
    """Raise KeyboardInterrupt in the epoch of this number, counted over all stacks."""
    run_epoch, epochs = StackTrainer.run_epoch, itertools.count(1)

    def run_or_interrupt(stack, rate):
        if next(epochs) == number:
            raise KeyboardInterrupt
        return run_epoch(stack, rate)

    monkeypatch.setattr(StackTrainer, "run_epoch", run_or_interrupt)
