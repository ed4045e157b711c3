"""Session of `partial_fit`, which keeps the run and its buffers between calls.

To set up a run and its stack takes several times as long as a step on a few rows. So `partial_fit`
of a small network keeps both, and only replaces the rows.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from ..nn.data_loader import Dataset
from .checkpoint import TrainingCheckpoint
from .loop import TrainingLoop
from .parallelism import CACHE_BYTES, bytes_per_member
from .training_run import TrainingRun
from .training_task import TrainingTask


class PartialFitSession:
    """A run of `partial_fit` that continues with other rows in the same buffers.

    It trains arrays of its own, and each call leaves copies in a `TrainingCheckpoint`. So after a
    call that fails only the random stream has to be reset; the next call starts a new session.

    Parameters
    ----------
    run : TrainingRun
        A run that has not begun.
    is_shared : bool
        Whether others draw from its random stream as well.

    Attributes
    ----------
    run : TrainingRun
        The run, as it is now.
    loop : TrainingLoop
        Trains the run for the epoch of a call.
    checkpoint : TrainingCheckpoint or None
        The state after the last call; None during a call.
    """

    def __init__(self, run: TrainingRun, is_shared: bool) -> None:
        self.run = run
        (rng,) = run.state.rngs
        self._rng = rng if run.config.shuffle else None
        self._rng_position: dict[str, Any] | None = None
        # To read the position of a stream takes NumPy as long as a step on a few rows. So a stream
        # of the session's own has a copy, which repeats each shuffle one call later.
        self._delayed_rng: np.random.RandomState | None = None
        self._is_shared, self._rows = is_shared, np.arange(run.n_train)
        self.checkpoint: TrainingCheckpoint | None = None
        self.loop = TrainingLoop([run])
        run.copies_state = True

    def accepts(self, table: Dataset) -> bool:
        """Return whether rows fit the buffers: as many, dense, and weighted or not as before."""
        last = self.run.table
        is_alike = not table.is_sparse and (table.weight is None) == (last.weight is None)
        return is_alike and table.n_rows == last.n_rows

    def continue_with(self, task: TrainingTask) -> None:
        """Take the rows of another call, and note the position of the random stream."""
        self.checkpoint = None
        if self._rng is not None:
            if self._is_shared:
                self._rng_position = self._rng.get_state(legacy=False)
            elif self._delayed_rng is None:
                self._delayed_rng = copy.deepcopy(self._rng)
            else:
                self._delayed_rng.shuffle(self._rows)
        self.run.continue_with(task)
        self.loop.stacks[0].continue_with_new_data()

    def restore_rng(self) -> None:
        """Set the random stream to its position before the call."""
        position = self._rng_position
        if self._delayed_rng is not None:
            position = self._delayed_rng.get_state(legacy=False)
        if self._rng is not None and position is not None:
            self._rng.set_state(position)


def make_partial_fit_session(
    runs: Sequence[TrainingRun], random_state: Any
) -> PartialFitSession | None:
    """Return a session for the runs of a `partial_fit`; None if it would not save time.

    With large networks it saves nothing, and takes memory between the calls.
    """
    run = runs[0]
    if len(runs) > 1 or run.table.is_sparse or not run.task.is_local:
        return None
    n_rows = run.table.n_rows + (run.validation_data.table.n_rows if run.validation_data else 0)
    settings = run.network, n_rows, run.task.dtype.itemsize, run.config.n_moments
    if bytes_per_member(*settings) > CACHE_BYTES:
        return None
    shared = random_state, check_random_state(None)  # the user's stream, or NumPy's global one
    is_shared = any(rng is each for rng in run.state.rngs if rng for each in shared)
    return PartialFitSession(run, is_shared)
