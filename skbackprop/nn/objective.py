"""What training minimises: the mean loss of a batch plus the penalty, with its gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..losses.base import Loss
from ..utils.arrays import Array, BufferPool, FloatOrPerMember, iter_column_blocks
from ..utils.config import check_in_place
from ..utils.stack_members import index_members
from .data_loader import Batch, PrefetchBuffer
from .forward_backward import BuiltNetwork
from .network import Network
from .parameters import FlatParameters
from .regularizers import Regularizer


class DivergenceError(ArithmeticError):
    """Training left the finite numbers; the stack is as it was before the epoch.

    Attributes
    ----------
    members : array of bool of shape (n_estimators,)
        The members that did; the others can go on once these have retired.
    """

    def __init__(self, members: Array) -> None:
        super().__init__("a loss, a parameter or a moment is no longer finite")
        self.members = members


@dataclass(frozen=True)
class Objective:
    """Mean loss over the rows of a batch, plus the penalty over their weight.

    Parameters
    ----------
    network : Network
        The architecture.
    loss : Loss
        The loss of a row.
    penalty : Penalty
        The penalty on the weights.
    """

    network: Network
    loss: Loss
    penalty: Regularizer

    def members(self, members: Any) -> Objective:
        """Return the objective of some members: a slice, or an array of their numbers."""
        return replace(self, penalty=index_members(self.penalty, members))

    @property
    def loss_normalizer(self) -> int:
        """The number of targets that the loss of a row is divided by where it is reported.

        What is minimised, the value that belongs to the gradient, is the sum over the targets.
        """
        if not self.loss.average_over_outputs:
            return 1
        return self.network.widths[-1] // self.loss.n_outputs_per_target

    def batch_losses(self, chunk: PrefetchBuffer) -> Array:
        """Return the weighted loss of each batch of a chunk, once the scores are in.

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
    """The gradient of an objective, bound to some members and one size of batch.

    Calling it with a batch leaves the scores in the batch and the gradient in `g`, and returns
    the measures of the weights, which the penalty needs for its value.

    Parameters
    ----------
    objective : Objective
        The objective of these members.
    parameters, gradients : FlatParameters
        The parameters of these members, and where their gradients go.
    n_rows : int
        The rows of a batch.
    pool : Workspace
        Where the buffers come from.
    sparse : bool, default=False
        Whether the input is sparse.
    rngs : sequence of Generator, default=()
        What draws each member's masks, where the network has dropout.
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
        """Leave the gradient of the loss alone in `g`."""
        at_hand = self._pass.batch
        at_hand.weight, at_hand.total = batch.weight, batch.total
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
        """Check in the first step that the loss has written its gradient to `delta`."""
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
    """The gradient of a penalty, bound to the weights and to the gradient that it is added to.

    Parameters
    ----------
    penalty : Penalty
        The penalty of these members.
    parameters, gradients : FlatParameters
        The parameters of these members, and their gradients.
    pool : Workspace
        Where scratch memory comes from.
    """

    def __init__(
        self,
        penalty: Regularizer,
        parameters: FlatParameters,
        gradients: FlatParameters,
        pool: BufferPool,
    ) -> None:
        self._penalty, self._weights = penalty, parameters.regularized
        self._is_penalised = bool(np.any(penalty.alpha))
        self._nothing = np.zeros(len(parameters))
        self._blocks = [
            (weights, gradient, pool.get("penalty", weights.shape))
            for weights, gradient in iter_column_blocks(
                parameters.regularized, gradients.regularized
            )
        ]

    def __call__(self, total: FloatOrPerMember) -> Array:
        """Add the gradient of the penalty on rows of the weight `total`.

        Returns what the penalty measures of the weights: shape (n_estimators,).
        """
        if not self._is_penalised:
            return self._nothing
        self._penalty.add_gradient(self._blocks, 1 / total)
        return self._penalty.accumulate(self._weights)


def fsum_or_nan(values: list[float]) -> float:
    """Return the exactly rounded sum, or NaN where it is not finite."""
    try:
        return math.fsum(values)
    except (ValueError, OverflowError):
        return math.nan
