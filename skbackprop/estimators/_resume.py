"""What a fit begins with that is known already: where another one stands, or has begun.

To seed a stream and to draw weights takes as long as an epoch of a small network. A search does it
once for all candidates of a split that have one seed, and not again for those that go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

from ..nn.parameters import FlatParameters, ParameterLayout
from ..nn.train_state import TrainState
from ..training.checkpoint import TrainingCheckpoint
from ..training.folds import InitialState
from ..training.history import WarmStartState
from ..training.training_run import TrainingRun
from ..utils.arrays import Array, ArrayDict, IndexArray


class ParameterArrays(NamedTuple):
    """Parameters without their layout, which may hold functions of a user's own.

    Parameters
    ----------
    theta : array of shape (1, n_parameters)
        All that steps change.
    statistics : dict
        The running statistics.
    """

    theta: Array
    statistics: ArrayDict


class ResumeState(NamedTuple):
    """How far the training of an estimator has come, for another one like it to go on from.

    Parameters
    ----------
    data : int
        What the data is known by.
    moments : list of Moment
        That of each network, with parameters that are `ParameterArrays`. Several may share orders
        and streams, since nobody changes them.
    """

    data: int
    moments: list[TrainingCheckpoint]

    @classmethod
    def of(cls, runs: Sequence[TrainingRun], data: int) -> ResumeState:
        """Return how far runs have come."""
        return cls(
            data,
            [
                _with_parameters(
                    run.moment, ParameterArrays(run.parameters.theta, run.parameters.statistics)
                )
                for run in runs
            ],
        )

    def start(self, layout: ParameterLayout, n_rows: int) -> InitialState:
        """Return what a single network begins with, for `resume` to find nothing to draw."""
        (moment,) = self.moments
        return _start_at(_laid_out(moment, layout).state, n_rows, moment.split)

    def resume(self, runs: Sequence[TrainingRun]) -> None:
        """Let runs go on from here."""
        for run, moment in zip(runs, self.moments, strict=True):
            moment = _laid_out(moment, run.network.layout)
            run.resume(replace(moment, state=moment.state.shallow_copy()))


def initial_state_of(run: TrainingRun) -> InitialState:
    """Return what a run begins with that is to begin as this one has, which has not gone on yet."""
    return _start_at(run.state, run.table.n_rows, run.moment.split)


def _start_at(
    state: TrainState, n_rows: int, split: tuple[IndexArray, IndexArray] | None
) -> InitialState:
    """Return a start with the weights, split, order, masks and stream of a state."""
    drawn = replace(state, optimizer={}, schedule={}, average={})
    (rng,) = state.rngs
    assert rng is not None  # a run has one, also where it does not shuffle
    return InitialState(rng, state.parameters, WarmStartState(drawn, n_rows, split, 0, None), 0)


def _with_parameters(
    moment: TrainingCheckpoint, parameters: ParameterArrays | FlatParameters
) -> TrainingCheckpoint:
    return replace(moment, state=replace(moment.state, parameters=cast(Any, parameters)))


def _laid_out(moment: TrainingCheckpoint, layout: ParameterLayout) -> TrainingCheckpoint:
    bare = moment.state.parameters
    return _with_parameters(moment, FlatParameters(bare.theta, bare.statistics, layout))
