"""Training that another process can go on with: its runs at one moment, in a file."""

from __future__ import annotations

import re
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..core.arrays import Array
from ..core.files import replaced
from ..core.naming import flat, name_of, nested, plain
from ..fitting.moment import Moment
from ..fitting.problem import Problem
from ..fitting.run import Run

_FORMAT = "skbackprop checkpoint, version 1"

# The parameters that say for how long, and what is printed: another process may have others.
_FREE = {"max_iter", "tol", "n_iter_no_change", "time_limit", "verbose", "warm_start"}
# Whose position is part of the moment.
_FREE |= {"random_state"}
# Where the rows are.
_FREE |= {"client"}

# Rows of a table by which data is known again.
_N_ROWS = 1_000

# Numbers of an array that are printed.
_N_PRINTED = 20


@dataclass(frozen=True)
class Resumable:
    """All runs of a fit at one moment, and what they are runs of.

    Parameters
    ----------
    kind : str
        The name of the estimator's class.
    settings : dict of str
        Its parameters, as Python prints them.
    problem : Problem
        What the networks learn, of which the data is looked at when they are saved.
    moments : sequence of Moment
        One for each network.
    """

    kind: str
    settings: Mapping[str, str]
    problem: Problem
    moments: Sequence[Moment]

    @classmethod
    def of(cls, estimator: Any, runs: Sequence[Run]) -> Self:
        """Return the moment of an estimator's runs."""
        settings = describe_settings(estimator._settings)
        moments = [run.moment for run in runs]
        return cls(type(estimator).__name__, settings, runs[0].problem, moments)

    # -------------------------------------------------------------------- its file

    def save(self, path: Path) -> None:
        """Write a file, in the place of the last one: whenever it is read, it is whole.

        Raises
        ------
        OSError
            If it can't be written; the last one is then still there.
        """
        arrays = dict(flat("what", describe(self.kind, fingerprint_of(self.problem))))
        arrays |= dict(flat("settings", dict(self.settings)))
        write_checkpoint(path, arrays | dict(self.moment_arrays()))

    def moment_arrays(self) -> Iterator[tuple[str, Array]]:
        """Yield the arrays of all moments, with their names."""
        for i, moment in enumerate(self.moments):
            for name, array in moment.to_arrays().items():
                yield name_of("moments", i, name), array


def describe(kind: str, data: int) -> dict[str, Any]:
    """Return the format of a checkpoint, the name of the estimator and the checksum of its data."""
    return {"format": _FORMAT, "kind": kind, "data": data}


def write_checkpoint(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays to a file, in the place of the last one."""
    with replaced(path) as file:
        # Its stub takes what any name may stand for as its option allow_pickle.
        np.savez(file, **arrays)  # type: ignore[arg-type]


def resume(estimator: Any, runs: Sequence[Run], path: Path) -> None:
    """Let runs go on from the moment that `Resumable.save` has written to a file.

    Raises
    ------
    FileNotFoundError
        If there is none.
    ValueError
        If the file is no checkpoint, or that of another estimator or of other data.
    """
    what, settings, arrays = read_checkpoint(path)
    check_settings(what, settings, type(estimator).__name__, estimator._settings, _FREE)
    if what["data"] != fingerprint_of(runs[0].problem):
        raise ValueError(
            "resume_from: the checkpoint is of other data. Give fit the X, y and sample_weight "
            "that it had, and the X_val, in the same dtype, or train anew without resume_from."
        )
    resume_runs(runs, arrays, path)


def resume_runs(runs: Sequence[Run], arrays: Mapping[str, Array], path: Path) -> None:
    """Let runs go on from the arrays of their moments, which a file had.

    Raises
    ------
    ValueError
        If they are not what `Resumable.moment_arrays` has yielded, or leave no epoch to train.
    """
    moments = []
    for i, run in enumerate(runs):
        with errors_of_file(path):
            moment = Moment.from_arrays(within(arrays, "moments", i), run.network.layout)
        n_iter, max_iter = moment.course.n_iter, run.plan.max_iter
        if n_iter > max_iter or (n_iter == max_iter and moment.ending is None):
            raise ValueError(
                f"resume_from: the checkpoint is of epoch {n_iter}, and max_iter={max_iter} "
                "leaves none to train. Raise max_iter."
            )
        moments.append(moment)
    for run, moment in zip(runs, moments, strict=True):
        run.resume(moment)


def within(arrays: Mapping[str, Array], *place: Any) -> dict[str, Array]:
    """Return the arrays whose names begin with a place, by the rest of their names."""
    start = name_of(*place, "")
    return {name.removeprefix(start): a for name, a in arrays.items() if name.startswith(start)}


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, str], dict[str, Array]]:
    """Return what a file is of, the parameters, and all its arrays."""
    with errors_of_file(path):
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        named = nested(arrays)
        what = {name: plain(named["what"][name]) for name in ("format", "kind", "data")}
        settings = plain(named["settings"])
    if what["format"] != _FORMAT:
        raise ValueError(
            f"resume_from={str(path)!r} is of the format {what['format']!r}, but this "
            f"version of skbackprop reads {_FORMAT!r}. Resume with the version that wrote it."
        )
    return what, settings, arrays


@contextmanager
def errors_of_file(path: Path) -> Iterator[None]:
    """Say of a file that can't be read, by whichever error, that it is none of ours."""
    try:
        yield
    except OSError:  # there is none, or we may not read it
        raise
    except Exception as error:
        raise ValueError(
            f"resume_from={str(path)!r} is not a checkpoint that can be read. Give a file "
            "that skbackprop.callbacks.Checkpoint has written."
        ) from error


def check_settings(
    what: Mapping[str, Any],
    settings: Mapping[str, str],
    kind: str,
    own: Mapping[str, Any],
    free: Collection[str],
) -> None:
    """Check that an estimator of a kind has the parameters of a checkpoint, but for free ones."""
    if kind != what["kind"]:
        raise ValueError(
            f"resume_from: the checkpoint is of a {what['kind']}, but this is a {kind}."
        )
    for name, value in describe_settings(own).items():
        before = settings.get(name)
        if value != before and name not in free:
            raise ValueError(
                f"resume_from: {name} was {before} at the checkpoint and is {value} now. Set "
                "it back, or train anew without resume_from."
            )


def fingerprint_of(problem: Problem) -> int:
    """Return a number that other data would hardly have; it reads a few thousand rows at most."""
    tables = [problem.table] if problem.watched is None else [problem.table, problem.watched.table]
    return checksum_of([part for table in tables for part in table.arrays], problem.dtype)


def checksum_of(parts: Sequence[Any], dtype: np.dtype[Any]) -> int:
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


def describe_settings(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters as Python prints them, without addresses."""
    with np.printoptions(threshold=10**6, precision=17):
        return {name: _as_printed(value) for name, value in settings.items()}


def _as_printed(value: Any) -> str:
    """Return a value as Python prints it, but a checksum of what larger arrays hold."""
    if type(value) in (list, tuple):
        begin, end = "[]" if isinstance(value, list) else ("(", ",)" if len(value) == 1 else ")")
        return f"{begin}{', '.join(map(_as_printed, value))}{end}"
    if isinstance(value, np.ndarray) and value.dtype != object and value.size > _N_PRINTED:
        checksum = zlib.crc32(_bytes_of(value))
        return f"array of shape {value.shape}, {value.dtype}, checksum {checksum:08x}"
    if isinstance(value, np.generic):
        value = value.item()
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))
