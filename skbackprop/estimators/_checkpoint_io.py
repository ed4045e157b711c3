"""Training that another process can go on with: its runs at one moment, in a file."""

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
from ..training.task import TrainingTask
from ..training.training_run import TrainingRun
from ..training.weight_init import RandomInit
from ..utils.arrays import Array
from ..utils.atomic_write import atomic_write
from ..utils.describe_settings import describe
from ..utils.flatten import flatten_dict, join_path, to_python_scalars, unflatten_dict
from ._loss_history import SharedList
from ._parameter_table import PARAMETERS

_FORMAT = "skbackprop checkpoint, version 2"

# Parameters that another process may have others of: for how long to train and what is printed, and
# where the rows are.
_FREE = {"max_iter", "tol", "n_iter_no_change", "time_limit", "verbose", "warm_start", "client"}
# Whose position is part of the moment.
_FREE |= {"random_state"}
# What is known with the data.
_FREE |= {"dtype"}
# The same of an object.
_FREE |= {"early_stopping.tol", "early_stopping.n_iter_no_change"}

# What a plan calls otherwise than the parameter that it is made of.
_PARAMETERS = {
    "hidden": "hidden_layer_sizes",
    "activations": "activation",
    "initial": "init",
    "schedule": "learning_rate",
    "rate": "learning_rate_init",
    "stopping": "early_stopping",
}

# Rows of a table by which data is known again.
_N_ROWS = 1_000

# The name of the array with the checksum of all others.
_CHECKSUM = "checksum"


Curves: TypeAlias = "Mapping[str, Any]"
"""Curves by the names of their attributes, each a list, a `SharedList` or None."""


@dataclass(frozen=True)
class EstimatorCheckpoint:
    """All runs of a fit at one moment, and what they are runs of.

    Parameters
    ----------
    kind : str
        The name of the estimator's class.
    settings : dict of str
        What they are trained by, as `describe_settings_of` describes it.
    problem : Problem
        What the networks learn, of which the data is looked at when they are saved.
    moments : sequence of Moment
        One for each network.
    before : sequence of dict
        The curves of earlier fits that this one adds to, of each network.
    """

    kind: str
    settings: Mapping[str, str]
    problem: TrainingTask
    moments: Sequence[TrainingCheckpoint]
    before: Sequence[Curves]

    # -------------------------------------------------------------------- its file

    def save(self, path: Path) -> None:
        """Write a file, in the place of the last one: whenever it is read, it is whole.

        Raises
        ------
        OSError
            If it can't be written; the last one is then still there.
        """
        arrays = dict(self.moment_arrays())
        for i, curves in enumerate(self.before):
            for name, curve in curves.items():
                if curve is not None:
                    numbers = curve.numbers if isinstance(curve, SharedList) else curve
                    arrays[join_path("before", i, name)] = np.array(numbers, dtype=float)
        write_checkpoint(path, self.kind, self.settings, data_fingerprint(self.problem), arrays)

    def moment_arrays(self) -> Iterator[tuple[str, Array]]:
        """Yield the arrays of all moments, with their names."""
        for i, moment in enumerate(self.moments):
            for name, array in moment.to_arrays().items():
                yield join_path("moments", i, name), array


def write_checkpoint(
    path: Path, kind: str, settings: Mapping[str, str], data: int, arrays: Mapping[str, Array]
) -> None:
    """Write the file of an estimator of a kind, in the place of the last one.

    Parameters
    ----------
    path : path
        The file.
    kind : str
        The name of the estimator's class.
    settings : dict of str
        What it is trained by, as `described` returns it.
    data : int
        The checksum of its data.
    arrays : dict of arrays
        What training goes on from.
    """
    what = {"format": _FORMAT, "kind": kind, "data": data, "settings": json.dumps(dict(settings))}
    whole = dict(flatten_dict("what", what)) | dict(arrays)
    whole[_CHECKSUM] = np.asarray(_checksum_of_arrays(whole))
    with atomic_write(path) as file:
        # Its stub takes what any name may stand for as its option allow_pickle.
        np.savez(file, **whole)  # type: ignore[arg-type]


def resume(estimator: Any, runs: Sequence[TrainingRun], path: Path) -> list[Curves]:
    """Let runs go on from the moment that `Resumable.save` has written to a file.

    Returns
    -------
    before : list of dict
        The curves of earlier fits that the runs add to, of each network.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is no checkpoint, or that of another estimator or of other data.
    """
    what, arrays = read_checkpoint(path)
    check_settings(what, type(estimator).__name__, describe_settings_of(estimator, runs[0].config))
    if what["data"] != data_fingerprint(runs[0].problem):
        raise ValueError(
            "resume_from: the checkpoint is of other data. Give fit the X, y and sample_weight "
            "that it had, and the X_val, in the same dtype, or train anew without resume_from."
        )
    resume_runs(runs, arrays, path)
    before = [select_prefix(arrays, "before", i) for i in range(len(runs))]
    return [{name: list(array) for name, array in curves.items()} for curves in before]


