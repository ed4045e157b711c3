"""Successive halving in which surviving candidates resume training."""

from __future__ import annotations

import copy
from math import ceil, floor, log
from numbers import Integral
from typing import Any, ClassVar

import numpy as np
from sklearn.pipeline import Pipeline

from .._sklearn import (
    BaseSuccessiveHalving,
    HalvingGridSearchCV,
    HalvingRandomSearchCV,
    _num_samples,
    _SubsampleMetaSplitter,
)
from ._candidate_evaluator import CandidateEvaluator
from ._candidates import RoundBudget
from ._search import BatchedSearchCV, fitted_attributes

N_SAMPLES = "n_samples"


class BatchedSuccessiveHalving(BatchedSearchCV):
    """Base class of halving searches whose survivors resume training in each round.

    It comes before scikit-learn's search, which makes the candidates, in the bases:
    ``class BackpropHalvingGridSearchCV(BatchedSuccessiveHalving, HalvingGridSearchCV)``.
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

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "best_estimator_" if self.refit else "cv_results_")

    # ----------------------------------------------------------------------- parameters

    @property
    def _resource(self) -> str:
        """The full name of the resource, with the step of a pipeline."""
        name, estimator = self.resource, self.estimator
        if name != N_SAMPLES and isinstance(estimator, Pipeline):
            known, full_name = estimator.get_params(), f"{estimator.steps[-1][0]}__{name}"
            return full_name if name not in known and full_name in known else name
        return name

    def _check_input_parameters(self, X: Any, y: Any, split_params: dict[str, Any]) -> None:
        """Check the full name of the resource, with the estimator's value for "auto"."""
        checked = copy.copy(self)
        checked.resource = resource = self._resource
        if self.max_resources == "auto" and resource != N_SAMPLES:
            own = self.estimator.get_params().get(resource)
            if isinstance(own, Integral) and int(own) > 0:
                checked.max_resources = int(own)
        super(BatchedSuccessiveHalving, checked)._check_input_parameters(
            X=X, y=y, split_params=split_params
        )
        self.min_resources_, self.max_resources_ = checked.min_resources_, checked.max_resources_
        self._n_samples_orig = _num_samples(X)

    def _check_refit_for_multimetric(self, scores: Any) -> None:
        if not isinstance(self.refit, str) or self.refit not in scores:
            raise ValueError(
                "refit must be the name of the metric that chooses the candidates of the next "
                f"round, because there are several metrics, got {self.refit!r}. Choose one of "
                f"{sorted(scores)}."
            )

    # ----------------------------------------------------------------------- rounds

    def _run_search(self, evaluate_candidates: CandidateEvaluator, *, callback_ctx: Any) -> None:
        resource = self._resource
        candidates = self._generate_candidate_params()
        if resource != N_SAMPLES and any(resource in params for params in candidates):
            raise ValueError(
                f"Cannot use parameter {resource} as the resource since it is part of the "
                "searched parameters."
            )
        candidates = list(candidates)
        survivors: list[int] = []
        rounds = self._plan_rounds(len(candidates))
        context = callback_ctx.subcontext(
            task_name="search", max_subtasks=len(rounds)
        ).call_on_fit_task_begin(estimator=self)
        self.n_resources_, self.n_candidates_ = [], []
        for i, n_resources in enumerate(rounds):
            n_candidates = len(candidates)
            self.n_resources_ = [*self.n_resources_, n_resources]
            self.n_candidates_ = [*self.n_candidates_, n_candidates]
            self._print("-" * 10, f"iter: {i}")
            self._print(f"n_candidates: {n_candidates}", f"n_resources: {n_resources}")
            cv, budget = self._checked_cv_orig, None
            if resource == N_SAMPLES:
                cv = _SubsampleMetaSplitter(
                    base_cv=cv,
                    fraction=n_resources / self._n_samples_orig,
                    subsample_test=True,
                    random_state=self.random_state,
                )
            else:
                candidates = [params | {resource: n_resources} for params in candidates]
                budget = RoundBudget(resource, n_resources, rounds[-1])
            round_context = context.subcontext(
                task_name="halving-iteration",
                max_subtasks=n_candidates * self.n_splits_,
                sequential_subtasks=False,
            ).call_on_fit_task_begin(estimator=self)
            results = evaluate_candidates(
                candidates,
                cv,
                more_results={
                    "iter": [i] * n_candidates,
                    "n_resources": [n_resources] * n_candidates,
                },
                callback_ctx=round_context,
                budget=budget,
                survivors=survivors,
            )
            self._set_results(evaluate_candidates)
            scores = results[f"mean_test_{self._refit_metric}"][-n_candidates:]
            # As in scikit-learn: NaN is the worst, and ties are broken by the sort.
            ranking = np.roll(np.argsort(scores), np.count_nonzero(np.isnan(scores)))
            survivors = ranking[-ceil(n_candidates / self.factor) :].tolist()
            candidates = [candidates[j] for j in survivors]
            self.n_remaining_candidates_ = len(candidates)
            self.n_iterations_ = i + 1
            round_context.call_on_fit_task_end(estimator=self)
            self._complete_rounds = fitted_attributes(self)
        context.call_on_fit_task_end(estimator=self)

    def _plan_rounds(self, n_candidates: int) -> list[int]:
        """Return the resources of each round, as scikit-learn chooses them."""
        factor, most = self.factor, self.max_resources_
        n_required = 1 + floor(log(n_candidates, factor))
        if self.min_resources == "exhaust":
            self.min_resources_ = max(self.min_resources_, most // factor ** (n_required - 1))
        n_possible = 1 + floor(log(most // self.min_resources_, factor))
        is_aggressive = self.aggressive_elimination
        n_rounds = n_required if is_aggressive else min(n_possible, n_required)
        # Negative if more rounds are possible than required: then the first round gets more.
        n_repeated = n_required - n_possible if is_aggressive else 0
        self.n_required_iterations_, self.n_possible_iterations_ = n_required, n_possible
        self._print(
            f"n_iterations: {n_rounds}",
            f"n_required_iterations: {n_required}",
            f"n_possible_iterations: {n_possible}",
            f"min_resources_: {self.min_resources_}",
            f"max_resources_: {most}",
            f"aggressive_elimination: {is_aggressive}",
            f"factor: {factor}",
        )
        powers = [max(0, i - n_repeated) for i in range(n_rounds)]
        return [min(int(factor**power * self.min_resources_), most) for power in powers]

    def _print(self, *lines: str) -> None:
        if self.verbose:
            print(*lines, sep="\n")

    # ----------------------------------------------------------------------- results

    @staticmethod
    def _select_best_index(refit: Any, refit_metric: str, results: dict[str, Any]) -> int:
        """Return the row of the best candidate of the last round."""
        last = np.flatnonzero(results["iter"] == np.max(results["iter"]))
        scores = results[f"mean_test_{refit_metric}"][last]
        return last[0 if np.isnan(scores).all() else np.nanargmax(scores)]

    def _set_results(self, evaluator: CandidateEvaluator) -> None:
        super()._set_results(evaluator)
        # A callable refit counts as True here, as in scikit-learn.
        self.best_score_ = self.cv_results_[f"mean_test_{self._refit_metric}"][self.best_index_]


class BackpropHalvingGridSearchCV(BatchedSuccessiveHalving, HalvingGridSearchCV):
    """Successive halving over a grid, with stacks of networks.

    All candidates train for a few epochs, the best candidates resume for more epochs, and so on.

    A drop-in replacement for scikit-learn's `HalvingGridSearchCV`, with the same parameters,
    attributes and choices. The default resource is epochs, and surviving candidates resume training
    in each round. The estimator is a `BackpropClassifier`, a `BackpropRegressor`, or a `Pipeline`
    that ends in one. Any other estimator works too, but is not faster.

    Parameters
    ----------
    estimator : estimator
        The estimator to search over; each candidate is a clone of it.
    param_grid : dict or list of dict
        The values to try, by parameter name. All combinations of the values of a dict are
        candidates. The resource must not be one of the parameters.
    factor : int or float, default=3
        The share 1 / factor of the candidates survives a round. In the next round, each survivor
        gets `factor` times the resources. Above 1.
    resource : str, default="max_iter"
        The resource that grows from round to round. ``"max_iter"``: epochs; candidates resume
        training where the previous round ended. ``"n_samples"``: rows. Or the name of any parameter
        that is a positive integer. Unless the resource is ``"max_iter"``, training starts again in
        each round. In a pipeline, ``"max_iter"`` does not need the name of the step.
    max_resources : "auto" or int, default="auto"
        The maximum resources of a candidate, at least 1. "auto" is ``max_iter`` of the estimator,
        or the number of rows.
    min_resources : {"exhaust", "smallest"} or int, default="exhaust"
        The resources of a candidate in the first round, at least 1. "smallest" is one epoch, or two
        rows for each split and class. "exhaust" is the largest value with which the last round uses
        `max_resources`.
    aggressive_elimination : bool, default=False
        Whether to repeat rounds with `min_resources` until the last round has less than `factor`
        candidates, if `max_resources` does not allow for enough rounds.
    cv : int, splitter or iterable, default=5
        The number of folds (stratified for classifiers), a splitter that always returns the same
        splits, or an iterable of (train, test) indices.
    scoring : str, callable, list, tuple, dict or None, default=None
        The name of a metric, a callable ``scorer(estimator, X, y)``, or several metrics (a list
        of names, a dict, or a callable that returns a dict). None for the estimator's `score`.
    refit : bool or str, default=True
        Whether to fit the best candidate of the last round to all data at the end. With several
        metrics, the name of the metric that chooses the survivors of each round. A callable counts
        as True, as in scikit-learn.
    error_score : "raise" or float, default=np.nan
        The score of a candidate whose `fit` fails. With "raise", the search raises the error of
        `fit`.
    return_train_score : bool, default=True
        Whether to compute scores on the training rows as well, in each round.
    random_state : int, RandomState instance or None, default=None
        The seed for drawing rows, if they are the resource. The networks have their own
        `random_state`.
    n_jobs : int or None, default=None
        The number of jobs that train stacks in parallel. None for 1, or the number that a joblib
        context sets; -1 for all cores.
    verbose : int, default=0
        How much to print. 1: the rounds, the number of fits, why some candidates train one by one,
        and every few seconds the epochs of each stack and the number of networks that still train.
        2: also the score of every fit. 3: also every epoch.
    max_stack_bytes : int, default=2**28
        The maximum memory of the arrays of one stack, in bytes, at least 1. A smaller value makes
        stacks smaller, and does not change results.

    Attributes
    ----------
    n_resources_ : list of int
        The resources of a candidate in each round: the epochs since the start of training, or the
        rows.
    n_candidates_ : list of int
        The number of candidates of each round.
    n_remaining_candidates_ : int
        The number of candidates that survive the last round.
    n_iterations_ : int
        The number of rounds.
    n_possible_iterations_, n_required_iterations_ : int
        The number of rounds that `max_resources` allows for, and the number of rounds with which
        the last round has fewer than `factor` candidates.
    max_resources_, min_resources_ : int
        The maximum resources of a candidate, and the resources of the first round.
    cv_results_ : dict of arrays
        A row for each candidate of each round: ``iter`` (the round), ``n_resources``, ``params``,
        ``param_*``, ``split*_test_score``, ``mean_test_score``, ``std_test_score``,
        ``rank_test_score``, training scores if requested, and times. With several metrics, the name
        of each metric replaces "score". ``mean_fit_time`` is the candidate's share of the time of
        its stack in this round.
    best_estimator_ : estimator
        The best candidate of the last round, fitted to all data; only with ``refit``.
    best_score_ : float
        The mean test score of the best candidate in the last round.
    best_params_ : dict
        The parameters of the best candidate, with the last round's ``max_iter``.
    best_index_ : int
        The row of the best candidate in `cv_results_`.
    scorer_ : callable or dict
        The scorer of the candidates, or a dict of scorers by metric.
    n_splits_ : int
        The number of splits.
    refit_time_ : float
        The time of the final fit to all data, in seconds; only with ``refit``.
    multimetric_ : bool
        Whether there are several metrics.
    classes_ : array of shape (n_classes,), or list of such arrays
        The class labels, if the best estimator is a classifier.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the features, if all names are strings.

    See Also
    --------
    BackpropHalvingRandomSearchCV : Successive halving over randomly drawn candidates.
    BackpropGridSearchCV : Search that trains all candidates to the end.
    sklearn.model_selection.HalvingGridSearchCV : The search of scikit-learn.

    Notes
    -----
    Round i trains ceil(n / factor^i) of n candidates up to epoch min_resources * factor^i, so each
    round costs about as much as the first. The candidates of a split train in stacks. At the end of
    a round each candidate is scored, and the 1 / factor with the best mean scores over all splits
    survive. Survivors resume with their weights, moments, row order and patience, so nothing is
    trained twice. Training starts again in each round for estimators that are not networks, for
    ``solver="lbfgs"``, for candidates with callbacks, and for candidates whose training rows have
    changed because a transformer draws random numbers without a seed.

    With an int ``random_state`` in the estimator, scores, ranks and choices equal those of
    scikit-learn's `HalvingGridSearchCV` to the bit, with one BLAS thread, for constant and adaptive
    schedules, and for schedules that count epochs or steps. Schedules over the whole training
    (cosine, one cycle, steps, exponential) are spread over the epochs of the last round, so each
    round runs a part of the schedule. scikit-learn's search runs a complete schedule in each round.
    A candidate that converges in a round does not change afterwards. `time_limit` of the estimator
    applies to the epochs of each round. Warnings about networks that have not converged come from
    the last round only.

    On Ctrl-C the results of the complete rounds are kept in `cv_results_`, `best_params_` and the
    other attributes, without a `best_estimator_`.

    References
    ----------
    Jamieson, K. & Talwalkar, A. (2016). Non-stochastic best arm identification and hyperparameter
    optimization. AISTATS.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skbackprop import BackpropClassifier, BackpropHalvingGridSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> network = BackpropClassifier((16,), max_iter=27, n_iter_no_change=np.inf, random_state=0)
    >>> search = BackpropHalvingGridSearchCV(
    ...     make_pipeline(StandardScaler(), network),
    ...     {
    ...         "backpropclassifier__learning_rate_init": [1e-4, 1e-3, 1e-2],
    ...         "backpropclassifier__alpha": [0.0, 0.01, 1.0],
    ...     },
    ... ).fit(X, y)
    >>> search.n_candidates_, search.n_resources_
    ([9, 3, 1], [3, 9, 27])
    >>> search.best_params_["backpropclassifier__learning_rate_init"]
    0.01
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HalvingGridSearchCV._parameter_constraints,
        **BatchedSuccessiveHalving._parameter_constraints,
    }

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        factor: float = 3,
        resource: str = "max_iter",
        max_resources: Any = "auto",
        min_resources: Any = "exhaust",
        aggressive_elimination: bool = False,
        cv: Any = 5,
        scoring: Any = None,
        refit: Any = True,
        error_score: Any = np.nan,
        return_train_score: bool = True,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
        max_stack_bytes: int = 2**28,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            factor=factor,
            resource=resource,
            max_resources=max_resources,
            min_resources=min_resources,
            aggressive_elimination=aggressive_elimination,
            cv=cv,
            scoring=scoring,
            refit=refit,
            error_score=error_score,
            return_train_score=return_train_score,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.max_stack_bytes = max_stack_bytes


class BackpropHalvingRandomSearchCV(BatchedSuccessiveHalving, HalvingRandomSearchCV):
    """Successive halving over random candidates, with stacks of networks.

    All candidates train for a few epochs, the best candidates resume for more epochs, and so on.

    A drop-in replacement for scikit-learn's `HalvingRandomSearchCV`, with the same parameters,
    attributes and choices. The default resource is epochs, and surviving candidates resume training
    in each round. The estimator is a `BackpropClassifier`, a `BackpropRegressor`, or a `Pipeline`
    that ends in one. Any other estimator works too, but is not faster.

    Parameters
    ----------
    estimator : estimator
        The estimator to search over; each candidate is a clone of it.
    param_distributions : dict or list of dict
        For each parameter name, a list of values, or a distribution with a method ``rvs``. With a
        list of dicts, each candidate is drawn from a dict that is chosen at random. The resource
        must not be one of the parameters.
    n_candidates : "exhaust" or int, default="exhaust"
        The number of candidates in the first round, at least 1. "exhaust" is
        ``max_resources // min_resources``; the last round then uses `max_resources`.
    factor : int or float, default=3
        The share 1 / factor of the candidates survives a round. In the next round, each survivor
        gets `factor` times the resources. Above 1.
    resource : str, default="max_iter"
        The resource that grows from round to round. ``"max_iter"``: epochs; candidates resume
        training where the previous round ended. ``"n_samples"``: rows. Or the name of any parameter
        that is a positive integer. Unless the resource is ``"max_iter"``, training starts again in
        each round. In a pipeline, ``"max_iter"`` does not need the name of the step.
    max_resources : "auto" or int, default="auto"
        The maximum resources of a candidate, at least 1. "auto" is ``max_iter`` of the estimator,
        or the number of rows.
    min_resources : {"exhaust", "smallest"} or int, default="smallest"
        The resources of a candidate in the first round, at least 1. "smallest" is one epoch, or two
        rows for each split and class. "exhaust" is the largest value with which the last round uses
        `max_resources`; it requires a number as `n_candidates`.
    aggressive_elimination : bool, default=False
        Whether to repeat rounds with `min_resources` until the last round has less than `factor`
        candidates, if `max_resources` does not allow for enough rounds.
    cv : int, splitter or iterable, default=5
        The number of folds (stratified for classifiers), a splitter that always returns the same
        splits, or an iterable of (train, test) indices.
    scoring : str, callable, list, tuple, dict or None, default=None
        The name of a metric, a callable ``scorer(estimator, X, y)``, or several metrics (a list
        of names, a dict, or a callable that returns a dict). None for the estimator's `score`.
    refit : bool or str, default=True
        Whether to fit the best candidate of the last round to all data at the end. With several
        metrics, the name of the metric that chooses the survivors of each round. A callable counts
        as True, as in scikit-learn.
    error_score : "raise" or float, default=np.nan
        The score of a candidate whose `fit` fails. With "raise", the search raises the error of
        `fit`.
    return_train_score : bool, default=True
        Whether to compute scores on the training rows as well, in each round.
    random_state : int, RandomState instance or None, default=None
        The seed for drawing candidates, and for drawing rows if they are the resource. The
        networks have their own `random_state`.
    n_jobs : int or None, default=None
        The number of jobs that train stacks in parallel. None for 1, or the number that a joblib
        context sets; -1 for all cores.
    verbose : int, default=0
        How much to print. 1: the rounds, the number of fits, why some candidates train one by one,
        and every few seconds the epochs of each stack and the number of networks that still train.
        2: also the score of every fit. 3: also every epoch.
    max_stack_bytes : int, default=2**28
        The maximum memory of the arrays of one stack, in bytes, at least 1. A smaller value makes
        stacks smaller, and does not change results.

    Attributes
    ----------
    n_resources_ : list of int
        The resources of a candidate in each round: the epochs since the start of training, or the
        rows.
    n_candidates_ : list of int
        The number of candidates of each round.
    n_remaining_candidates_ : int
        The number of candidates that survive the last round.
    n_iterations_ : int
        The number of rounds.
    n_possible_iterations_, n_required_iterations_ : int
        The number of rounds that `max_resources` allows for, and the number of rounds with which
        the last round has fewer than `factor` candidates.
    max_resources_, min_resources_ : int
        The maximum resources of a candidate, and the resources of the first round.
    cv_results_ : dict of arrays
        A row for each candidate of each round: ``iter`` (the round), ``n_resources``, ``params``,
        ``param_*``, ``split*_test_score``, ``mean_test_score``, ``std_test_score``,
        ``rank_test_score``, training scores if requested, and times. With several metrics, the name
        of each metric replaces "score". ``mean_fit_time`` is the candidate's share of the time of
        its stack in this round.
    best_estimator_ : estimator
        The best candidate of the last round, fitted to all data; only with ``refit``.
    best_score_ : float
        The mean test score of the best candidate in the last round.
    best_params_ : dict
        The parameters of the best candidate, with the last round's ``max_iter``.
    best_index_ : int
        The row of the best candidate in `cv_results_`.
    scorer_ : callable or dict
        The scorer of the candidates, or a dict of scorers by metric.
    n_splits_ : int
        The number of splits.
    refit_time_ : float
        The time of the final fit to all data, in seconds; only with ``refit``.
    multimetric_ : bool
        Whether there are several metrics.
    classes_ : array of shape (n_classes,), or list of such arrays
        The class labels, if the best estimator is a classifier.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the features, if all names are strings.

    See Also
    --------
    BackpropHalvingGridSearchCV : Successive halving over all combinations of values.
    BackpropRandomizedSearchCV : Search that trains all candidates to the end.
    sklearn.model_selection.HalvingRandomSearchCV : The search of scikit-learn.

    Notes
    -----
    Round i trains ceil(n / factor^i) of n candidates up to epoch min_resources * factor^i, so each
    round costs about as much as the first. The candidates of a split train in stacks. At the end of
    a round each candidate is scored, and the 1 / factor with the best mean scores over all splits
    survive. Survivors resume with their weights, moments, row order and patience, so nothing is
    trained twice. Training starts again in each round for estimators that are not networks, for
    ``solver="lbfgs"``, for candidates with callbacks, and for candidates whose training rows have
    changed because a transformer draws random numbers without a seed.

    With an int ``random_state`` in the estimator, scores, ranks and choices equal those of
    scikit-learn's `HalvingRandomSearchCV` to the bit, with one BLAS thread, for constant and
    adaptive schedules, and for schedules that count epochs or steps. Schedules over the whole
    training (cosine, one cycle, steps, exponential) are spread over the epochs of the last round,
    so each round runs a part of the schedule. scikit-learn's search runs a complete schedule in
    each round. A candidate that converges in a round does not change afterwards. `time_limit` of
    the estimator applies to the epochs of each round. Warnings about networks that have not
    converged come from the last round only.

    On Ctrl-C the results of the complete rounds are kept in `cv_results_`, `best_params_` and the
    other attributes, without a `best_estimator_`.

    References
    ----------
    Jamieson, K. & Talwalkar, A. (2016). Non-stochastic best arm identification and hyperparameter
    optimization. AISTATS.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier, BackpropHalvingRandomSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> network = BackpropClassifier(
    ...     (16,), batch_size=16, max_iter=54, n_iter_no_change=np.inf, random_state=0
    ... )
    >>> search = BackpropHalvingRandomSearchCV(
    ...     network, {"learning_rate_init": loguniform(1e-3, 1e-2)}, min_resources=2, random_state=0
    ... ).fit(X, y)
    >>> search.n_candidates_, search.n_resources_
    ([27, 9, 3, 1], [2, 6, 18, 54])
    >>> bool(search.best_score_ > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **HalvingRandomSearchCV._parameter_constraints,
        **BatchedSuccessiveHalving._parameter_constraints,
    }

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_candidates: Any = "exhaust",
        factor: float = 3,
        resource: str = "max_iter",
        max_resources: Any = "auto",
        min_resources: Any = "smallest",
        aggressive_elimination: bool = False,
        cv: Any = 5,
        scoring: Any = None,
        refit: Any = True,
        error_score: Any = np.nan,
        return_train_score: bool = True,
        random_state: int | np.random.RandomState | None = None,
        n_jobs: int | None = None,
        verbose: int = 0,
        max_stack_bytes: int = 2**28,
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_candidates=n_candidates,
            factor=factor,
            resource=resource,
            max_resources=max_resources,
            min_resources=min_resources,
            aggressive_elimination=aggressive_elimination,
            cv=cv,
            scoring=scoring,
            refit=refit,
            error_score=error_score,
            return_train_score=return_train_score,
            random_state=random_state,
            n_jobs=n_jobs,
            verbose=verbose,
        )
        self.max_stack_bytes = max_stack_bytes
