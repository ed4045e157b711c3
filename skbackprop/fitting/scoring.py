"""Scores of runs on the rows that they hold out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..core.arrays import Rows
from ..engine.batches import Table
from ..engine.parameters import Parameters
from .run import Run


def validation_scores(runs: Sequence[Run], parameters: Parameters) -> list[float | None]:
    """Return each run's score on the rows that it holds out; None for those that hold none.

    Runs that stand side by side and hold out the same rows go through the network together.
    """
    found: list[float | None] = []
    while len(found) < len(runs):
        start, stop = len(found), len(found) + 1
        table, rows = runs[start].table, runs[start].validation
        if rows is None:
            found.append(None)
            continue
        while stop < len(runs) and _holds_out(runs[stop], table, rows):
            stop += 1
        with np.errstate(all="ignore"):
            members = parameters.members(slice(start, stop))
            problem = runs[start].problem
            outcomes = problem.outcomes(problem.network, members, table.X, rows)
        found += [
            run.validation_score(own) for run, own in zip(runs[start:stop], outcomes, strict=True)
        ]
    return found


def _holds_out(run: Run, table: Table, rows: Rows) -> bool:
    held_out = run.validation
    return run.table is table and held_out is not None and np.array_equal(held_out, rows)


def to_fall(score: float) -> float:
    """Return what falls as a score rises; a score that is not a number is the worst."""
    return math.inf if math.isnan(score) else -score
