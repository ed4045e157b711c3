"""Searches with any strategy train in stacks, with scikit-learn's results.

A strategy is the `_run_search` of a search, which evaluates candidates once or several times. The
oracle is the same strategy on scikit-learn's search. Scores do not show whether candidates train in
stacks, so the networks in each epoch of a stack are counted.
"""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, KFold, RandomizedSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import (
    BackpropAutoencoder,
    BackpropClassifier,
    BackpropGridSearchCV,
    BackpropRandomizedSearchCV,
    BackpropRegressor,
)
from skbackprop.activations import LeakyRelu
from skbackprop.initializers import VarianceScaling
from skbackprop.layers import BatchNormalization
from skbackprop.losses import Focal
from skbackprop.optimizers import SGD, AdamW
from skbackprop.schedules import LinearWarmup
from skbackprop.weight_averaging import ExponentialMovingAverage, PolyakAverage
from support import assert_same_search, bits, class_data, few_epochs, outcome, quick, value_data

pytestmark = few_epochs

N, N_EPOCHS = 41, 5  # of each network
X, Y = class_data(N)
NETWORK = quick(BackpropClassifier, max_iter=N_EPOCHS, n_iter_no_change=np.inf)
SCALED = make_pipeline(StandardScaler(), NETWORK)
LAST = "backpropclassifier__"
RATES = {"learning_rate_init": [0.001, 0.01, 0.1], "alpha": [0.0, 0.3]}


# ----------------------------------------------------------------------------- stacks


class Derived(BackpropClassifier):
    """A subclass that trains like its base class."""

    def predict(self, X):
        return super().predict(X)


@pytest.mark.parametrize("in_pipeline", [False, True])
@pytest.mark.parametrize(
    "kind", [BackpropClassifier, BackpropRegressor, BackpropAutoencoder, Derived]
)
def test_candidates_of_one_architecture_train_as_one_stack(kind, in_pipeline, stack_sizes):
    """Twelve networks: six candidates on two splits."""
    y = {BackpropRegressor: value_data(N)[1], BackpropAutoencoder: None}.get(kind, Y)
    estimator = quick(kind, max_iter=N_EPOCHS, n_iter_no_change=np.inf)
    grid = RATES
    if in_pipeline:
        estimator = make_pipeline(StandardScaler(), estimator)
        grid = {f"{kind.__name__.lower()}__{name}": values for name, values in RATES.items()}
    BackpropGridSearchCV(estimator, grid, cv=2).fit(X, y)
    assert (
        stack_sizes == [12] * N_EPOCHS + [1] * N_EPOCHS
    )  # the last are the best one's, on all data


@pytest.mark.long
@pytest.mark.parametrize("in_pipeline", [False, True])
@pytest.mark.parametrize(
    "grid, n_stacks",
    [
        ({"solver__weight_decay": [0.0, 0.1, 1.0], "solver__beta_1": [0.5, 0.9]}, 1),
        (
            {
                "learning_rate__schedule__final_factor": [0.1, 0.2, 0.3],
                "solver__epsilon": [1e-8, 1e-3],
            },
            1,
        ),
        ({"average__decay": [0.5, 0.6, 0.7], "alpha": [0.0, 0.3]}, 1),
        ({"average": [None, "polyak", PolyakAverage(50)], "solver__beta_2": [0.9, 0.99]}, 2),
        ({"activation__negative_slope": [0.1, 0.2], "alpha": [0.0, 0.3, 0.5]}, 2),
        ({"loss__gamma": [1.0, 2.0], "solver__beta_1": [0.5, 0.7, 0.9]}, 2),
        ({"solver": [SGD(), SGD(0.5), SGD(0.0, False)], "solver__momentum": [0.6, 0.7]}, 2),
        ({"normalization__momentum": [0.5, 0.9], "init__scale": [1.0, 2.0, 3.0]}, 2),
    ],
    ids=lambda value: " and ".join(value) if isinstance(value, dict) else "",
)
@pytest.mark.usefixtures("one_blas_thread")
def test_candidates_with_different_settings_train_in_stacks(
    grid, n_stacks, in_pipeline, stack_sizes
):
    """Settings of steps and initial weights may differ within a stack, others not."""
    estimator = clone(NETWORK).set_params(
        solver=AdamW(),
        learning_rate=LinearWarmup("cosine"),
        average=ExponentialMovingAverage(),
        activation=LeakyRelu(),
        loss=Focal(),
        normalization=BatchNormalization(),
        init=VarianceScaling(),
    )
    if in_pipeline:
        estimator = make_pipeline(StandardScaler(), estimator)
        grid = {f"{LAST}{name}": values for name, values in grid.items()}
    ours = BackpropGridSearchCV(estimator, grid, cv=2).fit(X, Y)
    assert len(stack_sizes) == (n_stacks + 1) * N_EPOCHS  # the last are the best one's, on all data
    assert sum(stack_sizes) == (12 + 1) * N_EPOCHS
    assert_same_search(ours, GridSearchCV(estimator, grid, cv=2).fit(X, Y))


