"""What the Dask estimators share: a fit whose rows are on workers, and prediction block by block.

They are the local estimators but for where the rows are: what is checked and learned of them comes
from the workers, the stack that trains is a `DistributedTrainer`, and all else is the local code:
plan, schedule, stopping rule, callbacks, what is kept. So a fitted one is a local one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, cast

from dask.base import is_dask_collection
from distributed import Client, get_client
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ..estimators._data_info import DataInfo, FitArguments, ValidatedData, ValidatedParams
from ..estimators._validation import bare_clone, infer_dtype, prefix_errors
from ..estimators.base import BaseNeuralNetwork
from ..nn.data_loader import Dataset
from ..nn.objective import Objective
from ..nn.update import UpdateRule
from ..optimizers import Optimizer
from ..training.config import TrainingConfig
from ..training.task import TrainingTask
from ..training.validation_data import ValidationData
from ..utils.arrays import Array
from ._partitions import Partitions, blocks_of
from ._prediction import map_method, score_blocks
from ._sync import LocalSGD, SyncSGD
from ._targets import encoded
from ._trainer import ClusterTrainerFactory
from ._validation import RemoteEvaluator, remote_validation_data, with_precomputed_scores
from ._worker import WorkerConfig

# Numbers of the rows that the client takes a sample of: by them a fit is judged when it ends.
_N_SAMPLED = 1 << 18

# What a local estimator has no use for.
_OF_THE_CLUSTER = ("client", "rounds", "rounds_")


@dataclass(frozen=True)
class SampledDataset(Dataset):
    """A sample of rows that are on workers.

    Parameters
    ----------
    X, y, weight : arrays
        The sample.
    team : Team
        What trains on all of them.
    """

    team: ClusterTrainerFactory = field(kw_only=True)


class DaskBackprop(BaseNeuralNetwork):
    """Base of the Dask estimators; not to be used directly."""

    _local: ClassVar[type[BaseNeuralNetwork]]

    client: Any
    rounds: Any

    # ------------------------------------------------------- what a subclass defines

    def _fit_targets_remote(
        self,
        config: TrainingConfig,
        blocks: Partitions,
        dtype: Any,
        incremental: bool,
        classes: Any,
    ) -> Any:
        """Return the `TargetEncoder` of rows on the workers."""
        raise NotImplementedError(f"{type(self).__name__} has to define _learn_elsewhere(...)")

    def _check_targets_remote(self, targets: Any, blocks: Partitions, needs_all: bool) -> None:
        """Check that y on the workers is of targets that are known."""

    def _apply_class_weight_remote(
        self, config: TrainingConfig, targets: Any, blocks: Partitions, incremental: bool
    ) -> Partitions:
        """Return blocks of encoded targets whose rows weigh what they do in training."""
        return blocks

    # -------------------------------------------------------------------- training

    def _checked(
        self,
        given: FitArguments,
        continues: bool,
        incremental: bool,
        classes: Any,
        planned: ValidatedParams | None = None,
    ) -> tuple[ValidatedParams, DataInfo, ValidatedData]:
        known: DataInfo | None = self._learned if continues else None
        planned = planned or self._plan_to_go_on(known, incremental)
        config = planned.config
        self._check_distributable(config, given, incremental)
        reader: Any = self if known else bare_clone(self)
        checker = self._reader(known)
        blocks = blocks_of(
            self._client,
            given.X,
            given.y,
            given.sample_weight,
            checker,
            resets=known is None,
            dtype=known.dtype if known else config.dtype,
            architecture=config.architecture,
        )
        if known is None:
            reader.__dict__ |= _features_of(checker)
        dtype = known.dtype if known else config.dtype or infer_dtype(blocks)
        if known is not None and self._knows_targets:
            targets = self._known_targets(known)
            self._check_known(targets, classes)
            self._check_targets_remote(targets, blocks, needs_all=not incremental)
        else:
            targets = self._fit_targets_remote(config, blocks, dtype, incremental, classes)
        blocks = blocks.map_blocks(encoded, targets)
        blocks = self._apply_class_weight_remote(config, targets, blocks, incremental)
        blocks.check_weight()
        sample = blocks.sample(_N_SAMPLED)
        table = SampledDataset(
            sample.X, sample.y, sample.weight, team=ClusterTrainerFactory(blocks, self.rounds)
        )
        learned = self._learned_of(config, known, reader, dtype, targets, table.y.shape[1])
        watched = None
        if given.has_rows_to_watch:
            watched = self._validation_data_remote(given, config, learned, checker)
        return planned, learned, ValidatedData(table, sample.y, watched, None)

    def _validation_data_remote(
        self, given: FitArguments, config: TrainingConfig, learned: DataInfo, reader: Any
    ) -> ValidationData:
        """Return the rows on the workers that the user wants to be watched."""
        blocks = blocks_of(
            self._client,
            given.X_val,
            given.y_val,
            given.sample_weight_val,
            reader,
            resets=False,
            dtype=learned.dtype,
            architecture=config.architecture,
            name="X_val",
        )
        blocks.check_weight("sample_weight_val")
        known = blocks.map_blocks(encoded, learned.targets)
        with prefix_errors("X_val, y_val"):
            weighted = self._apply_class_weight_remote(config, learned.targets, known, False)
            return remote_validation_data(blocks, weighted)

    def _to_be_scored(self, watched: ValidationData, outcomes: Array) -> Any:
        return with_precomputed_scores(self.to_local(), watched.inputs, outcomes)

    def _problem(
        self,
        config: TrainingConfig,
        learned: DataInfo,
        objective: Objective,
        data: ValidatedData,
        incremental: bool,
    ) -> TrainingTask:
        problem = super()._problem(config, learned, objective, data, incremental)
        setting = WorkerConfig(objective, _rule_of(config), config.batch_size)
        table = cast(SampledDataset, data.table)
        evaluator, team = RemoteEvaluator(problem.evaluator, setting), table.team
        return replace(problem, stack=team, whole=team.whole, evaluator=evaluator)

    def _outcome_of(self, prepared: Any, continues: bool) -> dict[str, Any]:
        outcome = super()._outcome_of(prepared, continues)
        is_lbfgs = prepared.planned.config.is_lbfgs  # which has no steps to make in rounds
        return outcome | {"rounds_": None if is_lbfgs else prepared.data.table.team.chosen}

    def _check_distributable(
        self, config: TrainingConfig, given: FitArguments, incremental: bool
    ) -> None:
        """Check that all that the plan asks for can be done on a cluster."""
        if not (self.rounds == "auto" or isinstance(self.rounds, (SyncSGD, LocalSGD))):
            raise ValueError(
                "rounds must be 'auto', SyncSGD() or LocalSGD(), which are in "
                f"skbackprop.dask, got {self.rounds!r}."
            )
        if config.stopping is not None and given.X_val is None and not incremental:
            raise ValueError(
                f"early_stopping={self.early_stopping!r} needs rows to go by, and a Dask estimator "
                "holds out none of X. Give them as X_val and y_val, for example by slicing a Dask "
                "array, or by random_split of a Dask frame."
            )

    @property
    def _client(self) -> Client:
        """The client that was given, or else the current one."""
        if self.client is None:
            try:
                return get_client()
            except ValueError as error:
                raise ValueError(
                    "There is no Dask client: make one with distributed.Client(...), or give it as "
                    "client."
                ) from error
        if not isinstance(self.client, Client):
            raise ValueError(f"client must be a distributed.Client or None, got {self.client!r}.")
        return self.client

    def _reader(self, known: DataInfo | None) -> Any:
        """Return what checks rows on the workers; it takes note of their features."""
        reader = self._local()
        if known is not None:
            reader.__dict__ |= _features_of(self)
        return reader

    # ------------------------------------------------------------------ prediction

    def to_local(self) -> Any:
        """Return an ordinary estimator with the same parameters and the same fitted network.

        Returns
        -------
        estimator : BackpropClassifier or BackpropRegressor
            It shares the arrays of this one, and needs neither a cluster nor Dask.

        Raises
        ------
        NotFittedError
            If this one is not fitted.
        """
        check_is_fitted(self)
        local = object.__new__(self._local)
        state = self.__getstate__()
        local.__setstate__({n: v for n, v in state.items() if n not in _OF_THE_CLUSTER})
        return local

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the score of the local estimator; of Dask's rows, X stays where it is.

        What is predicted of each row, its target and its weight come to the client.

        Parameters
        ----------
        X : Dask array or frame, or array-like, of shape (n_samples, n_features)
            The input.
        y : Dask array or frame, or array-like, of shape (n_samples,) or (n_samples, n_outputs)
            The targets.
        sample_weight : Dask array or series, or array-like, of shape (n_samples,), default=None
            The weight of each row; None for equal weights.

        Returns
        -------
        score : float
            Accuracy, R2 or D2.
        """
        local = self.to_local()
        if not is_dask_collection(X):
            return float(local.score(X, y, sample_weight))
        parts = score_blocks(self._client, local, X, y, sample_weight)
        return float(local._score_of(parts))

    def _by_block(self, method: str, X: Any, *arguments: Any) -> Any:
        """Return what a method says of X: lazily, block by block, where X is Dask's."""
        local = self.to_local()
        if not is_dask_collection(X):
            return getattr(local, method)(X, *arguments)
        return map_method(local, method, X, *arguments)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the client behind, which belongs to this process."""
        return super().__getstate__() | {"client": None}

    def __copy__(self) -> Self:
        other = super().__copy__()
        other.client = self.client
        return other

    def __sklearn_clone__(self) -> Self:
        """Return an unfitted one with the same parameters, and the very same client."""
        alike = bare_clone(self)
        alike.client = None
        other: Self = BaseEstimator.__sklearn_clone__(alike)
        other.client = self.client
        return other


def _features_of(estimator: Any) -> dict[str, Any]:
    """Return what an estimator has noted of the features."""
    names = "n_features_in_", "feature_names_in_"
    return {name: vars(estimator)[name] for name in names if name in vars(estimator)}


def _rule_of(config: TrainingConfig) -> UpdateRule | None:
    """Return how steps are made by a plan; None where they are made by L-BFGS."""
    solver = config.solver
    return (
        UpdateRule(solver, config.clip_norm, config.average)
        if isinstance(solver, Optimizer)
        else None
    )
