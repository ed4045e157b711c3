"""Tabular classifier and regressor for raw tables on the workers of a Dask cluster."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from distributed import Client

from ..losses.base import Loss, can_be_scaled
from ..losses.regression import REGRESSOR_LOSSES
from ..tabular._targets import RegressorTargets
from ..tabular.classifier import TabularClassifier
from ..tabular.regressor import TabularRegressor
from ..training.class_weight import ClassWeight
from ..utils._name_types import RegressorLossName
from ..utils.arrays import Array, ColumnKinds, Columns
from ._partition_targets import fit_regression_targets, make_y_with_all_labels
from ._partitions import Partition, Partitions
from ._tabular_base import DaskClassifierNetworks, DaskRegressorNetworks, DaskTabularMixin


class DaskTabularClassifier(DaskTabularMixin, TabularClassifier):
    """Classifier for raw tables on a Dask cluster, by ensembles of networks.

    The workers hold and encode the rows, and train the networks of a `TabularClassifier` by local
    SGD [1]_. Each network holds out a random share of each block. Categories, their counts, target
    statistics and class weights are computed from all rows, by sums over blocks. The kinds of
    columns, quantiles, text components, temperatures and weights of ensembles are computed from a
    random sample of at most 65,536 rows (fewer above 32 columns, but at least 8,192), which is sent
    to the client. From a smaller table, all rows are used.

    Parameters
    ----------
    n_estimators : int, default=8
        The number of networks of each ensemble, at least 2. Fewer networks train faster and predict
        somewhat worse.
    categorical_features : array-like of bool, int or str, "from_dtype" or None, \
            default="from_dtype"
        The categorical columns, as in `TableEncoder`.
    column_kinds : dict or None, default=None
        The kinds of columns, as in `TableEncoder`. None infers them from dtypes and
        the sample.
    class_weight : dict, "balanced" or None, default=None
        The weight of each class, as in `TabularClassifier`.
    blend : None, default=None
        Must be None: other estimators need all rows in one place.
    max_iter : int or None, default=None
        The maximum number of epochs of a network. None for the default of the local estimator.
    time_limit : float or None, default=None
        The maximum number of seconds of `fit`; None for no limit.
    verbose : bool or int, default=False
        Whether to print a line after each training cycle of each ensemble.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial weights, validation rows, sample, frequencies and order of rows.
    client : distributed.Client or None, default=None
        The client of the cluster. None for the current client.
    sync_every : int, default=10
        The number of steps between two synchronizations of the workers, at least 1. With 1 each
        step is synchronous. The workers share each batch, so that an epoch has as many steps as on
        one machine.

    Attributes
    ----------
    classes_ : array of shape (n_classes,)
        The labels, sorted.
    oof_score_ : float
        The accuracy of out-of-fold predictions of the sample, weighted by `sample_weight`. Not
        available after a fit with X_val.
    networks_ : list of estimators
        The ensembles, each a fitted `BackpropClassifier` for encoded rows.
    blended_ : list
        Empty.
    weights_, temperatures_ : array of shape (n_ensembles,)
        The weight and the temperature of each ensemble.
    background_ : tuple of arrays or None
        The encoded training rows that `explain` compares with.
    n_iter_ : array of int of shape (n_ensembles, n_estimators)
        The number of epochs of each network.
    column_kinds_ : dict
        The kind of each column, by its name or position.
    n_features_in_ : int
        The number of columns.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the columns, if all are strings.

    See Also
    --------
    TabularClassifier : The local estimator; `to_local` returns one.

    References
    ----------
    .. [1] Stich, "Local SGD converges fast and communicates little", ICLR 2019.

    Examples
    --------
    >>> import dask.dataframe as dd
    >>> import pandas as pd
    >>> from distributed import Client, LocalCluster
    >>> from skbackprop.dask import DaskTabularClassifier
    >>> rows = {"age": [20.0, 31.0, None, 50.0, 42.0, 23.0] * 20, "city": list("abbbca") * 20}
    >>> table = pd.DataFrame(rows | {"buys": ["no", "yes", "yes", "yes", "yes", "no"] * 20})
    >>> frame = dd.from_pandas(table, npartitions=4)
    >>> model = DaskTabularClassifier(n_estimators=3, max_iter=20, random_state=0)
    >>> settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    >>> with LocalCluster(**settings, dashboard_address=":0") as cluster, Client(cluster):
    ...     _ = model.fit(frame[["age", "city"]], frame["buys"])
    >>> model.to_local().predict({"age": 48.0, "city": "b"})
    array(['yes'], dtype='<U3')
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TabularClassifier._parameter_constraints,
        **DaskTabularMixin._parameter_constraints,
    }
    _local: ClassVar[type[Any]] = TabularClassifier
    _networks: ClassVar[type[Any]] = DaskClassifierNetworks

    def __init__(
        self,
        n_estimators: int = 8,
        *,
        categorical_features: Columns = "from_dtype",
        column_kinds: ColumnKinds = None,
        class_weight: ClassWeight | None = None,
        blend: None = None,
        max_iter: int | None = None,
        time_limit: float | None = None,
        verbose: bool | int = False,
        random_state: int | np.random.RandomState | None = None,
        client: Client | None = None,
        sync_every: int = 10,
    ) -> None:
        super().__init__(
            n_estimators,
            categorical_features=categorical_features,
            column_kinds=column_kinds,
            class_weight=class_weight,
            blend=blend,
            max_iter=max_iter,
            time_limit=time_limit,
            verbose=verbose,
            random_state=random_state,
        )
        self.client = client
        self.sync_every = sync_every

    def _fit_targets_of_blocks(self, blocks: Partitions) -> None:
        y = make_y_with_all_labels(blocks)
        labels = np.unique(y)
        totals = np.sum(blocks.compute(_weights_of_labels, labels=labels), axis=0)
        # As if each label had a few rows, with the weights of all its rows.
        self._fit_targets(y, totals[np.searchsorted(labels, y)] * (len(labels) / len(y)))

    # ------------------------------------------------------------------ prediction

    def predict(self, X: Any) -> Any:
        """Predict the most probable label of each row, lazily for Dask input.

        Parameters
        ----------
        X : Dask frame or array, or data frame or array-like, of shape (n_samples, n_features)
            The table.

        Returns
        -------
        y : Dask array, or array, of shape (n_samples,)
            The labels; for Dask input a lazy array with the blocks of X.
        """
        return self._map("predict", X)

    def predict_proba(self, X: Any) -> Any:
        """Predict the probability of each class, lazily for Dask input.

        Parameters
        ----------
        X : Dask frame or array, or data frame or array-like, of shape (n_samples, n_features)
            The table.

        Returns
        -------
        probabilities : Dask array, or array, of shape (n_samples, n_classes)
            Columns are in the order of ``classes_``; for Dask input a lazy array.
        """
        return self._map("predict_proba", X)


