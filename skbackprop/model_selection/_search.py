"""Grid and random search that train their candidates as stacks of networks."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from inspect import signature
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone, is_classifier
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, check_cv
from sklearn.utils import indexable
from sklearn.utils.parallel import Parallel

from .._sklearn import (
    BaseSearchCV,
    Interval,
    _check_method_params,
    _MultimetricScorer,
)
from ..estimators._decorators import with_parameter_validation
from ..estimators._estimator_mixin import EstimatorMixin
from ..estimators._scorers import add_scorer_suggestions, with_pos_label
from ._candidate_evaluator import CandidateEvaluator
from ._candidates import EvaluationConfig


class BatchedSearchCV(EstimatorMixin, BaseSearchCV):
    """Base class of searches that train their candidates as stacks of networks.

    It takes the place of scikit-learn's `BaseSearchCV`. A strategy, which chooses the candidates,
    comes before it in the bases: ``class BackpropGridSearchCV(GridSearchCV, BatchedSearchCV)``.
    Its `_run_search` calls `evaluate_candidates` once or several times, as in scikit-learn.
    """

    max_stack_bytes: int = 2**28

    best_estimator_: Any
    best_index_: int
    best_params_: dict[str, Any]
    best_score_: float
    cv_results_: dict[str, Any]
    multimetric_: bool
    n_splits_: int
    refit_time_: float
    scorer_: Any
    # The fitted attributes after the last complete round of a halving search, during a fit.
    _complete_rounds: dict[str, Any] | None = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseSearchCV._parameter_constraints,
        "max_stack_bytes": [Interval(Integral, 1, None, closed="left")],
    }

    def fit(self, X: Any, y: Any = None, **params: Any) -> Self:
        """Train and score all candidates, then fit the best candidate to all data.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            The targets.
        **params : dict
            Further arguments of the estimator's `fit`, such as ``sample_weight`` (arrays of
            n_samples are split along with X), and ``groups`` for the splitter. With metadata
            routing, the arguments that the estimator, the splitter and the scorer request.

        Returns
        -------
        self : object
            The fitted search.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, or if all fits of the search or of a round
            failed.
        KeyboardInterrupt
            On Ctrl-C. A grid or random search is left unchanged. A halving search keeps the results
            of complete rounds, without a `best_estimator_`.
        """
        fitted = copy.copy(self)
        fitted._replace_fitted_attributes({})
        try:
            fitted._fit(X, y, params)
        except KeyboardInterrupt:
            if fitted._complete_rounds is not None:
                self._replace_fitted_attributes(fitted._complete_rounds)
            raise
        attributes = dict(vars(fitted))
        attributes.pop("_complete_rounds", None)
        self._replace_fitted_attributes(attributes)
        return self

    def _replace_fitted_attributes(self, attributes: Mapping[str, Any]) -> None:
        for name in fitted_attributes(self):
            if name not in attributes:
                delattr(self, name)
        for name, value in attributes.items():
            setattr(self, name, value)

    def _get_scorers(self) -> Any:
        with add_scorer_suggestions(self.scoring):
            return super()._get_scorers()

    @with_parameter_validation(prefer_skip_nested_validation=False)
    def _fit(self, X: Any, y: Any, params: dict[str, Any]) -> Self:
        """Do what `BaseSearchCV.fit` does, but evaluate candidates in stacks."""
        scorer, _ = self._get_scorers()
        X, y = indexable(X, y)
        routed = self._get_routed_params_for_fit(_check_method_params(X, params=params))
        weight = params.get("sample_weight")
        metadata = None if weight is None else {"sample_weight": weight}
        data = {"X": X, "y": y, "metadata": metadata}
        root = self._init_callback_context(max_subtasks=1 + (self.refit is not False))
        root.call_on_fit_task_begin(estimator=self, **data)
        split_params = routed.splitter.split
        self._checked_cv_orig = check_cv(self.cv, y, classifier=is_classifier(self.estimator))
        self._check_input_parameters(X=X, y=y, split_params=split_params)
        self.n_splits_ = self._checked_cv_orig.get_n_splits(X, y, **split_params)
        config = EvaluationConfig(
            estimator=clone(self.estimator),
            X=X,
            y=y,
            splits=[],
            scorer=with_pos_label(scorer, _class_labels(self.estimator, y)),
            fit_params=routed.estimator.fit,
            score_params=routed.scorer.score,
            return_train_score=self.return_train_score,
            error_score=self.error_score,
            verbose=self.verbose,
            max_bytes=self.max_stack_bytes,
            has_callbacks=any(
                hasattr(part, "_skl_callbacks")
                for part in (self.estimator, *self.estimator.get_params().values())
            ),
        )
        with Parallel(n_jobs=self.n_jobs, pre_dispatch=self.pre_dispatch) as parallel:
            evaluator = CandidateEvaluator(self, config, split_params, parallel)
            takes_context = "callback_ctx" in signature(self._run_search).parameters
            self._run_search(evaluator, **{"callback_ctx": root} if takes_context else {})
        self._set_results(evaluator)
        if self.refit:
            self._refit(config, root.subcontext(task_name="refit-with-best-params"), data)
        root.call_on_fit_task_end(estimator=self, **data)
        return self

    def _set_results(self, evaluator: CandidateEvaluator) -> None:
        """Set the fitted attributes, except those of the last fit to all data."""
        scorer, first_score = evaluator.config.scorer, evaluator.outcomes[0]["test_scores"]
        self.scorer_ = scorer._scorers if isinstance(scorer, _MultimetricScorer) else scorer
        self.multimetric_ = isinstance(first_score, dict)
        if callable(self.scoring) and self.multimetric_:
            # The metrics of a callable are only known after it has been called.
            self._check_refit_for_multimetric(first_score)
        self.cv_results_ = results = evaluator.cv_results
        if self.refit or not self.multimetric_:
            metric = self._refit_metric
            self.best_index_ = self._select_best_index(self.refit, metric, results)
            self.best_params_ = results["params"][self.best_index_]
            if not callable(self.refit):
                self.best_score_ = results[f"mean_test_{metric}"][self.best_index_]

    @property
    def _refit_metric(self) -> Any:
        """The name of the metric that chooses the best candidate."""
        return self.refit if self.multimetric_ else "score"

    def _refit(self, config: EvaluationConfig, context: Any, data: dict[str, Any]) -> None:
        """Fit the best candidate to all data."""
        best = clone(config.estimator).set_params(**clone(self.best_params_, safe=False))
        self.best_estimator_ = best
        with context.propagate_callback_context(best):
            context.call_on_fit_task_begin(estimator=self, **data)
            start = time.perf_counter()
            targets = () if config.y is None else (config.y,)
            best.fit(config.X, *targets, **config.fit_params)
            self.refit_time_ = time.perf_counter() - start
        context.call_on_fit_task_end(estimator=self, **data)
        if hasattr(best, "feature_names_in_"):
            self.feature_names_in_ = best.feature_names_in_


def fitted_attributes(search: BatchedSearchCV) -> dict[str, Any]:
    """Return the fitted attributes of a search, whose names end in an underscore."""
    return {
        name: value
        for name, value in vars(search).items()
        if name.endswith("_") and not name.startswith("_")
    }


def _class_labels(estimator: Any, y: Any) -> Any:
    """Return the sorted labels of a classifier's one-dimensional y, else None."""
    try:
        return np.unique(np.asarray(y)) if is_classifier(estimator) and np.ndim(y) == 1 else None
    except (TypeError, ValueError):  # the fits of the candidates raise an error
        return None


