"""Checkpoint files, from which another process resumes training."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from ..training.checkpoint import TrainingCheckpoint
from ..training.config import TrainingConfig
from ..training.training_run import TrainingRun
from ..training.training_task import TrainingTask
from ..training.weight_init import RandomInit
from ..utils.arrays import Array, flatten_dict, join_keys, to_python_scalars, unflatten_dict
from ..utils.atomic_write import atomic_write
from ..utils.equality import describe
from ._history import ImmutableCurve
from ._parameter_table import PARAMETERS

_FORMAT = "skbackprop checkpoint, version 2"

# Parameters that may change when training is resumed: how long to train, what is printed, and where
# the rows are.
_FREE = {"max_iter", "tol", "n_iter_no_change", "time_limit", "verbose", "warm_start", "client"}
# Its position is part of the checkpoint.
_FREE |= {"random_state"}
# It is part of the data's fingerprint.
_FREE |= {"dtype"}
# The same for an EarlyStopping object.
_FREE |= {"early_stopping.tol", "early_stopping.n_iter_no_change"}

# Fields of a configuration that have other names than their parameters.
_PARAMETER_NAMES = {
    "hidden": "hidden_layer_sizes",
    "activations": "activation",
    "initial": "init",
    "schedule": "learning_rate",
    "rate": "learning_rate_init",
    "stopping": "early_stopping",
}

# The number of rows that a fingerprint of data is computed from.
_FINGERPRINT_ROWS = 1_000

# The name of the array with the checksum of all others.
_CHECKSUM = "checksum"


Curves: TypeAlias = "Mapping[str, Any]"
"""Loss curves by the names of their attributes, each a list, a `ImmutableCurve` or None."""


@dataclass(frozen=True)
class EstimatorCheckpoint:
    """The checkpoints of all runs of a fit, with the settings and the data of the fit.

    Parameters
    ----------
    kind : str
        The name of the estimator's class.
    settings : dict of str
        The settings, as `describe_settings` describes them.
    task : TrainingTask
        The training task, for the fingerprint of its data.
    checkpoints : sequence of TrainingCheckpoint
        One for each network.
    before : sequence of dict
        The loss curves of earlier fits that this one continues, for each network.
    """

    kind: str
    settings: Mapping[str, str]
    task: TrainingTask
    checkpoints: Sequence[TrainingCheckpoint]
    before: Sequence[Curves]

    # -------------------------------------------------------------------- its file

    def save(self, path: Path) -> None:
        """Write the file, replacing an older one; a reader never finds an incomplete file.

        Raises
        ------
        OSError
            If it cannot be written; the older file then remains.
        """
        arrays = self.to_arrays()
        for i, curves in enumerate(self.before):
            for name, curve in curves.items():
                if curve is not None:
                    numbers = curve.numbers if isinstance(curve, ImmutableCurve) else curve
                    arrays[join_keys("before", i, name)] = np.array(numbers, dtype=float)
        write_checkpoint(path, self.kind, self.settings, data_fingerprint(self.task), arrays)

    def to_arrays(self) -> dict[str, Array]:
        """Return the arrays of all checkpoints by name."""
        return {
            join_keys("checkpoints", i, name): array
            for i, checkpoint in enumerate(self.checkpoints)
            for name, array in checkpoint.to_arrays().items()
        }


def write_checkpoint(
    path: Path, kind: str, settings: Mapping[str, str], data: int, arrays: Mapping[str, Array]
) -> None:
    """Write a checkpoint file, replacing an older one.

    Parameters
    ----------
    path : path
        The file.
    kind : str
        The name of the estimator's class.
    settings : dict of str
        The settings, as `describe_settings` returns them.
    data : int
        The checksum of its data.
    arrays : dict of arrays
        The training state.
    """
    header = {"format": _FORMAT, "kind": kind, "data": data, "settings": json.dumps(dict(settings))}
    content = dict(flatten_dict("header", header)) | dict(arrays)
    content[_CHECKSUM] = np.asarray(_checksum_of_arrays(content))
    with atomic_write(path) as file:
        # Its stub takes what any name may stand for as its option allow_pickle.
        np.savez(file, **content)  # type: ignore[arg-type]


def resume(estimator: Any, runs: Sequence[TrainingRun], path: Path) -> list[Curves]:
    """Resume runs from a file that `EstimatorCheckpoint.save` has written.

    Returns
    -------
    before : list of dict
        The loss curves of earlier fits that the runs continue, for each network.

    Raises
    ------
    OSError
        If there is no such file, or it cannot be read.
    ValueError
        If the file is no checkpoint, or one of another estimator or of other data.
    """
    header, arrays = read_checkpoint(path)
    check_settings(header, type(estimator).__name__, describe_settings(estimator, runs[0].config))
    if header["data"] != data_fingerprint(runs[0].task):
        raise ValueError(
            "resume_from: the checkpoint was written for other data. Pass the same X, y, "
            "sample_weight and X_val to fit, in the same dtype, or fit without resume_from."
        )
    resume_runs(runs, arrays, path)
    before = [select_prefix(arrays, "before", i) for i in range(len(runs))]
    return [{name: list(array) for name, array in curves.items()} for curves in before]


def resume_runs(runs: Sequence[TrainingRun], arrays: Mapping[str, Array], path: Path) -> None:
    """Resume runs from the arrays of a checkpoint file.

    Raises
    ------
    ValueError
        If the arrays are not those of an `EstimatorCheckpoint`, or no epoch is left to train.
    """
    checkpoints = []
    for i, run in enumerate(runs):
        with prefix_checkpoint_errors(path):
            checkpoint = TrainingCheckpoint.from_arrays(
                select_prefix(arrays, "checkpoints", i), run.network.layout
            )
        n_iter, max_iter = checkpoint.history.n_iter, run.config.max_iter
        if n_iter > max_iter or (n_iter == max_iter and checkpoint.stop_reason is None):
            raise ValueError(
                f"resume_from: the checkpoint is of epoch {n_iter}, so max_iter={max_iter} leaves "
                "no epochs to train. Increase max_iter."
            )
        checkpoints.append(checkpoint)
    for run, checkpoint in zip(runs, checkpoints, strict=True):
        run.resume(checkpoint)


def select_prefix(arrays: Mapping[str, Array], *path: Any) -> dict[str, Array]:
    """Return the arrays below a path, by the rest of their names."""
    start = join_keys(*path, "")
    return {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return the header and the arrays of a checkpoint file."""
    with prefix_checkpoint_errors(path):
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        named = unflatten_dict(arrays)
        written_as = to_python_scalars(named["header"]["format"])
        if not isinstance(written_as, str):
            raise TypeError("The name of the format is missing.")
    if written_as != _FORMAT:
        raise ValueError(
            f"resume_from={str(path)!r} has the format {written_as!r}, but this version of "
            f"skbackprop reads {_FORMAT!r}. Resume with the version that wrote it."
        )
    with prefix_checkpoint_errors(path):
        if arrays.pop(_CHECKSUM) != _checksum_of_arrays(arrays):
            raise ValueError("The checksum is wrong.")
        header = {name: to_python_scalars(named["header"][name]) for name in ("kind", "data")}
        settings = json.loads(to_python_scalars(named["header"]["settings"]))
        return header | {"settings": settings}, arrays


