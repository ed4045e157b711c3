"""One training of an estimator's network, from its validated data to the last epoch.

A run holds all that a training changes; the estimator keeps what came of it when it is over, so
that a run that fails has changed nothing.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state

from ._holdout import hold_out
from ._settings import build, build_schedule, initial_layers, is_lbfgs
from ._validation import largest_magnitude
from .core.arrays import Array, Rows
from .core.batches import Table
from .core.lbfgs import WholeObjective, minimise
from .core.losses import Loss
from .core.network import Network, scores_of
from .core.objective import Diverged, Objective
from .core.optimizers import OPTIMIZERS
from .core.parameters import FlatParameters
from .core.penalties import L2
from .core.training import Patience, Stack, descend

# Numbers in the buffers of a block of rows in L-BFGS.
_LBFGS_NUMBERS = 1 << 20

# The status of SciPy's result after a StopIteration.
_STOPPED_BY_CALLBACK = 99

Score = Callable[[Array, Array, "Array | None"], float]


class Run:
    """One training, its course and its outcome.

    Parameters
    ----------
    settings : BackpropClassifier or BackpropRegressor
        The estimator, of which only the constructor's parameters are read.
    network : Network
        The architecture.
    loss : Loss
        The loss, with its link, for the targets at hand.
    table : Table
        The data.
    dtype : dtype
        What the network computes in.
    score : callable
        Returns the score of (raw scores, targets, weights), for early stopping.
    strata : callable
        Returns the class of each row of the targets by which a split is stratified, or None.
    layers : list of (weights, biases), or None
        What to go on from; None to draw or copy initial weights.
    past : dict
        The training state that an earlier run has left in `state`, or an empty dict.
    n_seen : int
        The rows that earlier runs have seen.
    incremental : bool
        Whether to train for one epoch, as `partial_fit` does.

    Attributes
    ----------
    state : dict
        What a later run can go on from: the random ``stream``, the ``order`` of the last epoch,
        the ``split`` for early stopping, ``n_rows``, and the states of ``optimizer`` and
        ``schedule``.
    n_iter, n_seen : int
        The epochs of this run, and the rows seen since the first.
    loss : float
        The last epoch's loss.
    losses, scores : list of float
        One of each for every epoch of this run.
    best_score, best_iter : float, int
        The best validation score, and the epoch whose weights are kept.
    """

    def __init__(
        self,
        settings: Any,
        network: Network,
        loss: Loss,
        table: Table,
        dtype: np.dtype[np.floating],
        score: Score,
        strata: Callable[[Array], Array | None],
        layers: list[tuple[Array, Array]] | None,
        past: dict[str, Any],
        n_seen: int,
        incremental: bool,
    ) -> None:
        self.settings, self.table = settings, table
        self.score, self.strata = score, strata
        self.incremental = incremental
        self.network = network
        self.objective = Objective(network, loss, L2(float(settings.alpha)))
        stream = past["stream"] if "stream" in past else _new_stream(settings.random_state)
        self.state: dict[str, Any] = {"stream": stream, "n_rows": table.n_rows}
        if layers is None:
            layers = initial_layers(settings, network, stream)
        self.parameters = FlatParameters.of([layers], dtype)
        self.train: Rows | None
        self.validation: Rows | None
        self.train, self.validation = self._rows(past)
        self.state["order"] = self._order(past)
        for name in ("optimizer", "schedule"):
            if name in past:
                self.state[name] = {key: value.copy() for key, value in past[name].items()}
        self.n_iter, self.n_seen = 0, n_seen
        self.loss = math.inf
        self.losses: list[float] = []
        self.scores: list[float] = []
        self.best_score, self.best_iter = -math.inf, 0
        self._best_theta: Array | None = None

    # ----------------------------------------------------------------------- the rows

    @property
    def n_train(self) -> int:
        """The number of rows that are trained on."""
        return self.table.n_rows if self.train is None else len(self.train)

    @property
    def batch_size(self) -> int:
        """The rows of a batch, no more than there are."""
        batch_size = self.settings.batch_size
        return min(200 if isinstance(batch_size, str) else int(batch_size), self.n_train)

    @property
    def is_lbfgs(self) -> bool:
        """Whether all rows make one step."""
        return is_lbfgs(self.settings.solver)

    @property
    def rows_at_once(self) -> int:
        """The rows that go through the network together: a batch, or a block of L-BFGS."""
        if self.is_lbfgs:
            return max(1, min(self.n_train, _LBFGS_NUMBERS // sum(self.network.widths)))
        return self.batch_size

    def warn_of_batch_size(self) -> None:
        """Warn if a batch is asked for that is larger than the data."""
        batch_size = self.settings.batch_size
        if not isinstance(batch_size, str) and batch_size > self.n_train:
            warnings.warn(
                f"batch_size={batch_size} is larger than the {self.n_train} training rows. It is "
                f"going to be clipped to {self.n_train}.",
                UserWarning,
                stacklevel=4,
            )

    def _rows(self, past: dict[str, Any]) -> tuple[Rows, Rows] | tuple[None, None]:
        """Return the rows to train on and those held out, drawn once for as many rows."""
        split = past["split"] if past.get("n_rows") == self.table.n_rows else None
        holds_out = self.settings.early_stopping and not self.incremental
        if split is None and holds_out:
            split = self._split()
        self.state["split"] = split
        if split is None or not holds_out:
            return None, None
        if self.table.weight is not None and not self.table.weight[split[0]].any():
            raise ValueError(
                "early_stopping=True leaves no row to train on whose sample_weight is above zero. "
                "Remove the rows of weight zero, or set early_stopping=False."
            )
        train, held_out = split
        return train, held_out

    def _split(self) -> tuple[Rows, Rows]:
        """Draw the rows to train on and those held out."""
        fraction, n = self.settings.validation_fraction, self.table.n_rows
        n_held_out = max(2, math.ceil(fraction * n))
        if n_held_out >= n:
            raise ValueError(
                f"early_stopping=True holds out {n_held_out} rows, which leaves none to train on "
                f"with n_samples = {n}. Use more rows, a smaller validation_fraction (now "
                f"{fraction}), or early_stopping=False."
            )
        return hold_out(n, n_held_out, self.state["stream"], self.strata(self.table.y))

    def _order(self, past: dict[str, Any]) -> Rows | None:
        """Return the rows in the order of the last epoch, if they are the same rows."""
        if not self.settings.shuffle:
            return self.train
        last = past.get("order")
        is_same_table = past.get("n_rows") == self.table.n_rows
        if is_same_table and last is not None and len(last) == self.n_train:
            return np.array(last)
        return np.arange(self.n_train) if self.train is None else self.train.copy()

    # -------------------------------------------------------------------- the epochs

    def descend(self) -> KeyboardInterrupt | None:
        """Train by stochastic steps; return the interrupt that ended it, if one did."""
        settings = self.settings
        stack = self._stack()
        patience = Patience(1, float(settings.tol), float(settings.n_iter_no_change))
        n_epochs = 1 if self.incremental else settings.max_iter
        is_recorded = True
        try:
            for losses in descend(stack, n_epochs):
                is_recorded = False
                monitored = self._end_epoch(stack, losses.item())
                is_recorded = True
                self._print_progress()
                if self.incremental or self._has_to_stop(stack, patience, monitored):
                    break
            else:
                if settings.n_iter_no_change != np.inf:
                    self._warn(
                        f"Stochastic Optimizer: Maximum iterations ({n_epochs}) reached and the "
                        "optimization hasn't converged yet. Raise max_iter, or set "
                        "n_iter_no_change=np.inf if this many epochs are what you want."
                    )
        except KeyboardInterrupt as interrupt:
            if not is_recorded:
                stack.restore()
            return interrupt
        except Diverged:
            self._end_diverged()
        finally:
            self.n_seen = int(stack.n_seen.item())
        return None

    def _end_epoch(self, stack: Stack, loss: float) -> Array:
        """Score the epoch, tell the schedule, and take note; return the value that is to fall."""
        score = self._validation_score()
        monitored = np.array([[loss if score is None else _to_fall(score)]])
        stack.schedule.end_epoch(stack.schedule_state, stack.rate, monitored, stack.n_seen)
        self._record(loss, score)
        return monitored

    def _has_to_stop(self, stack: Stack, patience: Patience, monitored: Array) -> bool:
        """Return whether patience is at an end and the schedule has nothing left to try."""
        schedule, state = stack.schedule, stack.schedule_state
        stalled, stopped = patience.end_epoch(monitored, schedule.may_stop(state, 1))
        if stalled.item():
            rate = schedule.rate(state, stack.rate, 0.0).item()
            self._print_stall(
                schedule.last_words if stopped.item() else f"Setting learning rate to {rate:f}"
            )
        return bool(stopped.item())

    def _stack(self) -> Stack:
        """Return the stack of one that trains the network, with the states to go on from."""
        settings, state = self.settings, self.state
        optimizer = build(OPTIMIZERS, settings.solver, settings)
        schedule = build_schedule(settings)
        fresh = {"optimizer": optimizer.init(self.parameters.theta), "schedule": schedule.init(1)}
        for name, start in fresh.items():
            # Another optimizer or schedule than the last time has to begin anew.
            if name not in state or state[name].keys() != start.keys():
                state[name] = start
        return Stack(
            objective=self.objective,
            parameters=self.parameters,
            tables=[self.table],
            orders=[state["order"]],
            streams=[state["stream"] if settings.shuffle else None],
            batch_sizes=[self.batch_size],
            optimizer=optimizer,
            schedule=schedule,
            rate=np.array([[float(settings.learning_rate_init)]]),
            optimizer_state=state["optimizer"],
            schedule_state=state["schedule"],
            n_seen=np.array([[self.n_seen]]),
        )

    def minimise(self) -> KeyboardInterrupt | None:
        """Train by L-BFGS; return the interrupt that ended it, if one did."""
        settings = self.settings
        self.parameters = self.parameters.like(self.parameters.theta.astype(np.float64))
        patience = Patience(1, float(settings.tol), float(settings.n_iter_no_change))
        may_stop = np.ones((1, 1), dtype=bool)

        def end_iteration(loss: float) -> bool:
            score = self._validation_score()
            self._record(loss, score)
            self._print_progress()
            if score is None:
                return False
            _, stopped = patience.end_epoch(np.array([[_to_fall(score)]]), may_stop)
            if stopped.item():
                self._print_stall("Stopping.")
            return bool(stopped.item())

        try:
            result = minimise(
                WholeObjective(
                    self.objective, self.parameters, self.table, self.train, self.rows_at_once
                ),
                max_iter=settings.max_iter,
                max_fun=settings.max_fun,
                tol=settings.tol,
                on_iteration=end_iteration,
            )
        except KeyboardInterrupt as interrupt:
            return interrupt
        except Diverged:
            self._end_diverged()
            return None
        self.loss = float(result.fun)
        if result.status not in (0, _STOPPED_BY_CALLBACK):
            self._warn(
                f"lbfgs failed to converge after {self.n_iter} iteration(s) "
                f"({result.message.strip()}). Increase max_iter (now {settings.max_iter}) or "
                f"max_fun (now {settings.max_fun}), or scale X, for example with "
                "sklearn.preprocessing.StandardScaler."
            )
        return None

    def kept_parameters(self, dtype: np.dtype[np.floating]) -> FlatParameters:
        """Return the parameters of the best epoch under early stopping, else of the last."""
        theta = self.parameters.theta if self._best_theta is None else self._best_theta
        return self.parameters.like(theta.astype(dtype, copy=False))

    # ---------------------------------------------------------------------- its course

    def _validation_score(self) -> float | None:
        """Return the score on the rows held out; None where none are."""
        if self.validation is None:
            return None
        table, rows = self.table, self.validation
        with np.errstate(all="ignore"):
            scores = scores_of(self.network, self.parameters, table.X, rows)[0]
        if not np.isfinite(scores).all():
            return math.nan
        weight = None if table.weight is None else table.weight[rows]
        if weight is not None and not weight.any():
            weight = None
        return self.score(scores, table.y[rows], weight)

    def _record(self, loss: float, score: float | None) -> None:
        """Take note of a complete epoch or iteration."""
        self.n_iter += 1
        self.loss = loss
        self.losses.append(loss)
        if score is None:
            self.best_iter = self.n_iter
            return
        self.scores.append(score)
        if score > self.best_score:
            self.best_score, self.best_iter = score, self.n_iter
            self._best_theta = self.parameters.theta.copy()

    def _print_progress(self) -> None:
        verbose = int(self.settings.verbose)
        if verbose and self.n_iter % verbose == 0:
            print(f"Iteration {self.n_iter}, loss = {self.loss:.8f}")
            if self.validation is not None:
                print(f"Validation score: {self.scores[-1]:f}")

    def _print_stall(self, consequence: str) -> None:
        if self.settings.verbose:
            what = "Training loss" if self.validation is None else "Validation score"
            print(
                f"{what} did not improve more than tol={self.settings.tol:f} for "
                f"{self.settings.n_iter_no_change} consecutive epochs. {consequence}"
            )

    def _end_diverged(self) -> None:
        """Raise, or warn where there is a scored epoch to go back to."""
        message = (
            f"Training diverged in epoch {self.n_iter + 1}: the loss or a parameter is no longer "
            f"finite. Lower learning_rate_init (now {self.settings.learning_rate_init}), or scale "
            f"the data, for example with sklearn.preprocessing.StandardScaler: the largest "
            f"absolute value in X is {largest_magnitude(self.table.X):.3g}, in the targets "
            f"{largest_magnitude(self.table.y):.3g}."
        )
        if self._best_theta is None:
            raise ValueError(message)
        self._warn(
            f"{message} The weights of epoch {self.best_iter}, which had the best validation "
            "score, are kept."
        )

    @staticmethod
    def _warn(message: str) -> None:
        warnings.warn(message, ConvergenceWarning, stacklevel=5)


def _new_stream(random_state: Any) -> np.random.RandomState:
    """Return the stream of a seed; without one, a stream seeded from NumPy's global one."""
    if random_state is None:
        random_state = int(check_random_state(None).randint(np.iinfo(np.int32).max))
    stream: np.random.RandomState = check_random_state(random_state)
    return stream


def _to_fall(score: float) -> float:
    """Return what falls as a score rises; a score that is not a number is the worst."""
    return math.inf if math.isnan(score) else -score
