"""Does a time limit choose the number of candidates that was reckoned, and nothing else?

The clock is a made-up one: work takes what a formula says. The oracle of the number is a count
through all numbers, that of the search the same search with this number given.
"""

import itertools
import re

import numpy as np
import pytest
from scipy.stats import loguniform
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skbackprop import BackpropClassifier, BackpropHalvingRandomSearchCV
from skbackprop.model_selection import _cost_model
from skbackprop.model_selection._base import CandidateEvaluator
from skbackprop.model_selection._cost_model import (
    CostModel,
    fit_cost_model,
    measured_cost,
    n_affordable_candidates,
)
from skbackprop.model_selection._successive_halving import halving_schedule
from support import assert_same_search, class_data, few_epochs, quick

pytestmark = [few_epochs, pytest.mark.usefixtures("one_blas_thread")]

X, Y = class_data(41)
DRAWN = {"alpha": loguniform(1e-4, 1.0), "learning_rate_init": loguniform(1e-3, 1e-1)}
SETTINGS = {"cv": 2, "random_state": 0, "return_train_score": False}
NETWORK = quick(BackpropClassifier, max_iter=9)
A_SECOND_EACH = CostModel(0.0, 0.0, 0.0, 1.0)  # each epoch of each candidate


@pytest.fixture
def costs(monkeypatch):
    """Let work take what a `Cost` says, and all else no time."""
    now, tried = [0.0], []

    def use(cost):
        def seconds_for(self, candidates, cv=None):
            work = len(candidates), next(iter(candidates))["max_iter"]
            tried.append(work)
            now[0] += cost.seconds(work)
            return cost.seconds(work)

        monkeypatch.setattr(CandidateEvaluator, "seconds_for", seconds_for)
        monkeypatch.setattr(_cost_model, "clock", lambda: now[0])
        return tried

    return use


def searched(limit, estimator=NETWORK, drawn=DRAWN, **settings):
    settings = SETTINGS | {"time_limit": limit} | settings
    return BackpropHalvingRandomSearchCV(estimator, drawn, **settings).fit(X, Y)


# ----------------------------------------------------------------------------- the reckoning


@pytest.mark.parametrize(
    "cost",
    [
        CostModel(0.5, 0.1, 0.02, 0.003),
        CostModel(0.0, 0.3, 0.0, 0.1),
        CostModel(2.0, 0.25, 0.5, 0.0),
    ],
)
def test_a_cost_is_found_again_from_what_work_takes(cost):
    found = measured_cost(cost.seconds, fewest=3, least=2, most=200, limit=1e6)
    assert np.allclose(found, cost, atol=1e-9)


def test_one_measurement_is_shared_out_among_the_candidates():
    assert fit_cost_model([((3, 2), 12.0)]) == CostModel(0.0, 0.0, 0.0, 2.0)
    assert measured_cost(A_SECOND_EACH.seconds, 3, 2, 200, limit=1.0) == A_SECOND_EACH


def test_trials_take_no_more_than_a_tenth_once_that_is_gone():
    spent = []

    def seconds_for(work):
        spent.append(A_SECOND_EACH.seconds(work))
        return spent[-1]

    measured_cost(seconds_for, fewest=3, least=1, most=200, limit=100.0)
    assert sum(spent[:-1]) <= 10.0 < sum(spent)


def test_a_clock_that_stands_still_leaves_a_cost_above_zero():
    assert fit_cost_model([((3, 1), 0.0), ((12, 1), 0.0)]).of_candidate > 0


def rounds(least, most, factor):
    def work(n):
        n_resources = halving_schedule(n, least, most, factor, False).n_resources
        each = np.diff(n_resources, prepend=0).tolist()
        return [(int(np.ceil(n / factor**i)), k) for i, k in enumerate(each)]

    return work


@pytest.mark.parametrize("factor", [2, 3, 3.5])
@pytest.mark.parametrize("seconds", [0.0, 30.0, 100.0, 1000.0])
def test_number_is_the_largest_that_fits(factor, seconds):
    work = rounds(1, 81, factor)
    fitting = [
        n
        for n in range(int(np.ceil(factor)), 2000)
        if sum(map(A_SECOND_EACH.seconds, work(n))) <= seconds
    ]
    found = n_affordable_candidates(seconds, A_SECOND_EACH, work, factor, None)
    assert found == max(fitting, default=int(np.ceil(factor)))
    assert n_affordable_candidates(seconds, A_SECOND_EACH, work, factor, 5) == min(found, 5)


