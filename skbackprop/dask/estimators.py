"""Classifier and regressor for data on the workers of a Dask cluster.

The workers hold the rows and train. The checks and settings of the local estimators use a sample of
the rows on the client.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial, wraps
from typing import Any, ClassVar, ParamSpec, TypeVar, cast

import dask
import dask.array as da
import numpy as np
import pandas as pd
from dask import delayed
from dask.base import is_dask_collection
from sklearn.utils.validation import check_is_fitted

from ..early_stopping import EarlyStopping
from ..estimators._estimator_mixin import available_if
from ..estimators._parameters import COUNT
from ..estimators._validation import copy_without_feature_names, prefix_errors
from ..estimators.base import BaseNeuralNetwork
from ..estimators.classifier import BackpropClassifier, check_probabilities
from ..estimators.regressor import BackpropRegressor
from ..layers.base import Layer
from ..nn.network import Network
from ..optimizers import OPTIMIZERS
from ..training.architecture import check_first_layer
from ..training.checks import validate_weight
from ..training.class_weight import BALANCED
from ..training.config import Config
from ..training.model import Model
from ..training.problem import Problem
from ..training.start import Start
from ..training.targets import Targets
from ..training.train import OnEpoch, train, train_next
from ..utils.arrays import Array
from ._blocks import (
    Block,
    Blocks,
    concatenate,
    get_current_client,
    map_rows,
    read_blocks,
    scale_to_totals,
    sum_by_label,
    translate_comm_errors,
)
from ._training import ClusterProblem, ClusterStack, ShardPool

Estimator = TypeVar("Estimator", bound=type)
Arguments = ParamSpec("Arguments")

_PARAMETERS = "\nParameters\n----------\n"


def with_sync_every(cls: Estimator) -> Estimator:
    """Give an estimator the constructor of the local one, and the parameter `sync_every`.

    The signature and the docstring list the parameters of both.
    """
    estimator: Any = cls
    local = estimator._local

    def init(self: Any, *args: Any, sync_every: int = 10, **params: Any) -> None:
        local.__init__(self, *args, **params)
        self.sync_every = sync_every

    local_signature, signature = inspect.signature(local.__init__), inspect.signature(init)
    parameters = [*local_signature.parameters.values(), signature.parameters["sync_every"]]
    estimator.__init__ = init
    estimator.__init__.__signature__ = local_signature.replace(parameters=parameters)
    estimator._parameter_constraints = local._parameter_constraints | {"sync_every": [COUNT]}
    if estimator.__doc__ and local.__doc__:
        head, heading, tail = inspect.cleandoc(estimator.__doc__).partition(_PARAMETERS)
        _, _, text = inspect.cleandoc(local.__doc__).partition(_PARAMETERS)
        descriptions, _, _ = text.partition("\n\nAttributes\n")
        estimator.__doc__ = f"{head}{heading}{descriptions}\n{tail}\n"
    return cls


def lazy(method: Callable[Arguments, Any]) -> Callable[Arguments, Any]:
    """Return a method of a local estimator, which returns lazy Dask arrays for Dask input."""

    @wraps(method)
    def wrapper(self: Any, X: Any, *arguments: Any, **options: Any) -> Any:
        return self._map(method.__name__, X, *arguments, **options)

    return cast(Callable[Arguments, Any], wrapper)


class DaskMixin:
    """Base of estimators on a cluster: conversion to local ones, and prediction."""

    _local: ClassVar[type[Any]]  # the local estimator
    _fill_value: ClassVar[Any] = 0.0  # a valid value of every column

    sync_every: int

    def to_local(self) -> Any:
        """Return a local estimator with the same parameters and the same fitted networks.

        Returns
        -------
        estimator : estimator
            A local estimator, which needs neither a cluster nor Dask. It has copies of the arrays.

        Raises
        ------
        NotFittedError
            If this estimator is not fitted.
        """
        check_is_fitted(self)
        estimator: Any = super()
        state = estimator.__getstate__()
        local = object.__new__(self._local)
        cluster_attributes = "sync_every", "_blocks"
        local.__setstate__({name: v for name, v in state.items() if name not in cluster_attributes})
        return local

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the score of the local estimator.

        With Dask input, predictions are made on the workers. Predictions, targets and weights come
        to the client.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            The input.
        y : Dask array or frame, or array-like, of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        sample_weight : Dask array or series, or array-like, of shape (n_samples,), default=None
            The sample weights; None for equal weights.

        Returns
        -------
        score : float
            The accuracy, R2 or D2.
        """
        local = self.to_local()
        if not is_dask_collection(X):
            return float(local.score(X, y, sample_weight))
        with translate_comm_errors():
            parts = dask.compute(*map_rows(partial(_predict_block, local), X, y, sample_weight))
        columns = zip(*(part for part in parts if part is not None), strict=True)
        return float(local._score_predictions(*map(concatenate, columns)))

    def _map(self, method: str, X: Any, *arguments: Any, **options: Any) -> Any:
        """Return the output of a method of the local estimator.

        For Dask input it is a lazy Dask array with the blocks of X, or a pair of them.
        """
        local = self.to_local()
        if not is_dask_collection(X):
            return getattr(local, method)(X, *arguments, **options)
        row = np.full((1, local.n_features_in_), self._fill_value)
        outputs = getattr(copy_without_feature_names(local), method)(row, *arguments, **options)
        meta, model = _stack(outputs)[:0], delayed(local, traverse=False)
        call = partial(_call_method, method, arguments, options, meta)
        if isinstance(X, da.Array):
            X = X.rechunk(dict.fromkeys(range(1, X.ndim), -1))
            chunks = (X.chunks[0], *((n,) for n in meta.shape[1:]))
            axes = {
                "drop_axis": list(range(meta.ndim, X.ndim)),
                "new_axis": list(range(X.ndim, meta.ndim)),
            }
            result = X.map_blocks(call, model, chunks=chunks, meta=meta, **axes)
        else:
            result = X.map_partitions(call, model, meta=meta)
        return (result[..., 0], result[..., 1]) if isinstance(outputs, tuple) else result


