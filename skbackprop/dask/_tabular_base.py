"""Base of the tabular estimators on a cluster, and their networks."""

from __future__ import annotations

import time
from abc import abstractmethod
from functools import partial
from numbers import Integral
from typing import Any, ClassVar, Self

import numpy as np
from dask.base import is_dask_collection
from sklearn.base import is_classifier
from sklearn.utils import check_random_state

from .._sklearn import Interval
from ..estimators._decorators import with_argument_suggestions
from ..estimators._fit_context import FitArguments
from ..estimators._parameter_table import COUNT
from ..estimators.base import BaseNeuralNetwork
from ..tabular._explanation import keep_background
from ..tabular._model_inputs import FeatureView, draw_seed
from ..tabular._networks import NetworkEnsemble, TabularClassifierNetworks, TabularRegressorNetworks
from ..tabular._prediction import LabeledRows
from ..tabular._progress import FitProgress
from ..tabular._read_table import read_table
from ..tabular._target_encoding import N_FOLDS
from ..tabular._training_cycles import TrainingData
from ..tabular.base import BaseTabular
from ..utils.arrays import Array
from ._cluster_mixin import ClusterMixin
from ._partitions import ClientRows, Partitions, make_partitions
from ._tables import (
    draw_sample,
    encode_rows,
    fit_features,
    make_table_partition,
    rows_in_view,
)
from .estimators import DaskBackpropClassifier, DaskBackpropRegressor

# Workers share the batches of local networks, but each takes at least so many rows.
_MIN_BATCH_SIZE = 16


class DaskClassifierNetworks(TabularClassifierNetworks, DaskBackpropClassifier):
    """Networks of a `DaskTabularClassifier` in training."""

    _local: ClassVar[type[BaseNeuralNetwork]] = TabularClassifierNetworks


class DaskRegressorNetworks(TabularRegressorNetworks, DaskBackpropRegressor):
    """Networks of a `DaskTabularRegressor` in training."""

    _local: ClassVar[type[BaseNeuralNetwork]] = TabularRegressorNetworks


class DistributedTrainingData(TrainingData):
    """Training data whose rows are `ClientRows`: a sample, and all rows on the workers."""

    @property
    def n_train(self) -> int:
        """The number of training rows of the network with the fewest held-out rows."""
        n_train: int = self.rows.X.partitions.n_train
        return n_train

    @property
    def may_leave_out_rows(self) -> bool:
        """Whether networks can be trained on some of the rows."""
        return False


