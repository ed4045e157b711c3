"""Clipping: no gradient of a step is longer than a bound."""

from __future__ import annotations

import math

import numpy as np

from ..core.arrays import Array, PerMember

# Within these bounds a square sum has neither overflowed nor lost what is small, in any dtype.
_TINY, _HUGE = 1e-30, 1e30


def clip_gradients(g: Array, clip_norm: PerMember) -> None:
    """Scale gradients down in place that are longer than they may be.

    g = clip_norm / |g| * g where |g| > clip_norm, with the Euclidean norm of all parameters of a
    member (Pascanu et al. 2013, algorithm 1). What is not finite stays so, for the end of the
    epoch to see.

    Parameters
    ----------
    g : array of shape (n_members, p)
        The gradients.
    clip_norm : float or array of shape (n_members, 1)
        The largest norm of each; infinity leaves a gradient as it is.
    """
    bounds = np.broadcast_to(clip_norm, (len(g), 1)).ravel().tolist()
    for own, square, bound in zip(g, np.vecdot(g, g).tolist(), bounds, strict=True):
        if not _TINY < square < _HUGE:
            _clip_extreme(own, bound)
        elif (norm := math.sqrt(square)) > bound:
            np.multiply(own, bound / norm, out=own)


def _clip_extreme(g: Array, clip_norm: float) -> None:
    """Clip the gradient of one member whose squares overflow, or vanish."""
    largest = float(np.abs(g).max())
    if not 0 < largest < math.inf:
        return
    scaled = g / largest
    norm = float(np.linalg.norm(scaled))
    if norm > clip_norm / largest:
        np.multiply(scaled, clip_norm / norm, out=g)
