"""How many candidates a search in rounds can afford: reckoned from the time that a few take."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from math import ceil
from typing import NamedTuple, TypeAlias

import numpy as np
from scipy.optimize import nnls

Work: TypeAlias = tuple[int, int]
"""Some candidates, and what each of them is given more of the resource."""

# A few candidates, and a few more: so many times the fewest, and so many times the least resources.
_TRIALS = ((1, 1), (1, 4), (4, 1), (4, 4), (16, 1), (4, 16))

# The share of the limit after which no more of them are tried.
_SHARE = 0.1

clock = time.perf_counter


class CostModel(NamedTuple):
    """What a round takes: f + c * m + (r + b * m) * k seconds for m candidates, k resources each.

    Parameters
    ----------
    fixed : float
        f, whatever the round.
    of_candidate : float
        c, for each candidate: checks, weights, scores.
    of_resource : float
        r, for each epoch: what the steps of a stack cost beside its members.
    of_both : float
        b, for each epoch of each candidate.
    """

    fixed: float
    of_candidate: float
    of_resource: float
    of_both: float

    def seconds(self, work: Work) -> float:
        """Return about what some work takes."""
        n, n_resources = work
        alone = self.fixed + self.of_candidate * n
        return alone + (self.of_resource + self.of_both * n) * n_resources


def fit_cost_model(measured: Sequence[tuple[Work, float]]) -> CostModel:
    """Return the cost that is nearest to what was measured, by non-negative least squares.

    Errors count in proportion to the time. Where there is one measurement it is shared out among
    the candidates.
    """
    (n, n_resources), seconds = measured[0]
    if len(measured) == 1:
        return CostModel(0.0, 0.0, 0.0, seconds / (n * n_resources))
    work = np.array([work for work, _ in measured], dtype=float)
    times = np.array([max(seconds, 1e-9) for _, seconds in measured])
    n_each, k_each = work.T
    columns = np.stack([np.ones_like(n_each), n_each, k_each, n_each * k_each], axis=1)
    found, _ = nnls(columns / times[:, None], np.ones_like(times))
    fixed, of_candidate, of_resource, of_both = found.tolist()
    # No candidate is for nothing, however the clock ticked.
    return CostModel(fixed, max(of_candidate, 0.1 * seconds / n), of_resource, of_both)


def measured_cost(
    seconds_for: Callable[[Work], float], fewest: int, least: int, most: int, limit: float
) -> CostModel:
    """Let a few candidates be tried, and return what work costs.

    Parameters
    ----------
    seconds_for : callable
        Does some work, of which nothing is kept, and returns the seconds that it took.
    fewest : int
        The fewest candidates to try.
    least, most : int
        What a candidate is given of the resource, at least and at most.
    limit : float
        The seconds of the search; once a tenth of them is gone, no more are tried.
    """
    first = (fewest, least)
    spent = seconds_for(first)  # workers start, and what is kept from call to call is set up
    measured = [(first, spent)]
    for of_fewest, of_least in _TRIALS:
        if spent > _SHARE * limit:
            break
        work = (of_fewest * fewest, min(of_least * least, most))
        measured.append((work, seconds_for(work)))
        spent += measured[-1][1]
    return fit_cost_model(measured[1:] or measured)


def n_affordable_candidates(
    seconds: float,
    cost: CostModel,
    rounds: Callable[[int], Sequence[Work]],
    factor: float,
    at_most: int | None,
) -> int:
    """Return the most candidates of a first round whose rounds take no more than so many seconds.

    That is at least as many as leave one to go on. More candidates may take less time, since more
    rounds let the first be shorter; so each number of rounds is looked at, from the least on.

    Parameters
    ----------
    seconds : float
        The time that there is.
    cost : Cost
        What a round takes.
    rounds : callable
        Returns the work of each round, for a number of candidates in the first.
    factor : float
        What candidates shrink by from round to round.
    at_most : int or None
        As many as there are; None for any number.
    """
    fewest = ceil(factor)

    def fits(n: int) -> bool:
        return sum(map(cost.seconds, rounds(n))) <= seconds

    best = fewest
    for first, last in _same_rounds(factor, fewest):
        if not fits(first):
            break
        best = _last_that(fits, first, last)
        if at_most is not None and best >= at_most:
            break
    return best if at_most is None else min(best, at_most)


def _same_rounds(factor: float, fewest: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last number of candidates that come down to one in as many rounds."""
    bound, first = factor, fewest
    while True:
        bound *= factor
        last = max(first, ceil(bound) - 1)
        yield first, last
        first = last + 1


def _last_that(fits: Callable[[int], bool], first: int, last: int) -> int:
    """Return the last number that fits, where those after the first that doesn't do not either."""
    while first < last:
        middle = (first + last + 1) // 2
        if fits(middle):
            first = middle
        else:
            last = middle - 1
    return first
