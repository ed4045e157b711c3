"""Loss of one network over all rows of a dataset, and its gradient, in blocks of rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from ..utils.arrays import BufferPool, IndexArray
from .data_loader import Batch, DataLoader, Dataset
from .ensemble_trainer import TimeLimit
from .objective import LossAndGradient, Objective
from .parameters import FlatParameters


class FullBatchLoss:
    """Mean loss over all rows, without the penalty, and its gradient.

    The gradients of blocks of rows are summed, so memory is bounded.

    Parameters
    ----------
    objective : Objective
        The objective of one network; its penalty is not used.
    parameters : FlatParameters
        Its parameters, which are only read.
    table : Dataset
        The data.
    order : IndexArray or None
        The rows to use; None for all.
    row_block : int
        The number of rows of a block.
    deadline : TimeLimit or None, default=None
        The time limit, checked before each block.
    rngs : sequence of Generator, default=()
        The random generators of dropout masks, if the network has dropout.

    Attributes
    ----------
    gradients : FlatParameters
        The gradient.
    """

    def __init__(
        self,
        objective: Objective,
        parameters: FlatParameters,
        table: Dataset,
        order: IndexArray | None,
        row_block: int,
        deadline: TimeLimit | None = None,
        rngs: Sequence[np.random.Generator] = (),
    ) -> None:
        n_rows = table.n_rows if order is None else len(order)
        self._objective, self._parameters = objective, parameters
        self._deadline, self._streams = deadline, rngs
        self.gradients = parameters.like(np.empty_like(parameters.theta))
        self._sum = np.empty_like(parameters.theta)
        self._pool = BufferPool(parameters.dtype)
        self._batches = DataLoader(
            [table], [order], [min(row_block, n_rows)], self._pool, mean_over="epoch"
        )
        self._bound: dict[int, LossAndGradient] = {}

    @property
    def total(self) -> float:
        """The total weight of all rows, over which the loss is averaged."""
        return float(self._batches.total_weights.item())

    def set_data(self, table: Dataset) -> None:
        """Replace the data by as many rows of the same kind."""
        self._batches.set_data([table])

    def __call__(self) -> list[float]:
        """Write the gradient of the mean to `gradients`; return the sums of the blocks' losses.

        Losses are multiplied by the weights of their rows; the sums are not divided.
        """
        self._sum[...] = 0
        losses: list[float] = []
        for chunk in self._batches.chunks():
            batches: Iterable[Batch] = chunk.batches
            if self._deadline is not None:
                batches = self._deadline.before_each(batches)
            gradient = self._gradient(chunk.batch_size)
            for batch in batches:
                gradient.backward_loss(batch)
                self._sum += self.gradients.theta
            losses += self._objective.batch_losses(chunk)[0].tolist()
        np.copyto(self.gradients.theta, self._sum)
        return losses

    def _gradient(self, n_rows: int) -> LossAndGradient:
        if n_rows not in self._bound:
            self._bound[n_rows] = LossAndGradient(
                self._objective,
                self._parameters,
                self.gradients,
                n_rows,
                self._pool,
                self._batches.is_sparse,
                self._streams,
            )
        return self._bound[n_rows]
