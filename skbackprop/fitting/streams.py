"""The random streams of the members: what draws their weights, the rows held out, and the order."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

_LARGEST_SEED = np.iinfo(np.int32).max


def member_streams(random_state: Any, n_members: int) -> list[np.random.RandomState]:
    """Return what draws each member's weights and rows: for the first, the user's own stream.

    Without a seed that is NumPy's global stream, as in scikit-learn. The seeds of the others are
    drawn from a copy of it, so that it is where it would be without them.
    """
    first: np.random.RandomState = check_random_state(random_state)
    if n_members == 1:
        return [first]
    seeds = copy.deepcopy(first).randint(_LARGEST_SEED, size=n_members - 1).tolist()
    return [first, *map(np.random.RandomState, seeds)]


def stream_of_its_own() -> np.random.RandomState:
    """Return a stream with a seed from NumPy's global one."""
    return np.random.RandomState(check_random_state(None).randint(_LARGEST_SEED))


def stream_of_folds(first: np.random.RandomState, n_members: int) -> np.random.RandomState:
    """Return what draws the folds of so many members, given the stream of the first.

    Its seed is the one after those of the members, so that no other draw is another for it.
    """
    seeds = copy.deepcopy(first).randint(_LARGEST_SEED, size=n_members)
    return np.random.RandomState(seeds[-1])
