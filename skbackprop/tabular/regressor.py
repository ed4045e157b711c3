"""A regressor for raw tables: numbers by an ensemble of networks."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real
from typing import Any, ClassVar, Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import RegressorMixin
from sklearn.utils import check_consistent_length
from sklearn.utils.validation import check_is_fitted

from .._conformal_scores import cv_plus_interval, min_calibration_samples
from ..estimators._parameter_table import constraints_of
from ..estimators._validation import check_targets, validated_numbers, validated_weight
from ..losses.base import Loss
from ..losses.regression import REGRESSOR_LOSSES
from ..utils._typing import RegressorLossName
from ..utils.arrays import Array, Columns, MatrixLike, TableLike
from ._blending import OutputAdapter, resolve_regressors
from ._defaults import FOR_NUMBERS, NetworkDefaults
from ._distribution_targets import DistributionTargets
from ._importance import apply_scorer
from ._network_ensemble import TableRegressorNetworks
from .base import BaseTabular


class TabularRegressor(RegressorMixin, BaseTabular):
    """Predict the numbers that go with raw tables, by an ensemble of networks.

    A table may have numbers, booleans, categories and strings, of any scale, with missing values,
    and y any scale as well. There are `n_estimators` networks, which see each number through
    cosines and the bins that it fills, and learn to map these to a few inputs [1]_. Each holds out
    a fold of its own, so that all rows are held out once. They train in legs, in each of which the
    rate falls to zero [2]_, and all of them end with the last leg that was of use out of fold.
    Predictions are the mean of the networks' predictions; `predict_interval` says how far off they
    may be, by how far off they were out of fold [3]_. The settings are those that were found best
    on tables of many kinds; there is nothing to tune.

    Parameters
    ----------
    n_estimators : int, default=8
        The networks, and the folds; at least 2. Fewer are faster, and somewhat worse. If there
        are fewer rows, there are as many networks as rows.
    categorical_features : array-like of bool, int or str, "from_dtype" or None, \
            default="from_dtype"
        Which columns are categories, as for a `TableEncoder`: a mask, positions or names; None for
        none. "from_dtype": those of a data frame that hold categories or strings, and those of an
        array of objects that hold strings.
    loss : str or Loss, default="squared_error"
        What is minimised, and so what is predicted, as for a `BackpropRegressor`, of y in units of
        its standard deviation, or of its mean where it is not negative: "squared_error", the mean;
        "absolute_error" and "quantile", the median; "huber" and "log_cosh", between the two;
        "poisson", "gamma" and "tweedie", means that are positive; "gaussian", a mean and a
        variance that depend on x. Or an object: a `Quantile` has other levels, or several at once.
        One's own has to have a link that knows its `predict_raw`, as those here do.
    clip : bool, default=True
        Whether predictions are kept in the range of the training targets: what is beyond that is
        extrapolated, and may be far off for a row that is unlike all others, most of all under the
        losses with positive means. It holds for every loss and for each quantile, but not for
        intervals. False for predictions as the networks make them.
    blend : "boosting", list of estimators or None, default=None
        Regressors that are mixed with the networks: each is cloned and fitted for the same folds,
        and weighted with them by what it says out of fold. They predict one number for each row,
        so that `loss` must not be of several levels, or "gaussian". "boosting" is a
        `HistGradientBoostingRegressor` (rate 0.05, half of the columns for each split, at most
        1,000 rounds, early stopping by the fold that is held out) with the same loss: squared or
        absolute error, Poisson, gamma, or one quantile. It, and any of its class in a list, sees
        the table itself: numbers with missing values, and codes of categories. All others, which
        learn by a loss of their own, are given the outputs of a `TableEncoder` in float64. All are
        given the weights of rows if they take them, and a seed for each ``random_state`` that is
        None. A list may hold "boosting" as well. None for networks alone.
    max_iter : int or None, default=None
        The most epochs of a network; None for 14 to 56, the fewer the more rows there are.
    time_limit : float or None, default=None
        The most seconds that `fit` trains for; None for any. If it is over, what has been learned
        is kept.
    verbose : bool or int, default=False
        Whether to print a line after each leg of each ensemble, with its loss of rows that are held
        out and the time that is left at most, and after each estimator of `blend`.
    random_state : int, RandomState instance or None, default=None
        Draws weights, folds, frequencies and the order of rows.

    Attributes
    ----------
    oof_prediction_ : array of shape (n_samples,) or (n_samples, n_levels)
        The prediction of each training row, by the network that has held it out. What begins with
        ``oof_`` is not there after a fit with X_val.
    oof_score_ : float
        What `score` makes of them, R2 or D2, in which rows have their `sample_weight`: an estimate
        of what it says of new rows, and a little low, since it is of single networks.
    networks_ : list of one estimator
        The ensemble, a fitted `BackpropRegressor` of encoded rows.
    oof_member_ : array of int of shape (n_samples,)
        The network that has held out each row.
    blended_ : list of lists of estimators
        For each estimator of `blend` its clones, one for each fold; one alone after a fit with
        X_val. One is missing that there was no time for.
    weights_ : array of shape (n_ensembles + n_blended,)
        What each ensemble weighs in the predictions, and then each of `blended_`; they add up to
        one.
    n_iter_ : array of int of shape (n_ensembles, n_estimators)
        The epochs that each network was trained for.
    n_features_in_ : int
        The number of columns.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, where they are all strings.

    See Also
    --------
    TabularClassifier : The same for labels.
    ConformalRegressor : Intervals around any regressor's predictions, by rows held out.
    TableEncoder : Raw tables as input for other estimators.

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

    def _checked_target(self, y: Any) -> Array:
        return validated_numbers(y)

    def _take_in(self, y: Array, weight: Array | None) -> Array:
        loss = REGRESSOR_LOSSES[self.loss] if isinstance(self.loss, str) else self.loss
        self._said = DistributionTargets.learn(loss, self.loss, y, weight, self.clip)
        return y

    def _encoded_target(self, y: Any) -> Array:
        numbers = self._checked_target(y)
        check_targets(numbers, self._said.loss, self.loss)
        return numbers

    @property
    def _kind_of_target(self) -> str | None:
        return "continuous"

    def _others(self) -> tuple[list[Any], OutputAdapter]:
        loss = self._said.loss
        least = np.finfo(np.float32).tiny if loss.interval_y_true.low == 0 else -np.inf
        return resolve_regressors(self.blend, loss, self.loss), OutputAdapter(None, float(least))

    def _networks(self, settings: dict[str, Any], y: Array, weight: Array | None) -> Any:
        is_scaled = self._said.targets.scale is not None
        networks = TableRegressorNetworks(**settings, loss=self.loss, scale_target=is_scaled)
        networks._scores_of_mean = self._said.start(y, weight)
        return networks

    def _combine(self, said: list[Array], y: Array, weight: Array | None) -> Array:
        by_component = [self._mixed_equally(own) for own in said]
        self.weights_ = self._said.weights(by_component, y, weight)
        return self._said.mixture(by_component, self.weights_.tolist())

    def _measure(self, mixed: Array, y: Array, weight: Array | None, folds: Array | None) -> None:
        scores = self._said.prediction_band(mixed).conformity_scores(y)
        folds = np.zeros(len(y), dtype=np.intp) if folds is None else folds
        counts = np.ones(len(y), dtype=bool) if weight is None else weight > 0
        each = [counts & (folds == fold) for fold in range(folds.max() + 1)]
        # In ascending order, of each fold; of all rows that are watched where there are no folds.
        self._scores = [np.sort(scores[rows]) for rows in each]

    def _keep_out_of_fold(self, mixed: Array, y: Array, weight: Array | None) -> None:
        self.oof_prediction_ = self._said.predictions(mixed)
        self.oof_score_ = self._said.score(mixed, y, weight)

    def _score_of(self, mixed: Array, y: Array, weight: Array | None, scoring: Any) -> float:
        if scoring is None:
            return self._said.score(mixed, y, weight)
        return apply_scorer(scoring, self._said.predictions(mixed), None, y, weight)

    def _predictions_of(self, mixed: Array) -> Array:
        return self._said.predictions(mixed)

    @property
    def _oof(self) -> Array:
        return self.oof_prediction_

    def _mixed_equally(self, said: Array) -> Array:
        """Return what the models of a component say together, of shape (n, n_values)."""
        return self._said.mixture(list(said), [1 / len(said)] * len(said))

    def _mixed(self, outputs: list[Array]) -> Array:
        """Return what all models say together, of shape (n, n_values)."""
        by_component = [self._mixed_equally(own) for own in outputs]
        return self._said.mixture(by_component, self.weights_.tolist())

    def _by_fold(self, outputs: list[Array]) -> Array:
        """Return what those models say together that have held out one fold, for each fold.

        It has the shape (n_folds, n, n_values). Without folds it is what all models say.
        """
        if len(self._scores) == 1:
            return self._mixed(outputs)[None]
        return self._said.mixture(outputs, self.weights_.tolist())

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
            The table; a dict or a Series is one row, a list of dicts several.
        return_std : bool, default=False
            Whether to return a standard deviation as well. With ``loss="gaussian"`` it is that of
            the targets, which is learned; with any other loss it is that of the networks'
            predictions, which says how much they disagree.

        Returns
        -------
        y : array of shape (n_samples,) or (n_samples, n_levels)
            The predictions: with several levels of `Quantile` one for each.
        std : array of the same shape
            The standard deviation; only with ``return_std``.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError, TypeError
            If X has other columns than in `fit`, or one that held numbers then does not now.
        """
        if not return_std:
            return self._predicted(X, lambda outputs: self._said.predictions(self._mixed(outputs)))
        both = self._predicted(X, self._mean_and_std)
        return both[:, 0], both[:, 1]

    def _mean_and_std(self, outputs: list[Array]) -> Array:
        """Return predictions, and their standard deviations, along a second axis."""
        mixed = self._mixed(outputs)
        mean = self._said.predictions(mixed)
        if self._said.has_variance:
            return np.stack([mean, np.sqrt(mixed[..., -1])], axis=1)
        of_each = [self._said.predictions(own) for own in outputs]
        squares = sum(
            weight * np.square(own - mean).mean(axis=0)
            for weight, own in zip(self.weights_, of_each, strict=True)
        )
        return np.stack([mean, np.sqrt(squares)], axis=1)

    @property
    def _learns_deviation(self) -> bool:
        """Whether the standard deviation that `predict` returns is that of the targets."""
        return self._said.has_variance

    @property
    def _range_of_targets(self) -> tuple[float, float]:
        """The lowest and the highest target that the fitted loss allows."""
        loss = self._said.loss
        return loss.interval_y_true.low, loss.interval_y_true.high

    def predict_interval(self, X: TableLike, coverage: float = 0.9) -> Array:
        """Return an interval for each row that holds its target with the probability asked for.

        CV+ (Barber et al. 2021): each training row i was held out by one network, k(i), and the
        score s_i is how far off that network is, abs(y_i - m_k(i)(x_i)). For a new row x, the
        upper end is the ceil((n + 1) coverage)-th smallest of all n ``m_k(i)(x) + s_i``, the lower
        end likewise of ``m_k(i)(x) - s_i``: an interval is wider where the networks disagree.
        Where the loss learns how large the noise is, it is wider there too. With several levels of
        `Quantile`, the score is ``max(low - y, y - high)``, and the two quantiles are moved by
        it (Romano et al. 2019); with ``loss="gaussian"`` it is ``abs(y - m) / std``.

        For rows from where the training rows come from, the probability that the target lies
        inside is at least about ``1 - 2 (1 - coverage)`` whatever the networks are like (theorem
        4), and as a rule close to `coverage`. After a fit with groups that is true of rows of new
        groups. After one with X_val all networks together are measured on X_val, by split
        conformal prediction.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The table; a dict or a Series is one row, a list of dicts several.
        coverage : float, default=0.9
            The share of the targets that the intervals are to hold, in (0, 1).

        Returns
        -------
        intervals : array of shape (n_samples, 2)
            The lower and the upper end, which are not clipped to the range of y, but to what the
            loss is defined for: with "poisson" they are not below zero.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError
            If `coverage` is not in (0, 1), or takes more rows than there are: n of at least
            ``coverage / (1 - coverage)``, which is 9 for 0.9 and 19 for 0.95.
        ValueError, TypeError
            If X has other columns than in `fit`, or one that held numbers then does not now.

        Notes
        -----
        Weights of rows are for training: of the rows that scores are measured on each counts once,
        but for those that weigh nothing, which do not count.

        Quantiles are best learned for the levels (1 - coverage) / 2 and (1 + coverage) / 2.

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
                f"coverage={coverage} needs at least {needed} rows that count to be measured on, "
                f"but the regressor was fitted with {n_rows}. Use more rows, or a lower coverage."
            )
        return self._predicted(X, lambda outputs: self._intervals(outputs, float(coverage)))

    def _intervals(self, outputs: list[Array], coverage: float) -> Array:
        band = self._said.prediction_band(self._by_fold(outputs))
        return np.clip(cv_plus_interval(band, self._scores, coverage), *self._range_of_targets)

    def score(self, X: MatrixLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> float:
        """Return how good the predictions are: R2 or D2.

        It is R2 for "squared_error" and "poisson", and D2 of the loss for all others, as of a
        `BackpropRegressor`: the share of the loss of the best constant that is done away with,
        which is 1 at best, 0 for the constant, and negative for what is worse.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features)
            The table.
        y : array-like of shape (n_samples,)
            The targets.
        sample_weight : array-like of shape (n_samples,), default=None
            The weight of each row, not negative and not all zero; None for equal weights.

        Returns
        -------
        score : float
            D2, or R2.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError, TypeError
            If X or y is not valid for it.
        """
        said = self._predicted(X, self._mixed)
        numbers = self._encoded_target(y)
        check_consistent_length(said, numbers)
        return self._said.score(said, numbers, validated_weight(sample_weight, said))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        loss = REGRESSOR_LOSSES.get(self.loss) if isinstance(self.loss, str) else self.loss
        tags.target_tags.positive_only = isinstance(loss, Loss) and loss.interval_y_true.low >= 0
        return tags
