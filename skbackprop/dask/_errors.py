"""What is raised when there is no cluster to train on any more."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker

from ..training.callbacks import TrainingInterrupted


class ClusterLostError(TrainingInterrupted, ConnectionError):
    """The scheduler, all workers or the rows are gone, so that training can't go on.

    What the complete epochs have reached is kept: if there is one, the estimator is fitted.

    Examples
    --------
    >>> from skbackprop.dask import ClusterLostError
    >>> issubclass(ClusterLostError, ConnectionError)
    True
    """


def cluster_lost_error(what: str) -> ClusterLostError:
    """Return the error that says what was lost, and what to do."""
    return ClusterLostError(
        f"The cluster has lost rows or is gone: {what}. Rows of a dead worker come back if Dask "
        "can compute them again, so make them of files or of arrays, and don't scatter them. See "
        "that a scheduler and workers are there, and fit again, with resume_from if there is a "
        "checkpoint."
    )


@contextmanager
def translate_comm_errors() -> Iterator[None]:
    """Say of what was to come from the cluster, and can't, that it is lost."""
    try:
        yield
    except (CancelledError, CommClosedError, KilledWorker, TimeoutError) as error:
        raise cluster_lost_error(f"{type(error).__name__}: {error}") from error
