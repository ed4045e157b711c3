"""Training objective: mean loss of a batch plus the penalty, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..losses.base import Loss
from ..utils.arrays import Array, BufferPool, FloatOrPerMember, iter_column_blocks
from ..utils.configurable import check_in_place
from ..utils.stack_members import index_settings
from .data_loader import Batch, ChunkBuffer
from .forward_backward import BuiltNetwork
from .network import Network
from .parameters import FlatParameters
from .regularizers import Regularizer


class DivergenceError(ArithmeticError):
    """A loss or a trained array of some members is no longer finite.

    The stack is as it was before the epoch.

    Attributes
    ----------
    members : array of bool of shape (n_estimators,)
        The members that diverged. The others can continue once these have left the stack.
    """

    def __init__(self, members: Array) -> None:
        super().__init__("a loss, a parameter or a moment is no longer finite")
        self.members = members


@dataclass(frozen=True)
class Objective:
    """Objective: mean loss over the rows of a batch, plus the penalty divided by their weight.

    Parameters
    ----------
    network : Network
        The architecture.
    loss : Loss
        The loss of a row.
    penalty : Regularizer
        The penalty on the weights.
    """

    network: Network
    loss: Loss
    penalty: Regularizer

    def members(self, members: Any) -> Objective:
        """Return the objective of some members, a slice or an index array."""
        return replace(self, penalty=index_settings(self.penalty, members))

    @property
    def loss_normalizer(self) -> int:
        """The number of targets by which the reported loss of a row is divided.

        The gradient is that of the sum over the targets.
        """
        if not self.loss.average_over_outputs:
            return 1
        return self.network.widths[-1] // self.loss.n_outputs_per_target

    def batch_losses(self, chunk: ChunkBuffer) -> Array:
        """Return the weighted loss of each batch of a chunk with computed raw predictions.

        Returns
        -------
        losses : float64 array of shape (n_estimators, n_batches)
            Sums over the rows of each batch, not divided by their weight.
        """
        values = self.loss.value(chunk.scores, chunk.y)
        if np.shape(values) != chunk.scores.shape[:-1]:
            raise ValueError(
                f"{type(self.loss).__name__}.value(raw_prediction, y) returned the shape "
                f"{np.shape(values)} for scores of shape {chunk.scores.shape}, but has to return "
                f"the loss of each row, of shape (networks, n) = {chunk.scores.shape[:-1]}: a sum "
                "over the last axis."
            )
        if chunk.raw_weight is not None:
            values = values * chunk.raw_weight[:, :, 0]
        # Converted first, since a sum that converts adds up in another order in a larger stack.
        values = values.astype(np.float64, copy=False)
        by_batch = values.reshape(len(values), len(chunk.batches), chunk.batch_size)
        return np.asarray(by_batch.sum(axis=2))


class LossAndGradient:
    """Loss and gradient of an objective, bound to some members and one batch size.

    A call with a batch writes the raw predictions to the batch and the gradient to `g`, and returns
    the sums over the weights from which the penalty computes its value.

    Parameters
    ----------
    objective : Objective
        The objective of these members.
    parameters, gradients : FlatParameters
        The parameters of these members, and their gradients.
    n_rows : int
        The rows of a batch.
    pool : BufferPool
        The memory for buffers.
    sparse : bool, default=False
        Whether the input is sparse.
    rngs : sequence of Generator, default=()
        The random generators of each member's dropout masks, if the network has dropout.
    """

    def __init__(
        self,
        objective: Objective,
        parameters: FlatParameters,
        gradients: FlatParameters,
        n_rows: int,
        pool: BufferPool,
        sparse: bool = False,
        rngs: Sequence[np.random.Generator] = (),
    ) -> None:
        self.objective = objective
        self.parameters, self.gradients = parameters, gradients
        self.theta, self.g = parameters.theta, gradients.theta
        self._pass = BuiltNetwork(
            objective.network, parameters, n_rows, pool, gradients, sparse, rngs
        )
        self.add_penalty = PenaltyGradient(objective.penalty, parameters, gradients, pool)
        self._is_checked = False

    def __call__(self, batch: Batch) -> Array:
        self.backward_loss(batch)
        return self.add_penalty(batch.total)

    def backward_loss(self, batch: Batch) -> None:
        """Write the gradient of the loss, without the penalty, to `g`."""
        weights = self._pass.batch
        weights.weight, weights.total = batch.weight, batch.total
        self._pass.forward(batch.x, batch.scores)
        delta = self._pass.delta
        if not self._is_checked:
            delta.fill(np.nan)
        loss: Any = self.objective.loss
        result = loss.gradient(batch.scores, batch.y, delta)
        if not self._is_checked:
            self._check_written(result, batch.scores, delta)
        np.multiply(delta, batch.weight, out=delta)
        self._pass.backward()

    def _check_written(self, result: object, scores: Array, delta: Array) -> None:
        """Check, in the first step, that the loss has written its gradient to `delta`."""
        loss = self.objective.loss
        check_in_place(loss, "gradient(raw_prediction, y, out)", "out", result, delta)
        if np.isnan(delta).all() and np.isfinite(scores).all():
            raise TypeError(
                f"{type(loss).__name__}.gradient(raw_prediction, y, out) has written nothing to "
                "out, or nothing but NaN. Write out[...] = result, or use out=out of NumPy's "
                "functions."
            )
        self._is_checked = True


class PenaltyGradient:
    """Gradient of a penalty, bound to the weights and to the gradient to which it is added.

    Parameters
    ----------
    penalty : Regularizer
        The penalty of these members.
    parameters, gradients : FlatParameters
        The parameters of these members, and their gradients.
    pool : BufferPool
        The memory for scratch arrays.
    """

    def __init__(
        self,
        penalty: Regularizer,
        parameters: FlatParameters,
        gradients: FlatParameters,
        pool: BufferPool,
    ) -> None:
        self._penalty, self._weights = penalty, parameters.regularized
        self._has_penalty = bool(np.any(penalty.alpha))
        self._zeros = np.zeros(len(parameters))
        self._blocks = [
            (weights, gradient, pool.get("penalty", weights.shape))
            for weights, gradient in iter_column_blocks(
                parameters.regularized, gradients.regularized
            )
        ]

    def __call__(self, total: FloatOrPerMember) -> Array:
        """Add the gradient of the penalty, divided by `total`, the weight of the rows.

        Returns the sums over the weights from which the penalty computes its value, of shape
        (n_estimators,).
        """
        if not self._has_penalty:
            return self._zeros
        self._penalty.add_gradient(self._blocks, 1 / total)
        return self._penalty.accumulate(self._weights)


def fsum_or_nan(values: list[float]) -> float:
    """Return the exactly rounded sum, or NaN if it is not finite."""
    try:
        return math.fsum(values)
    except (ValueError, OverflowError):
        return math.nan
