"""Mean loss over all rows and its gradient, for solvers that make no steps on batches."""

from __future__ import annotations

import math
import time
from typing import Any

import numpy as np

from ..losses.base import Loss
from ..utils.arrays import Array, BufferPool
from .network import Network
from .rows import Batches, Rows
from .stack import TimeLimitReached
from .step import Step, fsum_or_nan, sum_losses
from .train_state import TrainState

# The largest number of activations of a block of rows.
_ACTIVATIONS = 1 << 20


def rows_of_block(network: Network, n_rows: int, is_sparse: bool) -> int:
    """Return the number of rows that go through the network at once."""
    return max(1, min(n_rows, _ACTIVATIONS // network.activations_per_sample(is_sparse)))


class FullBatchObjective:
    """Objective of one network over all rows, as a function of its flat parameters.

    The gradients of blocks of rows are summed, so memory is bounded.

    Parameters
    ----------
    network : Network
        The architecture, without layers that draw random numbers.
    loss : Loss
        The loss.
    config : Config
        The configuration, whose penalty is differentiable everywhere.
    rows : Rows
        The rows.
    state : TrainState
        The state of one network. Each call overwrites its parameters.
    row_block : int
        The number of rows of a block.
    deadline : float, default=np.inf
        The time, by `time.monotonic`, after which no further block begins.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        config: Any,
        rows: Rows,
        state: TrainState,
        row_block: int,
        deadline: float = math.inf,
    ) -> None:
        self._network, self._loss, self._config, self._state = network, loss, config, state
        self._deadline, parameters = deadline, state.parameters
        self._gradients = parameters.with_arrays(np.empty_like(parameters.theta))
        self._sum = np.empty_like(parameters.theta)
        self._pool = BufferPool(parameters.theta.dtype)
        self._batches = Batches([rows], state.orders, [row_block], self._pool, mean_over="epoch")
        self._steps: dict[int, Step] = {}
        self._total = float(self._batches.total_weights.item())

    def __call__(self, x: Array) -> tuple[float, Array]:
        """Return the value at the flat parameters `x`, and a new array with the gradient.

        Raises
        ------
        TimeLimitReached
            After the deadline.
        """
        self._state.parameters.theta[0] = x
        self._sum[...] = 0
        losses: list[float] = []
        for chunk in self._batches.chunks():
            step = self._step(chunk.batch_size)
            for batch in chunk.batches:
                if time.monotonic() > self._deadline:
                    raise TimeLimitReached
                step.backpropagate(batch)
                self._sum += self._gradients.theta
            losses += sum_losses(self._loss, chunk)[0].tolist()
        np.copyto(self._gradients.theta, self._sum)
        sums = self._step(self._batches.batch_sizes[0]).add_penalty(self._total)
        losses += self._config.penalty.value(sums).tolist()
        return fsum_or_nan(losses) / self._total, self._gradients.theta[0].copy()

    def penalty(self, x: Array) -> float:
        """Return the penalty at `x`."""
        n = self._state.parameters.regularized.shape[1]
        sums = self._config.penalty.accumulate(x[None, :n])
        return float(self._config.penalty.value(sums).item() / self._total)

    def _step(self, n_rows: int) -> Step:
        if n_rows not in self._steps:
            self._steps[n_rows] = Step(
                self._network,
                self._loss,
                self._config,
                self._state,
                self._gradients,
                n_rows,
                self._pool,
                self._batches.is_sparse,
            )
        return self._steps[n_rows]
