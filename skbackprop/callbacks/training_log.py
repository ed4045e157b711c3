"""Callback that logs a line for each epoch, as JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import Any

from .._sklearn import warn
from ..estimators._history import get_current_history
from ..training.checkpoint import History
from ..utils.atomic_write import append_to_file, prefix_file_errors, write_new_file

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
    - `epoch`: the epoch, or the iteration of L-BFGS, counted from 1 in each fit;
    - `loss`: the training loss of the epoch;
    - `validation_loss`, `validation_score`: the loss and the score of the validation rows after the
      epoch; missing without validation rows, and the score also without early stopping;
    - `best_epoch`: the best epoch so far.

    An ensemble has a line for each member that trained in the epoch. L-BFGS trains one member after
    the other, so an ensemble has one line for the last iteration of each member, written at the
    end.

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
        suffixes = ".jsonl", ".csv"
        if not isinstance(path, (str, PathLike)) or Path(path).suffix.lower() not in suffixes:
            raise ValueError(
                "path of TrainingLog must be a file name that ends in .jsonl or .csv, "
                f"got {path!r}."
            )
        self.path = Path(path).absolute()

    def __repr__(self) -> str:
        return f"TrainingLog({str(self.path)!r})"

    @property
    def _is_csv(self) -> bool:
        return self.path.suffix.lower() == ".csv"

    def setup(self, estimator: Any, context: Any) -> None:
        """Create the file if it does not exist, and check that it is writable."""
        with prefix_file_errors(self, self.path):
            if self._is_csv:
                self._write_header()
            append_to_file(self.path, b"")

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing, as the file is closed."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Write the lines of an epoch."""
        lines = _make_records(context, get_current_history(fitted_estimator))
        if lines:
            content = "".join(map(_to_csv if self._is_csv else _to_json, lines)).encode()
            try:
                append_to_file(self.path, content)
            except OSError as error:
                warn(
                    f"TrainingLog could not write to {self.path}: {error.strerror or error}. "
                    "Training continues, and the log tries again after the next epoch.",
                    UserWarning,
                )

    def _write_header(self) -> None:
        """Write the header of a new CSV file, or check that of an existing one."""
        header = _to_csv({name: name for name in COLUMNS}).encode()
        if not self.path.exists():
            write_new_file(self.path, header)
        elif self.path.stat().st_size == 0:
            append_to_file(self.path, header)
        with self.path.open("rb") as file:
            first = file.readline()
        if first.strip() != header.strip():
            raise ValueError(
                f"{self.path} is not a training log: it begins with {first[:80]!r} instead of the "
                "columns of TrainingLog. Set another path."
            )


def _make_records(context: Any, histories: Sequence[History]) -> list[dict[str, Any]]:
    """Return the lines at the end of a task, one for each member that trained in it."""
    path = [context]
    while path[0].parent is not None:
        path.insert(0, path[0].parent)
    if context.task_name in ("epoch", "iteration"):
        fit = context.parent
        # Other members stopped earlier. L-BFGS may stop within an iteration, which does not count.
        trained = [len(history.losses) == context.task_id + 1 for history in histories]
        path.pop()
    else:
        fit = context
        # Members trained by L-BFGS have no fitted estimator before the end of the fit.
        has_members = any(task.task_name == "member" for task in fit)
        trained = [has_members and len(history.losses) > 0 for history in histories]
    now = datetime.now(UTC)
    shared = {
        "time": now.isoformat(timespec="milliseconds"),
        "seconds": round((now - fit.init_time).total_seconds(), 6),
        "fit": str(context.root_uuid),
        "task": "/".join(str(task.task_id) for task in path),
        "estimator": context.estimator_name,
    }
    lines = []
    for i, history in enumerate(histories):
        if trained[i]:
            curves = history.losses, history.validation_losses, history.validation_scores
            last = [float(curve[-1]) if curve else None for curve in curves]
            line = shared | {"member": i, "epoch": len(history.losses)}
            line |= dict(zip(("loss", "validation_loss", "validation_score"), last, strict=True))
            lines.append(line | {"best_epoch": history.best_epoch})
    return lines


def _to_json(line: Mapping[str, Any]) -> str:
    valid = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in line.items()
    }
    return json.dumps(valid, allow_nan=False) + "\n"


def _to_csv(line: Mapping[str, Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(line[name] for name in COLUMNS)
    return text.getvalue()
