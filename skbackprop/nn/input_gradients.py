"""How what networks say depends on their input: derivatives, in blocks of rows."""

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
    """Return derivatives by each input of quantities that depend on the scores of a stack.

    Each takes a pass forward and one back, which leaves nothing of what has gone forward.

    Parameters
    ----------
    network : Network
        The architecture, without layers that are random.
    parameters : Parameters
        The parameters of all members; only read.
    X : array or CSR matrix of shape (n, d)
        The input, the same for all members.
    slope : callable
        Takes scores of shape (n_estimators, n, k) and the number of a quantity; returns its
        derivatives by the scores, an array of the same shape.
    n_quantities : int
        How many there are.

    Returns
    -------
    gradients : array of shape (n, d, n_quantities)
        In the dtype of the parameters; dense where X is sparse as well.
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
                network, parameters, size, pool, sparse=is_sparse, is_by_input=True
            )
        x = [X[part]] if is_sparse else X[part].astype(dtype, copy=False)
        scores = pool.get("scores", (len(parameters), size, network.n_units[-1]))
        for quantity in range(n_quantities):
            passes[size].forward(x, squeeze_member_axis(scores))
            passes[size].delta[...] = squeeze_member_axis(slope(scores, quantity))
            by_input = passes[size].backward()
            # What members add to a quantity adds up in its derivative.
            gradients[part, :, quantity] = by_input if by_input.ndim == 2 else by_input.sum(axis=0)
    return gradients
