"""Prediction intervals with a guaranteed coverage, by rows that were not trained on.

Split conformal prediction (Papadopoulos et al. 2002): how far an estimator is off on rows that it
has not seen says how wide its intervals have to be for rows to come. What "far" means is a matter
of the band around a prediction that one starts from: there is a function for each kind, and a
table of them. All else is the same for all kinds.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import copy
from inspect import signature
from numbers import Integral, Real
from typing import Any, ClassVar, Literal, Self

import numpy as np
from sklearn import get_config
from sklearn.base import MetaEstimatorMixin, RegressorMixin, clone, is_classifier
from sklearn.frozen import FrozenEstimator
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline
from sklearn.utils import check_array, get_tags, indexable
from sklearn.utils.metadata_routing import MetadataRouter, MethodMapping, process_routing
from sklearn.utils.validation import check_is_fitted

from ._conformal_scores import PredictionBand, conformal_quantile_rank, min_calibration_samples
from ._sklearn import HasMethods, Interval, StrOptions, _check_method_params, _safe_split
from .estimators._decorators import checks_parameters
from .estimators._mixins import MetaEstimatorReprMixin
from .utils.arrays import Array, MatrixLike

# ------------------------------------------------------------------------------- the bands


def absolute_residual_band(estimator: Any, X: MatrixLike) -> PredictionBand:
    """Return a band of no width around the prediction."""
    return PredictionBand.from_point_prediction(_values(estimator.predict(X)))


def normalized_residual_band(estimator: Any, X: MatrixLike) -> PredictionBand:
    """Return the same with the standard deviation that is predicted as its unit."""
    last, X_last = _last_step(estimator, X)
    return PredictionBand.by_deviation(*map(_values, last.predict(X_last, return_std=True)))


def cqr_band(estimator: Any, X: MatrixLike) -> PredictionBand:
    """Return the band from the lowest quantile that is predicted to the highest."""
    return PredictionBand.by_quantiles(_values(estimator.predict(X)))


BANDS: dict[str, Callable[[Any, Any], PredictionBand]] = {
    "absolute": absolute_residual_band,
    "scaled": normalized_residual_band,
    "quantile": cqr_band,
}


def _values(numbers: Any) -> Array:
    """Return targets or predictions as float64, a single target without an axis of its own."""
    values = np.asarray(numbers, dtype=np.float64)
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def _last_step(estimator: Any, X: Any = None) -> tuple[Any, Any]:
    """Return the estimator behind pipelines, searches and the like, and X as it is given it."""
    if isinstance(estimator, FrozenEstimator):
        return _last_step(estimator.estimator, X)
    if isinstance(estimator, Pipeline):
        if X is not None and len(estimator) > 1:
            X = estimator[:-1].transform(X)
        return _last_step(estimator[-1], X)
    if hasattr(estimator, "best_estimator_"):
        return _last_step(estimator.best_estimator_, X)
    return estimator, X


def _learns_deviation(estimator: Any) -> bool:
    """Return whether a fitted estimator predicts the standard deviation of targets as well.

    That of the members of an ensemble alone says how much they disagree, which is another thing.
    """
    last, _ = _last_step(estimator)
    says = getattr(last, "_learns_deviation", None)  # ours do, which return one in any case
    return _returns_deviation(last) if says is None else bool(says)


def _range_of_targets(estimator: Any) -> tuple[float, float]:
    """Return the lowest and the highest target that a fitted estimator can have been trained on."""
    last, _ = _last_step(estimator)
    known: tuple[float, float] | None = getattr(last, "_range_of_targets", None)  # ours have one
    if known is not None:
        return known
    return 0.0 if get_tags(last).target_tags.positive_only else -np.inf, np.inf


def _returns_deviation(last_step: Any) -> bool:
    return "return_std" in signature(last_step.predict).parameters


# ------------------------------------------------------------------------- the estimator


class ConformalRegressor(MetaEstimatorMixin, RegressorMixin, MetaEstimatorReprMixin):
    """Put prediction intervals of guaranteed coverage around an estimator's predictions.

    It holds rows out, trains the estimator on the others, and finds out how far off it is on those
    held out: split conformal prediction. A conformity score is made of a band [l(x), h(x)] and a
    unit u(x). Of n rows held out, q is the ceil((n + 1) coverage)-th smallest of the scores
    ``max(l(x_i) - y_i, y_i - h(x_i)) / u(x_i)``, and the interval is
    ``[l(x) - q u(x), h(x) + q u(x)]``.

    However wrong the estimator is, a target that comes from where the rows held out come from lies
    inside with a probability of at least ``coverage``, and of at most ``coverage + 1 / (n + 1)``
    where no two scores are equal. That is a mean over all x, and over draws of the rows held out.
    Given those at hand, the coverage has a beta distribution (Vovk 2012), with a standard deviation
    of about ``sqrt(coverage (1 - coverage) / n)``.

    Parameters
    ----------
    estimator : estimator or FrozenEstimator
        Any regressor, also at the end of a pipeline or inside of a search; it stays as it is: `fit`
        trains a clone of it. One that is fitted already, and is to stay so, is passed as
        scikit-learn's ``FrozenEstimator(regressor)``; then all rows that `fit` is given are what is
        calibrated on, and it must not have been trained on any of them.
    coverage : float, default=0.9
        The share of the targets that the intervals are to hold, in (0, 1).
    conformity_score : {"auto", "absolute", "scaled", "quantile"}, default="auto"
        What is measured on the rows held out.

        - "absolute": ``abs(y - m)``, with the prediction m. All intervals are of one width.
        - "scaled": ``abs(y - m) / std``, with the standard deviation that the estimator returns for
          ``predict(X, return_std=True)`` (Papadopoulos et al. 2008).
        - "quantile": ``max(low - y, y - high)``, with the lowest and the highest of several
          quantiles that the estimator predicts for each target (Romano et al. 2019). Their levels
          should be about ``(1 - coverage) / 2`` and ``(1 + coverage) / 2``.
        - "auto": "quantile" where there are several predictions for each target, in ascending
          order along the last axis; "scaled" where the estimator learns a standard deviation, as
          `BackpropRegressor` does by ``loss="gaussian"``, or scikit-learn's `BayesianRidge`;
          else "absolute".
    calibration_fraction : float, int or "auto", default="auto"
        The share of the rows that is held out, in (0, 1), or their number, at least 1. "auto" is a
        quarter of the rows, or as many as the coverage takes where those are more: n of at least
        ``coverage / (1 - coverage)``, which is 9 for 0.9 and 19 for 0.95. Not used with a
        `FrozenEstimator`.
    random_state : int, RandomState instance or None, default=None
        What draws the rows held out; the estimator has its own.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.
    conformity_score_ : {"absolute", "scaled", "quantile"}
        What was measured.
    correction_ : float, or array of shape (n_outputs,)
        q of each target.
    n_calibration_ : int
        The number of rows that it was measured on.
    n_features_in_ : int
        The number of features.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the features, where X had names that are all strings.

    See Also
    --------
    skbackprop.losses.Quantile : Several quantiles from one network.
    skbackprop.losses.Gaussian : A mean and a variance that depend on x.
    sklearn.calibration.CalibratedClassifierCV : Calibrated probabilities, for classifiers.

    Notes
    -----
    Of several targets, each has a correction of its own, and each of the intervals of a row holds
    its target with the probability asked for; that all of them do is less likely.

    Weights of rows are for training alone: of the rows held out each counts once.

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
        "conformity_score": [StrOptions({"auto", *BANDS})],
        "calibration_fraction": [
            Interval(Real, 0, 1, closed="neither"),
            Interval(Integral, 1, None, closed="left"),
            StrOptions({"auto"}),
        ],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        estimator: Any,
        *,
        coverage: float = 0.9,
        conformity_score: Literal["auto", "absolute", "scaled", "quantile"] = "auto",
        calibration_fraction: Literal["auto"] | float = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.estimator = estimator
        self.coverage = coverage
        self.conformity_score = conformity_score
        self.calibration_fraction = calibration_fraction
        self.random_state = random_state

    @checks_parameters(prefer_skip_nested_validation=False)
    def fit(self, X: MatrixLike, y: MatrixLike, **fit_params: Any) -> Self:
        """Train a clone of the estimator on some of the rows, and measure it on the others.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The training input.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        **fit_params : dict
            Further arguments of the estimator's `fit`, such as ``sample_weight``; of arrays of
            n_samples it is given the rows that it is trained on. With metadata routing, what it
            requests.

        Returns
        -------
        self : object
            The fitted regressor.

        Raises
        ------
        ValueError
            If a parameter or the data is not valid, if there are too few rows for the coverage, if
            the estimator does not predict what the conformity score needs, or no finite numbers, or
            what the estimator's own `fit` raises.
        """
        self._check_estimator()
        if y is None:
            raise ValueError(
                "ConformalRegressor requires y to be passed, but the target y is None."
            )
        values = _values(check_array(y, ensure_2d=False, dtype=np.float64, input_name="y"))
        X, y = indexable(X, y)
        fitted, X_held_out, values = self._trained(X, y, values, self._routed(fit_params))
        kind = self._kind_for(fitted, X_held_out, values)
        band = BANDS[kind](fitted, X_held_out)
        _check_unit(band, self.conformity_score)
        scores = np.sort(band.scores_of(values), axis=0)
        _check_scores(scores)
        correction = scores[conformal_quantile_rank(len(scores), self.coverage) - 1]
        self.estimator_ = fitted
        self.conformity_score_ = kind
        self.correction_ = correction if values.ndim > 1 else float(correction)
        self.n_calibration_ = len(scores)
        return self

    def _check_estimator(self) -> None:
        if is_classifier(self.estimator):
            raise ValueError(
                f"estimator must be a regressor, got {self.estimator!r}. For probabilities that "
                "hold use sklearn.calibration.CalibratedClassifierCV."
            )

    def _routed(self, fit_params: dict[str, Any]) -> dict[str, Any]:
        """Return which of the arguments of `fit` are for the estimator's."""
        if not get_config()["enable_metadata_routing"]:
            return fit_params
        routed: dict[str, Any] = process_routing(self, "fit", **fit_params).estimator.fit
        return routed

    def _trained(
        self, X: Any, y: Any, values: Array, fit_params: dict[str, Any]
    ) -> tuple[Any, Any, Array]:
        """Return the fitted estimator, and input and targets of the rows to measure it on."""
        n_held_out = self._n_held_out(len(values))
        if self._is_frozen:
            return self.estimator, X, values
        rows, held_out = train_test_split(
            np.arange(len(values)), test_size=n_held_out, random_state=self.random_state
        )
        fitted = clone(self.estimator)
        fit_params = _check_method_params(X, fit_params, indices=rows)
        fitted.fit(*_safe_split(fitted, X, y, rows), **fit_params)
        X_held_out, _ = _safe_split(fitted, X, y, held_out, rows)
        return fitted, X_held_out, values[held_out]

    @property
    def _is_frozen(self) -> bool:
        return isinstance(self.estimator, FrozenEstimator)

    def _n_held_out(self, n: int) -> int:
        """Return how many of n rows to measure on; raise an error where those are too few."""
        needed, setting = min_calibration_samples(self.coverage), self.calibration_fraction
        if self._is_frozen:
            n_held_out = n
        elif setting == "auto":
            n_held_out = max(math.ceil(n / 4), needed)
        else:
            is_count = isinstance(setting, Integral)
            n_held_out = int(setting) if is_count else math.ceil(setting * n)
        held_out = f"calibration_fraction={setting!r} holds out {n_held_out} of "
        if n_held_out < needed:
            raise ValueError(
                f"coverage={self.coverage} needs at least {needed} rows to calibrate on, but "
                f"{'' if self._is_frozen else held_out}n_samples={n}. Use more rows for it, or a "
                "lower coverage."
            )
        if n_held_out >= n and not self._is_frozen:
            raise ValueError(
                f"coverage={self.coverage} needs at least {needed} rows to calibrate on and others "
                f"to train on, but {held_out}n_samples={n}. Use more rows, a smaller "
                "calibration_fraction, or a lower coverage."
            )
        return n_held_out

    def _kind_for(self, fitted: Any, X: Any, y: Array) -> str:
        """Return the name of the score; check that the estimator predicts what it needs."""
        kind: str = self.conformity_score
        shape = _values(fitted.predict(X)).shape
        if kind == "auto":
            has_quantiles = len(shape) > y.ndim
            unscaled = "quantile" if has_quantiles else "absolute"
            kind = "scaled" if not has_quantiles and _learns_deviation(fitted) else unscaled
        needed = "several quantiles" if kind == "quantile" else "one number"
        if shape[: y.ndim] != y.shape or len(shape) - y.ndim != (kind == "quantile"):
            raise ValueError(
                f"conformity_score={self.conformity_score!r} needs {needed} for each target, but "
                f"for targets of shape {y.shape} the estimator's predictions have shape {shape}."
            )
        if kind == "scaled" and not _returns_deviation(_last_step(fitted)[0]):
            raise ValueError(
                'conformity_score="scaled" needs an estimator with predict(X, return_std=True), '
                f'got {self.estimator!r}. Use "absolute" in its place.'
            )
        return kind

    # ------------------------------------------------------------------------ prediction

    def predict(self, X: MatrixLike) -> Array:
        """Predict one number for each target: what the estimator predicts.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_outputs)
            The predictions. Of several quantiles it is the one in the middle, or the mean of the
            two in the middle.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError
            If X is not valid input for it.
        """
        check_is_fitted(self)
        predicted = self.estimator_.predict(X)
        return np.median(predicted, axis=-1) if self.conformity_score_ == "quantile" else predicted

    def predict_interval(self, X: MatrixLike) -> Array:
        """Return the interval of each row, which holds its target with the probability asked for.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, n_features)
            The input.

        Returns
        -------
        intervals : float64 array of shape (n_samples, 2) or (n_samples, n_outputs, 2)
            The lower and the upper end. Where the correction is negative and the quantiles lie
            closer together than it takes away, both are the mean of these. They are clipped to
            the targets that the estimator's loss allows: with "poisson" they are not below zero.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError
            If X is not valid input for it.
        """
        check_is_fitted(self)
        band = BANDS[self.conformity_score_](self.estimator_, X)
        return np.clip(band.expand(self.correction_), *_range_of_targets(self.estimator_))

    # ------------------------------------------------------------ scikit-learn's conventions

    @property
    def n_features_in_(self) -> int:
        """The number of features, once it is fitted."""
        n_features: int = self.estimator_.n_features_in_
        return n_features

    @property
    def feature_names_in_(self) -> Array:
        """The names of the features, once it is fitted to X that has names."""
        names: Array = self.estimator_.feature_names_in_
        return names

    def get_metadata_routing(self) -> MetadataRouter:
        """Return what is passed on to whom, as scikit-learn's metadata routing asks.

        Returns
        -------
        routing : MetadataRouter
            The arguments of `fit` go to the estimator's.
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


def _check_unit(band: PredictionBand, conformity_score: str) -> None:
    if np.any(np.asarray(band.unit) == 0):
        raise ValueError(
            f"conformity_score={conformity_score!r} divides by the standard deviation that the "
            'estimator predicts, which is zero for some rows. Use loss="gaussian", or '
            'conformity_score="absolute".'
        )


def _check_scores(scores: Array) -> None:
    n_not_finite = int((~np.isfinite(scores)).sum())
    if n_not_finite:
        raise ValueError(
            f"The estimator's predictions for the rows held out are not finite: {n_not_finite} of "
            f"{scores.size}. No interval around them would hold anything; mend the estimator."
        )
