"""Grid and random search that drop the losers early, and let the others go on."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from .._sklearn import HalvingGridSearchCV, HalvingRandomSearchCV
from ._successive_halving import BatchedSuccessiveHalving


class BackpropHalvingGridSearchCV(BatchedSuccessiveHalving, HalvingGridSearchCV):
    """Grid search in rounds: all candidates for some epochs, the best for more, and so on.

    A drop-in for scikit-learn's `HalvingGridSearchCV`: the same parameters, attributes and
    choices, but that its resource is epochs unless told otherwise, and that candidates go on from
    round to round. Its estimator is a `BackpropClassifier`, a `BackpropRegressor`, or a `Pipeline`
    that ends in one; any other works too, and gains nothing.

    Parameters
    ----------
    estimator : estimator
        What to search: each candidate is a clone of it.
    param_grid : dict or list of dict
        The values to try of each parameter, by name; all combinations of a dict's are tried. The
        resource is no part of it.
    factor : int or float, default=3
        What decides who goes on: one of so many candidates, each with so many times the
        resources; above 1.
    resource : str, default="max_iter"
        What a round gives its candidates: ``"max_iter"``, epochs, in which they go on from where
        the last round has left them; ``"n_samples"``, rows; or any parameter that is a positive
        integer. Of the last two each round begins anew. The network of a pipeline is found: there
        is no need for ``"backpropclassifier__max_iter"``.
    max_resources : "auto" or int, default="auto"
        The most that a candidate is given, at least 1; "auto" is the estimator's own ``max_iter``,
        or all rows.
    min_resources : {"exhaust", "smallest"} or int, default="exhaust"
        What the first round gives a candidate, at least 1. "smallest" is one epoch, or, of rows,
        two for each split and class; "exhaust" is as many as let the last round use
        `max_resources`.
    aggressive_elimination : bool, default=False
        Whether rounds with `min_resources` are repeated until so few candidates are left that the
        last round has less than `factor` of them, where `max_resources` would not allow for it.
    cv : int, splitter or iterable, default=5
        The splits: a number of folds (stratified for classifiers), a splitter that always returns
        the same ones, or an iterable of (train, test) rows.
    scoring : str, callable, list, tuple, dict or None, default=None
        What scores a candidate: the name of a metric, or ``scorer(estimator, X, y)``, or several
        of them (a list of names, a dict, or a callable that returns a dict). None means the
        estimator's own `score`.
    refit : bool or str, default=True
        Whether to fit the best candidate of the last round to all data in the end. With several
        metrics it is the name of the one that decides, in each round. A callable is taken for
        True, as in scikit-learn.
    error_score : "raise" or float, default=np.nan
        The score of a candidate where its `fit` fails; "raise" raises the error instead.
    return_train_score : bool, default=True
        Whether to score on the training rows as well, which takes its time in each round.
    random_state : int, RandomState instance or None, default=None
        What draws the rows, where these are the resource; the networks have a seed of their own.
    n_jobs : int or None, default=None
        The number of workers between which the stacks are shared out; None means 1 unless a
        joblib context says otherwise, -1 all cores.
    verbose : int, default=0
        How much to print: from 1 the rounds, the number of fits, why some train one by one, and
        the epochs and networks left of each stack every few seconds; from 2 the score of every
        fit; from 3 every epoch.
    max_stack_bytes : int, default=2**28
        The memory that the arrays of one stack may take, in bytes, at least 1; a smaller bound
        makes smaller stacks, and does not change results.

    Attributes
    ----------
    n_resources_ : list of int
        What each round has given a candidate: the epochs since the beginning, or the rows.
    n_candidates_ : list of int
        The candidates of each round.
    n_remaining_candidates_ : int
        Those that would go on after the last.
    n_iterations_ : int
        The number of rounds.
    n_possible_iterations_, n_required_iterations_ : int
        The rounds that `max_resources` allows for, and those that leave less than `factor`
        candidates in the last.
    max_resources_, min_resources_ : int
        The most that a candidate is given, and what the first round gives.
    cv_results_ : dict of arrays
        A row for each candidate of each round: ``iter``, the round, ``n_resources``, ``params``,
        ``param_*``, ``split*_test_score``, ``mean_test_score``, ``std_test_score``,
        ``rank_test_score``, the same of training scores if asked for, and times. With several
        metrics their names stand in the place of "score". ``mean_fit_time`` is the candidate's
        share of the time of its stack, in this round.
    best_estimator_ : estimator
        The best candidate of the last round, fitted to all data; only with ``refit``.
    best_score_ : float
        Its mean score on the test rows, in the last round.
    best_params_ : dict
        Its parameters, with the last round's ``max_iter``.
    best_index_ : int
        Its row in `cv_results_`.
    scorer_ : callable or dict
        What scored the candidates.
    n_splits_ : int
        The number of splits.
    refit_time_ : float
        The seconds of the last fit, to all data; only with ``refit``.
    multimetric_ : bool
        Whether there were several metrics.
    classes_ : array of shape (n_classes,), or list of such arrays
        The labels, where the best estimator is a classifier.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the features, where X had names that are all strings.

    See Also
    --------
    BackpropHalvingRandomSearchCV : The same with candidates that are drawn.
    BackpropGridSearchCV : The search that trains all to the end.
    sklearn.model_selection.HalvingGridSearchCV : What it replaces.

    Notes
    -----
    Round i trains ceil(n / factor^i) of n candidates up to epoch min_resources * factor^i, so that
    each round costs about as much as the first. The candidates of a split train in stacks; at the
    end of a round each is scored as it stands, and the best 1 / factor of them by their mean score
    over all splits go on with the very weights, moments, order of rows and patience that they
    have. Nothing is trained twice, but for what cannot go on: other estimators, ``solver="lbfgs"``
    and candidates with callbacks of their own begin anew in each round, as do those whose rows have
    changed, since a transformer has drawn other random numbers.

    With an int ``random_state`` in the estimator, scores, ranks and choices are those of
    scikit-learn's `HalvingGridSearchCV`, to the bit at one BLAS thread, wherever so many epochs
    and then more are the same as all of them at once: with constant, adaptive and all other
    schedules that count epochs or steps. Schedules over the whole of training (cosine, one cycle,
    steps, exponential) count progress towards the last round's epochs, so that a round
    is the beginning of the very training that the survivors go through; scikit-learn's goes through
    a whole schedule of its own in each round. A candidate that converges in a round stays what it
    is. `time_limit` is for the epochs of each round. That a network has not converged is said of
    the last round only.

    Ctrl-C leaves what the complete rounds have found in `cv_results_`, `best_params_` and the
    others, without a `best_estimator_`.

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
    """Random search in rounds: all candidates for some epochs, the best for more, and so on.

    A drop-in for scikit-learn's `HalvingRandomSearchCV`: the same parameters, attributes and
    choices, but that its resource is epochs unless told otherwise, and that candidates go on from
    round to round. Its estimator is a `BackpropClassifier`, a `BackpropRegressor`, or a `Pipeline`
    that ends in one; any other works too, and gains nothing.

    Parameters
    ----------
    estimator : estimator
        What to search: each candidate is a clone of it.
    param_distributions : dict or list of dict
        What to draw each parameter from, by name: a list, or a distribution with a method
        ``rvs``. Of several dicts, one is drawn first. The resource is no part of it.
    n_candidates : "exhaust" or int, default="exhaust"
        The candidates of the first round, at least 1; "exhaust" draws as many as let the last
        round use `max_resources`: ``max_resources // min_resources``.
    factor : int or float, default=3
        What decides who goes on: one of so many candidates, each with so many times the
        resources; above 1.
    resource : str, default="max_iter"
        What a round gives its candidates: ``"max_iter"``, epochs, in which they go on from where
        the last round has left them; ``"n_samples"``, rows; or any parameter that is a positive
        integer. Of the last two each round begins anew. The network of a pipeline is found: there
        is no need for ``"backpropclassifier__max_iter"``.
    max_resources : "auto" or int, default="auto"
        The most that a candidate is given, at least 1; "auto" is the estimator's own ``max_iter``,
        or all rows.
    min_resources : {"exhaust", "smallest"} or int, default="smallest"
        What the first round gives a candidate, at least 1. "smallest" is one epoch, or, of rows,
        two for each split and class; "exhaust" is as many as let the last round use
        `max_resources`, and not for ``n_candidates="exhaust"``.
    aggressive_elimination : bool, default=False
        Whether rounds with `min_resources` are repeated until so few candidates are left that the
        last round has less than `factor` of them, where `max_resources` would not allow for it.
    cv : int, splitter or iterable, default=5
        The splits: a number of folds (stratified for classifiers), a splitter that always returns
        the same ones, or an iterable of (train, test) rows.
    scoring : str, callable, list, tuple, dict or None, default=None
        What scores a candidate: the name of a metric, or ``scorer(estimator, X, y)``, or several
        of them (a list of names, a dict, or a callable that returns a dict). None means the
        estimator's own `score`.
    refit : bool or str, default=True
        Whether to fit the best candidate of the last round to all data in the end. With several
        metrics it is the name of the one that decides, in each round. A callable is taken for
        True, as in scikit-learn.
    error_score : "raise" or float, default=np.nan
        The score of a candidate where its `fit` fails; "raise" raises the error instead.
    return_train_score : bool, default=True
        Whether to score on the training rows as well, which takes its time in each round.
    random_state : int, RandomState instance or None, default=None
        What draws the candidates, and the rows where these are the resource; the networks have a
        seed of their own.
    n_jobs : int or None, default=None
        The number of workers between which the stacks are shared out; None means 1 unless a
        joblib context says otherwise, -1 all cores.
    verbose : int, default=0
        How much to print: from 1 the rounds, the number of fits, why some train one by one, and
        the epochs and networks left of each stack every few seconds; from 2 the score of every
        fit; from 3 every epoch.
    max_stack_bytes : int, default=2**28
        The memory that the arrays of one stack may take, in bytes, at least 1; a smaller bound
        makes smaller stacks, and does not change results.

    Attributes
    ----------
    n_resources_ : list of int
        What each round has given a candidate: the epochs since the beginning, or the rows.
    n_candidates_ : list of int
        The candidates of each round.
    n_remaining_candidates_ : int
        Those that would go on after the last.
    n_iterations_ : int
        The number of rounds.
    n_possible_iterations_, n_required_iterations_ : int
        The rounds that `max_resources` allows for, and those that leave less than `factor`
        candidates in the last.
    max_resources_, min_resources_ : int
        The most that a candidate is given, and what the first round gives.
    cv_results_ : dict of arrays
        A row for each candidate of each round: ``iter``, the round, ``n_resources``, ``params``,
        ``param_*``, ``split*_test_score``, ``mean_test_score``, ``std_test_score``,
        ``rank_test_score``, the same of training scores if asked for, and times. With several
        metrics their names stand in the place of "score". ``mean_fit_time`` is the candidate's
        share of the time of its stack, in this round.
    best_estimator_ : estimator
        The best candidate of the last round, fitted to all data; only with ``refit``.
    best_score_ : float
        Its mean score on the test rows, in the last round.
    best_params_ : dict
        Its parameters, with the last round's ``max_iter``.
    best_index_ : int
        Its row in `cv_results_`.
    scorer_ : callable or dict
        What scored the candidates.
    n_splits_ : int
        The number of splits.
    refit_time_ : float
        The seconds of the last fit, to all data; only with ``refit``.
    multimetric_ : bool
        Whether there were several metrics.
    classes_ : array of shape (n_classes,), or list of such arrays
        The labels, where the best estimator is a classifier.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the features, where X had names that are all strings.

    See Also
    --------
    BackpropHalvingGridSearchCV : The same over all combinations.
    BackpropRandomizedSearchCV : The search that trains all to the end.
    sklearn.model_selection.HalvingRandomSearchCV : What it replaces.

    Notes
    -----
    Round i trains ceil(n / factor^i) of n candidates up to epoch min_resources * factor^i, so that
    each round costs about as much as the first. The candidates of a split train in stacks; at the
    end of a round each is scored as it stands, and the best 1 / factor of them by their mean score
    over all splits go on with the very weights, moments, order of rows and patience that they
    have. Nothing is trained twice, but for what cannot go on: other estimators, ``solver="lbfgs"``
    and candidates with callbacks of their own begin anew in each round, as do those whose rows have
    changed, since a transformer has drawn other random numbers.

    With an int ``random_state`` in the estimator, scores, ranks and choices are those of
    scikit-learn's `HalvingRandomSearchCV`, to the bit at one BLAS thread, wherever so many epochs
    and then more are the same as all of them at once: with constant, adaptive and all other
    schedules that count epochs or steps. Schedules over the whole of training (cosine, one cycle,
    steps, exponential) count progress towards the last round's epochs, so that a round
    is the beginning of the very training that the survivors go through; scikit-learn's goes through
    a whole schedule of its own in each round. A candidate that converges in a round stays what it
    is. `time_limit` is for the epochs of each round. That a network has not converged is said of
    the last round only.

    Ctrl-C leaves what the complete rounds have found in `cv_results_`, `best_params_` and the
    others, without a `best_estimator_`.

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
