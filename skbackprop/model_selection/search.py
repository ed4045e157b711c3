"""Grid and random search that train their candidates as stacks of networks."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from sklearn.model_selection import GridSearchCV, RandomizedSearchCV

from ._base import BatchedSearchCV


class BackpropGridSearchCV(GridSearchCV, BatchedSearchCV):
    """Grid search over networks, the candidates of which train as stacks.

    A drop-in for scikit-learn's `GridSearchCV`: the same parameters, attributes and scores. Its
    estimator is a `BackpropClassifier`, a `BackpropRegressor`, or a `Pipeline` that ends in one;
    any other works too, and gains nothing.

    Parameters
    ----------
    estimator : estimator
        What to search: each candidate is a clone of it.
    param_grid : dict or list of dict
        The values to try of each parameter, by name; all combinations of a dict's are tried.
    scoring : str, callable, list, tuple, dict or None, default=None
        What scores a candidate: the name of a metric, or ``scorer(estimator, X, y)``, or several
        of them (a list of names, a dict, or a callable that returns a dict). None means the
        estimator's own `score`.
    n_jobs : int or None, default=None
        The number of workers between which the stacks are shared out; None means 1 unless a
        joblib context says otherwise, -1 all cores.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate to all data in the end. With several metrics it is the
        name of the one that decides; a callable takes `cv_results_` and returns the index.
    cv : int, splitter, iterable or None, default=None
        The splits: a number of folds (stratified for classifiers), a splitter, or an iterable of
        (train, test) rows. None means 5 folds.
    verbose : int, default=0
        How much to print: from 1 the number of fits, why some train one by one, and the epochs
        and networks left of each stack every few seconds; from 2 the score of every fit; from 3
        every epoch.
    pre_dispatch : int or str, default="2*n_jobs"
        How many jobs joblib hands out ahead.
    error_score : "raise" or float, default=np.nan
        The score of a candidate where its `fit` fails; "raise" raises the error instead.
    return_train_score : bool, default=False
        Whether to score on the training rows as well.
    max_stack_bytes : int, default=2**28
        The memory that the arrays of one stack may take, in bytes, at least 1; a smaller bound
        makes smaller stacks, and does not change results.

    Attributes
    ----------
    cv_results_ : dict of arrays
        A row for each candidate: ``params``, ``param_*``, ``split*_test_score``,
        ``mean_test_score``, ``std_test_score``, ``rank_test_score``, the same of training scores
        if asked for, and times. With several metrics their names stand in the place of "score".
        ``mean_fit_time`` is the candidate's share of the time of its stack.
    best_estimator_ : estimator
        The best candidate, fitted to all data; only with ``refit``.
    best_score_ : float
        Its mean score on the test rows; absent where `refit` is a callable.
    best_params_ : dict
        Its parameters.
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
    BackpropRandomizedSearchCV : A search that draws its candidates.
    sklearn.model_selection.GridSearchCV : What it replaces.

    Notes
    -----
    Candidates train together, as many as the processor's cache takes, on one split or on several,
    where they differ in no more than the learning rate and its schedule, the penalty, momenta, the
    clipping of gradients, averages, seeds, tolerance and patience, and early stopping. All else
    they have to share, such as hidden sizes, activation, loss, solver, batch size, number of
    epochs and dtype. Other estimators, and ``solver="lbfgs"``, train one by one, with the same
    result.

    With an int ``random_state`` in the estimator the scores are those of scikit-learn's search,
    to the bit at one BLAS thread. A candidate fails exactly if its `fit` alone would fail.

    Transformers of a pipeline are fitted once for each split and each setting of their own
    parameters. One that draws random numbers without a seed therefore draws them once.

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
    """Random search over networks, the candidates of which train as stacks.

    A drop-in for scikit-learn's `RandomizedSearchCV`: the same parameters, attributes and scores.
    Its estimator is a `BackpropClassifier`, a `BackpropRegressor`, or a `Pipeline` that ends in
    one; any other works too, and gains nothing.

    Parameters
    ----------
    estimator : estimator
        What to search: each candidate is a clone of it.
    param_distributions : dict or list of dict
        What to draw each parameter from, by name: a list, or a distribution with a method
        ``rvs``. Of several dicts, one is drawn first.
    n_iter : int, default=10
        The number of candidates, at least 1.
    scoring : str, callable, list, tuple, dict or None, default=None
        What scores a candidate: the name of a metric, or ``scorer(estimator, X, y)``, or several
        of them (a list of names, a dict, or a callable that returns a dict). None means the
        estimator's own `score`.
    n_jobs : int or None, default=None
        The number of workers between which the stacks are shared out; None means 1 unless a
        joblib context says otherwise, -1 all cores.
    refit : bool, str or callable, default=True
        Whether to fit the best candidate to all data in the end. With several metrics it is the
        name of the one that decides; a callable takes `cv_results_` and returns the index.
    cv : int, splitter, iterable or None, default=None
        The splits: a number of folds (stratified for classifiers), a splitter, or an iterable of
        (train, test) rows. None means 5 folds.
    verbose : int, default=0
        How much to print: from 1 the number of fits, why some train one by one, and the epochs
        and networks left of each stack every few seconds; from 2 the score of every fit; from 3
        every epoch.
    pre_dispatch : int or str, default="2*n_jobs"
        How many jobs joblib hands out ahead.
    random_state : int, RandomState instance or None, default=None
        What draws the candidates; the networks have a seed of their own.
    error_score : "raise" or float, default=np.nan
        The score of a candidate where its `fit` fails; "raise" raises the error instead.
    return_train_score : bool, default=False
        Whether to score on the training rows as well.
    max_stack_bytes : int, default=2**28
        The memory that the arrays of one stack may take, in bytes, at least 1; a smaller bound
        makes smaller stacks, and does not change results.

    Attributes
    ----------
    cv_results_ : dict of arrays
        A row for each candidate: ``params``, ``param_*``, ``split*_test_score``,
        ``mean_test_score``, ``std_test_score``, ``rank_test_score``, the same of training scores
        if asked for, and times. With several metrics their names stand in the place of "score".
        ``mean_fit_time`` is the candidate's share of the time of its stack.
    best_estimator_ : estimator
        The best candidate, fitted to all data; only with ``refit``.
    best_score_ : float
        Its mean score on the test rows; absent where `refit` is a callable.
    best_params_ : dict
        Its parameters.
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
    BackpropGridSearchCV : A search of all combinations.
    sklearn.model_selection.RandomizedSearchCV : What it replaces.

    Notes
    -----
    Candidates train together, as many as the processor's cache takes, on one split or on several,
    where they differ in no more than the learning rate and its schedule, the penalty, momenta, the
    clipping of gradients, averages, seeds, tolerance and patience, and early stopping. All else
    they have to share, such as hidden sizes, activation, loss, solver, batch size, number of
    epochs and dtype. Other estimators, and ``solver="lbfgs"``, train one by one, with the same
    result.

    With an int ``random_state`` in the estimator the scores are those of scikit-learn's search,
    to the bit at one BLAS thread. A candidate fails exactly if its `fit` alone would fail.

    Transformers of a pipeline are fitted once for each split and each setting of their own
    parameters. One that draws random numbers without a seed therefore draws them once.

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
