"""Penalties on the weights; the biases stay free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..utils.arrays import Array, FloatOrPerMember, cast_hyperparameters

# Columns that are added up at once. Fixed, so that sums do not depend on the size of the stack.
_COLUMNS = 4096


class Regularizer:
    """What is added to the loss, divided by the weight of the rows that it is fitted to.

    Attributes
    ----------
    alpha : float or array of shape (n_estimators, 1)
        The strength, not negative.
    """

    alpha: FloatOrPerMember

    @property
    def smooth(self) -> L2:
        """The part of it that has a gradient everywhere."""
        raise NotImplementedError(f"{type(self).__name__} has to define smooth")

    @property
    def l1(self) -> FloatOrPerMember:
        """The factor of the sum of magnitudes, which makes up the rest of it."""
        raise NotImplementedError(f"{type(self).__name__} has to define l1")

    def accumulate(self, weights: Array) -> Array:
        """Return the sums of the weights that `value` needs, of shape (n_estimators,)."""
        raise NotImplementedError(f"{type(self).__name__} has to define accumulate(weights)")

    def value(self, measures: Array) -> Array:
        """Return the penalties, not yet divided, of float64 measures (n_estimators, n_steps)."""
        raise NotImplementedError(f"{type(self).__name__} has to define value(measures)")

    def add_gradient(
        self, blocks: Sequence[tuple[Array, Array, Array]], scale: FloatOrPerMember
    ) -> None:
        """Add `scale` times the gradient, block by block of (weights, gradient, scratch).

        On return the scratch arrays are overwritten.
        """
        raise NotImplementedError(f"{type(self).__name__} has to define add_gradient(...)")


@dataclass(frozen=True)
class L2(Regularizer):
    """The penalty alpha / 2 * sum(W^2), divided by the weight of the rows that it is fitted to.

    Parameters
    ----------
    alpha : float or array of shape (n_estimators, 1), default=0.0
        The strength, not negative.
    """

    alpha: FloatOrPerMember = 0.0

    @property
    def smooth(self) -> L2:
        return self

    @property
    def l1(self) -> FloatOrPerMember:
        return 0.0

    def accumulate(self, weights: Array) -> Array:
        squares: Array = np.vecdot(weights, weights)
        return squares

    def value(self, measures: Array) -> Array:
        # Without a penalty, weights whose squares overflow are nobody's concern.
        return np.where(np.equal(self.alpha, 0), 0.0, 0.5 * self.alpha * measures)

    def add_gradient(
        self, blocks: Sequence[tuple[Array, Array, Array]], scale: FloatOrPerMember
    ) -> None:
        (factor,) = cast_hyperparameters(blocks[0][0], self.alpha * scale)
        for weights, gradient, scratch in blocks:
            np.multiply(weights, factor, out=scratch)
            np.add(gradient, scratch, out=gradient)


@dataclass(frozen=True)
class L1L2(Regularizer):
    """The penalty alpha * (l1_ratio * sum(|W|) + (1 - l1_ratio) / 2 * sum(W^2)), divided likewise.

    The gradient of |W| is taken as sign(W), which is 0 where W = 0 (Zou & Hastie 2005,
    section 2, in the parametrisation of scikit-learn's `L1L2`).

    Parameters
    ----------
    alpha : float or array of shape (n_estimators, 1), default=0.0
        The strength, not negative.
    l1_ratio : float or array of shape (n_estimators, 1), default=0.5
        The share of the first sum, in [0, 1].
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
        magnitudes = _sums_of_magnitudes(weights)
        squares = np.vecdot(weights, weights).astype(np.float64)
        share = np.ravel(self.l1_ratio)
        return np.asarray(share * magnitudes + (1 - share) / 2 * squares)

    def value(self, measures: Array) -> Array:
        return np.where(np.equal(self.alpha, 0), 0.0, self.alpha * measures)

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


def _sums_of_magnitudes(weights: Array) -> Array:
    """Return sum(|W|) of each member in float64, the same whoever shares its stack."""
    sums = np.zeros(len(weights))
    for start in range(0, weights.shape[1], _COLUMNS):
        sums += np.abs(weights[:, start : start + _COLUMNS]).sum(axis=1)
    return sums
