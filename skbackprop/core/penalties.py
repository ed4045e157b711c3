"""Penalties on the weights; the biases stay free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .arrays import Array, PerMember, as_factor, column_blocks


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
        return np.asarray(np.vecdot(weights, weights))

    def value(self, measures: Array) -> Array:
        """Return the penalties, not yet divided, of float64 measures (n_members, n_steps)."""
        return np.asarray(0.5 * self.alpha * measures)

    def add_gradient(self, weights: Array, scale: PerMember, g: Array, scratch: Array) -> None:
        """Add `scale` times the gradient to `g`. On return `scratch` is overwritten.

        `scratch` has the rows of `weights`, and columns for at least one of its blocks.
        """
        factor = as_factor(self.alpha * scale, weights)
        for w, gradient in column_blocks(weights, g):
            product = scratch[:, : w.shape[1]]
            np.multiply(w, factor, out=product)
            np.add(gradient, product, out=gradient)
