"""Successive halving over as many drawn candidates as a time limit allows for."""

from __future__ import annotations

import copy
from math import ceil
from numbers import Real
from typing import Any, ClassVar

from sklearn.model_selection import ParameterGrid

from .._sklearn import Interval
from . import _cost_model
from ._base import CandidateEvaluator
from ._cost_model import Work, measured_cost, n_affordable_candidates
from ._successive_halving import N_SAMPLES, BatchedSuccessiveHalving, halving_schedule


class TimeLimitedHalvingSearch(BatchedSuccessiveHalving):
    """A search in rounds that draws its candidates: so many, or as many as there is time for.

    A few candidates are tried first. What that says of the cost of a round, for so many candidates
    and so many epochs, is solved for the number of the first round; all else is as if the user had
    given this number.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BatchedSuccessiveHalving._parameter_constraints,
        "time_limit": [Interval(Real, 0, None, closed="neither"), None],
    }

    time_limit: float | None
    n_candidates: Any
    param_distributions: Any

    @property
    def _is_exhaustive(self) -> bool:
        return self.time_limit is not None or super()._is_exhaustive

    def _check_input_parameters(self, X: Any, y: Any, split_params: dict[str, Any]) -> None:
        if self.time_limit is not None and self.n_candidates != "exhaust":
            raise ValueError(
                f"n_candidates={self.n_candidates!r} and time_limit={self.time_limit!r} both say "
                'how many candidates there are to be. Leave n_candidates at "exhaust", or '
                "time_limit at None."
            )
        super()._check_input_parameters(X, y, split_params)

    def _candidates(self, evaluate_candidates: Any) -> list[dict[str, Any]]:
        if self.time_limit is None:
            return super()._candidates(evaluate_candidates)
        start = _cost_model.clock()
        if not isinstance(evaluate_candidates, CandidateEvaluator):
            raise ValueError(
                f"time_limit={self.time_limit!r} needs to try a few candidates first, which the "
                "callbacks of the estimator would follow. Set them on the search, by its "
                "set_callbacks, or give n_candidates."
            )
        n = self._n_that_fit(evaluate_candidates, start)
        if self.verbose:
            print(f"n_candidates for time_limit={self.time_limit}: {n}")
        return self._drawn(n, evaluate_candidates)

    def _n_that_fit(self, evaluated: CandidateEvaluator, start: float) -> int:
        """Return the number of candidates for which the rounds end in time."""
        limit = float(self.time_limit or 0)
        fewest, trials = ceil(self.factor), copy.copy(self)
        trials.random_state = copy.deepcopy(self.random_state)  # the draws are to come again

        def seconds_for(work: Work) -> float:
            n, n_resources = work
            cv, candidates = self._given(trials._drawn(n, evaluated), n_resources)
            return evaluated.seconds_for(candidates, cv)

        least, most = ceil(self.min_resources_), self.max_resources_
        cost = measured_cost(seconds_for, fewest, least, most, limit)
        # The last fit, to all data, is alone, and its rows are about those of all splits but one.
        n_splits = max(1, self.n_splits_ - 1)
        last_fit = cost.of_resource + cost.of_both / n_splits
        limit -= _cost_model.clock() - start
        limit -= most * last_fit if self.refit else 0.0
        return n_affordable_candidates(limit, cost, self._work, self.factor, self._n_in_all)

    def _work(self, n_candidates: int) -> list[Work]:
        """Return the candidates of each round, and what each of them is given more in it."""
        rounds = halving_schedule(
            n_candidates,
            self._least(n_candidates),
            self.max_resources_,
            self.factor,
            self.aggressive_elimination,
        )
        work, before = [], 0
        for n_resources in rounds.n_resources:
            work.append((n_candidates, n_resources - before))
            before = n_resources if self._resource_goes_on else 0
            n_candidates = ceil(n_candidates / self.factor)
        return work

    @property
    def _resource_goes_on(self) -> bool:
        return self.resource != N_SAMPLES and self._resource.endswith("max_iter")

    @property
    def _n_in_all(self) -> int | None:
        """The number of candidates that there are, if they are drawn from lists alone."""
        given = self.param_distributions
        spaces = [given] if isinstance(given, dict) else given
        has_any = any(hasattr(value, "rvs") for space in spaces for value in space.values())
        return None if has_any else len(ParameterGrid(spaces))

    def _drawn(self, n: int, evaluate_candidates: Any) -> list[dict[str, Any]]:
        """Draw so many candidates, or as many as there are."""
        named, in_all = copy.copy(self), self._n_in_all
        named.n_candidates = n if in_all is None else min(n, in_all)
        return BatchedSuccessiveHalving._candidates(named, evaluate_candidates)
