"""Losses, scores and the best epoch of a run, and what a warm start continues from."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from ..layers.base import NUM_BATCHES_TRACKED
from ..nn.parameters import FlatParameters, Parameters, averaged_parameters
from ..nn.train_state import TrainState
from ..utils.arrays import Array, ArrayDict, IndexArray, index_state
from .validation_data import ValidationResult

StopReason: TypeAlias = Literal["converged", "unconverged", "time_limit", "stopped", "diverged"]
"""Why training ended; "stopped" is by Ctrl-C, a callback or a pause."""


class ParameterSnapshot(NamedTuple):
    """The parameters of one network after some epoch.

    Parameters
    ----------
    theta : array of shape (1, p)
        The raw parameters, which training would continue from.
    statistics, average : dict
        The running statistics and the state of the weight average; empty where there are none.
    """

    theta: Array
    statistics: ArrayDict
    average: ArrayDict

    @property
    def inference_parameters(self) -> tuple[Array, ArrayDict]:
        """The parameters and running statistics to predict with: averages, if there are any."""
        if not self.average:
            return self.theta, self.statistics
        return averaged_parameters(self.theta, self.statistics, self.average)


def snapshot_of(state: TrainState) -> ParameterSnapshot:
    """Return the snapshot of the only member of a state, without copying."""
    return ParameterSnapshot(state.parameters.theta, state.parameters.statistics, state.average)


def copy_member_snapshot(state: TrainState, i: int) -> ParameterSnapshot:
    """Return a snapshot of one member, as copies."""
    rows = np.array([i])
    return ParameterSnapshot(
        state.parameters.theta[rows],
        index_state(state.parameters.statistics, rows),
        index_state(state.average, rows),
    )


class BestEpoch(NamedTuple):
    """The epoch with the best validation score so far; `n_iter` is 0 in an earlier call."""

    score: float
    n_iter: int
    snapshot: ParameterSnapshot


class EpochResult(NamedTuple):
    """The losses and the score of one epoch; None without validation rows or score."""

    loss: float
    validation_loss: float | None = None
    score: float | None = None


class TrainingHistory(NamedTuple):
    """The epochs that a run has completed, and the best of them.

    It is a value: an epoch counts once its history has replaced the last one. The histories of one
    run share the list of epochs, of which the first `n_iter` are their own.

    Parameters
    ----------
    n_iter : int
        The number of epochs, or of iterations of L-BFGS.
    loss : float
        The loss of the last epoch; inf before the first.
    best : BestEpoch or None
        The epoch with the best validation score; None if none was scored.
    epochs : list of EpochResult
        The result of each epoch. Epochs after `n_iter` have not happened.
    """

    n_iter: int
    loss: float
    best: BestEpoch | None
    epochs: list[EpochResult]

    @classmethod
    def start(cls, best: BestEpoch | None = None) -> TrainingHistory:
        """Return a history without epochs; `best` is that of earlier calls of `partial_fit`."""
        return cls(0, math.inf, best and best._replace(n_iter=0), [])

    def after(
        self,
        loss: float,
        result: ValidationResult | None,
        state: TrainState,
        member: int,
        *,
        last_of_equals: bool,
    ) -> TrainingHistory:
        """Return the history with one more epoch or iteration.

        Parameters
        ----------
        loss : float
            The training loss of the epoch.
        result : ValidationResult or None
            The validation loss and score, if there are validation rows.
        state : TrainState
            The state after the epoch, which is copied if the score is the best.
        member : int
            The run's position in the state.
        last_of_equals : bool
            Whether the last of equally good epochs is the best, instead of the first.
        """
        n_iter, best = self.n_iter + 1, self.best
        epochs = self.epochs if len(self.epochs) == self.n_iter else self.epochs[: self.n_iter]
        epochs.append(EpochResult(loss, *(result or ())))
        if result is not None and result.score is not None:
            score, limit = result.score, -math.inf if best is None else best.score
            if score > limit or (best is not None and last_of_equals and score == limit):
                best = BestEpoch(score, n_iter, copy_member_snapshot(state, member))
        return TrainingHistory(n_iter, loss, best, epochs)

    def copy(self) -> TrainingHistory:
        """Return a history that shares nothing with this one."""
        return self._replace(best=copy.deepcopy(self.best), epochs=self.epochs[: self.n_iter])

    @property
    def losses(self) -> list[float]:
        """The training loss of each epoch."""
        return [epoch.loss for epoch in self.epochs[: self.n_iter]]

    @property
    def validation_losses(self) -> list[float]:
        """The validation loss of each epoch; empty without validation rows."""
        losses = [epoch.validation_loss for epoch in self.epochs[: self.n_iter]]
        return [loss for loss in losses if loss is not None]

    @property
    def scores(self) -> list[float]:
        """The validation score of each epoch; empty without early stopping."""
        scores = [epoch.score for epoch in self.epochs[: self.n_iter]]
        return [score for score in scores if score is not None]


class PartialFitWindow(NamedTuple):
    """Sums over consecutive calls of `partial_fit`, for the check for divergence.

    Parameters
    ----------
    n_rows : int
        The number of rows.
    loss : float
        The sum of their losses.
    loss_of_zero_scores : float or None
        The sum of their losses if all raw scores were zero; None if it was not computed.
    """

    n_rows: int = 0
    loss: float = 0.0
    loss_of_zero_scores: float | None = None


@dataclass(frozen=True)
class WarmStartState:
    """The state that a later run continues from, with `warm_start` or by `partial_fit`.

    Parameters
    ----------
    state : TrainState
        After `fit`, the weights are those of the best epoch, and the optimizer's state, schedule,
        order and streams those of the last one. After `partial_fit`, all are of the last epoch.
    n_rows : int
        The number of rows that the run was trained on, validation rows included.
    split : pair of arrays of int or None
        The training and the validation rows; None if early stopping has never split.
    n_epochs : int
        The number of `partial_fit` epochs since the last `fit`.
    first_loss : float or None
        The loss of the first of them; None before any.
    best : BestEpoch or None, default=None
        The best scored call of `partial_fit`, whose weights predict; None before any.
    scoring : str, callable or None, default=None
        The `scoring` of that score.
    shares_rng : bool, default=False
        Whether other runs hold the same stream, so that whoever continues has to copy it.
    temperature : float, default=1.0
        The divisor of raw scores in predictions; training continues without it.
    window : Window
        The last calls of `partial_fit`, as long as their rows are too few to judge.
    """

    state: TrainState
    n_rows: int
    split: tuple[IndexArray, IndexArray] | None
    n_epochs: int
    first_loss: float | None
    best: BestEpoch | None = None
    scoring: Any = None
    shares_rng: bool = field(default=False, compare=False)
    temperature: float = 1.0
    window: PartialFitWindow = field(default_factory=PartialFitWindow)

    def apart_from(self, shared: Sequence[Any]) -> WarmStartState:
        """Return this with copies of all random streams but the shared ones."""
        rngs = [
            rng if any(rng is each for each in shared) else copy.deepcopy(rng)
            for rng in self.state.rngs
        ]
        return replace(self, state=replace(self.state, rngs=rngs), shares_rng=False)

    @property
    def own(self) -> WarmStartState:
        """The same state, with a stream of its own to draw from."""
        return self.apart_from(()) if self.shares_rng else self

    @property
    def shown(self) -> tuple[Array, ArrayDict]:
        """The parameters and running statistics for the fitted attributes.

        Those of the best call of `partial_fit` are copies, so that later calls can tell whether
        the user has changed the attributes.
        """
        return self._predicting if self.best is None else copy.deepcopy(self._predicting)

    def is_behind(self, parameters: FlatParameters) -> bool:
        """Return whether fitted parameters were computed from this state, unchanged since.

        They are those of the best call, averages, or divided by a temperature.
        """
        if self.best is None and not self.state.average and self.temperature == 1.0:
            return False
        theta, statistics = self._predicting
        return np.array_equal(parameters.theta, theta) and all(
            np.array_equal(parameters.statistics[name], array)
            for name, array in statistics.items()
            if name != NUM_BATCHES_TRACKED  # of which users see nothing
        )

    @property
    def _predicting(self) -> tuple[Array, ArrayDict]:
        kept = snapshot_of(self.state) if self.best is None else self.best.snapshot
        theta, statistics = kept.inference_parameters
        if self.temperature != 1.0:
            own = self.state.parameters.like(theta, statistics)
            theta = own.scale_last_layer(self.temperature).theta
        return theta, statistics


class InitialState(NamedTuple):
    """The initial state of a network: its random stream, weights and past.

    Parameters
    ----------
    rng : RandomState
        Draws weights, split and order.
    weights : Parameters or None
        The weights to start from; None for new initial weights.
    past : WarmStartState or None
        The state of an earlier run to continue from.
    n_samples_seen : int
        The number of rows that earlier runs have been trained on.
    """

    rng: np.random.RandomState
    weights: Parameters | None
    past: WarmStartState | None
    n_samples_seen: int
