"""A network that is trained in pieces: a run that stays bound to its memory between two calls.

To set up a run and its stack takes several times as long as a step on a few rows. So of a small
network `partial_fit` keeps them, and only other rows come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..nn.data_loader import Dataset
from .history import WarmStartState
from .loop import StackTraining, TrainingLoop
from .model_stacks import fits_into_cache
from .rng import RngBookmark, is_global_rng
from .task import TrainingTask
from .training_run import TrainingRun


class PartialFitSession:
    """A run of `partial_fit` that goes on, call by call, with other rows in the same memory.

    What it trains is its own: of each call it leaves copies, in a `WarmStartState`. So nothing but
    the stream is to be set back where a call fails; the next begins another run, of the past that
    there is.

    Parameters
    ----------
    run : Run
        A run that has not begun.
    is_shared : bool
        Whether others draw from its stream as well.

    Attributes
    ----------
    run : Run
        The run, as it is now.
    past : Past or None
        What it has left after the last call; None while it is in the midst of one.
    loop : TrainingLoop
        Trains the run for the epoch of a call.
    """

    def __init__(self, run: TrainingRun, is_shared: bool) -> None:
        self.run = run
        (rng,) = run.state.rngs
        self._bookmark: RngBookmark | None = None
        if rng is not None and run.config.shuffle:
            self._bookmark = RngBookmark(rng, is_shared, run.n_train)
        self.past: WarmStartState | None = None
        self._stack = StackTraining([run])
        self.loop = TrainingLoop([self._stack])
        run.copies_state = True

    def accepts(self, table: Dataset) -> bool:
        """Return whether rows fit into the memory that is bound: as many, and alike."""
        last = self.run.table
        is_alike = not table.is_sparse and (table.weight is None) == (last.weight is None)
        return is_alike and table.n_rows == last.n_rows

    def continue_with(self, problem: TrainingTask) -> None:
        """Take the rows of a further call, and take note of where the stream stands before it."""
        self.past = None
        if self._bookmark is not None:
            self._bookmark.move_here()
        self.run.continue_with(problem)
        self._stack.continue_with_new_data()

    def undo(self) -> None:
        """Set the stream back to where it stood before the call."""
        if self._bookmark is not None:
            self._bookmark.go_back()


def make_partial_fit_session(
    runs: Sequence[TrainingRun], random_state: Any
) -> PartialFitSession | None:
    """Return what binds the runs of a call of `partial_fit`; None where that is of no use.

    Beside the steps of large networks it would gain nothing, and take memory between the calls.
    """
    run = runs[0]
    if len(runs) > 1 or run.table.is_sparse or not run.problem.is_local:
        return None
    n_rows = run.table.n_rows + (run.watched.table.n_rows if run.watched else 0)
    settings = run.network, n_rows, run.problem.dtype.itemsize, run.config.n_moments
    if not fits_into_cache(*settings):
        return None
    return PartialFitSession(
        run, any(is_global_rng(each, random_state) for each in run.state.rngs if each)
    )
