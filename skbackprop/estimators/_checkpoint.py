"""Checkpoint files: the training state of a fit, as arrays."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import numpy as np

from ..nn.train_state import TrainState
from ..utils.arrays import Array, ArrayDict


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Context with a binary file that takes the place of `path` when the context ends.

    After an error, an older file of this name stays as it was. An OSError names `path`.
    """
    draft = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        with draft.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        draft.unlink(missing_ok=True)


_FORMAT = "skbackprop checkpoint, version 3"

# Parameters that may change when training is resumed: how long to train, and what is printed. The
# random state is part of the checkpoint.
_FREE = {
    *("max_iter", "tol", "n_iter_no_change", "time_limit", "verbose", "warm_start"),
    "random_state",
}

# The number of rows that the checksum of data is computed from.
_CHECKED_ROWS = 1_000


def describe_fit(estimator: Any, data: Sequence[Any], free: Container[str] = _FREE) -> ArrayDict:
    """Return what a checkpoint and the fit that resumes it have in common, as arrays.

    Parameters
    ----------
    estimator : estimator
        The estimator. Its parameters are described by their repr, without addresses of objects.
    data : sequence of arrays, sparse matrices or None
        The data, of which only a checksum is kept.
    free : container of str
        The parameters that may differ.
    """
    described = {"format": np.array(_FORMAT), "class": np.array(type(estimator).__name__)}
    for name, value in estimator.get_params(deep=False).items():
        if name not in free:
            described[f"params/{name}"] = np.array(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)))
    checksum = compute_checksum([part for part in data if part is not None])
    return described | {"data": np.array(checksum)}


def compute_checksum(parts: Sequence[Any]) -> int:
    """Return a checksum of up to a thousand rows of arrays or sparse matrices."""
    checksum = 0
    for part in parts:
        some: Any = part[np.unique(np.linspace(0, part.shape[0] - 1, _CHECKED_ROWS).astype(int))]
        arrays = [some]
        if hasattr(some, "indptr"):  # a CSR matrix
            some.sort_indices()
            arrays = [some.indptr, some.indices, some.data]
        for array in (np.array(part.shape), *arrays):
            checksum = zlib.crc32(np.ascontiguousarray(array, np.float64).tobytes(), checksum)
    return checksum


def write_checkpoint(
    path: Path, described: Mapping[str, Array], state: Mapping[str, Array]
) -> None:
    """Write the arrays of a state, and what `describe_fit` has returned."""
    arrays = {f"state/{name}": array for name, array in state.items()}
    with atomic_write(path) as file:
        np.savez(file, **described, **arrays)  # type: ignore[arg-type]


def read_checkpoint(path: Any) -> ArrayDict:
    """Return the arrays of a checkpoint file.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If the file is no checkpoint, or one of another version.
    """
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        found_format = str(arrays["format"])
    except OSError as error:
        raise type(error)(
            error.errno,
            f"resume_from={str(path)!r} cannot be read: {error.strerror}. Pass a file that "
            "skbackprop.callbacks.Checkpoint has written, or fit without resume_from to start "
            "from the beginning.",
        ) from error
    except Exception as error:
        raise not_readable(path) from error
    if found_format != _FORMAT:
        raise ValueError(
            f"resume_from={str(path)!r} has the format {found_format!r}, but this version of "
            f"skbackprop reads {_FORMAT!r}. Resume with the version that wrote it."
        )
    return arrays


def select_state(arrays: Mapping[str, Array], described: Mapping[str, Array]) -> ArrayDict:
    """Return the arrays of the state in a checkpoint, after a check of what it is for.

    Raises
    ------
    ValueError
        If it is one of another estimator or of other data.
    """
    for name, now in described.items():
        before = arrays.get(name)
        if before is None or before != now:
            what = "the checksum of the data" if name == "data" else name.removeprefix("params/")
            raise ValueError(
                f"resume_from: {what} was {before} at the checkpoint and is {now} now. Set it "
                "back, or fit without resume_from."
            )
    return {name.removeprefix("state/"): arrays[name] for name in arrays if "state/" in name}


def not_readable(path: Any) -> ValueError:
    """Return the error for a file that is no checkpoint."""
    return ValueError(
        f"resume_from={str(path)!r} is not a readable checkpoint: it is another kind of file, or "
        "damaged. Pass a file that skbackprop.callbacks.Checkpoint has written."
    )


def resume_training(state: ArrayDict, path: Any, task: Any) -> None:
    """Let a fit start from a state in a file, whose members train on unless they have converged.

    Parameters
    ----------
    state : dict
        The arrays of the state.
    path : str or path
        The file.
    task : PreparedFit
        The fit.

    Raises
    ------
    ValueError
        If the file is damaged, or no epoch is left to train.
    """
    try:
        loaded = TrainState.from_arrays(state, task.state.parameters.layout)
    except Exception as error:
        raise not_readable(path) from error
    config = task.config
    n_epochs = int(loaded.epoch.max())
    is_complete = n_epochs == config.max_iter and not config.is_lbfgs
    over = ("converged", "diverged", "unconverged") if is_complete else ("converged", "diverged")
    is_over = [reason in over for reason in loaded.stop_reason]
    if not all(is_over) and n_epochs > config.max_iter and not config.is_lbfgs:
        raise ValueError(
            f"resume_from: the checkpoint is of epoch {n_epochs}, so max_iter={config.max_iter} "
            "leaves no epochs to train. Increase max_iter."
        )
    loaded.stop_reason = [
        reason if over else "" for reason, over in zip(loaded.stop_reason, is_over, strict=True)
    ]
    for own, other in zip(task.state.rngs, loaded.rngs, strict=True):
        if own is not None and other is not None:
            own.set_state(other.get_state(legacy=False))
    loaded.rngs = task.state.rngs
    task.resume(loaded)