def resume_runs(runs: Sequence[TrainingRun], arrays: Mapping[str, Array], path: Path) -> None:
    """Let runs go on from the arrays of their moments, which a file had.

    Raises
    ------
    ValueError
        If they are not what `Resumable.moment_arrays` has yielded, or leave no epoch to train.
    """
    moments = []
    for i, run in enumerate(runs):
        with prefix_checkpoint_errors(path):
            moment = TrainingCheckpoint.from_arrays(
                select_prefix(arrays, "moments", i), run.network.layout
            )
        n_iter, max_iter = moment.record.n_iter, run.config.max_iter
        if n_iter > max_iter or (n_iter == max_iter and moment.ending is None):
            raise ValueError(
                f"resume_from: the checkpoint is of epoch {n_iter}, and max_iter={max_iter} "
                "leaves none to train. Raise max_iter."
            )
        moments.append(moment)
    for run, moment in zip(runs, moments, strict=True):
        run.resume(moment)


def select_prefix(arrays: Mapping[str, Array], *place: Any) -> dict[str, Array]:
    """Return the arrays whose names begin with a place, by the rest of their names."""
    start = join_path(*place, "")
    return {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Array]]:
    """Return what a file is of, and all its arrays."""
    with prefix_checkpoint_errors(path):
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        named = unflatten_dict(arrays)
        written_as = to_python_scalars(named["what"]["format"])
        if not isinstance(written_as, str):
            raise TypeError("The format has no name.")
    if written_as != _FORMAT:
        raise ValueError(
            f"resume_from={str(path)!r} is of the format {written_as!r}, but this "
            f"version of skbackprop reads {_FORMAT!r}. Resume with the version that wrote it."
        )
    with prefix_checkpoint_errors(path):
        if arrays.pop(_CHECKSUM) != _checksum_of_arrays(arrays):
            raise ValueError("The checksum is that of other arrays.")
        what = {name: to_python_scalars(named["what"][name]) for name in ("kind", "data")}
        return what | {"settings": json.loads(to_python_scalars(named["what"]["settings"]))}, arrays


def _checksum_of_arrays(arrays: Mapping[str, Array]) -> int:
    """Return a number that changes with any of the arrays."""
    found = 0
    for name in sorted(arrays):
        array = arrays[name]
        found = zlib.crc32(f"{name} {array.dtype.str} {array.shape} ".encode(), found)
        found = zlib.crc32(np.ascontiguousarray(array).data, found)
    return found


@contextmanager
def prefix_checkpoint_errors(path: Path) -> Iterator[None]:
    """Say of a file that can't be read, by whichever error, that it is none of ours."""
    try:
        yield
    except OSError:  # there is none, or we may not read it
        raise
    except Exception as error:
        raise ValueError(
            f"resume_from={str(path)!r} is not a checkpoint that can be read: it is another "
            "file, damaged, or altered. Give a file as skbackprop.callbacks.Checkpoint has "
            "written it."
        ) from error


def check_settings(what: Mapping[str, Any], kind: str, settings: Mapping[str, str]) -> None:
    """Check that a checkpoint is of an estimator of a kind that is trained by these settings."""
    if kind != what["kind"]:
        raise ValueError(
            f"resume_from: the checkpoint is of a {what['kind']}, but this is a {kind}."
        )
    for name in dict.fromkeys([*settings, *what["settings"]]):
        was, is_now = (each.get(name, "not there") for each in (what["settings"], settings))
        if was != is_now:
            raise ValueError(
                f"resume_from: {name} was {was} at the checkpoint and is {is_now} now. Set "
                "it back, or train anew without resume_from."
            )


def describe_settings_of(estimator: Any, config: TrainingConfig) -> dict[str, str]:
    """Return what an estimator is trained by, as text by name, however its user has written it.

    What a user's own functions refer to may change while they are called, so that this is for the
    beginning of a fit.
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
        {_PARAMETERS.get(name, name): value for name, value in parts.items()}, _FREE
    )


def describe_values(values: Mapping[str, Any], free: Collection[str]) -> dict[str, str]:
    """Return values as text by name, as `describe` does each, but for free ones."""
    texts: dict[str, str] = {}
    for name, value in values.items():
        if name not in free:
            texts |= describe(name, value)
    return {name: text for name, text in texts.items() if name not in free}


def data_fingerprint(problem: TrainingTask) -> int:
    """Return a number that other data would hardly have; it reads a few thousand rows at most."""
    tables = [problem.table] if problem.watched is None else [problem.table, problem.watched.table]
    return array_checksum([part for table in tables for part in table.arrays], problem.dtype)


def array_checksum(parts: Sequence[Any], dtype: np.dtype[Any]) -> int:
    """Return the checksum of arrays or sparse matrices, and of a dtype, by some of their rows."""
    found = zlib.crc32(dtype.str.encode())
    for part in parts:
        rows = np.unique(np.linspace(0, max(part.shape[0] - 1, 0), _N_ROWS).astype(int))
        some = part[rows] if part.shape[0] else part
        for array in (np.array(part.shape), *_numbers_in(some)):
            found = zlib.crc32(_bytes_of(array, np.float64), found)
    return found


def _numbers_in(rows: Any) -> list[Array]:
    """Return the arrays that rows consist of; sparse ones stay so, of any number of columns."""
    if not hasattr(rows, "indptr"):
        return [rows]
    rows.sort_indices()
    return [rows.indptr, rows.indices, rows.data]


def _bytes_of(array: Array, dtype: Any = None) -> bytes:
    return np.ascontiguousarray(array, dtype).tobytes()
