"""One training of one network, from its validated data to the last epoch.

A run holds all that a training changes; the estimator keeps what came of it when it is over, so
that a run that fails has changed nothing.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ..core.arrays import Array, Rows, State, largest_magnitude
from ..core.members import kind_of
from ..engine.averaging import averaged, averaged_statistics
from ..engine.batches import Table
from ..engine.network import Network
from ..engine.objective import Objective
from ..engine.parameters import FlatParameters, Parameters
from ..layers.base import WEIGHT
from ..layers.dropout import dropout_stream
from ..losses.base import Loss
from ..optimizers import OPTIMIZERS
from .divergence import GROWN, SAFE, Ending, loss_of, spread
from .holdout import hold_out
from .plan import build, build_average, build_penalty, build_schedule, is_lbfgs
from .warnings import warn
from .weights import initial_layers

_TINY = np.finfo(float).tiny

# Numbers in the buffers of a block of rows in L-BFGS.
_LBFGS_NUMBERS = 1 << 20

# An iteration of L-BFGS does less than an epoch, and its scores rise slowly at first.
_LBFGS_PATIENCE = 10

Score = Callable[[Array, Array, "Array | None"], float]
Outcomes = Callable[[Network, Parameters, Any, "Rows | None"], Array]


@dataclass
class Problem:
    """What an estimator sets its networks: the same for each of them.

    Parameters
    ----------
    settings : estimator
        One of this package, of which only the constructor's parameters are read.
    network : Network
        The architecture.
    loss : Loss
        The loss, with its link, for the targets at hand.
    table : Table
        The data.
    dtype : dtype
        What the network computes in.
    score : callable
        Returns the score of (outcomes, targets, weights), for early stopping.
    strata : callable
        Returns the class of each row of the targets by which a split is stratified, or None.
    incremental : bool
        Whether to train for one epoch, as `partial_fit` does.
    outcomes : callable
        Returns the outcomes that `score` takes, of every member: of (network, parameters, X,
        rows) the raw scores, say.
    """

    settings: Any
    network: Network
    loss: Loss
    table: Table
    dtype: np.dtype[np.floating]
    score: Score
    strata: Callable[[Array], Array | None]
    incremental: bool
    outcomes: Outcomes

    @property
    def is_lbfgs(self) -> bool:
        """Whether all rows make one step."""
        return is_lbfgs(self.settings.solver)

    @property
    def batch_size(self) -> int:
        """The rows of a batch, where there are so many."""
        batch_size = self.settings.batch_size
        return 200 if isinstance(batch_size, str) else int(batch_size)


class Kept(NamedTuple):
    """Copies of what a network predicts with, and of what training would go on from.

    Parameters
    ----------
    theta : array of shape (1, p)
        The raw parameters.
    statistics, average : dict
        The states of running statistics and of the average; empty where there are none.
    """

    theta: Array
    statistics: State
    average: State


class Best(NamedTuple):
    """The epoch with the best validation score so far."""

    score: float
    n_iter: int
    kept: Kept


class Course(NamedTuple):
    """How far a run has come: all that an epoch is recorded by, in one value.

    An epoch has happened once its course has taken the place of the last one.
    """

    n_iter: int = 0
    loss: float = math.inf
    best: Best | None = None


class Run:
    """One training of one network, its course and its outcome.

    Parameters
    ----------
    problem : Problem
        What is to be learned.
    stream : RandomState
        What draws weights, split and order; the run's own from now on.
    start : Parameters or None
        What to go on from; None to draw or copy initial weights.
    past : dict
        The training state that an earlier run has left in `state`, or an empty dict.
    n_seen : int
        The rows that earlier runs have seen.
    member : int, default=0
        Which of the estimator's networks it is.

    Attributes
    ----------
    state : dict
        What a later run can go on from: the random ``stream``, the ``order`` of the last epoch,
        the ``split`` for early stopping, ``n_rows``, and the states of ``optimizer``,
        ``schedule`` and ``average``; ``n_epochs`` counts those of `partial_fit` since the last
        `fit`; with dropout the ``dropout stream``, and the running ``statistics`` where there
        are any.
    parameters : FlatParameters
        The network's parameters, while it is trained as a member of a stack views of those.
    course : Course
        How far it came, once it has ended.
    n_seen : int
        The rows seen since the first run.
    seconds : float
        Its share of the time: of an epoch of a stack, one part for each member.
    warnings : list of str
        What the user should hear of how training ended.
    error : ValueError or None
        Why training failed, if it did.
    """

    def __init__(
        self,
        problem: Problem,
        stream: np.random.RandomState,
        start: Parameters | None,
        past: dict[str, Any],
        n_seen: int,
        member: int = 0,
    ) -> None:
        self.problem = problem
        self._name = f"Member {member}: " if problem.settings.n_members > 1 else ""
        self.settings, self.network, self.table = problem.settings, problem.network, problem.table
        self.incremental = problem.incremental
        self.objective = Objective(self.network, problem.loss, build_penalty(self.settings))
        self.state: dict[str, Any] = {"stream": stream, "n_rows": self.table.n_rows}
        self.state["n_epochs"] = past.get("n_epochs", 0) if self.incremental else 0
        if self.network.is_random:
            self.state["dropout stream"] = _dropout_stream(stream, past)
        if start is None:
            layers = initial_layers(self.settings, self.network, stream, member)
            self.parameters = self.network.start([layers], problem.dtype, [stream])
        else:
            self.parameters = self._continued(start, past, n_seen)
        if self.parameters.statistics:
            self.state["statistics"] = self.parameters.statistics
        self.train: Rows | None
        self.validation: Rows | None
        self.train, self.validation = self._rows(past)
        self.state["order"] = self._order(past)
        if not problem.is_lbfgs:
            self._start_average(past, n_seen)
            self._start(past)
        self._n_epochs_before = self.state["n_epochs"]
        self._first_loss: float | None = past.get("first loss") if self.incremental else None
        # Over a single epoch nobody looks at how weights have grown.
        self._largest_at_first = math.inf if self.incremental else self._largest_weight or _TINY
        self.n_seen, self.seconds = n_seen, 0.0
        # One of each for every epoch; what is beyond those of the course has not happened.
        self._losses: list[float] = []
        self._scores: list[float] = []
        self.course = Course()
        self.warnings: list[str] = []
        self.error: ValueError | None = None

    def _continued(self, start: Parameters, past: dict[str, Any], n_seen: int) -> FlatParameters:
        """Return copies of the parameters to go on from, with the running statistics."""
        parameters = self.network.copied(start, self.problem.dtype)
        if WEIGHT in past.get("statistics", {}):
            parameters.statistics[WEIGHT][...] = past["statistics"][WEIGHT]
        else:
            weight = self.table.weight
            of_a_row = 1.0 if weight is None else float(weight.mean())
            for layer, running in zip(self.network.layers, parameters.running, strict=True):
                layer.assume_past(running, n_seen, self.problem.batch_size, of_a_row)
        return parameters

    def _start(self, past: dict[str, Any]) -> None:
        """Set optimizer and schedule, with the states to go on from."""
        self.optimizer = build(OPTIMIZERS, self.settings.solver, self.settings)
        self.schedule = build_schedule(self.settings)
        fresh = {
            "optimizer": self.optimizer.init(self.parameters.theta),
            "schedule": self.schedule.init(1),
        }
        for name, start in fresh.items():
            # Another optimizer or schedule than the last time has to begin anew.
            if name in past and past[name].keys() == start.keys():
                start = {key: value.copy() for key, value in past[name].items()}
            self.state[name] = start

    def _start_average(self, past: dict[str, Any], n_seen: int) -> None:
        """Set the average with its state, and the weights to the raw ones that it was taken of.

        If the user has assigned other weights since, they count, and the average begins anew.
        """
        self.average = build_average(self.settings)
        theta, statistics, known = self.parameters.theta, self.parameters.statistics, {}
        if "raw" in past and self._is_averaged(past):
            theta[...], known = past["raw"], past["average"]
            for name, array in past["raw statistics"].items():
                statistics[name][...] = array
        seen = np.array([[n_seen]])
        start = {} if self.average is None else self.average.init(theta, seen, statistics)
        if known.keys() == start.keys():
            start = {name: array.copy() for name, array in known.items()}
        self.state["average"] = start

    def _is_averaged(self, past: dict[str, Any]) -> bool:
        """Return whether the parameters are those that the last run has averaged."""
        theta, statistics = self.parameters.theta, self.parameters.statistics
        expected = averaged_statistics(past["raw statistics"], past["average"])
        return np.array_equal(theta, averaged(past["raw"], past["average"])) and all(
            np.array_equal(statistics[name], array) for name, array in expected.items()
        )

    @property
    def n_done(self) -> int:
        """The epochs before the first of this run that its schedule counts.

        They are one less than ``max_iter`` at most: from then on each is like the last.
        """
        return int(min(self.state["n_epochs"], self.settings.max_iter - 1))

    @property
    def shape(self) -> list[Any]:
        """What runs must have in common to train as one stack; to be compared by ``==``."""
        table = self.table
        return [
            self.network,
            self.problem.loss,
            self.parameters.dtype,
            table.is_sparse,
            table.weight is None,
            self.problem.batch_size,
            self.settings.max_iter,
            self.incremental,
            kind_of(self.optimizer),
            kind_of(self.objective.penalty),
            kind_of(self.average),
        ]

    # ----------------------------------------------------------------------- the rows

    @property
    def n_train(self) -> int:
        """The number of rows that are trained on."""
        return self.table.n_rows if self.train is None else len(self.train)

    @property
    def batch_size(self) -> int:
        """The rows of a batch, no more than there are."""
        return min(self.problem.batch_size, self.n_train)

    @property
    def clip_norm(self) -> float:
        """The largest norm that a gradient may have."""
        bound = self.settings.clip_norm
        return math.inf if bound is None else float(bound)

    @property
    def patience(self) -> int | float:
        """The epochs, or iterations of L-BFGS, without improvement that are put up with."""
        n_iter_no_change: int | float = self.settings.n_iter_no_change
        return n_iter_no_change * (_LBFGS_PATIENCE if self.problem.is_lbfgs else 1)

    @property
    def rows_at_once(self) -> int:
        """The rows that go through the network together: a batch, or a block of L-BFGS."""
        if self.problem.is_lbfgs:
            return max(1, min(self.n_train, _LBFGS_NUMBERS // sum(self.network.widths)))
        return self.batch_size

    def warn_of_batch_size(self) -> None:
        """Warn if a batch is asked for that is larger than the data."""
        batch_size = self.settings.batch_size
        if not isinstance(batch_size, str) and batch_size > self.n_train:
            warn(
                f"batch_size={batch_size} is larger than the {self.n_train} training rows. It is "
                f"going to be clipped to {self.n_train}.",
                UserWarning,
            )

    def _rows(self, past: dict[str, Any]) -> tuple[Rows, Rows] | tuple[None, None]:
        """Return the rows to train on and those held out, drawn once for as many of either."""
        last = past["split"] if past.get("n_rows") == self.table.n_rows else None
        self.state["split"] = last
        if self.incremental or not self.settings.early_stopping:
            return None, None
        self.state["split"] = train, held_out = self._split(last)
        if self.table.weight is not None and not self.table.weight[train].any():
            raise ValueError(
                "early_stopping=True leaves no row to train on whose sample_weight is above zero. "
                "Remove the rows of weight zero, or set early_stopping=False."
            )
        return train, held_out

    def _split(self, last: Any) -> tuple[Rows, Rows]:
        """Draw the rows to train on and those held out, unless the last split will do again."""
        fraction, n = self.settings.validation_fraction, self.table.n_rows
        n_held_out = max(2, math.ceil(fraction * n))
        if n_held_out >= n:
            raise ValueError(
                f"early_stopping=True holds out {n_held_out} rows, which leaves none to train on "
                f"with n_samples = {n}. Use more rows, a smaller validation_fraction (now "
                f"{fraction}), or early_stopping=False."
            )
        if last is not None and len(last[1]) == n_held_out:
            train, held_out = last
            return train, held_out
        return hold_out(n, n_held_out, self.state["stream"], self.problem.strata(self.table.y))

    def _order(self, past: dict[str, Any]) -> Rows | None:
        """Return the rows in the order of the last epoch, if they are the same rows."""
        if not self.settings.shuffle:
            return self.train
        last = past.get("order")
        is_same_table = past.get("n_rows") == self.table.n_rows
        if is_same_table and last is not None and len(last) == self.n_train:
            return np.array(last)
        return np.arange(self.n_train) if self.train is None else self.train.copy()

    # ---------------------------------------------------------------------- its course

    def validation_score(self, outcomes: Array) -> float:
        """Return how good `outcomes` are on the rows held out; NaN where they are not finite."""
        if not np.isfinite(outcomes).all():
            return math.nan
        table, rows = self.table, self.validation
        weight = None if table.weight is None else table.weight[rows]
        if weight is not None and not weight.any():
            weight = None
        with np.errstate(all="ignore"):
            return self.problem.score(outcomes, table.y[rows], weight)

    def after_epoch(
        self, course: Course, loss: float, score: float | None, kept: Callable[[], Kept]
    ) -> Course:
        """Return the course after one more epoch or iteration, for the caller to record.

        `kept` returns copies of what the epoch has led to; it is called if the score is the best.
        """
        n_iter, best = course.n_iter + 1, course.best
        self._losses.append(loss)
        if score is not None:
            self._scores.append(score)
            if self._is_best(score, best):
                best = Best(score, n_iter, kept())
        return Course(n_iter, loss, best)

    def _is_best(self, score: float, best: Best | None) -> bool:
        """Return whether the weights of this score are to be kept.

        Of equally good iterations L-BFGS keeps the last, whose loss is the least: on few rows the
        first ones often score what the last ones do.
        """
        if best is None:
            return score > -math.inf
        return score > best.score or (self.problem.is_lbfgs and score == best.score)

    def print_progress(self, course: Course) -> None:
        """Say how the last epoch went, if the user wants to know."""
        n_iter = course.n_iter
        if self.settings.verbose:
            print(f"{self._name}Iteration {n_iter}, loss = {course.loss:.8f}")
            if self.validation is not None:
                print(f"{self._name}Validation score: {self._scores[n_iter - 1]:f}")

    def print_stall(self, consequence: str) -> None:
        """Say that progress has stalled, and what follows."""
        if self.settings.verbose:
            what = "Training loss" if self.validation is None else "Validation score"
            unit = "iterations" if self.problem.is_lbfgs else "epochs"
            print(
                f"{self._name}{what} did not improve more than tol={self.settings.tol:f} for "
                f"{self.patience} consecutive {unit}. {consequence}"
            )

    # -------------------------------------------------------------------------- its end

    def end(self, course: Course) -> None:
        """Take what training has led to as the outcome; said once more, it replaces the last."""
        self.course, self.warnings, self.error = course, [], None
        self.state["n_epochs"] = self._n_epochs_before + self.incremental * course.n_iter
        if course.n_iter:
            first = self._losses[0] if self._first_loss is None else self._first_loss
            self.state["first loss"] = first
        if self.scores and course.best is None:
            self.warnings.append(
                "The validation score of no epoch is a finite number, so the weights of the last "
                f"are kept. Scale the data, {self._scales}"
            )

    @property
    def n_iter(self) -> int:
        """The epochs or iterations of this run."""
        return self.course.n_iter

    @property
    def loss(self) -> float:
        """The last epoch's loss."""
        return self.course.loss

    @property
    def losses(self) -> list[float]:
        """The loss of each epoch."""
        return self._losses[: self.course.n_iter]

    @property
    def scores(self) -> list[float]:
        """The validation score of each epoch; empty where there is none."""
        return self._scores[: self.course.n_iter]

    @property
    def best_score(self) -> float:
        """The best validation score."""
        return -math.inf if self.course.best is None else self.course.best.score

    @property
    def best_iter(self) -> int:
        """The epoch whose weights are kept: the best under early stopping, else the last."""
        return self.course.n_iter if self.course.best is None else self.course.best.n_iter

    def end_unconverged(self) -> None:
        """Take note that the epochs were used up, unless that is what the user wanted."""
        self.judge()
        if not self.incremental and self.settings.n_iter_no_change != np.inf:
            self.warnings.append(
                f"Stochastic Optimizer: Maximum iterations ({self.settings.max_iter}) reached and "
                "the optimization hasn't converged yet. Raise max_iter, or set "
                "n_iter_no_change=np.inf if this many epochs are what you want."
            )

    def judge(self) -> None:
        """Take note if training has diverged, though all numbers are finite.

        It is an error if the network's output is not.
        """
        if not self.n_iter:
            return
        largest, first, last = self._largest_weight, self.state["first loss"], self.loss
        growth = largest / self._largest_at_first
        # Of single epochs each has other rows, so that one may be a little above the other.
        has_risen = last > first + (abs(first) if self.incremental else 0)
        if has_risen or growth > GROWN or largest > SAFE:
            self._judge(first, last, has_risen, growth, largest)

    def _judge(
        self, first: float, last: float, has_risen: bool, growth: float, largest: float
    ) -> None:
        """Look at the losses, since there is a reason to."""
        best, worst = self.course.best, max(self.losses)
        if best is None and (growth > GROWN or largest > SAFE):
            # The last step may have gone astray.
            loss = self._loss_of_kept(whole=largest > SAFE)
            if not math.isfinite(loss):
                self._diverge(
                    self.n_iter,
                    "the network's output on the training data is no longer finite, since its "
                    f"largest weight is {largest:.3g}",
                )
                return
            last = max(last, loss)
            has_risen = has_risen or last > first + abs(first)
        score = None if best is None else best.score
        ending = Ending(worst, last, has_risen, growth, largest, score)
        if ending.has_diverged(self.table, self.train, self.objective):
            kept = "" if best is None else f" {self._kept_epoch}"
            self.warnings.append(
                f"Training diverged: the loss was {first:.3g} at first, {worst:.3g} at worst and "
                f"is {last:.3g} at last, and the largest weight is {largest:.3g}. "
                f"{self._advice}{kept}"
            )

    @property
    def _largest_weight(self) -> float:
        """The largest absolute parameter after the last epoch."""
        return largest_magnitude(self.parameters.theta)

    def _loss_of_kept(self, whole: bool) -> float:
        """Return the mean loss of what is kept, on the whole of the training rows or a sample.

        It is NaN if a score is not finite.
        """
        theta, rows = self.kept_theta(self.problem.dtype), self.train
        parameters = self.parameters.like(theta, self.kept_statistics())
        if not whole:
            rows = spread(self.table, rows, sum(self.network.widths))
        with np.errstate(all="ignore"):
            return loss_of(parameters, self.table, rows, self.objective)

    def end_diverged(self) -> None:
        """Take note of an error, or of a warning where there is a scored epoch to go back to."""
        self._diverge(self.n_iter + 1, "the loss or a parameter is no longer finite")

    def _diverge(self, epoch: int, what: str) -> None:
        message = f"Training diverged in epoch {epoch}: {what}. {self._advice}"
        if self.course.best is None:
            self.error = ValueError(message)
        else:
            self.warnings.append(f"{message} {self._kept_epoch}")

    @property
    def _advice(self) -> str:
        rate = self.settings.learning_rate_init
        return f"Lower learning_rate_init (now {rate}), or scale the data, {self._scales}"

    @property
    def _kept_epoch(self) -> str:
        return (
            f"The weights of epoch {self.best_iter}, which had the best validation score, are kept."
        )

    @property
    def _scales(self) -> str:
        """How to scale the data, and what they are like as they are."""
        return (
            "for example with sklearn.preprocessing.StandardScaler: the largest absolute value in "
            f"X is {largest_magnitude(self.table.X):.3g}, in the targets "
            f"{largest_magnitude(self.table.y):.3g}.{self._penalty_on_light_rows}"
        )

    @property
    def _penalty_on_light_rows(self) -> str:
        """What to do where the rows of a batch weigh so little that the penalty is all there is."""
        weight, alpha = self.table.weight, float(self.settings.alpha)
        of_a_batch = np.inf if weight is None else float(weight.mean()) * self.rows_at_once
        if of_a_batch >= alpha:
            return ""
        return (
            f" The rows of a batch have a sample_weight of about {of_a_batch:.3g}, by which the "
            f"penalty alpha={alpha:g} is divided: scale them to a mean of one, or lower alpha."
        )

    def kept_theta(self, dtype: np.dtype[np.floating]) -> Array:
        """Return the parameters of the best epoch under early stopping, else of the last.

        They are the averages, if any are taken.
        """
        theta, _, average = self._kept
        return (averaged(theta, average) if average else theta).astype(dtype, copy=False)

    def kept_statistics(self) -> State:
        """Return the running statistics that belong to `kept_theta`."""
        _, statistics, average = self._kept
        return statistics | averaged_statistics(statistics, average)

    @property
    def kept_state(self) -> dict[str, Any]:
        """What a later run can go on from: `state`, and what is ``raw`` behind an average."""
        theta, statistics, average = self._kept
        raw = {"average": average, "raw": theta, "raw statistics": statistics}
        return self.state | raw if average else self.state

    @property
    def _kept(self) -> Kept:
        """The raw weights and statistics of the epoch that is kept, and the state of averages."""
        if self.course.best is not None:
            return self.course.best.kept
        parameters = self.parameters
        return Kept(parameters.theta, parameters.statistics, self.state.get("average", {}))


def n_moments(settings: Any) -> int:
    """Return how many arrays of the size of the parameters an optimizer and an average keep.

    `settings` is an estimator with a stochastic solver.
    """
    theta = np.zeros((1, 2))
    states = [build(OPTIMIZERS, settings.solver, settings).init(theta)]
    average = build_average(settings)
    if average is not None:
        states.append(average.init(theta, np.zeros((1, 1), dtype=int)))
    return sum(np.shape(array) == theta.shape for state in states for array in state.values())


def _dropout_stream(stream: np.random.RandomState, past: dict[str, Any]) -> np.random.Generator:
    """Return what draws the masks: a copy of the last run's stream, or one from a copy of ours.

    That leaves all other draws as they are without dropout, and a run that fails leaves the last
    one's stream where it was.
    """
    last = past.get("dropout stream")
    return dropout_stream(stream) if last is None else copy.deepcopy(last)
