"""The course of a network's training: the loss and the scores of each epoch."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping

import numpy as np

from ..utils.arrays import Array

# The numbers of a record. The first two are in each, and a score comes with a validation loss.
COLUMNS = ("epoch", "loss", "validation_loss", "validation_score")


class History:
    """Records of the epochs of a network, to which epochs are appended.

    The numbers of all records are in one array, so that neither memory nor files need an object for
    each of them.
    """

    def __init__(self) -> None:
        self._values = array("d")
        self._sizes = array("B")  # the number of values of each record

    def __len__(self) -> int:
        return len(self._sizes)

    def append(self, record: Mapping[str, float]) -> None:
        """Append the numbers of an epoch, by the names in `COLUMNS`."""
        self._values.extend([record.get(name, math.nan) for name in COLUMNS])
        self._sizes.append(len(record))

    @property
    def last(self) -> dict[str, float]:
        """The numbers of the last epoch by name; empty before the first."""
        if not self._sizes:
            return {}
        return dict(zip(COLUMNS[: self._sizes[-1]], self._values[-len(COLUMNS) :], strict=False))

    def curve(self, name: str, n_epochs: int | None = None) -> Array:
        """Return a number of the last epochs, of those that have it; None for all epochs."""
        column = COLUMNS.index(name)
        first = 0 if n_epochs is None else len(self) - n_epochs
        values = np.array(self._values[first * len(COLUMNS) + column :: len(COLUMNS)])
        return values[np.array(self._sizes[first:]) > column]

    def truncate(self, n_epochs: int) -> None:
        """Remove all but the first epochs."""
        del self._values[n_epochs * len(COLUMNS) :]
        del self._sizes[n_epochs:]

    def copy(self) -> History:
        """Return a copy."""
        copy = History()
        copy._values = self._values[:]
        copy._sizes = self._sizes[:]
        return copy

    def to_array(self) -> Array:
        """Return the records as rows: the number of values, and the values."""
        values = np.array(self._values).reshape(-1, len(COLUMNS))
        return np.column_stack([np.array(self._sizes), values])

    @classmethod
    def from_array(cls, rows: Array) -> History:
        """Return the records from the result of `to_array`."""
        history = cls()
        history._values.frombytes(np.ascontiguousarray(rows[:, 1:], np.float64).tobytes())
        history._sizes.frombytes(rows[:, 0].astype(np.uint8).tobytes())
        return history
