"""Classifier and regressor for data on the workers of a Dask cluster.

The workers hold the rows and train. The checks and settings of the local estimators use a sample of
the rows on the client.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import dask
import numpy as np
import pandas as pd

from ..estimators._estimator_mixin import available_if
from ..estimators._parameters import COUNT
from ..estimators._targets import Targets
from ..estimators._validation import prefix_errors, validate_weight
from ..estimators.base import BaseNeuralNetwork, PreparedFit
from ..estimators.classifier import BackpropClassifier, check_probabilities
from ..estimators.regressor import BackpropRegressor
from ..layers.base import Layer
from ..nn.network import Network
from ..nn.train_state import TrainState
from ..optimizers import OPTIMIZERS
from ..training.architecture import check_first_layer
from ..training.class_weight import BALANCED
from ..training.config import Config
from ..training.epochs import MakeStack
from ..training.train import OnEpoch
from ._base import DaskMixin, with_sync_every
from ._blocks import (
    Block,
    Blocks,
    get_current_client,
    read_blocks,
    scale_to_totals,
    sum_by_label,
)
from ._training import ClusterStack, ShardPool

# The smallest number of rows of a sample.
_MIN_SAMPLE_ROWS = 100


class DaskNetworkMixin(DaskMixin, BaseNeuralNetwork):
    """Base of the Dask estimators of networks."""

    def _prepare(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        groups: Any = None,
        *,
        incremental: bool = False,
        blocks: Blocks | None = None,
        **options: Any,
    ) -> PreparedFit:
        """Validate parameters and data; with `blocks`, X and y are a sample of all rows."""
        continues = (incremental or self.warm_start) and self.__sklearn_is_fitted__()
        config = self._validated_config(self._get_init_params(), continues, incremental)
        class_weight, sample = config.class_weight, Block(X, y, sample_weight)
        if blocks is None:
            self._check_supported(config, X_val, incremental)
            X_val, y_val, sample_weight_val = dask.compute(X_val, y_val, sample_weight_val)
            blocks = read_blocks(get_current_client(self), X, y, sample_weight)
            has_labels = not self._y_numeric and (y.ndim == 1 or y.shape[1] == 1)
            by_label = blocks.sum_weights_by_label() if has_labels else []
            sample = blocks.draw_sample(math.prod(X.shape[1:]), _MIN_SAMPLE_ROWS, 0, by_label)
            if class_weight is not None and not has_labels:
                raise ValueError(
                    f"class_weight must be None for a y of several columns on a Dask cluster, got "
                    f"{self.class_weight!r}. Pass sample_weight instead."
                )
            if class_weight == BALANCED:
                totals = sum_by_label(by_label)
                sample, totals = scale_to_totals(sample, totals), totals[totals > 0]
                class_weight = (totals.sum() / (len(totals) * totals)).to_dict()
        task = super()._prepare(
            *(sample.X, sample.y, sample.weight, X_val, y_val, sample_weight_val),
            incremental=incremental,
            config=config,
            **options,
        )
        reader = self._local(layers=self.layers, input_shape=self.input_shape)
        reader.n_features_in_, reader._row_shape = math.prod(task.row_shape), task.row_shape
        reader.feature_names_in_ = task.feature_names
        blocks = blocks.map(
            _encode_block,
            reader=reader,
            network=task.network,
            layers=config.layers,
            targets=task.targets,
            class_weight=class_weight,
            holds_out=task.has_folds,
        )
        return replace(task, blocks=blocks)

    def _train(
        self,
        task: Any,
        on_epoch: OnEpoch | None = None,
        until: int | None = None,
        make_stack: MakeStack | None = None,
    ) -> TrainState:
        """Return the state after training on the workers."""
        config, n_train = task.config, task.blocks.n_rows
        if task.has_folds:
            n_train -= n_train // config.n_estimators
        settings = task.training_network, task.targets.loss, config, self.sync_every, n_train
        with ShardPool(task.blocks, *settings) as pool:
            return super()._train(task, on_epoch, until, partial(ClusterStack, pool))

    def _check_batch_size(self, task: Any) -> None:
        """Do nothing, because workers share batches, and the sample has fewer rows than a batch."""

    def _check_supported(self, config: Config, X_val: Any, incremental: bool) -> None:
        """Check that a Dask estimator supports the parameters."""
        name = type(self).__name__
        if config.is_lbfgs:
            raise ValueError(
                f"solver must be one of {', '.join(map(repr, OPTIMIZERS))} or an Optimizer on a "
                f"Dask cluster, got {self.solver!r}. To use it, train the local "
                f"{self._local.__name__}."
            )
        if config.early_stopping is not None and X_val is None and not incremental:
            raise ValueError(
                f"early_stopping={self.early_stopping!r} needs validation rows, but {name} does "
                "not hold out rows of X. Pass X_val and y_val, for example slices of a Dask "
                "array, or a part made by random_split of a Dask frame."
            )


@with_sync_every
class DaskBackpropClassifier(DaskNetworkMixin, BackpropClassifier):
    """Classifier trained on the workers of a Dask cluster, where the rows stay.

    Methods and attributes are those of `BackpropClassifier`. X and y are Dask arrays or frames.
    Each worker makes steps on its own rows, and then the weights are averaged, so that the rows are
    never collected in one place. Predictions are lazy, block by block. L-BFGS is not available, and
    early stopping needs validation rows.

    Parameters
    ----------
    sync_every : int, default=10
        The number of steps of each worker between two synchronizations, at least 1. Then weights
        and the state of the optimizer are averaged over the workers (Stich 2019). With 1 the
        workers share a batch of `batch_size` rows: with plain SGD, training is that of one machine.
        With more, each worker takes `batch_size` of its own rows in a step.

    See Also
    --------
    BackpropClassifier : The local estimator; `to_local` returns one.

    References
    ----------
    Stich, S. U. (2019). Local SGD converges fast and communicates little. ICLR.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from distributed import Client, LocalCluster
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop.dask import DaskBackpropClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> X, y = da.from_array(X, chunks=(50, -1)), da.from_array(y, chunks=50)
    >>> model = DaskBackpropClassifier(
    ...     (16,),
    ...     sync_every=1,
    ...     batch_size=50,
    ...     learning_rate_init=0.05,
    ...     max_iter=30,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    >>> with LocalCluster(**settings, dashboard_address=":0") as cluster, Client(cluster):
    ...     score = model.fit(X, y).score(X, y)
    >>> score > 0.9
    True
    """

    _local: ClassVar[type[Any]] = BackpropClassifier
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BackpropClassifier._parameter_constraints,
        "sync_every": [COUNT],
    }

    def predict(self, X: Any) -> Any:
        """Predict the most probable label of each row, lazily for Dask input.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            The input.

        Returns
        -------
        y : Dask array, or array, of shape (n_samples,) or (n_samples, n_outputs)
            The labels.
        """
        return self._map("predict", X)

    def decision_function(self, X: Any) -> Any:
        """Return the decision values of each row, lazily for Dask input.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            The input.

        Returns
        -------
        scores : Dask array, or array, of shape (n_samples,) or (n_samples, n_classes)
            The decision values.
        """
        return self._map("decision_function", X)

    @available_if(check_probabilities)
    def predict_proba(self, X: Any) -> Any:
        """Predict the probability of each class, lazily for Dask input.

        The method is absent if the loss has no probabilities.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            The input.

        Returns
        -------
        probabilities : Dask array, or array, of shape (n_samples, n_classes)
            The probabilities.
        """
        return self._map("predict_proba", X)

    @available_if(check_probabilities)
    def predict_log_proba(self, X: Any) -> Any:
        """Predict the logarithm of the probability of each class, lazily for Dask input.

        The method is absent if the loss has no probabilities.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            The input.

        Returns
        -------
        log_probabilities : Dask array, or array, of shape (n_samples, n_classes)
            The logarithms.
        """
        return self._map("predict_log_proba", X)


@with_sync_every
class DaskBackpropRegressor(DaskNetworkMixin, BackpropRegressor):
    """Regressor trained on the workers of a Dask cluster, where the rows stay.

    Methods and attributes are those of `BackpropRegressor`. X and y are Dask arrays or frames.
    Each worker makes steps on its own rows, and then the weights are averaged, so that the rows are
    never collected in one place. Predictions are lazy, block by block. L-BFGS is not available, and
    early stopping needs validation rows. With `scale_target` the mean and scale of a sample of y
    are used.

    Parameters
    ----------
    sync_every : int, default=10
        The number of steps of each worker between two synchronizations, at least 1. Then weights
        and the state of the optimizer are averaged over the workers (Stich 2019). With 1 the
        workers share a batch of `batch_size` rows: with plain SGD, training is that of one machine.
        With more, each worker takes `batch_size` of its own rows in a step.

    See Also
    --------
    BackpropRegressor : The local estimator; `to_local` returns one.

    References
    ----------
    Stich, S. U. (2019). Local SGD converges fast and communicates little. ICLR.

    Examples
    --------
    >>> import dask.array as da
    >>> import numpy as np
    >>> from distributed import Client, LocalCluster
    >>> from skbackprop.dask import DaskBackpropRegressor
    >>> X = da.random.default_rng(0).standard_normal((400, 3), chunks=(100, -1))
    >>> y = X[:, 0] - 2 * X[:, 1]
    >>> model = DaskBackpropRegressor(
    ...     (16,),
    ...     batch_size=20,
    ...     learning_rate_init=0.01,
    ...     max_iter=30,
    ...     n_iter_no_change=np.inf,
    ...     random_state=0,
    ... )
    >>> settings = {"n_workers": 2, "threads_per_worker": 1, "processes": False}
    >>> with LocalCluster(**settings, dashboard_address=":0") as cluster, Client(cluster):
    ...     score = model.fit(X, y).score(X, y)
    >>> score > 0.9
    True
    """

    _local: ClassVar[type[Any]] = BackpropRegressor
    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BackpropRegressor._parameter_constraints,
        "sync_every": [COUNT],
    }

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predict the targets of each row, lazily for Dask input.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            The input.
        return_std : bool, default=False
            Whether to return standard deviations too, as the local estimator does.

        Returns
        -------
        y : Dask array, or array, of shape (n_samples,) or (n_samples, n_outputs)
            The predictions.
        std : Dask array, or array, of the same shape
            The standard deviations; only with ``return_std``.
        """
        return self._map("predict", X, return_std)


# --------------------------------------------------------------------------- on the workers


def _encode_block(
    block: Block,
    number: int,
    reader: Any,
    network: Network,
    layers: Sequence[Layer],
    targets: Targets,
    class_weight: Mapping[Any, float] | None,
    holds_out: bool,
) -> Block:
    """Return validated rows, with encoded targets and training weights."""
    with prefix_errors(f"block {number} of X"):
        X, y = reader._validate_rows(block.X, block.y, reset=False)
        check_first_layer(layers, X)
        network.validate_padding(X)
        encoded_y, weight = targets.encode(y, needs_all=False), block.weight
        if weight is not None:
            weight = validate_weight(np.asarray(weight).reshape(-1), X, may_be_zero=True)
    if class_weight is not None:
        class_weights = pd.Series(y).map(class_weight).fillna(1.0).to_numpy()
        weight = class_weights if weight is None else weight * class_weights
    return Block(X, encoded_y, weight, block.folds if holds_out else None)
