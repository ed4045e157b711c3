"""Training that another process can go on with: its runs at one moment, in a file."""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from ..core.arrays import Array, as_dense
from ..core.files import replaced
from ..core.naming import flat, name_of, nested, plain
from ..engine.batches import Table
from ..fitting.moment import Moment
from ..fitting.run import Run

_FORMAT = "skbackprop checkpoint, version 1"

# The parameters that say for how long, and what is printed: another process may have others.
_FREE = {"max_iter", "tol", "n_iter_no_change", "time_limit", "verbose", "warm_start"}
# Whose position is part of the moment.
_FREE |= {"random_state"}

# Rows by which data is known again.
_N_ROWS = 1_000


@dataclass(frozen=True)
class Resumable:
    """All runs of a fit at one moment, and what they are runs of.

    Parameters
    ----------
    kind : str
        The name of the estimator's class.
    settings : dict of str
        Its parameters, as Python prints them.
    data : int
        What the data is known by.
    moments : sequence of Moment
        One for each network.
    """

    kind: str
    settings: Mapping[str, str]
    data: int
    moments: Sequence[Moment]

    @classmethod
    def of(cls, estimator: Any, runs: Sequence[Run]) -> Self:
        """Return the moment of an estimator's runs."""
        settings, table = _printed(estimator._settings), runs[0].table
        moments = [run.moment for run in runs]
        return cls(type(estimator).__name__, settings, fingerprint_of(table), moments)

    # -------------------------------------------------------------------- its file

    def save(self, path: Path) -> None:
        """Write a file, in the place of the last one: whenever it is read, it is whole.

        Raises
        ------
        OSError
            If it can't be written; the last one is then still there.
        """
        arrays = dict(flat("what", {"format": _FORMAT, "kind": self.kind, "data": self.data}))
        arrays |= dict(flat("settings", dict(self.settings)))
        for i, moment in enumerate(self.moments):
            arrays |= {name_of("moments", i, name): a for name, a in moment.to_arrays().items()}
        # Always the same name, so that who is killed within a draft leaves but one.
        with replaced(path, path.with_name(f".{path.name}.new")) as file:
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
    what, settings, arrays = _read(path)
    _check(what, settings, estimator, runs)
    moments = []
    for i, run in enumerate(runs):
        within = name_of("moments", i, "")
        own = {n.removeprefix(within): a for n, a in arrays.items() if n.startswith(within)}
        moment = Moment.from_arrays(own, run.network.layout)
        n_iter, max_iter = moment.course.n_iter, run.plan.max_iter
        if n_iter > max_iter or (n_iter == max_iter and moment.ending is None):
            raise ValueError(
                f"resume_from: the checkpoint is of epoch {n_iter}, and max_iter={max_iter} "
                "leaves none to train. Raise max_iter."
            )
        moments.append(moment)
    for run, moment in zip(runs, moments, strict=True):
        run.resume(moment)


def _read(path: Path) -> tuple[dict[str, Any], dict[str, str], dict[str, Array]]:
    """Return what a file is of, the parameters, and all its arrays."""
    try:
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        named = nested(arrays)
        what, settings = plain(named["what"]), plain(named["settings"])
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"resume_from={str(path)!r} is not a checkpoint that can be read. Give a file "
            "that skbackprop.callbacks.Checkpoint has written."
        ) from error
    if what.get("format") != _FORMAT:
        raise ValueError(
            f"resume_from={str(path)!r} is of the format {what.get('format')!r}, but this "
            f"version of skbackprop reads {_FORMAT!r}. Resume with the version that wrote it."
        )
    return what, settings, arrays


def _check(
    what: Mapping[str, Any], settings: Mapping[str, str], estimator: Any, runs: Sequence[Run]
) -> None:
    """Check that an estimator and its data are those of a checkpoint."""
    kind = type(estimator).__name__
    if kind != what["kind"]:
        raise ValueError(
            f"resume_from: the checkpoint is of a {what['kind']}, but this is a {kind}."
        )
    for name, value in _printed(estimator._settings).items():
        before = settings.get(name)
        if value != before and name not in _FREE:
            raise ValueError(
                f"resume_from: {name} was {before} at the checkpoint and is {value} now. Set "
                "it back, or train anew without resume_from."
            )
    if what["data"] != fingerprint_of(runs[0].table):
        raise ValueError(
            "resume_from: the checkpoint is of other data. Give fit the X, y and sample_weight "
            "that it had, or train anew without resume_from."
        )


def fingerprint_of(table: Table) -> int:
    """Return a number that other data would hardly have; it reads a thousand rows at most."""
    rows = np.unique(np.linspace(0, table.n_rows - 1, _N_ROWS).astype(int))
    parts = [np.array(table.X.shape), as_dense(table.X[rows]), as_dense(table.y[rows])]
    if table.weight is not None:
        parts.append(table.weight[rows])
    found = 0
    for part in parts:
        found = zlib.crc32(np.ascontiguousarray(part, dtype=np.float64).tobytes(), found)
    return found


def _printed(settings: Mapping[str, Any]) -> dict[str, str]:
    """Return parameters as Python prints them, without addresses, and arrays in full."""
    with np.printoptions(threshold=10**6, precision=17):
        return {name: re.sub(r" at 0x[0-9a-f]+", "", repr(v)) for name, v in settings.items()}
