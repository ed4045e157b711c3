"""Random states of the networks of an estimator, and of its folds."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

_LARGEST_SEED = np.iinfo(np.int32).max


def spawn_rngs(random_state: Any, n_estimators: int) -> list[np.random.RandomState]:
    """Return a stream for each network; the first is the user's own.

    Without a seed that is NumPy's global stream, as in scikit-learn. The seeds of the others are
    drawn from a copy, so that the first network does not depend on their number.
    """
    first: np.random.RandomState = check_random_state(random_state)
    if n_estimators == 1:
        return [first]
    seeds = copy.deepcopy(first).randint(_LARGEST_SEED, size=n_estimators - 1).tolist()
    return [first, *map(np.random.RandomState, seeds)]


def make_rng_from_global_state() -> np.random.RandomState:
    """Return a stream with a seed drawn from NumPy's global stream."""
    return np.random.RandomState(check_random_state(None).randint(_LARGEST_SEED))


def make_fold_rng(first: np.random.RandomState, n_estimators: int) -> np.random.RandomState:
    """Return the stream that draws the folds, given the stream of the first network.

    Its seed comes after those of the networks, so that their draws do not depend on it.
    """
    seeds = copy.deepcopy(first).randint(_LARGEST_SEED, size=n_estimators)
    return np.random.RandomState(seeds[-1])
