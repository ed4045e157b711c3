"""A regressor for raw tables: numbers by an ensemble of networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import check_array, column_or_1d

from ..core.arrays import Array
from ..estimators.validation import as_given
from .base import BaseTabular
from .calibration import weights_by_squared_error
from .networks import TableRegressorNetworks
from .recipe import FOR_NUMBERS, Configuration


class TabularRegressor(RegressorMixin, BaseTabular):
    """Predict the numbers that go with raw tables, by an ensemble of networks.

    A table may have numbers, booleans, categories and strings, of any scale, with missing values,
    and y any scale as well. There are `n_members` networks, which see each number through cosines
    and the bins that it fills, and learn to map these to a few inputs [1]_. Each holds out a fold
    of its own: it keeps the epoch at which it does best there, and all rows are held out once.
    Predictions are the mean of the networks' predictions; they do not leave the range of y. The
    settings are those that were found best on tables of many kinds; there is nothing to tune.

    Parameters
    ----------
    n_members : int, default=8
        The networks, and the folds; at least 2. Fewer are faster, and somewhat worse. If there
        are fewer rows, there are as many networks as rows.
    categorical_features : array-like of bool, int or str, "from_dtype" or None, \
            default="from_dtype"
        Which columns are categories, as for a `TableEncoder`: a mask, positions or names; None for
        none. "from_dtype": those of a data frame that hold categories or strings, and those of an
        array of objects that hold strings.
    max_iter : int or None, default=None
        The most epochs of a network; None for 24 to 100, the fewer the more rows there are.
    time_limit : float or None, default=None
        The most seconds that `fit` trains for; None for any. If it is over, what has been learned
        is kept.
    random_state : int, RandomState instance or None, default=None
        Draws weights, folds, frequencies and the order of rows.

    Attributes
    ----------
    oof_prediction_ : array of shape (n_samples,)
        The prediction of each training row, by the network that has held it out.
    oof_score_ : float
        Their R2, in which rows have their `sample_weight`: an estimate of what `score` says of
        new rows, and a little low, since it is of single networks.
    networks_ : list of one estimator
        The ensemble, a fitted `BackpropRegressor` of encoded rows.
    oof_member_ : array of int of shape (n_samples,)
        The network that has held out each row.
    weights_ : array of shape (n_ensembles,)
        What each ensemble weighs in the predictions; they add up to one.
    n_iter_ : array of int of shape (n_ensembles, n_members)
        The epochs that each network was trained for.
    n_features_in_ : int
        The number of columns.
    feature_names_in_ : array of shape (n_features_in_,)
        Their names, where they are all strings.

    See Also
    --------
    TabularClassifier : The same for labels.
    TableEncoder : Raw tables as input for other estimators.

    References
    ----------
    .. [1] Gorishniy, Rubachev & Babenko, "On embeddings for numerical features in tabular deep
       learning", NeurIPS 2022.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from skbackprop import TabularRegressor
    >>> X, y = load_diabetes(return_X_y=True, as_frame=True)
    >>> model = TabularRegressor(n_members=3, random_state=0).fit(X, y)
    >>> model.oof_score_ > 0.4
    True
    """

    _configurations: ClassVar[Sequence[Configuration]] = FOR_NUMBERS

    def __init__(
        self,
        n_members: int = 8,
        *,
        categorical_features: Any = "from_dtype",
        max_iter: int | None = None,
        time_limit: float | None = None,
        random_state: Any = None,
    ) -> None:
        self.n_members = n_members
        self.categorical_features = categorical_features
        self.max_iter = max_iter
        self.time_limit = time_limit
        self.random_state = random_state

    def _take_in(self, y: Any, weight: Array | None) -> tuple[Array, Array | None]:
        y = column_or_1d(as_given(y, "values"), warn=True)
        numbers = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
        self._range = numbers.min(), numbers.max()
        return numbers, weight

    @property
    def _kind_of_target(self) -> str | None:
        return "continuous"

    def _networks(self, settings: dict[str, Any], y: Array, weight: Array | None) -> Any:
        networks = TableRegressorNetworks(**settings, scale_target=True)
        networks._scores_of_mean = np.zeros(1)
        return networks

    def _combine(self, held_out: list[Array], y: Array, weight: Array | None) -> None:
        self.weights_ = weights_by_squared_error(np.array(held_out)[..., 0], y, weight)
        self.oof_prediction_ = self._mixed([each[None] for each in held_out])
        self.oof_score_ = float(r2_score(y, self.oof_prediction_, sample_weight=weight))

    def _mixed(self, outputs: list[Array]) -> Array:
        means = np.array([each.mean(axis=0, dtype=np.float64)[:, 0] for each in outputs])
        return np.clip(self.weights_ @ means, *self._range)

    # ------------------------------------------------------------------ prediction

    def predict(self, X: Any) -> Array:
        """Predict the target of each row.

        Parameters
        ----------
        X : data frame, array-like or sparse matrix of shape (n_samples, n_features), or dict
            The table; a dict, or a Series, is one row of it.

        Returns
        -------
        y : array of shape (n_samples,)
            The predictions, within the range of the training targets.

        Raises
        ------
        NotFittedError
            If the regressor is not fitted.
        ValueError, TypeError
            If X has other columns than in `fit`, or one that held numbers then does not now.
        """
        return self._predicted(X)
