"""Classifier and regressor for raw tables on the workers of a Dask cluster.

The features are those of the local estimators, fitted to a sample of the rows. Only the levels of
categories and their target statistics come from all rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import dask
import numpy as np
import pandas as pd
from numpy.random import RandomState
from scipy.sparse import issparse
from sklearn.base import is_classifier
from sklearn.utils import check_random_state

from ..early_stopping import EarlyStopping
from ..estimators._validation import prefix_errors
from ..estimators.base import BaseNeuralNetwork
from ..nn.rows import Rows
from ..tabular._blended_estimators import AUTO
from ..tabular._categorical_encoding import (
    N_FOLDS,
    CategoricalEncoding,
    CategoryLevels,
    TargetEncoding,
    TargetMoments,
)
from ..tabular._column_values import InferredKind, is_missing
from ..tabular._model_inputs import FeatureBuilder, FeatureView, draw_seed
from ..tabular._networks import (
    EnsembleSettings,
    TabularClassifierNetworks,
    TabularRegressorNetworks,
    TrainingData,
)
from ..tabular._read_table import TableColumns, read_table
from ..tabular._table_encoding import UnscaledRows
from ..tabular.base import BaseTabular
from ..tabular.classifier import TabularClassifier
from ..tabular.encoder import TableEncoder
from ..tabular.regressor import TabularRegressor
from ..training.class_weight import BALANCED
from ..training.config import Config
from ..training.splits import draw_folds
from ..utils.arrays import Array
from ._blocks import (
    Block,
    Blocks,
    get_current_client,
    read_blocks,
    scale_to_totals,
    sum_by_label,
)
from .estimators import (
    DaskBackpropClassifier,
    DaskBackpropRegressor,
    DaskMixin,
    DaskNetworkMixin,
    lazy,
    validate_block_weight,
    with_sync_every,
)

# The smallest number of rows of a sample.
_MIN_SAMPLE_ROWS = 1 << 13

# Workers share each batch, but each worker takes at least this number of rows.
_MIN_BATCH_SIZE = 16


class BlockNetworkMixin(DaskNetworkMixin):
    """Networks that are trained on blocks of encoded rows of a table."""

    _blocks: Blocks

    def _read_blocks(
        self, config: Config, arguments: dict[str, Any], hold_out: EarlyStopping | None
    ) -> tuple[Block, Blocks, Any]:
        """Return the arguments, which are a sample of the rows, and all rows."""
        sample = Block(arguments["X"], arguments["y"], arguments["sample_weight"])
        return sample, self._blocks, config.class_weight


class DaskClassifierNetworks(BlockNetworkMixin, TabularClassifierNetworks, DaskBackpropClassifier):
    """Networks of a `DaskTabularClassifier` in training."""

    _local: ClassVar[type[BaseNeuralNetwork]] = TabularClassifierNetworks


class DaskRegressorNetworks(BlockNetworkMixin, TabularRegressorNetworks, DaskBackpropRegressor):
    """Networks of a `DaskTabularRegressor` in training."""

    _local: ClassVar[type[BaseNeuralNetwork]] = TabularRegressorNetworks


class DaskTabularMixin(DaskMixin, BaseTabular):
    """Base of `DaskTabularClassifier` and `DaskTabularRegressor`."""

    _fill_value: ClassVar[Any] = None  # missing values are valid in every column
    _networks: ClassVar[type[Any]]  # the networks in training
    # During a fit: all rows, the number of networks, and the folds of the sample.
    _blocks: Blocks
    _n_networks: int
    _sample_folds: Array

    def _fit_table(
        self, X: Any, y: Any, sample_weight: Any, validation_data: Any, *options: Any
    ) -> None:
        """Set the fitted attributes, as for the rows of a sample."""
        groups, resume_from, *others = options
        self._check_supported(groups, resume_from)
        validation_data = dask.compute(*validation_data)
        blocks = read_blocks(get_current_client(self), X, y, sample_weight)
        seed = draw_seed(check_random_state(self.random_state))
        self._n_networks = self._default_n_estimators(blocks.n_rows)
        is_validated = any(part is not None for part in validation_data)
        self._blocks = blocks.map(
            _check_block,
            validate_targets=self._validate_targets,
            is_stratified=is_classifier(self),
            n_folds=N_FOLDS if is_validated else self._n_networks,
            seed=seed,
        )
        by_label = self._blocks.sum_weights_by_label() if is_classifier(self) else []
        sample = self._blocks.draw_sample(int(X.shape[1]), _MIN_SAMPLE_ROWS, seed, by_label)
        if getattr(self, "class_weight", None) == BALANCED:
            sample = scale_to_totals(sample, sum_by_label(by_label))
        self._sample_folds = sample.folds
        super()._fit_table(*sample[:3], validation_data, None, None, *others)
        for name in ("_blocks", "_n_networks", "_sample_folds", "oof_member_"):
            self.__dict__.pop(name, None)

    def _check_supported(self, groups: Any, resume_from: Any) -> None:
        """Check that parameters and arguments are available on a cluster."""
        callbacks = getattr(self, "_skl_callbacks", [])
        has_checkpoint = any(getattr(callback, "resumes", False) for callback in callbacks)
        settings = {
            f"blend={self.blend!r}": self.blend not in (None, AUTO),
            "groups (pass X_val and y_val with rows of other groups)": groups is not None,
            "resume_from and the callback Checkpoint": resume_from is not None or has_checkpoint,
        }
        unsupported = [setting for setting, is_given in settings.items() if is_given]
        if unsupported:
            raise ValueError(
                f"{type(self).__name__} does not support {', '.join(unsupported)} on a Dask "
                f"cluster. Leave this out, or train the local {self._local.__name__} on a sample "
                "of the rows."
            )

    def _blended_estimators(self, n_rows: int) -> list[Any]:
        return []

    def _resolve_n_estimators(self, n_rows: int) -> int:
        return self._n_networks

    def _count_training_rows(self, n_rows: int, folds: Array | None) -> int:
        """Return the number of training rows of a network, on all workers."""
        n_rows = self._blocks.n_rows
        return n_rows if folds is None else n_rows - n_rows // (int(folds.max()) + 1)

    def _make_folds(self, rows: Rows, group: Array | None, n_folds: int, rng: RandomState) -> Array:
        """Return the folds of the sample, after a check that it has enough rows."""
        folds = self._sample_folds
        if not np.bincount(folds, minlength=n_folds).all():
            raise ValueError(
                f"n_samples = {len(rows.y)}, but not each of n_estimators={n_folds} networks can "
                f"hold out some of so few rows. Train the local {self._local.__name__} on them."
            )
        if np.count_nonzero(np.bincount(folds, rows.weight)) < 2:
            raise ValueError(
                "The weight of too few rows is above zero: one network would hold out all of them. "
                "Give more rows a positive weight."
            )
        return folds

    # -------------------------------------------------------------------- features

    def _fit_features(
        self, columns: TableColumns, y: Array, group: Array | None, rng: RandomState
    ) -> UnscaledRows:
        """Set the features and kinds of columns, and return the rows of the sample."""
        rows = super()._fit_features(columns, y, group, rng)
        self._blocks = self._blocks.map(
            _encode_block, reader=self._make_reader(), features=self._features
        )
        return rows

    def _make_reader(self) -> BaseTabular:
        """Return a local estimator with the attributes that the workers need to read rows."""
        reader = self._local()
        names = ("n_features_in_", "feature_names_in_", "classes_", "_class_weights", "_targets")
        vars(reader).update({name: vars(self)[name] for name in names if name in vars(self)})
        return reader

    def _fit_categories(
        self,
        columns: TableColumns,
        kinds: Sequence[InferredKind],
        y: Array | None,
        settings: TableEncoder,
        groups: Array | None,
    ) -> tuple[CategoricalEncoding, Array, Callable[[], Array]]:
        """Fit the categories, and target statistics, to all rows; see `fit_categories`."""
        # Sums of squares are more precise if the targets have been centered.
        center = y.mean(axis=0) if y is not None and self._target_type == "continuous" else 0.0
        indices = [index for index, item in enumerate(kinds) if item.kind == "category"]
        blocks = self._blocks.map_and_gather(
            _sum_by_category, reader=self._make_reader(), center=center, indices=indices
        )
        sums = [_sum_groups(pd.concat(parts)) for parts in zip(*blocks, strict=True)]
        levels = []
        for index, level_sums in zip(indices, sums, strict=True):
            counts, label = _count_levels(level_sums), columns.label(index)
            levels.append(CategoryLevels.fit(counts, label, settings.min_frequency))
        categories = CategoricalEncoding.from_levels(indices, levels, settings)
        encoded = categories.target_encoded
        if len(encoded) and self._target_type:
            moments = [_make_moments(sums[i], levels[i], center) for i in encoded]
            n_outputs = len(moments[0].counts)
            classes = [None] if n_outputs == 1 else list(range(n_outputs))
            statistics = TargetEncoding.from_moments(moments, encoded, classes)
            categories = categories.with_statistics(statistics)
        return categories, categories.read_codes(columns), lambda: self._sample_folds

    # -------------------------------------------------------------------- networks

    def _make_ensemble(self, defaults: EnsembleSettings, data: TrainingData) -> Any:
        """Return untrained networks for all rows, whose batches are shared by the workers."""
        params = super()._make_ensemble(defaults, data).get_params(deep=False)
        size = max(_MIN_BATCH_SIZE, -(-params["batch_size"] // len(self._blocks.shards)))
        # Adam divides noisier gradients by a larger root, so that the mean of the workers' steps
        # would be too short (square root scaling, Malladi et al. 2022).
        factor = max(1.0, params["batch_size"] / size) ** 0.5
        rate, solver = factor * params["learning_rate_init"], params["solver"]
        solver = solver.set_params(weight_decay=solver.weight_decay / factor)
        params |= {"learning_rate_init": rate, "solver": solver}
        if self.sync_every > 1:  # with synchronous steps, networks share the batches themselves
            params["batch_size"] = size
        networks = self._networks(**params, sync_every=self.sync_every)
        settings = {"features": self._features, "view": defaults.view}
        networks._blocks = self._blocks.map(_view_block, **settings)
        return networks

    def _fit_components(self, data: TrainingData) -> list[Array]:
        """Fit the networks, and convert them to local ones."""
        outputs = super()._fit_components(data)
        self.networks_ = [networks.to_local() for networks in self.networks_]
        return outputs

    def _set_out_of_fold(self, mixture: Array, y: Array, weight: Array | None) -> None:
        self.oof_score_ = self._score_predictions(y, mixture, weight)


@with_sync_every
class DaskTabularClassifier(DaskTabularMixin, TabularClassifier):
    """Classifier for raw tables on a Dask cluster, by ensembles of networks.

    The workers hold and encode the rows, and train the networks of a `TabularClassifier` by local
    SGD (Stich 2019). Each network holds out a random share of each block. Classes and their
    weights, categories and their target statistics are those of all rows. Everything else is fitted
    to a random sample of at most 65,536 rows (fewer above 32 columns, but at least 8,192), which is
    sent to the client. From a smaller table, all rows are used. There is no boosting: `blend` must
    be None or "auto". Checkpoints and groups are not available, and `n_jobs` is ignored.

    X, y and weights are Dask arrays or frames with the same blocks of rows; those of `X_val` may be
    in this process. Predictions and sets for Dask input are lazy Dask arrays, block by block. The
    conformity scores of sets are those of the sample. If the scheduler, all workers or some rows
    are lost, `fit` raises a `ClusterLostError`, and the estimator stays as it was.

    Parameters
    ----------
    sync_every : int, default=10
        The number of steps between two synchronizations of the workers, at least 1. The workers
        share the rows of each step, so that an epoch has as many steps as on one machine.

    See Also
    --------
    TabularClassifier : The local estimator, with the attributes; `to_local` returns one.

    References
    ----------
    Stich, S. U. (2019). Local SGD converges fast and communicates little. ICLR.

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

    _local: ClassVar[type[Any]] = TabularClassifier
    _networks: ClassVar[type[Any]] = DaskClassifierNetworks

    predict = lazy(TabularClassifier.predict)
    predict_proba = lazy(TabularClassifier.predict_proba)
    predict_set = lazy(TabularClassifier.predict_set)


