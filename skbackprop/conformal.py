"""Prediction intervals and sets of labels of guaranteed coverage, by conformal prediction.

The errors of an estimator on held-out rows determine the width of its intervals for new rows
(Papadopoulos et al. 2002), or the size of its sets of labels.
"""

from __future__ import annotations

import math
from copy import copy
from dataclasses import KW_ONLY, dataclass
from inspect import signature
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn import get_config
from sklearn.base import ClassifierMixin, MetaEstimatorMixin, RegressorMixin, clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import check_cv, train_test_split
from sklearn.utils import check_array, get_tags, indexable
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import check_is_fitted

from ._sklearn import HasMethods, Interval, StrOptions, _safe_indexing
from .estimators._estimator_mixin import (
    EstimatorMixin,
    get_pipeline_steps,
    with_parameter_validation,
)
from .estimators.conformity_scores import (
    LABEL_SCORES,
    LabelScores,
    UncalibratedBand,
    check_coverage,
    conformal_quantile_rank,
    min_calibration_samples,
)
from .training.checks import validate_labels
from .training.targets import NumberTargets, encode_labels, labels_to_array
from .utils.arrays import Array, MatrixLike, count_rows


class ConformalMixin(MetaEstimatorMixin):
    """Fits of clones, routing and tags of both conformal estimators."""

    estimator: Any
    _fitted: Any  # a fitted clone of it

    def _check_target(self, y: Any) -> None:
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )

    def _route(self, fit_params: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of the estimator's `fit`."""
        if get_config()["enable_metadata_routing"]:
            return process_routing(self, "fit", **fit_params).estimator.fit
        return fit_params

    def _fit_clone(self, X: Any, y: Any, rows: Array, fit_params: dict[str, Any]) -> Any:
        """Return a clone of the estimator, fitted to some rows."""
        # What has a value for each row is split along with X.
        fit_params = {
            name: _safe_indexing(value, rows) if count_rows(value) == count_rows(y) else value
            for name, value in fit_params.items()
        }
        fitted = clone(self.estimator)
        fitted.fit(_safe_indexing(X, rows), _safe_indexing(y, rows), **fit_params)
        return fitted

    @property
    def n_features_in_(self) -> int:
        """The number of features."""
        return self._fitted.n_features_in_

    @property
    def feature_names_in_(self) -> Array:
        """The names of the features, if X had names."""
        return self._fitted.feature_names_in_

    def get_metadata_routing(self) -> MetadataRouter:
        """Return the metadata routing of `fit`, see scikit-learn's user guide.

        Returns
        -------
        routing : MetadataRouter
            It routes the arguments of `fit` to the `fit` of the estimator.
        """
        fit_to_fit = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self).add_self_request(self)
        return router.add(estimator=self.estimator, method_mapping=fit_to_fit)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        inner = get_tags(self.estimator)
        tags.input_tags, tags.target_tags = copy(inner.input_tags), copy(inner.target_tags)
        tags.target_tags.required = True
        return tags