class DaskTabularMixin(ClusterMixin, BaseTabular):
    """Base of `DaskTabularClassifier` and `DaskTabularRegressor`."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "client": [object],
        "n_estimators": [Interval(Integral, 2, None, closed="left")],
        "sync_every": [COUNT],
    }
    _fill_value: ClassVar[Any] = None  # missing values are valid in every column
    _networks: ClassVar[type[Any]]  # the networks in training

    @abstractmethod
    def _fit_targets_of_blocks(self, blocks: Partitions) -> None:
        """Set `_targets`, fitted to all rows."""

    # -------------------------------------------------------------------- training

    @with_argument_suggestions
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        groups: Any = None,
        resume_from: Any = None,
    ) -> Self:
        """Fit the networks to a table on the workers.

        Parameters
        ----------
        X : Dask frame or array of shape (n_samples, n_features)
            The table. Values may be missing, and blocks may be empty.
        y : Dask series or array of shape (n_samples,)
            The target, with the same blocks of rows.
        sample_weight : Dask series or array of shape (n_samples,), default=None
            The weight of each row, non-negative and not all zero; None for equal weights.
        X_val, y_val : data frame, array-like, Dask frame or Dask array, default=None
            A validation table like X, and its target, which are loaded into this process. With them
            there are no folds: all networks are trained on all rows of X, and early stopping,
            temperatures, weights and the width of intervals depend on X_val.
        sample_weight_val : array-like, Dask series or Dask array, default=None
            The weight of each row of X_val; None for equal weights.
        groups : None
            Not available on a cluster; use X_val.
        resume_from : None
            Not available on a cluster.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError, TypeError
            If a parameter, a column, y or a weight is not valid. The estimator is left unchanged.
        ClusterLostError
            If the scheduler, all workers or some rows are lost. The estimator is left unchanged.
        """
        fitted: Self = super().fit(
            X,
            y,
            sample_weight,
            X_val=X_val,
            y_val=y_val,
            sample_weight_val=sample_weight_val,
            groups=groups,
            resume_from=resume_from,
        )
        return fitted

    def _fit(self, given: FitArguments, groups: Any, start: float, context: Any) -> None:
        """Set the fitted attributes."""
        self._check_supported(given, groups)
        client, holds_out = self._get_client(), not given.has_validation_data
        progress = FitProgress(self, start, None)
        rng = progress.start_stream(check_random_state(self.random_state))
        seed, n_folds = draw_seed(rng), self.n_estimators if holds_out else N_FOLDS
        make = partial(
            make_table_partition,
            validate_target=self._validate_target,
            is_stratified=is_classifier(self),
            n_folds=n_folds,
            seed=seed,
        )
        blocks = make_partitions(client, given.X, given.y, given.sample_weight, make)
        blocks.check_weight()
        sample = draw_sample(blocks, seed)
        columns = read_table(self, sample.X, reset=True)
        self._fit_targets_of_blocks(blocks)
        y = self._targets.encode(sample.y)
        weight = self._targets.training_weight(y, sample.weight)
        if holds_out:
            self._check_folds(sample.folds, weight, blocks.n_rows)
        validation = self._read_validation(_load_validation(given))
        self._features, table = fit_features(self, blocks, sample, columns, n_folds, rng)
        names = getattr(self, "feature_names_in_", None)
        self.column_kinds_ = self._features.encoding.name_kinds(names)
        encoded = encode_rows(self, blocks, holds_out)
        encoded.check_weight()
        del blocks  # so that the workers release the raw rows
        if validation is not None:
            validation = validation._replace(X=self._features.scale(validation.X))
        spent = time.perf_counter() - start
        in_sample = ClientRows(table, y, weight, partitions=encoded)
        data = DistributedTrainingData(
            LabeledRows(in_sample, y, weight),
            self.n_estimators,
            sample.folds if holds_out else None,
            validation,
            rng,
            np.inf if self.time_limit is None else self.time_limit - spent,
            self,
            context,
            progress,
        )
        mixed = self._fit_models(data)
        if holds_out:
            self.oof_score_ = self._score_mixed(mixed, y, sample.weight, None)
        self.background_ = keep_background(self, columns, self._features, weight, rng)
        progress.print_end(vars(self).get("oof_score_"))

    def _check_supported(self, given: FitArguments, groups: Any) -> None:
        """Raise if arguments are not available on a cluster."""
        name, local = type(self).__name__, self._local.__name__
        if given.y is None:
            raise ValueError(f"{name} requires y to be passed, but the target y is None.")
        if self.blend is not None:
            raise ValueError(
                f"blend must be None on a Dask cluster, got {self.blend!r}, because other "
                f"estimators need all rows in one place. Train the local {local} on a sample of "
                "the rows with blend, or leave it out."
            )
        if groups is not None:
            raise ValueError(
                f"groups must be None on a Dask cluster, because {name} holds out single rows of "
                "each block. Pass X_val and y_val with rows of other groups, or train the local "
                f"{local}."
            )
        callbacks = getattr(self, "_skl_callbacks", [])
        if given.resume_from is not None or any(getattr(each, "resumes", 0) for each in callbacks):
            raise ValueError(
                f"resume_from and the callback Checkpoint are not available in {name}, which "
                "survives the loss of workers without them. Leave them out, or train the local "
                f"{local}."
            )

    def _check_folds(self, folds: Any, weight: Array | None, n_rows: int) -> None:
        """Raise if the rows of a sample do not suffice to hold out folds."""
        if not np.bincount(folds, minlength=self.n_estimators).all():
            raise ValueError(
                f"n_samples = {n_rows}, but not each of n_estimators={self.n_estimators} networks "
                f"can hold out some of so few rows. Train the local {self._local.__name__} on them."
            )
        if np.count_nonzero(np.bincount(folds, weight)) < 2:
            raise ValueError(
                "The weight of too few rows is above zero: one network would hold out all of them. "
                "Give more rows a positive weight."
            )

    def _rows_in_view(self, rows: LabeledRows, view: FeatureView) -> LabeledRows:
        """Return encoded rows in a view."""
        if not isinstance(rows.X, ClientRows):
            return super()._rows_in_view(rows, view)
        return rows._replace(X=rows_in_view(self._features, rows.X, view))

    def _make_networks(self, params: dict[str, Any], rows: LabeledRows) -> Any:
        """Return untrained networks, whose batches are shared by the workers."""
        client = self._get_client()
        if self.sync_every > 1:
            n_workers = max(1, len(client.nthreads()))
            size = max(_MIN_BATCH_SIZE, -(-params["batch_size"] // n_workers))
            # Adam divides noisier gradients by a larger root, so that the mean of the workers'
            # steps would be too short (square root scaling, Malladi et al. 2022).
            factor = max(1.0, params["batch_size"] / size) ** 0.5
            rate, solver = factor * params["learning_rate_init"], params["solver"]
            solver = solver.set_params(weight_decay=solver.weight_decay / factor)
            params |= {"batch_size": size, "learning_rate_init": rate, "solver": solver}
        local = self._local._make_networks(self, params, rows)
        cluster = {"client": client, "sync_every": self.sync_every}
        return self._networks(**local.get_params(deep=False), **cluster)

    def _fit_components(self, data: TrainingData) -> list[Array]:
        """Fit the networks, and convert them to local ones."""
        outputs = super()._fit_components(data)
        self.networks_ = [networks.to_local() for networks in self.networks_]
        pairs = zip(self.networks_, self._components, strict=True)
        self._components = [NetworkEnsemble(networks, each.view) for networks, each in pairs]
        return outputs

    # ----------------------------------------------------------------------- score

    @staticmethod
    def _predict_block(local: Any, X: Any, y: Any, weight: Array | None) -> tuple[Any, ...]:
        return local._predict(X, local._mix), local._targets.encode(y), weight

    @staticmethod
    def _score_rows(local: Any, *columns: Any) -> float:
        return float(local._score_mixed(*columns, None))


def _load_validation(given: FitArguments) -> FitArguments:
    """Return the arguments of a fit with validation rows in this process."""
    names = "X_val", "y_val", "sample_weight_val"
    values = {name: getattr(given, name) for name in names}
    loaded = {k: v.compute() if is_dask_collection(v) else v for k, v in values.items()}
    return given._replace(**loaded)
