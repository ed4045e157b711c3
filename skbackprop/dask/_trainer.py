"""A stack of networks whose rows are on the workers of a cluster."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..nn.data_loader import Dataset
from ..nn.ensemble_trainer import EnsembleTrainer, TimeLimit
from ..nn.objective import Objective, PenaltyGradient, fsum_or_nan
from ..nn.parameters import FlatParameters
from ..nn.train_state import TrainState
from ..utils.arrays import Array, IndexArray
from ._actor_pool import ActorPool
from ._partitions import Partitions
from ._sync import LocalSGD, Rounds, SyncSGD, Timings, choose_sync, needs_times
from ._worker import BatchSlice, GradientResult, LocalSGDResult, SyncState, WorkerConfig, piece_of

# Numbers that a stream gives to draw orders and masks by.
_LARGEST_KEY = np.iinfo(np.int64).max

# What adaptive optimizers divide their steps by the root of: the first of these in their state.
_SECOND_MOMENTS = "largest_second_moment", "second_moment", "sum_of_squares"

# Rounds that are timed.
_N_TIMED = 3


@dataclass
class ClusterTrainerFactory:
    """Makes the stack that trains on a cluster, and knows what is done in a round.

    Parameters
    ----------
    blocks : Blocks
        The rows.
    rounds : "auto", SyncSGD or LocalSGD
        What the user wants to be done in a round.

    Attributes
    ----------
    chosen : SyncSGD, LocalSGD or None
        What is done in one; None as long as that has to be measured.
    """

    blocks: Partitions
    rounds: Any
    chosen: Rounds | None = field(init=False)
    _crew: ActorPool | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.chosen = None if needs_times(self.rounds) else self.rounds

    def crew(self, setting: WorkerConfig) -> ActorPool:
        """Return the workers, whose setting is one and the same for all networks of a fit."""
        self._crew = self._crew or ActorPool(self.blocks, setting)
        return self._crew

    def __call__(self, **settings: Any) -> DistributedTrainer:
        """Return a stack of what `EnsembleTrainer` takes."""
        return DistributedTrainer(**settings, team=self)

    def whole(
        self,
        objective: Objective,
        parameters: FlatParameters,
        table: Dataset,
        order: IndexArray | None,
        row_block: int,
        deadline: TimeLimit | None,
    ) -> DistributedFullBatchLoss:
        """Return the loss over all rows, of what `LocalFullBatchLoss` takes."""
        return DistributedFullBatchLoss(objective, parameters, deadline, self)


@dataclass
class DistributedTrainer(EnsembleTrainer):
    """A stack that is trained in rounds: see `SyncSGD` and `LocalSGD`.

    Its tables are a sample of the rows. All networks take part in each round, by rows in an order
    of their own, and each is computed as if it were alone.

    Parameters
    ----------
    objective, state, tables, batch_sizes, optimizer, schedule, rate, clip_norm, average, deadline
        As for `EnsembleTrainer`.
    team : Team
        The rows, and what is done in a round.
    """

    team: ClusterTrainerFactory = field(kw_only=True)

    def _bind(self) -> None:
        super()._bind()
        self._blocks = self.team.blocks
        self._batch_size = min(self.batch_sizes[0], self._blocks.n_rows)
        self._members = [_MemberState(self, slice(i, i + 1)) for i in range(len(self))]
        rule = self.rule.members(slice(1))
        self._crew = self.team.crew(
            WorkerConfig(self._members[0].objective, rule, self._batch_size)
        )

    def run_epoch(self, rate: Array) -> Array:
        """Visit all rows once, in rounds, and return each loss as the local stack does."""
        rounds = self.team.chosen = self.team.chosen or self._measured()
        start, n_before = time.perf_counter(), self._crew.n_calls
        if isinstance(rounds, SyncSGD):
            sums = self._sync_sgd_epoch(rate)
        else:
            sums = self._local_sgd_epoch(rounds, rate)
        self.state.n_samples_seen += self._blocks.n_rows
        losses = np.array([fsum_or_nan(own) / self._blocks.weight for own in sums])
        self._crew.log_event(
            epoch=int(self.state.n_samples_seen.max()) // self._blocks.n_rows,
            loss=float(losses.mean()),
            rounds=repr(rounds),
            n_rounds=self._crew.n_calls - n_before,
            seconds=time.perf_counter() - start,
        )
        return losses

    # ------------------------------------------------------------------- the two ways

    def _sync_sgd_epoch(self, rate: Array) -> list[list[float]]:
        """Make a step of each batch that the workers share; return the losses to add up."""
        parameters = self.parameters
        sums: list[list[float]] = [[] for _ in self._members]
        n_batches = -(-self._blocks.n_rows // self._batch_size)
        for shares in self._shares(n_batches):
            answers = self._crew.call("gradient", parameters.theta, parameters.statistics, shares)
            for i, parts in enumerate(zip(*answers, strict=True)):
                sums[i] += self._members[i].step(parts, self._batch_size, rate[i].item())
        return sums

    def _local_sgd_epoch(self, rounds: LocalSGD, rate: Array) -> list[list[float]]:
        """Let each worker make steps, and take the mean of what they have come to."""
        sums: list[list[float]] = [[] for _ in self._members]
        n_rounds = -(-self._n_steps() // (rounds.n_steps or 1))
        for shares in self._shares(n_rounds):
            answers = self._crew.call("steps", SyncState.of(self.state), rate, shares)
            of_round = piece_of(self._blocks.n_rows, 0, shares[0])
            n_rows = of_round.stop - of_round.start
            for i, parts in enumerate(zip(*answers, strict=True)):
                sums[i] += self._members[i].average_workers(parts, n_rows, n_rounds)
        return sums

    def _shares(self, n_pieces: int) -> Iterable[list[BatchSlice]]:
        """Yield the pieces of an epoch, one of each member's, as long as there is time."""
        state, drawn_by = self.state, {}
        for rng in state.rngs:  # who shares a stream visits the rows in one order
            if id(rng) not in drawn_by:
                drawn_by[id(rng)] = _key_of(rng)
        orders = [drawn_by[id(rng)] for rng in state.rngs]
        masks = [int(rng.integers(_LARGEST_KEY)) for rng in state.masks] or [0] * len(self)
        pieces: Iterable[list[BatchSlice]] = (
            [BatchSlice(*keys, i, n_pieces) for keys in zip(orders, masks, strict=True)]
            for i in range(n_pieces)
        )
        return pieces if self.deadline is None else self.deadline.before_each(pieces)

    # ---------------------------------------------------------------------- what is measured

    def _n_steps(self) -> int:
        """Return the steps that a worker makes in an epoch by itself."""
        return -(-self._crew.largest_part // self._batch_size)

    def _measured(self) -> Rounds:
        """Return what is done in a round, by the time that a round and a step take."""
        crew, first = self._crew, self._members[0].state.parameters
        both = first.theta, first.statistics
        step = len(self) * max(crew.call("seconds_of_step", *both, self._batch_size))
        times = []
        for _ in range(_N_TIMED):
            start = time.perf_counter()
            crew.call("echo", SyncState.of(self.state))
            times.append(time.perf_counter() - start)
        return choose_sync(self.team.rounds, Timings(min(times), step), self._n_steps())


class _MemberState:
    """One network of a stack: what is made of the parts' answers to it.

    Parameters
    ----------
    stack : RemoteStack
        The stack.
    own : slice
        Where its rows are in the stack's arrays.
    """

    def __init__(self, stack: DistributedTrainer, own: slice) -> None:
        self.state, self.objective = stack.state.take(own), stack.objective.members(own)
        self._gradients = stack.gradients.members(own)
        self._update = stack.rule.members(own).update(self.state, self._gradients)
        both = self.state.parameters, self._gradients
        self._add_penalty = PenaltyGradient(self.objective.penalty, *both, stack.pool)

    def step(self, parts: Sequence[GradientResult], n_rows: int, rate: float) -> list[float]:
        """Make a step by what each part says of a batch; return the losses to add up."""
        weights = [part.weight for part in parts]
        total = math.fsum(weights)
        if total == 0:
            return []
        g = _mean([part.g for part in parts], weights)
        np.copyto(self._gradients.theta, g, casting="same_kind")
        for i, array in enumerate(self.state.parameters.statistics.values()):
            np.copyto(array, _mean([part.statistics[i] for part in parts], weights))
        measure = self._add_penalty(total)
        self._update(n_rows, rate)
        losses = [part.loss / self.objective.loss_normalizer for part in parts]
        return losses + self.objective.penalty.value(measure.astype(float)).tolist()

    def average_workers(
        self, parts: Sequence[LocalSGDResult], n_rows: int, n_rounds: int
    ) -> list[float]:
        """Become the mean of what parts have come to; return the losses to add up.

        Each part counts by the total weight of its rows. So with as many steps on all of them, the
        expected step is that of the weighted mean of all rows.

        Parameters
        ----------
        parts : sequence of Steps
            What each part has come to.
        n_rows : int
            The rows of all parts in this round.
        n_rounds : int
            The rounds of an epoch.
        """
        counted = [part for part in parts if part.weight > 0]
        weights = [part.weight for part in counted]
        _put_mean_into(self.state, [part.common for part in counted], weights, n_rows)
        return [part.loss * part.weight / n_rounds for part in counted]


class DistributedFullBatchLoss:
    """The mean loss of one network over all rows: a `FullBatchLoss` that the workers share.

    Parameters
    ----------
    objective, parameters, deadline
        As for `LocalFullBatchLoss`; the deadline ends an evaluation before it begins.
    team : Team
        The rows.

    Attributes
    ----------
    gradients : FlatParameters
        Where the gradient goes.
    total : float
        The weight of all rows.
    """

    def __init__(
        self,
        objective: Objective,
        parameters: FlatParameters,
        deadline: TimeLimit | None,
        team: ClusterTrainerFactory,
    ) -> None:
        self._parameters, self._deadline = parameters, deadline
        self._crew = team.crew(WorkerConfig(objective, None, team.blocks.n_rows))
        self.gradients = parameters.like(np.empty_like(parameters.theta))
        self.total = team.blocks.weight

    def __call__(self) -> list[float]:
        """Leave the gradient of the mean in `gradients`; return the sums of the parts' losses."""
        losses: list[float] = []
        whole: Iterable[list[BatchSlice]] = [[BatchSlice(None, 0, 0, 1)]]
        theta, statistics = self._parameters.theta, self._parameters.statistics
        for shares in whole if self._deadline is None else self._deadline.before_each(whole):
            parts = [part for (part,) in self._crew.call("gradient", theta, statistics, shares)]
            weights = [part.weight for part in parts]
            np.copyto(self.gradients.theta, _mean([part.g for part in parts], weights))
            losses += [part.loss for part in parts]
        return losses


def _key_of(rng: np.random.RandomState | None) -> int | None:
    """Return what the orders of an epoch are drawn by; None for rows as they stand."""
    return None if rng is None else int(rng.randint(_LARGEST_KEY, dtype=np.int64))


def _mean(arrays: Sequence[Array], weights: Sequence[float]) -> Array:
    """Return the weighted mean of arrays, in double precision."""
    total = math.fsum(weights)
    mean = np.zeros(arrays[0].shape)
    for array, weight in zip(arrays, weights, strict=True):
        if weight:
            mean += weight / total * array
    return mean


def _mean_parameters(
    state: TrainState, parts: Sequence[SyncState], weights: Sequence[float]
) -> Array:
    """Return the weighted mean of the parameters that parts have come to.

    An adaptive optimizer divides its steps by the root of a second moment. Within a round each part
    has its own, so that parts with large gradients would make smaller steps than the weighted loss
    asks for. So each parameter counts in proportion to this root as well, taken in the middle of
    the round (Wang et al. 2021 correct local adaptive steps likewise).
    """
    mean = _mean([part.theta for part in parts], weights)
    name = next((name for name in _SECOND_MOMENTS if name in state.optimizer), None)
    if name is None or len(parts) == 1:
        return mean
    before, total_weight = state.optimizer[name].astype(float), math.fsum(weights)
    total, weighted = np.zeros(mean.shape), np.zeros(mean.shape)
    for part, weight in zip(parts, weights, strict=True):
        scale = weight / total_weight * np.sqrt((before + part.optimizer[name]) / 2)
        total += scale
        weighted += scale * part.theta
    return np.divide(weighted, total, out=mean, where=total > 0)


def _put_mean_into(
    state: TrainState, parts: Sequence[SyncState], weights: Sequence[float], n_rows: int
) -> None:
    """Make a state the weighted mean of what parts have come to.

    An average over steps counts by the steps in it, of which a part may have none yet. The rows
    that averages count are those of all parts in the round.
    """
    own = SyncState.of(state)
    np.copyto(own.theta, _mean_parameters(state, parts, weights), casting="same_kind")
    for kind in ("statistics", "optimizer", "average"):
        for name, array in getattr(own, kind).items():
            arrays = [getattr(part, kind)[name] for part in parts]
            if kind == "average" and name != "total":
                if array.dtype.kind != "f":
                    array += n_rows
                    continue
                totals = [part.average["total"].item() for part in parts]
                by_steps = [w * total for w, total in zip(weights, totals, strict=True)]
                np.copyto(array, _mean(arrays, by_steps), casting="same_kind")
            elif array.dtype.kind == "f":
                np.copyto(array, _mean(arrays, weights), casting="same_kind")
            else:
                np.copyto(array, np.rint(_mean(arrays, weights)), casting="unsafe")
