"""Training run of one network, from validated data to the last epoch.

A run holds all that its training changes. The estimator takes over the outcome at the end, so that
a run that fails changes nothing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from ..layers.dense import dropout_rng
from ..nn.lbfgs import EvaluationLog
from ..nn.parameters import FlatParameters, select_averaged_parameters
from ..nn.stack_trainer import TimeLimit
from ..nn.train_state import TrainState
from ..optimizers import Optimizer
from ..schedules import init_plateau_counter
from ..utils.arrays import Array, ArrayDict, IndexArray
from .checkpoint import (
    EpochResult,
    History,
    RngOrCheckpoint,
    Split,
    StopReason,
    TrainingCheckpoint,
)
from .training_task import TrainingTask, ValidationData

# The largest number of activations of a block of rows in L-BFGS.
_LBFGS_ACTIVATIONS = 1 << 20


class TrainingRun:
    """Training run of one network: its state, history and outcome.

    Parameters
    ----------
    task : TrainingTask
        The data, the objective and the configuration.
    start : RngOrCheckpoint
        The random stream that draws weights, split and order, the run's own from now on; or the
        state of an earlier run to continue from, whose parameters and stream the run takes over.
    member : int, default=0
        The number of this network in the estimator.

    Attributes
    ----------
    state : TrainState
        All that training changes. In a stack of several, the parameters are views of the stack's.
    train : array of int or None
        The rows to train on; None for all.
    held_out : array of int or None
        The other rows of the table, if there are any.
    validation_data : ValidationData or None
        The validation rows, if there are any.
    history : History
        The complete epochs, once training has ended.
    temperature : float
        The divisor of raw scores in predictions, after calibration. Training does without it.
    seconds : float
        The training time. The members of a stack share that of an epoch equally.
    warnings : list of str
        The warnings about how training ended.
    error : ValueError or None
        The error to raise if training failed.
    stop_reason : StopReason or None
        Why training ended; None before it has ended.
    evaluations : EvaluationLog or None
        The evaluations of L-BFGS, to repeat and to extend; None if they are not kept.
    n_calls : int
        The number of calls of `partial_fit` before this one, since the last `fit`.
    copies_state : bool
        Whether `warm_start_checkpoint` copies all but the stream, because the run goes on.
    shares_rng : bool
        Whether other runs start with the very same stream. Then nobody draws from it, and training
        leaves a copy.
    """

    def __init__(
        self,
        task: TrainingTask,
        start: RngOrCheckpoint,
        member: int = 0,
    ) -> None:
        self.task = task
        self.config, self.objective, self.table = task.config, task.objective, task.table
        self.network = self.objective.network
        self.incremental = task.incremental
        self._scores_calls = self.incremental and self.config.stopping is not None
        self.member = member
        self._name = f"Member {member}: " if self.config.n_estimators > 1 else ""
        self.seconds, self.temperature = 0.0, 1.0
        self.warnings: list[str] = []
        self.error: ValueError | None = None
        self.stop_reason: StopReason | None = None
        self.evaluations: EvaluationLog | None = None
        self.copies_state = self.shares_rng = False
        self.history = History()
        self.train: IndexArray | None = None
        self.held_out: IndexArray | None = None
        self.validation_data = task.validation_data
        checkpoint = start if isinstance(start, TrainingCheckpoint) else None
        rng: Any = start if checkpoint is None else checkpoint.state.rngs[0]
        # The stream of dropout masks is a copy: a run that fails does not change the checkpoint.
        last_masks = checkpoint.state.masks if checkpoint else []
        masks = []
        if self.network.stochastic:
            masks = [copy.deepcopy(last_masks[0]) if last_masks else dropout_rng(rng)]
        if checkpoint is None:
            layers = self.config.initial.layers(self.network, rng, member)
            parameters = self.network.init_parameters([layers], task.dtype, [rng])
            n_samples_seen = np.array([[0]])
        else:
            arrays = checkpoint.state.parameters
            parameters = FlatParameters(arrays.theta, arrays.statistics, self.network.layout)
            n_samples_seen = checkpoint.state.n_samples_seen.copy()
        last = checkpoint if checkpoint and checkpoint.n_rows == self.table.n_rows else None
        self._split = last.split if last else None
        split = task.split(member, rng, self._split)
        if split is not None:
            self._set_split(split, task.stopping is not None)
        self.state = TrainState(
            parameters,
            *({}, {}, {}),
            progress=init_plateau_counter(1),
            n_samples_seen=n_samples_seen,
            orders=[self._make_order(last)],
            rngs=[rng],
            masks=masks,
        )
        if isinstance(self.config.solver, Optimizer):
            self._init_states(checkpoint, self.config.solver.init)
        self.n_calls = 0
        if checkpoint and self.incremental:
            self.n_calls = checkpoint.n_calls
            if task.log_losses is not None:  # kept by calls without validation rows
                self.temperature = checkpoint.temperature

    def continue_with(self, task: TrainingTask) -> None:
        """Start another call of `partial_fit`, on as many other rows.

        The run then equals a new one that continues from `warm_start_checkpoint`.
        """
        self.n_calls += self.n_iter
        self.task, self.table, self.validation_data = task, task.table, task.validation_data
        best = self.history.best
        self.set_history(History(best=best and best._replace(n_iter=0)))

    # ---------------------------------------------------------------------- its start

    def _set_split(self, split: Split, has_validation: bool) -> None:
        self.train, self.held_out = self._split = split
        if has_validation:
            self.validation_data = ValidationData(self.table, self.held_out, self.task.original_y)

    def _make_order(self, last: TrainingCheckpoint | None) -> IndexArray | None:
        """Return the order of the training rows, that of the last epoch if it had the same rows."""
        if not self.config.shuffle:
            return self.train
        order = last.state.orders[0] if last and self._split is last.split else None
        if order is not None and len(order) == self.n_train:
            return np.array(order)
        return np.arange(self.n_train) if self.train is None else self.train.copy()

    def _init_states(
        self, checkpoint: TrainingCheckpoint | None, init: Callable[[Array], ArrayDict]
    ) -> None:
        """Set the states of average, optimizer and schedule: an earlier run's, or new ones."""
        state, average, stopping = self.state, self.config.average, self.config.stopping
        theta, statistics = state.parameters.theta, state.parameters.statistics
        state.optimizer, state.schedule = init(theta), self.config.schedule.init(1)
        if average is not None:
            state.average = average.init(theta, state.n_samples_seen, statistics)
        if checkpoint is None:
            return
        last = checkpoint.state
        state.average = _continue_state(state.average, last.average)
        state.optimizer = _continue_state(state.optimizer, last.optimizer)
        state.schedule = _continue_state(state.schedule, last.schedule)
        if self.incremental and stopping is not None and checkpoint.scoring == stopping.scoring:
            # The score of this call is compared with those of earlier ones.
            state.progress = _continue_state(state.progress, last.progress)
            best = checkpoint.history.best
            self.history = History(best=best and best._replace(n_iter=0))

    # ------------------------------------------------------------------- checkpoints

    @property
    def checkpoint(self) -> TrainingCheckpoint:
        """The state of this run, for another one to `resume`; it shares the run's arrays."""
        return TrainingCheckpoint(
            self.state,
            self.history,
            self.table.n_rows,
            None if self.train is None else self._split,
            stop_reason=self.stop_reason,
            warnings=self.warnings,
            evaluations=self.evaluations,
        )

    def resume(self, checkpoint: TrainingCheckpoint) -> None:
        """Continue from the checkpoint of a run like this one, or take over how it has ended.

        A run that was stopped by the user or by a limit, now raised, continues.
        """
        self._set_rng_states(checkpoint.state.rngs)
        arrays = checkpoint.state.parameters
        parameters = FlatParameters(arrays.theta, arrays.statistics, self.network.layout)
        state = replace(checkpoint.state, parameters=parameters).shallow_copy()
        self.state = replace(state, rngs=self.state.rngs)
        epochs = checkpoint.history.epochs[: checkpoint.history.n_iter]
        self.history = history = checkpoint.history._replace(epochs=epochs)
        if checkpoint.split is not None:
            self._set_split(checkpoint.split, self.validation_data is not None)
        reason, has_more = checkpoint.stop_reason, history.n_iter < self.config.max_iter
        if reason in ("converged", "diverged") or not (reason is None or has_more):
            self.stop_reason, self.warnings = reason, checkpoint.warnings
        elif checkpoint.evaluations is not None:
            # L-BFGS starts again with all that it has evaluated, which leads to where it was.
            self.evaluations, self.history = checkpoint.evaluations, History()
            self.state = replace(self.state, progress=init_plateau_counter(1))
            self.parameters.theta[0] = checkpoint.evaluations.start

    def _set_rng_states(self, rngs: list[np.random.RandomState | None]) -> None:
        """Set the positions of the run's streams, one of which may be the user's."""
        for own, other in zip(self.state.rngs, rngs, strict=True):
            if own is not None and other is not None and own is not other:
                position = other.get_state(legacy=False)
                before, now = position["bit_generator"], own.get_state(legacy=False)
                if before != now["bit_generator"]:
                    raise ValueError(
                        f"random_state must use the bit generator of the checkpoint, {before}, got "
                        f"{now['bit_generator']}. Pass a RandomState with the same bit generator."
                    )
                own.set_state(position)

    def snapshot(
        self, history: History | None = None, state: TrainState | None = None
    ) -> TrainingRun:
        """Return a copy of this run as if it ended now.

        `history` and `state`, which are copied, are the run's own by default.
        """
        other = copy.copy(self)
        other.history, other.state = (history or self.history).copy(), (state or self.state).copy()
        other.warnings = [*self.warnings]
        return other

    # --------------------------------------------------------------------- its data

    @property
    def stacking_key(self) -> list[Any]:
        """Key that is equal for runs that can train as one stack."""
        task, table = self.task, self.table
        is_weighted = table.weight is not None
        of_data = [self.network, self.objective.loss, task.dtype, table.is_sparse, is_weighted]
        return [*of_data, self.incremental, *self.config.stacking_key]

    @property
    def parameters(self) -> FlatParameters:
        """The network's parameters."""
        return self.state.parameters

    @property
    def n_done(self) -> int:
        """The number of epochs before the next one, as the schedule counts them.

        With `partial_fit` it stays below ``max_iter``: later epochs all count as the last.
        """
        if not self.incremental:
            return self.n_iter
        return min(self.n_calls, self.config.max_iter - 1)

    @property
    def n_train(self) -> int:
        """The number of training rows."""
        return self.table.n_rows if self.train is None else len(self.train)

    @property
    def batch_size(self) -> int:
        """The number of rows of a batch."""
        return min(self.config.batch_size, self.n_train)

    @property
    def rows_at_once(self) -> int:
        """The number of rows of a pass through the network: a batch, or a block of L-BFGS."""
        if self.config.is_lbfgs:
            n_of_row = self.network.activations_per_sample(self.table.is_sparse)
            return max(1, min(self.n_train, _LBFGS_ACTIVATIONS // n_of_row))
        return self.batch_size

    # ------------------------------------------------------------------- its epochs

    @property
    def has_stopping_rule(self) -> bool:
        """Whether the stopping rule applies after each epoch; in `partial_fit` if it scores."""
        return not self.incremental or (self._scores_calls and self.validation_data is not None)

    def evaluate(
        self,
        loss: float,
        validation_data: ValidationData,
        predictions: Array,
        parameters: FlatParameters,
    ) -> EpochResult:
        """Return the result of an epoch, given its loss and what these parameters predict."""
        task, stopping = self.task, self.config.stopping
        if not np.isfinite(predictions).all():
            return EpochResult(loss, math.inf, math.nan if stopping else None)
        with np.errstate(all="ignore"):
            validation_loss = task.evaluator.loss(predictions, validation_data)
            if stopping is None:
                return EpochResult(loss, validation_loss)
            if stopping.scoring == "loss":
                return EpochResult(loss, validation_loss, -validation_loss)
            if task.scorer is None:
                own = task.evaluator.score(predictions, validation_data)
                return EpochResult(loss, validation_loss, own)
        return EpochResult(
            loss, validation_loss, task.scorer(parameters, validation_data, predictions)
        )

    def print_progress(self, history: History) -> None:
        """Print the result of the last epoch if `verbose`."""
        if self.config.verbose:
            loss, validation_loss, score = history.epochs[history.n_iter - 1]
            print(f"{self._name}Iteration {history.n_iter}, loss = {loss:.8f}")
            if score is not None:
                print(f"{self._name}Validation score: {score:f}")
            elif validation_loss is not None:
                print(f"{self._name}Validation loss: {validation_loss:f}")

    def print_stall(self, history: History, consequence: str) -> None:
        """Print that progress has stalled, and the consequence, if `verbose`."""
        if self.config.verbose:
            is_scored = history.epochs[history.n_iter - 1].validation_score is not None
            monitored = "Validation score" if is_scored else "Training loss"
            unit = "iterations" if self.config.is_lbfgs else "epochs"
            if self.incremental:
                unit = "calls"
            patience = self.config.patience
            print(
                f"{self._name}{monitored} did not improve more than tol={patience.tol:f} for "
                f"{patience.n_epochs:.0f} consecutive {unit}. {consequence}"
            )

    # ------------------------------------------------------------------ its outcome

    def set_history(self, history: History) -> None:
        """Set the history of the training; a second call replaces the first."""
        self.history, self.warnings, self.error, self.stop_reason = history, [], None, None

    @property
    def n_iter(self) -> int:
        """The number of epochs or iterations."""
        return self.history.n_iter

    @property
    def is_converged(self) -> bool:
        """Whether the stopping rule applies; with `partial_fit`, over the calls so far."""
        if self._scores_calls:
            return bool(self.state.progress["count"].item() > self.config.patience.n_epochs)
        return self.stop_reason == "converged"

    @property
    def n_samples_seen(self) -> int:
        """The number of rows trained on since the first run."""
        incomplete = self.history.incomplete
        return int(self.state.n_samples_seen.item()) + (incomplete.n_rows if incomplete else 0)

    @property
    def inference_parameters(self) -> FlatParameters:
        """The parameters to predict with, before calibration; read-only.

        They are those of the best epoch, or else of the last one.
        """
        kept, state = self.history.kept_snapshot, self.state
        own = state.parameters
        if kept is not None:
            return own.with_theta(*kept.inference_parameters)
        if not state.average:
            return own
        return own.with_theta(*select_averaged_parameters(own.theta, own.statistics, state.average))

    @property
    def calibrated_parameters(self) -> FlatParameters:
        """The parameters to predict with, after calibration; read-only."""
        return self.inference_parameters.scale_last_layer(self.temperature)

    @property
    def warm_start_checkpoint(self) -> TrainingCheckpoint:
        """The checkpoint for a warm start or another call of `partial_fit`."""
        state = self.state.shallow_copy() if self.copies_state else replace(self.state)
        best, stopping = self.history.best, self.config.stopping
        kept = self.history.kept_snapshot
        if not self._scores_calls:
            state.progress = init_plateau_counter(1)
        if kept is not None and not self.incremental:
            theta, statistics, state.average = kept
            state.parameters = self.parameters.with_theta(theta, statistics)
        return TrainingCheckpoint(
            state,
            History(best=best if self.incremental else None),
            self.table.n_rows,
            self._split,
            n_calls=self.n_calls + self.n_iter if self.incremental else 0,
            scoring=stopping.scoring if stopping else None,
            temperature=self.temperature,
            shares_rng=self.shares_rng,
        )


def _continue_state(initial: ArrayDict, last: ArrayDict) -> ArrayDict:
    """Return a copy of the last state, or the initial one if that has other arrays."""
    is_alike = last.keys() == initial.keys()
    return {name: array.copy() for name, array in last.items()} if is_alike else initial


def make_time_limit(runs: Sequence[TrainingRun]) -> TimeLimit | None:
    """Return the time limit for training runs of one shape together; None for no limit.

    Each network has an equal share of the time of its fit; together they have the sum.
    """
    config = runs[0].config
    if config.time_limit == math.inf or runs[0].incremental:
        return None
    return TimeLimit(config.time_limit * len(runs) / config.n_estimators)


def monitored_value(result: EpochResult) -> float:
    """Return the value that should fall: the loss, or the negated score, inf if that is NaN."""
    score = result.validation_score
    if score is None:
        return result.loss
    return math.inf if math.isnan(score) else -score


def evaluate_validation(
    runs: Sequence[TrainingRun], losses: Sequence[float], parameters: FlatParameters
) -> list[EpochResult]:
    """Return the result of an epoch for each run, given the training losses.

    Neighboring runs with the same validation rows are evaluated together.
    """
    results: list[EpochResult] = []
    while len(results) < len(runs):
        start, stop = len(results), len(results) + 1
        validation_data, task = runs[start].validation_data, runs[start].task
        if validation_data is None:
            results.append(EpochResult(losses[start]))
            continue
        while stop < len(runs) and validation_data.is_same(runs[stop].validation_data):
            stop += 1
        members = parameters.members(slice(start, stop))
        with np.errstate(all="ignore"):
            network = task.objective.network
            predictions = task.evaluator.predict(
                network, members, validation_data.table.X, validation_data.rows
            )
        results += [
            run.evaluate(loss, validation_data, own, members.members(slice(i, i + 1)))
            for i, (run, loss, own) in enumerate(
                zip(runs[start:stop], losses[start:stop], predictions, strict=True)
            )
        ]
    return results


class TrainingInterrupted(Exception):
    """Training ended for an external reason; the last complete epoch is kept."""


Interrupt: TypeAlias = KeyboardInterrupt | TrainingInterrupted

INTERRUPTS = (KeyboardInterrupt, TrainingInterrupted)


RunSnapshots: TypeAlias = Callable[[], Sequence[TrainingRun]]
"""Returns copies of the runs as if training ended now."""


class EpochObserver:
    """Base class of observers of the epochs of a fit or of a stack; does nothing.

    An epoch is one of all networks still in training, with L-BFGS an iteration.

    Attributes
    ----------
    error : Exception or None
        The error that the observer itself has raised.
    needs_checkpoints : bool
        Whether it saves the `checkpoint` of runs, to be resumed.
    """

    error: Exception | None = None
    needs_checkpoints: bool = False

    def skip_epoch(self) -> None:
        """Count an epoch from before a checkpoint that training is resumed from."""

    def on_epoch_begin(self, snapshots: RunSnapshots) -> None:
        """Observe the start of an epoch."""

    def on_epoch_end(self, snapshots: RunSnapshots) -> bool:
        """Observe the end of an epoch; return whether training should stop."""
        return False

    def on_member_begin(self, member: int) -> EpochObserver:
        """Return the observer of a network that L-BFGS trains before or after others."""
        return self

    def on_member_end(self) -> None:
        """Observe the end of this network's training."""


NO_OBSERVER = EpochObserver()
