"""Callback that saves checkpoints, from which another process can resume training."""

from __future__ import annotations

import os
from contextlib import ExitStack
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from ..estimators.base import BaseNeuralNetwork
from ..tabular.base import BaseTabular
from ..training.config import is_lbfgs
from ..utils.atomic_write import check_replaceable, lock_file, prefix_file_errors


class Checkpoint:
    """Callback that saves the training state to a file after every few epochs.

    If the process ends early, for example because a scheduler kills it, ``fit(X, y,
    resume_from=path)`` resumes training from the last checkpoint. The resumed fit ends with exactly
    the same weights, losses and scores as an uninterrupted fit. The file has the weights, the
    optimizer state, the learning rate schedule, the order of the rows and the random states, as
    arrays without pickles.

    Parameters
    ----------
    path : str or path
        The file, in an existing folder. A new checkpoint replaces the last one only after it is
        completely written. Each fit needs its own file, and locks the file until the fit ends. If
        the path is a symbolic link, the linked file is written.
    every : int, default=1
        The number of epochs, or of iterations of L-BFGS, between checkpoints, at least 1. The state
        at the end of training is also saved, unless Ctrl-C or an error ended training.

    Raises
    ------
    TypeError
        When a fit begins, if the estimator is not one of this package. Set the callback on the
        network itself, not on a pipeline around it.
    ValueError
        If a parameter is not valid. When a fit begins, if this is one of many fits of a search, if
        it trains several networks with L-BFGS, or if another fit is writing to the file.
    OSError
        When a fit begins, if the folder does not exist, or the file is not writable or is a device.
        After an epoch, if the file cannot be written. Training then ends.

    See Also
    --------
    BackpropClassifier.fit : Its ``resume_from`` resumes training from a checkpoint.

    Notes
    -----
    Data and parameters must be the same when training is resumed. `fit` checks the parameters and a
    sample of the rows. Lambdas, closures and functions of scripts and notebooks are compared by
    their code and the values that they refer to, functions of modules only by their names.
    ``random_state`` is ignored, because the file has the random state. Parameters that limit the
    length of training may change: ``max_iter``, ``tol``, ``n_iter_no_change`` and ``time_limit``,
    which starts again when training is resumed. A fit that ended by ``max_iter``, ``time_limit`` or
    a callback continues if the new limits allow it. Schedules that depend on ``max_iter``, such as
    "cosine", use the new ``max_iter`` for the remaining epochs. The version of the package should
    be the same; a version that cannot read the file raises an error.

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

    # Requests the full training state.
    resumes = True

    path: Path
    every: int

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        if not isinstance(every, Integral) or isinstance(every, bool) or every < 1:
            raise ValueError(
                "every of Checkpoint must be an int of at least 1, the number of epochs between "
                f"two checkpoints, got {every!r}."
            )
        if not isinstance(path, (str, os.PathLike)) or not Path(path).name:
            raise ValueError(f"path of Checkpoint must be the path of a file, got {path!r}.")
        self.path, self.every = Path(path).absolute(), int(every)
        # The file locks of running fits, by their contexts.
        self._locks: dict[Any, ExitStack] = {}

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, every={self.every})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle only the settings, because a copy belongs to another fit."""
        return type(self), (self.path, self.every)

    def setup(self, estimator: Any, context: Any) -> None:
        """Check that this fit can be resumed, before it begins."""
        name = type(estimator).__name__
        is_table = isinstance(estimator, BaseTabular)
        if not is_table and not isinstance(estimator, BaseNeuralNetwork):
            raise TypeError(
                f"Checkpoint must be set on a skbackprop network, got a {name}. Call set_callbacks "
                "on the network itself, such as model[-1] of a pipeline."
            )
        if _has_parallel_siblings(context):
            raise ValueError(
                f"Checkpoint writes one file, {str(self.path)!r}, but a search fits many networks. "
                "Set it on a single estimator with the best parameters."
            )
        if (
            not is_table
            and is_lbfgs(estimator.solver)
            and getattr(estimator, "n_estimators", 1) > 1
        ):
            raise ValueError(
                "Checkpoint cannot resume several networks with L-BFGS, which trains one after "
                f"the other, got n_estimators={estimator.n_estimators}. Set n_estimators=1, or use "
                "another solver."
            )
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"The folder {str(self.path.parent)!r} in the path of Checkpoint does not exist. "
                "Create it first."
            )
        with prefix_file_errors(self, self.path), ExitStack() as stack:
            try:
                stack.enter_context(lock_file(self.path))
            except BlockingIOError as error:
                raise ValueError(
                    "Another fit, in this process or in another, is writing to the file of "
                    f"Checkpoint, {str(self.path)!r}. Use a separate file for each fit. In "
                    "cross-validation, remove the callback with set_callbacks(). If no other fit "
                    f"is running, delete {error.filename!r}."
                ) from None
            check_replaceable(self.path)
            self._locks[context] = stack.pop_all()

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Save a checkpoint after every few epochs and at the end of training."""
        if fitted_estimator is None:  # a task of a tabular estimator, which saves by itself
            return
        is_over = context.task_name == "fit"
        if is_over or np.max(fitted_estimator.n_iter_) % self.every == 0:
            with prefix_file_errors(self, self.path):
                fitted_estimator._resumable.save(self.path)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Unlock the file, and keep the last checkpoint."""
        self._locks.pop(context, ExitStack()).close()


def _has_parallel_siblings(context: Any) -> bool:
    """Return whether a task belongs to tasks that may run in parallel, as in a search."""
    while (context := context.parent) is not None:
        if not context.sequential_subtasks:
            return True
    return False