def _predict_block(
    local: Any, X: Any, y: Any, weight: Any = None
) -> tuple[Array, Array, Array | None] | None:
    """Return the targets, predictions and weights of a block; None if it is empty."""
    if not X.shape[0]:
        return None
    y, y_pred, target_weight = local._predict_for_score(X, y, None)
    return np.asarray(y), y_pred, validate_block_weight(weight, X, target_weight)


def validate_block_weight(weight: Any, X: Any, target_weight: Array | None) -> Array | None:
    """Return the weights of the rows of a block, which must have all targets."""
    if target_weight is not None:
        raise ValueError("On a Dask cluster, y must not contain NaN. Use a local regressor.")
    if weight is None:
        return None
    weight = np.asarray(weight)
    is_column = weight.shape[1:] == (1,)
    return validate_weight(weight[:, 0] if is_column else weight, X, may_be_zero=True)


def _call_method(
    method: str, arguments: Any, options: Any, empty_output: Array, X: Any, local: Any
) -> Array:
    """Return the output of a method for a block of rows."""
    return _stack(getattr(local, method)(X, *arguments, **options)) if X.shape[0] else empty_output


def _stack(outputs: Any) -> Array:
    """Return an output as an array; predictions and standard deviations along its last axis."""
    return np.stack(outputs, axis=-1) if isinstance(outputs, tuple) else np.asarray(outputs)


# The smallest number of rows of a sample.
_MIN_SAMPLE_ROWS = 100


