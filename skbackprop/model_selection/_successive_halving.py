"""Successive halving: a search in rounds, each with fewer candidates and more resources."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from math import ceil, floor, log
from numbers import Integral
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from sklearn.pipeline import Pipeline

from .._sklearn import BaseSuccessiveHalving, _MultimetricScorer, _num_samples
from .._sklearn import _SubsampleMetaSplitter as SubsampleSplitter
from ..utils.arrays import Array
from ._base import BatchedSearchCV, CandidateEvaluator
from ._round_budget import CandidateStates, RoundBudget

N_SAMPLES = "n_samples"


class HalvingSchedule(NamedTuple):
    """The rounds of a search: how many there are to be, and what each gives a candidate."""

    n_required: int
    n_possible: int
    n_resources: list[int]


def halving_schedule(
    n_candidates: int,
    least: float,
    most: int,
    factor: float,
    is_aggressive: bool,
) -> HalvingSchedule:
    """Return the rounds that scikit-learn's halving searches have.

    Parameters
    ----------
    n_candidates : int
        The candidates of the first round.
    least, most : int
        What a round gives a candidate at least, and at most.
    factor : float
        What the resources grow by, and the candidates shrink by.
    is_aggressive : bool
        Whether first rounds with the least are repeated, until few enough candidates are left.
    """
    n_required = 1 + floor(log(n_candidates, factor))
    n_possible = 1 + floor(log(most // least, factor))
    n_rounds = n_required if is_aggressive else min(n_possible, n_required)
    shift = n_required - n_possible if is_aggressive else 0
    powers = [max(0, i - shift) for i in range(n_rounds)]
    return HalvingSchedule(
        n_required, n_possible, [min(int(factor**power * least), most) for power in powers]
    )


def top_k(scores: Array, n: int) -> Array:
    """Return the numbers of the best, the best last, as scikit-learn chooses among equals."""
    ascending = np.roll(np.argsort(scores), np.count_nonzero(np.isnan(scores)))
    return ascending[-n:]


class BatchedSuccessiveHalving(BatchedSearchCV):
    """The strategy of scikit-learn's halving searches, with candidates that go on.

    It goes before one of theirs, which says which candidates there are:
    ``class BackpropHalvingGridSearchCV(HalvingSearch, HalvingGridSearchCV)``.
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseSuccessiveHalving._parameter_constraints,
        "scoring": BatchedSearchCV._parameter_constraints["scoring"],
        "max_stack_bytes": BatchedSearchCV._parameter_constraints["max_stack_bytes"],
    }

    min_resources_: float
    max_resources_: int
    n_resources_: list[int]
    n_candidates_: list[int]
    _complete: dict[str, Any] | None = None  # what the rounds that are over have found

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Train and score candidates in rounds, then the best one on all data.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            The targets.
        **params : dict
            Further arguments of the estimator's `fit` (arrays of n_samples are split along with
            X), such as ``sample_weight``, and ``groups`` for the splitter; with metadata routing,
            whatever its consumers request.

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        ValueError
            If a parameter or the data is not valid, or if every fit of a round failed.
        KeyboardInterrupt
            On Ctrl-C, which leaves what the complete rounds have found, without a
            `best_estimator_`; before the first is complete, the search as it was.
        """
        try:
            return super().fit(X, y, **params)
        finally:
            self.__dict__.pop("_complete", None)

    def _left_by(self, error: BaseException, before: dict[str, Any]) -> dict[str, Any]:
        if self._complete is None or not isinstance(error, KeyboardInterrupt):
            return before
        not_fitted = {k: v for k, v in before.items() if k.startswith("_") or not k.endswith("_")}
        return not_fitted | self._complete

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "best_estimator_" if self.refit else "cv_results_")

    # ------------------------------------------------------------------ what is halved

    @property
    def _resource(self) -> str:
        """The resource by its full name: that of a pipeline's network may do without the step's."""
        name, estimator = self.resource, self.estimator
        known = estimator.get_params()
        if name != N_SAMPLES and name not in known and isinstance(estimator, Pipeline):
            of_network = f"{estimator.steps[-1][0]}__{name}"
            return of_network if of_network in known else name
        return name

    def _check_input_parameters(self, X: Any, y: Any, split_params: dict[str, Any]) -> None:
        """Check as scikit-learn does, by the full name; "auto" is what the estimator has."""
        named, resource = copy.copy(self), self._resource
        named.resource = resource
        if self.max_resources == "auto" and resource != N_SAMPLES:
            own = self.estimator.get_params().get(resource)
            if isinstance(own, Integral) and int(own) > 0:
                named.max_resources = int(own)
        super(BatchedSuccessiveHalving, named)._check_input_parameters(
            X=X, y=y, split_params=split_params
        )
        self.min_resources_, self.max_resources_ = named.min_resources_, named.max_resources_
        self._n_samples_orig = _num_samples(X)

    def _check_refit_for_multimetric(self, scores: Any) -> None:
        if not isinstance(self.refit, str) or self.refit not in scores:
            raise ValueError(
                f"refit={self.refit!r}: with several metrics, refit has to name the one by which "
                f"candidates go on to the next round. Choose one of {sorted(scores)}."
            )

    # ----------------------------------------------------------------------- the rounds

    def _run_search(self, evaluate_candidates: Any, *, callback_ctx: Any) -> None:
        candidates = self._candidates()
        rounds = self._rounds(len(candidates))
        context = callback_ctx.subcontext(
            task_name="search", max_subtasks=len(rounds.n_resources)
        ).call_on_fit_task_begin(estimator=self)
        self.n_resources_, self.n_candidates_ = [], []
        reached = CandidateStates()
        for i, n_resources in enumerate(rounds.n_resources):
            n = len(candidates)
            self._begin_round(i, n, n_resources)
            cv, candidates = self._given(candidates, n_resources)
            of_round = context.subcontext(
                task_name="halving-iteration",
                max_subtasks=n * self.n_splits_,
                sequential_subtasks=False,
            ).call_on_fit_task_begin(estimator=self)
            results = evaluate_candidates(
                candidates,
                cv,
                more_results={"iter": [i] * n, "n_resources": [n_resources] * n},
                callback_ctx=of_round,
                **self._legs(evaluate_candidates, rounds, i, reached),
            )
            best = top_k(self._decisive(results)[-n:], ceil(n / self.factor)).tolist()
            candidates = [candidates[j] for j in best]
            if isinstance(evaluate_candidates, CandidateEvaluator):
                reached = evaluate_candidates.reached_by(best)
            of_round.call_on_fit_task_end(estimator=self)
            self._complete = self._found(results, rounds, len(candidates))
        self.n_remaining_candidates_ = len(candidates)
        self.n_required_iterations_, self.n_possible_iterations_, _ = rounds
        self.n_iterations_ = len(rounds.n_resources)
        context.call_on_fit_task_end(estimator=self)

    def _candidates(self) -> list[dict[str, Any]]:
        """Return those of the first round; the two passes draw what scikit-learn's draw."""
        candidates = self._generate_candidate_params()
        resource = self._resource
        if resource != N_SAMPLES and any(resource in each for each in candidates):
            raise ValueError(
                f"Cannot use parameter {resource} as the resource since it is part of the "
                "searched parameters."
            )
        return list(candidates)

    def _least(self, n_candidates: int) -> float:
        """Return what the first round gives each of so many candidates; "exhaust" raises it."""
        if self.min_resources != "exhaust":
            return self.min_resources_
        last = floor(log(n_candidates, self.factor))
        return max(self.min_resources_, self.max_resources_ // self.factor**last)

    def _rounds(self, n_candidates: int) -> HalvingSchedule:
        """Return the rounds, and say so."""
        factor, is_aggressive = self.factor, self.aggressive_elimination
        self.min_resources_ = self._least(n_candidates)
        rounds = halving_schedule(
            n_candidates, self.min_resources_, self.max_resources_, factor, is_aggressive
        )
        if self.verbose:
            print(f"n_iterations: {len(rounds.n_resources)}")
            print(f"n_required_iterations: {rounds.n_required}")
            print(f"n_possible_iterations: {rounds.n_possible}")
            print(f"min_resources_: {self.min_resources_}")
            print(f"max_resources_: {self.max_resources_}")
            print(f"aggressive_elimination: {is_aggressive}")
            print(f"factor: {factor}")
        return rounds

    def _begin_round(self, i: int, n_candidates: int, n_resources: int) -> None:
        self.n_resources_.append(n_resources)
        self.n_candidates_.append(n_candidates)
        if self.verbose:
            print("-" * 10)
            print(f"iter: {i}")
            print(f"n_candidates: {n_candidates}")
            print(f"n_resources: {n_resources}")

    def _given(
        self, candidates: Sequence[dict[str, Any]], n_resources: int
    ) -> tuple[Any, list[dict[str, Any]]]:
        """Return the splitter and the candidates of a round, with what it gives them."""
        if self.resource != N_SAMPLES:
            resource = self._resource
            return self._checked_cv_orig, [each | {resource: n_resources} for each in candidates]
        splitter = SubsampleSplitter(
            base_cv=self._checked_cv_orig,
            fraction=n_resources / self._n_samples_orig,
            subsample_test=True,
            random_state=self.random_state,
        )
        return splitter, list(candidates)

    def _legs(
        self, evaluate_candidates: Any, rounds: HalvingSchedule, i: int, reached: CandidateStates
    ) -> dict[str, Any]:
        """Return what lets candidates go on, where it is ours that evaluates them."""
        if self.resource == N_SAMPLES or not isinstance(evaluate_candidates, CandidateEvaluator):
            return {}
        n_resources = rounds.n_resources
        is_last = i == len(n_resources) - 1
        return {
            "legs": RoundBudget(self._resource, n_resources[i], n_resources[-1], is_last, reached)
        }

    # ------------------------------------------------------------------------ what is found

    def _decisive(self, results: dict[str, Any]) -> Array:
        """Return the scores by which candidates go on."""
        by_name = f"mean_test_{self.refit}"
        if isinstance(self.refit, str) and by_name in results:
            return results[by_name]
        if "mean_test_score" not in results:  # a callable has returned several
            self._check_refit_for_multimetric(list(_metrics(results)))
        return results["mean_test_score"]

    @staticmethod
    def _select_best_index(refit: Any, refit_metric: str, results: dict[str, Any]) -> int:
        """Return the row of the best candidate of the last round."""
        last = np.flatnonzero(results["iter"] == np.max(results["iter"]))
        scores = results[f"mean_test_{refit_metric}"][last]
        return last[0 if np.isnan(scores).all() else np.nanargmax(scores)]

    def _keep_best(self, refit_metric: Any) -> None:
        super()._keep_best(refit_metric)
        self.best_score_ = self.cv_results_[f"mean_test_{refit_metric}"][self.best_index_]

    def _found(
        self, results: dict[str, Any], rounds: HalvingSchedule, n_remaining: int
    ) -> dict[str, Any]:
        """Return the attributes of a search that ends with this round, before the last fit."""
        by_name = isinstance(self.refit, str) and f"mean_test_{self.refit}" in results
        best = self._select_best_index(self.refit, self.refit if by_name else "score", results)
        scorers, _ = self._get_scorers()
        is_several = isinstance(scorers, _MultimetricScorer)
        return {
            "cv_results_": results,
            "best_index_": best,
            "best_params_": results["params"][best],
            "best_score_": self._decisive(results)[best],
            "multimetric_": "mean_test_score" not in results or len(list(_metrics(results))) > 1,
            "scorer_": scorers._scorers if is_several else scorers,
            "n_splits_": self.n_splits_,
            "min_resources_": self.min_resources_,
            "max_resources_": self.max_resources_,
            "n_resources_": [*self.n_resources_],
            "n_candidates_": [*self.n_candidates_],
            "n_remaining_candidates_": n_remaining,
            "n_required_iterations_": rounds.n_required,
            "n_possible_iterations_": rounds.n_possible,
            "n_iterations_": len(self.n_resources_),
        }


def _metrics(results: dict[str, Any]) -> Iterator[str]:
    """Yield the names of the metrics that there are scores of."""
    for column in results:
        if column.startswith("mean_test_"):
            yield column.removeprefix("mean_test_")
