"""Raw predictions of a stack and their input gradients, in blocks of rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import issparse

from ..utils.arrays import Array, BufferPool, squeeze_member_axis
from .network import BuiltNetwork, Network
from .parameters import Parameters

# The number of values in the buffers of a block of rows, for the members computed together.
_BLOCK_NUMBERS = 1 << 21


def predict_raw(network: Network, parameters: Parameters, X: Any, rows: Any = None) -> Array:
    """Return the raw predictions of a stack, computed in blocks of rows.

    Those of a member do not depend on the number of members.

    Parameters
    ----------
    network : Network
        The architecture.
    parameters : Parameters
        The parameters of all members; only read.
    X : array or CSR matrix of shape (n, d)
        The input, the same for all members.
    rows : IndexArray or None, default=None
        The rows to predict; None for all.

    Returns
    -------
    scores : array of shape (n_estimators, n, k)
        In the dtype of the parameters.
    """
    n = X.shape[0] if rows is None else len(rows)
    scores = np.empty((len(parameters), n, network.n_units[-1]), parameters.dtype)
    start = 0
    for block in iter_predict_raw(network, parameters, X, rows):
        stop = start + block.shape[1]
        scores[:, start:stop] = block
        start = stop
    return scores


def iter_predict_raw(
    network: Network, parameters: Parameters, X: Any, rows: Any = None
) -> Iterator[Array]:
    """Yield the raw predictions of consecutive blocks of rows, each valid until the next.

    Parameters are those of `predict_raw`.
    """
    n_estimators, dtype, is_sparse = len(parameters), parameters.dtype, issparse(X)
    n = X.shape[0] if rows is None else len(rows)
    pool, n_units = BufferPool(dtype), network.activations_per_sample(is_sparse)
    # As many rows as for one member: a product of another shape may round differently.
    n_rows = max(1, min(n, _BLOCK_NUMBERS // n_units))
    n_together = max(1, _BLOCK_NUMBERS // (n_units * n_rows))
    passes: dict[tuple[int, int], BuiltNetwork] = {}
    for start in range(0, n, n_rows):
        part = slice(start, min(start + n_rows, n))
        size = part.stop - part.start
        x = X[part] if rows is None else X[rows[part]]
        x = x if is_sparse else x.astype(dtype, copy=False)
        scores = pool.get("scores", (n_estimators, size, network.n_units[-1]))
        for first in range(0, n_estimators, n_together):
            members = slice(first, min(first + n_together, n_estimators))
            key = (first, size)
            if key not in passes:
                passes[key] = BuiltNetwork(
                    network, parameters.members(members), size, pool, sparse=is_sparse
                )
            passes[key].forward([x] if is_sparse else x, squeeze_member_axis(scores[members]))
        yield scores


# The number of rows of a block in repeated prediction, and the number of values in the outputs of
# all layers for the members computed together: they fit into the cache of a core.
ROWS_OF_PREDICTOR = 256
_NUMBERS_TOGETHER = 1 << 18
# The number of block sizes for which built networks are cached.
_N_SIZES = 4


class CachedPredictor:
    """Raw predictions of a fixed stack, whose built networks and buffers are cached.

    It is thread-safe: each thread has its own buffers.

    Parameters
    ----------
    network : Network
        The architecture.
    parameters : Parameters
        The parameters of all members; only read.
    """

    def __init__(self, network: Network, parameters: Parameters) -> None:
        self.network, self.parameters = network, parameters
        self._threads = threading.local()

    def scores(self, X: Array) -> Array:
        """Return the raw predictions of rows (n, d), of shape (n_estimators, n, k)."""
        dtype, n_rows, n_outputs = self.parameters.dtype, len(X), self.network.n_units[-1]
        scores = np.empty((len(self.parameters), n_rows, n_outputs), dtype)
        for start in range(0, n_rows, ROWS_OF_PREDICTOR):
            rows = slice(start, min(start + ROWS_OF_PREDICTOR, n_rows))
            x = X[rows].astype(dtype, copy=False)
            for members, built in self._passes(rows.stop - start):
                built.forward(x, squeeze_member_axis(scores[members, rows]))
        return scores

    def _passes(self, n_rows: int) -> list[tuple[slice, BuiltNetwork]]:
        """Return the built networks of all members for blocks of `n_rows` rows."""
        own = vars(self._threads)
        found: dict[int, list[tuple[slice, BuiltNetwork]]] = own.setdefault("passes", {})
        if n_rows not in found:
            if len(found) >= _N_SIZES:
                found.clear()
            pool = own.setdefault("pool", BufferPool(self.parameters.dtype))
            n_together = max(1, _NUMBERS_TOGETHER // (sum(self.network.n_units) * n_rows))
            n_estimators = len(self.parameters)
            found[n_rows] = [
                (
                    members,
                    BuiltNetwork(self.network, self.parameters.members(members), n_rows, pool),
                )
                for members in (
                    slice(first, min(first + n_together, n_estimators))
                    for first in range(0, n_estimators, n_together)
                )
            ]
        return found[n_rows]


OutputGradient: TypeAlias = Callable[[Array, int], Array]


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
    n_rows = max(1, min(n, _BLOCK_NUMBERS // (len(parameters) * network.memory_per_sample)))
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
