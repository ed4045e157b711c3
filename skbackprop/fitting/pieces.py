"""A network that is trained in pieces: a run that stays bound to its memory between two calls.

To set up a run and its stack takes several times as long as a step on a few rows. So of a small
network `partial_fit` keeps them, and only other rows come.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..engine.batches import Table
from .course import Past
from .descent import Descent
from .interrupts import Interrupt
from .problem import Problem
from .run import Run
from .sizes import fits_into_cache
from .streams import Bookmark, is_shared
from .training import train_descents


class Pieces:
    """A run of `partial_fit` that goes on, call by call, with other rows in the same memory.

    What it trains is its own: of each call it leaves copies, in a `Past`. So nothing but the
    stream is to be set back where a call fails; the next begins another run, of the past that
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
    """

    def __init__(self, run: Run, is_shared: bool) -> None:
        self.run = run
        (stream,) = run.state.streams
        self._bookmark: Bookmark | None = None
        if stream is not None and run.plan.shuffle:
            self._bookmark = Bookmark(stream, is_shared, run.n_train)
        self.past: Past | None = None
        self._descent = Descent([run])
        run.leaves_copies = True

    def takes(self, table: Table) -> bool:
        """Return whether rows fit into the memory that is bound: as many, and alike."""
        last = self.run.table
        is_alike = not table.is_sparse and (table.weight is None) == (last.weight is None)
        return is_alike and table.n_rows == last.n_rows

    def go_on(self, problem: Problem) -> None:
        """Take the rows of a further call, and take note of where the stream stands before it."""
        self.past = None
        if self._bookmark is not None:
            self._bookmark.move_here()
        self.run.go_on(problem)
        self._descent.go_on()

    def train(self) -> Interrupt | None:
        """Train for an epoch; return the interrupt that ended it, if one did."""
        return train_descents([self._descent])

    def undo(self) -> None:
        """Set the stream back to where it stood before the call."""
        if self._bookmark is not None:
            self._bookmark.go_back()


def pieces_of(runs: Sequence[Run], random_state: Any) -> Pieces | None:
    """Return what binds the runs of a call of `partial_fit`; None where that is of no use.

    Beside the steps of large networks it would gain nothing, and take memory between the calls.
    """
    run = runs[0]
    if len(runs) > 1 or run.table.is_sparse or not run.problem.is_here:
        return None
    n_rows = run.table.n_rows + (run.watched.table.n_rows if run.watched else 0)
    settings = run.network, n_rows, run.problem.dtype.itemsize, run.plan.n_moments
    if not fits_into_cache(*settings):
        return None
    return Pieces(run, any(is_shared(each, random_state) for each in run.state.streams if each))
