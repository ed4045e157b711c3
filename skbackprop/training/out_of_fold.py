"""Out-of-fold predictions: the prediction of each row by the network that has held it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..nn.network import Network
from ..nn.parameters import Parameters
from ..nn.prediction import predict_raw
from ..nn.rows import Rows
from ..utils.arrays import Array, IndexArray
from .validation import Validation


class OutOfFoldPredictions(NamedTuple):
    """The prediction of each row by the network that has held it out.

    Parameters
    ----------
    member : array of int of shape (n_rows,)
        The number of that network.
    scores : array of shape (n_rows, n_outputs)
        Its raw predictions.
    score : float
        The estimator's own score of them, with the weights of training.
    """

    member: Array
    scores: Array
    score: float


def predict_out_of_fold(
    network: Network,
    parameters: Parameters,
    rows: Rows,
    held_out: Sequence[IndexArray | None],
    targets: Any,
) -> OutOfFoldPredictions:
    """Return the out-of-fold predictions of networks, each of which holds out some rows."""
    member = np.empty(rows.n_rows, dtype=np.intp)
    scores = np.empty((rows.n_rows, network.n_units[-1]), parameters.dtype)
    with np.errstate(all="ignore"):
        for i, own in enumerate(held_out):
            member[own] = i
            alone = parameters.members(slice(i, i + 1))
            scores[own] = predict_raw(network, alone, rows.X, own)[0]
        score = targets.validation_score(scores, Validation(rows, targets, None))
    return OutOfFoldPredictions(member, scores, score)
