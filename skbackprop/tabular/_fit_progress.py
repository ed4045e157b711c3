"""Progress of a tabular fit: printed lines, callbacks of its networks, and checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
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
from ..utils.arrays import Array
from ..utils.flatten import flatten_dict, join_path, to_python_scalars, unflatten_dict

# The parameters that may be others when a fit is resumed.
_FREE = {"time_limit", "verbose", "random_state"}
# What is known with the data, as it is encoded.
_FREE |= {"categorical_features"}


class FitProgress:
    """Reports how far a fit of a tabular estimator is, and keeps what it can be resumed from.

    Parameters
    ----------
    estimator : estimator
        The tabular estimator.
    start : float
        When the fit began, by `time.perf_counter`.
    n_ensembles : int
        The number of ensembles of networks that are trained.
    resume_from : str, path or None
        The file of a checkpoint to go on from.

    Attributes
    ----------
    is_stopped : bool
        Whether a callback has ended training.
    """

    def __init__(self, estimator: Any, start: float, n_ensembles: int, resume_from: Any) -> None:
        self.estimator, self.n_ensembles = estimator, n_ensembles
        self.is_stopped = False
        self._name, self._start = type(estimator).__name__, start
        limit = estimator.time_limit
        self._end = math.inf if limit is None else self._start + limit
        self._n_begun, self._leg = 0, ""
        self._legs: dict[str, EstimatorCheckpoint] = {}  # of this fit, by the name of each
        self._resumed: dict[str, Array] = {}
        self._stream: dict[str, Any] = {}
        self._data = 0  # the checksum of the checkpoint's, then of its own
        self._settings: dict[str, str] = {}
        self._callbacks = [
            NetworkCheckpoint(callback, self) if getattr(callback, "resumes", False) else callback
            for callback in getattr(estimator, "_skl_callbacks", [])
            if not hasattr(callback, "max_propagation_depth")  # others are propagated
        ]
        is_saved = any(isinstance(each, NetworkCheckpoint) for each in self._callbacks)
        if resume_from is not None or is_saved:
            # Now: what a user's own functions refer to may change while they are called. Of the
            # estimators of blend the parameters count, and not whether they are fitted.
            given = estimator.get_params(deep=False)
            values = {name: clone(value, safe=False) for name, value in given.items()}
            self._settings = describe_values(values, _FREE)
        if resume_from is not None:
            self._path = Path(resume_from)
            what, self._resumed = read_checkpoint(self._path)
            check_settings(what, self._name, self._settings)
            self._data = what["data"]

    # ---------------------------------------------------------------------- checkpoints

    def start_stream(self, rng: np.random.RandomState) -> np.random.RandomState:
        """Return the stream that the fit draws from, where it was at the checkpoint if resumed."""
        if self._resumed:
            if self.estimator.random_state is None:  # all programs share the global one
                rng = np.random.RandomState()
            with prefix_checkpoint_errors(self._path):
                rng.set_state(
                    to_python_scalars(unflatten_dict(select_prefix(self._resumed, "stream")))
                )
        self._stream = dict(rng.get_state(legacy=False))
        return rng

    def check_data(self, arrays: Sequence[Array | None]) -> None:
        """Check that the data of a resumed fit is that of the checkpoint."""
        known = [np.zeros(0) if array is None else array for array in arrays]
        data = array_checksum(known, np.dtype(float))
        if self._resumed and data != self._data:
            raise ValueError(
                "resume_from: the checkpoint is of other data. Give fit the X, y, sample_weight "
                "and groups that it had, and the X_val, with the same categorical_features, or "
                "train anew without resume_from."
            )
        self._data = data

    def begin_ensemble(self) -> None:
        """Take note that the next ensemble of networks begins."""
        self._n_begun += 1

    def begin_leg(self, networks: Any, leg: int) -> None:
        """Give networks the callbacks of the user, and what they have to be resumed from."""
        self._leg = f"{self._n_begun}_{leg}"
        own = select_prefix(self._resumed, "legs", self._leg)
        networks._resumed_from = (own, self._path) if own else None
        networks.set_callbacks(*self._callbacks)

    def save(self, resumable: EstimatorCheckpoint, path: Path) -> None:
        """Write a checkpoint of all legs so far, of which the last is as given.

        Those that a resumed fit has not come to yet stay as they were.
        """
        self._legs[self._leg] = resumable
        arrays = dict(flatten_dict("stream", self._stream))
        for leg, each in self._legs.items():
            for name, array in each.to_arrays().items():
                arrays[join_path("legs", leg, name)] = array
        known = select_prefix(self._resumed, "legs")
        for leg in unflatten_dict(known).keys() - self._legs:
            arrays |= {
                join_path("legs", leg, name): array
                for name, array in select_prefix(known, leg).items()
            }
        write_checkpoint(path, self._name, self._settings, self._data, arrays)

    # --------------------------------------------------------------------- printed lines

    def print_line(self, text: str, seconds_left: float = math.inf) -> None:
        """Print a line if the user wants lines; with the time that is left, if it is known."""
        if not self.estimator.verbose:
            return
        left = min(seconds_left, max(self._end - time.perf_counter(), 0.0))
        known = f", at most {left:.1f}s left" if 0 < left < math.inf else ""
        print(f"[{self._name}] {text}{known}", flush=True)

    def print_leg(
        self, legs: Sequence[int], at: int, leg: Any, seconds: float, is_kept: bool
    ) -> None:
        """Print a line on a leg that has taken so many seconds, at a position among all legs.

        The time that is left is estimated from the time of its epochs, as if no ensemble to come
        ended early.
        """
        n_epochs = legs[at] if leg.is_whole else int(leg.n_iter.max()) - sum(legs[:at])
        n_left = (sum(legs[at + 1 :]) if is_kept else 0) + (self.n_ensembles - self._n_begun) * sum(
            legs
        )
        where = f"ensemble {self._n_begun} of {self.n_ensembles}, leg {at + 1} of {len(legs)}"
        done = f"{n_epochs} epoch(s) in {seconds:.1f}s, validation loss {leg.loss:.4g}"
        kept = "" if is_kept else " (not kept)"
        self.print_line(f"{where}: {done}{kept}", seconds / max(n_epochs, 1) * n_left)

    def print_end(self, score: float | None) -> None:
        """Print a line on the whole fit."""
        known = "" if score is None else f", oof_score_={score:.4g}"
        self._end = math.inf
        self.print_line(f"done in {time.perf_counter() - self._start:.1f}s{known}")


class NetworkCheckpoint:
    """A user's `Checkpoint`, which the networks of a leg have in its place.

    Parameters
    ----------
    checkpoint : Checkpoint
        The user's.
    progress : FitProgress
        What knows the legs before.
    """

    resumes = True

    def __init__(self, checkpoint: Any, progress: FitProgress) -> None:
        self._checkpoint, self._progress = checkpoint, progress

    def setup(self, estimator: Any, context: Any) -> None:
        """Do nothing: the user's was set up with the fit of the table."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Save, if it is the turn of this epoch or the leg is over."""
        if fitted_estimator is not None:
            save = partial(self._progress.save, fitted_estimator._resumable)
            self._checkpoint._save_if_due(context, fitted_estimator, save)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing: the last checkpoint stays."""
