"""Callback that logs a line for each epoch, as JSON or CSV."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from .._sklearn import warn

COLUMNS = (
    "time",
    "seconds",
    "fit",
    "task",
    "estimator",
    "member",
    "epoch",
    "loss",
    "validation_loss",
    "validation_score",
    "best_epoch",
)


class TrainingLog:
    """Callback that writes a line to a file after each epoch, as JSON or CSV.

    Both formats hold the same table: ``pandas.read_json(path, lines=True)`` and
    ``pandas.read_csv(path)`` return the same data frame, with these columns:

    - `time`: the end of the epoch in UTC, such as 2025-01-31T12:34:56.789+00:00;
    - `seconds`: the time since the fit of this network began;
    - `fit`: the id of the outermost fit, for example of a search; each call has a new one;
    - `task`: the ids of nested tasks from the outermost to the fit of this network, such as
      0/0/3/1; `fit` and `task` identify a network;
    - `estimator`: the name of the class;
    - `member`: the index of the network in an ensemble, from 0;
    - `epoch`: the epoch, counted from 1 in each fit; of L-BFGS the last iteration;
    - `loss`: the training loss of the epoch;
    - `validation_loss`, `validation_score`: the loss and the score of the validation rows after the
      epoch; missing without validation rows, and the score also without early stopping;
    - `best_epoch`: the best epoch so far.

    An ensemble has a line for each member that trained in the epoch. L-BFGS has one line for its
    last iteration, written at the end.

    Missing values are null or an empty field; in JSON, values that are not finite are null, too.
    Lines are appended to an existing file, all lines of an epoch at once, so that the processes of
    a search and successive fits can share it. The file is closed between epochs. If it cannot be
    written during a fit, the callback warns and training continues.

    Parameters
    ----------
    path : str or path-like
        The file. Its suffix, .jsonl or .csv, determines the format.

    Raises
    ------
    ValueError
        If the path has another suffix; in `fit`, if a .csv file has other columns.
    OSError
        In `fit`, before training begins, if the file cannot be written.

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.callbacks import TrainingLog
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier(early_stopping=True, learning_rate_init=0.01, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     log = TrainingLog(Path(folder) / "iris.jsonl")
    ...     model = model.set_callbacks(log).fit(X, y)
    ...     lines = [json.loads(line) for line in log.path.read_text().splitlines()]
    >>> [line["loss"] for line in lines] == model.loss_curve_
    True
    >>> lines[-1]["best_epoch"] == model.best_iter_
    True
    """

    def __init__(self, path: Any) -> None:
        self.path = Path(path).absolute()
        self._is_csv = self.path.suffix.lower() == ".csv"
        if not self._is_csv and self.path.suffix.lower() != ".jsonl":
            raise ValueError(
                "path of TrainingLog must be a file name that ends in .jsonl or .csv, "
                f"got {path!r}."
            )

    def __repr__(self) -> str:
        return f"TrainingLog({str(self.path)!r})"

    def setup(self, estimator: Any, context: Any) -> None:
        """Create the file if it does not exist, and check that it is writable."""
        header = _to_csv({name: name for name in COLUMNS}).encode() if self._is_csv else b""
        with self.path.open("a+b") as file:
            if file.tell() == 0:
                file.write(header)
            file.seek(0)
            first = file.readline()
        if self._is_csv and first.strip() != header.strip():
            raise ValueError(
                f"{self.path} is not a training log: it begins with {first[:80]!r} instead of the "
                "columns of TrainingLog. Set another path."
            )

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing, as the file is closed."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Write the lines of an epoch."""
        lines = _make_records(context, fitted_estimator)
        if lines:
            content = "".join(map(_to_csv if self._is_csv else _to_json, lines)).encode()
            try:
                with self.path.open("ab", buffering=0) as file:
                    file.write(content)  # at once, so that other processes do not interleave
            except OSError as error:
                warn(
                    f"TrainingLog could not write to {self.path}: {error.strerror or error}. "
                    "Training continues, and the log tries again after the next epoch.",
                    UserWarning,
                )


def _make_records(context: Any, fitted_estimator: Any) -> list[dict[str, Any]]:
    """Return the lines at the end of a task, one for each member that trained in it."""
    if context.task_name != "epoch" or not hasattr(fitted_estimator, "_state"):
        return []
    state, config, fit = fitted_estimator._state, fitted_estimator._config, context.parent
    path = [fit]
    while path[0].parent is not None:
        path.insert(0, path[0].parent)
    now = datetime.now(UTC)
    shared = {
        "time": now.isoformat(timespec="milliseconds"),
        "seconds": round((now - fit.init_time).total_seconds(), 6),
        "fit": str(context.root_uuid),
        "task": "/".join(str(task.task_id) for task in path),
        "estimator": context.estimator_name,
    }
    lines = []
    for i, (records, best) in enumerate(
        zip(state.history, np.atleast_1d(fitted_estimator.best_iter_).tolist(), strict=True)
    ):
        epoch = int(state.epoch[i, 0])
        # Other members stopped earlier.
        if epoch and (config.is_lbfgs or epoch == context.task_id + 1):
            line = shared | {"member": i, "epoch": epoch}
            for name in ("loss", "validation_loss", "validation_score"):
                line[name] = records[-1].get(name)
            lines.append(line | {"best_epoch": best})
    return lines


def _to_json(line: Mapping[str, Any]) -> str:
    valid = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in line.items()
    }
    return json.dumps(valid, allow_nan=False) + "\n"


def _to_csv(line: Mapping[str, Any]) -> str:
    return ",".join("" if line[name] is None else str(line[name]) for name in COLUMNS) + "\n"
