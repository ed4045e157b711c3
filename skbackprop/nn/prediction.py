"""The scores of a stack of networks, in blocks of rows so that memory is bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.sparse import issparse

from ..utils.arrays import Array, BufferPool, squeeze_member_axis
from .forward_backward import BuiltNetwork
from .network import Network
from .parameters import Parameters

# Numbers in the buffers of a block of rows, and of the members that go through together.
_PREDICTION_NUMBERS = 1 << 21


def predict_raw(network: Network, parameters: Parameters, X: Any, rows: Any = None) -> Array:
    """Return the scores of a stack, computed in blocks of rows so that memory is bounded.

    The scores of a member do not depend on how many there are.

    Parameters
    ----------
    network : Network
        The architecture.
    parameters : Parameters
        The parameters of all members; only read.
    X : array or CSR matrix of shape (n, d)
        The input, the same for all members.
    rows : Rows or None, default=None
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
    """Yield the scores of one block of rows after the other, each valid until the next.

    Parameters and scores are those of `predict_raw`, but for the number of rows.
    """
    n_estimators, dtype, is_sparse = len(parameters), parameters.dtype, issparse(X)
    n = X.shape[0] if rows is None else len(rows)
    pool, n_units = BufferPool(dtype), network.activations_per_sample(is_sparse)
    # Rows as if for one member: a product of other shape may round otherwise.
    n_rows = max(1, min(n, _PREDICTION_NUMBERS // n_units))
    n_together = max(1, _PREDICTION_NUMBERS // (n_units * n_rows))
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


# Rows that go through at once where a stack predicts again and again, and numbers in the outputs of
# all layers for the members that go through together: what stays in a processor's own cache.
ROWS_OF_PREDICTOR = 256
_NUMBERS_TOGETHER = 1 << 18
# The sizes of blocks whose passes are kept.
_N_SIZES = 4


class CachedPredictor:
    """The scores of a stack that stays as it is: what takes long to set up is set up once.

    Several threads may ask it at once. Each has buffers of its own.

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
        X = X.astype(self.parameters.dtype, copy=False)
        n_rows, n_outputs = len(X), self.network.n_units[-1]
        scores = np.empty((len(self.parameters), n_rows, n_outputs), X.dtype)
        for start in range(0, n_rows, ROWS_OF_PREDICTOR):
            rows = slice(start, min(start + ROWS_OF_PREDICTOR, n_rows))
            for members, way in self._passes(rows.stop - start):
                way.forward(X[rows], squeeze_member_axis(scores[members, rows]))
        return scores

    def _passes(self, n_rows: int) -> list[tuple[slice, BuiltNetwork]]:
        """Return the passes that all members go through, for blocks of so many rows."""
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
