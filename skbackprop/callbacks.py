"""Callbacks for `set_callbacks`: checkpoints, logs and pruning by Optuna."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from inspect import signature
from numbers import Integral
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args
from uuid import uuid4

import numpy as np
from sklearn.utils import check_scalar

from .estimators.base import BaseNeuralNetwork
from .nn.history import History
from .training.diagnostics import warn
from .utils.validation import require_extra

__all__ = ["Checkpoint", "OptunaPruningCallback", "TrainingLog"]

# The columns of a training log.
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

MonitoredValue: TypeAlias = Literal["validation_score", "validation_loss", "loss"]
"""The values of an epoch that `OptunaPruningCallback` can report."""


class TrainingCallback:
    """Base class of callbacks that do nothing but at the end of each epoch."""

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def teardown(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def _check_estimator(self, estimator: Any, is_valid: bool) -> None:
        """Raise a TypeError unless the callback is set on a network itself."""
        if not is_valid:
            raise TypeError(
                f"{type(self).__name__} must be set on a skbackprop network, got a "
                f"{type(estimator).__name__}. Call set_callbacks on the network itself, such as "
                "model[-1] of a pipeline."
            )


class Checkpoint(TrainingCallback):
    """Callback that saves the training state to a file after every few epochs.

    If the process ends early, for example because a scheduler kills it, ``fit(X, y,
    resume_from=path)`` resumes training from the last checkpoint. The resumed fit ends with exactly
    the same weights, losses and scores as an uninterrupted fit. The file has the weights, the
    optimizer state, the learning rate schedule, the order of the rows and the random states, as
    arrays without pickles. Each epoch adds 40 bytes for each network, so a late checkpoint takes
    hardly longer than an early one.

    Parameters
    ----------
    path : str or path
        The file, in an existing folder. A new checkpoint replaces the last one only after it is
        completely written. Each fit needs its own file.
    every : int, default=1
        The number of epochs between checkpoints, at least 1. The state at the end of training is
        also saved, unless Ctrl-C or an error ended training.

    Raises
    ------
    TypeError
        If a parameter has another type. When a fit begins, if the estimator is not one of this
        package. Set the callback on the network itself, not on a pipeline around it.
    ValueError
        If `every` is less than 1. When a fit begins, if this is one of many fits of a search.
    OSError
        When a fit begins, if the folder does not exist. After an epoch, if the file cannot be
        written. Training then ends.

    See Also
    --------
    BackpropClassifier.fit : Its ``resume_from`` resumes training from a checkpoint.

    Notes
    -----
    Data and parameters must be the same when training is resumed. `fit` compares the ``repr`` of
    the parameters, and a checksum of a sample of the rows. ``random_state`` is ignored, because the
    file has the random state. Parameters that limit the length of training may change:
    ``max_iter``, ``tol``, ``n_iter_no_change`` and ``time_limit``, which starts again when training
    is resumed. A fit that ended by ``max_iter``, ``time_limit`` or a callback continues if the new
    limits allow it. Schedules that depend on ``max_iter``, such as "cosine", use the new
    ``max_iter`` for the remaining epochs. L-BFGS has a checkpoint at its end only, and starts again
    from its weights. The version of the package should be the same; a version that cannot read the
    file raises an error.

    For a `TabularClassifier` or `TabularRegressor`, each complete training cycle ends with a
    checkpoint, whatever `every` is. Estimators of ``blend`` are not saved, and are fitted again
    when training is resumed.

    Examples
    --------
    A job that may be killed at any time and is started again until it is complete:

    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.callbacks import Checkpoint
    >>> X, y = load_iris(return_X_y=True)
    >>> path = Path(tempfile.mkdtemp()) / "iris.npz"
    >>> model = BackpropClassifier(learning_rate_init=0.01, random_state=0)
    >>> model = model.set_callbacks(Checkpoint(path, every=10))
    >>> model = model.fit(X, y, resume_from=path if path.exists() else None)
    >>> again = BackpropClassifier(learning_rate_init=0.01, random_state=0)
    >>> again.fit(X, y, resume_from=path).n_iter_ == model.n_iter_
    True
    """

    # Tabular estimators write to the path of callbacks with this attribute after each cycle.
    resumes = True

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        check_scalar(every, "every", Integral, min_val=1)
        self.path, self.every = Path(path).absolute(), int(every)

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, every={self.every})"

    def setup(self, estimator: Any, context: Any) -> None:
        """Check that this fit can be resumed, before it begins."""
        can_resume = "resume_from" in signature(type(estimator).fit).parameters
        self._check_estimator(estimator, can_resume)
        parent = context.parent
        while parent is not None:
            if not parent.sequential_subtasks:
                raise ValueError(
                    f"Checkpoint writes one file, {str(self.path)!r}, but a search fits many "
                    "networks. Set it on a single estimator with the best parameters."
                )
            parent = parent.parent
        os.scandir(self.path.parent).close()  # raises an error without the folder

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Save a checkpoint after every few epochs and at the end of training."""
        if fitted_estimator is None:  # a task of a tabular estimator, which saves by itself
            return
        if context.parent is None or np.max(fitted_estimator.n_iter_) % self.every == 0:
            fitted_estimator._write_checkpoint(self.path)


