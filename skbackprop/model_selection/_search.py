"""Searches that train their candidates as stacks of networks."""

from __future__ import annotations

import copy
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from inspect import signature
from math import floor, log
from numbers import Integral
from types import FunctionType, SimpleNamespace
from typing import Any, Self, TypeVar, cast

import numpy as np
import sklearn.experimental.enable_halving_search_cv
import sklearn.model_selection
from joblib.parallel import get_active_backend
from sklearn.base import is_classifier
from sklearn.metrics import check_scoring
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV, check_cv
from sklearn.pipeline import Pipeline

from ..estimators._estimator_mixin import EstimatorMixin
from ..estimators.base import BaseNeuralNetwork
from ..utils.arrays import count_rows
from ._stacked_training import get_prefix, has_callbacks, train_candidates
from ._stand_in import Candidate, StandIn

Search = TypeVar("Search", bound=type)


class StackedSearchMixin(EstimatorMixin):
    """Mixin of searches that train the candidates of a round in stacks of networks.

    It comes before scikit-learn's search in the bases. scikit-learn evaluates stand-ins, which
    take over the trained estimators. Scores, failures and the final fit are scikit-learn's.
    """

    best_index_: int
    best_params_: dict[str, Any]
    best_score_: float
    cv_results_: dict[str, Any]
    multimetric_: bool
    n_splits_: int
    refit_time_: float

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
            failed. The search does not change.
        """
        search = self._with_stand_in()
        if isinstance(search.estimator, StandIn):
            params["rows"] = np.arange(count_rows(X))
            if isinstance(self.cv, Iterator):  # it is read twice
                search.cv = check_cv(self.cv)
            # A backend that scikit-learn is using would stop after the training of stacks.
            backend = copy.copy(get_active_backend()[0])
            search._run_search = partial(search._run_stacked, search._run_search, backend)
        super(StackedSearchMixin, search).fit(X, y, **params)
        results = search.cv_results_
        results["params"] = [dict(candidate) for candidate in results["params"]]
        if hasattr(search, "best_params_"):
            search.best_params_ = results["params"][search.best_index_]
        self.__dict__.pop("feature_names_in_", None)
        self.__dict__.update(vars(search) | self.get_params(deep=False))
        return self

    def _with_stand_in(self) -> Any:
        """Return a copy of the search, over stand-ins if the estimator may be a network."""
        search, estimator = copy.copy(self), self.estimator
        search.__dict__.pop("feature_names_in_", None)  # an earlier fit may have set them
        if isinstance(estimator, (Pipeline, BaseNeuralNetwork)) and not has_callbacks(estimator):
            search.estimator = StandIn(estimator)
            if self.scoring is None:
                search.scoring = check_scoring(estimator)
        return search

    def _get_routed_params_for_fit(self, params: dict[str, Any]) -> Any:
        """Return the routed arguments of `fit`; stand-ins also get the rows."""
        if not isinstance(self.estimator, StandIn):
            return super()._get_routed_params_for_fit(params)
        rows = {"rows": params["rows"]}
        others = {name: value for name, value in params.items() if name != "rows"}
        routed = super()._get_routed_params_for_fit(others)
        self._fit_params = routed.estimator.fit
        routed.estimator.fit = self._fit_params | rows
        return routed

    def _run_stacked(
        self, run_search: Any, backend: Any, evaluate_candidates: Any, callback_ctx: Any = None
    ) -> None:
        """Run a search strategy of scikit-learn; train the candidates before their evaluation.

        Parameters
        ----------
        run_search : callable
            The strategy, which is the method `_run_search` of a search.
        backend : ParallelBackendBase
            The backend of joblib that trains.
        evaluate_candidates : callable
            The function of scikit-learn that a strategy calls.
        callback_ctx : CallbackContext or None, default=None
            The context of callbacks.
        """
        # scikit-learn pickles the search for each fit in a worker, so this is removed.
        del self._run_search
        fit_params = self.__dict__.pop("_fit_params")
        last_candidates: list[Candidate] = []
        seconds: list[float] = []

        def train_and_evaluate(
            candidate_params: Iterable[dict[str, Any]],
            cv: Any = None,
            more_results: Any = None,
            **context: Any,
        ) -> dict[str, Any]:
            splits = list[tuple[Any, Any]]()
            candidates = [
                Candidate(params, getattr(params, "estimators", {})) for params in candidate_params
            ]
            for candidate in last_candidates:
                candidate.estimators.clear()
            last_candidates[:] = candidates
            if not hasattr(self, "_skl_callbacks"):  # it would be pickled with each fit
                context.clear()

            def split(X: Any, y: Any = None, **params: Any) -> list[tuple[Any, Any]]:
                trains, all_rows = dict[int, Any](), np.arange(count_rows(X))
                splitter = cv or check_cv(self.cv, y, classifier=is_classifier(self.estimator))
                for train, test in splitter.split(X, y, **params):
                    rows = all_rows[np.asarray(train)]
                    trains[zlib.crc32(rows.tobytes())] = rows
                    splits.append((rows, test))
                train_candidates(self, candidates, trains, X, y, fit_params, backend)
                return splits

            results: dict[str, Any] = evaluate_candidates(
                candidates, SimpleNamespace(split=split), more_results, **context
            )
            for candidate in candidates:
                trained = candidate.estimators.values()
                seconds.append(sum(item.seconds for item in trained) / len(splits))
            results["mean_fit_time"] += seconds
            return results

        takes_context = "callback_ctx" in signature(run_search).parameters
        run_search(train_and_evaluate, **({"callback_ctx": callback_ctx} if takes_context else {}))
        for candidate in last_candidates:  # the final fit trains again
            candidate.estimators.clear()

    @property
    def _last_epochs(self) -> tuple[int | None, int | None]:
        """The last epoch of this round and of the last round; None to train to the end."""
        return None, None


def with_constructor(base: Any, **defaults: Any) -> Callable[[Search], Search]:
    """Return a decorator that gives a class the constructor of another class.

    Parameters
    ----------
    base : type
        The other class, which is a base of the decorated one.
    **defaults : dict
        Other defaults of keyword-only parameters.
    """
    init = base.__init__

    def decorate(search: Search) -> Search:
        constructor = FunctionType(init.__code__, init.__globals__, closure=init.__closure__)
        constructor.__kwdefaults__ = init.__kwdefaults__ | defaults
        cast(Any, search).__init__ = constructor
        return search

    return decorate


@with_constructor(GridSearchCV)
class BackpropGridSearchCV(StackedSearchMixin, GridSearchCV):
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
        The number of jobs that train stacks, and then score candidates, in parallel. None for 1, or
        the number that a joblib context sets; -1 for all cores.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate to all data at the end. With several metrics, the name of
        the metric that chooses the best candidate. A callable gets `cv_results_` and returns the
        index of the best candidate.
    cv : int, splitter, iterable or None, default=None
        The number of folds (stratified for classifiers), a splitter, or an iterable of (train,
        test) indices. None for 5 folds.
    verbose : int, default=0
        How much to print. 1: the number of fits and of candidates that train in stacks, and every
        few seconds the epochs of a stack and the number of its networks that still train. From 2
        on: also a line for each fit, as scikit-learn prints it.
    pre_dispatch : int or str, default="2*n_jobs"
        The number of jobs that joblib dispatches ahead.
    error_score : "raise" or float, default=np.nan
        The score of a candidate whose `fit` or scorer fails. With "raise", the search raises the
        error.
    return_train_score : bool, default=False
        Whether to compute scores on the training rows as well.

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

    scikit-learn then evaluates all candidates. With an int ``random_state`` in the estimator, the
    scores equal those of its search to the bit, with one BLAS thread. Candidates that have
    callbacks, or that fail in their stack, are fitted one by one, as in scikit-learn's search.

    Transformers of a pipeline are fitted once for each split and each setting of their own
    parameters. With one process, they also transform the rows that are scored only once.
    A transformer that draws random numbers without a seed therefore draws the same numbers for all
    candidates of a split. The trained networks of all candidates stay in memory until they are
    scored.

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


@with_constructor(RandomizedSearchCV)
class BackpropRandomizedSearchCV(StackedSearchMixin, RandomizedSearchCV):
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
        The number of jobs that train stacks, and then score candidates, in parallel. None for 1, or
        the number that a joblib context sets; -1 for all cores.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate to all data at the end. With several metrics, the name of
        the metric that chooses the best candidate. A callable gets `cv_results_` and returns the
        index of the best candidate.
    cv : int, splitter, iterable or None, default=None
        The number of folds (stratified for classifiers), a splitter, or an iterable of (train,
        test) indices. None for 5 folds.
    verbose : int, default=0
        How much to print. 1: the number of fits and of candidates that train in stacks, and every
        few seconds the epochs of a stack and the number of its networks that still train. From 2
        on: also a line for each fit, as scikit-learn prints it.
    pre_dispatch : int or str, default="2*n_jobs"
        The number of jobs that joblib dispatches ahead.
    random_state : int, RandomState instance or None, default=None
        The seed for drawing candidates. The networks have their own `random_state`.
    error_score : "raise" or float, default=np.nan
        The score of a candidate whose `fit` or scorer fails. With "raise", the search raises the
        error.
    return_train_score : bool, default=False
        Whether to compute scores on the training rows as well.

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

    scikit-learn then evaluates all candidates. With an int ``random_state`` in the estimator, the
    scores equal those of its search to the bit, with one BLAS thread. Candidates that have
    callbacks, or that fail in their stack, are fitted one by one, as in scikit-learn's search.

    Transformers of a pipeline are fitted once for each split and each setting of their own
    parameters. With one process, they also transform the rows that are scored only once.
    A transformer that draws random numbers without a seed therefore draws the same numbers for all
    candidates of a split. The trained networks of all candidates stay in memory until they are
    scored.

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


class StackedHalvingMixin(StackedSearchMixin):
    """Mixin of halving searches whose survivors resume training in each round."""

    min_resources_: int
    max_resources_: int
    n_resources_: list[int]
    n_candidates_: list[int]

    def _with_stand_in(self) -> Any:
        """Return a copy with the full name of the resource, and the estimator's value for "auto".

        In a pipeline, the full name contains the last step.
        """
        search, params = super()._with_stand_in(), self.estimator.get_params()
        full_name = get_prefix(self.estimator) + self.resource
        if self.resource not in params and full_name in params:
            search.resource = full_name
        value = params.get(search.resource)
        if self.max_resources == "auto" and isinstance(value, Integral):
            search.max_resources = value
        if search.resource not in (*params, "n_samples"):
            search.estimator = self.estimator  # scikit-learn's error names its class
        return search

    @property
    def _last_epochs(self) -> tuple[int | None, int | None]:
        if self.resource != f"{get_prefix(self.estimator.estimator)}max_iter":
            return None, None
        # The number of rounds, as scikit-learn computes it.
        power = floor(log(self.max_resources_ // self.min_resources_, self.factor))
        if not self.aggressive_elimination:
            power = min(power, floor(log(self.n_candidates_[0], self.factor)))
        last_epoch = min(int(self.factor**power * self.min_resources_), self.max_resources_)
        return self.n_resources_[-1], last_epoch


@with_constructor(sklearn.model_selection.HalvingGridSearchCV, resource="max_iter")
class BackpropHalvingGridSearchCV(StackedHalvingMixin, sklearn.model_selection.HalvingGridSearchCV):
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
    scoring : str, callable or None, default=None
        The name of a metric, or a callable ``scorer(estimator, X, y)``. None for the estimator's
        `score`.
    refit : bool, default=True
        Whether to fit the best candidate of the last round to all data at the end. A callable
        counts as True, as in scikit-learn.
    error_score : "raise" or float, default=np.nan
        The score of a candidate whose `fit` or scorer fails. With "raise", the search raises the
        error.
    return_train_score : bool, default=True
        Whether to compute scores on the training rows as well, in each round.
    random_state : int, RandomState instance or None, default=None
        The seed for drawing rows, if they are the resource. The networks have their own
        `random_state`.
    n_jobs : int or None, default=None
        The number of jobs that train stacks, and then score candidates, in parallel. None for 1, or
        the number that a joblib context sets; -1 for all cores.
    verbose : int, default=0
        How much to print. 1: the rounds, the number of fits and of candidates that train in stacks,
        and every few seconds the epochs of a stack and the number of its networks that still train.
        From 2 on: also a line for each fit, as scikit-learn prints it.

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
        ``rank_test_score``, training scores if requested, and times. ``mean_fit_time`` is the
        candidate's share of the time of its stack in this round.
    best_estimator_ : estimator
        The best candidate of the last round, fitted to all data; only with ``refit``.
    best_score_ : float
        The mean test score of the best candidate in the last round.
    best_params_ : dict
        The parameters of the best candidate, with the last round's ``max_iter``.
    best_index_ : int
        The row of the best candidate in `cv_results_`.
    scorer_ : callable
        The scorer of the candidates.
    n_splits_ : int
        The number of splits.
    refit_time_ : float
        The time of the final fit to all data, in seconds; only with ``refit``.
    multimetric_ : bool
        False: a halving search has one metric, as in scikit-learn.
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
    changed because a transformer draws random numbers without a seed. scikit-learn scores the
    candidates and chooses the survivors.

    With an int ``random_state`` in the estimator, scores, ranks and choices equal those of
    scikit-learn's `HalvingGridSearchCV` to the bit, with one BLAS thread, for constant and adaptive
    schedules, and for schedules that count epochs or steps. Schedules over the whole training
    (cosine, one cycle, steps, exponential) are spread over the epochs of the last round, so each
    round runs a part of the schedule. scikit-learn's search runs a complete schedule in each round.
    A candidate that converges in a round does not change afterwards. `time_limit` of the estimator
    applies to the epochs of each round. Warnings about networks that have not converged come from
    the last round only.

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


@with_constructor(sklearn.model_selection.HalvingRandomSearchCV, resource="max_iter")
class BackpropHalvingRandomSearchCV(
    StackedHalvingMixin, sklearn.model_selection.HalvingRandomSearchCV
):
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
    scoring : str, callable or None, default=None
        The name of a metric, or a callable ``scorer(estimator, X, y)``. None for the estimator's
        `score`.
    refit : bool, default=True
        Whether to fit the best candidate of the last round to all data at the end. A callable
        counts as True, as in scikit-learn.
    error_score : "raise" or float, default=np.nan
        The score of a candidate whose `fit` or scorer fails. With "raise", the search raises the
        error.
    return_train_score : bool, default=True
        Whether to compute scores on the training rows as well, in each round.
    random_state : int, RandomState instance or None, default=None
        The seed for drawing candidates, and for drawing rows if they are the resource. The
        networks have their own `random_state`.
    n_jobs : int or None, default=None
        The number of jobs that train stacks, and then score candidates, in parallel. None for 1, or
        the number that a joblib context sets; -1 for all cores.
    verbose : int, default=0
        How much to print. 1: the rounds, the number of fits and of candidates that train in stacks,
        and every few seconds the epochs of a stack and the number of its networks that still train.
        From 2 on: also a line for each fit, as scikit-learn prints it.

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
        ``rank_test_score``, training scores if requested, and times. ``mean_fit_time`` is the
        candidate's share of the time of its stack in this round.
    best_estimator_ : estimator
        The best candidate of the last round, fitted to all data; only with ``refit``.
    best_score_ : float
        The mean test score of the best candidate in the last round.
    best_params_ : dict
        The parameters of the best candidate, with the last round's ``max_iter``.
    best_index_ : int
        The row of the best candidate in `cv_results_`.
    scorer_ : callable
        The scorer of the candidates.
    n_splits_ : int
        The number of splits.
    refit_time_ : float
        The time of the final fit to all data, in seconds; only with ``refit``.
    multimetric_ : bool
        False: a halving search has one metric, as in scikit-learn.
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
    changed because a transformer draws random numbers without a seed. scikit-learn scores the
    candidates and chooses the survivors.

    With an int ``random_state`` in the estimator, scores, ranks and choices equal those of
    scikit-learn's `HalvingRandomSearchCV` to the bit, with one BLAS thread, for constant and
    adaptive schedules, and for schedules that count epochs or steps. Schedules over the whole
    training (cosine, one cycle, steps, exponential) are spread over the epochs of the last round,
    so each round runs a part of the schedule. scikit-learn's search runs a complete schedule in
    each round. A candidate that converges in a round does not change afterwards. `time_limit` of
    the estimator applies to the epochs of each round. Warnings about networks that have not
    converged come from the last round only.

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
