"""A limit on the time that training may take."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


class OutOfTime(Exception):
    """The time for training is over."""


class Deadline:
    """The moment after which no further batch is begun.

    Parameters
    ----------
    seconds : float
        The time from now on.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds

    def before_each(self, batches: Iterable[Item]) -> Iterator[Item]:
        """Yield the batches as long as there is time.

        Raises
        ------
        OutOfTime
            Once there is none.
        """
        for batch in batches:
            if time.monotonic() > self._end:
                raise OutOfTime
            yield batch
