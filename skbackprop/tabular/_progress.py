"""Progress of a tabular fit: printed lines, and checkpoints to resume from."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.base import clone

from ..estimators._checkpoint_io import (
    EstimatorCheckpoint,
    array_checksum,
    check_settings,
    describe_values,
    prefix_checkpoint_errors,
    read_checkpoint,
    select_prefix,
    write_checkpoint,
)
from ..utils.arrays import Array, flatten_dict, join_keys, to_python_scalars, unflatten_dict

# Parameters that may differ when a fit is resumed. The encoded data depends on
# categorical_features, and is compared itself.
_FREE = {"time_limit", "verbose", "random_state", "categorical_features"}


# Long cycles have lines for some of their epochs, at least so many seconds apart.
_SECONDS_BETWEEN_LINES = 30


class FitProgress:
    """Prints the progress of a tabular fit, and reads and writes its checkpoints.

    Parameters
    ----------
    estimator : estimator
        The tabular estimator.
    start : float
        The start of the fit, by `time.perf_counter`.
    resume_from : str, path or None
        The file of a checkpoint to resume from.

    Attributes
    ----------
    is_stopped : bool
        Whether a callback has ended training.
    n_ensembles : int
        The number of network ensembles, set before training.
    n_ensembles_begun : int
        The number of ensembles whose training has begun.
    """

    def __init__(self, estimator: Any, start: float, resume_from: Any) -> None:
        self.estimator = estimator
        self.is_stopped = False
        self._name, self._start = type(estimator).__name__, start
        limit = estimator.time_limit
        self._end = math.inf if limit is None else start + limit
        self.n_ensembles, self.n_ensembles_begun, self._cycle = 1, 0, ""
        self._last_line = start
        self._cycles: dict[str, EstimatorCheckpoint] = {}  # the last of each cycle, by its name
        self._resumed: dict[str, Array] = {}
        self._stream: dict[str, Any] = {}
        self._data = 0  # the checksum of the data, at first that of the checkpoint
        self._settings: dict[str, str] = {}
        self._callbacks = [
            TabularCheckpointCallback(callback, self)
            if getattr(callback, "resumes", False)
            else callback
            for callback in getattr(estimator, "_skl_callbacks", [])
            if not hasattr(callback, "max_propagation_depth")  # others are propagated
        ]
        if estimator.verbose:
            self._callbacks.append(EpochPrinter(self))
        is_saved = any(isinstance(each, TabularCheckpointCallback) for each in self._callbacks)
        if resume_from is not None or is_saved:
            # Describe the settings before training, which may change values that functions of the
            # user refer to. Clones ignore whether the estimators of blend are fitted.
            parameters = estimator.get_params(deep=False)
            values = {name: clone(value, safe=False) for name, value in parameters.items()}
            self._settings = describe_values(values, _FREE)
        if resume_from is not None:
            self._path = Path(resume_from)
            header, self._resumed = read_checkpoint(self._path)
            check_settings(header, self._name, self._settings)
            self._data = header["data"]

    # ---------------------------------------------------------------------- checkpoints

    def start_stream(self, rng: np.random.RandomState) -> np.random.RandomState:
        """Return the random stream of the fit, in the state of the checkpoint if resumed."""
        if self._resumed:
            if self.estimator.random_state is None:  # do not change the global stream
                rng = np.random.RandomState()
            with prefix_checkpoint_errors(self._path):
                state = unflatten_dict(select_prefix(self._resumed, "stream"))
                rng.set_state(to_python_scalars(state))
        self._stream = dict(rng.get_state(legacy=False))
        return rng

    def check_data(self, arrays: Sequence[Any]) -> None:
        """Check that the data of a resumed fit is that of the checkpoint."""
        checked = [np.zeros(0) if array is None else array for array in arrays]
        data = array_checksum(checked, np.dtype(float))
        if self._resumed and data != self._data:
            raise ValueError(
                "resume_from: the checkpoint is of other data. Pass to fit the same X, y, "
                "sample_weight, groups and X_val as before, with the same categorical_features, or "
                "fit without resume_from to start again."
            )
        self._data = data

    def begin_cycle(self, networks: Any, index: int) -> tuple[Mapping[str, Array], Path] | None:
        """Set the callbacks of networks for a cycle; return the checkpoint to resume from."""
        self._cycle = f"{self.n_ensembles_begun}_{index}"
        networks.set_callbacks(*self._callbacks)
        arrays = select_prefix(self._resumed, "cycles", self._cycle)
        return (arrays, self._path) if arrays else None

    def save(self, checkpoint: EstimatorCheckpoint, path: Path) -> None:
        """Write a checkpoint of all cycles, with a new one of the current cycle.

        Cycles that a resumed fit has not reached yet are written as they were read.
        """
        self._cycles[self._cycle] = checkpoint
        arrays = dict(flatten_dict("stream", self._stream))
        for name, array in select_prefix(self._resumed, "cycles").items():
            arrays[join_keys("cycles", name)] = array
        for cycle, each in self._cycles.items():
            for name in select_prefix(arrays, "cycles", cycle):
                del arrays[join_keys("cycles", cycle, name)]
            for name, array in each.to_arrays().items():
                arrays[join_keys("cycles", cycle, name)] = array
        write_checkpoint(path, self._name, self._settings, self._data, arrays)

    # --------------------------------------------------------------------- printed lines

    def print_line(self, text: str, seconds_left: float = math.inf) -> None:
        """Print a line if the estimator is verbose, with the time left if it is known."""
        if not self.estimator.verbose:
            return
        now = self._last_line = time.perf_counter()
        limit = max(self._end - now, 0.0)
        left = min(seconds_left, limit)
        bound = "about" if left < limit else "at most"
        remaining = f", {bound} {left:.1f}s left" if 0 < left < math.inf else ""
        print(f"[{self._name}] {text}{remaining}", flush=True)

    def print_cycle(
        self, cycles: Sequence[int], index: int, cycle: Any, seconds: float, is_kept: bool
    ) -> None:
        """Print a line about a cycle, given its duration.

        The time left is estimated from the time per epoch, as if this and all other ensembles
        trained for the given cycles, of which more may follow.
        """
        n_epochs = cycles[index]
        if not cycle.is_complete:
            n_epochs = int(cycle.n_iter.max()) - sum(cycles[:index])
        n_left = sum(cycles[index + 1 :])
        n_left += (self.n_ensembles - self.n_ensembles_begun) * sum(cycles)
        position = f"ensemble {self.n_ensembles_begun} of {self.n_ensembles}, cycle {index + 1}"
        result = f"{n_epochs} epoch(s) in {seconds:.1f}s, validation loss {cycle.loss:.4g}"
        kept = "" if is_kept else " (not kept)"
        self.print_line(f"{position}: {result}{kept}", seconds / max(n_epochs, 1) * n_left)

    def print_epoch(self, n_epochs: int, max_iter: int) -> None:
        """Print a line about an epoch of a cycle, if there was none for a while."""
        if time.perf_counter() - self._last_line >= _SECONDS_BETWEEN_LINES:
            position = f"ensemble {self.n_ensembles_begun} of {self.n_ensembles}"
            self.print_line(f"{position}: epoch {n_epochs} of {max_iter} in this cycle")

    def print_end(self, score: float | None) -> None:
        """Print the last line, with the out-of-fold score if there is one."""
        result = "" if score is None else f", oof_score_={score:.4g}"
        self._end = math.inf
        self.print_line(f"done in {time.perf_counter() - self._start:.1f}s{result}")


class EpochPrinter:
    """Callback of networks that prints a line after an epoch if the last line is not recent.

    Parameters
    ----------
    progress : FitProgress
        Prints the lines.
    """

    def __init__(self, progress: FitProgress) -> None:
        self._progress = progress

    def setup(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(self, estimator: Any, context: Any) -> None:
        """Print a line after an epoch, except for the last one."""
        n_epochs = context.task_id + 1
        if context.task_name == "epoch" and n_epochs < estimator.max_iter:
            self._progress.print_epoch(n_epochs, estimator.max_iter)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing."""


class TabularCheckpointCallback:
    """Callback of networks that saves the whole tabular fit, for the `Checkpoint` of the user.

    Parameters
    ----------
    checkpoint : Checkpoint
        The callback of the user.
    progress : FitProgress
        Writes the checkpoint.
    """

    resumes = True

    def __init__(self, checkpoint: Any, progress: FitProgress) -> None:
        self._checkpoint, self._progress = checkpoint, progress

    def setup(self, estimator: Any, context: Any) -> None:
        """Do nothing: the user's callback was set up by the tabular fit."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Save if a checkpoint is due after this epoch, or the cycle is over."""
        if fitted_estimator is not None:
            save = partial(self._progress.save, fitted_estimator._resumable)
            self._checkpoint._save_if_due(context, fitted_estimator, save)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing: the last checkpoint stays."""
