"""scikit-learn's search, but for the evaluation of its candidates: they train as stacks.

Which candidates there are is a strategy's business, here as there: its `_run_search` is given
`evaluate_candidates`, which it calls once or several times.
"""

from __future__ import annotations

import time
import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from inspect import signature
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import check_cv
from sklearn.utils import indexable
from sklearn.utils.parallel import Parallel

from .._sklearn import (
    BaseSearchCV,
    Interval,
    _check_method_params,
    _insert_error_scores,
    _MultimetricScorer,
    _warn_or_raise_about_fit_failures,
)
from ..estimators._decorators import checks_parameters
from ..estimators._mixins import HTMLReprMixin, suggesting_scorers, with_positive_class
from ._callback_contexts import SearchCallbackContexts
from ._candidates import EvaluationConfig, Split
from ._evaluate import evaluate
from ._jobs import Result
from ._round_budget import CandidateStates, RoundBudget


class BatchedSearchCV(HTMLReprMixin, BaseSearchCV):
    """A search without a strategy: what scikit-learn's `BaseSearchCV` is, with stacks.

    It stands where `BaseSearchCV` does, so a strategy goes before it, and its own `fit` is kept:
    ``class BackpropGridSearchCV(GridSearchCV, StackedSearch)``.
    """

    max_stack_bytes: int = 2**28

    best_estimator_: Any
    best_index_: int
    best_params_: dict[str, Any]
    best_score_: float
    cv_results_: dict[str, Any]
    n_splits_: int
    refit_time_: float
    scorer_: Any

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseSearchCV._parameter_constraints,
        "max_stack_bytes": [Interval(Integral, 1, None, closed="left")],
    }

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Train and score all candidates on all splits, then the best one on all data.

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
            If a parameter or the data is not valid, or if every fit failed.
        """
        before = dict(self.__dict__)
        try:
            self._labels = _labels_of(self.estimator, y)  # for `_get_scorers`
            if self._candidates_have_callbacks():
                if self.verbose:
                    print("All candidates are trained one by one, as callbacks follow each fit.")
                return BaseSearchCV.fit(self, X, y, **params)
            return self._fit(X, y, params)
        except BaseException as error:
            self.__dict__ = self._left_by(error, before)
            raise
        finally:
            self.__dict__.pop("_labels", None)

    def _left_by(self, error: BaseException, before: dict[str, Any]) -> dict[str, Any]:
        """Return the attributes that an error leaves, of those that there were before."""
        return before

    def _get_scorers(self) -> Any:
        with suggesting_scorers(self.scoring):
            scorers, refit_metric = super()._get_scorers()
        return with_positive_class(scorers, getattr(self, "_labels", None)), refit_metric

    def _candidates_have_callbacks(self) -> bool:
        parts = [self.estimator]
        if hasattr(self.estimator, "get_params") and not isinstance(self.estimator, type):
            parts += self.estimator.get_params().values()
        return any(hasattr(part, "_skl_callbacks") for part in parts)

    @checks_parameters(prefer_skip_nested_validation=False)
    def _fit(self, X: Any, y: Any, params: dict[str, Any]) -> Self:
        """Do what `BaseSearchCV.fit` does, which has the evaluation of candidates inside it."""
        scorers, refit_metric = self._get_scorers()
        X, y = indexable(X, y)
        routed = self._get_routed_params_for_fit(_check_method_params(X, params=params))
        weight = params.get("sample_weight")
        data = {
            "X": X,
            "y": y,
            "metadata": None if weight is None else {"sample_weight": weight},
        }
        root = self._init_callback_context(max_subtasks=1 + (self.refit is not False))
        root.call_on_fit_task_begin(estimator=self, **data)
        split_params = routed.splitter.split
        self._checked_cv_orig = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        self._check_input_parameters(X=X, y=y, split_params=split_params)
        self.n_splits_ = self._checked_cv_orig.get_n_splits(X, y, **split_params)
        evaluation = EvaluationConfig(
            estimator=clone(self.estimator),
            X=X,
            y=y,
            splits=[],
            scorer=scorers,
            fit_params=routed.estimator.fit,
            score_params=routed.scorer.score,
            return_train_score=self.return_train_score,
            error_score=self.error_score,
            verbose=self.verbose,
            max_bytes=self.max_stack_bytes,
        )
        with Parallel(n_jobs=self.n_jobs, pre_dispatch=self.pre_dispatch) as parallel:
            evaluated = CandidateEvaluator(self, evaluation, split_params, parallel)
            self._look_for_the_best(evaluated, root)
        first_score = evaluated.outcomes[0]["test_scores"]
        self.multimetric_ = isinstance(first_score, dict)
        if callable(self.scoring) and self.multimetric_:
            # Only now is it known what the scorer returns.
            self._check_refit_for_multimetric(first_score)
            refit_metric = self.refit
        self.cv_results_ = evaluated.cv_results
        self._keep_best(refit_metric)
        if self.refit:
            self._refit(evaluation, root.subcontext(task_name="refit-with-best-params"), data)
        is_several = isinstance(scorers, _MultimetricScorer)
        self.scorer_ = scorers._scorers if is_several else scorers
        root.call_on_fit_task_end(estimator=self, **data)
        return self

    def _look_for_the_best(self, evaluate_candidates: CandidateEvaluator, context: Any) -> None:
        """Let the strategy have the candidates evaluated that it wants to know of."""
        takes_context = "callback_ctx" in signature(self._run_search).parameters
        self._run_search(evaluate_candidates, **{"callback_ctx": context} if takes_context else {})

    def _keep_best(self, refit_metric: Any) -> None:
        """Set what is known of the best candidate, as far as there is one metric to judge by."""
        if not self.refit and self.multimetric_:
            return
        self.best_index_ = self._select_best_index(self.refit, refit_metric, self.cv_results_)
        if not callable(self.refit):
            self.best_score_ = self.cv_results_[f"mean_test_{refit_metric}"][self.best_index_]
        self.best_params_ = self.cv_results_["params"][self.best_index_]

    def _refit(self, evaluation: EvaluationConfig, context: Any, data: dict[str, Any]) -> None:
        """Fit the best candidate to all data."""
        best = clone(evaluation.estimator).set_params(**clone(self.best_params_, safe=False))
        self.best_estimator_ = best
        with context.propagate_callback_context(best):
            context.call_on_fit_task_begin(estimator=self, **data)
            start = time.perf_counter()
            if evaluation.y is None:
                best.fit(evaluation.X, **evaluation.fit_params)
            else:
                best.fit(evaluation.X, evaluation.y, **evaluation.fit_params)
            self.refit_time_ = time.perf_counter() - start
        context.call_on_fit_task_end(estimator=self, **data)
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_


class CandidateEvaluator:
    """The candidates evaluated so far; a strategy calls it, as `evaluate_candidates`, for more.

    Parameters
    ----------
    search : StackedSearch
        Whose candidates they are.
    evaluation : Evaluation
        What all candidates have in common, but for the splits.
    split_params : dict
        Further arguments of the splitter.
    parallel : Parallel
        What runs the jobs.

    Attributes
    ----------
    outcomes : list of dict
        The result of each candidate on each split.
    cv_results : dict of arrays
        The same, as `cv_results_` has it.
    reached : AllReached
        How far the last candidates have come, where they are to go on.
    """

    def __init__(
        self,
        search: BatchedSearchCV,
        evaluation: EvaluationConfig,
        split_params: dict[str, Any],
        parallel: Parallel,
    ) -> None:
        self.search, self.evaluation = search, evaluation
        self.split_params, self.parallel = split_params, parallel
        self.candidate_params: list[dict[str, Any]] = []
        self.outcomes: list[Result] = []
        self.more_results: defaultdict[str, list[Any]] = defaultdict(list)
        self.cv_results: dict[str, Any] = {}
        self.reached = CandidateStates()

    def __call__(
        self,
        candidate_params: Iterable[dict[str, Any]],
        cv: Any = None,
        more_results: Mapping[str, Sequence[Any]] | None = None,
        callback_ctx: Any = None,
        legs: RoundBudget | None = None,
    ) -> dict[str, Any]:
        """Fit and score more candidates, and return `cv_results_` of all so far.

        Parameters
        ----------
        candidate_params : iterable of dict
            Their parameters.
        cv : splitter, default=None
            What splits the data this time, into as many parts; None for the search's own.
        more_results : dict of sequence, default=None
            What `cv_results_` is to hold besides, by name: a value for each candidate.
        callback_ctx : CallbackContext, default=None
            The task, of scikit-learn's callbacks, that they are part of.
        legs : Legs, default=None
            What those have done already that are trained in legs; None to train each as a whole.
        """
        search, candidate_params = self.search, list(candidate_params)
        splits = self._splits(cv or search._checked_cv_orig)
        n_candidates, n_splits = len(candidate_params), len(splits)
        if search.verbose:
            print(
                f"Fitting {n_splits} folds for each of {n_candidates} candidates, totalling "
                f"{n_candidates * n_splits} fits"
            )
        if not n_candidates * n_splits:
            raise ValueError(
                "No fits were performed. Was the CV iterator empty? Were there no candidates?"
            )
        evaluation, followed = replace(self.evaluation, splits=splits), None
        if callback_ctx is not None and hasattr(search, "_skl_callbacks"):
            followed = SearchCallbackContexts.of(search, evaluation, n_candidates, callback_ctx)
        results, self.reached = evaluate(
            evaluation, candidate_params, self.parallel, followed, legs
        )
        outcomes = list(results.values())
        _warn_of_other_data(sum(result.pop("begins_anew", False) for result in outcomes))
        _warn_or_raise_about_fit_failures(outcomes, search.error_score)
        if callable(search.scoring):
            _insert_error_scores(outcomes, search.error_score)
        self.candidate_params += candidate_params
        self.outcomes += outcomes
        for name, values in (more_results or {}).items():
            self.more_results[name] += values
        self.cv_results = search._format_results(
            self.candidate_params, n_splits, self.outcomes, self.more_results
        )
        return self.cv_results

    def reached_by(self, candidates: Sequence[int]) -> CandidateStates:
        """Hand out how far some of the last candidates have come, numbered anew in this order."""
        reached, self.reached = self.reached, CandidateStates()
        return CandidateStates(
            {
                (new, split): reached[old, split]
                for new, old in enumerate(candidates)
                for split in range(self.search.n_splits_)
                if (old, split) in reached
            }
        )

    def _splits(self, cv: Any) -> list[Split]:
        n_splits = self.search.n_splits_
        splits = list(cv.split(self.evaluation.X, self.evaluation.y, **self.split_params))
        if len(splits) != n_splits:
            raise ValueError(
                f"cv.split and cv.get_n_splits return inconsistent results. Expected "
                f"{n_splits} splits, got {len(splits)}"
            )
        return [(np.asarray(train), np.asarray(test)) for train, test in splits]


def _labels_of(estimator: Any, y: Any) -> Any:
    """Return the sorted labels of a classifier's y of one column, else None."""
    try:
        return np.unique(np.asarray(y)) if is_classifier(estimator) and np.ndim(y) == 1 else None
    except (AttributeError, TypeError, ValueError):  # no estimator, no labels: an error later on
        return None


def _warn_of_other_data(n_fits: int) -> None:
    """Say so where fits that were to go on had other rows than before."""
    if n_fits:
        warnings.warn(
            f"{n_fits} fits were trained anew in this round, since what comes out of the "
            "transformers before them is not what it was in the last: they draw random numbers. "
            "Give them an int random_state to let candidates go on from where they are.",
            UserWarning,
            stacklevel=2,
        )
