"""Base of all estimators on a Dask cluster: client, conversion to local ones, lazy prediction."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from operator import getitem
from typing import Any, ClassVar, Self

import dask.array as da
import numpy as np
from dask import delayed
from dask.base import is_dask_collection
from distributed import Client, get_client
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ..estimators._parameter_table import DASK_PARAMETERS
from ..estimators._validation import copy_without_feature_names, shallow_copy, validate_weight
from ..utils.arrays import Array
from ._partitions import gather
from ._row_blocks import matching_blocks, row_blocks, with_unique_keys

# The names of the parameters that local estimators do not have.
_CLUSTER_PARAMETERS = {parameter.name for parameter in DASK_PARAMETERS}


class ClusterMixin(metaclass=ABCMeta):
    """Base of estimators on a cluster: their client, conversion to local ones, and prediction."""

    _local: ClassVar[type[Any]]  # the local estimator
    _fill_value: ClassVar[Any] = 0.0  # a valid value of every column

    client: Any
    sync_every: int

    def _get_client(self) -> Client:
        """Return the `client`, or the current client if it is None."""
        if self.client is None:
            try:
                return get_client()
            except ValueError:
                raise ValueError(
                    f"client of {type(self).__name__} is None, but this process has no current "
                    "client. Create one before: client = distributed.Client() starts workers on "
                    'this machine, and Client("tcp://address:8786") connects to a scheduler.'
                ) from None
        if not isinstance(self.client, Client):
            raise ValueError(f"client must be a distributed.Client or None, got {self.client!r}.")
        return self.client

    # ------------------------------------------------------------------ prediction

    def to_local(self) -> Any:
        """Return a local estimator with the same parameters and the same fitted networks.

        Returns
        -------
        estimator : estimator
            A local estimator, which needs neither a cluster nor Dask. It shares the arrays of this
            one.

        Raises
        ------
        NotFittedError
            If this estimator is not fitted.
        """
        check_is_fitted(self)
        return self._convert_to(self._local)

    def _convert_to(self, kind: type[Any]) -> Any:
        """Return an estimator of another class with the same parameters and attributes."""
        other = object.__new__(kind)
        state = self.__getstate__().items()
        other.__setstate__({k: v for k, v in state if k not in _CLUSTER_PARAMETERS})
        return other

    @staticmethod
    @abstractmethod
    def _predict_block(local: Any, X: Any, y: Any, weight: Array | None) -> tuple[Any, ...]:
        """Return columns that the score of a block is computed from: arrays or None."""

    @staticmethod
    @abstractmethod
    def _score_rows(local: Any, *columns: Any) -> float:
        """Return the score of all rows, given these columns."""

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
        call, model = delayed(_predict_for_score, pure=False), delayed(local, traverse=False)
        blocks = [
            call(self._predict_block, model, *each)
            for each in matching_blocks(X, y, sample_weight, "X")
        ]
        client = self._get_client()
        parts = [part for part in gather(client, client.compute(blocks)) if part is not None]
        if not parts:
            raise ValueError("X must have at least one row to compute a score, got none.")
        columns = zip(*parts, strict=True)
        rows = [None if each[0] is None else np.concatenate(each) for each in columns]
        return self._score_rows(local, *rows)

    def _map(self, method: str, X: Any, *arguments: Any) -> Any:
        """Return the output of a method of the local estimator.

        For Dask input it is a lazy Dask array with the blocks of X, or a list or tuple of them.
        """
        local = self.to_local()
        if not is_dask_collection(X):
            return getattr(local, method)(X, *arguments)
        rows = X.chunks[0] if isinstance(X, da.Array) else (np.nan,) * X.npartitions
        row = np.full((1, local.n_features_in_), self._fill_value)
        meta = _call_method(local, method, row[:0], arguments, row)
        call, model = delayed(_call_method, pure=False), delayed(local, traverse=False)
        blocks = row_blocks(X, optimize_graph=False)
        if not isinstance(X, da.Array):  # arrays share tasks with other computations of X
            (blocks,) = with_unique_keys([blocks])
        outputs = [call(model, method, block, arguments, row) for block in blocks]

        def concatenate(blocks: list[Any], meta: Any) -> da.Array:
            arrays = [
                da.from_delayed(block, (n, *meta.shape[1:]), meta=meta)
                for block, n in zip(blocks, rows, strict=True)
            ]
            return da.concatenate(arrays, allow_unknown_chunksizes=True)

        if not isinstance(meta, (list, tuple)):
            return concatenate(outputs, meta)
        return type(meta)(
            concatenate([delayed(getitem)(output, i) for output in outputs], own)
            for i, own in enumerate(meta)
        )

    # ------------------------------------------------------------------ copies

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the client, which belongs to this process."""
        estimator: Any = super()
        return dict(estimator.__getstate__()) | {"client": None}

    def __copy__(self) -> Self:
        estimator: Any = super()
        has_own = hasattr(estimator, "__copy__")
        other: Self = estimator.__copy__() if has_own else shallow_copy(self)
        other.client = self.client
        return other

    def __sklearn_clone__(self) -> Any:
        """Return an unfitted copy with the same client."""
        without_client: Any = shallow_copy(self)
        without_client.client = None
        other: Any = BaseEstimator.__sklearn_clone__(without_client)
        other.client = self.client
        return other


def _predict_for_score(
    predict: Any, local: Any, X: Any, y: Any, weight: Any
) -> tuple[Any, ...] | None:
    """Return the columns of a block that the score is computed from; None if it is empty."""
    if not X.shape[0]:
        return None
    if weight is not None:
        weight = validate_weight(np.asarray(weight).reshape(-1), X, may_be_zero=True)
    columns: tuple[Any, ...] = predict(local, X, y, weight)
    return columns


def _call_method(local: Any, method: str, X: Any, arguments: tuple[Any, ...], row: Array) -> Any:
    """Return the output of a method for a block; if it has no rows, that of no valid rows."""
    if X.shape[0]:
        return getattr(local, method)(X, *arguments)
    nameless = copy_without_feature_names(local)
    output = getattr(nameless, method)(row, *arguments)
    if isinstance(output, (list, tuple)):
        return type(output)(each[:0] for each in output)
    return output[:0]
