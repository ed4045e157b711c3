"""Errors of a cluster that is lost, with all workers or with some of the rows."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager

from distributed.comm import CommClosedError
from distributed.scheduler import KilledWorker

from ..training.training_run import TrainingInterrupted


class ClusterLostError(TrainingInterrupted, ConnectionError):
    """Training cannot continue: the scheduler, all workers or some rows are lost.

    The estimator keeps the last complete epoch, and is fitted if there is one.

    Examples
    --------
    >>> from skbackprop.dask import ClusterLostError
    >>> issubclass(ClusterLostError, ConnectionError)
    True
    """


def make_cluster_lost_error(reason: str) -> ClusterLostError:
    """Return a ClusterLostError that gives the reason and says what to do."""
    return ClusterLostError(
        f"The cluster has lost rows or cannot be reached: {reason}. Dask recomputes the rows of a "
        "dead worker if they come from files or arrays, but not if they were put on the workers "
        "with scatter. Check that the scheduler and workers are running, and call fit again, with "
        "resume_from if there is a checkpoint."
    )


@contextmanager
def translate_comm_errors() -> Iterator[None]:
    """Re-raise communication errors as ClusterLostError."""
    try:
        yield
    except (CancelledError, CommClosedError, KilledWorker, TimeoutError) as error:
        raise make_cluster_lost_error(f"{type(error).__name__}: {error}") from error