@dataclass(eq=False, repr=False)
class ConformalRegressor(ConformalMixin, RegressorMixin, EstimatorMixin):
    """Add prediction intervals of guaranteed coverage to a regressor.

    `fit` trains the regressor on a part of the rows and computes conformity scores on the other
    rows, which are held out (split conformal prediction). A conformity score is defined by a band
    [l(x), h(x)] and a unit u(x). For n held-out rows, q is the ceil((n + 1) coverage)-th smallest
    of the scores ``max(l(x_i) - y_i, y_i - h(x_i)) / u(x_i)``, and the interval is
    ``[l(x) - q u(x), h(x) + q u(x)]``.

    For any regressor, if new rows have the same distribution as the held-out rows, an interval
    contains the target with a probability of at least ``coverage``, and of at most
    ``coverage + 1 / (n + 1)`` if no two scores are equal. This probability is an average over x and
    over draws of the held-out rows. For given held-out rows, the coverage has a beta distribution
    with a standard deviation of about ``sqrt(coverage (1 - coverage) / n)`` (Vovk 2012).

    Parameters
    ----------
    estimator : estimator or FrozenEstimator
        Any regressor, pipeline or search. `fit` trains a clone of it. To calibrate a regressor that
        is already fitted, pass scikit-learn's ``FrozenEstimator(regressor)``; then `fit` uses all
        rows for calibration, and the regressor must not have been trained on any of them.
    coverage : float, default=0.9
        The share of targets that the intervals should contain, in (0, 1).
    conformity_score : {"auto", "absolute", "scaled", "quantile"}, default="auto"
        The conformity score.

        - "absolute": ``abs(y - m)`` with the prediction m. All intervals have the same width.
        - "scaled": ``abs(y - m) / std`` with the standard deviation that
          ``predict(X, return_std=True)`` of the estimator returns (Papadopoulos et al. 2008).
        - "quantile": ``max(low - y, y - high)`` with the lowest and the highest of several
          quantiles that the estimator predicts for each target (Romano et al. 2019). The levels of
          these two quantiles should be about ``(1 - coverage) / 2`` and ``(1 + coverage) / 2``.
        - "auto": "quantile" if the estimator returns several predictions for each target, in
          ascending order along the last axis; "scaled" if it learns a standard deviation, such as
          `BackpropRegressor` with ``loss="gaussian"`` or scikit-learn's `BayesianRidge`; else
          "absolute".
    calibration_fraction : float, int or "auto", default="auto"
        The share of held-out rows, in (0, 1), or the number of held-out rows, at least 1. "auto" is
        a quarter of the rows, but at least ``coverage / (1 - coverage)`` rows, which is 9 for 0.9
        and 19 for 0.95. Not used with a `FrozenEstimator`.
    random_state : int, RandomState instance or None, default=None
        Seed of the split into training and held-out rows.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.
    conformity_score_ : {"absolute", "scaled", "quantile"}
        The conformity score.
    correction_ : float, or array of shape (n_outputs,)
        The correction q, for each target.
    n_calibration_ : int
        The number of held-out rows.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the features, if all of them are strings.

    See Also
    --------
    skbackprop.losses.Quantile : Several quantiles from one network.
    skbackprop.losses.Gaussian : A mean and a variance that depend on x.
    sklearn.calibration.CalibratedClassifierCV : Calibrated probabilities of classifiers.

    Notes
    -----
    With several targets, each target has its own correction. The coverage holds for each target
    separately; the probability that all intervals of a row contain their targets is lower.

    Sample weights are used for training only: all held-out rows have the same weight.

    References
    ----------
    Lei, J., G'Sell, M., Rinaldo, A., Tibshirani, R. J. & Wasserman, L. (2018). Distribution-free
    predictive inference for regression. Journal of the American Statistical Association 113(523),
    1094-1111, theorem 2.2.

    Papadopoulos, H., Gammerman, A. & Vovk, V. (2008). Normalized nonconformity measures for
    regression conformal prediction. IASTED International Conference on Artificial Intelligence and
    Applications, 64-69.

    Papadopoulos, H., Proedrou, K., Vovk, V. & Gammerman, A. (2002). Inductive confidence machines
    for regression. ECML, 345-356.

    Romano, Y., Patterson, E. & Candès, E. (2019). Conformalized quantile regression. NeurIPS,
    theorem 1.

    Vovk, V. (2012). Conditional validity of inductive conformal predictors. ACML, 475-490.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skbackprop import BackpropRegressor, ConformalRegressor
    >>> from skbackprop.losses import Quantile
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> network = BackpropRegressor(
    ...     (16,),
    ...     loss=Quantile([0.1, 0.5, 0.9]),
    ...     scale_target=True,
    ...     early_stopping=True,
    ...     random_state=0,
    ... )
    >>> model = ConformalRegressor(
    ...     make_pipeline(StandardScaler(), network), coverage=0.8, random_state=0
    ... )
    >>> low, high = model.fit(X_train, y_train).predict_interval(X_test).T
    >>> print(f"{((low <= y_test) & (y_test <= high)).mean():.1f}")
    0.8
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit", "predict"])],
        "coverage": [Interval(Real, 0, 1, closed="neither")],
        "conformity_score": [StrOptions({"auto", "absolute", "scaled", "quantile"})],
        "calibration_fraction": [
            Interval(Real, 0, 1, closed="neither"),
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "random_state": ["random_state"],
    }

    _fitted = property(lambda self: self.estimator_)

    estimator: Any
    _: KW_ONLY
    coverage: float = 0.9
    conformity_score: Literal["auto", "absolute", "scaled", "quantile"] = "auto"
    calibration_fraction: Literal["auto"] | float = "auto"
    random_state: int | np.random.RandomState | None = None

    @with_parameter_validation(prefer_skip_nested_validation=False)
    def fit(self, X: MatrixLike, y: MatrixLike, **fit_params: Any) -> Self:
        """Train a clone of the estimator on some rows, and calibrate it on the other rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets, without missing values.
        **fit_params : dict
            Arguments of the estimator's `fit`, such as ``sample_weight``. Arrays with n_samples
            rows are reduced to the training rows. With metadata routing, only requested arguments
            are passed.

        Returns
        -------
        self : object
            The fitted regressor.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, if there are too few rows for the coverage, or if
            predictions are not finite or do not suit the conformity score.
        """
        if is_classifier(self.estimator):
            raise ValueError(
                f"estimator must be a regressor, got {self.estimator!r}. For sets of labels use "
                "ConformalClassifier, for calibrated probabilities "
                "sklearn.calibration.CalibratedClassifierCV."
            )
        self._check_target(y)
        targets = _to_float64(check_array(y, ensure_2d=False, dtype=np.float64, input_name="y"))
        X, y = indexable(X, y)
        train, held_out = self._split(len(targets))
        fitted = self._fit_clone(X, y, train, self._route(fit_params))
        X_held_out, targets = _safe_indexing(X, held_out), targets[held_out]
        kind = self._resolve_conformity_score(fitted, X_held_out, targets)
        band = _make_raw_band(kind, fitted, X_held_out)
        if np.any(np.asarray(band.unit) == 0):
            raise ValueError(
                f"conformity_score={self.conformity_score!r} needs a positive standard deviation "
                'for each row, but the estimator predicts 0 for some rows. Use loss="gaussian", '
                'or conformity_score="absolute".'
            )
        scores = np.sort(band.conformity_scores(targets), axis=0)
        _check_finite(scores)
        correction = scores[conformal_quantile_rank(len(scores), self.coverage) - 1]
        self.estimator_ = fitted
        self.conformity_score_ = kind
        self.correction_ = correction if targets.ndim > 1 else float(correction)
        self.n_calibration_ = len(scores)
        return self

    def _split(self, n: int) -> tuple[Array, Array]:
        """Return the rows to train on, and the rows to calibrate on."""
        rows, fraction = np.arange(n), self.calibration_fraction
        if isinstance(self.estimator, FrozenEstimator):
            check_coverage(self.coverage, n)
            return rows, rows
        needed = min_calibration_samples(self.coverage)
        if fraction == "auto":
            n_held_out = max(math.ceil(n / 4), needed)
        else:
            is_count = isinstance(fraction, Integral)
            n_held_out = int(fraction) if is_count else math.ceil(fraction * n)
        if not needed <= n_held_out < n:
            raise ValueError(
                f"coverage={self.coverage} needs at least {needed} rows for calibration and more "
                f"rows for training, but calibration_fraction={fraction!r} holds out {n_held_out} "
                f"of n_samples={n}. Use more rows, another calibration_fraction, or a lower "
                "coverage."
            )
        train, held_out = train_test_split(
            rows, test_size=n_held_out, random_state=self.random_state
        )
        return train, held_out

    def _resolve_conformity_score(self, fitted: Any, X: Any, y: Array) -> str:
        """Return the name of the conformity score; check the predictions that it needs."""
        kind: str = self.conformity_score
        shape = _to_float64(fitted.predict(X)).shape
        if kind == "auto":
            kind_of_one_number = "scaled" if _predicts_std(fitted) else "absolute"
            kind = "quantile" if len(shape) > y.ndim else kind_of_one_number
        needed = "several quantiles" if kind == "quantile" else "one number"
        if shape[: y.ndim] != y.shape or len(shape) - y.ndim != (kind == "quantile"):
            raise ValueError(
                f"conformity_score={self.conformity_score!r} needs predictions of {needed} for "
                f"each target, but for targets of shape {y.shape} the estimator's predictions have "
                f"the shape {shape}. Use another conformity_score or estimator."
            )
        if kind == "scaled" and not _supports_return_std(get_pipeline_steps(fitted)[-1]):
            raise ValueError(
                'conformity_score="scaled" needs an estimator with predict(X, return_std=True), '
                f'got {self.estimator!r}. Use "absolute" instead.'
            )
        return kind

    # ------------------------------------------------------------------------ prediction

    def predict(self, X: MatrixLike) -> Array:
        """Return the predictions of the estimator, one number for each target.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_outputs)
            The predictions. If the estimator predicts several quantiles, their median.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError
            If X is invalid.
        """
        check_is_fitted(self)
        predicted = self.estimator_.predict(X)
        return np.median(predicted, axis=-1) if self.conformity_score_ == "quantile" else predicted

    def predict_interval(self, X: MatrixLike) -> Array:
        """Return prediction intervals that contain the target with probability `coverage`.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.

        Returns
        -------
        intervals : float64 array of shape (n_samples, 2) or (n_samples, n_outputs, 2)
            Lower and upper ends, clipped to the domain of the estimator's loss: with "poisson" they
            are non-negative. If a negative correction would make the lower end exceed the upper
            end, both are the mean of the quantiles.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError
            If X is invalid.
        """
        check_is_fitted(self)
        band = _make_raw_band(self.conformity_score_, self.estimator_, X)
        return np.clip(band.expand(self.correction_), *_get_target_range(self.estimator_))


@dataclass(eq=False, repr=False)
class ConformalClassifier(ConformalMixin, ClassifierMixin, EstimatorMixin):
    """Add sets of labels of guaranteed coverage to a classifier.

    `fit` trains a clone of the classifier for each fold of a cross-validation, so each row is held
    out by one clone, and no rows are lost (cross-conformal prediction, Vovk 2015; CV+, Barber et
    al. 2021). The score of label c for a row grows as the predicted probability of c falls. Let s_i
    be the score of the true label of row i, by the clone k(i) that has held out this row. The set
    of a new row x contains label c if fewer than ``ceil((n + 1) coverage)`` of the n scores s_i are
    smaller than the score of c for x by the clone k(i).

    If new rows have the same distribution as those of `fit`, the set of a new row contains its
    label with a probability of about ``coverage``. For any classifier, this probability is at least
    ``1 - 2 (1 - coverage)``, minus a term below ``sqrt(2 / n)``. With a `FrozenEstimator`, or a
    single split, it is at least ``coverage``.

    Parameters
    ----------
    estimator : estimator or FrozenEstimator
        Any classifier with ``predict_proba``, pipeline or search. `fit` trains clones of it. To
        calibrate a classifier that is already fitted, pass scikit-learn's
        ``FrozenEstimator(classifier)``. Then `fit` uses all rows for calibration, and the
        classifier must not have been trained on any of them.
    coverage : float, default=0.9
        The share of new rows whose set should contain their label, in (0, 1).
    conformity_score : {"lac", "aps"}, default="lac"
        The score of a label.

        - "lac": one minus its probability (Sadinle et al. 2019). Sets have the smallest average
          size. They may be empty.
        - "aps": the sum of the probabilities of all more probable labels (Romano et al. 2020,
          without randomization). Sets are larger for rows that are hard to classify, and contain
          the most probable label if the clones agree on it. If this label alone is correct more
          often than ``coverage``, so are the sets.
    by_class : bool, default=False
        Whether each class has its own coverage: label c is then compared with the held-out rows of
        class c only, so rare classes are covered as often as common ones. A class with fewer than
        ``coverage / (1 - coverage)`` rows is in every set.
    cv : int, splitter, iterable or None, default=None
        The folds, as in scikit-learn: None for 5 stratified folds, another number of them, a
        splitter, or an iterable of training and held-out rows. To keep rows of a group in one fold,
        pass ``list(GroupKFold().split(X, y, groups))``. Not used with a `FrozenEstimator`.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The labels, sorted.
    estimators_ : list of estimators
        The fitted classifier of each fold; a single one with a `FrozenEstimator`.
    n_calibration_ : int
        The number of held-out rows.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the features, if all of them are strings.

    See Also
    --------
    TabularClassifier : Its `predict_set` needs no further networks.
    ConformalRegressor : Prediction intervals for regressors.
    sklearn.calibration.CalibratedClassifierCV : Calibrated probabilities.

    Notes
    -----
    Sample weights are used for training only: all held-out rows have the same weight.

    Without randomization, the sets of a row are the same in each call. With it, the sets of "aps"
    would also be exact for classifiers that are more accurate than ``coverage``, but would leave
    out the most probable label of some rows at random.

    References
    ----------
    Angelopoulos, A. N., Bates, S., Jordan, M. & Malik, J. (2021). Uncertainty sets for image
    classifiers using conformal prediction. ICLR.

    Barber, R. F., Candès, E. J., Ramdas, A. & Tibshirani, R. J. (2021). Predictive inference with
    the jackknife+. Annals of Statistics 49(1), 486-507, theorem 4.

    Romano, Y., Sesia, M. & Candès, E. (2020). Classification with valid and adaptive coverage.
    NeurIPS.

    Sadinle, M., Lei, J. & Wasserman, L. (2019). Least ambiguous set-valued classifiers with bounded
    error levels. Journal of the American Statistical Association 114(525), 223-234.

    Vovk, V. (2015). Cross-conformal predictors. Annals of Mathematics and Artificial Intelligence
    74, 9-28.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import train_test_split
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skbackprop import BackpropClassifier, ConformalClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, test_size=0.5, random_state=0)
    >>> network = BackpropClassifier((16,), solver="lbfgs", alpha=1.0, random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), network)
    >>> model = ConformalClassifier(pipeline, coverage=0.9).fit(X_train, y_train)
    >>> sets = model.predict_set(X_test)
    >>> sets.shape
    (75, 3)
    >>> bool(sets[range(75), y_test].mean() > 0.8)
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "estimator": [HasMethods(["fit"])],
        "coverage": [Interval(Real, 0, 1, closed="neither")],
        "conformity_score": [StrOptions(set(LABEL_SCORES))],
        "by_class": ["boolean"],
        "cv": ["cv_object"],
    }

    _fitted = property(lambda self: self.estimators_[0])

    estimator: Any
    _: KW_ONLY
    coverage: float = 0.9
    conformity_score: Literal["lac", "aps"] = "lac"
    by_class: bool = False
    cv: Any = None

    @with_parameter_validation(prefer_skip_nested_validation=False)
    def fit(self, X: MatrixLike, y: MatrixLike, **fit_params: Any) -> Self:
        """Train a clone of the estimator for each fold, and calibrate on the rows it holds out.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input.
        y : array-like of shape (n_samples,)
            The labels.
        **fit_params : dict
            Arguments of the estimator's `fit`, such as ``sample_weight``. Arrays with n_samples
            rows are reduced to the training rows of each fold. With metadata routing, only
            requested arguments are passed.

        Returns
        -------
        self : object
            The fitted classifier.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, if there are too few rows for the coverage, or if
            probabilities are not finite.
        """
        if not (is_classifier(self.estimator) and hasattr(self.estimator, "predict_proba")):
            raise ValueError(
                f"estimator must be a classifier with predict_proba, got {self.estimator!r}. For "
                "prediction intervals of a regressor use ConformalRegressor."
            )
        self._check_target(y)
        X, labels = indexable(X, labels_to_array(validate_labels(y), "y"))
        if isinstance(self.estimator, FrozenEstimator):
            check_is_fitted(self.estimator)
            classes, splits = self.estimator.classes_, [(np.arange(len(labels)),) * 2]
        else:
            classes = np.unique(labels)
            splits = list(check_cv(self.cv, labels, classifier=True).split(X, labels))
        codes = encode_labels(labels, classes)
        check_coverage(self.coverage, sum(len(held_out) for _, held_out in splits))
        fit_params = self._route(fit_params)
        estimators, folds = [], []
        for train, held_out in splits:
            fitted = self._fit_clone(X, labels, train, fit_params)
            probabilities = _predict_proba(fitted, _safe_indexing(X, held_out), classes)
            _check_finite(probabilities)
            estimators.append(fitted)
            folds.append((probabilities, codes[held_out]))
        self._scores = LabelScores.fit(self.conformity_score, folds)
        self._settings = self.coverage, self.by_class
        self.classes_, self.estimators_ = classes, estimators
        self.n_calibration_ = self._scores.n_rows
        return self

    def _predict_by_fold(self, X: MatrixLike) -> Array:
        """Return the probabilities (n_folds, n_samples, n_classes) by each classifier."""
        check_is_fitted(self)
        return np.array([_predict_proba(model, X, self.classes_) for model in self.estimators_])

    def predict(self, X: MatrixLike) -> Array:
        """Predict the most probable label of each row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.

        Returns
        -------
        y : array of shape (n_samples,)
            The labels.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If X is invalid.
        """
        codes = self.predict_proba(X).argmax(axis=1)
        labels: Array = self.classes_[codes]
        return labels

    def predict_proba(self, X: MatrixLike) -> Array:
        """Return the mean of the probabilities by the classifiers of all folds.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.

        Returns
        -------
        probabilities : array of shape (n_samples, n_classes)
            Columns are in the order of ``classes_``.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If X is invalid.
        """
        return np.asarray(self._predict_by_fold(X).mean(axis=0))

    def predict_set(self, X: MatrixLike) -> Array:
        """Return sets that contain the label with probability `coverage`.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.

        Returns
        -------
        sets : bool array of shape (n_samples, n_classes)
            Whether the set of each row contains each label of ``classes_``.

        Raises
        ------
        NotFittedError
            If the classifier is not fitted.
        ValueError
            If X is invalid.
        """
        probabilities = self._predict_by_fold(X)
        return self._scores.predict_sets(probabilities, *self._settings)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = tags.target_tags.two_d_labels = False
        return tags


