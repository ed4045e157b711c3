"""How the workers train together: what each does between two exchanges with the client."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Any, TypeAlias

from ..utils.config import Configurable

# Of the time, what rounds may take beside the steps where "auto" chooses their number.
_SHARE_OF_ROUNDS = 0.2


@dataclass(frozen=True)
class SyncSGD(Configurable):
    """One step in each round, by the gradient of a batch that all workers share.

    Each worker takes its part of the batch, in proportion to its rows, and sends the gradient;
    their sum makes one step: ``g = sum_w gradient_w``, where the share of a row is its weight over
    the weight of the whole batch. It is what one machine computes of the same batch, up to the
    order in which it is summed (Dean et al. 2012, section 4, without its staleness). So where a
    batch holds all rows, training equals that of the local estimator, up to rounding.

    References
    ----------
    Dean, J. et al. (2012). Large scale distributed deep networks. NeurIPS.

    Examples
    --------
    >>> from skbackprop.dask import DaskBackpropClassifier, SyncSGD
    >>> DaskBackpropClassifier(rounds=SyncSGD(), batch_size=10_000)
    DaskBackpropClassifier(batch_size=10000, rounds=SyncSGD())
    """


@dataclass(frozen=True)
class LocalSGD(Configurable):
    """Several steps of each worker by itself, then the mean of what they have come to.

    All workers begin a round with the same parameters and moments. Each makes `n_steps` steps on
    batches of its own rows. Parameters, moments, averages and running statistics are then averaged,
    and each worker counts by the total weight of its rows (Stich 2019, algorithm 1; the moments
    likewise, as in Reddi et al. 2021 and Wang et al. 2020). There are about `n_steps` times fewer
    rounds than steps, and with W workers W times fewer steps of each in an epoch than on one
    machine.

    All workers make the same number of steps, so that the weighted loss of all rows is minimized
    (Wang et al. 2020b, section 3, show what is minimized otherwise). The worker with the most rows
    takes batches of at most about `batch_size` rows. A worker with fewer rows goes over them
    several times, or takes smaller batches. Rows of weight zero are left out. With an optimizer
    such as Adam, which divides steps by the root of a second moment, each parameter of a worker
    also counts by this root, because the moments of the workers differ within a round (Wang et al.
    2021).

    Parameters
    ----------
    n_steps : int or None, default=None
        The steps between two averages, at least 1. None for as many that the rounds take about a
        fifth of the time, by times that are measured when `fit` begins, and an epoch at most; the
        number is then in the estimator's ``rounds_``.

    Raises
    ------
    ValueError
        If `n_steps` is out of its range.

    References
    ----------
    Stich, S. U. (2019). Local SGD converges fast and communicates little. ICLR.

    Wang, J. et al. (2020). SlowMo: improving communication-efficient distributed SGD with slow
    momentum. ICLR, section 2.

    Wang, J. et al. (2020b). Tackling the objective inconsistency problem in heterogeneous federated
    optimization. NeurIPS.

    Wang, J. et al. (2021). Local adaptivity in federated learning: convergence and consistency.
    arXiv:2106.02305.

    Examples
    --------
    >>> from skbackprop.dask import DaskBackpropClassifier, LocalSGD
    >>> DaskBackpropClassifier(rounds=LocalSGD(n_steps=16))
    DaskBackpropClassifier(rounds=LocalSGD(n_steps=16))
    """

    n_steps: int | None = None

    def __post_init__(self) -> None:
        n_steps = self.n_steps
        is_count = isinstance(n_steps, Integral) and not isinstance(n_steps, bool)
        if n_steps is not None and not (is_count and n_steps >= 1):
            raise ValueError(
                f"n_steps must be a whole number of at least 1, or None, got {n_steps!r}."
            )


Rounds: TypeAlias = SyncSGD | LocalSGD


@dataclass(frozen=True)
class Timings:
    """What was measured before the first round, in seconds.

    Parameters
    ----------
    round : float
        A round in which nothing is computed.
    step : float
        A step of the slowest worker on a batch of its own.
    """

    round: float
    step: float


def needs_times(rounds: Any) -> bool:
    """Return whether times have to be measured to tell what is done in a round."""
    return isinstance(rounds, str) or (isinstance(rounds, LocalSGD) and rounds.n_steps is None)


def choose_sync(rounds: Any, times: Timings, n_steps_of_epoch: int) -> Rounds:
    """Return what is done in a round: what the user says, or what takes less time.

    Parameters
    ----------
    rounds : "auto", SyncSGD or LocalSGD
        What the user says.
    times : Times
        What was measured.
    n_steps_of_epoch : int
        The steps that a worker makes in an epoch, where it makes them by itself.
    """
    if isinstance(rounds, str) and times.round <= times.step:
        return SyncSGD()
    ratio = times.round / max(times.step, 1e-9)
    n_steps = math.ceil(ratio * (1 - _SHARE_OF_ROUNDS) / _SHARE_OF_ROUNDS)
    return LocalSGD(max(1, min(n_steps, n_steps_of_epoch)))
