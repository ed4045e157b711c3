"""Prediction intervals and sets of labels of guaranteed coverage, by conformal prediction.

The errors of an estimator on held-out rows determine the width of its intervals for new rows
(Papadopoulos et al. 2002). The conformity score measures these errors relative to a band around the
prediction, or by the probability of a label. The held-out rows are those of one model (split
conformal prediction), or each model of several has its own fold (CV+).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import KW_ONLY, dataclass
from inspect import signature
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, NamedTuple, Self

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
from .estimators._targets import encode_labels, labels_to_array
from .estimators._validation import validate_labels
from .utils.arrays import Array, MatrixLike, count_rows

# Number of bisection steps to find an end of a CV+ interval.
_N_BISECTIONS = 32

# The most ranges of predictions whose errors are averaged, and the fewest rows of each.
_MAX_RANGES, _MIN_ROWS = 8, 20
# The mean error of a range is shrunk toward that of all rows, which counts like so many rows.
_N_PRIOR_ROWS = 10


class ErrorScale(NamedTuple):
    """Mean absolute error as a function of the prediction, relative to that of all rows.

    Errors are averaged over ranges of predictions with about as many rows each. The function is
    linear between the mean predictions of two ranges, and constant beyond the first and the last.

    Parameters
    ----------
    predictions : array of shape (n_ranges,)
        The mean prediction of each range, in ascending order.
    errors : array of shape (n_ranges,)
        Its mean absolute error, shrunk toward that of all rows, and divided by it.

    References
    ----------
    Davidian, M. & Carroll, R. J. (1987). Variance function estimation. Journal of the American
    Statistical Association 82(400), 1079-1091.
    """

    predictions: Array
    errors: Array

    @classmethod
    def fit(cls, predictions: Array, errors: Array) -> Self:
        """Fit to the predictions of rows that were held out, and their absolute errors."""
        n_ranges = max(1, min(_MAX_RANGES, len(errors) // _MIN_ROWS))
        bounds = np.unique(np.quantile(predictions, np.linspace(0, 1, n_ranges + 1)[1:-1]))
        occupied, index, counts = np.unique(
            np.searchsorted(bounds, predictions), return_inverse=True, return_counts=True
        )
        means = np.bincount(index, predictions) / counts
        largest = errors.max()
        if not largest > 0:
            return cls(means, np.ones(len(occupied)))
        relative = errors / largest
        prior = relative.mean()
        sums = np.bincount(index, relative) + _N_PRIOR_ROWS * prior
        return cls(means, sums / (counts + _N_PRIOR_ROWS) / prior)

    def at(self, predictions: Array) -> Array:
        """Return the relative error at predictions of any shape."""
        return np.interp(predictions, self.predictions, self.errors)


class UncalibratedBand(NamedTuple):
    """Uncorrected prediction interval of each target, and the unit of its correction.

    With half-width 0, the score of a target is its distance from the center in units.

    Parameters
    ----------
    center : array
        The centers of the intervals.
    half_width : array or float
        Half the widths of the intervals.
    unit : array or float
        The distance by which a correction of 1 moves both ends.
    """

    center: Array
    half_width: Array | float
    unit: Array | float

    @classmethod
    def from_quantiles(cls, quantiles: Array) -> Self:
        """Return the band between the lowest and the highest quantile along the last axis.

        The score is max(low - y, y - high).
        """
        low, high = quantiles[..., 0], quantiles[..., -1]
        return cls((low + high) / 2, (high - low) / 2, 1.0)

    def conformity_scores(self, y: Array) -> Array:
        """Return the distance of each target from the band in units, negative inside."""
        return np.asarray((np.abs(y - self.center) - self.half_width) / self.unit)

    def expand(self, correction: Array | float) -> Array:
        """Return both ends on a new last axis, moved outward by a correction in units.

        A negative correction moves them inward, at most to the center.
        """
        half_width = np.maximum(self.half_width + correction * self.unit, 0)
        return np.stack([self.center - half_width, self.center + half_width], axis=-1)


def conformal_quantile_rank(n: int, coverage: float) -> int:
    """Return the rank of the correction among n scores, ceil((n + 1) coverage)."""
    return max(1, math.ceil(round((n + 1) * coverage, 9)))  # 100 * 0.55 is larger than 55


def min_calibration_samples(coverage: float) -> int:
    """Return the smallest n whose rank is at most n: n >= coverage / (1 - coverage)."""
    return max(1, math.ceil(round(coverage / (1 - coverage), 9)))


def check_coverage(coverage: Any, n_rows: int) -> None:
    """Check that a coverage is a number in (0, 1), and that there are enough held-out rows."""
    is_number = isinstance(coverage, Real) and not isinstance(coverage, bool)
    if not (is_number and 0 < coverage < 1):
        raise ValueError(f"coverage must be a number in the range (0, 1), got {coverage!r}.")
    n_min = min_calibration_samples(coverage)
    if n_rows < n_min:
        raise ValueError(
            f"coverage={coverage} needs at least {n_min} held-out rows with positive weight, but "
            f"the estimator was fitted with n_samples={n_rows} of them. Use more rows, or a lower "
            "coverage."
        )


def cv_plus_interval(band: UncalibratedBand, scores: Sequence[Array], coverage: float) -> Array:
    """Return CV+ intervals of several models, each with the scores of its held-out fold.

    Let c_k, h_k and u_k be center, half-width and unit of model k, and s_i the score of row i by
    the model k(i) that has held it out. The upper end for x is the ceil((n + 1) coverage)-th
    smallest of all ``c_k(i)(x) + h_k(i)(x) + s_i u_k(i)(x)``, the lower end the corresponding
    largest of ``c_k(i)(x) - h_k(i)(x) - s_i u_k(i)(x)`` (Barber et al. 2021, section 3.1). With
    one model, this is split conformal prediction.

    The memory is proportional to models times new rows, and does not depend on n.

    Parameters
    ----------
    band : UncalibratedBand
        Bands of each model for the new rows: arrays of shape (n_models, n_new), or floats.
    scores : sequence of arrays of shape (n_k,)
        The scores of each model's fold, in ascending order.
    coverage : float
        The share of targets that the intervals contain, in (0, 1).

    Returns
    -------
    intervals : array of shape (n_new, 2)
        Lower and upper ends. If they are in the wrong order, both are replaced by their mean.

    References
    ----------
    Barber, R. F., Candès, E. J., Ramdas, A. & Tibshirani, R. J. (2021). Predictive inference with
    the jackknife+. Annals of Statistics 49(1), 486-507.
    """
    rank = conformal_quantile_rank(sum(map(len, scores)), coverage)
    unit = np.broadcast_to(band.unit, band.center.shape)
    upper = _kth_smallest(band.center + band.half_width, unit, scores, rank)
    lower = -_kth_smallest(band.half_width - band.center, unit, scores, rank)
    in_order = lower <= upper
    middle = lower + (upper - lower) / 2
    return np.stack([np.where(in_order, lower, middle), np.where(in_order, upper, middle)], axis=-1)


def _kth_smallest(start: Array, unit: Array, scores: Sequence[Array], rank: int) -> Array:
    """Return the rank-th smallest of all ``start + unit * score`` for each new row.

    It is found by bisection, and rounded up.
    """
    n = sum(map(len, scores))
    filled = [k for k, fold in enumerate(scores) if len(fold)]
    # The number with the same relative rank within each model: the smallest and the largest of
    # these enclose the result.
    fold_ranks = [math.ceil(rank * len(scores[k]) / n) for k in filled]
    fold_scores = [scores[k][rank - 1] for k, rank in zip(filled, fold_ranks, strict=True)]
    ends = start[filled] + unit[filled] * np.array(fold_scores)[:, None]
    low, high = ends.min(axis=0), ends.max(axis=0)
    for _ in range(_N_BISECTIONS):
        middle = low + (high - low) / 2
        n_up_to = np.zeros(len(middle), dtype=np.intp)
        for k in filled:
            n_up_to += np.searchsorted(scores[k], (middle - start[k]) / unit[k], side="right")
        is_enough = n_up_to >= rank
        high, low = np.where(is_enough, middle, high), np.where(is_enough, low, middle)
    return np.asarray(high)


LABEL_SCORES = "lac", "aps"


class LabelScores(NamedTuple):
    """Conformity scores of the labels of held-out rows, which determine sets of labels.

    The score of a label grows as its probability falls. "lac" is the negative probability (Sadinle
    et al. 2019). "aps" is the sum of the probabilities of all more probable labels (Romano et al.
    2020, without randomization).

    Parameters
    ----------
    kind : {"lac", "aps"}
        The conformity score.
    held_out : list of lists of arrays
        ``held_out[k][c]`` has the scores, in ascending order, of the rows of class c that model k
        has held out.
    """

    kind: str
    held_out: list[list[Array]]

    @classmethod
    def fit(cls, kind: str, folds: Iterable[tuple[Array, Array]]) -> Self:
        """Compute the scores from the probabilities and the classes of each model's fold."""
        held_out = []
        for probabilities, codes in folds:
            scores = _label_scores(kind, probabilities)
            classes = range(probabilities.shape[1])
            held_out.append([np.sort(scores[codes == label, label]) for label in classes])
        return cls(kind, held_out)

    @property
    def n_rows(self) -> int:
        """The number of held-out rows."""
        return sum(len(scores) for fold in self.held_out for scores in fold)

    def predict_sets(self, probabilities: Array, coverage: float, by_class: bool) -> Array:
        """Return the CV+ sets of new rows.

        A set contains label c if fewer than ceil((n + 1) coverage) of n held-out rows i have
        a smaller score than c has by the model that has held out row i.

        Parameters
        ----------
        probabilities : array of shape (n_models, n_new, n_classes)
            The probabilities by each model.
        coverage : float
            The share of new rows whose set contains their label, in (0, 1).
        by_class : bool
            Whether label c is compared with held-out rows of class c only.

        Returns
        -------
        sets : bool array of shape (n_new, n_classes)

        References
        ----------
        Romano, Y., Sesia, M. & Candès, E. (2020). Classification with valid and adaptive coverage.
        NeurIPS, section 2.3.
        """
        scores, held_out = _label_scores(self.kind, probabilities), self.held_out
        sets = np.empty_like(probabilities[0], dtype=bool)
        if not by_class:
            pooled = [np.sort(np.concatenate(fold), kind="stable") for fold in held_out]
            held_out = [[fold] * sets.shape[1] for fold in pooled]
        for label, folds in enumerate(zip(*held_out, strict=True)):
            pairs = zip(folds, scores[..., label], strict=True)
            n_smaller = sum(np.searchsorted(fold, values) for fold, values in pairs)
            sets[:, label] = n_smaller < conformal_quantile_rank(sum(map(len, folds)), coverage)
        return sets


