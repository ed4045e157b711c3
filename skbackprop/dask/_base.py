"""Base of the Dask estimators: fits of rows on the workers, and lazy prediction.

The Dask estimators are the local estimators apart from where the rows are. Checks and statistics
of the data come from the workers, and a `DistributedTrainer` trains. Everything else is the code of
the local estimators, so a fitted Dask estimator can be converted to a local one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import attrgetter, getitem
from typing import Any, ClassVar, Self, cast

import dask.array as da
import numpy as np
from dask import delayed
from dask.base import is_dask_collection
from distributed import Client, get_client
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ..estimators._fit_context import (
    DataInfo,
    FitArguments,
    ScoredPredictions,
    ValidatedData,
    ValidatedParams,
)
from ..estimators._label_encoding import BaseLabelEncoder, check_classes_passed, make_target_encoder
from ..estimators._parameter_constraints import OF_A_CLUSTER
from ..estimators._supervised import compute_score, make_scoring_inputs
from ..estimators._validation import (
    copy_without_feature_names,
    infer_dtype,
    prefix_errors,
    set_attributes,
    shallow_copy_of,
    validated_weight,
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
from ._partitions import (
    ClientRows,
    Partitions,
    delayed_partitions,
    encode_targets,
    fit_regression_targets,
    gather,
    make_network_partition,
    make_partitions,
    row_blocks,
    weight_by_class,
    y_with_all_labels,
)
from ._trainer import ActorPool, DistributedTrainer, RemoteEvaluator

# The number of values in the sample of rows on the client, by which convergence is judged.
_SAMPLE_SIZE = 1 << 18

# The names of the parameters that local estimators do not have.
_CLUSTER_PARAMETERS = {parameter.name for parameter in OF_A_CLUSTER}


class DaskEstimatorMixin(BaseNeuralNetwork):
    """Base of the Dask estimators."""

    _local: ClassVar[type[BaseNeuralNetwork]]  # the local estimator

    client: Any
    sync_every: int

    # -------------------------------------------------------------------- training

    def _validate_fit(
        self,
        given: FitArguments,
        continues: bool,
        incremental: bool,
        classes: Any = None,
        params: ValidatedParams | None = None,
    ) -> tuple[ValidatedParams, DataInfo, ValidatedData]:
        last: DataInfo | None = self._data_info if continues else None
        params = params or self._get_validated_params(last, incremental)
        config = params.config
        self._check_supported(config, given, incremental)
        client = self._get_client()
        features: dict[str, Any] | None = None
        if last is not None:
            features = {**last.feature_attributes, "_row_shape": last.network.input_shape}
        expected_dtype = last.dtype if last else config.dtype
        make = partial(make_network_partition, kind=self._local, architecture=config.architecture)
        partitions = given.X
        if not isinstance(partitions, Partitions):  # those of tabular estimators are made already
            rows = given.X, given.y, given.sample_weight
            own = partial(make, features=features, dtype=expected_dtype)
            partitions = make_partitions(client, *rows, own)
        reader: Any = self
        if features is None:
            features, reader = partitions.feature_attributes, shallow_copy_of(self)
            set_attributes(reader, features)
        dtype = expected_dtype or infer_dtype(partitions)
        targets = self._targets_for(partitions, config, last, dtype, incremental, classes)
        if incremental and config.class_weight is not None:
            reject_balanced(config.class_weight)
        partitions = partitions.map(encode_targets, targets=targets)
        partitions = weight_by_class(config.class_weight, targets, partitions)
        partitions.check_weight()
        sample = partitions.sample(_SAMPLE_SIZE)
        table = ClientRows(sample.X, sample.y, sample.weight, partitions=partitions)
        info = self._make_data_info(params, last, reader, dtype, targets, table.y.shape[1])
        validation = None
        if given.has_validation_data:
            rows = given.X_val, given.y_val, given.sample_weight_val
            features = {**features, "_row_shape": info.network.input_shape}
            own = partial(make, features=features, dtype=dtype)
            original = make_partitions(client, *rows, own, "X_val")
            original.check_weight("sample_weight_val")
            encoded = original.map(encode_targets, targets=targets)
            with prefix_errors("X_val, y_val"):
                encoded = weight_by_class(config.class_weight, targets, encoded)
                validation = _make_validation_data(original, encoded)
        return params, info, ValidatedData(table, sample.y, validation, None)

    def _targets_for(
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
                targets.encode(y_with_all_labels(partitions), needs_all=True)
            return targets
        if self._y_numeric:
            return fit_regression_targets(config, self.loss, partitions, dtype)
        if incremental:
            check_classes_passed(classes, is_weighted=False)
        return make_target_encoder(y_with_all_labels(partitions), classes)

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

    def _with_outcomes(self, outcomes: Array) -> Any:
        kind = PrecomputedRegressor if self._y_numeric else PrecomputedClassifier
        estimator = self._converted_to(kind)
        estimator.raw_prediction = outcomes
        return estimator

    def _check_supported(
        self, config: TrainingConfig, given: FitArguments, incremental: bool
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
        if given.X_val is None and not incremental:
            raise ValueError(
                f"early_stopping={self.early_stopping!r} needs validation rows, but {name} does "
                "not hold out rows of X. Pass X_val and y_val, for example slices of a Dask "
                "array, or a part made by random_split of a Dask frame."
            )
        if given.X_val is not None and callable(scoring):
            raise ValueError(
                "scoring of EarlyStopping must be None, 'loss' or the name of a scikit-learn "
                "scorer, such as 'neg_log_loss', because X_val is on the workers, got "
                f"{scoring!r}. None is the score of the estimator."
            )

    def _get_client(self) -> Client:
        """Return the `client`, or the current client if it is None."""
        if self.client is None:
            return get_client()
        if not isinstance(self.client, Client):
            raise ValueError(f"client must be a distributed.Client or None, got {self.client!r}.")
        return self.client

    # ------------------------------------------------------------------ prediction

    def to_local(self) -> Any:
        """Return a local estimator with the same parameters and the same fitted network.

        Returns
        -------
        estimator : BackpropClassifier or BackpropRegressor
            A local estimator, which needs neither a cluster nor Dask. It shares the arrays of this
            one.

        Raises
        ------
        NotFittedError
            If this estimator is not fitted.
        """
        check_is_fitted(self)
        return self._converted_to(self._local)

    def _converted_to(self, kind: type[BaseNeuralNetwork]) -> Any:
        """Return an estimator of another class with the same parameters and attributes."""
        other = object.__new__(kind)
        state = self.__getstate__().items()
        other.__setstate__({k: v for k, v in state if k not in _CLUSTER_PARAMETERS})
        return other

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
        blocks = [call(model, *each) for each in delayed_partitions(X, y, sample_weight, "X")]
        client = self._get_client()
        parts = [part for part in gather(client, client.compute(blocks)) if part is not None]
        if not parts:
            raise ValueError("X must have at least one row to compute a score, got none.")
        columns = zip(*parts, strict=True)
        rows = [None if each[0] is None else np.concatenate(each) for each in columns]
        return compute_score(local, ScoredPredictions(*rows))

    def _map(self, method: str, X: Any, *arguments: Any) -> Any:
        """Return the output of a method of the local estimator.

        For Dask input it is a lazy Dask array with the blocks of X, or a list or tuple of them.
        """
        local = self.to_local()
        if not is_dask_collection(X):
            return getattr(local, method)(X, *arguments)
        rows = X.chunks[0] if isinstance(X, da.Array) else (np.nan,) * X.npartitions
        meta = _call_method(local, method, np.zeros((0, local.n_features_in_)), arguments)
        call, model = delayed(_call_method, pure=False), delayed(local, traverse=False)
        blocks = [call(model, method, block, arguments) for block in row_blocks(X)]

        def concatenate(blocks: list[Any], meta: Any) -> da.Array:
            arrays = [
                da.from_delayed(block, (n, *meta.shape[1:]), meta=meta)
                for block, n in zip(blocks, rows, strict=True)
            ]
            return da.concatenate(arrays, allow_unknown_chunksizes=True)

        if not isinstance(meta, (list, tuple)):
            return concatenate(blocks, meta)
        return type(meta)(
            concatenate([delayed(getitem)(block, i) for block in blocks], own)
            for i, own in enumerate(meta)
        )

    # ------------------------------------------------------------------ copies

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the client, which belongs to this process."""
        return super().__getstate__() | {"client": None}

    def __copy__(self) -> Self:
        other = super().__copy__()
        other.client = self.client
        return other

    def __sklearn_clone__(self) -> Self:
        """Return an unfitted copy with the same client."""
        without_client = shallow_copy_of(self)
        without_client.client = None
        other: Self = BaseEstimator.__sklearn_clone__(without_client)
        other.client = self.client
        return other


