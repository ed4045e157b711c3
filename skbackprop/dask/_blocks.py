"""Blocks of rows of Dask collections, as futures on the workers.

Functions that run on the workers take a `Block` and its number. The client only receives small
results and a sample of the rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Self

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
from dask import delayed
from dask.dataframe.dispatch import concat
from distributed import Client, Future, futures_of
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker
from scipy.sparse import issparse, vstack

from ..utils.arrays import Array

# The largest number of rows of a sample, and of its values; a few rows are drawn in any case.
_MAX_SAMPLE_ROWS, _MAX_SAMPLE_VALUES = 1 << 16, 1 << 21


class ClusterLostError(ConnectionError):
    """Training cannot continue: the scheduler, all workers or some rows are lost.

    The estimator keeps the last complete epoch, and is fitted if there is one.

    Examples
    --------
    >>> from skbackprop.dask import ClusterLostError
    >>> issubclass(ClusterLostError, ConnectionError)
    True
    """

    @classmethod
    def for_reason(cls, reason: str) -> Self:
        """Return the error with a reason and with advice."""
        return cls(
            f"The cluster has lost rows or cannot be reached: {reason}. Dask recomputes the rows "
            "of a dead worker if they come from files or arrays, but not if they were put on the "
            "workers with scatter. Check that the scheduler and workers are running, and call fit "
            "again, with resume_from if there is a checkpoint."
        )


@contextmanager
def translate_comm_errors() -> Iterator[None]:
    """Re-raise communication errors as ClusterLostError."""
    try:
        yield
    except (CancelledError, CommClosedError, KilledWorker, TimeoutError) as error:
        raise ClusterLostError.for_reason(f"{type(error).__name__}: {error}") from error


def get_current_client(estimator: Any) -> Client:
    """Return the current client, in which an estimator is to be fitted."""
    try:
        return Client.current()
    except ValueError:
        raise ValueError(
            f"{type(estimator).__name__} needs a cluster, but this process has no current client. "
            "Create one before: client = distributed.Client() starts workers on this machine, and "
            'Client("tcp://address:8786") connects to a scheduler.'
        ) from None


class Block(NamedTuple):
    """Rows on one worker.

    Parameters
    ----------
    X : array, sparse matrix, data frame, LazyMatrix or UnscaledRows
        The input: as passed to `fit`, later encoded.
    y : array, series or data frame
        The targets, later encoded.
    weight : array or series of shape (n,) or None, default=None
        The sample weights; None for equal weights.
    folds : array of int of shape (n,) or None, default=None
        The network that holds out each row; None if all train on all rows.
    """

    X: Any
    y: Any
    weight: Any = None
    folds: Any = None

    def take(self, rows: Array) -> Block:
        """Return some of the rows."""
        return Block(*(None if part is None else _take(part, rows) for part in self))


@dataclass(frozen=True)
class Blocks:
    """Blocks of rows as futures, none of which is empty.

    Parameters
    ----------
    client : Client
        The client of the cluster.
    futures : list of Future
        The blocks.
    numbers : list of int
        The numbers of the blocks in the collections that they come from.
    sizes : list of int
        The number of rows of each block.
    shards : list of lists of int
        The indices of the blocks of each shard; a worker trains on one shard.
    workers : list of str
        The worker of each shard.
    """

    client: Client
    futures: list[Future]
    numbers: list[int]
    sizes: list[int]
    shards: list[list[int]]
    workers: list[str]

    @property
    def n_rows(self) -> int:
        """The total number of rows."""
        return sum(self.sizes)

    def map(self, function: Callable[..., Block], **arguments: Any) -> Blocks:
        """Apply a function to each block and its number, and return the resulting blocks.

        They are on the workers of their shards.
        """
        futures: list[Any] = [None] * len(self.futures)
        options = {"allow_other_workers": True, "pure": False} | arguments
        for shard, worker in zip(self.shards, self.workers, strict=True):
            blocks = [self.futures[i] for i in shard], [self.numbers[i] for i in shard]
            results = self.client.map(function, *blocks, workers=[worker], **options)
            for i, future in zip(shard, results, strict=True):
                futures[i] = future
        return replace(self, futures=futures)

    def map_and_gather(
        self, function: Callable[..., Any], *items_by_block: Sequence[Any], **arguments: Any
    ) -> list[Any]:
        """Return small results of a function of each block, its number, and its items."""
        futures = self.client.map(
            function, self.futures, self.numbers, *items_by_block, pure=False, **arguments
        )
        with translate_comm_errors():
            return list(self.client.gather(futures))

    def find_holders(self, indices: Iterable[int]) -> list[str | None]:
        """Return the worker that holds each block; None for blocks that are not in memory."""
        futures = [self.futures[i] for i in indices]
        holders = self.client.who_has(futures)
        return [next(iter(holders.get(future.key, ())), None) for future in futures]

    def sum_weights_by_label(self) -> list[pd.Series]:
        """Return the total weight of each label in each block, for one column of labels."""
        return self.map_and_gather(_sum_weights_by_label)

    def draw_sample(
        self, n_values: int, min_rows: int, seed: int, by_label: Sequence[pd.Series] = ()
    ) -> Block:
        """Return a random sample of rows; all rows if there are few.

        Parameters
        ----------
        n_values : int
            The number of values of a row.
        min_rows : int
            The smallest number of rows, if there are as many.
        seed : int
            The seed. The rows depend on it and on the numbers of the blocks.
        by_label : sequence of Series, default=()
            The total weight of each label in each block: a row of each label is in the sample.
        """
        size = max(min_rows, min(_MAX_SAMPLE_ROWS, _MAX_SAMPLE_VALUES // n_values))
        share = min(1.0, size / self.n_rows)
        labels: list[list[Any]] = [[] for _ in self.futures]
        if by_label:
            index = pd.concat(dict(enumerate(by_label))).index
            for block, label in index[~index.get_level_values(1).duplicated()]:
                labels[block].append(label)
        parts = self.map_and_gather(_draw_sample, labels, share=share, seed=seed)
        return Block(*map(concatenate, zip(*parts, strict=True)))


def read_blocks(client: Client, X: Any, y: Any, weight: Any) -> Blocks:
    """Return the rows of Dask arrays or frames, as passed to `fit`."""
    rows, workers = map_rows(Block, X, y, weight), list(client.nthreads())
    futures: list[Any] = [None] * len(rows)
    # Blocks that are not in memory yet are distributed evenly, and in the same way in each fit.
    n_groups = 1 if futures_of([X, y, weight]) else max(1, len(workers))
    for group in range(min(n_groups, len(rows))):
        options = {"workers": workers[group], "allow_other_workers": True} if n_groups > 1 else {}
        futures[group::n_groups] = client.compute(rows[group::n_groups], **options)
    blocks = Blocks(client, futures, list(range(len(futures))), [], [], [])
    sizes = blocks.map_and_gather(_check_block)
    numbers = [number for number, size in enumerate(sizes) if size]
    if not numbers:
        raise ValueError("X must have at least one row for training, got none.")
    sizes = [sizes[i] for i in numbers]
    shards = divide_into_shards(sizes, len(workers))
    workers = choose_workers(shards, sizes, blocks.find_holders(numbers), workers)
    return Blocks(client, [futures[i] for i in numbers], numbers, sizes, shards, workers)


def divide_into_shards(sizes: Sequence[int], n_workers: int) -> list[list[int]]:
    """Return the numbers of the blocks of each shard, with about equal numbers of rows.

    Shards do not depend on where blocks are, so a seed gives the same result in each fit.
    """
    shards: list[list[int]] = [[] for _ in range(min(n_workers, len(sizes)))]
    n_rows = [0] * len(shards)
    for i, size in enumerate(sizes):
        smallest = n_rows.index(min(n_rows))
        shards[smallest].append(i)
        n_rows[smallest] += size
    return shards


def choose_workers(
    shards: Sequence[Sequence[int]],
    sizes: Sequence[int],
    holders: Sequence[str | None],
    workers: Sequence[str],
) -> list[str]:
    """Return a worker for each shard, so that few rows move.

    Parameters
    ----------
    shards : sequence of sequences of int
        The numbers of the blocks of each shard.
    sizes : sequence of int
        The number of rows of each block.
    holders : sequence of str or None
        The worker that holds each block.
    workers : sequence of str
        All workers, at least as many as shards.
    """
    chosen: list[str] = []
    for shard in shards:
        free = [worker for worker in workers if worker not in chosen]
        n_held = [sum(sizes[i] for i in shard if holders[i] == worker) for worker in free]
        chosen.append(free[n_held.index(max(n_held))])
    return chosen


def map_rows(function: Callable[..., Any], X: Any, y: Any, weight: Any) -> list[Any]:
    """Return delayed results of a function of X, y and the weight of each block.

    Dask optimizes the reading for all results together, so it may join blocks of files of which it
    reads few columns.

    Parameters
    ----------
    function : callable
        Takes X and y of a block, and the weight if there is one.
    X, y, weight : Dask array or frame
        The rows; the weight may be None.
    """
    arguments = {"X": X, "y": y} | ({} if weight is None else {"sample_weight": weight})
    for name, value in arguments.items():
        if not isinstance(value, (da.Array, dd.DataFrame, dd.Series)):
            kind = type(value)
            got = f"{kind.__module__.partition('.')[0]}.{kind.__name__}".removeprefix("builtins.")
            raise TypeError(
                f"{name} must be a Dask array or frame, got {got}. Use the local estimator for "
                "rows in this process, or create a Dask array with dask.array.from_array."
            )
    if isinstance(X, da.Array):
        columns = [_to_delayed(value, X) for value in arguments.values()]
        counts = [len(column) for column in columns]
    else:
        frames = [
            dd.from_dask_array(value) if isinstance(value, da.Array) else value
            for value in arguments.values()
        ]
        counts = [frame.npartitions for frame in frames]
    blocks: list[Any] = []
    if len(set(counts)) == 1 and isinstance(X, da.Array):
        blocks = [delayed(function, pure=False)(*block) for block in zip(*columns, strict=True)]
    elif len(set(counts)) == 1:
        options = {"align_dataframes": False, "enforce_metadata": False, "meta": (None, object)}
        blocks = dd.map_partitions(function, *frames, **options).to_delayed()
        graph = blocks[0].dask
        dependencies = {key for task in graph.values() for key in getattr(task, "dependencies", ())}
        if not dependencies <= graph.keys():  # Dask has joined blocks of one of the frames
            blocks = []
    if not blocks:
        raise ValueError(
            f"{', '.join(arguments)} must have the same blocks of rows, got "
            f"{', '.join(map(str, counts))} blocks. Rechunk arrays alike, and select the columns "
            "of one frame. Dask joins blocks of files of which it reads few columns, so do not "
            "persist X and y themselves, but the frame with all columns, frame = frame.persist(), "
            "and then select X and y."
        )
    return blocks


def _to_delayed(value: Any, X: da.Array) -> list[Any]:
    """Return the blocks of rows of an array or frame, with the chunks of X if these are known."""
    if not isinstance(value, da.Array):
        return list(value.to_delayed())
    value = value.rechunk(dict.fromkeys(range(1, value.ndim), -1))
    if value.shape[0] == X.shape[0]:  # an unknown size is NaN
        value = value.rechunk({0: X.chunks[0]})
    return list(value.to_delayed().ravel())


def sum_by_label(by_label: Sequence[pd.Series]) -> pd.Series:
    """Return the total weight of each label from its weights in each block."""
    return pd.concat(by_label).groupby(level=0, sort=False).sum()


def scale_to_totals(sample: Block, totals: pd.Series) -> Block:
    """Scale the weights of a sample so that each label has its total weight in all rows."""
    y = pd.Series(np.asarray(sample.y).ravel())
    weight = pd.Series(1.0 if sample.weight is None else np.asarray(sample.weight), y.index)
    sample_totals = weight.groupby(y).transform("sum")
    factors = (y.map(totals) / sample_totals.where(sample_totals > 0)).fillna(0.0)
    return sample._replace(weight=(weight * factors).to_numpy())


def concatenate(parts: Sequence[Any]) -> Any:
    """Return arrays, sparse matrices or data frames as one, and None for parts that are None."""
    if parts[0] is None:
        return None
    if len({issparse(part) for part in parts}) > 1:
        raise ValueError(
            "X must have blocks that are all dense or all sparse, but has both. Convert the "
            "blocks, for example with X.map_blocks(scipy.sparse.csr_matrix)."
        )
    if issparse(parts[0]):
        return vstack(parts)
    return np.concatenate(parts) if isinstance(parts[0], np.ndarray) else concat(list(parts))


# --------------------------------------------------------------------------- on the workers


def _check_block(block: Block, number: int) -> int:
    """Return the number of rows, after a check that X, y and the weight have as many."""
    if issparse(block.y):
        raise TypeError(
            f"y of block {number} must be dense, got a sparse array. Pass y.map_blocks(lambda "
            "block: block.toarray())."
        )
    sizes = [part.shape[0] for part in block if part is not None]
    if len(set(sizes)) > 1:
        raise ValueError(
            f"block {number} of X: X, y and sample_weight have inconsistent numbers of samples: "
            f"{', '.join(map(str, sizes))}."
        )
    return int(sizes[0])


def _sum_weights_by_label(block: Block, number: int) -> pd.Series:
    """Return the total weight of each label."""
    weight = np.ones(len(block.y)) if block.weight is None else np.asarray(block.weight)
    return pd.Series(weight).groupby(np.asarray(block.y).ravel(), sort=False).sum()


def _draw_sample(block: Block, number: int, labels: list[Any], share: float, seed: int) -> Block:
    """Return a random part of a block, with the first row of some labels."""
    mask = np.random.RandomState([seed, number]).random_sample(len(block.y)) < share
    if labels:
        y = pd.Series(np.asarray(block.y).ravel())
        mask |= (y.isin(labels) & ~y.duplicated()).to_numpy()
    return block.take(np.flatnonzero(mask))


def _take(values: Any, rows: Array) -> Any:
    if hasattr(values, "iloc"):
        return values.iloc[rows]
    return values.tocsr()[rows] if hasattr(values, "tocsr") else values[rows]
