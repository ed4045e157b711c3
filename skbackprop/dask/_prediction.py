"""Lazy prediction of Dask collections, block by block."""

from __future__ import annotations

from operator import getitem
from typing import Any

import dask.array as da
import numpy as np
from dask import delayed
from distributed import Client

from ..estimators._fit_context import ScoringInputs
from ..estimators._validation import shallow_copy_of, validated_weight
from ._partitions import delayed_partitions, gather, merge_column_chunks, row_blocks


def map_method(local: Any, method: str, X: Any, *arguments: Any) -> Any:
    """Return the output of an estimator's method for the rows of X, as lazy Dask arrays.

    Parameters
    ----------
    local : estimator
        A fitted local estimator.
    method : str
        The name of the method.
    X : Dask array or frame of shape (n_samples, n_features)
        The input.
    *arguments : object
        The further arguments of the method.

    Returns
    -------
    output : Dask array, or list or tuple of them
        The output with the blocks of X, not computed yet.
    """
    X = merge_column_chunks(X)
    rows = X.chunks[0] if isinstance(X, da.Array) else (np.nan,) * X.npartitions
    meta = _call_method(local, method, np.zeros((0, local.n_features_in_)), arguments)
    call, model = delayed(_call_method, pure=False), delayed(local, traverse=False)
    blocks = [call(model, method, block, arguments) for block in row_blocks(X)]

    def concatenated(blocks: list[Any], meta: Any) -> da.Array:
        arrays = [
            da.from_delayed(block, (n, *meta.shape[1:]), meta=meta)
            for block, n in zip(blocks, rows, strict=True)
        ]
        return da.concatenate(arrays, allow_unknown_chunksizes=True)

    if not isinstance(meta, (list, tuple)):
        return concatenated(blocks, meta)
    return type(meta)(
        concatenated([delayed(getitem)(block, i) for block in blocks], own)
        for i, own in enumerate(meta)
    )


def predict_for_score(client: Client, local: Any, X: Any, y: Any, weight: Any) -> ScoringInputs:
    """Return the targets, predictions and weights of all rows, from the workers."""
    call, model = delayed(_predict_block_for_score, pure=False), delayed(local, traverse=False)
    columns = delayed_partitions(X, y, weight, "X")
    blocks = gather(client, client.compute([call(model, *block) for block in columns]))
    blocks = [block for block in blocks if block is not None]
    if not blocks:
        raise ValueError("X has no rows, but at least one is needed for a score.")
    return ScoringInputs(
        *(None if each[0] is None else np.concatenate(each) for each in zip(*blocks, strict=True))
    )


def _predict_block_for_score(local: Any, X: Any, y: Any, weight: Any) -> ScoringInputs | None:
    """Return the targets, predictions and weights of a block; None if it is empty."""
    if not X.shape[0]:
        return None
    if weight is not None:
        weight = validated_weight(np.asarray(weight).reshape(-1), X, may_be_zero=True)
    scored = local._scored(X, y, None)
    return scored._replace(y=np.asarray(scored.y), weight=weight)


def _call_method(local: Any, method: str, X: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the output of a method for a block, which may have no rows."""
    if X.shape[0]:
        return getattr(local, method)(X, *arguments)
    nameless = shallow_copy_of(local)  # a row of zeros causes no warning about feature names
    vars(nameless).pop("feature_names_in_", None)
    output = getattr(nameless, method)(np.zeros((1, local.n_features_in_)), *arguments)
    if isinstance(output, (list, tuple)):
        return type(output)(each[:0] for each in output)
    return output[:0]
