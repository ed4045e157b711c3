"""One training of one network, from its validated data to the last epoch.

A run holds all that its training changes. The estimator takes over the outcome at the end, so that
a run that fails changes nothing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..layers.base import NUM_BATCHES_TRACKED
from ..layers.dense import dropout_rng
from ..nn.lbfgs import EvaluationLog
from ..nn.parameters import FlatParameters, Parameters
from ..nn.train_state import TrainState
from ..optimizers import Optimizer
from ..schedules import init_plateau_counter
from ..utils.arrays import Array, ArrayDict, IndexArray, max_abs
from .checkpoint import TrainingCheckpoint
from .run_states import (
    ParameterSnapshot,
    PartialFitWindow,
    StopReason,
    TrainingHistory,
    WarmStartState,
    snapshot_of,
)
from .training_task import TrainingTask
from .validation_data import ValidationData, ValidationResult

_TINY = np.finfo(float).tiny

# The largest number of activations of a block of rows in L-BFGS.
_LBFGS_ACTIVATIONS = 1 << 20


class TrainingRun:
    """The training of one network: its state, its history and its outcome.

    Parameters
    ----------
    problem : TrainingTask
        The data, the objective and the configuration.
    rng : RandomState
        Draws weights, split and order; the run's own from now on.
    start : Parameters or None
        The weights to start from; None for new initial weights.
    past : WarmStartState or None
        The state of an earlier run to continue from.
    n_samples_seen : int
        The number of rows that earlier runs have been trained on.
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
    watched : ValidationData or None
        The validation rows, if there are any.
    history : TrainingHistory
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
    evaluations : EvaluationCache or None
        The evaluations of L-BFGS, to repeat and to extend; None if they are not kept.
    window_before, window : Window
        The `partial_fit` calls not yet checked for divergence: before this one, and with it.
    copies_state : bool
        Whether `past` copies all but the stream, because the run goes on.
    shares_rng : bool
        Whether other runs start with the very same stream. Then nobody draws from it, and training
        leaves a copy.
    """

    def __init__(
        self,
        problem: TrainingTask,
        rng: np.random.RandomState,
        start: Parameters | None,
        past: WarmStartState | None,
        n_samples_seen: int,
        member: int = 0,
    ) -> None:
        self.problem = problem
        self.config, self.objective, self.table = problem.config, problem.objective, problem.table
        self.network = self.objective.network
        self.incremental = problem.incremental
        self.temperature = 1.0
        self._scores_calls = self.incremental and self.config.stopping is not None
        self.member = member
        self._name = f"Member {member}: " if self.config.n_estimators > 1 else ""
        masks = [_dropout_stream(rng, past)] if self.network.stochastic else []
        if start is None:
            layers = self.config.initial.layers(self.network, rng, member)
            parameters = self.network.init_parameters([layers], problem.dtype, [rng])
        else:
            parameters = self._copy_start(start, past, n_samples_seen)
        self._split = past.split if past and past.n_rows == self.table.n_rows else None
        self.train: IndexArray | None = None
        self.held_out: IndexArray | None = None
        self.watched = problem.watched
        split = problem.split(member, rng, self._split)
        if split is not None:
            self._set_split(split, problem.stopping is not None)
        self.state = TrainState(
            parameters,
            *({}, {}, {}),
            progress=init_plateau_counter(1),
            n_samples_seen=np.array([[n_samples_seen]]),
            orders=[self._first_order(past)],
            rngs=[rng],
            masks=masks,
        )
        self.history = TrainingHistory.start()
        is_behind = past is not None and past.is_behind(parameters)
        if past and is_behind:
            self._take_raw_parameters(past)
        if isinstance(self.config.solver, Optimizer):
            self._init_states(past, is_behind, self.config.solver.init)
        continued = past if self.incremental else None
        self._n_epochs_before = continued.n_epochs if continued else 0
        self._first_loss = continued.first_loss if continued else None
        self.window_before = self.window = continued.window if continued else PartialFitWindow()
        self._largest_initial_weight = self.largest_weight or _TINY
        self.seconds = 0.0
        self.warnings: list[str] = []
        self.error: ValueError | None = None
        self.stop_reason: StopReason | None = None
        self.evaluations: EvaluationLog | None = None
        self.copies_state = False
        self.shares_rng = False

    def continue_with(self, problem: TrainingTask) -> None:
        """Start another call of `partial_fit`, on as many other rows.

        The run then equals a new one that continues from `past`.
        """
        self._first_loss, self._n_epochs_before = self.first_loss, self._n_epochs_before + 1
        self.window_before = self.window
        self.problem, self.table, self.watched = problem, problem.table, problem.watched
        self.end(TrainingHistory.start(self.history.best))

    # ---------------------------------------------------------------------- its start

    def _copy_start(
        self, start: Parameters, past: WarmStartState | None, n_samples_seen: int
    ) -> FlatParameters:
        """Return copies of the weights to start from, with the running statistics."""
        parameters = self.network.copy_parameters(start, self.problem.dtype)
        known = past.state.parameters.statistics if past else {}
        if NUM_BATCHES_TRACKED in known:
            parameters.statistics[NUM_BATCHES_TRACKED][...] = known[NUM_BATCHES_TRACKED]
        else:
            weight = self.table.weight
            mean_weight = 1.0 if weight is None else float(weight.mean())
            for layer, running in zip(self.network.layers, parameters.running, strict=True):
                layer.init_running_count(
                    running, n_samples_seen, self.config.batch_size, mean_weight
                )
        return parameters

    def _set_split(self, split: tuple[IndexArray, IndexArray], validates: bool) -> None:
        self.train, self.held_out = self._split = split
        if validates:
            self.watched = ValidationData(self.table, self.held_out, self.problem.y_given)

    def _take_raw_parameters(self, past: WarmStartState) -> None:
        """Continue from the trained parameters instead of the fitted attributes made of them.

        Calls that calibrate without validation rows keep the last temperature.
        """
        self.state.parameters.theta[...] = past.state.parameters.theta
        for name, array in past.state.parameters.statistics.items():
            self.state.parameters.statistics[name][...] = array
        if self.incremental and self.problem.log_losses is not None:
            self.temperature = past.temperature

    def _init_states(
        self, past: WarmStartState | None, is_behind: bool, init: Callable[[Array], ArrayDict]
    ) -> None:
        """Set the states of average, optimizer and schedule: an earlier run's, or new ones.

        If the user has set other weights since (`is_behind` is False), the average and the
        comparison of calls start anew.
        """
        state, average, known = self.state, self.config.average, past.state if past else None
        theta, statistics = state.parameters.theta, state.parameters.statistics
        last: ArrayDict = past.state.average if past and is_behind else {}
        fresh = {} if average is None else average.init(theta, state.n_samples_seen, statistics)
        state.average = _continue_state(fresh, last)
        state.optimizer = _continue_state(init(theta), known.optimizer if known else {})
        state.schedule = _continue_state(
            self.config.schedule.init(1), known.schedule if known else {}
        )
        stopping = self.config.stopping
        if (
            past
            and (is_behind or past.best is None)
            and self.incremental
            and stopping is not None
            and past.scoring == stopping.scoring
        ):  # the score of this call is compared with those of earlier ones
            state.progress = _continue_state(state.progress, past.state.progress)
            self.history = TrainingHistory.start(past.best)

    def _first_order(self, past: WarmStartState | None) -> IndexArray | None:
        """Return the training rows in the order of the last epoch, if they are the same rows."""
        if not self.config.shuffle:
            return self.train
        last = None
        # Other rows may be as many.
        if past and past.n_rows == self.table.n_rows and self._split is past.split:
            last = past.state.orders[0]
        if last is not None and len(last) == self.n_train:
            return np.array(last)
        return np.arange(self.n_train) if self.train is None else self.train.copy()

    # ------------------------------------------------------------------- checkpoints

    @property
    def checkpoint(self) -> TrainingCheckpoint:
        """The state of this run, for another one to `resume`; it shares the run's arrays."""
        return TrainingCheckpoint(
            self.state,
            self.history,
            split=None if self.train is None else self._split,
            largest_initial_weight=self._largest_initial_weight,
            stop_reason=self.stop_reason,
            warnings=self.warnings,
            evaluations=self.evaluations,
        )

    def resume(self, checkpoint: TrainingCheckpoint) -> None:
        """Continue from the checkpoint of a run like this one, or take over how it has ended.

        A run that was stopped by the user or by a limit, now raised, continues.
        """
        self._set_streams(checkpoint.state.rngs)
        self.state = replace(checkpoint.state, rngs=self.state.rngs)
        epochs = checkpoint.history.epochs[: checkpoint.history.n_iter]
        self.history = history = checkpoint.history._replace(epochs=epochs)
        self._largest_initial_weight = checkpoint.largest_initial_weight
        if checkpoint.split is not None:
            self._set_split(checkpoint.split, self.watched is not None)
        reason, has_more = checkpoint.stop_reason, history.n_iter < self.config.max_iter
        if reason in ("converged", "diverged") or not (reason is None or has_more):
            self.stop_reason, self.warnings = reason, checkpoint.warnings
        elif checkpoint.evaluations is not None:
            # L-BFGS starts again with all that it has evaluated, which leads to where it was.
            self.evaluations, self.history = checkpoint.evaluations, TrainingHistory.start()
            self.state = replace(self.state, progress=init_plateau_counter(1))
            self.parameters.theta[0] = checkpoint.evaluations.start

    def _set_streams(self, rngs: list[np.random.RandomState | None]) -> None:
        """Set the positions of the run's streams, one of which may be the user's."""
        for own, other in zip(self.state.rngs, rngs, strict=True):
            if own is not None and other is not None and own is not other:
                position = other.get_state(legacy=False)
                before, now = position["bit_generator"], own.get_state(legacy=False)
                if before != now["bit_generator"]:
                    raise ValueError(
                        f"random_state drew from {before} at the checkpoint and draws from "
                        f"{now['bit_generator']} now. Give a RandomState of the same kind."
                    )
                own.set_state(position)

    def snapshot(
        self, history: TrainingHistory | None = None, state: TrainState | None = None
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
    def shape(self) -> list[Any]:
        """What runs must have in common to train as one stack; compared by ``==``."""
        problem, table = self.problem, self.table
        is_weighted = table.weight is not None
        of_data = [self.network, self.objective.loss, problem.dtype, table.is_sparse, is_weighted]
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
        return min(self._n_epochs_before, self.config.max_iter - 1)

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
    def is_evaluated(self) -> bool:
        """Whether the stopping rule applies after each epoch; in `partial_fit` if it scores."""
        return not self.incremental or (self._scores_calls and self.watched is not None)

    def evaluate(
        self, watched: ValidationData, outcomes: Array, parameters: FlatParameters
    ) -> ValidationResult:
        """Return the loss and the score of `outcomes`, which these parameters predict."""
        problem, stopping = self.problem, self.config.stopping
        if not np.isfinite(outcomes).all():
            return ValidationResult(math.inf, math.nan if stopping else None)
        with np.errstate(all="ignore"):
            loss = problem.evaluator.loss(outcomes, watched)
            if stopping is None:
                return ValidationResult(loss, None)
            if stopping.scoring == "loss":
                return ValidationResult(loss, -loss)
            if problem.scorer is None:
                return ValidationResult(loss, problem.evaluator.score(outcomes, watched))
        return ValidationResult(loss, problem.scorer(parameters, watched, outcomes))

    def print_progress(self, history: TrainingHistory) -> None:
        """Print the result of the last epoch if `verbose`."""
        if self.config.verbose:
            loss, validation_loss, score = history.epochs[history.n_iter - 1]
            print(f"{self._name}Iteration {history.n_iter}, loss = {loss:.8f}")
            if score is not None:
                print(f"{self._name}Validation score: {score:f}")
            elif validation_loss is not None:
                print(f"{self._name}Validation loss: {validation_loss:f}")

    def print_stall(self, history: TrainingHistory, consequence: str) -> None:
        """Print that progress has stalled, and the consequence, if `verbose`."""
        if self.config.verbose:
            is_scored = history.epochs[history.n_iter - 1].score is not None
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

    def end(self, history: TrainingHistory) -> None:
        """Set the history of the training; a second call replaces the first."""
        self.history, self.warnings, self.error, self.stop_reason = history, [], None, None

    @property
    def n_iter(self) -> int:
        """The number of epochs or iterations."""
        return self.history.n_iter

    @property
    def loss(self) -> float:
        """The loss of the last epoch."""
        return self.history.loss

    @property
    def losses(self) -> list[float]:
        """The loss of each epoch."""
        return self.history.losses

    @property
    def scores(self) -> list[float]:
        """The validation score of each epoch; empty without early stopping."""
        return self.history.scores

    @property
    def validation_losses(self) -> list[float]:
        """The validation loss of each epoch; empty without validation rows."""
        return self.history.validation_losses

    @property
    def best_score(self) -> float:
        """The best validation score."""
        return -math.inf if self.history.best is None else self.history.best.score

    @property
    def best_iter(self) -> int:
        """The epoch whose weights are kept: the best one with early stopping, else the last.

        It is 0 if that was an earlier call of `partial_fit`.
        """
        return self.n_iter if self.history.best is None else self.history.best.n_iter

    @property
    def is_converged(self) -> bool:
        """Whether the stopping rule applies; with `partial_fit`, over the calls so far."""
        if self._scores_calls:
            return bool(self.state.progress["count"].item() > self.config.patience.n_epochs)
        return self.stop_reason == "converged"

    @property
    def n_samples_seen(self) -> int:
        """The number of rows trained on since the first run."""
        return int(self.state.n_samples_seen.item())

    @property
    def first_loss(self) -> float | None:
        """The loss of the first epoch, for `partial_fit` since the last `fit`; None before any."""
        if self._first_loss is None and self.n_iter:
            return self.history.epochs[0].loss
        return self._first_loss

    @property
    def largest_weight(self) -> float:
        """The largest absolute parameter."""
        return max_abs(self.parameters.theta)

    @property
    def growth(self) -> float:
        """The factor by which the largest parameter has grown; 0 in `partial_fit`."""
        return 0.0 if self.incremental else self.largest_weight / self._largest_initial_weight

    @property
    def kept(self) -> ParameterSnapshot:
        """The snapshot of the best epoch, or else of the last one."""
        best = self.history.best
        return snapshot_of(self.state) if best is None else best.snapshot

    @property
    def inference_parameters(self) -> FlatParameters:
        """The parameters to predict with, before calibration; read-only."""
        kept, own = self.kept, self.parameters
        is_own = kept.theta is own.theta and not kept.average
        return own if is_own else own.like(*kept.inference_parameters)

    @property
    def shown(self) -> FlatParameters:
        """The parameters to predict with, after calibration; read-only."""
        return self.inference_parameters.scale_last_layer(self.temperature)

    @property
    def past(self) -> WarmStartState:
        """The state that a later run can continue from."""
        state = self.state.shallow_copy() if self.copies_state else replace(self.state)
        best, stopping = self.history.best, self.config.stopping
        if not self._scores_calls:
            state.progress = init_plateau_counter(1)
        if best is not None and not self.incremental:
            theta, statistics, state.average = best.snapshot
            state.parameters = self.parameters.like(theta, statistics)
        return WarmStartState(
            state,
            self.table.n_rows,
            self._split,
            self._n_epochs_before + self.n_iter if self.incremental else 0,
            self.first_loss,
            best if self.incremental else None,
            stopping.scoring if stopping else None,
            self.shares_rng,
            self.temperature,
            self.window,
        )


def _continue_state(fresh: ArrayDict, known: ArrayDict) -> ArrayDict:
    """Return a copy of a known state, or the fresh one where that has other arrays."""
    is_alike = known.keys() == fresh.keys()
    return {name: array.copy() for name, array in known.items()} if is_alike else fresh


def _dropout_stream(rng: np.random.RandomState, past: WarmStartState | None) -> np.random.Generator:
    """Return the stream of dropout masks: a copy of the last run's, or one seeded from a copy.

    So all other draws are those of a network without dropout, and a run that fails leaves the last
    run's stream in place.
    """
    last = past.state.masks if past else []
    return copy.deepcopy(last[0]) if last else dropout_rng(rng)


def score_to_loss(score: float) -> float:
    """Return the negated score, or inf if it is NaN."""
    return math.inf if math.isnan(score) else -score


def evaluate_validation(
    runs: Sequence[TrainingRun], parameters: FlatParameters
) -> list[ValidationResult | None]:
    """Return the validation loss and score of each run; None for runs without validation rows.

    Neighboring runs with the same validation rows are evaluated together.
    """
    results: list[ValidationResult | None] = []
    while len(results) < len(runs):
        start, stop = len(results), len(results) + 1
        watched, problem = runs[start].watched, runs[start].problem
        if watched is None:
            results.append(None)
            continue
        while stop < len(runs) and watched.is_same(runs[stop].watched):
            stop += 1
        members = parameters.members(slice(start, stop))
        with np.errstate(all="ignore"):
            network = problem.objective.network
            outcomes = problem.evaluator.predictions_of(
                network, members, watched.table.X, watched.rows
            )
        results += [
            run.evaluate(watched, own, members.members(slice(i, i + 1)))
            for i, (run, own) in enumerate(zip(runs[start:stop], outcomes, strict=True))
        ]
    return results
