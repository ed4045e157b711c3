"""Checkpoints while training, from which another process goes on."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np

from ..estimators.base import BaseNeuralNetwork
from ..tabular.base import BaseTabular
from ..training.config import is_lbfgs
from ..utils.atomic_write import check_replaceable, hold_file
from ._files import prefix_file_errors


class Checkpoint:
    """Saves training to a file every so many epochs, so that nothing that ends it loses more.

    A process may end at any moment, by the kill of a scheduler, a full memory or a loss of power.
    ``fit(X, y, resume_from=path)`` goes on from the last checkpoint, and ends with the very same
    weights, losses and scores as if training had never been interrupted: the file holds the
    weights, the moments of the optimizer, the schedule, the order of the rows and the random
    streams, as arrays and without a pickle. Of L-BFGS it holds the gradients so far, which it goes
    through again without computing them.

    Parameters
    ----------
    path : str or path
        The file; the folder has to exist. A new checkpoint takes the place of the last one at
        once, when it is complete and on the disk, so that there is always a whole one. Each fit
        needs a file of its own, which it holds until it ends. If the path is a symbolic link, the
        file that it leads to is written.
    every : int, default=1
        The number of epochs, or of iterations of L-BFGS, from one checkpoint to the next, 1 or
        more. The end of training has one in any case, unless Ctrl-C or an error has ended it.

    Raises
    ------
    TypeError
        When a fit begins, if it is not one of an estimator of this package. Set it on the network
        itself, not on a pipeline around it.
    ValueError
        If a parameter is not valid; when a fit begins, if it is one of many in a search, or one of
        several networks by L-BFGS, or if another fit is writing to the file.
    OSError
        When a fit begins, if there is no such folder, or the file cannot be written or is a device;
        after an epoch, which ends training, if it cannot be written then.

    See Also
    --------
    BackpropClassifier.fit : Its ``resume_from`` goes on from a checkpoint.

    Notes
    -----
    Data and parameters have to be the same when training is resumed; that is checked, the data by a
    sample of its rows. Lambdas, closures and functions of scripts and notebooks are compared by
    their code and the values that they refer to, functions of modules by their names alone. Those
    parameters may differ that say how long to train: ``max_iter``, ``tol``, ``n_iter_no_change``
    and ``time_limit``, which counts from the resumption. A fit that has ended by ``max_iter``,
    ``time_limit`` or a callback goes on if there is more to do; schedules that go by the share of
    ``max_iter`` that is done, such as "cosine", go on from the share that it then is. The version
    of the package should be the same; one that can't read the file says so.

    On a `TabularClassifier` or `TabularRegressor`, epochs are counted in each training cycle, and
    each cycle ends with a checkpoint. The estimators of ``blend`` are not in it, and are fitted
    again when training is resumed.

    Examples
    --------
    A job that may be killed at any time, and is started again until it is done:

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

    # Asks for all that another process needs to go on.
    resumes = True

    path: Path
    every: int

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        if not isinstance(every, Integral) or isinstance(every, bool) or every < 1:
            raise ValueError(f"every must be a whole number of epochs, 1 or more, got {every!r}.")
        if not isinstance(path, (str, os.PathLike)) or not Path(path).name:
            raise ValueError(f"path of Checkpoint must be that of a file, got {path!r}.")
        self.path, self.every = Path(path).absolute(), int(every)
        # By the context of the fit: what holds the path until the fit is over.
        self._holds: dict[Any, ExitStack] = {}

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, every={self.every})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy and pickle the settings alone: the fit of a copy is another fit."""
        return type(self), (self.path, self.every)

    def setup(self, estimator: Any, context: Any) -> None:
        """Check that this fit can be resumed, before it begins."""
        name = type(estimator).__name__
        is_table = isinstance(estimator, BaseTabular)
        if not is_table and not isinstance(estimator, BaseNeuralNetwork):
            raise TypeError(
                f"Checkpoint saves the training of a network of skbackprop, but {name} is none. "
                "Call set_callbacks on the network itself: model[-1], if it ends a pipeline."
            )
        if _is_one_of_many(context):
            raise ValueError(
                f"Checkpoint has one file, {str(self.path)!r}, and a search fits many networks. "
                "Set it on the best one, and fit that alone."
            )
        if (
            not is_table
            and is_lbfgs(estimator.solver)
            and getattr(estimator, "n_estimators", 1) > 1
        ):
            raise ValueError(
                "Checkpoint can't resume several networks by L-BFGS, which trains one after the "
                f"other. Set n_estimators=1 (now {estimator.n_estimators}), or take another solver."
            )
        if not self.path.parent.is_dir():
            raise FileNotFoundError(
                f"Checkpoint has no folder {str(self.path.parent)!r} to write to. Make it first."
            )
        with prefix_file_errors(self, self.path), ExitStack() as stack:
            try:
                stack.enter_context(hold_file(self.path))
            except BlockingIOError as error:
                raise ValueError(
                    f"Checkpoint has one file, {str(self.path)!r}, which another fit is writing "
                    "to now, in this process or another. Give each fit a file of its own; in "
                    "cross-validation do without checkpoints: set_callbacks(). If there is no "
                    f"other fit, remove {error.filename!r}."
                ) from None
            check_replaceable(self.path)
            self._holds[context] = stack.pop_all()

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Save, if it is the turn of this epoch or training is over."""
        if fitted_estimator is not None:
            self._save_if_due(context, fitted_estimator, fitted_estimator._resumable.save)

    def _save_if_due(
        self, context: Any, fitted_estimator: Any, save: Callable[[Path], None]
    ) -> None:
        """Let `save` write the file, if it is the turn of this epoch or training is over."""
        is_over = context.task_name == "fit"
        if is_over or np.max(fitted_estimator.n_iter_) % self.every == 0:
            with prefix_file_errors(self, self.path):
                save(self.path)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Let other fits have the path; the last checkpoint stays."""
        self._holds.pop(context, ExitStack()).close()


def _is_one_of_many(context: Any) -> bool:
    """Return whether a task is one of those that may run side by side, as those of a search."""
    above = context.parent
    while above is not None:
        if not above.sequential_subtasks:
            return True
        above = above.parent
    return False
