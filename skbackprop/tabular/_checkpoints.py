"""Checkpoints of a tabular fit, which resumes after its last complete training cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..estimators._checkpoint_io import (
    array_checksum,
    check_settings,
    prefix_checkpoint_errors,
    read_checkpoint,
    select_prefix,
    write_checkpoint,
)
from ..utils.arrays import Array, flatten_dict, join_keys, to_python_scalars, unflatten_dict
from ..utils.atomic_write import prefix_file_errors

# Parameters that may differ when a fit is resumed.
_FREE = {"verbose", "random_state"}


class CycleCheckpoints:
    """The networks after each complete training cycle, in the file of a callback `Checkpoint`.

    A resumed fit takes the same steps as the first one, but for cycles that the file has.

    Parameters
    ----------
    estimator : estimator
        The tabular estimator.
    resume_from : str, path or None
        The file to resume from.
    """

    def __init__(self, estimator: Any, resume_from: Any) -> None:
        self._name = type(estimator).__name__
        parameters = estimator.get_params(deep=False).items()
        self._settings = {name: repr(value) for name, value in parameters if name not in _FREE}
        callbacks = getattr(estimator, "_skl_callbacks", [])
        self._callbacks = [each for each in callbacks if getattr(each, "resumes", False)]
        self._path, self._data = Path(resume_from or ""), 0
        self._arrays: dict[str, Array] = {}
        if resume_from is not None:
            header, self._arrays = read_checkpoint(self._path)
            check_settings(header, self._name, self._settings)
            self._data = header["data"]

    def start_stream(self, rng: np.random.RandomState) -> np.random.RandomState:
        """Return the random stream of the fit; that of the first fit if it is resumed."""
        if self._arrays:
            rng = np.random.RandomState()
            with prefix_checkpoint_errors(self._path):
                state = unflatten_dict(select_prefix(self._arrays, "stream"))
                rng.set_state(to_python_scalars(state))
        elif self._callbacks:
            self._arrays = dict(flatten_dict("stream", rng.get_state(legacy=False)))
        return rng

    def check_data(self, arrays: Sequence[Any]) -> None:
        """Check that the data of a resumed fit is that of the checkpoint."""
        if not self._arrays:
            return
        checked = [np.zeros(0) if array is None else array for array in arrays]
        data = array_checksum(checked, np.dtype(float))
        if self._data not in (0, data):
            raise ValueError(
                "resume_from: the checkpoint is of other data. Pass to fit the same X, y, "
                "sample_weight, groups and X_val as before, or fit without resume_from to start "
                "again."
            )
        self._data = data

    def read(self, cycle: str) -> tuple[Mapping[str, Array], Path] | None:
        """Return the networks after a cycle as arrays, and their file; None if it has none."""
        arrays = select_prefix(self._arrays, "cycles", cycle)
        return (arrays, self._path) if arrays else None

    def save(self, cycle: str, networks: Any) -> None:
        """Write the file of each callback, with the networks after one more cycle."""
        if self._callbacks:
            for name, array in networks.cycle_arrays().items():
                self._arrays[join_keys("cycles", cycle, name)] = array
        for callback in self._callbacks:
            with prefix_file_errors(callback, callback.path):
                write_checkpoint(
                    callback.path, self._name, self._settings, self._data, self._arrays
                )
