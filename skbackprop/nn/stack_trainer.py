"""Training of a stack of networks by stochastic gradient descent, one epoch at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from ..optimizers import Optimizer
from ..schedules import (
    ConstantRate,
    LearningRateSchedule,
    init_plateau_counter,
    update_plateau_counter,
)
from ..utils.arrays import (
    BUFFER_SIZE,
    Array,
    ArrayDict,
    BufferPool,
    FloatOrPerMember,
    iter_column_blocks,
)
from ..utils.configurable import index_settings
from .data_loader import Batch, ChunkBuffer, DataLoader, Dataset
from .objective import DivergenceError, LossAndGradient, Objective, fsum_or_nan
from .parameters import FlatParameters, select_averaged_parameters
from .train_state import TrainState
from .update import UpdateRule

Item = TypeVar("Item")


class TimeLimitReached(Exception):
    """The time limit of training has been reached.

    Parameters
    ----------
    n_done : int
        The number of batches before it, of those of `TimeLimit.iter_until_reached`.
    """

    def __init__(self, n_done: int) -> None:
        super().__init__()
        self.n_done = n_done


class TimeLimit:
    """Time limit of training, checked before each batch.

    Parameters
    ----------
    seconds : float
        The time from the start.
    start : float or None, default=None
        The start, by `time.monotonic`; None for now.
    """

    def __init__(self, seconds: float, start: float | None = None) -> None:
        self._seconds = seconds
        self._start = time.monotonic() if start is None else start

    def fraction(self, fraction: float) -> TimeLimit:
        """Return the limit after a fraction of the time, from the same start."""
        return TimeLimit(fraction * self._seconds, self._start)

    def iter_until_reached(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Yield the batches until the time limit is reached.

        Raises
        ------
        TimeLimitReached
            When the time is over.
        """
        end = self._start + self._seconds
        for n_done, batch in enumerate(batches):
            if time.monotonic() > end:
                raise TimeLimitReached(n_done)
            yield batch