def _predict_proba(estimator: Any, X: MatrixLike, classes: Array) -> Array:
    """Return the probability of each class; it is zero if the estimator does not know the class."""
    predicted = estimator.predict_proba(X)
    probabilities = np.zeros((len(predicted), len(classes)))
    probabilities[:, np.searchsorted(classes, estimator.classes_)] = predicted
    return probabilities


def _check_finite(predictions: Array) -> None:
    """Check that predictions for held-out rows, or their scores, are finite."""
    n_not_finite = int((~np.isfinite(predictions)).sum())
    if n_not_finite:
        raise ValueError(
            f"The estimator's predictions must be finite, but {n_not_finite} of {predictions.size} "
            "predictions for held-out rows are not. Check the scale of X and y and the learning "
            "rate."
        )


def _make_raw_band(conformity_score: str, estimator: Any, X: MatrixLike) -> UncalibratedBand:
    """Return the band of a fitted estimator that a conformity score measures errors from."""
    if conformity_score == "scaled":
        *transformers, last = get_pipeline_steps(estimator)
        for step in transformers:
            X = step.transform(X)
        mean, std = last.predict(X, return_std=True)
        return UncalibratedBand(_to_float64(mean), 0.0, _to_float64(std))
    predictions = _to_float64(estimator.predict(X))
    if conformity_score == "quantile":
        return UncalibratedBand.from_quantiles(predictions)
    return UncalibratedBand(predictions, 0.0, 1.0)