class DaskNetworkMixin(DaskMixin, BaseNeuralNetwork):
    """Base of the Dask estimators of networks."""

    def _make_problem(
        self,
        config: Config,
        arguments: dict[str, Any],
        start: Start,
        hold_out: EarlyStopping | None,
    ) -> Problem:
        """Return the data with all rows as blocks; the checks use a sample of them."""
        sample, blocks, class_weight = self._read_blocks(config, arguments, hold_out)
        names = ("X_val", "y_val", "sample_weight_val")
        values = dask.compute(*(arguments.get(name) for name in names))
        rows = {"X": sample.X, "y": sample.y, "sample_weight": sample.weight}
        local_arguments = arguments | dict(zip(names, values, strict=True)) | rows
        problem = super()._make_problem(config, local_arguments, start, hold_out)
        problem = replace(problem, folds=arguments.get("folds"))
        reader = self._local(layers=self.layers, input_shape=self.input_shape)
        reader.n_features_in_ = math.prod(problem.row_shape)
        reader._row_shape = problem.row_shape
        if problem.feature_names is not None:
            reader.feature_names_in_ = problem.feature_names
        blocks = blocks.map(
            _encode_block,
            reader=reader,
            network=config.network(problem.row_shape, problem.rows.y.shape[1]),
            layers=config.layers,
            targets=problem.targets,
            class_weight=class_weight,
            holds_out=problem.has_folds,
        )
        return ClusterProblem(**vars(problem), blocks=blocks)

    def _read_blocks(
        self, config: Config, arguments: dict[str, Any], hold_out: EarlyStopping | None
    ) -> tuple[Block, Blocks, Any]:
        """Return a sample of the rows, all rows, and the weights of the classes."""
        self._check_supported(config, hold_out is None or arguments["X_val"] is not None)
        X = arguments["X"]
        y = arguments["y"]
        class_weight = config.class_weight
        blocks = read_blocks(get_current_client(self), X, y, arguments["sample_weight"])
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
            sample = scale_to_totals(sample, totals)
            totals = totals[totals > 0]
            class_weight = (totals.sum() / (len(totals) * totals)).to_dict()
        return sample, blocks, class_weight

    def _train(
        self, problem: Problem, model: Model, on_epoch: OnEpoch | None, began: float
    ) -> Model:
        """Return the model after training on the workers."""
        assert isinstance(problem, ClusterProblem)
        with ShardPool(problem, model, self.sync_every) as pool:
            make_stack = partial(ClusterStack, pool)
            (model,) = train([problem], [model], on_epoch, make_stack=make_stack, start=began)
        return model

    def _train_next(self, problem: Problem, model: Model) -> Model:
        """Return the model after one more epoch on the workers."""
        assert isinstance(problem, ClusterProblem)
        with ShardPool(problem, model, self.sync_every) as pool:
            return replace(train_next(problem, model, partial(ClusterStack, pool)), stack=None)

    def _check_batch_size(self, problem: Problem, model: Model) -> None:
        """Do nothing, because workers share batches, and the sample has fewer rows than a batch."""

    def _check_supported(self, config: Config, is_validated: bool) -> None:
        """Check that a Dask estimator supports the parameters."""
        if config.is_lbfgs:
            raise ValueError(
                f"solver must be one of {', '.join(map(repr, OPTIMIZERS))} or an Optimizer on a "
                f"Dask cluster, got {self.solver!r}. To use it, train the local "
                f"{self._local.__name__}."
            )
        if not is_validated:
            raise ValueError(
                f"early_stopping={self.early_stopping!r} needs validation rows, but "
                f"{type(self).__name__} does not hold out rows of X. Pass X_val and y_val, for "
                "example slices of a Dask array, or a part made by random_split of a Dask frame."
            )


@with_sync_every
class DaskBackpropClassifier(DaskNetworkMixin, BackpropClassifier):
    """Classifier trained on the workers of a Dask cluster, where the rows stay.

    Methods and attributes are those of `BackpropClassifier`. X, y and weights are Dask arrays or
    frames with the same blocks of rows. Each worker makes steps on its own rows, and then the
    weights are averaged, so that the rows are never collected in one place. Predictions for Dask
    input are lazy Dask arrays, block by block. L-BFGS is not available, and `n_jobs` is ignored.
    Early stopping needs `X_val` and `y_val`, Dask collections or arrays that are loaded into this
    process, because no rows of X are held out. If the scheduler, all workers or some rows are lost,
    `fit` keeps the last complete epoch, and raises a `ClusterLostError`.

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

    predict = lazy(BackpropClassifier.predict)
    decision_function = lazy(BackpropClassifier.decision_function)
    predict_proba = available_if(check_probabilities)(lazy(BackpropClassifier.predict_proba))
    predict_log_proba = available_if(check_probabilities)(
        lazy(BackpropClassifier.predict_log_proba)
    )


@with_sync_every
class DaskBackpropRegressor(DaskNetworkMixin, BackpropRegressor):
    """Regressor trained on the workers of a Dask cluster, where the rows stay.

    Methods and attributes are those of `BackpropRegressor`. X, y and weights are Dask arrays or
    frames with the same blocks of rows. Each worker makes steps on its own rows, and then the
    weights are averaged, so that the rows are never collected in one place. Predictions for Dask
    input are lazy Dask arrays, block by block. L-BFGS is not available, and `n_jobs` is ignored.
    Early stopping needs `X_val` and `y_val`, Dask collections or arrays that are loaded into this
    process, because no rows of X are held out. If the scheduler, all workers or some rows are lost,
    `fit` keeps the last complete epoch, and raises a `ClusterLostError`. With `scale_target` the
    mean and scale of a sample of y are used.

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

    predict: Any = lazy(BackpropRegressor.predict)


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
        X, y, target_weight = reader._validate_rows(block.X, block.y, None, reset=False)
        weight = validate_block_weight(block.weight, X, target_weight)
        check_first_layer(layers, X)
        network.validate_padding(X)
        encoded_y = targets.encode(y)
    if class_weight is not None:
        class_weights = pd.Series(y).map(class_weight).fillna(1.0).to_numpy()
        weight = class_weights if weight is None else weight * class_weights
    return Block(X, encoded_y, weight, block.folds if holds_out else None)
