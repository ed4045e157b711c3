"""A stack of one network whose rows are on the workers of a cluster."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..core.arrays import Array, Rows
from ..engine.batches import Table
from ..engine.deadline import Deadline
from ..engine.objective import AddedPenalty, Objective, exact_sum
from ..engine.parameters import FlatParameters
from ..engine.stack import Stack
from .blocks import Blocks
from .crew import Crew
from .part import Common, Setting, Share, Steps
from .rounds import LocalSteps, Rounds, Synchronous, Times, chosen, needs_times

# Numbers that a stream gives to draw orders and masks by.
_LARGEST_KEY = np.iinfo(np.int64).max

# Rounds that are timed.
_N_TIMED = 3


@dataclass
class Team:
    """Makes the stack that trains on a cluster, and knows what is done in a round.

    Parameters
    ----------
    blocks : Blocks
        The rows.
    rounds : "auto", Synchronous or LocalSteps
        What the user wants to be done in a round.

    Attributes
    ----------
    chosen : Synchronous, LocalSteps or None
        What is done in one; None as long as that has to be measured.
    """

    blocks: Blocks
    rounds: Any
    chosen: Rounds | None = field(init=False)

    def __post_init__(self) -> None:
        self.chosen = None if needs_times(self.rounds) else self.rounds

    def __call__(self, **settings: Any) -> RemoteStack:
        """Return a stack of what `Stack` takes."""
        return RemoteStack(**settings, team=self)

    def whole(
        self,
        objective: Objective,
        parameters: FlatParameters,
        table: Table,
        order: Rows | None,
        row_block: int,
        deadline: Deadline | None,
    ) -> RemoteLoss:
        """Return the loss over all rows, of what `WholeLoss` takes."""
        return RemoteLoss(objective, parameters, deadline, self.blocks)


@dataclass
class RemoteStack(Stack):
    """A stack of one network that is trained in rounds: see `Synchronous` and `LocalSteps`.

    Its table is a sample of the rows.

    Parameters
    ----------
    objective, state, tables, batch_sizes, optimizer, schedule, rate, clip_norm, average, deadline
        As for `Stack`.
    team : Team
        The rows, and what is done in a round.
    """

    team: Team = field(kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        self._blocks = self.team.blocks
        self._batch_size = min(self.batch_sizes[0], self._blocks.n_rows)
        setting = Setting(self.objective, self.rule, self._batch_size)
        self._crew = Crew(self._blocks, setting)
        self._update = self.rule.update(self.state, self.gradients)
        self._add_penalty = AddedPenalty(
            self.objective.penalty, self.parameters, self.gradients, self.workspace
        )

    def run_epoch(self, rate: Array) -> Array:
        """Visit all rows once, in rounds, and return the loss as the local stack does."""
        rounds = self.team.chosen = self.team.chosen or self._measured()
        if isinstance(rounds, Synchronous):
            sums = self._in_step(rate)
        else:
            sums = self._by_themselves(rounds, rate)
        self.state.n_seen += self._blocks.n_rows
        return np.array([exact_sum(sums) / self._blocks.weight])

    # ------------------------------------------------------------------- the two ways

    def _in_step(self, rate: Array) -> list[float]:
        """Make a step of each batch that the workers share; return the losses to add up."""
        parameters, penalty = self.parameters, self.objective.penalty
        sums: list[float] = []
        n_batches = -(-self._blocks.n_rows // self._batch_size)
        for share in self._shares(n_batches):
            parts = self._crew.call("gradient", parameters.theta, parameters.statistics, share)
            weights = [part.weight for part in parts]
            total = math.fsum(weights)
            if total == 0:
                continue
            g = _mean([part.g for part in parts], weights)
            np.copyto(self.gradients.theta, g, casting="same_kind")
            for i, array in enumerate(parameters.statistics.values()):
                np.copyto(array, _mean([part.statistics[i] for part in parts], weights))
            measure = self._add_penalty(total)
            self._update(self._batch_size, rate.item())
            sums += [part.loss / self.objective.n_averaged for part in parts]
            sums += penalty.value(measure.astype(float)).tolist()
        return sums

    def _by_themselves(self, rounds: LocalSteps, rate: Array) -> list[float]:
        """Let each worker make steps, and take the mean of what they have come to."""
        sums: list[float] = []
        n_rounds = -(-self._n_steps() // (rounds.n_steps or 1))
        for share in self._shares(n_rounds):
            common = Common.of(self.state)
            parts: list[Steps] = self._crew.call("steps", common, rate, share)
            moved = [part for part in parts if part.n_rows]
            _put_mean_into(self.state, [part.common for part in moved], [p.n_rows for p in moved])
            sums += [part.loss * part.weight for part in moved]
        return sums

    def _shares(self, n_pieces: int) -> Iterable[Share]:
        """Yield the pieces of an epoch, as long as there is time."""
        (stream,), masks = self.state.streams, self.state.masks
        order = None if stream is None else int(stream.randint(_LARGEST_KEY, dtype=np.int64))
        drawn_by = int(masks[0].integers(_LARGEST_KEY)) if masks else 0
        shares: Iterable[Share] = (Share(order, drawn_by, i, n_pieces) for i in range(n_pieces))
        return shares if self.deadline is None else self.deadline.before_each(shares)

    # ---------------------------------------------------------------------- what is measured

    def _n_steps(self) -> int:
        """Return the steps that a worker makes in an epoch by itself."""
        return -(-self._crew.largest_part // self._batch_size)

    def _measured(self) -> Rounds:
        """Return what is done in a round, by the time that a round and a step take."""
        crew, parameters = self._crew, self.parameters
        both = parameters.theta, parameters.statistics
        step = max(crew.call("seconds_of_step", *both, self._batch_size))
        times = []
        for _ in range(_N_TIMED):
            start = time.perf_counter()
            crew.call("echo", Common.of(self.state))
            times.append(time.perf_counter() - start)
        return chosen(self.team.rounds, Times(min(times), step), self._n_steps())


class RemoteLoss:
    """The mean loss of one network over all rows: a `Whole` that the workers share.

    Parameters
    ----------
    objective, parameters, deadline
        As for `WholeLoss`; the deadline ends an evaluation before it begins.
    blocks : Blocks
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
        deadline: Deadline | None,
        blocks: Blocks,
    ) -> None:
        self._parameters, self._deadline = parameters, deadline
        self._crew = Crew(blocks, Setting(objective, None, blocks.n_rows))
        self.gradients = parameters.like(np.empty_like(parameters.theta))
        self.total = blocks.weight

    def __call__(self) -> list[float]:
        """Leave the gradient of the mean in `gradients`; return the sums of the parts' losses."""
        losses: list[float] = []
        shares: Iterable[Share] = [Share(None, 0, 0, 1)]
        theta, statistics = self._parameters.theta, self._parameters.statistics
        for share in shares if self._deadline is None else self._deadline.before_each(shares):
            parts = self._crew.call("gradient", theta, statistics, share)
            weights = [part.weight for part in parts]
            np.copyto(self.gradients.theta, _mean([part.g for part in parts], weights))
            losses += [part.loss for part in parts]
        return losses


def _mean(arrays: Sequence[Array], weights: Sequence[float]) -> Array:
    """Return the weighted mean of arrays, in double precision."""
    total = math.fsum(weights)
    mean = np.zeros(arrays[0].shape)
    for array, weight in zip(arrays, weights, strict=True):
        if weight:
            mean += weight / total * array
    return mean


def _put_mean_into(state: Any, parts: Sequence[Common], n_rows: Sequence[int]) -> None:
    """Make a state the mean of what parts have come to; rows that averages count add up."""
    own = Common.of(state)
    np.copyto(own.theta, _mean([part.theta for part in parts], n_rows), casting="same_kind")
    for kind in ("statistics", "optimizer", "average"):
        for name, array in getattr(own, kind).items():
            arrays = [getattr(part, kind)[name] for part in parts]
            if array.dtype.kind == "f":
                np.copyto(array, _mean(arrays, n_rows), casting="same_kind")
            elif kind == "average":
                array += sum(each - array for each in arrays)
            else:
                np.copyto(array, np.rint(_mean(arrays, n_rows)), casting="unsafe")