class TrainingLog(TrainingCallback):
    """Callback that writes a line to a file after each epoch, as JSON or CSV.

    Both formats hold the same table: ``pandas.read_json(path, lines=True)`` and
    ``pandas.read_csv(path)`` return the same data frame, with these columns:

    - `time`: the end of the epoch in UTC, such as 2025-01-31T12:34:56.789+00:00;
    - `seconds`: the time since the fit of this network began;
    - `fit`: the id of the outermost fit, for example of a search; each call has a new one;
    - `task`: the numbers of the nested tasks down to the fit of this network: in a grid search,
      0/0/5 is the sixth fit of a candidate, and 0/1 the refit; `fit` and `task` identify a network;
    - `estimator`: the name of the class;
    - `member`: the index of the network in an ensemble, from 0;
    - `epoch`: the epoch, counted from 1 in each fit; of L-BFGS the last iteration;
    - `loss`: the training loss of the epoch;
    - `validation_loss`, `validation_score`: the loss and the score of the validation rows after the
      epoch; missing without validation rows, and the score also without early stopping;
    - `best_epoch`: the best epoch so far; missing without early stopping.

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
        if header and not self.path.exists():
            # Of several processes, one makes the file, with its header at once.
            temporary = self.path.with_name(f".{self.path.name}-{uuid4().hex}")
            with suppress(OSError):
                temporary.write_bytes(header)
                os.link(temporary, self.path)
            with suppress(OSError):
                temporary.unlink()
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
    if context.task_name != "epoch" or not hasattr(fitted_estimator, "_model"):
        return []
    state = fitted_estimator._model.state
    config = fitted_estimator._model.config
    fit = context.parent
    path = [fit]
    while path[0].parent is not None:
        path.insert(0, path[0].parent)
    now = datetime.now(UTC)
    common_fields = {
        "time": now.isoformat(timespec="milliseconds"),
        "seconds": round((now - fit.init_time).total_seconds(), 6),
        "fit": str(context.root_uuid),
        "task": "/".join(str(task.task_id) for task in path),
        "estimator": context.estimator_name,
    }
    lines = []
    for i, (history, best) in enumerate(
        zip(state.history, np.atleast_1d(fitted_estimator.best_iter_).tolist(), strict=True)
    ):
        epoch = int(state.epoch[i, 0])
        # Other members stopped earlier.
        if epoch and (config.is_lbfgs or epoch == context.task_id + 1):
            line = common_fields | {"member": i, "epoch": epoch}
            for name in ("loss", "validation_loss", "validation_score"):
                line[name] = history.last.get(name)
            lines.append(line | {"best_epoch": best if state.best else None})
    return lines


def _to_json(line: Mapping[str, Any]) -> str:
    valid = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in line.items()
    }
    return json.dumps(valid, allow_nan=False) + "\n"


def _to_csv(line: Mapping[str, Any]) -> str:
    return ",".join("" if line[name] is None else str(line[name]) for name in COLUMNS) + "\n"


class OptunaPruningCallback(TrainingCallback):
    """Callback that reports each epoch to an Optuna trial and stops training if it is pruned.

    Optuna's pruners compare a trial with other trials at the same epoch. If the trial is pruned,
    `fit` raises `optuna.TrialPruned`, which tells the study. The estimator then stays as it was
    before `fit`.

    Parameters
    ----------
    trial : optuna.trial.Trial
        The trial that the fit belongs to.
    monitor : {"validation_score", "validation_loss", "loss"}, default="validation_score"
        The value to report: the score or the loss of the validation rows, which
        ``early_stopping=True`` holds out or ``X_val`` gives, or the training loss. For an
        ensemble, the mean over its members. The study must maximize a score and minimize a loss.

    Raises
    ------
    ImportError
        When a fit begins, if Optuna is not installed: ``pip install "skbackprop[optuna]"``.
    TypeError
        When a fit begins, if the estimator is not a network of this package. Set the callback on
        the network itself, not on a pipeline around it.
    ValueError
        If `monitor` is not one of these values; when a fit begins, if the study has the other
        direction; after the first epoch, if there are no validation rows.
    optuna.TrialPruned
        After an epoch, if the trial is pruned.

    See Also
    --------
    BackpropHalvingRandomSearchCV : Drops bad candidates early, without Optuna.

    Notes
    -----
    Optuna's steps are epochs, counted from 1. A value that is not finite is reported as NaN, which
    pruners rank last. A fit by L-BFGS has a single step, at its end, so it is not ended early.

    References
    ----------
    Akiba, T., Sano, S., Yanase, T., Ohta, T. & Koyama, M. (2019). Optuna: a next-generation
    hyperparameter optimization framework. KDD.

    Examples
    --------
    >>> import numpy as np
    >>> import optuna
    >>> from sklearn.datasets import load_iris
    >>> from skbackprop import BackpropClassifier
    >>> from skbackprop.callbacks import OptunaPruningCallback
    >>> X, y = load_iris(return_X_y=True)
    >>> def objective(trial):
    ...     rate = trial.suggest_float("learning_rate_init", 1e-4, 1e-1, log=True)
    ...     model = BackpropClassifier(
    ...         (16,),
    ...         learning_rate_init=rate,
    ...         early_stopping=True,
    ...         n_iter_no_change=np.inf,
    ...         max_iter=30,
    ...         random_state=0,
    ...     )
    ...     model.set_callbacks(OptunaPruningCallback(trial)).fit(X, y)
    ...     return model.best_validation_score_
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study(
    ...     direction="maximize", sampler=optuna.samplers.TPESampler(seed=0)
    ... )
    >>> study.optimize(objective, n_trials=5)
    >>> study.best_value > 0.8
    True
    """

    def __init__(self, trial: Any, monitor: MonitoredValue = "validation_score") -> None:
        if monitor not in get_args(MonitoredValue):
            names = list(get_args(MonitoredValue))
            raise ValueError(f"monitor must be one of {names}, got {monitor!r}.")
        self.trial, self.monitor = trial, monitor

    def __repr__(self) -> str:
        return f"OptunaPruningCallback({self.trial!r}, monitor={self.monitor!r})"

    def setup(self, estimator: Any, context: Any) -> None:
        """Check that the estimator trains in epochs and the study has the right direction."""
        _import_optuna()
        self._check_estimator(estimator, isinstance(estimator, BaseNeuralNetwork))
        expected = "maximize" if self.monitor == "validation_score" else "minimize"
        study = getattr(self.trial, "study", None)  # a FixedTrial has none
        direction = expected if study is None else study.directions[0].name.lower()
        if direction != expected:
            raise ValueError(
                f'monitor={self.monitor!r} needs direction="{expected}", but the study has '
                f'direction="{direction}". Create a new study, or monitor another value.'
            )

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Report an epoch, and stop training if the trial is pruned."""
        if context.task_name != "epoch" or fitted_estimator is None:
            return
        epoch = context.task_id + 1
        self.trial.report(self._mean_last_value(fitted_estimator._model.state.history), epoch)
        if self.trial.should_prune():
            raise _import_optuna().TrialPruned(f"{self.monitor} after epoch {epoch}")

    def _mean_last_value(self, histories: Sequence[History]) -> float:
        """Return the mean of the last value of each member, also of members that have stopped."""
        last = [history.last for history in histories]
        if not all(self.monitor in record for record in last):
            raise ValueError(
                f"monitor={self.monitor!r} needs validation rows, but no rows are held out. Set "
                'early_stopping=True, or monitor="loss".'
            )
        value = float(np.mean([record[self.monitor] for record in last]))
        return value if math.isfinite(value) else math.nan


def _import_optuna() -> Any:
    with require_extra("OptunaPruningCallback", extra="optuna"):
        import optuna
    return optuna