# -------------------------------------------------------------------------------- the search


@pytest.mark.parametrize("limit", [1, 60, 100, 400])
@pytest.mark.parametrize(
    "settings", [{}, {"min_resources": 3}, {"factor": 2, "refit": False}], ids=str
)
def test_all_but_the_number_is_as_if_that_were_given(limit, settings, costs):
    costs(A_SECOND_EACH)
    limited = searched(limit, **settings)
    n = limited.n_candidates_[0]
    given = settings | {"min_resources": "exhaust"} if "min_resources" not in settings else settings
    same = searched(None, n_candidates=n, **given)
    assert limited.n_candidates_ == same.n_candidates_
    assert limited.n_resources_ == same.n_resources_
    assert_same_search(limited, same)


def test_more_time_is_for_more_candidates_and_the_last_round_for_all_epochs(costs):
    costs(A_SECOND_EACH)
    found = [searched(limit, refit=False) for limit in (1, 100, 200, 400)]
    numbers = [search.n_candidates_[0] for search in found]
    assert numbers[0] == 3 and all(a < b for a, b in itertools.pairwise(numbers))
    assert all(search.n_resources_[-1] == 9 for search in found)


def test_who_draws_again_draws_the_same(costs):
    costs(A_SECOND_EACH)
    limited = searched(100, random_state=np.random.RandomState(3))
    n = limited.n_candidates_[0]
    same = searched(
        None, n_candidates=n, min_resources="exhaust", random_state=np.random.RandomState(3)
    )
    assert_same_search(limited, same)


def test_no_more_are_drawn_than_there_are(costs):
    costs(A_SECOND_EACH)
    assert searched(1e4, drawn={"alpha": [0.0, 0.1, 0.2, 0.3]}).n_candidates_[0] == 4
    assert searched(1e4, drawn={"alpha": [0.0, 0.1]}).n_candidates_[0] == 2


def test_trials_leave_nothing_behind(costs):
    tried = costs(CostModel(0.0, 0.1, 0.0, 0.0))
    search = searched(30)
    assert len(tried) > 1
    assert len(search.cv_results_["params"]) == sum(search.n_candidates_)


def test_number_is_printed(costs, capsys):
    costs(A_SECOND_EACH)
    search = searched(100, verbose=1)
    said = capsys.readouterr().out
    assert f"n_candidates for time_limit=100: {search.n_candidates_[0]}\n" in said


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_with_the_real_clock(n_jobs):
    """What it takes depends on the machine; that it ends, with a winner, does not."""
    pipeline = make_pipeline(StandardScaler(), clone(NETWORK))
    drawn = {f"backpropclassifier__{name}": values for name, values in DRAWN.items()}
    search = searched(0.2, pipeline, drawn, n_jobs=n_jobs)
    assert search.n_candidates_[0] >= 3 and search.n_resources_[-1] == 9
    assert search.best_estimator_.score(X, Y) > 0


def test_other_resources_and_estimators_have_a_limit_too():
    other = searched(0.01, LogisticRegression(), {"C": loguniform(0.1, 10)}, resource="n_samples")
    assert other.n_candidates_[0] >= 3


@pytest.mark.parametrize("limit", [0, -1.0, "1 s"])
def test_a_limit_is_a_number_of_seconds(limit):
    with pytest.raises(ValueError, match="time_limit"):
        searched(limit)


def test_one_of_two_numbers_has_to_go():
    with pytest.raises(ValueError, match="n_candidates=9 and time_limit=1"):
        searched(1, n_candidates=9)


class Following:
    """A callback of the network, which follows each fit."""

    def setup(self, estimator, context):
        pass

    teardown = on_fit_task_begin = on_fit_task_end = setup


def test_callbacks_of_the_network_would_follow_the_trials():
    followed = clone(NETWORK).set_callbacks(Following())
    with pytest.raises(ValueError, match=re.escape("Set them on the search")):
        searched(1, followed)