@with_sync_every
class DaskTabularRegressor(DaskTabularMixin, TabularRegressor):
    """Regressor for raw tables on a Dask cluster, by an ensemble of networks.

    The workers hold and encode the rows, and train the networks of a `TabularRegressor` by local
    SGD (Stich 2019). Each network holds out a random share of each block. Categories and their
    target statistics, and the range of y, are those of all rows. Everything else is fitted to a
    random sample of at most 65,536 rows (fewer above 32 columns, but at least 8,192), which is sent
    to the client. From a smaller table, all rows are used. There is no boosting: `blend` must be
    None or "auto". Checkpoints and groups are not available, and `n_jobs` is ignored. Of several
    targets, each row must have all.

    X, y and weights are Dask arrays or frames with the same blocks of rows; those of `X_val` may be
    in this process. Predictions and intervals for Dask input are lazy Dask arrays, block by block.
    The conformity scores of intervals are those of the sample. If the scheduler, all workers or
    some rows are lost, `fit` raises a `ClusterLostError`, and the estimator stays as it was.

    Parameters
    ----------
    sync_every : int, default=10
        The number of steps between two synchronizations of the workers, at least 1. The workers
        share the rows of each step, so that an epoch has as many steps as on one machine.

    See Also
    --------
    TabularRegressor : The local estimator, with the attributes; `to_local` returns one.

    References
    ----------
    Stich, S. U. (2019). Local SGD converges fast and communicates little. ICLR.

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

    _local: ClassVar[type[Any]] = TabularRegressor
    _networks: ClassVar[type[Any]] = DaskRegressorNetworks

    def _fit_targets(self, y: Array, weight: Array | None) -> None:
        super()._fit_targets(y, weight)
        if self.clip:
            lows, highs = zip(*self._blocks.map_and_gather(_find_range), strict=True)
            bounds = np.array([np.min(lows, axis=0), np.max(highs, axis=0)])
            self._range = bounds.reshape(2, -1, 1)

    predict: Any = lazy(TabularRegressor.predict)
    predict_interval = lazy(TabularRegressor.predict_interval)


# --------------------------------------------------------------------------- on the workers


def _check_block(
    block: Block,
    number: int,
    validate_targets: Callable[[Any, Any, Any], tuple[Array, Array | None]],
    is_stratified: bool,
    n_folds: int,
    seed: int,
) -> Block:
    """Return a block with checked targets and weights, and with folds.

    The fold of a row depends on the seed, the number of the block and the position of the row in
    it, so all workers assign the same folds.
    """
    if issparse(block.X):
        raise TypeError(
            f"block {number} of X is sparse, but tabular estimators on a cluster take dense rows. "
            "Pass frames, or use DaskBackpropClassifier or DaskBackpropRegressor, which take "
            "sparse blocks."
        )
    with prefix_errors(f"block {number} of X"):
        y, target_weight = validate_targets(block.y, None, block.y)
        weight = validate_block_weight(block.weight, y, target_weight)
    strata = np.unique(y, return_inverse=True)[1] if is_stratified else np.zeros(len(y))
    if weight is not None:
        strata = 2 * strata + (weight > 0)
    rng = RandomState([seed, number])
    folds = (draw_folds(len(y), n_folds, rng, strata) + rng.randint(n_folds)) % n_folds
    return Block(block.X, y, weight, folds.astype(np.min_scalar_type(n_folds)))


def _find_range(block: Block, number: int) -> tuple[Any, Any]:
    """Return the smallest and the largest value of each target."""
    return block.y.min(axis=0), block.y.max(axis=0)


def _encode_block(
    block: Block,
    number: int,
    reader: BaseTabular,
    features: FeatureBuilder,
) -> Block:
    """Return encoded rows, with out-of-fold target statistics."""
    with prefix_errors(f"block {number} of X"):
        columns = read_table(reader, block.X, reset=False)
        X = features.encoding.read_rows(columns, block.folds)
    y = reader._encode_targets(block.y)
    return Block(X, y, reader._training_weight(y, block.weight), block.folds)


def _view_block(block: Block, number: int, features: FeatureBuilder, view: FeatureView) -> Block:
    """Return encoded rows in a view."""
    return block._replace(X=features.make_training_input(block.X, view))


# --------------------------------------------------------------------------- categories


def _sum_by_category(
    block: Block,
    number: int,
    reader: BaseTabular,
    center: Any,
    indices: Sequence[int],
) -> list[pd.DataFrame]:
    """Return the sums of targets by level and fold, for each of some columns.

    The columns are the level, the fold, the number of rows, and for each output of target
    statistics the sums of targets and of their squares.
    """
    y = reader._encode_targets(block.y)
    y = y.reshape(len(y), -1) - center
    if reader._target_type == "multiclass":
        y = y == np.arange(len(reader.classes_))
    rows = pd.DataFrame(np.column_stack([np.ones(len(y)), y, np.square(y)]))
    sums = []
    with prefix_errors(f"block {number} of X"):
        columns = read_table(reader, block.X, reset=False)
        for index in indices:
            levels = pd.Series(columns.values(index), dtype=object)
            sums.append(_sum_groups(rows.assign(level=levels, fold=block.folds)))
    return sums


def _sum_groups(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the sums by level and fold."""
    return rows.groupby(["level", "fold"], dropna=False, sort=False, as_index=False).sum()


def _count_levels(sums: pd.DataFrame) -> dict[Any, int]:
    """Return the number of rows of each level; None stands for missing values."""
    counts = sums.groupby("level", dropna=False, sort=False)[0].sum().astype(int)
    return {None if is_missing(level) else level: count for level, count in counts.items()}


def _make_moments(sums: pd.DataFrame, levels: CategoryLevels, center: Any) -> TargetMoments:
    """Return the moments of targets by fold and code, given their sums by level and fold."""
    codes, folds = levels.encode(sums["level"].tolist()) - 1, sums["fold"].to_numpy(int)
    table = np.zeros((sums.shape[1] - 2, folds.max() + 1, levels.n_codes))
    for output, output_table in enumerate(table):
        np.add.at(output_table, (folds, codes), sums[output].to_numpy())
    counts, totals, squares = table[:1], *np.split(table[1:], 2)
    means = totals / np.maximum(counts, 1)
    squares = np.maximum(squares - counts * np.square(means), 0)
    centers = np.reshape(center, (-1, 1, 1))
    return TargetMoments(np.broadcast_to(counts, means.shape), means + centers, squares)
