"""What the Dask estimators share: a fit whose rows are on workers, and prediction block by block.

They are the local estimators but for where the rows are: what is checked and learned of them comes
from the workers, the stack that trains is a `RemoteStack`, and all else is the local code: plan,
schedule, stopping rule, callbacks, what is kept. So a fitted one is a local one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self, cast

from dask.base import is_dask_collection
from distributed import Client, get_client
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from ..core.arrays import Array
from ..engine.batches import Table
from ..engine.objective import Objective
from ..engine.update import Rule
from ..estimators.base import BaseBackprop
from ..estimators.learned import Data, Given, Learned, Planned
from ..estimators.validation import errors_of, float_for, stand_in
from ..fitting.plan import Plan
from ..fitting.problem import Problem
from ..fitting.watch import Watched
from ..optimizers import Optimizer
from .blocks import Blocks, blocks_of
from .lazily import lazily, scored_by_block
from .part import Setting
from .rounds import LocalSteps, Synchronous
from .stack import Team
from .targets import encoded
from .watched import RemoteJudge, knowing, watched_on

# Numbers of the rows that the client takes a sample of: by them a fit is judged when it ends.
_N_SAMPLED = 1 << 18

# What a local estimator has no use for.
_OF_THE_CLUSTER = ("client", "rounds", "rounds_")


@dataclass(frozen=True)
class SampledTable(Table):
    """A sample of rows that are on workers.

    Parameters
    ----------
    X, y, weight : arrays
        The sample.
    team : Team
        What trains on all of them.
    """

    team: Team = field(kw_only=True)


class DaskBackprop(BaseBackprop):
    """Base of the Dask estimators; not to be used directly."""

    _local: ClassVar[type[BaseBackprop]]

    client: Any
    rounds: Any

    # ------------------------------------------------------- what a subclass defines

    def _learn_elsewhere(
        self, plan: Plan, blocks: Blocks, dtype: Any, incremental: bool, classes: Any
    ) -> Any:
        """Return the `Targets` of rows on the workers."""
        raise NotImplementedError(f"{type(self).__name__} has to define _learn_elsewhere(...)")

    def _check_elsewhere(self, targets: Any, blocks: Blocks, needs_all: bool) -> None:
        """Check that y on the workers is of targets that are known."""

    def _weighted_elsewhere(
        self, plan: Plan, targets: Any, blocks: Blocks, incremental: bool
    ) -> Blocks:
        """Return blocks of encoded targets whose rows weigh what they do in training."""
        return blocks

    # -------------------------------------------------------------------- training

    def _checked(
        self,
        given: Given,
        continues: bool,
        incremental: bool,
        classes: Any,
        planned: Planned | None = None,
    ) -> tuple[Planned, Learned, Data]:
        known: Learned | None = self._learned if continues else None
        planned = planned or self._plan_to_go_on(known, incremental)
        plan = planned.plan
        self._check_distributable(plan, given, incremental)
        reader: Any = self if known else stand_in(self)
        checker = self._reader(known)
        blocks = blocks_of(
            self._client,
            given.X,
            given.y,
            given.sample_weight,
            checker,
            resets=known is None,
            dtype=known.dtype if known else plan.dtype,
            architecture=plan.architecture,
        )
        if known is None:
            reader.__dict__ |= _features_of(checker)
        dtype = known.dtype if known else plan.dtype or float_for(blocks)
        if known is not None and self._knows_targets:
            targets = self._known_targets(known)
            self._check_known(targets, classes)
            self._check_elsewhere(targets, blocks, needs_all=not incremental)
        else:
            targets = self._learn_elsewhere(plan, blocks, dtype, incremental, classes)
        blocks = blocks.changed(encoded, targets)
        blocks = self._weighted_elsewhere(plan, targets, blocks, incremental)
        blocks.check_weight()
        sample = blocks.sample(_N_SAMPLED)
        table = SampledTable(sample.X, sample.y, sample.weight, team=Team(blocks, self.rounds))
        learned = self._learned_of(plan, known, reader, dtype, targets, table.y.shape[1])
        watched = None
        if given.has_rows_to_watch:
            watched = self._watched_elsewhere(given, plan, learned, checker)
        return planned, learned, Data(table, sample.y, watched, None)

    def _watched_elsewhere(
        self, given: Given, plan: Plan, learned: Learned, reader: Any
    ) -> Watched:
        """Return the rows on the workers that the user wants to be watched."""
        blocks = blocks_of(
            self._client,
            given.X_val,
            given.y_val,
            given.sample_weight_val,
            reader,
            resets=False,
            dtype=learned.dtype,
            architecture=plan.architecture,
            name="X_val",
        )
        blocks.check_weight("sample_weight_val")
        known = blocks.changed(encoded, learned.targets)
        with errors_of("X_val, y_val"):
            weighted = self._weighted_elsewhere(plan, learned.targets, known, False)
            return watched_on(blocks, weighted)

    def _to_be_scored(self, watched: Watched, outcomes: Array) -> Any:
        return knowing(self.to_local(), watched.inputs, outcomes)

    def _problem(
        self, plan: Plan, learned: Learned, objective: Objective, data: Data, incremental: bool
    ) -> Problem:
        problem = super()._problem(plan, learned, objective, data, incremental)
        setting = Setting(objective, _rule_of(plan), plan.batch_size)
        table = cast(SampledTable, data.table)
        judge, team = RemoteJudge(problem.judge, setting), table.team
        return replace(problem, stack=team, whole=team.whole, judge=judge)

    def _outcome_of(self, prepared: Any, continues: bool) -> dict[str, Any]:
        outcome = super()._outcome_of(prepared, continues)
        is_lbfgs = prepared.planned.plan.is_lbfgs  # which has no steps to make in rounds
        return outcome | {"rounds_": None if is_lbfgs else prepared.data.table.team.chosen}

    def _check_distributable(self, plan: Plan, given: Given, incremental: bool) -> None:
        """Check that all that the plan asks for can be done on a cluster."""
        if not (self.rounds == "auto" or isinstance(self.rounds, (Synchronous, LocalSteps))):
            raise ValueError(
                "rounds must be 'auto', Synchronous() or LocalSteps(), which are in "
                f"skbackprop.dask, got {self.rounds!r}."
            )
        if plan.stopping is not None and given.X_val is None and not incremental:
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

    def _reader(self, known: Learned | None) -> Any:
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
        parts = scored_by_block(self._client, local, X, y, sample_weight)
        return float(local._score_of(parts))

    def _by_block(self, method: str, X: Any, *arguments: Any) -> Any:
        """Return what a method says of X: lazily, block by block, where X is Dask's."""
        local = self.to_local()
        if not is_dask_collection(X):
            return getattr(local, method)(X, *arguments)
        return lazily(local, method, X, *arguments)

    def __getstate__(self) -> dict[str, Any]:
        """Leave the client behind, which belongs to this process."""
        return super().__getstate__() | {"client": None}

    def __copy__(self) -> Self:
        other = super().__copy__()
        other.client = self.client
        return other

    def __sklearn_clone__(self) -> Self:
        """Return an unfitted one with the same parameters, and the very same client."""
        alike = stand_in(self)
        alike.client = None
        other: Self = BaseEstimator.__sklearn_clone__(alike)
        other.client = self.client
        return other


def _features_of(estimator: Any) -> dict[str, Any]:
    """Return what an estimator has noted of the features."""
    names = "n_features_in_", "feature_names_in_"
    return {name: vars(estimator)[name] for name in names if name in vars(estimator)}


def _rule_of(plan: Plan) -> Rule | None:
    """Return how steps are made by a plan; None where they are made by L-BFGS."""
    solver = plan.solver
    return Rule(solver, plan.clip_norm, plan.average) if isinstance(solver, Optimizer) else None
