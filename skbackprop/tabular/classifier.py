"""TabularClassifier: labels and calibrated probabilities for raw tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from .._sklearn import StrOptions
from ..estimators.conformity_scores import LABEL_SCORES, LabelScores, check_coverage
from ..estimators.explanation import Explanation, output_transform
from ..nn.rows import Rows
from ..training.checks import validate_labels, validate_weight
from ..training.class_weight import (
    ClassWeight,
    compute_class_weight,
    compute_sample_weight,
    validate_class_weight,
)
from ..training.diagnostics import warn
from ..training.targets import encode_labels, labels_to_array
from ..utils.arrays import Array, ColumnKinds, Columns, MatrixLike, MonotonicCst, TableLike
from ._blended_estimators import resolve_blend
from ._ensemble_weights import (
    average_probabilities,
    compute_probabilities,
    fit_class_shifts,
    fit_softmax_temperature,
    mixture_weights_nll,
    safe_log,
)
from ._networks import FOR_CLASSES, EnsembleSettings, OutputBiasInit, TabularClassifierNetworks
from ._prediction import apply_scorer
from .base import BaseTabular, split_held_out


class TabularClassifier(ClassifierMixin, BaseTabular):
    """Classifier for raw tables with calibrated probabilities: networks and boosting.

    Tables may have numbers, booleans, categories and strings, of any scale, with missing values.
    There are two ensembles of `n_estimators` networks. The networks of the first ensemble get
    cosines and piecewise-linear bins of each number, which a trained layer maps to a few inputs
    [1]_. The networks of the second ensemble get scaled numbers only; above 60,000 rows there is no
    second ensemble. Each network holds out one fold. Networks are trained in cycles. In each cycle
    the learning rate decays to zero [2]_. Training ends when a cycle no longer lowers the
    out-of-fold loss enough. Gradient boosting is trained on the same folds. On out-of-fold
    predictions, `fit` calibrates each ensemble and boosting by a temperature [3]_, and chooses
    their weights by maximum likelihood. Then the log probability of each class is shifted, so that
    its mean is nearer to the frequency of the class [4]_; of rare classes it is too low otherwise.
    The defaults work well for tables of many kinds, so nothing has to be tuned. With
    `monotonic_cst`, half of the hidden units of each network see the columns with a constraint, and
    are monotone [5]_.

    Parameters
    ----------
    n_estimators : int or "auto", default="auto"
        The number of networks of each ensemble, which is also the number of folds; at least 2, and
        at most the number of rows. Fewer networks are faster and somewhat worse. "auto": 8, or 4
        above 200,000 rows.
    categorical_features : array-like of bool, int or str, "from_dtype" or None, \
            default="from_dtype"
        The categorical columns, as in `TableEncoder`: a mask, positions or names; None for no
        categorical columns. "from_dtype": columns with a categorical dtype or strings, unless the
        strings are numbers, dates or text.
    column_kinds : dict or None, default=None
        The kind of each column, as in `TableEncoder`, by its name or position: "number",
        "category", "text", "date", "time" or "duration". None infers them from dtypes and values,
        and a warning names columns that may be misread.
    monotonic_cst : array-like of int, dict or None, default=None
        The columns in which the probability of ``classes_[1]`` is monotone, with the values of
        `HistGradientBoostingClassifier`: 1 if it must not fall when the number rises, -1 if it
        must not rise, 0 for no constraint. An array has a value for each column, a dict maps names
        or positions of columns to values. For columns of numbers, booleans and durations, and for
        two classes. Boosting has the same constraints, and `blend` must hold no other estimators.
        None for no constraints.
    class_weight : dict, "balanced" or None, default=None
        The weight of each class, which multiplies the weights of its rows. "balanced" gives all
        classes the same total weight. None for the weight 1. Class weights shift the predicted
        probabilities to the weighted class frequencies.
    blend : "auto", "boosting", list of estimators or None, default="auto"
        Classifiers that are averaged with the networks. Each classifier is cloned, trained on the
        same folds, and weighted by its out-of-fold predictions. It needs ``predict_proba``.
        "boosting" is a `HistGradientBoostingClassifier` (learning rate 0.15, 16 leaves, half of the
        columns for each split, at most 1,000 iterations, early stopping by the held-out fold).
        "auto" is "boosting" for 500 rows or more, and None for fewer rows. Above 60,000 rows,
        "auto" drops boosting if it lowers the out-of-fold loss by less than 2 %, because boosting
        predicts slowly. A list has classifiers, and may also have "boosting". Every
        `HistGradientBoostingClassifier` gets numbers with missing values, and codes of categories.
        Other classifiers get the outputs of a `TableEncoder` in float64. All get sample weights if
        they support them, and a seed for each ``random_state`` that is None. None for networks
        only, which are smaller and faster.
    max_iter : int or None, default=None
        The maximum number of epochs of a network. None lets `fit` choose a number up to 248.
    time_limit : float or None, default=None
        The maximum number of seconds of `fit`; None for no limit. With a short limit, `fit` trains
        fewer networks (at least 2) and fewer training cycles, and leaves out estimators of `blend`,
        each with a ConvergenceWarning.
    n_jobs : int, "auto" or None, default="auto"
        The number of processes in which `fit` trains networks and the estimators of `blend`, with
        the same results. "auto": one for each core once training takes longer than starting them;
        a single one inside of other jobs of joblib, threads and daemons, or where memory is short.
        -1 for one on each core from the start. None means 1, or what a ``joblib.parallel_config``
        says, whose backend is used. With callbacks that watch epochs, such as ``ProgressBar``,
        networks are trained in this process.
    verbose : bool or int, default=False
        Whether to print a line for each column, with its kind, the reason, missing values and
        levels, and one after each training cycle of each ensemble, with its validation loss.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial weights, folds, frequencies of cosines and the order of rows.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The labels, sorted.
    oof_predict_proba_ : array of shape (n_samples, n_classes)
        The out-of-fold probabilities of the training rows. After a fit with X_val, there are no
        attributes that begin with ``oof_``.
    oof_prediction_ : array of shape (n_samples,)
        The out-of-fold labels of the training rows.
    oof_score_ : float
        The accuracy of `oof_prediction_`, weighted by `sample_weight`: an estimate of `score` on
        new rows.
    networks_ : list of estimators
        The ensembles, each a fitted `BackpropClassifier` for encoded rows.
    oof_member_ : array of int of shape (n_samples,)
        The network of each ensemble that held out each row.
    blended_ : list of lists of estimators
        For each estimator of `blend`, a list of its clones, one for each fold; after a fit with
        X_val, a list of a single clone. Estimators that exceeded the time limit are missing.
    weights_ : array of shape (n_ensembles + n_blended,)
        The weights in predictions: first of each ensemble of `networks_`, then of each estimator of
        `blended_`. The sum is one.
    temperatures_ : array of shape (n_ensembles + n_blended,)
        The temperatures, in the order of `weights_`, that divide the logits of out-of-fold
        predictions. Averages of several networks are less confident, so `predict_proba` divides
        their logits by the square root of temperatures above one.
    background_ : tuple of arrays or None
        The encoded training rows that `explain` compares with: numbers, and codes of categories. If
        saved files must not hold training rows, set it to None before saving.
    n_iter_ : array of int of shape (n_ensembles, n_estimators)
        The number of epochs of each network.
    column_kinds_ : dict
        The kind of each column, by name, or by position if columns have no names: "number",
        "category", "text", "date", "time" or "duration".
    n_features_in_ : int
        The number of columns.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the columns, if all names are strings.

    See Also
    --------
    TabularRegressor : The regressor.
    ConformalClassifier : Sets of labels for any classifier.
    TableEncoder : Encode raw tables for other estimators.

    References
    ----------
    .. [1] Gorishniy, Rubachev & Babenko, "On embeddings for numerical features in tabular deep
       learning", NeurIPS 2022.
    .. [2] Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.
    .. [3] Guo, Pleiss, Sun & Weinberger, "On calibration of modern neural networks", ICML 2017.
    .. [4] Thompson, "Some shrinkage techniques for estimating the mean", Journal of the American
       Statistical Association 63, 1968.
    .. [5] Sartor, Sinigaglia & Susto, "Advancing constrained monotonic neural networks: achieving
       universal approximation beyond bounded activations", ICML 2025.

    Examples
    --------
    >>> import pandas as pd
    >>> from skbackprop import TabularClassifier
    >>> table = pd.DataFrame(
    ...     {
    ...         "age": [20.0, 31.0, None, 50.0, 42.0, 23.0] * 5,
    ...         "city": ["Bern", "Oslo", "Rome", "Oslo", None, "Bern"] * 5,
    ...     }
    ... )
    >>> buys = ["no", "yes", "yes", "yes", "yes", "no"] * 5
    >>> model = TabularClassifier(n_estimators=3, random_state=0).fit(table, buys)
    >>> model.predict(pd.DataFrame({"age": [21.0, 48.0], "city": ["Bern", "Oslo"]}))
    array(['no', 'yes'], dtype='<U3')
    >>> model.oof_predict_proba_.shape
    (30, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseTabular._parameter_constraints,
        "class_weight": [StrOptions({"balanced"}), dict, None],
    }
    _configurations: ClassVar[Sequence[EnsembleSettings]] = FOR_CLASSES
    _class_weights: Array | None  # the weight of each class

    def __init__(
        self,
        n_estimators: int | str = "auto",
        *,
        categorical_features: Columns = "from_dtype",
        column_kinds: ColumnKinds = None,
        monotonic_cst: MonotonicCst = None,
        class_weight: ClassWeight | None = None,
        blend: Literal["auto", "boosting"] | list[Any] | tuple[Any, ...] | None = "auto",
        max_iter: int | None = None,
        time_limit: float | None = None,
        n_jobs: int | Literal["auto"] | None = "auto",
        verbose: bool | int = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.categorical_features = categorical_features
        self.column_kinds = column_kinds
        self.monotonic_cst = monotonic_cst
        self.class_weight = class_weight
        self.blend = blend
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.random_state = random_state

    @property
    def _target_type(self) -> str | None:
        return {1: None, 2: "binary"}.get(len(self.classes_), "multiclass")

    def _fit_targets(self, y: Array, weight: Array | None) -> None:
        self.classes_ = np.unique(labels_to_array(y, "y"))
        if len(self.classes_) == 1:
            warn(
                f"y contains only the class {self.classes_.tolist()[0]!r}, so it is predicted for "
                "all rows, with a probability of 1. Pass rows of other classes as well.",
                UserWarning,
            )
        if self.monotonic_cst is not None and len(self.classes_) > 2:
            raise ValueError(
                f"monotonic_cst needs two classes, got {len(self.classes_)}: where a column favors "
                "one class, the probabilities of the others may rise or fall. Set it to None, or "
                "fit a classifier of one class against the rest."
            )
        self._class_weights = None
        if self.class_weight is not None:
            class_weight = validate_class_weight(self.class_weight)
            codes = encode_labels(y, self.classes_)[:, None]
            labels = self.classes_, codes, weight
            compute_sample_weight(class_weight, *labels)  # raises if no row has weight
            self._class_weights = compute_class_weight(class_weight, *labels)[0]

    @staticmethod
    def _validate_targets(y: Any, sample_weight: Any, X: Any) -> tuple[Array, Array | None]:
        labels = validate_labels(y)
        check_consistent_length(X, labels)
        return labels, validate_weight(sample_weight, X)

    def _encode_targets(self, y: Array) -> Array:
        return encode_labels(y, self.classes_)

    def _training_weight(self, y: Array, weight: Array | None) -> Array | None:
        if self._class_weights is None:
            return weight
        class_weights = self._class_weights[y]
        return class_weights if weight is None else weight * class_weights

    def _blended_estimators(self, n_rows: int) -> list[Any]:
        blended = resolve_blend(self.blend, n_rows)
        return blended if len(self.classes_) > 1 else []

    def _make_networks(self, params: dict[str, Any], rows: Rows) -> Any:
        shares = np.bincount(rows.y, rows.weight, len(self.classes_))
        # A class without weight counts as half a row.
        prior = np.log(np.maximum(shares, 0.5 * shares.sum() / len(rows.y)))
        if len(prior) <= 2:
            prior = np.array([prior[-1] - prior[0]])
        return TabularClassifierNetworks(**params, init=OutputBiasInit(tuple(prior.tolist())))

    def _fit_mixture(self, outputs: Sequence[Array], y: Array, weight: Array | None) -> Array:
        self.temperatures_ = np.array(
            [fit_softmax_temperature(logits, y, weight)[0] for logits in outputs]
        )
        pairs = zip(outputs, self.temperatures_, strict=True)
        probabilities = np.array([average_probabilities(*pair) for pair in pairs])
        self.weights_ = mixture_weights_nll(probabilities[:, np.arange(len(y)), y], weight)
        mixture = np.tensordot(self.weights_, probabilities, 1)
        self._last_temperature, _ = fit_softmax_temperature(safe_log(mixture), y, weight)
        # Averages of several networks, which predict new rows, have another temperature than one.
        calibrated = [self._rescale(self._average(outputs, n)) for n in (1, 2)]
        self._class_shifts = np.array([fit_class_shifts(p, y, weight) for p in calibrated])
        return self._mix(outputs)

    def _mixture_loss(self, mixture: Array, y: Array, weight: Array | None) -> float:
        return -float(np.average(safe_log(mixture[np.arange(len(y)), y]), weights=weight))

    def _mix(self, outputs: Sequence[Array]) -> Array:
        """Return calibrated probabilities, with the shifts of single networks or of several."""
        shifts = self._class_shifts[int(max(map(len, outputs)) > 1)]
        return self._rescale(self._average(outputs), shifts)

    def _average(self, outputs: Sequence[Array], n_networks: int | None = None) -> Array:
        pairs = zip(outputs, self.temperatures_, strict=True)
        averages = (average_probabilities(*pair, n_networks) for pair in pairs)
        return np.asarray(sum(map(np.multiply, self.weights_, averages)))

    def _rescale(self, mixture: Array, shifts: Array | float = 0.0) -> Array:
        if len(self.classes_) == 1:
            return np.ones((len(mixture), 1))
        return compute_probabilities(safe_log(mixture) / self._last_temperature + shifts)

    def _fit_conformity(self, mixture: Array, rows: Rows, folds: Array | None) -> None:
        held_out = split_held_out(len(rows.y), rows.weight, folds)
        parts = [(mixture[fold], rows.y[fold]) for fold in held_out]
        self._label_scores = {kind: LabelScores.fit(kind, parts) for kind in LABEL_SCORES}

    def _set_out_of_fold(self, mixture: Array, y: Array, weight: Array | None) -> None:
        self.oof_predict_proba_ = mixture
        self.oof_prediction_ = self.classes_[mixture.argmax(axis=1)]
        self.oof_score_ = self._score_predictions(y, mixture, weight)

    def _is_out_of_fold(self, mixture: Array) -> bool:
        return np.allclose(mixture, self.oof_predict_proba_, rtol=0.01, atol=0.01)

    def _score_predictions(
        self, y: Array, mixture: Array, weight: Array | None, scoring: Any = None
    ) -> float:
        scoring = "accuracy" if scoring is None else scoring
        return apply_scorer(scoring, mixture, self.classes_, self.classes_[y], weight)

    # ------------------------------------------------------------------ prediction

    def predict(self, X: TableLike) -> Array:
        """Predict the most probable label of each row.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The table. A dict or a Series is one row, and a list of dicts several rows.

        Returns
        -------
        y : array of shape (n_samples,)
            The labels.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError, TypeError
            If the columns of X are not those of `fit`, or a numeric column of `fit` is not numeric
            in X.
        """
        codes = self._predict(X, self._mix).argmax(axis=1)
        return np.asarray(self.classes_[codes])

    def predict_proba(self, X: TableLike) -> Array:
        """Predict the probability of each class.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The table. A dict or a Series is one row, and a list of dicts several rows.

        Returns
        -------
        probabilities : array of shape (n_samples, n_classes)
            Columns are in the order of ``classes_``. The sum of each row is one.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError, TypeError
            If the columns of X are not those of `fit`, or a numeric column of `fit` is not numeric
            in X.
        """
        return self._predict(X, self._mix)

    def predict_set(
        self,
        X: TableLike,
        coverage: float = 0.9,
        conformity_score: Literal["lac", "aps"] = "lac",
        by_class: bool = False,
    ) -> Array:
        """Return sets of labels that contain the label with a given probability, by CV+.

        CV+ (Romano et al. 2020, section 2.3): each training row i was held out by one network k(i),
        whose probabilities give the score s_i of its label. The set of a new row contains a label
        if fewer than ``ceil((n + 1) coverage)`` of the n scores s_i are smaller than the score of
        the label for the new row by network k(i). Probabilities on both sides are those of single
        networks, so it does not matter that `predict_proba` averages several.

        For new rows of the same distribution, the coverage is at least ``1 - 2 (1 - coverage)`` for
        any networks, minus a term below ``sqrt(2 / n)``, and typically close to `coverage`. After a
        fit with groups, this coverage holds for rows of new groups. After a fit with X_val, the
        method is split conformal prediction, with scores of the whole ensemble on X_val.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The table. A dict or a Series is one row, and a list of dicts several rows.
        coverage : float, default=0.9
            The share of rows whose set should contain their label, in (0, 1).
        conformity_score : {"lac", "aps"}, default="lac"
            The score of a label, as in `ConformalClassifier`. "lac": one minus its probability, for
            the smallest sets on average, which may be empty (Sadinle et al. 2019). "aps": the sum
            of the probabilities of all more probable labels, for sets that contain the most
            probable label if networks agree on it, and more labels where they are unsure.
        by_class : bool, default=False
            Whether each class has its own coverage, so rare classes are covered as often as common
            ones. A class with fewer than ``coverage / (1 - coverage)`` rows is in every set.

        Returns
        -------
        sets : bool array of shape (n_samples, n_classes)
            Whether the set of each row contains each label of ``classes_``.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If an argument is not valid, or there are fewer than ``coverage / (1 - coverage)``
            training rows (after a fit with X_val, rows of X_val): 9 for 0.9, 19 for 0.95.
        ValueError, TypeError
            If the columns of X are not those of `fit`, or a numeric column of `fit` is not numeric
            in X.

        Notes
        -----
        Sample weights and class weights affect training only. Each score counts once, but rows with
        weight zero are left out.

        References
        ----------
        Romano, Y., Sesia, M. & Candès, E. (2020). Classification with valid and adaptive coverage.
        NeurIPS.

        Sadinle, M., Lei, J. & Wasserman, L. (2019). Least ambiguous set-valued classifiers with
        bounded error levels. JASA 114(525), 223-234.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skbackprop import TabularClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> model = TabularClassifier(n_estimators=3, random_state=0).fit(X[::2], y[::2])
        >>> sets = model.predict_set(X[1::2], coverage=0.9)
        >>> bool(sets[range(75), y[1::2]].mean() > 0.8)
        True
        """
        check_is_fitted(self)
        if conformity_score not in LABEL_SCORES:
            raise ValueError(
                f"conformity_score must be one of {LABEL_SCORES}, got {conformity_score!r}."
            )
        scores = self._label_scores[conformity_score]
        check_coverage(coverage, scores.n_rows)

        def sets(outputs: Sequence[Array]) -> Array:
            # Member k of each component held out fold k; without folds, all members count.
            n_folds = len(scores.held_out)
            by_fold = zip(*(np.array_split(part, n_folds) for part in outputs), strict=True)
            probabilities = np.stack([self._mix(members) for members in by_fold])
            return scores.predict_sets(probabilities, coverage, by_class)

        return self._predict(X, sets)

    @property
    def predict_interval(self) -> NoReturn:
        """Not available for labels, see `predict_set`."""
        raise AttributeError(
            f"{type(self).__name__} has no predict_interval, which is for numbers. For sets of "
            "labels, use predict_set(X, coverage)."
        )

    def explain(
        self,
        X: TableLike,
        *,
        output: Literal["probability", "log_odds"] = "probability",
        background: MatrixLike | None = None,
        n_permutations: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> Explanation:
        """Explain each prediction by the contribution of each column.

        The contributions are interventional Shapley values [1]_ of the whole model: for each class,
        they sum to its output minus the mean output of the background. The contribution of a column
        is the mean change of the output when its value replaces that of a background row, over all
        orders in which columns are replaced. Columns are those of the table, not of its encoding.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The rows to explain.
        output : {"probability", "log_odds"}, default="probability"
            The output that is explained: the probability p of each class, as in `predict_proba`, or
            log(p / (1 - p)). Log-odds distinguish 0.99 from 0.999 better.
        background : data frame, array-like or sparse matrix, default=None
            Rows to compare with; of more than 100 rows, a random sample of 100. None for the 100
            training rows that `fit` keeps. With more than 1,000 columns there are fewer rows.
        n_permutations : int, default=None
            The number of random orders for each background row. Every second order is the reverse
            of the previous one [2]_. None computes exact values for up to 6 columns, and draws 1
            order for more columns. The time is proportional to the number of orders. Even numbers
            give exact values if columns interact only in pairs.
        random_state : int, RandomState instance or None, default=0
            Seed of the orders.

        Returns
        -------
        explanation : Explanation
            Its ``values`` have the shape (n_samples, n_features, n_classes).

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError, TypeError
            If an argument is not valid, or the columns of the table are not those of `fit`.

        References
        ----------
        .. [1] Janzing, Minorics & Bloebaum, "Feature relevance quantification in explainable AI: a
           causal problem", AISTATS 2020.
        .. [2] Mitchell, Cooper, Frank & Holmes, "Sampling permutations for Shapley value
           estimation", Journal of Machine Learning Research 23(43), 2022.

        Examples
        --------
        >>> from sklearn.datasets import load_iris
        >>> from skbackprop import TabularClassifier
        >>> X, y = load_iris(return_X_y=True, as_frame=True)
        >>> model = TabularClassifier(n_estimators=2, max_iter=5, random_state=0).fit(X, y)
        >>> explanation = model.explain(X[:2])
        >>> explanation.values.shape
        (2, 4, 3)
        >>> bool(abs(explanation.predictions - model.predict_proba(X[:2])).max() < 1e-12)
        True
        """
        transform = output_transform(output)
        check_is_fitted(self)
        names = [str(label) for label in self.classes_]

        def mix(outputs: Sequence[Array]) -> Array:
            return transform(self._mix(outputs))

        return self._explain(X, background, mix, names, n_permutations, random_state)
