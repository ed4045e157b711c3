"""Training of a stack of networks by stochastic gradient descent, one epoch at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..optimizers import Optimizer
from ..schedules.base import LearningRateSchedule, init_plateau_counter, update_plateau_counter
from ..schedules.schedules import ConstantRate
from ..utils.arrays import (
    BUFFER_SIZE,
    Array,
    ArrayDict,
    BufferPool,
    FloatOrPerMember,
    iter_column_blocks,
)
from ..utils.stack_members import index_members
from ..weight_averaging import WeightAverage
from .data_loader import Batch, DataLoader, Dataset, PrefetchBuffer
from .objective import DivergenceError, LossAndGradient, Objective, fsum_or_nan
from .parameters import FlatParameters
from .parameters_averaged import averaged, averaged_statistics
from .train_state import TrainState
from .update import UpdateRule

Item = TypeVar("Item")


class TimeLimitReached(Exception):
    """The time limit of training was reached."""


class TimeLimit:
    """A time limit, checked before each batch.

    Parameters
    ----------
    seconds : float
        The time from now.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def before_each(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Yield the batches until the time limit.

        Raises
        ------
        TimeLimitReached
            Before the first batch after the time limit.
        """
        for batch in batches:
            if time.monotonic() > self._end:
                raise TimeLimitReached
            yield batch


@dataclass
class EnsembleTrainer:
    """A stack of networks of one architecture, with their data and training state.

    Parameters
    ----------
    objective : Objective
        What is minimised.
    state : TrainingState
        All that training changes, in place. Members come sorted by the number of rows visited, the
        fewest first.
    tables : list of Table
        The data of each member.
    batch_sizes : list of int
        One for each member; equal but for members that have fewer rows.
    optimizer, schedule : Optimizer, Schedule
        How a step is made, and at what rate.
    rate : array of shape (n_estimators, 1)
        The base rates.
    clip_norm : float or array of shape (n_estimators, 1), default=np.inf
        The largest norm of a member's gradient; what is longer is clipped.
    average : Average or None, default=None
        What averages the parameters over the steps; None for no average.
    deadline : Deadline or None, default=None
        What ends an epoch, and with it training, by an OutOfTime before any batch.
    """

    objective: Objective
    state: TrainState
    tables: list[Dataset]
    batch_sizes: list[int]
    optimizer: Optimizer
    schedule: LearningRateSchedule
    rate: Array
    clip_norm: FloatOrPerMember = math.inf
    average: WeightAverage | None = None
    deadline: TimeLimit | None = None

    def __post_init__(self) -> None:
        self._bind()

    @classmethod
    def start(
        cls,
        objective: Objective,
        parameters: FlatParameters,
        tables: Sequence[Dataset],
        *,
        optimizer: Optimizer,
        rate: FloatOrPerMember,
        schedule: LearningRateSchedule | None = None,
        batch_size: int | None = None,
        rngs: Sequence[np.random.RandomState] | None = None,
    ) -> EnsembleTrainer:
        """Return a stack at the start of training.

        Parameters
        ----------
        objective, parameters, tables, optimizer
            As for the class.
        rate : float or array of shape (n_estimators, 1)
            The base rates.
        schedule : Schedule or None, default=None
            None for a constant rate.
        batch_size : int or None, default=None
            The rows of a batch; None for all rows.
        rngs : sequence of RandomState or None, default=None
            One for each member; None to visit the rows as they stand.
        """
        n_estimators, schedule = len(tables), schedule or ConstantRate()
        n_rows = [table.n_rows for table in tables]
        state = TrainState(
            parameters,
            optimizer=optimizer.init(parameters.theta),
            schedule=schedule.init(n_estimators),
            average={},
            progress=init_plateau_counter(n_estimators),
            n_samples_seen=np.zeros((n_estimators, 1), dtype=int),
            orders=[None if rngs is None else np.arange(n) for n in n_rows],
            rngs=[None] * n_estimators if rngs is None else list(rngs),
        )
        return cls(
            objective=objective,
            state=state,
            tables=list(tables),
            batch_sizes=[min(batch_size or n, n) for n in n_rows],
            optimizer=optimizer,
            schedule=schedule,
            rate=np.broadcast_to(rate, (n_estimators, 1)).astype(float),
        )

    @property
    def parameters(self) -> FlatParameters:
        """The parameters of all members."""
        return self.state.parameters

    @property
    def rule(self) -> UpdateRule:
        """How the members make a step."""
        return UpdateRule(self.optimizer, self.clip_norm, self.average)

    def _bind(self) -> None:
        """Allocate what depends on the members: gradients, buffers and the plan of an epoch."""
        state, theta = self.state, self.parameters.theta
        self.workspace = BufferPool(theta.dtype)
        self.gradients = self.parameters.like(np.empty_like(theta))
        self.batches = DataLoader(self.tables, state.orders, self.batch_sizes, self.workspace)
        # By identity: what members share is shuffled and saved once.
        self._orders = list(
            {id(order): order for order in state.orders if order is not None}.values()
        )
        pairs = zip(state.orders, state.rngs, strict=True)
        self._shuffled = list(
            {
                id(order): (order, rng)
                for order, rng in pairs
                if order is not None and rng is not None
            }.values()
        )
        self._steps: dict[tuple[int, int, int], _Step] = {}
        self._saved: dict[str, Any] = {}
        self._n_done_when_saved: int | None = None

    def __len__(self) -> int:
        return len(self.state)

    def drop_members(self, finished: Array) -> None:
        """Let members leave the stack, so that nobody pays for the finished.

        Parameters
        ----------
        finished : array of bool of shape (n_estimators,)
            The members to leave; at least one has to stay.
        """
        stay = np.flatnonzero(~finished)
        if not len(stay):
            raise ValueError("all members are to retire: end the training instead.")
        self.objective = self.objective.members(stay)
        rule = self.rule.members(stay)
        self.optimizer, self.clip_norm, self.average = rule.optimizer, rule.clip_norm, rule.average
        self.schedule = index_members(self.schedule, stay)
        self.state = self.state.take(stay)
        self.tables = [self.tables[i] for i in stay]
        self.batch_sizes = [self.batch_sizes[i] for i in stay]
        self.rate = self.rate[stay]
        self._bind()

    def set_data(self, tables: Sequence[Dataset]) -> None:
        """Take other rows: of each member as many, and all weighted or not as they were."""
        self.tables = list(tables)
        self.batches.set_data(self.tables)

    # ----------------------------------------------------------------- one epoch

    def train_epoch(self, n_done: int, n_epochs: int, rollback: bool = True) -> Array:
        """Train for one epoch and return each member's loss.

        Parameters
        ----------
        n_done : int
            The number of epochs before this one.
        n_epochs : int
            The number of epochs in all, for the schedule.
        rollback : bool, default=True
            Whether to restore the state at the start of the epoch if anything is raised. Without
            it the members are then left in the midst of the epoch.

        Returns
        -------
        losses : array of shape (n_estimators,)
            The mean loss of the epoch's batches as they were visited, penalty included.

        Raises
        ------
        DivergenceError
            If a loss, a parameter or a moment is no longer finite.
        TimeLimitReached
            If the time limit is reached before a batch.
        """
        if rollback:
            self.save(n_done)
        try:
            with np.errstate(all="ignore"):
                np.setbufsize(BUFFER_SIZE)  # until the end of the context
                progress = n_done / n_epochs
                losses = self.run_epoch(
                    self.schedule.rate(self.state.schedule, self.rate, progress)
                )
                self.flush_subnormals()
                finite = np.isfinite(losses) & self.is_finite()
            if not finite.all():
                raise DivergenceError(~finite)
        except BaseException:
            if rollback:
                self.restore()
            raise
        return losses

    def run_epoch(self, rate: Array) -> Array:
        """Make the steps of an epoch; return each member's mean loss, penalty included.

        The mean goes over the epoch's batches as they were visited, each by its weight.
        """
        for order, rng in self._shuffled:
            rng.shuffle(order)
        sums: list[list[float]] = [[] for _ in range(len(self))]
        for chunk in self.batches.chunks():
            batches: Iterable[Batch] = chunk.batches
            if self.deadline is not None:
                batches = self.deadline.before_each(batches)
            step = self._step(chunk.members, chunk.batch_size)
            step.set_rate(rate[chunk.members])
            gradient, measures = step.gradient, []
            for batch in batches:
                if batch.is_empty is None:
                    gradient.backward_loss(batch)
                    measures.append(gradient.add_penalty(batch.total))
                    step.update(chunk.batch_size, step.rate)
                else:
                    measures.append(self._step_apart(step, chunk, batch))
            objective = gradient.objective
            penalties = objective.penalty.value(np.array(measures, dtype=float).T)
            losses = objective.batch_losses(chunk) / objective.loss_normalizer
            both = zip(losses.tolist(), penalties.tolist(), strict=True)
            for own_sums, (of_rows, of_weights) in zip(sums[chunk.members], both, strict=True):
                own_sums += of_rows
                own_sums += of_weights
        # Exactly rounded sums do not depend on how an epoch was cut into chunks.
        totals = np.array([fsum_or_nan(values) for values in sums])
        self.state.n_samples_seen += self.batches.n_rows[:, None]
        return np.asarray(totals / self.batches.total_weights)

    def _step_apart(self, step: _Step, chunk: PrefetchBuffer, batch: Batch) -> Array:
        """Make a step for each member whose batch has weight; the others make none."""
        batch.scores[...] = 0
        measures = np.zeros(chunk.members.stop - chunk.members.start)
        is_empty = np.broadcast_to(np.asarray(batch.is_empty), measures.shape)
        for i in np.flatnonzero(~is_empty).tolist():
            member = chunk.members.start + i
            alone = self._step(slice(member, member + 1), chunk.batch_size)
            alone.set_rate(step.rates[i : i + 1])
            measures[i : i + 1] = alone.gradient(batch.member(i))
            alone.update(chunk.batch_size, alone.rate)
        return measures

    def _step(self, members: slice, batch_size: int) -> _Step:
        key = (members.start, members.stop, batch_size)
        if key not in self._steps:
            self._steps[key] = _Step(self, members, batch_size)
        return self._steps[key]

    def averaged(self) -> FlatParameters:
        """Return what a user is to get: the averages of the parameters if any are taken."""
        if self.average is None:
            return self.parameters
        parameters, state = self.parameters, self.state.average
        statistics = parameters.statistics | averaged_statistics(parameters.statistics, state)
        return parameters.like(averaged(parameters.theta, state), statistics)

    # -------------------------------------------------------------- going back

    def save(self, n_done: int = 0) -> None:
        """Keep a copy of all that an epoch changes, as it is after `n_done` epochs."""
        if not self._saved:
            self._saved = {"arrays": [np.empty_like(array) for array in self._mutable_arrays()]}
        for copy, array in zip(self._saved["arrays"], self._mutable_arrays(), strict=True):
            np.copyto(copy, array)
        self._saved["rngs"] = [rng.get_state(legacy=False) for _, rng in self._shuffled]
        self._saved["masks"] = [rng.bit_generator.state for rng in self.state.masks]
        self._n_done_when_saved = n_done  # last: only now the copy is whole

    def restore_if_unfinished(self, n_done: int) -> None:
        """Be as after `n_done` epochs, the number of those that count.

        The copy is of that moment if another epoch has begun since. If none has, the stack stands
        there, and the copy is older, or is being replaced.
        """
        if self._n_done_when_saved == n_done:
            self.restore()

    def restore(self) -> None:
        """Go back to the last `save`."""
        for copy, array in zip(self._saved["arrays"], self._mutable_arrays(), strict=True):
            np.copyto(array, copy)
        for (_, rng), state in zip(self._shuffled, self._saved["rngs"], strict=True):
            rng.set_state(state)
        for masks, state in zip(self.state.masks, self._saved["masks"], strict=True):
            masks.bit_generator.state = state

    def _mutable_arrays(self) -> list[Array]:
        """Return all arrays that an epoch changes."""
        state = self.state
        counted = *state.schedule.values(), *state.progress.values(), state.n_samples_seen
        return [*state.learned(), *counted, *self._orders]

    def is_finite(self) -> Array:
        """Return for each member whether its parameters, moments and averages are finite."""
        finite = np.ones(len(self), dtype=bool)
        for array in self.state.learned():
            # A sum is finite only if all its terms are; the terms decide where it overflowed.
            if not math.isfinite(array.sum()):
                finite &= np.isfinite(array).all(axis=1)
        return finite

    def flush_subnormals(self) -> None:
        """Replace by zero what is smaller than the smallest normal number.

        A penalty lets the weights of a unit that is out of use shrink without end, and the moments
        of a gradient of zero shrink likewise. They are nothing beside any other weight, but
        arithmetic with them takes processors many times as long.
        """
        for array in self.state.learned():
            if array.dtype.kind == "f":
                smallest = np.finfo(array.dtype).smallest_normal
                for (block,) in iter_column_blocks(array):
                    block[np.abs(block) < smallest] = 0


class _Step:
    """The gradient and the update of some members, bound to one size of batch."""

    def __init__(self, stack: EnsembleTrainer, members: slice, batch_size: int) -> None:
        gradients, masks = stack.gradients.members(members), stack.state.masks[members]
        self.gradient = LossAndGradient(
            stack.objective.members(members),
            stack.parameters.members(members),
            gradients,
            batch_size,
            stack.workspace,
            stack.batches.is_sparse,
            masks,
        )
        self.update = stack.rule.members(members).update(stack.state.take(members), gradients)

    def set_rate(self, rates: Array) -> None:
        """Set the learning rate of each member."""
        self.rates = rates
        self.rate: FloatOrPerMember = rates.item() if len(rates) == 1 else rates


def iter_epochs(stack: EnsembleTrainer, n_epochs: int, n_done: int = 0) -> Iterator[Array]:
    """Train a stack, an epoch each time that the next item is asked for.

    Parameters
    ----------
    stack : Stack
        The members; the caller may let some retire between two epochs.
    n_epochs : int
        The number of the epoch after which the generator ends.
    n_done : int, default=0
        The number of epochs done before: after members that diverged have retired, the others
        go on from there.

    Yields
    ------
    losses : array of shape (n_estimators,)
        The mean loss of the epoch's batches as they were visited, penalty included.

    Raises
    ------
    Diverged
        If a loss, a parameter or a moment is no longer finite.

    Notes
    -----
    An epoch is all or nothing: whatever is raised inside it, the stack goes back to where the
    epoch began.
    """
    for epoch in range(n_done, n_epochs):
        yield stack.train_epoch(epoch, n_epochs)


@dataclass(frozen=True)
class PlateauStopper:
    """When to stop: after more than `n_epochs` epochs in a row without an improvement of `tol`.

    Parameters
    ----------
    tol : float or array of shape (n_estimators, 1)
        The improvement that counts.
    n_epochs : float or array of shape (n_estimators, 1)
        The epochs without it that are put up with.
    """

    tol: FloatOrPerMember
    n_epochs: FloatOrPerMember

    def on_epoch_end(
        self, progress: ArrayDict, monitored: Array, may_stop: Array
    ) -> tuple[Array, Array]:
        """Take note of an epoch.

        Parameters
        ----------
        progress : dict
            The state that `init_plateau_counter` returned; on return it is updated.
        monitored : array of shape (n_estimators, 1)
            The value that is to fall.
        may_stop : array of bool of shape (n_estimators, 1)
            What the schedule says; where it is False, the count starts again.

        Returns
        -------
        stalled, stopped : arrays of bool of shape (n_estimators, 1)
            The members whose patience is at an end, and those of them that stop.
        """
        update_plateau_counter(progress, monitored, self.tol)
        stalled = progress["count"] > self.n_epochs
        progress["count"][stalled & ~may_stop] = 0
        return stalled, stalled & may_stop