def _to_float64(values: Any) -> Array:
    """Return targets or predictions as float64; a single column becomes one-dimensional."""
    values = np.asarray(values, dtype=np.float64)
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _predicts_std(estimator: Any) -> bool:
    """Return whether a fitted estimator predicts the standard deviation of the targets.

    Estimators of this package always return one; without a suitable loss it is only the
    disagreement of the networks.
    """
    last = get_pipeline_steps(estimator)[-1]
    targets = _get_targets(last)
    return targets.have_std if isinstance(targets, NumberTargets) else _supports_return_std(last)


def _get_targets(estimator: Any) -> Any:
    """Return the encoding of the targets of an estimator of this package, or None."""
    model = getattr(estimator, "_model", None)
    return getattr(estimator, "_targets", None) if model is None else model.targets


def _get_target_range(estimator: Any) -> tuple[float, float]:
    """Return the lowest and the highest target that a fitted estimator accepts."""
    last = get_pipeline_steps(estimator)[-1]
    targets = _get_targets(last)
    if isinstance(targets, NumberTargets):
        return targets.loss.interval_y_true[:2]
    return 0.0 if get_tags(last).target_tags.positive_only else -np.inf, np.inf


def _supports_return_std(estimator: Any) -> bool:
    return "return_std" in signature(estimator.predict).parameters
