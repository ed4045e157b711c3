"""Callback that saves checkpoints, from which another process can resume training."""

from __future__ import annotations

import os
from inspect import signature
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import check_scalar


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

    # Requests the full training state.
    resumes = True

    path: Path
    every: int

    def __init__(self, path: str | os.PathLike[str], every: int = 1) -> None:
        check_scalar(every, "every", Integral, min_val=1)
        self.path, self.every = Path(path).absolute(), int(every)

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, every={self.every})"

    def setup(self, estimator: Any, context: Any) -> None:
        """Check that this fit can be resumed, before it begins."""
        if "resume_from" not in signature(type(estimator).fit).parameters:
            raise TypeError(
                "Checkpoint must be set on a skbackprop network, got a "
                f"{type(estimator).__name__}. Call set_callbacks on the network itself, such as "
                "model[-1] of a pipeline."
            )
        parent = context.parent
        while parent is not None:
            if not parent.sequential_subtasks:
                raise ValueError(
                    f"Checkpoint writes one file, {str(self.path)!r}, but a search fits many "
                    "networks. Set it on a single estimator with the best parameters."
                )
            parent = parent.parent
        os.scandir(self.path.parent).close()  # raises an error without the folder

    def on_fit_task_begin(self, estimator: Any, context: Any) -> None:
        """Do nothing."""

    def on_fit_task_end(
        self, estimator: Any, context: Any, *, fitted_estimator: Any = None
    ) -> None:
        """Save a checkpoint after every few epochs and at the end of training."""
        if fitted_estimator is None:  # a task of a tabular estimator, which saves by itself
            return
        if context.parent is None or np.max(fitted_estimator.n_iter_) % self.every == 0:
            fitted_estimator._write_checkpoint(self.path)

    def teardown(self, estimator: Any, context: Any) -> None:
        """Keep the last checkpoint."""
