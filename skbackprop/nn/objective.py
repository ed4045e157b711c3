"""Training objective: mean loss of a batch plus the penalty, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..losses.base import Loss
from ..utils.arrays import (
    Array,
    BufferPool,
    FloatOrPerMember,
    cast_hyperparameters,
    iter_column_blocks,
)
from ..utils.configurable import check_in_place, index_settings
from .data_loader import Batch, ChunkBuffer
from .network import BuiltNetwork, Network
from .parameters import FlatParameters


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


# Columns that are summed at once.
_COLUMNS = 4096


@dataclass(frozen=True)
class L2:
    """L2 penalty: alpha / 2 * sum(W^2), divided by the total weight of the training rows.

    It is the base class of penalties.

    Parameters
    ----------
    alpha : float or array of shape (n_estimators, 1), default=0.0
        The strength, 0 or more.
    """

    alpha: FloatOrPerMember = 0.0

    @property
    def smooth(self) -> L2:
        """The part of the penalty that is differentiable everywhere."""
        return self

    @property
    def l1(self) -> FloatOrPerMember:
        """The factor of sum(|W|), the other part of the penalty."""
        return 0.0

    def accumulate(self, weights: Array) -> Array:
        """Return the sums over the weights that `value` needs, of shape (n_estimators,)."""
        squares: Array = np.vecdot(weights, weights)
        return squares

    def value(self, sums: Array) -> Array:
        """Return undivided penalties from float64 sums of shape (n_estimators, n_steps)."""
        # With alpha = 0 the sum of squares may overflow.
        return np.where(np.equal(self.alpha, 0), 0.0, 0.5 * self.alpha * sums)

    def add_gradient(
        self, blocks: Sequence[tuple[Array, Array, Array]], scale: FloatOrPerMember
    ) -> None:
        """Add `scale` times the gradient, for each block of (weights, gradient, scratch).

        On return the scratch arrays are overwritten.
        """
        (factor,) = cast_hyperparameters(blocks[0][0], self.alpha * scale)
        for weights, gradient, scratch in blocks:
            np.multiply(weights, factor, out=scratch)
            np.add(gradient, scratch, out=gradient)


@dataclass(frozen=True)
class L1L2(L2):
    """Elastic-net penalty: alpha * (l1_ratio * sum(|W|) + (1 - l1_ratio) / 2 * sum(W^2)).

    It is divided by the total weight of the training rows. The gradient of |W| is sign(W), which
    is 0 where W = 0 (Zou & Hastie 2005, section 2; parameters as in scikit-learn's `ElasticNet`).

    Parameters
    ----------
    alpha : float or array of shape (n_estimators, 1), default=0.0
        The strength, 0 or more.
    l1_ratio : float or array of shape (n_estimators, 1), default=0.5
        The share of the L1 penalty, in [0, 1].
    """

    alpha: FloatOrPerMember = 0.0
    l1_ratio: FloatOrPerMember = 0.5

    @property
    def smooth(self) -> L2:
        return L2(self.alpha * (1 - self.l1_ratio))

    @property
    def l1(self) -> FloatOrPerMember:
        return self.alpha * self.l1_ratio

    def accumulate(self, weights: Array) -> Array:
        # In float64 and in fixed pieces, so that sums do not depend on the size of the stack.
        magnitudes = np.zeros(len(weights))
        for start in range(0, weights.shape[1], _COLUMNS):
            magnitudes += np.abs(weights[:, start : start + _COLUMNS]).sum(axis=1)
        squares = np.vecdot(weights, weights).astype(np.float64)
        share = np.ravel(self.l1_ratio)
        return np.asarray(share * magnitudes + (1 - share) / 2 * squares)

    def value(self, sums: Array) -> Array:
        return np.where(np.equal(self.alpha, 0), 0.0, self.alpha * sums)

    def add_gradient(
        self, blocks: Sequence[tuple[Array, Array, Array]], scale: FloatOrPerMember
    ) -> None:
        l1, l2 = cast_hyperparameters(blocks[0][0], self.l1 * scale, self.smooth.alpha * scale)
        for weights, gradient, scratch in blocks:
            np.sign(weights, out=scratch)
            np.multiply(scratch, l1, out=scratch)
            np.add(gradient, scratch, out=gradient)
            np.multiply(weights, l2, out=scratch)
            np.add(gradient, scratch, out=gradient)


@dataclass(frozen=True)
class Objective:
    """Objective: mean loss over the rows of a batch, plus the penalty divided by their weight.

    The loss of a row includes those of the layers that have one of their own.

    Parameters
    ----------
    network : Network
        The architecture.
    loss : Loss
        The loss of a row.
    penalty : L2
        The penalty on the weights.
    """

    network: Network
    loss: Loss
    penalty: L2

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
        return self.network.n_units[-1] // self.loss.n_outputs_per_target

    def batch_losses(self, chunk: ChunkBuffer) -> Array:
        """Return the weighted loss of each batch of a chunk with computed raw predictions.

        It includes the layers' own losses.

        Returns
        -------
        losses : float64 array of shape (n_estimators, n_batches)
            Sums over the rows of each batch, not divided by their weight.
        """
        values = self.loss.value(chunk.scores, chunk.y)
        if np.shape(values) != chunk.scores.shape[:-1]:
            raise ValueError(
                f"{type(self.loss).__name__}.value(raw_prediction, y) must return the loss of each "
                f"row, of shape (networks, n) = {chunk.scores.shape[:-1]}, but returned the shape "
                f"{np.shape(values)} for raw predictions of shape {chunk.scores.shape}. Sum over "
                "the last axis."
            )
        if chunk.raw_weight is not None:
            values = values * chunk.raw_weight[:, :, 0]
        # Converted first, since a sum that converts adds up in another order in a larger stack.
        values = values.astype(np.float64, copy=False)
        by_batch = values.reshape(len(values), len(chunk.batches), chunk.batch_size)
        sums = np.asarray(by_batch.sum(axis=2))
        if self.network.has_activity_loss:
            sums += np.stack([np.asarray(b.activity_loss) for b in chunk.batches], axis=1)
        return sums


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
        if self._pass.activity_loss is not None:
            batch.activity_loss = _sum_by_weight(self._pass.activity_loss, batch)
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
                f"{type(loss).__name__}.gradient(raw_prediction, y, out) must write the gradient "
                "to out, but wrote nothing or only NaN. Write out[...] = result, or use out=out "
                "in NumPy functions."
            )
        self._is_checked = True


def _sum_by_weight(values: Array, batch: Batch) -> Array:
    """Return the weighted sum over the rows of a batch, in double precision, for each member."""
    in_double = np.atleast_2d(values).astype(np.float64)
    weight = batch.weight[..., 0] if isinstance(batch.weight, np.ndarray) else batch.weight
    return np.asarray((in_double * weight).sum(axis=1) * np.ravel(batch.total))


class PenaltyGradient:
    """Gradient of a penalty, bound to the weights and to the gradient to which it is added.

    Parameters
    ----------
    penalty : L2
        The penalty of these members.
    parameters, gradients : FlatParameters
        The parameters of these members, and their gradients.
    pool : BufferPool
        The memory for scratch arrays.
    """

    def __init__(
        self,
        penalty: L2,
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
