"""Penalties on the weights; the biases stay free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .arrays import Array, PerMember, factors


@dataclass(frozen=True)
class L2:
    """The penalty alpha / 2 * sum(W^2), divided by the weight of the rows that it is fitted to.

    Parameters
    ----------
    alpha : float or array of shape (n_members, 1), default=0.0
        The strength, not negative.
    """

    alpha: PerMember = 0.0

    def measure(self, weights: Array) -> Array:
        """Return sum(W^2) of each member, cheap enough for every step: shape (n_members,)."""
        squares: Array = np.vecdot(weights, weights)
        return squares

    def value(self, measures: Array) -> Array:
        """Return the penalties, not yet divided, of float64 measures (n_members, n_steps)."""
        # Without a penalty, weights whose squares overflow are nobody's concern.
        return np.where(np.equal(self.alpha, 0), 0.0, 0.5 * self.alpha * measures)

    def add_gradient(self, blocks: Sequence[tuple[Array, Array, Array]], scale: PerMember) -> None:
        """Add `scale` times the gradient, block by block of (weights, gradient, scratch).

        On return the scratch arrays are overwritten.
        """
        (factor,) = factors(blocks[0][0], self.alpha * scale)
        for weights, gradient, scratch in blocks:
            np.multiply(weights, factor, out=scratch)
            np.add(gradient, scratch, out=gradient)