class _PrecomputedMixin(BaseNeuralNetwork):
    """Estimator for scorers, whose raw predictions are known and whose X is not used."""

    raw_prediction: Array

    def _predict_in_blocks(
        self, X: Any, outcome: Callable[[Array], Any], n_layers: int | None = None
    ) -> Any:
        return outcome(self.raw_prediction[None].copy())  # outcome may overwrite it


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


# --------------------------------------------------------------------------- on the workers


def _predict_for_score(local: Any, X: Any, y: Any, weight: Any) -> ScoredPredictions | None:
    """Return the targets, predictions and weights of a block; None if it is empty."""
    if not X.shape[0]:
        return None
    if weight is not None:
        weight = validated_weight(np.asarray(weight).reshape(-1), X, may_be_zero=True)
    inputs = make_scoring_inputs(local, X, y, None)
    return inputs._replace(y=np.asarray(inputs.y), weight=weight)


def _call_method(local: Any, method: str, X: Any, arguments: tuple[Any, ...]) -> Any:
    """Return the output of a method for a block, which may have no rows."""
    if X.shape[0]:
        return getattr(local, method)(X, *arguments)
    nameless = copy_without_feature_names(local)  # a row of zeros has none
    output = getattr(nameless, method)(np.zeros((1, local.n_features_in_)), *arguments)
    if isinstance(output, (list, tuple)):
        return type(output)(each[:0] for each in output)
    return output[:0]
