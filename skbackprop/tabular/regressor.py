"""TabularRegressor: predictions and prediction intervals for raw tables."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar, Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from .._conformal_intervals import cv_plus_interval, min_calibration_samples
from ..estimators._parameter_table import constraints_of
from ..estimators._validation import check_targets, validated_numbers, validated_weight
from ..losses.base import Loss
from ..losses.regression import REGRESSOR_LOSSES
from ..utils._name_types import RegressorLossName
from ..utils.arrays import Array, Columns, MatrixLike, TableLike
from ._blending import resolve_regressors
from ._defaults import FOR_NUMBERS, NetworkDefaults
from ._fold_models import LabeledRows
from ._importance import apply_scorer
from ._network_ensemble import OutputBiasInit, TableRegressorNetworks
from ._predicted_distribution import DistributionTargets
from .base import BaseTabular, is_close


class TabularRegressor(RegressorMixin, BaseTabular):
    """Regressor for raw tables with prediction intervals, by an ensemble of networks.

    Tables may have numbers, booleans, categories and strings, of any scale, with missing values,
    and y may have any scale too. There are `n_estimators` networks, which get each number as
    cosines and piecewise-linear bins, and learn to map them to a few inputs [1]_. Each network
    holds out one fold, so that every row is held out once. Networks are trained in cycles, in each
    of which the learning rate decays to zero [2]_, and all end with the last cycle that was useful
    out of fold. Predictions are averages over the networks; `predict_interval` estimates their
    errors from those of out-of-fold predictions [3]_. The settings are the best ones on tables of
    many kinds; there is nothing to tune.

    Parameters
    ----------
    n_estimators : int, default=8
        The number of networks, and of folds; at least 2. Fewer are faster and somewhat worse. At
        most the number of rows is used.
    categorical_features : array-like of bool, int or str, "from_dtype" or None, \
            default="from_dtype"
        The categorical columns, as of a `TableEncoder`: a mask, positions or names; None for none.
        "from_dtype": the columns of a data frame with categories or strings, and those of an array
        of objects with strings.
    loss : str or Loss, default="squared_error"
        The loss that is minimized, which determines what is predicted, as of a `BackpropRegressor`.
        y is divided by its standard deviation, or by its mean if the loss needs non-negative
        targets. "squared_error": the mean; "absolute_error" and "quantile": the median; "huber" and
        "log_cosh": between the two; "poisson", "gamma" and "tweedie": positive means; "gaussian": a
        mean and a variance that depend on x. Or an object: a `Quantile` has other levels, or
        several at once. A loss of your own needs a link with `scores_of`, as those here have.
    clip : bool, default=True
        Whether predictions are clipped to the range of the training targets. Predictions beyond it
        are extrapolations, which may be far off for unusual rows, above all with the losses for
        positive means. It applies to every loss and to each quantile, but not to intervals.
    blend : "boosting", list of estimators or None, default=None
        Regressors that are averaged with the networks. Each is cloned and fitted for the same
        folds, and weighted by its out-of-fold predictions. They predict one number for each row,
        so that `loss` must not have several levels, or be "gaussian". "boosting" is a
        `HistGradientBoostingRegressor` (learning rate 0.05, half of the columns for each split, at
        most 1,000 iterations, early stopping by the held-out fold) with the same loss: squared or
        absolute error, Poisson, gamma, or one quantile. It, and any instance of its class in a
        list, gets the table itself: numbers with missing values, and codes of categories. All
        others, which have losses of their own, get the outputs of a `TableEncoder` in float64. All
        get sample weights if they support them, and a seed for each ``random_state`` that is None.
        A list may also hold "boosting". None for networks only.
    max_iter : int or None, default=None
        The maximum number of epochs of a network. None for 14 to 56, fewer for more rows.
    time_limit : float or None, default=None
        The maximum number of seconds of `fit`; None for no limit. When it is over, `fit` keeps what
        has been learned.
    verbose : bool or int, default=False
        Whether to print a line after each training cycle of each ensemble, with its validation loss
        and the maximum time left, and after each estimator of `blend`.
    random_state : int, RandomState instance or None, default=None
        Draws weights, folds, frequencies and the order of rows.

    Attributes
    ----------
    oof_prediction_ : array of shape (n_samples,) or (n_samples, n_levels)
        The out-of-fold predictions of the training rows. Attributes that begin with ``oof_`` are
        missing after a fit with X_val.
    oof_score_ : float
        Their R2 or D2 as of `score`, weighted by `sample_weight`: a slightly pessimistic estimate
        of the score on new rows, because each prediction comes from a single network.
    networks_ : list of one estimator
        The ensemble, a fitted `BackpropRegressor` for encoded rows.
    oof_member_ : array of int of shape (n_samples,)
        The network that held out each row.
    blended_ : list of lists of estimators
        For each estimator of `blend` its clones, one for each fold; a single one after a fit with
        X_val. Estimators that exceeded the time limit are missing.
    weights_ : array of shape (n_ensembles + n_blended,)
        The weight of each ensemble in predictions, and then of each of `blended_`. Their sum is
        one.
    n_iter_ : array of int of shape (n_ensembles, n_estimators)
        The number of epochs of each network.
    n_features_in_ : int
        The number of columns.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, if all are strings.

    See Also
    --------
    TabularClassifier : The classifier.
    ConformalRegressor : Prediction intervals for any regressor.
    TableEncoder : Encode raw tables for other estimators.

    References
    ----------
    .. [1] Gorishniy, Rubachev & Babenko, "On embeddings for numerical features in tabular deep
       learning", NeurIPS 2022.
    .. [2] Loshchilov & Hutter, "SGDR: stochastic gradient descent with warm restarts", ICLR 2017.
    .. [3] Barber, Candès, Ramdas & Tibshirani, "Predictive inference with the jackknife+", Annals
       of Statistics 49(1), 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skbackprop import TabularRegressor
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = TabularRegressor(n_estimators=3, random_state=0).fit(X, y)
    >>> model.oof_score_ > 0.4
    True
    >>> model.predict_interval(X[:3], coverage=0.9).shape
    (3, 2)
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseTabular._parameter_constraints,
        "loss": constraints_of("regressor")["loss"],
        "clip": ["boolean"],
    }
    _configurations: ClassVar[Sequence[NetworkDefaults]] = FOR_NUMBERS

    def __init__(
        self,
        n_estimators: int = 8,
        *,
        categorical_features: Columns = "from_dtype",
        loss: RegressorLossName | Loss = "squared_error",
        clip: bool = True,
        blend: Literal["boosting"] | list[Any] | tuple[Any, ...] | None = None,
        max_iter: int | None = None,
        time_limit: float | None = None,
        verbose: bool | int = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.categorical_features = categorical_features
        self.loss = loss
        self.clip = clip
        self.blend = blend
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.verbose = verbose
        self.random_state = random_state

    def _validate_target(self, y: Any) -> Array:
        return validated_numbers(y)

    def _fit_target(self, y: Array, weight: Array | None) -> Array:
        loss = REGRESSOR_LOSSES[self.loss] if isinstance(self.loss, str) else self.loss
        self._targets = DistributionTargets.fit(loss, self.loss, y, weight, self.clip)
        return y

    def _encode_target(self, y: Any) -> Array:
        numbers = self._validate_target(y)
        check_targets(numbers, self._targets.loss, self.loss)
        return numbers

    def _target_type(self) -> str | None:
        return "continuous"

    def _blended_estimators(self) -> tuple[list[Any], int | None, float]:
        loss = self._targets.loss
        minimum = float(np.finfo(np.float32).tiny) if loss.interval_y_true.low == 0 else -np.inf
        return resolve_regressors(self.blend, loss, self.loss), None, minimum

    def _make_networks(self, params: dict[str, Any], rows: LabeledRows) -> Any:
        is_scaled = self._targets.scaling.scale is not None
        intercepts = self._targets.initial_intercepts(rows.y, rows.weight).tolist()
        init = OutputBiasInit(tuple(intercepts))
        return TableRegressorNetworks(**params, loss=self.loss, scale_target=is_scaled, init=init)

    def _fit_mixture(
        self, outputs: list[Array], y: Array, weight: Array | None, folds: Array | None
    ) -> Array:
        by_component = [self._targets.mixture(list(own)) for own in outputs]
        self.weights_ = self._targets.weights(by_component, y, weight)
        mixed = self._targets.mixture(by_component, self.weights_.tolist())
        scores = self._targets.prediction_band(mixed).conformity_scores(y)
        folds = np.zeros(len(y), dtype=np.intp) if folds is None else folds
        has_weight = np.ones(len(y), dtype=bool) if weight is None else weight > 0
        # Sorted conformity scores of each fold, or of all validation rows.
        self._scores = [
            np.sort(scores[has_weight & (folds == fold)]) for fold in range(folds.max() + 1)
        ]
        return mixed

    def _mix(self, outputs: Sequence[Array]) -> Array:
        by_component = [self._targets.mixture(list(own)) for own in outputs]
        return self._targets.mixture(by_component, self.weights_.tolist())

    def _set_out_of_fold(self, mixed: Array, y: Array, weight: Array | None) -> None:
        self.oof_prediction_ = self._targets.predictions(mixed)
        self.oof_score_ = self._targets.score(mixed, y, weight)

    def _is_out_of_fold(self, mixed: Array) -> bool:
        return is_close(self._targets.predictions(mixed), self.oof_prediction_)

    def _score_mixed(self, mixed: Array, y: Array, weight: Array | None, scoring: Any) -> float:
        if scoring is None:
            return self._targets.score(mixed, y, weight)
        return apply_scorer(scoring, self._targets.predictions(mixed), None, y, weight)

    # ------------------------------------------------------------------ prediction

    @overload
    def predict(self, X: TableLike, return_std: Literal[False] = False) -> Array: ...

    @overload
    def predict(self, X: TableLike, return_std: Literal[True]) -> tuple[Array, Array]: ...

    @overload
    def predict(self, X: TableLike, return_std: bool) -> Array | tuple[Array, Array]: ...

    def predict(self, X: TableLike, return_std: bool = False) -> Array | tuple[Array, Array]:
        """Predict the target of each row.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The table. A dict or a Series is one row, a list of dicts several.
        return_std : bool, default=False
            Whether to return a standard deviation too. With ``loss="gaussian"`` it is the learned
            one of the targets; with other losses that of the predictions of all models, which
            measures their disagreement.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_levels)
            The predictions, one for each level of a `Quantile`.
        std : array of the same shape
            The standard deviation; only with ``return_std``.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError, TypeError
            If X has other columns than in `fit`, or a numeric column is not numeric any more.
        """
        if not return_std:
            return self._predict(X, lambda outputs: self._targets.predictions(self._mix(outputs)))
        both = self._predict(X, self._mean_and_std)
        return both[:, 0], both[:, 1]

    def _mean_and_std(self, outputs: Sequence[Array]) -> Array:
        """Return predictions and their standard deviations along a second axis."""
        mixed = self._mix(outputs)
        mean = self._targets.predictions(mixed)
        if self._targets.has_variance:
            return np.stack([mean, np.sqrt(mixed[..., -1])], axis=1)
        squares = sum(
            weight * np.square(self._targets.predictions(own) - mean).mean(axis=0)
            for weight, own in zip(self.weights_, outputs, strict=True)
        )
        return np.stack([mean, np.sqrt(squares)], axis=1)

    @property
    def _learns_deviation(self) -> bool:
        """Whether the standard deviation of `predict` is that of the targets."""
        return self._targets.has_variance

    @property
    def _range_of_targets(self) -> tuple[float, float]:
        """The bounds of the targets of the loss."""
        loss = self._targets.loss
        return loss.interval_y_true.low, loss.interval_y_true.high

    def predict_interval(self, X: TableLike, coverage: float = 0.9) -> Array:
        """Return a prediction interval for each row, by CV+.

        CV+ (Barber et al. 2021): each training row i was held out by one network k(i), whose error
        is the conformity score s_i = abs(y_i - m_k(i)(x_i)). The upper end for a new row x is the
        ceil((n + 1) coverage)-th smallest of all n ``m_k(i)(x) + s_i``, the lower end likewise of
        ``m_k(i)(x) - s_i``. Intervals are wider where the networks disagree, and where the loss
        learns that the noise is larger. With several levels of `Quantile`, the score is
        ``max(low - y, y - high)``, by which the two quantiles are moved (Romano et al. 2019); with
        ``loss="gaussian"`` it is ``abs(y - m) / std``.

        For new rows of the same distribution, the coverage is at least ``1 - 2 (1 - coverage)``
        whatever the networks are like (theorem 4), and typically close to `coverage`. After a fit
        with groups this holds for rows of new groups. After a fit with X_val, scores are those of
        the whole ensemble on X_val, by split conformal prediction.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The table. A dict or a Series is one row, a list of dicts several.
        coverage : float, default=0.9
            The share of targets that intervals should contain, in (0, 1).

        Returns
        -------
        intervals : array of shape (n_samples, 2)
            The lower and the upper ends. They are not clipped to the range of y, but to the domain
            of the loss: with "poisson" they are not negative.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError
            If `coverage` is not in (0, 1), or there are too few rows for it: fewer than
            ``coverage / (1 - coverage)``, which is 9 for 0.9 and 19 for 0.95.
        ValueError, TypeError
            If X has other columns than in `fit`, or a numeric column is not numeric any more.

        Notes
        -----
        Sample weights affect training only. Each conformity score counts once; rows with weight
        zero have none.

        The best levels of quantiles are (1 - coverage) / 2 and (1 + coverage) / 2.

        References
        ----------
        Barber, R. F., Candès, E. J., Ramdas, A. & Tibshirani, R. J. (2021). Predictive inference
        with the jackknife+. Annals of Statistics 49(1), 486-507, section 3.1.

        Romano, Y., Patterson, E. & Candès, E. (2019). Conformalized quantile regression. NeurIPS.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from skbackprop import TabularRegressor
        >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
        >>> model = TabularRegressor(n_estimators=3, random_state=0).fit(X[::2], y[::2])
        >>> low, high = model.predict_interval(X[1::2], coverage=0.8).T
        >>> bool(0.7 < ((low <= y[1::2]) & (y[1::2] <= high)).mean() < 0.9)
        True
        """
        check_is_fitted(self)
        is_number = isinstance(coverage, Real) and not isinstance(coverage, bool)
        if not (is_number and 0 < coverage < 1):
            raise ValueError(f"coverage must be a number in the range (0, 1), got {coverage!r}.")
        n_rows, needed = sum(map(len, self._scores)), min_calibration_samples(coverage)
        if n_rows < needed:
            raise ValueError(
                f"coverage={coverage} needs at least {needed} held-out rows with weight, but the "
                f"regressor was fitted with {n_rows}. Use more rows, or a lower coverage."
            )
        return self._predict(X, lambda outputs: self._intervals(outputs, float(coverage)))

    def _intervals(self, outputs: Sequence[Array], coverage: float) -> Array:
        if len(self._scores) == 1:
            by_fold = self._mix(outputs)[None]
        else:  # model k of each component held out fold k
            by_fold = self._targets.mixture(outputs, self.weights_.tolist())
        band = self._targets.prediction_band(by_fold)
        return np.clip(cv_plus_interval(band, self._scores, coverage), *self._range_of_targets)

    def score(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return R2 or D2 of the predictions.

        It is R2 for "squared_error" and "poisson", and D2 of the loss for all others, as of a
        `BackpropRegressor`: the explained share of the loss of the best constant, which is 1 at
        best, 0 for the constant, and negative for worse predictions.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features)
            The table.
        y : array-like of shape (n_samples,)
            The target.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each row, non-negative and not all zero; None for equal weights.

        Returns
        -------
        score : float
            D2, or R2.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError, TypeError
            If X or y is not valid.
        """
        outputs, numbers = self._predict(X, self._mix), self._encode_target(y)
        check_consistent_length(outputs, numbers)
        return self._targets.score(outputs, numbers, validated_weight(sample_weight, outputs))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        loss = REGRESSOR_LOSSES.get(self.loss) if isinstance(self.loss, str) else self.loss
        tags.target_tags.positive_only = isinstance(loss, Loss) and loss.interval_y_true.low >= 0
        return tags
