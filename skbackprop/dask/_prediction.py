"""Prediction on the cluster: a method of a local estimator for each block of rows, when needed."""

from __future__ import annotations

from operator import getitem
from typing import Any

import dask.array as da
import numpy as np
from dask import delayed
from distributed import Client

from ..estimators._data_info import ScoringInputs
from ..estimators._validation import bare_clone, validated_weight
from ._partitions import delayed_blocks, gather_partitions, in_one_block_of_columns, row_blocks


def map_method(local: Any, method: str, X: Any, *arguments: Any) -> Any:
    """Return what a method says of the rows of X as Dask arrays with its blocks, not computed yet.

    Parameters
    ----------
    local : estimator
        A fitted one.
    method : str
        Its method.
    X : Dask array or frame of shape (n_samples, n_features)
        The input.
    *arguments : object
        What the method takes beside X.

    Returns
    -------
    said : Dask array, or list or tuple of them
        What the method would return of all rows at once.
    """
    X = in_one_block_of_columns(X)
    rows = X.chunks[0] if isinstance(X, da.Array) else (np.nan,) * X.npartitions
    like = _said(local, method, np.zeros((0, local.n_features_in_)), arguments)
    say = delayed(_said, pure=False)
    model = delayed(local, traverse=False)
    blocks = [say(model, method, block, arguments) for block in row_blocks(X)]
    if not isinstance(like, (list, tuple)):
        return _array_of(blocks, rows, like)
    each = [
        _array_of([delayed(getitem)(block, i) for block in blocks], rows, own)
        for i, own in enumerate(like)
    ]
    return type(like)(each)


def score_blocks(client: Client, local: Any, X: Any, y: Any, weight: Any) -> ScoringInputs:
    """Return what is predicted of all rows of X, their targets and weights, from the workers."""
    say = delayed(_scored, pure=False)
    model = delayed(local, traverse=False)
    futures = client.compute([say(model, *each) for each in delayed_blocks(X, y, weight, "X")])
    parts = [part for part in gather_partitions(client, futures) if part is not None]
    if not parts:
        raise ValueError("X has no rows, but at least one is needed to score.")
    y, said = (np.concatenate([part[i] for part in parts]) for i in (0, 1))
    weights = [part.weight for part in parts if part.weight is not None]
    return ScoringInputs(y, said, np.concatenate(weights) if weights else None)


def _scored(local: Any, X: Any, y: Any, weight: Any) -> ScoringInputs | None:
    if not X.shape[0]:
        return None
    if weight is not None:
        weight = validated_weight(np.asarray(weight).reshape(-1), X, may_be_zero=True)
    y, said, _ = local._scored(X, y, None)
    return ScoringInputs(np.asarray(y), said, weight)


def _array_of(blocks: list[Any], rows: Any, like: Any) -> da.Array:
    """Return an array of blocks of so many rows, else like another."""
    arrays = [
        da.from_delayed(block, (n, *like.shape[1:]), meta=like)
        for block, n in zip(blocks, rows, strict=True)
    ]
    return da.concatenate(arrays, allow_unknown_chunksizes=True)


def _said(local: Any, method: str, X: Any, arguments: tuple[Any, ...]) -> Any:
    """Return what a method says of a block, which may have no rows."""
    if X.shape[0]:
        return getattr(local, method)(X, *arguments)
    nameless = bare_clone(local)  # so that a row of zeros is taken without a word
    vars(nameless).pop("feature_names_in_", None)
    said = getattr(nameless, method)(np.zeros((1, local.n_features_in_)), *arguments)
    if isinstance(said, (list, tuple)):
        return type(said)(each[:0] for each in said)
    return said[:0]
