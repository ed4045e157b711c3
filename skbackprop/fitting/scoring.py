"""What runs see of the rows that they watch, after an epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..engine.parameters import FlatParameters
from .run import Run
from .watch import Seen


def seen_by(runs: Sequence[Run], parameters: FlatParameters) -> list[Seen | None]:
    """Return what each run sees of the rows that it watches; None for those that watch none.

    Runs that stand side by side and watch the same rows go through the network together.
    """
    found: list[Seen | None] = []
    while len(found) < len(runs):
        start, stop = len(found), len(found) + 1
        watched, problem = runs[start].watched, runs[start].problem
        if watched is None:
            found.append(None)
            continue
        while stop < len(runs) and watched.is_same(runs[stop].watched):
            stop += 1
        members = parameters.members(slice(start, stop))
        with np.errstate(all="ignore"):
            network = problem.objective.network
            outcomes = problem.judge.outcomes(network, members, watched.table.X, watched.rows)
        found += [
            run.see(watched, own, members.members(slice(i, i + 1)))
            for i, (run, own) in enumerate(zip(runs[start:stop], outcomes, strict=True))
        ]
    return found


def to_fall(score: float) -> float:
    """Return what falls as a score rises; a score that is not a number is the worst."""
    return math.inf if math.isnan(score) else -score
