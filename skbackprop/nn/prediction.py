"""Raw predictions of a stack and their input gradients, in blocks of rows."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import issparse

from ..utils.arrays import Array, BufferPool, squeeze_member_axis
from .network import BoundNetwork, Network
from .parameters import Parameters

# The number of buffered values of a block of rows, for the members computed together.
_BLOCK_VALUES = 1 << 21
# The number of rows, and of buffered values, of a block that fits into the cache of a core.
FEW_ROWS, _FEW_VALUES = 256, 1 << 18
# The number of sizes of blocks whose buffers are kept.
_N_SIZES = 4


def predict_raw(network: Network, parameters: Parameters, X: Any, index: Any = None) -> Array:
    """Return the raw predictions of a stack, computed in blocks of rows.

    The predictions of a member do not depend on the number of members.

    Parameters
    ----------
    network : Network
        The architecture.
    parameters : Parameters
        The parameters of all members; only read.
    X : array or CSR matrix of shape (n, d)
        The input, the same for all members.
    index : IndexArray or None, default=None
        The numbers of the rows to predict; None for all rows.

    Returns
    -------
    predictions : array of shape (n_estimators, n, k)
        In the dtype of the parameters.
    """
    n = X.shape[0] if index is None else len(index)
    predictions = np.empty((len(parameters), n, network.n_units[-1]), parameters.dtype)
    for rows, part in Predictor(network, parameters).iter_parts(X, index):
        predictions[:, rows] = part
    return predictions


class Predictor:
    """Predictor of a stack, which reuses its buffers from call to call.

    It is thread-safe, because each thread has its own buffers.

    Parameters
    ----------
    network : Network
        The architecture.
    parameters : Parameters
        The parameters of all members; only read.
    rows_at_once : int or None, default=None
        The number of rows of a block; None for the largest blocks within a memory limit.
    """

    def __init__(
        self, network: Network, parameters: Parameters, rows_at_once: int | None = None
    ) -> None:
        self.network, self.parameters, self._rows_at_once = network, parameters, rows_at_once
        self._threads = threading.local()

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.network, self.parameters, self._rows_at_once)

    def iter_parts(
        self, X: Any, index: Any = None, rows_at_once: int | None = None
    ) -> Iterator[tuple[slice, Array]]:
        """Yield slices of consecutive rows, and their raw predictions (n_estimators, n, k).

        X and index are those of `predict_raw`. With `rows_at_once`, blocks are yielded in parts of
        so many rows.
        """
        n_estimators, dtype, is_sparse = len(self.parameters), self.parameters.dtype, issparse(X)
        n = X.shape[0] if index is None else len(index)
        n_rows = self._rows_at_once
        if n_rows is None:
            # The number of members must not change the shape of products: it affects rounding.
            n_rows = max(1, _BLOCK_VALUES // self.network.activations_per_sample(is_sparse))
        for start in range(0, n, n_rows):
            rows = slice(start, min(start + n_rows, n))
            size = rows.stop - rows.start
            x = X[rows] if index is None else X[index[rows]]
            x = [x] if is_sparse else x.astype(dtype, copy=False)
            predictions = np.empty((n_estimators, size, self.network.n_units[-1]), dtype)
            for members, bound_network in self._bind(size, is_sparse):
                bound_network.forward(x, squeeze_member_axis(predictions[members]))
            step = rows_at_once or size
            for first in range(0, size, step):
                part = predictions[:, first : first + step]
                yield slice(start + first, start + first + part.shape[1]), part

    def _bind(self, n_rows: int, is_sparse: bool) -> list[tuple[slice, BoundNetwork]]:
        """Return the networks bound to buffers for a block: all members, or a few at a time."""
        local, network = vars(self._threads), self.network
        networks: dict[Any, list[tuple[slice, BoundNetwork]]] = local.setdefault("networks", {})
        key = n_rows, is_sparse
        if key not in networks:
            if len(networks) >= _N_SIZES:
                networks.clear()
            pool = local.setdefault("pool", BufferPool(self.parameters.dtype))
            max_values = _BLOCK_VALUES if self._rows_at_once is None else _FEW_VALUES
            n_units, n = network.activations_per_sample(is_sparse), len(self.parameters)
            n_together = max(1, max_values // (n_units * n_rows))
            networks[key] = []
            for start in range(0, n, n_together):
                members = slice(start, min(start + n_together, n))
                parameters = self.parameters.members(members)
                bound_network = BoundNetwork(network, parameters, n_rows, pool, sparse=is_sparse)
                networks[key].append((members, bound_network))
        return networks[key]


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
    gradients = np.empty((n, network.n_units[0], n_quantities), dtype)
    pool, passes = BufferPool(dtype), {}
    n_rows = max(1, min(n, _BLOCK_VALUES // (len(parameters) * network.memory_per_sample)))
    for start in range(0, n, n_rows):
        part = slice(start, min(start + n_rows, n))
        size = part.stop - part.start
        if size not in passes:
            passes[size] = BoundNetwork(
                network, parameters, size, pool, sparse=is_sparse, with_input_gradient=True
            )
        x = [X[part]] if is_sparse else X[part].astype(dtype, copy=False)
        predictions = pool.get("predictions", (len(parameters), size, network.n_units[-1]))
        for quantity in range(n_quantities):
            passes[size].forward(x, squeeze_member_axis(predictions))
            passes[size].delta[...] = squeeze_member_axis(slope(predictions, quantity))
            gradient = passes[size].backward()
            # The function depends on all members, so their gradients are summed.
            gradients[part, :, quantity] = gradient if gradient.ndim == 2 else gradient.sum(axis=0)
    return gradients
