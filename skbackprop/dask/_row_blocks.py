"""Blocks of rows of Dask collections, not computed yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import uuid4

import dask.array as da
import dask.dataframe as dd
from dask._task_spec import convert_legacy_graph
from dask.base import clone_key
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from distributed import Future

# What to do if Dask has joined blocks of a persisted frame.
_PERSIST_ADVICE = (
    "Dask joins blocks of files when it persists few of their columns, so do not persist X and y "
    "themselves, but the frame with all columns, frame = frame.persist(), and then select X and y."
)


def matching_blocks(X: Any, y: Any, weight: Any, name: str) -> list[tuple[Any, Any, Any]]:
    """Return X, y and the weight of each block of rows, not computed yet.

    Parameters
    ----------
    X, y, weight : Dask array or frame
        The rows as passed to `fit`; the weight may be None.
    name : str
        The name of X in errors, from which those of y and the weight follow.
    """
    suffix = name.removeprefix("X")
    arrays = {name: X, f"y{suffix}": y}
    if weight is not None:
        arrays[f"sample_weight{suffix}"] = weight
    for argument, value in arrays.items():
        if not isinstance(value, (da.Array, dd.DataFrame, dd.Series)):
            kind = type(value)
            got = f"{kind.__module__.partition('.')[0]}.{kind.__name__}".removeprefix("builtins.")
            raise TypeError(
                f"{argument} must be a Dask array or frame, got {got}. Use the "
                "local estimator for rows in this process, or create a Dask array with "
                "dask.array.from_array."
            )
    columns = with_unique_keys([row_blocks(array, like=X) for array in arrays.values()])
    if len({len(column) for column in columns}) > 1:
        advice = (
            "Rechunk them alike. If they were made by to_dask_array(), pass the frames instead, or "
            "call compute_chunk_sizes() of each array first."
            if all(isinstance(array, da.Array) for array in arrays.values())
            else f"Repartition them alike. {_PERSIST_ADVICE}"
        )
        raise ValueError(
            f"{', '.join(arrays)} must have the same number of blocks of rows, got "
            f"{', '.join(str(len(column)) for column in columns)}. {advice}"
        )
    weights = [None] * len(columns[0]) if weight is None else columns[2]
    return list(zip(columns[0], columns[1], weights, strict=True))


def row_blocks(array: Any, like: Any = None, optimize_graph: bool = True) -> list[Delayed]:
    """Return the blocks of rows of a Dask array or frame, not computed yet.

    An array gets the chunks of the array `like`, if it has as many rows and their number is known.
    Its graph is optimized, unless Dask does so later as part of another array.

    A frame has a block for each of its partitions. Dask's full optimization would join partitions
    of a file from which few columns are read, and X and y of one file would have different blocks.
    So columns are still selected when the file is read, but no partitions are joined.
    """
    if not isinstance(array, da.Array):
        blocks = list(array.simplify().to_delayed(optimize_graph=False))
        n_found = sum(block.key in block.dask for block in blocks)
        if n_found < len(blocks):  # Dask has joined blocks, but counts them as before
            raise ValueError(
                f"A frame has {len(blocks)} blocks of rows, of which only {n_found} exist. "
                f"{_PERSIST_ADVICE}"
            )
        return blocks
    if any(n > 1 for n in array.numblocks[1:]):
        array = array.rechunk(dict.fromkeys(range(1, array.ndim), -1))
    if isinstance(like, da.Array) and like.shape[0] == array.shape[0]:  # NaN if unknown
        array = array.rechunk({0: like.chunks[0]})
    return list(array.to_delayed(optimize_graph=optimize_graph).ravel())


def with_unique_keys(collections: Sequence[list[Delayed]]) -> list[list[Delayed]]:
    """Return the blocks of collections under keys that no other computation uses.

    Dask optimizes each computation by itself, so that different tasks may have the same key. If the
    scheduler still holds such a task of another computation, it logs "Detected different
    `run_spec`" and may fail. Tasks that the collections share stay shared. Futures keep their keys.
    """
    graph: dict[Any, Any] = {}
    for blocks in collections:
        graph |= blocks[0].dask  # all blocks of a collection have the same graph
    tasks = {key: task for key, task in graph.items() if not isinstance(task, Future)}
    seed = uuid4().hex
    new_keys = {key: clone_key(key, seed) for key in tasks}
    renamed = {key: task for key, task in graph.items() if key not in tasks}
    for key, task in convert_legacy_graph(tasks, graph).items():
        renamed[new_keys[key]] = task.substitute(new_keys, key=new_keys[key])
    name = f"backprop-blocks-{seed}"
    layers = HighLevelGraph.from_collections(name, renamed)
    return [
        [Delayed(new_keys.get(block.key, block.key), layers, layer=name) for block in blocks]
        for blocks in collections
    ]
