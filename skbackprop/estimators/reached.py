"""What a fit begins with that is known already: where another one stands, or has begun.

To seed a stream and to draw weights takes as long as an epoch of a small network. A search does it
once for all candidates of a split that have one seed, and not again for those that go on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple, cast

from ..core.arrays import Array, Rows, State
from ..engine.parameters import FlatParameters, Layout
from ..engine.state import TrainingState
from ..fitting.course import Past
from ..fitting.folds import Start
from ..fitting.moment import Moment
from ..fitting.run import Run


class Bare(NamedTuple):
    """Parameters without their layout, which may hold functions of a user's own.

    Parameters
    ----------
    theta : array of shape (1, n_parameters)
        All that steps change.
    statistics : dict
        The running statistics.
    """

    theta: Array
    statistics: State


class Reached(NamedTuple):
    """How far the training of an estimator has come, for another one like it to go on from.

    Parameters
    ----------
    data : int
        What the data is known by.
    moments : list of Moment
        That of each network, with parameters that are `Bare`. Several may share orders and streams,
        since nobody changes them.
    """

    data: int
    moments: list[Moment]

    @classmethod
    def of(cls, runs: Sequence[Run], data: int) -> Reached:
        """Return how far runs have come."""
        return cls(
            data,
            [
                _with_parameters(run.moment, Bare(run.parameters.theta, run.parameters.statistics))
                for run in runs
            ],
        )

    def start(self, layout: Layout, n_rows: int) -> Start:
        """Return what a single network begins with, for `resume` to find nothing to draw."""
        (moment,) = self.moments
        return _start_at(_laid_out(moment, layout).state, n_rows, moment.split)

    def resume(self, runs: Sequence[Run]) -> None:
        """Let runs go on from here."""
        for run, moment in zip(runs, self.moments, strict=True):
            moment = _laid_out(moment, run.network.layout)
            run.resume(replace(moment, state=moment.state.snapshot()))


def beginning_of(run: Run) -> Start:
    """Return what a run begins with that is to begin as this one has, which has not gone on yet."""
    return _start_at(run.state, run.table.n_rows, run.moment.split)


def _start_at(state: TrainingState, n_rows: int, split: tuple[Rows, Rows] | None) -> Start:
    """Return a start with the weights, split, order, masks and stream of a state."""
    drawn = replace(state, optimizer={}, schedule={}, average={})
    (stream,) = state.streams
    assert stream is not None  # a run has one, also where it does not shuffle
    return Start(stream, state.parameters, Past(drawn, n_rows, split, 0, None), 0)


def _with_parameters(moment: Moment, parameters: Bare | FlatParameters) -> Moment:
    return replace(moment, state=replace(moment.state, parameters=cast(Any, parameters)))


def _laid_out(moment: Moment, layout: Layout) -> Moment:
    bare = moment.state.parameters
    return _with_parameters(moment, FlatParameters(bare.theta, bare.statistics, layout))
