"""Base of the Dask estimators: fits of rows on the workers, and lazy prediction.

The Dask estimators are the local estimators apart from where the rows are. Checks and statistics
of the data come from the workers, and a `DistributedTrainer` trains. Everything else is the code of
the local estimators, so a fitted Dask estimator can be converted to a local one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import attrgetter
from typing import Any, Self, cast

import numpy as np

from ..estimators._decorators import with_argument_suggestions
from ..estimators._fit_context import (
    DataInfo,
    FitArguments,
    ScoredPredictions,
    ValidatedData,
    ValidatedParams,
)
from ..estimators._label_encoding import BaseLabelEncoder, check_classes_passed, make_target_encoder
from ..estimators._supervised import compute_score, make_scoring_inputs
from ..estimators._validation import (
    copy_without_feature_names,
    infer_dtype,
    prefix_errors,
    set_attributes,
)
from ..estimators.base import BaseNeuralNetwork
from ..estimators.classifier import BackpropClassifier
from ..estimators.regressor import BackpropRegressor
from ..nn.data_loader import Dataset
from ..nn.objective import Objective
from ..optimizers import OPTIMIZERS
from ..training.class_weight import reject_balanced
from ..training.config import TrainingConfig
from ..training.training_task import TrainingTask, ValidationData
from ..utils.arrays import Array
from ._cluster_mixin import ClusterMixin
from ._partition_targets import (
    encode_targets,
    fit_regression_targets,
    make_y_with_all_labels,
    weight_partitions_by_class,
)
from ._partitions import (
    ClientRows,
    Partition,
    Partitions,
    make_network_partition,
    make_partitions,
)
from ._trainer import ActorPool, DistributedTrainer, RemoteEvaluator

# The number of values in the sample of rows on the client, by which convergence is judged.
_SAMPLE_SIZE = 1 << 18


class DaskEstimatorMixin(ClusterMixin, BaseNeuralNetwork):
    """Base of the Dask estimators of networks."""

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
        resume_from: Any = None,
        groups: Any = None,
    ) -> Self:
        """Train the network on the rows of Dask collections.

        Parameters
        ----------
        X : Dask array or frame of shape (n_samples, n_features)
            The training input, without missing values.
        y : Dask array, series or frame of shape (n_samples,) or (n_samples, n_outputs)
            The targets, with the same blocks of rows.
        sample_weight : Dask array or series of shape (n_samples,), default=None
            The weight of each row, non-negative and not all zero; None for equal weights.
        X_val, y_val : Dask collections, default=None
            Validation data, not trained on. The loss on it is recorded after each epoch in
            `validation_loss_curve_`. `early_stopping` needs it, because no rows of X are held out.
        sample_weight_val : Dask array or series, default=None
            The weight of each validation row; None for equal weights.
        resume_from : str or path, default=None
            The file of a `callbacks.Checkpoint`, as in `BackpropClassifier.fit`.
        groups : object, default=None
            Without effect, because no rows of X are held out.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter or the data is invalid, or if training diverges. The estimator then
            stays as it was.
        ClusterLostError
            If the scheduler, all workers or some rows are lost. The last complete epoch is kept.
        """
        fitted: Self = super().fit(
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

    def _validate_fit(
        self,
        arguments: FitArguments,
        continues: bool,
        incremental: bool,
        classes: Any = None,
        params: ValidatedParams | None = None,
    ) -> tuple[ValidatedParams, DataInfo, ValidatedData]:
        last: DataInfo | None = self._data_info if continues else None
        params = params or self._get_validated_params(last, incremental)
        config = params.config
        self._check_supported(config, arguments, incremental)
        client = self._get_client()
        features: dict[str, Any] | None = None
        if last is not None:
            features = {**last.feature_attributes, "_row_shape": last.network.input_shape}
        expected_dtype = last.dtype if last else config.dtype
        make = partial(make_network_partition, kind=self._local, architecture=config.architecture)
        is_encoded = isinstance(arguments.X, ClientRows)  # by a tabular estimator
        if is_encoded:
            partitions = arguments.X.partitions
        else:
            rows = arguments.X, arguments.y, arguments.sample_weight
            own = partial(make, features=features, dtype=expected_dtype)
            partitions = make_partitions(client, *rows, own)
        reader: Any = self
        if features is None:
            features, reader = partitions.feature_attributes, copy_without_feature_names(self)
            set_attributes(reader, features)
        dtype = expected_dtype or infer_dtype(partitions)
        targets = self._make_target_encoder(partitions, config, last, dtype, incremental, classes)
        if incremental and config.class_weight is not None:
            reject_balanced(config.class_weight)
        partitions = partitions.map(encode_targets, targets=targets)
        partitions = weight_partitions_by_class(config.class_weight, targets, partitions)
        partitions.check_weight()
        if is_encoded:
            sample = Partition(
                arguments.X.X, targets.encode(arguments.X.y, False), arguments.X.weight
            )
        else:
            sample = partitions.sample(_SAMPLE_SIZE)
        table = ClientRows(sample.X, sample.y, sample.weight, partitions=partitions)
        info = self._make_data_info(params, last, reader, dtype, targets, table.y.shape[1])
        validation = None
        if arguments.has_validation_data:
            rows = arguments.X_val, arguments.y_val, arguments.sample_weight_val
            features = {**features, "_row_shape": info.network.input_shape}
            own = partial(make, features=features, dtype=dtype)
            original = make_partitions(client, *rows, own, "X_val")
            original.check_weight("sample_weight_val")
            encoded = original.map(encode_targets, targets=targets)
            with prefix_errors("X_val, y_val"):
                encoded = weight_partitions_by_class(config.class_weight, targets, encoded)
                validation = _make_validation_data(original, encoded)
        return params, info, ValidatedData(table, sample.y, validation, None, arguments.folds)

    def _make_target_encoder(
        self,
        partitions: Partitions,
        config: TrainingConfig,
        last: DataInfo | None,
        dtype: Any,
        incremental: bool,
        classes: Any,
    ) -> Any:
        """Return the `BaseTargetEncoder` of an earlier fit, or one fitted to the partitions."""
        targets = None if last is None else self._get_target_encoder(last)
        if targets is not None:
            targets.check_classes(classes)
            if isinstance(targets, BaseLabelEncoder) and not incremental:
                targets.encode(make_y_with_all_labels(partitions), needs_all=True)
            return targets
        if self._y_numeric:
            return fit_regression_targets(
                config.loss, self.loss, config.scale_target, partitions, dtype
            )
        if incremental:
            check_classes_passed(classes)
        return make_target_encoder(make_y_with_all_labels(partitions), classes)

    def _make_task(
        self,
        config: TrainingConfig,
        info: DataInfo,
        objective: Objective,
        data: ValidatedData,
        incremental: bool,
    ) -> TrainingTask:
        task = super()._make_task(config, info, objective, data, incremental)

        def make_pool(table: Dataset) -> ActorPool:
            return ActorPool(cast(ClientRows, table).partitions, objective, config)

        evaluator = task.evaluator
        if data.validation is not None:
            evaluator = RemoteEvaluator(evaluator, make_pool(data.validation.table))
        trainer = partial(
            DistributedTrainer, pool=make_pool(data.table), sync_every=self.sync_every
        )
        return replace(task, stack=trainer, evaluator=evaluator)

    def _with_predictions(self, predictions: Array) -> Any:
        kind = PrecomputedRegressor if self._y_numeric else PrecomputedClassifier
        estimator = self._convert_to(kind)
        estimator.raw_prediction = predictions
        return estimator

    def _check_supported(
        self, config: TrainingConfig, arguments: FitArguments, incremental: bool
    ) -> None:
        """Check that a Dask estimator can train as the parameters say."""
        name = type(self).__name__
        if config.is_lbfgs:
            raise ValueError(
                f"solver must be one of {', '.join(map(repr, OPTIMIZERS))} or an Optimizer on a "
                f"Dask cluster, got {self.solver!r}. To use it, train the local "
                f"{self._local.__name__}."
            )
        if config.stopping is None:
            return
        scoring = config.stopping.scoring
        if arguments.X_val is None and not incremental:
            raise ValueError(
                f"early_stopping={self.early_stopping!r} needs validation rows, but {name} does "
                "not hold out rows of X. Pass X_val and y_val, for example slices of a Dask "
                "array, or a part made by random_split of a Dask frame."
            )
        if arguments.X_val is not None and callable(scoring):
            raise ValueError(
                "scoring of EarlyStopping must be None, 'loss' or the name of a scikit-learn "
                "scorer, such as 'neg_log_loss', because X_val is on the workers, got "
                f"{scoring!r}. None is the score of the estimator."
            )

    # ----------------------------------------------------------------------- score

    @staticmethod
    def _predict_block(local: Any, X: Any, y: Any, weight: Array | None) -> tuple[Any, ...]:
        inputs = make_scoring_inputs(local, X, y, None)
        return np.asarray(inputs.y), inputs.predicted, weight

    @staticmethod
    def _score_rows(local: Any, *columns: Any) -> float:
        return compute_score(local, ScoredPredictions(*columns))


class _PrecomputedMixin(BaseNeuralNetwork):
    """Estimator for scorers, whose raw predictions are known and whose X is not used."""

    raw_prediction: Array

    def _predict_in_blocks(
        self, X: Any, transform: Callable[[Array], Any], n_layers: int | None = None
    ) -> Any:
        return transform(self.raw_prediction[None].copy())  # transform may overwrite it


class PrecomputedClassifier(_PrecomputedMixin, BackpropClassifier):
    """Classifier with known raw predictions."""


class PrecomputedRegressor(_PrecomputedMixin, BackpropRegressor):
    """Regressor with known raw predictions."""


def _make_validation_data(original: Partitions, encoded: Partitions) -> ValidationData:
    """Return validation data with targets and weights, and with no columns in X.

    Parameters
    ----------
    original : Partitions
        The rows with targets as passed to `fit`.
    encoded : Partitions
        The rows with encoded targets and with the weights of training.
    """
    y, weights = zip(*encoded.compute(attrgetter("y", "weight")), strict=True)
    weight = None if weights[0] is None else np.concatenate(weights)
    X = np.empty((encoded.n_rows, 0))
    table = ClientRows(X, np.concatenate(y), weight, partitions=encoded)
    return ValidationData(table, None, np.concatenate(original.compute(attrgetter("y"))))