class DaskTabularRegressor(DaskTabularMixin, TabularRegressor):
    """Regressor for raw tables on a Dask cluster, by an ensemble of networks.

    The workers hold and encode the rows, and train the networks of a `TabularRegressor` by local
    SGD [1]_. Each network holds out a random share of each block. Categories, their counts, target
    statistics and the mean, scale and range of y are computed from all rows, by sums over blocks.
    The kinds of columns, quantiles, text components and the scores of intervals are computed from a
    random sample of at most 65,536 rows (fewer above 32 columns, but at least 8,192), which is sent
    to the client. From a smaller table, all rows are used.

    Parameters
    ----------
    n_estimators : int, default=8
        The number of networks, at least 2. Fewer networks train faster and predict somewhat worse.
    categorical_features : array-like of bool, int or str, "from_dtype" or None, \
            default="from_dtype"
        The categorical columns, as in `TableEncoder`.
    column_kinds : dict or None, default=None
        The kinds of columns, as in `TableEncoder`. None infers them from dtypes and
        the sample.
    loss : str or Loss, default="squared_error"
        The loss that is minimized, as in `TabularRegressor`.
    clip : bool, default=True
        Whether predictions are clipped to the range of the training targets.
    blend : None, default=None
        Must be None: other estimators need all rows in one place.
    max_iter : int or None, default=None
        The maximum number of epochs of a network. None for the default of the local estimator.
    time_limit : float or None, default=None
        The maximum number of seconds of `fit`; None for no limit.
    verbose : bool or int, default=False
        Whether to print a line after each training cycle.
    random_state : int, RandomState instance or None, default=None
        Seed of the initial weights, validation rows, sample, frequencies and order of rows.
    client : distributed.Client or None, default=None
        The client of the cluster. None for the current client.
    sync_every : int, default=10
        The number of steps between two synchronizations of the workers, at least 1. With 1 each
        step is synchronous. The workers share each batch, so that an epoch has as many steps as on
        one machine.

    Attributes
    ----------
    oof_score_ : float
        The R2 or D2 of out-of-fold predictions of the sample, weighted by `sample_weight`. Not
        available after a fit with X_val.
    networks_ : list of one estimator
        The ensemble, a fitted `BackpropRegressor` for encoded rows.
    blended_ : list
        Empty.
    weights_ : array of shape (1,)
        The weight of the ensemble.
    background_ : tuple of arrays or None
        The encoded training rows that `explain` compares with.
    n_iter_ : array of int of shape (1, n_estimators)
        The number of epochs of each network.
    column_kinds_ : dict
        The kind of each column, by its name or position.
    n_features_in_ : int
        The number of columns.
    feature_names_in_ : array of shape (n_features_in_,)
        The names of the columns, if all are strings.

    See Also
    --------
    TabularRegressor : The local estimator; `to_local` returns one.

    References
    ----------
    .. [1] Stich, "Local SGD converges fast and communicates little", ICLR 2019.

    Examples
    --------
    >>> import dask.dataframe as dd
    >>> from distributed import Client, LocalCluster
    >>> from sklearn.datasets import load_diabetes
    >>> from skbackprop.dask import DaskTabularRegressor
    >>> table = load_diabetes(as_frame=True).frame
    >>> frame = dd.from_pandas(table, npartitions=4)
    >>> X, y = frame.drop(columns="target"), frame["target"]
    >>> model = DaskTabularRegressor(n_estimators=3, max_iter=20, random_state=0)
    >>> settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    >>> with LocalCluster(**settings, dashboard_address=":0") as cluster, Client(cluster):
    ...     intervals = model.fit(X, y).predict_interval(X).compute()
    >>> intervals.shape
    (442, 2)
    >>> model.oof_score_ > 0.4
    True
    """

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **TabularRegressor._parameter_constraints,
        **DaskTabularMixin._parameter_constraints,
    }
    _local: ClassVar[type[Any]] = TabularRegressor
    _networks: ClassVar[type[Any]] = DaskRegressorNetworks

    def __init__(
        self,
        n_estimators: int = 8,
        *,
        categorical_features: Columns = "from_dtype",
        column_kinds: ColumnKinds = None,
        loss: RegressorLossName | Loss = "squared_error",
        clip: bool = True,
        blend: None = None,
        max_iter: int | None = None,
        time_limit: float | None = None,
        verbose: bool | int = False,
        random_state: int | np.random.RandomState | None = None,
        client: Client | None = None,
        sync_every: int = 10,
    ) -> None:
        super().__init__(
            n_estimators,
            categorical_features=categorical_features,
            column_kinds=column_kinds,
            loss=loss,
            clip=clip,
            blend=blend,
            max_iter=max_iter,
            time_limit=time_limit,
            verbose=verbose,
            random_state=random_state,
        )
        self.client = client
        self.sync_every = sync_every

    def _fit_targets_of_blocks(self, blocks: Partitions) -> None:
        loss = REGRESSOR_LOSSES[self.loss] if isinstance(self.loss, str) else self.loss
        is_scaled = can_be_scaled(loss)
        scaling = fit_regression_targets(loss, self.loss, is_scaled, blocks, np.float32)
        lows, highs = zip(*blocks.compute(_target_range), strict=True)
        limits = (min(lows), max(highs)) if self.clip else None
        self._targets = RegressorTargets.from_scaling(scaling, limits)

    # ------------------------------------------------------------------ prediction

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict the target of each row, lazily for Dask input.

        Parameters
        ----------
        X : Dask frame or array, or data frame or array-like, of shape (n_samples, n_features)
            The table.
        return_std : bool, default=False
            Whether to return a standard deviation too, as a `TabularRegressor` does.

        Returns
        -------
        y : Dask array, or array, of shape (n_samples,) or (n_samples, n_levels)
            The predictions; for Dask input a lazy array with the blocks of X.
        std : Dask array, or array, of the same shape
            The standard deviation; only with ``return_std``.
        """
        return self._map("predict", X, return_std)

    def predict_interval(self, X: Any, coverage: float = 0.9) -> Any:
        """Return a prediction interval for each row, lazily for Dask input.

        The conformity scores are from the sample of training rows.

        Parameters
        ----------
        X : Dask frame or array, or data frame or array-like, of shape (n_samples, n_features)
            The table.
        coverage : float, default=0.9
            The share of targets that intervals should contain, in (0, 1).

        Returns
        -------
        intervals : Dask array, or array, of shape (n_samples, 2)
            The lower and the upper ends; for Dask input a lazy array.
        """
        return self._map("predict_interval", X, coverage)


# --------------------------------------------------------------------------- on the workers


def _weights_of_labels(partition: Partition, labels: Array) -> Array:
    """Return the total weight of the rows of each label."""
    codes = np.searchsorted(labels, partition.y)
    return np.bincount(codes, partition.weight, len(labels)).astype(np.float64)


def _target_range(partition: Partition) -> tuple[float, float]:
    """Return the least and the largest target."""
    return float(partition.y.min()), float(partition.y.max())
