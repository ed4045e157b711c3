"""Checkpoints of a tabular fit, which resumes after its last complete training cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..estimators._checkpoint import (
    describe_fit,
    not_readable,
    read_checkpoint,
    select_state,
    write_checkpoint,
)
from ..utils.arrays import Array, flatten_dict, join_keys, to_python_scalars, unflatten_dict

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
        self._estimator = estimator
        callbacks = getattr(estimator, "_skl_callbacks", [])
        self._callbacks = [each for each in callbacks if getattr(each, "resumes", False)]
        self._path = Path(resume_from or "")
        self._read = {} if resume_from is None else read_checkpoint(self._path)
        self._described: dict[str, Array] = {}
        self._arrays = {
            name.removeprefix("state/"): array
            for name, array in self._read.items()
            if name.startswith("state/")
        }

    def start_stream(self, rng: np.random.RandomState) -> np.random.RandomState:
        """Return the random stream of the fit; that of the first fit if it is resumed."""
        if self._read:
            rng = np.random.RandomState()
            try:
                state = unflatten_dict(_select(self._arrays, "stream"))
                rng.set_state(to_python_scalars(state))
            except Exception as error:
                raise not_readable(self._path) from error
        elif self._callbacks:
            self._arrays = dict(flatten_dict("stream", rng.get_state(legacy=False)))
        return rng

    def check_data(self, data: Sequence[Any]) -> None:
        """Check that parameters and data of a resumed fit are those of the checkpoint."""
        if self._read or self._callbacks:
            self._described = describe_fit(self._estimator, data, _FREE)
        if self._read:
            select_state(self._read, self._described)

    def read(self, cycle: str) -> tuple[Mapping[str, Array], Path] | None:
        """Return the networks after a cycle as arrays, and their file; None if it has none."""
        arrays = _select(self._arrays, join_keys("cycles", cycle))
        return (arrays, self._path) if arrays else None

    def save(self, cycle: str, networks: Any) -> None:
        """Write the file of each callback, with the networks after one more cycle."""
        if self._callbacks:
            for name, array in networks.cycle_arrays().items():
                self._arrays[join_keys("cycles", cycle, name)] = array
        for callback in self._callbacks:
            write_checkpoint(callback.path, self._described, self._arrays)


def _select(arrays: Mapping[str, Array], prefix: str) -> dict[str, Array]:
    """Return the arrays whose names begin with a prefix, by the rest of their names."""
    start = join_keys(prefix, "")
    return {name.removeprefix(start): arrays[name] for name in arrays if name.startswith(start)}
