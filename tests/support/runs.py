"""Runs of estimators that are about to be fitted, for the tests of how they train.

Those of one call differ in what the members of a stack may differ in.
"""

from dataclasses import replace

from skbackprop.estimators._fit_context import FitArguments
from skbackprop.estimators.base import make_fit_context
from skbackprop.training.loop import TrainingLoop
from support import data_for, same_values

N_ROWS = 60
SHARED = {"hidden_layer_sizes": (6, 5), "batch_size": 25, "max_iter": 12, "random_state": 3}


def runs_of(estimator_class, differences, settings=None, is_shared=True):
    """Return the run of an estimator for each set of changes, all on one table if `is_shared`."""
    data, runs = data_for(estimator_class, N_ROWS), []
    for changes in differences:
        estimator = estimator_class(**SHARED | (settings or {}) | changes)
        runs += make_fit_context(estimator, FitArguments(*data)).runs
    if is_shared:
        for run in runs:
            run.table = runs[0].table
            run.task = replace(run.task, table=run.table)
    return runs


def finished(stack):
    """Train a stack to its end."""
    while stack.runs:
        stack.train_epoch()


def train_runs(runs):
    """Train runs to their end; return the interrupt, if there was one."""
    return TrainingLoop(runs).train()


def assert_same_run(run, expected, what=""):
    """Assert that two runs came to the same in all that the estimator keeps of them."""
    assert run.n_samples_seen == expected.n_samples_seen, what
    for histories in zip(run.history.copy(), expected.history.copy(), strict=True):
        assert same_values(*histories), what
    assert run.warnings == expected.warnings, what
    assert str(run.error) == str(expected.error), what
    for got, value in zip(
        (run.inference_parameters.theta, run.inference_parameters.statistics),
        (expected.inference_parameters.theta, expected.inference_parameters.statistics),
        strict=True,
    ):
        assert same_values(got, value), f"kept {what}"
    assert same_values(run.warm_start_checkpoint, expected.warm_start_checkpoint), f"past {what}"
