"""Penalties on the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..utils.arrays import Array, FloatOrPerMember, cast_hyperparameters

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
        l1, l2 = cast_hyperparameters(
            blocks[0][0],
            self.alpha * self.l1_ratio * scale,
            self.alpha * (1 - self.l1_ratio) * scale,
        )
        for weights, gradient, scratch in blocks:
            np.sign(weights, out=scratch)
            np.multiply(scratch, l1, out=scratch)
            np.add(gradient, scratch, out=gradient)
            np.multiply(weights, l2, out=scratch)
            np.add(gradient, scratch, out=gradient)
