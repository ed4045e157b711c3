"""One training of one network, from its validated data to the last epoch.

A run holds all that a training changes; the estimator keeps what came of it when it is over, so
that a run that fails has changed nothing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..layers.base import NUM_BATCHES_TRACKED
from ..layers.dropout import dropout_rng
from ..nn.lbfgs import EvaluationCache
from ..nn.parameters import FlatParameters, Parameters
from ..nn.train_state import TrainState
from ..optimizers import Optimizer
from ..schedules import init_plateau_counter
from ..utils.arrays import Array, ArrayDict, IndexArray, max_abs
from .checkpoint import TrainingCheckpoint
from .history import EpochRecord, ParameterSnapshot, StopReason, WarmStartState, Window, snapshot_of
from .task import TrainingTask
from .validation_data import ValidationData, ValidationResult

_TINY = np.finfo(float).tiny

# Numbers in the buffers of a block of rows in L-BFGS.
_LBFGS_NUMBERS = 1 << 20


class TrainingRun:
    """One training of one network, its course and its outcome.

    Parameters
    ----------
    problem : Problem
        What is to be learned.
    rng : RandomState
        What draws weights, split and order; the run's own from now on.
    start : Parameters or None
        What to go on from; None for initial weights.
    past : Past or None
        What an earlier run has left.
    n_samples_seen : int
        The rows that earlier runs have seen.
    member : int, default=0
        Which of the estimator's networks it is.

    Attributes
    ----------
    state : TrainingState
        All that training changes; while the run is a member of a stack its parameters are views
        of those of the stack.
    train : Rows or None
        The rows to train on; None for all.
    held_out : Rows or None
        The other rows of the table, where there are any.
    watched : Watched or None
        The rows that are watched; None for none.
    record : Course
        How far it came, once it has ended.
    temperature : float
        What its scores are divided by for predictions, once they are calibrated; training does
        without it.
    seconds : float
        Its share of the time: of an epoch of a stack, one part for each member.
    warnings : list of str
        What the user should hear of how training ended.
    error : ValueError or None
        Why training failed, if it did.
    ending : Ending or None
        What ended it; None as long as it may go on.
    evaluations : Evaluations or None
        Those of L-BFGS, to go through again and to add to; None if they are not kept.
    window_before, window : Window
        The calls of `partial_fit` that are yet to be judged: before this one, and with it.
    copies_state : bool
        Whether the `past` that it leaves shares nothing with it but the stream, since it goes on.
    shares_rng : bool
        Whether other runs begin with the very same stream, which then nobody draws from: it is
        left as it is, and where training has led it is a copy.
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
        self._compares_calls = self.incremental and self.config.stopping is not None
        self.member = member
        self._name = f"Member {member}: " if self.config.n_estimators > 1 else ""
        masks = [_mask_stream(rng, past)] if self.network.stochastic else []
        if start is None:
            layers = self.config.initial.layers(self.network, rng, member)
            parameters = self.network.init_parameters([layers], problem.dtype, [rng])
        else:
            parameters = self._continued(start, past, n_samples_seen)
        self._split = past.split if past and past.n_rows == self.table.n_rows else None
        self.train: IndexArray | None = None
        self.held_out: IndexArray | None = None
        self.watched = problem.watched
        split = problem.split(member, rng, self._split)
        if split is not None:
            self.train, self.held_out = self._split = split
            if problem.stopping is not None:
                self.watched = ValidationData(self.table, self.held_out, problem.y_given)
        self.state = TrainState(
            parameters,
            *({}, {}, {}),
            progress=init_plateau_counter(1),
            n_samples_seen=np.array([[n_samples_seen]]),
            orders=[self._order(past)],
            rngs=[rng],
            masks=masks,
        )
        self.record = EpochRecord()
        is_behind = past is not None and past.is_behind(parameters)
        if past and is_behind:
            self._take_raw(past)
        if isinstance(self.config.solver, Optimizer):
            self._start(past, is_behind, self.config.solver.init)
        has_gone_on = past is not None and self.incremental
        self._n_epochs_before = past.n_epochs if past and has_gone_on else 0
        self._first_loss = past.first_loss if past and has_gone_on else None
        self.window_before = self.window = past.window if past and has_gone_on else Window()
        self._largest_at_first = self.largest_weight or _TINY
        self.seconds = 0.0
        # One of each for every epoch; what is beyond those of the course has not happened.
        self._losses: list[float] = []
        self._watched_losses: list[float] = []
        self._scores: list[float] = []
        self.warnings: list[str] = []
        self.error: ValueError | None = None
        self.ending: StopReason | None = None
        self.evaluations: EvaluationCache | None = None
        self.copies_state = False
        self.shares_rng = False

    def continue_with(self, problem: TrainingTask) -> None:
        """Begin another call of `partial_fit` where the last has ended, with as many other rows.

        It is what a new run would be, of the past that this one has left.
        """
        best = self.record.best
        self._first_loss, self._n_epochs_before = self.first_loss, self._n_epochs_before + 1
        self.window_before = self.window
        self.problem, self.table, self.watched = problem, problem.table, problem.watched
        self._losses, self._watched_losses, self._scores = [], [], []
        self.end(EpochRecord(best=best and best._replace(n_iter=0)))

    # ------------------------------------------------------------------ what it begins with

    def _continued(
        self, start: Parameters, past: WarmStartState | None, n_samples_seen: int
    ) -> FlatParameters:
        """Return copies of the parameters to go on from, with the running statistics."""
        parameters = self.network.copy_parameters(start, self.problem.dtype)
        known = past.state.parameters.statistics if past else {}
        if NUM_BATCHES_TRACKED in known:
            parameters.statistics[NUM_BATCHES_TRACKED][...] = known[NUM_BATCHES_TRACKED]
        else:
            weight = self.table.weight
            of_a_row = 1.0 if weight is None else float(weight.mean())
            for layer, running in zip(self.network.layers, parameters.running, strict=True):
                layer.init_running_count(running, n_samples_seen, self.config.batch_size, of_a_row)
        return parameters

    def _take_raw(self, past: WarmStartState) -> None:
        """Go on from the parameters that the last run has trained, whatever was kept for users.

        Calls that calibrate, but hold no rows out, keep the temperature that was found last.
        """
        self.state.parameters.theta[...] = past.state.parameters.theta
        for name, array in past.state.parameters.statistics.items():
            self.state.parameters.statistics[name][...] = array
        if self.incremental and self.problem.log_losses is not None:
            self.temperature = past.temperature

    def _start(
        self, past: WarmStartState | None, is_behind: bool, init: Callable[[Array], ArrayDict]
    ) -> None:
        """Set the states of average, optimizer and schedule: an earlier run's, or new ones.

        If the user has assigned other weights since, they count, and average and comparison of
        calls begin anew; else training goes on from the raw ones (`is_behind`).
        """
        state, average, known = self.state, self.config.average, past.state if past else None
        theta, statistics = state.parameters.theta, state.parameters.statistics
        taken: ArrayDict = past.state.average if past and is_behind else {}
        fresh = {} if average is None else average.init(theta, state.n_samples_seen, statistics)
        state.average = _gone_on(fresh, taken)
        state.optimizer = _gone_on(init(theta), known.optimizer if known else {})
        state.schedule = _gone_on(self.config.schedule.init(1), known.schedule if known else {})
        if past and (is_behind or past.best is None):
            self._go_on_comparing(past)

    def _go_on_comparing(self, past: WarmStartState) -> None:
        """Compare this call with earlier ones of `partial_fit`, if the score is the same."""
        stopping = self.config.stopping
        if stopping is not None and self.incremental and past.scoring == stopping.scoring:
            self.state.progress = _gone_on(self.state.progress, past.state.progress)
            self.record = EpochRecord(best=past.best and past.best._replace(n_iter=0))

    def _order(self, past: WarmStartState | None) -> IndexArray | None:
        """Return the rows in the order of the last epoch, if they are the same rows."""
        if not self.config.shuffle:
            return self.train
        last = None
        # Other rows may be as many.
        if past and past.n_rows == self.table.n_rows and self._split is past.split:
            last = past.state.orders[0]
        if last is not None and len(last) == self.n_train:
            return np.array(last)
        return np.arange(self.n_train) if self.train is None else self.train.copy()

    # ------------------------------------------------------------- one moment, and from it on

    @property
    def moment(self) -> TrainingCheckpoint:
        """What this run is now, for another to `resume`; it shares its arrays."""
        is_split = self._split is not None and self.train is not None
        return TrainingCheckpoint(
            self.state,
            self.record,
            *(self.losses, self.validation_losses, self.scores),
            split=self._split if is_split else None,
            largest_initial_weight=self._largest_at_first,
            ending=self.ending,
            warnings=self.warnings,
            evaluations=self.evaluations,
        )

    def resume(self, moment: TrainingCheckpoint) -> None:
        """Go on from a moment of a run like this one, or be what that one has ended as.

        What has ended only because the user wanted it to goes on.
        """
        self._take_streams(moment.state.rngs)
        self.state = replace(moment.state, rngs=self.state.rngs)
        self.record, self._largest_at_first = moment.record, moment.largest_initial_weight
        self._losses, self._scores = moment.losses, moment.scores
        self._watched_losses = moment.validation_losses
        if moment.split is not None:
            self.train, self.held_out = self._split = moment.split
            if self.watched is not None:
                self.watched = ValidationData(self.table, self.held_out, self.problem.y_given)
        has_more = moment.record.n_iter < self.config.max_iter
        if moment.ending in ("converged", "diverged") or not (moment.ending is None or has_more):
            self.ending, self.warnings = moment.ending, moment.warnings
        elif moment.evaluations is not None:
            self._replay_lbfgs(moment.evaluations)

    def _take_streams(self, rngs: list[np.random.RandomState | None]) -> None:
        """Let the streams, one of which may be the user's, stand where others do."""
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

    def _replay_lbfgs(self, evaluations: EvaluationCache) -> None:
        """Begin L-BFGS anew with what it has evaluated, which leads to where it was."""
        self.evaluations, self.record = evaluations, EpochRecord()
        self._losses, self._scores, self._watched_losses = [], [], []
        self.state = replace(self.state, progress=init_plateau_counter(1))
        self.parameters.theta[0] = evaluations.start

    # -------------------------------------------------------------------- what it trains on

    @property
    def shape(self) -> list[Any]:
        """What runs must have in common to train as one stack; to be compared by ``==``."""
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
        """The epochs before the next that the schedule counts.

        Those of `partial_fit` are one less than ``max_iter`` at most: from then on each is like
        the last.
        """
        if not self.incremental:
            return self.record.n_iter
        return min(self._n_epochs_before, self.config.max_iter - 1)

    @property
    def n_train(self) -> int:
        """The number of rows that are trained on."""
        return self.table.n_rows if self.train is None else len(self.train)

    @property
    def batch_size(self) -> int:
        """The rows of a batch, no more than there are."""
        return min(self.config.batch_size, self.n_train)

    @property
    def rows_at_once(self) -> int:
        """The rows that go through the network together: a batch, or a block of L-BFGS."""
        if self.config.is_lbfgs:
            n_of_row = self.network.activations_per_sample(self.table.is_sparse)
            return max(1, min(self.n_train, _LBFGS_NUMBERS // n_of_row))
        return self.batch_size

    # ---------------------------------------------------------------------- its course

    @property
    def is_evaluated(self) -> bool:
        """Whether its stopping rule looks at each epoch: in `partial_fit` if it is scored."""
        return not self.incremental or (self._compares_calls and self.watched is not None)

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

    def after_epoch(
        self,
        record: EpochRecord,
        loss: float,
        seen: ValidationResult | None,
        kept: Callable[[], ParameterSnapshot],
    ) -> EpochRecord:
        """Return the course after one more epoch or iteration, for the caller to record.

        Of equally good iterations L-BFGS keeps the last, whose loss is the least: on few rows the
        first ones often score what the last ones do.
        """
        self._losses.append(loss)
        score = None
        if seen is not None:
            score = seen.score
            self._watched_losses.append(seen.loss)
        if score is not None:
            self._scores.append(score)
        return record.after(loss, score, kept, last_of_equals=self.config.is_lbfgs)

    def print_progress(self, record: EpochRecord) -> None:
        """Say how the last epoch went, if the user wants to know."""
        n_iter = record.n_iter
        if self.config.verbose:
            print(f"{self._name}Iteration {n_iter}, loss = {record.loss:.8f}")
            if self._scores:
                print(f"{self._name}Validation score: {self._scores[n_iter - 1]:f}")
            elif self._watched_losses:
                print(f"{self._name}Validation loss: {self._watched_losses[n_iter - 1]:f}")

    def print_stall(self, consequence: str) -> None:
        """Say that progress has stalled, and what follows."""
        if self.config.verbose:
            what = "Validation score" if self._scores else "Training loss"
            unit = "iterations" if self.config.is_lbfgs else "epochs"
            if self.incremental:
                unit = "calls"
            patience = self.config.patience
            print(
                f"{self._name}{what} did not improve more than tol={patience.tol:f} for "
                f"{patience.n_epochs:.0f} consecutive {unit}. {consequence}"
            )

    # -------------------------------------------------------------------------- its end

    def end(self, record: EpochRecord) -> None:
        """Take what training has led to as the outcome; said once more, it replaces the last."""
        self.record, self.warnings, self.error, self.ending = record, [], None, None

    def copy_at(self, record: EpochRecord, state: TrainState) -> TrainingRun:
        """Return what this run would be if it ended now, which stays what it is.

        `state` is a copy of what training goes on to change.
        """
        other = copy.copy(self)
        other.record, other.state, other.warnings = copy.deepcopy(record), state, [*self.warnings]
        n = record.n_iter
        other._losses, other._scores = self._losses[:n], self._scores[:n]
        other._watched_losses = self._watched_losses[:n]
        return other

    @property
    def n_iter(self) -> int:
        """The epochs or iterations of this run."""
        return self.record.n_iter

    @property
    def loss(self) -> float:
        """The last epoch's loss."""
        return self.record.loss

    @property
    def losses(self) -> list[float]:
        """The loss of each epoch."""
        return self._losses[: self.record.n_iter]

    @property
    def scores(self) -> list[float]:
        """The validation score of each epoch; empty where there is none."""
        return self._scores[: self.record.n_iter]

    @property
    def validation_losses(self) -> list[float]:
        """The loss of the rows that are watched, after each epoch; empty where there are none."""
        return self._watched_losses[: self.record.n_iter]

    @property
    def best_score(self) -> float:
        """The best validation score."""
        return -math.inf if self.record.best is None else self.record.best.score

    @property
    def best_iter(self) -> int:
        """The epoch whose weights are kept: the best under early stopping, else the last.

        It is 0 if it was that of an earlier call of `partial_fit`.
        """
        return self.record.n_iter if self.record.best is None else self.record.best.n_iter

    @property
    def is_converged(self) -> bool:
        """Whether its stopping rule has ended it, or, over calls of `partial_fit`, would have."""
        if self._compares_calls:
            return bool(self.state.progress["count"].item() > self.config.patience.n_epochs)
        return self.ending == "converged"

    @property
    def n_samples_seen(self) -> int:
        """The rows seen since the first run."""
        return int(self.state.n_samples_seen.item())

    @property
    def first_loss(self) -> float | None:
        """The loss of the first epoch, of `partial_fit` since the last `fit`; None before any."""
        return self._losses[0] if self._first_loss is None and self.n_iter else self._first_loss

    @property
    def largest_weight(self) -> float:
        """The largest absolute parameter after the last epoch."""
        return max_abs(self.parameters.theta)

    @property
    def growth(self) -> float:
        """What the largest parameter has grown by since the beginning."""
        # Over a single epoch nobody looks at how weights have grown.
        return 0.0 if self.incremental else self.largest_weight / self._largest_at_first

    @property
    def kept(self) -> ParameterSnapshot:
        """What the epoch that is kept has led to."""
        return snapshot_of(self.state) if self.record.best is None else self.record.best.kept

    @property
    def inference_parameters(self) -> FlatParameters:
        """What would be predicted with, if nothing was calibrated: to be looked at alone."""
        kept, own = self.kept, self.parameters
        is_own = kept.theta is own.theta and not kept.average
        return own if is_own else own.like(*kept.inference_parameters)

    @property
    def shown(self) -> FlatParameters:
        """What is predicted with, as it is: to be looked at alone."""
        return self.inference_parameters.scale_last_layer(self.temperature)

    @property
    def past(self) -> WarmStartState:
        """What a later run can go on from."""
        state = self.state.shallow_copy() if self.copies_state else replace(self.state)
        best, stopping = self.record.best, self.config.stopping
        if not self._compares_calls:
            state.progress = init_plateau_counter(1)
        if best is not None and not self.incremental:
            theta, statistics, state.average = best.kept
            state.parameters = self.parameters.like(theta, statistics)
        return WarmStartState(
            state,
            self.table.n_rows,
            self._split,
            self._n_epochs_before + self.record.n_iter if self.incremental else 0,
            self.first_loss,
            best if self.incremental else None,
            stopping.scoring if stopping else None,
            self.shares_rng,
            self.temperature,
            self.window,
        )


def _gone_on(fresh: ArrayDict, known: ArrayDict) -> ArrayDict:
    """Return a copy of a state that is known, or a fresh one where that is of another kind."""
    is_alike = known.keys() == fresh.keys()
    return {name: array.copy() for name, array in known.items()} if is_alike else fresh


def _mask_stream(rng: np.random.RandomState, past: WarmStartState | None) -> np.random.Generator:
    """Return what draws the masks: a copy of the last run's stream, or one from a copy of ours.

    That leaves all other draws as they are without dropout, and a run that fails leaves the last
    one's stream where it was.
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