def _label_scores(kind: str, probabilities: Array) -> Array:
    """Return the conformity score of each label, given probabilities (..., n_classes)."""
    if kind == "lac":
        return -probabilities
    order = np.argsort(-probabilities, axis=-1, kind="stable")
    scores = np.zeros_like(probabilities)
    sums = np.take_along_axis(probabilities, order, axis=-1)[..., :-1].cumsum(axis=-1)
    np.put_along_axis(scores, order[..., 1:], sums, axis=-1)
    return scores


# ------------------------------------------------------------------------------ estimators


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
        fitted, X_held_out, targets = self._fit_estimator(X, y, targets, fit_params)
        kind = self._resolve_conformity_score(fitted, X_held_out, targets)
        band = _make_raw_band(kind, fitted, X_held_out)
        scores = np.sort(self._compute_scores(band, targets), axis=0)
        correction = scores[conformal_quantile_rank(len(scores), self.coverage) - 1]
        self.estimator_ = fitted
        self.conformity_score_ = kind
        self.correction_ = correction if targets.ndim > 1 else float(correction)
        self.n_calibration_ = len(scores)
        return self

    def _fit_estimator(
        self, X: Any, y: Any, targets: Array, fit_params: dict[str, Any]
    ) -> tuple[Any, Any, Array]:
        """Return the fitted estimator, and X and targets of the held-out rows."""
        fit_params = self._route(fit_params)
        n_held_out = self._count_held_out(len(targets))
        if isinstance(self.estimator, FrozenEstimator):
            return self.estimator, X, targets
        train, held_out = train_test_split(
            np.arange(len(targets)), test_size=n_held_out, random_state=self.random_state
        )
        fitted = self._fit_clone(X, y, train, fit_params)
        return fitted, _safe_indexing(X, held_out), targets[held_out]

    def _count_held_out(self, n: int) -> int:
        """Return the number of held-out rows; raise a ValueError if there are too few rows."""
        needed, fraction = min_calibration_samples(self.coverage), self.calibration_fraction
        is_frozen = isinstance(self.estimator, FrozenEstimator)
        if is_frozen:
            n_held_out = n
        elif fraction == "auto":
            n_held_out = max(math.ceil(n / 4), needed)
        else:
            is_count = isinstance(fraction, Integral)
            n_held_out = int(fraction) if is_count else math.ceil(fraction * n)
        if n_held_out < needed or (n_held_out >= n and not is_frozen):
            reason = f"n_samples={n}"
            if not is_frozen:
                reason = f"calibration_fraction={fraction!r} holds out {n_held_out} of {reason}"
            raise ValueError(
                f"coverage={self.coverage} needs at least {needed} rows for calibration"
                f"{'' if is_frozen else ' and more rows for training'}, but {reason}. Use more "
                "rows, another calibration_fraction, or a lower coverage."
            )
        return n_held_out

    def _resolve_conformity_score(self, fitted: Any, X: Any, y: Array) -> str:
        """Return the name of the conformity score; check the predictions that it needs."""
        kind: str = self.conformity_score
        shape = _to_float64(fitted.predict(X)).shape
        if kind == "auto":
            has_quantiles = len(shape) > y.ndim
            unscaled = "quantile" if has_quantiles else "absolute"
            kind = "scaled" if not has_quantiles and _predicts_std(fitted) else unscaled
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

    def _compute_scores(self, band: UncalibratedBand, y: Array) -> Array:
        """Return the conformity scores; raise a ValueError if they are not finite."""
        if np.any(np.asarray(band.unit) == 0):
            raise ValueError(
                f"conformity_score={self.conformity_score!r} needs a positive standard deviation "
                'for each row, but the estimator predicts 0 for some rows. Use loss="gaussian", '
                'or conformity_score="absolute".'
            )
        scores = band.conformity_scores(y)
        _check_finite(scores)
        return scores

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
    return bool(getattr(last, "_predicts_std", _supports_return_std(last)))


def _get_target_range(estimator: Any) -> tuple[float, float]:
    """Return the lowest and the highest target that a fitted estimator accepts."""
    last = get_pipeline_steps(estimator)[-1]
    if hasattr(last, "_valid_target_range"):  # an estimator of this package
        return last._valid_target_range
    return 0.0 if get_tags(last).target_tags.positive_only else -np.inf, np.inf


def _supports_return_std(estimator: Any) -> bool:
    return "return_std" in signature(estimator.predict).parameters
