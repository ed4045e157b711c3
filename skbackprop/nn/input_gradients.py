"""Gradients of predictions with respect to the input, in blocks of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import issparse

from ..utils.arrays import Array, BufferPool, squeeze_member_axis
from .forward_backward import BuiltNetwork
from .network import Network
from .parameters import Parameters

OutputGradient: TypeAlias = Callable[[Array, int], Array]

# Numbers in the buffers of a block of rows.
_NUMBERS = 1 << 21


def compute_input_gradients(
    network: Network, parameters: Parameters, X: Any, slope: OutputGradient, n_quantities: int
) -> Array:
    """Return gradients, with respect to the input, of functions of the raw predictions.

    Each function takes a forward and a backward pass.

    Parameters
    ----------
    network : Network
        The architecture, without stochastic layers.
    parameters : Parameters
        The parameters of all members; only read.
    X : array or CSR matrix of shape (n, d)
        The input, the same for all members.
    slope : callable
        Takes raw predictions of shape (n_estimators, n, k) and the index of a function; returns
        its gradient with respect to the raw predictions, an array of the same shape.
    n_quantities : int
        The number of functions.

    Returns
    -------
    gradients : array of shape (n, d, n_quantities)
        In the dtype of the parameters; dense for sparse X too.
    """
    n, is_sparse, dtype = X.shape[0], issparse(X), parameters.dtype
    gradients = np.empty((n, network.n_inputs, n_quantities), dtype)
    pool, passes = BufferPool(dtype), {}
    n_rows = max(1, min(n, _NUMBERS // (len(parameters) * network.memory_per_sample)))
    for start in range(0, n, n_rows):
        part = slice(start, min(start + n_rows, n))
        size = part.stop - part.start
        if size not in passes:
            passes[size] = BuiltNetwork(
                network, parameters, size, pool, sparse=is_sparse, with_input_gradient=True
            )
        x = [X[part]] if is_sparse else X[part].astype(dtype, copy=False)
        scores = pool.get("scores", (len(parameters), size, network.n_units[-1]))
        for quantity in range(n_quantities):
            passes[size].forward(x, squeeze_member_axis(scores))
            passes[size].delta[...] = squeeze_member_axis(slope(scores, quantity))
            by_input = passes[size].backward()
            # The function depends on all members, so their gradients are summed.
            gradients[part, :, quantity] = by_input if by_input.ndim == 2 else by_input.sum(axis=0)
    return gradients
