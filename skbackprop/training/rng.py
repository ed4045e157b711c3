"""The random streams of the members: what draws their weights, the rows held out, and the order."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

_LARGEST_SEED = np.iinfo(np.int32).max


def spawn_rngs(random_state: Any, n_estimators: int) -> list[np.random.RandomState]:
    """Return what draws each member's weights and rows: for the first, the user's own stream.

    Without a seed that is NumPy's global stream, as in scikit-learn. The seeds of the others are
    drawn from a copy of it, so that it is where it would be without them.
    """
    first: np.random.RandomState = check_random_state(random_state)
    if n_estimators == 1:
        return [first]
    seeds = copy.deepcopy(first).randint(_LARGEST_SEED, size=n_estimators - 1).tolist()
    return [first, *map(np.random.RandomState, seeds)]


def is_global_rng(rng: np.random.RandomState, random_state: Any) -> bool:
    """Return whether others draw from a stream: it is the user's, or NumPy's global one."""
    return rng is random_state or rng is check_random_state(None)


class RngBookmark:
    """Where a stream stands between the shuffles of as many rows, for going back behind the last.

    NumPy takes as long to tell it as a network does for a step on a few rows. So a stream that
    nobody else draws from is followed by a twin, which shuffles what its master has shuffled, but
    a call later.

    Parameters
    ----------
    rng : RandomState
        The stream.
    is_shared : bool
        Whether others draw from it as well.
    n_rows : int
        The rows that each call shuffles, once.
    """

    def __init__(self, rng: np.random.RandomState, is_shared: bool, n_rows: int) -> None:
        self._stream, self._is_shared = rng, is_shared
        self._rows = np.arange(n_rows)
        self._twin: np.random.RandomState | None = None
        self._position: dict[str, Any] | None = None

    def move_here(self) -> None:
        """Take note of where the stream stands, one shuffle after the last note of it."""
        if self._is_shared:
            self._position = self._stream.get_state(legacy=False)
        elif self._twin is None:
            self._twin = copy.deepcopy(self._stream)
        else:
            self._twin.shuffle(self._rows)

    def go_back(self) -> None:
        """Set the stream back to where it stood."""
        position = self._position if self._twin is None else self._twin.get_state(legacy=False)
        if position is not None:
            self._stream.set_state(position)


def new_rng() -> np.random.RandomState:
    """Return a stream with a seed from NumPy's global one."""
    return np.random.RandomState(check_random_state(None).randint(_LARGEST_SEED))


def fold_rng(first: np.random.RandomState, n_estimators: int) -> np.random.RandomState:
    """Return what draws the folds of so many members, given the stream of the first.

    Its seed is the one after those of the members, so that no other draw is another for it.
    """
    seeds = copy.deepcopy(first).randint(_LARGEST_SEED, size=n_estimators)
    return np.random.RandomState(seeds[-1])
