"""Predictions joined from blocks of rows, and a check that raw predictions are finite."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.sparse import issparse, vstack
from sklearn.utils import gen_batches

from ..nn.network import Network
from ..nn.parameters import Parameters
from ..nn.prediction import predict_raw
from ..utils.arrays import Array, max_abs

# Size of the raw predictions that are turned into predictions at once.
_BLOCK_SIZE = 1 << 18

# Rows that are predicted at once to find the cause of output that is not finite.
_ROWS_AT_ONCE = 1 << 10


def rows_per_block(network: Network, parameters: Parameters) -> int:
    """Return the number of rows whose raw predictions are processed at once."""
    return max(1, _BLOCK_SIZE // (len(parameters) * network.widths[-1]))


class RowJoiner:
    """Joins the predictions of consecutive blocks of rows.

    A prediction is an array, a CSR matrix, or a list or tuple of arrays. Blocks are copied, so
    that buffers can be reused, unless a single block has all rows.

    Parameters
    ----------
    n_rows : int
        The number of rows of all blocks.
    """

    def __init__(self, n_rows: int) -> None:
        self._n_rows, self._start = n_rows, 0
        self._joined: Any = None
        self._matrices: list[Any] = []

    def append(self, block: Any) -> None:
        """Append the predictions of the next rows."""
        if issparse(block):
            self._matrices.append(block)
            return
        is_sequence = isinstance(block, (list, tuple))
        arrays = block if is_sequence else [block]
        stop = self._start + len(arrays[0])
        if stop - self._start == self._n_rows:
            self._joined = block
            return
        if self._joined is None:
            targets = [np.empty((self._n_rows, *each.shape[1:]), each.dtype) for each in arrays]
            self._joined = type(block)(targets) if is_sequence else targets[0]
        targets = self._joined if is_sequence else [self._joined]
        for target, array in zip(targets, arrays, strict=True):
            target[self._start : stop] = array
        self._start = stop

    def join(self) -> Any:
        """Return the predictions of all rows."""
        return vstack(self._matrices) if self._matrices else self._joined


def check_finite_output(outputs: Array, network: Network, parameters: Parameters, X: Any) -> Array:
    """Return outputs of a network for X, or raise an error with the likely cause."""
    if np.isfinite(outputs.sum()) or np.isfinite(outputs).all():
        return outputs
    largest = max_abs(X)
    largest_weight = max(map(max_abs, [*parameters.weights, *parameters.biases]))
    sizes = f"the largest absolute value in X is {largest:.3g}, of the weights {largest_weight:.3g}"
    # With X scaled to at most 1 in absolute value, only the weights can be the cause.
    if all(
        np.isfinite(predict_raw(network, parameters, X[rows] / (largest or 1.0))).all()
        for rows in gen_batches(X.shape[0], _ROWS_AT_ONCE)
    ):
        advice = "Look at the scale of X: it should be that of the training data."
    else:
        advice = (
            "The weights are too large for any X. If they come from training, it diverged: lower "
            "learning_rate_init or scale the training data, and fit again."
        )
    raise ValueError(f"The network's output on X is not finite: {sizes}. {advice}")
