"""Resume training from the state of another fit, in searches.

To seed a stream and draw weights takes as long as an epoch of a small network. A search does it
once for all candidates of a split with the same seed, and not again when training resumes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

from ..nn.parameters import FlatParameters, ParameterLayout
from ..nn.train_state import TrainState
from ..training.checkpoint import TrainingCheckpoint
from ..training.run_states import InitialState, WarmStartState
from ..training.training_run import TrainingRun
from ..utils.arrays import Array, ArrayDict, IndexArray


class ParameterArrays(NamedTuple):
    """Parameters without their layout, which may contain user-defined functions.

    Parameters
    ----------
    theta : array of shape (1, n_parameters)
        The trainable parameters.
    statistics : dict
        The running statistics.
    """

    theta: Array
    statistics: ArrayDict


class ResumeState(NamedTuple):
    """The training state of an estimator, for another one like it to resume from.

    Parameters
    ----------
    data : int
        The fingerprint of the data.
    checkpoints : list of TrainingCheckpoint
        The checkpoint of each network, with `ParameterArrays` as parameters. They may share orders
        and streams, since they are read-only.
    """

    data: int
    checkpoints: list[TrainingCheckpoint]

    @classmethod
    def of(cls, runs: Sequence[TrainingRun], data: int) -> ResumeState:
        """Return the state of runs."""
        return cls(
            data,
            [
                _with_parameters(
                    run.checkpoint, ParameterArrays(run.parameters.theta, run.parameters.statistics)
                )
                for run in runs
            ],
        )

    def start(self, layout: ParameterLayout, n_rows: int) -> InitialState:
        """Return the initial state of a single network, for which nothing has to be drawn."""
        (checkpoint,) = self.checkpoints
        return _initial_state(_with_layout(checkpoint, layout).state, n_rows, checkpoint.split)

    def resume(self, runs: Sequence[TrainingRun]) -> None:
        """Resume runs from this state."""
        for run, checkpoint in zip(runs, self.checkpoints, strict=True):
            checkpoint = _with_layout(checkpoint, run.network.layout)
            run.resume(replace(checkpoint, state=checkpoint.state.shallow_copy()))


def initial_state_of(run: TrainingRun) -> InitialState:
    """Return the initial state of a run, before its first epoch, for another one."""
    return _initial_state(run.state, run.table.n_rows, run.checkpoint.split)


def _initial_state(
    state: TrainState, n_rows: int, split: tuple[IndexArray, IndexArray] | None
) -> InitialState:
    """Return an initial state with the weights, split, order and streams of a state."""
    drawn = replace(state, optimizer={}, schedule={}, average={})
    (rng,) = state.rngs
    assert rng is not None  # runs have one, even without shuffling
    return InitialState(rng, state.parameters, WarmStartState(drawn, n_rows, split, 0, None), 0)


def _with_parameters(
    checkpoint: TrainingCheckpoint, parameters: ParameterArrays | FlatParameters
) -> TrainingCheckpoint:
    return replace(checkpoint, state=replace(checkpoint.state, parameters=cast(Any, parameters)))


def _with_layout(checkpoint: TrainingCheckpoint, layout: ParameterLayout) -> TrainingCheckpoint:
    arrays = checkpoint.state.parameters
    parameters = FlatParameters(arrays.theta, arrays.statistics, layout)
    return _with_parameters(checkpoint, parameters)