def _checksum_of_arrays(arrays: Mapping[str, Array]) -> int:
    """Return a checksum of all arrays."""
    found = 0
    for name in sorted(arrays):
        array = arrays[name]
        found = zlib.crc32(f"{name} {array.dtype.str} {array.shape} ".encode(), found)
        found = zlib.crc32(np.ascontiguousarray(array).data, found)
    return found


@contextmanager
def prefix_checkpoint_errors(path: Path) -> Iterator[None]:
    """Say in any error of reading a file that it is about the checkpoint, most as a ValueError."""
    try:
        yield
    except OSError as error:  # it does not exist or may not be read
        raise type(error)(
            error.errno,
            f"resume_from={str(path)!r} cannot be read: {error.strerror}. Pass a file that "
            "skbackprop.callbacks.Checkpoint has written, or fit without resume_from to start "
            "from the beginning.",
        ) from error
    except Exception as error:
        raise ValueError(
            f"resume_from={str(path)!r} is not a readable checkpoint: it is another kind of file, "
            "damaged, or modified. Pass a file that skbackprop.callbacks.Checkpoint has written."
        ) from error


def check_settings(header: Mapping[str, Any], kind: str, settings: Mapping[str, str]) -> None:
    """Check that a checkpoint is of an estimator of this class with these settings."""
    if kind != header["kind"]:
        raise ValueError(
            f"resume_from: the checkpoint was written by a {header['kind']}, but this estimator is "
            f"a {kind}. Use the class that wrote it."
        )
    for name in dict.fromkeys([*settings, *header["settings"]]):
        was, is_now = (each.get(name, "missing") for each in (header["settings"], settings))
        if was != is_now:
            raise ValueError(
                f"resume_from: {name} was {was} at the checkpoint and is {is_now} now. Set it "
                "back, or fit without resume_from."
            )


def describe_settings(estimator: Any, config: TrainingConfig) -> dict[str, str]:
    """Return an estimator's settings as text by name, however the user has written them.

    Call it at the start of a fit: objects that user-defined functions refer to may change later.
    """
    values = {each.name: getattr(config, each.name) for each in fields(config)}
    architecture, penalty = values.pop("architecture"), values.pop("penalty")
    if isinstance(config.initial, RandomInit) and architecture.hidden:
        values["initial"] = config.initial.initializer
    parts = {each.name: getattr(architecture, each.name) for each in fields(architecture)}
    parts |= values | {"alpha": penalty.alpha, "l1_ratio": getattr(penalty, "l1_ratio", 0.0)}
    rows = {row.name for row in PARAMETERS}
    parts |= {name: value for name, value in estimator._settings.items() if name not in rows}
    return describe_values(
        {_PARAMETER_NAMES.get(name, name): value for name, value in parts.items()}, _FREE
    )


def describe_values(values: Mapping[str, Any], omitted: Collection[str]) -> dict[str, str]:
    """Return the descriptions of values by name, without the `omitted` ones."""
    texts: dict[str, str] = {}
    for name, value in values.items():
        if name not in omitted:
            texts |= describe(name, value)
    return {name: text for name, text in texts.items() if name not in omitted}


def data_fingerprint(task: TrainingTask) -> int:
    """Return a checksum of up to a few thousand rows of the data."""
    tables = (
        [task.table] if task.validation_data is None else [task.table, task.validation_data.table]
    )
    return array_checksum([part for table in tables for part in table.arrays], task.dtype)


def array_checksum(parts: Sequence[Any], dtype: np.dtype[Any]) -> int:
    """Return the checksum of a dtype and of some rows of arrays or sparse matrices."""
    found = zlib.crc32(dtype.str.encode())
    for part in parts:
        rows = np.unique(np.linspace(0, max(part.shape[0] - 1, 0), _FINGERPRINT_ROWS).astype(int))
        some = part[rows] if part.shape[0] else part
        arrays = [some]
        if hasattr(some, "indptr"):  # sparse
            some.sort_indices()
            arrays = [some.indptr, some.indices, some.data]
        for array in (np.array(part.shape), *arrays):
            found = zlib.crc32(np.ascontiguousarray(array, np.float64).tobytes(), found)
    return found
