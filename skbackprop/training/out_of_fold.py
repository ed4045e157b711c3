"""Out-of-fold predictions: the prediction of each row by the network that has held it out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..nn.parameters import FlatParameters
from ..nn.prediction import predict_raw
from ..utils.arrays import Array
from .training_run import TrainingRun
from .training_task import ValidationData


class OutOfFoldPredictions(NamedTuple):
    """The prediction of each row by the network that has held it out.

    Parameters
    ----------
    member : array of int of shape (n_rows,)
        The number of that network.
    scores : array of shape (n_rows, n_outputs)
        Its raw scores.
    score : float
        The estimator's own score of them, with the weights of training.
    """

    member: Array
    scores: Array
    score: float


def predict_out_of_fold(
    runs: Sequence[TrainingRun], parameters: FlatParameters
) -> OutOfFoldPredictions:
    """Return the out-of-fold predictions of networks that were trained with folds.

    Parameters
    ----------
    runs : sequence of TrainingRun
        The runs of all networks, in their order.
    parameters : FlatParameters
        The parameters of all networks to predict with.
    """
    task = runs[0].task
    table, network = task.table, task.objective.network
    member = np.empty(table.n_rows, dtype=np.intp)
    scores = np.empty((table.n_rows, network.n_units[-1]), parameters.dtype)
    with np.errstate(all="ignore"):
        for i, run in enumerate(runs):
            rows = run.held_out
            assert rows is not None
            member[rows] = i
            scores[rows] = predict_raw(network, parameters.members(slice(i, i + 1)), table.X, rows)[
                0
            ]
        score = task.evaluator.score(scores, ValidationData(table, None, task.original_y))
    return OutOfFoldPredictions(member, scores, score)
