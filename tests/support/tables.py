"""Tabular estimators in tests: data, predictions and the inputs of their components."""

import pytest

from skbackprop import TabularClassifier, TabularRegressor
from skbackprop.tabular._dataframe import read_table

BOTH = pytest.mark.parametrize("kind", [TabularClassifier, TabularRegressor])


def predict(model, X):
    """Return the probabilities of a classifier, or the predictions of a regressor."""
    return model.predict_proba(X) if hasattr(model, "predict_proba") else model.predict(X)


def component_inputs(model, X):
    """Return the input of each component of a tabular estimator for the rows of X."""
    rows = model._features.rows(read_table(model, X, reset=False))
    return [model._features.transform(rows, each.view) for each in model._components]


class TaskRecorder:
    """Callback that records the tasks that begin and end."""

    max_propagation_depth = None

    def __init__(self):
        self.hooks = []

    def setup(self, estimator, context):
        self.hooks.append(("setup", context.task_name))

    def teardown(self, estimator, context):
        self.hooks.append(("teardown", context.task_name))

    def on_fit_task_begin(self, estimator, context):
        self.hooks.append(("begin", context.task_name))

    def on_fit_task_end(self, estimator, context):
        self.hooks.append(("end", context.task_name))
