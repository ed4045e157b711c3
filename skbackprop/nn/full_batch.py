"""The loss of one network over all rows of a table, and its gradient, a block of rows at a time."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np

from ..utils.arrays import BufferPool, IndexArray
from .data_loader import Batch, DataLoader, Dataset
from .ensemble_trainer import TimeLimit
from .objective import LossAndGradient, Objective
from .parameters import FlatParameters


class FullBatchLoss(Protocol):
    """Mean loss over all rows, without the penalty, and its gradient."""

    gradients: FlatParameters

    @property
    def total(self) -> float:
        """The weight of all rows, over which the loss is a mean."""

    def __call__(self) -> list[float]:
        """Leave the gradient of the mean in `gradients`; return sums of losses to add up."""


class LocalFullBatchLoss:
    """The mean loss over all rows, without a penalty, as the parameters have it now.

    The rows go through in blocks, the gradients of which are added up, so memory is bounded.

    Parameters
    ----------
    objective : Objective
        The objective of one network, of which the penalty is left out.
    parameters : FlatParameters
        Its parameters, which are looked at alone.
    table : Table
        The data.
    order : Rows or None
        The rows that count; None for all.
    row_block : int
        The rows of a block.
    deadline : Deadline or None, default=None
        What ends an evaluation by an OutOfTime before any block.
    rngs : sequence of Generator, default=()
        What draws the masks, where the network has dropout.

    Attributes
    ----------
    gradients : FlatParameters
        Where the gradient goes.
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
        """The weight of all rows, over which the loss is a mean."""
        return float(self._batches.total_weights.item())

    def set_data(self, table: Dataset) -> None:
        """Take other rows, as many and alike."""
        self._batches.set_data([table])

    def __call__(self) -> list[float]:
        """Leave the gradient of the mean in `gradients`; return the sums of the losses of blocks.

        A loss is multiplied by the weight of its row, and the sums are not divided by their total.
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
