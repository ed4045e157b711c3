"""Checked rows of Dask collections, as futures on the workers, and statistics of their targets.

What runs on the workers are functions of one `Partition`. Only small results, such as labels,
counts and sums, come to the client.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import uuid4

import dask.array as da
import dask.dataframe as dd
import numpy as np
from dask import delayed
from dask._task_spec import convert_legacy_graph
from dask.base import clone_key
from dask.delayed import Delayed
from dask.highlevelgraph import HighLevelGraph
from distributed import Client, Future
from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker
from scipy.sparse import issparse, vstack
from sklearn.base import is_regressor

from ..estimators._label_encoding import BaseLabelEncoder
from ..estimators._target_encoding import (
    RegressionTargetEncoder,
    check_can_be_scaled,
    compute_deviation_exponent,
    handle_zeros_in_scale,
    squared_deviations,
)
from ..estimators._validation import (
    check_fits_dtype,
    get_row_shape,
    infer_dtype,
    prefix_errors,
    set_attributes,
    unify_label_dtype,
    validate_features_and_targets,
    validate_weight,
)
from ..losses.base import Loss
from ..nn.data_loader import Dataset
from ..training.architecture import MLPSpec
from ..training.class_weight import (
    apply_class_weight,
    check_total_weight,
    class_weights_by_column,
    compute_class_weight,
)
from ..training.training_run import TrainingInterrupted
from ..utils.arrays import Array, max_abs

# What to do if Dask has joined blocks of a persisted frame.
_PERSIST_ADVICE = (
    "Dask joins blocks of files when it persists few of their columns, so do not persist X and y "
    "themselves, but the frame with all columns, frame = frame.persist(), and then select X and y."
)

# How often each label is repeated among the labels that stand for all rows: scikit-learn takes
# labels that occur only once for numbers.
_N_REPEATS = 3


class ClusterLostError(TrainingInterrupted, ConnectionError):
    """Training cannot continue: the scheduler, all workers or some rows are lost.

    The estimator keeps the last complete epoch, and is fitted if there is one.

    Examples
    --------
    >>> from skbackprop.dask import ClusterLostError
    >>> issubclass(ClusterLostError, ConnectionError)
    True
    """


def make_cluster_lost_error(reason: str) -> ClusterLostError:
    """Return a ClusterLostError that gives the reason and says what to do."""
    return ClusterLostError(
        f"The cluster has lost rows or cannot be reached: {reason}. Dask recomputes the rows of a "
        "dead worker if they come from files or arrays, but not if they were put on the workers "
        "with scatter. Check that the scheduler and workers are running, and call fit again, with "
        "resume_from if there is a checkpoint."
    )


@contextmanager
def translate_comm_errors() -> Iterator[None]:
    """Re-raise communication errors as ClusterLostError."""
    try:
        yield
    except (CancelledError, CommClosedError, KilledWorker, TimeoutError) as error:
        raise make_cluster_lost_error(f"{type(error).__name__}: {error}") from error


class Partition(NamedTuple):
    """Rows on one worker.

    Parameters
    ----------
    X : array, CSR matrix or LazyMatrix of shape (n, d), data frame or ScaledRows
        The input, checked; of tabular estimators the raw rows, later encoded for the network.
    y : array of shape (n,) or (n, k)
        The targets, checked; later encoded for the network.
    weight : array of shape (n,) or None
        The sample weights; None for equal weights.
    folds : array of int of shape (n,) or None, default=None
        The network that holds out each row; None if all train on all rows.
    """

    X: Any
    y: Array
    weight: Array | None
    folds: Array | None = None

    @property
    def n_rows(self) -> int:
        """The number of rows."""
        return len(self.y)

    @property
    def total_weight(self) -> float:
        """The sum of the sample weights."""
        return float(self.n_rows if self.weight is None else self.weight.sum())

    def take(self, rows: Any) -> Partition:
        """Return some of the rows."""
        weight = None if self.weight is None else self.weight[rows]
        folds = None if self.folds is None else self.folds[rows]
        return Partition(self.X[rows], self.y[rows], weight, folds)

    def training_weight(self, member: int) -> Array | None:
        """Return the weights in the training of a network: zero for rows that it holds out."""
        if self.folds is None:
            return self.weight
        is_train = (self.folds != member).astype(np.float64)
        return is_train if self.weight is None else self.weight * is_train


class PartitionInfo(NamedTuple):
    """Facts about a partition that the client knows.

    Parameters
    ----------
    n_rows : int
        The number of rows.
    row_shape : tuple
        The shape of a row of X, before it was flattened.
    feature_names : array of str or None
        The names of the columns, if they have any.
    dtype : dtype
        The dtype of X.
    y_shape : tuple
        The shape of a row of y; empty for one value.
    weight : float
        The total weight of the rows.
    is_sparse : bool
        Whether X is a CSR matrix.
    n_stored : int
        The number of values of X in memory.
    n_held_out : int, default=0
        The number of rows that each network holds out, at least.
    """

    n_rows: int
    row_shape: tuple[int, ...]
    feature_names: Array | None
    dtype: np.dtype[Any]
    y_shape: tuple[int, ...]
    weight: float
    is_sparse: bool
    n_stored: int
    n_held_out: int = 0

    @property
    def n_train(self) -> int:
        """The number of rows that a network is trained on, at most."""
        return self.n_rows - self.n_held_out


@dataclass(frozen=True)
class Partitions:
    """Rows of a Dask collection, as futures of `Partition`.

    Parameters
    ----------
    client : Client
        The client of the cluster.
    futures : list of Future
        The partitions. None is empty.
    infos : list of PartitionInfo
        Facts about each.
    """

    client: Client
    futures: list[Future]
    infos: list[PartitionInfo]

    @property
    def n_rows(self) -> int:
        """The total number of rows."""
        return sum(info.n_rows for info in self.infos)

    @property
    def n_train(self) -> int:
        """The number of rows that a network is trained on, at most."""
        return sum(info.n_train for info in self.infos)

    @property
    def weight(self) -> float:
        """The total weight of the rows."""
        return math.fsum(info.weight for info in self.infos)

    @property
    def dtype(self) -> np.dtype[Any]:
        """A dtype that holds X of all partitions."""
        return np.result_type(*(info.dtype for info in self.infos))

    @property
    def feature_attributes(self) -> dict[str, Any]:
        """The attributes of an estimator that has validated these features."""
        first = self.infos[0]
        names = {} if first.feature_names is None else {"feature_names_in_": first.feature_names}
        shape = first.row_shape
        return {"n_features_in_": math.prod(shape), "_row_shape": shape, **names}

    def check_weight(self, name: str = "sample_weight") -> None:
        """Check that the total weight is positive and finite."""
        if not 0 < self.weight < math.inf:
            raise ValueError(
                f"{name} must have a positive and finite sum over all rows, got {self.weight:g}. "
                "Give at least one row a positive weight, or scale the weights down."
            )

    def compute(self, function: Callable[..., Any], **arguments: Any) -> list[Any]:
        """Return the result of a function of each partition, which should be small."""
        futures = self.client.map(
            function, self.futures, key="backprop-facts", pure=False, **arguments
        )
        return gather(self.client, futures)

    def map(self, function: Callable[..., Partition], **arguments: Any) -> Partitions:
        """Return new partitions, made of each where it is."""
        futures = self.client.map(
            function, self.futures, key="backprop-targets", pure=False, **arguments
        )
        return replace(self, futures=futures)

    def sample(self, n_values: int) -> Partition:
        """Return evenly spaced rows with about `n_values` values of X, at least two rows.

        All rows are returned if they have no more values. A sparse row counts as at least one.
        """
        n_stored = max(self.n_rows, sum(info.n_stored for info in self.infos))
        step = max(1, -(-self.n_rows // max(2, n_values * self.n_rows // n_stored)))
        starts = np.cumsum([0, *(info.n_rows for info in self.infos)])[:-1]
        futures = self.client.map(
            _take_every,
            self.futures,
            (-starts % step).tolist(),
            step=step,
            key="backprop-sample",
            pure=False,
        )
        X, y, weights, _ = zip(*gather(self.client, futures), strict=True)
        weight = None if weights[0] is None else np.concatenate(weights)
        join: Any = vstack if self.infos[0].is_sparse else np.concatenate
        return Partition(join(X), np.concatenate(y), weight)


@dataclass(frozen=True)
class ClientRows(Dataset):
    """Rows of partitions that the client has: a sample, or the targets alone.

    Parameters
    ----------
    X, y, weight : arrays
        The rows.
    partitions : Partitions
        All rows, on the workers.
    """

    partitions: Partitions = field(kw_only=True)


def make_partitions(
    client: Client,
    X: Any,
    y: Any,
    weight: Any,
    make: Callable[..., Any],
    name: str = "X",
) -> Partitions:
    """Return the rows of Dask arrays or frames, checked on the workers.

    Parameters
    ----------
    client : Client
        The client of the cluster.
    X, y, weight : Dask array or frame
        The rows as passed to `fit`; the weight may be None.
    make : callable
        Returns the `Partition` and the `PartitionInfo` of a block, given its X, y and weight, its
        name in errors and its number; None and None if it has no rows.
    name : str, default="X"
        The name of X in errors.
    """
    make = delayed(make, pure=False, nout=2)
    pairs = [
        make(*block, f"block {i} of {name}", i, dask_key_name=f"backprop-rows-{uuid4()}")
        for i, block in enumerate(delayed_partitions(X, y, weight, name))
    ]
    # Together, so that each block is read and checked once.
    futures = client.compute([half for pair in pairs for half in pair])
    infos = gather(client, futures[1::2])
    rows = [pair for pair in zip(futures[::2], infos, strict=True) if pair[1] is not None]
    if not rows:
        raise ValueError(f"{name} must have at least one row for training, got none.")
    partitions = Partitions(client, [future for future, _ in rows], [info for _, info in rows])
    kinds = {(info.row_shape, info.y_shape, info.is_sparse) for info in partitions.infos}
    if len(kinds) > 1:
        raise ValueError(
            f"All blocks of {name} and of its y must have the same columns, and be all dense or "
            f"all sparse, but (shape of a row of {name}, shape of a row of y, is sparse) is one of "
            f"{sorted(kinds)}. Convert the blocks, for example with "
            "X.map_blocks(scipy.sparse.csr_matrix)."
        )
    return partitions


def make_network_partition(
    X: Any,
    y: Any,
    weight: Any,
    name: str,
    number: int,
    *,
    kind: Any,
    features: dict[str, Any] | None,
    dtype: np.dtype[Any] | None,
    architecture: MLPSpec,
) -> tuple[Partition, PartitionInfo] | tuple[None, None]:
    """Return a partition, checked as by the fit of a local estimator, and facts about it.

    Parameters
    ----------
    X, y, weight : block
        The rows; the weight may be None. For an empty block None is returned twice.
    name : str
        The name of the block in errors.
    number : int
        The number of the block.
    kind : class
        The class of the local estimator.
    features : dict or None
        The attributes `n_features_in_`, `_row_shape` and `feature_names_in_` that X must agree
        with; None to accept any features.
    dtype : dtype or None
        The dtype of the network; None for the dtype of X.
    architecture : MLPSpec
        The network that has to accept the rows.
    """
    if X.shape[0] == 0:  # a sparse matrix has no len
        return None, None
    estimator = kind(layers=architecture.layers, input_shape=architecture.input_shape)
    set_attributes(estimator, {**(features or {}), "_is_on_cluster": True})
    with prefix_errors(name):
        X, y = validate_features_and_targets(
            estimator, X, y, is_regressor(estimator), reset=features is None
        )
        check_fits_dtype(X, dtype or infer_dtype(X))
        if weight is not None:
            weight = validate_weight(np.asarray(weight).reshape(-1), X, may_be_zero=True)
        architecture.validate_input(X)
        if architecture.reads_sequences:
            architecture.network(get_row_shape(estimator), 1).validate_padding(X)
    if issparse(y):
        raise TypeError(
            f"y of {name} must be dense, got a sparse array. Pass y.map_blocks(lambda block: "
            "block.toarray())."
        )
    partition = Partition(X, y, weight)
    return partition, PartitionInfo(
        n_rows=X.shape[0],
        row_shape=get_row_shape(estimator),
        feature_names=getattr(estimator, "feature_names_in_", None),
        dtype=X.dtype,
        y_shape=y.shape[1:],
        weight=partition.total_weight,
        is_sparse=issparse(X),
        n_stored=X.size,
    )


def gather(client: Client, futures: Sequence[Future]) -> list[Any]:
    """Return the results of small tasks, or raise the error of a task."""
    with translate_comm_errors():
        return list(client.gather(list(futures)))


# ------------------------------------------------------------------- Dask collections


def delayed_partitions(X: Any, y: Any, weight: Any, name: str) -> list[tuple[Any, Any, Any]]:
    """Return X, y and the weight of each block of rows, not computed yet."""
    suffix = name.removeprefix("X")
    arrays = {name: X, f"y{suffix}": y}
    if weight is not None:
        arrays[f"sample_weight{suffix}"] = weight
    for argument, value in arrays.items():
        if not isinstance(value, (da.Array, dd.DataFrame, dd.Series)):
            kind = type(value)
            name = f"{kind.__module__.partition('.')[0]}.{kind.__name__}".removeprefix("builtins.")
            raise TypeError(
                f"{argument} must be a Dask array or frame, got {name}. Use the "
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


def _take_every(partition: Partition, start: int, step: int) -> Partition:
    """Return every `step`-th row, without the memory of the others."""
    X, y, weight, _ = partition.take(slice(start, None, step))
    return Partition(X.copy(), y.copy(), None if weight is None else weight.copy())


# ---------------------------------------------------------------------------- targets


def encode_targets(partition: Partition, targets: Any) -> Partition:
    """Return a partition with encoded targets."""
    return partition._replace(y=targets.encode(partition.y, needs_all=False))


def make_y_with_all_labels(partitions: Partitions) -> Array:
    """Return a small y that holds all labels of each column."""
    columns = []
    for labels in zip(*partitions.compute(_unique_labels), strict=True):
        if len({each.dtype.kind == "U" for each in labels}) > 1:
            raise ValueError(
                "y must contain only strings or only numbers, but has strings in some blocks and "
                "numbers in others. Convert the labels of each column to one type."
            )
        columns.append(np.unique(np.concatenate(labels)))
    if not partitions.infos[0].y_shape:
        return np.tile(columns[0], _N_REPEATS)
    if len({column.dtype.kind == "U" for column in columns}) > 1:
        columns = [column.astype(object) for column in columns]
    n_rows = _N_REPEATS * max(map(len, columns))
    return np.column_stack([np.resize(column, n_rows) for column in columns])


def _unique_labels(partition: Partition) -> list[Array]:
    """Return the labels of each column of a partition."""
    columns = [partition.y] if partition.y.ndim == 1 else list(partition.y.T)
    return [np.unique(unify_label_dtype(column, "y")) for column in columns]


def weight_partitions_by_class(
    class_weight: Any, targets: BaseLabelEncoder, partitions: Partitions
) -> Partitions:
    """Return partitions of encoded targets, with sample weights multiplied by class weights."""
    if class_weight is None:
        return partitions
    one_row = targets.class_indices(np.zeros((1, targets.n_outputs), dtype=np.int8))
    columns = [labels._replace(codes=np.arange(len(labels.classes))) for labels in one_row]
    # Checks the class weights of all columns together.
    class_weights_by_column(class_weight, columns, targets.has_several_columns, None)
    each = class_weight if isinstance(class_weight, list) else [class_weight] * len(columns)
    counts = zip(*partitions.compute(_class_counts, targets=targets), strict=True)
    weights = [
        compute_class_weight(own, labels, np.sum(count, axis=0))
        for own, labels, count in zip(each, columns, counts, strict=True)
    ]
    weighted = partitions.map(_apply_class_weight, targets=targets, weights=weights)
    totals = zip(partitions.infos, weighted.compute(attrgetter("total_weight")), strict=True)
    weighted = replace(weighted, infos=[info._replace(weight=weight) for info, weight in totals])
    check_total_weight(weighted.weight, class_weight, one_row, None)
    return weighted


def _class_counts(partition: Partition, targets: BaseLabelEncoder) -> list[Array]:
    """Return the total weight of the rows of each class, for each column."""
    weight = partition.weight
    return [
        np.bincount(labels.codes, weights=weight, minlength=len(labels.classes)).astype(float)
        for labels in targets.class_indices(partition.y)
    ]


def _apply_class_weight(
    partition: Partition, targets: BaseLabelEncoder, weights: Sequence[Array]
) -> Partition:
    with np.errstate(over="ignore", invalid="ignore"):
        labels = targets.class_indices(partition.y)
        return partition._replace(weight=apply_class_weight(weights, labels, partition.weight))


def fit_regression_targets(
    loss: Loss, setting: Any, is_scaled: bool, partitions: Partitions, dtype: Any
) -> RegressionTargetEncoder:
    """Return numeric targets, with their mean and scale if they are to be scaled.

    Parameters
    ----------
    loss : Loss
        The loss.
    setting : str or Loss
        The loss as the user passed it, for errors.
    is_scaled : bool
        Whether targets are scaled.
    partitions : Partitions
        The rows.
    dtype : dtype
        The dtype of the network.
    """
    n_targets = math.prod(partitions.infos[0].y_shape)
    targets = RegressionTargetEncoder(loss, setting, n_targets)
    facts = partitions.compute(_check_and_sum, targets=targets)
    if not is_scaled:
        return targets
    check_can_be_scaled(loss, setting)
    totals, sums, minima, maxima, largest = zip(*facts, strict=True)
    total, low, high = sum(totals), np.min(minima, axis=0), np.max(maxima, axis=0)
    with np.errstate(over="ignore", invalid="ignore"):
        # The mean of a constant column is its value, without rounding.
        mean = np.where(low == high, low, sum(sums) / total)
        if targets.loss.interval_y_true.low == 0:
            mean, scale = np.zeros_like(mean), mean
        else:
            exponent = compute_deviation_exponent(mean, low, high)
            squares: Any = sum(partitions.compute(_sum_squares, mean=mean, exponent=exponent))
            scale = np.ldexp(np.sqrt(squares / total), exponent)
    scaled = replace(targets, mean=mean, scale=handle_zeros_in_scale(scale))
    return scaled.checked(max(largest), dtype)


def _check_and_sum(
    partition: Partition, targets: RegressionTargetEncoder
) -> tuple[float, Array, Array, Array, float]:
    """Return the total weight; the weighted sum, minimum and maximum of y; the largest |y|.

    The loss must be defined for all targets.
    """
    targets.encode(partition.y, needs_all=False)
    y, weight = _as_columns(partition.y), partition.weight
    counted = y if weight is None else y[weight > 0]
    low, high = counted.min(axis=0, initial=np.inf), counted.max(axis=0, initial=-np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        sums = y.sum(axis=0) if weight is None else weight @ y
    return partition.total_weight, sums, low, high, max_abs(partition.y)


def _sum_squares(partition: Partition, mean: Array, exponent: Array) -> Array:
    """Return the weighted sums of squared deviations from the mean, over 4**exponent."""
    with np.errstate(over="ignore", invalid="ignore"):
        squares = squared_deviations(_as_columns(partition.y), mean, exponent)
        weight = partition.weight
        sums: Array = squares.sum(axis=0) if weight is None else weight @ squares
    return sums


def _as_columns(y: Array) -> Array:
    return (y[:, None] if y.ndim == 1 else y).astype(np.float64)
