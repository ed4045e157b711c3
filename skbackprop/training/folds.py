"""Rotating folds: each network holds out its own part of the rows.

So all rows are trained on, and each row has an out-of-fold prediction by the one network that has
not been trained on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..nn.parameters import FlatParameters
from ..nn.prediction import predict_raw
from ..utils.arrays import Array
from .rng import fold_rng
from .run_states import InitialState
from .training_run import TrainingRun
from .training_task import TrainingTask
from .validation_data import ValidationData
from .validation_split import (
    are_groups_whole,
    group_k_fold_of_rows,
    k_fold_of_rows,
    n_weighted_groups,
)


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


def assign_folds(problem: TrainingTask, starts: Sequence[InitialState]) -> Array | None:
    """Return the number of the network that holds out each row, given their initial states.

    Returns
    -------
    folds : array of int of shape (n_rows,) or None
        The folds of the last training, if there are as many rows, or new ones; None if the
        networks hold out no rows, or each draws its own.

    Raises
    ------
    ValueError
        If there are fewer than two networks, or fewer rows, or groups, than networks.
    """
    stopping, n_rows, n_folds = problem.config.stopping, problem.table.n_rows, len(starts)
    if problem.incremental or problem.watched or stopping is None or not stopping.is_by_fold:
        return None
    if n_folds < 2:
        raise ValueError(
            'EarlyStopping(validation_fraction="folds") lets each of several networks hold out '
            "rows of its own, but there is one network. Set n_estimators to the number of folds, "
            "at least 2, or validation_fraction to a share of the rows."
        )
    if n_rows < n_folds:
        raise ValueError(
            'EarlyStopping(validation_fraction="folds") needs a row for each network to hold out, '
            f"but n_samples = {n_rows} and n_estimators={n_folds}. Use more rows, or set "
            f"n_estimators to {n_rows} at most."
        )
    groups, weight, known = problem.groups, problem.table.weight, _last_folds(starts, n_rows)
    if known is not None:
        parts = [np.flatnonzero(known == fold) for fold in range(n_folds)]
        if groups is None or are_groups_whole(groups, parts):
            return known
    rng, classes = fold_rng(starts[0].rng, n_folds), problem.strata(problem.table.y)
    if groups is None:
        return k_fold_of_rows(n_rows, n_folds, rng, classes)
    n_groups = n_weighted_groups(groups, weight)
    if n_groups < n_folds:
        raise ValueError(
            'EarlyStopping(validation_fraction="folds") needs a group with weight for each network '
            f"to hold out, but groups has {n_groups} and n_estimators={n_folds}. Use rows of more "
            f"groups, set n_estimators to {n_groups} at most, or leave groups out."
        )
    return group_k_fold_of_rows(
        groups, n_folds, rng, classes, None if weight is None else weight > 0
    )


def _last_folds(starts: Sequence[InitialState], n_rows: int) -> Array | None:
    """Return the folds of the last training; None unless it held out each row exactly once."""
    folds, times_held_out = np.empty(n_rows, dtype=np.intp), np.zeros(n_rows, dtype=int)
    for member, start in enumerate(starts):
        if start.past is None or start.past.n_rows != n_rows or start.past.split is None:
            return None
        _, held_out = start.past.split
        folds[held_out] = member
        times_held_out[held_out] += 1
    return folds if (times_held_out == 1).all() else None


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
    problem = runs[0].problem
    table, network = problem.table, problem.objective.network
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
        score = problem.evaluator.score(scores, ValidationData(table, None, problem.y_given))
    return OutOfFoldPredictions(member, scores, score)
