"""Trainer of networks whose rows are on the workers of a cluster."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from ..nn.ensemble_trainer import StackTrainer
from ..nn.objective import PenaltyGradient, fsum_or_nan
from ..nn.train_state import TrainState
from ..utils.arrays import Array
from ._actor_pool import ActorPool
from ._worker import EpochSlice, GradientResult, LocalSGDResult, SyncState

# The bound of the seeds of orders and masks.
_MAX_SEED = np.iinfo(np.int64).max

# The state by whose root adaptive optimizers divide their steps: the first of these that exists.
_SECOND_MOMENTS = "largest_second_moment", "second_moment", "sum_of_squares"


@dataclass
class DistributedTrainer(StackTrainer):
    """Networks that are trained by synchronous or local SGD on the workers of a cluster.

    All networks take part in each round, with rows in an order of their own, and each is computed
    as if it were alone. The tables are a sample of the rows.

    With ``sync_every=1`` all workers share each batch, and each step uses the sum of their
    gradients (Dean et al. 2012, section 4, without stale gradients): what one machine computes for
    the same batch, up to rounding.

    Otherwise a round is local SGD (Stich 2019, algorithm 1). All workers start with the same
    parameters and moments and make `sync_every` steps on batches of their own rows. Parameters,
    moments, averages and running statistics are then averaged (Reddi et al. 2021, Wang et al.
    2020), weighted by the total weight of each worker's rows. All workers make the same number of
    steps, so that the weighted loss of all rows is minimized (Wang et al. 2020b, section 3): the
    worker with the most rows takes batches of at most about the batch size, and one with fewer
    rows visits them several times or takes smaller batches.

    Parameters
    ----------
    objective, state, tables, batch_sizes, optimizer, schedule, rate, clip_norm, average, deadline
        As for `StackTrainer`.
    pool : ActorPool
        The rows, on the workers.
    sync_every : int
        The number of steps in a round.

    References
    ----------
    Dean, J. et al. (2012). Large scale distributed deep networks. NeurIPS.

    Reddi, S. et al. (2021). Adaptive federated optimization. ICLR.

    Stich, S. U. (2019). Local SGD converges fast and communicates little. ICLR.

    Wang, J. et al. (2020). SlowMo: improving communication-efficient distributed SGD with slow
    momentum. ICLR, section 2.

    Wang, J. et al. (2020b). Tackling the objective inconsistency problem in heterogeneous federated
    optimization. NeurIPS.
    """

    pool: ActorPool = field(kw_only=True)
    sync_every: int = field(kw_only=True)

    def _bind(self) -> None:
        super()._bind()
        self._members = [_MemberUpdate(self, slice(i, i + 1)) for i in range(len(self))]

    def run_epoch(self, rate: Array) -> Array:
        """Visit all rows once and return the loss of each network, penalty included."""
        pool, partitions = self.pool, self.pool.partitions
        start, n_calls = time.perf_counter(), pool.n_calls
        # The sums of the losses of each network.
        sums: list[list[float]] = [[] for _ in self._members]
        if self.sync_every == 1:
            self._sync_sgd_epoch(rate, sums)
        else:
            self._local_sgd_epoch(rate, sums)
        self.state.n_samples_seen += partitions.n_rows
        losses = np.array([fsum_or_nan(own) / partitions.weight for own in sums])
        pool.log_event(
            epoch=int(self.state.n_samples_seen.max()) // partitions.n_rows,
            loss=float(losses.mean()),
            sync_every=self.sync_every,
            n_rounds=pool.n_calls - n_calls,
            seconds=time.perf_counter() - start,
        )
        return losses

    def _sync_sgd_epoch(self, rate: Array, sums: list[list[float]]) -> None:
        """Make a step on each batch, which all workers share."""
        parameters, batch_size = self.parameters, self.pool.config.batch_size
        for slices in self._iter_slices(-(-self.pool.partitions.n_rows // batch_size)):
            results = self.pool.map("gradients", parameters.theta, parameters.statistics, slices)
            for i, parts in enumerate(zip(*results, strict=True)):
                sums[i] += self._members[i].step(parts, batch_size, rate[i].item())

    def _local_sgd_epoch(self, rate: Array, sums: list[list[float]]) -> None:
        """Make local steps on each worker in each round, and average the workers."""
        n_steps = -(-self.pool.max_rows // self.pool.config.batch_size)
        n_rounds = -(-n_steps // self.sync_every)
        for slices in self._iter_slices(n_rounds):
            results = self.pool.map("local_steps", SyncState.of(self.state), rate, slices)
            of_round = slices[0].of_partition(self.pool.partitions.n_rows, 0)
            n_rows = of_round.stop - of_round.start
            for i, parts in enumerate(zip(*results, strict=True)):
                average_workers(self._members[i].state, parts, n_rows)
                sums[i] += [part.loss * part.weight / n_rounds for part in parts if part.weight]

    def _iter_slices(self, n_pieces: int) -> Iterable[list[EpochSlice]]:
        """Yield the pieces of an epoch, one for each network, until the time limit."""
        seeds: dict[int, int | None] = {}
        for rng in self.state.rngs:  # networks that share a stream visit rows in the same order
            if id(rng) not in seeds:
                drawn = None if rng is None else int(rng.randint(_MAX_SEED, dtype=np.int64))
                seeds[id(rng)] = drawn
        orders = [seeds[id(rng)] for rng in self.state.rngs]
        masks = [int(rng.integers(_MAX_SEED)) for rng in self.state.masks] or [0] * len(self)
        slices: Iterable[list[EpochSlice]] = (
            [EpochSlice(*own, piece, n_pieces) for own in zip(orders, masks, strict=True)]
            for piece in range(n_pieces)
        )
        return slices if self.deadline is None else self.deadline.before_each(slices)


class _MemberUpdate:
    """Update of one network from the gradients of the workers.

    Parameters
    ----------
    trainer : DistributedTrainer
        The trainer.
    own : slice
        The row of the network in the arrays of the trainer.
    """

    def __init__(self, trainer: DistributedTrainer, own: slice) -> None:
        self.state, self._objective = trainer.state.take(own), trainer.objective.members(own)
        self._gradients = trainer.gradients.members(own)
        self._update = trainer.rule.members(own).update(self.state, self._gradients)
        both = self.state.parameters, self._gradients
        self._add_penalty = PenaltyGradient(self._objective.penalty, *both, trainer.buffer_pool)

    def step(self, parts: Sequence[GradientResult], n_rows: int, rate: float) -> list[float]:
        """Make a step with the gradients of one batch, and return the losses to add up."""
        weights = [part.weight for part in parts]
        total = math.fsum(weights)
        if total == 0:
            return []
        g = _weighted_mean([part.g for part in parts], weights)
        np.copyto(self._gradients.theta, g, casting="same_kind")
        for i, array in enumerate(self.state.parameters.statistics.values()):
            np.copyto(array, _weighted_mean([part.statistics[i] for part in parts], weights))
        measure = self._add_penalty(total)
        self._update(n_rows, rate)
        losses = [part.loss / self._objective.loss_normalizer for part in parts]
        return losses + self._objective.penalty.value(measure.astype(float)).tolist()


def average_workers(state: TrainState, results: Sequence[LocalSGDResult], n_rows: int) -> None:
    """Set a state to the mean over the workers, weighted by the total weight of their rows.

    All workers have made the same number of steps, so the expected step is that of the weighted
    mean of all rows.

    Parameters
    ----------
    state : TrainState
        The state before the round, changed in place.
    results : sequence of LocalSGDResult
        The states of the workers after the round.
    n_rows : int
        The number of rows of all workers in the round.
    """
    parts = [result.state for result in results if result.weight > 0]
    weights = [result.weight for result in results if result.weight > 0]
    own = SyncState.of(state)
    np.copyto(own.theta, _average_parameters(own, parts, weights), casting="same_kind")
    for kind in ("statistics", "optimizer", "average"):
        for name, array in getattr(own, kind).items():
            arrays = [getattr(part, kind)[name] for part in parts]
            own_weights = weights
            if kind == "average" and name != "total":
                if array.dtype.kind != "f":  # the number of rows seen
                    array += n_rows
                    continue
                # The averages of workers count by their number of steps, which may be zero.
                totals = [part.average["total"].item() for part in parts]
                own_weights = [w * total for w, total in zip(weights, totals, strict=True)]
            mean = _weighted_mean(arrays, own_weights)
            if array.dtype.kind == "f":
                np.copyto(array, mean, casting="same_kind")
            else:
                np.copyto(array, np.rint(mean), casting="unsafe")


def _average_parameters(
    before: SyncState, parts: Sequence[SyncState], weights: Sequence[float]
) -> Array:
    """Return the mean of the workers' parameters, corrected for their second moments.

    An adaptive optimizer divides its steps by the root of a second moment, which differs between
    workers within a round. Workers with large gradients would make smaller steps than the weighted
    loss requires. So each parameter is also weighted by this root, taken in the middle of the
    round, as in Wang et al. (2021), "Local adaptivity in federated learning", arXiv:2106.02305.
    """
    mean = _weighted_mean([part.theta for part in parts], weights)
    name = next((name for name in _SECOND_MOMENTS if name in before.optimizer), None)
    if name is None or len(parts) == 1:
        return mean
    moment, total_weight = before.optimizer[name].astype(float), math.fsum(weights)
    total, weighted = np.zeros(mean.shape), np.zeros(mean.shape)
    for part, weight in zip(parts, weights, strict=True):
        scale = weight / total_weight * np.sqrt((moment + part.optimizer[name]) / 2)
        total += scale
        weighted += scale * part.theta
    return np.divide(weighted, total, out=mean, where=total > 0)


def _weighted_mean(arrays: Sequence[Array], weights: Sequence[float]) -> Array:
    """Return the weighted mean of arrays in double precision."""
    total = math.fsum(weights)
    mean = np.zeros(arrays[0].shape)
    for array, weight in zip(arrays, weights, strict=True):
        if weight:
            mean += weight / total * array
    return mean
