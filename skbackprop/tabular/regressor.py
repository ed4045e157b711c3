"""TabularRegressor: predictions and prediction intervals for raw tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Literal, Self, overload

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize, nnls
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from .._conformal_intervals import (
    ErrorScale,
    UncalibratedBand,
    cv_plus_interval,
    min_calibration_samples,
)
from ..estimators._parameter_constraints import constraints_of
from ..estimators._target_encoding import RegressionTargetEncoder
from ..estimators._validation import (
    check_targets,
    shallow_copy_of,
    validated_numbers,
    validated_weight,
)
from ..estimators.explanation import Explanation
from ..estimators.regressor import BackpropRegressor
from ..losses.base import Loss, can_be_scaled
from ..losses.regression import REGRESSOR_LOSSES, Gaussian, Poisson, Quantile, SquaredError
from ..utils._name_types import RegressorLossName
from ..utils.arrays import Array, ColumnKinds, Columns, MatrixLike, TableLike
from ._blend import resolve_blend
from ._prediction import LabeledRows, OutputBiasInit, TabularNetworkMixin, apply_scorer
from ._training_cycles import FOR_NUMBERS, EnsembleSettings
from .base import BaseTabular

# The lower bound of the initial raw prediction of a variance, or of the step between quantiles.
# Below a twentieth of a standard deviation, its gradient would vanish.
_MIN_RAW_PREDICTION = -3.0


class TabularRegressor(RegressorMixin, BaseTabular):
    """Regressor for raw tables with prediction intervals: networks and boosting.

    Tables may have numbers, booleans, categories and strings, of any scale, with missing values,
    and y may have any scale too. There are `n_estimators` networks, which get each number as
    cosines and piecewise-linear bins, and learn to map them to a few inputs [1]_. Each network
    holds out one fold. Networks are trained in cycles. In each cycle the learning rate decays to
    zero [2]_. Training ends when a cycle no longer lowers the out-of-fold loss enough. Gradient
    boosting is cross-fitted to the same folds, and weighted by out-of-fold predictions. Predictions
    are weighted averages; `predict_interval` estimates their errors from those of out-of-fold
    predictions [3]_. The defaults work well for tables of many kinds, so nothing has to be tuned.

    If the slope of the target in a number differs between categories, such as a trend over years
    that differs between countries, the networks get one more input: the prediction of a line fitted
    for each category. Slopes are shrunk toward the common one [4]_, and the predictions are
    out-of-fold. At most three pairs of a categorical and a numeric column have lines: those whose
    squared out-of-fold error is lower than with equal slopes by a quarter or more.

    Parameters
    ----------
    n_estimators : int, default=8
        The number of networks, and of folds; at least 2. Fewer are faster and somewhat worse. At
        most the number of rows is used.
    categorical_features : array-like of bool, int or str, "from_dtype" or None, \
            default="from_dtype"
        The categorical columns, as in `TableEncoder`: a mask, positions or names; None for none.
        "from_dtype": the columns of a data frame with categories or strings, and those of an array
        of objects with strings, unless the strings are numbers, dates or text.
    column_kinds : dict or None, default=None
        The kinds of columns, as in `TableEncoder`, by their names or positions: "number",
        "category", "text", "date", "time" or "duration". None infers them from dtypes and values.
    loss : str or Loss, default="squared_error"
        The loss that is minimized, which determines what is predicted, as in `BackpropRegressor`.
        y is divided by its standard deviation, or by its mean if the loss needs non-negative
        targets. "squared_error": the mean; "absolute_error" and "quantile": the median; "huber" and
        "log_cosh": between the two; "poisson", "gamma" and "tweedie": positive means; "gaussian": a
        mean and a variance that depend on x. Or an object: a `Quantile` has other levels, or
        several at once. The link of a loss of your own must define ``link(predictions)``.
    clip : bool, default=True
        Whether predictions are clipped to the range of the training targets. Predictions beyond it
        are extrapolations, which may be far off for unusual rows, above all with the losses for
        positive means. It applies to every loss and to each quantile, but not to intervals.
    blend : "auto", "boosting", list of estimators or None, default="auto"
        Regressors that are averaged with the networks. Each is cloned and fitted for the same
        folds, and weighted by its out-of-fold predictions. They predict one number for each row,
        so `loss` must not have several levels or be "gaussian". "boosting" is a
        `HistGradientBoostingRegressor` (learning rate 0.15, 16 leaves, half of the columns for each
        split, at most 1,000 iterations, early stopping by the held-out fold) with the same loss:
        squared or absolute error, Poisson, gamma, or one quantile. "auto" is the same from 500 rows
        on, and None for fewer or with other losses. Boosting, and any instance of its class in a
        list, gets the table itself: numbers with missing values, and codes of categories. All
        others, which have losses of their own, get the outputs of a `TableEncoder` in float64. All
        get sample weights if they support them, and a seed for each ``random_state`` that is None.
        A list may also hold "boosting". None for networks only, which are smaller and faster, and
        can be exported to C.
    max_iter : int or None, default=None
        The maximum number of epochs of a network. None lets training choose: 14 to 248.
    time_limit : float or None, default=None
        The maximum number of seconds of `fit`; None for no limit. At the limit, `fit` keeps the
        best networks so far.
    verbose : bool or int, default=False
        Whether to print a line after each training cycle of each ensemble, with its validation loss
        and the maximum time left, and after each estimator of `blend`.
    random_state : int, RandomState instance or None, default=None
        Seed of the weights, folds, frequencies and the order of rows.

    Attributes
    ----------
    oof_prediction_ : array of shape (n_samples,) or (n_samples, n_levels)
        The out-of-fold predictions of the training rows. Attributes that begin with ``oof_`` are
        missing after a fit with X_val.
    oof_score_ : float
        Their R2 or D2 as in `score`, weighted by `sample_weight`: a slightly pessimistic estimate
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
    background_ : tuple of arrays or None
        The encoded training rows that `explain` compares with: numbers, and codes of categories. If
        files must not hold them, set it to None before saving.
    n_iter_ : array of int of shape (n_ensembles, n_estimators)
        The number of epochs of each network.
    column_kinds_ : dict
        The kind of each column, by its name, or by its position if columns have no names: "number",
        "category", "text", "date", "time" or "duration".
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
    .. [4] Robinson, "That BLUP is a good thing: the estimation of random effects", Statistical
       Science 6(1), 1991.

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
    _configurations: ClassVar[Sequence[EnsembleSettings]] = FOR_NUMBERS

    def __init__(
        self,
        n_estimators: int = 8,
        *,
        categorical_features: Columns = "from_dtype",
        column_kinds: ColumnKinds = None,
        loss: RegressorLossName | Loss = "squared_error",
        clip: bool = True,
        blend: Literal["auto", "boosting"] | list[Any] | tuple[Any, ...] | None = "auto",
        max_iter: int | None = None,
        time_limit: float | None = None,
        verbose: bool | int = False,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_estimators = n_estimators
        self.categorical_features = categorical_features
        self.column_kinds = column_kinds
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
        self._targets = RegressorTargets.fit(loss, self.loss, y, weight, self.clip)
        return y

    def _encode_target(self, y: Any) -> Array:
        numbers = self._validate_target(y)
        check_targets(numbers, self._targets.loss, self.loss)
        return numbers

    def _target_type(self) -> str | None:
        return "continuous"

    def _blended_estimators(self, n_rows: int) -> tuple[list[Any], int | None, float]:
        loss = self._targets.loss
        minimum = float(np.finfo(np.float32).tiny) if loss.interval_y_true.low == 0 else -np.inf
        return resolve_blend(self.blend, n_rows, loss, self.loss), None, minimum

    def _make_networks(self, params: dict[str, Any], rows: LabeledRows) -> Any:
        is_scaled = self._targets.scaling.scale is not None
        intercepts = self._targets.initial_intercepts(rows.y, rows.weight).tolist()
        init = OutputBiasInit(tuple(intercepts))
        return TableRegressorNetworks(**params, loss=self.loss, scale_target=is_scaled, init=init)

    def _fit_mixture(
        self, outputs: Sequence[Array], y: Array, weight: Array | None, folds: Array | None
    ) -> Array:
        by_component = [self._targets.mixture(list(own)) for own in outputs]
        self.weights_ = self._targets.weights(by_component, y, weight)
        mixed = self._targets.mixture(by_component, self.weights_.tolist())
        folds = np.zeros(len(y), dtype=np.intp) if folds is None else folds
        has_weight = np.ones(len(y), dtype=bool) if weight is None else weight > 0
        self._error_scale = self._targets.fit_error_scale(mixed[has_weight], y[has_weight])
        band = self._targets.prediction_band(mixed, self._error_scale)
        scores = band.conformity_scores(y)
        # Sorted conformity scores of each fold, or of all validation rows.
        self._scores = [
            np.sort(scores[has_weight & (folds == fold)]) for fold in range(folds.max() + 1)
        ]
        return mixed

    def _loss_of_mixture(self, outputs: Sequence[Array], y: Array, weight: Array | None) -> float:
        mixed = shallow_copy_of(self)._fit_mixture(outputs, y, weight, None)
        return 1 - self._targets.score(mixed, y, weight)

    def _mix(self, outputs: Sequence[Array]) -> Array:
        by_component = [self._targets.mixture(list(own)) for own in outputs]
        return self._targets.mixture(by_component, self.weights_.tolist())

    def _set_out_of_fold(self, mixed: Array, y: Array, weight: Array | None) -> None:
        self.oof_prediction_ = self._targets.predictions(mixed)
        self.oof_score_ = self._targets.score(mixed, y, weight)

    def _is_out_of_fold(self, mixed: Array) -> bool:
        tolerance = 0.01 * np.ptp(self.oof_prediction_)
        found = self._targets.predictions(mixed)
        return np.allclose(found, self.oof_prediction_, rtol=0.01, atol=tolerance)

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

    def explain(
        self,
        X: TableLike,
        *,
        background: MatrixLike | None = None,
        n_permutations: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> Explanation:
        """Explain each prediction by the share of each column.

        The shares are interventional Shapley values [1]_ of the whole model: they sum to the
        prediction minus the mean prediction of the background. The share of a column is the mean
        change of the prediction when its value replaces that of a background row, over all orders
        in which columns are replaced. Columns are those of the table, not of its encoding.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The rows to explain.
        background : data frame, array-like or sparse matrix, default=None
            Rows to compare with. If there are more than 100, a random sample of 100 is used. None
            for 100 training rows with weight, which `fit` keeps (fewer above 1,000 columns).
        n_permutations : int, default=None
            The number of random orders for each background row. Every second order is the reverse
            of the previous one [2]_. None computes exact values for up to 6 columns, and draws 1
            order for more. The time is proportional to the number. Even numbers give exact values
            if at most two columns interact.
        random_state : int, RandomState instance or None, default=0
            Seed of the orders.

        Returns
        -------
        explanation : Explanation
            Its ``values`` have the shape (n_samples, n_features), or (n_samples, n_features,
            n_levels) with several levels of a `Quantile`.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError, TypeError
            If an argument is not valid, or the table has other columns than in `fit`.

        References
        ----------
        .. [1] Janzing, Minorics & Bloebaum, "Feature relevance quantification in explainable AI: a
           causal problem", AISTATS 2020.
        .. [2] Mitchell, Cooper, Frank & Holmes, "Sampling permutations for Shapley value
           estimation", Journal of Machine Learning Research 23(43), 2022.

        Examples
        --------
        >>> from sklearn.datasets import load_diabetes
        >>> from skbackprop import TabularRegressor
        >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
        >>> model = TabularRegressor(n_estimators=2, max_iter=5, random_state=0).fit(X, y)
        >>> explanation = model.explain(X[:2])
        >>> explanation.values.shape
        (2, 10)
        >>> bool(abs(explanation.predictions - model.predict(X[:2])).max() < 1e-9)
        True
        """
        return self._explain(
            X,
            background,
            lambda outputs: self._targets.predictions(self._mix(outputs)),
            None,
            n_permutations,
            random_state,
        )

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
        gives the conformity score ``s_i = abs(y_i - m_k(i)(x_i)) / r(m_k(i)(x_i))``. Here r(m) is
        the mean absolute out-of-fold error of rows whose predictions are close to m, divided by
        that of all rows (Lei et al. 2018, section 5.2). For a new row x, the upper end is the
        ceil((n + 1) coverage)-th smallest of the n numbers ``m_k(i)(x) + s_i r(m_k(i)(x))``. The
        lower end is the ceil((n + 1) coverage)-th largest of ``m_k(i)(x) - s_i r(m_k(i)(x))``.
        Intervals are wider where networks disagree, where similar predictions have larger errors,
        and where the loss learns larger noise. With several levels of `Quantile`, the score is
        ``max(low - y, y - high)`` and moves the two quantiles (Romano et al. 2019). With
        ``loss="gaussian"``, the score is ``abs(y - m) / std``.

        For new rows of the same distribution, the coverage is at least ``1 - 2 (1 - coverage)`` for
        any networks (theorem 4), and typically close to `coverage`. After a fit with groups, this
        holds for rows of new groups. After a fit with X_val, the method is split conformal
        prediction, with scores of the whole ensemble on X_val. Theorem 4 assumes that models do not
        depend on held-out rows. Here r depends on them slightly: it has at most eight values, each
        a mean of 20 rows or more.

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

        Lei, J., G'Sell, M., Rinaldo, A., Tibshirani, R. J. & Wasserman, L. (2018).
        Distribution-free predictive inference for regression. JASA 113(523), 1094-1111.

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
                f"coverage={coverage} needs at least {needed} held-out rows with positive weight, "
                f"but the regressor was fitted with {n_rows}. Use more rows, or a lower coverage."
            )
        return self._predict(X, lambda outputs: self._intervals(outputs, float(coverage)))

    def _intervals(self, outputs: Sequence[Array], coverage: float) -> Array:
        if len(self._scores) == 1:
            by_fold = self._mix(outputs)[None]
        else:  # model k of each component held out fold k
            by_fold = self._targets.mixture(outputs, self.weights_.tolist())
        band = self._targets.prediction_band(by_fold, self._error_scale)
        return np.clip(cv_plus_interval(band, self._scores, coverage), *self._range_of_targets)

    def score(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return R2 or D2 of the predictions.

        It is R2 for "squared_error" and "poisson", and D2 of the loss for all others, as in
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


class TableRegressorNetworks(TabularNetworkMixin, BackpropRegressor):
    """Networks of a `TabularRegressor`."""

    min_gain = 0.1  # squared errors fall twice as fast as errors

    def component_outputs(self, scores: Array) -> Array:
        """Return predictions, one for each quantile, or mean and variance of all networks."""
        outputs = self._predict_means(scores)
        outputs = outputs.reshape(*outputs.shape[:2], -1)
        if not self._learns_deviation:
            return outputs
        each = [self._data_info.loss.predict_std(own) for own in scores]
        std = self._to_units_of_y(each, from_zero=True)
        variance = np.square(std.astype(np.float64))
        return np.concatenate([outputs, variance[..., None]], axis=2)

    def loss_of_outputs(self, outputs: Array, rows: LabeledRows, is_out_of_fold: bool) -> float:
        """Return the unexplained share of the loss."""
        if is_out_of_fold:
            return 1 - float(self.oof_score_)
        targets = self._get_target_encoder(self._data_info).encode(rows.y, needs_all=False)
        scores = self._predict_in_blocks(rows.X, self._average_raw)
        return 1 - float(self._data_info.loss.score(scores, targets, rows.weight))


@dataclass(frozen=True, eq=False)
class RegressorTargets:
    """Targets and loss of a regressor, and what can be computed from its outputs.

    Outputs have the shape (..., n, n_outputs): a prediction, one for each quantile, or a mean and a
    variance, as the loss determines.

    Parameters
    ----------
    scaling : RegressionTargets
        The scaled targets of one column, and the loss.
    range : tuple of float or None
        The bounds that predictions are clipped to; None for no bounds.
    """

    scaling: RegressionTargetEncoder
    range: tuple[float, float] | None

    @classmethod
    def fit(cls, loss: Loss, setting: Any, y: Array, weight: Array | None, clip: bool) -> Self:
        """Fit to targets of shape (n,); raise if the loss does not suit them."""
        is_scaled = can_be_scaled(loss)
        scaling = RegressionTargetEncoder.fit(
            loss, setting, y, weight, np.float32, is_scaled=is_scaled
        )
        return cls.from_scaling(scaling, (float(y.min()), float(y.max())) if clip else None)

    @classmethod
    def from_scaling(
        cls, scaling: RegressionTargetEncoder, range: tuple[float, float] | None
    ) -> Self:
        """Return the targets; raise if the loss cannot be computed from predictions."""
        targets, loss = cls(scaling, range), scaling.loss
        try:
            targets.loss.link.link(np.ones((1, targets.loss.n_outputs_per_target)))
        except NotImplementedError:
            raise ValueError(
                f"loss={scaling.setting!r} has the link {type(loss.link).__name__}, that does not "
                "compute scores from predictions, but several networks need them. Define its "
                "link(predictions)."
            ) from None
        return targets

    @property
    def loss(self) -> Loss:
        """The loss."""
        return self.scaling.loss

    @property
    def has_variance(self) -> bool:
        """Whether the last output is a variance."""
        return type(self.loss).predict_std is not Loss.predict_std

    def initial_intercepts(self, y: Array, weight: Array | None) -> Array:
        """Return the raw predictions of the best constant for targets of shape (n,)."""
        encoded = self.scaling.encode(y, needs_all=False)[:, 0].astype(np.float64)
        scores = self.loss.fit_intercept_only(encoded, weight)
        if isinstance(self.loss, (Quantile, Gaussian)):
            scores[1:] = np.maximum(scores[1:], _MIN_RAW_PREDICTION)
        return scores

    def mixture(self, outputs: Sequence[Array], weights: Sequence[float] | None = None) -> Array:
        """Return the outputs of a mixture of models, by default with equal weights.

        Predictions are weighted means. The variance is the mean of the variances plus the variance
        of the means (Lakshminarayanan et al. 2017, section 2.4).
        """
        if weights is None:
            weights = [1 / len(outputs)] * len(outputs)
        pairs = [(w, own.astype(np.float64)) for w, own in zip(weights, outputs, strict=True)]
        mixed = np.asarray(sum(weight * own for weight, own in pairs))
        if self.has_variance:
            mean = mixed[..., 0].copy()
            mixed[..., -1] += sum(w * np.square(own[..., 0] - mean) for w, own in pairs)
        return mixed

    def predictions(self, outputs: Array) -> Array:
        """Return predictions within the range: (..., n), or (..., n, n_quantiles)."""
        alone = self._clip(outputs)
        alone = alone[..., :-1] if self.has_variance else alone
        return alone if alone.shape[-1] > 1 else alone[..., 0]

    def fit_error_scale(self, outputs: Array, y: Array) -> ErrorScale | None:
        """Fit the error as a function of the prediction, for losses with a single output."""
        if outputs.shape[-1] > 1:
            return None
        predictions = self.predictions(outputs)
        return ErrorScale.fit(predictions, np.abs(y - predictions))

    def prediction_band(self, outputs: Array, error_scale: ErrorScale | None) -> UncalibratedBand:
        """Return the band that conformal intervals start from, of shape (..., n).

        Quantiles are not clipped. At the bounds of the range many would be equal, and so would be
        the conformity scores of targets there, so that intervals would cover too much.
        """
        if outputs.shape[-1] > 1 and not self.has_variance:
            return UncalibratedBand.from_quantiles(outputs)
        mean = self.predictions(outputs)
        std = np.sqrt(outputs[..., -1]) if error_scale is None else error_scale.at(mean)
        return UncalibratedBand.from_mean_and_std(mean, std)

    def _clip(self, outputs: Array) -> Array:
        """Return a copy whose predictions, but not variances, are within the range."""
        clipped = outputs.copy()
        if self.range is not None:
            predictions = clipped[..., :-1] if self.has_variance else clipped
            np.clip(predictions, *self.range, out=predictions)
        return clipped

    def score(self, outputs: Array, y: Array, weight: Array | None) -> float:
        """Return R2, or D2 of the loss, for outputs (n, n_outputs) and targets (n,)."""
        outputs = self._clip(outputs)
        if isinstance(self.loss, (SquaredError, Poisson)):
            return float(r2_score(y, outputs[:, 0], sample_weight=weight))
        encoded = self.scaling.encode(y, needs_all=False)
        return self.loss.score(self._raw_predictions(outputs), encoded, weight)

    def weights(self, outputs: Sequence[Array], y: Array, weight: Array | None) -> Array:
        """Return the non-negative weights of models, with sum one, that minimize the loss."""
        n_models = len(outputs)
        if isinstance(self.loss, SquaredError):
            return stacking_weights_nnls(np.array([own[:, 0] for own in outputs]), y, weight)
        equal = np.full(n_models, 1 / n_models)
        if n_models == 1:
            return equal
        encoded = self.scaling.encode(y, needs_all=False).astype(np.float64)

        def mean_loss(weights: Any) -> float:
            scores = self._raw_predictions(self.mixture(outputs, weights))
            losses = self.loss.value(scores[None], encoded[None])[0]
            return float(np.average(losses, weights=weight))

        sum_is_one: Any = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
        bounds = [(0, 1)] * n_models
        found = minimize(mean_loss, equal, method="SLSQP", bounds=bounds, constraints=sum_is_one).x
        found = np.clip(found, 0, None) / np.clip(found, 0, None).sum()
        return min(equal, found, key=mean_loss)

    def _raw_predictions(self, outputs: Array) -> Array:
        """Return the raw predictions of a network with these outputs."""
        scaled = self.scaling.to_training_units(outputs)
        if self.has_variance:
            std = self.scaling.to_training_units(np.sqrt(outputs[..., -1]), from_zero=True)
            scaled[..., -1] = np.square(std)
        return self.loss.link.link(scaled)


def stacking_weights_nnls(predictions: Array, y: Array, weight: Array | None) -> Array:
    """Return the weights of models whose weighted mean has the least squared error.

    With the errors E of the models they minimize ||E w||^2 over all w >= 0 with sum one. The
    minimum of ||E w||^2 + (sum(w) - 1)^2 over all w >= 0 is a multiple of them: along each
    direction its minimum is q / (1 + q), which increases with q = ||E w||^2 / sum(w)^2.

    Parameters
    ----------
    predictions : array of shape (n_models, n)
        The predictions of each model.
    y : array of shape (n,)
        The targets.
    weight : array of shape (n,) or None
        The weight of each row.

    Returns
    -------
    weights : array of shape (n_models,)
        The weights, with sum one.
    """
    n_models = len(predictions)
    errors = (predictions - y).T * (1.0 if weight is None else np.sqrt(weight)[:, None])
    size = np.linalg.norm(errors)
    if n_models == 1 or size == 0:
        return np.full(n_models, 1 / n_models)
    equations = np.vstack([errors / size, np.ones(n_models)])
    weights, _ = nnls(equations, np.append(np.zeros(len(y)), 1.0))
    return np.asarray(weights / weights.sum())
