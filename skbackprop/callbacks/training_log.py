"""A log of training: a line for each epoch, as JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ..estimators._history import History, history_of
from ..utils.atomic_write import append_to_file, write_new_file
from ._files import check_path, prefix_file_errors, warn_on_oserror

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
    """A callback that writes a line to a file after each epoch, as JSON or as CSV.

    The two formats hold the same table, so that ``pandas.read_json(path, lines=True)`` and
    ``pandas.read_csv(path)`` read the same frame:

    - `time`: when the epoch ended, in UTC, as in 2025-01-31T12:34:56.789+00:00;
    - `seconds`: how long after the fit of this network began;
    - `fit`: the id of the outermost fit, that of a search for example; a new one in each call;
    - `task`: where this network's fit is in it, the ids of the tasks from the outermost down, as in
      0/0/3/1; the lines of one network have `fit` and `task` in common;
    - `estimator`: the name of the class;
    - `member`: which network of an ensemble, counted from 0;
    - `epoch`: counted from 1 in each fit; of L-BFGS the iteration;
    - `loss`: the training loss of the epoch;
    - `validation_loss`, `validation_score`: those after the epoch, of the rows that are held out or
      watched; missing where there are none, the score without early stopping too;
    - `best_epoch`: the epoch whose weights would be kept if training ended here.

    An ensemble has a line for each member that has trained in the epoch. L-BFGS trains one member
    after the other: there is a line for each member's last iteration, once all are done.

    What is missing is null or an empty field; JSON has null for numbers that are not finite, too.
    Lines are added to what the file holds, all of an epoch in one piece, so that the processes of a
    search, and one fit after the other, may share it. Between two epochs the file is closed. If
    writing fails within a fit, a disk being full, it is a warning and training goes on.

    Parameters
    ----------
    path : str or path-like
        The file; its suffix, .jsonl or .csv, names the format.

    Raises
    ------
    ValueError
        If the path has another suffix; in `fit`, if a .csv file has other columns.
    OSError
        In `fit`, before training begins, if the file cannot be written to.

    Examples
    --------
    >>> import json, tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.callbacks import TrainingLog
    >>> X, y = load_iris(return_X_y=True)
    >>> model = BackpropClassifier((8,), early_stopping=True, random_state=0)
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
        self.path = check_path(self, path, (".jsonl", ".csv"))

    def __repr__(self) -> str:
        return f"TrainingLog({str(self.path)!r})"

    @property
    def _is_csv(self) -> bool:
        return self.path.suffix.lower() == ".csv"

    def setup(self, estimator: Any, context: Any) -> None:
        """Make the file, if there is none, and see whether it can be written to."""
        with prefix_file_errors(self, self.path):
            if self._is_csv:
                self._begin_table()
            append_to_file(self.path, b"")

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing: the file is closed."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing: lines are about epochs that are over."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Write the lines of an epoch."""
        lines = _lines(context, history_of(fitted_estimator))
        if lines:
            content = "".join(map(_as_csv if self._is_csv else _as_json, lines)).encode()
            warn_on_oserror(self, self.path, lambda: append_to_file(self.path, content))

    def _begin_table(self) -> None:
        """See to it that the file begins with the names of the columns."""
        header = _as_csv({name: name for name in COLUMNS}).encode()
        if not self.path.exists():
            write_new_file(self.path, header)
        elif self.path.stat().st_size == 0:
            append_to_file(self.path, header)
        with self.path.open("rb") as file:
            first = file.readline()
        if first.strip() != header.strip():
            raise ValueError(
                f"{self.path} is no log of training: it begins with {first[:80]!r}, not with the "
                "columns of TrainingLog. Give another path."
            )


def _lines(context: Any, progress: list[History]) -> list[dict[str, Any]]:
    """Return what there is to write at the end of a task, for each of the members."""
    path = [context]
    while path[0].parent is not None:
        path.insert(0, path[0].parent)
    if context.task_name in ("epoch", "iteration"):
        fit = context.parent
        # The others have stopped before; L-BFGS may give up within an iteration, which is none.
        trained = [len(member.losses) == context.task_id + 1 for member in progress]
        path.pop()
    else:
        fit = context
        # Members of L-BFGS have no estimator before the fit is over.
        has_members = any(task.task_name == "member" for task in fit)
        trained = [has_members and len(member.losses) > 0 for member in progress]
    now = datetime.now(UTC)
    of_all = {
        "time": now.isoformat(timespec="milliseconds"),
        "seconds": round((now - fit.init_time).total_seconds(), 6),
        "fit": str(context.root_uuid),
        "task": "/".join(str(task.task_id) for task in path),
        "estimator": context.estimator_name,
    }
    return [
        of_all | {"member": i} | _last_epoch(member)
        for i, member in enumerate(progress)
        if trained[i]
    ]


def _last_epoch(progress: History) -> dict[str, Any]:
    return {
        "epoch": len(progress.losses),
        "loss": _last(progress.losses),
        "validation_loss": _last(progress.validation_losses),
        "validation_score": _last(progress.validation_scores),
        "best_epoch": progress.best_epoch,
    }


def _last(numbers: list[float]) -> float | None:
    return float(numbers[-1]) if numbers else None


def _as_json(line: Mapping[str, Any]) -> str:
    valid = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in line.items()
    }
    return json.dumps(valid, allow_nan=False) + "\n"


def _as_csv(line: Mapping[str, Any]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(line[name] for name in COLUMNS)
    return text.getvalue()