# --------------------------------------------------------------- user-defined strategies


class Nearby:
    """Try three rates, then the best one with more penalties on other splits."""

    def _run_search(self, evaluate_candidates):
        name = "learning_rate_init" if self.estimator is NETWORK else f"{LAST}learning_rate_init"
        rates = [{name: rate} for rate in (0.001, 0.01, 0.1)]
        found = evaluate_candidates(rates, more_results={"round": [1, 1, 1]})
        rank = next(found[column] for column in found if column.startswith("rank_test"))
        best = found["params"][np.argmin(rank)]
        penalty = name.replace("learning_rate_init", "alpha")
        penalties = [best | {penalty: alpha} for alpha in (0.0, 0.1, 1.0, -1.0)]
        splits = KFold(self.n_splits_, shuffle=True, random_state=1)
        evaluate_candidates(iter(penalties), splits, more_results={"round": [2, 2, 2, 2]})


class WithContext:
    """Pass on the callback context, as scikit-learn's strategies do."""

    def _run_search(self, evaluate_candidates, *, callback_ctx):
        context = callback_ctx.subcontext(
            task_name="nearby", max_subtasks=6, sequential_subtasks=False
        ).call_on_fit_task_begin(estimator=self)
        evaluate_candidates([{"alpha": 0.1}, {"alpha": 0.2}], callback_ctx=context)
        context.call_on_fit_task_end(estimator=self)


def both_outcomes(strategy, parents, *arguments, **settings):
    """Return the outcomes of a strategy on our search and on scikit-learn's."""
    settings = {"cv": 3, "scoring": bits, "return_train_score": True, **settings}
    return [
        outcome(type("Search", (strategy, parent), {})(*arguments, **settings), X, Y)
        for parent in parents
    ]


@pytest.mark.long
@pytest.mark.parametrize(
    "parents",
    [(BackpropGridSearchCV, GridSearchCV), (BackpropRandomizedSearchCV, RandomizedSearchCV)],
    ids=["grid", "random"],
)
@pytest.mark.parametrize("scoring", [bits, ["accuracy", "neg_log_loss"]])
@pytest.mark.parametrize("estimator", [NETWORK, SCALED], ids=["network", "pipeline"])
def test_strategy_may_evaluate_candidates_twice(estimator, scoring, parents, stack_sizes):
    refit = scoring is bits or "accuracy"
    actual, expected = both_outcomes(Nearby, parents, estimator, {}, scoring=scoring, refit=refit)
    assert_same_search(actual[0], expected[0])
    assert actual[1] == expected[1]  # of the candidate with a penalty below zero
    assert actual[0].cv_results_["round"].tolist() == [1, 1, 1, 2, 2, 2, 2]
    assert stack_sizes[: 2 * N_EPOCHS] == [9] * (
        2 * N_EPOCHS
    )  # three good ones a round, three splits


def test_strategy_may_pass_on_its_callback_context(stack_sizes):
    parents = BackpropGridSearchCV, GridSearchCV
    actual, expected = both_outcomes(WithContext, parents, NETWORK, {})
    assert_same_search(actual[0], expected[0])
    assert stack_sizes[:N_EPOCHS] == [6] * N_EPOCHS
