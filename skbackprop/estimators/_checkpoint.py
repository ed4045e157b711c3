"""Checkpoint files: the training state of a fit, as arrays."""

from __future__ import annotations

import os
import re
import zlib
from collections.abc import Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import numpy as np

from ..nn.train_state import TrainState
from ..training.model import Model
from ..utils.arrays import Array, ArrayDict


@contextmanager
def atomic_write(path: Path) -> Iterator[IO[bytes]]:
    """Context with a binary file that replaces `path` when the context ends.

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


_FORMAT = "skbackprop checkpoint, version 4"

# Parameters that may change when training is resumed: the length of training, the output and the
# processes. The random state is part of the checkpoint.
_OMIT = {
    *("max_iter", "tol", "n_iter_no_change", "time_limit", "verbose", "warm_start"),
    *("n_jobs", "random_state"),
}

# The number of rows that the checksum of data is computed from.
_CHECKED_ROWS = 1_000


def describe_fit(estimator: Any, data: Sequence[Any], omit: Container[str] = _OMIT) -> ArrayDict:
    """Return arrays that a checkpoint and a fit that resumes from it must have in common.

    Parameters
    ----------
    estimator : estimator
        The estimator. Its parameters are described by their repr, without addresses of objects.
    data : sequence of arrays, sparse matrices or None
        The data, from which a checksum is computed.
    omit : container of str
        The names of parameters to leave out, because they may differ.
    """
    description = {"format": np.array(_FORMAT), "class": np.array(type(estimator).__name__)}
    for name, value in estimator.get_params(deep=False).items():
        if name not in omit:
            description[f"params/{name}"] = np.array(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(value)))
    return description | {"data": np.array(compute_checksum(data))}


def compute_checksum(parts: Sequence[Any]) -> int:
    """Return a checksum of up to a thousand rows of arrays or sparse matrices, but for None."""
    checksum = 0
    for part in parts:
        if part is None:
            continue
        rows: Any = part[np.unique(np.linspace(0, part.shape[0] - 1, _CHECKED_ROWS).astype(int))]
        arrays = [rows]
        if hasattr(rows, "indptr"):  # it is a CSR matrix
            rows.sort_indices()
            arrays = [rows.indptr, rows.indices, rows.data]
        for array in (np.array(part.shape), *arrays):
            checksum = zlib.crc32(np.ascontiguousarray(array, np.float64).tobytes(), checksum)
    return checksum


def write_checkpoint(
    path: Path, description: Mapping[str, Array], state: Mapping[str, Array]
) -> None:
    """Write the arrays of a state, and the description from `describe_fit`."""
    arrays = {f"state/{name}": array for name, array in state.items()}
    with atomic_write(path) as file:
        np.savez(file, **description, **arrays)  # type: ignore[arg-type]


def read_checkpoint(path: Any) -> ArrayDict:
    """Return the arrays of a checkpoint file.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If it is another kind of file, or damaged.
    """
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError:
        raise
    except Exception as error:
        raise not_readable(path) from error


def select_state(arrays: Mapping[str, Array], description: Mapping[str, Array]) -> ArrayDict:
    """Return the arrays of the state in a checkpoint, after a check that it fits.

    Raises
    ------
    ValueError
        If it is the checkpoint of another version, of another estimator or of other data.
    """
    for name, value in description.items():
        saved_value = arrays.get(name)
        if saved_value is None or saved_value != value:
            subject = "the checksum of the data" if name == "data" else name.removeprefix("params/")
            raise ValueError(
                f"resume_from: {subject} was {saved_value} at the checkpoint and is {value} now. "
                "Set it back, or fit without resume_from."
            )
    return {name.removeprefix("state/"): arrays[name] for name in arrays if "state/" in name}


def not_readable(path: Any) -> ValueError:
    """Return the error for a file that is no checkpoint."""
    return ValueError(
        f"resume_from={str(path)!r} is not a readable checkpoint: it is another kind of file, or "
        "damaged. Pass a file that skbackprop.callbacks.Checkpoint has written."
    )


def resume_model(model: Model, arrays: ArrayDict, path: Any) -> Model:
    """Return a model that starts from a saved state, in which only unconverged members train on.

    Parameters
    ----------
    model : Model
        The model before the first epoch.
    arrays : dict
        The arrays of the state.
    path : str or path
        The file.

    Raises
    ------
    ValueError
        If the file is damaged, or no epoch is left to train.
    """
    try:
        state = TrainState.from_arrays(arrays, model.state.parameters.layout)
    except Exception as error:
        raise not_readable(path) from error
    config = model.config
    n_epochs = int(state.epoch.max())
    is_complete = n_epochs == config.max_iter and not config.is_lbfgs
    ends = ("converged", "diverged", "unconverged") if is_complete else ("converged", "diverged")
    is_over = [reason in ends for reason in state.stop_reason]
    if not all(is_over) and n_epochs > config.max_iter and not config.is_lbfgs:
        raise ValueError(
            f"resume_from: the checkpoint is of epoch {n_epochs}, so max_iter={config.max_iter} "
            "leaves no epochs to train. Increase max_iter."
        )
    pairs = zip(state.stop_reason, is_over, strict=True)
    state.stop_reason = [reason if flag else "" for reason, flag in pairs]
    state.continue_random_states(model.state.rngs)
    return replace(model, state=state)