class BackpropGridSearchCV(GridSearchCV, BatchedSearchCV):
    """Grid search that trains its candidates as stacks of networks.

    A drop-in replacement for scikit-learn's `GridSearchCV`, with the same parameters, attributes
    and scores. The estimator is a `BackpropClassifier`, a `BackpropRegressor`, or a `Pipeline` that
    ends in one. Any other estimator works too, but is not faster.

    Parameters
    ----------
    estimator : estimator
        The estimator to search over; each candidate is a clone of it.
    param_grid : dict or list of dict
        The values to try, by parameter name. All combinations of the values of a dict are
        candidates.
    scoring : str, callable, list, tuple, dict or None, default=None
        The name of a metric, a callable ``scorer(estimator, X, y)``, or several metrics (a list
        of names, a dict, or a callable that returns a dict). None for the estimator's `score`.
    n_jobs : int or None, default=None
        The number of jobs that train stacks in parallel. None for 1, or the number that a joblib
        context sets; -1 for all cores.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate to all data at the end. With several metrics, the name of
        the metric that chooses the best candidate. A callable gets `cv_results_` and returns the
        index of the best candidate.
    cv : int, splitter, iterable or None, default=None
        The number of folds (stratified for classifiers), a splitter, or an iterable of (train,
        test) indices. None for 5 folds.
    verbose : int, default=0
        How much to print. 1: the number of fits, why some candidates train one by one, and every
        few seconds the epochs of each stack and the number of networks that still train. 2: also
        the score of every fit. 3: also every epoch.
    pre_dispatch : int or str, default="2*n_jobs"
        The number of jobs that joblib dispatches ahead.
    error_score : "raise" or float, default=np.nan
        The score of a candidate whose `fit` fails. With "raise", the search raises the error of
        `fit`.
    return_train_score : bool, default=False
        Whether to compute scores on the training rows as well.
    max_stack_bytes : int, default=2**28
        The maximum memory of the arrays of one stack, in bytes, at least 1. A smaller value makes
        stacks smaller, and does not change results.

    Attributes
    ----------
    cv_results_ : dict of arrays
        A row for each candidate: ``params``, ``param_*``, ``split*_test_score``,
        ``mean_test_score``, ``std_test_score``, ``rank_test_score``, training scores if requested,
        and times. With several metrics, the name of each metric replaces "score". ``mean_fit_time``
        is the candidate's share of the time of its stack.
    best_estimator_ : estimator
        The best candidate, fitted to all data; only with ``refit``.
    best_score_ : float
        The mean test score of the best candidate; absent if `refit` is a callable.
    best_params_ : dict
        The parameters of the best candidate.
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
    BackpropRandomizedSearchCV : Search over randomly drawn candidates.
    sklearn.model_selection.GridSearchCV : The search of scikit-learn.

    Notes
    -----
    Candidates train in one stack if they differ only in the learning rate and its schedule, the
    penalty, momenta, gradient clipping, weight averaging, seeds, tolerance and patience, and early
    stopping. All other parameters must be equal, such as hidden sizes, activation, loss, solver,
    batch size, number of epochs and dtype. A stack may contain candidates of several splits. Its
    size is limited by the processor's cache. Other estimators, and networks with
    ``solver="lbfgs"``, train one by one, with the same results.

    With an int ``random_state`` in the estimator, the scores equal those of scikit-learn's search
    to the bit, with one BLAS thread. A candidate fails exactly if its own `fit`, outside a stack,
    would fail.

    Transformers of a pipeline are fitted once for each split and each setting of their own
    parameters. A transformer that draws random numbers without a seed therefore draws the same
    numbers for all candidates of a split.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skbackprop import BackpropClassifier, BackpropGridSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> network = BackpropClassifier((16,), max_iter=30, n_iter_no_change=np.inf, random_state=0)
    >>> search = BackpropGridSearchCV(
    ...     make_pipeline(StandardScaler(), network),
    ...     {"backpropclassifier__learning_rate_init": [1e-4, 1e-3, 1e-2]},
    ... )
    >>> search.fit(X, y).best_params_
    {'backpropclassifier__learning_rate_init': 0.01}
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BatchedSearchCV._parameter_constraints,
        **GridSearchCV._parameter_constraints,
    }

    def __init__(
        self,
        estimator: Any,
        param_grid: Any,
        *,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        error_score: Any = np.nan,
        return_train_score: bool = False,
        max_stack_bytes: int = 2**28,
    ) -> None:
        super().__init__(
            estimator,
            param_grid,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.max_stack_bytes = max_stack_bytes


class BackpropRandomizedSearchCV(RandomizedSearchCV, BatchedSearchCV):
    """Random search that trains its candidates as stacks of networks.

    A drop-in replacement for scikit-learn's `RandomizedSearchCV`, with the same parameters,
    attributes and scores. The estimator is a `BackpropClassifier`, a `BackpropRegressor`, or a
    `Pipeline` that ends in one. Any other estimator works too, but is not faster.

    Parameters
    ----------
    estimator : estimator
        The estimator to search over; each candidate is a clone of it.
    param_distributions : dict or list of dict
        For each parameter name, a list of values, or a distribution with a method ``rvs``. With a
        list of dicts, each candidate is drawn from a dict that is chosen at random.
    n_iter : int, default=10
        The number of candidates, at least 1.
    scoring : str, callable, list, tuple, dict or None, default=None
        The name of a metric, a callable ``scorer(estimator, X, y)``, or several metrics (a list
        of names, a dict, or a callable that returns a dict). None for the estimator's `score`.
    n_jobs : int or None, default=None
        The number of jobs that train stacks in parallel. None for 1, or the number that a joblib
        context sets; -1 for all cores.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate to all data at the end. With several metrics, the name of
        the metric that chooses the best candidate. A callable gets `cv_results_` and returns the
        index of the best candidate.
    cv : int, splitter, iterable or None, default=None
        The number of folds (stratified for classifiers), a splitter, or an iterable of (train,
        test) indices. None for 5 folds.
    verbose : int, default=0
        How much to print. 1: the number of fits, why some candidates train one by one, and every
        few seconds the epochs of each stack and the number of networks that still train. 2: also
        the score of every fit. 3: also every epoch.
    pre_dispatch : int or str, default="2*n_jobs"
        The number of jobs that joblib dispatches ahead.
    random_state : int, RandomState instance or None, default=None
        The seed for drawing candidates. The networks have their own `random_state`.
    error_score : "raise" or float, default=np.nan
        The score of a candidate whose `fit` fails. With "raise", the search raises the error of
        `fit`.
    return_train_score : bool, default=False
        Whether to compute scores on the training rows as well.
    max_stack_bytes : int, default=2**28
        The maximum memory of the arrays of one stack, in bytes, at least 1. A smaller value makes
        stacks smaller, and does not change results.

    Attributes
    ----------
    cv_results_ : dict of arrays
        A row for each candidate: ``params``, ``param_*``, ``split*_test_score``,
        ``mean_test_score``, ``std_test_score``, ``rank_test_score``, training scores if requested,
        and times. With several metrics, the name of each metric replaces "score". ``mean_fit_time``
        is the candidate's share of the time of its stack.
    best_estimator_ : estimator
        The best candidate, fitted to all data; only with ``refit``.
    best_score_ : float
        The mean test score of the best candidate; absent if `refit` is a callable.
    best_params_ : dict
        The parameters of the best candidate.
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
    BackpropGridSearchCV : Search over all combinations of values.
    sklearn.model_selection.RandomizedSearchCV : The search of scikit-learn.

    Notes
    -----
    Candidates train in one stack if they differ only in the learning rate and its schedule, the
    penalty, momenta, gradient clipping, weight averaging, seeds, tolerance and patience, and early
    stopping. All other parameters must be equal, such as hidden sizes, activation, loss, solver,
    batch size, number of epochs and dtype. A stack may contain candidates of several splits. Its
    size is limited by the processor's cache. Other estimators, and networks with
    ``solver="lbfgs"``, train one by one, with the same results.

    With an int ``random_state`` in the estimator, the scores equal those of scikit-learn's search
    to the bit, with one BLAS thread. A candidate fails exactly if its own `fit`, outside a stack,
    would fail.

    Transformers of a pipeline are fitted once for each split and each setting of their own
    parameters. A transformer that draws random numbers without a seed therefore draws the same
    numbers for all candidates of a split.

    References
    ----------
    Bergstra, J. & Bengio, Y. (2012). Random search for hyper-parameter optimization. Journal of
    Machine Learning Research 13, 281-305.

    Examples
    --------
    >>> import numpy as np
    >>> from scipy.stats import loguniform
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier, BackpropRandomizedSearchCV
    >>> X, y = load_iris(return_X_y=True)
    >>> network = BackpropClassifier((16,), max_iter=30, n_iter_no_change=np.inf, random_state=0)
    >>> search = BackpropRandomizedSearchCV(
    ...     network, {"learning_rate_init": loguniform(1e-4, 1e-1)}, n_iter=8, random_state=0
    ... )
    >>> bool(search.fit(X, y).best_score_ > 0.9)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BatchedSearchCV._parameter_constraints,
        **RandomizedSearchCV._parameter_constraints,
    }

    def __init__(
        self,
        estimator: Any,
        param_distributions: Any,
        *,
        n_iter: int = 10,
        scoring: Any = None,
        n_jobs: int | None = None,
        refit: Any = True,
        cv: Any = None,
        verbose: int = 0,
        pre_dispatch: Any = "2*n_jobs",
        random_state: int | np.random.RandomState | None = None,
        error_score: Any = np.nan,
        return_train_score: bool = False,
        max_stack_bytes: int = 2**28,
    ) -> None:
        super().__init__(
            estimator,
            param_distributions,
            n_iter=n_iter,
            scoring=scoring,
            n_jobs=n_jobs,
            refit=refit,
            cv=cv,
            verbose=verbose,
            pre_dispatch=pre_dispatch,
            random_state=random_state,
            error_score=error_score,
            return_train_score=return_train_score,
        )
        self.max_stack_bytes = max_stack_bytes
