"""Base of all estimators on a Dask cluster: conversion to local ones, and lazy prediction."""

from __future__ import annotations

import inspect
from functools import partial
from typing import Any, ClassVar, Self, TypeVar

import dask
import dask.array as da
import numpy as np
from dask import delayed
from dask.base import is_dask_collection
from sklearn.utils.validation import check_is_fitted

from ..estimators._validation import copy_without_feature_names, validate_weight
from ..utils.arrays import Array
from ._blocks import map_rows, translate_comm_errors

Estimator = TypeVar("Estimator", bound=type)

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
    if estimator.__doc__ and local.__doc__:
        head, heading, tail = inspect.cleandoc(estimator.__doc__).partition(_PARAMETERS)
        _, _, text = inspect.cleandoc(local.__doc__).partition(_PARAMETERS)
        descriptions, _, _ = text.partition("\n\nAttributes\n")
        estimator.__doc__ = f"{head}{heading}{descriptions}\n{tail}\n"
    return cls


class DaskMixin:
    """Base of estimators on a cluster: fit, conversion to local ones, and prediction."""

    _local: ClassVar[type[Any]]  # the local estimator
    _fill_value: ClassVar[Any] = 0.0  # a valid value of every column

    sync_every: int

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        resume_from: Any = None,
        groups: Any = None,
    ) -> Self:
        """Fit the estimator to the rows of Dask collections, on the workers of the current client.

        Parameters
        ----------
        X : Dask array or frame of shape (n_samples, n_features)
            The training input.
        y : Dask array, series or frame of shape (n_samples,) or (n_samples, n_outputs)
            The targets, with the same blocks of rows.
        sample_weight : Dask array or series of shape (n_samples,), default=None
            The weight of each row, non-negative and not all zero; None for equal weights.
        X_val, y_val : Dask collections or array-like, default=None
            Validation rows, not trained on, which are loaded into this process. Early stopping of
            networks needs them, because no rows of X are held out.
        sample_weight_val : Dask collection or array-like, default=None
            The weight of each validation row; None for equal weights.
        resume_from : str or path, default=None
            The file of a `callbacks.Checkpoint`, as in the local estimator; not for tables.
        groups : None
            Not available on a cluster.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter or the data is invalid, or if training diverges. The estimator then
            stays as it was.
        ClusterLostError
            If the scheduler, all workers or some rows are lost. Networks keep the last complete
            epoch; an estimator for tables stays as it was.
        """
        estimator: Any = super()
        fitted: Self = estimator.fit(
            X,
            y,
            sample_weight,
            X_val=X_val,
            y_val=y_val,
            sample_weight_val=sample_weight_val,
            resume_from=resume_from,
            groups=groups,
        )
        return fitted

    # ------------------------------------------------------------------ prediction

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
        arguments = (None if column[0] is None else np.concatenate(column) for column in columns)
        return float(local._score_predictions(*arguments))

    def _map(self, method: str, X: Any, *arguments: Any) -> Any:
        """Return the output of a method of the local estimator.

        For Dask input it is a lazy Dask array with the blocks of X, or a pair of them.
        """
        local = self.to_local()
        if not is_dask_collection(X):
            return getattr(local, method)(X, *arguments)
        row = np.full((1, local.n_features_in_), self._fill_value)
        outputs = getattr(copy_without_feature_names(local), method)(row, *arguments)
        meta, model = _stack(outputs)[:0], delayed(local, traverse=False)
        call = partial(_call_method, method=method, arguments=arguments, empty_output=meta)
        if isinstance(X, da.Array):
            if any(n > 1 for n in X.numblocks[1:]):
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
    if weight is not None:
        weight = validate_weight(np.asarray(weight).reshape(-1), X, may_be_zero=True)
    y, y_pred = local._predict_for_score(X, y)
    return np.asarray(y), y_pred, weight


def _call_method(
    X: Any, local: Any, method: str, arguments: tuple[Any, ...], empty_output: Array
) -> Array:
    """Return the output of a method for a block of rows."""
    return _stack(getattr(local, method)(X, *arguments)) if X.shape[0] else empty_output


def _stack(outputs: Any) -> Array:
    """Return an output as an array; predictions and standard deviations along its last axis."""
    return np.stack(outputs, axis=-1) if isinstance(outputs, tuple) else np.asarray(outputs)