@dataclass
class StackTrainer:
    """Stack of networks of one architecture in stochastic training, with their data and state.

    Parameters
    ----------
    objective : Objective
        The objective of training.
    state : TrainState
        The training state, changed in place. Members are sorted by the number of rows that they
        visit, the fewest first.
    tables : list of Dataset
        The data of each member.
    batch_sizes : list of int
        The batch size of each member; equal except for members with fewer rows.
    rule : UpdateRule
        How each step changes the parameters.
    schedule : LearningRateSchedule
        The learning-rate schedule.
    rate : array of shape (n_estimators, 1)
        The base rates.
    time_limit : TimeLimit or None, default=None
        The time limit, which ends an epoch and with it training.
    numbers : sequence of int, default=()
        The numbers of the members in their estimator, if they matter.
    """

    objective: Objective
    state: TrainState
    tables: list[Dataset]
    batch_sizes: list[int]
    rule: UpdateRule
    schedule: LearningRateSchedule
    rate: Array
    time_limit: TimeLimit | None = None
    numbers: Sequence[int] = ()

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
    ) -> StackTrainer:
        """Return a stack in its initial state.

        Parameters
        ----------
        objective, parameters, tables, optimizer
            As for the class.
        rate : float or array of shape (n_estimators, 1)
            The base rates.
        schedule : LearningRateSchedule or None, default=None
            The schedule; None for a constant rate.
        batch_size : int or None, default=None
            The batch size; None for all rows.
        rngs : sequence of RandomState or None, default=None
            The random state of each member; None for no shuffling.
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
            rule=UpdateRule(optimizer),
            schedule=schedule,
            rate=np.broadcast_to(rate, (n_estimators, 1)).astype(float),
        )

    @property
    def parameters(self) -> FlatParameters:
        """The parameters of all members."""
        return self.state.parameters

    def _bind(self) -> None:
        """Allocate gradients and buffers, and plan the epoch, for the current members."""
        state, theta = self.state, self.parameters.theta
        self.buffer_pool = BufferPool(theta.dtype)
        self.gradients = self.parameters.with_theta(np.empty_like(theta))
        self.batches = DataLoader(self.tables, state.orders, self.batch_sizes, self.buffer_pool)
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
        """Remove finished members from the stack, so that they take no more time.

        Parameters
        ----------
        finished : array of bool of shape (n_estimators,)
            The members to remove; at least one has to stay.
        """
        stay = np.flatnonzero(~finished)
        if not len(stay):
            raise ValueError("All members have finished. End the training instead.")
        self.objective = self.objective.members(stay)
        self.rule = index_settings(self.rule, stay)
        self.schedule = index_settings(self.schedule, stay)
        self.state = self.state.take(stay)
        self.tables = [self.tables[i] for i in stay]
        self.batch_sizes = [self.batch_sizes[i] for i in stay]
        self.rate = self.rate[stay]
        self.numbers = [self.numbers[i] for i in stay.tolist()] if self.numbers else ()
        self._bind()

    def set_data(self, tables: Sequence[Dataset]) -> None:
        """Replace the rows of each member by others of the same number and kind."""
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
            If the time limit is reached before a batch. The state is then that after the batches
            so far; `restore` returns to the start of the epoch.
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
        except TimeLimitReached:
            raise
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
            if self.time_limit is not None:
                batches = self.time_limit.iter_until_reached(batches)
            step = self._step(chunk.members, chunk.batch_size)
            step.set_rate(rate[chunk.members])
            gradient, sums_of_weights = step.gradient, []
            n_samples_seen = self.state.n_samples_seen[chunk.members]
            try:
                for batch in batches:
                    if batch.is_empty is None:
                        gradient.backward_loss(batch)
                        sums_of_weights.append(gradient.add_penalty(batch.total))
                        step.update(chunk.batch_size, step.rate)
                    else:
                        sums_of_weights.append(self._step_separately(step, chunk, batch))
            except TimeLimitReached as reached:
                n_samples_seen += reached.n_done * chunk.batch_size
                raise
            n_samples_seen += len(chunk.batches) * chunk.batch_size
            objective = gradient.objective
            penalties = objective.penalty.value(np.array(sums_of_weights, dtype=float).T)
            losses = objective.batch_losses(chunk) / objective.loss_normalizer
            both = zip(losses.tolist(), penalties.tolist(), strict=True)
            for own_sums, (of_rows, of_weights) in zip(sums[chunk.members], both, strict=True):
                own_sums += of_rows
                own_sums += of_weights
        # Exactly rounded sums do not depend on how an epoch was cut into chunks.
        totals = np.array([fsum_or_nan(values) for values in sums])
        return np.asarray(totals / self.batches.total_weights)

    def _step_separately(self, step: _Step, chunk: ChunkBuffer, batch: Batch) -> Array:
        """Make a step for each member whose batch has a positive weight."""
        batch.scores[...] = 0
        sums_of_weights = np.zeros(chunk.members.stop - chunk.members.start)
        is_empty = np.broadcast_to(np.asarray(batch.is_empty), sums_of_weights.shape)
        batch.activity_loss = np.zeros(len(sums_of_weights))
        for i in np.flatnonzero(~is_empty).tolist():
            member = chunk.members.start + i
            alone = self._step(slice(member, member + 1), chunk.batch_size)
            alone.set_rate(step.rates[i : i + 1])
            own = batch.member(i)
            sums_of_weights[i : i + 1] = alone.gradient(own)
            if own.activity_loss is not None:
                batch.activity_loss[i] = own.activity_loss.item()
            alone.update(chunk.batch_size, alone.rate)
        return sums_of_weights

    def _step(self, members: slice, batch_size: int) -> _Step:
        key = (members.start, members.stop, batch_size)
        if key not in self._steps:
            self._steps[key] = _Step(self, members, batch_size)
        return self._steps[key]

    def get_averaged_parameters(self) -> FlatParameters:
        """Return the parameters to predict with: their averages, if there is a weight average."""
        if self.rule.average is None:
            return self.parameters
        parameters = self.parameters
        arrays = parameters.theta, parameters.statistics, self.state.average
        return parameters.with_theta(*select_averaged_parameters(*arrays))

    # ---------------------------------------------------------------- rollback

    def save(self, n_done: int = 0) -> None:
        """Copy all that an epoch changes, after `n_done` completed epochs."""
        if not self._saved:
            self._saved = {"arrays": [np.empty_like(array) for array in self._mutable_arrays()]}
        for copy, array in zip(self._saved["arrays"], self._mutable_arrays(), strict=True):
            np.copyto(copy, array)
        self._saved["rngs"] = [rng.get_state(legacy=False) for _, rng in self._shuffled]
        self._saved["masks"] = [rng.bit_generator.state for rng in self.state.masks]
        self._n_done_when_saved = n_done  # last, when the copy is complete

    def restore_if_unfinished(self, n_done: int) -> None:
        """Restore the state after `n_done` completed epochs, if another epoch has begun since.

        Else the stack is in that state, and the copy is older or incomplete.
        """
        if self._n_done_when_saved == n_done:
            self.restore()

    def restore(self) -> None:
        """Restore the state of the last `save`."""
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
        return [*state.trained_arrays(), *counted, *self._orders]

    def is_finite(self) -> Array:
        """Return for each member whether all its trained arrays are finite."""
        finite = np.ones(len(self), dtype=bool)
        for array in self.state.trained_arrays():
            # A finite sum has finite terms only; otherwise it may have overflowed.
            if not math.isfinite(array.sum()):
                finite &= np.isfinite(array).all(axis=1)
        return finite

    def flush_subnormals(self) -> None:
        """Replace subnormal numbers by zero.

        A penalty shrinks the weights of unused units without end, and so do moments of zero
        gradients. Such numbers are negligible, but arithmetic with them is many times slower.
        """
        for array in self.state.trained_arrays():
            if array.dtype.kind == "f":
                smallest = np.finfo(array.dtype).smallest_normal
                for (block,) in iter_column_blocks(array):
                    block[np.abs(block) < smallest] = 0


class _Step:
    """The gradient and the update of some members, bound to one size of batch."""

    def __init__(self, stack: StackTrainer, members: slice, batch_size: int) -> None:
        gradients, masks = stack.gradients.members(members), stack.state.masks[members]
        self.gradient = LossAndGradient(
            stack.objective.members(members),
            stack.parameters.members(members),
            gradients,
            batch_size,
            stack.buffer_pool,
            stack.batches.is_sparse,
            masks,
        )
        self.update = index_settings(stack.rule, members).update(
            stack.state.take(members), gradients
        )

    def set_rate(self, rates: Array) -> None:
        """Set the learning rate of each member."""
        self.rates = rates
        self.rate: FloatOrPerMember = rates.item() if len(rates) == 1 else rates


@dataclass(frozen=True)
class PlateauStopper:
    """Stopping rule: more than `n_epochs` consecutive epochs without an improvement of `tol`.

    Parameters
    ----------
    tol : float or array of shape (n_estimators, 1)
        Minimum improvement that counts as progress.
    n_epochs : float or array of shape (n_estimators, 1)
        Number of epochs without progress to tolerate.
    """

    tol: FloatOrPerMember
    n_epochs: FloatOrPerMember

    def on_epoch_end(
        self, progress: ArrayDict, monitored: Array, may_stop: Array
    ) -> tuple[Array, Array]:
        """Update the counter after an epoch, and return which members stop.

        Parameters
        ----------
        progress : dict
            The counter, as from `init_plateau_counter`; updated in place.
        monitored : array of shape (n_estimators, 1)
            The monitored value, lower is better.
        may_stop : array of bool of shape (n_estimators, 1)
            Whether the schedule lets a member stop; if not, its count restarts.

        Returns
        -------
        stalled, stopped : arrays of bool of shape (n_estimators, 1)
            The members without progress for too long, and those of them that stop.
        """
        update_plateau_counter(progress, monitored, self.tol)
        stalled = progress["count"] > self.n_epochs
        progress["count"][stalled & ~may_stop] = 0
        return stalled, stalled & may_stop
