"""How far a run has come, and what it leaves behind: values, each put in place of the last."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from ..layers.base import NUM_BATCHES_TRACKED
from ..nn.parameters import FlatParameters, averaged_parameters
from ..nn.train_state import TrainState
from ..utils.arrays import Array, ArrayDict, IndexArray
from ..utils.stack_members import index_state

StopReason: TypeAlias = Literal["converged", "unconverged", "time_limit", "stopped", "diverged"]
"""What ends training; "stopped" is by Ctrl-C or a callback."""


class ParameterSnapshot(NamedTuple):
    """What a network predicts with, and what training would go on from.

    Parameters
    ----------
    theta : array of shape (1, p)
        The raw parameters.
    statistics, average : dict
        The states of running statistics and of the average; empty where there are none.
    """

    theta: Array
    statistics: ArrayDict
    average: ArrayDict

    @property
    def inference_parameters(self) -> tuple[Array, ArrayDict]:
        """The parameters and running statistics to predict with: averages, if any are taken."""
        if not self.average:
            return self.theta, self.statistics
        return averaged_parameters(self.theta, self.statistics, self.average)


def snapshot_of(state: TrainState) -> ParameterSnapshot:
    """Return what the only member of a state has, as it stands."""
    return ParameterSnapshot(state.parameters.theta, state.parameters.statistics, state.average)


def copy_member_snapshot(state: TrainState, i: int) -> ParameterSnapshot:
    """Return copies of what a member has."""
    rows = np.array([i])
    return ParameterSnapshot(
        state.parameters.theta[rows],
        index_state(state.parameters.statistics, rows),
        index_state(state.average, rows),
    )


class BestEpoch(NamedTuple):
    """The epoch with the best validation score so far; its number is 0 in an earlier call."""

    score: float
    n_iter: int
    kept: ParameterSnapshot


class EpochRecord(NamedTuple):
    """How far a run has come: all that an epoch is recorded by, in one value.

    An epoch has happened once its course has taken the place of the last one.
    """

    n_iter: int = 0
    loss: float = math.inf
    best: BestEpoch | None = None

    def after(
        self,
        loss: float,
        score: float | None,
        kept: Callable[[], ParameterSnapshot],
        *,
        last_of_equals: bool,
    ) -> EpochRecord:
        """Return the course after one more epoch or iteration.

        Parameters
        ----------
        loss : float
            Its loss.
        score : float or None
            Its validation score, if any was taken.
        kept : callable
            Returns copies of what it has led to; it is called if the score is the best.
        last_of_equals : bool
            Whether of equally good ones the last is the best.
        """
        n_iter, best = self.n_iter + 1, self.best
        if score is not None:
            limit = -math.inf if best is None else best.score
            if score > limit or (best is not None and last_of_equals and score == limit):
                best = BestEpoch(score, n_iter, kept())
        return EpochRecord(n_iter, loss, best)


class Window(NamedTuple):
    """Sums over the rows of consecutive calls of `partial_fit`, by which divergence is judged.

    Parameters
    ----------
    n_rows : int
        The number of rows.
    loss : float
        The sum of their losses.
    loss_of_zero_scores : float or None
        The sum of what their losses would be if all raw scores were zero; None if not computed.
    """

    n_rows: int = 0
    loss: float = 0.0
    loss_of_zero_scores: float | None = None


@dataclass(frozen=True)
class WarmStartState:
    """What a run leaves for a later one to go on from.

    Parameters
    ----------
    state : TrainingState
        That of the epoch that training goes on from: of `fit` the one that is kept, but for
        moments, schedule, order and streams, which are those of the last; of `partial_fit` the
        last.
    n_rows : int
        The number of rows that there were.
    split : pair of Rows or None
        The rows to train on and those held out; None where early stopping has never split.
    n_epochs : int
        The epochs of `partial_fit` since the last `fit`.
    first_loss : float or None
        The loss of the first of them; None before any.
    best : Best or None, default=None
        The best of those that were scored, which is the one that is kept; None before any.
    scoring : str, callable or None, default=None
        What they were scored by.
    shares_rng : bool, default=False
        Whether others have the very same stream, so that who goes on has to take a copy.
    temperature : float, default=1.0
        What scores are divided by for predictions; training goes on without it.
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
    window: Window = field(default_factory=Window)

    def apart_from(self, shared: Sequence[Any]) -> WarmStartState:
        """Return the same with copies of the streams, but for those that are to be shared."""
        rngs = [
            rng if any(rng is each for each in shared) else copy.deepcopy(rng)
            for rng in self.state.rngs
        ]
        return replace(self, state=replace(self.state, rngs=rngs), shares_rng=False)

    @property
    def own(self) -> WarmStartState:
        """The same with a stream that can be drawn from."""
        return self.apart_from(()) if self.shares_rng else self

    @property
    def shown(self) -> tuple[Array, ArrayDict]:
        """The parameters and running statistics to predict with, for users to change.

        Those of the best of several calls are copies, by which later calls tell whether they are
        what they were.
        """
        return self._predicting if self.best is None else copy.deepcopy(self._predicting)

    def is_behind(self, parameters: FlatParameters) -> bool:
        """Return whether parameters are what was kept in place of this state's own.

        These are the best call's, averages, or divided by a temperature.
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
        kept = snapshot_of(self.state) if self.best is None else self.best.kept
        theta, statistics = kept.inference_parameters
        if self.temperature != 1.0:
            own = self.state.parameters.like(theta, statistics)
            theta = own.scale_last_layer(self.temperature).theta
        return theta, statistics
