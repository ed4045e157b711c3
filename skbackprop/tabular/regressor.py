"""TabularRegressor: predictions and prediction intervals for raw tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import minimize
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from ..estimators._parameters import RegressorParameters
from ..estimators.conformity_scores import (
    ErrorScale,
    UncalibratedBand,
    check_coverage,
    cv_plus_interval,
)
from ..estimators.explanation import Explanation
from ..losses.base import Loss, can_be_scaled
from ..losses.regression import REGRESSOR_LOSSES, Gaussian, Poisson, Quantile, SquaredError
from ..nn.rows import Rows, split_targets
from ..training.checks import replace_missing_targets, validate_numbers, weigh_targets
from ..training.targets import NumberTargets
from ..utils._name_types import RegressorLossName
from ..utils.arrays import Array, ColumnKinds, Columns, MatrixLike, MonotonicCst, TableLike
from ._blended_estimators import AUTO, is_monotone, resolve_blend
from ._ensemble_weights import stacking_weights_nnls
from ._networks import FOR_NUMBERS, EnsembleSettings, OutputBiasInit, TabularRegressorNetworks
from ._prediction import apply_scorer
from .base import BaseTabular, split_held_out

# The lower bound of the initial raw prediction of a variance, or of the step between quantiles.
# Below a twentieth of a standard deviation, its gradient would vanish.
_MIN_RAW_PREDICTION = -3.0


class TabularRegressor(RegressorMixin, BaseTabular):
    """Regressor for raw tables with prediction intervals: networks and boosting.

    Tables may have numbers, booleans, categories and strings, of any scale, with missing values,
    and y may have any scale too. There are `n_estimators` networks. They get cosines and
    piecewise-linear bins of each number, which a trained layer maps to a few inputs [1]_. Each
    network holds out one fold. Networks are trained in cycles. In each cycle the learning rate
    decays to zero [2]_. Training ends when a cycle no longer lowers the out-of-fold loss enough.
    Gradient boosting is trained on the same folds. Predictions are averages of networks and
    boosting, with weights chosen on out-of-fold predictions. The errors of out-of-fold predictions
    determine the width of intervals in `predict_interval` [3]_. The defaults work well for tables
    of many kinds, so nothing has to be tuned. With `monotonic_cst`, half of the hidden units of
    each network see the columns with a constraint, and are monotone [5]_.

    Y may have several columns of targets. All targets are learned by the same networks, each on its
    own scale; boosting is trained for each target. NaN means that a target was not measured: it has
    no part in training, scores and intervals.

    If the target depends on a number by a different slope for each category, such as a trend over
    years that differs between countries, the networks get one more input: out-of-fold predictions
    by one straight line per category, with slopes shrunk toward the common slope [4]_. At most
    three pairs of a categorical and a numeric column get such an input, each only if separate
    slopes lower the squared out-of-fold error by a quarter or more.

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
        The columns in which the prediction is monotone, with the values of
        `HistGradientBoostingRegressor`: 1 if it must not fall when the number rises, -1 if it
        must not rise, 0 for no constraint. An array has a value for each column, a dict maps names
        or positions of columns to values. For columns of numbers, booleans and durations, and for
        losses with one prediction. Boosting has the same constraints, except with absolute errors
        and quantiles, and `blend` must hold no other estimators; "auto" leaves boosting out with
        these losses. The ends of intervals may not be monotone. None for no constraints.
    loss : str or Loss, default="squared_error"
        The loss that is minimized, as in `BackpropRegressor`. It determines what is predicted. For
        training, y is divided by its standard deviation, or by its mean if the loss needs
        non-negative targets. "squared_error": the mean; "absolute_error" and "quantile": the
        median; "huber" and "log_cosh": a value between mean and median; "poisson", "gamma" and
        "tweedie": positive means; "gaussian": a mean and a variance that depend on x. Or a loss
        object: `Quantile` predicts other levels, or several levels at once. A loss of your own
        needs a link with the method ``link(predictions)``.
    clip : bool, default=True
        Whether predictions are clipped to the range of the training targets. Predictions outside
        this range are extrapolations, which may be far off for unusual rows, above all with the
        losses for positive means. Predictions of all losses are clipped, but intervals are not.
    blend : "auto", "boosting", list of estimators or None, default="auto"
        Regressors that are averaged with the networks. Each regressor is cloned for each target,
        trained on the same folds, and weighted by its out-of-fold predictions. `loss` must not be
        "gaussian" or have several levels, because these regressors predict one number for each row.
        "boosting" is a `HistGradientBoostingRegressor` (learning rate 0.15, 16 leaves, half of the
        columns for each split, at most 1,000 iterations, early stopping by the held-out fold) with
        the same loss: squared or absolute error, Poisson, gamma, or one quantile. "auto" is
        "boosting" for 500 rows or more, and None for fewer rows or another loss. Above 60,000 rows,
        "auto" drops boosting if it lowers the out-of-fold loss of each target by less than 2 %,
        because boosting predicts slowly. A list has regressors, each with its own loss, and may
        also have "boosting". Every `HistGradientBoostingRegressor` gets numbers with missing
        values, and codes of categories. Other regressors get the outputs of a `TableEncoder` in
        float64. All get sample weights if they support them, and a seed for each ``random_state``
        that is None. None for networks only, which are smaller and faster.
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
    oof_prediction_ : array of the shape of y, or (n_samples, n_levels)
        The out-of-fold predictions of the training rows. After a fit with X_val, there are no
        attributes that begin with ``oof_``.
    oof_score_ : float
        The R2 or D2 of `oof_prediction_`, as in `score`, weighted by `sample_weight`: a slightly
        pessimistic estimate of the score on new rows, because each out-of-fold prediction comes
        from a single network.
    networks_ : list of one estimator
        The ensemble, a fitted `BackpropRegressor` for encoded rows.
    oof_member_ : array of int of shape (n_samples,)
        The network that held out each row.
    blended_ : list of lists of estimators
        For each estimator of `blend`, a list of its clones, one for each fold; after a fit with
        X_val, a list of a single clone. With several targets, each fold has a clone for each of
        them, one after the other. Estimators that exceeded the time limit are missing.
    weights_ : array of shape (n_ensembles + n_blended,) or (n_ensembles + n_blended, n_targets)
        The weights in predictions: first of each ensemble of `networks_`, then of each estimator of
        `blended_`. The sum is one, for each target.
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
    .. [5] Sartor, Sinigaglia & Susto, "Advancing constrained monotonic neural networks: achieving
       universal approximation beyond bounded activations", ICML 2025.

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
        "loss": RegressorParameters._parameter_constraints["loss"],
        "clip": ["boolean"],
    }
    _configurations: ClassVar[Sequence[EnsembleSettings]] = FOR_NUMBERS
    _target_type = "continuous"
    _range: Array | None  # the bounds that predictions are clipped to, of shape (2, n_targets, 1)

    def __init__(
        self,
        n_estimators: int | str = "auto",
        *,
        categorical_features: Columns = "from_dtype",
        column_kinds: ColumnKinds = None,
        monotonic_cst: MonotonicCst = None,
        loss: RegressorLossName | Loss = "squared_error",
        clip: bool = True,
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
        self.loss = loss
        self.clip = clip
        self.blend = blend
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.n_jobs = n_jobs
        self.verbose = verbose
        self.random_state = random_state

    def _fit_targets(self, y: Array, weight: Array | None) -> None:
        loss = REGRESSOR_LOSSES[self.loss] if isinstance(self.loss, str) else self.loss
        if self.monotonic_cst is not None and loss.n_outputs_per_target > 1:
            raise ValueError(
                "monotonic_cst needs a loss with one prediction for each target, got "
                f"loss={self.loss!r}. Set it to None, or choose another loss."
            )
        self._targets = NumberTargets.fit(loss, y, weight, is_scaled=can_be_scaled(loss))
        try:
            loss.link.link(np.ones((1, loss.n_outputs_per_target)))
        except NotImplementedError:
            raise ValueError(
                f"loss={loss!r} has the link {type(loss.link).__name__}, that does not compute "
                "scores from predictions, but several networks need them. Define its "
                "link(predictions)."
            ) from None
        bounds = np.array([y.min(axis=0), y.max(axis=0)])
        self._range = bounds.reshape(2, -1, 1) if self.clip else None

    @staticmethod
    def _validate_targets(y: Any, sample_weight: Any, X: Any) -> tuple[Array, Array | None]:
        y, is_missing = replace_missing_targets(y)
        numbers = validate_numbers(y)
        check_consistent_length(X, numbers)
        return weigh_targets(numbers, is_missing, sample_weight, X)

    def _encode_targets(self, y: Array) -> Array:
        self._targets.encode(y)  # checks shape and range
        return y

    def _blended_estimators(self, n_rows: int) -> list[Any]:
        blended = resolve_blend(self.blend, n_rows, self._targets.loss, self.loss)
        if self.blend == AUTO and any(self._features.encoding.constraints):
            blended = [item for item in blended if is_monotone(item)]
        return blended

    def _make_networks(self, params: dict[str, Any], rows: Rows) -> Any:
        loss = self._targets.loss
        encoded_y = self._targets.encode(rows.y).astype(np.float64)
        targets = split_targets(encoded_y[:, :: loss.n_outputs_per_target], rows.weight)
        intercepts = np.array([loss.fit_intercept_only(y, weight) for y, weight in targets])
        if isinstance(loss, (Quantile, Gaussian)):
            intercepts[:, 1:] = np.maximum(intercepts[:, 1:], _MIN_RAW_PREDICTION)
        is_scaled = self._targets.scale is not None
        init = OutputBiasInit(tuple(intercepts.ravel().tolist()))
        return TabularRegressorNetworks(**params, loss=self.loss, scale_target=is_scaled, init=init)

    # -------------------------------------------------------------------- mixtures
    # Outputs have the shape (..., n, n_targets, n_outputs): for each target a prediction, one for
    # each quantile, or a mean and a variance, as the loss determines.

    def _combine(self, outputs: Sequence[Array], weights: Any = None) -> Array:
        """Return the outputs of a mixture of models, by default with equal weights.

        Predictions are weighted means. The variance is the mean of the variances plus the variance
        of the means (Lakshminarayanan et al. 2017, section 2.4).

        Parameters
        ----------
        outputs : sequence of arrays
            The outputs of each model.
        weights : array of shape (n_models,) or (n_models, n_targets), default=None
            The weight of each model.
        """
        if weights is None:
            weights = [1 / len(outputs)] * len(outputs)
        weights = np.reshape(weights, (len(outputs), -1, 1))
        pairs = [(w, item.astype(np.float64)) for w, item in zip(weights, outputs, strict=True)]
        mixture = np.asarray(sum(weight * item for weight, item in pairs))
        if self._targets.have_std:
            mean = mixture[..., :1].copy()
            mixture[..., -1:] += sum(w * np.square(item[..., :1] - mean) for w, item in pairs)
        return mixture

    def _mix(self, outputs: Sequence[Array]) -> Array:
        components = [self._combine(list(item)) for item in outputs]
        return self._combine(components, self.weights_)

    def _fit_mixture(self, outputs: Sequence[Array], y: Array, weight: Array | None) -> Array:
        components = [self._combine(list(item)) for item in outputs]
        weights = [
            self._fit_weights([item[:, [i]] for item in components], self._targets.select(i), *data)
            for i, data in enumerate(split_targets(y, weight))
        ]
        self.weights_ = drop_single_axes(np.stack(weights, axis=1), 1)
        return self._combine(components, self.weights_)

    def _fit_weights(
        self, outputs: Sequence[Array], targets: NumberTargets, y: Array, weight: Array | None
    ) -> Array:
        """Return the non-negative weights of models, with sum one, that minimize the loss.

        The outputs, of shape (n, 1, n_outputs), and `targets` are those of one target.
        """
        n_models, loss = len(outputs), targets.loss
        if isinstance(loss, SquaredError):
            return stacking_weights_nnls(np.array([item[:, 0, 0] for item in outputs]), y, weight)
        start = np.full(n_models, 1 / n_models)
        if n_models == 1:
            return start
        encoded_y = targets.encode(y).astype(np.float64)

        def mean_loss(weights: Any) -> float:
            mixture = self._combine(outputs, weights)[:, 0]
            raw_predictions = self._raw_predictions(mixture, targets)
            losses = loss.value(raw_predictions[None], encoded_y[None])[0]
            return float(np.average(losses, weights=weight))

        sum_is_one: Any = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
        bounds = [(0, 1)] * n_models
        shares = minimize(mean_loss, start, method="SLSQP", bounds=bounds, constraints=sum_is_one).x
        shares = np.clip(shares, 0, None) / np.clip(shares, 0, None).sum()
        return min(start, shares, key=mean_loss)

    def _raw_predictions(self, outputs: Array, targets: NumberTargets) -> Array:
        """Return the raw predictions of a network with these outputs for one target."""
        values = targets.to_training_units(outputs)
        if self._targets.have_std:
            std = targets.to_training_units(np.sqrt(outputs[..., -1]), from_zero=True)
            values[..., -1] = np.square(std)
        return targets.loss.link.link(values)

    def _clip(self, outputs: Array) -> Array:
        """Return a copy whose predictions, but not variances, are within the range of y."""
        copy = outputs.copy()
        if self._range is not None:
            predictions = copy[..., :-1] if self._targets.have_std else copy
            np.clip(predictions, *self._range, out=predictions)
        return copy

    def _predictions(self, outputs: Array) -> Array:
        """Return predictions within the range of y, without axes of one target or quantile."""
        clipped = self._clip(outputs)
        return drop_single_axes(clipped[..., :-1] if self._targets.have_std else clipped, -2, -1)

    def _mix_predictions(self, outputs: Sequence[Array]) -> Array:
        return self._predictions(self._mix(outputs))

    def _fit_conformity(self, mixture: Array, rows: Rows, folds: Array | None) -> None:
        predictions, self._error_scales, self._scores = self._clip(mixture), [], []
        for target, (y, weight) in enumerate(split_targets(rows.y, rows.weight)):
            held_out, scale = split_held_out(len(y), weight, folds), None
            if mixture.shape[-1] == 1:  # errors depend on the prediction
                index = np.sort(np.concatenate(held_out))
                centers = predictions[index, target, 0]
                scale = ErrorScale.fit(centers, np.abs(y[index] - centers))
            self._error_scales.append(scale)
            scores = self._prediction_band(mixture, target).conformity_scores(y)
            self._scores.append([np.sort(scores[fold]) for fold in held_out])

    def _prediction_band(self, outputs: Array, target: int) -> UncalibratedBand:
        """Return the band that conformal intervals start from, of shape (..., n).

        Quantiles are not clipped. Many clipped quantiles would be equal, as would be the conformity
        scores of targets at the bounds, and intervals would cover too much.
        """
        if outputs.shape[-1] > 1 and not self._targets.have_std:
            return UncalibratedBand.from_quantiles(outputs[..., target, :])
        mean, scale = self._clip(outputs)[..., target, 0], self._error_scales[target]
        std = np.sqrt(outputs[..., target, -1]) if scale is None else scale.at(mean)
        return UncalibratedBand(mean, 0.0, std)

    def _score_predictions(
        self, y: Array, mixture: Array, weight: Array | None, scoring: Any = None
    ) -> float:
        """Return the mean over the targets of R2 or D2 of the loss, or the score by a scorer."""
        if scoring is not None:
            if weight is not None and weight.ndim == 2:
                raise ValueError(
                    f"scoring={scoring!r} has no weights for each target, which y with NaN or "
                    "sample_weight of two dimensions needs. Set scoring=None."
                )
            return apply_scorer(scoring, self._predictions(mixture), None, y, weight)
        return float(np.mean(self._score_targets(mixture, y, weight)))

    def _score_targets(self, mixture: Array, y: Array, weight: Array | None) -> Array:
        """Return R2 or D2 of the loss of each target that has weight."""
        outputs, loss, scores = self._clip(mixture), self._targets.loss, list[float]()
        for target, (column, column_weight) in enumerate(split_targets(y, weight)):
            if column_weight is not None and not column_weight.any():
                continue
            if isinstance(loss, (SquaredError, Poisson)):
                score = r2_score(column, outputs[:, target, 0], sample_weight=column_weight)
            else:
                targets = self._targets.select(target)
                raw_predictions = self._raw_predictions(outputs[:, target], targets)
                encoded_y = targets.encode(column)
                score = loss.score(raw_predictions, encoded_y, column_weight)
            scores.append(float(score))
        return np.array(scores)

    def _mixture_loss(self, mixture: Array, y: Array, weight: Array | None) -> Array:
        return 1 - self._score_targets(mixture, y, weight)

    def _set_out_of_fold(self, mixture: Array, y: Array, weight: Array | None) -> None:
        self.oof_prediction_ = self._predictions(mixture)
        self.oof_score_ = self._score_predictions(y, mixture, weight)

    def _is_out_of_fold(self, mixture: Array) -> bool:
        shape = len(self.oof_prediction_), self._targets.n_targets, -1
        expected = self.oof_prediction_.reshape(shape)
        tolerance = 0.01 * np.ptp(expected, axis=(0, 2), keepdims=True)
        predictions = self._predictions(mixture).reshape(shape)
        return np.allclose(predictions, expected, rtol=0, atol=tolerance)

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
            The table. A dict or a Series is one row, and a list of dicts several rows.
        return_std : bool, default=False
            Whether to return a standard deviation too. With ``loss="gaussian"``, it is the learned
            standard deviation of the target. With other losses, it is the standard deviation of the
            predictions of all models, which measures their disagreement.

        Returns
        -------
        y : array of shape (n_samples,), (n_samples, n_targets) or (n_samples, n_levels)
            The predictions, one for each target, and for each level of a `Quantile`. With several
            of both, the levels are the last axis.
        std : array of the same shape
            The standard deviation; only with ``return_std``.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError, TypeError
            If the columns of X are not those of `fit`, or a numeric column of `fit` is not numeric
            in X.
        """
        if not return_std:
            return self._predict(X, self._mix_predictions)
        columns = self._predict(X, self._mean_and_std)
        return columns[:, 0], columns[:, 1]

    def explain(
        self,
        X: TableLike,
        *,
        background: MatrixLike | None = None,
        n_permutations: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
    ) -> Explanation:
        """Explain each prediction by the contribution of each column.

        The contributions are interventional Shapley values [1]_ of the whole model: they sum to the
        prediction minus the mean prediction of the background. The contribution of a column is the
        mean change of the prediction when its value replaces that of a background row, over all
        orders in which columns are replaced. Columns are those of the table, not of its encoding.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The rows to explain.
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
            Its ``values`` have the shape (n_samples, n_features), followed by the shape of the
            prediction of a row, with several targets or levels of a `Quantile`.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
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
        mix = self._mix_predictions
        return self._explain(X, background, mix, None, n_permutations, random_state)

    def _mean_and_std(self, outputs: Sequence[Array]) -> Array:
        """Return predictions and their standard deviations along a second axis."""
        mixture = self._mix(outputs)
        mean = self._clip(mixture)
        if self._targets.have_std:
            mean_and_std = np.stack([mean[..., :-1], np.sqrt(mixture[..., -1:])], axis=1)
        else:
            weights = self.weights_.reshape(len(outputs), -1, 1)
            squares = sum(
                weight * np.square(self._clip(item) - mean).mean(axis=0)
                for weight, item in zip(weights, outputs, strict=True)
            )
            mean_and_std = np.stack([mean, np.sqrt(squares)], axis=1)
        return drop_single_axes(mean_and_std, -2, -1)

    def predict_interval(self, X: TableLike, coverage: float = 0.9) -> Array:
        """Return a prediction interval for each row, by CV+.

        CV+ (Barber et al. 2021): each training row i was held out by one network k(i). The error of
        this network gives the conformity score ``s_i = abs(y_i - m_k(i)(x_i)) / r(m_k(i)(x_i))``.
        Here r(m) is the mean absolute out-of-fold error of rows whose predictions are close to m,
        divided by the mean absolute out-of-fold error of all rows (Lei et al. 2018, section 5.2).
        For a new row x, the upper end is the ceil((n + 1) coverage)-th smallest of the n numbers
        ``m_k(i)(x) + s_i r(m_k(i)(x))``. The lower end is the ceil((n + 1) coverage)-th largest of
        ``m_k(i)(x) - s_i r(m_k(i)(x))``. Intervals are wider where networks disagree,
        and where similar predictions have larger errors. With several levels of `Quantile`, the
        score is ``max(low - y, y - high)``, and both quantiles are moved (Romano et al. 2019). With
        ``loss="gaussian"``, the score is ``abs(y - m) / std``. Intervals of these two losses are
        wider where the network predicts more noise.

        For new rows of the same distribution, the coverage is at least ``1 - 2 (1 - coverage)`` for
        any networks (theorem 4), and typically close to `coverage`. After a fit with groups, this
        coverage holds for rows of new groups. After a fit with X_val, the method is split conformal
        prediction, with scores of the whole ensemble on X_val. Theorem 4 assumes that models do not
        depend on held-out rows. Here r depends slightly on held-out rows: it has at most eight
        values, each a mean over 20 rows or more.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The table. A dict or a Series is one row, and a list of dicts several rows.
        coverage : float, default=0.9
            The share of targets that intervals should contain, in (0, 1).

        Returns
        -------
        intervals : array of shape (n_samples, 2) or (n_samples, n_targets, 2)
            The lower and the upper ends, clipped to the domain of the loss (with "poisson" they are
            not negative), not to the range of y.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError
            If `coverage` is not in (0, 1), or there are fewer than ``coverage / (1 - coverage)``
            training rows (after a fit with X_val, rows of X_val) with a target: 9 for 0.9, 19 for
            0.95.
        ValueError, TypeError
            If the columns of X are not those of `fit`, or a numeric column of `fit` is not numeric
            in X.

        Notes
        -----
        Sample weights affect training only. Each conformity score counts once, but rows with weight
        zero are left out.

        The best levels of `Quantile` are ``(1 - coverage) / 2`` and ``(1 + coverage) / 2``.

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
        check_coverage(coverage, min(sum(map(len, scores)) for scores in self._scores))
        return self._predict(X, lambda outputs: self._intervals(outputs, float(coverage)))

    def _intervals(self, outputs: Sequence[Array], coverage: float) -> Array:
        if len(self._scores[0]) == 1:
            fold_outputs = self._mix(outputs)[None]
        else:  # model k of each component held out fold k
            fold_outputs = self._combine(outputs, self.weights_)
        intervals = [
            cv_plus_interval(self._prediction_band(fold_outputs, target), scores, coverage)
            for target, scores in enumerate(self._scores)
        ]
        valid_range = self._targets.loss.interval_y_true[:2]
        return drop_single_axes(np.clip(np.stack(intervals, axis=1), *valid_range), 1)

    def score(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return R2 or D2 of the predictions.

        The score is R2 for "squared_error" and "poisson", and D2 of the loss for all other losses,
        as in `BackpropRegressor`. D2 is the share by which predictions lower the loss of the best
        constant: 1 at best, 0 for this constant, and negative for worse predictions. With several
        targets, the score is their mean.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features)
            The table.
        y : array-like of shape (n_samples,) or (n_samples, n_targets)
            The target, or targets with NaN for those that were not measured.
        sample_weight : array-like of shape (n_samples,) or (n_samples, n_targets), default=None
            The weight of each row, or of each target, non-negative and not all zero; None for equal
            weights.

        Returns
        -------
        score : float
            R2 or D2.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError, TypeError
            If X or y is not valid.
        """
        return self._score_predictions(*self._predict_for_score(X, y, sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        loss = REGRESSOR_LOSSES.get(self.loss) if isinstance(self.loss, str) else self.loss
        tags.target_tags.positive_only = isinstance(loss, Loss) and loss.interval_y_true.low >= 0
        return tags


def drop_single_axes(values: Array, *axes: int) -> Array:
    """Drop those of some axes that have the length one, such as that of a single target."""
    return values.squeeze(axis=tuple(axis for axis in axes if values.shape[axis] == 1))
